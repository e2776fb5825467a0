//! Who waits for whom, and what each end of a dependency does to those that wait.

use runner_store::command::{Answer, Command, Enqueue, Enqueued, Query, Reply};
use runner_store::job::{
    DependsOn, EdgePolicy, Invalid, JobId, JobSpec, Millis, On, Outcome, Reason, Rejection, StateName, TenantId,
    Verdict, limits,
};

use crate::world::*;

/// How a dependency may end, and what it takes to end it so.
const ENDS: [(Verdict, &str); 4] = [
    (Verdict::Completed, "completes"),
    (Verdict::Discarded, "is discarded"),
    (Verdict::Cancelled, "is cancelled"),
    (Verdict::Deleted, "is deleted"),
];

#[track_caller]
fn end(w: &mut World, id: JobId, verdict: Verdict) {
    match verdict {
        Verdict::Completed => _ = w.run_once(id, completed()),
        Verdict::Discarded => _ = w.run_once(id, Outcome::Discarded { reason: "no".to_owned() }),
        Verdict::Cancelled => _ = w.call(cancel(id)),
        Verdict::Deleted | Verdict::Waived => {
            let cascade = w.find(id).is_some();
            assert_eq!(w.call(delete_with(id, false, cascade)), Reply::Deleted);
        }
    }
}

/// The states of these jobs.
fn states(w: &World, ids: &[JobId]) -> Vec<&'static str> {
    ids.iter().map(|id| w.state(*id).as_str()).collect()
}

fn because_of(job: JobId, verdict: Verdict) -> Option<Reason> {
    Some(Reason::Dependency { job, verdict })
}

/// What becomes of a job that waits for one that ends so: by policy, held or not, waiting for its time or not.
#[test]
fn every_end_of_a_dependency_does_what_the_edge_says() {
    for (verdict, how) in ENDS {
        for (policy, hold, delay) in [
            (EdgePolicy::Cancel, false, 0),
            (EdgePolicy::Run, false, 0),
            (EdgePolicy::Cancel, true, 0),
            (EdgePolicy::Run, true, 0),
            (EdgePolicy::Cancel, false, 50),
            (EdgePolicy::Run, false, 50),
        ] {
            case(|w| {
                let on = w.enqueue(work());
                let id = w.enqueue(work_with(|s| {
                    (s.hold, s.delay) = (hold, Some(Millis(delay)));
                    s.depends_on = vec![DependsOn { on: On::Job(on), on_failure: policy }];
                }));
                assert_eq!(w.state(id).as_str(), if hold { "held" } else { "blocked" });
                end(w, on, verdict);
                let ended = verdict != Verdict::Completed && policy == EdgePolicy::Cancel;
                let expected = match (ended, hold, delay) {
                    (true, _, _) => "cancelled",
                    (false, true, _) => "held",
                    (false, false, 0) => "available",
                    (false, false, _) => "scheduled",
                };
                assert_eq!(w.state(id).as_str(), expected, "it {how}, {policy:?}, held: {hold}, delay: {delay}");
                assert_eq!(w.job(id).reason().cloned(), because_of(on, verdict).filter(|_| ended));
                assert_eq!(w.job(id).dependencies[0].settled, Some(verdict));
            });
        }
    }
}

/// The same for a job that is enqueued when it has ended already: settled at once.
#[test]
fn an_end_that_lies_behind_settles_at_once() {
    for (verdict, how) in &ENDS[..3] {
        case(|w| {
            let on = w.enqueue(work());
            end(w, on, *verdict);
            let reply = w.call(enqueue(vec![work_after(&[on]), work_anyway(&[on])]));
            let Reply::Enqueued(jobs) = reply else { panic!("{reply:?}") };
            let bad = *verdict != Verdict::Completed;
            let expected = if bad { StateName::Cancelled } else { StateName::Available };
            assert_eq!(jobs[0].state, expected, "it {how}: the answer says it");
            assert_eq!(jobs[1].state, StateName::Available);
            assert_eq!(w.job(jobs[0].id).reason().cloned(), because_of(on, *verdict).filter(|_| bad));
            assert_eq!(w.stored().settling, 0);
        });
    }
}

