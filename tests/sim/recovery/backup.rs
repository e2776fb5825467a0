//! Backups: everything is in them, they are made while the store is written to, and what stands in their way is named.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{Database, TableDefinition};
use runner_store::clock::Clock;
use runner_store::dir::{Create, LiveStore, StoreDir, examine};
use runner_store::engine::redb::{Commit, Redb};
use runner_store::error::StoreError;
use runner_store::writer::step;
use tempfile::TempDir;

use super::golden::text_of;
use super::history;
use crate::world::*;

/// A store with a rich history, and a place for its backups.
pub(crate) struct Place {
    pub(crate) parent: TempDir,
    pub(crate) dir: StoreDir,
    pub(crate) clock: Clock,
}

impl Place {
    pub(crate) fn new() -> Self {
        let parent = quick_dir();
        let dir = StoreDir::new(parent.path().join("store"));
        let clock = Clock::manual(START);
        let mut engine = dir.open(Create::NewFolder, clock.clone(), Commit::OnePhase).unwrap();
        history::write(&mut engine, &clock);
        history::write_kept(&mut engine);
        Self { parent, dir, clock }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.parent.path().join(name)
    }

    pub(crate) fn open(&self, dir: &StoreDir) -> Redb {
        dir.open(Create::No, self.clock.clone(), Commit::OnePhase).unwrap()
    }

    pub(crate) fn back_up(&self, name: &str) -> StoreDir {
        let engine = self.open(&self.dir);
        self.dir.live(&engine).backup(&self.path(name), &|| true).unwrap();
        StoreDir::new(self.path(name))
    }

    /// The names in the place.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.parent.path()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn live(place: &Place) -> (Redb, LiveStore) {
    let engine = place.open(&place.dir);
    let live = place.dir.live(&engine);
    (engine, live)
}

#[test]
fn a_backup_has_every_row_of_every_table() {
    let place = Place::new();
    let engine = place.open(&place.dir);
    let made = place.dir.live(&engine).backup(&place.path("backup"), &|| true).unwrap();
    let dump = engine.dump().unwrap();
    drop(engine);
    let backup = StoreDir::new(place.path("backup"));
    assert_eq!(text_of(2, &backup.jobs()), text_of(2, &place.dir.jobs()), "row by row");
    assert_eq!((made.path.as_path(), made.jobs), (backup.path(), history::JOBS as u64));
    assert_eq!(made.bytes, fs::metadata(backup.jobs()).unwrap().len());
    assert_eq!(backup.marker().unwrap(), place.dir.marker().unwrap());
    let mut copy = place.open(&backup);
    assert_eq!(copy.dump().unwrap(), dump);
    step(&mut copy, &[enqueue(vec![work()])]).unwrap();
    assert!(examine(&mut copy).unwrap().is_clean(), "it is a store like any other");
    assert_eq!(place.names(), ["backup", "store"]);
}

/// What is written after a backup has begun is not in it, and nothing of what was written before is missing.
#[test]
fn a_backup_is_of_one_moment_while_the_store_goes_on() {
    let place = Place::new();
    let engine = place.open(&place.dir);
    let live = place.dir.live(&engine);
    let engine = std::sync::Mutex::new(engine);
    let dump = engine.lock().unwrap().dump().unwrap();
    let pieces = AtomicU64::new(0);
    let write_meanwhile = || {
        pieces.fetch_add(1, Ordering::SeqCst);
        step(&mut *engine.lock().unwrap(), &[enqueue(vec![work(); 500])]).unwrap();
        true
    };
    let made = live.backup(&place.path("backup"), &write_meanwhile).unwrap();
    assert!(pieces.into_inner() > 5);
    assert!(made.grown_bytes > 0, "old pages were kept, and that is said");
    assert_eq!(place.open(&StoreDir::new(place.path("backup"))).dump().unwrap(), dump);
    assert!(engine.lock().unwrap().check().unwrap().is_clean());
}

/// A check of a store in use sees one moment of it, and ends when it is told to.
#[test]
fn a_check_is_of_one_moment_while_the_store_goes_on() {
    let place = Place::new();
    let mut engine = place.open(&place.dir);
    (0..3).for_each(|_| _ = step(&mut engine, &[enqueue(vec![work(); 500])]).unwrap());
    let live = place.dir.live(&engine);
    let jobs = engine.check().unwrap().jobs;
    let engine = std::sync::Mutex::new(engine);
    let asked = AtomicU64::new(0);
    let write_meanwhile = || {
        asked.fetch_add(1, Ordering::SeqCst);
        step(&mut *engine.lock().unwrap(), &[enqueue(vec![work(); 10])]).unwrap();
        true
    };
    let report = live.check(&write_meanwhile).unwrap();
    assert_eq!((report.jobs, report.wrong), (jobs, 0), "{report:?}");
    let asked = asked.into_inner();
    assert!(asked > 3, "{asked}");
    assert_eq!(live.check(&|| true).unwrap().jobs, jobs + 10 * asked);
    assert!(matches!(live.check(&|| false), Err(StoreError::Stopped(_))));
}

#[test]
fn a_backup_that_was_told_to_stop_leaves_nothing() {
    let place = Place::new();
    let (_engine, live) = live(&place);
    let stopped = live.backup(&place.path("backup"), &|| false);
    assert!(matches!(stopped, Err(StoreError::Stopped(_))), "{stopped:?}");
    assert_eq!(place.names(), ["store"]);
}

