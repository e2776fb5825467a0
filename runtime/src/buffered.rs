//! Buffered jobs: received and answered before they are accepted, and accepted a moment later as lists.
//!
//! They wait in memory and are flushed, in the order in which they came, once there are a thousand of them or a mebibyte,
//! after 100 ms, or when someone asks. So a crash loses at most that much, and an orderly stop ([`Buffered::stop`])
//! nothing. A job that is refused when it is to be accepted is counted and logged: whoever sent it is gone by then.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runner_store::Handle;
use runner_store::command::{Command, Enqueue, Reply};
use runner_store::job::{JobSpec, TenantId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Jobs that are flushed together.
pub const FLUSH_JOBS: usize = 1_000;
/// Bytes of args that are flushed together.
pub const FLUSH_BYTES: usize = 1024 * 1024;
/// How long a job waits at most.
pub const FLUSH_WITHIN: Duration = Duration::from_millis(100);
/// What all jobs that wait may hold: where the store is slower than the callers, these wait, and are then refused.
const ROOM_KIB: usize = 32 * 1024;
/// What a job takes beside its args.
const JOB_BYTES: usize = 512;
/// Calls on their way to the task.
const CALLS_MAX: usize = 64;
/// How long a call waits for room.
const ROOM_WITHIN: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub struct Buffered {
    room: Arc<Semaphore>,
    counters: Arc<Counters>,
    /// The task that flushes; begun with the first job.
    task: Mutex<Option<(mpsc::Sender<Call>, JoinHandle<()>)>>,
}

/// There is no room for more, or the node stops. Nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// What became of buffered jobs since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that were accepted.
    pub accepted: u64,
    /// Jobs that were refused.
    pub refused: u64,
    /// Jobs of which nothing is known, as the store failed.
    pub lost: u64,
    /// Flushes, by [`Why::ALL`].
    pub flushes: [u64; 5],
}

/// Why something was flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Why {
    /// There were enough jobs.
    Count = 0,
    /// There were enough bytes.
    Bytes = 1,
    /// The first had waited long enough.
    Time = 2,
    /// Someone asked.
    Demand = 3,
    /// The node stops.
    Stop = 4,
}

impl Why {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Count, Self::Bytes, Self::Time, Self::Demand, Self::Stop];
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    flushes: [AtomicU64; 5],
}

enum Call {
    Jobs(TenantId, Vec<JobSpec>, OwnedSemaphorePermit),
    Flush(oneshot::Sender<()>),
}

impl Default for Buffered {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(ROOM_KIB)), counters: Arc::default(), task: Mutex::new(None) }
    }
}

impl Buffered {
    /// Receives a tenant's jobs that were checked, for this store.
    ///
    /// # Errors
    /// There is no room, or the node stops; nothing happened.
    pub async fn receive(&self, store: &Handle, tenant: TenantId, jobs: Vec<JobSpec>) -> Result<(), NoRoom> {
        let kib = jobs.iter().map(bytes_of).sum::<usize>().div_ceil(1024).clamp(1, ROOM_KIB);
        let permits = u32::try_from(kib).map_err(|_| NoRoom)?;
        let send = async {
            let room = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| NoRoom)?;
            self.sender(store).send(Call::Jobs(tenant, jobs, room)).await.map_err(|_| NoRoom)
        };
        tokio::time::timeout(ROOM_WITHIN, send).await.unwrap_or(Err(NoRoom))
    }

    /// Flushes what is there, and waits until it is accepted.
    pub async fn flush(&self) {
        let sender = lock(&self.task).as_ref().map(|(sender, _)| sender.clone());
        let Some(sender) = sender else { return };
        let (done, flushed) = oneshot::channel();
        if sender.send(Call::Flush(done)).await.is_ok() {
            // A task that ended has flushed everything.
            _ = flushed.await;
        }
    }

    /// Flushes everything and takes no more.
    pub async fn stop(&self) {
        self.room.close();
        let task = lock(&self.task).take();
        if let Some((sender, task)) = task {
            drop(sender);
            // A bug of the task was reported by its own hook.
            _ = task.await;
        }
    }

    /// What became of buffered jobs so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { accepted, refused, lost, flushes } = self.counters.as_ref();
        let flushes = Why::ALL.map(|why| get(&flushes[why as usize]));
        Counts { accepted: get(accepted), refused: get(refused), lost: get(lost), flushes }
    }

    fn sender(&self, store: &Handle) -> mpsc::Sender<Call> {
        let mut task = lock(&self.task);
        let (sender, _) = task.get_or_insert_with(|| {
            let (sender, calls) = mpsc::channel(CALLS_MAX);
            let flusher = Flusher {
                store: store.clone(),
                counters: Arc::clone(&self.counters),
                waiting: VecDeque::new(),
                bytes: 0,
            };
            (sender, tokio::spawn(flusher.run(calls)))
        });
        sender.clone()
    }
}

