//! The one thread that changes the store.
//!
//! It waits for a first command, takes what has queued up meanwhile (within bounds), and runs the batch: `prefetch`,
//! `decide`, `persist`, answer. So one fsync serves many callers, and it is written once for every engine.
//!
//! A failed engine is sticky: whoever waits learns that the outcome is unknown, whoever comes later that nothing
//! happened, and the owner of the process is told to stop it.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::command::{Command, Reply, RunRef};
use crate::decide::{self, Decision};
use crate::engine::{Change, Engine, Persisted};
use crate::error::{CallError, StoreError};
use crate::handle::Shared;
use crate::job::{EventName, JobRef, State};

/// Commands that wait for the writer; a caller of a full queue waits.
pub const QUEUED_COMMANDS_MAX: usize = 8_192;
/// What one transaction takes: jobs, and bytes of args, output and checkpoints. More of either makes a commit longer for everyone in it
/// than it saves.
const BATCH_WEIGHT_MAX: usize = 2_048;
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often a batch is decided, each time with more of the lanes that ran short: what it then lacks, the next batch finds.
const ROUNDS_MAX: u32 = 3;

/// A command, and where its reply goes.
pub(crate) struct Envelope {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<Reply, CallError>>,
}

/// Serves commands until every handle is gone or the engine fails.
pub(crate) fn run(mut engine: Box<dyn Engine>, mut commands: mpsc::Receiver<Envelope>, shared: &Arc<Shared>) {
    let mut left_over = None;
    while let Some(first) = left_over.take().or_else(|| commands.blocking_recv()) {
        let (batch, rest) = gather(first, &mut commands);
        left_over = rest;
        if let Err(error) = serve(engine.as_mut(), batch, shared) {
            tracing::error!(%error, "the store failed; nothing more is accepted");
            shared.fail(&error);
            commands.close();
            // Whoever is still in the queue is told by its dropped channel that nothing happened.
            return;
        }
    }
}

/// The first command and those that queued up behind it, up to the bounds; and the one that did not fit.
fn gather(first: Envelope, commands: &mut mpsc::Receiver<Envelope>) -> (Vec<Envelope>, Option<Envelope>) {
    let (mut weight, mut bytes) = measure(&first.command);
    let mut batch = vec![first];
    while weight < BATCH_WEIGHT_MAX && bytes < BATCH_BYTES_MAX {
        let Ok(next) = commands.try_recv() else { break };
        let (w, b) = measure(&next.command);
        if weight + w > BATCH_WEIGHT_MAX || bytes + b > BATCH_BYTES_MAX {
            return (batch, Some(next));
        }
        (weight, bytes) = (weight + w, bytes + b);
        batch.push(next);
    }
    (batch, None)
}

fn measure(command: &Command) -> (usize, usize) {
    match command {
        Command::Enqueue(call) => (call.jobs.len(), call.jobs.iter().map(|spec| spec.args.len()).sum()),
        Command::Finish(call) => {
            let output = match &call.outcome {
                crate::job::Outcome::Completed { output } => output.len(),
                _ => 0,
            };
            let staged: usize = call.staged.iter().map(|staged| staged.spec.args.len()).sum();
            let checkpoint = call.checkpoint.as_ref().map_or(0, Vec::len);
            (1 + call.staged.len(), output + staged + checkpoint)
        }
        Command::Claim(call) => (call.max as usize / 4, 0),
        _ => (1, 0),
    }
}

