//! Requests that no client of good will sends, byte by byte over a socket: each has its status and its code, and after all of
//! them the server serves as before, has failed at nothing and told nobody's token.
//!
//! What is slow or silent is tested beside the sockets, in `api/serve.rs`, where time can be short.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use super::Place;
use super::server::{Server, signal};

/// Every request has it, and no log.
const TOKEN: &str = "chosen-by-an-operator-0123456789abcdef";
const JOB: &str = r#"{"kind":"ok","hold":true}"#;
/// Of these only the status is looked at.
const BARE: &str = "";
/// Whoever takes longer than any limit of the server is no answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// A request, the status that it gets, the code, and the field that is named.
type Row = (Vec<u8>, u16, &'static str, Option<&'static str>);

/// What HTTP itself cannot read: none of it was answered with more than a status, so that nobody was told what was wrong.
fn unread(request: Vec<u8>, field: &'static str) -> Row {
    (request, 400, "malformed", Some(field))
}

/// The headers that all have.
fn usual() -> String {
    format!("Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n")
}

/// A request with this first line, these headers beside the usual ones, and this body.
fn request(line: impl AsRef<[u8]>, headers: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    [line.as_ref(), b"\r\n", usual().as_bytes(), headers.as_ref(), b"\r\n", body.as_ref()].concat()
}

fn get(target: impl AsRef<[u8]>) -> Vec<u8> {
    request([b"GET ", target.as_ref(), b" HTTP/1.1"].concat(), "", "")
}

/// A job that is enqueued with these headers, which say how long it is.
fn framed(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    request("POST /v1/jobs HTTP/1.1", format!("Content-Type: application/json\r\n{headers}"), body)
}

fn chunked(chunks: impl AsRef<[u8]>) -> Vec<u8> {
    framed("Transfer-Encoding: chunked\r\n", chunks)
}

fn json(body: impl AsRef<[u8]>) -> Vec<u8> {
    framed(&format!("Content-Length: {}\r\n", body.as_ref().len()), body)
}

fn typed(headers: &str) -> Vec<u8> {
    request("POST /v1/jobs HTTP/1.1", format!("{headers}Content-Length: {}\r\n", JOB.len()), JOB)
}

/// All that comes back.
fn answer(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
    // Who is told no in the middle of a body may find the connection closed.
    _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(!text.is_empty() || ended.is_ok(), "{ended:?}");
    text
}

fn shown(request: &[u8]) -> String {
    let shown: Vec<u8> = request.iter().copied().filter(|byte| *byte != b'\r').take(400).collect();
    String::from_utf8_lossy(&shown).into_owned()
}

#[track_caller]
fn check(server: &Server, rows: &[Row]) {
    for (request, status, code, field) in rows {
        let text = answer(server, request);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let came: u16 = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_default();
        let of = || format!("{}\n—\n{text}", shown(request));
        assert_eq!(came, *status, "{}", of());
        if code.is_empty() {
            continue;
        }
        let problem: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {}", of()));
        assert_eq!(
            (problem["code"].as_str(), problem["status"].as_u64()),
            (Some(*code), Some(u64::from(*status))),
            "{}",
            of()
        );
        assert_eq!(problem["field"].as_str(), *field, "{}", of());
        assert!(head.contains("content-type: application/problem+json"), "{}", of());
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{}", of());
    }
}

