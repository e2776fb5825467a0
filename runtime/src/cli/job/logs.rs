//! `runner job logs`: what a run wrote.

use std::io::IsTerminal;
use std::process::ExitCode;

use super::super::ask;
use super::super::client::Client;
use super::super::exit::{Code, Failure};
use super::super::output::{Format, print, unwritten};
use super::{Common, path};
use crate::run_logs::Piece;
use crate::wasm::log::{LINE_BYTES_MAX, escaped};

/// A line of the answer: a line of a log, each byte of which may be written as six, and some more.
const ANSWER_LINE_BYTES_MAX: usize = 8 * LINE_BYTES_MAX;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The job
    id: String,
    /// Go on with what it writes, until the run ends; of a job that has not begun, wait for its next run
    #[arg(short, long)]
    follow: bool,
    /// Of this run; of the one that runs, or the last one, if absent
    #[arg(long, value_name = "N")]
    run: Option<u32>,
    #[command(flatten)]
    common: Common,
}

impl Args {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        ask(&self.common.target, async |client| self.show(client).await)
    }

    async fn show(&self, client: &Client) -> Result<ExitCode, Failure> {
        // Where nothing runs there is nothing to follow, and the store must not be kept from a server.
        let follow = self.follow && !client.is_local();
        let mut path = format!("{}/logs?follow={follow}", path(&self.id));
        if let Some(run) = self.run {
            path.push_str(&format!("&run={run}"));
        }
        let mut lines =
            Lines { rest: Vec::new(), format: self.common.output, terminal: std::io::stdout().is_terminal() };
        client.follow(&path, |part| lines.take(part)).await?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The lines of the answer, as they come in parts.
struct Lines {
    rest: Vec<u8>,
    format: Format,
    /// Whether what is shown could move a cursor.
    terminal: bool,
}

impl Lines {
    fn take(&mut self, part: &[u8]) -> Result<(), Failure> {
        for piece in part.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(piece);
            if self.rest.len() > ANSWER_LINE_BYTES_MAX {
                return Err(Failure::new(Code::Failed, "the answer is no log; is it a runner?"));
            }
            if piece.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned();
                print(&shown(line.trim_end(), self.format, self.terminal)?);
            }
        }
        match unwritten() {
            // Who asked is gone, or the disk is full: the end says so.
            Some(_) => Err(Failure::new(Code::Failed, "stdout takes nothing more")),
            None => Ok(()),
        }
    }
}

/// A line of the answer as it is shown; empty ones only say that the server is there.
fn shown(line: &str, format: Format, terminal: bool) -> Result<String, Failure> {
    if line.is_empty() {
        return Ok(String::new());
    }
    if let Format::Json = format {
        return Ok(format!("{line}\n"));
    }
    let piece = serde_json::from_str(line)
        .map_err(|error| Failure::new(Code::Failed, format!("not a log of this version: {error}")))?;
    Ok(match piece {
        Piece::Line { source, text, cut, .. } => {
            let text = if terminal { escaped(&text) } else { text };
            format!("{source:<6} {text}{}\n", if cut { "…" } else { "" })
        }
        Piece::Missing { dropped_lines, .. } => format!("… {dropped_lines} lines left out …\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_move_a_cursor_is_escaped_on_a_terminal_only() {
        let line = serde_json::json!({"run": 1, "source": "stdout", "text": "a\u{1b}[2Jb"}).to_string();
        let shown = |terminal| shown(&line, Format::Table, terminal).ok();
        assert_eq!(shown(true).as_deref(), Some("stdout a\\u{1b}[2Jb\n"));
        assert_eq!(shown(false).as_deref(), Some("stdout a\u{1b}[2Jb\n"));
    }
}
