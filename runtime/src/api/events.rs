//! `GET /v1/events`: what happens to jobs, as it happens, as text/event-stream.
//!
//! The log is read in pages and followed by its number, never polled. Each event has its number as id, so that a reader
//! who broke off goes on with `Last-Event-ID`; one who is behind the log's beginning gets 410 and the oldest number. A
//! reader who takes nothing for a while is cut: only a few pages wait for each.

mod tail;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use runner_store::codec;
use runner_store::command::{Answer, Events, Query};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::job::{EventName, JobId, JobRef, KindId, QueueId, Seq, StateName, TenantId};
use runner_store::log::LogEntry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use self::tail::Follower;
pub(super) use self::tail::Tail;
use super::App;
use super::error::Problem;
use super::jobs;
use super::openapi::words::{EventWord, StateWord};
use super::params::{self, Params};
use super::tenant::Whose;
use super::time::rfc3339;
use super::told::Told;

/// Events that are read at once.
const PAGE_EVENTS: u32 = 500;
/// Pages that wait for one reader.
const PAGES_MAX: usize = 4;
/// Views of the log at once: one of whoever reads for all that follow, the others of those that are behind. Without a bound a
/// thousand readers, each with a view and a thread of its own, left the store no time to commit anything.
pub const VIEWS_MAX: usize = 2;
/// Readers that are behind, at once.
pub(super) const BEHIND_AT_ONCE: usize = VIEWS_MAX - 1;
/// Behind a page, so many readers that are behind rest for so often the time that it took, while none of them reads: few
/// readers go on at once, many together take a tenth of a core.
const RESTS_MAX: u32 = 9;
/// How long a reader may take nothing before it is cut.
const TAKEN_WITHIN: Duration = Duration::from_secs(20);
/// How often a reader is told that there is nothing to tell: so both sides notice when the other is gone.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// The header of a reader that goes on.
const LAST_EVENT_ID: &str = "Last-Event-ID";
/// The parameter of a reader that begins.
const SINCE: &str = "since";

/// One event as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Event")]
pub struct EventShown {
    /// Its place in the log.
    pub seq: u64,
    /// When it happened.
    pub at: String,
    /// What.
    #[schemars(with = "EventWord")]
    pub event: EventName,
    /// To which job.
    pub job: String,
    /// The job's state afterwards; none: it is gone.
    #[schemars(with = "Option<StateWord>")]
    pub state: Option<StateName>,
    /// The job's latest run at that time; 0 before the first.
    pub run: u32,
    /// What the job does; none: the job is gone by now, and its first event was not read just before.
    pub kind: Option<String>,
    /// The line it stands in.
    pub queue: Option<String>,
}

/// Which events.
struct Wanted {
    tenant: TenantId,
    job: Option<JobId>,
    state: Option<StateName>,
    kind: Option<String>,
    queue: Option<String>,
    /// Whether to go on when all are told.
    follow: bool,
}

impl Wanted {
    /// As far as the log says it.
    fn may_be(&self, entry: &LogEntry) -> bool {
        self.tenant == entry.job.tenant
            && self.job.is_none_or(|job| job == entry.job.job)
            && self.state.is_none_or(|state| Some(state) == entry.state)
    }

    fn is(&self, event: &Happened) -> bool {
        let fits = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
        self.may_be(&event.entry) && fits(&self.kind, event.kind()) && fits(&self.queue, event.queue())
    }
}

/// Where a reader begins.
enum Since {
    Oldest,
    Now,
    After(u64),
}

