//! The advice of a plugin's `policy`: settings of its kinds when it is loaded, a time-out before a run, the next retry
//! after a failed one. Whatever it says is only advice: it is clamped by the contract here and by the operator later, and a
//! policy that breaks means what holds without one.

use std::time::Duration;

use runner_store::job::limits::{ATTEMPTS_DEFAULT, RETRY_DELAY_MAX, TIMEOUT_MAX};
use runner_store::job::outcome::Outcome;
use runner_store::job::time::Millis;
use tokio::time::Instant;

use super::Means;
use super::aside::{Aside, Said, ask};
use super::call::{contract_job, instance};
use super::report::{Charge, RunReport};
use super::request::{JobView, RunRequest};
use crate::wasm::exports::Exports;
use crate::wasm::host::Role;
use crate::wasm::host::contract::exports::runner::plugin::policy::{GuestIndices, KindPolicy};
use crate::wasm::limits::Limits;
use crate::wasm::log::LogSource;
use crate::wasm::plugin::Plugin;

/// Fuel of one answer: some tens of milliseconds, in which the slowest language runtimes start and decide.
pub const ADVICE_FUEL: u64 = 500_000_000;
/// Wall clock of all answers before a call, and of those after it, whose slot waits for them.
pub const ADVICE_TIME: Duration = Duration::from_millis(100);
/// Wall clock of `describe`, for which a plugin that is being loaded waits.
pub const DESCRIBE_TIME: Duration = Duration::from_secs(1);

/// Asks the policy of one plugin during one call, and keeps what that used.
pub(super) struct Advisor<'a> {
    means: Means<'a>,
    plugin: &'a Plugin,
    exports: &'a Exports,
    policy: &'a GuestIndices,
    charge: Charge,
    /// When this round of questions is over: one for all jobs of a call, as their slot waits for it.
    until: Instant,
    /// What its runs reserve of memory: the advice is given within that.
    memory_bytes: u64,
    /// The first broken answer is the last one of the call: what breaks for one job of a batch would for all of them.
    broken: Option<String>,
}

impl<'a> Advisor<'a> {
    /// Where the plugin has a policy.
    pub(super) fn of(means: Means<'a>, plugin: &'a Plugin) -> Option<Self> {
        let exports = plugin.exports()?;
        let policy = exports.policy.as_ref()?;
        let (charge, until) = (Charge::of(plugin), Instant::now());
        Some(Self { means, plugin, exports, policy, charge, until, memory_bytes: 0, broken: None })
    }

    /// Asks for the time-out of every job that states none.
    pub(super) async fn timeouts(&mut self, request: &mut RunRequest) {
        let usual = request.limits.timeout;
        self.memory_bytes = request.limits.memory_bytes;
        self.until = Instant::now() + ADVICE_TIME;
        let others = request.others.iter_mut().map(|other| &mut other.job);
        for job in std::iter::once(&mut request.job).chain(others) {
            if job.timeout.is_none() {
                job.timeout = self.timeout(job, usual).await;
            }
        }
        if let Some(why) = &self.broken {
            request.streams.line(LogSource::Runner, why);
        }
    }

    async fn timeout(&mut self, job: &JobView, usual: Millis) -> Option<Millis> {
        let aside = self.aside()?;
        let (exports, policy, job) = (self.exports, self.policy, contract_job(job.clone(), usual));
        let said = ask!(aside, store => {
            let instance = instance(store, exports).await?;
            policy.load(&mut *store, &instance)?.call_timeout_ms(&mut *store, &job).await
        });
        self.heard(said, "timeout-ms").map(|millis| millis.clamp(Millis(1), TIMEOUT_MAX))
    }

