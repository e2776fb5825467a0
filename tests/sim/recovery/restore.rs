//! Restores: the same jobs in a new epoch, whose numbers were never given out, with no lease of the time before.

use std::collections::BTreeSet;
use std::fs;

use runner_store::command::{Command, NewToken, TokenCall, TokenVerb};
use runner_store::dir::{Restored, StoreDir, Tokens};
use runner_store::engine::Dump;
use runner_store::error::StoreError;
use runner_store::job::{JobId, Seq, StateName};
use runner_store::token::{TokenHash, TokenScope};
use runner_store::writer::step;

use super::backup::Place;
use crate::world::*;

const EPOCH: u64 = 1 << 32;

fn restore(place: &Place, from: &StoreDir, to: &str, replace: bool) -> Result<Restored, StoreError> {
    StoreDir::new(place.path(to)).restore(from, replace, Tokens::Suspend, place.clock.now())
}

fn dump(place: &Place, dir: &StoreDir) -> Dump {
    let engine = place.open(dir);
    let report = engine.check().unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    engine.dump().unwrap()
}

#[test]
fn a_restored_store_has_the_same_jobs_in_a_new_epoch() {
    let place = Place::new();
    let backup = place.back_up("backup");
    let before = dump(&place, &backup);
    let restored = restore(&place, &backup, "deep/er/restored", false).unwrap();
    assert_eq!((restored.meta.epoch, restored.meta.paused), (2, true));
    assert_eq!((restored.meta.next_job, restored.meta.next_seq), (JobId(EPOCH), Seq(EPOCH)));
    assert_eq!((restored.meta.restored_first_seq, restored.replaced.as_ref()), (Some(Seq(EPOCH)), None));

    let dir = StoreDir::new(place.path("deep/er/restored"));
    let after = dump(&place, &dir);
    let running = |dump: &Dump| dump.jobs.iter().filter(|job| job.state.name() == StateName::Running).count();
    assert!(running(&before) > 2 && running(&after) == 0, "every lease is void");
    assert_eq!(restored.interrupted as usize, running(&before));
    assert_eq!(restored.counts, after.counts);
    assert_eq!(restored.names, after.names);
    let ids = |dump: &Dump| dump.jobs.iter().map(|job| job.id).collect::<BTreeSet<_>>();
    assert_eq!(ids(&after), ids(&before));
    for (was, is) in before.jobs.iter().zip(&after.jobs) {
        match was.state.name() {
            StateName::Running => assert_eq!(is.crashes, was.crashes, "interrupted, not crashed"),
            _ => assert_eq!(was, is),
        }
    }
    assert_eq!((before.payloads, before.keys), (after.payloads, after.keys));
    assert_eq!(dir.marker().unwrap(), backup.marker().unwrap());

    let mut engine = place.open(&dir);
    assert!(engine.paused().unwrap() && engine.epoch().unwrap() == 2);
    let (decision, _) = step(&mut engine, &[enqueue(vec![work()])]).unwrap();
    assert_eq!(crate::world::ids(&decision.replies[0]), [JobId(EPOCH)], "ids go on where none was given out");
    assert!(engine.check().unwrap().is_clean(), "the gap in the log is no damage");
    engine.set_paused(false).unwrap();
    assert!(!engine.paused().unwrap());
    drop(engine);
    let names: BTreeSet<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, BTreeSet::from(["jobs.redb".into(), "store.marker".into()]));
    assert_eq!(dump_of_twice(&place, &dir), 3, "a restored store can be restored");
}

fn dump_of_twice(place: &Place, dir: &StoreDir) -> u64 {
    let restored = restore(place, dir, "twice", false).unwrap();
    assert_eq!((restored.meta.next_job, restored.meta.next_seq), (JobId(2 * EPOCH), Seq(2 * EPOCH)));
    assert!(dump(place, &StoreDir::new(place.path("twice"))).log.len() > 90);
    restored.meta.epoch
}

