//! Keeps the [`Catalog`] as the plugin folder is.
//!
//! One task owns what is known of the folder. It looks when the system tells of a change, when somebody asks ([`Reload`])
//! and every half minute; it compiles one plugin at a time, on a thread that may be busy with it for minutes, and goes on
//! looking meanwhile. Each plugin that is ready takes its place at once; a new version that is broken takes none.
//!
//! What it deliberately does not do: it starts and ends no run. Whoever runs jobs follows the catalog.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runner_store::clock::Clock;
use runner_store::job::{Millis, Time};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::catalog::{Catalog, Loading, LoadingState, Serving};
use super::compile::Stop;
use super::folder::deploy::Deploy;
use super::folder::{FolderError, Look, Made, Place, Registry, Report, Shelf, make};
use super::plugin::Plugin;
use super::spawn::Host;
use super::watch::Watch;

/// A change often comes with others: copying a plugin and its manifest is a dozen. They are looked at together once it has
/// been quiet for so long …
const QUIET: Duration = Duration::from_millis(100);
/// … or at the latest after this.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);
/// What changed while it was read is read again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(300);
/// How often it is looked where the system tells nothing.
const ROUND: Duration = Duration::from_secs(30);
/// Those who have asked and wait, at most; others are told to come again.
const ASKERS_MAX: usize = 64;

/// Whether a tenant of this name is known.
pub type IsTenant = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A loader that runs.
#[derive(Debug)]
pub struct Loader {
    catalog: Arc<Catalog>,
    reload: Reload,
    idle: watch::Receiver<bool>,
    stop: Stop,
    deploy: Deploy,
    task: JoinHandle<()>,
}

/// Asks a loader to look at its folder.
#[derive(Debug, Clone)]
pub struct Reload(mpsc::Sender<Asker>);

/// Why nothing was looked at.
#[derive(Debug, thiserror::Error)]
pub enum NotReloaded {
    /// As many as may have asked already.
    #[error("others have asked for the same and wait; nothing happened: try again in a second")]
    Busy,
    /// The node stops.
    #[error("the node stops")]
    Stopped,
    /// The folder cannot be used. What serves, serves on.
    #[error("{0}; what was loaded serves on")]
    Folder(String),
}

/// Whoever wants to know when it was looked.
type Asker = oneshot::Sender<Result<(), String>>;

struct Folder {
    host: Arc<Host>,
    path: PathBuf,
    is_tenant: IsTenant,
    catalog: Arc<Catalog>,
    watch: Watch,
    /// Held while it is looked, on another thread, for which this one waits.
    shelf: Arc<Mutex<Shelf>>,
    compiling: Option<(Place, Time, JoinHandle<Made>)>,
    stop: Stop,
    /// Why the folder could not be used when it was last looked.
    unusable: Option<String>,
    /// What was logged, so that each report is logged once.
    reported: BTreeSet<(PathBuf, String)>,
    idle: watch::Sender<bool>,
}

impl Loader {
    /// Looks at a folder once and loads what was compiled before, then goes on with the rest by itself.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub async fn start(host: Arc<Host>, folder: &Path, is_tenant: IsTenant) -> Result<Self, FolderError> {
        let (catalog, stop) = (Catalog::new(Serving::default()), Stop::default());
        let (idle, is_idle) = watch::channel(false);
        let shelf = Arc::<Mutex<Shelf>>::default();
        let deploy = Deploy::new(Arc::clone(&host), folder, Arc::clone(&shelf), stop.clone());
        let mut folder = Folder {
            host,
            path: folder.to_owned(),
            is_tenant,
            catalog: Arc::clone(&catalog),
            watch: Watch::new(),
            shelf,
            compiling: None,
            stop: stop.clone(),
            unusable: None,
            reported: BTreeSet::new(),
            idle,
        };
        let again = folder.look(Look::AtAll).await?;
        folder.go_on();
        let (ask, asked) = mpsc::channel(ASKERS_MAX);
        let task = tokio::spawn(folder.follow(asked, again));
        Ok(Self { catalog, reload: Reload(ask), idle: is_idle, stop, deploy, task })
    }

    /// What it keeps.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog)
    }

    /// A way to ask it to look.
    #[must_use]
    pub fn reload(&self) -> Reload {
        self.reload.clone()
    }

    /// A way to put plugins into its folder.
    #[must_use]
    pub fn deploy(&self) -> Deploy {
        self.deploy.clone()
    }

    /// Waits until nothing is left to be compiled that may be now.
    pub async fn settled(&self) {
        // An end of the loader settles it, too.
        _ = self.idle.clone().wait_for(|idle| *idle).await;
    }

    /// Ends what is being compiled, and the loader.
    pub async fn stop(self) {
        let Self { reload, stop, task, deploy, .. } = self;
        stop.set();
        drop((reload, deploy));
        task.abort();
        // Aborted, which is no news.
        _ = task.await;
    }
}

