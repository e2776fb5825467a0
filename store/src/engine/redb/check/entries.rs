//! The entries of the indexes: each is that of a row, and every row has its own.

use redb::{ReadOnlyTable, ReadableTableMetadata};

use super::{Look, engine_error, tables};
use crate::check::Report;
use crate::error::StoreError;
use crate::index::Keys;
use crate::job::{Job, JobId};

/// The index tables, and how many entries of each were found to be those of rows.
pub(super) struct Entries {
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
    pub(super) fn open(view: &Look<'_>) -> Result<Self, StoreError> {
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
    pub(super) fn check(&mut self, job: &Job, keys: &Keys, report: &mut Report) -> Result<(), StoreError> {
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
    pub(super) fn check_numbers(&self, report: &mut Report) -> Result<(), StoreError> {
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
