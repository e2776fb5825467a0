//! Which runs start now: pure. [`Core::handle`] takes what happened and answers what to do; [`Core::next_wakeup`] says when
//! it wants to be asked again. It does no I/O and reads no clock; the shell beside it does.
//!
//! Runs are claimed ahead of free slots, so that no slot waits for a commit, but only as far ahead as runs have been
//! ending lately: of handlers that take a minute nothing is claimed ahead, and a job that comes first never waits for
//! others that were merely claimed. Suspects are the exception: they are never claimed ahead, and one at a time.

use std::collections::{BTreeMap, HashMap};

use runner_store::command::{Grant, Lane, RunRef, limits};
use runner_store::index::Order;
use runner_store::job::{Millis, Time};

/// Runs claimed ahead of free slots, at most: what the fastest handlers end in a few commits.
const AHEAD_MAX: u32 = limits::CLAIM_RUNS_MAX - SLOTS_MAX;
/// Slots of a node, at most.
pub const SLOTS_MAX: u32 = 256;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The number of jobs that are available in a lane has changed.
    Available {
        /// Which lane.
        lane: Lane,
        /// By how many.
        difference: i64,
    },
    /// A plugin for the lane's kind is loaded, or no longer.
    Served {
        /// Which lane.
        lane: Lane,
        /// Whether one is.
        served: bool,
    },
    /// The claim that was asked for is answered: these are ours, in any order.
    Claimed(Vec<Claimed>),
    /// A run has left its slot.
    Ended(RunRef),
    /// Someone wants a run ended, or its job is gone.
    Cancelled(RunRef),
    /// When the next job becomes due, as the store says.
    NextDue(Option<Time>),
    /// The question for what is due is answered: so many jobs became available.
    Due(u32),
    /// Time has passed.
    Tick,
    /// The node stops: start nothing more.
    Drain,
}

/// A run that is ours to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    /// Which.
    pub run: RunRef,
    /// Where it was claimed from.
    pub lane: Lane,
    /// Its place among others.
    pub order: Order,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the store for runs. There is never more than one such question open.
    Claim {
        /// How many in all.
        max: u32,
        /// From where.
        grants: Vec<Grant>,
    },
    /// Enter the handler of a claimed run.
    Start {
        /// Which.
        run: RunRef,
        /// The slot that it holds until it has ended.
        slot: usize,
    },
    /// End a run that has started.
    End(RunRef),
    /// Give a run back that has not.
    HandBack(RunRef),
    /// Ask the store to make available what is due. There is never more than one such question open.
    Due,
}

/// See the module.
#[derive(Debug)]
pub struct Core {
    slots: u32,
    free: Vec<usize>,
    lanes: BTreeMap<Lane, LaneState>,
    ready: BTreeMap<Order, Claimed>,
    running: HashMap<RunRef, (usize, Lane)>,
    claim: ClaimState,
    /// Runs that ended since the last claim was answered, and between the two before: how fast slots become free.
    ended: u32,
    ended_before: u32,
    next_due: Option<Time>,
    due: DueState,
    draining: bool,
}

#[derive(Debug, Default)]
struct LaneState {
    available: u64,
    served: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClaimState {
    /// None is open.
    Idle,
    /// One is open.
    Open,
    /// The last one came back empty: nothing has changed since.
    Fruitless,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DueState {
    /// Not asked.
    Idle,
    /// Asked.
    Open,
    /// Asked in vain, as when the store's clock is behind: to be asked again then, or when there is news.
    Fruitless { again: Time },
}

/// How long a vain question for what is due is not repeated.
const DUE_PAUSE: Millis = Millis(100);

impl Core {
    /// A node with so many slots, 1 to [`SLOTS_MAX`], and nothing to do yet.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        let slots = slots.clamp(1, SLOTS_MAX);
        Self {
            slots,
            free: (0..slots as usize).rev().collect(),
            lanes: BTreeMap::new(),
            ready: BTreeMap::new(),
            running: HashMap::new(),
            claim: ClaimState::Idle,
            ended: 0,
            ended_before: 0,
            next_due: None,
            due: DueState::Idle,
            draining: false,
        }
    }

    /// What to do now that `event` has happened.
    pub fn handle(&mut self, event: Event, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Available { lane, difference } => self.available(lane, difference),
            Event::Served { lane, served } => {
                self.lanes.entry(lane).or_default().served = served;
                self.look_again();
            }
            Event::Claimed(runs) => self.claimed(runs, &mut actions),
            Event::Ended(run) => self.ended(run),
            Event::Cancelled(run) => self.cancelled(run, &mut actions),
            Event::NextDue(next) => {
                if next != self.next_due && self.due != DueState::Open {
                    self.due = DueState::Idle;
                }
                self.next_due = next;
            }
            Event::Due(0) => self.due = DueState::Fruitless { again: now.after(DUE_PAUSE) },
            Event::Due(_) => self.due = DueState::Idle,
            Event::Tick => {}
            Event::Drain => self.drain(&mut actions),
        }
        self.start(&mut actions);
        self.ask_due(now, &mut actions);
        self.ask_claim(&mut actions);
        actions
    }

