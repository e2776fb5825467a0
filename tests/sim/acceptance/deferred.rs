//! Lines of a deferred queue.

use runner_store::job::{Millis, Outcome, StateName};

use super::*;

/// The events of a job that fails `failures` times of `attempts`.
#[track_caller]
fn check_events(attempts: u32, failures: u32, retrying: usize, discarded: usize) {
    line(|n| {
        let id = n.enqueue(work_with(|s| s.max_attempts = Some(attempts)));
        let mut failed_runs = 0;
        while !n.state(id).is_final() {
            for run in n.claim(1) {
                let fails = failed_runs < failures;
                failed_runs += 1;
                n.finish(run, if fails { failed("no") } else { completed() });
            }
            n.advance(10_000);
        }
        let events = n.events(id);
        let count = |name| events.iter().filter(|event| **event == name).count();
        assert_eq!((count("retrying"), count("discarded")), (retrying, discarded), "{events:?}");
    });
}

#[test]
fn c_01_retrying_fires_once_for_an_attempt_that_is_followed_by_another() {
    check_events(2, 1, 1, 0);
}

#[test]
fn c_02_discarded_fires_once_for_the_last_one() {
    check_events(1, 1, 0, 1);
}

#[test]
fn c_03_never_both_for_one_attempt() {
    check_events(3, 3, 2, 1);
}

#[test]
fn c_05_a_delayed_job_does_not_run_before_its_time() {
    line(|n| {
        let id = n.enqueue(work_with(|s| s.delay = Some(Millis(2_000))));
        n.advance(1_000);
        assert_eq!(n.claim(9), []);
        n.advance(999);
        assert_eq!(n.claim(9), []);
        n.advance(1);
        assert_eq!(n.claim(9)[0].at.job, id);
    });
}

/// Fails so often, of so many attempts; answers the run that completed.
#[track_caller]
fn check_completes(failures: u32, attempts: u32) {
    line(|n| {
        let id = n.enqueue(work_with(|s| s.max_attempts = Some(attempts)));
        for _ in 0..failures {
            let run = n.claim(1)[0];
            assert_eq!(n.finish(run, failed("no")).state.name(), StateName::Retryable);
            n.advance(10_000);
        }
        let run = n.claim(1)[0];
        let job = n.finish(run, completed());
        assert_eq!((job.state.name(), job.run.0, job.id), (StateName::Completed, failures + 1, id));
    });
}

#[test]
fn c_08_fails_once_of_two_attempts_and_completes() {
    check_completes(1, 2);
}

#[test]
fn c_09_a_reload_runs_the_job_again() {
    line(|n| {
        let id = n.enqueue(work_with(|s| s.max_attempts = Some(1)));
        n.work_off(|_| failed("no"));
        assert_eq!(n.state(id), StateName::Discarded);
        let filter = runner_store::command::JobsQuery {
            state: Some(StateName::Discarded),
            ..runner_store::command::JobsQuery::all(TENANT, 100)
        };
        let verb = runner_store::command::BulkVerb::Retry;
        let reply = n.call(Command::Bulk(Box::new(runner_store::command::Bulk { filter, verb })));
        assert_eq!(reply, Reply::Bulk { matched: 1, changed: 1, next: None });
        assert_eq!(n.work_off(|_| completed()), [id.0]);
    });
}

#[test]
fn c_11_of_two_jobs_only_the_one_whose_time_has_come_runs() {
    line(|n| {
        let ids = [1_000, 3_600_000].map(|ms| n.enqueue(work_with(|s| s.delay = Some(Millis(ms)))));
        n.advance(2_000);
        assert_eq!(n.work_off(|_| completed()), [ids[0].0]);
        assert_eq!(n.state(ids[1]), StateName::Scheduled);
    });
}

#[test]
fn c_12_fails_twice_of_three_attempts_and_the_third_run_completes() {
    check_completes(2, 3);
}

/// Not a line of its own: what says "later" without being an attempt is no retry either.
#[test]
fn c_03_a_snooze_fires_neither() {
    line(|n| {
        let id = n.enqueue(work());
        let run = n.claim(1)[0];
        n.finish(run, Outcome::Snoozed { delay: Millis(100), reason: None });
        assert_eq!(n.events(id), ["enqueued", "started", "snoozed"]);
    });
}
