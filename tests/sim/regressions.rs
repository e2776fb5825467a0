//! What went wrong in other systems, by name, and must not here: each as a test that opens with its story.

use std::sync::{Arc, Barrier};

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Answer, Command, Enqueue, IdempotencyKey, Query, Reply, RunRef};
use runner_store::engine::memory::Memory;
use runner_store::engine::{Change, Engine, Needs, Persisted, Reader, WorkingSet};
use runner_store::error::{CallError, StoreError};
use runner_store::job::{BootId, JobId, Outcome, OutcomeName, Reason, Rejection, RunNumber, StateName};

use crate::world::*;

const NEXT: BootId = BootId(2);

/// A rescuer looked for jobs that had run too long by their ids, while one of them was finished, and wrote `available`
/// over `completed`: the job ran again.
#[test]
fn a_rescue_does_not_overwrite_a_completed_job() {
    case(|w| {
        let ids = w.enqueue_all(vec![work(); 2]);
        let lane = w.lane("default", "work");
        w.call(claim(BOOT, 2, &[lane]));
        let runs = ids.iter().map(|id| w.run(*id)).collect::<Vec<_>>();
        // In one batch: what the rescue read as running has completed before it.
        let replies = w.batch(&[finish(runs[0], completed()), end_boots(NEXT, runs.clone())]);
        assert_eq!(replies[1], Reply::Ended { crashed: 1, interrupted: 0, more: false });
        assert_eq!(w.state(ids[0]), StateName::Completed);
        // And the other way round: the finish of a rescued run finds no lease.
        assert_eq!(w.call(finish(runs[1], completed())), stale(1));
        assert_eq!(w.state(ids[1]), StateName::Retryable);
    });
}

/// A rescue by elapsed time took a job of twelve hours for stuck after one, and it ran twice at once.
#[test]
fn a_long_run_of_a_living_node_is_never_rescued() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        w.advance(365 * 24 * 3_600_000);
        w.call(Command::Due);
        w.sweep(100);
        assert_eq!(w.call(end_boots(BOOT, vec![])), Reply::Ended { crashed: 0, interrupted: 0, more: false });
        assert_eq!(w.claim(9), [0; 0]);
        assert_eq!(job_of(&w.call(finish(run, completed()))).state.name(), StateName::Completed);
    });
}

/// A process that died under the last attempt of a job left it as `running` with no attempts left: nothing took it up, and
/// nothing gave it up.
#[test]
fn a_crash_on_the_last_attempt_ends_the_job() {
    case(|w| {
        let id = w.enqueue(work_with(|s| s.max_attempts = Some(1)));
        let run = w.start(id);
        w.call(end_boots(NEXT, vec![run]));
        assert_eq!((w.state(id), w.job(id).reason()), (StateName::Discarded, Some(&Reason::Crashed)));
        assert_eq!(w.runs(id)[0].outcome, OutcomeName::Crashed);
    });
}

/// Leases bore the name of the host. Its successor had the same name, took the dead one's runs for its own, and waited
/// for them.
#[test]
fn a_node_that_starts_again_does_not_take_the_dead_ones_runs_for_its_own() {
    case(|w| {
        let id = w.enqueue(work());
        let first = w.start(id);
        // Every start has a boot of its own, whatever the host is called.
        let reply = w.call(end_boots(NEXT, vec![]));
        assert_eq!(reply, Reply::Ended { crashed: 0, interrupted: 1, more: false });
        let lane = w.lane("default", "work");
        let second = claimed(&w.call(claim(NEXT, 1, &[lane])))[0].run;
        assert_eq!(w.call(finish(first, completed())), stale(1), "what the dead one still has to say is too late");
        assert_eq!(second, RunNumber(2));
        assert_eq!(w.call(end_boots(NEXT, vec![])), Reply::Ended { crashed: 0, interrupted: 0, more: false });
        assert_eq!(w.state(id), StateName::Running);
    });
}

/// A shutdown had handed back half of its runs when it was killed; the other half was lost, or, counted as crashed, gave up
/// attempts.
#[test]
fn a_shutdown_that_was_killed_half_way_loses_nothing_and_counts_nothing() {
    case(|w| {
        let ids = w.enqueue_all(vec![work_with(|s| s.max_attempts = Some(1)); 6]);
        let lane = w.lane("default", "work");
        w.call(claim(BOOT, 6, &[lane]));
        for id in &ids[..2] {
            w.call(Command::HandBack(w.run(*id)));
        }
        w.finish(ids[2], Outcome::Interrupted);
        w.reopen_in_the_middle();
        // It had begun to drain: what ended from then on was ended by the node.
        let reply = w.call(end_boots(NEXT, vec![]));
        assert_eq!(reply, Reply::Ended { crashed: 0, interrupted: 3, more: false });
        let lane = w.lane("default", "work");
        let again = claimed(&w.call(claim(NEXT, 9, &[lane])));
        assert_eq!(again.len(), 6);
        assert!(again.iter().all(|job| job.attempts == 0 && job.run == RunNumber(2)));
    });
}

