//! What callers of the store hold: send a command, read a snapshot, wait for what happens.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::{Notify, mpsc, oneshot};

use crate::command::{
    Answer, Command, CountKey, Enqueue, JobsQuery, KeyedLane, KeysInUse, Merged, Name, NameClass, NeedsMerge, Query,
    Reply, RunRef, limits,
};
use crate::disk::Room;
use crate::engine::redb::embed::Wake;
use crate::engine::{Change, Engine, KeyChanges, Persisted, Reader, Snapshot};
use crate::error::{CallError, StoreError};
use crate::figures::Figures;
use crate::job::{JobKey, KindId, Millis, PluginId, QueueId, Rejection, Seq, StateName, TenantId};
use crate::notice::{Board, Leased};
use crate::readers::Readers;
use crate::writer::{self, Envelope, QUEUED_COMMANDS_MAX};

/// Asked for with every run.
static DEFAULT_TENANT: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(TenantId::DEFAULT_NAME));

/// How often merged args may be overtaken by another change of their holder.
const MERGES_MAX: u32 = 5;

/// A store that is open. Cheap to clone; when the last clone is gone, the writer ends.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Envelope>,
    reader: Arc<dyn Reader>,
    shared: Arc<Shared>,
}

/// What the writer and its callers have in common.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) board: Board,
    names: RwLock<Names>,
    pub(crate) clock: ClockState,
    pub(crate) commits: AtomicU64,
    pub(crate) too_deep: AtomicU64,
    pub(crate) no_room: AtomicU64,
    figures: Mutex<Figures>,
    readers: Arc<Readers>,
    room: Mutex<Room>,
    failure: Mutex<Option<String>>,
    failed: Notify,
}

/// What the writer and operators tell each other about the clock.
#[derive(Debug, Default)]
pub(crate) struct ClockState {
    stepped: Mutex<Option<i64>>,
    accepted: AtomicBool,
}

impl ClockState {
    /// Whether an operator said that the clock is right, since the last time this was asked.
    pub(crate) fn accept(&self) -> bool {
        self.accepted.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn say(&self, stepped: Option<i64>) {
        *self.stepped.lock().unwrap_or_else(PoisonError::into_inner) = stepped;
    }
}

/// See [`Handle::activity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// Batches that were committed.
    pub commits: u64,
    /// Views that are open.
    pub readers: usize,
    /// For how long the oldest of them has been.
    pub oldest_reader: Millis,
}

/// The names that have numbers. Names are only ever added.
#[derive(Debug, Clone, Default)]
pub struct Names {
    numbers: HashMap<Name, u32>,
    words: HashMap<u32, (NameClass, Arc<str>)>,
}

/// The writer's thread, to be joined after the last handle is gone.
#[derive(Debug)]
pub struct Writer(std::thread::JoinHandle<()>);

impl Writer {
    /// Waits until the writer has ended and its engine is closed.
    pub fn join(self) {
        // A panic of the writer was reported by its hook, and to every caller by its dropped channel.
        _ = self.0.join();
    }
}

