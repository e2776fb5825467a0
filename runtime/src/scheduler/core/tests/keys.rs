//! Limits and order by key: how many jobs of a key at once, how many in a time, and one after another.

use runner_store::command::{Pause, Rate};

use super::world::{COMMIT, World, kind, lane_by_key, lane_in};
use super::*;

fn at_once(most: u32) -> KeyLimits {
    KeyLimits { concurrency: Some(most), ..KeyLimits::default() }
}

fn rate(jobs: u32, per_ms: u64, burst: u32) -> KeyLimits {
    KeyLimits { rate: Some(Rate { jobs, per: Millis(per_ms), burst }), ..KeyLimits::default() }
}

const IN_ORDER: KeyLimits = KeyLimits { concurrency: None, rate: None, in_order: true };

/// A world in which kind 1 takes so long, in queue 1 and 2, and each of its keys may do so much.
fn with_keys(slots: u32, takes_ms: u64, limits: KeyLimits) -> World {
    let mut world = World::new(slots, MEMORY);
    world.key_limits(1, 1, limits);
    for queue in [1, 2] {
        world.lane(lane_in(queue, 1), kind(takes_ms, 1));
    }
    world
}

fn key_held(world: &World, lane: Lane) -> Option<Shut> {
    world.core.why(lane, world.moment()).into_iter().find_map(|held| match held {
        Held::Gate(GateOf::Key(_), shut) => Some(shut),
        _ => None,
    })
}

#[test]
fn each_key_runs_as_many_at_once_as_it_may_and_holds_up_no_other() {
    let mut world = with_keys(16, 50, at_once(2));
    let (a, b, none) = (lane_by_key(1, "a"), lane_by_key(1, "b"), lane_in(1, 1));
    world.enqueue(a, 500, -100);
    world.enqueue(b, 30, 0);
    world.enqueue(none, 100, 0);
    world.run_until(40);
    assert_eq!((world.runs(a), world.runs(b), world.runs(none)), (2, 2, 12), "what has no key has no limit");
    assert_eq!(key_held(&world, a), Some(Shut::Full(2)));
    world.run_until(50_000);
    assert_eq!(world.calls.len(), 630);
}

#[test]
fn a_key_counts_in_all_queues_of_its_kind_and_in_no_other_kind() {
    let mut world = with_keys(16, 100, at_once(1));
    let other = Lane { kind: KindId(2), ..lane_by_key(1, "a") };
    world.lane(other.of_all_keys(), kind(100, 1));
    world.enqueue(lane_by_key(1, "a"), 5, 0);
    world.enqueue(lane_by_key(2, "a"), 5, 0);
    world.enqueue(other, 5, 0);
    world.run_until(50);
    assert_eq!(world.runs(lane_by_key(1, "a")) + world.runs(lane_by_key(2, "a")), 1);
    assert_eq!(world.runs(other), 5);
}

#[test]
fn a_million_jobs_of_a_key_at_its_limit_do_not_hold_up_what_comes_behind() {
    let mut world = with_keys(4, 30, at_once(1));
    world.enqueue(lane_by_key(1, "flood"), 100_000, -1_000);
    world.run_until(100);
    let first = world.enqueue(lane_by_key(1, "small"), 1, 0);
    world.run_until(200);
    assert!(world.start_of(first) <= 100 + 3 * COMMIT, "{}", world.start_of(first));
}

#[test]
fn what_comes_first_goes_first_whatever_its_key() {
    let mut world = with_keys(1, 10, at_once(1));
    world.enqueue(lane_in(1, 1), 1, 0);
    world.run_until(5);
    for (key, priority) in [("d", 4), ("a", 1), ("c", 3), ("b", 2)] {
        world.enqueue(lane_by_key(1, key), 1, priority);
    }
    let none = world.enqueue(lane_in(1, 1), 1, 0);
    world.run_until(1_000);
    let order: Vec<u64> = world.calls.iter().flat_map(|call| call.jobs.clone()).collect();
    assert_eq!(order, [1, none, 3, 5, 4, 2]);
}

