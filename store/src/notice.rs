//! What the writer tells after each commit: enough for a scheduler to know what may start, without ever polling rows.
//!
//! Notices add up while nobody takes them, and are bounded by what they name (lanes, running jobs), not by time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, oneshot, watch};

use crate::command::{CountKey, Lane, RunRef, Scope, Settings};
use crate::engine::{Change, KeyChanges, Persisted};
use crate::index::{KeyOf, Order};
use crate::job::{JobRef, Millis, OutcomeName, Seq, StateName, Time};
use crate::schedule::ScheduleRef;

/// What has happened since the last [`Board::take`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notices {
    /// How the counts have changed: of what is available by lanes, also those of keys; of what is not, without keys.
    pub counts: HashMap<CountKey, i64>,
    /// How many of these became available, by lanes without keys: the rest is what went, and what went was there before.
    pub came: HashMap<Lane, i64>,
    /// Lanes of keys whose jobs have changed, and what is first in each now.
    pub heads: HashMap<Lane, Option<Order>>,
    /// How the numbers of jobs of a key have changed that have begun and not ended.
    pub begun: HashMap<KeyOf, i64>,
    /// What was set: the last word of each.
    pub settings: HashMap<Scope, Settings>,
    /// Runs whose job someone wants cancelled, or that are deleted: to be ended.
    pub cancelled: Vec<RunRef>,
    /// Runs that external workers have begun or that have ended: of each the last word.
    pub leases: HashMap<RunRef, Leased>,
    /// When the next job becomes due.
    pub next_due: Option<Time>,
    /// Whether nothing is claimed: the store was restored and waits for an operator, or its disk is all but full.
    pub paused: bool,
    /// The two reasons apart.
    restored: bool,
    disk_full: bool,
}

/// What has become of a run of an external worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leased {
    /// A worker holds it.
    Held {
        /// Where it was taken from.
        lane: Lane,
        /// How long its lease lasts without a renewal.
        lasts: Millis,
    },
    /// It holds it no more.
    Ended {
        /// Where it had been taken from.
        lane: Lane,
        /// How the run ended; none: its job is gone.
        outcome: Option<OutcomeName>,
    },
}

/// Where the writer leaves its notices, and where callers wait for jobs to end.
#[derive(Debug, Default)]
pub struct Board {
    notices: Mutex<Notices>,
    changed: Notify,
    waiting: Mutex<HashMap<JobRef, Vec<oneshot::Sender<StateName>>>>,
    log: watch::Sender<Seq>,
    schedules: Mutex<ScheduleNotices>,
    schedules_changed: Notify,
}

/// Schedules that are more than these are looked at all together.
const SCHEDULES_NOTED_MAX: usize = 10_000;

/// Which schedules have changed since the last [`Board::take_schedules`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduleNotices {
    /// These, unless it is all.
    pub changed: BTreeSet<ScheduleRef>,
    /// Any of them may have.
    pub all: bool,
}

