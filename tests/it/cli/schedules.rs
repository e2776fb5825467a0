//! `runner schedule`, where no server runs and where one does; and schedules of manifests.

use std::fs;

use serde_json::Value;

use super::server::signal;
use super::{Place, until};
use crate::sandbox::reload::drop_in;

impl Place {
    fn schedule(&self, name: &str) -> Option<Value> {
        let said = self.runner(&["schedule", "show", name, "-o", "json"]);
        (said.code == Some(0)).then(|| serde_json::from_str(&said.out).unwrap())
    }
}

#[test]
fn schedules_are_made_shown_changed_and_deleted_without_a_server() {
    let place = Place::with_store();
    place.check(&["schedule", "list"], 0, &["there are no schedules"]);
    let create = ["schedule", "create", "nightly", "ok", "{\"n\":  1}", "--cron", "0 3 * * mon-fri"];
    place.check(&[&create[..], &["--timezone", "Europe/Berlin"]].concat(), 0, &["nightly", "active", "the API"]);
    place.check(&[&create[..], &["--timezone", "Europe/Berlin"]].concat(), 0, &["nightly"]);
    place.check(&create, 4, &["a schedule of this name already"]);
    let every = ["schedule", "create", "probe", "ok", "--every", "30s", "--catch-up", "none", "--overlap", "queue"];
    place.check(&every, 0, &["every 30s"]);
    let list = place.check(&["schedule", "list"], 0, &["0 3 * * mon-fri (Europe/Berlin)", "every 30s", "active"]).out;
    assert_eq!(list.lines().count(), 3, "{list}");
    let list = place.check(&["schedule", "list", "-o", "json"], 0, &[]).out;
    assert!(list.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|s| s["next"].is_array())), "{list}");
    assert_eq!(place.check(&["schedule", "fire", "nightly"], 0, &[]).out, "1\n");
    place.check(&["schedule", "fire", "nightly"], 4, &["job 1 of this schedule has not ended"]);
    place.check(&["job", "show", "1", "-o", "json"], 0, &[r#""schedule":"nightly""#, r#""args":{"n":  1}"#]);
    place.check(&["schedule", "pause", "nightly"], 0, &["paused"]);
    place.check(&["schedule", "resume", "nightly"], 0, &["active"]);
    place.check(&["schedule", "edit", "nightly", "--cron", "@daily"], 0, &["@daily (Europe/Berlin)"]);
    place.check(&["schedule", "edit", "nightly"], 2, &["say what to change"]);
    place.check(&["schedule", "delete", "nightly"], 0, &["nightly deleted"]);
    for verb in ["show", "pause", "resume", "fire", "delete"] {
        place.check(&["schedule", verb, "nightly"], 3, &["there is no schedule of this name"]);
    }
    place.check(&["store", "check"], 0, &["0 wrong"]);
}

#[test]
fn what_is_wrong_is_a_usage_error_with_a_way_out() {
    let place = Place::with_store();
    let check = |more: &[&str], words: &str| {
        place.check(&[&["schedule", "create", "s", "ok"], more].concat(), 2, &[words]);
    };
    check(&[], "give `cron`");
    check(&["--cron", "0 0 30 2 *"], "never fires");
    check(&["--cron", "@daily", "--timezone", "Mars/Olympus"], "there is no time zone");
    check(&["--cron", "@daily", "--every", "1h"], "cannot be used with");
    check(&["--every", "0s"], "an interval is 1s to 366d");
    check(&["--every", "1h", "--catch-up", "all"], "must be none, one, or a number");
    check(&["--every", "1h", "--deadline", "2h"], "longer than the interval");
    check(&["{x}", "--every", "1h"], "ARGS are not JSON");
    place.check(&["schedule", "create", "no way", "ok", "--every", "1h"], 2, &["name: ", "has ' ' in it"]);
}

/// A manifest's schedule comes with its plugin, fires, keeps its pause through a new version, and goes with it.
#[test]
fn a_manifests_schedule_comes_and_goes_with_its_plugin() {
    let place = Place::new();
    let manifest = |every: &str| format!("[[schedule]]\nname = \"tick\"\nevery = \"{every}\"\nargs = {{ n = 7 }}\n");
    place.write("plugins/ok.toml", manifest("1s").as_bytes());
    place.write("plugins/no.toml", manifest("5m").as_bytes());
    let mut server = place.serve(&[]);
    let fired = || place.schedule("tick").map_or(0, |tick| tick["fired"].as_u64().unwrap());
    // Until both plugins are there: one that goes before the other comes is in nobody's way.
    server.said("a schedule of a manifest is refused: plugin ok says it too, and no comes first");
    let tick = place.schedule("tick").unwrap();
    assert_eq!(
        (tick["source"].as_str(), tick["plugin"].as_str(), tick["every"].as_str()),
        (Some("manifest"), Some("no"), Some("300s")),
        "first by file name"
    );
    drop(fs::remove_file(place.path("plugins/no.toml")));
    until("the name is free for the other", || place.schedule("tick").is_some_and(|tick| tick["plugin"] == "ok"));
    let before = fired();
    until("and fires", || fired() > before);
    let job = place.schedule("tick").unwrap()["last_job"].as_str().unwrap().to_owned();
    place.check(&["job", "wait", &job, "--timeout", "30s"], 0, &["completed"]);
    place.check(&["job", "show", &job, "-o", "json"], 0, &[r#""schedule":"tick""#, r#""args":{"n":7}"#, r#""slot":"#]);
    place.check(&["schedule", "edit", "tick", "--every", "1h"], 4, &["the manifest of plugin ok: change it there"]);
    place.check(&["schedule", "delete", "tick"], 4, &["change it there"]);
    place.check(&["schedule", "pause", "tick"], 0, &["paused"]);
    drop_in(&place.path("plugins"), "ok.toml", manifest("2h").as_bytes());
    until("its new interval is known", || place.schedule("tick").is_some_and(|tick| tick["every"] == "7200s"));
    assert_eq!(place.schedule("tick").unwrap()["paused"], true);
    drop_in(&place.path("plugins"), "ok.toml", b"[[schedule]]\nname = \"tick\"\ncron = \"0 0 30 2 *\"\n");
    until("what is wrong is said", || {
        let said = place.runner(&["plugin", "list"]);
        format!("{}{}", said.out, said.err).contains("never fires")
    });
    assert_eq!(place.schedule("tick").unwrap()["every"], "7200s", "the version that serves has its schedule");
    fs::remove_file(place.path("plugins/ok.toml")).unwrap();
    until("it is gone with its manifest", || place.schedule("tick").is_none());
    signal(server.child(), "TERM");
    server.ended().check(0, &["stopped"]);
}

/// Schedules are stored: the next server fires on, and makes up for one of the slots that were missed.
#[test]
fn a_schedule_outlives_its_server() {
    let place = Place::new();
    let mut server = place.serve(&[]);
    place.check(&["schedule", "create", "tick", "ok", "--every", "1s", "--overlap", "queue"], 0, &[]);
    let fired = || place.schedule("tick").unwrap()["fired"].as_u64().unwrap();
    until("it has fired", || fired() >= 2);
    signal(server.child(), "TERM");
    server.ended().check(0, &["stopped"]);
    let before = place.schedule("tick").unwrap();
    until("slots are missed", || {
        let next = place.schedule("tick").unwrap()["next"][0].clone();
        next.as_str() > before["next"][3].as_str()
    });
    let mut server = place.serve(&[]);
    until("it fires on", || fired() > before["fired"].as_u64().unwrap());
    let after = place.schedule("tick").unwrap();
    assert!(after["missed"].as_u64() > before["missed"].as_u64(), "{before} {after}");
    signal(server.child(), "TERM");
    server.ended().check(0, &["stopped"]);
    place.check(&["store", "check"], 0, &["0 wrong"]);
}
