//! A backup: a store's folder of its own, made from one consistent view of a store that may be in use, checked, and only
//! then given its name. What an interrupted backup leaves has another name, and the next one to the same place removes it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::failed::examine;
use super::{JOBS, LiveStore, MARKER, StoreDir, files};
use crate::clock::Clock;
use crate::engine::redb::{Commit, Redb};
use crate::error::StoreError;

/// Behind the name of a backup that is not complete.
const UNFINISHED: &str = ".unfinished";

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
}

impl LiveStore {
    /// Makes a backup at `destination`, which must not exist, in a folder that does. Asks now and then whether to `go_on`.
    ///
    /// # Errors
    /// The destination exists, or cannot be written; the store cannot be read; the copy is not clean; or it was told to
    /// stop.
    pub fn backup(&self, destination: &Path, go_on: &dyn Fn() -> bool) -> Result<BackedUp, StoreError> {
        let unfinished = begin(destination)?;
        let made = self.copy(&unfinished, go_on).and_then(|made| {
            finish(&unfinished, destination)?;
            Ok(BackedUp { path: destination.to_owned(), ..made })
        });
        if made.is_err() {
            // What cannot be removed is removed by the next backup.
            _ = remove_unfinished(&unfinished);
        }
        made
    }

    fn copy(&self, unfinished: &Path, go_on: &dyn Fn() -> bool) -> Result<BackedUp, StoreError> {
        let path = unfinished.join(JOBS);
        let before = self.dir.file_bytes()?;
        let copied = self.file.copy_to(&path, go_on)?;
        let grown_bytes = self.dir.file_bytes()?.saturating_sub(before);
        if !go_on() {
            return Err(StoreError::Stopped("checking the backup"));
        }
        let mut copy = Redb::open(&path, Clock::System, Commit::TwoPhase)?;
        let report = examine(&mut copy)?;
        if !report.is_clean() {
            let first = report.findings.first().cloned().unwrap_or_default();
            let why = format!("the backup has {} things wrong, as has the store: {first}", report.wrong);
            return Err(StoreError::Contradiction(why));
        }
        drop(copy);
        StoreDir::new(unfinished).write_marker(self.dir.marker()?)?;
        let bytes = StoreDir::new(unfinished).file_bytes()?;
        Ok(BackedUp { path: path.clone(), jobs: report.jobs, rows: copied.rows, bytes, grown_bytes })
    }
}

/// Makes the folder in which a backup grows.
pub(super) fn begin(destination: &Path) -> Result<PathBuf, StoreError> {
    let io = |doing| move |source| StoreError::Io { path: destination.to_owned(), doing, source };
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
    let unfinished = files::beside(destination, UNFINISHED);
    if unfinished.symlink_metadata().is_ok() {
        remove_unfinished(&unfinished)?;
    }
    files::make_folder(&unfinished).map_err(io("making the folder of the backup"))?;
    Ok(unfinished)
}

/// Gives a backup its name, durably.
pub(super) fn finish(unfinished: &Path, destination: &Path) -> Result<(), StoreError> {
    let named = files::sync_file(&unfinished.join(JOBS))
        .and_then(|()| files::sync_folder(unfinished))
        .and_then(|()| files::rename_new(unfinished, destination))
        .and_then(|()| files::sync_parent(destination));
    named.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => {
            exists(destination, "came into being while the backup was made; choose another name")
        }
        _ => StoreError::Io { path: destination.to_owned(), doing: "naming the backup", source },
    })
}

/// Removes what an interrupted backup left, and nothing else.
pub(super) fn remove_unfinished(unfinished: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: unfinished.to_owned(), doing: "removing an unfinished backup", source };
    let jobs = unfinished.join(JOBS);
    if jobs.exists() && files::lock(&jobs).map_err(io)?.is_none() {
        return Err(StoreError::InUse(unfinished.to_owned()));
    }
    for entry in fs::read_dir(unfinished).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if ![JOBS, MARKER, "store.marker.new"].iter().any(|ours| name == **ours) {
            let why = format!("has {name:?} in it, which no backup leaves behind; look at it and remove the folder");
            return Err(StoreError::Exists { path: unfinished.to_owned(), why });
        }
    }
    fs::remove_dir_all(unfinished).map_err(io)
}

fn exists(path: &Path, why: &str) -> StoreError {
    StoreError::Exists { path: path.to_owned(), why: why.to_owned() }
}
