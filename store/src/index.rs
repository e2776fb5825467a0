//! Which index entries a job has: pure, and the only place that knows. An engine keeps the entries of what it stores
//! equal to these; `check` recomputes them.

use crate::command::{CountKey, Lane};
use crate::job::{Job, JobId, JobRef, KindId, Priority, QueueId, State, StateName, TenantId, Time};

/// The index entries of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Its place in its lane, while it is available.
    pub lane: Option<LaneKey>,
    /// When it becomes due, while it waits for a time.
    pub due: Option<DueKey>,
    /// Its place in lists.
    pub list: ListKey,
}

/// A place in a lane: jobs of a lane are claimed in this order. Ties never float, the id decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey {
    /// The lane.
    pub lane: Lane,
    /// The place within it.
    pub order: Order,
}

/// The order of available jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// Lower first,
    pub priority: Priority,
    /// then what might have run earlier,
    pub run_at: Time,
    /// then what was enqueued earlier.
    pub id: JobId,
}

/// A place among everything that waits for a time, of all tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DueKey {
    /// When.
    pub run_at: Time,
    /// Which job.
    pub id: JobId,
    /// Whose.
    pub tenant: TenantId,
}

/// A place in a tenant's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListKey {
    /// Whose.
    pub tenant: TenantId,
    /// The job's state.
    pub state: StateName,
    /// Its queue.
    pub queue: QueueId,
    /// Its kind.
    pub kind: KindId,
    /// The job.
    pub id: JobId,
}

impl DueKey {
    /// The job that is due.
    #[must_use]
    pub fn at(&self) -> JobRef {
        JobRef { tenant: self.tenant, job: self.id }
    }
}

/// The index entries of `job`.
#[must_use]
pub fn keys(job: &Job) -> Keys {
    let waits = matches!(job.state, State::Scheduled | State::Retryable);
    Keys {
        lane: (job.state == State::Available).then(|| LaneKey { lane: lane(job), order: order(job) }),
        due: waits.then_some(DueKey { run_at: job.run_at, id: job.id, tenant: job.tenant }),
        list: ListKey { tenant: job.tenant, state: job.state.name(), queue: job.queue, kind: job.kind, id: job.id },
    }
}

/// The lane in which `job` stands when it is available.
#[must_use]
pub fn lane(job: &Job) -> Lane {
    Lane { tenant: job.tenant, queue: job.queue, kind: job.kind, suspect: job.is_suspect() }
}

/// The place of `job` in its lane.
#[must_use]
pub fn order(job: &Job) -> Order {
    Order { priority: job.priority, run_at: job.run_at, id: job.id }
}

/// What `job` counts as.
#[must_use]
pub fn count(job: &Job) -> CountKey {
    CountKey { lane: lane(job), state: job.state.name() }
}
