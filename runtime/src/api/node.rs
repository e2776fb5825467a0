//! The node that runs here: `GET /v1/node` shows it, `POST /v1/node/drain` and `/v1/node/resume` let it rest and go on.
//!
//! A node that is drained so claims nothing, gives back what had not started, and lets runs end, however long they take. Its
//! process goes on: the API answers, jobs are accepted and wait.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::error::Problem;
use super::params::Params;
use crate::node::NodeState;
use crate::scheduler::rest::{Figures, Rest};

/// A node as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Node")]
pub struct NodeShown {
    /// `running`, or `draining`: it starts nothing more.
    pub state: String,
    /// Whether this call has changed that.
    pub changed: bool,
    /// Its process's own id, in hexadecimal, as the records of its runs have it.
    pub boot: String,
    /// Calls of handlers at once, at most.
    pub slots: u32,
    /// Calls that go on.
    pub running: u64,
    /// Runs that are claimed and have not started.
    pub claimed: u64,
    /// Memory of all runs together.
    pub memory_bytes: u64,
    /// What the runs that go on have reserved of it.
    pub reserved_bytes: u64,
}

/// `GET /v1/node`.
pub async fn show(State(app): State<Arc<App>>, params: Params) -> Result<Json<NodeShown>, Problem> {
    ask(&app, params, Rest::No).await
}

/// `POST /v1/node/drain`: nothing starts any more once this has answered; 200 also where it drains already.
pub async fn drain(State(app): State<Arc<App>>, params: Params) -> Result<Json<NodeShown>, Problem> {
    ask(&app, params, Rest::Begin).await
}

/// `POST /v1/node/resume`: it goes on; 200 also where it runs. 409 where it drains in order to stop.
pub async fn resume(State(app): State<Arc<App>>, params: Params) -> Result<Json<NodeShown>, Problem> {
    ask(&app, params, Rest::End).await
}

async fn ask(app: &App, params: Params, wanted: Rest) -> Result<Json<NodeShown>, Problem> {
    params.finish()?;
    let Some(starter) = &app.starter else {
        let detail = "no node runs jobs on this store; start one with `runner serve`";
        return Err(Problem::new(StatusCode::CONFLICT, "no_node", detail));
    };
    let stops = |detail: String| Problem::new(StatusCode::CONFLICT, "stopping", detail);
    match starter.rest(wanted).await {
        Some(Ok(figures)) => Ok(Json(NodeShown::new(figures, starter.boot().to_string()))),
        Some(Err(error)) => Err(stops(error.to_string())),
        None => Err(stops("the node has stopped, or is asked too much at once; ask again in a second".to_owned())),
    }
}

impl NodeShown {
    pub(super) fn new(figures: Figures, boot: String) -> Self {
        let Figures { state, changed, slots, running, claimed, memory_bytes, reserved_bytes } = figures;
        let state = match state {
            NodeState::Running => "running",
            NodeState::Draining => "draining",
            NodeState::Stopped => "stopped",
        };
        let (state, running, claimed) = (state.to_owned(), running as u64, claimed as u64);
        Self { state, changed, boot, slots, running, claimed, memory_bytes, reserved_bytes }
    }
}
