//! Several jobs in one call: each has an end of its own, unless the call fails for all of them.

use std::sync::Arc;
use std::time::Duration;

use runner_runtime::wasm::{BatchJob, CancelSignal, JobView, Limits, Plugin, RunReport, RunRequest};
use runner_store::job::outcome::{Outcome, OutcomeName};
use runner_store::job::time::Millis;

use super::exports::nothing;
use super::guests::{component_of, export, module};
use super::{compile_with, job, request, run};

const MANIFEST: &str = "[[kind]]\nname = \"guest\"\nbatch = { max = 100 }";

/// A job's args lie at 32 of its record of 112 bytes, its result takes 24.
const EACH: &str = r#"(local $i i32) (local $out i32) (local $job i32) (local $at i32)
  (local.set $out (call $realloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.mul (local.get $n) (i32.const 24))))
  (block $done (loop $next
    (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
    (local.set $job (i32.add (local.get $jobs) (i32.mul (local.get $i) (i32.const 112))))
    (local.set $at (i32.add (local.get $out) (i32.mul (local.get $i) (i32.const 24))))
    (if (i32.eq (i32.load8_u (i32.load offset=32 (local.get $job))) (i32.const 120))
      (then
        (i32.store8 (local.get $at) (i32.const 1))
        (i32.store offset=8 (local.get $at) (i32.load offset=32 (local.get $job)))
        (i32.store offset=12 (local.get $at) (i32.load offset=36 (local.get $job))))
      (else
        (i32.store offset=4 (local.get $at) (i32.load offset=32 (local.get $job)))
        (i32.store offset=8 (local.get $at) (i32.load offset=36 (local.get $job)))))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br $next)))
  (i32.store (i32.const 64) (local.get $out))"#;

const BATCH: &str = "(param $jobs i32) (param $n i32) (result i32)";

/// Answers each job with its args, and asks for a retry where they begin with `x`; then goes on with `last`.
fn echo(fields: &str, last: &str) -> Vec<u8> {
    let body = format!("{EACH} (i32.store (i32.const 68) (local.get $n)) {last} (i32.const 64)");
    component_of(&["batch"], &module(&format!("{fields} {}", export("batch", "handle-batch", BATCH, &body))))
}

fn batch(plugin: &Plugin, args: &[&str]) -> RunRequest {
    let job_of = |(n, args): (u64, &&str)| JobView { id: 7 + n, args: args.as_bytes().to_vec(), ..job() };
    let mut jobs = (0..).zip(args).map(job_of);
    let mut request = request(plugin);
    request.job = jobs.next().expect("a call has a job");
    request.others = jobs.map(|job| BatchJob { job, cancel: CancelSignal::new() }).collect();
    request
}

fn outcomes(report: &RunReport) -> Vec<Outcome> {
    std::iter::once(&report.outcome).chain(report.others.iter().map(|end| &end.outcome)).cloned().collect()
}

#[track_caller]
fn check_all(report: &RunReport, jobs: usize, name: OutcomeName) {
    assert_eq!(outcomes(report).iter().map(Outcome::name).collect::<Vec<_>>(), vec![name; jobs]);
    assert!(report.call_failed);
    assert!(report.enqueues.is_empty());
}

fn completed(output: &str) -> Outcome {
    Outcome::Completed { output: output.as_bytes().to_vec() }
}

#[test]
fn each_job_of_a_call_has_its_own_end_in_order() {
    let plugin = compile_with(&echo("", ""), MANIFEST);
    let report = run(&plugin, batch(&plugin, &["1", "x2", "3"]));
    let failed = Outcome::Failed { message: "x2".to_owned(), retry_after: None };
    assert_eq!(outcomes(&report), [completed("1"), failed, completed("3")]);
    assert!(!report.call_failed);
}

