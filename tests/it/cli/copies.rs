//! `runner store backup | restore | compact | migrate | stats`, with and without a server.

use serde_json::Value;

use super::server::signal;
use super::{Place, Said, utf8};

/// A store with a few jobs of several states.
fn with_jobs() -> Place {
    let place = Place::new();
    place.write(
        "jobs.ndjson",
        b"{\"kind\": \"ok\"}\n{\"kind\": \"no\", \"max_attempts\": 1, \"expect\": \"discarded\"}\n{\"kind\": \"ok\", \"queue\": \"media\"}\n",
    );
    place.check(&["run", "jobs.ndjson", "--plugins", "plugins", "--data", "data"], 0, &[]);
    place.check(&["enqueue", "ok", "{\"text\": \"waits\"}", "--hold", "--data", "data"], 0, &[]);
    place
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_store_that_nobody_serves_is_backed_up_and_restored() {
    let place = with_jobs();
    let backup = ["store", "backup", "backup", "--data", "data"];
    place.check(&backup, 0, &["backed up 4 jobs", utf8(&place.path("backup")), "checked them"]);
    place.check(&backup, 4, &["backup: is there already", "choose another name"]);
    place.check(&["store", "check", "--data", "backup"], 0, &["4 jobs", "0 wrong"]);
    let said = place.check(&["store", "check", "--data", "backup", "-o", "json"], 0, &[]);
    assert_eq!((&json(&said.out)["clean"], &json(&said.out)["pages_verified"]), (&true.into(), &true.into()));
    place.check(&["store", "backup", "none/backup", "--data", "data"], 2, &["none: is no folder", "make it first"]);
    place.check(&["store", "backup", "b", "--data", "nothing"], 9, &["no store in nothing"]);
    let relative = ["store", "backup", "b", "--url", "http://127.0.0.1:1"];
    place.check(&relative, 2, &["with --url the path is one of the server's"]);

    let said = place.check(
        &["store", "restore", "backup", "restored"],
        0,
        &[
            "restored backup into restored",
            "epoch 2",
            "new ids begin at 4294967296",
            "queues are paused",
            "resume --all",
        ],
    );
    for word in ["completed", "discarded", "held", "media"] {
        assert!(said.out.contains(word), "{word} is counted: {}", said.out);
    }
    place.check(&["store", "check", "--data", "restored"], 0, &["4 jobs", "0 wrong"]);
    let id = place.check(&["enqueue", "ok", "--data", "restored"], 0, &[]).out;
    assert_eq!(id.trim(), "4294967296");
    place.check(&["store", "restore", "backup", "restored"], 4, &["has a store already", "--replace"]);
    let again = ["store", "restore", "backup", "restored", "--replace", "-o", "json"];
    let said = json(&place.check(&again, 0, &[]).out);
    assert_eq!((&said["epoch"], &said["next_id"]), (&3.into(), &"8589934592".into()));
    let kept = said["replaced"].as_str().unwrap();
    place.check(&["store", "check", "--data", kept], 0, &["5 jobs", "0 wrong"]);
    place.check(&["store", "restore", "backup", "jobs.ndjson"], 7, &["jobs.ndjson: is not a folder"]);
    place.check(&["store", "restore", "plugins", "elsewhere"], 9, &["no store in plugins"]);
    assert!(!place.path("elsewhere").exists(), "what was refused left nothing");
}

#[test]
fn a_store_is_backed_up_while_a_server_runs_on_it() {
    let place = with_jobs();
    let mut server = place.serve(&["--data", "data"]);
    let spin = place.check(&["enqueue", "spin", "--timeout", "1h", "--data", "data"], 0, &[]).out;
    super::until("it runs", || place.runner(&["job", "show", spin.trim(), "--data", "data"]).out.contains("running"));
    let said = place.check(&["store", "backup", "backup", "--data", "data", "-o", "json"], 0, &[]);
    assert_eq!(json(&said.out)["jobs"], 5);
    let by_url = utf8(&place.path("by-url")).to_owned();
    let backup = ["store", "backup", &by_url, "--url", &server.url()];
    place.check(&backup, 6, &["this needs the scope admin", "unix socket"]);
    let admin = place.check(&["token", "create", "backups", "--scope", "admin", "--data", "data"], 0, &[]).out;
    let made = place.command(&backup).env("RUNNER_TOKEN", admin.trim()).output().unwrap();
    Said::from(made).check(0, &["backed up 5 jobs"]);
    place.check(&["store", "backup", "backup", "--data", "data"], 4, &["is there already"]);
    for verb in [
        ["store", "compact", "data"].as_slice(),
        &["store", "migrate", "data"],
        &["store", "restore", "backup", "data", "--replace"],
        &["store", "restore", "data", "other"],
    ] {
        place.check(verb, 9, &["data: another process has this store open"]);
    }
    let stats = json(&place.check(&["store", "stats", "--data", "data", "-o", "json"], 0, &[]).out);
    assert_eq!(
        (&stats["total"], &stats["store"]["epoch"], &stats["store"]["schema"]),
        (&5.into(), &1.into(), &5.into())
    );
    let check = ["store", "check", "--data", "data"];
    place.check(&check, 0, &["5 jobs", "0 wrong", "a server has it open", "were not verified"]);
    let said = json(&place.check(&[&check[..], &["-o", "json"]].concat(), 0, &[]).out);
    assert_eq!((&said["clean"], &said["jobs"], &said["pages_verified"]), (&true.into(), &5.into(), &false.into()));
    place.check(&[&check[..], &["--accept"]].concat(), 4, &["a server runs on the store", "leave out --accept"]);
    place.check(&["store", "check", "--url", &server.url()], 6, &["needs a token"]);
    let (ballast, disk) = (64 * 1024 * 1024, &stats["store"]["disk"]);
    if disk["free_bytes"].as_u64().unwrap() > disk["reserve_bytes"].as_u64().unwrap() + 2 * ballast {
        assert_eq!(stats["files"]["ballast"], ballast, "room for a full disk is kept");
    }
    signal(&server.child, "TERM");
    signal(&server.child, "TERM");
    server.ended().check(0, &["stopped"]);

    place.check(
        &["store", "restore", "backup", "restored"],
        0,
        &["1 runs were going on", "they were ended and run again"],
    );
    let shown = ["job", "show", spin.trim(), "--data", "restored", "-o", "json"];
    place.check(&shown, 0, &[r#""state":"available""#, r#""crashes":0"#, r#""attempts":0"#]);
    place.check(&["job", "delete", spin.trim(), "--data", "by-url", "--force"], 0, &[]);
    let mut server = place.serve(&["--data", "by-url"]);
    place.check(&["enqueue", "ok", "--wait", "--data", "by-url"], 0, &["completed"]);
    signal(&server.child, "TERM");
    server.ended().check(0, &["stopped"]);
}

/// Whoever lets everyone in has not said that everyone may write to the disk.
#[test]
fn a_server_that_is_open_to_all_makes_no_backup_for_them() {
    let place = Place::new();
    let args = ["serve", "--plugins", "plugins", "--listen", "0.0.0.0:0", "--insecure-no-auth"];
    let server = super::server::Server::new(place.command(&args));
    let port = server.address.rsplit(':').next().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let path = utf8(&place.path("backup")).to_owned();
    place.check(&["store", "backup", &path, "--url", &url], 6, &["over its unix socket, or with an admin's token"]);
    place.check(&["store", "backup", "backup"], 0, &["backed up 0 jobs"]);
}

#[test]
fn a_store_is_made_smaller() {
    let place = with_jobs();
    place.check(&["store", "compact", "data"], 0, &[" before, ", " after, checked"]);
    let said = json(&place.check(&["store", "compact", "data", "-o", "json"], 0, &[]).out);
    assert!(said["after_bytes"].as_u64() <= said["before_bytes"].as_u64(), "{said}");
    place.check(&["store", "check", "--data", "data"], 0, &["4 jobs", "0 wrong"]);
    place.check(&["store", "compact", "nothing"], 9, &["no store in nothing"]);
}

#[test]
fn a_store_is_measured() {
    let place = with_jobs();
    place.check(
        &["store", "stats", "--data", "data"],
        0,
        &["completed", "payloads", "schema 5, epoch 1", " live, ", "log: oldest event 1,", "kept in reserve", "room: "],
    );
}

#[test]
fn a_store_of_this_program_needs_no_migration_and_another_is_named() {
    let place = with_jobs();
    place.check(&["store", "migrate", "data"], 0, &["data has schema 5 already; nothing was changed"]);
    place.write("data/store.marker", b"runner store\nschema 99\nid 0000000000000000\n");
    place.check(&["store", "migrate", "data"], 9, &["schema 99, this program knows up to 5"]);
    place.check(&["store", "migrate", "nothing"], 9, &["no store in nothing"]);
}
