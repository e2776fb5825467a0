//! Which runs start now: pure. [`Core::handle`] takes what happened and answers what to do; [`Core::next_wakeup`] says when
//! it wants to be asked again. It does no I/O and reads no clock; the shell beside it does.
//!
//! A run takes a slot, and its whole memory limit out of its tenant's budget and the node's, until it has ended. Tenants
//! take turns at free slots, and queues at their tenant's, by what their runs cost ([`cost`]); within a queue what comes
//! first goes first ([`start`]). Queues and kinds may have limits of their own ([`gate`]), and so may keys of kinds
//! ([`keyed`]).
//!
//! Runs are claimed ahead of free slots, so that no slot waits for a commit, but only as far ahead as runs have been ending
//! lately ([`tenant`]): of handlers that take a minute one or two. Never claimed ahead are suspects, which run one at a time,
//! what runs in order by its key, batches, which gather until a slot is free ([`batch`]), and what its tenant's budget has
//! no room for ([`claim`]).
//! Who comes while a claim of others is open is claimed beside it ([`beside`]).

mod batch;
mod beside;
mod claim;
mod cost;
mod event;
mod gate;
mod keyed;
mod keys;
mod leases;
mod leave;
mod line;
mod queues;
mod start;
mod tenant;
mod why;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use runner_store::command::{Lane, RunRef, limits};
use runner_store::index::Order;
use runner_store::job::{Millis, TenantId, Time};

pub use self::batch::CALL_ARGS_BYTES_MAX;
use self::beside::Beside;
use self::cost::{Cost, Counted};
pub use self::event::{Action, Claimed, Event, Moment, Take};
use self::gate::Gate;
pub use self::gate::{GateOf, Limits, Shut};
pub use self::keys::KeyLimits;
use self::keys::Keys;
use self::leases::Leases;
pub use self::leases::{ASKS_MAX, Ask};
use self::leave::Unanswered;
pub use self::line::WEIGHT_DEFAULT;
use self::start::Short;
pub use self::tenant::{Budget, Serves};
use self::tenant::{Tenant, Tenants};
pub use self::why::{Held, Whose};

/// Runs of a tenant claimed ahead of free slots, at most: what the fastest handlers end in a few commits.
const AHEAD_MAX: u32 = limits::CLAIM_RUNS_MAX - SLOTS_MAX;
/// Slots of a node, at most.
pub const SLOTS_MAX: u32 = 256;

/// See the module.
#[derive(Debug)]
pub struct Core {
    slots: u32,
    free: Vec<usize>,
    /// Memory of all runs together, and what is reserved of it.
    memory_bytes: u64,
    reserved_bytes: u64,
    /// What may be reserved, where not every run is thought to use its whole limit; and whether that has just gone wrong.
    promised_bytes: u64,
    short_of_memory: bool,
    /// Runs that were started: the youngest has the highest number.
    started: u64,
    tenants: Tenants,
    /// Tenants that have jobs which could be claimed, and room for them; and those that have runs which wait for a slot. Who
    /// has had least is first.
    open: BTreeSet<(u64, TenantId)>,
    waiting: BTreeSet<(u64, TenantId)>,
    /// Of the former, those that have nothing ready.
    bare: usize,
    /// Lanes of suspects that could be claimed from.
    open_suspects: BTreeSet<Lane>,
    /// Tenants of which runs have ended since the last claim was answered, and in the round before.
    lately: [BTreeSet<TenantId>; 2],
    /// What the tenant whose run started last had had by then.
    clock: u64,
    /// How fast runs of all end.
    pace: tenant::Pace,
    /// Whether all that runs is alike.
    company: tenant::Company,
    /// Queues and kinds that have limits of their own, and when some of them open.
    gates: HashMap<GateOf, Gate>,
    opening: BTreeSet<Millis>,
    /// Kinds that limit or order by key, and their keys.
    keys: Keys,
    /// The moment of what happens.
    now: Moment,
    /// Tenants that have used up their fuel and may go on with a next period.
    spent: BTreeSet<TenantId>,
    /// Lanes whose jobs share calls.
    batched: BTreeSet<Lane>,
    /// Who comes first and does not fit into the node's memory.
    short: Option<Short>,
    /// Runs that were started by hand and wait for a slot: they go before those that are ready.
    by_hand: VecDeque<Call>,
    /// Claims of jobs to be started by hand that are not answered, and how many of them are of suspects.
    wanted: usize,
    suspects_promised: usize,
    /// Suspects that are claimed or run.
    suspects_in_hand: usize,
    paused: bool,
    running: HashMap<RunRef, Running>,
    /// Runs that share a call.
    shares: HashSet<RunRef>,
    /// Claimed, not started.
    ready: usize,
    claim: ClaimState,
    beside: Beside,
    /// External workers: who asks, and what they hold.
    leases: Leases,
    /// Claims that were answered: the measure of how fast runs end.
    round: u64,
    /// Runs to be ended that are not ours, or not yet: what was asked for by then may answer them. Forgotten with its answers.
    cancelled: HashMap<RunRef, Unanswered>,
    /// Whether the open claim may answer suspects.
    suspects_claimed: bool,
    /// Claims in a row that left out what is not claimed ahead, as no slot was free for it.
    passed_over: u32,
    /// Whether the last claim left out jobs for want of room, which a run that ends may make.
    left_out: bool,
    /// When a batch has lingered, or a period of fuel begins.
    alarm: Option<Millis>,
    next_due: Option<Time>,
    due: DueState,
    draining: bool,
}

