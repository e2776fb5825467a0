//! Copies everything that is kept into a new file, table by table, from one consistent view, while the store is written
//! to. The copy's tables are as compact as ascending keys make them.

use std::path::Path;
use std::sync::Arc;

use redb::{Database, Key, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};
use redb::{TableError, TableHandle, Value};

use super::{Redb, engine_error, guarded, meta, new_file, tables};
use crate::error::StoreError;

/// What one transaction of a copy takes: rows, and bytes of keys and values. Enough that its fsync does not matter, and
/// little enough to be kept in memory.
const PIECE_ROWS_MAX: u64 = 50_000;
const PIECE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copied {
    /// Rows of all tables.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// The schema of what was copied.
    pub schema: u32,
    /// Names of tables that were not copied: another program keeps them in the same file.
    pub others: Vec<String>,
}

/// What can be done to a store's file while its writer has the engine: read all of it. Keeps the file open.
#[derive(Clone)]
pub struct Live(pub(super) Arc<Database>);

impl Redb {
    /// A way to the file that outlives the hand-over of the engine to its writer.
    #[must_use]
    pub fn live(&self) -> Live {
        Live(Arc::clone(&self.db))
    }
}

impl Live {
    /// Copies everything into a new file at `path`. Old pages of the store are kept for as long as this takes, so that its
    /// file grows by what is written meanwhile. Asks between two pieces whether to `go_on`.
    ///
    /// # Errors
    /// There is a file already; the store could not be read, the copy could not be written; or it was told to stop.
    pub fn copy_to(&self, path: &Path, go_on: &dyn Fn() -> bool) -> Result<Copied, StoreError> {
        guarded(|| {
            let into = new_file(path)?;
            let view = self.0.begin_read().map_err(engine_error)?;
            let others = others(&view)?;
            let mut copied = Copied { schema: meta::read(&view)?.schema, others, ..Copied::default() };
            macro_rules! copy {
                ($($table:ident)*) => {$( copy_table(&view, &into, tables::$table, &mut copied, go_on)?; )*};
            }
            tables::for_each_table!(copy);
            Ok(copied)
        })
    }
}

/// Tables that are not the store's: a program that embeds it keeps them, and only that program knows what they hold. (A
/// newer store's are no question here: its schema is refused before.)
fn others(view: &ReadTransaction) -> Result<Vec<String>, StoreError> {
    macro_rules! names {
        ($($table:ident)*) => { [$( tables::$table.name() ),*] };
    }
    let known = tables::for_each_table!(names);
    let all = view.list_tables().map_err(engine_error)?;
    Ok(all.map(|table| table.name().to_owned()).filter(|name| !known.contains(&name.as_str())).collect())
}

/// A table of a view; none where the file, being of an older schema, has none.
pub(super) fn table_of<K: Key + 'static, V: Value + 'static>(
    view: &ReadTransaction,
    table: TableDefinition<'static, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, StoreError> {
    match view.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(engine_error(error)),
    }
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    into: &Database,
    table: TableDefinition<'static, K, V>,
    copied: &mut Copied,
    go_on: &dyn Fn() -> bool,
) -> Result<(), StoreError> {
    let Some(source) = table_of(from, table)? else { return Ok(()) };
    let mut rest = source.iter().map_err(engine_error)?;
    let mut more = true;
    while more {
        if !go_on() {
            return Err(StoreError::Stopped("copying the store"));
        }
        let piece = into.begin_write().map_err(engine_error)?;
        more = copy_piece(&mut rest, &mut piece.open_table(table).map_err(engine_error)?, copied)?;
        piece.commit().map_err(engine_error)?;
    }
    Ok(())
}

/// Copies what one transaction takes; whether there is more.
fn copy_piece<K: Key + 'static, V: Value + 'static>(
    rest: &mut redb::Range<'_, K, V>,
    target: &mut redb::Table<'_, K, V>,
    copied: &mut Copied,
) -> Result<bool, StoreError> {
    let (mut rows, mut bytes) = (0, 0);
    for entry in rest {
        let (key, value) = entry.map_err(engine_error)?;
        bytes += K::as_bytes(&key.value()).as_ref().len() as u64;
        bytes += V::as_bytes(&value.value()).as_ref().len() as u64;
        rows += 1;
        target.insert(key.value(), value.value()).map_err(engine_error)?;
        if rows >= PIECE_ROWS_MAX || bytes >= PIECE_BYTES_MAX {
            copied.rows += rows;
            copied.bytes += bytes;
            return Ok(true);
        }
    }
    copied.rows += rows;
    copied.bytes += bytes;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::clock::Clock;
    use crate::engine::redb::Commit;

    #[test]
    fn the_list_of_tables_has_every_table_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = Redb::create(&dir.path().join("store.redb"), Clock::System, Commit::OnePhase).unwrap();
        let view = store.db.begin_read().unwrap();
        let made: BTreeSet<String> = view.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
        macro_rules! names {
            ($($table:ident)*) => { BTreeSet::from([$( tables::$table.name().to_owned() ),*]) };
        }
        assert_eq!(made, tables::for_each_table!(names));
    }

    #[test]
    fn tables_of_another_program_are_named_not_left_out_in_silence() {
        let dir = tempfile::tempdir().unwrap();
        let store = Redb::create(&dir.path().join("store.redb"), Clock::System, Commit::OnePhase).unwrap();
        let write = store.db.begin_write().unwrap();
        drop(write.open_table(TableDefinition::<u64, u64>::new("shop_orders")).unwrap());
        write.commit().unwrap();
        let copied = store.live().copy_to(&dir.path().join("copy.redb"), &|| true).unwrap();
        assert_eq!(copied.others, ["shop_orders"]);
    }

    #[test]
    fn a_copy_stops_when_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let store = Redb::create(&dir.path().join("store.redb"), Clock::System, Commit::OnePhase).unwrap();
        let copied = store.live().copy_to(&dir.path().join("copy.redb"), &|| false);
        assert!(matches!(copied, Err(StoreError::Stopped(_))), "{copied:?}");
    }
}
