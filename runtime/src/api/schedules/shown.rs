//! Schedules as JSON shows them.

use std::collections::BTreeMap;

use runner_store::job::Time;
use runner_store::schedule::{CatchUp, Schedule, Source, When};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::App;
use super::super::time::{long_duration, rfc3339};
use super::super::types::{EnqueuedShown, shown};
use crate::schedules::cron::Slots;
use crate::schedules::due::next_slots;

/// Times that are shown of what comes.
const NEXT_SHOWN: usize = 5;

/// A page of schedules.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct SchedulesPage {
    /// By name.
    pub schedules: Vec<ScheduleShown>,
    /// Where the next page begins; none: this is the last.
    pub next_cursor: Option<String>,
}

/// A schedule as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Schedule")]
#[expect(missing_docs, reason = "the fields are those of `Schedule` of the store, where each is documented")]
pub struct ScheduleShown {
    pub name: String,
    pub tenant: String,
    pub kind: String,
    pub queue: String,
    pub priority: i16,
    pub cron: Option<String>,
    pub timezone: Option<String>,
    pub every: Option<String>,
    pub start: Option<String>,
    pub overlap: String,
    /// `none`, `one`, or how many.
    pub catch_up: serde_json::Value,
    pub deadline: Option<String>,
    pub max_attempts: Option<u32>,
    pub timeout: Option<String>,
    pub tags: BTreeMap<String, String>,
    /// `api` or `manifest`.
    pub source: String,
    /// Whose manifest.
    pub plugin: Option<String>,
    pub paused: bool,
    pub paused_at: Option<String>,
    pub created_at: String,
    pub last_slot: Option<String>,
    pub last_fired_at: Option<String>,
    pub last_job: Option<String>,
    pub fired: u64,
    pub missed: u64,
    pub overlapped: u64,
    pub no_room: u64,
    pub last_skipped: Option<SkippedShown>,
    /// The next five times; while it is paused, as if it were resumed now.
    pub next: Vec<String>,
    /// Why it cannot be fired here, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub args: Option<Box<RawValue>>,
    /// Args that are not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_base64: Option<String>,
    /// Whether a verb changed anything; only in the answers to verbs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<bool>,
}

/// The last slot that became no job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Skipped")]
pub struct SkippedShown {
    /// Which.
    pub slot: String,
    /// Why: `missed`, `overlap`, `queue_full`, `tenant_storage` or `disk_reserve`.
    pub reason: String,
}

/// The answer to firing a schedule by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Fired")]
pub struct FiredShown {
    /// Its name.
    pub schedule: String,
    /// The job.
    #[serde(flatten)]
    pub job: EnqueuedShown,
}

impl ScheduleShown {
    /// The schedule, and its next times by the clock of `app`; `resumed` is when the store was last let go after a restore.
    #[must_use]
    pub fn new(app: &App, schedule: &Schedule, resumed: Time) -> Self {
        let Schedule { plan, tally, .. } = schedule;
        let (next, problem) = match Slots::of(&plan.when) {
            Ok(slots) => (next_slots(schedule, &slots, (app.clock.now(), resumed), NEXT_SHOWN), None),
            Err(invalid) => (Vec::new(), Some(invalid.to_string())),
        };
        let (cron, timezone, every, start) = match &plan.when {
            When::Cron { cron, zone } => (Some(cron.clone()), Some(zone.clone()), None, None),
            When::Every { interval, start } => (None, None, Some(long_duration(*interval)), Some(rfc3339(*start))),
        };
        let plugin = match &schedule.source {
            Source::Api => None,
            Source::Manifest(plugin) => Some(plugin.clone()),
        };
        let (args, args_base64) = shown(&plan.job.args);
        Self {
            name: schedule.name.clone(),
            tenant: app.store.tenant_name(schedule.tenant).to_string(),
            kind: plan.job.kind.clone(),
            queue: plan.job.queue.clone(),
            priority: plan.job.priority.0,
            cron,
            timezone,
            every,
            start,
            overlap: plan.overlap.as_str().to_owned(),
            catch_up: match plan.catch_up {
                CatchUp::None => "none".into(),
                CatchUp::One => "one".into(),
                CatchUp::All(n) => n.into(),
            },
            deadline: plan.deadline.map(long_duration),
            max_attempts: plan.job.max_attempts,
            timeout: plan.job.timeout.map(|timeout| timeout.to_string()),
            tags: plan.job.tags.iter().cloned().collect(),
            source: if plugin.is_some() { "manifest" } else { "api" }.to_owned(),
            plugin,
            paused: schedule.paused_at.is_some(),
            paused_at: schedule.paused_at.map(rfc3339),
            created_at: rfc3339(schedule.created_at),
            last_slot: schedule.last.map(rfc3339),
            last_fired_at: tally.last_fired.map(|(at, _)| rfc3339(at)),
            last_job: tally.last_fired.map(|(_, job)| job.to_string()),
            fired: tally.fired,
            missed: tally.missed,
            overlapped: tally.overlapped,
            no_room: tally.no_room,
            last_skipped: tally
                .last_skipped
                .map(|(slot, why)| SkippedShown { slot: rfc3339(slot), reason: why.as_str().to_owned() }),
            next: next.into_iter().map(rfc3339).collect(),
            problem,
            args,
            args_base64,
            changed: None,
        }
    }
}
