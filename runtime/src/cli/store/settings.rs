//! `runner store settings` and `runner store set`: what holds for the store and its jobs.

use std::process::ExitCode;

use super::super::ask;
use super::super::client::Target;
use super::super::exit::Failure;
use super::super::output::{Format, Table, bytes, print_json};
use crate::api::settings::SettingsShown;

/// What to set; as the API spells it.
#[derive(Debug, clap::Args, serde::Serialize)]
pub(in crate::cli) struct Set {
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

/// Shows what holds.
pub(super) fn show(target: &Target, format: Format) -> Result<ExitCode, Failure> {
    ask(target, async |client| {
        print_settings(&client.get("/v1/store/settings").await?.json()?, format);
        Ok(ExitCode::SUCCESS)
    })
}

/// Changes what is said, and shows what holds then.
pub(super) fn set(args: &Set) -> Result<ExitCode, Failure> {
    let body = serde_json::to_string(args).expect("settings have only text as keys, so they are JSON");
    if body == "{}" {
        return Err(Failure::usage("say what to set, for example --keep-completed 7d"));
    }
    ask(&args.target, async |client| {
        print_settings(&client.patch("/v1/store/settings", body).await?.json()?, args.output);
        Ok(ExitCode::SUCCESS)
    })
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
