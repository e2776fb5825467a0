//! A node over a store that a test can break: what it leaves for the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use runner_runtime::node::{Node, NodeSettings, NodeState};
use runner_runtime::wasm::folder::{Registry, TENANT_DEFAULT};
use runner_runtime::wasm::{Catalog, Host, HostSettings, Manifest};
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Command, Enqueue};
use runner_store::dir::StoreDir;
use runner_store::engine::memory::Memory;
use runner_store::engine::{Change, Engine, Needs, Persisted, Reader, WorkingSet};
use runner_store::error::StoreError;
use runner_store::job::{JobSpec, TenantId};
use runner_store::slots;

use crate::sandbox::guests::handler;

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
