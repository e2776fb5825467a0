//! How a run ended: a closed enum, from which every rule about retries follows.
//!
//! The runtime decides *which* outcome it was, from types (a trap, an exit code, a limiter's flag), never from an
//! error's text. What follows from it (try again, give up, count an attempt) is decided in
//! [`transition`](super::transition), never by whoever ran the job.

use serde::{Deserialize, Serialize};

use super::time::Millis;

/// How one run of a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The handler returned; these bytes are the job's output (empty: none).
    Completed {
        /// The handler's result, JSON by convention.
        #[serde(with = "serde_bytes")]
        output: Vec<u8>,
    },
    /// The handler asked to be tried again, or the call failed in a way that is the handler's own (exit code, `retry`).
    Failed {
        /// Why, in the handler's words.
        message: String,
        /// When to try again, if the handler said so; else by the job's backoff.
        retry_after: Option<Millis>,
    },
    /// The handler gave up for good.
    Discarded {
        /// Why, in the handler's words.
        reason: String,
    },
    /// The handler asked to run later; no attempt is counted.
    Snoozed {
        /// For how long, clamped to 100 ms ..= 30 d.
        delay: Millis,
        /// Why, in the handler's words.
        reason: Option<String>,
    },
    /// The guest trapped, or answered what no guest may answer (`bad_answer`).
    Trapped {
        /// A stable word: `unreachable`, `stack_overflow`, `bad_answer`, …
        code: String,
        /// One sentence, with the guest's own panic message where there is one.
        message: String,
        /// The guest's frames, innermost first, without host paths.
        backtrace: Option<String>,
    },
    /// The run used its whole fuel.
    OutOfFuel {
        /// What it was given.
        limit: u64,
    },
    /// The wall clock stopped the run.
    TimedOut {
        /// What it was given.
        limit: Millis,
    },
    /// The guest was refused memory and did not survive it.
    OutOfMemory {
        /// What it was given.
        limit_bytes: u64,
    },
    /// The output was larger than the run's limit.
    OutputTooLarge {
        /// What it was given.
        limit_bytes: u64,
    },
    /// The run was ended because someone cancelled its job.
    Cancelled,
    /// The run was ended, or never began, through no fault of its own (shutdown, no slot); no attempt is counted.
    Interrupted,
    /// The process died while the guest ran.
    Crashed,
    /// The plugin's own start (before the handler was entered) failed.
    PluginBroken {
        /// What went wrong.
        message: String,
    },
}

/// The names of outcomes, as records, events and screens show them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is documented at the variant of `Outcome` that has its name")]
#[serde(rename_all = "snake_case")]
pub enum OutcomeName {
    Completed,
    Failed,
    Discarded,
    Snoozed,
    Trapped,
    OutOfFuel,
    TimedOut,
    OutOfMemory,
    OutputTooLarge,
    Cancelled,
    Interrupted,
    Crashed,
    PluginBroken,
}

impl OutcomeName {
    /// Every name, in the order of the enum.
    pub const ALL: [Self; 13] = [
        Self::Completed,
        Self::Failed,
        Self::Discarded,
        Self::Snoozed,
        Self::Trapped,
        Self::OutOfFuel,
        Self::TimedOut,
        Self::OutOfMemory,
        Self::OutputTooLarge,
        Self::Cancelled,
        Self::Interrupted,
        Self::Crashed,
        Self::PluginBroken,
    ];

    /// The word for people and JSON: `out_of_fuel`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Discarded => "discarded",
            Self::Snoozed => "snoozed",
            Self::Trapped => "trapped",
            Self::OutOfFuel => "out_of_fuel",
            Self::TimedOut => "timed_out",
            Self::OutOfMemory => "out_of_memory",
            Self::OutputTooLarge => "output_too_large",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Crashed => "crashed",
            Self::PluginBroken => "plugin_broken",
        }
    }
}

/// The error of a run whose external worker was gone: its lease ran out.
pub const LEASE_RAN_OUT: &str = "its worker neither renewed the lease in time nor said how the run ended";

impl Outcome {
    /// The outcome's name.
    #[must_use]
    pub fn name(&self) -> OutcomeName {
        match self {
            Self::Completed { .. } => OutcomeName::Completed,
            Self::Failed { .. } => OutcomeName::Failed,
            Self::Discarded { .. } => OutcomeName::Discarded,
            Self::Snoozed { .. } => OutcomeName::Snoozed,
            Self::Trapped { .. } => OutcomeName::Trapped,
            Self::OutOfFuel { .. } => OutcomeName::OutOfFuel,
            Self::TimedOut { .. } => OutcomeName::TimedOut,
            Self::OutOfMemory { .. } => OutcomeName::OutOfMemory,
            Self::OutputTooLarge { .. } => OutcomeName::OutputTooLarge,
            Self::Cancelled => OutcomeName::Cancelled,
            Self::Interrupted => OutcomeName::Interrupted,
            Self::Crashed => OutcomeName::Crashed,
            Self::PluginBroken { .. } => OutcomeName::PluginBroken,
        }
    }

    /// What becomes of a run whose write to a key of its plugin rested on a value that another run has changed.
    #[must_use]
    pub fn conflict(key: &str) -> Self {
        let message = format!("kv_conflict: another run changed the key {key:?} before this one was recorded");
        Self::Failed { message, retry_after: None }
    }

    /// Whether what its run staged is recorded with it.
    #[must_use]
    pub fn has_effects(&self) -> bool {
        matches!(self, Self::Completed { .. } | Self::Snoozed { .. } | Self::Discarded { .. })
    }

    /// The same, without the output, which may be a mebibyte: all that the rules ask for.
    #[must_use]
    pub fn without_output(&self) -> Self {
        match self {
            Self::Completed { .. } => Self::Completed { output: Vec::new() },
            other => other.clone(),
        }
    }

    /// One text on why the run did not complete; none if it did.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        Some(match self {
            Self::Completed { .. } => return None,
            Self::Snoozed { reason, .. } => return reason.clone(),
            Self::Failed { message, .. } | Self::PluginBroken { message } => message.clone(),
            Self::Trapped { code, message, .. } => {
                if message.is_empty() {
                    format!("trapped: {code}")
                } else {
                    message.clone()
                }
            }
            Self::Discarded { reason } => reason.clone(),
            Self::OutOfFuel { limit } => format!("used its whole fuel of {limit}"),
            Self::TimedOut { limit } => format!("stopped at its time-out of {limit}"),
            Self::OutOfMemory { limit_bytes } => format!("needed more than its memory limit of {}", size(*limit_bytes)),
            Self::OutputTooLarge { limit_bytes } => {
                let limit = size(*limit_bytes);
                format!(
                    "its output is larger than the limit of {limit} (`output` in `[limits]`); put what is large into a blob"
                )
            }
            Self::Cancelled => "ended because its job was cancelled".to_owned(),
            Self::Interrupted => "ended by the node through no fault of its own".to_owned(),
            Self::Crashed => "the process died while the handler ran".to_owned(),
        })
    }

    /// The guest's frames, where it trapped.
    #[must_use]
    pub fn trace(&self) -> Option<&str> {
        match self {
            Self::Trapped { backtrace, .. } => backtrace.as_deref(),
            _ => None,
        }
    }
}

/// As a manifest would say it.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}
