//! The scheduler's shell: one task that owns the pure [`core`], tells it what happens and does what it says.
//!
//! It is woken by the store's notices, by runs that end, and by its own timer; it never polls rows. It has a thread of its
//! own ([`thread`]), and what it waits for of the store waits there with it: one wake-up serves all that came meanwhile.
//! Runs are on the guests' threads, and come back as one [`Message`] each.

mod backing;
mod claiming;
pub mod core;
mod holds;
mod ids;
mod lanes;
pub(crate) mod leases;
pub mod live;
mod parts;
pub mod rest;
mod run;
pub mod starter;
pub mod tally;
pub(crate) mod thread;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use runner_store::command::{Answer, Command, CountKey, Lane, Query, Reply, RunRef, Sweep};
use runner_store::error::CallError;
use runner_store::index;
use runner_store::job::{Job, JobRef, Millis, Rejection, StateName, TenantId, Time};
use runner_store::writer::SWEEP_SHARE;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::core::{Action, Claimed, Core, Event, MayStart, Moment, Serves};
use self::holds::Holds;
use self::ids::Ids;
use self::leases::Workers;
pub(crate) use self::parts::Parts;
pub(crate) use self::run::settings;
use self::run::{Ended, Member, Runs};
use self::starter::{NotStarted, StartOne, Wanted};
use self::tally::Tally;
use crate::node::NodeState;
use crate::wasm::CancelSignal;

/// Messages that wait for the scheduler; a run that has ended waits with its slot while the queue is full.
const MESSAGES_MAX: usize = 1_024;
/// The wall clock may step: a timer for a far time is looked at again after this.
const NAP_MAX: Duration = Duration::from_secs(30);

/// Runs that are so quick that calling the scheduler costs as much.
const QUICK: Duration = Duration::from_micros(500);
/// How long the scheduler looks away while they run, at least and at most.
const LULL_MIN: Duration = Duration::from_micros(20);
const LULL_MAX: Duration = Duration::from_micros(200);

/// How often the store is asked to remove what has been kept long enough, also where nothing else happens.
const SWEEP_EVERY: Millis = Millis::secs(10);
/// Jobs that were started by hand and wait for a slot, at most.
const BY_HAND_MAX: usize = 64;

/// What the node wants of its scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Go on.
    Run,
    /// Stop: start nothing more, let what runs end within this grace, then interrupt it.
    Drain(Duration),
}

/// What the scheduler's tasks report.
enum Message {
    /// The open claim is answered, with the size of their args where it matters; and what it took for external workers.
    Claimed(Vec<(Arc<Job>, usize)>, Vec<(u64, Vec<Arc<Job>>)>),
    /// The one beside it is answered.
    ClaimedBeside(Vec<Arc<Job>>),
    /// The claim of a job to be started by hand is answered; none: it was refused.
    StartedByHand { suspect: bool, job: Option<Arc<Job>> },
    /// A run has left its slot; its outcome is to be recorded.
    Ended {
        run: RunRef,
        /// Those that shared its call.
        others: Vec<RunRef>,
        ended: Box<Ended>,
    },
    /// The question for what is due is answered.
    Due(u32),
}

struct Shell {
    parts: Arc<Parts>,
    core: Core,
    runs: Runs,
    /// Claimed jobs that have not started.
    ready: HashMap<RunRef, Arc<Job>>,
    /// Ends runs that have.
    signals: HashMap<RunRef, CancelSignal>,
    /// Lanes that have had jobs, and which plugin serves them; and their tenants: what the core knows.
    lanes: HashMap<Lane, Option<Serves>>,
    tenants: HashSet<TenantId>,
    holds: Holds,
    workers: Workers,
    next_sweep: Time,
    /// Whether the node is to end, and not only to rest.
    stopping: bool,
    tally: Tally,
    /// Quick runs that have ended since the scheduler last looked up, and the time that they took together.
    quick: (u32, Duration),
    messages: mpsc::Sender<Message>,
    tasks: JoinSet<()>,
}

