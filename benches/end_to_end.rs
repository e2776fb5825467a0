//! How many jobs a second a whole node runs, each in a fresh sandbox and durable at every step; and how long an idle node
//! takes from an enqueue to the handler's start.
//!
//! `cargo bench -p runner --bench end_to_end` after `plugins/build`; `-- N` for another number of jobs than 100,000.
//! The jobs are `demo.echo` (a Rust component that returns its args); enqueue, claim and outcome are each recorded
//! with the default commit (two phases, two fsyncs), events, counts and run records included.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_runtime::node::{Node, NodeSettings};
use runner_runtime::wasm::folder::{self, TENANT_DEFAULT};
use runner_runtime::wasm::{Catalog, Host, HostSettings, Manifest};
use runner_store::Handle;
use runner_store::command::{Answer, Command, Enqueue, Query, Reply};
use runner_store::job::{JobId, JobRef, JobSpec, StateName, TenantId};

mod clock;

/// Jobs a list.
const LIST: usize = 1_000;
/// Single enqueues on an idle node.
const SINGLES: usize = 500;

fn main() {
    let jobs = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(100_000);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist");
    let host = Arc::new(Host::new(&HostSettings::default()).expect("a host"));
    let (mut registry, _) = folder::load(&host, &folder, &|_| false).expect("handlers: run plugins/build first");
    let clock = wat::parse_str(clock::CLOCK).expect("valid text");
    let clock = host.compile("bench.clock", &clock, Manifest::default()).expect("a plugin");
    registry.add(TENANT_DEFAULT, Arc::new(clock));
    let catalog = Catalog::fixed(registry);
    println!("{}", hardware());
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(burn_down(jobs, &host, &catalog));
    runtime.block_on(latency(&host, &catalog));
}

fn hardware() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, m)| m.to_owned()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("hardware: {cores} cores, {}", model.unwrap_or_else(|| "unknown".to_owned()))
}

/// Enqueues all jobs first, then starts a node and waits until none is left.
async fn burn_down(jobs: usize, host: &Arc<Host>, plugins: &Arc<Catalog>) {
    let dir = tempfile::tempdir_in(".").expect("a folder on the disk that is measured");
    let (store, writer, store_dir) = clock::open(dir.path());
    let args = format!(r#"{{"text":"{}"}}"#, "x".repeat(180));
    let begun = Instant::now();
    for _ in 0..jobs.div_ceil(LIST) {
        enqueue(&store, vec![JobSpec::new("demo.echo", args.clone()); LIST]).await;
    }
    let jobs = jobs.div_ceil(LIST) * LIST;
    rate("durable enqueue, lists of 1,000", jobs, begun.elapsed());

    let begun = Instant::now();
    let node = Node::start(store.clone(), Some(&store_dir), host.clone(), plugins.clone(), NodeSettings::default());
    let node = node.await.expect("a node");
    let mut done = 0;
    while done < jobs {
        tokio::time::sleep(Duration::from_millis(20)).await;
        done = count(&store, StateName::Completed);
    }
    rate("end to end, a fresh sandbox a job, burn-down", jobs, begun.elapsed());
    node.drain();
    node.stopped().await;
    drop(store);
    tokio::task::block_in_place(|| writer.join());
}

/// One job at a time on an idle node.
async fn latency(host: &Arc<Host>, plugins: &Arc<Catalog>) {
    let dir = tempfile::tempdir_in(".").expect("a folder on the disk that is measured");
    let (store, writer, store_dir) = clock::open(dir.path());
    let node = Node::start(store.clone(), Some(&store_dir), host.clone(), plugins.clone(), NodeSettings::default());
    let node = node.await.expect("a node");
    let (mut commits, mut starts) = (Vec::new(), Vec::new());
    for _ in 0..SINGLES {
        let before = clock::now();
        let begun = Instant::now();
        let id = enqueue(&store, vec![JobSpec::new("bench.clock", "null")]).await;
        commits.push(begun.elapsed());
        let at = JobRef { tenant: TenantId::DEFAULT, job: id };
        starts.push(clock::begun(&store, at).await.saturating_sub(before));
    }
    let (commit, start) = (
        spread("durable enqueue, one job, idle (a commit)", commits),
        spread("enqueue → handler starts, idle", starts),
    );
    println!(
        "  start − 2 commits, of the medians: {:.3} ms (floor: 1 ms)",
        (start.as_secs_f64() - 2.0 * commit.as_secs_f64()) * 1e3
    );
    node.drain();
    node.stopped().await;
    drop(store);
    tokio::task::block_in_place(|| writer.join());
}

async fn enqueue(store: &Handle, jobs: Vec<JobSpec>) -> JobId {
    let command = Command::Enqueue(Enqueue::new(TenantId::DEFAULT, jobs));
    match store.call(command).await.expect("a reply") {
        Reply::Enqueued(jobs) => jobs[0].id,
        other => panic!("{other:?}"),
    }
}

fn count(store: &Handle, state: StateName) -> usize {
    let view = store.snapshot().expect("a view");
    let Ok(Answer::Counts(counts)) = view.read(&Query::Counts) else { panic!("counts") };
    counts.iter().filter(|(key, _)| key.state == state).map(|(_, n)| usize::try_from(*n).unwrap_or(0)).sum()
}

fn rate(what: &str, n: usize, took: Duration) {
    println!("{what}: {:.0} jobs/s (n {n}, {:.2} s)", n as f64 / took.as_secs_f64(), took.as_secs_f64());
}

/// Prints median and p99; answers with the median.
fn spread(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
    println!(
        "{what}: median {:.3} ms, p99 {:.3} ms (n {})",
        at(0.5).as_secs_f64() * 1e3,
        at(0.99).as_secs_f64() * 1e3,
        times.len()
    );
    at(0.5)
}
