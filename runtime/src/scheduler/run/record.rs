//! Recording how the runs of a call ended, with everything that it left, in one transaction.

use std::sync::Arc;

use runner_store::command::{self, Command, Finish, FinishCall, KvWrites, Measured, Name, Reply, RunRef, StagedJob};
use runner_store::job::{JobId, OnConflict, Outcome, PluginId, RunSettings, TenantId, Time, limits};
use tokio::task::JoinError;

use super::{Member, Work};
use crate::run_logs;
use crate::scheduler::Parts;
use crate::wasm::backing::KvWrite;
use crate::wasm::manifest::RetrySettings;
use crate::wasm::run::Charge;
use crate::wasm::{NewJob, Plugin, RunReport, Streams};

/// A call that has ended and is about to be recorded.
pub(crate) struct Ended {
    parts: Arc<Parts>,
    /// Runs that were not entered.
    back: Vec<RunRef>,
    finish: Option<Command>,
    /// What the plugin's keys become with it; whose they are is asked for when it is known that there are any.
    kv: Option<(TenantId, Arc<Plugin>, Vec<KvWrite>)>,
    /// Who follows the call is told when it is recorded.
    streams: Option<Streams>,
    fuel: u64,
    charges: Vec<Charge>,
}

/// When a call began and ended.
type Times = (Time, Time);

impl Ended {
    /// Runs that were never entered.
    pub(super) fn handed_back(parts: Arc<Parts>, back: Vec<RunRef>) -> Self {
        Self { parts, back, finish: None, kv: None, streams: None, fuel: 0, charges: Vec::new() }
    }

    /// A call that was left, or under which the host failed.
    pub(super) fn new(
        work: Work,
        (plugin, streams): (Arc<Plugin>, Streams),
        report: Result<RunReport, JoinError>,
        settings: RunSettings,
        times: Times,
        gone: Vec<RunRef>,
    ) -> Self {
        let Work { parts, members, .. } = work;
        let mut ended = Self { streams: Some(streams), ..Self::handed_back(parts, gone) };
        match report {
            Ok(mut report) => {
                ended.fuel = report.fuel_used;
                ended.charges = std::mem::take(&mut report.charges);
                let writes = std::mem::take(&mut report.kv);
                ended.kv = (!writes.is_empty()).then(|| (members[0].job.tenant, plugin, writes));
                ended.finish = Some(finish(&members, report, settings, times));
            }
            Err(error) => {
                tracing::error!(%error, job = members[0].job.id.0, "the host failed under a run");
                // What makes the host panic would do so for ever if it counted for nothing.
                let outcome = if error.is_panic() { Outcome::Crashed } else { Outcome::Interrupted };
                ended.finish = Some(unmeasured(&members, &outcome, &settings, times));
            }
        }
        ended
    }

    /// The fuel that the handler used.
    pub(crate) fn fuel(&self) -> u64 {
        self.fuel
    }

    /// The fuel that others used around it, by tenant.
    pub(crate) fn charges(&self) -> Vec<(TenantId, u64)> {
        let of = |charge: &Charge| Some((self.parts.store.tenant_id(&charge.tenant)?, charge.fuel));
        self.charges.iter().filter_map(of).collect()
    }

    /// Records the outcome; durable when this returns. A failed store stops the node, and its next start finds the runs.
    pub(crate) async fn record(mut self) {
        for run in std::mem::take(&mut self.back) {
            // Rejected: it was deleted, or taken from us; either way it is not ours any more.
            _ = self.parts.store.call(Command::HandBack(run)).await;
        }
        if let Some(finish) = self.finish.take() {
            let finish = self.with_kv(finish).await;
            send(&self.parts, finish).await;
        }
        if let Some(streams) = &self.streams {
            streams.recorded();
        }
    }

    /// Adds what the plugin's keys become. Its name gets a number with its first write.
    async fn with_kv(&mut self, mut finish: Command) -> Command {
        let Some((tenant, plugin, writes)) = self.kv.take() else { return finish };
        let Some(id) = plugin_id(&self.parts, tenant, plugin.name()).await else { return finish };
        let write = |KvWrite { key, expected, value }| command::KvWrite { key, expected, value };
        let writes = Some(KvWrites { plugin: id, writes: writes.into_iter().map(write).collect() });
        match &mut finish {
            Command::Finish(finish) => finish.kv = writes,
            Command::FinishCall(finish) => finish.kv = writes,
            _ => {}
        }
        finish
    }
}

/// The number of a plugin's name; none: the store has failed.
async fn plugin_id(parts: &Parts, tenant: TenantId, name: &str) -> Option<PluginId> {
    if let Some(id) = parts.store.plugin_id(tenant, name) {
        return Some(id);
    }
    match parts.store.call(Command::Name(Name::of_plugin(tenant, name))).await {
        Ok(Reply::Named(id)) => Some(PluginId(id)),
        Ok(other) => {
            tracing::error!(plugin = name, reply = ?other, "a plugin's name got no number; its keys are not written");
            None
        }
        Err(error) => {
            tracing::error!(plugin = name, %error, "a plugin's name got no number; its keys are not written");
            None
        }
    }
}

async fn send(parts: &Parts, mut finish: Command) {
    loop {
        // Copied only where the store may ask for it again: an output may be a mebibyte.
        let again = may_merge(&finish).then(|| finish.clone());
        match (parts.store.call(finish).await, again) {
            (Ok(Reply::NeedsMerge(merges)), Some(again)) => {
                finish = unmerged(again, merges.iter().map(|merge| merge.position));
            }
            (Ok(Reply::Rejected(rejection)), _) => {
                tracing::info!(%rejection, "a run's outcome was not recorded");
                return;
            }
            (Ok(Reply::Call(replies)), _) => {
                for rejection in replies.iter().filter_map(|reply| reply.as_ref().err()) {
                    tracing::info!(%rejection, "a run's outcome was not recorded");
                }
                return;
            }
            (Ok(_), _) => return,
            (Err(error), _) => {
                tracing::error!(%error, "a run's outcome may not be recorded");
                return;
            }
        }
    }
}

