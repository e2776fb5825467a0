//! Tokens: their table, reading and writing them.

use redb::{ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use super::{damaged, engine_error};
use crate::codec;
use crate::engine::{Needs, WorkingSet};
use crate::error::StoreError;
use crate::token::{Token, TokenHash};

/// SHA-256 of a token → what is known of it.
pub(super) const TOKENS: TableDefinition<'static, &'static [u8; 32], &'static [u8]> = TableDefinition::new("tokens");

/// What a batch may touch, and how many there are.
pub(super) fn read(from: &WriteTransaction, needs: &Needs, set: &mut WorkingSet) -> Result<(), StoreError> {
    if needs.tokens.is_empty() {
        return Ok(());
    }
    let table = from.open_table(TOKENS).map_err(engine_error)?;
    set.tokens_stored = table.len().map_err(engine_error)?;
    for hash in &needs.tokens {
        if let Some(value) = table.get(&hash.0).map_err(engine_error)? {
            let token = codec::decode(value.value()).map_err(|error| damaged("tokens", &hash.0, error))?;
            set.tokens.insert(*hash, token);
        }
    }
    Ok(())
}

/// All of them, by their hashes.
pub(super) fn all(
    table: &impl ReadableTable<&'static [u8; 32], &'static [u8]>,
) -> Result<Vec<(TokenHash, Token)>, StoreError> {
    let entries = table.iter().map_err(engine_error)?;
    entries
        .map(|entry| {
            let (key, value) = entry.map_err(engine_error)?;
            let token = codec::decode(value.value()).map_err(|error| damaged("tokens", key.value(), error))?;
            Ok((TokenHash(*key.value()), token))
        })
        .collect()
}
