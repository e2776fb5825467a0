//! Two stores that are given the same commands at the same times: one in memory, one in a file. Every reply, every answer
//! and in the end everything that is kept must be equal, and the file must pass its own check.
//!
//! Batches go through [`step`], as in the writer but on this thread. While a case only makes single calls, two more
//! stores behind [`Handle`]s get them too: that is the surface which the rest of the program uses.
//!
//! After a single call, whoever waited for what it ended has been told, as the writer sees to it by itself; after a batch,
//! nobody has until [`World::settle`].

mod calls;
mod told;

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{
    Answer, Command, JobsPage, JobsQuery, KvKeysQuery, Lane, Name, NameClass, Namespace, Part, Query, Reply, RunRecord,
    RunRef, Stored, Sweep, limits,
};
use runner_store::decide::Conduct;
use runner_store::engine::memory::Memory;
use runner_store::engine::redb::{Commit, Redb};
use runner_store::engine::{Change, Dump, Engine, Needs, Persisted};
use runner_store::handle::Writer;
use runner_store::job::{
    BootId, Job, JobId, JobSpec, KindId, Millis, Outcome, QueueId, Seq, StateName, TenantId, Time,
};
use runner_store::log::LogEntry;
use runner_store::writer::step_in;
use tempfile::TempDir;

pub(crate) use self::calls::*;
use self::told::Told;

/// When every world begins: some time in 2023.
pub(crate) const START: Time = Time(1_700_000_000_000);
/// The boot that claims where a case does not say who.
pub(crate) const BOOT: BootId = BootId(0xB007);
pub(crate) const TENANT: TenantId = TenantId::DEFAULT;

/// See the module.
pub(crate) struct World {
    pub(crate) clock: Clock,
    memory: Memory,
    redb: Option<Redb>,
    handles: Option<[(Handle, Writer); 2]>,
    dir: TempDir,
    persisted: Persisted,
    conduct: Conduct,
    too_deep: u64,
    told: Told,
}

/// Runs one case, then compares and checks everything.
#[track_caller]
pub(crate) fn case(run: impl FnOnce(&mut World)) {
    let mut world = World::new();
    run(&mut world);
    world.check();
}

