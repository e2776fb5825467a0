//! The body of an answer that a task tells bit by bit, without an end that is known: events, a log, the answers to a stream of lines.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What the task has told. The task ends with it.
pub(super) struct Told {
    pages: mpsc::Receiver<Bytes>,
    _task: JoinSet<()>,
}

impl Told {
    pub(super) fn new(pages: mpsc::Receiver<Bytes>, task: JoinSet<()>) -> Self {
        Self { pages, _task: task }
    }
}

impl hyper::body::Body for Told {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.pages.poll_recv(cx).map(|page| page.map(|page| Ok(Frame::data(page))))
    }
}
