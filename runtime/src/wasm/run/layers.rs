//! Middleware around a run: `before` from the outside in, the handler, `after` from the inside out.
//!
//! Each call is a guest of its own, with the limits and grants of the middleware's plugin, inside the run's time-out. What
//! follows from its answers: a failure of `before` is the job's, and nothing further in is called; `after` may turn a
//! failure into another one. A `before` that breaks fails the run (`plugin_broken`, tried again), as going on without an
//! audit or a check would be worse than not going on; an `after` that breaks changes nothing and is said in the run's log.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use runner_store::job::limits::PAYLOAD_BYTES_MAX;
use runner_store::job::outcome::Outcome;
use runner_store::job::time::Millis;
use tokio::time::Instant;
use wasmtime::Store;
use wasmtime::component::Instance;

use super::Means;
use super::aside::{Aside, Said, ask};
use super::call::{contract_job, instance};
use super::enter::enter;
use super::report::{Charge, JobEnd, RunReport};
use super::request::{BatchJob, JobView, RunRequest};
use crate::wasm::answer::{Answer, cut};
use crate::wasm::cancel::{CancelSignal, Signals};
use crate::wasm::guest::Guest;
use crate::wasm::host::contract::exports::runner::plugin::middleware::GuestIndices;
use crate::wasm::host::{Role, types};
use crate::wasm::limits::Limits;
use crate::wasm::log::{LogSource, RunLog};
use crate::wasm::plugin::Plugin;

/// What an `after` gets for a run that the runner ended, as the run's own time may be over.
pub const AFTER_ENDED_TIME: Duration = Duration::from_secs(1);

/// The layers of one call.
struct Layers<'a> {
    means: Means<'a>,
    /// When calls of a run that was ended are over, once there was one.
    after_until: OnceLock<Instant>,
    plugins: Vec<Arc<Plugin>>,
    charges: Vec<Charge>,
    limits: Limits,
    deadline: Instant,
}

/// A job on its way in and out.
struct Wrapped {
    /// As the innermost layer that it has reached sees it.
    job: JobView,
    cancel: CancelSignal,
    /// For each layer that let it in, from the outside: the args that this one saw, where it replaced them.
    entered: Vec<Option<Vec<u8>>>,
    /// How a layer ended it on its way in.
    ended: Option<Outcome>,
}

/// Calls the layers of the request around its jobs; `begun` is when the time-out began to count.
pub(super) async fn around(means: Means<'_>, plugin: &Plugin, mut request: RunRequest, begun: Instant) -> RunReport {
    let plugins = std::mem::take(&mut request.middleware);
    let limits = request.limits.clone();
    let deadline = begun + Duration::from(limits.timeout);
    let mut layers = Layers {
        means,
        after_until: OnceLock::new(),
        charges: plugins.iter().map(|p| Charge::of(p)).collect(),
        plugins,
        limits,
        deadline,
    };
    let mut jobs = wrapped(&mut request);
    for wrapped in &mut jobs {
        layers.before(wrapped, &request).await;
    }
    let inside: Vec<BatchJob> = jobs.iter().filter(|job| job.ended.is_none()).map(Wrapped::inside).collect();
    let mut inside = inside.into_iter();
    let mut report = match inside.next() {
        Some(BatchJob { job, cancel }) => {
            let streams = request.streams.clone();
            let request = RunRequest { job, cancel, others: inside.collect(), streams, ..request };
            enter(means, plugin, request, begun).await
        }
        None => RunReport::unentered(plugin, begun, request.streams.finish().0),
    };
    let mut outcomes = outcomes(&jobs, &mut report).into_iter();
    let mut ends = Vec::with_capacity(jobs.len());
    for wrapped in jobs {
        let outcome = outcomes.next().unwrap_or(Outcome::Interrupted);
        ends.push(layers.after(wrapped, outcome, &mut report.log).await);
    }
    let mut ends = ends.into_iter();
    report.outcome = ends.next().unwrap_or(Outcome::Interrupted);
    report.others = ends.map(JobEnd::of).collect();
    let keeping = |outcome: &Outcome| {
        matches!(outcome, Outcome::Completed { .. } | Outcome::Snoozed { .. } | Outcome::Discarded { .. })
    };
    // A layer may turn the end of a single job into one that keeps nothing; what several staged is kept for one that has
    // completed, which no layer changes.
    if report.others.is_empty() && !keeping(&report.outcome) {
        report.enqueues.clear();
        report.kv.clear();
    }
    report.charges.extend(layers.charges);
    report.wall = begun.elapsed();
    report
}