/// As many lanes are asked for as runs are wanted, those that come first: however many keys there are.
#[test]
fn of_ten_thousand_keys_a_claim_looks_at_as_many_as_it_wants_jobs() {
    let mut core = core(8);
    core.handle(Event::KeyLimits { tenant: TenantId(1), kind: KindId(1), limits: at_once(1) }, at(0));
    let family = lane(1, false);
    let tell = |id: u64| {
        let key = JobKey::text(&id.to_string()).hash();
        let lane = Lane { key, ..family };
        // The later ones come first.
        let order = Order::new(QueueOrder::Priority, Priority(-(id as i16)), Time(0), JobId(id));
        Event::Keyed { lane, difference: 1, head: Some(order) }
    };
    core.handle_all((1..=10_000).map(tell), at(0));
    let actions = core.handle(served(family), at(0));
    let (max, grants) = claim(&actions).expect("there is something to claim");
    assert_eq!((max, grants.len()), (8, 8));
    let wanted: Vec<_> = (9_993..=10_000).rev().map(|id: u64| JobKey::text(&id.to_string()).hash()).collect();
    assert_eq!(grants.iter().map(|grant| grant.lane.key).collect::<Vec<_>>(), wanted);
}

#[test]
fn a_rate_holds_for_each_key_and_its_burst_is_never_exceeded() {
    let mut world = with_keys(64, 5, rate(10, 1_000, 2));
    let keys = ["a", "b", "c"].map(|key| lane_by_key(1, key));
    for lane in keys {
        world.enqueue(lane, 1_000, 0);
    }
    world.run_until(20_050);
    for lane in keys {
        let started = world.of_key(lane).len();
        assert!((199..=203).contains(&started), "{started}: the auditor counts each against a bucket of its own");
        assert!(matches!(key_held(&world, lane), Some(Shut::Rate(_, left)) if left.0 <= 100));
    }
    assert!(world.core.ready() <= 3, "nothing waits for tokens that are far");
}

#[test]
fn a_batch_is_of_one_key_and_each_key_gathers_for_itself() {
    let mut world = World::new(8, MEMORY);
    let batch = Some(crate::wasm::manifest::Batch { max: 10, linger: Millis(50) });
    world.lane(lane_in(1, 1), world::Kind { serves: Serves { memory_bytes: 1, batch, external: false }, ..kind(5, 1) });
    let (a, b) = (lane_by_key(1, "a"), lane_by_key(1, "b"));
    world.enqueue(a, 25, 0);
    world.enqueue(b, 3, 0);
    world.run_until(30);
    assert_eq!((world.started(a).len(), world.started(b).len()), (20, 0), "two whole calls, and the rest gathers");
    assert!(matches!(world.core.why(b, world.moment())[..], [Held::Gathers { left: Millis(20) }]));
    world.run_until(70);
    assert_eq!((world.started(a).len(), world.started(b).len()), (25, 3), "what has lingered goes");
    assert!(world.calls.iter().all(|call| call.jobs.len() <= 10));
}

#[test]
fn batches_of_a_key_keep_its_limits() {
    let mut world = World::new(8, MEMORY);
    world.key_limits(1, 1, KeyLimits { rate: Some(Rate { jobs: 4, per: Millis(100), burst: 4 }), ..at_once(1) });
    let batch = Some(crate::wasm::manifest::Batch { max: 10, linger: Millis(0) });
    world
        .lane(lane_in(1, 1), world::Kind { serves: Serves { memory_bytes: 1, batch, external: false }, ..kind(20, 1) });
    let lane = lane_by_key(1, "a");
    world.enqueue(lane, 100, 0);
    world.run_until(2_000);
    let started = world.started(lane).len();
    assert!((70..=84).contains(&started), "{started}: a token for each job");
}

#[test]
fn jobs_of_a_key_run_one_after_another_in_the_order_of_their_lane() {
    let mut world = with_keys(8, 7, IN_ORDER);
    let (a, b) = (lane_by_key(1, "a"), lane_by_key(1, "b"));
    for i in 0..30 {
        world.enqueue(a, 1, [0, -3, 5][i % 3]);
        world.enqueue(b, 1, 0);
    }
    world.run_until(10_000);
    let started = |lane| world.of_key(lane).into_iter().map(|(_, job)| job).collect::<Vec<u64>>();
    let (of_a, of_b) = (started(a), started(b));
    assert!(of_b.is_sorted() && of_b.len() == 30);
    let rank = |job: &u64| ([0, -3, 5][(*job as usize / 2) % 3], *job);
    // The first two were there before the others.
    assert!(of_a[2..].is_sorted_by_key(rank) && of_a.len() == 30, "{of_a:?}");
    let apart = world.of_key(b).windows(2).all(|pair| pair[1].0 >= pair[0].0 + 7 + COMMIT);
    assert!(apart, "each begins when the one before is recorded");
}

