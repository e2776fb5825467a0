//! `POST /v1/jobs`: one job, or a list that is accepted whole or not at all; or a stream of them ([`stream`]).

pub mod stream;

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use runner_store::command::limits::{KEY_BYTES_MAX, LIST_JOBS_MAX};
use runner_store::command::{Enqueue, Enqueued, IdempotencyKey, Reply};
use runner_store::disk::Room;
use runner_store::job::{Invalid, JobSpec, Rejection, TenantId};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::App;
use super::access::door::Ends;
use super::body;
use super::error::Problem;
use super::new_job::NewJob;
use super::params::Params;
use super::read::{Bad, Object, Value};
use super::tenant::Whose;
use super::types::{BufferedShown, EnqueuedList, EnqueuedShown, FlushedShown};

/// The header that makes a call safe to repeat.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// A larger body is parsed on a thread of its own, so that it delays nobody: this much takes about a millisecond.
const PARSED_HERE_BYTES_MAX: usize = 64 * 1024;

/// One or many, as it was asked and as it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    One,
    List,
}

/// See the module.
pub async fn post(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    mut params: Params,
    ends: Option<Extension<Ends>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let on_error = params.take_as("on_error", stream::parse_on_error)?;
    params.finish()?;
    let key = key(&headers)?;
    if stream::is_stream(&headers) {
        body::check_encoding(&headers)?;
        let ends = ends.map(|Extension(ends)| ends);
        return stream::answer(&app, tenant, (key, on_error.unwrap_or_default(), ends), body);
    }
    if on_error.is_some() {
        let why = format!(
            "is for a stream, `Content-Type: {}`: one job or a list is accepted whole or not at all",
            stream::NDJSON
        );
        return Err(Problem::invalid("on_error", why));
    }
    let text = body::json(&app.bodies, &headers, body).await?;
    let (name, keyed) = (app.store.tenant_name(tenant), key.is_some());
    let Parsed { shape, jobs, request, buffered } = if text.len() > PARSED_HERE_BYTES_MAX {
        let (app, name) = (Arc::clone(&app), Arc::clone(&name));
        let parsed = tokio::task::spawn_blocking(move || parse(&app, &name, &text, keyed)).await;
        parsed.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", "parsing the body panicked"))??
    } else {
        parse(&app, &name, &text, keyed)?
    };
    if buffered {
        return buffer(&app, tenant, key.as_deref(), jobs).await;
    }
    let key = key.map(|key| IdempotencyKey { key, request });
    let jobs = accept(&app, tenant, key, jobs).await?;
    let status = if jobs.iter().all(|job| job.duplicate) { StatusCode::OK } else { StatusCode::CREATED };
    let mut shown = jobs.into_iter().map(EnqueuedShown::from);
    Ok(match (shape, shown.next()) {
        (Shape::One, Some(job)) => (status, Json(job)).into_response(),
        (_, first) => (status, Json(EnqueuedList { jobs: first.into_iter().chain(shown).collect() })).into_response(),
    })
}

/// 202: received, not yet accepted.
async fn buffer(app: &App, tenant: TenantId, key: Option<&str>, jobs: Vec<JobSpec>) -> Result<Response, Problem> {
    if key.is_some() {
        let why =
            "says nothing for buffered jobs: nobody remembers them before they are accepted; leave one of both out";
        return Err(Problem::invalid(IDEMPOTENCY_KEY, why));
    }
    // What is known to be refused in a moment is refused now.
    if app.store.room() != Room::Plenty {
        return Err(Rejection::DiskReserve.into());
    }
    let received = BufferedShown { buffered: jobs.len() as u64 };
    app.buffered.receive(&app.store, tenant, jobs).await.map_err(|_| Problem::overloaded())?;
    Ok((StatusCode::ACCEPTED, Json(received)).into_response())
}

async fn accept(
    app: &App,
    tenant: TenantId,
    key: Option<IdempotencyKey>,
    jobs: Vec<JobSpec>,
) -> Result<Vec<Enqueued>, Problem> {
    match app.enqueue(Enqueue { key, ..Enqueue::new(tenant, jobs) }).await? {
        Reply::Enqueued(jobs) => Ok(jobs),
        Reply::Rejected(rejection @ Rejection::KeyReused) => Err(Problem::from(rejection).at(IDEMPOTENCY_KEY)),
        Reply::Rejected(rejection) => Err(rejection.into()),
        other => unreachable!("the answer to an enqueue is not {other:?}"),
    }
}

