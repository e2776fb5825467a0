//! Where `--url` leads, and TLS to a server there: what the system trusts is trusted, and what `--ca-file` has.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::exit::Failure;

/// Host and port of a URL.
pub(super) struct Address {
    pub(super) authority: String,
    pub(super) https: bool,
}

impl Address {
    /// Reads a URL, which has no path.
    pub(super) fn parse(url: &str) -> Result<Self, Failure> {
        let uri: axum::http::Uri =
            url.parse().map_err(|error| Failure::usage(format!("{url:?} is not a URL ({error})")))?;
        let (https, authority) = match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(authority)) => (false, authority),
            (Some("https"), Some(authority)) => (true, authority),
            _ => return Err(Failure::usage(format!("{url:?} is not a URL; write for example http://127.0.0.1:7070"))),
        };
        if authority.as_str().contains('@') {
            return Err(Failure::usage("a URL with a name or a secret in it is not taken: set RUNNER_TOKEN instead"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            let scheme = if https { "https" } else { "http" };
            return Err(Failure::usage(format!("{url:?} has a path; give only {scheme}://{authority}")));
        }
        let port = match (authority.port(), https) {
            (Some(_), _) => "",
            (None, true) => ":443",
            (None, false) => ":80",
        };
        Ok(Self { authority: format!("{authority}{port}"), https })
    }
}

/// TLS to one server.
pub(super) struct ToServer {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl ToServer {
    pub(super) fn new(authority: &str, ca_file: Option<&Path>) -> Result<Self, Failure> {
        let mut trusted = RootCertStore::empty();
        // What of the system cannot be read is not trusted; if that matters, the handshake says so.
        let (_, _unfit) = trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca_file {
            let wrong = |why: String| Failure::usage(format!("--ca-file `{}`: {why}", path.display()));
            let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
            let found = found.map_err(|error| wrong(format!("holds no certificates in PEM: {error}")))?;
            let (added, _unfit) = trusted.add_parsable_certificates(found);
            if added == 0 {
                return Err(wrong("holds no certificate that can be trusted".to_owned()));
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| Failure::usage(format!("no TLS: {error}")))?;
        let mut config = config.with_root_certificates(trusted).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host);
        let name = name.map_err(|error| Failure::usage(format!("{authority} is no name for TLS: {error}")))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    pub(super) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}
