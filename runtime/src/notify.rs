//! Tells a service manager how this process is (`sd_notify`): ready, reloading its files, stopping, alive. Without a manager
//! that wants to know (`NOTIFY_SOCKET`), every word goes nowhere.
//!
//! A datagram each, without waiting: a manager that does not listen holds up nobody.

use std::env;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The variable with the manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The variable with how often, in microseconds, the manager wants to hear that this process lives.
const WATCHDOG: &str = "WATCHDOG_USEC";
/// The process that the variable is meant for.
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// See the module.
#[derive(Debug, Default)]
pub struct Manager(Option<(UnixDatagram, SocketAddr)>);

impl Manager {
    /// The one that started this process, if one did that wants to know.
    #[must_use]
    pub fn find() -> Self {
        let Some(name) = env::var_os(SOCKET).filter(|name| !name.is_empty()) else { return Self::default() };
        let address = match name.as_bytes() {
            [b'@', name @ ..] => of_no_file(name),
            _ => SocketAddr::from_pathname(&name),
        };
        let opened = address.and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        match opened {
            Ok(opened) => Self(Some(opened)),
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be told how this process is");
                Self::default()
            }
        }
    }

    /// It answers, and runs jobs.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// It stops.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=draining");
    }

    /// It lives.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// How often it is to say that it lives: twice as often as the manager asks for. None: nobody asks.
    #[must_use]
    pub fn alive_every(&self) -> Option<Duration> {
        self.0.as_ref()?;
        let ours = env::var(WATCHDOG_PID).map_or(true, |pid| pid == std::process::id().to_string());
        let micros: u64 = env::var(WATCHDOG).ok().filter(|_| ours)?.parse().ok().filter(|micros| *micros > 0)?;
        Some(Duration::from_micros(micros / 2))
    }

    fn say(&self, words: &str) {
        if let Some((socket, address)) = &self.0
            && let Err(error) = socket.send_to_addr(words.as_bytes(), address)
        {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

/// An address that is no file's.
#[cfg(target_os = "linux")]
fn of_no_file(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt as _;
    SocketAddr::from_abstract_name(name)
}

/// There are none on this system.
#[cfg(not(target_os = "linux"))]
fn of_no_file(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}
