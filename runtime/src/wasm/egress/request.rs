//! Makes of what a guest asks for the request that is sent, or says why not. Pure.
//!
//! Everything about where it goes comes from one parsed URL: the grant is looked up by it, `host` and the request line
//! are written from it, and the connection and TLS go to it, so that no two readers can take it differently. How it is
//! framed is the runner's business: headers that say something of it are refused, and one that only repeats it is left
//! out. Headers of the manifest come last and replace the guest's own; those with secrets are marked, so that no debug
//! output shows them.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use url::{Host, Url};

use super::error::SendError;
use super::mask::Secrets;
use crate::wasm::grants::{Denied, Grants, HttpRule, Piece};
use crate::wasm::manifest::allow::HEADERS_RESERVED;

/// A URL: what servers take.
const URL_BYTES_MAX: usize = 8 << 10;
/// Headers of a request, the manifest's included …
pub(super) const HEADERS_MAX: usize = 256;
/// … and their names and values together.
pub(super) const HEADERS_BYTES_MAX: usize = 64 << 10;

/// What a guest asks for.
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// The length of its body, if it is known.
    pub(crate) body_bytes: Option<u64>,
}

/// What is sent, but for the body.
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) target: Target,
    /// To be taken out of the answer.
    pub(super) secrets: Secrets,
    /// As the guest stated it and it is to be sent.
    pub(super) content_length: Option<u64>,
}

/// Where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) https: bool,
    /// Without a dot at its end.
    pub(super) host: Host<String>,
    pub(super) port: u16,
    /// As `host` names it.
    pub(super) authority: String,
}

/// Looks at everything that can be known before a connection.
const METHOD_BYTES_MAX: usize = 32;

pub(super) fn prepare(grants: &Grants, asked: Asked) -> Result<Prepared, SendError> {
    let url = parse(&asked.url)?;
    let method = Method::from_bytes(asked.method.as_bytes())
        .map_err(|_| SendError::Invalid("the method is no word of HTTP; write for example GET".to_owned()))?;
    if method.as_str().len() > METHOD_BYTES_MAX {
        return Err(SendError::Invalid(format!("the method has more than {METHOD_BYTES_MAX} characters")));
    }
    let rule = grants.http(method.as_str(), &url).map_err(SendError::NotGranted)?;
    let target = target(&url)?;
    let (mut headers, content_length) = own_headers(&asked, &target)?;
    let secrets = secret_headers(grants, rule, &url, &mut headers).map_err(|refused| match refused {
        Refused::Denied(denied) => SendError::NotGranted(denied),
        Refused::Invalid(why) => SendError::Invalid(why),
    })?;
    if !secrets.is_empty() {
        // A compressed answer would hide from us what it repeats.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    let host = HeaderValue::from_str(&target.authority).map_err(|_| no_url("its host cannot be sent"))?;
    headers.insert(header::HOST, host);
    // Nothing is sent after it: a connection is one request's.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers.len() > HEADERS_MAX || bytes > HEADERS_BYTES_MAX {
        let why = format!("more than {HEADERS_MAX} headers, or more than {HEADERS_BYTES_MAX} bytes of them");
        return Err(SendError::Invalid(why));
    }
    let line = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let uri = line.parse().map_err(|_| no_url("its path or query has characters that must be percent-encoded"))?;
    Ok(Prepared { method, uri, headers, target, secrets, content_length })
}

