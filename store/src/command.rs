//! Everything that can be asked of the store, as data: commands change it, one transaction for many of them;
//! queries read a consistent view. Replies and answers are data too.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::job::{
    BootId, Edit, Job, JobId, JobRef, JobSpec, KindId, Outcome, OutcomeName, QueueId, Rejection, RunNumber,
    RunSettings, Seq, StateName, TenantId, Time,
};
use crate::log::LogEntry;

/// Bounds of commands and answers.
pub mod limits {
    /// Jobs in one list: what one transaction takes without stalling the others.
    pub const LIST_JOBS_MAX: usize = 10_000;
    /// Runs that one claim takes.
    pub const CLAIM_RUNS_MAX: u32 = 1_024;
    /// Jobs that become due in one step.
    pub const DUE_JOBS_MAX: u32 = 4_096;
    /// Runs of dead boots that are ended in one step.
    pub const ENDED_RUNS_MAX: u32 = 1_000;
    /// Ids reserved at once.
    pub const RESERVED_IDS_MAX: u32 = 10_000;
    /// Rows of one page of any answer.
    pub const PAGE_ROWS_MAX: u32 = 1_000;
    /// An idempotency key.
    pub const KEY_BYTES_MAX: usize = 128;
}

/// A change that someone asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Accept a list of jobs, all or none.
    Enqueue(Enqueue),
    /// Take available jobs for runs.
    Claim(Claim),
    /// Record how a run ended, and what it staged.
    Finish(Box<Finish>),
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
    Retry(JobRef),
    /// Change a job that neither runs nor has ended.
    Edit {
        /// Which.
        job: JobRef,
        /// How.
        edit: Edit,
    },
    /// Remove a job and everything about it.
    Delete {
        /// Which.
        job: JobRef,
        /// Also while it runs.
        force: bool,
    },
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
}

/// A caller's own name for a call: repeated with the same request, it answers the same and does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The name, up to [`limits::KEY_BYTES_MAX`].
    pub key: String,
    /// SHA-256 of the request as it was made, before defaults and relative times.
    pub request: [u8; 32],
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
/// they can be started one at a time.
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
}

/// One run of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunRef {
    /// Which job.
    pub at: JobRef,
    /// Which of its runs.
    pub run: RunNumber,
}

/// See [`Command::Finish`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// The run that speaks.
    pub run: RunRef,
    /// How it ended.
    pub outcome: Outcome,
    /// What holds where the job states nothing of its own.
    pub settings: RunSettings,
    /// What the record of the run keeps.
    pub measured: Measured,
    /// Jobs to enqueue with it, if it completed, snoozed or was discarded by its handler. Their ids were reserved.
    pub staged: Vec<StagedJob>,
    /// What a later run may resume from; none: unchanged.
    pub checkpoint: Option<Vec<u8>>,
}

/// A job that a run enqueues with its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedJob {
    /// A reserved id.
    pub id: JobId,
    /// The job.
    pub spec: JobSpec,
}

/// What the runtime measured of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measured {
    /// When the handler was entered.
    pub started_at: Option<Time>,
    /// When it was left; none: when that is recorded.
    pub finished_at: Option<Time>,
    /// Fuel used.
    pub fuel: u64,
    /// The most linear memory held at once.
    pub memory_peak_bytes: u64,
    /// SHA-256 of the plugin that ran.
    pub plugin: Option<[u8; 32]>,
    /// The last progress that the handler reported: 0 to 100, and its words.
    pub progress: Option<(u8, String)>,
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

/// The answer to a [`Command`].
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

/// The parts of a job that live apart from its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Part {
    /// What the handler gets.
    Args = 0,
    /// What the handler returned.
    Output = 1,
    /// What a later run resumes from.
    Checkpoint = 2,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 3] = [Self::Args, Self::Output, Self::Checkpoint];
}

/// How a run went. The last [`RUNS_KEPT`](crate::job::limits::RUNS_KEPT) of a job are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Which run.
    pub run: RunNumber,
    /// When its handler was entered; none if it never was.
    pub started_at: Option<Time>,
    /// When its handler was left; where that is not known, when its end was recorded.
    pub finished_at: Time,
    /// How it ended.
    pub outcome: OutcomeName,
    /// Why it did not complete; cut at 16 KiB.
    pub error: Option<String>,
    /// The guest's frames; cut at 64 KiB.
    pub trace: Option<String>,
    /// Fuel used.
    pub fuel: u64,
    /// The most linear memory held at once.
    pub memory_peak_bytes: u64,
    /// SHA-256 of the plugin that ran.
    pub plugin: Option<[u8; 32]>,
    /// The boot that held the run.
    pub node: Option<BootId>,
    /// The last progress that the handler reported: 0 to 100, and its words, cut at 256 bytes.
    pub progress: Option<(u8, String)>,
}

/// What a name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum NameClass {
    /// A queue.
    Queue = 0,
    /// A kind.
    Kind = 1,
}

/// A name within a tenant. It stands for a number, for ever, so that keys have fixed widths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    /// Whose.
    pub tenant: TenantId,
    /// Of what.
    pub class: NameClass,
    /// The word.
    pub name: String,
}

/// What is counted: maintained as differences, never scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CountKey {
    /// Tenant, queue, kind, and whether the jobs are suspects.
    pub lane: Lane,
    /// Their state.
    pub state: StateName,
}

/// A question about a consistent view. Every answer is a bounded page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// One job.
    Job(JobRef),
    /// A part of a job that lives apart from its row.
    Payload(JobRef, Part),
    /// The records of a job's runs, first run first.
    Runs(JobRef),
    /// A page of a tenant's jobs, newest first.
    Jobs(JobsQuery),
    /// How many jobs there are, by tenant, queue, kind and state.
    Counts,
    /// Every name and its number.
    Names,
    /// A page of the log, from this number on.
    Events {
        /// The first number wanted.
        since: Seq,
        /// How many at most.
        limit: u32,
    },
    /// When the next job becomes due.
    NextDue,
    /// The answer to an accepted call with this idempotency key, until when it is remembered and what it was.
    Key(TenantId, String),
}

/// See [`Query::Jobs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobsQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Only of this state.
    pub state: Option<StateName>,
    /// Only of this queue.
    pub queue: Option<QueueId>,
    /// Only of this kind.
    pub kind: Option<KindId>,
    /// Only jobs before this id: the last of the page before.
    pub before: Option<JobId>,
    /// How many at most.
    pub limit: u32,
}

/// The answer to a [`Query`], under the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented at the variant of `Query` that has its name")]
#[expect(clippy::large_enum_variant, reason = "one is made for each query and taken apart at once, never kept")]
pub enum Answer {
    Job(Option<Job>),
    Payload(Option<Vec<u8>>),
    Runs(Vec<RunRecord>),
    Jobs(Vec<Job>),
    Counts(Vec<(CountKey, u64)>),
    Names(Vec<(Name, u32)>),
    Events(Vec<LogEntry>),
    NextDue(Option<Time>),
    Key(Option<(Time, Vec<Enqueued>)>),
}
