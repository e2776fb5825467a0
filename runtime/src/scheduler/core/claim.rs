//! What the store is asked for: which lanes may start how many runs.
//!
//! The free slots are shared among the tenants that have something for them: none gets more than another that wants more,
//! and what one does not want is the others'. On top of that each claims as far ahead as its own runs have been ending
//! lately. Where there are others, each has at least one run ready, so that the next slot finds it when it is its turn. What
//! a tenant gets its queues share by their weights ([`queues`](super::queues)), and nothing is claimed that a gate would not
//! let through ([`gate`](super::gate)).

use std::collections::HashSet;
use std::ops::Bound::{Excluded, Unbounded};

use runner_store::command::{Grant, Lane, RunRef, limits};
use runner_store::job::TenantId;

use super::cost;
use super::keyed::Granted;
use super::leave::Unanswered;
use super::queues::{self, QueueDemand};
use super::tenant::Beat;
use super::{AHEAD_MAX, Action, Call, ClaimState, Claimed, Core, Moment, Take};

/// Claims that may leave out what is not claimed ahead because no slot is free for it. Then nothing is asked for until one
/// is: with quick handlers and enough to do there would always be something claimed ahead to take it.
pub(super) const PASSED_OVER_MAX: u32 = 16;
/// Tenants that take part in one claim; the others' turn is the next one.
pub(super) const TENANTS_MAX: usize = 64;

/// What one tenant could use.
pub(super) struct Demand {
    tenant: TenantId,
    /// Ready already.
    ready: u32,
    /// Runs that could be claimed, and where.
    singles: u32,
    queues: Vec<QueueDemand>,
    /// Lanes that have gathered a call.
    calls: Vec<Lane>,
    /// As many of both as its budget has room for.
    room: u32,
    /// The least memory that one of its runs wants.
    smallest: u64,
    /// How many it may claim beyond what can start now.
    ahead: u32,
    /// Claimed whatever its share is.
    at_least: u32,
    /// What it gets of the free slots.
    share: u32,
}

impl Demand {
    /// Leaves so many to others of its tenant.
    fn leave(&mut self, taken: u32) {
        self.room = self.room.saturating_sub(taken);
        self.singles = self.singles.min(self.room);
        self.calls.truncate(self.room as usize);
    }
}

impl Core {
    pub(super) fn claimed(&mut self, runs: Vec<Claimed>, now: Moment, actions: &mut Vec<Action>) {
        let in_vain = runs.is_empty() && !self.leases.take_some() && self.claim != ClaimState::Open { news: true };
        self.claim = if in_vain { ClaimState::Fruitless } else { ClaimState::Idle };
        self.round += 1;
        self.lately.swap(0, 1);
        self.lately[0].clear();
        let cancelled = self.take_cancelled(Unanswered::CLAIM);
        self.take_up(runs, &cancelled, now, actions);
    }

    /// Takes in hand what a claim has answered, but for what was cancelled meanwhile.
    pub(super) fn take_up(
        &mut self,
        mut runs: Vec<Claimed>,
        cancelled: &HashSet<RunRef>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let mut shared: Vec<Claimed> = Vec::new();
        if !self.gates.is_empty() || self.has_key_limits() {
            // Where they are not all let through any more, the first are.
            runs.sort_unstable_by_key(|claimed| claimed.order);
        }
        // Runs of one lane come in a row: it is looked at once for them.
        let mut looked_at: Option<(Lane, bool)> = None;
        for claimed in runs {
            let spent = !self.spent.is_empty() && self.spent.contains(&claimed.lane.tenant);
            let known = looked_at.filter(|(lane, _)| *lane == claimed.lane);
            let (_, too_large) = known.unwrap_or_else(|| {
                self.company.meets(claimed.lane, now.uptime);
                (claimed.lane, self.too_large(claimed.lane).is_some())
            });
            looked_at = Some((claimed.lane, too_large));
            if self.draining || spent || too_large || cancelled.contains(&claimed.run) {
                actions.push(Action::HandBack(claimed.run));
            } else if self.batched.contains(&claimed.lane.of_all_keys()) {
                shared.push(claimed);
            } else {
                self.put_or_not(Call::of_one(&claimed), now, actions);
            }
        }
        while let Some(lane) = shared.first().map(|claimed| claimed.lane) {
            let (of_lane, others) = shared.into_iter().partition(|claimed| claimed.lane == lane);
            shared = others;
            for call in self.calls(lane, of_lane) {
                self.put_or_not(call, now, actions);
            }
        }
    }

