//! Recording how runs ended, with everything that they staged, in one transaction.

use crate::command::{Finish, Part, Reply, RunRecord, RunRef, Scope};
use crate::engine::{Change, Needs, Wait};
use crate::job::{
    Event, Holder, Job, JobRef, Lease, Millis, Outcome, OutcomeName, Rejection, RunNumber, StateName, limits,
};

use super::Batch;
use super::staged::Effects;

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
        let depth = self.job(at).map_or(0, |job| job.depth);
        let jobs = [at.job];
        let staging = Effects { tenant: at.tenant, jobs: &jobs, depth, staged: &call.staged, merged: &call.merged };
        if effects && lease.is_some() {
            let merges = self.merges_of(&staging);
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
            record.staged = self.accept_all_staged(&staging);
        }
        self.record_run(at, record);
        self.remove_if_not_kept(&job);
        Ok(Reply::Job { job, changed: true })
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
