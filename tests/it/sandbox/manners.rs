//! Calls that guests make: logs, grants, staged effects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use runner_runtime::wasm::LogSource;
use runner_store::job::outcome::{Outcome, OutcomeName};

use super::guests::{RESULT, handler_with, says};
use super::{check, compile_with, request, run};

const ENQUEUE: &str = r#"
  (import "runner:plugin/host@0.1.0" "enqueue" (func $enqueue (param i32 i32 i32 i32 i32 i32 i32)))
  (data (i32.const 256) "mail.send") (data (i32.const 272) "{}") (data (i32.const 280) "[1]")"#;
/// Enqueues `mail.send`; its result lies at 512: 0 is ok, then pointer and length of the id or the error's code.
const ENQUEUE_MAIL: &str = "(call $enqueue (i32.const 256) (i32.const 9) (i32.const 272) (i32.const 2)
   (i32.const 0) (i32.const 0) (i32.const 512))";
/// Answers with the text that the last call answered first: the id, or the code of its error.
const ANSWER_TEXT: &str = "(i32.store (i32.const 68) (i32.load (i32.const 516)))
   (i32.store (i32.const 72) (i32.load (i32.const 520))) (i32.const 64)";

#[track_caller]
fn check_enqueue(manifest: &str, body: &str, expected: &str) -> usize {
    let plugin = compile_with(&handler_with(ENQUEUE, &format!("{body} {ANSWER_TEXT}")), manifest);
    let (mut request, next) = (request(&plugin), AtomicU64::new(100));
    request.ids = Some(Arc::new(move || Some(next.fetch_add(1, Ordering::Relaxed))));
    let report = run(&plugin, request);
    let Outcome::Completed { output } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert_eq!(String::from_utf8_lossy(output), expected);
    report.enqueues.len()
}

#[test]
fn a_run_enqueues_what_the_manifest_grants() {
    let granted = "[allow]\nenqueue = [\"mail.*\"]";
    assert_eq!(check_enqueue(granted, ENQUEUE_MAIL, "100"), 1);
    assert_eq!(check_enqueue("", ENQUEUE_MAIL, "denied"), 0);
    assert_eq!(check_enqueue("[allow]\nenqueue = [\"image.*\"]", ENQUEUE_MAIL, "denied"), 0);
    let twice = format!("{ENQUEUE_MAIL} {ENQUEUE_MAIL}");
    assert_eq!(check_enqueue(&format!("{granted}\n[limits]\nenqueues = 1"), &twice, "limit"), 1);
    assert_eq!(check_enqueue(&format!("{granted}\n[limits]\nstaged = \"8B\""), ENQUEUE_MAIL, "limit"), 0);
    // Options that are a list.
    let options = ENQUEUE_MAIL.replace("(i32.const 0) (i32.const 0)", "(i32.const 280) (i32.const 3)");
    assert_eq!(check_enqueue(granted, &options, "invalid"), 0);
}

#[test]
fn without_reserved_ids_enqueue_is_unavailable() {
    let guest = handler_with(ENQUEUE, &format!("{ENQUEUE_MAIL} {ANSWER_TEXT}"));
    let plugin = compile_with(&guest, "[allow]\nenqueue = [\"*\"]");
    let report = run(&plugin, request(&plugin));
    assert_eq!(report.outcome, Outcome::Completed { output: b"unavailable".to_vec() });
}

#[test]
fn effects_of_a_run_that_failed_never_happened() {
    let plugin =
        compile_with(&handler_with(ENQUEUE, &format!("{ENQUEUE_MAIL} unreachable")), "[allow]\nenqueue = [\"*\"]");
    let mut request = request(&plugin);
    request.ids = Some(Arc::new(|| Some(1)));
    let report = run(&plugin, request);
    assert_eq!(report.outcome.name(), OutcomeName::Trapped);
    assert!(report.enqueues.is_empty());
}

#[test]
fn what_is_not_granted_is_denied_and_never_a_trap() {
    let get = r#"(import "runner:plugin/kv@0.1.0" "get" (func $get (param i32 i32 i32)))"#;
    let guest = handler_with(get, &format!("(call $get (i32.const 0) (i32.const 1) (i32.const 512)) {ANSWER_TEXT}"));
    let report = check(&guest, |_| {}, OutcomeName::Completed);
    assert_eq!(report.outcome, Outcome::Completed { output: b"denied".to_vec() });
}

