//! What tenants share the node by, and queues their tenant's part: not by runs but by what runs cost, so that neither who
//! computes much nor who sleeps long has more than the others.
//!
//! A run costs the fuel that it used, at [`FUEL_PER_MICRO`], or the time for which it was in its sandbox, whichever is more.
//! When it starts it counts as what runs of its lane cost lately, and when it has ended the difference is made good. Who
//! has had least goes first; who comes after a pause begins where the others are, so that nobody saves up turns. Where that
//! is, runs that go on say by how long they have, not by what they count as: after a moment in which all of the machine stood
//! still that is much too much.

use std::num::NonZeroU64;
use std::time::Duration;

use runner_store::command::Lane;
use runner_store::job::{Millis, TenantId};

use super::Core;

/// 10 G a second.
const FUEL_PER_MICRO: u64 = 10_000;
/// What any run costs, at least: what it takes to make and drop its sandbox.
const LEAST: Cost = Cost(10);
/// What a run costs of which nothing is known yet.
pub(super) const UNKNOWN: Cost = Cost(1_000);
/// Weights divide what was had: below this they would be lost.
const SCALE: u64 = 1_000;
/// Tenants share alike.
const WEIGHT: u32 = 1;
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

/// What a run counts as until its cost is known, and since when.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counted {
    pub(super) about: Cost,
    pub(super) began: Millis,
}

/// What a tenant or a queue has had, by its weight.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Had {
    /// With what its runs count as that go on: who has least goes first.
    pub(super) sum: u64,
    /// What those count as, how many they are, and the sum of the times at which they began.
    counted: u64,
    runs: u32,
    began: u64,
}

impl Had {
    pub(super) fn starts(&mut self, run: Counted, weight: u32) {
        let about = scaled(run.about, weight);
        self.sum = self.sum.saturating_add(about);
        self.counted = self.counted.saturating_add(about);
        self.runs += 1;
        self.began = self.began.saturating_add(run.began.0);
    }

    pub(super) fn ends(&mut self, run: Counted, cost: Cost, weight: u32) {
        let about = scaled(run.about, weight);
        self.sum = self.sum.saturating_sub(about).saturating_add(scaled(cost, weight));
        self.runs = self.runs.saturating_sub(1);
        (self.counted, self.began) = match self.runs {
            // Also where the weight was another one when they began.
            0 => (0, 0),
            _ => (self.counted.saturating_sub(about), self.began.saturating_sub(run.began.0)),
        };
    }

    /// Without runs: what comes on top.
    pub(super) fn charge(&mut self, cost: Cost, weight: u32) {
        self.sum = self.sum.saturating_add(scaled(cost, weight));
    }

    /// What it has had by now: of runs that go on the time for which they have, but no more than they count as, as they may
    /// have waited for a thread.
    pub(super) fn by(&self, now: Millis, weight: u32) -> u64 {
        let lasted = (u64::from(self.runs) * now.0).saturating_sub(self.began);
        let lasted = scaled(Cost(lasted.saturating_mul(1_000)), weight);
        self.sum.saturating_sub(self.counted.saturating_sub(lasted))
    }
}

/// With places behind the point.
fn scaled(cost: Cost, weight: u32) -> u64 {
    cost.0.saturating_mul(SCALE) / u64::from(weight)
}

impl Core {
    /// A run of a lane has started: what it will cost, about, is its tenant's and its queue's.
    pub(super) fn cost_starts(&mut self, lane: Lane, now: Millis) -> Counted {
        let tenant = self.tenant(lane.tenant);
        let about = tenant.lanes.get(&lane.of_all_keys()).map_or(UNKNOWN, |state| state.lately.cost());
        let run = Counted { about, began: now };
        tenant.ready.start(lane.queue, run);
        let by_now = tenant.had.by(now, WEIGHT);
        self.clock = self.clock.max(by_now);
        self.has_had(lane.tenant, |had| had.starts(run, WEIGHT));
        run
    }

    /// It has ended, and cost this.
    pub(super) fn cost_ends(&mut self, lane: Lane, run: Counted, cost: Cost) {
        let tenant = self.tenant(lane.tenant);
        if let Some(state) = tenant.lanes.get_mut(&lane.of_all_keys()) {
            state.lately.add(cost);
        }
        tenant.ready.end(lane.queue, run, cost);
        self.has_had(lane.tenant, |had| had.ends(run, cost, WEIGHT));
    }

    /// A tenant has had so much more.
    pub(super) fn charge(&mut self, id: TenantId, cost: Cost) {
        if self.tenants.get(id).is_some() {
            self.has_had(id, |had| had.charge(cost, WEIGHT));
        }
    }

    /// A tenant that has had nothing to do for a while, or nothing that it may, begins where the others are. Whether it was
    /// before them.
    pub(super) fn comes_anew(&mut self, id: TenantId) -> bool {
        let Some(tenant) = self.tenants.get(id) else { return false };
        let clock = self.clock;
        let is_before = tenant.running == 0 && tenant.ready.is_empty() && tenant.had.sum < clock;
        if is_before {
            self.has_had(id, |had| had.sum = clock);
        }
        is_before
    }

    /// What a tenant has had becomes another, and its rank with it.
    fn has_had(&mut self, id: TenantId, becomes: impl FnOnce(&mut Had)) {
        let tenant = self.tenants.of(id);
        let was = tenant.had.sum;
        becomes(&mut tenant.had);
        let had = tenant.had.sum;
        for (ranked, stands) in [(&mut self.open, tenant.is_open), (&mut self.waiting, tenant.waits)] {
            if stands && was != had {
                ranked.remove(&(was, id));
                ranked.insert((had, id));
            }
        }
    }
}
