//! SIGINT and SIGTERM: the first asks a process to end well, the second to end now. SIGHUP: to look at its files again.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{Code, Failure};

/// Both signals, taken from now on.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn take() -> Result<Self, Failure> {
        let take = |kind| signal(kind).map_err(|error| Failure::new(Code::Failed, format!("no signals: {error}")));
        Ok(Self { interrupt: take(SignalKind::interrupt())?, terminate: take(SignalKind::terminate())? })
    }

    /// Ends with the next signal.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// SIGHUP, taken from now on, where it does not end the process.
pub(super) struct Hangups(Signal);

impl Hangups {
    pub(super) fn take() -> Result<Self, Failure> {
        let taken = signal(SignalKind::hangup());
        taken.map(Self).map_err(|error| Failure::new(Code::Failed, format!("no signals: {error}")))
    }

    /// Ends with the next one.
    pub(super) async fn next(&mut self) {
        // Signals of a process never come to an end.
        _ = self.0.recv().await;
    }
}
