//! Files of earlier schemas, kept as text: whatever becomes of the code, it reads what it once wrote.
//!
//! The loader has tables of its own and knows nothing of the store's code: it would be no proof if it changed with it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use runner_store::clock::Clock;
use runner_store::dir::SCHEMA;
use runner_store::engine::Dump;
use runner_store::engine::redb::{Commit, Redb, STEPS, migrate_file};
use runner_store::job::StateName;

use super::history;
use crate::world::*;

/// Where the text of a schema is written anew, once, by the program that writes that schema: its number.
const WRITE: &str = "RUNNER_SIM_WRITE_GOLDEN";

type Table<const N: usize, V> = TableDefinition<'static, &'static [u8; N], V>;

/// Calls a macro with each table of schema 1: its name, the width of its keys, and the type of its values.
macro_rules! schema_1 {
    ($each:ident) => {
        $each!(
            "jobs" 12 bytes, "payloads" 13 bytes, "runs" 16 bytes, "lanes" 31 nothing, "due" 20 nothing,
            "lists" 21 nothing, "counts" 14 number, "names" 4 bytes, "keys" 36 bytes, "keys_until" 44 nothing,
            "log" 8 bytes
        )
    };
}

/// The same of schema 2.
macro_rules! schema_2 {
    ($each:ident) => {
        $each!(
            "jobs" 12 bytes, "payloads" 13 bytes, "runs" 16 bytes, "lanes" 31 nothing, "due" 20 nothing,
            "lists" 21 nothing, "counts" 14 number, "names" 4 bytes, "keys" 36 bytes, "keys_until" 44 nothing,
            "log" 8 bytes, "expiry" 20 nothing, "ended" 21 nothing, "waits" 21 nothing, "tags" 20 nothing,
            "uniques" 36 bytes, "uniques_until" 44 nothing, "spreads" 12 bytes, "settings" 37 bytes, "totals" 9 number
        )
    };
}

const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

