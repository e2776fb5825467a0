//! Memory, tenants' concurrency and fuel, and turns between tenants.

use std::collections::BTreeMap;

use super::world::{World, kind, lane_of};
use runner_store::command::Fuel;

use super::*;

const MIB: u64 = 1 << 20;

fn concurrency(most: u32) -> Budget {
    Budget { concurrency: Some(most), ..Budget::default() }
}

fn memory(mib: u64) -> Budget {
    Budget { memory_bytes: Some(mib * MIB), ..Budget::default() }
}

fn fuel(fuel: u64, per_ms: u64) -> Budget {
    Budget { fuel: Some(Fuel { fuel, per: Millis(per_ms) }), ..Budget::default() }
}

#[test]
fn a_run_starts_only_when_its_whole_limit_fits_into_the_node() {
    let mut world = World::new(16, 256 * MIB);
    let l = world.lane(lane_of(1, 1), kind(100, 64 * MIB));
    world.enqueue(l, 40, 0);
    world.run_until(50);
    assert_eq!(world.runs(l), 4, "as many as the memory is enough for");
    assert!(world.core.ready() <= 4, "slots without memory are not claimed for");
    world.run_until(2_000);
    assert_eq!(world.started(l).len(), 40);
}

#[test]
fn a_tenant_at_its_memory_is_passed_over_and_others_go_on() {
    let mut world = World::new(16, 10_000 * MIB);
    world.budget(1, memory(128));
    let (a, b) = (world.lane(lane_of(1, 1), kind(1_000, 64 * MIB)), world.lane(lane_of(2, 1), kind(1_000, 64 * MIB)));
    world.enqueue(a, 1_000, -100);
    world.enqueue(b, 20, 0);
    world.run_until(100);
    assert_eq!((world.runs(a), world.runs(b)), (2, 14));
    assert_eq!(world.core.ready(), 0, "nothing is claimed that could not start");
    let held = world.core.why(a, world.moment());
    assert_eq!(held[0], Held::Memory { needs_bytes: 64 * MIB, left_bytes: 0, whose: Whose::Tenant });
}

/// The story: small runs of others took each bit of memory as it became free, and a big one never saw enough of it.
#[test]
fn who_waits_for_the_nodes_memory_is_not_overtaken_for_ever() {
    let mut world = World::new(16, 1_024 * MIB);
    let (small, big) =
        (world.lane(lane_of(1, 1), kind(97, 64 * MIB)), world.lane(lane_of(2, 1), kind(50, 1_000 * MIB)));
    world.enqueue(small, 10_000, 0);
    world.run_until(500);
    assert_eq!(world.runs(small), 16);
    let before = world.calls.len();
    let id = world.enqueue(big, 1, 0);
    world.run_until(3_000);
    let between = world.calls.iter().skip(before).position(|call| call.jobs == [id]).unwrap();
    assert!(between <= start::OVERTAKEN_MAX as usize + 2, "{between} started before it");
    assert!(world.start_of(id) < 1_000, "all that ran when it came had ended by then");
}

#[test]
fn within_a_tenant_what_comes_first_is_not_overtaken_for_want_of_memory() {
    let mut world = World::new(4, 1_000 * MIB);
    let small = world.lane(lane_of(1, 1), kind(100, 300 * MIB));
    let big = world.lane(lane_of(1, 2), kind(100, 900 * MIB));
    world.enqueue(small, 3, -1);
    world.run_until(10);
    let first = world.enqueue(big, 1, 0);
    let last = world.enqueue(small, 9, 1);
    world.run_until(5_000);
    assert!(world.start_of(first) < world.start_of(last));
    assert_eq!(world.started(small).len(), 12);
}

