//! `kv`: durable values of the plugin's own. Reads see what is committed and the run's own writes; writes are staged.
//!
//! What can be checked is checked at the call: grant, sizes, how many keys the tenant has. `compare-and-set` is checked when
//! the run is recorded, as only then it is known who was first.

use std::collections::BTreeMap;

use super::contract::runner::plugin::kv::Host;
use super::staged::{Refused, refused};
use super::{CallError, Job};
use crate::wasm::backing::{Backing, KvWrite, Unavailable};

/// A key.
const KV_KEY_BYTES_MAX: usize = 256;
/// A value.
const KV_VALUE_BYTES_MAX: usize = 64 << 10;
/// Keys of a tenant.
const KV_KEYS_MAX: u64 = 100_000;
/// Keys of one answer.
const LISTED_MAX: u32 = 1_000;
/// Writes of one run: each is a change of the transaction that records it.
const WRITES_MAX: usize = 10_000;

/// What a run wrote so far.
#[derive(Debug, Default)]
pub(crate) struct KvStaged {
    /// What its reads see of that; none: removed.
    seen: BTreeMap<String, Option<Vec<u8>>>,
    pub(crate) writes: Vec<KvWrite>,
}

impl Host for Job {
    fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, CallError> {
        self.may_kv(&key)?;
        if let Some(own) = self.staged.kv.seen.get(&key) {
            return Ok(own.clone());
        }
        Ok(self.backing.kv_get(&key)?)
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), CallError> {
        self.write_kv(KvWrite { key, expected: None, value: Some(value) })
    }

    fn remove(&mut self, key: String) -> Result<(), CallError> {
        self.write_kv(KvWrite { key, expected: None, value: None })
    }

    fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
    ) -> Result<(), CallError> {
        self.write_kv(KvWrite { key, expected: Some(expected), value })
    }

    fn keys(&mut self, prefix: String, after: Option<String>, limit: u32) -> Result<Vec<String>, CallError> {
        self.allowed_kv()?;
        Ok(keys(self.backing.as_ref(), &self.staged.kv.seen, &prefix, after, limit.min(LISTED_MAX) as usize)?)
    }
}

impl Job {
    fn allowed_kv(&mut self) -> Result<(), CallError> {
        self.only_for_handlers()?;
        self.staged.grants.kv().map_err(|denied| self.denied(&denied))
    }

    fn may_kv(&mut self, key: &str) -> Result<(), CallError> {
        self.allowed_kv()?;
        match key.len() {
            1..=KV_KEY_BYTES_MAX => Ok(()),
            0 => Err(refused("invalid", "the key is empty".to_owned()).into()),
            n => Err(refused("limit", format!("a key of {n} bytes; at most {KV_KEY_BYTES_MAX}")).into()),
        }
    }

    fn write_kv(&mut self, write: KvWrite) -> Result<(), CallError> {
        self.may_kv(&write.key)?;
        let bytes = write.value.as_ref().map_or(0, Vec::len);
        if bytes > KV_VALUE_BYTES_MAX {
            let why = format!("a value of {bytes} bytes; at most {KV_VALUE_BYTES_MAX}");
            return Err(refused("limit", why).into());
        }
        if self.staged.kv.writes.len() >= WRITES_MAX {
            return Err(refused("limit", format!("more than {WRITES_MAX} writes in one run")).into());
        }
        self.room_for_key(&write)?;
        let expected = write.expected.as_ref().and_then(Option::as_ref).map_or(0, Vec::len);
        self.staged.add_bytes((write.key.len() + bytes + expected) as u64, 0)?;
        self.staged.kv.seen.insert(write.key.clone(), write.value.clone());
        self.staged.kv.writes.push(write);
        Ok(())
    }

    /// A tenant has so many keys at most; what others have in flight is not seen here, and may exceed it.
    fn room_for_key(&self, write: &KvWrite) -> Result<(), CallError> {
        let seen = &self.staged.kv.seen;
        if write.value.is_none() || seen.get(&write.key).is_some_and(Option::is_some) {
            return Ok(());
        }
        if self.backing.kv_get(&write.key)?.is_some() {
            return Ok(());
        }
        let own = seen.values().filter(|value| value.is_some()).count() as u64;
        if self.backing.kv_len()?.saturating_add(own) < KV_KEYS_MAX {
            return Ok(());
        }
        Err(refused("limit", format!("the tenant has {KV_KEYS_MAX} keys; remove some")).into())
    }
}

impl From<Unavailable> for Refused {
    fn from(why: Unavailable) -> Self {
        refused("unavailable", why.to_string())
    }
}

impl From<Unavailable> for CallError {
    fn from(why: Unavailable) -> Self {
        Refused::from(why).into()
    }
}

/// Committed keys and the run's own, merged; what it removed is not among them.
fn keys(
    backing: &dyn Backing,
    seen: &BTreeMap<String, Option<Vec<u8>>>,
    prefix: &str,
    after: Option<String>,
    limit: usize,
) -> Result<Vec<String>, Unavailable> {
    let own = seen.iter().filter(|(key, value)| {
        value.is_some() && key.starts_with(prefix) && after.as_ref().is_none_or(|after| *key > after)
    });
    let mut found: Vec<String> = own.map(|(key, _)| key.clone()).collect();
    let mut from = after;
    let mut wanted = limit;
    while wanted > 0 {
        // Whole pages, however few are wanted: of what the run has removed there may be thousands in a row.
        let page = backing.kv_keys(prefix, from.as_deref(), LISTED_MAX)?;
        let full = page.len() >= LISTED_MAX as usize;
        from = page.last().cloned();
        let fresh: Vec<String> = page.into_iter().filter(|key| !seen.contains_key(key)).collect();
        wanted = wanted.saturating_sub(fresh.len());
        found.extend(fresh);
        if !full {
            break;
        }
    }
    found.sort_unstable();
    found.truncate(limit);
    Ok(found)
}
