//! Lines of a queue with dependencies and a cleaner.

use runner_store::command::{Reply, Sweep};
use runner_store::job::{
    BootId, JobSpec, Millis, Outcome, OutcomeName, Priority, Reason, Rejection, StateName, Time, Verdict,
};

use super::*;

const DAY: u64 = 24 * 3_600_000;

#[test]
fn s_02_a_job_has_the_defaults() {
    line(|n| {
        let job = n.job(n.enqueue(work()));
        assert_eq!((job.priority, job.state.name(), job.run.0), (Priority(0), StateName::Available, 0));
        assert_eq!((job.run_at, job.attempts, job.max_attempts), (START, 0, None));
    });
}

#[test]
fn s_03_what_breaks_a_rule_is_refused() {
    line(|n| {
        let bad: [(JobSpec, &str); 4] = [
            (JobSpec::new("no kind", ""), "kind"),
            (work_with(|s| s.queue = String::new()), "queue"),
            (work_with(|s| s.max_attempts = Some(0)), "max_attempts"),
            (work_with(|s| s.timeout = Some(Millis(0))), "timeout"),
        ];
        for (spec, field) in bad {
            let reply = n.call(enqueue(vec![spec]));
            let Reply::Rejected(Rejection::Invalid(invalid)) = reply else { panic!("{reply:?}") };
            assert_eq!(invalid.field, field);
        }
    });
}

#[test]
fn s_04_jobs_run_by_priority_then_time_then_id() {
    line(|n| {
        let job = |priority, ms| work_with(|s| (s.priority, s.run_at) = (Priority(priority), Some(Time(START.0 + ms))));
        n.enqueue_all(vec![job(1, 5), job(0, 9), job(0, 5), job(0, 5), job(-1, 9)]);
        n.advance(10);
        assert_eq!(n.work_off(|_| completed()), [5, 3, 4, 2, 1]);
    });
}

/// B and C after A, D after B and C.
fn diamond(n: &Node) -> Vec<JobId> {
    let on = |places: &[u32]| work_with(|s| s.depends_on = after_places(places));
    n.enqueue_all(vec![work(), on(&[0]), on(&[0]), on(&[1, 2])])
}

#[test]
fn s_05_the_end_of_a_diamond_never_runs_before_both_sides() {
    line(|n| {
        let ids = diamond(n);
        let mut ran = Vec::new();
        while ran.len() < 4 {
            for run in n.claim(9) {
                n.finish(run, completed());
                ran.push(run.at.job);
            }
            n.settled();
        }
        assert_eq!((ran[0], ran[3]), (ids[0], ids[3]));
    });
}

#[test]
fn s_06_the_discard_of_the_first_cancels_all_each_naming_why() {
    line(|n| {
        let ids = diamond(n);
        n.work_off(|_| Outcome::Discarded { reason: "no".to_owned() });
        n.settled();
        let because = |job, verdict| Some(Reason::Dependency { job, verdict });
        let reason = |id| n.job(id).reason().cloned();
        assert_eq!(reason(ids[1]), because(ids[0], Verdict::Discarded));
        assert_eq!(reason(ids[2]), because(ids[0], Verdict::Discarded));
        assert_eq!(reason(ids[3]), because(ids[1], Verdict::Cancelled));
        assert_eq!(reason(ids[3]).unwrap().to_string(), "dependency 2 was cancelled");
    });
}

#[test]
fn s_07_an_unknown_dependency_is_refused() {
    line(|n| {
        let reply = n.call(enqueue(vec![work_after(&[JobId(77)])]));
        assert!(matches!(reply, Reply::Rejected(Rejection::Invalid(_))), "{reply:?}");
    });
}

#[test]
fn s_08_a_dependency_that_was_cleaned_after_completion_never_blocks() {
    line(|n| {
        let on = n.enqueue(work());
        n.work_off(|_| completed());
        let held = n.enqueue(JobSpec { hold: true, ..work_after(&[on]) });
        n.call(delete(on));
        n.call(Command::Release(at(held)));
        assert_eq!(n.work_off(|_| completed()), [held.0]);
    });
}

#[test]
fn s_09_two_attempts_are_two_records_and_then_it_is_discarded() {
    line(|n| {
        let id = n.enqueue(work_with(|s| s.max_attempts = Some(2)));
        for _ in 0..2 {
            n.work_off(|_| failed("no"));
            n.advance(10_000);
        }
        let records: Vec<(u32, OutcomeName)> = n.runs(id).iter().map(|run| (run.run.0, run.outcome)).collect();
        assert_eq!(records, [(1, OutcomeName::Failed), (2, OutcomeName::Failed)]);
        assert_eq!(n.job(id).reason(), Some(&Reason::AttemptsExhausted { attempts: 2 }));
    });
}

