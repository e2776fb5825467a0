//! What there is of each key of a kind: how many of its jobs are in hand, which have begun, what of its rate is left, and so
//! how many more it lets through. Where its jobs stand, and which of them come first, [`keyed`](super::keyed) knows.
//!
//! Of a key that has no available job, nothing in hand and nothing begun, nothing is kept.

use std::collections::{BTreeSet, HashMap};

use runner_store::command::{Lane, Rate};
use runner_store::index::KeyOf;
use runner_store::job::{KindId, Millis, QueueId, TenantId};

use super::gate::{Bucket, GateOf, LEAD, Shut};
use super::{Action, Call, Core, Moment};

/// Keys of which nothing is left but tokens that have yet to come are looked for when there are so many keys, and whenever
/// there are twice as many as the last time.
const SWEPT_AT_MIN: usize = 1_024;

/// What may run of each key of a kind; none: as much as others let.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyLimits {
    /// Calls at once; those that share a call count once.
    pub concurrency: Option<u32>,
    /// Jobs that start in a time.
    pub rate: Option<Rate>,
    /// Whether its jobs run one after another, in order. Such kinds have no calls of several jobs.
    pub in_order: bool,
}

/// What there is of one key of a kind.
#[derive(Debug, Default)]
pub(super) struct Key {
    /// Where its jobs are available.
    pub(super) places: Vec<Place>,
    /// Claimed calls that wait for a slot, and the jobs in them.
    ready: u32,
    ready_jobs: u32,
    /// Calls that have one.
    running: u32,
    /// Jobs that have begun and not ended, as the store says.
    begun: i32,
    bucket: Bucket,
    /// When its lanes are looked at again.
    pub(super) wake: Option<Millis>,
}

/// A lane of a key, as far as its key does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) queue: QueueId,
    pub(super) suspect: bool,
    pub(super) again: bool,
}

/// Everything about keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Kinds that limit or order by key.
    pub(super) limits: HashMap<(TenantId, KindId), KeyLimits>,
    pub(super) keys: HashMap<KeyOf, Key>,
    swept_at: usize,
    /// When a token comes or a batch has lingered.
    pub(super) wakes: BTreeSet<(Millis, KeyOf)>,
    /// Lanes that have something open of kinds that run in order.
    pub(super) in_order: BTreeSet<Lane>,
}

pub(super) fn key_of(lane: Lane) -> Option<KeyOf> {
    (!lane.key.is_none()).then_some(KeyOf { tenant: lane.tenant, kind: lane.kind, key: lane.key })
}

impl Key {
    fn in_hand(&self) -> u32 {
        self.ready.saturating_add(self.running)
    }

    /// How many more calls, and jobs, may be claimed; and when that changes by itself.
    pub(super) fn room(&self, limits: &KeyLimits, again: bool, now: Moment) -> (u32, u32, Option<Millis>) {
        let mut calls = limits.concurrency.map_or(u32::MAX, |most| most.saturating_sub(self.in_hand()));
        if limits.in_order {
            let waits = self.in_hand() > 0 || (!again && self.begun > 0);
            calls = if waits { 0 } else { calls.min(1) };
        }
        let Some(rate) = limits.rate else { return (calls, u32::MAX, None) };
        let soon = Millis(now.uptime.0.saturating_add(LEAD.0));
        let jobs = self.bucket.tokens(rate, soon).saturating_sub(self.ready_jobs);
        let wanted = self.ready_jobs.saturating_add(1);
        let opens = || Millis(self.bucket.opens(rate, wanted, now.uptime).0.saturating_sub(LEAD.0));
        let wake = (jobs == 0 && wanted <= rate.burst).then(opens).filter(|at| *at > now.uptime);
        (calls, jobs, wake)
    }

    /// Whether nothing would be lost with it.
    fn is_idle(&self, rate: Option<Rate>, now: Millis) -> bool {
        let used = !self.places.is_empty() || self.in_hand() > 0 || self.begun > 0;
        !used && rate.is_none_or(|rate| self.bucket.is_full(rate, now))
    }
}

impl Core {
    /// More, or fewer, jobs of a key have begun and not ended.
    pub(super) fn begun(&mut self, of: KeyOf, difference: i64) {
        let key = self.key(of);
        key.begun = i32::try_from(i64::from(key.begun) + difference).unwrap_or(i32::MAX);
        self.look_at_key(of);
    }

