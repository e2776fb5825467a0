//! The sockets: a TCP address and a unix socket, their bounds, and their end.
//!
//! Every connection is a task in a set that is joined: [`Server::stop`] takes no new ones, lets answers that are being
//! written finish within a bound, and cuts the rest.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::{Listener, ListenerExt};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::access::door::{self, Door};
use super::tls::Tls;

/// Connections at once on the TCP address; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 1_024;
/// The same on the unix socket: places of its own, so that whoever fills the address does not lock the operator out.
const SOCKET_CONNECTIONS_MAX: usize = 128;
/// From the first byte of a request's head to its last, and between two requests.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The head of a request.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long answers that are being written may take once the server ends.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// The name of the unix socket in a data directory.
pub const SOCKET: &str = "runner.sock";

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
    ) -> Self {
        Self::with_places(router, tcp, socket, [CONNECTIONS_MAX, SOCKET_CONNECTIONS_MAX])
    }

    fn with_places(
        router: &Router,
        tcp: (TcpListener, Door, Option<Tls>),
        socket: Option<(UnixListener, Door, PathBuf)>,
        places: [usize; 2],
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let [tcp_places, socket_places] = places.map(|places| Arc::new(Semaphore::new(places)));
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

async fn accept<L: Listener>(
    mut listener: L,
    tls: Option<Tls>,
    router: Router,
    places: Arc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // Never closed: it is held here.
            let place = Arc::clone(&places).acquire_owned().await.ok();
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
                        None => serve(stream, router, stopped).await,
                        Some(tls) => {
                            // Whoever does not finish a handshake is nobody to be answered.
                            if let Ok(Ok(stream)) = tokio::time::timeout(HEAD_WITHIN, tls.acceptor().accept(stream)).await {
                                serve(stream, router, stopped).await;
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

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, mut stopped: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = asked_to_stop(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A client that went away or was too slow: its loss, and nothing to be done.
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn asked_to_stop(stopped: &mut watch::Receiver<bool>) {
    // A server that was dropped without `stop` ends as well.
    _ = stopped.wait_for(|stopped| *stopped).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UnixStream};

    use runner_store::Handle;
    use runner_store::clock::Clock;
    use runner_store::engine::memory::Memory;

    use super::super::access::Access;
    use super::super::guard::Guard;
    use super::*;

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
        let router = Router::new().route("/", axum::routing::get(|| async { "here" }));
        let server =
            Server::with_places(&router, (listener, outside, None), Some((socket, inside, path.clone())), [1, 1]);
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
