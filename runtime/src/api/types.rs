//! Jobs, runs and answers as JSON shows them: wire types, apart from the store's.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runner_store::command::{Enqueued, RunRecord};
use runner_store::job::outcome::LEASE_RAN_OUT;
use runner_store::job::{Fingerprint, Job, OutcomeName, Reason, StateName, limits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::App;
use super::openapi::words::{OutcomeWord, StateWord};
use super::time::rfc3339;
use crate::buffered::Counts;

/// A job as it is shown and listed. Lists leave out args, output and runs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Job")]
#[expect(missing_docs, reason = "the fields are the vocabulary of the design; `Job` of the store documents each")]
pub struct JobShown {
    pub id: String,
    pub tenant: String,
    pub queue: String,
    pub kind: String,
    #[schemars(with = "StateWord")]
    pub state: StateName,
    pub priority: i16,
    pub tags: BTreeMap<String, String>,
    pub depends_on: Vec<String>,
    pub unique_key: Option<String>,
    pub enqueued_at: String,
    pub run_at: String,
    pub finalized_at: Option<String>,
    pub expires_at: Option<String>,
    pub run: u32,
    pub attempts: u32,
    pub max_attempts: u32,
    pub timeout: String,
    pub progress: Option<ProgressShown>,
    pub waiting: Option<String>,
    pub reason: Option<String>,
    pub cancel_requested: bool,
    pub crashes: u32,
    pub snoozes: u32,
    pub schedule: Option<String>,
    /// Of a job that is retryable or discarded after a run that failed: which error that was. See the filter `error`.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// Its key among the jobs of its kind.
    #[schemars(with = "Option<serde_json::Value>")]
    pub key: Option<Box<RawValue>>,
    /// The time of the schedule that it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// What the external worker calls itself that has the run that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Whether a verb changed anything; only in the answers to verbs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<bool>,
    /// How many jobs were run again because of it; only in the answer to a retry with dependents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revived: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub args: Option<Box<RawValue>>,
    /// Args that are not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub output: Option<Box<RawValue>>,
    /// An output that is not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Vec<RunShown>>,
}

/// How far a run is, or was when it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Progress")]
pub struct ProgressShown {
    /// 0 to 100.
    pub percent: u8,
    /// The handler's words.
    pub message: String,
}

/// A run as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Run")]
#[expect(missing_docs, reason = "as `RunRecord` of the store documents")]
pub struct RunShown {
    pub run: u32,
    pub node: Option<String>,
    pub plugin: Option<String>,
    pub started_at: Option<String>,
    pub finished_at: String,
    #[schemars(with = "OutcomeWord")]
    pub outcome: OutcomeName,
    pub error: Option<String>,
    pub trace: Option<String>,
    pub fuel: u64,
    pub memory_peak_bytes: u64,
    /// What the external worker called itself that had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Whether it was refused memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory_denied: bool,
    /// What else there is to say of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A page of jobs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct JobsPage {
    /// Newest first.
    pub jobs: Vec<JobShown>,
    /// Where the next page begins; none: this is the last.
    pub next_cursor: Option<String>,
}

/// One accepted job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Enqueued")]
#[expect(missing_docs, reason = "as `Enqueued` of the store documents")]
pub struct EnqueuedShown {
    pub id: String,
    #[schemars(with = "StateWord")]
    pub state: StateName,
    pub duplicate: bool,
}

/// The answer to buffered jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Buffered")]
pub struct BufferedShown {
    /// How many were received.
    pub buffered: u64,
}

/// What became of buffered jobs since the server started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Flushed")]
pub struct FlushedShown {
    /// Jobs that were accepted.
    pub accepted: u64,
    /// Jobs that were refused when they were to be accepted; the log says why.
    pub refused: u64,
    /// Jobs of which nothing is known, as the store failed under them.
    pub lost: u64,
}

impl From<Counts> for FlushedShown {
    fn from(counts: Counts) -> Self {
        Self { accepted: counts.accepted, refused: counts.refused, lost: counts.lost }
    }
}

/// The answer to a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnqueuedList {
    /// In the list's order.
    pub jobs: Vec<EnqueuedShown>,
}

impl From<Enqueued> for EnqueuedShown {
    fn from(job: Enqueued) -> Self {
        Self { id: job.id.to_string(), state: job.state, duplicate: job.duplicate }
    }
}

impl JobShown {
    /// The job as lists show it.
    #[must_use]
    pub fn new(app: &App, job: &Job) -> Self {
        let kind = app.store.kind_name(job.kind);
        let tenant = app.store.tenant_name(job.tenant);
        let of_kind = app.plugins.settings(&tenant, &kind);
        Self {
            id: job.id.to_string(),
            tenant: tenant.to_string(),
            queue: app.store.queue_name(job.queue).to_string(),
            state: job.state.name(),
            priority: job.priority.0,
            tags: job.tags.iter().cloned().collect(),
            depends_on: job.dependencies.iter().map(|dependency| dependency.job.to_string()).collect(),
            unique_key: job.unique.as_ref().map(|hold| hold.key.clone()),
            enqueued_at: rfc3339(job.enqueued_at),
            run_at: rfc3339(job.run_at),
            finalized_at: job.finalized_at().map(rfc3339),
            expires_at: job.expires_at.map(rfc3339),
            run: job.run.0,
            attempts: job.attempts,
            max_attempts: job.max_attempts.or(of_kind.max_attempts).unwrap_or(limits::ATTEMPTS_DEFAULT),
            timeout: job.timeout.or(of_kind.timeout).unwrap_or(limits::TIMEOUT_DEFAULT).to_string(),
            progress: None,
            waiting: waiting(app, job, &kind),
            reason: reason(job),
            cancel_requested: job.lease().is_some_and(|lease| lease.cancel.is_some()),
            crashes: job.crashes,
            snoozes: job.snoozes,
            schedule: job.schedule.as_ref().map(|of| of.name.clone()),
            fingerprint: Fingerprint::of_job(job).map(|error| error.to_string()),
            key: job.key.as_ref().and_then(|key| RawValue::from_string(key.as_json().to_owned()).ok()),
            slot: job.schedule.as_ref().and_then(|of| of.slot).map(rfc3339),
            worker: job.lease().and_then(|lease| lease.worker.clone()),
            changed: None,
            revived: None,
            args: None,
            args_base64: None,
            output: None,
            output_base64: None,
            runs: None,
            kind: kind.to_string(),
        }
    }

