//! `host`: the running job's own affairs: log, progress, cancel, new jobs, checkpoint.

use std::collections::HashSet;
use std::sync::Arc;

use super::contract::runner::plugin::host::{Host, Level, NewJob};
use super::staged::{CHECKPOINT_BYTES_MAX, NewJobArgs, Staged, refused};
use super::{CallError, call_error};
use crate::wasm::backing::Backing;
use crate::wasm::blobs::Writers;
use crate::wasm::cancel::Signals;
use crate::wasm::egress::WayOut;
use crate::wasm::grants::Denied;
use crate::wasm::log::LogSource;
use crate::wasm::streams::Streams;

/// Denials that one run's log explains: whoever asks for a thousand things has read the first few.
const DENIALS_SAID_MAX: usize = 32;
/// How much of a wrong id is repeated to whoever gave it.
const SHOWN_CHARS_MAX: usize = 64;

/// As what a guest was entered: not everything is for everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wasm) enum Role {
    /// To handle one job.
    Handler,
    /// To handle jobs together, which have no checkpoints.
    Batch,
    /// To be around the handler of another plugin: it may ask, and stages nothing.
    Middleware,
    /// To give advice (`policy`, `merge`), for which it may ask nobody.
    Advice,
}

/// The state of one run behind the contract.
pub(in crate::wasm) struct Job {
    pub(in crate::wasm) role: Role,
    pub(in crate::wasm) streams: Streams,
    pub(in crate::wasm) cancel: Signals,
    pub(in crate::wasm) staged: Staged,
    pub(in crate::wasm) backing: Arc<dyn Backing>,
    pub(in crate::wasm) way_out: WayOut,
    /// Ids of the jobs that this one waited for.
    pub(in crate::wasm) dependencies: Vec<u64>,
    /// Blobs that it is writing.
    pub(in crate::wasm) writers: Writers,
    /// What was denied and said so.
    pub(in crate::wasm) denials: HashSet<String>,
}

impl Job {
    pub(in crate::wasm) fn new(
        role: Role,
        streams: Streams,
        cancel: Signals,
        staged: Staged,
        backing: Arc<dyn Backing>,
        dependencies: Vec<u64>,
        way_out: WayOut,
    ) -> Self {
        let (writers, denials) = (Writers::default(), HashSet::new());
        Self { role, streams, cancel, staged, backing, way_out, dependencies, writers, denials }
    }

    /// Lets go of everything that belonged to the run, while its instance waits for the next one.
    pub(in crate::wasm) fn retire(&mut self) {
        self.backing = Arc::new(crate::wasm::backing::Alone);
        self.writers = Writers::default();
        self.streams = Streams::default();
        self.cancel = Signals::new(crate::wasm::cancel::CancelSignal::new(), Vec::new());
        self.staged.retire();
        self.dependencies.clear();
        self.denials.clear();
    }

    /// Refuses what is for handlers only, as it is staged or about the job's own affairs.
    pub(super) fn only_for_handlers(&self) -> Result<(), CallError> {
        match self.role {
            Role::Handler | Role::Batch => Ok(()),
            Role::Middleware => {
                let why =
                    "a middleware reads its settings and asks others; it stages nothing, as the run is not its own";
                Err(call_error("denied", why.to_owned()))
            }
            Role::Advice => Err(advice_asks_nobody()),
        }
    }

    /// Says in the run's log what was denied, once for each thing, and what to add where.
    pub(super) fn denied(&mut self, denied: &Denied) -> CallError {
        if self.role == Role::Advice {
            return advice_asks_nobody();
        }
        if self.denials.len() < DENIALS_SAID_MAX && self.denials.insert(denied.what.clone()) {
            self.streams.line(LogSource::Runner, &denied.to_string());
        }
        refused("denied", denied.to_string()).into()
    }
}

/// Nothing could be added anywhere to be granted it.
fn advice_asks_nobody() -> CallError {
    call_error(
        "denied",
        "advice (policy, merge) is given by what it is told; every call of the host is denied".to_owned(),
    )
}

impl Host for Job {
    fn log(&mut self, level: Level, message: String) {
        let source = match level {
            Level::Trace => LogSource::Trace,
            Level::Debug => LogSource::Debug,
            Level::Info => LogSource::Info,
            Level::Warn => LogSource::Warn,
            Level::Error => LogSource::Error,
        };
        self.streams.line(source, &message);
    }

    fn progress(&mut self, percent: u8, message: String) {
        self.streams.progress(percent, message);
    }

    fn cancelled(&mut self) -> bool {
        self.cancel.is_asked()
    }

    fn enqueue(&mut self, job: NewJob) -> Result<String, CallError> {
        self.only_for_handlers()?;
        let NewJob { kind, args, options } = job;
        if let Err(denied) = self.staged.grants.enqueue(&kind) {
            return Err(self.denied(&denied));
        }
        let id = self.staged.enqueue(NewJobArgs { kind, args, options })?;
        Ok(id.to_string())
    }

    fn checkpoint(&mut self, data: Vec<u8>) -> Result<(), CallError> {
        self.only_for_handlers()?;
        if self.role == Role::Batch {
            let why = "a call of several jobs has no checkpoint: it would be for all of them".to_owned();
            return Err(call_error("invalid", why));
        }
        if data.len() > CHECKPOINT_BYTES_MAX {
            let message = format!("a checkpoint of {} bytes; at most {CHECKPOINT_BYTES_MAX}", data.len());
            return Err(call_error("limit", message));
        }
        self.staged.checkpoint(data.clone())?;
        // Only what was taken: a refused call has done nothing.
        self.backing.checkpoint(&data);
        Ok(())
    }

    fn output_of(&mut self, job_id: String) -> Result<Option<Vec<u8>>, CallError> {
        self.only_for_handlers()?;
        // Whatever is not among the dependencies is unknown, in the same words, whether it exists or not.
        let named = job_id.parse().ok().filter(|id| self.dependencies.contains(id));
        match named {
            Some(id) => Ok(self.backing.output_of(id)?),
            None => {
                let shown: String = job_id.chars().take(SHOWN_CHARS_MAX).collect();
                Err(call_error("not_found", format!("this job does not depend on a job `{}`", shown.escape_debug())))
            }
        }
    }

    fn pause_schedule(&mut self) -> Result<(), CallError> {
        self.only_for_handlers()?;
        Err(call_error("not_found", "no schedule made this job".to_owned()))
    }
}
