//! How `serve` lets callers in: its address, the name that it is found by, TLS, and the token that it is started with.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Answer, Query};

use super::exit::{Code, Failure};
use crate::api::access::Access;
use crate::api::access::door::Door;
use crate::api::access::tokens::CHOSEN_BYTES_MIN;
use crate::api::guard::{Guard, Origin};
use crate::api::serve::{Bounds, CONNECTIONS, CONNECTIONS_MAX, Server, bind_socket, is_loopback};
use crate::api::tls::{Tls, TlsError};

/// Where the first token of a server is found, and its name in lists.
const ADMIN_TOKEN: &str = "RUNNER_ADMIN_TOKEN";
/// A token's file: far more than any has.
pub(super) const TOKEN_FILE_BYTES_MAX: u64 = 4_096;

/// Files that a server has open beside its connections: the store's, the unix socket's, pipes of compilers, connections of
/// plugins.
pub(super) const FILES_BESIDE: usize = 1_024;
/// How a limit of open files is raised.
pub(super) const RAISE_FILES: &str =
    "raise it with LimitNOFILE= of the unit, --ulimit nofile= of the container, ulimit -n";

/// What an operator says of it.
#[derive(Debug, clap::Args)]
pub(super) struct Doors {
    /// The URL that browsers and proxies find the API by, for example https://runner.example.com
    #[arg(long, value_name = "URL", value_parser = Origin::parse, env = "RUNNER_PUBLIC_URL")]
    public_url: Option<Origin>,
    /// A file with the certificate and its chain, in PEM; read again with SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "RUNNER_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// A file with the certificate's private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "RUNNER_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// A file with a token for an admin, beside those of the store; or the token itself in RUNNER_ADMIN_TOKEN
    #[arg(long, value_name = "FILE", env = "RUNNER_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<PathBuf>,
    /// Connections at once on the address; fewer where the limit of open files is too low for them
    #[arg(
        long, value_name = "N", default_value_t = CONNECTIONS, env = "RUNNER_CONNECTIONS",
        value_parser = super::spelt::whole(1..=CONNECTIONS_MAX)
    )]
    connections: u32,
}

/// What a server needs to let callers in, before its store is open.
pub(super) struct Ready {
    listener: TcpListener,
    address: SocketAddr,
    guard: Guard,
    tls: Option<Tls>,
    public: Option<Origin>,
    admin_token: Option<String>,
    connections: usize,
}

