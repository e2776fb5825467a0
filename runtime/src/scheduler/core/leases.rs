//! External workers: what they are given, and when their leases run out.
//!
//! A worker asks for runs of some kinds and waits for a while. It gets them by the same claim, and through the same gates,
//! budgets and keys, as the node's own slots: its runs only take no slot and no memory. What a worker holds is known from
//! the store's notices alone, so that it is right also after a restart. A lease lasts for a time on a clock that never
//! steps, and each renewal begins it anew; where it has run out, the run is over, and no renewal brings it back.
//!
//! A job that a crash stands behind is given alone, so that it takes no other with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use runner_store::command::{Grant, Lane, RunRef, limits};
use runner_store::job::{KindId, Millis, TenantId};

use super::cost::{self, Counted};
use super::gate::gates_of;
use super::keyed::Granted;
use super::queues::{self, Left, Singles};
use super::{Action, Core, Moment, Running, Take};

/// Workers that wait at once: each is a connection that is kept open, and those who renew and finish need some, too.
pub const ASKS_MAX: usize = 512;
/// Runs that workers hold at once: each is a timer and what it has said so far.
pub(super) const HELD_MAX: usize = 10_000;

/// What an external worker asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Given by whoever tells of it; ascending, so that who asked first is first.
    pub id: u64,
    /// Whose jobs.
    pub tenant: TenantId,
    /// Of which kinds.
    pub kinds: Vec<KindId>,
    /// How many runs, at most.
    pub max: u32,
    /// Until when it waits.
    pub until: Millis,
}

#[derive(Debug)]
struct Waiting {
    ask: Ask,
    /// Whether the open claim may answer it.
    in_claim: bool,
    /// Whether it was looked for something at all.
    looked: bool,
}

#[derive(Debug)]
struct Held {
    lasts: Millis,
    ends: Millis,
    /// Whether it has run out, and the store has yet to say so.
    over: bool,
}

/// Everything about external workers.
#[derive(Debug, Default)]
pub(super) struct Leases {
    asks: BTreeMap<u64, Waiting>,
    held: HashMap<RunRef, Held>,
    ends: BTreeSet<(Millis, RunRef)>,
    /// Whether the open claim has given a worker something.
    some: bool,
    /// Whether workers go first in the next claim.
    turn: bool,
}

impl Leases {
    /// Runs that workers hold.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn forget(&mut self, ask: u64) {
        self.asks.remove(&ask);
    }

    pub(super) fn take_some(&mut self) -> bool {
        std::mem::take(&mut self.some)
    }

    /// Whether workers go first in the next claim.
    pub(super) fn go_first(&self) -> bool {
        self.turn
    }

    /// Whoever went first got something: it is the others' turn.
    pub(super) fn turn(&mut self) {
        self.turn = !self.turn;
    }

    /// When the next lease runs out, or the next wait is over.
    pub(super) fn next_alarm(&self) -> Option<Millis> {
        let waits = self.asks.values().filter(|waiting| !waiting.in_claim).map(|waiting| waiting.ask.until);
        waits.chain(self.ends.first().map(|(at, _)| *at)).min()
    }
}

impl Core {
    /// Whether external workers take the jobs of a lane.
    #[must_use]
    pub fn is_external(&self, lane: Lane) -> bool {
        self.tenants.get(lane.tenant).and_then(|tenant| tenant.serves(lane)).is_some_and(|serves| serves.external)
    }

