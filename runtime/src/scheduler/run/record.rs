//! Recording how the runs of a call ended, with everything that it left, in one transaction.

use std::sync::Arc;
use std::time::Duration;

use runner_store::command::{
    self, Command, Finish, FinishCall, KvWrites, Measured, Merged, Name, NeedsMerge, Reply, RunRef, StagedJob,
};
use runner_store::index;
use runner_store::job::{Backoff, JobId, Millis, Outcome, PluginId, RetryPolicy, RunSettings, TenantId, Time, limits};
use tokio::time::Instant;

use super::{Member, Work, told};
use crate::scheduler::Parts;
use crate::scheduler::tally::{End, Of, Tally};
use crate::traces::Context;
use crate::wasm::backing::KvWrite;
use crate::wasm::manifest::RetrySettings;
use crate::wasm::run::Charge;
use crate::wasm::{NewJob, Panicked, Plugin, RunReport, Streams};
use crate::{merging, run_logs};

/// How often the args of a call's staged jobs are merged anew, because the jobs that hold their keys changed meanwhile.
const MERGES_MAX: u32 = 5;

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
    took: Option<Duration>,
    /// None: no handler was entered.
    about: Option<About>,
}

/// Whose runs they were, and how long each had waited for its handler.
struct About {
    of: Of,
    waited: Millis,
    others_waited: Vec<Millis>,
}

/// When a call began and ended.
type Times = (Time, Time);

impl Ended {
    /// Runs that were never entered.
    pub(super) fn handed_back(parts: Arc<Parts>, back: Vec<RunRef>) -> Self {
        Self {
            parts,
            back,
            finish: None,
            kv: None,
            streams: None,
            fuel: 0,
            charges: Vec::new(),
            took: None,
            about: None,
        }
    }

    /// A call that was left, or under which the host failed.
    pub(super) fn new(
        work: Work,
        (plugin, streams): (Arc<Plugin>, Streams),
        report: Result<RunReport, Panicked>,
        (settings, context): (RunSettings, Option<Context>),
        times: Times,
        gone: Vec<RunRef>,
    ) -> Self {
        let Work { parts, members, .. } = work;
        let mut ended =
            Self { streams: Some(streams), about: About::of(&members, times.0), ..Self::handed_back(parts, gone) };
        match report {
            Ok(mut report) => {
                (ended.fuel, ended.took) = (report.fuel_used, Some(report.wall));
                ended.charges = std::mem::take(&mut report.charges);
                let writes = std::mem::take(&mut report.kv);
                ended.kv = (!writes.is_empty()).then(|| (members[0].job.tenant, plugin, writes));
                for job in &mut report.enqueues {
                    told::inherit(&mut job.spec, context.as_ref());
                }
                ended.finish = Some(finish(&members, report, settings, times));
            }
            Err(Panicked) => {
                tracing::error!(job = members[0].job.id.0, "the host panicked under a run");
                // What makes the host panic would do so for ever if it counted for nothing.
                ended.finish = Some(unmeasured(&members, &Outcome::Crashed, &settings, times));
            }
        }
        ended
    }

    /// The fuel that the handler used.
    pub(crate) fn fuel(&self) -> u64 {
        self.fuel
    }

    /// How long the guest had, if one was entered.
    pub(crate) fn took(&self) -> Option<Duration> {
        self.took
    }

    /// The fuel that others used around it, by tenant.
    pub(crate) fn charges(&self) -> Vec<(TenantId, u64)> {
        let of = |charge: &Charge| Some((self.parts.store.tenant_id(&charge.tenant)?, charge.fuel));
        self.charges.iter().filter_map(of).collect()
    }

    /// Adds the call to what has run on the node.
    pub(crate) fn tell(&self, tally: &mut Tally) {
        let (Some(About { of, waited, others_waited }), Some(finish)) = (&self.about, &self.finish) else { return };
        let end = |outcome: &Outcome, measured: &Measured, waited: Millis| End {
            outcome: outcome.name(),
            waited,
            fuel: measured.fuel,
            memory_peak_bytes: measured.memory_peak_bytes,
        };
        match finish {
            Command::Finish(one) => {
                tally.ended(*of, self.took, std::iter::once(end(&one.outcome, &one.measured, *waited)));
            }
            Command::FinishCall(call) => {
                let waited = std::iter::once(waited).chain(others_waited);
                let ends = call.runs.iter().zip(waited);
                tally.ended(*of, self.took, ends.map(|(run, waited)| end(&run.outcome, &run.measured, *waited)));
            }
            _ => {}
        }
    }

