//! A store whose engine failed: it is noted, and the next start reads everything before it goes on.

use std::fs;
use std::path::PathBuf;

use redb::{Database, TableDefinition};
use runner_store::dir::{Create, examine};
use runner_store::engine::redb::{Commit, Redb};
use runner_store::error::StoreError;
use runner_store::job::{BootId, JobId, RunNumber};
use runner_store::slots::{self, Slots};
use runner_store::writer::step;

use super::backup::Place;
use crate::world::*;

fn open(place: &Place) -> Result<Redb, StoreError> {
    place.dir.open(Create::No, place.clock.clone(), Commit::OnePhase)
}

/// Fails the store by taking away what its engine relies on: a count that would fall below zero is a contradiction.
fn fail(place: &Place) -> PathBuf {
    const COUNTS: TableDefinition<'static, &'static [u8; 14], u64> = TableDefinition::new("counts");
    let db = Database::open(place.dir.jobs()).unwrap();
    let write = db.begin_write().unwrap();
    {
        let mut counts = write.open_table(COUNTS).unwrap();
        while counts.pop_first().unwrap().is_some() {}
    }
    write.commit().unwrap();
    drop(db);
    let mut engine = open(place).unwrap();
    let job = engine.dump().unwrap().jobs[0].id;
    let delete = runner_store::command::Command::Delete { job: at(job), force: true, cascade: false };
    let error = step(&mut engine, &[delete]).unwrap_err().to_string();
    assert!(error.contains("below zero"), "{error}");
    place.dir.failed_marker()
}

#[test]
fn a_failure_of_the_engine_is_noted_and_the_damage_found() {
    let place = Place::new();
    let marker = fail(&place);
    let noted = fs::read_to_string(&marker).unwrap();
    assert!(
        noted.starts_with("the store failed") && noted.contains("20231114T") && noted.contains("below zero"),
        "{noted}"
    );
    for _ in 0..2 {
        let refused = match open(&place) {
            Err(error @ StoreError::Unclean { .. }) => error.to_string(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was opened"),
        };
        for word in ["below zero", "the counts are not", "store restore", "store check --accept"] {
            assert!(refused.contains(word), "{word:?} is not in: {refused}");
        }
        assert!(marker.exists(), "it stays so until somebody does something");
    }
    // An operator takes it as it is.
    let mut engine = place.dir.open_unchecked(place.clock.clone(), Commit::OnePhase).unwrap();
    assert!(!examine(&mut engine).unwrap().is_clean());
    drop(engine);
    place.dir.forget_failure().unwrap();
    drop(open(&place).unwrap());
}

#[test]
fn a_store_that_is_clean_after_a_failure_goes_on() {
    let place = Place::new();
    let dump = open(&place).unwrap().dump().unwrap();
    place.dir.note_failure("the first failure", START).unwrap();
    place.dir.note_failure("a later one", START).unwrap();
    assert!(place.dir.failure().unwrap().unwrap().ends_with("the first failure"));
    let engine = open(&place).unwrap();
    assert!(!place.dir.failed_marker().exists(), "it was checked");
    assert_eq!(engine.dump().unwrap(), dump);
}

/// What was running when the store failed was ended by the node, not by the job.
#[test]
fn runs_that_were_alive_when_the_store_failed_are_interrupted() {
    let place = Place::new();
    let file = Slots::create(&place.dir.slots(), BootId(5)).unwrap();
    let run = runner_store::command::RunRef { at: at(JobId(1)), run: RunNumber(1) };
    file.enter(0, run).unwrap();
    let started = || slots::previous(&place.dir.slots()).unwrap().unwrap().started;
    assert_eq!(started(), [run]);
    place.dir.note_failure("a planted failure", START).unwrap();
    drop(open(&place).unwrap());
    assert_eq!(started(), []);
}

#[test]
fn damage_that_only_the_pages_show_is_found_after_a_failure() {
    let place = Place::new();
    let mut bytes = fs::read(place.dir.jobs()).unwrap();
    let text = b"{\"to\": \"ops\"}";
    let at = bytes.windows(text.len()).rposition(|window| window == text).unwrap();
    bytes[at] ^= 1;
    fs::write(place.dir.jobs(), &bytes).unwrap();
    drop(open(&place).unwrap());
    place.dir.note_failure("a planted failure", START).unwrap();
    assert!(matches!(open(&place), Err(StoreError::Unclean { .. })));
}

#[test]
fn a_torn_note_is_a_note_and_a_failure_that_cannot_be_noted_is_said() {
    let place = Place::new();
    fs::write(place.dir.failed_marker(), b"").unwrap();
    assert_eq!(place.dir.failure().unwrap().as_deref(), Some("it was not noted how"));
    drop(open(&place).unwrap());
    assert_eq!(place.dir.failure().unwrap(), None);
    // A folder in the way of the note's temporary name: nothing can be written.
    fs::create_dir(place.path("store/store.failed.new")).unwrap();
    let error = place.dir.note_failure("a planted failure", START).unwrap_err().to_string();
    assert!(error.contains("noting that the store failed"), "{error}");
}
