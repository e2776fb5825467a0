//! The sockets: a TCP address and a unix socket, their bounds, and their end.
//!
//! Every connection is a task in a set that is joined: [`Server::stop`] takes no new ones, lets answers that are being
//! written finish within a bound, and cuts the rest.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::serve::{Listener, ListenerExt};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::access::door::{self, Door};
use super::paced::{Pace, Paced, Rounds};
use super::refusal;
use super::tls::Tls;
use super::wire::Wire;

/// Connections at once on the TCP address where nobody says another number; more wait in the system's queue. One that is
/// idle costs its file and a few KiB; what they send is bounded together ([`super::body::Room`]).
pub const CONNECTIONS: u32 = 16_384;
/// The most that may be asked for: the ports that one address of a client has.
pub const CONNECTIONS_MAX: u32 = 65_536;
/// Connections at once on the unix socket: places of its own, so that whoever fills the address does not lock the operator
/// out.
const SOCKET_CONNECTIONS_MAX: usize = 128;
/// The head of a request, and what HTTP is read into.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long answers that are being written may take once the server ends.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// The name of the unix socket in a data directory.
pub const SOCKET: &str = "runner.sock";

/// What connections may take, of places and of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once on the address.
    pub connections: usize,
    /// The same on the unix socket.
    pub socket_connections: usize,
    /// How long each is waited for.
    pub pace: Pace,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: CONNECTIONS as usize, socket_connections: SOCKET_CONNECTIONS_MAX, pace: Pace::default() }
    }
}

/// The API on its sockets.
pub struct Server {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    socket: Option<PathBuf>,
}

impl Server {
    /// Serves `router` on `tcp`, with TLS if there is a certificate, and, if there is one, on the unix socket, each behind its
    /// door.
    #[must_use]
    pub fn start(
        router: &Router,
        tcp: (TcpListener, Door, Option<Tls>),
        socket: Option<(UnixListener, Door, PathBuf)>,
        bounds: &Bounds,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let places = |places| Places { free: Arc::new(Semaphore::new(places)), pace: bounds.pace };
        let [tcp_places, socket_places] = [bounds.connections, bounds.socket_connections].map(places);
        let mut tasks = JoinSet::new();
        let behind = |door| router.clone().layer(axum::middleware::from_fn_with_state(door, door::check));
        let (listener, door, tls) = tcp;
        // What is written is whole: a small answer, or an event, is not to wait until the one before it was acknowledged.
        // Where that cannot be had, it is only slower.
        let listener = listener.tap_io(|stream| _ = stream.set_nodelay(true));
        tasks.spawn(accept(listener, tls, behind(door), tcp_places, stopped.clone()));
        let socket = socket.map(|(listener, door, path)| {
            tasks.spawn(accept(listener, None, behind(door), socket_places, stopped));
            path
        });
        Self { stop, tasks, socket }
    }

