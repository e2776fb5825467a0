//! Many connections that say nothing: what they cost, and whom they hold up. `benches/connections.rs` has ten times as many,
//! and waits until they are given up.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Place;
use super::server::{Server, signal};

const CONNECTIONS: usize = 1_000;
/// A tenth of the 100 MiB of ten times as many, and what a debug build has more.
#[cfg(target_os = "linux")]
const BYTES_MAX: u64 = 12 << 20;

/// A client that has asked once and keeps its connection.
fn silent(server: &Server) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut stream = BufReader::with_capacity(64, stream);
    let mut line = String::new();
    while line != "ok\n" {
        line.clear();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0, "it was closed");
    }
    stream
}

#[cfg(target_os = "linux")]
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child().id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// There were 1,024 places: as many clients that kept their connections locked everybody else out.
#[test]
fn idle_connections_cost_little_and_hold_up_nobody() {
    let limit = getrlimit(Resource::Nofile);
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let place = Place::new();
    let mut server = place.serve(&[]);
    drop((0..100).map(|_| silent(&server)).collect::<Vec<_>>());
    #[cfg(target_os = "linux")]
    let before = resident(&server);
    let many: Vec<_> = (0..CONNECTIONS).map(|_| silent(&server)).collect();
    #[cfg(target_os = "linux")]
    {
        let then = resident(&server);
        assert!(then <= before + BYTES_MAX, "{} B each", (then - before) / CONNECTIONS as u64);
    }
    let more: Vec<_> = (0..100).map(|_| silent(&server)).collect();
    place.check(&["enqueue", "ok", "--wait", "--url", &server.url()], 0, &["completed"]);
    drop((many, more));
    signal(server.child(), "TERM");
    server.ended().check(0, &["stopped"]);
}

/// As many as the limit of open files allows, and it says so.
#[test]
fn connections_fit_the_limit_of_open_files() {
    let place = Place::new();
    place.check(&["store", "init"], 0, &[]);
    let limited = |n: &str, args: &[&str]| {
        let runner = place.command(args);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {n}; exec \"$0\" \"$@\"")]).arg(runner.get_program());
        shell.args(runner.get_args()).current_dir(place.path(""));
        shell
    };
    let serve = ["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0"];
    let mut server = Server::new(limited("4096", &serve));
    drop(silent(&server));
    signal(server.child(), "TERM");
    server.ended().check(0, &["too low for all connections", "\"connections\":3072", "LimitNOFILE="]);
    let mut server = Server::new(limited("4096", &[&serve[..], &["--connections", "3000"]].concat()));
    signal(server.child(), "TERM");
    let said = server.ended();
    assert!(!said.err.contains("too low"), "{}", said.err);
    let doctor = |args: &[&str]| {
        let args = [&["doctor", "--listen", "127.0.0.1:0"], args].concat();
        super::Said::from(limited("4096", &args).output().unwrap())
    };
    doctor(&[]).check(0, &["4096 at once are too few for 16384 connections", "17408 or more", "LimitNOFILE="]);
    place.write("r.toml", b"[serve]\nconnections = 3000\n");
    doctor(&["--config", "r.toml"]).check(0, &["up to 4096", "nothing is wrong"]);
    place.check(&["serve", "--plugins", "plugins", "--connections", "0"], 2, &["0 is not in 1..=65536"]);
}
