//! What there is: jobs by state, what was enqueued, how long the oldest available one has waited, and what has run.

use std::collections::BTreeMap;
use std::sync::Arc;

use runner_store::command::{Answer, Query};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::figures::Figures;
use runner_store::job::{OutcomeName, StateName, Time};

use super::names::{Names, OTHER};
use super::text::{Page, Unit};
use crate::scheduler::tally::{Ran, Tally};

/// Tenant, queue, kind: as labels.
type Lane = (Arc<str>, Arc<str>, Arc<str>);

/// From the store's view: what there is now.
pub(super) fn stored(page: &mut Page, names: &Names<'_>, view: &dyn Snapshot, now: Time) -> Result<(), StoreError> {
    let Answer::Counts(counts) = view.read(&Query::Counts)? else { unreachable!("counts are answered with counts") };
    let mut sums: BTreeMap<(Lane, StateName), u64> = BTreeMap::new();
    for (key, jobs) in counts {
        let lane = key.lane;
        let labels = (names.tenant(lane.tenant), names.queue(lane.queue), names.kind(lane.tenant, lane.kind));
        *sums.entry((labels, key.state)).or_default() += jobs;
    }
    let mut family = page.gauge("runner_jobs", "Jobs, by state.");
    for (((tenant, queue, kind), state), jobs) in &sums {
        let labels: [(&str, &str); 4] =
            [("tenant", tenant), ("queue", queue), ("kind", kind), ("state", state.as_str())];
        family.sample(&labels, jobs);
    }
    let Answer::Oldest(oldest) = view.read(&Query::Oldest)? else { unreachable!("ages are answered with ages") };
    let mut ages: BTreeMap<(Arc<str>, Arc<str>), u64> = BTreeMap::new();
    for queue in oldest {
        let age = ages.entry((names.tenant(queue.tenant), names.queue(queue.queue))).or_default();
        *age = (*age).max(now.since(queue.since).0);
    }
    let mut family = page.gauge(
        "runner_queue_oldest_available_seconds",
        "How long the available job has been due that has waited longest. A queue without available jobs is not here.",
    );
    for ((tenant, queue), age) in &ages {
        family.scaled(&[("tenant", tenant), ("queue", queue)], *age, Unit::Millis);
    }
    Ok(())
}

/// From the store's writer.
pub(super) fn written(page: &mut Page, names: &Names<'_>, figures: &Figures, queued: usize) {
    let mut sums: BTreeMap<Lane, u64> = BTreeMap::new();
    for (lane, jobs) in &figures.enqueued {
        let labels = (names.tenant(lane.tenant), names.queue(lane.queue), names.kind(lane.tenant, lane.kind));
        *sums.entry(labels).or_default() += jobs;
    }
    if figures.enqueued_elsewhere > 0 {
        *sums.entry((Arc::from(OTHER), Arc::from(OTHER), Arc::from(OTHER))).or_default() += figures.enqueued_elsewhere;
    }
    let mut family = page.counter("runner_jobs_enqueued_total", "Jobs that were accepted since the start.");
    for ((tenant, queue, kind), jobs) in &sums {
        family.sample(&[("tenant", tenant), ("queue", queue), ("kind", kind)], jobs);
    }
    page.histogram("runner_writer_batch_commands", "Commands of callers in one transaction of the store.").ranges(
        &[],
        &figures.batch_commands,
        Unit::Whole,
    );
    page.histogram("runner_writer_commit_seconds", "From a transaction's first read until it was durable.").ranges(
        &[],
        &figures.commit_micros,
        Unit::Micros,
    );
    page.gauge("runner_writer_queue_commands", "Commands that wait for the store's writer.").sample(&[], queued);
}

/// From the node's scheduler.
pub(super) fn ran(page: &mut Page, names: &Names<'_>, tally: &Tally) {
    let mut lanes: BTreeMap<Lane, Ran> = BTreeMap::new();
    let mut kinds: BTreeMap<(Arc<str>, Arc<str>), Ran> = BTreeMap::new();
    for (of, ran) in tally.all() {
        let (tenant, kind) = (names.tenant(of.tenant), names.kind(of.tenant, of.kind));
        lanes.entry((Arc::clone(&tenant), names.queue(of.queue), Arc::clone(&kind))).or_default().add(ran);
        kinds.entry((tenant, kind)).or_default().add(ran);
    }
    let mut family = page.counter("runner_runs_started_total", "Runs that this node began since it started.");
    for ((tenant, queue, kind), ran) in &lanes {
        family.sample(&[("tenant", tenant), ("queue", queue), ("kind", kind)], ran.started);
    }
    let mut family = page.counter("runner_runs_finished_total", "Runs that ended on this node, by outcome.");
    for ((tenant, queue, kind), ran) in &lanes {
        for (outcome, runs) in OutcomeName::ALL.iter().zip(ran.finished).filter(|(_, runs)| *runs > 0) {
            let labels: [(&str, &str); 4] =
                [("tenant", tenant), ("queue", queue), ("kind", kind), ("outcome", outcome.as_str())];
            family.sample(&labels, runs);
        }
    }
    of_kinds(page, &kinds);
}

fn of_kinds(page: &mut Page, kinds: &BTreeMap<(Arc<str>, Arc<str>), Ran>) {
    fn labels((tenant, kind): &(Arc<str>, Arc<str>)) -> [(&str, &str); 2] {
        [("tenant", tenant), ("kind", kind)]
    }
    let mut family = page.histogram(
        "runner_run_wait_seconds",
        "From when a job was due (enqueued, or its run_at if that is later) until its handler was entered.",
    );
    kinds.iter().for_each(|(kind, ran)| family.ranges(&labels(kind), &ran.wait_ms, Unit::Millis));
    let mut family = page.histogram("runner_run_seconds", "How long calls of handlers took in their sandbox.");
    kinds.iter().for_each(|(kind, ran)| family.ranges(&labels(kind), &ran.run_micros, Unit::Micros));
    let mut family = page.counter("runner_run_fuel_total", "Fuel that handlers used.");
    kinds.iter().for_each(|(kind, ran)| family.sample(&labels(kind), ran.fuel));
    let mut family =
        page.gauge("runner_run_memory_peak_bytes", "The most memory that one run held at once since the start.");
    kinds.iter().for_each(|(kind, ran)| family.sample(&labels(kind), ran.memory_peak_bytes));
}
