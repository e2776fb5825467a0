//! What the headers of a request say of where it comes from: which Host it was sent to, from which web page, through which
//! proxy. Whoever looks at them is [`access::door`](super::access::door).

use std::net::IpAddr;

use axum::http::uri::{Authority, Uri};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};

use super::error::Problem;

/// What a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// A unix socket, which its file's mode guards: who has no token is the store's owner.
    Socket,
    /// A loopback address: open while there is no token, to a loopback Host and never through a proxy.
    Loopback,
    /// An address that other machines reach: with a token only.
    Network,
    /// `--insecure-no-auth` was spelt out: anyone, but no foreign web page.
    Open,
}

/// Where browsers find the API: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    authority: String,
}

impl Origin {
    /// The origin of a URL, which has nothing behind its host and port.
    ///
    /// # Errors
    /// What would be one.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = || "must be a URL without a path, as https://runner.example.com".to_owned();
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(wrong()) };
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
        if !bare || !matches!(scheme, "http" | "https") {
            return Err(wrong());
        }
        Ok(Self { scheme: scheme.to_owned(), authority: spelt(scheme, authority) })
    }

    /// Whether browsers come over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    /// Whether a Host names it.
    fn is_host(&self, host: &str) -> bool {
        host.parse::<Authority>().is_ok_and(|host| spelt(&self.scheme, &host) == self.authority)
    }
}

/// Host and port as browsers spell them: lower case, and without the port that the scheme has anyway.
fn spelt(scheme: &str, authority: &Authority) -> String {
    let text = authority.as_str().to_ascii_lowercase();
    let default = if scheme == "https" { ":443" } else { ":80" };
    text.strip_suffix(default).map_or(text.clone(), str::to_owned)
}

/// The Host of a request.
pub(super) fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST).and_then(|value| value.to_str().ok())
}

pub(super) fn one_host(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.get_all(header::HOST).iter().nth(1).is_some() {
        let why = "the request has two Hosts, and a proxy may have read the other one";
        return Err(refused("wrong_host", "Host", why));
    }
    Ok(())
}

/// A request as proxies get it names a host in its first line, which counts then, so it must be the one that is looked at.
pub(super) fn one_target(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(named) = uri.authority() else { return Ok(()) };
    if host(headers).is_some_and(|host| host.eq_ignore_ascii_case(named.as_str())) {
        return Ok(());
    }
    let why = "the first line of the request names another host than its Host";
    Err(refused("wrong_host", "Host", why))
}

/// What is not told how it is framed cannot be read: chunks there are, and nothing else.
pub(super) fn plain_transfer(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_none_or(is_plain) && codings.next().is_none() {
        return Ok(());
    }
    let detail = "a body comes as it is, or in chunks: send `Transfer-Encoding: chunked`, or none";
    Err(Problem::new(StatusCode::BAD_REQUEST, "malformed", detail).at("Transfer-Encoding"))
}

/// Who expects what is not known here must not be let wait for it, nor take the answer for a yes.
pub(super) fn known_expectation(headers: &HeaderMap) -> Result<(), Problem> {
    let is_known = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"100-continue");
    if headers.get_all(header::EXPECT).iter().all(is_known) {
        return Ok(());
    }
    let detail = "nothing can be expected here but `100-continue`; send that, or leave it out";
    Err(Problem::new(StatusCode::EXPECTATION_FAILED, "expectation", detail).at("Expect"))
}

/// A name that somebody else made to point here is not ours: a page under it would be of our origin.
pub(super) fn our_host(guard: Guard, headers: &HeaderMap, public: Option<&Origin>) -> Result<(), Problem> {
    let host = host(headers);
    let ours = match guard {
        Guard::Socket | Guard::Open => true,
        Guard::Loopback | Guard::Network => host.is_some_and(|host| {
            is_loopback(host) || is_address(host) || public.is_some_and(|public| public.is_host(host))
        }),
    };
    if ours {
        return Ok(());
    }
    let why = "the Host of the request is none of this server's: ask for localhost or its address, or start the server with \
               `--public-url` and the name that it is to be found by";
    Err(refused("wrong_host", "Host", why))
}

/// Who has a page of another origin open did not ask for what that page asks.
pub(super) fn our_origin(guard: Guard, headers: &HeaderMap, public: Option<&Origin>, tls: bool) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let (origin, scheme) = (origin.to_str().unwrap_or_default(), if tls { "https" } else { "http" });
    let is_public = public.is_some_and(|public| Origin::parse(origin).as_ref() == Ok(public));
    let is_host = host(headers).is_some_and(|host| origin == format!("{scheme}://{host}"));
    if guard != Guard::Socket && (is_public || is_host) {
        return Ok(());
    }
    Err(refused("wrong_origin", "Origin", "the request comes from a web page of another origin"))
}

