//! Regressions of other systems by their names, each through the real process.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::process::{Place, Process};
use super::wire::{Answer, Ask, Wire};

/// Kills while a process starts.
const STARTS: u32 = 12;
/// Calls whose replies are lost.
const LOST_REPLIES: u32 = 8;

fn enqueue(wire: &mut Wire, job: &Value) -> u64 {
    let answer = wire.until_answered(&Ask { body: Some(job), ..Ask::post("/v1/jobs") });
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.body["id"].as_str().unwrap().parse().unwrap()
}

fn show(wire: &mut Wire, id: u64) -> Answer {
    let answer = wire.until_answered(&Ask::get(format!("/v1/jobs/{id}")));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// The outcomes of its runs, first run first.
fn outcomes(job: &Answer) -> Vec<String> {
    let runs = job.body["runs"].as_array().unwrap();
    runs.iter().map(|run| run["outcome"].as_str().unwrap().to_owned()).collect()
}

/// Waits until this run has entered its handler, and kills the process.
fn kill_in(place: &Place, mut process: Process, id: u64, run: u32) {
    process.until("the handler is entered", || place.entered().contains(&(id, run)));
    process.kill();
    assert!(place.entered().contains(&(id, run)), "nothing else ends it");
}

fn check_store(place: &Place) {
    let report = place.open().check().unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert_eq!(report.folded, report.jobs);
}

#[test]
fn a_shutdown_that_is_interrupted_by_a_kill_counts_against_nobody() {
    let place = Place::new();
    let mut process = place.serve(&["--grace", "1h"]);
    let mut wire = place.wire();
    let id = enqueue(&mut wire, &json!({"kind": "spin", "max_attempts": 1}));
    process.until("the handler is entered", || place.entered().contains(&(id, 1)));
    process.terminate();
    process.until("it drains", || {
        wire.once(&Ask::get("/readyz")).is_ok_and(|answer| answer.body.as_str() == Some("draining\n"))
    });
    // Accepted by a process that starts nothing any more.
    let late = enqueue(&mut wire, &json!({"kind": "quick"}));
    process.kill();
    let mut process = place.serve(&[]);
    process.until("it runs again", || place.entered().contains(&(id, 2)));
    let job = show(&mut wire, id);
    assert_eq!((&job.body["attempts"], &job.body["crashes"]), (&json!(0), &json!(0)), "{job:?}");
    assert_eq!(outcomes(&job), ["interrupted"]);
    process.until("the late one has ended", || show(&mut wire, late).state() == "completed");
    wire.until_answered(&Ask::post(format!("/v1/jobs/{id}/cancel")));
    process.stop();
    check_store(&place);
}

/// Its recovery ran only at a start that came to its end: what a killed start left was nobody's for ever, or was counted
/// once more with every start.
#[test]
fn a_recovery_that_is_killed_again_and_again_counts_each_crash_once() {
    let place = Place::new();
    let mut process = place.serve(&["--slots", "4"]);
    let mut wire = place.wire();
    let ids: Vec<u64> = (0..8).map(|_| enqueue(&mut wire, &json!({"kind": "spin", "retry": {"base": "1s"}}))).collect();
    process.until("all slots are taken", || place.entered().len() == 4);
    let usual = process.age();
    process.kill();
    let mut entered: BTreeSet<_> = place.entered();
    for start in 0..STARTS {
        let mut process = place.spawn(&["--slots", "4"]);
        process.until_age(usual.min(Duration::from_millis(100)) * start / STARTS);
        process.kill();
        entered.extend(place.entered());
    }
    let process = place.serve(&["--slots", "4"]);
    for id in &ids {
        wire.until_answered(&Ask::post(format!("/v1/jobs/{id}/cancel")));
    }
    process.stop();
    let process = place.serve(&[]);
    for id in ids {
        let job = show(&mut wire, id);
        let crashed = outcomes(&job).iter().filter(|outcome| *outcome == "crashed").count();
        assert_eq!(crashed, entered.iter().filter(|(job, _)| *job == id).count(), "{job:?}");
        assert_ne!(job.state(), "running", "{job:?}");
    }
    process.stop();
    check_store(&place);
}

#[test]
fn a_commit_whose_reply_is_lost_is_answered_with_the_same_job() {
    let place = Place::new();
    let mut wire = place.wire();
    let mut process = place.serve(&[]);
    let age = process.ready();
    let mut committed = 0;
    for call in 0..LOST_REPLIES {
        let jobs =
            json!([{"kind": "quick", "args": {"call": call}}, {"kind": "quick", "depends_on": [{"position": 0}]}]);
        let ask = Ask { body: Some(&jobs), key: Some(format!("call {call}")), ..Ask::post("/v1/jobs") };
        let first = (call % 2 == 0).then(|| wire.until_answered(&ask).body);
        assert!(wire.hang_up(&ask).is_ok());
        // From at once to long after a commit.
        let until = process.age().max(age) + Duration::from_millis(u64::from(call * 4));
        process.until_age(until);
        process.kill();
        process = place.serve(&[]);
        let again = wire.until_answered(&ask);
        committed += u32::from(again.status == 200);
        if let Some(first) = first {
            assert_eq!(again.status, 200, "{again:?}");
            assert_eq!(again.body["jobs"][1]["id"], first["jobs"][1]["id"]);
        }
        let once_more = wire.until_answered(&ask);
        assert_eq!((once_more.status, &once_more.body["jobs"][0]["id"]), (200, &again.body["jobs"][0]["id"]));
    }
    assert!(committed >= LOST_REPLIES / 2);
    let counted = wire.until_answered(&Ask::get("/v1/jobs/count"));
    assert_eq!(counted.body["total"], 2 * LOST_REPLIES, "one list a call");
    process.stop();
    check_store(&place);
}

#[test]
fn a_crash_on_the_last_attempt_discards() {
    let place = Place::new();
    let process = place.serve(&[]);
    let mut wire = place.wire();
    let id = enqueue(&mut wire, &json!({"kind": "spin", "max_attempts": 1}));
    let waits = enqueue(&mut wire, &json!({"kind": "quick", "depends_on": [id.to_string()]}));
    kill_in(&place, process, id, 1);
    let mut process = place.serve(&[]);
    let job = show(&mut wire, id);
    assert_eq!((job.state(), &job.body["attempts"]), ("discarded", &json!(1)));
    assert!(job.body["reason"].as_str().unwrap().starts_with("crashed"), "{job:?}");
    assert_eq!(outcomes(&job), ["crashed"]);
    process.until("who waited for it hears of it", || show(&mut wire, waits).state() == "cancelled");
    process.stop();
    check_store(&place);
}

#[test]
fn a_job_under_which_the_process_dies_three_times_is_poison_and_takes_nobody_with_it() {
    let place = Place::new();
    let mut wire = place.wire();
    let mut process = place.serve(&["--slots", "1"]);
    let id = enqueue(&mut wire, &json!({"kind": "spin", "priority": "highest", "retry": {"base": "1ms"}}));
    process.until("the handler is entered", || place.entered().contains(&(id, 1)));
    // Claimed ahead by the same process, and never started by it.
    let beside: Vec<u64> = (0..4).map(|_| enqueue(&mut wire, &json!({"kind": "quick", "delay": "1ms"}))).collect();
    for run in 1..=3 {
        kill_in(&place, process, id, run);
        process = place.serve(&["--slots", "1"]);
    }
    let job = show(&mut wire, id);
    assert_eq!((job.state(), &job.body["crashes"]), ("discarded", &json!(3)), "{job:?}");
    assert!(job.body["reason"].as_str().unwrap().starts_with("poison"), "{job:?}");
    assert_eq!(outcomes(&job), ["crashed"; 3]);
    for id in beside {
        process.until("the others have ended", || show(&mut wire, id).state() == "completed");
        let job = show(&mut wire, id);
        assert_eq!(job.body["attempts"], 1, "no crash was theirs: {job:?}");
    }
    process.stop();
    check_store(&place);
}
