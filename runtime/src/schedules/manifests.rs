//! Keeps the schedules of manifests as the manifests have them: made when a plugin is loaded, changed with it, gone when its
//! file is. A pause, and what became of earlier slots, outlives a new version.
//!
//! A plugin that is being compiled, or whose new version is broken, keeps its schedules. Where a name is taken, by another
//! plugin (first by file name) or by a caller of the API, the later one is refused, and the log says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use runner_store::Handle;
use runner_store::command::{Answer, Command, Query, Reply, ScheduleCall, ScheduleVerb};
use runner_store::error::{CallError, StoreError};
use runner_store::job::Time;
use runner_store::schedule::{Plan, Schedule, ScheduleRef, Source};
use tokio::sync::watch;

use super::draft::Draft;
use crate::subscriptions::is_file_of;
use crate::wasm::{AskedSchedule, Catalog, Plugin, Serving};

/// Schedules that are read in one go.
const PAGE: u32 = 1_000;

/// A schedule of a manifest.
struct Wanted {
    name: String,
    /// The kind is one of the plugin's.
    plan: Plan,
}

/// Follows the plugins until it is told to stop, or the store fails.
pub(super) async fn follow(store: Handle, plugins: Arc<Catalog>, mut stopped: watch::Receiver<bool>) {
    let mut changes = plugins.watch();
    let mut said: BTreeMap<ScheduleRef, String> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        if let Err(error) = adjust(&store, &plugins.now(), &mut said).await {
            return tracing::error!(%error, "the schedules of manifests are not followed any more");
        }
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Call(#[from] CallError),
}

async fn adjust(store: &Handle, serving: &Serving, said: &mut BTreeMap<ScheduleRef, String>) -> Result<(), Failed> {
    let stored = stored(store)?;
    let (calls, taken) = calls(store, serving, &stored);
    let mut refused = taken;
    for call in calls {
        let at = call.at.clone();
        match store.call(Command::Schedule(Box::new(call))).await? {
            Reply::Schedule { .. } | Reply::Deleted => {}
            Reply::Rejected(rejection) => _ = refused.insert(at, rejection.to_string()),
            other => unreachable!("the answer to a schedule is not {other:?}"),
        }
    }
    for (at, why) in refused.iter().filter(|(at, why)| said.get(*at) != Some(*why)) {
        let tenant = store.tenant_name(at.tenant);
        tracing::warn!(tenant = %tenant, schedule = at.name, "a schedule of a manifest is refused: {why}");
    }
    *said = refused;
    Ok(())
}

/// Every schedule that stands in a manifest, or in whose place one might.
fn stored(store: &Handle) -> Result<BTreeMap<ScheduleRef, Schedule>, StoreError> {
    let view = store.snapshot()?;
    let mut all = BTreeMap::new();
    let mut after = None;
    loop {
        let page = match view.read(&Query::Schedules { tenant: None, after, limit: PAGE })? {
            Answer::Schedules(page) => page,
            other => unreachable!("schedules are answered with schedules, not with {other:?}"),
        };
        let Some(last) = page.last() else { return Ok(all) };
        after = Some(last.at());
        all.extend(page.into_iter().map(|schedule| (schedule.at(), schedule)));
    }
}

/// What is to be said to the store; and whose name was taken by another plugin.
fn calls(
    store: &Handle,
    serving: &Serving,
    stored: &BTreeMap<ScheduleRef, Schedule>,
) -> (Vec<ScheduleCall>, BTreeMap<ScheduleRef, String>) {
    let mut wants: BTreeMap<ScheduleRef, (String, Plan)> = BTreeMap::new();
    let mut taken = BTreeMap::new();
    let mut plugins: Vec<(&str, &Arc<Plugin>)> = serving.registry.plugins().collect();
    plugins.sort_by_key(|(tenant, plugin)| (*tenant, plugin.name().to_owned()));
    for (tenant, plugin) in plugins {
        let Some(id) = store.tenant_id(tenant) else { continue };
        for Wanted { name, plan } in wanted(plugin) {
            let at = ScheduleRef { tenant: id, name };
            if let Some((first, _)) = wants.get(&at) {
                let why = format!("plugin {} says it too, and {first} comes first by file name", plugin.name());
                taken.insert(at, why);
                continue;
            }
            wants.insert(at, (plugin.name().to_owned(), plan));
        }
    }
    let mut calls = Vec::new();
    for (at, schedule) in stored {
        let Source::Manifest(plugin) = &schedule.source else { continue };
        let stays = match wants.get(at) {
            Some((by, _)) => by == plugin,
            None => is_expected(store, serving, &store.tenant_name(at.tenant), plugin),
        };
        if !stays {
            let verb = ScheduleVerb::Delete(schedule.source.clone());
            calls.push(ScheduleCall { at: at.clone(), verb });
        }
    }
    for (at, (plugin, plan)) in wants {
        let source = Source::Manifest(plugin);
        let verb = match stored.get(&at) {
            Some(schedule) if schedule.source == source && schedule.plan == plan => continue,
            Some(schedule) if schedule.source == source => ScheduleVerb::Edit { plan, source, edits: None },
            _ => ScheduleVerb::Create(plan, source),
        };
        calls.push(ScheduleCall { at, verb });
    }
    (calls, taken)
}

/// Whether a plugin that does not serve is there all the same: on its way, or broken. What its manifest says is not known.
fn is_expected(store: &Handle, serving: &Serving, tenant: &str, plugin: &str) -> bool {
    if serving.registry.named(tenant, plugin).is_some() {
        return false;
    }
    let loading = serving.loading.iter().any(|loading| loading.tenant == tenant && loading.name == plugin);
    loading || serving.reports.iter().any(|report| is_file_of(store, &report.path, tenant, plugin))
}

/// The schedules of a plugin's manifest, with what it says of their kinds.
fn wanted(plugin: &Plugin) -> Vec<Wanted> {
    let manifest = plugin.manifest();
    let with_kind = |asked: &AskedSchedule| {
        let kind = asked.draft.kind.clone().or_else(|| plugin.kinds().first().cloned())?;
        let defaults = (
            manifest.setting(&kind, |settings| settings.queue.clone()),
            manifest.setting(&kind, |settings| settings.priority),
        );
        // Checked when it was read, all but what only the plugin's own kind can be wrong about.
        let draft = Draft { kind: Some(kind), ..asked.draft.clone() };
        let plan = draft.plan(Time(0), defaults).ok()?;
        Some(Wanted { name: asked.name.clone(), plan })
    };
    manifest.schedules.iter().filter_map(with_kind).collect()
}
