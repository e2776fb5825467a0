//! Middleware around handlers: the order of the calls, and who is called when one fails.

use std::sync::Arc;

use runner_runtime::wasm::{BatchJob, CancelSignal, JobView, Manifest, Plugin, RunReport, RunRequest};
use runner_store::job::outcome::{Outcome, OutcomeName};
use runner_store::job::time::Millis;

use super::guests::{RESULT, component_of, export, handler_with, module};
use super::{compile_with, host, job, request, run};

const LOG: &str = r#"(import "runner:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (data (i32.const 256) "before") (data (i32.const 272) "after") (data (i32.const 288) "handle")"#;
const SAY_BEFORE: &str = "(call $log (i32.const 2) (i32.const 256) (i32.const 6))";
const SAY_AFTER: &str = "(call $log (i32.const 2) (i32.const 272) (i32.const 5))";
const SAY_HANDLE: &str = "(call $log (i32.const 2) (i32.const 288) (i32.const 6))";
/// A retry whose message is the word at 256, 272 or 288.
fn fails(at: u32, len: u32) -> String {
    format!(
        "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store8 (i32.const 68) (i32.const 0))
         (i32.store (i32.const 72) (i32.const {at})) (i32.store (i32.const 76) (i32.const {len})) (i32.const 64)"
    )
}
/// The answer of `after` that leaves the outcome as it is: the output, or the failure, of which this one knows `retry`.
const AS_IT_IS: &str = "(if (i32.eq (i32.load8_u offset=112 (local.get $both)) (i32.const 1))
    (then (memory.copy (i32.const 68) (i32.add (local.get $both) (i32.const 116)) (i32.const 20))
          (i32.store8 (i32.const 64) (i32.const 1)))
    (else (i32.store (i32.const 68) (i32.load offset=116 (local.get $both)))
          (i32.store (i32.const 72) (i32.load offset=120 (local.get $both)))))
  (i32.const 64)";
const SPIN: &str = "(loop $again (br $again)) unreachable";

fn layer(name: &str, before: &str, after: &str) -> Arc<Plugin> {
    layer_with(name, "", "", before, after)
}

fn layer_with(name: &str, manifest: &str, fields: &str, before: &str, after: &str) -> Arc<Plugin> {
    let functions = [
        LOG.to_owned(),
        fields.to_owned(),
        export("middleware", "before", "(param $job i32) (result i32)", &format!("{SAY_BEFORE} {before}")),
        export("middleware", "after", "(param $both i32) (result i32)", &format!("{SAY_AFTER} {after}")),
    ];
    let bytes = component_of(&["middleware"], &module(&functions.concat()));
    Arc::new(host().compile(name, &bytes, Manifest::parse(manifest).expect("is right")).expect("is a plugin"))
}

fn plain(name: &str) -> Arc<Plugin> {
    layer(name, RESULT, AS_IT_IS)
}

/// A handler that says that it was called and then does this.
fn handler(body: &str) -> Arc<Plugin> {
    compile_with(&handler_with(LOG, &format!("{SAY_HANDLE} {body}")), "")
}

fn around(layers: &[&Arc<Plugin>], plugin: &Arc<Plugin>, change: impl FnOnce(&mut RunRequest)) -> RunReport {
    let mut request = request(plugin);
    request.middleware = layers.iter().map(|layer| Arc::clone(layer)).collect();
    change(&mut request);
    run(plugin, request)
}

/// Who was called, in order: the lines of the log that are theirs.
fn calls(report: &RunReport) -> Vec<String> {
    let own = |line: &String| ["before", "after", "handle"].iter().any(|word| line.ends_with(word));
    report.log.shown().lines().map(str::to_owned).filter(own).collect()
}

#[track_caller]
fn check_calls(report: &RunReport, expected: &[&str]) {
    assert_eq!(calls(report), expected, "{:?}\n{}", report.outcome, report.log.shown());
}

#[test]
fn layers_are_called_from_the_outside_in_and_back() {
    let report = around(&[&plain("outer"), &plain("inner")], &handler(RESULT), |_| {});
    assert_eq!(report.outcome.name(), OutcomeName::Completed);
    check_calls(&report, &["outer: before", "inner: before", "handle", "inner: after", "outer: after"]);
}

