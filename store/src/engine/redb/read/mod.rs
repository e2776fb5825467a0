//! Reading: what a batch may touch here, lists and consistent views beside it.

mod kept;
mod keyed;
mod list;
mod names;
mod oldest;
mod schedules;
mod sweep;
mod view;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};

use self::list::Lists;
pub(super) use self::names::{names_in_use, new_names};
pub(super) use self::view::View;
use super::{damaged, engine_error, listening, meta, tables, tokens};
use crate::codec;
use crate::command::{JobsPage, Lane, Name, NameClass, Part, RunRecord, Scope, Settings, Total, TotalKey};
use crate::engine::{
    Heads, KeyRecord, KeyRef, Needs, Page, REVIVED_ROWS_MAX, Spread, UniqueRecord, WAITERS_READ, Wait, WorkingSet,
    behind,
};
use crate::error::StoreError;
use crate::index::WaitKey;
use crate::job::{BootId, Holder, Job, JobId, JobRef, QueueId, RunNumber, StateName, TenantId, Time};

/// Reads what `needs` names into `set`, which knows the time.
pub(super) fn prefetch(from: &WriteTransaction, needs: &Needs, mut set: WorkingSet) -> Result<WorkingSet, StoreError> {
    let now = set.now;
    let numbers = from.open_table(tables::META).map_err(engine_error)?;
    set.next_job = JobId(numbers.get(tables::NEXT_JOB).map_err(engine_error)?.map_or(1, |n| n.value()));
    set.paused = numbers.get(meta::PAUSED).map_err(engine_error)?.is_some_and(|n| n.value() != 0);
    let resumed = numbers.get(tables::SCHEDULES_FROM).map_err(engine_error)?;
    set.schedules_from = Time(resumed.map_or(0, |n| n.value()));
    // A table is opened once at a time.
    drop(numbers);
    let rows = Rows::open(from)?;
    for at in &needs.jobs {
        rows.put(*at, &mut set)?;
    }
    if !needs.runs.is_empty() {
        let table = from.open_table(tables::RUNS).map_err(engine_error)?;
        for at in &needs.runs {
            set.runs.insert(*at, runs(&table, *at)?);
        }
    }
    kept::read(from, needs, &mut set)?;
    if !needs.lanes.is_empty() {
        let lanes = from.open_table(tables::LANES).map_err(engine_error)?;
        let with_keys = needs.lanes.keys().any(|lane| !lane.key.is_none());
        let keyed = with_keys.then(|| from.open_table(tables::KEYED_LANES)).transpose().map_err(engine_error)?;
        for (lane, max) in &needs.lanes {
            let heads = match keyed.as_ref().filter(|_| !lane.key.is_none()) {
                Some(keyed) => keyed::heads(keyed, *lane, *max)?,
                None => heads(&lanes, *lane, *max)?,
            };
            for at in &heads.jobs {
                rows.put(*at, &mut set)?;
            }
            set.lanes.insert(*lane, heads);
        }
    }
    if needs.due > 0 {
        let due = from.open_table(tables::DUE).map_err(engine_error)?;
        let range = due.range::<&[u8; 20]>(..=&tables::due_until(now)).map_err(engine_error)?;
        for entry in range.take(needs.due as usize) {
            let at = tables::due_of(entry.map_err(engine_error)?.0.value()).at();
            rows.put(at, &mut set)?;
            set.due.push(at);
        }
    }
    if let Some((living, max)) = needs.dead {
        let lists = from.open_table(tables::LISTS).map_err(engine_error)?;
        dead(&lists, &rows, living, max, &mut set)?;
    }
    listening::heard(from, needs.heard, &mut set)?;
    keys(from, needs, &mut set)?;
    uniques(from, needs, &rows, &mut set)?;
    rows.settling(needs.settling as usize, &mut set)?;
    rows.ended_by(needs, &mut set)?;
    schedules::read(from, needs, &rows, &mut set)?;
    tokens::read(from, needs, &mut set)?;
    drop(rows);
    pages(from, needs, &mut set)?;
    scopes(from, needs, &mut set)?;
    if let Some(sweep) = needs.sweep {
        sweep::swept(from, sweep, &mut set)?;
    }
    if needs.orders {
        orders(from, &mut set)?;
    }
    Ok(set)
}