#[test]
fn a_run_that_is_larger_than_its_budget_is_never_claimed_and_says_so() {
    let mut world = World::new(4, 100 * MIB);
    world.budget(2, memory(10));
    let (a, b) = (world.lane(lane_of(1, 1), kind(1, 200 * MIB)), world.lane(lane_of(2, 1), kind(1, 64 * MIB)));
    let c = world.lane(lane_of(3, 1), kind(1, 64 * MIB));
    for lane in [a, b, c] {
        world.enqueue(lane, 3, 0);
    }
    world.run_until(1_000);
    assert_eq!((world.started(a).len(), world.started(b).len(), world.started(c).len()), (0, 0, 3));
    let too_large = |whose, needs, most| Held::TooLarge { needs_bytes: needs * MIB, most_bytes: most * MIB, whose };
    assert_eq!(world.core.why(a, world.moment()), [too_large(Whose::Node, 200, 100)]);
    assert_eq!(world.core.why(b, world.moment()), [too_large(Whose::Tenant, 64, 10)]);
    assert_eq!(world.core.may_start(b, 9, world.moment()), MayStart::Held(too_large(Whose::Tenant, 64, 10)));
    // A budget that is raised lets them go.
    world.budget(2, memory(64));
    world.run_until(2_000);
    assert_eq!(world.started(b).len(), 3);
}

/// The story: a manifest that was changed asked for more memory than there is. Jobs that had been claimed before went back, but
/// those whose claim was still open came in after that, could never start, and in the end nobody else could either.
#[test]
fn what_was_claimed_before_its_runs_became_too_large_goes_back_and_others_go_on() {
    for when in 50..54 {
        let mut world = World::new(1, 100 * MIB);
        let (grows, own) = (world.lane(lane_of(1, 1), kind(1, MIB)), world.lane(lane_of(1, 2), kind(1, MIB)));
        let other = world.lane(lane_of(2, 1), kind(1, MIB));
        world.enqueue(grows, 1_000, -1);
        world.run_until(when);
        let by_hand = world.by_hand(grows);
        let larger = Some(Serves { memory_bytes: 200 * MIB, batch: None, external: false });
        world.tell([Event::Served { lane: grows, by: larger }]);
        let before = world.started(grows).len();
        world.enqueue(own, 5, 0);
        world.enqueue(other, 100, 0);
        world.answer_by_hand(by_hand);
        world.run_until(1_000);
        assert_eq!((world.started(own).len(), world.started(other).len()), (5, 100));
        assert_eq!((world.started(grows).len(), world.core.ready()), (before, 0));
        assert!(before > 0 && world.handed_back > 1, "some had started, others were claimed, and one by hand");
        world.tell([Event::Served { lane: grows, by: Some(kind(1, MIB).serves) }]);
        world.run_until(4_000);
        assert_eq!(world.started(grows).len(), 1_000, "none is lost");
    }
}

#[test]
fn a_tenant_has_no_more_runs_than_it_may_and_a_canary_finds_a_slot_beside_a_crowd() {
    let mut world = World::new(16, MEMORY);
    world.budget(1, concurrency(8));
    let (crowd, canary) = (world.lane(lane_of(1, 1), kind(60_000, 1)), world.lane(lane_of(2, 1), kind(1, 1)));
    world.enqueue(crowd, 100_000, -32_768);
    world.run_until(1_000);
    assert_eq!((world.runs(crowd), world.core.ready()), (8, 0));
    assert_eq!(world.core.why(crowd, world.moment()), [Held::Concurrency { most: 8 }]);
    let id = world.enqueue(canary, 1, 0);
    world.run_until(2_000);
    assert_eq!(world.start_of(id), 1_002, "after one commit");
}

/// The story: a tenant's quick jobs were claimed ahead by hundreds, then its fuel was used up. They lay there, claimed, until
/// the next period, and took the place of everybody else's.
#[test]
fn a_tenant_whose_fuel_is_spent_waits_for_its_next_period() {
    let mut world = World::new(4, MEMORY);
    world.budget(1, fuel(1_000, 60_000));
    let (a, b) = (world.lane(lane_of(1, 1), kind(1, 1)), world.lane(lane_of(2, 1), kind(1, 1)));
    world.enqueue(a, 5_000, 0);
    world.run_until(50_000);
    let first = world.started(a).len();
    assert!((1_000..1_010).contains(&first), "{first}: what ran went on");
    assert!(world.handed_back > 0 && world.core.ready() == 0);
    assert_eq!(world.core.next_wakeup(world.moment()), Some(Millis(10_000)));
    let held = Held::Fuel { budget: 1_000, next: Millis(10_000) };
    assert_eq!(world.core.why(a, world.moment()), [held]);
    assert_eq!(world.core.may_start(a, 9, world.moment()), MayStart::Held(held));
    let id = world.enqueue(b, 1, 0);
    world.run_until(59_999);
    assert_eq!(world.start_of(id), 50_002);
    assert_eq!(world.started(a).len(), first);
    world.run_until(119_999);
    let second = world.started(a).len() - first;
    assert!((1_000..1_010).contains(&second), "{second}");
    world.run_until(400_000);
    let mut all = world.started(a);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 5_000, "none is lost");
}

