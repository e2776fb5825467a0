//! A server and what guests and their owners could do to it from outside of a run: to its stop, and to its log.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::{Server, signal};
use super::{Place, Said, says};
use crate::sandbox::reuse::counts;
use crate::soak::wire::{Ask, Wire};

/// A second is what an idle server takes at most to stop; a machine that is busy with other tests has five times that.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

fn stop(mut server: Server) -> Said {
    signal(server.child(), "TERM");
    let said = server.ended();
    said.check(0, &["stopped"]);
    said
}

/// The story: an instance that waits for its next run is looked after by a task that sleeps for half a minute, and so long
/// would a stop take that waited for it.
#[test]
fn a_server_that_keeps_instances_stops_at_once_when_it_is_idle() {
    let place = Place::new();
    place.write("plugins/counts.wasm", &counts());
    place.write("plugins/counts.toml", b"[instance]\nreuse = { max_runs = 100 }");
    let server = place.serve(&[]);
    for n in ["1", "2", "3"] {
        let said = place.check(&["enqueue", "counts", "--wait"], 0, &["completed"]);
        let id = said.out.lines().next().unwrap();
        assert_eq!(place.check(&["job", "output", id], 0, &[]).out, n, "its instance is kept");
    }
    let began = Instant::now();
    stop(server);
    assert!(began.elapsed() < STOPS_WITHIN, "{:?}", began.elapsed());
}

/// What a job is called, and what is in it, comes from anywhere. Written into the log as it is, a newline would begin a line
/// that nobody logged, and an escape would tell the reader's terminal what to do.
#[test]
fn nothing_that_a_job_says_forges_a_line_of_the_servers_log() {
    let forged =
        "x\r\n{\"timestamp\":\"2026-01-01T00:00:00Z\",\"level\":\"ERROR\",\"message\":\"forged\"}\n\u{1b}[2J\u{9b}2J";
    let place = Place::new();
    // A name of a file is somebody's word, too, and so is what a handler says.
    place.write(&format!("plugins/{}.wasm", forged.replace('/', "")), &says("", 0));
    place.write("plugins/says.wasm", &says(forged, 1));
    let mut command = place.command(&["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0"]);
    command.env("RUNNER_LOG", "debug");
    let server = Server::new(command);
    let mut wire = Wire::new(place.path("runner-data/runner.sock"));
    let mut enqueue = |job: Value| wire.until_answered(&Ask { body: Some(&job), ..Ask::post("/v1/jobs") });
    for (field, job) in [
        ("kind", json!({"kind": forged})),
        ("queue", json!({"kind": "ok", "queue": forged})),
        ("priority", json!({"kind": "ok", "priority": forged})),
        ("depends_on[0]", json!({"kind": "ok", "depends_on": [forged]})),
    ] {
        let refused = enqueue(job);
        assert_eq!((refused.status, refused.body["field"].as_str()), (422, Some(field)), "{}", refused.body);
    }
    let named = json!({"kind": "nobody", "tags": {"t": forged, "x\r\n\u{1b}[2J": "t"}, "unique": {"key": forged}, "args": forged});
    let answer = enqueue(named);
    assert_eq!(answer.status, 201, "{}", answer.body);
    let said = enqueue(json!({"kind": "says", "tags": {"t": forged}, "max_attempts": 1})).body["id"].to_string();
    place.check(&["job", "wait", said.trim_matches('"')], 10, &["discarded"]);
    let log = stop(server).err;
    assert!(log.contains("no plugin provides this kind"), "{log}");
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert_ne!(event["message"], "forged", "{line}");
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
    }
}
