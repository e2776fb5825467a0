//! Which words become labels: tenants, which only an operator makes, queues up to a number, and kinds that a plugin provides. Whatever
//! else somebody who may enqueue makes up is one word, so that nobody can make the page, or who keeps its samples, grow.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use runner_store::Handle;
use runner_store::command::{Answer, NameClass, Query};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::job::{KindId, QueueId, TenantId};

use crate::wasm::folder::Registry;

/// Everything else. No name begins so.
pub(super) const OTHER: &str = "_other";
/// Queues of a tenant that are told apart: those that came into being first.
const QUEUES_MAX: usize = 1_000;

/// See the module.
pub(super) struct Names<'a> {
    store: &'a Handle,
    registry: &'a Registry,
    queues: HashSet<QueueId>,
}

impl<'a> Names<'a> {
    pub(super) fn new(store: &'a Handle, registry: &'a Registry, view: &dyn Snapshot) -> Result<Self, StoreError> {
        let Answer::Names(names) = view.read(&Query::Names)? else { unreachable!("names are answered with names") };
        let mut of_tenant: BTreeMap<TenantId, usize> = BTreeMap::new();
        let mut queues = HashSet::new();
        for (name, number) in names.into_iter().filter(|(name, _)| name.class == NameClass::Queue) {
            let queues_of_tenant = of_tenant.entry(name.tenant).or_default();
            if *queues_of_tenant < QUEUES_MAX {
                *queues_of_tenant += 1;
                queues.insert(QueueId(number));
            }
        }
        Ok(Self { store, registry, queues })
    }

    pub(super) fn tenant(&self, tenant: TenantId) -> Arc<str> {
        self.store.tenant_name(tenant)
    }

    pub(super) fn queue(&self, queue: QueueId) -> Arc<str> {
        if self.queues.contains(&queue) { self.store.queue_name(queue) } else { Arc::from(OTHER) }
    }

    pub(super) fn kind(&self, tenant: TenantId, kind: KindId) -> Arc<str> {
        let name = self.store.kind_name(kind);
        if self.registry.get(&self.tenant(tenant), &name).is_some() { name } else { Arc::from(OTHER) }
    }
}
