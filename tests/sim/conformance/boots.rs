//! What becomes of the runs of a process that died.

use runner_store::command::{Command, EndBoots, Reply, RunRef};
use runner_store::job::{
    Backoff, BootId, JobId, JobSpec, Millis, Outcome, Reason, RetryPolicy, RunNumber, RunSettings, StateName,
};

use crate::world::*;

const NEXT_BOOT: BootId = BootId(2);

fn ended(crashed: u32, interrupted: u32, more: bool) -> Reply {
    Reply::Ended { crashed, interrupted, more }
}

/// A job that may crash this often, with no delay between.
fn tough(attempts: u32) -> JobSpec {
    let retry = RetryPolicy { backoff: Backoff::Constant { base: Millis(0) }, ..RetryPolicy::default() };
    work_with(|s| (s.max_attempts, s.retry) = (Some(attempts), Some(retry)))
}

/// Claims the job and lets the process die under it.
#[track_caller]
fn crash(w: &mut World, id: JobId) {
    let run = w.start(id);
    assert_eq!(w.call(end_boots(NEXT_BOOT, vec![run])), ended(1, 0, false));
}

#[test]
fn what_had_started_crashed_and_the_rest_was_never_touched() {
    case(|w| {
        let ids = w.enqueue_all(vec![work(); 3]);
        assert_eq!(w.claim(3), [1, 2, 3]);
        let started = w.run(ids[1]);
        w.reopen();
        assert_eq!(w.call(end_boots(NEXT_BOOT, vec![started])), ended(1, 2, false));
        let states = ids.clone().into_iter().map(|id| w.state(id)).collect::<Vec<_>>();
        assert_eq!(states, [StateName::Available, StateName::Retryable, StateName::Available]);
        let (untouched, crashed) = (w.job(ids[0]), w.job(ids[1]));
        assert_eq!((untouched.attempts, untouched.crashes, untouched.started), (0, 0, false));
        assert_eq!((crashed.attempts, crashed.crashes, crashed.started), (1, 1, true));
        assert_eq!(w.events(ids[0]), ["enqueued", "started", "interrupted"]);
        assert_eq!(w.events(ids[1]), ["enqueued", "started", "crashed"]);
        let record = w.runs(ids[1]).remove(0);
        assert_eq!((record.node, record.started_at.is_some()), (Some(BOOT), true));
        assert_eq!(w.runs(ids[0])[0].started_at, None);
        assert_eq!(w.call(end_boots(NEXT_BOOT, vec![started])), ended(0, 0, false), "once");
        assert_eq!(w.call(finish(started, completed())), stale(1));
    });
}

#[test]
fn the_living_boot_keeps_its_runs() {
    case(|w| {
        w.enqueue_all(vec![work(); 2]);
        let lane = w.lane("default", "work");
        w.call(claim(BOOT, 1, &[lane]));
        w.call(claim(NEXT_BOOT, 1, &[lane]));
        assert_eq!(w.call(end_boots(NEXT_BOOT, vec![])), ended(0, 1, false));
        assert_eq!([JobId(1), JobId(2)].map(|id| w.state(id)), [StateName::Available, StateName::Running]);
    });
}

#[test]
fn a_run_number_that_is_over_does_not_count_as_started() {
    case(|w| {
        let id = w.enqueue(work());
        let first = w.start(id);
        w.call(Command::HandBack(first));
        w.start(id);
        assert_eq!(w.call(end_boots(NEXT_BOOT, vec![first])), ended(0, 1, false), "run 2 never started");
    });
}

#[test]
fn a_crashed_job_stands_in_a_lane_of_its_own_until_it_proves_itself() {
    case(|w| {
        let id = w.enqueue(tough(25));
        crash(w, id);
        w.call(Command::Due);
        let lane = w.lane("default", "work");
        let suspects = runner_store::command::Lane { suspect: true, ..lane };
        assert_eq!(claimed_ids(&w.call(claim(BOOT, 9, &[lane]))), [0; 0]);
        assert_eq!(claimed_ids(&w.call(claim(BOOT, 9, &[suspects]))), [id.0]);
        assert_eq!(w.finish(id, Outcome::Interrupted).crashes, 1, "an interruption proves nothing");
        assert_eq!(claimed_ids(&w.call(claim(BOOT, 9, &[suspects]))), [id.0]);
        assert_eq!(w.finish(id, failed("no")).crashes, 0);
        w.call(Command::Due);
        assert_eq!(claimed_ids(&w.call(claim(BOOT, 9, &[lane]))), [id.0]);
    });
}

#[test]
fn three_crashes_in_a_row_are_poison() {
    case(|w| {
        let id = w.enqueue(tough(25));
        crash(w, id);
        crash(w, id);
        assert_eq!(w.state(id), StateName::Retryable);
        crash(w, id);
        assert_eq!(w.job(id).reason(), Some(&Reason::Poison { crashes: 3 }));
        let job = job_of(&w.call(Command::Retry { job: at(id), fresh: false }));
        assert_eq!((job.crashes, job.is_suspect()), (0, false), "an operator trusts it again");
    });
}

