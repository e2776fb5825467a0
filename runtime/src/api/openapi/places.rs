//! The routes of queues, kinds and schedules: of what jobs stand in, and come from.

use super::bodies::{KindBody, PauseBody, QueueBody, QueueClearBody, QueueRetryBody, ScheduleBody, ScheduleEditBody};
use super::jobs::BulkAnswer;
use super::route::{Form, Route, query};
use crate::api::bulk::OperationShown;
use crate::api::kinds::{KindShown, KindsShown};
use crate::api::queues::{QueueShown, QueuesShown};
use crate::api::schedules::{FiredShown, ScheduleShown, SchedulesPage};

/// The answer to letting all queues go on.
#[derive(schemars::JsonSchema)]
#[expect(dead_code, reason = "it is only a schema")]
struct Resumed {
    /// False.
    paused: bool,
}

pub(super) fn routes() -> Vec<Route> {
    [queues(), kinds(), schedules()].concat()
}

fn queues() -> Vec<Route> {
    let verb = |path, id, summary| {
        Route::new("post", path, id, summary).may_have::<PauseBody>().writes().json::<QueueShown>(200, "The queue")
    };
    let jobs_of = |path, id, summary| {
        Route::new("post", path, id, summary)
            .writes()
            .json::<BulkAnswer>(200, "With `dry_run`: how many there are")
            .json::<OperationShown>(202, "It has begun")
            .no(&["not_found", "bug"])
    };
    vec![
        Route::new("get", "/v1/queues", "listQueues", "All queues: what stands in each, and what holds for it")
            .reads()
            .json::<QueuesShown>(200, "By name"),
        Route::new("post", "/v1/queues/resume", "resumeStore", "Let jobs run again after the store was restored")
            .no(&["outcome_unknown", "overloaded", "stopped", "method_not_allowed"])
            .json::<Resumed>(200, "They run"),
        Route::new("get", "/v1/queues/{q}", "showQueue", "One queue")
            .reads()
            .json::<QueueShown>(200, "The queue")
            .no(&["not_found"]),
        Route::new("patch", "/v1/queues/{q}", "setQueue", "Set what holds for a queue, also before its first job")
            .body::<QueueBody>()
            .writes()
            .json::<QueueShown>(200, "The queue")
            .no(&["not_found", "queue_not_empty"]),
        verb("/v1/queues/{q}/pause", "pauseQueue", "Start nothing more of it").no(&["not_found"]),
        verb("/v1/queues/{q}/drain", "drainQueue", "Take no new jobs for it").no(&["not_found"]),
        verb("/v1/queues/{q}/resume", "resumeQueue", "End its pause and its drain").no(&["not_found"]),
        jobs_of("/v1/queues/{q}/retry", "retryQueue", "Run its discarded jobs again").may_have::<QueueRetryBody>(),
        jobs_of("/v1/queues/{q}/clear", "clearQueue", "Delete its jobs that are in these states")
            .body::<QueueClearBody>(),
    ]
}

fn kinds() -> Vec<Route> {
    let verb = |path, id, summary| {
        Route::new("post", path, id, summary).may_have::<PauseBody>().writes().json::<KindShown>(200, "The kind")
    };
    vec![
        Route::new("get", "/v1/kinds", "listKinds", "All kinds: what stands in each, who provides it, what holds")
            .reads()
            .json::<KindsShown>(200, "By name"),
        Route::new("get", "/v1/kinds/{k}", "showKind", "One kind")
            .reads()
            .json::<KindShown>(200, "The kind")
            .no(&["not_found"]),
        Route::new("patch", "/v1/kinds/{k}", "setKind", "Set what holds for a kind, also before its first job")
            .body::<KindBody>()
            .writes()
            .json::<KindShown>(200, "The kind")
            .no(&["not_found"]),
        verb("/v1/kinds/{k}/pause", "pauseKind", "Start nothing more of it").no(&["not_found"]),
        verb("/v1/kinds/{k}/resume", "resumeKind", "End its pause").no(&["not_found"]),
    ]
}

fn schedules() -> Vec<Route> {
    let one = |method, path, id, summary| Route::new(method, path, id, summary).no(&["not_found"]);
    vec![
        Route::new("get", "/v1/schedules", "listSchedules", "A page of schedules, by name")
            .reads()
            .takes(&[
                query("limit", Form::Number { min: 1, max: 1_000 }, "Schedules of a page; 100 if absent."),
                query("cursor", Form::Text, "`next_cursor` of the page before."),
            ])
            .json::<SchedulesPage>(200, "The page"),
        Route::new("post", "/v1/schedules", "createSchedule", "Make a schedule")
            .body::<ScheduleBody>()
            .writes()
            .json::<ScheduleShown>(200, "It is there already, as it is asked for")
            .json::<ScheduleShown>(201, "It is made")
            .no(&["exists", "full"]),
        one("get", "/v1/schedules/{name}", "showSchedule", "One schedule, and its next times")
            .reads()
            .json::<ScheduleShown>(200, "The schedule"),
        one("patch", "/v1/schedules/{name}", "editSchedule", "Change a schedule; what is not said stays")
            .body::<ScheduleEditBody>()
            .writes()
            .json::<ScheduleShown>(200, "The schedule")
            .no(&["from_manifest", "changed"]),
        one("delete", "/v1/schedules/{name}", "deleteSchedule", "Delete a schedule; its jobs stay")
            .writes()
            .answers(204, "Gone", "", None)
            .no(&["from_manifest"]),
        one("post", "/v1/schedules/{name}/fire", "fireSchedule", "Make a job of it now, beside its slots")
            .writes()
            .repeatable()
            .json::<FiredShown>(200, "That call was made before")
            .json::<FiredShown>(201, "The job is there")
            .no(&["overlapping", "full", "tenant_storage", "disk_reserve", "queue_drains", "changed"]),
        one("post", "/v1/schedules/{name}/pause", "pauseSchedule", "Let it make no jobs")
            .writes()
            .json::<ScheduleShown>(200, "The schedule"),
        one("post", "/v1/schedules/{name}/resume", "resumeSchedule", "Let it make jobs again")
            .writes()
            .json::<ScheduleShown>(200, "The schedule"),
    ]
}
