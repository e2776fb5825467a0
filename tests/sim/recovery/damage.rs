//! Files with flipped bytes, holes and missing ends: an error, a finding, or no effect; never a panic.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use runner_store::clock::Clock;
use runner_store::command::{Command, JobsQuery, Query};
use runner_store::engine::Engine;
use runner_store::engine::redb::{Commit, Redb};
use runner_store::job::{JobId, Outcome, Seq};
use runner_store::writer::step;

use crate::workload::Dice;
use crate::world::*;

const MUTATIONS: u64 = 200;

/// What became of a damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Opening says what is wrong.
    Refused,
    /// It opens; reading, checking or writing says what is wrong.
    Found,
    /// The damage lies where nothing is.
    Harmless,
}

/// Two files with a few hundred jobs in several states: as a killed process leaves it, and closed in order. The first is
/// repaired when it is opened, which reads every page; the second is not.
fn healthy(path: &Path) -> [Vec<u8>; 2] {
    let clock = Clock::manual(START);
    let mut engine = Redb::create(path, clock, Commit::TwoPhase).unwrap();
    let run = |id| runner_store::command::RunRef { at: at(JobId(id)), run: runner_store::job::RunNumber(1) };
    let lane = |engine: &Redb| {
        let job = &engine.dump().unwrap().jobs[0];
        runner_store::index::lane(job)
    };
    step(&mut engine, &[enqueue(vec![work(); 400])]).unwrap();
    let lane = lane(&engine);
    let mut commands = vec![claim(BOOT, 200, &[lane])];
    commands.extend((1..=150).map(|id| finish(run(id), Outcome::Completed { output: vec![b'x'; 100] })));
    commands.extend((300..320).map(|id| cancel(JobId(id))));
    step(&mut engine, &commands).unwrap();
    assert!(engine.check().unwrap().is_clean());
    let killed = fs::read(path).unwrap();
    drop(engine);
    [killed, fs::read(path).unwrap()]
}

/// Opens the file, looks at everything, and writes to it, as a server would.
fn look(path: &Path) -> Fate {
    let Ok(mut engine) = Redb::open(path, Clock::manual(START), Commit::TwoPhase) else { return Fate::Refused };
    let whole = engine.verify_pages().is_ok_and(|whole| whole);
    let clean = whole && engine.check().is_ok_and(|report| report.is_clean()) && engine.dump().is_ok();
    let reads = engine.reader().snapshot().is_ok_and(|view| {
        let jobs = JobsQuery::all(TENANT, 1_000);
        let queries = [Query::Jobs(jobs), Query::Counts, Query::Names, Query::Events { since: Seq(0), limit: 1_000 }];
        queries.iter().all(|query| view.read(query).is_ok())
    });
    let writes = step(&mut engine, &[enqueue(vec![work()]), cancel(JobId(210)), Command::Due]).is_ok();
    if clean && reads && writes { Fate::Harmless } else { Fate::Found }
}

/// Damages a copy of the file and looks at it; a panic is a failed test.
#[track_caller]
fn check_damaged(dir: &Path, bytes: &[u8], what: &str) -> Fate {
    let path = dir.join("damaged.redb");
    fs::write(&path, bytes).unwrap();
    catch_unwind(AssertUnwindSafe(|| look(&path))).unwrap_or_else(|_| panic!("a panic: {what}"))
}

#[test]
fn a_file_that_lost_its_end_is_refused() {
    let dir = quick_dir();
    for bytes in healthy(&dir.path().join("healthy.redb")) {
        assert_eq!(check_damaged(dir.path(), &bytes, "nothing"), Fate::Harmless);
        for eighths in 0..8 {
            let len = (bytes.len() * eighths / 8).max(1);
            let fate = check_damaged(dir.path(), &bytes[..len], &format!("cut at {len} of {}", bytes.len()));
            assert_ne!(fate, Fate::Harmless, "cut at {len}");
        }
    }
}

#[test]
fn damage_anywhere_is_an_error_a_finding_or_harmless_but_never_a_panic() {
    let dir = quick_dir();
    let files = healthy(&dir.path().join("healthy.redb"));
    let mut dice = Dice(3);
    let mut fates: BTreeMap<Fate, u64> = BTreeMap::new();
    for n in 0..MUTATIONS {
        let bytes = &files[n as usize % 2];
        let mut damaged = bytes.clone();
        // Most of a young file is empty; damage what is not.
        let somewhere = dice.below(bytes.len() as u64) as usize;
        let start = bytes[..=somewhere].iter().rposition(|byte| *byte != 0).unwrap();
        let len = [1, 1, 64, 4_096][dice.below(4) as usize];
        let end = (start + len).min(bytes.len());
        for byte in &mut damaged[start..end] {
            *byte = if n % 3 == 0 { 0 } else { dice.next() as u8 };
        }
        *fates
            .entry(check_damaged(dir.path(), &damaged, &format!("bytes {start}..{end}, mutation {n}")))
            .or_insert(0) += 1;
    }
    println!("{fates:?}");
    assert!(fates[&Fate::Refused] > MUTATIONS / 20 && fates[&Fate::Found] > MUTATIONS / 20, "{fates:?}");
}
