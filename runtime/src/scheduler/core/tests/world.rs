//! A world around the core on virtual time: a store that answers after a commit, and handlers that take their time.

use std::collections::{BTreeMap, BTreeSet};

use super::auditor::Auditor;
use super::*;

/// How long the store takes to answer.
pub(super) const COMMIT: u64 = 2;

/// What the jobs of a kind are like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) takes_ms: u64,
    pub(super) fuel: u64,
    pub(super) serves: Serves,
}

/// A call that a handler was entered for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) at: u64,
    pub(super) lane: Lane,
    pub(super) jobs: Vec<u64>,
}

pub(super) struct World {
    pub(super) core: Core,
    pub(super) now: u64,
    pub(super) kinds: BTreeMap<Lane, Kind>,
    queued: BTreeMap<Lane, BTreeSet<(Order, u64)>>,
    args_bytes: BTreeMap<u64, usize>,
    alone: BTreeSet<u64>,
    /// What happens later, by time and number.
    later: BTreeMap<(u64, u64), Later>,
    number: u64,
    next: u64,
    claimed: BTreeMap<u64, (Lane, Order)>,
    /// Who has a part in the open claim, and in the one beside it.
    claiming: [BTreeSet<TenantId>; 2],
    pub(super) running: BTreeMap<u64, Call>,
    /// Every call that was ever entered.
    pub(super) calls: Vec<Call>,
    pub(super) handed_back: u64,
    pub(super) auditor: Auditor,
    /// How long jobs wait to be tried again, for each time that they fail.
    fails: BTreeMap<u64, Vec<u64>>,
    /// What has begun and not ended, by key, as the store has it, and since when.
    begun: BTreeMap<KeyOf, BTreeMap<u64, u64>>,
    /// Jobs whose handler was ever entered: what was only claimed goes back as if nothing had been.
    entered: BTreeSet<u64>,
}

/// A job with its place.
type Placed = (Lane, Order, u64);

enum Later {
    Answer(Vec<Take>, usize),
    HandedBack(u64),
    End(u64),
    Recorded(Vec<Placed>),
    Due(Placed),
}

pub(super) fn lane_of(tenant: u32, kind: u32) -> Lane {
    Lane::new(TenantId(tenant), QueueId(1), KindId(kind))
}

pub(super) fn lane_in(queue: u32, kind: u32) -> Lane {
    Lane::new(TenantId(1), QueueId(queue), KindId(kind))
}

/// A lane of a key, of kind 1.
pub(super) fn lane_by_key(queue: u32, key: &str) -> Lane {
    Lane { key: JobKey::text(key).hash(), ..lane_in(queue, 1) }
}

fn key_of(lane: Lane) -> Option<KeyOf> {
    (!lane.key.is_none()).then_some(KeyOf { tenant: lane.tenant, kind: lane.kind, key: lane.key })
}

pub(super) fn kind(takes_ms: u64, memory_bytes: u64) -> Kind {
    Kind { takes_ms, fuel: 1, serves: Serves { memory_bytes, batch: None, external: false } }
}

impl World {
    pub(super) fn new(slots: u32, memory_bytes: u64) -> Self {
        Self {
            core: Core::new(slots, memory_bytes),
            now: 0,
            kinds: BTreeMap::new(),
            queued: BTreeMap::new(),
            args_bytes: BTreeMap::new(),
            alone: BTreeSet::new(),
            later: BTreeMap::new(),
            number: 0,
            next: 0,
            claimed: BTreeMap::new(),
            claiming: Default::default(),
            running: BTreeMap::new(),
            calls: Vec::new(),
            handed_back: 0,
            auditor: Auditor::default(),
            fails: BTreeMap::new(),
            begun: BTreeMap::new(),
            entered: BTreeSet::new(),
        }
    }

    pub(super) fn moment(&self) -> Moment {
        at(self.now)
    }

    pub(super) fn lane(&mut self, lane: Lane, kind: Kind) -> Lane {
        self.kinds.insert(lane, kind);
        self.tell([Event::Served { lane, by: Some(kind.serves) }]);
        lane
    }

    pub(super) fn limits(&mut self, of: GateOf, limits: Limits) {
        self.auditor.set(of, limits, self.now);
        self.tell([Event::Limits { of, limits }]);
    }

    pub(super) fn key_limits(&mut self, tenant: u32, kind: u32, limits: KeyLimits) {
        let (tenant, kind) = (TenantId(tenant), KindId(kind));
        self.auditor.set_keys((tenant, kind), limits, self.now);
        self.tell([Event::KeyLimits { tenant, kind, limits }]);
    }

    /// The job fails as often as there are times, and waits so long each.
    pub(super) fn fails(&mut self, id: u64, waits: &[u64]) {
        self.fails.insert(id, waits.iter().rev().copied().collect());
    }

