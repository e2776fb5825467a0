//! What operators do to jobs: cancel, retry, hold and release, edit, delete, in every state.

use runner_store::command::{Command, Finish, Part, Reply, StagedJob};
use runner_store::job::{Edit, JobId, Millis, Outcome, Priority, Reason, Rejection, RunNumber, StateName, Time};

use crate::world::*;

/// Every state that a job can be brought into without dependencies.
const STATES: [StateName; 8] = [
    StateName::Held,
    StateName::Scheduled,
    StateName::Retryable,
    StateName::Available,
    StateName::Running,
    StateName::Completed,
    StateName::Discarded,
    StateName::Cancelled,
];

/// A new job, brought into this state.
#[track_caller]
fn job_in(w: &mut World, state: StateName) -> JobId {
    let id = w.enqueue(work_with(|s| match state {
        StateName::Held => s.hold = true,
        StateName::Scheduled => s.delay = Some(Millis(1_000)),
        _ => {}
    }));
    match state {
        StateName::Retryable => _ = w.run_once(id, failed("no")),
        StateName::Running => _ = w.start(id),
        StateName::Completed => _ = w.run_once(id, Outcome::Completed { output: b"out".to_vec() }),
        StateName::Discarded => _ = w.run_once(id, Outcome::Discarded { reason: "bad".to_owned() }),
        StateName::Cancelled => _ = w.call(cancel(id)),
        _ => {}
    }
    assert_eq!(w.state(id), state);
    id
}

/// What a verb makes of a job in each state: `Ok((state, changed))`, or the rejection.
#[track_caller]
fn check_verb(verb: impl Fn(JobId) -> Command, expected: [Result<(StateName, bool), Rejection>; 8]) {
    case(|w| {
        for (state, expected) in STATES.into_iter().zip(expected) {
            let id = job_in(w, state);
            let got = match w.call(verb(id)) {
                Reply::Job { job, changed } => Ok((job.state.name(), changed)),
                Reply::Rejected(rejection) => Err(rejection),
                other => panic!("{other:?}"),
            };
            assert_eq!(got, expected, "in state {state}");
            // Out of the way of the next one.
            w.call(Command::Delete { job: at(id), force: true, cascade: false });
        }
        assert_eq!(w.call(verb(JobId(999))), Reply::Rejected(Rejection::Unknown));
    });
}

#[test]
fn cancel_in_every_state() {
    let cancelled = || Ok((StateName::Cancelled, true));
    check_verb(
        cancel,
        [
            cancelled(),
            cancelled(),
            cancelled(),
            cancelled(),
            Ok((StateName::Running, true)),
            Err(Rejection::State(StateName::Completed)),
            Err(Rejection::State(StateName::Discarded)),
            Ok((StateName::Cancelled, false)),
        ],
    );
}

#[test]
fn retry_in_every_state() {
    let available = |changed| Ok((StateName::Available, changed));
    check_verb(
        |id| Command::Retry { job: at(id), fresh: false },
        [
            Err(Rejection::State(StateName::Held)),
            available(true),
            available(true),
            available(false),
            Err(Rejection::State(StateName::Running)),
            available(true),
            available(true),
            available(true),
        ],
    );
}

#[test]
fn release_in_every_state() {
    check_verb(
        |id| Command::Release(at(id)),
        [
            Ok((StateName::Available, true)),
            Ok((StateName::Scheduled, false)),
            Ok((StateName::Retryable, false)),
            Ok((StateName::Available, false)),
            Ok((StateName::Running, false)),
            Err(Rejection::State(StateName::Completed)),
            Err(Rejection::State(StateName::Discarded)),
            Err(Rejection::State(StateName::Cancelled)),
        ],
    );
}

#[test]
fn edit_in_every_state() {
    let edit = Edit { priority: Some(Priority(7)), ..Edit::default() };
    check_verb(
        |id| Command::Edit { job: at(id), edit: Box::new(edit.clone()) },
        [
            Ok((StateName::Held, true)),
            Ok((StateName::Scheduled, true)),
            Ok((StateName::Retryable, true)),
            Ok((StateName::Available, true)),
            Err(Rejection::State(StateName::Running)),
            Err(Rejection::State(StateName::Completed)),
            Err(Rejection::State(StateName::Discarded)),
            Err(Rejection::State(StateName::Cancelled)),
        ],
    );
}

