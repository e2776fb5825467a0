//! Where traces go, from OpenTelemetry's own variables, and how: a POST each, over HTTP, or over TLS with what the machine
//! trusts.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Request, Uri, header};
use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore, crypto};

/// From the first packet to the last.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Until the receiver has answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The name of this service where nobody gives another.
const SERVICE: &str = "runner";

/// A receiver of OTLP over HTTP.
#[derive(Debug, Clone)]
pub struct Endpoint {
    uri: Uri,
    /// What the receiver wants to be sent besides, such as keys: never shown.
    headers: Vec<(HeaderName, HeaderValue)>,
    service: String,
}

/// Why an endpoint cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is no URL.
    #[error("{variable}: {why}; write for example http://127.0.0.1:4318")]
    Url {
        /// The variable.
        variable: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Another protocol than the one that is spoken here.
    #[error("OTEL_EXPORTER_OTLP_PROTOCOL: {0:?} is not spoken here; there is http/protobuf")]
    Protocol(String),
    /// Headers that are none; they may be secrets, so they are not repeated.
    #[error("OTEL_EXPORTER_OTLP_HEADERS: entry {0} is not NAME=VALUE")]
    Headers(usize),
    /// Nothing is trusted.
    #[error("this machine trusts no authority, so no certificate can be checked; install ca-certificates")]
    NoRoots,
}

impl Endpoint {
    /// The one that the environment names, if it does.
    ///
    /// # Errors
    /// It names one that cannot be used.
    pub fn of_environment() -> Result<Option<Self>, EndpointError> {
        Self::of(|name| env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, EndpointError> {
        const GENERAL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let (name, url) = match (variable(TRACES), variable(GENERAL)) {
            _ if disabled => return Ok(None),
            (Some(own), _) => (TRACES, own),
            // The general one is where all signals go: each has a path below it.
            (None, Some(all)) => (GENERAL, format!("{}/v1/traces", all.trim_end_matches('/'))),
            (None, None) => return Ok(None),
        };
        let wrong = |why: String| EndpointError::Url { variable: name, why };
        let uri: Uri = url.parse().map_err(|error| wrong(format!("{error}")))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(wrong("it is no http or https URL".to_owned()));
        }
        if let Some(protocol) = variable("OTEL_EXPORTER_OTLP_PROTOCOL").filter(|protocol| protocol != "http/protobuf") {
            return Err(EndpointError::Protocol(protocol));
        }
        let headers = variable("OTEL_EXPORTER_OTLP_HEADERS").map_or(Ok(Vec::new()), |text| headers(&text))?;
        let service = variable("OTEL_SERVICE_NAME").unwrap_or_else(|| SERVICE.to_owned());
        Ok(Some(Self { uri, headers, service }))
    }
}

fn headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, EndpointError> {
    let entries = text.split(',').map(str::trim).enumerate().filter(|(_, entry)| !entry.is_empty());
    let one = |(i, entry): (usize, &str)| {
        let (name, value) = entry.split_once('=')?;
        let mut value = HeaderValue::from_str(value.trim()).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::try_from(name.trim()).ok()?, value)).ok_or(i).ok()
    };
    entries.map(|(i, entry)| one((i, entry)).ok_or(EndpointError::Headers(i + 1))).collect()
}

/// Sends what is encoded.
pub(super) struct Sender {
    endpoint: Endpoint,
    client: Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, EndpointError>,
}

/// Why a receiver did not take it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("it is not reached: {0}")]
    Unreached(#[from] hyper_util::client::legacy::Error),
    #[error("it answered {0}")]
    Refused(u16),
    #[error("it does not answer within {} s", ANSWER_WITHIN.as_secs())]
    Late,
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

impl Sender {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let client = client(endpoint.uri.scheme_str() == Some("http"));
        Self { endpoint, client }
    }

    /// Where it sends to, without what may be a secret.
    pub(super) fn shown(&self) -> String {
        let host = self.endpoint.uri.host().unwrap_or_default();
        match self.endpoint.uri.port_u16() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    pub(super) fn service(&self) -> &str {
        &self.endpoint.service
    }

    pub(super) async fn send(&self, body: Vec<u8>) -> Result<(), SendError> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = axum::http::Method::POST;
        *request.uri_mut() = self.endpoint.uri.clone();
        let headers = request.headers_mut();
        headers.extend(self.endpoint.headers.iter().cloned());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let answered = tokio::time::timeout(ANSWER_WITHIN, client.request(request)).await;
        let status = answered.map_err(|_| SendError::Late)??.status();
        if status.is_success() { Ok(()) } else { Err(SendError::Refused(status.as_u16())) }
    }
}

fn client(plain: bool) -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, EndpointError> {
    let mut roots = RootCertStore::empty();
    if !plain {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(EndpointError::NoRoots);
        }
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("ring speaks TLS 1.2 and 1.3").with_root_certificates(roots).with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_WITHIN));
    let builder = HttpsConnectorBuilder::new().with_tls_config(config);
    let builder = if plain { builder.https_or_http() } else { builder.https_only() };
    Ok(Client::builder(TokioExecutor::new()).build(builder.enable_http1().wrap_connector(tcp)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Endpoint>, EndpointError> {
        Endpoint::of(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn an_endpoint_is_what_the_environment_says() {
        let uri = |variables: &[(&str, &str)]| of(variables).unwrap().map(|endpoint| endpoint.uri.to_string());
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.example/in");
        assert_eq!(uri(&[]), None);
        assert_eq!(uri(&[general]).as_deref(), Some("http://127.0.0.1:4318/v1/traces"));
        assert_eq!(uri(&[general, own]).as_deref(), Some("https://traces.example/in"));
        assert_eq!(uri(&[general, ("OTEL_SDK_DISABLED", "true")]), None);
        let with = of(&[general, ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=s3cret, x = y")]).unwrap().unwrap();
        assert_eq!(with.headers.len(), 2);
        assert!(!format!("{with:?}").contains("s3cret"), "{with:?}");
    }

    #[test]
    fn an_endpoint_that_is_none_is_refused_with_what_would_be_right() {
        let wrong = |variables: &[(&str, &str)]| of(variables).unwrap_err().to_string();
        let general = |value| ("OTEL_EXPORTER_OTLP_ENDPOINT", value);
        for value in ["localhost:4318", "ftp://x", "http://", "\n"] {
            assert!(wrong(&[general(value)]).contains("write for example http://127.0.0.1:4318"), "{value}");
        }
        let good = general("http://x");
        assert!(wrong(&[good, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).contains("there is http/protobuf"));
        let secret = wrong(&[good, ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,s3cret")]);
        assert!(secret.contains("entry 2") && !secret.contains("s3cret"), "{secret}");
    }
}
