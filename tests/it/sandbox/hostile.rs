//! Guests that loop, grow, recurse, flood and lie.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_runtime::wasm::{CancelSignal, Host, HostSettings, Limits, Manifest};
use runner_store::job::outcome::{Outcome, OutcomeName};
use runner_store::job::time::Millis;

use super::guests::{REALLOC, RESULT, command, command_with, component, handler, handler_with};
use super::{block_on, check, check_trap, compile, host, request, run};

const LOOP: &str = "(loop $again (br $again)) unreachable";
const TIMEOUT: Millis = Millis(200);
/// After its time-out a run ends within 50 ms on an idle machine; times five.
const LATE_MAX: Duration = Duration::from_millis(250);

fn short(limits: &mut Limits) {
    limits.timeout = TIMEOUT;
}

#[track_caller]
fn check_timed_out(guest: &[u8]) {
    let report = check(
        guest,
        |limits| {
            short(limits);
            limits.host_calls = u64::MAX;
        },
        OutcomeName::TimedOut,
    );
    assert_eq!(report.outcome, Outcome::TimedOut { limit: TIMEOUT });
    let late = report.wall.saturating_sub(TIMEOUT.into());
    assert!(late < LATE_MAX, "ended {late:?} after its time-out");
}

#[test]
fn an_endless_loop_ends_by_fuel_always_at_the_same_point() {
    let guest = handler(LOOP);
    let fuel = |limits: &mut Limits| limits.fuel = Some(50_000_000);
    let first = check(&guest, fuel, OutcomeName::OutOfFuel);
    assert_eq!(first.outcome, Outcome::OutOfFuel { limit: 50_000_000 });
    assert_eq!(first.fuel_used, check(&guest, fuel, OutcomeName::OutOfFuel).fuel_used);
}

#[test]
fn an_endless_loop_ends_by_its_time_out_wherever_it_is() {
    check_timed_out(&handler(LOOP));
    check_timed_out(&command("(loop $again (br $again))"));
    // In a start function, before the handler.
    check_timed_out(&handler_with("(func $spin (loop $again (br $again))) (start $spin)", RESULT));
    // In `cabi_realloc`, while the host hands the job over.
    check_timed_out(&component(
        r#"(module (memory (export "memory") 1)
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (loop $again (br $again)) unreachable)
          (func (export "runner:plugin/handler@0.1.0#handle") (param i32) (result i32) (i32.const 64)))"#,
    ));
    // In bulk operations, which are single instructions.
    check_timed_out(&handler(
        "(loop $again (memory.fill (i32.const 0) (i32.const 1) (i32.const 1048576)) (br $again)) unreachable",
    ));
}

#[test]
fn floods_of_host_calls_end_by_time_or_by_count() {
    let cancelled = r#"(import "runner:plugin/host@0.1.0" "cancelled" (func $cancelled (result i32)))"#;
    let flood = handler_with(cancelled, "(loop $again (drop (call $cancelled)) (br $again)) unreachable");
    check_timed_out(&flood);
    let report = check_trap(&flood, |limits| limits.host_calls = 1_000, "host_calls");
    assert_eq!(report.host_calls, 1_001);
    // 65,000 random bytes a call, where fuel stands still.
    let random = "(loop $again (drop (call $random (i32.const 0) (i32.const 65000))) (br $again))";
    check_timed_out(&command(random));
    check_timed_out(&command(
        "(loop $again (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 0))) (br $again))",
    ));
    // Log lines of 2 MiB.
    check_timed_out(&command(
        "(loop $again (call $print (i32.const 1) (i32.const 65536) (i32.const 2097152)) (br $again))",
    ));
}

#[test]
fn a_flood_of_newlines_ends_by_its_time_out() {
    let newlines = "(memory.fill (i32.const 65536) (i32.const 10) (i32.const 4000000))";
    check_timed_out(&command(&format!(
        "{newlines} (loop $again (call $print (i32.const 1) (i32.const 65536) (i32.const 4000000)) (br $again))"
    )));
}

#[test]
fn a_long_computation_makes_no_host_calls() {
    // wasmtime counts a yield by fuel, every 10 M, as a call out of the guest; a limit on calls must not.
    let counts = "(local $i i32) (loop $again (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 50000000))))";
    let report = check(&handler(&format!("{counts} {RESULT}")), |limits| limits.host_calls = 1, OutcomeName::Completed);
    assert!(report.fuel_used > 100_000_000);
    assert_eq!(report.host_calls, 0);
}

#[test]
fn more_random_bytes_than_one_call_may_ask_for_end_the_run() {
    check_trap(&command("(drop (call $random (i32.const 0) (i32.const 1000000)))"), |_| {}, "bad_answer");
}

