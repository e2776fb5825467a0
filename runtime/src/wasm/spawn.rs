//! The host of a process: its engine, and the threads that guests run on.
//!
//! Guests have a tokio runtime of their own, apart from the store's and the API's: a guest that computes for its whole
//! slice delays other guests at most. They come behind the store's and the scheduler's where processors are short: what
//! everybody waits for is not kept waiting by what some compute. A semaphore stands in front of the pool, so that a run
//! without a place waits instead of failing.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use wasmtime::Engine;
use wasmtime::component::Linker;

use super::compile::cache::Cache;
use super::compile::figures::{Counters, Figures};
use super::compile::{Compiler, Stop};
use super::egress::{Egress, EgressSettings};
use super::engine::{self, Fingerprint, HostSettings};
use super::folder::{self, LoadError, TENANT_DEFAULT};
use super::guest::Guest;
use super::host;
use super::host::contract::exports::runner::plugin::policy::KindPolicy;
use super::image::Kept;
use super::manifest::Manifest;
use super::memory::InUse;
use super::plugin::{Plugin, PluginError};
use super::run::{self, Means, MergeError, RunReport, RunRequest};
use super::script::{SCRIPT_SUFFIX, Script};
use crate::operator::Operator;

/// How long a merge waits for its place.
const MERGE_WAIT: Duration = Duration::from_secs(2);
/// What guests' threads are behind the others, as `nice` counts: a third of their share of a processor that both want. More
/// than this brings the writer nothing more.
const NICE: i32 = 5;
/// Polls after which a thread looks at its timers: a guest's slice is a millisecond, tokio's default is 61.
const TIMERS_EVERY: u32 = 4;

/// Why a process has no host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// wasmtime does not run on this machine.
    #[error("the WebAssembly engine does not start: {message}")]
    Engine {
        /// wasmtime's words.
        message: String,
    },
    /// No threads.
    #[error("the guests' threads do not start")]
    Threads(#[source] std::io::Error),
}

/// The host panicked under a run; its hook has said why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Panicked;

/// Compiles plugins and runs them.
pub struct Host {
    engine: Engine,
    components: Linker<Guest>,
    commands: wasmtime::Linker<Guest>,
    compiler: Compiler,
    cache: Option<Arc<Cache>>,
    fingerprint: Fingerprint,
    compile_counters: Counters,
    /// Held while a child compiles: one at a time in a process.
    compiling: Mutex<()>,
    /// Who says what the plugins of a tenant may do.
    operator: Arc<Operator>,
    places: Arc<Semaphore>,
    /// For calls that belong to no run: merges, and the policies of plugins that are loaded.
    asides: Arc<Semaphore>,
    /// For instances that wait for their next run.
    kept: Arc<Semaphore>,
    /// For the images of scripts, in KiB.
    images: Arc<Semaphore>,
    egress: Arc<Egress>,
    memory: Arc<InUse>,
    // Taken by `drop` alone, as a runtime may not be dropped where async code runs.
    guests: Option<Runtime>,
}

impl Host {
    /// Starts the engine and the guests' threads.
    ///
    /// # Errors
    /// wasmtime does not run on this machine, or there are no threads to be had.
    pub fn new(settings: &HostSettings) -> Result<Self, HostError> {
        Self::with_egress(settings, EgressSettings::default())
    }

