//! `runner run`: lists that are right, and lists that are not.

use std::fmt::Write as _;
use std::process::Stdio;

use serde_json::Value;

use super::{Place, Said, until};

const RUN: [&str; 4] = ["run", "jobs.ndjson", "--plugins", "plugins"];

impl Place {
    fn run(&self, list: &str, more: &[&str]) -> Said {
        self.write("jobs.ndjson", list.as_bytes());
        self.runner(&[&RUN, more].concat())
    }
}

#[test]
fn a_list_runs_to_its_end_and_the_table_says_how() {
    let place = Place::new();
    let list =
        "\u{feff}{\"kind\": \"ok\"}\r\n\r\n{\"kind\": \"no\", \"max_attempts\": 1, \"expect\": \"discarded\"}\r\n";
    let said = place.run(list, &[]);
    said.check(0, &["ID", "not today", "2 jobs, 2 as expected, 0 not; 2 runs"]);
    assert_eq!(said.out.lines().count(), 3, "{}", said.out);
    place.runner(&RUN).check(0, &["have ended already; --again", "2 jobs, 2 as expected"]);
    let again = place.runner(&[&RUN[..], &["--again", "-o", "json"]].concat());
    let rows: Vec<Value> = again.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((again.code, rows.len()), (Some(0), 2), "{}", again.err);
    assert_eq!((&rows[1]["state"], &rows[1]["as_expected"]), (&Value::from("discarded"), &Value::from(true)));
    assert_ne!(rows[0]["id"], "1", "--again runs new jobs");
}

#[test]
fn what_ends_otherwise_than_expected_fails_the_run() {
    let place = Place::new();
    let list = "{\"kind\": \"ok\", \"expect\": \"discarded\"}\n{\"kind\": \"no\", \"max_attempts\": 1}\n";
    place
        .run(list, &["--store", "memory"])
        .check(1, &["NO", "expected discarded", "expected completed: ", "0 as expected, 2 not"]);
    assert!(!place.path("runner-data").exists(), "a store in memory leaves nothing");
}

#[test]
fn of_many_jobs_only_the_unexpected_are_shown_and_the_totals() {
    let place = Place::new();
    let mut list = "{\"kind\": \"ok\"}\n".repeat(300);
    writeln!(list, "{{\"kind\": \"no\", \"max_attempts\": 1}}").unwrap();
    let said = place.run(&list, &["--store", "memory"]);
    said.check(1, &["not today", "301 jobs, 300 as expected, 1 not"]);
    assert!(said.out.lines().count() < 10 && said.out.contains("300   300"), "{}", said.out);
}

