//! Bodies of requests, as schemas. They are read field by field elsewhere, so that every complaint names its place; a test
//! asks each route which fields it knows, and compares them with these.

use schemars::JsonSchema;
use serde_json::Value;

use super::words::{
    AttemptsWord, Base64Word, DurationWord, FingerprintWord, FinishWord, IdWord, LevelWord, NameWord, OnConflictWord,
    OnFailureWord, OutcomeWord, OverlapWord, PriorityWord, RateWord, SizeWord, StateWord, TagsWord, TimeWord,
    TraceparentWord,
};

/// One job, or a list that is accepted whole or not at all.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum NewJobs {
    /// One.
    One(Box<NewJobBody>),
    /// A list, of at most 10,000.
    List(Vec<NewJobBody>),
}

/// A job to be enqueued. What is not said follows from the manifest of its kind, or is the default.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "NewJob", deny_unknown_fields)]
pub struct NewJobBody {
    /// What is to be done.
    pub kind: NameWord,
    /// For the handler: any JSON, at most 1 MiB. Excludes `args_base64`.
    pub args: Option<Value>,
    /// Args that are not JSON, in base64.
    pub args_base64: Option<Base64Word>,
    /// The line in which it stands.
    pub queue: Option<NameWord>,
    /// Its place there.
    pub priority: Option<PriorityWord>,
    /// When it is to run first. Excludes `delay`.
    pub run_at: Option<TimeWord>,
    /// How long from now it is to run first.
    pub delay: Option<DurationWord>,
    /// When it is to be discarded, if it has not begun by then.
    pub expires_at: Option<TimeWord>,
    /// Attempts.
    pub max_attempts: Option<AttemptsWord>,
    /// Wall clock of a run.
    pub timeout: Option<DurationWord>,
    /// When a failed attempt is tried again.
    pub retry: Option<RetryBody>,
    /// Texts by which it is found.
    pub tags: Option<TagsWord>,
    /// Whether it is to wait until it is released.
    pub hold: Option<bool>,
    /// What it waits for, at most 100.
    pub depends_on: Option<Vec<EdgeBody>>,
    /// What there may be only one of.
    pub unique: Option<UniqueBody>,
    /// The span of the caller, a W3C `traceparent`: its runs belong to that trace. It is kept as a tag of this name.
    pub traceparent: Option<TraceparentWord>,
    /// When the call is answered.
    pub ack: Option<AckBody>,
}

/// When an enqueue is answered: when its jobs are durable, or when they are received.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Ack", rename_all = "snake_case")]
pub enum AckBody {
    /// When its jobs are durable.
    Durable,
    /// When they are received: no id, no unique key, no dependencies.
    Buffered,
}

/// When a failed attempt is tried again.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Retry", deny_unknown_fields)]
pub struct RetryBody {
    /// How the delays grow.
    pub backoff: Option<BackoffBody>,
    /// The first delay.
    pub base: Option<DurationWord>,
    /// By how much they grow, with `exponential`.
    pub factor: Option<f64>,
    /// The longest delay.
    pub max: Option<DurationWord>,
    /// The part of a delay by which it varies, 0 to 1.
    pub jitter: Option<f64>,
    /// Each delay, with `list`.
    pub delays: Option<Vec<DurationWord>>,
}

/// How delays grow.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Backoff", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words say it")]
pub enum BackoffBody {
    Exponential,
    Linear,
    Constant,
    List,
    Never,
}

/// What a job waits for: an id, or an object.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Edge", untagged)]
pub enum EdgeBody {
    /// A job.
    Id(IdWord),
    /// A job or a place in the same list, and what follows if it does not end well.
    Edge {
        /// A job.
        job: Option<IdWord>,
        /// A place in the same list, from 0.
        position: Option<u32>,
        /// What follows if it does not end well: `cancel` or `run`.
        on_failure: Option<OnFailureWord>,
    },
}

