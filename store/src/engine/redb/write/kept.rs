//! Writing what runs leave beside their jobs: their logs, and what plugins keep under keys. Answers how the totals differ.

use std::collections::BTreeMap;

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::{Ops, totals_of};
use crate::command::{Total, TotalKey};
use crate::engine::KvKey;
use crate::engine::redb::{engine_error, tables};
use crate::error::StoreError;
use crate::job::{JobRef, RunNumber, TenantId};

/// Logs of runs, without those of jobs that are gone.
pub(super) fn write_run_logs(
    into: &WriteTransaction,
    mut ops: Ops<16, &[u8]>,
    gone: &[JobRef],
) -> Result<Vec<(TotalKey, i64)>, StoreError> {
    if ops.is_empty() && gone.is_empty() {
        return Ok(Vec::new());
    }
    let mut logs = into.open_table(tables::RUN_LOGS).map_err(engine_error)?;
    // Most stores have jobs that go, and some have no logs.
    let none = logs.is_empty().map_err(engine_error)?;
    for at in gone.iter().filter(|_| !none && !cfg!(planted = "log_left_behind")) {
        let (first, last) = (tables::run(*at, RunNumber(0)), tables::run(*at, RunNumber(u32::MAX)));
        for entry in logs.range::<&[u8; 16]>(&first..=&last).map_err(engine_error)? {
            ops.push((*entry.map_err(engine_error)?.0.value(), None));
        }
    }
    ops.sort_by_key(|(key, _)| *key);
    let mut bytes: BTreeMap<TenantId, i64> = BTreeMap::new();
    for (i, (key, log)) in ops.iter().enumerate() {
        if ops.get(i + 1).is_some_and(|(next, _)| next == key) {
            continue;
        }
        let old = match log {
            Some(log) => logs.insert(key, *log).map_err(engine_error)?.map(|old| old.value().len()),
            None => logs.remove(key).map_err(engine_error)?.map(|old| old.value().len()),
        };
        let difference = log.map_or(0, <[u8]>::len) as i64 - old.unwrap_or_default() as i64;
        *bytes.entry(tables::run_of(key).0.tenant).or_default() += difference;
    }
    Ok(totals_of(bytes, Total::Bytes))
}

/// Keys and values of plugins.
pub(super) fn write_kv(
    into: &WriteTransaction,
    mut ops: Vec<(Vec<u8>, Option<&[u8]>)>,
) -> Result<Vec<(TotalKey, i64)>, StoreError> {
    if ops.is_empty() {
        return Ok(Vec::new());
    }
    // Stable: what came later in the batch stays later.
    ops.sort_by(|(left, _), (right, _)| left.cmp(right));
    let mut table = into.open_table(tables::KV).map_err(engine_error)?;
    let (mut bytes, mut keys): (BTreeMap<TenantId, i64>, BTreeMap<TenantId, i64>) = (BTreeMap::new(), BTreeMap::new());
    for (i, (key, value)) in ops.iter().enumerate() {
        if ops.get(i + 1).is_some_and(|(next, _)| next == key) {
            continue;
        }
        let old = match value {
            Some(value) => table.insert(key.as_slice(), *value).map_err(engine_error)?.map(|old| old.value().len()),
            None => table.remove(key.as_slice()).map_err(engine_error)?.map(|old| old.value().len()),
        };
        let KvKey { space, key } = tables::kv_of(key).expect("a key that was just made is one");
        let size = |value: Option<usize>| value.map_or(0, |value| (key.len() + value) as i64);
        *bytes.entry(space.tenant).or_default() += size(value.map(<[u8]>::len)) - size(old);
        *keys.entry(space.tenant).or_default() += i64::from(value.is_some()) - i64::from(old.is_some());
    }
    Ok(totals_of(bytes, Total::Bytes).into_iter().chain(totals_of(keys, Total::KvKeys)).collect())
}