    /// When [`Event::Tick`] is wanted.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Time> {
        match self.due {
            _ if self.draining => None,
            DueState::Idle => self.next_due,
            DueState::Open => None,
            DueState::Fruitless { again } => self.next_due.map(|at| at.max(again)),
        }
    }

    /// Runs that hold a slot.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Runs that are claimed and have not started.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether a claim is open.
    #[must_use]
    pub fn is_claiming(&self) -> bool {
        self.claim == ClaimState::Open
    }

    fn available(&mut self, lane: Lane, difference: i64) {
        let state = self.lanes.entry(lane).or_default();
        state.available = state.available.saturating_add_signed(difference);
        if difference > 0 {
            self.look_again();
        }
    }

    fn look_again(&mut self) {
        if self.claim == ClaimState::Fruitless {
            self.claim = ClaimState::Idle;
        }
    }

    fn claimed(&mut self, runs: Vec<Claimed>, actions: &mut Vec<Action>) {
        self.claim = if runs.is_empty() { ClaimState::Fruitless } else { ClaimState::Idle };
        self.ended_before = std::mem::take(&mut self.ended);
        for claimed in runs {
            if self.draining {
                actions.push(Action::HandBack(claimed.run));
            } else {
                self.ready.insert(claimed.order, claimed);
            }
        }
    }

    fn ended(&mut self, run: RunRef) {
        if let Some((slot, _)) = self.running.remove(&run) {
            self.free.push(slot);
            self.ended += 1;
            // A slot became free: a claim that found nothing may have been asked for nothing.
            self.look_again_for_suspects();
        }
    }

    /// A suspect that was left because another one ran may start now.
    fn look_again_for_suspects(&mut self) {
        if self.lanes.iter().any(|(lane, state)| lane.suspect && state.available > 0) {
            self.look_again();
        }
    }

    fn cancelled(&mut self, run: RunRef, actions: &mut Vec<Action>) {
        if self.running.contains_key(&run) {
            actions.push(Action::End(run));
        } else if let Some(order) = self.ready.iter().find(|(_, ready)| ready.run == run).map(|(order, _)| *order) {
            self.ready.remove(&order);
            actions.push(Action::HandBack(run));
        }
    }

    fn drain(&mut self, actions: &mut Vec<Action>) {
        self.draining = true;
        let ready = std::mem::take(&mut self.ready);
        actions.extend(ready.into_values().map(|claimed| Action::HandBack(claimed.run)));
    }

    fn start(&mut self, actions: &mut Vec<Action>) {
        while !self.free.is_empty() {
            let Some((_, next)) = self.ready.pop_first() else { break };
            let slot = self.free.pop().expect("a slot is free");
            self.running.insert(next.run, (slot, next.lane));
            actions.push(Action::Start { run: next.run, slot });
        }
    }

    fn ask_due(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.next_wakeup().is_some_and(|at| at <= now) {
            self.due = DueState::Open;
            actions.push(Action::Due);
        }
    }

    fn ask_claim(&mut self, actions: &mut Vec<Action>) {
        if self.draining || self.claim != ClaimState::Idle {
            return;
        }
        let in_hand = (self.ready.len() + self.running.len()) as u32;
        let ahead = (2 * self.ended.max(self.ended_before)).min(AHEAD_MAX);
        let max = (self.slots + ahead).saturating_sub(in_hand);
        if max == 0 {
            return;
        }
        let mut suspects = self.suspects_wanted();
        let mut grants = Vec::new();
        for (lane, state) in self.lanes.iter().filter(|(_, state)| state.served && state.available > 0) {
            let most = if lane.suspect { std::mem::take(&mut suspects) } else { max };
            let max = most.min(u32::try_from(state.available).unwrap_or(u32::MAX));
            if max > 0 {
                grants.push(Grant { lane: *lane, max });
            }
        }
        if !grants.is_empty() {
            self.claim = ClaimState::Open;
            actions.push(Action::Claim { max, grants });
        }
    }

    /// One, if none is in hand and a slot is free for it.
    fn suspects_wanted(&self) -> u32 {
        let running = self.running.values().any(|(_, lane)| lane.suspect);
        let ready = self.ready.values().any(|claimed| claimed.lane.suspect);
        u32::from(!running && !ready && self.free.len() > self.ready.len())
    }
}

