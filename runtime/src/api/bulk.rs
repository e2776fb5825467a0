//! Verbs on every job that a filter matches: `POST /v1/jobs/cancel | retry | release | delete`, and of one queue
//! `POST /v1/queues/{q}/clear | retry`. They go through the store in bounded steps, in the background, and are not atomic;
//! `GET /v1/operations/{n}` says how far one is.
//!
//! Operations live in memory: one that a crash ends is sent again, which is safe.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use runner_store::Handle;
use runner_store::command::limits::{BULK_JOBS_MAX, PAGE_ROWS_MAX};
use runner_store::command::{Answer, Bulk, BulkVerb, Command, JobsQuery, Only, Query, Reply};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::job::{QueueId, StateName, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::App;
use super::body;
use super::error::Problem;
use super::filter;
use super::params::{self, Named, Params};
use super::read::{Object, Value};
use super::tenant::Whose;
use super::time::rfc3339;
use super::verbs::check_reason;

/// Operations that are remembered; the oldest that have ended are forgotten first.
const REMEMBERED_MAX: usize = 100;
/// Operations at once.
const RUNNING_MAX: usize = 8;
/// Jobs that are counted before an operation with a tag begins; more are said to be at least so many.
pub(super) const COUNTED_MAX: u64 = 100_000;
/// Pages that are read for that: where few jobs match, each looks at thousands of rows.
pub(super) const COUNTED_PAGES_MAX: usize = 250;

/// The operations of a process.
#[derive(Debug, Default)]
pub struct Operations(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    operations: VecDeque<Arc<Operation>>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Operation {
    /// Whose jobs; nobody else hears of it.
    tenant: TenantId,
    number: u64,
    verb: &'static str,
    matched: u64,
    started_at: String,
    looked_at: AtomicU64,
    changed: AtomicU64,
    ended: AtomicBool,
    error: Mutex<Option<String>>,
}

/// An operation as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Operation")]
pub struct OperationShown {
    /// Its number.
    pub operation: String,
    /// What it does.
    pub verb: String,
    /// `running`, `done` or `failed`.
    pub state: String,
    /// Jobs that matched when it began.
    pub matched: u64,
    /// Jobs that it has looked at.
    pub looked_at: u64,
    /// Jobs that it has changed; the others were so already, or it could not be done to them.
    pub changed: u64,
    /// When it began.
    pub started_at: String,
    /// Why it failed.
    pub error: Option<String>,
}

/// The answer to a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Matched {
    /// Jobs that match.
    pub matched: u64,
    /// There may be more than that: of what is looked for in rows, no more than so many are counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// What a call asks for.
struct Wish {
    filter: JobsQuery,
    verb: BulkVerb,
    dry_run: bool,
    /// A name that no job ever had matches nothing.
    nothing: bool,
}

/// `POST /v1/jobs/cancel`.
pub async fn cancel(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    post(&app, tenant, "cancel", params, &headers, body).await
}

/// `POST /v1/jobs/retry`.
pub async fn retry(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    post(&app, tenant, "retry", params, &headers, body).await
}

/// `POST /v1/jobs/release`.
pub async fn release(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    post(&app, tenant, "release", params, &headers, body).await
}

/// `POST /v1/jobs/delete`.
pub async fn delete(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    post(&app, tenant, "delete", params, &headers, body).await
}

/// `GET /v1/operations/{n}`.
pub async fn show(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    Named(number): Named,
    params: Params,
) -> Result<Json<OperationShown>, Problem> {
    params.finish()?;
    let found = app.operations.find(tenant, &number).ok_or_else(|| {
        let detail =
            format!("there is no operation with this number; the last {REMEMBERED_MAX} are kept until a restart");
        Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
    })?;
    Ok(Json(found.shown()))
}

async fn post(
    app: &Arc<App>,
    tenant: TenantId,
    verb: &'static str,
    params: Params,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.finish()?;
    let text = body::json(&app.bodies, headers, body).await?;
    let wish = read(app, tenant, verb, Object::read(&text, body::parse(&text)?)?)?;
    let filters = if wish.nothing { Vec::new() } else { vec![wish.filter] };
    begin(app, (tenant, verb), (filters, &wish.verb), wish.dry_run).await
}

/// Counts what matches the filters, one behind another, and, if that is not all that is wanted, begins with it.
async fn begin(
    app: &Arc<App>,
    whose: (TenantId, &'static str),
    (filters, what): (Vec<JobsQuery>, &BulkVerb),
    dry_run: bool,
) -> Result<Response, Problem> {
    let (mut matched, mut more) = (0, false);
    for filter in &filters {
        let (jobs, there_are_more) = matching(app, filter).await?;
        (matched, more) = (matched + jobs, more || there_are_more);
    }
    if dry_run {
        return Ok(Json(Matched { matched, more }).into_response());
    }
    let started_at = rfc3339(app.clock.now());
    let bulks = filters.into_iter().map(|filter| Bulk { filter, verb: what.clone() }).collect();
    let operation = app.operations.start(app.store.clone(), whose, matched, started_at, bulks)?;
    Ok((StatusCode::ACCEPTED, Json(operation.shown())).into_response())
}

/// `POST /v1/queues/{q}/retry` with `{"kind": "…"}` or nothing: runs all discarded jobs of a queue, or of a kind in it, again.
/// `POST /v1/queues/{q}/clear` with `{"states": ["available", …]}`: deletes its jobs that are in one of these states. Both
/// take `"dry_run": true`.
pub(super) async fn of_queue(
    app: &Arc<App>,
    (tenant, queue): (TenantId, QueueId),
    clear: bool,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let text = body::json_or_nothing(&app.bodies, headers, body).await?;
    let text = if text.is_empty() { "{}" } else { &*text };
    let mut object = Object::read(text, body::parse(text)?)?;
    let dry_run = object.take("dry_run").map(|value| value.bool()).transpose()?.unwrap_or_default();
    let filter = |state, kind| JobsQuery {
        state: Some(state),
        queue: Some(queue),
        kind,
        ..JobsQuery::all(tenant, BULK_JOBS_MAX)
    };
    if clear {
        let states = object.take("states").map(|value| states(&value)).transpose()?.unwrap_or_default();
        object.finish()?;
        if states.is_empty() {
            let detail = "must name what is to be deleted, for example [\"available\", \"discarded\"]";
            return Err(Problem::invalid("states", detail));
        }
        let filters = states.into_iter().map(|state| filter(state, None)).collect();
        return begin(app, (tenant, "clear"), (filters, &BulkVerb::Delete { force: false, cascade: false }), dry_run)
            .await;
    }
    let kind = object.take("kind").map(|value| value.str()).transpose()?;
    object.finish()?;
    let kind = kind.map(|name| app.store.kind_id(tenant, &name));
    let filters = if kind == Some(None) { Vec::new() } else { vec![filter(StateName::Discarded, kind.flatten())] };
    begin(app, (tenant, "retry"), (filters, &BulkVerb::Retry), dry_run).await
}

/// States, each once.
fn states(value: &Value<'_>) -> Result<BTreeSet<StateName>, Problem> {
    let mut states = BTreeSet::new();
    for value in value.list()? {
        let state = params::state(&value.str()?).map_err(|why| value.bad(&why))?;
        if state == StateName::Running {
            return Err(value.bad("jobs that run are not cleared: cancel them, or delete them with force").into());
        }
        states.insert(state);
    }
    Ok(states)
}

fn read(app: &App, tenant: TenantId, verb: &str, mut object: Object<'_>) -> Result<Wish, Problem> {
    let word = |value: Option<Value<'_>>, parse: fn(&str) -> Result<_, String>| {
        value.map(|value| parse(&value.str()?).map_err(|why| value.bad(&why))).transpose()
    };
    let state = word(object.take("state"), params::state)?;
    let tag = object.take("tag").map(|value| params::tag(&value.str()?).map_err(|why| value.bad(&why))).transpose()?;
    let mut only = Only::NONE;
    for name in filter::NAMES {
        let Some(value) = object.take(name) else { continue };
        filter::add(&mut only, name, value.str()?, app, tenant).map_err(|why| value.bad(&why))?;
    }
    let (queue, kind) = (object.take("queue"), object.take("kind"));
    let queue = queue.map(|value| value.str()).transpose()?;
    let kind = kind.map(|value| value.str()).transpose()?;
    let mut flag =
        |name| Ok::<_, Problem>(object.take(name).map(|value| value.bool()).transpose()?.unwrap_or_default());
    let (all, dry_run) = (flag("all")?, flag("dry_run")?);
    let verb = match verb {
        "cancel" => {
            let reason = object.take("reason").map(|value| value.str()).transpose()?;
            BulkVerb::Cancel { reason: check_reason(reason)? }
        }
        "retry" => BulkVerb::Retry,
        "release" => BulkVerb::Release,
        _ => BulkVerb::Delete { force: flag("force")?, cascade: flag("cascade")? },
    };
    object.finish()?;
    let filtered = state.is_some() || queue.is_some() || kind.is_some() || tag.is_some() || only != Only::NONE;
    if filtered == all {
        let why = if all {
            "and a filter exclude each other: keep one"
        } else {
            "must be true where there is no filter (state, queue, kind, tag, since, until, outcome, schedule, unique_key, error, q)"
        };
        return Err(Problem::invalid("all", why));
    }
    let queue = queue.map(|name| app.store.queue_id(tenant, &name));
    let kind = kind.map(|name| app.store.kind_id(tenant, &name));
    let nothing = queue == Some(None) || kind == Some(None);
    let (queue, kind) = (queue.flatten(), kind.flatten());
    let filter = JobsQuery { state, queue, kind, tag, only, ..JobsQuery::all(tenant, BULK_JOBS_MAX) };
    Ok(Wish { filter, verb, dry_run, nothing })
}

/// How many jobs a filter matches: exactly, from the counts; with what they do not know by looking, up to a bound, and whether
/// that was reached.
async fn matching(app: &Arc<App>, filter: &JobsQuery) -> Result<(u64, bool), Problem> {
    let (app, filter) = (Arc::clone(app), filter.clone());
    let counted = tokio::task::spawn_blocking(move || {
        let view = app.store.snapshot()?;
        if filter::needs_rows(&filter) {
            look(view.as_ref(), filter)
        } else {
            Ok((count(view.as_ref(), &filter)?, false))
        }
    });
    let bug = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", "counting the jobs panicked");
    Ok(counted.await.map_err(bug)??)
}

fn count(view: &dyn Snapshot, filter: &JobsQuery) -> Result<u64, StoreError> {
    let Answer::Counts(counts) = view.read(&Query::Counts)? else { unreachable!("counts are answered with counts") };
    Ok(counts.iter().filter(|(key, _)| filter.counts(key)).map(|(_, jobs)| jobs).sum())
}

fn look(view: &dyn Snapshot, mut filter: JobsQuery) -> Result<(u64, bool), StoreError> {
    filter.limit = PAGE_ROWS_MAX;
    let mut matched = 0;
    for _ in 0..COUNTED_PAGES_MAX {
        let Answer::Jobs(page) = view.read(&Query::Jobs(filter.clone()))? else { unreachable!("jobs are answered") };
        matched += page.jobs.len() as u64;
        let Some(next) = page.next else { return Ok((matched, false)) };
        if matched >= COUNTED_MAX {
            break;
        }
        filter.beyond = Some(next);
    }
    Ok((matched, true))
}

impl Operations {
    /// Ends what still runs: whoever asked for it asks again after the restart.
    pub async fn stop(&self) {
        let mut tasks = std::mem::take(&mut lock(&self.0).tasks);
        tasks.shutdown().await;
    }

    fn find(&self, tenant: TenantId, number: &str) -> Option<Arc<Operation>> {
        let number: u64 = number.parse().ok()?;
        let is_it = |operation: &&Arc<Operation>| operation.number == number && operation.tenant == tenant;
        lock(&self.0).operations.iter().find(is_it).cloned()
    }

    fn start(
        &self,
        store: Handle,
        (tenant, verb): (TenantId, &'static str),
        matched: u64,
        started_at: String,
        bulks: Vec<Bulk>,
    ) -> Result<Arc<Operation>, Problem> {
        let mut kept = lock(&self.0);
        while kept.tasks.try_join_next().is_some() {}
        if kept.tasks.len() >= RUNNING_MAX {
            let detail =
                format!("{RUNNING_MAX} operations run already; nothing happened: try again when one has ended");
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail));
        }
        kept.last += 1;
        let operation = Arc::new(Operation {
            tenant,
            number: kept.last,
            verb,
            matched,
            started_at,
            looked_at: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            ended: AtomicBool::new(bulks.is_empty()),
            error: Mutex::new(None),
        });
        if !bulks.is_empty() {
            kept.tasks.spawn(run(store, Arc::clone(&operation), bulks));
        }
        kept.operations.push_back(Arc::clone(&operation));
        if kept.operations.len() > REMEMBERED_MAX {
            // There are always ended ones, as fewer may run than are kept.
            let oldest = kept.operations.iter().position(|operation| operation.ended.load(Ordering::Relaxed));
            oldest.and_then(|oldest| kept.operations.remove(oldest));
        }
        Ok(operation)
    }
}

/// Goes through all jobs that match, step by step.
async fn run(store: Handle, operation: Arc<Operation>, bulks: Vec<Bulk>) {
    let mut error = None;
    for bulk in bulks {
        error = step_through(&store, &operation, bulk).await.err();
        if error.is_some() {
            break;
        }
    }
    *lock(&operation.error) = error;
    operation.ended.store(true, Ordering::Release);
}

async fn step_through(store: &Handle, operation: &Operation, mut bulk: Bulk) -> Result<(), String> {
    loop {
        match store.call(Command::Bulk(Box::new(bulk.clone()))).await {
            Ok(Reply::Bulk { matched, changed, next }) => {
                operation.looked_at.fetch_add(u64::from(matched), Ordering::Relaxed);
                operation.changed.fetch_add(u64::from(changed), Ordering::Relaxed);
                match next {
                    Some(next) => bulk.filter.beyond = Some(next),
                    None => return Ok(()),
                }
            }
            Ok(Reply::Rejected(rejection)) => return Err(rejection.to_string()),
            Ok(other) => unreachable!("the answer to a bulk verb is not {other:?}"),
            Err(error) => return Err(error.to_string()),
        }
    }
}

impl Operation {
    fn shown(&self) -> OperationShown {
        let ended = self.ended.load(Ordering::Acquire);
        let error = lock(&self.error).clone();
        let state = match (ended, &error) {
            (false, _) => "running",
            (true, None) => "done",
            (true, Some(_)) => "failed",
        };
        OperationShown {
            operation: self.number.to_string(),
            verb: self.verb.to_owned(),
            state: state.to_owned(),
            matched: self.matched,
            looked_at: self.looked_at.load(Ordering::Relaxed),
            changed: self.changed.load(Ordering::Relaxed),
            started_at: self.started_at.clone(),
            error,
        }
    }
}

/// Nothing that is done under these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
