//! Where requests may go: a URL with an optional star for subdomains and an optional path that the request's begins with.
//!
//! Used by both sides of an HTTP grant: a manifest's `[[allow.http]] url` and an operator's `max.http`. Everything is
//! compared as the URL standard normalises it (a host in any spelling of an address, dot segments, default ports), and
//! paths by segments, so that `/v1` is no prefix of `/v10`.

use url::{Host, Url};

/// Written in front of a host that stands for its subdomains.
const STAR: &str = "*.";
/// Encoded characters that a server may take for a separator or a dot segment: where a path is part of the grant, no
/// request may have them.
const ENCODED_REFUSED: [&str; 3] = ["%2f", "%5c", "%00"];

/// A set of URLs, as a grant names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPattern {
    text: String,
    https: bool,
    host: HostPattern,
    port: u16,
    /// Without empty ones; none: any path.
    segments: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    Exactly(Host<String>),
    /// Any name that ends with a dot and this.
    Under(String),
}

impl UrlPattern {
    /// Reads `https://host[:port][/path]`, with `*.` in front of the host for all names under it.
    ///
    /// # Errors
    /// One sentence on what is wrong and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let starred = text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.strip_prefix(STAR)?)));
        let plain = starred.map_or_else(|| text.to_owned(), |(scheme, rest)| format!("{scheme}://{rest}"));
        let url = Url::parse(&plain).map_err(|error| {
            format!("`{}` is no URL ({error}); write for example `https://api.example.com`", text.escape_debug())
        })?;
        let shown = text.escape_debug();
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(format!("`{shown}` has the scheme `{other}`; only https and http are sent")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("`{shown}` has a user or a password; name a secret in `header` instead"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("`{shown}` has a query or a fragment, which a grant does not look at; take it out"));
        }
        let host = url.host().ok_or_else(|| format!("`{shown}` has no host"))?.to_owned();
        let host = match (starred, host) {
            (None, host) => HostPattern::Exactly(without_dot(host)),
            (Some(_), Host::Domain(name)) if name.trim_end_matches('.').contains('.') => {
                HostPattern::Under(format!(".{}", name.trim_end_matches('.')))
            }
            (Some(_), _) => {
                return Err(format!(
                    "`{shown}`: behind `*.` must stand a name of at least two parts, as in `*.example.com`"
                ));
            }
        };
        let port = url.port_or_known_default().ok_or_else(|| format!("`{shown}` has no port"))?;
        let segments = segments(&url);
        if segments.iter().any(|segment| segment.contains('*')) || url.host_str().is_some_and(|host| host.contains('*'))
        {
            return Err(format!("`{shown}` has a star that stands for nothing: only `*.` in front of the host does"));
        }
        Ok(Self { text: text.to_owned(), https, host, port, segments })
    }

    /// Whether requests to this URL are in the set.
    #[must_use]
    pub fn matches(&self, url: &Url) -> bool {
        let scheme = if self.https { "https" } else { "http" };
        if url.scheme() != scheme || url.port_or_known_default() != Some(self.port) {
            return false;
        }
        let Some(host) = url.host().map(|host| without_dot(host.to_owned())) else { return false };
        let host_fits = match (&self.host, &host) {
            (HostPattern::Exactly(wanted), host) => wanted == host,
            (HostPattern::Under(suffix), Host::Domain(name)) => name.len() > suffix.len() && name.ends_with(suffix),
            (HostPattern::Under(_), _) => false,
        };
        host_fits && self.path_fits(url)
    }

    /// Whether it is for https only.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn path_fits(&self, url: &Url) -> bool {
        if self.segments.is_empty() {
            return true;
        }
        let path = url.path().to_ascii_lowercase();
        if ENCODED_REFUSED.iter().any(|encoded| path.contains(encoded)) {
            return false;
        }
        let asked = segments(url);
        asked.len() >= self.segments.len() && asked.iter().zip(&self.segments).all(|(asked, wanted)| asked == wanted)
    }
}

fn segments(url: &Url) -> Vec<String> {
    let all = url.path_segments().into_iter().flatten();
    all.filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

/// `example.com.` is `example.com`.
fn without_dot(host: Host<String>) -> Host<String> {
    match host {
        Host::Domain(name) => Host::Domain(name.trim_end_matches('.').to_owned()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, url: &str, expected: bool) {
        let pattern = UrlPattern::parse(pattern).expect("is a pattern");
        assert_eq!(pattern.matches(&Url::parse(url).expect("is a URL")), expected, "{pattern:?} {url}");
    }

    #[test]
    fn a_pattern_is_a_host_a_port_and_the_beginning_of_a_path() {
        check("https://api.example.com", "https://api.example.com/any?q=1", true);
        check("https://api.example.com", "https://API.example.com.:443/", true);
        check("https://api.example.com", "http://api.example.com/", false);
        check("https://api.example.com", "https://api.example.com:8443/", false);
        check("https://api.example.com", "https://api.example.com.evil.test/", false);
        check("https://api.example.com", "https://api.example.com@evil.test/", false);
        check("https://*.acme.test", "https://a.b.acme.test/", true);
        check("https://*.acme.test", "https://acme.test/", false);
        check("https://*.acme.test", "https://evilacme.test/", false);
        check("http://127.0.0.1:9000", "http://0x7f.1:9000/", true);
        check("http://127.0.0.1:9000", "http://2130706433:9000/", true);
        check("http://127.0.0.1:9000", "http://127.0.0.1:9001/", false);
        check("http://[::1]:80", "http://[0:0::1]/", true);
    }

    #[test]
    fn paths_are_compared_by_segments_as_the_standard_normalises_them() {
        check("https://a.test/v1", "https://a.test/v1", true);
        check("https://a.test/v1/", "https://a.test/v1/users", true);
        check("https://a.test/v1", "https://a.test/v10", false);
        check("https://a.test/v1", "https://a.test/v1/../admin", false);
        check("https://a.test/v1", "https://a.test/v1/%2e%2e/admin", false);
        check("https://a.test/v1", "https://a.test/v1/..%2fadmin", false);
        check("https://a.test/v1", "https://a.test/v1\\..\\admin", false);
        check("https://a.test/v1", "https://a.test//v1/x", true);
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_a_way_out() {
        for (text, words) in [
            ("api.example.com", "is no URL"),
            ("ftp://a.test", "only https and http"),
            ("https://u:p@a.test", "has a user or a password"),
            ("https://a.test/?q", "has a query"),
            ("https://*.test", "at least two parts"),
            ("https://*", "a star"),
            ("https://a.test/*/x", "a star"),
            ("https://*.1.2.3.4", "at least two parts"),
        ] {
            let why = UrlPattern::parse(text).expect_err("is refused");
            assert!(why.contains(words), "{text}: {why}");
        }
    }
}
