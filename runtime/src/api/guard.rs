//! Who may ask, as long as there are no tokens: whoever reaches a loopback address or the unix socket of this machine's
//! user, and no web page or proxy in between.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::Problem;

/// What a listener asks of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// A unix socket, which its file's mode guards.
    Socket,
    /// A loopback address: only a loopback Host, and never through a proxy.
    Loopback,
    /// `--insecure-no-auth` was spelt out: anyone, but no foreign web page.
    Open,
}

/// Refuses what this listener does not take.
pub async fn check(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    // What asks for more than a guard does finds out which one let it in.
    request.extensions_mut().insert(guard);
    match refused(guard, request.headers()) {
        Some(why) => Problem::new(StatusCode::FORBIDDEN, "not_allowed", why).into_response(),
        None => next.run(request).await,
    }
}

fn refused(guard: Guard, headers: &HeaderMap) -> Option<String> {
    if headers.get_all(header::HOST).iter().nth(1).is_some() {
        return Some("the request has two Hosts, and a proxy may have read the other one".to_owned());
    }
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    if guard == Guard::Loopback {
        let proxied = ["forwarded", "x-forwarded-for", "via"].into_iter().find(|name| headers.contains_key(*name));
        if let Some(name) = proxied {
            let why = "the request came through a proxy (header {}), and without tokens only this machine may ask";
            return Some(why.replace("{}", name));
        }
        if !host.is_some_and(is_loopback) {
            return Some("the Host of the request is not this machine: ask for localhost or 127.0.0.1".to_owned());
        }
    }
    let origin = headers.get(header::ORIGIN)?.to_str().unwrap_or_default();
    let same = guard != Guard::Socket && host.is_some_and(|host| origin.strip_prefix("http://") == Some(host));
    (!same).then(|| "the request comes from a web page of another origin".to_owned())
}

/// Whether a Host header, with or without a port, names this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(guard: Guard, headers: &[(&str, &str)], allowed: bool) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (axum::http::HeaderName::try_from(*name).unwrap(), axum::http::HeaderValue::from_str(value).unwrap())
            })
            .collect();
        assert_eq!(refused(guard, &headers).is_none(), allowed, "{guard:?} {headers:?}");
    }

    #[test]
    fn only_this_machine_may_ask_a_loopback_address() {
        for host in ["localhost", "LocalHost:7070", "127.0.0.1:7070", "127.9.9.9", "[::1]:7070", "[::1]"] {
            check(Guard::Loopback, &[("host", host)], true);
        }
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1:7070", "", "[::2]", "127.0.0.1.evil.example"] {
            check(Guard::Loopback, &[("host", host)], false);
            check(Guard::Open, &[("host", host)], true);
        }
        for guard in [Guard::Loopback, Guard::Open, Guard::Socket] {
            check(guard, &[("host", "localhost"), ("host", "evil.example")], false);
        }
        check(Guard::Loopback, &[], false);
        check(Guard::Socket, &[], true);
    }

    #[test]
    fn no_proxy_and_no_foreign_page_is_let_in() {
        for name in ["Forwarded", "X-Forwarded-For", "Via"] {
            check(Guard::Loopback, &[("host", "localhost"), (name, "x")], false);
        }
        let page = |guard, origin| check(guard, &[("host", "localhost:7070"), ("origin", origin)], false);
        page(Guard::Loopback, "http://evil.example");
        page(Guard::Loopback, "null");
        page(Guard::Open, "http://evil.example");
        page(Guard::Socket, "http://localhost:7070");
        check(Guard::Loopback, &[("host", "localhost:7070"), ("origin", "http://localhost:7070")], true);
    }
}
