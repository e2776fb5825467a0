//! Schedules: what is to be enqueued again and again, and when. What a schedule is, its bounds, and what it counts; pure.
//!
//! The times at which a schedule is to enqueue are its *slots*. Which they are is computed by whoever asks for one to be
//! fired, from the words in [`When`]: the store knows no calendar. It knows the last slot that was decided, and that no slot
//! up to it ever fires again, whoever asks and whatever the clock says.

use serde::{Deserialize, Serialize};

use crate::job::{Invalid, JobId, JobSpec, Millis, TenantId, Time, name_problem};

/// Schedules of one tenant.
pub const SCHEDULES_MAX: u64 = 1_000;
/// Args of a schedule's jobs: they are kept with the schedule, and written anew with every job.
pub const ARGS_BYTES_MAX: usize = 64 * 1024;
/// A cron expression, or the name of a time zone: far more than any has.
pub const WORDS_BYTES_MAX: usize = 256;
/// An interval, at least: a second, as with cron; what is to come more often is a loop, not a schedule.
pub const INTERVAL_MIN: Millis = Millis::secs(1);
/// An interval, at most: a year.
pub const INTERVAL_MAX: Millis = Millis::secs(366 * 24 * 3_600);
/// How long after its slot a job may begin, at most: a year.
pub const DEADLINE_MAX: Millis = INTERVAL_MAX;
/// Slots that are made up for at once, and so jobs of one command.
pub const CATCH_UP_MAX: u32 = 1_000;
/// Unfinished jobs of a schedule that are read with it: so many are cancelled at once.
pub const OVERLAPS_READ: usize = 100;

/// The name of a schedule, within its tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleRef {
    /// Whose.
    pub tenant: TenantId,
    /// The word, as for kinds.
    pub name: String,
}

/// A schedule, as it is kept.
///
/// The order of the fields is the order of the stored record: fields are only ever added at the end, with a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Whose.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// What it does and when.
    pub plan: Plan,
    /// Whose word it is.
    pub source: Source,
    /// Since when it fires no slot, if it does not.
    pub paused_at: Option<Time>,
    /// When it was made.
    pub created_at: Time,
    /// Slots before this are none of its: it was made, resumed, or its times were changed then.
    pub from: Time,
    /// The last slot that was decided, whether it became a job or was skipped.
    pub last: Option<Time>,
    /// How often it was edited: whoever fires it says of which edition.
    pub edits: u32,
    /// What became of its slots.
    pub tally: Tally,
}

/// What a schedule does, and when: what its author says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its slots.
    pub when: When,
    /// What a slot does that finds an unfinished job of the schedule.
    pub overlap: Overlap,
    /// What becomes of slots that nobody fired in time.
    pub catch_up: CatchUp,
    /// If a job has not begun to run so long after its slot, it is discarded.
    pub deadline: Option<Millis>,
    /// The jobs; without times, dependencies and unique keys.
    pub job: JobSpec,
}

/// The slots of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// By the calendar.
    Cron {
        /// The expression, checked by whoever knows calendars.
        cron: String,
        /// The IANA name of the time zone.
        zone: String,
    },
    /// Slot n is start + n × interval, n = 0 included.
    Every {
        /// [`INTERVAL_MIN`] to [`INTERVAL_MAX`].
        interval: Millis,
        /// Slot 0.
        start: Time,
    },
}

/// What a slot does that finds a job of its schedule which has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Overlap {
    /// It is skipped.
    #[default]
    Skip,
    /// It becomes a job beside the others.
    Queue,
    /// The others are cancelled, and it becomes a job.
    CancelRunning,
}

/// What becomes of slots that nobody fired in time: the node was down, or the clock stepped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CatchUp {
    /// They are skipped.
    None,
    /// The last of them is made up for.
    #[default]
    One,
    /// The last so many are: 1 to [`CATCH_UP_MAX`].
    All(u32),
}

