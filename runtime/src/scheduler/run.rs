//! One call from its claim to its record: read the args, enter the handler, record how its runs ended. Most calls have one
//! run; those of batches have several.

mod record;
mod request;
mod told;

use std::sync::Arc;
use std::time::Duration;

use runner_store::command::RunRef;
use runner_store::error::StoreError;
use runner_store::job::{Job, Time};
use tracing::Instrument as _;

pub(super) use self::record::Ended;
pub(crate) use self::record::settings;
use self::request::Payloads;
use super::Parts;
use super::backing::NodeBacking;
use super::ids::{Ids, RunIds};
use crate::traces::Context;
use crate::wasm::{CancelSignal, RunReport, RunRequest, Streams};

/// How long a run that the node cannot enter keeps its slot: handed back it is claimed again at once, and a disk that
/// fails would be asked for it as fast as it commits.
const HAND_BACK_PAUSE: Duration = Duration::from_secs(1);

/// What every run of a node needs.
pub(super) struct Runs {
    parts: Arc<Parts>,
    ids: Arc<Ids>,
}

/// A call that is about to be entered.
pub(super) struct Work {
    parts: Arc<Parts>,
    ids: Arc<Ids>,
    /// At least one.
    members: Vec<Member>,
    slot: usize,
}

/// One run of a call.
pub(super) struct Member {
    pub(super) job: Arc<Job>,
    /// Ends it.
    pub(super) signal: CancelSignal,
}

impl Member {
    fn run(&self) -> RunRef {
        RunRef { at: self.job.at(), run: self.job.run }
    }
}

impl Runs {
    pub(super) fn new(parts: Arc<Parts>, ids: Arc<Ids>) -> Self {
        Self { parts, ids }
    }

    /// `members` has at least one.
    pub(super) fn work(&self, members: Vec<Member>, slot: usize) -> Work {
        Work { parts: Arc::clone(&self.parts), ids: Arc::clone(&self.ids), members, slot }
    }
}

impl Work {
    /// Enters the handler and waits until it is left. On the guests' threads.
    pub(super) async fn enter(mut self) -> Ended {
        let (tenant, kind) = (self.members[0].job.tenant, self.parts.store.kind_name(self.members[0].job.kind));
        // Deleted since it was claimed: there is nothing to run, and nobody to tell.
        let mut gone = Vec::new();
        let payloads = match self.all_payloads(&mut gone) {
            Ok(payloads) if payloads.is_empty() => return Ended::handed_back(self.parts, gone),
            Ok(payloads) => payloads,
            Err(error) => return self.not_entered("its args cannot be read", &error).await,
        };
        let Some(plugin) = self.parts.plugin(tenant, &kind) else {
            // It went since the run was claimed: not the job's fault.
            return self.all_handed_back();
        };
        let Ok(around) = self.parts.around(tenant, &kind) else {
            // A layer went: the jobs wait for it.
            return self.all_handed_back();
        };
        let ids = if plugin.grants().asked().enqueue.is_empty() {
            None
        } else {
            Some(self.ids.for_run(plugin.limits(&kind).enqueues).await)
        };
        let settings = settings(&plugin.retry(&kind));
        let streams = Streams::default();
        let request = self.request(&plugin, &kind, payloads, ids, &streams, &settings);
        let request = RunRequest { middleware: around, ..request };
        let started_at = self.parts.clock.now();
        if let Err(error) = self.tell_slots() {
            return self.not_entered("a crash of it could not be told", &error).await;
        }
        self.parts.live.enter(self.slot, self.members.iter().map(Member::run), &streams);
        let log_span = told::log_span(&self, &kind);
        // Should the host itself panic, the slot is still given back, and it is recorded.
        let report = self.parts.host.run(&plugin, request).instrument(log_span.clone()).await;
        let times = (started_at, self.parts.clock.now());
        self.leave_slots();
        let context = self.tell(&log_span, &kind, report.as_ref().ok(), started_at);
        Ended::new(self, (plugin, streams), report, (settings, context), times, gone)
    }

    /// Tells the log and the trace how the call went; answers the context of what it enqueues, if it has one.
    fn tell(&self, log_span: &tracing::Span, kind: &str, report: Option<&RunReport>, began: Time) -> Option<Context> {
        let parent = told::context_of(&self.members[0].job);
        let Some(report) = report else { return parent };
        log_span.record("outcome", report.outcome.name().as_str());
        log_span.in_scope(|| {
            for line in report.log.lines() {
                tracing::debug!("{}", line.shown());
            }
            told::say(self, kind, report);
        });
        let Some(traces) = &self.parts.traces else { return parent };
        let own = Context::under(parent.as_ref());
        traces.add(told::span(self, kind, report, own, began));
        Some(own)
    }

    /// What is read for the runs, in their order; those whose jobs are gone leave the call.
    fn all_payloads(&mut self, gone: &mut Vec<RunRef>) -> Result<Vec<Payloads>, StoreError> {
        let view = self.parts.store.snapshot()?;
        let read = self.members.iter().map(|member| request::payloads(view.as_ref(), &member.job));
        let read = read.collect::<Result<Vec<Option<Payloads>>, StoreError>>()?;
        let mut there = read.iter().map(Option::is_some);
        self.members.retain(|member| {
            let there = there.next().unwrap_or(false);
            if !there {
                gone.push(member.run());
            }
            there
        });
        Ok(read.into_iter().flatten().collect())
    }

    /// Keeps the slot for a moment, then gives the runs back.
    async fn not_entered(self, why: &'static str, error: &StoreError) -> Ended {
        tracing::error!(job = self.members[0].job.id.0, %error, "a run was not entered: {why}");
        tokio::time::sleep(HAND_BACK_PAUSE).await;
        self.all_handed_back()
    }

    fn all_handed_back(self) -> Ended {
        let runs = self.members.iter().map(Member::run).collect();
        Ended::handed_back(self.parts, runs)
    }

    /// Says beside the store that the runs have started.
    fn tell_slots(&self) -> Result<(), StoreError> {
        let Some(file) = &self.parts.slots_file else { return Ok(()) };
        file.enter(self.slot, self.members[0].run())?;
        if self.members.len() == 1 {
            return Ok(());
        }
        file.enter_beside(self.slot, self.members[1..].iter().map(Member::run))
    }

    fn leave_slots(&self) {
        let Some(file) = &self.parts.slots_file else { return };
        let beside = if self.members.len() == 1 { Ok(()) } else { file.leave_beside(self.slot) };
        if let Err(error) = file.leave(self.slot).and(beside) {
            tracing::error!(%error, "a run that has ended will count as crashed if this process dies");
        }
    }
}
