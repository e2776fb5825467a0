//! What tenants share the node by, and queues their tenant's part: not by runs but by what runs cost, so that neither who
//! computes much nor who sleeps long has more than the others.
//!
//! A run costs the fuel that it used, at [`FUEL_PER_MICRO`], or the time for which it was in its sandbox, whichever is more.
//! When it starts it counts as what runs of its lane cost lately, and when it has ended the difference is made good. Who
//! has had least goes first; who comes after a pause begins where the others are, so that nobody saves up turns.

use std::num::NonZeroU64;
use std::time::Duration;

use runner_store::command::Lane;
use runner_store::job::TenantId;

use super::Core;

/// 10 G a second.
const FUEL_PER_MICRO: u64 = 10_000;
/// What any run costs, at least: what it takes to make and drop its sandbox.
const LEAST: Cost = Cost(10);
/// What a run costs of which nothing is known yet.
pub(super) const UNKNOWN: Cost = Cost(1_000);
/// Weights divide what was had: below this they would be lost.
const SCALE: i64 = 1_000;
/// How much the last run counts in what runs cost lately: an eighth.
const LATELY: u64 = 8;

/// Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Cost(u64);

impl Cost {
    /// Of a run that used so much.
    pub(super) fn of(fuel: u64, took: Duration) -> Self {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Self(took.max(fuel / FUEL_PER_MICRO)).max(LEAST)
    }

    pub(super) fn micros(self) -> u64 {
        self.0
    }
}

/// Of several lanes; without any, that of a run of which nothing is known.
pub(super) fn mean(costs: impl Iterator<Item = Cost>) -> Cost {
    let (sum, n) = costs.fold((0_u64, 0), |(sum, n), cost| (sum.saturating_add(cost.0), n + 1));
    sum.checked_div(n).map_or(UNKNOWN, Cost)
}

/// The mean of what runs cost lately; none: of which nothing is known yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lately(Option<NonZeroU64>);

impl Lately {
    pub(super) fn cost(self) -> Cost {
        self.0.map_or(UNKNOWN, |mean| Cost(mean.get()))
    }

    pub(super) fn add(&mut self, cost: Cost) {
        let mean = self.0.map_or(cost.0, |mean| mean.get() - mean.get() / LATELY + cost.0 / LATELY);
        self.0 = NonZeroU64::new(mean.max(LEAST.0));
    }
}

pub(super) fn signed(cost: Cost) -> i64 {
    i64::try_from(cost.0).unwrap_or(i64::MAX)
}

/// With places behind the point.
pub(super) fn scaled(cost: i64) -> i64 {
    cost.saturating_mul(SCALE)
}

impl Core {
    /// A run of a lane has started: what it will cost, about, is its tenant's and its queue's.
    pub(super) fn cost_starts(&mut self, lane: Lane) -> Cost {
        let tenant = self.tenant(lane.tenant);
        let about = tenant.lanes.get(&lane.of_all_keys()).map_or(UNKNOWN, |state| state.lately.cost());
        let had = tenant.had;
        tenant.ready.start(lane.queue, about);
        self.clock = self.clock.max(had);
        self.charge(lane.tenant, signed(about));
        about
    }

    /// It has ended, and cost this.
    pub(super) fn cost_ends(&mut self, lane: Lane, about: Cost, cost: Cost) {
        let more = signed(cost).saturating_sub(signed(about));
        let tenant = self.tenant(lane.tenant);
        if let Some(state) = tenant.lanes.get_mut(&lane.of_all_keys()) {
            state.lately.add(cost);
        }
        tenant.ready.end(lane.queue, more);
        self.charge(lane.tenant, more);
    }

    /// A tenant has had so much more, or less, and its rank with it.
    pub(super) fn charge(&mut self, id: TenantId, cost: i64) {
        if let Some(tenant) = self.tenants.get(id) {
            self.has_had(id, tenant.had.saturating_add_signed(scaled(cost)));
        }
    }

    /// A tenant that has had nothing to do for a while, or nothing that it may, begins where the others are. Whether it was
    /// before them.
    pub(super) fn comes_anew(&mut self, id: TenantId) -> bool {
        let Some(tenant) = self.tenants.get(id) else { return false };
        let is_before = tenant.running == 0 && tenant.ready.is_empty() && tenant.had < self.clock;
        if is_before {
            self.has_had(id, self.clock);
        }
        is_before
    }

    fn has_had(&mut self, id: TenantId, had: u64) {
        let tenant = self.tenants.of(id);
        let was = std::mem::replace(&mut tenant.had, had);
        for (ranked, stands) in [(&mut self.open, tenant.is_open), (&mut self.waiting, tenant.waits)] {
            if stands && was != had {
                ranked.remove(&(was, id));
                ranked.insert((had, id));
            }
        }
    }
}
