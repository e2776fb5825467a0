//! A second claim beside the open one, for who comes meanwhile.
//!
//! A claim is answered by a commit, and the next one rides in the commit behind the one that is being written by then: who
//! comes just behind a claim would wait for both. So a tenant that has nothing ready, gets jobs while a claim is open and has no
//! part in it is asked for beside it: one run, so that the next slot finds it when it is its turn. No tenant has a part in two
//! open claims: what its limits let through is never counted on twice.

use std::collections::BTreeSet;

use runner_store::command::limits;
use runner_store::job::TenantId;

use super::claim::{PASSED_OVER_MAX, TENANTS_MAX};
use super::leave::Unanswered;
use super::{Action, Claimed, Core, Moment, Take, queues};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Who has a part in the open claim, in the order of its parts, or was left out of it.
    claim: Vec<TenantId>,
    /// Who has got jobs since it was asked for.
    newcomers: BTreeSet<TenantId>,
    /// Who has a part in the claim beside it; empty: there is none.
    asked: BTreeSet<TenantId>,
}

impl Beside {
    /// A claim is asked for.
    pub(super) fn opens(&mut self, takes: &[Take]) {
        self.newcomers.clear();
        self.claim.clear();
        self.claim.extend(tenants_of(takes));
        self.claim.dedup();
        // Whom it has left out for what is asked beside it, the next one does not: else that would go on for ever.
        self.claim.extend(&self.asked);
    }

    /// Whether the claim beside the open one is open, too.
    pub(super) fn is_open(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether a tenant has a part in it.
    pub(super) fn has_asked(&self, id: TenantId) -> bool {
        self.asked.contains(&id)
    }
}

impl Core {
    /// A tenant has got jobs.
    pub(super) fn is_new(&mut self, id: TenantId) {
        if self.has_open_claim() {
            self.beside.newcomers.insert(id);
        }
    }

    pub(super) fn ask_beside(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.beside.newcomers.is_empty() || self.beside.is_open() {
            return;
        }
        // For what is not claimed ahead a slot must come free.
        if self.draining || self.paused || !self.has_open_claim() || self.passed_over >= PASSED_OVER_MAX {
            return;
        }
        let (mut gates, mut left, mut takes) = (queues::Left::default(), limits::CLAIM_RUNS_MAX, Vec::new());
        for _ in 0..TENANTS_MAX {
            let Some(id) = self.beside.newcomers.pop_first() else { break };
            let is_bare = self.tenants.get(id).is_some_and(|tenant| tenant.is_open && tenant.ready.is_empty());
            if is_bare
                && !self.beside.claim.contains(&id)
                && let Some(demand) = self.demand_of_one(id, now)
            {
                // Suspects wait for their turn in the other claim, which counts them.
                self.take_for(demand, now, (&mut 0, &mut left, &mut gates), &mut takes);
            }
        }
        self.beside.asked = tenants_of(&takes).collect();
        if !takes.is_empty() {
            actions.push(Action::ClaimBeside(takes));
        }
    }

    pub(super) fn claimed_beside(&mut self, runs: Vec<Claimed>, now: Moment, actions: &mut Vec<Action>) {
        self.beside.asked.clear();
        let cancelled = self.take_cancelled(Unanswered::BESIDE);
        self.take_up(runs, &cancelled, now, actions);
        // The open claim has left them out.
        self.look_again();
    }
}

fn tenants_of(takes: &[Take]) -> impl Iterator<Item = TenantId> {
    takes.iter().flat_map(|take| &take.grants).map(|grant| grant.lane.tenant)
}
