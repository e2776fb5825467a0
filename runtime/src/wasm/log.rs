//! The log of one run: takes everything, keeps the beginning and the end, counts what fell out between.
//!
//! stdout, stderr and `host.log` all end here. It never closes and never fails, as a guest whose `println!` fails
//! panics. Bounds: [`HEAD_BYTES_MAX`] + [`TAIL_BYTES_MAX`] of text a run, [`LINE_BYTES_MAX`] a line. Bytes are kept
//! as they came; [`LogLine::shown`] escapes what could move a terminal's cursor.

use std::collections::VecDeque;
use std::fmt::Write as _;

/// How much of the beginning is kept: how the run started.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// How much of the end is kept: why it ended.
pub const TAIL_BYTES_MAX: usize = 48 << 10;
/// Where a line is cut.
pub const LINE_BYTES_MAX: usize = 8 << 10;
/// What one kept line costs beside its text; bounds the number of empty lines.
const LINE_OVERHEAD_BYTES: usize = 16;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    /// Written to stdout.
    Stdout,
    /// Written to stderr.
    Stderr,
    /// `host.log` with this level.
    Trace,
    /// As above.
    Debug,
    /// As above.
    Info,
    /// As above.
    Warn,
    /// As above.
    Error,
    /// The runner's own words about the run.
    Runner,
}

/// One line, without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where it came from.
    pub source: LogSource,
    /// As the guest wrote it, at most [`LINE_BYTES_MAX`] bytes.
    pub bytes: Box<[u8]>,
    /// Whether the line went on beyond that.
    pub cut: bool,
}

/// What is kept of a run's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunLog {
    head: Vec<LogLine>,
    head_bytes: usize,
    head_full: bool,
    tail: VecDeque<LogLine>,
    tail_bytes: usize,
    dropped_lines: u64,
    dropped_bytes: u64,
}

impl LogSource {
    /// Every source, in the order of their numbers, which stand in stores: a new one comes last.
    pub const ALL: [Self; 8] =
        [Self::Stdout, Self::Stderr, Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Runner];

    /// The word for people and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Runner => "runner",
        }
    }
}

impl LogLine {
    /// The line as a terminal may show it: control characters and what reorders text are escaped.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut shown = escaped(&String::from_utf8_lossy(&self.bytes));
        if self.cut {
            shown.push('…');
        }
        shown
    }

    fn cost(&self) -> usize {
        self.bytes.len() + LINE_OVERHEAD_BYTES
    }
}

impl RunLog {
    /// What is kept, in order; between [`RunLog::head_lines`] and the rest, lines may be missing.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &LogLine> {
        self.head.iter().chain(&self.tail)
    }

    /// How many lines stand before the gap.
    #[must_use]
    pub fn head_lines(&self) -> usize {
        self.head.len()
    }

    /// Lines that fell out.
    #[must_use]
    pub fn dropped_lines(&self) -> u64 {
        self.dropped_lines
    }

    /// Bytes of text that fell out, those cut from long lines included.
    #[must_use]
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// The whole log for a person: one line each, escaped, with a remark where lines are missing.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut text = String::new();
        for (at, line) in self.lines().enumerate() {
            if at == self.head.len() && self.dropped_lines > 0 {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "… {} lines left out …", self.dropped_lines);
            }
            let _ = writeln!(text, "{}", line.shown());
        }
        text
    }

    /// Takes a line that is complete.
    pub(crate) fn push(&mut self, source: LogSource, line: &[u8]) {
        let kept = &line[..line.len().min(LINE_BYTES_MAX)];
        self.push_cut(source, kept, (line.len() - kept.len()) as u64);
    }

    /// Takes the kept beginning of a line of which `lost` bytes were not kept.
    pub(crate) fn push_cut(&mut self, source: LogSource, kept: &[u8], lost: u64) {
        self.dropped_bytes += lost;
        let line = LogLine { source, bytes: kept.into(), cut: lost > 0 };
        let cost = line.cost();
        if !self.head_full && self.head_bytes + cost <= HEAD_BYTES_MAX {
            self.head_bytes += cost;
            self.head.push(line);
            return;
        }
        self.head_full = true;
        self.tail_bytes += cost;
        self.tail.push_back(line);
        while self.tail_bytes > TAIL_BYTES_MAX {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.tail_bytes -= oldest.cost();
            self.dropped_lines += 1;
            self.dropped_bytes += oldest.bytes.len() as u64;
        }
    }

    /// The last lines that say what went wrong: stderr's, or else `host.log`'s errors; at most `bytes_max`.
    pub(crate) fn complaint(&self, bytes_max: usize) -> Option<String> {
        let tail = |source: LogSource| {
            let mut lines: Vec<String> = Vec::new();
            let mut bytes = 0;
            for line in self.lines().rev().filter(|line| line.source == source && !is_advice(line)) {
                bytes += line.bytes.len() + 1;
                if bytes > bytes_max && !lines.is_empty() {
                    break;
                }
                lines.push(line.shown());
            }
            lines.reverse();
            let text = lines.join("\n").trim().to_owned();
            (!text.is_empty()).then_some(text)
        };
        tail(LogSource::Stderr).or_else(|| tail(LogSource::Error))
    }
}

/// What Rust's panics say last, to whoever can set an environment variable, which a guest has none of.
fn is_advice(line: &LogLine) -> bool {
    line.bytes.starts_with(b"note: run with `RUST_BACKTRACE=")
}

/// Text without control characters and without those that reorder what a person sees.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (c.is_control() && c != '\t') || reorders {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_keeps_its_beginning_and_its_end() {
        let mut log = RunLog::default();
        for n in 0..100_000 {
            log.push(LogSource::Stdout, format!("line {n}").as_bytes());
        }
        let lines: Vec<String> = log.lines().map(LogLine::shown).collect();
        assert_eq!(lines[0], "line 0");
        assert_eq!(lines[lines.len() - 1], "line 99999");
        assert_eq!(lines.len() as u64 + log.dropped_lines(), 100_000);
        assert!(log.shown().contains("lines left out"));
        let kept: usize = log.lines().map(|line| line.bytes.len()).sum();
        assert!(kept <= HEAD_BYTES_MAX + TAIL_BYTES_MAX);
    }

    #[test]
    fn a_long_line_is_cut_and_control_characters_are_escaped() {
        let mut log = RunLog::default();
        log.push(LogSource::Error, &vec![b'x'; LINE_BYTES_MAX + 5]);
        log.push(LogSource::Error, "\u{1b}[2J\u{202e}\r\nß".as_bytes());
        let lines: Vec<&LogLine> = log.lines().collect();
        assert!(lines[0].cut && lines[0].bytes.len() == LINE_BYTES_MAX && log.dropped_bytes() == 5);
        assert_eq!(lines[1].shown(), "\\u{1b}[2J\\u{202e}\\r\\nß");
    }
}
