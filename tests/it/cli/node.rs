//! `runner node`: a node that is drained and goes on; and the end of one in every way.

use std::process::Stdio;

use super::server::signal;
use super::{Place, Said, until};

#[test]
fn a_node_is_shown_drained_and_resumed() {
    let place = Place::new();
    place.check(&["store", "init"], 0, &[]);
    for verb in ["show", "drain", "resume"] {
        place.check(&["node", verb], 4, &["no node runs jobs on this store", "runner serve"]);
    }
    place.check(&["node", "stop"], 2, &["unrecognized subcommand"]);
    let mut server = place.serve(&["--init", "--grace", "1h", "--slots", "1"]);
    place.check(&["node", "show"], 0, &["running", "0 of 1 slots"]);
    let spin = place.check(&["enqueue", "spin", "--timeout", "1h"], 0, &[]).out;
    until("it runs", || place.runner(&["job", "show", spin.trim()]).out.contains("running"));
    place.check(&["node", "drain", "-o", "json"], 0, &[r#""state":"draining","changed":true"#, r#""running":1"#]);
    place.check(&["node", "drain"], 0, &["it was draining already", "1 of 1 slots"]);
    let late = place.check(&["enqueue", "ok"], 0, &[]).out;
    place.check(&["job", "why", late.trim()], 0, &["node drains", "node resume"]);
    place.check(&["job", "cancel", spin.trim()], 0, &[]);
    place.check(&["job", "wait", spin.trim()], 11, &["cancelled"]);
    place.check(&["job", "show", late.trim()], 0, &["available"]);
    assert!(server.child.try_wait().unwrap().is_none(), "a node that rests does not end");
    place.check(&["node", "resume"], 0, &["running"]);
    place.check(&["job", "wait", late.trim()], 0, &["completed"]);
    place.check(&["node", "resume"], 0, &["it was running already"]);
    place.check(&["node", "drain"], 0, &["draining"]);
    signal(&server.child, "TERM");
    server.ended().check(0, &["resumed", "draining", "stopped"]);
}

/// A run that does not end within the grace runs again, in both verbs that run jobs: no attempt is gone, and nothing else.
#[test]
fn what_does_not_end_in_time_is_interrupted_and_burns_no_attempt() {
    let place = Place::new();
    let mut server = place.serve(&["--grace", "10ms"]);
    let id = place.check(&["enqueue", "spin", "--timeout", "1h"], 0, &[]).out;
    until("it runs", || place.runner(&["job", "show", id.trim()]).out.contains("running"));
    signal(&server.child, "TERM");
    server.ended().check(0, &["stopped"]);
    let untouched = [r#""state":"available""#, r#""attempts":0"#, r#""crashes":0"#, r#""outcome":"interrupted""#];
    place.check(&["job", "show", id.trim(), "-o", "json"], 0, &untouched);
    place.check(&["job", "delete", id.trim()], 0, &[]);

    place.write("jobs.ndjson", b"{\"kind\": \"spin\", \"timeout\": \"1h\"}\n");
    let args = ["run", "jobs.ndjson", "--plugins", "plugins", "--grace", "10ms"];
    let child = place.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Another process has the store: what runs stands in the file of started runs.
    until("it runs", || {
        let slots = runner_store::dir::StoreDir::new(place.path("runner-data")).slots();
        matches!(runner_store::slots::previous(&slots), Ok(Some(previous)) if previous.started.len() == 1)
    });
    signal(&child, "INT");
    let said = Said::from(child.wait_with_output().unwrap());
    said.check(1, &["interrupted with 1 jobs to go", "the same command goes on"]);
    let id = (id.trim().parse::<u64>().unwrap() + 1).to_string();
    place.check(&["job", "show", &id, "-o", "json"], 0, &untouched);
}
