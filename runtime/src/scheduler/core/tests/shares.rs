//! What tenants have of the node, and queues of their tenant: by what runs cost, and by weight.

use super::simulation::Dice;
use super::world::{Kind, World, kind, lane_in, lane_of};
use super::*;
use runner_store::command::Pause;

/// Milliseconds for which slots were held.
fn held(world: &World, lane: Lane) -> f64 {
    let calls = world.calls.iter().filter(|call| call.lane == lane);
    calls.map(|call| world.kinds[&lane].takes_ms.min(world.now - call.at) as f64).sum()
}

fn share(world: &World, lane: Lane, all: &[Lane]) -> f64 {
    held(world, lane) / all.iter().map(|lane| held(world, *lane)).sum::<f64>()
}

#[test]
fn queues_share_by_their_weights_and_a_queue_of_many_does_not_hold_up_one_of_few() {
    let mut world = World::new(8, MEMORY);
    let lanes = [1, 2, 3].map(|queue| world.lane(lane_in(queue, queue), kind(10, 1)));
    world.weight(2, 3);
    world.enqueue(lanes[0], 50_000, -100);
    world.enqueue(lanes[1], 50_000, 0);
    world.run_until(30_000);
    let of = share(&world, lanes[1], &lanes);
    println!("a queue of weight 3 beside one of 1 has {:.2} %", of * 100.0);
    assert!((0.7125..=0.7875).contains(&of), "three of four: {of}");
    let first = world.enqueue(lanes[2], 1, 100);
    world.run_until(31_000);
    assert!(world.start_of(first) < 30_000 + 30, "{}", world.start_of(first));
}

#[test]
fn within_a_queue_priority_holds_across_kinds() {
    let mut world = World::new(1, MEMORY);
    let (a, b) = (world.lane(lane_in(1, 1), kind(10, 1)), world.lane(lane_in(1, 2), kind(10, 1)));
    world.enqueue(a, 5, 0);
    world.enqueue(b, 5, -1);
    world.run_until(1_000);
    let order: Vec<Lane> = world.calls.iter().map(|call| call.lane).collect();
    assert_eq!(order[1..6], [b; 5], "the first slot was taken before the others came");
}

#[test]
fn tenants_share_by_the_time_that_they_hold_slots_not_by_the_number_of_their_runs() {
    let mut world = World::new(8, MEMORY);
    let (quick, slow) = (world.lane(lane_of(1, 1), kind(5, 1)), world.lane(lane_of(2, 1), kind(100, 1)));
    world.enqueue(quick, 60_000, 0);
    world.enqueue(slow, 10_000, 0);
    world.run_until(20_000);
    let of = share(&world, slow, &[quick, slow]);
    println!("one of two tenants has {:.2} %", of * 100.0);
    assert!((0.475..=0.525).contains(&of), "half: {of}");
}

/// Tenants whose slots are always wanted, with queues of random weights and kinds of random length, over a window of random
/// length: each has what it should have, to a twentieth of that. Counted by what ran, not by what the core thinks of it.
///
/// The story: what a tenant claims was split among its queues by the number of runs. A queue of quick runs was out of them
/// before the next claim was answered, queues of long runs started in its turn, and it had half or a third of its share.
#[test]
fn whatever_the_weights_and_the_runs_are_shares_are_within_a_twentieth_of_what_they_should_be() {
    let mut worst = 0.0_f64;
    for seed in 1..=24 {
        let mut dice = Dice::new(seed);
        let slots = 1 + dice.below(8) as u32;
        let mut world = World::new(slots, MEMORY);
        let (begin, end) = (1_000, 9_000 + dice.below(4_000));
        let mut saturated = |world: &mut World, lane: Lane| {
            let takes_ms = [3, 10, 25, 50][dice.below(4) as usize];
            world.lane(lane, kind(takes_ms, 1));
            world.enqueue(lane, (end + 1_000) * u64::from(slots) / takes_ms, dice.below(5) as i16 - 2);
        };
        let others = (0..seed as u32 % 3).map(|n| lane_of(2 + n, 1)).collect::<Vec<_>>();
        others.iter().for_each(|lane| saturated(&mut world, *lane));
        let queues = (1..=2 + seed as u32 % 4).map(|queue| lane_in(queue, queue)).collect::<Vec<_>>();
        queues.iter().for_each(|lane| saturated(&mut world, *lane));
        let weights: Vec<u32> = queues.iter().map(|_| 1 + dice.below(9) as u32).collect();
        queues.iter().zip(&weights).for_each(|(lane, weight)| world.weight(lane.queue.0, *weight));
        world.run_until(end);
        let held = |lane: &Lane| {
            let calls = world.calls.iter().filter(|call| call.lane == *lane && call.at >= begin);
            calls.map(|call| world.kinds[lane].takes_ms.min(end - call.at)).sum::<u64>() as f64
        };
        let all: f64 = queues.iter().chain(&others).map(held).sum();
        let tenant = 1.0 / (1 + others.len()) as f64;
        let of_all = f64::from(weights.iter().sum::<u32>());
        let should = weights.iter().map(|weight| tenant * f64::from(*weight) / of_all);
        let should = should.chain(others.iter().map(|_| tenant));
        for (lane, should) in queues.iter().chain(&others).zip(should) {
            let off = (held(lane) / all / should - 1.0).abs();
            worst = worst.max(off);
            assert!(off <= 0.05, "seed {seed}: {lane:?} is off by {:.1} % with weights {weights:?}", off * 100.0);
        }
    }
    println!("no share is off by more than {:.2} % of what it should be", worst * 100.0);
}

