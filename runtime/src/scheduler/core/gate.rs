//! What holds the jobs of a queue or of a kind back, beside their tenant's budget and the node: how many may run at once,
//! how many may start in a time, and pauses.
//!
//! What is claimed counts as running. A token of a rate is taken when a run starts, and nothing is claimed for which none is
//! about to come; what is claimed before its token waits for it, and others go before it meanwhile. So a bucket is never
//! overdrawn, and never holds more than its burst. A pause, and a limit that sinks, give
//! back what has not started; what runs, runs on.

use std::collections::BTreeSet;

use runner_store::command::{Lane, Pause, Rate};
use runner_store::index::KeyOf;
use runner_store::job::{KindId, Millis, QueueId, TenantId};

use super::keys::key_of;
use super::{Action, Call, Core, Moment};

/// So long before its token comes a job is claimed, so that it starts with it: where the burst is 1, what comes to a full
/// bucket while the store answers would be lost, once for every token. A few commits.
pub(super) const LEAD: Millis = Millis(10);

/// What has limits of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GateOf {
    /// A tenant's queue.
    Queue(TenantId, QueueId),
    /// A tenant's kind.
    Kind(TenantId, KindId),
    /// A key of a tenant's kind: its limits are its kind's ([`keys`](super::keys)).
    Key(KeyOf),
}

/// What may run of it; none: as much as others let.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Calls at once; those that share a call count once.
    pub concurrency: Option<u32>,
    /// Jobs that start in a time.
    pub rate: Option<Rate>,
    /// Nothing starts meanwhile.
    pub pause: Option<Pause>,
}

/// One queue or kind that has limits.
#[derive(Debug)]
pub(super) struct Gate {
    limits: Limits,
    /// Claimed calls that wait for a slot, and the jobs in them.
    ready: u32,
    ready_jobs: u32,
    /// Calls that have one.
    running: u32,
    bucket: Bucket,
}

/// A token bucket, exact: what is in it is counted in jobs times the period's milliseconds.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    level: u64,
    since: Millis,
}

impl Bucket {
    pub(super) fn full(rate: Rate, now: Millis) -> Self {
        Self { level: u64::from(rate.burst).saturating_mul(rate.per.0), since: now }
    }

    /// The bucket of a rate that is new, or another one now: what was in it stays, as far as it fits.
    pub(super) fn instead(before: Option<(Rate, &Self)>, rate: Option<Rate>, now: Millis) -> Self {
        match (rate, before) {
            (Some(rate), Some((old, bucket))) => {
                let level = u128::from(bucket.level(old, now)) * u128::from(rate.per.0) / u128::from(old.per.0.max(1));
                let full = u64::from(rate.burst).saturating_mul(rate.per.0);
                Self { level: u64::try_from(level).unwrap_or(u64::MAX).min(full), since: now }
            }
            (Some(rate), None) => Self::full(rate, now),
            (None, _) => Self::default(),
        }
    }

    pub(super) fn is_full(&self, rate: Rate, now: Millis) -> bool {
        self.level(rate, now) >= u64::from(rate.burst).saturating_mul(rate.per.0)
    }

    fn level(&self, rate: Rate, now: Millis) -> u64 {
        let came = now.0.saturating_sub(self.since.0).saturating_mul(u64::from(rate.jobs));
        self.level.saturating_add(came).min(u64::from(rate.burst).saturating_mul(rate.per.0))
    }

    pub(super) fn tokens(&self, rate: Rate, now: Millis) -> u32 {
        u32::try_from(self.level(rate, now) / rate.per.0.max(1)).unwrap_or(u32::MAX)
    }

    pub(super) fn take(&mut self, rate: Rate, jobs: u32, now: Millis) {
        let taken = u64::from(jobs).saturating_mul(rate.per.0);
        *self = Self { level: self.level(rate, now).saturating_sub(taken), since: now };
    }

    /// Puts back what was taken for jobs that have not begun.
    pub(super) fn put_back(&mut self, rate: Rate, jobs: u32, now: Millis) {
        let back = u64::from(jobs).saturating_mul(rate.per.0);
        let full = u64::from(rate.burst).saturating_mul(rate.per.0);
        *self = Self { level: self.level(rate, now).saturating_add(back).min(full), since: now };
    }

    /// When there will be so many tokens.
    pub(super) fn opens(&self, rate: Rate, tokens: u32, now: Millis) -> Millis {
        let missing = u64::from(tokens).saturating_mul(rate.per.0).saturating_sub(self.level(rate, now));
        Millis(now.0.saturating_add(missing.div_ceil(u64::from(rate.jobs.max(1)))))
    }
}

impl Gate {
    fn is_paused(&self, now: Moment) -> bool {
        self.limits.pause.is_some_and(|pause| pause.holds(now.wall))
    }

    /// How many more calls, and how many more jobs, may be claimed.
    fn room(&self, now: Moment) -> (u32, u32) {
        self.room_by(now, Millis(now.uptime.0.saturating_add(LEAD.0)))
    }