#[test]
fn delete_in_every_state() {
    case(|w| {
        for state in STATES {
            let id = job_in(w, state);
            let delete = |force| Command::Delete { job: at(id), force, cascade: false };
            if state == StateName::Running {
                assert_eq!(w.call(delete(false)), Reply::Rejected(Rejection::State(state)));
            }
            assert_eq!(w.call(delete(true)), Reply::Deleted);
            assert_eq!(w.call(delete(true)), Reply::Rejected(Rejection::Unknown));
            assert_eq!((w.find(id), w.runs(id)), (None, vec![]));
            assert_eq!(Part::ALL.map(|part| w.payload(id, part)), [None, None, None]);
            assert_eq!(w.events(id).last(), Some(&"deleted"));
        }
        let dump = w.check();
        assert_eq!((dump.counts, dump.lists), (vec![], vec![]));
    });
}

#[test]
fn the_finish_of_a_job_that_was_deleted_by_force_finds_nothing() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        w.call(Command::Delete { job: at(id), force: true, cascade: false });
        assert_eq!(w.call(finish(run, completed())), Reply::Rejected(Rejection::Unknown));
        assert_eq!(w.call(Command::HandBack(run)), Reply::Rejected(Rejection::Unknown));
    });
}

#[test]
fn a_cancel_of_a_running_job_is_a_flag_until_its_run_ends() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        let why = Command::Cancel { job: at(id), reason: Some("no need".to_owned()) };
        let job = job_of(&w.call(why.clone()));
        assert_eq!(job.lease().unwrap().cancel.as_ref().unwrap().reason.as_deref(), Some("no need"));
        assert!(!changed(&w.call(why)), "it is flagged already");
        assert_eq!(w.claim(1), [0; 0]);
        let ended = job_of(&w.call(finish(run, failed("killed"))));
        assert_eq!(ended.reason(), Some(&Reason::Requested(Some("no need".to_owned()))));
        assert_eq!(w.events(id), ["enqueued", "started", "cancel_requested", "cancelled"]);
        assert_eq!(w.runs(id)[0].error.as_deref(), Some("killed"), "the run's record says how it ended");
    });
}

/// The story: 1,024 bytes were accepted and 256 of them kept, and nobody said so.
#[test]
fn a_reason_is_kept_as_long_as_it_may_be() {
    case(|w| {
        let id = w.enqueue(work());
        let cancel = |words: usize| Command::Cancel { job: at(id), reason: Some("x".repeat(words)) };
        let job = job_of(&w.call(cancel(1_024)));
        assert_eq!(job.reason(), Some(&Reason::Requested(Some("x".repeat(1_024)))));
        w.call(Command::Retry { job: at(id), fresh: false });
        let job = job_of(&w.call(cancel(1_025)));
        assert_eq!(job.reason(), Some(&Reason::Requested(Some("x".repeat(1_024)))), "no longer");
    });
}

/// A flagged run that ends so leads to that state; its effects are recorded or not.
#[track_caller]
fn check_flagged(outcome: &Outcome, state: StateName, effects: bool) {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        let Reply::Reserved { first } = w.call(Command::ReserveIds { n: 1 }) else { panic!("not reserved") };
        w.call(cancel(id));
        let staged = vec![StagedJob { id: first, spec: work() }];
        let call = Finish { staged, ..finishing(run, outcome.clone()) };
        let job = job_of(&w.call(Command::Finish(Box::new(call))));
        assert_eq!((job.state.name(), w.find(first).is_some()), (state, effects), "{outcome:?}");
    });
}

#[test]
fn any_end_but_completed_of_a_flagged_run_is_cancelled_without_effects() {
    let text = String::new;
    for outcome in [
        failed("no"),
        Outcome::Discarded { reason: text() },
        Outcome::Snoozed { delay: Millis(100), reason: None },
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
        check_flagged(&outcome, StateName::Cancelled, false);
    }
    check_flagged(&completed(), StateName::Completed, true);
}

#[test]
fn a_flagged_run_that_is_handed_back_is_cancelled() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        w.call(cancel(id));
        assert_eq!(job_of(&w.call(Command::HandBack(run))).state.name(), StateName::Cancelled);
    });
}

