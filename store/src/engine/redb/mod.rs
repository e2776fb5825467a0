//! The default engine: one redb file, crash-safe, with one writer.
//!
//! A batch is one write transaction: opened by the first `prefetch`, ended by `persist`, durable when that returns. Nothing
//! is kept between batches but the names, which are only ever added to, and looked for anew where others were added.
//! `tables` says how keys become bytes, `read` and `write` are the two directions, `check` compares everything with
//! everything. `meta` has the single numbers, `copy` and `stats` read all of a file that is in use, `migrate` brings an
//! older one up to date, `embed` is for programs that keep tables of their own in it.

mod check;
mod copy;
mod dump;
pub mod embed;
mod listening;
mod meta;
mod migrate;
mod read;
mod rebuild;
mod stats;
mod tables;
mod tokens;
mod write;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadableDatabase, TableError, WriteTransaction};

use super::{Change, Engine, Needs, Persisted, Reader, Snapshot, WorkingSet};
use crate::clock::Clock;
use crate::codec;
use crate::command::Name;
use crate::dir::{self, StoreDir};
use crate::error::StoreError;
use crate::listening::Listening;

pub use copy::{Copied, Live};
pub use meta::Meta;
pub use migrate::{STEPS, Step, migrate_file, schema_of};
pub use stats::{FileStats, TableStats};

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
    /// Who listens to what, as of that change of it: looked at anew where others changed it, or added names.
    listening: (u64, Arc<Listening>),
    clock: Clock,
    commit: Commit,
    /// Where a failure is noted, so that the next start checks the file; none for a file that is in no store's folder.
    home: Option<StoreDir>,
}

impl Redb {
    /// Makes the file of a new store.
    ///
    /// # Errors
    /// The file is there already, or could not be written.
    pub fn create(path: &Path, clock: Clock, commit: Commit) -> Result<Self, StoreError> {
        let db = new_file(path)?;
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
        meta::write_schema(&transaction, dir::SCHEMA)?;
        transaction.commit().map_err(engine_error)?;
        Self::with(path, db, clock, commit)
    }

    /// Opens the file of a store. After a crash it is repaired first, which reads all of it.
    ///
    /// # Errors
    /// Another process has it open; it is damaged; it is no such file.
    pub fn open(path: &Path, clock: Clock, commit: Commit) -> Result<Self, StoreError> {
        opening(path, || Self::with(path, open_file(path)?, clock, commit))
    }

    /// From now on a failure is noted in the folder of the store.
    #[must_use]
    pub(crate) fn at_home(self, home: StoreDir) -> Self {
        Self { home: Some(home), ..self }
    }

    /// Makes the file as small as it can be; needs it for itself: no reader, no batch. Whether anything was gained.
    ///
    /// # Errors
    /// Somebody else uses the file, or it could not be read or written.
    pub fn compact(&mut self) -> Result<bool, StoreError> {
        let db = Arc::get_mut(&mut self.db);
        let db = db.ok_or_else(|| StoreError::Engine("a store that is read cannot be made smaller".to_owned()))?;
        let result = guarded(|| db.compact().map_err(engine_error));
        self.noted(result)
    }

    fn with(path: &Path, db: Database, clock: Clock, commit: Commit) -> Result<Self, StoreError> {
        let view = db.begin_read().map_err(engine_error)?;
        known_schema(path, &view, dir::SCHEMA)?;
        view.open_table(tables::NAMES).map_err(|error| match error {
            TableError::Storage(error) => engine_error(error),
            other => StoreError::Foreign {
                path: path.to_owned(),
                why: format!("is a redb file, but not that of a store: {other}"),
            },
        })?;
        drop(view);
        // Names are read with the first batch that needs one.
        let (names, next_name) = (HashMap::new(), 1);
        let (db, listening) = (Arc::new(db), (0, Arc::default()));
        Ok(Self { db, transaction: None, names, next_name, listening, clock, commit, home: None })
    }

    /// The file itself, for programs that keep tables of their own in it; see [`embed`].
    #[must_use]
    pub fn database(&self) -> Arc<Database> {
        Arc::clone(&self.db)
    }

    fn begin(&mut self) -> Result<WriteTransaction, StoreError> {
        if let Some(open) = self.transaction.take() {
            return Ok(open);
        }
        let mut transaction = self.db.begin_write().map_err(engine_error)?;
        transaction.set_durability(redb::Durability::Immediate).map_err(engine_error)?;
        #[cfg(planted = "skip_sync")]
        transaction.set_durability(redb::Durability::None).map_err(engine_error)?;
        transaction.set_two_phase_commit(self.commit == Commit::TwoPhase);
        Ok(transaction)
    }