    fn put_or_not(&mut self, call: Call, now: Moment, actions: &mut Vec<Action>) {
        if self.lets_through(&call, now) {
            self.put(call);
        } else {
            actions.extend(call.runs().map(Action::HandBack));
        }
    }

    fn put(&mut self, call: Call) {
        let id = call.lane.tenant;
        self.suspects_in_hand += usize::from(call.lane.suspect);
        self.gate_claimed(&call);
        let ready = &mut self.tenant(id).ready;
        let before = ready.len();
        ready.insert(call);
        self.ready += self.tenant(id).ready.len() - before;
        self.waits_or_not(id);
        self.open_or_not(id);
    }

    pub(super) fn ask_claim(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.draining || self.paused || self.claim != ClaimState::Idle {
            return;
        }
        let (mut gates, mut left) = (queues::Left::default(), limits::CLAIM_RUNS_MAX);
        let mut takes = Vec::new();
        // Where both want the same, it is the one's and then the other's.
        let workers_first = self.leases.go_first();
        if workers_first {
            self.take_for_workers(now, (&mut gates, &mut left), &mut takes);
        }
        let mut first = takes.len();
        if self.may_want() {
            self.take_for_slots(now, (&mut gates, &mut left), &mut takes);
        }
        if !workers_first {
            first = takes.len();
            self.take_for_workers(now, (&mut gates, &mut left), &mut takes);
        }
        if first > 0 {
            self.leases.turn();
        }
        if !takes.is_empty() {
            self.claim = ClaimState::Open { news: false };
            self.beside.opens(&takes);
            actions.push(Action::Claim(takes));
        }
    }

    fn take_for_slots(&mut self, now: Moment, (gates, left): (&mut queues::Left, &mut u32), takes: &mut Vec<Take>) {
        let exact = self.exact_wait(now);
        let none_free = self.slots_for_all(now) == 0;
        if exact && none_free && self.passed_over >= PASSED_OVER_MAX {
            return;
        }
        self.left_out = exact;
        let mut demands = self.demands(now);
        let slots = self.slots_for_all_and(&demands, now);
        share(&mut demands, slots);
        let before = takes.len();
        let mut suspects = u32::from(!self.suspect_in_hand() && self.slots_left(now) > 0);
        for mut demand in demands {
            if before > 0 {
                demand.leave(self.taken_of(demand.tenant, takes));
            }
            self.take_for(demand, now, (&mut suspects, left, gates), takes);
        }
        let taken = &takes[before..];
        if !taken.is_empty() {
            self.suspects_claimed = taken.iter().flat_map(|take| &take.grants).any(|grant| grant.lane.suspect);
            self.passed_over = if exact && none_free { self.passed_over + 1 } else { 0 };
        }
    }

    /// Runs of a tenant that the claim takes so far, where it matters how many run at once.
    pub(super) fn taken_of(&self, id: TenantId, takes: &[Take]) -> u32 {
        let limited = self.tenants.get(id).is_some_and(|tenant| tenant.budget.concurrency.is_some());
        let of = |take: &&Take| take.grants.first().is_some_and(|grant| grant.lane.tenant == id);
        if limited { takes.iter().filter(of).map(|take| if take.shared { 1 } else { take.max }).sum() } else { 0 }
    }

    pub(super) fn beat(&self) -> Beat {
        let at = self.now.uptime;
        Beat { round: self.round, at, alone: self.company.is_none(at) }
    }

    /// Whether anyone could want anything: what is asked after every event, so that lanes are looked at only then, and
    /// tenants only where runs of theirs have ended lately.
    fn may_want(&mut self) -> bool {
        if self.open.is_empty() {
            return false;
        }
        let (beat, free, by_hand) = (self.beat(), self.free.len(), self.by_hand.len());
        if free > by_hand || (self.open.len() > 1 && self.bare > 0) {
            return true;
        }
        let room_ahead = self.ready() + self.running.len() < (self.slots + AHEAD_MAX) as usize;
        for id in self.lately.iter().flatten() {
            let Some(tenant) = self.tenants.get_mut(*id).filter(|tenant| tenant.is_open) else {
                continue;
            };
            let of_pace = room_ahead && tenant.pace.lately(beat) >= 2;
            if of_pace || free + tenant.pace.ahead(beat) as usize > tenant.ready.len() + by_hand {
                return true;
            }
        }
        false
    }

