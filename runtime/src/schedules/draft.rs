//! A schedule as its author says it, in a manifest, a request or a command line: what is said and what is not. Makes and
//! changes a [`Plan`], and checks all of it, calendar included.

use runner_store::job::{Invalid, JobSpec, Millis, Priority, RetryPolicy, Time};
use runner_store::schedule::{CATCH_UP_MAX, CatchUp, Overlap, Plan, When};

use super::cron::{Slots, time_zone};

/// The zone of a cron expression that says none.
const ZONE_DEFAULT: &str = "UTC";
/// What a handler gets where nobody gave args.
const ARGS_DEFAULT: &[u8] = b"{}";

/// See the module. Of what has two layers, the inner none says that there is to be none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of `Plan`, `When` and `JobSpec`, where each is documented")]
pub struct Draft {
    pub cron: Option<String>,
    pub timezone: Option<String>,
    pub every: Option<Millis>,
    pub start: Option<Time>,
    pub overlap: Option<Overlap>,
    pub catch_up: Option<CatchUp>,
    pub deadline: Option<Option<Millis>>,
    pub kind: Option<String>,
    pub args: Option<Vec<u8>>,
    pub queue: Option<String>,
    pub priority: Option<Priority>,
    pub max_attempts: Option<Option<u32>>,
    pub timeout: Option<Option<Millis>>,
    pub retry: Option<Option<RetryPolicy>>,
    pub tags: Option<Vec<(String, String)>>,
}

impl Draft {
    /// The plan of a new schedule. Intervals that say no start begin at `start`; `defaults` are the queue and the priority
    /// of the kind.
    ///
    /// # Errors
    /// The first field that is missing or wrong.
    pub fn plan(self, start: Time, defaults: (Option<String>, Option<i16>)) -> Result<Plan, Invalid> {
        let Some(kind) = self.kind.clone() else {
            return Err(invalid("kind", "is missing: what its jobs are to do, for example \"report.nightly\""));
        };
        let when = match self.when(start)? {
            Some(when) => when,
            None => {
                let why = "is missing; give `cron` (\"30 2 * * *\") or `every` (\"5m\")";
                return Err(invalid("cron", why));
            }
        };
        let (queue, priority) = defaults;
        let mut job = JobSpec::new(kind, ARGS_DEFAULT);
        job.queue = queue.unwrap_or(job.queue);
        job.priority = priority.map(Priority).unwrap_or_default();
        let plan = Plan { when, overlap: Overlap::default(), catch_up: CatchUp::default(), deadline: None, job };
        self.checked(plan)
    }

    /// The plan that comes of `plan` by what is said here. An interval that replaces a cron expression and says no start
    /// begins at `start`; one that replaces an interval keeps its start.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn edit(self, plan: Plan, start: Time) -> Result<Plan, Invalid> {
        let old = plan.when.clone();
        let when = match (&old, self.cron.is_some() || self.every.is_some()) {
            (When::Cron { cron, .. }, false) if self.timezone.is_some() => {
                Self { cron: Some(cron.clone()), ..self.clone() }.when(start)?
            }
            (When::Every { interval, .. }, false) if self.start.is_some() => {
                Self { every: Some(*interval), ..self.clone() }.when(start)?
            }
            (When::Cron { zone, .. }, true) if self.cron.is_some() && self.timezone.is_none() => {
                Self { timezone: Some(zone.clone()), ..self.clone() }.when(start)?
            }
            (When::Every { start, .. }, true) => self.when(*start)?,
            _ => self.when(start)?,
        };
        self.checked(Plan { when: when.unwrap_or(old), ..plan })
    }

    /// What is said of the times; none if nothing is.
    fn when(&self, start: Time) -> Result<Option<When>, Invalid> {
        match (&self.cron, self.every) {
            (Some(_), Some(_)) => Err(invalid("every", "and `cron` exclude each other: keep one")),
            (Some(_), None) if self.start.is_some() => {
                Err(invalid("start", "belongs to `every`; the times of a cron expression have no beginning"))
            }
            (Some(cron), None) => {
                let zone = self.timezone.as_deref().unwrap_or(ZONE_DEFAULT);
                // As its owners spell it.
                let zone = match time_zone(zone) {
                    Ok(found) => found.iana_name().unwrap_or(zone).to_owned(),
                    Err(why) => return Err(invalid("timezone", &why)),
                };
                Ok(Some(When::Cron { cron: cron.trim().to_owned(), zone }))
            }
            (None, Some(_)) if self.timezone.is_some() => {
                Err(invalid("timezone", "belongs to `cron`; an interval is the same everywhere"))
            }
            (None, Some(interval)) => Ok(Some(When::Every { interval, start: self.start.unwrap_or(start) })),
            (None, None) if self.timezone.is_some() => {
                Err(invalid("timezone", "belongs to `cron`, which is not there"))
            }
            (None, None) if self.start.is_some() => Err(invalid("start", "belongs to `every`, which is not there")),
            (None, None) => Ok(None),
        }
    }

    fn checked(self, mut plan: Plan) -> Result<Plan, Invalid> {
        if let (Some(Some(deadline)), None, When::Every { interval, .. }) = (self.deadline, self.overlap, &plan.when)
            && deadline > *interval
            && plan.overlap == Overlap::default()
        {
            let why = format!("is longer than the interval of {interval}; shorten it, or say which overlap is meant");
            return Err(invalid("deadline", &why));
        }
        plan.overlap = self.overlap.unwrap_or(plan.overlap);
        plan.catch_up = self.catch_up.unwrap_or(plan.catch_up);
        plan.deadline = self.deadline.unwrap_or(plan.deadline);
        let job = &mut plan.job;
        job.kind = self.kind.unwrap_or_else(|| std::mem::take(&mut job.kind));
        job.args = self.args.unwrap_or_else(|| std::mem::take(&mut job.args));
        job.queue = self.queue.unwrap_or_else(|| std::mem::take(&mut job.queue));
        job.priority = self.priority.unwrap_or(job.priority);
        job.max_attempts = self.max_attempts.unwrap_or(job.max_attempts);
        job.timeout = self.timeout.unwrap_or(job.timeout);
        job.retry = self.retry.unwrap_or_else(|| job.retry.take());
        job.tags = self.tags.unwrap_or_else(|| std::mem::take(&mut job.tags));
        plan.check()?;
        Slots::of(&plan.when)?;
        Ok(plan)
    }
}

/// The overlap policy of that word.
///
/// # Errors
/// The words that there are.
pub fn parse_overlap(word: &str) -> Result<Overlap, String> {
    let known = Overlap::ALL.into_iter().find(|overlap| overlap.as_str() == word);
    known.ok_or_else(|| {
        "must be skip (one at a time), queue (one after another as slots allow) or cancel-running (the newest)"
            .to_owned()
    })
}

/// The catch-up policy of that word or number.
///
/// # Errors
/// What would be right.
pub fn parse_catch_up(word: &str) -> Result<CatchUp, String> {
    match (word, word.parse::<u32>()) {
        ("none", _) => Ok(CatchUp::None),
        ("one", _) => Ok(CatchUp::One),
        (_, Ok(n)) if (1..=CATCH_UP_MAX).contains(&n) => Ok(CatchUp::All(n)),
        _ => Err(format!("must be none, one, or a number from 1 to {CATCH_UP_MAX}: all missed slots up to so many")),
    }
}

fn invalid(field: &str, why: &str) -> Invalid {
    Invalid { field: field.to_owned(), why: why.to_owned() }
}
