//! `runner job`: look at jobs and change them.

pub(super) mod change;
mod count;
pub(super) mod filter;
mod logs;

use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use runner_store::job::{OutcomeName, StateName};
use serde_json::json;

use super::ask;
use super::client::{Client, Common};
use super::exit::{Code, Failure};
use super::output::{Format, Table, amount, bytes, cut, note, print, print_json, print_payload};
use crate::api::types::{JobShown, JobsPage};
use crate::api::why::Why;
use crate::wasm::log::escaped;

/// Jobs of one call.
const PAGE_ROWS_MAX: usize = 1_000;
/// What a table shows of args and output; `-o json` shows all.
const PAYLOAD_CHARS_MAX: usize = 2_000;
/// How long one call waits; the command line asks again.
const WAIT_STEP: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// List jobs, the newest first
    #[command(after_help = "Examples:\n  runner job list --state discarded --kind image.resize\n  \
        runner job list --outcome timed_out --since 2027-01-31T08:00:00Z --order oldest")]
    List(List),
    /// Count jobs, by state or by what else they have in common
    #[command(after_help = "Examples:\n  runner job count\n  runner job count --by error\n  \
        runner job count --by queue,state -o json")]
    Count(count::Args),
    /// Show a job with its args, output and runs
    #[command(after_help = "Example: runner job show 42")]
    Show(One),
    /// Write a job's output to stdout: byte for byte, but to a terminal with control characters escaped
    #[command(after_help = "Example: runner job output 42 > picture.png")]
    Output(One),
    /// Show what a job's run wrote, and follow it while it runs
    #[command(
        after_help = "Examples:\n  runner job logs 42\n  runner job logs -f 42\n  runner job logs 42 --run 1 -o json"
    )]
    Logs(logs::Args),
    /// Wait until a job has ended
    #[command(after_help = "Example: runner job wait 42 --timeout 5m")]
    Wait(Wait),
    /// Start exactly this job, now
    #[command(after_help = "Example: runner job start 42")]
    Start(Many),
    /// Say why a job does not run, or how it ended
    #[command(after_help = "Example: runner job why 42")]
    Why(One),
    /// Cancel jobs; running ones are ended
    #[command(after_help = "Examples:\n  runner job cancel 42 43 --reason 'wrong picture'\n  \
        runner job cancel --queue media --state available --yes")]
    Cancel(change::Cancel),
    /// Run jobs again
    #[command(after_help = "Examples:\n  runner job retry 42 --with-dependents\n  \
        runner job retry --kind image.resize --state discarded --yes")]
    Retry(change::Retry),
    /// Release jobs on hold
    #[command(after_help = "Examples:\n  runner job release 42\n  runner job release --tag customer=7 --yes")]
    Release(change::Which),
    /// Let a job run at another time
    #[command(after_help = "Example: runner job reschedule 42 --delay 5m")]
    Reschedule(change::Reschedule),
    /// Change a job that neither runs nor has ended
    #[command(after_help = "Example: runner job edit 42 --priority high --args '{\"width\": 640}'")]
    Edit(change::Edit),
    /// Delete jobs and everything about them
    #[command(after_help = "Examples:\n  runner job delete 42 --force\n  \
        runner job delete --state completed --queue media --yes")]
    Delete(change::Delete),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    which: filter::Which,
    /// newest (first), or oldest
    #[arg(long, value_name = "ORDER")]
    order: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = super::spelt::whole(1..=u32::MAX))]
    limit: u32,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct One {
    /// The job
    id: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Many {
    /// The jobs
    #[arg(required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Wait {
    /// The job
    id: String,
    /// How long; until it has ended if absent
    #[arg(long, value_parser = super::duration, value_name = "DURATION")]
    timeout: Option<Duration>,
    #[command(flatten)]
    common: Common,
}

/// Runs the verb.
pub(super) fn main(verb: &Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::List(args) => ask(&args.common.target, async |client| list(client, args).await),
        Verb::Count(args) => args.run(),
        Verb::Show(args) => ask(&args.common.target, async |client| show(client, args).await),
        Verb::Output(args) => ask(&args.common.target, async |client| output(client, args).await),
        Verb::Wait(args) => {
            ask(&args.common.target, async |client| wait(client, &args.id, args.timeout, args.common.output).await)
        }
        Verb::Logs(args) => args.run(),
        Verb::Why(args) => ask(&args.common.target, async |client| why(client, args).await),
        Verb::Start(args) => each(&args.ids, &args.common, async |client, id| post(client, id, "start", None).await),
        Verb::Cancel(args) => args.run(),
        Verb::Retry(args) => args.run(),
        Verb::Release(args) => {
            args.run("release", json!({}), async |client, id| post(client, id, "release", None).await)
        }
        Verb::Reschedule(args) => args.run(),
        Verb::Edit(args) => args.run(),
        Verb::Delete(args) => args.run(),
    }
}

