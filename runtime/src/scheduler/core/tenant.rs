//! What one tenant has in hand and may use: its lanes, its runs, its budgets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use runner_store::command::{Fuel, Lane};
use runner_store::job::{KindId, Millis, QueueId, TenantId};

use super::batch::Arrivals;
use super::cost::{Had, Lately};
use super::keyed::Keyed;
use super::line::Lines;
use super::{AHEAD_MAX, Core, Moment};
use crate::wasm::manifest::Batch;

/// So many times what ended in such a time is claimed ahead of runs that took no longer: a few commits' work. Where all that
/// waits and is claimed is alike, it is more: commits are larger, and each job costs less of one.
const PACE_WINDOW: Millis = Millis(5);
const WINDOWS: u32 = 2;
const WINDOWS_OF_ONE_ALONE: u32 = 8;
/// For so long after jobs of another tenant, queue or kind were waiting or claimed, nothing counts as alone; nor so long after
/// the first claim.
const COMPANY_LASTS: Millis = Millis(1_000);

/// What a tenant may use; none: as much as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Runs at once. Those that share a call count once; those that are claimed ahead count.
    pub concurrency: Option<u32>,
    /// Memory of its runs together.
    pub memory_bytes: Option<u64>,
    /// Fuel of a period. Periods follow each other from the node's start on; what a run used is known when it has ended.
    pub fuel: Option<Fuel>,
}

/// What the runs of a lane are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Serves {
    /// The memory limit of one.
    pub memory_bytes: u64,
    /// How many jobs share a call.
    pub batch: Option<Batch>,
    /// Whether external workers run them: they take no slot, and no memory.
    pub external: bool,
}

impl Serves {
    /// Runs of external workers.
    pub const EXTERNAL: Self = Self { memory_bytes: 0, batch: None, external: true };
}

/// Tenants by their numbers, which the store gives one behind another.
#[derive(Debug, Default)]
pub(super) struct Tenants(Vec<Option<Box<Tenant>>>);

