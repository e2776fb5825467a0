//! Follows a store from outside: from what was asked, what was answered and the log alone, without the code that decides.
//!
//! It keeps a ledger of every job that was accepted, and says at once when a job has two holders, a run number does not
//! grow, a life has two ends, an accepted job is gone without a reason, two jobs hold one unique key, an enqueue went
//! beyond a capacity, a job ran before what it waits for had ended, whoever listens to an event is told of it not at all or
//! twice, or a call left anything but what its outcome says. Which events met which states, and what met on one
//! job within two neighbouring batches, it counts.

mod kept;
mod listeners;
mod meetings;
mod schedules;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use runner_store::command::{
    BulkVerb, Command, Enqueue, Fire, Keep, QueueSettings, Reply, RunRef, Settings, StagedJob, TenantSettings,
};
use runner_store::engine::{Dump, KeyRef};
use runner_store::job::{EventName, JobId, JobRef, JobSpec, Millis, On, OnConflict, StateName, TenantId, Time};
use runner_store::log::LogEntry;

use self::kept::Kept;
use self::listeners::{Listeners, QUEUE};
use self::meetings::Meetings;
pub(crate) use self::meetings::{Meeting, What};
use self::schedules::Slots;

/// See the module.
#[derive(Default)]
pub(crate) struct Auditor {
    seen: u64,
    jobs: HashMap<JobRef, Track>,
    /// Runs whose end was accepted.
    ended: HashSet<RunRef>,
    /// Who holds the keys that every unfinished state holds, and nothing else.
    holders: HashMap<(TenantId, String), JobId>,
    tenants: HashMap<TenantId, TenantSettings>,
    queues: HashMap<(TenantId, String), QueueSettings>,
    unfinished: HashMap<TenantId, u64>,
    unfinished_in: HashMap<(TenantId, String), u64>,
    completed: HashMap<TenantId, u64>,
    reached: BTreeMap<(Option<StateName>, EventName), u64>,
    meetings: Meetings,
    kept: Kept,
    slots: Slots,
    listeners: Listeners,
}

/// What is known of a job; kept when it is gone.
struct Track {
    /// None: it is gone.
    state: Option<StateName>,
    run: u32,
    /// How often it has come to an end.
    ends: u64,
    ended_at: Time,
    queue: String,
    key: Option<String>,
    on_conflict: OnConflict,
    /// What it names; and how often that must have ended before it runs.
    edges: Vec<(JobRef, u64)>,
}

/// A job that came into being, as it was asked for.
struct Born<'a> {
    spec: Cow<'a, JobSpec>,
    edges: Vec<JobId>,
    staged: bool,
    /// Who fired the schedule that made it.
    of: Option<&'a Fire>,
}

/// One batch.
struct Seen<'a> {
    now: Time,
    destroy: bool,
    commands: &'a [Command],
    replies: &'a [Reply],
    born: HashMap<JobRef, Born<'a>>,
    /// What held before or holds after it.
    keeps: HashMap<TenantId, Vec<Keep>>,
    /// Tenants that may have so few bytes that their completed jobs go because of them. How many there are, neither
    /// replies nor the log say.
    short_of_bytes: HashSet<TenantId>,
    capacities: HashMap<TenantId, u64>,
    queue_capacities: HashMap<(TenantId, String), u64>,
    completed: HashMap<TenantId, u64>,
}

