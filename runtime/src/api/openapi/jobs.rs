//! The routes of jobs.

use super::bodies::{
    BulkBody, BulkCancelBody, BulkDeleteBody, CancelBody, EditBody, NewJobBody, NewJobs, RescheduleBody,
};
use super::route::{Form, Param, Route, of, query};
use super::words::{DurationWord, FingerprintWord, IdWord, OnErrorWord, OrderWord, OutcomeWord, StateWord, TimeWord};
use crate::api::bulk::{Matched, OperationShown};
use crate::api::count::Counts;
use crate::api::enqueue::stream::{LineShown, NDJSON};
use crate::api::types::{EnqueuedList, EnqueuedShown, FlushedShown, JobShown, JobsPage};
use crate::api::why::{Graph, Why};

const STATE: Param = query("state", Form::Word(of::<StateWord>), "Only jobs in this state.");
const KIND: Param = query("kind", Form::Text, "Only jobs of this kind.");
const QUEUE: Param = query("queue", Form::Text, "Only jobs of this queue.");

/// What follows a bad line.
const ON_ERROR: &str = "Of a stream: `stop` ends it at the first bad line; `continue` if absent.";
/// What a fingerprint is.
const ERROR: &str = "Only jobs, `retryable` or `discarded`, whose last error has this fingerprint: 12 hexadecimal digits, as jobs \
     counted by `error` show them. It is a hash of how the run ended and of the error's first 120 characters, in small letters, \
     without quoted words, without words that have a digit in them and without hexadecimal words; it stays the same for ever.";

/// Which jobs a list has, or a count is of.
const FILTER: [Param; 11] = [
    STATE,
    KIND,
    QUEUE,
    query("tag", Form::Text, "Only jobs with this tag, `key=value`."),
    query("since", Form::Word(of::<TimeWord>), "Only what ended, or else was enqueued, not before this time."),
    query("until", Form::Word(of::<TimeWord>), "Only what ended, or else was enqueued, before this time."),
    query("outcome", Form::Word(of::<OutcomeWord>), "Only jobs whose last run ended so, for example `timed_out`."),
    query("schedule", Form::Text, "Only jobs of the schedule of this name."),
    query("unique_key", Form::Text, "Only jobs with this unique key, whether or not they hold it."),
    query("error", Form::Word(of::<FingerprintWord>), ERROR),
    query("q", Form::Text, "Only jobs with this text in the kind, a tag or the beginning of the error; or of this id."),
];

/// An answer to an enqueue: to one job, to a list, or to what is buffered.
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it is only a schema")]
enum Accepted {
    One(EnqueuedShown),
    List(EnqueuedList),
}

/// What becomes of jobs that match.
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "it is only a schema")]
pub(super) enum BulkAnswer {
    Counted(Matched),
    Begun(OperationShown),
}

