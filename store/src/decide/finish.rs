//! Recording how runs ended, with everything that they staged, in one transaction.
//!
//! A run is a call of its own, or one of several in a call. What a call stages is recorded once, or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::command::{
    Ended, Enqueued, Finish, FinishCall, KvWrites, Reply, RunRecord, RunRef, Scope, StagedFate, StagedJob, limits,
};
use crate::engine::{Needs, Wait};
use crate::job::{
    Event, Holder, Invalid, Job, JobId, JobRef, Lease, Millis, Outcome, OutcomeName, Rejection, StateName, TenantId,
};

use super::Batch;
use super::records::add_note;
use super::staged::Effects;

pub(super) fn needs(call: &Finish, needs: &mut Needs) {
    need_run(call.run, call.log.is_some(), needs);
    if call.request.is_some() {
        super::keys::need_finish(call.run, needs);
    }
    need_effects(call.run.at.tenant, &call.staged, call.kv.as_ref(), needs);
}

pub(super) fn call_needs(call: &FinishCall, needs: &mut Needs) {
    for ended in &call.runs {
        need_run(ended.run, call.log.is_some(), needs);
    }
    if let Some(first) = call.runs.first() {
        need_effects(first.run.at.tenant, &call.staged, call.kv.as_ref(), needs);
    }
}

pub(super) fn need_run(run: RunRef, with_log: bool, needs: &mut Needs) {
    needs.jobs.insert(run.at);
    // The first run's record is the only one, and so is its log.
    if run.run.0 > 1 {
        needs.runs.insert(run.at);
        if with_log {
            needs.run_logs.insert(run.at);
        }
    }
    needs.scopes.insert(Scope::Tenant(run.at.tenant));
}

fn need_effects(tenant: TenantId, staged: &[StagedJob], kv: Option<&KvWrites>, needs: &mut Needs) {
    for staged in staged {
        super::enqueue::need_names(tenant, &staged.spec, needs);
        super::enqueue::need_others(tenant, &staged.spec, needs);
        needs.jobs.insert(JobRef { tenant, job: staged.id });
    }
    if let Some(kv) = kv {
        super::kv::needs(tenant, kv, needs);
    }
}

/// A run of a call that is about to end, and its lease.
struct Ending<'a> {
    ended: &'a Ended,
    lease: Option<Lease>,
    accepted: bool,
}

