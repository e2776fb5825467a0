//! I/O errors at every operation of a run, from the first read of an opening to the last write of a closing. Whoever was
//! told that a batch is there finds it; of a batch whose outcome is unknown all is there or nothing; and an engine that
//! failed once does nothing more.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use runner_store::Handle;
use runner_store::command::{Command, Reply};
use runner_store::engine::redb::Commit;
use runner_store::error::CallError;

use super::disk::{Disk, Effect, Fault, Gate, Image, Op};
use super::images::check;
use super::script::{Script, random};
use crate::workload::Dice;
use crate::world::{enqueue, work};

const SEED: u64 = 1;
const BATCHES: usize = 14;
/// What fails of a closed file's disk, and of a full one.
const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const KINDS: [(i32, Effect); 6] = [
    (EIO, Effect::None),
    (EIO, Effect::Whole),
    (EIO, Effect::Sticky),
    (ENOSPC, Effect::None),
    (ENOSPC, Effect::Whole),
    (ENOSPC, Effect::Sticky),
];
/// More operations than an opening, a batch and a closing have.
const OPERATIONS_MAX: u64 = 2_000;

/// What images of a script hold that were looked at before, by their hash.
#[derive(Default)]
struct Known(HashMap<u64, usize>);

type Call<'a> = Pin<Box<dyn Future<Output = Result<Reply, CallError>> + 'a>>;