    /// The same with the tokens that there are by then.
    fn room_by(&self, now: Moment, soon: Millis) -> (u32, u32) {
        if self.is_paused(now) {
            return (0, 0);
        }
        let in_hand = self.ready.saturating_add(self.running);
        let calls = self.limits.concurrency.map_or(u32::MAX, |most| most.saturating_sub(in_hand));
        let tokens = |rate| self.bucket.tokens(rate, soon).saturating_sub(self.ready_jobs);
        (calls, self.limits.rate.map_or(u32::MAX, tokens))
    }

    /// When it opens by itself.
    fn opens(&self, now: Moment) -> Option<Millis> {
        if let Some(pause) = self.limits.pause.filter(|_| self.is_paused(now)) {
            return match pause {
                Pause::Open => None,
                Pause::Until(until) => Some(Millis(now.uptime.0.saturating_add(until.since(now.wall).0))),
            };
        }
        let rate = self.limits.rate?;
        let wanted = self.ready_jobs.saturating_add(1);
        let at = (wanted <= rate.burst).then(|| self.bucket.opens(rate, wanted, now.uptime))?;
        Some(Millis(at.0.saturating_sub(LEAD.0))).filter(|at| *at > now.uptime)
    }

    /// When so many jobs may start, as far as the rate goes, if not now.
    fn token_comes(&self, jobs: u32, now: Moment) -> Option<Millis> {
        let rate = self.limits.rate?;
        Some(self.bucket.opens(rate, jobs, now.uptime)).filter(|at| *at > now.uptime)
    }
}

/// Why a gate lets nothing through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// It is paused; until then, if it says.
    Paused(Option<Millis>),
    /// As many run as may.
    Full(u32),
    /// The next token comes after this.
    Rate(Rate, Millis),
    /// Its jobs run one after another, and one has begun.
    Order,
}

pub(super) fn gates_of(lane: Lane) -> [GateOf; 2] {
    [GateOf::Queue(lane.tenant, lane.queue), GateOf::Kind(lane.tenant, lane.kind)]
}

impl GateOf {
    fn tenant(self) -> TenantId {
        match self {
            Self::Queue(tenant, _) | Self::Kind(tenant, _) => tenant,
            Self::Key(of) => of.tenant,
        }
    }

    pub(super) fn has(self, lane: Lane) -> bool {
        gates_of(lane).contains(&self) || key_of(lane).is_some_and(|of| self == Self::Key(of))
    }
}

impl Core {
    /// New limits hold from now on.
    pub(super) fn set_limits(&mut self, of: GateOf, limits: Limits, now: Moment, actions: &mut Vec<Action>) {
        self.look_again();
        let before = self.gates.remove(&of);
        if limits == Limits::default() {
            return;
        }
        let before = before.as_ref().and_then(|gate| Some((gate.limits.rate?, &gate.bucket)));
        let bucket = Bucket::instead(before, limits.rate, now.uptime);
        let mut gate = Gate { limits, ready: 0, ready_jobs: 0, running: 0, bucket };
        gate.running = self.running.values().filter(|call| of.has(call.lane)).count() as u32;
        for call in self.tenants.get(of.tenant()).iter().flat_map(|tenant| tenant.ready.calls()) {
            if of.has(call.lane) {
                gate.ready += 1;
                gate.ready_jobs += call.jobs();
            }
        }
        let over = gate.is_paused(now)
            || limits.concurrency.is_some_and(|most| gate.ready + gate.running > most)
            || limits.rate.is_some_and(|rate| gate.ready_jobs > gate.bucket.tokens(rate, now.uptime).max(1));
        self.gates.insert(of, gate);
        if over {
            self.hand_back_of(of.tenant(), &|lane| of.has(lane), actions);
        }
    }

    /// When the tokens are there that a claimed call waits for; none: they are.
    pub(super) fn tokens_come(&self, call: &Call, now: Moment) -> Option<Millis> {
        let of_key = self.key_tokens_come(call, now);
        if self.gates.is_empty() {
            return of_key;
        }
        let gates = gates_of(call.lane);
        gates.iter().filter_map(|of| self.gates.get(of)?.token_comes(call.jobs(), now)).chain(of_key).max()
    }

    /// Whether a call that was claimed is still let through: what holds may have changed since it was asked for.
    pub(super) fn lets_through(&self, call: &Call, now: Moment) -> bool {
        let (calls, jobs) = self.gate_room(call.lane, now);
        calls > 0 && jobs >= call.jobs() && self.key_lets_through(call)
    }

    /// How many more calls and jobs of a lane its gates let through, none of them for others.
    pub(super) fn gate_room(&self, lane: Lane, now: Moment) -> (u32, u32) {
        let mut room = (u32::MAX, u32::MAX);
        if self.gates.is_empty() {
            return room;
        }
        for gate in gates_of(lane).iter().filter_map(|of| self.gates.get(of)) {
            let (calls, jobs) = gate.room(now);
            room = (room.0.min(calls), room.1.min(jobs));
        }
        room
    }

