//! `data.csv`: what is in the columns of a CSV file.
//!
//! Args are the file itself, or a JSON object with options and the file in `csv` or `file_base64`. It is read once, row by row;
//! for each column it says of what type all values are, how many are missing, the least, the greatest, the mean, and how
//! many differ. A file that is not as it should be is discarded with the line on which it is not: guessing would make numbers
//! that look right.
//!
//! Memory is bounded by the args (1 MiB), by [`COLUMNS_MAX`] and by [`DISTINCT_MAX`].

mod column;

pub use crate::column::Summary;

use crate::column::Column;
use csv::{ByteRecord, ReaderBuilder};
use runner_plugin::{Context, Failure, WithFile, handler};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// More columns than this are no table; the summary of each is a part of an output of 1 MiB.
pub const COLUMNS_MAX: usize = 500;
/// So many different values of a column are counted exactly.
pub const DISTINCT_MAX: usize = 10_000;
/// A name of a column, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 10_000;

/// How to read; all of it optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    csv: Option<String>,
    /// One character of ASCII; default: a comma.
    delimiter: Option<String>,
    /// Whether the first row names the columns; default: true.
    header: Option<bool>,
    /// What means that a value is missing, besides nothing at all.
    #[serde(default)]
    nulls: Vec<String>,
}

/// What is in the file.
#[derive(Debug, Serialize)]
pub struct Output {
    rows: u64,
    columns: Vec<Summary>,
}

/// Summarises one file.
#[handler("data.csv")]
pub fn csv(args: WithFile<Options>, cx: &Context) -> Result<Output, Failure> {
    let WithFile { file, options, .. } = args;
    let delimiter = delimiter(options.delimiter.as_deref())?;
    let file = options.csv.map(String::into_bytes).or(file).ok_or_else(|| {
        Failure::discard("there is no table: args are the file, or an object with `csv` or `file_base64`")
    })?;
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).delimiter(delimiter).from_reader(file.as_slice());
    let mut record = ByteRecord::new();
    if !next(&mut reader, &mut record)? {
        return Err(Failure::discard("the file is empty"));
    }
    let header = options.header.unwrap_or(true);
    let mut columns: Vec<Column> = names(&record, header)?.into_iter().map(Column::new).collect();
    let mut rows = 0_u64;
    let mut is_row = !header || next(&mut reader, &mut record)?;
    while is_row {
        rows += 1;
        take(&record, &mut columns, &options.nulls)?;
        if rows.is_multiple_of(PROGRESS_ROWS) {
            let percent = reader.position().byte() * 100 / file.len() as u64;
            cx.progress(percent.min(100) as u8, format!("{rows} rows"));
        }
        is_row = next(&mut reader, &mut record)?;
    }
    Ok(Output { rows, columns: columns.into_iter().map(Column::summary).collect() })
}

/// Reads a row; false at the end.
fn next(reader: &mut csv::Reader<&[u8]>, record: &mut ByteRecord) -> Result<bool, Failure> {
    reader.read_byte_record(record).map_err(|error| Failure::discard(format_args!("the file cannot be read: {error}")))
}

/// The columns' names, checked; without a header, `column_1` and so on.
fn names(first: &ByteRecord, header: bool) -> Result<Vec<String>, Failure> {
    if first.len() > COLUMNS_MAX {
        let found = first.len();
        return Err(Failure::discard(format_args!("the file has {found} columns, more than {COLUMNS_MAX}")));
    }
    if !header {
        return Ok((1..=first.len()).map(|number| format!("column_{number}")).collect());
    }
    let mut names = Vec::with_capacity(first.len());
    let mut seen = BTreeSet::new();
    for (at, name) in first.iter().enumerate() {
        // A byte order mark is no part of the first name.
        let name = if at == 0 { name.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(name) } else { name };
        let name = utf8(name, line(first), at + 1)?.trim().to_owned();
        if name.is_empty() {
            return Err(Failure::discard(format_args!("column {} has no name in the header", at + 1)));
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(Failure::discard(format_args!("the name of column {} is too long for a header", at + 1)));
        }
        if !seen.insert(name.clone()) {
            return Err(Failure::discard(format_args!("the header names the column {name:?} twice")));
        }
        names.push(name);
    }
    Ok(names)
}

/// Adds a row's values to the columns.
fn take(record: &ByteRecord, columns: &mut [Column], nulls: &[String]) -> Result<(), Failure> {
    if record.len() != columns.len() {
        return Err(Failure::discard(format_args!(
            "line {}: {} values in {} columns",
            line(record),
            record.len(),
            columns.len()
        )));
    }
    for (at, (value, column)) in record.iter().zip(columns).enumerate() {
        let value = utf8(value, line(record), at + 1)?.trim();
        if value.is_empty() || nulls.iter().any(|null| null == value) {
            column.add_null();
        } else {
            column.add(value);
        }
    }
    Ok(())
}

fn utf8(value: &[u8], line: u64, column: usize) -> Result<&str, Failure> {
    std::str::from_utf8(value)
        .map_err(|_| Failure::discard(format_args!("line {line}, column {column}: the value is not UTF-8")))
}

fn line(record: &ByteRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}

fn delimiter(asked: Option<&str>) -> Result<u8, Failure> {
    match asked.unwrap_or(",").as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r' | 0) => Ok(*byte),
        _ => Err(Failure::discard("`delimiter` is one character of ASCII, and no quote or line end")),
    }
}

#[cfg(test)]
mod tests;
