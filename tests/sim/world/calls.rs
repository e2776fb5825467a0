//! Specs, commands and what is read out of replies, in the few words that cases are written in.

use runner_store::command::{
    Claim, Command, EndBoots, Enqueue, Finish, Grant, KvWrite, Lane, Name, Namespace, Reply, RunRef,
};
use runner_store::job::{
    BootId, DependsOn, EdgePolicy, Edit, Job, JobId, JobRef, JobSpec, On, OnConflict, Outcome, PluginId, Rejection,
    RunNumber, RunSettings, States, Unique,
};

use super::{TENANT, World};

pub(crate) fn at(id: JobId) -> JobRef {
    JobRef { tenant: TENANT, job: id }
}

/// A job of kind `work` in queue `default`.
pub(crate) fn work() -> JobSpec {
    JobSpec::new("work", "{}")
}

/// The same, that changes something.
pub(crate) fn work_with(change: impl FnOnce(&mut JobSpec)) -> JobSpec {
    let mut spec = work();
    change(&mut spec);
    spec
}

pub(crate) fn enqueue(jobs: Vec<JobSpec>) -> Command {
    Command::Enqueue(Enqueue::new(TENANT, jobs))
}

pub(crate) fn claim(holder: BootId, max: u32, lanes: &[Lane]) -> Command {
    let grants = lanes.iter().map(|lane| Grant { lane: *lane, max }).collect();
    Command::Claim(Claim { holder, max, grants })
}

pub(crate) fn finish(run: RunRef, outcome: Outcome) -> Command {
    Command::Finish(Box::new(finishing(run, outcome)))
}

pub(crate) fn finishing(run: RunRef, outcome: Outcome) -> Finish {
    Finish::new(run, outcome, RunSettings::default())
}

pub(crate) fn end_boots(living: BootId, started: Vec<RunRef>) -> Command {
    Command::EndBoots(EndBoots { living, started, settings: Vec::new() })
}

pub(crate) fn cancel(id: JobId) -> Command {
    Command::Cancel { job: at(id), reason: None }
}

pub(crate) fn retry(id: JobId) -> Command {
    Command::Retry { job: at(id), fresh: false }
}

/// Neither by force nor over the heads of those that wait.
pub(crate) fn delete(id: JobId) -> Command {
    Command::Delete { job: at(id), force: false, cascade: false }
}

pub(crate) fn delete_with(id: JobId, force: bool, cascade: bool) -> Command {
    Command::Delete { job: at(id), force, cascade }
}

pub(crate) fn edit(id: JobId, edit: Edit) -> Command {
    Command::Edit { job: at(id), edit: Box::new(edit) }
}

/// What it waits for, by id; if one does not end well, it is cancelled.
pub(crate) fn after(jobs: &[JobId]) -> Vec<DependsOn> {
    jobs.iter().map(|job| DependsOn { on: On::Job(*job), on_failure: EdgePolicy::Cancel }).collect()
}

/// The same, by places in its list.
pub(crate) fn after_places(places: &[u32]) -> Vec<DependsOn> {
    places.iter().map(|place| DependsOn { on: On::Position(*place), on_failure: EdgePolicy::Cancel }).collect()
}

/// A job of kind `work` that waits for others.
pub(crate) fn work_after(jobs: &[JobId]) -> JobSpec {
    work_with(|s| s.depends_on = after(jobs))
}

/// The same, that runs however they end.
pub(crate) fn work_anyway(jobs: &[JobId]) -> JobSpec {
    let edges = after(jobs).into_iter().map(|edge| DependsOn { on_failure: EdgePolicy::Run, ..edge }).collect();
    work_with(|s| s.depends_on = edges)
}

/// A job of kind `work` with a unique key.
pub(crate) fn unique(key: &str, on_conflict: OnConflict) -> JobSpec {
    let unique = Unique { key: key.to_owned(), states: States::default(), period: None, on_conflict };
    work_with(|s| s.unique = Some(unique))
}

pub(crate) fn failed(message: &str) -> Outcome {
    Outcome::Failed { message: message.to_owned(), retry_after: None }
}

pub(crate) fn completed() -> Outcome {
    Outcome::Completed { output: Vec::new() }
}

pub(crate) fn stale(run: u32) -> Reply {
    Reply::Rejected(Rejection::Stale { said: RunNumber(run) })
}

/// The ids that an enqueue answered.
#[track_caller]
pub(crate) fn ids(reply: &Reply) -> Vec<JobId> {
    match reply {
        Reply::Enqueued(jobs) => jobs.iter().map(|job| job.id).collect(),
        other => panic!("not enqueued: {other:?}"),
    }
}

/// The jobs that a claim answered.
#[track_caller]
pub(crate) fn claimed(reply: &Reply) -> Vec<Job> {
    match reply {
        Reply::Claimed(jobs) => jobs.iter().map(|job| (**job).clone()).collect(),
        other => panic!("not claimed: {other:?}"),
    }
}

/// The ids that a claim answered.
#[track_caller]
pub(crate) fn claimed_ids(reply: &Reply) -> Vec<u64> {
    claimed(reply).iter().map(|job| job.id.0).collect()
}

/// The job that a verb or a finish answered.
#[track_caller]
pub(crate) fn job_of(reply: &Reply) -> Job {
    match reply {
        Reply::Job { job, .. } => (**job).clone(),
        other => panic!("not a job: {other:?}"),
    }
}

/// The job that a verb answered, and whether it changed.
#[track_caller]
pub(crate) fn changed(reply: &Reply) -> bool {
    match reply {
        Reply::Job { changed, .. } => *changed,
        other => panic!("not a job: {other:?}"),
    }
}

/// Sets ids aside; answers the first.
#[track_caller]
pub(crate) fn reserve(w: &mut World, n: u32) -> JobId {
    match w.call(Command::ReserveIds { n }) {
        Reply::Reserved { first } => first,
        other => panic!("{other:?}"),
    }
}

/// The number of a plugin's name.
#[track_caller]
pub(crate) fn plugin(w: &mut World, name: &str) -> PluginId {
    match w.call(Command::Name(Name::of_plugin(TENANT, name))) {
        Reply::Named(number) => PluginId(number),
        other => panic!("{other:?}"),
    }
}

/// The keys of a plugin.
#[track_caller]
pub(crate) fn space(w: &mut World, name: &str) -> Namespace {
    Namespace { tenant: TENANT, plugin: plugin(w, name) }
}

/// Writes a key.
pub(crate) fn put(key: &str, value: &str) -> KvWrite {
    KvWrite { key: key.to_owned(), expected: None, value: Some(value.as_bytes().to_vec()) }
}

/// Removes a key.
pub(crate) fn remove(key: &str) -> KvWrite {
    KvWrite { key: key.to_owned(), expected: None, value: None }
}

/// Writes or removes a key, if it has what is expected.
pub(crate) fn cas(key: &str, expected: Option<&str>, value: Option<&str>) -> KvWrite {
    let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
    KvWrite { key: key.to_owned(), expected: Some(bytes(expected)), value: bytes(value) }
}

pub(crate) fn revive(id: JobId) -> Command {
    Command::Revive { job: at(id), after: None }
}
