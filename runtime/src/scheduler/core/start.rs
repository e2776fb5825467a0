//! Who gets a free slot.
//!
//! What was started by hand goes first, then the tenant that has had least, with what comes first of its queue that has had
//! least. A run whose memory
//! does not fit into what is left of its tenant's budget waits, and what comes behind it in its tenant with it; others go
//! on. One that does not fit into what is left of the *node's* waits, too, but may be overtaken by no more than
//! [`OVERTAKEN_MAX`] runs of others; then nothing starts before it, so that what runs makes room for it. Every run ends
//! at its time-out, so it starts.

use std::ops::Bound::{Excluded, Unbounded};

use runner_store::command::{Lane, RunRef};
use runner_store::index::Order;
use runner_store::job::TenantId;

use super::{Action, Call, Core, Moment, Running};

/// Runs that may start while another one, which came first, waits for the node's memory: about one for each slot of a small
/// machine, so that the slots do not stand empty while it begins to wait.
pub(super) const OVERTAKEN_MAX: u32 = 16;

/// Who waits for the node's memory, before all others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Short {
    who: Who,
    overtaken: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// What comes first of a tenant.
    Tenant(TenantId),
    /// What was started by hand.
    ByHand(RunRef),
}

/// Whether a call may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum May {
    Yes,
    /// Its tenant's budget has no room.
    Not,
    /// The node's memory has none.
    Short,
}

impl Core {
    pub(super) fn start(&mut self, now: Moment, actions: &mut Vec<Action>) {
        while !self.free.is_empty() && self.ready() > 0 {
            let Some(call) = self.take_next(now) else { break };
            let slot = self.free.pop().expect("a slot is free");
            self.enter(call, slot, now, actions);
        }
    }

    fn enter(&mut self, call: Call, slot: usize, now: Moment, actions: &mut Vec<Action>) {
        let jobs = call.jobs();
        let Call { first, others, lane, .. } = call;
        let counted = self.cost_starts(lane, now.uptime);
        self.gate_started(lane, jobs, now);
        let tenant = self.tenant(lane.tenant);
        let memory_bytes = tenant.memory_of(lane);
        tenant.running += 1;
        tenant.reserved_bytes += memory_bytes;
        self.reserved_bytes += memory_bytes;
        if !others.is_empty() {
            self.shares.extend(others.iter().chain([&first]).copied());
        }
        self.started += 1;
        let (number, interrupted) = (self.started, false);
        let running =
            Running { slot: Some(slot), lane, memory_bytes, number, interrupted, counted, others: others.clone() };
        self.running.insert(first, running);
        self.open_or_not(lane.tenant);
        actions.push(Action::Start { run: first, others, slot });
    }

    fn take_next(&mut self, now: Moment) -> Option<Call> {
        if let Some(short) = self.short {
            match self.may(short.who, now) {
                Some(May::Yes) => {
                    self.short = None;
                    return self.take(short.who, now);
                }
                Some(May::Short) if short.overtaken >= OVERTAKEN_MAX => return None,
                Some(May::Short) => {}
                // It waits for something else by now, or not at all.
                Some(May::Not) | None => self.short = None,
            }
        }
        let who = self.next_by_hand(now).or_else(|| self.next_in_turn(now))?;
        if let Some(short) = &mut self.short {
            short.overtaken += 1;
        }
        self.take(who, now)
    }

    fn next_by_hand(&mut self, now: Moment) -> Option<Who> {
        let all: Vec<Who> = self.by_hand.iter().map(|call| Who::ByHand(call.first)).collect();
        all.into_iter().find(|who| self.is_next(*who, now))
    }

    fn next_in_turn(&mut self, now: Moment) -> Option<Who> {
        let mut next = self.waiting.first().copied();
        while let Some((had, id)) = next {
            if self.is_next(Who::Tenant(id), now) {
                return Some(Who::Tenant(id));
            }
            next = self.waiting.range((Excluded((had, id)), Unbounded)).next().copied();
        }
        None
    }

    /// Whether this one starts now; the first that is short of the node's memory is remembered.
    fn is_next(&mut self, who: Who, now: Moment) -> bool {
        match self.may(who, now) {
            Some(May::Yes) => true,
            Some(May::Short) => {
                self.short.get_or_insert(Short { who, overtaken: 0 });
                false
            }
            Some(May::Not) | None => false,
        }
    }

    /// None: there is no such call any more.
    fn may(&mut self, who: Who, now: Moment) -> Option<May> {
        let lane = match who {
            Who::ByHand(run) => self.by_hand.iter().find(|call| call.first == run)?.lane,
            Who::Tenant(id) => match self.first_of(id, now) {
                Some((lane, _)) => lane,
                // Its tokens come later.
                None if self.tenants.get(id).is_some_and(|tenant| !tenant.ready.is_empty()) => return Some(May::Not),
                None => return None,
            },
        };
        let tenant = self.tenants.get(lane.tenant);
        let memory_bytes = tenant.map_or(0, |tenant| tenant.memory_of(lane));
        if tenant.is_some_and(|tenant| !tenant.has_room(memory_bytes)) {
            return Some(May::Not);
        }
        let fits = self.reserved_bytes.saturating_add(memory_bytes) <= self.reservable_bytes();
        Some(if fits { May::Yes } else { May::Short })
    }

    /// What starts next of a tenant: what comes first, but what waits for its token goes behind those that do not.
    fn first_of(&mut self, id: TenantId, now: Moment) -> Option<(Lane, Order)> {
        let tenant = self.tenants.get(id)?;
        let mut comes = Vec::new();
        let first = tenant.ready.in_turn().find(|call| match self.tokens_come(call, now) {
            None => true,
            Some(at) => {
                comes.push(at);
                false
            }
        });
        let first = first.map(|call| (call.lane, call.order));
        self.opening.extend(comes);
        first
    }

    fn take(&mut self, who: Who, now: Moment) -> Option<Call> {
        match who {
            Who::ByHand(run) => {
                let at = self.by_hand.iter().position(|call| call.first == run)?;
                self.by_hand.remove(at)
            }
            Who::Tenant(id) => {
                let (lane, order) = self.first_of(id, now)?;
                let call = self.tenant(id).ready.take(lane.queue, order)?;
                if self.has_key_limits() && !self.is_ordered(call.lane) {
                    self.tenant(id).ready.passed(lane.queue, order);
                }
                self.ready -= 1;
                self.gate_unready(call.lane, 1, call.jobs());
                self.waits_or_not(id);
                Some(call)
            }
        }
    }

    /// Keeps the list of those that have something ready.
    pub(super) fn waits_or_not(&mut self, id: TenantId) {
        let Some(tenant) = self.tenants.get_mut(id) else { return };
        let waits = !tenant.ready.is_empty();
        if waits != std::mem::replace(&mut tenant.waits, waits) {
            let ranked = (tenant.had.sum, id);
            _ = if waits { self.waiting.insert(ranked) } else { self.waiting.remove(&ranked) };
        }
    }
}
