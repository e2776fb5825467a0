//! The one place that reads the clock of the system. Everywhere else time is a parameter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::job::{Millis, Time};

/// Where an engine's time comes from.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The wall clock of the system.
    #[default]
    System,
    /// A clock that only moves when it is told to.
    Manual(Arc<AtomicU64>),
}

/// The wall clock of the system, since 1970; before that it reads as 1970.
#[must_use]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Clock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn manual(now: Time) -> Self {
        Self::Manual(Arc::new(AtomicU64::new(now.0)))
    }

    /// The time, at most [`Time::MAX`]; a system clock before 1970 reads as 1970.
    #[must_use]
    pub fn now(&self) -> Time {
        match self {
            Self::System => Time(u64::try_from(wall().as_millis()).unwrap_or(u64::MAX).min(Time::MAX.0)),
            Self::Manual(now) => Time(now.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock on. A system clock goes by itself.
    pub fn advance(&self, by: Millis) {
        if let Self::Manual(now) = self {
            now.fetch_add(by.0, Ordering::SeqCst);
        }
    }

    /// Sets a manual clock, also back.
    pub fn set(&self, to: Time) {
        if let Self::Manual(now) = self {
            now.store(to.0, Ordering::SeqCst);
        }
    }
}
