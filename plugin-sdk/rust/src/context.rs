//! The running job, as its handler sees it: its fields, and what it may ask of the runner.
//!
//! A denied or impossible call is a [`CallError`], never a trap. Effects marked *staged* are recorded in one transaction with
//! the run's outcome, if that is completed, snoozed or discarded; otherwise they never happened.

use crate::{Failure, NewJob};
use std::fmt::{self, Display};
use std::ops::Deref;
use std::time::Duration;

#[cfg(target_family = "wasm")]
use crate::guest::Host;
#[cfg(not(target_family = "wasm"))]
use crate::test::Host;

/// One run of one job. Its fields are read through `Deref`: `cx.id`, `cx.attempt`, `cx.checkpoint`; args are the handler's
/// first argument.
#[derive(Debug)]
pub struct Context {
    job: Job,
    pub(crate) host: Host,
}

/// The fields of a job and of this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Decimal id; the same for every run of the job, hence the key for idempotent side effects.
    pub id: String,
    /// The name of the type of job.
    pub kind: String,
    /// Whose job it is.
    pub tenant: String,
    /// The line that it stood in.
    pub queue: String,
    /// 1 for the first run; counts every run.
    pub run: u32,
    /// 1 for the first attempt; snoozed and interrupted runs do not count.
    pub attempt: u32,
    /// After so many failed attempts the job is discarded.
    pub max_attempts: u32,
    /// Lower runs first.
    pub priority: i16,
    /// When the job was accepted: RFC 3339, UTC, milliseconds.
    pub enqueued_at: String,
    /// When it was due, likewise.
    pub run_at: String,
    /// Wall clock of this run, from its start.
    pub timeout: Duration,
    /// In the order given; a key occurs once.
    pub tags: Vec<(String, String)>,
    /// What an earlier run left with [`Context::checkpoint`].
    pub checkpoint: Option<Vec<u8>>,
    /// Ids of the jobs that this one waited for; their results through [`Context::output_of`].
    pub dependencies: Vec<String>,
    /// Whatever later versions of the contract add (`traceparent`, `schedule`, …); unknown keys are to be ignored.
    pub meta: Vec<(String, String)>,
}

impl Job {
    /// The value of a tag.
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether a failure of this attempt would be the last one.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt >= self.max_attempts
    }
}

impl Deref for Context {
    type Target = Job;

    fn deref(&self) -> &Job {
        &self.job
    }
}

impl Context {
    pub(crate) fn new(job: Job, host: Host) -> Context {
        Context { job, host }
    }

    /// One line of the run's log, cut at 8 KiB; never refused. The macros `info!`, `warn!` and so on take a format string.
    pub fn log(&self, level: Level, message: impl AsRef<str>) {
        self.host.log(level, message.as_ref());
    }

    /// How far the run is: 0 to 100. Kept at most once a second.
    pub fn progress(&self, percent: u8, message: impl AsRef<str>) {
        self.host.progress(percent.min(100), message.as_ref());
    }

    /// True once the run should end soon: cancelled, or the node is draining. Cheap enough to ask in every turn of a loop.
    pub fn cancelled(&self) -> bool {
        self.host.cancelled()
    }

    /// Enqueues a job; staged. The answer is its id.
    ///
    /// # Errors
    /// `denied` unless the manifest's `[allow] enqueue` and the operator grant the kind, `invalid`, `limit`.
    pub fn enqueue(&self, job: NewJob) -> Result<String, CallError> {
        let (kind, args, options) = job.into_parts()?;
        self.host.enqueue(kind, args, options)
    }

    /// Leaves up to 256 KiB for a later run to resume from, which finds it in `cx.checkpoint`. The last one wins; it is
    /// written at most once a second and with the run's end, so that a crash loses a second of them at most.
    ///
    /// # Errors
    /// `limit` if it is larger.
    pub fn checkpoint(&self, data: &[u8]) -> Result<(), CallError> {
        self.host.checkpoint(data)
    }

    /// The output of a completed dependency of this job; `None` if it had no output or its record is gone.
    ///
    /// # Errors
    /// `not_found` if this job does not depend on that one.
    pub fn output_of(&self, job_id: &str) -> Result<Option<Vec<u8>>, CallError> {
        self.host.output_of(job_id)
    }

    /// Pauses the schedule that made this job; staged.
    ///
    /// # Errors
    /// `not_found` if no schedule did.
    pub fn pause_schedule(&self) -> Result<(), CallError> {
        self.host.pause_schedule()
    }
}

/// How much a line of the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What only the author wants to see, all of it.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// What a reader of the run wants to know.
    Info,
    /// What went on although something was wrong.
    Warn,
    /// What makes the result wrong or missing.
    Error,
}

/// A call that the runner refused or that went wrong; nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// Stable: `denied`, `invalid`, `not_found`, `limit`, `unavailable`. Treat an unknown code as `unavailable`.
    pub code: String,
    /// One sentence for a person.
    pub message: String,
}

impl CallError {
    /// As the runner would answer; for what the SDK itself checks, and for tests.
    pub fn new(code: &str, message: impl Display) -> CallError {
        CallError { code: code.to_owned(), message: message.to_string() }
    }

    /// Whether the same call may go well later: it is `unavailable`, or of a code that this SDK does not know.
    pub fn is_temporary(&self) -> bool {
        !matches!(self.code.as_str(), "denied" | "invalid" | "not_found" | "limit")
    }

    /// A retry if it [may go well later](CallError::is_temporary), else a discard: `.map_err(CallError::failure)?`. A plain `?`
    /// tries again in either case.
    pub fn failure(self) -> Failure {
        if self.is_temporary() { Failure::retry(self) } else { Failure::discard(self) }
    }
}

impl Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for CallError {}