/// Schedules until the node drains and nothing is left in hand.
pub(crate) async fn run(parts: Parts, mut wish: watch::Receiver<Wish>, mut wishes: mpsc::Receiver<Wanted>) {
    let parts = Arc::new(parts);
    let (messages, mut inbox) = mpsc::channel(MESSAGES_MAX);
    let ids = Ids::new(parts.store.clone());
    let mut shell = Shell {
        core: Core::new(parts.slots, parts.memory_bytes).overcommit(parts.operator.overcommit_permille),
        runs: Runs::new(Arc::clone(&parts), ids),
        parts: Arc::clone(&parts),
        ready: HashMap::new(),
        signals: HashMap::new(),
        lanes: HashMap::new(),
        tenants: HashSet::new(),
        holds: Holds::default(),
        workers: Workers::default(),
        next_sweep: Time(0),
        stopping: false,
        tally: Tally::default(),
        quick: (0, Duration::ZERO),
        messages,
        tasks: JoinSet::new(),
    };
    let mut plugins = parts.plugins.watch();
    shell.tell_budgets();
    shell.take_notices();
    let mut come = Vec::new();
    loop {
        shell.sweep();
        let nap = shell.nap();
        tokio::select! {
            () = parts.store.board().changed() => shell.take_notices(),
            _ = inbox.recv_many(&mut come, MESSAGES_MAX) => {
                // Those of all that has come, told before it: the notices of what a claim took came before its answer.
                let mut events = shell.notices();
                come.drain(..).for_each(|message| shell.take(message, &mut events));
                shell.tell(events);
                // What is to be recorded is on its way to the store first.
                tokio::task::yield_now().await;
                shell.lull();
            }
            Some(wanted) = wishes.recv() => match wanted {
                Wanted::Start(wanted) => shell.start_by_hand(wanted),
                Wanted::Why(question) => shell.answer(question),
                Wanted::Rest(resting) => shell.rest(resting),
                Wanted::Lease(ask) => shell.lease(ask),
                Wanted::Renew(run, answer) => shell.renew(run, answer),
                // Whoever went away needs no answer.
                Wanted::Tally(answer) => _ = answer.send(shell.tally.clone()),
            },
            // The catalog is one of the parts, so it does not go away.
            Ok(()) = plugins.changed() => shell.look_at_plugins(),
            Some(_) = shell.tasks.join_next() => while shell.tasks.try_join_next().is_some() {},
            () = tokio::time::sleep(nap) => shell.tell([Event::Tick]),
            () = parts.host.memory().over() => shell.tell([Event::ShortOfMemory]),
            Ok(()) = wish.changed() => {
                if let Wish::Drain(grace) = *wish.borrow_and_update() {
                    shell.drain(grace);
                }
            }
            // Runs of a failed store cannot be recorded: their guests are ended, and the next start finds them.
            _ = parts.store.failed() => {
                shell.drain(Duration::ZERO);
                break;
            }
        }
        if shell.stopping && shell.is_empty() {
            break;
        }
    }
    shell.tasks.shutdown().await;
    // Whoever has a place in the line may come a moment later: where that is only dropped, it would wait for ever.
    wishes.close();
    while wishes.recv().await.is_some() {}
}

impl Shell {
    /// Tells the core, and does what it says.
    fn tell(&mut self, events: impl IntoIterator<Item = Event>) {
        let now = self.now();
        for action in self.core.handle_all(events, now) {
            self.act(action);
        }
    }

    fn now(&self) -> Moment {
        Moment { wall: self.parts.clock.now(), uptime: self.parts.clock.uptime() }
    }

    fn take(&mut self, message: Message, events: &mut Vec<Event>) {
        match message {
            Message::Claimed(jobs, leased) => {
                leased.into_iter().for_each(|(ask, jobs)| self.give(ask, jobs, events));
                let claimed = |(job, args_bytes)| Claimed { args_bytes, ..self.ready_run(job) };
                events.push(Event::Claimed(jobs.into_iter().map(claimed).collect()));
            }
            Message::ClaimedBeside(jobs) => {
                events.push(Event::ClaimedBeside(jobs.into_iter().map(|job| self.ready_run(job)).collect()));
            }
            Message::StartedByHand { suspect, job } => {
                let run = job.map(|job| self.ready_run(job));
                events.push(Event::StartedByHand { suspect, run });
            }
            Message::Ended { run, others, ended } => {
                if let Some(took) = ended.took().filter(|took| *took <= QUICK) {
                    self.quick = (self.quick.0 + 1, self.quick.1 + took);
                }
                std::iter::once(&run).chain(&others).for_each(|run| _ = self.signals.remove(run));
                ended.tell(&mut self.tally);
                events.extend(ended.charges().into_iter().map(|(tenant, fuel)| Event::Spent { tenant, fuel }));
                events.push(Event::Ended { run, fuel: ended.fuel(), took: ended.took().unwrap_or_default() });
                // What was interrupted may not have been enough.
                events.extend(self.parts.host.memory().is_over().then_some(Event::ShortOfMemory));
                // The slot is free before the outcome is recorded: the commit is not the guest's time.
                self.tasks.spawn(ended.record());
            }
            Message::Due(jobs) => events.push(Event::Due(jobs)),
        }
    }

