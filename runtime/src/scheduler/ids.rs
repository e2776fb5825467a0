//! Ids set aside for jobs that runs enqueue, so that a handler gets its new job's id at once and no id is given out twice.
//!
//! A run is entered with as many as it may enqueue jobs, so that none is refused for want of an id; what it leaves goes to
//! the next one. None are set aside before a plugin runs that may enqueue; what a process does not use is never given out
//! again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runner_store::Handle;
use runner_store::command::{Command, Reply, limits};

/// Ids set aside at once, at least: one commit for as many.
const RESERVED_MIN: u32 = 1_000;
/// Runs for which ids are set aside at once.
const RUNS_SERVED: u32 = 10;

pub(super) struct Ids {
    store: Handle,
    free: Mutex<Vec<u64>>,
    /// Held by whoever takes, and fetches what is missing: one at a time.
    taking: tokio::sync::Mutex<()>,
}

/// The ids of one run.
pub(super) struct RunIds {
    ids: Arc<Ids>,
    /// The lowest at the end, so that ids ascend in the order in which jobs are enqueued.
    own: Mutex<Vec<u64>>,
}

impl Ids {
    pub(super) fn new(store: Handle) -> Arc<Self> {
        Arc::new(Self { store, free: Mutex::default(), taking: tokio::sync::Mutex::default() })
    }

    /// Ids for a run that may enqueue `n` jobs. If the store has failed there are fewer, and the run learns that when it
    /// asks.
    pub(super) async fn for_run(self: &Arc<Self>, n: u32) -> RunIds {
        let _one = self.taking.lock().await;
        while lock(&self.free).len() < n as usize && self.fetch(n).await {}
        let mut free = lock(&self.free);
        let rest = free.len().saturating_sub(n as usize);
        let mut own = free.split_off(rest);
        own.sort_unstable_by_key(|id| std::cmp::Reverse(*id));
        RunIds { ids: Arc::clone(self), own: Mutex::new(own) }
    }

    /// Sets more aside; false: the store has failed.
    async fn fetch(&self, n: u32) -> bool {
        let n = n.saturating_mul(RUNS_SERVED).clamp(RESERVED_MIN, limits::RESERVED_IDS_MAX);
        let Ok(Reply::Reserved { first }) = self.store.call(Command::ReserveIds { n }).await else { return false };
        // Behind those that were there, which are used up first.
        lock(&self.free).splice(0..0, (first.0..first.0 + u64::from(n)).rev());
        true
    }
}

impl RunIds {
    /// The next id; none if the run has used all that it may.
    pub(super) fn take(&self) -> Option<u64> {
        lock(&self.own).pop()
    }
}

impl Drop for RunIds {
    fn drop(&mut self) {
        lock(&self.ids.free).append(&mut lock(&self.own));
    }
}

/// Nothing that is done under these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use runner_store::clock::Clock;
    use runner_store::engine::memory::Memory;

    use super::*;

    /// The story: sixteen runs that each enqueued a hundred jobs emptied what was set aside faster than a commit fills it,
    /// and failed for want of an id.
    #[test]
    fn every_run_has_as_many_ids_as_it_may_use_and_none_twice() {
        let (store, _writer) = Handle::start(Box::new(Memory::new(Clock::System))).expect("a store in memory starts");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
        let ids = Ids::new(store);
        let runs: Vec<RunIds> = (0..16).map(|_| runtime.block_on(ids.for_run(100))).collect();
        let mut all: Vec<u64> = runs.iter().flat_map(|run| std::iter::from_fn(|| run.take())).collect();
        assert!(all.chunks(100).all(|run| run.is_sorted()) && all.len() == 1_600);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 1_600);
        drop(runs);
        let unused = runtime.block_on(ids.for_run(10));
        let first = unused.take();
        drop(unused);
        let again = runtime.block_on(ids.for_run(9));
        assert_eq!(again.take(), first.map(|id| id + 1), "what a run leaves is the next one's");
    }
}
