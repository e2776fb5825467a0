//! Brings the file of an older program up to date: every step in one and the same transaction, together with the number
//! of the schema. So there are two states, before and after, and a migration that was interrupted was never begun.

use std::path::Path;

use redb::{ReadableDatabase, WriteTransaction};

use super::{engine_error, guarded, meta, open_file};
use crate::error::StoreError;

/// What leads from one schema to the next.
#[derive(Clone, Copy)]
pub struct Step {
    /// The schema that it begins with; it ends with the one after it.
    pub from: u32,
    /// What it does, within the transaction of the whole migration.
    pub apply: fn(&WriteTransaction) -> Result<(), StoreError>,
}

/// Every step that there is, in order: one for each schema before this program's.
pub const STEPS: &[Step] = &[
    Step { from: 1, apply: super::rebuild::schema_2 },
    Step { from: 2, apply: super::rebuild::schema_3 },
    Step { from: 3, apply: super::rebuild::schema_4 },
    Step { from: 4, apply: super::rebuild::schema_5 },
];

/// The schema of a store's file, whatever it is.
///
/// # Errors
/// It is no store's file, is in use, or could not be read.
pub fn schema_of(path: &Path) -> Result<u32, StoreError> {
    guarded(|| {
        let db = open_file(path)?;
        let view = db.begin_read().map_err(engine_error)?;
        Ok(meta::read(&view)?.schema)
    })
}

/// Takes `steps` from the schema that the file has to the schema `to`; answers the one that it had. Durable when it
/// returns; a file that has the schema already is left as it is.
///
/// # Errors
/// There is no step from a schema on the way; a step failed: then nothing has changed; or the file could not be written.
pub fn migrate_file(path: &Path, steps: &[Step], to: u32) -> Result<u32, StoreError> {
    guarded(|| {
        let db = open_file(path)?;
        let found = meta::read(&db.begin_read().map_err(engine_error)?)?.schema;
        if found > to {
            return Err(StoreError::Newer { path: path.to_owned(), found, known: to });
        }
        if found == to {
            return Ok(found);
        }
        let mut transaction = db.begin_write().map_err(engine_error)?;
        // Once in a store's life: what it costs does not matter, what it survives does.
        transaction.set_two_phase_commit(true);
        for schema in found..to {
            let step = steps.iter().find(|step| step.from == schema).ok_or_else(|| StoreError::Foreign {
                path: path.to_owned(),
                why: format!("has schema {schema}, from which this program knows no way to {to}"),
            })?;
            (step.apply)(&transaction)?;
        }
        meta::write_schema(&transaction, to)?;
        transaction.commit().map_err(engine_error)?;
        Ok(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::dir::SCHEMA;
    use crate::engine::redb::{Commit, Redb, known_schema};

    #[test]
    fn every_schema_before_this_programs_has_its_step() {
        let from: Vec<u32> = STEPS.iter().map(|step| step.from).collect();
        assert_eq!(from, (1..SCHEMA).collect::<Vec<_>>());
    }

    #[test]
    fn an_older_file_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jobs.redb");
        drop(Redb::create(&path, Clock::System, Commit::OnePhase).unwrap());
        let db = open_file(&path).unwrap();
        let view = db.begin_read().unwrap();
        let check = |known| known_schema(&path, &view, known).map_err(|error| error.to_string());
        assert_eq!(check(SCHEMA), Ok(()));
        let older = check(SCHEMA + 1).unwrap_err();
        assert!(older.contains("`runner store migrate ") && older.contains("makes a backup first"), "{older}");
        assert!(check(SCHEMA - 1).unwrap_err().contains("use the program that made it, or a newer one"));
    }
}
