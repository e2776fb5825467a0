//! What a run is asked to do: the jobs, what they may use and do, and who stands around them.

use std::sync::Arc;

use runner_store::job::JobSpec;
use runner_store::job::time::{Millis, Time};

use crate::wasm::backing::Backing;
use crate::wasm::cancel::CancelSignal;
use crate::wasm::grants::Grants;
use crate::wasm::limits::Limits;
use crate::wasm::plugin::Plugin;
use crate::wasm::streams::Streams;

/// Gives out ids for new jobs, which are reserved before; none: none are left right now.
pub type IdSource = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// Makes a tenant's job of a kind, args and the contract's `options`, a JSON object or nothing; or says what is wrong with
/// them. The form of a job in JSON is the API's, so this comes from outside.
pub type ReadJob = Arc<dyn Fn(&str, String, Vec<u8>, &str) -> Result<JobSpec, String> + Send + Sync>;

/// What one run is asked to do.
#[derive(Clone)]
pub struct RunRequest {
    /// The job as its handler sees it.
    pub job: JobView,
    /// Further jobs of the same kind that go into the same call; only for kinds of which [`Plugin::batch`] says so.
    pub others: Vec<BatchJob>,
    /// What the run may use: [`Plugin::limits`]. The jobs' own time-outs are in the jobs.
    pub limits: Limits,
    /// Plugins whose middleware is around the handler, outermost first. Each is called with its own limits and grants.
    pub middleware: Vec<Arc<Plugin>>,
    /// What the run may do; [`Plugin::grants`] where the folder is the operator's own.
    pub grants: Arc<Grants>,
    /// Ids for the jobs it enqueues; none: enqueueing answers `unavailable`.
    pub ids: Option<IdSource>,
    /// Reads the jobs that it enqueues.
    pub read_job: ReadJob,
    /// What of the store it may read.
    pub backing: Arc<dyn Backing>,
    /// Where its log and its progress can be read while it goes on.
    pub streams: Streams,
    /// Ends it from outside; in a call of several jobs, it ends once all of their signals ask for it.
    pub cancel: CancelSignal,
}

/// A further job of a call.
#[derive(Debug, Clone)]
pub struct BatchJob {
    /// The job.
    pub job: JobView,
    /// Says that it was cancelled, or that its node drains.
    pub cancel: CancelSignal,
}

/// A job as its handler sees it (the record `job` of the contract), and what it states of its runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are documented in plugin.wit, record `job`")]
pub struct JobView {
    pub id: u64,
    pub kind: String,
    pub tenant: String,
    pub queue: String,
    pub args: Vec<u8>,
    pub run: u32,
    pub attempt: u32,
    pub max_attempts: u32,
    pub priority: i16,
    pub enqueued_at: Time,
    pub run_at: Time,
    pub tags: Vec<(String, String)>,
    pub checkpoint: Option<Vec<u8>>,
    pub dependencies: Vec<u64>,
    pub meta: Vec<(String, String)>,
    /// The time-out that the job states itself; none: the plugin's policy is asked, else it is that of the limits.
    pub timeout: Option<Millis>,
    /// Whether the job states itself when failed attempts are tried again, so that the plugin's policy is not asked.
    pub states_retry: bool,
}

impl RunRequest {
    /// The most memory that the run has at any instant: handler and middleware are never there at once.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let around = self.middleware.iter().map(|plugin| plugin.own_limits().memory_bytes);
        around.fold(self.limits.memory_bytes, u64::max)
    }
}
