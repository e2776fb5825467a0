//! A run's log as it is kept in the store and told by the API: lines with where they came from, and where lines are missing.
//!
//! Kept as MessagePack with the bytes as the guest wrote them; escaped is what is shown on a terminal, by whoever shows it.

use runner_store::job::limits::RUN_LOG_BYTES_MAX;
use serde::{Deserialize, Serialize};

use crate::wasm::log::{HEAD_BYTES_MAX, LogLine, LogSource, RunLog, TAIL_BYTES_MAX};

// What is kept of a log fits what the store keeps of it, with what a line costs beside its text, twice over.
const _: () = assert!(2 * (HEAD_BYTES_MAX + TAIL_BYTES_MAX) <= RUN_LOG_BYTES_MAX);

/// A log in the store.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Of what is kept, how many lines stand before the gap.
    head: u64,
    dropped_lines: u64,
    lines: Vec<KeptLine>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptLine(u8, #[serde(with = "serde_bytes")] Vec<u8>, bool);

/// A piece of a log as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Piece {
    /// A line.
    Line {
        /// Which run it is of.
        run: u32,
        /// `stdout`, `stderr`, `runner`, or the level of `host.log`.
        source: String,
        /// The line, without its end.
        text: String,
        /// Whether it went on beyond what is kept of a line.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cut: bool,
    },
    /// Lines that were not kept.
    Missing {
        /// Which run they are of.
        run: u32,
        /// How many.
        dropped_lines: u64,
    },
}

/// A log for the store; none: there is nothing in it.
#[must_use]
pub fn encode(log: &RunLog) -> Option<Vec<u8>> {
    let mut lines = log.lines().peekable();
    lines.peek()?;
    let line = |line: &LogLine| KeptLine(line.source as u8, line.bytes.to_vec(), line.cut);
    let head = log.head_lines() as u64;
    let kept = Kept { head, dropped_lines: log.dropped_lines(), lines: lines.map(line).collect() };
    let bytes = rmp_serde::to_vec(&kept).expect("numbers and bytes can be written to memory");
    debug_assert!(bytes.len() <= RUN_LOG_BYTES_MAX, "{} bytes of a log", bytes.len());
    Some(bytes)
}

/// What a log in the store has behind the first `from` lines of what was written; none: the bytes are no log.
#[must_use]
pub fn decode(run: u32, bytes: &[u8], from: u64) -> Option<Vec<Piece>> {
    let Kept { head, dropped_lines, lines } = rmp_serde::from_slice(bytes).ok()?;
    let lines = lines.into_iter().map(|KeptLine(source, bytes, cut)| {
        let source = LogSource::ALL.get(usize::from(source)).copied().unwrap_or(LogSource::Runner);
        LogLine { source, bytes: bytes.into(), cut }
    });
    let lines: Vec<LogLine> = lines.collect();
    let head = usize::try_from(head).unwrap_or(usize::MAX).min(lines.len());
    Some(pieces(run, &lines[..head], dropped_lines, &lines[head..], from))
}

/// The same of a log that grows, and how many lines were written up to now.
#[must_use]
pub fn since(run: u32, log: &RunLog, from: u64) -> (Vec<Piece>, u64) {
    let lines: Vec<&LogLine> = log.lines().collect();
    let (head, tail) = lines.split_at(log.head_lines());
    (pieces(run, head, log.dropped_lines(), tail, from), lines.len() as u64 + log.dropped_lines())
}

/// Lines stand in three rows: the first ones, those that were not kept, the last ones.
fn pieces<L: std::borrow::Borrow<LogLine>>(run: u32, head: &[L], dropped: u64, tail: &[L], from: u64) -> Vec<Piece> {
    let skip = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let behind_head = from.saturating_sub(head.len() as u64);
    let missing = dropped.saturating_sub(behind_head);
    let behind_gap = behind_head.saturating_sub(dropped);
    let mut pieces: Vec<Piece> = head.iter().skip(skip(from)).map(|line| piece(run, line.borrow())).collect();
    if missing > 0 {
        pieces.push(Piece::Missing { run, dropped_lines: missing });
    }
    pieces.extend(tail.iter().skip(skip(behind_gap)).map(|line| piece(run, line.borrow())));
    pieces
}

fn piece(run: u32, line: &LogLine) -> Piece {
    let text = String::from_utf8_lossy(&line.bytes).into_owned();
    Piece::Line { run, source: line.source.as_str().to_owned(), text, cut: line.cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pieces: &[Piece]) -> Vec<String> {
        let text = |piece: &Piece| match piece {
            Piece::Line { text, .. } => text.clone(),
            Piece::Missing { dropped_lines, .. } => format!("({dropped_lines})"),
        };
        pieces.iter().map(text).collect()
    }

    #[test]
    fn an_empty_log_is_none_and_any_other_is_what_it_was() {
        assert_eq!(encode(&RunLog::default()), None);
        let mut log = RunLog::default();
        log.push(LogSource::Stderr, b"\x1b[31mred\xff");
        log.push(LogSource::Warn, &vec![b'x'; 9_000]);
        let kept = decode(3, &encode(&log).unwrap(), 0).unwrap();
        assert_eq!(kept, since(3, &log, 0).0);
        let Piece::Line { run, source, text, cut } = &kept[0] else { unreachable!() };
        assert_eq!((*run, source.as_str(), text.as_str(), *cut), (3, "stderr", "\u{1b}[31mred\u{fffd}", false));
        assert!(
            matches!(&kept[1], Piece::Line { source, text, cut: true, .. } if source == "warn" && text.len() == 8_192)
        );
        assert_eq!(decode(3, b"something else", 0), None);
    }

    #[test]
    fn who_follows_gets_each_line_once_and_is_told_of_those_that_are_gone() {
        let mut log = RunLog::default();
        let (mut seen, mut told) = (0, Vec::new());
        for n in 0..10_000 {
            log.push(LogSource::Stdout, format!("line {n}").as_bytes());
            if n % 7 == 0 {
                let (pieces, now) = since(1, &log, seen);
                told.extend(texts(&pieces));
                seen = now;
            }
        }
        told.extend(texts(&decode(1, &encode(&log).unwrap(), seen).unwrap()));
        let all: Vec<String> = (0..10_000).map(|n| format!("line {n}")).collect();
        assert_eq!(told, all, "whoever keeps up misses none");
        let late = texts(&since(1, &log, 100).0);
        let gap = late.iter().position(|text| text.starts_with('(')).unwrap();
        assert_eq!((late[0].as_str(), late.last().unwrap().as_str()), ("line 100", "line 9999"));
        let missed: u64 = late[gap].trim_matches(['(', ')']).parse().unwrap();
        assert_eq!(late.len() as u64 - 1 + missed, 9_900);
        assert_eq!(since(1, &log, 10_000), (Vec::new(), 10_000));
    }

    #[test]
    fn the_worst_log_fits_into_the_store() {
        let mut log = RunLog::default();
        for n in 0..100_000 {
            log.push(LogSource::Error, &b"xy"[..n % 3]);
        }
        assert!(encode(&log).unwrap().len() <= RUN_LOG_BYTES_MAX);
    }
}
