//! The way out: requests that plugins send, as far as they are granted, to addresses that were looked at.
//!
//! One [`Egress`] a process, one [`WayOut`] a run, which costs nothing until the run first sends. `runner:plugin/http`
//! and `wasi:http` both end in [`WayOut::send`], so that the same grants, limits and secrets hold for both. The parts:
//! [`request`] looks at what is asked for, [`address`] says which addresses are not public, [`connect`] looks a name up
//! once and connects to what it checked, [`exchange`] sends and receives, [`mask`] takes secrets out of answers.
//!
//! Sockets live on threads of their own, which start with the first request: guests cannot starve them, and the guests'
//! threads wait for no socket. Not done here: redirects, proxies, cookies, decompression, connections that outlive their
//! request, HTTP/2.

mod address;
mod connect;
mod error;
mod exchange;
mod mask;
mod request;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

pub(crate) use self::error::SendError;
pub(crate) use self::exchange::{Answer, OwnBody, Timeouts};
pub(crate) use self::request::Asked;
use super::grants::{Denied, Grants};
use super::log::LogSource;
use super::streams::Streams;

/// Requests of one run at once.
pub(crate) const RUN_REQUESTS_MAX: usize = 8;
/// Requests of one tenant at once: descriptors are the process's.
pub(crate) const TENANT_REQUESTS_MAX: usize = 256;
/// Look-ups of one tenant at once: each holds a thread, for as long as a name server likes.
const TENANT_LOOKUPS_MAX: usize = 8;
/// Threads for look-ups: those of eight tenants whose name servers do not answer. The next waits.
const LOOKUP_THREADS_MAX: usize = 64;
/// How long a request waits for a place among the others; then it is `limit`, and a guest that waits for itself goes on.
pub(crate) const PLACE_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long connecting may take, TLS included; and looking the name up, before it.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Status line and headers of an answer: many times what servers send …
pub(crate) const ANSWER_HEAD_BYTES_MAX: usize = 64 << 10;
/// … and how many of them.
pub(crate) const ANSWER_HEADERS_MAX: usize = 256;
/// So long a request may go on behind its run's time-out, which is for the run to notice: it ends as timed out, and not
/// with a guest that is told so.
const OVERTIME: Duration = Duration::from_secs(1);
/// Denials of addresses that one run's log explains, as with grants.
const DENIALS_SAID_MAX: usize = 32;
/// Cores for which one thread moves bytes: what it does a request, TLS above all, is little beside what a guest does.
const CORES_PER_THREAD: usize = 4;

/// Looks up a name's addresses; called where blocking is allowed.
pub type Resolve = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// How names are looked up and who is trusted.
#[derive(Clone)]
pub struct EgressSettings {
    /// Default: as the system does.
    pub resolve: Resolve,
    /// Whose signature a server needs; none: whoever the system trusts.
    pub roots: Option<Arc<RootCertStore>>,
}

/// See the module.
pub struct Egress {
    settings: EgressSettings,
    // Never dropped where async code runs: see `drop`.
    threads: OnceLock<Runtime>,
    tls: OnceCell<Arc<ClientConfig>>,
    /// Those that have a run which sends or did.
    tenants: Mutex<HashMap<String, Arc<Tenant>>>,
}

/// What the runs of one tenant share.
pub(crate) struct Tenant {
    requests: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
}

/// One run's way out.
pub(crate) struct WayOut {
    egress: Arc<Egress>,
    deadline: Instant,
    body_bytes_max: u64,
    opened: Option<Opened>,
}

struct Opened {
    tenant: Arc<Tenant>,
    places: Arc<Semaphore>,
    said: Arc<Mutex<HashSet<String>>>,
}

impl Default for EgressSettings {
    fn default() -> Self {
        Self { resolve: Arc::new(connect::system), roots: None }
    }
}

impl fmt::Debug for EgressSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EgressSettings").finish_non_exhaustive()
    }
}

impl Egress {
    /// Ready to send; nothing is started or read yet.
    #[must_use]
    pub fn new(settings: EgressSettings) -> Arc<Self> {
        Arc::new(Self { settings, threads: OnceLock::new(), tls: OnceCell::new(), tenants: Mutex::default() })
    }