fn seed() -> u64 {
    std::env::var("RUNNER_SIM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED)
}

/// Runs one experiment for every operation, until one in which the fault never came.
fn at_every_operation(script: &Script, test: &str, mut run: impl FnMut(u64, i32, Effect) -> bool) {
    for (errno, effect) in KINDS {
        let experiments = (0..OPERATIONS_MAX).find(|at| {
            let go = std::panic::AssertUnwindSafe(|| run(*at, errno, effect));
            std::panic::catch_unwind(go).map(|came| !came).unwrap_or_else(|panic| {
                let seed = script.seed;
                eprintln!("error {errno} with effect {effect:?} at operation {at} ({:?})", script.commit);
                eprintln!("again: RUNNER_SIM_SEED={seed} cargo test -p runner-store --test sim {test}");
                std::panic::resume_unwind(panic)
            })
        });
        assert!(experiments.is_some(), "a run of more than {OPERATIONS_MAX} operations");
    }
}

#[test]
fn an_error_at_any_operation_is_an_error_and_leaves_whole_batches() {
    std::thread::scope(|scope| {
        for commit in [Commit::TwoPhase, Commit::OnePhase] {
            scope.spawn(move || fail_everywhere(commit));
        }
    });
}

fn fail_everywhere(commit: Commit) {
    let script = Script::random(seed(), commit, BATCHES, true);
    let (mut outcomes, mut known) = (BTreeMap::new(), Known::default());
    for n in 0..script.len() - 1 {
        at_every_operation(&script, "an_error_at_any", |at, errno, effect| {
            let disk = Disk::failing(script.image(n).clone(), Fault { at, errno, effect });
            let (outcome, holds) = work_until_it_fails(&script, n, &disk);
            known.check_left(&script, n, holds, &disk, at);
            *outcomes.entry(outcome).or_insert(0_u64) += 1;
            disk.has_failed()
        });
    }
    println!("{commit:?}: {outcomes:?}, {} distinct files left behind", known.0.len());
    assert!(outcomes.len() == 4, "{outcomes:?}");
}

/// What came of it, and what the store must hold: whether the batch is there, where that is known.
fn work_until_it_fails(script: &Script, n: usize, disk: &Disk) -> (&'static str, Option<bool>) {
    let Ok((mut engine, clock)) = script.open(disk.clone()) else {
        assert!(disk.has_failed(), "nothing had failed");
        return ("opening failed", Some(false));
    };
    if script.step(n, &mut engine, &clock).is_err() {
        assert!(disk.has_failed(), "nothing had failed");
        // As often as anyone asks: it is over.
        for _ in 0..2 {
            script.step(n + 1, &mut engine, &clock).expect_err("an engine that failed goes on");
        }
        return ("unknown", None);
    }
    drop(engine);
    (if disk.has_failed() { "recorded, then closing failed" } else { "nothing failed" }, Some(true))
}

impl Known {
    /// What the next process finds, after this one died, after a power cut, and after a power cut that kept some.
    fn check_left(&mut self, script: &Script, n: usize, batch_is_there: Option<bool>, disk: &Disk, at: u64) {
        let mut some = disk.durable();
        let mut dice = Dice(at);
        let trace = disk.trace();
        let unsynced = trace.iter().rposition(|op| matches!(op, Op::Sync)).map_or(0, |last| last + 1);
        trace[unsynced..].iter().filter(|_| dice.one_in(2)).for_each(|op| some.apply(op));
        let images = [(disk.live(), "a restart"), (disk.durable(), "a power cut"), (some, "a power cut, some kept")];
        for (image, after) in images {
            let found = *self.0.entry(image.hash()).or_insert_with(|| look(script, image, after));
            let holds = match batch_is_there {
                Some(there) => script.is_at(found, n + usize::from(there)),
                None => script.is_at(found, n) || script.is_at(found, n + 1),
            };
            assert!(holds, "after {after}: {found} batches, and batch {n} is there: {batch_is_there:?}");
        }
    }
}

/// After how many batches the store was as it is here.
fn look(script: &Script, image: Image, after: &str) -> usize {
    let (mut engine, _) = script.open(Disk::of(image)).unwrap_or_else(|error| panic!("after {after}: {error}"));
    let found = script.find(&engine.dump().unwrap()).unwrap_or_else(|| panic!("after {after}: what was never there"));
    assert_eq!(check(&mut engine, true), [""; 0], "after {after}");
    found
}

/// One caller's batch is being made durable, and others have queued up behind it, when the disk fails.
#[test]
fn every_caller_learns_what_an_error_means_for_it() {
    let script = Script::new(seed(), Commit::TwoPhase, BATCHES, |n, now, workload| match n % 2 {
        0 => vec![enqueue(vec![work()])],
        _ => light(random(n, now, workload)),
    });
    let (mut outcomes, mut known) = (BTreeMap::new(), Known::default());
    for n in (0..script.len()).step_by(2) {
        at_every_operation(&script, "every_caller", |at, errno, effect| {
            let disk = Disk::of(script.image(n).clone());
            let [first, rest] = call_until_it_fails(&script, n, &disk, (at, errno, effect));
            *outcomes.entry((first, rest)).or_insert(0_u64) += 1;
            match (first, rest) {
                ("unknown", _) => known.check_left(&script, n, None, &disk, at),
                (_, "unknown") => known.check_left(&script, n + 1, None, &disk, at),
                _ => known.check_left(&script, n + 1, Some(true), &disk, at),
            }
            disk.has_failed()
        });
    }
    println!("{outcomes:?}");
    for outcome in [("unknown", "stopped"), ("recorded", "unknown"), ("recorded", "recorded")] {
        assert!(outcomes.contains_key(&outcome), "{outcomes:?}");
    }
}

/// What of a batch the writer takes in one transaction, and does not follow up with steps of its own: nothing that weighs
/// as much as a thousand jobs, nobody who waits to be told, and no limit that the next caller's job would not pass.
fn light(mut commands: Vec<Command>) -> Vec<Command> {
    use Command::{Bulk, EndBoots, Revive, Set, Settle, Sweep};
    commands.retain(|command| !matches!(command, Revive { .. } | EndBoots(_) | Bulk(_) | Sweep(_) | Settle | Set(_)));
    for command in &mut commands {
        match command {
            Command::Enqueue(call) => call.jobs.iter_mut().for_each(|spec| spec.depends_on.clear()),
            Command::Finish(call) => call.staged.iter_mut().for_each(|staged| staged.spec.depends_on.clear()),
            Command::FinishCall(call) => call.staged.iter_mut().for_each(|staged| staged.spec.depends_on.clear()),
            _ => {}
        }
    }
    // Somebody is always there to be told.
    commands.push(Command::ReserveIds { n: 1 });
    commands
}

/// What the first caller was told, and all of the others.
fn call_until_it_fails(
    script: &Script,
    n: usize,
    disk: &Disk,
    (at, errno, effect): (u64, i32, Effect),
) -> [&'static str; 2] {
    let (engine, clock) = script.open(disk.clone()).unwrap();
    let (handle, writer) = Handle::start(Box::new(engine)).unwrap();
    script.set_clock(n, &clock);
    let gate = Arc::new(Gate::default());
    disk.close(Arc::clone(&gate));
    let mut first = call_all(&handle, script, n);
    gate.wait();
    let mut rest = call_all(&handle, script, n + 1);
    script.set_clock(n + 1, &clock);
    disk.fail_after(at, errno, effect);
    gate.open();
    let told = [told(&mut first), told(&mut rest)];
    drop((first, rest));
    if told != ["recorded"; 2] {
        assert!(disk.has_failed(), "nothing had failed");
        assert!(matches!(handle.call_blocking(enqueue(vec![work()])), Err(CallError::Stopped)));
        assert!(handle.failure().is_some());
    }
    drop(handle);
    writer.join();
    told
}

/// Queues every command of a batch up.
fn call_all<'a>(handle: &'a Handle, script: &Script, n: usize) -> Vec<Call<'a>> {
    let mut calls: Vec<Call<'a>> = Vec::new();
    for command in script.commands(n) {
        let mut call: Call<'a> = Box::pin(handle.call(command.clone()));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "a batch is being written");
        calls.push(call);
    }
    calls
}

/// Who is in a batch with others is told the same as they.
fn told(calls: &mut [Call<'_>]) -> &'static str {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let told: Vec<&str> = calls
        .iter_mut()
        .map(|call| match runtime.block_on(call.as_mut()) {
            Ok(_) => "recorded",
            Err(CallError::Unknown(_)) => "unknown",
            Err(CallError::Stopped) => "stopped",
        })
        .collect();
    assert!(told.windows(2).all(|two| two[0] == two[1]), "{told:?}");
    told[0]
}
