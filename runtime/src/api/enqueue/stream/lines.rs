//! Lines of a body as they arrive, in groups: bounded in bytes and in time.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::group::Group;
use crate::api::body::{self, Room, SMALL_BYTES_MAX, Taken};
use crate::api::error::Problem;

/// A line: args of a mebibyte, in base64, and what is around them.
const LINE_BYTES_MAX: usize = 3 * 512 * 1024;
/// Lines of a group, which is one transaction.
const GROUP_LINES_MAX: usize = 1_000;
/// Their bytes; a line that is larger is alone.
const GROUP_BYTES_MAX: usize = 1024 * 1024;
/// A stream from which nothing has come for so long has ended.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// From the first byte of a line to its end, as a body has: what has begun holds room.
const LINE_WITHIN: Duration = Duration::from_secs(30);
/// A group is not kept waiting for lines that do not come: whoever sends one line and waits for its answer has it.
const LINGER: Duration = Duration::from_millis(10);

/// See the module.
pub(super) struct Lines {
    body: Body,
    /// What has arrived, …
    buffer: Vec<u8>,
    /// … of which so much is in groups, …
    taken: usize,
    /// … and so much has no end of a line behind that.
    looked_at: usize,
    /// The line that goes on is too long, and what was there of it is gone.
    too_long: bool,
    has_ended: bool,
    last_byte: Instant,
    /// When the line came that has not ended.
    begun: Option<Instant>,
    silent_max: Duration,
    line_within: Duration,
    /// The number of the next line.
    number: u64,
    room: Room,
    held: Option<Taken>,
}

/// What follows a group.
pub(super) enum Next {
    /// Another one.
    Line,
    /// Nothing: the body is whole.
    End,
    /// Nothing: there is nobody any more.
    Vanished,
    /// Nothing, for this reason.
    Failed(Problem),
}

/// What was read.
enum Came {
    Bytes,
    End,
    Vanished,
    /// Nothing, in the time there was.
    Nothing,
}

impl Lines {
    pub(super) fn new(body: Body, room: Room) -> Self {
        Self {
            body,
            buffer: Vec::new(),
            taken: 0,
            looked_at: 0,
            too_long: false,
            has_ended: false,
            last_byte: Instant::now(),
            begun: None,
            silent_max: SILENT_MAX,
            line_within: LINE_WITHIN,
            number: 0,
            room,
            held: None,
        }
    }

    /// The next lines that go together, with the room that they take.
    pub(super) async fn group(&mut self) -> (Group, Next) {
        let mut group = Group::default();
        let next = self.fill(&mut group).await;
        group.holds(self.held.take());
        (group, next)
    }

