//! Questions about a consistent view, and their answers. Every answer is a bounded page.

use std::collections::BTreeMap;

use super::{CountKey, Enqueued, Lane, Name, Namespace, Part, RunRecord, RunRef, Scope, Settings, Subscription};
use crate::index::{KeyOf, Order};
use crate::job::{Fingerprint, Job, JobId, JobRef, KindId, OutcomeName, QueueId, Seq, StateName, TenantId, Time};
use crate::log::LogEntry;
use crate::schedule::{Schedule, ScheduleRef};
use crate::token::{Token, TokenHash};

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
    /// Since when the job has been available that has waited longest, of each queue that has one. Of a lane with jobs of more
    /// than [`PRIORITIES_READ`](super::limits::PRIORITIES_READ) priorities, those are looked at that come first (of one that is aged, so many jobs); and of lanes of
    /// keys the first [`KEYED_LANES_READ`](super::limits::KEYED_LANES_READ).
    Oldest,
    /// The answer to an accepted call with this idempotency key, until when it is remembered and what it was.
    Key(TenantId, String),
    /// Which job a unique key belongs to.
    Unique(TenantId, String),
    /// The first jobs, up to this many, that depend on a job and have not ended, or were cancelled because of it.
    Dependents(JobRef, u32),
    /// What holds for the store, a tenant, a queue or a kind: what was set, or the defaults.
    Settings(Scope),
    /// Everything that was set.
    AllSettings,
    /// What a plugin keeps under a key.
    Kv(Namespace, String),
    /// A page of a plugin's keys, ascending.
    KvKeys(KvKeysQuery),
    /// How many keys all plugins of a tenant have.
    KvCount(TenantId),
    /// The log of a run, or of the call that it was a part of; none: it has none, or it is gone.
    RunLog(RunRef),
    /// What the kinds of each tenant listen to, of those where any does.
    Subscriptions,
    /// Figures of the store as a whole.
    Stored,
    /// A schedule.
    Schedule(ScheduleRef),
    /// A page of schedules, by tenant and name: of one tenant, or of all.
    Schedules {
        /// Whose; none: everyone's.
        tenant: Option<TenantId>,
        /// Only those after this one: the last of the page before.
        after: Option<ScheduleRef>,
        /// How many at most.
        limit: u32,
    },
    /// How many schedules a tenant has.
    ScheduleCount(TenantId),
    /// All tokens, up to [`TOKENS_MAX`](crate::token::TOKENS_MAX), by their hashes.
    Tokens,
    /// All keys of which jobs are available, or have begun and not ended.
    Keys,
    /// The jobs of a key that have begun and not ended, up to so many.
    Begun(KeyOf, u32),
}

/// The answer to [`Query::Keys`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeysInUse {
    /// Lanes of keys that are not empty.
    pub lanes: Vec<KeyedLane>,
    /// How many jobs of a key have begun and not ended.
    pub begun: Vec<(KeyOf, u64)>,
}

/// A lane of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedLane {
    /// Which.
    pub lane: Lane,
    /// How many jobs are available in it.
    pub jobs: u64,
    /// The place of the first.
    pub head: Order,
}

/// See [`Query::KvKeys`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvKeysQuery {
    /// Whose.
    pub space: Namespace,
    /// Only keys that begin so.
    pub prefix: String,
    /// Only keys after this one: the last of the page before.
    pub after: Option<String>,
    /// How many at most.
    pub limit: u32,
}

/// See [`Query::Jobs`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobsQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Only of this state.
    pub state: Option<StateName>,
    /// Only of this queue.
    pub queue: Option<QueueId>,
    /// Only of this kind.
    pub kind: Option<KindId>,
    /// Only jobs with this tag.
    pub tag: Option<(String, String)>,
    /// Only those whose rows say this; each row is looked at.
    pub only: Only,
    /// The oldest first, and not the newest.
    pub oldest_first: bool,
    /// Only jobs beyond this id in that order: the last of the page before.
    pub beyond: Option<JobId>,
    /// How many at most.
    pub limit: u32,
}

impl JobsQuery {
    /// Whether the jobs of a count match what counts know: tenant, state, queue and kind.
    #[must_use]
    pub fn counts(&self, key: &CountKey) -> bool {
        key.lane.tenant == self.tenant
            && self.state.is_none_or(|state| state == key.state)
            && self.queue.is_none_or(|queue| queue == key.lane.queue)
            && self.kind.is_none_or(|kind| kind == key.lane.kind)
    }

    /// All jobs of a tenant, the newest first.
    #[must_use]
    pub const fn all(tenant: TenantId, limit: u32) -> Self {
        let (state, queue, kind, tag) = (None, None, None, None);
        Self { tenant, state, queue, kind, tag, only: Only::NONE, oldest_first: false, beyond: None, limit }
    }
}

/// What no index knows of a job. Everything that is said must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Only {
    /// Not before this: of a job that has ended, its end; of another one, its enqueue.
    pub since: Option<Time>,
    /// Before this.
    pub until: Option<Time>,
    /// Whose last run ended so.
    pub outcome: Option<OutcomeName>,
    /// Which the schedule of this name made.
    pub schedule: Option<String>,
    /// With this unique key, whether or not it holds it.
    pub unique_key: Option<String>,
    /// Whose last error is this one.
    pub error: Option<Fingerprint>,
    /// Which this text is about.
    pub about: Option<About>,
}