fn job(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Route {
    Route::new(method, path, id, summary).no(&["not_found"])
}

pub(super) fn routes() -> Vec<Route> {
    [many(), one(), verbs(), bulk()].concat()
}

fn many() -> Vec<Route> {
    vec![
        Route::new("post", "/v1/jobs", "enqueue", "Enqueue one job; a list, all or none; or a stream, a line each")
            .body::<NewJobs>()
            .takes_other(&[(NDJSON, Some(of::<NewJobBody>))])
            .takes(&[query("on_error", Form::Word(of::<OnErrorWord>), ON_ERROR)])
            .writes()
            .repeatable()
            .json::<Accepted>(200, "All of them were there already; of a stream, what became of each line")
            .answers_in(200, "", NDJSON, Some(of::<LineShown>))
            .json::<Accepted>(201, "Accepted: durable")
            .json::<crate::api::types::BufferedShown>(202, "Received, not yet accepted")
            .no(&["full", "tenant_storage", "disk_reserve", "queue_drains", "unique_held", "unique_busy"])
            .no(&["merge_refused", "merge_failed", "bug"]),
        Route::new("get", "/v1/jobs", "listJobs", "A page of jobs; where many do not match, with fewer than asked for")
            .reads()
            .takes(&FILTER)
            .takes(&[
                query("order", Form::Word(of::<OrderWord>), "`newest` first, or `oldest`; `newest` if absent."),
                query("limit", Form::Number { min: 1, max: 1_000 }, "Jobs of a page; 50 if absent."),
                query("cursor", Form::Text, "`next_cursor` of the page before."),
            ])
            .json::<JobsPage>(200, "The page")
            .no(&["bug"]),
        Route::new("get", "/v1/jobs/count", "countJobs", "How many jobs there are")
            .reads()
            .takes(&FILTER)
            .takes(&[query(
                "by",
                Form::Text,
                "`state`, `queue`, `kind`, `error`, or several with commas; `state` if absent. With `error`, the jobs that are \
                 `retryable` or `discarded` after a run that failed, by fingerprint, the newest 100,000.",
            )])
            .json::<Counts>(200, "The counts")
            .no(&["bug"]),
        Route::new("post", "/v1/flush", "flush", "Accept now what is buffered")
            .json::<FlushedShown>(200, "What became of buffered jobs since the start"),
    ]
}

fn one() -> Vec<Route> {
    let run = query("run", Form::Number { min: 1, max: u32::MAX as u64 }, "Which run; the latest if absent.");
    vec![
        job("get", "/v1/jobs/{id}", "showJob", "One job, with args, output and runs")
            .reads()
            .json::<JobShown>(200, "The job"),
        job("patch", "/v1/jobs/{id}", "editJob", "Change a job that neither runs nor has ended")
            .body::<EditBody>()
            .writes()
            .json::<JobShown>(200, "The job")
            .no(&["state", "tenant_storage"]),
        job("delete", "/v1/jobs/{id}", "deleteJob", "Delete a job and everything about it")
            .writes()
            .takes(&[
                query("force", Form::Flag, "Also while it runs."),
                query("cascade", Form::Flag, "Also while others wait for it."),
            ])
            .answers(204, "Gone", "", None)
            .no(&["state", "waited_for", "settling"]),
        job("get", "/v1/jobs/{id}/output", "jobOutput", "What its handler answered, byte for byte")
            .reads()
            .answers(200, "The output", "application/octet-stream", None)
            .no(&["no_output"]),
        job("get", "/v1/jobs/{id}/logs", "jobLogs", "What a run wrote, an object a line")
            .reads()
            .takes(&[run, query("follow", Form::Flag, "Go on until the run ends.")])
            .answers_in(200, "The log", "application/x-ndjson", None)
            .no(&["no_run", "no_node"]),
        job("get", "/v1/jobs/{id}/wait", "waitForJob", "The job when it has ended, or as it is when the time is over")
            .reads()
            .takes(&[query("timeout", Form::Word(of::<DurationWord>), "At most 60s; 30s if absent.")])
            .json::<JobShown>(200, "The job"),
        job("get", "/v1/jobs/{id}/why", "whyJob", "Why it does not run, runs, or has ended")
            .reads()
            .json::<Why>(200, "Every reason, the most telling first"),
        job("get", "/v1/jobs/{id}/graph", "jobGraph", "What it waits for and what waits for it")
            .reads()
            .json::<Graph>(200, "The jobs, nearest first"),
    ]
}

fn verbs() -> Vec<Route> {
    vec![
        job("post", "/v1/jobs/{id}/start", "startJob", "Start exactly this job, now, first in line for a slot")
            .writes()
            .json::<JobShown>(200, "It is claimed")
            .no(&["state", "no_node", "no_plugin", "no_middleware", "suspect", "no_budget", "no_slot", "draining"])
            .no(&["external"]),
        job("post", "/v1/jobs/{id}/cancel", "cancelJob", "Cancel it; one that runs is ended")
            .may_have::<CancelBody>()
            .writes()
            .json::<JobShown>(200, "It is cancelled")
            .json::<JobShown>(202, "It runs, and is being ended")
            .no(&["state"]),
        job("post", "/v1/jobs/{id}/retry", "retryJob", "Run it again, its attempts counted anew")
            .writes()
            .takes(&[
                query("fresh", Form::Flag, "Without what an earlier run left to resume from."),
                query("with_dependents", Form::Flag, "And those that were cancelled because of it."),
            ])
            .json::<JobShown>(200, "The job")
            .no(&["state", "unique_held", "settling"]),
        job("post", "/v1/jobs/{id}/release", "releaseJob", "Release a job on hold")
            .writes()
            .json::<JobShown>(200, "The job")
            .no(&["state"]),
        job("post", "/v1/jobs/{id}/reschedule", "rescheduleJob", "Let it run at another time")
            .body::<RescheduleBody>()
            .writes()
            .json::<JobShown>(200, "The job")
            .no(&["state"]),
    ]
}

fn bulk() -> Vec<Route> {
    let verb = |path, id, summary| {
        Route::new("post", path, id, summary)
            .writes()
            .json::<BulkAnswer>(200, "With `dry_run`: how many there are")
            .json::<OperationShown>(202, "It has begun")
            .no(&["bug"])
    };
    vec![
        verb("/v1/jobs/cancel", "cancelJobs", "Cancel all jobs that a filter matches").body::<BulkCancelBody>(),
        verb("/v1/jobs/retry", "retryJobs", "Run all jobs again that a filter matches").body::<BulkBody>(),
        verb("/v1/jobs/release", "releaseJobs", "Release all jobs that a filter matches").body::<BulkBody>(),
        verb("/v1/jobs/delete", "deleteJobs", "Delete all jobs that a filter matches").body::<BulkDeleteBody>(),
        Route::new("get", "/v1/operations/{n}", "showOperation", "How far a verb on many jobs is")
            .json::<OperationShown>(200, "The operation")
            .no(&["not_found"]),
        Route::new("get", "/v1/events", "events", "What happens to jobs, as it happens")
            .reads()
            .takes(&[
                query("since", Form::Text, "The number behind which to begin, or `now`; the oldest if absent."),
                query("follow", Form::Flag, "False: end with the newest."),
                STATE,
                KIND,
                QUEUE,
                query("job", Form::Word(of::<IdWord>), "Only of this job."),
                Param {
                    name: "Last-Event-ID",
                    about: "The number of the last event that was seen; goes before `since`.",
                    form: Form::Number { min: 0, max: u64::MAX },
                    place: "header",
                },
            ])
            .answers_in(
                200,
                "Events; the data of each is an `Event`",
                "text/event-stream",
                Some(of::<crate::api::events::EventShown>),
            )
            .no(&["log_trimmed", "log_restored"]),
    ]
}