    async fn fill(&mut self, group: &mut Group) -> Next {
        loop {
            while group.len() < GROUP_LINES_MAX {
                let Some(end) = self.end_of_line() else { break };
                let fits = group.len() == 0 || group.bytes() + (end - self.taken) <= GROUP_BYTES_MAX;
                if !fits {
                    return Next::Line;
                }
                self.cut(end, group);
            }
            if group.len() == GROUP_LINES_MAX || group.bytes() >= GROUP_BYTES_MAX {
                return Next::Line;
            }
            if self.has_ended {
                return Next::End;
            }
            let is_between = self.buffer.len() == self.taken && !self.too_long;
            self.begun = if is_between { None } else { self.begun.or_else(|| Some(Instant::now())) };
            let late_at = self.begun.map(|begun| begun + self.line_within);
            let silent_at = late_at.into_iter().fold(self.last_byte + self.silent_max, Instant::min);
            let until = if group.len() == 0 { silent_at } else { silent_at.min(Instant::now() + LINGER) };
            match self.read(until).await {
                Came::Bytes => {}
                Came::End => self.has_ended = true,
                Came::Vanished => return Next::Vanished,
                Came::Nothing if group.len() > 0 => return Next::Line,
                Came::Nothing => {
                    let detail = if late_at.is_some_and(|late_at| late_at <= Instant::now()) {
                        format!("the line took longer than {} s, so the stream has ended", LINE_WITHIN.as_secs())
                    } else {
                        format!("nothing came for {} s, so the stream has ended", SILENT_MAX.as_secs())
                    };
                    return Next::Failed(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail));
                }
            }
            if let Err(problem) = self.hold(group.bytes()).await {
                return Next::Failed(problem);
            }
        }
    }

    /// Where the next line ends; none: its end has not arrived. What is too long is dropped as it arrives.
    fn end_of_line(&mut self) -> Option<usize> {
        let found = self.buffer[self.looked_at..].iter().position(|byte| *byte == b'\n').map(|at| self.looked_at + at);
        if found.is_some() {
            return found;
        }
        self.looked_at = self.buffer.len();
        if self.looked_at - self.taken > LINE_BYTES_MAX {
            self.too_long = true;
            self.taken = self.looked_at;
        }
        // The last line need not have an end.
        (self.has_ended && (self.too_long || self.taken < self.buffer.len())).then_some(self.buffer.len())
    }

    /// Takes a line out of what has arrived.
    fn cut(&mut self, end: usize, group: &mut Group) {
        let line = &self.buffer[self.taken..end];
        self.taken = (end + 1).min(self.buffer.len());
        self.looked_at = self.taken;
        self.begun = None;
        let is_too_long = std::mem::take(&mut self.too_long) || line.len() > LINE_BYTES_MAX;
        if !is_too_long && line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let text = if is_too_long {
            let detail = format!("the line has more than {LINE_BYTES_MAX} bytes (1.5 MiB)");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail))
        } else {
            std::str::from_utf8(line).map(str::to_owned).map_err(|error| {
                let at = error.valid_up_to();
                Problem::new(StatusCode::BAD_REQUEST, "malformed", format!("the line is not UTF-8 at byte {at}"))
            })
        };
        group.push(self.number, text);
        self.number += 1;
    }

    async fn read(&mut self, until: Instant) -> Came {
        match tokio::time::timeout_at(until, self.body.frame()).await {
            Err(_) => Came::Nothing,
            Ok(None) => Came::End,
            Ok(Some(Err(_))) => Came::Vanished,
            Ok(Some(Ok(frame))) => {
                // What is no data is a trailer, which says nothing here.
                if let Ok(data) = frame.into_data() {
                    self.last_byte = Instant::now();
                    self.buffer.drain(..self.taken);
                    (self.looked_at, self.taken) = (self.looked_at - self.taken, 0);
                    self.buffer.extend_from_slice(&data);
                }
                Came::Bytes
            }
        }
    }

    /// Takes room for what is held, together with the group so far, where that is no longer small.
    async fn hold(&mut self, group_bytes: usize) -> Result<(), Problem> {
        let bytes = group_bytes + self.buffer.len();
        let have = self.held.as_ref().map_or(0, Taken::kib);
        let kib = bytes.div_ceil(1024);
        if bytes <= SMALL_BYTES_MAX || kib <= have {
            return Ok(());
        }
        let more = body::take(&self.room, kib - have).await?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use hyper::body::Frame;

    use super::*;

    /// Says this and then nothing, for ever.
    struct Silent(Option<&'static str>);

    impl hyper::body::Body for Silent {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.take() {
                Some(text) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))))),
                None => Poll::Pending,
            }
        }
    }

    /// Says a byte every second time that it is asked, and never ends a line.
    struct Drips(bool);

    impl hyper::body::Body for Drips {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0 = !self.0;
            if self.0 {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b" ")))));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_stream_that_says_nothing_for_long_has_ended() {
        let silent_max = Duration::from_millis(50);
        let body = Body::new(Silent(Some("{}\n{\"half")));
        let mut lines = Lines { silent_max, ..Lines::new(body, Room::default()) };
        let begun = Instant::now();
        let (first, next) = lines.group().await;
        assert!(first.len() == 1 && matches!(next, Next::Line), "what has come is not kept waiting");
        let (rest, next) = lines.group().await;
        let Next::Failed(problem) = next else { panic!("it goes on") };
        assert_eq!((problem.status, problem.code.as_str(), rest.len()), (408, "body_timeout", 0));
        assert!(begun.elapsed() >= silent_max);
    }

    /// The story: who sent a byte of a line now and then held its room for ever.
    #[tokio::test]
    async fn a_line_has_its_time_however_often_a_byte_of_it_comes() {
        let line_within = Duration::from_millis(50);
        let mut lines = Lines { line_within, ..Lines::new(Body::new(Drips(false)), Room::default()) };
        let (rest, next) = tokio::time::timeout(Duration::from_secs(30), lines.group()).await.expect("it ends");
        let Next::Failed(problem) = next else { panic!("it goes on") };
        assert_eq!((problem.status, problem.code.as_str(), rest.len()), (408, "body_timeout", 0));
        assert!(problem.detail.contains("the line took longer"), "{}", problem.detail);
    }
}
