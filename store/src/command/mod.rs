//! Everything that can be asked of the store, as data: commands change it, one transaction for many of them;
//! queries read a consistent view. Replies and answers are data too.

mod bulk;
mod finish;
mod leases;
mod query;
mod records;
mod reply;
mod schedules;
mod settings;
mod subscriptions;
mod tokens;

use serde::{Deserialize, Serialize};

use crate::index::EndKey;
use crate::job::{BootId, Edit, JobId, JobRef, JobSpec, KeyHash, KindId, QueueId, RunNumber, RunSettings, TenantId};

pub use self::bulk::{Bulk, BulkVerb};
pub use self::finish::{Ended, Finish, FinishCall, KvWrite, KvWrites, Measured, Merged, Namespace, StagedJob};
pub use self::leases::{EndLeases, EndedLease, Leasing};
pub(crate) use self::query::OldestOfQueues;
pub use self::query::{
    About, Answer, Events, JobsPage, JobsQuery, KeyedLane, KeysInUse, KvKeysQuery, Oldest, Only, Query, Stored,
};
pub use self::records::{CountKey, Name, NameClass, Part, RunRecord, StagedFate, Total, TotalKey};
pub use self::reply::{Enqueued, NeedsMerge, Reply};
pub use self::schedules::{Fire, Fired, ScheduleCall, ScheduleVerb};
pub use self::settings::{
    FUEL_PERIOD_MIN, Fuel, Keep, KindSettings, Pause, QueueSettings, RATE_PER_MAX, Rate, Scope, Settings,
    StoreSettings, TenantSettings, WEIGHT_MAX,
};
pub use self::subscriptions::{Listener, PATTERNS_MAX, SUBSCRIPTIONS_MAX, Subscribe, Subscription, matches};
pub use self::tokens::{NewToken, TokenCall, TokenVerb};

/// Bounds of commands and answers.
pub mod limits {
    /// Jobs in one list: what one transaction takes without stalling the others.
    pub const LIST_JOBS_MAX: usize = 10_000;
    /// Runs that one claim takes.
    pub const CLAIM_RUNS_MAX: u32 = 1_024;
    /// Runs of one call: as many as one claim takes.
    pub const CALL_RUNS_MAX: usize = CLAIM_RUNS_MAX as usize;
    /// Jobs that become due in one step.
    pub const DUE_JOBS_MAX: u32 = 4_096;
    /// Runs of dead boots, or of workers that are gone, that are ended in one step.
    pub const ENDED_RUNS_MAX: u32 = 1_000;
    /// Jobs that learn in one step how what they waited for has ended.
    pub const SETTLED_JOBS_MAX: u32 = 1_000;
    /// Jobs that one step enqueues for those who listen to events, and bytes of their args; one job at least.
    pub const LISTENERS_MAX: u32 = 512;
    /// See [`LISTENERS_MAX`].
    pub const LISTENERS_BYTES_MAX: usize = 4 * 1024 * 1024;
    /// Jobs that one step of a bulk verb looks at.
    pub const BULK_JOBS_MAX: u32 = 1_000;
    /// Finished jobs, expired jobs and events, each, that one sweep looks at.
    pub const SWEPT_MAX: u32 = 2_048;
    /// Ids reserved at once.
    pub const RESERVED_IDS_MAX: u32 = 10_000;
    /// Queues of a tenant that have jobs, and kinds: who has as many uses those.
    pub const NAMES_IN_USE_MAX: u32 = 1_000;
    /// Counts of a tenant, by queue, kind and state, that are looked at to find how many names are in use: a tenant may have
    /// its jobs in so many ways that looking at all would hold up the others.
    pub const COUNTS_READ: usize = 20_000;
    /// Rows of one page of any answer.
    pub const PAGE_ROWS_MAX: u32 = 1_000;
    /// Priorities of one lane of which [`Query::Oldest`](super::Query::Oldest) reads the first job: each is a row.
    pub const PRIORITIES_READ: u32 = 64;
    /// Lanes of keys that the same looks at: there may be as many as jobs.
    pub const KEYED_LANES_READ: u32 = 10_000;
    /// An idempotency key.
    pub const KEY_BYTES_MAX: usize = 128;
    /// What the number of a line takes of that, see [`IdempotencyKey::of_line`](super::IdempotencyKey::of_line): two marks, up
    /// to 16 hexadecimal digits, and a mark.
    pub const KEY_LINE_BYTES: usize = 19;
}

