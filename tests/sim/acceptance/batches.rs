//! Lines of a buffered batch queue.

use std::sync::atomic::{AtomicU64, Ordering};

use runner_store::command::{Command, Enqueue, Finish, Part, Reply, StagedJob};
use runner_store::job::{
    Backoff, BootId, JobId, JobSpec, Millis, OnConflict, Outcome, RetryPolicy, RunNumber, StateName, Time,
};

use super::*;

/// A thousand enqueues, one by one, while a scheduler claims at every notice, and only then: no wake-up is lost.
#[test]
fn l_05_a_thousand_enqueues_one_by_one_wake_the_runner_each_time() {
    line(|n| {
        let ran = AtomicU64::new(0);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    n.enqueue(work());
                }
            });
            while ran.load(Ordering::Relaxed) < 1_000 {
                runtime.block_on(n.handle.board().changed());
                let runs = n.claim(1_024);
                ran.fetch_add(runs.len() as u64, Ordering::Relaxed);
                for run in runs {
                    n.finish(run, completed());
                }
            }
        });
        assert_eq!((ran.into_inner(), n.claim(9).len()), (1_000, 0));
    });
}

#[test]
fn l_06_what_a_handler_enqueued_while_draining_is_there_after_reopening_in_order() {
    line(|n| {
        n.enqueue(work());
        let run = n.claim(1)[0];
        let Reply::Reserved { first } = n.call(Command::ReserveIds { n: 500 }) else { panic!("not reserved") };
        let spec = |i: u64| JobSpec::new("work", i.to_string());
        let staged = (0..500).map(|i| StagedJob { id: JobId(first.0 + i), spec: spec(i) }).collect();
        n.call(Command::Finish(Box::new(Finish { staged, ..finishing(run, completed()) })));
        n.restart(BootId(2), vec![]);
        let order: Vec<u64> = n.claim(1_024).iter().map(|run| run.at.job.0 - first.0).collect();
        assert!(order.into_iter().eq(0..500));
        assert_eq!(n.payload(JobId(first.0 + 499), Part::Args).as_deref(), Some(&b"499"[..]));
    });
}

/// Always failing, fixed 100 ms, three attempts; then a cooldown of 500 ms and a retry by hand, again and again.
#[test]
fn l_10_the_rhythm_holds_and_never_two_runs_of_one_job_at_once() {
    line(|n| {
        let backoff = Backoff::Constant { base: Millis(100) };
        let retry_policy = RetryPolicy { backoff, jitter_permille: 0, max: Millis(100) };
        let id = n.enqueue(work_with(|s| (s.max_attempts, s.retry) = (Some(3), Some(retry_policy))));
        for round in 0..3 {
            let begin = n.clock.now().0;
            let mut at = Vec::new();
            while n.state(id) != StateName::Discarded {
                let runs = n.claim(9);
                assert!(n.claim(9).is_empty(), "never two runs at once");
                if let Some(run) = runs.first() {
                    at.push(n.clock.now().0 - begin);
                    n.finish(*run, failed("always"));
                } else {
                    n.advance(1);
                }
            }
            assert_eq!(at, [0, 100, 200], "round {round}");
            n.advance(500);
            n.call(retry(id));
        }
    });
}