impl Auditor {
    /// The last event that was followed.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    pub(crate) fn reached(&self) -> BTreeMap<(Option<StateName>, EventName), u64> {
        self.reached.clone()
    }

    /// How many jobs there were because they listen, and how many there were not as there was no room for them.
    pub(crate) fn listeners(&self) -> (u64, u64) {
        self.listeners.told()
    }

    pub(crate) fn meetings(&self) -> BTreeMap<Meeting, u64> {
        self.meetings.counts()
    }

    /// Follows one batch.
    #[track_caller]
    pub(crate) fn follow(
        &mut self,
        (now, destroy): (Time, bool),
        commands: &[Command],
        replies: &[Reply],
        log: &[LogEntry],
    ) {
        let mut batch = Seen {
            now,
            destroy,
            commands,
            replies,
            born: HashMap::new(),
            keeps: HashMap::new(),
            short_of_bytes: HashSet::new(),
            capacities: HashMap::new(),
            queue_capacities: HashMap::new(),
            completed: self.completed.clone(),
        };
        self.slots.next_batch();
        for (command, reply) in commands.iter().zip(replies) {
            self.slots.follow(now, command, reply);
            match (command, reply) {
                (Command::Enqueue(call), Reply::Enqueued(jobs)) => {
                    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
                    let new = jobs.iter().zip(&call.jobs).filter(|(job, _)| !job.duplicate);
                    new.for_each(|(job, spec)| batch.bear(call, job.id, spec, &ids));
                }
                (Command::Finish(call), Reply::Job { job, .. }) => {
                    self.end(call.run);
                    if self.kept.finish(call, job) {
                        batch.bear_staged(call.run.at.tenant, &call.staged);
                    }
                }
                (Command::FinishCall(call), Reply::Call(ends)) => {
                    assert_eq!(ends.len(), call.runs.len());
                    let accepted = call.runs.iter().zip(ends).filter(|(_, end)| end.is_ok());
                    accepted.for_each(|(ended, _)| self.end(ended.run));
                    if self.kept.finish_call(call, ends) {
                        batch.bear_staged(call.runs[0].run.at.tenant, &call.staged);
                    }
                }
                (Command::Fire(call), Reply::Fired(jobs)) => {
                    jobs.iter().filter(|job| !job.duplicate).for_each(|job| batch.bear_fired(call, job.id));
                }
                (Command::HandBack(run), Reply::Job { .. }) => self.end(*run),
                (_, Reply::Claimed(jobs)) => {
                    for job in jobs {
                        let started =
                            |e: &LogEntry| e.job == job.at() && e.run == job.run && e.event == EventName::Started;
                        assert!(log.iter().any(started), "job {} was claimed and the log does not say so", job.id);
                    }
                }
                _ => {}
            }
        }
        self.learn_settings(&mut batch);
        self.meetings.next_batch();
        let unfinished = self.unfinished.iter();
        let unfinished = unfinished.map(|(tenant, all)| {
            (*tenant, *all, self.unfinished_in.get(&(*tenant, QUEUE.to_owned())).copied().unwrap_or(0))
        });
        self.listeners.next_batch(replies, unfinished);
        for entry in log {
            self.seen += 1;
            assert_eq!(entry.seq.0, self.seen, "the log goes on where it ended");
            self.see(entry, &batch);
            self.listeners.hear(entry);
        }
        self.listeners.end_batch(replies);
        self.listeners.learn(commands, replies);
    }

    /// The end of a run that was accepted: the only one.
    #[track_caller]
    fn end(&mut self, run: RunRef) {
        assert!(self.ended.insert(run), "{run:?} ended twice");
    }

    fn learn_settings(&mut self, batch: &mut Seen<'_>) {
        let few = |settings: &TenantSettings| settings.stored_bytes < TenantSettings::default().stored_bytes;
        for (tenant, settings) in &self.tenants {
            batch.short_of_bytes.extend(few(settings).then_some(*tenant));
            batch.keeps.entry(*tenant).or_default().push(settings.keep);
            batch.capacities.insert(*tenant, settings.capacity);
        }
        for (queue, settings) in &self.queues {
            batch.queue_capacities.insert(queue.clone(), settings.capacity.unwrap_or(u64::MAX));
        }
        for reply in batch.replies {
            match reply {
                Reply::Set(Settings::Tenant(tenant, settings)) => {
                    self.tenants.insert(*tenant, *settings);
                    batch.short_of_bytes.extend(few(settings).then_some(*tenant));
                    batch.keeps.entry(*tenant).or_insert_with(|| vec![Keep::default()]).push(settings.keep);
                    let before = batch.capacities.entry(*tenant).or_insert(TenantSettings::default().capacity);
                    *before = settings.capacity.max(*before);
                }
                Reply::Set(Settings::Queue(tenant, queue, settings)) => {
                    self.queues.insert((*tenant, queue.clone()), *settings);
                    let before = batch.queue_capacities.entry((*tenant, queue.clone())).or_insert(u64::MAX);
                    *before = settings.capacity.unwrap_or(u64::MAX).max(*before);
                }
                _ => {}
            }
        }
    }

    #[track_caller]
    fn see(&mut self, entry: &LogEntry, batch: &Seen<'_>) {
        let at = entry.job;
        let before = self.jobs.get(&at).and_then(|track| track.state);
        *self.reached.entry((before, entry.event)).or_default() += 1;
        if entry.event == EventName::Enqueued {
            self.begin(entry, batch);
        }
        let is_final = |state: Option<StateName>| state.is_none_or(StateName::is_final);
        let started = entry.event == EventName::Started;
        let track = self.jobs.get_mut(&at).unwrap_or_else(|| panic!("event {}: job {at:?} never was", entry.seq));
        assert_eq!(entry.run.0, track.run + u32::from(started), "event {}: the run number", entry.seq);
        track.run = entry.run.0;
        track.state = entry.state;
        let ends = is_final(entry.state) && (entry.event == EventName::Enqueued || !is_final(before));
        if ends {
            track.ends += 1;
            track.ended_at = entry.at;
        }
        let came_back = is_final(before) && !is_final(entry.state);
        assert!(
            !came_back || matches!(entry.event, EventName::Enqueued | EventName::Retried),
            "event {}: {:?} out of a final state",
            entry.seq,
            entry.event
        );
        let one_end = before.is_none_or(|before| !before.is_final()) || entry.state.is_none();
        let revived = entry.event == EventName::Retried;
        assert!(one_end || !is_final(entry.state) || revived, "event {}: a second end", entry.seq);
        self.count(entry, before);
        match entry.event {
            EventName::Started => self.started(entry, before),
            EventName::Retried => self.retried(entry),
            EventName::Deleted => self.deleted(entry, before, batch),
            EventName::Discarded if before != Some(StateName::Running) => {
                assert!(batch.destroy, "event {}: it expired while the clock could not be trusted", entry.seq);
            }
            _ => {}
        }
        if is_final(entry.state) {
            self.let_go(at);
        }
        if let Some(born) = batch.born.get(&at)
            && entry.event == EventName::Enqueued
            && !born.staged
        {
            self.check_capacity(entry, batch);
        }
        let edges = self.jobs[&at].edges.iter().map(|(on, _)| *on).collect::<Vec<_>>();
        let by_boots = batch.commands.iter().any(|command| matches!(command, Command::EndBoots(_)));
        self.meetings.see(entry, before, &edges, by_boots && !batch.names_run_of(at));
    }

    /// A job comes into being.
    #[track_caller]
    fn begin(&mut self, entry: &LogEntry, batch: &Seen<'_>) {
        let at = entry.job;
        assert!(!self.jobs.contains_key(&at), "id {} was given out twice", at.job);
        let Some(born) = batch.born.get(&at) else {
            self.listeners.begin(entry);
            let (queue, on_conflict) = (QUEUE.to_owned(), OnConflict::Keep);
            let (state, run, ends, ended_at) = (None, 0, 0, Time(0));
            let track = Track { state, run, ends, ended_at, queue, key: None, on_conflict, edges: Vec::new() };
            self.jobs.insert(at, track);
            return;
        };
        self.listeners.asked_for(at, &born.spec.kind);
        let edge = |on: &JobId| {
            let on = JobRef { job: *on, ..at };
            let ends = self.jobs.get(&on).map_or(0, |track| {
                let open = track.state.is_some_and(|state| !state.is_final());
                if open { track.ends + 1 } else { 0 }
            });
            (on, ends)
        };
        let edges = born.edges.iter().map(edge).collect();
        let unique = born.spec.unique.as_ref();
        let key = unique.map(|unique| unique.key.clone()).filter(|key| key.starts_with('s'));
        let on_conflict = unique.map(|unique| unique.on_conflict).unwrap_or_default();
        let queue = born.spec.queue.clone();
        let (state, run, ends, ended_at) = (None, 0, 0, Time(0));
        let track = Track { state, run, ends, ended_at, queue, key: key.clone(), on_conflict, edges };
        if let Some(key) = key
            && let Some(holder) = self.holders.insert((at.tenant, key.clone()), at.job)
        {
            let runs = self.jobs[&JobRef { job: holder, ..at }].state == Some(StateName::Running);
            // What a run staged with `merge` runs beside whom nobody could merge it with.
            let merges = born.staged && track.on_conflict == OnConflict::Merge;
            let takes_over = runs && !matches!(track.on_conflict, OnConflict::Keep | OnConflict::Reject);
            assert!(takes_over || merges, "job {} and job {holder} both hold {key}", at.job);
        }
        if let Some(call) = born.of {
            self.slots.begin(call, at, |other| self.jobs.get(&other).and_then(|track| track.state));
        }
        self.jobs.insert(at, track);
    }

    fn count(&mut self, entry: &LogEntry, before: Option<StateName>) {
        let unfinished = |state: Option<StateName>| u64::from(state.is_some_and(|state| !state.is_final()));
        let completed = |state: Option<StateName>| u64::from(state == Some(StateName::Completed));
        let tenant = entry.job.tenant;
        let queue = (tenant, self.jobs[&entry.job].queue.clone());
        for n in [self.unfinished.entry(tenant).or_default(), self.unfinished_in.entry(queue).or_default()] {
            *n = *n + unfinished(entry.state) - unfinished(before);
        }
        let of_queue = self.unfinished_in.get(&(tenant, QUEUE.to_owned())).copied().unwrap_or(0);
        self.listeners.count(tenant, self.unfinished[&tenant], of_queue);
        let n = self.completed.entry(tenant).or_default();
        *n = *n + completed(entry.state) - completed(before);
    }

    #[track_caller]
    fn started(&self, entry: &LogEntry, before: Option<StateName>) {
        assert_eq!(before, Some(StateName::Available), "event {}: a second holder", entry.seq);
        for (on, ends) in &self.jobs[&entry.job].edges {
            let had = self.jobs.get(on).map_or(u64::MAX, |track| track.ends);
            assert!(had >= *ends, "event {}: job {} runs before job {} ended", entry.seq, entry.job.job, on.job);
        }
    }

    #[track_caller]
    fn retried(&mut self, entry: &LogEntry) {
        let at = entry.job;
        let track = self.jobs.get_mut(&at).expect("a job that was seen");
        if entry.state == Some(StateName::Available) {
            // It does not wait again; or everything that it waited for has ended by now.
            track.edges.iter_mut().for_each(|(_, ends)| *ends = 0);
        }
        if let Some(key) = &track.key
            && !entry.state.is_none_or(StateName::is_final)
        {
            let before = self.holders.insert((at.tenant, key.clone()), at.job);
            assert!(before.is_none_or(|job| job == at.job), "job {} took {key} from {before:?}", at.job);
        }
    }

    fn let_go(&mut self, at: JobRef) {
        if let Some(key) = &self.jobs[&at].key
            && self.holders.get(&(at.tenant, key.clone())) == Some(&at.job)
        {
            self.holders.remove(&(at.tenant, key.clone()));
        }
    }

    /// An accepted job is never lost: someone asked for this, or it was kept long enough.
    #[track_caller]
    fn deleted(&self, entry: &LogEntry, before: Option<StateName>, batch: &Seen<'_>) {
        if batch.asked_to_delete(entry.job) {
            return;
        }
        let about = format!("event {}: job {} was {before:?}", entry.seq, entry.job.job);
        assert!(batch.destroy, "{about}, and went while the clock could not be trusted");
        let state = before.filter(|state| state.is_final()).unwrap_or_else(|| panic!("{about}, and is lost"));
        let tenant = entry.job.tenant;
        let unset = [Keep::default()];
        let keeps = batch.keeps.get(&tenant).map_or(&unset[..], Vec::as_slice);
        let kept = |keep: &Keep| match state {
            StateName::Completed => keep.completed,
            StateName::Cancelled => keep.cancelled,
            _ => keep.discarded,
        };
        let ended_at = self.jobs[&entry.job].ended_at;
        let with_its_finish = batch.names_run_of(entry.job) && keeps.iter().any(|keep| kept(keep) == Millis(0));
        let old = keeps.iter().any(|keep| ended_at.after(kept(keep)) <= batch.now);
        let completed = batch.completed.get(&tenant).copied().unwrap_or_default();
        let too_many = state == StateName::Completed && keeps.iter().any(|keep| completed > keep.completed_max);
        let swept = batch.commands.iter().any(|command| matches!(command, Command::Sweep(_)));
        let too_large = state == StateName::Completed && batch.short_of_bytes.contains(&tenant);
        assert!(with_its_finish || swept && (old || too_many || too_large), "{about}, and went before its time");
        let names = |track: &&Track| {
            let unfinished = track.state.is_some_and(|state| !state.is_final());
            unfinished && track.edges.iter().any(|(on, _)| *on == entry.job)
        };
        assert!(!self.jobs.values().any(|track| names(&track)), "{about}, and an unfinished job names it");
    }

    #[track_caller]
    fn check_capacity(&self, entry: &LogEntry, batch: &Seen<'_>) {
        let tenant = entry.job.tenant;
        if entry.state.is_none_or(StateName::is_final) {
            return;
        }
        let capacity = batch.capacities.get(&tenant).copied().unwrap_or(u64::MAX);
        assert!(self.unfinished[&tenant] <= capacity, "event {}: {tenant:?} is beyond {capacity}", entry.seq);
        let queue = (tenant, self.jobs[&entry.job].queue.clone());
        let capacity = batch.queue_capacities.get(&queue).copied().unwrap_or(u64::MAX);
        assert!(self.unfinished_in[&queue] <= capacity, "event {}: {queue:?} is beyond {capacity}", entry.seq);
    }

    /// What is kept against the ledger.
    #[track_caller]
    pub(crate) fn check(&self, dump: &Dump) {
        let kept: BTreeMap<JobRef, StateName> = dump.jobs.iter().map(|job| (job.at(), job.state.name())).collect();
        let ledger: BTreeMap<JobRef, StateName> =
            self.jobs.iter().filter_map(|(at, track)| Some((*at, track.state?))).collect();
        assert_eq!(kept, ledger);
        self.kept.check(dump);
        self.listeners.check(dump);
        let uniques: HashMap<KeyRef, JobId> = dump.uniques.iter().map(|(key, record)| (*key, record.job)).collect();
        for ((tenant, key), job) in &self.holders {
            assert_eq!(uniques.get(&KeyRef::of(*tenant, key)), Some(job), "who holds {key}");
        }
    }
}

