//! Taking available jobs for runs, and ending the runs of boots that are over.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::command::{Claim, EndBoots, Grant, Reply, RunRecord, RunRef, limits};
use crate::engine::Needs;
use crate::index::{self, Order};
use crate::job::{
    Event, Holder, JobId, JobRef, OutcomeName, Priority, QueueId, Rejection, RunSettings, TenantId, Time,
};

use super::Batch;

/// Jobs that are read of a lane at least: cheaper than to read twice.
const SHARE_MIN: u32 = 8;

pub(super) fn needs(max: u32, grants: &[Grant], needs: &mut Needs) {
    needs.due = limits::DUE_JOBS_MAX;
    // Every lane's share twice over, and a few: what all lanes were read for in full would grow with their number. A lane
    // that has more than its share of what comes first is found short, and read on.
    let lanes = u32::try_from(grants.len()).unwrap_or(u32::MAX).max(1);
    let share = max.min(limits::CLAIM_RUNS_MAX).div_ceil(lanes).saturating_mul(2).saturating_add(SHARE_MIN);
    for grant in grants {
        let wanted = needs.lanes.entry(grant.lane).or_default();
        // Claims of one batch take from the same heads: the later one needs those that the earlier one leaves.
        *wanted = wanted.saturating_add(grant.max.min(max).min(limits::CLAIM_RUNS_MAX).min(share));
    }
}

/// The first jobs of lanes: within a queue the one goes first that comes first in the queue's order; among queues the one
/// that comes first by priority, then `run_at`, then id.
#[derive(Default)]
struct Heads {
    queues: HashMap<QueueOf, BinaryHeap<Reverse<Head>>>,
    first: BinaryHeap<Reverse<(Across, usize, QueueOf)>>,
}

type QueueOf = (TenantId, QueueId);
/// The order among queues, whatever their own orders are.
type Across = (Priority, Time, JobId);

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    order: Order,
    across: Across,
    grant: usize,
}

impl Heads {
    fn push(&mut self, queue: QueueOf, head: Head) {
        let heads = self.queues.entry(queue).or_default();
        heads.push(Reverse(head));
        // What was on top of the queue before is found stale when its turn comes.
        if let Some(Reverse(top)) = heads.peek() {
            self.first.push(Reverse((top.across, top.grant, queue)));
        }
    }

    /// Takes the grant whose head goes first.
    fn pop(&mut self) -> Option<usize> {
        while let Some(Reverse((across, grant, queue))) = self.first.pop() {
            let Some(heads) = self.queues.get_mut(&queue) else { continue };
            if heads.peek().is_none_or(|Reverse(top)| (top.across, top.grant) != (across, grant)) {
                continue;
            }
            heads.pop();
            if let Some(Reverse(top)) = heads.peek() {
                self.first.push(Reverse((top.across, top.grant, queue)));
            }
            return Some(grant);
        }
        None
    }
}