    /// Records the outcome; durable when this returns. A failed store stops the node, and its next start finds the runs.
    pub(crate) async fn record(mut self: Box<Self>) {
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

impl About {
    fn of(members: &[Member], started_at: Time) -> Option<Self> {
        let waited = |member: &Member| started_at.since(member.job.run_at.max(member.job.enqueued_at));
        let (first, others) = members.split_first()?;
        let of = index::lane(&first.job).into();
        // Without others it takes no memory.
        Some(Self { of, waited: waited(first), others_waited: others.iter().map(waited).collect() })
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
    let (mut rounds, until) = (0, Instant::now() + merging::MERGES_TIME_MAX);
    loop {
        // Copied only where the store may ask for it again: an output may be a mebibyte.
        let again = may_merge(&mut finish).then(|| finish.clone());
        match (parts.store.call(finish).await, again) {
            (Ok(Reply::NeedsMerge(merges)), Some(again)) => {
                finish = merged(parts, again, merges, (rounds < MERGES_MAX).then_some(until)).await;
                rounds += 1;
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

/// The jobs that a call enqueues with its outcome, and what was merged for them.
fn staged_of(finish: &mut Command) -> Option<(&mut [StagedJob], &mut Vec<Merged>)> {
    match finish {
        Command::Finish(finish) => Some((&mut finish.staged, &mut finish.merged)),
        Command::FinishCall(finish) => Some((&mut finish.staged, &mut finish.merged)),
        _ => None,
    }
}

fn may_merge(finish: &mut Command) -> bool {
    staged_of(finish).is_some_and(|(staged, _)| staged.iter().any(|staged| merging::may_merge(&staged.spec)))
}

/// Lets plugins merge the args of staged jobs with those of the jobs that hold their keys. Where that is not possible, or
/// was overtaken again and again, the staged job becomes one of its own, so that nothing is lost: each round leaves fewer
/// or is counted, so the rounds end.
async fn merged(parts: &Parts, mut finish: Command, needs: Vec<NeedsMerge>, until: Option<Instant>) -> Command {
    let tenant = tenant_of(&finish);
    let Some((staged, merged)) = staged_of(&mut finish) else { return finish };
    for NeedsMerge { position, holder, version, args } in needs {
        // What was merged for this holder before is about an older version of it.
        merged.retain(|merged| merged.position != position);
        let Some(staged) = staged.get_mut(position as usize) else { continue };
        let made = match parts.plugin(tenant, &staged.spec.kind) {
            _ if until.is_none() => Err("the job that it was to be merged with changed again and again".to_owned()),
            _ if until.is_some_and(|until| Instant::now() >= until) => {
                Err("the merges of one run took more than they may together".to_owned())
            }
            Some(plugin) if plugin.merges() => {
                let (kind, incoming) = (staged.spec.kind.clone(), staged.spec.args.clone());
                let made = parts.host.merge(Arc::clone(&plugin), kind.clone(), args, incoming).await;
                let with_key = |args: Vec<u8>| merging::key_in(&plugin, &kind, &args).map(|key| (args, key));
                made.and_then(with_key).map_err(|why| why.to_string())
            }
            _ => Err("no plugin of its kind exports merge".to_owned()),
        };
        match made {
            Ok((args, key)) => merged.push(Merged { position, holder, version, args, key }),
            Err(why) => {
                tracing::warn!(staged = staged.id.0, "a staged job is not merged but enqueued by itself: {why}");
                staged.spec.unique = None;
            }
        }
    }
    finish
}

fn tenant_of(finish: &Command) -> TenantId {
    let run = match finish {
        Command::Finish(finish) => Some(finish.run),
        Command::FinishCall(finish) => finish.runs.first().map(|ended| ended.run),
        _ => None,
    };
    run.map_or(TenantId::DEFAULT, |run| run.at.tenant)
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
        let bare = Finish::new(member.run(), report.outcome, with_next_retry(settings, report.next_retry));
        return Command::Finish(Box::new(Finish { measured, staged, checkpoint: report.checkpoint, log, ..bare }));
    }
    // The fuel is shared equally; what does not divide is the first one's.
    let n = members.len() as u64;
    let (share, rest) = (measured.fuel / n, measured.fuel % n);
    let first = (report.outcome, report.next_retry);
    let ends = std::iter::once(first).chain(report.others.into_iter().map(|end| (end.outcome, end.next_retry)));
    let runs = members.iter().zip(ends).enumerate().map(|(i, (member, (outcome, next_retry)))| command::Ended {
        run: member.run(),
        outcome,
        settings: with_next_retry(settings.clone(), next_retry),
        measured: Measured { fuel: share + if i == 0 { rest } else { 0 }, ..measured.clone() },
    });
    let (runs, failed) = (runs.collect(), report.call_failed);
    Command::FinishCall(Box::new(FinishCall { runs, failed, staged, merged: Vec::new(), kv: None, log }))
}

/// The policy's word for this failure goes before the manifest's; what the job states itself goes before both.
fn with_next_retry(settings: RunSettings, next_retry: Option<Millis>) -> RunSettings {
    let Some(delay) = next_retry else { return settings };
    let retry = RetryPolicy { backoff: Backoff::Constant { base: delay }, jitter_permille: 0, max: delay };
    RunSettings { retry, ..settings }
}

/// The host panicked: nothing is known but that.
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
