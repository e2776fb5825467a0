//! Limits of queues and kinds: how many at once, how many in a time, pauses; and what happens when they change.

use runner_store::command::{Pause, Rate};

use super::world::{World, kind, lane_in, lane_of};
use super::*;

fn queue(queue: u32) -> GateOf {
    GateOf::Queue(TenantId(1), QueueId(queue))
}

fn of_kind(kind: u32) -> GateOf {
    GateOf::Kind(TenantId(1), KindId(kind))
}

fn at_once(most: u32) -> Limits {
    Limits { concurrency: Some(most), ..Limits::default() }
}

fn rate(jobs: u32, per_ms: u64, burst: u32) -> Limits {
    Limits { rate: Some(Rate { jobs, per: Millis(per_ms), burst }), ..Limits::default() }
}

fn paused(pause: Pause) -> Limits {
    Limits { pause: Some(pause), ..Limits::default() }
}

#[test]
fn a_queue_runs_as_many_at_once_as_it_may_and_others_are_not_held_up() {
    let mut world = World::new(16, MEMORY);
    world.limits(queue(1), at_once(3));
    let (a, b) = (world.lane(lane_in(1, 1), kind(50, 1)), world.lane(lane_in(1, 2), kind(50, 1)));
    let other = world.lane(lane_in(2, 1), kind(50, 1));
    world.enqueue(a, 100, -100);
    world.enqueue(b, 100, -100);
    world.enqueue(other, 300, 0);
    world.run_until(40);
    assert_eq!((world.runs(a) + world.runs(b), world.runs(other)), (3, 13));
    world.run_until(20_000);
    assert_eq!(world.calls.len(), 500, "and all of them ran in the end");
}

#[test]
fn a_kind_runs_as_many_at_once_as_it_may_whatever_its_queues() {
    let mut world = World::new(16, MEMORY);
    world.limits(of_kind(1), at_once(2));
    let lanes: Vec<Lane> = (1..=5).map(|queue| world.lane(lane_in(queue, 1), kind(20, 1))).collect();
    for lane in &lanes {
        world.enqueue(*lane, 20, 0);
    }
    world.run_until(10);
    assert_eq!(lanes.iter().map(|lane| world.runs(*lane)).sum::<usize>(), 2);
    world.run_until(60_000);
    assert_eq!(world.calls.len(), 100);
}

#[test]
fn quick_handlers_are_claimed_ahead_no_further_than_their_limit() {
    let mut world = World::new(16, MEMORY);
    world.limits(queue(1), at_once(4));
    let l = world.lane(lane_in(1, 1), kind(1, 1));
    world.enqueue(l, 2_000, 0);
    for end in 1..500 {
        world.run_until(end);
        assert!(world.core.ready() + world.running.len() <= 4, "what is claimed counts as running");
    }
    world.run_until(100_000);
    assert_eq!(world.calls.len(), 2_000);
}

#[test]
fn a_rate_is_kept_over_a_minute_and_its_burst_is_never_exceeded() {
    for (jobs, per_ms, burst) in [(10, 1_000, 1), (10, 1_000, 10), (100, 60_000, 100), (1_000, 1_000, 50), (3, 700, 2)]
    {
        let mut world = World::new(64, MEMORY);
        world.limits(queue(1), rate(jobs, per_ms, burst));
        let l = world.lane(lane_in(1, 1), kind(5, 1));
        world.enqueue(l, 100_000, 0);
        world.run_until(60_000);
        let may = 60_000.0 * f64::from(jobs) / per_ms as f64 + f64::from(burst);
        let is = world.calls.len() as f64;
        println!("{jobs}/{per_ms} ms, burst {burst}: {is} of {may} in a minute");
        // The auditor counts each start against a bucket of its own.
        assert!(is <= may + 1.0 && is >= may * 0.99 - 1.0, "{jobs}/{per_ms}ms burst {burst}: {is} of {may}");
    }
}

#[test]
fn a_rate_of_a_kind_holds_across_queues_and_a_limited_kind_holds_up_nobody() {
    let mut world = World::new(8, MEMORY);
    world.limits(of_kind(1), rate(5, 1_000, 1));
    let limited: Vec<Lane> = (1..=3).map(|queue| world.lane(lane_in(queue, 1), kind(1, 1))).collect();
    let free = world.lane(lane_in(1, 2), kind(10, 1));
    for lane in &limited {
        world.enqueue(*lane, 100, -100);
    }
    world.enqueue(free, 1_000, 0);
    world.run_until(10_000);
    let started: usize = limited.iter().map(|lane| world.started(*lane).len()).sum();
    assert!((50..=52).contains(&started), "{started}");
    assert_eq!(world.started(free).len(), 1_000);
    let held = world.core.why(limited[0], world.moment());
    assert!(matches!(held[..], [Held::Gate(GateOf::Kind(..), Shut::Rate(_, left))] if left.0 <= 400), "{held:?}");
}

