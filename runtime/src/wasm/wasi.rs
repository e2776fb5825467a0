//! WASI as a guest finds it: clocks, random bytes and standard streams; no file, no socket, no environment.
//!
//! Clocks are coarsened to [`CLOCK_STEP`], against timing side channels between tenants of one process. stdout and
//! stderr end in the run's log ([`Streams`]), which never blocks, fails or closes. One context serves WASI 0.1 and 0.2.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder, async_trait};

use super::engine::{HOST_YIELD_INTERVAL, RANDOM_BYTES_MAX};
use super::log::{LINE_BYTES_MAX, LogSource, RunLog};

/// The smallest difference that a guest can see.
pub(super) const CLOCK_STEP: Duration = Duration::from_micros(100);
/// What one write may carry; more goes in several, between which the guest yields. As many newlines take a
/// millisecond.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Where a run's output goes; shared by its streams, `host.log` and the run itself.
#[derive(Debug, Clone)]
pub(super) struct Streams(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    log: RunLog,
    stdout: Line,
    stderr: Line,
    /// Set for WASI commands: the last line of stdout that began with `{` is kept whole up to so many bytes.
    answer_bytes_max: Option<usize>,
    answer: LastLine,
}

/// The beginning of a line that is not complete yet.
#[derive(Debug, Default)]
struct Line {
    kept: Vec<u8>,
    lost: u64,
}

/// The last line of a command's stdout.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum LastLine {
    /// Nothing that could be an answer.
    #[default]
    None,
    /// It begins with `{`.
    Candidate(Vec<u8>),
    /// It begins with `{` and is longer than any answer may be.
    TooLong,
}

/// One of the two streams.
struct Stream {
    streams: Streams,
    source: LogSource,
    yielded: Instant,
}

/// The context of one run.
pub(super) fn context(streams: &Streams, stdin: Option<Vec<u8>>) -> WasiP1Ctx {
    let mut builder = WasiCtxBuilder::new();
    if let Some(bytes) = stdin {
        builder.stdin(MemoryInputPipe::new(bytes));
    }
    builder
        .stdout(Stream::new(streams, LogSource::Stdout))
        .stderr(Stream::new(streams, LogSource::Stderr))
        .max_random_size(RANDOM_BYTES_MAX)
        .monotonic_clock(CoarseMonotonic(Instant::now()))
        .wall_clock(CoarseWall)
        // Addresses are denied by default; here the sockets themselves are.
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        // A guest that waits must not hold its thread.
        .allow_blocking_current_thread(false)
        .build_p1()
}

impl Streams {
    /// Fresh streams; with a bound for those whose stdout carries the answer.
    pub(super) fn new(answer_bytes_max: Option<usize>) -> Self {
        let (stdout, stderr) = (Line::default(), Line::default());
        let (log, answer) = (RunLog::default(), LastLine::None);
        Self(Arc::new(Mutex::new(Shared { log, stdout, stderr, answer_bytes_max, answer })))
    }

    /// One message from `host.log`: cut as a line is, then shown as the lines it has.
    pub(super) fn line(&self, source: LogSource, text: &str) {
        let text = text.trim_end_matches('\n');
        let (kept, lost) = text.split_at(text.floor_char_boundary(LINE_BYTES_MAX));
        let mut shared = self.lock();
        let mut lines = kept.split('\n').peekable();
        while let Some(line) = lines.next() {
            let lost = if lines.peek().is_none() { lost.len() as u64 } else { 0 };
            shared.log.push_cut(source, line.as_bytes(), lost);
        }
    }

    /// Ends open lines and takes the log and the last line of stdout out.
    pub(super) fn finish(&self) -> (RunLog, LastLine) {
        let mut shared = self.lock();
        let shared = &mut *shared;
        let answer = match shared.answer_bytes_max {
            Some(max) => last_line(shared, max),
            None => LastLine::None,
        };
        shared.stdout.end(LogSource::Stdout, &mut shared.log);
        shared.stderr.end(LogSource::Stderr, &mut shared.log);
        (std::mem::take(&mut shared.log), answer)
    }

