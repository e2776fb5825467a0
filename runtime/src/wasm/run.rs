//! One run: take linked code, give it a store with all limits, call it, say how it ended.
//!
//! [`run`] always answers with a [`RunReport`]: whatever a guest does is an outcome. The wall clock is around
//! everything, instantiation included, and is looked at whenever the guest yields (every 10 M fuel or 1 ms of host
//! calls), so that it also holds on a machine whose timers are late. Nothing is recorded here, and nothing is tried
//! again.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use runner_store::job::JobSpec;
use runner_store::job::outcome::Outcome;
use runner_store::job::time::{Millis, Time};
use tokio::time::{Instant, sleep_until};
use wasmtime::{Engine, Store};

use super::answer::Answer;
use super::backing::{Backing, KvWrite};
use super::blobs::Writers;
use super::cancel::{Asked, CancelSignal};
use super::classify::{self, Phase};
use super::command::{self, ANSWER_SLACK_BYTES};
use super::engine;
use super::grants::Grants;
use super::guest::Guest;
use super::host::{Job, Staged, contract, types};
use super::limits::{Limits, MemoryLimiter};
use super::log::RunLog;
use super::plugin::{Code, Plugin};
use super::streams::{LastLine, Progress, Streams};
use super::wasi;

/// Gives out ids for new jobs, which are reserved before; none: none are left right now.
pub type IdSource = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// Makes a job of a kind, args and the contract's `options`, a JSON object or nothing; or says what is wrong with them.
/// The form of a job in JSON is the API's, so this comes from outside.
pub type ReadJob = Arc<dyn Fn(String, Vec<u8>, &str) -> Result<JobSpec, String> + Send + Sync>;

/// What one run is asked to do.
#[derive(Clone)]
pub struct RunRequest {
    /// The job as its handler sees it.
    pub job: JobView,
    /// What the run may use; merged from the plugin's manifest and the job's own time-out.
    pub limits: Limits,
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
    /// Ends it from outside.
    pub cancel: CancelSignal,
}

/// A job as its handler sees it: the record `job` of the contract.
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
}

/// A job that a run enqueued, to be recorded with its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// From the run's [`IdSource`].
    pub id: u64,
    /// The job: checked, and of a kind that the grant allows.
    pub spec: JobSpec,
}

/// How a run ended, and what is left of it.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// How it ended.
    pub outcome: Outcome,
    /// SHA-256 of the plugin that ran.
    pub digest: String,
    /// Fuel it used.
    pub fuel_used: u64,
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
    /// Jobs to enqueue. Empty unless it completed, snoozed or was discarded by its own answer.
    pub enqueues: Vec<NewJob>,
    /// Durable values to write, in order. Empty as above.
    pub kv: Vec<KvWrite>,
    /// The last progress it reported.
    pub progress: Option<Progress>,
    /// The last checkpoint it left, whatever its outcome.
    pub checkpoint: Option<Vec<u8>>,
}

/// How the call itself came back.
enum Called {
    /// A component's handler answered.
    Answered(Answer),
    /// A command ended with this code.
    Exited(i32),
    /// wasmtime says that it went wrong.
    Broke(Phase, wasmtime::Error),
}

/// Who ended a run from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    TimedOut,
    Cancelled,
    Interrupted,
}

/// Runs one job. Cancel-safe: dropped, the guest is gone and nothing is left.
pub(super) async fn run(engine: &Engine, plugin: &Plugin, request: RunRequest) -> RunReport {
    let begun = Instant::now();
    let RunRequest { job, limits, grants, ids, read_job, backing, streams, cancel } = request;
    let (stdin, copied_bytes_max) = match plugin.code() {
        Code::Component(_) => (None, engine::component_copied_bytes(&limits)),
        Code::Command(_) => {
            streams.expect_answer(answer_bytes_max(&limits));
            (Some(command::input(&job, limits.timeout)), engine::COMMAND_COPIED_BYTES)
        }
    };
    let wasi = wasi::context(&streams, stdin, grants.env());
    let host = Job {
        streams: streams.clone(),
        cancel: cancel.clone(),
        staged: Staged::new(grants, ids, read_job, &limits),
        backing,
        dependencies: job.dependencies.clone(),
        writers: Writers::default(),
        denials: HashSet::new(),
    };
    let memory = MemoryLimiter::new(limits.memory_bytes);
    let guest = Guest::new(memory, host, wasi, limits.clone());
    let mut store = match engine::store(engine, guest, &limits, copied_bytes_max) {
        Ok(store) => store,
        Err(error) => return unstarted(plugin, begun, &error),
    };
    let deadline = begun + Duration::from(limits.timeout);
    let grace = Duration::from(limits.cancel_grace);
    let ended = watched(call(&mut store, plugin.code(), job, &limits), deadline, &cancel, grace).await;
    let fuel_used = limits.fuel().saturating_sub(store.get_fuel().unwrap_or(0));
    let guest = store.into_data();
    report(plugin, guest, ended, &limits, &streams, (begun, fuel_used))
}

