//! Writing: a batch's changes, gathered by table and sorted by key, since the cost of a commit is in the pages it dirties.

mod kept;
mod keyed;
mod schedules;

use std::collections::BTreeMap;

use redb::{Key, ReadableTable, TableDefinition, TableHandle, Value, WriteTransaction};

use super::{engine_error, listening, meta, tables};
use crate::codec::{self, Row};
use crate::command::{Part, Total, TotalKey};
use crate::engine::{Change, EVENT_BYTES_BESIDE, Persisted, count_differences, total_differences};
use crate::error::StoreError;
use crate::index::{self, Keys};
use crate::job::{Job, JobRef, RunNumber, Seq, TenantId, limits};
use crate::log::LogEntry;

/// What to write to one table: a value to put, or none to remove.
type Ops<const N: usize, V> = Vec<([u8; N], Option<V>)>;

#[derive(Default)]
struct Writes<'a> {
    jobs: Ops<12, &'a [u8]>,
    payloads: Ops<13, &'a [u8]>,
    runs: Ops<16, Vec<u8>>,
    run_logs: Ops<16, &'a [u8]>,
    kv: Vec<(Vec<u8>, Option<&'a [u8]>)>,
    lanes: Ops<31, ()>,
    keyed_lanes: Ops<40, ()>,
    begun: Ops<24, ()>,
    due: Ops<20, ()>,
    lists: Ops<21, ()>,
    names: Ops<4, Vec<u8>>,
    keys: Ops<36, Vec<u8>>,
    keys_until: Ops<44, ()>,
    expiry: Ops<20, ()>,
    ended: Ops<21, ()>,
    waits: Ops<21, ()>,
    tags: Ops<20, ()>,
    scheduled: Ops<20, ()>,
    schedules: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    schedules_from: Option<u64>,
    tokens: Ops<32, Vec<u8>>,
    uniques: Ops<36, Vec<u8>>,
    uniques_until: Ops<44, ()>,
    spreads: Ops<12, Vec<u8>>,
    listening: listening::Writes<'a>,
    settings: Ops<37, Vec<u8>>,
    log: Vec<&'a LogEntry>,
    trim_log: Option<Seq>,
    paused: Option<bool>,
    next_job: Option<u64>,
    next_name: Option<u32>,
    gone: Vec<JobRef>,
}

/// Makes every table, so that readers find them.
pub(super) fn create_tables(into: &WriteTransaction) -> Result<(), StoreError> {
    macro_rules! open {
        ($($table:ident)*) => {$( into.open_table(tables::$table).map_err(engine_error)?; )*};
    }
    tables::for_each_table!(open);
    Ok(())
}