/// A folder that is quick to write to, where the system has one: these tests are about what is written, not about disks.
pub(crate) fn quick_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("there is a folder for temporary files")
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = quick_dir();
        let clock = Clock::manual(START);
        let file = |name: &str| Redb::create(&dir.path().join(name), clock.clone(), Commit::OnePhase).unwrap();
        let redb = Some(file("sync.redb"));
        let engines: [Box<dyn Engine>; 2] = [Box::new(Memory::new(clock.clone())), Box::new(file("handle.redb"))];
        let handles = Some(engines.map(|engine| Handle::start(engine).unwrap()));
        let (memory, persisted, conduct) = (Memory::new(clock.clone()), Persisted::default(), Conduct::default());
        Self { memory, redb, handles, dir, clock, persisted, conduct, too_deep: 0, told: Told::default() }
    }

    /// A world without handles, for long runs.
    pub(crate) fn without_handles() -> Self {
        Self { handles: None, ..Self::new() }
    }

    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    pub(crate) fn advance(&self, ms: u64) {
        self.clock.advance(Millis(ms));
    }

    /// What batches may do from now on.
    pub(crate) fn conduct(&mut self, conduct: Conduct) {
        self.handles = None;
        self.conduct = conduct;
    }

    pub(crate) fn conducts(&self) -> Conduct {
        self.conduct
    }

    /// Several commands in one transaction.
    #[track_caller]
    pub(crate) fn batch(&mut self, commands: &[Command]) -> Vec<Reply> {
        self.handles = None;
        self.step(commands)
    }

    /// One command, and the settling that follows from it.
    #[track_caller]
    pub(crate) fn call(&mut self, command: Command) -> Reply {
        let reply = self.step(std::slice::from_ref(&command)).remove(0);
        for (handle, _) in self.handles.iter().flatten() {
            assert_eq!(handle.call_blocking(command.clone()).as_ref(), Ok(&reply), "the handle's reply to {command:?}");
            wait_until_settled(handle);
        }
        let stored = self.stored();
        if stored.settling + stored.unheard > 0 {
            let persisted = self.persisted.clone();
            if stored.settling > 0 {
                self.settle();
            }
            self.listen();
            // What came of the command itself, but for what is due by now.
            self.persisted = Persisted { next_due: self.persisted.next_due, ..persisted };
        }
        reply
    }

    /// Tells everyone who waits how what they waited for has ended, in steps of their own. Answers how many were told in
    /// each.
    #[track_caller]
    pub(crate) fn settle(&mut self) -> Vec<u32> {
        let mut steps = Vec::new();
        loop {
            let Reply::Settled { jobs, more } = self.step(&[Command::Settle]).remove(0) else { panic!("not settled") };
            assert!(jobs <= limits::SETTLED_JOBS_MAX, "{jobs} jobs were told in one step");
            steps.push(jobs);
            assert_eq!(more, self.stored().settling > 0, "after {steps:?}");
            if !more {
                return steps;
            }
            assert!(steps.len() < 100 || steps[steps.len() - 100..].iter().any(|n| *n > 0), "settling never ends");
        }
    }

    /// Enqueues everyone who listens to what has happened, in steps of their own. Answers how many in each.
    #[track_caller]
    pub(crate) fn listen(&mut self) -> Vec<u32> {
        let mut steps = Vec::new();
        while self.stored().unheard > 0 {
            let reply = self.step(&[Command::Listen]).remove(0);
            let Reply::Listened { jobs, refused, more } = reply else { panic!("not told") };
            assert!((1..=limits::LISTENERS_MAX).contains(&(jobs + refused)), "{jobs} were enqueued in one step");
            assert_eq!(more, self.stored().unheard > 0);
            steps.push(jobs);
            assert!(steps.len() < 10_000, "it never ends");
        }
        steps
    }

    /// Sweeps in steps of this budget until there is nothing more to do. Answers how many jobs were removed and expired,
    /// and how many events were trimmed.
    #[track_caller]
    pub(crate) fn sweep(&mut self, budget: u32) -> (u32, u32, u32) {
        let mut sum = (0, 0, 0);
        let mut after = None;
        for _ in 0..10_000 {
            let reply = self.batch(&[Command::Sweep(Sweep { after, budget })]).remove(0);
            let Reply::Swept { removed, expired, trimmed, more, after: on } = reply else { panic!("{reply:?}") };
            assert!(removed <= budget && expired <= budget && trimmed <= budget * 4, "{reply:?}");
            sum = (sum.0 + removed, sum.1 + expired, sum.2 + trimmed);
            if !more {
                return sum;
            }
            after = on;
        }
        panic!("sweeping never ends")
    }

    #[track_caller]
    fn step(&mut self, commands: &[Command]) -> Vec<Reply> {
        let conduct = self.conduct;
        let (in_memory, persisted) = step_in(&mut self.memory, commands, &mut |_, _| conduct).unwrap();
        let (in_file, also) = step_in(self.redb.as_mut().unwrap(), commands, &mut |_, _| conduct).unwrap();
        for ((command, reply), in_file) in commands.iter().zip(&in_memory.replies).zip(&in_file.replies) {
            assert_eq!(reply, in_file, "the engines disagree on {command:?}");
        }
        for (change, in_file) in in_memory.changes.iter().zip(&in_file.changes) {
            assert_eq!(change, in_file, "the engines disagree");
        }
        assert_eq!(in_memory.changes.len(), in_file.changes.len(), "the engines disagree on {commands:?}");
        assert_eq!(persisted, also, "the engines disagree on {commands:?}");
        assert_eq!(in_memory.too_deep, in_file.too_deep);
        self.too_deep += in_memory.too_deep;
        self.told.add(&persisted);
        self.persisted = persisted;
        in_memory.replies
    }

    /// What the last batch led to.
    pub(crate) fn persisted(&self) -> &Persisted {
        &self.persisted
    }

    /// Drops the file as a dying process would, and opens it again.
    pub(crate) fn reopen(&mut self) {
        self.redb = None;
        let path = self.dir.path().join("sync.redb");
        self.redb = Some(Redb::open(&path, self.clock.clone(), Commit::OnePhase).unwrap());
    }

    /// The same, while a transaction is open: it never was.
    pub(crate) fn reopen_in_the_middle(&mut self) {
        let redb = self.redb.as_mut().unwrap();
        redb.prefetch(&Needs { due: 1, ..Needs::default() }).unwrap();
        self.reopen();
    }

    /// Jobs that listen and were not enqueued, being too deep.
    pub(crate) fn too_deep(&self) -> u64 {
        for (handle, _) in self.handles.iter().flatten() {
            assert_eq!(handle.listeners_too_deep(), self.too_deep);
        }
        self.too_deep
    }

    /// The same, while the case goes on: the handles are left alone.
    #[track_caller]
    pub(crate) fn check_now(&mut self) -> Dump {
        let handles = self.handles.take();
        let dump = self.check();
        self.handles = handles;
        dump
    }

    /// Compares everything that is kept, and lets the file check itself.
    #[track_caller]
    pub(crate) fn check(&mut self) -> Dump {
        let dump = self.memory.dump();
        let redb = self.redb.as_ref().unwrap();
        assert_dumps_equal(&dump, &redb.dump().unwrap());
        self.told.check(&dump);
        let Answer::Keys(keys) = self.ask(&Query::Keys) else { panic!("not keys") };
        self.told.check_keys(&keys);
        let redb = self.redb.as_ref().unwrap();
        let report = redb.check().unwrap();
        assert!(report.is_clean(), "{:#?}", report.findings);
        assert_eq!(report.jobs, dump.jobs.len() as u64);
        let trimmed = dump.log.first().is_none_or(|entry| entry.seq > Seq(1));
        assert!(trimmed || report.folded == report.jobs, "{report:?}");
        if let Some(handles) = self.handles.take() {
            for (handle, writer) in handles {
                drop(handle);
                writer.join();
            }
            let redb = Redb::open(&self.dir.path().join("handle.redb"), self.clock.clone(), Commit::OnePhase).unwrap();
            assert_dumps_equal(&dump, &redb.dump().unwrap());
        }
        dump
    }

    /// The answer to a query, the same from both engines.
    #[track_caller]
    pub(crate) fn ask(&self, query: &Query) -> Answer {
        let answers = [self.memory.reader(), self.redb.as_ref().unwrap().reader()]
            .map(|reader| reader.snapshot().unwrap().read(query).unwrap());
        let [in_memory, in_file] = answers;
        assert_eq!(in_memory, in_file, "the engines disagree on {query:?}");
        in_memory
    }

    #[track_caller]
    pub(crate) fn job(&self, id: JobId) -> Job {
        self.find(id).unwrap_or_else(|| panic!("job {id} is not there"))
    }

    pub(crate) fn find(&self, id: JobId) -> Option<Job> {
        match self.ask(&Query::Job(at(id))) {
            Answer::Job(job) => job,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn state(&self, id: JobId) -> StateName {
        self.job(id).state.name()
    }

    pub(crate) fn payload(&self, id: JobId, part: Part) -> Option<Vec<u8>> {
        match self.ask(&Query::Payload(at(id), part)) {
            Answer::Payload(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn runs(&self, id: JobId) -> Vec<RunRecord> {
        match self.ask(&Query::Runs(at(id))) {
            Answer::Runs(runs) => runs,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn list(&self, query: JobsQuery) -> Vec<u64> {
        match self.ask(&Query::Jobs(query)) {
            Answer::Jobs(page) => page.jobs.iter().map(|job| job.id.0).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// A page as the file gives it: in memory, looking costs nothing and has no bound.
    pub(crate) fn page_in_file(&self, query: &JobsQuery) -> JobsPage {
        match self.redb.as_ref().unwrap().reader().snapshot().unwrap().read(&Query::Jobs(query.clone())).unwrap() {
            Answer::Jobs(page) => page,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn log(&self, since: u64, limit: u32) -> Vec<LogEntry> {
        match self.ask(&Query::Events { since: Seq(since), limit }) {
            Answer::Events(page) => page.entries,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn stored(&self) -> Stored {
        match self.ask(&Query::Stored) {
            Answer::Stored(stored) => stored,
            other => panic!("{other:?}"),
        }
    }

    /// What a plugin keeps under a key, as text.
    pub(crate) fn kv(&self, space: Namespace, key: &str) -> Option<String> {
        match self.ask(&Query::Kv(space, key.to_owned())) {
            Answer::Kv(value) => value.map(|value| String::from_utf8(value).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn kv_keys(&self, space: Namespace, prefix: &str, after: Option<&str>, limit: u32) -> Vec<String> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        match self.ask(&Query::KvKeys(KvKeysQuery { space, prefix, after, limit })) {
            Answer::KvKeys(keys) => keys,
            other => panic!("{other:?}"),
        }
    }

    /// How many keys the plugins of the tenant have.
    pub(crate) fn kv_count(&self) -> u64 {
        match self.ask(&Query::KvCount(TENANT)) {
            Answer::KvCount(n) => n,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn run_log(&self, run: RunRef) -> Option<Vec<u8>> {
        match self.ask(&Query::RunLog(run)) {
            Answer::RunLog(log) => log,
            other => panic!("{other:?}"),
        }
    }

    /// Which job a unique key belongs to.
    pub(crate) fn holder(&self, key: &str) -> Option<u64> {
        match self.ask(&Query::Unique(TENANT, key.to_owned())) {
            Answer::Unique(found) => found.map(|(job, _)| job.0),
            other => panic!("{other:?}"),
        }
    }

    /// The log from this number on, to its end.
    pub(crate) fn log_from(&self, first: u64) -> Vec<LogEntry> {
        let mut log = self.log(first, 1_000);
        while let Some(last) = log.last().map(|entry| entry.seq.0)
            && (last - first + 1).is_multiple_of(1_000)
        {
            let page = self.log(last + 1, 1_000);
            if page.is_empty() {
                break;
            }
            log.extend(page);
        }
        log
    }

    /// As a restore leaves a store: claims wait for an operator.
    pub(crate) fn pause(&mut self) {
        self.handles = None;
        let pause = [Change::Paused(true)];
        let none = Needs::default();
        self.memory.prefetch(&none).unwrap();
        self.memory.persist(&pause).unwrap();
        let redb = self.redb.as_mut().unwrap();
        redb.prefetch(&none).unwrap();
        redb.persist(&pause).unwrap();
    }

    /// The names of a job's events, in order.
    pub(crate) fn events(&self, id: JobId) -> Vec<&'static str> {
        self.log(0, 1_000).iter().filter(|e| e.job.job == id).map(|e| e.event.as_str()).collect()
    }

    pub(crate) fn name(&self, class: NameClass, name: &str) -> Option<u32> {
        let Answer::Names(names) = self.ask(&Query::Names) else { panic!("not names") };
        let wanted = Name { tenant: TENANT, class, name: name.to_owned() };
        names.into_iter().find(|(name, _)| *name == wanted).map(|(_, number)| number)
    }

    /// The lane of a queue and a kind; one that nobody has ever used where either name is unknown.
    pub(crate) fn lane(&self, queue: &str, kind: &str) -> Lane {
        Lane::new(
            TENANT,
            QueueId(self.name(NameClass::Queue, queue).unwrap_or(u32::MAX)),
            KindId(self.name(NameClass::Kind, kind).unwrap_or(u32::MAX)),
        )
    }

    #[track_caller]
    pub(crate) fn enqueue(&mut self, spec: JobSpec) -> JobId {
        self.enqueue_all(vec![spec])[0]
    }

    #[track_caller]
    pub(crate) fn enqueue_all(&mut self, jobs: Vec<JobSpec>) -> Vec<JobId> {
        ids(&self.call(enqueue(jobs)))
    }

    /// Claims from the lane of kind `work` in queue `default`, suspects after the others.
    #[track_caller]
    pub(crate) fn claim(&mut self, max: u32) -> Vec<u64> {
        let command = self.claiming(max);
        claimed(&self.call(command)).iter().map(|job| job.id.0).collect()
    }

    /// The command of [`World::claim`].
    pub(crate) fn claiming(&self, max: u32) -> Command {
        let lane = self.lane("default", "work");
        claim(BOOT, max, &[lane, Lane { suspect: true, ..lane }])
    }

    /// Makes due what is due, claims, and expects exactly this job.
    #[track_caller]
    pub(crate) fn start(&mut self, id: JobId) -> RunRef {
        assert_eq!(self.claim(1), [id.0]);
        self.run(id)
    }

    /// The job's latest run.
    #[track_caller]
    pub(crate) fn run(&self, id: JobId) -> RunRef {
        RunRef { at: at(id), run: self.job(id).run }
    }

    /// Records how the job's latest run ended, and answers the job.
    #[track_caller]
    pub(crate) fn finish(&mut self, id: JobId, outcome: Outcome) -> Job {
        let command = finish(self.run(id), outcome);
        job_of(&self.call(command))
    }

    /// Claims the job and ends its run so.
    #[track_caller]
    pub(crate) fn run_once(&mut self, id: JobId, outcome: Outcome) -> Job {
        self.start(id);
        self.finish(id, outcome)
    }
}

/// The writer tells those who waited by itself; until it has, nothing else is compared.
#[track_caller]
pub(crate) fn wait_until_settled(handle: &Handle) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !matches!(handle.snapshot().unwrap().read(&Query::Stored), Ok(Answer::Stored(stored)) if stored.settling + stored.unheard == 0)
    {
        assert!(std::time::Instant::now() < deadline, "the writer does not settle");
        std::thread::yield_now();
    }
}

#[track_caller]
fn assert_dumps_equal(left: &Dump, right: &Dump) {
    assert_eq!(left.jobs, right.jobs);
    assert_eq!(left.log, right.log);
    assert_eq!(left.runs, right.runs);
    assert_eq!(left.payloads, right.payloads);
    assert_eq!(left, right);
}
