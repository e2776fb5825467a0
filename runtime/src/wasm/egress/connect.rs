//! From a name to a connection: addresses asked for once, each looked at, and one of these very addresses connected to.
//!
//! There is no second look-up between the look and the connection, so a name server that changes its mind has nothing
//! to gain. One address that no plugin may reach refuses the name as a whole: an honest name has none. Refused unless the
//! operator names address and port (`private`) are the ranges of [`super::address`] and the machine's own addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Host;

use super::address;
use super::error::{SendError, Step};
use super::request::Target;
use super::{Egress, Tenant};
use crate::wasm::grants::{Denied, TenantRules};

/// Addresses of one name: far more than any has.
const ADDRESSES_MAX: usize = 64;
/// Addresses that are tried, one after the other.
const ATTEMPTS_MAX: usize = 4;
/// How long one of several may take before the next is tried.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);

/// A connection to a checked address.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Looks the target up, checks what is found and connects to it.
pub(super) async fn connect(
    egress: &Egress,
    tenant: &Arc<Tenant>,
    rules: &TenantRules,
    target: &Target,
    within: Duration,
) -> Result<Stream, SendError> {
    let lookup = timeout(within, addresses(egress, tenant, target)).await;
    let found = lookup.map_err(|_| SendError::TimedOut { step: Step::Resolving })??;
    check(rules, target, &found)?;
    let connecting = async {
        let tcp = first_that_answers(target, &found).await?;
        // A request is written at once, and then its answer is waited for.
        tcp.set_nodelay(true).map_err(|error| unconnected(target, &error))?;
        if target.https { tls(egress, target, tcp).await } else { Ok(Stream::Plain(tcp)) }
    };
    timeout(within, connecting).await.map_err(|_| SendError::TimedOut { step: Step::Connecting })?
}

async fn addresses(egress: &Egress, tenant: &Arc<Tenant>, target: &Target) -> Result<Vec<IpAddr>, SendError> {
    let name = match &target.host {
        Host::Ipv4(address) => return Ok(vec![IpAddr::V4(*address)]),
        Host::Ipv6(address) => return Ok(vec![IpAddr::V6(*address)]),
        Host::Domain(name) => name.clone(),
    };
    // Kept until the look-up is over, even if nobody waits for it any more: it holds a thread so long.
    let place = Arc::clone(&tenant.lookups).acquire_owned().await;
    let place = place.map_err(|_| SendError::Unavailable { why: "the runner is ending".to_owned() })?;
    let resolve = Arc::clone(&egress.settings.resolve);
    // With its tenant: whoever has a look-up open is not forgotten, and does not come back with fresh places.
    let (asked, kept) = (name.clone(), Arc::clone(tenant));
    let looked_up = tokio::task::spawn_blocking(move || {
        let found = resolve(&asked);
        drop((place, kept));
        found
    });
    let unresolved = |why: String| SendError::Unresolved { name: name.clone(), why };
    match looked_up.await {
        Ok(Ok(found)) if found.is_empty() => Err(unresolved("there is none".to_owned())),
        Ok(Ok(found)) if found.len() > ADDRESSES_MAX => Err(unresolved(format!("more than {ADDRESSES_MAX}"))),
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(unresolved(error.to_string())),
        Err(_) => Err(unresolved("the look-up was broken off".to_owned())),
    }
}

/// The system's own way to look up a name.
pub(super) fn system(name: &str) -> io::Result<Vec<IpAddr>> {
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(name, 0))?;
    let mut found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    found.dedup();
    Ok(found)
}

/// Every address must be one that plugins of this tenant may reach.
fn check(rules: &TenantRules, target: &Target, found: &[IpAddr]) -> Result<(), SendError> {
    for ip in found {
        let address = SocketAddr::new(*ip, target.port);
        if rules.max.private.contains(&address) {
            continue;
        }
        let own = || match is_own(address) {
            Ok(own) => Ok(own.then_some("this machine's own")),
            Err(error) => Err(SendError::Unavailable { why: format!("`{ip}` could not be checked: {error}") }),
        };
        if let Some(what) = address::refused(*ip).map_or_else(own, |what| Ok(Some(what)))? {
            return Err(SendError::Prohibited(prohibited(rules, target, address, what)));
        }
    }
    Ok(())
}