#[test]
fn sleeping_forever_ends_by_the_time_out() {
    // One subscription: the monotonic clock, 2^62 ns ahead.
    check_timed_out(&command(
        "(i32.store (i32.const 1040) (i32.const 1))
         (i64.store (i32.const 1048) (i64.const 4611686018427387904))
         (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 4096)))",
    ));
}

#[test]
fn memory_is_summed_and_a_denied_growth_is_out_of_memory() {
    let give_up = "(if (i32.eq (memory.grow (i32.const 16384)) (i32.const -1)) (then unreachable))";
    // 1 GiB at once.
    let report = check(&handler(&format!("{give_up} {RESULT}")), |_| {}, OutcomeName::OutOfMemory);
    assert_eq!(report.outcome, Outcome::OutOfMemory { limit_bytes: 64 << 20 });
    // Page by page.
    let report = check(
        &handler("(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable"),
        |_| {},
        OutcomeName::OutOfMemory,
    );
    assert_eq!(report.memory_peak_bytes, 64 << 20, "everything that the limit allows was given");
    // In several memories, none of which is above the limit.
    let memories = "(memory $b 1) (memory $c 1) (memory $d 1)";
    let grow = "(if (i32.eq (memory.grow $b (i32.const 400)) (i32.const -1)) (then unreachable))
                (if (i32.eq (memory.grow $c (i32.const 400)) (i32.const -1)) (then unreachable))
                (if (i32.eq (memory.grow $d (i32.const 400)) (i32.const -1)) (then unreachable))";
    check(&command_with(memories, grow), |_| {}, OutcomeName::OutOfMemory);
    // From the start.
    let large = "(memory $b 2000)";
    check(&command_with(large, ""), |_| {}, OutcomeName::OutOfMemory);
    // A command that notices and exits.
    let exits = "(if (i32.eq (memory.grow (i32.const 16384)) (i32.const -1)) (then (call $exit (i32.const 1))))";
    check(&command(exits), |_| {}, OutcomeName::OutOfMemory);
}

#[test]
fn tables_are_bounded() {
    // Growing answers -1, as a memory's does, and giving up then is out of memory.
    let grow = "(if (i32.eq (table.grow $t (ref.null func) (i32.const 1000000000)) (i32.const -1)) (then unreachable))";
    let table = "(table $t 1 funcref)";
    check(&handler_with(table, &format!("{grow} {RESULT}")), |_| {}, OutcomeName::OutOfMemory);
    // From the start: the pool has no such place, which is known at load.
    let large = "(table $t 1000000 funcref)";
    let refused = host().compile("guest", &handler_with(large, RESULT), Manifest::default());
    assert!(refused.is_err());
}

#[test]
fn a_run_that_copes_with_a_denied_growth_is_completed() {
    let copes = handler(&format!("(drop (memory.grow (i32.const 16384))) {RESULT}"));
    let report = check(&copes, |_| {}, OutcomeName::Completed);
    assert!(report.memory_denied);
}

#[test]
fn recursion_overflows_the_guests_stack_and_not_ours() {
    let report = check_trap(
        &handler_with("(func $deep (call $deep) (call $deep))", &format!("(call $deep) {RESULT}")),
        |_| {},
        "stack_overflow",
    );
    let Outcome::Trapped { backtrace: Some(backtrace), message, .. } = report.outcome else { panic!("has frames") };
    assert!(message.contains("stack of 512 KiB"), "{message}");
    assert!(backtrace.contains("deep") && backtrace.lines().count() <= 32, "{backtrace}");
    // Through a host call at every level.
    let cancelled = r#"(import "runner:plugin/host@0.1.0" "cancelled" (func $cancelled (result i32)))"#;
    let deep = format!("{cancelled} (func $deep (drop (call $cancelled)) (call $deep) (drop (call $cancelled)))");
    check_trap(&handler_with(&deep, &format!("(call $deep) {RESULT}")), |_| {}, "stack_overflow");
}

#[test]
fn an_answer_that_no_guest_may_give_is_a_bad_answer() {
    let check = |body: &str| check_trap(&handler(body), |_| {}, "bad_answer");
    // The result lies outside the memory, or askew.
    check("(i32.const 0x7ffffff0)");
    check("(i32.const 65)");
    // The output does.
    check("(i32.store (i32.const 68) (i32.const 1048570)) (i32.store (i32.const 72) (i32.const 64)) (i32.const 64)");
    // A gigabyte and more of it.
    check("(i32.store (i32.const 68) (i32.const 0)) (i32.store (i32.const 72) (i32.const -1)) (i32.const 64)");
    // Discriminants that no variant has.
    check("(i32.store8 (i32.const 64) (i32.const 2)) (i32.const 64)");
    check("(i32.store8 (i32.const 64) (i32.const 1)) (i32.store8 (i32.const 68) (i32.const 9)) (i32.const 64)");
    // A reason that is not UTF-8.
    check(
        "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store8 (i32.const 68) (i32.const 1))
         (i32.store (i32.const 72) (i32.const 128)) (i32.store (i32.const 76) (i32.const 2))
         (i32.store (i32.const 128) (i32.const 0xfefe)) (i32.const 64)",
    );
}

