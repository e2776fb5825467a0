//! The zoo: whatever a guest does costs one job and nothing else. Every beast ends as it must, the jobs of another tenant
//! run on time beside them, and memory, files and threads come back.
//!
//! `RUNNER_ZOO_RUNS=20` lets each of them run twenty times and prints the table; the figures of a release build are
//! those of `benches/zoo.rs`.

mod beasts;
mod visit;

use std::time::Duration;

pub(crate) use crate::sandbox::guests;

/// In a debug build: five times what a release build is held to, beyond what the machine makes of a thread that only sleeps and
/// of a job of an idle node.
const LATE_MAX: Duration = Duration::from_millis(100);
const CANARY_LATE_MAX: Duration = Duration::from_millis(50);
/// What a process may have kept of all that: pools and caches that fill once.
const KEPT_BYTES_MAX: u64 = 256 << 20;

/// Says that this process has been started for the zoo alone.
const ALONE: &str = "RUNNER_ZOO_ALONE";

/// In a process of its own: what it has of the machine is compared with what it had.
#[test]
fn a_beast_costs_its_job_and_nothing_else() {
    if std::env::var_os(ALONE).is_some() {
        return visit_and_compare();
    }
    let name = "zoo::a_beast_costs_its_job_and_nothing_else";
    let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
    let ended = alone.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    print!("{said}");
    assert!(said.contains("1 passed"), "{said}\n{}", String::from_utf8_lossy(&ended.stderr));
}

fn visit_and_compare() {
    let runs = std::env::var("RUNNER_ZOO_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(3);
    let folder = tempfile::tempdir().unwrap();
    let visit = visit::visit(folder.path(), runs);
    visit.print();
    let (idle, busy) = (visit::at(&visit.idle, 990), visit::at(&visit.busy, 990));
    // A machine on which a job takes long while nothing runs is late with everything.
    let late_max = LATE_MAX + 2 * visit.sleeper_late + 2 * idle;
    for seen in &visit.beasts {
        assert!(seen.is_as_expected(runs), "{}: {:?}, not {:?}", seen.name, seen.outcomes, seen.ends);
        assert!(seen.late.is_none_or(|late| late <= late_max), "{}: {:?} late", seen.name, seen.late);
    }
    assert!(
        busy <= idle * 10 + CANARY_LATE_MAX + 2 * visit.sleeper_late,
        "canaries were late: p99 {busy:?}, {idle:?} without beasts"
    );
    assert_eq!(visit.before.files, visit.after.files, "open files come back");
    assert!(visit.after.threads <= visit.before.threads + 1, "threads come back: {:?} {:?}", visit.before, visit.after);
    let kept = visit.after.resident_bytes.saturating_sub(visit.before.resident_bytes);
    assert!(kept <= KEPT_BYTES_MAX, "{kept} bytes are still there");
}
