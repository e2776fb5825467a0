//! Runs of external workers: they are claimed by the same rules as a node's, end once, and outlive whoever owns the store.

use runner_store::command::{Command, EndLeases, EndedLease, Enqueued, Finish, Grant, Lane, Leasing, Reply, RunRef};
use runner_store::dir::Tokens;
use runner_store::job::{
    Holder, Job, JobId, KindId, Millis, OutcomeName, QueueId, Reason, RunNumber, State, StateName, Time, limits,
};

use crate::world::*;

const LASTS: Millis = Millis::secs(60);

fn leasing(max: u32, lanes: &[Lane]) -> Command {
    let grants = lanes.iter().map(|lane| Grant { lane: *lane, max }).collect();
    Command::Lease(Box::new(Leasing { holder: 7, worker: "gpu-1".to_owned(), lasts: LASTS, max, grants }))
}

/// Takes jobs of kind `work` for a worker.
#[track_caller]
fn lease(w: &mut World, max: u32) -> Vec<Job> {
    let lane = w.lane("default", "work");
    claimed(&w.call(leasing(max, &[lane, Lane { suspect: true, ..lane }])))
}

#[track_caller]
fn lease_one(w: &mut World, id: JobId) -> RunRef {
    let jobs = lease(w, 1);
    assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [id]);
    w.run(id)
}

fn gone(run: RunRef) -> Command {
    let runs = vec![EndedLease { run, log: Some(b"so far".to_vec()) }];
    Command::EndLeases(Box::new(EndLeases { runs, crashed: true, settings: Vec::new() }))
}

fn of_worker(run: RunRef, finish: Finish, request: u8) -> Command {
    assert_eq!(run, finish.run);
    Command::Finish(Box::new(Finish { request: Some([request; 32]), ..finish }))
}

fn answered(id: JobId, state: StateName) -> Reply {
    Reply::Finished(vec![Enqueued { id, state, duplicate: false }])
}

#[test]
fn a_lease_says_whose_it_is_and_how_long_it_lasts() {
    case(|w| {
        let ids = w.enqueue_all(vec![work(), work_with(|s| s.priority.0 = -1), work()]);
        let jobs = lease(w, 2);
        assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [ids[1], ids[0]], "what comes first goes first");
        let lease = jobs[0].lease().unwrap();
        assert_eq!((lease.holder, lease.worker.as_deref()), (Holder::Worker(7), Some("gpu-1")));
        assert_eq!((lease.lasts(), lease.expires_at), (Some(LASTS), Some(w.now().after(LASTS))));
        assert_eq!(w.events(ids[1]), ["enqueued", "started"]);
        assert_eq!(w.claim(9), [ids[2].0], "what a worker holds nobody else gets");
    });
}

#[test]
fn a_lease_is_neither_shorter_nor_longer_than_may_be() {
    case(|w| {
        for (asked, lasts) in [(Millis(1), limits::LEASE_MIN), (Millis(u64::MAX), limits::LEASE_MAX)] {
            let id = w.enqueue(work());
            let grants = vec![Grant { lane: w.lane("default", "work"), max: 1 }];
            let call = Leasing { holder: 7, worker: "w".repeat(200), lasts: asked, max: 1, grants };
            w.call(Command::Lease(Box::new(call)));
            let job = w.job(id);
            assert_eq!(job.lease().unwrap().lasts(), Some(lasts));
            assert_eq!(job.lease().unwrap().worker.as_ref().unwrap().len(), limits::WORKER_BYTES_MAX);
        }
    });
}

#[test]
fn a_run_whose_lease_has_run_out_has_crashed_and_three_are_poison() {
    case(|w| {
        let id = w.enqueue(work());
        for crashes in 1..=2 {
            let run = lease_one(w, id);
            assert_eq!(w.call(gone(run)), Reply::Ended { crashed: 1, interrupted: 0, more: false });
            let job = w.job(id);
            assert_eq!((job.state.name(), job.crashes, job.attempts), (StateName::Retryable, crashes, crashes));
            assert_eq!(w.run_log(run).as_deref(), Some(b"so far".as_slice()), "what it had said is kept");
            w.advance(3_600_000);
            w.call(Command::Due);
        }
        let run = lease_one(w, id);
        w.call(gone(run));
        let State::Discarded { reason: Reason::Poison { crashes: 3 }, .. } = w.job(id).state else {
            panic!("{:?}", w.job(id).state)
        };
        let record = w.runs(id).pop().unwrap();
        assert_eq!((record.outcome, record.worker.as_deref()), (OutcomeName::Crashed, Some("gpu-1")));
        assert!(record.started_at.is_some() && record.node.is_none());
        assert!(record.error.as_ref().unwrap().contains("neither renewed the lease in time"), "{record:?}");
    });
}