#[test]
fn files_become_args() {
    let place = Place::new();
    place.write("a.bin", &[0, 255]);
    let list = r#"{"kind": "ok", "args_file": "a.bin"}
        {"kind": "ok", "args_file": "a.bin", "args": {"w":1}}"#;
    place.run(list, &[]).check(0, &[]);
    place.check(&["job", "show", "1", "-o", "json"], 0, &["\"args_base64\":\"AP8=\""]);
    place.check(
        &["job", "show", "2", "-o", "json"],
        0,
        &[r#""args":{"w":1, "file_base64": "AP8=", "file_name": "a.bin"}"#],
    );
    // Another content is another list, although the list reads the same.
    place.write("a.bin", &[1]);
    place.runner(&RUN).check(0, &["2 jobs, 2 as expected"]);
    let said = place.check(&["job", "list", "-o", "json"], 0, &[]);
    assert_eq!(said.out.lines().count(), 4, "{}", said.out);
}

#[test]
fn a_list_that_is_wrong_is_refused_whole_with_line_and_column() {
    let place = Place::new();
    let refused = |list: &str, words: &[&str]| {
        place.run(list, &[]).check(2, words);
        assert!(!place.path("runner-data").exists(), "nothing was enqueued");
    };
    let good = "{\"kind\": \"ok\"}\n".repeat(16);
    refused(
        &format!("{good}{{\"kind\": \"ok\" \"x\": 1}}\n"),
        &["jobs.ndjson:17:15: expected `,` or `}`", "nothing was enqueued"],
    );
    refused(
        "{\"kind\": \"ok\", \"prio\": 1}",
        &["jobs.ndjson:1:24: prio: is no known field; did you mean `priority`?"],
    );
    refused(
        "{\"kind\": \"ok\", \"delay\": 5}",
        &["jobs.ndjson:1:25: delay: must be a text with a unit, for example \"60s\""],
    );
    refused("{\"kind\": \"ok\", \"delay\": \"5 min\"}", &["`min` is not a unit of time (units: ms, s, m, h, d)"]);
    refused(
        "{\"kind\": \"ok\"}\n\n{\"kind\": \"okk\"}",
        &["jobs.ndjson:3:10: no plugin in `plugins` provides kind `okk`; did you mean `ok`?"],
    );
    refused("{\"kind\": \"ok\", \"hold\": true}", &["jobs.ndjson:1:24: hold: a job on hold never ends"]);
    refused("{\"kind\": \"ok\", \"args_file\": \"gone\"}", &["jobs.ndjson:1:29: args_file: `gone` does not exist"]);
    refused(
        &format!("{{\"kind\": \"ok\", \"args\": \"{}\"}}", "x".repeat(1 << 20)),
        &["jobs.ndjson:1:24: args: 1048578 bytes; the limit is"],
    );
    refused("", &["`jobs.ndjson` has no jobs"]);
    place.write("jobs.ndjson", b"{\"kind\": \"ok\"}\n\xff");
    place.check(&RUN, 2, &["jobs.ndjson:2:1: is not UTF-8"]);
    place.check(&["run", "none.ndjson", "--plugins", "plugins"], 2, &["`none.ndjson` does not exist"]);
    place.check(&["run", "plugins", "--plugins", "plugins"], 2, &["`plugins`: it is a folder"]);
}

#[test]
fn a_run_that_is_interrupted_goes_on_with_the_same_command() {
    let place = Place::new();
    place.write("jobs.ndjson", b"{\"kind\": \"spin\", \"timeout\": \"1h\"}\n{\"kind\": \"ok\"}\n");
    let args = [&RUN[..], &["--grace", "0s"]].concat();
    let child = place.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let slots = place.path("runner-data/running.slots");
    // Its handler was entered: only then there is something to interrupt.
    until("a run has started", || {
        runner_store::slots::previous(&slots).ok().flatten().is_some_and(|previous| !previous.started.is_empty())
    });
    super::server::signal(&child, "TERM");
    Said::from(child.wait_with_output().unwrap()).check(1, &["interrupted with", "the same command goes on"]);
    let said = place.check(&["job", "show", "1", "-o", "json"], 0, &[]);
    let job: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&job["state"], &job["attempts"]), (&Value::from("available"), &Value::from(0)), "no attempt was burnt");
    // It goes on: the job that was interrupted is the one that a signal interrupts again.
    place.check(&["job", "cancel", "1"], 0, &["1 cancelled"]);
    place.runner(&RUN).check(1, &["2 jobs, 1 as expected, 1 not", "cancelled on request"]);
}

/// A list from somewhere else could rewrite the terminal of whoever ran it: complaints repeated its fields raw.
#[test]
fn complaints_escape_what_a_terminal_would_obey() {
    let place = Place::new();
    let said = place.run("{\"kind\": \"ok\", \"\\u001b[2Jwiped\": 1}\n", &[]);
    said.check(2, &["jobs.ndjson:1:34: \\u{1b}[2Jwiped: is no known field", "\nnothing was enqueued\n"]);
    assert!(!said.err.contains('\u{1b}'), "{:?}", said.err);
    place.write("plugins/a\u{1b}[31mred.wasm", b"");
    let said = place.runner(&["plugin", "list", "--plugins", "plugins"]);
    said.check(1, &["a\\u{1b}[31mred.wasm"]);
    assert!(!said.err.contains('\u{1b}'), "{:?}", said.err);
}