/// A change that someone asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Accept a list of jobs, all or none.
    Enqueue(Enqueue),
    /// Take available jobs for runs.
    Claim(Claim),
    /// Take available jobs for runs of an external worker.
    Lease(Box<Leasing>),
    /// End runs of external workers whose leases have run out, up to [`limits::ENDED_RUNS_MAX`].
    EndLeases(Box<EndLeases>),
    /// Record how a run ended, and what it staged.
    Finish(Box<Finish>),
    /// Record how all runs of one call ended, each in its own way, and once what the call staged.
    FinishCall(Box<FinishCall>),
    /// Give back a run whose handler was never entered.
    HandBack(RunRef),
    /// End runs that boots other than the living one hold, up to [`limits::ENDED_RUNS_MAX`]; repeat until none is left.
    EndBoots(EndBoots),
    /// Make available what is due, up to [`limits::DUE_JOBS_MAX`].
    Due,
    /// Cancel a job; a running one is flagged.
    Cancel {
        /// Which.
        job: JobRef,
        /// Why, in someone's words.
        reason: Option<String>,
    },
    /// Release a held job.
    Release(JobRef),
    /// Run a job again.
    Retry {
        /// Which.
        job: JobRef,
        /// Without what an earlier run left to resume from.
        fresh: bool,
    },
    /// Run again those that were cancelled because of a job, in steps of up to [`limits::SETTLED_JOBS_MAX`], and those that
    /// were cancelled because of them with their own calls.
    Revive {
        /// Which.
        job: JobRef,
        /// Go on behind this one; none: from the first.
        after: Option<JobId>,
    },
    /// Change a job that neither runs nor has ended.
    Edit {
        /// Which.
        job: JobRef,
        /// How.
        edit: Box<Edit>,
    },
    /// Remove a job and everything about it.
    Delete {
        /// Which.
        job: JobRef,
        /// Also while it runs.
        force: bool,
        /// Also while others wait for it: their edges settle as deleted.
        cascade: bool,
    },
    /// Take exactly this job for a run, now, whatever it would wait for but dependencies and a hold. One that has expired
    /// is discarded instead: the answer has no job.
    Start {
        /// Which.
        job: JobRef,
        /// Who will run it.
        holder: BootId,
    },
    /// Keep what a later run may resume from, while the run goes on.
    Checkpoint {
        /// The run that speaks.
        run: RunRef,
        /// What to keep, up to [`CHECKPOINT_BYTES_MAX`](crate::job::limits::CHECKPOINT_BYTES_MAX).
        bytes: Vec<u8>,
    },
    /// One step of a verb on every job that a filter matches.
    Bulk(Box<Bulk>),
    /// Tell jobs how what they waited for has ended, up to [`limits::SETTLED_JOBS_MAX`]. The writer says this to itself.
    Settle,
    /// Enqueue those who listen to what has happened, up to [`limits::LISTENERS_MAX`]. The writer says this to itself.
    Listen,
    /// Remove what has been kept long enough, and discard what has expired. The writer says this to itself.
    Sweep(Sweep),
    /// Change what holds for the store, a tenant, a queue or a kind.
    Set(Box<Settings>),
    /// Replace what a tenant's kinds listen to: for all events from the answer on.
    Subscribe(Box<Subscribe>),
    /// Let jobs be claimed again after the store was restored.
    Resume,
    /// Make, change, pause or delete a schedule.
    Schedule(Box<ScheduleCall>),
    /// Make jobs of a schedule: of slots that have come, each once and for ever, or of none.
    Fire(Box<Fire>),
    /// Make, confirm or revoke a token, or note that it was used.
    Token(Box<TokenCall>),
    /// Give a name its number, for ever, or answer the one that it has. The names of queues and kinds get theirs with
    /// their first job; `default` is [`TenantId::DEFAULT`] from the first.
    Name(Name),
    /// Set ids aside for jobs that runs will stage.
    ReserveIds {
        /// How many, up to [`limits::RESERVED_IDS_MAX`].
        n: u32,
    },
}

