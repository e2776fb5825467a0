//! `POST /v1/runs/{id}/{run}/finish`: how an external worker's run ended, and what it enqueues with that. The same finish again
//! is answered the same, for a day; any other comes too late.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runner_store::command::{Command, Enqueued, Finish, Measured, Reply, RunRef, StagedJob};
use runner_store::job::{Invalid, JobId, JobSpec, On, OnConflict, Outcome, Rejection, RunSettings, StateName, limits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{OfRun, Token, held, stale};
use crate::api::App;
use crate::api::body;
use crate::api::enqueue::no_key;
use crate::api::error::Problem;
use crate::api::new_job::NewJob;
use crate::api::openapi::words::StateWord;
use crate::api::params::Params;
use crate::api::read::{Bad, Object, Value};
use crate::api::types::EnqueuedShown;
use crate::run_logs;
use crate::scheduler;
use crate::wasm::{Limits, Manifest};

/// How a run was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Finished")]
pub struct FinishedShown {
    /// The job.
    pub id: String,
    /// The state in which that left it.
    #[schemars(with = "StateWord")]
    pub state: StateName,
    /// What it enqueued and is there, in the order asked for; why others are not is in the run's record.
    pub enqueued: Vec<EnqueuedShown>,
}

/// See the module.
pub async fn finish(
    State(app): State<Arc<App>>,
    OfRun(run): OfRun,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<FinishedShown>, Problem> {
    params.finish()?;
    no_key(&headers, "the same finish of a run is answered as it was the first time")?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let Said { request, outcome, jobs, jobs_bytes, token } = said(&app, run, &text)?;
    let starter = token.open(&app, run)?;
    let job = held(&app, run)?;
    let kind = job.as_ref().map(|job| app.store.kind_name(job.kind));
    let external = kind.as_ref().and_then(|kind| Some((kind, app.plugins.external(kind)?)));
    // Of a run that is over, nothing is enqueued: it is the same finish again, or comes too late.
    if job.is_some() {
        let manifest = external.as_ref().map(|(kind, manifest)| (&***kind, &**manifest));
        check_staged(manifest, &outcome, (jobs.len(), jobs_bytes))?;
    }
    let settings =
        external.map_or_else(RunSettings::default, |(kind, manifest)| scheduler::settings(&manifest.retry(kind)));
    let live = starter.live().run(run.at).filter(|(number, _)| *number == run.run);
    let (log, progress) = live.map(|(_, streams)| streams.so_far()).unwrap_or_default();
    let started_at = job.as_ref().and_then(|job| job.lease()).map(|lease| lease.claimed_at);
    let measured = Measured { started_at, progress, ..Measured::default() };
    let staged = staged(&app, jobs).await?;
    let (request, log) = (Some(request), run_logs::encode(&log));
    let call = Finish { measured, staged, log, request, ..Finish::new(run, outcome, settings) };
    match app.call(Command::Finish(Box::new(call))).await? {
        Reply::Finished(answer) => answered(run, answer).map(Json),
        // Whose job is gone is as late as whose run is over.
        Reply::Rejected(Rejection::Unknown) => Err(stale(run)),
        Reply::Rejected(rejection) => Err(rejection.into()),
        other => unreachable!("the answer to a worker's finish is not {other:?}"),
    }
}

/// What a worker says.
struct Said<'a> {
    /// A digest of all of it.
    request: [u8; 32],
    outcome: Outcome,
    jobs: Vec<JobSpec>,
    /// What the jobs take: their args, and the rest of each as it was sent.
    jobs_bytes: usize,
    token: Token<'a>,
}

fn said<'a>(app: &App, run: RunRef, text: &'a str) -> Result<Said<'a>, Problem> {
    let mut object = Object::read(text, body::parse(text)?)?;
    let request = Sha256::digest(object.canonical("output")).into();
    let (start, token) = (object.start(), Token::take(&mut object));
    let word = object.take("outcome");
    let fields = Fields {
        output: object.take_any("output"),
        output_base64: object.take("output_base64"),
        error: object.take("error"),
        retry_after: object.take("retry_after"),
        reason: object.take("reason"),
        delay: object.take("delay"),
    };
    let enqueue = object.take("enqueue");
    object.finish()?;
    let why = "is missing: completed, failed, discarded or snoozed".to_owned();
    let word = word.ok_or(Bad { field: "outcome".to_owned(), why, at: start })?;
    let outcome = fields.outcome(&word)?;
    let (jobs, jobs_bytes) = match enqueue {
        Some(value) if !outcome.has_effects() => {
            return Err(value.bad("is only recorded with completed, discarded and snoozed; leave it out").into());
        }
        Some(value) => jobs(app, run, &value)?,
        None => (Vec::new(), 0),
    };
    Ok(Said { request, outcome, jobs, jobs_bytes, token })
}

