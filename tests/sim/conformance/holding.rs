//! How long unique keys are held: by states, by periods, across runs, retries, deletions and take-overs.

use runner_store::command::{Command, Enqueue, Finish, Measured, Merged, Reply, StagedJob};
use runner_store::decide::Conduct;
use runner_store::job::{JobId, JobSpec, Millis, OnConflict, Outcome, Rejection, StateName, States, Time, Unique};

use crate::world::*;

const HELD: fn(u64) -> Reply = |id| Reply::Rejected(Rejection::UniqueHeld(JobId(id)));

fn with(states: States, period: Option<Millis>, on_conflict: OnConflict) -> JobSpec {
    let unique = Unique { key: "k".to_owned(), states, period, on_conflict };
    work_with(|s| s.unique = Some(unique))
}

fn rejecting() -> Command {
    enqueue(vec![unique("k", OnConflict::Reject)])
}

/// With a period, and no state that matters.
fn for_a_while(ms: u64, on_conflict: OnConflict) -> JobSpec {
    with(States::default(), Some(Millis(ms)), on_conflict)
}

#[test]
fn a_key_is_free_once_its_job_has_ended() {
    for end in ["completes", "is cancelled", "is deleted", "expires", "crashes", "depends"] {
        case(|w| {
            let mut spec = unique("k", OnConflict::Reject);
            match end {
                "expires" => spec.expires_at = Some(Time(START.0 + 5)),
                "crashes" => spec.max_attempts = Some(1),
                _ => {}
            }
            let on = w.enqueue(work());
            if end == "depends" {
                spec.depends_on = after(&[on]);
            }
            let id = w.enqueue(spec);
            assert_eq!(w.call(rejecting()), HELD(2), "until it {end}");
            w.call(delete_with(on, false, end == "depends"));
            match end {
                "completes" => _ = w.run_once(id, completed()),
                "is cancelled" => _ = w.call(cancel(id)),
                "is deleted" => _ = w.call(delete(id)),
                "crashes" => {
                    let run = w.start(id);
                    w.call(end_boots(runner_store::job::BootId(9), vec![run]));
                }
                _ => {
                    w.advance(5);
                    w.claim(1);
                }
            }
            assert!(w.find(id).is_none_or(|job| job.state.name().is_final()), "it {end}");
            assert_eq!(w.holder("k"), None, "it {end}");
            assert_eq!(ids(&w.call(rejecting())), [JobId(3)]);
        });
    }
}

#[test]
fn a_running_holder_loses_its_key_to_the_next_one_for_good() {
    for mode in [OnConflict::Replace, OnConflict::Merge, OnConflict::Debounce { delay: Millis(0), max: None }] {
        case(|w| {
            let first = w.enqueue(unique("k", OnConflict::Keep));
            let run = w.start(first);
            let second = w.enqueue(unique("k", mode));
            assert_eq!((second, w.holder("k")), (JobId(2), Some(2)));
            // The old one fails and waits: it holds nothing any more.
            w.call(finish(run, failed("no")));
            assert_eq!(w.holder("k"), Some(2));
            assert_eq!(w.call(rejecting()), HELD(2));
            // And its end takes nothing from the new one.
            w.call(cancel(first));
            assert_eq!(w.call(rejecting()), HELD(2));
            assert_eq!(w.call(retry(first)), HELD(2), "nor does it get it back");
            w.call(cancel(second));
            assert_eq!(job_of(&w.call(retry(first))).state.name(), StateName::Available);
            assert_eq!(w.call(rejecting()), HELD(1));
        });
    }
}

