//! Why a job was discarded or cancelled.

use serde::{Deserialize, Serialize};

use super::{JobId, Verdict};

/// Why a job ended other than well. Shown as one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Every attempt failed.
    AttemptsExhausted {
        /// How many there were.
        attempts: u32,
    },
    /// The retry policy says that a failure is never retried.
    NeverRetried,
    /// The handler said so, in these words.
    Handler(String),
    /// It had not begun to run when it expired.
    Expired,
    /// The process died under it too often in a row.
    Poison {
        /// How often.
        crashes: u32,
    },
    /// The process died under its last attempt.
    Crashed,
    /// Someone asked, in these words.
    Requested(Option<String>),
    /// A dependency did not end well.
    Dependency {
        /// Which.
        job: JobId,
        /// How it ended.
        verdict: Verdict,
    },
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AttemptsExhausted { attempts: 1 } => f.write_str("its only attempt failed"),
            Self::AttemptsExhausted { attempts } => write!(f, "all {attempts} attempts failed"),
            Self::NeverRetried => f.write_str("failed, and its retry policy is never"),
            Self::Handler(why) => write!(f, "discarded by its handler: {why}"),
            Self::Expired => f.write_str("expired before its first run"),
            Self::Poison { crashes } => write!(f, "poison: the process died under it {crashes} times in a row"),
            Self::Crashed => f.write_str("crashed: the process died under its last attempt"),
            Self::Requested(None) => f.write_str("cancelled on request"),
            Self::Requested(Some(why)) => write!(f, "cancelled on request: {why}"),
            Self::Dependency { job, verdict } => write!(f, "dependency {job} was {}", verdict.as_str()),
        }
    }
}