    /// Whether as many workers wait as may.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.leases.asks.len() >= ASKS_MAX
    }

    /// Whether a worker waits for jobs of a kind.
    #[must_use]
    pub fn is_asked_for(&self, tenant: TenantId, kind: KindId) -> bool {
        self.leases.asks.values().any(|Waiting { ask, .. }| ask.tenant == tenant && ask.kinds.contains(&kind))
    }

    /// Begins the lease of a run anew, and says how long it lasts; none: no worker holds it, or not any more.
    pub fn renew(&mut self, run: RunRef, now: Moment) -> Option<Millis> {
        let held = self.leases.held.get_mut(&run).filter(|held| !held.over && held.ends > now.uptime)?;
        self.leases.ends.remove(&(held.ends, run));
        held.ends = Millis(now.uptime.0.saturating_add(held.lasts.0));
        self.leases.ends.insert((held.ends, run));
        Some(held.lasts)
    }

    pub(super) fn asked(&mut self, ask: Ask) {
        self.leases.asks.insert(ask.id, Waiting { ask, in_claim: false, looked: false });
        self.look_again();
    }

    pub(super) fn leased(&mut self, ask: u64, runs: usize) {
        if runs > 0 {
            self.leases.some = true;
            self.leases.forget(ask);
        } else if let Some(waiting) = self.leases.asks.get_mut(&ask) {
            waiting.in_claim = false;
        }
    }

    pub(super) fn lease_began(&mut self, run: RunRef, lane: Lane, lasts: Millis, now: Moment) {
        if self.running.contains_key(&run) {
            return;
        }
        self.company.meets(lane, now.uptime);
        self.gate_started(lane, 1, now);
        let tenant = self.tenant(lane.tenant);
        tenant.running += 1;
        let weight = tenant.lines_of_workers.weight(lane.queue);
        let counted = Counted { about: cost::UNKNOWN, began: now.uptime, weight };
        tenant.lines_of_workers.comes(lane.queue);
        tenant.lines_of_workers.start(lane.queue, counted);
        self.started += 1;
        let running = Running {
            slot: None,
            lane,
            memory_bytes: 0,
            number: self.started,
            interrupted: false,
            counted,
            others: Vec::new(),
        };
        self.running.insert(run, running);
        let ends = Millis(now.uptime.0.saturating_add(lasts.0));
        self.leases.held.insert(run, Held { lasts, ends, over: false });
        self.leases.ends.insert((ends, run));
        self.open_or_not(lane.tenant);
    }

    /// A token is for a run that begins, and this one has not.
    pub(super) fn lease_returned(&mut self, run: RunRef, now: Moment) {
        if let Some(call) = self.running.get(&run).filter(|_| self.leases.held.contains_key(&run)) {
            self.gate_returned(call.lane, 1, now);
        }
        self.lease_ended(run);
    }

    pub(super) fn lease_ended(&mut self, run: RunRef) {
        let Some(held) = self.leases.held.remove(&run) else { return };
        self.leases.ends.remove(&(held.ends, run));
        let Some(call) = self.running.remove(&run) else { return };
        let tenant = self.tenant(call.lane.tenant);
        tenant.running -= 1;
        tenant.lines_of_workers.end(call.lane.queue, call.counted, call.counted.about);
        self.gate_ended(call.lane);
        self.open_or_not(call.lane.tenant);
        // There is room for what was left out for want of it.
        self.look_again();
    }

    /// Ends the leases that have run out and the waits that are over.
    pub(super) fn end_waits(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let mut over = Vec::new();
        while let Some((at, run)) = self.leases.ends.first().copied().filter(|(at, _)| *at <= now.uptime) {
            if over.len() == limits::ENDED_RUNS_MAX as usize {
                break;
            }
            self.leases.ends.remove(&(at, run));
            if let Some(held) = self.leases.held.get_mut(&run) {
                held.over = true;
                over.push(run);
            }
        }
        if !over.is_empty() {
            actions.push(Action::Expire(over));
        }
        let (draining, paused) = (self.draining, self.paused);
        let is_over = |waiting: &Waiting| {
            !waiting.in_claim && (draining || ((waiting.looked || paused) && waiting.ask.until <= now.uptime))
        };
        let over: Vec<u64> =
            self.leases.asks.iter().filter(|(_, waiting)| is_over(waiting)).map(|(id, _)| *id).collect();
        for ask in over {
            self.leases.forget(ask);
            actions.push(Action::Nothing(ask));
        }
    }

    pub(super) fn take_for_workers(
        &mut self,
        now: Moment,
        (gates, left): (&mut Left, &mut u32),
        takes: &mut Vec<Take>,
    ) {
        if self.leases.asks.is_empty() {
            return;
        }
        // Beside the gates' own room, which counts tokens that are about to come: a worker's run starts at once.
        let mut exact = Left::default();
        let mut granted = Granted::default();
        let mut room = u32::try_from(HELD_MAX.saturating_sub(self.leases.held.len())).unwrap_or(u32::MAX);
        let ids: Vec<u64> = self.leases.asks.keys().copied().collect();
        for id in ids {
            let Some(waiting) = self.leases.asks.get_mut(&id) else { continue };
            if self.beside.has_asked(waiting.ask.tenant) {
                continue;
            }
            waiting.looked = true;
            let ask = waiting.ask.clone();
            let before = takes.len();
            let most = ask.max.min(room).min(*left);
            self.take_for_ask(&ask, most, now, (gates, &mut exact, &mut granted), takes);
            let taken: u32 = takes[before..].iter().map(|take| take.max).sum();
            (room, *left) = (room.saturating_sub(taken), left.saturating_sub(taken));
            if let Some(waiting) = self.leases.asks.get_mut(&id) {
                waiting.in_claim = taken > 0;
            }
        }
    }

    fn take_for_ask(
        &mut self,
        ask: &Ask,
        most: u32,
        now: Moment,
        (gates, exact, granted): (&mut Left, &mut Left, &mut Granted),
        takes: &mut Vec<Take>,
    ) {
        let Some(tenant) = self.tenants.get(ask.tenant).filter(|_| !self.spent.contains(&ask.tenant)) else { return };
        let room = tenant.room(0).saturating_sub(self.taken_of(ask.tenant, takes)).min(most);
        let (mut singles, mut suspect, mut shut) = (Singles::default(), None, Vec::new());
        for lane in tenant.external.iter().filter(|lane| ask.kinds.contains(&lane.kind)) {
            let Some(state) = tenant.lanes.get(lane) else { continue };
            let through = gates_of(*lane).map(|of| self.room_now(of, now)).into_iter();
            let through = through.fold(room, |room, (calls, jobs)| room.min(calls).min(jobs));
            // Of keys, what they let through.
            let available = state.available + state.keyed.as_ref().map_or(0, |keyed| keyed.could());
            if through == 0 {
                shut.push(*lane);
            } else if lane.suspect {
                suspect = suspect.or(Some(*lane).filter(|_| available > 0));
            } else {
                singles.add(*lane, through.min(u32::try_from(available).unwrap_or(u32::MAX)));
            }
        }
        let (singles, most) = match suspect {
            // Alone, and first: there are few of them, and each has but few lives.
            Some(lane) => {
                let mut alone = Singles::default();
                alone.add(lane, 1);
                (alone, room.min(1))
            }
            None => (singles, room),
        };
        let queues = singles.queues(&tenant.lines_of_workers, |_| cost::UNKNOWN, |queue| self.room_now(queue, now));
        for (queue, max) in queues::split(&queues, most, most) {
            let max = gates.of_queue(&queues[queue], max, |of| self.room_of(of, now));
            let max = exact.of_queue(&queues[queue], max, |of| self.room_now(of, now));
            let mut grants = Vec::new();
            for Grant { lane, max: could } in queues[queue].lanes.iter().filter(|_| max > 0) {
                let max = gates.take(*lane, (*could).min(max), |of| self.room_of(of, now));
                let max = exact.take(*lane, max, |of| self.room_now(of, now));
                self.expand(*lane, max, true, granted, &mut grants);
            }
            if !grants.is_empty() {
                takes.push(Take { max, grants, shared: false, ask: Some(ask.id) });
            }
        }
        shut.into_iter().for_each(|lane| self.wait_for_tokens(lane, now));
    }
}
