//! Behaviour that other job queues have and that must work here: one test for each line of the list of acceptance that the
//! store decides, named after it, through [`Handle`] and on virtual time.
//!
//! | lines | where |
//! |---|---|
//! | L-05, L-06, L-10, L-13, L-19…21, L-24 | [`batches`] (L-07, buffered enqueues, is the runtime's `buffered`; batch handlers, L-08, L-09, need guests) |
//! | C-01…03, C-05, C-08, C-09, C-11, C-12 | [`deferred`] |
//! | G-02, G-03, G-05, G-07, G-10, G-13, G-15, G-17, G-28, G-29 | [`transactional`] (G-04 stands in `embedded`; G-22, G-24, G-30 need guests) |
//! | R-03, R-23, R-25 | [`periodic`] (R-07, R-11, R-12 are schedules; R-15…20 are middleware) |
//! | S-02…04, S-05, S-06, S-07, S-08, S-09, S-10, S-11…13, S-14, S-15, S-17 | [`graphs`] |

mod batches;
mod deferred;
mod graphs;
mod periodic;
mod transactional;

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Answer, Command, Lane, Part, Query, Reply, RunRecord, RunRef};
use runner_store::engine::Engine;
use runner_store::engine::memory::Memory;
use runner_store::engine::redb::{Commit, Redb};
use runner_store::handle::Writer;
use runner_store::job::{BootId, Job, JobId, JobSpec, Millis, Outcome, Seq, StateName};
use tempfile::TempDir;

use crate::world::*;

/// A store behind a handle, as the rest of the program has it, and a clock that stands still until it is told to go.
struct Node {
    clock: Clock,
    handle: Handle,
    writer: Writer,
    file: Option<TempDir>,
}

/// Runs a line on both engines.
#[track_caller]
fn line(run: impl Fn(&mut Node)) {
    for in_file in [false, true] {
        let clock = Clock::manual(START);
        let file = in_file.then(quick_dir);
        let engine: Box<dyn Engine> = match &file {
            None => Box::new(Memory::new(clock.clone())),
            Some(dir) => Box::new(Redb::create(&dir.path().join("jobs"), clock.clone(), Commit::OnePhase).unwrap()),
        };
        let (handle, writer) = Handle::start(engine).unwrap();
        let mut node = Node { clock, handle, writer, file };
        run(&mut node);
        let Node { handle, writer, file, clock } = node;
        drop(handle);
        writer.join();
        if let Some(dir) = file {
            let file = Redb::open(&dir.path().join("jobs"), clock, Commit::OnePhase).unwrap();
            assert_eq!(file.check().unwrap().findings, Vec::<String>::new());
        }
    }
}

impl Node {
    #[track_caller]
    fn call(&self, command: Command) -> Reply {
        self.handle.call_blocking(command).unwrap()
    }

    #[track_caller]
    fn enqueue(&self, spec: JobSpec) -> JobId {
        self.enqueue_all(vec![spec])[0]
    }

    #[track_caller]
    fn enqueue_all(&self, jobs: Vec<JobSpec>) -> Vec<JobId> {
        ids(&self.call(enqueue(jobs)))
    }

    fn advance(&self, ms: u64) {
        self.clock.advance(Millis(ms));
    }

    fn lane(&self, queue: &str) -> Lane {
        Lane::new(
            TENANT,
            self.handle.queue_id(TENANT, queue).unwrap_or_default(),
            self.handle.kind_id(TENANT, "work").unwrap_or_default(),
        )
    }

    /// Claims jobs of kind `work` from queue `default`, suspects after the others.
    fn claim(&self, max: u32) -> Vec<RunRef> {
        self.claim_from("default", max)
    }

    fn claim_from(&self, queue: &str, max: u32) -> Vec<RunRef> {
        let lane = self.lane(queue);
        let reply = self.call(claim(BOOT, max, &[lane, Lane { suspect: true, ..lane }]));
        claimed(&reply).iter().map(|job| RunRef { at: job.at(), run: job.run }).collect()
    }

