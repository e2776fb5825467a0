//! One run: take linked code, give it a store with all limits, call it, say how it ended.
//!
//! [`run`] always answers with a [`RunReport`]: whatever a guest does is an outcome. The wall clock is around
//! everything, instantiation included, and is looked at whenever the guest yields (every 2.5 M fuel or 1 ms of host
//! calls), so that it also holds on a machine whose timers are late. A call may have several jobs, if the plugin takes
//! them together. Nothing is recorded here, and nothing is tried again.

mod aside;
mod call;
mod enter;
mod evaluate;
mod layers;
mod merge;
mod outcome;
mod policy;
mod report;
mod request;
mod watch;

use std::sync::Arc;

use tokio::time::Instant;
use wasmtime::Engine;

pub(super) use self::call::rfc3339;
pub(super) use self::evaluate::evaluate;
pub use self::layers::AFTER_ENDED_TIME;
pub(super) use self::merge::merge;
pub use self::merge::{MERGE_FUEL, MERGE_TIME, MergeError};
use self::policy::Advisor;
pub(super) use self::policy::describe;
pub use self::policy::{ADVICE_FUEL, ADVICE_TIME, DESCRIBE_TIME};
pub use self::report::{Charge, JobEnd, NewJob, RunReport};
pub use self::request::{BatchJob, IdSource, JobView, ReadJob, RunRequest};
use super::egress::Egress;
use super::memory::InUse;
use super::plugin::Plugin;

/// What a host has for every run.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    pub(super) engine: &'a Engine,
    pub(super) egress: &'a Arc<Egress>,
    pub(super) memory: &'a Arc<InUse>,
}

/// Runs the jobs of one call. Cancel-safe: dropped, the guest is gone and nothing is left.
pub(super) async fn run(means: Means<'_>, plugin: &Plugin, request: RunRequest) -> RunReport {
    match Advisor::of(means, plugin) {
        None => timed(means, plugin, request).await,
        Some(advisor) => advised(means, plugin, request, advisor).await,
    }
}

/// A run of a plugin that has a policy.
async fn advised(means: Means<'_>, plugin: &Plugin, mut request: RunRequest, mut advisor: Advisor<'_>) -> RunReport {
    advisor.timeouts(&mut request).await;
    let others = request.others.iter().map(|other| &other.job);
    let jobs: Vec<JobView> = std::iter::once(&request.job).chain(others).cloned().collect();
    set_timeout(&mut request);
    let timeout = request.limits.timeout;
    let mut report = timed(means, plugin, request).await;
    advisor.next_retries(jobs, timeout, &mut report).await;
    report.charges.extend(advisor.charge());
    report
}

/// The run as far as its time-out reaches.
async fn timed(means: Means<'_>, plugin: &Plugin, mut request: RunRequest) -> RunReport {
    set_timeout(&mut request);
    let begun = Instant::now();
    if request.middleware.is_empty() {
        enter::enter(means, plugin, request, begun).await
    } else {
        layers::around(means, plugin, request, begun).await
    }
}

/// The longest that any job of the call states or has by default, within what the operator allows.
fn set_timeout(request: &mut RunRequest) {
    let usual = request.limits.timeout;
    let others = request.others.iter().map(|other| &other.job);
    let stated = others.chain([&request.job]).map(|job| job.timeout.unwrap_or(usual)).max().unwrap_or(usual);
    if stated != usual {
        request.limits.timeout = stated;
        request.limits = request.grants.tenant().clamp(&request.limits);
    }
}