#[test]
fn a_panics_message_is_the_message_of_the_trap() {
    let log = r#"(import "runner:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
      (data (i32.const 256) "no such image: \1b[31mx")"#;
    let guest = handler_with(log, "(call $log (i32.const 4) (i32.const 256) (i32.const 21)) unreachable");
    let report = check(&guest, |_| {}, OutcomeName::Trapped);
    let Outcome::Trapped { code, message, backtrace } = &report.outcome else { unreachable!("checked by name") };
    assert_eq!((code.as_str(), message.as_str()), ("unreachable", "no such image: \\u{1b}[31mx"));
    assert!(backtrace.as_ref().is_some_and(|text| text.contains("handle")), "{backtrace:?}");
    assert_eq!(report.log.lines().next().map(|line| line.source), Some(LogSource::Error));
}

#[test]
fn a_rust_panic_is_shown_without_its_advice() {
    let stderr =
        "thread 'main' panicked at src/main.rs:1:1:\nboo\nnote: run with `RUST_BACKTRACE=1` environment variable\n";
    let report = check(&says("", stderr, 101), |_| {}, OutcomeName::Failed);
    let Outcome::Failed { message, .. } = &report.outcome else { unreachable!("checked by name") };
    assert_eq!(message, "thread 'main' panicked at src/main.rs:1:1:\nboo");
}

#[test]
fn progress_and_checkpoint_are_in_the_report() {
    let imports = r#"
      (import "runner:plugin/host@0.1.0" "progress" (func $progress (param i32 i32 i32)))
      (import "runner:plugin/host@0.1.0" "checkpoint" (func $checkpoint (param i32 i32 i32)))
      (data (i32.const 256) "half")"#;
    let body = format!(
        "(call $progress (i32.const 200) (i32.const 256) (i32.const 4))
         (call $checkpoint (i32.const 256) (i32.const 2) (i32.const 512)) {RESULT}"
    );
    let report = check(&handler_with(imports, &body), |_| {}, OutcomeName::Completed);
    assert_eq!(report.progress, Some((100, "half".to_owned())));
    assert_eq!(report.checkpoint, Some(b"ha".to_vec()));
}

/// A checkpoint that is refused is none: what was kept before stays, and the run can tell.
#[test]
fn a_checkpoint_that_is_too_large_changes_nothing() {
    let imports = r#"
      (import "runner:plugin/host@0.1.0" "checkpoint" (func $checkpoint (param i32 i32 i32)))
      (import "runner:plugin/host@0.1.0" "progress" (func $progress (param i32 i32 i32)))
      (data (i32.const 256) "kept")"#;
    // A byte more than 256 KiB; the answer's first byte is 1 for an error, and is shown as progress.
    let body = format!(
        "(call $checkpoint (i32.const 256) (i32.const 4) (i32.const 512))
         (call $checkpoint (i32.const 0) (i32.const 262145) (i32.const 544))
         (call $progress (i32.load8_u (i32.const 544)) (i32.const 256) (i32.const 4)) {RESULT}"
    );
    let report = check(&handler_with(imports, &body), |_| {}, OutcomeName::Completed);
    assert_eq!((report.checkpoint, report.progress), (Some(b"kept".to_vec()), Some((1, "kept".to_owned()))));
    // The same where it would fit but for what the run may stage in all.
    let small = body.replace("262145", "5000");
    let report = check(&handler_with(imports, &small), |limits| limits.staged_bytes = 4_096, OutcomeName::Completed);
    assert_eq!((report.checkpoint, report.progress), (Some(b"kept".to_vec()), Some((1, "kept".to_owned()))));
}

#[test]
fn stdout_and_stderr_are_the_log_with_what_was_left_open() {
    let report = check(&says("one\ntwo", "three", 0), |_| {}, OutcomeName::Completed);
    assert_eq!(report.log.shown(), "one\ntwo\nthree\n");
}
