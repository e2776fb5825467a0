//! Random commands.

use runner_store::command::{
    About, Bulk, BulkVerb, Claim, Command, EndBoots, EndLeases, Ended, EndedLease, Enqueue, Finish, FinishCall, Grant,
    IdempotencyKey, JobsQuery, KvKeysQuery, KvWrite, KvWrites, Leasing, Listener, Measured, Name, NameClass, Namespace,
    Only, RunRef, Settings, StagedJob, StoreSettings, Subscribe, Subscription, Sweep,
};
use runner_store::job::{
    Edit, EventName, Fingerprint, JobId, JobKey, JobRef, KeyPath, Millis, Outcome, OutcomeName, PluginId, Priority,
    RetryPolicy, RunSettings, StateName, TenantId, Time,
};

use super::{Dice, KEYS, Workload};

impl Workload {
    /// What is said before anything else: how long the log is kept, and which plugins there are.
    pub(crate) fn opening(&self) -> Vec<Command> {
        let keep = StoreSettings { log_age: Millis(u64::MAX), log_bytes: u64::MAX };
        let keep = if self.trims { StoreSettings { log_bytes: 60_000, ..keep } } else { keep };
        let plugins = (1..=super::TENANTS).flat_map(|tenant| {
            let name = move |name: &&str| Command::Name(Name::of_plugin(TenantId(tenant as u32), *name));
            ["thumbs", "mail"].iter().map(name)
        });
        let keep = Command::Set(Box::new(Settings::Store(keep)));
        let alert = listening(1, &[EventName::Discarded]);
        [keep, alert].into_iter().chain(plugins).collect()
    }

    /// The same, where much of what happens is listened to.
    pub(crate) fn opening_to_many(&self) -> Vec<Command> {
        let mut opening = self.opening();
        let events = [EventName::Started, EventName::Cancelled, EventName::Discarded];
        opening.extend((1..=super::TENANTS).map(|tenant| listening(tenant as u32, &events)));
        opening
    }

    /// What is said at this time.
    pub(crate) fn command(&mut self, now: Time) -> Command {
        self.now = now;
        if let Some(again) = self.merging.take_if(|_| self.dice.one_in(2)) {
            return again;
        }
        if let Some(job) = self.focus
            && self.dice.one_in(2)
        {
            return self.command_about(job);
        }
        if self.dice.one_in(20) {
            return self.about_a_schedule();
        }
        match self.dice.below(200) {
            0..36 => self.enqueue(),
            36..76 => self.claim(),
            76..108 => self.finish(),
            108..116 => self.finish_call(),
            116..119 => Command::HandBack(self.a_run()),
            119 => self.end_leases(),
            120 => self.end_boots(),
            121..126 => Command::Due,
            126..136 => Command::Cancel { job: self.a_job(), reason: self.dice.maybe(2, |_| "why".to_owned()) },
            136..142 => Command::Release(self.a_job()),
            142..152 => Command::Retry { job: self.a_job(), fresh: self.dice.one_in(4) },
            152..158 => self.edit(),
            158..166 => Command::Delete { job: self.a_job(), force: self.dice.one_in(2), cascade: self.dice.one_in(2) },
            166..168 => Command::ReserveIds { n: self.dice.below(5) as u32 },
            168..177 => Command::Settle,
            177..180 => Command::Listen,
            180..184 => self.a_sweep(),
            184..187 => self.a_bulk(),
            187..190 => Command::Start { job: self.a_job(), holder: self.a_boot() },
            190..193 => Command::Checkpoint { run: self.a_run(), bytes: vec![b'c'; self.dice.below(20) as usize] },
            193..196 => Command::Revive { job: self.a_job(), after: None },
            196 => Command::Set(Box::new(self.settings())),
            197 => Command::Subscribe(Box::new(self.subscribe())),
            198 => self.a_name(),
            _ => Command::Resume,
        }
    }