#[test]
fn output_beyond_the_limit_is_not_kept() {
    let answers = |bytes: u32| handler(&format!("(i32.store (i32.const 72) (i32.const {bytes})) (i32.const 64)"));
    let limit = |limits: &mut Limits| limits.output_bytes = 1_000;
    let report = check(&answers(1_001), limit, OutcomeName::OutputTooLarge);
    assert_eq!(report.outcome, Outcome::OutputTooLarge { limit_bytes: 1_000 });
    check(&answers(1_000), limit, OutcomeName::Completed);
}

/// An output far beyond its limit, more than the host copies at once, was a bad answer in wasmtime's words: "fuel allocated for
/// hostcalls has been exhausted" names no limit that anybody could mend. It is the only error that is known by its text, so this is
/// also where a new wasmtime would be noticed that says it otherwise.
#[test]
fn more_than_the_host_copies_at_once_is_said_in_our_words() {
    let wide = |body: &str| {
        let kv = r#"(import "runner:plugin/kv@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))"#;
        component(&format!(
            r#"(module {kv} (memory (export "memory") 64) {REALLOC}
              (func (export "runner:plugin/handler@0.1.0#handle") (param $job i32) (result i32) {body}))"#
        ))
    };
    let output = wide("(i32.store (i32.const 72) (i32.const 3000000)) (i32.const 64)");
    let report = check(&output, |_| {}, OutcomeName::OutputTooLarge);
    assert_eq!(report.outcome, Outcome::OutputTooLarge { limit_bytes: 1 << 20 });
    // A limit that lets it through does.
    check(&output, |limits| limits.output_bytes = 3_000_000, OutcomeName::Completed);
    let call = wide(
        "(call $set (i32.const 128) (i32.const 1) (i32.const 0) (i32.const 3000000) (i32.const 256)) (i32.const 64)",
    );
    let report = check_trap(&call, |_| {}, "call_too_large");
    let Outcome::Trapped { message, .. } = &report.outcome else { unreachable!("it trapped") };
    assert!(message.contains("more than 2097152 bytes") && message.contains("as a blob"), "{message}");
}

#[test]
fn a_start_function_that_traps_is_the_plugins_fault() {
    let guest = handler_with("(func $broken unreachable) (start $broken)", RESULT);
    check(&guest, |_| {}, OutcomeName::PluginBroken);
}

#[test]
fn a_run_starts_with_clean_memory() {
    // Answers what it finds in its memory, then leaves a mark there.
    let guest = handler(
        "(i32.store (i32.const 68) (i32.const 524288)) (i32.store (i32.const 72) (i32.const 4))
         (if (i32.load (i32.const 524288)) (then unreachable))
         (i32.store (i32.const 524288) (i32.const 0x59524143)) (i32.const 64)",
    );
    let plugin = compile(&guest);
    for _ in 0..50 {
        assert_eq!(run(&plugin, request(&plugin)).outcome.name(), OutcomeName::Completed);
    }
}

#[test]
fn a_cancel_ends_a_guest_that_does_not_listen() {
    let plugin = compile(&handler(LOOP));
    let request = request(&plugin);
    let cancel = request.cancel.clone();
    let began = Instant::now();
    let running = host().spawn(Arc::clone(&plugin), request);
    cancel.cancel();
    let report = block_on(running).expect("the host never panics");
    assert_eq!(report.outcome, Outcome::Cancelled);
    assert!(began.elapsed() < Duration::from_millis(500), "within 100 ms, times five");
    let (cancel, mut request) = (CancelSignal::new(), super::request(&plugin));
    request.cancel = cancel.clone();
    let running = host().spawn(Arc::clone(&plugin), request);
    cancel.drain(Duration::from_millis(5));
    assert_eq!(block_on(running).expect("the host never panics").outcome, Outcome::Interrupted);
}

#[test]
fn a_second_cancel_ends_a_run_at_once() {
    let plugin = compile(&handler(LOOP));
    let mut request = request(&plugin);
    request.limits.cancel_grace = Millis::secs(30);
    let cancel = request.cancel.clone();
    let began = Instant::now();
    let running = host().spawn(Arc::clone(&plugin), request);
    cancel.cancel();
    cancel.cancel();
    assert_eq!(block_on(running).expect("the host never panics").outcome, Outcome::Cancelled);
    assert!(began.elapsed() < Duration::from_secs(10), "it waited for the grace");
}

