//! Reading lanes of keys, and which jobs of keys have begun and not ended.

use std::collections::BTreeMap;

use redb::ReadableTable;

use super::View;
use crate::command::{KeyedLane, KeysInUse, Lane, limits};
use crate::engine::Heads;
use crate::engine::redb::{engine_error, tables};
use crate::error::StoreError;
use crate::index::{BegunKey, KeyOf};
use crate::job::{JobId, JobRef};

/// The first jobs of a lane.
pub(super) fn heads(
    lanes: &impl ReadableTable<&'static [u8; 40], ()>,
    lane: Lane,
    max: u32,
) -> Result<Heads, StoreError> {
    let (first, last) = tables::keyed_lane_bounds(lane);
    let mut heads = Heads { jobs: Vec::new(), all: true };
    for entry in lanes.range::<&[u8; 40]>(&first..=&last).map_err(engine_error)? {
        if heads.jobs.len() == max as usize {
            heads.all = false;
            break;
        }
        let key = tables::keyed_lane_of(entry.map_err(engine_error)?.0.value());
        heads.jobs.push(JobRef { tenant: lane.tenant, job: key.order.id });
    }
    Ok(heads)
}

impl View {
    /// Everything of keys that whoever starts jobs must know first: as many entries are read as jobs with a key are
    /// available or have begun.
    pub(super) fn keys_in_use(&self) -> Result<KeysInUse, StoreError> {
        let mut lanes: Vec<KeyedLane> = Vec::new();
        for entry in self.0.open_table(tables::KEYED_LANES).map_err(engine_error)?.iter().map_err(engine_error)? {
            let key = tables::keyed_lane_of(entry.map_err(engine_error)?.0.value());
            match lanes.last_mut() {
                Some(last) if last.lane == key.lane => last.jobs += 1,
                _ => lanes.push(KeyedLane { lane: key.lane, jobs: 1, head: key.order }),
            }
        }
        let mut begun: BTreeMap<KeyOf, u64> = BTreeMap::new();
        for entry in self.0.open_table(tables::BEGUN).map_err(engine_error)?.iter().map_err(engine_error)? {
            let key = tables::begun_of(entry.map_err(engine_error)?.0.value());
            *begun.entry(key.of).or_default() += 1;
        }
        Ok(KeysInUse { lanes, begun: begun.into_iter().collect() })
    }

    /// The jobs of a key that have begun and not ended.
    pub(super) fn begun(&self, of: KeyOf, limit: u32) -> Result<Vec<JobId>, StoreError> {
        let table = self.0.open_table(tables::BEGUN).map_err(engine_error)?;
        let key = |id| tables::begun(&BegunKey { of, id: JobId(id) });
        let range = table.range::<&[u8; 24]>(&key(0)..=&key(u64::MAX)).map_err(engine_error)?;
        let id = |entry: Result<(redb::AccessGuard<'_, &'static [u8; 24]>, redb::AccessGuard<'_, ()>), _>| {
            entry.map(|(key, _)| tables::begun_of(key.value()).id).map_err(engine_error)
        };
        range.take(limit.min(limits::PAGE_ROWS_MAX) as usize).map(id).collect()
    }
}
