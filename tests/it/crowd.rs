//! Handlers that never end or eat memory cost one job each: a thousand others in the same list finish on time.

use std::collections::HashMap;

use runner_store::engine::Engine;
use runner_store::job::{Job, OutcomeName, StateName};

use super::lists::{Lists, all_jobs, runs};

const HONEST: usize = 1_000;
/// The time-out of those that never end.
const TIMEOUT_MS: u64 = 4_000;
/// A stop comes within 50 ms; five times that, as the machine may be busy.
const LATE_MS_MAX: u64 = 250;

const SPIN: &str = r#"(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))"#;
const OK: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
/// Grows by a gibibyte and does not survive a no.
const HOG: &str = r#"(module (memory (export "memory") 1) (func (export "_start")
  (if (i32.eq (memory.grow (i32.const 16384)) (i32.const -1)) (then unreachable))))"#;

#[test]
fn a_thousand_jobs_finish_on_time_beside_loops_and_hogs() {
    let bad = r#", "max_attempts": 1, "priority": "high", "expect": "discarded"}"#;
    let mut list = String::new();
    for _ in 0..2 {
        list += &format!("{{\"kind\": \"spin\", \"timeout\": \"{TIMEOUT_MS}ms\"{bad}\n");
        list += &format!("{{\"kind\": \"burn\"{bad}\n{{\"kind\": \"hog\"{bad}\n");
    }
    list += &"{\"kind\": \"ok\"}\n".repeat(HONEST);
    let fuel = "[limits]\nfuel = \"100M\"";
    let lists = Lists::new(&[("spin", SPIN, ""), ("burn", SPIN, fuel), ("hog", HOG, ""), ("ok", OK, "")], &list);
    let ended = lists.run().wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));

    let engine = lists.open();
    let view = engine.reader().snapshot().unwrap();
    let jobs = all_jobs(view.as_ref());
    let mut outcomes: HashMap<OutcomeName, usize> = HashMap::new();
    for job in &jobs {
        let runs = runs(view.as_ref(), job);
        assert_eq!(runs.len(), 1);
        *outcomes.entry(runs[0].outcome).or_default() += 1;
        let took = runs[0].finished_at.0 - runs[0].started_at.unwrap().0;
        if runs[0].outcome == OutcomeName::TimedOut {
            assert!((TIMEOUT_MS..=TIMEOUT_MS + LATE_MS_MAX).contains(&took), "stopped after {took} ms");
        }
    }
    let expected = [
        (OutcomeName::Completed, HONEST),
        (OutcomeName::TimedOut, 2),
        (OutcomeName::OutOfFuel, 2),
        (OutcomeName::OutOfMemory, 2),
    ];
    assert_eq!(outcomes, expected.into_iter().collect());
    let ends = |state| move |job: &&Job| job.state.name() == state;
    let honest = jobs.iter().filter(ends(StateName::Completed)).filter_map(Job::finalized_at).max().unwrap();
    let spun = jobs.iter().filter(ends(StateName::Discarded)).filter_map(Job::finalized_at).max().unwrap();
    assert!(honest < spun, "all of them ended while the loops still ran: {honest:?}, {spun:?}");
}
