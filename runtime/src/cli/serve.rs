//! `runner serve`: a node with its API, until a signal ends it.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runner_store::clock::Clock;
use runner_store::dir::Create;

use super::config::Config;
use super::doors::{self, Doors};
use super::exit::Failure;
use super::metrics;
use super::once::{self, Once};
use super::open::{self, CommitMode, Open};
use super::output::note;
use super::settings::Reloading;
use super::signals::{Hangups, Signals};
use super::spelt;
use crate::api::plugins::Plugins;
use crate::api::tls::Tls;
use crate::api::{self, App};
use crate::node::{Node, NodeSettings, NodeState};
use crate::notify::Manager;
use crate::schedules::Schedules;
use crate::traces::{Endpoint, Traces};
use crate::wasm::CompileLimits;
use crate::wasm::folder::{self, FolderError};
use crate::wasm::loader::Loader;

/// How long a node may take to stop whose store has failed.
const FAILED_STOP_WITHIN: Duration = Duration::from_secs(2);
/// How long a start waits for plugins that were not compiled before.
const PLUGINS_WITHIN: Duration = Duration::from_secs(30);

/// Run jobs and serve the API, until SIGINT or SIGTERM
///
/// The first signal lets runs finish within the grace and interrupts the rest, which run again after the next start; a
/// second one interrupts at once. Nothing that was accepted is lost by any way of stopping.
///
/// With --once it ends by itself, with exit code 0, when no job runs, none is available that this node could start, and none
/// becomes due within --once-horizon; then it prints what it leaves.
///
/// Without --config, `runner.toml` in the store's folder is the configuration, if it is there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: runner serve --plugins plugins/dist --data /var/lib/runner")]
pub(super) struct Args {
    /// The folder of plugins
    #[arg(long, value_name = "DIR", required = true, env = "RUNNER_PLUGINS")]
    plugins: Option<PathBuf>,
    /// The store's folder; made if it does not exist
    #[arg(long, value_name = "DIR", default_value = "runner-data", env = "RUNNER_DATA")]
    data: PathBuf,
    #[command(flatten)]
    config: Config,
    /// Make a store also in a folder that exists
    #[arg(long)]
    init: bool,
    /// Where the API listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7070", value_parser = spelt::address, env = "RUNNER_LISTEN")]
    listen: String,
    /// Where only /metrics is served, to anyone who reaches it; it is also at the address of the API
    #[arg(long, value_name = "ADDRESS", value_parser = spelt::address, env = "RUNNER_METRICS_LISTEN")]
    metrics_listen: Option<String>,
    /// Let anyone who reaches the address do anything; needed for any address but a loopback one
    #[arg(long, env = "RUNNER_INSECURE_NO_AUTH")]
    insecure_no_auth: bool,
    #[command(flatten)]
    doors: Doors,
    /// Runs at once; 8 for each core if absent
    #[arg(long, value_parser = spelt::whole(1..=256_u32), env = "RUNNER_SLOTS")]
    slots: Option<u32>,
    /// Memory of all runs together, reserved before they start; half of what there is if absent
    #[arg(long, value_name = "SIZE", value_parser = super::size, env = "RUNNER_MEMORY")]
    memory: Option<u64>,
    /// How long runs may go on after the first signal
    #[arg(long, value_parser = super::duration, default_value = "30s", env = "RUNNER_GRACE")]
    grace: Duration,
    /// What a commit survives
    #[arg(long, value_enum, default_value_t, env = "RUNNER_COMMIT")]
    commit: CommitMode,
    /// End when nothing is left to run here; says what is left
    #[arg(long)]
    once: bool,
    /// With --once: wait for jobs that become due within this time
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "1h", requires = "once")]
    once_horizon: Duration,
    /// How long compiling one plugin may take
    #[arg(long, value_parser = super::duration, default_value = "120s", env = "RUNNER_COMPILE_TIME")]
    compile_time: Duration,
}

