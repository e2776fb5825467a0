//! The one thread that changes the store.
//!
//! It waits for a first command, takes what has queued up meanwhile (within bounds), and runs the batch: `prefetch`,
//! `decide`, `persist`, answer. So one fsync serves many callers, and it is written once for every engine.
//!
//! What spreads without a known bound – telling those that waited how a job ended, sweeping – the writer feeds back to
//! itself, step by step, beside what callers want.
//!
//! A failed engine is sticky: whoever waits learns that the outcome is unknown, whoever comes later that nothing
//! happened, and the owner of the process is told to stop it.

mod measure;

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use self::measure::measure;
use crate::command::{Command, CountKey, Lane, Reply, RunRef, Sweep, limits};
use crate::decide::{self, Conduct, Decision};
use crate::disk::Room;
use crate::engine::{Change, Engine, Needs, Persisted, WorkingSet};
use crate::error::{CallError, StoreError};
use crate::handle::Shared;
use crate::index;
use crate::job::{EventName, Job, JobRef, Millis, Rejection, State, StateName, Time};
use crate::notice::Leased;
use crate::steps::Steps;

/// Commands that wait for the writer; a caller of a full queue waits.
pub const QUEUED_COMMANDS_MAX: usize = 8_192;
/// What one transaction takes: jobs, and bytes of args, output, checkpoints and what plugins keep. More of either makes a commit longer for everyone in it
/// than it saves.
const BATCH_WEIGHT_MAX: usize = 2_048;
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often a batch is decided, each time with more of what it lacked before: what it then lacks, the next batch finds.
const ROUNDS_MAX: u32 = 3;
/// Finished jobs that a sweep removes in a batch beside as many as the batch finished: a few milliseconds' work.
pub const SWEEP_SHARE: u32 = 128;
/// Events that a sweep trims for each job that it may remove: about what a job's life leaves.
const SWEPT_EVENTS_PER_JOB: usize = 4;
/// Steps of settling that are taken after the last caller has gone: 100,000 jobs. The others are told when the store is
/// opened again.
const SETTLED_ALONE_MAX: u32 = 100;
/// Callers who wait for the settling of a job; more are told to repeat.
const WAITING_MAX: usize = 256;

/// A command, and where its reply goes.
pub(crate) struct Envelope {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Result<Reply, CallError>>,
}

/// Serves commands until every handle is gone or the engine fails.
pub(crate) fn run(mut engine: Box<dyn Engine>, commands: &mut mpsc::Receiver<Envelope>, shared: &Arc<Shared>) {
    let mut chores = Chores::default();
    let mut left_over = None;
    let mut alone = 0;
    loop {
        let first = match left_over.take() {
            Some(first) => Some(first),
            None if chores.pending() => match commands.try_recv() {
                Ok(first) => Some(first),
                Err(mpsc::error::TryRecvError::Empty) => None,
                // Whoever waits for an end is told of it before the store is closed, if that does not take long.
                Err(mpsc::error::TryRecvError::Disconnected) if chores.spreads() && alone < SETTLED_ALONE_MAX => {
                    alone += 1;
                    None
                }
                Err(mpsc::error::TryRecvError::Disconnected) => return,
            },
            None => match commands.blocking_recv() {
                Some(first) => Some(first),
                None => return,
            },
        };
        let (batch, rest) = gather(first, commands, chores.share());
        left_over = rest;
        if let Err(error) = serve(engine.as_mut(), batch, &mut chores, shared) {
            tracing::error!(%error, "the store failed; nothing more is accepted");
            shared.fail(&error);
            return;
        }
    }
}

/// Tells whoever is still in the queue, by a dropped channel, that nothing happened. One who has a place there already may come
/// a moment later, and is waited for: where the queue is only dropped, its command stays in it, and it waits for ever.
pub(crate) fn refuse(commands: &mut mpsc::Receiver<Envelope>) {
    commands.close();
    while commands.blocking_recv().is_some() {}
}

/// What the writer does of its own accord, in steps that ride in the batches of others, and by themselves where there are
/// none.
struct Chores {
    /// Whether jobs are to be told how what they waited for has ended.
    settle: bool,
    /// Whether those who listen to what happened are to be enqueued.
    listen: bool,
    /// Whether they wait until the disk has room for new jobs, and whether it had when that was last looked at.
    listen_later: bool,
    accepts: bool,
    /// The next step of a sweep that has not come to its end.
    sweep: Option<Sweep>,
    /// Callers who wait for the settling of a job.
    waiting: Vec<Envelope>,
    steps: Steps,
}

impl Default for Chores {
    fn default() -> Self {
        // Whoever had the store before may have left something to be settled.
        Self {
            settle: true,
            listen: true,
            listen_later: false,
            accepts: true,
            sweep: None,
            waiting: Vec::new(),
            steps: Steps::default(),
        }
    }
}

