//! The one way in which a run is told to end from outside: its job was cancelled, or its node drains.
//!
//! A guest sees either as `host.cancelled() == true`. What follows differs: a cancelled run is ended after its own
//! `cancel_grace` and its outcome is `cancelled`; a draining node's run is ended after the grace that the node gives,
//! and its outcome is `interrupted`. A cancel that comes while the node drains wins, as nobody wants the result.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Tells one run to end. Clones tell the same run.
#[derive(Debug, Clone)]
pub struct CancelSignal(watch::Sender<Asked>);

/// The signals of all jobs of one call.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    first: CancelSignal,
    others: Vec<CancelSignal>,
}

/// What was asked of a run so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Asked {
    /// To end, because its job was cancelled, at this instant.
    pub(crate) cancelled: Option<Instant>,
    /// At this instant, whatever its grace: the node drains, or it was cancelled twice.
    pub(crate) ended_at: Option<Instant>,
}

impl CancelSignal {
    /// A signal that asks for nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(Asked::default()))
    }

    /// Asks the run to end because its job was cancelled. It is ended after its `cancel_grace`; a second call ends it at
    /// once.
    pub fn cancel(&self) {
        let now = Instant::now();
        self.0.send_modify(|asked| match asked.cancelled {
            None => asked.cancelled = Some(now),
            Some(_) => asked.ended_at = Some(asked.ended_at.map_or(now, |before| before.min(now))),
        });
    }

    /// Asks the run to end because the node drains, and ends it after `grace` as interrupted, or as cancelled if that was
    /// asked for too. A later call can only make it sooner.
    pub fn drain(&self, grace: Duration) {
        let until = Instant::now() + grace;
        self.0.send_if_modified(|asked| {
            let sooner = asked.ended_at.is_none_or(|before| until < before);
            if sooner {
                asked.ended_at = Some(until);
            }
            sooner
        });
    }

    /// Whether the run was asked to end, for either reason.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        *self.0.borrow() != Asked::default()
    }

    pub(crate) fn asked(&self) -> Asked {
        *self.0.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Asked> {
        self.0.subscribe()
    }
}

impl Default for CancelSignal {
    fn default() -> Self {
        Self::new()
    }
}

impl Signals {
    pub(crate) fn new(first: CancelSignal, others: Vec<CancelSignal>) -> Self {
        Self { first, others }
    }

    /// Whether every job of the call was asked to end.
    pub(crate) fn is_asked(&self) -> bool {
        self.all().all(CancelSignal::is_asked)
    }

    pub(crate) fn first(&self) -> &CancelSignal {
        &self.first
    }

    pub(crate) fn others(&self) -> &[CancelSignal] {
        &self.others
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &CancelSignal> {
        std::iter::once(&self.first).chain(&self.others)
    }
}
