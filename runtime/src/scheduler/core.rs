//! Which runs start now: pure. [`Core::handle`] takes what happened and answers what to do; [`Core::next_wakeup`] says when
//! it wants to be asked again. It does no I/O and reads no clock; the shell beside it does.
//!
//! Runs are claimed ahead of free slots, so that no slot waits for a commit, but only as far ahead as runs have been
//! ending lately: of handlers that take a minute nothing is claimed ahead, and a job that comes first never waits for
//! others that were merely claimed. Suspects are the exception: they are never claimed ahead, and one at a time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use runner_store::command::{Grant, Lane, RunRef, limits};
use runner_store::index::Order;
use runner_store::job::{Millis, Time};

/// Runs claimed ahead of free slots, at most: what the fastest handlers end in a few commits.
const AHEAD_MAX: u32 = limits::CLAIM_RUNS_MAX - SLOTS_MAX;
/// Claims that may leave out suspects because no slot is free for one. Then none is asked for until one is: with quick
/// handlers and enough to do there would always be something claimed ahead to take it.
const PASSED_OVER_MAX: u32 = 16;
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
    /// A job is to be started by hand, which is a suspect or not: it will be claimed beside the open claim.
    Wanted {
        /// Whether a crash stands behind it.
        suspect: bool,
    },
    /// The answer to that claim; none: it was refused.
    StartedByHand {
        /// As [`Event::Wanted`] said.
        suspect: bool,
        /// The run, which goes before all others.
        run: Option<Claimed>,
    },
    /// Whether claims wait for an operator.
    Paused(bool),
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
    /// Runs that were started by hand and wait for a slot: they go before those that are ready.
    by_hand: VecDeque<Claimed>,
    /// Claims of jobs to be started by hand that are not answered, and how many of them are of suspects.
    wanted: usize,
    suspects_promised: usize,
    paused: bool,
    running: HashMap<RunRef, (usize, Lane)>,
    claim: ClaimState,
    /// Runs to be ended that are not ours, or not yet: the open claim may answer them. Forgotten with its answer.
    cancelled: HashSet<RunRef>,
    /// Whether the open claim may answer suspects.
    suspects_claimed: bool,
    /// Claims in a row that left out suspects, as no slot was free for one.
    passed_over: u32,
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
    /// One is open; whether something has changed since it was asked for, which it may not have seen.
    Open { news: bool },
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