impl Chores {
    fn pending(&self) -> bool {
        self.spreads() || self.sweep.is_some()
    }

    /// Whether what has happened has yet to be told to others.
    fn spreads(&self) -> bool {
        self.settle || self.listen
    }

    /// What of a batch is left to callers.
    fn share(&self) -> usize {
        if self.spreads() { BATCH_WEIGHT_MAX / 2 } else { BATCH_WEIGHT_MAX }
    }

    /// The batch's commands, with the chores around them; and how many come before the callers'.
    fn around(&mut self, callers: Vec<Command>) -> (Vec<Command>, usize) {
        let share = self.sweep_share(&callers);
        let mut commands = Vec::with_capacity(callers.len() + 3);
        commands.extend(self.settle.then_some(Command::Settle));
        commands.extend(self.listen.then_some(Command::Listen));
        let before = commands.len();
        let swept = callers.iter().any(|command| matches!(command, Command::Sweep(_)));
        commands.extend(callers);
        if let Some(sweep) = self.sweep.take_if(|_| !swept) {
            commands.push(Command::Sweep(Sweep { budget: share, ..sweep }));
        }
        (commands, before)
    }

    /// What a sweep may remove beside these commands: as many jobs as they finish, and of the log, of which it takes four
    /// times as many events, as much as they write. Else what it trims would grow for as long as they come.
    fn sweep_share(&self, callers: &[Command]) -> u32 {
        let finished = callers.iter().map(|command| match command {
            Command::Finish(_) => 1,
            Command::FinishCall(call) => call.runs.len(),
            _ => 0,
        });
        let finished: usize = finished.sum();
        let touched: usize = callers.iter().map(|command| measure(command).0).sum();
        let told = if self.settle { limits::SETTLED_JOBS_MAX as usize } else { 0 };
        let told = told + if self.listen { limits::LISTENERS_MAX as usize } else { 0 };
        let share = finished.max((touched + told).div_ceil(SWEPT_EVENTS_PER_JOB));
        SWEEP_SHARE.saturating_add(u32::try_from(share).unwrap_or(u32::MAX))
    }

    /// What the batch leaves to be done.
    fn learn(&mut self, decision: &Decision) {
        for reply in &decision.replies {
            match reply {
                Reply::Settled { more, .. } => self.settle = *more,
                Reply::Listened { more, .. } => {
                    self.listen = *more && self.accepts;
                    self.listen_later = *more && !self.accepts;
                }
                Reply::Swept { more, after, .. } => {
                    self.sweep = more.then_some(Sweep { after: *after, budget: SWEEP_SHARE });
                }
                _ => {}
            }
        }
        for change in &decision.changes {
            self.settle |= matches!(change, Change::Spread(_, Some(_)));
            self.listen |= matches!(change, Change::Hear(_));
        }
    }

    fn conduct(&mut self, now: Time, uptime: Millis, shared: &Shared) -> Conduct {
        if let Some(step) = self.steps.look(now, uptime) {
            tracing::warn!(
                by_ms = step.by,
                "clock_step: the wall clock stepped; expiry, retention and forgetting wait for an hour of agreement"
            );
        }
        if shared.clock.accept() {
            self.steps.accept();
        }
        let stepped = self.steps.stepped();
        shared.clock.say(stepped.map(|step| step.by));
        let room = shared.room();
        self.accepts = room == Room::Plenty;
        self.listen |= self.accepts && std::mem::take(&mut self.listen_later);
        Conduct { accept: self.accepts, claim: room != Room::Critical, destroy: stepped.is_none() }
    }
}

/// The first command and those that queued up behind it, up to the bounds; and the one that did not fit.
fn gather(
    first: Option<Envelope>,
    commands: &mut mpsc::Receiver<Envelope>,
    weight_max: usize,
) -> (Vec<Envelope>, Option<Envelope>) {
    let Some(first) = first else { return (Vec::new(), None) };
    let (mut weight, mut bytes) = measure(&first.command);
    let mut batch = vec![first];
    while weight < weight_max && bytes < BATCH_BYTES_MAX {
        let Ok(next) = commands.try_recv() else { break };
        let (w, b) = measure(&next.command);
        if weight + w > weight_max || bytes + b > BATCH_BYTES_MAX {
            return (batch, Some(next));
        }
        (weight, bytes) = (weight + w, bytes + b);
        batch.push(next);
    }
    (batch, None)
}

