//! A seeded workload as a ledger: its batches, when each happened, and everything that a store must hold after each. So
//! the content of any store that was given a part of it says exactly which batches it has, whole.

use runner_store::clock::Clock;
use runner_store::command::{Command, Enqueue};
use runner_store::engine::Dump;
use runner_store::engine::redb::{Commit, Redb};
use runner_store::error::StoreError;
use runner_store::job::{JobSpec, TenantId, Time};
use runner_store::writer::step;

use super::disk::{Disk, Image};
use crate::model::step_clock;
use crate::workload::Workload;
use crate::world::START;

/// Jobs whose args are more than a new file has room for.
const LARGE_JOBS: usize = 12;
const LARGE_BYTES: usize = 150_000;
/// Every so many batches those who listen are told.
const LISTEN_EVERY: usize = 3;
const BATCH_COMMANDS_MAX: u64 = 16;

/// See the module.
pub(crate) struct Script {
    pub(crate) seed: u64,
    pub(crate) commit: Commit,
    /// The file after so many batches, as a process that is killed leaves it.
    images: Vec<Image>,
    batches: Vec<(Time, Vec<Command>)>,
    /// What is kept after so many batches.
    expected: Vec<Dump>,
    /// The first number of batches after which the same is kept: some batches change nothing.
    same_as: Vec<usize>,
}

impl Script {
    /// Random batches; some payloads span pages, and where it `grows`, those of one batch are more than the file has
    /// room for.
    pub(crate) fn random(seed: u64, commit: Commit, batches: usize, grows: bool) -> Self {
        let script = Self::new(seed, commit, batches, |n, now, workload| {
            let mut commands = random(n, now, workload);
            enlarge(&mut commands, workload);
            if grows && n + 5 == batches {
                let large = vec![JobSpec::new("a", vec![b'x'; LARGE_BYTES]); LARGE_JOBS];
                // Of a tenant whom no command gives a limit.
                commands.push(Command::Enqueue(Enqueue::new(TenantId(99), large)));
            }
            commands
        });
        let grew = script.images[batches].len() > script.images[0].len();
        assert!(grew || !grows, "seed {seed}: the file has room for everything");
        script
    }

    /// Lets a store do the work once. `batch` makes each batch.
    pub(crate) fn new(
        seed: u64,
        commit: Commit,
        batches: usize,
        mut batch: impl FnMut(usize, Time, &mut Workload) -> Vec<Command>,
    ) -> Self {
        let clock = Clock::manual(START);
        let disk = Disk::of(Image::default());
        let mut engine = Redb::over(disk.clone(), true, clock.clone(), commit).unwrap();
        assert_eq!(disk.durable().hash(), disk.live().hash(), "a new store is durable");
        let mut workload = Workload::new(seed);
        let mut script = Self {
            seed,
            commit,
            images: vec![disk.live()],
            batches: Vec::new(),
            expected: vec![engine.dump().unwrap()],
            same_as: vec![0],
        };
        for n in 0..batches {
            step_clock(&clock, &mut workload);
            let commands = batch(n, clock.now(), &mut workload);
            let (decision, _) = step(&mut engine, &commands).unwrap();
            commands.iter().zip(&decision.replies).for_each(|(command, reply)| workload.learn(command, reply));
            script.batches.push((clock.now(), commands));
            script.images.push(disk.live());
            script.expect(engine.dump().unwrap());
        }
        let report = engine.check().unwrap();
        assert!(report.is_clean(), "seed {seed}: {:#?}", report.findings);
        script
    }

    fn expect(&mut self, dump: Dump) {
        let last = self.expected.len() - 1;
        let same = if self.expected[last] == dump { self.same_as[last] } else { last + 1 };
        self.same_as.push(same);
        self.expected.push(dump);
    }

    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// After how many batches exactly this is kept; of several such numbers the first.
    pub(crate) fn find(&self, dump: &Dump) -> Option<usize> {
        let n = self.expected.iter().position(|expected| expected.log.len() == dump.log.len() && expected == dump)?;
        Some(self.same_as[n])
    }

    /// Whether a store that holds what [`Script::find`] said holds what it must after `n` batches.
    pub(crate) fn is_at(&self, found: usize, n: usize) -> bool {
        self.same_as[n] == found
    }

    /// Whether a store that holds what [`Script::find`] said is as it was before the last of `n` batches that changed
    /// anything: some change nothing, and are not committed.
    pub(crate) fn is_before_last_change(&self, found: usize, n: usize) -> bool {
        self.same_as[n].checked_sub(1).is_some_and(|before| self.same_as[before] == found)
    }

    /// The file after so many batches, of a process that is still there.
    pub(crate) fn image(&self, n: usize) -> &Image {
        &self.images[n]
    }

    pub(crate) fn expected(&self, n: usize) -> &Dump {
        &self.expected[n]
    }

    pub(crate) fn commands(&self, n: usize) -> &[Command] {
        &self.batches[n].1
    }

    /// Opens a store of this script.
    pub(crate) fn open(&self, disk: Disk) -> Result<(Redb, Clock), StoreError> {
        let clock = Clock::manual(START);
        Ok((Redb::over(disk, false, clock.clone(), self.commit)?, clock))
    }

    /// Does batch `n` again, as it was done first.
    pub(crate) fn step(&self, n: usize, engine: &mut Redb, clock: &Clock) -> Result<(), StoreError> {
        self.set_clock(n, clock);
        step(engine, &self.batches[n].1).map(|_| ())
    }

    pub(crate) fn set_clock(&self, n: usize, clock: &Clock) {
        clock.set(self.batches[n].0);
    }
}

/// The batches of the model; the first one sets what holds.
pub(crate) fn random(n: usize, now: Time, workload: &mut Workload) -> Vec<Command> {
    if n == 0 {
        return workload.opening_to_many();
    }
    let mut commands = workload.batch(now, BATCH_COMMANDS_MAX);
    // As the writer says it to itself: what was heard is told in a batch of its own, or beside others.
    commands.extend(n.is_multiple_of(LISTEN_EVERY).then_some(Command::Listen));
    commands
}

/// Lets some args span several pages.
fn enlarge(commands: &mut [Command], workload: &mut Workload) {
    for command in commands {
        let Command::Enqueue(call) = command else { continue };
        for spec in &mut call.jobs {
            if workload.dice.one_in(12) {
                spec.args = vec![b'x'; 9_000 + workload.dice.below(50) as usize];
            }
        }
    }
}
