//! Measures the file: what is in it, table by table, and how much of it is in use. Reads every page of keys on a
//! consistent view, so it costs about as much as a repair, and nothing that the writer would notice.

use redb::Value;
use redb::{
    Key, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle,
};

use super::copy::{Live, table_of};
use super::{Meta, engine_error, guarded, meta, tables};
use crate::error::StoreError;
use crate::job::Seq;

/// What is in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableStats {
    /// Its name.
    pub name: &'static str,
    /// Its rows.
    pub rows: u64,
    /// Bytes of keys and values.
    pub stored_bytes: u64,
    /// Bytes of what leads to them.
    pub metadata_bytes: u64,
    /// Bytes that its pages have left.
    pub fragmented_bytes: u64,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStats {
    /// Every table.
    pub tables: Vec<TableStats>,
    /// The single numbers.
    pub meta: Meta,
    /// The oldest number that the log still has.
    pub oldest_event: Option<Seq>,
    /// The newest.
    pub newest_event: Option<Seq>,
}

impl FileStats {
    /// Bytes of everything that is kept, with what leads to it.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.stored_bytes + table.metadata_bytes).sum()
    }

    /// Bytes that pages in use have left.
    #[must_use]
    pub fn fragmented_bytes(&self) -> u64 {
        self.tables.iter().map(|table| table.fragmented_bytes).sum()
    }
}

impl Live {
    /// Measures the file.
    ///
    /// # Errors
    /// It could not be read.
    pub fn stats(&self) -> Result<FileStats, StoreError> {
        guarded(|| {
            let view = self.0.begin_read().map_err(engine_error)?;
            let mut measured = Vec::new();
            macro_rules! measure {
                ($($table:ident)*) => {$( measured.extend(measure(&view, tables::$table.name(), tables::$table)?); )*};
            }
            tables::for_each_table!(measure);
            let log = view.open_table(tables::LOG).map_err(engine_error)?;
            let seq = |key: &[u8; 8]| Seq(u64::from_be_bytes(*key));
            let oldest_event = log.first().map_err(engine_error)?.map(|(key, _)| seq(key.value()));
            let newest_event = log.last().map_err(engine_error)?.map(|(key, _)| seq(key.value()));
            Ok(FileStats { tables: measured, meta: meta::read(&view)?, oldest_event, newest_event })
        })
    }
}

fn measure<K: Key + 'static, V: Value + 'static>(
    view: &ReadTransaction,
    name: &'static str,
    table: TableDefinition<'static, K, V>,
) -> Result<Option<TableStats>, StoreError> {
    let Some(table) = table_of(view, table)? else { return Ok(None) };
    let stats = table.stats().map_err(engine_error)?;
    Ok(Some(TableStats {
        name,
        rows: table.len().map_err(engine_error)?,
        stored_bytes: stats.stored_bytes(),
        metadata_bytes: stats.metadata_bytes(),
        fragmented_bytes: stats.fragmented_bytes(),
    }))
}
