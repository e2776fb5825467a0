//! Seeded random commands: everything that can be asked of a store, about few enough jobs that they meet.
//!
//! A [`Workload`] needs no store: it makes [commands](Workload::command) from what it has [learnt](Workload::learn) from
//! the replies to earlier ones. The same seed and the same replies make the same commands, for ever.

mod commands;
mod schedules;
mod specs;

use std::collections::{HashMap, VecDeque};

use runner_store::command::{
    Command, Enqueue, Finish, FinishCall, Grant, Lane, Merged, Name, NameClass, NeedsMerge, Reply, RunRef,
};
use runner_store::index::EndKey;
use runner_store::job::{
    BootId, DependsOn, JobId, JobKey, JobRef, KindId, On, PluginId, QueueId, RunNumber, TenantId, Time,
};
use runner_store::schedule::ScheduleRef;

const TENANTS: u64 = 3;
const BOOTS: u64 = 3;
/// The keys that jobs have.
const KEYS: [&str; 3] = ["acme", "initech", "hooli"];
/// Runs that are remembered, to be ended some time: few enough that most are ended before they are forgotten.
const RUNS_REMEMBERED: usize = 200;

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
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let n = from.len() as u64;
        (n > 0).then(|| &from[self.below(n) as usize])
    }

    pub(crate) fn maybe<T>(&mut self, n: u64, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(n).then(|| value(self))
    }
}

/// See the module.
pub(crate) struct Workload {
    pub(crate) dice: Dice,
    /// Whether the log is kept short in this run.
    trims: bool,
    now: Time,
    runs: Vec<RunRef>,
    reserved: Vec<JobId>,
    next_job: u64,
    /// What was accepted of late, and whose.
    recent: VecDeque<JobRef>,
    /// Which of these waits, or waited, for which: the second for the first.
    edges: VecDeque<(JobRef, JobRef)>,
    /// The job that one batch is about, where it is about one.
    focus: Option<JobRef>,
    queues: Vec<(TenantId, QueueId)>,
    kinds: Vec<(TenantId, KindId)>,
    plugins: Vec<(TenantId, PluginId)>,
    merging: Option<Command>,
    sweep: Option<EndKey>,
    bulk: Option<JobId>,
    /// How often each schedule was edited.
    editions: HashMap<ScheduleRef, u32>,
}