    /// The same, with a say in how plugins' requests find and trust servers.
    ///
    /// # Errors
    /// As [`Host::new`].
    pub fn with_egress(settings: &HostSettings, egress: EgressSettings) -> Result<Self, HostError> {
        let failed = |error: wasmtime::Error| HostError::Engine { message: super::plugin::chain(&error) };
        let engine = engine::engine(settings).map_err(failed)?;
        let components = host::component_linker(&engine).map_err(failed)?;
        let commands = host::command_linker(&engine).map_err(failed)?;
        let places = Arc::new(Semaphore::new(settings.slots.max(1) as usize));
        let asides = Arc::new(Semaphore::new(engine::ASIDES_MAX as usize));
        let kept = Arc::new(Semaphore::new(engine::KEPT_MAX as usize));
        let guests = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.threads.max(1))
            .thread_name("guest")
            .on_thread_start(come_after_others)
            .event_interval(TIMERS_EVERY)
            // Runs come from another thread: one that comes while guests compute has its first slice behind the present one.
            .global_queue_interval(1)
            .enable_time()
            .enable_io()
            .build()
            .map_err(HostError::Threads)?;
        let HostSettings { compiler, cache, operator, .. } = settings.clone();
        let (fingerprint, compiling) = (engine::fingerprint(&engine), Mutex::new(()));
        Ok(Self {
            engine,
            components,
            commands,
            compiler,
            cache,
            fingerprint,
            compile_counters: Counters::default(),
            compiling,
            operator,
            places,
            asides,
            kept,
            images: Arc::new(Semaphore::new(settings.scripts_kib as usize)),
            egress: Egress::new(egress),
            memory: Arc::default(),
            guests: Some(guests),
        })
    }

    /// Checks, compiles and links the bytes of a plugin with this name. Takes up to seconds: not for async code.
    ///
    /// # Errors
    /// What is wrong with the file and how to mend it.
    pub fn compile(&self, name: &str, bytes: &[u8], manifest: Manifest) -> Result<Plugin, PluginError> {
        self.compile_for(TENANT_DEFAULT, name, bytes, manifest)
    }

    /// The same for a plugin of this tenant.
    ///
    /// # Errors
    /// As [`Host::compile`].
    pub fn compile_for(
        &self,
        tenant: &str,
        name: &str,
        bytes: &[u8],
        manifest: Manifest,
    ) -> Result<Plugin, PluginError> {
        Plugin::new(self, (tenant, name), bytes, None, manifest, &Stop::default())
    }

    /// The same for a script: the bytes are those of the engine that runs it.
    ///
    /// # Errors
    /// As [`Host::compile`].
    pub fn compile_script(
        &self,
        file: &str,
        script: Vec<u8>,
        engine: &[u8],
        manifest: Manifest,
    ) -> Result<Plugin, PluginError> {
        let name = file.strip_suffix(SCRIPT_SUFFIX).unwrap_or(file);
        let script = Script::new(file, script)?;
        Plugin::new(self, (TENANT_DEFAULT, name), engine, Some(script), manifest, &Stop::default())
    }

    /// Loads `NAME.wasm` or `NAME.js` and, if it is there, `NAME.toml` beside it.
    ///
    /// # Errors
    /// What is wrong with which of the two and how to mend it.
    pub fn load(&self, file: &Path) -> Result<Plugin, LoadError> {
        folder::load_file(self, file)
    }

    /// Runs one job on the guests' threads, once there is a place. The task always ends with a report; it fails only
    /// if the host itself panics, which is a bug, or after [`Host::shutdown`]. Aborting it ends the guest at its next
    /// yield and reports nothing.
    pub fn spawn(&self, plugin: Arc<Plugin>, request: RunRequest) -> JoinHandle<RunReport> {
        let (engine, places, egress) = (self.engine.clone(), Arc::clone(&self.places), Arc::clone(&self.egress));
        let memory = Arc::clone(&self.memory);
        self.guests().spawn(async move {
            // Never closed; a run without a place would still be sound, only slower.
            let _place = places.acquire_owned().await.ok();
            run::run(Means { engine: &engine, egress: &egress, memory: &memory }, &plugin, request).await
        })
    }

    /// Runs one job in the caller's task, which is on the guests' threads already, once there is a place.
    ///
    /// # Errors
    /// The host itself panicked, which is a bug.
    pub(crate) async fn run(&self, plugin: &Plugin, request: RunRequest) -> Result<RunReport, Panicked> {
        // Never closed, as above.
        let _place = self.places.acquire().await.ok();
        let mut run = std::pin::pin!(run::run(self.means(), plugin, request));
        poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        })
        .await
    }

    /// Runs one job here and now, on the caller's tokio runtime: for `plugin invoke` and benches.
    pub async fn run_here(&self, plugin: &Plugin, request: RunRequest) -> RunReport {
        // Never closed, as above.
        let _place = self.places.acquire().await.ok();
        run::run(self.means(), plugin, request).await
    }

    /// Merges the args of a job that waits with those of one that is to be enqueued, by the plugin of their kind.
    ///
    /// # Errors
    /// Why not: the plugin's own no, or that it broke, or that nobody had time for it.
    pub async fn merge(
        &self,
        plugin: Arc<Plugin>,
        kind: String,
        waiting: Vec<u8>,
        incoming: Vec<u8>,
    ) -> Result<Vec<u8>, MergeError> {
        let (engine, asides, egress) = (self.engine.clone(), Arc::clone(&self.asides), Arc::clone(&self.egress));
        let (name, memory) = (plugin.name().to_owned(), Arc::clone(&self.memory));
        let merged = self.guests().spawn(async move {
            match tokio::time::timeout(MERGE_WAIT, asides.acquire_owned()).await {
                Ok(_place) => {
                    let means = Means { engine: &engine, egress: &egress, memory: &memory };
                    run::merge(means, &plugin, &kind, &waiting, &incoming).await
                }
                Err(_) => Err(MergeError::Busy),
            }
        });
        merged.await.unwrap_or_else(|error| Err(MergeError::Broken { plugin: name, why: error.to_string() }))
    }

    /// Asks a plugin's policy what holds for its kinds; none: it has none. Not for async code.
    pub(super) fn describe(&self, plugin: &Plugin) -> Option<Result<Vec<KindPolicy>, String>> {
        plugin.exports()?.policy.as_ref()?;
        let asked = async {
            // Never closed, as above.
            let _place = self.asides.acquire().await.ok();
            run::describe(self.means(), plugin).await
        };
        // On a thread of its own: the caller's may belong to a runtime, which must not wait for another one.
        let threads = self.threads();
        std::thread::scope(|scope| {
            let answer = scope.spawn(|| threads.block_on(asked)).join();
            answer.unwrap_or_else(|_| Some(Err("the host panicked, a bug".to_owned())))
        })
    }

    /// Has a script evaluated by its engine; nothing, if that has no use of it or the engine cannot do it. Not for async code.
    pub(super) fn evaluate(&self, plugin: &Plugin) -> Kept {
        let Some((exports, script)) = plugin.exports().zip(plugin.script()) else { return Kept::default() };
        let Some(evaluate) = exports.evaluate else { return Kept::default() };
        let asked = async {
            // Never closed, as above.
            let _place = self.asides.acquire().await.ok();
            run::evaluate(self.means(), plugin, (exports, evaluate), script).await
        };
        let threads = self.threads();
        // As above: on a thread of its own.
        std::thread::scope(|scope| scope.spawn(|| threads.block_on(asked)).join().unwrap_or_default())
    }

    /// The guests' threads, for a future that is about a run.
    pub(crate) fn threads(&self) -> tokio::runtime::Handle {
        self.guests().handle().clone()
    }

    /// How many there are of them.
    pub(crate) fn thread_count(&self) -> usize {
        self.guests().metrics().num_workers()
    }

    /// Places that are free.
    #[must_use]
    pub fn places_free(&self) -> usize {
        self.places.available_permits()
    }

    /// Ends the guests' threads; waits so long for those that still run. Not for async code.
    pub fn shutdown(mut self, wait: Duration) {
        if let Some(guests) = self.guests.take() {
            guests.shutdown_timeout(wait);
        }
    }

    /// What all guests have of memory, where more is promised to them than there is.
    #[must_use]
    pub fn memory(&self) -> &InUse {
        &self.memory
    }

    /// Who says what the plugins of a tenant may do.
    pub(super) fn operator(&self) -> &Operator {
        &self.operator
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    fn means(&self) -> Means<'_> {
        Means { engine: &self.engine, egress: &self.egress, memory: &self.memory }
    }

    pub(super) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    pub(super) fn cache(&self) -> Option<&Cache> {
        self.cache.as_deref()
    }

    pub(super) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    pub(super) fn compile_counters(&self) -> &Counters {
        &self.compile_counters
    }

    /// What was compiled since the process started.
    #[must_use]
    pub fn compile_figures(&self) -> Figures {
        self.compile_counters.now()
    }

    /// The turn to compile.
    pub(super) fn compiling(&self) -> MutexGuard<'_, ()> {
        // It guards nothing that a panic could leave half-done.
        self.compiling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn component_linker(&self) -> &Linker<Guest> {
        &self.components
    }

    pub(super) fn command_linker(&self) -> &wasmtime::Linker<Guest> {
        &self.commands
    }

    pub(super) fn kept(&self) -> Arc<Semaphore> {
        Arc::clone(&self.kept)
    }

    pub(super) fn images(&self) -> &Arc<Semaphore> {
        &self.images
    }

    fn guests(&self) -> &Runtime {
        self.guests.as_ref().expect("taken by `shutdown` and `drop` alone, which have the host to themselves")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(guests) = self.guests.take() {
            guests.shutdown_background();
        }
    }
}

/// Sets a guest's thread behind the writer's and the scheduler's, which is a gain and no condition: who may not, goes on.
fn come_after_others() {
    // Elsewhere it would be about the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a guest's thread has the priority of the others");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;

    use super::*;

    /// The story: with two guests computing on two processors, each commit took twice as long, and so did whatever waits
    /// for one: a small tenant's job beside a large one's started three commits, 18 ms, after it was enqueued.
    #[test]
    fn guests_come_after_the_writer_and_the_scheduler() {
        let host = Host::new(&HostSettings { threads: 2, ..HostSettings::default() }).expect("a host");
        let guests = host.guests.as_ref().expect("threads");
        guests.block_on(async { tokio::spawn(async {}).await }).expect("no panic");
        let of_guests = fs::read_dir("/proc/self/task").expect("Linux").filter_map(|task| {
            let stat = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
            // The name may have any characters; what follows it has none but numbers and a letter.
            let (head, tail) = stat.rsplit_once(") ")?;
            head.ends_with("(guest").then(|| tail.split(' ').nth(16)?.parse::<i32>().ok()).flatten()
        });
        let of_guests: Vec<i32> = of_guests.collect();
        assert!(of_guests.contains(&NICE), "{of_guests:?}");
    }
}