pub(super) fn persist(into: &WriteTransaction, changes: &[Change]) -> Result<Persisted, StoreError> {
    let writes = gather(changes);
    let counts = count_differences(changes);
    let last_seq = write_log(into, &writes.log, writes.trim_log)?;
    let paused = write_numbers(into, &writes)?;
    let gone = writes.gone;
    write(into, tables::JOBS, writes.jobs, |row| row)?;
    let bytes = write_payloads(into, writes.payloads, &gone)?;
    write(into, tables::RUNS, writes.runs, Vec::as_slice)?;
    remove_runs_of(into, &gone)?;
    let logs = kept::write_run_logs(into, writes.run_logs, &gone)?;
    let kv = kept::write_kv(into, writes.kv)?;
    write(into, tables::LANES, writes.lanes, |()| ())?;
    write(into, tables::KEYED_LANES, writes.keyed_lanes, |()| ())?;
    write(into, tables::BEGUN, writes.begun, |()| ())?;
    let keys = keyed::changes(into, changes)?;
    write(into, tables::DUE, writes.due, |()| ())?;
    write(into, tables::EXPIRY, writes.expiry, |()| ())?;
    write(into, tables::LISTS, writes.lists, |()| ())?;
    write(into, tables::ENDED, writes.ended, |()| ())?;
    write(into, tables::WAITS, writes.waits, |()| ())?;
    write(into, tables::TAGS, writes.tags, |()| ())?;
    write(into, tables::SCHEDULED, writes.scheduled, |()| ())?;
    let schedules = schedules::write(into, writes.schedules)?;
    write(into, tables::NAMES, writes.names, Vec::as_slice)?;
    write(into, tables::KEYS, writes.keys, Vec::as_slice)?;
    write(into, tables::KEYS_UNTIL, writes.keys_until, |()| ())?;
    write(into, tables::UNIQUES, writes.uniques, Vec::as_slice)?;
    write(into, tables::UNIQUES_UNTIL, writes.uniques_until, |()| ())?;
    write(into, tables::SPREADS, writes.spreads, Vec::as_slice)?;
    listening::write(into, &writes.listening)?;
    write(into, tables::SETTINGS, writes.settings, Vec::as_slice)?;
    write(into, tables::TOKENS, writes.tokens, Vec::as_slice)?;
    add(into, tables::COUNTS, counts.iter().map(|(key, n)| (tables::count(key), *n)))?;
    let totals = total_differences(&counts).into_iter().chain(bytes).chain(logs).chain(kv).chain(schedules);
    add(into, tables::TOTALS, totals.map(|(key, n)| (tables::total(key), n)))?;
    let due = into.open_table(tables::DUE).map_err(engine_error)?;
    let next_due = due.first().map_err(engine_error)?.map(|(key, _)| tables::due_of(key.value()).run_at);
    Ok(Persisted { last_seq, counts, keys, next_due, paused })
}

fn gather(changes: &[Change]) -> Writes<'_> {
    let mut writes = Writes::default();
    for change in changes {
        match change {
            Change::Job { before, after, row } => {
                writes.job(before.as_deref(), after.as_deref().zip(row.as_deref()));
            }
            Change::Event(entry) => writes.log.push(entry),
            Change::Payload(at, part, bytes) => writes.payloads.push((tables::payload(*at, *part), bytes.as_deref())),
            Change::Run(at, record) => {
                writes.runs.push((tables::run(*at, record.run), Some(codec::encode(record))));
                if let Some(old) = record.run.0.checked_sub(limits::RUNS_KEPT)
                    && old > 0
                {
                    writes.runs.push((tables::run(*at, RunNumber(old)), None));
                    writes.run_logs.push((tables::run(*at, RunNumber(old)), None));
                }
            }
            Change::RunLog(run, log) => writes.run_logs.push((tables::run(run.at, run.run), log.as_deref())),
            Change::Kv(key, value) => writes.kv.push((tables::kv(key.space, &key.key), value.as_deref())),
            Change::Name(name, number) => {
                writes.names.push((number.to_be_bytes(), Some(codec::encode(name))));
                writes.next_name = writes.next_name.max(Some(number + 1));
            }
            Change::Key(at, record) => {
                writes.keys.push((tables::key(*at), Some(codec::encode(record))));
                writes.keys_until.push((tables::key_until(*at, record.until), Some(())));
            }
            Change::ForgetKey(at, until) => {
                writes.keys.push((tables::key(*at), None));
                writes.keys_until.push((tables::key_until(*at, *until), None));
            }
            Change::Unique(at, record) => {
                writes.uniques.push((tables::key(*at), record.as_ref().map(codec::encode)));
                if let Some(until) = record.and_then(|record| record.until) {
                    writes.uniques_until.push((tables::key_until(*at, until), Some(())));
                }
            }
            Change::UniqueUntil(at, until) => writes.uniques_until.push((tables::key_until(*at, *until), None)),
            Change::Spread(at, spread) => writes.spreads.push((tables::job(*at), spread.as_ref().map(codec::encode))),
            Change::Hear(heard) => writes.listening.new.push(heard),
            Change::Heard(number, heard) => writes.listening.rest.push((*number, heard.as_deref())),
            Change::Subscriptions(tenant, all) => writes.listening.subscriptions.push((*tenant, all)),
            Change::Settings(settings) => {
                writes.settings.push((tables::setting(&settings.scope()), Some(codec::encode(settings))));
            }
            Change::Schedule(at, schedule) => {
                writes.schedules.push((tables::schedule(at), schedule.as_deref().map(codec::encode)));
            }
            Change::SchedulesFrom(from) => writes.schedules_from = Some(from.0),
            Change::Token(hash, token) => writes.tokens.push((hash.0, token.as_deref().map(codec::encode))),
            Change::Paused(paused) => writes.paused = Some(*paused),
            Change::TrimLog(before) => writes.trim_log = Some(*before),
            Change::NextJob(id) => writes.next_job = Some(id.0),
        }
    }
    writes
}

