//! Instances that are kept from run to run, where the author states that no run leaves anything for the next and the
//! operator allows it.
//!
//! The store's data is set anew for each run (limits, fuel, log, grants, deadline, staged effects); the guest's memory and
//! what its standard streams are called in it are not. A [`Shelf`] belongs to one loaded plugin, hence to one tenant, one
//! version and one set of grants, and goes with it. An instance is kept only after a run that answered: after a trap, a
//! limit, a time-out, a cancel or refused memory, or if it left resources open, it is dropped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use wasmtime::Store;

use super::engine;
use super::guest::Guest;
use super::host::Job;
use super::host::contract::exports::runner::plugin::handler;
use super::limits::Limits;
use super::streams::Streams;

/// How long an instance waits for its next run.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Host resources that an instance may have more of than after its first run: standard streams that it had not used yet.
const RESOURCES_SLACK: usize = 8;

/// An instance between two runs, or in one.
pub(super) struct Kept {
    pub(super) store: Store<Guest>,
    pub(super) handler: handler::Guest,
    /// Where its standard streams end; told at each run where to go on to.
    pub(super) outlet: Streams,
    /// What it has had so far.
    pub(super) had: Had,
}

/// What an instance has had so far.
#[derive(Debug, Default)]
pub(super) struct Had {
    runs: u32,
    /// Host resources that were open after the first of them.
    resources: Option<usize>,
}

/// The instances of one plugin that wait for a run.
pub(super) struct Shelf {
    runs_max: u32,
    /// Shared by all plugins of a host: each instance that waits has a place in the pool.
    room: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// Those that wait longest first.
    waiting: Vec<Waiting>,
    /// Whether somebody looks after those that wait too long.
    swept: bool,
}

struct Waiting {
    kept: Kept,
    since: Instant,
    _room: OwnedSemaphorePermit,
}

impl Shelf {
    pub(super) fn new(runs_max: u32, room: Arc<Semaphore>) -> Arc<Self> {
        Arc::new(Self { runs_max, room, idle: Mutex::default() })
    }

    /// An instance for a run within these limits, the one that was used last.
    pub(super) fn take(&self, limits: &Limits) -> Option<Kept> {
        let kept = self.lock().waiting.pop()?.kept;
        // A kind with less memory than the one before: it is dropped here, outside the lock.
        kept.store.data().memory.fits(limits.memory_bytes).then_some(kept)
    }

    /// Keeps an instance after a run that answered, if it may have another one and there is room.
    pub(super) fn put(self: &Arc<Self>, mut kept: Kept) {
        kept.had.runs += 1;
        let resources = kept.store.data_mut().resources();
        let first = *kept.had.resources.get_or_insert(resources);
        if kept.had.runs >= self.runs_max || resources > first + RESOURCES_SLACK {
            return;
        }
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { return };
        // Nothing of the run waits with the instance: not its way to the store, nor what it was writing.
        kept.store.data_mut().job.retire();
        let sweeps = {
            let mut idle = self.lock();
            idle.waiting.push(Waiting { kept, since: Instant::now(), _room: room });
            !std::mem::replace(&mut idle.swept, true)
        };
        if sweeps {
            tokio::spawn(sweep(Sweeper(Arc::downgrade(self))));
        }
    }

    /// Instances that wait.
    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Drops what has waited too long; says whether anything is left to be looked after.
    fn sweep(&self, now: Instant) -> bool {
        let (expired, left) = {
            let mut idle = self.lock();
            let fresh = idle.waiting.iter().position(|waiting| now < waiting.since + IDLE_MAX);
            let end = fresh.unwrap_or(idle.waiting.len());
            let expired: Vec<Waiting> = idle.waiting.drain(..end).collect();
            idle.swept = !idle.waiting.is_empty();
            (expired, idle.swept)
        };
        // Outside the lock, which a run may want: an instance takes a while to be dropped.
        drop(expired);
        left
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says, when it goes, that nobody sweeps: also when its runtime ends before it does.
struct Sweeper(Weak<Shelf>);

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some(shelf) = self.0.upgrade() {
            shelf.lock().swept = false;
        }
    }
}

async fn sweep(mut sweeper: Sweeper) {
    loop {
        tokio::time::sleep(IDLE_MAX).await;
        // If it is gone, the plugin was unloaded, and its instances went with it.
        if !sweeper.0.upgrade().is_some_and(|shelf| shelf.sweep(Instant::now())) {
            // The next one may sweep already.
            sweeper.0 = Weak::new();
            return;
        }
    }
}

impl Kept {
    /// Sets everything but the guest's memory anew for a run.
    ///
    /// # Errors
    /// wasmtime takes no fuel, which is a bug.
    pub(super) fn renew(&mut self, job: Job, limits: &Limits) -> wasmtime::Result<()> {
        self.store.data_mut().renew(job, limits.clone());
        self.store.set_fuel(limits.fuel())?;
        engine::bound_copies(&mut self.store, engine::component_copied_bytes(limits));
        Ok(())
    }
}

#[cfg(test)]
#[path = "../../../tests/it/sandbox/guests.rs"]
#[expect(dead_code, reason = "the tests of the sandbox need more of it")]
mod guests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::{Alone, CancelSignal, Host, HostSettings, JobView, Manifest, RunRequest};

    #[test]
    fn an_instance_that_waits_too_long_is_dropped() {
        let host = Host::new(&HostSettings::default()).expect("wasmtime runs here");
        let manifest = Manifest { reuse: Some(9), ..Manifest::default() };
        let plugin = host.compile("noop", &guests::handler(guests::RESULT), manifest).expect("is a plugin");
        let request = RunRequest {
            job: JobView { kind: "noop".to_owned(), ..JobView::default() },
            others: Vec::new(),
            limits: plugin.limits("noop"),
            middleware: Vec::new(),
            grants: plugin.grants(),
            ids: None,
            read_job: Arc::new(|_, _, _, _| Err("it enqueues nothing".to_owned())),
            backing: Arc::new(Alone),
            streams: Streams::default(),
            cancel: CancelSignal::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
        runtime.block_on(host.run_here(&plugin, request));
        let shelf = plugin.shelf(&plugin.grants()).expect("instances are kept");
        let room = host.kept().available_permits();
        assert!(shelf.sweep(Instant::now()) && shelf.len() == 1);
        assert!(!shelf.sweep(Instant::now() + IDLE_MAX) && shelf.len() == 0);
        assert_eq!(host.kept().available_permits(), room + 1, "its place is free again");
    }
}
