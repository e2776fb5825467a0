//! Taking jobs for runs: in which order, from where, how many, and what the same batch has done before.

use std::collections::HashSet;

use runner_store::command::{Claim, Command, Grant, Lane, Reply};
use runner_store::job::{BootId, Edit, JobId, JobSpec, Millis, Outcome, Priority, StateName, TenantId, Time};

use crate::world::*;

fn of_priority(priority: i16) -> JobSpec {
    work_with(|s| s.priority = Priority(priority))
}

fn due_in(ms: u64) -> JobSpec {
    work_with(|s| s.delay = Some(Millis(ms)))
}

fn edit(id: JobId, edit: Edit) -> Command {
    Command::Edit { job: at(id), edit: Box::new(edit) }
}

#[test]
fn lower_priorities_run_first() {
    case(|w| {
        for name in ["default", "lowest", "highest", "low", "high"] {
            w.enqueue(of_priority(Priority::named(name).unwrap().0));
        }
        assert_eq!(w.claim(10), [3, 5, 1, 4, 2]);
    });
}

#[test]
fn then_what_might_have_run_earlier_then_what_was_enqueued_earlier() {
    case(|w| {
        let jobs = [(0, 20), (0, 10), (0, 10), (5, 1), (-5, 30)];
        for (priority, ms) in jobs {
            w.enqueue(JobSpec { delay: Some(Millis(ms)), ..of_priority(priority) });
        }
        w.advance(30);
        assert_eq!(w.claim(10), [5, 2, 3, 1, 4]);
    });
}

#[test]
fn heads_of_several_lanes_are_merged_by_their_order() {
    case(|w| {
        let spec = |kind: &str, priority| JobSpec { priority: Priority(priority), ..JobSpec::new(kind, "") };
        w.enqueue_all(vec![spec("a", 0), spec("b", 0), spec("a", 0), spec("b", -1), spec("a", 9), spec("b", 0)]);
        let (a, b) = (w.lane("default", "a"), w.lane("default", "b"));
        let grants = vec![Grant { lane: a, max: 2 }, Grant { lane: b, max: 9 }];
        let reply = w.call(Command::Claim(Claim { holder: BOOT, max: 9, grants }));
        assert_eq!(claimed_ids(&reply), [4, 1, 2, 3, 6], "5 is beyond what its lane may start");
    });
}

#[test]
fn a_claim_takes_as_many_as_it_may_in_all() {
    case(|w| {
        w.enqueue_all(vec![JobSpec::new("a", ""), JobSpec::new("b", ""), JobSpec::new("a", "")]);
        let lanes = [w.lane("default", "a"), w.lane("default", "b")];
        assert_eq!(claimed_ids(&w.call(claim(BOOT, 2, &lanes))), [1, 2]);
        assert_eq!(claimed_ids(&w.call(claim(BOOT, 0, &lanes))), [0; 0]);
        assert_eq!(claimed_ids(&w.call(claim(BOOT, 2, &lanes))), [3]);
        assert_eq!(claimed_ids(&w.call(claim(BOOT, 2, &lanes))), [0; 0]);
        assert_eq!(claimed_ids(&w.call(claim(BOOT, 2, &[]))), [0; 0]);
    });
}

#[test]
fn a_claimed_job_is_invisible_to_the_next_claim() {
    case(|w| {
        let id = w.enqueue(work());
        let job = claimed(&{
            let command = w.claiming(1);
            w.call(command)
        })
        .remove(0);
        assert_eq!((job.id, job.run.0, job.state.name()), (id, 1, StateName::Running));
        assert_eq!(w.claim(1), [0; 0]);
        assert_eq!(w.events(id), ["enqueued", "started"]);
    });
}

#[test]
fn queues_do_not_see_each_others_jobs() {
    case(|w| {
        w.enqueue(work_with(|s| s.queue = "other".to_owned()));
        assert_eq!(w.claim(10), [0; 0]);
        let other = w.lane("other", "work");
        assert_eq!(claimed_ids(&w.call(claim(BOOT, 10, &[other]))), [1]);
    });
}

/// 100 claimers, 100 rounds, one job.
#[test]
fn a_job_never_has_two_holders() {
    case(|w| {
        let id = w.enqueue(work());
        for round in 1..=100 {
            let lane = w.lane("default", "work");
            let claims: Vec<Command> = (0..100).map(|boot| claim(BootId(boot), 1, &[lane])).collect();
            let got: Vec<usize> = w.batch(&claims).iter().map(|reply| claimed(reply).len()).collect();
            assert_eq!(got.iter().sum::<usize>(), 1, "round {round}");
            let snooze = Outcome::Snoozed { delay: Millis(100), reason: None };
            assert_eq!(w.finish(id, snooze).run.0, round);
            w.advance(100);
        }
    });
}

