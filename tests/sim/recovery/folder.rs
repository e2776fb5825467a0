//! The folder of a store: when it is made, when it is opened, and what is refused in which words.

use std::fs;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use runner_store::clock::Clock;
use runner_store::dir::{Create, SCHEMA, StoreDir};
use runner_store::engine::redb::{Commit, Redb};
use runner_store::error::StoreError;
use runner_store::job::JobId;
use runner_store::writer::step;

use crate::world::*;

const HOLDER: &str = "RUNNER_SIM_HOLDER";

fn open(dir: &Path, create: Create) -> Result<Redb, StoreError> {
    StoreDir::new(dir).open(create, Clock::manual(START), Commit::OnePhase)
}

/// A folder with a store that has one job.
fn make(dir: &Path) {
    let mut engine = open(dir, Create::NewFolder).unwrap();
    let (decision, _) = step(&mut engine, &[enqueue(vec![work()])]).unwrap();
    assert_eq!(ids(&decision.replies[0]), [JobId(1)]);
}

/// A store is made, the folder changed, and then opening it is refused in words that have these in them.
#[track_caller]
fn check_refused(change: impl FnOnce(&Path), create: Create, words: &[&str]) {
    let parent = quick_dir();
    let dir = parent.path().join("store");
    make(&dir);
    change(&dir);
    let error = match open(&dir, create) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    };
    for word in words.iter().chain(&["store"]) {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
    assert!(error.contains(dir.to_str().unwrap()), "it does not say where: {error}");
}

#[test]
fn a_store_is_made_where_that_is_allowed() {
    let parent = quick_dir();
    let new = parent.path().join("a").join("b");
    assert!(matches!(open(&new, Create::No), Err(StoreError::Missing(_))));
    assert!(!new.exists(), "what was refused left nothing");
    let there = parent.path().join("there");
    fs::create_dir(&there).unwrap();
    assert!(matches!(open(&there, Create::NewFolder), Err(StoreError::Missing(_))), "an unmounted volume looks so");
    assert!(fs::read_dir(&there).unwrap().next().is_none());
    for (dir, create) in [(&new, Create::NewFolder), (&there, Create::Yes)] {
        make_and_open_again(dir, create);
    }
}

#[track_caller]
fn make_and_open_again(dir: &Path, create: Create) {
    let mut engine = open(dir, create).unwrap();
    step(&mut engine, &[enqueue(vec![work()])]).unwrap();
    drop(engine);
    for create in [Create::No, Create::NewFolder, Create::Yes] {
        let engine = open(dir, create).unwrap();
        assert_eq!(engine.dump().unwrap().jobs.len(), 1, "opened, not made anew");
    }
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["jobs.redb", "store.marker"]);
}

#[test]
fn a_folder_that_is_not_a_whole_store_is_refused() {
    let marker = |dir: &Path| dir.join("store.marker");
    let remove = |path| fs::remove_file(path).unwrap();
    check_refused(|dir| remove(marker(dir)), Create::NewFolder, &["mount it", "init"]);
    check_refused(|dir| remove(marker(dir)), Create::Yes, &["no marker"]);
    check_refused(|dir| remove(dir.join("jobs.redb")), Create::Yes, &["jobs.redb is gone", "backup"]);
    let write = |dir: &Path, text: &str| fs::write(marker(dir), text).unwrap();
    let (later, known) = (format!("schema {}", SCHEMA + 1), format!("up to {SCHEMA}"));
    let newer = |dir: &Path| write(dir, &format!("runner store\n{later}\nid 1\n"));
    check_refused(newer, Create::No, &[&later, &known]);
    check_refused(|dir| write(dir, "runner store\nschema 0\nid 1\n"), Create::No, &["schema 0"]);
    check_refused(|dir| write(dir, ""), Create::No, &["not a marker"]);
    check_refused(|dir| write(dir, "something else\nschema 1\n"), Create::No, &["not a marker"]);
    check_refused(|dir| fs::write(marker(dir), [0xff; 9]).unwrap(), Create::No, &["marker"]);
}

#[test]
fn a_file_where_the_folder_should_be_is_refused() {
    let parent = quick_dir();
    let path = parent.path().join("file");
    fs::write(&path, "text").unwrap();
    assert!(matches!(open(&path, Create::Yes), Err(StoreError::Foreign { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"text");
}

#[test]
fn a_file_that_is_not_ours_is_refused() {
    let jobs = |dir: &Path| dir.join("jobs.redb");
    check_refused(|dir| fs::write(jobs(dir), "").unwrap(), Create::No, &["empty", "backup"]);
    check_refused(|dir| fs::write(jobs(dir), "no redb").unwrap(), Create::No, &["jobs.redb"]);
    check_refused(|dir| fs::write(jobs(dir), vec![b'x'; 100_000]).unwrap(), Create::No, &["jobs.redb"]);
    let other = |dir: &Path| {
        fs::remove_file(jobs(dir)).unwrap();
        drop(redb::Database::create(jobs(dir)).unwrap());
    };
    check_refused(other, Create::No, &["jobs.redb", "not"]);
}

/// A process died while it made the store: whatever step it had reached, the next start makes or finishes it, and a store
/// that is being made by another process is left alone.
#[test]
fn a_creation_that_was_interrupted_anywhere_is_begun_again_or_finished() {
    let parent = quick_dir();
    let before_the_marker = parent.path().join("a");
    fs::create_dir(&before_the_marker).unwrap();
    fs::write(before_the_marker.join("jobs.redb.new"), b"half of something").unwrap();
    assert!(matches!(open(&before_the_marker, Create::No), Err(StoreError::Missing(_))));
    drop(open(&before_the_marker, Create::NewFolder).unwrap());
    drop(open(&before_the_marker, Create::No).unwrap());

    let before_the_name = parent.path().join("b");
    make(&before_the_name);
    let (name, unfinished) = (before_the_name.join("jobs.redb"), before_the_name.join("jobs.redb.new"));
    fs::rename(&name, &unfinished).unwrap();
    drop(open(&before_the_name, Create::No).unwrap());
    assert!(name.exists() && !unfinished.exists());

    fs::rename(&name, &unfinished).unwrap();
    let maker = fs::File::open(&unfinished).unwrap();
    maker.try_lock().unwrap();
    assert!(matches!(open(&before_the_name, Create::No), Err(StoreError::InUse(_))));
    fs::remove_file(before_the_name.join("store.marker")).unwrap();
    assert!(matches!(open(&before_the_name, Create::NewFolder), Err(StoreError::InUse(_))));
}

#[test]
fn a_second_opening_in_the_same_process_is_refused() {
    let parent = quick_dir();
    let dir = parent.path().join("store");
    make(&dir);
    let _first = open(&dir, Create::No).unwrap();
    assert!(matches!(open(&dir, Create::No), Err(StoreError::InUse(path)) if path == dir));
}

#[test]
fn a_second_process_is_refused_at_once() {
    let parent = quick_dir();
    let dir = parent.path().join("store");
    make(&dir);
    let _first = open(&dir, Create::No).unwrap();
    let out = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", "recovery::folder::second_process", "--nocapture"])
        .env(HOLDER, &dir)
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let out = String::from_utf8(out.stdout).unwrap();
    assert!(out.contains("another process has this store open"), "{out}");
}

/// Not a test of its own: the second process.
#[test]
fn second_process() {
    let Some(dir) = std::env::var_os(HOLDER) else { return };
    match open(Path::new(&dir), Create::No) {
        Ok(_) => println!("opened"),
        Err(error) => println!("{error}"),
    }
}
