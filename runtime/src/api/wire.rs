//! What HTTP is spoken over: the stream, and what is to be known of it that the reader of HTTP tells nobody.
//!
//! That reader answers what it cannot read by itself: a status, without a word on why. Here that answer is kept back, so
//! that whoever serves the connection sends one that says it ([`refusal`](super::refusal)). It is known by its time, not by
//! its looks, so that nothing of ours is ever taken for it: no request is being answered, and all that was written before
//! has been sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::heads::Heads;
use super::paced::Rounds;

/// See the module.
pub(super) struct Wire<S> {
    stream: S,
    rounds: Rounds,
    /// The round in which all that had been written was last handed on.
    sent: u32,
    /// Whether something was kept back, which is always the last.
    kept_back: bool,
    heads: Heads,
    /// Requests before the first of `heads`.
    began: u32,
}

impl<S> Wire<S> {
    /// Over a stream on which no request is being answered.
    pub(super) fn new(stream: S, rounds: Rounds) -> Self {
        let (sent, began, heads) = (rounds.now(), rounds.begun(), Heads::new());
        rounds.set_within_body(false);
        Self { stream, rounds, sent, kept_back: false, heads, began }
    }

    /// What was read of the heads of requests.
    pub(super) fn heads(&self) -> &Heads {
        &self.heads
    }

