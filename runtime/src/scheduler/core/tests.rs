//! The core on virtual time: what it does when something happens, told in stories. Those that take many steps happen in a
//! [`world`] with a store and handlers of its own.

mod ahead;
mod auditor;
mod batches;
mod beside;
mod budgets;
mod keys;
mod leases;
mod limits;
mod newcomers;
mod pairs;
mod shares;
mod simulation;
mod world;

use runner_store::command::Grant;
use runner_store::index::KeyOf;
use runner_store::job::{JobId, JobKey, JobRef, KindId, Priority, QueueId, QueueOrder, RunNumber, TenantId};

use super::*;

fn lane(kind: u32, suspect: bool) -> Lane {
    Lane { suspect, ..Lane::new(TenantId(1), QueueId(1), KindId(kind)) }
}

fn run(id: u64) -> RunRef {
    RunRef { at: JobRef { tenant: TenantId(1), job: JobId(id) }, run: RunNumber(1) }
}

fn claimed(id: u64, priority: i16, lane: Lane) -> Claimed {
    let order = Order::new(QueueOrder::Priority, Priority(priority), Time(0), JobId(id));
    let run = RunRef { at: JobRef { tenant: lane.tenant, job: JobId(id) }, run: RunNumber(1) };
    Claimed { run, lane, order, args_bytes: 0, alone: false }
}

/// Both clocks at so many milliseconds.
fn at(ms: u64) -> Moment {
    Moment { wall: Time(ms), uptime: Millis(ms) }
}

fn ended(id: u64) -> Event {
    Event::Ended { run: run(id), fuel: 0, took: Duration::from_millis(1) }
}

/// More than any test needs.
const MEMORY: u64 = 1 << 40;

fn core(slots: u32) -> Core {
    Core::new(slots, MEMORY)
}

fn served(lane: Lane) -> Event {
    Event::Served { lane, by: Some(Serves { memory_bytes: 1, batch: None, external: false }) }
}

/// A core that was told of `n` available jobs in a served lane.
fn with(slots: u32, lanes: &[(Lane, i64)]) -> (Core, Vec<Action>) {
    let mut core = core(slots);
    let mut actions = Vec::new();
    for (lane, difference) in lanes {
        actions.extend(core.handle(Event::Available { lane: *lane, difference: *difference }, at(0)));
        actions.extend(core.handle(served(*lane), at(0)));
    }
    (core, actions)
}