    /// Slots that are free and that nobody takes who is ready and waits for nothing but a slot and the node's memory.
    fn slots_left(&self, now: Moment) -> usize {
        let mut left = self.free.len().saturating_sub(self.by_hand.len());
        // However many wait: no more are looked at than there are slots.
        for (_, id) in &self.waiting {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(self.ready_of(*id, now) as usize);
        }
        left
    }

    /// The same of one tenant: what waits for its own budget, or for a token, takes no slot from others.
    fn ready_of(&self, id: TenantId, now: Moment) -> u32 {
        let Some(tenant) = self.tenants.get(id) else { return 0 };
        let ready = tenant.ready_for_slots();
        if ready == 0 || (self.gates.is_empty() && !self.has_key_limits()) {
            return ready;
        }
        let waits = tenant.ready.calls().filter(|call| self.tokens_come(call, now).is_some()).count();
        ready.saturating_sub(u32::try_from(waits).unwrap_or(u32::MAX))
    }

    /// Slots that are free and that nobody who is ready takes.
    fn slots_for_all(&self, now: Moment) -> u32 {
        u32::try_from(self.slots_left(now)).unwrap_or(0)
    }

    /// Slots that those who want them share, with what is ready of theirs: no more than the node has memory for.
    fn slots_for_all_and(&self, demands: &[Demand], now: Moment) -> u32 {
        let asking: u32 = demands.iter().map(|demand| demand.ready).sum();
        let slots = self.slots_for_all(now).saturating_add(asking).min(self.free.len() as u32);
        let smallest = demands.iter().map(|demand| demand.smallest).min().unwrap_or(0).max(1);
        let fit = self.reservable_bytes().saturating_sub(self.reserved_bytes) / smallest;
        slots.min(u32::try_from(fit).unwrap_or(u32::MAX))
    }

    /// Whether something waits that is only claimed when a slot is free, and that could start in one.
    fn exact_wait(&self, now: Moment) -> bool {
        let has_call = |lane| self.gathered(lane, now) || self.has_key_open(lane);
        let gathered = self.batched.iter().any(|lane| self.could_start(*lane, now) && has_call(*lane));
        gathered
            || self.lanes_in_order().any(|lane| self.could_start(lane, now))
            || (!self.suspect_in_hand() && self.suspects_wait(now))
    }

    fn has_key_open(&self, lane: Lane) -> bool {
        let state = self.tenants.get(lane.tenant).and_then(|tenant| tenant.lanes.get(&lane));
        state.and_then(|state| state.keyed.as_ref()).is_some_and(|keyed| keyed.is_open())
    }

    fn suspects_wait(&self, now: Moment) -> bool {
        self.open_suspects.iter().any(|lane| self.could_start(*lane, now))
    }

    /// Whether a lane has jobs that its tenant's budget has room for, and its gates.
    fn could_start(&self, lane: Lane, now: Moment) -> bool {
        let Some(tenant) = self.tenants.get(lane.tenant) else { return false };
        let (calls, jobs) = self.gate_room(lane, now);
        calls.min(jobs) > 0
            && tenant.open.contains(&lane)
            && tenant.room(tenant.memory_of(lane)) > 0
            && !self.spent.contains(&lane.tenant)
    }

    /// What each tenant could use, those first whose turn it is.
    fn demands(&mut self, now: Moment) -> Vec<Demand> {
        let crowd = self.open.len() > 1;
        let mut demands = Vec::new();
        let mut next = self.open.first().copied();
        while let Some(ranked) = next {
            if demands.len() == TENANTS_MAX {
                self.left_out = true;
                break;
            }
            if !self.beside.has_asked(ranked.1) {
                demands.extend(self.demand(ranked.1, crowd, now));
            }
            next = self.open.range((Excluded(ranked), Unbounded)).next().copied();
        }
        demands
    }

