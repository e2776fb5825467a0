//! The HTTP API: one axum router, which the server offers over TCP and a unix socket, and which the command line calls
//! in its own process where no server runs. So there is one implementation of everything, and it is this one.
//!
//! [`router`] answers; [`access`] says who may ask; [`serve`] has the sockets, their bounds and their end. What is asked
//! of the store is data (`runner_store::command`); no rule about jobs stands here.

mod accept;
pub mod access;
pub mod body;
pub mod bulk;
pub mod change;
pub mod count;
pub mod enqueue;
pub mod error;
pub mod events;
mod filter;
pub mod guard;
mod heads;
pub mod jobs;
pub mod kinds;
pub mod lease;
pub mod logs;
pub mod metrics;
pub mod new_job;
pub mod node;
pub mod openapi;
pub mod paced;
pub mod params;
pub mod plugins;
pub mod queues;
pub mod read;
mod refusal;
mod refused;
pub mod runs;
pub mod schedules;
pub mod series;
pub mod serve;
pub mod session;
pub mod settings;
pub mod stats;
pub mod store;
pub mod tenant;
pub mod tenants;
pub mod time;
pub mod tls;
pub mod tokens;
mod told;
pub mod types;
pub mod verbs;
pub mod why;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Command, Enqueue, Reply};
use runner_store::dir::LiveStore;
use runner_store::disk::Room;
use tokio::sync::{Semaphore, watch};

use self::access::Access;
use self::bulk::Operations;
use self::error::Problem;
use self::plugins::{Plugins, one as plugin};
use crate::buffered::Buffered;
use crate::merging;
use crate::scheduler::starter::Starter;

/// Calls that wait for the store at once: half of what its queue takes, so that the scheduler's own calls find room.
const WRITES_MAX: usize = 4_096;
/// How long a call waits to be let in before it is told that the node is overloaded.
const LET_IN_WITHIN: Duration = Duration::from_secs(2);

/// What the answers are made of.
pub struct App {
    store: Handle,
    plugins: Plugins,
    ready: Ready,
    writes: Semaphore,
    bodies: body::Room,
    files: store::Files,
    metrics: metrics::Metrics,
    /// Starts jobs on the node that runs here, if one does.
    starter: Option<Starter>,
    buffered: Buffered,
    operations: Operations,
    series: series::Series,
    /// What those who follow the log share, and the turns of those who are behind.
    tail: events::Tail,
    behind: events::Behind,
    /// Set once answers that have no end of their own are to end.
    ending: watch::Sender<bool>,
    access: Arc<Access>,
    gone: tenants::Gone,
    /// Held while settings are read, changed and written, so that no two changes overwrite each other.
    settings: tokio::sync::Mutex<()>,
    clock: Clock,
}

/// Says whether the node takes work: none if it does, else one word on why not.
pub type Ready = Box<dyn Fn() -> Option<&'static str> + Send + Sync>;

impl App {
    /// An API over this store; `plugins` are those of the node, if one runs here.
    #[must_use]
    pub fn new(store: Handle, plugins: Plugins, ready: Ready) -> Arc<Self> {
        Self::on(store, plugins, ready, None, None)
    }

    /// The same over a store in a folder, which can be measured and backed up, and with a node that runs jobs.
    #[must_use]
    pub fn on(
        store: Handle,
        plugins: Plugins,
        ready: Ready,
        live: Option<LiveStore>,
        starter: Option<Starter>,
    ) -> Arc<Self> {
        let access = Access::new(store.clone(), Clock::System);
        let gone = tenants::Gone::load(&store);
        Arc::new(Self {
            store,
            plugins,
            ready,
            writes: Semaphore::new(WRITES_MAX),
            bodies: body::Room::default(),
            files: store::Files::new(live),
            metrics: metrics::Metrics::default(),
            starter,
            buffered: Buffered::default(),
            operations: Operations::default(),
            series: series::Series::default(),
            tail: events::Tail::default(),
            behind: events::Behind::default(),
            ending: watch::Sender::new(false),
            access,
            gone,
            settings: tokio::sync::Mutex::new(()),
            clock: Clock::System,
        })
    }

    /// Who may ask.
    #[must_use]
    pub fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Ends answers that have no end of their own, so that a server can stop in good order.
    pub fn end_streams(&self) {
        self.ending.send_replace(true);
    }

    /// Accepts what is buffered, takes no more of that, and ends what is done in the background. To be called when no
    /// request is answered any more.
    pub async fn stop(&self) {
        self.buffered.stop().await;
        self.operations.stop().await;
        self.stop_series().await;
    }

    /// Sends a command to the store.
    async fn call(&self, command: Command) -> Result<Reply, Problem> {
        let permit = tokio::time::timeout(LET_IN_WITHIN, self.writes.acquire()).await;
        let Ok(Ok(_permit)) = permit else { return Err(Problem::overloaded()) };
        Ok(self.store.call(command).await?)
    }

