//! Which job of each queue has been available longest: a row for each lane and priority, found by skipping from one to the
//! next, and never a scan of what waits.

use redb::{Range, ReadableTable};

use super::{View, job};
use crate::command::{Lane, Oldest, OldestOfQueues, limits};
use crate::engine::redb::{engine_error, tables};
use crate::error::StoreError;
use crate::index::{LaneKey, behind_priority};
use crate::job::JobRef;

/// Steps to what may be near: together they cost about as much as looking for it from the root of the table.
const STEPS_MAX: usize = 24;

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
    let mut walk = Walk::new(lanes)?;
    for _ in 0..form.most {
        let Some(key) = walk.at else { break };
        let first = (form.key_of)(&key);
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
            walk.go_to(&(form.key)(&LaneKey { lane, order }))?;
            head = walk.at.filter(|key| *key <= last).map(|key| (form.key_of)(&key));
        }
        walk.go_to(&last)?;
        if walk.at == Some(last) {
            walk.step()?;
        }
    }
    Ok(())
}

/// A way through a table that only goes on.
struct Walk<'a, const N: usize, T: ReadableTable<&'static [u8; N], ()>> {
    table: &'a T,
    rest: Range<'a, &'static [u8; N], ()>,
    /// Where it is; none: behind the last.
    at: Option<[u8; N]>,
}

impl<'a, const N: usize, T: ReadableTable<&'static [u8; N], ()>> Walk<'a, N, T> {
    fn new(table: &'a T) -> Result<Self, StoreError> {
        let rest = table.range::<&[u8; N]>(..).map_err(engine_error)?;
        let mut walk = Self { table, rest, at: None };
        walk.step()?;
        Ok(walk)
    }

    fn step(&mut self) -> Result<(), StoreError> {
        let next = self.rest.next().transpose().map_err(engine_error)?;
        self.at = next.map(|(key, _)| *key.value());
        Ok(())
    }

    /// Goes on to the first entry that is not before this one: step by step where that is near.
    fn go_to(&mut self, to: &[u8; N]) -> Result<(), StoreError> {
        for _ in 0..STEPS_MAX {
            if self.at.is_none_or(|at| at >= *to) {
                return Ok(());
            }
            self.step()?;
        }
        if self.at.is_some_and(|at| at < *to) {
            self.rest = self.table.range::<&[u8; N]>(to..).map_err(engine_error)?;
            self.step()?;
        }
        Ok(())
    }
}
