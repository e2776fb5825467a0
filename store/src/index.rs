//! Which index entries a job has: pure, and the only place that knows. An engine keeps the entries of what it stores
//! equal to these; `check` recomputes them.

use crate::command::{CountKey, Lane};
use crate::engine::Wait;
use crate::job::{
    Dependency, Job, JobId, JobKey, JobRef, KeyHash, KindId, Priority, QueueId, QueueOrder, Reason, State, StateName,
    TenantId, Time,
};

/// The index entries of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Its place in its lane, while it is available.
    pub lane: Option<LaneKey>,
    /// When it becomes due, while it waits for a time.
    pub due: Option<DueKey>,
    /// Its place in lists.
    pub list: ListKey,
    /// When it expires, while it has not begun to run.
    pub expiry: Option<ExpiryKey>,
    /// When it ended, if it has.
    pub ended: Option<EndKey>,
    /// What it waits for, names, or was cancelled because of.
    pub waits: Vec<WaitKey>,
    /// Its tags.
    pub tags: Vec<TagKey>,
    /// Its place among the unfinished jobs of the schedule that made it.
    pub scheduled: Option<ScheduledKey>,
    /// Its place among the jobs of its key that have begun and not ended.
    pub begun: Option<BegunKey>,
}

/// A key of a kind: what limits and an order by key are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyOf {
    /// Whose.
    pub tenant: TenantId,
    /// Of which kind.
    pub kind: KindId,
    /// Which.
    pub key: KeyHash,
}

/// A place among the jobs of a key that have begun and not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BegunKey {
    /// The key.
    pub of: KeyOf,
    /// The job.
    pub id: JobId,
}

/// A place among the unfinished jobs of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduledKey {
    /// Whose.
    pub tenant: TenantId,
    /// A hash of the schedule's name; rows of the same hash are told apart by the names in them.
    pub hash: u64,
    /// The job.
    pub id: JobId,
}

/// A place among everything that expires, of all tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExpiryKey {
    /// When.
    pub at: Time,
    /// Which job.
    pub id: JobId,
    /// Whose.
    pub tenant: TenantId,
}

/// A place among a tenant's finished jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndKey {
    /// Whose.
    pub tenant: TenantId,
    /// How it ended.
    pub state: StateName,
    /// When.
    pub at: Time,
    /// Which job.
    pub id: JobId,
}

/// An edge, from the job that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitKey {
    /// Whose.
    pub tenant: TenantId,
    /// The job that is waited for.
    pub on: JobId,
    /// Whether it still is.
    pub wait: Wait,
    /// The job that waits.
    pub id: JobId,
}

/// A place among the jobs with a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagKey {
    /// Whose.
    pub tenant: TenantId,
    /// A hash of the tag's key and value; rows of the same hash are told apart by their tags.
    pub hash: u64,
    /// The job.
    pub id: JobId,
}

/// A place in a lane: jobs of a lane are claimed in this order. Ties never float, the id decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneKey {
    /// The lane.
    pub lane: Lane,
    /// The place within it.
    pub order: Order,
}

/// The order of available jobs. Of one queue, all have the same kind of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// Priority and `run_at`, most significant first as the order of the queue says, as bytes that sort.
    pub place: [u8; 10],
    /// Then what was enqueued earlier.
    pub id: JobId,
}

impl Order {
    /// The place of a job in a queue of that order.
    #[must_use]
    pub fn new(order: QueueOrder, priority: Priority, run_at: Time, id: JobId) -> Self {
        // −32768 first: the sign bit flipped.
        let steps = priority.0.cast_unsigned() ^ 0x8000;
        let priority = steps.to_be_bytes();
        let run_at = match order {
            QueueOrder::Aged(age) => run_at.0 + u64::from(steps) * age.0,
            QueueOrder::Priority | QueueOrder::RunAt => run_at.0,
        };
        let run_at = run_at.to_be_bytes();
        let mut place = [0; 10];
        match order {
            QueueOrder::Priority => {
                place[..2].copy_from_slice(&priority);
                place[2..].copy_from_slice(&run_at);
            }
            QueueOrder::RunAt | QueueOrder::Aged(_) => {
                place[..8].copy_from_slice(&run_at);
                place[8..].copy_from_slice(&priority);
            }
        }
        Self { place, id }
    }

    /// The priority and `run_at` of a place in a queue of that order.
    #[must_use]
    pub fn parts(&self, order: QueueOrder) -> (Priority, Time) {
        let [a, b, c, d, e, f, g, h, i, j] = self.place;
        let (priority, run_at) = match order {
            QueueOrder::Priority => ([a, b], [c, d, e, f, g, h, i, j]),
            QueueOrder::RunAt | QueueOrder::Aged(_) => ([i, j], [a, b, c, d, e, f, g, h]),
        };
        let steps = u16::from_be_bytes(priority);
        let later = match order {
            QueueOrder::Aged(age) => u64::from(steps) * age.0,
            QueueOrder::Priority | QueueOrder::RunAt => 0,
        };
        // The subtraction takes off what was added above: of another order's place, which is none, nothing is promised.
        let run_at = u64::from_be_bytes(run_at).saturating_sub(later);
        (Priority((steps ^ 0x8000).cast_signed()), Time(run_at))
    }
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
    let waits = matches!(job.state, State::Scheduled | State::Retryable)
        && !(cfg!(planted = "forget_due_index") && job.state == State::Retryable);
    Keys {
        lane: (job.state == State::Available || cfg!(planted = "claim_twice") && job.lease().is_some())
            .then(|| LaneKey { lane: lane(job), order: order(job) }),
        due: waits.then_some(DueKey { run_at: job.run_at, id: job.id, tenant: job.tenant }),
        list: list(job),
        expiry: expiry(job),
        ended: job.finalized_at().map(|at| EndKey { tenant: job.tenant, state: job.state.name(), at, id: job.id }),
        waits: job.dependencies.iter().filter_map(|edge| wait(job, edge)).collect(),
        tags: job.tags.iter().map(|(key, value)| TagKey::new(job.at(), key, value)).collect(),
        scheduled: scheduled(job),
        begun: key_of(job).filter(|_| job.has_begun()).map(|of| BegunKey { of, id: job.id }),
    }
}

