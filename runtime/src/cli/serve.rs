//! `runner serve`: a node with its API, until a signal ends it.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use runner_store::clock::Clock;
use runner_store::dir::Create;

use super::config::Config;
use super::exit::{Code, Failure};
use super::once::{self, Once};
use super::open::{self, CommitMode, Open};
use super::output::note;
use super::signals::{Hangups, Signals};
use crate::api::guard::Guard;
use crate::api::plugins::Plugins;
use crate::api::serve::{Server, bind_socket, is_loopback};
use crate::api::{self, App};
use crate::node::{Node, NodeSettings, NodeState};
use crate::schedules::Schedules;
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
    #[arg(long, value_name = "DIR")]
    plugins: PathBuf,
    /// The store's folder; made if it does not exist
    #[arg(long, value_name = "DIR", default_value = "runner-data", env = "RUNNER_DATA")]
    data: PathBuf,
    #[command(flatten)]
    config: Config,
    /// Make a store also in a folder that exists
    #[arg(long)]
    init: bool,
    /// Where the API listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7070", env = "RUNNER_LISTEN")]
    listen: String,
    /// Let anyone who reaches the address do anything; needed for any address but a loopback one
    #[arg(long)]
    insecure_no_auth: bool,
    /// Runs at once; 8 for each core if absent
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256), env = "RUNNER_SLOTS")]
    slots: Option<u32>,
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
pub(super) fn main(args: &Args) -> Result<ExitCode, Failure> {
    raise_open_files();
    let operator = args.config.load(&[&args.data])?;
    let (listener, guard) = listen(args)?;
    // Before the store: whoever mistypes a folder should not find one more.
    folder::check(&args.plugins).map_err(unusable)?;
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
    let served = runtime.block_on(async {
        let (mut signals, mut hangups) = (Signals::take()?, Hangups::take()?);
        open::watch_room(&handle, live.as_ref());
        let defaults = NodeSettings::default();
        let settings = NodeSettings {
            slots: args.slots.unwrap_or(defaults.slots),
            grace: args.grace,
            operator: Arc::clone(&operator),
            ..defaults
        };
        let tenants = Arc::clone(&operator);
        let is_tenant = Arc::new(move |name: &str| tenants.tenant(name).is_some());
        let loader = Loader::start(Arc::clone(&host), &args.plugins, is_tenant).await.map_err(unusable)?;
        if wait_for_plugins(&loader, &mut signals).await == Waited::Stopped {
            loader.stop().await;
            return Ok(None);
        }
        let plugins =
            Plugins::of_node(loader.catalog()).with_reload(loader.reload()).run_by(Arc::clone(&host), operator);
        let node = Node::start(handle.clone(), dir.as_ref(), host, loader.catalog(), settings).await?;
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
        let server = start_server(args, &api::router(Arc::clone(&app)), listener, guard)?;
        announce(&node);
        let ended = loop {
            tokio::select! {
                () = signals.next() => break Ok(None),
                failure = super::broken(&handle, &mut life, "start again") => break Err(failure),
                spent = once::spent(once.as_ref()) => break spent.map(Some),
                () = hangups.next() => tokio::select! {
                    () = reload(&loader) => {}
                    () = signals.next() => break Ok(None),
                },
            }
        };
        // Before the node: what it would make now waits for the next start anyway.
        schedules.stop().await;
        match &ended {
            Ok(_) => {
                node.drain();
                tracing::info!(grace_ms = u64::try_from(args.grace.as_millis()).unwrap_or(u64::MAX), "draining");
                super::stop(node, life, &mut signals).await;
            }
            // Nothing that still runs can be recorded any more.
            Err(_) => {
                node.interrupt();
                _ = tokio::time::timeout(FAILED_STOP_WITHIN, node.stopped()).await;
            }
        }
        app.end_streams();
        server.stop().await;
        app.stop().await;
        loader.stop().await;
        ended
    });
    let failure = handle.failure();
    drop(handle);
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
async fn reload(loader: &Loader) {
    match loader.reload().now().await {
        Ok(()) => tracing::info!("the plugins were looked at"),
        Err(error) => tracing::warn!(%error, "the plugins were not looked at"),
    }
}

fn unusable(error: FolderError) -> Failure {
    Failure::usage(error.to_string())
}

/// Every connection is an open file, and the usual soft limit, 1,024, is less than the connections that are taken.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where the system refuses, connections beyond its limit wait; nothing else depends on it.
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn listen(args: &Args) -> Result<(TcpListener, Guard), Failure> {
    let wrong =
        |why: String| Failure::usage(format!("--listen {}: {why}; write for example 127.0.0.1:7070", args.listen));
    let mut addresses = args.listen.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
    let address = addresses.next().ok_or_else(|| wrong("names no address".to_owned()))?;
    let guard = match (is_loopback(&address), args.insecure_no_auth) {
        (true, _) => Guard::Loopback,
        (false, true) => Guard::Open,
        (false, false) => {
            let message = format!(
                "{address} can be reached from other machines, and there are no tokens yet: listen on 127.0.0.1, or \
                 say --insecure-no-auth if everyone who reaches it may do anything"
            );
            return Err(Failure::new(Code::NotAllowed, message));
        }
    };
    let listener = TcpListener::bind(address).map_err(|error| not_bound(&address, &error))?;
    listener.set_nonblocking(true).map_err(|error| not_bound(&address, &error))?;
    Ok((listener, guard))
}

fn not_bound(address: &SocketAddr, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AddrInUse => Failure::new(
            Code::AddressInUse,
            format!("{address} is in use by another process; stop it, or choose another address with --listen"),
        ),
        io::ErrorKind::PermissionDenied => {
            Failure::new(Code::NotAllowed, format!("{address}: permission denied; choose a port above 1023"))
        }
        _ => Failure::usage(format!("{address} cannot be listened on: {error}; choose another with --listen")),
    }
}

fn start_server(args: &Args, router: &axum::Router, listener: TcpListener, guard: Guard) -> Result<Server, Failure> {
    let failed = |error: io::Error| Failure::new(Code::Failed, format!("{}: {error}", args.listen));
    let address = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let socket = match bind_socket(&args.data) {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(%error, data = %args.data.display(), "no unix socket: the command line needs --url");
            None
        }
    };
    let server = Server::start(router, (listener, guard), socket);
    let who = match guard {
        Guard::Open => "anyone who reaches it",
        Guard::Loopback | Guard::Socket => "anyone on this machine",
    };
    tracing::info!(url = %format!("http://{address}"), "listening; {who} may enqueue, look and change jobs");
    Ok(server)
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