/// A text to look for: in the id, the kind, tags, and the first 256 bytes of the last run's error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Letters of ASCII fit in either case. The id fits as a whole only.
    pub text: String,
    /// The kinds in whose names it is.
    pub kinds: Vec<KindId>,
}

impl Only {
    /// Nothing is said.
    pub const NONE: Self =
        Self { since: None, until: None, outcome: None, schedule: None, unique_key: None, error: None, about: None };

    /// Whether a job's row says all of it.
    #[must_use]
    pub fn fits(&self, job: &Job) -> bool {
        let Self { since, until, outcome, schedule, unique_key, error, about } = self;
        let at = job.finalized_at().unwrap_or(job.enqueued_at);
        since.is_none_or(|since| since <= at)
            && until.is_none_or(|until| at < until)
            && outcome.is_none_or(|outcome| job.last.as_ref().is_some_and(|last| last.outcome == outcome))
            && schedule.as_ref().is_none_or(|name| job.schedule.as_ref().is_some_and(|of| of.name == *name))
            && unique_key.as_ref().is_none_or(|key| job.unique.as_ref().is_some_and(|hold| hold.key == *key))
            && error.is_none_or(|error| Fingerprint::of_job(job) == Some(error))
            && about.as_ref().is_none_or(|about| about.fits(job))
    }
}

impl About {
    fn fits(&self, job: &Job) -> bool {
        // Of thousands of rows for a page: nothing is copied to be compared.
        let text = self.text.as_bytes();
        let has = |within: &String| {
            within.as_bytes().windows(text.len().max(1)).any(|part| part.eq_ignore_ascii_case(text)) || text.is_empty()
        };
        self.kinds.contains(&job.kind)
            || self.text.parse() == Ok(job.id.0) && self.text == job.id.to_string()
            || job.tags.iter().any(|(key, value)| has(key) || has(value))
            || job.last.as_ref().and_then(|last| last.error.as_ref()).is_some_and(has)
    }
}

/// The answer to a [`Query`], under the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is documented at the variant of `Query` that has its name")]
pub enum Answer {
    Job(Option<Job>),
    Payload(Option<Vec<u8>>),
    Runs(Vec<RunRecord>),
    Jobs(JobsPage),
    Counts(Vec<(CountKey, u64)>),
    Names(Vec<(Name, u32)>),
    Events(Events),
    NextDue(Option<Time>),
    Oldest(Vec<Oldest>),
    Key(Option<(Time, Vec<Enqueued>)>),
    Unique(Option<(JobId, Option<Time>)>),
    Dependents(Vec<JobId>),
    Settings(Settings),
    AllSettings(Vec<Settings>),
    Kv(Option<Vec<u8>>),
    KvKeys(Vec<String>),
    KvCount(u64),
    RunLog(Option<Vec<u8>>),
    Subscriptions(Vec<(TenantId, Vec<Subscription>)>),
    Stored(Stored),
    Schedule(Option<Schedule>),
    Schedules(Vec<Schedule>),
    ScheduleCount(u64),
    Tokens(Vec<(TokenHash, Token)>),
    Keys(KeysInUse),
    Begun(Vec<JobId>),
}

/// A page of jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobsPage {
    /// Newest first. There may be fewer than asked for, or none, where many rows had to be looked at.
    pub jobs: Vec<Job>,
    /// Before which job the next page begins; none: there are no more.
    pub next: Option<JobId>,
}

/// See [`Query::Oldest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oldest {
    /// Whose.
    pub tenant: TenantId,
    /// Which queue.
    pub queue: QueueId,
    /// The job's `run_at`: of a job that has waited for others, or on hold, it may be before it became available.
    pub since: Time,
}

/// The oldest of each queue so far, of which there may be jobs in many lanes.
#[derive(Debug, Default)]
pub(crate) struct OldestOfQueues(BTreeMap<(TenantId, QueueId), Time>);

impl OldestOfQueues {
    pub(crate) fn add(&mut self, Oldest { tenant, queue, since }: Oldest) {
        let known = self.0.entry((tenant, queue)).or_insert(since);
        *known = since.min(*known);
    }

    pub(crate) fn all(self) -> Vec<Oldest> {
        self.0.into_iter().map(|((tenant, queue), since)| Oldest { tenant, queue, since }).collect()
    }
}

/// A page of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Events {
    /// Its events, in order.
    pub entries: Vec<LogEntry>,
    /// The first number that is still there; where the log is empty, the next one. Whoever asks for an earlier one has
    /// missed events.
    pub oldest: Seq,
    /// The next number to be given out.
    pub next: Seq,
    /// The first number since the store was last restored; 0: it never was. Earlier numbers are of another history.
    pub restored: Seq,
}

/// Figures of the store as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// How often it was restored, plus one.
    pub epoch: u64,
    /// Whether claims wait for an operator, as they do after a restore.
    pub paused: bool,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Finished jobs whose dependents are being told.
    pub settling: u64,
    /// Events whose listeners have yet to be enqueued.
    pub unheard: u64,
    /// Keys that plugins keep, of all tenants.
    pub kv_keys: u64,
    /// Runs, or calls, whose log is kept.
    pub run_logs: u64,
    /// Slots of schedules before this are not made up for: the store was let go then, after a restore.
    pub schedules_from: Time,
}
