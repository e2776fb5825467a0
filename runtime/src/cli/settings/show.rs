//! `runner config show` and `check`; and what SIGHUP does to a server's settings.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::{Settings, file, parse};
use crate::cli::exit::Failure;
use crate::cli::output::{Format, Table, note, print, print_json};
use crate::cli::serve;
use crate::operator::{self, Operator};

#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Verb {
    /// Show each setting of `runner serve`, and where its value comes from
    ///
    /// It takes the flags of `serve`, so that one sees what they would do. A flag goes before RUNNER_…, that before [serve] of
    /// the configuration, that before the default. Secrets are not shown.
    #[command(after_help = "Example: runner config show --config /etc/runner/runner.toml")]
    Show(Box<Show>),
    /// Read the configuration and say whether it can be used
    #[command(after_help = "Example: runner config check --config runner.toml")]
    Check(Box<Show>),
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Show {
    #[command(flatten)]
    serve: serve::Args,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the verb.
pub(in crate::cli) fn main(verb: &Verb, settings: &Settings) -> Result<ExitCode, Failure> {
    let operator = match &settings.file {
        Some(path) => Operator::load(path).map_err(|error| Failure::usage(error.to_string()))?,
        None => Operator::default(),
    };
    match verb {
        Verb::Show(args) => show(settings, args.output)?,
        Verb::Check(args) => check(settings, &operator, args.output),
    }
    Ok(ExitCode::SUCCESS)
}

fn check(settings: &Settings, operator: &Operator, format: Format) {
    let tenants = operator.tenants().count();
    let path = settings.file.as_ref().map(|path| path.display().to_string());
    match (format, path) {
        (Format::Json, path) => print_json(&json!({ "file": path, "tenants": tenants })),
        (Format::Table, Some(path)) => print(&format!("{path} can be used; tenants: {tenants}\n")),
        (Format::Table, None) => {
            print("there is no configuration, which is fine: plugins get what their manifests ask for\n");
        }
    }
}

fn show(settings: &Settings, format: Format) -> Result<(), Failure> {
    let mut rows: Vec<[String; 3]> = Vec::new();
    for (key, setting) in &settings.of {
        rows.push([key.clone(), setting.shown().unwrap_or("–").to_owned(), setting.source.words()]);
    }
    if let Some(path) = &settings.file {
        let text = operator::read_file(path).map_err(|error| Failure::usage(error.to_string()))?;
        let others = crate::table::leaves(&text).map_err(|error| Failure::usage(error.to_string()))?;
        let own = format!("{}.", file::TABLE);
        for (key, value, line) in others.into_iter().filter(|(key, ..)| !key.starts_with(&own)) {
            rows.push([key, value, format!("{}:{line}", path.display())]);
        }
    }
    if format == Format::Json {
        for [key, value, source] in &rows {
            let value = settings.of.get(key).map_or(Some(value.as_str()), |setting| setting.shown());
            print_json(&json!({ "key": key, "value": value, "source": source }));
        }
        return Ok(());
    }
    let mut table = Table::new(&["key", "value", "source"]);
    rows.into_iter().for_each(|row| table.row(row));
    table.print("");
    if settings.file.is_none() {
        note("there is no configuration file: neither --config nor runner.toml in the store's folder");
    }
    Ok(())
}

/// What SIGHUP compares with.
pub(in crate::cli) struct Reloading {
    args: Vec<OsString>,
    now: Settings,
    /// What the file says beside the settings.
    rules: Option<toml::Table>,
}

/// The settings that change while a server runs.
const RELOADED: [&str; 1] = ["grace"];

impl Reloading {
    /// From what the process was started with.
    pub(in crate::cli) fn new(args: Vec<OsString>, now: Settings) -> Self {
        let rules = rules(&now);
        Self { args, now, rules }
    }

    /// Looks at the file again: says what has changed and what of that needs a new start, and answers the grace if that is
    /// another one.
    pub(in crate::cli) fn look(&mut self) -> Option<Duration> {
        let new = match again(&self.args) {
            Ok(new) => new,
            Err(error) => {
                tracing::warn!(error, "the configuration cannot be used; what held before holds");
                return None;
            }
        };
        let mut grace = None;
        for (key, setting) in &new.of {
            let old = self.now.of.get(key);
            if old.is_some_and(|old| old.value == setting.value) {
                continue;
            }
            let (was, is) = (old.and_then(|old| old.shown()).unwrap_or("–"), setting.shown().unwrap_or("–"));
            if RELOADED.contains(&key.as_str()) {
                tracing::info!(key, was, is, "a setting has changed");
                grace = setting.value.as_deref().and_then(|text| crate::cli::duration(text).ok());
            } else {
                tracing::warn!(key, was, is, "a setting has changed, which takes a new start");
            }
        }
        let rules = rules(&new);
        if rules != self.rules {
            tracing::warn!("what the configuration says of tenants has changed, which takes a new start");
        }
        for key in RELOADED {
            if let Some(setting) = new.of.get(key) {
                self.now.of.insert(key.to_owned(), setting.clone());
            }
        }
        grace
    }
}

/// What would hold for a process that is started now.
fn again(args: &[OsString]) -> Result<Settings, String> {
    let (_, settings) = parse(args).map_err(|error| error.to_string())?;
    if let Some(path) = &settings.file {
        Operator::load(path).map_err(|error| error.to_string())?;
    }
    Ok(settings)
}

/// What the file says beside the settings; it was read before.
fn rules(settings: &Settings) -> Option<toml::Table> {
    let text = operator::read_file(settings.file.as_ref()?).ok()?;
    let mut rules: toml::Table = text.parse().ok()?;
    rules.remove(file::TABLE);
    Some(rules)
}
