//! Runs that external workers hold: taking them, and ending those whose worker is gone. Whoever owns the store measures the
//! leases, on a clock that never steps; a renewal is no command, as nothing of it is kept.

use super::{Grant, RunRef};
use crate::job::{KindId, Millis, RunSettings};

/// See [`Command::Lease`](super::Command::Lease).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leasing {
    /// The worker's number, by which its leases are told from others.
    pub holder: u64,
    /// What it calls itself, up to [`WORKER_BYTES_MAX`](crate::job::limits::WORKER_BYTES_MAX).
    pub worker: String,
    /// How long each lease lasts, from [`LEASE_MIN`](crate::job::limits::LEASE_MIN) to
    /// [`LEASE_MAX`](crate::job::limits::LEASE_MAX); beyond, the nearer of the two.
    pub lasts: Millis,
    /// Runs in all, up to [`CLAIM_RUNS_MAX`](super::limits::CLAIM_RUNS_MAX).
    pub max: u32,
    /// From where, as in [`Claim::grants`](super::Claim::grants).
    pub grants: Vec<Grant>,
}

/// See [`Command::EndLeases`](super::Command::EndLeases). Runs that no worker holds any more are passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndLeases {
    /// Which.
    pub runs: Vec<EndedLease>,
    /// Whether the worker is gone, so that it counts as a crash; else the leases are void and nothing is counted.
    pub crashed: bool,
    /// What holds for kinds whose jobs state nothing of their own; others get the defaults.
    pub settings: Vec<(KindId, RunSettings)>,
}

/// A lease that has run out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedLease {
    /// Its run.
    pub run: RunRef,
    /// What the worker had said of it, as in [`Finish::log`](super::Finish::log).
    pub log: Option<Vec<u8>>,
}