async fn why(client: &Client, args: &One) -> Result<ExitCode, Failure> {
    let why: Why = client.get(&format!("{}/why", path(&args.id))).await?.json()?;
    match args.common.output {
        Format::Json => print_json(&why),
        Format::Table => {
            for because in why.why {
                print(&format!("{}: {}\n", because.code, escaped(&because.detail)));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, args: &List) -> Result<ExitCode, Failure> {
    let mut table = Table::new(&["id", "state", "kind", "queue", "run", "enqueued", "why"]);
    let (mut left, mut cursor) = (args.limit as usize, None::<String>);
    loop {
        let mut path = format!("/v1/jobs?limit={}", left.min(PAGE_ROWS_MAX));
        args.which.add_to(&mut path);
        for (name, value) in [("order", &args.order), ("cursor", &cursor)] {
            filter::add(&mut path, name, value);
        }
        let page: JobsPage = client.get(&path).await?.json()?;
        left = left.saturating_sub(page.jobs.len());
        for job in page.jobs {
            match args.common.output {
                Format::Json => print_json(&job),
                Format::Table => table.row(cells(&job)),
            }
        }
        cursor = page.next_cursor;
        if left == 0 || cursor.is_none() {
            break;
        }
    }
    if args.common.output == Format::Table {
        table.print("there are no such jobs");
        if cursor.is_some() {
            note("there are more; --limit shows them");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn cells(job: &JobShown) -> [String; 7] {
    let why = job.reason.clone().or_else(|| job.waiting.clone());
    let why = why.or_else(|| job.cancel_requested.then(|| "is being cancelled".to_owned()));
    let run = job.run.to_string();
    let (state, queue) = (job.state.to_string(), job.queue.clone());
    [job.id.clone(), state, job.kind.clone(), queue, run, job.enqueued_at.clone(), why.unwrap_or_default()]
}

async fn show(client: &Client, args: &One) -> Result<ExitCode, Failure> {
    let answer = client.get(&path(&args.id)).await?;
    let job: JobShown = answer.json()?;
    match args.common.output {
        Format::Json => print_json(&job),
        Format::Table => print_job(&job),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_job(job: &JobShown) {
    let mut table = Table::new(&["field", "value"]);
    // Args and output are text that may nest deeper, and have larger numbers, than a value in memory may.
    let plain = JobShown { args: None, output: None, runs: None, ..job.clone() };
    let value = serde_json::to_value(plain).unwrap_or_default();
    // In the order of the type, without what is not said.
    let text = |name: &str| match &value[name] {
        _ if name == "key" => job.key.as_ref().map(|key| cut(key.get(), PAYLOAD_CHARS_MAX)),
        _ if name == "args" => job.args.as_ref().map(|args| cut(args.get(), PAYLOAD_CHARS_MAX)),
        _ if name == "progress" => job.progress.as_ref().map(|done| format!("{} % {}", done.percent, done.message)),
        _ if name == "output" => job.output.as_ref().map(|output| cut(output.get(), PAYLOAD_CHARS_MAX)),
        serde_json::Value::Null | serde_json::Value::Bool(false) => None,
        serde_json::Value::String(text) => Some(cut(text, PAYLOAD_CHARS_MAX)),
        serde_json::Value::Object(fields) if fields.is_empty() && name == "tags" => None,
        serde_json::Value::Array(list) if list.is_empty() && name == "depends_on" => None,
        other => Some(other.to_string()),
    };
    const FIELDS: [&str; 28] = [
        "id",
        "kind",
        "queue",
        "state",
        "reason",
        "waiting",
        "cancel_requested",
        "priority",
        "tags",
        "depends_on",
        "unique_key",
        "key",
        "enqueued_at",
        "run_at",
        "expires_at",
        "finalized_at",
        "run",
        "worker",
        "attempts",
        "max_attempts",
        "timeout",
        "progress",
        "crashes",
        "snoozes",
        "args",
        "args_base64",
        "output",
        "output_base64",
    ];
    for name in FIELDS {
        if let Some(text) = text(name) {
            table.row([name.to_owned(), text]);
        }
    }
    table.print("");
    // A column that only runs elsewhere have something in.
    let elsewhere = job.runs.iter().flatten().any(|run| run.worker.is_some());
    // Before the error, as the last column is squeezed where the terminal is narrow.
    let header: &[&'static str] = match elsewhere {
        true => &["run", "outcome", "finished", "fuel", "memory", "worker", "error"],
        false => &["run", "outcome", "finished", "fuel", "memory", "error"],
    };
    let mut runs = Table::new(header);
    for run in job.runs.iter().flatten() {
        let (fuel, memory) = (amount(run.fuel), bytes(run.memory_peak_bytes));
        let (error, worker) = (run.error.clone().unwrap_or_default(), run.worker.clone().unwrap_or_default());
        let mut cells =
            vec![run.run.to_string(), run.outcome.as_str().to_owned(), run.finished_at.clone(), fuel, memory];
        cells.extend(elsewhere.then_some(worker));
        cells.push(error);
        runs.row(cells);
    }
    print("\n");
    runs.print("it has not run yet");
    let last = job.runs.iter().flatten().next_back().filter(|run| run.outcome != OutcomeName::Completed);
    if let Some(trace) = last.and_then(|run| run.trace.as_ref()) {
        let lines: Vec<String> = trace.lines().map(escaped).collect();
        print(&format!("\n{}\n", lines.join("\n")));
    }
}

async fn output(client: &Client, args: &One) -> Result<ExitCode, Failure> {
    let answer = client.get(&format!("{}/output", path(&args.id))).await?;
    print_payload(&answer.bytes);
    Ok(ExitCode::SUCCESS)
}

/// Waits until a job has ended; the exit code says how.
pub(super) async fn wait(
    client: &Client,
    id: &str,
    timeout: Option<Duration>,
    format: Format,
) -> Result<ExitCode, Failure> {
    let begun = Instant::now();
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
        // Where nothing runs, nothing is to be waited for; and the store must not be kept from a server.
        let step = if client.is_local() { Duration::ZERO } else { left.unwrap_or(WAIT_STEP).min(WAIT_STEP) };
        let job: JobShown = client.get(&format!("{}/wait?timeout={}ms", path(id), step.as_millis())).await?.json()?;
        let code = match job.state {
            StateName::Completed => Code::Done,
            StateName::Discarded => Code::Discarded,
            StateName::Cancelled => Code::Cancelled,
            state if client.is_local() => {
                let message = format!("job {id} is {state}, and no server runs on this store: start `runner serve`");
                return Err(Failure::new(Code::TimedOut, message));
            }
            state if left.is_some_and(|left| left <= step) => {
                let message = format!("job {id} has not ended: it is {state}");
                return Err(Failure::new(Code::TimedOut, message));
            }
            _ => continue,
        };
        match format {
            Format::Json => print_json(&job),
            Format::Table => {
                let why = job.reason.map_or_else(String::new, |reason| format!(": {}", escaped(&reason)));
                print(&format!("{}{why}\n", job.state));
            }
        }
        return Ok(ExitCode::from(code as u8));
    }
}

/// Does something to each job; the exit code is that of the first failure.
fn each(
    ids: &[String],
    common: &Common,
    act: impl AsyncFn(&Client, &str) -> Result<Option<JobShown>, Failure>,
) -> Result<ExitCode, Failure> {
    ask(&common.target, async |client| {
        let mut first = None;
        for id in ids {
            match act(client, id).await {
                Ok(job) => print_done(id, job, common.output),
                Err(Failure { code, message }) => {
                    note(&format!("runner: job {}: {message}", escaped(id)));
                    first = first.or(Some(code));
                }
            }
        }
        Ok(ExitCode::from(first.unwrap_or(Code::Done) as u8))
    })
}

fn print_done(id: &str, job: Option<JobShown>, format: Format) {
    match (job, format) {
        (Some(job), Format::Json) => print_json(&job),
        (None, Format::Json) => print_json(&json!({ "id": id, "deleted": true })),
        (None, Format::Table) => print(&format!("{id} deleted\n")),
        (Some(job), Format::Table) => {
            let already = if job.changed == Some(false) { " already" } else { "" };
            let flagged = if job.cancel_requested { ", is being cancelled" } else { "" };
            let revived = match job.revived {
                Some(jobs) if jobs > 0 => format!(", and {jobs} that waited for it"),
                _ => String::new(),
            };
            print(&format!("{id} {}{already}{flagged}{revived}\n", job.state));
        }
    }
}

async fn post(client: &Client, id: &str, verb: &str, body: Option<String>) -> Result<Option<JobShown>, Failure> {
    let answer = client.post(&format!("{}/{verb}", path(id)), None, body).await?;
    if answer.status == StatusCode::NO_CONTENT { Ok(None) } else { answer.json().map(Some) }
}

fn path(id: &str) -> String {
    format!("/v1/jobs/{}", percent(id))
}

/// A text as a part of a URL.
pub(super) fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