/// How long the body is: said twice, wrongly, not at all, in chunks that are none.
fn framing() -> Vec<Row> {
    let size = format!("{:x}", JOB.len());
    let whole = format!("{size}\r\n{JOB}\r\n0\r\n\r\n");
    let length = |value: &str| framed(&format!("Content-Length: {value}\r\n"), JOB);
    let coding = |value: &str| framed(&format!("Transfer-Encoding: {value}\r\n"), &whole);
    let right = JOB.len();
    let malformed = |request| (request, 400, "malformed", None);
    let (no_length, no_coding) =
        (|request| unread(request, "Content-Length"), |request| unread(request, "Transfer-Encoding"));
    vec![
        no_length(framed(&format!("Content-Length: {right}\r\nContent-Length: {}\r\n", right + 1), JOB)),
        no_length(length(&format!("{right}, {right}"))),
        no_length(length("-1")),
        no_length(length(&format!("+{right}"))),
        no_length(length("0x19")),
        no_length(length("many")),
        no_length(length("")),
        no_length(length("99999999999999999999999")),
        (length("18446744073709551615"), 413, "too_large", Some("Content-Length")),
        (length("18446744073709551613"), 413, "too_large", None),
        (length("9437184"), 413, "too_large", None),
        (length("10"), 400, "malformed", None),
        malformed(chunked(format!("zz\r\n{JOB}\r\n0\r\n\r\n"))),
        malformed(chunked(format!("-1\r\n{JOB}"))),
        malformed(chunked(format!("fffffffffffffffff\r\n{JOB}"))),
        malformed(chunked(format!("{size}\r\n{JOB}0\r\n\r\n"))),
        malformed(chunked(format!("{size}\n{JOB}\n0\n\n"))),
        malformed(chunked(format!("{size};{}\r\n{JOB}\r\n0\r\n\r\n", "a".repeat(100_000)))),
        malformed(chunked(one_by_one())),
        malformed(chunked(format!("{size}\r\n{JOB}\r\n0\r\n{}\r\n", "X-A: b\r\n".repeat(2_000)))),
        malformed(chunked(format!("{size}\r\n{JOB}\r\n0\r\nX: {}\r\n\r\n", "a".repeat(100_000)))),
        no_coding(coding("gzip, chunked")),
        no_coding(coding("chunked, chunked")),
        no_coding(coding("gzip")),
        no_coding(coding("xchunked")),
        no_coding(coding("identity")),
        unread(framed("Transfer-Encoding : chunked\r\n", &whole), "headers"),
        no_coding(request("POST /v1/jobs HTTP/1.0", "Transfer-Encoding: chunked\r\n", &whole)),
        // These are right, if unusual.
        (chunked(&whole), 201, BARE, None),
        (chunked(format!("{size};a=b\r\n{JOB}\r\n0\r\n\r\n")), 201, BARE, None),
        (chunked(format!("{size}\r\n{JOB}\r\n0\r\nContent-Length: 5\r\nHost: evil.example\r\n\r\n")), 201, BARE, None),
        (framed(&format!("Content-Length: {right}\r\nContent-Length: {right}\r\n"), JOB), 201, BARE, None),
    ]
}

/// Each byte a chunk with an extension that is larger than most requests.
fn one_by_one() -> Vec<u8> {
    let chunk = |byte: u8| [b"1;", &[b'a'; 1_000][..], b"\r\n", &[byte], b"\r\n"].concat();
    let mut chunks: Vec<u8> = JOB.bytes().flat_map(chunk).collect();
    chunks.extend(b"0\r\n\r\n");
    chunks
}

