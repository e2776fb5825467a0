//! Who is to hear of what: from subscriptions and the log alone. Each event that somebody listens to puts them in line, and
//! a job that nobody asked for must be the first of the line: so none is left out, and none comes twice.

use std::collections::{HashMap, VecDeque};

use runner_store::command::{Command, Part, Reply, Subscription};
use runner_store::engine::Dump;
use runner_store::job::{EventName, JobRef, TenantId, limits};
use runner_store::log::LogEntry;

/// Where a row has its depth: the number of the field.
const DEPTH: u8 = 23;

#[derive(Default)]
pub(super) struct Listeners {
    subscriptions: HashMap<TenantId, Vec<Subscription>>,
    /// Kind and depth of each job.
    jobs: HashMap<JobRef, (String, u32)>,
    line: VecDeque<InLine>,
    told: u64,
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
    /// A job comes into being that nobody asked for: whoever is first in line.
    #[track_caller]
    pub(super) fn begin(&mut self, entry: &LogEntry) {
        let first = self.line.pop_front();
        let first = first.unwrap_or_else(|| panic!("nobody asked for job {}, nor listens", entry.job.job));
        assert_eq!(first.of.tenant, entry.job.tenant, "job {}: listens to another tenant", entry.job.job);
        assert_eq!(depth_of(entry), Some(first.depth), "job {}: how deep it is", entry.job.job);
        self.jobs.insert(entry.job, (first.kind, first.depth));
        self.told += 1;
    }

    /// A job comes into being that somebody asked for.
    pub(super) fn asked_for(&mut self, at: JobRef, kind: &str) {
        self.jobs.insert(at, (kind.to_owned(), 0));
    }

    /// Puts those in line who listen to this.
    pub(super) fn hear(&mut self, entry: &LogEntry) {
        let Some((kind, depth)) = self.jobs.get_mut(&entry.job) else { return };
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

    /// What holds from the next batch on.
    pub(super) fn learn(&mut self, commands: &[Command], replies: &[Reply]) {
        for (command, reply) in commands.iter().zip(replies) {
            if let (Command::Subscribe(call), Reply::Done) = (command, reply) {
                self.subscriptions.insert(call.tenant, call.subscriptions.clone());
            }
        }
    }

    /// How many were told.
    pub(super) fn told(&self) -> u64 {
        self.told
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
    let mut delta = entry.delta.as_slice();
    while let Some((&[field, a, b, c, d], rest)) = delta.split_first_chunk::<5>() {
        let (value, rest) = rest.split_at(u32::from_le_bytes([a, b, c, d]) as usize);
        if field == DEPTH {
            return Some(value.first().copied().unwrap_or(0).into());
        }
        delta = rest;
    }
    None
}