#[test]
fn a_dependency_that_is_not_there_is_refused_and_nothing_happens() {
    case(|w| {
        let gone = w.enqueue(work());
        w.call(delete(gone));
        let mut theirs = enqueue(vec![work()]);
        if let Command::Enqueue(call) = &mut theirs {
            call.tenant = TenantId(2);
        }
        let theirs = ids(&w.call(theirs))[0];
        let before = w.log(0, 100).len();
        for unknown in [JobId(999), gone, theirs] {
            let refused = |jobs: Vec<JobSpec>, field: &str| {
                let why = format!("there is no job {unknown} to wait for");
                (enqueue(jobs), Reply::Rejected(Rejection::Invalid(Invalid { field: field.to_owned(), why })))
            };
            let (one, answer) = refused(vec![work_after(&[unknown])], "depends_on");
            assert_eq!(w.call(one), answer, "another tenant's is unknown in the same words");
            let (list, answer) = refused(vec![work(), work_after(&[unknown])], "jobs[1].depends_on");
            assert_eq!(w.call(list), answer);
        }
        assert_eq!(w.log(0, 100).len(), before);
    });
}

#[track_caller]
fn check_refused(jobs: Vec<JobSpec>, field: &str) {
    case(|w| {
        let reply = w.call(enqueue(jobs));
        let Reply::Rejected(Rejection::Invalid(Invalid { field: refused, .. })) = reply else { panic!("{reply:?}") };
        assert_eq!(refused, field);
        assert_eq!(w.log(0, 10), []);
    });
}

#[test]
fn a_list_must_be_free_of_circles_and_keep_its_bounds() {
    let at = |places: &[u32]| work_with(|s| s.depends_on = after_places(places));
    check_refused(vec![at(&[0])], "jobs[0].depends_on");
    check_refused(vec![at(&[1])], "jobs[0].depends_on");
    check_refused(vec![work(), at(&[2]), at(&[1])], "jobs[1].depends_on");
    check_refused(vec![at(&[3]), at(&[0]), at(&[1]), at(&[2])], "jobs[0].depends_on");
    check_refused(vec![work(), at(&[0, 0])], "jobs[1].depends_on");
    check_refused(vec![work(), at(&[u32::MAX])], "jobs[1].depends_on");
    let many = |n: u32| (0..n).map(|_| work()).chain([at(&(0..n).collect::<Vec<_>>())]).collect::<Vec<_>>();
    check_refused(many(101), "jobs[101].depends_on");
    case(|w| {
        let ids = w.enqueue_all(many(100));
        assert_eq!(w.job(ids[100]).dependencies.len(), limits::DEPENDENCIES_MAX);
        for (i, id) in ids[..100].iter().enumerate() {
            assert_eq!(w.state(ids[100]), StateName::Blocked, "after {i}");
            w.run_once(*id, completed());
        }
        assert_eq!(w.state(ids[100]), StateName::Available);
    });
}

#[test]
fn jobs_of_a_list_may_wait_for_later_ones() {
    case(|w| {
        let at = |places: &[u32]| work_with(|s| s.depends_on = after_places(places));
        let ids = w.enqueue_all(vec![at(&[1]), at(&[2]), work()]);
        assert_eq!(states(w, &ids), ["blocked", "blocked", "available"]);
        assert_eq!(ids, [JobId(1), JobId(2), JobId(3)], "ids are in the order of the list");
        assert_eq!(w.job(ids[0]).dependencies[0].job, ids[1]);
        for id in [ids[2], ids[1], ids[0]] {
            assert_eq!(w.claim(9), [id.0]);
            w.finish(id, completed());
        }
    });
}

