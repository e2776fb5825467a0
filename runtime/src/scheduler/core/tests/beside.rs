//! Claims beside the open one.

use super::world::{COMMIT, World, kind, lane_by_key, lane_in, lane_of};
use super::*;

/// The story: a tenant with a million jobs had a claim open at all times, and who came just behind one waited for its commit and
/// for that of the next.
#[test]
fn who_comes_behind_a_claim_is_claimed_beside_it() {
    let (large, small) = (lane_of(1, 1), lane_of(2, 2));
    let mut core = core(2);
    core.handle(served(small), at(0));
    let actions = core.handle_all([served(large), Event::Available { lane: large, difference: 1_000 }], at(0));
    assert_eq!(claim_max(&actions), Some(2));
    let beside = |max| {
        Action::ClaimBeside(vec![Take { max, grants: vec![Grant { lane: small, max }], shared: false, ask: None }])
    };
    assert_eq!(
        core.handle(Event::Available { lane: small, difference: 5 }, at(0)),
        [beside(1)],
        "one: no more starts before others' turn"
    );
    assert_eq!(
        core.handle(Event::Available { lane: small, difference: 5 }, at(0)),
        [],
        "it has a part in an open claim"
    );
    assert_eq!(core.handle(Event::Available { lane: large, difference: 5 }, at(0)), [], "and so has this one");
    // The other one's answer comes first, and takes both slots.
    let runs = vec![claimed(1, 0, large), claimed(2, 0, large)];
    let actions = core.handle(Event::Claimed(runs), at(1));
    assert_eq!(starts(&actions), [1, 2]);
    let actions = core.handle(Event::Ended { run: run(1), fuel: 0, took: Duration::from_millis(1) }, at(2));
    assert!(takes(&actions).iter().all(|take| take.grants[0].lane == large), "{actions:?}");
    core.handle(Event::Available { lane: small, difference: -1 }, at(2));
    let actions = core.handle(Event::ClaimedBeside(vec![claimed(3, 0, small)]), at(2));
    assert_eq!(starts(&actions), [3]);
}

#[test]
fn who_comes_to_a_busy_node_waits_for_one_commit_and_one_run() {
    let mut world = World::new(2, MEMORY);
    let takes_ms = 1;
    let large = world.lane(lane_of(1, 1), kind(takes_ms, 1));
    let small = world.lane(lane_of(2, 2), kind(takes_ms, 1));
    world.enqueue(large, 10_000, 0);
    let mut waits = Vec::new();
    for n in 0..200 {
        // Wherever the other one's claim is by then.
        world.run_until(100 + n * 7);
        let (came, job) = (world.now, world.enqueue(small, 1, 0));
        world.run_until(came + 5);
        waits.push(world.start_of(job) - came);
    }
    assert!(world.queued() > 0, "the other one has had enough to do");
    let longest = waits.iter().max().copied();
    assert!(longest <= Some(COMMIT + takes_ms), "{waits:?}");
}

#[test]
fn no_more_are_claimed_beside_than_a_limit_lets_through() {
    let (large, small) = (lane_of(1, 1), lane_of(2, 2));
    let mut core = core(2);
    let limits = Limits { concurrency: Some(1), ..Limits::default() };
    core.handle(Event::Limits { of: GateOf::Kind(small.tenant, small.kind), limits }, at(0));
    core.handle_all([served(small), served(large), Event::Available { lane: large, difference: 9 }], at(0));
    let is_beside = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::ClaimBeside(_)));
    assert!(is_beside(&core.handle(Event::Available { lane: small, difference: 3 }, at(0))));
    let news = [Event::Available { lane: small, difference: -1 }, Event::ClaimedBeside(vec![claimed(3, 0, small)])];
    assert_eq!(starts(&core.handle_all(news, at(0))), [3]);
    assert_eq!(core.handle(Event::Available { lane: small, difference: 1 }, at(0)), [], "one of it runs");
    assert!(core.is_claiming());
}