    /// What a job and those that wait for it can meet with.
    fn command_about(&mut self, job: JobRef) -> Command {
        match self.dice.below(24) {
            0..3 => self.enqueue(),
            3..6 => Command::Start { job, holder: self.a_boot() },
            6..9 => self.finish(),
            9 => self.finish_call(),
            10 => self.end_boots(),
            11..13 => Command::Cancel { job: self.near(job), reason: None },
            13..15 => Command::Retry { job: self.near(job), fresh: false },
            15..17 => Command::Delete { job: self.near(job), force: self.dice.one_in(2), cascade: self.dice.one_in(2) },
            17 => Command::Revive { job, after: None },
            _ => Command::Settle,
        }
    }

    fn enqueue(&mut self) -> Command {
        let tenant = match self.focus {
            Some(at) => at.tenant,
            None => self.a_tenant(),
        };
        let n = 1 + self.dice.below(6);
        let jobs = (0..n).map(|position| self.spec(tenant, position)).collect();
        let key = self
            .dice
            .maybe(4, |d| IdempotencyKey { key: format!("key-{}", d.below(20)), request: [d.below(2) as u8; 32] });
        Command::Enqueue(Enqueue { key, ..Enqueue::new(tenant, jobs) })
    }

    fn claim(&mut self) -> Command {
        let mut grants: Vec<Grant> =
            (0..12).map(|_| Grant { lane: self.a_lane(), max: self.dice.below(5) as u32 }).collect();
        let of_keys = Self::lanes_of_keys(&grants);
        grants.extend(of_keys);
        let max = self.dice.below(10) as u32;
        if self.dice.one_in(6) {
            let (holder, lasts) = (self.dice.below(3), Millis(self.dice.below(100_000)));
            return Command::Lease(Box::new(Leasing { holder, worker: "gpu-1".to_owned(), lasts, max, grants }));
        }
        let holder = self.a_boot();
        Command::Claim(Claim { holder, max, grants })
    }

    /// Of runs that are remembered, whoever holds them by now.
    fn end_leases(&mut self) -> Command {
        let runs = (0..4).map(|_| EndedLease { run: self.a_run(), log: None }).collect();
        let crashed = self.dice.one_in(2);
        Command::EndLeases(Box::new(EndLeases { runs, crashed, settings: Vec::new() }))
    }

    fn finish(&mut self) -> Command {
        let run = self.a_run();
        let outcome = self.outcome();
        let staged = self.staged(run.at);
        let d = &mut self.dice;
        let settings = RunSettings { max_attempts: 3, retry: RetryPolicy::default() };
        let checkpoint = d.maybe(3, |d| vec![d.below(256) as u8]);
        let log = d.maybe(3, |d| vec![b'l'; d.below(30) as usize]);
        let memory_denied = d.one_in(6);
        let notes = d.maybe(6, |_| "a note".to_owned()).into_iter().collect();
        let measured = Measured { fuel: d.below(9), memory_denied, notes, ..Measured::default() };
        let kv = self.kv(run.at.tenant);
        Command::Finish(Box::new(Finish {
            measured,
            staged,
            checkpoint,
            kv,
            log,
            ..Finish::new(run, outcome, settings)
        }))
    }

    /// Of one to four runs that are remembered, most often of one tenant and each of another job.
    fn finish_call(&mut self) -> Command {
        let first = self.a_run();
        let mut runs = vec![first];
        for _ in 0..self.dice.below(4) {
            let run = self.a_run();
            let fits = run.at.tenant == first.at.tenant && runs.iter().all(|other| other.at != run.at);
            if fits || self.dice.one_in(20) {
                runs.push(run);
            }
        }
        let failed = self.dice.one_in(4);
        let settings = RunSettings { max_attempts: 3, retry: RetryPolicy::default() };
        let together = Outcome::TimedOut { limit: Millis(5) };
        let end = |run| Ended {
            run,
            outcome: if failed { together.clone() } else { self.outcome() },
            settings: settings.clone(),
            measured: Measured::default(),
        };
        let runs = runs.into_iter().map(end).collect();
        let (staged, kv) = (self.staged(first.at), self.kv(first.at.tenant));
        let log = self.dice.maybe(2, |d| vec![b'c'; d.below(30) as usize]);
        Command::FinishCall(Box::new(FinishCall { runs, failed, staged, merged: Vec::new(), kv, log }))
    }

