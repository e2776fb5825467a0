//! Compares everything in the file with everything else, in bounded memory but for one small entry a job.

mod kept;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use redb::{ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::{Redb, damaged, engine_error, guarded, meta, read::View, tables};
use crate::check::Report;
use crate::codec::{self, Fold};
use crate::command::{CountKey, Settings, Subscription, Total, TotalKey};
use crate::engine::{EVENT_BYTES_BESIDE, KeyRecord, KeyRef, Spread, UniqueRecord, total_differences};
use crate::error::StoreError;
use crate::index::{self, Keys};
use crate::job::{Job, JobId, JobRef, Seq};
use crate::listening::Heard;
use crate::log::LogEntry;
use crate::token::Token;

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
        self.spared(guarded(|| self.compare()))
    }

    fn compare(&self) -> Result<Report, StoreError> {
        let view = View(self.db.begin_read().map_err(engine_error)?);
        let mut report = Report::default();
        let (mut trails, trimmed) = follow_log(&view, &mut report)?;
        check_jobs(&view, &mut trails, trimmed, &mut report)?;
        check_parts(&view, &mut report)?;
        kept::check(&view, &mut report)?;
        check_keys(&view, &mut report)?;
        check_uniques(&view, &mut report)?;
        check_small(&view, &mut report)?;
        for at in trails.keys() {
            report.find(|| format!("job {}: the log says that it is there, and it is not", at.job));
        }
        Ok(report)
    }
}

/// Calls `see` with every entry of a table.
pub(super) fn each<const N: usize, V: redb::Value + 'static>(
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
    let mut bytes = 0;
    each(view.0.open_table(tables::LOG), |key, value| {
        report.events += 1;
        bytes += (value.len() + EVENT_BYTES_BESIDE) as u64;
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
    let counted = view.number(tables::LOG_BYTES)?.unwrap_or_default();
    report.ensure(bytes == counted, || format!("the log has {bytes} bytes and is counted as {counted}"));
    let next = number(view, tables::NEXT_SEQ)?;
    // A log that was trimmed to nothing still knows its next number.
    let ends_well = last.is_none_or(|last| last.0 + 1 == next) || meta::begins_epoch(Seq(next));
    report.ensure(ends_well, || format!("the log should end before event {next}, and ends with {last:?}"));
    Ok((trails, first.map_or(next, |first| first.0) > 1))
}

/// A number that begins with 1.
pub(super) fn number(view: &View, name: &str) -> Result<u64, StoreError> {
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

/// Every row decodes, is where the log left it, has its index entries, and is counted; and there are no others.
fn check_jobs(
    view: &View,
    trails: &mut HashMap<JobRef, Trail>,
    trimmed: bool,
    report: &mut Report,
) -> Result<(), StoreError> {
    let next_job = number(view, tables::NEXT_JOB)?;
    let numbers: HashSet<u32> = view.names()?.into_iter().map(|(_, number)| number).collect();
    let mut entries = Entries::open(view)?;
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
        entries.check(&job, &keys, report)?;
        Ok(())
    })?;
    entries.check_numbers(report)?;
    let kept: BTreeMap<CountKey, u64> = view.counts()?.into_iter().collect();
    report.ensure(kept == counts, || "the counts are not the numbers of the rows".to_owned());
    check_totals(view, &counts, report)
}

/// Every total is the sum of what it counts.
fn check_totals(view: &View, counts: &BTreeMap<CountKey, u64>, report: &mut Report) -> Result<(), StoreError> {
    let counted: Vec<(CountKey, i64)> = counts.iter().map(|(key, n)| (*key, n.cast_signed())).collect();
    let mut totals: BTreeMap<TotalKey, i64> = total_differences(&counted).into_iter().collect();
    each(view.0.open_table(tables::PAYLOADS), |key, bytes| {
        let tenant = tables::payload_of(key).0.tenant;
        *totals.entry(TotalKey { tenant, of: Total::Bytes }).or_default() += bytes.len() as i64;
        Ok(())
    })?;
    kept::add_totals(view, &mut totals)?;
    totals.retain(|_, n| *n != 0);
    let mut kept = BTreeMap::new();
    each(view.0.open_table(tables::TOTALS), |key, n| {
        kept.insert(tables::total_of(key), n.cast_signed());
        Ok(())
    })?;
    report.ensure(kept == totals, || "the totals are not the sums of what they count".to_owned());
    Ok(())
}

