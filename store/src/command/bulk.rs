//! Verbs on many jobs, in bounded steps.

use super::JobsQuery;

/// One step of a verb on every job that a filter matches: newest first, not atomic, to be repeated from where it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bulk {
    /// Which jobs; its limit is the step's, up to [`BULK_JOBS_MAX`](super::limits::BULK_JOBS_MAX).
    pub filter: JobsQuery,
    /// What is done to each; one to which it cannot be done is passed over.
    pub verb: BulkVerb,
}

/// See [`Bulk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BulkVerb {
    /// Cancel; running ones are flagged.
    Cancel {
        /// Why, in someone's words.
        reason: Option<String>,
    },
    /// Run again what has ended, or waits for its backoff or its time.
    Retry,
    /// Release what is held.
    Release,
    /// Remove.
    Delete {
        /// Also while they run.
        force: bool,
        /// Also while others wait for them.
        cascade: bool,
    },
}
