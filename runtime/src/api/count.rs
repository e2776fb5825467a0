//! `GET /v1/jobs/count?by=state,queue,kind,error`: how many jobs there are, of all or of those that a list would have with the
//! same filter. Maintained as differences and never scanned, but by error, or where a filter asks for what no count knows: for
//! that, the rows of jobs are looked at, the newest first, up to a bound.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use runner_store::command::limits::PAGE_ROWS_MAX;
use runner_store::command::{Answer, CountKey, JobsQuery, Query};
use runner_store::error::StoreError;
use runner_store::job::{Fingerprint, Job, JobId, StateName, fingerprint};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::bulk::{COUNTED_MAX, COUNTED_PAGES_MAX};
use super::error::Problem;
use super::filter;
use super::openapi::words::StateWord;
use super::params::Params;
use super::read::nearest;
use super::tenant::Whose;

/// What one may count by.
const BY: [&str; 4] = ["state", "queue", "kind", "error"];
/// Sums of what is looked at: more than anybody reads. Jobs of others are left out, which is said.
const SUMS_MAX: usize = 1_000;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// All of them.
    pub total: u64,
    /// By what was asked for; without zeros. By error, the most frequent first.
    pub counts: Vec<Count>,
    /// There may be more than were counted: by error, and with a filter beside state, kind and queue, no more than 100,000 jobs
    /// are, and no more than 1,000 sums are told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// One sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// Of jobs in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<StateWord>")]
    pub state: Option<StateName>,
    /// Of this queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// After this error: its fingerprint, for the filter `error` of lists and verbs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// That error of the newest of them, up to 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
    /// So many.
    pub jobs: u64,
}

/// What is counted together.
#[derive(Default, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    state: Option<StateName>,
    queue: Option<Arc<str>>,
    kind: Option<Arc<str>>,
    error: Option<Fingerprint>,
}

/// See the module.
pub async fn get(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    mut params: Params,
) -> Result<Json<Counts>, Problem> {
    let by = params.take_as("by", parse_by)?.unwrap_or_else(|| vec!["state"]);
    let filter = filter::of_params(&mut params, &app, tenant, PAGE_ROWS_MAX)?;
    params.finish()?;
    let Some(filter) = filter else { return Ok(Json(Counts { total: 0, counts: Vec::new(), more: false })) };
    if by.contains(&"error") || filter::needs_rows(&filter) {
        let counted = tokio::task::spawn_blocking(move || look(&app, &filter, &by)).await;
        let bug = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", "counting the jobs panicked");
        return Ok(Json(counted.map_err(bug)??));
    }
    let Answer::Counts(counts) = app.store.snapshot()?.read(&Query::Counts)? else {
        unreachable!("counts are answered with counts");
    };
    Ok(Json(sum(&app, &filter, &by, counts)))
}

fn parse_by(text: &str) -> Result<Vec<&'static str>, String> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words
        .map(|word| {
            BY.into_iter().find(|by| *by == word).ok_or_else(|| match nearest(word, BY.into_iter()) {
                Some(near) => format!("{word:?} is unknown; did you mean `{near}`?"),
                None => format!("{word:?} is unknown; known are {}", BY.join(", ")),
            })
        })
        .collect()
}

fn sum(app: &App, filter: &JobsQuery, by: &[&str], counts: Vec<(CountKey, u64)>) -> Counts {
    let has = |word| by.contains(&word);
    let mut total = 0;
    let mut sums: BTreeMap<Group, u64> = BTreeMap::new();
    for (key, jobs) in counts.into_iter().filter(|(key, jobs)| *jobs > 0 && filter.counts(key)) {
        let group = Group {
            state: has("state").then_some(key.state),
            queue: has("queue").then(|| app.store.queue_name(key.lane.queue)),
            kind: has("kind").then(|| app.store.kind_name(key.lane.kind)),
            error: None,
        };
        *sums.entry(group).or_default() += jobs;
        total += jobs;
    }
    let counts = sums.into_iter().map(|(group, jobs)| group.shown(jobs, None)).collect();
    Counts { total, counts, more: false }
}

/// Looks at the jobs that a filter matches, page by page, the newest first; by error, at those of them that may have failed.
fn look(app: &App, filter: &JobsQuery, by: &[&str]) -> Result<Counts, StoreError> {
    let view = app.store.snapshot()?;
    let by_error = by.contains(&"error");
    let is_wanted = |state: &StateName| filter.state.is_none_or(|wanted| wanted == *state);
    let states: Vec<Option<StateName>> = match by_error {
        true => StateName::ALL.into_iter().filter(|s| fingerprint::may_have(*s) && is_wanted(s)).map(Some).collect(),
        false => vec![filter.state],
    };
    let (mut sums, mut looked_at, mut more) = (Sums::default(), 0, false);
    for state in states {
        let mut query = JobsQuery { state, ..filter.clone() };
        for page in 0.. {
            if looked_at >= COUNTED_MAX || page == COUNTED_PAGES_MAX {
                more = true;
                break;
            }
            let Answer::Jobs(page) = view.read(&Query::Jobs(query.clone()))? else { unreachable!("jobs are answered") };
            looked_at += page.jobs.len() as u64;
            page.jobs.iter().for_each(|job| more |= !sums.add(app, by, job));
            let Some(next) = page.next else { break };
            query.beyond = Some(next);
        }
    }
    Ok(sums.shown(more, by_error))
}

/// Sums by what is asked for, each with the newest job and, by error, its error.
#[derive(Default)]
struct Sums(BTreeMap<Group, (u64, JobId, String)>);

impl Sums {
    /// Counts a job; by error, if it has one. False: it is of a sum that is one too many.
    fn add(&mut self, app: &App, by: &[&str], job: &Job) -> bool {
        let has = |word| by.contains(&word);
        let error = if has("error") { Fingerprint::of_job(job) } else { None };
        if has("error") && error.is_none() {
            return true;
        }
        let group = Group {
            state: has("state").then(|| job.state.name()),
            queue: has("queue").then(|| app.store.queue_name(job.queue)),
            kind: has("kind").then(|| app.store.kind_name(job.kind)),
            error,
        };
        let text = || match error {
            Some(_) => job.last.as_ref().and_then(|last| last.error.clone()).unwrap_or_default(),
            None => String::new(),
        };
        let is_full = self.0.len() >= SUMS_MAX;
        match self.0.entry(group) {
            Entry::Occupied(mut sum) => {
                let (jobs, newest, example) = sum.get_mut();
                *jobs += 1;
                if job.id > *newest {
                    (*newest, *example) = (job.id, text());
                }
            }
            Entry::Vacant(_) if is_full => return false,
            Entry::Vacant(sum) => _ = sum.insert((1, job.id, text())),
        }
        true
    }

    fn shown(self, more: bool, by_error: bool) -> Counts {
        let total = self.0.values().map(|(jobs, ..)| jobs).sum();
        let shown = |(group, (jobs, _, example)): (Group, _)| group.shown(jobs, by_error.then_some(example));
        let mut counts: Vec<Count> = self.0.into_iter().map(shown).collect();
        if by_error {
            counts.sort_by_key(|count| std::cmp::Reverse(count.jobs));
        }
        Counts { total, counts, more }
    }
}

impl Group {
    fn shown(self, jobs: u64, example: Option<String>) -> Count {
        let text = |name: Option<Arc<str>>| name.map(|name| name.to_string());
        let Self { state, queue, kind, error } = self;
        let error = error.map(|error| error.to_string());
        Count { state, queue: text(queue), kind: text(kind), error, example, jobs }
    }
}
