//! `runner bench`: what this machine does with this program: durable enqueues, and jobs from end to end.
//!
//! Everything is as in `serve`, the disk, the commits, the sandbox a run, but for the API: callers are in this process. It
//! measures on a store of its own that is gone afterwards, or on one that was named and has no jobs, never beside other
//! work. [`place`] has the store, [`temporary`] the folder of one that goes, [`measure`] the figures.

mod measure;
mod place;
mod temporary;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use self::measure::Figure;
use self::place::Place;
use super::exit::{Code, Failure};
use super::open::{self, CommitMode};
use super::output::{Format, Table, print, print_json};
use super::signals::Signals;
use crate::machine;
use crate::wasm::folder::{Registry, TENANT_DEFAULT};
use crate::wasm::{Catalog, CompileLimits, Host, HostSettings, Manifest};

/// Its handler does nothing.
const NOOP: &str = "bench.noop";
/// Its handler answers when it began.
const CLOCK: &str = "bench.clock";
/// Far more than a disk of any size takes.
const JOBS_MAX: u64 = 1_000_000_000;
/// In less, a slow disk ends not one commit, and nothing is measured.
const DURATION_MIN: Duration = Duration::from_millis(100);

/// Measure what this machine does with this program
///
/// First one job at a time on an idle node: how long a commit takes, and how long it is from an enqueue to the handler's
/// start. Then durable enqueues, one job a call and in lists; then all those jobs are run, each in a fresh sandbox. Each of
/// these ends after --duration, or when all jobs are done.
///
/// The store is a temporary one in this folder, so it is this folder's disk that is measured; or that of --data, which must
/// not have jobs. Nothing else should be at work meanwhile. Ctrl-C ends it and cleans up.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples: runner bench\n          runner bench -n 100_000 --duration 5s -o json")]
pub(super) struct Args {
    /// Jobs to enqueue and run, at most
    #[arg(short = 'n', long, value_name = "N", value_parser = number, default_value = "1_000_000")]
    jobs: u64,
    /// How long each measurement goes on, at most
    #[arg(long, value_name = "TIME", value_parser = long_enough, default_value = "10s")]
    duration: Duration,
    /// A store without jobs to measure on, which stays; made if it does not exist
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Runs at once; 8 for each core if absent
    #[arg(long, value_parser = crate::cli::spelt::whole(1..=256_u32))]
    slots: Option<u32>,
    /// What a commit survives
    #[arg(long, value_enum, default_value_t)]
    commit: CommitMode,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What is measured, and with what.
struct Bench {
    host: Arc<Host>,
    plugins: Arc<Catalog>,
    slots: u32,
    commit: CommitMode,
    jobs: u64,
    duration: Duration,
    /// Set by a signal: it ends what is measured.
    stop: Arc<AtomicBool>,
}

/// Runs the verb.
pub(super) fn main(args: &Args) -> Result<ExitCode, Failure> {
    // Of all that follows: a signal between two lives of the store counts, too.
    let watching = super::runtime()?;
    let stop = watching.block_on(stopped_by_signals())?;
    let place = Place::of(args.data.as_deref())?;
    let slots = args.slots.unwrap_or(HostSettings::default().slots);
    let host = Arc::new(open::host(Some(slots), Arc::default(), None, CompileLimits::default())?);
    let plugins = Catalog::fixed(plugins(&host)?);
    let (commit, jobs, duration) = (args.commit, args.jobs, args.duration);
    let bench = Bench { host, plugins, slots, commit, jobs, duration, stop };
    let mut figures = Vec::new();
    let idle = place.with_store(&bench, &mut figures, measure::idle);
    let ended = match idle {
        Ok(()) if !bench.is_stopped() => place.with_store(&bench, &mut figures, measure::busy),
        ended => ended,
    };
    let kept = place.kept().map(Path::to_owned);
    drop(place);
    ended?;
    show(&bench, kept.as_deref(), &figures, args.output);
    if bench.is_stopped() {
        return Err(Failure::new(Code::Failed, "interrupted: what is shown is of fewer jobs, or of a part, only"));
    }
    Ok(ExitCode::SUCCESS)
}

impl Bench {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A flag that a signal sets.
async fn stopped_by_signals() -> Result<Arc<AtomicBool>, Failure> {
    let mut signals = Signals::take()?;
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    tokio::spawn(async move {
        signals.next().await;
        set.store(true, Ordering::Relaxed);
    });
    Ok(stop)
}

/// Handlers that need no plugin folder.
fn plugins(host: &Host) -> Result<Registry, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Code::Failed, format!("the handlers that are measured cannot be made here: {error}"))
    };
    let text = |text: &str| wat::parse_str(text).expect("its text is a part of this program, and is tested");
    let noop = runner_componentize::component(&text(include_str!("noop.wat")), "plugin");
    let noop = noop.map_err(|error| failed(&error))?;
    let mut registry = Registry::default();
    for (kind, bytes) in [(NOOP, noop), (CLOCK, text(include_str!("clock.wat")))] {
        let plugin = host.compile(kind, &bytes, Manifest::default()).map_err(|error| failed(&error))?;
        registry.add(TENANT_DEFAULT, Arc::new(plugin));
    }
    Ok(registry)
}

fn show(bench: &Bench, kept: Option<&Path>, figures: &[Figure], format: Format) {
    let (cores, cpu) = (std::thread::available_parallelism().map_or(1, usize::from), machine::cpu());
    let commit = match bench.commit {
        CommitMode::TwoPhase => "two-phase",
        CommitMode::OnePhase => "one-phase",
    };
    let memory = machine::memory_bytes();
    if format == Format::Json {
        let measured: Vec<_> = figures.iter().map(Figure::json).collect();
        print_json(&json!({
            "version": env!("CARGO_PKG_VERSION"), "optimised": !cfg!(debug_assertions), "cores": cores, "cpu": cpu,
            "memory_bytes": memory, "commit": commit, "slots": bench.slots, "data": kept, "measured": measured,
        }));
        return;
    }
    let built = if cfg!(debug_assertions) { ", not optimised" } else { "" };
    print(&format!(
        "runner {}{built}: {cores} cores, {cpu}, {} of memory; {commit} commits, {} slots\n\n",
        env!("CARGO_PKG_VERSION"),
        super::output::bytes(memory),
        bench.slots,
    ));
    let mut table = Table::new(&["n", "a second", "median", "p99", "what"]);
    figures.iter().for_each(|figure| table.row(figure.cells()));
    table.print("nothing was measured");
}

/// A number of jobs, with `_` between digits where somebody likes.
fn number(text: &str) -> Result<u64, String> {
    let wrong = || format!("must be a whole number from 1 to {JOBS_MAX}, such as 1_000_000");
    let n: u64 = text.replace('_', "").parse().map_err(|_| wrong())?;
    if (1..=JOBS_MAX).contains(&n) { Ok(n) } else { Err(wrong()) }
}

/// How long a measurement goes on.
fn long_enough(text: &str) -> Result<Duration, String> {
    let duration = super::duration(text)?;
    let too_short = || "must be at least 100ms, or nothing is measured; such as 10s".to_owned();
    if duration >= DURATION_MIN { Ok(duration) } else { Err(too_short()) }
}