impl Batch<'_> {
    pub(super) fn finish(&mut self, call: &Finish) -> Result<Reply, Rejection> {
        let Some(request) = call.request else {
            return self.finish_once(call).map(|(reply, _)| reply);
        };
        if let Some(again) = self.repeated_finish(call.run, request)? {
            return Ok(again);
        }
        let (reply, fates) = self.finish_once(call)?;
        // Args are to be merged first: it is asked again.
        let Reply::Job { job, .. } = reply else { return Ok(reply) };
        let mut answer = vec![Enqueued { id: job.id, state: job.state.name(), duplicate: false }];
        for staged in &call.staged {
            let joined = fates.iter().find(|fate| fate.id == staged.id).and_then(|fate| fate.joined);
            let id = joined.unwrap_or(staged.id);
            let there = self.job(JobRef { job: id, ..call.run.at });
            answer.extend(there.map(|job| Enqueued { id, state: job.state.name(), duplicate: joined.is_some() }));
        }
        self.remember_finish(call.run, request, answer.clone());
        Ok(Reply::Finished(answer))
    }

    /// The reply, and what became of staged jobs that are not there as they were staged.
    fn finish_once(&mut self, call: &Finish) -> Result<(Reply, Vec<StagedFate>), Rejection> {
        let at = call.run.at;
        let before = self.job(at);
        let lease = before.and_then(|job| job.lease()).cloned();
        let accepted = before.is_some_and(|job| job.is_held_by(call.run.run));
        let (jobs, depth) = ([at.job], before.map_or(0, |job| job.depth));
        let (staged, merged, kv) = (call.staged.as_slice(), call.merged.as_slice(), call.kv.as_ref());
        let effects = Effects { tenant: at.tenant, jobs: &jobs, depth, staged, merged, kv };
        let has_effects = call.outcome.has_effects();
        #[cfg(planted = "kv_of_a_stale_finish")]
        if has_effects {
            self.write_kv(&effects);
        }
        let mut conflict = None;
        if has_effects && accepted {
            let merges = self.merges_of(&effects);
            if !merges.is_empty() {
                return Ok((self.ask_to_merge(at.tenant, merges), Vec::new()));
            }
            // What a cancel throws away rests on nothing.
            let cancelled = lease.as_ref().is_some_and(|lease| lease.cancel.is_some());
            let thrown_away = cancelled && call.outcome.name() != OutcomeName::Completed;
            conflict = self.conflict(&effects).filter(|_| !thrown_away);
        }
        let outcome = conflict.as_deref().map(Outcome::conflict);
        let outcome = outcome.as_ref().unwrap_or(&call.outcome);
        let (run, settings) = (call.run.run, call.settings.clone());
        let event = match conflict {
            Some(key) => Event::Conflicted { run, key, settings },
            None => Event::Finished { run, outcome: outcome.without_output(), settings, alone: false },
        };
        let job = self.apply(at, &event)?.expect("a finished job is there");
        let mut record = self.record(run, lease.as_ref(), outcome, &call.measured);
        self.write_log(call.run, call.log.as_deref(), &mut record);
        self.shorten_runs(at, &record);
        self.write_payloads(at, outcome, call.checkpoint.as_deref());
        if outcome.has_effects() && job.state.name() != StateName::Cancelled {
            self.record_effects(&effects, &mut record);
        } else if cfg!(planted = "conflict_records") {
            self.write_kv(&effects);
        }
        let fates = if call.request.is_some() { record.staged.clone() } else { Vec::new() };
        self.record_run(at, record);
        self.remove_if_not_kept(&job);
        Ok((Reply::Job { job, changed: true }, fates))
    }

    fn record_effects(&mut self, effects: &Effects<'_>, record: &mut RunRecord) {
        record.staged = self.accept_all_staged(effects);
        for note in self.write_kv(effects) {
            add_note(record, note);
        }
    }

    /// Ends all runs of a call. What it staged counts if one of them completed: if that then rests on what another run has
    /// changed, so do all answers of the call that are no failures.
    pub(super) fn finish_call(&mut self, call: &FinishCall) -> Result<Reply, Rejection> {
        let tenant = check_call(call)?;
        let endings = self.endings(call);
        let accepted = || endings.iter().filter(|ending| ending.accepted).map(|ending| ending.ended);
        let jobs: Vec<JobId> = accepted().map(|ended| ended.run.at.job).collect();
        let depth = accepted().filter_map(|ended| self.job(ended.run.at)).map(|job| job.depth).max().unwrap_or(0);
        let (staged, merged, kv) = (call.staged.as_slice(), call.merged.as_slice(), call.kv.as_ref());
        let effects = Effects { tenant, jobs: &jobs, depth, staged, merged, kv };
        let completes = accepted().any(|ended| ended.outcome.name() == OutcomeName::Completed);
        let mut conflict = None;
        if completes {
            let merges = self.merges_of(&effects);
            if !merges.is_empty() {
                return Ok(self.ask_to_merge(tenant, merges));
            }
            conflict = self.conflict(&effects);
        }
        // The first whose end is accepted: what belongs to all stands with it.
        let first = accepted().next().map(|ended| ended.run);
        let shared = (jobs.len() > 1).then_some(first).flatten().map(|first| (first.at.job, first.run));
        let (mut records, mut replies) = (Vec::with_capacity(jobs.len()), Vec::with_capacity(endings.len()));
        for ending in &endings {
            replies.push(self.end_one(ending, conflict.as_deref(), call.failed).map(|(job, record)| {
                records.push((ending.ended.run, RunRecord { call: shared, ..record }));
                job
            }));
        }
        if let Some((run, record)) = records.first_mut() {
            self.write_log(*run, call.log.as_deref(), record);
            if completes && conflict.is_none() {
                self.record_effects(&effects, record);
            }
        }
        for (run, record) in records {
            self.shorten_runs(run.at, &record);
            self.record_run(run.at, record);
        }
        replies.iter().flatten().for_each(|job| self.remove_if_not_kept(job));
        Ok(Reply::Call(replies))
    }

    fn endings<'c>(&self, call: &'c FinishCall) -> Vec<Ending<'c>> {
        let ending = |ended: &'c Ended| {
            let job = self.job(ended.run.at);
            let accepted = job.is_some_and(|job| job.is_held_by(ended.run.run));
            Ending { ended, lease: job.and_then(|job| job.lease()).cloned(), accepted }
        };
        call.runs.iter().map(ending).collect()
    }

    fn end_one(
        &mut self,
        ending: &Ending<'_>,
        conflict: Option<&str>,
        alone: bool,
    ) -> Result<(Arc<Job>, RunRecord), Rejection> {
        let Ended { run: RunRef { at, run }, outcome, settings, measured } = ending.ended;
        let (run, settings) = (*run, settings.clone());
        let conflict = conflict.filter(|_| outcome.has_effects());
        let failed = conflict.map(Outcome::conflict);
        let outcome = failed.as_ref().unwrap_or(outcome);
        let event = match conflict {
            Some(key) => Event::Conflicted { run, key: key.to_owned(), settings },
            None => Event::Finished { run, outcome: outcome.without_output(), settings, alone },
        };
        let job = self.apply(*at, &event)?.expect("a finished job is there");
        self.write_payloads(*at, outcome, None);
        Ok((job, self.record(run, ending.lease.as_ref(), outcome, measured)))
    }

    /// A tenant that keeps nothing loses a job with its finish, unless others need it.
    pub(super) fn remove_if_not_kept(&mut self, job: &Job) {
        let keep = self.tenant_settings(job.tenant).keep;
        let kept = !job.state.name().is_final() || super::sweep::kept(keep, job.state.name()) > Millis(0);
        let needed = matches!(self.waited(job.at()), Some(Wait::Waiting | Wait::Named));
        if !kept && !needed && self.conduct.destroy {
            _ = self.delete(job.at(), false, false);
        }
    }

    pub(super) fn hand_back(&mut self, run: RunRef) -> Result<Reply, Rejection> {
        let lease = self.job(run.at).and_then(|job| job.lease()).cloned();
        let job = self.apply(run.at, &Event::HandedBack { run: run.run })?.expect("a job handed back is there");
        let bare = self.bare_record(run.run, lease.as_ref(), OutcomeName::Interrupted);
        let error = match lease.as_ref().map(|lease| lease.holder) {
            Some(Holder::Worker(_)) => "handed back before its worker was told of it",
            Some(Holder::Node(_)) | None => "handed back before its handler was entered",
        };
        let record = RunRecord { error: Some(error.to_owned()), ..bare };
        self.record_run(run.at, record);
        Ok(Reply::Job { job, changed: true })
    }
}

/// Whose call it is.
fn check_call(call: &FinishCall) -> Result<TenantId, Invalid> {
    let invalid = |why: String| Err(Invalid { field: "runs".to_owned(), why });
    let Some(first) = call.runs.first().filter(|_| call.runs.len() <= limits::CALL_RUNS_MAX) else {
        return invalid(format!("a call has 1 to {} runs, this one {}", limits::CALL_RUNS_MAX, call.runs.len()));
    };
    let tenant = first.run.at.tenant;
    let mut jobs = BTreeSet::new();
    for ended in &call.runs {
        let at = ended.run.at;
        if at.tenant != tenant {
            return invalid("a call has runs of one tenant only".to_owned());
        }
        if !jobs.insert(at.job) {
            return invalid(format!("job {} occurs twice", at.job));
        }
    }
    Ok(tenant)
}
