//! Instances that are kept from run to run, where the manifest says so: what they keep, and when they are dropped.

use std::sync::Arc;

use runner_runtime::wasm::grants::Grants;
use runner_runtime::wasm::{Plugin, RunReport, RunRequest};
use runner_store::job::outcome::{Outcome, OutcomeName};
use runner_store::job::time::Millis;

use super::guests::{CONTRACT, component_in, export, handler_with, module};
use super::{compile_with, request, run};

const KEPT: &str = "[instance]\nreuse = { max_runs = 3 }";
const COUNT: &str = "(global $runs (mut i32) (i32.const 0))";
/// Answers with how many runs this instance has had, as one digit.
const ANSWER: &str = "(i32.store8 (i32.const 128) (i32.add (global.get $runs) (i32.const 48)))
  (i32.store (i32.const 68) (i32.const 128)) (i32.store (i32.const 72) (i32.const 1)) (i32.const 64)";
const ONE_MORE: &str = "(global.set $runs (i32.add (global.get $runs) (i32.const 1)))";
/// Whether the job's args begin with `x`: the one that is to be different.
const IS_X: &str = "(i32.eq (i32.load8_u (i32.load offset=32 (local.get $job))) (i32.const 120))";

/// A handler that answers with how many runs its instance has had.
pub(crate) fn counts() -> Vec<u8> {
    handler_with(COUNT, &format!("{ONE_MORE} {ANSWER}"))
}

/// Counts its runs; does this where its args begin with `x`.
fn counting(on_x: &str, manifest: &str) -> Arc<Plugin> {
    let body = format!("{ONE_MORE} (if {IS_X} (then {on_x})) {ANSWER}");
    compile_with(&handler_with(COUNT, &body), manifest)
}

fn with(plugin: &Arc<Plugin>, change: impl FnOnce(&mut RunRequest)) -> RunReport {
    let mut request = request(plugin);
    change(&mut request);
    run(plugin, request)
}

/// How many runs the instance of this run has had.
#[track_caller]
fn runs(plugin: &Arc<Plugin>) -> u8 {
    let report = with(plugin, |_| {});
    let Outcome::Completed { output } = &report.outcome else { panic!("{:?}", report.outcome) };
    output[0] - b'0'
}

fn x(request: &mut RunRequest) {
    request.job.args = b"x".to_vec();
}

#[test]
fn an_instance_is_kept_for_as_many_runs_as_the_manifest_says() {
    let plugin = counting("", KEPT);
    assert_eq!(plugin.describe().reuse, Some(3));
    assert_eq!([(); 7].map(|()| runs(&plugin)), [1, 2, 3, 1, 2, 3, 1]);
    assert_eq!(plugin.kept(), 1);
    for never in ["", "[instance]\nreuse = \"never\""] {
        let plugin = counting("", never);
        assert_eq!([(); 3].map(|()| runs(&plugin)), [1, 1, 1]);
        assert_eq!((plugin.kept(), plugin.describe().reuse), (0, None));
    }
}

#[test]
fn a_command_and_a_batch_are_never_kept() {
    let command = compile_with(&super::guests::command(""), KEPT);
    assert_eq!(with(&command, |_| {}).outcome.name(), OutcomeName::Completed);
    assert_eq!((command.describe().reuse, command.kept()), (None, 0));
}

#[track_caller]
fn dropped_after(on_x: &str, name: OutcomeName, change: impl FnOnce(&mut RunRequest)) {
    let plugin = counting(on_x, KEPT);
    assert_eq!(runs(&plugin), 1);
    let report = with(&plugin, |request| {
        x(request);
        change(request);
    });
    assert_eq!(report.outcome.name(), name);
    assert_eq!(runs(&plugin), 1, "a fresh instance after {name:?}");
}

#[test]
fn an_instance_whose_run_broke_is_dropped() {
    dropped_after("unreachable", OutcomeName::Trapped, |_| {});
    dropped_after("(loop $again (br $again))", OutcomeName::TimedOut, |request| request.limits.timeout = Millis(50));
    dropped_after("(loop $again (br $again))", OutcomeName::OutOfFuel, |request| request.limits.fuel = Some(100_000));
    dropped_after("(loop $again (br $again))", OutcomeName::Cancelled, |request| request.cancel.cancel());
    // It copes with the refusal and completes; what it will do with its next run nobody knows.
    dropped_after("(drop (memory.grow (i32.const 60000)))", OutcomeName::Completed, |_| {});
}

#[test]
fn a_cancelled_run_that_completes_drops_its_instance() {
    dropped_after("", OutcomeName::Completed, |request| {
        request.limits.cancel_grace = Millis::secs(10);
        request.cancel.cancel();
    });
}

