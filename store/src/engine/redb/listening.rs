//! Who listens to what, and what was heard: reading and writing both.

use std::collections::HashMap;
use std::sync::Arc;

use redb::{ReadableTable, WriteTransaction};

use super::{damaged, engine_error, tables};
use crate::codec;
use crate::command::{Name, Subscription, limits};
use crate::engine::WorkingSet;
use crate::error::StoreError;
use crate::job::TenantId;
use crate::listening::{Heard, Listening};

/// How often what kinds listen to has changed, by whoever.
pub(super) fn version(from: &WriteTransaction) -> Result<u64, StoreError> {
    let numbers = from.open_table(tables::META).map_err(engine_error)?;
    Ok(numbers.get(tables::SUBSCRIBED).map_err(engine_error)?.map_or(0, |n| n.value()))
}

/// Who listens to what, with these names.
pub(super) fn listening(from: &WriteTransaction, names: &HashMap<Name, u32>) -> Result<Arc<Listening>, StoreError> {
    let table = from.open_table(tables::SUBSCRIPTIONS).map_err(engine_error)?;
    let mut listening = Listening::default();
    for (tenant, subscriptions) in subscriptions(&table)? {
        listening.set(tenant, &subscriptions, names.iter().map(|(name, number)| (name, *number)));
    }
    Ok(Arc::new(listening))
}

/// What the kinds of each tenant listen to.
pub(super) fn subscriptions(
    table: &impl ReadableTable<&'static [u8; 4], &'static [u8]>,
) -> Result<Vec<(TenantId, Vec<Subscription>)>, StoreError> {
    let entries = table.iter().map_err(engine_error)?;
    entries
        .map(|entry| {
            let (key, value) = entry.map_err(engine_error)?;
            let all = codec::decode(value.value()).map_err(|error| damaged("subscriptions", key.value(), error))?;
            Ok((TenantId(u32::from_be_bytes(*key.value())), all))
        })
        .collect()
}

/// Reads what was heard first.
pub(super) fn heard(from: &WriteTransaction, max: u32, set: &mut WorkingSet) -> Result<(), StoreError> {
    set.heard_all = true;
    if max == 0 {
        return Ok(());
    }
    let table = from.open_table(tables::HEARD).map_err(engine_error)?;
    let mut bytes = 0;
    for entry in table.iter().map_err(engine_error)? {
        let (key, value) = entry.map_err(engine_error)?;
        let heard: Heard = codec::decode(value.value()).map_err(|error| damaged("heard", key.value(), error))?;
        bytes += heard.weight();
        if !set.heard.is_empty() && (set.heard.len() >= max as usize || bytes > limits::LISTENERS_BYTES_MAX) {
            set.heard_all = false;
            break;
        }
        set.heard.push((u64::from_be_bytes(*key.value()), heard));
    }
    Ok(())
}

/// What is to be written.
#[derive(Default)]
pub(super) struct Writes<'a> {
    pub(super) new: Vec<&'a Heard>,
    pub(super) rest: Vec<(u64, Option<&'a Heard>)>,
    pub(super) subscriptions: Vec<(TenantId, &'a [Subscription])>,
}

pub(super) fn write(into: &WriteTransaction, writes: &Writes<'_>) -> Result<(), StoreError> {
    let Writes { new, rest, subscriptions } = writes;
    if !(new.is_empty() && rest.is_empty()) {
        let mut table = into.open_table(tables::HEARD).map_err(engine_error)?;
        // Behind the last one, which may be told of in this very batch.
        let last = table.last().map_err(engine_error)?.map_or(0, |(key, _)| u64::from_be_bytes(*key.value()));
        for (number, heard) in (last + 1..).zip(new) {
            table.insert(&number.to_be_bytes(), codec::encode(heard).as_slice()).map_err(engine_error)?;
        }
        for (number, heard) in rest {
            let key = number.to_be_bytes();
            match heard {
                Some(heard) => drop(table.insert(&key, codec::encode(heard).as_slice()).map_err(engine_error)?),
                None => drop(table.remove(&key).map_err(engine_error)?),
            }
        }
    }
    if subscriptions.is_empty() {
        return Ok(());
    }
    let mut table = into.open_table(tables::SUBSCRIPTIONS).map_err(engine_error)?;
    for (tenant, all) in subscriptions {
        let key = tenant.0.to_be_bytes();
        if all.is_empty() {
            table.remove(&key).map_err(engine_error)?;
        } else {
            table.insert(&key, codec::encode(all).as_slice()).map_err(engine_error)?;
        }
    }
    drop(table);
    let version = version(into)?;
    let mut numbers = into.open_table(tables::META).map_err(engine_error)?;
    numbers.insert(tables::SUBSCRIBED, version + 1).map_err(engine_error)?;
    Ok(())
}