impl Reload {
    /// Looks at all files, and tries again what went wrong. When this returns, everything that had been compiled before is
    /// loaded, and the rest is in line.
    ///
    /// # Errors
    /// It was not looked at.
    pub async fn now(&self) -> Result<(), NotReloaded> {
        let (asker, answer) = oneshot::channel();
        self.0.try_send(asker).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotReloaded::Busy,
            mpsc::error::TrySendError::Closed(_) => NotReloaded::Stopped,
        })?;
        match answer.await {
            Ok(looked) => looked.map_err(NotReloaded::Folder),
            Err(_) => Err(NotReloaded::Stopped),
        }
    }
}

impl Folder {
    /// Follows the folder until the task is aborted.
    async fn follow(mut self, mut asked: mpsc::Receiver<Asker>, again: bool) {
        let after = |again| Instant::now() + if again { AGAIN_AFTER } else { ROUND };
        let mut round = after(again);
        loop {
            let share_at = self.share_at();
            let mut askers = Vec::new();
            let how = tokio::select! {
                () = self.watch.changed() => {
                    self.wait_for_quiet().await;
                    Look::AtChanges
                }
                Some(asker) = asked.recv() => {
                    askers.push(asker);
                    Look::AtAll
                }
                made = made(&mut self.compiling) => {
                    self.put(made);
                    self.go_on();
                    continue;
                }
                () = sleep_until(share_at) => {
                    self.go_on();
                    continue;
                }
                () = tokio::time::sleep_until(round) => Look::AtChanges,
            };
            // All who have asked by now; who comes while it is looked gets another look.
            while how == Look::AtAll
                && askers.len() < ASKERS_MAX
                && let Ok(asker) = asked.try_recv()
            {
                askers.push(asker);
            }
            let looked = self.look(how).await;
            self.go_on();
            round = after(matches!(looked, Ok(true)));
            let looked = looked.map(drop).map_err(|error| error.to_string());
            // Whoever went away needs no answer.
            askers.into_iter().for_each(|asker| drop(asker.send(looked.clone())));
        }
    }

