//! Runs that a node gave to a worker that has not been told of them yet: whoever asked may go away at any moment until then.
//! What nobody was told of goes back at once, and has cost the job nothing but a number. Otherwise it would stay with nobody
//! until its lease is over, and count as a crash.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use runner_store::Handle;
use runner_store::command::{Command, RunRef};
use runner_store::job::Job;
use tokio::sync::oneshot;

use crate::scheduler::starter::{AskLease, Given, NotLeased, Starter};

/// See the module.
pub(super) struct Untold {
    runs: Vec<RunRef>,
    store: Handle,
}

impl Untold {
    fn of(jobs: &[Arc<Job>], store: &Handle) -> Self {
        let runs = jobs.iter().map(|job| RunRef { at: job.at(), run: job.run }).collect();
        Self { runs, store: store.clone() }
    }

    /// Gives back all but the first ones.
    pub(super) fn keep(&mut self, runs: usize) {
        drop(Self { runs: self.runs.split_off(runs), store: self.store.clone() });
    }

    /// The same answer; once it is handed on, its worker has been told.
    pub(super) fn until_told(self, answer: Body) -> Body {
        Body::new(Telling { answer, untold: Some(self) })
    }
}

impl Drop for Untold {
    fn drop(&mut self) {
        let (runs, store) = (std::mem::take(&mut self.runs), self.store.clone());
        // Where nothing runs any more, the process ends.
        if let (false, Ok(threads)) = (runs.is_empty(), tokio::runtime::Handle::try_current()) {
            threads.spawn(async move {
                for run in runs {
                    // Rejected: it was deleted; it is nobody's any more.
                    _ = store.call(Command::HandBack(run)).await;
                }
            });
        }
    }
}

/// The way by which a node gives, with what may still lie on it.
struct Way {
    given: oneshot::Receiver<Given>,
    store: Handle,
}

impl Drop for Way {
    fn drop(&mut self) {
        // From here on the node finds nobody, and keeps what it has.
        self.given.close();
        if let Ok(Ok(jobs)) = self.given.try_recv() {
            drop(Untold::of(&jobs, &self.store));
        }
    }
}

/// Takes what a node gives, or waits for it.
pub(super) async fn take(
    store: &Handle,
    starter: &Starter,
    ask: impl FnOnce(oneshot::Sender<Given>) -> AskLease,
) -> Result<(Vec<Arc<Job>>, Untold), NotLeased> {
    let mut way = Way { given: starter.lease(ask)?, store: store.clone() };
    // A scheduler that is gone has stopped, and with it whatever it had not given.
    let jobs = (&mut way.given).await.unwrap_or(Err(NotLeased::Draining))?;
    let untold = Untold::of(&jobs, store);
    Ok((jobs, untold))
}

struct Telling {
    answer: Body,
    untold: Option<Untold>,
}

impl hyper::body::Body for Telling {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.answer).poll_frame(cx));
        if let Some(mut untold) = self.untold.take() {
            untold.runs.clear();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}
