//! What the store costs: durable enqueues in lists and one by one, claims with finishes but without handlers, claims with
//! many jobs queued, opening after a kill; cascades, sweeps and a long time of both; plugins' keys. Two-phase commits,
//! events, counts and run records included.
//!
//! ```text
//! cargo bench -p runner-store --bench store -- [QUESTION…] [--scale PERCENT] [--dir DIR]
//! ```
//! Questions: `lists`, `singles`, `settle`, `depth`, `open`, `cascade`, `sweep`, `churn`, `kv`; all if none is named.
//! `--scale 10` runs a tenth of the jobs, `depth --scale 1000` claims from ten million.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has no result")]

mod keeping;
mod kv;
mod measure;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Claim, Command, Enqueue, Finish, Grant, Lane, Reply, RunRef};
use runner_store::dir::{Create, StoreDir};
use runner_store::engine::redb::Commit;
use runner_store::handle::Writer;
use runner_store::job::{BootId, Job, JobSpec, Outcome, RunSettings, TenantId};

use crate::measure::{median, print_disk, print_hardware, report, timed};

const ARGS_BYTES: usize = 200;
const LIST_JOBS: usize = 1_000;
const CALLERS: usize = 256;
const CLAIM_RUNS: u32 = 1_024;
/// Where the process that is to be killed finds its store.
const VICTIM: &str = "RUNNER_BENCH_VICTIM";

struct Options {
    questions: Vec<String>,
    percent: usize,
    dir: PathBuf,
}

fn main() {
    let options = Options::parse();
    if let Some(dir) = std::env::var_os(VICTIM) {
        return fill_and_die(Path::new(&dir), options.scaled(1_000_000));
    }
    print_hardware(&options.dir);
    let asked = |question: &str| options.questions.is_empty() || options.questions.iter().any(|q| q == question);
    if asked("lists") {
        lists(&options);
    }
    if asked("singles") {
        singles(&options);
    }
    if asked("settle") {
        settle(&options);
    }
    if asked("depth") {
        depth(&options);
    }
    if asked("open") {
        open(&options);
    }
    if asked("cascade") {
        keeping::cascade(&options);
    }
    if asked("sweep") {
        keeping::sweep(&options);
    }
    if asked("churn") {
        keeping::churn(&options);
    }
    if asked("kv") {
        kv::kv(&options);
    }
    // Disks have moods, and most of these figures follow them.
    print_disk(&options.dir);
}

impl Options {
    fn parse() -> Self {
        let mut options = Self { questions: Vec::new(), percent: 100, dir: std::env::temp_dir() };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--scale" => options.percent = args.next().unwrap().parse().unwrap(),
                "--dir" => options.dir = args.next().unwrap().into(),
                // What cargo adds.
                "--bench" => {}
                question => options.questions.push(question.to_owned()),
            }
        }
        options
    }

    fn scaled(&self, jobs: usize) -> usize {
        (jobs * self.percent / 100).max(LIST_JOBS)
    }
}

/// A store in a folder that vanishes with it.
struct Store {
    handle: Handle,
    writer: Writer,
    dir: tempfile::TempDir,
}

impl Store {
    fn new(options: &Options) -> Self {
        let dir = tempfile::tempdir_in(&options.dir).unwrap();
        let (handle, writer) = start(&dir.path().join("store"), Create::NewFolder);
        Self { handle, writer, dir }
    }

    fn end(self) {
        drop(self.handle);
        self.writer.join();
    }

    fn file_bytes(&self) -> u64 {
        std::fs::metadata(self.dir.path().join("store/jobs.redb")).unwrap().len()
    }

    /// Bytes of the file when it is closed, and of what is in it.
    fn end_and_measure(self) -> (u64, u64) {
        let dir = self.dir;
        drop(self.handle);
        self.writer.join();
        let path = dir.path().join("store");
        let file = std::fs::metadata(path.join("jobs.redb")).unwrap().len();
        let engine = StoreDir::new(&path).open(Create::No, Clock::System, Commit::TwoPhase).unwrap();
        (file, engine.live().stats().unwrap().live_bytes())
    }
}

fn start(dir: &Path, create: Create) -> (Handle, Writer) {
    let engine = StoreDir::new(dir).open(create, Clock::System, Commit::TwoPhase).unwrap();
    Handle::start(Box::new(engine)).unwrap()
}

fn list(jobs: usize) -> Command {
    let spec = JobSpec::new("bench.work", vec![b'x'; ARGS_BYTES]);
    Command::Enqueue(Enqueue::new(TenantId::DEFAULT, vec![spec; jobs]))
}

fn fill(handle: &Handle, jobs: usize) {
    for _ in 0..jobs / LIST_JOBS {
        handle.call_blocking(list(LIST_JOBS)).unwrap();
    }
}

/// Lists of 1,000 from two callers, so that one prepares while the other's commit is written, as over HTTP.
fn lists(options: &Options) {
    let store = Store::new(options);
    let jobs = options.scaled(500_000);
    fill(&store.handle, LIST_JOBS);
    let caller = || {
        let lists: Vec<Command> = (0..jobs / LIST_JOBS / 2).map(|_| list(LIST_JOBS)).collect();
        move |handle: Handle| lists.into_iter().map(|list| timed(|| handle.call_blocking(list).unwrap()).1).collect()
    };
    let callers: Vec<_> = (0..2).map(|_| caller()).collect();
    let (times, took) = timed(|| at_once(&store.handle, callers));
    report("durable enqueue, lists of 1,000", times.len() * LIST_JOBS, took, &times, "80 k/s");
    store.end();
}

