//! `runner run`: a list of jobs, from the first to the last, in this process.
//!
//! The list is read and checked whole, and every kind must have a plugin, before anything is stored. Then it is
//! enqueued under the digest of what it says, so that the same command goes on where it was killed, and a node runs
//! until each of its jobs has ended.

mod again;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use runner_store::Handle;
use runner_store::command::limits::LIST_JOBS_MAX;
use runner_store::command::{Answer, Enqueue, IdempotencyKey, Query, Reply};
use runner_store::dir::{Create, StoreDir};
use runner_store::job::{JobId, JobRef, StateName, TenantId};
use tokio::sync::oneshot;

use self::report::Report;
use super::config::Config;
use super::exit::{Code, Failure};
use super::list::{Complaint, Line, List};
use super::open::{self, CommitMode, Loaded, Open};
use super::output::{Format, ProgressLine, note};
use super::signals::Signals;
use crate::api::plugins::Plugins;
use crate::api::read::nearest;
use crate::merging::{self, EnqueueError};
use crate::node::{Node, NodeSettings};
use crate::operator::Operator;
use crate::wasm::folder::TENANT_DEFAULT;

/// Bytes of args that are enqueued in one transaction: what a commit takes without stalling.
const PART_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often the progress line is drawn anew.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Run a list of jobs to the end
///
/// Each line of the list is a JSON object: {"kind": "…", "args": …}, with every field of `POST /v1/jobs`, and two
/// more: "expect" (completed, discarded or cancelled; completed if absent) and "args_file", the path of a file below the
/// list's folder that is the args, or whose content goes into an args object as "file_base64" and "file_name".
///
/// The list is remembered by its content for 24 hours: the same command goes on after a kill, also one with --again, and
/// if all jobs have ended it shows how. Exit code 0: each job ended as expected; 1: not so, or interrupted.
///
/// Without --config, `runner.toml` in the store's folder is the configuration, or else the one in the list's folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: runner run jobs.ndjson --plugins plugins/dist")]
pub(super) struct Args {
    /// The list, one JSON object a line
    #[arg(value_name = "JOBS.ndjson")]
    jobs: PathBuf,
    /// The folder of plugins
    #[arg(long, value_name = "DIR")]
    plugins: PathBuf,
    /// The store's folder; made if it does not exist
    #[arg(long, value_name = "DIR", default_value = "runner-data", env = "RUNNER_DATA")]
    data: PathBuf,
    #[command(flatten)]
    config: Config,
    /// Where jobs are kept
    #[arg(long, value_name = "WHERE", default_value = "data")]
    store: StoreKind,
    /// Run the list anew, although it was run before
    #[arg(long)]
    again: bool,
    /// Runs at once; 8 for each core if absent
    #[arg(long, value_parser = crate::cli::spelt::whole(1..=256_u32))]
    slots: Option<u32>,
    /// How long runs may go on after a signal
    #[arg(long, value_parser = super::duration, default_value = "30s")]
    grace: Duration,
    /// What a commit survives
    #[arg(long, value_enum, default_value_t)]
    commit: CommitMode,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Where jobs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StoreKind {
    /// In the folder of --data
    Data,
    /// In memory: nothing is left
    Memory,
}

/// A job of the list that was accepted.
#[derive(Debug, Clone, Copy)]
struct Accepted {
    id: JobId,
    expect: StateName,
}

/// How the wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Every job has ended.
    All,
    /// A signal came first.
    Interrupted,
}

