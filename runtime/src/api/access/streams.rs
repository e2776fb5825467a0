//! Ends what has no end of its own when the token behind it is revoked, expires, or its session ends: an answer that is told
//! bit by bit, and one that is waited for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as _, Frame, SizeHint};
use runner_store::job::Time;
use tokio::sync::watch;

use super::sessions::Session;
use super::tokens::Held;

/// The longest that is slept at once: sleeping for years overflows timers, and who sleeps less looks again.
const SLEEP_MAX: Duration = Duration::from_secs(24 * 3_600);

/// What a request leans on.
#[derive(Clone)]
pub(super) struct Lease {
    token: watch::Receiver<bool>,
    session: Option<watch::Receiver<bool>>,
    until: Option<Time>,
}

impl Lease {
    pub(super) fn of(held: &Held, session: Option<&Session>) -> Self {
        let until = [held.token().expires_at, session.map(|session| session.until)].into_iter().flatten().min();
        Self { token: held.gone(), session: session.map(Session::gone), until }
    }

    /// Comes back when it is over.
    pub(super) async fn over(mut self, now: Time) {
        let session = async {
            match &mut self.session {
                Some(session) => gone(session).await,
                None => std::future::pending().await,
            }
        };
        let time = async {
            match self.until {
                Some(until) => sleep(Duration::from_millis(until.since(now).0)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = gone(&mut self.token) => {}
            () = session => {}
            () = time => {}
        }
    }
}

async fn gone(told: &mut watch::Receiver<bool>) {
    // Whoever cannot tell it any more is gone as well.
    _ = told.wait_for(|gone| *gone).await;
}

async fn sleep(mut left: Duration) {
    while left > Duration::ZERO {
        let now = left.min(SLEEP_MAX);
        tokio::time::sleep(now).await;
        left -= now;
    }
}

/// The same answer, which ends when the lease is over. One whose length is known is sent at once, and stays as it is.
pub(super) fn until_over(response: Response, lease: Lease, now: Time) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| Body::new(Bounded { body, over: Box::pin(lease.over(now)) }))
}

struct Bounded {
    body: Body,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl hyper::body::Body for Bounded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Polling what has come to its end is a bug of whoever does it, and a body may be asked again.
    #[tokio::test]
    async fn a_body_that_was_ended_stays_so() {
        let over: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(std::future::ready(()));
        let mut body = Bounded { body: Body::from("x"), over };
        use http_body_util::BodyExt as _;
        assert!(body.frame().await.is_none());
    }
}
