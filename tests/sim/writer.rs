//! The writer's thread: what callers learn when the engine fails, and what it tells after each commit.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{
    Answer, Bulk, BulkVerb, Command, CountKey, JobsQuery, Keep, Lane, Query, Reply, RunRef, Settings, StoreSettings,
    Sweep, TenantSettings,
};
use runner_store::engine::memory::Memory;
use runner_store::engine::redb::{Commit, Redb};
use runner_store::engine::{Change, Engine, Needs, Persisted, Reader, Snapshot, WorkingSet};
use runner_store::error::{CallError, StoreError};
use runner_store::handle::Writer;
use runner_store::job::{Edit, JobId, JobSpec, Millis, Priority, RunNumber, StateName, Time};

use crate::world::*;

#[derive(Clone, Copy)]
enum Failure {
    /// An error where nothing was written.
    Before,
    /// An error although everything was written.
    After,
    /// A panic although everything was written.
    Panic,
}

/// An engine that fails its next commit once it is told to.
struct Failing {
    memory: Memory,
    how: Failure,
    now: Arc<AtomicBool>,
}

impl Engine for Failing {
    fn prefetch(&mut self, needs: &Needs) -> Result<WorkingSet, StoreError> {
        self.memory.prefetch(needs)
    }

    fn persist(&mut self, changes: &[Change]) -> Result<Persisted, StoreError> {
        let fails = self.now.load(Ordering::SeqCst);
        if !fails || !matches!(self.how, Failure::Before) {
            let persisted = self.memory.persist(changes)?;
            if !fails {
                return Ok(persisted);
            }
        }
        assert!(!matches!(self.how, Failure::Panic), "a planted panic of the engine");
        Err(StoreError::Engine("a planted failure".to_owned()))
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.memory.reader()
    }
}

/// An engine whose commits wait while its gate is shut.
struct Gated {
    memory: Memory,
    gate: Gate,
}

#[derive(Clone, Default)]
struct Gate {
    shut: Arc<Mutex<()>>,
    batches: Arc<AtomicUsize>,
    /// The largest step of a sweep that was asked for.
    swept: Arc<AtomicUsize>,
}

impl Gate {
    /// Sends commands so that they are one batch: while the writer is busy with another one, they queue up.
    fn in_one_batch(&self, handle: &Handle, commands: Vec<Command>) -> Vec<Reply> {
        let (shut, batches) = (self.shut.lock().unwrap(), self.batches.load(Ordering::SeqCst));
        // A call is in the queue once it was looked at.
        let queued = |command| {
            let mut call = Box::pin(handle.call(command));
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            call
        };
        let before = queued(Command::Due);
        while self.batches.load(Ordering::SeqCst) == batches {
            std::thread::yield_now();
        }
        let calls: Vec<_> = commands.into_iter().map(queued).collect();
        drop((shut, before));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        calls.into_iter().map(|call| runtime.block_on(call).unwrap()).collect()
    }
}

impl Engine for Gated {
    fn prefetch(&mut self, needs: &Needs) -> Result<WorkingSet, StoreError> {
        self.gate.batches.fetch_add(1, Ordering::SeqCst);
        let budget = needs.sweep.map_or(0, |sweep| sweep.budget);
        self.gate.swept.fetch_max(budget as usize, Ordering::SeqCst);
        drop(self.gate.shut.lock().unwrap());
        self.memory.prefetch(needs)
    }

    fn persist(&mut self, changes: &[Change]) -> Result<Persisted, StoreError> {
        self.memory.persist(changes)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.memory.reader()
    }
}

fn start() -> (Handle, Writer) {
    Handle::start(Box::new(Memory::new(Clock::manual(START)))).unwrap()
}

fn lane_of_work(handle: &Handle) -> Lane {
    let (queue, kind) = (handle.queue_id(TENANT, "default").unwrap(), handle.kind_id(TENANT, "work").unwrap());
    Lane::new(TENANT, queue, kind)
}

/// Whether this future is ready at its first look.
fn is_ready(future: impl Future<Output = ()>) -> bool {
    let future = std::pin::pin!(future);
    matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()))
}

