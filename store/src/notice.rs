//! What the writer tells after each commit: enough for a scheduler to know what may start, without ever polling rows.
//!
//! Notices add up while nobody takes them, and are bounded by what they name (lanes, running jobs), not by time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::command::{CountKey, RunRef};
use crate::job::{JobRef, StateName, Time};

/// What has happened since the last [`Board::take`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notices {
    /// How the counts have changed.
    pub counts: HashMap<CountKey, i64>,
    /// Runs whose job someone wants cancelled, or that are deleted: to be ended.
    pub cancelled: Vec<RunRef>,
    /// When the next job becomes due.
    pub next_due: Option<Time>,
}

/// Where the writer leaves its notices, and where callers wait for jobs to end.
#[derive(Debug, Default)]
pub struct Board {
    notices: Mutex<Notices>,
    changed: Notify,
    waiting: Mutex<HashMap<JobRef, Vec<oneshot::Sender<StateName>>>>,
}

impl Board {
    /// Takes what has happened since the last time.
    #[must_use]
    pub fn take(&self) -> Notices {
        let mut notices = lock(&self.notices);
        let next_due = notices.next_due;
        // The due time is a state, not a difference: it stays until a commit changes it.
        std::mem::replace(&mut *notices, Notices { next_due, ..Notices::default() })
    }

    /// Ends when something has happened since the last [`Board::take`].
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// A receiver of the state in which `job` ends; it fails when the job is deleted. Register first, then look whether
    /// it has ended already.
    #[must_use]
    pub fn wait_for(&self, job: JobRef) -> oneshot::Receiver<StateName> {
        let (tell, told) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        let waiters = waiting.entry(job).or_default();
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(tell);
        told
    }

    /// Forgets waiters that no longer listen. Cheap enough for a timer.
    pub fn forget_gone(&self) {
        lock(&self.waiting).retain(|_, waiters| {
            waiters.retain(|waiter| !waiter.is_closed());
            !waiters.is_empty()
        });
    }

    pub(crate) fn post(&self, counts: &[(CountKey, i64)], cancelled: Vec<RunRef>, next_due: Option<Time>) {
        let mut notices = lock(&self.notices);
        for (key, difference) in counts {
            let sum = notices.counts.entry(*key).or_default();
            *sum += difference;
            if *sum == 0 {
                notices.counts.remove(key);
            }
        }
        let changed = !counts.is_empty() || !cancelled.is_empty() || notices.next_due != next_due;
        notices.cancelled.extend(cancelled);
        notices.next_due = next_due;
        drop(notices);
        // A claim that found nothing is no news: whoever claims at every notice would never rest.
        if changed {
            self.changed.notify_one();
        }
    }

    /// Tells who waits for these jobs: the state in which each ended, or none where it is gone.
    pub(crate) fn ended(&self, jobs: impl Iterator<Item = (JobRef, Option<StateName>)>) {
        let mut waiting = lock(&self.waiting);
        if waiting.is_empty() {
            return;
        }
        for (job, state) in jobs {
            let waiters = waiting.remove(&job).unwrap_or_default();
            // Who waits for a job that is gone learns it from the dropped channel.
            let Some(state) = state else { continue };
            for waiter in waiters {
                // Whoever stopped listening needs no answer.
                _ = waiter.send(state);
            }
        }
    }
}

/// Nothing that is done under these locks can panic half-way, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
