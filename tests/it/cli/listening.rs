//! Kinds that listen to the events of others, through a server, its plugins and its ends.

use std::fs;

use serde_json::{Value, json};

use super::server::{Server, signal};
use super::{Place, says, until};
use crate::sandbox::reload::drop_in;

const ALERTS: &str = "[[on]]\nevent = \"discarded\"\nof = [\"n*\"]\nkind = \"ok\"\n";

impl Place {
    /// The jobs of a kind, oldest first, as they are shown.
    fn jobs_of(&self, kind: &str) -> Vec<Value> {
        let said = self.check(&["job", "list", "--kind", kind, "-o", "json"], 0, &[]);
        let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        let mut ids: Vec<String> = said.out.lines().map(id).collect();
        ids.reverse();
        let show = |id: &String| self.check(&["job", "show", id, "-o", "json"], 0, &[]).out;
        ids.iter().map(|id| serde_json::from_str(&show(id)).unwrap()).collect()
    }

    /// Enqueues a job that fails for good; answers its id.
    fn fail(&self) -> String {
        let said = self.check(&["enqueue", "no", "--max-attempts", "1", "--wait"], 10, &["discarded"]);
        said.out.lines().next().unwrap().to_owned()
    }
}

fn stop(mut server: Server) {
    signal(server.child(), "TERM");
    server.ended().check(0, &["stopped"]);
}

#[test]
fn who_listens_runs_for_each_event_as_any_other_job() {
    let place = Place::new();
    place.write(
        "plugins/ok.toml",
        format!("{ALERTS}[[kind]]\nname = \"ok\"\nqueue = \"alerts\"\npriority = -5").as_bytes(),
    );
    place.check(&["plugin", "check", "plugins/ok.wasm"], 0, &["listens", "ok to discarded of n*"]);
    let server = place.serve(&[]);
    place.check(&["plugin", "list", "-o", "json"], 0, &[r#""on":[{"event":"discarded","of":["n*"],"kind":"ok"}]"#]);
    let failed = place.fail();
    until("the listener ends", || place.jobs_of("ok").first().is_some_and(|job| job["state"] == "completed"));
    let jobs = place.jobs_of("ok");
    assert_eq!(jobs.len(), 1);
    let told = json!({
        "event": "discarded", "job": failed, "kind": "no", "state": "discarded", "error": jobs[0]["args"]["error"],
        "output": null
    });
    assert_eq!(jobs[0]["args"], told);
    assert!(told["error"].as_str().unwrap().contains("not today"), "{told}");
    assert_eq!((&jobs[0]["queue"], &jobs[0]["priority"]), (&json!("alerts"), &json!(-5)));
    stop(server);
}

/// Killed between the event and its listener, or while no node runs: whoever listens is told all the same, and once.
#[test]
fn subscriptions_outlive_the_process() {
    let place = Place::new();
    let on = "[[on]]\nevent = \"enqueued\"\nof = [\"spin\"]\nkind = \"ok\"\n";
    place.write("plugins/ok.toml", on.as_bytes());
    let mut server = place.serve(&[]);
    let first = place.check(&["enqueue", "spin", "--hold"], 0, &[]).out;
    signal(server.child(), "KILL");
    server.ended();
    let second = place.check(&["enqueue", "spin", "--hold"], 0, &[]).out;
    let told = || -> Vec<Value> { place.jobs_of("ok").iter().map(|job| job["args"]["job"].clone()).collect() };
    assert_eq!(told(), [first.trim(), second.trim()]);
    place.check(&["store", "check"], 0, &["0 wrong"]);
    let server = place.serve(&[]);
    until("both have run", || place.jobs_of("ok").iter().all(|job| job["state"] == "completed"));
    assert_eq!(told(), [first.trim(), second.trim()]);
    stop(server);
}

#[test]
fn what_is_listened_to_follows_the_manifests() {
    let place = Place::new();
    let plugins = place.path("plugins");
    let server = place.serve(&[]);
    place.fail();
    assert_eq!(place.jobs_of("ok").len(), 0, "nobody listens");
    drop_in(&plugins, "ok.toml", ALERTS.as_bytes());
    place.check(&["plugin", "reload"], 0, &[]);
    place.fail();
    until("the listener is there", || place.jobs_of("ok").len() == 1);
    drop_in(&plugins, "ok.toml", ALERTS.replace("kind = \"ok\"", "kind = \"no\"").as_bytes());
    place.check(&["plugin", "reload"], 1, &["kind `no` listens to events, and its kinds are ok"]);
    place.fail();
    until("the version before serves on", || place.jobs_of("ok").len() == 2);
    drop_in(&plugins, "ok.toml", b"");
    place.check(&["plugin", "reload"], 0, &[]);
    place.fail();
    assert_eq!(place.jobs_of("ok").len(), 2);
    stop(server);
}

/// A file that was broken over night costs no alert: what its last version listened to is noted until it is mended.
#[test]
fn a_plugin_that_cannot_be_loaded_misses_nothing() {
    let place = Place::new();
    place.write("plugins/ok.toml", ALERTS.as_bytes());
    stop(place.serve(&[]));
    drop_in(&place.path("plugins"), "ok.wasm", b"oops");
    let server = place.serve(&[]);
    place.fail();
    until("the listener is there", || place.jobs_of("ok").len() == 1);
    let id = place.jobs_of("ok")[0]["id"].as_str().unwrap().to_owned();
    place.check(&["job", "why", &id], 0, &["no plugin provides kind ok"]);
    drop_in(&place.path("plugins"), "ok.wasm", &says(r#"{"ok": 1}"#, 0));
    place.check(&["job", "wait", &id, "--timeout", "60s"], 0, &["completed"]);
    fs::remove_file(place.path("plugins/ok.wasm")).unwrap();
    fs::remove_file(place.path("plugins/ok.toml")).unwrap();
    place.check(&["plugin", "reload"], 0, &[]);
    place.fail();
    assert_eq!(place.jobs_of("ok").len(), 1, "a plugin that is gone listens to nothing");
    stop(server);
}

/// What is told at the end of a list is there when the next process opens the store.
#[test]
fn serve_once_ends_when_those_who_listen_have_run() {
    let place = Place::new();
    place.write("plugins/ok.toml", ALERTS.as_bytes());
    place.check(&["store", "init"], 0, &[]);
    place.check(&["enqueue", "no", "--max-attempts", "1"], 0, &[]);
    let args = ["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0", "--once"];
    place.check(&args, 0, &["nothing is left to do"]);
    let jobs = place.jobs_of("ok");
    assert_eq!((jobs.len(), &jobs[0]["state"]), (1, &json!("completed")));
}