/// Runs the verb.
pub(super) fn main(args: &Args, mut reloading: Reloading) -> Result<ExitCode, Failure> {
    let files = raise_open_files();
    let folder_of_plugins = args.plugins.as_deref().expect("clap requires it");
    let operator = args.config.load(&[&args.data])?;
    let doors = doors::ready(&args.doors, &args.listen, args.insecure_no_auth, &args.data, files)?;
    let endpoint = Endpoint::of_environment().map_err(|error| Failure::usage(error.to_string()))?;
    let for_metrics = args.metrics_listen.as_deref().map(metrics::bind).transpose()?;
    // Before the store: whoever mistypes a folder should not find one more.
    folder::check(folder_of_plugins).map_err(unusable)?;
    let create = if args.init { Create::Yes } else { Create::NewFolder };
    if args.data.join("ballast").exists() {
        // Before anything is written, which on a full disk would fail.
        open::settle_ballast(&args.data);
    }
    let store = open::store(&args.data, create, args.commit)?;
    open::settle_ballast(&args.data);
    let runtime = super::runtime()?;
    let Open { handle, writer, dir, live } = store;
    let limits = CompileLimits { time: args.compile_time, ..CompileLimits::default() };
    let host = Arc::new(open::host(args.slots, Arc::clone(&operator), dir.as_ref().and_then(open::cache), limits)?);
    let names = Arc::new(Mutex::new(Some(handle.clone())));
    let served = runtime.block_on(async {
        doors.look_for_tokens(&handle)?;
        let (mut signals, mut hangups) = (Signals::take()?, Hangups::take()?);
        open::watch_room(&handle, live.as_ref());
        let (traces, exporter) = endpoint.map(Traces::start).unzip();
        let defaults = NodeSettings::default();
        let settings = NodeSettings {
            slots: args.slots.unwrap_or(defaults.slots),
            grace: args.grace,
            memory_bytes: args.memory,
            operator: Arc::clone(&operator),
            traces,
        };
        let tenants = Arc::clone(&operator);
        // Given back before the writer is waited for: whoever looks at the folder may do so a moment longer.
        let named = Arc::clone(&names);
        let is_tenant = Arc::new(move |name: &str| {
            let store = named.lock().unwrap_or_else(PoisonError::into_inner);
            tenants.tenant(name).is_some() || store.as_ref().is_some_and(|store| store.tenant_id(name).is_some())
        });
        let loader = Loader::start(Arc::clone(&host), folder_of_plugins, is_tenant).await.map_err(unusable)?;
        if wait_for_plugins(&loader, &mut signals).await == Waited::Stopped {
            loader.stop().await;
            return Ok(None);
        }
        let plugins = Plugins::of_node(loader.catalog())
            .with_reload(loader.reload())
            .with_deploy(loader.deploy())
            .run_by(Arc::clone(&host), operator);
        let mut node = Node::start(handle.clone(), dir.as_ref(), host, loader.catalog(), settings).await?;
        let schedules = Schedules::start(&handle, &loader.catalog(), &Clock::System);
        let mut life = node.watch();
        let ready = {
            let life = node.watch();
            Box::new(move || match *life.borrow() {
                NodeState::Running => None,
                NodeState::Draining => Some("draining"),
                NodeState::Stopped => Some("stopped"),
            })
        };
        let once = args.once.then(|| Once {
            store: handle.clone(),
            plugins: plugins.clone(),
            catalog: loader.catalog(),
            starter: node.starter(),
            horizon: args.once_horizon,
        });
        let app = App::on(handle.clone(), plugins, ready, live, Some(node.starter()));
        app.keep_series();
        let (server, tls) = doors.serve(&api::router(Arc::clone(&app)), app.access(), &args.data)?;
        let for_metrics = for_metrics.map(|listener| metrics::serve(listener, &app)).transpose()?;
        announce(&node);
        let manager = Manager::find();
        manager.ready("running");
        let mut heartbeat = Heartbeat::of(&manager);
        let ended = loop {
            tokio::select! {
                () = heartbeat.next() => manager.alive(),
                () = signals.next() => break Ok(None),
                failure = super::broken(&handle, &mut life, "start again") => break Err(failure),
                spent = once::spent(once.as_ref()) => break spent.map(Some),
                () = hangups.next() => tokio::select! {
                    () = reload(&loader, tls.as_ref()) => if let Some(grace) = reloading.look() {
                        node.set_grace(grace);
                    },
                    () = signals.next() => break Ok(None),
                },
            }
        };
        manager.stopping();
        // Before the node: what it would make now waits for the next start anyway.
        schedules.stop().await;
        match &ended {
            Ok(_) => {
                node.drain();
                tracing::info!(grace_ms = u64::try_from(node.grace().as_millis()).unwrap_or(u64::MAX), "draining");
                super::stop(node, life, &mut signals).await;
            }
            // Nothing that still runs can be recorded any more.
            Err(_) => {
                node.interrupt();
                _ = tokio::time::timeout(FAILED_STOP_WITHIN, node.stopped()).await;
            }
        }
        if let Some(exporter) = exporter {
            exporter.end().await;
        }
        app.end_streams();
        server.stop().await;
        if let Some(server) = for_metrics {
            server.stop().await;
        }
        app.stop().await;
        loader.stop().await;
        ended
    });
    let failure = handle.failure();
    drop((handle, names.lock().unwrap_or_else(PoisonError::into_inner).take()));
    drop(runtime);
    writer.join();
    let left = super::failed_store(served, failure, dir.as_ref())?;
    left.iter().for_each(|left| once::print_left(left));
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// How the wait for plugins ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    /// Something is served, and the rest follows.
    Enough,
    /// A signal came.
    Stopped,
}

