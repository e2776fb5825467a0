//! `runner enqueue`: one job, or a list.

use std::io::Read;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runner_store::job::JobId;
use runner_store::job::limits::PAYLOAD_BYTES_MAX;
use serde::Serialize;
use serde_json::value::RawValue;

use super::client::{Client, Target};
use super::exit::Failure;
use super::list::{List, read_file};
use super::output::{Format, print, print_json};
use super::{ask, job, random_key};
use crate::api::body;
use crate::api::types::{BufferedShown, EnqueuedList, EnqueuedShown, FlushedShown};

/// Jobs and bytes of one call: well within what the API takes.
const PART_JOBS_MAX: usize = 1_000;
const PART_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Enqueue a job, or a list of jobs
///
/// Prints the id. Where no server runs, the job is put into the store and runs after the next start.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  runner enqueue image.resize '{\"width\": 320}' --args-file photo.jpg\n  \
    runner enqueue report.send '{\"to\": \"a@example.org\"}' --delay 5m --tag customer=42 --wait\n  \
    runner enqueue mail.send --unique-key welcome:42 --depends-on 41\n  runner enqueue --from jobs.ndjson")]
pub(super) struct Args {
    /// What is to be done
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    kind: Option<String>,
    /// JSON for the handler; - reads it from stdin
    #[arg(conflicts_with = "from", value_name = "ARGS")]
    args: Option<String>,
    /// A file for the handler, also one that is not JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = ["args", "from"])]
    args_file: Option<PathBuf>,
    /// A list, one JSON object a line; checked whole before anything is sent
    #[arg(long, value_name = "FILE.ndjson")]
    from: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// Makes the call safe to repeat: the same key with the same job does nothing again (random if absent)
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Wait until the job has ended
    #[arg(long, conflicts_with = "from")]
    wait: bool,
    /// How long to wait
    #[arg(long, value_parser = super::duration, value_name = "DURATION", requires = "wait")]
    wait_timeout: Option<Duration>,
    #[command(flatten)]
    target: Target,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What a job states; as the API spells it.
#[derive(Debug, clap::Args, Serialize)]
struct Options {
    /// The line it stands in
    #[arg(long, conflicts_with = "from")]
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    /// -32768 (first) to 32767 (last), or highest, high, default, low, lowest
    #[arg(long, conflicts_with = "from", allow_negative_numbers = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<String>,
    /// Run it so long after it is accepted, for example 5m
    #[arg(long, value_name = "DURATION", conflicts_with = "from")]
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<String>,
    /// Run it at this time, RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "from")]
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<String>,
    /// Attempts before it is given up
    #[arg(long, value_name = "N", conflicts_with = "from")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    /// Wall clock of one run, for example 30s
    #[arg(long, value_name = "DURATION", conflicts_with = "from")]
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    /// Discard it if it has not begun to run by this time, RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "from")]
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// A free label; may be given several times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag, conflicts_with = "from")]
    #[serde(serialize_with = "as_object", skip_serializing_if = "Vec::is_empty")]
    tags: Vec<(String, String)>,
    /// Hold it until it is released
    #[arg(long, conflicts_with = "from")]
    hold: bool,
    /// Wait for these jobs to complete: 41,42, or given several times
    #[arg(long, value_name = "ID", value_delimiter = ',', conflicts_with = "from")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<String>,
    /// There is one job at a time with this key
    #[arg(long = "unique-key", value_name = "KEY", conflicts_with = "from")]
    #[serde(skip)]
    unique_key: Option<String>,
    /// What to do if there is one already; replace changes it, keep leaves it and prints its id, reject fails
    #[arg(long, value_name = "keep|replace|reject", requires = "unique_key", default_value = "keep")]
    #[serde(skip)]
    on_conflict: String,
    /// When to answer: once the job is durable, or as soon as it is received (it then gets no id)
    #[arg(long, value_enum, conflicts_with_all = ["wait", "idempotency_key"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    ack: Option<Ack>,
}

/// When a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Ack {
    /// When the job is durable.
    Durable,
    /// When it is received; a crash within 100 ms loses it.
    Buffered,
}

