//! Runs as OpenTelemetry traces: a span each, sent by OTLP over HTTP where an endpoint is configured, and nowhere else.
//!
//! A span belongs to the trace of whoever enqueued the job, if its `traceparent` says so; else it begins one. Sending never
//! holds up a run: what does not fit into the queue is dropped and counted, and so is what the receiver does not take. The
//! variables are OpenTelemetry's own (`OTEL_EXPORTER_OTLP_ENDPOINT` and others). It keeps no metrics and no logs.

mod context;
mod encode;
mod send;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use self::context::{Context, traceparent_problem};
pub use self::send::{Endpoint, EndpointError};

/// The tag of a job that has the context of whoever enqueued it, and the field of a call that says it.
pub const TRACEPARENT: &str = "traceparent";

/// Spans that wait to be sent; more are dropped. What the fastest handlers end in a tenth of a second.
const WAITING_MAX: usize = 4_096;
/// Spans of one request.
const BATCH_MAX: usize = 512;
/// How long a span waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How long what waits may take to be sent at the end.
const LAST_WITHIN: Duration = Duration::from_secs(3);

/// One run, as a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The span itself.
    pub own: Context,
    /// The enqueuer's, if it said one.
    pub parent: Option<Context>,
    /// What is shown of it.
    pub name: String,
    /// Nanoseconds since 1970.
    pub began: u64,
    /// Likewise.
    pub ended: u64,
    /// What is to be known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
}

/// Takes spans. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Traces {
    spans: mpsc::Sender<Span>,
    dropped: Arc<AtomicU64>,
}

/// What sends them; to be ended when no run is left.
#[derive(Debug)]
pub struct Exporter {
    task: JoinHandle<()>,
}

impl Traces {
    /// Begins to send to this endpoint, on the runtime of whoever calls.
    #[must_use]
    pub fn start(endpoint: Endpoint) -> (Self, Exporter) {
        let (spans, queue) = mpsc::channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(export(endpoint, queue, Arc::clone(&dropped)));
        (Self { spans, dropped }, Exporter { task })
    }

    /// Takes a span, or drops it: it never waits.
    pub fn add(&self, span: Span) {
        if !span.own.sampled {
            // Whoever enqueued it has decided that its trace is not kept.
            return;
        }
        if self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Exporter {
    /// Sends what waits, within a bound; every [`Traces`] must be gone.
    pub async fn end(mut self) {
        if tokio::time::timeout(LAST_WITHIN, &mut self.task).await.is_err() {
            tracing::warn!("the last traces were not sent in time");
            self.task.abort();
        }
    }
}

async fn export(endpoint: Endpoint, mut queue: mpsc::Receiver<Span>, dropped: Arc<AtomicU64>) {
    let sender = send::Sender::new(endpoint);
    let mut told = false;
    while let Some(first) = queue.recv().await {
        let mut batch = vec![first];
        let more = async {
            while batch.len() < BATCH_MAX {
                let Some(span) = queue.recv().await else { return };
                batch.push(span);
            }
        };
        // Full, over, or there will be no more: in each case what is there is sent.
        _ = tokio::time::timeout(LINGER, more).await;
        let body = encode::request(sender.service(), &batch);
        match sender.send(body).await {
            Ok(()) => told = false,
            Err(error) => {
                dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
                // Once, until it works again: a receiver that is away for an hour is one line.
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, endpoint = sender.shown(), "traces are not taken, and dropped until they are");
                }
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::debug!(spans = lost, "traces were dropped");
        }
    }
}