/// Who computes much has no more than who sleeps: a second of ten G costs as much as a second in a slot.
#[test]
fn fuel_counts_where_it_is_more_than_the_time() {
    let mut world = World::new(8, MEMORY);
    // Ten times as much as its time is worth.
    let heavy = Kind { fuel: 1_000_000_000, ..kind(10, 1) };
    let (heavy, light) = (world.lane(lane_of(1, 1), heavy), world.lane(lane_of(2, 1), kind(10, 1)));
    world.enqueue(heavy, 60_000, 0);
    world.enqueue(light, 60_000, 0);
    world.run_until(20_000);
    let (heavy, light) = (world.started(heavy).len() as f64, world.started(light).len() as f64);
    assert!((9.0..=11.0).contains(&(light / heavy)), "{light} {heavy}");
}

#[test]
fn a_small_tenant_waits_no_longer_than_two_of_the_others_runs() {
    let mut world = World::new(4, MEMORY);
    let (big, small) = (world.lane(lane_of(1, 1), kind(50, 1)), world.lane(lane_of(2, 1), kind(5, 1)));
    world.enqueue(big, 100_000, -100);
    let mut waits = Vec::new();
    for at in (500..20_000).step_by(100) {
        world.run_until(at);
        let id = world.enqueue(small, 1, 0);
        waits.push((id, at));
    }
    world.run_until(21_000);
    let mut waits: Vec<u64> = waits.into_iter().map(|(id, at)| world.start_of(id) - at).collect();
    waits.sort_unstable();
    let p99 = waits[waits.len() * 99 / 100];
    assert!(p99 <= 2 * 50 + 20, "{p99}");
}

/// The story: whoever held a lease, or had a long run, had never nothing, and so never came anew. What it had no use for
/// meanwhile was its own later: after an hour the others got nothing for as long.
#[test]
fn who_has_one_long_run_does_not_save_up_turns() {
    for of_worker in [true, false] {
        let mut world = World::new(4, MEMORY);
        let [a, b] = [1, 2].map(|tenant| world.lane(lane_of(tenant, 1), kind(20, 1)));
        if of_worker {
            let run = RunRef { at: JobRef { tenant: TenantId(2), job: JobId(1_000_000) }, run: RunNumber(1) };
            world.tell([Event::LeaseBegan { run, lane: lane_of(2, 2), lasts: Millis(10_000_000) }]);
        } else {
            let long = world.lane(lane_of(2, 2), kind(3_600_000, 1));
            world.enqueue(long, 1, 0);
        }
        world.run_until(100);
        world.enqueue(a, 100_000, 0);
        world.run_until(60_000);
        world.enqueue(b, 30_000, 0);
        let before = world.started(a).len();
        world.run_until(65_000);
        let (of_a, of_b) = (world.started(a).len() - before, world.started(b).len());
        assert!(of_a.abs_diff(of_b) <= 20, "of a worker {of_worker}: {of_a} {of_b}");
    }
}