#[test]
fn crashes_are_counted_since_the_last_run_that_ended_otherwise() {
    case(|w| {
        let id = w.enqueue(tough(25));
        for _ in 0..2 {
            crash(w, id);
            crash(w, id);
            assert_eq!(w.run_once(id, failed("no")).crashes, 0);
        }
        assert_eq!((w.state(id), w.job(id).attempts), (StateName::Retryable, 6));
    });
}

#[test]
fn a_crash_on_the_last_attempt_discards() {
    case(|w| {
        let id = w.enqueue(tough(2));
        w.run_once(id, failed("no"));
        crash(w, id);
        assert_eq!(w.job(id).reason(), Some(&Reason::Crashed));
        assert_eq!(w.events(id).last(), Some(&"discarded"));
    });
}

#[test]
fn a_run_that_never_started_outlives_any_number_of_dead_boots() {
    case(|w| {
        let id = w.enqueue(tough(1));
        for _ in 0..10 {
            w.start(id);
            assert_eq!(w.call(end_boots(NEXT_BOOT, vec![])), ended(0, 1, false));
        }
        assert_eq!((w.job(id).attempts, w.job(id).run), (0, RunNumber(10)));
    });
}

#[test]
fn settings_of_a_kind_hold_for_its_crashed_runs() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        let settings = RunSettings { max_attempts: 1, retry: RetryPolicy::default() };
        let call = EndBoots { living: NEXT_BOOT, started: vec![run], settings: vec![(w.job(id).kind, settings)] };
        w.call(Command::EndBoots(call));
        assert_eq!(w.job(id).reason(), Some(&Reason::Crashed));
    });
}

#[test]
fn a_flagged_run_of_a_dead_boot_is_cancelled() {
    case(|w| {
        let ids = w.enqueue_all(vec![work(); 2]);
        w.claim(2);
        ids.iter().for_each(|id| _ = w.call(cancel(*id)));
        let started = w.run(ids[0]);
        assert_eq!(w.call(end_boots(NEXT_BOOT, vec![started])), ended(1, 1, false));
        assert!(ids.iter().all(|id| w.state(*id) == StateName::Cancelled));
    });
}

#[test]
fn more_than_a_thousand_runs_are_ended_in_steps() {
    case(|w| {
        w.enqueue_all(vec![work_with(|s| s.args = vec![]); 2_500]);
        while !w.claim(1_024).is_empty() {}
        let step = || end_boots(NEXT_BOOT, vec![]);
        assert_eq!(w.call(step()), ended(0, 1_000, true));
        assert_eq!(w.call(step()), ended(0, 1_000, true));
        assert_eq!(w.call(step()), ended(0, 500, false));
    });
}

#[test]
fn runs_of_every_tenant_are_ended() {
    case(|w| {
        for tenant in [1, 2, 3, u32::MAX] {
            let tenant = runner_store::job::TenantId(tenant);
            let mut command = enqueue(vec![work(), work()]);
            if let Command::Enqueue(call) = &mut command {
                call.tenant = tenant;
            }
            w.call(command);
            let runner_store::command::Answer::Names(names) = w.ask(&runner_store::command::Query::Names) else {
                panic!("not names");
            };
            let number = |class| {
                let of_class =
                    |(name, _): &&(runner_store::command::Name, u32)| name.tenant == tenant && name.class == class;
                names.iter().find(of_class).unwrap().1
            };
            let lane = runner_store::command::Lane::new(
                tenant,
                runner_store::job::QueueId(number(runner_store::command::NameClass::Queue)),
                runner_store::job::KindId(number(runner_store::command::NameClass::Kind)),
            );
            let run = claimed(&w.call(claim(BOOT, 1, &[lane]))).remove(0);
            let other = runner_store::job::JobRef { tenant, job: JobId(run.id.0 + 1) };
            w.call(Command::Cancel { job: other, reason: None });
        }
        assert_eq!(w.call(end_boots(NEXT_BOOT, vec![])), ended(0, 4, false));
    });
}

/// The story: the end of the dead boots' runs and a claim of the living boot met in one batch. The job that the dead had
/// held was handed back, claimed anew, and its *new* run was ended.
#[test]
fn ending_the_dead_leaves_what_the_living_has_just_claimed() {
    case(|w| {
        let id = w.enqueue(work());
        let dead = w.start(id);
        let lane = w.lane("default", "work");
        let replies = w.batch(&[Command::HandBack(dead), claim(NEXT_BOOT, 1, &[lane]), end_boots(NEXT_BOOT, vec![])]);
        assert_eq!(claimed_ids(&replies[1]), [id.0]);
        assert_eq!(replies[2], ended(0, 0, false));
        let run = RunRef { at: at(id), run: RunNumber(2) };
        assert_eq!(job_of(&w.call(finish(run, completed()))).state.name(), StateName::Completed);
    });
}
