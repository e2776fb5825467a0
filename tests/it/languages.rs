//! Handlers in every language do the same: each behaviour of `plugin-sdk/conformance/behaviours.toml` against the test
//! handler of each language that `plugins/build` has made.
//!
//! A language that was not built, as its tools are not there, is said so loudly and left out; what was built must do
//! everything. The table of the documentation, `plugin-sdk/conformance/TABLE.md`, must be that of this run.

mod behaviours;
mod mixed;
mod run;
mod scripts;
mod server;
mod table;

use std::path::{Path, PathBuf};

use runner_runtime::wasm::JobView;
use runner_store::job::outcome::Outcome;

use self::behaviours::Behaviour;
use self::mixed::LANGUAGES;
use self::run::Subject;
use self::table::Cell;

fn sdk() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-sdk/conformance")
}

/// Where the run's own table goes.
fn made() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/target/conformance")
}

/// Enough that all languages run beside each other; the bench `languages` has ten thousand.
const MIXED_JOBS: usize = 420;

/// A language that cannot be tested is none that works.
fn not_built(language: &mixed::Language) {
    eprintln!("NOT TESTED: {} (it is not built; `plugins/build` says why)", language.title);
}

#[test]
fn every_language_does_everything_and_the_table_says_so() {
    let behaviours = behaviours::read(&sdk().join("behaviours.toml"));
    let place = run::Place::new();
    let (mut columns, mut wrong) = (Vec::new(), Vec::new());
    for language in LANGUAGES {
        let Some(file) = language.file() else {
            not_built(&language);
            continue;
        };
        let subject = place.load(&file);
        let cells: Vec<Cell> = behaviours
            .iter()
            .map(|behaviour| match checked(&place, &subject, behaviour) {
                Ok(cell) => cell,
                Err(why) => {
                    wrong.push(format!("{}: {}: {why}", language.title, behaviour.name));
                    Cell::Wrong
                }
            })
            .collect();
        columns.push((language.title, cells));
    }
    assert!(!columns.is_empty(), "no language is built: run plugins/build first");
    assert!(wrong.is_empty(), "{} behaviours are not as they must be:\n{}", wrong.len(), wrong.join("\n"));
    table::check(&sdk().join("TABLE.md"), &made().join("TABLE.md"), &behaviours, &columns);
}

#[test]
fn jobs_of_all_languages_at_once_all_complete() {
    let place = tempfile::tempdir().unwrap();
    LANGUAGES.iter().filter(|language| language.file().is_none()).for_each(not_built);
    println!("{}", mixed::run(place.path(), MIXED_JOBS));
}

/// The C library asked for the folders that it was given before each run of a handler that can open a file, and grew its memory to
/// hold the answer: three times what the run itself took, as there are no folders.
#[test]
fn a_run_of_c_that_does_nothing_asks_for_nothing() {
    let c = LANGUAGES.iter().find(|language| language.title == "C").expect("is one of them");
    let Some(file) = c.file() else { return not_built(c) };
    let place = run::Place::new();
    let nothing =
        JobView { kind: "conformance".to_owned(), args: br#"{"do": "nothing"}"#.to_vec(), ..JobView::default() };
    let report = place.run_job(&place.load(&file), nothing, None);
    assert_eq!(report.outcome, Outcome::Completed { output: Vec::new() });
    assert_eq!((report.host_calls, report.memory_peak_bytes), (0, 128 << 10));
}

fn checked(place: &run::Place, subject: &Subject, behaviour: &Behaviour) -> Result<Cell, String> {
    if subject.is_command && behaviour.needs.as_deref() == Some("calls") {
        return Ok(Cell::NotForCommands);
    }
    let report = place.run(subject, behaviour);
    behaviours::check(behaviour, &report).map(|()| Cell::Done).map_err(|why| {
        format!("{why}\n    outcome {:?}\n    log {}", report.outcome, report.log.shown().replace('\n', "\n        "))
    })
}