/// Where `job` stands in lists.
#[must_use]
pub fn list(job: &Job) -> ListKey {
    ListKey { tenant: job.tenant, state: job.state.name(), queue: job.queue, kind: job.kind, id: job.id }
}

/// The key of `job`.
#[must_use]
pub fn key_of(job: &Job) -> Option<KeyOf> {
    let key = job.key.as_ref()?.hash();
    Some(KeyOf { tenant: job.tenant, kind: job.kind, key })
}

fn expiry(job: &Job) -> Option<ExpiryKey> {
    let waits = matches!(job.state, State::Held | State::Blocked | State::Scheduled | State::Available);
    let at = job.expires_at.filter(|_| waits && !job.started)?;
    Some(ExpiryKey { at, id: job.id, tenant: job.tenant })
}

fn scheduled(job: &Job) -> Option<ScheduledKey> {
    let of = job.schedule.as_ref().filter(|_| !job.state.name().is_final())?;
    Some(ScheduledKey::new(job.at(), &of.name))
}

fn wait(job: &Job, edge: &Dependency) -> Option<WaitKey> {
    let wait = match &job.state {
        State::Held | State::Blocked if edge.settled.is_none() => Wait::Waiting,
        State::Cancelled { reason: Reason::Dependency { job: on, .. }, .. } if *on == edge.job => Wait::EndedBy,
        state if state.name().is_final() => return None,
        _ => Wait::Named,
    };
    Some(WaitKey { tenant: job.tenant, on: edge.job, wait, id: job.id })
}

impl TagKey {
    /// The entry of a job for one of its tags.
    #[must_use]
    pub fn new(at: JobRef, key: &str, value: &str) -> Self {
        let mut bytes = Vec::with_capacity(key.len() + value.len() + 1);
        bytes.extend_from_slice(key.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(value.as_bytes());
        Self { tenant: at.tenant, hash: xxhash_rust::xxh3::xxh3_64(&bytes), id: at.job }
    }
}

impl ScheduledKey {
    /// The entry of an unfinished job of a schedule.
    #[must_use]
    pub fn new(at: JobRef, name: &str) -> Self {
        Self { tenant: at.tenant, hash: xxhash_rust::xxh3::xxh3_64(name.as_bytes()), id: at.job }
    }
}

impl ExpiryKey {
    /// The job that expires.
    #[must_use]
    pub fn at(&self) -> JobRef {
        JobRef { tenant: self.tenant, job: self.id }
    }
}

impl EndKey {
    /// The job that has ended.
    #[must_use]
    pub fn at(&self) -> JobRef {
        JobRef { tenant: self.tenant, job: self.id }
    }
}

/// The lane in which `job` stands when it is available. Jobs with a key stand in lanes of their own, by key; and among
/// those, the ones that have begun, so that they are found first.
#[must_use]
pub fn lane(job: &Job) -> Lane {
    let key = job.key.as_ref().map_or(KeyHash::NONE, JobKey::hash);
    Lane { key, again: !key.is_none() && job.started, ..lane_of_all_keys(job) }
}

fn lane_of_all_keys(job: &Job) -> Lane {
    let suspect = job.is_suspect();
    Lane { tenant: job.tenant, queue: job.queue, kind: job.kind, suspect, key: KeyHash::NONE, again: false }
}

/// The place of `job` in its lane.
#[must_use]
pub fn order(job: &Job) -> Order {
    Order::new(job.order, job.priority, job.run_at, job.id)
}

/// Where in a lane those begin that come behind the priority of this place, of which the first has waited longest among its
/// own; none: nothing behind this place has waited longer. Where priorities are mixed, the next place.
#[must_use]
pub fn behind_priority(by: QueueOrder, place: Order) -> Option<Order> {
    match by {
        QueueOrder::RunAt => None,
        QueueOrder::Priority => {
            let next = Priority(place.parts(by).0.0.checked_add(1)?);
            Some(Order::new(by, next, Time(0), JobId(0)))
        }
        QueueOrder::Aged(_) => Some(Order { place: place.place, id: JobId(place.id.0.checked_add(1)?) }),
    }
}

/// What `job` counts as. Keys are not told apart: there may be as many as jobs.
#[must_use]
pub fn count(job: &Job) -> CountKey {
    CountKey { lane: lane_of_all_keys(job), state: job.state.name() }
}

/// The same for whoever starts jobs: those that are available by the lanes that they stand in.
#[must_use]
pub fn count_by_lane(job: &Job) -> CountKey {
    let lane = if job.state == State::Available { lane(job) } else { lane_of_all_keys(job) };
    CountKey { lane, state: job.state.name() }
}