impl Handle {
    /// Starts a writer for `engine`.
    ///
    /// # Errors
    /// The engine's names could not be read, or no thread could be started.
    pub fn start(engine: Box<dyn Engine>) -> Result<(Self, Writer), StoreError> {
        let reader = engine.reader();
        let shared = Arc::new(Shared::default());
        shared.begin(reader.snapshot()?.as_ref())?;
        let (commands, mut queue) = mpsc::channel(QUEUED_COMMANDS_MAX);
        let for_writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                let run = std::panic::AssertUnwindSafe(|| writer::run(engine, &mut queue, &for_writer));
                if std::panic::catch_unwind(run).is_err() {
                    for_writer.fail(&StoreError::Contradiction("the writer panicked; see the log".to_owned()));
                }
                writer::refuse(&mut queue);
            })
            .map_err(|error| StoreError::Engine(format!("no thread for the writer: {error}")))?;
        Ok((Self { commands, reader, shared }, Writer(thread)))
    }

    /// Sends a command and waits for its reply; durable when it comes. Waits while the writer's queue is full.
    ///
    /// # Errors
    /// [`CallError::Unknown`]: it may or may not have happened. [`CallError::Stopped`]: nothing happened.
    pub async fn call(&self, command: Command) -> Result<Reply, CallError> {
        let (reply, replied) = oneshot::channel();
        self.commands.send(Envelope { command, reply }).await.map_err(|_| CallError::Stopped)?;
        replied.await.unwrap_or_else(|_| Err(self.no_reply()))
    }

    /// The same for threads that are not async. Must not be called on one that is.
    ///
    /// # Errors
    /// As [`Handle::call`].
    pub fn call_blocking(&self, command: Command) -> Result<Reply, CallError> {
        let (reply, replied) = oneshot::channel();
        self.commands.blocking_send(Envelope { command, reply }).map_err(|_| CallError::Stopped)?;
        replied.blocking_recv().unwrap_or_else(|_| Err(self.no_reply()))
    }

    /// What a dropped reply means: a failed writer drops what it had not begun; one that panicked may have begun.
    fn no_reply(&self) -> CallError {
        match self.failure() {
            Some(_) => CallError::Stopped,
            None => CallError::Unknown("the writer died".to_owned()),
        }
    }

    /// Tells the store of a commit that was not its own: see [`embed`](crate::engine::redb::embed).
    ///
    /// # Errors
    /// As [`Handle::call`]; the commit holds all the same.
    pub async fn wake(&self, wake: Wake) -> Result<(), CallError> {
        let heard = wake.heard;
        self.learn(wake);
        if heard {
            self.call(Command::Listen).await?;
        }
        self.call(Command::Due).await.map(drop)
    }

    /// The same for threads that are not async. Must not be called on one that is.
    ///
    /// # Errors
    /// As [`Handle::wake`].
    pub fn wake_blocking(&self, wake: Wake) -> Result<(), CallError> {
        let heard = wake.heard;
        self.learn(wake);
        if heard {
            self.call_blocking(Command::Listen)?;
        }
        self.call_blocking(Command::Due).map(drop)
    }

    /// Names and counts; when the next job is due and where the log ends, the writer's next batch says.
    fn learn(&self, wake: Wake) {
        let mut names = self.shared.names.write().unwrap_or_else(PoisonError::into_inner);
        wake.names.into_iter().for_each(|(name, number)| names.add(name, number));
        drop(names);
        self.shared.board.add(&wake.counts, wake.keys);
    }

    /// A consistent view of what is committed. Not to be held across a slow client.
    ///
    /// # Errors
    /// The engine could not begin to read.
    pub fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        Ok(self.shared.readers.count(self.reader.snapshot()?))
    }

    /// What the store has done since it was opened, and who reads it now.
    #[must_use]
    pub fn activity(&self) -> Activity {
        let (readers, oldest_reader) = self.shared.readers.now();
        Activity { commits: self.shared.commits.load(Ordering::Relaxed), readers, oldest_reader }
    }

    /// What the writer has done since the store was opened.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.shared.figures().clone()
    }

    /// Commands that wait for the writer now; at most [`QUEUED_COMMANDS_MAX`].
    #[must_use]
    pub fn queued(&self) -> usize {
        self.commands.max_capacity() - self.commands.capacity()
    }

    /// Jobs that listen to an event and were not enqueued for it since the store was opened, as too many in a row would
    /// have followed from each other.
    #[must_use]
    pub fn listeners_too_deep(&self) -> u64 {
        self.shared.too_deep.load(Ordering::Relaxed)
    }

    /// Jobs that listen to an event and were not enqueued for it since the store was opened, as their tenant or queue had
    /// no room for them.
    #[must_use]
    pub fn listeners_without_room(&self) -> u64 {
        self.shared.no_room.load(Ordering::Relaxed)
    }

    /// Notices of what happened, and waiting for jobs to end.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.shared.board
    }

    /// The word for a queue.
    #[must_use]
    pub fn queue_name(&self, id: QueueId) -> Arc<str> {
        self.shared.word(NameClass::Queue, id.0)
    }

    /// The word for a kind.
    #[must_use]
    pub fn kind_name(&self, id: KindId) -> Arc<str> {
        self.shared.word(NameClass::Kind, id.0)
    }

    /// The word for a tenant.
    #[must_use]
    pub fn tenant_name(&self, id: TenantId) -> Arc<str> {
        if id == TenantId::DEFAULT {
            return Arc::clone(&DEFAULT_TENANT);
        }
        self.shared.word(NameClass::Tenant, id.0)
    }

    /// Every tenant's name, by name.
    #[must_use]
    pub fn tenant_names(&self) -> Vec<Arc<str>> {
        let names = self.shared.names.read().unwrap_or_else(PoisonError::into_inner);
        let tenants = names.numbers.keys().filter(|name| name.class == NameClass::Tenant);
        let mut words: Vec<Arc<str>> = tenants.map(|name| Arc::from(name.name.as_str())).collect();
        words.push(self.tenant_name(TenantId::DEFAULT));
        words.sort_unstable();
        words
    }

    /// The number of a tenant that was named ([`Command::Name`]).
    #[must_use]
    pub fn tenant_id(&self, name: &str) -> Option<TenantId> {
        if name == TenantId::DEFAULT_NAME {
            return Some(TenantId::DEFAULT);
        }
        self.shared.number(TenantId::NONE, NameClass::Tenant, name).map(TenantId)
    }

    /// The number of a plugin that was named ([`Command::Name`]).
    #[must_use]
    pub fn plugin_id(&self, tenant: TenantId, name: &str) -> Option<PluginId> {
        self.shared.number(tenant, NameClass::Plugin, name).map(PluginId)
    }

    /// The number of a queue that has had a job.
    #[must_use]
    pub fn queue_id(&self, tenant: TenantId, name: &str) -> Option<QueueId> {
        self.shared.number(tenant, NameClass::Queue, name).map(QueueId)
    }

    /// The number of a kind that has had a job.
    #[must_use]
    pub fn kind_id(&self, tenant: TenantId, name: &str) -> Option<KindId> {
        self.shared.number(tenant, NameClass::Kind, name).map(KindId)
    }

    /// A tenant's kinds that have such names.
    #[must_use]
    pub fn kinds_of(&self, tenant: TenantId, fits: impl Fn(&str) -> bool) -> Vec<KindId> {
        let names = self.shared.names.read().unwrap_or_else(PoisonError::into_inner);
        let own = |name: &Name| name.tenant == tenant && name.class == NameClass::Kind && fits(&name.name);
        names.numbers.iter().filter(|(name, _)| own(name)).map(|(_, number)| KindId(*number)).collect()
    }

    /// Says what the disk has room for, from now on: whoever watches it ([`Disk`](crate::disk::Disk)) tells the writer.
    pub fn say_room(&self, room: Room) {
        let before = std::mem::replace(&mut *self.shared.room.lock().unwrap_or_else(PoisonError::into_inner), room);
        if before != room {
            tracing::warn!(?room, "the room on the store's disk has changed");
        }
        self.shared.board.disk_full(room == Room::Critical);
    }

    /// What the disk has room for, as was said last; everything, if nobody said.
    #[must_use]
    pub fn room(&self) -> Room {
        self.shared.room()
    }

    /// By how many milliseconds the wall clock has stepped, while expiry, retention and forgetting wait because of it.
    #[must_use]
    pub fn clock_step(&self) -> Option<i64> {
        *self.shared.clock.stepped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the wall clock is right: what waited goes on with the next batch.
    pub fn accept_clock(&self) {
        self.shared.clock.accepted.store(true, Ordering::Relaxed);
    }

    /// Enqueues, and where unique keys are held by jobs whose args are to be merged, lets `merge` make new args of the
    /// holder's and the call's: it gets the position in the list and the holder's args, and answers them with the key that
    /// stands in them. Jobs of one list with the same unique key are merged by the caller before.
    ///
    /// # Errors
    /// As [`Handle::call`]; the reply is [`Rejection::UniqueBusy`] if the holder changed each time.
    pub async fn enqueue_merging<F, M>(&self, mut call: Enqueue, mut merge: M) -> Result<Reply, CallError>
    where
        M: FnMut(NeedsMerge) -> F,
        F: Future<Output = Result<(Vec<u8>, Option<JobKey>), Rejection>>,
    {
        for _ in 0..=MERGES_MAX {
            let needs = match self.call(Command::Enqueue(call.clone())).await? {
                Reply::NeedsMerge(needs) => needs,
                other => return Ok(other),
            };
            // Only what is asked for again has changed: the rest still holds.
            call.merged.retain(|merged| !needs.iter().any(|need| need.position == merged.position));
            for need in needs {
                let NeedsMerge { position, holder, version, .. } = need;
                match merge(need).await {
                    Ok((args, key)) => call.merged.push(Merged { position, holder, version, args, key }),
                    Err(rejection) => return Ok(Reply::Rejected(rejection)),
                }
            }
        }
        Ok(Reply::Rejected(Rejection::UniqueBusy))
    }

    /// Why the store has failed, once it has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends when the store has failed.
    pub async fn failed(&self) -> String {
        loop {
            let told = self.shared.failed.notified();
            if let Some(why) = self.failure() {
                return why;
            }
            told.await;
        }
    }
}

