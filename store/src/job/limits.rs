//! Bounds of a job, named, with the reason for each number where it is not the design's own.

use super::Millis;

/// Args and output, each.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Jobs that one job may wait for.
pub const DEPENDENCIES_MAX: usize = 100;
/// Tags of a job.
pub const TAGS_MAX: usize = 32;
/// A tag's key.
pub const TAG_KEY_BYTES_MAX: usize = 64;
/// A tag's value.
pub const TAG_VALUE_BYTES_MAX: usize = 256;
/// Names of kinds, queues and plugins.
pub const NAME_BYTES_MAX: usize = 128;
/// Names of tenants: a label of a host's name, so that a tenant can be one.
pub const TENANT_BYTES_MAX: usize = 63;
/// Attempts, where nobody says otherwise.
pub const ATTEMPTS_DEFAULT: u32 = 25;
/// Attempts, at most: far beyond any use, and far from the end of the counter.
pub const ATTEMPTS_MAX: u32 = 1_000_000;
/// A run's wall clock, where nobody says otherwise.
pub const TIMEOUT_DEFAULT: Millis = Millis::secs(60);
/// A run's wall clock, at least: below it a handler may not even be entered.
pub const TIMEOUT_MIN: Millis = Millis(1);
/// A run's wall clock, at most: what the contract's u32 of milliseconds can say is 49 days; a day is plenty.
pub const TIMEOUT_MAX: Millis = Millis::secs(24 * 3_600);
/// Delays in a list of them.
pub const RETRY_DELAYS_MAX: usize = 100;
/// A retry delay, at most: 49 days, what the contract can say.
pub const RETRY_DELAY_MAX: Millis = Millis(u32::MAX as u64);
/// The growth of an exponential backoff, at most, in thousandths.
pub const RETRY_FACTOR_PERMILLE_MAX: u32 = 100_000;
/// Text of an error in a run's record.
pub const ERROR_BYTES_MAX: usize = 16 * 1024;
/// Backtrace in a run's record.
pub const TRACE_BYTES_MAX: usize = 64 * 1024;
/// Text of an error in the job's row.
pub const ROW_ERROR_BYTES_MAX: usize = 256;
/// Records kept of a job's runs: the last ones.
pub const RUNS_KEPT: u32 = 50;
/// Error texts and backtraces of all records of a job together; the oldest give theirs up first.
pub const RUNS_BYTES_MAX: usize = 256 * 1024;
/// Crashes in a row before a job counts as poison.
pub const CRASHES_MAX: u32 = 3;
/// The lease of an external worker, at least: below it a renewal would come too late on a busy machine.
pub const LEASE_MIN: Millis = Millis::secs(1);
/// The lease of an external worker, where it does not say.
pub const LEASE_DEFAULT: Millis = Millis::secs(30);
/// The lease of an external worker, at most: for so long a job may wait for one that is gone.
pub const LEASE_MAX: Millis = Millis::secs(600);
/// What an external worker calls itself.
pub const WORKER_BYTES_MAX: usize = 128;
/// Snoozes before each counts as a failed attempt.
pub const SNOOZES_MAX: u32 = 10_000;
/// A snooze, at least.
pub const SNOOZE_MIN: Millis = Millis(100);
/// A snooze, at most.
pub const SNOOZE_MAX: Millis = Millis::secs(30 * 24 * 3_600);
/// A unique key.
pub const UNIQUE_KEY_BYTES_MAX: usize = 256;
/// A job's key, where it is a text: its bytes; and the path of one.
pub const JOB_KEY_BYTES_MAX: usize = 256;
/// Steps of the path of a key, behind `args`.
pub const JOB_KEY_STEPS_MAX: usize = 16;
/// A period of uniqueness, or a debounce's delay and bound, at most: a year.
pub const UNIQUE_PERIOD_MAX: Millis = Millis::secs(366 * 24 * 3_600);
/// A debounced job waits at most this many times its delay, where nobody says otherwise.
pub const DEBOUNCE_MAX_FACTOR: u64 = 10;
/// What a later run resumes from.
pub const CHECKPOINT_BYTES_MAX: usize = 256 * 1024;
/// A key of a plugin.
pub const KV_KEY_BYTES_MAX: usize = 256;
/// A value of a plugin.
pub const KV_VALUE_BYTES_MAX: usize = 64 * 1024;
/// Keys that all plugins of a tenant have; asked when one is written, so that what is in flight may exceed it.
pub const KV_KEYS_MAX: u64 = 100_000;
/// Conflicts in a row about a plugin's keys before each counts as a failed attempt.
pub const CONFLICTS_MAX: u32 = 5;
/// The log of one run.
pub const RUN_LOG_BYTES_MAX: usize = 128 * 1024;
/// Logs of a job's runs together; the oldest go first.
pub const RUN_LOGS_BYTES_MAX: usize = 512 * 1024;
/// Notes in a run's record.
pub const NOTES_MAX: usize = 16;
/// A note in a run's record.
pub const NOTE_BYTES_MAX: usize = 256;
/// Jobs in a row that enqueue each other at once: far beyond what a chain of steps needs, and soon reached by a job
/// that enqueues itself.
pub const DEPTH_MAX: u32 = 20;
/// Text of a cancel's reason.
pub const REASON_BYTES_MAX: usize = 1024;