#[track_caller]
fn check_failure(how: Failure, happened: bool) {
    let now = Arc::new(AtomicBool::new(false));
    let engine = Failing { memory: Memory::new(Clock::manual(START)), how, now: Arc::clone(&now) };
    let (handle, writer) = Handle::start(Box::new(engine)).unwrap();
    assert!(handle.call_blocking(enqueue(vec![work()])).is_ok());
    now.store(true, Ordering::SeqCst);
    let unknown = handle.call_blocking(enqueue(vec![work()]));
    assert!(matches!(unknown, Err(CallError::Unknown(_))), "{unknown:?}");
    for _ in 0..3 {
        assert_eq!(handle.call_blocking(enqueue(vec![work()])), Err(CallError::Stopped), "a failure is sticky");
    }
    assert!(handle.failure().is_some());
    let there = handle.snapshot().unwrap().read(&Query::Job(at(JobId(2)))).unwrap();
    assert_eq!(there != Answer::Job(None), happened, "that is why it is called unknown");
    drop(handle);
    writer.join();
}

#[test]
fn a_failed_commit_is_unknown_and_everything_after_it_did_not_happen() {
    check_failure(Failure::Before, false);
    check_failure(Failure::After, true);
}

/// The story: the writer panicked behind its commit, its callers looked at the failure that it had left, took themselves
/// for callers that were still queued, and told their clients that nothing had happened.
#[test]
fn a_panic_behind_a_commit_is_unknown_too() {
    check_failure(Failure::Panic, true);
}

/// The story: a caller had a place in the queue when the writer failed, and put its command there when the writer had emptied
/// it and was gone. It waited for ever.
#[test]
fn whoever_calls_at_the_moment_of_a_failure_is_answered() {
    const ROUNDS: u32 = 500;
    const CALLERS: usize = 4;
    for _ in 0..ROUNDS {
        let now = Arc::new(AtomicBool::new(true));
        let engine = Failing { memory: Memory::new(Clock::manual(START)), how: Failure::Before, now };
        let (handle, writer) = Handle::start(Box::new(engine)).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        for _ in 0..CALLERS {
            let (handle, tell) = (handle.clone(), tell.clone());
            std::thread::spawn(move || {
                while handle.call_blocking(enqueue(vec![work()])) != Err(CallError::Stopped) {}
                tell.send(()).unwrap();
            });
        }
        for _ in 0..CALLERS {
            told.recv_timeout(Duration::from_secs(30)).expect("a caller waits for ever");
        }
        drop(handle);
        writer.join();
    }
}

#[test]
fn notices_add_up_until_they_are_taken() {
    let (handle, writer) = start();
    let call = |command| handle.call_blocking(command).unwrap();
    call(enqueue(vec![work(); 3]));
    call(enqueue(vec![work_with(|s| s.delay = Some(Millis(50)))]));
    assert!(is_ready(handle.board().changed()));
    let notices = handle.board().take();
    let lane = lane_of_work(&handle);
    let count = |state| notices.counts.get(&CountKey { lane, state }).copied();
    assert_eq!((count(StateName::Available), count(StateName::Scheduled)), (Some(3), Some(1)));
    assert_eq!(notices.next_due, Some(Time(START.0 + 50)));
    call(claim(BOOT, 1, &[lane]));
    call(cancel(JobId(1)));
    let notices = handle.board().take();
    assert_eq!(notices.cancelled, [RunRef { at: at(JobId(1)), run: RunNumber(1) }]);
    assert_eq!(notices.next_due, Some(Time(START.0 + 50)), "a state, not a difference");
    call(cancel(JobId(1)));
    let again = handle.board().take().cancelled;
    assert_eq!(again, [RunRef { at: at(JobId(1)), run: RunNumber(1) }], "a second cancel ends it at once");
    call(claim(BOOT, 1, &[lane]));
    call(Command::Delete { job: at(JobId(2)), force: true, cascade: false });
    assert_eq!(handle.board().take().cancelled, [RunRef { at: at(JobId(2)), run: RunNumber(1) }]);
    assert_eq!((&*handle.kind_name(lane.kind), &*handle.queue_name(lane.queue)), ("work", "default"));
    drop(handle);
    writer.join();
}

/// The story: nine jobs waited for a tenth to share their call. It came and all were claimed, three more came just then, and
/// what was told together was seven fewer: the last three seemed to be of the nine, and lingered no time at all.
#[test]
fn what_comes_is_told_apart_from_what_goes_meanwhile() {
    let (handle, writer) = start();
    let call = |command| handle.call_blocking(command).unwrap();
    call(enqueue(vec![work(); 9]));
    let lane = lane_of_work(&handle);
    let available = CountKey { lane, state: StateName::Available };
    let mut notices = handle.board().take();
    assert_eq!((notices.came.remove(&lane), notices.counts.get(&available)), (Some(9), Some(&9)));
    call(enqueue(vec![work()]));
    call(claim(BOOT, 10, &[lane]));
    call(enqueue(vec![work(); 3]));
    notices = handle.board().take();
    assert_eq!((notices.came.remove(&lane), notices.counts.get(&available)), (Some(4), Some(&-6)));
    drop(handle);
    writer.join();
}