/// The story: the row of the job that holds the key was not read, so nobody seemed to hold it, and two jobs ran.
#[test]
fn a_retry_takes_the_key_again_or_is_refused() {
    case(|w| {
        let first = w.enqueue(unique("k", OnConflict::Reject));
        w.run_once(first, completed());
        let second = w.enqueue(unique("k", OnConflict::Reject));
        assert_eq!(w.call(retry(first)), HELD(2));
        assert_eq!(w.state(first), StateName::Completed);
        w.reopen();
        assert_eq!(w.call(retry(first)), HELD(2));
        w.run_once(second, completed());
        assert!(changed(&w.call(retry(first))));
        assert_eq!(w.holder("k"), Some(1));
        assert_eq!(w.call(rejecting()), HELD(1));
        assert_eq!(w.call(retry(second)), HELD(1));
    });
}

#[test]
fn a_retry_of_one_batch_sees_who_took_the_key_in_it() {
    case(|w| {
        let first = w.enqueue(unique("k", OnConflict::Reject));
        w.call(cancel(first));
        let replies = w.batch(&[rejecting(), retry(first), cancel(JobId(2)), retry(first), retry(JobId(2))]);
        assert_eq!(replies[1], HELD(2));
        assert!(changed(&replies[3]));
        assert_eq!(replies[4], HELD(1));
        assert_eq!(w.holder("k"), Some(1));
    });
}

#[test]
fn a_revived_job_takes_its_key_again_or_stays_as_it_is() {
    for taken in [false, true] {
        case(|w| {
            let on = w.enqueue(work());
            let job = w.enqueue(JobSpec { depends_on: after(&[on]), ..unique("k", OnConflict::Reject) });
            w.call(cancel(on));
            if taken {
                w.call(rejecting());
            }
            w.call(retry(on));
            let expected = if taken { vec![] } else { vec![job] };
            assert_eq!(w.call(revive(on)), Reply::Revived { jobs: expected, next: None });
            assert_eq!(w.holder("k"), Some(if taken { 3 } else { 2 }));
        });
    }
}

/// In the states that were chosen, and only in these: also when a job comes back to one of them.
#[test]
fn a_key_is_held_in_the_chosen_states() {
    let waiting = States::of([StateName::Available, StateName::Scheduled, StateName::Held]);
    case(|w| {
        let id = w.enqueue(with(waiting, None, OnConflict::Reject));
        assert_eq!(w.call(rejecting()), HELD(1));
        w.start(id);
        assert_eq!(w.holder("k"), None, "not while it runs");
        w.finish(id, Outcome::Snoozed { delay: Millis(100), reason: None });
        assert_eq!(w.call(rejecting()), HELD(1), "it is scheduled again");
        w.advance(100);
        w.start(id);
        let second = w.enqueue(unique("k", OnConflict::Reject));
        w.finish(id, Outcome::Interrupted);
        assert_eq!(w.state(id), StateName::Available);
        assert_eq!(w.call(rejecting()), HELD(second.0), "what another one has taken stays with it");
    });
    case(|w| {
        let id = w.enqueue(with(States::of([StateName::Completed]), None, OnConflict::Reject));
        assert_eq!(w.holder("k"), None);
        w.run_once(id, completed());
        assert_eq!(w.call(rejecting()), HELD(1), "of what has completed there is one");
        w.call(delete(id));
        assert_eq!(ids(&w.call(rejecting())), [JobId(2)]);
    });
}

#[test]
fn a_period_holds_a_key_whatever_became_of_the_job() {
    for end in ["completes", "is cancelled", "is deleted"] {
        case(|w| {
            let id = w.enqueue(for_a_while(1_000, OnConflict::Keep));
            match end {
                "completes" => _ = w.run_once(id, completed()),
                "is cancelled" => _ = w.call(cancel(id)),
                _ => assert_eq!(w.call(delete(id)), Reply::Deleted),
            }
            w.advance(999);
            assert_eq!(w.call(rejecting()), HELD(1), "it {end}");
            for mode in [OnConflict::Keep, OnConflict::Replace, OnConflict::Merge] {
                assert_eq!(w.enqueue(unique("k", mode)), id, "nothing can be changed of what has ended");
            }
            w.advance(1);
            assert_eq!(ids(&w.call(rejecting())), [JobId(2)], "at its moment it is over");
        });
    }
}

