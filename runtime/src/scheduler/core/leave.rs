//! What leaves: runs that end, that someone wants ended, and that are given back before they start.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use runner_store::command::{Lane, RunRef};
use runner_store::job::TenantId;

use super::cost::Cost;
use super::{Action, Call, Core, Moment};

/// Answers of the store that may still come, each a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unanswered(u8);

impl Unanswered {
    pub(super) const NOTHING: Self = Self(0);
    pub(super) const CLAIM: Self = Self(1);
    pub(super) const BESIDE: Self = Self(2);
    pub(super) const BY_HAND: Self = Self(4);
}

impl Core {
    pub(super) fn ended(&mut self, run: RunRef, (fuel, took): (u64, Duration), now: Moment, actions: &mut Vec<Action>) {
        let Some(call) = self.running.remove(&run) else { return };
        self.free.extend(call.slot);
        self.reserved_bytes -= call.memory_bytes;
        if self.short_of_memory && self.reserved_bytes <= self.memory_bytes {
            self.short_of_memory = false;
            self.look_again();
        }
        self.suspects_in_hand -= usize::from(call.lane.suspect);
        if !call.others.is_empty() {
            self.shares.remove(&run);
            call.others.iter().for_each(|other| _ = self.shares.remove(other));
        }
        let beat = self.beat();
        let tenant = self.tenant(call.lane.tenant);
        tenant.running -= 1;
        tenant.reserved_bytes -= call.memory_bytes;
        tenant.pace.ended(took, beat);
        self.pace.ended(took, beat);
        self.lately[0].insert(call.lane.tenant);
        self.gate_ended(call.lane);
        self.cost_ends(call.lane, call.counted, Cost::of(fuel, took));
        self.spend(call.lane.tenant, fuel, now, actions);
        self.open_or_not(call.lane.tenant);
        // There is a slot, and memory, for what was left out for want of it.
        if self.left_out {
            self.look_again();
        }
    }

    /// What may be reserved now. While what was promised beyond what there is has not ended, no more is.
    pub(super) fn reservable_bytes(&self) -> u64 {
        if self.short_of_memory { self.memory_bytes } else { self.promised_bytes }
    }

    /// Interrupts the youngest run, which has lost least; and another one only if that was not enough. What it gives back
    /// is given to nobody before all that runs has its whole limit.
    pub(super) fn make_room(&mut self, actions: &mut Vec<Action>) {
        let is_under_way = self.running.values().any(|call| call.interrupted);
        if self.reserved_bytes <= self.memory_bytes || is_under_way {
            return;
        }
        self.short_of_memory = true;
        let on_slots = self.running.iter_mut().filter(|(_, call)| call.slot.is_some());
        let youngest = on_slots.max_by_key(|(_, call)| call.number);
        if let Some((run, call)) = youngest {
            call.interrupted = true;
            actions.push(Action::Interrupt(std::iter::once(*run).chain(call.others.iter().copied()).collect()));
        }
    }

    /// A tenant whose fuel is used up gives back what it has not started.
    pub(super) fn spend(&mut self, id: TenantId, fuel: u64, now: Moment, actions: &mut Vec<Action>) {
        let tenant = self.tenant(id);
        tenant.spend(fuel, now);
        if tenant.is_spent(now) && self.spent.insert(id) {
            self.hand_back_all_of(id, actions);
        }
    }

    pub(super) fn cancelled(&mut self, run: RunRef, actions: &mut Vec<Action>) {
        if self.running.contains_key(&run) || self.shares.contains(&run) {
            actions.push(Action::End(run));
        } else if self.take_out(run) {
            actions.push(Action::HandBack(run));
        } else {
            let unanswered = self.unanswered();
            if unanswered != Unanswered::NOTHING {
                self.cancelled.insert(run, unanswered);
            }
        }
    }

    /// What was asked for and is not answered.
    pub(super) fn unanswered(&self) -> Unanswered {
        let open = [
            (self.has_open_claim(), Unanswered::CLAIM),
            (self.beside.is_open(), Unanswered::BESIDE),
            (self.wanted > 0, Unanswered::BY_HAND),
        ];
        Unanswered(open.iter().filter(|(open, _)| *open).fold(0, |bits, (_, one)| bits | one.0))
    }

    /// The runs to be ended that this answer may bring; forgotten with the last answer that may bring them.
    pub(super) fn take_cancelled(&mut self, answered: Unanswered) -> HashSet<RunRef> {
        if self.cancelled.is_empty() {
            return HashSet::new();
        }
        let runs = self.cancelled.keys().copied().collect();
        // Of several that were asked for by hand, others may be to come.
        let over = answered.0 & !self.unanswered().0;
        self.cancelled.retain(|_, unanswered| {
            unanswered.0 &= !over;
            *unanswered != Unanswered::NOTHING
        });
        runs
    }

    /// Gives back everything that has not started.
    pub(super) fn drain(&mut self, actions: &mut Vec<Action>) {
        self.draining = true;
        let waiting: Vec<TenantId> = self.waiting.iter().map(|(_, id)| *id).collect();
        let by_hand: BTreeSet<TenantId> = self.by_hand.iter().map(|call| call.lane.tenant).collect();
        for tenant in by_hand.into_iter().chain(waiting) {
            self.hand_back_all_of(tenant, actions);
        }
    }

    /// Takes a run out of those that wait for a slot; the others of its call stay. False: it is not among them.
    fn take_out(&mut self, run: RunRef) -> bool {
        if let Some(at) = self.by_hand.iter().position(|call| call.first == run) {
            let call = self.by_hand.remove(at);
            self.suspects_in_hand -= usize::from(call.is_some_and(|call| call.lane.suspect));
            return true;
        }
        let id = run.at.tenant;
        let Some(tenant) = self.tenants.get_mut(id) else { return false };
        let Some((lane, calls)) = tenant.ready.take_out(run) else { return false };
        self.gate_unready(lane, calls, 1);
        if calls == 0 {
            return true;
        }
        self.suspects_in_hand -= usize::from(lane.suspect);
        self.ready -= 1;
        self.waits_or_not(id);
        self.open_or_not(id);
        true
    }

    /// Gives back all runs of a tenant that have not started.
    pub(super) fn hand_back_all_of(&mut self, id: TenantId, actions: &mut Vec<Action>) {
        let by_hand = std::mem::take(&mut self.by_hand);
        let (given, kept): (Vec<Call>, Vec<Call>) = by_hand.into_iter().partition(|call| call.lane.tenant == id);
        self.by_hand = kept.into();
        for call in given {
            self.suspects_in_hand -= usize::from(call.lane.suspect);
            actions.extend(call.runs().map(Action::HandBack));
        }
        self.hand_back_of(id, &|_| true, actions);
    }

    /// Gives back those of its runs that were claimed, of lanes that are meant, and have not started.
    pub(super) fn hand_back_of(&mut self, id: TenantId, meant: &dyn Fn(Lane) -> bool, actions: &mut Vec<Action>) {
        let ready = self.tenant(id).ready.take_all(meant);
        self.ready -= ready.len();
        self.waits_or_not(id);
        self.open_or_not(id);
        for call in ready {
            self.gate_unready(call.lane, 1, call.jobs());
            self.suspects_in_hand -= usize::from(call.lane.suspect);
            actions.extend(call.runs().map(Action::HandBack));
        }
    }
}
