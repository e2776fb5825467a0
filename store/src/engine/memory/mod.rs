//! An engine that keeps everything in memory: for tests, and for `--store memory`, where jobs need not outlive the
//! process. Written independently of the file's tables, so that the two can be compared.

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use super::{
    Change, Dump, EVENT_BYTES_BESIDE, Engine, KeyChanges, KeyRecord, KeyRef, KvKey, Needs, Persisted, Reader, Snapshot,
    Spread, UniqueRecord, WorkingSet, count_differences, key_differences, total_differences,
};
use crate::clock::Clock;
use crate::command::{CountKey, Lane, Name, Part, RunRecord, RunRef, Scope, Settings, Subscription, Total, TotalKey};
use crate::error::StoreError;
use crate::index::{self, BegunKey, DueKey, EndKey, ExpiryKey, Keys, Order, ScheduledKey, TagKey, WaitKey};
use crate::job::{Job, JobId, JobRef, RunNumber, Seq, TenantId, Time};
use crate::listening::{Heard, Listening};
use crate::log::LogEntry;
use crate::schedule::{Schedule, ScheduleRef};
use crate::token::{Token, TokenHash};

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
    run_logs: BTreeMap<(JobRef, RunNumber), Vec<u8>>,
    kv: BTreeMap<KvKey, Vec<u8>>,
    lanes: BTreeMap<Lane, BTreeSet<Order>>,
    due: BTreeSet<DueKey>,
    expiry: BTreeSet<ExpiryKey>,
    ended: BTreeSet<EndKey>,
    waits: BTreeSet<WaitKey>,
    tags: BTreeSet<TagKey>,
    uniques: BTreeMap<KeyRef, UniqueRecord>,
    uniques_until: BTreeSet<(Time, KeyRef)>,
    spreads: BTreeMap<JobRef, Spread>,
    heard: BTreeMap<u64, Heard>,
    subscriptions: BTreeMap<TenantId, Vec<Subscription>>,
    listening: Arc<Listening>,
    settings: BTreeMap<Scope, Settings>,
    totals: BTreeMap<TotalKey, u64>,
    counts: BTreeMap<CountKey, u64>,
    names: BTreeMap<Name, u32>,
    keys: BTreeMap<KeyRef, KeyRecord>,
    keys_until: BTreeSet<(Time, KeyRef)>,
    schedules: BTreeMap<ScheduleRef, Schedule>,
    scheduled: BTreeSet<ScheduledKey>,
    begun: BTreeSet<BegunKey>,
    schedules_from: Time,
    tokens: BTreeMap<TokenHash, Token>,
    log: BTreeMap<Seq, LogEntry>,
    log_bytes: u64,
    paused: bool,
    next_job: u64,
    next_seq: u64,
    next_name: u32,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let tables = Tables { next_job: 1, next_seq: 1, next_name: 1, ..Tables::default() };
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
        Ok(self.tables().prefetch(needs, self.clock.now(), self.clock.uptime()))
    }

    fn persist(&mut self, changes: &[Change]) -> Result<Persisted, StoreError> {
        let mut tables = self.tables.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for change in changes {
            tables.apply(change);
        }
        for change in changes {
            if let Change::Heard(number, None) = change {
                tables.heard.remove(number);
            }
        }
        let counts = count_differences(changes);
        for (key, difference) in &counts {
            let key = CountKey { lane: key.lane.of_all_keys(), ..*key };
            let count = tables.counts.entry(key).or_default();
            *count = count.checked_add_signed(*difference).expect("no count falls below zero");
        }
        tables.counts.retain(|_, n| *n > 0);
        for (key, difference) in total_differences(&counts) {
            tables.add_to(key, difference);
        }
        let (lanes, begun) = key_differences(changes);
        let head = |lane| (lane, tables.lanes.get(&lane).and_then(|orders| orders.first().copied()));
        let keys = KeyChanges { heads: lanes.into_iter().map(head).collect(), begun };
        Ok(Persisted {
            last_seq: Seq(tables.next_seq - 1),
            counts,
            keys,
            next_due: tables.due.first().map(|key| key.run_at),
            paused: tables.paused,
        })
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(View(Arc::clone(&self.tables)))
    }
}

/// The moment of each read: a memory store never makes a writer wait for a reader's second question.
struct View(Arc<RwLock<Tables>>);

impl Reader for View {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
}

