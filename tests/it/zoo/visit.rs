//! A visit to the zoo: every beast runs some times on a real node and a real store, a few at once, while the jobs of another
//! tenant, the canary, go on. Used by the test beside it and by `benches/zoo.rs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runner_runtime::node::{Node, NodeSettings};
use runner_runtime::operator::Operator;
use runner_runtime::wasm::folder::Registry;
use runner_runtime::wasm::{Catalog, Host, HostSettings, Manifest};
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Answer, Command, Enqueue, Name, NameClass, Query, Reply, RunRecord};
use runner_store::dir::{Create, StoreDir};
use runner_store::engine::redb::Commit;
use runner_store::handle::Writer;
use runner_store::job::outcome::OutcomeName;
use runner_store::job::{JobRef, JobSpec, TenantId};

use super::beasts::{self, Beast};
use super::guests::{RESULT, handler};

/// What the operator says: the zoo has few slots, and its beasts may stage jobs.
const OPERATOR: &str = "[tenants.canary]\n[tenants.zoo]\nconcurrency = 4\nmax.enqueue = [\"*\"]\nmax.timeout = \"30s\"\n\
                        max.host_calls = 1_000_000_000\n";
/// Canaries before the beasts come, and between two of them while they are there.
const IDLE_CANARIES: usize = 300;
const CANARY_EVERY: Duration = Duration::from_millis(5);
/// How long all beasts together may take on a machine that is busy with other things.
const DEADLINE: Duration = Duration::from_secs(600);

/// What was seen.
pub(crate) struct Visit {
    /// By beast: how its runs ended, and the latest stop behind a time-out.
    pub(crate) beasts: Vec<Seen>,
    /// From the enqueue of a canary to its recorded end, without and with beasts, sorted.
    pub(crate) idle: Vec<Duration>,
    pub(crate) busy: Vec<Duration>,
    /// How late a thread of this machine was at most that only slept while the beasts were there.
    pub(crate) sleeper_late: Duration,
    /// Open files, threads and resident bytes before the first beast and behind the last.
    pub(crate) before: Process,
    pub(crate) after: Process,
}

/// One beast's runs.
pub(crate) struct Seen {
    pub(crate) name: &'static str,
    pub(crate) ends: &'static [OutcomeName],
    pub(crate) outcomes: BTreeMap<String, usize>,
    /// The longest run beyond its time-out.
    pub(crate) late: Option<Duration>,
}

/// What this process has of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    /// Without the pictures of their data that loaded plugins keep, one each from their first run on.
    pub(crate) files: usize,
    pub(crate) threads: usize,
    pub(crate) resident_bytes: u64,
}

struct Zoo {
    store: Handle,
    writer: Writer,
    node: Node,
    zoo: TenantId,
    canary: TenantId,
}

/// Lets every beast run so many times.
pub(crate) fn visit(folder: &Path, runs: usize) -> Visit {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let beasts = beasts::all();
    runtime.block_on(async {
        let zoo = open(folder, &beasts).await;
        let idle = zoo.canaries(IDLE_CANARIES).await;
        let before = Process::now();
        let sleeper = Sleeper::start();
        let jobs = zoo.let_out(&beasts, runs).await;
        let busy = zoo.canaries_until_ended(&jobs).await;
        let sleeper_late = sleeper.stop();
        let seen = beasts.iter().enumerate().map(|(at, beast)| zoo.seen(beast, at, &jobs)).collect();
        // Whatever the last beasts held is given back once their runs are recorded.
        zoo.canaries(10).await;
        let after = Process::now();
        zoo.close().await;
        Visit { beasts: seen, idle: sorted(idle), busy: sorted(busy), sleeper_late, before, after }
    })
}

/// A thread that only sleeps: what the machine itself makes of deadlines, whoever else uses it.
struct Sleeper {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Duration>,
}

impl Sleeper {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut late = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                std::thread::sleep(CANARY_EVERY);
                late = late.max(begun.elapsed().saturating_sub(CANARY_EVERY));
            }
            late
        });
        Self { stop, thread }
    }

    fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only sleeps")
    }
}

