//! Seeded random commands, in random batches, to both engines: every reply, every change and every answer must be equal,
//! and so must everything that is kept, also after the file was dropped in the middle of a transaction and reopened.
//!
//! A failure prints its seed; `RUNNER_SIM_SEED=<seed>` runs exactly that one again.

use std::collections::{BTreeMap, HashMap};

use runner_store::command::{
    Claim, Command, EndBoots, Enqueue, Finish, Grant, IdempotencyKey, JobsQuery, Lane, Measured, Part, Query, Reply,
    RunRef, StagedJob,
};
use runner_store::job::{
    Backoff, BootId, Edit, EventName, JobId, JobRef, JobSpec, KindId, Millis, Outcome, Priority, QueueId, RetryPolicy,
    RunNumber, RunSettings, StateName, TenantId, Time,
};

use crate::world::*;

const SEEDS: u64 = 3;
const BATCHES: u32 = 1_000;
const BATCH_COMMANDS_MAX: u64 = 16;
const TENANTS: u64 = 2;
const BOOTS: u64 = 3;
/// Runs that are remembered, to be ended some time: few enough that most are ended before they are forgotten.
const RUNS_REMEMBERED: usize = 200;

/// Pairs of a state and an event that can meet while no job has dependencies.
const PAIRS: usize = 35;

/// SplitMix64: small, and the same for ever.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to n − 1.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in n.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let n = from.len() as u64;
        (n > 0).then(|| &from[self.below(n) as usize])
    }

    fn maybe<T>(&mut self, n: u64, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(n).then(|| value(self))
    }
}

/// What the commands are made from.
struct Workload {
    dice: Dice,
    world: World,
    runs: Vec<RunRef>,
    reserved: Vec<JobId>,
    next_job: u64,
    seen: u64,
    states: HashMap<JobRef, StateName>,
    reached: BTreeMap<(Option<StateName>, EventName), u64>,
}

#[test]
fn random_commands_do_the_same_to_both_engines() {
    let one: Option<u64> = std::env::var("RUNNER_SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = one.map_or(1..SEEDS + 1, |seed| seed..seed + 1);
    let mut reached = BTreeMap::new();
    for seed in seeds {
        let mut workload = Workload::new(seed);
        let run = std::panic::AssertUnwindSafe(|| workload.run());
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("again: RUNNER_SIM_SEED={seed} cargo test -p runner-store --test sim random_commands");
            std::panic::resume_unwind(panic);
        }
        for (pair, n) in workload.reached {
            *reached.entry(pair).or_insert(0) += n;
        }
    }
    for ((state, event), n) in &reached {
        println!("{:>10} {:<16} {n}", state.map_or("–", StateName::as_str), event.as_str());
    }
    assert!(one.is_some() || reached.len() == PAIRS, "{} pairs of state and event were reached", reached.len());
}

