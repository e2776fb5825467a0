//! The table language × behaviour: written by the run, compared with that of the documentation.

use std::fmt::Write as _;
use std::path::Path;

use super::behaviours::Behaviour;
use super::mixed::LANGUAGES;

/// What a language did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    Done,
    NotForCommands,
    Wrong,
}

impl Cell {
    fn shown(self) -> &'static str {
        match self {
            Self::Done => "✓",
            Self::NotForCommands => "–",
            Self::Wrong => "✗",
        }
    }
}

const HEAD: &str = "# What a handler does in each language\n\n\
    Written by the test `every_language_does_everything_and_the_table_says_so`, which runs each behaviour of\n\
    [behaviours.toml](behaviours.toml) against each language's test handler, and fails where this is not what happened.\n\
    ✓ as it must be · – needs a call of the runner during the run, which a WASI command has not.\n\n";

/// Writes what was found, and fails where the documentation says otherwise. Columns of languages that were not built are
/// taken from the documentation.
pub(super) fn check(documented: &Path, found: &Path, behaviours: &[Behaviour], columns: &[(&str, Vec<Cell>)]) {
    let old = std::fs::read_to_string(documented).unwrap_or_default();
    let mut text = HEAD.to_owned();
    let titles: Vec<&str> = LANGUAGES.iter().map(|language| language.title).collect();
    write!(text, "| behaviour | | {} |\n|---|---|{}\n", titles.join(" | "), "---|".repeat(titles.len())).unwrap();
    for (row, behaviour) in behaviours.iter().enumerate() {
        let cells: Vec<&str> = titles
            .iter()
            .enumerate()
            .map(|(column, title)| match columns.iter().find(|(built, _)| built == title) {
                Some((_, cells)) => cells[row].shown(),
                None => documented_cell(&old, &behaviour.name, column),
            })
            .collect();
        writeln!(text, "| {} | {} | {} |", behaviour.name, behaviour.is, cells.join(" | ")).unwrap();
    }
    std::fs::write(found, &text).unwrap();
    assert!(
        text == old,
        "{} is not what happened; what did is in {}: copy it there",
        documented.display(),
        found.display()
    );
}

fn documented_cell<'a>(old: &'a str, behaviour: &str, column: usize) -> &'a str {
    let row = old.lines().find(|line| line.starts_with(&format!("| {behaviour} |")));
    row.and_then(|row| row.split(" | ").nth(column + 2)).map_or("", |cell| cell.trim_end_matches(" |"))
}
