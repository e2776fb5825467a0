//! A store's folder: what lies in it, how it comes into being, and what is refused.
//!
//! ```text
//! DIR/store.marker    says that this is a store, its id and its schema; written once the file is complete
//! DIR/jobs.redb       everything; jobs.redb.new until the marker is there
//! DIR/running.slots   which runs have started (see `slots`)
//! DIR/store.failed    how the store failed, until it was checked
//! DIR/ballast         room that is given up when the disk is full (see `disk`)
//! DIR/cache/          compiled plugins, which can be compiled again at any time; the runtime's
//! DIR/cache.key       what they are authenticated with
//! ```
//! A folder without a marker is not taken for a store, as that is what an unmounted volume looks like; nor is one whose
//! file is gone. What is done to a whole store stands in a file for each verb.

mod backup;
mod compact;
mod failed;
mod files;
mod live;
mod marker;
mod migrate;
mod restore;

use std::fs;
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::engine::redb::{Commit, Redb};
use crate::error::StoreError;
use crate::job::BootId;

pub use backup::BackedUp;
pub use compact::Compacted;
pub use failed::examine;
pub use live::{LiveStore, Stats};
pub use marker::Marker;
pub use migrate::Migrated;
pub use restore::{Restored, Tokens};

/// The schema that this program writes.
pub const SCHEMA: u32 = 5;

/// What was being done when a store's folder could not be made, in [`StoreError::Io`].
pub const MAKING_THE_FOLDER: &str = "making the folder";

const MARKER: &str = "store.marker";
const JOBS: &str = "jobs.redb";
const JOBS_NEW: &str = "jobs.redb.new";
const SLOTS: &str = "running.slots";
const BALLAST: &str = "ballast";
const CACHE: &str = "cache";
const CACHE_KEY: &str = "cache.key";
const LEASE_KEY: &str = "lease.key";

/// When a store may be made where none is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// Never.
    No,
    /// Where the folder does not exist yet.
    NewFolder,
    /// Also in a folder that is there.
    Yes,
}

/// A store's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreDir(PathBuf);

impl StoreDir {
    /// The folder at `path`, which need not exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file of started runs.
    #[must_use]
    pub fn slots(&self) -> PathBuf {
        self.0.join(SLOTS)
    }

    /// The store's file.
    #[must_use]
    pub fn jobs(&self) -> PathBuf {
        self.0.join(JOBS)
    }

    /// The file that keeps some room for a full disk.
    #[must_use]
    pub fn ballast(&self) -> PathBuf {
        self.0.join(BALLAST)
    }

