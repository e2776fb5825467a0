//! What a batch of commands does: pure, and the only caller of [`transition`].
//!
//! [`needs`] says what to read, [`decide`] what to answer and what to write. Commands of a batch see what the commands
//! before them did. A rejected command writes nothing, so that it never fails its neighbours.

mod claim;
mod enqueue;
mod finish;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use self::enqueue::Recent;
use crate::codec::Row;
use crate::command::{Command, Lane, Name, Reply, RunRecord, limits};
use crate::engine::{Change, KeyRecord, KeyRef, Needs, WorkingSet};
use crate::index::{self, Order};
use crate::job::{Edit, Event, EventName, Invalid, Job, JobId, JobRef, Rejection, State, Time, transition};
use crate::log::LogEntry;

/// What a batch does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The replies, in the order of the commands.
    pub replies: Vec<Reply>,
    /// What to write.
    pub changes: Vec<Change>,
    /// Lanes of which too few heads were read: what was read was taken away by the batch itself or had expired. With
    /// more of them (see [`read_on`]) the claims may get more.
    pub short: BTreeSet<Lane>,
}

/// What must be read before `commands` can be decided.
#[must_use]
pub fn needs(commands: &[Command]) -> Needs {
    let mut needs = Needs::default();
    for command in commands {
        match command {
            Command::Enqueue(call) => enqueue::needs(call, &mut needs),
            Command::Claim(call) => claim::needs(call, &mut needs),
            Command::Finish(call) => finish::needs(call, &mut needs),
            Command::EndBoots(call) => needs.dead = Some((call.living, limits::ENDED_RUNS_MAX)),
            Command::Due => needs.due = limits::DUE_JOBS_MAX,
            Command::HandBack(run) => _ = needs.jobs.insert(run.at),
            Command::Cancel { job, .. }
            | Command::Release(job)
            | Command::Retry(job)
            | Command::Edit { job, .. }
            | Command::Delete { job, .. } => _ = needs.jobs.insert(*job),
            Command::ReserveIds { .. } => {}
        }
    }
    needs
}

/// Asks for more heads of the lanes of which too few were read.
pub fn read_on(needs: &mut Needs, short: &BTreeSet<Lane>) {
    for lane in short {
        let wanted = needs.lanes.entry(*lane).or_default();
        *wanted = wanted.saturating_add(limits::CLAIM_RUNS_MAX).saturating_mul(2);
    }
}

/// Decides `commands`, in their order, on what was read for them.
#[must_use]
pub fn decide(commands: &[Command], set: &WorkingSet) -> Decision {
    let mut batch = Batch::new(set);
    batch.forget_keys();
    // What is due comes before anything else, so that no claim overlooks it.
    let due = batch.due();
    let replies = commands
        .iter()
        .map(|command| match command {
            Command::Due => Reply::Due { jobs: due },
            _ => batch.run(command),
        })
        .collect();
    let short = std::mem::take(&mut batch.short);
    Decision { replies, changes: batch.into_changes(), short }
}

/// A batch while it is decided: what was read, and over it what has changed so far.
struct Batch<'a> {
    set: &'a WorkingSet,
    now: Time,
    jobs: HashMap<JobRef, Option<Touched>>,
    touched: Vec<JobRef>,
    /// Jobs that this batch made available; lanes as read do not have them.
    fresh: BTreeMap<Lane, BTreeSet<Order>>,
    /// How many of the jobs that were read of a lane are behind us.
    passed: HashMap<Lane, usize>,
    short: BTreeSet<Lane>,
    names: HashMap<Name, u32>,
    /// The names of the job before: most lists have one kind and one queue.
    recent: Option<Recent>,
    keys: HashMap<KeyRef, KeyRecord>,
    next_job: JobId,
    next_name: u32,
    changes: Vec<Change>,
}

/// A job that the batch has changed, and its row: encoded once, for its event, for the next one, and for the table.
struct Touched {
    job: Arc<Job>,
    row: Arc<Row>,
}

impl<'a> Batch<'a> {
    fn new(set: &'a WorkingSet) -> Self {
        Self {
            set,
            now: set.now,
            jobs: HashMap::new(),
            touched: Vec::new(),
            fresh: BTreeMap::new(),
            passed: HashMap::new(),
            short: BTreeSet::new(),
            names: HashMap::new(),
            recent: None,
            keys: HashMap::new(),
            next_job: set.next_job,
            next_name: set.next_name,
            changes: Vec::new(),
        }
    }

    fn run(&mut self, command: &Command) -> Reply {
        let reply = match command {
            Command::Enqueue(call) => self.enqueue(call),
            Command::Claim(call) => Ok(self.claim(call)),
            Command::Finish(call) => self.finish(call),
            Command::HandBack(run) => self.hand_back(*run),
            Command::EndBoots(call) => Ok(self.end_boots(call)),
            Command::Due => unreachable!("answered before the others"),
            Command::Cancel { job, reason } => self.verb(*job, Event::CancelRequested { reason: reason.clone() }),
            Command::Release(job) => self.verb(*job, Event::Released),
            Command::Retry(job) => self.retry(*job),
            Command::Edit { job, edit } => self.edit(*job, edit),
            Command::Delete { job, force } => self.delete(*job, *force),
            Command::ReserveIds { n } => self.reserve_ids(*n),
        };
        reply.unwrap_or_else(Reply::Rejected)
    }

