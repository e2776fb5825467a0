//! Traces of runs: a receiver of OTLP over HTTP decodes what a server sends with the types that are generated from its
//! specification.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::Place;
use super::server::{Server, signal};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// One request: its head in small letters, and its body.
struct Received(String, Vec<u8>);

/// Takes requests until nobody listens any more, and answers each so.
fn receiver(status: &'static str) -> (String, mpsc::Receiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (tell, stream) = (tell.clone(), stream.unwrap());
            std::thread::spawn(move || while take(&stream, status, &tell).is_some() {});
        }
    });
    (address, told)
}

fn take(mut stream: &TcpStream, status: &str, tell: &mpsc::Sender<Received>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(n) = line.strip_prefix("content-length: ") {
            length = n.parse().unwrap();
        }
        head += &format!("{line}\n");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").ok()?;
    tell.send(Received(head, body)).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attribute(span: &Span, key: &str) -> Option<Any> {
    span.attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value
}

#[test]
fn a_run_is_a_span_of_its_enqueuer_s_trace() {
    let place = Place::new();
    let (address, told) = receiver("200 OK");
    let mut command = place.command(&["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"));
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cret").env("OTEL_SERVICE_NAME", "jobs");
    let mut server = Server::new(command);
    let traced = format!(
        r#"{{"kind": "no", "max_attempts": 1, "expect": "discarded", "traceparent": "00-{TRACE}-{CALLER}-01"}}"#
    );
    let dropped = format!(r#"{{"kind": "ok", "traceparent": "00-{TRACE}-{CALLER}-00"}}"#);
    place.write("list.ndjson", format!("{traced}\n{dropped}\n{{\"kind\": \"ok\", \"queue\": \"q\"}}\n").as_bytes());
    place.check(&["enqueue", "--from", "list.ndjson"], 0, &[]);
    for id in ["1", "2", "3"] {
        place.runner(&["job", "wait", id]);
    }
    place.check(&["job", "show", "1", "-o", "json"], 0, &[&format!("\"traceparent\":\"00-{TRACE}-{CALLER}-01\"")]);
    signal(server.child(), "TERM");
    // What waited is sent before it ends.
    let said = server.ended();
    said.check(0, &["stopped"]);
    assert!(!said.err.contains("s3cret"), "{}", said.err);
    let mut spans: Vec<Span> = Vec::new();
    while let Ok(Received(head, body)) = told.recv_timeout(Duration::from_millis(1)) {
        assert!(head.starts_with("post /v1/traces http/1.1\n"), "{head}");
        assert!(
            head.contains("content-type: application/x-protobuf\n") && head.contains("api-key: s3cret\n"),
            "{head}"
        );
        let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        for resource in request.resource_spans {
            let service = &resource.resource.as_ref().unwrap().attributes[0];
            let name = service.value.clone().unwrap().value;
            assert_eq!((service.key.as_str(), name), ("service.name", Some(Any::StringValue("jobs".into()))));
            spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    assert_eq!(spans.len(), 2, "of a trace that is not kept there is none: {spans:?}");
    let of = |kind: &str| spans.iter().find(|span| span.name == format!("run {kind}")).unwrap();
    let (no, ok) = (of("no"), of("ok"));
    assert_eq!((hex(&no.trace_id).as_str(), hex(&no.parent_span_id).as_str()), (TRACE, CALLER));
    assert!(no.span_id.len() == 8 && no.span_id != no.parent_span_id);
    let status = no.status.as_ref().unwrap();
    assert!(status.code == 2 && status.message.contains("not today"), "{status:?}");
    assert_eq!(attribute(no, "runner.outcome"), Some(Any::StringValue("failed".into())));
    assert_eq!(attribute(no, "runner.run"), Some(Any::IntValue(1)));
    assert!(ok.parent_span_id.is_empty() && ok.status.is_none() && ok.trace_id != no.trace_id, "{ok:?}");
    assert_eq!(attribute(ok, "runner.queue"), Some(Any::StringValue("q".into())));
    for span in [no, ok] {
        // 2020, in nanoseconds.
        assert!(
            span.start_time_unix_nano > 1_577_836_800_000_000_000
                && span.end_time_unix_nano > span.start_time_unix_nano
        );
    }
}

/// A receiver that says no, or is not there, is one line of the log, and no run waits for it.
#[test]
fn a_receiver_that_does_not_take_traces_holds_up_nothing() {
    let place = Place::new();
    let (address, told) = receiver("503 Service Unavailable");
    let mut command = place.command(&["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"));
    let mut server = Server::new(command);
    for _ in 0..2 {
        place.check(&["enqueue", "ok", "--wait"], 0, &["completed"]);
        told.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    signal(server.child(), "TERM");
    let said = server.ended();
    said.check(0, &["it answered 503", "stopped"]);
    assert_eq!(said.err.matches("traces are not taken").count(), 1, "{}", said.err);
    let serve = ["serve", "--plugins", "plugins"];
    let output = place.command(&serve).env("OTEL_EXPORTER_OTLP_ENDPOINT", "nonsense").output().unwrap();
    super::Said::from(output).check(2, &["OTEL_EXPORTER_OTLP_ENDPOINT", "write for example http://127.0.0.1:4318"]);
    place.check(&["enqueue", "ok"], 0, &[]);
}

/// Where nobody listens to `debug`, a run that fails is one line with everything by which it is found.
#[test]
fn the_log_names_the_run_that_it_speaks_of() {
    let place = Place::new();
    let mut server = place.serve(&[]);
    place.check(&["enqueue", "no", "--queue", "q", "--max-attempts", "1", "--wait"], 10, &[]);
    signal(server.child(), "TERM");
    let said = server.ended();
    let line = said.err.lines().find(|line| line.contains("run ended")).expect("it is said");
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    for (key, value) in [("kind", "no"), ("tenant", "default"), ("queue", "q"), ("outcome", "failed")] {
        assert_eq!(event[key], value, "{line}");
    }
    assert_eq!((event["job"].as_u64(), event["run"].as_u64()), (Some(1), Some(1)), "{line}");
    let mut command = place.command(&["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0"]);
    command.env("RUNNER_LOG", "info,runner_runtime=debug");
    let mut server = Server::new(command);
    place.check(&["enqueue", "ok", "--wait"], 0, &["completed"]);
    signal(server.child(), "TERM");
    let said = server.ended();
    let line = said.err.lines().find(|line| line.contains("run ended")).expect("it is said");
    let event: serde_json::Value = serde_json::from_str(line).unwrap();
    let span = &event["span"];
    for (key, value) in [("name", "run"), ("kind", "ok"), ("tenant", "default"), ("outcome", "completed")] {
        assert_eq!(span[key], value, "{line}");
    }
}