/// The story: a job was claimed and deleted in one commit. Nobody said that its run was to be ended, and a handler was
/// entered for a job that was not there.
#[test]
fn a_run_that_began_in_the_batch_that_ended_it_is_to_be_ended_too() {
    let first = |id| RunRef { at: at(JobId(id)), run: RunNumber(1) };
    let gate = Gate::default();
    let engine = Gated { memory: Memory::new(Clock::manual(START)), gate: gate.clone() };
    let (handle, writer) = Handle::start(Box::new(engine)).unwrap();
    handle.call_blocking(enqueue(vec![work(); 2])).unwrap();
    let lane = lane_of_work(&handle);
    let delete = Command::Delete { job: at(JobId(2)), force: true, cascade: false };
    let mut replies = gate.in_one_batch(&handle, vec![claim(BOOT, 2, &[lane]), cancel(JobId(1)), delete]);
    assert_eq!(claimed_ids(&replies.remove(0)), [1, 2]);
    let mut ended = handle.board().take().cancelled;
    ended.sort_unstable();
    assert_eq!(ended, [first(1), first(2)]);
    drop(handle);
    writer.join();
}

/// The story: a scheduler that claims at every notice found nothing, and was woken by the commit of that very claim.
#[test]
fn a_commit_that_changed_nothing_is_no_news() {
    let (handle, writer) = start();
    handle.call_blocking(enqueue(vec![work_with(|s| s.hold = true)])).unwrap();
    assert!(is_ready(handle.board().changed()));
    for command in [claim(BOOT, 9, &[]), Command::Due, cancel(JobId(99))] {
        handle.call_blocking(command).unwrap();
        assert!(!is_ready(handle.board().changed()));
    }
    drop(handle);
    writer.join();
}

/// The story: whoever waited for a job that was then deleted waited for ever.
#[test]
fn who_waits_for_a_job_learns_how_it_ended_or_that_it_is_gone() {
    let (handle, writer) = start();
    handle.call_blocking(enqueue(vec![work(); 2])).unwrap();
    let [ended, deleted] = [1, 2].map(|id| handle.board().wait_for(at(JobId(id))));
    handle.call_blocking(cancel(JobId(1))).unwrap();
    handle.call_blocking(Command::Delete { job: at(JobId(2)), force: false, cascade: false }).unwrap();
    assert_eq!(ended.blocking_recv(), Ok(StateName::Cancelled));
    assert!(deleted.blocking_recv().is_err());
    drop(handle);
    writer.join();
}

/// A tenant kept nothing: its jobs went with their finish, and whoever waited for them learned that they were gone, never
/// how they had ended.
#[test]
fn who_waits_for_a_job_that_is_not_kept_learns_how_it_ended() {
    let (handle, writer) = start();
    let keep = Keep { completed: Millis(0), ..Keep::default() };
    let settings = Settings::Tenant(TENANT, TenantSettings { keep, ..TenantSettings::default() });
    handle.call_blocking(Command::Set(Box::new(settings))).unwrap();
    handle.call_blocking(enqueue(vec![work()])).unwrap();
    let ended = handle.board().wait_for(at(JobId(1)));
    handle.call_blocking(Command::Start { job: at(JobId(1)), holder: BOOT }).unwrap();
    handle.call_blocking(finish(RunRef { at: at(JobId(1)), run: RunNumber(1) }, completed())).unwrap();
    assert_eq!(ended.blocking_recv(), Ok(StateName::Completed));
    let view = handle.snapshot().unwrap();
    assert_eq!(view.read(&Query::Job(at(JobId(1)))).unwrap(), Answer::Job(None));
    drop((view, handle));
    writer.join();
}

