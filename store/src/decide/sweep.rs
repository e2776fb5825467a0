//! Removing what has been kept long enough, and discarding what has expired: in bounded steps, beside other commands.

use std::collections::{BTreeSet, HashMap};

use crate::command::{Keep, Reply, Scope, Settings, StoreSettings, Sweep, TenantSettings, Total, TotalKey, limits};
use crate::engine::{Change, Needs, Wait, WorkingSet};
use crate::index::EndKey;
use crate::job::{Event, JobRef, Millis, StateName, TenantId, Time};

use super::Batch;

/// Where a tenant's stored bytes are more than so many tenths of what it may have, its oldest completed jobs go: before
/// an enqueue is refused because of them.
const FULL_TENTHS: u64 = 9;

/// Finished jobs that a sweep would remove, for their age or their number, whatever else may keep them: their rows are
/// read next.
#[must_use]
pub fn rows_to_sweep(sweep: Sweep, set: &WorkingSet) -> BTreeSet<JobRef> {
    let mut removable = Removable::new(set);
    let old = set.ended.iter().filter(|key| removable.is(key, set.now));
    old.take(budget(sweep) as usize).map(EndKey::at).collect()
}

pub(super) fn needs(call: Sweep, needs: &mut Needs) {
    needs.sweep = Some(call);
    needs.scopes.insert(Scope::Store);
    needs.expired_keys += budget(call);
}

fn budget(call: Sweep) -> u32 {
    call.budget.min(limits::SWEPT_MAX)
}

/// Says of finished jobs, in order, whether they have been kept long enough.
struct Removable<'a> {
    set: &'a WorkingSet,
    /// Of each tenant: what holds, and how many completed jobs it has too many.
    tenants: HashMap<TenantId, (Keep, u64)>,
}

impl<'a> Removable<'a> {
    fn new(set: &'a WorkingSet) -> Self {
        Self { set, tenants: HashMap::new() }
    }

    fn is(&mut self, key: &EndKey, now: Time) -> bool {
        let (keep, surplus) = self.tenants.entry(key.tenant).or_insert_with(|| tenant(self.set, key.tenant));
        if key.state == StateName::Completed && *surplus > 0 {
            *surplus -= 1;
            return true;
        }
        key.at.after(kept(*keep, key.state)) <= now
    }
}

fn tenant(set: &WorkingSet, tenant: TenantId) -> (Keep, u64) {
    let settings = match set.settings.get(&Scope::Tenant(tenant)) {
        Some(Settings::Tenant(_, settings)) => *settings,
        _ => TenantSettings::default(),
    };
    let total = |of| set.totals.get(&TotalKey { tenant, of }).copied().unwrap_or_default();
    if total(Total::Bytes) > settings.stored_bytes / 10 * FULL_TENTHS {
        // Which job has how many bytes is not known before it is gone: a step removes some, and the next one looks again.
        return (settings.keep, u64::MAX);
    }
    (settings.keep, total(Total::Completed).saturating_sub(settings.keep.completed_max))
}

/// How long a job is kept that ended so.
pub(super) fn kept(keep: Keep, state: StateName) -> Millis {
    match state {
        StateName::Completed => keep.completed,
        StateName::Cancelled => keep.cancelled,
        _ => keep.discarded,
    }
}

impl Batch<'_> {
    pub(super) fn sweep(&mut self, call: Sweep) -> Reply {
        let budget = budget(call) as usize;
        let expired = self.expire(budget);
        self.forget_uniques(budget);
        let trimmed = self.trim_log(budget * 4);
        let (removed, after) = self.remove_finished(budget);
        let full = |n: u32, of: usize| n as usize >= of;
        let more = after.is_some() || full(expired, budget) || full(trimmed, budget * 4);
        Reply::Swept { removed, expired, trimmed, more: more && budget > 0, after }
    }

    fn expire(&mut self, budget: usize) -> u32 {
        if !self.conduct.destroy {
            return 0;
        }
        let mut expired = 0;
        for at in self.set.expiring.iter().take(budget) {
            expired += u32::from(self.apply(*at, &Event::Expired).is_ok());
        }
        expired
    }

    /// Removes what was read and has been kept long enough. Answers how many, and where to go on: behind the last one
    /// that was looked at, unless all were.
    fn remove_finished(&mut self, budget: usize) -> (u32, Option<EndKey>) {
        if !self.conduct.destroy {
            return (0, None);
        }
        let mut removable = Removable::new(self.set);
        let (mut looked_at, mut removed) = (0, 0);
        let mut after = None;
        for key in &self.set.ended {
            if looked_at == budget {
                // Of one tenant and state no more than these were read: what is behind them is the next step's.
                break;
            }
            if removable.is(key, self.now) {
                looked_at += 1;
                removed += u32::from(self.remove(key));
                after = Some(*key);
            } else {
                // The others of this tenant and state ended later.
                after = Some(EndKey { at: Time(u64::MAX), id: crate::job::JobId(u64::MAX), ..*key });
            }
        }
        (removed, after.filter(|_| looked_at == budget || !self.set.ended_all))
    }

    fn remove(&mut self, key: &EndKey) -> bool {
        let at = key.at();
        let still = self.job(at).is_some_and(|job| job.finalized_at() == Some(key.at));
        let needed = matches!(self.waited(at), Some(Wait::Waiting | Wait::Named));
        still && !needed && self.delete(at, false, false).is_ok()
    }

    fn trim_log(&mut self, budget: usize) -> u32 {
        let settings = match self.setting(&Scope::Store) {
            Settings::Store(settings) => settings,
            _ => StoreSettings::default(),
        };
        let (oldest, mut bytes) = (&self.set.oldest.0, self.set.oldest.1);
        let is_old = |at: Time| self.conduct.destroy && at.after(settings.log_age) <= self.now;
        // Up to the last old one: a clock that was ahead for a while has dated some before it too late.
        let old = oldest.iter().take(budget).rposition(|(_, at, _)| is_old(*at)).map_or(0, |last| last + 1);
        let mut trimmed = 0;
        let mut before = None;
        for (i, (seq, _, size)) in oldest.iter().take(budget).enumerate() {
            if i >= old && bytes <= settings.log_bytes {
                break;
            }
            bytes = bytes.saturating_sub(u64::from(*size));
            trimmed += 1;
            before = Some(crate::job::Seq(seq.0 + 1));
        }
        self.changes.extend(before.map(Change::TrimLog));
        trimmed
    }
}