    /// The job as it is at this point of the batch.
    fn job(&self, at: JobRef) -> Option<&Arc<Job>> {
        match self.jobs.get(&at) {
            Some(changed) => changed.as_ref().map(|touched| &touched.job),
            None => self.set.jobs.get(&at),
        }
    }

    /// Lets `event` happen to a job: the only place where rows change.
    fn apply(&mut self, at: JobRef, event: &Event) -> Result<Option<Arc<Job>>, Rejection> {
        let before = self.job(at).cloned();
        let after = transition(before.as_deref(), event, self.now)?.map(Arc::new);
        let new_row = after.as_deref().map(|job| Arc::new(Row::of(job)));
        if let Some(name) = EventName::of(event, after.as_ref().map(|job| job.state.name())) {
            let old_row = match self.jobs.get(&at) {
                Some(changed) => changed.as_ref().map(|touched| Arc::clone(&touched.row)),
                None => before.as_deref().map(|job| Arc::new(Row::of(job))),
            };
            let (old, new) = (before.as_deref().zip(old_row.as_deref()), after.as_deref().zip(new_row.as_deref()));
            self.changes.push(Change::Event(LogEntry::new(self.now, name, old, new)));
        }
        if let Some(job) = &before
            && job.state == State::Available
            && let Some(fresh) = self.fresh.get_mut(&index::lane(job))
        {
            fresh.remove(&index::order(job));
        }
        if let Some(job) = &after
            && job.state == State::Available
        {
            self.fresh.entry(index::lane(job)).or_default().insert(index::order(job));
        }
        let touched = after.clone().zip(new_row).map(|(job, row)| Touched { job, row });
        if self.jobs.insert(at, touched).is_none() {
            self.touched.push(at);
        }
        Ok(after)
    }

    fn due(&mut self) -> u32 {
        let mut jobs = 0;
        for at in &self.set.due {
            // What the index names and the clock does not agree with stays as it is.
            if self.apply(*at, &Event::Due).is_ok() {
                jobs += 1;
            }
        }
        jobs
    }

    /// An operator's verb; what is so already is an answer, not an error.
    fn verb(&mut self, at: JobRef, event: Event) -> Result<Reply, Rejection> {
        match self.apply(at, &event) {
            Ok(Some(job)) => Ok(Reply::Job { job, changed: true }),
            Ok(None) => Ok(Reply::Deleted),
            Err(rejection @ Rejection::Already(_)) => match self.job(at) {
                Some(job) => Ok(Reply::Job { job: Arc::clone(job), changed: false }),
                None => Err(rejection),
            },
            Err(rejection) => Err(rejection),
        }
    }

    fn retry(&mut self, at: JobRef) -> Result<Reply, Rejection> {
        let reply = self.verb(at, Event::Retried)?;
        if matches!(reply, Reply::Job { changed: true, .. }) {
            self.changes.push(Change::Payload(at, crate::command::Part::Output, None));
        }
        Ok(reply)
    }

    fn delete(&mut self, at: JobRef, force: bool) -> Result<Reply, Rejection> {
        self.verb(at, Event::Deleted { force })
    }

    fn edit(&mut self, at: JobRef, edit: &Edit) -> Result<Reply, Rejection> {
        edit.check()?;
        self.verb(at, Event::Edited(edit.clone()))
    }

    fn reserve_ids(&mut self, n: u32) -> Result<Reply, Rejection> {
        if !(1..=limits::RESERVED_IDS_MAX).contains(&n) {
            let why = format!("must be 1 to {}", limits::RESERVED_IDS_MAX);
            return Err(Invalid { field: "n".to_owned(), why }.into());
        }
        let first = self.next_job;
        self.next_job = JobId(first.0 + u64::from(n));
        Ok(Reply::Reserved { first })
    }

    fn record_run(&mut self, at: JobRef, record: RunRecord) {
        self.changes.push(Change::Run(at, Box::new(record)));
    }

    fn into_changes(mut self) -> Vec<Change> {
        if self.next_job != self.set.next_job {
            self.changes.push(Change::NextJob(self.next_job));
        }
        // What the batch had written of jobs that it then removed must not outlive them.
        if self.jobs.values().any(Option::is_none) {
            let gone = |at: &JobRef| matches!(self.jobs.get(at), Some(None));
            self.changes.retain(|change| match change {
                Change::Payload(at, ..) | Change::Run(at, _) => !gone(at),
                _ => true,
            });
        }
        for at in &self.touched {
            let before = self.set.jobs.get(at).cloned();
            let (after, row) = self.jobs.remove(at).flatten().map(|touched| (touched.job, touched.row)).unzip();
            if before.is_some() || after.is_some() {
                self.changes.push(Change::Job { before, after, row });
            }
        }
        self.changes
    }
}
