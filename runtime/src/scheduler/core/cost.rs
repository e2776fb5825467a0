//! What tenants share the node by, and queues their tenant's part: not by runs but by what runs cost, so that neither who
//! computes much nor who sleeps long has more than the others.
//!
//! A run costs the fuel that it used, at [`FUEL_PER_MICRO`], or the time for which it was in its sandbox, whichever is more.
//! When it starts it counts as what runs of its lane cost lately, and when it has ended the difference is made good. Who
//! has had least goes first; who comes after a pause begins where the others are, so that nobody saves up turns. Where that
//! is, runs that go on say by how long they have, each up to what it counts as: after a moment in which all of the machine stood
//! still that is much too much.

use std::collections::BTreeMap;
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
/// Of a millisecond.
const MICROS: u64 = 1_000;
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

/// What a run counts as until its cost is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    pub(super) about: Cost,
    pub(super) began: Millis,
    /// What its queue weighed when it began.
    pub(super) weight: u32,
}

impl Counted {
    /// For its tenant.
    fn of_tenant(self) -> Self {
        Self { weight: WEIGHT, ..self }
    }

    fn share(self) -> u64 {
        scaled(self.about, self.weight)
    }

    /// When it will have gone on for as long as it counts as.
    fn lasts_until(self) -> Millis {
        Millis(self.began.0.saturating_add(self.about.0.div_ceil(MICROS)))
    }
}

/// What a tenant or a queue has had, by its weight.
#[derive(Debug, Clone, Default)]
pub(super) struct Had {
    /// With what its runs count as that go on: who has least goes first.
    pub(super) sum: u64,
    /// How many those are.
    pub(super) runs: u32,
    /// Those that have not gone on for as long as they count as, together and by when they will have. One by one: what has
    /// gone on for longer says nothing of the others, of which many may have waited for a thread.
    young: Young,
    young_until: BTreeMap<Millis, Young>,
}

/// Runs that have not gone on for as long as they count as.
#[derive(Debug, Clone, Copy, Default)]
struct Young {
    runs: u32,
    counted: u64,
    /// What they have had by a moment is this times the moment, less what it was when they began.
    pace: u64,
    before: u64,
}

impl Had {
    pub(super) fn starts(&mut self, run: Counted) {
        self.sum = self.sum.saturating_add(run.share());
        self.runs += 1;
        self.young.add(Young::of(run));
        self.young_until.entry(run.lasts_until()).or_default().add(Young::of(run));
    }

    pub(super) fn ends(&mut self, run: Counted, cost: Cost, weight: u32) {
        self.sum = self.sum.saturating_sub(run.share()).saturating_add(scaled(cost, weight));
        self.runs = self.runs.saturating_sub(1);
        let Some(until) = self.young_until.get_mut(&run.lasts_until()) else { return };
        until.sub(Young::of(run));
        if until.runs == 0 {
            self.young_until.remove(&run.lasts_until());
        }
        self.young.sub(Young::of(run));
    }

    /// Without runs: what comes on top.
    pub(super) fn charge(&mut self, cost: Cost, weight: u32) {
        self.sum = self.sum.saturating_add(scaled(cost, weight));
    }

    /// What it has had by now.
    pub(super) fn by(&mut self, now: Millis) -> u64 {
        while let Some(group) = self.young_until.first_entry().filter(|group| *group.key() <= now) {
            self.young.sub(group.remove());
        }
        let lasted = self.young.pace.saturating_mul(now.0).saturating_sub(self.young.before);
        self.sum.saturating_sub(self.young.counted.saturating_sub(lasted))
    }
}

impl Young {
    fn of(run: Counted) -> Self {
        let pace = scaled(Cost(MICROS), run.weight);
        Self { runs: 1, counted: run.share(), pace, before: pace.saturating_mul(run.began.0) }
    }

    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.counted = self.counted.saturating_add(other.counted);
        self.pace = self.pace.saturating_add(other.pace);
        self.before = self.before.saturating_add(other.before);
    }

    fn sub(&mut self, other: Self) {
        self.runs = self.runs.saturating_sub(other.runs);
        self.counted = self.counted.saturating_sub(other.counted);
        self.pace = self.pace.saturating_sub(other.pace);
        self.before = self.before.saturating_sub(other.before);
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
        let run = Counted { about, began: now, weight: tenant.ready.weight(lane.queue) };
        tenant.ready.start(lane.queue, run);
        let by_now = tenant.had.by(now);
        self.clock = self.clock.max(by_now);
        self.has_had(lane.tenant, |had| had.starts(run.of_tenant()));
        run
    }

    /// It has ended, and cost this.
    pub(super) fn cost_ends(&mut self, lane: Lane, run: Counted, cost: Cost) {
        let tenant = self.tenant(lane.tenant);
        if let Some(state) = tenant.lanes.get_mut(&lane.of_all_keys()) {
            state.lately.add(cost);
        }
        tenant.ready.end(lane.queue, run, cost);
        self.has_had(lane.tenant, |had| had.ends(run.of_tenant(), cost, WEIGHT));
    }

    /// A tenant has had so much more.
    pub(super) fn charge(&mut self, id: TenantId, cost: Cost) {
        if self.tenants.get(id).is_some() {
            self.has_had(id, |had| had.charge(cost, WEIGHT));
        }
    }

    /// A tenant that has had nothing to do for a while, or nothing that it may, begins where the others are, whatever it has that
    /// still runs: what it had no use for is not saved up. Whether it was before them.
    pub(super) fn comes_anew(&mut self, id: TenantId) -> bool {
        let Some(tenant) = self.tenants.get(id) else { return false };
        let clock = self.clock;
        let is_before = tenant.ready.is_empty() && tenant.had.sum < clock;
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
