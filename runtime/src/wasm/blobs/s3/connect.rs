//! How buckets are asked: hyper's client, whose connections are kept, over TLS with what the machine trusts. Plain HTTP is
//! spoken only where the operator's endpoint says so.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use rustls::{ClientConfig, RootCertStore, crypto};
use tokio::time::timeout;

/// From the first packet to the last.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Until the head of the answer is there; a part of an upload goes with it.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Connections that wait for the next request, of one container.
const IDLE_MAX: usize = 16;
const IDLE_WITHIN: Duration = Duration::from_secs(60);

/// Makes the client of one container.
#[derive(Debug)]
pub(super) struct Connector {
    /// The endpoint is one of plain HTTP.
    pub(super) is_plain: bool,
}

#[derive(Debug)]
struct Hyper(Client<HttpsConnector<Tcp>, HttpRequestBody>);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_WITHIN));
        let builder = HttpsConnectorBuilder::new().with_tls_config(self.tls()?);
        let builder = if self.is_plain { builder.https_or_http() } else { builder.https_only() };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_WITHIN)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(builder.enable_http1().wrap_connector(tcp));
        Ok(HttpClient::new(Hyper(client)))
    }
}

impl Connector {
    fn tls(&self) -> object_store::Result<ClientConfig> {
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| object_store::Error::Generic { store: "S3", source };
        let mut roots = RootCertStore::empty();
        if !self.is_plain {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let why = "this machine trusts no authority, so no certificate can be checked; install ca-certificates";
                return Err(failed(why.into()));
            }
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| failed(error.into()))?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

type Answered<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

// Written out as `async_trait` would, which is what the trait was declared with.
impl HttpService for Hyper {
    fn call<'life, 'future>(&'life self, request: HttpRequest) -> Answered<'future>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(self.answer(request))
    }
}

impl Hyper {
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answered = timeout(ANSWER_WITHIN, self.0.request(request)).await;
        let answer = answered.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?.map_err(|error| {
            let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
            HttpError::new(kind, error)
        })?;
        let interrupted = |error: hyper::Error| HttpError::new(HttpErrorKind::Interrupted, error);
        Ok(answer.map(|body| HttpResponseBody::new(body.map_err(interrupted))))
    }
}
