//! What does scheduling cost where there is much to choose from, and what does a small tenant wait beside a large one?
//!
//! `cargo bench -p runner --bench scheduler -- [decide] [lanes] [schedules] [neighbours]`; all four without a word.
//! `decide`: a job in each of 30,000 lanes of 10,000 tenants goes through the pure core. `lanes`: what a lane holds that has
//! had jobs and has none. `schedules`: what a node costs that has 100,000 schedules and nothing to do. `neighbours`: one
//! tenant has a million jobs queued, another enqueues ten a second; every job is durable and has a fresh sandbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_runtime::node::{Node, NodeSettings};
use runner_runtime::scheduler::core::{Action, Claimed, Core, Event, Moment, Serves, Take};
use runner_runtime::schedules::Schedules;
use runner_runtime::wasm::folder::Registry;
use runner_runtime::wasm::{Catalog, Host, HostSettings, Manifest};
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Answer, Command, Enqueue, Lane, Name, Query, Reply, RunRef, ScheduleCall, ScheduleVerb};
use runner_store::index::Order;
use runner_store::job::{
    JobId, JobRef, JobSpec, KindId, Millis, Priority, QueueId, QueueOrder, RunNumber, StateName, TenantId, Time,
};
use runner_store::schedule::{CatchUp, Overlap, Plan, SCHEDULES_MAX, ScheduleRef, Source, When};

mod clock;

/// Tenants of `decide`, and the kinds of each.
const TENANTS: u32 = 10_000;
const KINDS: u32 = 3;
/// How often each lane gets another job.
const TURNS: usize = 5;
/// Lanes of `lanes`.
const IDLE_LANES: u32 = 1_000_000;
const SCHEDULES: u64 = 100_000;
/// For how long the node of `schedules` is looked at.
const IDLE: Duration = Duration::from_secs(60);
/// What the large tenant has queued, a million and as many as a quick node runs meanwhile; and what the small one enqueues, how
/// often.
const QUEUED: usize = 1_500_000;
const SMALL_JOBS: usize = 300;
const SMALL_EVERY: Duration = Duration::from_millis(100);
const LIST: usize = 1_000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |word: &str| words.is_empty() || words.iter().any(|given| given == word);
    println!("hardware: {} threads", std::thread::available_parallelism().map_or(1, usize::from));
    if wanted("decide") {
        decide();
    }
    if wanted("lanes") {
        lanes();
    }
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    if wanted("schedules") {
        runtime.block_on(schedules());
    }
    if wanted("neighbours") {
        runtime.block_on(neighbours());
    }
}

fn lane(n: u32) -> Lane {
    let (tenant, kind) = (n / KINDS + 1, n % KINDS + 1);
    Lane::new(TenantId(tenant), QueueId(tenant), KindId(tenant * KINDS + kind))
}

fn at(ms: u64) -> Moment {
    Moment { wall: Time(ms), uptime: Millis(ms) }
}

/// What a store would answer to a claim, and the notices of it: a job is known by its lane's number.
fn claimed(takes: &[Take], next: &mut u64, answer: fn(Vec<Claimed>) -> Event) -> Vec<Event> {
    let (mut runs, mut notices) = (Vec::new(), Vec::new());
    for take in takes {
        let mut left = take.max;
        for grant in &take.grants {
            for _ in 0..grant.max.min(left).min(1) {
                *next += 1;
                let order = Order::new(QueueOrder::Priority, Priority(0), Time(0), JobId(*next));
                let run = RunRef { at: JobRef { tenant: grant.lane.tenant, job: JobId(*next) }, run: RunNumber(1) };
                runs.push(Claimed { run, lane: grant.lane, order, args_bytes: 0, alone: false });
                notices.push(Event::Available { lane: grant.lane, difference: -1 });
                left -= 1;
            }
        }
    }
    notices.push(answer(runs));
    notices
}