/// See [`Command::Enqueue`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueue {
    /// Whose jobs.
    pub tenant: TenantId,
    /// Makes the call safe to repeat.
    pub key: Option<IdempotencyKey>,
    /// The jobs, 1 to [`limits::LIST_JOBS_MAX`].
    pub jobs: Vec<JobSpec>,
    /// What the caller's side made of args that had to be merged: the answers to [`Reply::NeedsMerge`].
    pub merged: Vec<Merged>,
}

impl Enqueue {
    /// A call without a key.
    #[must_use]
    pub fn new(tenant: TenantId, jobs: Vec<JobSpec>) -> Self {
        Self { tenant, key: None, jobs, merged: Vec::new() }
    }
}

/// See [`Command::Sweep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// Go on among the finished jobs after this one; none: from the first.
    pub after: Option<EndKey>,
    /// How many jobs may be removed, expire, be forgotten: of each, up to [`limits::SWEPT_MAX`]; and four times as many
    /// events.
    pub budget: u32,
}

/// A caller's own name for a call: repeated with the same request, it answers the same and does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The name, up to [`limits::KEY_BYTES_MAX`].
    pub key: String,
    /// SHA-256 of the request as it was made, before defaults and relative times.
    pub request: [u8; 32],
}

impl IdempotencyKey {
    /// The key of one line of a stream that came with `key`. As it begins with a zero, no caller's key is like it, which is of
    /// visible characters; and the number ends before the caller's part begins, so no line of another stream's is, either.
    #[must_use]
    pub fn of_line(key: &str, line: u64, request: [u8; 32]) -> Self {
        Self { key: format!("\0#{line:x}/{key}"), request }
    }
}

/// See [`Command::Claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who will run them.
    pub holder: BootId,
    /// Runs in all, up to [`limits::CLAIM_RUNS_MAX`].
    pub max: u32,
    /// From where; what comes first by (priority, `run_at`, id) among all heads is taken first.
    pub grants: Vec<Grant>,
}

/// How many runs a lane may start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Which lane.
    pub lane: Lane,
    /// How many.
    pub max: u32,
}

/// The ordered jobs of one tenant, queue and kind that are available now. Suspects stand in lanes of their own, so that
/// they can be started one at a time; and so do the jobs of each key, so that a key that is at its limit is passed over as a
/// whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lane {
    /// Whose.
    pub tenant: TenantId,
    /// Which queue.
    pub queue: QueueId,
    /// Which kind.
    pub kind: KindId,
    /// Whether these are the jobs that a crash stands behind.
    pub suspect: bool,
    /// Their key; [`KeyHash::NONE`]: they have none.
    pub key: KeyHash,
    /// Whether these are the jobs of a key that have run before: they go before the others of their key, where these run in
    /// order. Never so without a key.
    pub again: bool,
}

impl Lane {
    /// The lane of jobs without a key and without a crash behind them.
    #[must_use]
    pub fn new(tenant: TenantId, queue: QueueId, kind: KindId) -> Self {
        Self { tenant, queue, kind, suspect: false, key: KeyHash::NONE, again: false }
    }

    /// The lane in whose place lanes of keys stand; of jobs without a key, the lane itself.
    #[must_use]
    pub fn of_all_keys(self) -> Self {
        Self { key: KeyHash::NONE, again: false, ..self }
    }
}

/// One run of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunRef {
    /// Which job.
    pub at: JobRef,
    /// Which of its runs.
    pub run: RunNumber,
}

/// See [`Command::EndBoots`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndBoots {
    /// The boot whose runs go on.
    pub living: BootId,
    /// Runs whose handler may have been running when their boot died.
    pub started: Vec<RunRef>,
    /// What holds for kinds whose jobs state nothing of their own; others get the defaults.
    pub settings: Vec<(KindId, RunSettings)>,
}
