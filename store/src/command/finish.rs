//! How runs end, and what they leave: with each run by itself, or for all runs of one call at once.

use super::RunRef;
use crate::job::{JobId, JobKey, JobSpec, Outcome, PluginId, RunSettings, TenantId, Time};

/// See [`Command::Finish`](super::Command::Finish).
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
    /// Merged args, for staged jobs whose unique key is held; positions are those in `staged`.
    pub merged: Vec<Merged>,
    /// What its plugin's keys become with it, if it completed, snoozed or was discarded by its handler.
    pub kv: Option<KvWrites>,
    /// The log of the run, as whoever reads it understands it, up to
    /// [`RUN_LOG_BYTES_MAX`](crate::job::limits::RUN_LOG_BYTES_MAX); none: it has none. Kept whatever the outcome.
    pub log: Option<Vec<u8>>,
    /// SHA-256 of the request of whoever may have to repeat it, an external worker: the same again is answered the same, with
    /// [`Reply::Finished`](super::Reply::Finished), for a day; none: it is not remembered.
    pub request: Option<[u8; 32]>,
}

impl Finish {
    /// The end of a run that left nothing and of which nothing was measured.
    #[must_use]
    pub fn new(run: RunRef, outcome: Outcome, settings: RunSettings) -> Self {
        Self {
            run,
            outcome,
            settings,
            measured: Measured::default(),
            staged: Vec::new(),
            checkpoint: None,
            merged: Vec::new(),
            kv: None,
            log: None,
            request: None,
        }
    }
}

/// See [`Command::FinishCall`](super::Command::FinishCall).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishCall {
    /// Its runs, 1 to [`CALL_RUNS_MAX`](super::limits::CALL_RUNS_MAX), all of one tenant, each of another job.
    pub runs: Vec<Ended>,
    /// Whether the call as a whole failed, so that nobody knows by which of its jobs: from now on each is taken alone,
    /// until it completes or an operator retries it.
    pub failed: bool,
    /// Jobs to enqueue with it, once, if one of its runs completed. Their ids were reserved.
    pub staged: Vec<StagedJob>,
    /// Merged args, as in [`Finish::merged`].
    pub merged: Vec<Merged>,
    /// What its plugin's keys become with it, once, if one of its runs completed.
    pub kv: Option<KvWrites>,
    /// The log of the call, as in [`Finish::log`]: kept once, and found by each of its runs.
    pub log: Option<Vec<u8>>,
}

/// The end of one run of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The run that speaks.
    pub run: RunRef,
    /// How it ended.
    pub outcome: Outcome,
    /// What holds where the job states nothing of its own.
    pub settings: RunSettings,
    /// What the record of the run keeps.
    pub measured: Measured,
}

/// Merged args, for a holder that has not changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Of which job of the list.
    pub position: u32,
    /// Which job holds the key.
    pub holder: JobId,
    /// What the holder was when its args were read.
    pub version: u64,
    /// The holder's new args.
    pub args: Vec<u8>,
    /// The key that stands in them.
    pub key: Option<JobKey>,
}

/// A job that a run enqueues with its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedJob {
    /// A reserved id.
    pub id: JobId,
    /// The job.
    pub spec: JobSpec,
}

/// Whose keys: those of one plugin within its tenant, which no other sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace {
    /// The tenant.
    pub tenant: TenantId,
    /// The plugin.
    pub plugin: PluginId,
}

/// What a plugin's keys become with a call of its handler, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvWrites {
    /// Whose keys, within the tenant of the job.
    pub plugin: PluginId,
    /// The writes. The first whose condition does not hold when they are recorded is a conflict: then none of them is, and
    /// the run has failed.
    pub writes: Vec<KvWrite>,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvWrite {
    /// The key, up to [`KV_KEY_BYTES_MAX`](crate::job::limits::KV_KEY_BYTES_MAX).
    pub key: String,
    /// The value that the key must have, as the writes before this one leave it (inner none: it must not be there). None:
    /// whatever it has.
    pub expected: Option<Option<Vec<u8>>>,
    /// The value that it gets, up to [`KV_VALUE_BYTES_MAX`](crate::job::limits::KV_VALUE_BYTES_MAX); none: it is removed.
    pub value: Option<Vec<u8>>,
}

impl KvWrites {
    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.writes.iter().map(|write| write.key.len() + write.value.as_ref().map_or(0, Vec::len)).sum()
    }
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
    /// Whether it was refused memory.
    pub memory_denied: bool,
    /// What else is to be said of it, such as a middleware's failure: up to
    /// [`NOTES_MAX`](crate::job::limits::NOTES_MAX), each cut at [`NOTE_BYTES_MAX`](crate::job::limits::NOTE_BYTES_MAX).
    pub notes: Vec<String>,
}
