//! What one may do to a job: start, cancel, retry, release, delete. Repeating a verb is safe: what is so already is answered
//! with `changed: false`.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use runner_store::command::{Command, Reply};
use runner_store::job::{JobRef, Rejection, StateName, limits};

use super::App;
use super::body;
use super::error::Problem;
use super::jobs;
use super::params::{OfJob, Params};
use super::read::Object;
use super::types::{JobShown, waits_for};
use crate::scheduler::starter::NotStarted;

/// `POST /v1/jobs/{id}/cancel`, with `{"reason": "…"}` if one wants to say why.
pub async fn cancel(
    State(app): State<Arc<App>>,
    OfJob(at): OfJob,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.finish()?;
    let reason = reason(&app, &headers, body).await?;
    act(&app, Command::Cancel { job: at, reason }).await
}

/// `POST /v1/jobs/{id}/start`: exactly this job, now, on this node; first in line for a slot.
pub async fn start(State(app): State<Arc<App>>, OfJob(at): OfJob, params: Params) -> Result<Response, Problem> {
    params.finish()?;
    let row = jobs::job(app.store.snapshot()?.as_ref(), at)?.ok_or_else(Problem::no_job)?;
    let conflict = |code, detail: String| Problem::new(StatusCode::CONFLICT, code, detail);
    let Some(starter) = &app.starter else {
        let detail = "no node runs jobs on this store; start one with `runner serve`".to_owned();
        return Err(conflict("no_node", detail));
    };
    let kind = app.store.kind_name(row.kind);
    if let Some(unserved) = app.plugins.unserved(&app.store.tenant_name(row.tenant), &kind) {
        return Err(conflict(unserved.code(), unserved.detail()));
    }
    match starter.start(at).await {
        Ok(job) => Ok(Json(JobShown { changed: Some(true), ..JobShown::new(&app, &job) }).into_response()),
        Err(NotStarted::Rejected(Rejection::State(state))) => {
            let hint = match state {
                StateName::Held => "release it first".to_owned(),
                StateName::Running => "it runs already".to_owned(),
                StateName::Blocked => waits_for(&row),
                _ => "it has ended; `retry` runs it again".to_owned(),
            };
            Err(conflict("state", format!("not possible while the job is {state}: {hint}")))
        }
        Err(NotStarted::Rejected(rejection)) => Err(rejection.into()),
        Err(NotStarted::Call(error)) => Err(error.into()),
        // Of suspects one runs at a time, and that is this one.
        Err(NotStarted::Suspect) if row.lease().is_some() => {
            Err(conflict("state", format!("not possible while the job is {}: it runs already", row.state.name())))
        }
        Err(why @ NotStarted::Suspect) => Err(conflict("suspect", why.to_string())),
        Err(why @ NotStarted::Held(_)) => Err(conflict("no_budget", why.to_string())),
        Err(why @ NotStarted::External) => Err(conflict("external", why.to_string())),
        Err(why @ NotStarted::Busy) => Err(conflict("no_slot", why.to_string())),
        Err(why @ NotStarted::Draining) => Err(conflict("draining", why.to_string())),
    }
}

/// `POST /v1/jobs/{id}/retry?fresh=true&with_dependents=true`: without what an earlier run left to resume from, and with
/// those that were cancelled because of this job.
pub async fn retry(State(app): State<Arc<App>>, OfJob(at): OfJob, mut params: Params) -> Result<Response, Problem> {
    let fresh = params.flag("fresh")?;
    let with_dependents = params.flag("with_dependents")?;
    params.finish()?;
    let command = Command::Retry { job: at, fresh };
    let (job, changed) = match app.call(command.clone()).await? {
        Reply::Job { job, changed } => (job, changed),
        other => return shown(&app, &command, other),
    };
    let revived = if with_dependents { Some(revive(&app, at).await?) } else { None };
    Ok(Json(JobShown { changed: Some(changed), revived, ..JobShown::new(&app, &job) }).into_response())
}

