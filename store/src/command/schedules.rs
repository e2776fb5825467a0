//! What is asked of schedules.

use super::IdempotencyKey;
use crate::job::{JobKey, Time};
use crate::schedule::{Plan, ScheduleRef, Source};

/// See [`Command::Schedule`](super::Command::Schedule).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleCall {
    /// Which.
    pub at: ScheduleRef,
    /// What becomes of it.
    pub verb: ScheduleVerb,
}

/// What can become of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleVerb {
    /// It comes into being. One that is there already with the same plan, from the same source, stays as it is.
    Create(Plan, Source),
    /// It has another plan from now on. Whose word it is must be said, and is not changed by this.
    Edit {
        /// The plan.
        plan: Plan,
        /// Whose word that is.
        source: Source,
        /// The edition that the caller has seen; none: whichever there is.
        edits: Option<u32>,
    },
    /// Its slots do not fire until it is resumed.
    Pause,
    /// Its slots fire again, from now on.
    Resume,
    /// It is gone; its jobs stay. Said by this source.
    Delete(Source),
}

/// See [`Command::Fire`](super::Command::Fire).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fire {
    /// Which schedule.
    pub at: ScheduleRef,
    /// The edition of it that the caller has seen: the names below are that one's.
    pub edits: u32,
    /// The queue of its jobs.
    pub queue: String,
    /// Their kind.
    pub kind: String,
    /// Bytes of their args, each.
    pub args_bytes: usize,
    /// The key that stands in their args.
    pub key: Option<JobKey>,
    /// What is to become a job.
    pub what: Fired,
}

/// What is to become a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fired {
    /// Whoever asks wants one now, beside the slots; with a key the call is safe to repeat.
    ByHand(Option<IdempotencyKey>),
    /// These slots have come.
    Slots {
        /// Those that are to be jobs, in order, at most [`CATCH_UP_MAX`](crate::schedule::CATCH_UP_MAX).
        slots: Vec<Time>,
        /// Slots before them that nobody fired in time, and that are not made up for: how many, and the last one.
        missed: Option<(u64, Time)>,
        /// The last slot that this is about: it and all before it are decided.
        upto: Time,
    },
}
