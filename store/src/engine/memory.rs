//! An engine that keeps everything in memory: for tests, and for `--store memory`, where jobs need not outlive the
//! process. Written independently of the file's tables, so that the two can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard};

use super::{
    Change, Dump, Engine, Heads, KeyRecord, KeyRef, Needs, Persisted, Reader, Snapshot, WorkingSet, count_differences,
};
use crate::clock::Clock;
use crate::command::{Answer, CountKey, JobsQuery, Lane, Name, Part, Query, RunRecord, limits};
use crate::error::StoreError;
use crate::index::{self, DueKey, Keys, Order};
use crate::job::{Holder, Job, JobId, JobRef, RunNumber, Seq, State, Time};
use crate::log::LogEntry;

/// See the module.
pub struct Memory {
    clock: Clock,
    tables: Arc<RwLock<Tables>>,
}

#[derive(Default)]
struct Tables {
    jobs: BTreeMap<JobRef, Arc<Job>>,
    payloads: BTreeMap<(JobRef, Part), Vec<u8>>,
    runs: BTreeMap<(JobRef, RunNumber), RunRecord>,
    lanes: BTreeMap<Lane, BTreeSet<Order>>,
    due: BTreeSet<DueKey>,
    counts: BTreeMap<CountKey, u64>,
    names: BTreeMap<Name, u32>,
    keys: BTreeMap<KeyRef, KeyRecord>,
    keys_until: BTreeSet<(Time, KeyRef)>,
    log: Vec<LogEntry>,
    next_job: u64,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let tables = Tables { next_job: 1, ..Tables::default() };
        Self { clock, tables: Arc::new(RwLock::new(tables)) }
    }

    /// Everything that is kept.
    #[must_use]
    pub fn dump(&self) -> Dump {
        self.tables().dump()
    }

    fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Engine for Memory {
    fn prefetch(&mut self, needs: &Needs) -> Result<WorkingSet, StoreError> {
        Ok(self.tables().prefetch(needs, self.clock.now()))
    }

    fn persist(&mut self, changes: &[Change]) -> Result<Persisted, StoreError> {
        let mut tables = self.tables.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for change in changes {
            tables.apply(change);
        }
        let counts = count_differences(changes);
        for (key, difference) in &counts {
            let count = tables.counts.entry(*key).or_default();
            *count = count.checked_add_signed(*difference).expect("no count falls below zero");
        }
        tables.counts.retain(|_, n| *n > 0);
        Ok(Persisted {
            last_seq: Seq(tables.log.len() as u64),
            counts,
            next_due: tables.due.first().map(|key| key.run_at),
        })
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(View(Arc::clone(&self.tables)))
    }
}