/// S-10 and S-17: a crash while it runs; it runs again after the restart, and the crash is counted.
#[test]
fn s_10_a_job_that_crashed_runs_again_and_is_counted() {
    line(|n| {
        let id = n.enqueue(work());
        let runs = n.claim(1);
        let reply = n.restart(BootId(2), runs);
        assert_eq!(reply, Reply::Ended { crashed: 1, interrupted: 0, more: false });
        assert_eq!((n.job(id).attempts, n.job(id).crashes, n.state(id)), (1, 1, StateName::Retryable));
        n.advance(10_000);
        assert_eq!(n.work_off(|_| completed()), [id.0]);
        assert_eq!((n.state(id), n.job(id).crashes), (StateName::Completed, 0));
    });
}

/// S-17: and at the third crash in a row it is poison.
#[test]
fn s_17_a_job_that_kills_its_node_again_and_again_is_poison() {
    line(|n| {
        let id = n.enqueue(work());
        for boot in 2..5 {
            let runs = n.claim(1);
            assert_eq!(runs.len(), 1);
            n.restart(BootId(boot), runs);
            n.advance(60_000);
        }
        assert_eq!(n.job(id).reason(), Some(&Reason::Poison { crashes: 3 }));
        assert_eq!(n.claim(9), []);
    });
}

/// A job in this state; what it waits for, where it does, is the job before it.
#[track_caller]
fn job_in(n: &Node, state: StateName) -> JobId {
    let on = n.enqueue(JobSpec { hold: true, queue: "aside".to_owned(), ..work() });
    let id = n.enqueue(match state {
        StateName::Held => work_with(|s| s.hold = true),
        StateName::Blocked => work_after(&[on]),
        StateName::Scheduled => work_with(|s| s.delay = Some(Millis(3_600_000))),
        _ => work(),
    });
    let end = |outcome| {
        let run = n.claim(1)[0];
        n.finish(run, outcome);
    };
    match state {
        StateName::Retryable => end(failed("no")),
        StateName::Running => assert_eq!(n.claim(1).len(), 1),
        StateName::Completed => end(completed()),
        StateName::Discarded => end(Outcome::Discarded { reason: String::new() }),
        StateName::Cancelled => _ = n.call(cancel(id)),
        _ => {}
    }
    assert_eq!(n.state(id), state);
    id
}

/// What a verb makes of a job in every state, in the order of [`StateName::ALL`]; `no` is a rejection.
#[track_caller]
fn check_verb(verb: impl Fn(JobId) -> Command, expected: [&str; 9]) {
    line(|n| {
        for (state, expected) in StateName::ALL.into_iter().zip(expected) {
            let id = job_in(n, state);
            let after = match n.call(verb(id)) {
                Reply::Job { job, .. } => job.state.name().to_string(),
                Reply::Deleted => "gone".to_owned(),
                Reply::Rejected(_) => "no".to_owned(),
                other => panic!("{other:?}"),
            };
            assert_eq!(after, expected, "in state {state}");
            n.call(delete_with(id, true, true));
        }
    });
}

#[test]
fn s_11_cancel_in_every_state() {
    let c = "cancelled";
    check_verb(cancel, [c, c, c, c, c, "running", "no", "no", c]);
}

#[test]
fn s_12_retry_in_every_state() {
    let a = "available";
    check_verb(retry, ["no", "no", a, a, a, "no", a, a, a]);
}

#[test]
fn s_13_release_in_every_state() {
    let verb = |id| Command::Release(at(id));
    let expected = ["available", "blocked", "scheduled", "retryable", "available", "running", "no", "no", "no"];
    check_verb(verb, expected);
}

#[test]
fn s_13_delete_in_every_state() {
    let expected = ["gone", "gone", "gone", "gone", "gone", "no", "gone", "gone", "gone"];
    check_verb(delete, expected);
}

/// Kept for 30 days: 31 d gone, 29 d kept.
#[test]
fn s_14_retention_takes_what_is_older_and_keeps_what_is_younger() {
    line(|n| {
        let old = n.enqueue(work());
        n.call(cancel(old));
        n.advance(2 * DAY);
        let young = n.enqueue(work());
        n.call(cancel(young));
        n.advance(29 * DAY);
        n.call(runner_store::command::Command::Sweep(Sweep { after: None, budget: 100 }));
        assert!(n.find(old).is_none() && n.find(young).is_some());
    });
}

#[test]
fn s_15_ten_slots_are_never_more_than_ten_at_once() {
    line(|n| {
        n.enqueue_all(vec![work(); 95]);
        let mut running = std::collections::VecDeque::new();
        let mut most = 0;
        loop {
            running.extend(n.claim(10 - running.len() as u32));
            most = most.max(running.len());
            let Some(run) = running.pop_front() else { break };
            n.finish(run, completed());
        }
        assert_eq!(most, 10);
    });
}
