//! What a call enqueues with its outcome: which of it comes into being, and what becomes of the rest.

use crate::command::{KvWrites, Merged, NeedsMerge, StagedFate, StagedJob};
use crate::job::{JobId, JobRef, On, OnConflict, TenantId, depth_after, staged_depth};

use super::Batch;
use super::unique::{Fate, key_of};

/// What a call of a handler wants recorded with its outcome.
#[derive(Clone, Copy)]
pub(super) struct Effects<'a> {
    pub(super) tenant: TenantId,
    /// The jobs that it was called for.
    pub(super) jobs: &'a [JobId],
    /// The depth of the deepest of these.
    pub(super) depth: u32,
    pub(super) staged: &'a [StagedJob],
    pub(super) merged: &'a [Merged],
    pub(super) kv: Option<&'a KvWrites>,
}

impl Batch<'_> {
    /// Staged jobs whose unique key another job holds, and whose args are to be merged with that one's.
    pub(super) fn merges_of(&self, call: &Effects<'_>) -> Vec<NeedsMerge> {
        let tenant = call.tenant;
        let merge = |(i, staged): (usize, &StagedJob)| {
            let unique = staged.spec.unique.as_ref()?;
            let holder = self.holder(key_of(tenant, &staged.spec)?)?;
            if unique.on_conflict != OnConflict::Merge || call.jobs.contains(&holder) {
                return None;
            }
            match self.fate(tenant, u32::try_from(i).unwrap_or(u32::MAX), &staged.spec, call.merged) {
                Ok(Fate::Merge(merge)) => Some(merge),
                _ => None,
            }
        };
        call.staged.iter().enumerate().filter_map(merge).collect()
    }

    /// What did not come into being as it was staged. None comes before what it depends on.
    pub(super) fn accept_all_staged(&mut self, call: &Effects<'_>) -> Vec<StagedFate> {
        let position = |on: On| match on {
            On::Position(position) => Some(position as usize),
            On::Job(job) => call.staged.iter().position(|staged| staged.id == job),
        };
        let order = super::enqueue::in_order(call.staged.iter().map(|staged| &staged.spec), position);
        let order = order.unwrap_or_else(|_| (0..call.staged.len()).collect());
        // Which jobs they are: where one joined another, whoever depends on it depends on that.
        let mut ids: Vec<JobId> = call.staged.iter().map(|staged| staged.id).collect();
        let mut fates = Vec::new();
        for i in order {
            let resolve = |on: On| match (on, position(on)) {
                // A place beyond the list is nobody's: as if it had been deleted.
                (_, Some(on)) => ids.get(on).copied().unwrap_or(ids[i]),
                (On::Job(job), None) => job,
                (On::Position(_), None) => unreachable!("a position has a place"),
            };
            let fate = self.accept_staged(call, i, resolve);
            ids[i] = fate.as_ref().and_then(|fate| fate.joined).unwrap_or(ids[i]);
            fates.extend(fate.map(|fate| (i, fate)));
        }
        fates.sort_unstable_by_key(|(i, _)| *i);
        fates.into_iter().map(|(_, fate)| fate).collect()
    }

    /// What a run staged was checked when it was staged. What breaks a rule all the same is left out, and the run's
    /// record says so, as nothing may fail a run at its commit.
    fn accept_staged(
        &mut self,
        call: &Effects<'_>,
        position: usize,
        resolve: impl Fn(On) -> JobId,
    ) -> Option<StagedFate> {
        let staged = &call.staged[position];
        let (tenant, id, spec) = (call.tenant, staged.id, &staged.spec);
        let dropped = |why: String| Some(StagedFate { id, joined: None, why: Some(why) });
        if let Err(invalid) = spec.check() {
            return dropped(invalid.to_string());
        }
        if id >= self.next_job {
            return dropped("its id was not set aside for it".to_owned());
        }
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        match self.fate(tenant, position, spec, call.merged) {
            Err(rejection) => dropped(rejection.to_string()),
            Ok(Fate::Duplicate(holder)) => Some(StagedFate { id, joined: Some(holder), why: None }),
            Ok(Fate::Change(holder, mut edit)) => {
                if let Some(run_at) = edit.run_at {
                    match depth_after(call.depth, run_at.since(self.now)) {
                        Ok(depth) => edit.depth = Some(depth),
                        Err(too_deep) => return dropped(too_deep.to_string()),
                    }
                }
                self.change_holder(JobRef { tenant, job: holder }, &edit);
                Some(StagedFate { id, joined: Some(holder), why: None })
            }
            // The second of two staged ones with one key finds the first, which nobody could merge it with: both run.
            Ok(Fate::New | Fate::Merge(_)) => {
                let depth = match staged_depth(call.depth, spec, self.now) {
                    Ok(depth) => depth,
                    Err(too_deep) => return dropped(too_deep.to_string()),
                };
                let dependencies = self.dependencies(tenant, spec, resolve);
                match self.accept(JobRef { tenant, job: id }, spec, depth, dependencies) {
                    Ok(()) => None,
                    Err(rejection) => dropped(rejection.to_string()),
                }
            }
        }
    }
}
