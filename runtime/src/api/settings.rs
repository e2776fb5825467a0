//! What holds for the store as a whole and for its jobs: how long they are kept, how many there may be, how large.
//! `GET` and `PATCH /v1/store/settings`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use runner_store::command::{Answer, Command, Keep, Query, Reply, Scope, Settings, StoreSettings, TenantSettings};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::job::{Millis, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::body;
use super::error::Problem;
use super::params::Params;
use super::read::{Bad, Object};
use super::tenant::Whose;
use super::time::long_duration;

/// What holds, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "StoreSettings")]
pub struct SettingsShown {
    /// How long completed jobs are kept.
    pub keep_completed: String,
    /// How long cancelled jobs are kept.
    pub keep_cancelled: String,
    /// How long discarded jobs are kept.
    pub keep_discarded: String,
    /// Completed jobs at most; the oldest go first.
    pub completed_max: u64,
    /// Jobs that have not ended, at most.
    pub capacity: u64,
    /// Bytes of args, outputs and checkpoints, at most.
    pub stored_bytes: u64,
    /// How long the log is kept.
    pub log_age: String,
    /// How many bytes of the log are kept.
    pub log_bytes: u64,
}

/// `GET /v1/store/settings`.
pub async fn show(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    params: Params,
) -> Result<Json<SettingsShown>, Problem> {
    params.finish()?;
    let (store, tenant) = read(&app, tenant)?;
    Ok(Json(shown(store, tenant)))
}

/// `PATCH /v1/store/settings`: what is not said stays.
pub async fn set(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SettingsShown>, Problem> {
    params.finish()?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let object = Object::read(&text, body::parse(&text)?)?;
    let _one = app.settings.lock().await;
    let now = read(&app, tenant)?;
    let new = changed(object, now)?;
    if new.0 != now.0 {
        write(&app, Settings::Store(new.0)).await?;
    }
    if new.1 != now.1 {
        write(&app, Settings::Tenant(tenant, new.1)).await?;
    }
    Ok(Json(shown(new.0, new.1)))
}

fn changed(
    mut object: Object<'_>,
    (store, tenant): (StoreSettings, TenantSettings),
) -> Result<(StoreSettings, TenantSettings), Bad> {
    let tenant = tenant_changed(&mut object, tenant)?;
    let log_age = object.take("log_age").map_or(Ok(store.log_age), |value| value.duration())?;
    let log_bytes = object.take("log_bytes").map_or(Ok(store.log_bytes), |value| value.size())?;
    object.finish()?;
    Ok((StoreSettings { log_age, log_bytes }, tenant))
}

/// What a tenant may have, and how long: what is not said stays.
pub(super) fn tenant_changed(object: &mut Object<'_>, now: TenantSettings) -> Result<TenantSettings, Bad> {
    let keep = now.keep;
    let mut age = |name, now: Millis| object.take(name).map_or(Ok(now), |value| value.duration());
    let (completed, cancelled) = (age("keep_completed", keep.completed)?, age("keep_cancelled", keep.cancelled)?);
    let discarded = age("keep_discarded", keep.discarded)?;
    let mut number = |name, now: u64| object.take(name).map_or(Ok(now), |value| value.u64());
    let completed_max = number("completed_max", keep.completed_max)?;
    let capacity = number("capacity", now.capacity)?;
    let stored_bytes = object.take("stored_bytes").map_or(Ok(now.stored_bytes), |value| value.size())?;
    let keep = Keep { completed, cancelled, discarded, completed_max };
    Ok(TenantSettings { capacity, stored_bytes, keep, ..now })
}

pub(super) async fn write(app: &App, settings: Settings) -> Result<(), Problem> {
    match app.call(Command::Set(Box::new(settings))).await? {
        Reply::Set(_) => Ok(()),
        Reply::Rejected(rejection) => Err(rejection.into()),
        other => unreachable!("the answer to a setting is not {other:?}"),
    }
}

fn read(app: &App, tenant: TenantId) -> Result<(StoreSettings, TenantSettings), StoreError> {
    let view = app.store.snapshot()?;
    let store = match view.read(&Query::Settings(Scope::Store))? {
        Answer::Settings(Settings::Store(settings)) => settings,
        _ => StoreSettings::default(),
    };
    Ok((store, of_tenant(view.as_ref(), tenant)?))
}

/// What was set for a tenant, or the defaults.
pub(super) fn of_tenant(view: &dyn Snapshot, tenant: TenantId) -> Result<TenantSettings, StoreError> {
    match view.read(&Query::Settings(Scope::Tenant(tenant)))? {
        Answer::Settings(Settings::Tenant(_, settings)) => Ok(settings),
        _ => Ok(TenantSettings::default()),
    }
}

fn shown(store: StoreSettings, tenant: TenantSettings) -> SettingsShown {
    let Keep { completed, cancelled, discarded, completed_max } = tenant.keep;
    SettingsShown {
        keep_completed: long_duration(completed),
        keep_cancelled: long_duration(cancelled),
        keep_discarded: long_duration(discarded),
        completed_max,
        capacity: tenant.capacity,
        stored_bytes: tenant.stored_bytes,
        log_age: long_duration(store.log_age),
        log_bytes: store.log_bytes,
    }
}