/// Nobody was told of the run, so nothing of it has begun: it costs its number, as a fence is never used again, and else
/// nothing of what the job had.
#[test]
fn a_lease_that_nobody_was_told_of_costs_a_number_and_nothing_else() {
    case(|w| {
        let id = w.enqueue(work_with(|s| s.max_attempts = Some(2)));
        let first = lease_one(w, id);
        let job = job_of(&w.call(Command::HandBack(first)));
        assert_eq!((job.state.name(), job.run, job.attempts), (StateName::Available, RunNumber(1), 0));
        assert_eq!((job.crashes, job.started), (0, false));
        let record = w.runs(id).pop().unwrap();
        assert_eq!((record.run, record.outcome, record.started_at), (RunNumber(1), OutcomeName::Interrupted, None));
        assert_eq!(record.worker.as_deref(), Some("gpu-1"));
        // It spoke of a handler, which a worker's run has not.
        assert_eq!(record.error.as_deref(), Some("handed back before its worker was told of it"));
        assert_eq!(w.events(id), ["enqueued", "started", "interrupted"]);

        let second = lease_one(w, id);
        assert_eq!(second.run, RunNumber(2), "run numbers go on");
        assert_eq!(w.call(of_worker(first, finishing(first, completed()), 1)), stale(1));
        assert_eq!(w.call(gone(first)), Reply::Ended { crashed: 0, interrupted: 0, more: false });
        assert_eq!(w.call(Command::HandBack(first)), stale(1), "it is given back once");
        assert_eq!(w.state(id), StateName::Running);
        // What a crash has cost is neither forgiven nor counted again.
        w.call(gone(second));
        w.advance(3_600_000);
        w.call(Command::Due);
        let third = lease_one(w, id);
        let job = job_of(&w.call(Command::HandBack(third)));
        assert_eq!((job.attempts, job.crashes, job.run), (1, 1, RunNumber(3)));
        let last = lease_one(w, id);
        assert_eq!(w.call(of_worker(last, finishing(last, completed()), 1)), answered(id, StateName::Completed));
        let numbers: Vec<_> = w.runs(id).iter().map(|record| (record.run.0, record.outcome)).collect();
        use OutcomeName::{Completed, Crashed, Interrupted};
        assert_eq!(numbers, [(1, Interrupted), (2, Crashed), (3, Interrupted), (4, Completed)]);
        assert_eq!(w.job(id).attempts, 2);
    });
}

/// It was cancelled, or expired, while nobody held it but by name.
#[test]
fn a_lease_that_is_given_back_meets_what_happened_meanwhile() {
    case(|w| {
        let soon = work_with(|s| s.expires_at = Some(Time(START.0 + 10)));
        let ids = w.enqueue_all(vec![soon, work()]);
        let jobs = lease(w, 2);
        assert_eq!(jobs.len(), 2);
        let runs = ids.iter().map(|id| w.run(*id)).collect::<Vec<_>>();
        w.call(cancel(ids[1]));
        w.advance(20);
        runs.iter().for_each(|run| drop(w.call(Command::HandBack(*run))));
        assert_eq!(w.state(ids[1]), StateName::Cancelled);
        assert_eq!(lease(w, 2), [], "it did not begin in time");
        assert_eq!(w.state(ids[0]), StateName::Discarded);
    });
}

/// The fence: whoever was thought gone and comes back says nothing any more.
#[test]
fn who_comes_back_after_the_lease_has_run_out_is_stale() {
    case(|w| {
        let id = w.enqueue(work());
        let run = lease_one(w, id);
        w.call(gone(run));
        assert_eq!(w.call(of_worker(run, finishing(run, completed()), 1)), stale(1));
        w.advance(3_600_000);
        w.call(Command::Due);
        let second = lease_one(w, id);
        assert_eq!(w.call(of_worker(run, finishing(run, completed()), 1)), stale(1), "also while the next one runs");
        assert_eq!(w.call(gone(run)), Reply::Ended { crashed: 0, interrupted: 0, more: false }, "it ends no other run");
        assert_eq!(
            w.call(of_worker(second, finishing(second, completed()), 1)),
            answered(id, StateName::Completed),
            "whose fence is another one"
        );
    });
}

