//! TLS of the TCP listener: a chain of certificates and a key, from two files, looked at again when they have changed and
//! somebody says so. Connections that go on keep what they began with.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Certificates of one chain: far more than any has.
const CHAIN_MAX: usize = 16;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    cert: Arc<Path>,
    key: Arc<Path>,
    now: Arc<RwLock<Arc<ServerConfig>>>,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file says nothing that is of use.
    #[error("`{}` holds no {what} in PEM: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// There is no certificate, or a whole collection of them.
    #[error("`{}` has {found} certificates; a chain has 1 to {CHAIN_MAX}", path.display())]
    Chain {
        /// Which.
        path: PathBuf,
        /// How many there are.
        found: usize,
    },
    /// They do not go together.
    #[error("the certificate and its key cannot be used: {0}")]
    Unfit(#[from] rustls::Error),
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// One of them cannot be read, or they do not go together.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let now = Arc::new(RwLock::new(config(cert, key)?));
        Ok(Self { cert: cert.into(), key: key.into(), now })
    }

    /// Reads both files again, for connections from now on.
    ///
    /// # Errors
    /// As [`Tls::load`]; then what was there before serves on.
    pub fn reload(&self) -> Result<(), TlsError> {
        let new = config(&self.cert, &self.key)?;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn config(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let unread = |path: &Path, what| {
        let path = path.to_owned();
        move |source| TlsError::File { path, what, source }
    };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(cert).and_then(|chain| chain.take(CHAIN_MAX + 1).collect());
    let chain = chain.map_err(unread(cert, "certificate"))?;
    if !(1..=CHAIN_MAX).contains(&chain.len()) {
        return Err(TlsError::Chain { path: cert.to_owned(), found: chain.len() });
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(unread(key, "private key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_no_client_auth().with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
