//! A process that dies in the middle loses nothing, doubles nothing, and says of each run what became of it.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use runner_store::command::RunRef;
use runner_store::engine::Engine;
use runner_store::job::{JobId, OutcomeName, StateName};
use runner_store::slots;

use super::lists::{Lists, all_jobs, runs};

const JOBS: usize = 10_000;

/// Computes for a millisecond or two, longer than a commit, so that a kill finds handlers running; and completes.
const WORK: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "_start") (local $i i32)
    (loop $more
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $i) (i32.const 2000000))))))"#;

fn ten_thousand() -> Lists {
    let mut list = String::new();
    for n in 0..JOBS {
        writeln!(list, r#"{{"kind": "work", "args": {{"n": {n}}}}}"#).unwrap();
    }
    Lists::new(&[("work", WORK, "")], &list)
}

/// Waits until the file of started runs names a job behind the first `n`.
fn wait_until_started(slots: &Path, n: u64) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let started = slots::previous(slots).unwrap().map(|previous| previous.started).unwrap_or_default();
        if started.iter().any(|run| run.at.job.0 > n) {
            return;
        }
        assert!(Instant::now() < deadline, "no job behind {n} has started");
        std::thread::yield_now();
    }
}

#[test]
fn ten_thousand_jobs_outlive_a_kill_in_the_middle() {
    let place = ten_thousand();
    let mut first = place.run();
    wait_until_started(&place.store.slots(), JOBS as u64 / 4);
    first.kill().unwrap();
    first.wait().unwrap();

    let started: HashSet<RunRef> =
        slots::previous(&place.store.slots()).unwrap().unwrap().started.into_iter().collect();
    assert!(!started.is_empty(), "the kill found handlers running");
    let engine = place.open();
    let jobs = all_jobs(engine.reader().snapshot().unwrap().as_ref());
    assert_eq!(jobs.len(), JOBS, "every job was accepted before the first one ran");
    let leased: HashSet<JobId> =
        jobs.iter().filter(|job| job.state.name() == StateName::Running).map(|job| job.id).collect();
    let completed = jobs.iter().filter(|job| job.state.name() == StateName::Completed).count();
    assert!(completed < JOBS, "it was in the middle");
    let report = engine.check().unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    drop(engine);

    let second = place.run().wait_with_output().unwrap();
    assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stderr));
    let engine = place.open();
    let view = engine.reader().snapshot().unwrap();
    let jobs = all_jobs(view.as_ref());
    assert_eq!(jobs.len(), JOBS, "none is lost and none came twice");
    for job in &jobs {
        let runs = runs(view.as_ref(), job);
        assert_eq!(job.state.name(), StateName::Completed, "job {}", job.id);
        assert_eq!(runs.last().unwrap().outcome, OutcomeName::Completed);
        let first = &runs[0];
        let run = RunRef { at: job.at(), run: first.run };
        if !leased.contains(&job.id) {
            assert_eq!(runs.len(), 1, "job {} was not in hand and ran once", job.id);
        } else if started.contains(&run) {
            assert_eq!((first.outcome, runs.len()), (OutcomeName::Crashed, 2), "job {}", job.id);
            assert_eq!(job.attempts, 2, "a crash is a failed attempt");
        } else {
            assert_eq!((first.outcome, runs.len()), (OutcomeName::Interrupted, 2), "job {}", job.id);
            assert_eq!(job.attempts, 1, "what was only claimed has burnt no attempt");
        }
    }
    let report = engine.check().unwrap();
    assert_eq!((report.findings.clone(), report.jobs), (vec![], JOBS as u64));
    assert_eq!(report.folded, JOBS as u64, "every row is the sum of its events");
    drop((view, engine));

    let third = place.run().wait_with_output().unwrap();
    assert!(third.status.success(), "all have ended already");
    let engine = place.open();
    assert_eq!(all_jobs(engine.reader().snapshot().unwrap().as_ref()).len(), JOBS);
}

/// `--again` once began a third copy after a kill, and without it the command said that all had ended, as the keys of the
/// copy that was killed were random and nobody found them again.
#[test]
fn a_list_that_is_run_again_goes_on_after_a_kill_as_well() {
    const FEW: usize = 1_000;
    let line = "{\"kind\": \"work\"}\n";
    let place = Lists::new(&[("work", WORK, "")], &line.repeat(FEW));
    assert!(place.run().wait_with_output().unwrap().status.success());
    let mut again = place.run_with(&["--again"]);
    wait_until_started(&place.store.slots(), FEW as u64 + 100);
    again.kill().unwrap();
    again.wait().unwrap();
    for args in [["--again"].as_slice(), &[]] {
        assert!(place.run_with(args).wait_with_output().unwrap().status.success());
        let engine = place.open();
        let jobs = all_jobs(engine.reader().snapshot().unwrap().as_ref());
        assert_eq!(jobs.len(), 2 * FEW, "it went on with the second copy");
        assert!(jobs.iter().all(|job| job.state.name() == StateName::Completed));
    }
    assert!(place.run_with(&["--again"]).wait_with_output().unwrap().status.success());
    assert_eq!(all_jobs(place.open().reader().snapshot().unwrap().as_ref()).len(), 3 * FEW);
}
