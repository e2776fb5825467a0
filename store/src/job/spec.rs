//! What one asks for when one enqueues a job, and the bounds that it must keep.

use serde::{Deserialize, Serialize};

use crate::schedule::OfSchedule;

use super::{Backoff, Edit, JobId, JobKey, Millis, Priority, RetryPolicy, StateName, Time, limits};

/// One job to be enqueued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// What is to be done.
    pub kind: String,
    /// The line it stands in.
    pub queue: String,
    /// What the handler gets, byte for byte; JSON by convention.
    #[serde(with = "serde_bytes")]
    pub args: Vec<u8>,
    /// Lower runs first.
    pub priority: Priority,
    /// When it may run; in the past or none: now.
    pub run_at: Option<Time>,
    /// Instead of `run_at`: so long after it is accepted.
    pub delay: Option<Millis>,
    /// If it has not begun to run by then, it is discarded.
    pub expires_at: Option<Time>,
    /// Its own bound on attempts.
    pub max_attempts: Option<u32>,
    /// Its own time-out of a run.
    pub timeout: Option<Millis>,
    /// Its own retry policy.
    pub retry: Option<RetryPolicy>,
    /// Free labels; a key occurs once.
    pub tags: Vec<(String, String)>,
    /// Enqueue on hold, until released.
    pub hold: bool,
    /// What it waits for.
    pub depends_on: Vec<DependsOn>,
    /// What there may be only one of.
    pub unique: Option<Unique>,
    /// How many jobs in a row have enqueued each other, up to this one. Of a staged job it is not asked: that follows from
    /// the run that stages it.
    #[serde(default)]
    pub depth: u32,
    /// The schedule that makes it. Nobody else can say so.
    #[serde(default)]
    pub schedule: Option<OfSchedule>,
    /// Its key among the jobs of its kind, as read from the args by whoever knows the kind. Schedules keep none: it is read
    /// when they fire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<JobKey>,
}

/// One thing that a job is to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependsOn {
    /// Which job.
    pub on: On,
    /// What follows if it does not end well.
    pub on_failure: EdgePolicy,
}

/// How a job that is waited for is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum On {
    /// By its id; of the same tenant.
    Job(JobId),
    /// By its place in the same list, from 0.
    Position(u32),
}

/// Of jobs with the same key there is one at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    /// The key, unique within the tenant: 1 to 256 bytes.
    pub key: String,
    /// In which states a job holds its key.
    pub states: States,
    /// So long after it was accepted it holds the key whatever its state, even if it is gone.
    pub period: Option<Millis>,
    /// What an enqueue does that finds the key held.
    pub on_conflict: OnConflict,
}

/// What an enqueue does that finds its key held. While the holder runs, `Replace`, `Debounce` and `Merge` enqueue a new
/// job, which takes the key over; where the holder has ended (a period), they answer as `Keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnConflict {
    /// The holder stays as it is, and its id is the answer.
    #[default]
    Keep,
    /// The holder gets everything that the call states; its queue, its dependencies and its place stay.
    Replace,
    /// As `Replace`, and it runs so much later, again and again; the first one too, where it states no time of its own.
    Debounce {
        /// How long after this call.
        delay: Millis,
        /// How long after the holder was accepted at most; none: ten times the delay.
        max: Option<Millis>,
    },
    /// The holder's args become what the caller's side makes of both.
    Merge,
    /// The call is refused.
    Reject,
}

/// A set of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct States(u16);

impl States {
    /// Every state that is not final.
    pub const UNFINISHED: Self = Self(0b0_0011_1111);

    /// The set of these.
    pub fn of(states: impl IntoIterator<Item = StateName>) -> Self {
        Self(states.into_iter().fold(0, |set, state| set | 1 << state as u16))
    }

    /// Whether `state` is one of them.
    #[must_use]
    pub fn contains(self, state: StateName) -> bool {
        self.0 & (1 << state as u16) != 0
    }
}

impl Default for States {
    fn default() -> Self {
        Self::UNFINISHED
    }
}

/// What follows if a dependency does not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum EdgePolicy {
    /// The job that waits is cancelled.
    #[default]
    Cancel,
    /// It runs all the same.
    Run,
}

