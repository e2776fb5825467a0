//! `[serve]` of the configuration file: keys are the flags' names, values are parsed as the flags' would be.

use std::collections::BTreeMap;
use std::path::Path;

use clap::{Arg, Command};

use super::is_switch;
use crate::cli::exit::Failure;
use crate::operator;
use crate::table::{self, Table, TableError, Value};

/// The table's name.
pub(super) const TABLE: &str = "serve";
/// A key that is nearer than this to a known one was meant as that.
const NEAR: f64 = 0.6;

/// What the file says of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Said {
    pub(in crate::cli) text: String,
    pub(super) line: usize,
}

/// Reads the settings of a file; `known` are the flags that it may have keys for.
pub(in crate::cli) fn read(path: &Path, known: &[Arg]) -> Result<BTreeMap<String, Said>, Failure> {
    let text = operator::read_file(path).map_err(|error| Failure::usage(error.to_string()))?;
    read_text(&text, known).map_err(|error| Failure::usage(format!("`{}`, {error}", path.display())))
}

fn read_text(text: &str, known: &[Arg]) -> Result<BTreeMap<String, Said>, TableError> {
    let parsed = table::parse(text)?;
    let mut root = Table::new(text, "", parsed.get_ref());
    let Some(value) = root.take(TABLE) else { return Ok(BTreeMap::new()) };
    let mut said = BTreeMap::new();
    for (key, value) in value.table()?.entries() {
        let Some(arg) = known.iter().find(|arg| arg.get_id().as_str() == key) else {
            return Err(unknown(key, &value, known));
        };
        let text = value.plain()?;
        check(arg, &text).map_err(|why| value.error(&why))?;
        said.insert(key.to_owned(), Said { text, line: value.line() });
    }
    Ok(said)
}

fn unknown(key: &str, value: &Value<'_>, known: &[Arg]) -> TableError {
    let names = || known.iter().map(|arg| arg.get_id().as_str());
    let nearest = names().map(|name| (strsim::jaro_winkler(key, name), name)).max_by(|a, b| a.0.total_cmp(&b.0));
    value.error(&match nearest.filter(|(nearness, _)| *nearness >= NEAR) {
        Some((_, name)) => format!("is no known key; did you mean `{name}`?"),
        None => format!("is no known key; known are {}", names().collect::<Vec<_>>().join(", ")),
    })
}

/// Whether the flag would take it.
fn check(arg: &Arg, text: &str) -> Result<(), String> {
    if is_switch(arg) {
        return if matches!(text, "true" | "false") { Ok(()) } else { Err("must be true or false".to_owned()) };
    }
    let arg = arg.clone().required(false);
    let said = format!("--{}={text}", arg.get_long().unwrap_or_default());
    let alone = Command::new(TABLE).no_binary_name(true).disable_help_flag(true).arg(arg);
    match alone.try_get_matches_from([said]) {
        Ok(_) => Ok(()),
        Err(error) => {
            let words = error.to_string();
            let why = words.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Err(format!("is refused: {why}"))
        }
    }
}
