//! `runner doctor` and `runner status`: what is wrong, how to mend it, and how things stand.

use std::os::unix::fs::PermissionsExt;

use super::Place;
use super::server::signal;

#[test]
fn a_node_that_is_well_is_said_to_be() {
    let place = Place::new();
    let said = place.check(&["doctor", "--plugins", "plugins", "--listen", "127.0.0.1:0"], 0, &["nothing is wrong"]);
    for word in ["version", "does not exist yet", "open_files", "memory", "address", "3 load, for 3 kinds"] {
        assert!(said.out.contains(word), "{word} is not in {}", said.out);
    }
    place.check(&["store", "init"], 0, &[]);
    place.check(&["doctor", "--listen", "127.0.0.1:0"], 0, &["nobody has it open", "nothing is wrong"]);
    let mut server = place.serve(&[]);
    let said = place.check(&["doctor", "-o", "json", "--listen", "127.0.0.1:0"], 0, &["a server has it open"]);
    for line in said.out.lines() {
        let finding: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(finding["check"].is_string() && finding["what"].is_string(), "{line}");
        assert!(["good", "look", "wrong"].contains(&finding["level"].as_str().unwrap()), "{line}");
        assert_eq!(finding["mend"].is_null(), finding["level"] == "good", "{line}");
    }
    let url = server.url();
    place.check(&["doctor", "--url", &url], 0, &["nothing is wrong"]);
    // That is the owner's to say.
    place.check(&["doctor", "--url", &url, "--accept-clock"], 1, &["needs the scope admin"]);
    place.check(&["doctor", "--listen", "127.0.0.1:0", "--accept-clock"], 0, &["nothing is wrong"]);
    signal(server.child(), "TERM");
    server.ended().check(0, &["stopped"]);
}

#[test]
fn each_thing_that_is_wrong_is_found_with_how_to_mend_it() {
    let place = Place::new();
    place.check(&["store", "init"], 0, &[]);
    let doctor = ["doctor", "--listen", "127.0.0.1:0"];
    let check = |args: &[&str], words: &[&str]| _ = place.check(&[&doctor[..], args].concat(), 1, words);
    std::fs::set_permissions(place.path("runner-data"), std::fs::Permissions::from_mode(0o777)).unwrap();
    check(&[], &["can be written by other users", "chmod go-w"]);
    std::fs::set_permissions(place.path("runner-data"), std::fs::Permissions::from_mode(0o700)).unwrap();
    place.write("plugins/bad.wasm", b"oops");
    place.write("plugins/ok.toml", b"[allow.blobs]\nphotos = \"read\"");
    check(
        &["--plugins", "plugins"],
        &["bad.wasm", "not WebAssembly but a text", "blobs photos read", "is not granted"],
    );
    check(&["--plugins", "gone"], &["gone", "--plugins"]);
    place.write("bad.toml", b"[serve]\nslotz = 1");
    check(&["--config", "bad.toml"], &["line 2", "did you mean `slots`?", "runner config check"]);
    place.write("r.toml", b"[serve]\nplugins = \"gone\"\n[node]\nmemory = \"102400GiB\"");
    check(&["--config", "r.toml"], &["100 TiB for all runs together", "lower `memory`", "gone"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    place.check(&["doctor", "--listen", &address], 1, &["cannot be listened on", "choose another one with --listen"]);
    place.write("file", b"");
    check(&["--data", "file"], &["file is not a folder"]);
}

#[test]
fn how_things_stand_fits_one_screen() {
    let place = Place::new();
    place.check(&["store", "init"], 0, &[]);
    place.check(&["status"], 0, &["node    none", "jobs    none", "wrong   no node runs jobs on this store"]);
    let mut server = place.serve(&["--init"]);
    place.check(&["status"], 0, &["node    running, 0 of", "nothing is wrong"]);
    for queue in 0..20 {
        place.check(&["enqueue", "made-up", "--queue", &format!("q{queue}")], 0, &[]);
    }
    place.check(&["queue", "pause", "q3"], 0, &[]);
    let said = place.check(&["status"], 0, &["20 available", "OLDEST AVAILABLE", "and 5 more: `runner queue list`"]);
    assert!(said.out.lines().count() <= 24, "{}", said.out);
    let said = place.check(&["status", "-o", "json"], 0, &[]);
    let stats: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let queues = stats["queues"].as_array().unwrap();
    assert_eq!((queues.len(), &stats["states"]["available"]), (20, &20.into()));
    let paused: Vec<_> = queues.iter().filter(|queue| queue["paused"] == true).map(|queue| &queue["name"]).collect();
    assert_eq!(paused, ["q3"]);
    assert!(queues.iter().all(|queue| queue["oldest_available_ms"].is_u64()), "{stats}");
    place.check(&["node", "drain"], 0, &[]);
    place.check(&["status"], 0, &["node    draining", "wrong   the node starts nothing more"]);
    signal(server.child(), "TERM");
    server.ended().check(0, &["stopped"]);
}