    /// Takes no new connections, lets answers finish, and comes back when every connection is closed.
    pub async fn stop(mut self) {
        if let Some(path) = &self.socket {
            // Whoever looks for a server should not find one that is gone; what is left is harmless, so errors are too.
            _ = std::fs::remove_file(path);
        }
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Binds the unix socket of a data directory, for its owner alone. The store must be open: then whatever is there is
/// left over from a server that is gone.
///
/// # Errors
/// The directory cannot be written, or its path is longer than a socket's may be.
pub fn bind_socket(dir: &Path) -> io::Result<(UnixListener, PathBuf)> {
    let path = dir.join(SOCKET);
    let nursery = dir.join(".runner.sock.new");
    _ = std::fs::remove_dir_all(&nursery);
    // Bound where nobody else can go, so that there is no moment in which others may connect.
    std::fs::DirBuilder::new().mode(0o700).create(&nursery)?;
    let bound = bind_in(&nursery, &path);
    _ = std::fs::remove_dir_all(&nursery);
    Ok((bound?, path))
}

fn bind_in(nursery: &Path, path: &Path) -> io::Result<UnixListener> {
    let new = nursery.join("s");
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

/// Whether an address is this machine's own.
#[must_use]
pub fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Room for connections, and how long each is waited for.
struct Places {
    free: Arc<Semaphore>,
    pace: Pace,
}

async fn accept<L: Listener>(
    mut listener: L,
    tls: Option<Tls>,
    router: Router,
    Places { free, pace }: Places,
    mut stopped: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // Never closed: it is held here.
            let place = Arc::clone(&free).acquire_owned().await.ok();
            (listener.accept().await.0, place)
        };
        tokio::select! {
            () = asked_to_stop(&mut stopped) => break,
            Some(_) = connections.join_next() => {}
            (stream, place) = next => {
                let (tls, router, stopped) = (tls.clone(), router.clone(), stopped.clone());
                connections.spawn(async move {
                    let _place = place;
                    match tls {
                        None => serve(stream, pace, router, stopped).await,
                        Some(tls) => {
                            // Whoever does not finish a handshake is nobody to be answered.
                            if let Ok(Ok(stream)) = tokio::time::timeout(pace.head, tls.acceptor().accept(stream)).await {
                                // Apart: within this task, those without TLS would have room for it as well, several times.
                                serve(Box::new(stream), pace, router, stopped).await;
                            }
                        }
                    }
                });
            }
        }
    }
    let all = async { while connections.join_next().await.is_some() {} };
    // Those that are not done by then are cut when the set is dropped.
    _ = tokio::time::timeout(STOP_WITHIN, all).await;
}

pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    pace: Pace,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let rounds = Rounds::default();
    let mut stream = Paced::new(stream, pace, rounds.clone());
    loop {
        let woken = tokio::select! {
            woken = stream.woken() => woken,
            () = asked_to_stop(&mut stopped) => false,
        };
        if !woken {
            return;
        }
        match speak(stream, &rounds, &router, &mut stopped).await {
            Some(asleep) => stream = asleep,
            None => return,
        }
    }
}

