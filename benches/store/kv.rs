//! What plugins' keys cost: reading one through a view of its own, as a handler does, and writing one with every run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runner_store::Handle;
use runner_store::command::{Answer, Command, Finish, KvWrite, KvWrites, Name, Namespace, Query, Reply, RunRef};
use runner_store::job::{Job, Outcome, PluginId, RunSettings, TenantId};

use crate::measure::{median, report, sorted, timed};
use crate::{CLAIM_RUNS, LIST_JOBS, Options, Store, claim, fill, finish_with, list};

/// As many as a tenant may have.
const KEYS: usize = 100_000;
const VALUE_BYTES: usize = 200;
const READS: usize = 100_000;

pub(crate) fn kv(options: &Options) {
    let store = Store::new(options);
    let handle = &store.handle;
    let plugin = plugin(handle);
    let space = Namespace { tenant: TenantId::DEFAULT, plugin };
    fill_keys(handle, plugin);
    print_reads("reads of one of 100,000 keys, nobody writes", &reads(handle, space));
    let stop = AtomicBool::new(false);
    let times = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                handle.call_blocking(list(LIST_JOBS)).unwrap();
            }
        });
        let times = reads(handle, space);
        stop.store(true, Ordering::Relaxed);
        times
    });
    print_reads("the same beside a caller that enqueues lists of 1,000", &times);
    store.end();
    for (what, kept) in [("without a key", false), ("each run with a key and a log of 200 B", true)] {
        settle(options, what, kept);
    }
}

fn plugin(handle: &Handle) -> PluginId {
    match handle.call_blocking(Command::Name(Name::of_plugin(TenantId::DEFAULT, "bench"))).unwrap() {
        Reply::Named(number) => PluginId(number),
        other => panic!("{other:?}"),
    }
}

fn key(n: usize) -> String {
    format!("counter/{n:06}")
}

fn fill_keys(handle: &Handle, plugin: PluginId) {
    fill(handle, LIST_JOBS);
    let jobs = claim(handle, (KEYS / LIST_JOBS) as u32);
    for (i, job) in jobs.iter().enumerate() {
        let write = |n| KvWrite { key: key(i * LIST_JOBS + n), expected: None, value: Some(vec![b'v'; VALUE_BYTES]) };
        let kv = Some(KvWrites { plugin, writes: (0..LIST_JOBS).map(write).collect() });
        handle.call_blocking(Command::Finish(Box::new(Finish { kv, ..completed(job) }))).unwrap();
    }
}

/// Each read takes a view of its own, as a call of a handler may come at any time.
fn reads(handle: &Handle, space: Namespace) -> Vec<Duration> {
    let read = |i: usize| {
        // All over the keys, and the same ones each time.
        let query = Query::Kv(space, key(i.wrapping_mul(7_919) % KEYS));
        let (answer, took) = timed(|| handle.snapshot().unwrap().read(&query).unwrap());
        assert!(matches!(answer, Answer::Kv(Some(value)) if value.len() == VALUE_BYTES));
        took
    };
    (0..READS).map(read).collect()
}

fn print_reads(what: &str, times: &[Duration]) {
    let sorted = sorted(times);
    let p99 = sorted[sorted.len() * 99 / 100];
    println!("kv: {what}\n  n {}, median {:.2?}, p99 {p99:.2?}; floor 20 µs", times.len(), median(times));
}

fn settle(options: &Options, what: &str, kept: bool) {
    let store = Store::new(options);
    let plugin = plugin(&store.handle);
    let jobs = options.scaled(100_000);
    fill(&store.handle, jobs);
    let mut times = Vec::new();
    let (_, took) = timed(|| {
        loop {
            let (claimed, took) = timed(|| claim(&store.handle, CLAIM_RUNS));
            if claimed.is_empty() {
                return;
            }
            times.push(took);
            finish_with(&store.handle, &claimed, |job| {
                let value = Some(vec![b'v'; VALUE_BYTES]);
                let write = KvWrite { key: key(job.id.0 as usize % KEYS), expected: None, value };
                let kv = kept.then(|| KvWrites { plugin, writes: vec![write] });
                Finish { kv, log: kept.then(|| vec![b'l'; VALUE_BYTES]), ..completed(job) }
            });
        }
    });
    report(&format!("kv: claim + settle, one caller, {what} (times: claims)"), jobs, took, &times, "none");
    store.end();
}

fn completed(job: &Job) -> Finish {
    let outcome = Outcome::Completed { output: b"{\"ok\":true}".to_vec() };
    Finish::new(RunRef { at: job.at(), run: job.run }, outcome, RunSettings::default())
}