/// The rows, and the tables that say what there is to know of each.
struct Rows<'a> {
    jobs: redb::Table<'a, &'static [u8; 12], &'static [u8]>,
    uniques: redb::Table<'a, &'static [u8; 36], &'static [u8]>,
    /// None: there are none.
    waits: Option<redb::Table<'a, &'static [u8; 21], ()>>,
    spreads: Option<redb::Table<'a, &'static [u8; 12], &'static [u8]>>,
}

impl<'a> Rows<'a> {
    fn open(from: &'a WriteTransaction) -> Result<Self, StoreError> {
        let waits = from.open_table(tables::WAITS).map_err(engine_error)?;
        let spreads = from.open_table(tables::SPREADS).map_err(engine_error)?;
        let (no_waits, no_spreads) =
            (waits.is_empty().map_err(engine_error)?, spreads.is_empty().map_err(engine_error)?);
        Ok(Self {
            jobs: from.open_table(tables::JOBS).map_err(engine_error)?,
            uniques: from.open_table(tables::UNIQUES).map_err(engine_error)?,
            waits: (!no_waits).then_some(waits),
            spreads: (!no_spreads).then_some(spreads),
        })
    }

    /// A row, and what there is to know of it.
    fn put(&self, at: JobRef, set: &mut WorkingSet) -> Result<(), StoreError> {
        if set.jobs.contains_key(&at) {
            return Ok(());
        }
        let Some(job) = job(&self.jobs, at)? else { return Ok(()) };
        self.put_job(at, job, set)
    }

    fn put_job(&self, at: JobRef, job: Job, set: &mut WorkingSet) -> Result<(), StoreError> {
        if let Some(waits) = &self.waits {
            let first = WaitKey { tenant: at.tenant, on: at.job, wait: Wait::Waiting, id: JobId(0) };
            let last = WaitKey { wait: Wait::EndedBy, id: JobId(u64::MAX), ..first };
            let range = waits.range::<&[u8; 21]>(&tables::wait(&first)..=&tables::wait(&last));
            if let Some(entry) = range.map_err(engine_error)?.next() {
                let wait = tables::wait_of(entry.map_err(engine_error)?.0.value()).wait;
                set.waits.insert(at, wait);
                if wait == Wait::Waiting {
                    set.waiters.insert(at, self.dependents(at, Wait::Waiting, None, WAITERS_READ)?);
                }
            }
        }
        if let Some(spreads) = &self.spreads
            && let Some(value) = spreads.get(&tables::job(at)).map_err(engine_error)?
        {
            set.settling.insert(at, spread(at, value.value())?);
        }
        if let Some(hold) = &job.unique {
            let key = KeyRef::of(at.tenant, &hold.key);
            if let Some(record) = self.unique(key)? {
                set.uniques.insert(key, record);
                // Whoever holds it decides what can be done to this one.
                let holder = JobRef { tenant: at.tenant, job: record.job };
                if holder != at {
                    self.put(holder, set)?;
                }
            }
        }
        set.jobs.insert(at, Arc::new(job));
        Ok(())
    }

    fn unique(&self, at: KeyRef) -> Result<Option<UniqueRecord>, StoreError> {
        let key = tables::key(at);
        let Some(value) = self.uniques.get(&key).map_err(engine_error)? else { return Ok(None) };
        codec::decode(value.value()).map(Some).map_err(|error| damaged("uniques", &key, error))
    }

    /// The jobs behind `after` that depend so on `at`, up to `max`; and whether these are all.
    fn dependents(
        &self,
        at: JobRef,
        wait: Wait,
        after: Option<JobId>,
        max: usize,
    ) -> Result<(Vec<JobId>, bool), StoreError> {
        let Some(waits) = &self.waits else { return Ok((Vec::new(), true)) };
        let key = |id| tables::wait(&WaitKey { tenant: at.tenant, on: at.job, wait, id: JobId(id) });
        let mut ids = Vec::new();
        let range = waits.range::<&[u8; 21]>(&key(behind(after))..=&key(u64::MAX));
        for entry in range.map_err(engine_error)? {
            if ids.len() == max {
                return Ok((ids, false));
            }
            ids.push(tables::wait_of(entry.map_err(engine_error)?.0.value()).id);
        }
        Ok((ids, true))
    }