#[test]
fn what_has_begun_and_failed_is_tried_again_before_the_others_of_its_key_begin() {
    let mut world = with_keys(4, 5, IN_ORDER);
    let (a, other) = (lane_by_key(1, "a"), lane_by_key(1, "b"));
    let first = world.enqueue(a, 4, 0);
    world.fails(first, &[300, 200]);
    world.fails(first + 2, &[100]);
    let free = world.enqueue(other, 1, 0);
    world.run_until(400);
    let held = world.core.why(a, world.moment());
    assert_eq!(held, [Held::Gate(GateOf::Key(crate::scheduler::core::keys::key_of(a).unwrap()), Shut::Order)]);
    world.run_until(5_000);
    let order: Vec<u64> = world.of_key(a).into_iter().map(|(_, job)| job).collect();
    assert_eq!(order, [first, first, first, first + 1, first + 2, first + 2, first + 3]);
    assert!(world.start_of(free) < 20, "another key does not wait");
    assert!(world.start_of(first + 1) >= 500);
}

/// While it waits for its backoff, a job with a higher priority comes: it waits all the same.
#[test]
fn what_comes_first_waits_for_what_has_begun() {
    let mut world = with_keys(4, 5, IN_ORDER);
    let a = lane_by_key(1, "a");
    let begun = world.enqueue(a, 1, 0);
    world.fails(begun, &[100]);
    world.run_until(20);
    let urgent = world.enqueue(a, 1, -9);
    let elsewhere = world.enqueue(lane_by_key(2, "a"), 1, -9);
    world.run_until(1_000);
    let ends = world.calls.iter().rfind(|call| call.jobs == [begun]).unwrap().at + 5;
    assert!(world.start_of(urgent) >= ends + COMMIT && world.start_of(elsewhere) >= ends + COMMIT);
}

#[test]
fn what_runs_in_order_is_not_claimed_ahead_and_what_runs_beside_it_is() {
    let mut world = with_keys(2, 1, IN_ORDER);
    let quick = world.lane(lane_in(1, 2), kind(1, 1));
    for key in 0..50 {
        world.enqueue(lane_by_key(1, &key.to_string()), 20, -1);
    }
    world.enqueue(quick, 3_000, 0);
    let mut ahead = 0;
    for end in 1..3_000 {
        world.run_until(end);
        let in_order = |call: &&Call| !call.lane.key.is_none();
        let ready = world.core.tenants.get(TenantId(1)).unwrap().ready.calls().filter(in_order).count();
        assert_eq!(ready, 0, "at {end}");
        ahead = ahead.max(world.core.ready());
    }
    assert!(ahead > 2, "quick handlers are claimed ahead, {ahead}");
    world.run_until(60_000);
    assert_eq!(world.calls.len(), 4_000);
}

/// What was claimed ahead before it came goes first, and no more than that.
#[test]
fn priority_holds_between_a_kind_that_runs_in_order_and_another() {
    let mut world = with_keys(1, 10, IN_ORDER);
    let other = world.lane(lane_in(1, 2), kind(10, 1));
    world.enqueue(other, 1, -100);
    world.run_until(5);
    world.enqueue(other, 20, 0);
    for key in 0..8 {
        world.enqueue(lane_by_key(1, &key.to_string()), 1, -5);
    }
    let late = world.enqueue(lane_by_key(1, "late"), 1, 5);
    world.run_until(5_000);
    let order: Vec<u64> = world.calls.iter().map(|call| call.jobs[0]).collect();
    let urgent: Vec<usize> = (0..order.len()).filter(|at| (22..30).contains(&order[*at])).collect();
    assert!(urgent.len() == 8 && urgent.iter().all(|at| *at < 8 + 4), "{order:?}");
    assert_eq!((order.len(), order.last()), (30, Some(&late)));
}

