//! What is told of a run beside its record: lines of the process's own log, and a span of its trace.
//!
//! The trace goes with the job: its `traceparent` is kept as a tag of that name, and what the run enqueues gets it, too, with
//! the run's own span as parent where spans are sent.

use runner_store::job::{Job, JobSpec, Time, limits};
use tracing::Span as LogSpan;

use super::Work;
use crate::traces::{Context, Span, TRACEPARENT, Value};
use crate::wasm::RunReport;

/// What the log has of a run while it goes on; nothing unless `debug` is asked for.
pub(super) fn log_span(work: &Work, kind: &str) -> LogSpan {
    // Names are looked up only where somebody listens.
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return LogSpan::none();
    }
    let job = &work.members[0].job;
    let store = &work.parts.store;
    let (tenant, queue) = (store.tenant_name(job.tenant), store.queue_name(job.queue));
    let outcome = tracing::field::Empty;
    tracing::debug_span!("run", job = job.id.0, run = job.run.0, kind, tenant = &*tenant, queue = &*queue, outcome)
}

/// The words of the process's own log about a run that has ended.
pub(super) fn say(work: &Work, kind: &str, report: &RunReport) {
    let outcome = report.outcome.name().as_str();
    let Some(error) = report.outcome.error() else {
        tracing::debug!(wall = ?report.wall, "run ended");
        return;
    };
    let (job, store) = (&work.members[0].job, &work.parts.store);
    let (tenant, queue) = (store.tenant_name(job.tenant), store.queue_name(job.queue));
    let (job, run) = (job.id.0, job.run.0);
    tracing::info!(
        job,
        run,
        kind,
        tenant = &*tenant,
        queue = &*queue,
        outcome,
        error,
        wall = ?report.wall,
        "run ended"
    );
}

/// The context that a job came with, if it did.
pub(super) fn context_of(job: &Job) -> Option<Context> {
    let (_, text) = job.tags.iter().find(|(key, _)| key == TRACEPARENT)?;
    Context::read(text)
}

/// Lets a job that a run enqueues belong to the run's trace, unless it says another one.
pub(super) fn inherit(spec: &mut JobSpec, context: Option<&Context>) {
    let Some(context) = context else { return };
    let says = spec.tags.iter().any(|(key, _)| key == TRACEPARENT);
    if !says && spec.tags.len() < limits::TAGS_MAX {
        spec.tags.push((TRACEPARENT.to_owned(), context.to_string()));
    }
}

/// The call as a span, under the context that its first job came with.
pub(super) fn span(work: &Work, kind: &str, report: &RunReport, own: Context, began: Time) -> Span {
    let (job, store) = (&work.members[0].job, &work.parts.store);
    let text = |text: &str| Value::Text(text.to_owned());
    let number = |n: u64| Value::Number(i64::try_from(n).unwrap_or(i64::MAX));
    let began_ns = began.0.saturating_mul(1_000_000);
    let took_ns = u64::try_from(report.wall.as_nanos()).unwrap_or(u64::MAX);
    Span {
        own,
        parent: context_of(job),
        name: format!("run {kind}"),
        began: began_ns,
        ended: began_ns.saturating_add(took_ns),
        attributes: vec![
            ("runner.job", text(&job.id.to_string())),
            ("runner.run", number(u64::from(job.run.0))),
            ("runner.kind", text(kind)),
            ("runner.tenant", text(&store.tenant_name(job.tenant))),
            ("runner.queue", text(&store.queue_name(job.queue))),
            ("runner.outcome", text(report.outcome.name().as_str())),
            ("runner.fuel", number(report.fuel_used)),
            ("runner.jobs", number(work.members.len() as u64)),
        ],
        error: report.outcome.error().map(|error| error.to_string()),
    }
}