#[test]
fn ten_slots_never_hold_more_than_ten() {
    case(|w| {
        w.enqueue_all(vec![work(); 35]);
        let mut running: HashSet<u64> = HashSet::new();
        let mut ended = 0;
        while ended < 35 {
            let free = 10 - running.len() as u32;
            running.extend(w.claim(free));
            assert!(running.len() <= 10);
            let one = *running.iter().next().unwrap();
            running.remove(&one);
            w.finish(JobId(one), completed());
            ended += 1;
        }
    });
}

#[test]
fn a_job_enqueued_in_a_batch_is_claimed_in_it() {
    case(|w| {
        let first = w.enqueue(of_priority(5));
        let lane = w.lane("default", "work");
        let replies = w.batch(&[enqueue(vec![work(), of_priority(9)]), claim(BOOT, 2, &[lane])]);
        assert_eq!(claimed_ids(&replies[1]), [2, first.0], "in their order, old and new");
        assert_eq!(w.claim(9), [3]);
    });
}

#[test]
fn what_became_due_is_claimed_in_the_same_batch() {
    case(|w| {
        let id = w.enqueue(due_in(50));
        w.advance(49);
        assert_eq!(w.claim(1), [0; 0]);
        assert_eq!(w.call(Command::Due), Reply::Due { jobs: 0 });
        w.advance(1);
        assert_eq!(w.claim(1), [id.0]);
        assert_eq!(w.events(id), ["enqueued", "available", "started"]);
    });
}

#[test]
fn due_jobs_come_in_bounded_steps() {
    case(|w| {
        w.enqueue_all(vec![JobSpec { args: vec![], ..due_in(10) }; 5_000]);
        w.advance(10);
        assert_eq!(w.call(Command::Due), Reply::Due { jobs: 4_096 });
        assert_eq!(w.call(Command::Due), Reply::Due { jobs: 904 });
        assert_eq!(w.call(Command::Due), Reply::Due { jobs: 0 });
        assert_eq!(w.persisted().next_due, None);
    });
}

#[test]
fn two_claims_of_a_batch_share_a_lane() {
    case(|w| {
        w.enqueue_all(vec![work(); 5]);
        let lane = w.lane("default", "work");
        let replies = w.batch(&[claim(BOOT, 2, &[lane]), claim(BOOT, 2, &[lane]), claim(BOOT, 2, &[lane])]);
        assert_eq!(replies.iter().map(claimed_ids).collect::<Vec<_>>(), [vec![1, 2], vec![3, 4], vec![5]]);
    });
}

/// The story: several claims of one batch were given the heads of one claim, so the later ones got nothing, which means
/// "there are no more", although thousands waited.
#[test]
fn large_claims_of_a_batch_each_get_theirs() {
    case(|w| {
        w.enqueue_all(vec![work_with(|s| s.args = vec![]); 2_500]);
        let lane = w.lane("default", "work");
        let replies = w.batch(&vec![claim(BOOT, 1_024, &[lane]); 3]);
        assert_eq!(replies.iter().map(|reply| claimed(reply).len()).collect::<Vec<_>>(), [1_024, 1_024, 452]);
    });
}

/// The story: a claim read as many heads as it may take, a cancel before it in the batch took one of them away, and the
/// claim came back short, which means "there are no more".
#[test]
fn a_claim_goes_on_behind_what_the_batch_took_away() {
    case(|w| {
        let jobs = w.enqueue_all(vec![work(); 6]);
        let lane = w.lane("default", "work");
        let later = Edit { run_at: Some(Time(START.0 + 9)), ..Edit::default() };
        let delete = Command::Delete { job: at(jobs[2]), force: false, cascade: false };
        let replies = w.batch(&[cancel(jobs[0]), edit(jobs[1], later), delete, claim(BOOT, 2, &[lane])]);
        assert_eq!(claimed_ids(&replies[3]), [4, 5]);
    });
}

