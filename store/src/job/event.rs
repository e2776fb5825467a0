//! What can happen to a job, and the answers to what cannot.

use serde::{Deserialize, Serialize};

use super::{
    Dependency, Holder, JobId, JobKey, JobRef, Millis, Outcome, Priority, QueueOrder, RetryPolicy, RunNumber,
    StateName, Time, limits, spec::JobSpec,
};
use super::{KindId, QueueId};

/// Something that happens to a job. Everything that [`transition`](super::transition) needs to know travels in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A job comes into being.
    Enqueued {
        /// Its place among all jobs.
        at: JobRef,
        /// The interned name of its queue.
        queue: QueueId,
        /// The interned name of its kind.
        kind: KindId,
        /// What was asked for, checked by [`JobSpec::check`]; its args, names and dependencies are not looked at.
        spec: Box<JobSpec>,
        /// What it waits for: those that have ended already are settled.
        dependencies: Vec<Dependency>,
        /// The order of its queue.
        order: QueueOrder,
    },
    /// A hold ends.
    Released,
    /// A job that this one waits for reached its first final state.
    DependencySettled {
        /// Which.
        dependency: JobId,
        /// How it ended.
        verdict: Verdict,
    },
    /// Its time has come.
    Due,
    /// A holder takes it for a run.
    Claimed {
        /// Who.
        holder: Holder,
        /// When the lease ends on its own; none for a node.
        expires_at: Option<Time>,
        /// What an external worker calls itself; none for a node.
        worker: Option<String>,
    },
    /// The holder is still there.
    Renewed {
        /// Which run it speaks of.
        run: RunNumber,
        /// When the lease ends now.
        expires_at: Time,
    },
    /// The holder says how a run, whose handler was entered, ended.
    Finished {
        /// Which run it speaks of.
        run: RunNumber,
        /// How it ended.
        outcome: Outcome,
        /// What holds where the job states nothing of its own.
        settings: RunSettings,
        /// Whether it shared a call that failed as a whole.
        alone: bool,
    },
    /// A run ended well, and another one had changed what it had read of its plugin's keys: nothing that it did is recorded.
    Conflicted {
        /// Which run it speaks of.
        run: RunNumber,
        /// The key that had changed.
        key: String,
        /// What holds where the job states nothing of its own.
        settings: RunSettings,
    },
    /// The holder gives a run back whose handler was never entered.
    HandedBack {
        /// Which run it speaks of.
        run: RunNumber,
    },
    /// The holder is gone: its boot is over, or its lease has run out.
    HolderGone {
        /// Which run it held.
        run: RunNumber,
        /// Whether the handler may have been running.
        started: bool,
        /// What holds where the job states nothing of its own.
        settings: RunSettings,
    },
    /// Someone wants it ended.
    CancelRequested {
        /// Why, in their words.
        reason: Option<String>,
    },
    /// `expires_at` passed before the first run.
    Expired,
    /// An operator wants it run again.
    Retried {
        /// The order of its queue, which may have changed since it ended.
        order: QueueOrder,
    },
    /// An operator wants a dependency run again, and with it those that were cancelled because of it.
    Revived {
        /// What it waits for anew.
        dependency: JobId,
        /// What it waits for, as far as that has ended by now.
        settled: Vec<(JobId, Verdict)>,
        /// The order of its queue, which may have changed since it ended.
        order: QueueOrder,
    },
    /// An operator changes it.
    Edited(Edit),
    /// An operator, or retention, removes it.
    Deleted {
        /// Also while it runs.
        force: bool,
    },
}

/// How a dependency ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// Well.
    Completed,
    /// It was given up.
    Discarded,
    /// Someone cancelled it.
    Cancelled,
    /// It was deleted before it completed.
    Deleted,
    /// It was not waited for any longer: an operator's retry ran the job without it.
    Waived,
}

/// Changes to a job that is neither running nor final; what is none stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// A new priority.
    pub priority: Option<Priority>,
    /// A new time to run at.
    pub run_at: Option<Time>,
    /// A new bound on attempts.
    pub max_attempts: Option<u32>,
    /// A new time-out of a run.
    pub timeout: Option<Millis>,
    /// New args.
    pub args: Option<Vec<u8>>,
    /// A new time by which it must have begun to run; `Some(None)`: none.
    pub expires_at: Option<Option<Time>>,
    /// A new retry policy.
    pub retry: Option<RetryPolicy>,
    /// New tags, instead of those it has.
    pub tags: Option<Vec<(String, String)>>,
    /// Its depth from now on, if it is not deeper: a run brings it forward.
    pub depth: Option<u32>,
    /// The key that stands in the new args; `Some(None)`: there is none. Said with args, by whoever knows the kind.
    pub key: Option<Option<JobKey>>,
}

