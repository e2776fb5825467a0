//! What others want of a scheduler beside what it decides itself: that it starts exactly one job, now, that it says why
//! one does not start, that it rests and goes on.

use std::sync::Arc;

use runner_store::command::RunRef;
use runner_store::error::CallError;
use runner_store::job::{BootId, Job, JobRef, KindId, Millis, Rejection, TenantId, Time};
use tokio::sync::{mpsc, oneshot};

use super::live::Live;
use super::rest::{Figures, Rest, Resting, Stops};
use super::tally::Tally;
use crate::leases::LeaseTokens;

/// Wishes that wait for the scheduler; whoever comes when there are more is refused. As many as external workers may wait, as
/// they may all renew at once.
const WISHES_MAX: usize = 1_024;

/// Asks a node's scheduler. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Starter {
    wanted: mpsc::Sender<Wanted>,
    live: Arc<Live>,
    boot: BootId,
    lease_tokens: Arc<LeaseTokens>,
}

/// One thing that someone wants.
#[derive(Debug)]
pub(crate) enum Wanted {
    Start(StartOne),
    Why(Why),
    Rest(Resting),
    Tally(oneshot::Sender<Tally>),
    Lease(AskLease),
    Renew(RunRef, oneshot::Sender<Option<Millis>>),
}

/// An external worker asks for runs.
#[derive(Debug)]
pub(crate) struct AskLease {
    pub(crate) tenant: TenantId,
    pub(crate) kinds: Vec<KindId>,
    pub(crate) max: u32,
    /// How long it waits where there is nothing yet.
    pub(crate) wait: Millis,
    pub(crate) lasts: Millis,
    pub(crate) worker: String,
    pub(crate) answer: oneshot::Sender<Given>,
}

/// What a node answers to an external worker.
pub(crate) type Given = Result<Vec<Arc<Job>>, NotLeased>;

/// Why an external worker is given nothing and does not wait, or its lease is not renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotLeased {
    /// As many wait as may.
    #[error("as many workers wait for runs as may; nothing happened: ask again in a second")]
    Busy,
    /// The node starts nothing more.
    #[error("the node drains and gives out no runs; ask again when it goes on (`runner node resume`) or is back")]
    Draining,
}

/// One question.
#[derive(Debug)]
pub(crate) struct Why {
    pub(crate) job: JobRef,
    pub(crate) answer: oneshot::Sender<Vec<Reason>>,
}

/// Why a job that is available does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Stable; for programs.
    pub code: &'static str,
    /// One sentence, and how to change it; for people.
    pub detail: String,
    /// When it passes by itself, where that is known.
    pub passes_at: Option<Time>,
}

/// One wish.
#[derive(Debug)]
pub(crate) struct StartOne {
    pub(crate) job: JobRef,
    pub(crate) answer: oneshot::Sender<Result<Arc<Job>, NotStarted>>,
}

/// Why a job was not started. Nothing happened, unless the store says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotStarted {
    /// The rules say no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The store did not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The process died under this job before, and such jobs start one at a time.
    #[error(
        "the process died under this job before, and another such job is about to run: start it when that has ended"
    )]
    Suspect,
    /// It could not start for long, or ever.
    #[error("it cannot start now: {0}")]
    Held(String),
    /// As many started jobs wait for a slot as may.
    #[error("as many jobs as may have been started by hand and wait for a slot; try again when one has ended")]
    Busy,
    /// External workers take the jobs of its kind.
    #[error(
        "external workers take the jobs of its kind, and it starts when one asks for it: let a worker that does this kind run; \
         `reschedule` makes one available now that waits for a time, and `edit` with the priority `highest` puts it first"
    )]
    External,
    /// The node starts nothing more.
    #[error("the node drains and starts nothing more; ask again when it goes on (`runner node resume`) or is back")]
    Draining,
}

/// The two ends of the way to a scheduler.
pub(crate) fn channel(
    live: Arc<Live>,
    boot: BootId,
    lease_tokens: Arc<LeaseTokens>,
) -> (Starter, mpsc::Receiver<Wanted>) {
    let (wanted, wishes) = mpsc::channel(WISHES_MAX);
    (Starter { wanted, live, boot, lease_tokens }, wishes)
}

impl Starter {
    /// Starts a job on this node: claimed when this returns, and first in line for a slot.
    ///
    /// # Errors
    /// Why it was not started.
    pub async fn start(&self, job: JobRef) -> Result<Arc<Job>, NotStarted> {
        let (answer, answered) = oneshot::channel();
        self.wanted.try_send(Wanted::Start(StartOne { job, answer })).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotStarted::Busy,
            mpsc::error::TrySendError::Closed(_) => NotStarted::Draining,
        })?;
        // A scheduler that is gone has stopped, and with it whatever it had not begun.
        answered.await.unwrap_or(Err(NotStarted::Draining))
    }

    /// Asks for runs as an external worker: they come when there are some, or none until its wait is over. What lies on that way
    /// when the worker goes is the caller's to give back.
    pub(crate) fn lease(
        &self,
        ask: impl FnOnce(oneshot::Sender<Given>) -> AskLease,
    ) -> Result<oneshot::Receiver<Given>, NotLeased> {
        let (answer, answered) = oneshot::channel();
        self.wanted.try_send(Wanted::Lease(ask(answer))).map_err(not_leased)?;
        Ok(answered)
    }

    /// Begins the lease of a run anew, and says how long it lasts from now; none: no worker holds it, or not any more.
    pub(crate) async fn renew(&self, run: RunRef) -> Result<Option<Millis>, NotLeased> {
        let (answer, answered) = oneshot::channel();
        self.wanted.try_send(Wanted::Renew(run, answer)).map_err(not_leased)?;
        answered.await.map_err(|_| NotLeased::Draining)
    }

    /// The tokens by which external workers speak for their runs.
    #[must_use]
    pub fn lease_tokens(&self) -> &LeaseTokens {
        &self.lease_tokens
    }

    /// What runs now.
    #[must_use]
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// The node's own id, until its process ends.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// Lets the node rest, or go on, and answers how it is then; none: it has stopped, or is asked too much at once.
    pub(crate) async fn rest(&self, wanted: Rest) -> Option<Result<Figures, Stops>> {
        let (answer, answered) = oneshot::channel();
        self.wanted.try_send(Wanted::Rest(Resting { wanted, answer })).ok()?;
        answered.await.ok()
    }

    /// What has run on the node since it started; none: it has stopped, or is asked too much at once.
    pub(crate) async fn tally(&self) -> Option<Tally> {
        let (answer, answered) = oneshot::channel();
        self.wanted.try_send(Wanted::Tally(answer)).ok()?;
        answered.await.ok()
    }

    /// How the node is, and nothing else; none as above.
    pub(crate) async fn figures(&self) -> Option<Figures> {
        self.rest(Rest::No).await?.ok()
    }

    /// Why an available job does not start, the most telling reason first; nothing: it is about to. Nothing, too, where the
    /// scheduler has stopped or is asked too much.
    pub async fn why(&self, job: JobRef) -> Vec<Reason> {
        let (answer, answered) = oneshot::channel();
        if self.wanted.try_send(Wanted::Why(Why { job, answer })).is_err() {
            return Vec::new();
        }
        answered.await.unwrap_or_default()
    }
}

fn not_leased<T>(error: mpsc::error::TrySendError<T>) -> NotLeased {
    match error {
        mpsc::error::TrySendError::Full(_) => NotLeased::Busy,
        mpsc::error::TrySendError::Closed(_) => NotLeased::Draining,
    }
}