#[test]
fn l_13_a_hundred_claimers_never_hold_a_job_together() {
    line(|n| {
        let id = n.enqueue(work());
        for round in 1..=100_u32 {
            let holders = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for _ in 0..10 {
                    scope.spawn(|| {
                        // Ten callers, ten claims each.
                        for _ in 0..10 {
                            holders.fetch_add(n.claim(1).len() as u64, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(holders.into_inner(), 1, "round {round}");
            let run = RunRef { at: at(id), run: RunNumber(round) };
            n.finish(run, Outcome::Interrupted);
        }
    });
}

/// The delays between the runs of a job that always fails.
#[track_caller]
fn check_backoff(backoff: Backoff, cap_ms: u64, jitter_permille: u16, expected_ms: &[u64]) {
    line(|n| {
        let policy = RetryPolicy { backoff: backoff.clone(), jitter_permille, max: Millis(cap_ms) };
        let id = n.enqueue(work_with(|s| s.retry = Some(policy)));
        for (i, expected) in expected_ms.iter().enumerate() {
            let run = n.claim(1)[0];
            let job = n.finish(run, failed("no"));
            let delay = job.run_at.since(n.clock.now()).0;
            if jitter_permille == 0 {
                assert_eq!(delay, *expected, "failure {}", i + 1);
            } else {
                assert!(delay <= cap_ms, "the cap holds after the jitter");
            }
            n.advance(delay);
        }
        assert_eq!(n.job(id).attempts as usize, expected_ms.len());
    });
}

#[test]
fn l_19_exponential_doubles_up_to_its_cap() {
    let exponential = |base, factor_permille| Backoff::Exponential { base: Millis(base), factor_permille };
    check_backoff(exponential(1_000, 2_000), 8_000, 0, &[1_000, 2_000, 4_000, 8_000, 8_000]);
    // A base of 1.5 is not truncated.
    check_backoff(exponential(1_000, 1_500), 60_000, 0, &[1_000, 1_500, 2_250, 3_375]);
    check_backoff(exponential(1_000, 2_000), 1_100, 1_000, &[0; 8]);
}

#[test]
fn l_20_linear_grows_up_to_its_cap() {
    check_backoff(Backoff::Linear { base: Millis(1_000) }, 4_000, 0, &[1_000, 2_000, 3_000, 4_000, 4_000]);
}

#[test]
fn l_21_fixed_stays() {
    check_backoff(Backoff::Constant { base: Millis(250) }, 60_000, 0, &[250, 250, 250]);
}

/// A thousand keys, enqueued twice each and merged by adding: a thousand jobs with doubled values.
#[test]
fn l_24_a_thousand_keys_enqueued_twice_are_a_thousand_doubled_jobs() {
    line(|n| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for round in 0..2 {
            for key in 0..1_000_u64 {
                let spec = JobSpec { args: key.to_string().into(), ..unique(&key.to_string(), OnConflict::Merge) };
                let call = Enqueue::new(TENANT, vec![spec]);
                let merge = |need: runner_store::command::NeedsMerge| async move {
                    let number: u64 = String::from_utf8(need.args).unwrap().parse().unwrap();
                    Ok(((number + key).to_string().into_bytes(), None))
                };
                let reply = runtime.block_on(n.handle.enqueue_merging(call, merge)).unwrap();
                let Reply::Enqueued(jobs) = reply else { panic!("{reply:?}") };
                assert_eq!((jobs[0].id.0, jobs[0].duplicate), (key + 1, round == 1));
            }
        }
        let value = |id: u64| String::from_utf8(n.payload(JobId(id), Part::Args).unwrap()).unwrap();
        assert!((0..1_000_u64).all(|key| value(key + 1) == (2 * key).to_string()));
        assert_eq!(n.claim(1_024).len(), 1_000);
    });
}

/// The holder changes each time while its args are merged: after five times the caller is told, and nothing is lost.
#[test]
fn l_24_a_holder_that_changes_again_and_again_is_busy() {
    line(|n| {
        let id = n.enqueue(unique("k", OnConflict::Keep));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let call = Enqueue::new(TENANT, vec![unique("k", OnConflict::Merge)]);
        let mut merges = 0;
        let reply = runtime.block_on(n.handle.enqueue_merging(call, |_| {
            merges += 1;
            let later = runner_store::job::Edit { run_at: Some(Time(START.0 + merges)), ..Default::default() };
            let handle = n.handle.clone();
            async move {
                handle.call(edit(id, later)).await.unwrap();
                Ok((b"merged".to_vec(), None))
            }
        }));
        assert_eq!(reply, Ok(Reply::Rejected(runner_store::job::Rejection::UniqueBusy)));
        assert!(merges >= 5, "{merges}");
        assert_eq!(n.payload(id, Part::Args).as_deref(), Some(&b"{}"[..]));
    });
}