    async fn wait_for_quiet(&mut self) {
        let latest = Instant::now() + NOTICED_WITHIN;
        while Instant::now() < latest {
            if tokio::time::timeout(QUIET, self.watch.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Looks at the folder, on another thread. Whether it should be looked at again soon.
    async fn look(&mut self, how: Look) -> Result<bool, FolderError> {
        let (host, path, is_tenant) = (Arc::clone(&self.host), self.path.clone(), Arc::clone(&self.is_tenant));
        let (shelf, follower) = (Arc::clone(&self.shelf), self.watch.follower());
        let looking = tokio::task::spawn_blocking(move || {
            // First: what changes from now on is either seen or told.
            follower.follow(&path);
            lock(&shelf).look(&host, &path, &*is_tenant, how)
        });
        let looked = looking.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a look at the plugins failed, which is a bug; those that are loaded serve on");
            Ok(false)
        });
        match &looked {
            Ok(_) => self.unusable = None,
            Err(error) => {
                let error = error.to_string();
                if self.unusable.as_ref() != Some(&error) {
                    tracing::error!(%error, "the plugins are no longer looked at; those that are loaded serve on");
                }
                self.unusable = Some(error);
            }
        }
        looked
    }

    /// Compiles what is next, and says how it stands.
    fn go_on(&mut self) {
        let mut shelf = lock(&self.shelf);
        let next = shelf.next(Clock::System.uptime()).map(|place| (shelf.same(&place), place));
        drop(shelf);
        if let Some((same, place)) = next {
            let (host, path, at, stop) = (Arc::clone(&self.host), self.path.clone(), place.clone(), self.stop.clone());
            let making = tokio::task::spawn_blocking(move || make(&host, &path, &at, same.as_deref(), &stop));
            self.compiling = Some((place, Clock::System.now(), making));
        }
        self.publish();
    }

    fn put(&mut self, (place, made): (Place, Option<Made>)) {
        let now = Clock::System.uptime();
        let made = made.unwrap_or_else(|| Made::panicked(&self.path, &place));
        lock(&self.shelf).put(&place, made, now);
    }

    fn publish(&mut self) {
        let (registry, reports) = lock(&self.shelf).serve();
        self.say(&registry, &reports);
        let (uptime, now) = (Clock::System.uptime(), Clock::System.now());
        let loading =
            |place: &Place, state| Loading { tenant: place.tenant().to_owned(), name: place.name().to_owned(), state };
        let compiling = self.compiling.iter();
        let mut all: Vec<Loading> =
            compiling.map(|(place, since, _)| loading(place, LoadingState::Compiling { since: *since })).collect();
        all.extend(lock(&self.shelf).waiting(uptime).map(|(place, until)| {
            let until = until.map(|until| now.after(Millis(until.0.saturating_sub(uptime.0))));
            loading(place, until.map_or(LoadingState::Queued, |until| LoadingState::Waiting { until }))
        }));
        let is_idle = self.compiling.is_none();
        self.catalog.set(Serving { registry, reports, loading: all });
        self.idle.send_if_modified(|idle| std::mem::replace(idle, is_idle) != is_idle);
    }

    /// Logs what is new.
    fn say(&mut self, registry: &Registry, reports: &[Arc<Report>]) {
        let before = self.catalog.now();
        let known: HashSet<*const Plugin> = before.registry.plugins().map(|(_, plugin)| Arc::as_ptr(plugin)).collect();
        for (tenant, plugin) in registry.plugins().filter(|(_, plugin)| !known.contains(&Arc::as_ptr(plugin))) {
            let about = plugin.describe();
            let (ms, from_cache) = (about.compile_time.as_millis(), about.from_cache);
            tracing::info!(tenant, plugin = plugin.name(), digest = plugin.digest(), ms, from_cache, "plugin loaded");
        }
        let names = |registry: &Registry| -> BTreeSet<(String, String)> {
            registry.plugins().map(|(tenant, plugin)| (tenant.to_owned(), plugin.name().to_owned())).collect()
        };
        for (tenant, plugin) in names(&before.registry).difference(&names(registry)) {
            tracing::info!(tenant, plugin, "plugin removed; jobs of its kinds wait");
        }
        let said: BTreeSet<_> =
            reports.iter().map(|report| (report.path.clone(), report.problem.to_string())).collect();
        for (path, problem) in said.difference(&self.reported) {
            tracing::warn!(path = %path.display(), "plugin: {problem}");
        }
        self.reported = said;
    }

    /// When something may be compiled that has to wait for its tenant's share.
    fn share_at(&self) -> Option<Instant> {
        let now = Clock::System.uptime();
        let at = lock(&self.shelf).next_at(now).filter(|_| self.compiling.is_none())?;
        Some(Instant::now() + Duration::from_millis(at.0.saturating_sub(now.0)))
    }
}

/// What came of the compile that is going on; never ends where none is.
async fn made(compiling: &mut Option<(Place, Time, JoinHandle<Made>)>) -> (Place, Option<Made>) {
    let Some((_, _, making)) = compiling else { return std::future::pending().await };
    let made = making.await.ok();
    match compiling.take() {
        Some((place, _, _)) => (place, made),
        None => unreachable!("it was there, and nobody else takes it"),
    }
}

/// Ends at this time; never where there is none.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A look that panicked leaves what it knew so far, which is still true.
fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}
