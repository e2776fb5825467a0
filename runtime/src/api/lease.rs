//! `POST /v1/lease`: an external worker takes runs of kinds that no plugin serves, with a token for each by which it speaks
//! for it ([`runs`](super::runs)), and waits for them if there are none yet.

mod untold;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use runner_store::command::{Part, RunRef};
use runner_store::job::{Job, KindId, Millis, TenantId, limits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::body;
use super::enqueue::no_key;
use super::error::Problem;
use super::jobs;
use super::params::Params;
use super::read::{Bad, Object};
use super::tenant::Whose;
use super::time::rfc3339;
use super::types::JobShown;
use crate::scheduler::leases::kind_id;
use crate::scheduler::starter::{AskLease, NotLeased, Starter};

/// Kinds of one call: a worker that does more than so many different things is several.
const KINDS_MAX: usize = 100;
/// Runs of one call.
const RUNS_MAX: u32 = 100;
/// How long a call waits: connections that say nothing for longer are cut on their way.
const WAIT_MAX: Millis = Millis::secs(30);
/// Args of one answer together, but for one run at least: what a body may have.
const ARGS_BYTES_MAX: usize = 8 << 20;

/// Runs that are the worker's now.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Leases")]
pub struct LeasesShown {
    /// First to run first; none: nothing came while the call waited.
    pub runs: Vec<LeaseShown>,
}

/// A run that is the worker's now: its job, and what the worker needs to speak for it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Lease")]
pub struct LeaseShown {
    /// The job, with its args; `run` is the run.
    #[serde(flatten)]
    pub job: JobShown,
    /// A secret: whoever has it speaks for the run.
    pub lease_token: String,
    /// When the lease runs out unless it is renewed: then the run counts as crashed.
    pub lease_until: String,
}

struct Asked {
    kinds: Vec<String>,
    max: u32,
    wait: Millis,
    lasts: Millis,
    worker: String,
}

/// See the module.
pub async fn post(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.finish()?;
    no_key(&headers, "each call takes other runs, and one whose answer was lost ends with its lease")?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let Asked { kinds, max, wait, lasts, worker } = asked(Object::read(&text, body::parse(&text)?)?)?;
    let Some(starter) = &app.starter else { return Err(no_node()) };
    let kinds = ids(&app, tenant, kinds).await?;
    let ask = |answer| AskLease { tenant, kinds, max, wait, lasts, worker, answer };
    let mut ending = app.ending.subscribe();
    let taken = tokio::select! {
        taken = untold::take(&app.store, starter, ask) => Some(taken?),
        // The server stops: whoever waits is let go, and what was taken meanwhile goes back.
        _ = ending.wait_for(|ending| *ending) => None,
    };
    let Some((jobs, mut untold)) = taken else {
        return Ok(Json(LeasesShown { runs: Vec::new() }).into_response());
    };
    // Where this fails, all of them go back.
    let shown = shown(&app, starter, jobs, lasts)?;
    untold.keep(shown.runs.len());
    Ok(Json(shown).into_response().map(|answer| untold.until_told(answer)))
}

fn asked(mut object: Object<'_>) -> Result<Asked, Bad> {
    let start = object.start();
    let (kinds, max, wait) = (object.take("kinds"), object.take("max"), object.take("wait"));
    let (lease, worker) = (object.take("lease"), object.take("worker"));
    object.finish()?;
    let missing = |field: &str, why: &str| Bad { field: field.to_owned(), why: why.to_owned(), at: start };
    let kinds = kinds.ok_or_else(|| missing("kinds", "is missing: the kinds whose jobs the worker does"))?;
    let list = kinds.list()?;
    if !(1..=KINDS_MAX).contains(&list.len()) {
        return Err(kinds.bad(&format!("must have 1 to {KINDS_MAX} kinds")));
    }
    let worker =
        worker.ok_or_else(|| missing("worker", "is missing: what the worker calls itself, for whoever asks"))?;
    let name = worker.str()?;
    if name.is_empty() || name.len() > limits::WORKER_BYTES_MAX || name.chars().any(char::is_control) {
        let why = format!("must be 1 to {} bytes without control characters", limits::WORKER_BYTES_MAX);
        return Err(worker.bad(&why));
    }
    let max = max.map(|value| match value.u32()? {
        max @ 1..=RUNS_MAX => Ok(max),
        _ => Err(value.bad(&format!("must be 1 to {RUNS_MAX}"))),
    });
    let wait = wait.map(|value| match value.duration()? {
        wait if wait <= WAIT_MAX => Ok(wait),
        _ => Err(value.bad("must be at most 30s; ask again")),
    });
    let lasts = lease.map(|value| match value.duration()? {
        lasts if (limits::LEASE_MIN..=limits::LEASE_MAX).contains(&lasts) => Ok(lasts),
        _ => Err(value.bad("must be 1s to 10m; a run that takes longer renews its lease")),
    });
    Ok(Asked {
        kinds: list.iter().map(|kind| kind.str()).collect::<Result<_, _>>()?,
        max: max.transpose()?.unwrap_or(1),
        wait: wait.transpose()?.unwrap_or(Millis(0)),
        lasts: lasts.transpose()?.unwrap_or(limits::LEASE_DEFAULT),
        worker: name,
    })
}

async fn ids(app: &App, tenant: TenantId, kinds: Vec<String>) -> Result<Vec<KindId>, Problem> {
    let mut ids = Vec::with_capacity(kinds.len());
    for (i, kind) in kinds.into_iter().enumerate() {
        if app.plugins.external(&kind).is_none() {
            let why = format!(
                "is `{}`, which is no external kind; say so in the configuration: [kinds.\"KIND\"] external = true",
                kind.escape_debug()
            );
            return Err(Problem::invalid(format!("kinds[{i}]"), why));
        }
        // One that the store has no number for, and refuses one, has no jobs either.
        ids.extend(kind_id(&app.store, tenant, &kind).await?);
    }
    Ok(ids)
}

/// The first of these runs, as many as an answer has room for.
fn shown(app: &Arc<App>, starter: &Starter, jobs: Vec<Arc<Job>>, lasts: Millis) -> Result<LeasesShown, Problem> {
    if jobs.is_empty() {
        return Ok(LeasesShown { runs: Vec::new() });
    }
    let view = app.store.snapshot()?;
    let (mut runs, mut bytes) = (Vec::with_capacity(jobs.len()), 0);
    for job in jobs {
        let run = RunRef { at: job.at(), run: job.run };
        let args = jobs::payload(view.as_ref(), job.at(), Part::Args)?;
        bytes += args.as_ref().map_or(0, Vec::len);
        if bytes > ARGS_BYTES_MAX && !runs.is_empty() {
            break;
        }
        let until = job.lease().and_then(|lease| lease.expires_at).unwrap_or_else(|| job.run_at.after(lasts));
        runs.push(LeaseShown {
            job: JobShown::new(app, &job).with_payloads(args.as_deref(), None),
            lease_token: starter.lease_tokens().token(run),
            lease_until: rfc3339(until),
        });
    }
    Ok(LeasesShown { runs })
}

pub(super) fn no_node() -> Problem {
    let detail = "no node gives out runs of this store; start one with `runner serve`";
    Problem::new(StatusCode::CONFLICT, "no_node", detail)
}

impl From<NotLeased> for Problem {
    fn from(why: NotLeased) -> Self {
        match why {
            NotLeased::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", why.to_string()),
            NotLeased::Draining => Self::new(StatusCode::CONFLICT, "draining", why.to_string()),
        }
    }
}
