//! What all guests of a process have of linear memory, where more of it is promised to them than there is.
//!
//! Without over-commit every run's whole limit is reserved before it starts, so nothing needs to be counted and nothing is.
//! What it deliberately does not do: it refuses no growth. A run that is refused memory has met its own limit, never a
//! neighbour's use; who is to end so that the others have enough is the scheduler's to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// See the module.
#[derive(Debug)]
pub struct InUse {
    bytes: AtomicU64,
    most: AtomicU64,
    over: Notify,
}

impl Default for InUse {
    fn default() -> Self {
        Self { bytes: AtomicU64::new(0), most: AtomicU64::new(u64::MAX), over: Notify::new() }
    }
}

impl InUse {
    /// Counts from now on, and tells when the guests have more than this.
    pub fn watch(&self, most_bytes: u64) {
        self.most.store(most_bytes, Ordering::Relaxed);
    }

    /// Whether they have more than they should.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.most.load(Ordering::Relaxed)
    }

    /// Ends when they have come to have more than they should.
    pub async fn over(&self) {
        self.over.notified().await;
    }

    /// For a run that begins; none: nothing is counted.
    pub(crate) fn counting(self: &Arc<Self>) -> Option<Arc<Self>> {
        (self.most.load(Ordering::Relaxed) != u64::MAX).then(|| Arc::clone(self))
    }

    pub(crate) fn grew(&self, bytes: usize) {
        let before = self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if before.saturating_add(bytes as u64) > self.most.load(Ordering::Relaxed) {
            self.over.notify_one();
        }
    }

    pub(crate) fn shrank(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}