    /// Few keys with few values, so that conditions hold and do not.
    fn kv(&mut self, tenant: TenantId) -> Option<KvWrites> {
        let plugins: Vec<PluginId> = self.plugins.iter().filter(|(of, _)| *of == tenant).map(|(_, id)| *id).collect();
        let plugin = *self.dice.pick(&plugins)?;
        let d = &mut self.dice;
        let value = |d: &mut super::Dice| d.maybe(2, |d| vec![b'v'; d.below(3) as usize]);
        let write = |d: &mut super::Dice| KvWrite {
            key: ["", "a", "ab", "b"][d.below(4) as usize].to_owned(),
            expected: d.maybe(3, value),
            value: value(d),
        };
        d.maybe(2, |d| KvWrites { plugin, writes: (0..1 + d.below(3)).map(|_| write(d)).collect() })
    }

    /// A page of a plugin's keys that may be asked for at any time.
    pub(crate) fn keys_query(&mut self) -> KvKeysQuery {
        let (tenant, plugin) = self.dice.pick(&self.plugins).copied().unwrap_or_default();
        let d = &mut self.dice;
        let word = |d: &mut super::Dice| ["", "a", "ab", "c"][d.below(4) as usize].to_owned();
        let space = Namespace { tenant, plugin };
        KvKeysQuery { space, prefix: word(d), after: d.maybe(2, word), limit: d.below(5) as u32 }
    }

    /// A run that something may be asked about.
    pub(crate) fn some_run(&mut self) -> RunRef {
        self.a_run()
    }

    fn outcome(&mut self) -> Outcome {
        let d = &mut self.dice;
        let text = || "text".to_owned();
        match d.below(14) {
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
        }
    }

    /// Under ids that were reserved, most often; now and then under one that never was.
    fn staged(&mut self, of: JobRef) -> Vec<StagedJob> {
        let n = self.dice.below(3);
        let mut staged = Vec::new();
        for position in 0..n {
            // Beyond what listeners take in one batch: one that listens is nobody's staged job.
            let never = JobId(self.next_job + 1_000 + position);
            let id = if self.dice.one_in(20) { Some(never) } else { self.reserved.pop() };
            let spec = self.spec(of.tenant, position);
            staged.extend(id.map(|id| StagedJob { id, spec }));
        }
        staged
    }

    /// Whoever listens is never listened to at its beginning: each such job would lead to others.
    fn subscribe(&mut self) -> Subscribe {
        let tenant = self.a_tenant();
        let n = self.dice.below(4);
        let one = |_| {
            let d = &mut self.dice;
            let event = EventName::ALL[d.below(EventName::ALL.len() as u64) as usize];
            let of = if event == EventName::Enqueued { "a" } else { ["a", "b", "*", "alert"][d.below(4) as usize] };
            subscription(event, of, "alert")
        };
        Subscribe { tenant, subscriptions: (0..n).map(one).collect() }
    }

    fn end_boots(&mut self) -> Command {
        let living = self.a_boot();
        let started = self.runs.iter().copied().filter(|_| self.dice.one_in(2)).collect();
        Command::EndBoots(EndBoots { living, started, settings: Vec::new() })
    }

    fn edit(&mut self) -> Command {
        let job = self.a_job();
        let now = self.now;
        let mut aside = self.aside();
        let d = &mut self.dice;
        let edit = Edit {
            priority: d.maybe(2, |d| Priority(d.below(5) as i16 - 2)),
            run_at: d.maybe(2, |d| Time(now.0 + d.below(2_000) - 500)),
            max_attempts: d.maybe(4, |d| d.below(4) as u32),
            timeout: d.maybe(4, |d| Millis(d.below(1_000))),
            args: d.maybe(4, |d| vec![b'e'; d.below(30) as usize]),
            expires_at: d.maybe(4, |d| d.maybe(2, |d| Time(now.0 + d.below(2_000)))),
            retry: d.maybe(4, |_| RetryPolicy::default()),
            tags: d.maybe(4, |d| vec![("t".to_owned(), d.below(3).to_string())]),
            depth: None,
            key: aside.maybe(2, |d| d.maybe(2, |d| JobKey::text(KEYS[d.below(3) as usize]))),
        };
        Command::Edit { job, edit: Box::new(edit) }
    }

