//! Every rule alone and with every other one, in a world where each of them holds something up: each is kept, together they
//! never let more through than either alone, and nothing that all of them let through waits while a slot is free.

use runner_store::command::{Fuel, Pause, Rate};

use super::world::{COMMIT, Kind, World, kind};
use super::*;
use crate::wasm::manifest::Batch;

const SLOTS: u32 = 8;
const JOBS: u64 = 40;
const TAKES_MS: u64 = 10;
/// Runs at once, where a rule says so.
const FEW: u32 = 3;
/// When what is paused goes on, and the node that rests.
const AGAIN_AT: u64 = 350;
const RESTS_AT: u64 = 50;
/// Runs of a period, where fuel is limited.
const FUEL: u64 = 20;
const PERIOD_MS: u64 = 100;
const BATCH: u32 = 5;
/// As in the simulation: a claim that is open did not see it, the next one does.
const IDLE_MAX: u64 = gate::LEAD.0 + 4 * COMMIT + 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    QueueConcurrency,
    KindConcurrency,
    QueueRate,
    KindRate,
    QueuePause,
    KindPause,
    TenantConcurrency,
    TenantMemory,
    NodeMemory,
    Fuel,
    Suspects,
    Batches,
    Weights,
    Rest,
}

const RULES: [Rule; 14] = [
    Rule::QueueConcurrency,
    Rule::KindConcurrency,
    Rule::QueueRate,
    Rule::KindRate,
    Rule::QueuePause,
    Rule::KindPause,
    Rule::TenantConcurrency,
    Rule::TenantMemory,
    Rule::NodeMemory,
    Rule::Fuel,
    Rule::Suspects,
    Rule::Batches,
    Rule::Weights,
    Rule::Rest,
];

impl Rule {
    /// Whether it makes everything together take longer.
    fn holds_up(self) -> bool {
        !matches!(self, Self::Batches | Self::Weights)
    }
}

fn lane(tenant: u32, queue: u32, kind: u32, suspect: bool) -> Lane {
    Lane { suspect, ..Lane::new(TenantId(tenant), QueueId(queue), KindId(kind)) }
}

/// What all rules are about: two kinds in a queue, one of them in another one, too, and a neighbour.
struct Scene {
    rules: Vec<Rule>,
    world: World,
    batched: Lane,
}

impl Scene {
    fn new(rules: &[Rule]) -> Self {
        let has = |rule| rules.contains(&rule);
        let mut world = World::new(SLOTS, if has(Rule::NodeMemory) { u64::from(FEW) } else { MEMORY });
        let batched = lane(1, 1, 2, false);
        let mut lanes = vec![lane(1, 1, 1, false), batched, lane(1, 2, 1, false), lane(2, 1, 1, false)];
        lanes.extend(has(Rule::Suspects).then(|| lane(1, 2, 3, true)));
        let queue = limits_of(rules, Rule::QueueConcurrency, Rule::QueueRate, Rule::QueuePause);
        world.limits(GateOf::Queue(TenantId(1), QueueId(1)), queue);
        let kinds = limits_of(rules, Rule::KindConcurrency, Rule::KindRate, Rule::KindPause);
        world.limits(GateOf::Kind(TenantId(1), KindId(1)), kinds);
        let fuel = has(Rule::Fuel).then_some(Fuel { fuel: FUEL, per: Millis(PERIOD_MS) });
        let concurrency = has(Rule::TenantConcurrency).then_some(FEW);
        let memory_bytes = has(Rule::TenantMemory).then_some(u64::from(FEW));
        world.budget(1, Budget { concurrency, memory_bytes, fuel });
        if has(Rule::Weights) {
            world.weight(1, 9);
        }
        for lane in lanes {
            let mut what: Kind = kind(TAKES_MS, 1);
            if lane == batched && has(Rule::Batches) {
                what.serves.batch = Some(Batch { max: BATCH, linger: Millis(20) });
            }
            world.lane(lane, what);
            world.enqueue(lane, JOBS, 0);
        }
        Self { rules: rules.to_vec(), world, batched }
    }

    fn has(&self, rule: Rule) -> bool {
        self.rules.contains(&rule)
    }

    fn rests(&self) -> bool {
        self.has(Rule::Rest) && (RESTS_AT..AGAIN_AT).contains(&self.world.now)
    }

    fn running(&self, of: impl Fn(Lane) -> bool) -> u32 {
        self.world.running.values().filter(|call| of(call.lane)).count() as u32
    }

    /// Fuel that the first tenant's runs have used in this period, as it is known.
    fn spent(&self) -> u64 {
        let (now, period) = (self.world.now, |ms: u64| ms / PERIOD_MS);
        let ended = |call: &&world::Call| call.at + TAKES_MS <= now && period(call.at + TAKES_MS) == period(now);
        self.world.calls.iter().filter(|call| call.lane.tenant == TenantId(1)).filter(ended).count() as u64
    }

