//! Who is to hear of what: from subscriptions and the log alone. Each event that somebody listens to puts them in line, and
//! a job that nobody asked for must be the first of the line: so none comes twice, and none is left out but those of whom it
//! was said that there is no room for them, while there was none.

use std::collections::{HashMap, HashSet, VecDeque};

use runner_store::command::{Command, Part, Reply, Settings, Subscription, TenantSettings};
use runner_store::engine::Dump;
use runner_store::job::{EventName, JobRef, TenantId, limits};
use runner_store::log::LogEntry;

/// Where a row has its kind and its depth: the numbers of the fields.
const KIND: u8 = 3;
const DEPTH: u8 = 23;

/// The queue of everyone who listens here.
pub(super) const QUEUE: &str = "p";

#[derive(Default)]
pub(super) struct Listeners {
    subscriptions: HashMap<TenantId, Vec<Subscription>>,
    /// Kind and depth of each job.
    jobs: HashMap<JobRef, (String, u32)>,
    /// The kinds, by what rows have for them.
    kinds: HashMap<(TenantId, Vec<u8>), String>,
    line: VecDeque<InLine>,
    told: u64,
    refused: u64,
    /// Tenants of those who were passed over in this batch.
    passed_over: Vec<TenantId>,
    room: Room,
}

/// Where there is no room for who listens.
#[derive(Default)]
struct Room {
    /// How many jobs a tenant may have, how many its queue; none: nobody said.
    tenants: HashMap<TenantId, u64>,
    queues: HashMap<TenantId, u64>,
    /// The least of what held in this batch.
    tenants_least: HashMap<TenantId, u64>,
    queues_least: HashMap<TenantId, u64>,
    /// Tenants that had none at some time in this batch; and those that may keep so few bytes that they may have none.
    full: HashSet<TenantId>,
    short_of_bytes: HashSet<TenantId>,
}

impl Room {
    fn next_batch(&mut self, replies: &[Reply]) {
        self.full.clone_from(&self.short_of_bytes);
        self.tenants_least.clone_from(&self.tenants);
        self.queues_least.clone_from(&self.queues);
        for reply in replies {
            match reply {
                Reply::Set(Settings::Tenant(tenant, settings)) => {
                    self.tenants.insert(*tenant, settings.capacity);
                    let least = self.tenants_least.entry(*tenant).or_insert(u64::MAX);
                    *least = settings.capacity.min(*least);
                    if settings.stored_bytes < TenantSettings::default().stored_bytes {
                        self.full.insert(*tenant);
                        self.short_of_bytes.insert(*tenant);
                    }
                }
                Reply::Set(Settings::Queue(tenant, queue, settings)) if queue == QUEUE => {
                    let capacity = if settings.drain { 0 } else { settings.capacity.unwrap_or(u64::MAX) };
                    self.queues.insert(*tenant, capacity);
                    let least = self.queues_least.entry(*tenant).or_insert(u64::MAX);
                    *least = capacity.min(*least);
                }
                _ => {}
            }
        }
    }

    fn look(&mut self, tenant: TenantId, unfinished: u64, of_queue: u64) {
        let least = |of: &HashMap<TenantId, u64>| of.get(&tenant).copied().unwrap_or(u64::MAX);
        if unfinished >= least(&self.tenants_least) || of_queue >= least(&self.queues_least) {
            self.full.insert(tenant);
        }
    }
}

/// One who is to hear of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InLine {
    of: JobRef,
    event: EventName,
    kind: String,
    depth: u32,
}

impl Listeners {
    /// A job comes into being that nobody asked for: whoever is first in line. Who stands before it was passed over; whether
    /// rightly, the end of the batch tells.
    #[track_caller]
    pub(super) fn begin(&mut self, entry: &LogEntry) {
        let depth = depth_of(entry);
        let known = self.kind_of(entry).cloned();
        loop {
            let first = self.line.pop_front();
            let first = first.unwrap_or_else(|| panic!("nobody asked for job {}, nor listens", entry.job.job));
            let same = first.of.tenant == entry.job.tenant && Some(first.depth) == depth;
            if same && known.as_ref().is_none_or(|kind| *kind == first.kind) {
                self.jobs.insert(entry.job, (first.kind, first.depth));
                self.told += 1;
                return;
            }
            self.passed_over.push(first.of.tenant);
        }
    }

    /// How many unfinished jobs each tenant has, and how many of them in the queue of those who listen.
    pub(super) fn next_batch(&mut self, replies: &[Reply], unfinished: impl Iterator<Item = (TenantId, u64, u64)>) {
        self.room.next_batch(replies);
        unfinished.for_each(|(tenant, all, of_queue)| self.room.look(tenant, all, of_queue));
    }

    /// What a tenant has after an event.
    pub(super) fn count(&mut self, tenant: TenantId, unfinished: u64, of_queue: u64) {
        self.room.look(tenant, unfinished, of_queue);
    }

