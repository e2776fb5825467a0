//! Stores that cannot be used, each with its exit code and a way out; never a panic.

use super::{Place, utf8};

/// Every verb that opens a store says the same.
#[track_caller]
fn check(place: &Place, code: i32, words: &[&str]) {
    place.write("jobs.ndjson", b"{\"kind\": \"ok\"}\n");
    for args in [
        ["enqueue", "ok"].as_slice(),
        &["job", "list"],
        &["store", "check"],
        &["store", "stats"],
        &["run", "jobs.ndjson", "--plugins", "plugins"],
        &["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0"],
    ] {
        place.check(&[args, &["--data", "data"]].concat(), code, words);
    }
}

fn with_store() -> Place {
    let place = Place::new();
    place.check(&["store", "init", "data"], 0, &[]);
    place
}

#[test]
fn a_folder_without_a_marker_is_no_store() {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).unwrap();
    check(&place, 9, &["no store in data: mount it, or make one with `runner store init data`"]);
    place.check(&["store", "init", "data"], 0, &["made an empty store in data"]);
    place.check(&["store", "init", "data"], 4, &["`data` is a store already"]);
    place.check(&["store", "check", "--data", "data"], 0, &["0 jobs, 0 events, 0 histories folded: 0 wrong"]);
}

#[test]
fn nothing_is_made_by_looking() {
    let place = Place::new();
    place.check(&["job", "list", "--data", "data"], 9, &["no store in data"]);
    place.check(&["enqueue", "ok", "--data", "data"], 9, &["no store in data"]);
    assert!(!place.path("data").exists());
}

#[test]
fn a_newer_store_is_left_alone() {
    let place = with_store();
    place.write("data/store.marker", b"runner store\nschema 99\nid 0000000000000000\n");
    check(&place, 9, &["data: the store has schema 99, this program knows up to 5"]);
}

#[test]
fn a_store_whose_file_is_gone_is_not_made_anew() {
    let place = with_store();
    std::fs::remove_file(place.path("data/jobs.redb")).unwrap();
    check(&place, 9, &["its file jobs.redb is gone"]);
}

#[test]
fn foreign_files_are_named() {
    let place = with_store();
    place.write("data/store.marker", b"something else");
    check(&place, 7, &["data: has a store.marker that is not a marker of ours"]);
    let place = with_store();
    place.write("data/jobs.redb", &[b'x'; 8192]);
    check(&place, 7, &["data/jobs.redb", "put it back from where it went, or from a backup"]);
    let place = with_store();
    place.write("data/jobs.redb", b"");
    check(&place, 7, &["the store's file is empty"]);
    let place = Place::new();
    place.write("data", b"a file");
    check(&place, 7, &["data: is not a folder"]);
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let place = with_store();
    let dir = runner_store::dir::StoreDir::new(place.path("data"));
    let create = runner_store::dir::Create::No;
    let commit = runner_store::engine::redb::Commit::TwoPhase;
    let held = dir.open(create, runner_store::clock::Clock::System, commit).unwrap();
    check(&place, 9, &["data: another process has this store open"]);
    drop(held);
    place.check(&["job", "list", "--data", utf8(&place.path("data"))], 0, &["there are no such jobs"]);
}

/// The comparison of rows with everything else never looks into args; only the checksums of pages see this.
#[test]
fn a_flipped_bit_within_args_is_found() {
    let place = with_store();
    let text = "a text that stands in the file as it is";
    place.check(&["enqueue", "ok", &format!("{{\"text\": \"{text}\"}}"), "--data", "data"], 0, &[]);
    place.check(&["store", "check", "--data", "data"], 0, &["1 jobs", "0 wrong"]);
    let mut bytes = std::fs::read(place.path("data/jobs.redb")).unwrap();
    let at: Vec<usize> =
        bytes.windows(text.len()).enumerate().filter(|(_, w)| *w == text.as_bytes()).map(|(i, _)| i).collect();
    for at in at {
        bytes[at] ^= 1;
    }
    place.write("data/jobs.redb", &bytes);
    place.check(&["store", "check", "--data", "data"], 7, &["`data` is damaged"]);
}

/// A folder whose path leads through a file ended with "restart: it checks" (8), and a supervisor did so for ever.
#[test]
fn a_folder_that_cannot_be_made_is_no_store_that_failed() {
    let place = Place::new();
    place.write("file", b"");
    std::os::unix::fs::symlink("nowhere", place.path("link")).unwrap();
    for data in ["file/data", "link"] {
        for args in [["store", "init", data].as_slice(), &["serve", "--plugins", "plugins", "--init", "--data", data]] {
            place.check(args, 2, &[data, "choose another folder, or remove what is in its place"]);
        }
    }
}

/// A backup that was restored onto itself was said to be in use by another process.
#[test]
fn a_backup_is_not_restored_onto_itself() {
    let place = with_store();
    for args in [["store", "restore", "data", "data"].as_slice(), &["store", "restore", "data", "./data", "--replace"]]
    {
        place.check(args, 4, &["data: is the backup itself; restore into another folder"]);
    }
}

/// Two verbs had no `-o json`, and a list of queues in it did not say that nothing runs.
#[test]
fn every_verb_of_a_store_answers_in_json() {
    let place = Place::new();
    place.check(&["store", "init", "data", "-o", "json"], 0, &[r#"{"data":"data"}"#]);
    place.check(&["store", "migrate", "data", "-o", "json"], 0, &[r#""backup":null"#]);
    place.check(&["store", "restore", "data", "new", "-o", "json"], 0, &[r#""paused":true"#]);
    let said = place.check(&["queue", "list", "--data", "new", "-o", "json"], 0, &[]);
    assert!(said.err.contains("nothing runs since the store was restored"), "{}", said.err);
}
