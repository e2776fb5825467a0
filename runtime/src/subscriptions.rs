//! Tells the store what the kinds of the loaded plugins listen to, so that it knows in the transaction of each event.
//!
//! The store keeps what it was told. So it holds while no node runs, and a plugin that is not loaded yet after a start, or
//! not any more because its file was broken, misses nothing: what its last version listened to stays until another one is
//! loaded, or its file is gone.

use std::path::Path;
use std::sync::Arc;

use runner_store::Handle;
use runner_store::command::{Answer, Command, Listener, Query, Reply, SUBSCRIPTIONS_MAX, Subscribe, Subscription};
use runner_store::error::{CallError, StoreError};
use runner_store::job::{Priority, TenantId};

use crate::api::new_job::{KindDefaults, QUEUE_DEFAULT};
use crate::wasm::catalog::Serving;
use crate::wasm::folder::TENANT_DEFAULT;
use crate::wasm::{Catalog, Plugin};

/// Tells the store what is listened to as the catalog is now; what is so already costs a look. Events that happen after
/// this returns are heard.
///
/// # Errors
/// The store failed or stops.
pub async fn tell(store: &Handle, plugins: &Catalog) -> Result<(), CallError> {
    // One at a time: what an earlier look has found must not come after a later one.
    let _turn = plugins.turn().await;
    let serving = plugins.now();
    let known = known(store).map_err(|error| CallError::Unknown(error.to_string()))?;
    for tenant in store.tenant_names() {
        let Some(id) = store.tenant_id(&tenant) else { continue };
        let before = known.iter().find(|(of, _)| *of == id).map_or(&[][..], |(_, subscriptions)| subscriptions);
        let subscriptions = of_tenant(store, plugins, &serving, (&tenant, before));
        if subscriptions == before {
            continue;
        }
        let n = subscriptions.len();
        match store.call(Command::Subscribe(Box::new(Subscribe { tenant: id, subscriptions }))).await? {
            Reply::Done => tracing::info!(tenant = %tenant, subscriptions = n, "what kinds listen to has changed"),
            other => tracing::error!(tenant = %tenant, reply = ?other, "what kinds listen to is as before"),
        }
    }
    Ok(())
}

/// Tells the store at every change of the catalog, until the store is gone.
pub(crate) async fn follow(store: Handle, plugins: Arc<Catalog>) {
    let mut changes = plugins.watch();
    while changes.changed().await.is_ok() {
        if let Err(error) = tell(&store, &plugins).await {
            tracing::warn!(%error, "what kinds listen to was not told to the store");
            return;
        }
    }
}

fn known(store: &Handle) -> Result<Vec<(TenantId, Vec<Subscription>)>, StoreError> {
    match store.snapshot()?.read(&Query::Subscriptions)? {
        Answer::Subscriptions(all) => Ok(all),
        other => Err(StoreError::Contradiction(format!("an unexpected answer: {other:?}"))),
    }
}

/// What a tenant's kinds listen to: as the loaded plugins say, and as those said that are expected back.
fn of_tenant(
    store: &Handle,
    plugins: &Catalog,
    serving: &Serving,
    (tenant, before): (&str, &[Subscription]),
) -> Vec<Subscription> {
    let loaded = || serving.registry.plugins().filter(|(owner, _)| *owner == tenant).map(|(_, plugin)| plugin);
    let mut all: Vec<Subscription> = loaded().flat_map(|plugin| of_plugin(plugins, tenant, plugin)).collect();
    let is_loaded = |name: &str| loaded().any(|plugin| plugin.name() == name);
    let awaited = |one: &&Subscription| !is_loaded(&one.by) && is_expected(store, serving, tenant, &one.by);
    all.extend(before.iter().filter(awaited).cloned());
    if let Some(left_out) = all.get(SUBSCRIPTIONS_MAX) {
        tracing::warn!(
            tenant,
            plugin = left_out.by,
            subscriptions = all.len(),
            max = SUBSCRIPTIONS_MAX,
            "the plugins of a tenant listen to too much; from this plugin on nothing more is listened to"
        );
        all.truncate(SUBSCRIPTIONS_MAX);
    }
    all
}

/// Where a job goes that a plugin's kind gets for an event: as any job of that kind that says nothing of its own.
fn of_plugin(plugins: &Catalog, tenant: &str, plugin: &Plugin) -> Vec<Subscription> {
    let one = |on: &crate::wasm::manifest::On| {
        let KindDefaults { queue, priority, key, .. } = KindDefaults::of(plugins, tenant, &on.kind);
        let queue = queue.unwrap_or_else(|| QUEUE_DEFAULT.to_owned());
        let to = Listener { kind: on.kind.clone(), queue, priority: Priority(priority.unwrap_or_default()), key };
        Subscription { event: on.event, of: on.of.clone(), to, by: plugin.name().to_owned() }
    };
    plugin.manifest().on.iter().map(one).collect()
}

/// Whether there is a file of this plugin, which is not loaded yet, or cannot be.
fn is_expected(store: &Handle, serving: &Serving, tenant: &str, name: &str) -> bool {
    let is_loading = serving.loading.iter().any(|loading| loading.tenant == tenant && loading.name == name);
    is_loading || serving.reports.iter().any(|report| is_file_of(store, &report.path, tenant, name))
}

/// Whether a file in the folder of plugins is this plugin's of this tenant, or its manifest: it lies in the folder of the
/// tenant's name, and for the default tenant in that of no other one.
pub(crate) fn is_file_of(store: &Handle, path: &Path, tenant: &str, plugin: &str) -> bool {
    let folder = path.parent().and_then(Path::file_name).and_then(|folder| folder.to_str());
    let of_another = || folder.is_some_and(|folder| store.tenant_id(folder).is_some());
    let is_its = folder == Some(tenant) || (tenant == TENANT_DEFAULT && !of_another());
    is_its && path.file_stem().and_then(|stem| stem.to_str()) == Some(plugin)
}
