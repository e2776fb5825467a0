//! `runner plugin`: look at plugins and try them, without a store or a server.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use runner_store::clock::Clock;
use runner_store::job::limits::{ATTEMPTS_DEFAULT, PAYLOAD_BYTES_MAX};
use runner_store::job::{Millis, Outcome};
use serde_json::json;

use super::client::Target;
use super::config::Config;
use super::exit::{Code, Failure};
use super::list::read_file;
use super::output::{Format, Table, amount, bytes, millis, note, print, print_json, print_payload};
use super::{ask, enqueue, open};
use crate::api::new_job;
use crate::api::plugins::{PluginShown, Plugins, PluginsShown};
use crate::api::read::nearest;
use crate::wasm::grants::BlobMode;
use crate::wasm::log::escaped;
use crate::wasm::{Alone, CancelSignal, Host, JobView, Plugin, RunReport, RunRequest, Streams};

/// The contract that handlers are built for.
const CONTRACT: &str = include_str!("../../../plugin-sdk/wit/plugin.wit");

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// List the plugins of a folder, or those of a server
    #[command(after_help = "Example: runner plugin list --plugins plugins/dist")]
    List {
        /// A folder to be loaded; the server is asked if absent
        #[arg(long, value_name = "DIR")]
        plugins: Option<PathBuf>,
        #[command(flatten)]
        target: Target,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Check a plugin: compile it, and say what it asks for and offers
    #[command(after_help = "Example: runner plugin check plugins/dist/image.wasm")]
    Check {
        /// The plugin; its manifest is the .toml file of the same name
        file: PathBuf,
        #[command(flatten)]
        config: Config,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Run a handler once; its output goes to stdout, everything else to stderr
    #[command(after_help = "Example: runner plugin invoke plugins/dist/text.wasm '{\"markdown\": \"*hello*\"}'")]
    Invoke(Invoke),
    /// Print the contract that handlers are built for
    #[command(after_help = "Example: runner plugin wit > plugin.wit")]
    Wit,
}

#[derive(Debug, clap::Args)]
pub(super) struct Invoke {
    /// The plugin; its manifest is the .toml file of the same name
    file: PathBuf,
    /// JSON for the handler; - reads it from stdin
    args: Option<String>,
    /// A file for the handler, also one that is not JSON
    #[arg(long, value_name = "FILE", conflicts_with = "args")]
    args_file: Option<PathBuf>,
    /// Which of its kinds, if it has several
    #[arg(long)]
    kind: Option<String>,
    /// Wall clock of the run, instead of the manifest's
    #[arg(long, value_parser = super::duration, value_name = "DURATION")]
    timeout: Option<Duration>,
    #[command(flatten)]
    config: Config,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the verb.
pub(super) fn main(verb: &Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::List { plugins, target, output } => list(plugins.as_deref(), target, *output),
        Verb::Check { file, config, output } => check(file, config, *output),
        Verb::Invoke(args) => invoke(args),
        Verb::Wit => {
            print(CONTRACT);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list(folder: Option<&Path>, target: &Target, format: Format) -> Result<ExitCode, Failure> {
    let shown = match folder {
        Some(folder) => {
            let loaded = open::plugins(folder, None, Arc::default())?;
            Plugins::of_node(loaded.registry, &loaded.reports).shown()
        }
        None => ask(target, async |client| {
            if client.is_local() {
                let message = "no server runs on this store, so no plugin is loaded; name a folder with --plugins";
                return Err(Failure::new(Code::Unreachable, message));
            }
            let shown: PluginsShown = client.get("/v1/plugins").await?.json()?;
            for report in &shown.reports {
                note(&format!("plugin {}: {}", escaped(&report.path), escaped(&report.problem)));
            }
            Ok(shown)
        })?,
    };
    if format == Format::Json {
        shown.plugins.iter().for_each(print_json);
    } else {
        let mut table = Table::new(&["plugin", "flavour", "size", "compiled in", "digest", "kinds"]);
        for plugin in &shown.plugins {
            let measures = [bytes(plugin.size_bytes), millis(plugin.compile_ms), short(&plugin.digest)];
            let names = [plugin.name.clone(), plugin.flavour.clone()];
            table.row(names.into_iter().chain(measures).chain([plugin.kinds.join(" ")]));
        }
        table.print("there are no plugins");
    }
    Ok(ExitCode::from(if shown.reports.is_empty() { Code::Done as u8 } else { Code::Failed as u8 }))
}

/// Enough of a digest to tell versions apart.
fn short(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}

fn check(file: &Path, config: &Config, format: Format) -> Result<ExitCode, Failure> {
    let host = open::host(Some(1), config.load(&[])?)?;
    let plugin = load(&host, file)?;
    let shown = PluginShown::from(&plugin);
    if format == Format::Json {
        print_json(&shown);
        return Ok(ExitCode::SUCCESS);
    }
    let limits = plugin.limits(shown.kinds.first().map_or("", String::as_str));
    let mut table = Table::new(&["what", "is"]);
    let mut row = |what: &str, is: String| table.row([what.to_owned(), is]);
    row("plugin", shown.name);
    row("flavour", shown.flavour);
    row("kinds", shown.kinds.join(" "));
    row("digest", shown.digest);
    row("size", bytes(shown.size_bytes));
    row("compiled in", millis(shown.compile_ms));
    row("time-out", limits.timeout.to_string());
    row("memory", bytes(limits.memory_bytes));
    row("may enqueue", if shown.may_enqueue.is_empty() { "nothing".to_owned() } else { shown.may_enqueue.join(" ") });
    for (container, mode) in &plugin.grants().asked().blobs {
        row("container", format!("{container}  {}", granted(&plugin, container, *mode)));
    }
    for import in &shown.imports {
        row("import", format!("{import}  offered"));
    }
    for export in shown.exports {
        row("export", export);
    }
    table.print("");
    Ok(ExitCode::SUCCESS)
}

/// What a plugin may do with a container, or what is missing for what it asks for.
fn granted(plugin: &Plugin, container: &str, mode: BlobMode) -> String {
    let grants = plugin.grants();
    let asked = [(mode.read, false, "read"), (mode.write, true, "write")];
    let said = asked.into_iter().filter(|(asked, ..)| *asked).map(|(_, write, word)| {
        grants.blob(container, write).map_or_else(|denied| denied.to_string(), |_| word.to_owned())
    });
    said.collect::<Vec<_>>().join("; ")
}

fn load(host: &Host, file: &Path) -> Result<Plugin, Failure> {
    host.load(file).map_err(|error| Failure::new(Code::Failed, error.to_string()))
}

fn invoke(args: &Invoke) -> Result<ExitCode, Failure> {
    let host = open::host(Some(1), args.config.load(&[])?)?;
    let plugin = Arc::new(load(&host, &args.file)?);
    let kind = kind(&plugin, args.kind.as_deref())?;
    let bytes = handler_args(args)?;
    let mut limits = plugin.limits(&kind);
    if let Some(timeout) = args.timeout {
        limits.timeout = Millis(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    }
    let now = Clock::System.now();
    let job = JobView {
        id: 1,
        kind,
        tenant: "default".to_owned(),
        queue: "default".to_owned(),
        args: bytes,
        run: 1,
        attempt: 1,
        max_attempts: ATTEMPTS_DEFAULT,
        enqueued_at: now,
        run_at: now,
        ..JobView::default()
    };
    let next = AtomicU64::new(2);
    let ids = Arc::new(move || Some(next.fetch_add(1, Ordering::Relaxed)));
    let grants = plugin.grants();
    let read_job = new_job::reader(&Arc::default());
    let request = RunRequest {
        job,
        limits,
        grants,
        ids: Some(ids),
        read_job,
        backing: Arc::new(Alone),
        streams: Streams::default(),
        cancel: CancelSignal::new(),
    };
    let runtime = super::runtime()?;
    let report = runtime.block_on(host.spawn(plugin, request));
    let report = report.map_err(|error| Failure::new(Code::Failed, format!("the host failed, a bug: {error}")))?;
    print_report(&report, args.output);
    let completed = matches!(report.outcome, Outcome::Completed { .. });
    Ok(ExitCode::from(if completed { Code::Done as u8 } else { Code::Failed as u8 }))
}

fn kind(plugin: &Plugin, named: Option<&str>) -> Result<String, Failure> {
    let kinds = plugin.kinds();
    match (named, kinds) {
        (Some(named), _) if kinds.iter().any(|kind| kind == named) => Ok(named.to_owned()),
        (Some(named), _) => {
            let near = nearest(named, kinds.iter().map(String::as_str));
            let hint =
                near.map_or_else(|| format!("it has {}", kinds.join(", ")), |near| format!("did you mean `{near}`?"));
            Err(Failure::usage(format!("the plugin does not provide kind `{named}`; {hint}")))
        }
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(Failure::usage(format!("say which kind with --kind: it has {}", kinds.join(", ")))),
    }
}

fn handler_args(args: &Invoke) -> Result<Vec<u8>, Failure> {
    match (&args.args, &args.args_file) {
        (Some(text), _) if text == "-" => enqueue::stdin(),
        (Some(text), _) => Ok(enqueue::json(text)?.get().as_bytes().to_vec()),
        (None, Some(path)) => read_file(path, PAYLOAD_BYTES_MAX as u64).map_err(|error| Failure::file(path, &error)),
        (None, None) => Ok(b"{}".to_vec()),
    }
}

fn print_report(report: &RunReport, format: Format) {
    let outcome = report.outcome.name().as_str();
    let output = if let Outcome::Completed { output } = &report.outcome { output.as_slice() } else { &[] };
    if format == Format::Json {
        let enqueued: Vec<_> =
            report.enqueues.iter().map(|job| json!({ "id": job.id.to_string(), "kind": job.spec.kind })).collect();
        let log: Vec<_> =
            report.log.lines().map(|line| json!({ "source": line.source.as_str(), "line": line.shown() })).collect();
        print_json(&json!({
            "outcome": outcome, "error": report.outcome.error(), "trace": report.outcome.trace(),
            "output": serde_json::from_slice::<serde_json::Value>(output).ok(), "output_bytes": output.len(),
            "fuel": report.fuel_used, "memory_peak_bytes": report.memory_peak_bytes, "host_calls": report.host_calls,
            "duration": format!("{}ms", report.wall.as_millis()), "enqueued": enqueued, "log": log,
        }));
        return;
    }
    for line in report.log.lines() {
        note(&format!("{:>6} | {}", line.source.as_str(), line.shown()));
    }
    if report.log.dropped_lines() > 0 {
        note(&format!("       | {} lines were left out", report.log.dropped_lines()));
    }
    for job in &report.enqueues {
        note(&format!("enqueued job {} of kind {}", job.id, escaped(&job.spec.kind)));
    }
    if let Some(error) = report.outcome.error() {
        note(&error.lines().map(escaped).collect::<Vec<_>>().join("\n"));
    }
    if let Some(trace) = report.outcome.trace() {
        note(&trace.lines().map(escaped).collect::<Vec<_>>().join("\n"));
    }
    print_payload(output);
    if !output.is_empty() && !output.ends_with(b"\n") {
        print("\n");
    }
    note(&format!(
        "{outcome} in {}, fuel {}, peak memory {}, {} host calls",
        millis(u64::try_from(report.wall.as_millis()).unwrap_or(u64::MAX)),
        amount(report.fuel_used),
        bytes(report.memory_peak_bytes),
        report.host_calls
    ));
}
