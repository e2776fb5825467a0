//! Which job of each queue has been available longest: a row for each lane and priority, found by skipping from one to the
//! next, and never a scan of what waits.

use std::ops::Bound;

use redb::ReadableTable;

use super::{View, job};
use crate::command::{Lane, Oldest, OldestOfQueues, limits};
use crate::engine::redb::{engine_error, tables};
use crate::error::StoreError;
use crate::index::{LaneKey, behind_priority};
use crate::job::JobRef;

/// How a table of lanes has its keys: of jobs without a key, or of those with one.
struct Form<const N: usize> {
    bounds: fn(Lane) -> ([u8; N], [u8; N]),
    key: fn(&LaneKey) -> [u8; N],
    key_of: fn(&[u8; N]) -> LaneKey,
    /// Lanes that are looked at.
    most: u32,
}

const LANES: Form<31> =
    Form { bounds: tables::lane_bounds, key: tables::lane, key_of: tables::lane_of, most: u32::MAX };
const KEYED_LANES: Form<40> = Form {
    bounds: tables::keyed_lane_bounds,
    key: tables::keyed_lane,
    key_of: tables::keyed_lane_of,
    most: limits::KEYED_LANES_READ,
};

impl View {
    pub(super) fn oldest(&self) -> Result<Vec<Oldest>, StoreError> {
        let jobs = self.0.open_table(tables::JOBS).map_err(engine_error)?;
        let mut oldest = OldestOfQueues::default();
        of_lanes(&LANES, &self.0.open_table(tables::LANES).map_err(engine_error)?, &jobs, &mut oldest)?;
        of_lanes(&KEYED_LANES, &self.0.open_table(tables::KEYED_LANES).map_err(engine_error)?, &jobs, &mut oldest)?;
        Ok(oldest.all())
    }
}

fn of_lanes<const N: usize>(
    form: &Form<N>,
    lanes: &impl ReadableTable<&'static [u8; N], ()>,
    jobs: &impl ReadableTable<&'static [u8; 12], &'static [u8]>,
    oldest: &mut OldestOfQueues,
) -> Result<(), StoreError> {
    let mut behind: Option<[u8; N]> = None;
    for _ in 0..form.most {
        let from = behind.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut range = lanes.range::<&[u8; N]>((from, Bound::Unbounded)).map_err(engine_error)?;
        let Some((key, _)) = range.next().transpose().map_err(engine_error)? else { break };
        let first = (form.key_of)(key.value());
        let lane = first.lane;
        let last = (form.bounds)(lane).1;
        // Its row says by what the lane is ordered; the others' keys say the rest.
        let head_of_all = job(jobs, JobRef { tenant: lane.tenant, job: first.order.id })?;
        let by = head_of_all.map(|job| job.order).unwrap_or_default();
        let mut head = Some(first);
        for _ in 0..limits::PRIORITIES_READ {
            let Some(place) = head.map(|head| head.order) else { break };
            oldest.add(Oldest { tenant: lane.tenant, queue: lane.queue, since: place.parts(by).1 });
            let Some(order) = behind_priority(by, place) else { break };
            let from = (form.key)(&LaneKey { lane, order });
            let mut range = lanes.range::<&[u8; N]>(&from..=&last).map_err(engine_error)?;
            let next = range.next().transpose().map_err(engine_error)?;
            head = next.map(|(key, _)| (form.key_of)(key.value()));
        }
        behind = Some(last);
    }
    Ok(())
}