/// See the module. `since` is the number behind which to begin, or `now`; without one the oldest event is the first.
/// `follow=false` ends with the newest.
pub async fn get(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = params.take_as(SINCE, parse_since)?;
    let job =
        params.take_as("job", |text| text.parse().map(JobId).map_err(|_| "must be the id of a job".to_owned()))?;
    let state = params.take_as("state", params::state)?;
    let (kind, queue) = (params.take("kind")?, params.take("queue")?);
    let parse = |text: &str| text.parse::<bool>().map_err(|_| "must be true or false".to_owned());
    let follow = params.take_as("follow", parse)?.unwrap_or(true);
    params.finish()?;
    // A browser that reconnects repeats the URL of its first call: what it has seen since counts.
    let (since, said_by) = match last(&headers)? {
        Some(last) => (last, LAST_EVENT_ID),
        None => (asked.unwrap_or(Since::Oldest), SINCE),
    };
    let first = first(app.store.snapshot()?.as_ref(), &since, said_by)?;
    let (pages, taken) = mpsc::channel(PAGES_MAX);
    let mut task = JoinSet::new();
    task.spawn(tell(Arc::clone(&app), first, Wanted { tenant, job, state, kind, queue, follow }, pages));
    let body = Body::new(Told::new(taken, task));
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], body).into_response())
}

/// Behind which event a reader goes on; none: it begins.
fn last(headers: &HeaderMap) -> Result<Option<Since>, Problem> {
    let mut values = headers.get_all(LAST_EVENT_ID).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid(LAST_EVENT_ID, "is given twice; keep one"));
    }
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    let wrong = || Problem::invalid(LAST_EVENT_ID, "must be the number of an event");
    number.map(Since::After).ok_or_else(wrong).map(Some)
}

fn parse_since(text: &str) -> Result<Since, String> {
    match text {
        "now" => Ok(Since::Now),
        number => number.parse().map(Since::After).map_err(|_| "must be the number of an event, or `now`".to_owned()),
    }
}

/// The number of the first event to be told; `said_by` is the header or the parameter that says where to begin.
fn first(view: &dyn Snapshot, since: &Since, said_by: &str) -> Result<Seq, Problem> {
    let Events { oldest, next, restored, .. } = events(view, Seq(u64::MAX), 0)?;
    let oldest = oldest.max(restored);
    let gone = |code: &str, why: String| {
        let detail = format!("{why}; the oldest that can be read is {oldest}: begin there, or with `since=now`");
        Problem { oldest: Some(oldest.0), ..Problem::new(StatusCode::GONE, code, detail) }
    };
    match since {
        Since::Oldest => Ok(oldest),
        Since::Now => Ok(next),
        Since::After(after) if *after >= next.0 => {
            let why = format!("is beyond the newest event, which is {}", next.0 - 1);
            Err(Problem::invalid(said_by, why))
        }
        Since::After(after) if after + 1 < restored.0 => Err(gone(
            "log_restored",
            "the store was restored, and events up to this one are of another history".to_owned(),
        )),
        Since::After(after) if after + 1 < oldest.0 => {
            Err(gone("log_trimmed", format!("the log does not reach back to event {}", after + 1)))
        }
        Since::After(after) => Ok(Seq(after + 1)),
    }
}

fn events(view: &dyn Snapshot, since: Seq, limit: u32) -> Result<Events, StoreError> {
    match view.read(&Query::Events { since, limit })? {
        Answer::Events(events) => Ok(events),
        _ => unreachable!("events are answered with events"),
    }
}

/// Tells events until the reader is gone or too slow, or all are told and nobody follows.
async fn tell(app: Arc<App>, mut next: Seq, wanted: Wanted, pages: mpsc::Sender<Bytes>) {
    let (mut log, mut ending) = (app.store.board().log(), app.ending.subscribe());
    let follower = wanted.follow.then(|| Follower::new(&app));
    let wanted = Arc::new(wanted);
    loop {
        // Marked as seen before it is read: what comes in between wakes at once.
        let newest = *log.borrow_and_update();
        let shared = match &follower {
            Some(follower) => follower.read(next, newest, &wanted).await,
            None => Ok(None),
        };
        let read = match shared {
            Ok(None) => behind(&app, next, &wanted).await,
            Ok(Some(page)) => Ok(page),
            Err(error) => Err(error),
        };
        let Page { text, after, end } = match read {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "a reader of events is cut: the log cannot be read");
                return;
            }
        };
        next = after;
        let rest = follower.as_ref().and_then(|follower| follower.rest(text.len()));
        if !text.is_empty() && !sent(&pages, text, TAKEN_WITHIN).await {
            return;
        }
        match end {
            End::More | End::Newest if pages.is_closed() => return,
            End::More if wanted.follow && *ending.borrow() => return,
            End::More => rest_for(rest, &mut ending, &pages).await,
            End::Lost => return,
            End::Newest if !wanted.follow => return,
            End::Newest => {
                rest_for(rest, &mut ending, &pages).await;
                if !something_new(&mut log, &mut ending, &pages).await {
                    return;
                }
            }
        }
    }
}