impl Edit {
    /// All that the rules ask for: without the args, which may be a mebibyte, but not without the fact that there are
    /// new ones.
    #[must_use]
    pub fn for_row(&self) -> Self {
        Self {
            priority: self.priority,
            run_at: self.run_at,
            max_attempts: self.max_attempts,
            timeout: self.timeout,
            args: self.args.as_ref().map(|_| Vec::new()),
            expires_at: self.expires_at,
            retry: self.retry.clone(),
            tags: self.tags.clone(),
            depth: self.depth,
            key: self.key.clone(),
        }
    }
}

/// What holds for a run where its job states nothing of its own. Looked up by the runtime, which knows manifests and
/// configuration, when the run ends; the store stays free of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSettings {
    /// Attempts before the job is given up.
    pub max_attempts: u32,
    /// When a failed attempt is tried again.
    pub retry: RetryPolicy,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self { max_attempts: limits::ATTEMPTS_DEFAULT, retry: RetryPolicy::default() }
    }
}

/// What the log calls an event. A closed list; subscriptions use these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words say it; what leads to each stands in `EventName::of`")]
#[serde(rename_all = "snake_case")]
pub enum EventName {
    Enqueued,
    Released,
    Blocked,
    Scheduled,
    Available,
    Started,
    Retrying,
    Snoozed,
    Interrupted,
    Crashed,
    Completed,
    Discarded,
    Cancelled,
    CancelRequested,
    Retried,
    Edited,
    Deleted,
}

impl EventName {
    /// Every name.
    pub const ALL: [Self; 17] = [
        Self::Enqueued,
        Self::Released,
        Self::Blocked,
        Self::Scheduled,
        Self::Available,
        Self::Started,
        Self::Retrying,
        Self::Snoozed,
        Self::Interrupted,
        Self::Crashed,
        Self::Completed,
        Self::Discarded,
        Self::Cancelled,
        Self::CancelRequested,
        Self::Retried,
        Self::Edited,
        Self::Deleted,
    ];

    /// The word for people and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enqueued => "enqueued",
            Self::Released => "released",
            Self::Blocked => "blocked",
            Self::Scheduled => "scheduled",
            Self::Available => "available",
            Self::Started => "started",
            Self::Retrying => "retrying",
            Self::Snoozed => "snoozed",
            Self::Interrupted => "interrupted",
            Self::Crashed => "crashed",
            Self::Completed => "completed",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
            Self::CancelRequested => "cancel_requested",
            Self::Retried => "retried",
            Self::Edited => "edited",
            Self::Deleted => "deleted",
        }
    }

    /// Whether a subscription can be about it: all can but a request to cancel, which is no event of the job's life.
    #[must_use]
    pub fn can_be_listened_to(self) -> bool {
        self != Self::CancelRequested
    }

    /// The event of that name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.as_str() == word)
    }

    /// What the log calls `event`, which led to the state `after` (none: the job is gone). None: not logged, as the
    /// event changed nothing that the log keeps (a lease's expiry).
    #[must_use]
    pub fn of(event: &Event, after: Option<StateName>) -> Option<Self> {
        let Some(after) = after else { return Some(Self::Deleted) };
        Some(match (event, after) {
            (Event::Renewed { .. }, _) => return None,
            (Event::Enqueued { .. }, _) => Self::Enqueued,
            (Event::Released, _) => Self::Released,
            (Event::Claimed { .. }, _) => Self::Started,
            (Event::Retried { .. } | Event::Revived { .. }, _) => Self::Retried,
            (Event::Edited(_), _) => Self::Edited,
            (Event::HolderGone { started: true, .. }, StateName::Retryable) => Self::Crashed,
            (Event::CancelRequested { .. }, StateName::Running) => Self::CancelRequested,
            (Event::Finished { outcome: Outcome::Snoozed { .. }, .. }, StateName::Scheduled | StateName::Retryable) => {
                Self::Snoozed
            }
            (Event::Conflicted { .. }, StateName::Available) => Self::Retrying,
            (Event::Finished { .. } | Event::HandedBack { .. } | Event::HolderGone { .. }, StateName::Available) => {
                Self::Interrupted
            }
            (_, StateName::Retryable) => Self::Retrying,
            (_, StateName::Scheduled) => Self::Scheduled,
            (_, StateName::Available) => Self::Available,
            (_, StateName::Completed) => Self::Completed,
            (_, StateName::Discarded) => Self::Discarded,
            (_, StateName::Cancelled) => Self::Cancelled,
            (_, StateName::Blocked | StateName::Held) => Self::Blocked,
            (_, StateName::Running) => Self::Started,
        })
    }
}

impl Verdict {
    /// The word for people and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Discarded => "discarded",
            Self::Cancelled => "cancelled",
            Self::Deleted => "deleted before it completed",
            Self::Waived => "waived",
        }
    }
}

