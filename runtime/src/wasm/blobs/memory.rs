//! A container in the process's memory: gone with the process, and bounded, as nothing else bounds it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{BlobError, BlobName};

/// One container, its unfinished writes included.
const CONTAINER_BYTES_MAX: usize = 64 << 20;
/// What a blob takes beside its bytes, so that many empty ones are bounded, too.
const ENTRY_BYTES: usize = 256;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    blobs: BTreeMap<String, Bytes>,
    /// Of all blobs and unfinished writes.
    bytes: usize,
}

/// A blob that is being written.
#[derive(Debug)]
pub(crate) struct MemoryWriter {
    memory: Memory,
    name: BlobName,
    data: Vec<u8>,
    /// Of the container's bytes.
    reserved: usize,
}

impl Memory {
    pub(super) fn size(&self, name: &BlobName) -> Option<u64> {
        self.state().blobs.get(name.as_str()).map(|data| data.len() as u64)
    }

    pub(super) fn read(&self, name: &BlobName, offset: u32, len: u32) -> Result<Vec<u8>, BlobError> {
        // A view; it is copied when others may go on.
        let found = self.state().blobs.get(name.as_str()).cloned();
        let data = found.ok_or_else(|| BlobError::NotFound(name.clone()))?;
        let from = data.len().min(offset as usize);
        let to = data.len().min(from.saturating_add(len as usize));
        Ok(data[from..to].to_vec())
    }

    pub(super) fn begin(&self, name: BlobName) -> MemoryWriter {
        MemoryWriter { memory: self.clone(), name, data: Vec::new(), reserved: 0 }
    }

    pub(super) fn remove(&self, name: &BlobName) {
        let mut state = self.state();
        if let Some(data) = state.blobs.remove(name.as_str()) {
            state.bytes -= entry_bytes(name.as_str(), &data);
        }
    }

    pub(super) fn names(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let state = self.state();
        let found = state.blobs.range::<str, _>((from, Bound::Unbounded)).map(|(name, _)| name);
        found.take_while(|name| name.starts_with(prefix)).take(limit).cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryWriter {
    pub(super) fn write(mut self, data: &[u8]) -> Result<Self, BlobError> {
        self.reserve(data.len())?;
        self.data.extend_from_slice(data);
        Ok(self)
    }

    pub(super) fn finish(mut self) -> Result<(), BlobError> {
        self.reserve(ENTRY_BYTES + self.name.as_str().len())?;
        let data = Bytes::from(std::mem::take(&mut self.data).into_boxed_slice());
        let name = self.name.as_str();
        let mut state = self.memory.state();
        if let Some(replaced) = state.blobs.insert(name.to_owned(), data) {
            state.bytes -= entry_bytes(name, &replaced);
        }
        drop(state);
        // They are the blob's from here on.
        self.reserved = 0;
        Ok(())
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), BlobError> {
        let mut state = self.memory.state();
        if state.bytes.saturating_add(bytes) > CONTAINER_BYTES_MAX {
            let why = format!("a container in memory has at most {CONTAINER_BYTES_MAX} bytes; remove some blobs");
            return Err(BlobError::Limit(why));
        }
        state.bytes += bytes;
        drop(state);
        self.reserved += bytes;
        Ok(())
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        self.memory.state().bytes -= self.reserved;
    }
}

fn entry_bytes(name: &str, data: &Bytes) -> usize {
    ENTRY_BYTES + name.len() + data.len()
}