/// The bounds of a batch knew the bytes and the jobs of enqueues and finishes only: a thousand edits of a mebibyte each, or
/// two thousand verbs on a thousand jobs each, were one transaction, and everyone waited for it.
#[test]
fn what_many_jobs_or_bytes_stand_behind_does_not_all_go_into_one_batch() {
    let bulk = || {
        let filter = JobsQuery::all(TENANT, 1_000);
        Command::Bulk(Box::new(Bulk { filter, verb: BulkVerb::Release }))
    };
    let args = || edit(JobId(1), Edit { args: Some(vec![b'x'; 1 << 20]), ..Edit::default() });
    let checkpoint = || {
        let run = RunRef { at: at(JobId(1)), run: RunNumber(1) };
        Command::Checkpoint { run, bytes: vec![b'x'; 1 << 18] }
    };
    let revive = || revive(JobId(1));
    let few = || edit(JobId(1), Edit::default());
    let check = |commands: Vec<Command>, expected: usize| {
        let gate = Gate::default();
        let memory = Memory::new(Clock::manual(START));
        let (handle, writer) = Handle::start(Box::new(Gated { memory, gate: gate.clone() })).unwrap();
        handle.call_blocking(enqueue(vec![work()])).unwrap();
        let before = gate.batches.load(Ordering::SeqCst);
        gate.in_one_batch(&handle, commands);
        // The one before them is not theirs.
        assert_eq!(gate.batches.load(Ordering::SeqCst) - before - 1, expected);
        drop(handle);
        writer.join();
    };
    check((0..100).map(|_| few()).collect(), 1);
    check((0..16).map(|_| args()).collect(), 2);
    check((0..64).map(|_| checkpoint()).collect(), 2);
    check((0..4).map(|_| bulk()).collect(), 2);
    check((0..4).map(|_| revive()).collect(), 2);
}

/// A log that was larger than it may be was trimmed by five hundred events beside each batch, and each batch of edits wrote
/// two thousand: it grew for as long as they came.
#[test]
fn a_sweep_trims_as_many_events_as_its_batch_writes() {
    let gate = Gate::default();
    let memory = Memory::new(Clock::manual(START));
    let (handle, writer) = Handle::start(Box::new(Gated { memory, gate: gate.clone() })).unwrap();
    let settings = Settings::Store(StoreSettings { log_bytes: 1, ..StoreSettings::default() });
    handle.call_blocking(Command::Set(Box::new(settings))).unwrap();
    handle.call_blocking(enqueue(vec![work(); 20])).unwrap();
    let edit = || edit(JobId(1), Edit { priority: Some(Priority(1)), ..Edit::default() });
    let sweep = Command::Sweep(Sweep { after: None, budget: 1 });
    // The caller's own step leaves the rest to the writer, which takes the next one with the batch behind it.
    gate.in_one_batch(&handle, [vec![sweep], (0..4_000).map(|_| edit()).collect()].concat());
    let (events, trimmed) = (1_900, gate.swept.load(Ordering::SeqCst) * 4);
    assert!(trimmed >= events, "{trimmed} events in a step");
    drop(handle);
    writer.join();
}

#[test]
fn a_snapshot_of_a_file_stays_as_it_was() {
    let dir = quick_dir();
    let clock = Clock::manual(START);
    let engine = Redb::create(&dir.path().join("jobs.redb"), clock, Commit::OnePhase).unwrap();
    let (handle, writer) = Handle::start(Box::new(engine)).unwrap();
    handle.call_blocking(enqueue(vec![work()])).unwrap();
    let before = handle.snapshot().unwrap();
    handle.call_blocking(cancel(JobId(1))).unwrap();
    handle.call_blocking(enqueue(vec![work()])).unwrap();
    let job = |view: &dyn Snapshot, id| match view.read(&Query::Job(at(JobId(id)))).unwrap() {
        Answer::Job(job) => job.map(|job| job.state.name()),
        other => panic!("{other:?}"),
    };
    assert_eq!([1, 2].map(|id| job(before.as_ref(), id)), [Some(StateName::Available), None]);
    let after = handle.snapshot().unwrap();
    assert_eq!([1, 2].map(|id| job(after.as_ref(), id)), [Some(StateName::Cancelled), Some(StateName::Available)]);
    drop((before, after, handle));
    writer.join();
}

