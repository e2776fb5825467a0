//! What a run stages is recorded with its outcome, or not at all.

use runner_store::command::{Command, Finish, Part, RunRef, StagedJob};
use runner_store::job::{JobId, JobSpec, Millis, Outcome, StateName};

use crate::world::*;

fn staging(run: RunRef, outcome: Outcome, jobs: &[(JobId, JobSpec)]) -> Command {
    let staged = jobs.iter().map(|(id, spec)| StagedJob { id: *id, spec: spec.clone() }).collect();
    Command::Finish(Box::new(Finish { staged, ..finishing(run, outcome) }))
}

/// A run that ends so leaves the job that it staged, or does not.
#[track_caller]
fn check_staged(outcome: &Outcome, recorded: bool) {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        let reserved = reserve(w, 1);
        w.call(staging(run, outcome.clone(), &[(reserved, JobSpec::new("next", "args"))]));
        assert_eq!(w.find(reserved).is_some(), recorded, "{outcome:?}");
        if recorded {
            assert_eq!(w.payload(reserved, Part::Args).as_deref(), Some(&b"args"[..]));
            assert_eq!(w.events(reserved), ["enqueued"]);
        }
        let next = w.enqueue(work());
        assert!(next > reserved, "an id that was set aside is never given out again");
    });
}

#[test]
fn effects_are_recorded_with_completed_snoozed_and_discarded_only() {
    let text = String::new;
    check_staged(&completed(), true);
    check_staged(&Outcome::Snoozed { delay: Millis(100), reason: None }, true);
    check_staged(&Outcome::Discarded { reason: text() }, true);
    for outcome in [
        failed("no"),
        Outcome::Trapped { code: text(), message: text(), backtrace: None },
        Outcome::OutOfFuel { limit: 1 },
        Outcome::TimedOut { limit: Millis(1) },
        Outcome::OutOfMemory { limit_bytes: 1 },
        Outcome::OutputTooLarge { limit_bytes: 1 },
        Outcome::Cancelled,
        Outcome::Interrupted,
        Outcome::Crashed,
        Outcome::PluginBroken { message: text() },
    ] {
        check_staged(&outcome, false);
    }
}

#[test]
fn a_stale_finish_leaves_no_effects() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        let reserved = reserve(w, 2);
        w.call(staging(run, completed(), &[(reserved, work())]));
        let again = JobId(reserved.0 + 1);
        assert_eq!(w.call(staging(run, completed(), &[(again, work())])), stale(1));
        assert_eq!(w.find(again), None);
    });
}

#[test]
fn a_staged_job_that_breaks_a_rule_is_left_out_and_fails_nothing() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        let first = reserve(w, 2);
        let second = JobId(first.0 + 1);
        let reply = w.call(staging(run, completed(), &[(first, JobSpec::new("", "")), (second, work())]));
        assert_eq!(job_of(&reply).state.name(), StateName::Completed);
        assert_eq!((w.find(first), w.state(second)), (None, StateName::Available));
    });
}

/// The story: a finish that named the id of a job which was there wrote over it. The old row was gone, its index entries
/// pointed at the new one, and nothing said so.
#[test]
fn a_staged_job_never_takes_the_id_of_another() {
    case(|w| {
        let (id, other) = (w.enqueue(work()), w.enqueue(work_with(|s| s.hold = true)));
        let run = w.start(id);
        let reserved = reserve(w, 1);
        w.call(staging(run, completed(), &[(other, JobSpec::new("x", "")), (reserved, work()), (reserved, work())]));
        assert_eq!(w.state(other), StateName::Held);
        assert_eq!(w.state(reserved), StateName::Available);
        assert_eq!(w.check().jobs.len(), 3);
    });
}

/// The story: a batch deleted a job and staged another under its id. The old one's runs and args were the new one's, and
/// when that was deleted, some of them stayed for ever.
#[test]
fn a_staged_job_does_not_inherit_from_a_job_that_is_gone() {
    case(|w| {
        let (id, other) = (w.enqueue(work()), w.enqueue(work()));
        w.start(id);
        w.run_once(other, completed());
        let run = w.run(id);
        let delete = Command::Delete { job: at(other), force: false, cascade: false };
        w.batch(&[delete, staging(run, completed(), &[(other, work())])]);
        assert_eq!((w.find(other), w.runs(other)), (None, vec![]));
    });
}

/// The story: an id that was never set aside was accepted, and later given out to another job.
#[test]
fn a_staged_job_needs_an_id_that_was_set_aside() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        let job = job_of(&w.call(staging(run, completed(), &[(JobId(2), work())])));
        assert_eq!(job.state.name(), StateName::Completed);
        assert_eq!(w.find(JobId(2)), None);
        assert_eq!(w.enqueue(work()), JobId(2));
    });
}

#[test]
fn a_staged_job_is_claimed_in_the_batch_of_its_outcome() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        let reserved = reserve(w, 1);
        let lane = w.lane("default", "work");
        let replies = w.batch(&[staging(run, completed(), &[(reserved, work())]), claim(BOOT, 1, &[lane])]);
        assert_eq!(claimed_ids(&replies[1]), [reserved.0]);
    });
}

#[test]
fn five_hundred_staged_jobs_are_there_in_order() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        let first = reserve(w, 500);
        let jobs: Vec<_> = (0..500).map(|i| (JobId(first.0 + i), work())).collect();
        w.call(staging(run, completed(), &jobs));
        w.reopen();
        assert!(w.claim(1_000).into_iter().eq(first.0..first.0 + 500));
    });
}
