//! What a node has in hand, its plugins, its store as a file, and what its API refused.

use runner_store::Handle;

use super::Measured;
use super::text::{Page, Unit};
use crate::api::refused;
use crate::scheduler::rest::Figures;
use crate::wasm::compile::figures::Figures as Compiling;
use crate::wasm::folder::Registry;

/// From the node's scheduler.
pub(super) fn in_hand(page: &mut Page, figures: &Figures) {
    let Figures { state: _, changed: _, slots, running, claimed, memory_bytes, reserved_bytes } = *figures;
    page.gauge("runner_slots", "Calls of handlers at once, at most.").sample(&[], slots);
    page.gauge("runner_slots_used", "Calls of handlers that go on.").sample(&[], running);
    page.gauge("runner_runs_claimed", "Runs that are claimed and have not started.").sample(&[], claimed);
    page.gauge("runner_run_memory_limit_bytes", "Memory of all runs together, at most.").sample(&[], memory_bytes);
    page.gauge("runner_run_memory_reserved_bytes", "What the runs that go on have reserved of it.")
        .sample(&[], reserved_bytes);
}

/// From the catalog, and from the host that compiles for it, if there is one.
pub(super) fn plugins(page: &mut Page, registry: &Registry, compiling: Option<Compiling>) {
    let mut family =
        page.gauge("runner_plugin_compile_seconds", "How long a loaded plugin took to compile, or to load.");
    for (tenant, plugin) in registry.plugins() {
        let micros = u64::try_from(plugin.describe().compile_time.as_micros()).unwrap_or(u64::MAX);
        family.scaled(&[("tenant", tenant), ("plugin", plugin.name())], micros, Unit::Micros);
    }
    let Some(Compiling { compiled, compile_time, cache_hits }) = compiling else { return };
    let micros = u64::try_from(compile_time.as_micros()).unwrap_or(u64::MAX);
    page.counter("runner_plugins_compiled_total", "Plugins that were compiled, or refused by the compiler.")
        .sample(&[], compiled);
    page.counter("runner_plugins_compile_seconds_total", "How long that took.").scaled(&[], micros, Unit::Micros);
    page.counter("runner_plugins_cache_hits_total", "Plugins whose code was in the cache.").sample(&[], cache_hits);
}

/// From the store and its file.
pub(super) fn store(page: &mut Page, store: &Handle, file_bytes: Option<u64>, measured: Option<Measured>) {
    let activity = store.activity();
    page.counter("runner_store_commits_total", "Transactions that changed something.").sample(&[], activity.commits);
    page.gauge("runner_store_readers", "Views of the store that are open.").sample(&[], activity.readers);
    page.gauge("runner_store_oldest_reader_seconds", "How long the oldest of them has been.").scaled(
        &[],
        activity.oldest_reader.0,
        Unit::Millis,
    );
    let stepped = u8::from(store.clock_step().is_some());
    page.gauge("runner_clock_stepped", "1 while expiry and retention wait because the wall clock stepped.")
        .sample(&[], stepped);
    let why = "Jobs of listeners that were not enqueued: too many followed each other, or there was no room for them.";
    let mut refused = page.counter("runner_listeners_refused_total", why);
    refused.sample(&[("why", "depth")], store.listeners_too_deep());
    refused.sample(&[("why", "room")], store.listeners_without_room());
    if let Some(bytes) = file_bytes {
        page.gauge("runner_store_bytes", "Bytes of the store's file.").sample(&[], bytes);
    }
    if let Some(Measured { live_bytes, free_bytes, disk_free_bytes, .. }) = measured {
        page.gauge("runner_store_live_bytes", "Bytes of what the store keeps, as last measured.")
            .sample(&[], live_bytes);
        page.gauge("runner_store_free_bytes", "Bytes of the file that are written again before it grows, likewise.")
            .sample(&[], free_bytes);
        page.gauge("runner_disk_free_bytes", "Bytes of the store's disk that may still be written, likewise.")
            .sample(&[], disk_free_bytes);
    }
}

/// What this process refused.
pub(super) fn refused(page: &mut Page) {
    let mut family = page.counter("runner_requests_rejected_total", "Requests of the API that were refused, by code.");
    for ((status, code), requests) in refused::now() {
        family.sample(&[("code", &code), ("status", &status.to_string())], requests);
    }
}
