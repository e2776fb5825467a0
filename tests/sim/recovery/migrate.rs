//! Bringing an older store up to date: all of it or nothing, after a backup, and begun again wherever it was stopped.
//! The step is one of the test's own, from schema to schema + 1.

use std::fs;

use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition, WriteTransaction};
use runner_store::dir::{Create, Migrated, SCHEMA, StoreDir};
use runner_store::engine::redb::{Step, migrate_file, schema_of};
use runner_store::error::StoreError;

use super::backup::Place;
use super::{golden, history};
use crate::world::*;

const LATER: TableDefinition<'static, &'static [u8; 4], &'static [u8]> = TableDefinition::new("of_later");
const NEXT: u32 = SCHEMA + 1;

fn add_a_table(into: &WriteTransaction) -> Result<(), StoreError> {
    let failed = |error: &dyn std::fmt::Display| StoreError::Engine(error.to_string());
    let mut later = into.open_table(LATER).map_err(|error| failed(&error))?;
    assert!(later.is_empty().unwrap(), "the step was taken twice");
    later.insert(&[0; 4], b"derived".as_slice()).map_err(|error| failed(&error))?;
    Ok(())
}

fn add_a_table_and_fail(into: &WriteTransaction) -> Result<(), StoreError> {
    add_a_table(into)?;
    Err(StoreError::Engine("a planted failure".to_owned()))
}

fn steps(apply: fn(&WriteTransaction) -> Result<(), StoreError>) -> [Step; 1] {
    [Step { from: SCHEMA, apply }]
}

fn migrate(dir: &StoreDir, with_backup: bool) -> Result<Migrated, StoreError> {
    dir.migrate_by(&steps(add_a_table), NEXT, with_backup, START)
}

#[track_caller]
fn check_migrated(dir: &StoreDir) {
    assert_eq!((dir.marker().unwrap().schema, schema_of(&dir.jobs()).unwrap()), (NEXT, NEXT));
    let db = Database::open(dir.jobs()).unwrap();
    let later = db.begin_read().unwrap().open_table(LATER).unwrap();
    assert_eq!(later.get(&[0; 4]).unwrap().unwrap().value(), b"derived");
}

fn has_table(dir: &StoreDir) -> bool {
    Database::open(dir.jobs()).unwrap().begin_read().unwrap().open_table(LATER).is_ok()
}

#[test]
fn a_store_is_brought_up_to_date_after_a_backup_beside_it() {
    let place = Place::new();
    let id = place.dir.marker().unwrap().id;
    let before = place.open(&place.dir).dump().unwrap();
    let migrated = migrate(&place.dir, true).unwrap();
    assert_eq!((migrated.from, migrated.to), (SCHEMA, NEXT));
    check_migrated(&place.dir);
    assert_eq!(place.dir.marker().unwrap().id, id, "it is the same store");
    let backup = StoreDir::new(migrated.backup.unwrap());
    assert_eq!(backup.path().parent(), Some(place.parent.path().canonicalize().unwrap().as_path()));
    assert_eq!(place.open(&backup).dump().unwrap(), before, "the backup is what an older program reads");
    let refused = place.dir.open(Create::No, place.clock.clone(), Default::default());
    assert!(matches!(refused, Err(StoreError::Newer { found: NEXT, .. })), "an older program leaves it alone");

    let again = migrate(&place.dir, true).unwrap();
    assert_eq!((again.from, again.backup), (NEXT, None), "there is nothing to do");
    check_migrated(&place.dir);
}

#[test]
fn a_step_that_fails_changes_nothing() {
    let place = Place::new();
    let before = place.open(&place.dir).dump().unwrap();
    let failed = place.dir.migrate_by(&steps(add_a_table_and_fail), NEXT, false, START);
    assert!(matches!(failed, Err(StoreError::Engine(_))), "{failed:?}");
    assert!(!has_table(&place.dir));
    assert_eq!(place.open(&place.dir).dump().unwrap(), before);
    assert_eq!(migrate(&place.dir, false).unwrap().backup, None);
    check_migrated(&place.dir);
}

