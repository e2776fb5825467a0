//! What the store is asked for: which lanes may start how many runs.
//!
//! The free slots are shared among the tenants that have something for them: none gets more than another that wants more,
//! and what one does not want is the others'. On top of that each claims as far ahead as its own runs have been ending
//! lately. Where there are others, each has at least one run ready, so that the next slot finds it when it is its turn.

use runner_store::command::{Grant, Lane, limits};
use runner_store::job::TenantId;

use super::{AHEAD_MAX, Action, Call, ClaimState, Claimed, Core, Moment, Take};

/// Claims that may leave out what is not claimed ahead because no slot is free for it. Then nothing is asked for until one
/// is: with quick handlers and enough to do there would always be something claimed ahead to take it.
const PASSED_OVER_MAX: u32 = 16;
/// Tenants that take part in one claim; the others' turn is the next one.
const TENANTS_MAX: usize = 64;

/// What one tenant could use.
struct Demand {
    tenant: TenantId,
    /// Ready already.
    ready: u32,
    /// Runs that could be claimed.
    singles: u32,
    /// Lanes that have gathered a call.
    calls: Vec<Lane>,
    /// As many of both as its budget has room for.
    room: u32,
    /// How many it may claim beyond what can start now.
    ahead: u32,
    /// Claimed whatever its share is.
    at_least: u32,
    /// What it gets of the free slots.
    share: u32,
}

impl Core {
    pub(super) fn claimed(&mut self, runs: Vec<Claimed>, actions: &mut Vec<Action>) {
        let in_vain = runs.is_empty() && self.claim != ClaimState::Open { news: true };
        self.claim = if in_vain { ClaimState::Fruitless } else { ClaimState::Idle };
        self.round += 1;
        let cancelled = self.take_cancelled();
        let mut shared: Vec<Claimed> = Vec::new();
        // Runs of one lane come in a row: it is looked at once for them.
        let mut looked_at: Option<(Lane, bool)> = None;
        for claimed in runs {
            let spent = !self.spent.is_empty() && self.spent.contains(&claimed.lane.tenant);
            let known = looked_at.filter(|(lane, _)| *lane == claimed.lane);
            let (_, too_large) = known.unwrap_or_else(|| (claimed.lane, self.too_large(claimed.lane).is_some()));
            looked_at = Some((claimed.lane, too_large));
            if self.draining || spent || too_large || cancelled.contains(&claimed.run) {
                actions.push(Action::HandBack(claimed.run));
            } else if self.batched.contains(&claimed.lane) {
                shared.push(claimed);
            } else {
                self.put(Call::of_one(&claimed));
            }
        }
        while let Some(lane) = shared.first().map(|claimed| claimed.lane) {
            let (of_lane, others) = shared.into_iter().partition(|claimed| claimed.lane == lane);
            shared = others;
            self.calls(lane, of_lane).into_iter().for_each(|call| self.put(call));
        }
    }

    fn put(&mut self, call: Call) {
        let id = call.lane.tenant;
        self.suspects_in_hand += usize::from(call.lane.suspect);
        let before = self.tenant(id).ready.insert(call.order, call);
        self.ready += usize::from(before.is_none());
        self.waits_or_not(id);
        self.open_or_not(id);
    }

    pub(super) fn ask_claim(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.draining || self.paused || self.claim != ClaimState::Idle || !self.may_want() {
            return;
        }
        let exact = self.exact_wait(now);
        let none_free = self.slots_for_all() == 0;
        if exact && none_free && self.passed_over >= PASSED_OVER_MAX {
            return;
        }
        self.left_out = exact;
        let mut demands = self.demands(now);
        let slots = self.slots_for_all_and(&demands);
        share(&mut demands, slots);
        let (mut takes, mut left) = (Vec::new(), limits::CLAIM_RUNS_MAX);
        let mut suspects = u32::from(!self.suspect_in_hand() && self.free.len() > self.ready_for_slots());
        for demand in demands {
            self.take_for(demand, &mut suspects, &mut left, &mut takes);
        }
        if !takes.is_empty() {
            self.suspects_claimed = takes.iter().flat_map(|take| &take.grants).any(|grant| grant.lane.suspect);
            self.passed_over = if exact && none_free { self.passed_over + 1 } else { 0 };
            self.claim = ClaimState::Open { news: false };
            actions.push(Action::Claim(takes));
        }
    }

