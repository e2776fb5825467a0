//! Compares everything in the file with everything else, in bounded memory but for one small entry a job.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use redb::{ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::{Redb, damaged, engine_error, guarded, meta, read::View, tables};
use crate::check::Report;
use crate::codec::{self, Fold};
use crate::command::CountKey;
use crate::engine::{Dump, KeyRecord};
use crate::error::StoreError;
use crate::index;
use crate::job::{Job, JobRef, Seq};
use crate::log::LogEntry;

/// Where the log has left a job.
struct Trail {
    digest: u64,
    fold: Option<Fold>,
}

impl Redb {
    /// Verifies the checksum of every page that is in use, which nothing else does while the file is open, and which
    /// alone sees damage within args and outputs. Needs the file for itself: no reader, no batch. True: all are as they
    /// were written; false: what redb keeps for itself was not, and was made anew.
    ///
    /// # Errors
    /// A page is damaged, or could not be read, or somebody else uses the file.
    pub fn verify_pages(&mut self) -> Result<bool, StoreError> {
        let db = Arc::get_mut(&mut self.db);
        let db =
            db.ok_or_else(|| StoreError::Engine("the pages cannot be verified while the store is read".to_owned()))?;
        guarded(|| db.check_integrity().map_err(engine_error))
    }

    /// Checks the whole store on a snapshot: everything but the bytes of payloads against everything else.
    ///
    /// # Errors
    /// The file could not be read at all; whatever can be read and is wrong is a finding instead.
    pub fn check(&self) -> Result<Report, StoreError> {
        guarded(|| self.compare())
    }

    fn compare(&self) -> Result<Report, StoreError> {
        let view = View(self.db.begin_read().map_err(engine_error)?);
        let mut report = Report::default();
        let (mut trails, trimmed) = follow_log(&view, &mut report)?;
        check_jobs(&view, &mut trails, trimmed, &mut report)?;
        check_parts(&view, &mut report)?;
        check_keys(&view, &mut report)?;
        for at in trails.keys() {
            report.find(|| format!("job {}: the log says that it is there, and it is not", at.job));
        }
        Ok(report)
    }

    /// Everything that is kept.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn dump(&self) -> Result<Dump, StoreError> {
        guarded(|| self.copy())
    }

    fn copy(&self) -> Result<Dump, StoreError> {
        let view = View(self.db.begin_read().map_err(engine_error)?);
        let mut dump = Dump { counts: view.counts()?, names: view.names()?, ..Dump::default() };
        let db = &view.0;
        each(db.open_table(tables::JOBS), |key, row| {
            dump.jobs.push(codec::job(row).map_err(|e| damaged("jobs", key, e))?);
            Ok(())
        })?;
        each(db.open_table(tables::RUNS), |key, value| {
            dump.runs.push((tables::run_of(key).0, codec::decode(value).map_err(|e| damaged("runs", key, e))?));
            Ok(())
        })?;
        each(db.open_table(tables::PAYLOADS), |key, value| {
            if let (at, Some(part)) = tables::payload_of(key) {
                dump.payloads.push((at, part, value.to_vec()));
            }
            Ok(())
        })?;
        each(db.open_table(tables::LANES), |key, ()| {
            dump.lanes.push(tables::lane_of(key));
            Ok(())
        })?;
        each(db.open_table(tables::DUE), |key, ()| {
            dump.due.push(tables::due_of(key));
            Ok(())
        })?;
        each(db.open_table(tables::LISTS), |key, ()| {
            dump.lists.push(tables::list_of(key));
            Ok(())
        })?;
        each(db.open_table(tables::KEYS), |key, value| {
            dump.keys.push((tables::key_of(key), codec::decode(value).map_err(|e| damaged("keys", key, e))?));
            Ok(())
        })?;
        each(db.open_table(tables::LOG), |key, value| {
            dump.log.push(codec::decode(value).map_err(|e| damaged("log", key, e))?);
            Ok(())
        })?;
        dump.next_job = crate::job::JobId(number(&view, tables::NEXT_JOB)?);
        Ok(dump)
    }
}

/// Calls `see` with every entry of a table.
fn each<const N: usize, V: redb::Value + 'static>(
    table: Result<ReadOnlyTable<&'static [u8; N], V>, redb::TableError>,
    mut see: impl for<'a> FnMut(&'a [u8; N], V::SelfType<'a>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for entry in table.map_err(engine_error)?.iter().map_err(engine_error)? {
        let (key, value) = entry.map_err(engine_error)?;
        see(key.value(), value.value())?;
    }
    Ok(())
}