/// Whose word a schedule is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// It was made by a caller, and is changed by callers.
    Api,
    /// It stands in the manifest of this plugin, and goes with it.
    Manifest(String),
}

/// Why a slot became no job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// Nobody fired it in time.
    Missed,
    /// A job of the schedule had not ended.
    Overlap,
    /// The queue, or the tenant, had as many jobs as it may have.
    QueueFull,
    /// The tenant's stored bytes were used up.
    TenantStorage,
    /// The disk was too full for new jobs.
    DiskReserve,
}

/// What became of the slots of a schedule, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Jobs that it made, by slots and by hand.
    pub fired: u64,
    /// Slots that were skipped as nobody fired them in time.
    pub missed: u64,
    /// Slots that were skipped as a job had not ended.
    pub overlapped: u64,
    /// Slots that were skipped as there was no room.
    pub no_room: u64,
    /// The last job, and when it was made.
    pub last_fired: Option<(Time, JobId)>,
    /// The last slot that was skipped, and why.
    pub last_skipped: Option<(Time, Skip)>,
}

/// Which schedule made a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfSchedule {
    /// Its name.
    pub name: String,
    /// Of which slot the job is; none: someone fired the schedule by hand.
    pub slot: Option<Time>,
}

impl Skip {
    /// The word for people and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Overlap => "overlap",
            Self::QueueFull => "queue_full",
            Self::TenantStorage => "tenant_storage",
            Self::DiskReserve => "disk_reserve",
        }
    }
}

impl Overlap {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Skip, Self::Queue, Self::CancelRunning];

    /// The word for people and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Queue => "queue",
            Self::CancelRunning => "cancel-running",
        }
    }
}

impl CatchUp {
    /// How many late slots are made up for at most.
    #[must_use]
    pub fn max(self) -> u32 {
        match self {
            Self::None => 0,
            Self::One => 1,
            Self::All(n) => n,
        }
    }
}

impl Tally {
    /// Counts `n` skipped slots, of which `slot` is the last.
    pub fn skip(&mut self, slot: Time, why: Skip, n: u64) {
        let count = match why {
            Skip::Missed => &mut self.missed,
            Skip::Overlap => &mut self.overlapped,
            Skip::QueueFull | Skip::TenantStorage | Skip::DiskReserve => &mut self.no_room,
        };
        *count = count.saturating_add(n);
        self.last_skipped = Some((slot, why));
    }
}

impl Schedule {
    /// Where and whose it is.
    #[must_use]
    pub fn at(&self) -> ScheduleRef {
        ScheduleRef { tenant: self.tenant, name: self.name.clone() }
    }

    /// Whether `slot` may still fire: it is one of its own, and behind the last one that was decided. `resumed` is when
    /// the store was last let go after a restore: what was missed before that is not made up for.
    #[must_use]
    pub fn may_fire(&self, slot: Time, resumed: Time) -> bool {
        slot >= self.from && slot >= resumed && self.last.is_none_or(|last| slot > last)
    }
}

