//! What keeping costs: jobs that wait for others, jobs that have ended, and a long time of both.

use std::time::{Duration, Instant};

use runner_store::Handle;
use runner_store::command::{
    Answer, Bulk, BulkVerb, Command, CountKey, Enqueue, JobsQuery, Keep, Query, Reply, Scope, Settings, StoreSettings,
    Sweep, TenantSettings,
};
use runner_store::job::{DependsOn, EdgePolicy, JobId, JobRef, JobSpec, Millis, On, StateName, TenantId};
use runner_store::writer::SWEEP_SHARE;

use crate::measure::{median, report, sorted, timed};
use crate::{LIST_JOBS, Options, Store, claim, fill, finish};

const DEPENDENTS: u32 = 10_000;
/// Runs of one claim while a sweep goes on, as of a busy node.
const CLAIM_RUNS: u32 = 64;

/// One job is cancelled for which ten thousand wait: side by side, or one for the other.
pub(crate) fn cascade(options: &Options) {
    for (shape, wait_for) in [("a star", None), ("a chain", Some(()))] {
        let store = Store::new(options);
        let root = ids(&store.handle.call_blocking(enqueue(vec![waiting(None)])).unwrap())[0];
        let job = |i: u32| match (wait_for, i) {
            (None, _) | (_, 0) => waiting(Some(On::Job(root))),
            (Some(()), i) => waiting(Some(On::Position(i - 1))),
        };
        store.handle.call_blocking(enqueue((0..DEPENDENTS).map(job).collect())).unwrap();
        let last = JobRef { tenant: TenantId::DEFAULT, job: JobId(root.0 + u64::from(DEPENDENTS)) };
        let told = store.handle.board().wait_for(last);
        let cancel = Command::Cancel { job: JobRef { job: root, ..last }, reason: None };
        let (state, took) = timed(|| {
            store.handle.call_blocking(cancel).unwrap();
            told.blocking_recv().unwrap()
        });
        assert_eq!(state, StateName::Cancelled);
        println!("cascade of {DEPENDENTS}, {shape}\n  {took:.2?}; floor 1 s");
        store.end();
    }
}

/// Claims with and without a sweep beside them.
pub(crate) fn sweep(options: &Options) {
    let store = Store::new(options);
    let jobs = options.scaled(1_000_000);
    fill(&store.handle, jobs);
    cancel_all(&store.handle);
    fill(&store.handle, jobs / 2);
    let calm = claims(&store.handle, || true, 200);
    keep(&store.handle, Keep { cancelled: Millis(0), ..Keep::default() });
    let started = Instant::now();
    store.handle.call_blocking(Command::Sweep(Sweep { after: None, budget: SWEEP_SHARE })).unwrap();
    let swept = claims(&store.handle, || count(&store.handle, StateName::Cancelled) > 0, usize::MAX);
    println!("sweep of {jobs} finished jobs, beside claims of {CLAIM_RUNS} and their finishes");
    println!("  gone after {:.1?}", started.elapsed());
    for (name, times) in [("before the sweep", &calm), ("beside it", &swept)] {
        let sorted = sorted(times);
        let (p99, max) = (sorted[sorted.len() * 99 / 100], sorted[sorted.len() - 1]);
        println!("  claims {name}: n {}, median {:.2?}, p99 {p99:.2?}, max {max:.2?}", times.len(), median(times));
    }
    let later = median(&swept).saturating_sub(median(&calm));
    println!("  a claim is later by {later:.2?} in the median; floor 20 ms");
    store.end();
}

