//! Counts for itself what runs and what starts, by queue and by kind, and knows nothing of how the core does: no limit may
//! be exceeded by anything that starts after it was set.

use std::collections::BTreeMap;

use super::*;
use runner_store::command::Pause;

#[derive(Debug, Default)]
pub(super) struct Auditor {
    gates: BTreeMap<GateOf, Watched>,
    running: BTreeMap<GateOf, u32>,
    /// What holds for each key of a kind; and since when its jobs run in order.
    keys: BTreeMap<(TenantId, KindId), (KeyLimits, u64)>,
    by_hand: bool,
}

#[derive(Debug)]
struct Watched {
    limits: Limits,
    /// Jobs that may start, as a fraction; and when it was counted.
    tokens: f64,
    since: u64,
}

impl Watched {
    fn tokens(&self, now: u64) -> f64 {
        let Some(rate) = self.limits.rate else { return f64::INFINITY };
        let came = (now - self.since) as f64 * f64::from(rate.jobs) / rate.per.0 as f64;
        (self.tokens + came).min(f64::from(rate.burst))
    }

    fn is_paused(&self, now: u64) -> bool {
        match self.limits.pause {
            None => false,
            Some(Pause::Open) => true,
            Some(Pause::Until(until)) => now < until.0,
        }
    }
}

fn gates(lane: Lane) -> Vec<GateOf> {
    let mut gates = vec![GateOf::Queue(lane.tenant, lane.queue), GateOf::Kind(lane.tenant, lane.kind)];
    if !lane.key.is_none() {
        gates.push(GateOf::Key(KeyOf { tenant: lane.tenant, kind: lane.kind, key: lane.key }));
    }
    gates
}

fn is_key_of(gate: GateOf, (tenant, kind): (TenantId, KindId)) -> bool {
    matches!(gate, GateOf::Key(of) if (of.tenant, of.kind) == (tenant, kind))
}

fn plain(limits: KeyLimits) -> Limits {
    Limits { concurrency: limits.concurrency, rate: limits.rate, pause: None }
}

impl Auditor {
    pub(super) fn set(&mut self, of: GateOf, limits: Limits, now: u64) {
        let burst = limits.rate.map_or(0.0, |rate| f64::from(rate.burst));
        let had = self.gates.get(&of).filter(|gate| gate.limits.rate.is_some()).map(|gate| gate.tokens(now));
        // What there was stays, as far as it fits.
        let tokens = had.map_or(burst, |tokens| tokens.min(burst));
        self.gates.insert(of, Watched { limits, tokens, since: now });
    }

    /// The same for each key of a kind. One that is met later has all its tokens.
    pub(super) fn set_keys(&mut self, kind: (TenantId, KindId), limits: KeyLimits, now: u64) {
        let known: Vec<GateOf> = self.gates.keys().copied().filter(|of| is_key_of(*of, kind)).collect();
        for of in known {
            let old = &self.gates[&of];
            let burst = old.limits.rate.map_or(0.0, |rate| f64::from(rate.burst));
            if old.tokens(now) > burst - 1e-6 {
                // A key that has all its tokens is as good as one that was never met.
                self.gates.remove(&of);
            }
            self.set(of, plain(limits), now);
        }
        let since = self.keys.get(&kind).filter(|(old, _)| old.in_order).map_or(now, |(_, since)| *since);
        self.keys.insert(kind, (limits, since));
    }

    fn meet(&mut self, lane: Lane, now: u64) {
        for of in gates(lane) {
            let GateOf::Key(key) = of else { continue };
            let Some((limits, _)) = self.keys.get(&(key.tenant, key.kind)).copied() else { continue };
            if !self.gates.contains_key(&of) {
                self.set(of, plain(limits), now);
            }
        }
    }

    /// An operator has started a job that had to wait for others.
    pub(super) fn started_by_hand(&mut self) {
        self.by_hand = true;
    }

    pub(super) fn has_started_by_hand(&self) -> bool {
        self.by_hand
    }

    pub(super) fn in_order(&self, of: KeyOf) -> bool {
        self.keys.get(&(of.tenant, of.kind)).is_some_and(|(limits, _)| limits.in_order)
    }

    pub(super) fn in_order_since(&self, of: KeyOf) -> u64 {
        self.keys.get(&(of.tenant, of.kind)).map_or(0, |(_, since)| *since)
    }

    pub(super) fn starts(&mut self, lane: Lane, jobs: u64, now: u64) {
        self.meet(lane, now);
        for of in gates(lane) {
            let running = self.running.entry(of).or_default();
            *running += 1;
            let Some(gate) = self.gates.get_mut(&of) else { continue };
            assert!(!gate.is_paused(now), "{of:?} is paused at {now}");
            let most = gate.limits.concurrency.unwrap_or(u32::MAX);
            assert!(*running <= most, "{running} of {of:?} run at {now}, at most {most} may");
            let left = gate.tokens(now) - jobs as f64;
            assert!(left > -0.01, "{of:?} starts {jobs} at {now} and had {} tokens", left + jobs as f64);
            (gate.tokens, gate.since) = (left, now);
        }
    }

    pub(super) fn ends(&mut self, lane: Lane) {
        for of in gates(lane) {
            *self.running.get_mut(&of).expect("it started") -= 1;
        }
    }

    /// Whether all limits would let one more job of a lane start.
    pub(super) fn lets(&self, lane: Lane, now: u64) -> bool {
        gates(lane).iter().filter_map(|of| Some((of, self.gates.get(of)?))).all(|(of, gate)| {
            let running = self.running.get(of).copied().unwrap_or(0);
            !gate.is_paused(now)
                && gate.limits.concurrency.is_none_or(|most| running < most)
                && gate.tokens(now) >= 1.01
        })
    }
}
