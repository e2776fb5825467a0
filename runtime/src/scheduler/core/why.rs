//! Why a job that is available does not start: a question to the same state that decides it.

use runner_store::command::Lane;
use runner_store::job::Millis;

use super::gate::{GateOf, Shut};
use super::{Core, Moment};

/// What holds a job up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// A run of it would need more memory than there is.
    TooLarge {
        /// What it needs.
        needs_bytes: u64,
        /// What there is.
        most_bytes: u64,
        /// Where.
        whose: Whose,
    },
    /// Its tenant has used up its fuel.
    Fuel {
        /// What there is in a period.
        budget: u64,
        /// When the next one begins, from now.
        next: Millis,
    },
    /// As many of its tenant's jobs run as may.
    Concurrency {
        /// How many.
        most: u32,
    },
    /// Its queue or its kind lets nothing through.
    Gate(GateOf, Shut),
    /// It waits for memory.
    Memory {
        /// What it needs.
        needs_bytes: u64,
        /// What is left.
        left_bytes: u64,
        /// Of whose.
        whose: Whose,
    },
    /// It waits for others to share its call.
    Gathers {
        /// For how long at most.
        left: Millis,
    },
    /// No slot is free.
    Slots {
        /// How many there are.
        slots: u32,
        /// Runs that are claimed and wait for one, too.
        ready: usize,
    },
    /// Another suspect runs.
    Suspect,
}

/// Whose budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The tenant's.
    Tenant,
    /// The node's.
    Node,
}

impl Core {
    /// Everything that holds up the jobs of a lane now, the most telling first; nothing: they are about to start.
    #[must_use]
    pub fn why(&self, lane: Lane, now: Moment) -> Vec<Held> {
        let mut held: Vec<Held> = self.held_for_long(lane, now).into_iter().collect();
        held.extend(self.shut(lane, now).into_iter().map(|(of, shut)| Held::Gate(of, shut)));
        let Some(tenant) = self.tenants.get(lane.tenant) else { return held };
        if let Some(most) = tenant.budget.concurrency.filter(|most| tenant.running >= *most) {
            held.push(Held::Concurrency { most });
        }
        let needs_bytes = tenant.memory_of(lane);
        let left = |most: u64, reserved: u64| most.saturating_sub(reserved);
        let budgets = [
            (tenant.budget.memory_bytes.map(|most| left(most, tenant.reserved_bytes)), Whose::Tenant),
            (Some(left(self.reservable_bytes(), self.reserved_bytes)), Whose::Node),
        ];
        let never = matches!(held.first(), Some(Held::TooLarge { .. }));
        for (left, whose) in budgets {
            if let Some(left_bytes) = left.filter(|left| *left < needs_bytes && !never) {
                held.push(Held::Memory { needs_bytes, left_bytes, whose });
            }
        }
        let elsewhere = self.is_external(lane);
        if lane.suspect && self.suspect_in_hand() && !elsewhere {
            held.push(Held::Suspect);
        }
        if let (Some(batch), false) = (tenant.batch(lane), self.gathered(lane, now)) {
            let until = match lane.key.is_none() {
                true => tenant.lanes.get(&lane).and_then(|state| state.arrivals.lingered_at(batch.linger)),
                false => self.key_lingers(lane, batch.linger),
            };
            held.extend(until.map(|at| Held::Gathers { left: Millis(at.0.saturating_sub(now.uptime.0)) }));
        }
        if self.free.is_empty() && !elsewhere {
            held.push(Held::Slots { slots: self.slots, ready: self.ready() });
        }
        held
    }

    /// What does not pass when some run ends.
    pub(super) fn held_for_long(&self, lane: Lane, now: Moment) -> Option<Held> {
        if let Some(held) = self.too_large(lane) {
            return Some(held);
        }
        let tenant = self.tenants.get(lane.tenant)?;
        let next = tenant.next_period(now).filter(|_| tenant.is_spent(now))?;
        let budget = tenant.budget.fuel.map_or(0, |budget| budget.fuel);
        Some(Held::Fuel { budget, next: Millis(next.0.saturating_sub(now.uptime.0)) })
    }

    /// Where a run of a lane does not fit into a budget even if nothing else runs.
    pub(super) fn too_large(&self, lane: Lane) -> Option<Held> {
        let tenant = self.tenants.get(lane.tenant)?;
        let needs_bytes = tenant.memory_of(lane);
        let budgets = [(tenant.budget.memory_bytes, Whose::Tenant), (Some(self.memory_bytes), Whose::Node)];
        let (most_bytes, whose) = budgets
            .into_iter()
            .filter_map(|(most, whose)| Some((most?, whose)))
            .find(|(most, _)| *most < needs_bytes)?;
        Some(Held::TooLarge { needs_bytes, most_bytes, whose })
    }
}