impl Batch<'_> {
    pub(super) fn claim(&mut self, call: &Claim) -> Reply {
        let event = Event::Claimed { holder: Holder::Node(call.holder), expires_at: None, worker: None };
        self.take_first(call.max, &call.grants, &event)
    }

    /// Lets `event` happen to those that come first.
    pub(super) fn take_first(&mut self, max: u32, grants: &[Grant], event: &Event) -> Reply {
        let mut claimed = Vec::new();
        if self.paused || !self.conduct.claim {
            return Reply::Claimed(claimed);
        }
        let max = max.min(limits::CLAIM_RUNS_MAX) as usize;
        let mut left: Vec<Grant> = grants.to_vec();
        let mut heads = Heads::default();
        for grant in 0..left.len() {
            self.push_head(&mut heads, &left, grant);
        }
        while claimed.len() < max {
            let Some(grant) = heads.pop() else { break };
            let Some(order) = self.head(&left[grant]) else { continue };
            let at = JobRef { tenant: left[grant].lane.tenant, job: order.id };
            let job = self.job(at).expect("a job in a lane is there");
            if job.is_expired(self.now) && self.conduct.destroy {
                self.apply(at, &Event::Expired).expect("an expired available job can expire");
            } else {
                let job = self.apply(at, event).expect("an available job can be claimed");
                claimed.push(job.expect("a claimed job is there"));
                left[grant].max -= 1;
            }
            self.push_head(&mut heads, &left, grant);
        }
        Reply::Claimed(claimed)
    }

    /// Puts the first job of a grant's lane among the heads, if it may start and has one.
    fn push_head(&mut self, heads: &mut Heads, grants: &[Grant], grant: usize) {
        if grants[grant].max == 0 {
            return;
        }
        let Some(order) = self.head(&grants[grant]) else { return };
        let lane = grants[grant].lane;
        let job = self.job(JobRef { tenant: lane.tenant, job: order.id }).expect("a job in a lane is there");
        let across = (job.priority, job.run_at, job.id);
        heads.push((lane.tenant, lane.queue), Head { order, across, grant });
    }

    /// The first job of a lane at this point of the batch, as far as it was read.
    fn head(&mut self, grant: &Grant) -> Option<Order> {
        let read = self.set.lanes.get(&grant.lane)?;
        // What this batch has touched is either gone from the lane or among the fresh ones.
        let passed = self.passed.entry(grant.lane).or_default();
        while read.jobs.get(*passed).is_some_and(|at| self.jobs.contains_key(at)) {
            *passed += 1;
        }
        let order = |at: &JobRef| self.set.jobs.get(at).map(|job| index::order(job));
        let old = read.jobs.get(*passed).and_then(order);
        let new = self.fresh.get(&grant.lane).and_then(|fresh| fresh.first().copied());
        // Behind the last job that was read there may be others which come before a fresh one.
        let read_up_to = read.jobs.last().and_then(order);
        let new = new.filter(|order| read.all || read_up_to.is_some_and(|last| *order <= last));
        let head = [old, new].into_iter().flatten().min();
        if head.is_none() && !read.all {
            self.short.insert(grant.lane);
        }
        head
    }

    pub(super) fn end_boots(&mut self, call: &EndBoots) -> Reply {
        let started: HashSet<RunRef> = call.started.iter().copied().collect();
        let (mut crashed, mut interrupted) = (0, 0);
        for at in &self.set.dead {
            let Some(job) = self.job(*at) else { continue };
            // The batch may have given it to the living since it was read.
            if job
                .lease()
                .is_none_or(|lease| !cfg!(planted = "rescue_by_id") && lease.holder == Holder::Node(call.living))
            {
                continue;
            }
            let run = RunRef { at: *at, run: job.run };
            let was_started = started.contains(&run);
            let found = call.settings.iter().find(|(kind, _)| *kind == job.kind);
            let settings = found.map_or_else(RunSettings::default, |(_, settings)| settings.clone());
            let ended = self.end_run(run, was_started, settings);
            match ended {
                Ok(()) if was_started => crashed += 1,
                Ok(()) => interrupted += 1,
                Err(_) => {}
            }
        }
        let more = self.set.dead.len() >= limits::ENDED_RUNS_MAX as usize;
        Reply::Ended { crashed, interrupted, more }
    }

    fn end_run(&mut self, run: RunRef, started: bool, settings: RunSettings) -> Result<(), Rejection> {
        let lease = self.job(run.at).and_then(|job| job.lease()).cloned();
        self.apply(run.at, &Event::HolderGone { run: run.run, started, settings })?;
        let (outcome, error) = if started {
            (OutcomeName::Crashed, "the process died while the handler ran")
        } else {
            (OutcomeName::Interrupted, "the process died before the handler was entered")
        };
        let bare = self.bare_record(run.run, lease.as_ref(), outcome);
        let started_at = lease.map(|lease| lease.claimed_at).filter(|_| started);
        self.record_run(run.at, RunRecord { started_at, error: Some(error.to_owned()), ..bare });
        Ok(())
    }
}
