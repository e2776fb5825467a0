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

/// The same for lanes of either width of key: those of jobs without a key, and those of keys.
macro_rules! oldest_in {
    ($name:ident, $width:literal, $most:expr, $bounds:path, $to:path, $of:path) => {
        fn $name(
            lanes: &impl ReadableTable<&'static [u8; $width], ()>,
            jobs: &impl ReadableTable<&'static [u8; 12], &'static [u8]>,
            oldest: &mut Vec<Oldest>,
        ) -> Result<(), StoreError> {
            let mut behind: Option<[u8; $width]> = None;
            let most: u32 = $most;
            for _ in 0..most {
                let from = behind.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let mut range = lanes.range::<&[u8; $width]>((from, Bound::Unbounded)).map_err(engine_error)?;
                let Some((key, _)) = range.next().transpose().map_err(engine_error)? else { break };
                let first: LaneKey = $of(key.value());
                let lane = first.lane;
                let last = $bounds(lane).1;
                // Its row says by what the lane is ordered; the others' keys say the rest.
                let head_of_all = job(jobs, JobRef { tenant: lane.tenant, job: first.order.id })?;
                let by = head_of_all.map(|job| job.order).unwrap_or_default();
                let mut head = Some(first);
                for _ in 0..limits::PRIORITIES_READ {
                    let Some(place) = head.map(|head| head.order) else { break };
                    let since = place.parts(by).1;
                    Oldest { tenant: lane.tenant, queue: lane.queue, since }.join(oldest);
                    let Some(order) = behind_priority(by, place) else { break };
                    let from = $to(&LaneKey { lane, order });
                    let mut range = lanes.range::<&[u8; $width]>(&from..=&last).map_err(engine_error)?;
                    let next = range.next().transpose().map_err(engine_error)?;
                    head = next.map(|(key, _)| $of(key.value()));
                }
                behind = Some(last);
            }
            Ok(())
        }
    };
}

oldest_in!(of_lanes, 31, u32::MAX, tables::lane_bounds, tables::lane, tables::lane_of);
oldest_in!(of_keys, 40, limits::KEYED_LANES_READ, tables::keyed_lane_bounds, tables::keyed_lane, tables::keyed_lane_of);

impl View {
    pub(super) fn oldest(&self) -> Result<Vec<Oldest>, StoreError> {
        let jobs = self.0.open_table(tables::JOBS).map_err(engine_error)?;
        let mut oldest: Vec<Oldest> = Vec::new();
        of_lanes(&self.0.open_table(tables::LANES).map_err(engine_error)?, &jobs, &mut oldest)?;
        of_keys(&self.0.open_table(tables::KEYED_LANES).map_err(engine_error)?, &jobs, &mut oldest)?;
        Ok(oldest)
    }
}
