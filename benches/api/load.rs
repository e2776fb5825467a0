//! Enqueues: one job a request, and many.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;

use crate::client::{Connection, post};
use crate::server::Server;
use crate::{rate, spread};

/// Connections that enqueue one job each time.
const CONNECTIONS: usize = 256;
/// Connections that send lists.
const LISTS: usize = 2;
/// Jobs a list.
const LIST: usize = 1_000;
/// Queues, kinds and tags that stored jobs are spread over.
pub(crate) const QUEUES: usize = 20;
pub(crate) const KINDS: usize = 10;
pub(crate) const CUSTOMERS: usize = 1_000;

/// `single durable enqueues`: each connection waits for its answer, as most clients do.
pub(crate) async fn enqueue(server: &Server, jobs: usize) {
    let request = post("/v1/jobs", &job(0, ""));
    // The first requests name what is new, and grow what is to grow.
    requests(server, CONNECTIONS, jobs.div_ceil(10), &request).await;
    let (times, took) = requests(server, CONNECTIONS, jobs, &request).await;
    rate("enqueue, one job a request, 256 connections", times.len(), took, ">= 10,000/s");
    spread("enqueue, one job a request, 256 connections", times, "p99 <= 50 ms");
}

/// Many jobs a request: as lists, and as a stream of lines.
pub(crate) async fn bulk(server: &Server, jobs: usize) {
    let request = post("/v1/jobs", &format!("[{}]", vec![job(0, ""); LIST].join(",")));
    requests(server, LISTS, 10, &request).await;
    let (times, took) = requests(server, LISTS, jobs.div_ceil(LIST), &request).await;
    rate("bulk, lists of 1,000, 2 connections", times.len() * LIST, took, ">= 50,000 jobs/s");
    spread("bulk, a list of 1,000", times, "-");
    let begun = Instant::now();
    match stream(server, jobs).await {
        Some(answered) => {
            assert_eq!(answered, jobs, "each line has its answer");
            rate("bulk, one stream of lines", jobs, begun.elapsed(), ">= 50,000 jobs/s");
        }
        None => println!("bulk, one stream of lines: this server takes none"),
    }
}

/// Stores jobs of many queues, kinds, tags and states.
pub(crate) async fn fill(server: &Server, jobs: usize) {
    let begun = Instant::now();
    let mut connection = Connection::open(server).await;
    for n in 0..jobs.div_ceil(LIST) {
        connection.ask_for(201, &post("/v1/jobs", &list(n * LIST))).await;
    }
    rate("(stored, for what follows: lists of 1,000, 1 connection)", jobs, begun.elapsed(), "-");
}

/// One of many jobs: what it is follows from its number.
fn job(n: usize, more: &str) -> String {
    let (queue, kind, text) = (n % QUEUES, n % KINDS, "x".repeat(180));
    format!(r#"{{"kind":"bench.k{kind}","queue":"q{queue}","args":{{"text":"{text}"}}{more}}}"#)
}

fn list(from: usize) -> String {
    let jobs: Vec<String> = (from..from + LIST)
        .map(|n| {
            let state = match n % 7 {
                0 => r#","delay":"100h""#,
                1 => r#","hold":true"#,
                _ => "",
            };
            job(n, &format!(r#"{state},"tags":{{"customer":"{}"}}"#, n % CUSTOMERS))
        })
        .collect();
    format!("[{}]", jobs.join(","))
}

/// Sends a request so many times over so many connections; answers how long each took, and all.
pub(crate) async fn requests(
    server: &Server,
    connections: usize,
    n: usize,
    request: &[u8],
) -> (Vec<Duration>, Duration) {
    let (left, request): (_, Rc<[u8]>) = (Rc::new(Cell::new(n)), Rc::from(request));
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(Connection::open(server).await);
    }
    let local = LocalSet::new();
    let begun = Instant::now();
    let all: Vec<_> = open
        .into_iter()
        .map(|mut connection| {
            let (left, request) = (Rc::clone(&left), Rc::clone(&request));
            local.spawn_local(async move {
                let mut times = Vec::new();
                while let Some(rest) = left.get().checked_sub(1) {
                    left.set(rest);
                    let begun = Instant::now();
                    connection.ask_for(201, &request).await;
                    times.push(begun.elapsed());
                }
                times
            })
        })
        .collect();
    local.await;
    let took = begun.elapsed();
    let mut times = Vec::with_capacity(n);
    for one in all {
        times.extend(one.await.expect("no request fails"));
    }
    (times, took)
}

/// Sends all jobs as lines of one request, and counts the answers; none: the server does not take lines.
async fn stream(server: &Server, jobs: usize) -> Option<usize> {
    let connection = Connection::open(server).await;
    let (mut answers, mut lines) = connection.stream.into_split();
    let head = "Host: localhost\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
    lines.write_all(format!("POST /v1/jobs HTTP/1.1\r\n{head}").as_bytes()).await.expect("the server reads");
    let line = job(0, "") + "\n";
    let part = line.repeat(100);
    let part = format!("{:x}\r\n{part}\r\n", part.len());
    let rest = format!("{:x}\r\n{}\r\n0\r\n\r\n", line.len() * (jobs % 100), line.repeat(jobs % 100));
    let rest = if jobs.is_multiple_of(100) { "0\r\n\r\n".to_owned() } else { rest };
    let send = async {
        for _ in 0..jobs / 100 {
            // A server that takes no lines says so and closes.
            if lines.write_all(part.as_bytes()).await.is_err() {
                return;
            }
        }
        _ = lines.write_all(rest.as_bytes()).await;
    };
    let count = async {
        let (mut bytes, mut counted, mut refused) = (Vec::with_capacity(64 * 1024), 0, None);
        while answers.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
            // Before the head, nothing is of an answer.
            refused = refused.or_else(|| bytes.windows(4).any(|w| w == b"\r\n\r\n").then(|| bytes[9] == b'4'));
            if refused == Some(true) {
                return None;
            }
            counted += bytes.windows(8).filter(|window| window == b"\"state\":").count();
            if bytes.ends_with(b"0\r\n\r\n") {
                break;
            }
            // What may be the beginning of a word stays, and is too short to be counted twice.
            bytes.drain(..bytes.len().saturating_sub(7));
        }
        Some(counted)
    };
    let mut send = std::pin::pin!(send);
    let mut count = std::pin::pin!(count);
    tokio::select! {
        counted = &mut count => counted,
        () = &mut send => count.await,
    }
}