/// Waits until each plugin is loaded or refused, but not for ever: what takes longer is compiled while the others serve.
async fn wait_for_plugins(loader: &Loader, signals: &mut Signals) -> Waited {
    tokio::select! {
        () = loader.settled() => Waited::Enough,
        () = signals.next() => Waited::Stopped,
        () = tokio::time::sleep(PLUGINS_WITHIN) => {
            tracing::warn!("some plugins are still being compiled; jobs of their kinds wait for them");
            Waited::Enough
        }
    }
}

/// What SIGHUP asks for.
async fn reload(loader: &Loader, tls: Option<&Tls>) {
    match tls.map(Tls::reload) {
        None => {}
        Some(Ok(())) => tracing::info!("the certificate was read again"),
        Some(Err(error)) => tracing::error!(%error, "the certificate from before serves on"),
    }
    match loader.reload().now().await {
        Ok(()) => tracing::info!("the plugins were looked at"),
        Err(error) => tracing::warn!(%error, "the plugins were not looked at"),
    }
}

fn unusable(error: FolderError) -> Failure {
    Failure::usage(error.to_string())
}

/// Every connection is an open file, and the usual soft limit, 1,024, is less than the connections that are taken. Answers
/// how many there may be; none: any number.
fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where the system refuses, there are fewer connections; nothing else depends on it.
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current
}

/// When the service manager is to hear that this process lives.
struct Heartbeat(Option<tokio::time::Interval>);

impl Heartbeat {
    fn of(manager: &Manager) -> Self {
        Self(manager.alive_every().map(tokio::time::interval))
    }

    async fn next(&mut self) {
        match &mut self.0 {
            Some(interval) => _ = interval.tick().await,
            None => std::future::pending().await,
        }
    }
}

fn announce(node: &Node) {
    let recovered = node.recovered();
    if recovered.crashed + recovered.interrupted > 0 {
        let (crashed, interrupted) = (recovered.crashed, recovered.interrupted);
        tracing::warn!(crashed, interrupted, "the process before this one ended without stopping; its runs were ended");
    }
    if std::io::IsTerminal::is_terminal(&io::stderr()) {
        note("ready; Ctrl-C drains and stops, a second Ctrl-C stops at once");
    }
}