#[test]
fn the_same_finish_is_answered_the_same_and_any_other_is_stale() {
    case(|w| {
        let id = w.enqueue(work());
        let run = lease_one(w, id);
        let staged_id = reserve(w, 1);
        let staged = vec![runner_store::command::StagedJob { id: staged_id, spec: work() }];
        let call = Finish { staged, ..finishing(run, completed()) };
        let answer = Reply::Finished(vec![
            Enqueued { id, state: StateName::Completed, duplicate: false },
            Enqueued { id: staged_id, state: StateName::Available, duplicate: false },
        ]);
        assert_eq!(w.call(of_worker(run, call.clone(), 1)), answer);
        let log = w.log(0, 1_000).len();
        assert_eq!(w.call(of_worker(run, call, 1)), answer, "the same again");
        assert_eq!(w.call(of_worker(run, finishing(run, failed("no")), 2)), stale(1), "another one");
        assert_eq!(w.call(finish(run, completed())), stale(1), "one that is not remembered");
        assert_eq!(w.log(0, 1_000).len(), log, "nothing happened twice");
        w.call(delete(id));
        assert_eq!(
            w.call(of_worker(run, finishing(run, completed()), 1)),
            answer,
            "a finish is remembered although its job is gone"
        );
    });
}

/// Both are in one transaction: the second sees what the first did.
#[test]
fn a_finish_is_repeated_within_one_batch() {
    case(|w| {
        let id = w.enqueue(work());
        let run = lease_one(w, id);
        let call = of_worker(run, finishing(run, completed()), 1);
        let replies = w.batch(&[call.clone(), call, of_worker(run, finishing(run, completed()), 2), gone(run)]);
        let once = answered(id, StateName::Completed);
        assert_eq!(replies[..3], [once.clone(), once, stale(1)]);
        assert_eq!(replies[3], Reply::Ended { crashed: 0, interrupted: 0, more: false });
    });
}

#[test]
fn a_failed_run_is_tried_again_and_a_cancelled_one_is_cancelled() {
    case(|w| {
        let id = w.enqueue(work());
        let run = lease_one(w, id);
        assert_eq!(w.call(of_worker(run, finishing(run, failed("no")), 1)), answered(id, StateName::Retryable));
        for ends in [0, 1, 2] {
            let id = w.enqueue(work());
            let run = lease_one(w, id);
            w.call(cancel(id));
            assert!(w.job(id).lease().unwrap().cancel.is_some(), "a worker is told; until then it runs");
            match ends {
                0 => _ = w.call(of_worker(run, finishing(run, failed("told to stop")), 1)),
                1 => _ = w.call(gone(run)),
                _ => assert_eq!(
                    w.call(of_worker(run, finishing(run, completed()), 1)),
                    answered(id, StateName::Completed),
                    "what completed all the same is completed"
                ),
            }
            let expected = if ends == 2 { StateName::Completed } else { StateName::Cancelled };
            assert_eq!(w.state(id), expected);
        }
    });
}

#[test]
fn a_start_ends_the_runs_of_dead_boots_and_none_of_a_workers() {
    case(|w| {
        let ids = w.enqueue_all(vec![work(), work()]);
        let run = lease_one(w, ids[0]);
        w.start(ids[1]);
        w.reopen();
        let reply = w.call(end_boots(runner_store::job::BootId(99), vec![run]));
        assert_eq!(reply, Reply::Ended { crashed: 0, interrupted: 1, more: false });
        assert_eq!((w.state(ids[0]), w.state(ids[1])), (StateName::Running, StateName::Available));
        assert_eq!(w.call(of_worker(run, finishing(run, completed()), 1)), answered(ids[0], StateName::Completed));
    });
}

/// The end of leases is nobody's but a worker's: a node's run is not ended by it.
#[test]
fn a_nodes_run_is_not_ended_as_a_lease() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        assert_eq!(w.call(gone(run)), Reply::Ended { crashed: 0, interrupted: 0, more: false });
        assert_eq!(w.state(id), StateName::Running);
        assert_eq!(w.job(id).lease().unwrap().lasts(), None);
    });
}

