//! Asking for what breaks a rule is refused and changes nothing; and a clock may do what it likes.

use runner_store::command::{Command, Reply};
use runner_store::job::{Edit, Invalid, JobId, Millis, Rejection, StateName, Time, limits};

use crate::world::*;

#[track_caller]
fn check_edit(edit: Edit, field: &str) {
    case(|w| {
        let id = w.enqueue(work());
        let reply = w.call(Command::Edit { job: at(id), edit: Box::new(edit) });
        let Reply::Rejected(Rejection::Invalid(Invalid { field: refused, .. })) = reply else { panic!("{reply:?}") };
        assert_eq!(refused, field);
        assert_eq!(w.events(id), ["enqueued"]);
    });
}

/// The story: what an enqueue refuses, an edit accepted: a job with no attempts, a time-out of a year, a run in 300 000 AD.
#[test]
fn an_edit_keeps_the_bounds_of_an_enqueue() {
    check_edit(Edit { max_attempts: Some(0), ..Edit::default() }, "max_attempts");
    check_edit(Edit { max_attempts: Some(limits::ATTEMPTS_MAX + 1), ..Edit::default() }, "max_attempts");
    check_edit(Edit { timeout: Some(Millis(0)), ..Edit::default() }, "timeout");
    check_edit(Edit { timeout: Some(Millis(limits::TIMEOUT_MAX.0 + 1)), ..Edit::default() }, "timeout");
    check_edit(Edit { run_at: Some(Time(Time::MAX.0 + 1)), ..Edit::default() }, "run_at");
}

/// The story: whoever asked for more ids than are set aside at once got fewer, was not told, and used those of others.
#[test]
fn more_ids_than_can_be_set_aside_are_refused() {
    case(|w| {
        let reserve = |n| Command::ReserveIds { n };
        assert_eq!(w.call(reserve(10_000)), Reply::Reserved { first: JobId(1) });
        assert!(matches!(w.call(reserve(10_001)), Reply::Rejected(Rejection::Invalid(_))));
        assert!(matches!(w.call(reserve(0)), Reply::Rejected(Rejection::Invalid(_))));
        assert_eq!(w.enqueue(work()), JobId(10_001));
    });
}

#[test]
fn set_aside_ids_stay_so_after_a_restart() {
    case(|w| {
        w.call(Command::ReserveIds { n: 5 });
        w.reopen();
        assert_eq!(w.enqueue(work()), JobId(6));
    });
}

#[test]
fn a_clock_that_steps_back_takes_nothing_back() {
    case(|w| {
        let due = w.enqueue(work_with(|s| s.delay = Some(Millis(100))));
        let waits = w.enqueue(work_with(|s| s.delay = Some(Millis(200))));
        w.advance(150);
        w.call(Command::Due);
        w.clock.set(Time(START.0 - 3_600_000));
        assert_eq!(w.claim(9), [due.0], "what became due stays so");
        let claimed_at = w.job(due).lease().unwrap().claimed_at;
        assert!(claimed_at >= Time(START.0 + 100));
        let done = w.finish(due, completed());
        assert!(done.finalized_at().unwrap() >= claimed_at);
        let run = w.runs(due).remove(0);
        assert!(run.finished_at >= claimed_at, "a run does not end before it began");
        assert_eq!(w.state(waits), StateName::Scheduled);
        let cancelled = job_of(&w.call(cancel(waits)));
        assert!(cancelled.finalized_at().unwrap() >= cancelled.enqueued_at);
        let late = w.enqueue(work());
        assert_eq!(w.job(late).enqueued_at, Time(START.0 - 3_600_000));
        let order: Vec<u64> = w.log(0, 100).iter().map(|entry| entry.seq.0).collect();
        assert!(order.into_iter().eq(1..=7), "order in the log is by number");
    });
}

#[test]
fn a_clock_that_jumps_ahead_makes_everything_due_once() {
    case(|w| {
        let ids = w.enqueue_all(vec![work_with(|s| s.delay = Some(Millis(1_000))); 3]);
        w.advance(10 * 365 * 24 * 3_600 * 1_000);
        assert_eq!(w.claim(9), ids.iter().map(|id| id.0).collect::<Vec<_>>());
        assert_eq!(w.call(Command::Due), Reply::Due { jobs: 0 });
    });
}