/// What there may be only one of, and what a call does that finds it there.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Unique", deny_unknown_fields)]
pub struct UniqueBody {
    /// The key. Excludes `fields`.
    pub key: Option<String>,
    /// Paths of fields of the args, of which a key is made.
    pub fields: Option<Vec<String>>,
    /// The states in which a job holds its key; those that are not final if absent.
    pub states: Option<Vec<StateWord>>,
    /// How long from its enqueue a job holds its key in any case.
    pub period: Option<DurationWord>,
    /// `keep`, `replace`, `debounce`, `merge` or `reject`.
    pub on_conflict: Option<OnConflictWord>,
    /// With `debounce`: how long from now.
    pub delay: Option<DurationWord>,
    /// With `debounce`: how long from the first call at most.
    pub debounce_max: Option<DurationWord>,
}

/// What of a job is to change.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "JobEdit", deny_unknown_fields)]
#[expect(missing_docs, reason = "as `NewJobBody` has them")]
pub struct EditBody {
    pub args: Option<Value>,
    pub args_base64: Option<Base64Word>,
    pub priority: Option<PriorityWord>,
    pub run_at: Option<TimeWord>,
    pub max_attempts: Option<AttemptsWord>,
    pub timeout: Option<DurationWord>,
    pub retry: Option<RetryBody>,
    pub tags: Option<TagsWord>,
    /// Null: it does not expire.
    pub expires_at: Option<TimeWord>,
}

/// When a job is to run: one of both.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Reschedule", deny_unknown_fields)]
#[expect(missing_docs, reason = "as `NewJobBody` has them")]
pub struct RescheduleBody {
    pub run_at: Option<TimeWord>,
    pub delay: Option<DurationWord>,
}

/// Why a job is cancelled.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Cancel", deny_unknown_fields)]
pub struct CancelBody {
    /// In someone's words.
    pub reason: Option<String>,
}

