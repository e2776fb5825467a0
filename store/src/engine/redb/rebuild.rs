//! Everything that follows from rows, payloads, names and the log, made from them: what a store of an earlier schema
//! lacks.

use std::collections::BTreeMap;

use redb::{ReadableTable, WriteTransaction};

use super::{damaged, engine_error, tables};
use crate::codec;
use crate::command::{CountKey, Total, TotalKey};
use crate::engine::{EVENT_BYTES_BESIDE, total_differences};
use crate::error::StoreError;
use crate::index;

/// Fills the tables that schema 2 added: expiry, finished jobs, dependencies, tags, totals, and single numbers.
pub(super) fn schema_2(into: &WriteTransaction) -> Result<(), StoreError> {
    super::write::create_tables(into)?;
    let bytes = entries(into)?;
    totals(into, bytes)?;
    numbers(into)
}

/// Makes the tables that schema 3 added: what plugins keep, and the logs of runs. Whatever has neither has nothing in them.
pub(super) fn schema_3(into: &WriteTransaction) -> Result<(), StoreError> {
    super::write::create_tables(into)
}

/// Makes the tables that schema 4 added: schedules, what kinds listen to, and what was heard. No earlier store has anything
/// of them.
pub(super) fn schema_4(into: &WriteTransaction) -> Result<(), StoreError> {
    super::write::create_tables(into)
}

/// Makes the tables that schema 5 added: tokens, lanes of keys, and the jobs of keys that have begun. A program that knows no
/// tokens would let everybody in, so it is not to open such a store; no earlier job has a key.
pub(super) fn schema_5(into: &WriteTransaction) -> Result<(), StoreError> {
    super::write::create_tables(into)
}

/// The index entries of every row. Answers the bytes of payloads, which are totalled next.
fn entries(into: &WriteTransaction) -> Result<BTreeMap<TotalKey, i64>, StoreError> {
    let jobs = into.open_table(tables::JOBS).map_err(engine_error)?;
    let mut expiry = into.open_table(tables::EXPIRY).map_err(engine_error)?;
    let mut ended = into.open_table(tables::ENDED).map_err(engine_error)?;
    let mut waits = into.open_table(tables::WAITS).map_err(engine_error)?;
    let mut tags = into.open_table(tables::TAGS).map_err(engine_error)?;
    for entry in jobs.iter().map_err(engine_error)? {
        let (key, row) = entry.map_err(engine_error)?;
        let job = codec::job(row.value()).map_err(|error| damaged("jobs", key.value(), error))?;
        let keys = index::keys(&job);
        if let Some(key) = &keys.expiry {
            expiry.insert(&tables::expiry(key), ()).map_err(engine_error)?;
        }
        if let Some(key) = &keys.ended {
            ended.insert(&tables::ended(key), ()).map_err(engine_error)?;
        }
        for key in &keys.waits {
            waits.insert(&tables::wait(key), ()).map_err(engine_error)?;
        }
        for key in &keys.tags {
            tags.insert(&tables::tag(key), ()).map_err(engine_error)?;
        }
    }
    let payloads = into.open_table(tables::PAYLOADS).map_err(engine_error)?;
    let mut bytes = BTreeMap::new();
    for entry in payloads.iter().map_err(engine_error)? {
        let (key, value) = entry.map_err(engine_error)?;
        let tenant = tables::payload_of(key.value()).0.tenant;
        *bytes.entry(TotalKey { tenant, of: Total::Bytes }).or_default() += value.value().len() as i64;
    }
    Ok(bytes)
}

fn totals(into: &WriteTransaction, bytes: BTreeMap<TotalKey, i64>) -> Result<(), StoreError> {
    let counts = into.open_table(tables::COUNTS).map_err(engine_error)?;
    let mut counted: Vec<(CountKey, i64)> = Vec::new();
    for entry in counts.iter().map_err(engine_error)? {
        let (key, n) = entry.map_err(engine_error)?;
        counted.push((tables::count_of(key.value()), n.value().cast_signed()));
    }
    let mut totals = into.open_table(tables::TOTALS).map_err(engine_error)?;
    for (key, n) in total_differences(&counted).into_iter().chain(bytes) {
        if n > 0 {
            totals.insert(&tables::total(key), n.cast_unsigned()).map_err(engine_error)?;
        }
    }
    Ok(())
}

fn numbers(into: &WriteTransaction) -> Result<(), StoreError> {
    let names = into.open_table(tables::NAMES).map_err(engine_error)?;
    let last = names.last().map_err(engine_error)?.map_or(0, |(key, _)| u32::from_be_bytes(*key.value()));
    let log = into.open_table(tables::LOG).map_err(engine_error)?;
    let mut bytes = 0;
    for entry in log.iter().map_err(engine_error)? {
        bytes += (entry.map_err(engine_error)?.1.value().len() + EVENT_BYTES_BESIDE) as u64;
    }
    let mut meta = into.open_table(tables::META).map_err(engine_error)?;
    meta.insert(tables::NEXT_NAME, u64::from(last) + 1).map_err(engine_error)?;
    meta.insert(tables::LOG_BYTES, bytes).map_err(engine_error)?;
    Ok(())
}
