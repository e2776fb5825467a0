//! What whoever follows a store's notices knows, against what its rows say.

use std::collections::BTreeMap;

use runner_store::command::{KeyedLane, KeysInUse, Lane};
use runner_store::engine::{Dump, Persisted};
use runner_store::index::{self, KeyOf, Order};
use runner_store::job::StateName;

/// What whoever follows the notices knows of what is available, and of keys.
#[derive(Default)]
pub(super) struct Told {
    available: BTreeMap<Lane, i64>,
    heads: BTreeMap<Lane, Order>,
    begun: BTreeMap<KeyOf, i64>,
}

impl Told {
    pub(super) fn add(&mut self, persisted: &Persisted) {
        for (key, difference) in persisted.counts.iter().filter(|(key, _)| key.state == StateName::Available) {
            *self.available.entry(key.lane).or_default() += difference;
        }
        for (lane, head) in &persisted.keys.heads {
            match head {
                Some(head) => _ = self.heads.insert(*lane, *head),
                None => _ = self.heads.remove(lane),
            }
        }
        for (of, difference) in &persisted.keys.begun {
            *self.begun.entry(*of).or_default() += difference;
        }
        self.available.retain(|_, n| *n != 0);
        self.begun.retain(|_, n| *n != 0);
    }

    /// Against what the rows say.
    #[track_caller]
    pub(super) fn check(&self, dump: &Dump) {
        let mut told = Told::default();
        for job in &dump.jobs {
            let lane = index::lane(job);
            if job.state.name() == StateName::Available {
                *told.available.entry(lane).or_default() += 1;
                if job.key.is_some() {
                    let first = told.heads.get(&lane).copied().unwrap_or_else(|| index::order(job));
                    told.heads.insert(lane, first.min(index::order(job)));
                }
            }
            if let Some(of) = index::key_of(job).filter(|_| job.has_begun()) {
                *told.begun.entry(of).or_default() += 1;
            }
        }
        assert_eq!(self.available, told.available, "what is available, as the notices say and as it is");
        assert_eq!(self.heads, told.heads, "what is first of each key");
        assert_eq!(self.begun, told.begun, "what has begun and not ended");
    }
    /// What whoever opens the store is told.
    #[track_caller]
    pub(super) fn check_keys(&self, keys: &KeysInUse) {
        let heads: BTreeMap<Lane, Order> = keys.lanes.iter().map(|of_key| (of_key.lane, of_key.head)).collect();
        assert_eq!(heads, self.heads);
        let begun: BTreeMap<KeyOf, i64> = keys.begun.iter().map(|(of, n)| (*of, n.cast_signed())).collect();
        assert_eq!(begun, self.begun);
        let jobs = |of_key: &KeyedLane| self.available.get(&of_key.lane) == Some(&of_key.jobs.cast_signed());
        assert!(keys.lanes.iter().all(jobs), "whoever opens the store knows as much");
    }
}
