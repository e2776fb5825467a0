//! What holds for the store, a tenant, a queue or a kind, until it is changed: stored, so that it survives a restart.

use serde::{Deserialize, Serialize};

use crate::job::{Millis, QueueOrder, TenantId, Time};

/// Of what a setting is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// The store as a whole.
    Store,
    /// A tenant.
    Tenant(TenantId),
    /// A queue, by its name.
    Queue(TenantId, String),
    /// A kind, by its name.
    Kind(TenantId, String),
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
    /// Of a kind.
    Kind(TenantId, String, KindSettings),
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
    /// Runs at once; none: what the node's configuration says. At least 1.
    pub concurrency: Option<u32>,
    /// Memory of its runs together; none: what the node's configuration says.
    pub memory_bytes: Option<u64>,
    /// Fuel of its runs in a period; none: what the node's configuration says.
    pub fuel: Option<Fuel>,
    /// Whether it was deleted. Its name keeps its number; it has no jobs and gets none until it is made again.
    pub deleted: bool,
}

/// Fuel for a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fuel {
    /// How much; at least 1.
    pub fuel: u64,
    /// For how long; at least a second, as below that it would be a rate.
    pub per: Millis,
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
    /// Calls that may run at once; none: what a manifest says, or else as many as others let. At least 1.
    pub concurrency: Option<u32>,
    /// Jobs that may start in a time; none: what a manifest says, or else as many as others let.
    pub rate: Option<Rate>,
    /// How much of its tenant's part it gets beside the other queues; none: what a manifest says, or else 1.
    pub weight: Option<u32>,
    /// Nothing of it starts meanwhile.
    pub pause: Option<Pause>,
    /// Whether enqueues are refused; what is there runs.
    pub drain: bool,
}

/// What an operator says of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KindSettings {
    /// Calls that may run at once; none: what its manifest says, or else as many as others let. At least 1.
    pub concurrency: Option<u32>,
    /// Jobs that may start in a time; none: what its manifest says, or else as many as others let.
    pub rate: Option<Rate>,
    /// Nothing of it starts meanwhile.
    pub pause: Option<Pause>,
    /// Calls of each key that may run at once; none: what its manifest says, or else as many as others let. At least 1.
    pub key_concurrency: Option<u32>,
    /// Jobs of each key that may start in a time; none: what its manifest says, or else as many as others let.
    pub key_rate: Option<Rate>,
}

/// A token bucket: so many jobs in a period, and so many at once after a quiet time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// At least 1.
    pub jobs: u32,
    /// At least a millisecond.
    pub per: Millis,
    /// At least 1.
    pub burst: u32,
}

/// How long something is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pause {
    /// Until someone ends it.
    Open,
    /// Until then, or until someone ends it before.
    Until(Time),
}

/// Weights of queues.
pub const WEIGHT_MAX: u32 = 1_000;
/// The longest period of a rate.
pub const RATE_PER_MAX: Millis = Millis::secs(24 * 3_600);

/// The shortest period of a tenant's fuel.
pub const FUEL_PERIOD_MIN: Millis = Millis::secs(1);

const DAY: Millis = Millis::secs(24 * 3_600);

impl Default for StoreSettings {
    fn default() -> Self {
        Self { log_age: Millis(7 * DAY.0), log_bytes: 2 << 30 }
    }
}

impl Default for TenantSettings {
    fn default() -> Self {
        Self {
            capacity: 10_000_000,
            stored_bytes: 10 << 30,
            keep: Keep::default(),
            concurrency: None,
            memory_bytes: None,
            fuel: None,
            deleted: false,
        }
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
            Self::Kind(tenant, kind, _) => Scope::Kind(*tenant, kind.clone()),
        }
    }

    /// What cannot hold: the field, and why.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let (concurrency, rate, weight) = match self {
            Self::Store(_) => return None,
            Self::Tenant(_, of) if of.fuel.is_some_and(|fuel| fuel.fuel == 0 || fuel.per < FUEL_PERIOD_MIN) => {
                return Some(("fuel", "must be at least 1, in a period of at least 1s".to_owned()));
            }
            Self::Tenant(_, of) if of.memory_bytes == Some(0) => {
                return Some(("memory", "must be at least 1 byte".to_owned()));
            }
            Self::Tenant(_, of) => ([("concurrency", of.concurrency); 2], [("rate", None); 2], None),
            Self::Queue(_, _, of) if of.order.problem().is_some() => {
                return of.order.problem().map(|why| ("order", why.to_owned()));
            }
            Self::Queue(_, _, of) => ([("concurrency", of.concurrency); 2], [("rate", of.rate); 2], of.weight),
            Self::Kind(_, _, of) => {
                let concurrency = [("concurrency", of.concurrency), ("key_concurrency", of.key_concurrency)];
                (concurrency, [("rate", of.rate), ("key_rate", of.key_rate)], None)
            }
        };
        if let Some((field, _)) = concurrency.iter().find(|(_, most)| *most == Some(0)) {
            return Some((field, "must be at least 1; to let nothing run, pause it".to_owned()));
        }
        let problem = |(field, rate): (&'static str, Option<Rate>)| Some((field, rate?.problem()?));
        if let Some(problem) = rate.into_iter().find_map(problem) {
            return Some(problem);
        }
        if weight.is_some_and(|weight| !(1..=WEIGHT_MAX).contains(&weight)) {
            return Some(("weight", format!("must be 1 to {WEIGHT_MAX}")));
        }
        None
    }
}

impl Pause {
    /// Whether it still goes on.
    #[must_use]
    pub fn holds(self, now: Time) -> bool {
        match self {
            Self::Open => true,
            Self::Until(until) => now < until,
        }
    }
}

impl Rate {
    /// What cannot be.
    #[must_use]
    pub fn problem(self) -> Option<String> {
        if self.jobs == 0 || self.burst == 0 {
            return Some("must let at least 1 job through; to let nothing run, pause it".to_owned());
        }
        if self.per.0 == 0 || self.per > RATE_PER_MAX {
            return Some("must be in a period of 1ms to 24h".to_owned());
        }
        None
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
            Self::Kind(tenant, kind) => Settings::Kind(*tenant, kind.clone(), KindSettings::default()),
        }
    }
}
