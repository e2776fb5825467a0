//! What do connections cost that say nothing? 10,000 clients ask once each, keep their connections and are silent; another one
//! is served meanwhile, and after a minute they are given up.
//!
//! `cargo bench -p runner --bench connections`; RUNNER names a binary other than the one that is built with it. The server is
//! a process of its own, so that its memory is its own: what it has more of with the connections than without must not exceed
//! 100 MiB. Both processes need a file for each connection: `ulimit -n` 12,000 or more. Linux only, as it asks /proc.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const CONNECTIONS: usize = 10_000;
/// What the first requests cost once, whoever sends them, is not counted.
const WARM: usize = 200;
const MEMORY_MAX: u64 = 100 << 20;
const ASK: &[u8] = b"GET /v1/jobs?limit=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// When the server gives up who is silent, and how much later that may be seen here.
const IDLE: Duration = Duration::from_secs(60);
const LATE: Duration = Duration::from_secs(30);

struct Server {
    child: Child,
    address: String,
    _place: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let place = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(place.path().join("plugins")).expect("a folder");
        let program = std::env::var("RUNNER").unwrap_or_else(|_| env!("CARGO_BIN_EXE_runner").to_owned());
        let mut command = Command::new(program);
        command.args(["serve", "--plugins", "plugins", "--data", "data", "--listen", "127.0.0.1:0"]);
        let command =
            command.current_dir(place.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("its log"), 0, "it ended before it listened");
            if let Some((_, rest)) = line.split_once("\"url\":\"http://") {
                break rest.split('"').next().unwrap_or_default().to_owned();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, address, _place: place }
    }

    /// A client that has asked once, and its connection.
    fn ask(&self) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("a place");
        stream.write_all(ASK).expect("a request");
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let mut bytes = [0; 4_096];
            let read = stream.read(&mut bytes).expect("an answer");
            assert_ne!(read, 0, "it was closed");
            answer.extend_from_slice(&bytes[..read]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        stream
    }

    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn main() {
    let limit = getrlimit(Resource::Nofile);
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let server = Server::start();
    drop((0..WARM).map(|_| server.ask()).collect::<Vec<_>>());
    let before = server.resident();
    let began = Instant::now();
    let mut silent: Vec<TcpStream> = (0..CONNECTIONS).map(|_| server.ask()).collect();
    let took = began.elapsed();
    let last = Instant::now();
    let cost = server.resident().saturating_sub(before);
    println!(
        "{CONNECTIONS} idle connections, made in {took:?}: {} MiB resident, before them {} MiB; {} B each",
        cost >> 20,
        before >> 20,
        cost / CONNECTIONS as u64,
    );
    let mut others: Vec<Duration> = (0..200)
        .map(|_| {
            let began = Instant::now();
            drop(server.ask());
            began.elapsed()
        })
        .collect();
    others.sort_unstable();
    println!("another client meanwhile: median {:?}, p99 {:?}, n = 200", others[100], others[198]);
    for stream in &mut silent {
        stream.set_read_timeout(Some(IDLE + LATE)).expect("a time");
        assert_eq!(stream.read(&mut [0]).expect("an end in time"), 0);
    }
    let gone = last.elapsed();
    println!("all of them are closed {gone:?} after the last one asked; {} MiB resident then", server.resident() >> 20);
    assert!(gone >= IDLE - Duration::from_secs(1) && gone < IDLE + LATE, "{gone:?}");
    assert!(cost <= MEMORY_MAX, "{cost}");
}
