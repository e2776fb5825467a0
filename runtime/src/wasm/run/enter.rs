//! The handler's own part of a run: its store, its call, and what is left of both.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::Store;
use wasmtime_wasi::p1::WasiP1Ctx;

use super::Means;
use super::call::{Called, Entry, Found, call};
use super::outcome::{self, Ends};
use super::report::RunReport;
use super::request::{BatchJob, JobView, RunRequest};
use super::watch::{Stopped, watched};
use crate::wasm::cancel::{CancelSignal, Signals};
use crate::wasm::command::{self, ANSWER_SLACK_BYTES};
use crate::wasm::egress::WayOut;
use crate::wasm::grants::Grants;
use crate::wasm::guest::Guest;
use crate::wasm::host::{Job, Role, Staged};
use crate::wasm::kept::{Had, Kept, Shelf};
use crate::wasm::limits::{Limits, MemoryLimiter};
use crate::wasm::plugin::Plugin;
use crate::wasm::streams::Streams;
use crate::wasm::{engine, wasi};

/// Enters the handler with the jobs of the request; `begun` is when the time-out began to count.
pub(super) async fn enter(means: Means<'_>, plugin: &Plugin, request: RunRequest, begun: Instant) -> RunReport {
    let RunRequest { mut job, others, limits, middleware: _, grants, ids, read_job, backing, streams, cancel } =
        request;
    let (others, signals) = apart(others, cancel);
    let Some(entry) = Entry::of(plugin, &job.kind) else {
        return RunReport::unstarted(plugin, others.len(), begun, "the plugin has no handler for jobs");
    };
    if let Some(script) = plugin.script_to_give() {
        script.give_to(&mut job);
    }
    let (role, stdin, copied_bytes_max) = match &entry {
        Entry::Handler(..) => (Role::Handler, None, engine::component_copied_bytes(&limits)),
        Entry::Batch(..) => (Role::Batch, None, engine::component_copied_bytes(&limits)),
        Entry::Command(_) => {
            streams.expect_answer(answer_bytes_max(&limits));
            (Role::Handler, Some(command::input(&job, limits.timeout)), engine::COMMAND_COPIED_BYTES)
        }
    };
    if role != Role::Batch && !others.is_empty() {
        return RunReport::unstarted(plugin, others.len(), begun, "the plugin takes these jobs one by one");
    }
    let shelf = match &entry {
        Entry::Handler(..) => plugin.shelf(&grants),
        Entry::Batch(..) | Entry::Command(_) => None,
    };
    let dependencies = job.dependencies.clone();
    let staged = Staged::new(Arc::clone(&grants), ids, read_job, &limits);
    let deadline = begun + Duration::from(limits.timeout);
    let way_out = WayOut::new(Arc::clone(means.egress), deadline, limits.http_body_bytes);
    let host = Job::new(role, streams.clone(), signals.clone(), staged, backing, dependencies, way_out);
    let room = match shelf {
        Some(shelf) => kept(means, shelf, host, &limits, (&streams, &grants)),
        None => {
            let wasi = wasi::context(&streams, stdin, grants.env());
            fresh(means, host, wasi, &limits, copied_bytes_max)
        }
    };
    let Room { mut store, mut found, mut keep } = match room {
        Ok(room) => room,
        Err(error) => return RunReport::unstarted(plugin, others.len(), begun, &error.to_string()),
    };
    let grace = Duration::from(limits.cancel_grace);
    let call = call(&mut store, &entry, &mut found, (job, others), limits.timeout);
    let ended = watched(call, deadline, &signals, grace).await;
    let fuel_used = limits.fuel().saturating_sub(store.get_fuel().unwrap_or(0));
    // A request may still be on its way, or its answer be left for the next run.
    let has_sent = store.data().job.way_out.has_sent();
    if has_sent || signals.is_asked() || !matches!(ended, Ok(Called::Answered(_))) {
        keep = None;
    }
    let report = report(plugin, store.data_mut(), ended, &limits, &streams, (begun, fuel_used));
    if let (Some(shelf), Some(keep), Some(handler), false) = (shelf, keep, found, report.memory_denied) {
        keep.outlet.send_on(None);
        shelf.put(Kept { store, handler, outlet: keep.outlet, had: keep.had });
    }
    report
}

/// Where a run takes place.
struct Room {
    store: Store<Guest>,
    /// Of an instance that has run before.
    found: Found,
    /// What is needed to keep it; none: it is dropped after the run.
    keep: Option<Keep>,
}

struct Keep {
    outlet: Streams,
    had: Had,
}

/// A store for one run.
fn fresh(means: Means<'_>, job: Job, wasi: WasiP1Ctx, limits: &Limits, copied: u64) -> wasmtime::Result<Room> {
    let guest = Guest::new(MemoryLimiter::new(limits.memory_bytes, means.memory.counting()), job, wasi, limits.clone());
    let store = engine::store(means.engine, guest, limits, copied)?;
    Ok(Room { store, found: None, keep: None })
}

/// An instance that was kept, or a store whose instance will be.
fn kept(
    means: Means<'_>,
    shelf: &Shelf,
    job: Job,
    limits: &Limits,
    (streams, grants): (&Streams, &Grants),
) -> wasmtime::Result<Room> {
    if let Some(mut kept) = shelf.take(limits) {
        kept.renew(job, limits)?;
        kept.outlet.send_on(Some(streams.clone()));
        let Kept { store, handler, outlet, had } = kept;
        return Ok(Room { store, found: Some(handler), keep: Some(Keep { outlet, had }) });
    }
    let outlet = Streams::default();
    outlet.send_on(Some(streams.clone()));
    let wasi = wasi::context(&outlet, None, grants.env());
    let room = fresh(means, job, wasi, limits, engine::component_copied_bytes(limits))?;
    Ok(Room { keep: Some(Keep { outlet, had: Had::default() }), ..room })
}

/// Jobs and their signals, each for itself.
fn apart(others: Vec<BatchJob>, first: CancelSignal) -> (Vec<JobView>, Signals) {
    let (jobs, signals) = others.into_iter().map(|other| (other.job, other.cancel)).unzip();
    (jobs, Signals::new(first, signals))
}

/// The longest line of stdout that may be an answer.
fn answer_bytes_max(limits: &Limits) -> usize {
    let bytes = limits.output_bytes.saturating_add(limits.staged_bytes).saturating_add(ANSWER_SLACK_BYTES);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn report(
    plugin: &Plugin,
    guest: &mut Guest,
    ended: Result<Called, Stopped>,
    limits: &Limits,
    streams: &Streams,
    (begun, fuel_used): (Instant, u64),
) -> RunReport {
    let host_calls = guest.host_calls(fuel_used);
    let Guest { memory, job: Job { staged, cancel, .. }, .. } = guest;
    let (log, last, progress) = streams.finish();
    let Ends { first, others, call_failed, keeps } = outcome::ends(ended, memory, staged, limits, cancel, (&log, last));
    RunReport {
        outcome: first,
        next_retry: None,
        others,
        call_failed,
        digest: plugin.digest().to_owned(),
        fuel_used,
        charges: Vec::new(),
        memory_peak_bytes: memory.peak_bytes(),
        memory_denied: memory.denied(),
        host_calls,
        wall: begun.elapsed(),
        log,
        enqueues: if keeps { std::mem::take(&mut staged.jobs) } else { Vec::new() },
        kv: if keeps { std::mem::take(&mut staged.kv.writes) } else { Vec::new() },
        progress,
        checkpoint: staged.checkpoint.take(),
    }
}