/// Rests, unless there is a reason to end.
async fn rest_for(rest: Option<Duration>, ending: &mut watch::Receiver<bool>, pages: &mpsc::Sender<Bytes>) {
    let Some(rest) = rest else { return };
    tokio::select! {
        () = tokio::time::sleep(rest) => {}
        () = pages.closed() => {}
        () = async { drop(ending.wait_for(|ending| *ending).await) } => {}
    }
}

/// Waits until the log has gone on; false: there is nobody to be told, or nothing more to come.
async fn something_new(
    log: &mut watch::Receiver<Seq>,
    ending: &mut watch::Receiver<bool>,
    pages: &mpsc::Sender<Bytes>,
) -> bool {
    loop {
        tokio::select! {
            changed = log.changed() => return changed.is_ok(),
            () = pages.closed() => return false,
            () = async { drop(ending.wait_for(|ending| *ending).await) } => return false,
            () = tokio::time::sleep(ALIVE_EVERY) => {
                if !sent(pages, Bytes::from_static(b":\n\n"), TAKEN_WITHIN).await {
                    return false;
                }
            }
        }
    }
}

/// Whether the reader took it in time.
async fn sent(pages: &mpsc::Sender<Bytes>, text: Bytes, within: Duration) -> bool {
    matches!(tokio::time::timeout(within, pages.send(text)).await, Ok(Ok(())))
}

/// A page of the log itself, in turn: whoever waits longer finds more, and reads it in one page.
async fn behind(app: &Arc<App>, next: Seq, wanted: &Arc<Wanted>) -> Result<Page, StoreError> {
    let waiting = Waiting::new(app);
    let Ok(_turn) = app.behind.turns.acquire().await else { return Ok(Page::lost(next)) };
    let (for_reader, filter) = (Arc::clone(app), Arc::clone(wanted));
    let begun = Instant::now();
    let read = tokio::task::spawn_blocking(move || page(&for_reader, next, &filter)).await;
    let others = waiting.others().min(RESTS_MAX);
    if others > 0 {
        tokio::time::sleep(begun.elapsed() * others).await;
    }
    // A panic is a bug, and was reported.
    read.unwrap_or_else(|_| Ok(Page::lost(next)))
}

/// The turns of readers that are behind.
#[derive(Debug)]
pub(super) struct Behind {
    turns: Semaphore,
    waiting: AtomicU32,
}

impl Default for Behind {
    fn default() -> Self {
        Self { turns: Semaphore::new(BEHIND_AT_ONCE), waiting: AtomicU32::new(0) }
    }
}

/// One of those that read, or wait for their turn.
struct Waiting<'a>(&'a Behind);

impl<'a> Waiting<'a> {
    fn new(app: &'a App) -> Self {
        app.behind.waiting.fetch_add(1, Ordering::Relaxed);
        Self(&app.behind)
    }