#[test]
fn many_callers_at_once_each_get_their_own_reply() {
    let (handle, writer) = start();
    let mut all: Vec<u64> = std::thread::scope(|scope| {
        let caller = |_| {
            scope.spawn(|| {
                let one = || match handle.call_blocking(enqueue(vec![work()])) {
                    Ok(Reply::Enqueued(jobs)) => jobs[0].id.0,
                    other => panic!("{other:?}"),
                };
                (0..50).map(|_| one()).collect::<Vec<_>>()
            })
        };
        let callers: Vec<_> = (0..8).map(caller).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    all.sort_unstable();
    assert!(all.into_iter().eq(1..=400));
    drop(handle);
    writer.join();
}

#[test]
fn a_disk_that_fills_up_takes_no_jobs_and_then_starts_none_while_runs_are_recorded() {
    use runner_store::disk::Room;
    let clock = runner_store::clock::Clock::manual(START);
    let engine = runner_store::engine::memory::Memory::new(clock);
    let (store, writer) = runner_store::Handle::start(Box::new(engine)).unwrap();
    let call = |command| store.call_blocking(command).unwrap();
    call(enqueue(vec![work(); 3]));
    let lane = lane_of_work(&store);
    let take = || claimed(&call(claim(BOOT, 1, &[lane])));
    let first = take().remove(0);
    store.say_room(Room::Low);
    assert_eq!(call(enqueue(vec![work()])), Reply::Rejected(runner_store::job::Rejection::DiskReserve));
    assert!(!store.board().take().paused, "what is there still runs");
    let second = take().remove(0);
    store.say_room(Room::Critical);
    assert!(store.board().take().paused);
    assert_eq!(take(), [], "half of the reserve is for what runs");
    for job in [first, second] {
        let run = RunRef { at: job.at(), run: job.run };
        assert_eq!(job_of(&call(finish(run, completed()))).state.name(), StateName::Completed);
    }
    store.say_room(Room::Plenty);
    assert!(!store.board().take().paused, "whoever claims is told");
    assert_eq!(take().len(), 1);
    assert_eq!(ids(&call(enqueue(vec![work()]))).len(), 1);
    drop(store);
    writer.join();
}

/// The story: whoever retried or deleted a job right behind its end was told to repeat it in a moment, although the moment
/// was the writer's to wait.
#[test]
fn who_retries_or_deletes_what_is_being_settled_waits_for_it() {
    let gate = Gate::default();
    let engine = Gated { memory: Memory::new(Clock::manual(START)), gate: gate.clone() };
    let (handle, writer) = Handle::start(Box::new(engine)).unwrap();
    handle.call_blocking(enqueue(vec![work(); 2])).unwrap();
    for on in [1, 2].map(JobId) {
        let dependents = vec![JobSpec { args: Vec::new(), ..work_after(&[on]) }; 2_500];
        handle.call_blocking(enqueue(dependents)).unwrap();
    }
    let [first, second] = [1, 2].map(JobId);
    let commands = vec![cancel(first), retry(first), cancel(second), delete(second), cancel(JobId(3))];
    let replies = gate.in_one_batch(&handle, commands);
    assert_eq!(job_of(&replies[1]).state.name(), StateName::Available);
    assert_eq!(replies[3], Reply::Deleted);
    wait_until_settled(&handle);
    let state = |id| match handle.snapshot().unwrap().read(&Query::Job(at(JobId(id)))).unwrap() {
        Answer::Job(job) => job.map(|job| job.state.name()),
        other => panic!("{other:?}"),
    };
    assert!((3..=5_002).all(|id| state(id) == Some(StateName::Cancelled)), "everyone was told before");
    drop(handle);
    writer.join();
}

/// While nothing else is asked, too: a sweep goes on by itself until it is through.
#[test]
fn the_writer_sweeps_to_the_end_by_itself() {
    let clock = Clock::manual(START);
    let (handle, writer) = Handle::start(Box::new(Memory::new(clock.clone()))).unwrap();
    handle.call_blocking(enqueue(vec![work_with(|s| s.args = Vec::new()); 1_500])).unwrap();
    for id in 1..=1_500 {
        handle.call_blocking(cancel(JobId(id))).unwrap();
    }
    clock.advance(Millis(40 * 24 * 3_600_000));
    handle.call_blocking(Command::Sweep(Sweep { after: None, budget: 100 })).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while handle.snapshot().unwrap().read(&Query::Counts).unwrap() != Answer::Counts(Vec::new()) {
        assert!(std::time::Instant::now() < deadline, "the sweep has stopped");
        std::thread::yield_now();
    }
    drop(handle);
    writer.join();
}

/// The wall clock leaps ten years ahead: nothing is removed for it, until an operator says that it is right.
#[test]
fn a_clock_that_stepped_removes_nothing_until_somebody_says_that_it_is_right() {
    let clock = runner_store::clock::Clock::manual(START);
    let engine = runner_store::engine::memory::Memory::new(clock.clone());
    let (store, writer) = runner_store::Handle::start(Box::new(engine)).unwrap();
    let call = |command| store.call_blocking(command).unwrap();
    call(enqueue(vec![work()]));
    call(cancel(JobId(1)));
    let sweep = || call(Command::Sweep(runner_store::command::Sweep { after: None, budget: 9 }));
    let removed = |reply| match reply {
        Reply::Swept { removed, .. } => removed,
        other => panic!("{other:?}"),
    };
    clock.set(Time(START.0 + 10 * 365 * 24 * 3_600_000));
    assert_eq!(removed(sweep()), 0);
    assert_eq!(store.clock_step(), Some(10 * 365 * 24 * 3_600_000));
    store.accept_clock();
    assert_eq!(removed(sweep()), 1);
    assert_eq!(store.clock_step(), None);
    drop(store);
    writer.join();
}
