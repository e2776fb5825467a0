//! The wall clock around a run, and who may end it from outside.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::wasm::cancel::{Asked, CancelSignal, Signals};

/// Who ended a run from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    /// Its time was over.
    TimedOut,
    /// Each of its jobs was cancelled.
    Cancelled,
    /// Its node drains, and the grace is over.
    Interrupted,
}

/// Polls the guest until it is back, its time is over or its end was asked for.
pub(super) async fn watched<F: Future>(
    call: F,
    deadline: Instant,
    cancel: &Signals,
    grace: Duration,
) -> Result<F::Output, Stopped> {
    let mut call = pin!(call);
    let mut time = pin!(sleep_until(deadline));
    let mut asked = pin!(asked_to_end(cancel, grace));
    poll_fn(|cx| {
        if let Poll::Ready(output) = call.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        // The clock itself first: a thread that is busy with guests looks at its timers late.
        if let Some(stopped) = due(cancel, grace, deadline) {
            return Poll::Ready(Err(stopped));
        }
        if let Poll::Ready(stopped) = asked.as_mut().poll(cx) {
            return Poll::Ready(Err(stopped));
        }
        time.as_mut().poll(cx).map(|()| Err(Stopped::TimedOut))
    })
    .await
}

/// Who has the right to end the run now, if anyone.
fn due(cancel: &Signals, grace: Duration, deadline: Instant) -> Option<Stopped> {
    let now = Instant::now();
    match latest(cancel, grace) {
        Some((until, stopped, _)) if now >= until => Some(stopped),
        _ if now >= deadline => Some(Stopped::TimedOut),
        _ => None,
    }
}

/// When a run that was asked to end will be ended, and as what: a drain and a second cancel wait for no longer grace.
fn end(asked: Asked, grace: Duration) -> Option<(Instant, Stopped)> {
    match (asked.cancelled.map(|at| at + grace), asked.ended_at) {
        (Some(until), ended_at) => Some((ended_at.map_or(until, |at| at.min(until)), Stopped::Cancelled)),
        (None, ended_at) => ended_at.map(|at| (at, Stopped::Interrupted)),
    }
}

/// When a call will be ended all of whose jobs were asked to end, as what, and the signal that says when: the one that
/// gives the most time.
fn latest(cancel: &Signals, grace: Duration) -> Option<(Instant, Stopped, &CancelSignal)> {
    let (until, stopped) = end(cancel.first().asked(), grace)?;
    let mut latest = (until, stopped, cancel.first());
    for signal in cancel.others() {
        let (until, stopped) = end(signal.asked(), grace)?;
        if until > latest.0 {
            (latest.0, latest.2) = (until, signal);
        }
        if stopped == Stopped::Interrupted {
            latest.1 = stopped;
        }
    }
    Some(latest)
}

/// Comes back when every job was asked to end and their grace is over.
async fn asked_to_end(cancel: &Signals, grace: Duration) -> Stopped {
    loop {
        // Asked once, a job stays asked: they can be waited for one by one.
        for signal in cancel.all() {
            // The signal is held by `cancel`, so there is always a sender.
            let _ = signal.subscribe().wait_for(|asked| end(*asked, grace).is_some()).await;
        }
        let Some((until, stopped, signal)) = latest(cancel, grace) else { continue };
        let mut changes = signal.subscribe();
        // What was said between the two looks is in the second one.
        let moved = latest(cancel, grace).is_none_or(|(again, ..)| again != until);
        if moved {
            continue;
        }
        tokio::select! {
            () = sleep_until(until) => return stopped,
            _ = changes.changed() => {}
        }
    }
}