    /// Whether anyone could want anything: what is asked after every event, so that lanes are looked at only then.
    fn may_want(&mut self) -> bool {
        if self.open.is_empty() {
            return false;
        }
        let (round, free, crowd) = (self.round, self.free.len(), self.open.len() > 1);
        let held = self.ready + self.by_hand.len();
        let room_ahead = held + self.running.len() < (self.slots + AHEAD_MAX) as usize;
        for id in &self.open {
            let Some(tenant) = self.tenants.get_mut(id) else { continue };
            let ready = tenant.ready.len();
            let of_pace = room_ahead && tenant.pace.lately(round) >= 2;
            let wants = free + tenant.pace.ahead(round) as usize > ready + self.by_hand.len();
            if wants || of_pace || (crowd && ready == 0) {
                return true;
            }
        }
        false
    }

    /// Runs that are ready and wait for nothing but a slot and the node's memory.
    fn ready_for_slots(&self) -> usize {
        let of = |id| self.tenants.get(id).map_or(0, |tenant| tenant.ready_for_slots() as usize);
        self.by_hand.len() + self.waiting.iter().map(of).sum::<usize>()
    }

    /// Slots that are free and that nobody who is ready takes.
    fn slots_for_all(&self) -> u32 {
        u32::try_from(self.free.len().saturating_sub(self.ready_for_slots())).unwrap_or(0)
    }

    /// Slots that those who want them share, with what is ready of theirs: no more than the node has memory for.
    fn slots_for_all_and(&self, demands: &[Demand]) -> u32 {
        let asking: u32 = demands.iter().map(|demand| demand.ready).sum();
        let slots = self.slots_for_all().saturating_add(asking).min(self.free.len() as u32);
        let lanes = demands.iter().filter_map(|demand| self.tenants.get(&demand.tenant)).flat_map(|tenant| {
            let ready = tenant.ready.values().next().map(|call| call.lane);
            tenant.open.iter().copied().chain(ready).map(|lane| tenant.memory_of(lane))
        });
        let smallest = lanes.min().unwrap_or(0).max(1);
        let fit = self.memory_bytes.saturating_sub(self.reserved_bytes) / smallest;
        slots.min(u32::try_from(fit).unwrap_or(u32::MAX))
    }

    /// Whether something waits that is only claimed when a slot is free, and that could start in one.
    fn exact_wait(&self, now: Moment) -> bool {
        let gathered = self.batched.iter().any(|lane| self.could_start(*lane) && self.gathered(*lane, now));
        gathered || (!self.suspect_in_hand() && self.suspects_wait())
    }

    fn suspects_wait(&self) -> bool {
        let suspects = |id| self.tenants.get(id).map(|tenant| tenant.open.iter().filter(|lane| lane.suspect));
        self.open.iter().filter_map(suspects).flatten().any(|lane| self.could_start(*lane))
    }

    /// Whether a lane has jobs that its tenant's budget has room for.
    fn could_start(&self, lane: Lane) -> bool {
        let Some(tenant) = self.tenants.get(&lane.tenant) else { return false };
        tenant.open.contains(&lane) && tenant.room(tenant.memory_of(lane)) > 0 && !self.spent.contains(&lane.tenant)
    }

    /// What each tenant could use, those first whose turn it is.
    fn demands(&mut self, now: Moment) -> Vec<Demand> {
        let (before, after): (Vec<TenantId>, Vec<TenantId>) = self.open.iter().partition(|id| **id <= self.turn);
        let crowd = before.len() + after.len() > 1;
        let mut demands = Vec::new();
        for id in after.into_iter().chain(before) {
            if demands.len() == TENANTS_MAX {
                self.left_out = true;
                break;
            }
            demands.extend(self.demand(id, crowd, now));
        }
        demands
    }

