//! Kinds: what stands in each, who provides it, and what holds for it. `GET /v1/kinds[/{k}]`, `PATCH /v1/kinds/{k}`,
//! `POST /v1/kinds/{k}/pause|resume`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use runner_store::command::{Answer, Command, KindSettings, NameClass, Query, Reply, Scope, Settings};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::job::{StateName, TenantId, name_problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::body;
use super::error::Problem;
use super::params::{Named, NamedVerb, Params};
use super::queues::{no_verb, nullable, pause_until, paused};
use super::read::Object;
use super::tenant::Whose;
use crate::holds;
use crate::wasm::units::rate_text;

/// All kinds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Kinds")]
pub struct KindsShown {
    /// By name: those that have had jobs, that plugins provide or that something is set for.
    pub kinds: Vec<KindShown>,
}

/// A kind as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Kind")]
pub struct KindShown {
    /// Its name.
    pub name: String,
    /// The plugin that provides it; none: its jobs wait for one, or are a worker's.
    pub plugin: Option<String>,
    /// Whether external workers take its jobs, as the configuration says.
    pub external: bool,
    /// Calls at once; none: as many as others let.
    pub concurrency: Option<u32>,
    /// Jobs that start in a time, as `100/1m burst 10`; none: as many as others let.
    pub rate: Option<String>,
    /// Where in the args of its jobs their key stands, as the manifest says.
    pub key: Option<String>,
    /// Calls of each key at once; none: as many as others let.
    pub key_concurrency: Option<u32>,
    /// Jobs of each key that start in a time; none: as many as others let.
    pub key_rate: Option<String>,
    /// Whether the jobs of a key run one after another, as the manifest says.
    pub strict_order: bool,
    /// Where `concurrency`, `rate`, `key_concurrency` and `key_rate` come from: `set`, `manifest of PLUGIN` or `default`.
    pub sources: BTreeMap<String, String>,
    /// Whether nothing of it starts.
    pub paused: bool,
    /// Until when; none: until someone ends it.
    pub paused_until: Option<String>,
    /// How many jobs it has, by state; without zeros.
    pub states: BTreeMap<String, u64>,
}

type States = BTreeMap<String, BTreeMap<String, u64>>;

/// `GET /v1/kinds`.
pub async fn list(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    params: Params,
) -> Result<Json<KindsShown>, Problem> {
    params.finish()?;
    let view = app.store.snapshot()?;
    let mut states = counts(&app, view.as_ref(), tenant)?;
    let tenant_name = app.store.tenant_name(tenant);
    let provided: BTreeSet<String> = app.plugins.with_registry(|registry| {
        let externals = registry.externals().names().map(str::to_owned);
        registry.kinds(&tenant_name).map(|(kind, _)| kind.to_owned()).chain(externals).collect()
    });
    for kind in provided {
        states.entry(kind).or_default();
    }
    if let Answer::AllSettings(all) = view.read(&Query::AllSettings)? {
        for settings in all {
            if let Settings::Kind(of, name, settings) = settings
                && of == tenant
                && settings != KindSettings::default()
            {
                states.entry(name).or_default();
            }
        }
    }
    let one =
        |(name, states): (&String, _)| Ok(shown(&app, tenant, name, settings(view.as_ref(), tenant, name)?, states));
    Ok(Json(KindsShown { kinds: states.iter().map(one).collect::<Result<_, StoreError>>()? }))
}

/// `GET /v1/kinds/{k}`.
pub async fn show(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    Named(name): Named,
    params: Params,
) -> Result<Json<KindShown>, Problem> {
    params.finish()?;
    one(&app, tenant, &name).map(Json)
}

fn one(app: &App, tenant: TenantId, name: &str) -> Result<KindShown, Problem> {
    let view = app.store.snapshot()?;
    let settings = settings(view.as_ref(), tenant, name)?;
    let mut states = counts(app, view.as_ref(), tenant)?;
    let shown = shown(app, tenant, name, settings, &states.remove(name).unwrap_or_default());
    let unknown = app.store.kind_id(tenant, name).is_none() && shown.plugin.is_none() && !shown.external;
    if unknown && settings == KindSettings::default() {
        let detail = "there is no kind of this name: no plugin provides it, and none has had a job or a setting";
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", detail));
    }
    Ok(shown)
}