impl Workload {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            trims: seed.is_multiple_of(2),
            now: Time(0),
            runs: Vec::new(),
            reserved: Vec::new(),
            next_job: 1,
            recent: VecDeque::new(),
            edges: VecDeque::new(),
            focus: None,
            queues: Vec::new(),
            kinds: Vec::new(),
            plugins: Vec::new(),
            merging: None,
            sweep: None,
            bulk: None,
            editions: HashMap::new(),
        }
    }

    /// What is said at this time, in one batch, 1 to `max` commands.
    pub(crate) fn batch(&mut self, now: Time, max: u64) -> Vec<Command> {
        self.now = now;
        // Some batches are about one job and those that wait for it, so that what is said of it meets.
        let target = self.a_job();
        self.focus = self.dice.one_in(3).then_some(target);
        let n = 1 + self.dice.below(max);
        (0..n).map(|_| self.command(now)).collect()
    }

    /// Remembers what later commands can be about.
    pub(crate) fn learn(&mut self, command: &Command, reply: &Reply) {
        match (command, reply) {
            (Command::Enqueue(call), Reply::Enqueued(jobs)) => {
                for (job, spec) in jobs.iter().zip(&call.jobs).filter(|(job, _)| !job.duplicate) {
                    let at = JobRef { tenant: call.tenant, job: job.id };
                    self.next_job = self.next_job.max(job.id.0 + 1);
                    self.recent.push_back(at);
                    let on = |edge: &DependsOn| match edge.on {
                        On::Job(job) => JobRef { job, ..at },
                        On::Position(position) => JobRef { job: jobs[position as usize].id, ..at },
                    };
                    self.edges.extend(spec.depends_on.iter().map(|edge| (on(edge), at)));
                }
                self.recent.drain(..self.recent.len().saturating_sub(40));
                self.edges.drain(..self.edges.len().saturating_sub(60));
            }
            (_, Reply::Claimed(jobs)) => {
                self.runs.extend(jobs.iter().map(|job| RunRef { at: job.at(), run: job.run }));
                let surplus = self.runs.len().saturating_sub(RUNS_REMEMBERED);
                self.runs.drain(..surplus);
            }
            (Command::ReserveIds { n }, Reply::Reserved { first }) => {
                self.next_job = self.next_job.max(first.0 + u64::from(*n));
                self.reserved.extend((0..u64::from(*n)).map(|i| JobId(first.0 + i)));
            }
            (Command::Enqueue(call), Reply::NeedsMerge(needs)) => {
                let merged = self.merge(needs);
                self.merging = Some(Command::Enqueue(Enqueue { merged, ..call.clone() }));
            }
            (Command::Finish(call), Reply::NeedsMerge(needs)) => {
                let merged = self.merge(needs);
                self.merging = Some(Command::Finish(Box::new(Finish { merged, ..(**call).clone() })));
            }
            (Command::FinishCall(call), Reply::NeedsMerge(needs)) => {
                let merged = self.merge(needs);
                self.merging = Some(Command::FinishCall(Box::new(FinishCall { merged, ..(**call).clone() })));
            }
            (Command::Name(name), Reply::Named(number)) if name.class == NameClass::Plugin => {
                let plugin = (name.tenant, PluginId(*number));
                if !self.plugins.contains(&plugin) {
                    self.plugins.push(plugin);
                }
            }
            (_, Reply::Schedule { schedule, .. }) => _ = self.editions.insert(schedule.at(), schedule.edits),
            (Command::Fire(call), Reply::Fired(jobs)) => {
                self.recent.extend(jobs.iter().map(|job| JobRef { tenant: call.at.tenant, job: job.id }));
                self.next_job = jobs.iter().map(|job| job.id.0 + 1).fold(self.next_job, u64::max);
            }
            (Command::Listen, Reply::Listened { jobs, .. }) => self.next_job += u64::from(*jobs),
            (Command::Sweep(_), Reply::Swept { more, after, .. }) => self.sweep = after.filter(|_| *more),
            (Command::Bulk(_), Reply::Bulk { next, .. }) => self.bulk = *next,
            _ => {}
        }
    }

    /// Which numbers names have: lanes are then those that there are.
    pub(crate) fn learn_names(&mut self, names: &[(Name, u32)]) {
        let of = |class| names.iter().filter(move |(name, _)| name.class == class);
        self.queues = of(NameClass::Queue).map(|(name, n)| (name.tenant, QueueId(*n))).collect();
        self.kinds = of(NameClass::Kind).map(|(name, n)| (name.tenant, KindId(*n))).collect();
    }

    fn merge(&mut self, needs: &[NeedsMerge]) -> Vec<Merged> {
        let merged = |need: &NeedsMerge| {
            let NeedsMerge { position, holder, version, ref args } = *need;
            // Keys of merged args follow from what is merged, so that most change.
            let key = args.first().map(|first| JobKey::text(KEYS[usize::from(*first) % KEYS.len()]));
            Merged { position, holder, version, args: [&args[..args.len().min(30)], b"+"].concat(), key }
        };
        needs.iter().map(merged).collect()
    }

    fn a_tenant(&mut self) -> TenantId {
        TenantId(1 + self.dice.below(TENANTS) as u32)
    }

    /// Most often a recent job, or one that has run; also one that never was, or another tenant's.
    fn a_job(&mut self) -> JobRef {
        if let Some(at) = self.focus
            && !self.dice.one_in(4)
        {
            return at;
        }
        match self.dice.below(8) {
            0..4 if !self.recent.is_empty() => self.recent[self.dice.below(self.recent.len() as u64) as usize],
            4..7 if !self.runs.is_empty() => self.runs[self.dice.below(self.runs.len() as u64) as usize].at,
            _ => {
                let back = if self.dice.one_in(4) { self.next_job } else { 60 };
                let job = JobId((self.next_job + 3).saturating_sub(self.dice.below(back)));
                JobRef { tenant: self.a_tenant(), job }
            }
        }
    }

    /// A job, or one that waits for it.
    fn near(&mut self, at: JobRef) -> JobRef {
        let dependents: Vec<JobRef> = self.edges.iter().filter(|(on, _)| *on == at).map(|(_, job)| *job).collect();
        if self.dice.one_in(2) { self.dice.pick(&dependents).copied().unwrap_or(at) } else { at }
    }

    fn a_run(&mut self) -> RunRef {
        if let Some(at) = self.focus {
            // The last run that is known of, or the one that the batch has just begun.
            let known = self.runs.iter().rev().find(|run| run.at == at).map_or(0, |run| run.run.0);
            return RunRef { at, run: RunNumber(known + u32::from(known == 0 || self.dice.one_in(2))) };
        }
        match self.dice.pick(&self.runs) {
            Some(run) if !self.dice.one_in(20) => *run,
            _ => RunRef { at: self.a_job(), run: RunNumber(self.dice.below(3) as u32) },
        }
    }

    fn a_lane(&mut self) -> Lane {
        let suspect = self.dice.one_in(4);
        if let Some((tenant, queue)) = self.dice.pick(&self.queues).copied() {
            let kinds: Vec<KindId> = self.kinds.iter().filter(|kind| kind.0 == tenant).map(|kind| kind.1).collect();
            if let Some(kind) = self.dice.pick(&kinds).copied() {
                return Lane { suspect, ..Lane::new(tenant, queue, kind) };
            }
        }
        // Names get numbers in the order in which they first come, so small numbers are in use.
        let (queue, kind) = (QueueId(1 + self.dice.below(9) as u32), KindId(1 + self.dice.below(9) as u32));
        Lane { suspect, ..Lane::new(self.a_tenant(), queue, kind) }
    }

    /// The lanes of all keys beside these, so that what stands in them is claimed as often.
    fn lanes_of_keys(lanes: &[Grant]) -> Vec<Grant> {
        let of_keys = |grant: &Grant| {
            let grant = *grant;
            let of_key = move |key: &str| [false, true].map(|again| (JobKey::text(key).hash(), again));
            let lanes = KEYS.into_iter().flat_map(of_key);
            lanes.map(move |(key, again)| Grant { lane: Lane { key, again, ..grant.lane }, ..grant })
        };
        lanes.iter().flat_map(of_keys).collect()
    }

    /// Dice beside the others, so that what came later changes nothing else that follows from a seed.
    fn aside(&self) -> Dice {
        Dice(self.dice.0 ^ 0x0005_ca1e_d0f5)
    }

    fn a_boot(&mut self) -> BootId {
        BootId(self.dice.below(BOOTS))
    }
}
