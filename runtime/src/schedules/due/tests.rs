//! Slots in time, slots that were missed, and clocks that jump.

use runner_store::job::JobSpec;
use runner_store::schedule::{Overlap, Plan, Source, Tally, When};

use super::*;

const START: u64 = 1_700_000_000_000;
const HOUR: u64 = 3_600_000;
const YEAR: u64 = 365 * 24 * HOUR;

fn every(seconds: u64, catch_up: CatchUp) -> Schedule {
    let when = When::Every { interval: Millis::secs(seconds), start: Time(START) };
    Schedule {
        tenant: runner_store::job::TenantId::DEFAULT,
        name: "s".to_owned(),
        plan: Plan { when, overlap: Overlap::Queue, catch_up, deadline: None, job: JobSpec::new("a", "{}") },
        source: Source::Api,
        paused_at: None,
        created_at: Time(START),
        from: Time(START),
        last: None,
        edits: 0,
        tally: Tally::default(),
    }
}

fn now(schedule: &Schedule, at: u64) -> Due {
    due(schedule, &Slots::of(&schedule.plan.when).unwrap(), Time(at), Time(0))
}

#[track_caller]
fn check(schedule: &Schedule, at: u64, slots: &[u64], missed: Option<(u64, u64)>, upto: u64) {
    let missed = missed.map(|(n, last)| (n, Time(START + last)));
    let slots = slots.iter().map(|slot| Time(START + slot)).collect();
    assert_eq!(now(schedule, START + at), Due::Now { slots, missed, upto: Time(START + upto) });
}

#[test]
fn slot_n_is_start_and_n_intervals_and_0_is_one() {
    let mut schedule = every(2, CatchUp::None);
    assert_eq!(now(&schedule, START - 1), Due::At(Time(START)));
    for n in 0..3 {
        check(&schedule, n * 2_000, &[n * 2_000], None, n * 2_000);
        schedule.last = Some(Time(START + n * 2_000));
        assert_eq!(now(&schedule, START + n * 2_000 + 1_999), Due::At(Time(START + (n + 1) * 2_000)));
    }
}

#[test]
fn missed_slots_are_made_up_for_as_the_policy_says() {
    let after = |catch_up| Schedule { last: Some(Time(START)), ..every(3_600, catch_up) };
    // Five hours and a half: slots 1 to 5, of which nobody fired one in time.
    let late = 5 * HOUR + HOUR / 2;
    check(&after(CatchUp::None), late, &[], Some((5, 5 * HOUR)), 5 * HOUR);
    check(&after(CatchUp::One), late, &[5 * HOUR], Some((4, 4 * HOUR)), 5 * HOUR);
    check(&after(CatchUp::All(2)), late, &[4 * HOUR, 5 * HOUR], Some((3, 3 * HOUR)), 5 * HOUR);
    check(&after(CatchUp::All(9)), late, &[HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR, 5 * HOUR], None, 5 * HOUR);
    // The last one is less than a minute old: that is in time.
    check(&after(CatchUp::None), 5 * HOUR + 59_999, &[5 * HOUR], Some((4, 4 * HOUR)), 5 * HOUR);
    check(&after(CatchUp::None), 5 * HOUR + 60_000, &[], Some((5, 5 * HOUR)), 5 * HOUR);
}

#[test]
fn many_that_are_made_up_for_come_in_parts() {
    let mut schedule = Schedule { last: Some(Time(START)), ..every(1, CatchUp::All(150)) };
    let (mut fired, mut missed, mut parts) = (0, 0, 0);
    while let Due::Now { slots, missed: more, upto } = now(&schedule, START + 200_000) {
        assert!(slots.len() <= SLOTS_AT_ONCE && slots.is_sorted());
        (fired, missed, parts) = (fired + slots.len(), missed + more.map_or(0, |(n, _)| n), parts + 1);
        schedule.last = Some(upto);
    }
    assert_eq!((fired, missed, parts), (150, 50, 3));
}

/// Whatever the clock does: no slot twice, none of those that were decided, and no hour of work for one look.
#[test]
fn a_clock_that_jumps_fires_nothing_twice() {
    for jump in [HOUR, 24 * HOUR, 10 * YEAR] {
        let mut schedule = every(60, CatchUp::One);
        let mut fired: Vec<Time> = Vec::new();
        let mut at = START + YEAR;
        schedule.from = Time(at);
        // Forth, and back again, and on from there.
        for step in [0, jump as i64, -(jump as i64), -(jump as i64), 2 * jump as i64, 60_000] {
            at = at.saturating_add_signed(step);
            while let Due::Now { slots, upto, .. } = now(&schedule, at) {
                assert!(upto.0 <= at);
                fired.extend(slots);
                schedule.last = Some(upto);
            }
        }
        assert!(fired.is_sorted() && fired.windows(2).all(|pair| pair[0] < pair[1]), "{jump}: {fired:?}");
        assert_eq!(fired.len(), 3, "{jump}: at first, after the jump, and a minute behind that");
    }
}

#[test]
fn ten_years_of_seconds_are_looked_at_in_no_time() {
    let when = When::Cron { cron: "* * * * * *".to_owned(), zone: "Europe/Berlin".to_owned() };
    let mut schedule = every(1, CatchUp::One);
    schedule.plan.when = when;
    schedule.last = Some(Time(START));
    let until = START + 10 * YEAR;
    assert_eq!(
        now(&schedule, until),
        Due::Now { slots: vec![Time(until)], missed: Some((COUNTED_MAX, Time(until - 1_000))), upto: Time(until) },
        "of more than it counts it says so many"
    );
}

#[test]
fn what_a_pause_or_a_restore_let_pass_is_not_made_up_for() {
    let paused = Schedule { paused_at: Some(Time(START)), ..every(60, CatchUp::One) };
    assert_eq!(now(&paused, START + HOUR), Due::Never);
    let resumed = Schedule { from: Time(START + HOUR + 1), last: Some(Time(START)), ..every(60, CatchUp::All(100)) };
    assert_eq!(now(&resumed, START + HOUR + 1), Due::At(Time(START + HOUR + 60_000)));
    let restored = Schedule { last: Some(Time(START)), ..every(60, CatchUp::All(100)) };
    let slots = Slots::of(&restored.plan.when).unwrap();
    let resumed = Time(START + HOUR + 1);
    assert_eq!(due(&restored, &slots, resumed, resumed), Due::At(Time(START + HOUR + 60_000)));
}

#[test]
fn the_next_five_are_those_that_come() {
    let schedule = every(60, CatchUp::One);
    let slots = Slots::of(&schedule.plan.when).unwrap();
    let next = |schedule: &Schedule, now: u64| -> Vec<u64> {
        next_slots(schedule, &slots, (Time(now), Time(0)), 3).iter().map(|slot| slot.0 - START).collect()
    };
    assert_eq!(next(&schedule, START - HOUR), [0, 60_000, 120_000]);
    assert_eq!(next(&schedule, START), [0, 60_000, 120_000]);
    let fired = Schedule { last: Some(Time(START + HOUR)), ..schedule };
    assert_eq!(next(&fired, START), [HOUR + 60_000, HOUR + 120_000, HOUR + 180_000], "after a clock that ran ahead");
    assert_eq!(next(&fired, START + 2 * HOUR), [2 * HOUR, 2 * HOUR + 60_000, 2 * HOUR + 120_000]);
}
