//! The default engine: one redb file, crash-safe, with one writer.
//!
//! A batch is one write transaction: opened by the first `prefetch`, ended by `persist`, durable when that returns. Nothing
//! is kept between batches but the names, which are only ever added to. `tables` says how keys become bytes, `read` and
//! `write` are the two directions, `check` compares everything with everything.

mod check;
mod read;
mod tables;
mod write;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableError, WriteTransaction};

use super::{Change, Engine, Needs, Persisted, Reader, Snapshot, WorkingSet};
use crate::clock::Clock;
use crate::codec;
use crate::command::Name;
use crate::error::StoreError;

/// What the file's pages may take of memory: enough for the hot ends of every table of a store with a million jobs.
const CACHE_BYTES: usize = 96 * 1024 * 1024;

/// How much a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Commit {
    /// Two fsyncs: also survives a disk that lied about one of them.
    #[default]
    TwoPhase,
    /// One fsync: survives crashes and power cuts on a disk that keeps its word.
    OnePhase,
}

/// See the module.
pub struct Redb {
    db: Arc<Database>,
    transaction: Option<WriteTransaction>,
    names: HashMap<Name, u32>,
    next_name: u32,
    clock: Clock,
    commit: Commit,
}

impl Redb {
    /// Makes the file of a new store.
    ///
    /// # Errors
    /// The file is there already, or could not be written.
    pub fn create(path: &Path, clock: Clock, commit: Commit) -> Result<Self, StoreError> {
        let io = |source| StoreError::Io { path: path.to_owned(), doing: "making the store's file", source };
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(path).map_err(io)?;
        let db = redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create_file(file)
            .map_err(|error| open_error(path, error))?;
        Self::furnish(path, db, clock, commit)
    }

    /// A store over storage of another kind than a file: a new one where it is empty and `create` says so, else the one
    /// that is there. Simulated disks are such storage.
    ///
    /// # Errors
    /// As [`Redb::create`] and [`Redb::open`]; one says where by the path `storage`.
    pub fn over(
        storage: impl redb::StorageBackend,
        create: bool,
        clock: Clock,
        commit: Commit,
    ) -> Result<Self, StoreError> {
        let path = Path::new("storage");
        let io = |source| StoreError::Io { path: path.to_owned(), doing: "looking at the storage", source };
        let empty = storage.len().map_err(io)? == 0;
        if empty != create {
            let why = if empty { "is empty" } else { "is not empty" };
            return Err(StoreError::Foreign { path: path.to_owned(), why: why.to_owned() });
        }
        opening(path, || {
            let mut builder = redb::Builder::new();
            let db = builder.set_cache_size(CACHE_BYTES).create_with_backend(storage);
            let db = db.map_err(|error| open_error(path, error))?;
            if create { Self::furnish(path, db, clock, commit) } else { Self::with(path, db, clock, commit) }
        })
    }

    /// Makes the tables of a new store.
    fn furnish(path: &Path, db: Database, clock: Clock, commit: Commit) -> Result<Self, StoreError> {
        let transaction = db.begin_write().map_err(engine_error)?;
        write::create_tables(&transaction)?;
        transaction.commit().map_err(engine_error)?;
        Self::with(path, db, clock, commit)
    }

    /// Opens the file of a store. After a crash it is repaired first, which reads all of it.
    ///
    /// # Errors
    /// Another process has it open; it is damaged; it is no such file.
    pub fn open(path: &Path, clock: Clock, commit: Commit) -> Result<Self, StoreError> {
        // An empty file would silently become an empty store.
        let io = |source| StoreError::Io { path: path.to_owned(), doing: "reading the store's file", source };
        if std::fs::metadata(path).map_err(io)?.len() == 0 {
            return Err(StoreError::Foreign {
                path: path.to_owned(),
                why: "the store's file is empty; put it back from where it went, or from a backup".to_owned(),
            });
        }
        opening(path, || {
            let db =
                redb::Builder::new().set_cache_size(CACHE_BYTES).open(path).map_err(|error| open_error(path, error))?;
            Self::with(path, db, clock, commit)
        })
    }

