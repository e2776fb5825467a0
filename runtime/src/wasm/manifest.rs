//! What stands in `NAME.toml` beside a plugin: kinds, limits, retries, grants.
//!
//! Nothing is granted by default, every key is known or refused (with the nearest known one and its line), and every
//! amount carries its unit. [`Manifest::parse`] reads the text; [`Manifest::limits`] and [`Manifest::retry`] merge
//! what holds for one kind. What is asked for here and what the operator allows meet in `grants`.

pub(crate) mod allow;
mod described;
mod keys;
mod on;
mod schedules;

use runner_store::command::Rate;
use runner_store::job::KeyPath;
use runner_store::job::retry::RetryPolicy;
use runner_store::job::time::Millis;

pub(super) use self::described::described;
pub(crate) use self::keys::{limits as limits_of, settings as settings_of};
pub use self::on::On;
use super::grants::Asked;
use super::limits::Limits;
use crate::schedules::draft::Draft;
pub use crate::table::TableError as ManifestError;

/// Kinds of one plugin: enough for a whole application, and a bound on what one file can register.
pub const KINDS_MAX: usize = 1_000;

/// A plugin's manifest, checked.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// The kinds that the plugin offers; empty: one kind, named as the file.
    pub kinds: Vec<String>,
    /// The digest that the file must have, in hex.
    pub sha256: Option<String>,
    /// What holds for every kind.
    pub every: KindSettings,
    /// What differs for one kind.
    pub each: Vec<(String, KindSettings)>,
    /// What the plugin's own policy says of its kinds; it counts where the manifest says nothing.
    pub described: Vec<(String, KindSettings)>,
    /// What the plugin asks for.
    pub allow: Asked,
    /// What holds for queues where no operator has said otherwise.
    pub queues: Vec<(String, QueueLimits)>,
    /// What its kinds listen to.
    pub on: Vec<On>,
    /// Runs of one instance, where the author states that no run leaves anything for the next; none: one.
    pub reuse: Option<u32>,
    /// What is to be enqueued again and again.
    pub schedules: Vec<AskedSchedule>,
}

/// A schedule that a manifest asks for, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedSchedule {
    /// Its name in the tenant.
    pub name: String,
    /// What it does and when; without a kind: the plugin's only one.
    pub draft: Draft,
}

/// Settings of a kind; none: as by the next wider place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KindSettings {
    /// Wall clock of a run.
    pub timeout: Option<Millis>,
    /// Fuel of a run.
    pub fuel: Option<u64>,
    /// Memory of a run.
    pub memory_bytes: Option<u64>,
    /// Output of a run.
    pub output_bytes: Option<u64>,
    /// Staged effects of a run.
    pub staged_bytes: Option<u64>,
    /// Host calls of a run.
    pub host_calls: Option<u64>,
    /// Jobs enqueued by a run.
    pub enqueues: Option<u32>,
    /// How long a cancelled run may go on.
    pub cancel_grace: Option<Millis>,
    /// Attempts of a job.
    pub max_attempts: Option<u32>,
    /// When a failed attempt is tried again, whole.
    pub backoff: Option<RetryPolicy>,
    /// The queue that jobs of this kind go to, unless they say otherwise.
    pub queue: Option<String>,
    /// The priority that jobs of this kind have, unless they say otherwise.
    pub priority: Option<i16>,
    /// What a response and a request's body may have, each.
    pub http_body_bytes: Option<u64>,
    /// How many jobs of this kind go into one call.
    pub batch: Option<Batch>,
    /// Calls of this kind at once.
    pub concurrency: Option<u32>,
    /// Jobs of this kind that start in a time.
    pub rate: Option<Rate>,
    /// Where in the args of its jobs their key stands.
    pub key: Option<KeyPath>,
    /// Calls of each key at once.
    pub key_concurrency: Option<u32>,
    /// Jobs of each key that start in a time.
    pub key_rate: Option<Rate>,
    /// Whether the jobs of a key run one after another, in order.
    pub strict_order: Option<bool>,
}

/// What a manifest says of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueLimits {
    /// Calls at once.
    pub concurrency: Option<u32>,
    /// Jobs that start in a time.
    pub rate: Option<Rate>,
    /// Its part beside its tenant's other queues.
    pub weight: Option<u32>,
}

/// What a manifest says of a kind, as one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindLimits {
    /// Calls at once.
    pub concurrency: Option<u32>,
    /// Jobs that start in a time.
    pub rate: Option<Rate>,
    /// Calls of each key at once.
    pub key_concurrency: Option<u32>,
    /// Jobs of each key that start in a time.
    pub key_rate: Option<Rate>,
    /// Whether the jobs of a key run one after another, in order.
    pub strict_order: bool,
}

