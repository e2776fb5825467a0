//! The merge of two jobs' args by their plugin's own export, before one of them is enqueued.

use std::time::Duration;

use runner_store::job::limits::PAYLOAD_BYTES_MAX;
use tokio::time::Instant;

use super::Means;
use super::aside::{Aside, Said, ask};
use super::call::instance;
use crate::wasm::host::Role;
use crate::wasm::limits::Limits;
use crate::wasm::plugin::Plugin;

/// Fuel of one merge: what reading and writing args of the largest size takes an interpreter, several times over.
pub const MERGE_FUEL: u64 = 10_000_000_000;
/// Wall clock of one merge: whoever enqueues waits for it.
pub const MERGE_TIME: Duration = Duration::from_secs(1);

/// Why args were not merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The plugin's own no, in its words.
    #[error("{0}")]
    Refused(String),
    /// The plugin broke.
    #[error("the plugin `{plugin}` broke when it merged the args: {why}")]
    Broken {
        /// Which.
        plugin: String,
        /// How.
        why: String,
    },
    /// The result is no args.
    #[error("the plugin `{plugin}` merged the args to {bytes} bytes; at most {PAYLOAD_BYTES_MAX} are stored")]
    TooLarge {
        /// Which.
        plugin: String,
        /// How large.
        bytes: usize,
    },
    /// Something else than a key stands in the result where the key of the job should be.
    #[error("the plugin `{plugin}` merged the args to some that are none of its kind: {why}")]
    NoKey {
        /// Which.
        plugin: String,
        /// What stands where.
        why: String,
    },
    /// No plugin merges args of this kind, any more.
    #[error("no plugin of kind {0} exports merge; choose another `on_conflict`, for example replace")]
    NoMerge(String),
    /// There was no place for it in time.
    #[error("too many merges wait already; try again in a moment")]
    Busy,
}

/// The args that the waiting job shall have.
pub(in crate::wasm) async fn merge(
    means: Means<'_>,
    plugin: &Plugin,
    kind: &str,
    waiting: &[u8],
    incoming: &[u8],
) -> Result<Vec<u8>, MergeError> {
    let broken = |why: String| MergeError::Broken { plugin: plugin.name().to_owned(), why };
    let found = plugin.exports().and_then(|exports| Some((exports, exports.merge.as_ref()?)));
    let Some((exports, merge)) = found else { return Err(MergeError::NoMerge(kind.to_owned())) };
    let limits = Limits { fuel: Some(MERGE_FUEL), output_bytes: PAYLOAD_BYTES_MAX as u64, ..plugin.own_limits() };
    let setup = (Role::Advice, plugin.advice_grants(), limits);
    let aside = Aside::new(means, setup, Instant::now() + MERGE_TIME);
    let said: Said<_> = ask!(aside, store => {
        let instance = instance(store, exports).await?;
        merge.load(&mut *store, &instance)?.call_merge(&mut *store, kind, waiting, incoming).await
    });
    match said.answer {
        Ok(Ok(args)) if args.len() > PAYLOAD_BYTES_MAX => {
            Err(MergeError::TooLarge { plugin: plugin.name().to_owned(), bytes: args.len() })
        }
        Ok(Ok(args)) => Ok(args),
        Ok(Err(why)) => Err(MergeError::Refused(crate::wasm::answer::cut(why))),
        Err(outcome) => Err(broken(Said::<()>::why(&outcome))),
    }
}