/// The story: a position and an id led to the same job by way of its unique key, and the job had two edges to it, of
/// which one was never settled.
#[test]
fn two_names_of_one_job_are_one_edge() {
    case(|w| {
        let key = unique("k", Default::default());
        let first = w.enqueue(key.clone());
        let both = work_with(|s| {
            s.depends_on = after(&[first]);
            s.depends_on.extend(after_places(&[0]));
        });
        let ids = w.enqueue_all(vec![key, both]);
        assert_eq!(ids[0], first);
        assert_eq!(w.job(ids[1]).dependencies.len(), 1);
        w.run_once(first, completed());
        assert_eq!(w.state(ids[1]), StateName::Available);
    });
}

#[test]
fn a_released_job_waits_for_what_is_unsettled_and_only_for_that() {
    case(|w| {
        let on = w.enqueue_all(vec![work(); 2]);
        let held = w.enqueue(JobSpec { hold: true, ..work_after(&on) });
        w.run_once(on[0], completed());
        assert_eq!(w.state(held), StateName::Held, "an edge of a held job settles too");
        assert_eq!(w.job(held).unsettled(), 1);
        assert_eq!(job_of(&w.call(Command::Release(at(held)))).state.name(), StateName::Blocked);
        w.run_once(on[1], completed());
        assert_eq!(w.state(held), StateName::Available);
        assert_eq!(w.events(held), ["enqueued", "blocked", "released", "available"]);
    });
}

/// Once and for ever: by the first final state.
#[test]
fn retrying_a_dependency_changes_no_settled_edge() {
    case(|w| {
        let on = w.enqueue(work());
        let good = w.enqueue(work_after(&[on]));
        let bad = w.enqueue(work_anyway(&[on]));
        end(w, on, Verdict::Discarded);
        assert_eq!(states(w, &[good, bad]), ["cancelled", "available"]);
        w.call(retry(on));
        assert_eq!(states(w, &[good, bad]), ["cancelled", "available"]);
        end(w, on, Verdict::Completed);
        assert_eq!(states(w, &[good, bad]), ["cancelled", "available"]);
        assert_eq!(w.job(good).dependencies[0].settled, Some(Verdict::Discarded));
        let late = w.enqueue(work_after(&[on]));
        assert_eq!(w.state(late), StateName::Available, "whoever comes later sees how it ended last");
    });
}

#[test]
fn a_retried_dependent_does_not_wait_again() {
    case(|w| {
        let on = w.enqueue(work());
        let waits = w.enqueue(work_after(&[on]));
        w.call(cancel(waits));
        w.call(retry(waits));
        assert_eq!(w.state(waits), StateName::Available, "although what it waited for has not ended");
        assert_eq!(w.job(waits).dependencies[0].settled, Some(Verdict::Waived));
        end(w, on, Verdict::Discarded);
        assert_eq!(w.state(waits), StateName::Available);
        let ended = w.enqueue(work());
        let dependent = w.enqueue(work_after(&[ended]));
        w.call(cancel(ended));
        assert_eq!(w.state(dependent), StateName::Cancelled);
        w.call(retry(dependent));
        assert_eq!(w.state(dependent), StateName::Available);
        assert_eq!(w.job(dependent).dependencies[0].settled, Some(Verdict::Cancelled), "settled edges stay settled");
    });
}

