//! `runner serve --metrics-listen ADDRESS`: a listener that has the metrics and nothing else, so that whoever scrapes them
//! needs no way to the API.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::sync::Arc;

use super::exit::{Code, Failure};
use crate::api::access::door::Door;
use crate::api::guard::Guard;
use crate::api::serve::{Bounds, Server};
use crate::api::{App, metrics};

/// Connections at once: those who scrape are few.
const CONNECTIONS_MAX: usize = 128;

/// Takes the address, before there is anything to be served.
pub(super) fn bind(text: &str) -> Result<TcpListener, Failure> {
    let wrong =
        |why: String| Failure::usage(format!("--metrics-listen {text}: {why}; write for example 127.0.0.1:7071"));
    let mut addresses = text.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    let address = addresses.next().ok_or_else(|| wrong("names no address".to_owned()))?;
    let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let message = format!("{address} is in use by another process; choose another one with --metrics-listen");
            Failure::new(Code::AddressInUse, message)
        }
        io::ErrorKind::PermissionDenied => {
            Failure::new(Code::NotAllowed, format!("{address}: permission denied; choose a port above 1023"))
        }
        _ => wrong(error.to_string()),
    })?;
    listener.set_nonblocking(true).map_err(|error| wrong(error.to_string()))?;
    Ok(listener)
}

/// Serves the metrics on it.
pub(super) fn serve(listener: TcpListener, app: &Arc<App>) -> Result<Server, Failure> {
    let failed = |error: io::Error| Failure::new(Code::Failed, format!("--metrics-listen: {error}"));
    let address = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    tracing::info!(metrics = %format!("http://{address}/metrics"), "anyone who reaches it may read the metrics");
    let door = Door::new(Guard::Open, Arc::clone(app.access()));
    let bounds = Bounds { connections: CONNECTIONS_MAX, ..Bounds::default() };
    Ok(Server::start(&metrics::router(Arc::clone(app)), (listener, door, None), None, &bounds))
}
