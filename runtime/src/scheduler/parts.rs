//! What the parts of a node have in common: the store, the host, the plugins, and what the operator decided.

use std::sync::Arc;

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::job::{BootId, TenantId};
use runner_store::slots::Slots;
use tokio::sync::watch;

use super::live::Live;
use crate::middleware;
use crate::node::NodeState;
use crate::operator::Operator;
use crate::traces::Traces;
use crate::wasm::{Catalog, Host, Plugin, ReadJob};

/// What a node's parts have in common.
pub(crate) struct Parts {
    pub(crate) store: Handle,
    pub(crate) host: Arc<Host>,
    pub(crate) plugins: Arc<Catalog>,
    pub(crate) read_job: ReadJob,
    pub(crate) slots_file: Option<Arc<Slots>>,
    pub(crate) boot: BootId,
    pub(crate) slots: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) operator: Arc<Operator>,
    pub(crate) live: Arc<Live>,
    pub(crate) traces: Option<Traces>,
    /// Where the node is in its life: running or draining is the scheduler's to say.
    pub(crate) state: watch::Sender<NodeState>,
    /// Threads for what is not a guest's.
    pub(crate) threads: tokio::runtime::Handle,
    pub(crate) clock: Clock,
}

impl Parts {
    /// The plugin that serves a tenant's kind.
    pub(crate) fn plugin(&self, tenant: TenantId, kind: &str) -> Option<Arc<Plugin>> {
        self.plugins.get(&self.store.tenant_name(tenant), kind)
    }

    /// The middleware around the handler of a tenant's kind, outermost first.
    pub(crate) fn around(&self, tenant: TenantId, kind: &str) -> Result<Vec<Arc<Plugin>>, middleware::Missing> {
        middleware::around(&self.operator, &self.plugins, &self.store.tenant_name(tenant), kind)
    }
}
