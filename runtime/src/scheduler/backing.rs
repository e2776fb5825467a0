//! What of the store stands behind a run's calls on a node: committed values of its plugin, outputs that its job waited for,
//! and its checkpoint.
//!
//! Each call reads a view of its own, so that a run sees what others have committed meanwhile and holds nothing back while
//! it computes. A checkpoint is kept in memory at once and written, with the run's fence, within [`WRITTEN_WITHIN`] by a task
//! that a run has from its first checkpoint on; the last one wins, and the end of the run carries it anyway.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use runner_store::command::{Answer, Command, KvKeysQuery, Namespace, Part, Query, RunRef};
use runner_store::job::{JobId, JobRef};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::Parts;
use crate::wasm::Plugin;
use crate::wasm::backing::{Backing, Unavailable};

/// What a crash may lose of checkpoints, and how seldom they are written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);

/// See the module. Of one call; where that has several runs, of the first.
pub(super) struct NodeBacking {
    parts: Arc<Parts>,
    plugin: Arc<Plugin>,
    run: RunRef,
    checkpoints: OnceLock<Checkpoints>,
}

/// The checkpoints of a run that has made one. Its task ends with it.
struct Checkpoints {
    latest: Arc<Latest>,
    task: AbortHandle,
}

#[derive(Default)]
struct Latest {
    bytes: Mutex<Option<Vec<u8>>>,
    there: Notify,
}

impl NodeBacking {
    pub(super) fn new(parts: &Arc<Parts>, plugin: &Arc<Plugin>, run: RunRef) -> Self {
        Self { parts: Arc::clone(parts), plugin: Arc::clone(plugin), run, checkpoints: OnceLock::new() }
    }

    fn read(&self, query: &Query) -> Result<Answer, Unavailable> {
        let answer = self.parts.store.snapshot().and_then(|view| view.read(query));
        answer.map_err(|error| Unavailable(error.to_string()))
    }

    /// Whose keys; none: the plugin has never written one.
    fn space(&self) -> Option<Namespace> {
        let tenant = self.run.at.tenant;
        let plugin = self.parts.store.plugin_id(tenant, self.plugin.name())?;
        Some(Namespace { tenant, plugin })
    }

    fn begin(&self) -> Checkpoints {
        let latest = Arc::new(Latest::default());
        let (store, run, for_task) = (self.parts.store.clone(), self.run, Arc::clone(&latest));
        let write = async move {
            loop {
                for_task.there.notified().await;
                tokio::time::sleep(WRITTEN_WITHIN).await;
                let bytes = for_task.bytes.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(bytes) = bytes {
                    // Rejected: the run is over, and its end had the checkpoint with it. A store that failed stops the node.
                    _ = store.call(Command::Checkpoint { run, bytes }).await;
                }
            }
        };
        // Where the guest's own threads are busy, checkpoints are not late.
        Checkpoints { latest, task: self.parts.threads.spawn(write).abort_handle() }
    }
}

impl Backing for NodeBacking {
    fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, Unavailable> {
        let Some(space) = self.space() else { return Ok(None) };
        match self.read(&Query::Kv(space, key.to_owned()))? {
            Answer::Kv(value) => Ok(value),
            _ => unreachable!("a value is answered with a value"),
        }
    }

    fn kv_keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Unavailable> {
        let Some(space) = self.space() else { return Ok(Vec::new()) };
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        match self.read(&Query::KvKeys(KvKeysQuery { space, prefix, after, limit }))? {
            Answer::KvKeys(keys) => Ok(keys),
            _ => unreachable!("keys are answered with keys"),
        }
    }

    fn kv_len(&self) -> Result<u64, Unavailable> {
        match self.read(&Query::KvCount(self.run.at.tenant))? {
            Answer::KvCount(keys) => Ok(keys),
            _ => unreachable!("a count is answered with a count"),
        }
    }

    fn output_of(&self, job: u64) -> Result<Option<Vec<u8>>, Unavailable> {
        let at = JobRef { job: JobId(job), ..self.run.at };
        match self.read(&Query::Payload(at, Part::Output))? {
            Answer::Payload(bytes) => Ok(bytes),
            _ => unreachable!("a payload is answered with a payload"),
        }
    }

    fn checkpoint(&self, bytes: &[u8]) {
        let Checkpoints { latest, .. } = self.checkpoints.get_or_init(|| self.begin());
        *latest.bytes.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes.to_vec());
        latest.there.notify_one();
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.task.abort();
    }
}
