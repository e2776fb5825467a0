//! A node: a process that runs the jobs of a store. Starting it ends what dead boots left behind, then schedules;
//! draining it lets runs finish, interrupts the rest, and leaves nothing unrecorded.
//!
//! `starting → running ⇄ draining → stopped`: a node that is drained by an operator rests and goes on when it is resumed; one
//! that stops drains first.

use std::sync::Arc;
use std::time::Duration;

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Command, EndBoots, Name, NameClass, Reply};
use runner_store::dir::{self, StoreDir};
use runner_store::error::{CallError, StoreError};
use runner_store::job::{BootId, KindId, RunSettings, TenantId};
use runner_store::slots::{self, Slots};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::api::new_job;
use crate::leases::LeaseTokens;
use crate::machine;
use crate::operator::Operator;
use crate::scheduler::core::SLOTS_MAX;
use crate::scheduler::live::Live;
use crate::scheduler::starter::{self, Starter};
use crate::scheduler::{self, Parts, Wish};
use crate::subscriptions;
use crate::traces::Traces;
use crate::wasm::{Catalog, Host};

/// What an operator decides about a node.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Runs at once, 1 to 256. Default: 8 × cores.
    pub slots: u32,
    /// How long runs may go on when the node drains. Default: 30 s.
    pub grace: Duration,
    /// Memory of all runs together, reserved before they start; none: what the operator's configuration says, or else half
    /// of what this process may use.
    pub memory_bytes: Option<u64>,
    /// What the operator decides about tenants, and the middleware around handlers. Default: as without a configuration.
    pub operator: Arc<Operator>,
    /// Where spans of runs go; none: nowhere.
    pub traces: Option<Traces>,
}

/// Where a node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// It starts and ends runs.
    Running,
    /// It lets runs end and starts none.
    Draining,
    /// It has stopped; nothing of it is left in the store.
    Stopped,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The key of external workers' leases.
    #[error("the key of external workers' leases, `lease.key` in the store's folder, cannot be read or made")]
    LeaseKey(#[source] std::io::Error),
    /// No thread.
    #[error("the scheduler's thread does not start")]
    Thread(#[source] std::io::Error),
}

/// See the module.
pub struct Node {
    wish: watch::Sender<Wish>,
    state: watch::Receiver<NodeState>,
    grace: Duration,
    recovered: Recovered,
    starter: Starter,
    ended: oneshot::Receiver<()>,
    /// What follows the plugins beside the scheduler; ends with the node.
    followers: JoinSet<()>,
}

/// What dead boots left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Runs whose handler may have been running: failed attempts.
    pub crashed: u32,
    /// Runs that were only claimed: untouched.
    pub interrupted: u32,
}

impl Default for NodeSettings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = u32::try_from(cores.saturating_mul(8)).unwrap_or(SLOTS_MAX).min(SLOTS_MAX);
        Self { slots, grace: Duration::from_secs(30), memory_bytes: None, operator: Arc::default(), traces: None }
    }
}

impl Node {
    /// Ends the runs of dead boots, then starts to run jobs. `dir` is the store's folder; none for one in memory.
    ///
    /// # Errors
    /// The store failed, or its file of started runs could not be read or written.
    pub async fn start(
        store: Handle,
        dir: Option<&StoreDir>,
        host: Arc<Host>,
        plugins: Arc<Catalog>,
        settings: NodeSettings,
    ) -> Result<Self, NodeError> {
        name_tenants(&store, &settings.operator).await?;
        // Before anything happens that somebody may listen to.
        subscriptions::tell(&store, &plugins).await?;
        let mut followers = JoinSet::new();
        followers.spawn(subscriptions::follow(store.clone(), Arc::clone(&plugins)));
        let boot = dir::new_boot();
        let recovered = recover(&store, dir, boot, &plugins).await?;
        let slots_file = match dir {
            Some(dir) => Some(Arc::new(Slots::create(&dir.slots(), boot)?)),
            None => None,
        };
        let slots = settings.slots.clamp(1, SLOTS_MAX);
        let read_job = new_job::reader(&plugins);
        let NodeSettings { operator, memory_bytes, traces, .. } = settings;
        let memory_bytes = memory_bytes.or(operator.memory_bytes).unwrap_or_else(machine::memory_for_runs);
        if operator.overcommit_permille > 1_000 {
            host.memory().watch(memory_bytes);
        }
        let live = Arc::new(Live::new(slots));
        let key_file = dir.map(StoreDir::lease_key);
        let tokens =
            LeaseTokens::of(key_file.as_deref(), scheduler::leases::epoch(&store)?).map_err(NodeError::LeaseKey)?;
        let (starter, wishes) = starter::channel(Arc::clone(&live), boot, Arc::new(tokens));
        let (tell, state) = watch::channel(NodeState::Running);
        let parts = Parts {
            store,
            host,
            plugins,
            read_job,
            slots_file,
            boot,
            slots,
            memory_bytes,
            operator,
            live,
            traces,
            state: tell.clone(),
            threads: tokio::runtime::Handle::current(),
            clock: Clock::System,
        };
        let (wish, wished) = watch::channel(Wish::Run);
        let scheduling = async move {
            scheduler::run(parts, wished, wishes).await;
            tell.send_replace(NodeState::Stopped);
        };
        let ended = scheduler::thread::start(|| scheduling).map_err(NodeError::Thread)?;
        Ok(Self { wish, state, grace: settings.grace, recovered, starter, ended, followers })
    }