impl<'a> Writes<'a> {
    /// A row, and the differences between the index entries that it had and those that it has now.
    fn job(&mut self, before: Option<&Job>, after: Option<(&Job, &'a Row)>) {
        if let Some((job, row)) = after {
            self.jobs.push((tables::job(job.at()), Some(row.bytes())));
        } else if let Some(job) = before {
            self.jobs.push((tables::job(job.at()), None));
            self.gone.push(job.at());
        }
        let (old, new) = (before.map(index::keys), after.map(|(job, _)| index::keys(job)));
        let (old, new) = (old.as_ref(), new.as_ref());
        let unkeyed = |keys: &Keys| keys.lane.as_ref().filter(|key| key.lane.key.is_none()).map(tables::lane);
        differ(&mut self.lanes, old.and_then(unkeyed), new.and_then(unkeyed));
        let keyed = |keys: &Keys| keys.lane.as_ref().filter(|key| !key.lane.key.is_none()).map(tables::keyed_lane);
        differ(&mut self.keyed_lanes, old.and_then(keyed), new.and_then(keyed));
        let begun = |keys: &Keys| keys.begun.as_ref().map(tables::begun);
        differ(&mut self.begun, old.and_then(begun), new.and_then(begun));
        let due = |keys: &Keys| keys.due.as_ref().map(tables::due);
        differ(&mut self.due, old.and_then(due), new.and_then(due));
        let expiry = |keys: &Keys| keys.expiry.as_ref().map(tables::expiry);
        differ(&mut self.expiry, old.and_then(expiry), new.and_then(expiry));
        let ended = |keys: &Keys| keys.ended.as_ref().map(tables::ended);
        differ(&mut self.ended, old.and_then(ended), new.and_then(ended));
        let list = |keys: &Keys| tables::list(&keys.list);
        differ(&mut self.lists, old.map(list), new.map(list));
        let scheduled = |keys: &Keys| keys.scheduled.as_ref().map(tables::scheduled);
        differ(&mut self.scheduled, old.and_then(scheduled), new.and_then(scheduled));
        let waits =
            |keys: Option<&Keys>| keys.map_or_else(Vec::new, |keys| keys.waits.iter().map(tables::wait).collect());
        differ_all(&mut self.waits, waits(old), waits(new));
        let tags = |keys: Option<&Keys>| keys.map_or_else(Vec::new, |keys| keys.tags.iter().map(tables::tag).collect());
        differ_all(&mut self.tags, tags(old), tags(new));
    }
}

/// The same where there may be several entries.
fn differ_all<const N: usize>(ops: &mut Ops<N, ()>, old: Vec<[u8; N]>, new: Vec<[u8; N]>) {
    if old == new {
        return;
    }
    // What goes comes first, so that what is in both stays.
    ops.extend(old.into_iter().map(|key| (key, None)));
    ops.extend(new.into_iter().map(|key| (key, Some(()))));
}

fn differ<const N: usize>(ops: &mut Ops<N, ()>, old: Option<[u8; N]>, new: Option<[u8; N]>) {
    if old == new {
        return;
    }
    ops.extend(old.map(|key| (key, None)));
    ops.extend(new.map(|key| (key, Some(()))));
}

/// Applies `ops` in key order. Of several for one key the last counts.
fn write<const N: usize, T, V>(
    into: &WriteTransaction,
    table: TableDefinition<'static, &'static [u8; N], V>,
    mut ops: Ops<N, T>,
    value: impl for<'a> Fn(&'a T) -> V::SelfType<'a>,
) -> Result<(), StoreError>
where
    V: Value + 'static,
    &'static [u8; N]: for<'a> Key<SelfType<'a> = &'a [u8; N]>,
{
    if ops.is_empty() {
        return Ok(());
    }
    // Stable: what came later in the batch stays later.
    ops.sort_by_key(|(key, _)| *key);
    let mut table = into.open_table(table).map_err(engine_error)?;
    for (i, (key, op)) in ops.iter().enumerate() {
        if ops.get(i + 1).is_some_and(|(next, _)| next == key) {
            continue;
        }
        match op {
            Some(put) => drop(table.insert(key, value(put)).map_err(engine_error)?),
            None => drop(table.remove(key).map_err(engine_error)?),
        }
    }
    Ok(())
}