    /// New limits of the keys of a kind hold from now on. Tokens that are left stay, as far as they fit.
    pub(super) fn set_key_limits(&mut self, kind: (TenantId, KindId), limits: KeyLimits, actions: &mut Vec<Action>) {
        let now = self.now;
        let before = self.keys.limits.get(&kind).copied().unwrap_or_default();
        if limits == KeyLimits::default() {
            self.keys.limits.remove(&kind);
        } else {
            self.keys.limits.insert(kind, limits);
        }
        let of_kind: Vec<KeyOf> = self.keys.keys.keys().filter(|of| (of.tenant, of.kind) == kind).copied().collect();
        let mut over = BTreeSet::new();
        for of in &of_kind {
            let Some(key) = self.keys.keys.get_mut(of) else { continue };
            // One that has all its tokens is as good as one that is not known.
            let had = before.rate.filter(|rate| !key.bucket.is_full(*rate, now.uptime));
            key.bucket = Bucket::instead(had.map(|rate| (rate, &key.bucket)), limits.rate, now.uptime);
            let too_many = limits.concurrency.is_some_and(|most| key.in_hand() > most);
            let too_fast = limits.rate.is_some_and(|rate| key.ready_jobs > key.bucket.tokens(rate, now.uptime).max(1));
            if key.ready > 0 && (too_many || too_fast || (limits.in_order && !before.in_order)) {
                over.insert(*of);
            }
        }
        if !over.is_empty() {
            self.hand_back_of(kind.0, &|lane| key_of(lane).is_some_and(|of| over.contains(&of)), actions);
        }
        of_kind.into_iter().for_each(|of| self.look_at_key(of));
        self.look_again();
    }

    /// Looks at the lanes of keys whose time has come.
    pub(super) fn wake_keys(&mut self) {
        while let Some((at, of)) = self.keys.wakes.first().copied().filter(|(at, _)| *at <= self.now.uptime) {
            self.keys.wakes.pop_first();
            if let Some(key) = self.keys.keys.get_mut(&of).filter(|key| key.wake == Some(at)) {
                key.wake = None;
                self.look_at_key(of);
                self.look_again();
            }
        }
    }

    pub(super) fn next_key_wake(&self) -> Option<Millis> {
        self.keys.wakes.first().map(|(at, _)| *at)
    }

    pub(super) fn has_key_limits(&self) -> bool {
        !self.keys.limits.is_empty()
    }

    pub(super) fn key_limits(&self, of: KeyOf) -> KeyLimits {
        self.keys.limits.get(&(of.tenant, of.kind)).copied().unwrap_or_default()
    }

    /// The key; one that is met for the first time has all its tokens.
    pub(super) fn key(&mut self, of: KeyOf) -> &mut Key {
        let rate = self.key_limits(of).rate;
        let now = self.now.uptime;
        if self.keys.keys.len() >= self.keys.swept_at.max(SWEPT_AT_MIN) {
            let Keys { limits, keys, .. } = &mut self.keys;
            let rate = |of: &KeyOf| limits.get(&(of.tenant, of.kind)).and_then(|limits| limits.rate);
            keys.retain(|of, key| !key.is_idle(rate(of), now));
            self.keys.swept_at = self.keys.keys.len().saturating_mul(2);
        }
        let bucket = || rate.map_or_else(Bucket::default, |rate| Bucket::full(rate, now));
        self.keys.keys.entry(of).or_insert_with(|| Key { bucket: bucket(), ..Key::default() })
    }

    pub(super) fn forget_key(&mut self, of: KeyOf) {
        let (rate, now) = (self.key_limits(of).rate, self.now.uptime);
        if self.keys.keys.get(&of).is_some_and(|key| key.is_idle(rate, now)) {
            self.keys.keys.remove(&of);
        }
    }

    /// Something about a key has changed: what of it may start is found out anew.
    fn look_at_key(&mut self, of: KeyOf) {
        let Some(key) = self.keys.keys.get(&of) else { return };
        let lane = |place: &Place| Lane {
            tenant: of.tenant,
            queue: place.queue,
            kind: of.kind,
            suspect: place.suspect,
            key: of.key,
            again: place.again,
        };
        match key.places[..] {
            [] => self.forget_key(of),
            [one] => self.look_at_lane(lane(&one)),
            _ => {
                let lanes: Vec<Lane> = key.places.iter().map(lane).collect();
                lanes.into_iter().for_each(|lane| self.look_at_lane(lane));
            }
        }
    }

