//! How a handler ends other than with a result.

use std::fmt::Display;
use std::time::Duration;

/// How a handler ends other than with a result. Any [`std::error::Error`] becomes a retry through `?`, its sources included;
/// what is no error (a `String`, say) goes through `map_err(Failure::retry)` or `map_err(Failure::discard)`.
///
/// It is itself no `std::error::Error`: that is what lets `?` take all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Try again; counts as a failed attempt.
    Retry {
        /// Why.
        message: String,
        /// When; `None` by the job's retry policy.
        after: Option<Duration>,
    },
    /// Give up for good.
    Discard {
        /// Why.
        message: String,
    },
    /// Run later, no attempt counted.
    Snooze {
        /// How long, from now; the runner clamps it to 100 ms … 30 days.
        after: Duration,
        /// Why.
        reason: Option<String>,
    },
}

impl Failure {
    /// Try again when the job's retry policy says; [`Failure::after`] says otherwise.
    pub fn retry(message: impl Display) -> Failure {
        Failure::Retry { message: message.to_string(), after: None }
    }

    /// Give up for good: what was asked for will never work.
    pub fn discard(message: impl Display) -> Failure {
        Failure::Discard { message: message.to_string() }
    }

    /// Run later, no attempt counted: nothing is wrong, it is only too early.
    pub fn snooze(after: Duration) -> Failure {
        Failure::Snooze { after, reason: None }
    }

    /// When to try again or to wake up, from now. A discard stays one.
    pub fn after(self, delay: Duration) -> Failure {
        match self {
            Failure::Retry { message, .. } => Failure::Retry { message, after: Some(delay) },
            Failure::Snooze { reason, .. } => Failure::Snooze { after: delay, reason },
            discard @ Failure::Discard { .. } => discard,
        }
    }

    /// Why: the reason of a snooze; for the others it replaces the message.
    pub fn because(self, why: impl Display) -> Failure {
        let message = why.to_string();
        match self {
            Failure::Retry { after, .. } => Failure::Retry { message, after },
            Failure::Snooze { after, .. } => Failure::Snooze { after, reason: Some(message) },
            Failure::Discard { .. } => Failure::Discard { message },
        }
    }

    /// The message, or the reason of a snooze; empty if it has none.
    pub fn message(&self) -> &str {
        match self {
            Failure::Retry { message, .. } | Failure::Discard { message } => message,
            Failure::Snooze { reason, .. } => reason.as_deref().unwrap_or_default(),
        }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Many errors already repeat their source.
            if !message.ends_with(&text) {
                message = format!("{message}: {text}");
            }
            source = error.source();
        }
        Failure::Retry { message, after: None }
    }
}