    /// What is being settled, and whom that concerns; where it ends them, those that wait for them too.
    fn settling(&self, max: usize, set: &mut WorkingSet) -> Result<(), StoreError> {
        set.settling_all = true;
        let Some(spreads) = self.spreads.as_ref().filter(|_| max > 0) else { return Ok(()) };
        let mut left = max;
        let mut open: VecDeque<(JobRef, bool)> = VecDeque::new();
        for entry in spreads.iter().map_err(engine_error)? {
            if left == 0 {
                set.settling_all = false;
                return Ok(());
            }
            let (key, value) = entry.map_err(engine_error)?;
            let at = tables::job_of(key.value());
            let spread = spread(at, value.value())?;
            set.settling.insert(at, spread);
            open.push_back((at, spread.deep));
            while let Some((at, deep)) = open.pop_front() {
                if left == 0 || set.waiting.contains_key(&at) {
                    continue;
                }
                let (ids, all) = self.dependents(at, Wait::Waiting, None, left)?;
                left -= ids.len();
                for id in &ids {
                    let dependent = JobRef { tenant: at.tenant, job: *id };
                    self.put(dependent, set)?;
                    if deep {
                        open.push_back((dependent, true));
                    }
                }
                set.waiting.insert(at, (ids, all));
            }
        }
        Ok(())
    }

    fn ended_by(&self, needs: &Needs, set: &mut WorkingSet) -> Result<(), StoreError> {
        for ((at, after), max) in &needs.ended_by {
            let (mut ids, mut all) = self.dependents(*at, Wait::EndedBy, *after, *max as usize)?;
            let mut rows = 0;
            for i in 0..ids.len() {
                if rows >= REVIVED_ROWS_MAX {
                    ids.truncate(i);
                    all = false;
                    break;
                }
                let id = &ids[i];
                let dependent = JobRef { tenant: at.tenant, job: *id };
                self.put(dependent, set)?;
                let edges = set.jobs.get(&dependent).map(|job| job.dependencies.clone()).unwrap_or_default();
                rows += 1 + edges.len();
                for edge in edges {
                    self.put(JobRef { tenant: at.tenant, job: edge.job }, set)?;
                }
            }
            set.ended_by.insert((*at, *after), (ids, all));
        }
        Ok(())
    }
}

fn spread(at: JobRef, value: &[u8]) -> Result<Spread, StoreError> {
    codec::decode(value).map_err(|error| damaged("spreads", &tables::job(at), error))
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
    rows: &Rows<'_>,
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
            let Some(job) = job(&rows.jobs, at)? else { continue };
            let lives = job.lease().is_none_or(|lease| match lease.holder {
                Holder::Node(boot) => boot == living,
                Holder::Worker(_) => true,
            });
            if lives {
                continue;
            }
            rows.put_job(at, job, set)?;
            set.dead.push(at);
            if set.dead.len() == max as usize {
                return Ok(());
            }
        }
        return Ok(());
    }
}

