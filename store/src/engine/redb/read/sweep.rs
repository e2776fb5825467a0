//! What a sweep looks at: what has expired, which keys are over, the oldest events, and the first finished jobs of each
//! tenant and state. Whether any of it goes is decided elsewhere.

use std::ops::Bound;

use redb::{ReadableTable, WriteTransaction};

use super::{Rows, put_scope};
use crate::codec;
use crate::command::{Scope, Sweep, limits};
use crate::engine::redb::{damaged, engine_error, tables};
use crate::engine::{EVENT_BYTES_BESIDE, SWEEP_GROUPS_MAX, WorkingSet};
use crate::error::StoreError;
use crate::index::EndKey;
use crate::job::{JobId, JobRef, Seq, Time};
use crate::log::LogEntry;

/// What may be removed, expire or be forgotten.
pub(super) fn swept(from: &WriteTransaction, sweep: Sweep, set: &mut WorkingSet) -> Result<(), StoreError> {
    let budget = sweep.budget.min(limits::SWEPT_MAX) as usize;
    {
        let rows = Rows::open(from)?;
        let expiry = from.open_table(tables::EXPIRY).map_err(engine_error)?;
        for entry in expiry.range::<&[u8; 20]>(..=&tables::due_until(set.now)).map_err(engine_error)?.take(budget) {
            let at = tables::expiry_of(entry.map_err(engine_error)?.0.value()).at();
            rows.put(at, set)?;
            set.expiring.push(at);
        }
        let until = from.open_table(tables::UNIQUES_UNTIL).map_err(engine_error)?;
        for entry in until.iter().map_err(engine_error)?.take(budget) {
            let (key, until) = tables::key_until_of(entry.map_err(engine_error)?.0.value());
            if until > set.now {
                break;
            }
            set.expired_uniques.push((key, until));
            let Some(record) = rows.unique(key)? else { continue };
            set.uniques.insert(key, record);
            rows.put(JobRef { tenant: key.tenant, job: record.job }, set)?;
        }
    }
    let meta = from.open_table(tables::META).map_err(engine_error)?;
    set.oldest.1 = meta.get(tables::LOG_BYTES).map_err(engine_error)?.map_or(0, |n| n.value());
    let log = from.open_table(tables::LOG).map_err(engine_error)?;
    for entry in log.iter().map_err(engine_error)?.take(budget * 4) {
        let (key, value) = entry.map_err(engine_error)?;
        let event: LogEntry = codec::decode(value.value()).map_err(|e| damaged("log", key.value(), e))?;
        let bytes = u32::try_from(value.value().len() + EVENT_BYTES_BESIDE).unwrap_or(u32::MAX);
        set.oldest.0.push((Seq(u64::from_be_bytes(*key.value())), event.at, bytes));
    }
    ended(from, sweep.after, budget, set)
}

fn ended(
    from: &WriteTransaction,
    after: Option<EndKey>,
    budget: usize,
    set: &mut WorkingSet,
) -> Result<(), StoreError> {
    let table = from.open_table(tables::ENDED).map_err(engine_error)?;
    let settings = from.open_table(tables::SETTINGS).map_err(engine_error)?;
    let totals = from.open_table(tables::TOTALS).map_err(engine_error)?;
    let mut start = after.map(|key| tables::ended(&key));
    for _ in 0..SWEEP_GROUPS_MAX {
        let first = match &start {
            None => table.first().map_err(engine_error)?.map(|(key, _)| tables::ended_of(key.value())),
            Some(start) => {
                let range = (Bound::Excluded(start), Bound::Unbounded);
                let mut rest = table.range::<&[u8; 21]>(range).map_err(engine_error)?;
                rest.next().transpose().map_err(engine_error)?.map(|(key, _)| tables::ended_of(key.value()))
            }
        };
        let Some(first) = first else {
            set.ended_all = true;
            return Ok(());
        };
        if set.ended.len() >= budget * 4 {
            return Ok(());
        }
        let last = tables::ended(&EndKey { at: Time(u64::MAX), id: JobId(u64::MAX), ..first });
        for entry in table.range::<&[u8; 21]>(&tables::ended(&first)..=&last).map_err(engine_error)?.take(budget) {
            set.ended.push(tables::ended_of(entry.map_err(engine_error)?.0.value()));
        }
        put_scope(&settings, &totals, &Scope::Tenant(first.tenant), set)?;
        start = Some(last);
    }
    Ok(())
}
