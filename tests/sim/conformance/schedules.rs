//! Schedules: made, changed, paused and deleted; and their slots, each decided once, whoever asks.

use runner_store::command::{
    Answer, Command, Fire, Fired, IdempotencyKey, Query, QueueSettings, Reply, ScheduleCall, ScheduleVerb, Settings,
    TenantSettings,
};
use runner_store::decide::Conduct;
use runner_store::job::{Invalid, JobId, JobSpec, Millis, Rejection, StateName, TenantId, Time};
use runner_store::schedule::{
    CatchUp, OfSchedule, Overlap, Plan, SCHEDULES_MAX, Schedule, ScheduleRef, Skip, Source, When,
};

use crate::world::*;

const MINUTE: u64 = 60_000;
const API: Source = Source::Api;

fn plan(overlap: Overlap) -> Plan {
    let when = When::Every { interval: Millis(MINUTE), start: START };
    let job = JobSpec { tags: vec![("t".to_owned(), "1".to_owned())], ..JobSpec::new("work", "{}") };
    Plan { when, overlap, catch_up: CatchUp::One, deadline: None, job }
}

fn named(name: &str) -> ScheduleRef {
    ScheduleRef { tenant: TENANT, name: name.to_owned() }
}

fn say(name: &str, verb: ScheduleVerb) -> Command {
    Command::Schedule(Box::new(ScheduleCall { at: named(name), verb }))
}

fn firing(name: &str, edits: u32, what: Fired) -> Command {
    let (queue, kind) = ("default".to_owned(), "work".to_owned());
    Command::Fire(Box::new(Fire { at: named(name), edits, queue, kind, args_bytes: 2, key: None, what }))
}

/// Slot `n` of each minute, in time.
fn slot(n: u64) -> Command {
    let at = Time(START.0 + n * MINUTE);
    firing("s", 0, Fired::Slots { slots: vec![at], missed: None, upto: at })
}

#[track_caller]
fn made(w: &mut World, plan: Plan) -> Schedule {
    changed(w, ScheduleVerb::Create(plan, API))
}

