//! `runner bench`: it measures on a store of its own, leaves nothing, and never touches a store that has jobs.

use std::process::Stdio;

use serde_json::Value;

use super::server::signal;
use super::{Place, Said, until};

/// What is in the folder of a place, by name.
fn names(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.path("")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn it_measures_every_step_on_a_store_that_is_gone_afterwards() {
    let place = Place::new();
    let said = place.check(&["bench", "-n", "1_200", "--duration", "1m", "-o", "json"], 0, &[]);
    let shown: Value = serde_json::from_str(&said.out).unwrap();
    assert!(shown["cores"].as_u64().unwrap() > 0 && shown["cpu"].as_str().is_some(), "{shown}");
    assert_eq!((&shown["commit"], &shown["data"]), (&Value::from("two-phase"), &Value::Null));
    let of = |name: &str| {
        let measured = shown["measured"].as_array().unwrap();
        measured.iter().find(|figure| figure["name"] == name).unwrap_or_else(|| panic!("no {name} in {shown}")).clone()
    };
    for (name, n, has_rate, has_spread) in [
        ("commit", 500, false, true),
        ("start", 500, false, true),
        ("enqueue_one", 120, true, true),
        ("enqueue_list", 1_080, true, true),
        ("end_to_end", 1_200, true, false),
    ] {
        let figure = of(name);
        assert_eq!(figure["n"], n, "{figure}");
        assert_eq!(figure["per_second"].as_u64().is_some_and(|n| n > 0), has_rate, "{figure}");
        let [median, p99] = ["median_seconds", "p99_seconds"].map(|key| figure[key].as_f64());
        assert_eq!(median.is_some_and(|median| median > 0.0), has_spread, "{figure}");
        assert!(median <= p99, "{figure}");
    }
    assert_eq!(names(&place), ["plugins"]);
}

#[test]
fn it_refuses_a_store_that_has_jobs_and_says_how_to_mend_it() {
    let place = Place::with_store();
    let bench = |code: i32, words: &[&str]| {
        place.check(&["bench", "-n", "20", "--duration", "1m", "--data", "runner-data"], code, words)
    };
    // An empty one is measured on, and stays.
    let said = bench(0, &["jobs from end to end", "durable enqueue of one job", "cores", "two-phase"]);
    assert!(said.out.lines().filter(|line| line.contains("durable enqueues")).count() == 2, "{}", said.out);
    let mend = "leave out --data to measure on a store that is gone afterwards, or name a new folder";
    // Twenty of the first measurement, twenty of the others.
    bench(4, &["`runner-data` has 40 jobs", mend]);
    place.check(&["store", "check"], 0, &["40 jobs", "0 wrong"]);
    let mut server = place.serve(&[]);
    bench(9, &["another process has this store open"]);
    signal(server.child(), "TERM");
    server.ended().check(0, &["stopped"]);
    place.check(&["bench", "-n", "0"], 2, &["must be a whole number from 1 to"]);
    place.check(&["bench", "--duration", "10"], 2, &["has no unit"]);
    // It printed that nothing was measured, as if that were an answer.
    for none in ["0s", "99ms"] {
        place.check(&["bench", "--duration", none], 2, &["--duration", "must be at least 100ms"]);
    }
    place.check(&["bench", "--data", "plugins"], 9, &["no store in plugins"]);
}

#[test]
fn a_signal_ends_it_and_nothing_is_left() {
    let place = Place::new();
    let mut bench = place.command(&["bench", "--duration", "1h"]);
    let mut child = bench.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("it has its store", || names(&place).iter().any(|name| name.starts_with("runner-bench-")));
    assert!(child.try_wait().unwrap().is_none());
    signal(&child, "INT");
    Said::from(child.wait_with_output().unwrap()).check(1, &["interrupted"]);
    assert_eq!(names(&place), ["plugins"]);
}

/// The temporary folders that are here.
fn temporary(place: &Place) -> Vec<String> {
    names(place).into_iter().filter(|name| name.starts_with("runner-bench-")).collect()
}

/// Whoever is killed cleans up nothing: each such folder stayed for ever, with up to a million jobs in it.
#[test]
fn the_next_one_removes_what_a_killed_one_left_and_nothing_else() {
    let place = Place::new();
    let begin = || {
        let mut bench = place.command(&["bench", "--duration", "1h"]);
        bench.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut killed = begin();
    until("it has its store", || temporary(&place).iter().any(|name| place.path(name).join("store").exists()));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let left = temporary(&place).remove(0);
    // What only looks like one of them: by its name, or by what is in it.
    for other in ["runner-bench-notes", "runner-bench-0123456789abcdef"] {
        std::fs::create_dir(place.path(other)).unwrap();
        place.write(&format!("{other}/mine.txt"), b"");
    }
    let mut living = begin();
    until("it removes what was left and has its own", || {
        let names = temporary(&place);
        names.len() == 3 && !names.contains(&left)
    });
    let with_living = temporary(&place);
    // One that measures just now is none of the dead.
    place.check(&["bench", "-n", "20", "--duration", "1m"], 0, &["jobs from end to end"]);
    assert_eq!(temporary(&place), with_living);
    assert!(living.try_wait().unwrap().is_none());
    signal(&living, "INT");
    Said::from(living.wait_with_output().unwrap()).check(1, &["interrupted"]);
    assert_eq!(names(&place), ["plugins", "runner-bench-0123456789abcdef", "runner-bench-notes"]);
}

/// It said that the store had failed and would be checked at the next start.
#[test]
fn where_nothing_can_be_made_it_says_so_and_that_it_is_not_allowed() {
    let place = Place::new();
    let mut bench = place.command(&["bench", "-n", "20"]);
    let said = Said::from(bench.current_dir("/proc").output().unwrap());
    said.check(6, &["no temporary store can be made in `/proc`", "or name a store with --data"]);
    place.check(&["bench", "-n", "20", "--data", "/proc/runner"], 6, &["/proc/runner", "choose a folder where"]);
}
