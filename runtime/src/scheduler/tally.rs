//! What has run on a node since it started, in figures: by queue and kind.
//!
//! The scheduler's thread owns them and adds to them as calls start and leave their slots, so no run waits for a lock or
//! shares a counter with another. Whoever shows them asks the scheduler for a copy. What workers elsewhere run is not here.

use std::collections::HashMap;
use std::time::Duration;

use runner_store::command::Lane;
use runner_store::figures::{Histogram, LANES_MAX};
use runner_store::job::{KindId, Millis, OutcomeName, QueueId, TenantId};

/// Milliseconds from when a job was due until its handler was entered.
const WAIT_MS: &[u64] =
    &[1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 3_600_000];
/// Microseconds of a call: from the quickest handlers to those that take their hour.
const RUN_MICROS: &[u64] = &[
    10,
    25,
    50,
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    3_600_000_000,
];

/// A tenant's jobs of one queue and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Of {
    /// Whose.
    pub tenant: TenantId,
    /// Which queue.
    pub queue: QueueId,
    /// Which kind.
    pub kind: KindId,
}

/// What became of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Runs whose handler was to be entered.
    pub started: u64,
    /// Runs that ended so, in the order of [`OutcomeName::ALL`].
    pub finished: [u64; OutcomeName::ALL.len()],
    /// Milliseconds from when a job was due – enqueued, or its `run_at` if that is later – until its handler was entered.
    pub wait_ms: Histogram,
    /// Microseconds of calls in their sandbox.
    pub run_micros: Histogram,
    /// Fuel of their handlers.
    pub fuel: u64,
    /// The most memory that one of them held at once.
    pub memory_peak_bytes: u64,
}

/// How one run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) outcome: OutcomeName,
    pub(crate) waited: Millis,
    pub(crate) fuel: u64,
    pub(crate) memory_peak_bytes: u64,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    of: Vec<(Of, Ran)>,
    places: HashMap<Of, usize>,
    /// Where the last one was found: calls of one lane come one behind another.
    last: usize,
}

impl From<Lane> for Of {
    fn from(Lane { tenant, queue, kind, suspect: _, key: _, again: _ }: Lane) -> Self {
        Self { tenant, queue, kind }
    }
}

impl Default for Ran {
    fn default() -> Self {
        Self {
            started: 0,
            finished: [0; OutcomeName::ALL.len()],
            wait_ms: Histogram::new(WAIT_MS),
            run_micros: Histogram::new(RUN_MICROS),
            fuel: 0,
            memory_peak_bytes: 0,
        }
    }
}

impl Ran {
    /// Adds what others did.
    pub fn add(&mut self, other: &Self) {
        self.started += other.started;
        self.finished.iter_mut().zip(other.finished).for_each(|(sum, more)| *sum += more);
        self.wait_ms.add(&other.wait_ms);
        self.run_micros.add(&other.run_micros);
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.memory_peak_bytes = self.memory_peak_bytes.max(other.memory_peak_bytes);
    }
}

impl Tally {
    /// Everything, in no order.
    pub fn all(&self) -> impl Iterator<Item = (Of, &Ran)> {
        self.of.iter().map(|(of, ran)| (*of, ran))
    }

    /// So many runs start.
    pub(super) fn started(&mut self, of: Of, runs: u64) {
        if let Some(ran) = self.at(of) {
            ran.started += runs;
        }
    }

    /// A call has left its slot, with all of its runs.
    pub(super) fn ended(&mut self, of: Of, took: Option<Duration>, ends: impl Iterator<Item = End>) {
        let Some(ran) = self.at(of) else { return };
        if let Some(took) = took {
            ran.run_micros.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
        for End { outcome, waited, fuel, memory_peak_bytes } in ends {
            ran.finished[outcome as usize] += 1;
            ran.wait_ms.record(waited.0);
            ran.fuel = ran.fuel.saturating_add(fuel);
            ran.memory_peak_bytes = ran.memory_peak_bytes.max(memory_peak_bytes);
        }
    }

    /// None: there are as many as may be, and this is another one.
    fn at(&mut self, of: Of) -> Option<&mut Ran> {
        if self.of.get(self.last).is_none_or(|(last, _)| *last != of) {
            self.last = match self.places.get(&of) {
                Some(place) => *place,
                None if self.of.len() >= LANES_MAX => return None,
                None => {
                    self.of.push((of, Ran::default()));
                    self.places.insert(of, self.of.len() - 1);
                    self.of.len() - 1
                }
            };
        }
        self.of.get_mut(self.last).map(|(_, ran)| ran)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: u32) -> Of {
        Of { tenant: TenantId::DEFAULT, queue: QueueId(1), kind: KindId(kind) }
    }

    fn end(outcome: OutcomeName, fuel: u64) -> End {
        End { outcome, waited: Millis(3), fuel, memory_peak_bytes: fuel * 2 }
    }

    #[test]
    fn runs_are_counted_by_what_they_are_of_and_how_they_ended() {
        let mut tally = Tally::default();
        tally.started(of(1), 2);
        tally.started(of(2), 1);
        tally.ended(
            of(1),
            Some(Duration::from_micros(70)),
            [end(OutcomeName::Completed, 5), end(OutcomeName::Failed, 4)].into_iter(),
        );
        tally.ended(of(2), None, [end(OutcomeName::PluginBroken, 0)].into_iter());
        let mut sum = Ran::default();
        for (_, ran) in tally.all() {
            sum.add(ran);
        }
        let finished = |name: OutcomeName| sum.finished[name as usize];
        assert_eq!(OutcomeName::ALL.map(|name| name as usize), std::array::from_fn(|i| i), "names are places");
        assert_eq!((sum.started, finished(OutcomeName::Completed), finished(OutcomeName::PluginBroken)), (3, 1, 1));
        assert_eq!((sum.fuel, sum.memory_peak_bytes), (9, 10));
        assert_eq!((sum.wait_ms.count(), sum.run_micros.count(), sum.run_micros.sum()), (3, 1, 70));
    }

    #[test]
    fn there_is_an_end_to_what_is_told_apart() {
        let mut tally = Tally::default();
        let many = u32::try_from(LANES_MAX).unwrap() + 2;
        for kind in 0..many {
            tally.started(of(kind), 1);
        }
        tally.started(of(0), 1);
        assert_eq!(tally.all().map(|(_, ran)| ran.started).sum::<u64>(), u64::from(many) - 1);
    }
}
