//! The real process on a folder of its own: started, asked whether it is ready, and killed.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use runner_store::clock::Clock;
use runner_store::dir::{Create, StoreDir};
use runner_store::engine::redb::{Commit, Redb};
use runner_store::slots;
use rustix::process::{Pid, Signal, kill_process};

use super::guests;
use super::wire::{Ask, Wire};

/// What a condition may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// A folder with plugins, and the place for a store and a log.
pub(super) struct Place {
    dir: tempfile::TempDir,
    pub(super) store: StoreDir,
}

/// A server.
pub(super) struct Process {
    child: Child,
    spawned: Instant,
    socket: PathBuf,
    log: PathBuf,
}

/// A run, by job and number.
pub(super) type RunKey = (u64, u32);

impl Place {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plugins = dir.path().join("plugins");
        std::fs::create_dir(&plugins).unwrap();
        for (name, bytes, manifest) in guests::all() {
            std::fs::write(plugins.join(format!("{name}.wasm")), bytes).unwrap();
            std::fs::write(plugins.join(format!("{name}.toml")), manifest).unwrap();
        }
        // The same inode for a whole run: a build in between does not change what is tested.
        let (binary, own) = (env!("CARGO_BIN_EXE_runner"), dir.path().join("runner"));
        std::fs::hard_link(binary, &own).or_else(|_| std::fs::copy(binary, &own).map(|_| ())).unwrap();
        Self { store: StoreDir::new(dir.path().join("data")), dir }
    }

    pub(super) fn wire(&self) -> Wire {
        Wire::new(self.socket())
    }

    fn socket(&self) -> PathBuf {
        self.store.path().join("runner.sock")
    }

    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// `runner serve`, with these arguments.
    pub(super) fn spawn(&self, more: &[&str]) -> Process {
        let log = self.dir.path().join("log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(self.dir.path().join("runner"));
        for name in ["RUNNER_DATA", "RUNNER_URL", "RUNNER_LISTEN", "RUNNER_LOG", "RUST_LOG"] {
            command.env_remove(name);
        }
        command.args(["serve", "--plugins", "plugins", "--data", "data", "--listen", "127.0.0.1:0"]).args(more);
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let spawned = Instant::now();
        Process { child: command.spawn().unwrap(), spawned, socket: self.socket(), log }
    }

    /// The same, ready.
    pub(super) fn serve(&self, more: &[&str]) -> Process {
        let mut process = self.spawn(more);
        process.ready();
        process
    }

    /// Runs that had entered their handlers when the process was killed, and count as crashed for it.
    pub(super) fn entered(&self) -> BTreeSet<RunKey> {
        let previous = slots::previous(&self.store.slots()).unwrap();
        let started = previous.map(|previous| previous.started).unwrap_or_default();
        started.into_iter().map(|run| (run.at.job.0, run.run.0)).collect()
    }

    /// The store, once no process has it.
    pub(super) fn open(&self) -> Redb {
        self.store.open(Create::No, Clock::System, Commit::TwoPhase).unwrap()
    }
}

impl Process {
    /// Waits until it says that it takes work; how long that took since it was spawned.
    #[track_caller]
    pub(super) fn ready(&mut self) -> Duration {
        let mut wire = Wire::new(self.socket.clone());
        self.until("it is ready", || wire.once(&Ask::get("/readyz")).is_ok_and(|answer| answer.status == 200));
        self.spawned.elapsed()
    }

    /// Looks until it is so.
    #[track_caller]
    pub(super) fn until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_so() {
            if let Some(ended) = self.child.try_wait().unwrap() {
                panic!("it ended by itself ({ended}) before this: {what}\n{}", self.last_words());
            }
            assert!(Instant::now() < deadline, "in vain: {what}\n{}", self.last_words());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for a moment of its life, counted from its spawn, or for its end.
    pub(super) fn until_age(&mut self, age: Duration) {
        while self.spawned.elapsed() < age && self.child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    pub(super) fn age(&self) -> Duration {
        self.spawned.elapsed()
    }

    pub(super) fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// `kill -9`; how it ended, which may have been before.
    pub(super) fn kill(mut self) -> ExitStatus {
        // One that has ended cannot be killed.
        _ = self.child.kill();
        self.child.wait().unwrap()
    }

    /// Waits for its own end.
    #[track_caller]
    pub(super) fn stop(mut self) {
        self.terminate();
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(ended) = self.child.try_wait().unwrap() {
                assert!(ended.success(), "{ended}\n{}", self.last_words());
                return;
            }
            assert!(Instant::now() < deadline, "it does not stop\n{}", self.last_words());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// A server whose test fails is not left behind.
impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
