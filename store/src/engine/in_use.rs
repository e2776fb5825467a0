//! In how many queues, and of how many kinds, a tenant has jobs: looked at only for who brings names that are new.

use std::collections::BTreeSet;

use super::{Needs, WorkingSet};
use crate::command::limits::COUNTS_READ;
use crate::command::{CountKey, Name, NameClass};
use crate::error::StoreError;
use crate::job::TenantId;

/// Whose queues or kinds bring names that have no number.
pub(crate) fn with_new_names(needs: &Needs, set: &WorkingSet) -> BTreeSet<TenantId> {
    let of_jobs = |name: &&Name| matches!(name.class, NameClass::Queue | NameClass::Kind);
    let new = needs.names.iter().filter(of_jobs).filter(|name| !set.names.contains_key(name));
    new.map(|name| name.tenant).collect()
}

/// Puts down in how many queues a tenant with these counts has jobs, and of how many kinds; of its first
/// [`COUNTS_READ`](crate::command::limits::COUNTS_READ) counts, in the order of their lanes.
pub(crate) fn put_in_use(
    set: &mut WorkingSet,
    tenant: TenantId,
    counts: impl Iterator<Item = Result<CountKey, StoreError>>,
) -> Result<(), StoreError> {
    let (mut queues, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    for key in counts.take(COUNTS_READ) {
        let lane = key?.lane;
        queues.insert(lane.queue);
        kinds.insert(lane.kind);
    }
    for (class, n) in [(NameClass::Queue, queues.len()), (NameClass::Kind, kinds.len())] {
        set.names_in_use.insert((tenant, class), u32::try_from(n).unwrap_or(u32::MAX));
    }
    Ok(())
}
