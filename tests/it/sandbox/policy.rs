//! A plugin's own advice about its kinds and jobs: used where nobody else has said anything, and never needed.

use std::sync::Arc;

use runner_runtime::wasm::{Plugin, RunReport, RunRequest};
use runner_store::job::outcome::{Outcome, OutcomeName};
use runner_store::job::time::Millis;

use super::exports::nothing;
use super::guests::{component_of, export, module};
use super::{compile_with, request, run};

const JOB: &str = "(param $job i32) (result i32)";
/// Answers with the four bytes of the time-out that the job shows.
const SHOW_TIMEOUT: &str = "(i32.store (i32.const 68) (i32.add (local.get $job) (i32.const 72)))
  (i32.store (i32.const 72) (i32.const 4)) (i32.const 64)";
/// Some of `n` milliseconds, at 128.
fn some(n: &str) -> String {
    format!("(i32.store8 (i32.const 128) (i32.const 1)) (i32.store (i32.const 132) {n}) (i32.const 128)")
}

struct Guest {
    fields: &'static str,
    handle: String,
    /// JSON for the kind `guest`.
    describe: &'static str,
    timeout: String,
    next_retry: String,
}

impl Default for Guest {
    fn default() -> Self {
        let none = "(i32.const 64)".to_owned();
        Self { fields: "", handle: SHOW_TIMEOUT.to_owned(), describe: "", timeout: none.clone(), next_retry: none }
    }
}