impl Shared {
    pub(crate) fn room(&self) -> Room {
        *self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held for a few additions or a copy: once a batch, and where somebody asks.
    pub(crate) fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns the names, and posts the counts and the due time as the first notices: whoever adds up all notices from
    /// the first one on knows the counts exactly.
    fn begin(&self, view: &dyn Snapshot) -> Result<(), StoreError> {
        if let Answer::Names(names) = view.read(&Query::Names)? {
            let mut known = self.names.write().unwrap_or_else(PoisonError::into_inner);
            names.into_iter().for_each(|(name, number)| known.add(name, number));
        }
        if let Answer::AllSettings(settings) = view.read(&Query::AllSettings)? {
            self.board.set(settings.into_iter());
        }
        let counts = match view.read(&Query::Counts)? {
            Answer::Counts(counts) => counts,
            _ => Vec::new(),
        };
        let next_due = match view.read(&Query::NextDue)? {
            Answer::NextDue(next) => next,
            _ => None,
        };
        let paused = matches!(view.read(&Query::Stored)?, Answer::Stored(stored) if stored.paused);
        let last_seq = match view.read(&Query::Events { since: Seq(u64::MAX), limit: 0 })? {
            Answer::Events(events) => Seq(events.next.0 - 1),
            _ => Seq(0),
        };
        let mut counts: Vec<(CountKey, i64)> = counts.into_iter().map(|(key, n)| (key, n.cast_signed())).collect();
        let keys = match view.read(&Query::Keys)? {
            Answer::Keys(keys) => begin_keys(keys, &mut counts),
            _ => KeyChanges::default(),
        };
        self.board.leases(leases(view, &counts)?);
        self.board.post(Persisted { last_seq, counts, keys, next_due, paused }, Vec::new());
        Ok(())
    }

    pub(crate) fn fail(&self, error: &StoreError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        self.failed.notify_waiters();
    }

    pub(crate) fn add_names(&self, changes: &[Change]) {
        for change in changes {
            if let Change::Name(name, number) = change {
                self.names.write().unwrap_or_else(PoisonError::into_inner).add(name.clone(), *number);
            }
        }
    }

    /// The word with this number; a number that no name of this class has is shown as one.
    fn word(&self, class: NameClass, number: u32) -> Arc<str> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let known = names.words.get(&number).filter(|(of, _)| *of == class);
        known.map_or_else(|| Arc::from(format!("#{number}")), |(_, word)| Arc::clone(word))
    }