#[test]
fn a_job_that_others_wait_for_is_deleted_only_with_cascade() {
    case(|w| {
        let on = w.enqueue(work());
        let jobs =
            w.enqueue_all(vec![work_after(&[on]), work_anyway(&[on]), JobSpec { hold: true, ..work_after(&[on]) }]);
        assert_eq!(w.call(delete(on)), Reply::Rejected(Rejection::WaitedFor));
        assert_eq!(w.call(delete_with(on, true, false)), Reply::Rejected(Rejection::WaitedFor));
        assert_eq!(w.call(delete_with(on, false, true)), Reply::Deleted);
        assert_eq!(states(w, &jobs), ["cancelled", "available", "cancelled"]);
        assert_eq!(w.job(jobs[0]).reason().cloned(), because_of(on, Verdict::Deleted));
        assert_eq!(w.find(on), None);
    });
    case(|w| {
        let on = w.enqueue(work());
        let waits = w.enqueue(work_after(&[on]));
        w.call(cancel(waits));
        assert_eq!(w.call(delete(on)), Reply::Deleted, "who has ended does not wait any more");
    });
    case(|w| {
        let on = w.enqueue(work());
        let waits = w.enqueue(work_after(&[on]));
        w.start(on);
        assert_eq!(w.call(delete_with(on, false, true)), Reply::Rejected(Rejection::State(StateName::Running)));
        assert_eq!(w.call(delete_with(on, true, true)), Reply::Deleted);
        assert_eq!(w.job(waits).reason().cloned(), because_of(on, Verdict::Deleted));
    });
}

#[test]
fn an_expired_job_settles_its_dependents_like_any_discarded_one() {
    for by_claim in [true, false] {
        case(|w| {
            let on = w.enqueue(work_with(|s| s.expires_at = Some(runner_store::job::Time(START.0 + 10))));
            let waits = w.enqueue(work_after(&[on]));
            w.advance(10);
            if by_claim {
                assert_eq!(w.claim(9), [0; 0]);
            } else {
                assert_eq!(w.sweep(10), (0, 1, 0));
                w.settle();
            }
            assert_eq!(w.job(waits).reason().cloned(), because_of(on, Verdict::Discarded));
        });
    }
}

#[test]
fn a_crash_that_ends_a_job_settles_its_dependents() {
    case(|w| {
        let on = w.enqueue(work_with(|s| s.max_attempts = Some(1)));
        let waits = w.enqueue(work_after(&[on]));
        let run = w.start(on);
        w.call(end_boots(runner_store::job::BootId(2), vec![run]));
        assert_eq!(states(w, &[on, waits]), ["discarded", "cancelled"]);
        assert_eq!(w.job(on).reason(), Some(&Reason::Crashed));
    });
}

#[test]
fn dependencies_reach_the_same_tenant_only() {
    case(|w| {
        let ours = w.enqueue(work());
        let mut theirs = Enqueue::new(TenantId(2), vec![work(), work_with(|s| s.depends_on = after_places(&[0]))]);
        let reply = w.call(Command::Enqueue(theirs.clone()));
        let [first, second] = ids(&reply)[..] else { panic!("{reply:?}") };
        w.run_once(ours, completed());
        let states = match reply {
            Reply::Enqueued(jobs) => jobs.into_iter().map(|Enqueued { state, .. }| state.as_str()).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(states, ["available", "blocked"]);
        theirs.jobs = vec![work_after(&[second])];
        assert!(matches!(w.call(Command::Enqueue(theirs)), Reply::Enqueued(_)));
        let reply = w.call(enqueue(vec![work_after(&[first])]));
        assert!(matches!(reply, Reply::Rejected(Rejection::Invalid(_))), "{reply:?}");
    });
}

#[test]
fn those_that_depend_on_a_job_can_be_asked_for() {
    case(|w| {
        let a = w.enqueue(work());
        let others: Vec<JobId> = (0..5).map(|_| w.enqueue(work_after(&[a]))).collect();
        w.call(cancel(others[1]));
        let ask = |w: &World, limit| w.ask(&Query::Dependents(at(a), limit));
        let waiting = vec![others[0], others[2], others[3], others[4]];
        assert_eq!(ask(w, 9), Answer::Dependents(waiting.clone()));
        assert_eq!(ask(w, 2), Answer::Dependents(waiting[..2].to_vec()));
        assert_eq!(ask(w, 0), Answer::Dependents(Vec::new()));
    });
}
