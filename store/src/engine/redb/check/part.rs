//! A part of all jobs, so many as are followed at once. Which part a job is of says a hash of its number.

use crate::job::JobRef;

/// Jobs are told apart by so many bits at most; what cannot be halved any more is followed as it is.
const BITS_MAX: u32 = 32;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    bits: u32,
    /// What the lowest bits of the hash are.
    are: u64,
}

impl Part {
    /// Parts that have at most about so many of these rows, and together all of them.
    pub(super) fn of(rows: u64, max: usize) -> Vec<Self> {
        let parts = rows.div_ceil(max as u64).max(1).next_power_of_two().min(1 << BITS_MAX);
        let bits = parts.trailing_zeros();
        (0..parts).map(|are| Self { bits, are }).collect()
    }

    /// Whether a job is of it.
    pub(super) fn has(self, JobRef { tenant, job }: JobRef) -> bool {
        if self.bits == 0 {
            return true;
        }
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&tenant.0.to_le_bytes());
        bytes[4..].copy_from_slice(&job.0.to_le_bytes());
        xxhash_rust::xxh3::xxh3_64(&bytes) & ((1 << self.bits) - 1) == self.are
    }

    /// Whether it has halves.
    pub(super) fn can_be_halved(self) -> bool {
        self.bits < BITS_MAX
    }

    /// Both of them.
    pub(super) fn halves(self) -> [Self; 2] {
        let bits = self.bits + 1;
        [Self { bits, ..self }, Self { bits, are: self.are | 1 << self.bits }]
    }
}