/// Where there is no token, only this machine may ask: not whoever stands behind a proxy on it.
pub(super) fn unproxied(headers: &HeaderMap) -> Result<(), Problem> {
    let proxied = ["Forwarded", "X-Forwarded-For", "Via"].into_iter().find(|name| headers.contains_key(*name));
    if let Some(name) = proxied {
        let why = "the request came through a proxy, and without tokens only this machine may ask: make one with `runner token \
                   create`";
        return Err(refused("proxied", name, why));
    }
    if !host(headers).is_some_and(is_loopback) {
        let why = "the Host of the request is not this machine, and without tokens only this machine may ask: ask for localhost";
        return Err(refused("wrong_host", "Host", why));
    }
    Ok(())
}

fn refused(code: &str, field: &str, why: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, code, why).at(field)
}

/// Whether a Host header, with or without a port, names this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = name(host);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether it is an address, which nobody else can make to point here.
fn is_address(host: &str) -> bool {
    name(host).parse::<IpAddr>().is_ok()
}

fn name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a request with these headers comes from where it may.
    #[track_caller]
    fn check(guard: Guard, headers: &[(&str, &str)], allowed: bool) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let name = axum::http::HeaderName::try_from(*name).expect("a name");
                (name, axum::http::HeaderValue::from_str(value).expect("a value"))
            })
            .collect();
        let public = Origin::parse("https://Runner.example.com:443").expect("an origin");
        let mut right = one_host(&headers)
            .and_then(|()| our_host(guard, &headers, Some(&public)))
            .and_then(|()| our_origin(guard, &headers, Some(&public), false));
        if guard == Guard::Loopback && !headers.contains_key("authorization") {
            right = right.and_then(|()| unproxied(&headers));
        }
        assert_eq!(right.is_ok(), allowed, "{guard:?} {headers:?}");
    }

    #[test]
    fn only_this_machine_may_ask_a_loopback_address() {
        for host in ["localhost", "LocalHost:7070", "127.0.0.1:7070", "127.9.9.9", "[::1]:7070", "[::1]"] {
            check(Guard::Loopback, &[("host", host)], true);
            check(Guard::Network, &[("host", host)], true);
        }
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1:7070", "", "[::2]", "127.0.0.1.evil.example"] {
            check(Guard::Loopback, &[("host", host)], false);
            check(Guard::Open, &[("host", host)], true);
        }
        for host in ["evil.example", "runner.example.com.evil.example", "", "runner.example.com:444"] {
            check(Guard::Network, &[("host", host)], false);
            check(Guard::Loopback, &[("host", host), ("authorization", "x")], false);
        }
        for host in ["10.0.0.1:7070", "[::2]", "runner.example.com", "RUNNER.example.com:443"] {
            check(Guard::Network, &[("host", host)], true);
            check(Guard::Loopback, &[("host", host), ("authorization", "x"), ("via", "proxy")], true);
        }
        for guard in [Guard::Loopback, Guard::Open, Guard::Socket, Guard::Network] {
            check(guard, &[("host", "localhost"), ("host", "evil.example")], false);
        }
        check(Guard::Loopback, &[], false);
        check(Guard::Network, &[], false);
        check(Guard::Socket, &[], true);
    }

    #[test]
    fn no_proxy_and_no_foreign_page_is_let_in() {
        for name in ["Forwarded", "X-Forwarded-For", "Via"] {
            check(Guard::Loopback, &[("host", "localhost"), (name, "x")], false);
        }
        let page = |guard, origin| check(guard, &[("host", "localhost:7070"), ("origin", origin)], false);
        for guard in [Guard::Loopback, Guard::Open, Guard::Network] {
            page(guard, "http://evil.example");
            page(guard, "null");
            page(guard, "https://localhost:7070");
            page(guard, "http://runner.example.com");
            check(guard, &[("host", "localhost:7070"), ("origin", "http://localhost:7070")], true);
            // A proxy that has the name asks us by our address.
            check(guard, &[("host", "localhost:7070"), ("origin", "https://runner.example.com")], true);
        }
        page(Guard::Socket, "http://localhost:7070");
    }

    #[test]
    fn a_public_url_is_an_origin_and_nothing_more() {
        for url in [
            "runner.example.com",
            "https://a.example/x",
            "https://a.example?x",
            "ftp://a.example",
            "https://u@a.example",
        ] {
            assert!(Origin::parse(url).is_err(), "{url}");
        }
        assert!(Origin::parse("https://a.example/").is_ok_and(|origin| origin.is_https()));
        assert!(Origin::parse("http://a.example:7070").is_ok_and(|origin| !origin.is_https()));
    }
}
