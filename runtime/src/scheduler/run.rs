//! One run from its claim to its record: read the args, enter the handler, record how it ended.

use std::sync::Arc;
use std::time::Duration;

use runner_store::command::{Answer, Command, Finish, Measured, Part, Query, Reply, RunRef, StagedJob};
use runner_store::error::StoreError;
use runner_store::job::{Job, JobId, OnConflict, Outcome, RunSettings, Time, limits};

use super::Parts;
use super::ids::{Ids, RunIds};
use crate::wasm::manifest::RetrySettings;
use crate::wasm::{Alone, CancelSignal, IdSource, JobView, NewJob, Plugin, RunReport, RunRequest, Streams};

/// How long a run that the node cannot enter keeps its slot: handed back it is claimed again at once, and a disk that
/// fails would be asked for it as fast as it commits.
const HAND_BACK_PAUSE: Duration = Duration::from_secs(1);

/// What every run of a node needs.
pub(super) struct Runs {
    parts: Arc<Parts>,
    ids: Arc<Ids>,
}

/// A run that is about to be entered.
pub(super) struct Work {
    parts: Arc<Parts>,
    ids: Arc<Ids>,
    job: Arc<Job>,
    slot: usize,
    signal: CancelSignal,
}

/// What a run gets that lives apart from its job's row.
struct Payloads {
    args: Vec<u8>,
    checkpoint: Option<Vec<u8>>,
}

/// A run that has ended and is about to be recorded.
pub(super) struct Ended {
    parts: Arc<Parts>,
    finish: Command,
}

impl Runs {
    pub(super) fn new(parts: Arc<Parts>, ids: Arc<Ids>) -> Self {
        Self { parts, ids }
    }

    pub(super) fn work(&self, job: Arc<Job>, slot: usize, signal: CancelSignal) -> Work {
        Work { parts: Arc::clone(&self.parts), ids: Arc::clone(&self.ids), job, slot, signal }
    }
}

impl Work {
    /// Enters the handler and waits until it is left. On the guests' threads.
    pub(super) async fn enter(self) -> Ended {
        let run = RunRef { at: self.job.at(), run: self.job.run };
        let kind = self.parts.store.kind_name(self.job.kind);
        let payloads = match self.payloads() {
            Ok(Some(payloads)) => payloads,
            // Deleted since it was claimed: there is nothing to run, and nobody to tell.
            Ok(None) => return self.ended(Command::HandBack(run)),
            Err(error) => return self.not_entered("its args cannot be read", &error).await,
        };
        let Some(plugin) = self.parts.plugin(self.job.tenant, &kind) else {
            // It went since the run was claimed: not the job's fault.
            return self.ended(Command::HandBack(run));
        };
        let ids = if plugin.grants().asked().enqueue.is_empty() {
            None
        } else {
            Some(self.ids.for_run(plugin.limits(&kind).enqueues).await)
        };
        let settings = settings(&plugin.retry(&kind));
        let request = self.request(&plugin, &kind, payloads, ids, &settings);
        let started_at = self.parts.clock.now();
        if let Some(file) = &self.parts.slots_file
            && let Err(error) = file.enter(self.slot, run)
        {
            return self.not_entered("a crash of it could not be told", &error).await;
        }
        // A task of its own: should the host itself panic, this one still gives the slot back and records it.
        let report = self.parts.host.spawn(Arc::clone(&plugin), request).await;
        let times = (started_at, self.parts.clock.now());
        if let Some(file) = &self.parts.slots_file
            && let Err(error) = file.leave(self.slot)
        {
            tracing::error!(%error, "a run that has ended will count as crashed if this process dies");
        }
        let finish = match report {
            Ok(report) => {
                say(&self.job, &kind, &report);
                finish(run, report, settings, times)
            }
            Err(error) => {
                tracing::error!(%error, job = run.at.job.0, "the host failed under a run");
                // What makes the host panic would do so for ever if it counted for nothing.
                let outcome = if error.is_panic() { Outcome::Crashed } else { Outcome::Interrupted };
                unmeasured(run, outcome, settings, times)
            }
        };
        self.ended(Command::Finish(Box::new(finish)))
    }

    /// What is read for the run; none: the job is gone.
    fn payloads(&self) -> Result<Option<Payloads>, StoreError> {
        let (view, at) = (self.parts.store.snapshot()?, self.job.at());
        let read = |part| match view.read(&Query::Payload(at, part))? {
            Answer::Payload(bytes) => Ok(bytes),
            _ => Ok(None),
        };
        let checkpoint = if self.job.started { read(Part::Checkpoint)? } else { None };
        if let Some(args) = read(Part::Args)? {
            return Ok(Some(Payloads { args, checkpoint }));
        }
        // A job without args and one that was deleted must not look the same.
        let gone = view.read(&Query::Job(at))? == Answer::Job(None);
        Ok((!gone).then(|| Payloads { args: Vec::new(), checkpoint }))
    }

    /// Keeps the slot for a moment, then gives the run back.
    async fn not_entered(self, why: &'static str, error: &StoreError) -> Ended {
        let run = RunRef { at: self.job.at(), run: self.job.run };
        tracing::error!(job = run.at.job.0, %error, "a run was not entered: {why}");
        tokio::time::sleep(HAND_BACK_PAUSE).await;
        self.ended(Command::HandBack(run))
    }

