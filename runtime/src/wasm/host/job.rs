//! `host`: the running job's own affairs: log, progress, cancel, new jobs, checkpoint.

use super::contract::runner::plugin::host::{Host, Level, NewJob};
use super::staged::{CHECKPOINT_BYTES_MAX, NewJobArgs, Staged};
use super::{CallError, call_error};
use crate::wasm::cancel::CancelSignal;
use crate::wasm::log::LogSource;
use crate::wasm::wasi::Streams;

/// Where a progress message is cut.
const PROGRESS_BYTES_MAX: usize = 256;

/// The last progress: percent and a message.
pub(crate) type Progress = (u8, String);

/// The state of one run behind the contract.
pub(in crate::wasm) struct Job {
    pub(in crate::wasm) streams: Streams,
    pub(in crate::wasm) cancel: CancelSignal,
    pub(in crate::wasm) staged: Staged,
    pub(in crate::wasm) progress: Option<Progress>,
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

    fn progress(&mut self, percent: u8, mut message: String) {
        message.truncate(message.floor_char_boundary(PROGRESS_BYTES_MAX));
        self.progress = Some((percent.min(100), message));
    }

    fn cancelled(&mut self) -> bool {
        self.cancel.is_asked()
    }

    fn enqueue(&mut self, job: NewJob) -> Result<String, CallError> {
        let NewJob { kind, args, options } = job;
        let id = self.staged.enqueue(NewJobArgs { kind, args, options })?;
        Ok(id.to_string())
    }

    fn checkpoint(&mut self, data: Vec<u8>) -> Result<(), CallError> {
        if data.len() > CHECKPOINT_BYTES_MAX {
            let message = format!("a checkpoint of {} bytes; at most {CHECKPOINT_BYTES_MAX}", data.len());
            return Err(call_error("limit", message));
        }
        Ok(self.staged.checkpoint(data)?)
    }

    fn output_of(&mut self, _job_id: String) -> Result<Option<Vec<u8>>, CallError> {
        Err(call_error("denied", "outputs of dependencies are not served by this runner yet".to_owned()))
    }

    fn pause_schedule(&mut self) -> Result<(), CallError> {
        Err(call_error("denied", "pausing a schedule is not served by this runner yet".to_owned()))
    }
}