/// The first line, and the headers.
fn heads() -> Vec<Row> {
    let line = |line: &str| request(line, "", "");
    let with = |headers: &[u8]| request("GET /v1/jobs HTTP/1.1", headers, "");
    let many: String = (0..120).map(|n| format!("X{n}: a\r\n")).collect();
    vec![
        (with(format!("X: {}\r\n", "a".repeat(17_000)).as_bytes()), 431, "head_too_large", Some("headers")),
        (with(many.as_bytes()), 431, "head_too_large", Some("headers")),
        unread(with(b"X: a\r\n b\r\n"), "headers"),
        unread(with(b"X: a\0b\r\n"), "X"),
        unread(with(b"X: a\rb\r\n"), "X"),
        unread(with(b"Xab\r\n"), "headers"),
        unread(with(b": a\r\n"), "headers"),
        unread(line("G@T /v1/jobs HTTP/1.1"), "method"),
        unread(line("GET  HTTP/1.1"), "target"),
        unread(line("GET /v1/jobs HTTP/2.0"), "version"),
        unread(line("GET /v1/jobs HTTP/1.2"), "version"),
        unread(line("GET /v1/jobs HTTQ/1.1"), "version"),
        unread(line("GET /v1/jobs"), "version"),
        unread(b"GET /v1/jobs\r\n\r\n".to_vec(), "version"),
        unread(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03not what is spoken here\r\n\r\n".to_vec(), "method"),
        unread(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "version"),
        (line("BREW /v1/jobs HTTP/1.1"), 405, "method_not_allowed", None),
        (line("get /v1/jobs HTTP/1.1"), 405, "method_not_allowed", None),
        (line("TRACE /v1/jobs HTTP/1.1"), 405, "method_not_allowed", None),
        (line("OPTIONS /v1/jobs HTTP/1.1"), 405, "method_not_allowed", None),
        (line("OPTIONS * HTTP/1.1"), 404, "no_route", None),
        (line("CONNECT evil.example:443 HTTP/1.1"), 403, "wrong_host", Some("Host")),
        (line("HEAD /v1/jobs HTTP/1.1"), 200, BARE, None),
        (line("HEAD /v1/jobs/7777 HTTP/1.1"), 404, BARE, None),
        // Who is asked stands in the first line then, whatever the Host says.
        (line("GET http://evil.example/v1/jobs HTTP/1.1"), 403, "wrong_host", Some("Host")),
        (line("GET https://evil.example/v1/jobs HTTP/1.1"), 403, "wrong_host", Some("Host")),
        (line("GET http://localhost/v1/jobs HTTP/1.1"), 200, BARE, None),
        (b"GET /v1/jobs HTTP/1.1\r\nConnection: close\r\n\r\n".to_vec(), 403, "wrong_host", Some("Host")),
        (b"GET /v1/jobs HTTP/1.0\r\n\r\n".to_vec(), 403, "wrong_host", Some("Host")),
        (with(b"Host: localhost\r\n"), 403, "wrong_host", Some("Host")),
        (with(format!("Authorization: Bearer {TOKEN}\r\n").as_bytes()), 401, "bad_token", Some("Authorization")),
        (with(b"X: \xe4\r\n"), 200, BARE, None),
        (with(b"Expect: 200-ok\r\n"), 417, "expectation", Some("Expect")),
        (with(b"Expect: 100-continue, x\r\n"), 417, "expectation", Some("Expect")),
        (with(b"Expect: 100-continue\r\nExpect: x\r\n"), 417, "expectation", Some("Expect")),
        (with(b"Expect: \xff\r\n"), 417, "expectation", Some("Expect")),
        (with(b"Expect: 100-Continue\r\n"), 200, BARE, None),
        (with(b"Accept: image/png\r\n"), 406, "not_acceptable", Some("Accept")),
        (with(b"Accept: application/json;q=0, text/html\r\n"), 406, "not_acceptable", Some("Accept")),
        (typed("Content-Type: application/json\r\nAccept: image/png\r\n"), 406, "not_acceptable", Some("Accept")),
        (typed("Content-Type: application/json\r\nExpect: x\r\n"), 417, "expectation", Some("Expect")),
        (with(b"Accept: image/png, application/*;q=0.1\r\n"), 200, BARE, None),
        (with(b"Accept: not what is spoken here\r\n"), 200, BARE, None),
        (with(b"Accept: \xff\r\n"), 200, BARE, None),
    ]
}

/// What is asked for: bytes that are no text, text that is no name.
fn targets() -> Vec<Row> {
    let bare = |target: &[u8]| unread(get(target), "target");
    let none = |target: &str| (get(target), 404, "not_found", None);
    let invalid = |target: &str, field| (get(target), 422, "invalid", Some(field));
    let mut rows = vec![
        bare(b"/v1/jobs\0"),
        bare(b"/v1/jo\x01bs"),
        bare(b"/v1/jo\tbs"),
        bare(b"/v1/queues/\xff"),
        bare(b"/v1/jobs?queue=\xff"),
        (get(format!("/v1/jobs?q={}", "a".repeat(17_000))), 431, "head_too_large", Some("target")),
        invalid("/v1/jobs?queue=%ff", "queue"),
        invalid("/v1/jobs?queue=a&kind=%c3%28", "kind"),
        invalid("/v1/jobs?%ff=a", "query"),
        invalid("/v1/jobs?queue=%zz", "queue"),
        invalid("/v1/jobs?queue=%f", "queue"),
        invalid("/v1/jobs?queue=100%", "queue"),
        invalid("/v1/jobs?limit=%ff", "limit"),
        invalid("/v1/jobs?limit=1e999", "limit"),
        invalid("/v1/jobs?limit=NaN", "limit"),
        invalid("/v1/jobs?limit=-1", "limit"),
        invalid("/v1/jobs?limit=", "limit"),
        invalid("/v1/jobs?limit=99999999999999999999", "limit"),
        invalid("/v1/jobs?cursor=%00", "cursor"),
        invalid("/v1/jobs?since=0000-01-01T00:00:00Z", "since"),
        invalid("/v1/jobs?until=%2B275760-09-13T00:00:00Z", "until"),
        invalid("/v1/jobs?since=2026-02-30T00:00:00Z", "since"),
        invalid("/v1/jobs?tag=a&tag=b", "tag"),
        invalid(&format!("/v1/jobs?q={}", "a".repeat(15_000)), "q"),
        invalid("/v1/events?since=-1", "since"),
        invalid("/v1/jobs/1/wait?timeout=-5s", "timeout"),
        (get("/v1/../v1/jobs"), 404, "no_route", None),
        (get("//v1/jobs"), 404, "no_route", None),
        (get("/v1/jobs/"), 404, "no_route", None),
        (get("/v1/queues/a/b/c"), 404, "no_route", None),
        // A name with a slash in it is one name, and one that nobody has.
        none("/v1/queues/a%2fb"),
        none("/v1/queues/%2e%2e%2fjobs"),
        none("/v1/queues/%F0%9F%98%80"),
        (get("/v1/jobs#x"), 200, BARE, None),
    ];
    rows.extend(["%ff", "%c3%28"].map(|name| none(&format!("/v1/tenants/{name}"))));
    rows.extend(["%00", "%0a", "%zz", "%"].map(|name| (get(format!("/v1/tenants/{name}")), 404, "no_tenant", None)));
    for route in ["jobs", "queues", "kinds", "schedules", "operations"] {
        rows.extend(["%ff", "%00", "%0a", "%zz", "%", "%c3%28"].map(|name| none(&format!("/v1/{route}/{name}"))));
    }
    rows
}

/// What a body is, and what it says of itself.
fn bodies() -> Vec<Row> {
    let malformed = |request| (request, 400, "malformed", None);
    let media = |headers: &str, field| (typed(headers), 415, "media_type", field);
    let whole = |body: &str| (json(body), 422, "invalid", Some("body"));
    let utf16: Vec<u8> = JOB.encode_utf16().flat_map(u16::to_le_bytes).collect();
    vec![
        media("Content-Type: text/plain\r\n", None),
        media("Content-Type: \r\n", None),
        media("Content-Type: application/xml\r\n", None),
        (
            request("POST /v1/jobs HTTP/1.1", b"Content-Type: \xff\r\nContent-Length: 2\r\n", "{}"),
            415,
            "media_type",
            None,
        ),
        media("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", Some("Content-Encoding")),
        malformed(json("")),
        malformed(json(" \r\n")),
        malformed(json(format!("\u{feff}{JOB}"))),
        malformed(json([&b"\xff\xfe"[..], &utf16].concat())),
        malformed(json(b"{\"kind\":\"\xff\"}")),
        malformed(json(b"{\"kind\":\"\xed\xa0\x80\"}")),
        malformed(json(format!("{JOB}x"))),
        malformed(json(format!("{JOB}{JOB}"))),
        malformed(json(r#"{"kind":"ok"/* why not */}"#)),
        malformed(json(r#"{"kind":"ok",}"#)),
        malformed(json(r"{'kind':'ok'}")),
        malformed(json(r#"{"kind":"ok","priority":NaN}"#)),
        malformed(json(r#"{"kind":"ok","priority":Infinity}"#)),
        malformed(json(r#"{"kind":"ok","priority":0x10}"#)),
        malformed(json(r#"{"kind":"ok","priority":01}"#)),
        malformed(json("{\"kind\":\"o\0k\"}")),
        whole("null"),
        whole("true"),
        whole("7"),
        whole(r#""ok""#),
    ]
}

/// What single fields of a job may not be.
fn meaning() -> Vec<Row> {
    let field = |name: &'static str, value: &str| {
        (json(format!(r#"{{"kind":"ok","hold":true,"{name}":{value}}}"#)), 422, "invalid", Some(name))
    };
    let kind = |value: &str| (json(format!(r#"{{"kind":{value}}}"#)), 422, "invalid", Some("kind"));
    let names =
        [r#""""#, r#"" ""#, r#""a/b""#, r#""a\u0000b""#, r#""\ud83d\ude00""#, r#""\ud800""#, r#""ä""#, "7", "[]", "{}"];
    let long = format!("\"{}\"", "a".repeat(300));
    let mut rows: Vec<Row> = names.iter().map(|name| kind(name)).collect();
    rows.extend(names.iter().map(|name| field("queue", name)));
    rows.extend([
        kind(&long),
        kind("null"),
        field("queue", &long),
        (json("{}"), 422, "invalid", Some("kind")),
        (json(r#"{"kind":"ok","kind":"ok"}"#), 422, "invalid", Some("kind")),
        (json(r#"{"kind":"ok","kin\u0064":"no"}"#), 422, "invalid", Some("kind")),
        (json(r#"{"kind":"ok","Kind":"ok"}"#), 422, "invalid", Some("Kind")),
        (json(r#"{"kind":"ok","":1}"#), 422, "invalid", Some("body")),
        (json(r#"{"kind":"ok","retry":{"base":"1s","base":"2s"}}"#), 422, "invalid", Some("retry.base")),
        (json(r#"[{"kind":"ok"},null]"#), 422, "invalid", Some("jobs[1]")),
        field("args_base64", r#""no base64!""#),
        field("args_base64", "5"),
        field("hold", r#""yes""#),
        field("hold", "1"),
        field("tags", "[]"),
        field("depends_on", r#""1""#),
        field("depends_on", r#"{"job":"1"}"#),
        field("unique", "true"),
        field("retry", "3"),
        field("ack", r#""maybe""#),
        field("ack", "1"),
        field("traceparent", r#""00-0-0-0""#),
    ]);
    for number in ["1e999", "-1e999", "1.5", "99999999999999999999", "[1]", "true", "\"7 \""] {
        rows.extend([field("priority", number), field("max_attempts", number)]);
    }
    rows.extend(["-32769", "32768"].map(|number| field("priority", number)));
    rows.extend(["-1", "0", "4294967296"].map(|number| field("max_attempts", number)));
    for time in [
        r#""0000-01-01T00:00:00Z""#,
        r#""-000001-01-01T00:00:00Z""#,
        r#""+275760-09-13T00:00:00Z""#,
        r#""275760-09-13T00:00:00Z""#,
        r#""10000-01-01T00:00:00Z""#,
        r#""9999-12-31T23:59:59.999Z""#,
        r#""2026-02-30T00:00:00Z""#,
        r#""2027-01-31T25:00:00Z""#,
        r#""2027-01-31T08:00:00""#,
        r#""2027-01-31""#,
        r#""tomorrow""#,
        r#""""#,
        "1700000000",
        "1e999",
    ] {
        rows.extend([field("run_at", time), field("expires_at", time)]);
    }
    for duration in
        [r#""-5m""#, r#""5""#, r#""5 fortnights""#, r#""99999999999999999999d""#, r#""1e999s""#, r#""""#, "5", "1e999"]
    {
        rows.extend([field("delay", duration), field("timeout", duration)]);
    }
    rows
}

#[test]
fn whatever_is_sent_is_answered_and_the_server_serves_on() {
    let place = Place::new();
    let mut command = place.command(&["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0"]);
    command.env("RUNNER_ADMIN_TOKEN", TOKEN).env("RUNNER_LOG", "debug");
    let mut server = Server::new(command);
    for rows in [framing(), heads(), targets(), bodies(), meaning()] {
        check(&server, &rows);
    }
    // What was accepted is what was meant, and nothing else came of it.
    let listed = place.check(&["job", "list", "-o", "json"], 0, &[]);
    assert_eq!(listed.out.lines().count(), 4, "{}", listed.out);
    place.check(&["enqueue", "ok", "--wait"], 0, &["completed"]);
    let metrics = "GET /metrics HTTP/1.1";
    let page = answer(&server, &request(metrics, "", ""));
    let rejected = "runner_requests_rejected_total{";
    let failed: Vec<&str> =
        page.lines().filter(|line| line.starts_with(rejected) && line.contains("status=\"5")).collect();
    assert!(page.contains(rejected) && failed.is_empty(), "{page}");
    signal(server.child(), "TERM");
    let said = server.ended();
    said.check(0, &["stopped"]);
    assert!(!said.err.contains("\"level\":\"ERROR\""), "{}", said.err);
    assert!(!said.err.contains(TOKEN), "{}", said.err);
}

/// Both lengths: a proxy may have gone by the other one, and what is behind the body by ours was a request of somebody else
/// to it. The job was enqueued, and only then the connection closed.
#[test]
fn a_request_with_two_lengths_is_refused_and_nothing_behind_it_is_read() {
    let place = Place::new();
    let server = place.serve(&[]);
    let hidden = "DELETE /v1/jobs/1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let chunks = format!("{:x}\r\n{JOB}\r\n0\r\n\r\n{hidden}", JOB.len());
    let length = format!("Content-Length: {}\r\n", chunks.len());
    let (first, then) = (length.as_str(), "Transfer-Encoding: chunked\r\n");
    let before = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for lengths in [format!("{first}{then}"), format!("{then}{first}")] {
        for requests_before in [0, 1, 3] {
            let head =
                format!("POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{lengths}\r\n");
            let text = answer(&server, format!("{}{head}{chunks}", before.repeat(requests_before)).as_bytes());
            let answers: Vec<&str> = text.split("HTTP/1.1 ").skip(1).collect();
            assert_eq!(answers.len(), requests_before + 1, "{text}");
            let (refused, fine) = answers.split_last().unwrap();
            assert!(fine.iter().all(|answer| answer.starts_with("200 OK")), "{text}");
            assert!(refused.starts_with("400 Bad Request") && refused.contains("connection: close"), "{text}");
            assert!(
                refused.contains(r#""code":"malformed""#) && refused.contains(r#""field":"Content-Length""#),
                "{text}"
            );
            assert!(refused.contains("both `Content-Length` and `Transfer-Encoding`"), "{text}");
        }
    }
    // Where more comes than was read, the connection was reset, and what had been said was lost.
    let much = format!("POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n{length}{then}\r\n{}", "x".repeat(512 << 10));
    for _ in 0..20 {
        let text = answer(&server, much.as_bytes());
        assert!(text.contains("both `Content-Length` and `Transfer-Encoding`"), "{text}");
    }
    let listed = place.check(&["job", "list", "-o", "json"], 0, &[]);
    assert_eq!(listed.out.lines().count(), 0, "{}", listed.out);
}
