//! Why a job does not run, runs, or has ended, as far as the store and the node know: `GET /v1/jobs/{id}/why`; and what
//! it waits for and what waits for it, and so on: `GET /v1/jobs/{id}/graph`.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use runner_store::command::{Answer, Query};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::job::{EdgePolicy, Job, JobId, JobRef, StateName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::error::Problem;
use super::jobs;
use super::openapi::words::StateWord;
use super::params::{OfJob, Params};
use super::time::rfc3339;
use super::types::reason;
use crate::scheduler::starter::Reason;

/// Jobs of one graph.
const NODES_MAX: usize = 200;

/// The answer to why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    /// Which job.
    pub id: String,
    /// Its state.
    #[schemars(with = "StateWord")]
    pub state: StateName,
    /// Every reason, the most telling first.
    pub why: Vec<Because>,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Because {
    /// Stable; for programs.
    pub code: String,
    /// One sentence, and how to change it; for people.
    pub detail: String,
    /// The job that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// When this passes by itself, where that is known: it starts then, if nothing else holds it up and a slot is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes_at: Option<String>,
}

/// The answer to a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Graph {
    /// The job that was asked for, those that it waits for, and those that wait for it, nearest first.
    pub jobs: Vec<GraphJob>,
    /// Whether there are more than are shown.
    pub more: bool,
}

/// One job of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "as `JobShown` has them")]
pub struct GraphJob {
    pub id: String,
    pub kind: String,
    /// None: it is gone.
    #[schemars(with = "Option<StateWord>")]
    pub state: Option<StateName>,
    pub depends_on: Vec<GraphEdge>,
}

/// One edge of a graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GraphEdge {
    /// The job waited for.
    pub job: String,
    /// What follows if it does not end well: `cancel` or `run`.
    pub on_failure: String,
    /// How it ended, once the edge is settled.
    pub settled: Option<String>,
}

/// See the module.
pub async fn why(State(app): State<Arc<App>>, OfJob(at): OfJob, params: Params) -> Result<Json<Why>, Problem> {
    params.finish()?;
    // Asked before the row is read, so that a view is not held while the scheduler answers.
    let scheduler = match &app.starter {
        Some(starter) => starter.why(at).await,
        None => Vec::new(),
    };
    let view = app.store.snapshot()?;
    let job = jobs::job(view.as_ref(), at)?.ok_or_else(Problem::no_job)?;
    let why = reasons(&app, view.as_ref(), &job, scheduler)?;
    Ok(Json(Why { id: job.id.to_string(), state: job.state.name(), why }))
}

/// See the module.
pub async fn graph(State(app): State<Arc<App>>, OfJob(at): OfJob, params: Params) -> Result<Json<Graph>, Problem> {
    params.finish()?;
    let view = app.store.snapshot()?;
    jobs::job(view.as_ref(), at)?.ok_or_else(Problem::no_job)?;
    let (mut next, mut seen, mut shown) = (VecDeque::from([at]), HashSet::from([at]), Vec::new());
    while let Some(at) = next.pop_front() {
        if shown.len() == NODES_MAX {
            return Ok(Json(Graph { jobs: shown, more: true }));
        }
        let job = jobs::job(view.as_ref(), at)?;
        let on = job.iter().flat_map(|job| &job.dependencies).map(|edge| edge.job);
        for job in on.chain(dependents(view.as_ref(), at)?) {
            let other = JobRef { job, ..at };
            if seen.insert(other) {
                next.push_back(other);
            }
        }
        shown.push(graph_job(&app, at, job.as_ref()));
    }
    Ok(Json(Graph { jobs: shown, more: false }))
}

/// Those that wait for a job or name it, and have not ended, or were cancelled because of it.
fn dependents(view: &dyn Snapshot, at: JobRef) -> Result<Vec<JobId>, StoreError> {
    match view.read(&Query::Dependents(at, NODES_MAX as u32 + 1))? {
        Answer::Dependents(ids) => Ok(ids),
        _ => unreachable!("dependents are answered with dependents"),
    }
}

fn graph_job(app: &App, at: JobRef, job: Option<&Job>) -> GraphJob {
    let edge = |edge: &runner_store::job::Dependency| GraphEdge {
        job: edge.job.to_string(),
        on_failure: match edge.on_failure {
            EdgePolicy::Cancel => "cancel".to_owned(),
            EdgePolicy::Run => "run".to_owned(),
        },
        settled: edge.settled.map(|verdict| verdict.as_str().to_owned()),
    };
    GraphJob {
        id: at.job.to_string(),
        kind: job.map(|job| app.store.kind_name(job.kind).to_string()).unwrap_or_default(),
        state: job.map(|job| job.state.name()),
        depends_on: job.map(|job| job.dependencies.iter().map(edge).collect()).unwrap_or_default(),
    }
}