/// A field that breaks a rule about jobs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Invalid {
    /// Which one, as the API spells it.
    pub field: String,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl JobSpec {
    /// A job of this kind with these args, and the default for everything else.
    #[must_use]
    pub fn new(kind: impl Into<String>, args: impl Into<Vec<u8>>) -> Self {
        Self {
            kind: kind.into(),
            queue: "default".to_owned(),
            args: args.into(),
            priority: Priority::default(),
            run_at: None,
            delay: None,
            expires_at: None,
            max_attempts: None,
            timeout: None,
            retry: None,
            tags: Vec::new(),
            hold: false,
            depends_on: Vec::new(),
            unique: None,
            depth: 0,
            schedule: None,
            key: None,
        }
    }

    /// When it may run if it is accepted at `now`: as it states, or as its debounce does; never before `now`.
    #[must_use]
    pub fn runs_at(&self, now: Time) -> Time {
        let put_off = self.unique.as_ref().and_then(Unique::put_off).filter(|_| self.run_at.is_none());
        let wanted = self.delay.or(put_off).map(|delay| now.after(delay)).or(self.run_at);
        wanted.map_or(now, |wanted| wanted.max(now))
    }

    /// All that a row needs: without the args, which may be a mebibyte, and the names, which are numbers by then.
    #[must_use]
    pub fn for_row(&self) -> Self {
        Self {
            kind: String::new(),
            queue: String::new(),
            args: Vec::new(),
            retry: self.retry.clone(),
            tags: self.tags.clone(),
            depends_on: Vec::new(),
            unique: self.unique.clone(),
            schedule: self.schedule.clone(),
            key: self.key.clone(),
            ..*self
        }
    }

    /// Checks every bound of a job.
    ///
    /// # Errors
    /// The first field that breaks one.
    pub fn check(&self) -> Result<(), Invalid> {
        check_name("kind", &self.kind)?;
        check_name("queue", &self.queue)?;
        ensure("args", self.args.len() <= limits::PAYLOAD_BYTES_MAX, || {
            format!("{} bytes; the limit is {} (1 MiB)", self.args.len(), limits::PAYLOAD_BYTES_MAX)
        })?;
        ensure("delay", self.delay.is_none() || self.run_at.is_none(), || {
            "give either `delay` or `run_at`, not both".to_owned()
        })?;
        check_time("run_at", self.run_at)?;
        check_time("expires_at", self.expires_at)?;
        check_attempts(self.max_attempts)?;
        check_timeout(self.timeout)?;
        self.retry.as_ref().map_or(Ok(()), RetryPolicy::check)?;
        ensure("depth", self.depth <= limits::DEPTH_MAX, || format!("must be at most {}", limits::DEPTH_MAX))?;
        self.check_dependencies()?;
        self.unique.as_ref().map_or(Ok(()), Unique::check)?;
        self.key.as_ref().map_or(Ok(()), JobKey::check)?;
        check_tags(&self.tags)
    }

    fn check_dependencies(&self) -> Result<(), Invalid> {
        ensure("depends_on", self.depends_on.len() <= limits::DEPENDENCIES_MAX, || {
            format!("{} dependencies; the limit is {}", self.depends_on.len(), limits::DEPENDENCIES_MAX)
        })?;
        for (i, edge) in self.depends_on.iter().enumerate() {
            let twice = self.depends_on[..i].iter().any(|before| before.on == edge.on);
            ensure("depends_on", !twice, || match edge.on {
                On::Job(job) => format!("job {job} occurs twice"),
                On::Position(position) => format!("position {position} occurs twice"),
            })?;
        }
        Ok(())
    }
}

