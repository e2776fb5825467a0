//! What a batch of commands does: pure, and the only caller of [`transition`].
//!
//! [`needs`] says what to read, [`decide`] what to answer and what to write. Commands of a batch see what the commands
//! before them did. A rejected command writes nothing, so that it never fails its neighbours.

mod claim;
mod enqueue;
mod finish;
mod keys;
mod kv;
mod leases;
mod listen;
mod records;
mod room;
mod schedules;
mod settle;
mod staged;
mod sweep;
mod tokens;
mod unique;
mod verbs;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use self::enqueue::Recent;
pub use self::listen::needs_of_listeners;
pub use self::sweep::rows_to_sweep;
use crate::codec::Row;
use crate::command::{
    BulkVerb, Command, Lane, Name, NameClass, Reply, RunRecord, Scope, Settings, TenantSettings, Total, TotalKey,
    limits,
};
use crate::engine::{Change, KeyRecord, KeyRef, KvKey, Needs, Spread, UniqueRecord, Wait, WorkingSet};
use crate::index::{self, Order};
use crate::job::{
    Event, EventName, Job, JobId, JobRef, KindId, QueueId, QueueOrder, Rejection, RunNumber, State, TenantId, Time,
    Verdict, transition,
};
use crate::listening::{Heard, Listened};
use crate::log::LogEntry;
use crate::schedule::{Schedule, ScheduleRef};
use crate::token::{Token, TokenHash};

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
    /// Jobs whose args are to be merged and were not read, as they took their unique keys in this batch.
    pub unread: BTreeSet<JobRef>,
    /// Jobs that listen to an event and are not enqueued for it: too many in a row would have followed from each other.
    pub too_deep: u64,
}

/// What a batch may do, as the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conduct {
    /// Whether there is room on the disk for new jobs.
    pub accept: bool,
    /// Whether there is room on the disk for what runs leave.
    pub claim: bool,
    /// Whether the clock can be trusted with what cannot be undone: expiry, retention, forgetting.
    pub destroy: bool,
}

impl Default for Conduct {
    /// Everything.
    fn default() -> Self {
        Self { accept: true, claim: true, destroy: true }
    }
}

/// What must be read before `commands` can be decided.
#[must_use]
pub fn needs(commands: &[Command]) -> Needs {
    let mut needs = Needs::default();
    for command in commands {
        match command {
            Command::Enqueue(call) => enqueue::needs(call, &mut needs),
            Command::Claim(call) => claim::needs(call.max, &call.grants, &mut needs),
            Command::Lease(call) => claim::needs(call.max, &call.grants, &mut needs),
            Command::EndLeases(call) => leases::needs(call, &mut needs),
            Command::Finish(call) => finish::needs(call, &mut needs),
            Command::FinishCall(call) => finish::call_needs(call, &mut needs),
            Command::EndBoots(call) => {
                let living = if cfg!(planted = "rescue_by_id") { crate::job::BootId(u64::MAX) } else { call.living };
                needs.dead = Some((living, limits::ENDED_RUNS_MAX));
            }
            Command::Due => needs.due = limits::DUE_JOBS_MAX,
            Command::HandBack(run) | Command::Checkpoint { run, .. } => _ = needs.jobs.insert(run.at),
            Command::Retry { job, .. } => {
                needs.jobs.insert(*job);
                needs.orders = true;
            }
            Command::Cancel { job, .. }
            | Command::Release(job)
            | Command::Edit { job, .. }
            | Command::Start { job, .. }
            | Command::Delete { job, .. } => _ = needs.jobs.insert(*job),
            Command::Revive { job, after } => {
                needs.jobs.insert(*job);
                needs.ended_by.insert((*job, *after), limits::SETTLED_JOBS_MAX);
                needs.orders = true;
            }
            Command::Bulk(call) => {
                needs.pages.push(verbs::page(call));
                needs.orders |= call.verb == BulkVerb::Retry;
            }
            Command::Settle => needs.settling = limits::SETTLED_JOBS_MAX,
            Command::Listen => needs.heard = limits::LISTENERS_MAX,
            Command::Sweep(call) => sweep::needs(*call, &mut needs),
            Command::Set(settings) => verbs::need_settings(settings, &mut needs),
            Command::Name(name) => _ = needs.names.insert(name.clone()),
            Command::Schedule(call) => schedules::needs(call, &mut needs),
            Command::Fire(call) => schedules::fire_needs(call, &mut needs),
            Command::Token(call) => _ = needs.tokens.insert(call.hash),
            Command::ReserveIds { .. } | Command::Resume | Command::Subscribe(_) => {}
        }
    }
    needs
}

