//! `runner doctor`: looks at everything that a node needs – the store and its disk, the clock, the configuration, the folder
//! of plugins, the process's limits, the address – and says what is wrong, and how to mend it.
//!
//! It changes nothing but what it is told to (`--accept-clock`), and works whether or not a server runs.

mod place;
mod plugins;
mod process;
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::client::Target;
use super::config::Config;
use super::exit::{Code, Failure};
use super::output::{Format, Table, print, print_json};
use super::settings;
use crate::api::serve::CONNECTIONS;
use crate::operator::Operator;
use crate::wasm::log::escaped;

/// Say what is wrong with a node and how to mend it
///
/// It looks at the store's folder and disk, at the clock, the configuration, the plugins and what they lack, the limits of
/// this process, and the address. Exit code 1 if something is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: runner doctor --plugins plugins/dist\nExample: runner doctor --accept-clock")]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    config: Config,
    /// The folder of plugins; each is compiled and checked
    #[arg(long, value_name = "DIR", env = "RUNNER_PLUGINS")]
    plugins: Option<PathBuf>,
    /// Where the API is to listen
    #[arg(long, value_name = "ADDRESS", env = "RUNNER_LISTEN")]
    listen: Option<String>,
    /// The wall clock is right: expiry, retention and forgetting go on after it stepped
    #[arg(long)]
    accept_clock: bool,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// It is as it should be.
    Good,
    /// It may be meant so.
    Look,
    /// It is to be mended.
    Wrong,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    /// Stable; for programs.
    check: &'static str,
    level: Level,
    what: String,
    /// How to mend it; empty where there is nothing to mend.
    mend: String,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Look => "look",
            Self::Wrong => "wrong",
        }
    }
}

impl Finding {
    fn good(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, level: Level::Good, what: what.into(), mend: String::new() }
    }

    fn look(check: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, level: Level::Look, what: what.into(), mend: mend.into() }
    }

    fn wrong(check: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, level: Level::Wrong, what: what.into(), mend: mend.into() }
    }
}

/// Runs `runner doctor`.
pub(super) fn main(args: &Args) -> Result<ExitCode, Failure> {
    let mut found = vec![version()];
    let (mut operator, said) = configuration(args, &mut found);
    let of = |key: &str| said.get(key).map(|said| said.text.clone());
    let plugins = args.plugins.clone().or_else(|| of("plugins").map(PathBuf::from));
    let listen = args.listen.clone().or_else(|| of("listen")).unwrap_or_else(|| "127.0.0.1:7070".to_owned());
    let memory = of("memory").and_then(|text| super::size(&text).ok());
    operator.memory_bytes = memory.or(operator.memory_bytes);
    let local = args.target.url.is_none();
    let mut served = !local;
    if local {
        found.extend(place::check(&args.target.data));
    }
    if !local || place::has_store(&args.target.data) {
        served |= store::check(&args.target, args.accept_clock, &mut found);
    }
    if local {
        let connections = of("connections").and_then(|text| text.parse().ok()).unwrap_or(CONNECTIONS);
        found.push(process::limits(connections as usize));
        found.push(process::memory(&operator));
        found.push(process::address(&listen, served));
        if let Some(folder) = &plugins {
            found.extend(plugins::check(folder, operator));
        }
    }
    show(&found, args.output);
    let wrong = found.iter().any(|finding| finding.level == Level::Wrong);
    Ok(ExitCode::from(if wrong { Code::Failed } else { Code::Done } as u8))
}

fn version() -> Finding {
    let (version, system, machine) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    Finding::good("version", format!("runner {version} on {system}, {machine}"))
}

/// What the configuration allows, and what it says of the server.
fn configuration(args: &Args, found: &mut Vec<Finding>) -> (Operator, BTreeMap<String, settings::Said>) {
    let path = args.config.find(&[&args.target.data]);
    let mut of_serve = BTreeMap::new();
    let operator = match &path {
        None => {
            found.push(Finding::good("configuration", "none: plugins get what their manifests ask for"));
            Operator::default()
        }
        Some(path) => {
            let mend = "mend that line; `runner config check` reads it again";
            let said = settings::read(path, &settings::serve_args(&settings::command()));
            match said {
                Ok(said) => of_serve = said,
                Err(Failure { message, .. }) => found.push(Finding::wrong("configuration", message, mend)),
            }
            match Operator::load(path) {
                Ok(operator) => {
                    found.push(Finding::good("configuration", path.display().to_string()));
                    operator
                }
                Err(error) => {
                    found.push(Finding::wrong("configuration", error.to_string(), mend));
                    Operator::default()
                }
            }
        }
    };
    (operator, of_serve)
}

fn show(found: &[Finding], format: Format) {
    if format == Format::Json {
        for Finding { check, level, what, mend } in found {
            let mend = Some(mend).filter(|mend| !mend.is_empty());
            print_json(&json!({ "check": check, "level": level.word(), "what": what, "mend": mend }));
        }
        return;
    }
    let mut table = Table::new(&["", "check", "what"]);
    for Finding { check, level, what, .. } in found {
        table.row([level.word().to_owned(), (*check).to_owned(), what.clone()]);
    }
    table.print("");
    // Whole, whatever the terminal's width: these are to be read.
    for Finding { check, what, mend, .. } in found.iter().filter(|finding| !finding.mend.is_empty()) {
        print(&format!("\n{check}: {}\n  {}\n", escaped(what), escaped(mend)));
    }
    if found.iter().all(|finding| finding.level != Level::Wrong) {
        print("\nnothing is wrong\n");
    }
}