/// The index tables, and how many entries of each were found to be those of rows.
struct Entries {
    lanes: (ReadOnlyTable<&'static [u8; 31], ()>, u64),
    due: (ReadOnlyTable<&'static [u8; 20], ()>, u64),
    lists: (ReadOnlyTable<&'static [u8; 21], ()>, u64),
    expiry: (ReadOnlyTable<&'static [u8; 20], ()>, u64),
    ended: (ReadOnlyTable<&'static [u8; 21], ()>, u64),
    waits: (ReadOnlyTable<&'static [u8; 21], ()>, u64),
    tags: (ReadOnlyTable<&'static [u8; 20], ()>, u64),
    scheduled: (ReadOnlyTable<&'static [u8; 20], ()>, u64),
    keyed_lanes: (ReadOnlyTable<&'static [u8; 40], ()>, u64),
    begun: (ReadOnlyTable<&'static [u8; 24], ()>, u64),
}

impl Entries {
    fn open(view: &View) -> Result<Self, StoreError> {
        let open = |error: redb::TableError| engine_error(error);
        Ok(Self {
            lanes: (view.0.open_table(tables::LANES).map_err(open)?, 0),
            due: (view.0.open_table(tables::DUE).map_err(open)?, 0),
            lists: (view.0.open_table(tables::LISTS).map_err(open)?, 0),
            expiry: (view.0.open_table(tables::EXPIRY).map_err(open)?, 0),
            ended: (view.0.open_table(tables::ENDED).map_err(open)?, 0),
            waits: (view.0.open_table(tables::WAITS).map_err(open)?, 0),
            tags: (view.0.open_table(tables::TAGS).map_err(open)?, 0),
            scheduled: (view.0.open_table(tables::SCHEDULED).map_err(open)?, 0),
            keyed_lanes: (view.0.open_table(tables::KEYED_LANES).map_err(open)?, 0),
            begun: (view.0.open_table(tables::BEGUN).map_err(open)?, 0),
        })
    }

    /// The entries of one row are there.
    fn check(&mut self, job: &Job, keys: &Keys, report: &mut Report) -> Result<(), StoreError> {
        let id = job.id;
        let Keys { lane, due, list, expiry, ended, waits, tags, scheduled, begun } = keys;
        let (keyed, unkeyed) = match lane {
            Some(key) if key.lane.key.is_none() => (None, Some(tables::lane(key))),
            Some(key) => (Some(tables::keyed_lane(key)), None),
            None => (None, None),
        };
        find(&mut self.lists, Some(tables::list(list)), id, "the lists", report)?;
        find(&mut self.lanes, unkeyed, id, "its lane", report)?;
        find(&mut self.keyed_lanes, keyed, id, "the lane of its key", report)?;
        find(&mut self.begun, begun.as_ref().map(tables::begun), id, "the index of those that have begun", report)?;
        find(&mut self.due, due.as_ref().map(tables::due), id, "the due index", report)?;
        find(&mut self.expiry, expiry.as_ref().map(tables::expiry), id, "the expiry index", report)?;
        find(&mut self.ended, ended.as_ref().map(tables::ended), id, "the index of finished jobs", report)?;
        find(&mut self.waits, waits.iter().map(tables::wait), id, "the index of those that wait", report)?;
        let of_schedule = scheduled.as_ref().map(tables::scheduled);
        find(&mut self.scheduled, of_schedule, id, "the index of schedules' jobs", report)?;
        find(&mut self.tags, tags.iter().map(tables::tag), id, "the index of tags", report)
    }

    /// There are no others.
    fn check_numbers(&self, report: &mut Report) -> Result<(), StoreError> {
        let numbers = [
            ("lanes", self.lanes.0.len(), self.lanes.1),
            ("due", self.due.0.len(), self.due.1),
            ("lists", self.lists.0.len(), self.lists.1),
            ("expiry", self.expiry.0.len(), self.expiry.1),
            ("ended", self.ended.0.len(), self.ended.1),
            ("waits", self.waits.0.len(), self.waits.1),
            ("tags", self.tags.0.len(), self.tags.1),
            ("scheduled", self.scheduled.0.len(), self.scheduled.1),
            ("keyed_lanes", self.keyed_lanes.0.len(), self.keyed_lanes.1),
            ("begun", self.begun.0.len(), self.begun.1),
        ];
        for (table, is, should_be) in numbers {
            let is = is.map_err(engine_error)?;
            report.ensure(is == should_be, || format!("table {table}: has {is} entries, the rows have {should_be}"));
        }
        Ok(())
    }
}

fn find<const N: usize>(
    table: &mut (ReadOnlyTable<&'static [u8; N], ()>, u64),
    keys: impl IntoIterator<Item = [u8; N]>,
    job: JobId,
    place: &str,
    report: &mut Report,
) -> Result<(), StoreError>
where
    &'static [u8; N]: for<'a> redb::Key<SelfType<'a> = &'a [u8; N]>,
{
    for key in keys {
        let there = table.0.get(&key).map_err(engine_error)?.is_some();
        report.ensure(there, || format!("job {job}: is missing in {place}"));
        table.1 += u64::from(there);
    }
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

/// Every unique key is somebody's, or will be forgotten in its time.
fn check_uniques(view: &View, report: &mut Report) -> Result<(), StoreError> {
    let until = view.0.open_table(tables::UNIQUES_UNTIL).map_err(engine_error)?;
    let jobs = view.0.open_table(tables::JOBS).map_err(engine_error)?;
    let mut timed = 0;
    each(view.0.open_table(tables::UNIQUES), |key, value| {
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
fn check_small(view: &View, report: &mut Report) -> Result<(), StoreError> {
    each(view.0.open_table(tables::SPREADS), |key, value| {
        if let Err(error) = codec::decode::<Spread>(value) {
            report.find(|| damaged("spreads", key, error).to_string());
        }
        Ok(())
    })?;
    each(view.0.open_table(tables::HEARD), |key, value| {
        match codec::decode::<Heard>(value) {
            Ok(heard) => report.ensure(!heard.to.is_empty(), || {
                format!("event `{}` of job {} was heard by nobody", heard.event.as_str(), heard.at.job)
            }),
            Err(error) => report.find(|| damaged("heard", key, error).to_string()),
        }
        Ok(())
    })?;
    each(view.0.open_table(tables::SUBSCRIPTIONS), |key, value| {
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
    each(view.0.open_table(tables::TOKENS), |key, value| {
        match codec::decode::<Token>(value) {
            Ok(token) => report.ensure(token.check().is_ok(), || format!("token `{}` is wrong", token.name)),
            Err(error) => report.find(|| damaged("tokens", key, error).to_string()),
        }
        Ok(())
    })?;
    each(view.0.open_table(tables::SETTINGS), |key, value| {
        match codec::decode::<Settings>(value) {
            Ok(settings) => report.ensure(tables::setting(&settings.scope()) == *key, || {
                format!("settings of {:?} stand where others should", settings.scope())
            }),
            Err(error) => report.find(|| damaged("settings", key, error).to_string()),
        }
        Ok(())
    })
}