/// Every lane has one job at a time; whatever starts ends at the next call.
fn decide() {
    let serves = Some(Serves { memory_bytes: 64 << 20, batch: None, external: false });
    let mut core = Core::new(16, 1 << 40);
    let jobs = (TENANTS * KINDS) as usize;
    let news = (0..TENANTS * KINDS)
        .flat_map(|n| [Event::Served { lane: lane(n), by: serves }, Event::Available { lane: lane(n), difference: 1 }]);
    let begun = Instant::now();
    let mut actions = core.handle_all(news, at(0));
    println!("decide: {jobs} lanes of {TENANTS} tenants became known in {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    let (mut next, mut started, mut longest, mut ms) = (0, 0, Duration::ZERO, 0);
    let (mut spent, mut calls) = (Duration::ZERO, 0);
    while started < jobs * TURNS {
        let mut events = Vec::new();
        for action in std::mem::take(&mut actions) {
            match action {
                Action::Claim(takes) => events.extend(claimed(&takes, &mut next, Event::Claimed)),
                Action::ClaimBeside(takes) => events.extend(claimed(&takes, &mut next, Event::ClaimedBeside)),
                Action::Start { run, .. } => {
                    started += 1;
                    events.push(Event::Ended { run, fuel: 100_000, took: Duration::from_micros(50) });
                }
                Action::HandBack(_)
                | Action::End(_)
                | Action::Interrupt(_)
                | Action::Nothing(_)
                | Action::Expire(_)
                | Action::Due => {}
            }
        }
        // Whoever was served has another job.
        let again = events.iter().filter_map(|event| match event {
            Event::Available { lane, .. } => Some(Event::Available { lane: *lane, difference: 1 }),
            _ => None,
        });
        let again: Vec<Event> = again.collect();
        events.extend(again);
        assert!(!events.is_empty(), "nothing is ever idle with so many jobs");
        ms += 1;
        let begun = Instant::now();
        actions = core.handle_all(events, at(ms));
        let took = begun.elapsed();
        (spent, calls, longest) = (spent + took, calls + 1, longest.max(took));
    }
    println!(
        "decide: {:.2} µs a job that starts (floor: 5 µs; n {started}, {calls} calls, the longest {:.2} ms)",
        spent.as_secs_f64() * 1e6 / started as f64,
        longest.as_secs_f64() * 1e3
    );
}

fn lanes() {
    let serves = Some(Serves { memory_bytes: 64 << 20, batch: None, external: false });
    // A hundred lanes a tenant.
    let lane = |n: u32| Lane::new(TenantId(n / 100 + 1), QueueId(n / 10 + 1), KindId(n + 1));
    let before = resident_bytes();
    let mut core = Core::new(16, 1 << 40);
    for n in 0..IDLE_LANES {
        core.handle(Event::Served { lane: lane(n), by: serves }, at(0));
        core.handle_all([1, -1].map(|difference| Event::Available { lane: lane(n), difference }), at(0));
    }
    let after = resident_bytes();
    println!(
        "lanes: {} B each that is idle, in the core (floor: 200 B; n {IDLE_LANES}, of resident memory)",
        (after - before) / u64::from(IDLE_LANES)
    );
    drop(core);
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("a process of Linux");
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number");
    pages * 4_096
}

/// Processor time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a process of Linux");
    let after_name = stat.rsplit_once(") ").expect("a name in brackets").1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|word| word.parse::<u64>().expect("ticks"));
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

async fn tenant(store: &Handle, name: String) -> TenantId {
    match store.call(Command::Name(Name::of_tenant(name))).await.expect("a reply") {
        Reply::Named(id) => TenantId(id),
        other => panic!("{other:?}"),
    }
}

async fn schedules() {
    let dir = tempfile::tempdir_in(".").expect("a folder on the disk that is measured");
    let (store, writer, store_dir) = clock::open(dir.path());
    for n in 0..SCHEDULES.div_ceil(SCHEDULES_MAX) {
        let tenant = tenant(&store, format!("tenant-{n}")).await;
        let calls: Vec<_> = (0..SCHEDULES_MAX).map(|m| store.call(schedule(tenant, n, m))).collect();
        for call in calls {
            assert!(!matches!(call.await.expect("a reply"), Reply::Rejected(_)), "a schedule was refused");
        }
    }
    let host = Arc::new(Host::new(&HostSettings::default()).expect("a host"));
    let plugins = Catalog::fixed(Registry::default());
    let begun = cpu();
    let node = Node::start(store.clone(), Some(&store_dir), host, plugins.clone(), NodeSettings::default());
    let node = node.await.expect("a node");
    let schedules = Schedules::start(&store, &plugins, &Clock::System);
    tokio::time::sleep(Duration::from_secs(10)).await;
    println!("schedules: {SCHEDULES} read within {:?} of processor time", cpu() - begun);
    let (begun, spent) = (Instant::now(), cpu());
    tokio::time::sleep(IDLE).await;
    println!(
        "schedules: {:.2} % of a core for {SCHEDULES} that wait, none due (floor: 0.5 %; {:?} in {:?})",
        (cpu() - spent).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0,
        cpu() - spent,
        begun.elapsed()
    );
    schedules.stop().await;
    node.drain();
    node.stopped().await;
    drop(store);
    tokio::task::block_in_place(|| writer.join());
}

/// Every day at a minute of its own, at least an hour from now: none comes while it is measured.
fn schedule(tenant: TenantId, n: u64, m: u64) -> Command {
    let minute = (clock::now().as_secs() / 60 + 60 + (n * SCHEDULES_MAX + m) % 1_200) % 1_440;
    let cron = format!("{} {} * * *", minute % 60, minute / 60);
    let when = When::Cron { cron, zone: "Etc/UTC".to_owned() };
    let job = JobSpec::new("bench.none", "null");
    let plan = Plan { when, overlap: Overlap::Skip, catch_up: CatchUp::One, deadline: None, job };
    let at = ScheduleRef { tenant, name: format!("s{m}") };
    Command::Schedule(Box::new(ScheduleCall { at, verb: ScheduleVerb::Create(plan, Source::Api) }))
}

