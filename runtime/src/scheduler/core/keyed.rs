//! Jobs with a key: how many of each key may run at once, how many may start in a time, and whether they run one after
//! another, in the order of their lane.
//!
//! The jobs of a key stand in lanes of their own. Those of one tenant, queue and kind are kept together, in place of the lane
//! that they would share without keys ([`Keyed`]): apart those of which something may start, what comes first first. So a
//! claim looks at no more lanes of keys than it wants jobs, and a key at its limit costs nothing until that changes. What
//! each key lets through is said in [`keys`](super::keys).
//!
//! Jobs that run in order wait for every job of their key that has begun and not ended, which the store counts: it tells of a
//! commit before it answers it, so that what is known here is never behind what was claimed. What has begun and is available
//! again stands in a lane apart, goes first, and waits for nothing but its turn. What an operator starts by hand waits
//! for nobody, and the others of its key wait for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use runner_store::command::{Grant, Lane};
use runner_store::index::{KeyOf, Order};
use runner_store::job::{KeyHash, Millis};

use super::batch::Arrivals;
use super::keys::{Place, key_of};
use super::{Core, Moment};
use crate::wasm::manifest::Batch;

/// The lanes of all keys of a tenant, queue and kind that are not empty.
#[derive(Debug, Default)]
pub(super) struct Keyed {
    lanes: HashMap<(KeyHash, bool), KeyedLane>,
    /// Those of which something may start, what comes first first.
    open: BTreeSet<(Order, KeyHash, bool)>,
    /// How many runs that would be.
    could: u64,
}

#[derive(Debug)]
struct KeyedLane {
    /// No tenant may have so many that they do not fit.
    available: u32,
    head: Order,
    /// Runs, or calls, that may start of it.
    could: u32,
    /// When its jobs came, where they share calls.
    arrivals: Option<Box<Arrivals>>,
}

/// What a lane of a key takes while it has jobs: its own, its place among those that may start, and its key's.
#[cfg(test)]
pub(super) const BYTES_OF_A_LANE: usize = size_of::<((KeyHash, bool), KeyedLane)>()
    + size_of::<(Order, KeyHash, bool)>()
    + size_of::<(KeyOf, super::keys::Key)>()
    + size_of::<Place>();

/// What a claim that is being put together has of keys.
#[derive(Debug, Default)]
pub(super) struct Granted(BTreeMap<KeyOf, u32>);

impl Keyed {
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Runs that may start.
    pub(super) fn could(&self) -> u64 {
        self.could
    }

    /// Lanes of which something may start, what comes first first.
    pub(super) fn open_lanes(&self, of: Lane) -> impl Iterator<Item = Lane> {
        self.open.iter().map(move |(_, key, again)| Lane { key: *key, again: *again, ..of })
    }

    fn set_could(&mut self, at: (KeyHash, bool), could: u32) {
        let Some(lane) = self.lanes.get_mut(&at) else { return };
        let place = (lane.head, at.0, at.1);
        if could > 0 {
            self.open.insert(place);
        } else {
            self.open.remove(&place);
        }
        self.could = self.could - u64::from(lane.could) + u64::from(could);
        lane.could = could;
    }
}

impl KeyedLane {
    /// Whether there are as many as a call takes, or the first has lingered.
    fn has_gathered(&self, batch: Batch, now: Moment) -> bool {
        let lingered = || self.arrivals.as_ref()?.lingered_at(batch.linger);
        self.available >= batch.max || lingered().is_some_and(|at| at <= now.uptime)
    }
}

