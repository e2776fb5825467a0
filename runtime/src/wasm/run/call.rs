//! Entering the guest: which export is called, and how the call comes back.

use wasmtime::component::Instance;
use wasmtime::{InstancePre, Store};

use super::request::JobView;
use crate::wasm::answer::Answer;
use crate::wasm::classify::{self, Phase};
use crate::wasm::exports::Exports;
use crate::wasm::guest::Guest;
use crate::wasm::host::contract::exports::runner::plugin::{batch, handler};
use crate::wasm::host::types;
use crate::wasm::plugin::{Code, Plugin};
use runner_store::job::time::{Millis, Time};

/// The handler of an instance, once there is one.
pub(super) type Found = Option<handler::Guest>;

/// What of a plugin is called for its jobs.
pub(super) enum Entry<'a> {
    /// `handle`, for one job.
    Handler(&'a Exports, &'a handler::GuestIndices),
    /// `handle-batch`, for one job or several.
    Batch(&'a Exports, &'a batch::GuestIndices),
    /// A command's `_start`, for one job.
    Command(&'a InstancePre<Guest>),
}

/// How the call itself came back.
pub(super) enum Called {
    /// A component's handler answered.
    Answered(Answer),
    /// A component's batch handler answered, with as many results as there were jobs.
    AnsweredAll(Vec<Answer>),
    /// It answered with so many results instead.
    Miscounted(usize),
    /// A command ended with this code.
    Exited(i32),
    /// wasmtime says that it went wrong.
    Broke(Phase, wasmtime::Error),
}

impl<'a> Entry<'a> {
    /// What is called for jobs of a kind.
    pub(super) fn of(plugin: &'a Plugin, kind: &str) -> Option<Self> {
        if let Code::Command(pre) = plugin.code() {
            return Some(Self::Command(pre));
        }
        let exports = plugin.exports()?;
        match (&exports.handler, &exports.batch) {
            (Some(_), Some(batch)) if plugin.batch(kind).is_some() => Some(Self::Batch(exports, batch)),
            (Some(handler), _) => Some(Self::Handler(exports, handler)),
            (None, Some(batch)) => Some(Self::Batch(exports, batch)),
            // Middleware alone has no jobs of its own.
            (None, None) => None,
        }
    }
}

/// Enters the guest and comes back when it answers, exits or breaks.
pub(super) async fn call(
    store: &mut Store<Guest>,
    entry: &Entry<'_>,
    found: &mut Found,
    (first, others): (JobView, Vec<JobView>),
    timeout: Millis,
) -> Called {
    match entry {
        Entry::Handler(exports, handler) => one(store, exports, (handler, found), contract_job(first, timeout)).await,
        Entry::Batch(exports, batch) => {
            let jobs = std::iter::once(first).chain(others).map(|job| contract_job(job, timeout)).collect();
            all(store, exports, batch, jobs).await
        }
        Entry::Command(pre) => command(store, pre).await,
    }
}

async fn one(
    store: &mut Store<Guest>,
    exports: &Exports,
    (handler, found): (&handler::GuestIndices, &mut Found),
    job: types::Job,
) -> Called {
    let handler = match found {
        Some(handler) => handler,
        None => {
            let loaded = match instance(store, exports).await {
                Ok(instance) => handler.load(&mut *store, &instance),
                Err(error) => return Called::Broke(Phase::Starting, error),
            };
            match loaded {
                Ok(handler) => found.insert(handler),
                Err(error) => return Called::Broke(Phase::Starting, error),
            }
        }
    };
    match handler.call_handle(&mut *store, &job).await {
        Ok(result) => Called::Answered(result.into()),
        Err(error) => Called::Broke(Phase::Running, error),
    }
}

async fn all(
    store: &mut Store<Guest>,
    exports: &Exports,
    batch: &batch::GuestIndices,
    jobs: Vec<types::Job>,
) -> Called {
    let found = match instance(store, exports).await {
        Ok(instance) => batch.load(&mut *store, &instance),
        Err(error) => return Called::Broke(Phase::Starting, error),
    };
    let batch = match found {
        Ok(batch) => batch,
        Err(error) => return Called::Broke(Phase::Starting, error),
    };
    match batch.call_handle_batch(&mut *store, &jobs).await {
        Ok(results) if results.len() == jobs.len() => {
            Called::AnsweredAll(results.into_iter().map(Answer::from).collect())
        }
        Ok(results) => Called::Miscounted(results.len()),
        Err(error) => Called::Broke(Phase::Running, error),
    }
}

/// A fresh instance of a component.
pub(super) async fn instance(store: &mut Store<Guest>, exports: &Exports) -> wasmtime::Result<Instance> {
    exports.pre.instantiate_async(store).await
}

async fn command(store: &mut Store<Guest>, pre: &InstancePre<Guest>) -> Called {
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

/// A job as the contract has it.
pub(super) fn contract_job(job: JobView, timeout: Millis) -> types::Job {
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
pub(in crate::wasm) fn rfc3339(time: Time) -> String {
    const PRINTER: jiff::fmt::temporal::DateTimePrinter =
        jiff::fmt::temporal::DateTimePrinter::new().precision(Some(3));
    let millis = i64::try_from(time.0.min(Time::MAX.0)).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
    PRINTER.timestamp_to_string(&time)
}