    /// Whether every rule would let something start now.
    fn something_could_start(&self) -> bool {
        let own = self.running(|lane| lane.tenant == TenantId(1));
        let all = self.running(|_| true);
        let few = |rule, running| self.has(rule) && running >= FEW;
        let lets = |lane: Lane| {
            let spent = self.has(Rule::Fuel) && self.spent() >= FUEL;
            let full = few(Rule::TenantConcurrency, own) || few(Rule::TenantMemory, own);
            let waits = lane.suspect && self.running(|lane| lane.suspect) > 0;
            // Those that gather wait for others.
            let gathers = lane == self.batched && self.has(Rule::Batches);
            !(lane.tenant == TenantId(1) && (spent || full)) && !waits && !gathers
        };
        !self.rests() && !few(Rule::NodeMemory, all) && self.world.could_start().into_iter().any(lets)
    }

    /// What must hold at every moment; limits of queues and kinds are the auditor's.
    fn check(&self) {
        let own = self.running(|lane| lane.tenant == TenantId(1));
        for rule in [Rule::TenantConcurrency, Rule::TenantMemory] {
            assert!(!self.has(rule) || own <= FEW, "{rule:?}: {own} run");
        }
        assert!(!self.has(Rule::NodeMemory) || self.running(|_| true) <= FEW);
        assert!(self.running(|lane| lane.suspect) <= 1, "suspects run one at a time");
        assert!(!self.has(Rule::Fuel) || self.spent() <= FUEL + u64::from(SLOTS), "what runs goes on, no more starts");
    }

    /// Lets it run until all jobs have, and answers when that was.
    fn run(mut self) -> u64 {
        let (mut idle, mut started) = (0, 0);
        while self.world.queued() + self.world.core.ready() + self.world.running.len() > 0
            || self.world.core.is_claiming()
        {
            if self.has(Rule::Rest) && self.world.now == RESTS_AT {
                self.world.tell([Event::Drain]);
            }
            if self.has(Rule::Rest) && self.world.now == AGAIN_AT {
                self.world.tell([Event::Resume]);
            }
            self.world.run_until(self.world.now + 1);
            self.check();
            let waits = self.something_could_start() && self.world.calls.len() == started;
            idle = if waits { idle + 1 } else { 0 };
            started = self.world.calls.len();
            assert!(idle <= IDLE_MAX, "at {} nothing starts: {}", self.world.now, self.world.explain());
            assert!(self.world.now < 60_000, "it never ends");
        }
        let rested = |call: &&world::Call| (RESTS_AT + 1..AGAIN_AT).contains(&call.at);
        assert!(
            !self.has(Rule::Rest) || self.world.calls.iter().find(rested).is_none(),
            "a node that rests starts nothing"
        );
        assert!(self.world.calls.iter().all(|call| call.jobs.len() <= BATCH as usize));
        let mut jobs: Vec<u64> = self.world.calls.iter().flat_map(|call| call.jobs.clone()).collect();
        jobs.sort_unstable();
        let lanes = 4 + u64::from(self.has(Rule::Suspects));
        assert_eq!(jobs, (1..=lanes * JOBS).collect::<Vec<_>>(), "every job ran, and none twice");
        self.world.now
    }
}

fn limits_of(rules: &[Rule], concurrency: Rule, rate: Rule, pause: Rule) -> Limits {
    Limits {
        concurrency: rules.contains(&concurrency).then_some(FEW - 1),
        rate: rules.contains(&rate).then_some(Rate { jobs: 1, per: Millis(10), burst: 2 }),
        pause: rules.contains(&pause).then_some(Pause::Until(Time(AGAIN_AT))),
    }
}

fn took(rules: &[Rule]) -> u64 {
    let took = std::panic::catch_unwind(|| Scene::new(rules).run());
    took.unwrap_or_else(|_| panic!("the rules were {rules:?}"))
}

#[test]
fn each_rule_is_kept_with_each_other_one_and_nothing_waits_for_nothing() {
    let free = took(&[]);
    let alone = RULES.map(|rule| took(&[rule]));
    for (rule, took) in RULES.iter().zip(alone) {
        assert!(!rule.holds_up() || took > free + free / 4, "{rule:?} holds up nothing: {took} ms after {free}");
    }
    for (first, of_first) in RULES.iter().zip(alone) {
        for (second, of_second) in RULES.iter().zip(alone).filter(|(second, _)| *second != first) {
            let both = took(&[*first, *second]);
            // Suspects find a free slot the sooner the more the others are held up, and batches are fewer calls. With the
            // others turns come otherwise, which makes a little difference at the end.
            let otherwise = |rule: &Rule| matches!(rule, Rule::Suspects | Rule::Batches);
            let least = of_first.max(of_second) * 9 / 10;
            assert!(
                otherwise(first) || otherwise(second) || both >= least,
                "{first:?} and {second:?} together: {both} ms, alone {of_first} and {of_second}"
            );
        }
    }
}
