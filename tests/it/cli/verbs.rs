//! The verbs of `runner job`, `queue`, `store set`, `events` and `flush`, where no server runs and where one does.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use super::{Place, until};

#[test]
fn jobs_wait_for_others_and_say_why() {
    let place = Place::with_store();
    place.check(&["enqueue", "a", "--unique-key", "k", "--tag", "customer=7"], 0, &["1\n"]);
    place.check(&["enqueue", "a", "--unique-key", "k"], 0, &["1\n"]);
    place.check(&["enqueue", "a", "--unique-key", "k", "--on-conflict", "reject"], 4, &["job 1 holds this unique key"]);
    place.check(&["enqueue", "b", "--depends-on", "1", "--depends-on", "9"], 2, &["depends_on: there is no job 9"]);
    place.check(&["enqueue", "b", "--depends-on", "1", "{\"n\": 1}", "--hold"], 0, &["2\n"]);
    place.check(&["job", "why", "2"], 0, &["held: on hold", "dependency: waits for job 1, which is available"]);
    place.check(&["job", "release", "2"], 0, &["2 blocked"]);
    place.check(&["job", "show", "2"], 0, &["waits for job 1"]);
    place.check(&["job", "show", "1"], 0, &["unique_key", "customer"]);
    place.check(&["job", "list", "--tag", "customer=7", "-o", "json"], 0, &[r#""id":"1""#]);
    place.check(&["job", "list", "--tag", "customer"], 2, &["tag: must be KEY=VALUE"]);
    place.check(&["job", "start", "1"], 4, &["no node runs jobs on this store; start one with `runner serve`"]);
    place.check(&["job", "delete", "1"], 4, &["delete it with `cascade`"]);
    place.check(&["job", "cancel", "1"], 0, &["1 cancelled"]);
    // Those that wait are told a moment later, and a store that was closed meanwhile goes on with it when it is opened.
    let told = |why: &str| until(why, || place.runner(&["job", "wait", "2"]).out.contains(why));
    told("dependency 1 was cancelled");
    place.check(&["job", "retry", "1", "--with-dependents", "--fresh"], 0, &["1 available, and 1 that waited for it"]);
    place.check(&["job", "delete", "1", "--cascade"], 0, &["1 deleted"]);
    told("deleted before it completed");
    place.check(&["store", "check"], 0, &["0 wrong"]);
}

#[test]
fn a_job_is_changed_while_it_waits() {
    let place = Place::with_store();
    place.check(&["enqueue", "a"], 0, &[]);
    place.check(&["job", "reschedule", "1", "--delay", "1h"], 0, &["1 scheduled"]);
    place.check(&["job", "reschedule", "1"], 2, &["--delay"]);
    place.check(&["job", "reschedule", "1", "--delay", "5"], 2, &["delay: `5` has no unit"]);
    let edit =
        ["job", "edit", "1", "--priority", "-7", "--args", "{\"w\":  1}", "--tag", "k=v", "--expires-at", "none"];
    place.check(&edit, 0, &["1 scheduled"]);
    place.check(&["job", "show", "1", "-o", "json"], 0, &[r#""args":{"w":  1}"#, r#""priority":-7"#, r#"{"k":"v"}"#]);
    place.check(&["job", "edit", "1"], 2, &["say what to change"]);
    place.check(&["job", "edit", "1", "--args", "{x}"], 2, &["ARGS are not JSON"]);
    place.check(&["job", "edit", "9", "--priority", "1"], 3, &["no job with this id"]);
}

#[test]
fn many_jobs_are_changed_only_with_a_word() {
    let place = Place::with_store();
    for queue in ["q", "q", "other"] {
        place.check(&["enqueue", "a", "--queue", queue], 0, &[]);
    }
    place.check(&["job", "cancel"], 2, &["say which jobs: their ids, or --state"]);
    place.check(&["job", "cancel", "--queue", "q"], 2, &["2 jobs match", "nothing was changed; --yes"]);
    place.check(&["job", "cancel", "1", "--queue", "q"], 2, &["cannot be used with"]);
    place.check(&["job", "cancel", "--queue", "q", "--state", "available", "--yes"], 0, &["2 of 2 jobs changed"]);
    place.check(&["job", "retry", "--state", "cancelled", "--yes", "-o", "json"], 0, &[r#""changed":2"#]);
    place.check(&["job", "release", "--all", "--yes"], 0, &["3 jobs match", "0 of 3 jobs changed"]);
    place.check(&["job", "delete", "--all", "--yes"], 0, &["3 of 3 jobs changed"]);
    place.check(&["job", "list"], 0, &["there are no such jobs"]);
}

#[test]
fn jobs_that_failed_are_counted_and_retried_by_their_error() {
    let place = Place::new();
    place.write(
        "jobs.ndjson",
        "{\"kind\": \"no\", \"max_attempts\": 1, \"expect\": \"discarded\"}\n".repeat(3).as_bytes(),
    );
    place.check(&["job", "count", "--by", "error", "--data", "nothing"], 9, &["no store"]);
    place.check(&["run", "jobs.ndjson", "--plugins", "plugins", "--data", "runner-data"], 0, &[]);
    place.check(&["job", "count"], 0, &["JOBS", "STATE", "discarded"]);
    place.check(&["job", "count", "--by", "queue,kind"], 0, &["default", "no"]);
    place.check(&["job", "count", "--by", "errors"], 2, &["possible values"]);
    place.check(&["job", "count", "--by", "kind", "--state", "discarded", "--q", "not today"], 0, &["no"]);
    place.check(&["job", "count", "--kind", "never.seen"], 0, &["there are no such jobs"]);
    place.check(&["job", "count", "--state", "done"], 2, &["state: "]);
    let said = place.check(&["job", "count", "--by", "error", "-o", "json"], 0, &["not today"]);
    let counts: Value = serde_json::from_str(&said.out).unwrap();
    let error = counts["counts"][0]["error"].as_str().unwrap();
    place.check(&["job", "count", "--by", "error"], 0, &["FOR EXAMPLE", error, "not today"]);
    let listed = place.check(&["job", "list", "--error", error, "-o", "json"], 0, &[]);
    assert_eq!(listed.out.lines().count(), 3, "{}", listed.out);
    place.check(&["job", "list", "--error", "000000000000"], 0, &["there are no such jobs"]);
    place.check(&["job", "retry", "--error", error, "--yes"], 0, &["3 of 3 jobs changed"]);
    place.check(&["job", "count", "--by", "error"], 0, &["no job that failed is retryable or discarded"]);
}

#[test]
fn the_jobs_of_a_queue_are_cleared_and_retried_only_with_a_word() {
    let place = Place::with_store();
    for queue in ["q", "q", "other"] {
        place.check(&["enqueue", "a", "--queue", queue], 0, &[]);
    }
    place.check(&["queue", "clear", "q"], 2, &["--state"]);
    place.check(&["queue", "clear", "q", "--state", "available"], 2, &["2 jobs match", "nothing was changed; --yes"]);
    place.check(&["queue", "clear", "q", "--state", "available", "--yes"], 0, &["2 of 2 jobs changed"]);
    place.check(&["queue", "retry", "q", "--yes"], 0, &["0 jobs match", "0 of 0 jobs changed"]);
    place.check(&["queue", "reload", "other", "--kind", "a", "--yes", "-o", "json"], 0, &[r#""verb":"retry""#]);
    place.check(&["queue", "clear", "none", "--state", "held", "--yes"], 3, &["no queue of this name"]);
    place.check(&["job", "list"], 0, &["other"]);
}

#[test]
fn queues_and_the_store_are_set() {
    let place = Place::with_store();
    place.check(&["queue", "list"], 0, &["there are no queues"]);
    place.check(&["queue", "set", "media", "--capacity", "1", "--order", "run-at"], 0, &["run-at"]);
    place.check(&["queue", "set", "media"], 2, &["say what to set"]);
    place.check(&["queue", "set", "media", "--capacity", "few"], 2, &["must be a whole number, or none"]);
    place.check(&["enqueue", "a", "--queue", "media"], 0, &[]);
    place.check(&["enqueue", "a", "--queue", "media"], 1, &["queue media is full", "nothing happened"]);
    place.check(&["queue", "set", "media", "--capacity", "none"], 0, &["none of its own"]);
    place.check(&["enqueue", "a", "--queue", "media"], 0, &[]);
    place.check(&["queue", "show", "media", "-o", "json"], 0, &[r#""available":2"#]);
    place.check(&["queue", "show", "none"], 3, &["no queue of this name"]);
    place.check(&["queue", "list"], 0, &["QUEUE", "media"]);
    place.check(&["queue", "resume"], 2, &["<QUEUE>"]);
    // A typing mistake made a queue, which then stood in the list.
    place.check(&["queue", "resume", "none"], 3, &["no queue of this name"]);
    place.check(&["queue", "drain", "none"], 3, &["no queue of this name"]);
    place.check(&["kind", "resume", "none"], 3, &["no kind of this name"]);
    place.check(&["queue", "show", "none"], 3, &["no queue of this name"]);
    place.check(&["queue", "pause", "later"], 0, &["yes"]);
    place.check(&["queue", "resume", "later"], 0, &["no"]);
    place.check(
        &["queue", "set", "media", "--rate", "5/1s burst 2", "--weight", "3"],
        0,
        &["5/1s burst 2 (set)", "3 (set)"],
    );
    place.check(&["queue", "set", "media", "--concurrency", "0"], 2, &["concurrency", "to let nothing run, pause it"]);
    place.check(
        &["queue", "pause", "media", "--until", "2999-01-01T00:00:00Z"],
        0,
        &["until 2999-01-01T00:00:00.000Z"],
    );
    place.check(&["queue", "pause", "media", "--until", "soon"], 2, &["until", "is not an RFC 3339 time"]);
    place.check(&["queue", "drain", "media"], 0, &["draining", "yes"]);
    place.check(&["enqueue", "a", "--queue", "media"], 4, &["queue media drains", "`runner queue resume media`"]);
    place.check(&["queue", "resume", "media"], 0, &["no"]);
    place.check(&["kind", "set", "a", "--concurrency", "2"], 0, &["2 (set)"]);
    place.check(&["kind", "list"], 0, &["KIND", "a"]);
    place.check(&["kind", "pause", "a", "-o", "json"], 0, &[r#""paused":true"#]);
    place.check(&["kind", "resume", "a"], 0, &["paused", "no"]);
    place.check(&["kind", "show", "none"], 3, &["no kind of this name"]);
    place.check(&["queue", "resume", "--all"], 0, &["all queues run"]);
    place.check(&["store", "settings"], 0, &["keep_completed  7d", "10.0 GiB"]);
    place.check(&["store", "set", "--keep-completed", "2d", "--log-bytes", "1GiB"], 0, &["keep_completed  2d"]);
    place.check(&["store", "set"], 2, &["say what to set"]);
    place.check(&["store", "set", "--log-age", "2"], 2, &["log_age: `2` has no unit"]);
    place.check(&["store", "settings", "-o", "json"], 0, &[r#""log_bytes":1073741824"#]);
}

#[test]
fn events_are_shown_and_followed() {
    let place = Place::with_store();
    place.check(&["enqueue", "ok"], 0, &[]);
    place.check(&["events"], 0, &["enqueued", "job 1", "ok"]);
    place.check(&["events", "--follow"], 5, &["no server runs on this store"]);
    place.check(&["events", "--since", "7"], 2, &["since: is beyond the newest event"]);
    let server = place.serve(&[]);
    let mut follow = place.command(&["events", "--follow", "--since", "0", "-o", "json"]);
    let mut child = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    for event in ["enqueued", "started", "completed"] {
        let told = next();
        assert_eq!((&told["event"], &told["job"]), (&Value::from(event), &Value::from("1")));
    }
    let url = server.url();
    place.check(&["enqueue", "ok", "--delay", "24h", "--url", &url], 0, &["2"]);
    assert_eq!(next()["event"], "enqueued");
    place.check(&["job", "start", "2"], 0, &["2 running"]);
    while next()["event"] != "completed" {}
    child.kill().unwrap();
    child.wait().unwrap();
    place.check(&["events", "--job", "2", "--url", &url], 0, &["started"]);
}

#[test]
fn buffered_jobs_are_accepted_by_an_orderly_stop_at_the_latest() {
    let place = Place::with_store();
    place.check(&["enqueue", "ok", "--ack", "buffered"], 0, &["1 received"]);
    place.check(&["job", "list"], 0, &["available"]);
    place.check(&["enqueue", "ok", "--ack", "buffered", "--unique-key", "k"], 2, &["unique: is not possible"]);
    place.check(&["enqueue", "ok", "--ack", "buffered", "--wait"], 2, &["cannot be used with"]);
    place.write("jobs.ndjson", b"{\"kind\": \"ok\"}\n{\"kind\": \"ok\", \"delay\": \"1h\"}\n");
    let mut server = place.serve(&[]);
    place.check(&["enqueue", "--from", "jobs.ndjson", "--ack", "buffered"], 0, &["2 received"]);
    place.check(&["flush"], 0, &["2 accepted, 0 refused, 0 lost"]);
    place.check(&["enqueue", "ok", "--delay", "1h", "--ack", "buffered"], 0, &["1 received"]);
    super::server::signal(server.child(), "TERM");
    server.ended().check(0, &["stopped"]);
    let said = place.check(&["job", "list", "-o", "json"], 0, &[]);
    assert_eq!(said.out.lines().count(), 4, "{}", said.out);
}

#[test]
fn the_jobs_of_a_list_wait_for_earlier_ones() {
    let place = Place::new();
    let list = "{\"kind\": \"ok\"}\n\n{\"kind\": \"no\", \"max_attempts\": 1, \"expect\": \"discarded\", \"depends_on\": [{\"position\": 0}]}\n\
                {\"kind\": \"ok\", \"expect\": \"cancelled\", \"depends_on\": [{\"position\": 1}]}\n\
                {\"kind\": \"ok\", \"depends_on\": [{\"position\": 1, \"on_failure\": \"run\"}], \"unique\": {\"fields\": [\"a\"]}}\n";
    place.write("jobs.ndjson", list.as_bytes());
    let said = place.check(
        &["run", "jobs.ndjson", "--plugins", "plugins"],
        0,
        &["4 jobs, 4 as expected", "dependency 2 was discarded"],
    );
    assert!(said.out.contains("cancelled"), "{}", said.out);
    place.write("jobs.ndjson", b"{\"kind\": \"ok\", \"depends_on\": [{\"position\": 0}]}\n");
    place.check(
        &["enqueue", "--from", "jobs.ndjson"],
        2,
        &["jobs.ndjson:1:30: depends_on: position 0 is not an earlier job of the list", "nothing was enqueued"],
    );
    // Parts of a thousand: what is in an earlier one is named by its id.
    let mut long = "{\"kind\": \"ok\", \"hold\": true}\n".repeat(1_500);
    long += "{\"kind\": \"ok\", \"depends_on\": [{\"position\": 3}, {\"position\": 1400}, {\"job\": \"1\"}]}\n";
    place.write("jobs.ndjson", long.as_bytes());
    let said = place.check(&["enqueue", "--from", "jobs.ndjson", "-o", "json"], 0, &["\"state\":\"blocked\""]);
    let ids: Vec<Value> =
        said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
    let last = ids[1_500].as_str().unwrap();
    let shown = place.check(&["job", "show", last, "-o", "json"], 0, &[]);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(shown["depends_on"], Value::from(vec![ids[3].clone(), ids[1_400].clone(), Value::from("1")]));
}

#[test]
fn nothing_runs_on_a_restored_store_until_somebody_has_looked() {
    let place = Place::with_store();
    place.check(&["enqueue", "ok"], 0, &["1"]);
    place.check(&["store", "backup", "backup"], 0, &[]);
    place.check(&["store", "restore", "backup", "runner-data", "--replace"], 0, &["runner queue resume --all"]);
    place.write("jobs.ndjson", b"{\"kind\": \"ok\"}\n");
    place.check(&["run", "jobs.ndjson", "--plugins", "plugins"], 4, &["nothing was enqueued", "queue resume --all"]);
    let _server = place.serve(&[]);
    place.check(&["job", "why", "1"], 0, &["paused: nothing runs since the store was restored"]);
    place.check(&["job", "wait", "1", "--timeout", "50ms"], 12, &["it is available"]);
    place.check(&["events", "--since", "0"], 3, &["the store was restored", "the oldest that can be read is"]);
    place.check(&["queue", "list"], 0, &["nothing runs since the store was restored"]);
    place.check(&["queue", "resume", "--all"], 0, &["all queues run"]);
    place.check(&["job", "wait", "1"], 0, &["completed"]);
}
