//! Reading: what a batch may touch, and the answers to queries.

use std::collections::BinaryHeap;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use super::{damaged, engine_error, guarded, tables};
use crate::codec;
use crate::command::{Answer, CountKey, JobsQuery, Lane, Name, Query, RunRecord, limits};
use crate::engine::{Heads, KeyRecord, KeyRef, Needs, Snapshot, WorkingSet};
use crate::error::StoreError;
use crate::index::ListKey;
use crate::job::{BootId, Holder, Job, JobId, JobRef, RunNumber, Seq, StateName, TenantId, Time};
use crate::log::LogEntry;

/// Combinations of state, queue and kind whose lists are merged for one page; with more, rows are walked.
const MERGED_LISTS_MAX: usize = 256;
/// Rows that are looked at for one page, where rows are walked.
const WALKED_ROWS_MAX: usize = 20_000;

pub(super) fn prefetch(from: &WriteTransaction, needs: &Needs, now: Time) -> Result<WorkingSet, StoreError> {
    let mut set = WorkingSet { now, ..WorkingSet::default() };
    let meta = from.open_table(tables::META).map_err(engine_error)?;
    let next = meta.get(tables::NEXT_JOB).map_err(engine_error)?.map_or(1, |n| n.value());
    set.next_job = JobId(next);
    let jobs = from.open_table(tables::JOBS).map_err(engine_error)?;
    for at in &needs.jobs {
        put_job(&jobs, *at, &mut set)?;
    }
    if !needs.runs.is_empty() {
        let table = from.open_table(tables::RUNS).map_err(engine_error)?;
        for at in &needs.runs {
            set.runs.insert(*at, runs(&table, *at)?);
        }
    }
    if !needs.lanes.is_empty() {
        let lanes = from.open_table(tables::LANES).map_err(engine_error)?;
        for (lane, max) in &needs.lanes {
            let heads = heads(&lanes, *lane, *max)?;
            for at in &heads.jobs {
                put_job(&jobs, *at, &mut set)?;
            }
            set.lanes.insert(*lane, heads);
        }
    }
    if needs.due > 0 {
        let due = from.open_table(tables::DUE).map_err(engine_error)?;
        let range = due.range::<&[u8; 20]>(..=&tables::due_until(now)).map_err(engine_error)?;
        for entry in range.take(needs.due as usize) {
            let at = tables::due_of(entry.map_err(engine_error)?.0.value()).at();
            put_job(&jobs, at, &mut set)?;
            set.due.push(at);
        }
    }
    if let Some((living, max)) = needs.dead {
        let lists = from.open_table(tables::LISTS).map_err(engine_error)?;
        dead(&lists, &jobs, living, max, &mut set)?;
    }
    keys(from, needs, &mut set)?;
    Ok(set)
}

type Jobs<'a> = redb::Table<'a, &'static [u8; 12], &'static [u8]>;

fn put_job(jobs: &Jobs<'_>, at: JobRef, set: &mut WorkingSet) -> Result<(), StoreError> {
    if !set.jobs.contains_key(&at)
        && let Some(job) = job(jobs, at)?
    {
        set.jobs.insert(at, Arc::new(job));
    }
    Ok(())
}

fn job(jobs: &impl ReadableTable<&'static [u8; 12], &'static [u8]>, at: JobRef) -> Result<Option<Job>, StoreError> {
    let key = tables::job(at);
    let Some(row) = jobs.get(&key).map_err(engine_error)? else { return Ok(None) };
    codec::job(row.value()).map(Some).map_err(|error| damaged("jobs", &key, error))
}

fn heads(lanes: &impl ReadableTable<&'static [u8; 31], ()>, lane: Lane, max: u32) -> Result<Heads, StoreError> {
    let (first, last) = tables::lane_bounds(lane);
    let mut heads = Heads { jobs: Vec::new(), all: true };
    for entry in lanes.range::<&[u8; 31]>(&first..=&last).map_err(engine_error)? {
        if heads.jobs.len() == max as usize {
            heads.all = false;
            break;
        }
        let key = tables::lane_of(entry.map_err(engine_error)?.0.value());
        heads.jobs.push(JobRef { tenant: lane.tenant, job: key.order.id });
    }
    Ok(heads)
}

fn runs(runs: &impl ReadableTable<&'static [u8; 16], &'static [u8]>, at: JobRef) -> Result<Vec<RunRecord>, StoreError> {
    let first = tables::run(at, RunNumber(0));
    let last = tables::run(at, RunNumber(u32::MAX));
    let range = runs.range::<&[u8; 16]>(&first..=&last).map_err(engine_error)?;
    range
        .map(|entry| {
            let (key, value) = entry.map_err(engine_error)?;
            codec::decode(value.value()).map_err(|error| damaged("runs", key.value(), error))
        })
        .collect()
}

