//! `runner serve`: the command line as its client, its sockets, and its end.

use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{Place, Said, until};

/// A server that listens.
pub(super) struct Server {
    pub(super) child: Child,
    /// All that it logs, from its start on.
    log: Box<dyn BufRead + Send>,
    pub(super) address: String,
}

/// Sends a signal to a process of ours.
pub(super) fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
}

impl Place {
    pub(super) fn serve(&self, more: &[&str]) -> Server {
        let args = [&["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0"], more].concat();
        Server::new(self.command(&args))
    }
}

impl Server {
    /// Starts it, and waits until it listens.
    pub(super) fn new(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut heard, mut address) = (String::new(), String::new());
        while address.is_empty() {
            let before = heard.len();
            assert_ne!(log.read_line(&mut heard).unwrap(), 0, "it ended before it listened");
            let entry: Value = serde_json::from_str(&heard[before..]).unwrap_or_default();
            let url = entry["url"].as_str().unwrap_or_default();
            address = url.split_once("://").unwrap_or_default().1.to_owned();
        }
        Self { child, log: Box::new(Cursor::new(heard).chain(log)), address }
    }

    pub(super) fn child(&self) -> &Child {
        &self.child
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Reads on in its log until it has said this.
    pub(super) fn said(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "it ended, and never said {words:?}");
        }
    }

    /// Waits for its end; what it logged, but for what was read on.
    pub(super) fn ended(&mut self) -> Said {
        let mut err = String::new();
        self.log.read_to_string(&mut err).unwrap();
        Said { code: self.child.wait().unwrap().code(), out: String::new(), err }
    }

    /// Sends bytes as they are; the status line of the answer.
    pub(super) fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }
}