#[test]
fn a_before_that_fails_ends_the_run_without_anything_further_in() {
    let (outer, inner) = (plain("outer"), plain("inner"));
    let no = layer("no", &fails(256, 6), AS_IT_IS);
    let report = around(&[&outer, &no, &inner], &handler(RESULT), |_| {});
    assert_eq!(report.outcome, Outcome::Failed { message: "before".to_owned(), retry_after: None });
    check_calls(&report, &["outer: before", "no: before", "outer: after"]);
    // A failure may be any: it is the job's, as if its handler had said so.
    let discards = "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store8 (i32.const 68) (i32.const 1))
      (i32.store (i32.const 72) (i32.const 256)) (i32.store (i32.const 76) (i32.const 6)) (i32.const 64)";
    let report = around(&[&layer("no", discards, AS_IT_IS)], &handler(RESULT), |_| {});
    assert_eq!(report.outcome, Outcome::Discarded { reason: "before".to_owned() });
}

#[test]
fn a_failure_of_the_handler_is_shown_to_every_layer_which_may_make_another_of_it() {
    let failing = handler(&fails(288, 6));
    let report = around(&[&plain("outer"), &plain("inner")], &failing, |_| {});
    assert_eq!(report.outcome, Outcome::Failed { message: "handle".to_owned(), retry_after: None });
    check_calls(&report, &["outer: before", "inner: before", "handle", "inner: after", "outer: after"]);
    let turns = layer("turns", RESULT, &fails(272, 5));
    let report = around(&[&plain("outer"), &turns], &failing, |_| {});
    assert_eq!(report.outcome, Outcome::Failed { message: "after".to_owned(), retry_after: None });
    let fixes = layer("fixes", RESULT, RESULT);
    let report = around(&[&fixes], &failing, |_| {});
    assert_eq!(report.outcome.name(), OutcomeName::Failed, "a failure becomes no result");
    assert!(report.log.shown().contains("middleware `fixes`: a failure may become another one"));
}

#[test]
fn a_completed_job_stays_completed_whatever_after_answers() {
    let report = around(&[&plain("outer"), &layer("no", RESULT, &fails(272, 5))], &handler(RESULT), |_| {});
    assert_eq!(report.outcome, Outcome::Completed { output: Vec::new() });
    assert!(report.log.shown().contains("middleware `no`: a completed job stays completed"), "{}", report.log.shown());
    // It may give another output, as the outer ones see and the job keeps.
    let gives = "(i32.store (i32.const 68) (i32.const 272)) (i32.store (i32.const 72) (i32.const 5)) (i32.const 64)";
    let report = around(&[&plain("outer"), &layer("gives", RESULT, gives)], &handler(RESULT), |_| {});
    assert_eq!(report.outcome, Outcome::Completed { output: b"after".to_vec() });
}

/// A handler that answers with its args.
const ECHO: &str = "(i32.store (i32.const 68) (i32.load offset=32 (local.get $job)))
  (i32.store (i32.const 72) (i32.load offset=36 (local.get $job))) (i32.const 64)";
/// `before` with other args: the word `handle`.
const OTHER_ARGS: &str = "(i32.store8 (i32.const 68) (i32.const 1)) (i32.store (i32.const 72) (i32.const 288))
  (i32.store (i32.const 76) (i32.const 6)) (i32.const 64)";