/// What there may be only one of; as the API spells it.
#[derive(Serialize)]
struct UniqueBody<'a> {
    key: &'a str,
    on_conflict: &'a str,
}

/// The body of a call.
#[derive(Serialize)]
struct Body<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<UniqueBody<'a>>,
    #[serde(flatten)]
    options: &'a Options,
}

/// Runs the verb.
pub(super) fn main(args: &Args) -> Result<ExitCode, Failure> {
    match &args.from {
        Some(path) => {
            let list = List::read(path)?;
            if args.options.ack == Some(Ack::Buffered) {
                list.check_buffered()?;
            }
            ask(&args.target, async |client| send_list(client, &list, args).await)
        }
        None => {
            let body = body(args)?;
            ask(&args.target, async |client| send_one(client, body, args).await)
        }
    }
}

async fn send_one(client: &Client, body: String, args: &Args) -> Result<ExitCode, Failure> {
    if args.options.ack == Some(Ack::Buffered) {
        let answer: BufferedShown = client.post("/v1/jobs", None, Some(body)).await?.json()?;
        return Ok(print_buffered(&answer, args.output));
    }
    let key = args.idempotency_key.clone().unwrap_or_else(random_key);
    let job: EnqueuedShown = client.post("/v1/jobs", Some(&key), Some(body)).await?.json()?;
    if args.wait {
        if args.output == Format::Table {
            print(&format!("{}\n", job.id));
        }
        return job::wait(client, &job.id, args.wait_timeout, args.output).await;
    }
    print_enqueued(&job, args.output);
    Ok(ExitCode::SUCCESS)
}

/// Sends a list in parts, each under a key of its own, so that a repeated call goes on.
async fn send_list(client: &Client, list: &List, args: &Args) -> Result<ExitCode, Failure> {
    let key = args.idempotency_key.clone().unwrap_or_else(random_key);
    let buffered = args.options.ack == Some(Ack::Buffered);
    let (mut sent, mut received) = (Vec::new(), 0);
    for (n, part) in list.parts(PART_JOBS_MAX, PART_BYTES_MAX).into_iter().enumerate() {
        let sayer = |failure| said_of(failure, list, &part, (!buffered).then_some(&key));
        let bodies =
            list.lines()[part.clone()].iter().map(|line| list.body(line, &sent)).collect::<Result<Vec<_>, _>>()?;
        if buffered {
            // Each body is an object with at least a kind.
            let bodies: Vec<String> =
                bodies.iter().map(|body| format!("{{\"ack\":\"buffered\",{}", &body[1..])).collect();
            let body = format!("[{}]", bodies.join(","));
            let answer: BufferedShown = client.post("/v1/jobs", None, Some(body)).await.map_err(sayer)?.json()?;
            received += answer.buffered;
            continue;
        }
        let body = format!("[{}]", bodies.join(","));
        let answer = client.post("/v1/jobs", Some(&format!("{key}:{n}")), Some(body)).await.map_err(sayer)?;
        let answer: EnqueuedList = answer.json()?;
        answer.jobs.iter().for_each(|job| print_enqueued(job, args.output));
        sent.extend(answer.jobs.iter().filter_map(|job| job.id.parse().ok().map(JobId)));
    }
    if buffered {
        return Ok(print_buffered(&BufferedShown { buffered: received }, args.output));
    }
    Ok(ExitCode::SUCCESS)
}