    /// As many were passed over as the replies say, each of a tenant that had no room at some time in this batch.
    #[track_caller]
    pub(super) fn end_batch(&mut self, replies: &[Reply]) {
        let refused = replies.iter().map(|reply| match reply {
            Reply::Listened { refused, .. } => *refused as usize,
            _ => 0,
        });
        let refused: usize = refused.sum();
        let mut passed_over = std::mem::take(&mut self.passed_over);
        assert!(passed_over.len() <= refused, "{} were passed over, {refused} refused", passed_over.len());
        let rest = (refused - passed_over.len()).min(self.line.len());
        passed_over.extend(self.line.drain(..rest).map(|one| one.of.tenant));
        assert_eq!(passed_over.len(), refused, "more were refused than listen");
        let wrongly = passed_over.iter().find(|tenant| !self.room.full.contains(tenant));
        assert_eq!(wrongly, None, "it had room for who listens");
        self.refused += refused as u64;
    }

    /// A job comes into being that somebody asked for.
    pub(super) fn asked_for(&mut self, at: JobRef, kind: &str) {
        self.jobs.insert(at, (kind.to_owned(), 0));
    }

    /// Puts those in line who listen to this.
    pub(super) fn hear(&mut self, entry: &LogEntry) {
        let Some((kind, depth)) = self.jobs.get_mut(&entry.job) else { return };
        if let Some(number) = field_of(entry, KIND) {
            self.kinds.entry((entry.job.tenant, number.to_vec())).or_insert_with(|| kind.clone());
        }
        *depth = depth_of(entry).unwrap_or(*depth);
        let about = |on: &&Subscription| on.event == entry.event && fits(&on.of, kind);
        let of_tenant = self.subscriptions.get(&entry.job.tenant);
        for on in of_tenant.into_iter().flatten().filter(about) {
            if *depth < limits::DEPTH_MAX {
                let (kind, depth) = (on.to.kind.clone(), *depth + 1);
                self.line.push_back(InLine { of: entry.job, event: entry.event, kind, depth });
            }
        }
    }

    fn kind_of(&self, entry: &LogEntry) -> Option<&String> {
        self.kinds.get(&(entry.job.tenant, field_of(entry, KIND)?.to_vec()))
    }

    /// What holds from the next batch on.
    pub(super) fn learn(&mut self, commands: &[Command], replies: &[Reply]) {
        for (command, reply) in commands.iter().zip(replies) {
            if let (Command::Subscribe(call), Reply::Done) = (command, reply) {
                self.subscriptions.insert(call.tenant, call.subscriptions.clone());
            }
        }
    }

    /// How many were told, and how many had no room.
    pub(super) fn told(&self) -> (u64, u64) {
        (self.told, self.refused)
    }

    #[track_caller]
    pub(super) fn check(&self, dump: &Dump) {
        let waiting = dump.heard.iter().flat_map(|(_, heard)| {
            let (of, event, depth) = (heard.at, heard.event, heard.depth);
            heard.to.iter().map(move |to| InLine { of, event, kind: to.kind.clone(), depth })
        });
        assert_eq!(waiting.collect::<Vec<_>>(), Vec::from(self.line.clone()), "who has yet to be told");
        let kept: HashMap<_, _> = dump.subscriptions.iter().cloned().collect();
        let known: HashMap<_, _> =
            self.subscriptions.iter().filter(|(_, all)| !all.is_empty()).map(|(of, all)| (*of, all.clone())).collect();
        assert_eq!(kept, known);
        for job in &dump.jobs {
            let (kind, depth) = &self.jobs[&job.at()];
            let name = dump.names.iter().find(|(_, number)| *number == job.kind.0).map(|(name, _)| &name.name);
            assert_eq!((name, job.depth), (Some(kind), *depth), "job {}", job.id);
            let args = dump.payloads.iter().any(|(at, part, _)| *at == job.at() && *part == Part::Args);
            assert!(kind != "alert" || args || job.edits > 0, "job {} listens and was told nothing", job.id);
        }
    }
}

/// A pattern here is a name, or `*` alone.
fn fits(patterns: &[String], kind: &str) -> bool {
    patterns.iter().any(|pattern| pattern == "*" || pattern == kind)
}

/// How deep a job is, if this event says so: a small number is one byte, and none is left out.
fn depth_of(entry: &LogEntry) -> Option<u32> {
    Some(field_of(entry, DEPTH)?.first().copied().unwrap_or(0).into())
}

/// What a row has in this field, if this event changed it.
fn field_of(entry: &LogEntry, wanted: u8) -> Option<&[u8]> {
    let mut delta = entry.delta.as_slice();
    while let Some((&[field, a, b, c, d], rest)) = delta.split_first_chunk::<5>() {
        let (value, rest) = rest.split_at(u32::from_le_bytes([a, b, c, d]) as usize);
        if field == wanted {
            return Some(value);
        }
        delta = rest;
    }
    None
}