/// The key of a call, if it has one.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid(IDEMPOTENCY_KEY, "is given twice; keep one"));
    }
    let key = value.to_str().map_err(|_| Problem::invalid(IDEMPOTENCY_KEY, "must be visible ASCII characters"))?;
    if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
        let why = format!("must be 1 to {KEY_BYTES_MAX} bytes long");
        return Err(Problem::invalid(IDEMPOTENCY_KEY, why));
    }
    Ok(Some(key.to_owned()))
}

/// Where a key would say nothing it is refused, as whoever sends one relies on it.
pub(super) fn no_key(headers: &HeaderMap, instead: &str) -> Result<(), Problem> {
    match key(headers)? {
        Some(_) => Err(Problem::invalid(IDEMPOTENCY_KEY, format!("is not taken here: {instead}; leave it out"))),
        None => Ok(()),
    }
}

/// What a body says: one job or many, and, of a call with a key, a digest of it.
struct Parsed {
    shape: Shape,
    jobs: Vec<JobSpec>,
    request: [u8; 32],
    buffered: bool,
}

fn parse(app: &App, tenant: &str, text: &str, keyed: bool) -> Result<Parsed, Problem> {
    let raw = body::parse(text)?;
    let (shape, raws) = match serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
        Ok(raws) => (Shape::List, raws),
        Err(_) => (Shape::One, vec![raw]),
    };
    if shape == Shape::List && !(1..=LIST_JOBS_MAX).contains(&raws.len()) {
        let why = format!("a list must have 1 to {LIST_JOBS_MAX} jobs, this one has {}", raws.len());
        return Err(Problem::invalid("jobs", why));
    }
    let mut digest = keyed.then(Sha256::new);
    let mut jobs = Vec::with_capacity(raws.len());
    let mut buffered = false;
    for (i, raw) in raws.into_iter().enumerate() {
        let in_list = |bad: Bad| match (shape, bad.field.as_str()) {
            (Shape::One, _) => bad,
            (Shape::List, "") => Bad { field: format!("jobs[{i}]"), ..bad },
            (Shape::List, field) => Bad { field: format!("jobs[{i}].{field}"), ..bad },
        };
        let (spec, ack) = parse_one(app, (tenant, text), raw, digest.as_mut()).map_err(in_list)?;
        if i > 0 && buffered != (ack == Ack::Buffered) {
            let why = "differs from that of the jobs before: a list is received as one".to_owned();
            return Err(in_list(Bad { field: "ack".to_owned(), why, at: 0 }).into());
        }
        buffered = ack == Ack::Buffered;
        jobs.push(spec);
    }
    Ok(Parsed { shape, jobs, request: digest.map(|digest| digest.finalize().into()).unwrap_or_default(), buffered })
}

/// When a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ack {
    /// When its jobs are durable.
    Durable,
    /// When they are received.
    Buffered,
}

fn parse_one(
    app: &App,
    (tenant, text): (&str, &str),
    raw: &RawValue,
    digest: Option<&mut Sha256>,
) -> Result<(JobSpec, Ack), Bad> {
    let mut object = Object::read(text, raw)?;
    if let Some(digest) = digest {
        let canonical = object.canonical("args");
        digest.update((canonical.len() as u64).to_le_bytes());
        digest.update(&canonical);
    }
    let ack = object.take("ack").map(|value| ack(&value)).transpose()?.unwrap_or(Ack::Durable);
    for name in ["unique", "depends_on"] {
        if let (Ack::Buffered, Some(value)) = (ack, object.peek(name)) {
            return Err(value.bad("is not possible with `ack` buffered: such a job is accepted later, and gets no id"));
        }
    }
    let job = NewJob::read(object)?;
    let defaults = app.plugins.defaults(tenant, &job.kind);
    let bad = |invalid: Invalid| Bad { field: invalid.field, why: invalid.why, at: 0 };
    let spec = job.into_spec(&defaults).map_err(bad)?;
    // The store checks as well; here the place in a list of one is still known.
    spec.check().map_err(bad)?;
    Ok((spec, ack))
}

fn ack(value: &Value<'_>) -> Result<Ack, Bad> {
    match value.str()?.as_str() {
        "durable" => Ok(Ack::Durable),
        "buffered" => Ok(Ack::Buffered),
        _ => Err(value.bad("must be durable or buffered")),
    }
}

/// `POST /v1/flush`: accepts now what is buffered.
pub async fn flush(State(app): State<Arc<App>>, params: Params) -> Result<Json<FlushedShown>, Problem> {
    params.finish()?;
    app.buffered.flush().await;
    Ok(Json(FlushedShown::from(app.buffered.counts())))
}
