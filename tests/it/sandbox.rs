//! The sandbox: whatever a guest does is an outcome, and nobody else notices.
//!
//! Guests are written in WebAssembly text ([`guests`]). Wall-clock bounds here have a margin of five, as the machine
//! may be busy; the figures themselves are in `benches/sandbox.rs`.

mod answers;
mod batches;
mod blobs;
pub(crate) mod bombs;
mod compiling;
pub(crate) mod exports;
mod folders;
pub(crate) mod guests;
mod hostile;
mod http;
mod loading;
mod manners;
pub(crate) mod merging;
mod middleware;
mod policy;
pub(crate) mod reload;
pub(crate) mod reuse;
mod scripts;

use std::sync::{Arc, OnceLock};

use runner_runtime::wasm::{
    Alone, CancelSignal, Host, HostSettings, JobView, Limits, Manifest, Plugin, ReadJob, RunReport, RunRequest, Streams,
};
use runner_store::job::outcome::{Outcome, OutcomeName};
use runner_store::job::time::{Millis, Time};

/// One host for all tests, as one process has one.
fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host::new(&HostSettings::default()).expect("wasmtime runs here"))
}

#[track_caller]
fn compile(bytes: &[u8]) -> Arc<Plugin> {
    compile_with(bytes, "")
}

#[track_caller]
fn compile_with(bytes: &[u8], manifest: &str) -> Arc<Plugin> {
    let manifest = Manifest::parse(manifest).expect("the manifest is right");
    Arc::new(host().compile("guest", bytes, manifest).expect("the guest is a plugin"))
}

fn job() -> JobView {
    JobView {
        id: 7,
        kind: "guest".to_owned(),
        tenant: "default".to_owned(),
        queue: "default".to_owned(),
        args: br#"{"n":1}"#.to_vec(),
        run: 2,
        attempt: 1,
        max_attempts: 25,
        enqueued_at: Time(1_700_000_000_123),
        run_at: Time(1_700_000_000_123),
        ..JobView::default()
    }
}

/// A request with a time-out that a stuck test does not wait for.
/// Reads the jobs that guests enqueue, as a node does.
fn read_job() -> ReadJob {
    runner_runtime::api::new_job::reader(&Arc::default())
}

fn request(plugin: &Plugin) -> RunRequest {
    let limits = Limits { timeout: Millis::secs(10), ..plugin.limits("guest") };
    RunRequest {
        job: job(),
        others: Vec::new(),
        limits,
        middleware: Vec::new(),
        grants: plugin.grants(),
        ids: None,
        read_job: read_job(),
        backing: Arc::new(Alone),
        streams: Streams::default(),
        cancel: CancelSignal::new(),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    runtime.block_on(future)
}

#[track_caller]
fn run(plugin: &Arc<Plugin>, request: RunRequest) -> RunReport {
    block_on(host().spawn(Arc::clone(plugin), request)).expect("the host never panics")
}

/// Runs a guest within limits and expects an outcome of this name.
#[track_caller]
fn check(guest: &[u8], edit: impl FnOnce(&mut Limits), expected: OutcomeName) -> RunReport {
    let plugin = compile(guest);
    let mut request = request(&plugin);
    edit(&mut request.limits);
    let report = run(&plugin, request);
    assert_eq!(report.outcome.name(), expected, "{:?}\n{}", report.outcome, report.log.shown());
    report
}

/// Runs a guest and expects it to trap with this code.
#[track_caller]
fn check_trap(guest: &[u8], edit: impl FnOnce(&mut Limits), expected: &str) -> RunReport {
    let report = check(guest, edit, OutcomeName::Trapped);
    let Outcome::Trapped { code, message, .. } = &report.outcome else { unreachable!("checked by name") };
    assert_eq!(code, expected, "{message}");
    report
}
