//! The boundary to whatever keeps the jobs: three methods to write, one to read, and data in between.
//!
//! An engine knows no rule about jobs. It reads what a batch may touch, and writes what was decided: rows with the index
//! entries that [`index::keys`](crate::index::keys) names, payloads, run records and log entries, in one transaction.

mod dump;
mod in_use;
mod keyed;
pub mod memory;
pub mod redb;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::dump::Dump;
pub(crate) use self::in_use::{put_in_use, with_new_names};
pub use self::keyed::KeyChanges;
pub(crate) use self::keyed::key_differences;
use crate::codec::Row;
use crate::command::{
    Answer, CountKey, Enqueued, JobsQuery, Lane, Name, NameClass, Namespace, Part, Query, RunRecord, RunRef, Scope,
    Settings, Subscription, Sweep, Total, TotalKey,
};
use crate::error::StoreError;
use crate::index::EndKey;
use crate::job::{
    BootId, Job, JobId, JobRef, Millis, QueueId, QueueOrder, RunNumber, Seq, StateName, TenantId, Time, Verdict,
};
use crate::listening::{Heard, Listening};
use crate::log::LogEntry;
use crate::schedule::{Schedule, ScheduleRef};
use crate::token::{Token, TokenHash};

/// Something that keeps jobs durably, used by one writer.
pub trait Engine: Send {
    /// Opens the batch's transaction, or goes on in it, and reads what `needs` names.
    ///
    /// # Errors
    /// The engine could not read; the writer gives up on it.
    fn prefetch(&mut self, needs: &Needs) -> Result<WorkingSet, StoreError>;

    /// Writes `changes` and ends the transaction, also where there are none. What was written is durable when this
    /// returns. Sequence numbers are given out here.
    ///
    /// # Errors
    /// It is unknown whether the changes will be there after a restart; the writer gives up on the engine.
    fn persist(&mut self, changes: &[Change]) -> Result<Persisted, StoreError>;

    /// A source of consistent views for other threads.
    fn reader(&self) -> Arc<dyn Reader>;
}

/// A source of consistent views.
pub trait Reader: Send + Sync {
    /// A view of what is committed now. Not to be held across a slow client: it keeps old pages alive.
    ///
    /// # Errors
    /// The engine could not begin to read.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError>;
}

/// A consistent view.
pub trait Snapshot {
    /// The answer to `query`: one bounded page.
    ///
    /// # Errors
    /// The engine could not read, or what it read is damaged.
    fn read(&self, query: &Query) -> Result<Answer, StoreError>;
}

/// Tenants and states whose finished jobs one sweep looks at.
pub(crate) const SWEEP_GROUPS_MAX: usize = 64;
/// Jobs that wait for one, as far as they are read with it: so many may end in one batch before it counts as waited for
/// although it is not any more.
pub(crate) const WAITERS_READ: usize = 16;
/// Rows that a step of a revival reads: each of its jobs may name a hundred others, and whether they have ended is to be
/// known.
pub(crate) const REVIVED_ROWS_MAX: usize = 4_096;
/// What an event takes in the log beside its record: its key, and its share of the pages.
pub(crate) const EVENT_BYTES_BESIDE: usize = 16;