/// Jobs come, run and go, while little is kept: how large does the file become against what is in it?
pub(crate) fn churn(options: &Options) {
    let store = Store::new(options);
    let jobs = options.scaled(2_000_000);
    keep(&store.handle, Keep { completed_max: 20_000, ..Keep::default() });
    let log = StoreSettings { log_bytes: 32 << 20, ..StoreSettings::default() };
    store.handle.call_blocking(Command::Set(Box::new(Settings::Store(log)))).unwrap();
    let mut largest = 0;
    let mut times = Vec::new();
    let (_, took) = timed(|| {
        for round in 0..jobs / (10 * LIST_JOBS) {
            fill(&store.handle, 10 * LIST_JOBS);
            loop {
                let (claimed, took) = timed(|| claim(&store.handle, 1_024));
                if claimed.is_empty() {
                    break;
                }
                times.push(took);
                finish(&store.handle, &claimed);
            }
            store.handle.call_blocking(Command::Sweep(Sweep { after: None, budget: SWEEP_SHARE })).unwrap();
            if round % 10 == 0 {
                largest = largest.max(store.file_bytes());
            }
        }
    });
    report("a long time: enqueue, claim, settle, remove (times: claims)", jobs, took, &times, "none");
    while count(&store.handle, StateName::Completed) > 20_000 {
        store.handle.call_blocking(Command::Sweep(Sweep { after: None, budget: SWEEP_SHARE })).unwrap();
    }
    let (file, live) = store.end_and_measure();
    println!("  file {} MB at the end, {} MB at most, live {} MB", file >> 20, largest.max(file) >> 20, live >> 20);
    println!("  file / live {:.1}", file as f64 / live as f64);
}

/// How long claims take, one after another, each with its finishes, until that is enough.
fn claims(handle: &Handle, go_on: impl Fn() -> bool, max: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    while times.len() < max && go_on() {
        let (claimed, took) = timed(|| claim(handle, CLAIM_RUNS));
        assert!(!claimed.is_empty(), "there are enough jobs to be claimed");
        times.push(took);
        finish(handle, &claimed);
    }
    times
}

fn waiting(on: Option<On>) -> JobSpec {
    let on_failure = EdgePolicy::Cancel;
    let depends_on = on.into_iter().map(|on| DependsOn { on, on_failure }).collect();
    JobSpec { depends_on, ..JobSpec::new("bench.waits", "{}") }
}

fn enqueue(jobs: Vec<JobSpec>) -> Command {
    Command::Enqueue(Enqueue::new(TenantId::DEFAULT, jobs))
}

fn ids(reply: &Reply) -> Vec<JobId> {
    match reply {
        Reply::Enqueued(jobs) => jobs.iter().map(|job| job.id).collect(),
        other => panic!("{other:?}"),
    }
}

fn keep(handle: &Handle, keep: Keep) {
    let tenant = TenantId::DEFAULT;
    let Answer::Settings(Settings::Tenant(_, old)) =
        handle.snapshot().unwrap().read(&Query::Settings(Scope::Tenant(tenant))).unwrap()
    else {
        panic!("a tenant has settings")
    };
    let settings = TenantSettings { keep, ..old };
    handle.call_blocking(Command::Set(Box::new(Settings::Tenant(tenant, settings)))).unwrap();
}

fn cancel_all(handle: &Handle) {
    let mut before = None;
    loop {
        let (state, limit) = (Some(StateName::Available), 1_000);
        let filter = JobsQuery { state, beyond: before, ..JobsQuery::all(TenantId::DEFAULT, limit) };
        let bulk = Bulk { filter, verb: BulkVerb::Cancel { reason: None } };
        match handle.call_blocking(Command::Bulk(Box::new(bulk))).unwrap() {
            Reply::Bulk { next: None, .. } => return,
            Reply::Bulk { next, .. } => before = next,
            other => panic!("{other:?}"),
        }
    }
}

fn count(handle: &Handle, state: StateName) -> u64 {
    let Answer::Counts(counts) = handle.snapshot().unwrap().read(&Query::Counts).unwrap() else { panic!("no counts") };
    counts.into_iter().filter(|(CountKey { state: of, .. }, _)| *of == state).map(|(_, n)| n).sum()
}
