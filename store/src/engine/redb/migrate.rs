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
pub const STEPS: &[Step] = &[];

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