/// Payloads, and those of jobs that are gone; answers how the bytes of tenants differ.
fn write_payloads(
    into: &WriteTransaction,
    mut ops: Ops<13, &[u8]>,
    gone: &[JobRef],
) -> Result<Vec<(TotalKey, i64)>, StoreError> {
    let mut differences: BTreeMap<TenantId, i64> = BTreeMap::new();
    for at in gone {
        let parts = if cfg!(planted = "payload_left_behind") { &Part::ALL[..1] } else { &Part::ALL[..] };
        ops.extend(parts.iter().map(|part| (tables::payload(*at, *part), None)));
    }
    if ops.is_empty() {
        return Ok(Vec::new());
    }
    ops.sort_by_key(|(key, _)| *key);
    let mut payloads = into.open_table(tables::PAYLOADS).map_err(engine_error)?;
    for (i, (key, bytes)) in ops.iter().enumerate() {
        if ops.get(i + 1).is_some_and(|(next, _)| next == key) {
            continue;
        }
        let old = match bytes {
            Some(bytes) => payloads.insert(key, *bytes).map_err(engine_error)?.map(|old| old.value().len()),
            None => payloads.remove(key).map_err(engine_error)?.map(|old| old.value().len()),
        };
        let difference = bytes.map_or(0, <[u8]>::len) as i64 - old.unwrap_or_default() as i64;
        *differences.entry(tables::payload_of(key).0.tenant).or_default() += difference;
    }
    Ok(totals_of(differences, Total::Bytes))
}

/// What differs, by tenant, as differences of a total.
fn totals_of(differences: BTreeMap<TenantId, i64>, of: Total) -> Vec<(TotalKey, i64)> {
    let total = |(tenant, n)| (TotalKey { tenant, of }, n);
    differences.into_iter().map(total).filter(|(_, n)| *n != 0).collect()
}

/// Removes the run records of jobs that are gone.
fn remove_runs_of(into: &WriteTransaction, gone: &[JobRef]) -> Result<(), StoreError> {
    if gone.is_empty() {
        return Ok(());
    }
    let mut runs = into.open_table(tables::RUNS).map_err(engine_error)?;
    for at in gone {
        let (first, last) = (tables::run(*at, RunNumber(0)), tables::run(*at, RunNumber(u32::MAX)));
        let of_job = runs.range::<&[u8; 16]>(&first..=&last).map_err(engine_error)?;
        let keys: Vec<[u8; 16]> =
            of_job.map(|entry| entry.map(|(key, _)| *key.value()).map_err(engine_error)).collect::<Result<_, _>>()?;
        for key in keys {
            runs.remove(&key).map_err(engine_error)?;
        }
    }
    Ok(())
}

