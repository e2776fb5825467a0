//! `POST /v1/jobs` with `application/x-ndjson`: jobs without an end, a line each, and an answer line for each.
//!
//! Lines are taken in groups of bounded size, each of which is one transaction; where that is refused, its lines are sent one
//! by one, so that only the bad ones are refused. With an `Idempotency-Key` they always are, each under the key and its
//! number, so that a repeated stream goes on where it broke. While one group is accepted the next one is read, so that neither
//! the writer nor the client waits for the other; memory is that of two groups and the answers of one. A client that
//! vanishes ends both tasks, and what it has not ended is not accepted.

mod group;
mod lines;
mod places;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use runner_store::command::limits::{KEY_BYTES_MAX, KEY_LINE_BYTES};
use runner_store::job::{StateName, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::group::{After, Parsed};
use self::lines::{Lines, Next};
use self::places::Places;
use super::IDEMPOTENCY_KEY;
use crate::api::access::door::Ends;
use crate::api::error::Problem;
use crate::api::openapi::words::StateWord;
use crate::api::told::Told;
use crate::api::{App, body};

/// The media type of a stream.
pub(in crate::api) const NDJSON: &str = "application/x-ndjson";
/// Answers on their way, in groups: the next group is taken while those of one are read.
const PAGES_MAX: usize = 1;
/// Groups that are read while one is accepted: the time that either takes is about the same.
const GROUPS_READ_MAX: usize = 1;
/// How long answers may wait for their reader.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// What follows a line that is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum OnError {
    /// The next one.
    #[default]
    Continue,
    /// The end.
    Stop,
}

/// What became of one line: a job, or a problem.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Line")]
pub struct LineShown {
    /// Which, from 0; empty lines do not count. `position` in `depends_on` of a later line names it so.
    pub line: u64,
    /// The job's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<StateWord>")]
    pub state: Option<StateName>,
    /// Whether it was there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<bool>,
    /// Why it was not accepted: what a call with this job alone would have been answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub problem: Option<Problem>,
}

/// What the word after `on_error=` means.
pub(super) fn parse_on_error(word: &str) -> Result<OnError, String> {
    match word {
        "continue" => Ok(OnError::Continue),
        "stop" => Ok(OnError::Stop),
        _ => Err("must be continue (with the next line; if absent) or stop".to_owned()),
    }
}

/// Whether a request is a stream.
pub(super) fn is_stream(headers: &HeaderMap) -> bool {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case(NDJSON))
}

/// Answers 200 at once, and then line by line.
pub(super) fn answer(
    app: &Arc<App>,
    tenant: TenantId,
    (key, on_error, ends): (Option<String>, OnError, Option<Ends>),
    body: Body,
) -> Result<Response, Problem> {
    if key.as_ref().is_some_and(|key| key.is_empty() || key.len() + KEY_LINE_BYTES > KEY_BYTES_MAX) {
        let most = KEY_BYTES_MAX - KEY_LINE_BYTES;
        let why = format!("must be 1 to {most} bytes long: each line has it with its number");
        return Err(Problem::invalid(IDEMPOTENCY_KEY, why));
    }
    let (pages, taken) = mpsc::channel(PAGES_MAX);
    let mut task = JoinSet::new();
    let stream = Stream { app: Arc::clone(app), tenant, key, on_error, ends, pages };
    task.spawn(stream.take(Lines::new(body, app.bodies.clone())));
    let body = Body::new(Told::new(taken, task));
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, NDJSON)], body).into_response())
}

/// One call.
struct Stream {
    app: Arc<App>,
    tenant: TenantId,
    key: Option<String>,
    on_error: OnError,
    ends: Option<Ends>,
    pages: mpsc::Sender<Bytes>,
}

impl Stream {
    /// Takes group after group, until there is none, the client is gone or may not go on, or the server stops.
    async fn take(mut self, lines: Lines) {
        let mut ending = self.app.ending.subscribe();
        let ends = self.ends.take();
        let mut over = pin!(async {
            match ends {
                Some(ends) => ends.over().await,
                None => std::future::pending().await,
            }
        });
        let (groups, mut read) = mpsc::channel(GROUPS_READ_MAX);
        let mut reading = JoinSet::new();
        let (app, keyed) = (Arc::clone(&self.app), self.key.is_some());
        reading.spawn(body::of(Some(self.tenant), read_on(lines, app, self.tenant, keyed, groups)));
        let mut places = Places::default();
        // The first line of which nothing was said.
        let mut number = 0;
        loop {
            let came = tokio::select! {
                // Looked at first: there may always be another line.
                biased;
                problem = &mut over => {
                    self.send(&[LineShown::refused(number, problem)]).await;
                    return;
                }
                came = read.recv() => came,
                () = async { drop(ending.wait_for(|ending| *ending).await) } => {
                    let detail = "the server stops; what was not answered was not accepted: send it again";
                    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopped", detail);
                    self.send(&[LineShown::refused(number, problem)]).await;
                    return;
                }
            };
            let parsed = match came {
                // Whoever has only stopped to send can still read it.
                Some((_, Next::Vanished)) => Err(Problem::new(
                    StatusCode::BAD_REQUEST,
                    "malformed",
                    "the body did not arrive whole; the lines from this one on were not accepted: send them again",
                )),
                Some((parsed, next)) => parsed.map(|group| (group, next)),
                None => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", "reading the lines panicked")),
            };
            let (group, next) = match parsed {
                Ok(parsed) => parsed,
                Err(problem) => {
                    self.send(&[LineShown::refused(number, problem)]).await;
                    return;
                }
            };
            let (told, after) = self.commit(group, &mut places).await;
            number = told.last().map_or(number, |last| last.line + 1);
            if !self.send(&told).await || after == After::Nothing {
                return;
            }
            match next {
                Next::Line => {}
                Next::End | Next::Vanished => return,
                Next::Failed(problem) => {
                    self.send(&[LineShown::refused(number, problem)]).await;
                    return;
                }
            }
        }
    }

    async fn commit(&self, group: Parsed, places: &mut Places) -> (Vec<LineShown>, After) {
        let call =
            group::Call { app: &self.app, tenant: self.tenant, key: self.key.as_deref(), on_error: self.on_error };
        call.commit(group, places).await
    }

    /// Whether somebody took it in time.
    async fn send(&self, told: &[LineShown]) -> bool {
        if told.is_empty() {
            return true;
        }
        let mut page = Vec::with_capacity(told.len() * 80);
        for line in told {
            // Texts and numbers are always JSON.
            _ = serde_json::to_writer(&mut page, line);
            page.push(b'\n');
        }
        matches!(tokio::time::timeout(TAKEN_WITHIN, self.pages.send(Bytes::from(page))).await, Ok(Ok(())))
    }
}

/// Reads group after group while those before are accepted, until there is none or nobody takes them.
async fn read_on(
    mut lines: Lines,
    app: Arc<App>,
    tenant: TenantId,
    keyed: bool,
    groups: mpsc::Sender<(Result<Parsed, Problem>, Next)>,
) {
    // There is a place for a group before it is read.
    while let Ok(place) = groups.reserve().await {
        let (group, next) = lines.group().await;
        let parsed = group.parsed(&app, tenant, keyed).await;
        let goes_on = parsed.is_ok() && matches!(next, Next::Line);
        place.send((parsed, next));
        if !goes_on {
            return;
        }
    }
}

impl LineShown {
    fn refused(line: u64, problem: Problem) -> Self {
        Self { line, id: None, state: None, duplicate: None, problem: Some(problem) }
    }
}
