//! What a run stages: new jobs and a checkpoint, counted against its limits as the calls come.
//!
//! Used by `host.enqueue` and by the `enqueue` of a WASI command's answer, so that both obey the same rules. What can
//! be checked is checked here, at the call; nothing is written anywhere.

use std::sync::Arc;

use runner_store::job::limits::PAYLOAD_BYTES_MAX;
use runner_store::job::name_problem;

use super::kv::KvStaged;
use super::{CallError, call_error};
use crate::wasm::grants::Grants;
use crate::wasm::limits::Limits;
use crate::wasm::run::{IdSource, NewJob, ReadJob};

/// A checkpoint.
pub(crate) const CHECKPOINT_BYTES_MAX: usize = 256 << 10;
/// The options of one job: fields like `queue` and `tags`, which are small.
const OPTIONS_BYTES_MAX: usize = 64 << 10;

/// A job as the guest asks for it.
pub(crate) struct NewJobArgs {
    pub(crate) kind: String,
    pub(crate) args: Vec<u8>,
    pub(crate) options: String,
}

/// Why something was not staged; the guest sees it as a `call-error`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// The effects of one run so far.
pub(crate) struct Staged {
    pub(crate) grants: Arc<Grants>,
    ids: Option<IdSource>,
    read_job: ReadJob,
    enqueues_max: u32,
    bytes_max: u64,
    bytes: u64,
    pub(crate) jobs: Vec<NewJob>,
    pub(crate) checkpoint: Option<Vec<u8>>,
    pub(crate) kv: KvStaged,
}

impl Staged {
    pub(crate) fn new(grants: Arc<Grants>, ids: Option<IdSource>, read_job: ReadJob, limits: &Limits) -> Self {
        let (enqueues_max, bytes_max) = (limits.enqueues, limits.staged_bytes);
        Self {
            grants,
            ids,
            read_job,
            enqueues_max,
            bytes_max,
            bytes: 0,
            jobs: Vec::new(),
            checkpoint: None,
            kv: KvStaged::default(),
        }
    }

    /// Stages a job and answers its id.
    pub(crate) fn enqueue(&mut self, job: NewJobArgs) -> Result<u64, Refused> {
        let NewJobArgs { kind, args, options } = job;
        if let Some(problem) = name_problem(&kind) {
            return Err(refused("invalid", format!("the kind: {problem}")));
        }
        self.grants.enqueue(&kind).map_err(|denied| refused("denied", denied.to_string()))?;
        if args.len() > PAYLOAD_BYTES_MAX {
            return Err(refused("limit", format!("args of {} bytes; at most {PAYLOAD_BYTES_MAX}", args.len())));
        }
        if options.len() > OPTIONS_BYTES_MAX {
            return Err(refused("limit", format!("options of {} bytes; at most {OPTIONS_BYTES_MAX}", options.len())));
        }
        if self.jobs.len() >= self.enqueues_max as usize {
            return Err(refused("limit", format!("more than {} jobs in one run (`enqueues`)", self.enqueues_max)));
        }
        // Before the job is read: a run may ask for what does not fit as often as it likes.
        let added = (args.len() + options.len() + kind.len()) as u64;
        if self.bytes.saturating_add(added) > self.bytes_max {
            return Err(self.too_much());
        }
        let spec =
            (self.read_job)(&self.grants.tenant().name, kind, args, &options).map_err(|why| refused("invalid", why))?;
        self.add_bytes(added, 0)?;
        let Some(id) = self.ids.as_ref().and_then(|next| next()) else {
            self.bytes -= added;
            return Err(refused("unavailable", "no ids are reserved for new jobs right now; try again".to_owned()));
        };
        self.jobs.push(NewJob { id, spec });
        Ok(id)
    }

    /// Lets go of everything but the grants.
    pub(super) fn retire(&mut self) {
        self.ids = None;
        self.read_job = Arc::new(|_, _, _, _| Err("no run goes on".to_owned()));
        (self.jobs, self.checkpoint, self.kv) = (Vec::new(), None, KvStaged::default());
    }

    /// Replaces the checkpoint.
    pub(crate) fn checkpoint(&mut self, data: Vec<u8>) -> Result<(), Refused> {
        let replaced = self.checkpoint.as_ref().map_or(0, Vec::len) as u64;
        self.add_bytes(data.len() as u64, replaced)?;
        self.checkpoint = Some(data);
        Ok(())
    }

    /// Whether an output of so many bytes still fits.
    pub(crate) fn fits(&self, output_bytes: usize) -> bool {
        self.bytes.saturating_add(output_bytes as u64) <= self.bytes_max
    }

    pub(super) fn add_bytes(&mut self, added: u64, replaced: u64) -> Result<(), Refused> {
        let bytes = self.bytes.saturating_sub(replaced).saturating_add(added);
        if bytes > self.bytes_max {
            return Err(self.too_much());
        }
        self.bytes = bytes;
        Ok(())
    }

    fn too_much(&self) -> Refused {
        refused("limit", format!("more than {} bytes staged in one run (`staged`)", self.bytes_max))
    }
}

pub(super) fn refused(code: &'static str, message: String) -> Refused {
    Refused { code, message }
}

impl From<Refused> for CallError {
    fn from(refused: Refused) -> Self {
        call_error(refused.code, refused.message)
    }
}
