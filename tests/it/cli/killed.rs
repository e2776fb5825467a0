//! `kill -9` of a process that backs up or restores, at any moment: afterwards there is a whole store, never half of one,
//! and the same command again comes to its end.

use std::time::Instant;

use serde_json::Value;

use super::Place;

const ROUNDS: u32 = 10;

/// A store with jobs, and args enough that copying them takes a while.
fn with_jobs() -> Place {
    let place = Place::new();
    place.check(&["store", "init", "data"], 0, &[]);
    let line = format!("{{\"kind\": \"ok\", \"args\": {{\"text\": \"{}\"}}}}\n", "x".repeat(20_000));
    place.write("jobs.ndjson", line.repeat(50).as_bytes());
    place.check(&["enqueue", "--from", "jobs.ndjson", "--data", "data"], 0, &[]);
    place
}

/// Runs the command again and again, and kills it each time a little later in its course; the last time, hardly at all.
/// `look` sees what is there after each, and whether the command had ended by itself.
fn kill_everywhere(place: &Place, args: &[&str], mut look: impl FnMut(bool)) {
    let began = Instant::now();
    assert!(place.command(args).output().unwrap().status.success(), "it works at all");
    let whole = began.elapsed();
    look(true);
    let mut killed = 0;
    for round in 0..ROUNDS {
        let mut child = place.command(args).stdout(std::process::Stdio::null()).spawn().unwrap();
        let until = Instant::now() + whole * round / ROUNDS;
        while Instant::now() < until {
            std::thread::yield_now();
        }
        // One that has ended cannot be killed.
        _ = child.kill();
        let ended = child.wait().unwrap().success();
        killed += u32::from(!ended);
        look(ended);
    }
    assert!(killed > 0, "some were killed");
}

#[test]
fn a_backup_has_its_name_only_when_it_is_whole() {
    let place = with_jobs();
    let args = ["store", "backup", "new", "--data", "data"];
    kill_everywhere(&place, &args, |ended| {
        let named = place.path("new").exists();
        assert!(named || !ended);
        if named {
            place.check(&["store", "check", "--data", "new"], 0, &["50 jobs", "0 wrong"]);
            std::fs::remove_dir_all(place.path("new")).unwrap();
        }
    });
    place.check(&args, 0, &["backed up 50 jobs"]);
    assert!(!place.path("new.unfinished").exists(), "nothing is left over");
    place.check(&["store", "check", "--data", "data"], 0, &["50 jobs", "0 wrong"]);
}

#[test]
fn a_store_that_is_replaced_is_there_at_every_moment() {
    let place = with_jobs();
    place.check(&["store", "backup", "backup", "--data", "data"], 0, &[]);
    let args = ["store", "restore", "backup", "data", "--replace"];
    let mut epoch = 1;
    kill_everywhere(&place, &args, |ended| {
        place.check(&["store", "check", "--data", "data"], 0, &["50 jobs", "0 wrong"]);
        let stats = place.check(&["store", "stats", "--data", "data", "-o", "json"], 0, &[]).out;
        let stats: Value = serde_json::from_str(&stats).unwrap();
        let is = stats["store"]["epoch"].as_u64().unwrap();
        assert!(is == epoch + 1 || (is == epoch && !ended), "the old one or the new one: {is} after {epoch}");
        epoch = is;
    });
    place.check(&args, 0, &[]);
    assert!(!place.path("data/restore.unfinished").exists(), "nothing is left over");
}
