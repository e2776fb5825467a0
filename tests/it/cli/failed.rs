//! A disk that takes no more: the process ends at once with its own exit code, and the next start checks the store.
//!
//! The disk is a limit on the size of files, which the system keeps for a process and its children: a real write that
//! really fails, without the rights that a real full disk would take.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::server::{Server, signal};
use super::{Place, until};

/// How long a process may take to end after its store failed, on a busy machine.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// A store whose file is as large as it may become.
fn with_store() -> (Place, u64) {
    let place = Place::new();
    place.check(&["store", "init", "data"], 0, &[]);
    place.check(&["enqueue", "ok", "--hold", "--data", "data"], 0, &[]);
    let bytes = std::fs::metadata(place.path("data/jobs.redb")).unwrap().len();
    (place, bytes)
}

/// The binary, which may write files of so many bytes.
fn limited(place: &Place, bytes: u64, args: &[&str]) -> Command {
    let mut command = place.command(args);
    let inner: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(ToOwned::to_owned).collect();
    command = Command::new("sh");
    // Blocks of 512 bytes, as POSIX has it. The signal of the limit is ignored, so that the write fails instead.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", bytes / 512);
    command.args(["-c", &script, "sh"]).args(inner).current_dir(place.path("")).stdin(Stdio::null());
    command
}

/// Args that fill a file quickly.
fn much(place: &Place) {
    let line = format!("{{\"kind\": \"ok\", \"args\": {{\"text\": \"{}\"}}}}\n", "x".repeat(200_000));
    place.write("much.ndjson", line.repeat(30).as_bytes());
}

#[test]
fn a_server_whose_store_fails_ends_at_once_also_while_handlers_run() {
    let (place, bytes) = with_store();
    much(&place);
    let serve = ["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0", "--data", "data", "--grace", "1h"];
    let mut server = Server::new(limited(&place, bytes * 2, &serve));
    let spin = place.check(&["enqueue", "spin", "--timeout", "1h", "--data", "data"], 0, &[]).out;
    until("it runs", || place.runner(&["job", "show", spin.trim(), "--data", "data"]).out.contains("running"));
    let failed = Instant::now();
    let mut said = place.runner(&["enqueue", "--from", "much.ndjson", "--data", "data"]);
    while said.code == Some(0) {
        said = place.runner(&["enqueue", "--from", "much.ndjson", "--data", "data"]);
    }
    said.check(8, &["it may or may not have happened"]);
    server.ended().check(8, &["stopped, because the store failed", "start again: it checks"]);
    assert!(failed.elapsed() < ENDS_WITHIN);
    let noted = std::fs::read_to_string(place.path("data/store.failed")).unwrap();
    assert!(noted.starts_with("the store failed; the next start checks it\n"), "{noted}");

    let mut server = place.serve(&["--data", "data"]);
    assert!(!place.path("data/store.failed").exists(), "it was checked, and is clean");
    let shown = ["job", "show", spin.trim(), "--data", "data", "-o", "json"];
    place.check(&shown, 0, &[r#""crashes":0"#, r#""outcome":"interrupted""#]);
    signal(&server.child, "TERM");
    signal(&server.child, "TERM");
    server.ended().check(0, &["stopped"]);
    place.check(&["store", "check", "--data", "data"], 0, &["0 wrong"]);
}

#[test]
fn a_run_whose_store_fails_ends_at_once_also_while_handlers_run() {
    let (place, _) = with_store();
    // Their runs need more room than the file has, and it may not grow.
    place.write("many.ndjson", "{\"kind\": \"ok\"}\n".repeat(4_000).as_bytes());
    place.check(&["enqueue", "--from", "many.ndjson", "--data", "data"], 0, &[]);
    let bytes = std::fs::metadata(place.path("data/jobs.redb")).unwrap().len();
    place.write("jobs.ndjson", b"{\"kind\": \"spin\", \"timeout\": \"1h\", \"priority\": -9}\n");
    let run = ["run", "jobs.ndjson", "--plugins", "plugins", "--data", "data"];
    let began = Instant::now();
    let said: super::Said = limited(&place, bytes, &run).output().unwrap().into();
    assert!(began.elapsed() < ENDS_WITHIN);
    said.check(8, &["stopped, because the store failed", "the same command goes on: it checks"]);
    assert!(place.path("data/store.failed").exists());
    place.check(&["job", "show", "4002", "--data", "data"], 0, &["the check found the store clean", "spin", "running"]);
    assert!(!place.path("data/store.failed").exists());
}

#[test]
fn a_failure_that_cannot_be_noted_is_said_last() {
    let (place, bytes) = with_store();
    much(&place);
    // A folder in the way of the note.
    std::fs::create_dir(place.path("data/store.failed.new")).unwrap();
    let serve = ["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0", "--data", "data"];
    let mut server = Server::new(limited(&place, bytes * 2, &serve));
    while place.runner(&["enqueue", "--from", "much.ndjson", "--data", "data"]).code == Some(0) {}
    let said = server.ended();
    said.check(8, &["noting that the store failed", "run `runner store check` before the next start"]);
}

#[test]
fn a_store_that_failed_and_is_not_clean_waits_for_an_operator() {
    let (place, _) = with_store();
    let text = "a text that stands in the file as it is";
    place.check(&["enqueue", "ok", &format!("{{\"text\": \"{text}\"}}"), "--hold", "--data", "data"], 0, &[]);
    let mut bytes = std::fs::read(place.path("data/jobs.redb")).unwrap();
    let places: Vec<usize> = bytes
        .windows(text.len())
        .enumerate()
        .filter(|(_, window)| *window == text.as_bytes())
        .map(|(at, _)| at)
        .collect();
    for at in places {
        bytes[at] ^= 1;
    }
    place.write("data/jobs.redb", &bytes);
    place.write(
        "data/store.failed",
        b"the store failed; the next start checks it\n20231114T221320.000Z\na planted failure\n",
    );
    for args in [
        ["job", "list", "--data", "data"].as_slice(),
        &["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0", "--data", "data"],
    ] {
        place.check(args, 7, &["a planted failure", "runner store restore", "store check --accept --data data"]);
    }
    place.check(&["store", "check", "--data", "data"], 7, &["`data` is damaged"]);
    place.check(&["store", "check", "--data", "data", "--accept"], 0, &["it is taken as it is"]);
    assert!(!place.path("data/store.failed").exists());
    place.check(&["job", "list", "--data", "data"], 0, &["held"]);
    place.check(&["store", "check", "--data", "data", "--accept"], 7, &["`data` is damaged"]);
}

#[test]
fn a_check_by_hand_is_as_good_as_that_of_the_next_start() {
    let (place, _) = with_store();
    place.write("data/store.failed", b"");
    place.check(&["store", "check", "--data", "data"], 0, &["0 wrong", "it is clean, so the next start goes on"]);
    assert!(!place.path("data/store.failed").exists());
}