/// A server whose test fails is not left behind.
impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn the_command_line_asks_the_server_over_its_socket_or_its_url() {
    let place = Place::new();
    let mut server = place.serve(&[]);
    let mode = std::fs::metadata(place.path("runner-data/runner.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let said = place.check(&["enqueue", "ok", "--wait"], 0, &["completed"]);
    let id = said.out.lines().next().unwrap();
    assert_eq!(place.check(&["job", "output", id], 0, &[]).out, "{\"done\": true}");
    let url = server.url();
    place.check(
        &["enqueue", "no", "--max-attempts", "1", "--wait", "--url", &url],
        10,
        &["discarded: its only attempt failed: "],
    );
    let spin = place.check(&["enqueue", "spin", "--timeout", "1h"], 0, &[]).out;
    place.check(&["job", "wait", spin.trim(), "--timeout", "10ms"], 12, &["has not ended"]);
    place.check(&["job", "cancel", spin.trim()], 0, &[]);
    place.check(&["job", "wait", spin.trim(), "--url", &url], 11, &["cancelled"]);
    place.check(&["job", "show", "999999", "--url", &url], 3, &["no job with this id"]);
    place.check(&["plugin", "list"], 0, &["spin"]);
    place.check(&["store", "check"], 0, &["0 wrong", "a server has it open"]);
    place.check(&["run", "jobs.ndjson", "--plugins", "plugins"], 2, &["`jobs.ndjson` does not exist"]);
    signal(&server.child, "TERM");
    server.ended().check(0, &["draining", "stopped"]);
    assert!(!place.path("runner-data/runner.sock").exists());
    place.check(&["store", "check"], 0, &["0 wrong"]);
}

#[test]
fn a_signal_drains_and_a_second_one_interrupts() {
    let place = Place::new();
    let mut server = place.serve(&["--grace", "1h"]);
    let id = place.check(&["enqueue", "spin", "--timeout", "1h"], 0, &[]).out;
    until("it runs", || place.runner(&["job", "show", id.trim()]).out.contains("running"));
    signal(&server.child, "INT");
    let mut line = String::new();
    while !line.contains("draining") {
        assert_ne!(server.log.read_line(&mut line).unwrap(), 0, "{line}");
    }
    let ready = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    until("it says that it drains", || server.raw(ready) == "HTTP/1.1 503 Service Unavailable");
    let late = place.check(&["enqueue", "ok"], 0, &[]).out;
    signal(&server.child, "INT");
    server.ended().check(0, &["stopped"]);
    for id in [id, late] {
        place.check(&["job", "show", id.trim(), "-o", "json"], 0, &[r#""state":"available""#, r#""attempts":0"#]);
    }
}

#[test]
fn a_server_that_was_killed_leaves_a_socket_that_nobody_minds() {
    let place = Place::new();
    let mut server = place.serve(&[]);
    let id = place.check(&["enqueue", "spin", "--timeout", "1h", "--hold"], 0, &[]).out;
    signal(&server.child, "KILL");
    assert_eq!(server.ended().code, None);
    assert!(place.path("runner-data/runner.sock").exists());
    place.check(&["job", "show", id.trim()], 0, &["held"]);
    let mut again = place.serve(&[]);
    place.check(&["job", "cancel", id.trim()], 0, &["cancelled"]);
    signal(&again.child, "TERM");
    again.ended().check(0, &["stopped"]);
}

#[test]
fn an_address_that_cannot_be_had_is_said_so_before_anything_is_made() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let serve = |listen: &str, code, words: &[&str]| {
        place.check(&["serve", "--plugins", "plugins", "--listen", listen], code, words);
        assert!(!place.path("runner-data").exists());
    };
    serve(&address, 13, &[&address, "in use by another process", "--listen"]);
    serve("0.0.0.0:0", 6, &["can be reached from other machines", "--insecure-no-auth"]);
    serve("nonsense", 2, &["'nonsense' for '--listen", "127.0.0.1:7070"]);
    serve("192.0.2.1:0", 6, &["can be reached from other machines"]);
}

#[test]
fn only_this_machine_is_let_in() {
    let place = Place::new();
    let server = place.serve(&[]);
    let get = |headers: &str| server.raw(&format!("GET /v1/jobs HTTP/1.1\r\n{headers}\r\n"));
    assert_eq!(get("Host: localhost\r\n"), "HTTP/1.1 200 OK");
    assert_eq!(get("Host: evil.example\r\n"), "HTTP/1.1 403 Forbidden");
    assert_eq!(get("Host: localhost\r\nX-Forwarded-For: 10.0.0.1\r\n"), "HTTP/1.1 403 Forbidden");
    assert_eq!(get("Host: localhost\r\nOrigin: http://evil.example\r\n"), "HTTP/1.1 403 Forbidden");
    let long = format!("Host: localhost\r\nX-Long: {}\r\n", "x".repeat(17 * 1024));
    assert_eq!(get(&long), "HTTP/1.1 431 Request Header Fields Too Large");
    assert_eq!(server.raw("nonsense\r\n\r\n"), "HTTP/1.1 400 Bad Request");
}

#[test]
fn who_wants_no_guard_says_so() {
    let place = Place::new();
    let args = ["serve", "--plugins", "plugins", "--listen", "0.0.0.0:0", "--insecure-no-auth"];
    let server = Server::new(place.command(&args));
    let get = |headers: &str| server.raw(&format!("GET /v1/jobs HTTP/1.1\r\n{headers}\r\n"));
    assert_eq!(get("Host: runner.example\r\nX-Forwarded-For: 10.0.0.1\r\n"), "HTTP/1.1 200 OK");
    assert_eq!(get("Host: runner.example\r\nOrigin: http://evil.example\r\n"), "HTTP/1.1 403 Forbidden");
}

#[test]
fn clients_that_vanish_cost_nothing() {
    let place = Place::new();
    let mut server = place.serve(&[]);
    let id = place.check(&["enqueue", "ok", "--hold"], 0, &[]).out;
    for request in [
        String::new(),
        "GET /v1/jo".to_owned(),
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{".to_owned(),
        format!("GET /v1/jobs/{}/wait?timeout=60s HTTP/1.1\r\nHost: localhost\r\n\r\n", id.trim()),
    ] {
        for _ in 0..50 {
            TcpStream::connect(&server.address).unwrap().write_all(request.as_bytes()).unwrap();
        }
    }
    place.check(&["job", "list"], 0, &["held"]);
    signal(&server.child, "TERM");
    server.ended().check(0, &["stopped"]);
}

/// A full disk, as a limit on the size of files: the store fails in the middle of a commit.
#[test]
fn a_store_that_fails_stops_the_server_and_says_so() {
    let place = Place::new();
    place.check(&["store", "init"], 0, &[]);
    let limited = "trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\"";
    let runner = place.command(&["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", limited]).arg(runner.get_program()).args(runner.get_args()).current_dir(place.path(""));
    let mut server = Server::new(shell);
    let args = format!("\"{}\"", "x".repeat(1_000_000));
    place.write("args.json", args.as_bytes());
    let failed = (0..100).map(|_| place.runner(&["enqueue", "ok", "--hold", "--args-file", "args.json"]));
    let failed = failed.into_iter().find(|said| said.code != Some(0)).expect("8 MiB do not hold 100 MB");
    failed.check(8, &["it may or may not have happened", "same Idempotency-Key"]);
    server.ended().check(8, &["the store failed", "start again: it checks"]);
    place.check(&["store", "check"], 0, &["0 wrong"]);
}

/// A job that runs and had crashed before was said to wait for another such job.
#[test]
fn a_suspect_that_runs_is_not_started_again() {
    let place = Place::new();
    let mut server = place.serve(&["--init"]);
    let slots = || std::fs::read(place.path("runner-data/running.slots")).unwrap();
    let before = slots();
    place.check(&["enqueue", "spin"], 0, &["1"]);
    until("it runs", || place.runner(&["job", "list", "--state", "running"]).out.contains("spin"));
    // What really started is noted a moment after it was claimed.
    until("it has started", || slots() != before);
    server.child.kill().unwrap();
    server.ended();
    let _server = place.serve(&[]);
    place.check(&["job", "show", "1"], 0, &["crashed"]);
    // By hand, unless its retry comes first.
    place.runner(&["job", "start", "1"]);
    until("it runs again", || place.runner(&["job", "list", "--state", "running"]).out.contains("spin"));
    place.check(&["job", "start", "1"], 4, &["not possible while the job is running: it runs already"]);
    place.check(&["job", "delete", "1", "--force"], 0, &["1 deleted"]);
}
