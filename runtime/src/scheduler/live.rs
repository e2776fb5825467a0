//! What runs now: by slot, so that a run is entered here without waiting for others, and found by looking through all slots.
//!
//! A run is here from its start until another one takes its slot; whoever found it keeps its [`Streams`], which tell when it
//! was recorded. What has ended before is the store's to tell.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use runner_store::command::RunRef;
use runner_store::job::{JobRef, RunNumber};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::wasm::Streams;

/// See the module.
#[derive(Debug)]
pub struct Live {
    slots: Box<[Mutex<Option<Call>>]>,
    /// What external workers hold, while they do: as many as the core lets them.
    leased: Mutex<HashMap<JobRef, (RunNumber, Streams)>>,
    entered: Notify,
    /// Who waits to be told of a run that is entered.
    waiting: AtomicUsize,
}

/// Someone who waits for runs to be entered: see [`Live::wait`].
#[derive(Debug)]
pub struct Waiting<'a>(&'a Live);

#[derive(Debug)]
struct Call {
    first: RunRef,
    /// Those that share it.
    others: Vec<RunRef>,
    streams: Streams,
}

impl Live {
    /// Of a node with so many slots.
    #[must_use]
    pub(crate) fn new(slots: u32) -> Self {
        Self {
            slots: (0..slots).map(|_| Mutex::default()).collect(),
            leased: Mutex::default(),
            entered: Notify::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A call was entered in a slot; there is at least one run.
    pub(crate) fn enter(&self, slot: usize, mut runs: impl Iterator<Item = RunRef>, streams: &Streams) {
        let (Some(place), Some(first)) = (self.slots.get(slot), runs.next()) else { return };
        *lock(place) = Some(Call { first, others: runs.collect(), streams: streams.clone() });
        // In this order, as whoever waits says so before looking: one of the two sees the other.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.entered.notify_waiters();
        }
    }

    /// An external worker holds a run from now on.
    pub(crate) fn lease(&self, run: RunRef) {
        lock(&self.leased).insert(run.at, (run.run, Streams::default()));
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.entered.notify_waiters();
        }
    }

    /// It holds it no more: its end is recorded.
    pub(crate) fn end_lease(&self, run: RunRef) {
        let mut leased = lock(&self.leased);
        if leased.get(&run.at).is_some_and(|(number, _)| *number == run.run) {
            let ended = leased.remove(&run.at);
            drop(leased);
            ended.into_iter().for_each(|(_, streams)| streams.recorded());
        }
    }

    /// The run of a job that is going on, or was recorded only just now.
    #[must_use]
    pub fn run(&self, job: JobRef) -> Option<(RunNumber, Streams)> {
        if let Some(found) = lock(&self.leased).get(&job) {
            return Some(found.clone());
        }
        self.slots.iter().find_map(|place| {
            let place = lock(place);
            let call = place.as_ref()?;
            let run = std::iter::once(&call.first).chain(&call.others).find(|run| run.at == job)?;
            Some((run.run, call.streams.clone()))
        })
    }

    /// From now on, [`Waiting::entered`] tells of runs that are entered.
    pub fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }
}

impl Waiting<'_> {
    /// Ends when some run is entered after this was called and enabled.
    pub fn entered(&self) -> Notified<'_> {
        self.0.entered.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Nothing that is done under these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use runner_store::job::{JobId, TenantId};

    use super::*;

    fn run(job: u64) -> RunRef {
        RunRef { at: JobRef { tenant: TenantId::DEFAULT, job: JobId(job) }, run: RunNumber(2) }
    }

    #[test]
    fn a_run_is_found_until_its_slot_is_taken() {
        let live = Live::new(2);
        live.enter(0, [run(1)].into_iter(), &Streams::default());
        live.enter(1, [run(2), run(3)].into_iter(), &Streams::default());
        let found = |job| live.run(run(job).at).map(|(run, _)| run);
        assert_eq!([1, 2, 3, 4].map(found), [Some(RunNumber(2)), Some(RunNumber(2)), Some(RunNumber(2)), None]);
        live.enter(1, [run(4)].into_iter(), &Streams::default());
        assert_eq!([1, 2, 3, 4].map(found), [Some(RunNumber(2)), None, None, Some(RunNumber(2))]);
    }

    #[tokio::test]
    async fn whoever_waits_is_told() {
        let live = Live::new(1);
        let waiting = live.wait();
        let mut entered = std::pin::pin!(waiting.entered());
        entered.as_mut().enable();
        live.enter(0, [run(1)].into_iter(), &Streams::default());
        entered.await;
    }
}
