//! Checks what runs leave beside their jobs: their logs, and what plugins keep under keys.

use std::collections::{BTreeMap, HashSet};

use super::{Look, damaged, each, engine_error, tables};
use crate::check::Report;
use crate::codec;
use crate::command::{NameClass, Total, TotalKey};
use crate::error::StoreError;
use crate::job::{JobRef, RunNumber, TenantId};
use crate::schedule::Schedule;

/// Every log belongs to a run of a row, and no job has more of them than are kept; every key is that of a plugin with a
/// name; no tenant has the number of another.
pub(super) fn check(view: &Look<'_>, report: &mut Report) -> Result<(), StoreError> {
    check_logs(view, report)?;
    check_schedules(view, report)?;
    let mut plugins: HashSet<(TenantId, u32)> = HashSet::new();
    for (name, number) in view.names()? {
        match name.class {
            NameClass::Plugin => _ = plugins.insert((name.tenant, number)),
            NameClass::Tenant => {
                let own = name.tenant == TenantId::NONE && number != TenantId::DEFAULT.0;
                report.ensure(own, || format!("tenant {:?}: its number cannot be {number}", name.name));
            }
            NameClass::Queue | NameClass::Kind => {}
        }
    }
    each(view, tables::KV, |bytes, _| {
        let Some(key) = tables::kv_of(bytes) else {
            report.find(|| format!("table kv: {bytes:02x?} is no key of a plugin"));
            return Ok(());
        };
        let named = plugins.contains(&(key.space.tenant, key.space.plugin.0));
        report.ensure(named, || {
            format!("the key {:?} belongs to plugin {}, which has no name", key.key, key.space.plugin)
        });
        Ok(())
    })
}

/// Every schedule decodes, and stands where its name says.
fn check_schedules(view: &Look<'_>, report: &mut Report) -> Result<(), StoreError> {
    each(view, tables::SCHEDULES, |key, value| {
        match codec::decode::<Schedule>(value) {
            Ok(schedule) => report.ensure(tables::schedule(&schedule.at()) == key, || {
                format!("schedule {:?} stands where another should", schedule.name)
            }),
            Err(error) => report.find(|| damaged("schedules", key, error).to_string()),
        }
        Ok(())
    })
}

fn check_logs(view: &Look<'_>, report: &mut Report) -> Result<(), StoreError> {
    let jobs = view.0.open_table(tables::JOBS).map_err(engine_error)?;
    let runs = view.0.open_table(tables::RUNS).map_err(engine_error)?;
    let mut last: Option<(JobRef, usize)> = None;
    each(view, tables::RUN_LOGS, |key, log| {
        let (at, run) = tables::run_of(key);
        let there = jobs.get(&tables::job(at)).map_err(engine_error)?.is_some();
        report.ensure(there, || format!("a log of run {run} of job {}, which is not there", at.job));
        let recorded = runs.get(key).map_err(engine_error)?.is_some();
        report.ensure(recorded || !there, || {
            format!("a log of run {run} of job {}, of which there is no record", at.job)
        });
        let before = last.filter(|(job, _)| *job == at).map_or(0, |(_, bytes)| bytes);
        last = Some((at, before + log.len()));
        let max = crate::job::limits::RUN_LOGS_BYTES_MAX;
        report.ensure(before + log.len() <= max, || format!("job {} has more than {max} bytes of logs", at.job));
        Ok(())
    })
}

/// Adds up what belongs to each tenant.
pub(super) fn add_totals(view: &Look<'_>, totals: &mut BTreeMap<TotalKey, i64>) -> Result<(), StoreError> {
    let mut add = |tenant, of, n: usize| *totals.entry(TotalKey { tenant, of }).or_default() += n as i64;
    each(view, tables::RUN_LOGS, |key, log| {
        let (at, RunNumber(_)) = tables::run_of(key);
        add(at.tenant, Total::Bytes, log.len());
        Ok(())
    })?;
    each(view, tables::SCHEDULES, |key, _| {
        if let Some((tenant, _)) = key.split_first_chunk() {
            add(TenantId(u32::from_be_bytes(*tenant)), Total::Schedules, 1);
        }
        Ok(())
    })?;
    each(view, tables::KV, |key, value| {
        // What is no key is a finding of its own.
        if let Some(key) = tables::kv_of(key) {
            add(key.space.tenant, Total::Bytes, key.key.len() + value.len());
            add(key.space.tenant, Total::KvKeys, 1);
        }
        Ok(())
    })
}