async fn open(folder: &Path, beasts: &[Beast]) -> Zoo {
    let operator = Arc::new(Operator::read(OPERATOR, folder).expect("the configuration is right"));
    let dir = StoreDir::new(folder.join("store"));
    let engine = dir.open(Create::NewFolder, Clock::System, Commit::TwoPhase).expect("a store");
    let (store, writer) = Handle::start(Box::new(engine)).expect("a writer");
    let host = Arc::new(
        Host::new(&HostSettings { operator: Arc::clone(&operator), ..HostSettings::default() }).expect("a host"),
    );
    let mut registry = Registry::default();
    for Beast { name, guest, limits, ends } in beasts {
        // What its time does not end has plenty: on a busy machine a thousand pages took longer than 200 ms.
        let timeout = match ends.contains(&OutcomeName::TimedOut) {
            _ if limits.contains("timeout") => "",
            true => "timeout = \"200ms\"\n",
            false => "timeout = \"10s\"\n",
        };
        let manifest = format!("[limits]\n{timeout}{limits}\n[allow]\nenqueue = [\"sink\"]\n");
        let manifest = Manifest::parse(&manifest).expect("the manifest is right");
        let plugin = host.compile_for("zoo", name, guest, manifest).expect("a beast is a plugin");
        registry.add("zoo", Arc::new(plugin));
    }
    let canary = host.compile_for("canary", "canary", &handler(RESULT), Manifest::default()).expect("is a plugin");
    registry.add("canary", Arc::new(canary));
    let (zoo, canary) = (named(&store, "zoo").await, named(&store, "canary").await);
    let settings = NodeSettings { operator, ..NodeSettings::default() };
    let node = Node::start(store.clone(), Some(&dir), host, Catalog::fixed(registry), settings);
    Zoo { store, writer, node: node.await.expect("a node"), zoo, canary }
}

async fn named(store: &Handle, tenant: &str) -> TenantId {
    let name = Name { tenant: TenantId::NONE, class: NameClass::Tenant, name: tenant.to_owned() };
    store.call(Command::Name(name)).await.expect("a reply");
    store.tenant_id(tenant).expect("it was named")
}

