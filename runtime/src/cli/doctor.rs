//! `runner doctor`: says what is wrong with a store and its disk, and what to do about it.

use std::process::ExitCode;

use serde_json::json;

use super::ask;
use super::client::Target;
use super::exit::{Code, Failure};
use super::output::{Format, bytes, print, print_json};
use crate::api::store::StatsShown;

/// Say what is wrong with a store and its disk, and how to mend it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: runner doctor --accept-clock")]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// The wall clock is right: expiry, retention and forgetting go on after it stepped
    #[arg(long)]
    accept_clock: bool,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs `runner doctor`: exit code 1 if something is wrong.
pub(super) fn main(args: &Args) -> Result<ExitCode, Failure> {
    ask(&args.target, async |client| {
        if args.accept_clock {
            client.post("/v1/store/accept-clock", None, None).await?;
        }
        let stats: StatsShown = client.get("/v1/store/stats").await?.json()?;
        let wrong = findings(&stats);
        match args.output {
            Format::Json => wrong.iter().for_each(|finding| print_json(&json!({ "wrong": finding }))),
            Format::Table if wrong.is_empty() => print("nothing is wrong\n"),
            Format::Table => wrong.iter().for_each(|finding| print(&format!("{finding}\n"))),
        }
        Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(Code::Failed as u8) })
    })
}

/// What is wrong, each with what to do about it.
fn findings(stats: &StatsShown) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(by) = stats.clock_step_ms {
        wrong.push(format!(
            "clock_step: the wall clock stepped by {by} ms; expiry, retention and forgetting wait until it has agreed with \
             itself for an hour. If it is right now: `runner doctor --accept-clock`"
        ));
    }
    let disk = &stats.disk;
    let room = |what: &str| {
        let (free, reserve) = (bytes(disk.free_bytes), bytes(disk.reserve_bytes));
        format!(
            "disk: {free} are free and {reserve} are kept in reserve, so {what}. Make room on the disk of the store"
        )
    };
    match disk.room.as_str() {
        "plenty" => {}
        "low" => wrong.push(room("no job is taken; what is there runs")),
        _ => wrong.push(room("no job is taken and none is started")),
    }
    if stats.paused {
        wrong.push(
            "the store was restored, and nothing runs yet: look at it, then `runner queue resume --all`".to_owned(),
        );
    }
    if stats.oldest_reader_ms > 60_000 {
        let seconds = stats.oldest_reader_ms / 1_000;
        wrong.push(format!(
            "a view of the store has been open for {seconds} s, so its file grows: a backup, or a stuck call"
        ));
    }
    wrong
}