    /// How many more calls and jobs of a lane its key lets through.
    pub(super) fn key_room(&self, lane: Lane) -> (u32, u32) {
        let Some(of) = key_of(lane) else { return (u32::MAX, u32::MAX) };
        let Some(key) = self.keys.keys.get(&of) else { return (u32::MAX, u32::MAX) };
        let (calls, jobs, _) = key.room(&self.key_limits(of), lane.again, self.now);
        (calls, jobs)
    }

    /// Whether the key of a call that was claimed lets it through: that it has begun is known by now.
    pub(super) fn key_lets_through(&self, call: &Call) -> bool {
        let Some(of) = key_of(call.lane) else { return true };
        let Some(key) = self.keys.keys.get(&of) else { return true };
        let limits = self.key_limits(of);
        let before_others = call.lane.again || i64::from(key.begun) <= i64::from(call.jobs());
        let (calls, jobs, _) = key.room(&limits, true, self.now);
        calls > 0 && jobs >= call.jobs() && (!limits.in_order || before_others)
    }

    /// When the tokens of its key are there that a claimed call waits for; none: they are.
    pub(super) fn key_tokens_come(&self, call: &Call, now: Moment) -> Option<Millis> {
        let of = key_of(call.lane)?;
        let rate = self.key_limits(of).rate?;
        let key = self.keys.keys.get(&of)?;
        Some(key.bucket.opens(rate, call.jobs(), now.uptime)).filter(|at| *at > now.uptime)
    }

    pub(super) fn key_claimed(&mut self, call: &Call) {
        let jobs = call.jobs();
        self.change_key(call.lane, |key, _, _| {
            key.ready += 1;
            key.ready_jobs += jobs;
        });
    }

    /// A call, or one job of it, leaves those that are ready.
    pub(super) fn key_unready(&mut self, lane: Lane, calls: u32, jobs: u32) {
        self.change_key(lane, |key, _, _| {
            key.ready = key.ready.saturating_sub(calls);
            key.ready_jobs = key.ready_jobs.saturating_sub(jobs);
        });
    }

    pub(super) fn key_started(&mut self, lane: Lane, jobs: u32) {
        self.change_key(lane, |key, limits, now| {
            key.running += 1;
            if let Some(rate) = limits.rate {
                key.bucket.take(rate, jobs, now);
            }
        });
    }

    pub(super) fn key_returned(&mut self, lane: Lane, jobs: u32) {
        self.change_key(lane, |key, limits, now| {
            if let Some(rate) = limits.rate {
                key.bucket.put_back(rate, jobs, now);
            }
        });
    }

    pub(super) fn key_ended(&mut self, lane: Lane) {
        self.change_key(lane, |key, _, _| key.running = key.running.saturating_sub(1));
    }

    fn change_key(&mut self, lane: Lane, change: impl FnOnce(&mut Key, KeyLimits, Millis)) {
        let Some(of) = key_of(lane) else { return };
        let (limits, now) = (self.key_limits(of), self.now.uptime);
        change(self.key(of), limits, now);
        self.look_at_key(of);
    }

    /// Why the key of a lane lets nothing through.
    pub(super) fn key_shut(&self, lane: Lane, now: Moment) -> Option<(GateOf, Shut)> {
        let of = key_of(lane)?;
        let (limits, key) = (self.key_limits(of), self.keys.keys.get(&of)?);
        if limits.in_order && (key.in_hand() > 0 || (!lane.again && key.begun > 0)) {
            return Some((GateOf::Key(of), Shut::Order));
        }
        if let Some(most) = limits.concurrency.filter(|most| key.in_hand() >= *most) {
            return Some((GateOf::Key(of), Shut::Full(most)));
        }
        let (_, jobs, _) = key.room(&limits, lane.again, now);
        let rate = limits.rate.filter(|_| jobs == 0)?;
        let opens = key.bucket.opens(rate, key.ready_jobs.saturating_add(1), now.uptime);
        Some((GateOf::Key(of), Shut::Rate(rate, Millis(opens.0.saturating_sub(now.uptime.0)))))
    }

    /// Keys of which something is kept.
    #[cfg(test)]
    pub(super) fn keys_kept(&self) -> usize {
        self.keys.keys.len()
    }
}