    fn others(&self) -> u32 {
        self.0.waiting.load(Ordering::Relaxed).saturating_sub(1)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A page of events as text.
struct Page {
    text: Bytes,
    /// Where the next one begins.
    after: Seq,
    end: End,
}

impl Page {
    /// Nothing, and nothing more.
    fn lost(after: Seq) -> Self {
        Self { text: Bytes::new(), after, end: End::Lost }
    }
}

/// What follows a page.
enum End {
    /// There are more.
    More,
    /// That was the newest.
    Newest,
    /// The log was trimmed faster than the reader took it.
    Lost,
}

fn page(app: &App, since: Seq, wanted: &Wanted) -> Result<Page, StoreError> {
    let view = app.store.snapshot()?;
    let Events { entries, oldest, next, .. } = events(view.as_ref(), since, PAGE_EVENTS)?;
    if since < oldest && since < next {
        let text = format!("event: log_trimmed\ndata: {{\"oldest\":{oldest}}}\n\n");
        return Ok(Page { text: text.into(), after: since, end: End::Lost });
    }
    let after = entries.last().map_or(since, |last| Seq(last.seq.0 + 1));
    let end = if entries.len() < PAGE_EVENTS as usize { End::Newest } else { End::More };
    let mut names = Names::new(app, view.as_ref());
    let mut text = String::new();
    for entry in entries.into_iter().filter(|entry| wanted.may_be(entry)) {
        let event = names.of(entry)?;
        if wanted.is(&event) {
            line(&mut text, &event);
        }
    }
    Ok(Page { text: text.into(), after, end })
}

/// Adds an event as it is told.
fn line(text: &mut String, event: &Happened) {
    let data = serde_json::to_string(&event.shown()).expect("an event has only text as keys, so it is JSON");
    let Happened { entry, .. } = event;
    let told = write!(text, "id: {}\nevent: {}\ndata: {data}\n\n", entry.seq, entry.event.as_str());
    told.expect("a string takes everything");
}

/// An event, and what its job is called.
#[derive(Debug)]
struct Happened {
    /// Without what it changed.
    entry: LogEntry,
    /// None: the job is gone.
    lane: Option<Lane>,
}

/// The words for a queue and a kind.
type Lane = (Arc<str>, Arc<str>);

impl Happened {
    fn kind(&self) -> Option<&str> {
        self.lane.as_ref().map(|(_, kind)| &**kind)
    }

    fn queue(&self) -> Option<&str> {
        self.lane.as_ref().map(|(queue, _)| &**queue)
    }

    fn shown(&self) -> EventShown {
        let Self { entry, .. } = self;
        EventShown {
            seq: entry.seq.0,
            at: rfc3339(entry.at),
            event: entry.event,
            job: entry.job.job.to_string(),
            state: entry.state,
            run: entry.run.0,
            kind: self.kind().map(str::to_owned),
            queue: self.queue().map(str::to_owned),
        }
    }
}

/// What the jobs of a page are called. A job's first event says of what it is; to the others its row is looked up.
struct Names<'a> {
    app: &'a App,
    view: &'a dyn Snapshot,
    jobs: HashMap<JobRef, Option<Lane>>,
    words: HashMap<(QueueId, KindId), Lane>,
}

impl<'a> Names<'a> {
    fn new(app: &'a App, view: &'a dyn Snapshot) -> Self {
        Self { app, view, jobs: HashMap::new(), words: HashMap::new() }
    }

    fn of(&mut self, mut entry: LogEntry) -> Result<Happened, StoreError> {
        let first = codec::lane_of(&mem::take(&mut entry.delta));
        let lane = match (first, self.jobs.get(&entry.job)) {
            (None, Some(known)) => known.clone(),
            (first, _) => {
                let of = match first {
                    Some(of) => Some(of),
                    None => jobs::job(self.view, entry.job)?.map(|job| (job.queue, job.kind)),
                };
                let lane = of.map(|of| self.words(of));
                self.jobs.insert(entry.job, lane.clone());
                lane
            }
        };
        Ok(Happened { entry, lane })
    }

    /// The words for all queues and kinds that were found.
    fn seen(self) -> (HashSet<Arc<str>>, HashSet<Arc<str>>) {
        self.words.into_values().unzip()
    }

    fn words(&mut self, of: (QueueId, KindId)) -> Lane {
        let store = &self.app.store;
        let words = self.words.entry(of).or_insert_with(|| (store.queue_name(of.0), store.kind_name(of.1)));
        words.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_cut() {
        let (pages, mut taken) = mpsc::channel(1);
        assert!(sent(&pages, "a".into(), Duration::from_secs(60)).await);
        assert!(!sent(&pages, "b".into(), Duration::ZERO).await, "nothing was taken, and there is no room");
        taken.recv().await;
        assert!(sent(&pages, "c".into(), Duration::from_secs(60)).await);
    }
}
