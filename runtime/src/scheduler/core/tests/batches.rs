//! Jobs that share a call.

use super::world::{World, kind, lane_of};
use super::*;
use crate::wasm::manifest::Batch;

fn batched(world: &mut World, tenant: u32, takes_ms: u64, max: u32, linger_ms: u64) -> Lane {
    let mut kind = kind(takes_ms, 1);
    kind.serves.batch = Some(Batch { max, linger: Millis(linger_ms) });
    world.lane(lane_of(tenant, 7), kind)
}

fn sizes(world: &World, lane: Lane) -> Vec<usize> {
    world.calls.iter().filter(|call| call.lane == lane).map(|call| call.jobs.len()).collect()
}

/// L-08.
#[test]
fn a_hundred_groups_of_ten_are_ten_calls_of_a_hundred_in_order() {
    for gap in [0, 1, 3] {
        let mut world = World::new(4, MEMORY);
        let l = batched(&mut world, 1, 5, 100, 1_000);
        for _ in 0..100 {
            world.enqueue(l, 10, 0);
            world.run_until(world.now + gap);
        }
        world.run_until(10_000);
        assert_eq!(sizes(&world, l), [100; 10], "a group each {gap} ms");
        assert_eq!(world.started(l), (1..=1_000).collect::<Vec<_>>(), "each once, in order");
    }
}

#[test]
fn the_first_lingers_no_longer_than_it_may() {
    let mut world = World::new(4, MEMORY);
    let l = batched(&mut world, 1, 5, 100, 50);
    world.run_until(1_000);
    let first = world.enqueue(l, 3, 0);
    world.run_until(1_030);
    let second = world.enqueue(l, 4, 0);
    assert_eq!(world.core.why(l, world.moment()), [Held::Gathers { left: Millis(20) }]);
    assert_eq!(world.core.next_wakeup(world.moment()), Some(Millis(20)));
    world.run_until(2_000);
    assert_eq!((world.start_of(first), world.start_of(second)), (1_052, 1_052), "in one call, one commit later");
    assert_eq!(sizes(&world, l), [7]);
    // Those that a full call leaves linger from when they came.
    let third = world.enqueue(l, 100, 0);
    world.run_until(2_001);
    let fourth = world.enqueue(l, 1, 0);
    world.run_until(3_000);
    assert_eq!((world.start_of(third), world.start_of(fourth)), (2_002, 2_053));
}

#[test]
fn a_batch_is_not_claimed_ahead_and_takes_one_slot() {
    let mut world = World::new(2, MEMORY);
    let l = batched(&mut world, 1, 1_000, 10, 0);
    world.enqueue(l, 25, 0);
    world.run_until(500);
    assert_eq!((sizes(&world, l), world.core.ready()), (vec![10, 10], 0));
    world.run_until(5_000);
    assert_eq!(sizes(&world, l), [10, 10, 5]);
}