/// Running jobs, of all tenants, that a boot other than `living` holds.
fn dead(
    lists: &impl ReadableTable<&'static [u8; 21], ()>,
    jobs: &Jobs<'_>,
    living: BootId,
    max: u32,
    set: &mut WorkingSet,
) -> Result<(), StoreError> {
    let mut from = tables::list_start(TenantId(0), StateName::Running);
    'tenants: loop {
        for entry in lists.range::<&[u8; 21]>(&from..).map_err(engine_error)? {
            let key = tables::list_of(entry.map_err(engine_error)?.0.value());
            if key.state != StateName::Running {
                // Past this tenant's running jobs, or before them: go on where the next ones would be.
                let behind = u32::from(key.state > StateName::Running);
                let Some(tenant) = key.tenant.0.checked_add(behind) else { return Ok(()) };
                from = tables::list_start(TenantId(tenant), StateName::Running);
                continue 'tenants;
            }
            let at = JobRef { tenant: key.tenant, job: key.id };
            let Some(job) = job(jobs, at)? else { continue };
            let lives = job.lease().is_none_or(|lease| match lease.holder {
                Holder::Node(boot) => boot == living,
                Holder::Worker(_) => true,
            });
            if lives {
                continue;
            }
            set.jobs.insert(at, Arc::new(job));
            set.dead.push(at);
            if set.dead.len() == max as usize {
                return Ok(());
            }
        }
        return Ok(());
    }
}

fn keys(from: &WriteTransaction, needs: &Needs, set: &mut WorkingSet) -> Result<(), StoreError> {
    if needs.keys.is_empty() {
        return Ok(());
    }
    let keys = from.open_table(tables::KEYS).map_err(engine_error)?;
    for at in &needs.keys {
        let key = tables::key(*at);
        if let Some(value) = keys.get(&key).map_err(engine_error)? {
            let record: KeyRecord = codec::decode(value.value()).map_err(|e| damaged("keys", &key, e))?;
            set.keys.insert(*at, record);
        }
    }
    let until = from.open_table(tables::KEYS_UNTIL).map_err(engine_error)?;
    for entry in until.iter().map_err(engine_error)?.take(needs.expired_keys as usize) {
        let (at, until) = tables::key_until_of(entry.map_err(engine_error)?.0.value());
        if until <= set.now {
            set.expired_keys.push((at, until));
        }
    }
    Ok(())
}

/// A consistent view.
pub(super) struct View(pub(super) ReadTransaction);

impl Snapshot for View {
    fn read(&self, query: &Query) -> Result<Answer, StoreError> {
        guarded(|| self.answer(query))
    }
}

impl View {
    fn answer(&self, query: &Query) -> Result<Answer, StoreError> {
        Ok(match query {
            Query::Job(at) => {
                let jobs = self.0.open_table(tables::JOBS).map_err(engine_error)?;
                Answer::Job(job(&jobs, *at)?)
            }
            Query::Payload(at, part) => {
                let payloads = self.0.open_table(tables::PAYLOADS).map_err(engine_error)?;
                let value = payloads.get(&tables::payload(*at, *part)).map_err(engine_error)?;
                Answer::Payload(value.map(|bytes| bytes.value().to_vec()))
            }
            Query::Runs(at) => Answer::Runs(runs(&self.0.open_table(tables::RUNS).map_err(engine_error)?, *at)?),
            Query::Jobs(query) => Answer::Jobs(self.jobs(query)?),
            Query::Counts => Answer::Counts(self.counts()?),
            Query::Names => Answer::Names(self.names()?),
            Query::Events { since, limit } => Answer::Events(self.events(*since, *limit)?),
            Query::Key(tenant, key) => {
                let keys = self.0.open_table(tables::KEYS).map_err(engine_error)?;
                let key = tables::key(KeyRef::of(*tenant, key));
                let value = keys.get(&key).map_err(engine_error)?;
                let record = value.map(|value| codec::decode::<KeyRecord>(value.value())).transpose();
                let record = record.map_err(|error| damaged("keys", &key, error))?;
                Answer::Key(record.map(|record| (record.until, record.answer)))
            }
            Query::NextDue => {
                let due = self.0.open_table(tables::DUE).map_err(engine_error)?;
                let first = due.first().map_err(engine_error)?;
                Answer::NextDue(first.map(|(key, _)| tables::due_of(key.value()).run_at))
            }
        })
    }

    pub(super) fn counts(&self) -> Result<Vec<(CountKey, u64)>, StoreError> {
        let counts = self.0.open_table(tables::COUNTS).map_err(engine_error)?;
        let entries = counts.iter().map_err(engine_error)?;
        entries
            .map(|entry| {
                let (key, n) = entry.map_err(engine_error)?;
                Ok((tables::count_of(key.value()), n.value()))
            })
            .collect()
    }

