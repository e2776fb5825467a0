//! The metrics of a server that runs jobs, over its API and over a listener of their own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use super::server::{Server, signal};
use super::{Place, until};
use crate::api::metrics::{find, parse, value};

/// Head and body of an answer.
fn get(address: &str, path: &str) -> (String, String) {
    read(TcpStream::connect(address).unwrap(), address, path)
}

/// The same over the unix socket in the store's folder, whose owner may see all tenants.
fn get_as_owner(place: &Place, path: &str) -> (String, String) {
    read(UnixStream::connect(place.path("runner-data/runner.sock")).unwrap(), "localhost", path)
}

fn read(mut stream: impl Read + Write, address: &str, path: &str) -> (String, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn what_ran_is_in_the_metrics() {
    let place = Place::new();
    let mut server = place.serve(&["--slots", "3"]);
    for _ in 0..3 {
        place.check(&["enqueue", "ok", "--queue", "q", "--wait"], 0, &["completed"]);
    }
    place.check(&["enqueue", "no", "--max-attempts", "1", "--wait"], 10, &["discarded"]);
    let spin = place.check(&["enqueue", "spin", "--timeout", "1h"], 0, &[]).out;
    place.check(&["enqueue", "made-up"], 0, &[]);
    until("it runs", || place.runner(&["job", "show", spin.trim()]).out.contains("running"));
    let (head, said) = get(&server.address, "/metrics");
    assert!(head.starts_with("HTTP/1.1 403") && said.contains("all_tenants"), "{head} {said}");
    let (head, text) = get_as_owner(&place, "/metrics");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let now = parse(&text);
    let ok = [("tenant", "default"), ("queue", "q"), ("kind", "ok")];
    assert_eq!(value(&now, "runner_runs_started_total", &ok), 3.0);
    assert_eq!(value(&now, "runner_runs_finished_total", &[("kind", "ok"), ("outcome", "completed")]), 3.0);
    assert_eq!(value(&now, "runner_runs_finished_total", &[("kind", "no")]), 1.0);
    for histogram in ["runner_run_seconds", "runner_run_wait_seconds"] {
        assert_eq!(value(&now, &format!("{histogram}_count"), &[("kind", "ok")]), 3.0);
    }
    assert!(value(&now, "runner_run_seconds_sum", &[("kind", "ok")]) > 0.0);
    assert!(value(&now, "runner_run_fuel_total", &[("kind", "ok")]) > 0.0);
    assert!(value(&now, "runner_run_memory_peak_bytes", &[("kind", "ok")]) >= 65_536.0);
    assert_eq!(value(&now, "runner_runs_started_total", &[("kind", "spin")]), 1.0);
    assert!(find(&now, "runner_runs_finished_total", &[("kind", "spin")]).is_empty());
    assert_eq!([value(&now, "runner_slots", &[]), value(&now, "runner_slots_used", &[])], [3.0, 1.0]);
    assert_eq!(value(&now, "runner_jobs", &[("kind", "_other")]), 1.0, "no plugin provides it");
    assert!(!text.contains("made-up"), "{text}");
    assert_eq!(value(&now, "runner_plugins_compiled_total", &[]), 3.0);
    assert!(value(&now, "runner_plugin_compile_seconds", &[("plugin", "ok")]) > 0.0);
    assert!(value(&now, "runner_store_bytes", &[]) > 0.0);
    signal(server.child(), "INT");
    signal(server.child(), "INT");
    server.ended().check(0, &["stopped"]);
    let mut again = place.serve(&[]);
    let now = parse(&get_as_owner(&place, "/metrics").1);
    assert_eq!(value(&now, "runner_plugins_cache_hits_total", &[]), 3.0);
    assert_eq!(value(&now, "runner_plugins_compiled_total", &[]), 0.0);
    signal(again.child(), "INT");
    signal(again.child(), "INT");
    again.ended();
}

#[test]
fn the_metrics_may_have_a_listener_of_their_own() {
    let place = Place::new();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    let args = ["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0", "--metrics-listen"];
    let with = |address| [&args[..], &[address]].concat();
    place.check(&with(&taken), 13, &["in use by another process", "--metrics-listen"]);
    place.check(&with("nonsense"), 2, &["--metrics-listen", "`nonsense` is no address with a port"]);
    assert!(!place.path("runner-data").exists());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut server = Server::new(place.command(&with(&free)));
    until("it listens", || TcpStream::connect(&free).is_ok());
    let (head, text) = get(&free, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200") && find(&parse(&text), "runner_slots", &[]).len() == 1, "{head}");
    let (head, body) = get(&free, "/v1/jobs");
    assert!(head.starts_with("HTTP/1.1 404") && body.contains("there is only /metrics here"), "{head} {body}");
    signal(server.child(), "TERM");
    server.ended().check(0, &["stopped"]);
}