    fn request(
        &self,
        plugin: &Plugin,
        kind: &str,
        Payloads { args, checkpoint }: Payloads,
        ids: Option<RunIds>,
        settings: &RunSettings,
    ) -> RunRequest {
        let job = &self.job;
        RunRequest {
            job: JobView {
                id: job.id.0,
                kind: kind.to_owned(),
                tenant: self.parts.store.tenant_name(job.tenant).as_ref().to_owned(),
                queue: self.parts.store.queue_name(job.queue).as_ref().to_owned(),
                args,
                run: job.run.0,
                attempt: job.attempts + 1,
                max_attempts: job.max_attempts.unwrap_or(settings.max_attempts),
                priority: job.priority.0,
                enqueued_at: job.enqueued_at,
                run_at: job.run_at,
                tags: job.tags.clone(),
                checkpoint,
                dependencies: job.dependencies.iter().map(|edge| edge.job.0).collect(),
                meta: Vec::new(),
                timeout: job.timeout,
                states_retry: job.retry.is_some(),
            },
            others: Vec::new(),
            limits: plugin.limits(kind),
            middleware: Vec::new(),
            grants: plugin.grants(),
            ids: ids.map(|ids| Arc::new(move || ids.take()) as IdSource),
            read_job: Arc::clone(&self.parts.read_job),
            backing: Arc::new(Alone),
            streams: Streams::default(),
            cancel: self.signal.clone(),
        }
    }

    fn ended(self, finish: Command) -> Ended {
        Ended { parts: self.parts, finish }
    }
}

impl Ended {
    /// The fuel that it used.
    pub(super) fn fuel(&self) -> u64 {
        match &self.finish {
            Command::Finish(finish) => finish.measured.fuel,
            _ => 0,
        }
    }

    /// Records the outcome; durable when this returns. A failed store stops the node, and its next start finds the run.
    pub(super) async fn record(self) {
        let Self { parts, mut finish } = self;
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
                (Ok(_), _) => return,
                (Err(error), _) => {
                    tracing::error!(%error, "a run's outcome may not be recorded");
                    return;
                }
            }
        }
    }
}

fn may_merge(finish: &Command) -> bool {
    let merges =
        |staged: &StagedJob| staged.spec.unique.as_ref().is_some_and(|unique| unique.on_conflict == OnConflict::Merge);
    matches!(finish, Command::Finish(finish) if finish.staged.iter().any(merges))
}

/// No plugin merges args: staged jobs that were to be merged with others become jobs of their own, so that nothing is
/// lost. Each step leaves fewer of them, so the steps end.
fn unmerged(mut finish: Command, positions: impl Iterator<Item = u32>) -> Command {
    let Command::Finish(call) = &mut finish else { return finish };
    for position in positions {
        let Some(staged) = call.staged.get_mut(position as usize) else { continue };
        tracing::warn!(
            job = call.run.at.job.0,
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

fn finish(run: RunRef, report: RunReport, settings: RunSettings, (started, left): (Time, Time)) -> Finish {
    Finish {
        run,
        outcome: report.outcome,
        settings,
        measured: Measured {
            started_at: Some(started),
            finished_at: Some(left),
            fuel: report.fuel_used,
            memory_peak_bytes: report.memory_peak_bytes,
            plugin: digest_bytes(&report.digest),
            progress: report.progress,
            ..Measured::default()
        },
        staged: report.enqueues.into_iter().map(staged).collect(),
        checkpoint: report.checkpoint,
        merged: Vec::new(),
        kv: None,
        log: None,
    }
}

fn unmeasured(run: RunRef, outcome: Outcome, settings: RunSettings, (started, left): (Time, Time)) -> Finish {
    let measured = Measured { started_at: Some(started), finished_at: Some(left), ..Measured::default() };
    Finish { measured, ..Finish::new(run, outcome, settings) }
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

fn say(job: &Job, kind: &str, report: &RunReport) {
    let (job, run, outcome) = (job.id.0, job.run.0, report.outcome.name().as_str());
    for line in report.log.lines() {
        tracing::debug!(job, run, kind, "{}", line.shown());
    }
    match report.outcome.error() {
        Some(error) => tracing::info!(job, run, kind, outcome, error, wall = ?report.wall, "run ended"),
        None => tracing::debug!(job, run, kind, outcome, wall = ?report.wall, "run ended"),
    }
}

#[cfg(test)]
mod tests {
    use runner_store::job::{JobRef, JobSpec, RunNumber, States, TenantId, Unique};

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
        let bare = unmeasured(run, outcome, RunSettings::default(), (Time(1), Time(2)));
        let staged = vec![staged(2, OnConflict::Keep), staged(3, OnConflict::Merge)];
        let finish = Command::Finish(Box::new(Finish { staged, ..bare }));
        assert!(may_merge(&finish));
        let again = unmerged(finish, [1].into_iter());
        assert!(!may_merge(&again));
        let Command::Finish(finish) = again else { unreachable!() };
        let unique: Vec<bool> = finish.staged.iter().map(|staged| staged.spec.unique.is_some()).collect();
        assert_eq!(unique, [true, false]);
    }
}
