//! What meets on one job, or along one edge, in one batch or in two neighbouring ones.

use std::collections::{BTreeMap, HashMap};

use runner_store::job::{EventName, JobRef, StateName};
use runner_store::log::LogEntry;

/// What can meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Cancel,
    Crash,
    Retry,
    Delete,
    Settle,
}

/// Where it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Both on one job.
    Job,
    /// The first on a job, the second on one that waits for it, or did.
    Edge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Meeting {
    pub(crate) first: What,
    pub(crate) then: What,
    pub(crate) on: Place,
}

#[derive(Default)]
pub(super) struct Meetings {
    /// Of this batch, and of the one before.
    now: HashMap<JobRef, Vec<What>>,
    before: HashMap<JobRef, Vec<What>>,
    counts: BTreeMap<Meeting, u64>,
}

impl What {
    pub(crate) const ALL: [Self; 5] = [Self::Cancel, Self::Crash, Self::Retry, Self::Delete, Self::Settle];

    /// What an event is, by what it came from.
    fn of(entry: &LogEntry, before: Option<StateName>, by_boots: bool) -> Option<Self> {
        let ran = before == Some(StateName::Running);
        Some(match entry.event {
            EventName::Crashed => Self::Crash,
            EventName::Cancelled | EventName::Discarded if ran && by_boots => Self::Crash,
            EventName::Cancelled | EventName::CancelRequested => Self::Cancel,
            EventName::Retried => Self::Retry,
            EventName::Deleted => Self::Delete,
            EventName::Blocked => Self::Settle,
            EventName::Available | EventName::Scheduled if before == Some(StateName::Blocked) => Self::Settle,
            _ => return None,
        })
    }
}

impl Meeting {
    /// Where these two can meet in this order. Nothing follows a deletion on the same job. What was cancelled, crashed or
    /// run again by hand does not wait, so that nobody tells it anything.
    pub(crate) fn possible(first: What, then: What) -> Vec<Place> {
        use What::{Cancel, Crash, Delete, Retry, Settle};
        let on_job = match (first, then) {
            (Delete, _) | (_, Settle) => false,
            (Cancel, Crash | Retry | Delete) => true,
            (Crash, Cancel | Retry | Delete) => true,
            (Retry, Cancel | Crash | Delete) => true,
            (Settle, Cancel | Delete) => true,
            _ => false,
        };
        // Whoever waits does not run, so that it crashes batches later; whoever was told and lets others wait on has not
        // ended, so that only what ends it, or tells it more, has to do with them.
        let on_edge = then != Crash && (first != Settle || matches!(then, Cancel | Settle));
        [(on_job, Place::Job), (on_edge, Place::Edge)].into_iter().filter(|(can, _)| *can).map(|(_, on)| on).collect()
    }
}

impl Meetings {
    pub(super) fn counts(&self) -> BTreeMap<Meeting, u64> {
        self.counts.clone()
    }

    pub(super) fn next_batch(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    pub(super) fn see(&mut self, entry: &LogEntry, before: Option<StateName>, edges: &[JobRef], by_boots: bool) {
        let Some(then) = What::of(entry, before, by_boots) else { return };
        let places = std::iter::once((entry.job, Place::Job)).chain(edges.iter().map(|on| (*on, Place::Edge)));
        for (at, on) in places {
            let earlier = [&self.before, &self.now].into_iter().filter_map(|batch| batch.get(&at)).flatten();
            for first in earlier.copied().collect::<Vec<_>>() {
                *self.counts.entry(Meeting { first, then, on }).or_default() += 1;
            }
        }
        self.now.entry(entry.job).or_default().push(then);
    }
}
