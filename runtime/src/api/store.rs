//! The store as a file, while it is in use: `GET /v1/store/stats` measures it, `GET /v1/store/check` compares everything in it
//! with everything else, `POST /v1/store/backup` copies it.
//!
//! Each reads the whole file, so there is one of each at a time. A backup goes to a path on the server's own disk, and so is
//! only for an admin, and never for whom `--insecure-no-auth` lets in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use runner_store::Handle;
use runner_store::check::Report;
use runner_store::command::Command;
use runner_store::dir::{BackedUp, LiveStore, Stats};
use runner_store::disk::Room;
use runner_store::error::StoreError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::App;
use super::access::{By, Caller};
use super::body;
use super::error::Problem;
use super::params::Params;
use super::read::Object;

/// The files of the store, if it has any, and who reads all of them just now.
pub(super) struct Files {
    live: Option<LiveStore>,
    backups: Semaphore,
    stats: Semaphore,
    checks: Semaphore,
}

impl Files {
    pub(super) fn new(live: Option<LiveStore>) -> Self {
        Self { live, backups: Semaphore::new(1), stats: Semaphore::new(1), checks: Semaphore::new(1) }
    }

    /// How large the store's file is, if it has one.
    pub(super) fn file_bytes(&self) -> Option<u64> {
        self.live.as_ref()?.dir().file_bytes().ok()
    }

    /// Measures the store, if it has a file and that is not being done for somebody else.
    pub(super) async fn measure(&self) -> Option<Stats> {
        let live = self.live.clone()?;
        let _turn = self.stats.try_acquire().ok()?;
        in_background(move || live.stats()).await.ok()?.ok()
    }

    fn live(&self) -> Result<LiveStore, Problem> {
        let no_file = || Problem::new(StatusCode::CONFLICT, "in_memory", "the store is in memory and has no file");
        self.live.clone().ok_or_else(no_file)
    }
}

/// What is in a store, and how much room there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "StoreStats")]
pub struct StatsShown {
    /// The store's id, in hexadecimal; the same for its backups.
    pub id: String,
    /// The schema of its file.
    pub schema: u32,
    /// How often it was restored, plus one.
    pub epoch: u64,
    /// Whether all queues wait for an operator.
    pub paused: bool,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of everything that is kept.
    pub live_bytes: u64,
    /// Bytes of the file that are written again before it grows.
    pub free_bytes: u64,
    /// Bytes that pages in use have left.
    pub fragmented_bytes: u64,
    /// Batches that were committed since the store was opened.
    pub commits: u64,
    /// Views of the store that are open now.
    pub readers: u64,
    /// For how many milliseconds the oldest of them has been: it keeps old pages in the file.
    pub oldest_reader_ms: u64,
    /// Jobs that listen to an event and were not enqueued for it since the store was opened, as more than 20 in a row would
    /// have followed from each other.
    #[serde(default)]
    pub listeners_too_deep: u64,
    /// Jobs that listen and were not enqueued since then, as their tenant or queue had no room for them.
    #[serde(default)]
    pub listeners_without_room: u64,
    /// By how many milliseconds the wall clock has stepped, while expiry, retention and forgetting wait because of it.
    pub clock_step_ms: Option<i64>,
    /// The oldest number that the log still has.
    pub oldest_event: Option<u64>,
    /// The newest.
    pub newest_event: Option<u64>,
    /// The disk under it.
    pub disk: DiskShown,
    /// Every table.
    pub tables: Vec<TableShown>,
}

/// The disk under a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "StoreDisk")]
pub struct DiskShown {
    /// Bytes that may still be written.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that are kept free.
    pub reserve_bytes: u64,
    /// `plenty`, `low` or `critical`: what the room allows.
    pub room: String,
}