    fn a_name(&mut self) -> Command {
        let tenant = self.a_tenant();
        let n = self.dice.below(3);
        Command::Name(match self.dice.below(5) {
            0 => Name::of_tenant(["default", "acme", "Not a name"][n as usize]),
            1 => Name { tenant, class: NameClass::Kind, name: ["a", "b", "c"][n as usize].to_owned() },
            _ => Name::of_plugin(tenant, ["thumbs", "mail", "audit"][n as usize]),
        })
    }

    fn a_sweep(&mut self) -> Command {
        let after = self.sweep.take_if(|_| !self.dice.one_in(4));
        Command::Sweep(Sweep { after, budget: self.dice.below(30) as u32 })
    }

    fn a_bulk(&mut self) -> Command {
        let lane = self.a_lane();
        let before = self.bulk.take();
        let d = &mut self.dice;
        let verb = match d.below(4) {
            0 => BulkVerb::Cancel { reason: None },
            1 => BulkVerb::Retry,
            2 => BulkVerb::Release,
            _ => BulkVerb::Delete { force: d.one_in(2), cascade: d.one_in(2) },
        };
        let filter = JobsQuery {
            state: d.maybe(2, |d| StateName::ALL[d.below(9) as usize]),
            queue: d.maybe(2, |_| lane.queue),
            kind: d.maybe(2, |_| lane.kind),
            tag: d.maybe(3, |d| ("t".to_owned(), d.below(3).to_string())),
            beyond: before,
            ..JobsQuery::all(lane.tenant, d.below(6) as u32)
        };
        Command::Bulk(Box::new(Bulk { filter, verb }))
    }

    /// What may be asked at any time.
    pub(crate) fn query(&mut self) -> JobsQuery {
        let lane = self.a_lane();
        let (before, now) = (self.a_job().job, self.now);
        let d = &mut self.dice;
        // Beside the others, so that what is only asked changes nothing else that follows from a seed.
        let aside = &mut Dice(d.0 ^ 0x0af7_e51a);
        let only = Only {
            since: aside.maybe(6, |d| Time(now.0.saturating_sub(d.below(60_000)))),
            until: aside.maybe(6, |d| Time(now.0.saturating_sub(d.below(60_000)))),
            outcome: aside.maybe(6, |d| OutcomeName::ALL[d.below(13) as usize]),
            schedule: aside.maybe(9, |_| "hourly".to_owned()),
            unique_key: aside.maybe(9, |d| format!("s{}", d.below(4))),
            error: aside.maybe(9, |d| Fingerprint::of(OutcomeName::ALL[d.below(13) as usize], "text")),
            about: aside.maybe(9, |d| About { text: d.below(40).to_string(), kinds: vec![lane.kind] }),
        };
        let oldest_first = aside.one_in(3);
        JobsQuery {
            state: d.maybe(2, |d| StateName::ALL[d.below(9) as usize]),
            queue: d.maybe(3, |_| lane.queue),
            kind: d.maybe(3, |_| lane.kind),
            tag: d.maybe(3, |d| ("t".to_owned(), d.below(4).to_string())),
            beyond: d.maybe(2, |_| before),
            oldest_first,
            only,
            ..JobsQuery::all(lane.tenant, d.below(30) as u32)
        }
    }

    /// The job that something may be asked about.
    pub(crate) fn someone(&mut self) -> JobRef {
        self.a_job()
    }
}

/// A tenant whose kind `alert` listens to these events of all.
fn listening(tenant: u32, events: &[EventName]) -> Command {
    let subscriptions = events.iter().map(|event| subscription(*event, "*", "alert")).collect();
    Command::Subscribe(Box::new(Subscribe { tenant: TenantId(tenant), subscriptions }))
}

fn subscription(event: EventName, of: &str, kind: &str) -> Subscription {
    let key = KeyPath::parse("args.kind").ok();
    let to = Listener { kind: kind.to_owned(), queue: "p".to_owned(), priority: Priority(1), key };
    Subscription { event, of: vec![of.to_owned()], to, by: "alerts".to_owned() }
}