/// The task that flushes.
struct Flusher {
    store: Handle,
    counters: Arc<Counters>,
    waiting: VecDeque<(TenantId, JobSpec)>,
    bytes: usize,
}

impl Flusher {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        // What the waiting jobs hold of the room; given back when none waits.
        let mut held: Vec<OwnedSemaphorePermit> = Vec::new();
        let mut until = Instant::now();
        loop {
            let next = tokio::select! {
                biased;
                () = tokio::time::sleep_until(until), if !self.waiting.is_empty() => {
                    self.flush(Why::Time, 0).await;
                    held.clear();
                    continue;
                }
                next = calls.recv() => next,
            };
            match next {
                Some(Call::Jobs(tenant, jobs, room)) => {
                    if self.waiting.is_empty() {
                        until = Instant::now() + FLUSH_WITHIN;
                    }
                    held.push(room);
                    self.bytes += jobs.iter().map(bytes_of).sum::<usize>();
                    self.waiting.extend(jobs.into_iter().map(|job| (tenant, job)));
                    if self.waiting.len() >= FLUSH_JOBS {
                        self.flush(Why::Count, FLUSH_JOBS).await;
                    }
                    if self.bytes >= FLUSH_BYTES {
                        self.flush(Why::Bytes, 0).await;
                    }
                }
                Some(Call::Flush(done)) => {
                    self.flush(Why::Demand, 0).await;
                    // Whoever went away needs no answer.
                    _ = done.send(());
                }
                None => {
                    self.flush(Why::Stop, 0).await;
                    return;
                }
            }
            if self.waiting.is_empty() {
                held.clear();
            }
        }
    }

    /// Enqueues what waits, first come first, in lists of bounded size, until fewer than `at_least` (and one) wait.
    async fn flush(&mut self, why: Why, at_least: usize) {
        while self.waiting.len() >= at_least.max(1) {
            let mut list = Vec::new();
            let mut bytes = 0;
            // A list is one tenant's.
            let tenant = self.waiting.front().map_or(TenantId::DEFAULT, |(tenant, _)| *tenant);
            while list.len() < FLUSH_JOBS && bytes < FLUSH_BYTES {
                let Some((_, job)) = self.waiting.pop_front_if(|(whose, _)| *whose == tenant) else { break };
                bytes += bytes_of(&job);
                list.push(job);
            }
            self.bytes = self.bytes.saturating_sub(bytes);
            self.counters.flushes[why as usize].fetch_add(1, Ordering::Relaxed);
            self.accept(tenant, list).await;
        }
    }

    /// Enqueues a list. One that is refused is halved, so that a job which cannot be accepted takes no other with it.
    async fn accept(&self, tenant: TenantId, list: Vec<JobSpec>) {
        let mut lists = vec![list];
        while let Some(mut list) = lists.pop() {
            let jobs = list.len() as u64;
            let call = Command::Enqueue(Enqueue::new(tenant, list.clone()));
            match self.store.call(call).await {
                Ok(Reply::Enqueued(_)) => _ = self.counters.accepted.fetch_add(jobs, Ordering::Relaxed),
                Ok(Reply::Rejected(rejection)) if list.len() == 1 => {
                    self.counters.refused.fetch_add(1, Ordering::Relaxed);
                    let (kind, queue) = (&list[0].kind, &list[0].queue);
                    tracing::warn!(%kind, %queue, %rejection, "a buffered job was refused; it is gone");
                }
                Ok(Reply::Rejected(_)) => {
                    let rest = list.split_off(list.len() / 2);
                    lists.push(rest);
                    lists.push(list);
                }
                Ok(other) => unreachable!("the answer to an enqueue is not {other:?}"),
                Err(error) => {
                    self.counters.lost.fetch_add(jobs, Ordering::Relaxed);
                    tracing::error!(jobs, %error, "buffered jobs are lost");
                }
            }
        }
    }
}

fn bytes_of(job: &JobSpec) -> usize {
    job.args.len() + JOB_BYTES
}

/// Nothing that is done under this lock can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
