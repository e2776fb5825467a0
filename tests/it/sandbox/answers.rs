//! What handlers answer, as components and as WASI commands.

use runner_store::job::outcome::{Outcome, OutcomeName};
use runner_store::job::time::Millis;

use super::guests::{command, command_with, handler, says};
use super::{check, check_trap, compile, compile_with, request, run};

#[test]
fn a_handler_sees_its_args_and_answers() {
    // Answers its args: pointer and length are at 32 and 36 of the job's record.
    let echo = handler(
        "(i32.store (i32.const 68) (i32.load offset=32 (local.get $job)))
         (i32.store (i32.const 72) (i32.load offset=36 (local.get $job))) (i32.const 64)",
    );
    let report = check(&echo, |_| {}, OutcomeName::Completed);
    assert_eq!(report.outcome, Outcome::Completed { output: br#"{"n":1}"#.to_vec() });
    assert!(report.fuel_used > 0 && report.memory_peak_bytes == 1 << 20);
}

#[test]
fn a_handler_sees_times_as_rfc_3339() {
    let enqueued_at = handler(
        "(i32.store (i32.const 68) (i32.load offset=56 (local.get $job)))
         (i32.store (i32.const 72) (i32.load offset=60 (local.get $job))) (i32.const 64)",
    );
    let report = check(&enqueued_at, |_| {}, OutcomeName::Completed);
    assert_eq!(report.outcome, Outcome::Completed { output: b"2023-11-14T22:13:20.123Z".to_vec() });
}

#[test]
fn the_three_failures_are_three_outcomes() {
    let check =
        |body: &str, expected: Outcome| assert_eq!(check(&handler(body), |_| {}, expected.name()).outcome, expected);
    let failure = |kind: u32, rest: &str| {
        format!(
            "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store8 (i32.const 68) (i32.const {kind}))
             (i32.store (i32.const 128) (i32.const 0x79687721)) {rest} (i32.const 64)"
        )
    };
    let words = "(i32.store (i32.const 72) (i32.const 128)) (i32.store (i32.const 76) (i32.const 4))";
    let after = "(i32.store8 (i32.const 80) (i32.const 1)) (i32.store (i32.const 84) (i32.const 1500))";
    let message = "!why".to_owned();
    check(&failure(0, words), Outcome::Failed { message: message.clone(), retry_after: None });
    let retry_after = Some(Millis(1_500));
    check(&failure(0, &format!("{words} {after}")), Outcome::Failed { message: message.clone(), retry_after });
    check(&failure(1, words), Outcome::Discarded { reason: message });
    // A snooze below 100 ms is one of 100 ms.
    let snooze = "(i32.store (i32.const 72) (i32.const 3))";
    check(&failure(2, snooze), Outcome::Snoozed { delay: Millis(100), reason: None });
}

#[test]
fn a_command_answers_with_its_last_line_or_its_exit_code() {
    let check = |stdout: &str, stderr: &str, exit: i32, expected: Outcome| {
        let report = check(&says(stdout, stderr, exit), |_| {}, expected.name());
        assert_eq!(report.outcome, expected);
        report
    };
    let failed = |message: &str| Outcome::Failed { message: message.to_owned(), retry_after: None };
    check("working\n{\"ok\": [1]}\n", "", 0, Outcome::Completed { output: b"[1]".to_vec() });
    let report = check("only a log\n", "", 0, Outcome::Completed { output: vec![] });
    assert_eq!(report.log.shown(), "only a log\n");
    check("{\"ok\": 1}\nmore\n", "", 0, Outcome::Completed { output: vec![] });
    check("{\"discard\": \"why\"}", "", 1, Outcome::Discarded { reason: "why".to_owned() });
    let snoozed = Outcome::Snoozed { delay: Millis(300_000), reason: Some("busy".to_owned()) };
    check("{\"snooze\": \"5m\", \"why\": \"busy\"}\n", "", 0, snoozed);
    check("", "try later", 75, failed("try later"));
    check("", "", 75, failed("asked to be tried again (exit code 75)"));
    check("", "first\nlast\n", 3, failed("first\nlast"));
    check("{\"ok\": 1}\n", "", 3, failed("ended with exit code 3"));
    check_trap(&says("{\"okay\": 1}\n", "", 0), |_| {}, "bad_answer");
    check_trap(&says("{nonsense\n", "", 0), |_| {}, "bad_answer");
}

#[test]
fn a_command_reads_its_job_from_stdin() {
    // Writes what it reads to stderr, so that the log has it.
    let plugin = compile(&command(
        "(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 65536))
         (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
         (call $print (i32.const 2) (i32.const 1024) (i32.load (i32.const 8)))",
    ));
    let report = run(&plugin, request(&plugin));
    let input: serde_json::Value = serde_json::from_str(&report.log.shown()).expect("stdin is JSON");
    assert_eq!(input["id"], "7");
    assert_eq!(input["args"]["n"], 1);
    assert_eq!(input["enqueued_at"], "2023-11-14T22:13:20.123Z");
}

#[test]
fn a_command_enqueues_with_its_answer_what_it_was_granted() {
    let guest = says(r#"{"ok": 1, "enqueue": [{"kind": "mail.send", "args": {"to": "x"}, "queue": "m"}]}"#, "", 0);
    let plugin = compile_with(&guest, "[allow]\nenqueue = [\"mail.*\"]");
    let mut granted = request(&plugin);
    granted.ids = Some(std::sync::Arc::new(|| Some(41)));
    let report = run(&plugin, granted);
    let [job] = &report.enqueues[..] else { panic!("{:?}", report.outcome) };
    assert_eq!((job.id, job.spec.kind.as_str(), job.spec.queue.as_str()), (41, "mail.send", "m"));
    assert_eq!(job.spec.args, br#"{"to": "x"}"#);
    let denied = run(&compile(&guest), request(&compile(&guest)));
    assert!(matches!(&denied.outcome, Outcome::Failed { message, .. } if message.contains("denied")));
    assert!(denied.enqueues.is_empty());
}

#[test]
fn an_answer_larger_than_any_may_be_is_too_large() {
    let large = command_with(
        r#"(data (i32.const 1024) "{\"ok\":\"")"#,
        "(call $print (i32.const 1) (i32.const 1024) (i32.const 7))
         (memory.fill (i32.const 65536) (i32.const 120) (i32.const 2097152))
         (call $print (i32.const 1) (i32.const 65536) (i32.const 2097152))
         (call $print (i32.const 1) (i32.const 65536) (i32.const 2097152))
         (call $print (i32.const 1) (i32.const 65536) (i32.const 2097152))",
    );
    check(&large, |limits| limits.timeout = Millis::secs(30), OutcomeName::OutputTooLarge);
}
