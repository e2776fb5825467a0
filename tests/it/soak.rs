//! `kill -9` of the real process under load, at any moment of its life, with a ledger kept by its clients: what was
//! acknowledged is there afterwards, once, in the state that follows.
//!
//! `RUNNER_SOAK_RESTARTS=<n>` restarts it so often (12 by default), `RUNNER_SIM_SEED=<seed>` throws the same dice again:
//! what is asked for, and after how many answers which end comes. What the threads do in between, no seed repeats.

mod audit;
mod clerk;
mod guests;
mod ledger;
mod named;
mod process;
pub(crate) mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use self::audit::Verdict;
use self::clerk::{Clerk, Shared};
use self::ledger::Ledger;
use self::process::{Place, Process, RunKey};
use self::wire::Ask;

const RESTARTS: u64 = 12;
const SEED: u64 = 1;
const CLERKS: u64 = 6;
/// Answers between a start and its end: at least, and how many more.
const ANSWERS: (u64, u64) = (20, 580);
/// Starts after which the whole store is checked before the next one.
const CHECK_EVERY: u64 = 6;
/// How long a drain is watched before it is killed.
const DRAIN_MS_MAX: u64 = 150;

/// Numbers that follow from a seed.
pub(crate) struct Dice(u64);

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// SIGKILL while it starts, which is when it recovers.
    Starting,
    /// SIGKILL under load.
    Working,
    /// SIGTERM, then SIGKILL while it drains.
    Draining,
    /// SIGTERM, and it may come to its end.
    Stopped,
}

#[derive(Default)]
struct Soak {
    ready: Vec<Duration>,
    ends: Vec<End>,
    /// Of each kill, the runs whose handlers it found entered.
    kills: Vec<BTreeSet<RunKey>>,
}

impl Dice {
    /// The next number below `n`, which is not 0.
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn end(&mut self) -> End {
        match self.below(20) {
            0..3 => End::Starting,
            3..7 => End::Draining,
            7 => End::Stopped,
            _ => End::Working,
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn nothing_is_lost_or_doubled_by_kills_at_any_moment() {
    let seed = variable("RUNNER_SIM_SEED").unwrap_or(SEED);
    let restarts = variable("RUNNER_SOAK_RESTARTS").unwrap_or(RESTARTS);
    eprintln!(
        "again: RUNNER_SIM_SEED={seed} RUNNER_SOAK_RESTARTS={restarts} cargo test -p runner --test it soak -- --nocapture"
    );
    let place = Place::new();
    let shared = Arc::new(Shared::default());
    let began = Instant::now();
    let (soak, ledger) = std::thread::scope(|scope| {
        let clerks: Vec<_> = (0..CLERKS)
            .map(|name| Clerk::new(name, Dice(seed ^ (name + 1) << 32), place.wire(), Arc::clone(&shared)))
            .map(|clerk| scope.spawn(|| StopOnPanic(&shared).hold(|| clerk.work())))
            .collect();
        // Whatever ends this closure ends the clerks.
        let _stop = StopOnPanic(&shared);
        let mut soak = Soak::default();
        let mut dice = Dice(seed);
        for round in 1..=restarts {
            if shared.stop.load(Ordering::Relaxed) {
                // A clerk has found something, and says so when it is joined.
                break;
            }
            let end = dice.end();
            soak.round(&place, &shared, &mut dice, end);
            if round % CHECK_EVERY == 0 {
                let report = place.open().check().unwrap();
                assert!(report.is_clean(), "after {round} starts ({end:?}): {:#?}", report.findings);
            }
        }
        let mut last = place.serve(&[]);
        soak.ready.push(last.age());
        shared.stop.store(true, Ordering::Relaxed);
        let ledgers = clerks.into_iter().map(|clerk| clerk.join().expect("a clerk found something")).collect();
        until_all_have_ended(&place, &mut last);
        last.stop();
        (soak, Ledger::merge(ledgers))
    });
    let found = audit::audit(&place, &ledger, &soak.kills);
    soak.tell(&ledger, &found, began.elapsed());
    let log = place.log();
    let bad: Vec<&str> = log.lines().filter(|line| line.contains("panicked") || line.contains("\"ERROR\"")).collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    found.check();
}

fn until_all_have_ended(place: &Place, process: &mut Process) {
    let mut wire = place.wire();
    process.until("all jobs have ended", || {
        let Ok(answer) = wire.once(&Ask::get("/v1/jobs/count?by=state")) else { return false };
        let counts = answer.body["counts"].as_array().cloned().unwrap_or_default();
        counts.iter().all(|count| matches!(count["state"].as_str(), Some("completed" | "discarded" | "cancelled")))
    });
}

impl Soak {
    /// One life of the process.
    fn round(&mut self, place: &Place, shared: &Shared, dice: &mut Dice, end: End) {
        let mut process = place.spawn(&["--grace", "2s"]);
        if end == End::Starting {
            let usual = self.ready.last().copied().unwrap_or(Duration::from_millis(300));
            process.until_age(usual.mul_f64(dice.below(100) as f64 / 100.0));
        } else {
            self.ready.push(process.ready());
            let answers = shared.answers.load(Ordering::Relaxed) + ANSWERS.0 + dice.below(ANSWERS.1);
            process.until("the clients are answered", || {
                shared.answers.load(Ordering::Relaxed) >= answers || shared.stop.load(Ordering::Relaxed)
            });
        }
        match end {
            End::Starting | End::Working => _ = process.kill(),
            End::Draining => {
                process.terminate();
                let watched = process.age() + Duration::from_millis(dice.below(DRAIN_MS_MAX));
                process.until_age(watched);
                process.kill();
            }
            End::Stopped => process.stop(),
        }
        self.kills.push(place.entered());
        self.ends.push(end);
    }

    fn tell(&self, ledger: &Ledger, found: &Verdict, took: Duration) {
        let mut ready = self.ready.clone();
        ready.sort();
        let at = |percent: usize| ready[(ready.len() * percent / 100).min(ready.len() - 1)].as_millis();
        let ends = |end| self.ends.iter().filter(|is| **is == end).count();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        eprintln!(
            "soak: {} restarts in {} s: {} killed under load, {} in a drain, {} in a start, {} stopped; load {}",
            self.ends.len(),
            took.as_secs(),
            ends(End::Working),
            ends(End::Draining),
            ends(End::Starting),
            ends(End::Stopped),
            load.trim(),
        );
        eprintln!(
            "soak: {} jobs acknowledged, {} calls {:?}, {} enqueues cut and repeated, {} cut without a key",
            ledger.entries.len(),
            ledger.calls.values().sum::<u64>(),
            ledger.calls,
            ledger.repeated,
            ledger.perhaps.len(),
        );
        eprintln!(
            "soak: {} jobs at the end, {} events, {} runs crashed, {} interrupted; {} lost, {} double, {} wrong",
            found.jobs,
            found.events,
            found.crashed_runs,
            found.interrupted_runs,
            found.lost.len(),
            found.double.len(),
            found.wrong.len(),
        );
        eprintln!("soak: ready after p50 {} ms, p99 {} ms of {} starts", at(50), at(99), ready.len());
    }
}

/// Whoever fails lets the others end too.
struct StopOnPanic<'a>(&'a Shared);

impl StopOnPanic<'_> {
    fn hold<T>(self, work: impl FnOnce() -> T) -> T {
        work()
    }
}

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop.store(true, Ordering::Relaxed);
        }
    }
}
