//! Opening what a process that runs jobs needs: plugins and a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::dir::{Create, LiveStore, StoreDir};
use runner_store::disk::{self, Ballast, Disk};
use runner_store::engine::memory::Memory;
use runner_store::engine::redb::Commit;
use runner_store::handle::Writer;

use super::exit::{Code, Failure};
use super::output::note;
use crate::operator::Operator;
use crate::wasm::compile::cache::{Bounds, Cache};
use crate::wasm::folder::{self, Report};
use crate::wasm::{Catalog, CompileLimits, Compiler, Host, HostSettings};

/// How often the disk is asked for its room: within this time at most a few hundred megabytes are written, less than half
/// of the reserve.
const ROOM_EVERY: Duration = Duration::from_millis(500);

/// How much a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum CommitMode {
    /// Two fsyncs: also survives a disk that lied about one of them
    #[default]
    TwoPhase,
    /// One fsync: survives crashes and power cuts on a disk that keeps its word
    OnePhase,
}

/// Plugins that are loaded, and the host that they were compiled for.
pub(super) struct Loaded {
    pub(super) host: Arc<Host>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) operator: Arc<Operator>,
    pub(super) reports: Vec<Arc<Report>>,
}

/// A store that is open.
pub(super) struct Open {
    pub(super) handle: Handle,
    pub(super) writer: Writer,
    /// None: it is in memory.
    pub(super) dir: Option<StoreDir>,
    /// Its file from aside, for backups and figures; none: it is in memory.
    pub(super) live: Option<LiveStore>,
}

impl From<CommitMode> for Commit {
    fn from(mode: CommitMode) -> Self {
        match mode {
            CommitMode::TwoPhase => Self::TwoPhase,
            CommitMode::OnePhase => Self::OnePhase,
        }
    }
}

/// A host with so many slots, which compiles in a child, for plugins that this operator allows something.
pub(super) fn host(
    slots: Option<u32>,
    operator: Arc<Operator>,
    cache: Option<Arc<Cache>>,
    limits: CompileLimits,
) -> Result<Host, Failure> {
    let default = HostSettings::default();
    let slots = slots.unwrap_or(default.slots);
    let compiler = Compiler::Child { program: this_program()?, limits };
    let settings = HostSettings { slots, compiler, cache, operator, ..default };
    Host::new(&settings).map_err(|error| Failure::new(Code::Failed, error.to_string()))
}

/// This program, also where its file was replaced since it started: another version's code would not be ours.
fn this_program() -> Result<PathBuf, Failure> {
    let running = Path::new("/proc/self/exe");
    if running.exists() {
        return Ok(running.to_owned());
    }
    let failed = |error| Failure::new(Code::Failed, format!("this program's own file cannot be found: {error}"));
    std::env::current_exe().map_err(failed)
}

/// The cache of a store's compiled plugins; none where it cannot be used, which is said.
pub(super) fn cache(dir: &StoreDir) -> Option<Arc<Cache>> {
    match Cache::open(&dir.cache(), &dir.cache_key(), Bounds::default()) {
        Ok(cache) => Some(Arc::new(cache)),
        Err(error) => {
            tracing::warn!(%error, "plugins are compiled at each start");
            None
        }
    }
}

/// Loads every plugin of a folder; says on stderr what is wrong with single files.
pub(super) fn plugins(
    folder: &Path,
    slots: Option<u32>,
    operator: Arc<Operator>,
    cache: Option<Arc<Cache>>,
) -> Result<Loaded, Failure> {
    let unusable = |error: folder::FolderError| Failure::usage(error.to_string());
    folder::check(folder).map_err(unusable)?;
    let is_tenant = |name: &str| operator.tenant(name).is_some();
    let host = host(slots, Arc::clone(&operator), cache, CompileLimits::default())?;
    let (registry, reports) = folder::load(&host, folder, &is_tenant).map_err(unusable)?;
    for report in &reports {
        note(&format!("plugin {}: {}", report.path.display(), report.problem));
    }
    Ok(Loaded { host: Arc::new(host), catalog: Catalog::fixed(registry), operator, reports })
}

/// Opens the store of a folder, or makes it where `create` allows that.
pub(super) fn store(data: &Path, create: Create, commit: CommitMode) -> Result<Open, Failure> {
    let dir = StoreDir::new(data);
    let engine = dir.open(create, Clock::System, commit.into())?;
    let live = Some(dir.live(&engine));
    let (handle, writer) = Handle::start(Box::new(engine))?;
    Ok(Open { handle, writer, dir: Some(dir), live })
}

/// Gives up the ballast of a store where the disk is full, or makes it again where there is plenty.
pub(super) fn settle_ballast(data: &Path) {
    match disk::settle_ballast(&StoreDir::new(data)) {
        Ok(Ballast::Freed) => {
            tracing::warn!(data = %data.display(), "the disk is full: the ballast file was given up, so that jobs can be deleted");
        }
        Ok(Ballast::Made | Ballast::Kept | Ballast::None) => {}
        Err(error) => tracing::warn!(%error, "the ballast file could not be looked after"),
    }
}

/// Tells the store what its disk has room for, for as long as the runtime lives. The disk is asked on a thread of its own:
/// when it is nearly full, that reads the keys of the whole file.
pub(super) fn watch_room(store: &Handle, live: Option<&LiveStore>) {
    let Some(live) = live else { return };
    let disk = Arc::new(Disk::of(live, Clock::System));
    let store = store.clone();
    tokio::spawn(async move {
        loop {
            let asked = Arc::clone(&disk);
            if let Ok(room) = tokio::task::spawn_blocking(move || asked.room()).await {
                store.say_room(room);
            }
            tokio::time::sleep(ROOM_EVERY).await;
        }
    });
}

/// Sees to it that the next start checks a store that failed. Answers what to say where that cannot be seen to.
pub(super) fn note_failure(dir: Option<&StoreDir>, why: &str) -> Option<String> {
    let error = dir?.note_failure(why, Clock::System.now()).err()?;
    Some(format!("{error}; so run `runner store check` before the next start, which will not know that it must"))
}

/// A store that lives as long as the process.
pub(super) fn memory() -> Result<Open, Failure> {
    let (handle, writer) = Handle::start(Box::new(Memory::new(Clock::System)))?;
    Ok(Open { handle, writer, dir: None, live: None })
}
