//! The end of a soak: what is in the store against what the clients were promised, and against what the log says happened.

mod history;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use runner_store::command::{Answer, Part, Query, RunRecord};
use runner_store::engine::{Engine, Snapshot};
use runner_store::job::{Job, OutcomeName, Reason, StateName, limits};
use serde_json::Value;

use self::history::History;
use super::guests::FLAKY_FAILS;
use super::ledger::{Asked, Entry, Ledger, Standing, TAG};
use super::process::{Place, RunKey};
use crate::lists::{all_jobs, runs};

/// What was found to be wrong is counted, and the first of each is told.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) lost: Vec<String>,
    pub(super) double: Vec<String>,
    pub(super) wrong: Vec<String>,
    pub(super) jobs: usize,
    pub(super) events: usize,
    pub(super) crashed_runs: usize,
    pub(super) interrupted_runs: usize,
}

/// A job as the store has it.
struct Kept {
    job: Job,
    runs: Vec<RunRecord>,
    args: Vec<u8>,
    output: Option<Vec<u8>>,
}

struct Audit<'a> {
    ledger: &'a Ledger,
    /// Of each kill, the runs whose handlers it found entered.
    kills: &'a [BTreeSet<RunKey>],
    kept: BTreeMap<u64, Kept>,
    history: History,
    found: Verdict,
}

impl Verdict {
    pub(super) fn check(&self) {
        let all = [("lost", &self.lost), ("double", &self.double), ("wrong", &self.wrong)];
        for (what, found) in all {
            assert!(found.is_empty(), "{} {what}:\n{}", found.len(), found[..found.len().min(20)].join("\n"));
        }
    }
}

/// See the module. No process has the store any more.
pub(super) fn audit(place: &Place, ledger: &Ledger, kills: &[BTreeSet<RunKey>]) -> Verdict {
    let engine = place.open();
    let report = engine.check().unwrap();
    let view = engine.reader().snapshot().unwrap();
    let kept = all_jobs(view.as_ref()).into_iter().map(|job| (job.id.0, keep(view.as_ref(), job))).collect();
    let history = History::read(view.as_ref(), &kept);
    let mut audit = Audit { ledger, kills, kept, history, found: Verdict::default() };
    audit.found.wrong.extend(report.findings.clone());
    audit.ensure(report.folded == report.jobs, || format!("{} of {} jobs fold", report.folded, report.jobs));
    audit.promises();
    audit.doubles();
    audit.rows();
    audit.unique_keys();
    audit.children();
    audit.entered_runs();
    audit.suspects();
    let Audit { mut found, kept, history, .. } = audit;
    found.wrong.extend(history.wrong);
    found.jobs = kept.len();
    found.events = history.events;
    found
}

fn keep(view: &dyn Snapshot, job: Job) -> Kept {
    let payload = |part| match view.read(&Query::Payload(job.at(), part)).unwrap() {
        Answer::Payload(bytes) => bytes,
        _ => unreachable!("a payload is answered with a payload"),
    };
    let (args, output) = (payload(Part::Args).unwrap_or_default(), payload(Part::Output));
    Kept { runs: runs(view, &job), args, output, job }
}

fn tag(job: &Job) -> Option<&str> {
    job.tags.iter().find(|(key, _)| key == TAG).map(|(_, value)| value.as_str())
}

