//! The command line's side of the API: one client, two backs.
//!
//! Where a server runs, it is asked: over the unix socket in the data directory, or at a URL. Where none runs, the
//! store is opened and the very same router answers in this process. So the command line has no implementation of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{self, HeaderValue, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::dir::{Create, StoreDir};
use runner_store::engine::redb::Commit;
use runner_store::error::StoreError;
use runner_store::handle::Writer;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::doors::secret;
use super::exit::{Code, Failure};
use super::output::Format;
use super::tls::{Address, ToServer};
use crate::api::error::Problem;
use crate::api::plugins::Plugins;
use crate::api::serve::SOCKET;
use crate::api::{self, App};

/// How long a server may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long another command line may have the store open before that is an error, and how often to look: most are done in
/// a few milliseconds.
const IN_USE_WITHIN: Duration = Duration::from_millis(500);
const IN_USE_EVERY: Duration = Duration::from_millis(10);
/// How long an answer may take: longer than the longest wait that the API allows.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// The same for a plugin, which may be compiled twice, for two minutes each, behind others.
const PUT_WITHIN: Duration = Duration::from_secs(600);
/// The same for what copies or reads a whole store: a terabyte at 50 MB a second.
const LARGE_ANSWER_WITHIN: Duration = Duration::from_secs(6 * 3_600);

/// Where to ask.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// The store's folder; a server that runs on it is asked, else the store is opened
    #[arg(long, value_name = "DIR", default_value = "runner-data", env = "RUNNER_DATA")]
    pub data: PathBuf,
    /// A server elsewhere, for example http://127.0.0.1:7070
    #[arg(long, value_name = "URL", env = "RUNNER_URL")]
    pub url: Option<String>,
    /// Whose jobs and queues; `default` if absent
    #[arg(long, value_name = "TENANT", env = "RUNNER_TENANT")]
    pub tenant: Option<String>,
    /// A file with the token to ask with; or the token itself in RUNNER_TOKEN
    #[arg(long, value_name = "FILE", env = "RUNNER_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// A file with certificates to trust for https beside those of the system, in PEM
    #[arg(long, value_name = "FILE", env = "RUNNER_CA_FILE")]
    pub ca_file: Option<PathBuf>,
}

/// What the verbs have in common that ask a server and print its answer.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Common {
    #[command(flatten)]
    pub(in crate::cli) target: Target,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    pub(in crate::cli) output: Format,
}

/// See the module.
pub struct Client {
    back: Back,
    tenant: Option<String>,
    /// The header with the token.
    token: Option<HeaderValue>,
}

enum Back {
    Tcp { authority: String, tls: Option<Box<ToServer>> },
    Unix(PathBuf),
    Local { router: Router, app: Arc<App>, writer: Writer },
}

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub bytes: Bytes,
}

impl Client {
    /// Finds out whom to ask.
    ///
    /// # Errors
    /// The URL is none, or no server runs and the store cannot be opened.
    pub async fn open(target: &Target) -> Result<Self, Failure> {
        let token = token(target)?;
        let back = Self::back(target).await?;
        Ok(Self { back, tenant: target.tenant.clone(), token })
    }

    async fn back(target: &Target) -> Result<Back, Failure> {
        if let Some(url) = &target.url {
            let Address { authority, https } = Address::parse(url)?;
            let tls = if https { Some(Box::new(ToServer::new(&authority, target.ca_file.as_deref())?)) } else { None };
            return Ok(Back::Tcp { authority, tls });
        }
        let socket = target.data.join(SOCKET);
        let until = Instant::now() + IN_USE_WITHIN;
        loop {
            match UnixStream::connect(&socket).await {
                Ok(_) => return Ok(Back::Unix(socket)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let message =
                        format!("`{}` belongs to another user; run this as the server's user", socket.display());
                    return Err(Failure::new(Code::NotAllowed, message));
                }
                Err(_) => {}
            }
            match Self::local(&target.data) {
                // Another call that is about to end, or a server that is about to listen.
                Err(StoreError::InUse(_)) if Instant::now() < until => tokio::time::sleep(IN_USE_EVERY).await,
                opened => return Ok(opened?),
            }
        }
    }

    fn local(data: &Path) -> Result<Back, StoreError> {
        let dir = StoreDir::new(data);
        let engine = dir.open(Create::No, Clock::System, Commit::default())?;
        let live = Some(dir.live(&engine));
        let (handle, writer) = Handle::start(Box::new(engine))?;
        let app = App::on(handle, Plugins::default(), Box::new(|| Some("no_node")), live, None);
        Ok(Back::Local { router: api::router(Arc::clone(&app)), app, writer })
    }