fn wrapped(request: &mut RunRequest) -> Vec<Wrapped> {
    let first = (std::mem::take(&mut request.job), request.cancel.clone());
    let others = std::mem::take(&mut request.others).into_iter().map(|other| (other.job, other.cancel));
    std::iter::once(first)
        .chain(others)
        .map(|(job, cancel)| Wrapped { job, cancel, entered: Vec::new(), ended: None })
        .collect()
}

/// The outcome of each job, from the layer that ended it or from the call inside.
fn outcomes(jobs: &[Wrapped], report: &mut RunReport) -> Vec<Outcome> {
    let first = std::mem::replace(&mut report.outcome, Outcome::Interrupted);
    let mut inside =
        std::iter::once(first).chain(std::mem::take(&mut report.others).into_iter().map(|end| end.outcome));
    jobs.iter()
        .map(|job| match &job.ended {
            Some(outcome) => outcome.clone(),
            None => inside.next().unwrap_or(Outcome::Interrupted),
        })
        .collect()
}

impl Wrapped {
    fn inside(&self) -> BatchJob {
        BatchJob { job: self.job.clone(), cancel: self.cancel.clone() }
    }
}

impl Layers<'_> {
    /// Lets a job in through every layer, or ends it at one.
    async fn before(&mut self, wrapped: &mut Wrapped, request: &RunRequest) {
        for at in 0..self.plugins.len() {
            let plugin = Arc::clone(&self.plugins[at]);
            let said = self.ask_before(&plugin, wrapped, Duration::from(request.limits.cancel_grace)).await;
            self.charges[at].add(&said);
            for (source, line) in lines(&plugin, &said.log) {
                request.streams.line(source, &line);
            }
            let ended = match said.answer {
                Ok(Ok(None)) => {
                    wrapped.entered.push(None);
                    continue;
                }
                Ok(Ok(Some(args))) if args.len() <= PAYLOAD_BYTES_MAX => {
                    wrapped.entered.push(Some(std::mem::replace(&mut wrapped.job.args, args)));
                    continue;
                }
                Ok(Ok(Some(args))) => broke(
                    &plugin,
                    &format!("gave args of {} bytes, at most {PAYLOAD_BYTES_MAX} are possible", args.len()),
                ),
                Ok(Err(failure)) => Answer::from(Err(failure)).outcome(&self.limits, |_| true),
                Err(outcome @ (Outcome::Cancelled | Outcome::Interrupted)) => outcome,
                Err(outcome) => broke(&plugin, &Said::<()>::why(&outcome)),
            };
            wrapped.ended = Some(ended);
            return;
        }
    }

    async fn ask_before(
        &self,
        plugin: &Plugin,
        wrapped: &Wrapped,
        grace: Duration,
    ) -> Said<Result<Option<Vec<u8>>, types::Failure>> {
        let mut aside = self.aside(plugin, self.deadline);
        (aside.signals, aside.grace) = (Signals::new(wrapped.cancel.clone(), Vec::new()), grace);
        let job = contract_job(wrapped.job.clone(), self.limits.timeout);
        ask!(aside, store => {
            let (instance, middleware) = find(store, plugin).await?;
            middleware.load(&mut *store, &instance)?.call_before(&mut *store, &job).await
        })
    }

    /// Tells every layer that let a job in how it ended, and answers how it ends after all of them.
    async fn after(&mut self, mut wrapped: Wrapped, mut outcome: Outcome, log: &mut RunLog) -> Outcome {
        while let Some(seen) = wrapped.entered.pop() {
            let at = wrapped.entered.len();
            if let Some(args) = seen {
                wrapped.job.args = args;
            }
            let plugin = Arc::clone(&self.plugins[at]);
            let said = self.ask_after(&plugin, &wrapped, &outcome).await;
            self.charges[at].add(&said);
            for (source, line) in lines(&plugin, &said.log) {
                log.push(source, line.as_bytes());
            }
            let (ends, remark) = turned(outcome, said.answer, &self.limits);
            outcome = ends;
            if let Some(remark) = remark {
                log.push(LogSource::Runner, format!("middleware `{}`: {remark}", plugin.name()).as_bytes());
            }
        }
        outcome
    }

    async fn ask_after(
        &self,
        plugin: &Plugin,
        wrapped: &Wrapped,
        outcome: &Outcome,
    ) -> Said<Result<Vec<u8>, types::Failure>> {
        let ended = contract_outcome(outcome);
        // One such time for the whole call, however many jobs and layers it has: its slot waits for it.
        let own = *self.after_until.get_or_init(|| Instant::now() + AFTER_ENDED_TIME);
        let asked = matches!(ended, types::Outcome::Ended(_)) || wrapped.cancel.is_asked();
        let mut aside = self.aside(plugin, if asked { own } else { self.deadline });
        if !asked {
            aside.signals = Signals::new(wrapped.cancel.clone(), Vec::new());
            aside.grace = AFTER_ENDED_TIME;
        }
        let job = contract_job(wrapped.job.clone(), self.limits.timeout);
        ask!(aside, store => {
            let (instance, middleware) = find(store, plugin).await?;
            middleware.load(&mut *store, &instance)?.call_after(&mut *store, &job, &ended).await
        })
    }

    /// A call of a layer, ended at `deadline` or at its own time-out.
    fn aside(&self, plugin: &Plugin, deadline: Instant) -> Aside<'_> {
        let limits = plugin.own_limits();
        let deadline = deadline.min(Instant::now() + Duration::from(limits.timeout));
        Aside::new(self.means, (Role::Middleware, plugin.grants(), limits), deadline)
    }
}