impl Board {
    /// Takes what has happened since the last time.
    #[must_use]
    pub fn take(&self) -> Notices {
        let mut notices = lock(&self.notices);
        let Notices { next_due, paused, restored, disk_full, .. } = *notices;
        // These are states, not differences: they stay until something changes them.
        let states = Notices { next_due, paused, restored, disk_full, ..Notices::default() };
        std::mem::replace(&mut *notices, states)
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

    /// The last number of the log, and every change of it: whoever follows the log waits for this, and then reads on.
    #[must_use]
    pub fn log(&self) -> watch::Receiver<Seq> {
        self.log.subscribe()
    }

    /// Tells what a commit is about to make available, of lanes without keys.
    pub(crate) fn ahead(&self, counts: &BTreeMap<CountKey, i64>) {
        if counts.is_empty() {
            return;
        }
        let mut notices = lock(&self.notices);
        for (key, n) in counts {
            add(&mut notices.counts, &[(*key, *n)]);
            add(&mut notices.came, &[(key.lane, *n)]);
        }
        drop(notices);
        self.changed.notify_one();
    }

    /// Adds differences of a commit that was not the writer's.
    pub(crate) fn add(&self, counts: &[(CountKey, i64)], keys: KeyChanges) {
        let changed = !counts.is_empty() || !keys.is_empty();
        let mut notices = lock(&self.notices);
        add(&mut notices.counts, counts);
        notices.add_keys(keys);
        drop(notices);
        if changed {
            self.changed.notify_one();
        }
    }

    /// Tells what was set.
    pub(crate) fn set(&self, settings: impl Iterator<Item = Settings>) {
        let mut notices = lock(&self.notices);
        let mut changed = false;
        for one in settings {
            notices.settings.insert(one.scope(), one);
            changed = true;
        }
        drop(notices);
        if changed {
            self.changed.notify_one();
        }
    }

    /// Tells of runs of external workers.
    pub(crate) fn leases(&self, leases: Vec<(RunRef, Leased)>) {
        if leases.is_empty() {
            return;
        }
        lock(&self.notices).leases.extend(leases);
        self.changed.notify_one();
    }

    /// Says whether the disk is all but full, so that nothing is to be claimed.
    pub(crate) fn disk_full(&self, full: bool) {
        let mut notices = lock(&self.notices);
        let changed = std::mem::replace(&mut notices.disk_full, full) != full;
        notices.paused = notices.restored || full;
        drop(notices);
        if changed {
            self.changed.notify_one();
        }
    }

    pub(crate) fn post(&self, persisted: Persisted, cancelled: Vec<RunRef>) {
        let Persisted { last_seq, counts, keys, next_due, paused } = persisted;
        self.log.send_if_modified(|seq| std::mem::replace(seq, last_seq) != last_seq);
        let mut notices = lock(&self.notices);
        add(&mut notices.counts, &counts);
        let states = (notices.next_due, notices.restored) != (next_due, paused);
        let changed = !counts.is_empty() || !keys.is_empty() || !cancelled.is_empty() || states;
        notices.add_keys(keys);
        notices.cancelled.extend(cancelled);
        (notices.next_due, notices.restored) = (next_due, paused);
        notices.paused = notices.restored || notices.disk_full;
        drop(notices);
        // A claim that found nothing is no news: whoever claims at every notice would never rest.
        if changed {
            self.changed.notify_one();
        }
    }

    /// Takes which schedules have changed since the last time.
    #[must_use]
    pub fn take_schedules(&self) -> ScheduleNotices {
        std::mem::take(&mut *lock(&self.schedules))
    }

    /// Ends when a schedule has changed since the last [`Board::take_schedules`]. For one who waits.
    pub async fn schedules_changed(&self) {
        self.schedules_changed.notified().await;
    }

    /// Notes the schedules that a batch has changed.
    pub(crate) fn schedules(&self, changes: &[Change]) {
        let mut about = changes.iter().filter_map(|change| match change {
            Change::Schedule(at, _) => Some(Some(at)),
            Change::SchedulesFrom(_) => Some(None),
            _ => None,
        });
        let Some(first) = about.next() else { return };
        let mut notices = lock(&self.schedules);
        for at in std::iter::once(first).chain(about) {
            match at {
                Some(at) if !notices.all && notices.changed.len() < SCHEDULES_NOTED_MAX => {
                    notices.changed.insert(at.clone());
                }
                _ => *notices = ScheduleNotices { changed: BTreeSet::new(), all: true },
            }
        }
        drop(notices);
        self.schedules_changed.notify_one();
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

impl Notices {
    fn add_keys(&mut self, keys: KeyChanges) {
        self.heads.extend(keys.heads);
        add(&mut self.begun, &keys.begun);
    }
}

fn add<K: Copy + Eq + Hash>(sums: &mut HashMap<K, i64>, differences: &[(K, i64)]) {
    for (key, difference) in differences {
        let sum = sums.entry(*key).or_default();
        *sum += difference;
        if *sum == 0 {
            sums.remove(key);
        }
    }
}

/// Nothing that is done under these locks can panic half-way, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
