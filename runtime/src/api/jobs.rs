//! Reading jobs: one, a page, an output, and waiting for an end.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use runner_store::command::limits::PAGE_ROWS_MAX;
use runner_store::command::{self, Answer, JobsQuery, Part, Query, RunRecord};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::job::{Job, JobId, JobRef};

use super::App;
use super::error::Problem;
use super::filter;
use super::params::{OfJob, Params};
use super::tenant::Whose;
use super::time::parse_duration;
use super::types::{JobShown, JobsPage};

/// Jobs of a page, where nobody says otherwise.
const PAGE_ROWS_DEFAULT: u32 = 50;
/// How long a call waits for a job's end, where nobody says otherwise.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);
/// The longest: connections that say nothing for longer are cut on their way.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// `GET /v1/jobs`: a page, the newest first, or the oldest.
pub async fn list(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    mut params: Params,
) -> Result<Json<JobsPage>, Problem> {
    let filter = filter::of_params(&mut params, &app, tenant, PAGE_ROWS_DEFAULT)?;
    let oldest_first = params.take_as("order", parse_order)?.unwrap_or_default();
    let limit = params.take_as("limit", parse_limit)?.unwrap_or(PAGE_ROWS_DEFAULT);
    let beyond = params.take_as("cursor", |text| parse_cursor(text, oldest_first))?;
    params.finish()?;
    let Some(filter) = filter else { return Ok(Json(JobsPage { jobs: Vec::new(), next_cursor: None })) };
    let query = JobsQuery { oldest_first, beyond, limit, ..filter };
    let for_reader = Arc::clone(&app);
    let page = tokio::task::spawn_blocking(move || page(&for_reader, query)).await;
    Ok(Json(page.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", "reading the page panicked"))??))
}

fn page(app: &App, query: JobsQuery) -> Result<JobsPage, StoreError> {
    let view = app.store.snapshot()?;
    let read = |query| match view.read(&Query::Jobs(query))? {
        Answer::Jobs(page) => Ok::<_, StoreError>(page),
        _ => unreachable!("a page of jobs is answered with jobs"),
    };
    let command::JobsPage { jobs, next } = read(query.clone())?;
    // A full page may be the last one; one that is not full goes on where many rows had to be looked at.
    let next = match next {
        Some(next) if jobs.len() == query.limit as usize => {
            let rest = read(JobsQuery { beyond: Some(next), limit: 1, ..query.clone() })?;
            (!rest.jobs.is_empty() || rest.next.is_some()).then_some(next)
        }
        other => other,
    };
    let head = cursor_head(query.oldest_first);
    let next_cursor = next.map(|next| URL_SAFE_NO_PAD.encode(format!("{head}{next}")));
    Ok(JobsPage { jobs: jobs.iter().map(|job| JobShown::new(app, job)).collect(), next_cursor })
}

/// `GET /v1/jobs/{id}`, with args, output and runs.
pub async fn show(State(app): State<Arc<App>>, OfJob(at): OfJob, params: Params) -> Result<Json<JobShown>, Problem> {
    params.finish()?;
    let view = app.store.snapshot()?;
    let job = job(view.as_ref(), at)?.ok_or_else(Problem::no_job)?;
    let (args, output) = (payload(view.as_ref(), at, Part::Args)?, payload(view.as_ref(), at, Part::Output)?);
    let shown = JobShown::new(&app, &job).with_payloads(args.as_deref(), output.as_deref());
    let shown = shown.with_runs(&runs(view.as_ref(), at)?);
    Ok(Json(shown.with_progress(super::logs::progress(&app, &job))))
}

/// `GET /v1/jobs/{id}/output`: the bytes as the handler gave them.
pub async fn output(State(app): State<Arc<App>>, OfJob(at): OfJob, params: Params) -> Result<Response, Problem> {
    params.finish()?;
    let view = app.store.snapshot()?;
    let job = job(view.as_ref(), at)?.ok_or_else(Problem::no_job)?;
    match payload(view.as_ref(), at, Part::Output)? {
        Some(bytes) => Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response()),
        None if job.finalized_at().is_none() => {
            let detail = format!("the job has no output yet: it is {}", job.state.name());
            Err(Problem::new(StatusCode::NOT_FOUND, "no_output", detail))
        }
        None => {
            let detail = format!("the job has no output: it is {}", job.state.name());
            Err(Problem::new(StatusCode::NOT_FOUND, "no_output", detail))
        }
    }
}

/// `GET /v1/jobs/{id}/wait?timeout=30s`: the job when it has ended, or as it is when the time is over.
pub async fn wait(
    State(app): State<Arc<App>>,
    OfJob(at): OfJob,
    mut params: Params,
) -> Result<Json<JobShown>, Problem> {
    let parse = |text: &str| {
        let wait = Duration::from(parse_duration(text)?);
        if wait > WAIT_MAX { Err(format!("must be at most {}s; ask again", WAIT_MAX.as_secs())) } else { Ok(wait) }
    };
    let timeout = params.take_as("timeout", parse)?.unwrap_or(WAIT_DEFAULT);
    params.finish()?;
    // Of those who vanished while they waited, nothing is left behind.
    app.store.board().forget_gone();
    // Registered first, then looked: an end in between is not missed.
    let told = app.store.board().wait_for(at);
    let now = job(app.store.snapshot()?.as_ref(), at)?.ok_or_else(Problem::no_job)?;
    if now.finalized_at().is_some() {
        return Ok(Json(JobShown::new(&app, &now)));
    }
    // Over, told, or the job is gone: in each case what is there now is the answer.
    _ = tokio::time::timeout(timeout, told).await;
    let now = job(app.store.snapshot()?.as_ref(), at)?.ok_or_else(Problem::no_job)?;
    Ok(Json(JobShown::new(&app, &now)))
}

/// The row of a job.
///
/// # Errors
/// The store could not be read.
pub fn job(view: &dyn Snapshot, at: JobRef) -> Result<Option<Job>, StoreError> {
    match view.read(&Query::Job(at))? {
        Answer::Job(job) => Ok(job),
        _ => unreachable!("a job is answered with a job"),
    }
}

/// The records of a job's runs.
///
/// # Errors
/// The store could not be read.
pub fn runs(view: &dyn Snapshot, at: JobRef) -> Result<Vec<RunRecord>, StoreError> {
    match view.read(&Query::Runs(at))? {
        Answer::Runs(runs) => Ok(runs),
        _ => unreachable!("runs are answered with runs"),
    }
}

pub(super) fn payload(view: &dyn Snapshot, at: JobRef, part: Part) -> Result<Option<Vec<u8>>, StoreError> {
    match view.read(&Query::Payload(at, part))? {
        Answer::Payload(bytes) => Ok(bytes),
        _ => unreachable!("a payload is answered with a payload"),
    }
}

fn parse_limit(text: &str) -> Result<u32, String> {
    let limit = text.parse().ok().filter(|limit| (1..=PAGE_ROWS_MAX).contains(limit));
    limit.ok_or_else(|| format!("must be a whole number from 1 to {PAGE_ROWS_MAX}"))
}

/// What a cursor begins with, so that one that was made up, or is of the other order, is noticed.
fn cursor_head(oldest_first: bool) -> &'static str {
    if oldest_first { "behind:" } else { "before:" }
}

fn parse_cursor(text: &str, oldest_first: bool) -> Result<JobId, String> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let id = text.and_then(|text| text.strip_prefix(cursor_head(oldest_first))?.parse().ok());
    id.map(JobId).ok_or_else(|| "is no cursor of this order; take `next_cursor` of the page before".to_owned())
}

/// Whether the oldest come first.
fn parse_order(word: &str) -> Result<bool, String> {
    match word {
        "newest" => Ok(false),
        "oldest" => Ok(true),
        _ => Err("must be newest (first; if absent) or oldest".to_owned()),
    }
}