/// What goes into one slot: a run, or several that share a call.
#[derive(Debug, Clone)]
struct Call {
    first: RunRef,
    /// Empty but for batches.
    others: Vec<RunRef>,
    lane: Lane,
    order: Order,
}

/// A call that holds a slot, or a run of an external worker, which holds none.
#[derive(Debug)]
struct Running {
    slot: Option<usize>,
    lane: Lane,
    memory_bytes: u64,
    number: u64,
    /// Whether it is to end to make room for the others.
    interrupted: bool,
    /// What it counts as until it is known.
    counted: Counted,
    /// Those that share it.
    others: Vec<RunRef>,
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
    /// It could not start for long, or ever.
    Held(Held),
    /// External workers take the jobs of its kind.
    External,
    /// The node stops.
    Draining,
}

/// How long a vain question for what is due is not repeated.
const DUE_PAUSE: Millis = Millis(100);

impl Core {
    /// A node with so many slots, 1 to [`SLOTS_MAX`], so much memory for its runs, and nothing to do yet.
    #[must_use]
    pub fn new(slots: u32, memory_bytes: u64) -> Self {
        let slots = slots.clamp(1, SLOTS_MAX);
        Self {
            slots,
            free: (0..slots as usize).rev().collect(),
            memory_bytes,
            reserved_bytes: 0,
            promised_bytes: memory_bytes,
            short_of_memory: false,
            started: 0,
            tenants: Tenants::default(),
            open: BTreeSet::new(),
            waiting: BTreeSet::new(),
            bare: 0,
            open_suspects: BTreeSet::new(),
            lately: Default::default(),
            clock: 0,
            pace: tenant::Pace::default(),
            company: tenant::Company::default(),
            gates: HashMap::new(),
            opening: BTreeSet::new(),
            keys: Keys::default(),
            now: Moment::default(),
            spent: BTreeSet::new(),
            batched: BTreeSet::new(),
            short: None,
            by_hand: VecDeque::new(),
            wanted: 0,
            suspects_promised: 0,
            suspects_in_hand: 0,
            paused: false,
            running: HashMap::new(),
            shares: HashSet::new(),
            ready: 0,
            claim: ClaimState::Idle,
            beside: Beside::default(),
            leases: Leases::default(),
            round: 0,
            cancelled: HashMap::new(),
            suspects_claimed: false,
            passed_over: 0,
            left_out: false,
            alarm: None,
            next_due: None,
            due: DueState::Idle,
            draining: false,
        }
    }