fn singles(options: &Options) {
    let store = Store::new(options);
    fill(&store.handle, LIST_JOBS);
    let each = options.scaled(100_000) / CALLERS;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (times, took) = timed(|| {
        runtime.block_on(async {
            let caller = |handle: Handle| async move {
                let mut times = Vec::with_capacity(each);
                for _ in 0..each {
                    let start = Instant::now();
                    handle.call(list(1)).await.unwrap();
                    times.push(start.elapsed());
                }
                times
            };
            let tasks: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(caller(store.handle.clone()))).collect();
            let mut all = Vec::new();
            for task in tasks {
                all.extend(task.await.unwrap());
            }
            all
        })
    });
    report("durable enqueue, 256 concurrent single calls", times.len(), took, &times, "15 k/s");
    store.end();
}

/// Two callers, each of which claims 1,024 and finishes them, while the other does the same.
fn settle(options: &Options) {
    let store = Store::new(options);
    let jobs = options.scaled(200_000);
    fill(&store.handle, jobs);
    let worker = |_| {
        |handle: Handle| {
            let mut times = Vec::new();
            loop {
                let (claimed, took) = timed(|| claim(&handle, CLAIM_RUNS));
                if claimed.is_empty() {
                    return times;
                }
                times.push(took);
                finish(&handle, &claimed);
            }
        }
    };
    let workers: Vec<_> = (0..2).map(worker).collect();
    let (times, took) = timed(|| at_once(&store.handle, workers));
    report("claim + settle, claims of 1,024 (times: claims)", jobs, took, &times, "40 k/s");
    store.end();
}

fn lane(handle: &Handle) -> Lane {
    Lane::new(
        TenantId::DEFAULT,
        handle.queue_id(TenantId::DEFAULT, "default").unwrap(),
        handle.kind_id(TenantId::DEFAULT, "bench.work").unwrap(),
    )
}

fn claim(handle: &Handle, max: u32) -> Vec<std::sync::Arc<Job>> {
    let grants = vec![Grant { lane: lane(handle), max }];
    match handle.call_blocking(Command::Claim(Claim { holder: BootId(1), max, grants })).unwrap() {
        Reply::Claimed(jobs) => jobs,
        other => panic!("{other:?}"),
    }
}

/// Each finish is a call of its own; all are under way at once, as from as many handlers.
fn finish(handle: &Handle, jobs: &[std::sync::Arc<Job>]) {
    finish_with(handle, jobs, |job| {
        let outcome = Outcome::Completed { output: b"{\"ok\":true}".to_vec() };
        Finish::new(RunRef { at: job.at(), run: job.run }, outcome, RunSettings::default())
    });
}

fn finish_with(handle: &Handle, jobs: &[std::sync::Arc<Job>], finish: impl Fn(&Job) -> Finish) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let call = |job: &Job| {
            let (handle, command) = (handle.clone(), Command::Finish(Box::new(finish(job))));
            tokio::spawn(async move { handle.call(command).await.unwrap() })
        };
        let calls: Vec<_> = jobs.iter().map(|job| call(job)).collect();
        for call in calls {
            call.await.unwrap();
        }
    });
}

/// The same claims with few and with many jobs queued, in turns, so that the disk's moods meet both.
fn depth(options: &Options) {
    let sizes = [10_000, options.scaled(1_000_000)];
    let stores = sizes.map(|jobs| {
        let store = Store::new(options);
        fill(&store.handle, jobs);
        store
    });
    for (max, claims) in [(1, 400), (CLAIM_RUNS, 8)] {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..claims {
            for (store, times) in stores.iter().zip(&mut times) {
                times.push(timed(|| claim(&store.handle, max)).1);
            }
        }
        for (jobs, times) in sizes.iter().zip(&times) {
            let took = times.iter().sum();
            report(&format!("claims of {max}, {jobs} queued"), claims * max as usize, took, times, "none");
        }
        let ratio = median(&times[1]).as_secs_f64() / median(&times[0]).as_secs_f64();
        println!("  with many queued a claim costs {ratio:.2} ×; floor 2 ×");
    }
    stores.into_iter().for_each(Store::end);
}

/// How long a store takes to open after its process was killed.
fn open(options: &Options) {
    let dir = tempfile::tempdir_in(&options.dir).unwrap();
    let store = dir.path().join("store");
    let ended = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--scale", &options.percent.to_string()])
        .env(VICTIM, &store)
        .status()
        .unwrap();
    assert_eq!(ended.signal(), Some(9), "it was killed");
    let bytes = std::fs::metadata(store.join("jobs.redb")).unwrap().len();
    let ((handle, writer), took) = timed(|| start(&store, Create::No));
    let (claimed, claim_took) = timed(|| claim(&handle, 64));
    assert_eq!(claimed.len(), 64);
    println!("open after kill -9, {} jobs, {} MB", options.scaled(1_000_000), bytes / 1_000_000);
    println!("  open {took:.0?}, then the first claim {claim_took:.1?}; floor: 3 s to the first run");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or(" unknown");
    println!("  resident memory now {}; floor 400 MiB (alone, as `-- open`)", resident.trim());
    drop(handle);
    writer.join();
}

fn fill_and_die(dir: &Path, jobs: usize) {
    let (handle, _writer) = start(dir, Create::NewFolder);
    fill(&handle, jobs);
    let me = std::process::id().to_string();
    std::process::Command::new("kill").args(["-9", &me]).status().unwrap();
    std::thread::park();
}

/// Runs every job in a thread of its own; answers all their times.
fn at_once<F>(handle: &Handle, jobs: Vec<F>) -> Vec<Duration>
where
    F: FnOnce(Handle) -> Vec<Duration> + Send,
{
    std::thread::scope(|scope| {
        let threads: Vec<_> = jobs.into_iter().map(|job| scope.spawn(|| job(handle.clone()))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}
