//! The event log: what happened to every job, in one order, with what each event changed.
//!
//! The rows and indexes are the log's materialised state: the deltas of a job's events, applied one after another, give
//! its row ([`Fold`](crate::codec::Fold)), and each event names the digest of the row before and after it, so that a
//! log whose beginning was trimmed can still be checked.

use serde::{Deserialize, Serialize};

use crate::codec::{self, Row};
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
    /// The record of `event`, which made `after` of `before`; each with its row.
    #[must_use]
    pub fn new(at: Time, event: EventName, before: Option<(&Job, &Row)>, after: Option<(&Job, &Row)>) -> Self {
        let (some, _) = after.or(before).expect("an event has a job before or after it");
        let (old, new) = (before.map(|(_, row)| row), after.map(|(_, row)| row));
        Self {
            seq: Seq(0),
            at,
            job: some.at(),
            event,
            state: after.map(|(job, _)| job.state.name()),
            run: some.run,
            delta: new.map_or_else(Vec::new, |row| row.delta(old)),
            before: old.map_or(0, Row::digest),
            after: new.map_or(0, Row::digest),
        }
    }

    /// The bytes of the record at `seq`, without a copy of it.
    #[must_use]
    pub fn encoded_at(&self, seq: Seq) -> Vec<u8> {
        let Self { seq: _, at, job, event, state, run, delta, before, after } = self;
        codec::encode(&(seq, at, job, event, state, run, serde_bytes::Bytes::new(delta), before, after))
    }
}