impl Guest {
    fn bytes(&self) -> Vec<u8> {
        let text: String = self.describe.bytes().map(|b| format!("\\{b:02x}")).collect();
        // One kind and its options, as a list of one at 1024.
        let describe = format!(
            "(i32.store (i32.const 1032) (i32.const 1056)) (i32.store (i32.const 1036) (i32.const 5))
             (i32.store (i32.const 1040) (i32.const 1064)) (i32.store (i32.const 1044) (i32.const {}))
             (i32.store (i32.const 1024) (i32.const 1032)) (i32.store (i32.const 1028) (i32.const 1)) (i32.const 1024)",
            self.describe.len()
        );
        let functions = [
            self.fields.to_owned(),
            format!(r#"(data (i32.const 1056) "guest") (data (i32.const 1064) "{text}")"#),
            export("handler", "handle", JOB, &self.handle),
            export("policy", "describe", "(result i32)", &describe),
            export("policy", "timeout-ms", JOB, &self.timeout),
            export("policy", "next-retry-ms", "(param $both i32) (result i32)", &self.next_retry),
        ];
        component_of(&["handler", "policy"], &module(&functions.concat()))
    }
}

fn ask(plugin: &Arc<Plugin>, change: impl FnOnce(&mut RunRequest)) -> RunReport {
    let mut request = request(plugin);
    request.limits = plugin.limits("guest");
    change(&mut request);
    run(plugin, request)
}

#[track_caller]
fn shown(report: &RunReport) -> u32 {
    let Outcome::Completed { output } = &report.outcome else { panic!("{:?}", report.outcome) };
    u32::from_le_bytes(output.as_slice().try_into().expect("four bytes"))
}

#[test]
fn what_a_policy_describes_holds_where_the_manifest_says_nothing() {
    let describe = r#"{"timeout": "7s", "memory": "32MiB", "max_attempts": 3, "priority": -5, "queue": "own"}"#;
    let guest = Guest { describe, ..Guest::default() }.bytes();
    let plugin = compile_with(&guest, "");
    let limits = plugin.limits("guest");
    assert_eq!((limits.timeout, limits.memory_bytes), (Millis::secs(7), 32 << 20));
    assert_eq!(plugin.retry("guest").max_attempts, Some(3));
    assert_eq!(plugin.manifest().setting("guest", |s| s.queue.clone()).as_deref(), Some("own"));
    assert!(plugin.describe().warnings.is_empty(), "{:?}", plugin.describe().warnings);
    assert_eq!(shown(&ask(&plugin, |_| {})), 7_000);
    let manifest = "[limits]\ntimeout = \"5s\"\n[[kind]]\nname = \"guest\"\nmax_attempts = 9";
    let plugin = compile_with(&guest, manifest);
    let limits = plugin.limits("guest");
    assert_eq!((limits.timeout, limits.memory_bytes), (Millis::secs(5), 32 << 20));
    assert_eq!(plugin.retry("guest").max_attempts, Some(9));
}

#[test]
fn what_a_policy_describes_wrongly_is_reported_and_the_defaults_hold() {
    let check = |describe: &'static str, words: &str| {
        let plugin = compile_with(&Guest { describe, ..Guest::default() }.bytes(), "");
        let warnings = &plugin.describe().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(words), "{describe}: {warnings:?}");
        assert_eq!(plugin.limits("guest").timeout, Millis::secs(60));
    };
    check(r#"{"timeot": "7s"}"#, "did you mean `timeout`?");
    check(r#"{"timeout": 7}"#, "bare number 7");
    check(r#"{"timeout": "7s", "memory": "1GB"}"#, "is not a unit of size");
    check("[1]", "no JSON object");
    check(r#"{"name": "other"}"#, "unknown key `name`");
    check(r#"{"batch": {"max": 5}}"#, "needs the export batch");
    check(r#"{"timeout": null}"#, "no JSON object");
}

#[test]
fn a_describe_that_breaks_does_not_stop_the_plugin() {
    let broken = component_of(
        &["handler", "policy"],
        &module(&[nothing("handler"), nothing("policy").replacen("(i32.const 64)", "unreachable", 1)].concat()),
    );
    let plugin = compile_with(&broken, "");
    let warnings = &plugin.describe().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("describe broke"), "{warnings:?}");
    assert_eq!(run(&plugin, request(&plugin)).outcome.name(), OutcomeName::Completed);
    let loops = nothing("policy").replacen("(i32.const 64)", "(loop $again (br $again)) unreachable", 1);
    let loops = component_of(&["handler", "policy"], &module(&[nothing("handler"), loops].concat()));
    let plugin = compile_with(&loops, "");
    assert!(plugin.describe().warnings[0].contains("describe broke"), "{:?}", plugin.describe().warnings);
}

#[test]
fn a_policys_time_out_goes_before_the_manifests_and_behind_the_jobs_own() {
    let guest = Guest { timeout: some("(i32.const 4321)"), ..Guest::default() }.bytes();
    let plugin = compile_with(&guest, "[limits]\ntimeout = \"9s\"");
    assert_eq!(shown(&ask(&plugin, |_| {})), 4_321);
    assert_eq!(shown(&ask(&plugin, |request| request.job.timeout = Some(Millis(77)))), 77);
    let nothing_said = compile_with(&Guest::default().bytes(), "[limits]\ntimeout = \"9s\"");
    assert_eq!(shown(&ask(&nothing_said, |_| {})), 9_000);
    let endless = compile_with(&Guest { timeout: some("(i32.const -1)"), ..Guest::default() }.bytes(), "");
    assert_eq!(shown(&ask(&endless, |_| {})), 86_400_000, "a day at most");
    let spins = Guest {
        timeout: some("(i32.const 50)"),
        handle: "(loop $again (br $again)) unreachable".to_owned(),
        ..Guest::default()
    };
    let spins = compile_with(&spins.bytes(), "");
    assert_eq!(ask(&spins, |_| {}).outcome, Outcome::TimedOut { limit: Millis(50) });
}

#[test]
fn a_policys_time_out_is_clamped_by_the_operator() {
    use runner_runtime::wasm::grants::{Grants, LimitsMax, Max, TenantRules};
    let plugin = compile_with(&Guest { timeout: some("(i32.const 400000)"), ..Guest::default() }.bytes(), "");
    let limits = LimitsMax { timeout: Some(Millis::secs(120)), ..LimitsMax::default() };
    let rules = TenantRules { max: Max { limits, ..Max::default() }, ..TenantRules::of("acme") };
    let grants = Arc::new(Grants::new(plugin.grants().asked().clone(), Arc::new(rules)));
    assert_eq!(shown(&ask(&plugin, |request| request.grants = grants)), 120_000);
}

const FAILS: &str = "(i32.store8 (i32.const 64) (i32.const 1)) (i32.const 64)";
const FAILS_AND_SAYS_WHEN: &str = "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store8 (i32.const 80) (i32.const 1))
  (i32.store (i32.const 84) (i32.const 5)) (i32.const 64)";

#[test]
fn a_policy_says_when_a_failed_attempt_is_tried_again() {
    let guest = |handle: &str| {
        let guest = Guest { handle: handle.to_owned(), next_retry: some("(i32.const 1234)"), ..Guest::default() };
        compile_with(&guest.bytes(), "")
    };
    let (fails, traps) = (guest(FAILS), guest("unreachable"));
    assert_eq!(ask(&fails, |_| {}).next_retry, Some(Millis(1_234)));
    assert_eq!(ask(&traps, |_| {}).next_retry, Some(Millis(1_234)));
    assert_eq!(ask(&guest(FAILS_AND_SAYS_WHEN), |_| {}).next_retry, None, "the handler has said when");
    assert_eq!(ask(&fails, |request| request.job.states_retry = true).next_retry, None, "the job has said when");
    assert_eq!(ask(&fails, |request| request.job.max_attempts = 1).next_retry, None, "there is no next attempt");
    assert_eq!(ask(&guest(SHOW_TIMEOUT), |_| {}).next_retry, None, "it has not failed");
}

#[test]
fn a_policy_gets_the_job_and_its_error() {
    // The length of the error, behind the job's record of 112 bytes; the handler's message is the job's args.
    let handle =
        "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store (i32.const 72) (i32.load offset=32 (local.get $job)))
      (i32.store (i32.const 76) (i32.load offset=36 (local.get $job))) (i32.const 64)";
    let next_retry = some(
        "(i32.add (i32.mul (i32.load offset=116 (local.get $both)) (i32.const 1000))
      (i32.load offset=44 (local.get $both)))",
    );
    let plugin = compile_with(&Guest { handle: handle.to_owned(), next_retry, ..Guest::default() }.bytes(), "");
    let report = ask(&plugin, |request| request.job.attempt = 3);
    assert_eq!(report.next_retry, Some(Millis(7_003)), "{:?}", report.outcome);
}

#[test]
fn a_policy_that_breaks_is_said_in_the_log_and_means_the_defaults() {
    let loops = "(loop $again (br $again)) unreachable";
    for broken in ["unreachable", loops] {
        let timeout = compile_with(&Guest { timeout: broken.to_owned(), ..Guest::default() }.bytes(), "");
        let report = ask(&timeout, |_| {});
        assert_eq!(shown(&report), 60_000);
        assert!(report.log.shown().contains("policy (timeout-ms) broke, the defaults hold"), "{}", report.log.shown());
        let guest = Guest { handle: FAILS.to_owned(), next_retry: broken.to_owned(), ..Guest::default() };
        let report = ask(&compile_with(&guest.bytes(), ""), |_| {});
        assert_eq!((report.outcome.name(), report.next_retry), (OutcomeName::Failed, None));
        assert!(report.log.shown().contains("policy (next-retry-ms) broke"), "{}", report.log.shown());
    }
}

#[test]
fn advice_asks_nobody() {
    // 1,000 if the host has denied it, else 2,000.
    let fields = r#"(import "runner:plugin/kv@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))"#;
    let timeout = "(call $set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 512))".to_owned()
        + &some("(select (i32.const 1000) (i32.const 2000) (i32.load8_u (i32.const 512)))");
    let plugin = compile_with(&Guest { fields, timeout, ..Guest::default() }.bytes(), "[allow]\nkv = true");
    let report = ask(&plugin, |_| {});
    assert_eq!((shown(&report), report.kv.len()), (1_000, 0));
}

#[test]
fn what_a_policy_used_is_not_the_handlers_fuel() {
    let guest = Guest { timeout: some("(i32.const 9000)"), ..Guest::default() };
    let (with, without) = (compile_with(&guest.bytes(), ""), compile_with(&Guest::default().bytes(), ""));
    let report = ask(&with, |_| {});
    assert_eq!(report.fuel_used, ask(&without, |request| request.job.timeout = Some(Millis(9_000))).fuel_used);
    let charge = &report.charges[0];
    assert_eq!((charge.tenant.as_str(), charge.plugin.as_str(), charge.failures), ("default", "guest", 0));
    assert!(charge.fuel > 0);
    let stated = ask(&without, |request| request.job.timeout = Some(Millis(9_000)));
    assert!(stated.charges.is_empty(), "nobody was asked: {:?}", stated.charges);
}