async fn neighbours() {
    let dir = tempfile::tempdir_in(".").expect("a folder on the disk that is measured");
    let (store, writer, store_dir) = clock::open(dir.path());
    let host = Arc::new(Host::new(&HostSettings::default()).expect("a host"));
    let guest = wat::parse_str(clock::CLOCK).expect("valid text");
    let mut registry = Registry::default();
    let (large, small) = (tenant(&store, "large".to_owned()).await, tenant(&store, "small".to_owned()).await);
    for name in ["large", "small"] {
        let plugin = host.compile("bench.clock", &guest, Manifest::default()).expect("a plugin");
        registry.add(name, Arc::new(plugin));
    }
    for _ in 0..QUEUED / LIST {
        let jobs = vec![JobSpec::new("bench.clock", "null"); LIST];
        store.call(Command::Enqueue(Enqueue::new(large, jobs))).await.expect("a reply");
    }
    let plugins = Catalog::fixed(registry);
    let node = Node::start(store.clone(), Some(&store_dir), host, plugins, NodeSettings::default());
    let node = node.await.expect("a node");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut waits = Vec::new();
    for _ in 0..SMALL_JOBS {
        let next = Instant::now() + SMALL_EVERY;
        waits.push(wait_of(&store, small).await);
        tokio::time::sleep_until(next.into()).await;
    }
    let durable: Vec<Duration> = waits.iter().map(|(durable, _)| *durable).collect();
    let queued: Vec<Duration> = waits.iter().map(|(durable, started)| started.saturating_sub(*durable)).collect();
    let waits: Vec<Duration> = waits.iter().map(|(_, started)| *started).collect();
    let ms = |times: &[Duration], q: f64| {
        let mut times = times.to_vec();
        times.sort_unstable();
        times[((times.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e3
    };
    let at = |q: f64| ms(&waits, q);
    let left = available(&store, large);
    assert!(left > 0, "the large tenant ran out of jobs; nothing was measured");
    for (what, times) in [("until a small tenant's enqueue is durable", &durable), ("from then to its start", &queued)]
    {
        let [median, p99, longest] = [0.5, 0.99, 1.0].map(|q| ms(times, q));
        println!("neighbours: {what}: median {median:.2} ms, p99 {p99:.2} ms, longest {longest:.2} ms");
    }
    println!(
        "neighbours: from a small tenant's enqueue to its handler's start: median {:.2} ms, p99 {:.2} ms, longest {:.2} ms \
         (n {SMALL_JOBS}); the other tenant had {QUEUED} jobs, {left} of them are left; the longest run took {:.2} ms \
         (floor: p99 ≤ 2 × that + 20 ms)",
        at(0.5),
        at(0.99),
        at(1.0),
        longest_run(&store, large, QUEUED as u64 - left).as_secs_f64() * 1e3
    );
    node.drain();
    node.stopped().await;
    drop(store);
    tokio::task::block_in_place(|| writer.join());
}

/// From before the enqueue is asked for until it is durable, and to the handler's start.
async fn wait_of(store: &Handle, tenant: TenantId) -> (Duration, Duration) {
    let before = clock::now();
    let command = Command::Enqueue(Enqueue::new(tenant, vec![JobSpec::new("bench.clock", "null")]));
    let Reply::Enqueued(jobs) = store.call(command).await.expect("a reply") else { panic!("not enqueued") };
    let durable = clock::now().saturating_sub(before);
    let started = clock::begun(store, JobRef { tenant, job: jobs[0].id }).await.saturating_sub(before);
    (durable, started)
}

fn available(store: &Handle, tenant: TenantId) -> u64 {
    let view = store.snapshot().expect("a view");
    let Ok(Answer::Counts(counts)) = view.read(&Query::Counts) else { panic!("counts") };
    let of = counts.iter().filter(|(key, _)| key.lane.tenant == tenant && key.state == StateName::Available);
    of.map(|(_, n)| *n).sum()
}

/// By the records of the jobs that ran last, of so many that did: the first ones' may be gone.
fn longest_run(store: &Handle, tenant: TenantId, ran: u64) -> Duration {
    let view = store.snapshot().expect("a view");
    let ran = (ran.saturating_sub(20_000)..=ran).filter_map(|job| {
        let Ok(Answer::Runs(runs)) = view.read(&Query::Runs(JobRef { tenant, job: JobId(job) })) else { return None };
        runs.iter().filter_map(|run| Some(Duration::from_millis(run.finished_at.since(run.started_at?).0))).max()
    });
    ran.max().expect("it ran jobs")
}
