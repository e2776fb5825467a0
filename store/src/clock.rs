//! The one place that reads the clocks of the system. Everywhere else time is a parameter.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::job::{Millis, Time};

/// Where an engine's time comes from.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The clocks of the system.
    #[default]
    System,
    /// Clocks that only move when they are told to.
    Manual(Arc<Hands>),
}

/// The hands of a manual clock.
#[derive(Debug)]
pub struct Hands {
    wall: AtomicU64,
    uptime: AtomicU64,
}

/// From when on the time that never steps is counted.
static SINCE: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The wall clock of the system, since 1970; before that it reads as 1970.
#[must_use]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A time in UTC that can be part of a file's name and sorts as it should: `20231114T221320.000Z`.
#[must_use]
pub fn for_names(time: Time) -> String {
    let (days, ms) = (time.0 / 86_400_000, time.0 % 86_400_000);
    // Civil from days, of 400-year eras that begin on 1 March, so that a leap day ends its year.
    let from_march = days + 719_468;
    let (era, day) = (from_march / 146_097, from_march % 146_097);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day + 2) / 153;
    let day = day - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{ms:03}Z")
}

impl Clock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn manual(now: Time) -> Self {
        Self::Manual(Arc::new(Hands { wall: AtomicU64::new(now.0), uptime: AtomicU64::new(0) }))
    }

    /// The time, at most [`Time::MAX`]; a system clock before 1970 reads as 1970.
    #[must_use]
    pub fn now(&self) -> Time {
        match self {
            Self::System => Time(u64::try_from(wall().as_millis()).unwrap_or(u64::MAX).min(Time::MAX.0)),
            Self::Manual(hands) => Time(hands.wall.load(Ordering::SeqCst)),
        }
    }

    /// The time since some moment, on a clock that never steps.
    #[must_use]
    pub fn uptime(&self) -> Millis {
        match self {
            Self::System => Millis(u64::try_from(SINCE.elapsed().as_millis()).unwrap_or(u64::MAX)),
            Self::Manual(hands) => Millis(hands.uptime.load(Ordering::SeqCst)),
        }
    }

    /// Lets time go by on a manual clock. A system clock goes by itself.
    pub fn advance(&self, by: Millis) {
        if let Self::Manual(hands) = self {
            hands.wall.fetch_add(by.0, Ordering::SeqCst);
            hands.uptime.fetch_add(by.0, Ordering::SeqCst);
        }
    }

    /// Steps a manual clock, also back, while no time goes by.
    pub fn set(&self, to: Time) {
        if let Self::Manual(hands) = self {
            hands.wall.store(to.0, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_name() {
        let check = |ms, name| assert_eq!(for_names(Time(ms)), name);
        check(0, "19700101T000000.000Z");
        check(1_700_000_000_123, "20231114T221320.123Z");
        check(951_782_399_999, "20000228T235959.999Z");
        check(951_868_799_000, "20000229T235959.000Z");
        check(951_868_800_000, "20000301T000000.000Z");
        check(4_107_542_400_000, "21000301T000000.000Z");
        check(1_735_689_599_000, "20241231T235959.000Z");
    }
}
