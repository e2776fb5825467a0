//! `GET /v1/jobs/{id}/logs`: what a run wrote, a JSON object a line; with `follow=true`, as it writes it, until it ends.
//!
//! What ended is told from the store, what runs from the run itself, and whoever follows from one and then the other, each
//! line once. A reader who takes nothing for a while is cut: only a few pages wait for each.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use runner_store::command::{Answer, Query, RunRef};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::job::{Job, JobRef, RunNumber, StateName};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::App;
use super::error::Problem;
use super::jobs;
use super::params::{OfJob, Params};
use super::told::Told;
use crate::run_logs::{self, Piece};
use crate::scheduler::live::Live;
use crate::wasm::Streams;

/// The media type of the answer.
const NDJSON: &str = "application/x-ndjson";
/// Pages that wait for one reader; each is at most a whole log.
const PAGES_MAX: usize = 4;
/// How long a reader may take nothing before it is cut.
const TAKEN_WITHIN: Duration = Duration::from_secs(20);
/// How often a reader is told, by an empty line, that there is nothing to tell: so both sides notice when the other is gone.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// How long is waited for a run that has ended to be recorded.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);
/// News are gathered for so long: a run that floods its log is read so often, not at every line.
const GATHERED_FOR: Duration = Duration::from_millis(50);

/// See the module. `run=N` is about one run; without it, about the one that runs, or else the last one that was entered.
/// Who follows a job that has not begun waits for its next run.
pub async fn get(State(app): State<Arc<App>>, OfJob(at): OfJob, mut params: Params) -> Result<Response, Problem> {
    let parse = |text: &str| text.parse::<bool>().map_err(|_| "must be true or false".to_owned());
    let follow = params.take_as("follow", parse)?.unwrap_or(false);
    let parse = |text: &str| text.parse().map(RunNumber).map_err(|_| "must be the number of a run".to_owned());
    let run = params.take_as("run", parse)?;
    params.finish()?;
    until_recorded(&app, at).await;
    let view = app.store.snapshot()?;
    let job = jobs::job(view.as_ref(), at)?.ok_or_else(Problem::no_job)?;
    if let Some(run) = run.filter(|run| run.0 == 0 || (*run > job.run && !follow)) {
        let detail = format!("the job has no run {run}; its last one is {}", job.run);
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_run", detail));
    }
    let goes_on = job.finalized_at().is_none() && run.is_none_or(|run| run >= job.run);
    if !(follow && goes_on) {
        let pieces = now(&app, view.as_ref(), &job, run)?;
        return Ok(([(header::CONTENT_TYPE, NDJSON)], lines(&pieces)).into_response());
    }
    drop(view);
    let Some(starter) = app.starter.clone() else {
        let detail = "no node runs jobs on this store, so nothing is to be followed; start one with `runner serve`";
        return Err(Problem::new(StatusCode::CONFLICT, "no_node", detail.to_owned()));
    };
    let (pages, taken) = mpsc::channel(PAGES_MAX);
    let mut task = JoinSet::new();
    let reader = Reader { app, at, run, pages };
    task.spawn(async move {
        if let Err(error) = reader.follow(starter.live()).await {
            tracing::error!(%error, "a reader of a log is cut: the store cannot be read");
        }
    });
    Ok(([(header::CONTENT_TYPE, NDJSON)], Body::new(Told::new(taken, task))).into_response())
}

/// Lets a run that has ended be recorded: for a moment, its log is neither with it any more nor in the store.
async fn until_recorded(app: &App, at: JobRef) {
    let Some((_, streams)) = app.starter.as_ref().and_then(|starter| starter.live().run(at)) else { return };
    let recorded = async {
        loop {
            let mut news = pin!(streams.news());
            news.as_mut().enable();
            if streams.is_recorded() {
                return;
            }
            news.await;
        }
    };
    if streams.is_ended() {
        // A store that is stuck answers nothing, but then neither does what is asked next.
        _ = tokio::time::timeout(RECORDED_WITHIN, recorded).await;
    }
}

/// What is known of a log at this moment.
fn now(app: &App, view: &dyn Snapshot, job: &Job, run: Option<RunNumber>) -> Result<Vec<Piece>, StoreError> {
    let live = app.starter.as_ref().and_then(|starter| starter.live().run(job.at()));
    if let Some((found, streams)) = live.filter(|(found, _)| run.is_none_or(|run| run == *found))
        && !streams.is_ended()
    {
        return Ok(run_logs::since(found.0, &streams.so_far().0, 0).0);
    }
    let run = match run {
        Some(run) => run,
        None => last_entered(view, job)?,
    };
    stored(view, job.at(), run, 0)
}

/// The last run whose handler was entered; where that is not known any more, the last one.
fn last_entered(view: &dyn Snapshot, job: &Job) -> Result<RunNumber, StoreError> {
    let runs = jobs::runs(view, job.at())?;
    Ok(runs.iter().rev().find(|run| run.started_at.is_some()).map_or(job.run, |run| run.run))
}

