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
