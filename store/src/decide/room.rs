//! Whether there is room for new jobs: in their tenant, by jobs, bytes and names, and in their queues.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{NameClass, Scope, Settings, Total, TotalKey, limits};
use crate::job::{JobSpec, Rejection, TenantId};

use super::Batch;
use super::enqueue::{Plan, Step};

impl Batch<'_> {
    /// Whether the queues and the tenant have room for the new jobs of a list.
    pub(super) fn room_for(&self, tenant: TenantId, plan: &Plan<'_>) -> Result<(), Rejection> {
        let mut bytes: u64 = 0;
        let mut new: u64 = 0;
        // In order: of several queues that are full, every engine and every replay names the same.
        let mut queues: BTreeMap<&str, u64> = BTreeMap::new();
        let new_ones = plan.steps.iter().filter_map(|step| match step {
            Step::New(wanted) => Some(wanted.spec()),
            Step::Duplicate(_) | Step::Same(_) | Step::Change(..) => None,
        });
        self.room_for_names(tenant, new_ones)?;
        for step in &plan.steps {
            match step {
                Step::New(wanted) => {
                    let spec = wanted.spec();
                    bytes += spec.args.len() as u64;
                    new += 1;
                    *queues.entry(&spec.queue).or_default() += 1;
                }
                Step::Change(_, edit) => bytes += edit.args.as_ref().map_or(0, |args| args.len() as u64),
                Step::Duplicate(_) | Step::Same(_) => {}
            }
        }
        if new == 0 && bytes == 0 {
            return Ok(());
        }
        self.room(tenant, bytes, new, queues)
    }

    /// Whether there is room for one new job.
    pub(super) fn room_for_one(&self, tenant: TenantId, spec: &JobSpec) -> Result<(), Rejection> {
        self.room_for_names(tenant, std::iter::once(spec))?;
        self.room(tenant, spec.args.len() as u64, 1, BTreeMap::from([(spec.queue.as_str(), 1)]))
    }

    /// Whether the tenant may have jobs in so many queues and of so many kinds. Asked for new names only: who has a number is
    /// not sent away.
    fn room_for_names<'s>(
        &self,
        tenant: TenantId,
        specs: impl Iterator<Item = &'s JobSpec> + Clone,
    ) -> Result<(), Rejection> {
        for class in [NameClass::Queue, NameClass::Kind] {
            // Nobody brings a new one.
            let Some(used) = self.set.names_in_use.get(&(tenant, class)) else { continue };
            let name_of = |spec: &'s JobSpec| if class == NameClass::Queue { &spec.queue } else { &spec.kind };
            let wanted = specs.clone().map(name_of).collect::<BTreeSet<_>>();
            let new = wanted.into_iter().filter(|name| self.known_name(tenant, class, name).is_none()).count() as u64;
            let newly = self.newly_in_use.get(&(tenant, class)).copied().unwrap_or(0);
            let max = limits::NAMES_IN_USE_MAX;
            if new > 0 && u64::from(*used) + u64::from(newly) + new > u64::from(max) {
                return Err(Rejection::TooManyNames { what: format!("{}s", class.as_str()), max });
            }
        }
        Ok(())
    }

    fn room(&self, tenant: TenantId, bytes: u64, new: u64, queues: BTreeMap<&str, u64>) -> Result<(), Rejection> {
        let settings = self.tenant_settings(tenant);
        let wanted = self.total(TotalKey { tenant, of: Total::Bytes }) + bytes;
        if wanted > settings.stored_bytes {
            return Err(Rejection::TenantStorage { limit: settings.stored_bytes, wanted });
        }
        let wanted = self.total(TotalKey { tenant, of: Total::Unfinished }) + new;
        if new > 0 && wanted > settings.capacity {
            return Err(Rejection::Full { what: "the tenant".to_owned(), capacity: settings.capacity, wanted });
        }
        for (name, new) in queues {
            let scope = Scope::Queue(tenant, name.to_owned());
            let Settings::Queue(_, _, settings) = self.setting(&scope) else { continue };
            if settings.drain {
                return Err(Rejection::QueueDrains { queue: name.to_owned() });
            }
            let Some(capacity) = settings.capacity else { continue };
            let unfinished =
                self.known_queue(tenant, name).map(|queue| TotalKey { tenant, of: Total::UnfinishedIn(queue) });
            let wanted = unfinished.map_or(0, |key| self.total(key)) + new;
            if wanted > capacity {
                return Err(Rejection::Full { what: format!("queue {name}"), capacity, wanted });
            }
        }
        Ok(())
    }
}