#[test]
fn tenants_take_turns_at_slots_whatever_their_priorities_are() {
    let mut world = World::new(2, MEMORY);
    let (a, b) = (world.lane(lane_of(1, 1), kind(10, 1)), world.lane(lane_of(2, 1), kind(10, 1)));
    world.enqueue(a, 10_000, -100);
    world.enqueue(b, 10_000, 100);
    world.run_until(10_000);
    let (of_a, of_b) = (world.started(a).len(), world.started(b).len());
    assert!(of_a + of_b > 1_500, "the slots were not idle: {of_a} and {of_b}");
    assert!(of_a.abs_diff(of_b) <= of_a / 10, "{of_a} and {of_b}");
}

#[test]
fn a_tenant_with_slow_handlers_gives_way_to_one_that_comes() {
    let mut world = World::new(4, MEMORY);
    let (slow, other) = (world.lane(lane_of(1, 1), kind(1_000, 1)), world.lane(lane_of(2, 1), kind(1_000, 1)));
    world.enqueue(slow, 1_000, -100);
    world.run_until(100);
    let id = world.enqueue(other, 1, 0);
    world.run_until(5_000);
    assert!(world.start_of(id) <= 1_010, "the next slot is its: {}", world.start_of(id));
}

#[test]
fn quick_jobs_of_one_tenant_are_as_quick_beside_another_that_has_reached_its_limit() {
    let quick_jobs_in_a_second = |slots, parked| {
        let mut world = World::new(slots, MEMORY);
        world.budget(1, concurrency(1));
        let (slow, quick) = (world.lane(lane_of(1, 1), kind(1_000_000, 1)), world.lane(lane_of(2, 1), kind(1, 1)));
        world.enqueue(slow, parked, -100);
        world.enqueue(quick, 10_000, 0);
        world.run_until(1_000);
        world.started(quick).len()
    };
    let (alone, beside) = (quick_jobs_in_a_second(7, 0), quick_jobs_in_a_second(8, 1_000));
    assert!(beside * 100 >= alone * 95, "{alone} alone, {beside} beside another");
}

#[test]
fn priority_holds_within_a_tenant() {
    let mut world = World::new(1, MEMORY);
    let (a, b) = (world.lane(lane_of(1, 1), kind(10, 1)), world.lane(lane_of(1, 2), kind(10, 1)));
    let low = world.enqueue(a, 2, 5);
    let high = world.enqueue(b, 2, -5);
    world.run_until(1_000);
    assert!(world.start_of(high + 1) < world.start_of(low + 1));
}

