//! Where a server's settings come from, what is said of a file that is wrong, and what SIGHUP changes.

use super::server::{Server, signal};
use super::{Place, until};

impl Place {
    /// The source of a setting, as `config show` has it.
    fn setting(&self, key: &str, args: &[&str], env: &[(&str, &str)]) -> (serde_json::Value, String) {
        let args = [&["config", "show", "-o", "json"], args].concat();
        let output = self.command(&args).envs(env.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        let all: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let one = all.iter().find(|one| one["key"] == key).unwrap_or_else(|| panic!("{key} is not in {lines}"));
        (one["value"].clone(), one["source"].as_str().unwrap().to_owned())
    }
}

#[test]
fn a_flag_goes_before_the_environment_that_before_the_file_that_before_the_default() {
    let place = Place::new();
    let is = |args: &[&str], env: &[(&str, &str)], value: &str, source: &str| {
        assert_eq!(place.setting("slots", args, env), (value.into(), source.to_owned()));
    };
    assert_eq!(place.setting("slots", &[], &[]), (serde_json::Value::Null, "default".to_owned()));
    assert_eq!(place.setting("grace", &[], &[]), ("30s".into(), "default".to_owned()));
    place.write("r.toml", b"# The node's own.\n[serve]\nslots = 3\ngrace = \"5m\"\nplugins = \"plugins\"\n");
    let file = ["--config", "r.toml"];
    is(&file, &[], "3", "r.toml:3");
    is(&file, &[("RUNNER_SLOTS", "4")], "4", "environment RUNNER_SLOTS");
    is(&[&file[..], &["--slots", "5"]].concat(), &[("RUNNER_SLOTS", "4")], "5", "flag");
    assert_eq!(place.setting("grace", &file, &[]), ("5m".into(), "r.toml:4".to_owned()));
    std::fs::create_dir(place.path("runner-data")).unwrap();
    place.write(
        "runner-data/runner.toml",
        b"[serve]\nslots = 6\n[tenants.acme]\nconcurrency = 2\nsecrets = { k = { env = \"K\" } }\n",
    );
    let secret = [("K", "the-secret-itself")];
    is(&[], &secret, "6", "runner-data/runner.toml:2");
    assert_eq!(place.setting("tenants.acme.concurrency", &[], &secret).0, "2");
    let shown = place.command(&["config", "show"]).envs(secret).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("tenants.acme.secrets.k.env") && !shown.contains("the-secret-itself"), "{shown}");
    place.check(&["config", "check", "--config", "r.toml"], 0, &["r.toml can be used; tenants: 1"]);
}

/// What the file says is what the server does, also where a flag is needed without it.
#[test]
fn a_server_goes_by_the_file() {
    let place = Place::new();
    place.check(&["serve"], 2, &["--plugins <DIR>"]);
    place.write("r.toml", b"[serve]\nplugins = \"plugins\"\nlisten = \"127.0.0.1:0\"\nslots = 2\n");
    let mut server = Server::new(place.command(&["serve", "--config", "r.toml"]));
    place.check(&["node", "show"], 0, &["0 of 2 slots"]);
    signal(server.child(), "TERM");
    server.ended().check(0, &["stopped"]);
}

#[test]
fn a_file_that_is_wrong_says_where_and_what_would_be_right() {
    let place = Place::new();
    let check = |bytes: &[u8], words: &[&str]| {
        place.write("r.toml", bytes);
        place.check(&["config", "check", "--config", "r.toml"], 2, words);
        place.check(&["serve", "--plugins", "plugins", "--config", "r.toml"], 2, words);
    };
    check(b"[serve]\nslotz = 1", &["`r.toml`, line 2", "`serve.slotz` is no known key; did you mean `slots`?"]);
    check(b"[serve]\nx = 1", &["line 2", "known are", "compile_time", "metrics_listen"]);
    check(b"\n[serve]\nslots = 0", &["line 3", "`serve.slots` is refused", "1..=256"]);
    check(b"[serve]\ngrace = 30", &["line 2", "`serve.grace`", "has no unit"]);
    check(b"[serve]\ngrace = \"30 parsecs\"", &["line 2", "`serve.grace`", "parsecs"]);
    check(b"[serve]\ninsecure_no_auth = 1", &["line 2", "must be true or false"]);
    check(b"[serve]\nslots = [1]", &["line 2", "must be a text, a number, true or false"]);
    check(b"[serve]\ndata = \"x\"", &["line 2", "`serve.data` is no known key"]);
    check(b"[serve\nslots = 1", &["`r.toml`, line 1"]);
    check(b"[tenants.default]\nconcurency = 1", &["line 2", "did you mean `concurrency`?"]);
    check(b"[serve]\n\xff", &["`r.toml` cannot be read", "UTF-8"]);
    check(&vec![b'#'; (4 << 20) + 1], &["`r.toml` cannot be read", "more than 4194304 bytes"]);
    place.check(&["config", "check", "--config", "gone.toml"], 2, &["`gone.toml` cannot be read", "No such file"]);
    place.check(&["config", "check", "--config", "plugins"], 2, &["`plugins` cannot be read", "not a regular file"]);
    assert!(!place.path("runner-data").exists());
}

/// Editors of other systems put a mark at the front and two bytes at the end of each line.
#[test]
fn a_mark_at_the_front_and_carriage_returns_are_no_mistake() {
    let place = Place::new();
    place.write("r.toml", b"\xef\xbb\xbf[serve]\r\nslots = 7\r\n[tenants.acme]\r\nconcurrency = 2\r\n");
    assert_eq!(place.setting("slots", &["--config", "r.toml"], &[]), ("7".into(), "r.toml:2".to_owned()));
    place.check(&["config", "check", "--config", "r.toml"], 0, &["tenants: 2"]);
}

#[test]
fn sighup_changes_what_can_change_and_says_what_cannot() {
    let place = Place::new();
    place.write("r.toml", b"[serve]\ngrace = \"1h\"\nslots = 2\n");
    let mut server = place.serve(&["--config", "r.toml"]);
    let spin = place.check(&["enqueue", "spin", "--timeout", "1h"], 0, &[]).out;
    until("it runs", || place.runner(&["job", "show", spin.trim()]).out.contains("running"));
    let hup = |server: &Server, text: &[u8]| {
        place.write("r.toml", text);
        signal(server.child(), "HUP");
    };
    hup(&server, b"[serve]\ngrace = \"nonsense\"");
    server.said("the configuration cannot be used; what held before holds");
    hup(&server, b"[serve]\ngrace = \"10ms\"\nslots = 4\n[tenants.acme]\nconcurrency = 1\n");
    server.said("what the configuration says of tenants has changed, which takes a new start");
    signal(server.child(), "TERM");
    // With the grace that it was started with, this would take an hour.
    let said = server.ended();
    said.check(0, &["\"grace_ms\":10", "stopped"]);
}

/// The story: without `plugins`, which the file had given, the command line is wrong, and a wrong command line ends a
/// process; a server that only looks again must not.
#[test]
fn a_file_that_loses_what_is_needed_does_not_end_the_server() {
    let place = Place::new();
    place.write("r.toml", b"[serve]\nplugins = \"plugins\"\nlisten = \"127.0.0.1:0\"\n");
    let mut server = Server::new(place.command(&["serve", "--config", "r.toml"]));
    place.write("r.toml", b"[serve]\n");
    signal(server.child(), "HUP");
    server.said("the configuration cannot be used; what held before holds");
    place.check(&["enqueue", "ok", "--wait"], 0, &["completed"]);
    signal(server.child(), "TERM");
    server.ended().check(0, &["stopped"]);
}