fn starts(actions: &[Action]) -> Vec<u64> {
    let start = |action: &Action| match action {
        Action::Start { run, .. } => Some(run.at.job.0),
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

/// The parts of a claim.
fn takes(actions: &[Action]) -> Vec<Take> {
    let takes = |action: &Action| match action {
        Action::Claim(takes) => Some(takes.clone()),
        _ => None,
    };
    actions.iter().find_map(takes).unwrap_or_default()
}

/// A claim of one part.
fn claim(actions: &[Action]) -> Option<(u32, Vec<Grant>)> {
    let mut takes = takes(actions);
    assert!(takes.len() <= 1, "{takes:?}");
    takes.pop().map(|take| (take.max, take.grants))
}

fn claim_max(actions: &[Action]) -> Option<u32> {
    claim(actions).map(|(max, _)| max)
}

#[test]
fn nothing_is_claimed_for_a_kind_that_no_plugin_provides() {
    let mut core = core(2);
    let l = lane(1, false);
    assert_eq!(core.handle(Event::Available { lane: l, difference: 3 }, at(0)), vec![]);
    let actions = core.handle(served(l), at(0));
    let grants = vec![Grant { lane: l, max: 2 }];
    assert_eq!(actions, vec![Action::Claim(vec![Take { max: 2, grants, shared: false, ask: None }])]);
}

#[test]
fn there_is_never_more_than_one_claim_open_and_a_fruitless_one_is_not_repeated() {
    let l = lane(1, false);
    let (mut core, actions) = with(2, &[(l, 1)]);
    assert!(claim_max(&actions).is_some());
    assert_eq!(core.handle(Event::Tick, at(0)), vec![], "one is open");
    assert_eq!(core.handle(Event::Claimed(vec![]), at(0)), vec![], "it waits for news");
    assert_eq!(core.handle(Event::Tick, at(9)), vec![]);
    let actions = core.handle(Event::Available { lane: l, difference: 1 }, at(0));
    assert!(claim_max(&actions).is_some());
}

/// The story: the last available job was cancelled while it was being claimed, and another was enqueued just behind
/// the claim. The claim came back empty after the news of the other, which then lay there until the next news.
#[test]
fn news_while_a_claim_is_open_are_not_lost() {
    let l = lane(1, false);
    for difference in [1, -1] {
        let (mut core, _) = with(2, &[(l, 2)]);
        assert_eq!(core.handle(Event::Available { lane: l, difference }, at(0)), vec![]);
        assert!(claim_max(&core.handle(Event::Claimed(vec![]), at(0))).is_some(), "it may have missed them");
        assert_eq!(core.handle(Event::Claimed(vec![]), at(0)), vec![], "this one has not");
    }
}

/// The story: thousands of jobs at the head of a lane had expired. A claim discarded as many as one may, came back
/// empty, and those behind were never asked for.
#[test]
fn a_claim_that_only_discarded_is_repeated() {
    let l = lane(1, false);
    let (mut core, _) = with(2, &[(l, 9_000)]);
    core.handle(Event::Available { lane: l, difference: -6_000 }, at(0));
    assert!(claim_max(&core.handle(Event::Claimed(vec![]), at(0))).is_some());
}

/// The story: after a restart whichever kind came first in a hash map took all slots, and urgent jobs waited for it.
#[test]
fn what_became_known_together_is_claimed_together() {
    let (a, b) = (lane(1, false), lane(2, false));
    let mut core = core(1);
    let news = [a, b].into_iter().flat_map(|lane| [served(lane), Event::Available { lane, difference: 1 }]);
    let actions = core.handle_all(news, at(0));
    let grants = vec![Grant { lane: a, max: 1 }, Grant { lane: b, max: 1 }];
    assert_eq!(actions, vec![Action::Claim(vec![Take { max: 1, grants, shared: false, ask: None }])]);
}

/// The story: a lane that was never empty of quick jobs always had some claimed ahead, so that no slot was ever free
/// for a suspect.
#[test]
fn suspects_get_a_slot_beside_any_number_of_quick_jobs() {
    let (l, s) = (lane(1, false), lane(1, true));
    let (mut core, actions) = with(2, &[(l, 1_000_000)]);
    let (mut next, mut running, mut open) = (0, Vec::new(), claim(&actions));
    for round in 0..1_000 {
        if round == 100 {
            core.handle(served(s), at(0));
            core.handle(Event::Available { lane: s, difference: 1 }, at(0));
        }
        if let Some((max, grants)) = open.take() {
            if grants.iter().any(|grant| grant.lane == s) {
                return;
            }
            // Handlers are as quick as commits: most of what was claimed ends before the next answer.
            while core.ready() > 1 {
                let actions = core.handle(ended(running.remove(0)), at(0));
                running.extend(starts(&actions));
            }
            let runs = (next..next + u64::from(max)).map(|id| claimed(id, 0, l)).collect();
            next += u64::from(max);
            let actions = core.handle(Event::Claimed(runs), at(0));
            running.extend(starts(&actions));
            open = claim(&actions);
        } else {
            let actions = core.handle(ended(running.remove(0)), at(0));
            running.extend(starts(&actions));
            open = claim(&actions);
        }
    }
    panic!("the suspect was never asked for");
}

/// The story: hundreds of quick jobs were claimed ahead, then they became slow. Nothing was claimed until nearly all
/// of them had ended, whatever came in between.
#[test]
fn what_comes_first_is_found_although_much_was_claimed_ahead() {
    let l = lane(1, false);
    let (mut core, _) = with(2, &[(l, 10_000)]);
    core.handle(Event::Claimed((0..500).map(|id| claimed(id, 0, l)).collect()), at(0));
    let ends = |core: &mut Core, id| claim_max(&core.handle(ended(id), at(0)));
    assert_eq!((ends(&mut core, 0), ends(&mut core, 1)), (None, Some(1)));
    let first = core.handle(Event::Claimed(vec![claimed(900, -1, l)]), at(0));
    assert_eq!(claim_max(&first), None);
    assert_eq!(starts(&core.handle(ended(2), at(0))), vec![900]);
}

#[test]
fn slow_handlers_are_not_claimed_ahead_and_quick_ones_are() {
    let l = lane(1, false);
    let (mut core, _) = with(2, &[(l, 1_000)]);
    let actions = core.handle(Event::Claimed(vec![claimed(1, 0, l), claimed(2, 0, l)]), at(0));
    assert_eq!(starts(&actions), vec![1, 2]);
    assert_eq!(claim_max(&actions), None, "both slots are taken and nothing has ended yet");
    let actions = core.handle(ended(1), at(0));
    assert_eq!(claim_max(&actions), Some(3), "one slot is free, and one ended: two ahead");
    let mut runs = (10..13).map(|id| claimed(id, 0, l)).collect::<Vec<_>>();
    core.handle(ended(2), at(0));
    let actions = core.handle(Event::Claimed(std::mem::take(&mut runs)), at(0));
    assert_eq!(starts(&actions), vec![10, 11]);
    assert_eq!(core.ready(), 1);
}

#[test]
fn what_is_ready_starts_in_order_whenever_it_was_claimed() {
    let l = lane(1, false);
    let (mut core, _) = with(1, &[(l, 10)]);
    core.handle(Event::Claimed(vec![claimed(1, 0, l), claimed(2, 5, l)]), at(0));
    core.handle(Event::Claimed(vec![claimed(3, -5, l)]), at(0));
    assert_eq!(starts(&core.handle(ended(1), at(0))), vec![3]);
    assert_eq!(starts(&core.handle(ended(3), at(0))), vec![2]);
}

#[test]
fn suspects_start_one_at_a_time_and_are_never_claimed_ahead() {
    let (a, b) = (lane(1, true), lane(2, true));
    let (mut core, actions) = with(4, &[(a, 2), (b, 2)]);
    let grants = vec![Grant { lane: a, max: 1 }];
    assert_eq!(actions, vec![Action::Claim(vec![Take { max: 1, grants, shared: false, ask: None }])]);
    core.handle(Event::Available { lane: a, difference: -1 }, at(0));
    let actions = core.handle(Event::Claimed(vec![claimed(1, 0, a)]), at(0));
    assert_eq!(starts(&actions), vec![1]);
    assert_eq!(claim_max(&actions), None, "one runs");
    let actions = core.handle(ended(1), at(0));
    assert!(claim_max(&actions).is_some(), "the next one may");
}

#[test]
fn a_cancel_ends_what_runs_and_hands_back_what_does_not() {
    let l = lane(1, false);
    let (mut core, _) = with(1, &[(l, 10)]);
    core.handle(Event::Claimed(vec![claimed(1, 0, l), claimed(2, 0, l)]), at(0));
    assert_eq!(core.handle(Event::Cancelled(run(1)), at(0)), vec![Action::End(run(1))]);
    assert_eq!(core.handle(Event::Cancelled(run(2)), at(0))[0], Action::HandBack(run(2)));
    assert_eq!(core.handle(Event::Cancelled(run(9)), at(0)), vec![], "not ours");
}

/// The story: a job was cancelled in the commit that claimed it. The notice came before the claim's answer, was taken
/// for one of somebody else's run, and the handler was entered and never ended.
#[test]
fn a_cancel_that_is_known_before_its_claim_is_not_lost() {
    let l = lane(1, false);
    let (mut core, _) = with(2, &[(l, 2)]);
    assert_eq!(core.handle(Event::Cancelled(run(1)), at(0)), vec![]);
    let actions = core.handle(Event::Claimed(vec![claimed(1, 0, l), claimed(2, 0, l)]), at(0));
    assert_eq!((&actions[0], starts(&actions)), (&Action::HandBack(run(1)), vec![2]));
}

#[test]
fn a_draining_node_hands_back_and_starts_nothing_more() {
    let l = lane(1, false);
    let (mut core, _) = with(1, &[(l, 10)]);
    core.handle(Event::Claimed(vec![claimed(1, 0, l), claimed(2, 0, l)]), at(0));
    assert_eq!(core.handle(Event::Drain, at(0)), vec![Action::HandBack(run(2))]);
    let late = core.handle(Event::Claimed(vec![claimed(3, 0, l)]), at(0));
    assert_eq!(late, vec![Action::HandBack(run(3))], "an answer that comes late is handed back too");
    assert_eq!(core.handle(ended(1), at(0)), vec![]);
    assert_eq!((core.running(), core.ready()), (0, 0));
}

#[test]
fn a_node_that_goes_on_claims_what_it_gave_back_and_what_came_meanwhile() {
    let l = lane(1, false);
    let (mut core, _) = with(1, &[(l, 2)]);
    core.handle(Event::Claimed(vec![claimed(1, 0, l), claimed(2, 0, l)]), at(0));
    assert_eq!(core.handle(Event::Drain, at(0)), vec![Action::HandBack(run(2))]);
    core.handle(Event::Available { lane: l, difference: -1 }, at(0));
    core.handle(ended(1), at(0));
    assert_eq!(
        core.handle(Event::NextDue(Some(runner_store::job::Time(0))), at(0)),
        vec![],
        "nor is it asked what is due"
    );
    let actions = core.handle(Event::Resume, at(0));
    assert!(
        actions.contains(&Action::Due) && actions.iter().any(|action| matches!(action, Action::Claim(_))),
        "{actions:?}"
    );
    let actions = core.handle(Event::Claimed(vec![claimed(2, 0, l)]), at(0));
    assert_eq!(starts(&actions), [2]);
    assert_eq!(core.may_start(l, 9, at(0)), MayStart::Yes);
}

#[test]
fn what_is_due_is_asked_for_once() {
    let mut core = core(1);
    assert_eq!(core.handle(Event::NextDue(Some(Time(10))), at(5)), vec![]);
    assert_eq!(core.next_wakeup(at(5)), Some(Millis(5)));
    assert_eq!(core.handle(Event::Tick, at(10)), vec![Action::Due]);
    assert_eq!(core.next_wakeup(at(10)), None, "it is being dealt with");
    assert_eq!(core.handle(Event::Tick, at(11)), vec![]);
    assert_eq!(core.handle(Event::NextDue(Some(Time(20))), at(11)), vec![]);
    assert_eq!(core.handle(Event::Due(1), at(11)), vec![]);
    assert_eq!(core.next_wakeup(at(11)), Some(Millis(9)));
}

#[test]
fn more_than_one_step_can_take_is_asked_for_again_and_a_vain_question_is_not_repeated_at_once() {
    let mut core = core(1);
    assert_eq!(core.handle(Event::NextDue(Some(Time(10))), at(10)), vec![Action::Due]);
    assert_eq!(core.handle(Event::Due(4_096), at(10)), vec![Action::Due], "others have the same time");
    assert_eq!(core.handle(Event::Due(0), at(10)), vec![]);
    assert_eq!(core.next_wakeup(at(10)), Some(Millis(100)));
    assert_eq!(core.handle(Event::Tick, at(110)), vec![Action::Due]);
}

#[test]
fn nothing_is_claimed_while_claims_wait_for_an_operator() {
    let l = lane(1, false);
    let mut core = core(2);
    assert_eq!(core.handle(Event::Paused(true), at(0)), vec![]);
    core.handle(Event::Available { lane: l, difference: 3 }, at(0));
    assert_eq!(core.handle(served(l), at(0)), vec![]);
    assert_eq!(claim_max(&core.handle(Event::Paused(false), at(0))), Some(2));
}

#[test]
fn what_is_started_by_hand_goes_before_what_is_ready() {
    let l = lane(1, false);
    let (mut core, _) = with(1, &[(l, 9)]);
    core.handle(Event::Claimed(vec![claimed(1, 0, l), claimed(2, -9, l)]), at(0));
    assert_eq!(core.may_start(l, 1, at(0)), MayStart::Yes);
    core.handle(Event::Wanted { suspect: false }, at(0));
    assert_eq!(core.may_start(l, 1, at(0)), MayStart::Busy);
    core.handle(Event::StartedByHand { suspect: false, run: Some(claimed(3, 9, l)) }, at(0));
    assert_eq!(starts(&core.handle(ended(2), at(0))), [3]);
    assert_eq!(starts(&core.handle(ended(3), at(0))), [1]);
    let by_hand = Event::StartedByHand { suspect: false, run: Some(claimed(4, 0, l)) };
    core.handle(Event::Wanted { suspect: false }, at(0));
    assert!(core.handle(Event::Drain, at(0)).is_empty() && core.is_claiming(), "its answer is still to come");
    assert_eq!(core.handle(by_hand, at(0)), vec![Action::HandBack(run(4))]);
    assert_eq!(core.may_start(l, 1, at(0)), MayStart::Draining);
}

#[test]
fn suspects_start_one_at_a_time_also_by_hand() {
    let (l, s) = (lane(1, false), lane(1, true));
    let mut core = core(4);
    assert_eq!(core.may_start(s, 9, at(0)), MayStart::Yes);
    core.handle(Event::Wanted { suspect: true }, at(0));
    assert_eq!(core.may_start(s, 9, at(0)), MayStart::NoSuspect, "one is on its way");
    core.handle(Event::Available { lane: s, difference: 1 }, at(0));
    let actions = core.handle(served(s), at(0));
    assert_eq!(claim(&actions), None, "it is not claimed beside the one that is on its way");
    let actions = core.handle(Event::StartedByHand { suspect: true, run: None }, at(0));
    assert_eq!(claim_max(&actions), Some(1), "the wish was refused");
    assert_eq!(core.may_start(s, 9, at(0)), MayStart::NoSuspect, "the open claim may answer one");
    assert_eq!(core.may_start(l, 9, at(0)), MayStart::Yes);
    core.handle(Event::Claimed(vec![]), at(0));
    core.handle(Event::Wanted { suspect: true }, at(0));
    let by_hand = Event::StartedByHand { suspect: true, run: Some(claimed(7, 0, s)) };
    assert_eq!(starts(&core.handle(by_hand, at(0))), [7]);
    assert_eq!(core.may_start(s, 9, at(0)), MayStart::NoSuspect, "it runs");
    core.handle(Event::Cancelled(run(7)), at(0));
    core.handle(ended(7), at(0));
    assert_eq!(core.may_start(s, 9, at(0)), MayStart::NoSuspect, "the lane's own is claimed now");
}

/// The time for so many starts where so many tenants have a job each, and always another one.
fn time_for_starts(tenants: u32, starts: usize) -> Duration {
    let lane = |n: u32| Lane::new(TenantId(n), QueueId(n), KindId(n));
    let mut core = core(8);
    let news = (1..=tenants)
        .flat_map(|n| [served(lane(n)), Event::Available { lane: lane(n), difference: i64::from(u32::MAX) }]);
    let mut actions = core.handle_all(news, at(0));
    let begun = std::time::Instant::now();
    let (mut started, mut next) = (0, 0);
    while started < starts {
        let mut events = Vec::new();
        for action in std::mem::take(&mut actions) {
            match action {
                Action::Claim(takes) => {
                    let lanes = takes.iter().flat_map(|take| &take.grants).map(|grant| grant.lane);
                    let runs = lanes.map(|lane| {
                        next += 1;
                        claimed(next, 0, lane)
                    });
                    events.push(Event::Claimed(runs.collect()));
                }
                Action::Start { run, .. } => {
                    started += 1;
                    events.push(Event::Ended { run, fuel: 1_000, took: Duration::from_micros(10) });
                }
                _ => {}
            }
        }
        actions = core.handle_all(events, at(1));
    }
    begun.elapsed()
}

/// The story: after every event all tenants were looked at, twice, for suspects and for what was ready. With ten thousand of
/// them a decision took 150 µs.
#[test]
fn a_decision_costs_the_same_however_many_tenants_there_are() {
    let (few, many) = (time_for_starts(300, 3_000), time_for_starts(30_000, 3_000));
    assert!(many < few * 15, "a hundred times the tenants: {many:?} after {few:?}");
}