/// Jobs that go into one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// How many at most.
    pub max: u32,
    /// How long the first of them may wait for others.
    pub linger: Millis,
}

/// Retries of one kind, merged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RetrySettings {
    /// Attempts of a job, if the manifest says.
    pub max_attempts: Option<u32>,
    /// When a failed attempt is tried again, if the manifest says.
    pub policy: Option<RetryPolicy>,
}

impl Manifest {
    /// Reads a manifest's text.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        // Editors of some systems begin every text with a byte order mark.
        keys::manifest(text.strip_prefix('\u{feff}').unwrap_or(text))
    }

    /// The kinds offered by a plugin whose file has this name.
    #[must_use]
    pub fn kinds(&self, file_name: &str) -> Vec<String> {
        if self.kinds.is_empty() { vec![file_name.to_owned()] } else { self.kinds.clone() }
    }

    /// The limits of a run of this kind, before the job's own time-out.
    #[must_use]
    pub fn limits(&self, kind: &str) -> Limits {
        let mut limits = Limits::default();
        if let Some(described) = self.described(kind) {
            described.apply(&mut limits);
        }
        self.every.apply(&mut limits);
        if let Some(own) = self.of(kind) {
            own.apply(&mut limits);
        }
        limits
    }

    /// The retries of jobs of this kind.
    #[must_use]
    pub fn retry(&self, kind: &str) -> RetrySettings {
        RetrySettings {
            max_attempts: self.setting(kind, |settings| settings.max_attempts),
            policy: self.setting(kind, |settings| settings.backoff.clone()),
        }
    }

    /// How many jobs of this kind go into one call. What runs in order by its key goes one by one, whoever says what.
    #[must_use]
    pub fn batch(&self, kind: &str) -> Option<Batch> {
        let batch = self.setting(kind, |settings| settings.batch)?;
        let ordered = self.setting(kind, |settings| settings.strict_order).unwrap_or_default();
        Some(if ordered { Batch { max: 1, linger: Millis(0) } } else { batch })
    }

    /// Where in the args of jobs of this kind their key stands.
    #[must_use]
    pub fn key(&self, kind: &str) -> Option<KeyPath> {
        self.setting(kind, |settings| settings.key.clone())
    }

    /// How many calls of this kind there may be.
    #[must_use]
    pub fn kind_limits(&self, kind: &str) -> KindLimits {
        KindLimits {
            concurrency: self.setting(kind, |settings| settings.concurrency),
            rate: self.setting(kind, |settings| settings.rate),
            key_concurrency: self.setting(kind, |settings| settings.key_concurrency),
            key_rate: self.setting(kind, |settings| settings.key_rate),
            strict_order: self.setting(kind, |settings| settings.strict_order).unwrap_or_default(),
        }
    }

    /// What it says of a queue.
    #[must_use]
    pub fn queue(&self, queue: &str) -> Option<QueueLimits> {
        self.queues.iter().find(|(name, _)| name == queue).map(|(_, limits)| *limits)
    }

    /// One setting of a kind, from the first place that says it: the kind's own table, what holds for every kind, the
    /// plugin's policy.
    pub fn setting<T>(&self, kind: &str, pick: impl Fn(&KindSettings) -> Option<T>) -> Option<T> {
        let own = self.of(kind).and_then(&pick);
        own.or_else(|| pick(&self.every)).or_else(|| self.described(kind).and_then(&pick))
    }

    fn described(&self, kind: &str) -> Option<&KindSettings> {
        self.described.iter().find(|(name, _)| name == kind).map(|(_, settings)| settings)
    }

    /// What the manifest says of this kind alone.
    #[must_use]
    pub fn of(&self, kind: &str) -> Option<&KindSettings> {
        self.each.iter().find(|(name, _)| name == kind).map(|(_, settings)| settings)
    }
}

impl KindSettings {
    fn apply(&self, limits: &mut Limits) {
        fn set<T: Copy>(to: &mut T, from: Option<T>) {
            if let Some(value) = from {
                *to = value;
            }
        }
        set(&mut limits.timeout, self.timeout);
        limits.fuel = self.fuel.or(limits.fuel);
        set(&mut limits.memory_bytes, self.memory_bytes);
        set(&mut limits.output_bytes, self.output_bytes);
        set(&mut limits.staged_bytes, self.staged_bytes);
        set(&mut limits.host_calls, self.host_calls);
        set(&mut limits.enqueues, self.enqueues);
        set(&mut limits.cancel_grace, self.cancel_grace);
        set(&mut limits.http_body_bytes, self.http_body_bytes);
    }
}

#[cfg(test)]
mod tests;
