//! Tenants: `GET|POST /v1/tenants`, `GET|PATCH|DELETE /v1/tenants/{t}`. One stands in the configuration, or is made here; what it
//! may have is set here, and kept, also for one of the configuration, whose own word counts where nothing is set.
//!
//! A name keeps its number for ever. A tenant that is deleted has nothing left, and is as if it had never been until it is
//! made again. What its plugins may do is the configuration's to say: of one that is made here they may do nothing but compute.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use runner_store::Handle;
use runner_store::command::{Answer, Command, Fuel, Name, Query, Reply, Settings, TenantSettings};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::job::{TenantId, tenant_problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::access::Caller;
use super::body;
use super::error::Problem;
use super::params::{Named, Params};
use super::queues::nullable;
use super::read::{Bad, Object};
use super::settings::{of_tenant, tenant_changed, write};
use super::tenant::{find, unknown};
use super::time::long_duration;
use crate::wasm::units::fuel_per_text;

/// Tenants of a store: as many as a configuration may have.
const TENANTS_MAX: usize = 10_000;

/// Which tenants were deleted: their names are left, and nothing else.
#[derive(Debug, Default)]
pub(super) struct Gone(RwLock<HashSet<TenantId>>);

/// All tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantsShown {
    /// By name.
    pub tenants: Vec<TenantShown>,
}

/// A tenant as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantShown {
    /// Its name.
    pub name: String,
    /// Whether it stands in the configuration of the server that runs here.
    pub configured: bool,
    /// Jobs that it may have which have not ended.
    pub capacity: u64,
    /// Bytes of args, outputs, checkpoints and logs that it may have.
    pub stored_bytes: u64,
    /// How long its completed jobs are kept.
    pub keep_completed: String,
    /// How long its cancelled jobs are kept.
    pub keep_cancelled: String,
    /// How long its discarded jobs are kept.
    pub keep_discarded: String,
    /// Its completed jobs at most; the oldest go first.
    pub completed_max: u64,
    /// Runs at once; none: as many as there are slots.
    pub concurrency: Option<u32>,
    /// Memory of its runs together; none: as much as the node has.
    pub memory_bytes: Option<u64>,
    /// Fuel of its runs in a period, as `2T/1h`; none: any.
    pub fuel: Option<String>,
    /// Where `concurrency`, `memory_bytes` and `fuel` come from: `set`, `configuration` or `default`.
    pub sources: BTreeMap<String, String>,
    /// How many jobs it has, by state; without zeros.
    pub states: BTreeMap<String, u64>,
}

impl Gone {
    pub(super) fn load(store: &Handle) -> Self {
        let read = || -> Result<Answer, StoreError> { store.snapshot()?.read(&Query::AllSettings) };
        let all = match read() {
            Ok(Answer::AllSettings(all)) => all,
            Ok(other) => unreachable!("settings are answered with settings, not with {other:?}"),
            Err(error) => {
                tracing::error!(%error, "which tenants were deleted cannot be read");
                Vec::new()
            }
        };
        let deleted = |settings: Settings| match settings {
            Settings::Tenant(tenant, of) => of.deleted.then_some(tenant),
            _ => None,
        };
        Self(RwLock::new(all.into_iter().filter_map(deleted).collect()))
    }

    pub(super) fn has(&self, tenant: TenantId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&tenant)
    }

    fn set(&self, tenant: TenantId, gone: bool) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if gone {
            all.insert(tenant);
        } else {
            all.remove(&tenant);
        }
    }
}

/// `GET /v1/tenants`.
pub async fn list(State(app): State<Arc<App>>, params: Params) -> Result<Json<TenantsShown>, Problem> {
    params.finish()?;
    let view = app.store.snapshot()?;
    let mut states = states(view.as_ref())?;
    let names = app.store.tenant_names();
    let there = names.iter().filter_map(|name| Some((name, find(&app, name)?)));
    let shown = there.map(|(name, tenant)| {
        let settings = of_tenant(view.as_ref(), tenant)?;
        Ok(TenantShown::new(&app, name, settings, states.remove(&tenant).unwrap_or_default()))
    });
    Ok(Json(TenantsShown { tenants: shown.collect::<Result<_, StoreError>>()? }))
}