#[test]
fn args_that_are_too_much_for_one_call_go_with_the_next_one() {
    let mut world = World::new(1, MEMORY);
    let l = batched(&mut world, 1, 5, 100, 10);
    let sizes_kib = [400, 400, 400, 10, 1_024, 1];
    for (id, kib) in (1..).zip(sizes_kib) {
        world.sized(id, kib << 10);
    }
    world.enqueue(l, 6, 0);
    world.run_until(1_000);
    assert_eq!(sizes(&world, l), [2, 2, 1, 1]);
    assert_eq!(world.started(l), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn who_shared_a_failed_call_is_called_alone() {
    let mut world = World::new(4, MEMORY);
    let l = batched(&mut world, 1, 5, 100, 10);
    world.alone(2);
    world.alone(3);
    world.enqueue(l, 5, 0);
    world.run_until(1_000);
    let calls: BTreeSet<Vec<u64>> = world.calls.iter().map(|call| call.jobs.clone()).collect();
    assert_eq!(calls, BTreeSet::from([vec![1, 4, 5], vec![2], vec![3]]));
}

#[test]
fn suspects_of_a_kind_with_batches_are_called_alone() {
    let mut world = World::new(4, MEMORY);
    let l = batched(&mut world, 1, 5, 100, 10);
    let suspects = Lane { suspect: true, ..l };
    world.lane(suspects, world.kinds[&l]);
    world.enqueue(suspects, 3, 0);
    world.enqueue(l, 3, 0);
    world.run_until(1_000);
    assert_eq!((sizes(&world, suspects), sizes(&world, l)), (vec![1, 1, 1], vec![3]));
}

/// The story: a lane that was never empty of quick jobs always had some claimed ahead, so that no slot was ever free for a
/// batch; and one whose batches were always full took every slot that was.
#[test]
fn batches_and_quick_jobs_of_one_tenant_both_get_slots() {
    let mut world = World::new(2, MEMORY);
    let quick = world.lane(lane_of(1, 1), kind(1, 1));
    let l = batched(&mut world, 1, 5, 10, 0);
    world.enqueue(quick, 100_000, 0);
    world.run_until(1_000);
    world.enqueue(l, 20_000, 0);
    world.run_until(6_000);
    let (calls, others) = (sizes(&world, l).len(), world.started(quick).len());
    assert!(calls > 25 && others > 1_500, "{calls} calls beside {others} others");
}

#[test]
fn a_cancel_ends_a_run_of_a_call_by_itself() {
    let mut world = World::new(1, MEMORY);
    let l = batched(&mut world, 1, 1_000, 3, 0);
    world.enqueue(l, 3, 0);
    world.run_until(100);
    for id in [1, 3, 3, 2] {
        assert_eq!(world.core.handle(Event::Cancelled(run(id)), at(100)), [Action::End(run(id))]);
    }
    world.run_until(5_000);
    assert_eq!(world.core.handle(Event::Cancelled(run(3)), at(5_000)), [], "it is over");
}

#[test]
fn a_cancel_takes_one_out_of_a_call_that_has_not_started_and_a_drain_gives_all_back() {
    let l = lane(1, false);
    let mut core = core(1);
    let by = Some(Serves { memory_bytes: 1, batch: Some(Batch { max: 5, linger: Millis(0) }), external: false });
    core.handle_all([Event::Served { lane: l, by }, Event::Available { lane: l, difference: 9 }], at(0));
    let first = (1..=4).map(|id| claimed(id, 0, l)).collect();
    let actions = core.handle(Event::Claimed(first), at(0));
    let others = vec![run(2), run(3), run(4)];
    assert_eq!(actions[0], Action::Start { run: run(1), others, slot: 0 });
    let second = (5..=8).map(|id| claimed(id, 0, l)).collect();
    core.handle(Event::Claimed(second), at(0));
    assert_eq!(core.ready(), 1, "one call");
    for id in [5, 7] {
        assert_eq!(core.handle(Event::Cancelled(run(id)), at(0)), [Action::HandBack(run(id))]);
    }
    assert_eq!(core.handle(Event::Drain, at(0)), [Action::HandBack(run(6)), Action::HandBack(run(8))]);
    assert_eq!(core.handle(ended(1), at(0)), []);
    assert_eq!((core.running(), core.ready()), (0, 0));
}

/// What comes while others are claimed has not waited as long as they.
#[test]
fn who_comes_while_a_call_is_claimed_lingers_from_then_on() {
    let l = lane(1, false);
    let mut core = core(4);
    let batch = Batch { max: 10, linger: Millis(15_000) };
    let serves = Serves { memory_bytes: 1, batch: Some(batch), external: false };
    core.handle(Event::Served { lane: l, by: Some(serves) }, at(0));
    core.handle(Event::Available { lane: l, difference: 9 }, at(0));
    let actions = core.handle(Event::Available { lane: l, difference: 1 }, at(14_000));
    assert_eq!(claim_max(&actions), Some(10));
    let told = [3, -10].map(|difference| Event::Available { lane: l, difference });
    let runs = (0..10).map(|id| claimed(id, 0, l)).collect();
    core.handle_all(told.into_iter().chain([Event::Claimed(runs)]), at(14_002));
    let claims = [15_001, 29_001, 29_002].map(|ms| claim_max(&core.handle(Event::Tick, at(ms))));
    assert_eq!(claims, [None, None, Some(10)]);
}
