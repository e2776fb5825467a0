//! The event log: what happened to every job, in one order, with what each event changed.
//!
//! The rows and indexes are the log's materialised state: the deltas of a job's events, applied one after another, give
//! its row ([`Fold`](crate::codec::Fold)), and each event names the digest of the row before and after it, so that a
//! log whose beginning was trimmed can still be checked.

use serde::{Deserialize, Serialize};

use crate::codec::Row;
use crate::job::{EventName, Job, JobRef, RunNumber, Seq, StateName, Time};

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its place.
    pub seq: Seq,
    /// When it happened, by the store's clock.
    pub at: Time,
    /// To which job.
    pub job: JobRef,
    /// What.
    pub event: EventName,
    /// The job's state afterwards; none if it is gone.
    pub state: Option<StateName>,
    /// The job's latest run at that time.
    pub run: RunNumber,
    /// The changed fields of the row; see [`Row::delta`].
    #[serde(with = "serde_bytes")]
    pub delta: Vec<u8>,
    /// Digest of the row before; 0 if there was none.
    pub before: u64,
    /// Digest of the row after; 0 if there is none.
    pub after: u64,
}

impl LogEntry {
    /// The record of `event`, which made `after` of `before`.
    #[must_use]
    pub fn new(at: Time, event: EventName, before: Option<&Job>, after: Option<&Job>) -> Self {
        let some = after.or(before).expect("an event has a job before or after it");
        let (old, new) = (before.map(Row::of), after.map(Row::of));
        Self {
            seq: Seq(0),
            at,
            job: some.at(),
            event,
            state: after.map(|job| job.state.name()),
            run: some.run,
            delta: new.as_ref().map_or_else(Vec::new, |row| row.delta(old.as_ref())),
            before: old.as_ref().map_or(0, Row::digest),
            after: new.as_ref().map_or(0, Row::digest),
        }
    }
}