impl Tenants {
    pub(super) fn get(&self, id: TenantId) -> Option<&Tenant> {
        self.0.get(id.0 as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, id: TenantId) -> Option<&mut Tenant> {
        self.0.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// The tenant, which is a new one if nothing was known of it.
    pub(super) fn of(&mut self, id: TenantId) -> &mut Tenant {
        let at = id.0 as usize;
        if at >= self.0.len() {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at].get_or_insert_default()
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (TenantId, &Tenant)> {
        (0..).map(TenantId).zip(&self.0).filter_map(|(id, tenant)| Some((id, tenant.as_deref()?)))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tenant {
    pub(super) budget: Budget,
    pub(super) lanes: BTreeMap<Lane, LaneState>,
    /// Lanes whose jobs could be claimed: a plugin serves them, they are not empty, a run is not too large.
    pub(super) open: BTreeSet<Lane>,
    /// The same of those that external workers serve.
    pub(super) external: BTreeSet<Lane>,
    /// How its queues share what these take, by their weights.
    pub(super) lines_of_workers: Lines,
    /// Claimed, not started.
    pub(super) ready: Lines,
    /// What its runs have cost; see [`super::cost`].
    pub(super) had: Had,
    /// Whether it stands among those that could claim, among those that have something ready, and counts as bare.
    pub(super) is_open: bool,
    pub(super) waits: bool,
    is_bare: bool,
    pub(super) running: u32,
    /// Whether it had nothing in hand when it was last seen that nothing of it may start: a pause, a rate, a key.
    pub(super) held_up: bool,
    pub(super) reserved_bytes: u64,
    pub(super) pace: Pace,
    /// Whether what runs by itself goes before what shares calls, the next time that both want the last slot.
    pub(super) singles_next: bool,
    /// Fuel used in the period of this number.
    spent: u64,
    period: u64,
}

#[derive(Debug, Default)]
pub(super) struct LaneState {
    pub(super) available: u64,
    /// In a place of its own: the map has room for about twice as many lanes as there are.
    pub(super) serves: Option<Box<Serves>>,
    /// When those that share calls came.
    pub(super) arrivals: Arrivals,
    /// What its runs cost.
    pub(super) lately: Lately,
    /// The lanes of its keys, which stand in its place; none: its jobs have none.
    pub(super) keyed: Option<Box<Keyed>>,
}

impl LaneState {
    /// Whether something of it could be claimed, as far as it is about its keys.
    fn has_some(&self) -> bool {
        self.available > 0 || self.keyed.as_ref().is_some_and(|keyed| keyed.is_open())
    }
}

/// A moment of the scheduler: the round between two claims, and the time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beat {
    pub(super) round: u64,
    pub(super) at: Millis,
    /// Whether what is claimed is all of one tenant, queue and kind.
    pub(super) alone: bool,
}

/// Whether what could be claimed and is claimed is all of one tenant, queue and kind, and has been for a while. What cannot be
/// claimed, as its tenant's budget or its keys are used up, does not count until it can.
#[derive(Debug, Default)]
pub(super) struct Company {
    last: Option<((TenantId, QueueId, KindId), Millis)>,
    met: Option<Millis>,
}

impl Company {
    /// Jobs of a lane were claimed.
    pub(super) fn meets(&mut self, lane: Lane, at: Millis) {
        let of = (lane.tenant, lane.queue, lane.kind);
        match self.last.replace((of, at)) {
            None => self.is_there(at),
            Some((last, when)) if last != of => self.is_there(when),
            Some(_) => {}
        }
    }

    /// Jobs of several wait.
    pub(super) fn is_there(&mut self, at: Millis) {
        self.met = self.met.max(Some(at));
    }

    pub(super) fn is_none(&self, at: Millis) -> bool {
        self.met.is_some_and(|met| at.0.saturating_sub(met.0) > COMPANY_LASTS.0)
    }
}

/// How fast runs end: in the present round between two claims, and in the one before; and quick ones in the present window of
/// time, and in the one before. By rounds alone, commits of few jobs would have few claimed ahead, and so the next commits
/// again had few.
#[derive(Debug, Default)]
pub(super) struct Pace {
    round: u64,
    ended: u32,
    before: u32,
    window: u64,
    quick: u32,
    quick_before: u32,
}

impl Pace {
    fn turn(&mut self, Beat { round, at, .. }: Beat) {
        turn(&mut self.round, round, &mut self.ended, &mut self.before);
        turn(&mut self.window, at.0 / PACE_WINDOW.0, &mut self.quick, &mut self.quick_before);
    }

    pub(super) fn ended(&mut self, took: Duration, beat: Beat) {
        self.turn(beat);
        self.ended += 1;
        self.quick += u32::from(took <= Duration::from_millis(PACE_WINDOW.0));
    }

    /// Runs that ended since the last claim was answered.
    pub(super) fn lately(&mut self, beat: Beat) -> u32 {
        self.turn(beat);
        self.ended
    }

    /// How many may be claimed ahead.
    pub(super) fn ahead(&mut self, beat: Beat) -> u32 {
        let of_rounds = self.ahead_of_a_commit(beat);
        let windows = if beat.alone { WINDOWS_OF_ONE_ALONE } else { WINDOWS };
        self.quick.max(self.quick_before).saturating_mul(windows).max(of_rounds).min(AHEAD_MAX)
    }

    /// How many slots may come free until a claim is answered.
    pub(super) fn ahead_of_a_commit(&mut self, beat: Beat) -> u32 {
        self.turn(beat);
        self.ended.max(self.before).saturating_mul(2).min(AHEAD_MAX)
    }
}

/// What was counted in the present one is of the one before, once that is over.
fn turn(present: &mut u64, new: u64, count: &mut u32, before: &mut u32) {
    match new.saturating_sub(*present) {
        0 => return,
        1 => *before = std::mem::take(count),
        _ => (*before, *count) = (0, 0),
    }
    *present = new;
}

impl Tenant {
    /// What one of a lane's runs reserves; what no plugin serves any more does not run.
    pub(super) fn memory_of(&self, lane: Lane) -> u64 {
        self.serves(lane).map_or(0, |serves| serves.memory_bytes)
    }

    pub(super) fn serves(&self, lane: Lane) -> Option<Serves> {
        self.lanes.get(&lane.of_all_keys()).and_then(|state| state.serves.as_deref().copied())
    }

    /// How many jobs of a lane share a call. Suspects never do: the next crash has one culprit.
    pub(super) fn batch(&self, lane: Lane) -> Option<Batch> {
        self.serves(lane).and_then(|serves| serves.batch).filter(|_| !lane.suspect)
    }

    /// How many more runs of so much memory the budget has room for, beside those in hand.
    pub(super) fn room(&self, memory_bytes: u64) -> u32 {
        let ready = u32::try_from(self.ready.len()).unwrap_or(u32::MAX);
        let runs = self.budget.concurrency.map_or(u32::MAX, |most| most.saturating_sub(self.running));
        let memory = self.budget.memory_bytes.map_or(u32::MAX, |most| {
            let left = most.saturating_sub(self.reserved_bytes) / memory_bytes.max(1);
            u32::try_from(left).unwrap_or(u32::MAX)
        });
        match runs.min(memory) {
            u32::MAX => u32::MAX,
            room => room.saturating_sub(ready),
        }
    }

    /// Whether a run of so much memory may start, as far as the tenant's own budget goes.
    pub(super) fn has_room(&self, memory_bytes: u64) -> bool {
        self.budget.concurrency.is_none_or(|most| self.running < most)
            && self.budget.memory_bytes.is_none_or(|most| self.reserved_bytes.saturating_add(memory_bytes) <= most)
    }

    /// Whether its budget has no room for a run of any lane.
    pub(super) fn is_full(&self) -> bool {
        let limited = self.budget.concurrency.is_some() || self.budget.memory_bytes.is_some();
        limited && self.open.iter().all(|lane| self.room(self.memory_of(*lane)) == 0)
    }

    /// Runs that are ready and wait for the node alone: what waits for its own tenant takes no slot from others.
    pub(super) fn ready_for_slots(&self) -> u32 {
        match self.ready.first() {
            Some(head) if self.has_room(self.memory_of(head.lane)) => {
                u32::try_from(self.ready.len()).unwrap_or(u32::MAX)
            }
            _ => 0,
        }
    }

    pub(super) fn spend(&mut self, fuel: u64, now: Moment) {
        if let Some(budget) = self.budget.fuel {
            let period = now.uptime.0 / budget.per.0.max(1);
            if period != self.period {
                (self.period, self.spent) = (period, 0);
            }
            self.spent = self.spent.saturating_add(fuel);
        }
    }

    /// Whether the fuel of the present period is used up.
    pub(super) fn is_spent(&self, now: Moment) -> bool {
        self.budget
            .fuel
            .is_some_and(|budget| self.spent >= budget.fuel && self.period == now.uptime.0 / budget.per.0.max(1))
    }

    /// When the next period begins.
    pub(super) fn next_period(&self, now: Moment) -> Option<Millis> {
        let per = self.budget.fuel?.per.0.max(1);
        Some(Millis((now.uptime.0 / per + 1).saturating_mul(per)))
    }
}

impl Core {
    pub(super) fn available(&mut self, lane: Lane, difference: i64, now: Moment) {
        let state = self.tenant(lane.tenant).lanes.entry(lane).or_default();
        let comes = state.available == 0 && difference > 0;
        state.available = state.available.saturating_add_signed(difference);
        state.arrivals.changed(difference, now.uptime);
        if comes {
            self.comes_anew(lane.tenant);
        }
        self.lane_open_or_not(lane);
        if difference > 0 {
            self.is_new(lane.tenant);
        }
        // Also where there are fewer: a claim that only discarded what had expired has come nearer to what has not.
        if difference != 0 {
            self.look_again();
        }
    }

    pub(super) fn served(&mut self, lane: Lane, by: Option<Serves>, now: Moment) {
        let state = self.tenant(lane.tenant).lanes.entry(lane).or_default();
        state.serves = by.map(Box::new);
        let shared = by.is_some_and(|by| by.batch.is_some()) && !lane.suspect;
        state.arrivals.keep(shared, state.available, now.uptime);
        let has_keys = state.keyed.is_some();
        if shared {
            self.batched.insert(lane);
        } else {
            self.batched.remove(&lane);
        }
        if has_keys {
            self.keyed_served(lane, shared);
        }
        self.lane_open_or_not(lane);
        self.look_again();
    }

    pub(super) fn set_budget(&mut self, tenant: TenantId, budget: Budget, now: Moment) {
        let state = self.tenant(tenant);
        state.budget = budget;
        // What was used is measured by the period, which may be another one now.
        state.spend(0, now);
        for lane in state.lanes.keys().copied().collect::<Vec<_>>() {
            self.lane_open_or_not(lane);
        }
        self.look_again();
    }

    /// Keeps the list of lanes whose jobs could be claimed.
    pub(super) fn lane_open_or_not(&mut self, lane: Lane) {
        let node_bytes = self.memory_bytes;
        let tenant = self.tenant(lane.tenant);
        let most = tenant.budget.memory_bytes.map_or(node_bytes, |most| most.min(node_bytes));
        let state = tenant.lanes.get(&lane).filter(|state| state.has_some());
        let serves = state.and_then(|state| state.serves.as_deref().copied());
        if serves.is_some_and(|serves| serves.external) {
            tenant.external.insert(lane);
        } else {
            tenant.external.remove(&lane);
        }
        if serves.is_some_and(|serves| serves.memory_bytes <= most && !serves.external) {
            tenant.open.insert(lane);
            if lane.suspect {
                self.open_suspects.insert(lane);
            }
        } else {
            tenant.open.remove(&lane);
            if lane.suspect {
                self.open_suspects.remove(&lane);
            }
        }
        self.open_or_not(lane.tenant);
    }

    /// Keeps the list of tenants that could claim.
    pub(super) fn open_or_not(&mut self, id: TenantId) {
        let spent = !self.spent.is_empty() && self.spent.contains(&id);
        let Some(tenant) = self.tenants.get_mut(id) else { return };
        let open = !spent && !tenant.open.is_empty() && !tenant.is_full();
        let bare = open && tenant.ready.is_empty();
        self.bare += usize::from(bare);
        self.bare -= usize::from(std::mem::replace(&mut tenant.is_bare, bare));
        if open == tenant.is_open {
            return;
        }
        if open {
            // Before, it had no plugin, no room or no fuel.
            self.comes_anew(id);
            self.look_again();
        }
        let tenant = self.tenants.of(id);
        tenant.is_open = open;
        let ranked = (tenant.had.sum, id);
        _ = if open { self.open.insert(ranked) } else { self.open.remove(&ranked) };
    }

    /// Tenants that had used up their fuel go on.
    pub(super) fn begin_periods(&mut self, now: Moment) {
        if self.spent.is_empty() {
            return;
        }
        for id in self.spent.clone() {
            if !self.tenants.get(id).is_some_and(|tenant| tenant.is_spent(now)) {
                self.spent.remove(&id);
                self.open_or_not(id);
            }
        }
    }

    /// When a batch has lingered, a tenant may go on or a gate opens: the next such moment, if it is ahead.
    pub(super) fn next_alarm(&mut self, now: Moment) -> Option<Millis> {
        let opening = if self.opening.is_empty() { None } else { self.next_opening(now) };
        let opening = opening.into_iter().chain(self.next_key_wake()).chain(self.leases.next_alarm()).min();
        if self.spent.is_empty() && self.batched.is_empty() {
            return opening;
        }
        let tenant = |id: &TenantId| self.tenants.get(*id);
        let periods = self.spent.iter().filter_map(|id| tenant(id)?.next_period(now));
        let batches = self.batched.iter().filter_map(|lane| {
            let tenant = tenant(&lane.tenant).filter(|tenant| tenant.open.contains(lane))?;
            let linger = tenant.batch(*lane)?.linger;
            tenant.lanes.get(lane)?.arrivals.lingered_at(linger).filter(|at| *at > now.uptime)
        });
        periods.chain(batches).chain(opening).min()
    }
}
