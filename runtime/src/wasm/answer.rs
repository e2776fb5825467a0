//! What a handler may answer, one shape for components and commands.
//!
//! Pure: turns an answer into an outcome within the run's limits, and clamps what the contract says is clamped.

use runner_store::job::limits::{ERROR_BYTES_MAX, SNOOZE_MAX, SNOOZE_MIN};
use runner_store::job::outcome::Outcome;
use runner_store::job::time::Millis;

use super::host::types;
use super::limits::Limits;

/// How a handler ended of its own will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Ok(Vec<u8>),
    Retry { message: String, after: Option<Millis> },
    Discard(String),
    Snooze { after: Millis, reason: Option<String> },
}

impl From<Result<Vec<u8>, types::Failure>> for Answer {
    fn from(result: Result<Vec<u8>, types::Failure>) -> Self {
        let millis = |ms: u32| Millis(u64::from(ms));
        match result {
            Ok(output) => Self::Ok(output),
            Err(types::Failure::Retry(types::Retry { message, after_ms })) => {
                Self::Retry { message, after: after_ms.map(millis) }
            }
            Err(types::Failure::Discard(reason)) => Self::Discard(reason),
            Err(types::Failure::Snooze(types::Snooze { after_ms, reason })) => {
                Self::Snooze { after: millis(after_ms), reason }
            }
        }
    }
}

impl Answer {
    /// The size of its output; an answer without one has none.
    pub(super) fn output_bytes(&self) -> usize {
        if let Self::Ok(output) = self { output.len() } else { 0 }
    }

    /// The outcome that the answer means; `fits` says whether an output still fits among the staged effects.
    pub(super) fn outcome(self, limits: &Limits, fits: impl FnOnce(usize) -> bool) -> Outcome {
        match self {
            Self::Ok(output) if output.len() as u64 > limits.output_bytes => {
                Outcome::OutputTooLarge { limit_bytes: limits.output_bytes }
            }
            Self::Ok(output) if !fits(output.len()) => Outcome::OutputTooLarge { limit_bytes: limits.staged_bytes },
            Self::Ok(output) => Outcome::Completed { output },
            Self::Retry { message, after } => Outcome::Failed { message: cut(message), retry_after: after },
            Self::Discard(reason) => Outcome::Discarded { reason: cut(reason) },
            Self::Snooze { after, reason } => {
                Outcome::Snoozed { delay: after.clamp(SNOOZE_MIN, SNOOZE_MAX), reason: reason.map(cut) }
            }
        }
    }
}

/// Text within [`ERROR_BYTES_MAX`], with a marker where it was cut.
pub(super) fn cut(mut text: String) -> String {
    const MARKER: &str = " … (cut)";
    if text.len() > ERROR_BYTES_MAX {
        text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX - MARKER.len()));
        text.push_str(MARKER);
    }
    text
}
