//! `runner queue`: look at queues and set what holds for them.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::ask;
use super::client::{Client, Target};
use super::exit::Failure;
use super::job::percent;
use super::output::{Format, Table, note, print, print_json};
use crate::api::queues::{QueueShown, QueuesShown};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// List queues with their jobs and settings
    #[command(after_help = "Example: runner queue list")]
    List(Common),
    /// Show one queue
    #[command(after_help = "Example: runner queue show media")]
    Show(One),
    /// Set how many jobs a queue may have, or their order; also before its first job
    #[command(after_help = "Example: runner queue set media --capacity 10000 --order run-at")]
    Set(Set),
    /// Let jobs run again after the store was restored
    #[command(after_help = "Example: runner queue resume --all")]
    Resume(Resume),
}

#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    target: Target,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct One {
    /// The queue
    queue: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Set {
    /// The queue
    queue: String,
    /// Jobs that it may have which have not ended, or none: as many as the store may have
    #[arg(long, value_name = "N|none")]
    capacity: Option<String>,
    /// priority, or run-at; changes only while it has no unfinished job
    #[arg(long, value_name = "ORDER")]
    order: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Resume {
    /// All queues
    #[arg(long, required = true)]
    all: bool,
    #[command(flatten)]
    common: Common,
}

/// Runs the verb.
pub(super) fn main(verb: &Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::List(args) => ask(&args.target, async |client| list(client, args.output).await),
        Verb::Show(args) => ask(&args.common.target, async |client| {
            let queue: QueueShown = client.get(&path(&args.queue)).await?.json()?;
            Ok(show(&queue, args.common.output))
        }),
        Verb::Set(args) => {
            let body = body(args)?;
            ask(&args.common.target, async |client| {
                let queue: QueueShown = client.patch(&path(&args.queue), body).await?.json()?;
                Ok(show(&queue, args.common.output))
            })
        }
        Verb::Resume(args) => ask(&args.common.target, async |client| {
            let answer: Value = client.post("/v1/queues/resume", None, None).await?.json()?;
            match args.common.output {
                Format::Json => print_json(&answer),
                Format::Table => print("all queues run\n"),
            }
            Ok(ExitCode::SUCCESS)
        }),
    }
}

async fn list(client: &Client, format: Format) -> Result<ExitCode, Failure> {
    let QueuesShown { queues, paused } = client.get("/v1/queues").await?.json()?;
    if format == Format::Json {
        queues.iter().for_each(print_json);
        note_paused(paused);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["queue", "available", "running", "waiting", "ended", "capacity", "order"]);
    for queue in queues {
        let of = |names: &[&str]| names.iter().filter_map(|name| queue.states.get(*name)).sum::<u64>().to_string();
        let waiting = of(&["held", "blocked", "scheduled", "retryable"]);
        let ended = of(&["completed", "discarded", "cancelled"]);
        let capacity = queue.capacity.map_or_else(|| "-".to_owned(), |capacity| capacity.to_string());
        let (available, running) = (of(&["available"]), of(&["running"]));
        table.row([queue.name, available, running, waiting, ended, capacity, queue.order]);
    }
    table.print("there are no queues");
    note_paused(paused);
    Ok(ExitCode::SUCCESS)
}

fn note_paused(paused: bool) {
    if paused {
        note("nothing runs since the store was restored; `runner queue resume --all` ends that");
    }
}

fn show(queue: &QueueShown, format: Format) -> ExitCode {
    match format {
        Format::Json => print_json(queue),
        Format::Table => {
            let mut table = Table::new(&["field", "value"]);
            let capacity = queue.capacity.map_or_else(|| "none of its own".to_owned(), |capacity| capacity.to_string());
            let fields = [("queue", queue.name.clone()), ("capacity", capacity), ("order", queue.order.clone())];
            let counts = queue.states.iter().map(|(state, jobs)| (state.as_str(), jobs.to_string()));
            fields.into_iter().chain(counts).for_each(|(name, value)| table.row([name.to_owned(), value]));
            table.print("");
        }
    }
    ExitCode::SUCCESS
}

fn body(args: &Set) -> Result<String, Failure> {
    let mut body = Map::new();
    if let Some(capacity) = &args.capacity {
        let value = match capacity.as_str() {
            "none" => Value::Null,
            number => number
                .parse::<u64>()
                .map(Value::from)
                .map_err(|_| Failure::usage(format!("--capacity {number}: must be a whole number, or none")))?,
        };
        body.insert("capacity".to_owned(), value);
    }
    if let Some(order) = &args.order {
        body.insert("order".to_owned(), json!(order));
    }
    if body.is_empty() {
        return Err(Failure::usage("say what to set: --capacity N or --order priority|run-at"));
    }
    Ok(Value::Object(body).to_string())
}

fn path(queue: &str) -> String {
    format!("/v1/queues/{}", percent(queue))
}
