//! `GET /metrics`: the node in the text format of Prometheus, on the API's own listeners or on one for this alone.
//!
//! Nothing is counted here: it is put together when somebody asks, from what the store, its writer, the scheduler and the
//! host know anyway. What would take long, how much of the store's file is in use, is measured beside it, and shown as it was
//! when it was last measured. It shows all tenants, so it is not for whoever may see but one.

mod jobs;
mod names;
mod node;
mod text;

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get as get_route;
use runner_store::job::Millis;

use self::names::Names;
use self::text::Page;
use super::App;
use super::error::Problem;
use super::params::Params;
use crate::scheduler::rest::Figures;
use crate::scheduler::tally::Tally;

/// How much of the file is in use is measured this often, at most: that reads every page of keys.
const MEASURED_EVERY: Millis = Millis::secs(60);
/// And so that it takes a hundredth of the time, at most, however large the store is.
const MEASURED_SHARE: u64 = 100;

/// What the page remembers from one time to the next.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Held while a page is made: more at a time would only be slower.
    turn: tokio::sync::Mutex<()>,
    measured: Mutex<Measuring>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Measuring {
    last: Option<Measured>,
    /// Whether it is being measured now.
    goes_on: bool,
}

/// The store's file, as it was when it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Measured {
    live_bytes: u64,
    free_bytes: u64,
    disk_free_bytes: u64,
    at: Millis,
    took: Millis,
}

/// The page alone, for a listener of its own.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get_route(get))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "no_route", "there is only /metrics here") })
        .with_state(app)
}

/// `GET /metrics`: those of all tenants.
pub async fn get(State(app): State<Arc<App>>, params: Params) -> Result<Response, Problem> {
    params.finish()?;
    let _turn = app.metrics.turn.lock().await;
    let (tally, figures) = match &app.starter {
        Some(starter) => (starter.tally().await, starter.figures().await),
        None => (None, None),
    };
    measure(&app);
    let rendered = Arc::clone(&app);
    let text = tokio::task::spawn_blocking(move || page(&rendered, tally.as_ref(), figures.as_ref())).await;
    let failed = |error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("a bug: {error}"));
    let text = text.map_err(failed)??;
    Ok(([(header::CONTENT_TYPE, text::CONTENT_TYPE)], text).into_response())
}

fn page(app: &App, tally: Option<&Tally>, figures: Option<&Figures>) -> Result<String, Problem> {
    let view = app.store.snapshot()?;
    let compiling = app.plugins.merger().map(|merger| merger.host.compile_figures());
    let measured = app.metrics.measuring().last;
    app.plugins.with_registry(|registry| {
        let names = Names::new(&app.store, registry, view.as_ref())?;
        let mut page = Page::default();
        page.gauge("runner_build_info", "1, with what was built.").sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        jobs::stored(&mut page, &names, view.as_ref(), app.clock.now())?;
        jobs::written(&mut page, &names, &app.store.figures(), app.store.queued());
        if let Some(tally) = tally {
            jobs::ran(&mut page, &names, tally);
        }
        if let Some(figures) = figures {
            node::in_hand(&mut page, figures);
        }
        node::plugins(&mut page, registry, compiling);
        node::store(&mut page, &app.store, app.files.file_bytes(), measured);
        node::refused(&mut page);
        Ok(page.into_text())
    })
}

/// Lets the store's file be measured, if that is due: whoever asks the next time sees it.
fn measure(app: &Arc<App>) {
    let mut measuring = app.metrics.measuring();
    let due = measuring.last.is_none_or(|Measured { at, took, .. }| {
        let pause = took.0.saturating_mul(MEASURED_SHARE).max(MEASURED_EVERY.0);
        app.clock.uptime().0.saturating_sub(at.0) >= pause
    });
    if !due || std::mem::replace(&mut measuring.goes_on, true) {
        return;
    }
    drop(measuring);
    let app = Arc::clone(app);
    // It ends with the runtime, if not before.
    tokio::spawn(async move {
        let began = app.clock.uptime();
        let measured = app.files.measure().await;
        let at = app.clock.uptime();
        let mut measuring = app.metrics.measuring();
        measuring.goes_on = false;
        if let Some(stats) = measured {
            measuring.last = Some(Measured {
                live_bytes: stats.file.live_bytes(),
                free_bytes: stats.free_bytes,
                disk_free_bytes: stats.disk.free_bytes,
                at,
                took: Millis(at.0.saturating_sub(began.0)),
            });
        }
    });
}

impl Metrics {
    fn measuring(&self) -> std::sync::MutexGuard<'_, Measuring> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
