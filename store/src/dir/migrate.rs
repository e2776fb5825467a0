//! Brings a store up to date that an older program made. A backup beside it comes first, then one transaction, then the
//! marker; interrupted anywhere it is simply begun again.

use std::path::PathBuf;

use super::{JOBS, Marker, SCHEMA, StoreDir, backup, files};
use crate::clock::for_names;
use crate::engine::redb::{STEPS, Step, migrate_file, schema_of};
use crate::error::StoreError;
use crate::job::Time;

/// What became of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The schema that it had.
    pub from: u32,
    /// The schema that it has.
    pub to: u32,
    /// Where it is as it was; none if nobody wanted that, or nothing had to be done.
    pub backup: Option<PathBuf>,
}

impl StoreDir {
    /// Brings the store up to date, after a backup beside it unless `with_backup` is false. Durable when it returns; does
    /// nothing where nothing is to be done.
    ///
    /// # Errors
    /// There is no store; it is in use, newer than this program, or damaged; or something could not be written.
    pub fn migrate(&self, with_backup: bool, now: Time) -> Result<Migrated, StoreError> {
        self.migrate_by(STEPS, SCHEMA, with_backup, now)
    }

    /// The same by these steps to this schema.
    ///
    /// # Errors
    /// As [`StoreDir::migrate`].
    pub fn migrate_by(&self, steps: &[Step], to: u32, with_backup: bool, now: Time) -> Result<Migrated, StoreError> {
        let marker = self.marker()?;
        if marker.schema > to {
            return Err(StoreError::Newer { path: self.path().to_owned(), found: marker.schema, known: to });
        }
        self.finish_creation()?;
        // Opens it, so what a crash left is repaired before it is copied.
        let from = self.at_home(schema_of(&self.jobs()))?;
        let backup = if from < to && with_backup { Some(self.copy_beside(marker, from, now)?) } else { None };
        self.at_home(migrate_file(&self.jobs(), steps, to))?;
        if marker.schema != to {
            self.write_marker(Marker { schema: to, ..marker })?;
        }
        Ok(Migrated { from, to, backup })
    }

    /// A copy of the file, byte for byte: it does not depend on what this program knows about an older one.
    fn copy_beside(&self, marker: Marker, schema: u32, now: Time) -> Result<PathBuf, StoreError> {
        let io = |source| self.io("making a backup before the migration", source);
        let whole = self.path().canonicalize().map_err(io)?;
        let name = files::beside(&whole, &format!(".schema-{schema}.{}", for_names(now)));
        let Some(_held) = files::lock(&self.jobs()).map_err(io)? else {
            return Err(StoreError::InUse(self.path().to_owned()));
        };
        let unfinished = backup::begin(&name)?;
        files::copy_file(&self.jobs(), &unfinished.path().join(JOBS)).map_err(io)?;
        StoreDir::new(unfinished.path()).write_marker(Marker { schema, ..marker })?;
        // Read back, as what cannot be opened is no backup.
        schema_of(&unfinished.path().join(JOBS))?;
        backup::finish(unfinished, &name)?;
        Ok(name)
    }
}
