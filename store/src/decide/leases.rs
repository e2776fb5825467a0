//! Runs of external workers: taking them, and ending those whose lease has run out or is void.

use crate::command::{EndLeases, EndedLease, Leasing, Reply, RunRecord, limits};
use crate::engine::Needs;
use crate::job::outcome::LEASE_RAN_OUT;
use crate::job::{Event, Holder, OutcomeName, Rejection, RunSettings, limits as job_limits};

use super::{Batch, finish};

pub(super) fn needs(call: &EndLeases, needs: &mut Needs) {
    for ended in call.runs.iter().take(limits::ENDED_RUNS_MAX as usize) {
        finish::need_run(ended.run, ended.log.is_some(), needs);
    }
}

impl Batch<'_> {
    pub(super) fn lease(&mut self, call: &Leasing) -> Reply {
        let lasts = call.lasts.clamp(job_limits::LEASE_MIN, job_limits::LEASE_MAX);
        let event = Event::Claimed {
            holder: Holder::Worker(call.holder),
            expires_at: Some(self.now.after(lasts)),
            worker: Some(call.worker.clone()),
        };
        self.take_first(call.max, &call.grants, &event)
    }

    pub(super) fn end_leases(&mut self, call: &EndLeases) -> Reply {
        let (mut crashed, mut interrupted) = (0, 0);
        for ended in call.runs.iter().take(limits::ENDED_RUNS_MAX as usize) {
            let Some(job) = self.job(ended.run.at) else { continue };
            let found = call.settings.iter().find(|(kind, _)| *kind == job.kind);
            let settings = found.map_or_else(RunSettings::default, |(_, settings)| settings.clone());
            match self.end_lease(ended, call.crashed, settings) {
                Ok(()) if call.crashed => crashed += 1,
                Ok(()) => interrupted += 1,
                // It ended in time, or its job is gone.
                Err(_) => {}
            }
        }
        Reply::Ended { crashed, interrupted, more: false }
    }

    fn end_lease(&mut self, ended: &EndedLease, crashed: bool, settings: RunSettings) -> Result<(), Rejection> {
        let EndedLease { run, log } = ended;
        let stale = Rejection::Stale { said: run.run };
        let lease = self.job(run.at).and_then(|job| job.lease()).cloned().ok_or(stale.clone())?;
        if !matches!(lease.holder, Holder::Worker(_)) {
            return Err(stale);
        }
        let job = self.apply(run.at, &Event::HolderGone { run: run.run, started: crashed, settings })?;
        let (outcome, error) = if crashed {
            (OutcomeName::Crashed, LEASE_RAN_OUT)
        } else {
            (OutcomeName::Interrupted, "its worker's lease is void since the store was restored")
        };
        let bare = self.bare_record(run.run, Some(&lease), outcome);
        let mut record = RunRecord { started_at: Some(lease.claimed_at), error: Some(error.to_owned()), ..bare };
        self.write_log(*run, log.as_deref(), &mut record);
        self.shorten_runs(run.at, &record);
        self.record_run(run.at, record);
        self.remove_if_not_kept(&job.expect("a job whose holder is gone is there"));
        Ok(())
    }
}
