//! The command line: noun, then verb. A client of the HTTP API, like everyone else.
//!
//! [`client`] is the one way to ask, at a server or in this process; one file per noun does the asking. `run` and
//! `serve` are the two verbs that have a node of their own. [`exit`] has the exit codes, [`output`] the tables.

mod bench;
pub mod client;
mod config;
mod doctor;
mod doors;
mod enqueue;
mod events;
pub mod exit;
mod job;
mod kind;
mod list;
mod made;
mod metrics;
mod node;
mod once;
mod open;
pub mod output;
mod plugin;
mod queue;
mod run;
mod schedule;
mod serve;
pub mod settings;
mod signals;
mod spelt;
mod status;
mod store;
mod telemetry;
mod tenant;
mod tls;
mod token;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use runner_store::Handle;
use runner_store::dir::StoreDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use self::client::{Client, Target};
use self::exit::{CODES_HELP, Code, Failure};
use self::settings::{Reloading, Settings, Unparsed};
use self::signals::Signals;
use crate::api::time::parse_duration;
use crate::node::{Node, NodeState};
use crate::wasm::compile::child;

/// Runs background jobs in sandboxed WebAssembly handlers.
#[derive(Debug, Parser)]
#[command(name = "runner", version, after_help = CODES_HELP, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    Run(Box<run::Args>),
    Serve(Box<serve::Args>),
    Enqueue(Box<enqueue::Args>),
    /// Look at jobs and change them
    #[command(subcommand)]
    Job(job::Verb),
    /// Look at queues and set what holds for them
    #[command(subcommand)]
    Queue(queue::Verb),
    /// Look at kinds and set what holds for them
    #[command(subcommand)]
    Kind(kind::Verb),
    /// Look at schedules, make them and change them
    #[command(subcommand)]
    Schedule(schedule::Verb),
    /// Look at the node that runs jobs, let it rest, let it go on
    #[command(subcommand)]
    Node(node::Verb),
    Events(events::Args),
    Flush(enqueue::Flush),
    /// Look at plugins and try them
    #[command(subcommand)]
    Plugin(plugin::Verb),
    /// Make, check and measure a store
    #[command(subcommand)]
    Store(store::Verb),
    Status(status::Args),
    Doctor(doctor::Args),
    Bench(bench::Args),
    /// Look at tenants, make them and say what they may have
    #[command(subcommand)]
    Tenant(tenant::Verb),
    /// Make tokens, list and revoke them
    #[command(subcommand)]
    Token(token::Verb),
    /// Look at what `runner serve` would go by
    #[command(subcommand)]
    Config(settings::Verb),
    Openapi(made::Openapi),
    Completions(made::Completions),
    Man(made::Man),
    /// Compile what comes on stdin; the runner calls itself so
    #[command(name = child::VERB, hide = true)]
    CompilePlugin(child::Order),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let parsed = settings::parse(&args).map_err(Unparsed::end);
    let done = parsed.and_then(|(cli, settings)| dispatch(&cli.noun, args, settings));
    match done.and_then(written) {
        Ok(code) => code,
        Err(Failure { code, message }) => {
            if !message.is_empty() {
                output::note(&format!("runner: {message}"));
            }
            ExitCode::from(code as u8)
        }
    }
}