/// Runs the verb.
pub(super) fn main(args: &Args) -> Result<ExitCode, Failure> {
    let list = List::read(&args.jobs)?;
    refuse_holds(&list)?;
    let dir = StoreDir::new(&args.data);
    // A store that is yet to be made has no cache; the next command on it will.
    let cache = if args.store == StoreKind::Data && dir.exists() { open::cache(&dir) } else { None };
    let loaded = open::plugins(&args.plugins, args.slots, operator(args)?, cache)?;
    refuse_unknown_kinds(&list, &loaded, args)?;
    let store = match args.store {
        StoreKind::Memory => open::memory()?,
        StoreKind::Data => open::store(&args.data, Create::NewFolder, args.commit)?,
    };
    let runtime = super::runtime()?;
    let Open { handle, writer, dir, live } = store;
    let result = runtime.block_on(async {
        let mut signals = Signals::take()?;
        refuse_paused(&handle)?;
        open::watch_room(&handle, live.as_ref());
        let jobs = enqueue(&handle, &list, &loaded, args).await?;
        if pending(&handle, &jobs)?.is_empty() {
            note("all jobs of this list have ended already; --again runs it anew");
            return Ok((jobs, Ended::All));
        }
        let operator = Arc::clone(&loaded.operator);
        let settings = NodeSettings { grace: args.grace, operator, ..NodeSettings::default() };
        let settings = NodeSettings { slots: args.slots.unwrap_or(settings.slots), ..settings };
        let (host, plugins) = (Arc::clone(&loaded.host), Arc::clone(&loaded.catalog));
        let node = Node::start(handle.clone(), dir.as_ref(), host, plugins, settings).await?;
        let ended = wait(&handle, &jobs, &node, &mut signals).await?;
        node.drain();
        let watch = node.watch();
        super::stop(node, watch, &mut signals).await;
        Ok((jobs, ended))
    });
    let outcome = result.and_then(|(jobs, ended)| report(&handle, &jobs, ended, args.output));
    let failure = handle.failure();
    drop(handle);
    drop(runtime);
    drop(loaded);
    writer.join();
    crate::cli::failed_store(outcome, failure, dir.as_ref())
}

/// A store's own configuration comes first, and a list may bring the one that it was written for: files of a list lie beside
/// it, too.
fn operator(args: &Args) -> Result<Arc<Operator>, Failure> {
    let beside = args.jobs.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match args.store {
        StoreKind::Data => args.config.load(&[&args.data, beside]),
        StoreKind::Memory => args.config.load(&[beside]),
    }
}

fn refuse_holds(list: &List) -> Result<(), Failure> {
    let held = |line: &Line| {
        let why = "hold: a job on hold never ends by itself; leave `hold` out".to_owned();
        line.hold_column.map(|column| Complaint { line: line.number, column, why })
    };
    let complaints: Vec<Complaint> = list.lines().iter().filter_map(held).collect();
    if complaints.is_empty() { Ok(()) } else { Err(list.refused(&complaints)) }
}

fn refuse_unknown_kinds(list: &List, loaded: &Loaded, args: &Args) -> Result<(), Failure> {
    let serving = loaded.catalog.now();
    let unknown = |line: &Line| {
        if serving.registry.get(TENANT_DEFAULT, &line.kind).is_some() {
            return None;
        }
        let known = || serving.registry.kinds(TENANT_DEFAULT).map(|(kind, _)| kind);
        let hint = match nearest(&line.kind, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known().next().is_none() => "it has no plugin at all".to_owned(),
            None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
        };
        let why = format!("no plugin in `{}` provides kind `{}`; {hint}", args.plugins.display(), line.kind);
        Some(Complaint { line: line.number, column: line.kind_column, why })
    };
    let complaints: Vec<Complaint> = list.lines().iter().filter_map(unknown).collect();
    if complaints.is_empty() { Ok(()) } else { Err(list.refused(&complaints)) }
}

/// A store that was restored runs nothing until somebody has looked: a list would wait for ever.
fn refuse_paused(handle: &Handle) -> Result<(), Failure> {
    match handle.snapshot()?.read(&Query::Stored)? {
        Answer::Stored(stored) if stored.paused => {
            let message = "nothing runs on this store since it was restored, and nothing was enqueued; when what it has \
                           should run: `runner queue resume --all`";
            Err(Failure::new(Code::Conflict, message))
        }
        _ => Ok(()),
    }
}

