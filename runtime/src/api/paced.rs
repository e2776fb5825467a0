//! A connection whose other end has a bounded time for everything: to say the head of a request, to begin another one, to
//! take what is sent to it. Whoever takes longer is given up, and its place and memory are another's.
//!
//! [`Paced`] is the stream that HTTP is spoken over. It knows no HTTP: [`Rounds`] tells it whether a request is being
//! answered, as then nothing is to come, and how long a body may take is the routes' to say. Who is silent for a moment is
//! *asleep*: what speaks HTTP, with its buffers, is given back, and made anew when there is something to read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a connection is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From the first byte of a request's head to its last, and from the connection to the end of its first head.
    pub head: Duration,
    /// From an answer to the first byte of the next request.
    pub idle: Duration,
    /// The part of it until it is asleep: far longer than a client needs that goes on.
    pub awake: Duration,
    /// For the other end to take anything of what is sent to it.
    pub taken: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let [head, idle, taken] = [10, 60, 60].map(Duration::from_secs);
        Self { head, idle, awake: Duration::from_millis(100), taken }
    }
}

/// What a connection has come to.
#[derive(Debug, Clone, Default)]
pub(super) struct Rounds(Arc<Shared>);

// A connection, its answers and whoever looks at them are one task: nothing has to be ordered.
#[derive(Debug, Default)]
struct Shared {
    /// An odd number while a request is answered, the next even one once it is.
    round: AtomicU32,
    /// Requests that have come. Not half of the rounds: one may come before the answer to the one before is dropped.
    begun: AtomicU32,
    /// The number among them of one that says the length of its body in two ways; 0, which is no request's: there was none.
    two_lengths: AtomicU32,
    /// The number of one behind which nothing is looked at; 0: there was none.
    last: AtomicU32,
    /// Whether what comes next is of a request's body.
    within_body: AtomicBool,
    asleep: AtomicBool,
}

impl Rounds {
    /// Whether nothing has come for a moment, and nothing is still to be sent.
    pub(super) fn is_asleep(&self) -> bool {
        self.0.asleep.load(Ordering::Relaxed)
    }

    /// How many requests were answered.
    pub(super) fn answered(&self) -> u32 {
        self.now() / 2
    }

    /// A request has come, whole but for its body.
    pub(super) fn begin(&self) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        self.next();
    }

    /// Requests that have come.
    pub(super) fn begun(&self) -> u32 {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// The request of this number says in two ways how long its body is.
    pub(super) fn has_two_lengths(&self, number: u32) {
        self.0.two_lengths.store(number, Ordering::Relaxed);
    }

    /// Whether the request that has come says in two ways how long its body is.
    pub(super) fn is_of_two_lengths(&self) -> bool {
        self.begun() == self.0.two_lengths.load(Ordering::Relaxed)
    }

    /// Nothing is looked at behind the request of this number.
    pub(super) fn has_last(&self, number: u32) {
        self.0.last.store(number, Ordering::Relaxed);
    }

    /// Whether nothing is looked at behind the request that has come, so that none is to come.
    pub(super) fn is_last(&self) -> bool {
        self.begun() == self.0.last.load(Ordering::Relaxed)
    }

    /// Says whether what comes next is of a request's body.
    pub(super) fn set_within_body(&self, is: bool) {
        self.0.within_body.store(is, Ordering::Relaxed);
    }

    /// The same answer, with whose end the next request may come.
    pub(super) fn until_answered(self, response: Response) -> hyper::Response<Answer> {
        response.map(|body| Answer { body, rounds: self })
    }

    fn next(&self) {
        self.0.round.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a request or its answer has ended.
    pub(super) fn now(&self) -> u32 {
        self.0.round.load(Ordering::Relaxed)
    }
}

/// The body of an answer; dropped when all of it was handed on.
pub(super) struct Answer {
    body: Body,
    rounds: Rounds,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.rounds.next();
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        // Trailers would be written, or left out, behind the end of the round; nothing here has any.
        Poll::Ready(frame.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A timer that costs nothing while what it is for goes on: it is set when it is first needed, and set again only when it
/// rings too early.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn is_due(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            sleep.as_mut().reset(deadline);
        }
        false
    }
}