#[test]
fn what_an_interrupted_backup_left_is_removed_by_the_next_and_nothing_else_is() {
    let place = Place::new();
    let (_engine, live) = live(&place);
    let unfinished = place.path("backup.unfinished");
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("jobs.redb"), b"half of something").unwrap();
    live.backup(&place.path("backup"), &|| true).unwrap();
    assert_eq!(place.names(), ["backup", "store"]);

    fs::create_dir(place.path("other.unfinished")).unwrap();
    fs::write(place.path("other.unfinished/thesis.txt"), b"years of work").unwrap();
    check_refused(&live, &place.path("other"), &["other.unfinished", "thesis.txt", "look at it"]);
    assert_eq!(fs::read(place.path("other.unfinished/thesis.txt")).unwrap(), b"years of work");
}

/// Two backups to one place: the second does not pull the ground from under the first.
#[test]
fn a_backup_that_is_being_made_is_left_alone() {
    let place = Place::new();
    let (_engine, live) = live(&place);
    let again = || {
        let second = live.backup(&place.path("backup"), &|| true);
        assert!(matches!(second, Err(StoreError::InUse(_))), "{second:?}");
        true
    };
    live.backup(&place.path("backup"), &again).unwrap();
    live.backup(&place.path("with-a-slash/"), &|| true).unwrap();
    assert_eq!(place.names(), ["backup", "store", "with-a-slash"]);
}

#[track_caller]
fn check_refused(live: &LiveStore, destination: &Path, words: &[&str]) {
    let error = live.backup(destination, &|| true).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn destinations_that_are_none_are_named() {
    let place = Place::new();
    let (_engine, live) = live(&place);
    check_refused(&live, place.dir.path(), &["store: is there already", "choose another name"]);
    fs::write(place.path("file"), b"").unwrap();
    check_refused(&live, &place.path("file"), &["is there already"]);
    check_refused(&live, &place.path("none/backup"), &["none: is no folder", "make it first, or mount it"]);
    check_refused(&live, &place.path("file/backup"), &["file: is no folder"]);
    check_refused(&live, Path::new("/"), &["give the name of a folder"]);
    std::os::unix::fs::symlink("/nowhere", place.path("link")).unwrap();
    check_refused(&live, &place.path("link"), &["is there already"]);
}

/// A store whose tables contradict each other is not backed up as if all were well.
#[test]
fn a_damaged_store_makes_no_backup() {
    const LANES: TableDefinition<'static, &'static [u8; 31], ()> = TableDefinition::new("lanes");
    let place = Place::new();
    let db = Database::open(place.dir.jobs()).unwrap();
    let write = db.begin_write().unwrap();
    write.open_table(LANES).unwrap().insert(&[7; 31], ()).unwrap();
    write.commit().unwrap();
    drop(db);
    let (_engine, live) = live(&place);
    check_refused(&live, &place.path("backup"), &["things wrong, as has the store", "table lanes"]);
    assert_eq!(place.names(), ["store"]);
}

#[test]
fn a_store_is_made_smaller_and_measured() {
    let place = Place::new();
    let mut engine = place.open(&place.dir);
    for _ in 0..20 {
        step(&mut engine, &[enqueue(vec![work_with(|spec| spec.args = vec![b'x'; 100_000]); 10])]).unwrap();
    }
    let dump = engine.dump().unwrap();
    let gone = dump.jobs.iter().filter(|job| job.id.0 > 100).map(|job| job.at());
    let deletes: Vec<_> =
        gone.map(|job| runner_store::command::Command::Delete { job, force: true, cascade: false }).collect();
    step(&mut engine, &deletes).unwrap();
    let dump = engine.dump().unwrap();
    let full = place.dir.live(&engine).stats().unwrap();
    let refused = place.dir.compact();
    assert!(matches!(refused, Err(StoreError::InUse(_))), "{refused:?}");
    // As a killed process leaves it: a file that is closed in order shrinks by itself.
    let killed = fs::read(place.dir.jobs()).unwrap();
    drop(engine);
    fs::write(place.dir.jobs(), killed).unwrap();
    let compacted = place.dir.compact().unwrap();
    assert_eq!(compacted.before_bytes, full.file_bytes);
    assert!(compacted.after_bytes < compacted.before_bytes / 2, "{compacted:?}");
    let engine = place.open(&place.dir);
    assert_eq!(engine.dump().unwrap(), dump);
    let stats = place.dir.live(&engine).stats().unwrap();
    assert!(stats.free_bytes < full.free_bytes / 2 && stats.file.live_bytes() <= stats.file_bytes);
    let rows = |name| stats.file.tables.iter().find(|table| table.name == name).unwrap().rows;
    assert_eq!(rows("jobs"), dump.jobs.len() as u64);
    assert_eq!(rows("log"), dump.log.len() as u64);
    assert_eq!(stats.file.oldest_event, dump.log.first().map(|entry| entry.seq));
    assert_eq!(stats.file.newest_event, dump.log.last().map(|entry| entry.seq));
    assert_eq!((stats.file.meta.epoch, stats.file.meta.schema), (1, runner_store::dir::SCHEMA));
}
