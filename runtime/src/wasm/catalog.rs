//! Which plugins serve now. What it says changes as a whole; a run keeps the plugin that it began with.
//!
//! Reading it is on the path of every run: a lock that is held for two reference counts, and never while anything is
//! compiled. Who changes it is the `loader`.

use std::sync::{Arc, PoisonError, RwLock};

use runner_store::job::Time;
use tokio::sync::{Mutex, MutexGuard, watch};

use super::folder::{Registry, Report};
use super::manifest::Manifest;
use super::plugin::Plugin;

/// See the module.
#[derive(Debug)]
pub struct Catalog {
    now: RwLock<Arc<Serving>>,
    changes: watch::Sender<()>,
    /// Held by whoever tells others what it says.
    turn: Mutex<()>,
}

/// What is known at one time.
#[derive(Debug, Default)]
pub struct Serving {
    /// Who serves what.
    pub registry: Registry,
    /// What is wrong with files of the folder, or shadowed.
    pub reports: Vec<Arc<Report>>,
    /// What is not loaded yet.
    pub loading: Vec<Loading>,
}

/// A file that waits to be compiled, or is being.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loading {
    /// Whose it is.
    pub tenant: String,
    /// The plugin's name.
    pub name: String,
    /// How far it is.
    pub state: LoadingState,
}

/// How far a file is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadingState {
    /// Others are before it.
    Queued,
    /// Its tenant has used up what it may spend on compiling in an hour.
    Waiting {
        /// When it may go on.
        until: Time,
    },
    /// It is being compiled.
    Compiling {
        /// When that began.
        since: Time,
    },
}

impl Catalog {
    /// One that says this until it is told otherwise.
    #[must_use]
    pub fn new(serving: Serving) -> Arc<Self> {
        Arc::new(Self { now: RwLock::new(Arc::new(serving)), ..Self::default() })
    }

    /// One of these plugins, which never change.
    #[must_use]
    pub fn fixed(registry: Registry) -> Arc<Self> {
        Self::new(Serving { registry, ..Serving::default() })
    }

    /// The plugin that serves a tenant's kind.
    #[must_use]
    pub fn get(&self, tenant: &str, kind: &str) -> Option<Arc<Plugin>> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).registry.get(tenant, kind).cloned()
    }

    /// What holds for a kind, if external workers take its jobs.
    #[must_use]
    pub fn external(&self, kind: &str) -> Option<Arc<Manifest>> {
        let now = self.now.read().unwrap_or_else(PoisonError::into_inner);
        now.registry.externals().get(kind).cloned()
    }

    /// Whether a plugin serves a tenant's kind.
    #[must_use]
    pub fn serves(&self, tenant: &str, kind: &str) -> bool {
        self.now.read().unwrap_or_else(PoisonError::into_inner).registry.get(tenant, kind).is_some()
    }

    /// All that is known now.
    #[must_use]
    pub fn now(&self) -> Arc<Serving> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until nobody else tells others what it says: whoever does so reads it while it holds this.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Follows its changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Says something else from now on.
    pub fn set(&self, serving: Serving) {
        let serving = Arc::new(serving);
        let old = std::mem::replace(&mut *self.now.write().unwrap_or_else(PoisonError::into_inner), serving);
        self.changes.send_replace(());
        // Its plugins may be unmapped now, which is nothing to be done under the lock.
        drop(old);
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self { now: RwLock::default(), changes: watch::Sender::new(()), turn: Mutex::default() }
    }
}
