//! Writing: a batch's changes, gathered by table and sorted by key, since the cost of a commit is in the pages it dirties.

use redb::{Key, ReadableTable, TableDefinition, Value, WriteTransaction};

use super::{engine_error, tables};
use crate::codec::{self, Row};
use crate::command::Part;
use crate::engine::{Change, Persisted, count_differences};
use crate::error::StoreError;
use crate::index;
use crate::job::{Job, JobRef, RunNumber, Seq, limits};
use crate::log::LogEntry;

/// What to write to one table: a value to put, or none to remove.
type Ops<const N: usize, V> = Vec<([u8; N], Option<V>)>;

#[derive(Default)]
struct Writes<'a> {
    jobs: Ops<12, &'a [u8]>,
    payloads: Ops<13, &'a [u8]>,
    runs: Ops<16, Vec<u8>>,
    lanes: Ops<31, ()>,
    due: Ops<20, ()>,
    lists: Ops<21, ()>,
    names: Ops<4, Vec<u8>>,
    keys: Ops<36, Vec<u8>>,
    keys_until: Ops<44, ()>,
    log: Vec<&'a LogEntry>,
    next_job: Option<u64>,
    gone: Vec<JobRef>,
}

/// Makes every table, so that readers find them.
pub(super) fn create_tables(into: &WriteTransaction) -> Result<(), StoreError> {
    macro_rules! open {
        ($($table:ident)*) => {$( into.open_table(tables::$table).map_err(engine_error)?; )*};
    }
    open!(JOBS PAYLOADS RUNS LANES DUE LISTS COUNTS NAMES KEYS KEYS_UNTIL LOG META);
    Ok(())
}

pub(super) fn persist(into: &WriteTransaction, changes: &[Change]) -> Result<Persisted, StoreError> {
    let writes = gather(changes);
    let counts = count_differences(changes);
    let last_seq = write_log(into, &writes.log)?;
    if let Some(next) = writes.next_job {
        let mut meta = into.open_table(tables::META).map_err(engine_error)?;
        meta.insert(tables::NEXT_JOB, next).map_err(engine_error)?;
    }
    let gone = writes.gone;
    write(into, tables::JOBS, writes.jobs, |row| row)?;
    write(into, tables::PAYLOADS, writes.payloads, |bytes| bytes)?;
    write(into, tables::RUNS, writes.runs, Vec::as_slice)?;
    write(into, tables::LANES, writes.lanes, |()| ())?;
    write(into, tables::DUE, writes.due, |()| ())?;
    write(into, tables::LISTS, writes.lists, |()| ())?;
    write(into, tables::NAMES, writes.names, Vec::as_slice)?;
    write(into, tables::KEYS, writes.keys, Vec::as_slice)?;
    write(into, tables::KEYS_UNTIL, writes.keys_until, |()| ())?;
    remove_all_of(into, &gone)?;
    write_counts(into, &counts)?;
    let due = into.open_table(tables::DUE).map_err(engine_error)?;
    let next_due = due.first().map_err(engine_error)?.map(|(key, _)| tables::due_of(key.value()).run_at);
    Ok(Persisted { last_seq, counts, next_due })
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
                }
            }
            Change::Name(name, number) => writes.names.push((number.to_be_bytes(), Some(codec::encode(name)))),
            Change::Key(at, record) => {
                writes.keys.push((tables::key(*at), Some(codec::encode(record))));
                writes.keys_until.push((tables::key_until(*at, record.until), Some(())));
            }
            Change::ForgetKey(at, until) => {
                writes.keys.push((tables::key(*at), None));
                writes.keys_until.push((tables::key_until(*at, *until), None));
            }
            Change::NextJob(id) => writes.next_job = Some(id.0),
        }
    }
    writes
}

impl<'a> Writes<'a> {
    /// A row, and the differences between the index entries that it had and those that it has now.
    fn job(&mut self, before: Option<&Job>, after: Option<(&Job, &'a Row)>) {
        let (old, new) = (before.map(index::keys), after.map(|(job, _)| index::keys(job)));
        if let Some((job, row)) = after {
            self.jobs.push((tables::job(job.at()), Some(row.bytes())));
        } else if let Some(job) = before {
            self.jobs.push((tables::job(job.at()), None));
            self.gone.push(job.at());
        }
        let lanes = (old.as_ref().and_then(|k| k.lane), new.as_ref().and_then(|k| k.lane));
        differ(&mut self.lanes, lanes.0.map(|k| tables::lane(&k)), lanes.1.map(|k| tables::lane(&k)));
        let due = (old.as_ref().and_then(|k| k.due), new.as_ref().and_then(|k| k.due));
        differ(&mut self.due, due.0.map(|k| tables::due(&k)), due.1.map(|k| tables::due(&k)));
        let (old, new) = (old.map(|k| tables::list(&k.list)), new.map(|k| tables::list(&k.list)));
        differ(&mut self.lists, old, new);
    }
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

/// Removes the payloads and run records of jobs that are gone.
fn remove_all_of(into: &WriteTransaction, gone: &[JobRef]) -> Result<(), StoreError> {
    if gone.is_empty() {
        return Ok(());
    }
    let mut payloads = into.open_table(tables::PAYLOADS).map_err(engine_error)?;
    let mut runs = into.open_table(tables::RUNS).map_err(engine_error)?;
    for at in gone {
        for part in Part::ALL {
            payloads.remove(&tables::payload(*at, part)).map_err(engine_error)?;
        }
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

fn write_log(into: &WriteTransaction, entries: &[&LogEntry]) -> Result<Seq, StoreError> {
    let mut meta = into.open_table(tables::META).map_err(engine_error)?;
    let next = meta.get(tables::NEXT_SEQ).map_err(engine_error)?.map_or(1, |n| n.value());
    if entries.is_empty() {
        return Ok(Seq(next - 1));
    }
    let mut log = into.open_table(tables::LOG).map_err(engine_error)?;
    let mut seq = next;
    for entry in entries {
        log.insert(&seq.to_be_bytes(), entry.encoded_at(Seq(seq)).as_slice()).map_err(engine_error)?;
        seq += 1;
    }
    meta.insert(tables::NEXT_SEQ, seq).map_err(engine_error)?;
    Ok(Seq(seq - 1))
}

fn write_counts(into: &WriteTransaction, differences: &[(crate::command::CountKey, i64)]) -> Result<(), StoreError> {
    if differences.is_empty() {
        return Ok(());
    }
    let mut counts = into.open_table(tables::COUNTS).map_err(engine_error)?;
    for (key, difference) in differences {
        let bytes = tables::count(key);
        let old = counts.get(&bytes).map_err(engine_error)?.map_or(0, |n| n.value());
        let new = old.checked_add_signed(*difference).ok_or_else(|| {
            StoreError::Contradiction(format!("the count of {key:?} is {old} and would fall below zero"))
        })?;
        if new == 0 {
            counts.remove(&bytes).map_err(engine_error)?;
        } else {
            counts.insert(&bytes, new).map_err(engine_error)?;
        }
    }
    Ok(())
}
