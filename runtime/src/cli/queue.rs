//! `runner queue`: look at queues and set what holds for them.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::ask;
use super::client::{Client, Common};
use super::exit::Failure;
use super::job::change::bulk;
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
    /// Set what holds for a queue; also before its first job. Runs that go on are not ended
    #[command(after_help = "Example: runner queue set media --concurrency 8 --rate '100/1m burst 10' --weight 2")]
    Set(Set),
    /// Start no job of a queue any more; what runs, runs on
    #[command(after_help = "Example: runner queue pause media --until 2027-01-31T08:00:00Z")]
    Pause(Pausing),
    /// Take no new jobs into a queue; what is there runs
    #[command(after_help = "Example: runner queue drain media")]
    Drain(One),
    /// End a pause and a drain of a queue; with --all, let jobs run again after the store was restored
    #[command(after_help = "Example: runner queue resume media")]
    Resume(Resume),
    /// Run all discarded jobs of a queue again
    #[command(alias = "reload", after_help = "Example: runner queue retry media --kind image.resize --yes")]
    Retry(Retry),
    /// Delete the jobs of a queue that are in these states
    #[command(after_help = "Example: runner queue clear media --state available --state discarded --yes")]
    Clear(Clear),
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
    /// priority, run-at, or aged:TIME (a step of priority for each TIME that a job waits, so that none starves); changes only
    /// while it has no unfinished job
    #[arg(long, value_name = "ORDER")]
    order: Option<String>,
    /// Its part beside the other queues, 1 to 1000, or none: what a manifest says, or else 1
    #[arg(long, value_name = "N|none")]
    weight: Option<String>,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    common: Common,
}

/// What queues and kinds may both have.
#[derive(Debug, clap::Args)]
pub(super) struct LimitArgs {
    /// Calls that may run at once, or none: what a manifest says, or else as many as others let
    #[arg(long, value_name = "N|none")]
    concurrency: Option<String>,
    /// Jobs that may start in a time, as `100/1m` or `100/1m burst 10`, or none: what a manifest says, or else no limit
    #[arg(long, value_name = "RATE|none")]
    rate: Option<String>,
}

