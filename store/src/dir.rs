//! A store's folder: what lies in it, how it comes into being, and what is refused.
//!
//! ```text
//! DIR/store.marker    says that this is a store, its id and its schema; written once the file is complete
//! DIR/jobs.redb       everything; jobs.redb.new until the marker is there
//! DIR/running.slots   which runs have started (see `slots`)
//! ```
//! A folder without a marker is not taken for a store, as that is what an unmounted volume looks like; nor is one whose
//! file is gone.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::engine::redb::{Commit, Redb};
use crate::error::StoreError;
use crate::job::BootId;

/// The schema that this program writes.
pub const SCHEMA: u32 = 1;

const MARKER: &str = "store.marker";
const JOBS: &str = "jobs.redb";
const JOBS_NEW: &str = "jobs.redb.new";
const SLOTS: &str = "running.slots";
const HEADING: &str = "runner store";

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

    /// Opens the store, or makes it where that is allowed.
    ///
    /// # Errors
    /// There is none and none may be made; it is in use, foreign, damaged, or newer than this program.
    pub fn open(&self, create: Create, clock: Clock, commit: Commit) -> Result<Redb, StoreError> {
        let exists = self.0.is_dir();
        if !exists && self.0.exists() {
            return Err(self.foreign("is not a folder; a store is one"));
        }
        if exists && self.marker().exists() {
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

    fn open_existing(&self, clock: Clock, commit: Commit) -> Result<Redb, StoreError> {
        let schema = self.read_marker()?;
        if schema == 0 {
            return Err(self.foreign("has a store.marker with schema 0, which no program ever wrote"));
        }
        if schema > SCHEMA {
            return Err(StoreError::Newer { path: self.0.clone(), found: schema, known: SCHEMA });
        }
        let jobs = self.0.join(JOBS);
        if !jobs.exists() {
            // A creation that was interrupted after the marker has everything but the name.
            if !self.unfinished().exists() {
                return Err(StoreError::FileGone { dir: self.0.clone(), file: JOBS });
            }
            self.not_being_made()?;
            self.name_the_file()?;
        }
        Redb::open(&jobs, clock, commit).map_err(|error| match error {
            StoreError::InUse(_) => StoreError::InUse(self.0.clone()),
            other => other,
        })
    }

    fn create(&self, clock: Clock, commit: Commit) -> Result<Redb, StoreError> {
        let jobs = self.0.join(JOBS);
        if jobs.exists() {
            return Err(self.foreign(
                "has a store's file and no marker of one; put store.marker back beside it, or move the file away",
            ));
        }
        // Args and outputs are for the owner alone.
        let folder = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        folder.map_err(|source| self.io("making the folder", source))?;
        let new = self.unfinished();
        if new.exists() {
            self.not_being_made()?;
            fs::remove_file(&new).map_err(|source| self.io("removing an unfinished store", source))?;
        }
        let engine = Redb::create(&new, clock, commit)?;
        self.write_marker().map_err(|source| self.io("writing the marker", source))?;
        self.name_the_file()?;
        Ok(engine)
    }

    fn unfinished(&self) -> PathBuf {
        self.0.join(JOBS_NEW)
    }

    /// Whether an unfinished file is left over, and not one that another process is making just now.
    fn not_being_made(&self) -> Result<(), StoreError> {
        let file = File::open(self.unfinished()).map_err(|source| self.io("looking at an unfinished store", source))?;
        match file.try_lock() {
            Ok(()) => Ok(()),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse(self.0.clone())),
            Err(fs::TryLockError::Error(source)) => Err(self.io("looking at an unfinished store", source)),
        }
    }

    /// The last step of a creation: the file, which is complete, gets its name.
    fn name_the_file(&self) -> Result<(), StoreError> {
        let io = |source| self.io("naming the store's file", source);
        fs::rename(self.unfinished(), self.0.join(JOBS)).map_err(io)?;
        File::open(&self.0).and_then(|folder| folder.sync_all()).map_err(io)
    }

    fn write_marker(&self) -> std::io::Result<()> {
        let text = format!("{HEADING}\nschema {SCHEMA}\nid {:016x}\n", random_u64());
        let new = self.0.join("store.marker.new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.marker())?;
        File::open(&self.0)?.sync_all()?;
        let parent = self.0.canonicalize()?.parent().map(Path::to_owned);
        parent.map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    }

    fn read_marker(&self) -> Result<u32, StoreError> {
        let text = fs::read_to_string(self.marker()).map_err(|source| self.io("reading the marker", source))?;
        let mut lines = text.lines();
        let heading = lines.next() == Some(HEADING);
        let schema = lines.next().and_then(|line| line.strip_prefix("schema ")?.parse().ok());
        schema.filter(|_| heading).ok_or_else(|| self.foreign("has a store.marker that is not a marker of ours"))
    }

    fn marker(&self) -> PathBuf {
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