fn keys(from: &WriteTransaction, needs: &Needs, set: &mut WorkingSet) -> Result<(), StoreError> {
    if needs.keys.is_empty() && needs.expired_keys == 0 {
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

/// Who holds the unique keys that were asked for, and the args that were.
fn uniques(from: &WriteTransaction, needs: &Needs, rows: &Rows<'_>, set: &mut WorkingSet) -> Result<(), StoreError> {
    let mut with_args: Vec<JobRef> = needs.args.iter().copied().collect();
    for (key, args) in &needs.uniques {
        let Some(record) = rows.unique(*key)? else { continue };
        set.uniques.insert(*key, record);
        let holder = JobRef { tenant: key.tenant, job: record.job };
        rows.put(holder, set)?;
        with_args.extend(args.then_some(holder));
    }
    if with_args.is_empty() {
        return Ok(());
    }
    let payloads = from.open_table(tables::PAYLOADS).map_err(engine_error)?;
    for at in with_args {
        let args = payloads.get(&tables::payload(at, Part::Args)).map_err(engine_error)?;
        set.args.insert(at, args.map_or_else(Vec::new, |args| args.value().to_vec()));
    }
    Ok(())
}

/// What was set for what was asked for, and its totals.
fn scopes(from: &WriteTransaction, needs: &Needs, set: &mut WorkingSet) -> Result<(), StoreError> {
    if needs.scopes.is_empty() {
        return Ok(());
    }
    let settings = from.open_table(tables::SETTINGS).map_err(engine_error)?;
    let totals = from.open_table(tables::TOTALS).map_err(engine_error)?;
    for scope in &needs.scopes {
        put_scope(&settings, &totals, scope, set)?;
    }
    Ok(())
}

fn put_scope(
    settings: &impl ReadableTable<&'static [u8; 37], &'static [u8]>,
    totals: &impl ReadableTable<&'static [u8; 9], u64>,
    scope: &Scope,
    set: &mut WorkingSet,
) -> Result<(), StoreError> {
    if let Some(found) = setting(settings, scope)? {
        set.settings.insert(scope.clone(), found);
    }
    if let Scope::Tenant(tenant) = scope {
        for of in [Total::Unfinished, Total::Completed, Total::Bytes] {
            put_total(totals, TotalKey { tenant: *tenant, of }, set)?;
        }
    }
    Ok(())
}

fn put_total(
    totals: &impl ReadableTable<&'static [u8; 9], u64>,
    key: TotalKey,
    set: &mut WorkingSet,
) -> Result<(), StoreError> {
    let total = totals.get(&tables::total(key)).map_err(engine_error)?;
    set.totals.extend(total.map(|total| (key, total.value())));
    Ok(())
}

/// The totals of the queues that were asked for and have had jobs, by the numbers of their names.
pub(super) fn queue_totals(
    from: &WriteTransaction,
    needs: &Needs,
    number: impl Fn(&Name) -> Option<u32>,
    set: &mut WorkingSet,
) -> Result<(), StoreError> {
    for scope in &needs.scopes {
        let Scope::Queue(tenant, name) = scope else { continue };
        let name = Name { tenant: *tenant, class: NameClass::Queue, name: name.clone() };
        let Some(queue) = number(&name) else { continue };
        let totals = from.open_table(tables::TOTALS).map_err(engine_error)?;
        put_total(&totals, TotalKey { tenant: *tenant, of: Total::UnfinishedIn(QueueId(queue)) }, set)?;
    }
    Ok(())
}

fn setting(
    settings: &impl ReadableTable<&'static [u8; 37], &'static [u8]>,
    scope: &Scope,
) -> Result<Option<Settings>, StoreError> {
    let key = tables::setting(scope);
    let Some(value) = settings.get(&key).map_err(engine_error)? else { return Ok(None) };
    codec::decode(value.value()).map(Some).map_err(|error| damaged("settings", &key, error))
}

/// The orders of the queues of finished jobs that were read.
fn orders(from: &WriteTransaction, set: &mut WorkingSet) -> Result<(), StoreError> {
    let names = from.open_table(tables::NAMES).map_err(engine_error)?;
    let settings = from.open_table(tables::SETTINGS).map_err(engine_error)?;
    let ended = set.jobs.values().filter(|job| job.state.name().is_final());
    let queues: BTreeSet<QueueId> = ended.map(|job| job.queue).collect();
    for queue in queues {
        let key = queue.0.to_be_bytes();
        let Some(value) = names.get(&key).map_err(engine_error)? else { continue };
        let name: Name = codec::decode(value.value()).map_err(|error| damaged("names", &key, error))?;
        if let Some(Settings::Queue(_, _, found)) = setting(&settings, &Scope::Queue(name.tenant, name.name))? {
            set.orders.insert(queue, found.order);
        }
    }
    Ok(())
}

fn pages(from: &WriteTransaction, needs: &Needs, set: &mut WorkingSet) -> Result<(), StoreError> {
    if needs.pages.is_empty() {
        return Ok(());
    }
    {
        let lists = Lists {
            jobs: from.open_table(tables::JOBS).map_err(engine_error)?,
            lists: from.open_table(tables::LISTS).map_err(engine_error)?,
            tags: from.open_table(tables::TAGS).map_err(engine_error)?,
            counts: from.open_table(tables::COUNTS).map_err(engine_error)?,
        };
        for query in &needs.pages {
            let JobsPage { jobs, next } = lists.page(query)?;
            set.pages.push(Page { jobs: jobs.iter().map(Job::at).collect(), next });
        }
    }
    let rows = Rows::open(from)?;
    for at in set.pages.clone().into_iter().flat_map(|page| page.jobs) {
        rows.put(at, set)?;
    }
    Ok(())
}
