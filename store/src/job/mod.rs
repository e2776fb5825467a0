//! The rules about jobs, all of them, and nothing else.
//!
//! A [`Job`] is a value. Whatever happens to it is an [`Event`], and [`transition`] says what
//! becomes of it: the next job, no job, or a typed [`Rejection`]. Nothing in this module does I/O, reads a clock, draws
//! randomness or is async; time is a parameter, and jitter is a hash of job and run ([`retry`]).

pub mod depth;
mod event;
pub mod fingerprint;
mod ids;
mod key;
pub mod limits;
pub mod outcome;
mod reason;
pub mod retry;
mod spec;
pub mod time;
mod transition;

use serde::{Deserialize, Serialize};

use crate::schedule::OfSchedule;

pub use self::depth::{TooDeep, depth_after, staged_depth};
pub use self::event::{Edit, Event, EventName, Rejection, RunSettings, Verdict};
pub use self::fingerprint::Fingerprint;
pub use self::ids::{BootId, JobId, JobRef, KindId, PluginId, Priority, QueueId, RunNumber, Seq, TenantId};
pub use self::key::{JobKey, KeyHash, KeyPath};
pub use self::outcome::{Outcome, OutcomeName};
pub use self::reason::Reason;
pub use self::retry::{Backoff, RetryPolicy};
pub use self::spec::{
    DependsOn, EdgePolicy, Invalid, JobSpec, On, OnConflict, States, Unique, name_problem, tenant_problem,
};
pub use self::time::{Millis, Time};
pub use self::transition::transition;

/// One unit of work, as its row keeps it. Args, output and checkpoint live apart, so that the row stays small.
///
/// The order of the fields is the order of the stored record: fields are only ever added at the end, with a default,
/// which a record may leave out where no other field follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Ascending, never given out twice.
    pub id: JobId,
    /// The owner.
    pub tenant: TenantId,
    /// The line it stands in.
    pub queue: QueueId,
    /// What is to be done.
    pub kind: KindId,
    /// Where it is in its life; what belongs to a state lives in it.
    pub state: State,
    /// Lower runs first.
    pub priority: Priority,
    /// When it was accepted.
    pub enqueued_at: Time,
    /// When it may run, or might have run, next.
    pub run_at: Time,
    /// If it has not begun to run by then, it is discarded.
    pub expires_at: Option<Time>,
    /// The number of its latest run; 0 before the first. The fencing token: it only ever grows.
    pub run: RunNumber,
    /// Whether a handler was ever entered for it. Expiry asks this.
    pub started: bool,
    /// Runs that counted against `max_attempts`, since the last operator's retry.
    pub attempts: u32,
    /// Crashes since the last run that ended otherwise. Above 0 the job is a suspect.
    pub crashes: u32,
    /// Snoozes since the last operator's retry.
    pub snoozes: u32,
    /// The job's own bound on attempts; none: by the settings of its kind.
    pub max_attempts: Option<u32>,
    /// The job's own time-out of a run; none: by the settings of its kind.
    pub timeout: Option<Millis>,
    /// The job's own retry policy; none: by the settings of its kind.
    pub retry: Option<RetryPolicy>,
    /// What it waits for, in the order given.
    pub dependencies: Vec<Dependency>,
    /// Free labels, in the order given; a key occurs once.
    pub tags: Vec<(String, String)>,
    /// How its latest finished run ended.
    pub last: Option<LastRun>,
    /// The unique key that it holds, or held until another job took it over.
    #[serde(default)]
    pub unique: Option<UniqueHold>,
    /// The order of its queue when it was accepted, or run again.
    #[serde(default)]
    pub order: QueueOrder,
    /// How often its args were replaced.
    #[serde(default)]
    pub edits: u32,
    /// How many jobs in a row have enqueued each other, up to this one; see [`depth`].
    #[serde(default)]
    pub depth: u32,
    /// Runs in a row that ended well and were not recorded, since another run had changed what they had read.
    #[serde(default)]
    pub conflicts: u32,
    /// Whether a call failed that it shared with others: it is then taken alone.
    #[serde(default)]
    pub alone: bool,
    /// The schedule that made it, and of which slot it is.
    #[serde(default)]
    pub schedule: Option<OfSchedule>,
    /// Its key among the jobs of its kind, read from the args that it has.
    #[serde(default)]
    pub key: Option<JobKey>,
}

