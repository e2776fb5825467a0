//! What one may do to a job: cancel, retry, release, delete. Repeating a verb is safe: what is so already is answered
//! with `changed: false`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use runner_store::command::{Command, Reply};
use runner_store::job::{Rejection, StateName, limits};

use super::App;
use super::body;
use super::error::Problem;
use super::params::{OfJob, Params};
use super::read::Object;
use super::types::JobShown;

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

/// `POST /v1/jobs/{id}/retry`.
pub async fn retry(State(app): State<Arc<App>>, OfJob(at): OfJob, params: Params) -> Result<Response, Problem> {
    params.finish()?;
    act(&app, Command::Retry { job: at, fresh: false }).await
}

/// `POST /v1/jobs/{id}/release`.
pub async fn release(State(app): State<Arc<App>>, OfJob(at): OfJob, params: Params) -> Result<Response, Problem> {
    params.finish()?;
    act(&app, Command::Release(at)).await
}

/// `DELETE /v1/jobs/{id}?force=true`.
pub async fn delete(State(app): State<Arc<App>>, OfJob(at): OfJob, mut params: Params) -> Result<Response, Problem> {
    let parse = |text: &str| text.parse::<bool>().map_err(|_| "must be true or false".to_owned());
    let force = params.take_as("force", parse)?.unwrap_or_default();
    params.finish()?;
    act(&app, Command::Delete { job: at, force, cascade: false }).await
}

async fn act(app: &App, command: Command) -> Result<Response, Problem> {
    match app.call(command.clone()).await? {
        Reply::Job { job, changed } => {
            let flagged = job.lease().is_some_and(|lease| lease.cancel.is_some());
            let status = if flagged { StatusCode::ACCEPTED } else { StatusCode::OK };
            let shown = JobShown { changed: Some(changed), ..JobShown::new(app, &job) };
            Ok((status, Json(shown)).into_response())
        }
        Reply::Deleted => Ok(StatusCode::NO_CONTENT.into_response()),
        Reply::Rejected(Rejection::State(state)) => Err(not_from(&command, state)),
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
        (Command::Retry { .. }, _) => "it has not ended",
        _ => "look at it first",
    };
    let detail = format!("not possible while the job is {state}: {hint}");
    Problem::new(StatusCode::CONFLICT, "state", detail)
}

async fn reason(app: &App, headers: &HeaderMap, body: Body) -> Result<Option<String>, Problem> {
    let text = body::json_or_nothing(&app.bodies, headers, body).await?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    let mut object = Object::read(&text, body::parse(&text)?)?;
    let reason = object.take("reason").map(|value| value.str()).transpose()?;
    object.finish()?;
    if reason.as_ref().is_some_and(|reason| reason.len() > limits::REASON_BYTES_MAX) {
        return Err(Problem::invalid("reason", format!("must be at most {} bytes long", limits::REASON_BYTES_MAX)));
    }
    Ok(reason)
}