fn dispatch(noun: &Noun, args: Vec<OsString>, settings: Settings) -> Result<ExitCode, Failure> {
    if let Noun::CompilePlugin(order) = noun {
        // Not a word on stdout but the code, and nothing that a plugin could make trouble with.
        let compiled = child::main(order).map_err(|error| Failure::new(Code::Failed, error.to_string()));
        return compiled.map(|()| ExitCode::SUCCESS);
    }
    telemetry::start(if matches!(noun, Noun::Serve(_)) { "info" } else { "warn" })?;
    match noun {
        Noun::Run(args) => run::main(args),
        Noun::Serve(serve) => serve::main(serve, Reloading::new(args, settings)),
        Noun::Enqueue(args) => enqueue::main(args),
        Noun::Job(verb) => job::main(verb),
        Noun::Queue(verb) => queue::main(verb),
        Noun::Kind(verb) => kind::main(verb),
        Noun::Schedule(verb) => schedule::main(verb),
        Noun::Node(verb) => node::main(verb),
        Noun::Events(args) => events::main(args),
        Noun::Flush(args) => enqueue::flush(args),
        Noun::Plugin(verb) => plugin::main(verb),
        Noun::Store(verb) => store::main(verb),
        Noun::Status(args) => status::main(args),
        Noun::Doctor(args) => doctor::main(args),
        Noun::Bench(args) => bench::main(args),
        Noun::Tenant(verb) => tenant::main(verb),
        Noun::Token(verb) => token::main(verb),
        Noun::Config(verb) => settings::main(verb, &settings),
        Noun::Openapi(args) => Ok(made::openapi(args)),
        Noun::Completions(args) => Ok(made::completions(args)),
        Noun::Man(args) => made::man(args),
        Noun::CompilePlugin(_) => unreachable!("it was seen to above"),
    }
}

/// The same exit code, unless the answer did not arrive.
fn written(code: ExitCode) -> Result<ExitCode, Failure> {
    match output::unwritten() {
        None => Ok(code),
        Some(error) => Err(Failure::new(
            Code::Failed,
            format!("stdout took only a part of the answer: {error}; what was asked for is done, ask again to see it"),
        )),
    }
}

/// The async runtime of a process with a node.
fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failed, format!("no threads: {error}")))
}

/// Asks the API at `target`, and closes what was opened for that, whatever the answer.
fn ask<T>(target: &Target, asking: impl AsyncFnOnce(&Client) -> Result<T, Failure>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failed, format!("no threads: {error}")))?;
    runtime.block_on(async {
        let client = Client::open(target).await?;
        let answer = asking(&client).await;
        client.close().await;
        answer
    })
}

/// Waits until a draining node has stopped; the next signal interrupts what still runs.
async fn stop(node: Node, mut life: watch::Receiver<NodeState>, signals: &mut Signals) {
    tokio::select! {
        // Ends also when the node is gone, which is as good.
        _ = life.wait_for(|state| *state == NodeState::Stopped) => {}
        () = signals.next() => node.interrupt(),
    }
    node.stopped().await;
}

/// Ends when the store has failed, or the node stops unasked; `next` says what to do then.
async fn broken(handle: &Handle, life: &mut watch::Receiver<NodeState>, next: &str) -> Failure {
    tokio::select! {
        _ = handle.failed() => {}
        // A scheduler whose store has failed stops as well, and may be noticed first.
        _ = life.wait_for(|state| *state == NodeState::Stopped) => {}
    }
    match handle.failure() {
        Some(why) => {
            Failure::new(Code::StoreFailed, format!("stopped, because the store failed: {why}; {next}: it checks"))
        }
        None => Failure::new(Code::Failed, format!("the scheduler stopped by itself, which is a bug; {next}")),
    }
}

/// What to say at the end about a store that failed, once it is closed; what was said before stays.
fn failed_store<T>(ended: Result<T, Failure>, why: Option<String>, dir: Option<&StoreDir>) -> Result<T, Failure> {
    let Some(why) = why else { return ended };
    let said = match ended {
        Err(failure) if failure.code == Code::StoreFailed => failure.message,
        _ => format!("the store failed while it stopped: {why}; start again: it checks"),
    };
    let message = match open::note_failure(dir, &why) {
        Some(unnoted) => format!("{said}\n{unnoted}"),
        None => said,
    };
    Err(Failure::new(Code::StoreFailed, message))
}

/// A random name for a call, so that a repeated one does nothing.
fn random_key() -> String {
    let number = getrandom::u64().expect("the system has random numbers, or nothing works");
    format!("cli:{number:016x}")
}

/// A number of bytes with its unit, for clap.
fn size(text: &str) -> Result<u64, String> {
    crate::wasm::units::size(text).map_err(|error| error.to_string())
}

/// A duration with its unit, for clap.
fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map(Duration::from)
}