/// The story: an edit made the only head that a claim had read newer than what was read, and the claim passed over it.
#[test]
fn a_claim_finds_what_the_batch_has_touched() {
    case(|w| {
        let jobs = w.enqueue_all(vec![work(); 3]);
        let lane = w.lane("default", "work");
        let touch = Edit { max_attempts: Some(3), ..Edit::default() };
        let replies = w.batch(&[edit(jobs[0], touch), claim(BOOT, 1, &[lane])]);
        assert_eq!(claimed_ids(&replies[1]), [1]);
        let behind = Edit { priority: Some(Priority(9)), ..Edit::default() };
        let replies = w.batch(&[edit(jobs[1], behind), claim(BOOT, 2, &[lane])]);
        assert_eq!(claimed_ids(&replies[1]), [3, 2]);
    });
}

/// The story: the heads of a lane had all expired. A claim discarded them, came back empty, and that means "there are no
/// more": the jobs behind them waited for a notice that nobody would send.
#[test]
fn a_claim_goes_on_behind_expired_jobs() {
    case(|w| {
        let soon = work_with(|s| s.expires_at = Some(Time(START.0 + 5)));
        let gone = w.enqueue_all(vec![soon; 50]);
        let good = w.enqueue_all(vec![work(); 3]);
        w.advance(5);
        assert_eq!(w.claim(2), [good[0].0, good[1].0]);
        assert!(gone.iter().all(|id| w.state(*id) == StateName::Discarded));
        assert_eq!(w.job(gone[0]).reason().unwrap().to_string(), "expired before its first run");
    });
}

#[test]
fn a_job_expires_at_its_moment_and_only_before_its_first_run() {
    case(|w| {
        let until = |ms| work_with(|s| s.expires_at = Some(Time(START.0 + ms)));
        let ids = w.enqueue_all(vec![until(10), until(11), until(11)]);
        w.advance(10);
        let run = claimed(&{
            let command = w.claiming(1);
            w.call(command)
        });
        assert_eq!(run[0].id, ids[1], "the first expired at its moment");
        w.advance(1);
        // Handed back before its start: that does not count as its first run.
        let held = w.run(ids[1]);
        w.call(Command::HandBack(held));
        assert_eq!(w.claim(9), [0; 0]);
        assert_eq!(w.state(ids[1]), StateName::Discarded);
        assert_eq!(w.state(ids[2]), StateName::Discarded);
        let ran = w.enqueue(until(20));
        w.run_once(ran, failed("no"));
        w.advance(10_000);
        assert_eq!(w.claim(1), [ran.0], "it has begun to run in time");
    });
}

/// The story: a caller that asked for "all there are" with the largest number ended the writer by an overflow.
#[test]
fn a_claim_of_everything_is_bounded() {
    case(|w| {
        w.enqueue_all(vec![work_with(|s| s.args = vec![]); 1_030]);
        let lane = w.lane("default", "work");
        let all = claim(BOOT, u32::MAX, &[lane, lane]);
        assert_eq!(claimed(&w.call(all.clone())).len(), 1_024);
        let replies = w.batch(&[all.clone(), all]);
        assert_eq!(replies.iter().map(|reply| claimed(reply).len()).collect::<Vec<_>>(), [6, 0]);
    });
}

#[test]
fn a_lane_that_never_was_is_empty() {
    case(|w| {
        let lane = Lane { tenant: TenantId(99), ..w.lane("no", "no") };
        assert_eq!(claimed_ids(&w.call(claim(BOOT, 1, &[lane]))), [0; 0]);
    });
}

/// A claim once read as many jobs of every lane as it could take in all: with a hundred kinds a hundred times too many. It
/// reads each lane's share; the lane that has more of what comes first is read on, and nothing is overlooked.
#[test]
fn a_lane_with_more_than_its_share_of_what_comes_first_is_read_on() {
    case(|w| {
        let kind = |n: u64| format!("kind-{n}");
        w.enqueue_all((0..60).map(|n| JobSpec::new(kind(n % 30), "")).collect());
        let urgent = |_| JobSpec { priority: Priority(-1), ..JobSpec::new("urgent", "") };
        w.enqueue_all((0..200).map(urgent).collect());
        let mut lanes: Vec<Lane> = (0..30).map(|n| w.lane("default", &kind(n))).collect();
        lanes.push(w.lane("default", "urgent"));
        let grants: Vec<Grant> = lanes.iter().map(|lane| Grant { lane: *lane, max: 220 }).collect();
        let claim = |w: &mut World, max| {
            claimed_ids(&w.call(Command::Claim(Claim { holder: BOOT, max, grants: grants.clone() })))
        };
        assert_eq!(claim(w, 150), (61..=210).collect::<Vec<_>>(), "the urgent ones, in their order");
        let rest: Vec<u64> = (211..=260).chain(1..=60).collect();
        assert_eq!(claim(w, 220), rest, "then what is left of them, and all others");
    });
}