fn parse(text: &str) -> Result<Url, SendError> {
    if text.len() > URL_BYTES_MAX {
        return Err(SendError::Invalid(format!("the url has more than {URL_BYTES_MAX} bytes")));
    }
    // The standard leaves tabs and newlines out instead of minding them.
    if text.bytes().any(|b| b.is_ascii_control()) {
        return Err(no_url("it has control characters"));
    }
    let url = Url::parse(text).map_err(|error| no_url(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(no_url("only https and http are sent"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(no_url("it has a user or a password; set the header `authorization`"));
    }
    Ok(url)
}

fn no_url(why: &str) -> SendError {
    SendError::Invalid(format!("the url cannot be used: {why}"))
}

fn target(url: &Url) -> Result<Target, SendError> {
    let host = match url.host() {
        Some(Host::Domain(name)) => Host::Domain(name.trim_end_matches('.').to_owned()),
        Some(Host::Ipv4(address)) => Host::Ipv4(address),
        Some(Host::Ipv6(address)) => Host::Ipv6(address),
        None => return Err(no_url("it has no host")),
    };
    if host == Host::Domain(String::new()) {
        return Err(no_url("it has no host"));
    }
    let port = url.port_or_known_default().ok_or_else(|| no_url("it has no port"))?;
    let authority = url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
    Ok(Target { https: url.scheme() == "https", host, port, authority })
}

/// The guest's headers, and the length of its body if it states one.
fn own_headers(asked: &Asked, target: &Target) -> Result<(HeaderMap, Option<u64>), SendError> {
    let mut headers = HeaderMap::new();
    let mut content_length = None;
    if asked.headers.len() > HEADERS_MAX {
        return Err(SendError::Invalid(format!("more than {HEADERS_MAX} headers")));
    }
    for (name, value) in &asked.headers {
        let shown = name.chars().take(64).collect::<String>();
        let shown = shown.escape_debug();
        let invalid = |why: &str| SendError::Invalid(format!("the header `{shown}` {why}"));
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("has a name that HTTP does not allow"))?;
        let value = HeaderValue::from_bytes(value).map_err(|_| invalid("has characters that HTTP does not allow"))?;
        if name == header::CONTENT_LENGTH && content_length.is_none() {
            let stated = length(&value).ok_or_else(|| invalid("is no number"))?;
            if asked.body_bytes.is_some_and(|bytes| bytes != stated) {
                return Err(invalid("is not the length of the body; leave it out"));
            }
            content_length = Some(stated);
        } else if name == header::HOST && value.as_bytes().eq_ignore_ascii_case(target.authority.as_bytes()) {
            // Says what is said anyway.
        } else if HEADERS_RESERVED.contains(&name.as_str()) {
            return Err(invalid("is the runner's own; leave it out"));
        } else {
            headers.append(name, value);
        }
    }
    Ok((headers, content_length))
}

/// Digits and nothing else: no sign, no list, no space.
fn length(value: &HeaderValue) -> Option<u64> {
    let digits = value.to_str().ok()?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

enum Refused {
    Denied(Denied),
    Invalid(String),
}

/// Sets the headers of the rule and answers with the secrets in them.
fn secret_headers(grants: &Grants, rule: &HttpRule, url: &Url, headers: &mut HeaderMap) -> Result<Secrets, Refused> {
    let mut secrets = Vec::new();
    for (name, template) in &rule.headers {
        let names = template.0.iter().filter_map(|piece| match piece {
            Piece::Secret(name) => Some(name),
            Piece::Text(_) => None,
        });
        let before = secrets.len();
        secrets.extend(names.filter_map(|name| grants.tenant().secrets.get(name)));
        let sensitive = secrets.len() > before;
        if sensitive && url.scheme() != "https" {
            return Err(Refused::Invalid(format!("the header `{name}` has a secret, which goes over https only")));
        }
        let text = grants.header(template).map_err(Refused::Denied)?;
        // The error would name no character either, but says who can mend it.
        let mut value = HeaderValue::from_str(text.reveal()).map_err(|_| {
            Refused::Invalid(format!(
                "the header `{name}` of the manifest has a secret with characters that HTTP does not allow"
            ))
        })?;
        value.set_sensitive(sensitive);
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            Refused::Invalid(format!("the header `{name}` of the manifest has a name that HTTP does not allow"))
        })?;
        headers.insert(name, value);
    }
    Secrets::new(secrets.into_iter().map(|secret| secret.reveal())).map_err(Refused::Invalid)
}

#[cfg(test)]
mod tests;