/// One table of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "StoreTable")]
pub struct TableShown {
    /// Its name.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// What a check of the store found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "StoreCheck")]
pub struct CheckShown {
    /// Whether nothing is wrong.
    pub clean: bool,
    /// Jobs that were looked at, of all tenants.
    pub jobs: u64,
    /// Events that were looked at.
    pub events: u64,
    /// Jobs whose whole history was in the log and was folded.
    pub folded: u64,
    /// How many things are wrong.
    pub wrong: u64,
    /// The first hundred of them.
    pub findings: Vec<String>,
    /// Whether the checksum of every page was verified as well, which alone shows damage within args and outputs. It needs
    /// the file alone: a server never does it, `runner store check` does where none runs.
    pub pages_verified: bool,
}

/// A backup that is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "BackupMade")]
pub struct BackupShown {
    /// Where it is, on the server's disk.
    pub path: String,
    /// Its jobs.
    pub jobs: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// By how much the store's file grew while it was copied.
    pub grown_bytes: u64,
    /// Names of tables that are not in it: another program keeps them in the same file.
    pub others: Vec<String>,
}

impl StatsShown {
    fn new(stats: &Stats, store: &Handle) -> Self {
        let activity = store.activity();
        let room = match stats.room {
            Room::Plenty => "plenty",
            Room::Low => "low",
            Room::Critical => "critical",
        };
        let tables = stats.file.tables.iter().map(|table| TableShown {
            table: table.name.to_owned(),
            rows: table.rows,
            bytes: table.stored_bytes,
        });
        Self {
            id: format!("{:016x}", stats.marker.id),
            schema: stats.file.meta.schema,
            epoch: stats.file.meta.epoch,
            paused: stats.file.meta.paused,
            file_bytes: stats.file_bytes,
            live_bytes: stats.file.live_bytes(),
            free_bytes: stats.free_bytes,
            fragmented_bytes: stats.file.fragmented_bytes(),
            commits: activity.commits,
            readers: activity.readers as u64,
            oldest_reader_ms: activity.oldest_reader.0,
            listeners_too_deep: store.listeners_too_deep(),
            listeners_without_room: store.listeners_without_room(),
            clock_step_ms: store.clock_step(),
            oldest_event: stats.file.oldest_event.map(|seq| seq.0),
            newest_event: stats.file.newest_event.map(|seq| seq.0),
            disk: DiskShown {
                free_bytes: stats.disk.free_bytes,
                total_bytes: stats.disk.total_bytes,
                reserve_bytes: stats.reserve_bytes,
                room: room.to_owned(),
            },
            tables: tables.collect(),
        }
    }
}

impl CheckShown {
    /// What there is to say of a report.
    #[must_use]
    pub fn new(report: Report, pages_verified: bool) -> Self {
        let clean = report.is_clean();
        let Report { jobs, events, folded, findings, wrong } = report;
        Self { clean, jobs, events, folded, wrong, findings, pages_verified }
    }
}

impl From<BackedUp> for BackupShown {
    fn from(made: BackedUp) -> Self {
        let BackedUp { path, jobs, rows, bytes, grown_bytes, others } = made;
        Self { path: path.display().to_string(), jobs, rows, bytes, grown_bytes, others }
    }
}

/// `GET /v1/store/stats`.
pub async fn stats(State(app): State<Arc<App>>, params: Params) -> Result<Json<StatsShown>, Problem> {
    params.finish()?;
    let live = app.files.live()?;
    let _turn = turn(&app.files.stats)?;
    let stats = in_background(move || live.stats()).await??;
    Ok(Json(StatsShown::new(&stats, &app.store)))
}

/// `GET /v1/store/check`: on a view of the store, so that the writer goes on; its file grows by what is written meanwhile.
/// Ends early when whoever asked goes away or the store fails.
pub async fn check(State(app): State<Arc<App>>, params: Params) -> Result<Json<CheckShown>, Problem> {
    params.finish()?;
    let live = app.files.live()?;
    let _turn = turn(&app.files.checks)?;
    let (_asker, go_on) = asker(&app);
    let report = in_background(move || live.check(&go_on)).await?.map_err(|error| match error {
        StoreError::Stopped(_) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopped", "the store has stopped meanwhile")
        }
        error => error.into(),
    })?;
    if !report.is_clean() {
        tracing::error!(wrong = report.wrong, first = report.findings.first(), "a check found the store damaged");
    }
    Ok(Json(CheckShown::new(report, false)))
}