#[test]
fn args_are_replaced_for_what_is_inside_only() {
    // Answers with the args that it sees itself.
    let sees = "(i32.store (i32.const 68) (i32.load offset=32 (local.get $both)))
      (i32.store (i32.const 72) (i32.load offset=36 (local.get $both))) (i32.const 64)";
    let report = around(&[&layer("gives", OTHER_ARGS, AS_IT_IS)], &handler(ECHO), |_| {});
    assert_eq!(report.outcome, Outcome::Completed { output: b"handle".to_vec() });
    let (outer, gives) = (layer("outer", RESULT, sees), layer("gives", OTHER_ARGS, AS_IT_IS));
    let report = around(&[&outer, &gives], &handler(ECHO), |_| {});
    assert_eq!(report.outcome, Outcome::Completed { output: br#"{"n":1}"#.to_vec() }, "the outer one saw its own");
    let (gives, inner) = (layer("gives", OTHER_ARGS, AS_IT_IS), layer("inner", RESULT, sees));
    let report = around(&[&gives, &inner], &handler(ECHO), |_| {});
    assert_eq!(report.outcome, Outcome::Completed { output: b"handle".to_vec() });
}

#[test]
fn a_before_that_breaks_fails_the_run_by_its_name() {
    for (broken, words) in [("unreachable", "gave up"), (SPIN, "whole fuel")] {
        let breaks = layer_with("audit", "[limits]\nfuel = \"1M\"", "", broken, AS_IT_IS);
        let report = around(&[&plain("outer"), &breaks, &plain("inner")], &handler(RESULT), |_| {});
        let Outcome::PluginBroken { message } = &report.outcome else { panic!("{:?}", report.outcome) };
        assert!(message.starts_with("middleware `audit`") && message.contains(words), "{message}");
        assert_eq!(calls(&report).last().map(String::as_str), Some("outer: after"));
        assert!(!calls(&report).iter().any(|line| line.contains("inner") || line == "handle"));
        assert_eq!(report.charges.iter().map(|charge| charge.failures).collect::<Vec<_>>(), [0, 1, 0]);
    }
}

#[test]
fn an_after_that_breaks_changes_nothing_and_is_said() {
    let breaks = layer_with("audit", "[limits]\nfuel = \"1M\"", "", RESULT, SPIN);
    let report = around(&[&plain("outer"), &breaks], &handler(RESULT), |_| {});
    assert_eq!(report.outcome.name(), OutcomeName::Completed);
    assert!(report.log.shown().contains("middleware `audit`: `after` broke, the outcome stands"));
    assert_eq!(calls(&report).last().map(String::as_str), Some("outer: after"));
}

/// Puts the name of an ended outcome, or nothing, into its log.
const SAY_ENDED: &str = "(if (i32.eq (i32.load8_u offset=112 (local.get $both)) (i32.const 2))
  (then (call $log (i32.const 2) (i32.load offset=116 (local.get $both)) (i32.load offset=120 (local.get $both)))))
  (i32.const 64)";

#[test]
fn what_the_runner_ended_is_told_to_every_layer_in_a_second_of_its_own() {
    let check = |handle: &str, change: &dyn Fn(&mut RunRequest), name: OutcomeName| {
        let report = around(&[&layer("audit", RESULT, SAY_ENDED)], &handler(handle), |request| change(request));
        assert_eq!(report.outcome.name(), name);
        let told = format!("audit: {}", name.as_str());
        assert!(report.log.shown().lines().any(|line| line == told), "{}", report.log.shown());
    };
    check("unreachable", &|_| {}, OutcomeName::Trapped);
    check(SPIN, &|request| request.limits.fuel = Some(1_000_000), OutcomeName::OutOfFuel);
    check(SPIN, &|request| request.limits.timeout = Millis(300), OutcomeName::TimedOut);
    check(ECHO, &|request| request.limits.output_bytes = 1, OutcomeName::OutputTooLarge);
    // Its answer says `ok`, and changes nothing.
    let report = around(&[&layer("fixes", RESULT, RESULT)], &handler("unreachable"), |_| {});
    assert_eq!(report.outcome.name(), OutcomeName::Trapped);
}

#[test]
fn a_job_that_is_cancelled_in_before_reaches_no_handler() {
    let (outer, spins) = (layer("outer", RESULT, SAY_ENDED), layer("spins", SPIN, AS_IT_IS));
    let report = around(&[&outer, &spins], &handler(RESULT), |request| request.cancel.cancel());
    assert_eq!(report.outcome, Outcome::Cancelled);
    // What is cancelled before it began may have met no layer at all.
    assert!(!calls(&report).iter().any(|line| line == "handle" || line == "spins: after"));
}

#[test]
fn the_time_out_of_the_job_is_around_its_layers() {
    let spins = layer("spins", SPIN, AS_IT_IS);
    let report = around(&[&spins], &handler(RESULT), |request| request.limits.timeout = Millis(50));
    let Outcome::PluginBroken { message } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert!(message.starts_with("middleware `spins`: stopped at its time-out"), "{message}");
}

#[test]
fn a_layer_stages_nothing_and_has_the_grants_of_its_own_plugin() {
    let fields = r#"(import "runner:plugin/kv@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))
      (import "runner:plugin/config@0.1.0" "get" (func $get (param i32 i32 i32)))
      (import "runner:plugin/host@0.1.0" "checkpoint" (func $checkpoint (param i32 i32 i32)))"#;
    // Fails unless kv and checkpoint are denied (1) and its setting is readable (0).
    let before = "(call $set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 512))
      (call $checkpoint (i32.const 0) (i32.const 1) (i32.const 544))
      (call $get (i32.const 256) (i32.const 6) (i32.const 576))
      (if (i32.or (i32.or (i32.eqz (i32.load8_u (i32.const 512))) (i32.eqz (i32.load8_u (i32.const 544))))
          (i32.load8_u (i32.const 576))) (then unreachable)) (i32.const 64)";
    let asks = layer_with("asks", "[allow]\nkv = true\nconfig = [\"before\"]", fields, before, AS_IT_IS);
    let report = around(&[&asks], &handler(RESULT), |_| {});
    assert_eq!(report.outcome.error(), None);
    assert_eq!((report.kv.len(), report.checkpoint), (0, None));
}

#[test]
fn what_layers_use_is_charged_to_who_configured_them() {
    let alone = around(&[], &handler(RESULT), |_| {});
    let report = around(&[&plain("outer"), &plain("inner")], &handler(RESULT), |_| {});
    assert_eq!(report.fuel_used, alone.fuel_used, "the job's own fuel is its handler's");
    let charged: Vec<_> =
        report.charges.iter().map(|charge| (charge.tenant.as_str(), charge.plugin.as_str())).collect();
    assert_eq!(charged, [("default", "outer"), ("default", "inner")]);
    assert!(report.charges.iter().all(|charge| charge.fuel > 0 && charge.failures == 0));
    assert!(alone.charges.is_empty());
}

#[test]
fn a_failure_that_a_layer_makes_of_a_snooze_keeps_no_effects() {
    let snoozes = "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store8 (i32.const 68) (i32.const 2))
      (i32.store (i32.const 72) (i32.const 1000)) (i32.const 64)";
    let fields = r#"(import "runner:plugin/kv@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))"#;
    let body = format!("(call $set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 512)) {snoozes}");
    let guest = compile_with(&handler_with(fields, &body), "[allow]\nkv = true");
    assert_eq!(around(&[], &guest, |_| {}).kv.len(), 1);
    let report = around(&[&layer("turns", RESULT, &fails(272, 5))], &guest, |_| {});
    assert_eq!((report.outcome.name(), report.kv.len()), (OutcomeName::Failed, 0));
}

#[test]
fn jobs_of_a_batch_go_in_and_out_one_by_one() {
    // Each result is empty and `ok`: the list of results is all zeroes.
    let body = "(i32.store (i32.const 64) (i32.const 2048)) (i32.store (i32.const 68) (local.get $n)) (i32.const 64)";
    let batch = export("batch", "handle-batch", "(param $jobs i32) (param $n i32) (result i32)", body);
    let manifest = "[[kind]]\nname = \"guest\"\nbatch = { max = 9 }";
    let plugin = compile_with(&component_of(&["batch"], &module(&batch)), manifest);
    // Fails where the args begin with `x`.
    let before = format!(
        "(if (result i32) (i32.eq (i32.load8_u (i32.load offset=32 (local.get $job))) (i32.const 120))
           (then {}) (else (i32.const 64)))",
        fails(256, 6)
    );
    let checks = layer("checks", &before, AS_IT_IS);
    let report = around(&[&checks], &plugin, |request| {
        let view = |args: &str| JobView { args: args.as_bytes().to_vec(), ..job() };
        request.job = view("x");
        request.others =
            ["1", "x", "2"].map(|args| BatchJob { job: view(args), cancel: CancelSignal::new() }).into_iter().collect();
    });
    let ends = std::iter::once(&report.outcome).chain(report.others.iter().map(|end| &end.outcome));
    let names: Vec<_> = ends.map(Outcome::name).collect();
    use OutcomeName::{Completed, Failed};
    assert_eq!(names, [Failed, Completed, Failed, Completed], "{}", report.log.shown());
    assert_eq!(calls(&report).iter().filter(|line| line.ends_with("after")).count(), 2);
    assert_eq!(report.charges.len(), 1);
}
