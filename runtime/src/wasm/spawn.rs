//! The host of a process: its engine, and the threads that guests run on.
//!
//! Guests have a tokio runtime of their own, apart from the store's and the API's: a guest that computes for its whole
//! slice delays other guests at most. A semaphore stands in front of the pool, so that a run without a place waits
//! instead of failing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use wasmtime::Engine;
use wasmtime::component::Linker;

use super::engine::{self, HostSettings};
use super::folder::{self, LoadError};
use super::guest::Guest;
use super::host;
use super::manifest::Manifest;
use super::plugin::{Plugin, PluginError};
use super::run::{self, RunReport, RunRequest};
use crate::operator::Operator;

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

/// Compiles plugins and runs them.
pub struct Host {
    engine: Engine,
    components: Linker<Guest>,
    commands: wasmtime::Linker<Guest>,
    operator: Arc<Operator>,
    places: Arc<Semaphore>,
    // Taken by `drop` alone, as a runtime may not be dropped where async code runs.
    guests: Option<Runtime>,
}

impl Host {
    /// Starts the engine and the guests' threads.
    ///
    /// # Errors
    /// wasmtime does not run on this machine, or there are no threads to be had.
    pub fn new(settings: &HostSettings) -> Result<Self, HostError> {
        let failed = |error: wasmtime::Error| HostError::Engine { message: super::plugin::chain(&error) };
        let engine = engine::engine(settings).map_err(failed)?;
        let components = host::component_linker(&engine).map_err(failed)?;
        let commands = host::command_linker(&engine).map_err(failed)?;
        let places = Arc::new(Semaphore::new(settings.slots.max(1) as usize));
        let guests = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.threads.max(1))
            .thread_name("guest")
            .event_interval(TIMERS_EVERY)
            .enable_time()
            .enable_io()
            .build()
            .map_err(HostError::Threads)?;
        let operator = Arc::clone(&settings.operator);
        Ok(Self { engine, components, commands, operator, places, guests: Some(guests) })
    }

    /// Checks, compiles and links the bytes of a plugin with this name. Takes up to seconds: not for async code.
    ///
    /// # Errors
    /// What is wrong with the file and how to mend it.
    pub fn compile(&self, name: &str, bytes: &[u8], manifest: Manifest) -> Result<Plugin, PluginError> {
        Plugin::new(self, name, bytes, manifest)
    }

    /// Loads `NAME.wasm` and, if it is there, `NAME.toml` beside it.
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
        let (engine, places) = (self.engine.clone(), Arc::clone(&self.places));
        self.guests().spawn(async move {
            // Never closed; a run without a place would still be sound, only slower.
            let _place = places.acquire_owned().await.ok();
            run::run(&engine, &plugin, request).await
        })
    }

    /// Runs one job here and now, on the caller's tokio runtime: for `plugin invoke` and benches.
    pub async fn run_here(&self, plugin: &Plugin, request: RunRequest) -> RunReport {
        // Never closed, as above.
        let _place = self.places.acquire().await.ok();
        run::run(&self.engine, plugin, request).await
    }

    /// The guests' threads, for a future that is about a run: what it does between guests is for their slots, and no
    /// thread has to wake another one.
    pub(crate) fn threads(&self) -> tokio::runtime::Handle {
        self.guests().handle().clone()
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

    /// Who says what the plugins of a tenant may do.
    pub(super) fn operator(&self) -> &Operator {
        &self.operator
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn component_linker(&self) -> &Linker<Guest> {
        &self.components
    }

    pub(super) fn command_linker(&self) -> &wasmtime::Linker<Guest> {
        &self.commands
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