/// What a batch may touch. Each need is bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Rows.
    pub jobs: BTreeSet<JobRef>,
    /// All run records of these jobs.
    pub runs: BTreeSet<JobRef>,
    /// First jobs of lanes, this many of each.
    pub lanes: BTreeMap<Lane, u32>,
    /// This many of the jobs that are due.
    pub due: u32,
    /// This many running jobs that a boot other than this one holds.
    pub dead: Option<(BootId, u32)>,
    /// Numbers of names.
    pub names: BTreeSet<Name>,
    /// Answers to calls made before.
    pub keys: BTreeSet<KeyRef>,
    /// This many remembered calls that have run out.
    pub expired_keys: u32,
    /// Who holds these unique keys, and their rows; with the holder's args where that says so.
    pub uniques: BTreeMap<KeyRef, bool>,
    /// What these keys have.
    pub kv: BTreeSet<KvKey>,
    /// Which runs of these jobs have logs, and how large.
    pub run_logs: BTreeSet<JobRef>,
    /// Args of these jobs.
    pub args: BTreeSet<JobRef>,
    /// What holds for these; of a tenant and of a queue that has had jobs also its totals.
    pub scopes: BTreeSet<Scope>,
    /// Jobs that are being told how others ended, up to this many; and where that ends them, those that wait for them.
    pub settling: u32,
    /// What was heard and has yet to be told, first first, up to so many; and up to [`LISTENERS_BYTES_MAX`](crate::command::limits::LISTENERS_BYTES_MAX) bytes of
    /// it, but for one at least.
    pub heard: u32,
    /// Jobs that were cancelled because of this one, behind that one, up to so many, and their rows and dependencies.
    pub ended_by: BTreeMap<(JobRef, Option<JobId>), u32>,
    /// Pages of lists, and their rows.
    pub pages: Vec<JobsQuery>,
    /// What may be swept.
    pub sweep: Option<Sweep>,
    /// Whether to read the orders of the queues of finished jobs whose rows are read.
    pub orders: bool,
    /// Schedules, and how many their tenants have; where that is true, also their first unfinished jobs, up to
    /// [`OVERLAPS_READ`](crate::schedule::OVERLAPS_READ), and their rows.
    pub schedules: BTreeMap<ScheduleRef, bool>,
    /// Tokens.
    pub tokens: BTreeSet<TokenHash>,
}

impl Needs {
    /// Whether nothing is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The first id behind this one; none: the first of all.
pub(crate) fn behind(after: Option<JobId>) -> u64 {
    after.map_or(0, |after| after.0.saturating_add(1))
}

/// What an engine read for a batch.
#[derive(Debug, Clone, Default)]
pub struct WorkingSet {
    /// The engine's clock; one time for the whole batch.
    pub now: Time,
    /// The same moment on a clock that never steps.
    pub uptime: Millis,
    /// The rows that are there.
    pub jobs: HashMap<JobRef, Arc<Job>>,
    /// Run records, first run first.
    pub runs: HashMap<JobRef, Vec<RunRecord>>,
    /// First jobs of lanes.
    pub lanes: BTreeMap<Lane, Heads>,
    /// Jobs that are due, in the order (`run_at`, id).
    pub due: Vec<JobRef>,
    /// Running jobs of dead boots.
    pub dead: Vec<JobRef>,
    /// Numbers of the names that have one.
    pub names: HashMap<Name, u32>,
    /// In how many queues, and of how many kinds, the tenants have jobs that bring names which have no number yet; see
    /// [`limits::NAMES_IN_USE_MAX`](crate::command::limits::NAMES_IN_USE_MAX).
    pub names_in_use: HashMap<(TenantId, NameClass), u32>,
    /// Calls made before.
    pub keys: HashMap<KeyRef, KeyRecord>,
    /// Remembered calls that have run out.
    pub expired_keys: Vec<(KeyRef, Time)>,
    /// Whether claims wait for an operator.
    pub paused: bool,
    /// Of the rows that were read: those that jobs wait for, or name without waiting. The first word is the stronger one.
    pub waits: HashMap<JobRef, Wait>,
    /// Of those that jobs wait for: the first that do, up to [`WAITERS_READ`]; and whether these are all.
    pub waiters: HashMap<JobRef, (Vec<JobId>, bool)>,
    /// Of the rows that were read: those whose dependents are being told how they ended.
    pub settling: BTreeMap<JobRef, Spread>,
    /// The jobs that wait for a job, in order, as far as they were asked for; and whether these are all.
    pub waiting: HashMap<JobRef, (Vec<JobId>, bool)>,
    /// Whether everything that is being settled was read.
    pub settling_all: bool,
    /// What was heard and has yet to be told, by its number; and whether this is all.
    pub heard: Vec<(u64, Heard)>,
    /// See `heard`.
    pub heard_all: bool,
    /// Who listens to what; always read.
    pub listening: Arc<Listening>,
    /// Jobs that were cancelled because of a job; whether these are all.
    pub ended_by: HashMap<(JobRef, Option<JobId>), (Vec<JobId>, bool)>,
    /// Who holds unique keys: those that were asked for, and those of the rows that were read.
    pub uniques: HashMap<KeyRef, UniqueRecord>,
    /// Unique keys whose period is over.
    pub expired_uniques: Vec<(KeyRef, Time)>,
    /// Args of holders, as far as they were asked for; of one without args they are empty.
    pub args: HashMap<JobRef, Vec<u8>>,
    /// What the keys have that were asked for; none: they are not there.
    pub kv: HashMap<KvKey, Option<Vec<u8>>>,
    /// Of the jobs that were asked for: the runs that have logs, first run first, and how many bytes each.
    pub run_logs: HashMap<JobRef, Vec<(RunNumber, usize)>>,
    /// What was set.
    pub settings: HashMap<Scope, Settings>,
    /// Orders that were set, of queues of finished jobs whose rows were read.
    pub orders: HashMap<QueueId, QueueOrder>,
    /// Totals of the tenants and queues that were asked for.
    pub totals: HashMap<TotalKey, u64>,
    /// The pages that were asked for.
    pub pages: Vec<Page>,
    /// Jobs whose time to begin is over, first expiry first.
    pub expiring: Vec<JobRef>,
    /// Finished jobs of some tenants, by tenant and state, of each the first ones, but not their rows; and the settings and
    /// totals of these tenants.
    pub ended: Vec<EndKey>,
    /// Whether there are none behind them.
    pub ended_all: bool,
    /// The first events of the log: number, time, bytes. And the bytes of all.
    pub oldest: (Vec<(Seq, Time, u32)>, u64),
    /// The next id of a job.
    pub next_job: JobId,
    /// The next number of a name.
    pub next_name: u32,
    /// The schedules that are there.
    pub schedules: HashMap<ScheduleRef, Schedule>,
    /// Unfinished jobs of schedules, as far as they were asked for; whether these are all.
    pub scheduled: HashMap<ScheduleRef, (Vec<JobId>, bool)>,
    /// Slots of schedules before this are not made up for.
    pub schedules_from: Time,
    /// The tokens that are there, of those that were asked for; and, where any was, how many there are in all.
    pub tokens: HashMap<TokenHash, Token>,
    /// See `tokens`.
    pub tokens_stored: u64,
}

impl WorkingSet {
    /// Adds rows that were read later in the same transaction.
    pub fn add_rows(&mut self, later: Self) {
        self.jobs.extend(later.jobs);
        self.waits.extend(later.waits);
        self.waiters.extend(later.waiters);
        self.settling.extend(later.settling);
        self.uniques.extend(later.uniques);
    }

