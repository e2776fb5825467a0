//! Recording how runs ended, with everything that they staged, in one transaction.

use crate::command::{Finish, NeedsMerge, Part, Reply, RunRecord, RunRef, Scope, StagedFate, StagedJob};
use crate::engine::{Change, Needs, Wait};
use crate::job::{
    Event, Holder, Job, JobId, JobRef, Lease, Millis, On, OnConflict, Outcome, OutcomeName, Rejection, RunNumber,
    StateName, limits,
};

use super::Batch;
use super::unique::{Fate, key_of};

pub(super) fn needs(call: &Finish, needs: &mut Needs) {
    needs.jobs.insert(call.run.at);
    // The first run's record is the only one.
    if call.run.run.0 > 1 {
        needs.runs.insert(call.run.at);
    }
    needs.scopes.insert(Scope::Tenant(call.run.at.tenant));
    for staged in &call.staged {
        super::enqueue::need_names(call.run.at.tenant, &staged.spec, needs);
        super::enqueue::need_others(call.run.at.tenant, &staged.spec, needs);
        needs.jobs.insert(JobRef { tenant: call.run.at.tenant, job: staged.id });
    }
}

impl Batch<'_> {
    pub(super) fn finish(&mut self, call: &Finish) -> Result<Reply, Rejection> {
        let at = call.run.at;
        let lease = self.job(at).and_then(|job| job.lease()).cloned();
        let effects =
            matches!(call.outcome, Outcome::Completed { .. } | Outcome::Snoozed { .. } | Outcome::Discarded { .. });
        if effects && lease.is_some() {
            let merges = self.merges_of(call);
            if !merges.is_empty() {
                return Ok(self.ask_to_merge(at.tenant, merges));
            }
        }
        let outcome = call.outcome.without_output();
        let event = Event::Finished { run: call.run.run, outcome, settings: call.settings.clone() };
        let job = self.apply(at, &event)?.expect("a finished job is there");
        let mut record = self.record(call, lease.as_ref());
        self.shorten_runs(at, &record);
        self.write_payloads(call, at);
        if effects && job.state.name() != StateName::Cancelled {
            record.staged = self.accept_all_staged(call);
        }
        self.record_run(at, record);
        self.remove_if_not_kept(&job);
        Ok(Reply::Job { job, changed: true })
    }

    /// Staged jobs whose unique key another job holds, and whose args are to be merged with that one's.
    fn merges_of(&self, call: &Finish) -> Vec<NeedsMerge> {
        let tenant = call.run.at.tenant;
        let merge = |(i, staged): (usize, &StagedJob)| {
            let unique = staged.spec.unique.as_ref()?;
            let holder = self.holder(key_of(tenant, &staged.spec)?)?;
            if unique.on_conflict != OnConflict::Merge || holder == call.run.at.job {
                return None;
            }
            match self.fate(tenant, u32::try_from(i).unwrap_or(u32::MAX), &staged.spec, &call.merged) {
                Ok(Fate::Merge(merge)) => Some(merge),
                _ => None,
            }
        };
        call.staged.iter().enumerate().filter_map(merge).collect()
    }

    /// What did not come into being as it was staged. None comes before what it depends on.
    fn accept_all_staged(&mut self, call: &Finish) -> Vec<StagedFate> {
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
    fn accept_staged(&mut self, call: &Finish, position: usize, resolve: impl Fn(On) -> JobId) -> Option<StagedFate> {
        let staged = &call.staged[position];
        let (tenant, id, spec) = (call.run.at.tenant, staged.id, &staged.spec);
        let dropped = |why: String| Some(StagedFate { id, joined: None, why: Some(why) });
        if let Err(invalid) = spec.check() {
            return dropped(invalid.to_string());
        }
        if id >= self.next_job {
            return dropped("its id was not set aside for it".to_owned());
        }
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        match self.fate(tenant, position, spec, &call.merged) {
            Err(rejection) => dropped(rejection.to_string()),
            Ok(Fate::Duplicate(holder)) => Some(StagedFate { id, joined: Some(holder), why: None }),
            Ok(Fate::Change(holder, edit)) => {
                self.change_holder(JobRef { tenant, job: holder }, &edit);
                Some(StagedFate { id, joined: Some(holder), why: None })
            }
            // The second of two staged ones with one key finds the first, which nobody could merge it with: both run.
            Ok(Fate::New | Fate::Merge(_)) => {
                let dependencies = self.dependencies(tenant, spec, resolve);
                match self.accept(JobRef { tenant, job: id }, spec, dependencies) {
                    Ok(()) => None,
                    Err(rejection) => dropped(rejection.to_string()),
                }
            }
        }
    }

    /// A tenant that keeps nothing loses a job with its finish, unless others need it.
    fn remove_if_not_kept(&mut self, job: &Job) {
        let keep = self.tenant_settings(job.tenant).keep;
        let kept = !job.state.name().is_final() || super::sweep::kept(keep, job.state.name()) > Millis(0);
        let needed = matches!(self.waited(job.at()), Some(Wait::Waiting | Wait::Named));
        if !kept && !needed && self.conduct.destroy {
            _ = self.delete(job.at(), false, false);
        }
    }

    fn write_payloads(&mut self, call: &Finish, at: JobRef) {
        match &call.outcome {
            Outcome::Completed { output } => {
                if !output.is_empty() {
                    self.changes.push(Change::Payload(at, Part::Output, Some(output.clone())));
                }
                // Whether there is one, only the file knows: a first run may have left one while it went on.
                self.changes.push(Change::Payload(at, Part::Checkpoint, None));
            }
            _ => {
                if let Some(bytes) = &call.checkpoint {
                    self.changes.push(Change::Payload(at, Part::Checkpoint, Some(bytes.clone())));
                }
            }
        }
    }

    pub(super) fn hand_back(&mut self, run: RunRef) -> Result<Reply, Rejection> {
        let lease = self.job(run.at).and_then(|job| job.lease()).cloned();
        let job = self.apply(run.at, &Event::HandedBack { run: run.run })?.expect("a job handed back is there");
        let bare = self.bare_record(run.run, lease.as_ref(), OutcomeName::Interrupted);
        let error = Some("handed back before its handler was entered".to_owned());
        let record = RunRecord { error, ..bare };
        self.record_run(run.at, record);
        Ok(Reply::Job { job, changed: true })
    }

    /// Makes room for the texts of `newest` among the records of its job: older ones give up their backtraces and the
    /// rest of their errors.
    fn shorten_runs(&mut self, at: JobRef, newest: &RunRecord) {
        let mut left = limits::RUNS_BYTES_MAX.saturating_sub(text_bytes(newest));
        for record in self.set.runs.get(&at).into_iter().flatten().rev() {
            let mut short = record.clone();
            if text_bytes(&short) > left {
                short.trace = None;
            }
            if text_bytes(&short) > left {
                short.error = short.error.map(|text| cut_marked(&text, limits::ROW_ERROR_BYTES_MAX));
            }
            left = left.saturating_sub(text_bytes(&short));
            if short != *record {
                self.changes.push(Change::Run(at, Box::new(short)));
            }
        }
    }

    fn record(&self, call: &Finish, lease: Option<&Lease>) -> RunRecord {
        let (outcome, measured) = (&call.outcome, &call.measured);
        let progress = measured.progress.as_ref();
        let bare = self.bare_record(call.run.run, lease, outcome.name());
        // Wherever the clocks went: a run ends after it began, and before it is recorded.
        let finished_at = measured.finished_at.map_or(bare.finished_at, |at| at.min(bare.finished_at));
        RunRecord {
            started_at: measured.started_at,
            finished_at: finished_at.max(measured.started_at.unwrap_or_default()),
            error: outcome.error().map(|text| cut_marked(&text, limits::ERROR_BYTES_MAX)),
            trace: outcome.trace().map(|text| cut_marked(text, limits::TRACE_BYTES_MAX)),
            fuel: measured.fuel,
            memory_peak_bytes: measured.memory_peak_bytes,
            plugin: measured.plugin,
            progress: progress
                .map(|(percent, words)| ((*percent).min(100), cut_marked(words, limits::ROW_ERROR_BYTES_MAX))),
            ..bare
        }
    }

    /// The record of a run of which nothing was measured.
    pub(super) fn bare_record(&self, run: RunNumber, lease: Option<&Lease>, outcome: OutcomeName) -> RunRecord {
        let node = |lease: &Lease| match lease.holder {
            Holder::Node(boot) => Some(boot),
            Holder::Worker(_) => None,
        };
        RunRecord {
            run,
            started_at: None,
            // The clock may have stepped back since; a run does not end before it began.
            finished_at: lease.map_or(self.now, |lease| self.now.max(lease.claimed_at)),
            outcome,
            error: None,
            trace: None,
            fuel: 0,
            memory_peak_bytes: 0,
            plugin: None,
            node: lease.and_then(node),
            progress: None,
            staged: Vec::new(),
        }
    }
}

fn text_bytes(record: &RunRecord) -> usize {
    record.error.as_ref().map_or(0, String::len) + record.trace.as_ref().map_or(0, String::len)
}

/// At most `max` bytes of `text`; where something was cut off, it says so.
fn cut_marked(text: &str, max: usize) -> String {
    const MARK: &str = " … [cut]";
    if text.len() <= max {
        return text.to_owned();
    }
    format!("{}{MARK}", &text[..text.floor_char_boundary(max - MARK.len())])
}