/// `GET /v1/tenants/{t}`: to one tenant's caller there is no other.
pub async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Named(name): Named,
    params: Params,
) -> Result<Json<TenantShown>, Problem> {
    params.finish()?;
    let tenant = match caller.tenant {
        None => find(&app, &name).ok_or_else(|| unknown(&app, &name))?,
        Some(own) if *app.store.tenant_name(own) == *name => own,
        Some(_) => {
            let detail = format!("there is no tenant `{}`", name.escape_debug());
            return Err(Problem::new(StatusCode::NOT_FOUND, "no_tenant", detail));
        }
    };
    Ok(Json(one(&app, &name, tenant)?))
}

/// `POST /v1/tenants` with `{"name": …}` and what [`set`] takes.
pub async fn create(
    State(app): State<Arc<App>>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<TenantShown>), Problem> {
    params.finish()?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let mut object = Object::read(&text, body::parse(&text)?)?;
    let name = object.take("name").map(|value| value.str()).transpose()?;
    let settings = changed(object, TenantSettings::default())?;
    let name = name.ok_or_else(|| Problem::invalid("name", "is missing: what the tenant is called"))?;
    if let Some(why) = tenant_problem(&name) {
        return Err(Problem::invalid("name", why));
    }
    // Before it has a name: what is refused leaves no tenant behind.
    if let Some((field, why)) = Settings::Tenant(TenantId::NONE, settings).problem() {
        return Err(Problem::invalid(field, why));
    }
    let _one = app.settings.lock().await;
    if find(&app, &name).is_some() {
        let detail = "there is a tenant of this name already; PATCH changes what it may have";
        return Err(Problem::new(StatusCode::CONFLICT, "exists", detail));
    }
    if app.store.tenant_names().len() >= TENANTS_MAX {
        let detail = format!("the store has {TENANTS_MAX} tenants, which is the limit; names of deleted ones count");
        return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "full", detail));
    }
    let tenant = match app.call(Command::Name(Name::of_tenant(name.clone()))).await? {
        Reply::Named(number) => TenantId(number),
        Reply::Rejected(rejection) => return Err(rejection.into()),
        other => unreachable!("the answer to a name is not {other:?}"),
    };
    write(&app, Settings::Tenant(tenant, settings)).await?;
    app.gone.set(tenant, false);
    Ok((StatusCode::CREATED, Json(one(&app, &name, tenant)?)))
}