    fn with(path: &Path, db: Database, clock: Clock, commit: Commit) -> Result<Self, StoreError> {
        let mut names = HashMap::new();
        let mut next_name = 1;
        let view = db.begin_read().map_err(engine_error)?;
        let table = view.open_table(tables::NAMES).map_err(|error| match error {
            TableError::Storage(error) => engine_error(error),
            other => StoreError::Foreign {
                path: path.to_owned(),
                why: format!("is a redb file, but not that of a store: {other}"),
            },
        })?;
        for entry in table.iter().map_err(engine_error)? {
            let (key, value) = entry.map_err(engine_error)?;
            let number = u32::from_be_bytes(*key.value());
            let name: Name = codec::decode(value.value()).map_err(|e| damaged("names", key.value(), e))?;
            next_name = next_name.max(number + 1);
            names.insert(name, number);
        }
        drop((table, view));
        Ok(Self { db: Arc::new(db), transaction: None, names, next_name, clock, commit })
    }

    fn begin(&mut self) -> Result<WriteTransaction, StoreError> {
        if let Some(open) = self.transaction.take() {
            return Ok(open);
        }
        let mut transaction = self.db.begin_write().map_err(engine_error)?;
        transaction.set_durability(redb::Durability::Immediate).map_err(engine_error)?;
        transaction.set_two_phase_commit(self.commit == Commit::TwoPhase);
        Ok(transaction)
    }
}

impl Engine for Redb {
    fn prefetch(&mut self, needs: &Needs) -> Result<WorkingSet, StoreError> {
        let transaction = self.begin()?;
        let now = self.clock.now();
        let mut set = guarded(|| read::prefetch(&transaction, needs, now))?;
        for name in &needs.names {
            if let Some(number) = self.names.get(name) {
                set.names.insert(name.clone(), *number);
            }
        }
        set.next_name = self.next_name;
        self.transaction = Some(transaction);
        Ok(set)
    }

    fn persist(&mut self, changes: &[Change]) -> Result<Persisted, StoreError> {
        let transaction = self.begin()?;
        let persisted = guarded(|| {
            let persisted = write::persist(&transaction, changes)?;
            if changes.is_empty() {
                transaction.abort().map_err(engine_error)?;
            } else {
                transaction.commit().map_err(engine_error)?;
            }
            Ok(persisted)
        })?;
        for change in changes {
            if let Change::Name(name, number) = change {
                self.names.insert(name.clone(), *number);
                self.next_name = self.next_name.max(number + 1);
            }
        }
        Ok(persisted)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(View(Arc::clone(&self.db)))
    }
}

struct View(Arc<Database>);

impl Reader for View {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(Box::new(read::View(self.0.begin_read().map_err(engine_error)?)))
    }
}

/// Runs `work` on the file. A damaged page makes redb panic where another would make it fail; both are errors of the file,
/// not of the program, and after either of them every use of it goes on to fail.
fn guarded<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
        Err(StoreError::Panicked(text.to_owned()))
    })
}

/// Runs what opens a file: where a damaged one makes redb panic, the error says what to do about it.
fn opening<T>(path: &Path, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    guarded(work).map_err(|error| match error {
        StoreError::Panicked(why) => {
            let why = format!("the store's file is damaged; restore it from a backup ({why})");
            StoreError::Foreign { path: path.to_owned(), why }
        }
        other => other,
    })
}

fn engine_error(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Engine(error.into().to_string())
}

fn damaged(table: &'static str, key: &[u8], source: codec::CodecError) -> StoreError {
    let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
    StoreError::Damaged { table, key, source }
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    let path: PathBuf = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path),
        DatabaseError::UpgradeRequired(version) => StoreError::Foreign {
            path,
            why: format!("the file has redb's format {version}, which this program does not read"),
        },
        DatabaseError::Storage(redb::StorageError::Io(source)) if source.kind() == std::io::ErrorKind::InvalidData => {
            StoreError::Foreign { path, why: format!("not the file of a store, or damaged: {source}") }
        }
        DatabaseError::Storage(redb::StorageError::Io(source)) => {
            StoreError::Io { path, doing: "opening the store's file", source }
        }
        other => StoreError::Foreign { path, why: format!("the store's file cannot be opened: {other}") },
    }
}