async fn find<'a>(store: &mut Store<Guest>, plugin: &'a Plugin) -> wasmtime::Result<(Instance, &'a GuestIndices)> {
    let found = plugin.exports().and_then(|exports| Some((exports, exports.middleware.as_ref()?)));
    let Some((exports, middleware)) = found else {
        return Err(wasmtime::Error::msg("the plugin exports no middleware"));
    };
    Ok((instance(store, exports).await?, middleware))
}

/// What a layer wrote, under its name: the log is the run's.
fn lines<'a>(plugin: &'a Plugin, log: &'a RunLog) -> impl Iterator<Item = (LogSource, String)> + 'a {
    log.lines().map(|line| (line.source, format!("{}: {}", plugin.name(), String::from_utf8_lossy(&line.bytes))))
}

/// A layer that broke on the way in: the attempt failed, and is tried again.
fn broke(plugin: &Plugin, why: &str) -> Outcome {
    Outcome::PluginBroken { message: cut(format!("middleware `{}`: {why}", plugin.name())) }
}

/// How a job ends after what a layer answered, and what is to be said about that.
fn turned(
    outcome: Outcome,
    answer: Result<Result<Vec<u8>, types::Failure>, Outcome>,
    limits: &Limits,
) -> (Outcome, Option<String>) {
    let answer = match answer {
        Ok(answer) => answer,
        Err(broken) => {
            let why = Said::<()>::why(&broken);
            return (outcome, Some(format!("`after` broke, the outcome stands: {why}")));
        }
    };
    match (&outcome, answer) {
        (Outcome::Completed { .. }, Ok(output)) if output.len() as u64 > limits.output_bytes => {
            let why = format!("its output of {} bytes is larger than the limit; the handler's stands", output.len());
            (outcome, Some(why))
        }
        (Outcome::Completed { .. }, Ok(output)) => (Outcome::Completed { output }, None),
        (Outcome::Completed { .. }, Err(_)) => {
            (outcome, Some("a completed job stays completed; its failure was ignored".to_owned()))
        }
        (Outcome::Failed { .. } | Outcome::Discarded { .. } | Outcome::Snoozed { .. }, Err(failure)) => {
            (Answer::from(Err(failure)).outcome(limits, |_| true), None)
        }
        (Outcome::Failed { .. } | Outcome::Discarded { .. } | Outcome::Snoozed { .. }, Ok(_)) => {
            (outcome, Some("a failure may become another one, not a result; its answer was ignored".to_owned()))
        }
        // The runner ended it, and nobody's answer changes that.
        _ => (outcome, None),
    }
}

/// An outcome as middleware sees it.
fn contract_outcome(outcome: &Outcome) -> types::Outcome {
    let millis = |delay: Millis| u32::try_from(delay.0).unwrap_or(u32::MAX);
    let failure = match outcome {
        Outcome::Completed { output } => return types::Outcome::Completed(output.clone()),
        Outcome::Failed { message, retry_after } => {
            types::Failure::Retry(types::Retry { message: message.clone(), after_ms: retry_after.map(millis) })
        }
        Outcome::Discarded { reason } => types::Failure::Discard(reason.clone()),
        Outcome::Snoozed { delay, reason } => {
            types::Failure::Snooze(types::Snooze { after_ms: millis(*delay), reason: reason.clone() })
        }
        ended => return types::Outcome::Ended(ended.name().as_str().to_owned()),
    };
    types::Outcome::Failed(failure)
}