    fn write(&self, source: LogSource, bytes: &[u8]) {
        let mut shared = self.lock();
        let shared = &mut *shared;
        match (source, shared.answer_bytes_max) {
            (LogSource::Stdout, Some(max)) => write_answer(shared, bytes, max),
            (LogSource::Stdout, None) => shared.stdout.write(source, bytes, LINE_BYTES_MAX, &mut shared.log),
            _ => shared.stderr.write(source, bytes, LINE_BYTES_MAX, &mut shared.log),
        }
    }

    /// A guest cannot make the host panic here, so a poisoned lock still holds whole lines.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the latest complete line aside, as it may be the answer; what it replaces goes to the log.
fn write_answer(shared: &mut Shared, bytes: &[u8], max: usize) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| *b == b'\n') {
        shared.stdout.add(&rest[..at], max);
        set_aside(shared);
        rest = &rest[at + 1..];
    }
    if !rest.is_empty() {
        shared.stdout.add(rest, max);
    }
}

fn set_aside(shared: &mut Shared) {
    let line = std::mem::take(&mut shared.stdout);
    if line.kept.trim_ascii().is_empty() {
        return;
    }
    flush_answer(shared);
    if line.kept.trim_ascii_start().first() != Some(&b'{') {
        line.push(LogSource::Stdout, &mut shared.log);
    } else if line.lost > 0 {
        line.push(LogSource::Stdout, &mut shared.log);
        shared.answer = LastLine::TooLong;
    } else {
        shared.answer = LastLine::Candidate(line.kept);
    }
}

fn flush_answer(shared: &mut Shared) {
    if let LastLine::Candidate(line) = std::mem::take(&mut shared.answer) {
        shared.log.push(LogSource::Stdout, &line);
    }
}

fn last_line(shared: &mut Shared, _max: usize) -> LastLine {
    set_aside(shared);
    std::mem::take(&mut shared.answer)
}

impl Line {
    fn write(&mut self, source: LogSource, bytes: &[u8], max: usize, log: &mut RunLog) {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|b| *b == b'\n') {
            self.add(&rest[..at], max);
            std::mem::take(self).push(source, log);
            rest = &rest[at + 1..];
        }
        self.add(rest, max);
    }

    /// Beyond `max` bytes are only counted. A line that cannot be an answer is kept as long as a log line.
    fn add(&mut self, bytes: &[u8], max: usize) {
        let first = self.kept.iter().chain(bytes).find(|b| !b.is_ascii_whitespace());
        let max = if first == Some(&b'{') { max } else { max.min(LINE_BYTES_MAX) };
        let room = max.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
        self.lost += (bytes.len() - room) as u64;
    }

    fn push(self, source: LogSource, log: &mut RunLog) {
        let kept = &self.kept[..self.kept.len().min(LINE_BYTES_MAX)];
        log.push_cut(source, kept, self.lost + (self.kept.len() - kept.len()) as u64);
    }

    /// The last line, if it did not end with a newline.
    fn end(&mut self, source: LogSource, log: &mut RunLog) {
        let line = std::mem::take(self);
        if !line.kept.is_empty() {
            line.push(source, log);
        }
    }
}

impl Stream {
    fn new(streams: &Streams, source: LogSource) -> Self {
        Self { streams: streams.clone(), source, yielded: Instant::now() }
    }
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Self::new(&self.streams, self.source))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self::new(&self.streams, self.source))
    }
}

#[async_trait]
impl Pollable for Stream {
    /// Always ready; asked before every piece of a long write, which is one host call, so it gives the thread back.
    async fn ready(&mut self) {
        if self.yielded.elapsed() >= HOST_YIELD_INTERVAL {
            tokio::task::yield_now().await;
            self.yielded = Instant::now();
        }
    }
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.streams.write(self.source, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.streams.write(self.source, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Since the run began.
struct CoarseMonotonic(Instant);

struct CoarseWall;

fn coarse(time: Duration) -> Duration {
    let step = CLOCK_STEP.as_nanos();
    let steps = time.as_nanos() / step;
    Duration::from_nanos(u64::try_from(steps * step).unwrap_or(u64::MAX))
}

impl HostMonotonicClock for CoarseMonotonic {
    fn resolution(&self) -> u64 {
        u64::try_from(CLOCK_STEP.as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        u64::try_from(coarse(self.0.elapsed()).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl HostWallClock for CoarseWall {
    fn resolution(&self) -> Duration {
        CLOCK_STEP
    }

    fn now(&self) -> Duration {
        coarse(runner_store::clock::wall())
    }
}
