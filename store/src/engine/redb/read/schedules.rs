//! Reading schedules, and the unfinished jobs that they have made.

use std::ops::Bound;

use redb::{ReadableTable, WriteTransaction};

use super::{Rows, View, job, put_total};
use crate::codec;
use crate::command::{Total, TotalKey, limits};
use crate::engine::redb::{damaged, engine_error, tables};
use crate::engine::{Needs, WorkingSet};
use crate::error::StoreError;
use crate::index::ScheduledKey;
use crate::job::{JobId, JobRef, TenantId};
use crate::schedule::{OVERLAPS_READ, Schedule, ScheduleRef};

/// What a batch may touch.
pub(super) fn read(
    from: &WriteTransaction,
    needs: &Needs,
    rows: &Rows<'_>,
    set: &mut WorkingSet,
) -> Result<(), StoreError> {
    if needs.schedules.is_empty() {
        return Ok(());
    }
    let schedules = from.open_table(tables::SCHEDULES).map_err(engine_error)?;
    let scheduled = from.open_table(tables::SCHEDULED).map_err(engine_error)?;
    let totals = from.open_table(tables::TOTALS).map_err(engine_error)?;
    for (at, with_jobs) in &needs.schedules {
        if let Some(schedule) = one(&schedules, at)? {
            set.schedules.insert(at.clone(), schedule);
        }
        put_total(&totals, TotalKey { tenant: at.tenant, of: Total::Schedules }, set)?;
        if *with_jobs {
            let (ids, all) = unfinished(&scheduled, rows, at)?;
            for id in &ids {
                rows.put(JobRef { tenant: at.tenant, job: *id }, set)?;
            }
            set.scheduled.insert(at.clone(), (ids, all));
        }
    }
    Ok(())
}

/// The first unfinished jobs of a schedule, and whether these are all.
fn unfinished(
    scheduled: &impl ReadableTable<&'static [u8; 20], ()>,
    rows: &Rows<'_>,
    at: &ScheduleRef,
) -> Result<(Vec<JobId>, bool), StoreError> {
    let key = |id| tables::scheduled(&ScheduledKey::new(JobRef { tenant: at.tenant, job: JobId(id) }, &at.name));
    let mut ids = Vec::new();
    for entry in scheduled.range::<&[u8; 20]>(&key(0)..=&key(u64::MAX)).map_err(engine_error)? {
        let id = tables::scheduled_of(entry.map_err(engine_error)?.0.value()).id;
        let row = job(&rows.jobs, JobRef { tenant: at.tenant, job: id })?;
        if row.is_none_or(|job| job.schedule.is_none_or(|of| of.name != at.name)) {
            continue;
        }
        if ids.len() == OVERLAPS_READ {
            return Ok((ids, false));
        }
        ids.push(id);
    }
    Ok((ids, true))
}

fn one(
    schedules: &impl ReadableTable<&'static [u8], &'static [u8]>,
    at: &ScheduleRef,
) -> Result<Option<Schedule>, StoreError> {
    let key = tables::schedule(at);
    let value = schedules.get(key.as_slice()).map_err(engine_error)?;
    value.map(|value| decode(&key, value.value())).transpose()
}

fn decode(key: &[u8], value: &[u8]) -> Result<Schedule, StoreError> {
    codec::decode(value).map_err(|error| damaged("schedules", key, error))
}

impl View {
    pub(super) fn schedule(&self, at: &ScheduleRef) -> Result<Option<Schedule>, StoreError> {
        one(&self.0.open_table(tables::SCHEDULES).map_err(engine_error)?, at)
    }

    pub(super) fn schedules(
        &self,
        tenant: Option<TenantId>,
        after: Option<&ScheduleRef>,
        limit: u32,
    ) -> Result<Vec<Schedule>, StoreError> {
        let table = self.0.open_table(tables::SCHEDULES).map_err(engine_error)?;
        let first = tenant.map_or_else(Vec::new, |tenant| tenant.0.to_be_bytes().to_vec());
        // What comes before the tenant is passed over as well.
        let after = after.map(tables::schedule).filter(|after| *after >= first);
        let start = after.as_deref().map_or(Bound::Included(first.as_slice()), Bound::Excluded);
        let mut found = Vec::new();
        for entry in table.range::<&[u8]>((start, Bound::Unbounded)).map_err(engine_error)? {
            let (key, value) = entry.map_err(engine_error)?;
            if found.len() >= limit.min(limits::PAGE_ROWS_MAX) as usize || !key.value().starts_with(&first) {
                break;
            }
            found.push(decode(key.value(), value.value())?);
        }
        Ok(found)
    }

    pub(super) fn schedule_count(&self, tenant: TenantId) -> Result<u64, StoreError> {
        let totals = self.0.open_table(tables::TOTALS).map_err(engine_error)?;
        let total = totals.get(&tables::total(TotalKey { tenant, of: Total::Schedules })).map_err(engine_error)?;
        Ok(total.map_or(0, |total| total.value()))
    }
}