    /// Notes a failure where the next start finds it: after one nobody knows what is on the disk.
    fn noted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let (Err(error), Some(home)) = (&result, &self.home)
            && let Err(unwritten) = home.note_failure(&error.to_string(), self.clock.now())
        {
            tracing::error!(%error, %unwritten, "the store failed, and that could not be noted; check it before its next start");
        }
        self.spared(result)
    }

    /// After a panic within redb its locks are poisoned, and to close it would panic again, where nothing catches that: it
    /// is never closed, as if the process had died. The system closes the file with the process.
    fn spared<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(result, Err(StoreError::Panicked(_))) {
            std::mem::forget(Arc::clone(&self.db));
        }
        result
    }

    fn read(&mut self, needs: &Needs) -> Result<WorkingSet, StoreError> {
        let transaction = self.begin()?;
        let (now, uptime) = (self.clock.now(), self.clock.uptime());
        let set = WorkingSet { now, uptime, ..WorkingSet::default() };
        let version = guarded(|| listening::version(&transaction))?;
        if !needs.names.is_empty() || version > 0 {
            let known = self.next_name;
            guarded(|| read::new_names(&transaction, &mut self.names, &mut self.next_name))?;
            if version != self.listening.0 || (version > 0 && known != self.next_name) {
                self.listening = (version, guarded(|| listening::listening(&transaction, &self.names))?);
            }
        }
        let mut set = guarded(|| read::prefetch(&transaction, needs, set))?;
        set.listening = Arc::clone(&self.listening.1);
        for name in &needs.names {
            if let Some(number) = self.names.get(name) {
                set.names.insert(name.clone(), *number);
            }
        }
        guarded(|| read::names_in_use(&transaction, needs, &mut set))?;
        guarded(|| read::queue_totals(&transaction, needs, |name| self.names.get(name).copied(), &mut set))?;
        set.next_name = self.next_name;
        self.transaction = Some(transaction);
        Ok(set)
    }

    fn write(&mut self, changes: &[Change]) -> Result<Persisted, StoreError> {
        #[cfg(planted = "torn_batch")]
        let changes = match changes.split_at(changes.len() / 2) {
            ([], _) => changes,
            (first, second) => {
                let transaction = self.begin()?;
                write::persist(&transaction, first)?;
                transaction.commit().map_err(engine_error)?;
                second
            }
        };
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
                if !self.listening.1.is_empty() {
                    Arc::make_mut(&mut self.listening.1).name(name, *number);
                }
            }
        }
        Ok(persisted)
    }
}

impl Engine for Redb {
    fn prefetch(&mut self, needs: &Needs) -> Result<WorkingSet, StoreError> {
        let set = self.read(needs);
        self.noted(set)
    }

    fn persist(&mut self, changes: &[Change]) -> Result<Persisted, StoreError> {
        let persisted = self.write(changes);
        self.noted(persisted)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(View(Arc::clone(&self.db)))
    }
}

/// Makes the file of a database where none is.
fn new_file(path: &Path) -> Result<Database, StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), doing: "making the store's file", source };
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(path).map_err(io)?;
    let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create_file(file);
    database.map_err(|error| open_error(path, error))
}

/// Opens the file of a database; after a crash it is repaired first.
fn open_file(path: &Path) -> Result<Database, StoreError> {
    // An empty file would silently become an empty store.
    let io = |source| StoreError::Io { path: path.to_owned(), doing: "reading the store's file", source };
    if std::fs::metadata(path).map_err(io)?.len() == 0 {
        let why = "the store's file is empty; put it back from where it went, or from a backup".to_owned();
        return Err(StoreError::Foreign { path: path.to_owned(), why });
    }
    redb::Builder::new().set_cache_size(CACHE_BYTES).open(path).map_err(|error| open_error(path, error))
}

/// Whether the file has the schema that this program reads and writes.
fn known_schema(path: &Path, view: &redb::ReadTransaction, known: u32) -> Result<(), StoreError> {
    let read = meta::read(view).map_err(|error| match error {
        StoreError::Contradiction(why) => StoreError::Foreign { path: path.to_owned(), why },
        other => other,
    });
    let found = read?.schema;
    match found.cmp(&known) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(StoreError::Older { path: path.to_owned(), found, known }),
        std::cmp::Ordering::Greater => Err(StoreError::Newer { path: path.to_owned(), found, known }),
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
            StoreError::Foreign {
                path,
                why: format!(
                    "not the file of a store, or damaged ({source}); put it back from where it went, or from a backup"
                ),
            }
        }
        DatabaseError::Storage(redb::StorageError::Io(source)) => {
            StoreError::Io { path, doing: "opening the store's file", source }
        }
        other => {
            let why = format!("the store's file is damaged, or is none of ours; restore it from a backup ({other})");
            StoreError::Foreign { path, why }
        }
    }
}