#[test]
fn a_store_that_is_there_is_replaced_only_when_asked_and_kept() {
    let place = Place::new();
    let backup = place.back_up("backup");
    let mut engine = place.open(&place.dir);
    // The store goes on after its backup, and gives out ids that must never come again.
    step(&mut engine, &[Command::ReserveIds { n: 10 }, enqueue(vec![work()])]).unwrap();
    drop(engine);
    let old = dump(&place, &place.dir);
    let refused = restore(&place, &backup, "store", false).unwrap_err().to_string();
    assert!(refused.contains("has a store already") && refused.contains("--replace"), "{refused}");
    assert_eq!(dump(&place, &place.dir), old);

    let restored = restore(&place, &backup, "store", true).unwrap();
    let kept = StoreDir::new(restored.replaced.unwrap());
    let name = kept.path().file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("replaced-202311"), "{name}");
    assert_eq!(dump(&place, &kept), old, "the store that was there is whole");
    assert_eq!(dump(&place, &place.dir).jobs.len() + 1, old.jobs.len());

    // Again the same backup: this epoch is not that epoch.
    let mut engine = place.open(&place.dir);
    step(&mut engine, &[enqueue(vec![work(); 3])]).unwrap();
    drop(engine);
    place.clock.advance(runner_store::job::Millis(1));
    let again = restore(&place, &backup, "store", true).unwrap();
    assert_eq!((again.meta.epoch, again.meta.next_job), (3, JobId(2 * EPOCH)));

    // And once more, although nothing has happened: whoever waits for the next event learns of this restore as well.
    place.clock.advance(runner_store::job::Millis(1));
    let once_more = restore(&place, &backup, "store", true).unwrap();
    assert!(once_more.meta.restored_first_seq > Some(again.meta.next_seq), "{:?}", once_more.meta);
    assert_eq!(once_more.meta.next_job, JobId(3 * EPOCH));
}

#[test]
fn a_store_in_use_is_neither_replaced_nor_copied() {
    let place = Place::new();
    let backup = place.back_up("backup");
    let held = place.open(&place.dir);
    let refused = restore(&place, &backup, "store", true);
    assert!(matches!(refused, Err(StoreError::InUse(ref path)) if path == place.dir.path()), "{refused:?}");
    let refused = restore(&place, &place.dir, "restored", false);
    assert!(matches!(refused, Err(StoreError::InUse(ref path)) if path == place.dir.path()), "{refused:?}");
    drop(held);
    restore(&place, &place.dir, "restored", false).unwrap();
}

#[test]
fn a_damaged_store_is_replaced_and_kept_as_it_is() {
    let place = Place::new();
    let backup = place.back_up("backup");
    fs::write(place.dir.jobs(), vec![b'x'; 9_000]).unwrap();
    place.dir.note_failure("a planted failure", START).unwrap();
    let restored = restore(&place, &backup, "store", true).unwrap();
    let kept = restored.replaced.unwrap();
    assert_eq!(fs::read(kept.join("jobs.redb")).unwrap(), vec![b'x'; 9_000]);
    assert!(kept.join("store.failed").exists() && !place.dir.failed_marker().exists());
    assert_eq!(dump(&place, &place.dir).jobs.len(), super::history::JOBS);
}

#[test]
fn a_backup_that_is_none_or_damaged_changes_nothing() {
    let place = Place::new();
    let backup = place.back_up("backup");
    let check = |from: &StoreDir, words: &[&str]| {
        for to in ["new", "store"] {
            let error = restore(&place, from, to, true).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{word:?} is not in: {error}");
            }
        }
        assert_eq!(dump(&place, &place.dir).jobs.len(), super::history::JOBS);
        assert!(!place.path("store/restore.unfinished").exists());
        assert!(fs::read_dir(place.path("store")).unwrap().all(|e| !e.unwrap().path().is_dir()), "nothing was moved");
    };
    check(&StoreDir::new(place.path("nowhere")), &["nowhere"]);
    let whole = fs::read(backup.jobs()).unwrap();
    let mut bytes = whole.clone();
    let text = b"{\"to\": \"ops\"}";
    let at = bytes.windows(text.len()).position(|window| window == text).unwrap();
    bytes[at] ^= 1;
    fs::write(backup.jobs(), &bytes).unwrap();
    check(&backup, &["damaged"]);
    fs::write(backup.jobs(), &whole[..whole.len() / 2]).unwrap();
    check(&backup, &["backup"]);
    fs::write(backup.path().join("store.marker"), "runner store\nschema 99\nid 1\n").unwrap();
    check(&backup, &["schema 99"]);
}