/// A rescue looked at the first hundred running jobs. A hundred that never end stood before the one that was stuck, and it
/// was stuck for ever.
#[test]
fn runs_that_never_end_do_not_starve_the_rescue_of_one() {
    case(|w| {
        let ids = w.enqueue_all(vec![work_with(|s| s.args = vec![]); 2_501]);
        let lane = w.lane("default", "work");
        let stuck = ids[2_500];
        w.call(Command::Start { job: at(stuck), holder: BootId(1) });
        for _ in 0..3 {
            w.call(claim(NEXT, 1_024, &[lane]));
        }
        assert_eq!(w.call(end_boots(NEXT, vec![])), Reply::Ended { crashed: 0, interrupted: 1, more: false });
        assert_eq!(w.state(stuck), StateName::Available);
        assert_eq!(w.call(end_boots(BootId(3), vec![])), Reply::Ended { crashed: 0, interrupted: 1_000, more: true });
    });
}

/// Recovery ran at start only. What a start had left behind, as it came to its bound, waited for the next start.
#[test]
fn recovery_goes_on_until_nothing_is_left() {
    case(|w| {
        w.enqueue_all(vec![work_with(|s| s.args = vec![]); 2_200]);
        let lane = w.lane("default", "work");
        for _ in 0..3 {
            w.call(claim(BOOT, 1_024, &[lane]));
        }
        let mut ended = 0;
        loop {
            let Reply::Ended { interrupted, more, .. } = w.call(end_boots(NEXT, vec![])) else { panic!("not ended") };
            ended += interrupted;
            // At any time, also between other commands.
            w.enqueue(work());
            if !more {
                break;
            }
        }
        assert_eq!(ended, 2_200);
        assert_eq!(w.stored().settling, 0);
    });
}

/// An engine that writes a call with a key, and whose answer to it is lost.
struct Mute(Memory);

impl Engine for Mute {
    fn prefetch(&mut self, needs: &Needs) -> Result<WorkingSet, StoreError> {
        self.0.prefetch(needs)
    }

    fn persist(&mut self, changes: &[Change]) -> Result<Persisted, StoreError> {
        let persisted = self.0.persist(changes)?;
        let with_key = changes.iter().any(|change| matches!(change, Change::Key(..)));
        if with_key { Err(StoreError::Engine("the answer was lost".to_owned())) } else { Ok(persisted) }
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.0.reader()
    }
}

/// A commit went through and its reply was lost. The caller was told that it had failed, called again, and the job was
/// there twice; or it was told nothing and the job ran twice.
#[test]
fn a_commit_whose_reply_is_lost_is_unknown_and_a_repeated_call_does_nothing_twice() {
    let key = Some(IdempotencyKey { key: "order-7".to_owned(), request: [7; 32] });
    let call = || Command::Enqueue(Enqueue { key: key.clone(), ..Enqueue::new(TENANT, vec![work()]) });
    let engine = Mute(Memory::new(Clock::manual(START)));
    let reader = engine.reader();
    let (handle, writer) = Handle::start(Box::new(engine)).unwrap();
    let lost = handle.call_blocking(call());
    assert!(matches!(lost, Err(CallError::Unknown(_))), "neither yes nor no: {lost:?}");
    drop(handle);
    writer.join();
    assert!(matches!(reader.snapshot().unwrap().read(&Query::Job(at(JobId(1)))).unwrap(), Answer::Job(Some(_))));
    // The same in a store that goes on: the repeated call answers what the lost one would have.
    case(|w| {
        let first = ids(&w.call(call()));
        w.reopen();
        assert_eq!(ids(&w.call(call())), first);
        assert_eq!(w.check().jobs.len(), 1);
        let run = w.start(first[0]);
        w.finish(first[0], completed());
        assert_eq!(w.call(finish(run, completed())), stale(1), "a repeated finish finds that it has happened");
        let gone = RunRef { at: at(JobId(9)), run: RunNumber(1) };
        assert_eq!(w.call(finish(gone, completed())), Reply::Rejected(Rejection::Unknown));
    });
}

/// An engine that waits behind a commit with a new name, twice: until somebody looks, and until it has looked.
struct Seen(Memory, Arc<Barrier>);

impl Engine for Seen {
    fn prefetch(&mut self, needs: &Needs) -> Result<WorkingSet, StoreError> {
        self.0.prefetch(needs)
    }

    fn persist(&mut self, changes: &[Change]) -> Result<Persisted, StoreError> {
        let persisted = self.0.persist(changes);
        if changes.iter().any(|change| matches!(change, Change::Name(..))) {
            self.1.wait();
            self.1.wait();
        }
        persisted
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.0.reader()
    }
}

/// What a name stands for was known a moment after the first row with it could be read. Who followed the events of a kind
/// missed the first of them: its jobs were of kind `#3` to whoever read at that moment.
#[test]
fn whoever_sees_the_first_job_of_a_kind_knows_the_kind() {
    let both = Arc::new(Barrier::new(2));
    let engine = Seen(Memory::new(Clock::manual(START)), Arc::clone(&both));
    let reader = engine.reader();
    let (handle, writer) = Handle::start(Box::new(engine)).unwrap();
    let caller = handle.clone();
    let call = std::thread::spawn(move || caller.call_blocking(Command::Enqueue(Enqueue::new(TENANT, vec![work()]))));
    both.wait();
    let seen = reader.snapshot().unwrap().read(&Query::Job(at(JobId(1)))).unwrap();
    let Answer::Job(Some(job)) = seen else { panic!("the commit is not seen: {seen:?}") };
    let (kind, queue) = (handle.kind_name(job.kind), handle.queue_name(job.queue));
    both.wait();
    assert_eq!((&*kind, &*queue), ("work", "default"));
    call.join().unwrap().unwrap();
    drop(handle);
    writer.join();
}