    #[track_caller]
    fn finish(&self, run: RunRef, outcome: Outcome) -> Job {
        job_of(&self.call(finish(run, outcome)))
    }

    /// Claims, and ends each run so, until there is nothing more; answers the jobs in the order of their runs.
    fn work_off(&self, mut outcome: impl FnMut(JobId) -> Outcome) -> Vec<u64> {
        let mut ran = Vec::new();
        while let Some(run) = self.claim(1).pop() {
            ran.push(run.at.job.0);
            self.finish(run, outcome(run.at.job));
        }
        ran
    }

    #[track_caller]
    fn ask(&self, query: &Query) -> Answer {
        self.handle.snapshot().unwrap().read(query).unwrap()
    }

    fn find(&self, id: JobId) -> Option<Job> {
        match self.ask(&Query::Job(at(id))) {
            Answer::Job(job) => job,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn job(&self, id: JobId) -> Job {
        self.find(id).unwrap()
    }

    #[track_caller]
    fn state(&self, id: JobId) -> StateName {
        self.job(id).state.name()
    }

    /// Waits until everyone was told how what they waited for has ended.
    fn settled(&self) {
        wait_until_settled(&self.handle);
    }

    fn payload(&self, id: JobId, part: Part) -> Option<Vec<u8>> {
        match self.ask(&Query::Payload(at(id), part)) {
            Answer::Payload(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    fn runs(&self, id: JobId) -> Vec<RunRecord> {
        match self.ask(&Query::Runs(at(id))) {
            Answer::Runs(runs) => runs,
            other => panic!("{other:?}"),
        }
    }

    fn events(&self, id: JobId) -> Vec<&'static str> {
        let Answer::Events(page) = self.ask(&Query::Events { since: Seq(1), limit: 1_000 }) else {
            panic!("no events")
        };
        page.entries.iter().filter(|entry| entry.job.job == id).map(|entry| entry.event.as_str()).collect()
    }

    /// The process dies and another one begins; a store in memory only gets a new boot.
    fn restart(&mut self, boot: BootId, started: Vec<RunRef>) -> Reply {
        if let Some(dir) = &self.file {
            let (idle, idle_writer) = Handle::start(Box::new(Memory::new(self.clock.clone()))).unwrap();
            drop(std::mem::replace(&mut self.handle, idle));
            std::mem::replace(&mut self.writer, idle_writer).join();
            let engine = Redb::open(&dir.path().join("jobs"), self.clock.clone(), Commit::OnePhase).unwrap();
            let (handle, writer) = Handle::start(Box::new(engine)).unwrap();
            drop(std::mem::replace(&mut self.handle, handle));
            std::mem::replace(&mut self.writer, writer).join();
        }
        self.call(end_boots(boot, started))
    }
}

/// None of the lines that the store decides is forgotten: each has a test that bears its name.
#[test]
fn every_line_has_its_test() {
    const LINES: &str = "
        l_05 l_06 l_10 l_13 l_19 l_20 l_21 l_24 c_01 c_02 c_03 c_05 c_08 c_09 c_11 c_12
        g_02 g_03 g_05 g_07 g_10 g_13 g_15 g_17 g_28 g_29 r_03 r_23 r_25
        s_02 s_03 s_04 s_05 s_06 s_07 s_08 s_09 s_10 s_11 s_12 s_13 s_14 s_15 s_17
    ";
    let tests = [
        include_str!("batches.rs"),
        include_str!("deferred.rs"),
        include_str!("graphs.rs"),
        include_str!("periodic.rs"),
        include_str!("transactional.rs"),
    ]
    .concat();
    for line in LINES.split_whitespace() {
        assert!(tests.contains(&format!("\nfn {line}_")), "{line} has no test");
    }
}
