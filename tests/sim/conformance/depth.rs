//! Jobs that enqueue each other: so many in a row, and no more.

use runner_store::command::{Command, Finish, StagedJob};
use runner_store::job::{Edit, JobId, JobSpec, Millis, OnConflict, Rejection, RunNumber, StateName, limits};

use crate::world::*;

/// Runs the job, which stages these; answers the ids that they were to have.
#[track_caller]
fn run_staging(w: &mut World, id: JobId, specs: &[JobSpec]) -> Vec<JobId> {
    let run = w.start(id);
    let first = reserve(w, specs.len() as u32);
    let ids: Vec<JobId> = (0..specs.len() as u64).map(|i| JobId(first.0 + i)).collect();
    let staged = ids.iter().zip(specs).map(|(id, spec)| StagedJob { id: *id, spec: spec.clone() }).collect();
    let job = job_of(&w.call(Command::Finish(Box::new(Finish { staged, ..finishing(run, completed()) }))));
    assert_eq!(job.state.name(), StateName::Completed, "what is too deep fails nothing");
    ids
}

/// A row of jobs, each of which enqueued the next one, as long as it may be; answers the last.
fn row(w: &mut World) -> JobId {
    let mut last = w.enqueue(work());
    for depth in 1..=limits::DEPTH_MAX {
        last = run_staging(w, last, &[work()])[0];
        assert_eq!(w.job(last).depth, depth);
    }
    last
}

#[test]
fn a_job_that_enqueues_itself_ends_after_twenty_of_them() {
    case(|w| {
        let last = row(w);
        let dropped = run_staging(w, last, &[work()])[0];
        assert_eq!(w.find(dropped), None);
        let fate = w.runs(last).remove(0).staged.remove(0);
        assert_eq!((fate.id, fate.joined), (dropped, None));
        assert!(fate.why.unwrap().starts_with("21 jobs in a row"));
    });
}

#[test]
fn what_waits_a_minute_or_for_somebody_begins_a_new_row() {
    case(|w| {
        let last = row(w);
        let later = work_with(|s| s.delay = Some(Millis(60_000)));
        let soon = work_with(|s| s.delay = Some(Millis(59_999)));
        let ids = run_staging(w, last, &[later, soon, work_with(|s| s.hold = true)]);
        assert_eq!((w.job(ids[0]).depth, w.job(ids[2]).depth), (0, 0));
        assert_eq!(w.find(ids[1]), None);
    });
}

/// The story: a run staged a job for later, which began a new row, and with the same key brought it forward at once: that
/// row had no end.
#[test]
fn a_job_that_a_run_brings_forward_is_as_deep_as_a_new_one() {
    case(|w| {
        let last = row(w);
        let later = JobSpec { delay: Some(Millis(60_000)), ..unique("k", OnConflict::Replace) };
        let ids = run_staging(w, last, &[later, unique("k", OnConflict::Replace)]);
        assert_eq!((w.job(ids[0]).state.name(), w.find(ids[1])), (StateName::Scheduled, None), "left out");

        let first = w.enqueue(JobSpec { delay: Some(Millis(60_000)), ..unique("other", OnConflict::Replace) });
        let parent = w.enqueue(work());
        run_staging(w, parent, &[unique("other", OnConflict::Replace)]);
        assert_eq!((w.job(first).depth, w.state(first)), (1, StateName::Available));
    });
}

#[test]
fn an_enqueue_from_outside_states_its_depth_or_has_none() {
    case(|w| {
        let id = w.enqueue(work_with(|s| s.depth = limits::DEPTH_MAX));
        assert_eq!(w.job(id).depth, limits::DEPTH_MAX);
        let reply = w.call(enqueue(vec![work_with(|s| s.depth = limits::DEPTH_MAX + 1)]));
        assert!(matches!(&reply, runner_store::command::Reply::Rejected(Rejection::Invalid(i)) if i.field == "depth"));
        w.call(edit(id, Edit { depth: Some(3), ..Edit::default() }));
        assert_eq!(w.job(id).depth, limits::DEPTH_MAX, "nothing makes it less");
        w.run_once(id, completed());
        w.call(retry(id));
        assert_eq!((w.job(id).depth, w.job(id).run), (limits::DEPTH_MAX, RunNumber(1)));
    });
}