fn serve(
    engine: &mut dyn Engine,
    mut batch: Vec<Envelope>,
    chores: &mut Chores,
    shared: &Shared,
) -> Result<(), StoreError> {
    batch.append(&mut chores.waiting);
    let (callers, replies_to): (Vec<Command>, Vec<_>) =
        batch.into_iter().map(|envelope| (envelope.command, envelope.reply)).unzip();
    #[cfg(planted = "ack_before_commit")]
    let (callers, replies_to) = {
        let set = engine.prefetch(&decide::needs(&callers))?;
        let replies = decide::decide(&callers, &set, Conduct::default()).replies;
        replies_to.into_iter().zip(replies).for_each(|(to, reply)| _ = to.send(Ok(reply)));
        (callers, Vec::<tokio::sync::oneshot::Sender<_>>::new())
    };
    let asked = callers.len();
    let (commands, before) = chores.around(callers);
    // Caught here, where it is known who was in the batch: theirs may have happened, what is still queued has not.
    let result = catch_unwind(AssertUnwindSafe(|| write(engine, (&commands, asked), chores, shared)));
    match result.unwrap_or_else(|_| Err(StoreError::Contradiction("the writer panicked; see the log".to_owned()))) {
        Ok(replies) => {
            let callers = commands.into_iter().zip(replies).skip(before);
            for (caller, (command, reply)) in replies_to.into_iter().zip(callers) {
                if reply == Reply::Rejected(Rejection::Settling) && chores.waiting.len() < WAITING_MAX {
                    chores.waiting.push(Envelope { command, reply: caller });
                    chores.settle = true;
                    continue;
                }
                // A caller that went away needs no reply; what it asked for is done.
                _ = caller.send(Ok(reply));
            }
            Ok(())
        }
        Err(error) => {
            for caller in replies_to {
                _ = caller.send(Err(CallError::Unknown(error.to_string())));
            }
            Err(error)
        }
    }
}

