//! What holds for a queue or a kind, and who said so: an operator goes before a manifest, and where neither says anything
//! nothing holds. One key at a time: an operator who sets a rate does not take back the manifest's concurrency.

use std::collections::BTreeSet;

use runner_store::command::{KindSettings, QueueSettings, Rate};

use crate::scheduler::core::{KeyLimits, Limits, WEIGHT_DEFAULT};
use crate::wasm::folder::Registry;
use crate::wasm::manifest::KindLimits;
use crate::wasm::{Manifest, Plugin};

/// Who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An operator.
    Set,
    /// The manifest of the plugin of this name.
    Manifest(String),
    /// The configuration, of an external kind.
    Configuration,
    /// Nobody.
    Default,
}

/// A value, and who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<T> {
    /// None: no limit.
    pub value: Option<T>,
    /// Where it comes from.
    pub source: Source,
}

/// What holds for a queue, beside what only an operator can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfQueue {
    /// Calls at once.
    pub concurrency: Said<u32>,
    /// Jobs that start in a time.
    pub rate: Said<Rate>,
    /// Its part beside other queues.
    pub weight: Said<u32>,
}

/// What holds for a kind, beside what only an operator can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfKind {
    /// Calls at once.
    pub concurrency: Said<u32>,
    /// Jobs that start in a time.
    pub rate: Said<Rate>,
    /// Calls of each key at once.
    pub key_concurrency: Said<u32>,
    /// Jobs of each key that start in a time.
    pub key_rate: Said<Rate>,
    /// Whether the jobs of a key run one after another: only a manifest can say so.
    pub strict_order: bool,
}

impl Source {
    /// The word for people and JSON.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Set => "set".to_owned(),
            Self::Manifest(plugin) => format!("manifest of {plugin}"),
            Self::Configuration => "configuration".to_owned(),
            Self::Default => "default".to_owned(),
        }
    }
}

impl<T: Copy> Said<T> {
    fn of(set: Option<T>, mut manifests: impl Iterator<Item = (Source, Option<T>)>) -> Self {
        if set.is_some() {
            return Self { value: set, source: Source::Set };
        }
        match manifests.find_map(|(source, value)| Some((source, value?))) {
            Some((source, value)) => Self { value: Some(value), source },
            None => Self { value: None, source: Source::Default },
        }
    }
}

/// Of a queue. Where several manifests say something of it, the one counts whose plugin was loaded first.
#[must_use]
pub fn of_queue(set: &QueueSettings, registry: &Registry, tenant: &str, queue: &str) -> OfQueue {
    let manifests = || {
        let plugins = registry.plugins().filter(|(owner, _)| *owner == tenant);
        plugins.filter_map(|(_, plugin)| Some((Source::Manifest(plugin.name().to_owned()), plugin.queue(queue)?)))
    };
    OfQueue {
        concurrency: Said::of(set.concurrency, manifests().map(|(plugin, queue)| (plugin, queue.concurrency))),
        rate: Said::of(set.rate, manifests().map(|(plugin, queue)| (plugin, queue.rate))),
        weight: Said::of(set.weight, manifests().map(|(plugin, queue)| (plugin, queue.weight))),
    }
}

/// The queues of which the manifests of a tenant's plugins say something, whether or not there has been a job.
#[must_use]
pub fn named_in_manifests(registry: &Registry, tenant: &str) -> BTreeSet<String> {
    let plugins = registry.plugins().filter(|(owner, _)| *owner == tenant);
    plugins.flat_map(|(_, plugin)| plugin.queues().map(str::to_owned)).collect()
}

/// Of a kind, of the plugin that provides it, if one does, and of an external one.
#[must_use]
pub fn of_kind(set: &KindSettings, plugin: Option<&Plugin>, external: Option<&Manifest>, kind: &str) -> OfKind {
    let by_plugin = plugin.map(|plugin| (Source::Manifest(plugin.name().to_owned()), plugin.kind_limits(kind)));
    let manifest = by_plugin.or_else(|| Some((Source::Configuration, external?.kind_limits(kind))));
    let most = |set, pick: fn(&KindLimits) -> Option<u32>| {
        Said::of(set, manifest.iter().map(|(source, limits)| (source.clone(), pick(limits))))
    };
    let rate = |set, pick: fn(&KindLimits) -> Option<Rate>| {
        Said::of(set, manifest.iter().map(|(source, limits)| (source.clone(), pick(limits))))
    };
    OfKind {
        concurrency: most(set.concurrency, |limits| limits.concurrency),
        rate: rate(set.rate, |limits| limits.rate),
        key_concurrency: most(set.key_concurrency, |limits| limits.key_concurrency),
        key_rate: rate(set.key_rate, |limits| limits.key_rate),
        strict_order: manifest.is_some_and(|(_, limits)| limits.strict_order),
    }
}

impl OfQueue {
    /// For the scheduler.
    #[must_use]
    pub fn limits(&self, set: &QueueSettings) -> (Limits, u32) {
        let limits = Limits { concurrency: self.concurrency.value, rate: self.rate.value, pause: set.pause };
        (limits, self.weight.value.unwrap_or(WEIGHT_DEFAULT))
    }
}

impl OfKind {
    /// For the scheduler.
    #[must_use]
    pub fn limits(&self, set: &KindSettings) -> Limits {
        Limits { concurrency: self.concurrency.value, rate: self.rate.value, pause: set.pause }
    }

    /// The same of each key.
    #[must_use]
    pub fn key_limits(&self) -> KeyLimits {
        let (concurrency, rate) = (self.key_concurrency.value, self.key_rate.value);
        KeyLimits { concurrency, rate, in_order: self.strict_order }
    }
}
