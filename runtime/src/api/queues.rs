//! Queues: what stands in each, and what holds for it. `GET /v1/queues[/{q}]`, `PATCH /v1/queues/{q}`, and
//! `POST /v1/queues/resume`, which lets jobs run again after the store was restored.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use runner_store::command::{Answer, Command, NameClass, Query, QueueSettings, Reply, Scope, Settings, Stored};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::job::{QueueOrder, StateName, TenantId, name_problem};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::App;
use super::body;
use super::error::Problem;
use super::params::{Named, Params};
use super::read::Object;
use super::tenant::Whose;

/// All queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuesShown {
    /// By name.
    pub queues: Vec<QueueShown>,
    /// Whether nothing runs since the store was restored.
    pub paused: bool,
}

/// A queue as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueShown {
    /// Its name.
    pub name: String,
    /// Jobs that it may have which have not ended; none: as many as the tenant may have.
    pub capacity: Option<u64>,
    /// The order of its jobs: `priority` or `run-at`.
    pub order: String,
    /// How many jobs it has, by state; without zeros.
    pub states: BTreeMap<String, u64>,
}

/// `GET /v1/queues`.
pub async fn list(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    params: Params,
) -> Result<Json<QueuesShown>, Problem> {
    params.finish()?;
    let view = app.store.snapshot()?;
    let mut queues = BTreeMap::new();
    if let Answer::Names(names) = view.read(&Query::Names)? {
        let own = |name: &runner_store::command::Name| name.class == NameClass::Queue && name.tenant == tenant;
        for (name, _) in names.into_iter().filter(|(name, _)| own(name)) {
            queues.insert(name.name, BTreeMap::new());
        }
    }
    add_counts(&app, view.as_ref(), tenant, &mut queues)?;
    let shown = |(name, states)| Ok(shown(name, settings(view.as_ref(), tenant, name)?, states));
    let queues = queues.iter().map(|(name, states)| shown((name, states))).collect::<Result<_, StoreError>>()?;
    let paused = matches!(view.read(&Query::Stored)?, Answer::Stored(Stored { paused: true, .. }));
    Ok(Json(QueuesShown { queues, paused }))
}

/// `GET /v1/queues/{q}`.
pub async fn show(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    Named(name): Named,
    params: Params,
) -> Result<Json<QueueShown>, Problem> {
    params.finish()?;
    Ok(Json(one(&app, tenant, &name)?))
}

/// `PATCH /v1/queues/{q}` with `{"capacity": 1000, "order": "run-at"}`, also for a queue that has had no job yet.
pub async fn set(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    Named(name): Named,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<QueueShown>, Problem> {
    params.finish()?;
    if let Some(why) = name_problem(&name) {
        return Err(Problem::invalid("queue", why));
    }
    let text = body::json(&app.bodies, &headers, body).await?;
    let mut object = Object::read(&text, body::parse(&text)?)?;
    let capacity = match object.take_any("capacity") {
        None => None,
        Some(value) if value.raw() == "null" => Some(None),
        Some(value) => Some(Some(value.u64()?)),
    };
    let order = object.take("order").map(|value| parse_order(&value.str()?).map_err(|why| value.bad(&why)));
    let order = order.transpose()?;
    object.finish()?;
    if capacity.is_none() && order.is_none() {
        return Err(Problem::invalid("body", "says nothing to be set; there are capacity and order"));
    }
    let _one = app.settings.lock().await;
    let now = settings(app.store.snapshot()?.as_ref(), tenant, &name)?;
    let new = QueueSettings { capacity: capacity.unwrap_or(now.capacity), order: order.unwrap_or(now.order) };
    let settings = Settings::Queue(tenant, name.clone(), new);
    match app.call(Command::Set(Box::new(settings))).await? {
        // As it was set: a queue without jobs is forgotten with its last setting.
        Reply::Set(_) => Ok(Json(counted(&app, app.store.snapshot()?.as_ref(), tenant, (&name, new))?)),
        Reply::Rejected(rejection) => Err(rejection.into()),
        other => unreachable!("the answer to a setting is not {other:?}"),
    }
}

/// `POST /v1/queues/resume`: all of them, after a restore.
pub async fn verb(State(app): State<Arc<App>>, Named(verb): Named, params: Params) -> Result<Response, Problem> {
    params.finish()?;
    if verb != "resume" {
        let detail = "POST is only possible at /v1/queues/resume; a queue is changed with PATCH";
        return Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail));
    }
    match app.call(Command::Resume).await? {
        Reply::Done => Ok(Json(json!({ "paused": false })).into_response()),
        other => unreachable!("the answer to resume is not {other:?}"),
    }
}

fn one(app: &App, tenant: TenantId, name: &str) -> Result<QueueShown, Problem> {
    let view = app.store.snapshot()?;
    let settings = settings(view.as_ref(), tenant, name)?;
    if app.store.queue_id(tenant, name).is_none() && settings == QueueSettings::default() {
        let detail = "there is no queue of this name: none has had a job or a setting";
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", detail));
    }
    Ok(counted(app, view.as_ref(), tenant, (name, settings))?)
}

fn counted(
    app: &App,
    view: &dyn Snapshot,
    tenant: TenantId,
    (name, settings): (&str, QueueSettings),
) -> Result<QueueShown, StoreError> {
    let mut queues = BTreeMap::from([(name.to_owned(), BTreeMap::new())]);
    add_counts(app, view, tenant, &mut queues)?;
    Ok(shown(name, settings, &queues[name]))
}

/// Adds the counts of those queues that are asked for.
fn add_counts(
    app: &App,
    view: &dyn Snapshot,
    tenant: TenantId,
    queues: &mut BTreeMap<String, BTreeMap<String, u64>>,
) -> Result<(), StoreError> {
    let Answer::Counts(counts) = view.read(&Query::Counts)? else { unreachable!("counts are answered with counts") };
    for (key, jobs) in counts.into_iter().filter(|(key, jobs)| *jobs > 0 && key.lane.tenant == tenant) {
        if let Some(states) = queues.get_mut(app.store.queue_name(key.lane.queue).as_ref()) {
            *states.entry(StateName::as_str(key.state).to_owned()).or_default() += jobs;
        }
    }
    Ok(())
}

fn settings(view: &dyn Snapshot, tenant: TenantId, name: &str) -> Result<QueueSettings, StoreError> {
    match view.read(&Query::Settings(Scope::Queue(tenant, name.to_owned())))? {
        Answer::Settings(Settings::Queue(_, _, settings)) => Ok(settings),
        _ => Ok(QueueSettings::default()),
    }
}

fn shown(name: &str, settings: QueueSettings, states: &BTreeMap<String, u64>) -> QueueShown {
    let order = match settings.order {
        QueueOrder::Priority => "priority",
        QueueOrder::RunAt => "run-at",
    };
    QueueShown { name: name.to_owned(), capacity: settings.capacity, order: order.to_owned(), states: states.clone() }
}

fn parse_order(word: &str) -> Result<QueueOrder, String> {
    match word {
        "priority" => Ok(QueueOrder::Priority),
        "run-at" => Ok(QueueOrder::RunAt),
        _ => Err("must be priority (then run_at, then id) or run-at (then priority, then id)".to_owned()),
    }
}
