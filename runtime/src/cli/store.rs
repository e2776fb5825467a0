//! `runner store`: make, check and measure a store.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use runner_store::clock::Clock;
use runner_store::dir::{Create, StoreDir};
use runner_store::engine::redb::Commit;
use serde_json::json;

use super::client::{Client, Target};
use super::exit::{Code, Failure};
use super::output::{Format, Table, bytes, note, print, print_json};
use super::{ask, open};
use crate::api::count::Counts;
use crate::api::settings::SettingsShown;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Make an empty store
    #[command(after_help = "Example: runner store init /var/lib/runner")]
    Init {
        /// The folder, which may exist
        #[arg(value_name = "DIR", default_value = "runner-data", env = "RUNNER_DATA")]
        data: PathBuf,
    },
    /// Compare everything in a store with everything else; no server may run on it
    #[command(after_help = "Example: runner store check --data /var/lib/runner")]
    Check {
        /// The store's folder
        #[arg(long, value_name = "DIR", default_value = "runner-data", env = "RUNNER_DATA")]
        data: PathBuf,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Show what holds for the store and its jobs
    #[command(after_help = "Example: runner store settings")]
    Settings {
        #[command(flatten)]
        target: Target,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Set how long jobs and the log are kept, and how much there may be
    #[command(after_help = "Example: runner store set --keep-completed 2d --stored-bytes 20GiB")]
    Set(Box<Set>),
    /// Count the jobs, and measure the files
    #[command(after_help = "Example: runner store stats")]
    Stats {
        #[command(flatten)]
        target: Target,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

/// What to set; as the API spells it.
#[derive(Debug, clap::Args, serde::Serialize)]
pub(super) struct Set {
    /// How long completed jobs are kept, for example 7d
    #[arg(long, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_completed: Option<String>,
    /// How long cancelled jobs are kept
    #[arg(long, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_cancelled: Option<String>,
    /// How long discarded jobs are kept
    #[arg(long, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_discarded: Option<String>,
    /// Completed jobs at most; the oldest go first
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_max: Option<u64>,
    /// Jobs that have not ended, at most; more are refused
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u64>,
    /// Bytes of args, outputs and checkpoints at most, for example 10GiB; more are refused
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_bytes: Option<String>,
    /// How long the log of events is kept
    #[arg(long, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_age: Option<String>,
    /// How many bytes of the log are kept, for example 2GiB
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_bytes: Option<String>,
    #[command(flatten)]
    #[serde(skip)]
    target: Target,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    #[serde(skip)]
    output: Format,
}

/// Runs the verb.
pub(super) fn main(verb: &Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Init { data } => init(data),
        Verb::Check { data, output } => check(data, *output),
        Verb::Settings { target, output } => ask(target, async |client| {
            print_settings(&client.get("/v1/store/settings").await?.json()?, *output);
            Ok(ExitCode::SUCCESS)
        }),
        Verb::Set(args) => {
            let body = serde_json::to_string(args).expect("settings have only text as keys, so they are JSON");
            if body == "{}" {
                return Err(Failure::usage("say what to set, for example --keep-completed 7d"));
            }
            ask(&args.target, async |client| {
                print_settings(&client.patch("/v1/store/settings", body).await?.json()?, args.output);
                Ok(ExitCode::SUCCESS)
            })
        }
        Verb::Stats { target, output } => ask(target, async |client| stats(client, target, *output).await),
    }
}

fn init(data: &Path) -> Result<ExitCode, Failure> {
    if data.join("store.marker").exists() {
        let message = format!("`{}` is a store already; nothing was changed", data.display());
        return Err(Failure::new(Code::Conflict, message));
    }
    let open = open::store(data, Create::Yes, open::CommitMode::TwoPhase)?;
    drop(open.handle);
    open.writer.join();
    print(&format!("made an empty store in {}\n", data.display()));
    Ok(ExitCode::SUCCESS)
}

fn check(data: &Path, format: Format) -> Result<ExitCode, Failure> {
    let mut store = StoreDir::new(data).open(Create::No, Clock::System, Commit::default())?;
    let damaged = |why: &str| {
        let message = format!("`{}` is damaged{why}: do not start it; put a backup in its place", data.display());
        Failure::new(Code::StoreDamaged, message)
    };
    // The pages first: their checksums alone see damage within args and outputs.
    store.verify_pages().map_err(|error| damaged(&format!(" ({error})")))?;
    let report = store.check()?;
    match format {
        Format::Json => print_json(&json!({
            "clean": report.is_clean(), "jobs": report.jobs, "events": report.events, "folded": report.folded,
            "wrong": report.wrong, "findings": report.findings,
        })),
        Format::Table => {
            for finding in &report.findings {
                print(&format!("{finding}\n"));
            }
            let (jobs, events, folded) = (report.jobs, report.events, report.folded);
            print(&format!("{jobs} jobs, {events} events, {folded} histories folded: {} wrong\n", report.wrong));
        }
    }
    if report.is_clean() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(damaged(""))
}

fn print_settings(settings: &SettingsShown, format: Format) {
    if format == Format::Json {
        return print_json(settings);
    }
    let SettingsShown { completed_max, capacity, stored_bytes, log_bytes, .. } = settings;
    let mut table = Table::new(&["setting", "value"]);
    let rows = [
        ("keep_completed", settings.keep_completed.clone()),
        ("keep_cancelled", settings.keep_cancelled.clone()),
        ("keep_discarded", settings.keep_discarded.clone()),
        ("completed_max", completed_max.to_string()),
        ("capacity", capacity.to_string()),
        ("stored_bytes", bytes(*stored_bytes)),
        ("log_age", settings.log_age.clone()),
        ("log_bytes", bytes(*log_bytes)),
    ];
    rows.into_iter().for_each(|(name, value)| table.row([name.to_owned(), value]));
    table.print("");
}

async fn stats(client: &Client, target: &Target, format: Format) -> Result<ExitCode, Failure> {
    let counts: Counts = client.get("/v1/jobs/count?by=state,queue,kind").await?.json()?;
    let files = if target.url.is_some() { Vec::new() } else { files(&target.data) };
    if format == Format::Json {
        let files: serde_json::Map<String, serde_json::Value> =
            files.into_iter().map(|(name, size)| (name, size.into())).collect();
        print_json(&json!({ "total": counts.total, "counts": counts.counts, "files": files }));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["jobs", "state", "queue", "kind"]);
    for count in counts.counts {
        let state = count.state.map_or_else(String::new, |state| state.to_string());
        table.row([count.jobs.to_string(), state, count.queue.unwrap_or_default(), count.kind.unwrap_or_default()]);
    }
    table.print("there are no jobs");
    for (name, size) in files {
        note(&format!("{name}: {}", bytes(size)));
    }
    Ok(ExitCode::SUCCESS)
}

/// The files of a store and their sizes, by name.
fn files(data: &Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(data).into_iter().flatten().flatten();
    let file = |entry: std::fs::DirEntry| {
        let found = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((entry.file_name().to_string_lossy().into_owned(), found.len()))
    };
    let mut files: Vec<_> = entries.filter_map(file).collect();
    files.sort();
    files
}
