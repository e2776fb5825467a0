//! After a storage error nobody knows what is on the disk. So it is noted in a small file beside the store, and the next
//! start reads the store from the disk, not from the page cache, and compares everything before it serves.
//!
//! A store that is found clean goes on. One that is not waits for an operator: a backup, or `--accept`.

use std::fs;
use std::path::PathBuf;

use super::{StoreDir, files};
use crate::check::Report;
use crate::clock::for_names;
use crate::engine::redb::Redb;
use crate::error::StoreError;
use crate::job::Time;
use crate::slots;

const FAILED: &str = "store.failed";
const HEADING: &str = "the store failed; the next start checks it";

impl StoreDir {
    /// Where a failure is noted.
    #[must_use]
    pub fn failed_marker(&self) -> PathBuf {
        self.path().join(FAILED)
    }

    /// Notes that the store failed, durably. The first failure is the one that counts: what is noted already stays.
    ///
    /// # Errors
    /// It could not be noted; then whoever ends the process must say so.
    pub fn note_failure(&self, why: &str, now: Time) -> Result<(), StoreError> {
        let path = self.failed_marker();
        if path.exists() {
            return Ok(());
        }
        let text = format!("{HEADING}\n{}\n{why}\n", for_names(now));
        let written = files::write_whole(&path, text.as_bytes()).or_else(|_| {
            // On a full disk the ballast makes room for these few bytes.
            _ = fs::remove_file(self.ballast());
            files::write_whole(&path, text.as_bytes())
        });
        written.map_err(|source| self.io("noting that the store failed", source))
    }

    /// How the store failed, if it did and was not checked since.
    ///
    /// # Errors
    /// The note is there and cannot be read.
    pub fn failure(&self) -> Result<Option<String>, StoreError> {
        match fs::read(self.failed_marker()) {
            Ok(text) => {
                let text = String::from_utf8_lossy(&text);
                let why = text.lines().skip(1).collect::<Vec<_>>().join(": ");
                // A torn note is a note.
                Ok(Some(if why.is_empty() { "it was not noted how".to_owned() } else { why }))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.io("reading how the store failed", source)),
        }
    }

    /// Forgets a failure: the store was checked, or an operator takes it as it is. Runs that were alive when it failed
    /// were ended by the node itself, so none of them counts as crashed.
    ///
    /// # Errors
    /// The folder could not be written.
    pub fn forget_failure(&self) -> Result<(), StoreError> {
        let io = |source| self.io("removing the note of a failure", source);
        slots::disown(&self.slots())?;
        match fs::remove_file(self.failed_marker()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        files::sync_folder(self.path()).map_err(io)
    }

    /// Opening a store that had failed: only if it is clean.
    pub(super) fn check_after(&self, failure: String, engine: &mut Redb) -> Result<(), StoreError> {
        tracing::warn!(dir = %self.path().display(), %failure, "the store failed before; it is checked before it is used");
        let unclean = |found| StoreError::Unclean { dir: self.path().to_owned(), failure: failure.clone(), found };
        let report = examine(engine).map_err(|error| unclean(error.to_string()))?;
        if !report.is_clean() {
            let first = report.findings.first().cloned().unwrap_or_default();
            return Err(unclean(format!("{} things wrong, the first: {first}", report.wrong)));
        }
        self.forget_failure()?;
        tracing::warn!(jobs = report.jobs, events = report.events, "the check found the store clean; it goes on");
        Ok(())
    }

    /// Before a store is opened that had failed: what is read of it must come from the disk.
    pub(super) fn read_from_disk(&self) {
        if let Err(error) = files::drop_from_cache(&self.jobs()) {
            // Whether that matters, the check finds out.
            tracing::warn!(%error, "the store's file could not be dropped from the page cache");
        }
    }
}

/// Everything that can be found out about a store that nobody else uses: its pages first, as their checksums alone see
/// damage within args and outputs.
///
/// # Errors
/// A page is damaged, or the file cannot be read.
pub fn examine(engine: &mut Redb) -> Result<Report, StoreError> {
    engine.verify_pages()?;
    engine.check()
}