/// A failure of a part of a list: with the line where it names a job, and with what became of the jobs before the part.
fn said_of(failure: Failure, list: &List, part: &Range<usize>, key: Option<&String>) -> Failure {
    let place = || {
        let (place, why) = failure.message.strip_prefix("jobs[")?.split_once(']')?;
        let line = list.lines().get(part.start + place.parse::<usize>().ok()?)?;
        Some(format!("{}:{}: {}", list.path().display(), line.number, why.trim_start_matches(['.', ':', ' '])))
    };
    let mut message = place().unwrap_or_else(|| failure.message.clone());
    if part.start > 0 {
        let done = part.start;
        message += &match key {
            Some(key) => format!(
                "\nthe first {done} jobs of the list are enqueued; with `--idempotency-key {key}` the same command goes on \
                 behind them"
            ),
            None => format!("\nthe first {done} jobs of the list were received"),
        };
    }
    Failure { message, ..failure }
}

fn print_buffered(answer: &BufferedShown, format: Format) -> ExitCode {
    match format {
        Format::Table => print(&format!("{} received\n", answer.buffered)),
        Format::Json => print_json(answer),
    }
    ExitCode::SUCCESS
}

/// Accept now what was enqueued with `--ack buffered`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: runner flush")]
pub(super) struct Flush {
    #[command(flatten)]
    target: Target,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs `runner flush`.
pub(super) fn flush(args: &Flush) -> Result<ExitCode, Failure> {
    ask(&args.target, async |client| {
        let flushed: FlushedShown = client.post("/v1/flush", None, None).await?.json()?;
        match args.output {
            Format::Json => print_json(&flushed),
            Format::Table => {
                let FlushedShown { accepted, refused, lost } = flushed;
                print(&format!("{accepted} accepted, {refused} refused, {lost} lost since the server started\n"));
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn print_enqueued(job: &EnqueuedShown, format: Format) {
    match format {
        Format::Table => print(&format!("{}\n", job.id)),
        Format::Json => print_json(job),
    }
}

fn body(args: &Args) -> Result<String, Failure> {
    let (json, bytes) = match (&args.args, &args.args_file) {
        (Some(text), _) if text == "-" => json_or_bytes(stdin()?),
        (Some(text), _) => (Some(json(text)?), None),
        (None, Some(path)) if path.as_os_str() == "-" => json_or_bytes(stdin()?),
        (None, Some(path)) => {
            json_or_bytes(read_file(path, PAYLOAD_BYTES_MAX as u64).map_err(|error| Failure::file(path, &error))?)
        }
        (None, None) => (None, None),
    };
    let kind = args.kind.as_deref().unwrap_or_default();
    let Options { unique_key, on_conflict, .. } = &args.options;
    let unique = unique_key.as_ref().map(|key| UniqueBody { key, on_conflict });
    let body = Body { kind, args: json, args_base64: bytes, unique, options: &args.options };
    Ok(serde_json::to_string(&body).expect("a body has only text as keys, so it is JSON"))
}

/// Args that were typed.
pub(super) fn json(text: &str) -> Result<Box<RawValue>, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::usage(format!(
            "ARGS are not JSON, line {}, column {}: {}; a text needs quotes within quotes: '\"text\"'",
            error.line(),
            error.column(),
            body::what(&error)
        ))
    })
}

fn json_or_bytes(bytes: Vec<u8>) -> (Option<Box<RawValue>>, Option<String>) {
    match serde_json::from_slice(&bytes) {
        Ok(json) => (Some(json), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// Everything on stdin, up to what args may have.
pub(super) fn stdin() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let limit = PAYLOAD_BYTES_MAX as u64 + 1;
    let read = std::io::stdin().lock().take(limit).read_to_end(&mut bytes);
    read.map_err(|error| Failure::usage(format!("stdin cannot be read: {error}")))?;
    if bytes.len() > PAYLOAD_BYTES_MAX {
        return Err(Failure::usage(format!(
            "stdin has more than {PAYLOAD_BYTES_MAX} bytes (1 MiB), the limit of args"
        )));
    }
    Ok(bytes)
}

pub(super) fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, for example customer=42")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn as_object<S: serde::Serializer>(tags: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(tags.iter().map(|(key, value)| (key, value)))
}
