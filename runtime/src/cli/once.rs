//! `runner serve --once`: the end of a node that has nothing left to do, and what it leaves.
//!
//! It ends when no job runs, none is available that this node could start, none becomes so within the horizon, and whoever
//! is to be told of what happened has been. What nobody here can start does not keep it: jobs on hold, jobs whose kind no
//! plugin provides, jobs that are too large for the node, jobs of queues and kinds that are paused, and jobs that wait for a
//! token, or for their tenant's fuel, for longer than the horizon.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Answer, CountKey, JobsQuery, Query};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::job::{JobRef, Millis, StateName, Time};

use super::exit::Failure;
use super::output::{Table, print};
use crate::api::plugins::Plugins;
use crate::api::time::rfc3339;
use crate::scheduler::starter::{Reason, Starter};
use crate::wasm::Catalog;

/// Events come by the thousand: it looks again at most so often.
const LOOKS_APART: Duration = Duration::from_millis(100);
/// What is not told by an event, such as a plugin that is loaded, is seen after this at the latest.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Reasons for which an available job does not start here by itself, however long one waits, unless they say until when: the
/// configuration or an operator says so.
const FOR_EVER: [&str; 4] = ["too_large", "queue_paused", "kind_paused", "no_worker"];

/// What decides whether anything is left to do.
pub(super) struct Once {
    pub(super) store: Handle,
    pub(super) plugins: Plugins,
    pub(super) catalog: Arc<Catalog>,
    pub(super) starter: Starter,
    /// How far ahead a job's time may be that is waited for.
    pub(super) horizon: Duration,
}

/// Jobs that are left, of one tenant, kind and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Left {
    tenant: String,
    kind: String,
    state: StateName,
    jobs: u64,
    why: String,
}

/// Ends when nothing is left to do; never where that is not asked.
pub(super) async fn spent(once: Option<&Once>) -> Result<Vec<Left>, Failure> {
    match once {
        Some(once) => Ok(once.spent().await?),
        None => std::future::pending().await,
    }
}

impl Once {
    /// Ends when nothing is left to do; answers what is left.
    async fn spent(&self) -> Result<Vec<Left>, StoreError> {
        let mut log = self.store.board().log();
        loop {
            log.mark_unchanged();
            if let Some(left) = self.look().await? {
                return Ok(left);
            }
            tokio::time::sleep(LOOKS_APART).await;
            // A store that is gone is another's to notice.
            _ = tokio::time::timeout(LOOK_EVERY, log.changed()).await;
        }
    }

    /// What is left; none: something is to be waited for.
    async fn look(&self) -> Result<Option<Vec<Left>>, StoreError> {
        let seen = See::now(&self.store, self.horizon)?;
        if seen.goes_on {
            return Ok(None);
        }
        let mut left = Vec::new();
        for (key, jobs) in seen.counts {
            let why = match key.state {
                StateName::Available if seen.paused => "the store was restored: `runner queue resume --all`".to_owned(),
                StateName::Available => match self.why_not(&key).await? {
                    Some(why) => why,
                    None => return Ok(None),
                },
                StateName::Held => "on hold until it is released".to_owned(),
                StateName::Blocked => "waits for other jobs".to_owned(),
                StateName::Scheduled | StateName::Retryable => {
                    seen.next_due.map_or_else(String::new, |at| format!("due at {} or later", rfc3339(at)))
                }
                StateName::Running | StateName::Completed | StateName::Discarded | StateName::Cancelled => continue,
            };
            let lane = key.lane;
            let (tenant, kind) = (self.store.tenant_name(lane.tenant), self.store.kind_name(lane.kind));
            left.push(Left { tenant: tenant.to_string(), kind: kind.to_string(), state: key.state, jobs, why });
        }
        Ok(Some(left))
    }

    /// Why available jobs never start here; none: they do, or may.
    async fn why_not(&self, key: &CountKey) -> Result<Option<String>, StoreError> {
        let (tenant, kind) = (self.store.tenant_name(key.lane.tenant), self.store.kind_name(key.lane.kind));
        if let Some(unserved) = self.plugins.unserved(&tenant, &kind) {
            // What is still being compiled may provide it.
            return Ok(self.catalog.now().loading.is_empty().then(|| unserved.to_string()));
        }
        let Some(job) = self.one_of(key)? else { return Ok(None) };
        let reasons = self.starter.why(job).await;
        let horizon = Clock::System.now().after(millis(self.horizon));
        let too_long = |reason: &Reason| match reason.passes_at {
            // Of one key; those of others may start.
            Some(_) if reason.code.starts_with("key_") => false,
            Some(at) => at > horizon,
            None => FOR_EVER.contains(&reason.code),
        };
        Ok(reasons.into_iter().find(too_long).map(|reason| reason.detail))
    }

    /// One of the jobs that are counted so: all of a lane wait for the same.
    fn one_of(&self, key: &CountKey) -> Result<Option<JobRef>, StoreError> {
        let (tenant, queue, kind) = (key.lane.tenant, Some(key.lane.queue), Some(key.lane.kind));
        let query = JobsQuery { state: Some(key.state), queue, kind, ..JobsQuery::all(tenant, 1) };
        match self.store.snapshot()?.read(&Query::Jobs(query))? {
            Answer::Jobs(page) => Ok(page.jobs.first().map(|job| job.at())),
            _ => unreachable!("jobs are answered with jobs"),
        }
    }
}

/// The store at one moment.
struct See {
    /// Whether something goes on by itself, now or within the horizon.
    goes_on: bool,
    paused: bool,
    counts: Vec<(CountKey, u64)>,
    next_due: Option<Time>,
}

impl See {
    fn now(store: &Handle, horizon: Duration) -> Result<Self, StoreError> {
        let view = store.snapshot()?;
        let (settling, paused) = match view.read(&Query::Stored)? {
            Answer::Stored(stored) => (stored.settling + stored.unheard > 0, stored.paused),
            _ => unreachable!("figures are answered with figures"),
        };
        let counts = match view.read(&Query::Counts)? {
            Answer::Counts(counts) => counts,
            _ => unreachable!("counts are answered with counts"),
        };
        let next_due = next_due(view.as_ref())?;
        let runs = counts.iter().any(|(key, _)| key.state == StateName::Running);
        let due = next_due.is_some_and(|at| at <= Clock::System.now().after(millis(horizon)));
        Ok(Self { goes_on: settling || runs || (due && !paused), paused, counts, next_due })
    }
}

fn millis(time: Duration) -> Millis {
    Millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

fn next_due(view: &dyn Snapshot) -> Result<Option<Time>, StoreError> {
    match view.read(&Query::NextDue)? {
        Answer::NextDue(next) => Ok(next),
        _ => unreachable!("a time is answered with a time"),
    }
}

/// Prints what is left: jobs of one kind and state in one line.
pub(super) fn print_left(left: &[Left]) {
    let mut sums: BTreeMap<(&str, &str, StateName, &str), u64> = BTreeMap::new();
    for Left { tenant, kind, state, jobs, why } in left {
        *sums.entry((tenant, kind, *state, why)).or_default() += jobs;
    }
    if sums.is_empty() {
        print("nothing is left to do\n");
        return;
    }
    print(&format!("{} jobs are left\n", sums.values().sum::<u64>()));
    let mut table = Table::new(&["tenant", "kind", "state", "jobs", "why"]);
    for ((tenant, kind, state, why), jobs) in sums {
        table.row([tenant.to_owned(), kind.to_owned(), state.to_string(), jobs.to_string(), why.to_owned()]);
    }
    table.print("");
}
