//! Writing schedules. Answers how many more, or fewer, their tenants have.

use std::collections::BTreeMap;

use redb::WriteTransaction;

use super::totals_of;
use crate::command::{Total, TotalKey};
use crate::engine::redb::{engine_error, tables};
use crate::error::StoreError;
use crate::job::TenantId;

/// Schedules, of which there may be several changes: the last one of each counts.
pub(super) fn write(
    into: &WriteTransaction,
    mut ops: Vec<(Vec<u8>, Option<Vec<u8>>)>,
) -> Result<Vec<(TotalKey, i64)>, StoreError> {
    if ops.is_empty() {
        return Ok(Vec::new());
    }
    // Stable: what came later in the batch stays later.
    ops.sort_by(|(left, _), (right, _)| left.cmp(right));
    let mut table = into.open_table(tables::SCHEDULES).map_err(engine_error)?;
    let mut differences: BTreeMap<TenantId, i64> = BTreeMap::new();
    for (i, (key, record)) in ops.iter().enumerate() {
        if ops.get(i + 1).is_some_and(|(next, _)| next == key) {
            continue;
        }
        let old = match record {
            Some(record) => table.insert(key.as_slice(), record.as_slice()).map_err(engine_error)?.is_some(),
            None => table.remove(key.as_slice()).map_err(engine_error)?.is_some(),
        };
        let (tenant, _) = key.split_first_chunk().expect("a schedule's key begins with its tenant");
        let tenant = TenantId(u32::from_be_bytes(*tenant));
        *differences.entry(tenant).or_default() += i64::from(record.is_some()) - i64::from(old);
    }
    Ok(totals_of(differences, Total::Schedules))
}