/// Runs again those that were cancelled because of a job, and then those that were because of them, step by step.
async fn revive(app: &App, at: JobRef) -> Result<u64, Problem> {
    let (mut next, mut revived) = (VecDeque::from([at]), 0);
    while let Some(at) = next.pop_front() {
        let mut after = None;
        loop {
            match app.call(Command::Revive { job: at, after }).await? {
                Reply::Revived { jobs, next: behind } => {
                    revived += jobs.len() as u64;
                    next.extend(jobs.into_iter().map(|job| JobRef { job, ..at }));
                    after = behind;
                    if after.is_none() {
                        break;
                    }
                }
                // It has ended again, or is gone: nobody waits for it any more.
                Reply::Rejected(_) => break,
                other => unreachable!("the answer to a revival is not {other:?}"),
            }
        }
    }
    Ok(revived)
}

/// `POST /v1/jobs/{id}/release`.
pub async fn release(State(app): State<Arc<App>>, OfJob(at): OfJob, params: Params) -> Result<Response, Problem> {
    params.finish()?;
    act(&app, Command::Release(at)).await
}

/// `DELETE /v1/jobs/{id}?force=true&cascade=true`: also while it runs, also while others wait for it.
pub async fn delete(State(app): State<Arc<App>>, OfJob(at): OfJob, mut params: Params) -> Result<Response, Problem> {
    let (force, cascade) = (params.flag("force")?, params.flag("cascade")?);
    params.finish()?;
    act(&app, Command::Delete { job: at, force, cascade }).await
}

/// Sends a command about one job, and shows what became of it.
pub(super) async fn act(app: &App, command: Command) -> Result<Response, Problem> {
    let reply = app.call(command.clone()).await?;
    shown(app, &command, reply)
}

fn shown(app: &App, command: &Command, reply: Reply) -> Result<Response, Problem> {
    match reply {
        Reply::Job { job, changed } => {
            // Any other verb did what it is to do, whatever else is under way.
            let cancels = matches!(command, Command::Cancel { .. });
            let flagged = cancels && job.lease().is_some_and(|lease| lease.cancel.is_some());
            let status = if flagged { StatusCode::ACCEPTED } else { StatusCode::OK };
            let shown = JobShown { changed: Some(changed), ..JobShown::new(app, &job) };
            Ok((status, Json(shown)).into_response())
        }
        Reply::Deleted => Ok(StatusCode::NO_CONTENT.into_response()),
        Reply::Rejected(Rejection::State(state)) => Err(not_from(command, state)),
        Reply::Rejected(rejection) => Err(rejection.into()),
        other => unreachable!("the answer to a verb is not {other:?}"),
    }
}

/// 409, with what would be possible.
fn not_from(command: &Command, state: StateName) -> Problem {
    let hint = match (command, state) {
        (Command::Delete { .. }, StateName::Running) => "cancel it first, or delete it with `force=true`",
        (Command::Cancel { .. }, _) => "it has ended; `retry` runs it again",
        (Command::Release(_), _) => "only a job on hold can be released",
        (Command::Retry { .. }, StateName::Running) => "cancel it first, or wait for its end",
        (Command::Retry { .. }, StateName::Held) => "release it instead",
        (Command::Retry { .. }, StateName::Blocked) => "it waits for other jobs; cancel it first, then retry it",
        (Command::Retry { .. }, _) => "it has not ended",
        (Command::Edit { .. }, StateName::Running) => "cancel it first, or wait for its end",
        (Command::Edit { .. }, _) => "it has ended; `retry` runs it again as it is",
        _ => "look at it first",
    };
    let detail = format!("not possible while the job is {state}: {hint}");
    Problem::new(StatusCode::CONFLICT, "state", detail)
}

pub(super) fn check_reason(reason: Option<String>) -> Result<Option<String>, Problem> {
    if reason.as_ref().is_some_and(|reason| reason.len() > limits::REASON_BYTES_MAX) {
        return Err(Problem::invalid("reason", format!("must be at most {} bytes long", limits::REASON_BYTES_MAX)));
    }
    Ok(reason)
}

async fn reason(app: &App, headers: &HeaderMap, body: Body) -> Result<Option<String>, Problem> {
    let text = body::json_or_nothing(&app.bodies, headers, body).await?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let mut object = Object::read(&text, body::parse(&text)?)?;
    let reason = object.take("reason").map(|value| value.str()).transpose()?;
    object.finish()?;
    check_reason(reason)
}