impl Tables {
    fn prefetch(&self, needs: &Needs, now: Time) -> WorkingSet {
        let mut set = WorkingSet {
            now,
            next_job: JobId(self.next_job),
            next_name: self.names.len() as u32 + 1,
            ..WorkingSet::default()
        };
        let mut wanted: Vec<JobRef> = needs.jobs.iter().copied().collect();
        for (lane, max) in &needs.lanes {
            let orders = self.lanes.get(lane);
            let max = *max as usize;
            let at = |order: &Order| JobRef { tenant: lane.tenant, job: order.id };
            let jobs: Vec<JobRef> = orders.into_iter().flatten().take(max).map(at).collect();
            wanted.extend(&jobs);
            set.lanes.insert(*lane, Heads { jobs, all: orders.map_or(0, BTreeSet::len) <= max });
        }
        let due = self.due.iter().take_while(|key| key.run_at <= now).take(needs.due as usize);
        set.due = due.map(DueKey::at).collect();
        wanted.extend(&set.due);
        if let Some((living, max)) = needs.dead {
            let of_the_dead = |job: &&Arc<Job>| match &job.state {
                State::Running(lease) => {
                    lease.holder != Holder::Node(living) && matches!(lease.holder, Holder::Node(_))
                }
                _ => false,
            };
            let mut dead: Vec<_> = self.jobs.values().filter(of_the_dead).collect();
            dead.sort_by_key(|job| index::keys(job).list);
            set.dead = dead.into_iter().take(max as usize).map(|job| job.at()).collect();
            wanted.extend(&set.dead);
        }
        for at in wanted {
            if let Some(job) = self.jobs.get(&at) {
                set.jobs.insert(at, Arc::clone(job));
            }
        }
        set.runs = needs.runs.iter().map(|at| (*at, self.runs(*at))).collect();
        for name in &needs.names {
            if let Some(number) = self.names.get(name) {
                set.names.insert(name.clone(), *number);
            }
        }
        for key in &needs.keys {
            if let Some(record) = self.keys.get(key) {
                set.keys.insert(*key, record.clone());
            }
        }
        let expired = self.keys_until.iter().take(needs.expired_keys as usize).filter(|(until, _)| *until <= now);
        set.expired_keys = expired.map(|(until, key)| (*key, *until)).collect();
        set
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Job { before, after, row: _ } => self.apply_job(before.as_ref(), after.as_ref()),
            Change::Event(entry) => {
                let seq = Seq(self.log.len() as u64 + 1);
                self.log.push(LogEntry { seq, ..entry.clone() });
            }
            Change::Payload(at, part, Some(bytes)) => _ = self.payloads.insert((*at, *part), bytes.clone()),
            Change::Payload(at, part, None) => _ = self.payloads.remove(&(*at, *part)),
            Change::Run(at, record) => {
                self.runs.insert((*at, record.run), (**record).clone());
                let old = RunNumber(record.run.0.saturating_sub(crate::job::limits::RUNS_KEPT));
                self.runs.remove(&(*at, old));
            }
            Change::Name(name, number) => _ = self.names.insert(name.clone(), *number),
            Change::Key(at, record) => {
                self.keys.insert(*at, record.clone());
                self.keys_until.insert((record.until, *at));
            }
            Change::ForgetKey(at, until) => {
                self.keys.remove(at);
                self.keys_until.remove(&(*until, *at));
            }
            Change::NextJob(id) => self.next_job = id.0,
        }
    }

    fn apply_job(&mut self, before: Option<&Arc<Job>>, after: Option<&Arc<Job>>) {
        if let Some(job) = before {
            let Keys { lane, due, list: _ } = index::keys(job);
            if let Some(key) = lane
                && let Some(orders) = self.lanes.get_mut(&key.lane)
            {
                orders.remove(&key.order);
                if orders.is_empty() {
                    self.lanes.remove(&key.lane);
                }
            }
            if let Some(key) = due {
                self.due.remove(&key);
            }
        }
        if let Some(job) = after {
            let Keys { lane, due, list: _ } = index::keys(job);
            if let Some(key) = lane {
                self.lanes.entry(key.lane).or_default().insert(key.order);
            }
            self.due.extend(due);
            self.jobs.insert(job.at(), Arc::clone(job));
        } else if let Some(job) = before {
            let at = job.at();
            self.jobs.remove(&at);
            for part in Part::ALL {
                self.payloads.remove(&(at, part));
            }
            let runs: Vec<_> =
                self.runs.range((at, RunNumber(0))..=(at, RunNumber(u32::MAX))).map(|(k, _)| *k).collect();
            for key in runs {
                self.runs.remove(&key);
            }
        }
    }

    fn dump(&self) -> Dump {
        let lane_keys = |(lane, orders): (&Lane, &BTreeSet<Order>)| {
            let lane = *lane;
            orders.iter().map(move |order| index::LaneKey { lane, order: *order }).collect::<Vec<_>>()
        };
        let mut lists: Vec<_> = self.jobs.values().map(|job| index::keys(job).list).collect();
        lists.sort_unstable();
        Dump {
            jobs: self.jobs.values().map(|job| (**job).clone()).collect(),
            payloads: self.payloads.iter().map(|((at, part), bytes)| (*at, *part, bytes.clone())).collect(),
            runs: self.runs.iter().map(|((at, _), record)| (*at, record.clone())).collect(),
            lanes: self.lanes.iter().flat_map(lane_keys).collect(),
            due: self.due.iter().copied().collect(),
            lists,
            counts: self.counts.iter().map(|(key, n)| (*key, *n)).collect(),
            names: self.dump_names(),
            keys: self.keys.iter().map(|(at, record)| (*at, record.clone())).collect(),
            log: self.log.clone(),
            next_job: JobId(self.next_job),
        }
    }

    fn runs(&self, at: JobRef) -> Vec<RunRecord> {
        let range = self.runs.range((at, RunNumber(0))..=(at, RunNumber(u32::MAX)));
        range.map(|(_, record)| record.clone()).collect()
    }

    fn jobs(&self, query: &JobsQuery) -> Vec<Job> {
        let first = JobRef { tenant: query.tenant, job: JobId(0) };
        let before = JobRef { tenant: query.tenant, job: query.before.unwrap_or(JobId(u64::MAX)) };
        let wanted = |job: &&Arc<Job>| {
            query.state.is_none_or(|state| state == job.state.name())
                && query.queue.is_none_or(|queue| queue == job.queue)
                && query.kind.is_none_or(|kind| kind == job.kind)
        };
        let range = self.jobs.range((Bound::Included(first), Bound::Excluded(before)));
        let newest_first = range.rev().map(|(_, job)| job).filter(wanted);
        newest_first.take(query.limit.min(limits::PAGE_ROWS_MAX) as usize).map(|job| (**job).clone()).collect()
    }
}

/// The moment of each read: a memory store never makes a writer wait for a reader's second question.
struct View(Arc<RwLock<Tables>>);

impl Reader for View {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl Snapshot for View {
    fn read(&self, query: &Query) -> Result<Answer, StoreError> {
        let tables = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(match query {
            Query::Job(at) => Answer::Job(tables.jobs.get(at).map(|job| (**job).clone())),
            Query::Payload(at, part) => Answer::Payload(tables.payloads.get(&(*at, *part)).cloned()),
            Query::Runs(at) => Answer::Runs(tables.runs(*at)),
            Query::Jobs(query) => Answer::Jobs(tables.jobs(query)),
            Query::Counts => Answer::Counts(tables.counts.iter().map(|(key, n)| (*key, *n)).collect()),
            Query::Names => Answer::Names(tables.dump_names()),
            Query::Events { since, limit } => {
                let from = usize::try_from(since.0.saturating_sub(1)).unwrap_or(usize::MAX).min(tables.log.len());
                let page = tables.log[from..].iter().take((*limit).min(limits::PAGE_ROWS_MAX) as usize);
                Answer::Events(page.cloned().collect())
            }
            Query::Key(tenant, key) => {
                let record = tables.keys.get(&KeyRef::of(*tenant, key));
                Answer::Key(record.map(|record| (record.until, record.answer.clone())))
            }
            Query::NextDue => Answer::NextDue(tables.due.first().map(|key| key.run_at)),
        })
    }
}

impl Tables {
    fn dump_names(&self) -> Vec<(Name, u32)> {
        let mut names: Vec<_> = self.names.iter().map(|(name, number)| (name.clone(), *number)).collect();
        names.sort_unstable_by_key(|(_, number)| *number);
        names
    }
}
