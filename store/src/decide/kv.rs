//! What plugins keep under keys: written with the outcome of a call, and conditions checked there.

use std::collections::HashMap;

use crate::command::{KvWrite, KvWrites, Namespace};
use crate::engine::{Change, KvKey, Needs};
use crate::job::{TenantId, limits};

use super::Batch;
use super::staged::Effects;

/// What conditions are about. Of any other key nobody needs to know what it has.
pub(super) fn needs(tenant: TenantId, kv: &KvWrites, needs: &mut Needs) {
    let space = Namespace { tenant, plugin: kv.plugin };
    let conditions = kv.writes.iter().filter(|write| write.expected.is_some());
    needs.kv.extend(conditions.map(|write| KvKey { space, key: write.key.clone() }));
}

impl Batch<'_> {
    /// The first key of a call that has not what the call expects it to have, at this point of the batch and after the
    /// call's own writes before it.
    pub(super) fn conflict(&self, effects: &Effects<'_>) -> Option<String> {
        let kv = effects.kv?;
        let space = Namespace { tenant: effects.tenant, plugin: kv.plugin };
        let mut own: HashMap<&str, Option<&[u8]>> = HashMap::new();
        for write in &kv.writes {
            if let Some(expected) = &write.expected {
                let found = match own.get(write.key.as_str()) {
                    Some(value) => *value,
                    None => self.value(&KvKey { space, key: write.key.clone() }),
                };
                if found != expected.as_deref() {
                    return Some(write.key.clone());
                }
            }
            own.insert(&write.key, write.value.as_deref());
        }
        None
    }

    fn value(&self, key: &KvKey) -> Option<&[u8]> {
        let found = self.kv.get(key).or_else(|| self.set.kv.get(key));
        found.and_then(|value| value.as_deref())
    }

    /// Writes what a call writes, and says what of it was left out: the caller has checked every write, so that what
    /// breaks a bound all the same is a mistake that must not fail the run.
    pub(super) fn write_kv(&mut self, effects: &Effects<'_>) -> Vec<String> {
        let Some(kv) = effects.kv else { return Vec::new() };
        let space = Namespace { tenant: effects.tenant, plugin: kv.plugin };
        let mut left_out = Vec::new();
        for write in &kv.writes {
            if let Some(why) = too_large(write) {
                left_out.push(why);
                continue;
            }
            let key = KvKey { space, key: write.key.clone() };
            // Only what a condition of this batch is about will be asked for again.
            if self.set.kv.contains_key(&key) {
                self.kv.insert(key.clone(), write.value.clone());
            }
            self.changes.push(Change::Kv(key, write.value.clone()));
        }
        left_out
    }
}

fn too_large(write: &KvWrite) -> Option<String> {
    let (key, value) = (write.key.len(), write.value.as_ref().map_or(0, Vec::len));
    if key > limits::KV_KEY_BYTES_MAX {
        return Some(format!("a key of {key} bytes was not written; the limit is {}", limits::KV_KEY_BYTES_MAX));
    }
    let max = limits::KV_VALUE_BYTES_MAX;
    let too_large = value > max;
    too_large.then(|| format!("{value} bytes were not written under {:?}; the limit is {max} (64 KiB)", write.key))
}
