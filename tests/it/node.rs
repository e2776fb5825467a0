//! A node over a store that a test can break: what it leaves for the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runner_runtime::node::{Node, NodeSettings, NodeState};
use runner_runtime::operator::Operator;
use runner_runtime::wasm::folder::{Registry, TENANT_DEFAULT};
use runner_runtime::wasm::{Catalog, Host, HostSettings, Manifest};
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Answer, Command, Enqueue, Query, Reply, RunRecord};
use runner_store::dir::StoreDir;
use runner_store::engine::memory::Memory;
use runner_store::engine::{Change, Engine, Needs, Persisted, Reader, WorkingSet};
use runner_store::error::StoreError;
use runner_store::job::outcome::OutcomeName;
use runner_store::job::{JobRef, JobSpec, StateName, TenantId};
use runner_store::slots;

use crate::sandbox::guests::{RESULT, handler};

/// What a condition may take that a busy machine is late with.
const DEADLINE: Duration = Duration::from_secs(30);

/// An engine whose commits fail once it is told to.
struct Failing {
    memory: Memory,
    fails: Arc<AtomicBool>,
}

impl Engine for Failing {
    fn prefetch(&mut self, needs: &Needs) -> Result<WorkingSet, StoreError> {
        self.memory.prefetch(needs)
    }

    fn persist(&mut self, changes: &[Change]) -> Result<Persisted, StoreError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Engine("a planted failure".to_owned()));
        }
        self.memory.persist(changes)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.memory.reader()
    }
}

fn enqueue() -> Command {
    let jobs = vec![JobSpec::new("guest", "{}")];
    Command::Enqueue(Enqueue::new(TenantId::DEFAULT, jobs))
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The story: a disk failed under a node three times in a row. Each time the runs that it left counted as crashed, and in
/// the end jobs that had done nothing wrong were poison.
#[test]
fn runs_of_a_store_that_failed_did_not_crash() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = StoreDir::new(dir.path());
    let fails = Arc::new(AtomicBool::new(false));
    let engine = Failing { memory: Memory::new(Clock::System), fails: Arc::clone(&fails) };
    let (handle, writer) = Handle::start(Box::new(engine)).unwrap();
    let host = Arc::new(Host::new(&HostSettings::default()).unwrap());
    let plugin = host.compile("guest", &handler("(loop $again (br $again)) unreachable"), Manifest::parse("").unwrap());
    let mut plugins = Registry::default();
    plugins.add(TENANT_DEFAULT, Arc::new(plugin.unwrap()));
    let started = || slots::previous(&store.slots()).unwrap().unwrap().started.len();
    runtime.block_on(async {
        let plugins = Catalog::fixed(plugins);
        let node = Node::start(handle.clone(), Some(&store), host, plugins, NodeSettings::default());
        let node = node.await.unwrap();
        handle.call(enqueue()).await.unwrap();
        wait_until("the run's start", || started() == 1);
        fails.store(true, Ordering::SeqCst);
        assert!(handle.call(enqueue()).await.is_err());
        wait_until("the node's end", || node.state() == NodeState::Stopped);
        node.stopped().await;
    });
    assert_eq!(started(), 0, "the node has stopped itself");
    drop((runtime, handle));
    writer.join();
}

/// Takes 40 MiB of the 64 that it may have, and keeps them for a while.
const LARGE: &str = "(local $n i32) (drop (memory.grow (i32.const 624))) (local.set $n (i32.const 400000000))
    (loop $again (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))";

/// Three runs are promised 192 MiB of 96. Two of them fit as they are; the third one, when it has grown, is too much.
#[test]
fn a_node_that_promised_too_much_memory_interrupts_its_youngest_run_and_that_costs_no_attempt() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let operator = "[node]\nmemory = \"96MiB\"\novercommit = 2";
    let operator = Arc::new(Operator::read(operator, std::path::Path::new(".")).unwrap());
    let (handle, writer) = Handle::start(Box::new(Memory::new(Clock::System))).unwrap();
    let host = Arc::new(Host::new(&HostSettings::default()).unwrap());
    let plugin = host.compile("guest", &handler(&format!("{LARGE} {RESULT}")), Manifest::parse("").unwrap());
    let mut plugins = Registry::default();
    plugins.add(TENANT_DEFAULT, Arc::new(plugin.unwrap()));
    let records = runtime.block_on(async {
        let settings = NodeSettings { slots: 3, operator, ..NodeSettings::default() };
        let node = Node::start(handle.clone(), None, host, Catalog::fixed(plugins), settings).await.unwrap();
        let jobs = vec![JobSpec::new("guest", "{}"); 3];
        let Reply::Enqueued(jobs) = handle.call(Command::Enqueue(Enqueue::new(TenantId::DEFAULT, jobs))).await.unwrap()
        else {
            panic!("not enqueued")
        };
        let mut records = Vec::new();
        for at in jobs.iter().map(|job| JobRef { tenant: TenantId::DEFAULT, job: job.id }) {
            let ended = |handle: &Handle| match handle.snapshot().unwrap().read(&Query::Job(at)) {
                Ok(Answer::Job(Some(job))) => job.state.name() == StateName::Completed && job.attempts <= 1,
                _ => false,
            };
            wait_until("each job's end, at its first attempt", || ended(&handle));
            let Ok(Answer::Runs(runs)) = handle.snapshot().unwrap().read(&Query::Runs(at)) else { panic!("runs") };
            records.push(runs);
        }
        node.drain();
        node.stopped().await;
        records
    });
    let outcomes: Vec<Vec<OutcomeName>> =
        records.iter().map(|runs: &Vec<RunRecord>| runs.iter().map(|run| run.outcome).collect()).collect();
    let once = vec![OutcomeName::Completed];
    let twice = vec![OutcomeName::Interrupted, OutcomeName::Completed];
    assert_eq!(outcomes, [once.clone(), once, twice]);
    drop((runtime, handle));
    writer.join();
}
