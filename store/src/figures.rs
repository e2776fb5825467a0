//! What the writer has done since the store was opened, in figures: for whoever watches a node.
//!
//! The writer adds to them once a batch, and whoever asks gets a copy. They are kept in memory, and begin anew with each
//! start. What they deliberately leave out is what a program that embeds the store commits by itself.

use std::collections::HashMap;
use std::time::Duration;

use crate::command::Lane;
use crate::engine::Change;
use crate::job::{EventName, TenantId};

/// Lanes that are told apart; what is enqueued in others counts as nobody's. More than a node has that anyone looks at.
pub const LANES_MAX: usize = 10_000;
/// Tenants whose events are counted: 136 bytes each.
pub const TENANTS_MAX: usize = 10_000;
/// Commands in a batch.
const BATCH_COMMANDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048];
/// Microseconds of a commit: from an idle disk of the best kind to one that stalls.
const COMMIT_MICROS: &[u64] = &[
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
];

/// How often values fell into ranges. Values are whole numbers of some unit; who shows them knows which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    /// The upper bounds, inclusive and ascending; beyond the last one there is a range without an end.
    bounds: &'static [u64],
    counts: Box<[u64]>,
    sum: u64,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Commands of callers in a batch.
    pub batch_commands: Histogram,
    /// Microseconds from a batch's first read until it was durable, of those that changed something.
    pub commit_micros: Histogram,
    /// Jobs that were enqueued, by lane.
    pub enqueued: HashMap<Lane, u64>,
    /// Those of lanes beyond [`LANES_MAX`].
    pub enqueued_elsewhere: u64,
    /// What happened to jobs, by tenant: as often as each of [`EventName::ALL`], in that order. Tenants beyond
    /// [`TENANTS_MAX`] are not here.
    pub happened: HashMap<TenantId, Happened>,
}

/// How often each of [`EventName::ALL`] happened, in that order.
pub type Happened = [u64; EventName::ALL.len()];

impl Histogram {
    /// An empty one with these bounds.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1].into(), sum: 0 }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        let range = self.bounds.partition_point(|bound| *bound < value);
        self.counts[range] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Adds another one with the same bounds.
    pub fn add(&mut self, other: &Self) {
        assert_eq!(self.bounds, other.bounds, "only what has the same ranges adds up");
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// The bounds, and how many values were at or below each.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut below = 0;
        self.bounds.iter().zip(&self.counts).map(move |(bound, count)| {
            below += count;
            (*bound, below)
        })
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            batch_commands: Histogram::new(BATCH_COMMANDS),
            commit_micros: Histogram::new(COMMIT_MICROS),
            enqueued: HashMap::new(),
            enqueued_elsewhere: 0,
            happened: HashMap::new(),
        }
    }
}

impl Figures {
    /// Learns what one batch did.
    pub(crate) fn add_batch(&mut self, commands: usize, changes: &[Change], took: Duration) {
        if commands > 0 {
            self.batch_commands.record(commands as u64);
        }
        if changes.is_empty() {
            return;
        }
        self.commit_micros.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        // Jobs that are enqueued together are of one lane, as a rule: that is looked up once.
        let mut last: Option<(Lane, u64)> = None;
        for change in changes {
            if let Change::Event(entry) = change {
                self.add_event(entry.job.tenant, entry.event);
            }
            let Change::Job { before: None, after: Some(job), .. } = change else { continue };
            let lane = crate::index::lane(job);
            match &mut last {
                Some((of, jobs)) if *of == lane => *jobs += 1,
                _ => {
                    if let Some((lane, jobs)) = last.replace((lane, 1)) {
                        self.add_enqueued(lane, jobs);
                    }
                }
            }
        }
        if let Some((lane, jobs)) = last {
            self.add_enqueued(lane, jobs);
        }
    }

    fn add_event(&mut self, tenant: TenantId, event: EventName) {
        let full = self.happened.len() >= TENANTS_MAX;
        match self.happened.get_mut(&tenant) {
            Some(happened) => happened[event as usize] += 1,
            None if full => {}
            None => self.happened.entry(tenant).or_default()[event as usize] += 1,
        }
    }

    fn add_enqueued(&mut self, lane: Lane, jobs: u64) {
        let full = self.enqueued.len() >= LANES_MAX;
        match self.enqueued.get_mut(&lane) {
            Some(sum) => *sum += jobs,
            None if full => self.enqueued_elsewhere += jobs,
            None => _ = self.enqueued.insert(lane, jobs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_at_its_bound_and_above() {
        let mut histogram = Histogram::new(&[1, 10]);
        [0, 1, 2, 10, 11, u64::MAX].into_iter().for_each(|value| histogram.record(value));
        assert_eq!(histogram.ranges().collect::<Vec<_>>(), [(1, 2), (10, 4)]);
        assert_eq!((histogram.count(), histogram.sum()), (6, u64::MAX));
        let mut both = Histogram::new(&[1, 10]);
        both.record(5);
        both.add(&histogram);
        assert_eq!((both.count(), both.ranges().last()), (7, Some((10, 5))));
    }
}