    /// Adds names, and what holds, that were read later in the same transaction.
    pub fn add_names(&mut self, later: Self) {
        self.names.extend(later.names);
        self.names_in_use.extend(later.names_in_use);
        self.settings.extend(later.settings);
        self.totals.extend(later.totals);
    }
}

/// How other jobs depend on one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Wait {
    /// They wait for it to end.
    Waiting = 0,
    /// They have not ended, and do not wait for it any more.
    Named = 1,
    /// They were cancelled because of it.
    EndedBy = 2,
}

/// How a job ended, while those that waited for it are being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// How.
    pub verdict: Verdict,
    /// Whether that may end them too, so that those that wait for them are to be told next.
    pub deep: bool,
}

/// Whose a unique key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UniqueRecord {
    /// The job that took it last.
    pub job: JobId,
    /// Until when it is held whatever became of the job.
    pub until: Option<Time>,
}

/// A page of a list.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Its jobs, newest first.
    pub jobs: Vec<JobRef>,
    /// It ends before this job; none: there are no others. As only so many rows are looked at for a page, there may be
    /// others although it is not full.
    pub next: Option<JobId>,
}

/// The first jobs of a lane.
#[derive(Debug, Clone, Default)]
pub struct Heads {
    /// In the lane's order.
    pub jobs: Vec<JobRef>,
    /// Whether these are all.
    pub all: bool,
}

/// An idempotency key, or a unique key, within its tenant, as its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRef {
    /// Whose.
    pub tenant: TenantId,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
}

/// A key of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KvKey {
    /// Whose.
    pub space: Namespace,
    /// The key.
    pub key: String,
}

/// A remembered call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// SHA-256 of the request.
    #[serde(with = "serde_bytes")]
    pub request: [u8; 32],
    /// Until when it is remembered.
    pub until: Time,
    /// What was answered.
    pub answer: Vec<Enqueued>,
}