#[cfg(test)]
mod tests {
    use runner_store::job::{JobId, JobRef, KindId, Priority, QueueId, RunNumber, TenantId};

    use super::*;

    fn lane(kind: u32, suspect: bool) -> Lane {
        Lane { tenant: TenantId(1), queue: QueueId(1), kind: KindId(kind), suspect }
    }

    fn run(id: u64) -> RunRef {
        RunRef { at: JobRef { tenant: TenantId(1), job: JobId(id) }, run: RunNumber(1) }
    }

    fn claimed(id: u64, priority: i16, lane: Lane) -> Claimed {
        let order = Order { priority: Priority(priority), run_at: Time(0), id: JobId(id) };
        Claimed { run: run(id), lane, order }
    }

    /// A core that was told of `n` available jobs in a served lane.
    fn with(slots: u32, lanes: &[(Lane, i64)]) -> (Core, Vec<Action>) {
        let mut core = Core::new(slots);
        let mut actions = Vec::new();
        for (lane, difference) in lanes {
            actions.extend(core.handle(Event::Available { lane: *lane, difference: *difference }, Time(0)));
            actions.extend(core.handle(Event::Served { lane: *lane, served: true }, Time(0)));
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

    fn claim_max(actions: &[Action]) -> Option<u32> {
        actions.iter().find_map(|action| match action {
            Action::Claim { max, .. } => Some(*max),
            _ => None,
        })
    }

    #[test]
    fn nothing_is_claimed_for_a_kind_that_no_plugin_provides() {
        let mut core = Core::new(2);
        let l = lane(1, false);
        assert_eq!(core.handle(Event::Available { lane: l, difference: 3 }, Time(0)), vec![]);
        let actions = core.handle(Event::Served { lane: l, served: true }, Time(0));
        assert_eq!(actions, vec![Action::Claim { max: 2, grants: vec![Grant { lane: l, max: 2 }] }]);
    }

    #[test]
    fn there_is_never_more_than_one_claim_open_and_a_fruitless_one_is_not_repeated() {
        let l = lane(1, false);
        let (mut core, actions) = with(2, &[(l, 1)]);
        assert_eq!(claim_max(&actions), Some(2));
        assert_eq!(core.handle(Event::Available { lane: l, difference: 5 }, Time(0)), vec![]);
        assert_eq!(core.handle(Event::Claimed(vec![]), Time(0)), vec![], "it waits for news");
        assert_eq!(core.handle(Event::Tick, Time(9)), vec![]);
        let actions = core.handle(Event::Available { lane: l, difference: 1 }, Time(0));
        assert_eq!(claim_max(&actions), Some(2));
    }

    #[test]
    fn slow_handlers_are_not_claimed_ahead_and_quick_ones_are() {
        let l = lane(1, false);
        let (mut core, _) = with(2, &[(l, 1_000)]);
        let actions = core.handle(Event::Claimed(vec![claimed(1, 0, l), claimed(2, 0, l)]), Time(0));
        assert_eq!(starts(&actions), vec![1, 2]);
        assert_eq!(claim_max(&actions), None, "both slots are taken and nothing has ended yet");
        let actions = core.handle(Event::Ended(run(1)), Time(0));
        assert_eq!(claim_max(&actions), Some(3), "one slot is free, and one ended: two ahead");
        let mut runs = (10..13).map(|id| claimed(id, 0, l)).collect::<Vec<_>>();
        core.handle(Event::Ended(run(2)), Time(0));
        let actions = core.handle(Event::Claimed(std::mem::take(&mut runs)), Time(0));
        assert_eq!(starts(&actions), vec![10, 11]);
        assert_eq!(core.ready(), 1);
    }

    #[test]
    fn what_is_ready_starts_in_order_whenever_it_was_claimed() {
        let l = lane(1, false);
        let (mut core, _) = with(1, &[(l, 10)]);
        core.handle(Event::Claimed(vec![claimed(1, 0, l), claimed(2, 5, l)]), Time(0));
        core.handle(Event::Claimed(vec![claimed(3, -5, l)]), Time(0));
        assert_eq!(starts(&core.handle(Event::Ended(run(1)), Time(0))), vec![3]);
        assert_eq!(starts(&core.handle(Event::Ended(run(3)), Time(0))), vec![2]);
    }

    #[test]
    fn suspects_start_one_at_a_time_and_are_never_claimed_ahead() {
        let (a, b) = (lane(1, true), lane(2, true));
        let (mut core, actions) = with(4, &[(a, 2), (b, 2)]);
        assert_eq!(actions, vec![Action::Claim { max: 4, grants: vec![Grant { lane: a, max: 1 }] }]);
        core.handle(Event::Available { lane: a, difference: -1 }, Time(0));
        let actions = core.handle(Event::Claimed(vec![claimed(1, 0, a)]), Time(0));
        assert_eq!(starts(&actions), vec![1]);
        assert_eq!(claim_max(&actions), None, "one runs");
        let actions = core.handle(Event::Ended(run(1)), Time(0));
        assert!(claim_max(&actions).is_some(), "the next one may");
    }

    #[test]
    fn a_cancel_ends_what_runs_and_hands_back_what_does_not() {
        let l = lane(1, false);
        let (mut core, _) = with(1, &[(l, 10)]);
        core.handle(Event::Claimed(vec![claimed(1, 0, l), claimed(2, 0, l)]), Time(0));
        assert_eq!(core.handle(Event::Cancelled(run(1)), Time(0)), vec![Action::End(run(1))]);
        assert_eq!(core.handle(Event::Cancelled(run(2)), Time(0))[0], Action::HandBack(run(2)));
        assert_eq!(core.handle(Event::Cancelled(run(9)), Time(0)), vec![], "not ours");
    }

    #[test]
    fn a_draining_node_hands_back_and_starts_nothing_more() {
        let l = lane(1, false);
        let (mut core, _) = with(1, &[(l, 10)]);
        core.handle(Event::Claimed(vec![claimed(1, 0, l), claimed(2, 0, l)]), Time(0));
        assert_eq!(core.handle(Event::Drain, Time(0)), vec![Action::HandBack(run(2))]);
        let late = core.handle(Event::Claimed(vec![claimed(3, 0, l)]), Time(0));
        assert_eq!(late, vec![Action::HandBack(run(3))], "an answer that comes late is handed back too");
        assert_eq!(core.handle(Event::Ended(run(1)), Time(0)), vec![]);
        assert_eq!((core.running(), core.ready()), (0, 0));
    }

    #[test]
    fn what_is_due_is_asked_for_once() {
        let mut core = Core::new(1);
        assert_eq!(core.handle(Event::NextDue(Some(Time(10))), Time(5)), vec![]);
        assert_eq!(core.next_wakeup(), Some(Time(10)));
        assert_eq!(core.handle(Event::Tick, Time(10)), vec![Action::Due]);
        assert_eq!(core.next_wakeup(), None, "it is being dealt with");
        assert_eq!(core.handle(Event::Tick, Time(11)), vec![]);
        assert_eq!(core.handle(Event::NextDue(Some(Time(20))), Time(11)), vec![]);
        assert_eq!(core.handle(Event::Due(1), Time(11)), vec![]);
        assert_eq!(core.next_wakeup(), Some(Time(20)));
    }

    #[test]
    fn more_than_one_step_can_take_is_asked_for_again_and_a_vain_question_is_not_repeated_at_once() {
        let mut core = Core::new(1);
        assert_eq!(core.handle(Event::NextDue(Some(Time(10))), Time(10)), vec![Action::Due]);
        assert_eq!(core.handle(Event::Due(4_096), Time(10)), vec![Action::Due], "others have the same time");
        assert_eq!(core.handle(Event::Due(0), Time(10)), vec![]);
        assert_eq!(core.next_wakeup(), Some(Time(110)));
        assert_eq!(core.handle(Event::Tick, Time(110)), vec![Action::Due]);
    }
}