#[test]
fn a_plugin_of_batches_only_gets_a_single_job_as_a_list_of_one() {
    let plugin = compile_with(&echo("", ""), "");
    assert_eq!(plugin.batch("guest").map(|batch| batch.max), Some(1));
    let report = run(&plugin, batch(&plugin, &["1"]));
    assert_eq!((outcomes(&report), report.others.len()), (vec![completed("1")], 0));
}

#[test]
fn a_plugin_of_both_takes_in_batches_what_its_manifest_says() {
    let body = format!("{EACH} (i32.store (i32.const 68) (local.get $n)) (i32.const 64)");
    let functions = nothing("handler") + &export("batch", "handle-batch", BATCH, &body);
    let both = component_of(&["handler", "batch"], &module(&functions));
    let manifest = "kinds = [\"guest\", \"many\"]\n[[kind]]\nname = \"many\"\nbatch = { max = 2, linger = \"1s\" }";
    let plugin = compile_with(&both, manifest);
    assert_eq!(plugin.batch("guest"), None);
    assert_eq!(plugin.batch("many").map(|batch| (batch.max, batch.linger)), Some((2, Millis(1_000))));
    // The handler answers nothing, the batch handler the args.
    assert_eq!(run(&plugin, request(&plugin)).outcome, completed(""));
    let mut many = request(&plugin);
    many.job.kind = "many".to_owned();
    assert_eq!(run(&plugin, many).outcome, completed(r#"{"n":1}"#));
}

#[test]
fn a_call_with_a_wrong_number_of_results_fails_for_all() {
    for n in ["(i32.sub (local.get $n) (i32.const 1))", "(i32.const 0)"] {
        let guest = echo("", &format!("(i32.store (i32.const 68) {n})"));
        let plugin = compile_with(&guest, MANIFEST);
        let report = run(&plugin, batch(&plugin, &["1", "2", "3"]));
        check_all(&report, 3, OutcomeName::Trapped);
        let Outcome::Trapped { code, message, .. } = &report.outcome else { unreachable!("checked by name") };
        assert!(code == "bad_answer" && message.contains("results for 3 jobs"), "{code}: {message}");
    }
}

#[test]
fn a_call_that_breaks_fails_for_all() {
    let plugin = compile_with(&echo("", "unreachable"), MANIFEST);
    check_all(&run(&plugin, batch(&plugin, &["1", "2"])), 2, OutcomeName::Trapped);
    let spins = compile_with(&echo("", "(loop $again (br $again))"), MANIFEST);
    let mut request = batch(&spins, &["1", "2"]);
    request.limits.timeout = Millis(50);
    check_all(&run(&spins, request), 2, OutcomeName::TimedOut);
    let mut request = batch(&spins, &["1", "2"]);
    request.limits.fuel = Some(100_000);
    check_all(&run(&spins, request), 2, OutcomeName::OutOfFuel);
}

#[test]
fn the_results_of_a_call_are_bounded_together() {
    let plugin = compile_with(&echo("", ""), MANIFEST);
    let mut request = batch(&plugin, &["12345", "12345"]);
    request.limits.output_bytes = 9;
    check_all(&run(&plugin, request), 2, OutcomeName::OutputTooLarge);
    let mut request = batch(&plugin, &["12345", "1234"]);
    request.limits.output_bytes = 9;
    assert!(!run(&plugin, request).call_failed);
}

#[test]
fn the_longest_time_out_of_its_jobs_is_the_calls() {
    let plugin = compile_with(&echo("", "(loop $again (br $again))"), MANIFEST);
    let mut request = batch(&plugin, &["1", "2"]);
    request.job.timeout = Some(Millis(1));
    request.others[0].job.timeout = Some(Millis(60));
    let report = run(&plugin, request);
    assert_eq!(report.outcome, Outcome::TimedOut { limit: Millis(60) });
}

const ENQUEUE: &str = r#"
  (import "runner:plugin/host@0.1.0" "enqueue" (func $enqueue (param i32 i32 i32 i32 i32 i32 i32)))
  (data (i32.const 256) "mail.send") (data (i32.const 272) "{}")"#;

#[test]
fn effects_of_a_call_are_kept_if_one_of_its_jobs_completes() {
    let call = "(call $enqueue (i32.const 256) (i32.const 9) (i32.const 272) (i32.const 2)
       (i32.const 0) (i32.const 0) (i32.const 512))";
    let plugin = compile_with(&echo(ENQUEUE, call), &format!("[allow]\nenqueue = [\"mail.*\"]\n{MANIFEST}"));
    let kept = |args: &[&str]| {
        let request = RunRequest { ids: Some(Arc::new(|| Some(1))), ..batch(&plugin, args) };
        run(&plugin, request).enqueues.len()
    };
    assert_eq!((kept(&["x", "1"]), kept(&["x", "x"])), (1, 0));
}

#[test]
fn a_call_of_several_jobs_has_no_checkpoint() {
    let import = r#"(import "runner:plugin/host@0.1.0" "checkpoint" (func $checkpoint (param i32 i32 i32)))"#;
    // What the call answered is the first job's output: the code of the error.
    let last = "(call $checkpoint (i32.const 0) (i32.const 1) (i32.const 512))
      (i32.store offset=4 (local.get $out) (i32.load (i32.const 516)))
      (i32.store offset=8 (local.get $out) (i32.load (i32.const 520)))";
    let plugin = compile_with(&echo(import, last), MANIFEST);
    let report = run(&plugin, batch(&plugin, &["1", "2"]));
    assert_eq!((outcomes(&report)[0].clone(), report.checkpoint), (completed("invalid"), None));
}

#[test]
fn a_cancel_of_one_job_leaves_the_call_and_one_of_all_ends_it() {
    let import = r#"(import "runner:plugin/host@0.1.0" "cancelled" (func $cancelled (result i32)))"#;
    let last = "(i32.store8 (i32.const 600) (i32.add (call $cancelled) (i32.const 48)))
      (i32.store offset=4 (local.get $out) (i32.const 600)) (i32.store offset=8 (local.get $out) (i32.const 1))";
    let asks = compile_with(&echo(import, last), MANIFEST);
    let sees = |cancelled: usize| {
        let mut request = batch(&asks, &["1", "2", "3"]);
        request.limits = Limits { cancel_grace: Millis::secs(10), ..request.limits };
        let signals: Vec<_> =
            std::iter::once(&request.cancel).chain(request.others.iter().map(|o| &o.cancel)).collect();
        signals[..cancelled].iter().for_each(|signal| signal.cancel());
        outcomes(&run(&asks, request))[0].clone()
    };
    assert_eq!([sees(0), sees(1), sees(2), sees(3)], ["0", "0", "0", "1"].map(completed));
    let spins = compile_with(&echo("", "(loop $again (br $again))"), MANIFEST);
    let request = batch(&spins, &["1", "2"]);
    request.cancel.cancel();
    request.others[0].cancel.drain(Duration::ZERO);
    let report = run(&spins, request);
    assert_eq!(outcomes(&report), [Outcome::Cancelled, Outcome::Interrupted], "each by its own signal");
    assert!(!report.call_failed, "nobody takes the jobs alone for that");
}

/// One of the jobs is asked to end while the call goes on, after the other one was.
#[test]
fn a_call_ends_once_the_last_of_its_jobs_is_cancelled() {
    let spins = compile_with(&echo("", "(loop $again (br $again))"), MANIFEST);
    let request = batch(&spins, &["1", "2"]);
    let (first, second) = (request.cancel.clone(), request.others[0].cancel.clone());
    first.cancel();
    let report = super::block_on(async {
        let running = super::host().spawn(Arc::clone(&spins), request);
        tokio::task::yield_now().await;
        assert!(!running.is_finished());
        second.cancel();
        running.await.expect("the host never panics")
    });
    assert_eq!(outcomes(&report), [Outcome::Cancelled, Outcome::Cancelled]);
}
