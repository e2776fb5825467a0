//! Which job of each queue has been available longest: a row for each lane and priority, found by skipping from one to the
//! next, and never a scan of what waits.

use std::ops::Bound;

use redb::ReadableTable;

use super::{View, job};
use crate::command::{Oldest, limits};
use crate::engine::redb::{engine_error, tables};
use crate::error::StoreError;
use crate::index::{LaneKey, behind_priority};
use crate::job::JobRef;

impl View {
    pub(super) fn oldest(&self) -> Result<Vec<Oldest>, StoreError> {
        let lanes = self.0.open_table(tables::LANES).map_err(engine_error)?;
        let jobs = self.0.open_table(tables::JOBS).map_err(engine_error)?;
        let mut oldest: Vec<Oldest> = Vec::new();
        let mut behind = None;
        while let Some(first) = first_behind(&lanes, behind)? {
            let lane = first.lane;
            let last = tables::lane_bounds(lane).1;
            // Its row says by what the lane is ordered; the others' keys say the rest.
            let head_of_all = job(&jobs, JobRef { tenant: lane.tenant, job: first.order.id })?;
            let by = head_of_all.map(|job| job.order).unwrap_or_default();
            let mut head = Some(first);
            for _ in 0..limits::PRIORITIES_READ {
                let Some(place) = head.map(|head| head.order) else { break };
                let since = place.parts(by).1;
                Oldest { tenant: lane.tenant, queue: lane.queue, since }.join(&mut oldest);
                let Some(order) = behind_priority(by, place) else { break };
                let from = tables::lane(&LaneKey { lane, order });
                let mut range = lanes.range::<&[u8; 31]>(&from..=&last).map_err(engine_error)?;
                let next = range.next().transpose().map_err(engine_error)?;
                head = next.map(|(key, _)| tables::lane_of(key.value()));
            }
            behind = Some(last);
        }
        Ok(oldest)
    }
}

/// The first entry behind a key, or of all.
fn first_behind(
    lanes: &impl ReadableTable<&'static [u8; 31], ()>,
    behind: Option<[u8; 31]>,
) -> Result<Option<LaneKey>, StoreError> {
    let from = behind.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
    let mut range = lanes.range::<&[u8; 31]>((from, Bound::Unbounded)).map_err(engine_error)?;
    let first = range.next().transpose().map_err(engine_error)?;
    Ok(first.map(|(key, _)| tables::lane_of(key.value())))
}
