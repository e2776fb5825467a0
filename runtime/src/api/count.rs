//! `GET /v1/jobs/count?by=state,queue,kind`: how many jobs there are. Maintained as differences, never scanned.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use runner_store::command::{Answer, CountKey, Query};
use runner_store::job::{StateName, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::error::Problem;
use super::openapi::words::StateWord;
use super::params::Params;
use super::read::nearest;
use super::tenant::Whose;

/// What one may count by.
const BY: [&str; 3] = ["state", "queue", "kind"];

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// All jobs.
    pub total: u64,
    /// By what was asked for; without zeros.
    pub counts: Vec<Count>,
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
    /// So many.
    pub jobs: u64,
}

/// What is counted together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    state: Option<StateName>,
    queue: Option<Arc<str>>,
    kind: Option<Arc<str>>,
}

/// See the module.
pub async fn get(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    mut params: Params,
) -> Result<Json<Counts>, Problem> {
    let by = params.take_as("by", parse_by)?.unwrap_or_else(|| vec!["state"]);
    params.finish()?;
    let Answer::Counts(counts) = app.store.snapshot()?.read(&Query::Counts)? else {
        unreachable!("counts are answered with counts");
    };
    Ok(Json(sum(&app, tenant, &by, counts)))
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

fn sum(app: &App, tenant: TenantId, by: &[&str], counts: Vec<(CountKey, u64)>) -> Counts {
    let has = |word| by.contains(&word);
    let mut total = 0;
    let mut sums: BTreeMap<Group, u64> = BTreeMap::new();
    for (key, jobs) in counts.into_iter().filter(|(key, jobs)| *jobs > 0 && key.lane.tenant == tenant) {
        let group = Group {
            state: has("state").then_some(key.state),
            queue: has("queue").then(|| app.store.queue_name(key.lane.queue)),
            kind: has("kind").then(|| app.store.kind_name(key.lane.kind)),
        };
        *sums.entry(group).or_default() += jobs;
        total += jobs;
    }
    let text = |name: Option<Arc<str>>| name.map(|name| name.to_string());
    let count = |(Group { state, queue, kind }, jobs)| Count { state, queue: text(queue), kind: text(kind), jobs };
    let counts = sums.into_iter().map(count).collect();
    Counts { total, counts }
}