/// What is unfinished holds its key behind its period too.
#[test]
fn a_period_that_is_over_leaves_the_key_to_the_state() {
    case(|w| {
        let id = w.enqueue(for_a_while(100, OnConflict::Keep));
        w.advance(200);
        assert_eq!(w.sweep(10), (0, 0, 0));
        assert_eq!(w.call(rejecting()), HELD(1));
        w.run_once(id, completed());
        assert_eq!(w.holder("k"), None);
    });
}

#[test]
fn what_is_over_is_forgotten_by_a_sweep_and_not_before() {
    case(|w| {
        let id = w.enqueue(for_a_while(100, OnConflict::Keep));
        w.call(cancel(id));
        w.advance(99);
        w.sweep(10);
        assert_eq!(w.holder("k"), Some(1));
        w.advance(1);
        w.conduct(Conduct { destroy: false, ..Conduct::default() });
        w.sweep(10);
        assert_eq!(w.holder("k"), Some(1), "not while the clock cannot be trusted");
        w.conduct(Conduct::default());
        w.sweep(10);
        assert_eq!((w.holder("k"), w.check().uniques.len()), (None, 0));
    });
}

#[test]
fn a_period_is_fixed_at_enqueue_and_taken_again_as_far_as_it_goes() {
    case(|w| {
        let id = w.enqueue(for_a_while(1_000, OnConflict::Keep));
        w.run_once(id, completed());
        w.advance(500);
        w.call(retry(id));
        w.run_once(id, completed());
        assert_eq!(w.call(rejecting()), HELD(1));
        w.advance(500);
        assert_eq!(ids(&w.call(rejecting())), [JobId(2)], "not anew from the retry");
    });
}

#[test]
fn a_taken_over_period_does_not_outlive_the_take_over() {
    case(|w| {
        let first = w.enqueue(for_a_while(1_000, OnConflict::Keep));
        w.start(first);
        let second = w.enqueue(unique("k", OnConflict::Replace));
        w.call(cancel(second));
        assert_eq!(ids(&w.call(rejecting())), [JobId(3)], "the key was the second's, and that had no period");
        w.advance(5_000);
        w.sweep(10);
        assert_eq!(w.holder("k"), Some(3), "what would have forgotten the first's period forgets nothing");
    });
}

/// A run that ends so and stages a job with this spec: whether it is there, and whom it joined.
#[track_caller]
fn check_staged(outcome: Outcome, own_key: bool, spec: JobSpec, expected: Result<(), Option<u64>>) {
    case(|w| {
        let other = w.enqueue(unique("k", OnConflict::Keep));
        let own = w.enqueue(if own_key { unique("own", OnConflict::Keep) } else { work() });
        w.call(Command::Edit {
            job: at(other),
            edit: Box::new(runner_store::job::Edit { run_at: Some(Time(START.0 + 9_000)), ..Default::default() }),
        });
        let run = w.start(own);
        let id = reserve(w, 1);
        let staged = vec![StagedJob { id, spec: spec.clone() }];
        let call = Finish { staged, measured: Measured::default(), ..finishing(run, outcome.clone()) };
        w.call(Command::Finish(Box::new(call)));
        assert_eq!(w.find(id).is_some(), expected.is_ok(), "{outcome:?}, {spec:?}");
        let fates = &w.runs(own)[0].staged;
        match expected {
            Ok(()) => assert_eq!(fates, &[]),
            Err(joined) => assert_eq!((fates[0].id, fates[0].joined), (id, joined.map(JobId)), "{fates:?}"),
        }
    });
}