/// What the store has of a run's log behind so many lines.
fn stored(view: &dyn Snapshot, at: JobRef, run: RunNumber, from: u64) -> Result<Vec<Piece>, StoreError> {
    match view.read(&Query::RunLog(RunRef { at, run }))? {
        Answer::RunLog(None) => Ok(Vec::new()),
        Answer::RunLog(Some(bytes)) => run_logs::decode(run.0, &bytes, from)
            .ok_or_else(|| StoreError::Contradiction(format!("the log of run {run} of job {} is no log", at.job))),
        _ => unreachable!("a log is answered with a log"),
    }
}

fn lines(pieces: &[Piece]) -> String {
    let line = |piece: &Piece| serde_json::to_string(piece).expect("text and numbers are JSON") + "\n";
    pieces.iter().map(line).collect()
}

/// Someone who follows a run.
struct Reader {
    app: Arc<App>,
    at: JobRef,
    run: Option<RunNumber>,
    pages: mpsc::Sender<Bytes>,
}

/// What a reader waits for.
enum Waited {
    News,
    /// The reader is gone, or too slow, or the server stops.
    Over,
}

impl Reader {
    async fn follow(self, live: &Live) -> Result<(), StoreError> {
        match self.find(live).await? {
            Some((run, streams)) => self.follow_run(run, &streams).await,
            None => Ok(()),
        }
    }

    /// Waits for the run; none: it has ended, and all was told, or there is nobody or nothing to tell any more.
    async fn find(&self, live: &Live) -> Result<Option<(RunNumber, Streams)>, StoreError> {
        let waiting = live.wait();
        let mut log = self.app.store.board().log();
        loop {
            // Marked as seen before it is looked at: what comes in between wakes at once.
            log.borrow_and_update();
            let mut entered = pin!(waiting.entered());
            entered.as_mut().enable();
            let found = live.run(self.at).filter(|(run, _)| self.run.is_none_or(|wanted| wanted == *run));
            if let Some(found) = found.filter(|(_, streams)| !streams.is_recorded()) {
                return Ok(Some(found));
            }
            if let Some(all) = self.told_by_now()? {
                self.send(lines(&all)).await;
                return Ok(None);
            }
            let news = async {
                tokio::select! {
                    () = entered => {}
                    _ = log.changed() => {}
                }
            };
            if let Waited::Over = self.wait(news).await {
                return Ok(None);
            }
        }
    }

    /// What there is of a run that does not go on; none: it may still begin.
    fn told_by_now(&self) -> Result<Option<Vec<Piece>>, StoreError> {
        let view = self.app.store.snapshot()?;
        let Some(job) = jobs::job(view.as_ref(), self.at)? else { return Ok(Some(Vec::new())) };
        let past = self.run.is_some_and(|run| job.run > run || (job.run == run && job.lease().is_none()));
        let over = past || job.state.name().is_final();
        over.then(|| now(&self.app, view.as_ref(), &job, self.run)).transpose()
    }

    async fn follow_run(&self, run: RunNumber, streams: &Streams) -> Result<(), StoreError> {
        let mut told = 0;
        loop {
            let mut news = pin!(streams.news());
            news.as_mut().enable();
            if streams.is_recorded() {
                let pieces = stored(self.app.store.snapshot()?.as_ref(), self.at, run, told)?;
                self.send(lines(&pieces)).await;
                return Ok(());
            }
            let (pieces, written) = run_logs::since(run.0, &streams.so_far().0, told);
            // A run that has ended and is not recorded yet has nothing to say any more.
            told = told.max(written);
            if !pieces.is_empty() && !self.send(lines(&pieces)).await {
                return Ok(());
            }
            if let Waited::Over = self.wait(news).await {
                return Ok(());
            }
        }
    }

    /// Waits for news, and a little longer for those that follow.
    async fn wait(&self, news: impl Future<Output = ()>) -> Waited {
        let mut ending = self.app.ending.subscribe();
        let mut news = pin!(news);
        loop {
            tokio::select! {
                () = &mut news => {
                    tokio::time::sleep(GATHERED_FOR).await;
                    return Waited::News;
                }
                () = self.pages.closed() => return Waited::Over,
                () = async { drop(ending.wait_for(|ending| *ending).await) } => return Waited::Over,
                () = tokio::time::sleep(ALIVE_EVERY) => {
                    if !self.send("\n".to_owned()).await {
                        return Waited::Over;
                    }
                }
            }
        }
    }

    /// Whether the reader took it in time.
    async fn send(&self, text: String) -> bool {
        matches!(tokio::time::timeout(TAKEN_WITHIN, self.pages.send(Bytes::from(text))).await, Ok(Ok(())))
    }
}

/// How far a run is that goes on, as it said last.
pub(super) fn progress(app: &App, job: &Job) -> Option<(u8, String)> {
    if job.state.name() != StateName::Running {
        return None;
    }
    let (run, streams) = app.starter.as_ref()?.live().run(job.at())?;
    if run == job.run { streams.so_far().1 } else { None }
}