/// How long a pause is.
#[derive(Debug, clap::Args)]
pub(super) struct Pause {
    /// When it ends by itself, as RFC 3339; until someone ends it if absent
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Pausing {
    /// The queue
    queue: String,
    #[command(flatten)]
    pause: Pause,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Resume {
    /// The queue
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    queue: Option<String>,
    /// All queues, after a restore
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Retry {
    /// The queue
    queue: String,
    /// Only those of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Do it to all that match; without it, only their number is printed
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Clear {
    /// The queue
    queue: String,
    /// Jobs in this state; may be given several times
    #[arg(long = "state", value_name = "STATE", required = true)]
    states: Vec<String>,
    /// Do it to all that match; without it, only their number is printed
    #[arg(long)]
    yes: bool,
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
        Verb::Pause(args) => {
            let body = args.pause.until.as_ref().map(|until| json!({ "until": until }).to_string());
            act(&args.common, &args.queue, "pause", body)
        }
        Verb::Drain(args) => act(&args.common, &args.queue, "drain", None),
        Verb::Resume(Resume { queue: Some(queue), common, .. }) => act(common, queue, "resume", None),
        Verb::Resume(args) => ask(&args.common.target, async |client| {
            let answer: Value = client.post("/v1/queues/resume", None, None).await?.json()?;
            match args.common.output {
                Format::Json => print_json(&answer),
                Format::Table => print("all queues run\n"),
            }
            Ok(ExitCode::SUCCESS)
        }),
        Verb::Retry(args) => {
            let body = args.kind.iter().map(|kind| ("kind".to_owned(), json!(kind))).collect();
            of_all(&args.common, &args.queue, ("retry", body), args.yes)
        }
        Verb::Clear(args) => {
            let body = Map::from_iter([("states".to_owned(), json!(args.states))]);
            of_all(&args.common, &args.queue, ("clear", body), args.yes)
        }
    }
}

/// A verb on the jobs of a queue.
fn of_all(
    common: &Common,
    queue: &str,
    (verb, body): (&str, Map<String, Value>),
    yes: bool,
) -> Result<ExitCode, Failure> {
    let to = format!("{}/{verb}", path(queue));
    ask(&common.target, async |client| bulk(client, (verb, &to), body, yes, common.output).await)
}

fn act(common: &Common, queue: &str, verb: &str, body: Option<String>) -> Result<ExitCode, Failure> {
    ask(&common.target, async |client| {
        let queue: QueueShown = client.post(&format!("{}/{verb}", path(queue)), None, body).await?.json()?;
        Ok(show(&queue, common.output))
    })
}

async fn list(client: &Client, format: Format) -> Result<ExitCode, Failure> {
    let QueuesShown { queues, paused } = client.get("/v1/queues").await?.json()?;
    if format == Format::Json {
        queues.iter().for_each(print_json);
        note_paused(paused);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table =
        Table::new(&["queue", "available", "running", "waiting", "ended", "capacity", "at once", "rate", "order", ""]);
    for queue in queues {
        let [available, running, waiting, ended] = four(&queue.states);
        let (capacity, at_once) = (or_dash(queue.capacity), or_dash(queue.concurrency));
        let rate = queue.rate.unwrap_or_else(|| "-".to_owned());
        let state = match (queue.paused, queue.draining) {
            (true, _) => "paused",
            (false, true) => "draining",
            (false, false) => "",
        };
        let order = queue.order;
        table.row([queue.name, available, running, waiting, ended, capacity, at_once, rate, order, state.to_owned()]);
    }
    table.print("there are no queues");
    note_paused(paused);
    Ok(ExitCode::SUCCESS)
}

/// Jobs that are available, run, wait for something and have ended.
pub(super) fn four(states: &BTreeMap<String, u64>) -> [String; 4] {
    let of = |names: &[&str]| names.iter().filter_map(|name| states.get(*name)).sum::<u64>().to_string();
    [
        of(&["available"]),
        of(&["running"]),
        of(&["held", "blocked", "scheduled", "retryable"]),
        of(&["completed", "discarded", "cancelled"]),
    ]
}

pub(super) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

pub(super) fn or_none<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "none".to_owned(), ToString::to_string)
}

/// Where a value comes from, if someone said it.
pub(super) fn from(sources: &BTreeMap<String, String>, key: &str) -> String {
    match sources.get(key) {
        Some(source) if source != "default" => format!(" ({source})"),
        _ => String::new(),
    }
}

pub(super) fn paused(paused: bool, until: Option<&String>) -> String {
    match (paused, until) {
        (false, _) => "no".to_owned(),
        (true, None) => "yes".to_owned(),
        (true, Some(until)) => format!("until {until}"),
    }
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
            let from = |key: &str| from(&queue.sources, key);
            let fields = [
                ("queue", queue.name.clone()),
                ("capacity", capacity),
                ("order", queue.order.clone()),
                ("concurrency", format!("{}{}", or_none(queue.concurrency.as_ref()), from("concurrency"))),
                ("rate", format!("{}{}", or_none(queue.rate.as_ref()), from("rate"))),
                ("weight", format!("{}{}", queue.weight, from("weight"))),
                ("paused", paused(queue.paused, queue.paused_until.as_ref())),
                ("draining", if queue.draining { "yes" } else { "no" }.to_owned()),
            ];
            let counts = queue.states.iter().map(|(state, jobs)| (state.as_str(), jobs.to_string()));
            fields.into_iter().chain(counts).for_each(|(name, value)| table.row([name.to_owned(), value]));
            table.print("");
        }
    }
    ExitCode::SUCCESS
}

fn body(args: &Set) -> Result<String, Failure> {
    let mut body = Map::new();
    number("capacity", args.capacity.as_ref(), &mut body)?;
    number("weight", args.weight.as_ref(), &mut body)?;
    if let Some(order) = &args.order {
        body.insert("order".to_owned(), json!(order));
    }
    args.limits.add_to(&mut body)?;
    if body.is_empty() {
        let all = "--capacity N, --order priority|run-at|aged:TIME, --concurrency N, --rate N/TIME or --weight N";
        return Err(Failure::usage(format!("say what to set: {all}")));
    }
    Ok(Value::Object(body).to_string())
}

impl LimitArgs {
    /// What the body of a request says of them.
    pub(super) fn add_to(&self, body: &mut Map<String, Value>) -> Result<(), Failure> {
        number("concurrency", self.concurrency.as_ref(), body)?;
        rate("rate", self.rate.as_ref(), body);
        Ok(())
    }
}

/// A rate or none.
pub(super) fn rate(key: &str, word: Option<&String>, body: &mut Map<String, Value>) {
    if let Some(rate) = word {
        let value = if rate == "none" { Value::Null } else { json!(rate) };
        body.insert(key.to_owned(), value);
    }
}

/// A number or none.
pub(super) fn number(key: &str, word: Option<&String>, body: &mut Map<String, Value>) -> Result<(), Failure> {
    let Some(word) = word else { return Ok(()) };
    let value = match word.as_str() {
        "none" => Value::Null,
        number => number.parse::<u64>().map(Value::from).map_err(|_| {
            Failure::usage(format!("--{} {number}: must be a whole number, or none", key.replace('_', "-")))
        })?,
    };
    body.insert(key.to_owned(), value);
    Ok(())
}

fn path(queue: &str) -> String {
    format!("/v1/queues/{}", percent(queue))
}
