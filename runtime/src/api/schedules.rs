//! Schedules: `GET|POST /v1/schedules`, `GET|PATCH|DELETE /v1/schedules/{name}`, `POST …/fire|pause|resume`.
//!
//! One that stands in a plugin's manifest is changed there: here it can be looked at, paused, resumed and fired, and anything
//! else is 409 `from_manifest`. Where a name is used twice, the later one is refused: a POST with 409 `exists`, a manifest's
//! in the log. A POST that says what is so already, and the verbs, are safe to repeat.

mod shown;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use runner_store::command::{Answer, Command, Fired, IdempotencyKey, Query, Reply, ScheduleCall, ScheduleVerb};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::job::{Rejection, TenantId};
use runner_store::schedule::{Plan, Schedule, ScheduleRef, Source, When, schedule_problem};

pub use self::shown::{FiredShown, ScheduleShown, SchedulesPage, SkippedShown};
use super::App;
use super::body;
use super::enqueue::{IDEMPOTENCY_KEY, key};
use super::error::Problem;
use super::new_job;
use super::params::{Named, Params};
use super::read::{Bad, Object, Value};
use super::tenant::Whose;
use super::types::EnqueuedShown;
use crate::schedules::draft::{Draft, parse_catch_up, parse_overlap};
use crate::schedules::fire_of;

/// How often a change is tried that meets another one each time.
const TRIES_MAX: u32 = 5;
/// Schedules of a page.
const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;

/// `GET /v1/schedules?limit=&cursor=`, by name.
pub async fn list(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    mut params: Params,
) -> Result<Json<SchedulesPage>, Problem> {
    let limit = params.take_as("limit", |text| {
        let limit = text.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n));
        limit.ok_or_else(|| format!("must be a whole number from 1 to {LIMIT_MAX}"))
    })?;
    let after = params.take("cursor")?.map(|name| ScheduleRef { tenant, name });
    params.finish()?;
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    let view = app.store.snapshot()?;
    let page = match view.read(&Query::Schedules { tenant: Some(tenant), after, limit })? {
        Answer::Schedules(page) => page,
        other => unreachable!("schedules are answered with schedules, not with {other:?}"),
    };
    let full = page.len() == limit as usize;
    let next_cursor = page.last().filter(|_| full).map(|last| last.name.clone());
    let resumed = resumed(view.as_ref())?;
    let schedules = page.iter().map(|schedule| ScheduleShown::new(&app, schedule, resumed)).collect();
    Ok(Json(SchedulesPage { schedules, next_cursor }))
}

/// `GET /v1/schedules/{name}`.
pub async fn show(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    Named(name): Named,
    params: Params,
) -> Result<Json<ScheduleShown>, Problem> {
    params.finish()?;
    let view = app.store.snapshot()?;
    let schedule = find(view.as_ref(), tenant, &name)?.ok_or_else(|| Problem::from(Rejection::NoSchedule))?;
    Ok(Json(ScheduleShown::new(&app, &schedule, resumed(view.as_ref())?)))
}

/// `POST /v1/schedules` with `{"name": …, "cron" | "every": …, "kind": …, …}`.
pub async fn create(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.finish()?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let mut object = Object::read(&text, body::parse(&text)?)?;
    let name = object.take("name").map(|value| value.str()).transpose()?;
    let draft = draft(object)?;
    let name = name.ok_or_else(|| Problem::invalid("name", "is missing: what the schedule is called"))?;
    if let Some(why) = schedule_problem(&name) {
        return Err(Problem::invalid("name", why));
    }
    let at = ScheduleRef { tenant, name };
    let starts = draft.start.is_some();
    let defaults = match &draft.kind {
        Some(kind) => app.plugins.defaults(&app.store.tenant_name(tenant), kind),
        None => new_job::KindDefaults::default(),
    };
    let by_key = defaults.clone();
    let mut plan = draft.plan(app.clock.now(), (defaults.queue, defaults.priority))?;
    by_key.key_in(&plan.job.args)?;
    if !starts && let Some(there) = find(app.store.snapshot()?.as_ref(), tenant, &at.name)? {
        // Said twice without a start, it is the same schedule.
        plan = with_start_of(plan, &there.plan);
    }
    let (status, shown) = match said(&app, at, ScheduleVerb::Create(plan, Source::Api)).await? {
        (schedule, true) => (StatusCode::CREATED, schedule),
        (schedule, false) => (StatusCode::OK, schedule),
    };
    Ok((status, Json(shown)).into_response())
}