impl Tables {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Job { before, after, row: _ } => self.apply_job(before.as_ref(), after.as_ref()),
            Change::Event(entry) => {
                let entry = LogEntry { seq: Seq(self.next_seq), ..entry.clone() };
                self.next_seq += 1;
                self.log_bytes += event_bytes(&entry);
                self.log.insert(entry.seq, entry);
            }
            Change::Payload(at, part, bytes) => self.put_payload(*at, *part, bytes.clone()),
            Change::Run(at, record) => {
                self.runs.insert((*at, record.run), (**record).clone());
                let old = RunNumber(record.run.0.saturating_sub(crate::job::limits::RUNS_KEPT));
                self.runs.remove(&(*at, old));
                self.put_run_log(*at, old, None);
            }
            Change::RunLog(run, log) => self.put_run_log(run.at, run.run, log.clone()),
            Change::Kv(key, value) => self.put_kv(key, value.clone()),
            Change::Name(name, number) => {
                self.names.insert(name.clone(), *number);
                if !self.listening.is_empty() {
                    Arc::make_mut(&mut self.listening).name(name, *number);
                }
                self.next_name = self.next_name.max(number + 1);
            }
            Change::Key(at, record) => {
                self.keys.insert(*at, record.clone());
                self.keys_until.insert((record.until, *at));
            }
            Change::ForgetKey(at, until) => {
                self.keys.remove(at);
                self.keys_until.remove(&(*until, *at));
            }
            Change::Unique(at, Some(record)) => {
                self.uniques.insert(*at, *record);
                self.uniques_until.extend(record.until.map(|until| (until, *at)));
            }
            Change::Unique(at, None) => _ = self.uniques.remove(at),
            Change::UniqueUntil(at, until) => _ = self.uniques_until.remove(&(*until, *at)),
            Change::Spread(at, Some(spread)) => _ = self.spreads.insert(*at, *spread),
            Change::Spread(at, None) => _ = self.spreads.remove(at),
            Change::Hear(heard) => {
                let number = self.heard.last_key_value().map_or(1, |(last, _)| last + 1);
                self.heard.insert(number, (**heard).clone());
            }
            Change::Heard(number, Some(heard)) => _ = self.heard.insert(*number, (**heard).clone()),
            // Last of all: what is added in the same batch stands behind it.
            Change::Heard(_, None) => {}
            Change::Subscriptions(tenant, subscriptions) => self.subscribe(*tenant, subscriptions),
            Change::Settings(settings) => _ = self.settings.insert(settings.scope(), settings.clone()),
            Change::Schedule(at, schedule) => self.put_schedule(at, schedule.as_deref().cloned()),
            Change::SchedulesFrom(from) => self.schedules_from = *from,
            Change::Token(hash, Some(token)) => _ = self.tokens.insert(*hash, (**token).clone()),
            Change::Token(hash, None) => _ = self.tokens.remove(hash),
            Change::Paused(paused) => self.paused = *paused,
            Change::TrimLog(before) => {
                let kept = self.log.split_off(before);
                let gone = std::mem::replace(&mut self.log, kept);
                self.log_bytes -= gone.values().map(event_bytes).sum::<u64>();
            }
            Change::NextJob(id) => self.next_job = id.0,
        }
    }

    fn subscribe(&mut self, tenant: TenantId, subscriptions: &[Subscription]) {
        let names = self.names.iter().map(|(name, number)| (name, *number));
        Arc::make_mut(&mut self.listening).set(tenant, subscriptions, names);
        if subscriptions.is_empty() {
            self.subscriptions.remove(&tenant);
        } else {
            self.subscriptions.insert(tenant, subscriptions.to_vec());
        }
    }

    fn apply_job(&mut self, before: Option<&Arc<Job>>, after: Option<&Arc<Job>>) {
        if let Some(job) = before {
            self.remove_entries(&index::keys(job));
        }
        if let Some(job) = after {
            self.insert_entries(index::keys(job));
            self.jobs.insert(job.at(), Arc::clone(job));
        } else if let Some(job) = before {
            let at = job.at();
            self.jobs.remove(&at);
            for part in Part::ALL {
                self.put_payload(at, part, None);
            }
            let runs: Vec<_> =
                self.runs.range((at, RunNumber(0))..=(at, RunNumber(u32::MAX))).map(|(k, _)| *k).collect();
            for key in runs {
                self.runs.remove(&key);
                self.put_run_log(key.0, key.1, None);
            }
        }
    }

    fn remove_entries(&mut self, keys: &Keys) {
        let Keys { lane, due, list: _, expiry, ended, waits, tags, scheduled, begun } = keys;
        if let Some(key) = lane
            && let Some(orders) = self.lanes.get_mut(&key.lane)
        {
            orders.remove(&key.order);
            if orders.is_empty() {
                self.lanes.remove(&key.lane);
            }
        }
        due.iter().for_each(|key| _ = self.due.remove(key));
        expiry.iter().for_each(|key| _ = self.expiry.remove(key));
        ended.iter().for_each(|key| _ = self.ended.remove(key));
        waits.iter().for_each(|key| _ = self.waits.remove(key));
        tags.iter().for_each(|key| _ = self.tags.remove(key));
        scheduled.iter().for_each(|key| _ = self.scheduled.remove(key));
        begun.iter().for_each(|key| _ = self.begun.remove(key));
    }

    fn insert_entries(&mut self, keys: Keys) {
        let Keys { lane, due, list: _, expiry, ended, waits, tags, scheduled, begun } = keys;
        if let Some(key) = lane {
            self.lanes.entry(key.lane).or_default().insert(key.order);
        }
        self.due.extend(due);
        self.expiry.extend(expiry);
        self.ended.extend(ended);
        self.waits.extend(waits);
        self.tags.extend(tags);
        self.scheduled.extend(scheduled);
        self.begun.extend(begun);
    }

    fn put_payload(&mut self, at: JobRef, part: Part, bytes: Option<Vec<u8>>) {
        let size = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, |bytes| bytes.len() as i64);
        let new = size(&bytes);
        let old = match bytes {
            Some(bytes) => self.payloads.insert((at, part), bytes),
            None => self.payloads.remove(&(at, part)),
        };
        self.add_to(TotalKey { tenant: at.tenant, of: Total::Bytes }, new - size(&old));
    }

    fn put_run_log(&mut self, at: JobRef, run: RunNumber, log: Option<Vec<u8>>) {
        let new = log.as_ref().map_or(0, |log| log.len() as i64);
        let old = match log {
            Some(log) => self.run_logs.insert((at, run), log),
            None => self.run_logs.remove(&(at, run)),
        };
        let old = old.map_or(0, |old| old.len() as i64);
        self.add_to(TotalKey { tenant: at.tenant, of: Total::Bytes }, new - old);
    }

    fn put_kv(&mut self, key: &KvKey, value: Option<Vec<u8>>) {
        let size = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, |value| (key.key.len() + value.len()) as i64);
        let (new, comes) = (size(&value), i64::from(value.is_some()));
        let old = match value {
            Some(value) => self.kv.insert(key.clone(), value),
            None => self.kv.remove(key),
        };
        let (old, went) = (size(&old), i64::from(old.is_some()));
        let tenant = key.space.tenant;
        self.add_to(TotalKey { tenant, of: Total::Bytes }, new - old);
        self.add_to(TotalKey { tenant, of: Total::KvKeys }, comes - went);
    }

    fn put_schedule(&mut self, at: &ScheduleRef, schedule: Option<Schedule>) {
        let comes = i64::from(schedule.is_some());
        let old = match schedule {
            Some(schedule) => self.schedules.insert(at.clone(), schedule),
            None => self.schedules.remove(at),
        };
        let difference = comes - i64::from(old.is_some());
        self.add_to(TotalKey { tenant: at.tenant, of: Total::Schedules }, difference);
    }

    fn add_to(&mut self, key: TotalKey, difference: i64) {
        let total = self.totals.entry(key).or_default();
        *total = total.checked_add_signed(difference).expect("no total falls below zero");
        if *total == 0 {
            self.totals.remove(&key);
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
            schedules: self.schedules.values().cloned().collect(),
            scheduled: self.scheduled.iter().copied().collect(),
            begun: self.begun.iter().copied().collect(),
            schedules_from: self.schedules_from,
            tokens: self.tokens.iter().map(|(hash, token)| (*hash, token.clone())).collect(),
            jobs: self.jobs.values().map(|job| (**job).clone()).collect(),
            payloads: self.payloads.iter().map(|((at, part), bytes)| (*at, *part, bytes.clone())).collect(),
            runs: self.runs.iter().map(|((at, _), record)| (*at, record.clone())).collect(),
            run_logs: self
                .run_logs
                .iter()
                .map(|((at, run), log)| (RunRef { at: *at, run: *run }, log.clone()))
                .collect(),
            kv: self.kv.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            lanes: self.lanes.iter().flat_map(lane_keys).collect(),
            due: self.due.iter().copied().collect(),
            expiry: self.expiry.iter().copied().collect(),
            ended: self.ended.iter().copied().collect(),
            waits: self.waits.iter().copied().collect(),
            tags: self.tags.iter().copied().collect(),
            uniques: self.uniques.iter().map(|(key, record)| (*key, *record)).collect(),
            spreads: self.spreads.iter().map(|(at, spread)| (*at, *spread)).collect(),
            heard: self.heard.iter().map(|(number, heard)| (*number, heard.clone())).collect(),
            subscriptions: self.subscriptions.iter().map(|(tenant, all)| (*tenant, all.clone())).collect(),
            settings: self.settings.iter().map(|(scope, settings)| (scope.clone(), settings.clone())).collect(),
            totals: self.totals.iter().map(|(key, n)| (*key, *n)).collect(),
            paused: self.paused,
            log_bytes: self.log_bytes,
            lists,
            counts: self.counts.iter().map(|(key, n)| (*key, *n)).collect(),
            names: self.dump_names(),
            keys: self.keys.iter().map(|(at, record)| (*at, record.clone())).collect(),
            log: self.log.values().cloned().collect(),
            next_job: JobId(self.next_job),
        }
    }

    fn dump_names(&self) -> Vec<(Name, u32)> {
        let mut names: Vec<_> = self.names.iter().map(|(name, number)| (name.clone(), *number)).collect();
        names.sort_unstable_by_key(|(_, number)| *number);
        names
    }
}

/// What an event counts in the log: as if it were in the file, so that both are trimmed alike.
fn event_bytes(entry: &LogEntry) -> u64 {
    (entry.encoded_at(entry.seq).len() + EVENT_BYTES_BESIDE) as u64
}