    /// The folder of compiled plugins.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.0.join(CACHE)
    }

    /// The key of that folder.
    #[must_use]
    pub fn cache_key(&self) -> PathBuf {
        self.0.join(CACHE_KEY)
    }

    /// The key of the tokens by which external workers speak for their runs.
    #[must_use]
    pub fn lease_key(&self) -> PathBuf {
        self.0.join(LEASE_KEY)
    }

    /// Whether there is a store.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.marker_path().exists()
    }

    /// Opens the store, or makes it where that is allowed. One that had failed is checked first.
    ///
    /// # Errors
    /// There is none and none may be made; it is in use, foreign, damaged, newer or older than this program; or it had
    /// failed and is not clean.
    pub fn open(&self, create: Create, clock: Clock, commit: Commit) -> Result<Redb, StoreError> {
        let exists = self.0.is_dir();
        if !exists && self.0.exists() {
            return Err(self.foreign("is not a folder; a store is one"));
        }
        if exists && self.marker_path().exists() {
            return self.open_existing(clock, commit);
        }
        let allowed = match create {
            Create::No => false,
            // An unfinished store is where a creation was interrupted: it was never used, and its folder is as good as new.
            Create::NewFolder => !exists || self.unfinished().exists(),
            Create::Yes => true,
        };
        if !allowed {
            return Err(StoreError::Missing(self.0.clone()));
        }
        self.create(clock, commit)
    }

    /// Opens a store as it is, also one that had failed, for whoever is about to look at it.
    ///
    /// # Errors
    /// As [`StoreDir::open`], which makes none here.
    pub fn open_unchecked(&self, clock: Clock, commit: Commit) -> Result<Redb, StoreError> {
        if !self.marker_path().exists() {
            return Err(match self.0.exists() && !self.0.is_dir() {
                true => self.foreign("is not a folder; a store is one"),
                false => StoreError::Missing(self.0.clone()),
            });
        }
        let marker = self.marker()?;
        if marker.schema > SCHEMA {
            return Err(StoreError::Newer { path: self.0.clone(), found: marker.schema, known: SCHEMA });
        }
        self.finish_creation()?;
        if self.failed_marker().exists() {
            self.read_from_disk();
        }
        let engine = self.at_home(Redb::open(&self.jobs(), clock, commit))?;
        if marker.schema < SCHEMA {
            // The file is up to date, so a migration was interrupted before its last step.
            self.write_marker(Marker { schema: SCHEMA, ..marker })?;
        }
        Ok(engine.at_home(self.clone()))
    }

    /// A way to look at the store while its writer has the engine.
    #[must_use]
    pub fn live(&self, engine: &Redb) -> LiveStore {
        LiveStore { dir: self.clone(), file: engine.live() }
    }

    /// What the marker says.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn marker(&self) -> Result<Marker, StoreError> {
        if !self.marker_path().exists() {
            return Err(StoreError::Missing(self.0.clone()));
        }
        let bytes = fs::read(self.marker_path()).map_err(|source| self.io("reading the marker", source))?;
        let marker = Marker::read(&String::from_utf8_lossy(&bytes));
        let marker = marker.ok_or_else(|| self.foreign("has a store.marker that is not a marker of ours"))?;
        if marker.schema == 0 {
            return Err(self.foreign("has a store.marker with schema 0, which no program ever wrote"));
        }
        Ok(marker)
    }

    /// Bytes of the store's file.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn file_bytes(&self) -> Result<u64, StoreError> {
        let found = fs::metadata(self.jobs()).map_err(|source| self.io("measuring the store's file", source))?;
        Ok(found.len())
    }

    fn open_existing(&self, clock: Clock, commit: Commit) -> Result<Redb, StoreError> {
        let failure = self.failure()?;
        let mut engine = self.open_unchecked(clock, commit)?;
        if let Some(failure) = failure {
            self.check_after(failure, &mut engine)?;
        }
        Ok(engine)
    }

    /// A creation that was interrupted after the marker has everything but the name.
    fn finish_creation(&self) -> Result<(), StoreError> {
        if self.jobs().exists() {
            return Ok(());
        }
        if !self.unfinished().exists() {
            return Err(StoreError::FileGone { dir: self.0.clone(), file: JOBS });
        }
        self.not_being_made()?;
        self.name_the_file()
    }

    /// Errors of the file, as errors of the folder that people know.
    fn at_home<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        let path = || self.0.clone();
        result.map_err(|error| match error {
            StoreError::InUse(_) => StoreError::InUse(path()),
            StoreError::Older { found, known, .. } => StoreError::Older { path: path(), found, known },
            StoreError::Newer { found, known, .. } => StoreError::Newer { path: path(), found, known },
            other => other,
        })
    }

    fn create(&self, clock: Clock, commit: Commit) -> Result<Redb, StoreError> {
        let jobs = self.jobs();
        if jobs.exists() {
            return Err(self.foreign(
                "has a store's file and no marker of one; put store.marker back beside it, or move the file away",
            ));
        }
        files::make_folder(&self.0).map_err(|source| self.io(MAKING_THE_FOLDER, source))?;
        let new = self.unfinished();
        if new.exists() {
            self.not_being_made()?;
            fs::remove_file(&new).map_err(|source| self.io("removing an unfinished store", source))?;
        }
        let engine = Redb::create(&new, clock, commit)?;
        self.write_marker(Marker { schema: SCHEMA, id: random_u64() })?;
        self.name_the_file()?;
        Ok(engine.at_home(self.clone()))
    }

    fn unfinished(&self) -> PathBuf {
        self.0.join(JOBS_NEW)
    }

    /// Whether an unfinished file is left over, and not one that another process is making just now.
    fn not_being_made(&self) -> Result<(), StoreError> {
        let io = |source| self.io("looking at an unfinished store", source);
        match files::lock(&self.unfinished()).map_err(io)? {
            Some(_) => Ok(()),
            None => Err(StoreError::InUse(self.0.clone())),
        }
    }

    /// The last step of a creation: the file, which is complete, gets its name.
    fn name_the_file(&self) -> Result<(), StoreError> {
        let io = |source| self.io("naming the store's file", source);
        fs::rename(self.unfinished(), self.jobs()).map_err(io)?;
        files::sync_folder(&self.0).map_err(io)
    }

    fn write_marker(&self, marker: Marker) -> Result<(), StoreError> {
        let written = files::write_whole(&self.marker_path(), marker.text().as_bytes());
        written.map_err(|source| self.io("writing the marker", source))
    }

    fn marker_path(&self) -> PathBuf {
        self.0.join(MARKER)
    }

    fn foreign(&self, why: &str) -> StoreError {
        StoreError::Foreign { path: self.0.clone(), why: why.to_owned() }
    }

    fn io(&self, doing: &'static str, source: std::io::Error) -> StoreError {
        StoreError::Io { path: self.0.clone(), doing, source }
    }
}

/// A new boot's id.
#[must_use]
pub fn new_boot() -> BootId {
    BootId(random_u64())
}

fn random_u64() -> u64 {
    getrandom::u64().expect("the system has random numbers, or nothing works")
}