/// The jobs that a call enqueues with its outcome.
fn staged_of(finish: &mut Command) -> &mut [StagedJob] {
    match finish {
        Command::Finish(finish) => &mut finish.staged,
        Command::FinishCall(finish) => &mut finish.staged,
        _ => &mut [],
    }
}

fn may_merge(finish: &Command) -> bool {
    let merges =
        |staged: &StagedJob| staged.spec.unique.as_ref().is_some_and(|unique| unique.on_conflict == OnConflict::Merge);
    match finish {
        Command::Finish(finish) => finish.staged.iter().any(merges),
        Command::FinishCall(finish) => finish.staged.iter().any(merges),
        _ => false,
    }
}

/// No plugin merges args: staged jobs that were to be merged with others become jobs of their own, so that nothing is
/// lost. Each step leaves fewer of them, so the steps end.
fn unmerged(mut finish: Command, positions: impl Iterator<Item = u32>) -> Command {
    let staged = staged_of(&mut finish);
    for position in positions {
        let Some(staged) = staged.get_mut(position as usize) else { continue };
        tracing::warn!(
            staged = staged.id.0,
            "a staged job was to be merged with another, and no plugin can: it is enqueued as a job of its own"
        );
        staged.spec.unique = None;
    }
    finish
}

pub(crate) fn settings(retry: &RetrySettings) -> RunSettings {
    RunSettings {
        max_attempts: retry.max_attempts.unwrap_or(limits::ATTEMPTS_DEFAULT),
        retry: retry.policy.clone().unwrap_or_default(),
    }
}

fn finish(members: &[Member], report: RunReport, settings: RunSettings, times: Times) -> Command {
    let log = run_logs::encode(&report.log);
    let staged = report.enqueues.into_iter().map(staged).collect();
    let measured = Measured {
        started_at: Some(times.0),
        finished_at: Some(times.1),
        fuel: report.fuel_used,
        memory_peak_bytes: report.memory_peak_bytes,
        plugin: digest_bytes(&report.digest),
        progress: report.progress,
        memory_denied: report.memory_denied,
        notes: Vec::new(),
    };
    if let [member] = members {
        let bare = Finish::new(member.run(), report.outcome, settings);
        return Command::Finish(Box::new(Finish { measured, staged, checkpoint: report.checkpoint, log, ..bare }));
    }
    // The fuel is shared equally; what does not divide is the first one's.
    let n = members.len() as u64;
    let (share, rest) = (measured.fuel / n, measured.fuel % n);
    let outcomes = std::iter::once(report.outcome).chain(report.others.into_iter().map(|end| end.outcome));
    let runs = members.iter().zip(outcomes).enumerate().map(|(i, (member, outcome))| command::Ended {
        run: member.run(),
        outcome,
        settings: settings.clone(),
        measured: Measured { fuel: share + if i == 0 { rest } else { 0 }, ..measured.clone() },
    });
    let (runs, failed) = (runs.collect(), report.call_failed);
    Command::FinishCall(Box::new(FinishCall { runs, failed, staged, merged: Vec::new(), kv: None, log }))
}

/// The host panicked, or was shut down: nothing is known but that.
fn unmeasured(members: &[Member], outcome: &Outcome, settings: &RunSettings, times: Times) -> Command {
    let measured = Measured { started_at: Some(times.0), finished_at: Some(times.1), ..Measured::default() };
    let run = |member: &Member| command::Ended {
        run: member.run(),
        outcome: outcome.clone(),
        settings: settings.clone(),
        measured: measured.clone(),
    };
    let (runs, failed) = (members.iter().map(run).collect(), members.len() > 1 && *outcome == Outcome::Crashed);
    let (staged, merged) = (Vec::new(), Vec::new());
    Command::FinishCall(Box::new(FinishCall { runs, failed, staged, merged, kv: None, log: None }))
}

fn staged(job: NewJob) -> StagedJob {
    StagedJob { id: JobId(job.id), spec: job.spec }
}

/// A digest as 32 bytes, from its 64 hexadecimal digits.
fn digest_bytes(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use runner_store::job::{JobRef, JobSpec, RunNumber, States, Unique};

    use super::*;

    /// Until plugins merge args, nothing that was staged may be lost for want of a merge.
    #[test]
    fn what_cannot_be_merged_becomes_a_job_of_its_own() {
        let staged = |id, on_conflict| {
            let unique = Unique { key: "k".to_owned(), states: States::default(), period: None, on_conflict };
            StagedJob { id: JobId(id), spec: JobSpec { unique: Some(unique), ..JobSpec::new("a", "{}") } }
        };
        let run = RunRef { at: JobRef { tenant: TenantId::DEFAULT, job: JobId(1) }, run: RunNumber(1) };
        let outcome = Outcome::Completed { output: Vec::new() };
        let staged = vec![staged(2, OnConflict::Keep), staged(3, OnConflict::Merge)];
        let finish = Finish { staged, ..Finish::new(run, outcome, RunSettings::default()) };
        let finish = Command::Finish(Box::new(finish));
        assert!(may_merge(&finish));
        let again = unmerged(finish, [1].into_iter());
        assert!(!may_merge(&again));
        let Command::Finish(finish) = again else { unreachable!() };
        let unique: Vec<bool> = finish.staged.iter().map(|staged| staged.spec.unique.is_some()).collect();
        assert_eq!(unique, [true, false]);
    }
}