fn prohibited(rules: &TenantRules, target: &Target, address: SocketAddr, what: &str) -> Denied {
    let reached = match &target.host {
        Host::Domain(name) => format!("{address}, which `{name}` resolves to and is {what},"),
        Host::Ipv4(_) | Host::Ipv6(_) => format!("{address}, which is {what},"),
    };
    let line = format!("`private = [\"{address}\"]` to [tenants.{}.max] of the configuration", rules.name);
    Denied { what: format!("reaching {reached}"), lines: vec![line] }
}

/// Whether an address is one of this machine's: then the system would send from it to itself. Connecting a datagram
/// socket sends nothing.
fn is_own(address: SocketAddr) -> io::Result<bool> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = match UdpSocket::bind((any, 0)) {
        // Without IPv6 at all, no address of it is ours, and none is reached.
        Err(error) if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => return Ok(false),
        bound => bound?,
    };
    match socket.connect(address) {
        Ok(()) => Ok(socket.local_addr()?.ip().to_canonical() == address.ip().to_canonical()),
        // No way there: not ours.
        Err(_) => Ok(false),
    }
}

async fn first_that_answers(target: &Target, found: &[IpAddr]) -> Result<TcpStream, SendError> {
    let tried = found.len().min(ATTEMPTS_MAX);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (at, ip) in found.iter().take(tried).enumerate() {
        let connecting = TcpStream::connect(SocketAddr::new(*ip, target.port));
        // The last one has all the time that is left.
        let connected = if at + 1 == tried {
            connecting.await
        } else {
            timeout(ATTEMPT_MAX, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(unconnected(target, &last))
}

async fn tls(egress: &Egress, target: &Target, tcp: TcpStream) -> Result<Stream, SendError> {
    let untrusted = |why: String| SendError::Untrusted { authority: target.authority.clone(), why };
    let name = match &target.host {
        Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|error| untrusted(error.to_string()))?,
        Host::Ipv4(address) => ServerName::from(IpAddr::V4(*address)),
        Host::Ipv6(address) => ServerName::from(IpAddr::V6(*address)),
    };
    let connector = TlsConnector::from(egress.tls().await?);
    let stream = connector.connect(name, tcp).await.map_err(|error| untrusted(error.to_string()))?;
    Ok(Stream::Tls(Box::new(stream)))
}

fn unconnected(target: &Target, error: &io::Error) -> SendError {
    SendError::Unconnected { authority: target.authority.clone(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_that_is_not_public_refuses_them_all() {
        let target =
            Target { https: true, host: Host::Domain("a.test".to_owned()), port: 443, authority: "a.test".to_owned() };
        let mut rules = TenantRules::of("acme");
        let fits = |rules: &TenantRules, found: &[&str]| {
            let found: Vec<IpAddr> = found.iter().map(|text| text.parse().expect("is an address")).collect();
            check(rules, &target, &found)
        };
        assert_eq!(fits(&rules, &["1.1.1.1", "2606:4700::1111"]), Ok(()));
        for found in [["1.1.1.1", "127.0.0.1"], ["127.0.0.1", "1.1.1.1"], ["::1", "1.1.1.1"]] {
            let Err(SendError::Prohibited(denied)) = fits(&rules, &found) else { panic!("{found:?} is reached") };
            assert!(denied.lines[0].ends_with("to [tenants.acme.max] of the configuration"), "{denied}");
        }
        // Address and port, both as they were named.
        rules.max.private = vec!["127.0.0.1:80".parse().expect("is an address")];
        assert!(fits(&rules, &["127.0.0.1"]).is_err());
        rules.max.private = vec!["127.0.0.1:443".parse().expect("is an address")];
        assert_eq!(fits(&rules, &["127.0.0.1", "1.1.1.1"]), Ok(()));
        assert!(fits(&rules, &["::ffff:127.0.0.1"]).is_err());
    }

    #[test]
    fn the_machine_knows_its_own_addresses() {
        let own = |text: &str| is_own(text.parse().expect("is an address")).expect("sockets are to be had");
        assert!(own("127.0.0.1:1"));
        // Documentation's: nobody's.
        assert!(!own("192.0.2.1:1"));
    }
}
