//! The log, read once from its beginning: how often each job began, ended and was retried, and in which order it and what
//! it waits for did.

use std::collections::{BTreeMap, HashMap};

use runner_store::command::{Answer, Query};
use runner_store::engine::Snapshot;
use runner_store::job::{EdgePolicy, EventName, Seq, StateName, Verdict};
use runner_store::log::LogEntry;

use super::{Kept, RunKey};

const PAGE_EVENTS: u32 = 1_000;

/// What the log says of one job.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) runs: u32,
    pub(super) retries: u32,
    /// Its latest run when it was last retried.
    pub(super) since_run: u32,
    /// Within one life: from its enqueue, or a retry, to an end.
    pub(super) completed_twice: bool,
    completed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct History {
    lives: HashMap<u64, Life>,
    /// Every change of state, in order; none: the job is gone.
    pub(super) states: Vec<(u64, Option<StateName>)>,
    /// Runs that completed, of all jobs that ever were.
    pub(super) completed: Vec<RunKey>,
    pub(super) events: usize,
    pub(super) wrong: Vec<String>,
}

/// Edges of jobs that are still there, and how the log says that they were settled.
struct Edges<'a> {
    kept: &'a BTreeMap<u64, Kept>,
    dependents: HashMap<u64, Vec<u64>>,
    settled: HashMap<(u64, u64), Verdict>,
    now: HashMap<u64, StateName>,
}

impl History {
    /// Reads the whole log of a store that holds these jobs.
    pub(super) fn read(view: &dyn Snapshot, kept: &BTreeMap<u64, Kept>) -> Self {
        let (mut history, mut edges, mut since) = (Self::default(), Edges::new(kept), Seq(0));
        loop {
            let query = Query::Events { since, limit: PAGE_EVENTS };
            let Answer::Events(page) = view.read(&query).unwrap() else {
                unreachable!("events are answered with events")
            };
            let Some(last) = page.entries.last() else { break };
            since = Seq(last.seq.0 + 1);
            for entry in &page.entries {
                history.take(entry);
                let retried = history.lives.get(&entry.job.job.0).is_some_and(|life| life.retries > 0);
                history.wrong.extend(edges.take(entry, retried));
            }
        }
        let lives = &history.lives;
        let waived = |id: u64| lives.get(&id).is_some_and(|life| life.retries > 0);
        let late = edges.unlike_rows(waived);
        history.wrong.extend(late);
        history
    }

    pub(super) fn of(&self, id: u64) -> Option<&Life> {
        self.lives.get(&id)
    }

    fn take(&mut self, entry: &LogEntry) {
        let id = entry.job.job.0;
        self.events += 1;
        self.states.push((id, entry.state));
        if entry.event == EventName::Enqueued && self.lives.contains_key(&id) {
            self.wrong.push(format!("job {id} was enqueued twice"));
        }
        let life = self.lives.entry(id).or_default();
        match entry.event {
            EventName::Started => {
                life.runs += 1;
                if life.completed || entry.run.0 != life.runs {
                    self.wrong.push(format!("job {id} has run {} where {} is next: {entry:?}", entry.run, life.runs));
                }
            }
            EventName::Completed => {
                life.completed_twice |= life.completed;
                life.completed = true;
                self.completed.push((id, entry.run.0));
            }
            EventName::Retried => {
                life.retries += 1;
                life.since_run = entry.run.0;
                life.completed = false;
            }
            _ => {}
        }
    }
}

impl<'a> Edges<'a> {
    fn new(kept: &'a BTreeMap<u64, Kept>) -> Self {
        let mut dependents: HashMap<u64, Vec<u64>> = HashMap::new();
        for (id, kept) in kept {
            for edge in &kept.job.dependencies {
                dependents.entry(edge.job.0).or_default().push(*id);
            }
        }
        Self { kept, dependents, settled: HashMap::new(), now: HashMap::new() }
    }

    /// An edge is settled by the first end after the enqueue, or at once; no job starts before all of its edges are.
    fn take(&mut self, entry: &LogEntry, retried: bool) -> Option<String> {
        let id = entry.job.job.0;
        if let Some(verdict) = entry.state.map_or(Some(Verdict::Deleted), verdict) {
            for dependent in self.dependents.get(&id).into_iter().flatten().filter(|on| self.now.contains_key(on)) {
                self.settled.entry((*dependent, id)).or_insert(verdict);
            }
        }
        let edges = self.kept.get(&id).map(|kept| kept.job.dependencies.as_slice()).unwrap_or_default();
        if entry.event == EventName::Enqueued {
            for edge in edges {
                if let Some(verdict) = self.now.get(&edge.job.0).copied().and_then(verdict) {
                    self.settled.insert((id, edge.job.0), verdict);
                }
            }
        }
        match entry.state {
            Some(state) => _ = self.now.insert(id, state),
            None => _ = self.now.remove(&id),
        }
        if entry.event != EventName::Started || retried {
            return None;
        }
        let may_start = |on: u64, policy| match self.settled.get(&(id, on)) {
            None => false,
            Some(Verdict::Completed) => true,
            Some(_) => policy == EdgePolicy::Run,
        };
        let early = edges.iter().find(|edge| !may_start(edge.job.0, edge.on_failure))?;
        Some(format!(
            "job {id} started although it waits for {early:?}, which the log settles {:?}",
            self.settled.get(&(id, early.job.0))
        ))
    }

    /// Edges whose row says otherwise than the log.
    fn unlike_rows(&self, waived: impl Fn(u64) -> bool) -> Vec<String> {
        let mut unlike = Vec::new();
        for (id, kept) in self.kept {
            for edge in &kept.job.dependencies {
                let logged = self.settled.get(&(*id, edge.job.0)).copied();
                // One that ended before its dependency needs to hear no more of it.
                let ended_first = edge.settled.is_none() && kept.job.finalized_at().is_some();
                let waived = edge.settled == Some(Verdict::Waived) && waived(*id);
                if edge.settled != logged && !ended_first && !waived {
                    unlike.push(format!("job {id}: {edge:?}, and the log settles {logged:?}"));
                }
            }
        }
        unlike
    }
}

fn verdict(state: StateName) -> Option<Verdict> {
    match state {
        StateName::Completed => Some(Verdict::Completed),
        StateName::Discarded => Some(Verdict::Discarded),
        StateName::Cancelled => Some(Verdict::Cancelled),
        _ => None,
    }
}