    /// The same for one gate.
    pub(super) fn room_of(&self, of: GateOf, now: Moment) -> (u32, u32) {
        self.gates.get(&of).map_or((u32::MAX, u32::MAX), |gate| gate.room(now))
    }

    /// The same of what starts at once: with the tokens that there are now.
    pub(super) fn room_now(&self, of: GateOf, now: Moment) -> (u32, u32) {
        self.gates.get(&of).map_or((u32::MAX, u32::MAX), |gate| gate.room_by(now, now.uptime))
    }

    /// Remembers when the tokens of a lane are there of which nothing may start before.
    pub(super) fn wait_for_tokens(&mut self, lane: Lane, now: Moment) {
        self.wait_for_gates(lane, now);
        let comes = |of: &GateOf| self.gates.get(of).and_then(|gate| gate.token_comes(1, now));
        let at = gates_of(lane).iter().filter_map(comes).max();
        self.opening.extend(at);
    }

    /// Remembers when the gates of a lane that lets nothing through open.
    pub(super) fn wait_for_gates(&mut self, lane: Lane, now: Moment) {
        let opens = |of: &GateOf| self.gates.get(of).and_then(|gate| gate.opens(now));
        // Both have to be open.
        if let Some(at) = gates_of(lane).iter().filter_map(opens).max() {
            self.opening.insert(at);
        }
    }

    /// Forgets moments that have passed, and says which is the next.
    pub(super) fn next_opening(&mut self, now: Moment) -> Option<Millis> {
        self.opening = self.opening.split_off(&Millis(now.uptime.0.saturating_add(1)));
        // The wall clock may step: what waits for it is looked at again.
        self.opening.first().copied()
    }

    pub(super) fn gate_claimed(&mut self, call: &Call) {
        let jobs = call.jobs();
        self.each_gate(call.lane, |gate| {
            gate.ready += 1;
            gate.ready_jobs += jobs;
        });
        self.key_claimed(call);
    }

    /// A call, or one job of it, leaves those that are ready.
    pub(super) fn gate_unready(&mut self, lane: Lane, calls: u32, jobs: u32) {
        self.each_gate(lane, |gate| {
            gate.ready = gate.ready.saturating_sub(calls);
            gate.ready_jobs = gate.ready_jobs.saturating_sub(jobs);
        });
        self.key_unready(lane, calls, jobs);
    }

    pub(super) fn gate_started(&mut self, lane: Lane, jobs: u32, now: Moment) {
        self.each_gate(lane, |gate| {
            gate.running += 1;
            if let Some(rate) = gate.limits.rate {
                gate.bucket.take(rate, jobs, now.uptime);
            }
        });
        self.key_started(lane, jobs);
    }

    /// What had counted as started has not begun after all; that it ends is said apart.
    pub(super) fn gate_returned(&mut self, lane: Lane, jobs: u32, now: Moment) {
        self.each_gate(lane, |gate| {
            if let Some(rate) = gate.limits.rate {
                gate.bucket.put_back(rate, jobs, now.uptime);
            }
        });
        self.key_returned(lane, jobs);
    }

    pub(super) fn gate_ended(&mut self, lane: Lane) {
        self.each_gate(lane, |gate| gate.running = gate.running.saturating_sub(1));
        self.key_ended(lane);
    }

    fn each_gate(&mut self, lane: Lane, change: impl Fn(&mut Gate)) {
        if self.gates.is_empty() {
            return;
        }
        for of in gates_of(lane) {
            if let Some(gate) = self.gates.get_mut(&of) {
                change(gate);
            }
        }
    }

    /// Which gates of a lane are shut, and why.
    pub(super) fn shut(&self, lane: Lane, now: Moment) -> Vec<(GateOf, Shut)> {
        let mut shut = Vec::new();
        for of in gates_of(lane) {
            let Some(gate) = self.gates.get(&of) else { continue };
            let wait = |at: Millis| Millis(at.0.saturating_sub(now.uptime.0));
            if gate.is_paused(now) {
                shut.push((of, Shut::Paused(gate.opens(now).map(wait))));
                continue;
            }
            let (calls, jobs) = gate.room(now);
            if let (0, Some(most)) = (calls, gate.limits.concurrency) {
                shut.push((of, Shut::Full(most)));
            }
            if let (0, Some(rate)) = (jobs, gate.limits.rate) {
                let opens = gate.bucket.opens(rate, gate.ready_jobs.saturating_add(1), now.uptime);
                shut.push((of, Shut::Rate(rate, wait(opens))));
            }
        }
        shut.extend(self.key_shut(lane, now));
        shut
    }

    /// Calls that a gate has in its hand that hold a slot, the first of each: whom a job waits for.
    #[must_use]
    pub fn running_in(&self, of: GateOf) -> BTreeSet<runner_store::job::JobId> {
        self.running.iter().filter(|(_, call)| of.has(call.lane)).map(|(run, _)| run.at.job).collect()
    }
}
