//! For programs that keep tables of their own in the store's file: enqueue inside a write transaction of one's own, so
//! that a job is there exactly if what it belongs to is.
//!
//! ```no_run
//! use runner_store::clock::Clock;
//! use runner_store::command::{Enqueue, Reply};
//! use runner_store::dir::{Create, StoreDir};
//! use runner_store::engine::redb::{Commit, embed};
//! use runner_store::job::{JobSpec, TenantId};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = StoreDir::new("data").open(Create::NewFolder, Clock::System, Commit::TwoPhase)?;
//! let file = engine.database();
//! let (store, _writer) = runner_store::Handle::start(Box::new(engine))?;
//!
//! let transaction = file.begin_write()?;
//! // … changes to tables of one's own …
//! let call = Enqueue::new(TenantId::DEFAULT, vec![JobSpec::new("mail.send", "{}")]);
//! let enqueued = embed::enqueue(&transaction, &Clock::System, &call)?;
//! transaction.commit()?;
//! store.wake_blocking(enqueued.wake)?;
//! # Ok(()) }
//! ```
//! It waits for the writer's transaction to end, and the writer waits for it: hold it as short as the store should pause.
//! The names of tables of one's own must begin with something else than the store's, best with the program's own name.

use std::collections::HashMap;

pub use ::redb;
use ::redb::WriteTransaction;

use super::{guarded, listening, read, write};
use crate::clock::Clock;
use crate::command::{Command, CountKey, Enqueue, Name, Reply};
use crate::decide::{self, Conduct};
use crate::engine::{Change, KeyChanges, WorkingSet};
use crate::error::StoreError;

/// What became of a call inside a transaction that has yet to be committed.
#[derive(Debug)]
pub struct InTransaction {
    /// The answer; it holds once the transaction is committed. [`Reply::NeedsMerge`] and [`Reply::Rejected`] have written
    /// nothing.
    pub reply: Reply,
    /// What the store is to be told after the commit; if the transaction is given up, drop it.
    pub wake: Wake,
}

/// What a commit of somebody else changed, for [`Handle::wake`](crate::Handle::wake): who runs jobs learns of new ones by
/// it. Where it is forgotten, they run once something else happens to the store.
#[derive(Debug, Clone, Default)]
#[must_use = "the store does not know of the new jobs until it is woken"]
pub struct Wake {
    pub(crate) counts: Vec<(CountKey, i64)>,
    pub(crate) keys: KeyChanges,
    pub(crate) names: Vec<(Name, u32)>,
    /// Whether somebody listens to what happened.
    pub(crate) heard: bool,
}

/// Enqueues inside `into`: the same rules as for any other caller, with one exception. Whether the disk has room is not
/// asked, as the commit is the caller's own.
///
/// # Errors
/// The file could not be read or written: give the transaction up.
pub fn enqueue(into: &WriteTransaction, clock: &Clock, call: &Enqueue) -> Result<InTransaction, StoreError> {
    guarded(|| {
        let commands = [Command::Enqueue(call.clone())];
        let needs = decide::needs(&commands);
        let (mut names, mut next_name) = (HashMap::new(), 1);
        read::new_names(into, &mut names, &mut next_name)?;
        let set = WorkingSet { now: clock.now(), uptime: clock.uptime(), next_name, ..WorkingSet::default() };
        let mut set = read::prefetch(into, &needs, set)?;
        if listening::version(into)? > 0 {
            set.listening = listening::listening(into, &names)?;
        }
        read::queue_totals(into, &needs, |name| names.get(name).copied(), &mut set)?;
        set.names = names;
        read::names_in_use(into, &needs, &mut set)?;
        let mut decision = decide::decide(&commands, &set, Conduct::default());
        let persisted = write::persist(into, &decision.changes)?;
        let name = |change: &Change| match change {
            Change::Name(name, number) => Some((name.clone(), *number)),
            _ => None,
        };
        let names = decision.changes.iter().filter_map(name).collect();
        let heard = decision.changes.iter().any(|change| matches!(change, Change::Hear(_)));
        let wake = Wake { counts: persisted.counts, keys: persisted.keys, names, heard };
        Ok(InTransaction { reply: decision.replies.remove(0), wake })
    })
}
