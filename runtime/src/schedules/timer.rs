//! Sleeps until the next slot of all schedules, fires it, and sleeps again. Woken by the writer's word of changed schedules,
//! never by polling them: however many there are, an idle node looks at the first of them twice a minute, in case the wall
//! clock has stepped.
//!
//! What it knows is only when each schedule comes next. What a schedule is, it reads when its time has come.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Answer, Command, Fire, Fired, Query, Reply};
use runner_store::error::{CallError, StoreError};
use runner_store::job::{JobKey, Millis, Rejection, Time};
use runner_store::schedule::{Schedule, ScheduleRef, When};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::cron::Slots;
use super::due::{Due, due};
use crate::wasm::Catalog;

/// How long the wall clock may be wrong before a sleeper notices.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Schedules that are fired at once: what the writer takes together, and a fraction of its queue.
const FIRED_AT_ONCE: usize = 512;
/// Parsed expressions that are kept: most schedules share a few.
const PARSED_MAX: usize = 256;
/// Schedules that are read in one go.
const PAGE: u32 = 1_000;
/// When what could not be fired is tried again.
const AGAIN_AFTER: Millis = Millis::secs(1);
/// Entries of the heap that are not true any more, before they are cleared out.
const STALE_MAX: usize = 1_024;

/// Fires slots until it is told to stop, or the store fails.
pub(super) async fn run(store: Handle, plugins: Arc<Catalog>, clock: Clock, mut stopped: watch::Receiver<bool>) {
    let (next, heap, parsed) = (HashMap::new(), BinaryHeap::new(), HashMap::new());
    let mut timer = Timer { store, plugins, clock, next, heap, parsed };
    // Whatever was changed before is read now.
    drop(timer.store.board().take_schedules());
    let mut look_at = match timer.all() {
        Ok(all) => all,
        Err(error) => return tracing::error!(%error, "schedules cannot be read; none is fired"),
    };
    loop {
        let stop = async { _ = stopped.wait_for(|stopped| *stopped).await };
        let passed = tokio::select! {
            biased;
            () = stop => return,
            passed = timer.pass(look_at) => passed,
        };
        if let Err(error) = passed {
            return tracing::error!(%error, "no schedule is fired any more");
        }
        let sleep = timer.sleep();
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = timer.store.board().schedules_changed() => {}
            () = tokio::time::sleep(sleep) => {}
        }
        look_at = match timer.changed() {
            Ok(changed) => changed,
            Err(error) => return tracing::error!(%error, "no schedule is fired any more"),
        };
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Call(#[from] CallError),
}

struct Timer {
    store: Handle,
    plugins: Arc<Catalog>,
    clock: Clock,
    /// When each comes next; those that never do are not there.
    next: HashMap<Arc<ScheduleRef>, Time>,
    /// The same, first to come first; what is not equal to it is stale.
    heap: BinaryHeap<Reverse<(Time, Arc<ScheduleRef>)>>,
    parsed: HashMap<(String, String), Arc<Slots>>,
}

impl Timer {
    /// Looks at these schedules and at those that have come, and fires what is due, until nothing is.
    async fn pass(&mut self, mut look_at: BTreeSet<ScheduleRef>) -> Result<(), Failed> {
        let mut tried: HashMap<ScheduleRef, Time> = HashMap::new();
        loop {
            self.take_due(&mut look_at);
            if look_at.is_empty() {
                return Ok(());
            }
            let piece = std::iter::from_fn(|| look_at.pop_first()).take(PAGE as usize).collect();
            let fires = self.look(piece, &mut tried)?;
            look_at.extend(self.fire(fires).await?);
            // There may be enough to fire for ever, and others were made, resumed or changed meanwhile.
            look_at.extend(self.changed()?);
            // A hundred thousand that are looked at after a start are no reason to hold up others.
            tokio::task::yield_now().await;
        }
    }

    /// Moves what has come from the heap to those that are looked at.
    fn take_due(&mut self, look_at: &mut BTreeSet<ScheduleRef>) {
        let now = self.clock.now();
        while look_at.len() < FIRED_AT_ONCE
            && let Some(Reverse((at, _))) = self.heap.peek()
            && *at <= now
            && let Some(Reverse((at, schedule))) = self.heap.pop()
        {
            // Whatever `next` has, the heap has as well: what is taken out of one goes from the other.
            if self.next.get(&schedule) == Some(&at) {
                self.next.remove(&schedule);
                look_at.insert(Arc::unwrap_or_clone(schedule));
            }
        }
    }

    /// What is to be fired of these; for the others, when they come next.
    fn look(
        &mut self,
        look_at: BTreeSet<ScheduleRef>,
        tried: &mut HashMap<ScheduleRef, Time>,
    ) -> Result<Vec<Fire>, StoreError> {
        let view = self.store.snapshot()?;
        let (paused, resumed) = match view.read(&Query::Stored)? {
            Answer::Stored(stored) => (stored.paused, stored.schedules_from),
            _ => (false, Time(0)),
        };
        let now = self.clock.now();
        let mut fires = Vec::new();
        for at in look_at {
            let schedule = match view.read(&Query::Schedule(at.clone()))? {
                // After a restore nothing happens before an operator says so.
                Answer::Schedule(Some(schedule)) if !paused => schedule,
                _ => {
                    self.next.remove(&at);
                    continue;
                }
            };
            let Some(slots) = self.slots(&schedule) else {
                self.next.remove(&at);
                continue;
            };
            match due(&schedule, &slots, now, resumed) {
                Due::Never => _ = self.next.remove(&at),
                Due::At(next) => self.arm(at, next),
                Due::Now { upto, .. } if tried.insert(at.clone(), upto) == Some(upto) => {
                    self.arm(at, now.after(AGAIN_AFTER));
                }
                Due::Now { slots, missed, upto } => {
                    let key = self.key(&schedule);
                    fires.push(fire_of(&schedule, key, Fired::Slots { slots, missed, upto }));
                }
            }
        }
        Ok(fires)
    }

    /// The key of the jobs of a schedule. Its args were right when it was made; where its kind has another path since, and
    /// something else than a key stands there, they have none, and the log says so.
    fn key(&self, schedule: &Schedule) -> Option<JobKey> {
        let (tenant, job) = (self.store.tenant_name(schedule.tenant), &schedule.plan.job);
        let path = self.plugins.get(&tenant, &job.kind)?.manifest().key(&job.kind)?;
        path.read(&job.args).unwrap_or_else(|why| {
            tracing::warn!(tenant = %tenant, schedule = schedule.name, "the jobs of a schedule have no key: {why}");
            None
        })
    }

    /// Fires these, and answers which to look at again.
    async fn fire(&mut self, fires: Vec<Fire>) -> Result<BTreeSet<ScheduleRef>, Failed> {
        let mut calls = JoinSet::new();
        let mut again = BTreeSet::new();
        let mut fires = fires.into_iter();
        loop {
            while calls.len() < FIRED_AT_ONCE
                && let Some(fire) = fires.next()
            {
                let store = self.store.clone();
                let at = fire.at.clone();
                calls.spawn(async move { (at, store.call(Command::Fire(Box::new(fire))).await) });
            }
            let Some(called) = calls.join_next().await else { return Ok(again) };
            let Ok((at, reply)) = called else { continue };
            match reply? {
                Reply::Fired(jobs) => {
                    tracing::debug!(tenant = %at.tenant, schedule = at.name, jobs = jobs.len(), "slots fired");
                }
                // It is gone, or another one by now: its change says when it comes next.
                Reply::Rejected(Rejection::NoSchedule | Rejection::ScheduleChanged) => {}
                other => tracing::warn!(schedule = at.name, "a slot was not fired: {other:?}"),
            }
            again.insert(at);
        }
    }

    fn arm(&mut self, at: ScheduleRef, next: Time) {
        let at = match self.next.remove_entry(&at) {
            Some((at, before)) if before == next => {
                self.next.insert(at, next);
                return;
            }
            Some((at, _)) => at,
            None => Arc::new(at),
        };
        self.next.insert(Arc::clone(&at), next);
        self.heap.push(Reverse((next, at)));
        if self.heap.len() > 2 * self.next.len() + STALE_MAX {
            self.heap = self.next.iter().map(|(at, next)| Reverse((*next, Arc::clone(at)))).collect();
        }
    }

    /// The slots of a schedule; none: the words mean nothing here, which was said.
    fn slots(&mut self, schedule: &Schedule) -> Option<Arc<Slots>> {
        let key = match &schedule.plan.when {
            When::Cron { cron, zone } => (cron.clone(), zone.clone()),
            when @ When::Every { .. } => return Slots::of(when).ok().map(Arc::new),
        };
        if let Some(slots) = self.parsed.get(&key) {
            return Some(Arc::clone(slots));
        }
        match Slots::of(&schedule.plan.when) {
            Ok(slots) => {
                let slots = Arc::new(slots);
                if self.parsed.len() >= PARSED_MAX {
                    self.parsed.clear();
                }
                self.parsed.insert(key, Arc::clone(&slots));
                Some(slots)
            }
            Err(error) => {
                // Another program, or another machine, knew more zones than this one.
                tracing::error!(schedule = schedule.name, %error, "a schedule cannot be fired here; edit it");
                None
            }
        }
    }

    fn sleep(&self) -> Duration {
        let now = self.clock.now();
        let next = self.heap.peek().map(|Reverse((at, _))| Duration::from(at.since(now)));
        next.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
    }

    /// The schedules that have changed since the last time.
    fn changed(&mut self) -> Result<BTreeSet<ScheduleRef>, StoreError> {
        let notices = self.store.board().take_schedules();
        if notices.all {
            self.next.clear();
            self.heap.clear();
            return self.all();
        }
        Ok(notices.changed)
    }

    /// Every schedule there is.
    fn all(&self) -> Result<BTreeSet<ScheduleRef>, StoreError> {
        let view = self.store.snapshot()?;
        let mut all = BTreeSet::new();
        let mut after: Option<ScheduleRef> = None;
        loop {
            let page = match view.read(&Query::Schedules { tenant: None, after, limit: PAGE })? {
                Answer::Schedules(page) => page,
                other => unreachable!("schedules are answered with schedules, not with {other:?}"),
            };
            let Some(last) = page.last() else { return Ok(all) };
            after = Some(last.at());
            all.extend(page.iter().map(Schedule::at));
        }
    }
}

/// The command that makes jobs of a schedule as it was read, with the key that stands in its args.
pub(crate) fn fire_of(schedule: &Schedule, key: Option<JobKey>, what: Fired) -> Fire {
    let job = &schedule.plan.job;
    Fire {
        at: schedule.at(),
        edits: schedule.edits,
        queue: job.queue.clone(),
        kind: job.kind.clone(),
        args_bytes: job.args.len(),
        key,
        what,
    }
}