/// Speaks HTTP over a stream until it ends; answers the stream if it falls asleep.
async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
    stream: Paced<S>,
    rounds: &Rounds,
    router: &Router,
    stopped: &mut watch::Receiver<bool>,
) -> Option<Paced<S>> {
    let (router, of_answers) = (TowerToHyperService::new(router.clone()), rounds.clone());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        of_answers.begin();
        let (rounds, is_chunked) = (of_answers.clone(), request.headers().contains_key(header::TRANSFER_ENCODING));
        let is_read = !(is_chunked && of_answers.is_of_two_lengths());
        let is_last = is_chunked || of_answers.is_last();
        let answer = is_read.then(|| router.call(request));
        async move {
            let mut response = match answer {
                Some(answer) => answer.await?,
                None => refusal::two_lengths(),
            };
            if is_last {
                // Whoever looks for two lengths does not look where chunks end, so that no request begins behind them.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(rounds.until_answered(response))
        }
    });
    let wire = Wire::new(stream, rounds.clone());
    let mut http = http1::Builder::new();
    let connection = http.max_buf_size(HEAD_BYTES_MAX).serve_connection(TokioIo::new(wire), service);
    // Of a connection that is asleep nothing of this is left, so it must not lie within whoever waits for it.
    let mut connection = Box::new(connection);
    let mut answered = rounds.answered();
    let asleep_or_ended = poll_fn(|cx| {
        loop {
            match Pin::new(&mut *connection).poll(cx) {
                Poll::Ready(ended) => return Poll::Ready(Some(ended)),
                Poll::Pending if rounds.is_asleep() => return Poll::Ready(None),
                // It has not looked for the next request yet, for which the time begins now.
                Poll::Pending if rounds.answered() != answered => answered = rounds.answered(),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    let ended = tokio::select! {
        ended = asleep_or_ended => ended,
        () = asked_to_stop(stopped) => {
            Pin::new(&mut *connection).graceful_shutdown();
            Some(Pin::new(&mut *connection).await)
        }
    };
    match ended {
        None => {
            let parts = connection.into_parts();
            let mut stream = parts.io.into_inner().into_inner();
            stream.unread(parts.read_buf);
            Some(stream)
        }
        Some(Ok(())) => {
            let wire = connection.into_parts().io.into_inner();
            if wire.heads().is_within_body() {
                Box::pin(linger(wire)).await;
            }
            None
        }
        Some(Err(error)) => {
            let http1::Parts { io, read_buf, .. } = connection.into_parts();
            Box::pin(refuse(error, io.into_inner(), read_buf)).await;
            None
        }
    }
}

/// Tells whoever does not speak HTTP, or is too slow with it, why its connection ends.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(error: hyper::Error, wire: Wire<Paced<S>>, read: Bytes) {
    tracing::debug!(%error, "a connection ended early");
    // Else the client went away in the middle of an answer.
    if let Some(problem) = refusal::of(&error, &read, wire.heads()).filter(|_| wire.is_quiet()) {
        let mut stream = wire.into_inner();
        stream.end();
        refusal::tell(stream, problem).await;
    }
}

/// Whoever was answered before all of its request was read may still send it.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(wire: Wire<Paced<S>>) {
    let mut stream = wire.into_inner();
    stream.end();
    refusal::linger(&mut stream).await;
}

async fn asked_to_stop(stopped: &mut watch::Receiver<bool>) {
    // A server that was dropped without `stop` ends as well.
    _ = stopped.wait_for(|stopped| *stopped).await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::net::{TcpStream, UnixStream};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use runner_store::Handle;
    use runner_store::clock::Clock;
    use runner_store::engine::memory::Memory;

    use super::super::access::Access;
    use super::super::guard::Guard;
    use super::*;

    /// Far more than any connection here is waited for.
    const NEVER: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_millis(400);
    const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    /// More than every buffer on the way holds.
    const MUCH: usize = 8 << 20;

    /// A connection that is served at this pace; what the other end has of it, and its end.
    fn connection(pace: Pace) -> (DuplexStream, JoinHandle<()>) {
        let slow = || async {
            tokio::time::sleep(LONG).await;
            "slow"
        };
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/slow", get(slow))
            .route("/much", get(|| async { vec![b'.'; MUCH] }));
        let (ours, theirs) = tokio::io::duplex(1_024);
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(async move {
            serve(theirs, pace, router, stopped).await;
            drop(stop);
        });
        (ours, served)
    }

    /// How long it takes until it ends, in its time or not at all.
    async fn ends(served: JoinHandle<()>) -> Duration {
        let began = Instant::now();
        tokio::time::timeout(Duration::from_secs(60), served).await.expect("it is given up").expect("no panic");
        began.elapsed()
    }

    async fn answer(ours: &mut DuplexStream, body: &str) {
        let mut text = String::new();
        while !text.ends_with(body) {
            text.push(char::from(ours.read_u8().await.expect("an answer")));
        }
    }

    #[tokio::test]
    async fn who_does_not_end_a_head_is_given_up() {
        let pace = Pace { head: SHORT, idle: NEVER, awake: NEVER, taken: NEVER };
        let (_silent, served) = connection(pace);
        assert!(ends(served).await >= SHORT, "it has its time");
        let (mut begins, served) = connection(pace);
        begins.write_all(&ASK[..9]).await.unwrap();
        ends(served).await;
        // The time is that of the whole head, and not of its next byte.
        let (mut drips, served) = connection(pace);
        let dripping = tokio::spawn(async move {
            while drips.write_all(b"G").await.is_ok() {
                tokio::time::sleep(SHORT / 10).await;
            }
        });
        ends(served).await;
        dripping.await.unwrap();
        // It begins anew with each request.
        let (mut again, served) = connection(pace);
        again.write_all(ASK).await.unwrap();
        answer(&mut again, "here").await;
        again.write_all(&ASK[..9]).await.unwrap();
        ends(served).await;
    }

    #[tokio::test]
    async fn who_asks_nothing_more_is_given_up_later_than_who_asks_slowly() {
        let (mut ours, served) = connection(Pace { head: SHORT, idle: LONG, awake: NEVER, taken: NEVER });
        for _ in 0..3 {
            ours.write_all(ASK).await.unwrap();
            answer(&mut ours, "here").await;
        }
        let waited = ends(served).await;
        assert!(waited >= LONG - SHORT, "{waited:?}: a client may keep its connection");
        assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn who_was_silent_for_a_while_is_served_on() {
        let awake = Duration::from_millis(2);
        let (mut ours, served) = connection(Pace { head: NEVER, idle: LONG, awake, taken: NEVER });
        let silence = || tokio::time::sleep(SHORT);
        for _ in 0..3 {
            silence().await;
            ours.write_all(ASK).await.unwrap();
            answer(&mut ours, "here").await;
        }
        // One that has begun is no silence, also where its beginning came with the request before.
        ours.write_all(&[ASK, &ASK[..9]].concat()).await.unwrap();
        answer(&mut ours, "here").await;
        silence().await;
        ours.write_all(&ASK[9..]).await.unwrap();
        answer(&mut ours, "here").await;
        let waited = ends(served).await;
        assert!(waited >= LONG - SHORT, "{waited:?}: asleep or not, it has its time");
    }

    #[tokio::test]
    async fn an_answer_may_take_longer_than_a_question() {
        let (mut ours, served) = connection(Pace { head: SHORT, idle: SHORT, awake: NEVER, taken: SHORT });
        ours.write_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        answer(&mut ours, "slow").await;
        ends(served).await;
    }

    #[tokio::test]
    async fn who_takes_nothing_is_given_up() {
        let (mut ours, served) = connection(Pace { head: NEVER, idle: NEVER, awake: NEVER, taken: SHORT });
        ours.write_all(b"GET /much HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        ends(served).await;
        // Who takes it, however slowly, is not, and is not silent meanwhile: it was taken for that as soon as the whole answer
        // was there to be sent.
        let (mut ours, served) = connection(Pace { head: NEVER, idle: SHORT, awake: NEVER, taken: LONG });
        ours.write_all(b"GET /much HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut taken = Vec::new();
        ours.read_to_end(&mut taken).await.unwrap();
        assert!(taken.len() > MUCH);
        ends(served).await;
    }

    /// The sockets shared their places: a thousand connections over TCP that said nothing kept the command line waiting
    /// for as long as they were renewed.
    #[tokio::test]
    async fn the_unix_socket_answers_while_the_address_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (socket, path) = bind_socket(dir.path()).unwrap();
        let (store, _writer) = Handle::start(Box::new(Memory::new(Clock::System))).unwrap();
        let access = Access::new(store, Clock::System);
        let [outside, inside] = [Guard::Open, Guard::Socket].map(|guard| Door::new(guard, Arc::clone(&access)));
        let router = Router::new().route("/", get(|| async { "here" }));
        let bounds = Bounds { connections: 1, socket_connections: 1, ..Bounds::default() };
        let server = Server::start(&router, (listener, outside, None), Some((socket, inside, path.clone())), &bounds);
        let ask = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET / HT").await.unwrap();
        let mut queued = TcpStream::connect(address).await.unwrap();
        queued.write_all(ask).await.unwrap();
        let mut operator = UnixStream::connect(&path).await.unwrap();
        operator.write_all(ask).await.unwrap();
        let mut answer = String::new();
        operator.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("here"), "{answer}");
        let unanswered = queued.try_read(&mut [0]).expect_err("no place is free on the address");
        assert_eq!(unanswered.kind(), io::ErrorKind::WouldBlock);
        drop(silent);
        queued.read_to_string(&mut answer).await.unwrap();
        server.stop().await;
        assert!(!path.exists());
    }
}
