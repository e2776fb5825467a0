//! `runner plugin`: look at plugins and try them, without a store or a server.

mod build;
mod new;
mod project;
mod push;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use runner_store::clock::Clock;
use runner_store::job::limits::{ATTEMPTS_DEFAULT, PAYLOAD_BYTES_MAX};
use runner_store::job::{Millis, Outcome};
use serde_json::json;

use super::client::{Common, Target};
use super::config::Config;
use super::exit::{Code, Failure};
use super::list::read_file;
use super::output::{Format, Table, amount, bytes, millis, note, print, print_json, print_payload};
use super::{ask, enqueue, open};
use crate::api::new_job;
use crate::api::plugins::{LoadingShown, PluginShown, Plugins, PluginsShown, ReportShown};
use crate::api::read::nearest;
use crate::wasm::folder::TENANT_DEFAULT;
use crate::wasm::log::escaped;
use crate::wasm::{Alone, CancelSignal, CompileLimits, Host, JobView, KvWrite, Plugin, RunReport, RunRequest, Streams};

/// The contract that handlers are built for.
const CONTRACT: &str = include_str!("../../../plugin-sdk/wit/plugin.wit");
/// How long `reload` waits for what is compiled; the server goes on after that.
const RELOADED_WITHIN: Duration = Duration::from_secs(600);
/// How often it asks.
const RELOADED_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// List the plugins of a folder, or those of a server
    #[command(after_help = "Example: runner plugin list --plugins plugins/dist")]
    List {
        /// A folder to be loaded; the server is asked if absent
        #[arg(long, value_name = "DIR")]
        plugins: Option<PathBuf>,
        #[command(flatten)]
        config: Config,
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
    /// Make a project for a plugin, which builds, tests and runs as it stands
    #[command(
        after_help = "Examples: runner plugin new hello\n          runner plugin new stats --lang go\n          runner plugin new import --with batch,policy"
    )]
    New(new::Args),
    /// Build a plugin's project, whatever its language; what is missing is named, with the command that installs it
    #[command(after_help = "Example: runner plugin build hello --to plugins/dist")]
    Build(build::Args),
    /// Let the server look at its folder of plugins now, and wait until what is new is compiled
    ///
    /// It looks by itself when something changes; this also tries again what went wrong.
    #[command(after_help = "Example: runner plugin reload")]
    Reload {
        #[command(flatten)]
        target: Target,
        /// The form of the answer
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Put a plugin into the folder of a server, once it has passed every check there; what is refused changes nothing
    #[command(after_help = "Example: runner plugin push plugins/dist/image.wasm --url https://runner.example.com")]
    Push(push::Args),
    /// Take a plugin out of the folder of a server, with its manifest; jobs of its kinds wait from then on
    #[command(after_help = "Example: runner plugin remove image")]
    Remove {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
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
        Verb::List { plugins, config, target, output } => list(plugins.as_deref(), config, target, *output),
        Verb::Check { file, config, output } => check(file, config, *output),
        Verb::Invoke(args) => invoke(args),
        Verb::New(args) => new::main(args),
        Verb::Build(args) => build::main(args),
        Verb::Reload { target, output } => reload(target, *output),
        Verb::Push(args) => push::main(args),
        Verb::Remove { name, common } => push::remove(name, common),
        Verb::Wit => {
            print(CONTRACT);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list(folder: Option<&Path>, config: &Config, target: &Target, format: Format) -> Result<ExitCode, Failure> {
    let shown = match folder {
        Some(folder) => {
            let loaded = open::plugins(folder, None, config.load(&[])?, None)?;
            let reports = loaded.reports.iter().map(|report| ReportShown::from(report.as_ref())).collect();
            PluginsShown { reports, ..Plugins::of_node(loaded.catalog).shown() }
        }
        None => ask(target, async |client| {
            if client.is_local() {
                let message = "no server runs on this store, so no plugin is loaded; name a folder with --plugins";
                return Err(Failure::new(Code::Unreachable, message));
            }
            let shown: PluginsShown = client.get("/v1/plugins").await?.json()?;
            note_reports(&shown);
            Ok(shown)
        })?,
    };
    Ok(show(&shown, format))
}

fn reload(target: &Target, format: Format) -> Result<ExitCode, Failure> {
    let shown = ask(target, async |client| {
        let mut shown: PluginsShown = client.post("/v1/plugins/reload", None, None).await?.json()?;
        let is_going_on = |shown: &PluginsShown| shown.loading.iter().any(|loading| loading.state == "compiling");
        let until = Instant::now() + RELOADED_WITHIN;
        while is_going_on(&shown) && Instant::now() < until {
            tokio::time::sleep(RELOADED_EVERY).await;
            shown = client.get("/v1/plugins").await?.json()?;
        }
        note_reports(&shown);
        Ok(shown)
    })?;
    Ok(show(&shown, format))
}

fn note_reports(shown: &PluginsShown) {
    for report in &shown.reports {
        note(&format!("plugin {}: {}", escaped(&report.path), escaped(&report.problem)));
    }
    for (plugin, warning) in shown.plugins.iter().flat_map(|p| p.warnings.iter().map(move |w| (&p.name, w))) {
        note(&format!("plugin {}: {}", escaped(plugin), escaped(warning)));
    }
    for LoadingShown { tenant, name, state, since, until } in &shown.loading {
        let when = match (since, until) {
            (Some(since), _) => format!(" since {since}"),
            (_, Some(until)) => format!(" until {until}, as compiling has taken the tenant's share of the hour"),
            (None, None) => String::new(),
        };
        note(&format!("plugin {}/{}: {}{when}", escaped(tenant), escaped(name), escaped(state)));
    }
}

/// Exit code 1 where something is wrong.
fn show(shown: &PluginsShown, format: Format) -> ExitCode {
    if format == Format::Json {
        shown.plugins.iter().for_each(print_json);
    } else {
        let mut table = Table::new(&["plugin", "flavour", "size", "compiled in", "digest", "kinds"]);
        for plugin in &shown.plugins {
            let took = if plugin.from_cache { "before".to_owned() } else { millis(plugin.compile_ms) };
            let measures = [bytes(plugin.size_bytes), took, short(&plugin.digest)];
            let name = match plugin.tenant.as_str() {
                TENANT_DEFAULT => plugin.name.clone(),
                tenant => format!("{tenant}/{}", plugin.name),
            };
            let names = [name, plugin.flavour.clone()];
            table.row(names.into_iter().chain(measures).chain([plugin.kinds.join(" ")]));
        }
        table.print("there are no plugins");
    }
    ExitCode::from(if shown.reports.is_empty() { Code::Done as u8 } else { Code::Failed as u8 })
}

/// Enough of a digest to tell versions apart.
fn short(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}

fn check(file: &Path, config: &Config, format: Format) -> Result<ExitCode, Failure> {
    let host = open::host(Some(1), config.load(&[])?, None, CompileLimits::default())?;
    let plugin = load(&host, file)?;
    let shown = PluginShown::new(TENANT_DEFAULT, &plugin);
    if format == Format::Json {
        print_json(&shown);
        return Ok(ExitCode::SUCCESS);
    }
    let limits = plugin.limits(shown.kinds.first().map_or("", String::as_str));
    let mut table = Table::new(&["what", "is"]);
    let mut row = |what: &str, is: String| table.row([what.to_owned(), is]);
    row("plugin", shown.name);
    row("flavour", shown.flavour);
    row("offers", shown.offers.join(" "));
    row("kinds", shown.kinds.join(" "));
    row("digest", shown.digest);
    row("size", bytes(shown.size_bytes));
    row("compiled in", millis(shown.compile_ms));
    row("time-out", limits.timeout.to_string());
    row("memory", bytes(limits.memory_bytes));
    row("instance", shown.reuse.map_or_else(|| "one a run".to_owned(), |runs| format!("kept for {runs} runs")));
    for on in &shown.on {
        row("listens", format!("{} to {} of {}", on.kind, on.event, on.of.join(" ")));
    }
    for (asked, becomes) in plugin.grants().review() {
        row("asks for", format!("{asked}  {becomes}"));
    }
    for import in &shown.imports {
        row("import", format!("{import}  offered"));
    }
    for export in shown.exports {
        row("export", export);
    }
    for warning in shown.warnings {
        row("warning", warning);
    }
    table.print("");
    Ok(ExitCode::SUCCESS)
}

fn load(host: &Host, file: &Path) -> Result<Plugin, Failure> {
    host.load(file).map_err(|error| Failure::new(Code::Failed, error.to_string()))
}

fn invoke(args: &Invoke) -> Result<ExitCode, Failure> {
    let host = open::host(Some(1), args.config.load(&[])?, None, CompileLimits::default())?;
    let plugin = Arc::new(load(&host, &args.file)?);
    let kind = kind(&plugin, args.kind.as_deref())?;
    let bytes = handler_args(args)?;
    let limits = plugin.limits(&kind);
    let timeout = args.timeout.map(|timeout| Millis(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)));
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
        timeout,
        ..JobView::default()
    };
    let next = AtomicU64::new(2);
    let ids = Arc::new(move || Some(next.fetch_add(1, Ordering::Relaxed)));
    let grants = plugin.grants();
    let read_job = new_job::reader(&Arc::default());
    let request = RunRequest {
        job,
        others: Vec::new(),
        limits,
        middleware: Vec::new(),
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

/// A write of a durable value, which nobody records here.
fn kv_shown(write: &KvWrite) -> serde_json::Value {
    json!({ "key": write.key, "bytes": write.value.as_ref().map(Vec::len) })
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
            "kv": report.kv.iter().map(kv_shown).collect::<Vec<_>>(),
            "checkpoint_bytes": report.checkpoint.as_ref().map(Vec::len),
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
    for write in &report.kv {
        let what = write.value.as_ref().map_or_else(|| "removed".to_owned(), |value| bytes(value.len() as u64));
        note(&format!("kv `{}`: {what}", escaped(&write.key)));
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
