//! What holds for the store, a tenant or a queue, until it is changed: stored, so that it survives a restart.

use serde::{Deserialize, Serialize};

use crate::job::{Millis, QueueOrder, TenantId};

/// Of what a setting is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// The store as a whole.
    Store,
    /// A tenant.
    Tenant(TenantId),
    /// A queue, by its name.
    Queue(TenantId, String),
}

/// Settings, and of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settings {
    /// Of the store.
    Store(StoreSettings),
    /// Of a tenant.
    Tenant(TenantId, TenantSettings),
    /// Of a queue.
    Queue(TenantId, String, QueueSettings),
}

/// How long the log is kept: whichever is reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreSettings {
    /// So long; 7 days by default.
    pub log_age: Millis,
    /// So many bytes; 2 GiB by default.
    pub log_bytes: u64,
}

/// What a tenant may have, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TenantSettings {
    /// Jobs that have not ended; 10 million by default.
    pub capacity: u64,
    /// Bytes of args, outputs, checkpoints and logs of runs, and of what plugins keep; 10 GiB by default. Above nine tenths
    /// of them the oldest completed jobs go.
    pub stored_bytes: u64,
    /// How long finished jobs are kept.
    pub keep: Keep,
}

/// How long finished jobs are kept, from when they ended. 0: not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keep {
    /// 7 days by default.
    pub completed: Millis,
    /// 30 days by default.
    pub cancelled: Millis,
    /// 90 days by default.
    pub discarded: Millis,
    /// Completed jobs at most, the oldest go first; a million by default.
    pub completed_max: u64,
}

/// What a queue may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueSettings {
    /// Jobs that have not ended; none by default: as many as the tenant may have.
    pub capacity: Option<u64>,
    /// The order of its jobs; changes only while it has no unfinished job.
    pub order: QueueOrder,
}

const DAY: Millis = Millis::secs(24 * 3_600);

impl Default for StoreSettings {
    fn default() -> Self {
        Self { log_age: Millis(7 * DAY.0), log_bytes: 2 << 30 }
    }
}

impl Default for TenantSettings {
    fn default() -> Self {
        Self { capacity: 10_000_000, stored_bytes: 10 << 30, keep: Keep::default() }
    }
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            completed: Millis(7 * DAY.0),
            cancelled: Millis(30 * DAY.0),
            discarded: Millis(90 * DAY.0),
            completed_max: 1_000_000,
        }
    }
}

impl Settings {
    /// Of what these are.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Store(_) => Scope::Store,
            Self::Tenant(tenant, _) => Scope::Tenant(*tenant),
            Self::Queue(tenant, queue, _) => Scope::Queue(*tenant, queue.clone()),
        }
    }
}

impl Scope {
    /// What holds where nothing was set.
    #[must_use]
    pub fn defaults(&self) -> Settings {
        match self {
            Self::Store => Settings::Store(StoreSettings::default()),
            Self::Tenant(tenant) => Settings::Tenant(*tenant, TenantSettings::default()),
            Self::Queue(tenant, queue) => Settings::Queue(*tenant, queue.clone(), QueueSettings::default()),
        }
    }
}
