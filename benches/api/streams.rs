//! Connections that stay: readers that follow what happens, and such that say nothing.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::client::{Connection, get, post};
use crate::load::requests;
use crate::rate;
use crate::server::Server;

const FOLLOWERS: usize = 1_000;
/// Connections of the writer beside them: together fewer than any server takes.
const WRITERS: usize = 16;
/// Jobs a request of those.
const LIST: usize = 20;
/// How often both are measured, in turn.
const TURNS: usize = 4;
const IDLE: usize = 10_000;
/// How long a connection may wait to be let in before it counts as not let in.
const LET_IN_WITHIN: Duration = Duration::from_secs(2);

/// What a thousand followers cost whoever enqueues: such that follow a queue of their own, which is quiet, and such that follow
/// everything. With and without them in turn.
pub(crate) async fn followers(server: &Server, jobs: usize) {
    let list = vec![r#"{"kind":"bench.k","queue":"busy","args":{"n":1}}"#; LIST].join(",");
    let request = post("/v1/jobs", &format!("[{list}]"));
    let calls = jobs.div_ceil(LIST);
    requests(server, WRITERS, calls.div_ceil(10), &request).await;
    for (who, path) in
        [("each a queue of its own", "/v1/events?since=now&queue=quiet"), ("each everything", "/v1/events?since=now")]
    {
        let (mut alone, mut beside, mut bytes) = (0.0, 0.0, 0);
        for turn in 0..TURNS {
            // First the one, then the other first: the store grows meanwhile, and that is to be nobody's loss.
            for with_followers in [turn % 2 == 1, turn % 2 == 0] {
                let following = if with_followers { Some(Following::start(server, path).await) } else { None };
                let (times, took) = requests(server, WRITERS, calls, &request).await;
                let what = if with_followers { "  beside 1,000 followers" } else { "  alone" };
                let per_second = rate(&format!("{what}, lists of {LIST}"), times.len() * LIST, took, "-");
                *(if with_followers { &mut beside } else { &mut alone }) += per_second;
                bytes += following.map_or(0, Following::stop);
            }
        }
        println!(
            "followers, {who}: the writer does {:.1} % of what it does alone (n {TURNS} × {jobs} jobs each way; \
             {bytes} bytes were told; asked: >= 90 %)",
            beside / alone * 100.0
        );
    }
}

/// Readers that take what they are told, on a thread of their own: the writer's client is not slowed by reading for them.
struct Following {
    thread: std::thread::JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
    told: Arc<AtomicU64>,
}

impl Following {
    /// Comes back when each has the head of its answer.
    async fn start(server: &Server, path: &'static str) -> Self {
        let (address, told) = (server.address.clone(), Arc::new(AtomicU64::new(0)));
        let (stop, stopped) = oneshot::channel();
        let (tell, ready) = oneshot::channel();
        let counter = Arc::clone(&told);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut readers = JoinSet::new();
                for _ in 0..FOLLOWERS {
                    let mut stream = TcpStream::connect(&address).await.expect("the server listens");
                    stream.write_all(&get(path)).await.expect("the server reads");
                    let mut head = [0; 4_096];
                    let read = stream.read(&mut head).await.expect("the server answers");
                    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head[..read]));
                    readers.spawn(read_on(stream, Arc::clone(&counter)));
                }
                _ = tell.send(());
                // Ends with them all, which no server would be right to do.
                tokio::select! {
                    _ = stopped => {}
                    Some(_) = readers.join_next() => panic!("a follower was cut"),
                }
            });
        });
        ready.await.expect("every follower is let in");
        Self { thread, stop: Some(stop), told }
    }

    /// Answers how many bytes they were told.
    fn stop(mut self) -> u64 {
        drop(self.stop.take());
        self.thread.join().expect("no follower was cut");
        self.told.load(Ordering::Relaxed)
    }
}

async fn read_on(mut stream: TcpStream, told: Arc<AtomicU64>) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
        told.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// Ten thousand connections that have asked once and then say nothing: how much memory the server has in hand for them.
pub(crate) async fn idle(server: &Server) {
    let request = get("/healthz");
    // What a server of any size has in hand once it has answered.
    Connection::open(server).await.ask_for(200, &request).await;
    let before = server.resident_bytes();
    let (mut open, mut over) = (Vec::with_capacity(IDLE), 0);
    while open.len() < IDLE && over == 0 {
        let opened = async {
            let mut connection = Connection::open(server).await;
            connection.ask_for(200, &request).await;
            connection
        };
        match tokio::time::timeout(LET_IN_WITHIN, opened).await {
            Ok(connection) => open.push(connection),
            Err(_) => over += 1,
        }
    }
    let after = server.resident_bytes();
    // Nobody was closed to make room for others.
    let still = open
        .iter()
        .filter(|open| matches!(open.stream.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock));
    let still = still.count();
    println!(
        "idle: {} connections were let in of {IDLE}, {still} are still open; {:.1} MiB more than without them, {:.1} KiB each \
         (asked: 10,000 with <= 100 MiB)",
        open.len(),
        after.saturating_sub(before) as f64 / f64::from(1 << 20),
        after.saturating_sub(before) as f64 / 1_024.0 / open.len() as f64
    );
}
