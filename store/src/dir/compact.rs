//! Makes the file of a store as small as it can be, between two checks.

use super::failed::examine;
use super::{Create, StoreDir};
use crate::clock::Clock;
use crate::engine::redb::{Commit, Redb};
use crate::error::StoreError;

/// A file that was made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Its bytes before.
    pub before_bytes: u64,
    /// Its bytes now.
    pub after_bytes: u64,
}

impl StoreDir {
    /// Makes the file as small as it can be. Nobody may use the store; a crash on the way leaves it whole.
    ///
    /// # Errors
    /// There is no store; it is in use or not clean; or it could not be written.
    pub fn compact(&self) -> Result<Compacted, StoreError> {
        // Before it is opened, as closing a file already makes it smaller.
        let before_bytes = self.file_bytes().unwrap_or_default();
        let mut engine = self.open(Create::No, Clock::System, Commit::TwoPhase)?;
        self.ensure_clean(&mut engine)?;
        engine.compact()?;
        self.ensure_clean(&mut engine)?;
        drop(engine);
        Ok(Compacted { before_bytes, after_bytes: self.file_bytes()? })
    }

    fn ensure_clean(&self, engine: &mut Redb) -> Result<(), StoreError> {
        let report = examine(engine)?;
        match report.findings.first() {
            Some(first) => Err(StoreError::Foreign {
                path: self.path().to_owned(),
                why: format!("is damaged ({} things wrong, the first: {first}); restore a backup", report.wrong),
            }),
            None => Ok(()),
        }
    }
}