    pub(super) fn weight(&mut self, queue: u32, weight: u32) {
        self.tell([Event::Weight { tenant: TenantId(1), queue: QueueId(queue), weight }]);
    }

    pub(super) fn budget(&mut self, tenant: u32, budget: Budget) {
        self.tell([Event::Budget { tenant: TenantId(tenant), budget }]);
    }

    /// Enqueues so many jobs; their ids go up from the first one's, which is answered.
    pub(super) fn enqueue(&mut self, lane: Lane, n: u64, priority: i16) -> u64 {
        let first = self.next + 1;
        for _ in 0..n {
            self.next += 1;
            let id = JobId(self.next);
            let order = Order::new(QueueOrder::Priority, Priority(priority), Time(0), id);
            self.queued.entry(lane).or_default().insert((order, self.next));
        }
        let told = self.changed(lane, n.cast_signed());
        self.tell([told]);
        first
    }

    /// What is told of a lane that has so many more jobs.
    fn changed(&self, lane: Lane, difference: i64) -> Event {
        if lane.key.is_none() {
            return Event::Available { lane, difference };
        }
        let head = self.queued.get(&lane).and_then(BTreeSet::first).map(|(order, _)| *order);
        Event::Keyed { lane, difference, head }
    }

    /// What is told of a job that has begun, or has ended.
    fn begins(&mut self, lane: Lane, id: u64, begins: bool) -> Option<Event> {
        let (of, now) = (key_of(lane)?, self.now);
        let begun = self.begun.entry(of).or_default();
        // What is claimed again has begun long since.
        let was = if begins { begun.get(&id).copied() } else { begun.remove(&id) };
        if begins {
            begun.entry(id).or_insert(now);
        }
        (begins == was.is_none()).then_some(Event::Begun { of, difference: if begins { 1 } else { -1 } })
    }

    pub(super) fn sized(&mut self, id: u64, args_bytes: usize) {
        self.args_bytes.insert(id, args_bytes);
    }

    pub(super) fn alone(&mut self, id: u64) {
        self.alone.insert(id);
    }

