//! The answers to commands.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Settings;
use crate::index::EndKey;
use crate::job::{Job, JobId, Rejection, StateName};
use crate::schedule::Schedule;
use crate::token::Token;

/// The answer to a [`Command`](super::Command).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The jobs of the list, in its order.
    Enqueued(Vec<Enqueued>),
    /// The claimed jobs, first to run first; fewer than asked for: there are no more (or thousands of the first had
    /// expired: they are discarded, as the counts then say). Whoever runs them reads their args from a snapshot, so that
    /// the writer does not.
    Claimed(Vec<Arc<Job>>),
    /// The job after a finish, or after an operator's verb; `changed` is false if it was so already.
    Job {
        /// The job as it is now.
        job: Arc<Job>,
        /// Whether the command changed anything.
        changed: bool,
    },
    /// A finish that may be repeated: the job, in the state that followed, and then those that it enqueued and that are there.
    Finished(Vec<Enqueued>),
    /// The jobs of a call, in the order of its runs; or why a run did not end by it, such as that it was stale.
    Call(Vec<Result<Arc<Job>, Rejection>>),
    /// The job is gone.
    Deleted,
    /// Runs of dead boots that were ended by this step.
    Ended {
        /// Handlers that may have been running: failed attempts.
        crashed: u32,
        /// Claimed, never started: untouched.
        interrupted: u32,
        /// Whether another step is needed.
        more: bool,
    },
    /// Jobs that became available.
    Due {
        /// How many.
        jobs: u32,
    },
    /// The first of the ids that were set aside.
    Reserved {
        /// The others follow it.
        first: JobId,
    },
    /// Nothing changed: a unique key is held by jobs whose args are to be merged with the new ones. The call is repeated
    /// with what the caller's side made of them.
    NeedsMerge(Vec<NeedsMerge>),
    /// The number of a name: of a tenant's name its [`TenantId`](crate::job::TenantId), of a plugin's its
    /// [`PluginId`](crate::job::PluginId).
    Named(u32),
    /// What was asked for is so.
    Done,
    /// Jobs that were run again because what they waited for is; those that wait for them have their own calls.
    Revived {
        /// Which.
        jobs: Vec<JobId>,
        /// Go on behind this one; none: that was all.
        next: Option<JobId>,
    },
    /// One step of a verb on many jobs.
    Bulk {
        /// Jobs that matched.
        matched: u32,
        /// Jobs that changed.
        changed: u32,
        /// Go on before this one; none: that was all.
        next: Option<JobId>,
    },
    /// Jobs that learned how what they waited for has ended.
    Settled {
        /// How many.
        jobs: u32,
        /// Whether another step is needed.
        more: bool,
    },
    /// Jobs that were enqueued for those who listen.
    Listened {
        /// How many.
        jobs: u32,
        /// How many were not, as their tenant or their queue had no room for them.
        refused: u32,
        /// Whether another step is needed: with no jobs and none refused, once there is room on the disk.
        more: bool,
    },
    /// What was removed.
    Swept {
        /// Finished jobs that were removed.
        removed: u32,
        /// Jobs that expired.
        expired: u32,
        /// Events that were trimmed.
        trimmed: u32,
        /// Whether another step is needed.
        more: bool,
        /// Where it goes on.
        after: Option<EndKey>,
    },
    /// What holds now.
    Set(Settings),
    /// The schedule as it is now.
    Schedule {
        /// The schedule.
        schedule: Box<Schedule>,
        /// Whether the command changed anything.
        changed: bool,
    },
    /// The jobs that a schedule made. Of slots that had been decided before, there are none.
    Fired(Vec<Enqueued>),
    /// The token as it is now, or, where it was revoked, as it was.
    Token(Box<Token>),
    /// Nothing changed, and why.
    Rejected(Rejection),
}

/// One accepted job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enqueued {
    /// Its id.
    pub id: JobId,
    /// Its state when it was accepted.
    pub state: StateName,
    /// Whether it was there before this call.
    pub duplicate: bool,
}

/// Args to be merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeedsMerge {
    /// Which job of the call.
    pub position: u32,
    /// Which job holds its key.
    pub holder: JobId,
    /// What the holder is now.
    pub version: u64,
    /// The holder's args.
    pub args: Vec<u8>,
}
