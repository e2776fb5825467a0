//! What a batch has changed of keys, read back from what it has written.

use redb::{ReadableTable, WriteTransaction};

use crate::command::Lane;
use crate::engine::redb::{engine_error, tables};
use crate::engine::{Change, KeyChanges, key_differences};
use crate::error::StoreError;
use crate::index::Order;

/// The lanes of keys that `changes` touch, with what is first in each now; and the differences of those that have begun.
pub(super) fn changes(into: &WriteTransaction, changes: &[Change]) -> Result<KeyChanges, StoreError> {
    let (lanes, begun) = key_differences(changes);
    if lanes.is_empty() {
        return Ok(KeyChanges { heads: Vec::new(), begun });
    }
    let table = into.open_table(tables::KEYED_LANES).map_err(engine_error)?;
    let head = |lane: Lane| -> Result<(Lane, Option<Order>), StoreError> {
        let (first, last) = tables::keyed_lane_bounds(lane);
        let entry = table.range::<&[u8; 40]>(&first..=&last).map_err(engine_error)?.next().transpose();
        let head = entry.map_err(engine_error)?.map(|(key, _)| tables::keyed_lane_of(key.value()).order);
        Ok((lane, head))
    };
    let heads = lanes.into_iter().map(head).collect::<Result<_, _>>()?;
    Ok(KeyChanges { heads, begun })
}
