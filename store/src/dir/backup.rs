//! A backup: a store's folder of its own, made from one consistent view of a store that may be in use, checked, and only
//! then given its name. What an interrupted backup leaves has another name, and the next one to the same place removes it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::failed::examine;
use super::{JOBS, LiveStore, MARKER, StoreDir, files};
use crate::clock::Clock;
use crate::engine::redb::{Commit, Redb};
use crate::error::StoreError;

/// Behind the name of a backup that is not complete.
const UNFINISHED: &str = ".unfinished";
/// What is in a copy that is not complete.
const OURS: [&str; 3] = [JOBS, MARKER, "store.marker.new"];

/// A backup that is complete and durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// Where it is.
    pub path: PathBuf,
    /// Its jobs.
    pub jobs: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// By how much the store's file grew meanwhile, as old pages are kept while they are copied.
    pub grown_bytes: u64,
    /// Names of tables that are not in it: another program keeps them in the same file.
    pub others: Vec<String>,
}

impl LiveStore {
    /// Makes a backup at `destination`, which must not exist, in a folder that does. Asks now and then whether to `go_on`.
    ///
    /// # Errors
    /// The destination exists, or cannot be written; the store cannot be read; the copy is not clean; or it was told to
    /// stop.
    pub fn backup(&self, destination: &Path, go_on: &dyn Fn() -> bool) -> Result<BackedUp, StoreError> {
        let unfinished = begin(destination)?;
        let made = self.copy(unfinished.path(), go_on)?;
        finish(unfinished, destination)?;
        Ok(BackedUp { path: destination.to_owned(), ..made })
    }

    fn copy(&self, unfinished: &Path, go_on: &dyn Fn() -> bool) -> Result<BackedUp, StoreError> {
        let path = unfinished.join(JOBS);
        let before = self.dir.file_bytes()?;
        let copied = self.file.copy_to(&path, go_on)?;
        let grown_bytes = self.dir.file_bytes()?.saturating_sub(before);
        if !go_on() {
            return Err(StoreError::Stopped("checking the backup"));
        }
        let unreadable = |error| StoreError::Contradiction(format!("the copy cannot be read back: {error}"));
        let mut copy = Redb::open(&path, Clock::System, Commit::TwoPhase).map_err(unreadable)?;
        let report = examine(&mut copy)?;
        if !report.is_clean() {
            let first = report.findings.first().cloned().unwrap_or_default();
            let why = format!("the backup has {} things wrong, as has the store: {first}", report.wrong);
            return Err(StoreError::Contradiction(why));
        }
        drop(copy);
        StoreDir::new(unfinished).write_marker(self.dir.marker()?)?;
        let bytes = StoreDir::new(unfinished).file_bytes()?;
        Ok(BackedUp {
            path: path.clone(),
            jobs: report.jobs,
            rows: copied.rows,
            bytes,
            grown_bytes,
            others: copied.others,
        })
    }
}

/// A folder in which a store grows that is not complete. Locked for as long as this lives, so that nobody else removes
/// it; removed with it, unless it was given its name.
pub(super) struct Unfinished {
    path: PathBuf,
    /// Once it has its name, whatever has the old one is somebody else's.
    named: bool,
    _held: File,
}

impl Unfinished {
    /// Makes the folder anew; what an interrupted attempt left of it goes.
    pub(super) fn make(path: PathBuf) -> Result<Self, StoreError> {
        let io = |source| StoreError::Io { path: path.clone(), doing: "making a folder for the copy", source };
        if path.symlink_metadata().is_ok() {
            remove_left_over(&path)?;
        }
        files::make_folder(&path).map_err(io)?;
        // Whoever came between removes an empty folder, and the copy fails to begin.
        let held = files::lock(&path).map_err(io)?.ok_or_else(|| StoreError::InUse(path.clone()))?;
        Ok(Self { path, named: false, _held: held })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.named {
            // What cannot be removed is removed by the next attempt.
            _ = remove_ours(&self.path);
        }
    }
}

/// Makes the folder in which a backup grows.
pub(super) fn begin(destination: &Path) -> Result<Unfinished, StoreError> {
    if destination.file_name().is_none() {
        return Err(exists(destination, "is no name for a backup; give the name of a folder that does not exist yet"));
    }
    if destination.symlink_metadata().is_ok() {
        return Err(exists(destination, "is there already, and a backup replaces nothing; choose another name"));
    }
    let parent = files::parent(destination);
    if !parent.is_dir() {
        return Err(StoreError::Foreign {
            path: parent.to_owned(),
            why: "is no folder, so no store can be put into it; make it first, or mount it".to_owned(),
        });
    }
    Unfinished::make(files::beside(destination, UNFINISHED))
}

/// Gives a backup its name, durably.
pub(super) fn finish(mut unfinished: Unfinished, destination: &Path) -> Result<(), StoreError> {
    let named = files::sync_file(&unfinished.path.join(JOBS))
        .and_then(|()| files::sync_folder(&unfinished.path))
        .and_then(|()| files::rename_new(&unfinished.path, destination))
        .inspect(|()| unfinished.named = true)
        .and_then(|()| files::sync_parent(destination));
    named.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => {
            exists(destination, "came into being while the backup was made; choose another name")
        }
        _ => StoreError::Io { path: destination.to_owned(), doing: "naming the backup", source },
    })
}

/// Removes what an interrupted attempt left, and nothing else: not what somebody makes just now.
fn remove_left_over(path: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), doing: "removing an unfinished copy", source };
    let _held = files::lock(path).map_err(io)?.ok_or_else(|| StoreError::InUse(path.to_owned()))?;
    for entry in fs::read_dir(path).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if !OURS.iter().any(|ours| name == **ours) {
            let why = format!("has {name:?} in it, which no copy leaves behind; look at it and remove the folder");
            return Err(StoreError::Exists { path: path.to_owned(), why });
        }
    }
    remove_ours(path).map_err(io)
}

fn remove_ours(path: &Path) -> io::Result<()> {
    for name in OURS {
        match fs::remove_file(path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::remove_dir(path)
}

fn exists(path: &Path, why: &str) -> StoreError {
    StoreError::Exists { path: path.to_owned(), why: why.to_owned() }
}
