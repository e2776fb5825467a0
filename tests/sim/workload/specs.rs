//! Random jobs, and what is set for queues, tenants and the store.

use runner_store::command::{Keep, KindSettings, Pause, QueueSettings, Rate, Settings, StoreSettings, TenantSettings};
use runner_store::job::{
    Backoff, DependsOn, EdgePolicy, JobId, JobKey, JobSpec, Millis, On, OnConflict, Priority, QueueOrder, RetryPolicy,
    StateName, States, TenantId, Time, Unique,
};

use super::{Dice, KEYS, Workload};

const HOUR: u64 = 3_600_000;

impl Workload {
    /// A job of this tenant, the `position`-th of its list.
    pub(super) fn spec(&mut self, tenant: TenantId, position: u64) -> JobSpec {
        let (depends_on, unique) = (self.dependencies(tenant, position), self.unique());
        let now = self.now;
        let mut aside = self.aside();
        let key = aside.maybe(4, |d| JobKey::text(KEYS[d.below(KEYS.len() as u64) as usize]));
        let d = &mut self.dice;
        let backoffs = [
            Backoff::Constant { base: Millis(300) },
            Backoff::Linear { base: Millis(200) },
            Backoff::List(vec![Millis(0), Millis(900)]),
            Backoff::Never,
        ];
        let kind = if d.one_in(80) { "not a name" } else { ["a", "b"][d.below(2) as usize] };
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
            tags: d.maybe(3, |d| ("t".to_owned(), d.below(3).to_string())).into_iter().collect(),
            depends_on,
            unique,
            key,
            depth: d.maybe(12, |d| 17 + d.below(5) as u32).unwrap_or_default(),
            ..JobSpec::new(kind, vec![b'x'; d.below(40) as usize])
        }
    }

    /// On jobs of the same tenant most often, and on earlier jobs of the list; now and then on what is not there, or on a
    /// later one, which may close a circle.
    fn dependencies(&mut self, tenant: TenantId, position: u64) -> Vec<DependsOn> {
        if !self.dice.one_in(2) {
            return Vec::new();
        }
        let n = 1 + self.dice.below(3);
        let mut edges: Vec<DependsOn> = Vec::new();
        for _ in 0..n {
            let on = match self.dice.below(10) {
                0..5 if position > 0 => On::Position(self.dice.below(position) as u32),
                5 if self.dice.one_in(10) => On::Position(self.dice.below(8) as u32),
                _ => On::Job(self.one_to_wait_for(tenant)),
            };
            let on_failure = if self.dice.one_in(3) { EdgePolicy::Run } else { EdgePolicy::Cancel };
            if edges.iter().all(|edge| edge.on != on) {
                edges.push(DependsOn { on, on_failure });
            }
        }
        edges
    }

    fn one_to_wait_for(&mut self, tenant: TenantId) -> JobId {
        if let Some(at) = self.focus.filter(|at| at.tenant == tenant) {
            return at.job;
        }
        let of_tenant: Vec<JobId> = self.recent.iter().filter(|at| at.tenant == tenant).map(|at| at.job).collect();
        match self.dice.pick(&of_tenant) {
            Some(job) if !self.dice.one_in(50) => *job,
            _ => self.a_job().job,
        }
    }

    /// Keys that begin with `s` are held by every unfinished state and nothing else.
    fn unique(&mut self) -> Option<Unique> {
        let d = &mut self.dice;
        if !d.one_in(3) {
            return None;
        }
        let on_conflict = match d.below(5) {
            0 => OnConflict::Keep,
            1 => OnConflict::Replace,
            2 => OnConflict::Debounce { delay: Millis(d.below(500)), max: d.maybe(2, |d| Millis(d.below(2_000))) },
            3 => OnConflict::Merge,
            _ => OnConflict::Reject,
        };
        let (class, states, period) = match d.below(4) {
            0 => ("p", States::default(), Some(Millis(d.below(3_000)))),
            1 => ("c", States::of(StateName::ALL.into_iter().filter(|_| d.one_in(2))), d.maybe(2, |_| Millis(500))),
            _ => ("s", States::default(), None),
        };
        Some(Unique { key: format!("{class}{}", d.below(6)), states, period, on_conflict })
    }

    pub(super) fn settings(&mut self) -> Settings {
        let tenant = self.a_tenant();
        let trims = self.trims;
        // Beside the others, so that what schedulers alone care about changes nothing else that follows from a seed.
        let aside = &mut Dice(self.dice.0 ^ 0x5ca1_ab1e);
        let d = &mut self.dice;
        if aside.one_in(9) {
            let concurrency = aside.maybe(2, |d| d.below(5) as u32);
            let kind = ["k", "unused"][aside.below(2) as usize].to_owned();
            return Settings::Kind(tenant, kind, KindSettings { concurrency, ..KindSettings::default() });
        }
        match d.below(8) {
            0 => Settings::Store(StoreSettings {
                log_age: if trims { Millis(d.below(4) * HOUR) } else { Millis(u64::MAX) },
                log_bytes: if trims { d.below(200_000) } else { u64::MAX },
            }),
            1..5 => Settings::Queue(
                tenant,
                ["p", "q", "unused"][d.below(3) as usize].to_owned(),
                QueueSettings {
                    capacity: d.maybe(2, |d| d.below(60)),
                    order: [QueueOrder::RunAt, QueueOrder::Priority, QueueOrder::Aged(Millis(700))]
                        [d.below(3) as usize],
                    // One in five of these cannot hold.
                    concurrency: aside.maybe(3, |d| d.below(5) as u32),
                    rate: aside.maybe(4, |d| Rate { jobs: d.below(5) as u32, per: Millis(d.below(3) * 500), burst: 1 }),
                    weight: aside.maybe(4, |d| d.below(5) as u32),
                    pause: aside.maybe(4, |_| Pause::Open),
                    drain: aside.one_in(40),
                },
            ),
            _ => Settings::Tenant(
                tenant,
                TenantSettings {
                    capacity: d.below(120),
                    stored_bytes: 500 + d.below(8_000),
                    keep: Keep {
                        completed: Millis(d.below(3) * HOUR),
                        cancelled: Millis(d.below(3) * HOUR),
                        discarded: Millis(d.below(30) * HOUR),
                        completed_max: d.below(80),
                    },
                    ..TenantSettings::default()
                },
            ),
        }
    }
}