#[test]
fn a_draining_node_hands_back_what_was_claimed_beside() {
    let (large, small) = (lane_of(1, 1), lane_of(2, 2));
    let mut core = core(2);
    core.handle_all([served(small), served(large), Event::Available { lane: large, difference: 9 }], at(0));
    core.handle(Event::Available { lane: small, difference: 3 }, at(0));
    core.handle_all([Event::Drain, Event::Claimed(vec![])], at(0));
    assert!(core.is_claiming(), "one answer is still to come");
    let late = claimed(3, 0, small);
    assert_eq!(core.handle(Event::ClaimedBeside(vec![late]), at(0)), [Action::HandBack(late.run)]);
    assert!(!core.is_claiming());
}

/// The story: a job was claimed beside another tenant's claim while no slot was free. One of the same key that came first, by
/// its priority, came behind it, and ran after it.
#[test]
fn what_runs_in_order_is_not_claimed_beside_before_it_can_start() {
    let mut world = World::new(1, MEMORY);
    world.lane(lane_in(1, 1), kind(1, 1));
    world.key_limits(1, 1, KeyLimits { in_order: true, ..KeyLimits::default() });
    let large = world.lane(lane_of(2, 9), kind(3, 1));
    world.enqueue(large, 3_000, 0);
    for end in 1..2_000 {
        world.run_until(end);
        if end % 7 == 0 {
            world.enqueue(lane_by_key(1, &(end % 4).to_string()), 1, -1);
        }
        let ready = world.core.tenants.get(TenantId(1)).map_or(0, |tenant| tenant.ready.len());
        assert_eq!(ready, 0, "at {end}");
    }
    let of_keys = world.calls.iter().filter(|call| !call.lane.key.is_none()).count();
    // Between claims of the other tenant that leave it out, until a slot comes free for it.
    assert!(of_keys > 10, "{of_keys}");
}

/// The story: a tenant with quick runs was asked for beside each of another one's claims, and so left out of all of them: it
/// got one run a commit, with slots free and hundreds of jobs queued.
#[test]
fn who_was_left_out_of_a_claim_has_a_part_in_the_next_one() {
    let (large, small) = (lane_of(1, 1), lane_of(2, 2));
    let mut core = core(8);
    core.handle_all([served(small), served(large), Event::Available { lane: large, difference: 1_000 }], at(0));
    let actions = core.handle(Event::Available { lane: small, difference: 500 }, at(0));
    assert!(matches!(actions[..], [Action::ClaimBeside(_)]), "{actions:?}");
    let actions = core.handle_all([Event::Claimed(vec![claimed(1, 0, large)])], at(1));
    assert!(takes(&actions).iter().all(|take| take.grants[0].lane == large), "{actions:?}");
    core.handle(Event::Available { lane: small, difference: -1 }, at(1));
    let actions = core.handle(Event::ClaimedBeside(vec![claimed(2, 0, small)]), at(1));
    assert_eq!(starts(&actions), [2]);
    let came = core.handle(Event::Available { lane: small, difference: 1 }, at(1));
    assert_eq!(came, [], "it waits for the next claim, which takes more");
    let actions = core.handle(Event::Claimed(vec![claimed(3, 0, large)]), at(2));
    let of_small = takes(&actions).into_iter().find(|take| take.grants[0].lane == small);
    assert!(of_small.is_some_and(|take| take.max > 1), "{actions:?}");
}

/// The story: where a claim was always open, or one beside it, runs to be ended that no answer brought were never forgotten.
#[test]
fn a_cancel_is_forgotten_with_the_last_answer_that_may_bring_it() {
    let (large, small) = (lane_of(1, 1), lane_of(2, 2));
    let mut core = core(2);
    core.handle_all([served(small), served(large), Event::Available { lane: large, difference: 1_000 }], at(0));
    core.handle(Event::Available { lane: small, difference: 3 }, at(0));
    core.handle_all([Event::Cancelled(run(1)), Event::Cancelled(claimed(2, 0, small).run)], at(0));
    let actions = core.handle(Event::Claimed(vec![claimed(1, 0, large)]), at(1));
    assert!(actions.contains(&Action::HandBack(run(1))), "{actions:?}");
    assert_eq!(core.cancelled.len(), 2, "the other answer may bring either");
    let actions = core.handle(Event::ClaimedBeside(vec![claimed(2, 0, small)]), at(1));
    assert!(actions.contains(&Action::HandBack(claimed(2, 0, small).run)), "{actions:?}");
    assert!(core.is_claiming() && core.cancelled.is_empty(), "a claim that was asked for later brings neither");
}
