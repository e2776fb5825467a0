//! Random tenants, queues, kinds, limits and their changes, under an auditor that counts for itself: no limit is ever
//! exceeded, every job runs once, and nothing that could start waits while a slot is free.
//!
//! `RUNNER_SIM_SEED=n` repeats one; `RUNNER_SIM_OPS=n` makes them longer. A failure says which seed it was.

use runner_store::command::{Pause, Rate};

use super::world::{COMMIT, World, kind};
use super::*;

/// How long something that could start may wait: a claim that is open did not see it, the next one does; and what was
/// claimed a little before its token comes has its place already.
const IDLE_MAX: u64 = gate::LEAD.0 + 4 * COMMIT + 1;

/// Numbers that follow from a seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % n
    }
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_happens_no_limit_is_exceeded_and_nothing_waits_for_nothing() {
    let seeds = env("RUNNER_SIM_SEED").map_or(1..=40, |seed| seed..=seed);
    let steps = env("RUNNER_SIM_OPS").unwrap_or(400);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| simulate(seed, steps));
        assert!(outcome.is_ok(), "RUNNER_SIM_SEED={seed} repeats it");
    }
}

fn simulate(seed: u64, steps: u64) {
    let mut dice = Dice::new(seed);
    let mut world = World::new(1 + dice.below(12) as u32, MEMORY);
    let lanes = some_lanes(&mut dice);
    for lane in lanes.iter().filter(|lane| lane.key.is_none()) {
        let takes_ms = [1, 1, 3, 20, 90][dice.below(5) as usize];
        world.lane(*lane, kind(takes_ms, 1));
    }
    let (mut enqueued, mut runs, mut idle, mut started) = (0, 0, 0, 0);
    for _ in 0..steps {
        match dice.below(10) {
            0..6 => {
                let (lane, n) = (lanes[dice.below(lanes.len() as u64) as usize], 1 + dice.below(12));
                let first = world.enqueue(lane, n, dice.below(5) as i16 - 2);
                for id in first..first + n {
                    let waits: Vec<u64> = (0..dice.below(8) / 5).map(|_| 1 + dice.below(60)).collect();
                    runs += 1 + waits.len();
                    world.fails(id, &waits);
                }
                enqueued += n;
            }
            6 => {
                let lane = lanes[dice.below(lanes.len() as u64) as usize];
                let limits = some_key_limits(&mut dice);
                world.key_limits(lane.tenant.0, lane.kind.0, limits);
            }
            7..9 => {
                let of = a_gate(&mut dice, &lanes);
                let limits = some_limits(&mut dice, world.now);
                world.limits(of, limits);
            }
            _ => {
                let (queue, weight) = (1 + dice.below(3) as u32, 1 + dice.below(9) as u32);
                world.weight(queue, weight);
            }
        }
        let until = world.now + dice.below(40);
        while world.now < until {
            world.run_until(world.now + 1);
            // Whoever waits while others start competes with them; what must not be is that nobody does.
            let waits = !world.could_start().is_empty() && world.calls.len() == started;
            idle = if waits { idle + 1 } else { 0 };
            started = world.calls.len();
            assert!(
                idle <= IDLE_MAX,
                "at {} a job could have started for {idle} ms, and none did: {}",
                world.now,
                world.explain()
            );
        }
    }
    // Without limits everything runs.
    for lane in &lanes {
        for of in [GateOf::Queue(lane.tenant, lane.queue), GateOf::Kind(lane.tenant, lane.kind)] {
            world.limits(of, Limits::default());
        }
        world.key_limits(lane.tenant.0, lane.kind.0, KeyLimits::default());
    }
    world.run_until(world.now + 1_000_000);
    let mut jobs: Vec<u64> = world.calls.iter().flat_map(|call| call.jobs.clone()).collect();
    assert_eq!(jobs.len(), runs, "each job ran as often as it failed, and once more");
    jobs.sort_unstable();
    jobs.dedup();
    assert_eq!(jobs, (1..=enqueued).collect::<Vec<_>>(), "every job ran");
    assert_eq!(world.core.keys_kept(), 0, "of keys that nothing is left of, nothing is kept");
    assert_eq!((world.queued(), world.core.ready(), world.running.len()), (0, 0, 0));
}

/// Some kinds have keys, and beside them jobs that have none.
fn some_lanes(dice: &mut Dice) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = (0..2 + dice.below(10))
        .map(|_| {
            let [tenant, queue, kind] = [3, 3, 4].map(|n| 1 + dice.below(n) as u32);
            Lane::new(TenantId(tenant), QueueId(queue), KindId(kind))
        })
        .collect();
    for lane in lanes.clone() {
        if lane.kind.0 % 2 == 0 {
            let keys = (0..1 + dice.below(12)).map(|key| JobKey::text(&key.to_string()).hash());
            lanes.extend(keys.map(|key| Lane { key, ..lane }));
        }
    }
    lanes
}

fn a_gate(dice: &mut Dice, lanes: &[Lane]) -> GateOf {
    let lane = lanes[dice.below(lanes.len() as u64) as usize];
    if dice.below(2) == 0 { GateOf::Queue(lane.tenant, lane.queue) } else { GateOf::Kind(lane.tenant, lane.kind) }
}

fn some_key_limits(dice: &mut Dice) -> KeyLimits {
    let concurrency = (dice.below(2) == 0).then(|| 1 + dice.below(3) as u32);
    let rate = (dice.below(3) == 0).then(|| {
        let jobs = 1 + dice.below(9) as u32;
        Rate { jobs, per: Millis(1 + dice.below(400)), burst: 1 + dice.below(4) as u32 }
    });
    KeyLimits { concurrency, rate, in_order: dice.below(3) == 0 }
}

fn some_limits(dice: &mut Dice, now: u64) -> Limits {
    let concurrency = (dice.below(2) == 0).then(|| 1 + dice.below(4) as u32);
    let rate = (dice.below(3) == 0).then(|| {
        let jobs = 1 + dice.below(20) as u32;
        Rate { jobs, per: Millis(1 + dice.below(900)), burst: 1 + dice.below(6) as u32 }
    });
    let pause = match dice.below(8) {
        0 => Some(Pause::Open),
        1 => Some(Pause::Until(Time(now + dice.below(200)))),
        _ => None,
    };
    Limits { concurrency, rate, pause }
}