/// A unique key, and when it is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueHold {
    /// The key.
    pub key: String,
    /// In which states the job holds it.
    pub states: States,
    /// Until when it is held whatever the state.
    pub until: Option<Time>,
}

/// In which order the jobs of a queue run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum QueueOrder {
    /// By priority, then by `run_at`, then by id.
    #[default]
    Priority,
    /// By `run_at`, then by priority, then by id.
    RunAt,
    /// By `run_at` later by this for each step of priority, then by priority, then by id: a job that has waited this long
    /// comes before one of the next better priority that is only due now. So whatever comes after it, a job is overtaken for
    /// no longer than this times the steps between them.
    Aged(Millis),
}

impl QueueOrder {
    /// The most that a job may gain a step of priority by.
    pub const AGE_MAX: Millis = Millis::secs(7 * 24 * 3_600);

    /// What cannot be.
    #[must_use]
    pub fn problem(self) -> Option<&'static str> {
        match self {
            Self::Aged(age) if age.0 == 0 || age > Self::AGE_MAX => Some("must age by 1ms to 7d a step of priority"),
            Self::Priority | Self::RunAt | Self::Aged(_) => None,
        }
    }
}

/// Where a job is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Enqueued on hold, until released.
    Held,
    /// Waits for dependencies.
    Blocked,
    /// Its `run_at` is ahead.
    Scheduled,
    /// Failed, waits for its backoff.
    Retryable,
    /// May be claimed.
    Available,
    /// Claimed by a holder.
    Running(Lease),
    /// Ended well.
    Completed {
        /// When.
        finalized_at: Time,
    },
    /// Given up.
    Discarded {
        /// When.
        finalized_at: Time,
        /// Why.
        reason: Reason,
    },
    /// Ended by someone, or by a dependency.
    Cancelled {
        /// When.
        finalized_at: Time,
        /// Why.
        reason: Reason,
    },
}

/// The right to finish the job's latest run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who has it.
    pub holder: Holder,
    /// Since when.
    pub claimed_at: Time,
    /// When it ends on its own; none where the holder cannot vanish unseen (the node that owns the store).
    pub expires_at: Option<Time>,
    /// Set once someone asked for the job's cancellation.
    pub cancel: Option<CancelRequest>,
    /// What an external worker calls itself. A node's lease leaves it out, as those did that were written before it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}

impl Lease {
    /// For how long an external worker's lease was taken; none: a node's, which lasts as long as its boot.
    #[must_use]
    pub fn lasts(&self) -> Option<Millis> {
        match self.holder {
            Holder::Node(_) => None,
            Holder::Worker(_) => self.expires_at.map(|at| at.since(self.claimed_at)),
        }
    }
}

/// Someone asked to cancel a running job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// When.
    pub at: Time,
    /// Why, in their words.
    pub reason: Option<String>,
}

/// Who holds a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holder {
    /// A node's boot; its leases end with it.
    Node(BootId),
    /// An external worker; its leases end by expiry.
    Worker(u64),
}

/// One thing that a job waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The job waited for, of the same tenant.
    pub job: JobId,
    /// What follows if it does not end well.
    pub on_failure: EdgePolicy,
    /// Settled once and for ever by its first final state.
    pub settled: Option<Verdict>,
}

/// How the latest finished run ended, in short; the run's record has the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// Which run.
    pub run: RunNumber,
    /// How.
    pub outcome: OutcomeName,
    /// The first 256 bytes of its error, or the reason of a snooze.
    pub error: Option<String>,
}