/// The story: a run had been cancelled and had its grace. A second signal, which ends everything at once, waited for it.
#[test]
fn a_node_that_stops_does_not_wait_for_the_grace_of_a_cancel() {
    let plugin = compile(&handler(LOOP));
    for cancelled_first in [true, false] {
        let mut request = request(&plugin);
        request.limits.cancel_grace = Millis::secs(30);
        let cancel = request.cancel.clone();
        let began = Instant::now();
        let running = host().spawn(Arc::clone(&plugin), request);
        if cancelled_first {
            cancel.cancel();
        }
        cancel.drain(Duration::ZERO);
        cancel.cancel();
        let outcome = block_on(running).expect("the host never panics").outcome.name();
        assert!(matches!(outcome, OutcomeName::Cancelled | OutcomeName::Interrupted), "{outcome:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "it waited for the grace");
    }
}

#[test]
fn a_guest_that_listens_to_a_cancel_has_its_grace() {
    let cancelled = r#"(import "runner:plugin/host@0.1.0" "cancelled" (func $cancelled (result i32)))"#;
    let listens =
        handler_with(cancelled, &format!("(loop $again (br_if $again (i32.eqz (call $cancelled)))) {RESULT}"));
    let plugin = compile(&listens);
    let mut request = request(&plugin);
    request.limits.cancel_grace = Millis::secs(5);
    request.limits.host_calls = u64::MAX;
    let cancel = request.cancel.clone();
    let running = host().spawn(Arc::clone(&plugin), request);
    cancel.cancel();
    assert_eq!(block_on(running).expect("the host never panics").outcome.name(), OutcomeName::Completed);
}

#[test]
fn honest_runs_finish_while_others_misbehave() {
    const HONEST: usize = 1_000;
    let loops = compile(&handler(LOOP));
    let grows = compile(&handler("(loop $again (drop (memory.grow (i32.const 1))) (br $again)) unreachable"));
    let honest = compile(&handler(RESULT));
    let hostile = |plugin: &Arc<_>| {
        let mut request = request(plugin);
        request.limits.timeout = Millis::secs(2);
        request.limits.host_calls = u64::MAX;
        host().spawn(Arc::clone(plugin), request)
    };
    let hostile = [hostile(&loops), hostile(&grows), hostile(&loops)];
    block_on(async {
        let runs: Vec<_> = (0..HONEST).map(|_| host().spawn(Arc::clone(&honest), request(&honest))).collect();
        for run in runs {
            assert_eq!(run.await.expect("the host never panics").outcome, Outcome::Completed { output: vec![] });
        }
        for run in hostile {
            assert_eq!(run.await.expect("the host never panics").outcome.name(), OutcomeName::TimedOut);
        }
    });
}

#[test]
fn without_a_pool_and_without_a_place_runs_wait_and_end_alike() {
    for pooled in [true, false] {
        let host = Host::new(&HostSettings { slots: 1, threads: 1, pooled, ..HostSettings::default() })
            .expect("wasmtime runs here");
        let compile = |guest: &[u8]| Arc::new(host.compile("guest", guest, Manifest::default()).expect("is a plugin"));
        let (honest, loops) = (compile(&handler(RESULT)), compile(&handler(LOOP)));
        let mut hostile = request(&loops);
        short(&mut hostile.limits);
        block_on(async {
            let first = host.spawn(Arc::clone(&loops), hostile);
            let others: Vec<_> = (0..20).map(|_| host.spawn(Arc::clone(&honest), request(&honest))).collect();
            assert_eq!(first.await.expect("the host never panics").outcome.name(), OutcomeName::TimedOut);
            for run in others {
                assert_eq!(run.await.expect("the host never panics").outcome.name(), OutcomeName::Completed);
            }
        });
        assert_eq!(host.places_free(), 1);
        host.shutdown(Duration::from_secs(1));
    }
}

#[test]
fn aborting_a_runs_task_gives_its_place_back() {
    let host =
        Host::new(&HostSettings { slots: 1, threads: 1, ..HostSettings::default() }).expect("wasmtime runs here");
    let loops = Arc::new(host.compile("guest", &handler(LOOP), Manifest::default()).expect("is a plugin"));
    let honest = Arc::new(host.compile("guest", &handler(RESULT), Manifest::default()).expect("is a plugin"));
    block_on(async {
        let running = host.spawn(Arc::clone(&loops), request(&loops));
        running.abort();
        assert!(running.await.is_err());
        let next = host.spawn(Arc::clone(&honest), request(&honest)).await.expect("the host never panics");
        assert_eq!(next.outcome.name(), OutcomeName::Completed);
    });
}
