//! Jobs with a key: lanes of their own, in which what has begun stands apart; and who is told what of it.

use runner_store::command::{Answer, Command, CountKey, Enqueue, Fire, Fired, Grant, Lane, Merged, Query, Reply};
use runner_store::index::KeyOf;
use runner_store::job::{Edit, JobId, JobKey, JobSpec, KeyHash, Millis, OnConflict, Outcome, StateName};
use runner_store::schedule::{CatchUp, Overlap, Plan, ScheduleRef, Source, When};

use crate::world::*;

fn of(key: &str) -> JobSpec {
    work_with(|spec| spec.key = Some(JobKey::text(key)))
}

fn hash(key: &str) -> KeyHash {
    JobKey::text(key).hash()
}

/// The lane of a key of kind `work` in queue `default`.
fn lane(w: &World, key: &str) -> Lane {
    Lane { key: hash(key), ..w.lane("default", "work") }
}

fn again(lane: Lane) -> Lane {
    Lane { again: true, ..lane }
}

/// Claims from these lanes.
#[track_caller]
fn claim_from(w: &mut World, max: u32, lanes: &[Lane]) -> Vec<u64> {
    claimed_ids(&w.call(claim(BOOT, max, lanes)))
}

/// The jobs of a key that have begun and not ended.
fn begun(w: &World, key: &str) -> Vec<u64> {
    let lane = w.lane("default", "work");
    let of = KeyOf { tenant: TENANT, kind: lane.kind, key: hash(key) };
    match w.ask(&Query::Begun(of, 10)) {
        Answer::Begun(ids) => ids.iter().map(|id| id.0).collect(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn key_of(w: &World, id: JobId) -> Option<String> {
    w.job(id).key.map(|key| key.as_json().to_owned())
}

#[test]
fn jobs_of_each_key_stand_in_a_lane_of_their_own() {
    case(|w| {
        w.enqueue_all(vec![of("a"), work(), of("b"), of("a")]);
        let (a, b, none) = (lane(w, "a"), lane(w, "b"), w.lane("default", "work"));
        assert_eq!(claim_from(w, 9, &[a]), [1, 4]);
        assert_eq!(claim_from(w, 9, &[none]), [2], "without a key it is in the lane without one");
        assert_eq!(claim_from(w, 9, &[a, b, again(a)]), [3]);
    });
}

/// Keys are not counted apart: there may be as many as jobs.
#[test]
fn counts_know_no_keys_and_notices_do() {
    case(|w| {
        w.enqueue_all(vec![of("a"), of("b"), work()]);
        let none = w.lane("default", "work");
        let Answer::Counts(counts) = w.ask(&Query::Counts) else { panic!("not counts") };
        assert_eq!(counts, [(CountKey { lane: none, state: StateName::Available }, 3)]);
        let mut told = w.persisted().counts.clone();
        told.sort_unstable_by_key(|(key, _)| key.lane.key);
        let lanes: Vec<KeyHash> = told.iter().map(|(key, _)| key.lane.key).collect();
        let mut keys = [KeyHash::NONE, hash("a"), hash("b")];
        keys.sort_unstable();
        assert_eq!((lanes, told.iter().map(|(_, n)| n).sum::<i64>()), (keys.to_vec(), 3));
        assert_eq!(w.persisted().keys.heads.len(), 2);
    });
}

#[test]
fn what_comes_first_among_keys_is_claimed_first() {
    case(|w| {
        let urgent = work_with(|spec| {
            spec.key = Some(JobKey::text("c"));
            spec.priority = runner_store::job::Priority(-5);
        });
        w.enqueue_all(vec![of("a"), of("b"), of("a"), urgent]);
        let lanes = ["a", "b", "c"].map(|key| lane(w, key));
        let one_each = lanes.map(|lane| Grant { lane, max: 1 }).to_vec();
        let claim = runner_store::command::Claim { holder: BOOT, max: 2, grants: one_each };
        assert_eq!(claimed_ids(&w.call(Command::Claim(claim))), [4, 1]);
    });
}

#[test]
fn what_has_begun_and_not_ended_is_known_by_its_key() {
    case(|w| {
        let ids = w.enqueue_all(vec![of("a"), of("a"), of("b")]);
        let a = lane(w, "a");
        assert_eq!(claim_from(w, 1, &[a]), [1]);
        assert_eq!(begun(w, "a"), [1], "it runs");
        assert_eq!(w.persisted().keys.begun.len(), 1);
        w.finish(ids[0], failed("no"));
        assert_eq!(begun(w, "a"), [1], "it will be tried again");
        w.advance(10_000);
        w.call(Command::Due);
        assert_eq!(claim_from(w, 9, &[again(a)]), [1], "it stands apart from those that have not begun");
        w.finish(ids[0], Outcome::Snoozed { delay: Millis(500), reason: None });
        assert_eq!(begun(w, "a"), [1], "it snoozes");
        w.advance(500);
        w.call(Command::Due);
        assert_eq!(claim_from(w, 9, &[again(a)]), [1]);
        w.finish(ids[0], completed());
        assert_eq!(begun(w, "a"), [0; 0]);
        assert_eq!(claim_from(w, 9, &[a]), [2]);
        w.call(delete_with(ids[1], true, false));
        assert_eq!(begun(w, "a"), [0; 0], "nor is it known any more when it is gone");
    });
}

/// A claim that was given back untouched was nothing: the job stands where it stood.
#[test]
fn what_was_claimed_and_given_back_has_not_begun() {
    case(|w| {
        let ids = w.enqueue_all(vec![of("a"), of("a")]);
        let a = lane(w, "a");
        assert_eq!(claim_from(w, 1, &[a]), [1]);
        let run = w.run(ids[0]);
        w.call(Command::HandBack(run));
        assert_eq!(begun(w, "a"), [0; 0]);
        assert_eq!(claim_from(w, 9, &[again(a)]), [0; 0]);
        assert_eq!(claim_from(w, 1, &[a]), [1], "and it is still the first");
    });
}

#[test]
fn a_run_that_was_interrupted_or_crashed_has_begun() {
    case(|w| {
        let ids = w.enqueue_all(vec![of("a"), of("a")]);
        let a = lane(w, "a");
        claim_from(w, 1, &[a]);
        w.finish(ids[0], Outcome::Interrupted);
        assert_eq!((begun(w, "a"), claim_from(w, 9, &[again(a)])), (vec![1], vec![1]));
        let run = w.run(ids[0]);
        w.call(end_boots(runner_store::job::BootId(9), vec![run]));
        assert_eq!(begun(w, "a"), [1]);
        w.advance(10_000);
        w.call(Command::Due);
        assert_eq!(claim_from(w, 9, &[again(a)]), [0; 0]);
        let suspects = Lane { suspect: true, ..again(a) };
        assert_eq!(claim_from(w, 9, &[suspects]), [1], "suspects stand apart, also by key");
    });
}

/// What waits for others may wait for one of its own key: if it held that up, neither would ever run.
#[test]
fn what_is_held_or_blocked_has_not_begun_also_if_it_ran_before() {
    case(|w| {
        let on = w.enqueue(of("a"));
        let waits = w.enqueue(JobSpec { key: Some(JobKey::text("a")), ..work_after(&[on]) });
        let a = lane(w, "a");
        claim_from(w, 1, &[a]);
        w.finish(on, completed());
        claim_from(w, 1, &[a]);
        w.finish(waits, Outcome::Discarded { reason: "no".to_owned() });
        w.call(retry(waits));
        assert_eq!(begun(w, "a"), [waits.0], "run again, it goes before others");
        w.call(cancel(waits));
        assert_eq!(begun(w, "a"), [0; 0]);
        let second = w.enqueue(of("a"));
        let third = w.enqueue(JobSpec { key: Some(JobKey::text("a")), ..work_after(&[second]) });
        w.call(cancel(second));
        assert_eq!(w.state(third), StateName::Cancelled);
        w.call(retry(second));
        w.call(Command::Revive { job: at(second), after: None });
        assert_eq!((w.state(third), begun(w, "a")), (StateName::Blocked, Vec::new()));
    });
}

#[test]
fn new_args_bring_their_key_and_other_changes_leave_it() {
    case(|w| {
        let id = w.enqueue(of("a"));
        w.call(edit(id, Edit { priority: Some(runner_store::job::Priority(3)), ..Edit::default() }));
        assert_eq!(key_of(w, id).as_deref(), Some("\"a\""));
        let new = |key: Option<&str>| Edit {
            args: Some(b"{}".to_vec()),
            key: Some(key.map(JobKey::text)),
            ..Edit::default()
        };
        w.call(edit(id, new(Some("b"))));
        let (a, b) = (lane(w, "a"), lane(w, "b"));
        assert_eq!((claim_from(w, 9, &[a]), claim_from(w, 9, &[b])), (vec![], vec![1]));
        w.finish(id, failed("no"));
        w.call(edit(id, new(None)));
        assert_eq!((key_of(w, id), begun(w, "b")), (None, vec![]));
    });
}

#[test]
fn a_replaced_a_debounced_and_a_merged_job_have_the_key_of_their_new_args() {
    case(|w| {
        let with = |held: &str, mode, key: &str| JobSpec { key: Some(JobKey::text(key)), ..unique(held, mode) };
        let replaced = w.enqueue(with("r", OnConflict::Keep, "a"));
        w.enqueue(with("r", OnConflict::Replace, "b"));
        let debounce = OnConflict::Debounce { delay: Millis(50), max: None };
        let debounced = w.enqueue(with("d", OnConflict::Keep, "a"));
        w.enqueue(with("d", debounce, "c"));
        let merged = w.enqueue(with("m", OnConflict::Keep, "a"));
        let mut call = Enqueue::new(TENANT, vec![with("m", OnConflict::Merge, "z")]);
        let Reply::NeedsMerge(needs) = w.call(Command::Enqueue(call.clone())) else { panic!("nothing to merge") };
        let key = Some(JobKey::text("d"));
        call.merged = vec![Merged { position: 0, holder: merged, version: needs[0].version, args: b"1".to_vec(), key }];
        w.call(Command::Enqueue(call));
        let keys = [replaced, debounced, merged].map(|id| key_of(w, id).unwrap_or_default());
        assert_eq!(keys, ["\"b\"", "\"c\"", "\"d\""]);
        // Two of one list with one unique key: the second instead of the first.
        let both = vec![with("l", OnConflict::Keep, "a"), with("l", OnConflict::Replace, "e")];
        let id = w.enqueue_all(both)[1];
        assert_eq!(key_of(w, id).as_deref(), Some("\"e\""));
    });
}

#[test]
fn jobs_of_schedules_have_the_key_that_whoever_fires_has_read() {
    case(|w| {
        let named = ScheduleRef { tenant: TENANT, name: "s".to_owned() };
        let plan = Plan {
            when: When::Every { interval: Millis(60_000), start: START },
            overlap: Overlap::Queue,
            catch_up: CatchUp::One,
            deadline: None,
            job: JobSpec::new("work", "{}"),
        };
        let verb = runner_store::command::ScheduleVerb::Create(plan, Source::Api);
        let call = runner_store::command::ScheduleCall { at: named.clone(), verb };
        w.call(Command::Schedule(Box::new(call)));
        let fire = |key: &str, what| {
            let (queue, kind, key) = ("default".to_owned(), "work".to_owned(), Some(JobKey::text(key)));
            Command::Fire(Box::new(Fire { at: named.clone(), edits: 0, queue, kind, args_bytes: 2, key, what }))
        };
        w.call(fire("a", Fired::ByHand(None)));
        w.call(fire("b", Fired::Slots { slots: vec![START], missed: None, upto: START }));
        assert_eq!([1, 2].map(|id| key_of(w, JobId(id)).unwrap_or_default()), ["\"a\"", "\"b\""]);
        let Answer::Schedule(Some(kept)) = w.ask(&Query::Schedule(named.clone())) else { panic!("it is gone") };
        assert_eq!(kept.plan.job.key, None, "the schedule itself has none");
    });
}

#[test]
fn a_key_that_is_none_is_refused() {
    case(|w| {
        let long = work_with(|spec| spec.key = Some(JobKey::text(&"x".repeat(257))));
        let refused = w.call(enqueue(vec![long.clone()]));
        assert!(matches!(&refused, Reply::Rejected(why) if why.to_string().starts_with("key: must be")), "{refused:?}");
        let id = w.enqueue(work());
        let refused = w.call(edit(id, Edit { key: Some(long.key), ..Edit::default() }));
        assert!(matches!(refused, Reply::Rejected(_)));
    });
}

/// Whoever opens a store is told of its keys as if all had just come: what is available in the lanes of keys is not told
/// twice.
#[test]
fn a_store_that_is_opened_tells_of_its_keys() {
    let mut engine = runner_store::engine::memory::Memory::new(runner_store::clock::Clock::manual(START));
    let jobs = vec![of("a"), of("a"), work(), of("b")];
    runner_store::writer::step(&mut engine, &[enqueue(jobs)]).unwrap();
    let kind = runner_store::job::KindId(2);
    let family = Lane::new(TENANT, runner_store::job::QueueId(1), kind);
    let of_a = Lane { key: hash("a"), ..family };
    runner_store::writer::step(&mut engine, &[claim(BOOT, 1, &[of_a])]).unwrap();
    let (handle, writer) = runner_store::Handle::start(Box::new(engine)).unwrap();
    let notices = handle.board().take();
    let available = |lane| notices.counts.get(&CountKey { lane, state: StateName::Available }).copied();
    let of_b = Lane { key: hash("b"), ..family };
    assert_eq!([family, of_a, of_b].map(available), [Some(1), Some(1), Some(1)]);
    let head = |lane| notices.heads.get(&lane).and_then(|head| head.map(|order| order.id.0));
    assert_eq!([of_a, of_b].map(head), [Some(2), Some(4)]);
    let begun = notices.begun.get(&KeyOf { tenant: TENANT, kind, key: hash("a") });
    assert_eq!((begun, notices.begun.len()), (Some(&1), 1));
    drop(handle);
    writer.join();
}