    /// The stream again.
    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// Whether the last that was sent, if anything was, is a whole answer of ours.
    pub(super) fn is_quiet(&self) -> bool {
        let round = self.rounds.now();
        round.is_multiple_of(2) && round == self.sent
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Some(requests) = this.heads.read(&buf.filled()[before..]) {
            this.rounds.has_two_lengths(this.began.wrapping_add(requests));
        }
        if let Some(last) = this.heads.last() {
            this.rounds.has_last(this.began.wrapping_add(last));
        }
        this.rounds.set_within_body(this.heads.is_within_body());
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_quiet() {
            this.kept_back = true;
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_quiet() {
            this.kept_back = true;
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Asked for once nothing is left of what was to be written.
        this.sent = this.rounds.now();
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.kept_back {
            // Something is still to be said.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use bytes::Bytes;
    use hyper::body::Frame;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::{mpsc, watch};

    use super::super::paced::Pace;
    use super::super::serve::serve;
    use super::*;

    const NEVER: Duration = Duration::from_secs(600);
    const PATIENT: Pace = Pace { head: NEVER, idle: NEVER, awake: NEVER, taken: NEVER };
    const ASK: &str = "GET /here HTTP/1.1\r\nHost: localhost\r\n\r\n";
    /// What the reader of HTTP answers by itself.
    const BARE: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";

    /// A body of frames that are only there once the ones before have been sent.
    struct Slowly(mpsc::Receiver<&'static str>, u64);

    impl hyper::body::Body for Slowly {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let frame = std::task::ready!(self.0.poll_recv(cx));
            self.1 -= frame.map_or(0, |frame| frame.len() as u64);
            Poll::Ready(frame.map(|frame| Ok(Frame::data(Bytes::from_static(frame.as_bytes())))))
        }

        fn is_end_stream(&self) -> bool {
            self.1 == 0
        }

        fn size_hint(&self) -> hyper::body::SizeHint {
            hyper::body::SizeHint::with_exact(self.1)
        }
    }

    fn slowly() -> Body {
        let (frames, told) = mpsc::channel(1);
        tokio::spawn(async move {
            for frame in ["as it is", BARE, BARE] {
                frames.send(frame).await.ok();
                // Whatever was there is sent before anything else is.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
            }
        });
        Body::new(Slowly(told, ("as it is".len() + 2 * BARE.len()) as u64))
    }

    /// All that comes back, over a pipe of this size, when this is sent and nothing more.
    async fn answers(size: usize, pace: Pace, ask: impl Into<Vec<u8>>) -> String {
        let router = Router::new()
            .route("/here", get(|| async { "here" }))
            .route("/bare", get(|| async { BARE }))
            .route("/slowly", get(|| async { slowly() }));
        let (ours, theirs) = tokio::io::duplex(size);
        let (_stop, stopped) = watch::channel(false);
        let served = tokio::spawn(async move { serve(theirs, pace, router, stopped).await });
        let (mut read, mut write) = tokio::io::split(ours);
        let ask = ask.into();
        let asks = tokio::spawn(async move {
            // Whoever is refused may find nobody who reads on.
            _ = write.write_all(&ask).await;
            write
        });
        let mut text = Vec::new();
        read.read_to_end(&mut text).await.expect("it ends");
        drop((read, asks.await));
        served.await.expect("no panic");
        String::from_utf8(text).expect("text")
    }

    /// Whether the last answer is a refusal that says this, behind so many others.
    #[track_caller]
    fn check(text: &str, before: usize, status: &str, words: &str) {
        let (others, refused) = text.rsplit_once("HTTP/1.1 ").expect("an answer");
        assert_eq!(others.matches("HTTP/1.1 200 OK").count(), before, "{text}");
        assert!(refused.starts_with(status), "{text}");
        let (head, body) = refused.split_once("\r\n\r\n").expect("a head");
        for header in ["content-type: application/problem+json", "connection: close", "x-content-type-options: nosniff"]
        {
            assert!(head.contains(header), "{text}");
        }
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{text}");
        assert!(head.split("date: ").nth(1).is_some_and(|date| date.trim_end().ends_with("GMT")), "{text}");
        assert!(body.contains(words), "{text}");
    }

    /// The reader of HTTP answered what it cannot read with a status and no word, so nobody was told what was wrong.
    #[tokio::test]
    async fn what_is_no_request_is_told_why() {
        for size in [1, 100, 65_536] {
            for before in [0, 1, 5] {
                let ask = |bad: &str| format!("{}{bad}\r\n\r\n", ASK.repeat(before));
                let said = answers(size, PATIENT, ask("GET / HTTP/1.1\r\nContent-Length: -1")).await;
                check(&said, before, "400 Bad Request", r#""field":"Content-Length""#);
                let said = answers(size, PATIENT, ask("G@T / HTTP/1.1")).await;
                check(&said, before, "400 Bad Request", r#""field":"method""#);
                let said = answers(size, PATIENT, ask("GET / HTTP/1.1\r\nHost")).await;
                check(&said, before, "400 Bad Request", "line 2 of the request");
            }
        }
        let said = answers(100, PATIENT, format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(100_000))).await;
        check(&said, 0, "431 Request Header Fields Too Large", "16 KiB");
        let said = answers(100, PATIENT, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        check(&said, 0, "400 Bad Request", r#""field":"version""#);
    }

    #[tokio::test]
    async fn what_we_answer_is_never_taken_for_a_refusal() {
        let close = "Host: localhost\r\nConnection: close\r\n\r\n";
        for size in [1, 100, BARE.len(), 65_536] {
            for path in ["/bare", "/slowly"] {
                for version in ["1.0", "1.1"] {
                    let said = answers(size, PATIENT, format!("GET {path} HTTP/{version}\r\n{close}")).await;
                    let times = if path == "/bare" { 1 } else { 2 };
                    assert!(said.starts_with(&format!("HTTP/{version} 200 OK")), "{said}");
                    assert_eq!(said.matches(BARE).count(), times, "{size} {path} {version}: {said}");
                }
                let again = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(2);
                let said = answers(size, PATIENT, format!("{again}x y\r\n\r\n")).await;
                check(&said, 2, "400 Bad Request", r#""code":"malformed""#);
            }
        }
    }

    /// A connection fell asleep with half of a body still to come, and what came of it was read as a request.
    #[tokio::test]
    async fn what_comes_of_a_body_is_never_read_as_a_request() {
        // Answers before it has read all, and reads on.
        let early = |body: Body| async move {
            tokio::spawn(axum::body::to_bytes(body, usize::MAX));
            "early"
        };
        let router = Router::new().route("/early", axum::routing::post(early)).route("/here", get(|| async { "here" }));
        let (mut ours, theirs) = tokio::io::duplex(1_024);
        let (_stop, stopped) = watch::channel(false);
        let pace = Pace { awake: Duration::from_millis(5), idle: Duration::from_millis(200), ..PATIENT };
        let served = tokio::spawn(async move { serve(theirs, pace, router, stopped).await });
        let head = format!("POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", 1 + ASK.len());
        ours.write_all(format!("{head}a").as_bytes()).await.unwrap();
        // Far longer than it takes to fall asleep.
        tokio::time::sleep(Duration::from_millis(50)).await;
        _ = ours.write_all(ASK.as_bytes()).await;
        let mut text = String::new();
        ours.read_to_string(&mut text).await.expect("it ends");
        served.await.expect("no panic");
        assert!(text.ends_with("early") && !text.contains("here"), "{text}");
    }

    /// Who is too slow was cut off, and not told so.
    #[tokio::test]
    async fn who_does_not_end_a_head_is_told_so() {
        let [head, awake] = [50, 5].map(Duration::from_millis);
        let pace = Pace { head, awake, ..PATIENT };
        for before in [0, 2] {
            let said = answers(100, pace, format!("{}GET / HT", ASK.repeat(before))).await;
            check(&said, before, "408 Request Timeout", r#""code":"head_timeout""#);
        }
        assert_eq!(answers(100, pace, "").await, "", "who has said nothing is told nothing");
    }
}
