//! What a run has said so far: its log, its progress, and for a command the line that may be its answer.
//!
//! Shared by the run's standard streams, `host.log` and `host.progress`, and whoever started the run, who may read it while
//! the run goes on. Nothing here blocks, fails or closes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::log::{LINE_BYTES_MAX, LogSource, RunLog};

/// Where a progress message is cut.
const PROGRESS_BYTES_MAX: usize = 256;

/// The last progress: percent and a message.
pub type Progress = (u8, String);

/// See the module. Clones are about the same run.
#[derive(Debug, Clone, Default)]
pub struct Streams(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    shared: Mutex<Shared>,
    /// Tells whoever follows.
    news: Notify,
    recorded: AtomicBool,
}

#[derive(Debug, Default)]
struct Shared {
    log: RunLog,
    stdout: Line,
    stderr: Line,
    /// Set for WASI commands: the last line of stdout that began with `{` is kept whole up to so many bytes.
    answer_bytes_max: Option<usize>,
    answer: LastLine,
    progress: Option<Progress>,
    /// Where what is written goes on to: the streams of the run that a kept instance is in.
    to: Option<Streams>,
    /// Whether the run has ended and its log was taken out.
    ended: bool,
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

impl Streams {
    /// The log so far, and the last progress.
    #[must_use]
    pub fn so_far(&self) -> (RunLog, Option<Progress>) {
        let shared = self.lock();
        (shared.log.clone(), shared.progress.clone())
    }

    /// Ends when something is said after this was called and enabled, or the run is recorded.
    pub fn news(&self) -> Notified<'_> {
        self.0.news.notified()
    }

    /// Whether the run has ended, so that its log is not here any more; it is recorded soon.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.lock().ended
    }

    /// Whether the run's end is recorded: its log is the store's to tell from then on.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.0.recorded.load(Ordering::SeqCst)
    }

    /// Says that it is, or that it never will be.
    pub(crate) fn recorded(&self) {
        self.0.recorded.store(true, Ordering::SeqCst);
        self.0.news.notify_waiters();
    }

    /// Says that stdout carries the answer, of at most so many bytes.
    pub(super) fn expect_answer(&self, bytes_max: usize) {
        self.lock().answer_bytes_max = Some(bytes_max);
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let shared = self.lock();
        shared.log.lines().next().is_none() && shared.progress.is_none()
    }

    /// Replaces the progress.
    pub(crate) fn progress(&self, percent: u8, mut message: String) {
        message.truncate(message.floor_char_boundary(PROGRESS_BYTES_MAX));
        self.lock().progress = Some((percent.min(100), message));
        self.0.news.notify_waiters();
    }

    /// One message from `host.log`, or an external worker's: cut as a line is, then shown as the lines it has.
    pub(crate) fn line(&self, source: LogSource, text: &str) {
        let text = text.trim_end_matches('\n');
        let (kept, lost) = text.split_at(text.floor_char_boundary(LINE_BYTES_MAX));
        let mut shared = self.lock();
        let mut lines = kept.split('\n').peekable();
        while let Some(line) = lines.next() {
            let lost = if lines.peek().is_none() { lost.len() as u64 } else { 0 };
            shared.log.push_cut(source, line.as_bytes(), lost);
        }
        drop(shared);
        self.0.news.notify_waiters();
    }

    /// Ends open lines and takes the log, the last line of stdout and the progress out.
    pub(super) fn finish(&self) -> (RunLog, LastLine, Option<Progress>) {
        let mut shared = self.lock();
        let shared = &mut *shared;
        let answer = match shared.answer_bytes_max {
            Some(max) => last_line(shared, max),
            None => LastLine::None,
        };
        shared.stdout.end(LogSource::Stdout, &mut shared.log);
        shared.stderr.end(LogSource::Stderr, &mut shared.log);
        shared.ended = true;
        (std::mem::take(&mut shared.log), answer, shared.progress.take())
    }

    /// Sends on what is written from now on, or stops doing so.
    pub(super) fn send_on(&self, to: Option<Streams>) {
        self.lock().to = to;
    }

    pub(super) fn write(&self, source: LogSource, bytes: &[u8]) {
        let mut guard = self.lock();
        if let Some(to) = &guard.to {
            let to = to.clone();
            drop(guard);
            return to.write(source, bytes);
        }
        let shared = &mut *guard;
        match (source, shared.answer_bytes_max) {
            (LogSource::Stdout, Some(max)) => write_answer(shared, bytes, max),
            (LogSource::Stdout, None) => shared.stdout.write(source, bytes, LINE_BYTES_MAX, &mut shared.log),
            _ => shared.stderr.write(source, bytes, LINE_BYTES_MAX, &mut shared.log),
        }
        drop(guard);
        self.0.news.notify_waiters();
    }

    /// A guest cannot make the host panic here, so a poisoned lock still holds whole lines.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.shared.lock().unwrap_or_else(PoisonError::into_inner)
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
