//! A check that follows a handful of jobs at once finds what one finds that follows all of them.

use super::*;
use crate::clock::Clock;
use crate::command::{Command, Enqueue};
use crate::engine::redb::Commit;
use crate::job::{JobSpec, TenantId, Time};
use crate::writer::step;

const JOBS: u64 = 200;

/// A file with jobs, of which `damage` was done to.
#[track_caller]
fn check(damage: impl FnOnce(&redb::WriteTransaction), (jobs, wrong): (u64, u64)) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Time(1_000_000));
    let mut engine = Redb::create(&dir.path().join("jobs.redb"), clock, Commit::OnePhase).unwrap();
    let specs = vec![JobSpec::new("a", "{}"); JOBS as usize];
    step(&mut engine, &[Command::Enqueue(Enqueue::new(TenantId::DEFAULT, specs))]).unwrap();
    let write = engine.db.begin_write().unwrap();
    damage(&write);
    write.commit().unwrap();
    let compared = |trails_max| {
        let view = View(engine.db.begin_read().unwrap());
        compare(&Look::new(view, &|| true), trails_max).unwrap()
    };
    let whole = compared(TRAILS_MAX);
    assert_eq!((whole.jobs, whole.events, whole.wrong), (jobs, JOBS, wrong), "{whole:?}");
    for trails_max in [1, 3, 50, 150] {
        let mut parts = compared(trails_max);
        let mut expected = whole.clone();
        parts.findings.sort();
        expected.findings.sort();
        assert_eq!(parts, expected, "{trails_max} at once");
    }
}

#[test]
fn what_is_wrong_is_found_in_parts_as_well() {
    check(
        |write| {
            let mut jobs = write.open_table(tables::JOBS).unwrap();
            let mut n = 0;
            jobs.retain(|_, _| {
                n += 1;
                n % 50 != 0
            })
            .unwrap();
        },
        // Each that is gone is missed by the log and has left its args; four sums are wrong besides.
        (JOBS - 4, 12),
    );
}

#[test]
fn a_store_that_is_whole_is_clean_in_parts_as_well() {
    check(|_| {}, (JOBS, 0));
}