#[track_caller]
fn changed(w: &mut World, verb: ScheduleVerb) -> Schedule {
    match w.call(say("s", verb)) {
        Reply::Schedule { schedule, changed: true } => *schedule,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn fired(reply: &Reply) -> Vec<JobId> {
    match reply {
        Reply::Fired(jobs) => jobs.iter().map(|job| job.id).collect(),
        other => panic!("{other:?}"),
    }
}

fn shown(w: &World, name: &str) -> Option<Schedule> {
    match w.ask(&Query::Schedule(named(name))) {
        Answer::Schedule(schedule) => schedule,
        other => panic!("{other:?}"),
    }
}

fn count(w: &World) -> u64 {
    match w.ask(&Query::ScheduleCount(TENANT)) {
        Answer::ScheduleCount(n) => n,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_slot_becomes_one_job_whoever_asks_and_however_often() {
    case(|w| {
        made(w, plan(Overlap::Queue));
        // Two nodes in one batch, and again later, and after the file was opened again.
        let replies = w.batch(&[slot(0), slot(0)]);
        let ids = fired(&replies[0]);
        assert_eq!((ids.len(), fired(&replies[1]).len()), (1, 0));
        let job = w.job(ids[0]);
        assert_eq!(job.schedule, Some(OfSchedule { name: "s".to_owned(), slot: Some(START) }));
        assert_eq!((job.state.name(), job.run_at, job.tags.len()), (StateName::Available, START, 1));
        w.reopen();
        assert_eq!(fired(&w.call(slot(0))), []);
        let schedule = shown(w, "s").unwrap();
        assert_eq!((schedule.last, schedule.tally.fired), (Some(START), 1));
        assert_eq!(schedule.tally.last_fired, Some((w.now(), ids[0])));
    });
}

#[test]
fn a_slot_up_to_the_last_one_never_fires_whatever_the_clock_says() {
    for jump in [MINUTE * 60, MINUTE * 60 * 24, MINUTE * 60 * 24 * 3_652] {
        case(|w| {
            made(w, plan(Overlap::Queue));
            let n = jump / MINUTE;
            w.clock.set(Time(START.0 + jump));
            assert_eq!(fired(&w.call(slot(n))).len(), 1);
            w.clock.set(START);
            // What is ahead does not fire, nor what lies behind.
            for n in [0, 1, n, n + 1] {
                assert_eq!(fired(&w.call(slot(n))), [], "{jump}: slot {n}");
            }
            w.clock.set(Time(START.0 + jump + MINUTE));
            assert_eq!(fired(&w.call(slot(n))), []);
            assert_eq!(fired(&w.call(slot(n + 1))).len(), 1);
        });
    }
}

#[test]
fn a_slot_before_its_schedule_was_made_or_resumed_is_none_of_its() {
    case(|w| {
        w.advance(10 * MINUTE + 1);
        made(w, plan(Overlap::Queue));
        assert_eq!(fired(&w.call(slot(10))), []);
        w.advance(MINUTE);
        assert_eq!(fired(&w.call(slot(11))).len(), 1);
        let paused = changed(w, ScheduleVerb::Pause);
        assert_eq!(paused.paused_at, Some(w.now()));
        w.advance(MINUTE);
        assert_eq!(fired(&w.call(slot(12))), []);
        assert!(matches!(w.call(say("s", ScheduleVerb::Pause)), Reply::Schedule { changed: false, .. }));
        let resumed = changed(w, ScheduleVerb::Resume);
        assert_eq!((resumed.paused_at, resumed.from), (None, w.now()));
        assert_eq!(fired(&w.call(slot(12))), [], "what a pause let pass stays past");
        w.advance(MINUTE);
        assert_eq!(fired(&w.call(slot(13))).len(), 1);
        assert!(matches!(w.call(say("s", ScheduleVerb::Resume)), Reply::Schedule { changed: false, .. }));
        assert_eq!(shown(w, "s").unwrap().tally.missed, 0);
    });
}

/// Slot 0 of an interval that began now was lost, as the call took a moment to come to the store.
#[test]
fn an_interval_that_began_a_moment_ago_has_its_start_as_its_first_slot() {
    for (late, fires) in [(0, 1), (30_000, 1), (30_001, 0)] {
        case(|w| {
            w.advance(late);
            made(w, plan(Overlap::Queue));
            assert_eq!(fired(&w.call(slot(0))).len(), fires, "{late} ms");
        });
    }
}

#[test]
fn missed_slots_are_counted_with_those_that_are_made_up_for() {
    case(|w| {
        made(w, plan(Overlap::Queue));
        w.advance(9 * MINUTE);
        let slots = [8, 9].map(|n| Time(START.0 + n * MINUTE)).to_vec();
        let upto = slots[1];
        assert_eq!(
            fired(&w.call(firing("s", 0, Fired::Slots { slots, missed: Some((8, Time(START.0 + 7 * MINUTE))), upto })))
                .len(),
            2
        );
        let tally = shown(w, "s").unwrap().tally;
        assert_eq!((tally.fired, tally.missed), (2, 8));
        w.advance(MINUTE);
        let upto = w.now();
        assert_eq!(fired(&w.call(firing("s", 0, Fired::Slots { slots: vec![], missed: Some((1, upto)), upto }))), []);
        let schedule = shown(w, "s").unwrap();
        assert_eq!((schedule.tally.missed, schedule.last), (9, Some(upto)));
        assert_eq!(schedule.tally.last_skipped, Some((upto, Skip::Missed)));
        assert_eq!(
            fired(&w.call(firing("s", 0, Fired::Slots { slots: vec![upto], missed: Some((5, upto)), upto }))),
            []
        );
        assert_eq!(shown(w, "s").unwrap(), schedule, "said twice, it is counted once");
    });
}

#[test]
fn under_skip_there_is_one_unfinished_job_at_a_time() {
    case(|w| {
        made(w, plan(Overlap::Skip));
        let replies = w.batch(&[slot(0)]);
        let first = fired(&replies[0])[0];
        for (n, state) in [(1, StateName::Available), (2, StateName::Running)] {
            w.advance(MINUTE);
            if state == StateName::Running {
                w.start(first);
            }
            assert_eq!(fired(&w.call(slot(n))), [], "{state}");
        }
        let tally = shown(w, "s").unwrap().tally;
        assert_eq!((tally.fired, tally.overlapped), (1, 2));
        assert_eq!(tally.last_skipped, Some((Time(START.0 + 2 * MINUTE), Skip::Overlap)));
        // By hand neither: it is the policy's whole point.
        let by_hand = w.call(firing("s", 0, Fired::ByHand(None)));
        assert_eq!(by_hand, Reply::Rejected(Rejection::Overlapping(first)));
        w.finish(first, failed("no"));
        w.advance(MINUTE);
        assert_eq!(fired(&w.call(slot(3))), [], "it waits for its backoff, and has not ended");
        w.call(cancel(first));
        w.advance(MINUTE);
        let second = fired(&w.call(slot(4)))[0];
        w.run_once(second, completed());
        // Run again by an operator, it is there again.
        w.call(retry(second));
        w.advance(MINUTE);
        assert_eq!(fired(&w.call(slot(5))), []);
    });
}

/// What ends and what begins in one batch counts as the batch has it.
#[test]
fn overlap_is_judged_at_its_place_in_the_batch() {
    case(|w| {
        made(w, plan(Overlap::Skip));
        let first = fired(&w.call(slot(0)))[0];
        w.advance(2 * MINUTE);
        let replies = w.batch(&[slot(1), cancel(first), slot(2)]);
        assert_eq!((fired(&replies[0]).len(), fired(&replies[2]).len()), (0, 1));
        w.advance(2 * MINUTE);
        let both = [3, 4].map(|n| Time(START.0 + n * MINUTE)).to_vec();
        let upto = both[1];
        let second = fired(&replies[2])[0];
        let replies = w.batch(&[cancel(second), firing("s", 0, Fired::Slots { slots: both, missed: None, upto })]);
        assert_eq!(fired(&replies[1]).len(), 1, "the first of them is the other's overlap");
    });
}

#[test]
fn under_queue_slots_stand_beside_each_other_and_under_cancel_the_newest_is_left() {
    case(|w| {
        made(w, plan(Overlap::Queue));
        let ids: Vec<JobId> = (0..3)
            .map(|n| {
                let id = fired(&w.call(slot(n)))[0];
                w.advance(MINUTE);
                id
            })
            .collect();
        assert!(ids.iter().all(|id| w.state(*id) == StateName::Available));
        let run = w.start(ids[0]);
        let edit = ScheduleVerb::Edit { plan: plan(Overlap::CancelRunning), source: API, edits: Some(0) };
        assert_eq!(changed(w, edit).edits, 1);
        let at = Time(START.0 + 3 * MINUTE);
        let newest = fired(&w.call(firing("s", 1, Fired::Slots { slots: vec![at], missed: None, upto: at })))[0];
        assert_eq!([ids[1], ids[2]].map(|id| w.state(id)), [StateName::Cancelled; 2]);
        assert!(w.job(ids[0]).lease().is_some_and(|lease| lease.cancel.is_some()), "what runs is told to end");
        assert_eq!(w.state(newest), StateName::Available);
        assert_eq!(job_of(&w.call(finish(run, completed()))).state.name(), StateName::Completed);
    });
}

#[test]
fn a_slot_without_room_is_skipped_and_says_so() {
    case(|w| {
        made(w, plan(Overlap::Queue));
        let capacity = |capacity| {
            let settings = QueueSettings { capacity, ..QueueSettings::default() };
            Command::Set(Box::new(Settings::Queue(TENANT, "default".to_owned(), settings)))
        };
        w.call(capacity(Some(1)));
        assert_eq!(fired(&w.call(slot(0))).len(), 1);
        w.advance(MINUTE);
        assert_eq!(fired(&w.call(slot(1))), []);
        let by_hand = w.call(firing("s", 0, Fired::ByHand(None)));
        assert!(matches!(by_hand, Reply::Rejected(Rejection::Full { .. })), "{by_hand:?}");
        let skipped = |w: &World| shown(w, "s").unwrap().tally.last_skipped;
        assert_eq!(skipped(w), Some((Time(START.0 + MINUTE), Skip::QueueFull)));
        w.call(capacity(None));
        let none = TenantSettings { stored_bytes: 0, ..TenantSettings::default() };
        w.call(Command::Set(Box::new(Settings::Tenant(TENANT, none))));
        w.advance(MINUTE);
        assert_eq!(fired(&w.call(slot(2))), []);
        assert_eq!(skipped(w), Some((Time(START.0 + 2 * MINUTE), Skip::TenantStorage)));
        w.call(Command::Set(Box::new(Settings::Tenant(TENANT, TenantSettings::default()))));
        w.advance(MINUTE);
        w.conduct(Conduct { accept: false, ..Conduct::default() });
        assert_eq!(fired(&w.call(slot(3))), []);
        assert_eq!(skipped(w), Some((Time(START.0 + 3 * MINUTE), Skip::DiskReserve)));
        assert_eq!(
            w.call(say("other", ScheduleVerb::Create(plan(Overlap::Skip), API))),
            Reply::Rejected(Rejection::DiskReserve)
        );
        w.conduct(Conduct::default());
        w.advance(MINUTE);
        assert_eq!(fired(&w.call(slot(4))).len(), 1);
        let tally = shown(w, "s").unwrap().tally;
        assert_eq!((tally.fired, tally.no_room), (2, 3));
    });
}

#[test]
fn a_deadline_is_counted_from_the_slot() {
    case(|w| {
        made(w, Plan { deadline: Some(Millis(90_000)), ..plan(Overlap::Queue) });
        w.advance(MINUTE);
        let id = fired(&w.call(slot(1)))[0];
        assert_eq!(w.job(id).expires_at, Some(Time(START.0 + MINUTE + 90_000)));
        w.advance(3 * MINUTE);
        assert_eq!(fired(&w.call(slot(2))), [], "its job would be discarded before it began");
        assert_eq!(shown(w, "s").unwrap().tally.missed, 1);
        let id = fired(&w.call(firing("s", 0, Fired::ByHand(None))))[0];
        assert_eq!(w.job(id).expires_at, Some(w.now().after(Millis(90_000))));
    });
}

#[test]
fn by_hand_a_paused_schedule_fires_beside_its_slots_and_a_repeated_call_once() {
    case(|w| {
        made(w, plan(Overlap::Queue));
        changed(w, ScheduleVerb::Pause);
        let key = IdempotencyKey { key: "k".to_owned(), request: [1; 32] };
        let call = firing("s", 0, Fired::ByHand(Some(key.clone())));
        let ids = fired(&w.call(call.clone()));
        assert_eq!(w.job(ids[0]).schedule, Some(OfSchedule { name: "s".to_owned(), slot: None }));
        match w.call(call) {
            Reply::Fired(jobs) => assert!(jobs[0].id == ids[0] && jobs[0].duplicate),
            other => panic!("{other:?}"),
        }
        let other = IdempotencyKey { request: [2; 32], ..key };
        let reused = w.call(firing("s", 0, Fired::ByHand(Some(other))));
        assert_eq!(reused, Reply::Rejected(Rejection::KeyReused));
        assert_eq!(fired(&w.call(firing("s", 0, Fired::ByHand(None)))).len(), 1);
        let schedule = shown(w, "s").unwrap();
        assert_eq!((schedule.last, schedule.tally.fired), (None, 2));
    });
}

#[test]
fn whoever_fires_an_older_edition_is_told_and_nothing_happens() {
    case(|w| {
        made(w, plan(Overlap::Queue));
        let other = Plan { job: JobSpec::new("other", "{}"), ..plan(Overlap::Queue) };
        let edit = |plan: &Plan, edits| ScheduleVerb::Edit { plan: plan.clone(), source: API, edits };
        let edited = changed(w, edit(&other, Some(0)));
        assert_eq!((edited.edits, edited.from), (1, START), "its times are as they were");
        assert_eq!(w.call(slot(0)), Reply::Rejected(Rejection::ScheduleChanged));
        let stale = w.call(say("s", edit(&plan(Overlap::Skip), Some(0))));
        assert_eq!(stale, Reply::Rejected(Rejection::ScheduleChanged));
        assert!(matches!(w.call(say("s", edit(&other, None))), Reply::Schedule { changed: false, .. }));
        w.advance(5);
        let when = When::Cron { cron: "0 3 * * *".to_owned(), zone: "UTC".to_owned() };
        let edited = changed(w, edit(&Plan { when, ..other }, None));
        assert_eq!((edited.edits, edited.from), (2, w.now()), "its new times begin now");
    });
}

#[test]
fn a_name_is_taken_once_and_only_its_owner_changes_it() {
    case(|w| {
        let manifest = |plugin: &str| Source::Manifest(plugin.to_owned());
        let create = |source: Source| say("s", ScheduleVerb::Create(plan(Overlap::Skip), source));
        assert!(matches!(w.call(create(manifest("reports"))), Reply::Schedule { changed: true, .. }));
        assert!(matches!(w.call(create(manifest("reports"))), Reply::Schedule { changed: false, .. }));
        for source in [API, manifest("other")] {
            assert_eq!(w.call(create(source.clone())), Reply::Rejected(Rejection::ScheduleExists));
            let from_manifest = Reply::Rejected(Rejection::FromManifest { plugin: "reports".to_owned() });
            let edit = ScheduleVerb::Edit { plan: plan(Overlap::Queue), source: source.clone(), edits: None };
            assert_eq!(w.call(say("s", edit)), from_manifest);
            assert_eq!(w.call(say("s", ScheduleVerb::Delete(source))), from_manifest);
        }
        changed(w, ScheduleVerb::Pause);
        let edit = ScheduleVerb::Edit { plan: plan(Overlap::Queue), source: manifest("reports"), edits: None };
        assert!(changed(w, edit).paused_at.is_some(), "a pause outlives a new version");
        assert_eq!(w.call(say("s", ScheduleVerb::Delete(manifest("reports")))), Reply::Deleted);
        assert!(matches!(w.call(create(API)), Reply::Schedule { changed: true, .. }));
        let edit = ScheduleVerb::Edit { plan: plan(Overlap::Queue), source: manifest("reports"), edits: None };
        assert_eq!(w.call(say("s", edit)), Reply::Rejected(Rejection::ScheduleExists));
    });
}

#[test]
fn what_is_not_there_or_not_right_is_refused() {
    case(|w| {
        for verb in [ScheduleVerb::Pause, ScheduleVerb::Resume, ScheduleVerb::Delete(API)] {
            assert_eq!(w.call(say("s", verb)), Reply::Rejected(Rejection::NoSchedule));
        }
        assert_eq!(w.call(slot(0)), Reply::Rejected(Rejection::NoSchedule));
        for (name, interval, field) in [("no way", MINUTE, "name"), ("", MINUTE, "name"), ("s", 0, "every")] {
            let when = When::Every { interval: Millis(interval), start: START };
            let create = ScheduleVerb::Create(Plan { when, ..plan(Overlap::Skip) }, API);
            match w.call(say(name, create)) {
                Reply::Rejected(Rejection::Invalid(Invalid { field: is, .. })) => assert_eq!(is, field),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(count(w), 0);
    });
}

#[test]
fn a_tenant_has_so_many_and_no_more_and_pages_follow_one_another() {
    case(|w| {
        let create = |n: u64| say(&format!("s{n:04}"), ScheduleVerb::Create(plan(Overlap::Skip), API));
        let all: Vec<Command> = (0..=SCHEDULES_MAX).map(create).collect();
        let replies = w.batch(&all);
        let refused = Reply::Rejected(Rejection::TooManySchedules { max: SCHEDULES_MAX });
        assert_eq!(replies.iter().filter(|reply| **reply == refused).count(), 1);
        assert_eq!(*replies.last().unwrap(), refused);
        assert_eq!(count(w), SCHEDULES_MAX);
        let other = ScheduleRef { tenant: TenantId(7), name: "s".to_owned() };
        let verb = ScheduleVerb::Create(plan(Overlap::Skip), API);
        w.call(Command::Schedule(Box::new(ScheduleCall { at: other, verb })));
        assert_eq!(w.call(say("s0000", ScheduleVerb::Delete(API))), Reply::Deleted);
        assert!(matches!(w.call(create(SCHEDULES_MAX)), Reply::Schedule { changed: true, .. }));
        let page = |tenant, after, limit| match w.ask(&Query::Schedules { tenant, after, limit }) {
            Answer::Schedules(page) => page.into_iter().map(|s| s.at()).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let first = page(Some(TENANT), None, 600);
        let second = page(Some(TENANT), first.last().cloned(), 600);
        assert_eq!((first.len(), second.len()), (600, 400));
        assert_eq!((&first[0].name[..], &second[399].name[..]), ("s0001", "s1000"));
        assert_eq!(page(None, second.last().cloned(), 600).len(), 1, "and then another tenant's");
        assert_eq!(page(Some(TenantId(3)), None, 9), []);
    });
}

#[test]
fn after_a_restore_nothing_fires_before_the_store_is_let_go_and_nothing_is_made_up_for() {
    case(|w| {
        made(w, plan(Overlap::Queue));
        w.pause();
        w.advance(5 * MINUTE);
        assert_eq!(fired(&w.call(slot(5))), []);
        assert_eq!(shown(w, "s").unwrap().last, None);
        w.call(Command::Resume);
        assert_eq!(w.stored().schedules_from, w.now());
        assert_eq!(fired(&w.call(slot(4))), []);
        assert_eq!(fired(&w.call(slot(5))).len(), 1, "this very moment is not the past");
        w.call(Command::Resume);
        assert_eq!(w.stored().schedules_from, w.now());
    });
}

#[test]
fn a_deleted_schedule_leaves_its_jobs_and_one_of_its_name_begins_anew() {
    case(|w| {
        made(w, plan(Overlap::Skip));
        let first = fired(&w.call(slot(0)))[0];
        assert_eq!(w.call(say("s", ScheduleVerb::Delete(API))), Reply::Deleted);
        assert_eq!((shown(w, "s"), w.state(first), count(w)), (None, StateName::Available, 0));
        w.advance(MINUTE);
        let again = made(w, plan(Overlap::Skip));
        assert_eq!((again.last, again.tally.fired), (None, 0));
        assert_eq!(fired(&w.call(slot(1))), [], "its predecessor's job has not ended");
    });
}