impl Zoo {
    async fn enqueue(&self, tenant: TenantId, jobs: Vec<JobSpec>) -> Vec<JobRef> {
        match self.store.call(Command::Enqueue(Enqueue::new(tenant, jobs))).await.expect("a reply") {
            Reply::Enqueued(jobs) => jobs.iter().map(|job| JobRef { tenant, job: job.id }).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// One canary: from its enqueue to its recorded end.
    async fn canary(&self) -> Duration {
        let began = Instant::now();
        let at = self.enqueue(self.canary, vec![JobSpec::new("canary", "{}")]).await[0];
        let ended = self.store.board().wait_for(at);
        if !self.is_final(at) {
            tokio::time::timeout(DEADLINE, ended).await.expect("a canary ends").expect("the store lives");
        }
        began.elapsed()
    }

    async fn canaries(&self, n: usize) -> Vec<Duration> {
        let mut times = Vec::with_capacity(n);
        for _ in 0..n {
            times.push(self.canary().await);
        }
        times
    }

    /// All runs of all beasts, taking turns, so that different ones meet. Nothing is tried again.
    async fn let_out(&self, beasts: &[Beast], runs: usize) -> Vec<JobRef> {
        let round =
            || beasts.iter().map(|beast| JobSpec { max_attempts: Some(1), ..JobSpec::new(beast.name, r#"{"n":1}"#) });
        self.enqueue(self.zoo, (0..runs).flat_map(|_| round()).collect()).await
    }

    async fn canaries_until_ended(&self, jobs: &[JobRef]) -> Vec<Duration> {
        let (began, mut left, mut times) = (Instant::now(), jobs.len(), Vec::new());
        while left > 0 {
            assert!(began.elapsed() < DEADLINE, "{left} beasts are still there");
            times.push(self.canary().await);
            // What is asked of the store is asked of the machine that is measured: only the last ones, most of the time.
            while left > 0 && self.is_final(jobs[left - 1]) {
                left -= 1;
            }
            tokio::time::sleep(CANARY_EVERY).await;
        }
        times
    }

    fn is_final(&self, at: JobRef) -> bool {
        let view = self.store.snapshot().expect("a view");
        matches!(view.read(&Query::Job(at)), Ok(Answer::Job(Some(job))) if job.state.name().is_final())
    }

    fn runs(&self, at: JobRef) -> Vec<RunRecord> {
        let view = self.store.snapshot().expect("a view");
        match view.read(&Query::Runs(at)).expect("it can be read") {
            Answer::Runs(runs) => runs,
            other => panic!("{other:?}"),
        }
    }

    fn seen(&self, beast: &Beast, at: usize, jobs: &[JobRef]) -> Seen {
        let (mut outcomes, mut late) = (BTreeMap::new(), None);
        for job in jobs.iter().skip(at).step_by(beasts::all().len()) {
            for run in self.runs(*job) {
                *outcomes.entry(run.outcome.as_str().to_owned()).or_default() += 1;
                if run.outcome == OutcomeName::TimedOut {
                    let took = run.finished_at.since(run.started_at.expect("it was started"));
                    late = late.max(Some(Duration::from(took).saturating_sub(Duration::from_millis(200))));
                }
            }
        }
        Seen { name: beast.name, ends: beast.ends, outcomes, late }
    }

    async fn close(self) {
        let Self { store, writer, node, .. } = self;
        node.drain();
        node.stopped().await;
        drop(store);
        tokio::task::spawn_blocking(move || writer.join()).await.expect("the writer ends");
    }
}

impl Process {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux says");
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("Linux says");
            line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
        };
        let fds = std::fs::read_dir("/proc/self/fd").expect("Linux says").flatten();
        let opened = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        let files = opened.filter(|file| !file.to_string_lossy().contains("memfd:wasm-memory-image")).count();
        Self { files, threads: number("Threads:") as usize, resident_bytes: number("VmRSS:") * 1024 }
    }
}

fn sorted(mut times: Vec<Duration>) -> Vec<Duration> {
    times.sort_unstable();
    times
}

/// The time at this share of a sorted list.
pub(crate) fn at(times: &[Duration], permille: usize) -> Duration {
    times[((times.len() - 1) * permille) / 1_000]
}

impl Seen {
    /// Whether each of so many jobs ran once and ended as this beast must.
    pub(crate) fn is_as_expected(&self, runs: usize) -> bool {
        let expected = |outcome: &String| self.ends.iter().any(|end| end.as_str() == outcome);
        self.outcomes.values().sum::<usize>() == runs && self.outcomes.keys().all(expected)
    }
}

impl Visit {
    /// The table: behaviour, how it ended, what it did to its host.
    pub(crate) fn print(&self) {
        println!("| behaviour | outcomes | stopped after its time-out by at most |\n|---|---|---|");
        for Seen { name, outcomes, late, .. } in &self.beasts {
            let outcomes: Vec<_> = outcomes.iter().map(|(outcome, n)| format!("{n} × {outcome}")).collect();
            println!(
                "| {name} | {} | {} |",
                outcomes.join(", "),
                late.map_or_else(String::new, |late| format!("{late:?}"))
            );
        }
        for (what, times) in [("idle", &self.idle), ("beside the beasts", &self.busy)] {
            let n = times.len();
            println!(
                "canary, {what}: n {n}, median {:?}, p99 {:?}, at most {:?}",
                at(times, 500),
                at(times, 990),
                at(times, 1_000)
            );
        }
        println!("a thread that only slept meanwhile was late by at most {:?}", self.sleeper_late);
        println!("host before {:?}, after {:?}", self.before, self.after);
    }
}