/// Whether a job may be started by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayStart {
    /// It may.
    Yes,
    /// As many wait for a slot as may.
    Busy,
    /// It is a suspect, and another one runs or is about to.
    NoSuspect,
    /// The node stops.
    Draining,
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
            by_hand: VecDeque::new(),
            wanted: 0,
            suspects_promised: 0,
            paused: false,
            running: HashMap::new(),
            claim: ClaimState::Idle,
            cancelled: HashSet::new(),
            suspects_claimed: false,
            passed_over: 0,
            ended: 0,
            ended_before: 0,
            next_due: None,
            due: DueState::Idle,
            draining: false,
        }
    }

    /// What to do now that `event` has happened.
    pub fn handle(&mut self, event: Event, now: Time) -> Vec<Action> {
        self.handle_all([event], now)
    }

    /// The same for events that became known together: nothing is done before all of them are, or what is known first
    /// would take the slots of what comes first.
    pub fn handle_all(&mut self, events: impl IntoIterator<Item = Event>, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        for event in events {
            self.learn(event, now, &mut actions);
        }
        self.start(&mut actions);
        self.ask_due(now, &mut actions);
        self.ask_claim(&mut actions);
        actions
    }

    fn learn(&mut self, event: Event, now: Time, actions: &mut Vec<Action>) {
        match event {
            Event::Available { lane, difference } => self.available(lane, difference),
            Event::Served { lane, served } => {
                self.lanes.entry(lane).or_default().served = served;
                self.look_again();
            }
            Event::Claimed(runs) => self.claimed(runs, actions),
            Event::Wanted { suspect } => {
                self.wanted += 1;
                self.suspects_promised += usize::from(suspect);
            }
            Event::StartedByHand { suspect, run } => self.started_by_hand(suspect, run, actions),
            Event::Paused(paused) => {
                if std::mem::replace(&mut self.paused, paused) && !paused {
                    self.look_again();
                }
            }
            Event::Ended(run) => self.ended(run),
            Event::Cancelled(run) => self.cancelled(run, actions),
            Event::NextDue(next) => {
                if next != self.next_due && self.due != DueState::Open {
                    self.due = DueState::Idle;
                }
                self.next_due = next;
            }
            Event::Due(0) => self.due = DueState::Fruitless { again: now.after(DUE_PAUSE) },
            Event::Due(_) => self.due = DueState::Idle,
            Event::Tick => {}
            Event::Drain => self.drain(actions),
        }
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
        self.ready.len() + self.by_hand.len()
    }

    /// Whether a claim is open.
    #[must_use]
    pub fn is_claiming(&self) -> bool {
        matches!(self.claim, ClaimState::Open { .. }) || self.wanted > 0
    }

    /// Whether a job may be started by hand that is a suspect or not; `most` may wait for a slot.
    #[must_use]
    pub fn may_start(&self, suspect: bool, most: usize) -> MayStart {
        let claiming_suspects = matches!(self.claim, ClaimState::Open { .. }) && self.suspects_claimed;
        match suspect {
            _ if self.draining => MayStart::Draining,
            true if self.suspect_in_hand() || claiming_suspects => MayStart::NoSuspect,
            _ if self.wanted + self.by_hand.len() >= most => MayStart::Busy,
            _ => MayStart::Yes,
        }
    }

    fn available(&mut self, lane: Lane, difference: i64) {
        let state = self.lanes.entry(lane).or_default();
        state.available = state.available.saturating_add_signed(difference);
        // Also where there are fewer: a claim that only discarded what had expired has come nearer to what has not.
        if difference != 0 {
            self.look_again();
        }
    }

    /// A claim that found nothing may find something now, and so may one that is open and did not see the news.
    fn look_again(&mut self) {
        self.claim = match self.claim {
            ClaimState::Idle | ClaimState::Fruitless => ClaimState::Idle,
            ClaimState::Open { .. } => ClaimState::Open { news: true },
        };
    }

    fn claimed(&mut self, runs: Vec<Claimed>, actions: &mut Vec<Action>) {
        let in_vain = runs.is_empty() && self.claim != ClaimState::Open { news: true };
        self.claim = if in_vain { ClaimState::Fruitless } else { ClaimState::Idle };
        self.ended_before = std::mem::take(&mut self.ended);
        let cancelled = self.take_cancelled();
        for claimed in runs {
            if self.draining || cancelled.contains(&claimed.run) {
                actions.push(Action::HandBack(claimed.run));
            } else {
                self.ready.insert(claimed.order, claimed);
            }
        }
    }

    fn started_by_hand(&mut self, suspect: bool, run: Option<Claimed>, actions: &mut Vec<Action>) {
        self.wanted = self.wanted.saturating_sub(1);
        self.suspects_promised -= usize::from(suspect && self.suspects_promised > 0);
        let cancelled = self.take_cancelled();
        match run {
            Some(claimed) if self.draining || cancelled.contains(&claimed.run) => {
                actions.push(Action::HandBack(claimed.run));
            }
            Some(claimed) => self.by_hand.push_back(claimed),
            None if suspect => self.look_again_for_suspects(),
            None => {}
        }
    }

    /// The runs to be ended that an open claim may answer; forgotten with the last of them.
    fn take_cancelled(&mut self) -> HashSet<RunRef> {
        if self.is_claiming() { self.cancelled.clone() } else { std::mem::take(&mut self.cancelled) }
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
        } else if let Some(at) = self.by_hand.iter().position(|waits| waits.run == run) {
            self.by_hand.remove(at);
            actions.push(Action::HandBack(run));
        } else if self.is_claiming() {
            self.cancelled.insert(run);
        }
    }

    fn drain(&mut self, actions: &mut Vec<Action>) {
        self.draining = true;
        let (ready, by_hand) = (std::mem::take(&mut self.ready), std::mem::take(&mut self.by_hand));
        actions.extend(by_hand.into_iter().chain(ready.into_values()).map(|claimed| Action::HandBack(claimed.run)));
    }

    fn start(&mut self, actions: &mut Vec<Action>) {
        while !self.free.is_empty() {
            let by_hand = self.by_hand.pop_front();
            let Some(next) = by_hand.or_else(|| self.ready.pop_first().map(|(_, next)| next)) else { break };
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
        if self.draining || self.paused || self.claim != ClaimState::Idle {
            return;
        }
        let in_hand = (self.ready() + self.running.len()) as u32;
        let ahead = (2 * self.ended.max(self.ended_before)).min(AHEAD_MAX);
        // Where quick handlers were claimed far ahead and slow ones follow, what comes first is still found: one for two
        // that end, so that what was claimed becomes less.
        let at_least = u32::from(self.ended >= 2 && in_hand < self.slots + AHEAD_MAX);
        let max = (self.slots + ahead).saturating_sub(in_hand).max(at_least);
        if max == 0 {
            return;
        }
        let left_out = self.free.is_empty() && self.suspects_wait();
        if left_out && self.passed_over >= PASSED_OVER_MAX {
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
            self.suspects_claimed = grants.iter().any(|grant| grant.lane.suspect);
            self.passed_over = if left_out { self.passed_over + 1 } else { 0 };
            self.claim = ClaimState::Open { news: false };
            actions.push(Action::Claim { max, grants });
        }
    }

    /// One, if none is in hand and a slot is free for it.
    fn suspects_wanted(&self) -> u32 {
        u32::from(!self.suspect_in_hand() && self.free.len() > self.ready())
    }

    /// Whether one could start if a slot were free.
    fn suspects_wait(&self) -> bool {
        let waits = |(lane, state): (&Lane, &LaneState)| lane.suspect && state.served && state.available > 0;
        self.lanes.iter().any(waits) && !self.suspect_in_hand()
    }

    fn suspect_in_hand(&self) -> bool {
        let claimed = |claimed: &Claimed| claimed.lane.suspect;
        let running = self.running.values().any(|(_, lane)| lane.suspect);
        let waits = self.ready.values().any(claimed) || self.by_hand.iter().any(claimed);
        running || waits || self.suspects_promised > 0
    }
}

#[cfg(test)]
mod tests;
