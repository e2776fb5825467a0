//! Random commands, in random batches, to both engines: every reply, every change and every answer must be equal, and so
//! must everything that is kept, also after the file was dropped in the middle of a transaction and reopened. An
//! [`Auditor`](crate::auditor) follows the replies and the log.
//!
//! A failure prints its seed; `RUNNER_SIM_SEED=<seed>` runs exactly that one again. `RUNNER_SIM_OPS=<n>` runs so many
//! commands instead of what CI has time for: `RUNNER_SIM_OPS=1000000 cargo test --release -p runner-store --test sim model
//! -- --nocapture`.

use std::collections::BTreeMap;

use runner_store::clock::Clock;
use runner_store::command::{Answer, Command, Part, Query};
use runner_store::decide::Conduct;
use runner_store::job::{EventName, StateName, Time};

use crate::auditor::{Auditor, Meeting, What};
use crate::workload::Workload;
use crate::world::*;

const SEEDS: u64 = 12;
const OPS: u64 = 60_000;
/// Commands of one seed in a long run: what it checks and asks grows with what it has done.
const OPS_OF_A_SEED: u64 = 25_000;
const BATCH_COMMANDS_MAX: u64 = 16;

/// Every event that can meet a job in each state, as the log calls it: 45 pairs, with the beginning of each job. What the
/// design calls *expired* is `discarded` here, a dependency that settles without more is `blocked`, *due* is `available`.
const POSSIBLE: &str = "
    –         enqueued
    held      released blocked cancelled discarded edited deleted
    blocked   blocked scheduled available cancelled discarded edited deleted
    scheduled available cancelled discarded retried edited deleted
    retryable available cancelled retried edited deleted
    available started cancelled discarded edited deleted
    running   retrying snoozed interrupted crashed completed discarded cancelled cancel_requested deleted
    completed retried deleted
    discarded retried deleted
    cancelled retried deleted
";
const PAIRS: usize = 45;

/// What a run has seen.
#[derive(Default)]
struct Seen {
    ops: u64,
    listeners: (u64, u64),
    reached: BTreeMap<(&'static str, &'static str), u64>,
    meetings: BTreeMap<Meeting, u64>,
}

#[test]
fn random_commands_do_the_same_to_both_engines() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let (one, ops) = (number("RUNNER_SIM_SEED"), number("RUNNER_SIM_OPS"));
    let of_a_seed = ops.map_or(OPS / SEEDS, |ops| ops.min(OPS_OF_A_SEED));
    let seeds = one.map_or(1..1 + ops.unwrap_or(OPS).div_ceil(of_a_seed), |seed| seed..seed + 1);
    let mut seen = Seen::default();
    for seed in seeds {
        let run = std::panic::AssertUnwindSafe(|| run(seed, of_a_seed, &mut seen));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("again: RUNNER_SIM_SEED={seed} cargo test -p runner-store --test sim model");
            std::panic::resume_unwind(panic);
        }
    }
    let (told, refused) = seen.listeners;
    println!("{} commands, {told} jobs that listen, {refused} without room", seen.ops);
    for ((state, event), n) in &seen.reached {
        println!("{state:>10} {event:<16} {n}");
    }
    for (Meeting { first, then, on }, n) in &seen.meetings {
        println!("{first:?}, then {then:?} on {on:?}: {n}");
    }
    if one.is_none() {
        check_reached(&seen);
        check_meetings(&seen);
        assert!(told > 0 && refused > 0);
    }
}

fn check_reached(seen: &Seen) {
    let lines = POSSIBLE.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut possible: Vec<(&str, &str)> = Vec::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let state = words.next().unwrap();
        possible.extend(words.map(|event| (state, event)));
    }
    possible.sort_unstable();
    assert_eq!(possible.len(), PAIRS);
    let reached: Vec<(&str, &str)> = seen.reached.keys().copied().collect();
    let missing: Vec<_> = possible.iter().filter(|pair| !reached.contains(pair)).collect();
    let surprising: Vec<_> = reached.iter().filter(|pair| !possible.contains(pair)).collect();
    assert!(missing.is_empty() && surprising.is_empty(), "never reached: {missing:?}; impossible: {surprising:?}");
}