#[test]
fn a_retry_takes_the_counters_the_end_and_the_output_and_leaves_the_history() {
    case(|w| {
        let id = w.enqueue(work_with(|s| (s.max_attempts, s.expires_at) = (Some(1), Some(Time(START.0 + 50)))));
        w.run_once(id, failed("no"));
        assert_eq!(w.state(id), StateName::Discarded);
        w.advance(60);
        let job = job_of(&w.call(Command::Retry { job: at(id), fresh: false }));
        assert_eq!((job.attempts, job.run, job.expires_at, job.finalized_at()), (0, RunNumber(1), None, None));
        assert_eq!(job.run_at, w.now());
        let job = w.run_once(id, completed());
        assert_eq!((job.state.name(), job.attempts, job.run), (StateName::Completed, 1, RunNumber(2)));
        assert_eq!(w.runs(id).len(), 2);
        assert_eq!(w.events(id), ["enqueued", "started", "discarded", "retried", "started", "completed"]);
    });
}

#[test]
fn a_retry_brings_a_scheduled_job_forward() {
    case(|w| {
        let id = w.enqueue(work_with(|s| s.delay = Some(Millis(3_600_000))));
        w.call(Command::Retry { job: at(id), fresh: false });
        assert_eq!(w.persisted().next_due, None);
        assert_eq!(w.claim(1), [id.0]);
    });
}

#[test]
fn a_held_job_waits_for_its_release_then_for_its_time() {
    case(|w| {
        let id = w.enqueue(work_with(|s| (s.hold, s.delay) = (true, Some(Millis(50)))));
        assert_eq!(job_of(&w.call(Command::Release(at(id)))).state.name(), StateName::Scheduled);
        let late = w.enqueue(work_with(|s| (s.hold, s.delay) = (true, Some(Millis(50)))));
        w.advance(50);
        assert_eq!(w.claim(9), [id.0], "a held job does not become due");
        assert_eq!(job_of(&w.call(Command::Release(at(late)))).state.name(), StateName::Available);
        assert_eq!(w.claim(9), [late.0]);
    });
}

#[test]
fn an_edit_moves_a_job_in_its_lane_and_in_time() {
    case(|w| {
        let [a, b, c] = [1, 2, 3].map(|_| w.enqueue(work()));
        let edit = |id, edit| Command::Edit { job: at(id), edit: Box::new(edit) };
        w.call(edit(c, Edit { priority: Some(Priority(-1)), ..Edit::default() }));
        let later = Time(START.0 + 100);
        let job = job_of(&w.call(edit(a, Edit { run_at: Some(later), ..Edit::default() })));
        assert_eq!(job.state.name(), StateName::Scheduled);
        assert_eq!(w.claim(9), [c.0, b.0]);
        let sooner = Edit { run_at: Some(Time(3)), timeout: Some(Millis(7)), ..Edit::default() };
        let job = job_of(&w.call(edit(a, sooner)));
        assert_eq!((job.state.name(), job.run_at, job.timeout), (StateName::Available, START, Some(Millis(7))));
        assert_eq!(w.events(a), ["enqueued", "edited", "edited"]);
    });
}

#[test]
fn verbs_of_one_batch_see_each_other() {
    case(|w| {
        let id = w.enqueue(work());
        let replies = w.batch(&[cancel(id), cancel(id), Command::Retry { job: at(id), fresh: false }, cancel(id)]);
        assert_eq!(replies.iter().map(changed).collect::<Vec<_>>(), [true, false, true, true]);
        assert_eq!(w.events(id), ["enqueued", "cancelled", "retried", "cancelled"]);
        assert_eq!(w.state(id), StateName::Cancelled);
    });
}

/// The story: a job's whole life fell into one batch. The row went, the args that the same batch had written stayed, and
/// so did the record of its run: payloads of a job that is not there.
#[test]
fn a_job_that_comes_and_goes_in_one_batch_leaves_nothing_but_its_events() {
    case(|w| {
        let old = w.enqueue(work());
        let lane = w.lane("default", "work");
        let run = |id| runner_store::command::RunRef { at: at(id), run: RunNumber(1) };
        let done = Outcome::Completed { output: b"out".to_vec() };
        let new = JobId(old.0 + 1);
        let delete = |id| Command::Delete { job: at(id), force: false, cascade: false };
        w.batch(&[
            enqueue(vec![work()]),
            claim(BOOT, 2, &[lane]),
            finish(run(old), done.clone()),
            finish(run(new), done),
            delete(old),
            delete(new),
        ]);
        let dump = w.check();
        assert_eq!((dump.jobs, dump.payloads, dump.runs), (vec![], vec![], vec![]));
        assert_eq!(w.events(new), ["enqueued", "started", "completed", "deleted"]);
    });
}