impl Core {
    /// Jobs of a lane of a key have come or gone, or another one is its first now; none: it is empty.
    pub(super) fn keyed_available(&mut self, lane: Lane, difference: i64, head: Option<Order>) {
        let (Some(of), now) = (key_of(lane), self.now) else { return };
        let at = (lane.key, lane.again);
        let state = self.tenant(lane.tenant).lanes.entry(lane.of_all_keys()).or_default();
        let shared = state.serves.as_ref().is_some_and(|by| by.batch.is_some()) && !lane.suspect;
        let nothing = state.available == 0 && state.keyed.as_ref().is_none_or(|keyed| keyed.lanes.is_empty());
        let keyed = state.keyed.get_or_insert_default();
        keyed.set_could(at, 0);
        let place = Place { queue: lane.queue, suspect: lane.suspect, again: lane.again };
        let Some(head) = head else {
            keyed.lanes.remove(&at);
            if keyed.lanes.is_empty() {
                state.keyed = None;
            }
            if let Some(key) = self.keys.keys.get_mut(&of) {
                key.places.retain(|other| *other != place);
            }
            self.keyed_open_or_not(lane);
            self.forget_key(of);
            return self.look_again();
        };
        let known = keyed.lanes.entry(at).or_insert(KeyedLane { available: 0, head, could: 0, arrivals: None });
        let before = known.available;
        known.head = head;
        // What has a first job is not empty.
        known.available = u32::try_from((i64::from(before) + difference).max(1)).unwrap_or(u32::MAX);
        if shared {
            let arrivals = known.arrivals.get_or_insert_default();
            arrivals.keep(true, before.into(), now.uptime);
            arrivals.changed(difference, now.uptime);
        }
        let key = self.key(of);
        if !key.places.contains(&place) {
            key.places.push(place);
        }
        if nothing {
            self.comes_anew(lane.tenant);
        }
        self.look_at_lane(lane);
        if difference > 0 {
            self.is_new(lane.tenant);
        }
        self.look_again();
    }

    /// The jobs of a lane share calls from now on, or do not.
    pub(super) fn keyed_served(&mut self, lane: Lane, shared: bool) {
        let now = self.now;
        let Some(state) = self.tenant(lane.tenant).lanes.get_mut(&lane) else { return };
        let Some(keyed) = &mut state.keyed else { return };
        let mut lanes = Vec::with_capacity(keyed.lanes.len());
        for ((key, again), of_key) in &mut keyed.lanes {
            let available = of_key.available;
            let arrivals = shared.then(|| of_key.arrivals.take().unwrap_or_default());
            of_key.arrivals = arrivals.map(|mut arrivals| {
                arrivals.keep(true, available.into(), now.uptime);
                arrivals
            });
            lanes.push(Lane { key: *key, again: *again, ..lane });
        }
        lanes.into_iter().for_each(|lane| self.look_at_lane(lane));
    }

    pub(super) fn look_at_lane(&mut self, lane: Lane) {
        let (Some(of), now) = (key_of(lane), self.now) else { return };
        let limits = self.key_limits(of);
        let Some(key) = self.keys.keys.get_mut(&of) else { return };
        let (calls, jobs, mut wake) = key.room(&limits, lane.again, now);
        let Some(tenant) = self.tenants.get_mut(lane.tenant) else { return };
        let batch = tenant.batch(lane);
        let Some(state) = tenant.lanes.get_mut(&lane.of_all_keys()) else { return };
        let Some(keyed) = &mut state.keyed else { return };
        let Some(known) = keyed.lanes.get(&(lane.key, lane.again)) else { return };
        let could = match (batch, &known.arrivals) {
            (Some(batch), Some(arrivals)) => {
                let gathered = known.has_gathered(batch, now);
                // Both have to be there.
                wake = wake.max(arrivals.lingered_at(batch.linger).filter(|at| !gathered && *at > now.uptime));
                u32::from(gathered && calls > 0 && jobs > 0)
            }
            _ => calls.min(jobs).min(known.available),
        };
        let more = could > known.could;
        keyed.set_could((lane.key, lane.again), could);
        if let Some(at) = wake
            && key.wake.is_none_or(|before| at < before || before <= now.uptime)
        {
            key.wake = Some(at);
            self.keys.wakes.insert((at, of));
        }
        self.keyed_open_or_not(lane);
        if more {
            self.look_again();
        }
    }