    /// Enqueues jobs, whose args their plugins may have to merge with those of others.
    async fn enqueue(&self, call: Enqueue) -> Result<Reply, Problem> {
        let permit = tokio::time::timeout(LET_IN_WITHIN, self.writes.acquire()).await;
        let Ok(Ok(_permit)) = permit else { return Err(Problem::overloaded()) };
        Ok(merging::enqueue(&self.store, self.plugins.merger(), call).await?)
    }
}

/// All routes. Whoever serves them says first who calls ([`access::door`]); each has its row in [`access::table`].
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/jobs", get(jobs::list).post(enqueue::post))
        .route("/v1/jobs/count", get(count::get))
        .route("/v1/jobs/cancel", post(bulk::cancel))
        .route("/v1/jobs/retry", post(bulk::retry))
        .route("/v1/jobs/release", post(bulk::release))
        .route("/v1/jobs/delete", post(bulk::delete))
        .route("/v1/operations/{n}", get(bulk::show))
        .route("/v1/jobs/{id}", get(jobs::show).patch(change::edit).delete(verbs::delete))
        .route("/v1/jobs/{id}/output", get(jobs::output))
        .route("/v1/jobs/{id}/logs", get(logs::get))
        .route("/v1/jobs/{id}/wait", get(jobs::wait))
        .route("/v1/jobs/{id}/why", get(why::why))
        .route("/v1/jobs/{id}/graph", get(why::graph))
        .route("/v1/jobs/{id}/start", post(verbs::start))
        .route("/v1/jobs/{id}/cancel", post(verbs::cancel))
        .route("/v1/jobs/{id}/retry", post(verbs::retry))
        .route("/v1/jobs/{id}/release", post(verbs::release))
        .route("/v1/jobs/{id}/reschedule", post(change::reschedule))
        .route("/v1/queues", get(queues::list))
        // One route for both, or a queue named like a verb could not be shown.
        .route("/v1/queues/{q}", get(queues::show).patch(queues::set).post(queues::verb))
        .route("/v1/queues/{q}/{verb}", post(queues::verb_of))
        .route("/v1/kinds", get(kinds::list))
        .route("/v1/kinds/{k}", get(kinds::show).patch(kinds::set))
        .route("/v1/kinds/{k}/{verb}", post(kinds::verb))
        .route("/v1/schedules", get(schedules::list).post(schedules::create))
        .route("/v1/schedules/{name}", get(schedules::show).patch(schedules::edit).delete(schedules::delete))
        .route("/v1/schedules/{name}/{verb}", post(schedules::verb))
        .route("/v1/lease", post(lease::post))
        .route("/v1/runs/{id}/{run}/renew", post(runs::renew))
        .route("/v1/runs/{id}/{run}/finish", post(runs::finish))
        .route("/v1/runs/{id}/{run}/log", post(runs::log))
        .route("/v1/runs/{id}/{run}/progress", post(runs::progress))
        .route("/v1/events", get(events::get))
        .route("/v1/flush", post(enqueue::flush))
        .route("/v1/node", get(node::show))
        .route("/v1/node/drain", post(node::drain))
        .route("/v1/node/resume", post(node::resume))
        .route("/v1/plugins", get(plugins::list))
        // As of queues.
        .route("/v1/plugins/{name}", get(plugin::show).put(plugin::put).delete(plugin::delete).post(plugin::verb))
        .route("/v1/store/settings", get(settings::show).patch(settings::set))
        .route("/v1/store/stats", get(store::stats))
        .route("/v1/store/check", get(store::check))
        .route("/v1/store/accept-clock", post(store::accept_clock))
        .route("/v1/store/backup", post(store::backup))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{id}", delete(tokens::revoke))
        .route("/v1/tenants", get(tenants::list).post(tenants::create))
        .route("/v1/tenants/{t}", get(tenants::show).patch(tenants::set).delete(tenants::delete))
        .route("/v1/session", get(session::show).post(session::begin).delete(session::end))
        .route("/v1/stats", get(stats::get))
        .route("/v1/stats/series", get(series::get))
        .route("/v1/openapi.json", get(openapi::get))
        .route("/metrics", get(metrics::get))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "no_route", "there is nothing at this path") })
        .method_not_allowed_fallback(not_allowed)
        .layer(axum::middleware::from_fn(access::authorize))
        .layer(axum::middleware::map_response(finish))
        .with_state(app)
}

async fn ready(axum::extract::State(app): axum::extract::State<Arc<App>>) -> Response {
    let failed = app.store.failure().map(|_| "store_failed");
    let full = || (app.store.room() == Room::Critical).then_some("disk_full");
    match failed.or_else(full).or_else(|| (app.ready)()) {
        None => "ok\n".into_response(),
        Some(word) => (StatusCode::SERVICE_UNAVAILABLE, format!("{word}\n")).into_response(),
    }
}

async fn not_allowed(method: axum::http::Method) -> Problem {
    let detail = format!("{method} is not possible at this path; the header Allow has what is");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

async fn finish(mut response: Response) -> Response {
    finish_headers(response.headers_mut());
    response
}

/// What holds for every answer: no sniffing, no caching, no frame around it, nothing loaded by it, nothing told of it.
fn finish_headers(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        // A page says itself what it loads.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}
