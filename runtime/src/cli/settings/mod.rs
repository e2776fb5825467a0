//! What `runner serve` goes by, and where each value comes from: a flag goes before the environment (`RUNNER_*`), that
//! before `[serve]` of the configuration file, that before the default.
//!
//! There is no second list of settings: the flags of `serve` are the list, their names with `_` for `-` are the keys of the
//! file, and a value of the file is parsed as the flag's would be. What the other tables of the file say is the operator's
//! business (`crate::operator`).

mod file;
mod show;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};

pub(super) use self::file::{Said, read};
pub(super) use self::show::{Reloading, Verb, main};
use super::Cli;
use super::config::FILE_NAME;
use super::exit::Failure;

/// Flags that are about one start, or about where the file is: the file has no keys for them.
const ONLY_FLAGS: [&str; 7] = ["config", "data", "init", "once", "once_horizon", "help", "version"];

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The command line.
    Flag,
    /// This variable of the environment.
    Environment(String),
    /// This line of the file.
    File(PathBuf, usize),
    /// Nobody said anything.
    Default,
}

/// A setting as it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// None: it is not set, and has no default.
    pub(super) value: Option<String>,
    pub(super) source: Source,
}

/// All settings, by key, and the file that some of them come from, if there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) of: BTreeMap<String, Setting>,
    pub(super) file: Option<PathBuf>,
}

/// Why there is nothing to be done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unparsed {
    /// The command line is wrong, or asks for help.
    #[error("{0}")]
    Line(#[from] clap::Error),
    /// The file or the environment is wrong.
    #[error("{}", .0.message)]
    Said(Failure),
}

impl From<Failure> for Unparsed {
    fn from(failure: Failure) -> Self {
        Self::Said(failure)
    }
}

impl Unparsed {
    /// Ends the process as clap does, or says what is to be said.
    pub(super) fn end(self) -> Failure {
        match self {
            Self::Line(error) => error.exit(),
            Self::Said(failure) => failure,
        }
    }
}

impl Setting {
    /// As it may be shown.
    pub(super) fn shown(&self) -> Option<&str> {
        self.value.as_deref()
    }
}

impl Source {
    pub(super) fn words(&self) -> String {
        match self {
            Self::Flag => "flag".to_owned(),
            Self::Environment(name) => format!("environment {name}"),
            Self::File(path, line) => format!("{}:{line}", path.display()),
            Self::Default => "default".to_owned(),
        }
    }
}

/// The command line as a whole, with all of its verbs.
#[must_use]
pub fn command() -> Command {
    // What `serve` needs, looking at its settings does not.
    let loose = |verb: Command| verb.mut_args(|arg| arg.required(false));
    Cli::command().mut_subcommand("config", |config| config.mut_subcommands(loose))
}

/// Reads the command line, with what the configuration file says behind it.
///
/// # Errors
/// The file, a variable, or the command line says something wrong.
pub(super) fn parse(args: &[OsString]) -> Result<(Cli, Settings), Unparsed> {
    let command = command();
    let Some(first) = of_serve(&look(&command, args)).cloned() else {
        return Ok((Cli::from_arg_matches(&command.try_get_matches_from(args)?)?, Settings::default()));
    };
    let path = path(&first);
    let said = match &path {
        Some(path) => read(path, &serve_args(&command))?,
        None => BTreeMap::new(),
    };
    let with_file = |verb: Command| {
        said.iter().fold(verb, |verb, (key, said)| {
            let text = said.text.clone();
            verb.mut_arg(key.clone(), |arg| arg.required(false).default_value(text))
        })
    };
    let command =
        command.mut_subcommand("serve", with_file).mut_subcommand("config", |config| config.mut_subcommands(with_file));
    let matches = command.clone().try_get_matches_from(args)?;
    let cli = Cli::from_arg_matches(&matches)?;
    let settings = match of_serve(&matches) {
        Some(of_serve) => settings(&command, of_serve, path, &said),
        None => Settings::default(),
    };
    Ok((cli, settings))
}

/// What the command line says, as far as it can be told without the file: something that is required may be in there.
fn look(command: &Command, args: &[OsString]) -> ArgMatches {
    let loose = |verb: Command| verb.mut_args(|arg| arg.required(false));
    let command = command.clone().mut_subcommand("serve", loose).ignore_errors(true);
    command.try_get_matches_from(args).unwrap_or_default()
}

/// The part of what was said that has the settings of `serve`, if one has.
fn of_serve(matches: &ArgMatches) -> Option<&ArgMatches> {
    match matches.subcommand()? {
        ("serve", serve) => Some(serve),
        ("config", config) => config.subcommand().map(|(_, verb)| verb),
        _ => None,
    }
}

/// The flags of `serve` that are settings.
pub(super) fn serve_args(command: &Command) -> Vec<Arg> {
    let serve = command.find_subcommand("serve").expect("it is one of the verbs");
    serve.get_arguments().filter(|arg| !ONLY_FLAGS.contains(&arg.get_id().as_str())).cloned().collect()
}

/// The file that was named, or else `runner.toml` in the store's folder, if it is there.
fn path(serve: &ArgMatches) -> Option<PathBuf> {
    let of = |id: &str| serve.try_get_raw(id).ok()??.next().map(OsStr::to_owned);
    of("config").map(PathBuf::from).or_else(|| {
        let beside = Path::new(&of("data")?).join(FILE_NAME);
        beside.symlink_metadata().is_ok().then_some(beside)
    })
}

fn settings(command: &Command, serve: &ArgMatches, file: Option<PathBuf>, said: &BTreeMap<String, Said>) -> Settings {
    let setting = |arg: Arg| {
        let id = arg.get_id().as_str();
        let values = serve.try_get_raw(id).ok().flatten();
        let value = values.map(|raw| raw.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(","));
        let source = match (serve.value_source(id), said.get(id), &file) {
            (Some(ValueSource::CommandLine), ..) => Source::Flag,
            (Some(ValueSource::EnvVariable), ..) => {
                Source::Environment(arg.get_env().unwrap_or_default().to_string_lossy().into_owned())
            }
            (_, Some(said), Some(path)) => Source::File(path.clone(), said.line),
            _ => Source::Default,
        };
        (id.to_owned(), Setting { value, source })
    };
    Settings { of: serve_args(command).into_iter().map(setting).collect(), file }
}

/// Whether a flag is one that is said or not.
fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}