impl Plan {
    /// Checks every bound of a plan that needs no calendar.
    ///
    /// # Errors
    /// The first field that breaks one.
    pub fn check(&self) -> Result<(), Invalid> {
        match &self.when {
            When::Cron { cron, zone } => {
                let fits = |words: &str| (1..=WORDS_BYTES_MAX).contains(&words.len());
                ensure("cron", fits(cron), || format!("must be 1 to {WORDS_BYTES_MAX} bytes long"))?;
                ensure("timezone", fits(zone), || format!("must be 1 to {WORDS_BYTES_MAX} bytes long"))?;
            }
            When::Every { interval, start } => {
                let fits = (INTERVAL_MIN..=INTERVAL_MAX).contains(interval);
                ensure("every", fits, || format!("is {interval}; an interval is 1s to 366d"))?;
                ensure("start", *start <= Time::MAX, || "is after the year 9999".to_owned())?;
            }
        }
        if let CatchUp::All(n) = self.catch_up {
            let why = || format!("must be none, one, or a number from 1 to {CATCH_UP_MAX}");
            ensure("catch_up", (1..=CATCH_UP_MAX).contains(&n), why)?;
        }
        let fits = self.deadline.is_none_or(|deadline| (INTERVAL_MIN..=DEADLINE_MAX).contains(&deadline));
        ensure("deadline", fits, || "must be 1s to 366d".to_owned())?;
        self.job.check()?;
        let max = ARGS_BYTES_MAX;
        let bytes = self.job.args.len();
        ensure("args", bytes <= max, || format!("{bytes} bytes; a schedule's are at most {max} (64 KiB)"))?;
        let spec = &self.job;
        let fields = [
            ("run_at", spec.run_at.is_some()),
            ("delay", spec.delay.is_some()),
            ("expires_at", spec.expires_at.is_some()),
            ("depends_on", !spec.depends_on.is_empty()),
            ("unique", spec.unique.is_some()),
            ("hold", spec.hold),
        ];
        match fields.into_iter().find(|(_, said)| *said) {
            None => Ok(()),
            Some((field, _)) => {
                let why = "is not possible for a schedule's jobs: its slots, overlap and deadline say such things";
                Err(Invalid { field: field.to_owned(), why: why.to_owned() })
            }
        }
    }
}

/// What is wrong with the name of a schedule; none if nothing is.
#[must_use]
pub fn schedule_problem(name: &str) -> Option<String> {
    name_problem(name)
}

fn ensure(field: &str, holds: bool, why: impl FnOnce() -> String) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid { field: field.to_owned(), why: why() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Plan), field: Option<&str>) {
        let mut plan = Plan {
            when: When::Every { interval: Millis::secs(60), start: Time(0) },
            overlap: Overlap::Skip,
            catch_up: CatchUp::One,
            deadline: None,
            job: JobSpec::new("report.nightly", "{}"),
        };
        change(&mut plan);
        assert_eq!(plan.check().err().map(|e| e.field).as_deref(), field);
    }

    fn every(interval: u64) -> When {
        When::Every { interval: Millis(interval), start: Time(0) }
    }

    #[test]
    fn each_bound_is_kept_at_its_edge() {
        check(|_| (), None);
        for (interval, field) in [(0, Some("every")), (999, Some("every")), (1_000, None)] {
            check(|plan| plan.when = every(interval), field);
        }
        check(|plan| plan.when = every(INTERVAL_MAX.0), None);
        check(|plan| plan.when = every(INTERVAL_MAX.0 + 1), Some("every"));
        check(|plan| plan.when = every(u64::MAX), Some("every"));
        check(|plan| plan.when = When::Every { interval: Millis(1_000), start: Time(u64::MAX) }, Some("start"));
        let cron = |cron: &str, zone: &str| When::Cron { cron: cron.to_owned(), zone: zone.to_owned() };
        check(|plan| plan.when = cron("", "UTC"), Some("cron"));
        check(|plan| plan.when = cron(&"*".repeat(257), "UTC"), Some("cron"));
        check(|plan| plan.when = cron("* * * * *", ""), Some("timezone"));
        for (n, field) in [(0, Some("catch_up")), (1, None), (1_000, None), (1_001, Some("catch_up"))] {
            check(|plan| plan.catch_up = CatchUp::All(n), field);
        }
        check(|plan| plan.deadline = Some(Millis(999)), Some("deadline"));
        check(|plan| plan.deadline = Some(Millis(u64::MAX)), Some("deadline"));
        check(|plan| plan.job.args = vec![b'1'; ARGS_BYTES_MAX], None);
        check(|plan| plan.job.args = vec![b'1'; ARGS_BYTES_MAX + 1], Some("args"));
        check(|plan| plan.job.kind = "no way".to_owned(), Some("kind"));
        check(|plan| plan.job.delay = Some(Millis(1)), Some("delay"));
        check(|plan| plan.job.hold = true, Some("hold"));
    }
}
