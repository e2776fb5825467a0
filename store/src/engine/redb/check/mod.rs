//! Compares everything in the file with everything else, in bounded memory: where the log has left a job is kept for
//! [`TRAILS_MAX`] jobs at once, and where there are more, the log is followed once for each part of them.

mod entries;
mod kept;
mod part;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;

use redb::{Key, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use self::entries::Entries;
use self::part::Part;
use super::copy::Live;
use super::{Redb, damaged, engine_error, guarded, meta, read::View, tables};
use crate::check::Report;
use crate::codec::{self, Fold};
use crate::command::{CountKey, Settings, Subscription, Total, TotalKey};
use crate::engine::{EVENT_BYTES_BESIDE, KeyRecord, KeyRef, Spread, UniqueRecord, total_differences};
use crate::error::StoreError;
use crate::index;
use crate::job::{Job, JobRef, Seq};
use crate::listening::Heard;
use crate::log::LogEntry;
use crate::token::Token;

/// Jobs that are followed through the log at once: at about 400 bytes each, 100 MB.
const TRAILS_MAX: usize = 256 * 1024;
/// After so many entries it is asked whether to go on.
const ENTRIES_BETWEEN: u64 = 1_024;

/// A view of everything, and whether anybody still wants to know.
pub(super) struct Look<'a> {
    view: View,
    go_on: &'a dyn Fn() -> bool,
    entries: Cell<u64>,
}

impl Deref for Look<'_> {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl<'a> Look<'a> {
    pub(super) fn new(view: View, go_on: &'a dyn Fn() -> bool) -> Self {
        Self { view, go_on, entries: Cell::new(0) }
    }

    fn count(&self) -> Result<(), StoreError> {
        let entries = self.entries.get() + 1;
        self.entries.set(entries);
        if entries.is_multiple_of(ENTRIES_BETWEEN) && !(self.go_on)() {
            return Err(StoreError::Stopped("checking the store"));
        }
        Ok(())
    }
}

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
        let verified = guarded(|| db.check_integrity().map_err(engine_error));
        self.spared(verified)
    }

    /// Checks the whole store on a snapshot: everything but the bytes of payloads against everything else.
    ///
    /// # Errors
    /// The file could not be read at all; whatever can be read and is wrong is a finding instead.
    pub fn check(&self) -> Result<Report, StoreError> {
        self.live().check(&|| true)
    }
}

impl Live {
    /// Checks the whole store on a snapshot while it is in use, as [`Redb::check`] does. Old pages are kept for as long as
    /// this takes. Asks now and then whether to `go_on`.
    ///
    /// # Errors
    /// The file could not be read at all, or it was told to stop.
    pub fn check(&self, go_on: &dyn Fn() -> bool) -> Result<Report, StoreError> {
        let checked = guarded(|| {
            let view = View(self.0.begin_read().map_err(engine_error)?);
            compare(&Look::new(view, go_on), TRAILS_MAX)
        });
        if matches!(checked, Err(StoreError::Panicked(_))) {
            // As after every panic of redb: what it holds is not closed, which might panic again.
            std::mem::forget(Arc::clone(&self.0));
        }
        checked
    }
}

fn compare(view: &Look<'_>, trails_max: usize) -> Result<Report, StoreError> {
    let mut report = Report::default();
    let trimmed = check_log(view, &mut report)?;
    let mut rows = Rows::open(view)?;
    let jobs = view.0.open_table(tables::JOBS).map_err(engine_error)?;
    let mut parts = Part::of(jobs.len().map_err(engine_error)?, trails_max);
    while let Some(part) = parts.pop() {
        let before = report.clone();
        let Some(mut trails) = follow_log(view, part, trails_max, &mut report)? else {
            // There were more of them once. What was found so far is found again.
            report = before;
            parts.extend(part.halves());
            continue;
        };
        check_jobs(view, &mut rows, (part, &mut trails, trimmed), &mut report)?;
        for at in trails.keys() {
            report.find(|| format!("job {}: the log says that it is there, and it is not", at.job));
        }
    }
    rows.finish(view, &mut report)?;
    check_parts(view, &mut report)?;
    kept::check(view, &mut report)?;
    check_keys(view, &mut report)?;
    check_uniques(view, &mut report)?;
    check_small(view, &mut report)?;
    Ok(report)
}

/// Calls `see` with every entry of a table.
pub(super) fn each<K: Key + 'static, V: redb::Value + 'static>(
    view: &Look<'_>,
    table: TableDefinition<'static, K, V>,
    mut see: impl for<'a> FnMut(K::SelfType<'a>, V::SelfType<'a>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for entry in view.0.open_table(table).map_err(engine_error)?.iter().map_err(engine_error)? {
        view.count()?;
        let (key, value) = entry.map_err(engine_error)?;
        see(key.value(), value.value())?;
    }
    Ok(())
}

