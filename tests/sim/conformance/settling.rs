//! Telling those that wait, in bounded steps: graphs, races in one batch and in neighbouring ones, and what waits for it.

use runner_store::command::{Command, Reply, RunRef};
use runner_store::job::{
    BootId, Dependency, DependsOn, EdgePolicy, JobId, JobSpec, On, Outcome, Reason, Rejection, RunNumber, StateName,
    Verdict,
};

use crate::world::*;

fn at_places(places: &[u32]) -> JobSpec {
    work_with(|s| (s.depends_on, s.args) = (after_places(places), Vec::new()))
}

fn small() -> JobSpec {
    work_with(|s| s.args = Vec::new())
}

/// How many of these jobs are in this state.
fn count(w: &World, ids: &[JobId], state: StateName) -> usize {
    ids.iter().filter(|id| w.state(**id) == state).count()
}

fn dead(w: &World, id: JobId) -> Option<Verdict> {
    match w.job(id).reason() {
        Some(Reason::Dependency { verdict, .. }) => Some(*verdict),
        _ => None,
    }
}

/// A diamond under A (B and C after it, D after both) in which these end; the states of B, C and D then.
#[track_caller]
fn check_diamond(ends: &[(usize, Outcome)], expected: [&str; 3]) {
    case(|w| {
        let jobs = w.enqueue_all(vec![small(), at_places(&[0]), at_places(&[0]), at_places(&[1, 2])]);
        for (i, outcome) in ends {
            w.run_once(jobs[*i], outcome.clone());
        }
        let states: Vec<&str> = jobs[1..].iter().map(|id| w.state(*id).as_str()).collect();
        assert_eq!(states, expected, "{ends:?}");
        let told = w.log(0, 100).iter().filter(|e| e.job.job == jobs[3] && e.event.as_str() == "cancelled").count();
        assert!(told <= 1, "D ends once");
    });
}

#[test]
fn a_diamond_is_told_along_both_sides() {
    let bad = || Outcome::Discarded { reason: "bad".to_owned() };
    check_diamond(&[], ["blocked", "blocked", "blocked"]);
    check_diamond(&[(0, completed())], ["available", "available", "blocked"]);
    check_diamond(&[(0, completed()), (1, completed())], ["completed", "available", "blocked"]);
    check_diamond(&[(0, completed()), (1, completed()), (2, completed())], ["completed", "completed", "available"]);
    check_diamond(&[(0, bad())], ["cancelled", "cancelled", "cancelled"]);
    check_diamond(&[(0, completed()), (1, bad())], ["discarded", "available", "cancelled"]);
}

/// A chain: each waits for the one before; `on` says what its `n`-th job does when the one before ends badly.
fn chain(w: &mut World, n: usize, policy: impl Fn(usize) -> EdgePolicy) -> Vec<JobId> {
    let job = |i: usize| {
        let edge = |i: usize| DependsOn { on: On::Position(i as u32 - 1), on_failure: policy(i) };
        work_with(|s| (s.args, s.depends_on) = (Vec::new(), (i > 0).then(|| edge(i)).into_iter().collect()))
    };
    w.enqueue_all((0..n).map(job).collect())
}

#[test]
fn a_cascade_names_the_job_before_and_stops_where_an_edge_says_so() {
    case(|w| {
        let ids = chain(w, 6, |i| if i == 4 { EdgePolicy::Run } else { EdgePolicy::Cancel });
        w.call(cancel(ids[0]));
        let states: Vec<&str> = ids.iter().map(|id| w.state(*id).as_str()).collect();
        assert_eq!(states, ["cancelled", "cancelled", "cancelled", "cancelled", "available", "blocked"]);
        for i in 1..4 {
            let reason = Reason::Dependency { job: ids[i - 1], verdict: Verdict::Cancelled };
            assert_eq!(w.job(ids[i]).reason(), Some(&reason), "each names the one that it waited for");
        }
    });
}

/// Ten thousand in a row, and the first ends badly: bounded steps, also when the process dies between two of them.
#[test]
fn a_chain_of_ten_thousand_falls_in_bounded_steps() {
    case(|w| {
        let ids = chain(w, 10_000, |_| EdgePolicy::Cancel);
        w.batch(&[cancel(ids[0])]);
        let mut steps = 0;
        while w.stored().settling > 0 {
            let reply = w.batch(&[Command::Settle]).remove(0);
            let Reply::Settled { jobs, .. } = reply else { panic!("{reply:?}") };
            assert!((1..=1_000).contains(&jobs), "{jobs} told in a step");
            steps += 1;
            assert!(steps <= 20, "{steps} steps");
            if steps % 3 == 0 {
                w.reopen_in_the_middle();
            }
        }
        assert_eq!(count(w, &ids, StateName::Cancelled), 10_000);
    });
}