macro_rules! value_type {
    (bytes) => { &'static [u8] };
    (nothing) => { () };
    (number) => { u64 };
}
macro_rules! to_value {
    (bytes $hex:expr) => {
        unhex($hex).as_slice()
    };
    (nothing $hex:expr) => {
        ()
    };
    (number $hex:expr) => {
        u64::from_str_radix($hex, 16).unwrap()
    };
}
macro_rules! of_value {
    (bytes $value:expr) => {
        hex($value.value())
    };
    (nothing $value:expr) => {
        String::new()
    };
    (number $value:expr) => {
        format!("{:016x}", $value.value())
    };
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(pair).collect()
}

fn golden(schema: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/sim/golden/schema-{schema}.txt"))
}

/// The text of a file of an earlier schema: one line a row with table, key and value in hexadecimal.
pub(crate) fn text_of(schema: u32, path: &Path) -> String {
    let mut text = String::new();
    let db = Database::open(path).unwrap();
    let view = db.begin_read().unwrap();
    macro_rules! dump {
        ($($name:literal $width:literal $type:ident),*) => {{$(
            let table: Table<$width, value_type!($type)> = TableDefinition::new($name);
            for entry in view.open_table(table).unwrap().iter().unwrap() {
                let (key, _value) = entry.unwrap();
                writeln!(text, "{} {} {}", $name, hex(key.value()), of_value!($type _value)).unwrap();
            }
        )*}};
    }
    match schema {
        1 => schema_1!(dump),
        2 => schema_2!(dump),
        other => panic!("no tables are written down of schema {other}"),
    }
    for entry in view.open_table(META).unwrap().iter().unwrap() {
        let (key, value) = entry.unwrap();
        writeln!(text, "meta {} {:016x}", hex(key.value().as_bytes()), value.value()).unwrap();
    }
    text
}

/// Makes a file of an earlier schema from its text.
pub(crate) fn load(schema: u32, path: &Path) {
    let text = std::fs::read_to_string(golden(schema)).unwrap();
    let db = Database::create(path).unwrap();
    let write = db.begin_write().unwrap();
    let rows: Vec<[&str; 3]> = text
        .lines()
        .map(|line| {
            let mut parts = line.splitn(3, ' ');
            [(); 3].map(|()| parts.next().unwrap())
        })
        .collect();
    macro_rules! load {
        ($($name:literal $width:literal $type:ident),*) => {{$(
            let table: Table<$width, value_type!($type)> = TableDefinition::new($name);
            let mut table = write.open_table(table).unwrap();
            for [_, key, _value] in rows.iter().filter(|row| row[0] == $name) {
                let key: [u8; $width] = unhex(key).try_into().unwrap();
                table.insert(&key, to_value!($type _value)).unwrap();
            }
            drop(table);
        )*}};
    }
    match schema {
        1 => schema_1!(load),
        2 => schema_2!(load),
        other => panic!("no tables are written down of schema {other}"),
    }
    let mut meta = write.open_table(META).unwrap();
    for [_, key, value] in rows.iter().filter(|row| row[0] == "meta") {
        let key = String::from_utf8(unhex(key)).unwrap();
        meta.insert(key.as_str(), u64::from_str_radix(value, 16).unwrap()).unwrap();
    }
    drop(meta);
    write.commit().unwrap();
}

/// Not a test of its own: writes the text where it is asked for.
#[test]
fn write_the_golden_text() {
    let Some(schema) = std::env::var(WRITE).ok().and_then(|schema| schema.parse().ok()) else { return };
    assert_eq!(schema, SCHEMA, "another program writes that schema");
    let dir = quick_dir();
    let path = dir.path().join("jobs.redb");
    let clock = Clock::manual(START);
    let mut engine = Redb::create(&path, clock.clone(), Commit::TwoPhase).unwrap();
    history::write(&mut engine, &clock);
    history::write_more(&mut engine);
    drop(engine);
    std::fs::write(golden(schema), text_of(schema, &path)).unwrap();
}

/// Loads the text of a schema, brings the file up to date, and checks everything in it.
#[track_caller]
fn check_golden(schema: u32, jobs: usize) -> Dump {
    let dir = quick_dir();
    let path = dir.path().join("jobs.redb");
    load(schema, &path);
    assert_eq!(text_of(schema, &path), std::fs::read_to_string(golden(schema)).unwrap(), "the loader loses nothing");
    assert_eq!(migrate_file(&path, STEPS, SCHEMA).unwrap(), schema);
    let mut engine = Redb::open(&path, Clock::manual(START), Commit::TwoPhase).unwrap();
    assert!(engine.verify_pages().unwrap());
    let report = engine.check().unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.jobs, report.folded), (jobs as u64, jobs as u64));
    let dump = engine.dump().unwrap();
    assert!(dump.payloads.len() > 40 && dump.runs.len() > 14 && !dump.keys.is_empty());
    dump
}

#[test]
fn a_file_of_schema_1_is_read_and_clean() {
    let dump = check_golden(1, history::JOBS);
    let states: BTreeSet<StateName> = dump.jobs.iter().map(|job| job.state.name()).collect();
    let all: BTreeSet<StateName> = StateName::ALL.into_iter().filter(|state| *state != StateName::Blocked).collect();
    assert_eq!(states, all);
}

#[test]
fn a_file_of_schema_2_is_read_and_clean() {
    let dump = check_golden(2, history::JOBS + history::MORE_JOBS);
    let states: BTreeSet<StateName> = dump.jobs.iter().map(|job| job.state.name()).collect();
    assert_eq!(states, BTreeSet::from(StateName::ALL));
    assert!(!dump.waits.is_empty() && !dump.uniques.is_empty() && !dump.expiry.is_empty());
    assert!(dump.settings.len() == 2 && !dump.totals.is_empty());
}
