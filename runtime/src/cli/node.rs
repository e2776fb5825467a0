//! `runner node`: look at the node that runs jobs, let it rest, let it go on.

use std::process::ExitCode;

use super::ask;
use super::client::{Client, Common};
use super::exit::Failure;
use super::output::{Format, Table, bytes, note, print_json};
use crate::api::node::NodeShown;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Show the node: whether it runs or drains, and what it has in hand
    #[command(after_help = "Example: runner node show")]
    Show(Common),
    /// Start nothing more: what runs ends, what had not started goes back, jobs are accepted and wait
    #[command(after_help = "Example: runner node drain")]
    Drain(Common),
    /// Go on after a drain
    #[command(after_help = "Example: runner node resume")]
    Resume(Common),
}

/// Runs the verb.
pub(super) fn main(verb: &Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Show(args) => ask(&args.target, async |client| {
            let node: NodeShown = client.get("/v1/node").await?.json()?;
            Ok(show(&node, args.output))
        }),
        Verb::Drain(args) => ask(&args.target, async |client| change(client, "/v1/node/drain", args.output).await),
        Verb::Resume(args) => ask(&args.target, async |client| change(client, "/v1/node/resume", args.output).await),
    }
}

async fn change(client: &Client, path: &str, format: Format) -> Result<ExitCode, Failure> {
    let node: NodeShown = client.post(path, None, None).await?.json()?;
    if !node.changed {
        note(&format!("it was {} already", node.state));
    }
    Ok(show(&node, format))
}

fn show(node: &NodeShown, format: Format) -> ExitCode {
    if format == Format::Json {
        print_json(node);
        return ExitCode::SUCCESS;
    }
    let mut table = Table::new(&["field", "value"]);
    let fields = [
        ("state", node.state.clone()),
        ("running", format!("{} of {} slots", node.running, node.slots)),
        ("claimed", node.claimed.to_string()),
        ("memory", format!("{} of {} reserved", bytes(node.reserved_bytes), bytes(node.memory_bytes))),
        ("boot", node.boot.clone()),
    ];
    fields.into_iter().for_each(|(name, value)| table.row([name.to_owned(), value]));
    table.print("");
    ExitCode::SUCCESS
}