impl Unique {
    /// How long a new job is put off by being debounced, where it states no time of its own.
    #[must_use]
    pub fn put_off(&self) -> Option<Millis> {
        match self.on_conflict {
            OnConflict::Debounce { delay, max } => Some(max.map_or(delay, |max| delay.min(max))),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        ensure("unique.key", (1..=limits::UNIQUE_KEY_BYTES_MAX).contains(&self.key.len()), || {
            format!("must be 1 to {} bytes long", limits::UNIQUE_KEY_BYTES_MAX)
        })?;
        ensure("unique.states", self.states.0 != 0 || self.period.is_some(), || {
            "must name a state, or there must be a period".to_owned()
        })?;
        let in_bounds = |time: Option<Millis>| time.is_none_or(|time| time <= limits::UNIQUE_PERIOD_MAX);
        ensure("unique.period", in_bounds(self.period), || "must be at most 366 days".to_owned())?;
        if let OnConflict::Debounce { delay, max } = self.on_conflict {
            ensure("unique.delay", in_bounds(Some(delay)), || "must be at most 366 days".to_owned())?;
            ensure("unique.debounce_max", in_bounds(max), || "must be at most 366 days".to_owned())?;
        }
        Ok(())
    }
}

fn check_tags(tags: &[(String, String)]) -> Result<(), Invalid> {
    ensure("tags", tags.len() <= limits::TAGS_MAX, || {
        format!("{} tags; the limit is {}", tags.len(), limits::TAGS_MAX)
    })?;
    for (i, (key, value)) in tags.iter().enumerate() {
        ensure("tags", !key.is_empty() && key.len() <= limits::TAG_KEY_BYTES_MAX, || {
            format!("a key must be 1 to {} bytes long", limits::TAG_KEY_BYTES_MAX)
        })?;
        ensure("tags", value.len() <= limits::TAG_VALUE_BYTES_MAX, || {
            format!("the value of {key:?} is longer than {} bytes", limits::TAG_VALUE_BYTES_MAX)
        })?;
        ensure("tags", tags[..i].iter().all(|(k, _)| k != key), || format!("{key:?} occurs twice"))?;
    }
    Ok(())
}

impl Edit {
    /// Checks every bound of a job that an edit can change.
    ///
    /// # Errors
    /// The first field that breaks one.
    pub fn check(&self) -> Result<(), Invalid> {
        ensure("args", self.args.as_ref().is_none_or(|args| args.len() <= limits::PAYLOAD_BYTES_MAX), || {
            format!("the limit is {} bytes (1 MiB)", limits::PAYLOAD_BYTES_MAX)
        })?;
        check_time("run_at", self.run_at)?;
        check_time("expires_at", self.expires_at.flatten())?;
        check_attempts(self.max_attempts)?;
        self.retry.as_ref().map_or(Ok(()), RetryPolicy::check)?;
        check_tags(self.tags.as_deref().unwrap_or_default())?;
        self.key.iter().flatten().try_for_each(JobKey::check)?;
        check_timeout(self.timeout)
    }
}

impl RetryPolicy {
    /// Checks every bound of a retry policy.
    ///
    /// # Errors
    /// The first field that breaks one.
    pub fn check(&self) -> Result<(), Invalid> {
        let in_bounds = |delay: Millis| delay <= limits::RETRY_DELAY_MAX;
        ensure("retry.jitter", self.jitter_permille <= 1_000, || "must be 0 to 1".to_owned())?;
        ensure("retry.max", in_bounds(self.max), || "must be at most 49 days".to_owned())?;
        match &self.backoff {
            Backoff::Exponential { base, factor_permille } => {
                ensure("retry.base", in_bounds(*base), || "must be at most 49 days".to_owned())?;
                let factors = 1_000..=limits::RETRY_FACTOR_PERMILLE_MAX;
                ensure("retry.factor", factors.contains(factor_permille), || "must be 1 to 100".to_owned())
            }
            Backoff::Linear { base } | Backoff::Constant { base } => {
                ensure("retry.base", in_bounds(*base), || "must be at most 49 days".to_owned())
            }
            Backoff::List(delays) => {
                ensure("retry.delays", (1..=limits::RETRY_DELAYS_MAX).contains(&delays.len()), || {
                    format!("must have 1 to {} delays", limits::RETRY_DELAYS_MAX)
                })?;
                ensure("retry.delays", delays.iter().all(|d| in_bounds(*d)), || "must be at most 49 days".to_owned())
            }
            Backoff::Never => Ok(()),
        }
    }
}

/// What is wrong with the name of a kind, queue or plugin; none if nothing is.
#[must_use]
pub fn name_problem(name: &str) -> Option<String> {
    let max = limits::NAME_BYTES_MAX;
    if name.is_empty() {
        return Some("is empty".to_owned());
    }
    if name.len() > max {
        return Some(format!("is {} bytes long; the limit is {max}", name.len()));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Some(format!("{name:?} must begin with a letter or a digit"));
    }
    if let Some(bad) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c)) {
        return Some(format!("{name:?} has {bad:?} in it; allowed are a-z A-Z 0-9 . _ -"));
    }
    name.contains("..").then(|| format!("{name:?} has two dots in a row"))
}

/// What is wrong with the name of a tenant; none if nothing is. It is also a folder's name, on disks that do not tell
/// capitals from small letters.
#[must_use]
pub fn tenant_problem(name: &str) -> Option<String> {
    let max = limits::TENANT_BYTES_MAX;
    if let Some(problem) = name_problem(name) {
        return Some(problem);
    }
    if name.len() > max {
        return Some(format!("is {} bytes long; the limit is {max}", name.len()));
    }
    let capital = name.chars().find(char::is_ascii_uppercase)?;
    Some(format!("{name:?} has {capital:?} in it; the name of a tenant is lower case"))
}