#[test]
fn a_batch_takes_a_token_for_each_of_its_jobs() {
    let mut world = World::new(4, MEMORY);
    world.limits(queue(1), rate(10, 1_000, 10));
    let batch = Some(crate::wasm::manifest::Batch { max: 50, linger: Millis(0) });
    let l = world
        .lane(lane_in(1, 1), world::Kind { serves: Serves { memory_bytes: 1, batch, external: false }, ..kind(5, 1) });
    world.enqueue(l, 200, 0);
    world.run_until(10_000);
    let started = world.started(l).len();
    assert!((105..=111).contains(&started), "{started}");
}

#[test]
fn a_pause_gives_back_what_has_not_started_and_its_end_starts_it() {
    let mut world = World::new(4, MEMORY);
    let l = world.lane(lane_in(1, 1), kind(2, 1));
    world.enqueue(l, 500, 0);
    world.run_until(50);
    let ready = world.core.ready();
    assert!(ready > 0, "quick handlers are claimed ahead");
    world.limits(queue(1), paused(Pause::Open));
    assert_eq!(world.handed_back as usize, ready);
    world.run_until(100);
    let (calls, running) = (world.calls.len(), world.running.len());
    assert_eq!(running, 0, "what ran has ended");
    world.run_until(5_000);
    assert_eq!(world.calls.len(), calls, "and nothing more begins");
    assert_eq!(world.core.why(l, world.moment()), [Held::Gate(queue(1), Shut::Paused(None))]);
    world.limits(queue(1), Limits::default());
    world.run_until(10_000);
    assert_eq!(world.calls.len(), 500);
}

#[test]
fn a_pause_with_an_end_ends_by_itself() {
    let mut world = World::new(4, MEMORY);
    let l = world.lane(lane_in(1, 1), kind(2, 1));
    world.limits(of_kind(1), paused(Pause::Until(Time(5_000))));
    let first = world.enqueue(l, 10, 0);
    world.run_until(4_000);
    let held = world.core.why(l, world.moment());
    assert_eq!(held, [Held::Gate(of_kind(1), Shut::Paused(Some(Millis(1_000))))]);
    world.run_until(6_000);
    assert_eq!(world.calls.len(), 10);
    assert!((5_000..=5_000 + 2 * world::COMMIT).contains(&world.start_of(first)));
}

#[test]
fn a_limit_below_what_runs_lets_it_run_and_starts_no_more() {
    let mut world = World::new(8, MEMORY);
    let l = world.lane(lane_in(1, 1), kind(100, 1));
    world.enqueue(l, 40, 0);
    world.run_until(50);
    assert_eq!(world.runs(l), 8);
    world.limits(queue(1), at_once(2));
    world.run_until(90);
    assert_eq!(world.runs(l), 8, "runs are not ended by a limit");
    let held = world.core.why(l, world.moment());
    assert!(held.contains(&Held::Gate(queue(1), Shut::Full(2))), "{held:?}");
    assert_eq!(world.core.running_in(queue(1)).len(), 8);
    world.run_until(150);
    assert_eq!(world.runs(l), 2);
    world.limits(queue(1), at_once(5));
    world.run_until(160);
    assert_eq!(world.runs(l), 5, "and one that rises holds at once");
}

#[test]
fn limits_of_a_queue_are_those_of_one_tenant() {
    let mut world = World::new(16, MEMORY);
    world.limits(queue(1), at_once(1));
    let (a, b) = (world.lane(lane_of(1, 1), kind(100, 1)), world.lane(lane_of(2, 1), kind(100, 1)));
    world.enqueue(a, 10, 0);
    world.enqueue(b, 10, 0);
    world.run_until(50);
    assert_eq!((world.runs(a), world.runs(b)), (1, 10));
}

/// The clock may be set by hours, days or years, either way, while a queue is paused until a time or has a rate.
#[test]
fn a_wall_clock_that_steps_neither_overdraws_a_rate_nor_loses_the_end_of_a_pause() {
    let l = lane_in(1, 1);
    let step = |core: &mut Core, wall: u64, uptime: u64| {
        core.handle(Event::Tick, Moment { wall: Time(wall), uptime: Millis(uptime) })
    };
    let year = 365 * 24 * 3_600_000_u64;
    let mut core = core(4);
    core.handle(Event::Limits { of: queue(1), limits: paused(Pause::Until(Time(20 * year))) }, at(1_000));
    core.handle(Event::Available { lane: l, difference: 5 }, at(1_000));
    core.handle(served(l), at(1_000));
    assert!(claim_max(&step(&mut core, 10 * year, 2_000)).is_none(), "forward by ten years, and still paused");
    assert!(claim_max(&step(&mut core, 1_000, 3_000)).is_none(), "and back");
    let wait = core.next_wakeup(Moment { wall: Time(1_000), uptime: Millis(3_000) });
    assert!(wait.is_some(), "it is looked at again");
    core.handle(Event::Available { lane: l, difference: 1 }, Moment { wall: Time(20 * year), uptime: Millis(4_000) });
    assert!(core.is_claiming(), "the pause is over by the clock that it was said in");
}
