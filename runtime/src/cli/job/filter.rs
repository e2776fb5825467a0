//! Which jobs, by what their rows say: the options of `job list` and `job count`, and of verbs on many jobs.

use std::fmt::Write as _;

use super::percent;

/// What is listed, or counted.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// Only in this state: held, blocked, scheduled, retryable, available, running, completed, discarded, cancelled
    #[arg(long)]
    state: Option<String>,
    /// Only of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Only of this queue
    #[arg(long)]
    queue: Option<String>,
    /// Only with this tag
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Option<String>,
    #[command(flatten)]
    filters: Filters,
}

impl Which {
    /// Puts it behind a path that has a parameter already.
    pub(super) fn add_to(&self, path: &mut String) {
        let Self { state, kind, queue, tag, filters } = self;
        let own = [("state", state), ("kind", kind), ("queue", queue), ("tag", tag)];
        own.into_iter().chain(filters.pairs()).for_each(|(name, value)| add(path, name, value));
    }
}

/// Puts a parameter behind others, if there is a value.
pub(super) fn add(path: &mut String, name: &str, value: &Option<String>) {
    if let Some(value) = value {
        // Writing to a String cannot fail.
        _ = write!(path, "&{name}={}", percent(value));
    }
}

/// See the module.
#[derive(Debug, Clone, Default, clap::Args)]
pub(in crate::cli) struct Filters {
    /// What ended, or else was enqueued, not before this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// What ended, or else was enqueued, before this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Whose last run ended so: completed, failed, discarded, timed_out, out_of_memory, crashed, …
    #[arg(long)]
    outcome: Option<String>,
    /// Of the schedule of this name
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// With this unique key
    #[arg(long, value_name = "KEY")]
    unique_key: Option<String>,
    /// Retryable or discarded after this error: a fingerprint, as `runner job count --by error` shows it
    #[arg(long, value_name = "FINGERPRINT")]
    error: Option<String>,
    /// With this text in kind, tags or error; or of this id
    #[arg(long = "q", value_name = "TEXT")]
    q: Option<String>,
}

impl Filters {
    /// Each with its name in the API.
    pub(in crate::cli) fn pairs(&self) -> [(&'static str, &Option<String>); 7] {
        let Self { since, until, outcome, schedule, unique_key, error, q } = self;
        [
            ("since", since),
            ("until", until),
            ("outcome", outcome),
            ("schedule", schedule),
            ("unique_key", unique_key),
            ("error", error),
            ("q", q),
        ]
    }
}