/// See the module.
pub(super) struct Paced<S> {
    stream: S,
    pace: Pace,
    rounds: Rounds,
    /// The round that `read_by` is of.
    round: u32,
    /// Whether a byte of this round's head has come, or is awaited at once.
    begun: bool,
    /// What has been read, and not by whoever speaks HTTP.
    ahead: Bytes,
    read_by: Instant,
    /// None: nobody speaks HTTP.
    asleep_at: Option<Instant>,
    reading: Timer,
    /// None: what was sent was taken.
    taken_by: Option<Instant>,
    writing: Timer,
}

impl<S> Paced<S> {
    /// A stream that was just opened.
    pub(super) fn new(stream: S, pace: Pace, rounds: Rounds) -> Self {
        let (round, read_by) = (rounds.now(), Instant::now() + pace.head);
        let (reading, writing) = (Timer::default(), Timer::default());
        // Who connects has something to say: the time for its first head begins at once.
        Self {
            stream,
            pace,
            rounds,
            round,
            begun: true,
            ahead: Bytes::new(),
            read_by,
            asleep_at: None,
            reading,
            taken_by: None,
            writing,
        }
    }

    /// Comes back when there is something to read; false: its time is up, or the other end is gone.
    pub(super) async fn woken(&mut self) -> bool
    where
        S: AsyncRead + Unpin,
    {
        self.asleep_at = None;
        self.rounds.0.asleep.store(false, Ordering::Relaxed);
        if self.ahead.is_empty() {
            // The least that tells whether there is anything, as it has to be kept until somebody reads it.
            let mut first = [0; 1];
            match self.read(&mut first).await {
                Ok(1) => self.ahead = Bytes::copy_from_slice(&first),
                Ok(_) | Err(_) => return false,
            }
        }
        self.asleep_at = Some(Instant::now() + self.pace.awake);
        true
    }

    /// Takes back what whoever spoke HTTP has read too much: the beginning of a head.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            (self.ahead, self.begun, self.read_by) = (bytes, true, Instant::now() + self.pace.head);
        }
    }

    /// Nothing more is asked for: what still comes may take as long as a head.
    pub(super) fn end(&mut self) {
        (self.begun, self.read_by, self.asleep_at) = (true, Instant::now() + self.pace.head, None);
    }

    /// What came of an attempt to send, in its time.
    fn taken<T>(&mut self, sent: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.taken_by = None;
            return sent;
        }
        let deadline = *self.taken_by.get_or_insert_with(|| Instant::now() + self.pace.taken);
        if self.writing.is_due(deadline, cx) { Poll::Ready(Err(io::ErrorKind::TimedOut.into())) } else { Poll::Pending }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let some = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead.split_to(some));
            return Poll::Ready(Ok(()));
        }
        let (round, filled) = (this.rounds.now(), buf.filled().len());
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if round % 2 == 1 {
            return read;
        }
        if round != this.round {
            let now = Instant::now();
            (this.round, this.begun, this.read_by) = (round, false, now + this.pace.idle);
            this.asleep_at = this.asleep_at.map(|_| now + this.pace.awake);
        }
        match read {
            Poll::Ready(_) => {
                if !this.begun && buf.filled().len() > filled && !this.rounds.0.within_body.load(Ordering::Relaxed) {
                    (this.begun, this.read_by) = (true, Instant::now() + this.pace.head);
                }
                read
            }
            Poll::Pending => this.wait(cx),
        }
    }
}

impl<S> Paced<S> {
    /// Nothing has come: goes on waiting, goes to sleep, or gives it up.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // Whoever is still in a body is not made anew: what comes of it would be read as a head.
            let within_body = self.rounds.0.within_body.load(Ordering::Relaxed);
            let asleep_at = self.asleep_at.filter(|at| !self.begun && !within_body && *at < self.read_by);
            if !self.reading.is_due(asleep_at.unwrap_or(self.read_by), cx) {
                return Poll::Pending;
            }
            if self.taken_by.is_some() && !self.begun {
                // The answer is still on its way: who takes it is not silent.
                let now = Instant::now();
                self.read_by = now + self.pace.idle;
                self.asleep_at = self.asleep_at.map(|_| now + self.pace.awake);
                continue;
            }
            if asleep_at.is_none() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            // Whoever polls this looks at it next.
            self.rounds.0.asleep.store(true, Ordering::Relaxed);
            return Poll::Pending;
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.taken(sent, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let sent = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.taken(sent, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.taken(flushed, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.taken(shut, cx)
    }
}