/// Asked for something that is not allowed now: an answer, part of the contract, which changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No such job, or another tenant's.
    #[error("there is no job with this id")]
    Unknown,
    /// Ids are never given out twice.
    #[error("a job with this id exists")]
    Exists,
    /// It is so already.
    #[error("the job is {} already", .0.as_str())]
    Already(StateName),
    /// Not from this state.
    #[error("not possible while the job is {}", .0.as_str())]
    State(StateName),
    /// The fence: the run that speaks does not hold the job's lease.
    #[error("run {said} does not hold the job's lease any more")]
    Stale {
        /// The run that spoke.
        said: RunNumber,
    },
    /// Its time has not come.
    #[error("the job is not due yet")]
    NotDue {
        /// When it will be.
        run_at: Time,
    },
    /// It has not expired, or has begun to run.
    #[error("the job has not expired")]
    NotExpired,
    /// It does not wait for that job.
    #[error("the job does not wait for job {0}")]
    NotWaiting(JobId),
    /// What was asked for breaks a rule about jobs.
    #[error(transparent)]
    Invalid(#[from] super::Invalid),
    /// The key was used for another request.
    #[error("this idempotency key was used for a different request")]
    KeyReused,
    /// Other jobs wait for it.
    #[error("other jobs wait for this job; delete it with `cascade` to settle them as their policies say")]
    WaitedFor,
    /// The jobs that waited for it are being told how it ended.
    #[error("the jobs that waited for this job are being told how it ended; repeat this in a moment")]
    Settling,
    /// Another job holds the unique key.
    #[error("job {0} holds this unique key")]
    UniqueHeld(JobId),
    /// The holder of the unique key changed each time its args had been merged.
    #[error("the holder of this unique key changed while its args were merged, again and again; repeat this")]
    UniqueBusy,
    /// The queue, or the tenant, has as many unfinished jobs as it may have.
    #[error("{what} is full: it may have {capacity} jobs that have not ended, and this call would make it {wanted}")]
    Full {
        /// `queue default`, or `the tenant`.
        what: String,
        /// How many there may be.
        capacity: u64,
        /// How many there would be.
        wanted: u64,
    },
    /// The queue takes no jobs.
    #[error("queue {queue} drains: it takes no new jobs until `runner queue resume {queue}`; what is there runs")]
    QueueDrains {
        /// Which.
        queue: String,
    },
    /// What is kept of the tenant's jobs and plugins takes as much as it may.
    #[error("the tenant's stored bytes would be {wanted}; the limit is {limit}")]
    TenantStorage {
        /// How many there may be.
        limit: u64,
        /// How many there would be.
        wanted: u64,
    },
    /// The disk is too full for new jobs.
    #[error("the disk of the store is too full for new jobs; what is there still runs")]
    DiskReserve,
    /// The order of a queue changes while it has unfinished jobs.
    #[error("the queue has {unfinished} jobs that have not ended; its order can only change while it has none")]
    QueueNotEmpty {
        /// How many.
        unfinished: u64,
    },
    /// No such schedule, or another tenant's.
    #[error("there is no schedule of this name")]
    NoSchedule,
    /// The name is taken.
    #[error("there is a schedule of this name already; choose another name, or change that one")]
    ScheduleExists,
    /// It was edited since the caller looked at it.
    #[error("the schedule was changed in between; look at it again")]
    ScheduleChanged,
    /// It stands in a manifest, and is changed there.
    #[error(
        "the schedule stands in the manifest of plugin {plugin}: change it there; it can be paused, resumed and fired here"
    )]
    FromManifest {
        /// Whose manifest.
        plugin: String,
    },
    /// A job of the schedule has not ended, and its policy is that there is one at a time.
    #[error("job {0} of this schedule has not ended, and its overlap policy is skip; wait for it or cancel it")]
    Overlapping(JobId),
    /// The tenant has as many schedules as it may have.
    #[error("the tenant has {max} schedules, which is the limit; delete some")]
    TooManySchedules {
        /// How many there may be.
        max: u64,
    },
    /// The tenant has jobs of as many queues, or of as many kinds, as it may.
    #[error(
        "the tenant has jobs in {max} {what}, which is the limit; use some of those, or let the jobs of others end and go"
    )]
    TooManyNames {
        /// `queues` or `kinds`.
        what: String,
        /// How many there may be.
        max: u32,
    },
    /// The tenant was deleted.
    #[error("there is no such tenant any more")]
    NoTenant,
    /// A tenant that has jobs which have not ended is not deleted.
    #[error("the tenant has {unfinished} jobs that have not ended; cancel and delete them first")]
    TenantNotEmpty {
        /// How many.
        unfinished: u64,
    },
    /// No such token.
    #[error("there is no token of this id: `runner token list` has the ids")]
    NoToken,
    /// Tokens are random, so nobody makes one twice.
    #[error("this token exists already; make another one")]
    TokenExists,
    /// The store has as many tokens as it may have.
    #[error("the store has {max} tokens, which is the limit; revoke some")]
    TooManyTokens {
        /// How many there may be.
        max: u64,
    },
}
