//! `GET /v1/stats`: how things stand, in one answer: jobs by state, each queue with what has waited longest in it, the node,
//! and plugins that are not loaded. Maintained figures all of them: nothing is scanned.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use runner_store::command::{Answer, Query, Settings};
use runner_store::disk::Room;
use runner_store::job::StateName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::error::Problem;
use super::node::NodeShown;
use super::params::Params;
use super::plugins::{Asked, PluginsShown};
use super::tenant::Whose;

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Status")]
pub struct StatsShown {
    /// How many jobs there are, by state; without zeros.
    pub states: BTreeMap<String, u64>,
    /// Queues that have jobs which have not ended, or something that holds for them.
    pub queues: Vec<QueueStats>,
    /// The node that runs jobs here; none: nothing does.
    pub node: Option<NodeShown>,
    /// Plugins that are loaded.
    pub plugins: u64,
    /// What is wrong, if anything.
    pub wrong: Vec<WrongShown>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Wrong")]
pub struct WrongShown {
    /// Stable; for programs.
    pub code: String,
    /// What it is, and how to mend it; for people.
    pub detail: String,
}

/// How a queue stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct QueueStats {
    /// Its name.
    pub name: String,
    /// Jobs that could start.
    pub available: u64,
    /// Jobs that run, or are claimed.
    pub running: u64,
    /// Jobs that wait for a time, for others, or on hold.
    pub waiting: u64,
    /// For how many milliseconds the available job has been due that has waited longest.
    pub oldest_available_ms: Option<u64>,
    /// Whether nothing of it starts.
    pub paused: bool,
    /// Whether it takes no new jobs.
    pub draining: bool,
}

/// See the module.
pub async fn get(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    asked: Asked,
    params: Params,
) -> Result<Json<StatsShown>, Problem> {
    params.finish()?;
    let node = match &app.starter {
        Some(starter) => starter.figures().await.map(|figures| NodeShown::new(figures, starter.boot().to_string())),
        None => None,
    };
    let view = app.store.snapshot()?;
    let now = app.clock.now();
    let mut states: BTreeMap<String, u64> = BTreeMap::new();
    let mut queues: BTreeMap<String, QueueStats> = BTreeMap::new();
    let Answer::Counts(counts) = view.read(&Query::Counts)? else { unreachable!("counts are answered with counts") };
    for (key, jobs) in counts.into_iter().filter(|(key, jobs)| *jobs > 0 && key.lane.tenant == tenant) {
        *states.entry(key.state.as_str().to_owned()).or_default() += jobs;
        let queue = match key.state {
            state if state.is_final() => continue,
            _ => queues.entry(app.store.queue_name(key.lane.queue).to_string()).or_default(),
        };
        match key.state {
            StateName::Available => queue.available += jobs,
            StateName::Running => queue.running += jobs,
            _ => queue.waiting += jobs,
        }
    }
    if let Answer::Oldest(oldest) = view.read(&Query::Oldest)? {
        for oldest in oldest.into_iter().filter(|oldest| oldest.tenant == tenant) {
            let queue = queues.entry(app.store.queue_name(oldest.queue).to_string()).or_default();
            queue.oldest_available_ms = Some(now.since(oldest.since).0);
        }
    }
    if let Answer::AllSettings(all) = view.read(&Query::AllSettings)? {
        for settings in all {
            let Settings::Queue(of, name, settings) = settings else { continue };
            let paused = settings.pause.is_some_and(|pause| pause.holds(now));
            if of == tenant && (paused || settings.drain) {
                let queue = queues.entry(name).or_default();
                (queue.paused, queue.draining) = (paused, settings.drain);
            }
        }
    }
    let queues = queues.into_iter().map(|(name, queue)| QueueStats { name, ..queue }).collect();
    let plugins = asked.of(app.plugins.shown());
    let paused = matches!(view.read(&Query::Stored)?, Answer::Stored(stored) if stored.paused);
    let wrong = wrong(&app, node.as_ref(), &plugins, paused);
    Ok(Json(StatsShown { states, queues, node, plugins: plugins.plugins.len() as u64, wrong }))
}

fn wrong(app: &App, node: Option<&NodeShown>, plugins: &PluginsShown, paused: bool) -> Vec<WrongShown> {
    let mut wrong = Vec::new();
    let mut say = |code: &str, detail: String| wrong.push(WrongShown { code: code.to_owned(), detail });
    match node {
        None => say("no_node", "no node runs jobs on this store; `runner serve` starts one".to_owned()),
        Some(node) if node.state != "running" => {
            say("draining", "the node starts nothing more; `runner node resume` ends that, unless it stops".to_owned());
        }
        Some(_) => {}
    }
    if paused {
        let detail = "the store was restored, and nothing runs yet; look at it, then `runner queue resume --all`";
        say("paused", detail.to_owned());
    }
    match app.store.room() {
        Room::Plenty => {}
        Room::Low => say("disk_low", "the disk is nearly full, so no job is taken; make room on it".to_owned()),
        Room::Critical => {
            say(
                "disk_full",
                "the disk is nearly full, so no job is taken and none is started; make room on it".to_owned(),
            );
        }
    }
    if let Some(by) = app.store.clock_step() {
        let detail = format!(
            "the wall clock stepped by {by} ms; expiry and retention wait for an hour of agreement, or for `runner doctor \
             --accept-clock` if it is right now"
        );
        say("clock_step", detail);
    }
    for report in &plugins.reports {
        say("plugin", format!("{}: {}", report.path, report.problem));
    }
    wrong
}