    /// The same, with so many thousandths of the memory promised to runs, at least all of it. No run may have more than
    /// there is.
    #[must_use]
    pub fn overcommit(self, permille: u32) -> Self {
        let promised_bytes = u128::from(self.memory_bytes) * u128::from(permille.max(1_000)) / 1_000;
        Self { promised_bytes: u64::try_from(promised_bytes).unwrap_or(u64::MAX), ..self }
    }

    /// What to do now that `event` has happened.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Action> {
        self.handle_all([event], now)
    }

    /// The same for events that became known together: nothing is done before all of them are, or what is known first
    /// would take the slots of what comes first.
    pub fn handle_all(&mut self, events: impl IntoIterator<Item = Event>, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        self.now = now;
        self.wake_keys();
        if self.alarm.is_some_and(|at| at <= now.uptime) {
            self.look_again();
        }
        self.begin_periods(now);
        for event in events {
            self.learn(event, now, &mut actions);
        }
        self.start(now, &mut actions);
        self.ask_due(now, &mut actions);
        self.ask_claim(now, &mut actions);
        self.ask_beside(now, &mut actions);
        self.end_waits(now, &mut actions);
        self.alarm = self.next_alarm(now);
        actions
    }

    fn learn(&mut self, event: Event, now: Moment, actions: &mut Vec<Action>) {
        match event {
            Event::Available { lane, difference } => self.available(lane, difference, now),
            Event::Keyed { lane, difference, head } => self.keyed_available(lane, difference, head),
            Event::Begun { of, difference } => self.begun(of, difference),
            Event::KeyLimits { tenant, kind, limits } => self.set_key_limits((tenant, kind), limits, actions),
            Event::Served { lane, by } => {
                self.served(lane, by, now);
                // What was claimed when a run of it was smaller could never start, and would hold up the others. An open
                // claim goes back with its answer.
                if self.too_large(lane).is_some() {
                    self.hand_back_all_of(lane.tenant, actions);
                }
            }
            Event::Budget { tenant, budget } => self.set_budget(tenant, budget, now),
            Event::Limits { of, limits } => self.set_limits(of, limits, now, actions),
            Event::Weight { tenant, queue, weight } => {
                let tenant = self.tenant(tenant);
                tenant.ready.set_weight(queue, weight);
                tenant.lines_of_workers.set_weight(queue, weight);
            }
            Event::Claimed(runs) => self.claimed(runs, now, actions),
            Event::ClaimedBeside(runs) => self.claimed_beside(runs, now, actions),
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
            Event::Ended { run, fuel, took } => self.ended(run, (fuel, took), now, actions),
            Event::Spent { tenant, fuel } => {
                self.charge(tenant, Cost::of(fuel, Duration::ZERO));
                self.spend(tenant, fuel, now, actions);
            }
            Event::Cancelled(run) => self.cancelled(run, actions),
            Event::ShortOfMemory => self.make_room(actions),
            Event::NextDue(next) => {
                if next != self.next_due && self.due != DueState::Open {
                    self.due = DueState::Idle;
                }
                self.next_due = next;
            }
            Event::Due(0) => self.due = DueState::Fruitless { again: now.wall.after(DUE_PAUSE) },
            Event::Due(_) => self.due = DueState::Idle,
            Event::Asked(ask) => self.asked(ask),
            Event::Gone(ask) => self.leases.forget(ask),
            Event::Leased { ask, runs } => self.leased(ask, runs),
            Event::LeaseBegan { run, lane, lasts } => self.lease_began(run, lane, lasts, now),
            Event::LeaseEnded(run) => self.lease_ended(run),
            Event::LeaseReturned(run) => self.lease_returned(run, now),
            Event::Tick => {}
            Event::Drain => self.drain(actions),
            Event::Resume => {
                self.draining = false;
                self.look_again();
            }
        }
    }

    /// How long after `now` [`Event::Tick`] is wanted, if nothing happens before.
    #[must_use]
    pub fn next_wakeup(&self, now: Moment) -> Option<Millis> {
        let wait = |at: Millis| Millis(at.0.saturating_sub(now.uptime.0));
        if self.draining {
            // What workers hold goes on, and ends.
            return self.leases.next_alarm().map(wait);
        }
        let due = self.due_at().map(|at| at.since(now.wall));
        let alarm = self.alarm.map(wait);
        [due, alarm].into_iter().flatten().min()
    }

    fn due_at(&self) -> Option<Time> {
        match self.due {
            DueState::Idle => self.next_due,
            DueState::Open => None,
            DueState::Fruitless { again } => self.next_due.map(|at| at.max(again)),
        }
    }

    /// Calls that hold a slot.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len() - self.leases.held()
    }

    /// Runs that are claimed and have not started; those that share a call count once.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready + self.by_hand.len()
    }

    /// The memory of all runs together, and what is reserved of it.
    #[must_use]
    pub fn memory(&self) -> (u64, u64) {
        (self.memory_bytes, self.reserved_bytes)
    }

    /// Whether a claim is open.
    #[must_use]
    pub fn is_claiming(&self) -> bool {
        self.unanswered() != Unanswered::NOTHING
    }

    fn has_open_claim(&self) -> bool {
        matches!(self.claim, ClaimState::Open { .. })
    }

    /// Whether a job of this lane may be started by hand; `most` may wait for a slot.
    #[must_use]
    pub fn may_start(&self, lane: Lane, most: usize, now: Moment) -> MayStart {
        let claiming_suspects = self.has_open_claim() && self.suspects_claimed;
        if self.draining {
            return MayStart::Draining;
        }
        if self.is_external(lane) {
            return MayStart::External;
        }
        if lane.suspect && (self.suspect_in_hand() || claiming_suspects) {
            return MayStart::NoSuspect;
        }
        if self.wanted + self.by_hand.len() >= most {
            return MayStart::Busy;
        }
        match self.held_for_long(lane, now) {
            Some(held) => MayStart::Held(held),
            None => MayStart::Yes,
        }
    }

    /// A claim that found nothing may find something now, and so may one that is open and did not see the news.
    fn look_again(&mut self) {
        self.claim = match self.claim {
            ClaimState::Idle | ClaimState::Fruitless => ClaimState::Idle,
            ClaimState::Open { .. } => ClaimState::Open { news: true },
        };
    }

    fn started_by_hand(&mut self, suspect: bool, run: Option<Claimed>, actions: &mut Vec<Action>) {
        self.wanted = self.wanted.saturating_sub(1);
        self.suspects_promised -= usize::from(suspect && self.suspects_promised > 0);
        let cancelled = self.take_cancelled(Unanswered::BY_HAND);
        match run {
            Some(claimed)
                if self.draining || cancelled.contains(&claimed.run) || self.too_large(claimed.lane).is_some() =>
            {
                actions.push(Action::HandBack(claimed.run));
            }
            Some(claimed) => {
                self.company.meets(claimed.lane, self.now.uptime);
                self.suspects_in_hand += usize::from(claimed.lane.suspect);
                self.by_hand.push_back(Call::of_one(&claimed));
            }
            // What was left because of it may be claimed now.
            None if suspect => self.look_again(),
            None => {}
        }
    }

    fn ask_due(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if !self.draining && self.due_at().is_some_and(|at| at <= now.wall) {
            self.due = DueState::Open;
            actions.push(Action::Due);
        }
    }

    fn suspect_in_hand(&self) -> bool {
        self.suspects_in_hand + self.suspects_promised > 0
    }

    fn tenant(&mut self, id: TenantId) -> &mut Tenant {
        self.tenants.of(id)
    }
}

impl Call {
    fn of_one(claimed: &Claimed) -> Self {
        Self { first: claimed.run, others: Vec::new(), lane: claimed.lane, order: claimed.order }
    }

    fn jobs(&self) -> u32 {
        1 + u32::try_from(self.others.len()).unwrap_or(u32::MAX - 1)
    }

    fn runs(&self) -> impl Iterator<Item = RunRef> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}

#[cfg(test)]
mod tests;
