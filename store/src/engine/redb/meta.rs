//! The single numbers that say what a store is: its schema, its epoch, whether it waits for an operator. They stand in the
//! file itself, so that a copy of the file has them as well.

use redb::{ReadableDatabase, TableError, WriteTransaction};

use super::{Live, Redb, engine_error, guarded, tables};
use crate::error::StoreError;
use crate::job::{JobId, Seq};

/// In the table of single numbers: the schema; none: 1, which had no such number.
const SCHEMA: &str = "schema";
/// How often the store was restored, plus one; none: 1.
pub(super) const EPOCH: &str = "epoch";
/// 1: nothing is to be claimed until an operator resumes the queues.
pub(super) const PAUSED: &str = "paused";
/// The first number of the log since the last restore.
pub(super) const RESTORED_FIRST_SEQ: &str = "restored_first_seq";
/// Ids and numbers of the log of an epoch begin at a multiple of this, so that those of the time which a restore undid
/// are never given out again.
const EPOCH_STEP: u64 = 1 << 32;

/// What the single numbers of a store say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Its schema.
    pub schema: u32,
    /// How often it was restored, plus one.
    pub epoch: u64,
    /// Whether all queues wait for an operator, as they do after a restore.
    pub paused: bool,
    /// The first number of the log since the last restore: readers of older ones must begin anew.
    pub restored_first_seq: Option<Seq>,
    /// The next id of a job.
    pub next_job: JobId,
    /// The next number of the log.
    pub next_seq: Seq,
}

impl Redb {
    /// The single numbers of the store.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn meta(&self) -> Result<Meta, StoreError> {
        guarded(|| read(&self.db.begin_read().map_err(engine_error)?))
    }

    /// How often the store was restored, plus one: a part of every lease token.
    ///
    /// # Errors
    /// As [`Redb::meta`].
    pub fn epoch(&self) -> Result<u64, StoreError> {
        Ok(self.meta()?.epoch)
    }

    /// Whether all queues wait for an operator.
    ///
    /// # Errors
    /// As [`Redb::meta`].
    pub fn paused(&self) -> Result<bool, StoreError> {
        Ok(self.meta()?.paused)
    }

    /// Says whether all queues wait for an operator; durable when it returns. For a store that nobody serves: what a
    /// server changes goes through its writer.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn set_paused(&mut self, paused: bool) -> Result<(), StoreError> {
        self.write_meta(|numbers| put(numbers, PAUSED, u64::from(paused)))
    }

    /// Begins the epoch of a restore: ids and numbers of the log go on where none has ever been given out, neither by
    /// this store nor by the one that it replaces, and all queues wait for an operator. Durable when it returns.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn begin_epoch(&mut self, replaced: Option<Meta>) -> Result<Meta, StoreError> {
        let mut meta = self.meta()?;
        if let Some(other) = replaced {
            meta.epoch = meta.epoch.max(other.epoch);
            meta.next_job = meta.next_job.max(other.next_job);
            meta.next_seq = meta.next_seq.max(other.next_seq);
        }
        meta.epoch += 1;
        meta.next_job = JobId(step_beyond(meta.next_job.0));
        meta.next_seq = Seq(step_beyond(meta.next_seq.0));
        meta.restored_first_seq = Some(meta.next_seq);
        meta.paused = true;
        self.write_meta(|numbers| {
            put(numbers, EPOCH, meta.epoch)?;
            put(numbers, tables::NEXT_JOB, meta.next_job.0)?;
            put(numbers, tables::NEXT_SEQ, meta.next_seq.0)?;
            put(numbers, RESTORED_FIRST_SEQ, meta.next_seq.0)?;
            put(numbers, PAUSED, 1)
        })?;
        Ok(meta)
    }

    fn write_meta(&mut self, write: impl FnOnce(&mut Numbers<'_>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        guarded(|| {
            write(&mut transaction.open_table(tables::META).map_err(engine_error)?)?;
            transaction.commit().map_err(engine_error)
        })
    }
}

impl Live {
    /// The single numbers of the store, as they are now.
    ///
    /// # Errors
    /// As [`Redb::meta`].
    pub fn meta(&self) -> Result<Meta, StoreError> {
        guarded(|| read(&self.0.begin_read().map_err(engine_error)?))
    }
}

type Numbers<'a> = redb::Table<'a, &'static str, u64>;

fn put(numbers: &mut Numbers<'_>, name: &str, number: u64) -> Result<(), StoreError> {
    numbers.insert(name, number).map_err(engine_error)?;
    Ok(())
}

/// The next multiple, also of a number that is one: a reader that waits for this very number must find it left out, or
/// it would never learn of the restore.
fn step_beyond(n: u64) -> u64 {
    (n / EPOCH_STEP + 1) * EPOCH_STEP
}

/// Whether a number of the log is the first of an epoch, before which numbers are left out.
pub(super) fn begins_epoch(seq: Seq) -> bool {
    seq.0.is_multiple_of(EPOCH_STEP)
}

/// Says which schema a file has from now on.
pub(super) fn write_schema(into: &WriteTransaction, schema: u32) -> Result<(), StoreError> {
    put(&mut into.open_table(tables::META).map_err(engine_error)?, SCHEMA, u64::from(schema))
}

/// The single numbers of a file, whatever its schema. A file without them is not a store's.
pub(super) fn read(view: &redb::ReadTransaction) -> Result<Meta, StoreError> {
    let numbers = view.open_table(tables::META).map_err(|error| match error {
        TableError::Storage(error) => engine_error(error),
        other => StoreError::Contradiction(format!("the file is a redb file, but not that of a store: {other}")),
    })?;
    let number = |name| Ok::<_, StoreError>(numbers.get(name).map_err(engine_error)?.map(|number| number.value()));
    Ok(Meta {
        schema: number(SCHEMA)?.map_or(1, |schema| u32::try_from(schema).unwrap_or(u32::MAX)),
        epoch: number(EPOCH)?.unwrap_or(1),
        paused: number(PAUSED)?.is_some_and(|paused| paused != 0),
        restored_first_seq: number(RESTORED_FIRST_SEQ)?.map(Seq),
        next_job: JobId(number(tables::NEXT_JOB)?.unwrap_or(1)),
        next_seq: Seq(number(tables::NEXT_SEQ)?.unwrap_or(1)),
    })
}