impl<'a> Seen<'a> {
    fn bear(&mut self, call: &Enqueue, id: JobId, spec: &'a JobSpec, ids: &[JobId]) {
        let on = |on: On| match on {
            On::Job(job) => job,
            On::Position(position) => ids[position as usize],
        };
        let edges = spec.depends_on.iter().map(|edge| on(edge.on)).collect();
        self.born.insert(
            JobRef { tenant: call.tenant, job: id },
            Born { spec: Cow::Borrowed(spec), edges, staged: false, of: None },
        );
    }

    fn bear_fired(&mut self, call: &'a Fire, job: JobId) {
        let spec = JobSpec { queue: call.queue.clone(), ..JobSpec::new(&call.kind, "") };
        let born = Born { spec: Cow::Owned(spec), edges: Vec::new(), staged: false, of: Some(call) };
        self.born.insert(JobRef { tenant: call.at.tenant, job }, born);
    }

    fn bear_staged(&mut self, tenant: TenantId, staged: &'a [StagedJob]) {
        for staged in staged {
            let on = |on: On| match on {
                On::Job(job) => Some(job),
                // It may have joined another one: which, only the run's record knows.
                On::Position(_) => None,
            };
            let edges = staged.spec.depends_on.iter().filter_map(|edge| on(edge.on)).collect();
            let at = JobRef { tenant, job: staged.id };
            self.born.entry(at).or_insert(Born { spec: Cow::Borrowed(&staged.spec), edges, staged: true, of: None });
        }
    }

    /// Whether a command that ended, or tried to end, a run named this job.
    fn names_run_of(&self, at: JobRef) -> bool {
        self.commands.iter().any(|command| match command {
            Command::Finish(call) => call.run.at == at,
            Command::FinishCall(call) => call.runs.iter().any(|ended| ended.run.at == at),
            Command::HandBack(run) => run.at == at,
            Command::EndLeases(call) => call.runs.iter().any(|ended| ended.run.at == at),
            _ => false,
        })
    }

    fn asked_to_delete(&self, at: JobRef) -> bool {
        self.commands.iter().zip(self.replies).any(|(command, reply)| match (command, reply) {
            (Command::Delete { job, .. }, Reply::Deleted) => *job == at,
            (Command::Bulk(call), Reply::Bulk { changed, .. }) => {
                matches!(call.verb, BulkVerb::Delete { .. }) && *changed > 0 && call.filter.tenant == at.tenant
            }
            _ => false,
        })
    }
}