    /// The threads that sockets live on.
    fn threads(&self) -> Result<Handle, SendError> {
        if let Some(threads) = self.threads.get() {
            return Ok(threads.handle().clone());
        }
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let started = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores.div_ceil(CORES_PER_THREAD))
            .max_blocking_threads(LOOKUP_THREADS_MAX)
            .thread_name("egress")
            .enable_all()
            .build();
        let started = started.map_err(|error| SendError::Unavailable { why: error.to_string() })?;
        // Of two that start at once, one is first, and the other's threads end again.
        if let Err(second) = self.threads.set(started) {
            second.shutdown_background();
        }
        Ok(self.threads.get().expect("was set before, by us or by another").handle().clone())
    }

    /// How we speak TLS: nothing of a session is kept for the next, as that would be another tenant's.
    async fn tls(&self) -> Result<Arc<ClientConfig>, SendError> {
        let made = self.tls.get_or_try_init(|| async {
            let unavailable = |why: String| SendError::Unavailable { why };
            let roots = match &self.settings.roots {
                Some(roots) => Arc::clone(roots),
                None => {
                    let loaded = tokio::task::spawn_blocking(system_roots).await;
                    Arc::new(loaded.map_err(|error| unavailable(error.to_string()))?.map_err(unavailable)?)
                }
            };
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let config = config.map_err(|error| unavailable(error.to_string()))?;
            let mut config = config.with_root_certificates(roots).with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            config.resumption = rustls::client::Resumption::disabled();
            Ok(Arc::new(config))
        });
        made.await.cloned()
    }

    fn tenant(&self, name: &str) -> Arc<Tenant> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = tenants.get(name) {
            return Arc::clone(tenant);
        }
        // Whoever has no run that may send needs no place; so there are no more than runs.
        tenants.retain(|_, tenant| Arc::strong_count(tenant) > 1);
        let tenant = Arc::new(Tenant {
            requests: Arc::new(Semaphore::new(TENANT_REQUESTS_MAX)),
            lookups: Arc::new(Semaphore::new(TENANT_LOOKUPS_MAX)),
        });
        tenants.insert(name.to_owned(), Arc::clone(&tenant));
        tenant
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

/// Whom the system trusts. `SSL_CERT_FILE` and `SSL_CERT_DIR` replace it, as elsewhere.
fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    match found.errors.first() {
        _ if added > 0 => Ok(roots),
        Some(error) => Err(format!("the system's certificates cannot be read: {error}")),
        None => Err("the system has no certificates (often the package `ca-certificates`)".to_owned()),
    }
}

impl WayOut {
    pub(crate) fn new(egress: Arc<Egress>, deadline: Instant, body_bytes_max: u64) -> Self {
        Self { egress, deadline, body_bytes_max, opened: None }
    }

    /// Whether the run has sent a request.
    pub(crate) fn has_sent(&self) -> bool {
        self.opened.is_some()
    }

    /// When its requests are over. The run ends before, as a run, and takes them along.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline + OVERTIME
    }

    /// Checks a request at once, and sends it as far as the future is polled. Dropped, it leaves nothing behind.
    ///
    /// # Errors
    /// It is not granted, or is none.
    pub(crate) fn send(
        &mut self,
        grants: &Arc<Grants>,
        asked: Asked,
        body: OwnBody,
        timeouts: Timeouts,
    ) -> Result<impl Future<Output = Result<Answer, SendError>> + Send + use<>, SendError> {
        let prepared = request::prepare(grants, asked)?;
        let body_bytes_max = self.body_bytes_max;
        let egress = Arc::clone(&self.egress);
        let opened = self.open(grants);
        let (tenant, run_places) = (Arc::clone(&opened.tenant), Arc::clone(&opened.places));
        let grants = Arc::clone(grants);
        Ok(exchange::send(exchange::Exchange {
            egress,
            grants,
            tenant,
            run_places,
            prepared,
            body,
            body_bytes_max,
            timeouts,
        }))
    }

    /// Says in the run's log which address was refused, once for each; for futures, which do not have the run.
    pub(crate) fn teller(&mut self, grants: &Grants, streams: &Streams) -> impl Fn(&Denied) + Send + use<> {
        let (said, streams) = (Arc::clone(&self.open(grants).said), streams.clone());
        move |denied| {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.len() < DENIALS_SAID_MAX && said.insert(denied.what.clone()) {
                streams.line(LogSource::Runner, &denied.to_string());
            }
        }
    }

    fn open(&mut self, grants: &Grants) -> &Opened {
        let egress = &self.egress;
        self.opened.get_or_insert_with(|| Opened {
            tenant: egress.tenant(&grants.tenant().name),
            places: Arc::new(Semaphore::new(RUN_REQUESTS_MAX)),
            said: Arc::default(),
        })
    }
}