/// `POST /v1/store/accept-clock`: the wall clock is right; what waited since it stepped goes on.
pub async fn accept_clock(State(app): State<Arc<App>>, params: Params) -> Result<StatusCode, Problem> {
    params.finish()?;
    app.store.accept_clock();
    // The writer looks at it with its next batch, which this is.
    app.call(Command::Due).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/store/backup` with `{"path": "/…"}`: answers when the backup is complete, checked and durable. Ends early, and
/// leaves nothing, when whoever asked goes away or the store fails.
pub async fn backup(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<BackupShown>), Problem> {
    params.finish()?;
    if matches!(caller.by, By::Anyone) {
        let detail = "a backup writes to the server's disk: ask for it on that machine, over its unix socket, or with an admin's token";
        return Err(Problem::new(StatusCode::FORBIDDEN, "not_allowed", detail));
    }
    let path = path(&app, &headers, body).await?;
    let live = app.files.live()?;
    let _turn = turn(&app.files.backups)?;
    let (asker, go_on) = asker(&app);
    let made = in_background(move || live.backup(&path, &go_on)).await?;
    drop(asker);
    Ok((StatusCode::CREATED, Json(made.map_err(problem)?.into())))
}

/// Whoever asked: once it is gone, nobody wants the answer.
#[derive(Default)]
struct Asker(Arc<AtomicBool>);

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Who asks, and whether to go on: for as long as somebody does, and the store works.
fn asker(app: &App) -> (Asker, impl Fn() -> bool + Send + 'static) {
    let asker = Asker::default();
    let (gone, store) = (Arc::clone(&asker.0), app.store.clone());
    (asker, move || !gone.load(Ordering::SeqCst) && store.failure().is_none())
}

async fn path(app: &App, headers: &HeaderMap, body: Body) -> Result<PathBuf, Problem> {
    let text = body::json(&app.bodies, headers, body).await?;
    let mut object = Object::read(&text, body::parse(&text)?)?;
    let path = object.take("path").map(|value| value.str()).transpose()?;
    object.finish()?;
    let path =
        path.ok_or_else(|| Problem::invalid("path", "is missing: where on the server's disk the backup goes"))?;
    if !Path::new(&path).is_absolute() {
        let why = format!("{path:?} must begin with /: the server's folder is not the caller's");
        return Err(Problem::invalid("path", why));
    }
    Ok(PathBuf::from(path))
}

/// Whoever reads the whole file alone; others are told to come back, as they would only make both slower.
fn turn(places: &Semaphore) -> Result<SemaphorePermit<'_>, Problem> {
    let detail = "the same is being done for somebody else; nothing happened: try again when that is done";
    places.try_acquire().map_err(|_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail))
}

async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let failed = |error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("a bug: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

/// What stood in the way of a backup is mostly its destination, and no reason to doubt the store.
fn problem(error: StoreError) -> Problem {
    let text = error.to_string();
    let (status, code) = match &error {
        StoreError::Exists { .. } => (StatusCode::CONFLICT, "exists"),
        StoreError::InUse(_) => {
            let detail = "another backup to this path is being made; wait for its end, or choose another path";
            return Problem::new(StatusCode::CONFLICT, "in_use", detail);
        }
        StoreError::Foreign { .. } => return Problem::invalid("path", text),
        StoreError::Stopped(_) => (StatusCode::SERVICE_UNAVAILABLE, "stopped"),
        StoreError::Io { source, .. } => match source.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                (StatusCode::FORBIDDEN, "not_allowed")
            }
            std::io::ErrorKind::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, "disk_full"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "backup_failed"),
        },
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "backup_failed"),
    };
    tracing::warn!(%error, "a backup was not made");
    Problem::new(status, code, format!("the backup was not made: {text}"))
}
