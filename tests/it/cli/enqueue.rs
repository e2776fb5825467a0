//! `runner enqueue` and `runner job`, where no server runs: the store itself answers.

use std::process::Stdio;

use super::{Place, Said};

impl Place {
    pub(super) fn with_store() -> Self {
        let place = Self::new();
        place.check(&["store", "init"], 0, &["made an empty store in runner-data"]);
        place
    }
}

#[test]
fn a_job_is_enqueued_looked_at_changed_and_deleted() {
    let place = Place::with_store();
    let id = place.check(
        &["enqueue", "mail.send", r#"{"to": "a@b"}"#, "--priority", "-5", "--tag", "k=v", "--hold"],
        0,
        &[],
    );
    assert_eq!(id.out, "1\n");
    place.check(
        &["job", "show", "1"],
        0,
        &["mail.send", "held", r#"{"to": "a@b"}"#, r#"{"k":"v"}"#, "it has not run yet"],
    );
    place.check(&["job", "list", "--state", "held"], 0, &["1   held   mail.send  default"]);
    place.check(&["job", "list", "--state", "running"], 0, &["there are no such jobs"]);
    place.check(&["job", "release", "1"], 0, &["1 available"]);
    place.check(&["job", "cancel", "1", "--reason", "too late"], 0, &["1 cancelled"]);
    place.check(&["job", "cancel", "1"], 0, &["1 cancelled already"]);
    place.check(&["job", "wait", "1"], 11, &["cancelled: cancelled on request: too late"]);
    place.check(&["job", "output", "1"], 3, &["the job has no output: it is cancelled"]);
    place.check(&["job", "retry", "1", "7"], 3, &["1 available", "job 7: there is no job with this id"]);
    place.check(&["job", "wait", "1"], 12, &["no server runs on this store"]);
    place.check(&["store", "stats"], 0, &["available", "mail.send"]);
    place.check(&["job", "delete", "1"], 0, &["1 deleted"]);
    place.check(&["job", "show", "1"], 3, &["no job with this id"]);
    place.check(&["job", "show", "../count"], 3, &["no job with this id"]);
}

#[test]
fn a_key_makes_a_call_safe_to_repeat() {
    let place = Place::with_store();
    let args = ["enqueue", "a", "--idempotency-key", "once", "-o", "json"];
    place.check(&args, 0, &[r#"{"id":"1","state":"available","duplicate":false}"#]);
    place.check(&args, 0, &[r#"{"id":"1","state":"available","duplicate":true}"#]);
    place.check(&["enqueue", "b", "--idempotency-key", "once"], 4, &["used for a different request"]);
    place.check(&["enqueue", "a"], 0, &["2"]);
}

#[test]
fn a_list_is_checked_whole_before_anything_is_sent() {
    let place = Place::with_store();
    place.write("pic.bin", &[255]);
    place.write(
        "jobs.ndjson",
        br#"{"kind": "a", "args_file": "pic.bin"}
        {"kind": "b", "args": [1,  2], "expect": "discarded"}"#,
    );
    let said = place.check(&["enqueue", "--from", "jobs.ndjson"], 0, &[]);
    assert_eq!(said.out, "1\n2\n");
    place.check(&["job", "show", "1", "-o", "json"], 0, &[r#""args_base64":"/w==""#]);
    place.check(&["job", "show", "2", "-o", "json"], 0, &[r#""args":[1,  2]"#]);
    place.write("jobs.ndjson", b"{\"kind\": \"a\"}\n{\"kind\": 5}\n");
    place.check(
        &["enqueue", "--from", "jobs.ndjson"],
        2,
        &["jobs.ndjson:2:10: kind: must be a text; it is 5", "nothing was enqueued"],
    );
    let said = place.check(&["job", "list", "-o", "json"], 0, &[]);
    assert_eq!(said.out.lines().count(), 2, "{}", said.out);
}

#[test]
fn what_makes_no_sense_is_refused_with_a_way_out() {
    let place = Place::with_store();
    place.check(&["enqueue"], 2, &["<KIND>"]);
    place.check(&["enqueue", "a", "{x}"], 2, &["ARGS are not JSON, line 1, column 2"]);
    place.check(&["enqueue", "a", "--delay", "5"], 2, &["delay: `5` has no unit; write for example `60s`"]);
    place.check(&["enqueue", "a", "--run-at", "noon"], 2, &["run_at: \"noon\" is not an RFC 3339 time"]);
    place.check(&["enqueue", "a", "--priority", "top"], 2, &["priority: must be", "highest, high, default"]);
    place.check(&["enqueue", "a", "--tag", "k"], 2, &["write KEY=VALUE"]);
    place.check(&["enqueue", "a b"], 2, &["kind: \"a b\" has ' ' in it"]);
    place.check(&["enqueue", "a", "--args-file", "gone"], 2, &["`gone` does not exist"]);
    place.check(&["job", "list", "--state", "done"], 2, &["state: \"done\" is no state; there are held"]);
    place.check(&["job", "list", "--url", "https://x/y"], 2, &["has a path; give only https://x"]);
    place.check(&["job", "list", "--url", "https://me:secret@x"], 2, &["set RUNNER_TOKEN instead"]);
    place.check(&["job", "list", "--url", "localhost"], 2, &["write for example http://127.0.0.1:7070"]);
    place.check(
        &["job", "list", "--url", "http://127.0.0.1:1"],
        5,
        &["http://127.0.0.1:1 does not answer", "is it running"],
    );
    place.check(&["job", "wait", "1", "--timeout", "5"], 2, &["`5` has no unit"]);
}

/// `job show` made a value in memory of the whole job, args included, and where that failed (they nest deeper than 128
/// levels, or have a number beyond a float's) it showed a job without id, kind and state.
#[test]
fn args_that_only_a_text_can_hold_hide_nothing_of_their_job() {
    let place = Place::with_store();
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    for (id, args) in [("1", "1e999"), ("2", &deep)] {
        place.check(&["enqueue", "mail.send", args], 0, &[id]);
        place.check(&["job", "show", id], 0, &["mail.send", "available", "max_attempts", &args[..5]]);
        place.check(&["job", "show", id, "-o", "json"], 0, &[args]);
    }
    // Deeper than any honest args, which few programs could read again.
    place.check(
        &["enqueue", "mail.send", &format!("[{deep}]")],
        2,
        &["args: has objects and lists that are nested more than 100"],
    );
}

/// An answer that did not fit on the disk was cut, and the exit code was 0: `job output 7 > picture.png` lost a picture.
#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    let place = Place::with_store();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let said = Said::from(place.command(&["enqueue", "mail.send"]).stdout(full).output().unwrap());
    said.check(1, &["stdout took only a part of the answer", "No space left"]);
    place.check(&["job", "list"], 0, &["mail.send"]);
}

/// A list was sent in parts, and a job that cannot be buffered was only found when those before it had been received.
#[test]
fn a_buffered_list_is_checked_whole_before_anything_is_sent() {
    let place = Place::with_store();
    let list = format!("{}{{\"kind\": \"a\", \"unique\": {{\"key\": \"k\"}}}}\n", "{\"kind\": \"a\"}\n".repeat(1_200));
    place.write("jobs.ndjson", list.as_bytes());
    let words = ["jobs.ndjson:1201:25: unique: is not possible with --ack buffered", "nothing was enqueued"];
    place.check(&["enqueue", "--from", "jobs.ndjson", "--ack", "buffered"], 2, &words);
    place.check(&["job", "list"], 0, &["there are no such jobs"]);
}

/// What the store refused in a later part of a list was named by its place in that part, and nothing said that the jobs
/// before it were enqueued: whoever mended the line and sent the list again had them twice.
#[test]
fn a_list_that_is_refused_half_way_says_where_and_how_to_go_on() {
    let place = Place::with_store();
    let list = |last: &str| format!("{}{last}\n", "{\"kind\": \"a\"}\n".repeat(1_200));
    place.write("jobs.ndjson", list("{\"kind\": \"a\", \"depends_on\": [\"9999999\"]}").as_bytes());
    let said = place.check(
        &["enqueue", "--from", "jobs.ndjson"],
        2,
        &["jobs.ndjson:1201: depends_on: there is no job 9999999", "the first 1000 jobs of the list are enqueued"],
    );
    let key = said.err.split("--idempotency-key ").nth(1).and_then(|rest| rest.split('`').next()).unwrap().to_owned();
    place.write("jobs.ndjson", list("{\"kind\": \"a\", \"depends_on\": [\"1\"]}").as_bytes());
    place.check(&["enqueue", "--from", "jobs.ndjson", "--idempotency-key", &key], 0, &[]);
    assert_eq!(place.check(&["job", "list", "--limit", "5000", "-o", "json"], 0, &[]).out.lines().count(), 1_201);
}

/// Two calls at the same moment, where no server runs: one of them was told that the store is in use.
#[test]
fn calls_at_the_same_moment_wait_for_each_other() {
    let place = Place::with_store();
    let calls: Vec<_> = (0..4)
        .map(|_| place.command(&["enqueue", "a"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for call in calls {
        let said = Said::from(call.wait_with_output().unwrap());
        said.check(0, &[]);
    }
    assert_eq!(place.check(&["job", "list", "-o", "json"], 0, &[]).out.lines().count(), 4);
}
