//! Ids set aside for jobs that runs enqueue, so that a handler gets its new job's id at once and no id is given out twice.
//!
//! None are set aside before a plugin runs that may enqueue; what a process does not use is never given out again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runner_store::Handle;
use runner_store::command::{Command, Reply};

/// Ids set aside at once: one commit for as many.
const RESERVED: u32 = 1_000;
/// With fewer than this left, more are set aside.
const LOW: usize = 500;

pub(super) struct Ids {
    store: Handle,
    runtime: tokio::runtime::Handle,
    pool: Mutex<Pool>,
    /// Held by whoever fetches: one at a time.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Pool {
    /// The lowest at the end, so that ids ascend in the order in which jobs are enqueued.
    free: Vec<u64>,
    asked: bool,
}

impl Ids {
    pub(super) fn new(store: Handle) -> Arc<Self> {
        let runtime = tokio::runtime::Handle::current();
        Arc::new(Self { store, runtime, pool: Mutex::default(), fetching: tokio::sync::Mutex::default() })
    }

    /// Waits until there are some. If the store has failed there are none, and the run learns that when it asks.
    pub(super) async fn ready(&self) {
        if self.pool().free.is_empty() {
            let _one = self.fetching.lock().await;
            if self.pool().free.is_empty() {
                self.fetch().await;
            }
        }
    }

    /// The next id; none while none are left.
    pub(super) fn take(self: &Arc<Self>) -> Option<u64> {
        let mut pool = self.pool();
        let id = pool.free.pop();
        if pool.free.len() < LOW && !pool.asked {
            pool.asked = true;
            let ids = Arc::clone(self);
            self.runtime.spawn(async move {
                let _one = ids.fetching.lock().await;
                ids.fetch().await;
                ids.pool().asked = false;
            });
        }
        id
    }

    async fn fetch(&self) {
        if let Ok(Reply::Reserved { first }) = self.store.call(Command::ReserveIds { n: RESERVED }).await {
            let fresh = (first.0..first.0 + u64::from(RESERVED)).rev();
            self.pool().free.splice(0..0, fresh);
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        // Nothing that is done under this lock can panic half-way.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