/// Refuses more than a run of this kind may stage: what a handler is refused at the call, so that no outcome stalls the store.
fn check_staged(
    external: Option<(&str, &Manifest)>,
    outcome: &Outcome,
    (jobs, jobs_bytes): (usize, usize),
) -> Result<(), Problem> {
    let usual = Limits::default();
    let jobs_max = external.and_then(|(kind, manifest)| manifest.setting(kind, |settings| settings.enqueues));
    let jobs_max = jobs_max.unwrap_or(usual.enqueues);
    if jobs > jobs_max as usize {
        return Err(Problem::invalid("enqueue", format!("must have at most {jobs_max} jobs")));
    }
    let bytes_max = external.and_then(|(kind, manifest)| manifest.setting(kind, |settings| settings.staged_bytes));
    let bytes_max = bytes_max.unwrap_or(usual.staged_bytes);
    let output_bytes = match outcome {
        Outcome::Completed { output } => output.len(),
        _ => 0,
    };
    let bytes = jobs_bytes + output_bytes;
    if bytes as u64 > bytes_max {
        let field = if jobs == 0 { "output" } else { "enqueue" };
        let why = format!(
            "makes {bytes} bytes of args and output, and one finish may have {bytes_max} (`staged`): enqueue less with it, keep \
             what is large elsewhere, or raise `staged` of the kind in the configuration"
        );
        return Err(Problem::invalid(field, why));
    }
    Ok(())
}

/// What there is to say of outcomes.
struct Fields<'a> {
    output: Option<Value<'a>>,
    output_base64: Option<Value<'a>>,
    error: Option<Value<'a>>,
    retry_after: Option<Value<'a>>,
    reason: Option<Value<'a>>,
    delay: Option<Value<'a>>,
}

impl Fields<'_> {
    fn outcome(mut self, word: &Value<'_>) -> Result<Outcome, Bad> {
        let text = |value: Option<Value<'_>>| value.map(|value| value.str()).transpose();
        let outcome = match word.str()?.as_str() {
            "completed" => Outcome::Completed { output: output(self.output.take(), self.output_base64.take())? },
            "failed" => Outcome::Failed {
                message: text(self.error.take())?.unwrap_or_else(|| "the worker said that it failed".to_owned()),
                retry_after: self.retry_after.take().map(|value| value.duration()).transpose()?,
            },
            "discarded" => Outcome::Discarded {
                reason: text(self.reason.take())?.unwrap_or_else(|| "the worker gave it up".to_owned()),
            },
            "snoozed" => {
                let delay =
                    self.delay.take().ok_or_else(|| word.bad("needs a `delay`: how long from now it is to wait"))?;
                Outcome::Snoozed { delay: delay.duration()?, reason: text(self.reason.take())? }
            }
            _ => return Err(word.bad("must be completed, failed, discarded or snoozed")),
        };
        let rest = [self.output, self.output_base64, self.error, self.retry_after, self.reason, self.delay];
        match rest.into_iter().flatten().next() {
            Some(value) => Err(value.bad(&format!("says nothing beside the outcome {}", outcome.name().as_str()))),
            None => Ok(outcome),
        }
    }
}

