//! Dependencies: who waits, and telling those that wait how what they waited for has ended, in bounded steps.
//!
//! Whatever ends a job that others wait for writes, in the same transaction, a *spread*: the job and how it ended. The
//! writer then settles spreads step by step. A spread survives a crash, and the verdict is in it.

use std::collections::VecDeque;

use crate::command::{Reply, limits};
use crate::engine::{Spread, Wait};
use crate::job::{Event, Job, JobId, JobRef, Rejection, State, Verdict};

use super::Batch;

impl Batch<'_> {
    /// Remembers whom a job has begun to wait for, or to name, so that what ends them in this batch knows of it.
    pub(super) fn wait_for_others(&mut self, before: Option<&Job>, job: &Job) {
        let waited_before = before.is_some_and(|before| matches!(before.state, State::Held | State::Blocked));
        let named_before = before.is_some_and(|before| !before.state.name().is_final());
        let waits = matches!(job.state, State::Held | State::Blocked);
        for edge in &job.dependencies {
            let on = JobRef { tenant: job.tenant, job: edge.job };
            if waits && edge.settled.is_none() {
                // Edges are only settled, never opened again, while a job has not ended.
                if !waited_before {
                    self.newly_waited_for.insert(on);
                }
            } else if !named_before {
                self.newly_named.insert(on);
            }
        }
    }

    /// A job has ended: those that wait for it are to be told.
    pub(super) fn begin_to_settle(&mut self, at: JobRef, verdict: Verdict) {
        if self.waited(at) == Some(Wait::Waiting) {
            self.spreads.insert(at, Some(Spread { verdict, deep: verdict != Verdict::Completed }));
        }
    }

    /// One step: tells those that were read. Where that ends a job whose own dependents were read too, they are next.
    pub(super) fn settle(&mut self) -> Reply {
        let mut left = limits::SETTLED_JOBS_MAX;
        let mut told = 0;
        let mut open: VecDeque<JobRef> = self.set.settling.keys().copied().collect();
        while let Some(at) = open.pop_front() {
            let spread = self.spreads.get(&at).copied().unwrap_or_else(|| self.set.settling.get(&at).copied());
            let (Some(spread), Some((dependents, all))) = (spread, self.set.waiting.get(&at)) else { continue };
            // Whoever began to wait in this batch was not read.
            let mut all = *all && !self.newly_waited_for.contains(&at);
            for id in dependents {
                if left == 0 {
                    all = false;
                    break;
                }
                let dependent = JobRef { tenant: at.tenant, job: *id };
                let event = Event::DependencySettled { dependency: at.job, verdict: spread.verdict };
                // What does not wait any more needs not be told.
                if self.apply(dependent, &event).is_ok() {
                    (left, told) = (left - 1, told + 1);
                    if self.spreads.get(&dependent).is_some_and(Option::is_some) {
                        open.push_back(dependent);
                    }
                }
            }
            if all {
                self.spreads.insert(at, None);
            }
        }
        let is_told = |at: &JobRef| matches!(self.spreads.get(at), Some(None));
        let begun = self.spreads.values().any(Option::is_some);
        let more = begun || !self.set.settling_all || !self.set.settling.keys().all(is_told);
        Reply::Settled { jobs: told, more }
    }

    /// One step: runs again those that were cancelled because of a job which may still end well.
    pub(super) fn revive(&mut self, at: JobRef, after: Option<JobId>) -> Result<Reply, Rejection> {
        let dependency = self.job(at).ok_or(Rejection::Unknown)?;
        if let Some(Verdict::Discarded | Verdict::Cancelled) = dependency.verdict() {
            return Err(Rejection::State(dependency.state.name()));
        }
        let (dependents, all) = self.set.ended_by.get(&(at, after)).cloned().unwrap_or_default();
        // Whoever has not been told yet of the end of one of them would hear of it when that runs again.
        dependents.iter().try_for_each(|id| self.not_settling(JobRef { tenant: at.tenant, job: *id }))?;
        // Behind the last one, whether or not it runs again: what cannot must not keep back what can.
        let next = dependents.last().copied().filter(|_| !all);
        let mut revived = Vec::new();
        for id in dependents {
            let dependent = JobRef { tenant: at.tenant, job: id };
            if self.revive_one(dependent, at.job).is_ok() {
                revived.push(id);
            }
        }
        Ok(Reply::Revived { jobs: revived, next })
    }

    fn revive_one(&mut self, at: JobRef, dependency: JobId) -> Result<(), Rejection> {
        let job = self.job(at).ok_or(Rejection::Unknown)?;
        self.key_can_be_taken_again(job)?;
        let waits = |edge: &&crate::job::Dependency| edge.job == dependency || edge.settled.is_none();
        let ended = |on: JobId| match self.job(JobRef { tenant: at.tenant, job: on }) {
            Some(job) => job.verdict().map(|verdict| (on, verdict)),
            None => Some((on, Verdict::Deleted)),
        };
        let settled = job.dependencies.iter().filter(waits).filter_map(|edge| ended(edge.job)).collect();
        let order = self.order_now(job);
        self.apply(at, &Event::Revived { dependency, settled, order })?;
        self.take_key_again(at);
        Ok(())
    }
}