    /// Lets time go by.
    pub(super) fn run_until(&mut self, end: u64) {
        loop {
            let wakeup = self.core.next_wakeup(self.moment()).map(|wait| self.now + wait.0);
            let happens = self.later.first_key_value().map(|((at, _), _)| *at);
            let next = match (happens, wakeup) {
                (Some(happens), Some(wakeup)) => happens.min(wakeup),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => break,
            };
            if next > end {
                break;
            }
            self.now = next;
            match self.later.first_entry().filter(|entry| entry.key().0 <= next) {
                Some(entry) => {
                    let later = entry.remove();
                    self.happen(later);
                }
                None => self.tell([Event::Tick]),
            }
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, later: Later) {
        match later {
            Later::Answer(takes, which) => self.answer(takes, which),
            Later::HandedBack(id) => {
                let (lane, order) = self.claimed.remove(&id).expect("it was claimed");
                self.queued.entry(lane).or_default().insert((order, id));
                // What had begun before has not ended.
                let begun = if lane.again { None } else { self.begins(lane, id, false) };
                let told = self.changed(lane, 1);
                self.tell(begun.into_iter().chain([told]));
            }
            Later::Recorded(jobs) => {
                let mut told = Vec::new();
                for (lane, order, id) in jobs {
                    match self.fails.get_mut(&id).and_then(Vec::pop) {
                        Some(wait) => self.later(wait, Later::Due((lane, order, id))),
                        None => told.extend(self.begins(lane, id, false)),
                    }
                }
                self.tell(told);
            }
            Later::Due((lane, order, id)) => {
                let lane = Lane { again: !lane.key.is_none(), ..lane };
                self.queued.entry(lane).or_default().insert((order, id));
                let told = self.changed(lane, 1);
                self.tell([told]);
            }
            Later::End(id) => {
                let call = self.running.remove(&id).expect("it runs");
                self.auditor.ends(call.lane);
                let Kind { takes_ms, fuel, .. } = self.kinds[&call.lane.of_all_keys()];
                let ended = |job: &u64| self.claimed.remove(job).map(|(lane, order)| (lane, order, *job));
                let ended: Vec<Placed> = call.jobs.iter().filter_map(ended).collect();
                // The slot is free before the outcome is recorded.
                self.later(COMMIT, Later::Recorded(ended));
                let took = Duration::from_millis(takes_ms);
                self.tell([Event::Ended { run: self.run_of(call.lane, id), fuel, took }]);
            }
        }
    }

    /// Takes the first job of a lane to be started by hand; the store's answer is still to come.
    pub(super) fn by_hand(&mut self, lane: Lane) -> Claimed {
        let (order, id) = self.queued.get_mut(&lane).and_then(BTreeSet::pop_first).expect("it has a job");
        self.claimed.insert(id, (lane, order));
        self.tell([Event::Wanted { suspect: false }]);
        Claimed { run: self.run_of(lane, id), lane, order, args_bytes: 10, alone: false }
    }

    /// The same where others of its key have begun.
    pub(super) fn by_hand_beside_others(&mut self, lane: Lane) -> Claimed {
        assert!(self.begun.values().any(|begun| !begun.is_empty()));
        self.auditor.started_by_hand();
        self.by_hand(lane)
    }

    pub(super) fn answer_by_hand(&mut self, run: Claimed) {
        let told = self.changed(run.lane, -1);
        let begun = self.begins(run.lane, run.run.at.job.0, true);
        self.tell(begun.into_iter().chain([told]));
        self.tell([Event::StartedByHand { suspect: false, run: Some(run) }]);
    }

    /// A claim, or the one beside it.
    fn claim(&mut self, takes: Vec<Take>, which: usize) {
        let grants = takes.iter().flat_map(|take| &take.grants);
        let tenants: BTreeSet<TenantId> = grants.map(|grant| grant.lane.tenant).collect();
        assert!(self.claiming[which].is_empty() && !tenants.is_empty(), "one at a time of each");
        assert!(self.claiming[1 - which].is_disjoint(&tenants), "no tenant has a part in both");
        self.claiming[which] = tenants;
        self.later(COMMIT, Later::Answer(takes, which));
    }

    fn answer(&mut self, takes: Vec<Take>, which: usize) {
        self.claiming[which].clear();
        let (mut claimed, mut events) = (Vec::new(), Vec::new());
        for Take { max, grants, .. } in takes {
            let mut left: Vec<(Lane, u32)> = grants.iter().map(|grant| (grant.lane, grant.max)).collect();
            for _ in 0..max {
                let heads = left.iter().enumerate().filter(|(_, (_, left))| *left > 0).filter_map(|(at, (lane, _))| {
                    let (order, id) = self.queued.get(lane)?.first()?;
                    Some((*order, *id, at))
                });
                let Some((order, id, at)) = heads.min() else { break };
                let lane = left[at].0;
                left[at].1 -= 1;
                self.queued.get_mut(&lane).expect("it has a head").remove(&(order, id));
                self.claimed.insert(id, (lane, order));
                events.extend(self.begins(lane, id, true));
                events.push(self.changed(lane, -1));
                let args_bytes = self.args_bytes.get(&id).copied().unwrap_or(10);
                let alone = self.alone.contains(&id);
                claimed.push(Claimed { run: self.run_of(lane, id), lane, order, args_bytes, alone });
            }
        }
        // As the shell does: the notices of a claim come before its answer.
        self.tell(events);
        self.tell([if which == 0 { Event::Claimed(claimed) } else { Event::ClaimedBeside(claimed) }]);
    }

    fn run_of(&self, lane: Lane, id: u64) -> RunRef {
        RunRef { at: JobRef { tenant: lane.tenant, job: JobId(id) }, run: RunNumber(1) }
    }

    pub(super) fn tell(&mut self, events: impl IntoIterator<Item = Event>) {
        for action in self.core.handle_all(events, self.moment()) {
            match action {
                Action::Claim(takes) => self.claim(takes, 0),
                Action::ClaimBeside(takes) => self.claim(takes, 1),
                Action::Start { run, others, .. } => {
                    let lane = self.claimed[&run.at.job.0].0;
                    let jobs = std::iter::once(&run).chain(&others).map(|run| run.at.job.0).collect();
                    let call = Call { at: self.now, lane, jobs };
                    self.auditor.starts(lane, call.jobs.len() as u64, self.now);
                    self.check_order(&call);
                    self.entered.extend(&call.jobs);
                    self.running.insert(run.at.job.0, call.clone());
                    self.calls.push(call);
                    self.later(self.kinds[&lane.of_all_keys()].takes_ms, Later::End(run.at.job.0));
                }
                Action::End(_) | Action::Interrupt(_) | Action::Due | Action::Nothing(_) | Action::Expire(_) => {}
                Action::HandBack(run) => {
                    self.handed_back += 1;
                    self.later(COMMIT, Later::HandedBack(run.at.job.0));
                }
            }
        }
        self.check();
    }

    fn later(&mut self, wait: u64, what: Later) {
        self.number += 1;
        self.later.insert((self.now + wait, self.number), what);
    }

    /// What must hold at every moment.
    fn check(&self) {
        let slots = self.core.slots as usize;
        assert!(self.running.len() <= slots && self.core.running() == self.running.len());
        let memory = |of: &dyn Fn(Lane) -> bool| {
            let runs = self.running.values().filter(|call| of(call.lane));
            runs.map(|call| self.kinds[&call.lane.of_all_keys()].serves.memory_bytes).sum::<u64>()
        };
        assert!(memory(&|_| true) <= self.core.memory_bytes, "the node's memory");
        for (id, tenant) in self.core.tenants.all() {
            let of = |lane: Lane| lane.tenant == id;
            let runs = self.running.values().filter(|call| of(call.lane)).count();
            assert!(tenant.budget.concurrency.is_none_or(|most| runs + tenant.ready.len() <= most as usize));
            assert!(tenant.budget.memory_bytes.is_none_or(|most| memory(&of) <= most), "a tenant's memory");
        }
    }

    /// The lanes of which a job could start now, as far as anyone who knows nothing of the core can tell.
    pub(super) fn could_start(&self) -> Vec<Lane> {
        if self.running.len() as u32 >= self.core.slots {
            return Vec::new();
        }
        let lanes = self.queued.iter().filter(|(_, jobs)| !jobs.is_empty()).map(|(lane, _)| *lane);
        lanes.filter(|lane| self.auditor.lets(*lane, self.now) && self.comes_next(*lane)).collect()
    }

    /// Whether nothing of its key has begun before what is first of a lane, where that counts.
    fn comes_next(&self, lane: Lane) -> bool {
        let Some(of) = key_of(lane).filter(|of| self.auditor.in_order(*of)) else { return true };
        let begun = self.begun.get(&of).is_some_and(|begun| !begun.is_empty());
        let in_hand = self.claimed.values().any(|(other, _)| key_of(*other) == Some(of));
        !in_hand && (lane.again || !begun)
    }

    /// Where order counts, one job of a key at a time begins, and comes to its end before another one does.
    fn check_order(&self, call: &Call) {
        let Some(of) = key_of(call.lane).filter(|of| self.auditor.in_order(*of)) else { return };
        assert_eq!(call.jobs.len(), 1, "what runs in order shares no call");
        // Several may have begun before order came to count.
        let since = self.auditor.in_order_since(of);
        let others = self.begun[&of].iter().filter(|(job, began)| **job != call.jobs[0] && **began > since);
        let others: Vec<u64> = others.map(|(job, _)| *job).filter(|job| self.entered.contains(job)).collect();
        let by_hand = self.auditor.has_started_by_hand();
        assert!(others.is_empty() || by_hand, "{:?} starts before {others:?} have ended", call.jobs);
        let before = self.queued.get(&Lane { again: true, ..call.lane }).is_some_and(|jobs| !jobs.is_empty());
        assert!(call.lane.again || !before, "{:?} starts before what has begun", call.jobs);
    }

    /// What the core says of those lanes.
    pub(super) fn explain(&self) -> String {
        let Core { claim, free, ready, alarm, left_out, .. } = &self.core;
        let lanes: Vec<String> = self
            .could_start()
            .iter()
            .map(|lane| {
                let tenant = self.core.tenants.get(lane.tenant).unwrap();
                let (room, why) = (self.core.gate_room(*lane, self.moment()), self.core.why(*lane, self.moment()));
                let ready: Vec<(Lane, Option<Millis>)> =
                    tenant.ready.calls().map(|call| (call.lane, self.core.tokens_come(call, self.moment()))).collect();
                format!("{lane:?}: room {room:?}, why {why:?}, of its tenant {ready:?} are ready")
            })
            .collect();
        format!(
            "{claim:?}, {} free, {ready} ready, alarm {alarm:?}, left out {left_out}; {}",
            free.len(),
            lanes.join("; ")
        )
    }

    /// Jobs that are queued, of all lanes.
    pub(super) fn queued(&self) -> usize {
        self.queued.values().map(BTreeSet::len).sum()
    }

    /// Jobs of a lane that a handler was entered for, in the order of their calls.
    pub(super) fn started(&self, lane: Lane) -> Vec<u64> {
        self.calls.iter().filter(|call| call.lane == lane).flat_map(|call| call.jobs.iter().copied()).collect()
    }

    /// Calls of a key, in their order: of those that have begun before, too.
    pub(super) fn of_key(&self, lane: Lane) -> Vec<(u64, u64)> {
        let of = |call: &&Call| Lane { again: false, ..call.lane } == lane;
        self.calls.iter().filter(of).map(|call| (call.at, call.jobs[0])).collect()
    }

    pub(super) fn runs(&self, lane: Lane) -> usize {
        self.running.values().filter(|call| call.lane == lane).count()
    }

    /// When a job was started.
    #[track_caller]
    pub(super) fn start_of(&self, id: u64) -> u64 {
        self.calls.iter().find(|call| call.jobs.contains(&id)).expect("it was started").at
    }
}