fn serve(engine: &mut dyn Engine, batch: Vec<Envelope>, shared: &Shared) -> Result<(), StoreError> {
    let (commands, callers): (Vec<Command>, Vec<_>) =
        batch.into_iter().map(|envelope| (envelope.command, envelope.reply)).unzip();
    // Caught here, where it is known who was in the batch: theirs may have happened, what is still queued has not.
    let result = catch_unwind(AssertUnwindSafe(|| write(engine, &commands, shared)));
    match result.unwrap_or_else(|_| Err(StoreError::Contradiction("the writer panicked; see the log".to_owned()))) {
        Ok(replies) => {
            for (caller, reply) in callers.into_iter().zip(replies) {
                // A caller that went away needs no reply; what it asked for is done.
                _ = caller.send(Ok(reply));
            }
            Ok(())
        }
        Err(error) => {
            for caller in callers {
                _ = caller.send(Err(CallError::Unknown(error.to_string())));
            }
            Err(error)
        }
    }
}

fn write(engine: &mut dyn Engine, commands: &[Command], shared: &Shared) -> Result<Vec<Reply>, StoreError> {
    let (decision, persisted) = step(engine, commands)?;
    // Names first: whoever is told of a new lane looks up what it is called.
    shared.add_names(&decision.changes);
    let mut ended = to_be_ended(&decision.changes);
    ended.extend(commands.iter().zip(&decision.replies).filter_map(cancelled_again));
    shared.board.post(&persisted.counts, ended, persisted.next_due);
    shared.board.ended(decision.changes.iter().filter_map(|change| match change {
        Change::Job { after: Some(job), .. } if job.state.name().is_final() => Some((job.at(), Some(job.state.name()))),
        Change::Job { before: Some(job), after: None, .. } => Some((job.at(), None)),
        _ => None,
    }));
    Ok(decision.replies)
}

/// Runs one batch on `engine`: what the writer does, for whoever needs it on a thread of their own.
///
/// # Errors
/// As the engine's. It is unknown whether the batch will be there after a restart.
pub fn step(engine: &mut dyn Engine, commands: &[Command]) -> Result<(Decision, Persisted), StoreError> {
    let mut needs = decide::needs(commands);
    let mut decision = decide::decide(commands, &engine.prefetch(&needs)?);
    for _ in 1..ROUNDS_MAX {
        if decision.short.is_empty() {
            break;
        }
        decide::read_on(&mut needs, &decision.short);
        decision = decide::decide(commands, &engine.prefetch(&needs)?);
    }
    let persisted = engine.persist(&decision.changes)?;
    Ok((decision, persisted))
}

/// Runs that a node should end: their job was flagged as cancelled, or is gone.
fn to_be_ended(changes: &[Change]) -> Vec<RunRef> {
    let ended = |change: &Change| {
        let Change::Job { before, after, .. } = change else { return None };
        match (before.as_deref(), after.as_deref()) {
            (_, Some(job)) if job.lease().is_some_and(|lease| lease.cancel.is_some()) => {
                Some(RunRef { at: job.at(), run: job.run })
            }
            (Some(job), None) if matches!(job.state, State::Running(_)) => Some(RunRef { at: job.at(), run: job.run }),
            _ => None,
        }
    };
    changes.iter().filter_map(ended).chain(begun_and_deleted(changes)).collect()
}

/// The run of a job whose cancel was requested before: nothing changes, and yet it is to be ended, now at once.
fn cancelled_again((command, reply): (&Command, &Reply)) -> Option<RunRef> {
    match (command, reply) {
        (Command::Cancel { .. }, Reply::Job { job, changed: false }) if job.lease().is_some() => {
            Some(RunRef { at: job.at(), run: job.run })
        }
        _ => None,
    }
}

/// Runs that began in the batch that deleted their job: of them there are only events.
fn begun_and_deleted(changes: &[Change]) -> impl Iterator<Item = RunRef> {
    let of = |change: &Change, name: EventName| match change {
        Change::Event(entry) if entry.event == name => Some(RunRef { at: entry.job, run: entry.run }),
        _ => None,
    };
    let deleted: HashSet<JobRef> = changes.iter().filter_map(|c| of(c, EventName::Deleted)).map(|run| run.at).collect();
    changes.iter().filter_map(move |c| of(c, EventName::Started).filter(|run| deleted.contains(&run.at)))
}