impl Workload {
    fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            world: World::without_handles(),
            runs: Vec::new(),
            reserved: Vec::new(),
            next_job: 1,
            seen: 0,
            states: HashMap::new(),
            reached: BTreeMap::new(),
        }
    }

    fn run(&mut self) {
        for batch in 1..=BATCHES {
            self.step_clock();
            let n = 1 + self.dice.below(BATCH_COMMANDS_MAX);
            let commands: Vec<Command> = (0..n).map(|_| self.command()).collect();
            let replies = self.world.batch(&commands);
            replies.iter().for_each(|reply| self.learn(reply));
            self.follow_log();
            self.ask();
            if self.dice.one_in(60) {
                self.world.reopen_in_the_middle();
            }
            if batch % 200 == 0 {
                self.world.check();
            }
        }
    }

    fn step_clock(&mut self) {
        let now = self.world.now().0;
        let to = match self.dice.below(100) {
            0 => now - 20_000,
            1 => now + 25 * 3_600 * 1_000,
            2..50 => now,
            _ => now + self.dice.below(1_500),
        };
        self.world.clock.set(Time(to));
    }

    fn command(&mut self) -> Command {
        match self.dice.below(100) {
            0..20 => self.enqueue(),
            20..45 => self.claim(),
            45..70 => self.finish(),
            70..73 => Command::HandBack(self.a_run()),
            73 if self.dice.one_in(8) => self.end_boots(),
            73..77 => Command::Due,
            77..82 => Command::Cancel { job: self.a_job(), reason: self.dice.maybe(2, |_| "why".to_owned()) },
            82..86 => Command::Release(self.a_job()),
            86..90 => Command::Retry { job: self.a_job(), fresh: self.dice.one_in(4) },
            90..94 => self.edit(),
            94..98 => Command::Delete { job: self.a_job(), force: self.dice.one_in(2), cascade: self.dice.one_in(2) },
            _ => Command::ReserveIds { n: self.dice.below(5) as u32 },
        }
    }

    fn a_tenant(&mut self) -> TenantId {
        TenantId(1 + self.dice.below(TENANTS) as u32)
    }

    /// Most often a recent job, or one that has run; also one that never was, or another tenant's.
    fn a_job(&mut self) -> JobRef {
        if self.dice.one_in(3)
            && let Some(run) = self.dice.pick(&self.runs)
        {
            return run.at;
        }
        let tenant = self.a_tenant();
        let back = if self.dice.one_in(4) { self.next_job } else { 60 };
        JobRef { tenant, job: JobId((self.next_job + 3).saturating_sub(self.dice.below(back))) }
    }

    fn a_run(&mut self) -> RunRef {
        match self.dice.pick(&self.runs) {
            Some(run) if !self.dice.one_in(20) => *run,
            _ => RunRef { at: self.a_job(), run: RunNumber(self.dice.below(3) as u32) },
        }
    }

    fn a_lane(&mut self) -> Lane {
        // Names get numbers in the order in which they first come, so small numbers are in use.
        let (queue, kind) = (QueueId(1 + self.dice.below(9) as u32), KindId(1 + self.dice.below(9) as u32));
        Lane { tenant: self.a_tenant(), queue, kind, suspect: self.dice.one_in(4) }
    }

    fn spec(&mut self) -> JobSpec {
        let d = &mut self.dice;
        let backoffs = [
            Backoff::Constant { base: Millis(300) },
            Backoff::Linear { base: Millis(200) },
            Backoff::List(vec![Millis(0), Millis(900)]),
            Backoff::Never,
        ];
        let kind = if d.one_in(50) { "not a name" } else { ["a", "b"][d.below(2) as usize] };
        let now = self.world.now();
        JobSpec {
            queue: ["p", "q"][d.below(2) as usize].to_owned(),
            priority: Priority(d.below(5) as i16 - 2),
            delay: d.maybe(4, |d| Millis(d.below(3_000))),
            expires_at: d.maybe(6, |d| Time(now.0 + d.below(2_000))),
            max_attempts: d.maybe(2, |d| 1 + d.below(3) as u32),
            retry: d.maybe(2, |d| RetryPolicy {
                backoff: backoffs[d.below(4) as usize].clone(),
                jitter_permille: 500,
                max: Millis(1_000),
            }),
            hold: d.one_in(8),
            ..JobSpec::new(kind, vec![b'x'; d.below(40) as usize])
        }
    }

    fn enqueue(&mut self) -> Command {
        let n = 1 + self.dice.below(6);
        let jobs = (0..n).map(|_| self.spec()).collect();
        let key = self
            .dice
            .maybe(4, |d| IdempotencyKey { key: format!("key-{}", d.below(20)), request: [d.below(2) as u8; 32] });
        Command::Enqueue(Enqueue { key, ..Enqueue::new(self.a_tenant(), jobs) })
    }

    fn claim(&mut self) -> Command {
        let grants = (0..12).map(|_| Grant { lane: self.a_lane(), max: self.dice.below(5) as u32 }).collect();
        let holder = BootId(self.dice.below(BOOTS));
        Command::Claim(Claim { holder, max: self.dice.below(10) as u32, grants })
    }

    fn finish(&mut self) -> Command {
        let run = self.a_run();
        let d = &mut self.dice;
        let text = || "text".to_owned();
        let outcome = match d.below(14) {
            0..4 => Outcome::Completed { output: vec![b'o'; d.below(3) as usize] },
            4..6 => Outcome::Failed { message: text(), retry_after: d.maybe(3, |d| Millis(d.below(500))) },
            6 => Outcome::Discarded { reason: text() },
            7 => Outcome::Snoozed { delay: Millis(d.below(500)), reason: None },
            8 => Outcome::Trapped { code: text(), message: text(), backtrace: Some(text()) },
            9 => Outcome::TimedOut { limit: Millis(5) },
            10 => Outcome::Cancelled,
            11 => Outcome::Interrupted,
            12 => Outcome::Crashed,
            _ => Outcome::OutOfFuel { limit: 5 },
        };
        let id = if self.dice.one_in(10) { Some(self.a_job().job) } else { self.reserved.pop() };
        let staged = id.into_iter().map(|id| StagedJob { id, spec: self.spec() }).collect();
        let settings = RunSettings { max_attempts: 3, retry: RetryPolicy::default() };
        let checkpoint = self.dice.maybe(3, |d| vec![d.below(256) as u8]);
        let measured = Measured { fuel: self.dice.below(9), ..Measured::default() };
        Command::Finish(Box::new(Finish { run, outcome, settings, measured, staged, checkpoint, merged: Vec::new() }))
    }

    fn end_boots(&mut self) -> Command {
        let living = BootId(self.dice.below(BOOTS));
        let started = self.runs.iter().copied().filter(|_| self.dice.one_in(2)).collect();
        Command::EndBoots(EndBoots { living, started, settings: Vec::new() })
    }

    fn edit(&mut self) -> Command {
        let job = self.a_job();
        let now = self.world.now();
        let d = &mut self.dice;
        let edit = Edit {
            priority: d.maybe(2, |d| Priority(d.below(5) as i16 - 2)),
            run_at: d.maybe(2, |d| Time(now.0 + d.below(2_000) - 500)),
            max_attempts: d.maybe(4, |d| d.below(4) as u32),
            timeout: d.maybe(4, |d| Millis(d.below(1_000))),
            ..Edit::default()
        };
        Command::Edit { job, edit: Box::new(edit) }
    }

    /// Remembers what later commands can be about.
    fn learn(&mut self, reply: &Reply) {
        match reply {
            Reply::Enqueued(jobs) => {
                self.next_job = jobs.iter().map(|job| job.id.0 + 1).fold(self.next_job, u64::max);
            }
            Reply::Claimed(jobs) => {
                self.runs.extend(jobs.iter().map(|job| RunRef { at: job.at(), run: job.run }));
                let surplus = self.runs.len().saturating_sub(RUNS_REMEMBERED);
                self.runs.drain(..surplus);
            }
            Reply::Reserved { first } => {
                self.next_job = self.next_job.max(first.0 + 1);
                self.reserved.push(*first);
            }
            _ => {}
        }
    }

    /// Counts which events met which states, and checks that the log goes on where it ended.
    fn follow_log(&mut self) {
        loop {
            let page = self.world.log(self.seen + 1, 500);
            for entry in &page {
                self.seen += 1;
                assert_eq!(entry.seq.0, self.seen);
                let before = match entry.state {
                    Some(state) => self.states.insert(entry.job, state),
                    None => self.states.remove(&entry.job),
                };
                *self.reached.entry((before, entry.event)).or_default() += 1;
            }
            if page.len() < 500 {
                return;
            }
        }
    }

    fn ask(&mut self) {
        let at = self.a_job();
        for query in [Query::Job(at), Query::Runs(at), Query::Payload(at, Part::Args), Query::NextDue, Query::Counts] {
            self.world.ask(&query);
        }
        let lane = self.a_lane();
        let before = self.a_job().job;
        let d = &mut self.dice;
        self.world.ask(&Query::Jobs(JobsQuery {
            tenant: lane.tenant,
            state: d.maybe(2, |d| StateName::ALL[d.below(9) as usize]),
            queue: d.maybe(3, |_| lane.queue),
            kind: d.maybe(3, |_| lane.kind),
            tag: None,
            before: d.maybe(2, |_| before),
            limit: d.below(30) as u32,
        }));
    }
}