    /// Whether the store was opened here, so that nothing runs.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.back, Back::Local { .. })
    }

    /// Closes what was opened.
    pub async fn close(self) {
        if let Back::Local { router, app, writer } = self.back {
            drop(router);
            app.stop().await;
            drop(app);
            // A bug of the writer was reported by its own hook.
            _ = tokio::task::spawn_blocking(|| writer.join()).await;
        }
    }

    /// Asks for something without a body.
    ///
    /// # Errors
    /// The server does not answer, or says no.
    pub async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::GET, path, None, None).await
    }

    /// Posts JSON, under an idempotency key if there is one.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post(&self, path: &str, key: Option<&str>, body: Option<String>) -> Result<Answer, Failure> {
        self.call(Method::POST, path, key, body).await
    }

    /// Changes something, in JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn patch(&self, path: &str, body: String) -> Result<Answer, Failure> {
        self.call(Method::PATCH, path, None, Some(body)).await
    }

    /// Asks for an answer without an end, and gives each part of it to `each`, until that says stop or the answer ends.
    ///
    /// # Errors
    /// As [`Client::get`]; and whatever `each` says.
    pub async fn follow(&self, path: &str, each: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let host = self.host();
        let request = self.named(Request::get(path).header(header::HOST, host)).body(Full::new(Bytes::new()));
        let request = request.map_err(|error| Failure::usage(format!("not a request: {error}")))?;
        match &self.back {
            Back::Local { router, .. } => {
                let service = TowerToHyperService::new(router.clone());
                let response = match service.call(request.map(Body::new)).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                parts(response, each).await
            }
            Back::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| self.unreachable(&error.to_string()))?;
                self.follow_on(stream, request, each).await
            }
            Back::Tcp { authority, tls: None } => {
                let stream = self.connect(authority).await?;
                self.follow_on(stream, request, each).await
            }
            Back::Tcp { authority, tls: Some(tls) } => {
                let stream = self.connect_tls(authority, tls).await?;
                self.follow_on(stream, request, each).await
            }
        }
    }

    async fn follow_on(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        request: Request<Full<Bytes>>,
        each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let lost = |error: hyper::Error| self.unreachable(&format!("the connection broke off: {error}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let answer = async { parts(sender.send_request(request).await.map_err(lost)?, each).await };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answered = answer.as_mut() => answered,
            // The connection's own end tells nothing that the answer does not tell.
            _ = connection => answer.await,
        }
    }

    /// The request, about the tenant that was named, with the token that there is.
    fn named(&self, request: axum::http::request::Builder) -> axum::http::request::Builder {
        let request = match &self.token {
            Some(token) => request.header(header::AUTHORIZATION, token),
            None => request,
        };
        match &self.tenant {
            Some(tenant) => request.header(api::tenant::RUNNER_TENANT, tenant),
            None => request,
        }
    }

    fn host(&self) -> &str {
        match &self.back {
            Back::Tcp { authority, .. } => authority,
            Back::Unix(_) | Back::Local { .. } => "localhost",
        }
    }

    async fn connect(&self, authority: &str) -> Result<TcpStream, Failure> {
        let connect = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(authority)).await;
        connect.map_err(|_| self.unreachable("no connection"))?.map_err(|error| self.unreachable(&error.to_string()))
    }

    async fn connect_tls(&self, authority: &str, tls: &ToServer) -> Result<TlsStream<TcpStream>, Failure> {
        let stream = self.connect(authority).await?;
        let hands = tokio::time::timeout(CONNECT_WITHIN, tls.connect(stream)).await;
        hands.map_err(|_| self.unreachable("no TLS"))?.map_err(|error| self.unreachable(&error.to_string()))
    }

    /// Posts JSON that asks for something large, like a backup, and waits as long as that may take.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post_large(&self, path: &str, body: String) -> Result<Answer, Failure> {
        self.call_within(LARGE_ANSWER_WITHIN, Method::POST, path, None, Some(body)).await
    }

    /// Asks for something that reads the whole store, and waits as long as that may take.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_large(&self, path: &str) -> Result<Answer, Failure> {
        self.call_within(LARGE_ANSWER_WITHIN, Method::GET, path, None, None).await
    }

    /// Puts something that is not JSON and takes a while to be taken, like a plugin.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn put(&self, path: &str, media: &str, body: Vec<u8>) -> Result<Answer, Failure> {
        let request = self.named(Request::put(path)).header(header::CONTENT_TYPE, media);
        self.ask(PUT_WITHIN, request, Bytes::from(body)).await
    }

    /// Deletes something.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::DELETE, path, None, None).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<String>,
    ) -> Result<Answer, Failure> {
        self.call_within(ANSWER_WITHIN, method, path, key, body).await
    }

    async fn call_within(
        &self,
        within: Duration,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<String>,
    ) -> Result<Answer, Failure> {
        let mut request = self.named(Request::builder().method(method).uri(path));
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = key {
            request = request.header(api::enqueue::IDEMPOTENCY_KEY, key);
        }
        self.ask(within, request, Bytes::from(body.unwrap_or_default())).await
    }

    async fn ask(&self, within: Duration, request: http::request::Builder, body: Bytes) -> Result<Answer, Failure> {
        let request = request.header(header::HOST, self.host()).body(Full::new(body));
        let request = request.map_err(|error| Failure::usage(format!("not a request: {error}")))?;
        match tokio::time::timeout(within, self.send(request)).await {
            Ok(answer) => answer?.checked(),
            Err(_) => Err(self.unreachable(&format!("no answer within {} s", within.as_secs()))),
        }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        match &self.back {
            Back::Local { router, .. } => {
                let service = TowerToHyperService::new(router.clone());
                let response = match service.call(request.map(Body::new)).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                };
                let status = response.status();
                let body = response.into_body().collect().await;
                let body =
                    body.map_err(|error| Failure::new(Code::Failed, format!("the answer broke off: {error}")))?;
                Ok(Answer { status, bytes: body.to_bytes() })
            }
            Back::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| self.unreachable(&error.to_string()))?;
                self.exchange(stream, request).await
            }
            Back::Tcp { authority, tls: None } => {
                let stream = self.connect(authority).await?;
                self.exchange(stream, request).await
            }
            Back::Tcp { authority, tls: Some(tls) } => {
                let stream = self.connect_tls(authority, tls).await?;
                self.exchange(stream, request).await
            }
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Failure> {
        let lost = |error: hyper::Error| self.unreachable(&format!("the connection broke off: {error}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok(Answer { status, bytes: response.into_body().collect().await?.to_bytes() })
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answered = answer.as_mut() => answered.map_err(lost),
            // The connection's own end tells nothing that the answer does not tell.
            _ = connection => answer.await.map_err(lost),
        }
    }

    fn unreachable(&self, why: &str) -> Failure {
        let (whom, mend) = match &self.back {
            Back::Tcp { authority, tls } => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                (format!("{scheme}://{authority}"), "is it running, and is this its address?")
            }
            Back::Unix(path) => (path.display().to_string(), "is the server still running?"),
            Back::Local { .. } => ("the store".to_owned(), "is the disk slow?"),
        };
        Failure::new(Code::Unreachable, format!("{whom} does not answer ({why}); {mend}"))
    }
}