    /// What a tenant that has nothing ready takes beside an open claim: one run, of what may be claimed ahead.
    pub(super) fn demand_of_one(&mut self, id: TenantId, now: Moment) -> Option<Demand> {
        let again = self.tenants.get(id).is_some_and(|tenant| tenant.held_up);
        // Where it comes anew, it is looked at where it stands now.
        let demand = self.demand(id, true, now).or_else(|| if again { self.demand(id, true, now) } else { None })?;
        let (at_least, calls) = (demand.singles.min(1), Vec::new());
        Some(Demand { share: 0, calls, ahead: 0, at_least, ..demand })
    }

    fn demand(&mut self, id: TenantId, crowd: bool, now: Moment) -> Option<Demand> {
        let room_ahead = self.ready() + self.running.len() < (self.slots + AHEAD_MAX) as usize;
        let tenant = self.tenants.get(id)?;
        if crowd || tenant.open.len() > 1 {
            self.company.is_there(now.uptime);
        }
        let (beat, in_hand) = (self.beat(), self.suspect_in_hand());
        let (mut calls, mut suspects, mut room, mut left_out) = (Vec::new(), 0_u64, 0, false);
        let mut smallest = tenant.ready.first().map_or(u64::MAX, |call| tenant.memory_of(call.lane));
        let (mut singles, mut shut) = (queues::Singles::default(), Vec::new());
        for lane in &tenant.open {
            let Some(state) = tenant.lanes.get(lane) else { continue };
            let memory_bytes = state.serves.as_ref().map_or(0, |serves| serves.memory_bytes);
            let of_lane = tenant.room(memory_bytes);
            smallest = smallest.min(memory_bytes);
            // Of keys, what they let through.
            let available = state.available + state.keyed.as_ref().map_or(0, |keyed| keyed.could());
            room = room.max(of_lane);
            let (gate_calls, gate_jobs) = self.gate_room(*lane, now);
            let through = gate_calls.min(gate_jobs);
            if through == 0 {
                left_out = true;
                shut.push(*lane);
                continue;
            }
            left_out |= u64::from(of_lane.min(through)) < available;
            let could = of_lane.min(through).min(u32::try_from(available).unwrap_or(u32::MAX));
            if lane.suspect {
                suspects += available;
                singles.add(*lane, u32::from(!in_hand && could > 0));
            } else if tenant.batch(*lane).is_none() {
                singles.add(*lane, could);
            } else if of_lane > 0 {
                calls.extend(self.gathered(*lane, now).then_some(*lane));
                // What there is no slot for is not claimed.
                let keyed = state.keyed.iter().flat_map(|keyed| keyed.open_lanes(*lane));
                calls.extend(keyed.take(self.free.len().min(through as usize)));
            }
        }
        self.left_out |= left_out || suspects > u64::from(!in_hand);
        let (ready, nothing_ready) = (self.ready_of(id, now), tenant.ready.is_empty());
        let cost =
            |lane: Lane| tenant.lanes.get(&lane.of_all_keys()).map_or(cost::UNKNOWN, |state| state.lately.cost());
        let queues = singles.queues(&tenant.ready, cost, |queue| self.room_of(queue, now));
        let sum = queues.iter().fold(0_u32, |sum, queue| sum.saturating_add(queue.wants));
        let singles = sum.min(room);
        shut.into_iter().for_each(|lane| self.wait_for_gates(lane, now));
        calls.truncate(room as usize);
        let tenant = self.tenant(id);
        if singles == 0 && calls.is_empty() {
            tenant.held_up |= tenant.running == 0 && tenant.ready.is_empty();
            return None;
        }
        // It comes anew: it is looked at again where it stands now.
        if std::mem::take(&mut tenant.held_up) && self.comes_anew(id) {
            return None;
        }
        // A slot that another one's run leaves is for who has had least, too.
        let least = crowd && self.open.first().is_some_and(|(_, first)| *first == id);
        let of_all = if least { self.pace.ahead_of_a_commit(beat) } else { 0 };
        let pace = &mut self.tenant(id).pace;
        let (lately, ahead) = (pace.lately(beat), pace.ahead(beat).max(of_all));
        // Where quick handlers were claimed far ahead and slow ones follow, what comes first is still found: one for two
        // that end, so that what was claimed becomes less.
        let at_least = u32::from((lately >= 2 && room_ahead) || (crowd && nothing_ready));
        Some(Demand { tenant: id, ready, singles, queues, calls, room, smallest, ahead, at_least, share: 0 })
    }

