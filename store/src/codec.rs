//! How values become bytes: versioned MessagePack. The first byte of every record is its version.
//!
//! A job's row is an array of its fields in the order of the struct. The fields are written one by one, so that two rows
//! can be compared field by field without parsing either: that difference is what the log keeps of an event.

use serde::{Serialize, de::DeserializeOwned};

use crate::job::{Job, KindId, QueueId, QueueOrder};

/// The version of every record that this code writes.
pub const VERSION: u8 = 1;

/// Fields of a row.
pub const FIELDS: usize = 28;
/// Fields that every row has. The others came later: a row leaves out those at its end which have their default, so that a
/// row from before them is what it would be today.
const FIELDS_MIN: usize = 20;
/// Where in a row stands what its job is of.
const QUEUE: u8 = 2;
const KIND: u8 = 3;

/// An array of 16 to 65,535 elements begins with this byte and its length in two.
const ARRAY_16: u8 = 0xdc;
/// Version, marker, length.
const HEAD: usize = 4;

/// A stored record that this code cannot read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Nothing there.
    #[error("the record is empty")]
    Empty,
    /// Written by another version of this code.
    #[error("the record has version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// Not what it should be.
    #[error("the record does not decode: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
}

/// A job's row as bytes, and where each field ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    bytes: Vec<u8>,
    ends: [u32; FIELDS],
}

impl Row {
    /// The row of `job`.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        let mut row = Self { bytes: Vec::with_capacity(192), ends: [0; FIELDS] };
        // Taken apart, so that a field that is added and not written is a compile error.
        let Job {
            id,
            tenant,
            queue,
            kind,
            state,
            priority,
            enqueued_at,
            run_at,
            expires_at,
            run,
            started,
            attempts,
            crashes,
            snoozes,
            max_attempts,
            timeout,
            retry,
            dependencies,
            tags,
            last,
            unique,
            order,
            edits,
            depth,
            conflicts,
            alone,
            schedule,
            key,
        } = job;
        let ordered = *order != QueueOrder::default();
        let (scheduled, keyed) = (schedule.is_some(), key.is_some());
        let later = [unique.is_some(), ordered, *edits != 0, *depth != 0, *conflicts != 0, *alone, scheduled, keyed];
        let fields = later.iter().rposition(|says| *says).map_or(FIELDS_MIN, |last| FIELDS_MIN + last + 1);
        row.bytes.extend_from_slice(&[VERSION, ARRAY_16, 0, fields as u8]);
        let mut field = 0;
        macro_rules! put {
            ($($value:expr),*) => {$(
                if field < fields {
                    write(&mut row.bytes, $value);
                }
                row.ends[field] = row.bytes.len() as u32;
                field += 1;
            )*};
        }
        put!(id, tenant, queue, kind, state, priority, enqueued_at, run_at, expires_at, run, started, attempts);
        put!(crashes, snoozes, max_attempts, timeout, retry, dependencies, tags, last);
        put!(unique, order, edits, depth, conflicts, alone, schedule, key);
        assert_eq!(field, FIELDS, "every field of a row is written");
        row
    }

    /// The bytes as stored.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A hash of the bytes, to chain events by.
    #[must_use]
    pub fn digest(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.bytes)
    }

    fn field(&self, i: usize) -> &[u8] {
        let start = if i == 0 { HEAD } else { self.ends[i - 1] as usize };
        &self.bytes[start..self.ends[i] as usize]
    }

    /// The fields in which `self` differs from `before` (none: all of them): one byte for which, four for how long
    /// (little-endian), its bytes; of a field that is left out: none.
    #[must_use]
    pub fn delta(&self, before: Option<&Self>) -> Vec<u8> {
        let mut delta = Vec::with_capacity(64);
        for i in 0..FIELDS {
            let value = self.field(i);
            if before.is_none_or(|row| row.field(i) != value) {
                delta.push(i as u8);
                delta.extend_from_slice(&(value.len() as u32).to_le_bytes());
                delta.extend_from_slice(value);
            }
        }
        delta
    }
}

/// The fields of a delta; none as its last: it is not what [`Row::delta`] makes.
fn fields(mut delta: &[u8]) -> impl Iterator<Item = Option<(u8, &[u8])>> {
    std::iter::from_fn(move || {
        if delta.is_empty() {
            return None;
        }
        let field = delta.split_first_chunk::<5>().and_then(|(&[field, len @ ..], rest)| {
            rest.split_at_checked(u32::from_le_bytes(len) as usize).map(|(value, behind)| (field, value, behind))
        });
        delta = field.map_or(&[], |(_, _, behind)| behind);
        Some(field.map(|(field, value, _)| (field, value)))
    })
}

/// What a job is of, if the delta says so: that of its first event does.
#[must_use]
pub fn lane_of(delta: &[u8]) -> Option<(QueueId, KindId)> {
    let (mut queue, mut kind) = (None, None);
    for (field, value) in fields(delta).flatten() {
        match field {
            QUEUE => queue = rmp_serde::from_slice(value).ok(),
            KIND => kind = rmp_serde::from_slice(value).ok(),
            _ => {}
        }
        // They are next to each other.
        if let (Some(queue), Some(kind)) = (queue, kind) {
            return Some((queue, kind));
        }
    }
    None
}

/// A row that is put together again from the log. A check keeps many of them at once, so that it is one piece of memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fold {
    fields: Vec<u8>,
    /// Where each field ends in them.
    ends: [u32; FIELDS],
}

impl Fold {
    /// Applies what an event changed. False: `delta` is not what [`Row::delta`] makes.
    #[must_use]
    pub fn apply(&mut self, delta: &[u8]) -> bool {
        for field in fields(delta) {
            let Some((field, value)) = field else { return false };
            let (field, len) = (usize::from(field), value.len() as u32);
            let Some(end) = self.ends.get(field).copied() else { return false };
            let start = field.checked_sub(1).map_or(0, |before| self.ends[before]);
            self.fields.splice(start as usize..end as usize, value.iter().copied());
            self.ends[field..].iter_mut().for_each(|at| *at = *at - (end - start) + len);
        }
        true
    }

    /// The row's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let begins = std::iter::once(&0).chain(&self.ends);
        let there = begins.zip(&self.ends).filter(|(start, end)| start < end).count();
        let mut bytes = Vec::with_capacity(4 + self.fields.len());
        bytes.extend([VERSION, ARRAY_16, 0, there as u8]);
        bytes.extend_from_slice(&self.fields);
        bytes
    }
}

/// The job of a row.
///
/// # Errors
/// The bytes are no row of this version.
pub fn job(bytes: &[u8]) -> Result<Job, CodecError> {
    decode(bytes)
}

/// A record of any other type.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.push(VERSION);
    write(&mut bytes, value);
    bytes
}

/// The value of a record.
///
/// # Errors
/// The bytes are no such record of this version.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Empty),
        Some((&VERSION, record)) => Ok(rmp_serde::from_slice(record)?),
        Some((&other, _)) => Err(CodecError::Version(other)),
    }
}

fn write<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) {
    rmp_serde::encode::write(bytes, value).expect("plain data serialises into memory");
}

#[cfg(test)]
mod tests;