/// The check lets the log leave numbers out where an epoch begins, and nowhere else.
#[test]
fn an_event_that_is_missing_elsewhere_is_still_found() {
    const LOG: redb::TableDefinition<'static, &'static [u8; 8], &'static [u8]> = redb::TableDefinition::new("log");
    let place = Place::new();
    let backup = place.back_up("backup");
    restore(&place, &backup, "new", false).unwrap();
    let dir = StoreDir::new(place.path("new"));
    for (missing, words) in [(50, "event 51: the one before is missing"), (EPOCH, "the one before is missing")] {
        let db = redb::Database::open(dir.jobs()).unwrap();
        let write = db.begin_write().unwrap();
        write.open_table(LOG).unwrap().remove(&missing.to_be_bytes()).unwrap().unwrap();
        write.commit().unwrap();
        drop(db);
        let findings = place.open(&dir).check().unwrap().findings;
        assert!(findings.iter().any(|finding| finding.contains(words)), "{findings:?}");
    }
}

/// Killed at any step: the folder is refused or a whole store, and the same command brings it to its end.
#[test]
fn a_restore_that_was_interrupted_anywhere_is_begun_again() {
    let place = Place::new();
    let backup = place.back_up("backup");
    let dir = StoreDir::new(place.path("new"));
    let open = || dir.open(runner_store::dir::Create::NewFolder, place.clock.clone(), Default::default());
    let again = || {
        restore(&place, &backup, "new", false).unwrap();
        assert_eq!(dump(&place, &dir).jobs.len(), super::history::JOBS);
        fs::remove_dir_all(dir.path()).unwrap();
    };
    // While the copy grew.
    fs::create_dir_all(place.path("new/restore.unfinished")).unwrap();
    fs::write(place.path("new/restore.unfinished/jobs.redb"), b"half").unwrap();
    assert!(matches!(open(), Err(StoreError::Missing(_))));
    again();
    // Between the marker and the file.
    fs::create_dir_all(place.path("new/restore.unfinished")).unwrap();
    fs::copy(backup.jobs(), place.path("new/restore.unfinished/jobs.redb")).unwrap();
    fs::copy(backup.path().join("store.marker"), place.path("new/store.marker")).unwrap();
    assert!(matches!(open(), Err(StoreError::FileGone { .. })));
    again();
}

/// What was revoked since the backup would be there again: so nothing lets anybody in until somebody says so.
#[test]
fn restored_tokens_let_nobody_in_unless_they_are_kept() {
    let place = Place::new();
    let mut engine = place.open(&place.dir);
    let new = NewToken { name: "shop".into(), tenant: Some(TENANT), scopes: vec![TokenScope::Read], expires_at: None };
    let call = TokenCall { hash: TokenHash::of("rnr_a"), verb: TokenVerb::Create(new) };
    step(&mut engine, &[Command::Token(Box::new(call))]).unwrap();
    drop(engine);
    let backup = place.back_up("backup");
    let confirmed =
        |dir: &StoreDir| dump(&place, dir).tokens.iter().map(|(_, token)| token.confirmed).collect::<Vec<_>>();
    assert_eq!(confirmed(&backup), [true]);
    let restored = restore(&place, &backup, "restored", false).unwrap();
    assert_eq!(restored.tokens, (1, Tokens::Suspend));
    let suspended = StoreDir::new(place.path("restored"));
    assert_eq!(confirmed(&suspended), [false]);
    let kept = StoreDir::new(place.path("kept"));
    let restored = kept.restore(&suspended, false, Tokens::Keep, place.clock.now()).unwrap();
    assert_eq!(restored.tokens, (1, Tokens::Keep));
    assert_eq!(confirmed(&kept), [true]);
}
