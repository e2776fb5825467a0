//! What the command line prints: tables that fit a terminal, plain ones elsewhere, JSON on request.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use clap::ValueEnum;
use serde::Serialize;

use crate::wasm::log::escaped;

/// Between two columns.
const GAP_CHARS: usize = 2;
/// Below this, the last column is not squeezed while another is wider.
const LAST_CHARS_MIN: usize = 12;
/// Below this, no column is squeezed.
const COLUMN_CHARS_MIN: usize = 5;

/// Why the first answer that could not be written could not.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// In which form answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people: a table.
    #[default]
    Table,
    /// For programs: JSON, one object a line for lists.
    Json,
}

/// A table: the last column takes what is left of the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    #[must_use]
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a row. Control characters are escaped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = cells.into_iter().map(|cell| escaped(&cell)).collect();
        assert_eq!(row.len(), self.header.len(), "a row has as many cells as there are columns");
        self.rows.push(row);
    }

    /// The table as text, each line at most `width` wide, if there is one.
    #[must_use]
    pub fn render(&self, width: Option<usize>) -> String {
        let columns = self.header.len();
        let mut widths: Vec<usize> = self.header.iter().map(|name| name.chars().count()).collect();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                widths[column] = widths[column].max(cell.chars().count());
            }
        }
        if let Some(width) = width {
            fit(&mut widths, width.saturating_sub((columns - 1) * GAP_CHARS));
        }
        let mut text = String::new();
        let header: Vec<String> = self.header.iter().map(|name| name.to_uppercase()).collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{:<width$}", cut(cell, *width), width = *width))
                .collect();
            text.push_str(cells.join(&" ".repeat(GAP_CHARS)).trim_end());
            text.push('\n');
        }
        text
    }

    /// Prints it, if it has rows; else says what there is none of.
    pub fn print(&self, none: &str) {
        if self.rows.is_empty() {
            note(none);
        } else {
            print(&self.render(terminal_width()));
        }
    }
}

/// Squeezes columns until they are `available` wide together: the last one first, then always the widest.
fn fit(widths: &mut [usize], available: usize) {
    let excess = |widths: &[usize]| widths.iter().sum::<usize>().saturating_sub(available);
    let over = excess(widths);
    if let Some(last) = widths.last_mut() {
        *last = last.saturating_sub(over).max(LAST_CHARS_MIN.min(*last));
    }
    while excess(widths) > 0 {
        match widths.iter_mut().filter(|width| **width > COLUMN_CHARS_MIN).max() {
            Some(widest) => *widest -= 1,
            None => return,
        }
    }
}

/// A text of at most so many characters, with a mark where it was cut.
#[must_use]
pub fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(chars_max.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

/// Prints to stdout. Whoever reads no further is not an error.
pub fn print(text: &str) {
    print_bytes(text.as_bytes());
}

/// The same with bytes.
pub fn print_bytes(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        // Only the first is kept: the others follow from it.
        _ = UNWRITTEN.set(error);
    }
}

/// Prints what a handler made: byte for byte, but to a terminal as text that it does not obey.
pub fn print_payload(bytes: &[u8]) {
    if io::stdout().is_terminal() {
        print(&harmless(bytes));
    } else {
        print_bytes(bytes);
    }
}

fn harmless(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).split('\n').map(escaped).collect::<Vec<_>>().join("\n")
}

/// Why something that was printed did not arrive, for example because the disk is full.
#[must_use]
pub fn unwritten() -> Option<&'static io::Error> {
    UNWRITTEN.get()
}

/// Prints one line of JSON.
pub fn print_json(value: &impl Serialize) {
    let line = serde_json::to_string(value).expect("answers have only text as keys, so they are JSON");
    print(&format!("{line}\n"));
}

/// Prints one or more lines beside the answer, to stderr. Control characters are escaped: names of files and words of
/// a list are not always the user's own.
pub fn note(lines: &str) {
    _ = writeln!(io::stderr().lock(), "{}", harmless(lines.as_bytes()));
}

/// A line on a terminal that says how far something is; nothing where stderr is none.
#[derive(Debug, Clone, Copy)]
pub struct ProgressLine {
    shown: bool,
}

impl ProgressLine {
    /// Nothing is drawn yet.
    #[must_use]
    pub fn on_stderr() -> Self {
        Self { shown: io::stderr().is_terminal() }
    }

    /// Whether anybody sees it.
    #[must_use]
    pub fn is_shown(self) -> bool {
        self.shown
    }

    /// Draws it in place of what stood there. A terminal that is gone needs no progress.
    pub fn put(self, text: &str) {
        if self.shown {
            _ = write!(io::stderr().lock(), "\r\x1b[K{text}");
        }
    }

    /// Takes it away.
    pub fn clear(self) {
        self.put("");
    }
}

/// How wide the terminal is that stdout goes to; none: it is none.
#[must_use]
pub fn terminal_width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let columns = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
    columns.filter(|columns| *columns > 0)
}

/// A number of bytes for people.
#[must_use]
pub fn bytes(n: u64) -> String {
    scaled(n, 1_024, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// An amount of fuel, or another large number, for people.
#[must_use]
pub fn amount(n: u64) -> String {
    scaled(n, 1_000, &["", " k", " M", " G", " T"])
}

/// A duration in milliseconds for people.
#[must_use]
pub fn millis(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10),
        _ => format!("{} m {:02} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

fn scaled(n: u64, step: u64, units: &[&str]) -> String {
    let (mut whole, mut rest, mut unit) = (n, 0, 0);
    while whole >= step && unit + 1 < units.len() {
        (whole, rest, unit) = (whole / step, whole % step, unit + 1);
    }
    let tenth = rest * 10 / step;
    if unit == 0 || whole >= 100 {
        format!("{whole}{}", units[unit])
    } else {
        format!("{whole}.{tenth}{}", units[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_the_terminal_and_is_whole_elsewhere() {
        let mut table = Table::new(&["id", "error"]);
        table.row(["1".to_owned(), "a long error that\ngoes on".to_owned()]);
        table.row(["20000".to_owned(), String::new()]);
        assert_eq!(table.render(None), "ID     ERROR\n1      a long error that\\ngoes on\n20000\n");
        assert_eq!(table.render(Some(20)), "ID     ERROR\n1      a long error…\n20000\n");
        table.row(["a".repeat(99), "b".repeat(99)]);
        for width in [20, 40, 80] {
            assert!(table.render(Some(width)).lines().all(|line| line.chars().count() <= width), "{width}");
        }
    }

    /// The output of a handler could wipe the screen of whoever looked at it, or worse.
    #[test]
    fn a_terminal_is_told_nothing_by_a_payload() {
        assert_eq!(harmless(b"a\tb\n\x1b[2J\xff\r\xc2\x9b1m\n"), "a\tb\n\\u{1b}[2J\u{fffd}\\r\\u{9b}1m\n");
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!([bytes(0), bytes(1_536), bytes(64 << 20)], ["0 B", "1.5 KiB", "64.0 MiB"]);
        assert_eq!([amount(999), amount(1_250_000), amount(250_000_000_000)], ["999", "1.2 M", "250 G"]);
        assert_eq!([millis(7), millis(1_500), millis(61_000)], ["7 ms", "1.50 s", "1 m 01 s"]);
    }
}