#[test]
fn a_staged_job_follows_its_mode_and_never_fails_its_run() {
    let snoozed = || Outcome::Snoozed { delay: Millis(100), reason: None };
    check_staged(completed(), false, unique("k", OnConflict::Keep), Err(Some(1)));
    check_staged(completed(), false, unique("k", OnConflict::Replace), Err(Some(1)));
    check_staged(completed(), false, unique("k", OnConflict::Reject), Err(None));
    check_staged(completed(), false, unique("free", OnConflict::Reject), Ok(()));
    // The key of the finishing job itself: free with its end, held while it goes on.
    check_staged(completed(), true, unique("own", OnConflict::Reject), Ok(()));
    check_staged(Outcome::Discarded { reason: String::new() }, true, unique("own", OnConflict::Keep), Ok(()));
    check_staged(snoozed(), true, unique("own", OnConflict::Keep), Err(Some(2)));
    check_staged(snoozed(), true, unique("own", OnConflict::Reject), Err(None));
}

#[test]
fn a_staged_merge_asks_before_anything_is_recorded() {
    case(|w| {
        let holder =
            w.enqueue(JobSpec { args: b"1".to_vec(), delay: Some(Millis(900)), ..unique("k", OnConflict::Keep) });
        let own = w.enqueue(work());
        let run = w.start(own);
        let id = reserve(w, 1);
        let staged = vec![StagedJob { id, spec: JobSpec { args: b"2".to_vec(), ..unique("k", OnConflict::Merge) } }];
        let mut call = Finish { staged, ..finishing(run, completed()) };
        let reply = w.call(Command::Finish(Box::new(call.clone())));
        let Reply::NeedsMerge(needs) = reply else { panic!("{reply:?}") };
        assert_eq!((needs[0].holder, w.state(own)), (holder, StateName::Running));
        call.merged = vec![Merged { position: 0, holder, version: needs[0].version, args: b"1+2".to_vec(), key: None }];
        assert_eq!(job_of(&w.call(Command::Finish(Box::new(call)))).state.name(), StateName::Completed);
        assert_eq!(w.payload(holder, runner_store::command::Part::Args), Some(b"1+2".to_vec()));
        assert_eq!(w.find(id), None);
    });
}

/// The story: a staged job that waited for one staged after it found nobody there, and was cancelled at once.
#[test]
fn staged_jobs_may_wait_for_each_other_and_for_their_run() {
    case(|w| {
        let own = w.enqueue(work());
        let run = w.start(own);
        let first = reserve(w, 3);
        let id = |n| JobId(first.0 + n);
        let staged = vec![
            StagedJob { id: id(0), spec: work_with(|s| s.depends_on = after_places(&[1])) },
            StagedJob { id: id(1), spec: work_after(&[own]) },
            StagedJob { id: id(2), spec: work_after(&[id(0)]) },
        ];
        let snoozed = Outcome::Snoozed { delay: Millis(100), reason: None };
        w.call(Command::Finish(Box::new(Finish { staged, ..finishing(run, snoozed) })));
        let states = |w: &World| [0, 1, 2].map(|n| w.state(id(n)).as_str());
        assert_eq!(states(w), ["blocked"; 3]);
        w.advance(100);
        w.run_once(own, completed());
        assert_eq!(states(w), ["blocked", "available", "blocked"]);
        w.run_once(id(1), completed());
        w.run_once(id(0), completed());
        assert_eq!(states(w), ["completed", "completed", "available"]);
    });
}

#[test]
fn a_key_and_an_idempotency_key_do_not_meet() {
    case(|w| {
        let key = runner_store::command::IdempotencyKey { key: "k".to_owned(), request: [1; 32] };
        let call = Enqueue { key: Some(key), ..Enqueue::new(TENANT, vec![unique("k", OnConflict::Reject)]) };
        assert_eq!(ids(&w.call(Command::Enqueue(call.clone()))), [JobId(1)]);
        assert_eq!(ids(&w.call(Command::Enqueue(call))), [JobId(1)], "a repeated call is answered, not refused");
        assert_eq!(w.call(rejecting()), HELD(1));
    });
}