#[test]
fn nothing_is_leased_where_nothing_is_claimed() {
    case(|w| {
        let id = w.enqueue(work());
        w.pause();
        let lane = w.lane("default", "work");
        assert_eq!(w.batch(&[leasing(1, &[lane])]), [Reply::Claimed(Vec::new())]);
        assert_eq!(w.state(id), StateName::Available);
    });
}

/// Two stores, so that a restore is a real one.
#[test]
fn a_restore_voids_the_leases_of_workers() {
    use runner_store::clock::Clock;
    use runner_store::command::Query;
    use runner_store::dir::{Create, StoreDir};
    use runner_store::engine::redb::Commit;
    use runner_store::writer::step;

    let (place, clock) = (quick_dir(), Clock::manual(START));
    let dir = StoreDir::new(place.path().join("store"));
    let mut engine = dir.open(Create::NewFolder, clock.clone(), Commit::OnePhase).unwrap();
    let mut call = |command: Command| step(&mut engine, &[command]).unwrap().0.replies.remove(0);
    let id = ids(&call(enqueue(vec![work()])))[0];
    let lanes = [1, 2].map(|queue| Lane::new(TENANT, QueueId(queue), KindId(3 - queue)));
    let job = claimed(&call(leasing(1, &lanes))).remove(0);
    assert_eq!(job.id, id);
    drop(engine);
    let restored = StoreDir::new(place.path().join("restored"));
    let told = restored.restore(&dir, false, Tokens::Suspend, START).unwrap();
    assert_eq!(told.interrupted, 1);
    let mut engine = restored.open(Create::No, clock, Commit::OnePhase).unwrap();
    let run = RunRef { at: at(id), run: job.run };
    let reply = step(&mut engine, &[finish(run, completed())]).unwrap().0.replies.remove(0);
    assert_eq!(reply, stale(1), "whoever held it says nothing any more");
    use runner_store::engine::Engine as _;
    let runner_store::command::Answer::Job(Some(job)) =
        engine.reader().snapshot().unwrap().read(&Query::Job(at(id))).unwrap()
    else {
        panic!("it is gone")
    };
    assert_eq!((job.state.name(), job.attempts, job.crashes), (StateName::Available, 0, 0), "no attempt is lost");
}

/// What whoever follows the notices knows of workers' runs: also what was there when the store was opened.
#[test]
fn notices_tell_of_workers_runs() {
    use runner_store::Handle;
    use runner_store::clock::Clock;
    use runner_store::engine::redb::{Commit, Redb};
    use runner_store::notice::Leased;

    let (place, clock) = (quick_dir(), Clock::manual(START));
    let path = place.path().join("jobs.redb");
    let engine = Redb::create(&path, clock.clone(), Commit::OnePhase).unwrap();
    let (store, writer) = Handle::start(Box::new(engine)).unwrap();
    let call = |command: Command| store.call_blocking(command).unwrap();
    let jobs = ids(&call(enqueue(vec![work(), work(), work()])));
    let lane = Lane::new(TENANT, store.queue_id(TENANT, "default").unwrap(), store.kind_id(TENANT, "work").unwrap());
    let runs: Vec<RunRef> =
        claimed(&call(leasing(3, &[lane]))).iter().map(|job| RunRef { at: job.at(), run: job.run }).collect();
    let held = Leased::Held { lane, lasts: LASTS };
    let mut told: Vec<_> = store.board().take().leases.into_iter().collect();
    told.sort_by_key(|(run, _)| *run);
    assert_eq!(told, runs.iter().map(|run| (*run, held)).collect::<Vec<_>>());
    call(of_worker(runs[0], finishing(runs[0], completed()), 1));
    call(delete_with(jobs[1], true, false));
    let told = store.board().take().leases;
    assert_eq!(told[&runs[0]], Leased::Ended { lane, outcome: Some(OutcomeName::Completed) });
    assert_eq!(told[&runs[1]], Leased::Ended { lane, outcome: None });
    assert_eq!(told.len(), 2);
    drop(store);
    writer.join();
    let (store, writer) = Handle::start(Box::new(Redb::open(&path, clock, Commit::OnePhase).unwrap())).unwrap();
    assert_eq!(store.board().take().leases.into_iter().collect::<Vec<_>>(), [(runs[2], held)]);
    drop(store);
    writer.join();
}
