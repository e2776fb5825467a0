//! Which views of the store are open, and since when: an old one keeps pages alive that the file could use again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Clock;
use crate::command::{Answer, Query};
use crate::engine::Snapshot;
use crate::error::StoreError;
use crate::job::Millis;

/// The views that are open, by a number of their own, and when each was opened.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    open: Mutex<BTreeMap<u64, Millis>>,
    next: AtomicU64,
}

/// A view that is counted while it is open.
struct Counted {
    view: Box<dyn Snapshot>,
    readers: Arc<Readers>,
    number: u64,
}

impl Readers {
    pub(crate) fn count(self: &Arc<Self>, view: Box<dyn Snapshot>) -> Box<dyn Snapshot> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open().insert(number, Clock::System.uptime());
        Box::new(Counted { view, readers: Arc::clone(self), number })
    }

    /// How many are open, and for how long the oldest has been.
    pub(crate) fn now(&self) -> (usize, Millis) {
        let open = self.open();
        let since = open.values().min().copied();
        let age = since.map_or(0, |since| Clock::System.uptime().0.saturating_sub(since.0));
        (open.len(), Millis(age))
    }

    fn open(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Millis>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot for Counted {
    fn read(&self, query: &Query) -> Result<Answer, StoreError> {
        self.view.read(query)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.readers.open().remove(&self.number);
    }
}