fn check_name(field: &str, name: &str) -> Result<(), Invalid> {
    name_problem(name).map_or(Ok(()), |why| Err(Invalid { field: field.to_owned(), why }))
}

fn check_time(field: &str, time: Option<Time>) -> Result<(), Invalid> {
    ensure(field, time.is_none_or(|t| t <= Time::MAX), || "is after the year 9999".to_owned())
}

fn check_attempts(max: Option<u32>) -> Result<(), Invalid> {
    ensure("max_attempts", max.is_none_or(|n| (1..=limits::ATTEMPTS_MAX).contains(&n)), || {
        format!("must be 1 to {}", limits::ATTEMPTS_MAX)
    })
}

fn check_timeout(timeout: Option<Millis>) -> Result<(), Invalid> {
    let allowed = limits::TIMEOUT_MIN..=limits::TIMEOUT_MAX;
    ensure("timeout", timeout.is_none_or(|t| allowed.contains(&t)), || "must be 1ms to 24h".to_owned())
}

fn ensure(field: &str, holds: bool, why: impl FnOnce() -> String) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid { field: field.to_owned(), why: why() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut JobSpec), field: Option<&str>) {
        let mut spec = JobSpec::new("image.resize", "{}");
        change(&mut spec);
        let answer = spec.check().err().map(|e| e.field);
        assert_eq!(answer.as_deref(), field);
    }

    #[test]
    fn each_bound_is_kept_at_its_edge() {
        check(|_| (), None);
        check(|s| s.kind = String::new(), Some("kind"));
        check(|s| s.kind = "a".repeat(128), None);
        check(|s| s.kind = "a".repeat(129), Some("kind"));
        check(|s| s.kind = ".a".into(), Some("kind"));
        check(|s| s.kind = "a..b".into(), Some("kind"));
        check(|s| s.kind = "a/b".into(), Some("kind"));
        check(|s| s.queue = "ä".into(), Some("queue"));
        check(|s| s.args = vec![0; limits::PAYLOAD_BYTES_MAX], None);
        check(|s| s.args = vec![0; limits::PAYLOAD_BYTES_MAX + 1], Some("args"));
        check(|s| (s.delay, s.run_at) = (Some(Millis(1)), Some(Time(1))), Some("delay"));
        check(|s| s.run_at = Some(Time(u64::MAX)), Some("run_at"));
        check(|s| s.max_attempts = Some(0), Some("max_attempts"));
        check(|s| s.timeout = Some(Millis(0)), Some("timeout"));
        check(|s| s.timeout = Some(limits::TIMEOUT_MAX), None);
        check(|s| s.tags = vec![("a".into(), "x".repeat(256)); 1], None);
        check(|s| s.tags = vec![("a".into(), "x".repeat(257)); 1], Some("tags"));
        check(|s| s.tags = vec![("a".into(), String::new()); 2], Some("tags"));
        check(|s| s.tags = (0..33).map(|i| (i.to_string(), String::new())).collect(), Some("tags"));
    }

    #[test]
    fn the_name_of_a_tenant_is_lower_case_and_short() {
        let check = |name: &str, good| assert_eq!(tenant_problem(name).is_none(), good, "{name}");
        check("acme", true);
        check("0-acme.test_1", true);
        check(&"a".repeat(63), true);
        check(&"a".repeat(64), false);
        for bad in ["", "Acme", "acmE", "a b", "../a", "-a", "a..b", "ä", "a/b"] {
            check(bad, false);
        }
    }

    #[test]
    fn a_retry_policy_has_bounds_too() {
        let with = |backoff| RetryPolicy { backoff, ..RetryPolicy::default() };
        let retry = |policy: RetryPolicy| move |s: &mut JobSpec| s.retry = Some(policy);
        check(retry(with(Backoff::List(vec![]))), Some("retry.delays"));
        check(retry(with(Backoff::List(vec![Millis(1); 101]))), Some("retry.delays"));
        check(retry(with(Backoff::Constant { base: Millis(u64::MAX) })), Some("retry.base"));
        let shrinking = Backoff::Exponential { base: Millis(1), factor_permille: 999 };
        check(retry(with(shrinking)), Some("retry.factor"));
        check(retry(RetryPolicy { jitter_permille: 1_001, ..RetryPolicy::default() }), Some("retry.jitter"));
    }
}