/// `asked` of the commands are callers'; the others are chores.
fn write(
    engine: &mut dyn Engine,
    (commands, asked): (&[Command], usize),
    chores: &mut Chores,
    shared: &Shared,
) -> Result<Vec<Reply>, StoreError> {
    let mut conduct = |now, uptime| chores.conduct(now, uptime, shared);
    let began = Instant::now();
    let decision = decided(engine, commands, &mut conduct)?;
    // Names first: whoever sees a row, or is told of a new lane, looks up what it is called.
    shared.add_names(&decision.changes);
    // What comes is told while it is being written: who claims it has its place in the next batch, not in the one behind it. If
    // it cannot be written, nothing can be claimed any more.
    let told = coming(&decision.changes);
    shared.board.ahead(&told);
    let mut persisted = persist(engine, &decision.changes)?;
    take_off(&mut persisted.counts, told);
    shared.figures().add_batch(asked, &decision.changes, began.elapsed());
    chores.learn(&decision);
    if decision.too_deep > 0 {
        shared.too_deep.fetch_add(decision.too_deep, std::sync::atomic::Ordering::Relaxed);
        tracing::warn!(
            jobs = decision.too_deep,
            "jobs that listen to events were not enqueued: too many in a row would have followed from each other"
        );
    }
    let no_room = decision.replies.iter().map(|reply| match reply {
        Reply::Listened { refused, .. } => u64::from(*refused),
        _ => 0,
    });
    let no_room: u64 = no_room.sum();
    if no_room > 0 {
        shared.no_room.fetch_add(no_room, std::sync::atomic::Ordering::Relaxed);
        tracing::warn!(
            jobs = no_room,
            "jobs that listen to events were not enqueued: their tenant or queue has as many as it may, or takes none"
        );
    }
    if !decision.changes.is_empty() {
        shared.commits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    shared.board.schedules(&decision.changes);
    let mut ended = to_be_ended(&decision.changes);
    ended.extend(commands.iter().zip(&decision.replies).filter_map(cancelled_again));
    shared.board.set(decision.changes.iter().filter_map(|change| match change {
        Change::Settings(settings) => Some(settings.clone()),
        _ => None,
    }));
    // Before the counts, so that whoever takes both knows what is in hand before it knows what is left.
    shared.board.leases(leases_of(&decision.changes));
    shared.board.post(persisted, ended);
    // By events, not by rows: what ended may run again, or be gone, by the end of the batch.
    shared.board.ended(decision.changes.iter().filter_map(|change| match change {
        Change::Event(entry) if entry.state.is_none_or(StateName::is_final) => Some((entry.job, entry.state)),
        _ => None,
    }));
    Ok(decision.replies)
}

/// Runs one batch on `engine`: what the writer does, for whoever needs it on a thread of their own.
///
/// # Errors
/// As the engine's. It is unknown whether the batch will be there after a restart.
pub fn step(engine: &mut dyn Engine, commands: &[Command]) -> Result<(Decision, Persisted), StoreError> {
    step_in(engine, commands, &mut |_, _| Conduct::default())
}

/// The same, where the world may not let everything be done: `conduct` is asked at the batch's time.
///
/// # Errors
/// As [`step`].
pub fn step_in(
    engine: &mut dyn Engine,
    commands: &[Command],
    conduct: &mut dyn FnMut(Time, Millis) -> Conduct,
) -> Result<(Decision, Persisted), StoreError> {
    let decision = decided(engine, commands, conduct)?;
    let persisted = persist(engine, &decision.changes)?;
    Ok((decision, persisted))
}

/// What follows from a batch.
fn decided(
    engine: &mut dyn Engine,
    commands: &[Command],
    conduct: &mut dyn FnMut(Time, Millis) -> Conduct,
) -> Result<Decision, StoreError> {
    let mut needs = decide::needs(commands);
    let mut set = prefetch(engine, &needs)?;
    let conduct = conduct(set.now, set.uptime);
    let mut decision = decide::decide(commands, &set, conduct);
    for _ in 1..ROUNDS_MAX {
        if !decide::read_on(&mut needs, &decision) {
            break;
        }
        set = prefetch(engine, &needs)?;
        decision = decide::decide(commands, &set, conduct);
    }
    Ok(decision)
}

fn persist(engine: &mut dyn Engine, changes: &[Change]) -> Result<Persisted, StoreError> {
    #[cfg(planted = "listener_twice")]
    if changes.iter().any(|change| matches!(change, Change::Heard(..))) {
        let (told, others) = changes.iter().cloned().partition(|change| matches!(change, Change::Heard(..)));
        let (told, others): (Vec<Change>, Vec<Change>) = (told, others);
        let persisted = engine.persist(&others)?;
        engine.prefetch(&Needs::default())?;
        engine.persist(&told)?;
        return Ok(persisted);
    }
    engine.persist(changes)
}

/// Reads what is needed, and the rows that only what was read tells of.
fn prefetch(engine: &mut dyn Engine, needs: &Needs) -> Result<WorkingSet, StoreError> {
    let mut set = engine.prefetch(needs)?;
    if let Some(sweep) = needs.sweep {
        let jobs = decide::rows_to_sweep(sweep, &set);
        if !jobs.is_empty() {
            set.add_rows(engine.prefetch(&Needs { jobs, ..Needs::default() })?);
        }
    }
    if !set.heard.is_empty() {
        set.add_names(engine.prefetch(&decide::needs_of_listeners(&set))?);
    }
    Ok(set)
}

/// Jobs that become available, by lanes without keys: what is first in those of keys is known when they are written.
fn coming(changes: &[Change]) -> BTreeMap<CountKey, i64> {
    let mut sums = BTreeMap::new();
    for change in changes {
        let Change::Job { before, after: Some(after), .. } = change else { continue };
        let is_new = before.as_deref().is_none_or(|before| before.state.name() != StateName::Available);
        let key = index::count_by_lane(after);
        if is_new && key.state == StateName::Available && key.lane.key.is_none() {
            *sums.entry(key).or_default() += 1;
        }
    }
    sums
}

fn take_off(counts: &mut Vec<(CountKey, i64)>, mut told: BTreeMap<CountKey, i64>) {
    counts.iter_mut().for_each(|(key, n)| *n -= told.remove(key).unwrap_or_default());
    counts.extend(told.into_iter().map(|(key, n)| (key, -n)));
    counts.retain(|(_, n)| *n != 0);
}

/// Runs that external workers hold since this batch, or no more.
fn leases_of(changes: &[Change]) -> Vec<(RunRef, Leased)> {
    let mut leases = Vec::new();
    for change in changes {
        let Change::Job { before, after, .. } = change else { continue };
        let (was, is) = (before.as_deref().and_then(leased), after.as_deref().and_then(leased));
        if let Some((run, lane, _)) = was
            && is.is_none_or(|(other, ..)| other != run)
        {
            let last = after.as_deref().and_then(|job| job.last.as_ref()).filter(|last| last.run == run.run);
            leases.push((run, Leased::Ended { lane, outcome: last.map(|last| last.outcome) }));
        }
        if let Some((run, lane, lasts)) = is
            && was.is_none_or(|(other, ..)| other != run)
        {
            leases.push((run, Leased::Held { lane, lasts }));
        }
    }
    leases
}

/// The run of a job, where it was taken from and how long its lease lasts, if an external worker holds it.
pub(crate) fn leased(job: &Job) -> Option<(RunRef, Lane, Millis)> {
    let lasts = job.lease()?.lasts()?;
    Some((RunRef { at: job.at(), run: job.run }, index::lane(job), lasts))
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
