//! Runs of whole lists by the binary, and a look into the store that they leave.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use runner_store::clock::Clock;
use runner_store::command::{Answer, JobsQuery, Query, RunRecord};
use runner_store::dir::{Create, StoreDir};
use runner_store::engine::Snapshot;
use runner_store::engine::redb::{Commit, Redb};
use runner_store::job::{Job, TenantId};

/// A folder with plugins, a list and the place for a store.
pub(crate) struct Lists {
    _dir: tempfile::TempDir,
    plugins: PathBuf,
    list: PathBuf,
    pub(crate) store: StoreDir,
}

impl Lists {
    /// Plugins by name, as WebAssembly text with a manifest, and a list.
    pub(crate) fn new(plugins: &[(&str, &str, &str)], list: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("plugins");
        std::fs::create_dir(&folder).unwrap();
        for (name, text, manifest) in plugins {
            std::fs::write(folder.join(format!("{name}.wasm")), wat::parse_str(text).unwrap()).unwrap();
            std::fs::write(folder.join(format!("{name}.toml")), manifest).unwrap();
        }
        let path = dir.path().join("jobs.ndjson");
        std::fs::write(&path, list).unwrap();
        Self { store: StoreDir::new(dir.path().join("data")), _dir: dir, plugins: folder, list: path }
    }

    /// `runner run` on the list.
    pub(crate) fn run(&self) -> Child {
        self.run_with(&[])
    }

    /// The same with more arguments.
    pub(crate) fn run_with(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_runner"))
            .arg("run")
            .arg(&self.list)
            .arg("--plugins")
            .arg(&self.plugins)
            .arg("--data")
            .arg(self.store.path())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The store, once no process has it.
    pub(crate) fn open(&self) -> Redb {
        self.store.open(Create::No, Clock::System, Commit::TwoPhase).unwrap()
    }
}

/// Every job, newest first.
pub(crate) fn all_jobs(view: &dyn Snapshot) -> Vec<Job> {
    let (mut jobs, mut before) = (Vec::new(), None);
    loop {
        let query = JobsQuery { beyond: before, ..JobsQuery::all(TenantId::DEFAULT, 1_000) };
        let Answer::Jobs(page) = view.read(&Query::Jobs(query)).unwrap() else { unreachable!() };
        jobs.extend(page.jobs);
        let Some(next) = page.next else { return jobs };
        before = Some(next);
    }
}

/// The records of a job's runs.
pub(crate) fn runs(view: &dyn Snapshot, job: &Job) -> Vec<RunRecord> {
    let Answer::Runs(runs) = view.read(&Query::Runs(job.at())).unwrap() else { unreachable!() };
    runs
}