impl Audit<'_> {
    fn ensure(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.found.wrong.push(what());
        }
    }

    /// Each acknowledged job is there, as it was asked for, in the state that follows from the last answer about it.
    fn promises(&mut self) {
        for entry in &self.ledger.entries {
            let Some(kept) = self.kept.get(&entry.id) else {
                if entry.standing != Standing::Deleted {
                    self.found.lost.push(format!("{entry:?}"));
                }
                continue;
            };
            if let Some(why) = broken(entry, kept) {
                self.found.wrong.push(format!("{why}: {:?}\n  {entry:?}", kept.job));
            }
            let (acknowledged, perhaps) = entry.retries;
            let retries = self.history.of(entry.id).map_or(0, |life| life.retries);
            if !(acknowledged..=acknowledged + perhaps).contains(&retries) {
                self.found.wrong.push(format!("{retries} retries in the log: {entry:?}"));
            }
        }
        for list in &self.ledger.perhaps {
            let tags: HashSet<&str> = list.iter().map(|asked| asked.tag.as_str()).collect();
            let there = self.kept.values().filter(|kept| tag(&kept.job).is_some_and(|tag| tags.contains(tag))).count();
            if there != 0 && there != list.len() {
                self.found.wrong.push(format!("{there} of {} jobs of one list: {list:?}", list.len()));
            }
        }
    }

    /// No job that was asked for once is there twice, and none that nobody asked for.
    fn doubles(&mut self) {
        let perhaps = self.ledger.perhaps.iter().flatten();
        let asked: HashMap<&str, Option<u64>> = (self.ledger.entries.iter())
            .map(|entry| (entry.asked.tag.as_str(), Some(entry.id)))
            .chain(perhaps.map(|asked| (asked.tag.as_str(), None)))
            .collect();
        let mut seen = HashSet::new();
        for (id, kept) in &self.kept {
            // A child has none; see `children`.
            let Some(tag) = tag(&kept.job) else { continue };
            let expected = asked.get(tag).is_some_and(|promised| promised.is_none_or(|promised| promised == *id));
            if !seen.insert(tag) || !expected {
                self.found.double.push(format!("job {id}, {tag}, of which the client knows {:?}", asked.get(tag)));
            }
        }
    }

    /// What a row says follows from its runs, and an output was made by the run that completed.
    fn rows(&mut self) {
        for (id, kept) in &self.kept {
            let Some(life) = self.history.of(*id) else { continue };
            if let Err(why) = follows(kept, life.since_run).and_then(|()| right_output(kept)) {
                self.found.wrong.push(format!("{why}: {:?}\n  {:?}", kept.job, kept.runs));
            }
            if life.runs != kept.job.run.0 {
                self.found.wrong.push(format!("{} starts in the log of run {}", life.runs, kept.job.run));
            }
            if life.completed_twice {
                self.found.double.push(format!("completed twice: {:?}", kept.job));
            }
        }
    }

    /// At no moment did two jobs hold a key, and who joined another one was told of one with its key.
    fn unique_keys(&mut self) {
        let keys: HashMap<u64, &str> = (self.ledger.entries.iter())
            .filter_map(|entry| entry.asked.unique_key().map(|key| (entry.id, key)))
            .collect();
        for (id, key) in &self.ledger.joined {
            if keys.get(id) != Some(&key.as_str()) {
                self.found.wrong.push(format!("a job with key {key:?} was told of job {id}, which never had it"));
            }
        }
        let mut holders: HashMap<&str, BTreeSet<u64>> = HashMap::new();
        for (id, state) in &self.history.states {
            let Some(key) = keys.get(id) else { continue };
            let holders = holders.entry(key).or_default();
            match state.filter(|state| !state.is_final()) {
                Some(_) => _ = holders.insert(*id),
                None => _ = holders.remove(id),
            }
            if holders.len() > 1 {
                self.found.double.push(format!("key {key:?} is held by {holders:?}"));
            }
        }
    }

    /// Each completed run of a parent enqueued its child once, and no other run did.
    fn children(&mut self) {
        let mut parents: HashSet<u64> =
            self.ledger.entries.iter().filter(|e| is_parent(&e.asked)).map(|e| e.id).collect();
        let of_lost_answers: HashSet<&str> =
            self.ledger.perhaps.iter().flatten().filter(|asked| is_parent(asked)).map(|a| a.tag.as_str()).collect();
        parents.extend(
            (self.kept.iter())
                .filter(|(_, kept)| tag(&kept.job).is_some_and(|tag| of_lost_answers.contains(tag)))
                .map(|(id, _)| *id),
        );
        let completed = self.history.completed.iter().filter(|(id, _)| parents.contains(id));
        let mut missing: BTreeSet<RunKey> = completed.copied().collect();
        for (id, kept) in self.kept.iter().filter(|(_, kept)| tag(&kept.job).is_none()) {
            let args: Value = serde_json::from_slice(&kept.args).unwrap_or_default();
            let of = args["of"]["id"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
            let run = args["of"]["run"].as_u64().and_then(|run| u32::try_from(run).ok()).unwrap_or_default();
            if !missing.remove(&(of, run)) {
                self.found
                    .double
                    .push(format!("job {id} is a child of run {run} of job {of}, which has none or another"));
            }
        }
        self.found.lost.extend(missing.iter().map(|(id, run)| format!("the child of run {run} of job {id}")));
    }

    /// A run crashed if, and only if, a kill found its handler entered; what was only claimed was interrupted.
    fn entered_runs(&mut self) {
        let mut crashed = 0;
        let all: BTreeSet<RunKey> = self.kills.iter().flatten().copied().collect();
        for (id, kept) in &self.kept {
            for run in &kept.runs {
                let entered = all.contains(&(*id, run.run.0));
                crashed += usize::from(run.outcome == OutcomeName::Crashed);
                self.found.interrupted_runs += usize::from(run.outcome == OutcomeName::Interrupted);
                if entered != (run.outcome == OutcomeName::Crashed) {
                    let was = if entered { "was" } else { "was not" };
                    self.found.wrong.push(format!("job {id}: its handler {was} entered at a kill: {run:?}"));
                }
            }
        }
        self.found.crashed_runs = crashed;
    }

    /// Of jobs with a crash behind them one runs at a time, so that the next crash has one culprit.
    fn suspects(&mut self) {
        for entered in self.kills {
            let suspects: Vec<&RunKey> = entered.iter().filter(|(id, run)| self.is_suspect(*id, *run)).collect();
            if suspects.len() > 1 {
                self.found.wrong.push(format!("suspects that ran together: {suspects:?}"));
            }
        }
    }

    /// Whether a crash stands behind this run; not known of jobs that were retried, or are gone.
    fn is_suspect(&self, id: u64, run: u32) -> bool {
        let Some(kept) = self.kept.get(&id).filter(|_| self.history.of(id).is_some_and(|life| life.retries == 0))
        else {
            return false;
        };
        let mut before = kept.runs.iter().rev().filter(|record| record.run.0 < run);
        before
            .find(|record| record.outcome != OutcomeName::Interrupted)
            .is_some_and(|r| r.outcome == OutcomeName::Crashed)
    }
}