/// One change that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A row, once a batch for each job: as the transaction found it, and as it is to be. Its index entries and counts
    /// follow from both.
    Job {
        /// None: there was none.
        before: Option<Arc<Job>>,
        /// None: it is gone, with its payloads, run records and logs.
        after: Option<Arc<Job>>,
        /// The bytes of `after`'s row.
        row: Option<Arc<Row>>,
    },
    /// An event, for the end of the log; numbered when it is written.
    Event(LogEntry),
    /// A payload; none: it is gone.
    Payload(JobRef, Part, Option<Vec<u8>>),
    /// The record of a run; the one that falls out of the last fifty goes, and its log.
    Run(JobRef, Box<RunRecord>),
    /// The log of a run; none: it is gone. It goes as well where the run's record falls out, and with its job.
    RunLog(RunRef, Option<Vec<u8>>),
    /// What a plugin keeps under a key; none: nothing any more.
    Kv(KvKey, Option<Vec<u8>>),
    /// A new name.
    Name(Name, u32),
    /// A remembered call.
    Key(KeyRef, KeyRecord),
    /// A remembered call that ran out then.
    ForgetKey(KeyRef, Time),
    /// Whose a unique key is; none: nobody's.
    Unique(KeyRef, Option<UniqueRecord>),
    /// The entry by which a unique key would have been forgotten then; it is not needed any more.
    UniqueUntil(KeyRef, Time),
    /// A job whose dependents are to be told how it ended; none: they have been.
    Spread(JobRef, Option<Spread>),
    /// What somebody listens to, at the end of the line; numbered when it is written.
    Hear(Box<Heard>),
    /// What has yet to be told of it; none: nothing any more.
    Heard(u64, Option<Box<Heard>>),
    /// What a tenant's kinds listen to from now on.
    Subscriptions(TenantId, Vec<Subscription>),
    /// What holds from now on.
    Settings(Settings),
    /// Whether claims wait for an operator.
    Paused(bool),
    /// A schedule; none: it is gone.
    Schedule(ScheduleRef, Option<Box<Schedule>>),
    /// Slots of schedules before this are not made up for.
    SchedulesFrom(Time),
    /// A token; none: it is gone.
    Token(TokenHash, Option<Box<Token>>),
    /// The events before this one.
    TrimLog(Seq),
    /// The next id of a job.
    NextJob(JobId),
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Persisted {
    /// The last number of the log.
    pub last_seq: Seq,
    /// Differences in the counts: of what is available by lanes, also those of keys; of what is not, without keys.
    pub counts: Vec<(CountKey, i64)>,
    /// What has changed of keys.
    pub keys: KeyChanges,
    /// When the next job becomes due.
    pub next_due: Option<Time>,
    /// Whether claims wait for an operator.
    pub paused: bool,
}

/// Adds up what `changes` do to the counts, in key order, without zeros.
#[must_use]
pub(crate) fn count_differences(changes: &[Change]) -> Vec<(CountKey, i64)> {
    let mut sums: HashMap<CountKey, i64> = HashMap::new();
    for change in changes {
        if let Change::Job { before, after, .. } = change {
            if let Some(job) = before {
                *sums.entry(crate::index::count_by_lane(job)).or_default() -= 1;
            }
            if let Some(job) = after
                && !(cfg!(planted = "count_drift") && job.state.name() == crate::job::StateName::Retryable)
            {
                *sums.entry(crate::index::count_by_lane(job)).or_default() += 1;
            }
        }
    }
    let mut counts: Vec<_> = sums.into_iter().filter(|(_, n)| *n != 0).collect();
    counts.sort_unstable_by_key(|(key, _)| *key);
    counts
}

/// Adds up what `changes` do to the totals, but for the bytes: these the engine knows when it writes.
#[must_use]
pub(crate) fn total_differences(counts: &[(CountKey, i64)]) -> Vec<(TotalKey, i64)> {
    let mut sums: BTreeMap<TotalKey, i64> = BTreeMap::new();
    for (key, n) in counts {
        let tenant = key.lane.tenant;
        if key.state == StateName::Completed {
            *sums.entry(TotalKey { tenant, of: Total::Completed }).or_default() += n;
        } else if !key.state.is_final() {
            for of in [Total::Unfinished, Total::UnfinishedIn(key.lane.queue)] {
                *sums.entry(TotalKey { tenant, of }).or_default() += n;
            }
        }
    }
    sums.into_iter().filter(|(_, n)| *n != 0).collect()
}