/// `PATCH /v1/tenants/{t}` with `{"capacity": …, "stored_bytes": …, "keep_completed": …, "keep_cancelled": …, "keep_discarded": …,
/// "completed_max": …, "concurrency": …, "memory_bytes": …, "fuel": "2_000G/1h"}`: what is not said stays; null takes back the last
/// three.
pub async fn set(
    State(app): State<Arc<App>>,
    Named(name): Named,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<TenantShown>, Problem> {
    params.finish()?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let object = Object::read(&text, body::parse(&text)?)?;
    let _one = app.settings.lock().await;
    let tenant = find(&app, &name).ok_or_else(|| unknown(&app, &name))?;
    let now = of_tenant(app.store.snapshot()?.as_ref(), tenant)?;
    let new = changed(object, now)?;
    if new != now {
        write(&app, Settings::Tenant(tenant, new)).await?;
    }
    Ok(Json(one(&app, &name, tenant)?))
}

/// `DELETE /v1/tenants/{t}`: of one that has nothing left.
pub async fn delete(State(app): State<Arc<App>>, Named(name): Named, params: Params) -> Result<StatusCode, Problem> {
    params.finish()?;
    let _one = app.settings.lock().await;
    let tenant = find(&app, &name).ok_or_else(|| unknown(&app, &name))?;
    if app.plugins.operator().tenant(&name).is_some() {
        let detail = "the tenant stands in the configuration: take it out there, start again, and delete it then";
        return Err(Problem::new(StatusCode::CONFLICT, "from_configuration", detail));
    }
    let left = left(&app, tenant)?;
    if !left.is_empty() {
        let detail = format!("the tenant still has {}: delete or revoke them first", left.join(", "));
        return Err(Problem::new(StatusCode::CONFLICT, "tenant_not_empty", detail));
    }
    write(&app, Settings::Tenant(tenant, TenantSettings { deleted: true, ..TenantSettings::default() })).await?;
    app.gone.set(tenant, true);
    Ok(StatusCode::NO_CONTENT)
}

/// What a tenant has that would be left behind.
fn left(app: &App, tenant: TenantId) -> Result<Vec<String>, StoreError> {
    let view = app.store.snapshot()?;
    let jobs: u64 = states(view.as_ref())?.remove(&tenant).unwrap_or_default().values().sum();
    let count = |query| {
        Ok::<_, StoreError>(match view.read(&query)? {
            Answer::ScheduleCount(n) | Answer::KvCount(n) => n,
            other => unreachable!("a number is answered with a number, not with {other:?}"),
        })
    };
    let (schedules, keys) = (count(Query::ScheduleCount(tenant))?, count(Query::KvCount(tenant))?);
    let tokens = app.access.tokens().all().iter().filter(|held| held.token().tenant == Some(tenant)).count() as u64;
    let all = [(jobs, "jobs"), (schedules, "schedules"), (keys, "keys of plugins"), (tokens, "tokens")];
    Ok(all.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect())
}

fn changed(mut object: Object<'_>, now: TenantSettings) -> Result<TenantSettings, Bad> {
    let settings = tenant_changed(&mut object, now)?;
    let concurrency = object.take_any("concurrency").map(|value| nullable(&value, |value| value.u32())).transpose()?;
    let memory = object.take_any("memory_bytes").map(|value| nullable(&value, |value| value.size())).transpose()?;
    let fuel = object.take_any("fuel").map(|value| nullable(&value, |value| value.fuel())).transpose()?;
    object.finish()?;
    Ok(TenantSettings {
        concurrency: concurrency.unwrap_or(now.concurrency),
        memory_bytes: memory.unwrap_or(now.memory_bytes),
        fuel: fuel.unwrap_or(now.fuel),
        deleted: false,
        ..settings
    })
}

/// How many jobs each tenant has, by state.
fn states(view: &dyn Snapshot) -> Result<BTreeMap<TenantId, BTreeMap<String, u64>>, StoreError> {
    let Answer::Counts(counts) = view.read(&Query::Counts)? else { unreachable!("counts are answered with counts") };
    let mut all: BTreeMap<TenantId, BTreeMap<String, u64>> = BTreeMap::new();
    for (key, jobs) in counts.into_iter().filter(|(_, jobs)| *jobs > 0) {
        *all.entry(key.lane.tenant).or_default().entry(key.state.as_str().to_owned()).or_default() += jobs;
    }
    Ok(all)
}

fn one(app: &App, name: &str, tenant: TenantId) -> Result<TenantShown, StoreError> {
    let view = app.store.snapshot()?;
    let settings = of_tenant(view.as_ref(), tenant)?;
    Ok(TenantShown::new(app, name, settings, states(view.as_ref())?.remove(&tenant).unwrap_or_default()))
}

impl TenantShown {
    fn new(app: &App, name: &str, set: TenantSettings, states: BTreeMap<String, u64>) -> Self {
        let configured = app.plugins.operator().tenant(name);
        let by_file = configured.map(|tenant| {
            let fuel = tenant.fuel.map(|budget| Fuel { fuel: budget.fuel, per: budget.per });
            (tenant.concurrency, tenant.memory_bytes, fuel)
        });
        let (concurrency, memory_bytes, fuel) = by_file.unwrap_or_default();
        let source = |is_set: bool, in_file: bool| match (is_set, in_file) {
            (true, _) => "set",
            (false, true) => "configuration",
            (false, false) => "default",
        };
        let sources = [
            ("concurrency", source(set.concurrency.is_some(), concurrency.is_some())),
            ("memory_bytes", source(set.memory_bytes.is_some(), memory_bytes.is_some())),
            ("fuel", source(set.fuel.is_some(), fuel.is_some())),
        ];
        Self {
            name: name.to_owned(),
            configured: configured.is_some(),
            capacity: set.capacity,
            stored_bytes: set.stored_bytes,
            keep_completed: long_duration(set.keep.completed),
            keep_cancelled: long_duration(set.keep.cancelled),
            keep_discarded: long_duration(set.keep.discarded),
            completed_max: set.keep.completed_max,
            concurrency: set.concurrency.or(concurrency),
            memory_bytes: set.memory_bytes.or(memory_bytes),
            fuel: set.fuel.or(fuel).map(fuel_per_text),
            sources: sources.into_iter().map(|(key, source)| (key.to_owned(), source.to_owned())).collect(),
            states,
        }
    }
}