fn with_start_of(mut plan: Plan, there: &Plan) -> Plan {
    if let (When::Every { start, interval }, When::Every { start: first, interval: other }) =
        (&mut plan.when, &there.when)
        && interval == other
    {
        *start = *first;
    }
    plan
}

/// `PATCH /v1/schedules/{name}`: what is not said stays.
pub async fn edit(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    Named(name): Named,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ScheduleShown>, Problem> {
    params.finish()?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let draft = draft(Object::read(&text, body::parse(&text)?)?)?;
    if draft == Draft::default() {
        return Err(Problem::invalid(
            "body",
            "says nothing to be changed; there are cron, every, kind, args and others",
        ));
    }
    for _ in 0..TRIES_MAX {
        let there = find(app.store.snapshot()?.as_ref(), tenant, &name)?;
        let there = there.ok_or_else(|| Problem::from(Rejection::NoSchedule))?;
        if let Source::Manifest(plugin) = &there.source {
            return Err(Rejection::FromManifest { plugin: plugin.clone() }.into());
        }
        let at = there.at();
        let plan = draft.clone().edit(there.plan, app.clock.now())?;
        app.plugins.defaults(&app.store.tenant_name(tenant), &plan.job.kind).key_in(&plan.job.args)?;
        let verb = ScheduleVerb::Edit { plan, source: Source::Api, edits: Some(there.edits) };
        match said(&app, at, verb).await {
            Err(problem) if problem.code == "changed" => {}
            said => return said.map(|(schedule, _)| Json(schedule)),
        }
    }
    Err(Rejection::ScheduleChanged.into())
}

/// `DELETE /v1/schedules/{name}`: its jobs stay.
pub async fn delete(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    Named(name): Named,
    params: Params,
) -> Result<StatusCode, Problem> {
    params.finish()?;
    let call = ScheduleCall { at: ScheduleRef { tenant, name }, verb: ScheduleVerb::Delete(Source::Api) };
    match app.call(Command::Schedule(Box::new(call))).await? {
        Reply::Deleted => Ok(StatusCode::NO_CONTENT),
        Reply::Rejected(Rejection::Invalid(_)) => Err(Rejection::NoSchedule.into()),
        Reply::Rejected(rejection) => Err(rejection.into()),
        other => unreachable!("the answer to a schedule is not {other:?}"),
    }
}

/// `POST /v1/schedules/{name}/fire`: a job now, beside the slots, also of a paused schedule.
/// `POST /v1/schedules/{name}/pause` and `/resume`.
pub async fn verb(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    path: Result<Path<(String, String)>, PathRejection>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    params.finish()?;
    let Path((name, verb)) = path.map_err(|_| Problem::from(Rejection::NoSchedule))?;
    let verb = match verb.as_str() {
        "fire" => return fire(&app, ScheduleRef { tenant, name }, key(&headers)?).await,
        "pause" => ScheduleVerb::Pause,
        "resume" => ScheduleVerb::Resume,
        _ => {
            let detail = "a schedule is fired, paused or resumed; there is no such verb";
            return Err(Problem::new(StatusCode::NOT_FOUND, "no_route", detail));
        }
    };
    let (schedule, changed) = said(&app, ScheduleRef { tenant, name }, verb).await?;
    Ok(Json(ScheduleShown { changed: Some(changed), ..schedule }).into_response())
}

async fn fire(app: &App, at: ScheduleRef, key: Option<String>) -> Result<Response, Problem> {
    let request = runner_store::sha256(format!("fire {}", at.name).as_bytes());
    let key = key.map(|key| IdempotencyKey { key, request });
    for _ in 0..TRIES_MAX {
        let there = find(app.store.snapshot()?.as_ref(), at.tenant, &at.name)?;
        let there = there.ok_or_else(|| Problem::from(Rejection::NoSchedule))?;
        let job = &there.plan.job;
        let of_kind = app.plugins.defaults(&app.store.tenant_name(at.tenant), &job.kind);
        let call = fire_of(&there, of_kind.key_in(&job.args)?, Fired::ByHand(key.clone()));
        match app.call(Command::Fire(Box::new(call))).await? {
            Reply::Fired(jobs) => {
                let status = if jobs.iter().all(|job| job.duplicate) { StatusCode::OK } else { StatusCode::CREATED };
                let job = jobs.into_iter().next().map(EnqueuedShown::from);
                let job = job.expect("whoever fires by hand gets a job, or is refused");
                return Ok((status, Json(FiredShown { schedule: at.name, job })).into_response());
            }
            Reply::Rejected(Rejection::ScheduleChanged) => {}
            Reply::Rejected(rejection @ Rejection::KeyReused) => {
                return Err(Problem::from(rejection).at(IDEMPOTENCY_KEY));
            }
            Reply::Rejected(rejection) => return Err(rejection.into()),
            other => unreachable!("the answer to firing is not {other:?}"),
        }
    }
    Err(Rejection::ScheduleChanged.into())
}

async fn said(app: &App, at: ScheduleRef, verb: ScheduleVerb) -> Result<(ScheduleShown, bool), Problem> {
    let creates = matches!(verb, ScheduleVerb::Create(..));
    match app.call(Command::Schedule(Box::new(ScheduleCall { at, verb }))).await? {
        Reply::Schedule { schedule, changed } => {
            let resumed = resumed(app.store.snapshot()?.as_ref())?;
            Ok((ScheduleShown::new(app, &schedule, resumed), changed))
        }
        // What is no name is the name of no schedule.
        Reply::Rejected(Rejection::Invalid(invalid)) if !creates && invalid.field == "name" => {
            Err(Rejection::NoSchedule.into())
        }
        Reply::Rejected(rejection) => Err(rejection.into()),
        other => unreachable!("the answer to a schedule is not {other:?}"),
    }
}

fn find(view: &dyn Snapshot, tenant: TenantId, name: &str) -> Result<Option<Schedule>, StoreError> {
    match view.read(&Query::Schedule(ScheduleRef { tenant, name: name.to_owned() }))? {
        Answer::Schedule(schedule) => Ok(schedule),
        other => unreachable!("a schedule is answered with a schedule, not with {other:?}"),
    }
}

fn resumed(view: &dyn Snapshot) -> Result<runner_store::job::Time, StoreError> {
    match view.read(&Query::Stored)? {
        Answer::Stored(stored) => Ok(stored.schedules_from),
        other => unreachable!("figures are answered with figures, not with {other:?}"),
    }
}

/// What a body says of a schedule, but for its name.
fn draft(mut object: Object<'_>) -> Result<Draft, Bad> {
    for (name, why) in [
        ("run_at", "its slots say when its jobs run"),
        ("delay", "its slots say when its jobs run"),
        ("expires_at", "`deadline` says how long after its slot a job may begin"),
        ("unique", "`overlap` says what a slot does while a job has not ended"),
        ("depends_on", "they would all wait for the same jobs"),
        ("hold", "a schedule that is not to run yet is paused"),
    ] {
        if let Some(value) = object.peek(name) {
            return Err(value.bad(&format!("is not possible for the jobs of a schedule: {why}")));
        }
    }
    let overlap = |value: Value<'_>| parse_overlap(&value.str()?).map_err(|why| value.bad(&why));
    let catch_up = |value: Value<'_>| {
        let word = value.str().unwrap_or_else(|_| value.raw().to_owned());
        parse_catch_up(&word).map_err(|why| value.bad(&why))
    };
    let draft = Draft {
        cron: object.take("cron").map(|value| value.str()).transpose()?,
        timezone: object.take("timezone").map(|value| value.str()).transpose()?,
        every: object.take("every").map(|value| value.duration()).transpose()?,
        start: object.take("start").map(|value| value.time()).transpose()?,
        overlap: object.take("overlap").map(overlap).transpose()?,
        catch_up: object.take("catch_up").map(catch_up).transpose()?,
        deadline: or_none(&mut object, "deadline", |value| value.duration())?,
        kind: object.take("kind").map(|value| value.str()).transpose()?,
        args: new_job::args_given(&mut object)?,
        queue: object.take("queue").map(|value| value.str()).transpose()?,
        priority: object.take("priority").map(|value| new_job::priority(&value)).transpose()?,
        max_attempts: or_none(&mut object, "max_attempts", |value| value.u32())?,
        timeout: or_none(&mut object, "timeout", |value| value.duration())?,
        retry: or_none(&mut object, "retry", new_job::retry)?,
        tags: object.take("tags").map(|value| new_job::tags(&value)).transpose()?,
    };
    object.finish()?;
    Ok(draft)
}

/// A field where null says that there is to be none.
fn or_none<T>(
    object: &mut Object<'_>,
    name: &'static str,
    read: impl FnOnce(&Value<'_>) -> Result<T, Bad>,
) -> Result<Option<Option<T>>, Bad> {
    match object.take_any(name) {
        None => Ok(None),
        Some(value) if value.raw() == "null" => Ok(Some(None)),
        Some(value) => read(&value).map(|value| Some(Some(value))),
    }
}