/// Gives each part of an answer on as it comes; one that says no is read whole.
async fn parts<B>(
    response: hyper::Response<B>,
    mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let broken = |error: B::Error| Failure::new(Code::Unreachable, format!("the answer broke off: {error}"));
    let status = response.status();
    let mut body = response.into_body();
    if !status.is_success() {
        let bytes = body.collect().await.map_err(broken)?.to_bytes();
        return Answer { status, bytes }.checked().map(|_| ());
    }
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            each(&data)?;
        }
    }
    Ok(())
}

impl Answer {
    /// The answer as a value.
    ///
    /// # Errors
    /// It is not what this version of the API says.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.bytes).map_err(|error| {
            let message = format!("the answer is not one of this version of the API ({error}); is it a runner?");
            Failure::new(Code::Failed, message)
        })
    }

    fn checked(self) -> Result<Self, Failure> {
        if self.status.is_success() {
            return Ok(self);
        }
        match serde_json::from_slice::<Problem>(&self.bytes) {
            Ok(problem) => Err(problem.into()),
            Err(_) => Err(Failure::new(Code::Failed, format!("the server answered {}; is it a runner?", self.status))),
        }
    }
}

/// The token to ask with: it decides what is allowed, also over the unix socket.
fn token(target: &Target) -> Result<Option<HeaderValue>, Failure> {
    let Some(token) = secret("RUNNER_TOKEN", target.token_file.as_deref())? else { return Ok(None) };
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.map_err(|_| Failure::usage("RUNNER_TOKEN: is no token: it has characters that none has"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}