/// The names of states, as lists, counts and screens use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is documented at the variant of `State` that has its name")]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum StateName {
    Held = 0,
    Blocked = 1,
    Scheduled = 2,
    Retryable = 3,
    Available = 4,
    Running = 5,
    Completed = 6,
    Discarded = 7,
    Cancelled = 8,
}

impl StateName {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 9] = [
        Self::Held,
        Self::Blocked,
        Self::Scheduled,
        Self::Retryable,
        Self::Available,
        Self::Running,
        Self::Completed,
        Self::Discarded,
        Self::Cancelled,
    ];

    /// The word for people and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Blocked => "blocked",
            Self::Scheduled => "scheduled",
            Self::Retryable => "retryable",
            Self::Available => "available",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }

    /// Completed, discarded and cancelled: nothing follows by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Discarded | Self::Cancelled)
    }
}

impl std::fmt::Display for StateName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl State {
    /// The state's name.
    #[must_use]
    pub fn name(&self) -> StateName {
        match self {
            Self::Held => StateName::Held,
            Self::Blocked => StateName::Blocked,
            Self::Scheduled => StateName::Scheduled,
            Self::Retryable => StateName::Retryable,
            Self::Available => StateName::Available,
            Self::Running(_) => StateName::Running,
            Self::Completed { .. } => StateName::Completed,
            Self::Discarded { .. } => StateName::Discarded,
            Self::Cancelled { .. } => StateName::Cancelled,
        }
    }
}

impl Job {
    /// Where and whose it is.
    #[must_use]
    pub fn at(&self) -> JobRef {
        JobRef { tenant: self.tenant, job: self.id }
    }

    /// When it ended, if it has.
    #[must_use]
    pub fn finalized_at(&self) -> Option<Time> {
        match self.state {
            State::Completed { finalized_at }
            | State::Discarded { finalized_at, .. }
            | State::Cancelled { finalized_at, .. } => Some(finalized_at),
            _ => None,
        }
    }

    /// Why it was discarded or cancelled.
    #[must_use]
    pub fn reason(&self) -> Option<&Reason> {
        match &self.state {
            State::Discarded { reason, .. } | State::Cancelled { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// The fence: whether `run` holds its lease.
    #[must_use]
    pub fn is_held_by(&self, run: RunNumber) -> bool {
        self.lease().is_some() && (run == self.run || cfg!(planted = "drop_run_check"))
    }

    /// The lease of its run, while it runs.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Running(lease) => Some(lease),
            _ => None,
        }
    }

    /// Whether the process died under it and it has not proved itself since: such jobs start one at a time.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.crashes > 0
    }

    /// Whether it has begun and not ended: it holds up the others of its key, where these run in order. What a claim took
    /// and gave back untouched has not begun. What is on hold or waits for others holds up nobody, also if it ran before:
    /// what it waits for may be of the same key.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        match self.state {
            State::Running(_) => true,
            State::Scheduled | State::Retryable | State::Available => self.started,
            State::Held | State::Blocked => false,
            State::Completed { .. } | State::Discarded { .. } | State::Cancelled { .. } => false,
        }
    }

    /// Whether `now` is too late for its first run.
    #[must_use]
    pub fn is_expired(&self, now: Time) -> bool {
        !self.started && self.expires_at.is_some_and(|at| now >= at)
    }

    /// Whether it holds its unique key because of the state that it is in.
    #[must_use]
    pub fn holds_key_by_state(&self) -> bool {
        self.unique.as_ref().is_some_and(|hold| hold.states.contains(self.state.name()))
    }

    /// How it ended, as those see it who waited for it; none if it has not.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        match self.state {
            State::Completed { .. } => Some(Verdict::Completed),
            State::Discarded { .. } => Some(Verdict::Discarded),
            State::Cancelled { .. } => Some(Verdict::Cancelled),
            _ => None,
        }
    }

    /// How many dependencies have not been settled yet.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.dependencies.iter().filter(|d| d.settled.is_none()).count()
    }
}
