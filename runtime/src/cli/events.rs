//! `runner events`: what happens to jobs, from the log.

use std::process::ExitCode;

use serde_json::Value;

use super::ask;
use super::client::{Client, Target};
use super::exit::{Code, Failure};
use super::job::percent;
use super::output::{Format, cut, print, terminal_width, unwritten};
use crate::api::events::EventShown;
use crate::wasm::log::escaped;

/// A line of the answer: far above any event.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Show what happened to jobs, and follow it
///
/// Without --follow: everything that the log still has. With it: from now on, unless --since says otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  runner events --follow\n  runner events --since 1200 --job 42 -o json")]
pub(super) struct Args {
    /// Go on with what happens, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Begin behind this event
    #[arg(long, value_name = "SEQ", value_parser = super::spelt::whole(0..=u64::MAX))]
    since: Option<u64>,
    /// Only of this job
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Only those that led to this state
    #[arg(long)]
    state: Option<String>,
    /// Only of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Only of this queue
    #[arg(long)]
    queue: Option<String>,
    #[command(flatten)]
    target: Target,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the verb.
pub(super) fn main(args: &Args) -> Result<ExitCode, Failure> {
    ask(&args.target, async |client| show(client, args).await)
}

async fn show(client: &Client, args: &Args) -> Result<ExitCode, Failure> {
    if args.follow && client.is_local() {
        let message = "no server runs on this store, so nothing happens: start `runner serve`, or leave --follow out";
        return Err(Failure::new(Code::Unreachable, message));
    }
    let mut path = format!("/v1/events?follow={}", args.follow);
    let since = args.since.map(|since| since.to_string()).or_else(|| args.follow.then(|| "now".to_owned()));
    let filters =
        [("since", &since), ("job", &args.job), ("state", &args.state), ("kind", &args.kind), ("queue", &args.queue)];
    for (name, value) in filters.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        path.push_str(&format!("&{name}={}", percent(value)));
    }
    let mut lines = Lines { rest: Vec::new(), format: args.output, name: String::new() };
    client.follow(&path, |part| lines.take(part)).await?;
    if args.follow {
        // A server that stops ends the answer in good order.
        let message = "the server ended the stream: it stopped, or this reader was too slow; --since goes on";
        return Err(Failure::new(Code::Unreachable, message));
    }
    Ok(ExitCode::SUCCESS)
}

/// The lines of an event stream, as they come in parts.
struct Lines {
    rest: Vec<u8>,
    format: Format,
    /// The name of the event that is being read.
    name: String,
}

impl Lines {
    fn take(&mut self, part: &[u8]) -> Result<(), Failure> {
        for byte in part {
            if *byte != b'\n' {
                self.rest.push(*byte);
                if self.rest.len() > LINE_BYTES_MAX {
                    return Err(Failure::new(Code::Failed, "the answer is no stream of events; is it a runner?"));
                }
                continue;
            }
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned();
            self.line(&line)?;
        }
        match unwritten() {
            // Who asked is gone, or the disk is full: the end says so.
            Some(_) => Err(Failure::new(Code::Failed, "stdout takes nothing more")),
            None => Ok(()),
        }
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        if let Some(name) = line.strip_prefix("event: ") {
            name.clone_into(&mut self.name);
        }
        let Some(data) = line.strip_prefix("data: ") else { return Ok(()) };
        if self.name == "log_trimmed" {
            let oldest = serde_json::from_str::<Value>(data).unwrap_or_default()["oldest"].to_string();
            let message = format!("the log was trimmed faster than it was read; the oldest event is {oldest}");
            return Err(Failure::new(Code::Failed, message));
        }
        match self.format {
            Format::Json => print(&format!("{data}\n")),
            Format::Table => {
                let event: EventShown = serde_json::from_str(data)
                    .map_err(|error| Failure::new(Code::Failed, format!("not an event of this version: {error}")))?;
                print(&row(&event, terminal_width()));
            }
        }
        Ok(())
    }
}

/// One line, which fits the terminal if there is one; the columns are wide enough for most, as nobody knows what comes.
fn row(event: &EventShown, width: Option<usize>) -> String {
    let kind = event.kind.as_deref().unwrap_or("-");
    let EventShown { seq, at, job, run, .. } = event;
    let line = format!(
        "{seq:>6}  {at}  {:<16}  job {:<5}  run {run:<2}  {}",
        event.event.as_str(),
        escaped(job),
        escaped(kind)
    );
    width.map_or_else(|| line.clone(), |width| cut(&line, width)) + "\n"
}

#[cfg(test)]
mod tests {
    use runner_store::job::{EventName, StateName};

    use super::*;

    /// Events were the only rows that did not fit a terminal: those of each job took two lines of 80 columns.
    #[test]
    fn a_row_fits_the_terminal_and_is_whole_elsewhere() {
        let event = EventShown {
            seq: 123_456,
            at: "2027-01-31T08:00:00.000Z".to_owned(),
            event: EventName::CancelRequested,
            job: "12345".to_owned(),
            state: Some(StateName::Running),
            run: 1,
            kind: Some("image.resize.large".to_owned()),
            queue: None,
        };
        let on_terminal = row(&event, Some(80));
        assert_eq!(on_terminal.trim_end().chars().count(), 80, "{on_terminal}");
        assert!(on_terminal.contains("job 12345  run 1   image.re…"), "{on_terminal}");
        assert!(row(&event, None).ends_with("image.resize.large\n"));
    }
}
