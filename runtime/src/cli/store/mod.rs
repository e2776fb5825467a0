//! `runner store`: make, check and measure a store, and move it as a whole.

mod check;
mod copies;
mod settings;
mod stats;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use runner_store::dir::Create;
use serde_json::json;

use super::client::Target;
use super::exit::{Code, Failure};
use super::output::{Format, print, print_json};
use super::{ask, open};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Make an empty store
    #[command(after_help = "Example: runner store init /var/lib/runner")]
    Init {
        /// The folder, which may exist
        #[arg(value_name = "DIR", default_value = "runner-data", env = "RUNNER_DATA")]
        data: PathBuf,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Compare everything in a store with everything else, also while a server runs on it
    ///
    /// A server compares while it goes on; where none runs, the checksum of every page is verified first, which alone shows
    /// damage within args and outputs.
    #[command(after_help = "Example: runner store check --data /var/lib/runner")]
    Check {
        #[command(flatten)]
        target: Target,
        /// Take the store as it is after it failed, whatever is found: the next start does not check it again
        #[arg(long)]
        accept: bool,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Copy a store, also while a server runs on it; checked, and durable when it ends
    #[command(after_help = "Example: runner store backup /backups/monday --data /var/lib/runner")]
    Backup {
        /// The folder to make: a store like any other; with --url a path of the server's
        #[arg(value_name = "DEST")]
        destination: PathBuf,
        #[command(flatten)]
        target: Target,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Put a backup in the place of a store; no server may run on either
    ///
    /// The backup stays as it is. What was running when it was made runs again, ids of the time since are never given out
    /// again, and all queues are paused until somebody has looked.
    #[command(after_help = "Example: runner store restore /backups/monday /var/lib/runner --replace")]
    Restore {
        /// The backup's folder
        backup: PathBuf,
        /// The folder for the store
        #[arg(value_name = "DIR")]
        data: PathBuf,
        /// Replace a store that is there, and keep it in a folder `replaced-<time>` beside the new one
        #[arg(long)]
        replace: bool,
        /// Let in whom the backup's tokens let in, also those that were revoked since; else they let nobody in
        #[arg(long)]
        keep_tokens: bool,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Make the file of a store as small as it can be; no server may run on it
    #[command(after_help = "Example: runner store compact /var/lib/runner")]
    Compact {
        /// The store's folder
        #[arg(value_name = "DIR", default_value = "runner-data", env = "RUNNER_DATA")]
        data: PathBuf,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Bring a store up to date that an older program made; no server may run on it
    #[command(after_help = "Example: runner store migrate /var/lib/runner")]
    Migrate {
        /// The store's folder
        #[arg(value_name = "DIR", default_value = "runner-data", env = "RUNNER_DATA")]
        data: PathBuf,
        /// Make no backup beside it first
        #[arg(long)]
        no_backup: bool,
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
    Set(Box<settings::Set>),
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

/// Runs the verb.
pub(super) fn main(verb: &Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Init { data, output } => init(data, *output),
        Verb::Check { target, accept, output } => check::check(target, *accept, *output),
        Verb::Backup { destination, target, output } => copies::backup(destination, target, *output),
        Verb::Restore { backup, data, replace, keep_tokens, output } => {
            copies::restore(backup, data, (*replace, *keep_tokens), *output)
        }
        Verb::Compact { data, output } => copies::compact(data, *output),
        Verb::Migrate { data, no_backup, output } => copies::migrate(data, !no_backup, *output),
        Verb::Settings { target, output } => settings::show(target, *output),
        Verb::Set(args) => settings::set(args),
        Verb::Stats { target, output } => ask(target, async |client| stats::stats(client, target, *output).await),
    }
}

fn init(data: &Path, format: Format) -> Result<ExitCode, Failure> {
    if data.join("store.marker").exists() {
        let message = format!("`{}` is a store already; nothing was changed", data.display());
        return Err(Failure::new(Code::Conflict, message));
    }
    let open = open::store(data, Create::Yes, open::CommitMode::TwoPhase)?;
    drop(open.handle);
    open.writer.join();
    match format {
        Format::Json => print_json(&json!({ "data": data.display().to_string() })),
        Format::Table => print(&format!("made an empty store in {}\n", data.display())),
    }
    Ok(ExitCode::SUCCESS)
}