/// Single numbers. Answers whether claims wait for an operator.
fn write_numbers(into: &WriteTransaction, writes: &Writes<'_>) -> Result<bool, StoreError> {
    let mut numbers = into.open_table(tables::META).map_err(engine_error)?;
    let new = [
        (tables::NEXT_JOB, writes.next_job),
        (tables::NEXT_NAME, writes.next_name.map(u64::from)),
        (meta::PAUSED, writes.paused.map(u64::from)),
        (tables::SCHEDULES_FROM, writes.schedules_from),
    ];
    for (name, number) in new {
        if let Some(number) = number {
            numbers.insert(name, number).map_err(engine_error)?;
        }
    }
    Ok(numbers.get(meta::PAUSED).map_err(engine_error)?.is_some_and(|n| n.value() != 0))
}

/// Appends to the log, after it was trimmed. Answers its last number.
fn write_log(into: &WriteTransaction, entries: &[&LogEntry], trim: Option<Seq>) -> Result<Seq, StoreError> {
    let mut numbers = into.open_table(tables::META).map_err(engine_error)?;
    let next = numbers.get(tables::NEXT_SEQ).map_err(engine_error)?.map_or(1, |n| n.value());
    if entries.is_empty() && trim.is_none() {
        return Ok(Seq(next - 1));
    }
    let mut bytes = numbers.get(tables::LOG_BYTES).map_err(engine_error)?.map_or(0, |n| n.value());
    let mut log = into.open_table(tables::LOG).map_err(engine_error)?;
    if let Some(before) = trim {
        let range = log.range::<&[u8; 8]>(..&before.0.to_be_bytes()).map_err(engine_error)?;
        let old: Vec<[u8; 8]> =
            range.map(|entry| entry.map(|(key, _)| *key.value()).map_err(engine_error)).collect::<Result<_, _>>()?;
        for key in old {
            let size = log.remove(&key).map_err(engine_error)?.map_or(0, |value| value.value().len());
            bytes = bytes.saturating_sub((size + EVENT_BYTES_BESIDE) as u64);
        }
    }
    let mut seq = next;
    for entry in entries {
        let record = entry.encoded_at(Seq(seq));
        bytes += (record.len() + EVENT_BYTES_BESIDE) as u64;
        log.insert(&seq.to_be_bytes(), record.as_slice()).map_err(engine_error)?;
        seq += 1;
    }
    numbers.insert(tables::LOG_BYTES, bytes).map_err(engine_error)?;
    numbers.insert(tables::NEXT_SEQ, seq).map_err(engine_error)?;
    Ok(Seq(seq - 1))
}

/// Adds differences to numbers; what comes to zero goes.
fn add<const N: usize>(
    into: &WriteTransaction,
    table: TableDefinition<'static, &'static [u8; N], u64>,
    differences: impl Iterator<Item = ([u8; N], i64)>,
) -> Result<(), StoreError>
where
    &'static [u8; N]: for<'a> Key<SelfType<'a> = &'a [u8; N]>,
{
    let mut differences = differences.peekable();
    if differences.peek().is_none() {
        return Ok(());
    }
    let name = table.name().to_owned();
    let mut numbers = into.open_table(table).map_err(engine_error)?;
    for (key, difference) in differences {
        let old = numbers.get(&key).map_err(engine_error)?.map_or(0, |n| n.value());
        let new = old
            .checked_add_signed(difference)
            .ok_or_else(|| StoreError::Contradiction(format!("{name}: {key:?} is {old} and would fall below zero")))?;
        if new == 0 {
            numbers.remove(&key).map_err(engine_error)?;
        } else {
            numbers.insert(&key, new).map_err(engine_error)?;
        }
    }
    Ok(())
}