/// `PATCH /v1/kinds/{k}` with `{"concurrency": 4, "rate": "100/1m burst 10"}`, also for a kind that has had no job yet; null
/// takes back what was set.
pub async fn set(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    Named(name): Named,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<KindShown>, Problem> {
    params.finish()?;
    right_name(&name)?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let mut object = Object::read(&text, body::parse(&text)?)?;
    let concurrency = object.take_any("concurrency").map(|value| nullable(&value, |value| value.u32())).transpose()?;
    let rate = object.take_any("rate").map(|value| nullable(&value, |value| value.rate())).transpose()?;
    let key_concurrency =
        object.take_any("key_concurrency").map(|value| nullable(&value, |value| value.u32())).transpose()?;
    let key_rate = object.take_any("key_rate").map(|value| nullable(&value, |value| value.rate())).transpose()?;
    for name in ["key", "strict_order"] {
        if let Some(value) = object.peek(name) {
            return Err(value.bad("stands in the manifest of the plugin and is changed there").into());
        }
    }
    object.finish()?;
    if concurrency.is_none() && rate.is_none() && key_concurrency.is_none() && key_rate.is_none() {
        let why = "says nothing to be set; there are concurrency, rate, key_concurrency and key_rate";
        return Err(Problem::invalid("body", why));
    }
    let change = |now: KindSettings| KindSettings {
        concurrency: concurrency.unwrap_or(now.concurrency),
        rate: rate.unwrap_or(now.rate),
        key_concurrency: key_concurrency.unwrap_or(now.key_concurrency),
        key_rate: key_rate.unwrap_or(now.key_rate),
        ..now
    };
    changed(&app, tenant, &name, change).await.map(Json)
}

/// `POST /v1/kinds/{k}/pause` (with `{"until": "…"}`, if it is to end by itself) `| resume`.
pub async fn verb(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    NamedVerb(name, verb): NamedVerb,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<KindShown>, Problem> {
    params.finish()?;
    right_name(&name)?;
    let until = pause_until(&app, &headers, body, &verb).await?;
    let pause = match verb.as_str() {
        "pause" => Some(until),
        "resume" => {
            // A pause may come before the first job; there is nothing else that an unknown kind can do.
            one(&app, tenant, &name)?;
            None
        }
        _ => return Err(no_verb(&verb, "pause and resume")),
    };
    changed(&app, tenant, &name, |now| KindSettings { pause, ..now }).await.map(Json)
}

fn right_name(name: &str) -> Result<(), Problem> {
    name_problem(name).map_or(Ok(()), |why| Err(Problem::invalid("kind", why)))
}

async fn changed(
    app: &App,
    tenant: TenantId,
    name: &str,
    change: impl FnOnce(KindSettings) -> KindSettings,
) -> Result<KindShown, Problem> {
    let _one = app.settings.lock().await;
    let new = change(settings(app.store.snapshot()?.as_ref(), tenant, name)?);
    match app.call(Command::Set(Box::new(Settings::Kind(tenant, name.to_owned(), new)))).await? {
        Reply::Set(_) => {
            let states = counts(app, app.store.snapshot()?.as_ref(), tenant)?.remove(name).unwrap_or_default();
            Ok(shown(app, tenant, name, new, &states))
        }
        Reply::Rejected(rejection) => Err(rejection.into()),
        other => unreachable!("the answer to a setting is not {other:?}"),
    }
}

/// Jobs by kind and state, of kinds that have had any.
fn counts(app: &App, view: &dyn Snapshot, tenant: TenantId) -> Result<States, StoreError> {
    let mut kinds = States::new();
    if let Answer::Names(names) = view.read(&Query::Names)? {
        let own = |name: &runner_store::command::Name| name.class == NameClass::Kind && name.tenant == tenant;
        kinds.extend(names.into_iter().filter(|(name, _)| own(name)).map(|(name, _)| (name.name, BTreeMap::new())));
    }
    let Answer::Counts(counts) = view.read(&Query::Counts)? else { unreachable!("counts are answered with counts") };
    for (key, jobs) in counts.into_iter().filter(|(key, jobs)| *jobs > 0 && key.lane.tenant == tenant) {
        let states = kinds.entry(app.store.kind_name(key.lane.kind).to_string()).or_default();
        *states.entry(StateName::as_str(key.state).to_owned()).or_default() += jobs;
    }
    Ok(kinds)
}

fn settings(view: &dyn Snapshot, tenant: TenantId, name: &str) -> Result<KindSettings, StoreError> {
    match view.read(&Query::Settings(Scope::Kind(tenant, name.to_owned())))? {
        Answer::Settings(Settings::Kind(_, _, settings)) => Ok(settings),
        _ => Ok(KindSettings::default()),
    }
}

fn shown(app: &App, tenant: TenantId, name: &str, settings: KindSettings, states: &BTreeMap<String, u64>) -> KindShown {
    let tenant_name = app.store.tenant_name(tenant);
    let plugin = app.plugins.with_registry(|registry| registry.get(&tenant_name, name).cloned());
    let external = app.plugins.external(name);
    let holds = holds::of_kind(&settings, plugin.as_deref(), external.as_deref(), name);
    let manifest = plugin.as_ref().map(|plugin| plugin.manifest()).or(external.as_deref());
    let sources = [
        ("concurrency", &holds.concurrency.source),
        ("rate", &holds.rate.source),
        ("key_concurrency", &holds.key_concurrency.source),
        ("key_rate", &holds.key_rate.source),
    ];
    let (paused, paused_until) = paused(settings.pause, app.clock.now());
    KindShown {
        name: name.to_owned(),
        key: manifest.and_then(|manifest| manifest.key(name)).map(|path| path.to_string()),
        external: external.is_some(),
        plugin: plugin.map(|plugin| plugin.name().to_owned()),
        concurrency: holds.concurrency.value,
        rate: holds.rate.value.map(rate_text),
        key_concurrency: holds.key_concurrency.value,
        key_rate: holds.key_rate.value.map(rate_text),
        strict_order: holds.strict_order,
        sources: sources.into_iter().map(|(key, source)| (key.to_owned(), source.word())).collect(),
        paused,
        paused_until,
        states: states.clone(),
    }
}