    /// A claimed job, which is ours to start.
    fn ready_run(&mut self, job: Arc<Job>) -> Claimed {
        let run = RunRef { at: job.at(), run: job.run };
        let (lane, order) = (index::lane(&job), index::order(&job));
        let claimed = Claimed { run, lane, order, args_bytes: 0, alone: job.alone };
        self.ready.insert(run, job);
        claimed
    }

    fn take_notices(&mut self) {
        let events = self.notices();
        self.tell(events);
    }

    /// What the store says has happened.
    fn notices(&mut self) -> Vec<Event> {
        let mut notices = self.parts.store.board().take();
        let mut events = Vec::new();
        for settings in notices.settings.into_values() {
            self.take_settings(settings, &mut events);
        }
        if !notices.leases.is_empty() || self.workers.is_new() {
            self.take_leases(notices.leases, &mut events);
        }
        for (of, difference) in notices.begun {
            events.push(Event::Begun { of, difference });
        }
        for (lane, head) in notices.heads {
            let available = CountKey { lane, state: StateName::Available };
            let difference = notices.counts.get(&available).copied().unwrap_or_default();
            self.know(lane.of_all_keys(), &mut events);
            events.push(Event::Keyed { lane, difference, head });
        }
        // What came is told apart from what went: it came now, however many there were before.
        for (lane, came) in notices.came {
            *notices.counts.entry(CountKey { lane, state: StateName::Available }).or_default() -= came;
            self.know(lane, &mut events);
            events.push(Event::Available { lane, difference: came });
        }
        for (CountKey { lane, state }, difference) in notices.counts {
            // Lanes of keys were told with what is first in them.
            if difference == 0 || state != StateName::Available || !lane.key.is_none() {
                continue;
            }
            self.know(lane, &mut events);
            events.push(Event::Available { lane, difference });
        }
        events.extend(notices.cancelled.into_iter().map(Event::Cancelled));
        events.push(Event::Paused(notices.paused));
        events.push(Event::NextDue(notices.next_due));
        events
    }

    /// Plugins have come or gone: jobs of their kinds run, or wait.
    fn look_at_plugins(&mut self) {
        let lanes: Vec<(Lane, Option<Serves>)> = self.lanes.iter().map(|(lane, by)| (*lane, *by)).collect();
        let mut events = Vec::new();
        for (lane, was) in lanes {
            let by = self.serves(lane);
            if by != was {
                self.say_how_it_is_served(lane, by);
                self.lanes.insert(lane, by);
                events.push(Event::Served { lane, by });
            }
        }
        self.look_at_holds(&mut events);
        if !events.is_empty() {
            self.tell(events);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Claim(takes) => self.claim(takes),
            Action::ClaimBeside(takes) => self.claim_beside(takes),
            Action::Nothing(ask) => self.give_nothing(ask),
            Action::Expire(runs) => self.expire(runs),
            Action::Start { run, others, slot } => self.start(run, others, slot),
            Action::End(run) => {
                if let Some(signal) = self.signals.get(&run) {
                    signal.cancel();
                }
            }
            Action::Interrupt(runs) => {
                tracing::warn!(?runs, "the node is short of memory: its youngest run is interrupted");
                runs.iter().filter_map(|run| self.signals.get(run)).for_each(|signal| signal.drain(Duration::ZERO));
            }
            Action::HandBack(run) => {
                self.ready.remove(&run);
                let store = self.parts.store.clone();
                self.tasks.spawn(async move {
                    // Rejected: it was deleted, or taken from us; either way it is not ours any more.
                    _ = store.call(Command::HandBack(run)).await;
                });
            }
            Action::Due => {
                let (store, messages) = (self.parts.store.clone(), self.messages.clone());
                self.tasks.spawn(async move {
                    let jobs = match store.call(Command::Due).await {
                        Ok(Reply::Due { jobs }) => jobs,
                        _ => 0,
                    };
                    _ = messages.send(Message::Due(jobs)).await;
                });
            }
        }
    }