    fn demand(&mut self, id: TenantId, crowd: bool, now: Moment) -> Option<Demand> {
        let room_ahead = self.ready() + self.running.len() < (self.slots + AHEAD_MAX) as usize;
        let (round, in_hand) = (self.round, self.suspect_in_hand());
        let tenant = self.tenants.get(&id)?;
        let (mut singles, mut calls, mut suspects, mut room, mut left_out) = (0_u32, Vec::new(), 0_u64, 0, false);
        for lane in &tenant.open {
            let of_lane = tenant.room(tenant.memory_of(*lane));
            let available = tenant.lanes.get(lane).map_or(0, |state| state.available);
            room = room.max(of_lane);
            left_out |= u64::from(of_lane) < available;
            if lane.suspect {
                suspects += available;
            } else if tenant.batch(*lane).is_none() {
                singles = singles.saturating_add(of_lane.min(u32::try_from(available).unwrap_or(u32::MAX)));
            } else if of_lane > 0 && self.gathered(*lane, now) {
                calls.push(*lane);
            }
        }
        let one_suspect = u32::from(suspects > 0 && !in_hand);
        self.left_out |= left_out || suspects > u64::from(one_suspect);
        let singles = singles.saturating_add(one_suspect).min(room);
        calls.truncate(room as usize);
        if singles == 0 && calls.is_empty() {
            return None;
        }
        let (ready, nothing_ready) = (tenant.ready_for_slots(), tenant.ready.is_empty());
        let pace = &mut self.tenant(id).pace;
        let (lately, ahead) = (pace.lately(round), pace.ahead(round));
        // Where quick handlers were claimed far ahead and slow ones follow, what comes first is still found: one for two
        // that end, so that what was claimed becomes less.
        let at_least = u32::from((lately >= 2 && room_ahead) || (crowd && nothing_ready));
        Some(Demand { tenant: id, ready, singles, calls, room, ahead, at_least, share: 0 })
    }

    /// What a tenant takes, by its share.
    fn take_for(&mut self, mut demand: Demand, suspects: &mut u32, left: &mut u32, takes: &mut Vec<Take>) {
        let free = demand.share.saturating_sub(demand.ready);
        let tenant = self.tenants.entry(demand.tenant).or_default();
        let both = demand.singles > 0 && !demand.calls.is_empty();
        // Where both want the last slot, it is the one's and then the other's.
        let for_calls = if both && tenant.singles_next { free.saturating_sub(1) } else { free };
        if both && free > 0 && demand.calls.len() >= free as usize {
            tenant.singles_next = !tenant.singles_next;
        }
        demand.calls.truncate(for_calls as usize);
        let calls = u32::try_from(demand.calls.len()).unwrap_or(u32::MAX);
        for lane in demand.calls {
            let max = tenant.batch(lane).map_or(1, |batch| batch.max).min(*left);
            if max > 0 {
                *left -= max;
                takes.push(Take { max, grants: vec![Grant { lane, max }], shared: true });
            }
        }
        let ahead = demand.share.saturating_add(demand.ahead).saturating_sub(demand.ready).saturating_sub(calls);
        let max = ahead.max(demand.at_least).min(demand.singles).min(demand.room.saturating_sub(calls)).min(*left);
        let mut grants = Vec::new();
        for lane in tenant.open.iter().filter(|lane| max > 0 && tenant.batch(**lane).is_none()) {
            let available = tenant.lanes.get(lane).map_or(0, |state| state.available);
            let room = tenant.room(tenant.memory_of(*lane)).min(u32::try_from(available).unwrap_or(u32::MAX));
            if room == 0 {
                continue;
            }
            let max = room.min(if lane.suspect { std::mem::take(suspects) } else { max });
            if max > 0 {
                grants.push(Grant { lane: *lane, max });
            }
        }
        if !grants.is_empty() {
            *left -= max;
            takes.push(Take { max, grants, shared: false });
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