    /// Asks when each attempt that failed is to be tried again, unless its job or its handler said so. `jobs` are those of
    /// the call, in order.
    pub(super) async fn next_retries(&mut self, jobs: Vec<JobView>, timeout: Millis, report: &mut RunReport) {
        let was_broken = self.broken.is_some();
        self.until = Instant::now() + ADVICE_TIME;
        let mut jobs = jobs.into_iter();
        if let Some(job) = jobs.next() {
            report.next_retry = self.next_retry(job, timeout, &report.outcome).await;
        }
        for (job, end) in jobs.zip(&mut report.others) {
            end.next_retry = self.next_retry(job, timeout, &end.outcome).await;
        }
        if let (Some(why), false) = (&self.broken, was_broken) {
            report.log.push(LogSource::Runner, why.as_bytes());
        }
    }

    async fn next_retry(&mut self, job: JobView, timeout: Millis, outcome: &Outcome) -> Option<Millis> {
        let max_attempts = if job.max_attempts == 0 { ATTEMPTS_DEFAULT } else { job.max_attempts };
        if !asks_for_retry(outcome) || job.states_retry || job.attempt >= max_attempts {
            return None;
        }
        let aside = self.aside()?;
        let error = outcome.error().unwrap_or_default();
        let (exports, policy, job) = (self.exports, self.policy, contract_job(job, timeout));
        let said = ask!(aside, store => {
            let instance = instance(store, exports).await?;
            policy.load(&mut *store, &instance)?.call_next_retry_ms(&mut *store, &job, &error).await
        });
        self.heard(said, "next-retry-ms").map(|millis| millis.min(RETRY_DELAY_MAX))
    }

    /// None, once an answer was broken.
    fn aside(&self) -> Option<Aside<'a>> {
        if self.broken.is_some() {
            return None;
        }
        Some(aside(self.means, self.plugin, self.until, self.memory_bytes))
    }

    fn heard(&mut self, said: Said<Option<u32>>, export: &str) -> Option<Millis> {
        self.charge.add(&said);
        match said.answer {
            Ok(millis) => millis.map(|millis| Millis(u64::from(millis))),
            Err(broken) => {
                let why = Said::<()>::why(&broken);
                self.broken = Some(format!("the plugin's policy ({export}) broke, the defaults hold: {why}"));
                None
            }
        }
    }

    /// What it used, if it was asked at all.
    pub(super) fn charge(self) -> Option<Charge> {
        (self.charge.wall > Duration::ZERO).then_some(self.charge)
    }
}

/// Asks for settings of kinds.
///
/// # Errors
/// How the export broke, in one sentence.
pub(in crate::wasm) async fn describe(means: Means<'_>, plugin: &Plugin) -> Option<Result<Vec<KindPolicy>, String>> {
    let exports = plugin.exports()?;
    let policy = exports.policy.as_ref()?;
    let aside = aside(means, plugin, Instant::now() + DESCRIBE_TIME, Limits::default().memory_bytes);
    let said = ask!(aside, store => {
        let instance = instance(store, exports).await?;
        policy.load(&mut *store, &instance)?.call_describe(&mut *store).await
    });
    Some(said.answer.map_err(|broken| Said::<()>::why(&broken)))
}

fn aside<'a>(means: Means<'a>, plugin: &'a Plugin, deadline: Instant, memory_bytes_max: u64) -> Aside<'a> {
    let own = plugin.own_limits();
    let memory_bytes = own.memory_bytes.min(memory_bytes_max);
    let limits = Limits { fuel: Some(ADVICE_FUEL), memory_bytes, ..own };
    Aside::new(means, (Role::Advice, plugin.advice_grants(), limits), deadline)
}

/// Whether a run ended as a failed attempt of which nobody has said yet when it is tried again.
fn asks_for_retry(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Failed { retry_after, .. } => retry_after.is_none(),
        Outcome::Trapped { .. }
        | Outcome::OutOfFuel { .. }
        | Outcome::TimedOut { .. }
        | Outcome::OutOfMemory { .. }
        | Outcome::OutputTooLarge { .. }
        | Outcome::Crashed
        | Outcome::PluginBroken { .. } => true,
        Outcome::Completed { .. }
        | Outcome::Discarded { .. }
        | Outcome::Snoozed { .. }
        | Outcome::Cancelled
        | Outcome::Interrupted => false,
    }
}