/// Killed after the backup, after half of a backup, or between the transaction and the marker.
#[test]
fn a_migration_that_was_interrupted_anywhere_is_begun_again() {
    let place = Place::new();
    let copy = format!("store.schema-{SCHEMA}.20231114T221320.000Z");
    fs::create_dir(place.path(&format!("{copy}.unfinished"))).unwrap();
    fs::write(place.path(&format!("{copy}.unfinished/jobs.redb")), b"half").unwrap();
    migrate(&place.dir, true).unwrap();
    check_migrated(&place.dir);
    assert_eq!(place.names(), ["store", &copy]);

    let place = Place::new();
    assert_eq!(migrate_file(&place.dir.jobs(), &steps(add_a_table), NEXT).unwrap(), SCHEMA);
    assert_eq!(place.dir.marker().unwrap().schema, SCHEMA, "killed before the marker");
    let refused = place.dir.open(Create::No, place.clock.clone(), Default::default());
    assert!(matches!(refused, Err(StoreError::Newer { found: NEXT, .. })), "the file is right, not the marker");
    assert_eq!(migrate(&place.dir, true).unwrap().backup, None, "the transaction is done, only the marker is missing");
    check_migrated(&place.dir);
}

/// Puts a file of schema 1, which has no number of its schema in it, into the store's folder.
fn golden_in(place: &Place) {
    fs::remove_file(place.dir.jobs()).unwrap();
    golden::load(1, &place.dir.jobs());
}

#[test]
fn a_store_of_schema_1_is_brought_up_to_date() {
    let place = Place::new();
    golden_in(&place);
    assert_eq!(schema_of(&place.dir.jobs()).unwrap(), 1);
    let migrated = place.dir.migrate(true, START).unwrap();
    assert_eq!((migrated.from, migrated.to), (1, SCHEMA));
    let engine = place.open(&place.dir);
    let report = engine.check().unwrap();
    assert_eq!((report.findings.as_slice(), report.jobs), ([].as_slice(), history::JOBS as u64));
}

#[test]
fn what_cannot_be_brought_up_to_date_is_named() {
    let place = Place::new();
    let no_way = place.dir.migrate_by(&[], NEXT, false, START).unwrap_err().to_string();
    assert!(no_way.contains(&format!("knows no way to {NEXT}")), "{no_way}");
    let held = place.open(&place.dir);
    assert!(matches!(migrate(&place.dir, true), Err(StoreError::InUse(ref path)) if path == place.dir.path()));
    drop(held);
    fs::write(place.path("store/store.marker"), "runner store\nschema 99\nid 1\n").unwrap();
    assert!(matches!(migrate(&place.dir, true), Err(StoreError::Newer { found: 99, .. })));
    let nowhere = StoreDir::new(place.path("nowhere"));
    assert!(matches!(migrate(&nowhere, true), Err(StoreError::Missing(_))));
    assert_eq!(place.names(), ["store"]);
}

/// Schema 3 had everything but what kinds listen to and what was heard.
#[test]
fn a_store_of_schema_3_is_brought_up_to_date() {
    let place = Place::new();
    let before = place.open(&place.dir).dump().unwrap();
    let db = Database::open(place.dir.jobs()).unwrap();
    let write = db.begin_write().unwrap();
    let heard: TableDefinition<'static, &'static [u8; 8], &'static [u8]> = TableDefinition::new("heard");
    let subscriptions: TableDefinition<'static, &'static [u8; 4], &'static [u8]> =
        TableDefinition::new("subscriptions");
    let meta: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");
    assert!(write.delete_table(heard).unwrap() && write.delete_table(subscriptions).unwrap());
    write.open_table(meta).unwrap().insert("schema", 3).unwrap();
    write.commit().unwrap();
    drop(db);
    let marker = fs::read_to_string(place.path("store/store.marker")).unwrap();
    let older = marker.replace(&format!("schema {SCHEMA}"), "schema 3");
    fs::write(place.path("store/store.marker"), older).unwrap();
    let refused = place.dir.open(Create::No, place.clock.clone(), Default::default());
    assert!(matches!(refused, Err(StoreError::Older { found: 3, .. })), "it says so");
    let migrated = place.dir.migrate(true, START).unwrap();
    assert_eq!((migrated.from, migrated.to), (3, SCHEMA));
    let engine = place.open(&place.dir);
    assert_eq!(engine.dump().unwrap(), before);
    assert!(engine.check().unwrap().is_clean());
}