/// The log has every number, and is counted. Answers whether its beginning was trimmed.
fn check_log(view: &Look<'_>, report: &mut Report) -> Result<bool, StoreError> {
    let (mut first, mut last): (Option<Seq>, Option<Seq>) = (None, None);
    let mut bytes = 0;
    each(view, tables::LOG, |key, value| {
        report.events += 1;
        bytes += (value.len() + EVENT_BYTES_BESIDE) as u64;
        let seq = Seq(u64::from_be_bytes(*key));
        let follows = last.is_none_or(|last| last.0 + 1 == seq.0) || meta::begins_epoch(seq);
        report.ensure(follows, || format!("event {seq}: the one before is missing"));
        first = first.or(Some(seq));
        last = Some(seq);
        match codec::decode::<LogEntry>(value) {
            Ok(entry) => report.ensure(entry.seq == seq, || format!("event {seq}: says that it is {}", entry.seq)),
            Err(error) => report.find(|| damaged("log", key, error).to_string()),
        }
        Ok(())
    })?;
    let counted = view.number(tables::LOG_BYTES)?.unwrap_or_default();
    report.ensure(bytes == counted, || format!("the log has {bytes} bytes and is counted as {counted}"));
    let next = number(view, tables::NEXT_SEQ)?;
    // A log that was trimmed to nothing still knows its next number.
    let ends_well = last.is_none_or(|last| last.0 + 1 == next) || meta::begins_epoch(Seq(next));
    report.ensure(ends_well, || format!("the log should end before event {next}, and ends with {last:?}"));
    Ok(first.map_or(next, |first| first.0) > 1)
}

/// Follows the jobs of a part through the log: each event begins where the one before ended, and what it changed leads to
/// what it says. None: there were more than `trails_max` of them at once.
fn follow_log(
    view: &Look<'_>,
    part: Part,
    trails_max: usize,
    report: &mut Report,
) -> Result<Option<HashMap<JobRef, Trail>>, StoreError> {
    let mut trails: HashMap<JobRef, Trail> = HashMap::new();
    for entry in view.0.open_table(tables::LOG).map_err(engine_error)?.iter().map_err(engine_error)? {
        view.count()?;
        let entry = entry.map_err(engine_error)?;
        // One that cannot be read was found already.
        let Ok(entry) = codec::decode::<LogEntry>(entry.1.value()) else { continue };
        if part.has(entry.job) {
            follow(&mut trails, &entry, report);
        }
        if trails.len() > trails_max && part.can_be_halved() {
            return Ok(None);
        }
    }
    Ok(Some(trails))
}