#[test]
fn a_star_of_ten_thousand_is_told_in_bounded_steps() {
    for (verdict, state) in [(Verdict::Completed, StateName::Available), (Verdict::Cancelled, StateName::Cancelled)] {
        case(|w| {
            let hub = w.enqueue(small());
            let spec = JobSpec { args: Vec::new(), ..work_after(&[hub]) };
            let ids = w.enqueue_all(vec![spec; 10_000]);
            if verdict == Verdict::Completed {
                let run = w.start(hub);
                w.batch(&[finish(run, completed())]);
            } else {
                w.batch(&[cancel(hub)]);
            }
            assert_eq!(w.stored().settling, 1);
            assert_eq!(count(w, &ids, StateName::Blocked), 10_000, "the end itself tells nobody");
            w.batch(&[Command::Settle]);
            assert_eq!(count(w, &ids, state), 1_000);
            w.reopen_in_the_middle();
            let steps = w.settle();
            assert_eq!(steps.iter().sum::<u32>(), 9_000, "{steps:?}");
            assert!(steps.len() <= 10, "{steps:?}");
            assert_eq!(count(w, &ids, state), 10_000);
        });
    }
}

/// Through the handles: what a call ends is told without anyone asking for it.
#[test]
fn the_writer_tells_everyone_by_itself() {
    case(|w| {
        let hub = w.enqueue(small());
        let ids = w.enqueue_all(vec![JobSpec { args: Vec::new(), ..work_after(&[hub]) }; 2_500]);
        w.run_once(hub, completed());
        assert_eq!(count(w, &ids, StateName::Available), 2_500);
    });
}

/// Two layers of seventy, each of the second after all of the first: more edges than jobs.
#[test]
fn many_edges_between_few_jobs() {
    case(|w| {
        let first = w.enqueue_all(vec![small(); 70]);
        let second = w.enqueue_all(vec![work_after(&first); 70]);
        let lane = w.lane("default", "work");
        w.call(claim(BOOT, 70, &[lane]));
        let finishes: Vec<Command> =
            first.iter().map(|id| finish(RunRef { at: at(*id), run: RunNumber(1) }, completed())).collect();
        w.batch(&finishes);
        assert_eq!(w.stored().settling, 70);
        let steps = w.settle();
        assert_eq!(steps.iter().sum::<u32>(), 4_900);
        assert_eq!(count(w, &second, StateName::Available), 70);
    });
}

/// In one batch, in this order: what becomes of a job that waits for one that ends in it.
#[track_caller]
fn check_race(commands: impl Fn(JobId, JobId) -> Vec<Command>, replies: &[&str], state: &str) {
    // The last ones of a batch meet what the first ones did; in batches of their own they must lead to the same.
    for apart in [false, true] {
        case(|w| {
            let on = w.enqueue(work());
            let waits = w.enqueue(work_after(&[on]));
            w.start(on);
            let commands = commands(on, waits);
            let got: Vec<Reply> = if apart {
                commands.iter().map(|command| w.batch(std::slice::from_ref(command)).remove(0)).collect()
            } else {
                w.batch(&commands)
            };
            let got: Vec<String> = got.iter().map(word).collect();
            assert_eq!(got, replies, "apart: {apart}");
            w.settle();
            let after = w.find(waits).map_or("gone", |job| job.state.name().as_str());
            assert_eq!(after, state, "apart: {apart}");
        });
    }
}