fn reasons(app: &App, view: &dyn Snapshot, job: &Job, scheduler: Vec<Reason>) -> Result<Vec<Because>, StoreError> {
    let because = |code: &str, detail: String| Because { code: code.to_owned(), detail, job: None, passes_at: None };
    let mut why = Vec::new();
    match job.state.name() {
        StateName::Held => {
            why.push(because("held", "on hold; `release` ends that".to_owned()));
            why.extend(waits(view, job)?);
        }
        StateName::Blocked => why.extend(waits(view, job)?),
        StateName::Scheduled => {
            let snoozed = reason(job).map(|reason| format!(" ({reason})")).unwrap_or_default();
            let detail = format!("scheduled for {}{snoozed}; `start` runs it now", rfc3339(job.run_at));
            why.push(Because { passes_at: Some(rfc3339(job.run_at)), ..because("scheduled", detail) });
        }
        StateName::Retryable => {
            let error = job.last.as_ref().and_then(|last| last.error.as_deref());
            let error = error.map(|error| format!(" with: {error}")).unwrap_or_default();
            let detail = format!(
                "attempt {} failed{error}; it is tried again at {}; `start` runs it now",
                job.attempts,
                rfc3339(job.run_at)
            );
            why.push(Because { passes_at: Some(rfc3339(job.run_at)), ..because("retryable", detail) });
        }
        StateName::Available => why.extend(available(app, job, scheduler)),
        StateName::Running => {
            let since = job.lease().map(|lease| rfc3339(lease.claimed_at)).unwrap_or_default();
            let worker = job.lease().and_then(|lease| lease.worker.as_ref());
            let at = worker.map(|name| format!(", at the external worker {}", name.escape_debug())).unwrap_or_default();
            why.push(because("running", format!("run {} has it since {since}{at}", job.run)));
            if job.lease().is_some_and(|lease| lease.cancel.is_some()) {
                why.push(because("cancel_requested", "it is being cancelled".to_owned()));
            }
        }
        state => {
            let ended = job.finalized_at().map(rfc3339).unwrap_or_default();
            let because_of = reason(job).map(|reason| format!(": {reason}")).unwrap_or_default();
            why.push(because("ended", format!("{state} at {ended}{because_of}")));
        }
    }
    if job.run_at <= app.clock.now() && matches!(job.state.name(), StateName::Scheduled | StateName::Retryable) {
        // It is due, and would be available if the node looked after what is due.
        node(app).into_iter().for_each(|node| why.insert(0, node));
    }
    let waits = matches!(job.state.name(), StateName::Available | StateName::Scheduled | StateName::Retryable);
    if waits && matches!(view.read(&Query::Stored)?, Answer::Stored(stored) if stored.paused) {
        let detail = "nothing runs since the store was restored; `runner queue resume --all` ends that".to_owned();
        why.insert(0, because("paused", detail));
    }
    Ok(why)
}

/// What keeps the node from running anything.
fn node(app: &App) -> Option<Because> {
    let because = |code: &str, detail: String| Because { code: code.to_owned(), detail, job: None, passes_at: None };
    if app.starter.is_none() {
        return Some(because("no_node", "no node runs jobs on this store; start one with `runner serve`".to_owned()));
    }
    Some(match (app.ready)()? {
        "draining" => {
            let detail = "the node drains and starts nothing; `runner node resume` ends that, unless it stops";
            because("node_draining", detail.to_owned())
        }
        word => because("not_ready", format!("the node does not take work: it is {word}")),
    })
}

fn available(app: &App, job: &Job, scheduler: Vec<Reason>) -> Vec<Because> {
    let because = |code: &str, detail: String| Because { code: code.to_owned(), detail, job: None, passes_at: None };
    let kind = app.store.kind_name(job.kind);
    let mut why: Vec<Because> = node(app).into_iter().collect();
    if let Some(unserved) = app.plugins.unserved(&app.store.tenant_name(job.tenant), &kind) {
        why.push(because(unserved.code(), unserved.detail()));
    }
    if job.is_suspect() && app.plugins.external(&kind).is_some() {
        let detail = format!("its worker was gone under it {} times; such jobs are given out alone", job.crashes);
        why.push(because("suspect", detail));
    } else if job.is_suspect() {
        let detail = format!("the process died under it {} times; such jobs start one at a time", job.crashes);
        why.push(because("suspect", detail));
    }
    why.extend(scheduler.into_iter().map(|Reason { code, detail, passes_at }| Because {
        passes_at: passes_at.map(rfc3339),
        ..because(code, detail)
    }));
    if why.is_empty() {
        why.push(because("next", "it may run: it waits for its turn and a free slot".to_owned()));
    }
    why
}

/// A reason for each job that it waits for.
fn waits(view: &dyn Snapshot, job: &Job) -> Result<Vec<Because>, StoreError> {
    let mut why = Vec::new();
    for edge in job.dependencies.iter().filter(|edge| edge.settled.is_none()) {
        let on = jobs::job(view, JobRef { tenant: job.tenant, job: edge.job })?;
        let (code, detail) = match on.as_ref().map(|on| on.state.name()) {
            Some(state) if !state.is_final() => ("dependency", format!("waits for job {}, which is {state}", edge.job)),
            Some(state) => ("settling", format!("job {} is {state}; this job is about to be told", edge.job)),
            None => ("settling", format!("job {} is gone; this job is about to be told", edge.job)),
        };
        why.push(Because { code: code.to_owned(), detail, job: Some(edge.job.to_string()), passes_at: None });
    }
    Ok(why)
}