fn is_parent(asked: &Asked) -> bool {
    asked.kind == "parent"
}

/// What is not as it was promised.
fn broken(entry: &Entry, kept: &Kept) -> Option<String> {
    let (job, state) = (&kept.job, kept.job.state.name());
    if tag(job) != Some(&entry.asked.tag) {
        return Some("another job has its id".to_owned());
    }
    let args: Value = serde_json::from_slice(&kept.args).unwrap_or_default();
    if args != entry.asked.body["args"] {
        return Some(format!("its args are {args}"));
    }
    let by_dependency = matches!(job.reason(), Some(Reason::Dependency { .. }));
    let holds = match &entry.standing {
        Standing::Deleted => false,
        Standing::Ended { state: seen, run } => (seen.as_str(), *run) == (state.as_str(), job.run.0),
        Standing::CancelAsked => matches!(state, StateName::Cancelled | StateName::Completed),
        Standing::Open => state.is_final() && (state != StateName::Cancelled || by_dependency),
        Standing::Unsure => state.is_final(),
    };
    (!holds).then(|| "not as it was promised".to_owned())
}

/// Whether a job's counts and its end follow from its runs since it was last retried, which was after run `since`.
fn follows(kept: &Kept, since: u32) -> Result<(), String> {
    let (job, state) = (&kept.job, kept.job.state.name());
    if kept.runs.len() != job.run.0.min(limits::RUNS_KEPT) as usize {
        return Err(format!("{} records of {} runs", kept.runs.len(), job.run));
    }
    if state == StateName::Cancelled {
        return Ok(());
    }
    let (mut attempts, mut crashes) = (0, 0);
    for run in kept.runs.iter().filter(|run| run.run.0 > since) {
        match run.outcome {
            OutcomeName::Interrupted | OutcomeName::Cancelled => continue,
            OutcomeName::Crashed => crashes += 1,
            _ => crashes = 0,
        }
        attempts += 1;
    }
    if (job.attempts, job.crashes) != (attempts, crashes) {
        return Err(format!("its runs were {attempts} attempts and {crashes} crashes"));
    }
    let last = kept.runs.last().map(|run| run.outcome);
    let end = match (last, job.reason()) {
        (Some(OutcomeName::Completed), _) => state == StateName::Completed,
        (Some(OutcomeName::Crashed), Some(Reason::Poison { crashes: 3 })) => crashes == 3,
        (Some(OutcomeName::Crashed), Some(Reason::Crashed)) => Some(attempts) == job.max_attempts,
        (Some(OutcomeName::Failed), Some(Reason::AttemptsExhausted { .. })) => Some(attempts) == job.max_attempts,
        _ => false,
    };
    if end { Ok(()) } else { Err("its end does not follow from its runs".to_owned()) }
}

/// A handler answers with its record: of this job, this run, this attempt.
fn right_output(kept: &Kept) -> Result<(), String> {
    let job = &kept.job;
    let Some(output) = &kept.output else {
        return if job.state.name() == StateName::Completed { Err("no output".to_owned()) } else { Ok(()) };
    };
    let output: Value = serde_json::from_slice(output).map_err(|error| format!("its output: {error}"))?;
    let args: Value = serde_json::from_slice(&kept.args).unwrap_or_default();
    let holds = job.state.name() == StateName::Completed
        && output["id"] == job.id.to_string()
        && output["run"] == job.run.0
        && output["attempt"] == job.attempts
        && output["args"] == args
        && (output["kind"] != "flaky" || job.attempts > FLAKY_FAILS);
    if holds { Ok(()) } else { Err(format!("its output is of another run: {output}")) }
}