/// The longest line of stdout that may be an answer.
fn answer_bytes_max(limits: &Limits) -> usize {
    let bytes = limits.output_bytes.saturating_add(limits.staged_bytes).saturating_add(ANSWER_SLACK_BYTES);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Enters the guest and comes back when it answers, exits or breaks.
async fn call(store: &mut Store<Guest>, code: &Code, job: JobView, limits: &Limits) -> Called {
    match code {
        Code::Component(pre) => call_component(store, pre, job, limits).await,
        Code::Command(pre) => call_command(store, pre).await,
    }
}

async fn call_component(
    store: &mut Store<Guest>,
    pre: &contract::PluginPre<Guest>,
    job: JobView,
    limits: &Limits,
) -> Called {
    let plugin = match pre.instantiate_async(&mut *store).await {
        Ok(plugin) => plugin,
        Err(error) => return Called::Broke(Phase::Starting, error),
    };
    let job = contract_job(job, limits.timeout);
    match plugin.runner_plugin_handler().call_handle(&mut *store, &job).await {
        Ok(result) => Called::Answered(result.into()),
        Err(error) => Called::Broke(Phase::Running, error),
    }
}

async fn call_command(store: &mut Store<Guest>, pre: &wasmtime::InstancePre<Guest>) -> Called {
    let start = match pre.instantiate_async(&mut *store).await {
        Ok(instance) => instance.get_typed_func::<(), ()>(&mut *store, "_start"),
        Err(error) => return Called::Broke(Phase::Starting, error),
    };
    let start = match start {
        Ok(start) => start,
        Err(error) => return Called::Broke(Phase::Starting, error),
    };
    match start.call_async(&mut *store, ()).await {
        Ok(()) => Called::Exited(0),
        Err(error) => match classify::exit_code(&error) {
            Some(code) => Called::Exited(code),
            None => Called::Broke(Phase::Running, error),
        },
    }
}

/// Polls the guest until it is back, its time is over or its end was asked for.
async fn watched<F: Future>(
    call: F,
    deadline: Instant,
    cancel: &CancelSignal,
    grace: Duration,
) -> Result<F::Output, Stopped> {
    let mut call = pin!(call);
    let mut time = pin!(sleep_until(deadline));
    let mut asked = pin!(asked_to_end(cancel, grace));
    poll_fn(|cx| {
        if let Poll::Ready(output) = call.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        // The clock itself first: a thread that is busy with guests looks at its timers late.
        if let Some(stopped) = due(cancel.asked(), grace, deadline) {
            return Poll::Ready(Err(stopped));
        }
        if let Poll::Ready(stopped) = asked.as_mut().poll(cx) {
            return Poll::Ready(Err(stopped));
        }
        time.as_mut().poll(cx).map(|()| Err(Stopped::TimedOut))
    })
    .await
}

/// Who has the right to end the run now, if anyone.
fn due(asked: Asked, grace: Duration, deadline: Instant) -> Option<Stopped> {
    let now = Instant::now();
    match end(asked, grace) {
        Some((until, stopped)) if now >= until => Some(stopped),
        _ if now >= deadline => Some(Stopped::TimedOut),
        _ => None,
    }
}

/// When a run that was asked to end will be ended, and as what: a drain and a second cancel wait for no longer grace.
fn end(asked: Asked, grace: Duration) -> Option<(Instant, Stopped)> {
    match (asked.cancelled.map(|at| at + grace), asked.ended_at) {
        (Some(until), ended_at) => Some((ended_at.map_or(until, |at| at.min(until)), Stopped::Cancelled)),
        (None, ended_at) => ended_at.map(|at| (at, Stopped::Interrupted)),
    }
}

/// Comes back when the run was asked to end and its grace is over.
async fn asked_to_end(cancel: &CancelSignal, grace: Duration) -> Stopped {
    let mut changes = cancel.subscribe();
    loop {
        let asked = *changes.borrow_and_update();
        let Some((until, stopped)) = end(asked, grace) else {
            // The signal is held by `cancel`, so there is always a sender.
            let _ = changes.changed().await;
            continue;
        };
        tokio::select! {
            () = sleep_until(until) => return stopped,
            _ = changes.changed() => {}
        }
    }
}

fn report(
    plugin: &Plugin,
    guest: Guest,
    ended: Result<Called, Stopped>,
    limits: &Limits,
    streams: &Streams,
    (begun, fuel_used): (Instant, u64),
) -> RunReport {
    let host_calls = guest.host_calls(fuel_used);
    let Guest { memory, job: Job { mut staged, .. }, .. } = guest;
    let (log, last, progress) = streams.finish();
    let outcome = outcome(ended, &memory, &mut staged, limits, (&log, last));
    let keeps = matches!(outcome, Outcome::Completed { .. } | Outcome::Snoozed { .. } | Outcome::Discarded { .. });
    RunReport {
        outcome,
        digest: plugin.digest().to_owned(),
        fuel_used,
        memory_peak_bytes: memory.peak_bytes(),
        memory_denied: memory.denied(),
        host_calls,
        wall: begun.elapsed(),
        log,
        enqueues: if keeps { staged.jobs } else { Vec::new() },
        kv: if keeps { staged.kv.writes } else { Vec::new() },
        progress,
        checkpoint: staged.checkpoint,
    }
}

fn outcome(
    ended: Result<Called, Stopped>,
    memory: &MemoryLimiter,
    staged: &mut Staged,
    limits: &Limits,
    (log, last): (&RunLog, LastLine),
) -> Outcome {
    let outcome = match ended {
        Err(Stopped::TimedOut) => return Outcome::TimedOut { limit: limits.timeout },
        Err(Stopped::Cancelled) => return Outcome::Cancelled,
        Err(Stopped::Interrupted) => return Outcome::Interrupted,
        Ok(Called::Broke(phase, error)) => return classify::outcome(phase, &error, memory.denied(), limits, log),
        Ok(Called::Answered(answer)) => answer.outcome(limits, |bytes| staged.fits(bytes)),
        Ok(Called::Exited(code)) => command_outcome(command::ended(code, last, log), staged, limits),
    };
    // A failure after a denied growth is its consequence; who completes after one has coped.
    match outcome {
        Outcome::Failed { .. } if memory.denied() => Outcome::OutOfMemory { limit_bytes: limits.memory_bytes },
        outcome => outcome,
    }
}

fn command_outcome(ended: command::Ended, staged: &mut Staged, limits: &Limits) -> Outcome {
    let (answer, jobs) = match ended {
        command::Ended::Answer(answer, jobs) => (answer, jobs),
        command::Ended::BadAnswer(why) => return classify::bad_answer(why),
        command::Ended::TooLarge => return Outcome::OutputTooLarge { limit_bytes: limits.output_bytes },
    };
    for job in jobs {
        if let Err(refused) = staged.enqueue(job) {
            let message = format!("enqueue was refused ({}): {refused}", refused.code);
            return Outcome::Failed { message, retry_after: None };
        }
    }
    answer.outcome(limits, |bytes| staged.fits(bytes))
}

fn unstarted(plugin: &Plugin, begun: Instant, error: &wasmtime::Error) -> RunReport {
    tracing::error!(plugin = plugin.name(), %error, "no store for a run");
    RunReport {
        outcome: Outcome::Interrupted,
        digest: plugin.digest().to_owned(),
        fuel_used: 0,
        memory_peak_bytes: 0,
        memory_denied: false,
        host_calls: 0,
        wall: begun.elapsed(),
        log: RunLog::default(),
        enqueues: Vec::new(),
        kv: Vec::new(),
        progress: None,
        checkpoint: None,
    }
}

fn contract_job(job: JobView, timeout: Millis) -> types::Job {
    types::Job {
        id: job.id.to_string(),
        kind: job.kind,
        tenant: job.tenant,
        queue: job.queue,
        args: job.args,
        run: job.run,
        attempt: job.attempt,
        max_attempts: job.max_attempts,
        priority: job.priority,
        enqueued_at: rfc3339(job.enqueued_at),
        run_at: rfc3339(job.run_at),
        timeout_ms: u32::try_from(timeout.0).unwrap_or(u32::MAX),
        tags: job.tags,
        checkpoint: job.checkpoint,
        dependencies: job.dependencies.iter().map(u64::to_string).collect(),
        meta: job.meta,
    }
}

/// As the contract has it: UTC with milliseconds.
pub(super) fn rfc3339(time: Time) -> String {
    const PRINTER: jiff::fmt::temporal::DateTimePrinter =
        jiff::fmt::temporal::DateTimePrinter::new().precision(Some(3));
    let millis = i64::try_from(time.0.min(Time::MAX.0)).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    PRINTER.timestamp_to_string(&time)
}
