//! Enqueueing unique jobs whose args their plugin merges with those of a job that waits (`on_conflict = "merge"`).
//!
//! The store never calls a plugin: it answers that a merge is needed, [`enqueue`] lets the plugin make one and sends it,
//! and where the waiting job has changed meanwhile, begins again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runner_store::Handle;
use runner_store::command::{Command, Enqueue, NeedsMerge, Reply};
use runner_store::error::CallError;
use runner_store::job::{JobKey, JobSpec, OnConflict, Rejection};
use tokio::time::Instant;

use crate::wasm::{Catalog, Host, MergeError, Plugin};

/// How long the merges of one call may take together: a list may have thousands.
pub(crate) const MERGES_TIME_MAX: Duration = Duration::from_secs(10);

/// Merges args with the plugins of a node.
#[derive(Clone)]
pub struct Merger {
    /// What runs them.
    pub host: Arc<Host>,
    /// The plugins.
    pub plugins: Arc<Catalog>,
}

/// Why jobs were not enqueued; beside this, the store may have rejected them.
#[derive(Debug, thiserror::Error)]
pub enum EnqueueError {
    /// The store did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Their args were not merged; nothing happened.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

impl std::fmt::Debug for Merger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merger").field("plugins", &self.plugins).finish_non_exhaustive()
    }
}

impl Merger {
    /// What the args of a waiting job become.
    ///
    /// # Errors
    /// Its plugin says no, or breaks, or is not there.
    pub async fn merge(
        &self,
        (tenant, kind): (&str, &str),
        waiting: Vec<u8>,
        incoming: Vec<u8>,
    ) -> Result<Vec<u8>, MergeError> {
        match self.plugins.get(tenant, kind).filter(|plugin| plugin.merges()) {
            Some(plugin) => self.host.merge(plugin, kind.to_owned(), waiting, incoming).await,
            None => Err(MergeError::NoMerge(kind.to_owned())),
        }
    }

    /// Merged args with the key that stands in them.
    fn with_key(&self, (tenant, kind): (&str, &str), args: Vec<u8>) -> Result<(Vec<u8>, Option<JobKey>), MergeError> {
        let key = self.plugins.get(tenant, kind).map_or(Ok(None), |plugin| key_in(&plugin, kind, &args))?;
        Ok((args, key))
    }
}

/// The key of a job of this kind that has merged args.
///
/// # Errors
/// Something else stands where it should be.
pub(crate) fn key_in(plugin: &Plugin, kind: &str, args: &[u8]) -> Result<Option<JobKey>, MergeError> {
    let key = plugin.manifest().key(kind).map_or(Ok(None), |path| path.read(args));
    key.map_err(|why| MergeError::NoKey { plugin: plugin.name().to_owned(), why: why.to_string() })
}

/// Whether a job's args may have to be merged.
pub(crate) fn may_merge(spec: &JobSpec) -> bool {
    spec.unique.as_ref().is_some_and(|unique| unique.on_conflict == OnConflict::Merge)
}

/// Enqueues jobs; see the module.
///
/// # Errors
/// The store did not answer, or args were not merged.
pub async fn enqueue(store: &Handle, merger: Option<&Merger>, call: Enqueue) -> Result<Reply, EnqueueError> {
    let incoming: BTreeMap<u32, (String, Vec<u8>)> = (0..)
        .zip(&call.jobs)
        .filter(|(_, spec)| may_merge(spec))
        .map(|(position, spec)| (position, (spec.kind.clone(), spec.args.clone())))
        .collect();
    if incoming.is_empty() {
        return Ok(store.call(Command::Enqueue(call)).await?);
    }
    let refused = Mutex::new(None);
    let (until, tenant) = (Instant::now() + MERGES_TIME_MAX, store.tenant_name(call.tenant));
    let merge = |need: NeedsMerge| {
        let (incoming, refused, tenant) = (incoming.get(&need.position).cloned(), &refused, &tenant);
        async move {
            let merged = match (merger, incoming) {
                _ if Instant::now() >= until => Err(MergeError::Busy),
                (Some(merger), Some((kind, incoming))) => {
                    let merged = merger.merge((tenant, &kind), need.args, incoming).await;
                    merged.and_then(|args| merger.with_key((tenant, &kind), args))
                }
                (None, Some((kind, _))) => Err(MergeError::NoMerge(kind)),
                (_, None) => Err(MergeError::NoMerge(String::new())),
            };
            merged.map_err(|why| {
                *refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                // Ends the call; what is told is why.
                Rejection::UniqueBusy
            })
        }
    };
    let reply = store.enqueue_merging(call, merge).await?;
    match refused.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(why) => Err(why.into()),
        None => Ok(reply),
    }
}