    fn keyed_open_or_not(&mut self, lane: Lane) {
        let lane = lane.of_all_keys();
        let in_order = self.keys.limits.get(&(lane.tenant, lane.kind)).is_some_and(|limits| limits.in_order);
        let state = self.tenants.get(lane.tenant).and_then(|tenant| tenant.lanes.get(&lane));
        let open = state.and_then(|state| state.keyed.as_ref()).is_some_and(|keyed| keyed.is_open());
        if in_order && open {
            self.keys.in_order.insert(lane);
        } else {
            self.keys.in_order.remove(&lane);
        }
        self.lane_open_or_not(lane);
    }

    /// Whether the jobs with a key of a lane run in order: then they are not claimed ahead.
    pub(super) fn runs_in_order(&self, lane: Lane) -> bool {
        self.keys.in_order.contains(&lane)
    }

    /// Whether the jobs of a lane run in order.
    pub(super) fn is_ordered(&self, lane: Lane) -> bool {
        key_of(lane).is_some_and(|of| self.key_limits(of).in_order)
    }

    /// Lanes that have something to start that is not claimed ahead, as it runs in order.
    pub(super) fn lanes_in_order(&self) -> impl Iterator<Item = Lane> {
        self.keys.in_order.iter().copied()
    }

    /// Whether a lane of a key has gathered a call.
    pub(super) fn key_gathered(&self, lane: Lane, batch: Batch, now: Moment) -> bool {
        self.keyed_lane(lane).is_some_and(|known| known.has_gathered(batch, now))
    }

    /// When the first job of a lane of a key will have lingered.
    pub(super) fn key_lingers(&self, lane: Lane, linger: Millis) -> Option<Millis> {
        self.keyed_lane(lane)?.arrivals.as_ref()?.lingered_at(linger)
    }

    fn keyed_lane(&self, lane: Lane) -> Option<&KeyedLane> {
        let state = self.tenants.get(lane.tenant)?.lanes.get(&lane.of_all_keys())?;
        state.keyed.as_ref()?.lanes.get(&(lane.key, lane.again))
    }

    /// What comes first of a lane whose jobs run in order.
    #[must_use]
    pub fn first_in_order(&self, lane: Lane) -> Option<Order> {
        let in_order = self.key_limits(key_of(lane)?).in_order;
        self.keyed_lane(lane).filter(|_| in_order).map(|known| known.head)
    }

    /// Whether something of these lanes that runs in order comes before what was claimed ahead of its queue, or was taken
    /// last.
    pub(super) fn comes_before_ready(&self, lanes: &[Grant]) -> bool {
        let first = |grant: &Grant| {
            let tenant = self.tenants.get(grant.lane.tenant).filter(|_| self.runs_in_order(grant.lane))?;
            let (first, ..) = tenant.lanes.get(&grant.lane)?.keyed.as_ref()?.open.first()?;
            Some(*first < tenant.ready.last_of(grant.lane.queue)?)
        };
        lanes.iter().any(|grant| first(grant).unwrap_or_default())
    }

    /// Where runs of a lane are to be claimed, up to `max`: the lane itself, and lanes of its keys. Of these as many as there
    /// are runs, what comes first first: whichever the first `max` jobs are, they are in these.
    pub(super) fn expand(&self, lane: Lane, max: u32, in_order: bool, granted: &mut Granted, grants: &mut Vec<Grant>) {
        let state = self.tenants.get(lane.tenant).and_then(|tenant| tenant.lanes.get(&lane));
        let Some(state) = state.filter(|_| max > 0) else { return };
        let available = u32::try_from(state.available).unwrap_or(u32::MAX).min(max);
        if available > 0 {
            grants.push(Grant { lane, max: available });
            if lane.suspect {
                return;
            }
        }
        let Some(keyed) = &state.keyed else { return };
        if !in_order && self.runs_in_order(lane) {
            return;
        }
        let mut left = max;
        for (lane, of) in keyed.open_lanes(lane).filter_map(|lane| Some((lane, key_of(lane)?))) {
            if left == 0 {
                break;
            }
            let could = keyed.lanes.get(&(lane.key, lane.again)).map_or(0, |known| known.could);
            let before = granted.0.entry(of).or_default();
            let more = could.saturating_sub(*before).min(max);
            if more > 0 {
                *before += more;
                left -= 1;
                grants.push(Grant { lane, max: more });
            }
        }
    }
}
