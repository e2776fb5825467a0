//! Queues: what stands in each, and what holds for it. `GET /v1/queues[/{q}]`, `PATCH /v1/queues/{q}`,
//! `POST /v1/queues/{q}/pause|resume|drain|clear|retry`, and `POST /v1/queues/resume`, which lets jobs run again after the store was
//! restored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use runner_store::command::{Answer, Command, NameClass, Pause, Query, QueueSettings, Reply, Scope, Settings, Stored};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::job::{QueueOrder, StateName, TenantId, Time, name_problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::App;
use super::body;
use super::bulk;
use super::error::Problem;
use super::params::{Named, NamedVerb, Params};
use super::read::{Bad, Object, Value};
use super::tenant::Whose;
use super::time::rfc3339;
use crate::holds;
use crate::scheduler::core::WEIGHT_DEFAULT;
use crate::wasm::units::{self, duration_text, rate_text};

/// All queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Queues")]
pub struct QueuesShown {
    /// By name.
    pub queues: Vec<QueueShown>,
    /// Whether nothing runs since the store was restored.
    pub paused: bool,
}

/// A queue as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Queue")]
pub struct QueueShown {
    /// Its name.
    pub name: String,
    /// Jobs that it may have which have not ended; none: as many as the tenant may have.
    pub capacity: Option<u64>,
    /// The order of its jobs: `priority`, `run-at`, or `aged:10m` (by priority, and 10 minutes of waiting count as a step of it).
    pub order: String,
    /// Calls at once; none: as many as others let.
    pub concurrency: Option<u32>,
    /// Jobs that start in a time, as `100/1m burst 10`; none: as many as others let.
    pub rate: Option<String>,
    /// Its part beside its tenant's other queues.
    pub weight: u32,
    /// Where `concurrency`, `rate` and `weight` come from: `set`, `manifest of PLUGIN` or `default`.
    pub sources: BTreeMap<String, String>,
    /// Whether nothing of it starts.
    pub paused: bool,
    /// Until when; none: until someone ends it.
    pub paused_until: Option<String>,
    /// Whether it takes no new jobs.
    pub draining: bool,
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
    // What has a setting, from an operator or a manifest, is there before its first job.
    for name in in_manifests(&app, tenant) {
        queues.entry(name).or_default();
    }
    if let Answer::AllSettings(all) = view.read(&Query::AllSettings)? {
        for settings in all {
            if let Settings::Queue(of, name, set) = settings
                && of == tenant
                && set != QueueSettings::default()
            {
                queues.entry(name).or_default();
            }
        }
    }
    add_counts(&app, view.as_ref(), tenant, &mut queues)?;
    let shown = |(name, states)| Ok(shown(&app, tenant, (name, settings(view.as_ref(), tenant, name)?), states));
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

/// `PATCH /v1/queues/{q}` with `{"capacity": 1000, "order": "run-at", "concurrency": 4, "rate": "100/1m", "weight": 2}`, also
/// for a queue that has had no job yet; null takes back what was set.
pub async fn set(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    Named(name): Named,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<QueueShown>, Problem> {
    params.finish()?;
    right_name(&name)?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let mut object = Object::read(&text, body::parse(&text)?)?;
    let capacity = object.take_any("capacity").map(|value| nullable(&value, |value| value.u64())).transpose()?;
    let order = object.take("order").map(|value| parse_order(&value.str()?).map_err(|why| value.bad(&why)));
    let order = order.transpose()?;
    let concurrency = object.take_any("concurrency").map(|value| nullable(&value, |value| value.u32())).transpose()?;
    let rate = object.take_any("rate").map(|value| nullable(&value, |value| value.rate())).transpose()?;
    let weight = object.take_any("weight").map(|value| nullable(&value, |value| value.u32())).transpose()?;
    object.finish()?;
    if capacity.is_none() && order.is_none() && concurrency.is_none() && rate.is_none() && weight.is_none() {
        let detail = "says nothing to be set; there are capacity, order, concurrency, rate and weight";
        return Err(Problem::invalid("body", detail));
    }
    let change = |now: QueueSettings| QueueSettings {
        capacity: capacity.unwrap_or(now.capacity),
        order: order.unwrap_or(now.order),
        concurrency: concurrency.unwrap_or(now.concurrency),
        rate: rate.unwrap_or(now.rate),
        weight: weight.unwrap_or(now.weight),
        ..now
    };
    Ok(Json(changed(&app, tenant, &name, change).await?))
}

/// `POST /v1/queues/{q}/pause` (with `{"until": "…"}`, if it is to end by itself) `| resume | drain`, also for a queue that
/// has had no job yet.
pub async fn verb_of(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    NamedVerb(name, verb): NamedVerb,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.finish()?;
    right_name(&name)?;
    if let verb @ ("clear" | "retry") = verb.as_str() {
        let queue = app.store.queue_id(tenant, &name).ok_or_else(unknown)?;
        return bulk::of_queue(&app, (tenant, queue), verb == "clear", &headers, body).await;
    }
    let until = pause_until(&app, &headers, body, &verb).await?;
    let change: fn(QueueSettings, Pause) -> QueueSettings = match verb.as_str() {
        "pause" => |now, until| QueueSettings { pause: Some(until), ..now },
        "drain" => |now, _| QueueSettings { drain: true, ..now },
        "resume" => |now, _| QueueSettings { pause: None, drain: false, ..now },
        _ => return Err(no_verb(&verb, "pause, resume, drain, clear and retry")),
    };
    // A pause may come before the first job; there is nothing else that an unknown queue can do.
    if verb != "pause" {
        one(&app, tenant, &name)?;
    }
    Ok(Json(changed(&app, tenant, &name, |now| change(now, until)).await?).into_response())
}

/// Until when, as the body of a pause says, if it has one.
pub(super) async fn pause_until(app: &App, headers: &HeaderMap, body: Body, verb: &str) -> Result<Pause, Problem> {
    let text = body::json_or_nothing(&app.bodies, headers, body).await?;
    if text.is_empty() {
        return Ok(Pause::Open);
    }
    let mut object = Object::read(&text, body::parse(&text)?)?;
    let until = object.take("until").map(|value| Ok::<_, Bad>((value.time()?, value))).transpose()?;
    object.finish()?;
    match until {
        Some((_, value)) if verb != "pause" => Err(value.bad("is for a pause").into()),
        Some((until, value)) if until <= app.clock.now() => Err(value.bad("has passed").into()),
        Some((until, _)) => Ok(Pause::Until(until)),
        None => Ok(Pause::Open),
    }
}

pub(super) fn no_verb(verb: &str, known: &str) -> Problem {
    let detail = format!("there is no verb {verb:?}; there are {known}");
    Problem::new(StatusCode::NOT_FOUND, "no_route", detail)
}

fn right_name(name: &str) -> Result<(), Problem> {
    name_problem(name).map_or(Ok(()), |why| Err(Problem::invalid("queue", why)))
}

/// Null: none.
pub(super) fn nullable<T>(value: &Value<'_>, read: impl Fn(&Value<'_>) -> Result<T, Bad>) -> Result<Option<T>, Bad> {
    if value.raw() == "null" { Ok(None) } else { read(value).map(Some) }
}

async fn changed(
    app: &App,
    tenant: TenantId,
    name: &str,
    change: impl FnOnce(QueueSettings) -> QueueSettings,
) -> Result<QueueShown, Problem> {
    let _one = app.settings.lock().await;
    let new = change(settings(app.store.snapshot()?.as_ref(), tenant, name)?);
    let settings = Settings::Queue(tenant, name.to_owned(), new);
    match app.call(Command::Set(Box::new(settings))).await? {
        // As it was set: a queue without jobs is forgotten with its last setting.
        Reply::Set(_) => Ok(counted(app, app.store.snapshot()?.as_ref(), tenant, (name, new))?),
        Reply::Rejected(rejection) => Err(rejection.into()),
        other => unreachable!("the answer to a setting is not {other:?}"),
    }
}

/// `POST /v1/queues/resume`: all of them, after a restore.
pub async fn verb(State(app): State<Arc<App>>, Named(verb): Named, params: Params) -> Result<Response, Problem> {
    params.finish()?;
    if verb != "resume" {
        let detail = "POST is only possible at /v1/queues/resume and /v1/queues/{q}/pause, resume, drain, clear and retry; a \
                      queue's settings are changed with PATCH";
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
        return Ok(([(header::ALLOW, "GET,HEAD,PATCH")], problem).into_response());
    }
    match app.call(Command::Resume).await? {
        Reply::Done => Ok(Json(json!({ "paused": false })).into_response()),
        other => unreachable!("the answer to resume is not {other:?}"),
    }
}

fn unknown() -> Problem {
    let detail = "there is no queue of this name: none has had a job or a setting";
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}

fn one(app: &App, tenant: TenantId, name: &str) -> Result<QueueShown, Problem> {
    let view = app.store.snapshot()?;
    let settings = settings(view.as_ref(), tenant, name)?;
    let known = app.store.queue_id(tenant, name).is_some() || settings != QueueSettings::default();
    if !known && !in_manifests(app, tenant).contains(name) {
        return Err(unknown());
    }
    Ok(counted(app, view.as_ref(), tenant, (name, settings))?)
}

fn in_manifests(app: &App, tenant: TenantId) -> BTreeSet<String> {
    let tenant = app.store.tenant_name(tenant);
    app.plugins.with_registry(|registry| holds::named_in_manifests(registry, &tenant))
}

fn counted(
    app: &App,
    view: &dyn Snapshot,
    tenant: TenantId,
    (name, settings): (&str, QueueSettings),
) -> Result<QueueShown, StoreError> {
    let mut queues = BTreeMap::from([(name.to_owned(), BTreeMap::new())]);
    add_counts(app, view, tenant, &mut queues)?;
    Ok(shown(app, tenant, (name, settings), &queues[name]))
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

fn shown(
    app: &App,
    tenant: TenantId,
    (name, settings): (&str, QueueSettings),
    states: &BTreeMap<String, u64>,
) -> QueueShown {
    let order = match settings.order {
        QueueOrder::Priority => "priority".to_owned(),
        QueueOrder::RunAt => "run-at".to_owned(),
        QueueOrder::Aged(age) => format!("aged:{}", duration_text(age)),
    };
    let tenant_name = app.store.tenant_name(tenant);
    let holds = app.plugins.with_registry(|registry| holds::of_queue(&settings, registry, &tenant_name, name));
    let sources =
        [("concurrency", &holds.concurrency.source), ("rate", &holds.rate.source), ("weight", &holds.weight.source)];
    let (paused, paused_until) = paused(settings.pause, app.clock.now());
    QueueShown {
        name: name.to_owned(),
        capacity: settings.capacity,
        order,
        concurrency: holds.concurrency.value,
        rate: holds.rate.value.map(rate_text),
        weight: holds.weight.value.unwrap_or(WEIGHT_DEFAULT),
        sources: sources.into_iter().map(|(key, source)| (key.to_owned(), source.word())).collect(),
        paused,
        paused_until,
        draining: settings.drain,
        states: states.clone(),
    }
}

/// Whether something is paused, and until when.
pub(super) fn paused(pause: Option<Pause>, now: Time) -> (bool, Option<String>) {
    match pause.filter(|pause| pause.holds(now)) {
        None => (false, None),
        Some(Pause::Open) => (true, None),
        Some(Pause::Until(until)) => (true, Some(rfc3339(until))),
    }
}

fn parse_order(word: &str) -> Result<QueueOrder, String> {
    match word {
        "priority" => Ok(QueueOrder::Priority),
        "run-at" => Ok(QueueOrder::RunAt),
        _ => {
            let age = word.strip_prefix("aged:").and_then(|age| units::duration(age).ok()).map(QueueOrder::Aged);
            age.ok_or_else(|| {
                "must be priority (then run_at, then id), run-at (then priority, then id), or aged:TIME, such as aged:10m \
                 (a step of priority for each 10 minutes that a job waits)"
                    .to_owned()
            })
        }
    }
}
