//! Everything that an engine holds, for those who compare two.

use super::{KeyRecord, KeyRef, KvKey, Spread, UniqueRecord};
use crate::command::{CountKey, Name, Part, RunRecord, RunRef, Scope, Settings, Subscription, TotalKey};
use crate::index::EndKey;
use crate::job::{Job, JobId, JobRef, TenantId, Time};
use crate::listening::Heard;
use crate::log::LogEntry;
use crate::schedule::Schedule;
use crate::token::{Token, TokenHash};

/// Everything that an engine keeps, for comparison: two engines that were given the same commands have equal dumps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dump {
    /// Schedules.
    pub schedules: Vec<Schedule>,
    /// Entries of the index of unfinished jobs of schedules.
    pub scheduled: Vec<crate::index::ScheduledKey>,
    /// Entries of the index of jobs with a key that have begun and not ended.
    pub begun: Vec<crate::index::BegunKey>,
    /// Slots of schedules before this are not made up for.
    pub schedules_from: Time,
    /// Tokens.
    pub tokens: Vec<(TokenHash, Token)>,
    /// Rows.
    pub jobs: Vec<Job>,
    /// Payloads.
    pub payloads: Vec<(JobRef, Part, Vec<u8>)>,
    /// Run records.
    pub runs: Vec<(JobRef, RunRecord)>,
    /// Logs of runs.
    pub run_logs: Vec<(RunRef, Vec<u8>)>,
    /// What plugins keep.
    pub kv: Vec<(KvKey, Vec<u8>)>,
    /// Entries of lanes.
    pub lanes: Vec<crate::index::LaneKey>,
    /// Entries of the due index.
    pub due: Vec<crate::index::DueKey>,
    /// Entries of lists.
    pub lists: Vec<crate::index::ListKey>,
    /// Counts.
    pub counts: Vec<(CountKey, u64)>,
    /// Names.
    pub names: Vec<(Name, u32)>,
    /// Remembered calls.
    pub keys: Vec<(KeyRef, KeyRecord)>,
    /// Entries of the index of those that expire.
    pub expiry: Vec<crate::index::ExpiryKey>,
    /// Entries of the index of those that have ended.
    pub ended: Vec<EndKey>,
    /// Who waits for whom.
    pub waits: Vec<crate::index::WaitKey>,
    /// Entries of the index of tags.
    pub tags: Vec<crate::index::TagKey>,
    /// Whose unique keys are.
    pub uniques: Vec<(KeyRef, UniqueRecord)>,
    /// Jobs whose dependents are being told.
    pub spreads: Vec<(JobRef, Spread)>,
    /// What was heard and has yet to be told.
    pub heard: Vec<(u64, Heard)>,
    /// What kinds listen to.
    pub subscriptions: Vec<(TenantId, Vec<Subscription>)>,
    /// What was set.
    pub settings: Vec<(Scope, Settings)>,
    /// Totals.
    pub totals: Vec<(TotalKey, u64)>,
    /// Whether claims wait for an operator.
    pub paused: bool,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// The log.
    pub log: Vec<LogEntry>,
    /// The next id of a job.
    pub next_job: JobId,
}
