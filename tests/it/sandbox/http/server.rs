//! A server that says exactly what a test wants, byte for byte, over TCP or TLS, on this machine only.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// What a test waits for at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// Both kinds of connection.
pub(super) trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// Answers one request: what was received, and where to write.
type Reply = Arc<dyn Fn(&str, &mut dyn Wire) + Send + Sync>;

/// Runs until it is dropped.
pub(super) struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    ends: AtomicBool,
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
    ended: AtomicUsize,
    changed: Condvar,
}

impl Server {
    /// Answers every request like this.
    pub(super) fn start(reply: impl Fn(&str, &mut dyn Wire) + Send + Sync + 'static) -> Self {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into(), None, Arc::new(reply)).expect("a port is to be had")
    }

    /// Answers every request with these bytes.
    pub(super) fn says(answer: &str) -> Self {
        let answer = answer.to_owned();
        Self::start(move |_, wire| {
            write(wire, answer.as_bytes());
        })
    }

    /// The same over TLS.
    pub(super) fn tls(config: Arc<ServerConfig>, reply: impl Fn(&str, &mut dyn Wire) + Send + Sync + 'static) -> Self {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into(), Some(config), Arc::new(reply)).expect("a port is to be had")
    }

    /// Counts who comes to this address, if the machine has it.
    pub(super) fn trap(address: SocketAddr) -> Option<Self> {
        let reply = |_: &str, wire: &mut dyn Wire| {
            write(wire, b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret");
        };
        Self::listen(address, None, Arc::new(reply)).ok()
    }

    fn listen(address: SocketAddr, tls: Option<Arc<ServerConfig>>, reply: Reply) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.ends.load(Ordering::SeqCst) {
                    return;
                }
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (shared, tls, reply) = (Arc::clone(&shared), tls.clone(), Arc::clone(&reply));
                std::thread::spawn(move || serve(&shared, stream, tls, &reply));
            }
        });
        Ok(Self { address, state })
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Who came, if only to look.
    pub(super) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Heads and bodies, as they came.
    pub(super) fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Waits until so many connections are over.
    #[track_caller]
    pub(super) fn wait_ended(&self, count: usize) {
        let began = Instant::now();
        let mut guard = self.state.requests.lock().unwrap();
        while self.state.ended.load(Ordering::SeqCst) < count {
            assert!(began.elapsed() < PATIENCE, "{} of {count} ended", self.state.ended.load(Ordering::SeqCst));
            guard = self.state.changed.wait_timeout(guard, PATIENCE).unwrap().0;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.ends.store(true, Ordering::SeqCst);
        // Its thread wakes up and sees that.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(state: &State, stream: TcpStream, tls: Option<Arc<ServerConfig>>, reply: &Reply) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut wire: Box<dyn Wire> = match tls {
        None => Box::new(stream),
        Some(config) => Box::new(StreamOwned::new(ServerConnection::new(config).unwrap(), stream)),
    };
    if let Some(request) = read_request(wire.as_mut()) {
        state.requests.lock().unwrap().push(request.clone());
        reply(&request, wire.as_mut());
    }
    // What TLS still holds; a connection that is gone needs nothing any more.
    drop(wire.flush());
    drop(wire);
    let _guard = state.requests.lock().unwrap();
    state.ended.fetch_add(1, Ordering::SeqCst);
    state.changed.notify_all();
}

/// Head and body; none: the connection ended before.
fn read_request(wire: &mut dyn Wire) -> Option<String> {
    let mut bytes = Vec::new();
    let complete = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let chunked = head.contains("transfer-encoding: chunked");
        let whole = if chunked { body.ends_with("0\r\n\r\n") } else { body.len() >= length.unwrap_or(0) };
        whole.then_some(text.clone())
    };
    loop {
        if let Some(request) = complete(&bytes) {
            return Some(request);
        }
        let mut some = [0; 4096];
        match wire.read(&mut some) {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&some[..n]),
        }
    }
}

/// Writes as much as the other side takes.
pub(super) fn write(wire: &mut dyn Wire, bytes: &[u8]) -> bool {
    wire.write_all(bytes).and_then(|()| wire.flush()).is_ok()
}

/// Says nothing until the other side goes.
pub(super) fn silent(wire: &mut dyn Wire) {
    while matches!(wire.read(&mut [0; 64]), Ok(1..)) {}
}

/// An authority of the tests' own, and a server's certificate by it for these names.
pub(super) fn authority(names: &[&str]) -> (Arc<RootCertStore>, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let own_key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let own = CertificateParams::new(names).unwrap().signed_by(&own_key, &issuer).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(own_key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![own.der().clone()], key).unwrap();
    (Arc::new(roots), Arc::new(config))
}