/// The connections that so many open files have room for, of those that were asked for: there is the store as well, and what
/// compilers and plugins open.
fn fitting(asked: usize, files: Option<u64>) -> usize {
    let files = usize::try_from(files.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    asked.min(files.saturating_sub(FILES_BESIDE).max(files / 2)).max(1)
}

/// Binds the address, and reads what is to be read. The process may have so many `files` open.
pub(super) fn ready(
    doors: &Doors,
    listen: &str,
    insecure: bool,
    data: &Path,
    files: Option<u64>,
) -> Result<Ready, Failure> {
    let wrong = |why: String| Failure::usage(format!("--listen {listen}: {why}; write for example 127.0.0.1:7070"));
    let mut addresses = listen.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    let address = addresses.next().ok_or_else(|| wrong("names no address".to_owned()))?;
    let guard = match (is_loopback(&address), insecure) {
        (true, _) => Guard::Loopback,
        (false, true) => Guard::Open,
        (false, false) => Guard::Network,
    };
    let admin_token = secret(ADMIN_TOKEN, doors.admin_token_file.as_deref())?;
    if let Some(token) = &admin_token
        && (token.len() < CHOSEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        let message = format!(
            "{ADMIN_TOKEN}: must be at least {CHOSEN_BYTES_MIN} visible ASCII characters, as it opens everything; \
             `openssl rand -hex 32` makes one"
        );
        return Err(Failure::usage(message));
    }
    if guard == Guard::Network && admin_token.is_none() && !data.exists() {
        // Before anything is made: a new store has no token.
        return Err(no_tokens(&address));
    }
    let tls = match (&doors.tls_cert, &doors.tls_key) {
        (Some(cert), Some(key)) => Some(Tls::load(cert, key).map_err(|error| unfit(&error))?),
        _ => None,
    };
    let listener = TcpListener::bind(address).map_err(|error| not_bound(&address, &error))?;
    listener.set_nonblocking(true).map_err(|error| not_bound(&address, &error))?;
    let address = listener.local_addr().map_err(|error| not_bound(&address, &error))?;
    let connections = fitting(doors.connections as usize, files);
    if connections < doors.connections as usize {
        let (asked, files) = (doors.connections, files.unwrap_or_default());
        tracing::warn!(
            asked,
            connections,
            files,
            "the limit of open files is too low for all connections: {RAISE_FILES}"
        );
    }
    Ok(Ready { listener, address, guard, tls, public: doors.public_url.clone(), admin_token, connections })
}

impl Ready {
    /// Whether anybody could ask at the address, so that a node is worth starting.
    pub(super) fn look_for_tokens(&self, store: &Handle) -> Result<(), Failure> {
        let none = matches!(store.snapshot()?.read(&Query::Tokens)?, Answer::Tokens(tokens) if tokens.is_empty());
        if self.guard == Guard::Network && self.admin_token.is_none() && none {
            return Err(no_tokens(&self.address));
        }
        Ok(())
    }

    /// Serves `router` to whom `access` lets in. Answers the server, and what SIGHUP makes of its certificate.
    pub(super) fn serve(
        self,
        router: &axum::Router,
        access: &Arc<Access>,
        data: &Path,
    ) -> Result<(Server, Option<Tls>), Failure> {
        let Self { listener, address, guard, tls, public, admin_token, connections } = self;
        if let Some(token) = &admin_token {
            access.tokens().add_of_process(token, ADMIN_TOKEN, Clock::System.now());
        }
        let failed = |error: io::Error| Failure::new(Code::Failed, format!("{address}: {error}"));
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let door = Door::new(guard, Arc::clone(access)).public(public).with_tls(tls.is_some());
        let socket = match bind_socket(data) {
            Ok((socket, path)) => Some((socket, Door::new(Guard::Socket, Arc::clone(access)), path)),
            Err(error) => {
                tracing::warn!(%error, data = %data.display(), "no unix socket: the command line needs --url");
                None
            }
        };
        let server =
            Server::start(router, (listener, door, tls.clone()), socket, &Bounds { connections, ..Bounds::default() });
        announce(address, guard, tls.is_some(), access);
        Ok((server, tls))
    }
}

/// Says in one line where the API is, and who may ask.
fn announce(address: SocketAddr, guard: Guard, tls: bool, access: &Access) {
    let url = format!("{}://{address}", if tls { "https" } else { "http" });
    let tokens = access.tokens().all().len();
    let who = match guard {
        Guard::Open => "--insecure-no-auth: anyone who reaches it may do anything".to_owned(),
        Guard::Loopback if access.tokens().is_empty() => {
            "no token exists: anyone on this machine may look at the jobs of tenant `default`, enqueue and change them, until \
             `runner token create` makes the first"
                .to_owned()
        }
        Guard::Loopback | Guard::Network | Guard::Socket => format!("whoever has one of {tokens} tokens may ask"),
    };
    tracing::info!(url, "listening; {who}");
    if guard == Guard::Network && !tls {
        tracing::warn!(
            "tokens cross the network in plain text: give --tls-cert and --tls-key, or let a proxy speak TLS"
        );
    }
}

/// A secret: from the environment, or from a file; none: neither is there.
pub(super) fn secret(variable: &str, file: Option<&Path>) -> Result<Option<String>, Failure> {
    let set = std::env::var(variable).ok().filter(|text| !text.is_empty());
    match (set, file) {
        (Some(_), Some(_)) => {
            Err(Failure::usage(format!("{variable} and {variable}_FILE exclude each other: keep one")))
        }
        (Some(text), None) => Ok(Some(text)),
        (None, Some(file)) => {
            let text = crate::operator::read_text(file, TOKEN_FILE_BYTES_MAX);
            let text = text.map_err(|error| Failure::file(file, &error))?;
            // Editors end a file with a newline, which belongs to no token.
            Ok(Some(text.trim().to_owned()))
        }
        (None, None) => Ok(None),
    }
}

fn no_tokens(address: &SocketAddr) -> Failure {
    let message = format!(
        "{address} can be reached from other machines, and there are no tokens: make one with `runner token create --scope admin` \
         before, set {ADMIN_TOKEN}, listen on 127.0.0.1, or say --insecure-no-auth if everyone who reaches it may do anything"
    );
    Failure::new(Code::NotAllowed, message)
}

fn unfit(error: &TlsError) -> Failure {
    Failure::usage(format!("--tls-cert, --tls-key: {error}"))
}

fn not_bound(address: &SocketAddr, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AddrInUse => Failure::new(
            Code::AddressInUse,
            format!("{address} is in use by another process; stop it, or choose another address with --listen"),
        ),
        io::ErrorKind::PermissionDenied => {
            Failure::new(Code::NotAllowed, format!("{address}: permission denied; choose a port above 1023"))
        }
        _ => Failure::usage(format!("{address} cannot be listened on: {error}; choose another with --listen")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        assert_eq!(fitting(16_384, None), 16_384);
        assert_eq!(fitting(16_384, Some(65_536)), 16_384);
        assert_eq!(fitting(16_384, Some(4_096)), 3_072);
        assert_eq!(fitting(16_384, Some(1_024)), 512, "of few files half");
        assert_eq!(fitting(8, Some(1)), 1);
    }
}
