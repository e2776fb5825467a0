//! Reading what runs leave beside their jobs: their logs, and what plugins keep under keys.

use std::ops::Bound;

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::View;
use crate::codec;
use crate::command::{KvKeysQuery, Namespace, RunRecord, RunRef, Total, TotalKey, limits};
use crate::engine::redb::{damaged, engine_error, tables};
use crate::engine::{Needs, WorkingSet};
use crate::error::StoreError;
use crate::job::{JobRef, RunNumber, TenantId};

/// What a batch may touch.
pub(super) fn read(from: &WriteTransaction, needs: &Needs, set: &mut WorkingSet) -> Result<(), StoreError> {
    if !needs.kv.is_empty() {
        let table = from.open_table(tables::KV).map_err(engine_error)?;
        for key in &needs.kv {
            let value = table.get(tables::kv(key.space, &key.key).as_slice()).map_err(engine_error)?;
            set.kv.insert(key.clone(), value.map(|value| value.value().to_vec()));
        }
    }
    if !needs.run_logs.is_empty() {
        let table = from.open_table(tables::RUN_LOGS).map_err(engine_error)?;
        for at in &needs.run_logs {
            let (first, last) = (tables::run(*at, RunNumber(0)), tables::run(*at, RunNumber(u32::MAX)));
            let mut logs = Vec::new();
            for entry in table.range::<&[u8; 16]>(&first..=&last).map_err(engine_error)? {
                let (key, log) = entry.map_err(engine_error)?;
                logs.push((tables::run_of(key.value()).1, log.value().len()));
            }
            set.run_logs.insert(*at, logs);
        }
    }
    Ok(())
}

impl View {
    pub(super) fn kv(&self, space: Namespace, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self.0.open_table(tables::KV).map_err(engine_error)?;
        let value = table.get(tables::kv(space, key).as_slice()).map_err(engine_error)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    pub(super) fn kv_keys(&self, query: &KvKeysQuery) -> Result<Vec<String>, StoreError> {
        let table = self.0.open_table(tables::KV).map_err(engine_error)?;
        let first = tables::kv(query.space, &query.prefix);
        // What comes before the prefix is passed over as well.
        let after = query.after.as_deref().map(|after| tables::kv(query.space, after)).filter(|after| *after >= first);
        let start = after.as_deref().map_or(Bound::Included(first.as_slice()), Bound::Excluded);
        let mut keys = Vec::new();
        for entry in table.range::<&[u8]>((start, Bound::Unbounded)).map_err(engine_error)? {
            let key = entry.map_err(engine_error)?.0;
            if keys.len() >= query.limit.min(limits::PAGE_ROWS_MAX) as usize || !key.value().starts_with(&first) {
                break;
            }
            let no_text = || StoreError::Contradiction(format!("a key of a plugin is no text: {:02x?}", key.value()));
            keys.push(tables::kv_of(key.value()).ok_or_else(no_text)?.key);
        }
        Ok(keys)
    }

    pub(super) fn kv_count(&self, tenant: TenantId) -> Result<u64, StoreError> {
        let totals = self.0.open_table(tables::TOTALS).map_err(engine_error)?;
        let total = totals.get(&tables::total(TotalKey { tenant, of: Total::KvKeys })).map_err(engine_error)?;
        Ok(total.map_or(0, |total| total.value()))
    }

    /// Keys of plugins, and logs of runs.
    pub(super) fn kept(&self) -> Result<(u64, u64), StoreError> {
        let keys = self.0.open_table(tables::KV).map_err(engine_error)?;
        let logs = self.0.open_table(tables::RUN_LOGS).map_err(engine_error)?;
        Ok((keys.len().map_err(engine_error)?, logs.len().map_err(engine_error)?))
    }

    pub(super) fn run_log(&self, run: RunRef) -> Result<Option<Vec<u8>>, StoreError> {
        let logs = self.0.open_table(tables::RUN_LOGS).map_err(engine_error)?;
        let log = |run: RunRef| {
            let log = logs.get(&tables::run(run.at, run.run)).map_err(engine_error)?;
            Ok::<_, StoreError>(log.map(|log| log.value().to_vec()))
        };
        if let Some(own) = log(run)? {
            return Ok(Some(own));
        }
        let runs = self.0.open_table(tables::RUNS).map_err(engine_error)?;
        let key = tables::run(run.at, run.run);
        let Some(value) = runs.get(&key).map_err(engine_error)? else { return Ok(None) };
        let record: RunRecord = codec::decode(value.value()).map_err(|error| damaged("runs", &key, error))?;
        let Some((job, of_call)) = record.call else { return Ok(None) };
        log(RunRef { at: JobRef { job, ..run.at }, run: of_call })
    }
}