#[test]
fn a_failure_that_the_handler_answered_drops_nothing() {
    let plugin = counting("(i32.store8 (i32.const 64) (i32.const 1)) (return (i32.const 64))", KEPT);
    assert_eq!(with(&plugin, x).outcome.name(), OutcomeName::Failed);
    assert_eq!(plugin.kept(), 1);
}

#[test]
fn other_grants_get_an_instance_of_their_own() {
    let plugin = counting("", KEPT);
    assert_eq!(runs(&plugin), 1);
    let others = Grants::own(plugin.grants().asked().clone());
    let report = with(&plugin, |request| request.grants = others);
    assert_eq!(report.outcome, Outcome::Completed { output: b"1".to_vec() });
    assert_eq!(runs(&plugin), 2);
}

#[test]
fn another_version_has_other_instances() {
    let (one, two) = (counting("", KEPT), counting("(nop)", KEPT));
    assert_eq!([runs(&one), runs(&one), runs(&two), runs(&one)], [1, 2, 1, 3]);
}

#[test]
fn fuel_and_host_calls_are_those_of_each_run() {
    let log = r#"(import "runner:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
      (global $runs (mut i32) (i32.const 0)) (data (i32.const 256) "said")"#;
    let body = format!("{ONE_MORE} (call $log (i32.const 2) (i32.const 256) (i32.const 4)) {ANSWER}");
    let plugin = compile_with(&handler_with(log, &body), KEPT);
    let reports = [(); 3].map(|()| with(&plugin, |_| {}));
    assert_eq!(reports[1].fuel_used, reports[2].fuel_used);
    assert!(reports[1].fuel_used > 0);
    assert_eq!(reports.each_ref().map(|report| report.host_calls), [1, 1, 1]);
    assert_eq!(reports.each_ref().map(|report| report.log.shown()), ["said\n"; 3]);
    assert_eq!(reports.each_ref().map(|report| report.memory_peak_bytes), [1 << 20; 3]);
}

#[test]
fn an_instance_with_more_memory_than_a_run_may_have_is_not_used_for_it() {
    let plugin = counting("(drop (memory.grow (i32.const 16)))", KEPT);
    assert_eq!(with(&plugin, x).memory_peak_bytes, 2 << 20);
    assert_eq!(plugin.kept(), 1);
    let report = with(&plugin, |request| request.limits.memory_bytes = 1 << 20);
    assert_eq!(report.outcome, Outcome::Completed { output: b"1".to_vec() });
}

/// A guest that asks for its standard output once and keeps what it got, as language runtimes do.
const STDOUT: &str = r#"package test:guest;
  package wasi:io@0.2.0 {
    interface error { resource error; }
    interface streams {
      use error.{error};
      variant stream-error { last-operation-failed(error), closed }
      resource output-stream {
        blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>;
      }
    }
  }
  package wasi:cli@0.2.0 {
    interface stdout { use wasi:io/streams@0.2.0.{output-stream}; get-stdout: func() -> output-stream; }
  }
  world guest { import wasi:cli/stdout@0.2.0; export runner:plugin/handler@0.1.0; }"#;

#[test]
fn what_a_kept_instance_prints_is_in_the_log_of_the_run_that_prints_it() {
    let imports = r#"(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
      (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
        (func $write (param i32 i32 i32 i32)))
      (global $runs (mut i32) (i32.const 0)) (global $out (mut i32) (i32.const -1))"#;
    let body = format!(
        "{ONE_MORE} (if (i32.eq (global.get $out) (i32.const -1)) (then (global.set $out (call $stdout))))
         (i32.store8 (i32.const 128) (i32.add (global.get $runs) (i32.const 48)))
         (call $write (global.get $out) (i32.const 128) (i32.const 1) (i32.const 512)) {ANSWER}"
    );
    let functions = [imports, &export("handler", "handle", "(param $job i32) (result i32)", &body)].concat();
    let plugin = compile_with(&component_in(CONTRACT, &[STDOUT], &module(&functions)), KEPT);
    let logs = [(); 4].map(|()| with(&plugin, |_| {}).log.shown());
    assert_eq!(logs, ["1\n", "2\n", "3\n", "1\n"]);
}

#[test]
fn an_instance_that_leaves_resources_open_is_dropped() {
    // Each run asks for ten more standard outputs and gives none back.
    let imports = r#"(import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
      (global $runs (mut i32) (i32.const 0))"#;
    let body = format!("{ONE_MORE} {} {ANSWER}", "(drop (call $stdout))".repeat(10));
    let functions = [imports, &export("handler", "handle", "(param $job i32) (result i32)", &body)].concat();
    let plugin = compile_with(&component_in(CONTRACT, &[STDOUT], &module(&functions)), KEPT);
    assert_eq!([(); 4].map(|()| runs(&plugin)), [1, 2, 1, 2], "its second run left more open than its first");
}