    /// Claims one job beside the open claim, if it may start.
    fn start_by_hand(&mut self, StartOne { job, answer }: StartOne) {
        let refused = match self.lane(job) {
            Err(why) => Err(why),
            Ok((lane, _)) => match self.core.may_start(lane, BY_HAND_MAX, self.now()) {
                MayStart::Yes => Ok(lane.suspect),
                MayStart::Busy => Err(NotStarted::Busy),
                MayStart::NoSuspect => Err(NotStarted::Suspect),
                MayStart::Held(held) => Err(NotStarted::Held(self.because(&held).detail)),
                MayStart::External => Err(NotStarted::External),
                MayStart::Draining => Err(NotStarted::Draining),
            },
        };
        let suspect = match refused {
            Ok(suspect) => suspect,
            Err(why) => {
                // Whoever went away needs no answer.
                _ = answer.send(Err(why));
                return;
            }
        };
        self.tell([Event::Wanted { suspect }]);
        let (store, messages, holder) = (self.parts.store.clone(), self.messages.clone(), self.parts.boot);
        self.tasks.spawn(async move {
            let started = match store.call(Command::Start { job, holder }).await {
                Ok(Reply::Claimed(mut jobs)) => jobs.pop().ok_or(NotStarted::Rejected(Rejection::Unknown)),
                Ok(Reply::Rejected(rejection)) => Err(rejection.into()),
                Ok(other) => unreachable!("the answer to a start is not {other:?}"),
                Err(error) => Err(error.into()),
            };
            _ = messages.send(Message::StartedByHand { suspect, job: started.as_ref().ok().cloned() }).await;
            _ = answer.send(started);
        });
    }

    /// A job and the lane in which it stands, or would. One row is read: an operator's wish is rare.
    fn lane(&mut self, job: JobRef) -> Result<(Lane, Box<Job>), NotStarted> {
        let read = self.parts.store.snapshot().and_then(|view| view.read(&Query::Job(job)));
        match read {
            Ok(Answer::Job(Some(job))) => Ok((self.known(index::lane(&job)), Box::new(job))),
            Ok(_) => Err(Rejection::Unknown.into()),
            Err(error) => Err(CallError::Unknown(error.to_string()).into()),
        }
    }

    /// Asks the store to remove what has been kept long enough, when it is time; what is left, it goes on with by itself.
    fn sweep(&mut self) {
        let now = self.parts.clock.now();
        // A clock that stepped back would put the next one off by as much.
        self.next_sweep = self.next_sweep.min(now.after(SWEEP_EVERY));
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now.after(SWEEP_EVERY);
        let store = self.parts.store.clone();
        self.tasks.spawn(async move {
            // A store that has failed stops the node; there is nothing to be told here.
            _ = store.call(Command::Sweep(Sweep { after: None, budget: SWEEP_SHARE })).await;
        });
    }

    fn start(&mut self, run: RunRef, others: Vec<RunRef>, slot: usize) {
        let mut members = Vec::with_capacity(1 + others.len());
        for run in std::iter::once(&run).chain(&others) {
            let Some(job) = self.ready.remove(run) else { continue };
            let signal = CancelSignal::new();
            self.signals.insert(*run, signal.clone());
            members.push(Member { job, signal });
        }
        assert!(!members.is_empty(), "what starts was claimed");
        self.tally.started(index::lane(&members[0].job).into(), members.len() as u64);
        let work = self.runs.work(members, slot);
        let messages = self.messages.clone();
        // Not among the tasks: it is in the core's hands until its message is here. Boxed, as its state is some kilobytes, which
        // a task would copy each time that it is made, ends and is let go.
        self.parts.host.threads().spawn(Box::pin(async move {
            let ended = Box::new(work.enter().await);
            _ = messages.send(Message::Ended { run, others, ended }).await;
        }));
    }

    /// Where quick runs end all the time, each of them would call the scheduler between two others, on caches that are cold
    /// for both. While the guests have enough to go on with, it looks away for half of the time that this will take them.
    /// What else happens meanwhile waits no longer than [`LULL_MAX`].
    fn lull(&mut self) {
        let (ended, took) = std::mem::take(&mut self.quick);
        if ended == 0 {
            return;
        }
        let each = self.parts.host.thread_count() * 2;
        let enough = took / ended * u32::try_from(self.core.running() / each).unwrap_or(0);
        if enough >= LULL_MIN {
            std::thread::sleep(enough.min(LULL_MAX));
        }
    }

    fn drain(&mut self, grace: Duration) {
        self.stopping = true;
        self.say(NodeState::Draining);
        if let Some(file) = &self.parts.slots_file
            && let Err(error) = file.drain()
        {
            tracing::warn!(%error, "runs that do not end in time will count as crashed");
        }
        self.tell([Event::Drain]);
        for signal in self.signals.values() {
            signal.drain(grace);
        }
    }

    fn is_empty(&self) -> bool {
        self.core.running() == 0 && self.core.ready() == 0 && !self.core.is_claiming() && self.tasks.is_empty()
    }

    fn nap(&self) -> Duration {
        let now = self.now();
        let sweep = self.next_sweep.since(now.wall);
        let next = self.core.next_wakeup(now).map_or(sweep, |wait| wait.min(sweep));
        Duration::from(next).min(NAP_MAX)
    }
}