macro_rules! bulk {
    ($($(#[doc = $doc:literal])* $name:ident as $title:tt { $($(#[doc = $field_doc:literal])* $field:ident: $type:ty,)* })*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, JsonSchema)]
        #[schemars(rename = $title, deny_unknown_fields)]
        pub struct $name {
            /// Only jobs in this state.
            pub state: Option<StateWord>,
            /// Only of this queue.
            pub queue: Option<String>,
            /// Only of this kind.
            pub kind: Option<String>,
            /// Only with this tag, `key=value`.
            pub tag: Option<String>,
            /// Only what ended, or else was enqueued, not before this.
            pub since: Option<TimeWord>,
            /// Only what ended, or else was enqueued, before this.
            pub until: Option<TimeWord>,
            /// Only what a run left that ended so.
            pub outcome: Option<OutcomeWord>,
            /// Only of the schedule of this name.
            pub schedule: Option<String>,
            /// Only with this unique key.
            pub unique_key: Option<String>,
            /// The fingerprint of an error.
            pub error: Option<FingerprintWord>,
            /// Only with this text in id, kind, tags or error.
            pub q: Option<String>,
            /// Must be true where there is no filter.
            pub all: Option<bool>,
            /// Only say how many there are.
            pub dry_run: Option<bool>,
            $($(#[doc = $field_doc])* pub $field: Option<$type>,)*
        }
    )*};
}

bulk! {
    /// Which jobs.
    BulkBody as "Bulk" {}
    /// Which jobs are cancelled, and why.
    BulkCancelBody as "BulkCancel" {
        /// In someone's words.
        reason: String,
    }
    /// Which jobs are deleted.
    BulkDeleteBody as "BulkDelete" {
        /// Also those that run.
        force: bool,
        /// Also those that others wait for.
        cascade: bool,
    }
}

/// What is to hold for a queue; null takes back what was set.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "QueueEdit", deny_unknown_fields)]
pub struct QueueBody {
    /// Jobs that it may have which have not ended.
    pub capacity: Option<u64>,
    /// `priority`, `run-at` or `aged:TIME`.
    pub order: Option<String>,
    /// Calls at once.
    pub concurrency: Option<u32>,
    /// Jobs that start in a time.
    pub rate: Option<RateWord>,
    /// Its part beside its tenant's other queues.
    pub weight: Option<u32>,
}

/// What is to hold for a kind; null takes back what was set.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "KindEdit", deny_unknown_fields)]
pub struct KindBody {
    /// Calls at once.
    pub concurrency: Option<u32>,
    /// Jobs that start in a time.
    pub rate: Option<RateWord>,
    /// Calls at once of each key.
    pub key_concurrency: Option<u32>,
    /// Jobs of each key that start in a time.
    pub key_rate: Option<RateWord>,
}

/// Which discarded jobs of a queue run again.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "QueueRetry", deny_unknown_fields)]
pub struct QueueRetryBody {
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only say how many there are.
    pub dry_run: Option<bool>,
}

/// Which jobs of a queue are deleted.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "QueueClear", deny_unknown_fields)]
pub struct QueueClearBody {
    /// In these states; jobs that run are not cleared.
    pub states: Vec<StateWord>,
    /// Only say how many there are.
    pub dry_run: Option<bool>,
}

/// When a pause ends by itself.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Pause", deny_unknown_fields)]
pub struct PauseBody {
    /// Absent: when someone ends it.
    pub until: Option<TimeWord>,
}

/// A schedule: cron or an interval, and the jobs that it makes.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "NewSchedule")]
pub struct ScheduleBody {
    /// What it is called.
    pub name: String,
    /// When, and what.
    #[schemars(flatten)]
    pub plan: ScheduleEditBody,
}

/// What of a schedule is to change.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "ScheduleEdit")]
pub struct ScheduleEditBody {
    /// Five or six fields. Excludes `every`.
    pub cron: Option<String>,
    /// Of the cron expression; UTC if absent.
    pub timezone: Option<String>,
    /// An interval.
    pub every: Option<DurationWord>,
    /// When the first one begins.
    pub start: Option<TimeWord>,
    /// While the job of the slot before has not ended: `skip`, `queue` or `cancel-running`.
    pub overlap: Option<OverlapWord>,
    /// Slots that passed while nothing ran: `none`, `one`, or how many.
    pub catch_up: Option<Value>,
    /// How long after its slot a job may begin.
    pub deadline: Option<DurationWord>,
    /// Of its jobs, as are the fields below.
    pub kind: Option<NameWord>,
    /// See `NewJob`.
    pub args: Option<Value>,
    /// See `NewJob`.
    pub args_base64: Option<Base64Word>,
    /// See `NewJob`.
    pub queue: Option<NameWord>,
    /// See `NewJob`.
    pub priority: Option<PriorityWord>,
    /// See `NewJob`.
    pub max_attempts: Option<AttemptsWord>,
    /// See `NewJob`.
    pub timeout: Option<DurationWord>,
    /// See `NewJob`.
    pub retry: Option<RetryBody>,
    /// See `NewJob`.
    pub tags: Option<TagsWord>,
}

/// What is to hold for the store; what is not said stays.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "StoreSettingsEdit", deny_unknown_fields)]
#[expect(missing_docs, reason = "as `SettingsShown` has them")]
pub struct SettingsBody {
    pub keep_completed: Option<DurationWord>,
    pub keep_cancelled: Option<DurationWord>,
    pub keep_discarded: Option<DurationWord>,
    pub completed_max: Option<u64>,
    pub capacity: Option<u64>,
    pub stored_bytes: Option<SizeWord>,
    pub log_age: Option<DurationWord>,
    pub log_bytes: Option<SizeWord>,
}

/// Where a backup goes.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Backup", deny_unknown_fields)]
pub struct BackupBody {
    /// On the server's disk, from the root.
    pub path: String,
}

/// A token to be made.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "NewToken", deny_unknown_fields)]
pub struct NewTokenBody {
    /// What it is for, in a word.
    pub name: String,
    /// What it may be used for: of `admin`, `operate`, `deploy`, `enqueue`, `read` and `work`.
    pub scopes: Vec<String>,
    /// Whose; absent: the caller's, or the one that is named; null: of all tenants.
    pub tenant: Option<String>,
    /// From when on it is worth nothing. Excludes `expires_in`.
    pub expires_at: Option<TimeWord>,
    /// How long from now it is worth something.
    pub expires_in: Option<DurationWord>,
}

/// What a tenant may have; what is not said stays, and null takes back the last three.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "TenantEdit", deny_unknown_fields)]
#[expect(missing_docs, reason = "as `TenantShown` has them")]
pub struct TenantBody {
    pub capacity: Option<u64>,
    pub stored_bytes: Option<SizeWord>,
    pub keep_completed: Option<DurationWord>,
    pub keep_cancelled: Option<DurationWord>,
    pub keep_discarded: Option<DurationWord>,
    pub completed_max: Option<u64>,
    pub concurrency: Option<u32>,
    pub memory_bytes: Option<SizeWord>,
    /// As `2000G/1h`.
    pub fuel: Option<String>,
}

/// A tenant to be made.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "NewTenant")]
pub struct NewTenantBody {
    /// What it is called.
    pub name: String,
    /// What it may have.
    #[schemars(flatten)]
    pub may_have: TenantBody,
}

/// What a browser signs in with.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "NewSession", deny_unknown_fields)]
pub struct SessionBody {
    /// A token.
    pub token: String,
}

/// What an external worker asks for.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "AskLease", deny_unknown_fields)]
pub struct LeaseBody {
    /// The kinds whose jobs it does, at most 100; each is external by the configuration.
    pub kinds: Vec<NameWord>,
    /// Runs, at most 100; 1 if absent.
    pub max: Option<u32>,
    /// How long to wait for the first, at most 30s; not at all if absent.
    pub wait: Option<DurationWord>,
    /// How long each lease lasts without a renewal, 1s to 10m; 30s if absent.
    pub lease: Option<DurationWord>,
    /// What the worker calls itself.
    pub worker: String,
}

/// A renewal.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Renew", deny_unknown_fields)]
pub struct RenewBody {
    /// The token that came with the run.
    pub lease_token: String,
}

/// How an external worker's run ended.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "Finish", deny_unknown_fields)]
pub struct FinishBody {
    /// The token that came with the run.
    pub lease_token: String,
    /// `completed`, `failed`, `discarded` or `snoozed`.
    pub outcome: FinishWord,
    /// With `completed`: any JSON, at most 1 MiB. Excludes `output_base64`.
    pub output: Option<Value>,
    /// With `completed`: an output that is not JSON, in base64.
    pub output_base64: Option<Base64Word>,
    /// With `failed`: why.
    pub error: Option<String>,
    /// With `failed`: when to try again; by its backoff if absent.
    pub retry_after: Option<DurationWord>,
    /// With `discarded` and `snoozed`: why.
    pub reason: Option<String>,
    /// With `snoozed`: how long from now.
    pub delay: Option<DurationWord>,
    /// Jobs that are enqueued with it, in the same transaction; not with `failed`.
    pub enqueue: Option<Vec<NewJobBody>>,
}

/// Lines for the log of an external worker's run.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "RunLines", deny_unknown_fields)]
pub struct LogBody {
    /// The token that came with the run.
    pub lease_token: String,
    /// At most 1,000: texts, or objects with a level.
    pub lines: Vec<LogLineBody>,
}

/// A line.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "RunLine", untagged)]
pub enum LogLineBody {
    /// Of level `info`.
    Text(String),
    /// Of another level.
    Line {
        /// `trace`, `debug`, `info`, `warn` or `error`; `info` if absent.
        level: Option<LevelWord>,
        /// The line.
        text: String,
    },
}

/// How far an external worker's run is.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "RunProgress", deny_unknown_fields)]
pub struct ProgressBody {
    /// The token that came with the run.
    pub lease_token: String,
    /// 0 to 100.
    pub percent: u8,
    /// The worker's words.
    pub message: Option<String>,
}