    pub(super) fn names(&self) -> Result<Vec<(Name, u32)>, StoreError> {
        let names = self.0.open_table(tables::NAMES).map_err(engine_error)?;
        let entries = names.iter().map_err(engine_error)?;
        entries
            .map(|entry| {
                let (key, value) = entry.map_err(engine_error)?;
                let name = codec::decode(value.value()).map_err(|e| damaged("names", key.value(), e))?;
                Ok((name, u32::from_be_bytes(*key.value())))
            })
            .collect()
    }

    fn events(&self, since: Seq, limit: u32) -> Result<Vec<LogEntry>, StoreError> {
        let log = self.0.open_table(tables::LOG).map_err(engine_error)?;
        let range = log.range::<&[u8; 8]>(&since.0.to_be_bytes()..).map_err(engine_error)?;
        range
            .take(limit.min(limits::PAGE_ROWS_MAX) as usize)
            .map(|entry| {
                let (key, value) = entry.map_err(engine_error)?;
                codec::decode(value.value()).map_err(|error| damaged("log", key.value(), error))
            })
            .collect()
    }

    /// Newest first. The counts say which lists there are; their ends are merged by id. Where there are too many, rows
    /// are walked.
    fn jobs(&self, query: &JobsQuery) -> Result<Vec<Job>, StoreError> {
        let limit = query.limit.min(limits::PAGE_ROWS_MAX) as usize;
        let before = query.before.unwrap_or(JobId(u64::MAX));
        let mut lists: Vec<ListKey> = self
            .counts()?
            .into_iter()
            .map(|(CountKey { lane, state }, _)| ListKey {
                tenant: lane.tenant,
                state,
                queue: lane.queue,
                kind: lane.kind,
                id: before,
            })
            .filter(|list| list.tenant == query.tenant && matches(query, list))
            .collect();
        // Suspects are counted apart and listed with the others.
        lists.sort_unstable();
        lists.dedup();
        if lists.len() > MERGED_LISTS_MAX {
            return self.walked(query, before, limit);
        }
        let ids = self.newest(&lists, limit)?;
        let jobs = self.0.open_table(tables::JOBS).map_err(engine_error)?;
        let found = ids.into_iter().map(|id| job(&jobs, JobRef { tenant: query.tenant, job: id }));
        found.filter_map(Result::transpose).collect()
    }

    /// The newest ids of several lists: their ends are merged, so that no more is read than is answered.
    fn newest(&self, lists: &[ListKey], limit: usize) -> Result<Vec<JobId>, StoreError> {
        let table = self.0.open_table(tables::LISTS).map_err(engine_error)?;
        let mut rest = Vec::with_capacity(lists.len());
        for list in lists {
            let first = tables::list(&ListKey { id: JobId(0), ..*list });
            rest.push(table.range::<&[u8; 21]>(&first..&tables::list(list)).map_err(engine_error)?);
        }
        let mut next = |list: usize| match rest[list].next_back() {
            Some(entry) => Ok(Some((tables::list_of(entry.map_err(engine_error)?.0.value()).id, list))),
            None => Ok(None),
        };
        let mut ends = BinaryHeap::with_capacity(lists.len());
        for list in 0..lists.len() {
            ends.extend(next(list)?);
        }
        let mut ids = Vec::new();
        while ids.len() < limit
            && let Some((id, list)) = ends.pop()
        {
            ids.push(id);
            ends.extend(next(list)?);
        }
        Ok(ids)
    }

    fn walked(&self, query: &JobsQuery, before: JobId, limit: usize) -> Result<Vec<Job>, StoreError> {
        let jobs = self.0.open_table(tables::JOBS).map_err(engine_error)?;
        let first = tables::job(JobRef { tenant: query.tenant, job: JobId(0) });
        let last = tables::job(JobRef { tenant: query.tenant, job: before });
        let mut page = Vec::new();
        if limit == 0 {
            return Ok(page);
        }
        let range = jobs.range::<&[u8; 12]>(&first..&last).map_err(engine_error)?;
        for entry in range.rev().take(WALKED_ROWS_MAX) {
            let (key, row) = entry.map_err(engine_error)?;
            let job = codec::job(row.value()).map_err(|error| damaged("jobs", key.value(), error))?;
            if matches(query, &crate::index::keys(&job).list) {
                page.push(job);
            }
            if page.len() == limit {
                break;
            }
        }
        Ok(page)
    }
}

fn matches(query: &JobsQuery, list: &ListKey) -> bool {
    query.state.is_none_or(|state| state == list.state)
        && query.queue.is_none_or(|queue| queue == list.queue)
        && query.kind.is_none_or(|kind| kind == list.kind)
}