fn word(reply: &Reply) -> String {
    match reply {
        Reply::Job { job, changed } => format!("{}{}", job.state.name(), if *changed { "" } else { " already" }),
        Reply::Deleted => "deleted".to_owned(),
        Reply::Settled { jobs, .. } => format!("told {jobs}"),
        Reply::Enqueued(jobs) => jobs[0].state.to_string(),
        Reply::Ended { crashed, interrupted, .. } => format!("{crashed} crashed, {interrupted} interrupted"),
        Reply::Rejected(Rejection::Settling) => "settling".to_owned(),
        Reply::Rejected(Rejection::WaitedFor) => "waited for".to_owned(),
        Reply::Rejected(Rejection::State(state)) => format!("no: {state}"),
        Reply::Rejected(Rejection::Unknown) => "unknown".to_owned(),
        Reply::Rejected(Rejection::Stale { .. }) => "stale".to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn what_meets_on_one_job_goes_in_order_in_one_batch_and_in_several() {
    let done = |on| finish(RunRef { at: at(on), run: RunNumber(1) }, completed());
    let failing = |on| finish(RunRef { at: at(on), run: RunNumber(1) }, Outcome::Discarded { reason: String::new() });
    let crash = |on| end_boots(BootId(7), vec![RunRef { at: at(on), run: RunNumber(1) }]);
    // Cancelled before the dependency ended, and after, before it was told.
    check_race(|on, waits| vec![cancel(waits), done(on)], &["cancelled", "completed"], "cancelled");
    check_race(|on, waits| vec![done(on), cancel(waits)], &["completed", "cancelled"], "cancelled");
    check_race(|on, waits| vec![failing(on), cancel(waits)], &["discarded", "cancelled"], "cancelled");
    // Cancelled and run again by hand, while what it waited for ends badly.
    check_race(
        |on, waits| vec![failing(on), cancel(waits), retry(waits)],
        &["discarded", "cancelled", "available"],
        "available",
    );
    // Deleted before it was told: nobody is left to be told.
    check_race(|on, waits| vec![done(on), delete(waits)], &["completed", "deleted"], "gone");
    // What ended cannot run again, or go, before everyone was told.
    check_race(|on, _| vec![done(on), retry(on)], &["completed", "settling"], "available");
    check_race(|on, _| vec![failing(on), retry(on)], &["discarded", "settling"], "cancelled");
    check_race(|on, _| vec![failing(on), delete_with(on, true, true)], &["discarded", "settling"], "cancelled");
    // Deleted with its run: the finish finds nothing, and those that waited learn that it was deleted.
    check_race(|on, _| vec![delete_with(on, true, true), done(on)], &["deleted", "unknown"], "cancelled");
    check_race(|on, _| vec![delete(on), done(on)], &["waited for", "completed"], "available");
    // A cancel of what runs is a flag; its crash is then a cancel, and that spreads.
    check_race(|on, _| vec![cancel(on), crash(on)], &["running", "1 crashed, 0 interrupted"], "cancelled");
    check_race(|on, _| vec![crash(on), cancel(on)], &["1 crashed, 0 interrupted", "cancelled"], "cancelled");
    check_race(
        |on, _| vec![cancel(on), crash(on), retry(on)],
        &["running", "1 crashed, 0 interrupted", "settling"],
        "cancelled",
    );
    check_race(|on, _| vec![crash(on), done(on)], &["1 crashed, 0 interrupted", "stale"], "blocked");
    // A held job is told as well.
    check_race(|on, waits| vec![Command::Release(at(waits)), done(on)], &["blocked already", "completed"], "available");
}

#[test]
fn a_job_that_is_enqueued_on_one_that_ends_in_the_same_batch() {
    let done = |on| finish(RunRef { at: at(on), run: RunNumber(1) }, completed());
    for settle_between in [false, true] {
        for bad in [false, true] {
            case(|w| {
                let on = w.enqueue(work());
                w.start(on);
                let end = if bad { delete_with(on, true, true) } else { done(on) };
                let late = enqueue(vec![work_after(&[on])]);
                let mut commands = vec![enqueue(vec![work_after(&[on])]), end];
                commands.extend(settle_between.then_some(Command::Settle));
                commands.push(late);
                let replies = w.batch(&commands);
                let before = ids(&replies[0])[0];
                w.settle();
                let expected = if bad { StateName::Cancelled } else { StateName::Available };
                assert_eq!(w.state(before), expected);
                match replies.last().unwrap() {
                    Reply::Enqueued(jobs) => assert_eq!((bad, jobs[0].state), (false, StateName::Available)),
                    Reply::Rejected(Rejection::Invalid(_)) => assert!(bad, "what is gone is unknown"),
                    other => panic!("{other:?}"),
                }
            });
        }
    }
}

/// Ended and enqueued upon while those before are still being told: settled at once, by the same verdict.
#[test]
fn whoever_comes_while_the_others_are_told_does_not_wait() {
    case(|w| {
        let hub = w.enqueue(small());
        let ids = w.enqueue_all(vec![JobSpec { args: Vec::new(), ..work_after(&[hub]) }; 1_500]);
        w.batch(&[cancel(hub)]);
        w.batch(&[Command::Settle]);
        let late = self::ids(&w.batch(&[enqueue(vec![work_after(&[hub])])])[0])[0];
        assert_eq!(w.state(late), StateName::Cancelled);
        assert_eq!(count(w, &ids, StateName::Blocked), 500);
        assert_eq!(w.batch(&[delete(hub), retry(hub)]).iter().map(word).collect::<Vec<_>>(), ["settling", "settling"]);
        w.settle();
        assert_eq!(w.batch(&[retry(hub), delete(hub)]).iter().map(word).collect::<Vec<_>>(), ["available", "deleted"]);
        assert_eq!(count(w, &ids, StateName::Cancelled), 1_500);
    });
}

/// Two ends that meet in one job: whichever is told first decides, and both edges know how theirs ended.
#[test]
fn two_ends_in_one_batch_meet_in_one_job() {
    case(|w| {
        let jobs = w.enqueue_all(vec![work(), work()]);
        let both = w.enqueue(work_anyway(&jobs));
        let strict = w.enqueue(work_after(&jobs));
        let lane = w.lane("default", "work");
        w.call(claim(BOOT, 9, &[lane]));
        let run = |id| RunRef { at: at(id), run: RunNumber(1) };
        let bad = Outcome::Discarded { reason: String::new() };
        w.batch(&[finish(run(jobs[0]), completed()), finish(run(jobs[1]), bad)]);
        w.settle();
        let verdicts = |w: &World, id| {
            w.job(id).dependencies.iter().map(|Dependency { settled, .. }| settled.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(w, both), [Verdict::Completed, Verdict::Discarded]);
        assert_eq!(w.state(both), StateName::Available);
        assert_eq!(dead(w, strict), Some(Verdict::Discarded));
    });
}

#[test]
fn those_that_were_cancelled_with_it_run_again_with_it() {
    case(|w| {
        let ids = w.enqueue_all(vec![small(), at_places(&[0]), at_places(&[1]), at_places(&[0])]);
        let own = w.enqueue(work_after(&[ids[0]]));
        w.call(cancel(own));
        w.call(cancel(ids[0]));
        assert_eq!(
            w.call(revive(ids[0])),
            Reply::Rejected(Rejection::State(StateName::Cancelled)),
            "it cannot end well"
        );
        w.call(retry(ids[0]));
        assert_eq!(w.call(revive(ids[0])), Reply::Revived { jobs: vec![ids[1], ids[3]], next: None });
        assert_eq!(w.call(revive(ids[1])), Reply::Revived { jobs: vec![ids[2]], next: None });
        assert_eq!(w.call(revive(ids[1])), Reply::Revived { jobs: vec![], next: None });
        assert_eq!(count(w, &ids[1..], StateName::Blocked), 3, "they wait anew");
        assert_eq!(w.state(own), StateName::Cancelled, "someone cancelled this one, not its dependency");
        w.run_once(ids[0], completed());
        let states: Vec<&str> = ids.iter().map(|id| w.state(*id).as_str()).collect();
        assert_eq!(states, ["completed", "available", "blocked", "available"]);
        assert_eq!(w.call(revive(JobId(999))), Reply::Rejected(Rejection::Unknown));
    });
}

#[test]
fn a_revived_job_waits_for_everything_that_has_not_ended() {
    case(|w| {
        let on = w.enqueue_all(vec![work(), work(), work()]);
        let job = w.enqueue(work_after(&on));
        w.call(cancel(on[0]));
        // The others go on while it is cancelled: one ends well, one has not ended.
        w.run_once(on[1], completed());
        w.call(retry(on[0]));
        w.call(revive(on[0]));
        let settled: Vec<_> = w.job(job).dependencies.iter().map(|edge| edge.settled).collect();
        assert_eq!(settled, [None, Some(Verdict::Completed), None]);
        for id in [on[0], on[2]] {
            assert_eq!(w.state(job), StateName::Blocked);
            w.call(retry(id));
            assert!(w.claim(9).contains(&id.0) || w.state(id) == StateName::Running);
            w.finish(id, completed());
        }
        assert_eq!(w.state(job), StateName::Available);
    });
}

#[test]
fn reviving_thousands_goes_in_steps() {
    case(|w| {
        let hub = w.enqueue(small());
        let ids = w.enqueue_all(vec![JobSpec { args: Vec::new(), ..work_after(&[hub]) }; 2_500]);
        w.call(cancel(hub));
        w.call(retry(hub));
        let (mut steps, mut after) = (Vec::new(), None);
        loop {
            let reply = w.batch(&[Command::Revive { job: at(hub), after }]).remove(0);
            let Reply::Revived { jobs, next } = reply else { panic!("{reply:?}") };
            steps.push(jobs.len());
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(steps, [1_000, 1_000, 500]);
        assert_eq!(count(w, &ids, StateName::Blocked), 2_500);
    });
}