/// Whatever tenants, kinds and budgets there are: every job that can run does, once, and no budget is ever exceeded, which the
/// world checks at every step.
#[test]
fn everything_that_can_run_does() {
    for seed in 1..=60_u64 {
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut roll = |below: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % below
        };
        let mut world = World::new(u32::try_from(1 + roll(8)).unwrap(), 1_000 * MIB);
        let mut lanes = Vec::new();
        for tenant in 1..=u32::try_from(1 + roll(4)).unwrap() {
            let pick = |roll: &mut dyn FnMut(u64) -> u64, of: u64| (roll(3) == 0).then(|| 1 + roll(of));
            let budget = Budget {
                concurrency: pick(&mut roll, 4).map(|n| u32::try_from(n).unwrap()),
                memory_bytes: pick(&mut roll, 10).map(|n| (500 + n * 50) * MIB),
                fuel: pick(&mut roll, 20).map(|n| Fuel { fuel: n * 5, per: Millis(1_000) }),
            };
            world.budget(tenant, budget);
            for number in 1..=u32::try_from(1 + roll(3)).unwrap() {
                let mut kind = kind(1 + roll(200), (1 + roll(500)) * MIB);
                let batch =
                    crate::wasm::manifest::Batch { max: u32::try_from(1 + roll(9)).unwrap(), linger: Millis(roll(50)) };
                kind.serves.batch = (roll(3) == 0).then_some(batch);
                lanes.push(world.lane(lane_of(tenant, number), kind));
            }
        }
        let mut expected = BTreeMap::<Lane, u64>::new();
        for _ in 0..20 {
            let lane = lanes[usize::try_from(roll(lanes.len() as u64)).unwrap()];
            let n = 1 + roll(20);
            world.enqueue(lane, n, i16::try_from(roll(3)).unwrap());
            *expected.entry(lane).or_default() += n;
            world.run_until(world.now + roll(300));
        }
        world.run_until(2_000_000);
        for (lane, n) in expected {
            let mut started = world.started(lane);
            started.sort_unstable();
            started.dedup();
            assert_eq!(started.len() as u64, n, "seed {seed}, {lane:?}: {:?}", world.core.why(lane, world.moment()));
            assert_eq!(world.started(lane).len() as u64, n, "seed {seed}: each once");
        }
        assert_eq!((world.core.ready(), world.core.running(), world.core.is_claiming()), (0, 0, false), "seed {seed}");
    }
}

/// Twice the memory is promised, as runs seldom use all that they may. When they do, the youngest makes room.
#[test]
fn what_was_promised_beyond_the_memory_is_taken_back_from_the_youngest() {
    let l = lane(1, false);
    let mut core = Core::new(16, 4).overcommit(2_000);
    core.handle(served(l), at(0));
    let actions = core.handle(Event::Available { lane: l, difference: 20 }, at(0));
    assert_eq!(claim_max(&actions), Some(8), "for twice the memory");
    let runs = (1..=8).map(|id| claimed(id, 0, l)).collect();
    core.handle(Event::Available { lane: l, difference: -8 }, at(0));
    assert_eq!(starts(&core.handle(Event::Claimed(runs), at(0))), (1..=8).collect::<Vec<_>>());
    assert_eq!(core.handle(Event::ShortOfMemory, at(1)), [Action::Interrupt(vec![run(8)])]);
    assert_eq!(core.handle(Event::ShortOfMemory, at(2)), [], "one at a time");
    let actions = core.handle(ended(8), at(3));
    assert_eq!(claim_max(&actions), Some(2), "ahead");
    let runs = [9, 10].map(|id| claimed(id, 0, l)).to_vec();
    assert_eq!(starts(&core.handle(Event::Claimed(runs), at(3))), [0_u64; 0], "what it gives back is given to nobody");
    assert_eq!(core.handle(Event::ShortOfMemory, at(4)), [Action::Interrupt(vec![run(7)])], "it was not enough");
    for id in [7, 1] {
        assert_eq!(starts(&core.handle(ended(id), at(5))), [0_u64; 0]);
    }
    let held = core.why(l, at(5));
    assert!(held.contains(&Held::Memory { needs_bytes: 1, left_bytes: 0, whose: Whose::Node }), "{held:?}");
    assert_eq!(starts(&core.handle(ended(2), at(6))), [9, 10], "all that runs has its whole limit");
}

#[test]
fn nobody_is_interrupted_where_all_that_runs_has_its_whole_limit() {
    let l = lane(1, false);
    let mut core = Core::new(16, 4).overcommit(2_000);
    core.handle(served(l), at(0));
    core.handle(Event::Available { lane: l, difference: 3 }, at(0));
    core.handle(Event::Claimed((1..=3).map(|id| claimed(id, 0, l)).collect()), at(0));
    assert_eq!(core.handle(Event::ShortOfMemory, at(1)), [], "instances that are kept use it, and go by themselves");
}
