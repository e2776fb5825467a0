//! What an external worker says of a run that it was given: `POST /v1/runs/{id}/{run}/renew | finish | log | progress`.
//!
//! Each call has the run's `lease_token`. A wrong one, one of another run, or one of before a restore answers as the right
//! one of a run that is over: 409 `stale_run`.

mod finish;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use runner_store::command::RunRef;
use runner_store::job::{Job, JobId, JobRef, Rejection, RunNumber};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::finish::{FinishedShown, finish};
use super::App;
use super::body;
use super::enqueue::no_key;
use super::error::Problem;
use super::jobs;
use super::lease::no_node;
use super::params::Params;
use super::read::{Bad, Object, Value};
use super::tenant::Whose;
use super::time::rfc3339;
use crate::scheduler::starter::Starter;
use crate::wasm::Streams;
use crate::wasm::log::LogSource;

/// Lines of one call: a run keeps less than this.
const LINES_MAX: usize = 1_000;

/// A lease that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Renewed")]
pub struct RenewedShown {
    /// When it runs out unless it is renewed again.
    pub lease_until: String,
    /// Whether someone wants the job cancelled: the worker is to end the run, and say how.
    pub cancel_requested: bool,
}

/// The run that a path names. What is no number is no run.
pub struct OfRun(RunRef);

impl FromRequestParts<Arc<App>> for OfRun {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<App>) -> Result<Self, Problem> {
        let Whose(tenant) = Whose::from_request_parts(parts, state).await?;
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((id, run)) = path.map_err(|_| Problem::no_job())?;
        // A leading + or 0 would be a second name for the same.
        let job = id.parse().ok().filter(|n: &u64| n.to_string() == id).ok_or_else(Problem::no_job)?;
        let number = run.parse().ok().filter(|n: &u32| n.to_string() == run).ok_or_else(Problem::no_job)?;
        Ok(Self(RunRef { at: JobRef { tenant, job: JobId(job) }, run: RunNumber(number) }))
    }
}

/// `POST /v1/runs/{id}/{run}/renew {lease_token}`.
pub async fn renew(
    State(app): State<Arc<App>>,
    OfRun(run): OfRun,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RenewedShown>, Problem> {
    params.finish()?;
    no_key(&headers, "a renewal that is repeated renews again")?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let mut object = Object::read(&text, body::parse(&text)?)?;
    let token = Token::take(&mut object);
    object.finish()?;
    let starter = token.open(&app, run)?;
    let job = held(&app, run)?.ok_or_else(|| stale(run))?;
    let lasts = starter.renew(run).await?.ok_or_else(|| stale(run))?;
    Ok(Json(RenewedShown {
        lease_until: rfc3339(app.clock.now().after(lasts)),
        cancel_requested: job.lease().is_some_and(|lease| lease.cancel.is_some()),
    }))
}

/// `POST /v1/runs/{id}/{run}/log {lease_token, lines: ["…", {"level": "warn", "text": "…"}]}`: kept with the run's end, and told
/// to whoever follows it.
pub async fn log(
    State(app): State<Arc<App>>,
    OfRun(run): OfRun,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    params.finish()?;
    no_key(&headers, "a line that is sent twice stands there twice")?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let mut object = Object::read(&text, body::parse(&text)?)?;
    let (token, lines) = (Token::take(&mut object), object.take("lines"));
    let start = object.start();
    object.finish()?;
    let missing = || Bad { field: "lines".to_owned(), why: "is missing: what is to be logged".to_owned(), at: start };
    let value = lines.ok_or_else(missing)?;
    let lines = value.list()?;
    if lines.len() > LINES_MAX {
        return Err(value.bad(&format!("must have at most {LINES_MAX} lines")).into());
    }
    let lines = lines.iter().map(line).collect::<Result<Vec<_>, Bad>>()?;
    let streams = streams(token.open(&app, run)?, run)?;
    lines.iter().for_each(|(source, text)| streams.line(*source, text));
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/runs/{id}/{run}/progress {lease_token, percent, message}`.
pub async fn progress(
    State(app): State<Arc<App>>,
    OfRun(run): OfRun,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    params.finish()?;
    no_key(&headers, "what is said last counts")?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let mut object = Object::read(&text, body::parse(&text)?)?;
    let (token, percent, message) = (Token::take(&mut object), object.take("percent"), object.take("message"));
    let start = object.start();
    object.finish()?;
    let why = "is missing: how far the run is, 0 to 100".to_owned();
    let value = percent.ok_or(Bad { field: "percent".to_owned(), why, at: start })?;
    let percent = match u8::try_from(value.u32()?) {
        Ok(percent @ 0..=100) => percent,
        _ => return Err(value.bad("must be 0 to 100").into()),
    };
    let message = message.map(|value| value.str()).transpose()?.unwrap_or_default();
    streams(token.open(&app, run)?, run)?.progress(percent, message);
    Ok(StatusCode::NO_CONTENT)
}

/// A line, with its level if it says one.
fn line(value: &Value<'_>) -> Result<(LogSource, String), Bad> {
    if !value.is_object() {
        return Ok((LogSource::Info, value.str()?));
    }
    let mut object = value.object()?;
    let (level, text) = (object.take("level"), object.take("text"));
    object.finish()?;
    let text = text.ok_or_else(|| value.bad("needs a `text`"))?.str()?;
    let Some(level) = level else { return Ok((LogSource::Info, text)) };
    let source = match level.str()?.as_str() {
        "trace" => LogSource::Trace,
        "debug" => LogSource::Debug,
        "info" => LogSource::Info,
        "warn" => LogSource::Warn,
        "error" => LogSource::Error,
        _ => return Err(level.bad("must be trace, debug, info, warn or error")),
    };
    Ok((source, text))
}

/// What stands in the field of the token, whatever it is.
struct Token<'a> {
    value: Option<Value<'a>>,
    start: usize,
}

impl<'a> Token<'a> {
    fn take(object: &mut Object<'a>) -> Self {
        Self { value: object.take("lease_token"), start: object.start() }
    }

    /// The node that gave out the run, if this is the run's token. The token is in no complaint.
    fn open(self, app: &App, run: RunRef) -> Result<&Starter, Problem> {
        let why = "is missing: the token that came with the run".to_owned();
        let value = self.value.ok_or(Bad { field: "lease_token".to_owned(), why, at: self.start })?;
        let text = serde_json::from_str::<String>(value.raw());
        let text =
            text.map_err(|_| Problem::invalid("lease_token", "must be a text: the token that came with the run"))?;
        let starter = app.starter.as_ref().ok_or_else(no_node)?;
        if starter.lease_tokens().is_of(run, &text) { Ok(starter) } else { Err(stale(run)) }
    }
}

/// The job, while this run of it goes on.
fn held(app: &App, run: RunRef) -> Result<Option<Job>, Problem> {
    let job = jobs::job(app.store.snapshot()?.as_ref(), run.at)?;
    Ok(job.filter(|job| job.is_held_by(run.run)))
}

/// What the run has said, to which more is to be added.
fn streams(starter: &Starter, run: RunRef) -> Result<Streams, Problem> {
    let found = starter.live().run(run.at).filter(|(number, _)| *number == run.run);
    found.map(|(_, streams)| streams).ok_or_else(|| stale(run))
}

fn stale(run: RunRef) -> Problem {
    Rejection::Stale { said: run.run }.into()
}
