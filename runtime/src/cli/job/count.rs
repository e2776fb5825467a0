//! `runner job count`: how many jobs there are, by what they have in common.

use std::process::ExitCode;

use clap::ValueEnum;

use super::super::ask;
use super::super::exit::Failure;
use super::super::output::{Format, Table, cut, note, print_json};
use super::Common;
use super::filter::Which;
use crate::api::count::{Count, Counts};

/// What a table shows of an error; `-o json` shows all.
const EXAMPLE_CHARS_MAX: usize = 80;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// What they have in common, or several of these with commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "state")]
    by: Vec<By>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// The state
    State,
    /// The queue
    Queue,
    /// The kind
    Kind,
    /// Which error it was, of those that are retryable or discarded after a run that failed
    Error,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Queue => "queue",
            Self::Kind => "kind",
            Self::Error => "error",
        }
    }

    fn of(self, count: &Count) -> String {
        let text = match self {
            Self::State => count.state.map(|state| state.to_string()),
            Self::Queue => count.queue.clone(),
            Self::Kind => count.kind.clone(),
            Self::Error => count.error.clone(),
        };
        text.unwrap_or_default()
    }
}

impl Args {
    /// Runs the verb.
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let names: Vec<&str> = self.by.iter().map(|by| by.name()).collect();
        let mut path = format!("/v1/jobs/count?by={}", names.join(","));
        self.which.add_to(&mut path);
        let counts: Counts = ask(&self.common.target, async |client| client.get(&path).await?.json())?;
        if self.common.output == Format::Json {
            print_json(&counts);
            return Ok(ExitCode::SUCCESS);
        }
        let has_errors = self.by.contains(&By::Error);
        let head = ["jobs"].into_iter().chain(names).chain(has_errors.then_some("for example"));
        let mut table = Table::new(&head.collect::<Vec<_>>());
        for count in counts.counts {
            let cells = self.by.iter().map(|by| by.of(&count));
            let example = count.example.as_ref().map(|text| cut(text, EXAMPLE_CHARS_MAX));
            table.row([count.jobs.to_string()].into_iter().chain(cells).chain(example));
        }
        table.print(if has_errors { "no job that failed is retryable or discarded" } else { "there are no such jobs" });
        if counts.more {
            note("there are more than were counted, the newest first");
        }
        Ok(ExitCode::SUCCESS)
    }
}