/// Enqueues the list in parts, each under a key of its own: what was accepted before is not accepted again.
async fn enqueue(handle: &Handle, list: &List, loaded: &Loaded, args: &Args) -> Result<Vec<Accepted>, Failure> {
    let digest = list.digest();
    let parts = list.parts(LIST_JOBS_MAX, PART_BYTES_MAX);
    let round = again::round(handle, &digest, parts.len(), args.again)?;
    let defaults =
        Plugins::of_node(Arc::clone(&loaded.catalog)).run_by(Arc::clone(&loaded.host), Arc::clone(&loaded.operator));
    let mut accepted = Vec::with_capacity(list.lines().len());
    let mut sent = Vec::with_capacity(list.lines().len());
    for (n, part) in parts.into_iter().enumerate() {
        let lines = &list.lines()[part];
        let spec = |line: &Line| {
            let spec = list.job(line, &sent)?.into_spec(&defaults.defaults(TENANT_DEFAULT, &line.kind));
            spec.map_err(|invalid| Failure::usage(format!("line {}: {invalid}", line.number)))
        };
        let jobs = lines.iter().map(spec).collect::<Result<Vec<_>, _>>()?;
        // The key says all that the request says, so a different request cannot have it.
        let key = IdempotencyKey { key: again::key(&digest, round, n), request: digest };
        let call = Enqueue { key: Some(key), ..Enqueue::new(TenantId::DEFAULT, jobs) };
        let enqueued = match merging::enqueue(handle, defaults.merger(), call).await {
            Ok(reply) => reply,
            Err(EnqueueError::Call(error)) => return Err(error.into()),
            Err(EnqueueError::Merge(why)) => {
                let message = format!("lines {} and on were refused: {why}", lines[0].number);
                return Err(Failure::new(Code::Failed, message));
            }
        };
        match enqueued {
            Reply::Enqueued(jobs) => {
                sent.extend(jobs.iter().map(|job| job.id));
                let with_line = jobs.into_iter().zip(lines);
                accepted.extend(with_line.map(|(job, line)| Accepted { id: job.id, expect: line.expect }));
            }
            Reply::Rejected(rejection) => {
                let message = format!("lines {} and on were refused: {rejection}", lines[0].number);
                return Err(Failure::new(Code::Failed, message));
            }
            other => unreachable!("the answer to an enqueue is not {other:?}"),
        }
    }
    Ok(accepted)
}

/// Receivers of the ends of those jobs that have not ended. Registered first, then looked.
fn pending(handle: &Handle, jobs: &[Accepted]) -> Result<Vec<oneshot::Receiver<StateName>>, Failure> {
    let at = |job: &Accepted| JobRef { tenant: TenantId::DEFAULT, job: job.id };
    let told: Vec<_> = jobs.iter().map(|job| handle.board().wait_for(at(job))).collect();
    let view = handle.snapshot()?;
    let mut pending = Vec::new();
    for (job, told) in jobs.iter().zip(told) {
        // A job that was deleted since has no end to wait for.
        if let Answer::Job(Some(row)) = view.read(&Query::Job(at(job)))?
            && row.finalized_at().is_none()
        {
            pending.push(told);
        }
    }
    handle.board().forget_gone();
    Ok(pending)
}

/// Waits until every job has ended, or a signal comes.
async fn wait(handle: &Handle, jobs: &[Accepted], node: &Node, signals: &mut Signals) -> Result<Ended, Failure> {
    let mut pending = pending(handle, jobs)?;
    let progress = Progress::new(jobs.len());
    let mut ticks = tokio::time::interval(PROGRESS_EVERY);
    let mut life = node.watch();
    while let Some(last) = pending.last_mut() {
        tokio::select! {
            _ = last => drop(pending.pop()),
            _ = ticks.tick(), if progress.line.is_shown() => {
                pending.retain_mut(|told| matches!(told.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
                progress.draw(pending.len());
            }
            () = signals.next() => {
                progress.line.clear();
                return Ok(Ended::Interrupted);
            }
            failure = crate::cli::broken(handle, &mut life, "the same command goes on") => {
                progress.line.clear();
                return Err(failure);
            }
        }
    }
    progress.line.clear();
    Ok(Ended::All)
}

fn report(handle: &Handle, jobs: &[Accepted], ended: Ended, format: Format) -> Result<ExitCode, Failure> {
    let report = Report::read(handle, jobs)?;
    report.print(format);
    if ended == Ended::Interrupted && report.unfinished() > 0 {
        let message = format!("interrupted with {} jobs to go; the same command goes on", report.unfinished());
        return Err(Failure::new(Code::Failed, message));
    }
    Ok(ExitCode::from(if report.as_expected() { Code::Done as u8 } else { Code::Failed as u8 }))
}

/// A line on a terminal that says how far it is.
struct Progress {
    line: ProgressLine,
    all: usize,
}

impl Progress {
    fn new(all: usize) -> Self {
        Self { line: ProgressLine::on_stderr(), all }
    }

    fn draw(&self, pending: usize) {
        self.line.put(&format!("{} of {} jobs have ended", self.all - pending, self.all));
    }
}
