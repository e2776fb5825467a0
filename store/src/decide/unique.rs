//! Unique keys: who holds them, and what an enqueue does that finds its key held.

use crate::command::{Merged, NeedsMerge, Reply};
use crate::engine::{Change, KeyRef, UniqueRecord};
use crate::job::{Edit, Job, JobId, JobRef, JobSpec, Millis, OnConflict, Rejection, State, TenantId, limits};

use super::Batch;

/// What becomes of a job that was asked for.
pub(super) enum Fate {
    /// It comes into being, and takes its key, if it has one.
    New,
    /// Another one is there already.
    Duplicate(JobId),
    /// Another one is there already, and changes.
    Change(JobId, Box<Edit>),
    /// Another one is there already; its args are to be merged first.
    Merge(NeedsMerge),
}

/// The reference of the unique key of `spec`.
pub(super) fn key_of(tenant: TenantId, spec: &JobSpec) -> Option<KeyRef> {
    spec.unique.as_ref().map(|unique| KeyRef::of(tenant, &unique.key))
}

impl Batch<'_> {
    /// What becomes of `spec` as things stand now.
    pub(super) fn fate(
        &self,
        tenant: TenantId,
        position: u32,
        spec: &JobSpec,
        merged: &[Merged],
    ) -> Result<Fate, Rejection> {
        let (Some(unique), Some(key)) = (&spec.unique, key_of(tenant, spec)) else { return Ok(Fate::New) };
        let Some(holder) = self.holder(key) else { return Ok(Fate::New) };
        let at = JobRef { tenant, job: holder };
        if unique.on_conflict == OnConflict::Reject {
            return Err(Rejection::UniqueHeld(holder));
        }
        let job = match self.job(at) {
            // Nothing can be changed of what has ended or is gone.
            None => return Ok(Fate::Duplicate(holder)),
            Some(job) if unique.on_conflict == OnConflict::Keep || job.state.name().is_final() => {
                return Ok(Fate::Duplicate(holder));
            }
            Some(job) if matches!(job.state, State::Running(_)) => return Ok(Fate::New),
            Some(job) => job,
        };
        if self.known_kind(tenant, &spec.kind) != Some(job.kind) {
            // What was meant for one handler is not given to another.
            return Err(Rejection::UniqueHeld(holder));
        }
        Ok(match unique.on_conflict {
            OnConflict::Debounce { delay, max } => {
                let max = max.unwrap_or(Millis(delay.0.saturating_mul(limits::DEBOUNCE_MAX_FACTOR)));
                let run_at = self.now.after(delay).min(job.enqueued_at.after(max));
                Fate::Change(holder, Box::new(Edit { run_at: Some(run_at), ..replacing(spec) }))
            }
            OnConflict::Merge => self.merge(at, position, merged)?,
            OnConflict::Replace | OnConflict::Keep | OnConflict::Reject => {
                let run_at = spec.delay.map(|delay| self.now.after(delay)).or(spec.run_at).unwrap_or(self.now);
                Fate::Change(holder, Box::new(Edit { run_at: Some(run_at), ..replacing(spec) }))
            }
        })
    }

    fn merge(&self, holder: JobRef, position: u32, merged: &[Merged]) -> Result<Fate, Rejection> {
        let version = self.row(holder).map_or(0, |row| row.digest());
        let made = merged.iter().find(|m| m.position == position && m.holder == holder.job && m.version == version);
        if let Some(made) = made {
            let (args, key) = (Some(made.args.clone()), Some(made.key.clone()));
            let edit = Edit { args, key, ..Edit::default() };
            edit.check()?;
            return Ok(Fate::Change(holder.job, Box::new(edit)));
        }
        // Of args that were not read no version is right: what was made of them is never taken.
        let args = self.args.get(&holder).or_else(|| self.set.args.get(&holder)).cloned();
        let (version, args) = args.map_or_else(Default::default, |args| (version, args));
        Ok(Fate::Merge(NeedsMerge { position, holder: holder.job, version, args }))
    }

    /// The answer that args are to be merged first. Those of a job that took its key in this batch are read before that.
    pub(super) fn ask_to_merge(&mut self, tenant: TenantId, merges: Vec<NeedsMerge>) -> Reply {
        let holders = merges.iter().map(|merge| JobRef { tenant, job: merge.holder });
        self.unread.extend(holders.filter(|at| !self.args.contains_key(at) && !self.set.args.contains_key(at)));
        Reply::NeedsMerge(merges)
    }

    /// The job that holds a key: by its state, or because a period is not over.
    pub(super) fn holder(&self, key: KeyRef) -> Option<JobId> {
        let record = self.unique(key)?;
        let by_time = record.until.is_some_and(|until| until > self.now);
        let job = self.job(JobRef { tenant: key.tenant, job: record.job });
        (by_time || job.is_some_and(|job| job.holds_key_by_state())).then_some(record.job)
    }

    fn unique(&self, key: KeyRef) -> Option<UniqueRecord> {
        self.uniques.get(&key).copied().unwrap_or_else(|| self.set.uniques.get(&key).copied())
    }

    fn set_unique(&mut self, key: KeyRef, record: Option<UniqueRecord>) {
        let old = self.unique(key);
        if let Some(until) = old.and_then(|old| old.until)
            && record.and_then(|new| new.until) != Some(until)
        {
            self.changes.push(Change::UniqueUntil(key, until));
        }
        if old != record {
            self.changes.push(Change::Unique(key, record));
            self.uniques.insert(key, record);
        }
    }

    /// A job has come into being: the key is its own, whoever had it.
    pub(super) fn take_key(&mut self, job: &Job) {
        let Some(hold) = &job.unique else { return };
        let until = hold.until.filter(|until| *until > self.now);
        if until.is_some() || job.holds_key_by_state() {
            self.set_unique(KeyRef::of(job.tenant, &hold.key), Some(UniqueRecord { job: job.id, until }));
        }
    }

    /// A job came to a state in which it holds its key: it does, unless another one has taken it meanwhile.
    pub(super) fn take_free_key(&mut self, job: &Job) {
        if self.key_can_be_taken_again(job).is_ok() {
            self.take_key(job);
        }
    }

    /// A job that had ended is to run again.
    pub(super) fn key_can_be_taken_again(&self, job: &Job) -> Result<(), Rejection> {
        let Some(hold) = &job.unique else { return Ok(()) };
        match self.holder(KeyRef::of(job.tenant, &hold.key)) {
            Some(other) if other != job.id => Err(Rejection::UniqueHeld(other)),
            _ => Ok(()),
        }
    }

    /// A job that had ended runs again: it takes its key again.
    pub(super) fn take_key_again(&mut self, at: JobRef) {
        if let Some(job) = self.job(at).cloned() {
            self.take_key(&job);
        }
    }

    /// The state of `job` does not hold its key any more.
    pub(super) fn release_key(&mut self, job: &Job) {
        let Some(hold) = &job.unique else { return };
        let key = KeyRef::of(job.tenant, &hold.key);
        let record = self.unique(key).filter(|record| record.job == job.id);
        let Some(record) = record else { return };
        if record.until.is_none_or(|until| until <= self.now) {
            self.set_unique(key, None);
        }
    }

    /// Forgets keys whose period is over; what a state still holds loses only its period.
    pub(super) fn forget_uniques(&mut self, budget: usize) {
        if !self.conduct.destroy {
            return;
        }
        for (key, until) in self.set.expired_uniques.iter().take(budget) {
            // The batch may have renewed it since it was read.
            let Some(record) = self.unique(*key).filter(|record| record.until == Some(*until)) else { continue };
            let held = self.holder(*key).is_some();
            self.set_unique(*key, held.then_some(UniqueRecord { until: None, ..record }));
        }
    }
}

/// Everything that a call states, for a job that is there.
fn replacing(spec: &JobSpec) -> Edit {
    Edit {
        priority: Some(spec.priority),
        run_at: None,
        max_attempts: spec.max_attempts,
        timeout: spec.timeout,
        args: Some(spec.args.clone()),
        expires_at: Some(spec.expires_at),
        retry: spec.retry.clone(),
        tags: Some(spec.tags.clone()),
        depth: Some(spec.depth),
        key: Some(spec.key.clone()),
    }
}