#[test]
fn limits_of_keys_change_while_jobs_run() {
    let mut world = with_keys(8, 100, KeyLimits::default());
    let a = lane_by_key(1, "a");
    world.enqueue(a, 40, 0);
    world.run_until(50);
    assert_eq!(world.runs(a), 8);
    world.key_limits(1, 1, at_once(2));
    world.run_until(90);
    assert_eq!(world.runs(a), 8, "runs are not ended by a limit");
    world.run_until(150);
    assert_eq!(world.runs(a), 2);
    world.key_limits(1, 1, at_once(5));
    world.run_until(160);
    assert_eq!(world.runs(a), 5, "and one that rises holds at once");
    world.key_limits(1, 1, IN_ORDER);
    world.run_until(340);
    assert_eq!(world.runs(a), 1, "order holds when those that ran at once have ended");
    world.key_limits(1, 1, KeyLimits::default());
    world.run_until(5_000);
    assert_eq!(world.calls.len(), 40);
}

#[test]
fn what_was_claimed_ahead_goes_back_when_its_key_may_do_less() {
    let mut world = with_keys(2, 1, KeyLimits::default());
    let a = lane_by_key(1, "a");
    world.enqueue(a, 2_000, 0);
    let ahead = (50..100).any(|end| {
        world.run_until(end);
        world.core.ready() > 0
    });
    assert!(ahead, "quick handlers are claimed ahead");
    world.key_limits(1, 1, IN_ORDER);
    assert!(world.handed_back > 0 && world.core.ready() == 0);
    world.run_until(20_000);
    assert_eq!(world.calls.len(), 2_000);
}

/// An operator starts exactly this job now: it waits for nobody, and the others of its key wait for it.
#[test]
fn what_is_started_by_hand_waits_for_no_key_and_the_others_wait_for_it() {
    let mut world = with_keys(4, 50, IN_ORDER);
    let a = lane_by_key(1, "a");
    world.enqueue(a, 3, 0);
    world.run_until(20);
    let by_hand = world.by_hand_beside_others(a);
    world.answer_by_hand(by_hand);
    assert_eq!(world.runs(a), 2);
    world.run_until(1_000);
    assert_eq!(world.of_key(a).len(), 3);
}

#[test]
fn a_pause_of_the_kind_and_a_limit_of_the_queue_hold_for_its_keys() {
    let mut world = with_keys(8, 10, at_once(1));
    let limits = Limits { concurrency: Some(3), ..Limits::default() };
    world.limits(GateOf::Queue(TenantId(1), QueueId(1)), limits);
    for key in 0..20 {
        world.enqueue(lane_by_key(1, &key.to_string()), 2, 0);
    }
    world.run_until(8);
    assert_eq!(world.running.len(), 3);
    let pause = Limits { pause: Some(Pause::Open), ..Limits::default() };
    world.limits(GateOf::Kind(TenantId(1), KindId(1)), pause);
    world.run_until(100);
    assert_eq!(world.running.len(), 0);
    world.limits(GateOf::Kind(TenantId(1), KindId(1)), Limits::default());
    world.run_until(1_000);
    assert_eq!(world.calls.len(), 40);
}

#[test]
fn nothing_is_kept_of_a_key_without_jobs_and_little_of_one_with() {
    let mut world = with_keys(8, 1, at_once(1));
    for key in 0..5_000 {
        world.enqueue(lane_by_key(1, &key.to_string()), 1, 0);
    }
    assert_eq!(world.core.keys_kept(), 5_000);
    world.run_until(60_000);
    assert_eq!((world.calls.len(), world.core.keys_kept()), (5_000, 0));
    let lanes = world.core.tenants.get(TenantId(1)).unwrap().lanes.len();
    assert_eq!(lanes, 2, "one for each queue");
    const { assert!(keyed::BYTES_OF_A_LANE <= 200) };
}

/// Keys whose tokens have yet to come are forgotten later, but they are.
#[test]
fn keys_that_only_wait_for_tokens_do_not_add_up() {
    let mut world = with_keys(64, 1, rate(1, 500, 1));
    for round in 0..40 {
        for key in 0..200 {
            world.enqueue(lane_by_key(1, &format!("{round}-{key}")), 1, 0);
        }
        world.run_until((round + 1) * 1_000);
    }
    assert_eq!(world.calls.len(), 8_000);
    assert!(world.core.keys_kept() <= 2_048, "{}", world.core.keys_kept());
}
