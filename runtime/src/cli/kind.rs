//! `runner kind`: look at kinds and set what holds for them.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::ask;
use super::client::{Client, Common};
use super::exit::Failure;
use super::job::percent;
use super::output::{Format, Table, print_json};
use super::queue::{self, Pause};
use crate::api::kinds::{KindShown, KindsShown};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// List kinds with their jobs, who provides them, and what holds for them
    #[command(after_help = "Example: runner kind list")]
    List(Common),
    /// Show one kind
    #[command(after_help = "Example: runner kind show image.resize")]
    Show(One),
    /// Set what holds for a kind; also before its first job. Runs that go on are not ended
    #[command(after_help = "Example: runner kind set image.resize --concurrency 4 --rate '100/1m burst 10'")]
    Set(Set),
    /// Start no job of a kind any more; what runs, runs on
    #[command(after_help = "Example: runner kind pause image.resize --until 2027-01-31T08:00:00Z")]
    Pause(Pausing),
    /// End a pause
    #[command(after_help = "Example: runner kind resume image.resize")]
    Resume(One),
}

#[derive(Debug, clap::Args)]
pub(super) struct One {
    /// The kind
    kind: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Set {
    /// The kind
    kind: String,
    #[command(flatten)]
    limits: queue::LimitArgs,
    /// Calls of each key that may run at once, or none: what the manifest says, or else as many as others let
    #[arg(long, value_name = "N|none")]
    key_concurrency: Option<String>,
    /// Jobs of each key that may start in a time, or none: what the manifest says, or else no limit
    #[arg(long, value_name = "RATE|none")]
    key_rate: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Pausing {
    /// The kind
    kind: String,
    #[command(flatten)]
    pause: Pause,
    #[command(flatten)]
    common: Common,
}

/// Runs the verb.
pub(super) fn main(verb: &Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::List(args) => ask(&args.target, async |client| list(client, args.output).await),
        Verb::Show(args) => ask(&args.common.target, async |client| {
            let kind: KindShown = client.get(&path(&args.kind)).await?.json()?;
            Ok(show(&kind, args.common.output))
        }),
        Verb::Set(args) => {
            let mut body = Map::new();
            args.limits.add_to(&mut body)?;
            queue::number("key_concurrency", args.key_concurrency.as_ref(), &mut body)?;
            queue::rate("key_rate", args.key_rate.as_ref(), &mut body);
            if body.is_empty() {
                let all = "--concurrency N, --rate N/TIME, --key-concurrency N or --key-rate N/TIME; none takes back";
                return Err(Failure::usage(format!("say what to set: {all}")));
            }
            ask(&args.common.target, async |client| {
                let body = Value::Object(body).to_string();
                let kind: KindShown = client.patch(&path(&args.kind), body).await?.json()?;
                Ok(show(&kind, args.common.output))
            })
        }
        Verb::Pause(args) => {
            let body = args.pause.until.as_ref().map(|until| json!({ "until": until }).to_string());
            ask(&args.common.target, async |client| {
                let kind: KindShown = client.post(&format!("{}/pause", path(&args.kind)), None, body).await?.json()?;
                Ok(show(&kind, args.common.output))
            })
        }
        Verb::Resume(args) => ask(&args.common.target, async |client| {
            let kind: KindShown = client.post(&format!("{}/resume", path(&args.kind)), None, None).await?.json()?;
            Ok(show(&kind, args.common.output))
        }),
    }
}

async fn list(client: &Client, format: Format) -> Result<ExitCode, Failure> {
    let KindsShown { kinds } = client.get("/v1/kinds").await?.json()?;
    if format == Format::Json {
        kinds.iter().for_each(print_json);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["kind", "plugin", "available", "running", "waiting", "ended", "at once", "rate", ""]);
    for kind in kinds {
        let [available, running, waiting, ended] = queue::four(&kind.states);
        let paused = if kind.paused { "paused" } else { "" };
        let plugin = kind.plugin.unwrap_or_else(|| "-".to_owned());
        let at_once = queue::or_dash(kind.concurrency);
        let rate = kind.rate.unwrap_or_else(|| "-".to_owned());
        table.row([kind.name, plugin, available, running, waiting, ended, at_once, rate, paused.to_owned()]);
    }
    table.print("there are no kinds");
    Ok(ExitCode::SUCCESS)
}

fn show(kind: &KindShown, format: Format) -> ExitCode {
    if format == Format::Json {
        print_json(kind);
        return ExitCode::SUCCESS;
    }
    let mut table = Table::new(&["field", "value"]);
    let plugin = kind.plugin.clone().unwrap_or_else(|| "none; its jobs wait".to_owned());
    let from = |key: &str| queue::from(&kind.sources, key);
    let fields = [
        ("kind", kind.name.clone()),
        ("plugin", plugin),
        ("concurrency", format!("{}{}", queue::or_none(kind.concurrency.as_ref()), from("concurrency"))),
        ("rate", format!("{}{}", queue::or_none(kind.rate.as_ref()), from("rate"))),
        ("key", queue::or_none(kind.key.as_ref())),
        ("key concurrency", format!("{}{}", queue::or_none(kind.key_concurrency.as_ref()), from("key_concurrency"))),
        ("key rate", format!("{}{}", queue::or_none(kind.key_rate.as_ref()), from("key_rate"))),
        ("order by key", if kind.strict_order { "strict" } else { "none" }.to_owned()),
        ("paused", queue::paused(kind.paused, kind.paused_until.as_ref())),
    ];
    fields.into_iter().for_each(|(name, value)| table.row([name.to_owned(), value]));
    kind.states.iter().for_each(|(state, jobs)| table.row([state.clone(), jobs.to_string()]));
    table.print("");
    ExitCode::SUCCESS
}

fn path(kind: &str) -> String {
    format!("/v1/kinds/{}", percent(kind))
}
