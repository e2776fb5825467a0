//! The names that have numbers, and how many of a tenant are in use.

use std::collections::HashMap;

use redb::{ReadableTable, WriteTransaction};

use crate::codec;
use crate::command::Name;
use crate::engine::redb::{damaged, engine_error, tables};
use crate::engine::{Needs, WorkingSet, put_in_use, with_new_names};
use crate::error::StoreError;

/// Learns the names that were added since the last time, by whoever.
pub(in crate::engine::redb) fn new_names(
    from: &WriteTransaction,
    names: &mut HashMap<Name, u32>,
    next_name: &mut u32,
) -> Result<(), StoreError> {
    let numbers = from.open_table(tables::META).map_err(engine_error)?;
    let next = numbers.get(tables::NEXT_NAME).map_err(engine_error)?.map_or(1, |n| n.value());
    if next <= u64::from(*next_name) {
        return Ok(());
    }
    let table = from.open_table(tables::NAMES).map_err(engine_error)?;
    for entry in table.range::<&[u8; 4]>(&next_name.to_be_bytes()..).map_err(engine_error)? {
        let (key, value) = entry.map_err(engine_error)?;
        let number = u32::from_be_bytes(*key.value());
        let name: Name = codec::decode(value.value()).map_err(|e| damaged("names", key.value(), e))?;
        *next_name = (*next_name).max(number + 1);
        names.insert(name, number);
    }
    Ok(())
}

/// For whoever brings names that have no number.
pub(in crate::engine::redb) fn names_in_use(
    from: &WriteTransaction,
    needs: &Needs,
    set: &mut WorkingSet,
) -> Result<(), StoreError> {
    for tenant in with_new_names(needs, set) {
        let counts = from.open_table(tables::COUNTS).map_err(engine_error)?;
        let (first, last) = tables::counts_of(tenant);
        let range = counts.range::<&[u8; 14]>(&first..=&last).map_err(engine_error)?;
        let some = range.filter_map(|entry| match entry {
            Ok((_, n)) if n.value() == 0 => None,
            Ok((key, _)) => Some(Ok(tables::count_of(key.value()))),
            Err(error) => Some(Err(engine_error(error))),
        });
        put_in_use(set, tenant, some)?;
    }
    Ok(())
}