fn output(json: Option<Value<'_>>, bytes: Option<Value<'_>>) -> Result<Vec<u8>, Bad> {
    let (value, output) = match (json, bytes) {
        (Some(_), Some(bytes)) => return Err(bytes.bad("and `output` exclude each other: keep one")),
        (Some(json), None) => {
            let output = json.raw().as_bytes().to_vec();
            (json, output)
        }
        (None, Some(bytes)) => {
            let output = STANDARD.decode(bytes.str()?);
            let output = output.map_err(|error| bytes.bad(&format!("is not base64: {error}")))?;
            (bytes, output)
        }
        (None, None) => return Ok(Vec::new()),
    };
    if output.len() > limits::PAYLOAD_BYTES_MAX {
        return Err(value.bad(&format!("has {} bytes; the limit is {}", output.len(), limits::PAYLOAD_BYTES_MAX)));
    }
    Ok(output)
}

/// The jobs that are enqueued with it, and what they take; they may depend on each other by their places.
fn jobs(app: &App, run: RunRef, value: &Value<'_>) -> Result<(Vec<JobSpec>, usize), Bad> {
    let tenant = app.store.tenant_name(run.at.tenant);
    let mut bytes = 0;
    let one = |(i, value): (usize, &Value<'_>)| {
        let within = |bad: Bad| match bad.field.is_empty() || bad.field.starts_with("enqueue[") {
            true => Bad { field: if bad.field.is_empty() { format!("enqueue[{i}]") } else { bad.field }, ..bad },
            false => Bad { field: format!("enqueue[{i}].{}", bad.field), ..bad },
        };
        let invalid = |invalid: Invalid| within(Bad { field: invalid.field, why: invalid.why, at: value.at() });
        let object = value.object().map_err(within)?;
        let encoded_bytes = object.peek("args_base64").map(|args| args.raw().len());
        let job = NewJob::read(object).map_err(within)?;
        // As they are stored, and not as they had to be written.
        let args_bytes = encoded_bytes.map_or(0, |_| job.args.len());
        bytes += value.raw().len() - encoded_bytes.unwrap_or(0) + args_bytes;
        let defaults = app.plugins.defaults(&tenant, &job.kind);
        let spec = job.into_spec(&defaults).map_err(invalid)?;
        spec.check().map_err(invalid)?;
        let early = |on: On| match on {
            On::Position(place) => (place as usize) < i,
            On::Job(_) => true,
        };
        if spec.depends_on.iter().any(|edge| !early(edge.on)) {
            let why = "must name a job that comes before it in the list".to_owned();
            return Err(within(Bad { field: "depends_on".to_owned(), why, at: value.at() }));
        }
        if spec.unique.as_ref().is_some_and(|unique| unique.on_conflict == OnConflict::Merge) {
            let why = "cannot be merge for what a worker enqueues: enqueue it by itself".to_owned();
            return Err(within(Bad { field: "unique.on_conflict".to_owned(), why, at: value.at() }));
        }
        Ok(spec)
    };
    let jobs = value.list()?.iter().enumerate().map(one).collect::<Result<_, _>>()?;
    Ok((jobs, bytes))
}

/// Gives the jobs ids of their own.
async fn staged(app: &App, jobs: Vec<JobSpec>) -> Result<Vec<StagedJob>, Problem> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let n = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
    match app.call(Command::ReserveIds { n }).await? {
        Reply::Reserved { first } => {
            let staged = |(id, spec)| StagedJob { id: JobId(id), spec };
            Ok((first.0..).zip(jobs).map(staged).collect())
        }
        Reply::Rejected(rejection) => Err(rejection.into()),
        other => unreachable!("ids are answered with ids, not {other:?}"),
    }
}

fn answered(run: RunRef, answer: Vec<Enqueued>) -> Result<FinishedShown, Problem> {
    let mut answer = answer.into_iter();
    let Some(job) = answer.next() else { return Err(stale(run)) };
    let enqueued = answer.map(EnqueuedShown::from).collect();
    Ok(FinishedShown { id: job.id.to_string(), state: job.state, enqueued })
}
