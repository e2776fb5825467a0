//! Handlers in every language do the same: each behaviour of `plugin-sdk/conformance/behaviours.toml` against the test
//! handler of each language that `plugins/build` has made.
//!
//! A language that was not built, as its tools are not there, is said so loudly and left out; what was built must do
//! everything. The table of the documentation, `plugin-sdk/conformance/TABLE.md`, must be that of this run.

mod behaviours;
mod run;
mod server;
mod table;

use std::path::{Path, PathBuf};

use self::behaviours::Behaviour;
use self::run::Subject;
use self::table::Cell;

/// How a language's test handler is called in the table, and its file without the ending.
const LANGUAGES: [Language; 7] = [
    Language { title: "Rust", file: "rust.wasm" },
    Language { title: "C", file: "c.wasm" },
    Language { title: "Go", file: "go.wasm" },
    Language { title: "Go, WASI command", file: "go-command.wasm" },
    Language { title: "JavaScript, bare", file: "js.js" },
    Language { title: "TypeScript", file: "ts.js" },
    Language { title: "Python", file: "python.wasm" },
];

#[derive(Debug, Clone, Copy)]
struct Language {
    title: &'static str,
    file: &'static str,
}

fn sdk() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-sdk/conformance")
}

/// Where `plugins/build` puts the test handlers.
fn made() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/target/conformance")
}

/// What runs scripts.
fn engine() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist/js-engine.wasm")
}

#[test]
fn every_language_does_everything_and_the_table_says_so() {
    let behaviours = behaviours::read(&sdk().join("behaviours.toml"));
    let place = run::Place::new();
    let (mut columns, mut wrong) = (Vec::new(), Vec::new());
    for language in LANGUAGES {
        let file = made().join(language.file);
        if !file.is_file() {
            eprintln!("NOT TESTED: {} ({} is not built; `plugins/build` says why)", language.title, file.display());
            continue;
        }
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

fn checked(place: &run::Place, subject: &Subject, behaviour: &Behaviour) -> Result<Cell, String> {
    if subject.is_command && behaviour.needs.as_deref() == Some("calls") {
        return Ok(Cell::NotForCommands);
    }
    let report = place.run(subject, behaviour);
    behaviours::check(behaviour, &report).map(|()| Cell::Done).map_err(|why| {
        format!("{why}\n    outcome {:?}\n    log {}", report.outcome, report.log.shown().replace('\n', "\n        "))
    })
}