/// Follows every job through the log: each event begins where the one before ended, and what it changed leads to what
/// it says. Also answers whether the beginning of the log was trimmed.
fn follow_log(view: &View, report: &mut Report) -> Result<(HashMap<JobRef, Trail>, bool), StoreError> {
    let mut trails: HashMap<JobRef, Trail> = HashMap::new();
    let (mut first, mut last): (Option<Seq>, Option<Seq>) = (None, None);
    each(view.0.open_table(tables::LOG), |key, value| {
        report.events += 1;
        let entry: LogEntry = match codec::decode(value) {
            Ok(entry) => entry,
            Err(error) => {
                report.find(|| damaged("log", key, error).to_string());
                return Ok(());
            }
        };
        let seq = Seq(u64::from_be_bytes(*key));
        report.ensure(entry.seq == seq, || format!("event {seq}: says that it is {}", entry.seq));
        let follows = last.is_none_or(|last| last.0 + 1 == seq.0) || meta::begins_epoch(seq);
        report.ensure(follows, || format!("event {seq}: the one before is missing"));
        first = first.or(Some(seq));
        last = Some(seq);
        follow(&mut trails, &entry, report);
        Ok(())
    })?;
    let next = number(view, tables::NEXT_SEQ)?;
    // A log that was trimmed to nothing still knows its next number.
    let ends_well = last.is_none_or(|last| last.0 + 1 == next) || meta::begins_epoch(Seq(next));
    report.ensure(ends_well, || format!("the log should end before event {next}, and ends with {last:?}"));
    Ok((trails, first.map_or(next, |first| first.0) > 1))
}

/// A single number of the store.
fn number(view: &View, name: &str) -> Result<u64, StoreError> {
    let meta = view.0.open_table(tables::META).map_err(engine_error)?;
    Ok(meta.get(name).map_err(engine_error)?.map_or(1, |n| n.value()))
}

fn follow(trails: &mut HashMap<JobRef, Trail>, entry: &LogEntry, report: &mut Report) {
    let (seq, job) = (entry.seq, entry.job.job);
    let trail = trails.remove(&entry.job);
    let from = trail.as_ref().map_or(if entry.before == 0 { 0 } else { entry.before }, |trail| trail.digest);
    report.ensure(from == entry.before, || format!("event {seq}: does not begin where job {job} was"));
    if entry.after == 0 {
        return;
    }
    let mut fold = match trail {
        Some(trail) => trail.fold,
        None => (entry.before == 0).then(Fold::default),
    };
    if let Some(folded) = &mut fold {
        let whole = folded.apply(&entry.delta);
        let digest = xxhash_rust::xxh3::xxh3_64(&folded.bytes());
        report.ensure(whole && digest == entry.after, || {
            format!("event {seq}: what it changed does not lead to what it says job {job} became")
        });
    }
    trails.insert(entry.job, Trail { digest: entry.after, fold });
}

