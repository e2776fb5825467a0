//! How often plugins were compiled since the process started, how long that took, and how often it was not needed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a host counts.
#[derive(Debug, Default)]
pub(in crate::wasm) struct Counters {
    compiled: AtomicU64,
    compile_micros: AtomicU64,
    cache_hits: AtomicU64,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Plugins that were compiled, or refused by the compiler.
    pub compiled: u64,
    /// What that took, all together.
    pub compile_time: Duration,
    /// Plugins whose code was in the cache.
    pub cache_hits: u64,
}

impl Counters {
    pub(super) fn compiled(&self, took: Duration) {
        self.compiled.fetch_add(1, Ordering::Relaxed);
        self.compile_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn hit(&self) {
        self.cache_hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::wasm) fn now(&self) -> Figures {
        Figures {
            compiled: self.compiled.load(Ordering::Relaxed),
            compile_time: Duration::from_micros(self.compile_micros.load(Ordering::Relaxed)),
            cache_hits: self.cache_hits.load(Ordering::Relaxed),
        }
    }
}