    /// What a tenant takes, by its share.
    pub(super) fn take_for(
        &mut self,
        mut demand: Demand,
        now: Moment,
        (suspects, left, gates): (&mut u32, &mut u32, &mut queues::Left),
        takes: &mut Vec<Take>,
    ) {
        let free = demand.share.saturating_sub(demand.ready);
        let tenant = self.tenants.of(demand.tenant);
        let both = demand.singles > 0 && !demand.calls.is_empty();
        // Where both want the last slot, it is the one's and then the other's.
        let for_calls = if both && tenant.singles_next { free.saturating_sub(1) } else { free };
        if both && free > 0 && demand.calls.len() >= free as usize {
            tenant.singles_next = !tenant.singles_next;
        }
        demand.calls.truncate(for_calls as usize);
        let calls = u32::try_from(demand.calls.len()).unwrap_or(u32::MAX);
        for lane in demand.calls {
            let batch = self.tenants.get(demand.tenant).and_then(|tenant| tenant.batch(lane));
            let max = batch.map_or(1, |batch| batch.max).min(*left).min(self.key_room(lane).1);
            let max = gates.take_call(lane, max, |of| self.room_of(of, now));
            if max > 0 {
                *left -= max;
                takes.push(Take { max, grants: vec![Grant { lane, max }], shared: true, ask: None });
            }
        }
        let ahead = demand.ahead.saturating_add(queues::ahead(&demand.queues, demand.ahead));
        let ahead = demand.share.saturating_add(ahead).saturating_sub(demand.ready).saturating_sub(calls);
        let room = demand.room.saturating_sub(calls);
        let max = ahead.max(demand.at_least).min(demand.singles).min(room).min(*left);
        // One more of each queue that has nothing ready, so that the next slot finds it when it is its turn; but of handlers
        // that take long nothing is claimed ahead.
        let most = if demand.ahead > 0 { room.min(*left) } else { max };
        let mut starts = free.saturating_sub(calls);
        let mut granted = Granted::default();
        for (queue, max) in queues::split(&demand.queues, max, most) {
            let max = gates.of_queue(&demand.queues[queue], max, |of| self.room_of(of, now));
            let lanes = &demand.queues[queue].lanes;
            let in_order = lanes.iter().any(|grant| self.runs_in_order(grant.lane));
            // Nothing that runs in order is claimed ahead: beside it, only what starts now; the others' rest comes behind,
            // unless it would only get before it.
            let first = if in_order { max.min(starts) } else { max };
            let rest = if in_order && self.comes_before_ready(lanes) { 0 } else { max - first };
            starts = starts.saturating_sub(first);
            for (max, in_order) in [(first, true), (rest, false)] {
                let mut grants = Vec::new();
                for Grant { lane, max: could } in lanes.iter().filter(|_| max > 0) {
                    let could = if lane.suspect { std::mem::take(suspects).min(*could) } else { *could };
                    let max = gates.take(*lane, could.min(max), |of| self.room_of(of, now));
                    self.expand(*lane, max, in_order, &mut granted, &mut grants);
                }
                if !grants.is_empty() {
                    *left = left.saturating_sub(max);
                    takes.push(Take { max, grants, shared: false, ask: None });
                }
            }
        }
    }
}

/// Shares so many slots: none gets more than another that wants more. In the order of their turns, where it is about one.
fn share(demands: &mut [Demand], slots: u32) {
    let wants = |demand: &Demand| {
        let calls = u32::try_from(demand.calls.len()).unwrap_or(u32::MAX);
        demand.ready.saturating_add(demand.singles).saturating_add(calls)
    };
    let mut by_want: Vec<usize> = (0..demands.len()).collect();
    by_want.sort_by_key(|at| wants(&demands[*at]));
    let (mut left, mut sharing) = (slots, u32::try_from(demands.len()).unwrap_or(u32::MAX));
    for at in by_want {
        let demand = &mut demands[at];
        demand.share = wants(demand).min(left.div_ceil(sharing.max(1)));
        left -= demand.share;
        sharing -= 1;
    }
}
