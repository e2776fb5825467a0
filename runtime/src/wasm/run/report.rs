//! What is left of a run: how its jobs ended, what it used, what it staged.

use std::time::Duration;

use runner_store::job::JobSpec;
use runner_store::job::outcome::Outcome;
use runner_store::job::time::Millis;
use tokio::time::Instant;

use super::aside::Said;
use crate::wasm::backing::KvWrite;
use crate::wasm::log::RunLog;
use crate::wasm::plugin::Plugin;
use crate::wasm::streams::Progress;

/// A job that a run enqueued, to be recorded with its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// From the run's [`IdSource`](super::request::IdSource).
    pub id: u64,
    /// The job: checked, and of a kind that the grant allows.
    pub spec: JobSpec,
}

/// How a run ended, and what is left of it.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// How it ended; in a call of several jobs, how the first of them did.
    pub outcome: Outcome,
    /// When the plugin's policy wants the failed attempt to be tried again; it goes before the manifest's backoff, and
    /// behind what the job or its handler said.
    pub next_retry: Option<Millis>,
    /// How the further jobs of the call ended, in their order.
    pub others: Vec<JobEnd>,
    /// Whether the call itself failed (a trap, a limit, a time-out, a wrong number of results), so that its jobs did not
    /// answer one by one: those of a batch are taken alone from then on.
    pub call_failed: bool,
    /// SHA-256 of the plugin that ran.
    pub digest: String,
    /// Fuel that the handler used, for all jobs of the call together.
    pub fuel_used: u64,
    /// What others used around the handler: middleware and the plugin's policy.
    pub charges: Vec<Charge>,
    /// The most that its linear memories had together.
    pub memory_peak_bytes: u64,
    /// Whether it was refused memory, even if it went on.
    pub memory_denied: bool,
    /// Calls out of the guest.
    pub host_calls: u64,
    /// From its start to its end; waiting for a place is not in it.
    pub wall: Duration,
    /// What it wrote.
    pub log: RunLog,
    /// Jobs to enqueue. Empty unless it completed, snoozed or was discarded by its own answer; in a call of `batch`, unless
    /// one of its jobs completed.
    pub enqueues: Vec<NewJob>,
    /// Durable values to write, in order. Empty as above.
    pub kv: Vec<KvWrite>,
    /// The last progress it reported.
    pub progress: Option<Progress>,
    /// The last checkpoint it left, whatever its outcome.
    pub checkpoint: Option<Vec<u8>>,
}

/// How a further job of a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// How.
    pub outcome: Outcome,
    /// As [`RunReport::next_retry`].
    pub next_retry: Option<Millis>,
}

/// What a plugin used around a handler, at whose cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The tenant whose plugin it is: the one that configured it.
    pub tenant: String,
    /// The plugin.
    pub plugin: String,
    /// Fuel.
    pub fuel: u64,
    /// Host time.
    pub wall: Duration,
    /// Calls that broke.
    pub failures: u32,
}

impl Charge {
    /// Of a plugin that was not called yet.
    pub(super) fn of(plugin: &Plugin) -> Self {
        Self {
            tenant: plugin.grants().tenant().name.clone(),
            plugin: plugin.name().to_owned(),
            fuel: 0,
            wall: Duration::ZERO,
            failures: 0,
        }
    }

    /// Adds a call.
    pub(super) fn add<T>(&mut self, said: &Said<T>) {
        self.fuel = self.fuel.saturating_add(said.fuel);
        self.wall += said.wall;
        self.failures += u32::from(said.answer.is_err());
    }
}

impl JobEnd {
    pub(super) fn of(outcome: Outcome) -> Self {
        Self { outcome, next_retry: None }
    }
}

impl RunReport {
    /// Of a run whose guest was not entered, through no fault of its own: a bug, said in the process's log.
    pub(super) fn unstarted(plugin: &Plugin, others: usize, begun: Instant, why: &str) -> Self {
        tracing::error!(plugin = plugin.name(), "a run was not entered: {why}");
        let others = (0..others).map(|_| JobEnd::of(Outcome::Interrupted)).collect();
        Self { others, ..Self::unentered(plugin, begun, RunLog::default()) }
    }

    /// Of a run whose handler was not called: how its job ended is somebody else's to say.
    pub(super) fn unentered(plugin: &Plugin, begun: Instant, log: RunLog) -> Self {
        Self {
            outcome: Outcome::Interrupted,
            next_retry: None,
            others: Vec::new(),
            call_failed: false,
            digest: plugin.digest().to_owned(),
            fuel_used: 0,
            charges: Vec::new(),
            memory_peak_bytes: 0,
            memory_denied: false,
            host_calls: 0,
            wall: begun.elapsed(),
            log,
            enqueues: Vec::new(),
            kv: Vec::new(),
            progress: None,
            checkpoint: None,
        }
    }
}