/// Cancels, crashes, retries, deletions and settling have met on one job, and along one edge, in one batch or in two
/// neighbouring ones, in every order in which they can.
fn check_meetings(seen: &Seen) {
    for first in What::ALL {
        for then in What::ALL {
            for on in Meeting::possible(first, then) {
                let n = seen.meetings.get(&Meeting { first, then, on }).copied().unwrap_or_default();
                assert!(n > 0, "{first:?} was never followed by {then:?} on {on:?}");
            }
        }
    }
}

fn run(seed: u64, ops: u64, seen: &mut Seen) {
    let mut world = World::without_handles();
    let mut workload = Workload::new(seed);
    let mut auditor = Auditor::default();
    let opening = workload.opening();
    batch(&mut world, &mut workload, &mut auditor, &opening);
    let (mut done, mut batches) = (0, 0);
    while done < ops {
        step_clock(&world.clock, &mut workload);
        let conduct = conduct(&mut workload);
        world.conduct(conduct);
        let commands = workload.batch(world.now(), BATCH_COMMANDS_MAX);
        batch(&mut world, &mut workload, &mut auditor, &commands);
        done += commands.len() as u64;
        batches += 1;
        ask(&world, &mut workload);
        if workload.dice.one_in(60) {
            world.reopen_in_the_middle();
        }
        if workload.dice.one_in(400) {
            world.pause();
        }
        if batches % 200 == 0 || done >= ops {
            let dump = world.check();
            auditor.check(&dump);
        }
    }
    seen.ops += done;
    let (told, refused) = auditor.listeners();
    seen.listeners = (seen.listeners.0 + told, seen.listeners.1 + refused);
    for ((state, event), n) in auditor.reached() {
        *seen.reached.entry((state.map_or("–", StateName::as_str), EventName::as_str(event))).or_default() += n;
    }
    for (meeting, n) in auditor.meetings() {
        *seen.meetings.entry(meeting).or_default() += n;
    }
}

fn batch(world: &mut World, workload: &mut Workload, auditor: &mut Auditor, commands: &[Command]) {
    let replies = world.batch(commands);
    for (command, reply) in commands.iter().zip(&replies) {
        workload.learn(command, reply);
    }
    let log = world.log_from(auditor.seen() + 1);
    auditor.follow((world.now(), world.conducts().destroy), commands, &replies, &log);
}

pub(crate) fn step_clock(clock: &Clock, workload: &mut Workload) {
    let now = clock.now().0;
    let to = match workload.dice.below(100) {
        0 => now - 20_000,
        1 => now + 25 * 3_600 * 1_000,
        2..50 => now,
        _ => now + workload.dice.below(1_500),
    };
    clock.set(Time(to));
}

fn conduct(workload: &mut Workload) -> Conduct {
    let d = &mut workload.dice;
    Conduct { accept: !d.one_in(40), claim: !d.one_in(40), destroy: !d.one_in(6) }
}

fn ask(world: &World, workload: &mut Workload) {
    let at = workload.someone();
    for query in
        [Query::Job(at), Query::Runs(at), Query::Payload(at, Part::Args), Query::NextDue, Query::Counts, Query::Oldest]
    {
        world.ask(&query);
    }
    world.ask(&Query::Jobs(workload.query()));
    world.ask(&Query::Unique(at.tenant, "s1".to_owned()));
    let keys = workload.keys_query();
    for key in ["", "ab"] {
        world.ask(&Query::Kv(keys.space, key.to_owned()));
    }
    world.ask(&Query::KvCount(keys.space.tenant));
    world.ask(&Query::KvKeys(keys));
    world.ask(&Query::RunLog(workload.some_run()));
    world.ask(&Query::Stored);
    if workload.dice.one_in(30)
        && let Answer::Names(names) = world.ask(&Query::Names)
    {
        workload.learn_names(&names);
    }
}