    fn number(&self, tenant: TenantId, class: NameClass, name: &str) -> Option<u32> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.numbers.get(&Name { tenant, class, name: name.to_owned() }).copied()
    }
}

/// Every run that an external worker holds: a store that is opened ends none of them.
pub(crate) fn leases(view: &dyn Snapshot, counts: &[(CountKey, i64)]) -> Result<Vec<(RunRef, Leased)>, StoreError> {
    let running = counts.iter().filter(|(key, n)| key.state == StateName::Running && *n > 0);
    let tenants: BTreeSet<TenantId> = running.map(|(key, _)| key.lane.tenant).collect();
    let mut leases = Vec::new();
    for tenant in tenants {
        let (state, limit) = (Some(StateName::Running), limits::PAGE_ROWS_MAX);
        let mut query = JobsQuery { state, ..JobsQuery::all(tenant, limit) };
        while let Answer::Jobs(page) = view.read(&Query::Jobs(query.clone()))? {
            let held = page.jobs.iter().filter_map(writer::leased);
            leases.extend(held.map(|(run, lane, lasts)| (run, Leased::Held { lane, lasts })));
            query.beyond = page.next;
            if query.beyond.is_none() {
                break;
            }
        }
    }
    Ok(leases)
}

/// What there is of keys, as if it had just come; what of the counts stands in lanes of keys is taken apart.
fn begin_keys(keys: KeysInUse, counts: &mut Vec<(CountKey, i64)>) -> KeyChanges {
    let mut heads = Vec::with_capacity(keys.lanes.len());
    for KeyedLane { lane, jobs, head } in keys.lanes {
        let available =
            |lane, jobs: u64, sign: i64| (CountKey { lane, state: StateName::Available }, sign * jobs.cast_signed());
        // Notices add up.
        counts.extend([available(lane, jobs, 1), available(lane.of_all_keys(), jobs, -1)]);
        heads.push((lane, Some(head)));
    }
    KeyChanges { heads, begun: keys.begun.into_iter().map(|(of, n)| (of, n.cast_signed())).collect() }
}

impl Names {
    fn add(&mut self, name: Name, number: u32) {
        self.words.insert(number, (name.class, Arc::from(name.name.as_str())));
        self.numbers.insert(name, number);
    }
}
