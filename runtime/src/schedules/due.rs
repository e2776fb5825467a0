//! What is to become of a schedule now: pure, time is a parameter.
//!
//! It looks from the last slot that was decided, never from the time of the last look: a clock that stepped either way, or a
//! node that was away, changes how many slots have come, and nothing else.

use runner_store::job::{Millis, Time};
use runner_store::schedule::{CatchUp, Schedule};

use super::cron::Slots;

/// A slot that is younger was fired in time, also by a node that has just started.
pub const ON_TIME: Millis = Millis::secs(60);
/// Slots that become jobs in one command: each may have 64 KiB of args.
pub const SLOTS_AT_ONCE: usize = 64;
/// Missed slots of one look that are counted one by one; of more the tally says so many.
const COUNTED_MAX: u64 = 10_000;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// It is paused, or has no slot left.
    Never,
    /// Its next slot.
    At(Time),
    /// These have come: what [`Fired::Slots`](runner_store::command::Fired::Slots) says.
    Now {
        /// Those that are to be jobs, in order.
        slots: Vec<Time>,
        /// Those before them that were not fired in time and are not made up for: how many, and the last one.
        missed: Option<(u64, Time)>,
        /// The last one that this is about.
        upto: Time,
    },
}

/// What is to become of `schedule` at `now`. `resumed` is when the store was last let go after a restore.
#[must_use]
pub fn due(schedule: &Schedule, slots: &Slots, now: Time, resumed: Time) -> Due {
    if schedule.paused_at.is_some() {
        return Due::Never;
    }
    let behind = behind(schedule, resumed);
    match slots.next(behind) {
        None => Due::Never,
        Some(next) if next > now => Due::At(next),
        Some(next) => come(schedule.plan.catch_up, slots, (behind, next), now),
    }
}

/// The next `n` slots, from `now` on: also of a schedule that is paused, as if it were resumed now.
#[must_use]
pub fn next_slots(schedule: &Schedule, slots: &Slots, (now, resumed): (Time, Time), n: usize) -> Vec<Time> {
    let mut at = behind(schedule, resumed).max(Time(now.0.saturating_sub(1)));
    let mut next = Vec::with_capacity(n);
    while next.len() < n
        && let Some(slot) = slots.next(at)
    {
        next.push(slot);
        at = slot;
    }
    next
}

/// Slots behind this time may fire.
fn behind(schedule: &Schedule, resumed: Time) -> Time {
    let from = Time(schedule.from.max(resumed).0.saturating_sub(1));
    schedule.last.map_or(from, |last| last.max(from))
}

/// Of the slots behind `behind`, of which `first` is the first and has come: the newest ones, as many as are made up for.
fn come(catch_up: CatchUp, slots: &Slots, (behind, first): (Time, Time), now: Time) -> Due {
    let newest = slots.last(now).unwrap_or(first).max(first);
    let in_time = now.since(newest) < ON_TIME;
    let max = catch_up.max().max(u32::from(in_time)) as usize;
    let mut wanted: Vec<Time> = Vec::new();
    let mut at = Some(newest).filter(|_| max > 0);
    while let Some(slot) = at.filter(|slot| *slot > behind && wanted.len() < max) {
        wanted.push(slot);
        at = slots.last(Time(slot.0.saturating_sub(1)));
    }
    wanted.reverse();
    wanted.truncate(SLOTS_AT_ONCE);
    let upto = wanted.last().copied().unwrap_or(newest);
    let last_missed = match wanted.first() {
        None => Some(newest),
        Some(first) => slots.last(Time(first.0.saturating_sub(1))).filter(|slot| *slot > behind),
    };
    let missed = last_missed.map(|last| (slots.count(behind, last, COUNTED_MAX), last));
    Due::Now { slots: wanted, missed, upto }
}

#[cfg(test)]
mod tests;