    /// The same with its args and output: as JSON where they are, else as base64.
    #[must_use]
    pub fn with_payloads(mut self, args: Option<&[u8]>, output: Option<&[u8]>) -> Self {
        (self.args, self.args_base64) = shown(args.unwrap_or_default());
        (self.output, self.output_base64) = output.map_or((None, None), shown);
        self
    }

    /// The same with its runs.
    #[must_use]
    pub fn with_runs(self, runs: &[RunRecord]) -> Self {
        let progress = runs.last().and_then(|run| run.progress.clone()).map(ProgressShown::from);
        Self { runs: Some(runs.iter().map(RunShown::from).collect()), progress, ..self }
    }

    /// The same with what the run that goes on said last, if it said something.
    #[must_use]
    pub fn with_progress(self, progress: Option<(u8, String)>) -> Self {
        Self { progress: progress.map(ProgressShown::from).or(self.progress), ..self }
    }
}

impl From<(u8, String)> for ProgressShown {
    fn from((percent, message): (u8, String)) -> Self {
        Self { percent, message }
    }
}

impl From<&RunRecord> for RunShown {
    fn from(run: &RunRecord) -> Self {
        Self {
            run: run.run.0,
            node: run.node.map(|node| node.to_string()),
            plugin: run.plugin.map(|digest| format!("sha256:{}", hex(&digest))),
            started_at: run.started_at.map(rfc3339),
            finished_at: rfc3339(run.finished_at),
            outcome: run.outcome,
            error: run.error.clone(),
            trace: run.trace.clone(),
            fuel: run.fuel,
            memory_peak_bytes: run.memory_peak_bytes,
            worker: run.worker.clone(),
            memory_denied: run.memory_denied,
            notes: run.notes.clone(),
        }
    }
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a job does not run yet, as far as its row tells.
fn waiting(app: &App, job: &Job, kind: &str) -> Option<String> {
    match job.state.name() {
        StateName::Held => Some("on hold until it is released".to_owned()),
        StateName::Blocked => Some(waits_for(job)),
        StateName::Available => {
            let tenant = app.store.tenant_name(job.tenant);
            app.plugins.unserved(&tenant, kind).map(|unserved| unserved.to_string())
        }
        _ => None,
    }
}

/// The jobs that a job waits for.
pub(super) fn waits_for(job: &Job) -> String {
    const SHOWN_MAX: usize = 5;
    let unsettled = || job.dependencies.iter().filter(|edge| edge.settled.is_none());
    let ids: Vec<String> = unsettled().take(SHOWN_MAX).map(|edge| edge.job.to_string()).collect();
    let word = if unsettled().nth(1).is_some() { "jobs" } else { "job" };
    match unsettled().count().saturating_sub(ids.len()) {
        0 => format!("waits for {word} {}", ids.join(", ")),
        more => format!("waits for {word} {} and {more} more", ids.join(", ")),
    }
}

/// One sentence on why the job was cancelled, discarded or snoozed.
pub(super) fn reason(job: &Job) -> Option<String> {
    let because_of = match job.reason() {
        Some(reason @ (Reason::AttemptsExhausted { .. } | Reason::NeverRetried)) => Some(reason.to_string()),
        // Of a worker elsewhere, nothing is known but that.
        Some(Reason::Crashed) if lease_ran_out(job) => {
            Some("crashed: the lease of its last attempt ran out".to_owned())
        }
        Some(Reason::Poison { crashes }) if lease_ran_out(job) => {
            Some(format!("poison: it was lost {crashes} times in a row, the last time as its lease ran out"))
        }
        other => return other.map(ToString::to_string).or_else(|| snoozed(job)),
    };
    // Why the last one failed is what one wants to know of "all attempts failed".
    match (because_of, job.last.as_ref().and_then(|last| last.error.as_deref())) {
        (Some(reason), Some(error)) if !error.is_empty() => Some(format!("{reason}: {error}")),
        (reason, _) => reason,
    }
}

fn lease_ran_out(job: &Job) -> bool {
    job.last.as_ref().is_some_and(|last| last.error.as_deref() == Some(LEASE_RAN_OUT))
}

fn snoozed(job: &Job) -> Option<String> {
    let last = job.last.as_ref().filter(|last| last.outcome == OutcomeName::Snoozed)?;
    let waits = job.state.name() == StateName::Scheduled;
    waits.then(|| last.error.clone().map_or_else(|| "snoozed".to_owned(), |why| format!("snoozed: {why}")))
}

/// Bytes as JSON where they are, else as base64.
pub(super) fn shown(bytes: &[u8]) -> (Option<Box<RawValue>>, Option<String>) {
    match serde_json::from_slice::<Box<RawValue>>(bytes) {
        Ok(json) => (Some(json), None),
        Err(_) if bytes.is_empty() => (None, None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}