/// The story: what runs counted as was added by one weight and taken off by another, so that a queue whose weight had ever
/// changed while it was busy seemed to have had less, or more, than it had, and each queue that came began there.
#[test]
fn after_a_change_of_weight_a_queue_that_comes_has_its_part_and_no_more() {
    for (before, after) in [(9, 9), (1, 9)] {
        let mut world = World::new(8, MEMORY);
        let (busy, comes) = (world.lane(lane_in(1, 1), kind(10_000, 1)), world.lane(lane_in(2, 2), kind(100, 1)));
        world.weight(1, before);
        // One behind another.
        for n in 0..8 {
            world.run_until(n * 1_200);
            world.enqueue(busy, 1, 0);
        }
        world.enqueue(busy, 10_000, 0);
        world.run_until(45_500);
        world.weight(1, after);
        world.run_until(99_000);
        let had = held(&world, busy);
        world.enqueue(comes, 40_000, 0);
        world.run_until(149_000);
        let of = held(&world, comes) / (held(&world, comes) + held(&world, busy) - had);
        assert!((0.05..=0.15).contains(&of), "{before} {after}: a tenth, not {of}");
    }
}

/// Nobody saves up turns: whoever had nothing to do for an hour is not let before all others for as long.
#[test]
fn who_comes_back_begins_where_the_others_are() {
    let mut world = World::new(4, MEMORY);
    let lanes = [1, 2].map(|tenant| world.lane(lane_of(tenant, 1), kind(20, 1)));
    world.enqueue(lanes[1], 1, 0);
    world.enqueue(lanes[0], 100_000, 0);
    world.run_until(60_000);
    world.enqueue(lanes[1], 10_000, 0);
    let before = world.started(lanes[0]).len();
    world.run_until(62_000);
    let (one, other) = (world.started(lanes[0]).len() - before, world.started(lanes[1]).len() - 1);
    assert!(one.abs_diff(other) <= 20, "{one} {other}");
}

/// Ten thousand tenants with three kinds each: what a decision costs does not grow with those who wait.
#[test]
fn every_one_of_many_tenants_has_its_turn() {
    let mut world = World::new(64, MEMORY);
    let mut lanes = Vec::new();
    for tenant in 1..=500 {
        for of in 1..=3 {
            lanes.push(world.lane(lane_of(tenant, of), kind(3, 1)));
        }
    }
    for lane in &lanes {
        world.enqueue(*lane, 1, 0);
    }
    world.run_until(10_000);
    assert_eq!(world.calls.len(), 1_500);
}

/// The story: a tenant's queue was paused for half a minute while another tenant worked. When it went on it was given every
/// slot until it had had as much as the other, which stood still for as long.
#[test]
fn who_could_not_run_does_not_save_up_turns() {
    let mut world = World::new(2, MEMORY);
    let (a, b) = (world.lane(lane_of(1, 1), kind(100, 1)), world.lane(lane_of(2, 1), kind(50, 1)));
    let gate = GateOf::Queue(TenantId(1), QueueId(1));
    world.limits(gate, Limits { pause: Some(Pause::Open), ..Limits::default() });
    world.enqueue(a, 400, 0);
    world.enqueue(b, 10_000, 0);
    world.run_until(30_000);
    assert_eq!(world.started(a).len(), 0);
    world.limits(gate, Limits::default());
    let before = world.started(b).len();
    world.run_until(40_000);
    let (of_a, of_b) = (world.started(a).len(), world.started(b).len() - before);
    assert!((80..=120).contains(&of_a) && (160..=240).contains(&of_b), "{of_a} of 100 ms and {of_b} of 50 ms in 10 s");
}

/// The same where a plugin comes late.
#[test]
fn who_had_no_plugin_does_not_save_up_turns() {
    let mut world = World::new(2, MEMORY);
    let (a, b) = (lane_of(1, 1), world.lane(lane_of(2, 1), kind(50, 1)));
    world.enqueue(a, 400, 0);
    world.enqueue(b, 10_000, 0);
    world.run_until(30_000);
    world.lane(a, kind(100, 1));
    let before = world.started(b).len();
    world.run_until(40_000);
    assert!((160..=240).contains(&(world.started(b).len() - before)), "{}", world.started(b).len() - before);
}