    /// What dead boots had left behind when the node started.
    #[must_use]
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Starts single jobs on it.
    #[must_use]
    pub fn starter(&self) -> Starter {
        self.starter.clone()
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> NodeState {
        *self.state.borrow()
    }

    /// Follows its life.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<NodeState> {
        self.state.clone()
    }

    /// How long runs may go on when the node stops.
    #[must_use]
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Changes that, for a node that does not stop yet.
    pub fn set_grace(&mut self, grace: Duration) {
        self.grace = grace;
    }

    /// Begins to stop: nothing more starts, what is only claimed goes back, and runs have the grace to end in.
    pub fn drain(&self) {
        self.wish.send_replace(Wish::Drain(self.grace));
    }

    /// Ends what still runs at once.
    pub fn interrupt(&self) {
        self.wish.send_replace(Wish::Drain(Duration::ZERO));
    }

    /// Waits until a draining node has stopped: everything that it did is recorded.
    pub async fn stopped(mut self) {
        if self.ended.await.is_err() {
            tracing::error!("the scheduler panicked");
        }
        self.followers.shutdown().await;
    }
}

/// Gives every tenant of the configuration its number, for ever.
async fn name_tenants(store: &Handle, operator: &Operator) -> Result<(), NodeError> {
    for (tenant, _) in operator.tenants() {
        if store.tenant_id(tenant).is_some() {
            continue;
        }
        let name = Name { tenant: TenantId::NONE, class: NameClass::Tenant, name: tenant.to_owned() };
        match store.call(Command::Name(name)).await? {
            Reply::Named(_) => {}
            other => return Err(StoreError::Contradiction(format!("a tenant has no number: {other:?}")).into()),
        }
    }
    Ok(())
}

/// Ends the runs of dead boots, in steps.
async fn recover(
    store: &Handle,
    dir: Option<&StoreDir>,
    living: BootId,
    plugins: &Catalog,
) -> Result<Recovered, NodeError> {
    let previous = match dir {
        Some(dir) => slots::previous(&dir.slots())?,
        None => None,
    };
    let started = previous.map(|previous| previous.started).unwrap_or_default();
    let settings = known_settings(store, plugins);
    let mut recovered = Recovered::default();
    loop {
        let command = EndBoots { living, started: started.clone(), settings: settings.clone() };
        match store.call(Command::EndBoots(command)).await? {
            Reply::Ended { crashed, interrupted, more } => {
                recovered.crashed += crashed;
                recovered.interrupted += interrupted;
                if !more {
                    return Ok(recovered);
                }
            }
            other => return Err(StoreError::Contradiction(format!("an unexpected reply: {other:?}")).into()),
        }
    }
}

/// What holds for the kinds that a plugin provides and that have had jobs.
fn known_settings(store: &Handle, plugins: &Catalog) -> Vec<(KindId, RunSettings)> {
    let of = |(tenant, kind, plugin): (&str, &str, &Arc<crate::wasm::Plugin>)| {
        let id = store.kind_id(store.tenant_id(tenant)?, kind)?;
        Some((id, scheduler::settings(&plugin.retry(kind))))
    };
    plugins.now().registry.served().filter_map(of).collect()
}
