//! `kill -9` of a process under load, again and again on one store. Its parent keeps the ledger: whatever was acknowledged
//! before the kill is there afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command as Process, Stdio};

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Answer, Claim, Command, Grant, Lane, Part, Query, Reply, RunRef};
use runner_store::dir::{Create, StoreDir, new_boot};
use runner_store::engine::Engine;
use runner_store::engine::redb::Commit;
use runner_store::job::{BootId, JobId, Outcome, StateName};

use crate::workload::Dice;
use crate::world::*;

const CHILD: &str = "RUNNER_SIM_CHILD";
const ROUNDS: u64 = 24;
/// Callers in the child, each of which enqueues, claims and finishes.
const CALLERS: u64 = 4;

/// What the child said that it had been told.
#[derive(Default)]
struct Ledger {
    enqueued: BTreeSet<u64>,
    claimed: BTreeMap<u64, u32>,
    completed: BTreeMap<u64, u32>,
}

#[test]
fn whatever_was_acknowledged_before_a_kill_is_there() {
    let dir = quick_dir();
    let store = dir.path().join("store");
    drop(StoreDir::new(&store).open(Create::NewFolder, Clock::System, Commit::TwoPhase).unwrap());
    let mut ledger = Ledger::default();
    let mut dice = Dice(7);
    for round in 0..ROUNDS {
        run_and_kill(&store, 20 + dice.below(400), &mut ledger);
        check(&store, &ledger, round);
    }
    assert!(ledger.completed.len() > 500, "{} jobs were completed", ledger.completed.len());
}

/// Lets the child work until it has been told so many things, then kills it.
fn run_and_kill(store: &Path, acknowledged: u64, ledger: &mut Ledger) {
    let mut child = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "recovery::kill::child", "--nocapture"])
        .env(CHILD, store)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said = lines.by_ref().filter(|line| ledger.read(line)).take(acknowledged as usize).count();
    child.kill().unwrap();
    assert_eq!(said as u64, acknowledged, "the child ended by itself");
    // What it said before it died counts too; a line that it did not finish was never said.
    lines.for_each(|line| _ = ledger.read(&line));
    child.wait().unwrap();
}

impl Ledger {
    /// Whether the line was an acknowledgement.
    fn read(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |i: usize| words.get(i).and_then(|word| word.parse::<u64>().ok());
        match (words[0], number(1), number(2), words.last()) {
            ("enqueued", Some(id), Some(_), Some(&".")) => _ = self.enqueued.insert(id),
            ("claimed", Some(id), Some(run), Some(&".")) => _ = self.claimed.insert(id, run as u32),
            ("completed", Some(id), Some(run), Some(&".")) => _ = self.completed.insert(id, run as u32),
            _ => return false,
        }
        true
    }
}

fn check(store: &Path, ledger: &Ledger, round: u64) {
    let engine = StoreDir::new(store).open(Create::No, Clock::System, Commit::TwoPhase).unwrap();
    let report = engine.check().unwrap();
    assert!(report.is_clean(), "round {round}: {:#?}", report.findings);
    let view = engine.reader().snapshot().unwrap();
    let job = |id: u64| match view.read(&Query::Job(at(JobId(id)))).unwrap() {
        Answer::Job(Some(job)) => job,
        _ => panic!("round {round}: job {id} was accepted and is gone"),
    };
    ledger.enqueued.iter().for_each(|id| _ = job(*id));
    for (id, run) in &ledger.claimed {
        assert!(job(*id).run.0 >= *run, "round {round}: run {run} of job {id} was given out and forgotten");
    }
    for (id, run) in &ledger.completed {
        let job = job(*id);
        assert_eq!((job.state.name(), job.run.0), (StateName::Completed, *run), "round {round}: job {id}");
        let output = view.read(&Query::Payload(at(JobId(*id)), Part::Output)).unwrap();
        assert_eq!(output, Answer::Payload(Some(format!("{id} {run}").into_bytes())), "round {round}: job {id}");
        let Answer::Runs(runs) = view.read(&Query::Runs(at(JobId(*id)))).unwrap() else { panic!("not runs") };
        assert_eq!(runs.len(), *run as usize, "round {round}: job {id}");
    }
}

/// Not a test of its own: the process that [`run_and_kill`] starts and kills.
#[test]
fn child() {
    let Some(store) = std::env::var_os(CHILD) else { return };
    let engine = StoreDir::new(store).open(Create::No, Clock::System, Commit::TwoPhase).unwrap();
    let (handle, _writer) = Handle::start(Box::new(engine)).unwrap();
    let boot = new_boot();
    while let Ok(Reply::Ended { more: true, .. }) = handle.call_blocking(end_boots(boot, Vec::new())) {}
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let handle = &handle;
            scope.spawn(move || {
                let mut dice = Dice(boot.0 ^ caller);
                while work_once(handle, boot, &mut dice).is_some() {}
            });
        }
    });
}

/// Enqueues some, claims some, completes them. None: the store has stopped.
fn work_once(handle: &Handle, boot: BootId, dice: &mut Dice) -> Option<()> {
    let jobs = vec![work(); 1 + dice.below(8) as usize];
    for id in ids(&handle.call_blocking(enqueue(jobs)).ok()?) {
        say(format_args!("enqueued {id} 0 ."));
    }
    let lane = Lane::new(TENANT, handle.queue_id(TENANT, "default")?, handle.kind_id(TENANT, "work")?);
    let max = 1 + dice.below(8) as u32;
    let claim = Command::Claim(Claim { holder: boot, max, grants: vec![Grant { lane, max }] });
    let jobs = claimed(&handle.call_blocking(claim).ok()?);
    for job in &jobs {
        say(format_args!("claimed {} {} .", job.id, job.run));
    }
    for job in jobs {
        let output = format!("{} {}", job.id, job.run).into_bytes();
        let run = RunRef { at: job.at(), run: job.run };
        handle.call_blocking(finish(run, Outcome::Completed { output })).ok()?;
        say(format_args!("completed {} {} .", job.id, job.run));
    }
    Some(())
}

/// One whole line at once.
fn say(what: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: the kill is on its way.
    _ = writeln!(out, "{what}").and_then(|()| out.flush());
}
