//! Changing a job that neither runs nor has ended: `PATCH /v1/jobs/{id}` and `POST /v1/jobs/{id}/reschedule`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use runner_store::command::Command;
use runner_store::job::{Edit, Invalid, JobKey, JobRef};

use super::App;
use super::body;
use super::error::Problem;
use super::jobs;
use super::new_job;
use super::params::{OfJob, Params};
use super::read::{Bad, Object};
use super::verbs::act;

/// `PATCH /v1/jobs/{id}`: what is not said stays.
pub async fn edit(
    State(app): State<Arc<App>>,
    OfJob(at): OfJob,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.finish()?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let edit = read_edit(Object::read(&text, body::parse(&text)?)?)?;
    if edit == Edit::default() {
        let why = "says nothing to be changed; there are args, args_base64, priority, run_at, max_attempts, timeout, \
                   tags, expires_at and retry";
        return Err(Problem::invalid("body", why));
    }
    edit.check().map_err(|invalid: Invalid| Problem::from(invalid))?;
    let key = edit.args.as_deref().map(|args| key_in(&app, at, args)).transpose()?;
    act(&app, Command::Edit { job: at, edit: Box::new(Edit { key, ..edit }) }).await
}

/// The key that stands in the new args of a job. The kind of a job never changes.
fn key_in(app: &App, at: JobRef, args: &[u8]) -> Result<Option<JobKey>, Problem> {
    let job = jobs::job(app.store.snapshot()?.as_ref(), at)?.ok_or_else(Problem::no_job)?;
    let (tenant, kind) = (app.store.tenant_name(at.tenant), app.store.kind_name(job.kind));
    Ok(app.plugins.defaults(&tenant, &kind).key_in(args)?)
}

/// `POST /v1/jobs/{id}/reschedule` with `{"run_at": …}` or `{"delay": …}`.
pub async fn reschedule(
    State(app): State<Arc<App>>,
    OfJob(at): OfJob,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.finish()?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let mut object = Object::read(&text, body::parse(&text)?)?;
    let (run_at, delay) = (object.take("run_at"), object.take("delay"));
    object.finish()?;
    let run_at = match (run_at, delay) {
        (Some(run_at), None) => run_at.time()?,
        (None, Some(delay)) => app.clock.now().after(delay.duration()?),
        (Some(_), Some(delay)) => return Err(delay.bad("and `run_at` exclude each other: keep one").into()),
        (None, None) => {
            return Err(Problem::invalid("run_at", "is missing; give `run_at` (a time) or `delay` (\"5m\")"));
        }
    };
    let edit = Edit { run_at: Some(run_at), ..Edit::default() };
    edit.check().map_err(|invalid: Invalid| Problem::from(invalid))?;
    act(&app, Command::Edit { job: at, edit: Box::new(edit) }).await
}

fn read_edit(mut object: Object<'_>) -> Result<Edit, Bad> {
    let edit = Edit {
        args: new_job::args_given(&mut object)?,
        priority: object.take("priority").map(|value| new_job::priority(&value)).transpose()?,
        run_at: object.take("run_at").map(|value| value.time()).transpose()?,
        max_attempts: object.take("max_attempts").map(|value| value.u32()).transpose()?,
        timeout: object.take("timeout").map(|value| value.duration()).transpose()?,
        retry: object.take("retry").map(|value| new_job::retry(&value)).transpose()?,
        tags: object.take("tags").map(|value| new_job::tags(&value)).transpose()?,
        // Null says something here: that it does not expire.
        expires_at: match object.take_any("expires_at") {
            None => None,
            Some(value) if value.raw() == "null" => Some(None),
            Some(value) => Some(Some(value.time()?)),
        },
        ..Edit::default()
    };
    object.finish()?;
    Ok(edit)
}