/// A number that begins with 1.
pub(super) fn number(view: &Look<'_>, name: &str) -> Result<u64, StoreError> {
    Ok(view.number(name)?.unwrap_or(1))
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

/// What is gathered of the rows, part by part.
struct Rows {
    next_job: u64,
    numbers: HashSet<u32>,
    entries: Entries,
    counts: BTreeMap<CountKey, u64>,
}

impl Rows {
    fn open(view: &Look<'_>) -> Result<Self, StoreError> {
        let next_job = number(view, tables::NEXT_JOB)?;
        let numbers = view.names()?.into_iter().map(|(_, number)| number).collect();
        Ok(Self { next_job, numbers, entries: Entries::open(view)?, counts: BTreeMap::new() })
    }

    /// Once all parts were looked at: there are no others.
    fn finish(&self, view: &Look<'_>, report: &mut Report) -> Result<(), StoreError> {
        self.entries.check_numbers(report)?;
        let kept: BTreeMap<CountKey, u64> = view.counts()?.into_iter().collect();
        report.ensure(kept == self.counts, || "the counts are not the numbers of the rows".to_owned());
        check_totals(view, &self.counts, report)
    }
}

/// Every row of a part decodes, is where the log left it, and has its index entries.
fn check_jobs(
    view: &Look<'_>,
    rows: &mut Rows,
    (part, trails, trimmed): (Part, &mut HashMap<JobRef, Trail>, bool),
    report: &mut Report,
) -> Result<(), StoreError> {
    each(view, tables::JOBS, |key, row| {
        let at = tables::job_of(key);
        if !part.has(at) {
            return Ok(());
        }
        report.jobs += 1;
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
        report.ensure(job.id.0 < rows.next_job, || format!("job {}: its id has yet to be given out", at.job));
        let named = rows.numbers.contains(&job.queue.0) && rows.numbers.contains(&job.kind.0);
        report.ensure(named, || format!("job {}: its queue or its kind has no name", at.job));
        let keys = index::keys(&job);
        *rows.counts.entry(index::count(&job)).or_default() += 1;
        rows.entries.check(&job, &keys, report)
    })
}

/// Every total is the sum of what it counts.
fn check_totals(view: &Look<'_>, counts: &BTreeMap<CountKey, u64>, report: &mut Report) -> Result<(), StoreError> {
    let counted: Vec<(CountKey, i64)> = counts.iter().map(|(key, n)| (*key, n.cast_signed())).collect();
    let mut totals: BTreeMap<TotalKey, i64> = total_differences(&counted).into_iter().collect();
    each(view, tables::PAYLOADS, |key, bytes| {
        let tenant = tables::payload_of(key).0.tenant;
        *totals.entry(TotalKey { tenant, of: Total::Bytes }).or_default() += bytes.len() as i64;
        Ok(())
    })?;
    kept::add_totals(view, &mut totals)?;
    totals.retain(|_, n| *n != 0);
    let mut kept = BTreeMap::new();
    each(view, tables::TOTALS, |key, n| {
        kept.insert(tables::total_of(key), n.cast_signed());
        Ok(())
    })?;
    report.ensure(kept == totals, || "the totals are not the sums of what they count".to_owned());
    Ok(())
}

/// Every payload and run record belongs to a row.
fn check_parts(view: &Look<'_>, report: &mut Report) -> Result<(), StoreError> {
    let jobs = view.0.open_table(tables::JOBS).map_err(engine_error)?;
    each(view, tables::PAYLOADS, |key, _| {
        let (at, part) = tables::payload_of(key);
        let there = jobs.get(&tables::job(at)).map_err(engine_error)?.is_some();
        report.ensure(there && part.is_some(), || format!("a payload of job {}, which is not there", at.job));
        Ok(())
    })?;
    each(view, tables::RUNS, |key, value| {
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
fn check_keys(view: &Look<'_>, report: &mut Report) -> Result<(), StoreError> {
    let until = view.0.open_table(tables::KEYS_UNTIL).map_err(engine_error)?;
    let mut there = 0;
    each(view, tables::KEYS, |key, value| {
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

/// Every unique key is somebody's, or will be forgotten in its time.
fn check_uniques(view: &Look<'_>, report: &mut Report) -> Result<(), StoreError> {
    let until = view.0.open_table(tables::UNIQUES_UNTIL).map_err(engine_error)?;
    let jobs = view.0.open_table(tables::JOBS).map_err(engine_error)?;
    let mut timed = 0;
    each(view, tables::UNIQUES, |key, value| {
        let record: UniqueRecord = match codec::decode(value) {
            Ok(record) => record,
            Err(error) => {
                report.find(|| damaged("uniques", key, error).to_string());
                return Ok(());
            }
        };
        let at = tables::key_of(key);
        if let Some(end) = record.until {
            let found = until.get(&tables::key_until(at, end)).map_err(engine_error)?.is_some();
            report.ensure(found, || format!("a unique key of job {} would never be forgotten", record.job));
            timed += u64::from(found);
            return Ok(());
        }
        let row = jobs.get(&tables::job(JobRef { tenant: at.tenant, job: record.job })).map_err(engine_error)?;
        let job = row.and_then(|row| codec::job(row.value()).ok());
        let holds = job.is_some_and(|job| {
            job.holds_key_by_state() && job.unique.is_some_and(|hold| KeyRef::of(at.tenant, &hold.key) == at)
        });
        report.ensure(holds, || format!("a unique key is kept for job {}, which does not hold it", record.job));
        Ok(())
    })?;
    let entries = until.len().map_err(engine_error)?;
    report.ensure(entries == timed, || format!("table uniques_until: has {entries} entries, the keys have {timed}"));
    Ok(())
}

/// Everything else decodes.
fn check_small(view: &Look<'_>, report: &mut Report) -> Result<(), StoreError> {
    each(view, tables::SPREADS, |key, value| {
        if let Err(error) = codec::decode::<Spread>(value) {
            report.find(|| damaged("spreads", key, error).to_string());
        }
        Ok(())
    })?;
    each(view, tables::HEARD, |key, value| {
        match codec::decode::<Heard>(value) {
            Ok(heard) => report.ensure(!heard.to.is_empty(), || {
                format!("event `{}` of job {} was heard by nobody", heard.event.as_str(), heard.at.job)
            }),
            Err(error) => report.find(|| damaged("heard", key, error).to_string()),
        }
        Ok(())
    })?;
    each(view, tables::SUBSCRIPTIONS, |key, value| {
        match codec::decode::<Vec<Subscription>>(value) {
            Ok(all) => {
                let right = !all.is_empty() && all.iter().all(|one| one.check().is_ok());
                report.ensure(right, || {
                    format!("tenant {}: what its kinds listen to is wrong", u32::from_be_bytes(*key))
                });
            }
            Err(error) => report.find(|| damaged("subscriptions", key, error).to_string()),
        }
        Ok(())
    })?;
    each(view, tables::TOKENS, |key, value| {
        match codec::decode::<Token>(value) {
            Ok(token) => report.ensure(token.check().is_ok(), || format!("token `{}` is wrong", token.name)),
            Err(error) => report.find(|| damaged("tokens", key, error).to_string()),
        }
        Ok(())
    })?;
    each(view, tables::SETTINGS, |key, value| {
        match codec::decode::<Settings>(value) {
            Ok(settings) => report.ensure(tables::setting(&settings.scope()) == *key, || {
                format!("settings of {:?} stand where others should", settings.scope())
            }),
            Err(error) => report.find(|| damaged("settings", key, error).to_string()),
        }
        Ok(())
    })
}