/// Asks for what a decision lacked: more heads of the lanes of which too few were read, and args. Whether it lacked any.
pub fn read_on(needs: &mut Needs, decision: &Decision) -> bool {
    needs.args.extend(&decision.unread);
    for lane in &decision.short {
        let wanted = needs.lanes.entry(*lane).or_default();
        *wanted = wanted.saturating_add(limits::CLAIM_RUNS_MAX).saturating_mul(2);
    }
    !decision.short.is_empty() || !decision.unread.is_empty()
}

/// Decides `commands`, in their order, on what was read for them.
#[must_use]
pub fn decide(commands: &[Command], set: &WorkingSet, conduct: Conduct) -> Decision {
    let mut batch = Batch::new(set, conduct);
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
    let (short, unread) = (std::mem::take(&mut batch.short), std::mem::take(&mut batch.unread));
    let too_deep = batch.too_deep;
    Decision { replies, changes: batch.into_changes(), short, unread, too_deep }
}

/// A batch while it is decided: what was read, and over it what has changed so far.
struct Batch<'a> {
    set: &'a WorkingSet,
    conduct: Conduct,
    now: Time,
    jobs: HashMap<JobRef, Option<Touched>>,
    touched: Vec<JobRef>,
    /// Jobs that this batch made available; lanes as read do not have them.
    fresh: BTreeMap<Lane, BTreeSet<Order>>,
    /// How many of the jobs that were read of a lane are behind us.
    passed: HashMap<Lane, usize>,
    short: BTreeSet<Lane>,
    unread: BTreeSet<JobRef>,
    names: HashMap<Name, u32>,
    /// How many of these each tenant got.
    newly_in_use: HashMap<(TenantId, NameClass), u32>,
    /// The names of the job before: most lists have one kind and one queue.
    recent: Option<Recent>,
    keys: HashMap<KeyRef, KeyRecord>,
    uniques: HashMap<KeyRef, Option<UniqueRecord>>,
    /// Args that this batch gave to jobs with a unique key: a merge may ask for them.
    args: HashMap<JobRef, Vec<u8>>,
    /// Jobs that others began to wait for, or to name, in this batch.
    newly_waited_for: HashSet<JobRef>,
    newly_named: HashSet<JobRef>,
    spreads: BTreeMap<JobRef, Option<Spread>>,
    /// What somebody listens to; listeners that are too deep; kinds that got their numbers and are listened to; and, once
    /// listeners were enqueued, whether there are more of them.
    heard: Vec<Heard>,
    too_deep: u64,
    new_kinds: HashMap<KindId, Arc<Listened>>,
    listened: Option<bool>,
    /// What this batch has written under keys that conditions of it are about.
    kv: HashMap<KvKey, Option<Vec<u8>>>,
    /// Which runs of jobs have logs, and how large, as this batch leaves them.
    run_logs: HashMap<JobRef, Vec<(RunNumber, usize)>>,
    settings: HashMap<Scope, Settings>,
    /// Orders that this batch gave to queues that have had jobs.
    orders: HashMap<QueueId, QueueOrder>,
    /// How the totals differ from those that were read.
    totals: HashMap<TotalKey, i64>,
    pages: usize,
    /// Schedules that this batch has changed.
    schedules: HashMap<ScheduleRef, Option<Schedule>>,
    /// Jobs of schedules that this batch made, or made to run again.
    newly_scheduled: HashMap<ScheduleRef, Vec<JobId>>,
    schedules_from: Time,
    /// Tokens that this batch has changed.
    tokens: HashMap<TokenHash, Option<Token>>,
    paused: bool,
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
    fn new(set: &'a WorkingSet, conduct: Conduct) -> Self {
        Self {
            set,
            conduct,
            now: set.now,
            jobs: HashMap::new(),
            touched: Vec::new(),
            fresh: BTreeMap::new(),
            passed: HashMap::new(),
            short: BTreeSet::new(),
            unread: BTreeSet::new(),
            names: HashMap::new(),
            newly_in_use: HashMap::new(),
            recent: None,
            keys: HashMap::new(),
            uniques: HashMap::new(),
            args: HashMap::new(),
            newly_waited_for: HashSet::new(),
            newly_named: HashSet::new(),
            spreads: BTreeMap::new(),
            heard: Vec::new(),
            too_deep: 0,
            new_kinds: HashMap::new(),
            listened: None,
            kv: HashMap::new(),
            run_logs: HashMap::new(),
            settings: HashMap::new(),
            orders: HashMap::new(),
            totals: HashMap::new(),
            pages: 0,
            schedules: HashMap::new(),
            newly_scheduled: HashMap::new(),
            schedules_from: set.schedules_from,
            tokens: HashMap::new(),
            paused: set.paused,
            next_job: set.next_job,
            next_name: set.next_name,
            changes: Vec::new(),
        }
    }

    fn run(&mut self, command: &Command) -> Reply {
        let reply = match command {
            Command::Enqueue(call) => self.enqueue(call),
            Command::Claim(call) => Ok(self.claim(call)),
            Command::Lease(call) => Ok(self.lease(call)),
            Command::EndLeases(call) => Ok(self.end_leases(call)),
            Command::Start { job, holder } => self.start(*job, *holder),
            Command::Finish(call) => self.finish(call),
            Command::FinishCall(call) => self.finish_call(call),
            Command::HandBack(run) => self.hand_back(*run),
            Command::Checkpoint { run, bytes } => self.checkpoint(*run, bytes),
            Command::EndBoots(call) => Ok(self.end_boots(call)),
            Command::Due => unreachable!("answered before the others"),
            Command::Cancel { job, reason } => self.cancel(*job, reason.as_deref()),
            Command::Release(job) => self.verb(*job, &Event::Released),
            Command::Retry { job, fresh } => self.retry(*job, *fresh),
            Command::Revive { job, after } => self.revive(*job, *after),
            Command::Edit { job, edit } => self.edit(*job, edit),
            Command::Delete { job, force, cascade } => self.delete(*job, *force, *cascade),
            Command::Bulk(call) => Ok(self.bulk(call)),
            Command::Settle => Ok(self.settle()),
            Command::Listen => Ok(self.listen()),
            Command::Subscribe(call) => self.subscribe(call),
            Command::Sweep(call) => Ok(self.sweep(*call)),
            Command::Set(settings) => self.set(settings),
            Command::Resume => Ok(self.resume()),
            Command::Schedule(call) => self.schedule(call),
            Command::Fire(call) => self.fire(call),
            Command::Token(call) => self.token(call),
            Command::Name(name) => self.give_number(name),
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

    /// The row of a job at this point of the batch.
    fn row(&self, at: JobRef) -> Option<Arc<Row>> {
        match self.jobs.get(&at) {
            Some(changed) => changed.as_ref().map(|touched| Arc::clone(&touched.row)),
            None => self.set.jobs.get(&at).map(|job| Arc::new(Row::of(job))),
        }
    }

    /// Lets `event` happen to a job: the only place where rows change.
    fn apply(&mut self, at: JobRef, event: &Event) -> Result<Option<Arc<Job>>, Rejection> {
        let before = self.job(at).cloned();
        let after = transition(before.as_deref(), event, self.now)?.map(Arc::new);
        let new_row = after.as_deref().map(|job| Arc::new(Row::of(job)));
        if let Some(name) = EventName::of(event, after.as_ref().map(|job| job.state.name()))
            && !(cfg!(planted = "lose_event") && matches!(event, Event::HandedBack { .. }))
        {
            let old_row = self.row(at);
            let (old, new) = (before.as_deref().zip(old_row.as_deref()), after.as_deref().zip(new_row.as_deref()));
            self.changes.push(Change::Event(LogEntry::new(self.now, name, old, new)));
            if !self.set.listening.is_empty()
                && let Some(job) = after.as_deref().or(before.as_deref())
            {
                self.hear(name, job, after.as_deref());
            }
        }
        let touched = after.clone().zip(new_row).map(|(job, row)| Touched { job, row });
        if self.jobs.insert(at, touched).is_none() {
            self.touched.push(at);
        }
        self.follow(at, before.as_deref(), after.as_deref());
        Ok(after)
    }

    /// What else follows where a job changed: its place in its lane, its unique key, those that wait for it, the totals.
    fn follow(&mut self, at: JobRef, before: Option<&Job>, after: Option<&Job>) {
        if let Some(job) = before
            && job.state == State::Available
            && let Some(fresh) = self.fresh.get_mut(&index::lane(job))
        {
            fresh.remove(&index::order(job));
        }
        if let Some(job) = after
            && job.state == State::Available
        {
            self.fresh.entry(index::lane(job)).or_default().insert(index::order(job));
        }
        if let Some(job) = before
            && job.holds_key_by_state()
            && !after.is_some_and(Job::holds_key_by_state)
        {
            self.release_key(job);
        }
        if let (Some(before), Some(job)) = (before, after)
            && !before.holds_key_by_state()
            && job.holds_key_by_state()
        {
            self.take_free_key(job);
        }
        let was_unfinished = before.filter(|job| !job.state.name().is_final());
        let is_unfinished = after.filter(|job| !job.state.name().is_final());
        self.follow_total(was_unfinished, -1);
        self.follow_total(is_unfinished, 1);
        if let Some(job) = is_unfinished {
            self.wait_for_others(was_unfinished, job);
            if let (None, Some(of)) = (was_unfinished, &job.schedule) {
                let schedule = ScheduleRef { tenant: at.tenant, name: of.name.clone() };
                self.newly_scheduled.entry(schedule).or_default().push(at.job);
            }
        }
        if was_unfinished.is_some() && is_unfinished.is_none() {
            let verdict = after.and_then(Job::verdict).unwrap_or(Verdict::Deleted);
            self.begin_to_settle(at, verdict);
        }
    }

    fn follow_total(&mut self, unfinished: Option<&Job>, difference: i64) {
        let Some(job) = unfinished else { return };
        for of in [Total::Unfinished, Total::UnfinishedIn(job.queue)] {
            *self.totals.entry(TotalKey { tenant: job.tenant, of }).or_default() += difference;
        }
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

    /// How others depend on a job at this point of the batch, as far as it matters: waiting comes before naming.
    fn waited(&self, at: JobRef) -> Option<Wait> {
        if self.newly_waited_for.contains(&at) {
            return Some(Wait::Waiting);
        }
        match self.set.waits.get(&at) {
            Some(Wait::Waiting) if self.still_waited_for(at) => Some(Wait::Waiting),
            // Whether they, or others, still name it was not read.
            Some(Wait::Waiting) => Some(Wait::Named),
            _ if self.newly_named.contains(&at) => Some(Wait::Named),
            other => other.copied(),
        }
    }

    /// Whether one of those that waited for a job before this batch still does.
    fn still_waited_for(&self, on: JobRef) -> bool {
        if matches!(self.spreads.get(&on), Some(None)) {
            // This batch has told the last of them.
            return false;
        }
        let Some((first, all)) = self.set.waiters.get(&on) else { return true };
        let waits = |id: &JobId| match self.jobs.get(&JobRef { job: *id, ..on }) {
            None => true,
            Some(changed) => changed.as_ref().is_some_and(|touched| {
                let waits = matches!(touched.job.state, State::Held | State::Blocked);
                waits && touched.job.dependencies.iter().any(|edge| edge.job == on.job && edge.settled.is_none())
            }),
        };
        !all || first.iter().any(waits)
    }

    fn tenant_settings(&self, tenant: TenantId) -> TenantSettings {
        match self.setting(&Scope::Tenant(tenant)) {
            Settings::Tenant(_, settings) => settings,
            _ => TenantSettings::default(),
        }
    }

    /// What holds, as set, or by default.
    fn setting(&self, scope: &Scope) -> Settings {
        let set = self.settings.get(scope).or_else(|| self.set.settings.get(scope));
        set.cloned().unwrap_or_else(|| scope.defaults())
    }

    /// The order of the queue of a job that may run again: of one that has not ended it cannot have changed.
    fn order_now(&self, job: &Job) -> QueueOrder {
        if !job.state.name().is_final() {
            return job.order;
        }
        self.orders.get(&job.queue).or_else(|| self.set.orders.get(&job.queue)).copied().unwrap_or(job.order)
    }

    /// A total at this point of the batch.
    fn total(&self, key: TotalKey) -> u64 {
        let read = self.set.totals.get(&key).copied().unwrap_or_default();
        read.saturating_add_signed(self.totals.get(&key).copied().unwrap_or_default())
    }

    fn record_run(&mut self, at: JobRef, record: RunRecord) {
        self.changes.push(Change::Run(at, Box::new(record)));
    }

    fn into_changes(mut self) -> Vec<Change> {
        if self.next_job != self.set.next_job {
            self.changes.push(Change::NextJob(self.next_job));
        }
        for (at, spread) in std::mem::take(&mut self.spreads) {
            if self.set.settling.get(&at) != spread.as_ref() {
                self.changes.push(Change::Spread(at, spread));
            }
        }
        let heard = std::mem::take(&mut self.heard);
        self.changes.extend(heard.into_iter().map(|heard| Change::Hear(Box::new(heard))));
        // What the batch had written of jobs that it then removed must not outlive them.
        if self.jobs.values().any(Option::is_none) {
            let gone = |at: &JobRef| matches!(self.jobs.get(at), Some(None));
            self.changes.retain(|change| match change {
                Change::Payload(at, ..) | Change::Run(at, _) => !gone(at),
                Change::RunLog(run, _) => !gone(&run.at),
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