/// Every row decodes, is where the log left it, has its index entries, and is counted; and there are no others.
fn check_jobs(
    view: &View,
    trails: &mut HashMap<JobRef, Trail>,
    trimmed: bool,
    report: &mut Report,
) -> Result<(), StoreError> {
    let next_job = number(view, tables::NEXT_JOB)?;
    let numbers: HashSet<u32> = view.names()?.into_iter().map(|(_, number)| number).collect();
    let lanes = view.0.open_table(tables::LANES).map_err(engine_error)?;
    let due = view.0.open_table(tables::DUE).map_err(engine_error)?;
    let lists = view.0.open_table(tables::LISTS).map_err(engine_error)?;
    let (mut in_lanes, mut in_due, mut in_lists) = (0, 0, 0);
    let mut counts: BTreeMap<CountKey, u64> = BTreeMap::new();
    each(view.0.open_table(tables::JOBS), |key, row| {
        report.jobs += 1;
        let at = tables::job_of(key);
        let trail = trails.remove(&at);
        let job: Job = match codec::job(row) {
            Ok(job) => job,
            Err(error) => {
                report.find(|| damaged("jobs", key, error).to_string());
                return Ok(());
            }
        };
        report.ensure(job.at() == at, || format!("job {}: its row says that it is {}", at.job, job.id));
        if let Some(trail) = trail {
            // Of the bytes as they are, not of what they decode to: nothing may hide behind a row.
            let digest = xxhash_rust::xxh3::xxh3_64(row);
            report.ensure(trail.digest == digest, || format!("job {}: its row is not what the log left", at.job));
            report.folded += u64::from(trail.fold.is_some_and(|fold| fold.bytes() == row));
        } else {
            report.ensure(trimmed, || format!("job {}: nothing in the log leads to it", at.job));
        }
        report.ensure(job.id.0 < next_job, || format!("job {}: its id has yet to be given out", at.job));
        let named = numbers.contains(&job.queue.0) && numbers.contains(&job.kind.0);
        report.ensure(named, || format!("job {}: its queue or its kind has no name", at.job));
        let keys = index::keys(&job);
        *counts.entry(index::count(&job)).or_default() += 1;
        let listed = lists.get(&tables::list(&keys.list)).map_err(engine_error)?.is_some();
        report.ensure(listed, || format!("job {}: is missing in the lists", at.job));
        in_lists += u64::from(listed);
        if let Some(key) = keys.lane {
            let there = lanes.get(&tables::lane(&key)).map_err(engine_error)?.is_some();
            report.ensure(there, || format!("job {}: is available and missing in its lane", at.job));
            in_lanes += u64::from(there);
        }
        if let Some(key) = keys.due {
            let there = due.get(&tables::due(&key)).map_err(engine_error)?.is_some();
            report.ensure(there, || format!("job {}: waits for a time and is missing in the due index", at.job));
            in_due += u64::from(there);
        }
        Ok(())
    })?;
    for (table, is, should_be) in [
        ("lanes", lanes.len().map_err(engine_error)?, in_lanes),
        ("due", due.len().map_err(engine_error)?, in_due),
        ("lists", lists.len().map_err(engine_error)?, in_lists),
    ] {
        report.ensure(is == should_be, || format!("table {table}: has {is} entries, the rows have {should_be}"));
    }
    let kept: BTreeMap<CountKey, u64> = view.counts()?.into_iter().collect();
    report.ensure(kept == counts, || "the counts are not the numbers of the rows".to_owned());
    Ok(())
}

/// Every payload and run record belongs to a row.
fn check_parts(view: &View, report: &mut Report) -> Result<(), StoreError> {
    let jobs = view.0.open_table(tables::JOBS).map_err(engine_error)?;
    each(view.0.open_table(tables::PAYLOADS), |key, _| {
        let (at, part) = tables::payload_of(key);
        let there = jobs.get(&tables::job(at)).map_err(engine_error)?.is_some();
        report.ensure(there && part.is_some(), || format!("a payload of job {}, which is not there", at.job));
        Ok(())
    })?;
    each(view.0.open_table(tables::RUNS), |key, value| {
        let (at, run) = tables::run_of(key);
        let there = jobs.get(&tables::job(at)).map_err(engine_error)?.is_some();
        report.ensure(there, || format!("a record of run {run} of job {}, which is not there", at.job));
        if let Err(error) = codec::decode::<crate::command::RunRecord>(value) {
            report.find(|| damaged("runs", key, error).to_string());
        }
        Ok(())
    })
}

/// Every remembered call will be forgotten in its time, and nothing else will.
fn check_keys(view: &View, report: &mut Report) -> Result<(), StoreError> {
    let until = view.0.open_table(tables::KEYS_UNTIL).map_err(engine_error)?;
    let mut there = 0;
    each(view.0.open_table(tables::KEYS), |key, value| {
        let record: KeyRecord = match codec::decode(value) {
            Ok(record) => record,
            Err(error) => {
                report.find(|| damaged("keys", key, error).to_string());
                return Ok(());
            }
        };
        let entry = tables::key_until(tables::key_of(key), record.until);
        let found = until.get(&entry).map_err(engine_error)?.is_some();
        report.ensure(found, || format!("a remembered call until {} would never be forgotten", record.until.0));
        there += u64::from(found);
        Ok(())
    })?;
    let entries = until.len().map_err(engine_error)?;
    report.ensure(entries == there, || format!("table keys_until: has {entries} entries, the calls have {there}"));
    Ok(())
}
