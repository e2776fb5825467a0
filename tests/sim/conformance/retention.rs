//! How long finished jobs are kept, and what keeps them longer.

use runner_store::command::{Command, Keep, Part, Reply, Settings, TenantSettings};
use runner_store::decide::Conduct;
use runner_store::job::{JobId, JobSpec, Millis, Outcome, StateName, TenantId, Time};

use crate::world::*;

const DAY: u64 = 24 * 3_600_000;

fn keep(w: &mut World, change: impl FnOnce(&mut Keep)) {
    let mut settings = TenantSettings::default();
    change(&mut settings.keep);
    w.call(Command::Set(Box::new(Settings::Tenant(TENANT, settings))));
}

/// A job that has ended so.
#[track_caller]
fn ended(w: &mut World, state: StateName) -> JobId {
    let id = w.enqueue(work());
    match state {
        StateName::Completed => _ = w.run_once(id, Outcome::Completed { output: b"out".to_vec() }),
        StateName::Discarded => _ = w.run_once(id, Outcome::Discarded { reason: String::new() }),
        _ => _ = w.call(cancel(id)),
    }
    assert_eq!(w.state(id), state);
    id
}

/// By default: 7, 30 and 90 days, from when it ended.
#[test]
fn a_finished_job_is_kept_as_long_as_its_state_says() {
    for (state, days) in [(StateName::Completed, 7), (StateName::Cancelled, 30), (StateName::Discarded, 90)] {
        case(|w| {
            let id = ended(w, state);
            w.advance(days * DAY - 1);
            assert_eq!(w.sweep(100).0, 0, "{state}");
            let young = ended(w, state);
            w.advance(1);
            assert_eq!(w.sweep(100).0, 1, "{state}");
            assert_eq!(w.find(id), None);
            assert_eq!((w.runs(id), Part::ALL.map(|part| w.payload(id, part))), (vec![], [None, None, None]));
            assert!(w.find(young).is_some(), "it ended later");
        });
    }
}

#[test]
fn what_has_not_ended_is_kept_for_ever() {
    case(|w| {
        let held = w.enqueue(work_with(|s| s.hold = true));
        let running = w.enqueue(work());
        w.start(running);
        w.advance(10_000 * DAY);
        assert_eq!(w.sweep(100).0, 0);
        assert!(w.find(held).is_some() && w.find(running).is_some());
    });
}

#[test]
fn beyond_their_number_the_oldest_completed_go_first() {
    case(|w| {
        keep(w, |keep| keep.completed_max = 3);
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(ended(w, StateName::Completed));
            w.advance(1);
        }
        let others = [ended(w, StateName::Cancelled), ended(w, StateName::Discarded)];
        assert_eq!(w.sweep(100).0, 2);
        let left: Vec<JobId> = ids.iter().copied().filter(|id| w.find(*id).is_some()).collect();
        assert_eq!(left, ids[2..]);
        assert!(others.iter().all(|id| w.find(*id).is_some()), "only completed ones are counted");
        assert_eq!(w.sweep(100).0, 0);
    });
}

/// A job that an unfinished job names is never taken by retention; it goes when the other one has ended.
#[test]
fn what_an_unfinished_job_names_is_kept_until_that_has_ended() {
    for by_number in [false, true] {
        case(|w| {
            keep(w, |keep| if by_number { keep.completed_max = 0 } else { keep.completed = Millis(1) });
            let on = ended(w, StateName::Completed);
            let names = w.enqueue(JobSpec { hold: true, ..work_after(&[on]) });
            w.advance(1);
            assert_eq!(w.sweep(100).0, 0, "it names it, though it does not wait for it");
            w.call(Command::Release(at(names)));
            w.start(names);
            assert_eq!(w.sweep(100).0, 0);
            w.finish(names, Outcome::Discarded { reason: String::new() });
            assert_eq!(w.sweep(100).0, 1);
            assert_eq!((w.find(on), w.state(names)), (None, StateName::Discarded));
        });
    }
}

/// The same in one batch: the job that names it comes before the sweep, or behind it.
#[test]
fn a_sweep_sees_who_names_a_job_in_its_own_batch() {
    case(|w| {
        keep(w, |keep| keep.completed = Millis(1));
        let ids = [ended(w, StateName::Completed), ended(w, StateName::Completed)];
        w.advance(1);
        let sweep = Command::Sweep(runner_store::command::Sweep { after: None, budget: 100 });
        let replies = w.batch(&[enqueue(vec![work_after(&[ids[0]])]), sweep, enqueue(vec![work_after(&[ids[1]])])]);
        assert!(matches!(replies[1], Reply::Swept { removed: 1, .. }), "{replies:?}");
        assert!(matches!(replies[2], Reply::Rejected(_)), "it is gone by then");
        assert!(w.find(ids[0]).is_some());
    });
}

#[test]
fn an_operator_may_delete_what_others_name() {
    case(|w| {
        let on = ended(w, StateName::Completed);
        let names = w.enqueue(work_after(&[on]));
        assert_eq!(w.call(delete(on)), Reply::Deleted);
        assert_eq!(w.run_once(names, completed()).state.name(), StateName::Completed);
    });
}

#[test]
fn a_job_that_is_kept_for_no_time_goes_with_its_finish() {
    case(|w| {
        keep(w, |keep| (keep.completed, keep.discarded) = (Millis(0), Millis(0)));
        let id = w.enqueue(work());
        let run = w.start(id);
        let reply = w.call(finish(run, Outcome::Completed { output: b"out".to_vec() }));
        assert_eq!(job_of(&reply).state.name(), StateName::Completed, "the answer says how it ended");
        assert_eq!((w.find(id), w.runs(id)), (None, vec![]));
        assert_eq!(w.events(id), ["enqueued", "started", "completed", "deleted"]);
        assert_eq!(w.call(finish(run, completed())), Reply::Rejected(runner_store::job::Rejection::Unknown));
        let failing = w.enqueue(work());
        w.run_once(failing, failed("no"));
        assert_eq!(w.state(failing), StateName::Retryable, "it has not ended");
    });
}

#[test]
fn a_job_that_is_kept_for_no_time_stays_while_others_need_it() {
    case(|w| {
        keep(w, |keep| keep.completed = Millis(0));
        let on = w.enqueue(work());
        let waits = w.enqueue(work_after(&[on]));
        w.run_once(on, Outcome::Completed { output: b"out".to_vec() });
        assert_eq!(w.payload(on, Part::Output).as_deref(), Some(&b"out"[..]), "the other one may read it");
        w.run_once(waits, completed());
        assert_eq!(w.find(waits), None);
        assert_eq!(w.sweep(10).0, 1, "then a sweep takes it");
        assert_eq!(w.find(on), None);
    });
}

/// The story: a step that had looked at as many as it may said that it was through, and retention removed one step's worth
/// a tick, for ever behind.
#[test]
fn a_backlog_goes_in_bounded_steps_to_its_end() {
    case(|w| {
        keep(w, |keep| keep.cancelled = Millis(1));
        let ids = w.enqueue_all(vec![work_with(|s| s.args = vec![]); 1_000]);
        w.batch(&ids.iter().map(|id| cancel(*id)).collect::<Vec<_>>());
        w.advance(1);
        assert_eq!(w.sweep(64).0, 1_000);
    });
}

/// What cannot go must not stand in the way of what can, however much of it there is.
#[test]
fn many_that_are_needed_do_not_starve_those_behind_them() {
    case(|w| {
        keep(w, |keep| (keep.completed, keep.cancelled) = (Millis(1), Millis(1)));
        let needed = w.enqueue_all(vec![work_with(|s| s.args = vec![]); 300]);
        let gone = w.enqueue_all(vec![work_with(|s| s.args = vec![]); 300]);
        w.batch(&needed.iter().chain(&gone).map(|id| cancel(*id)).collect::<Vec<_>>());
        let anyway: Vec<JobSpec> = needed.chunks(100).map(|on| JobSpec { hold: true, ..work_anyway(on) }).collect();
        w.enqueue_all(anyway);
        w.advance(1);
        assert_eq!(w.sweep(50).0, 300);
        assert!(needed.iter().all(|id| w.find(*id).is_some()));
        assert!(gone.iter().all(|id| w.find(*id).is_none()));
    });
}

#[test]
fn tenants_are_swept_by_their_own_settings() {
    case(|w| {
        keep(w, |keep| keep.cancelled = Millis(1));
        let mut theirs = Vec::new();
        for tenant in [2, 3].map(TenantId) {
            let call = runner_store::command::Enqueue::new(tenant, vec![work()]);
            let id = ids(&w.call(Command::Enqueue(call)))[0];
            let job = runner_store::job::JobRef { tenant, job: id };
            w.call(Command::Cancel { job, reason: None });
            theirs.push(id);
        }
        let ours = ended(w, StateName::Cancelled);
        let settings = TenantSettings { keep: Keep { cancelled: Millis(5), ..Keep::default() }, ..Default::default() };
        w.call(Command::Set(Box::new(Settings::Tenant(TenantId(3), settings))));
        w.advance(1);
        assert_eq!(w.sweep(1).0, 1);
        assert_eq!(w.find(ours), None);
        w.advance(4);
        assert_eq!(w.sweep(1).0, 1, "tenant 3's; tenant 2's is kept for 30 days");
    });
}

/// Everything that destroys waits while the clock cannot be trusted.
#[test]
fn nothing_goes_while_the_clock_cannot_be_trusted() {
    case(|w| {
        keep(w, |keep| (keep.completed, keep.cancelled) = (Millis(0), Millis(1)));
        let gone = ended(w, StateName::Cancelled);
        let expires = w.enqueue(work_with(|s| s.expires_at = Some(Time(START.0 + 1))));
        w.advance(10 * 365 * DAY);
        w.conduct(Conduct { destroy: false, ..Conduct::default() });
        assert_eq!(w.sweep(100), (0, 0, 0));
        let runs = w.run_once(expires, completed());
        assert_eq!(runs.state.name(), StateName::Completed, "it runs, though it seems to have expired");
        assert!(w.find(expires).is_some(), "and stays, though it is kept for no time");
        assert!(w.find(gone).is_some());
        w.conduct(Conduct::default());
        assert_eq!(w.sweep(100).0, 2);
    });
}

#[test]
fn what_expires_is_discarded_by_a_sweep_in_every_state_before_its_first_run() {
    case(|w| {
        let soon = |change: fn(&mut JobSpec)| {
            work_with(|s| {
                s.expires_at = Some(Time(START.0 + 10));
                change(s);
            })
        };
        let on = w.enqueue(work_with(|s| s.hold = true));
        let ids = w.enqueue_all(vec![
            soon(|s| s.hold = true),
            soon(|s| s.delay = Some(Millis(1_000))),
            soon(|s| s.priority = runner_store::job::Priority(1)),
            JobSpec { depends_on: after(&[on]), ..soon(|_| ()) },
            soon(|_| ()),
        ]);
        let ran = w.enqueue(soon(|s| s.priority = runner_store::job::Priority(-1)));
        w.run_once(ran, failed("no"));
        w.advance(9);
        assert_eq!(w.sweep(100).1, 0);
        w.advance(1);
        assert_eq!(w.sweep(2).1, 5, "in steps of two");
        assert!(ids.iter().all(|id| w.state(*id) == StateName::Discarded));
        assert_eq!(w.state(ran), StateName::Retryable, "it has begun to run in time");
    });
}

/// Bytes are what a tenant runs out of first if its outputs are large.
#[test]
fn completed_jobs_go_before_the_bytes_of_a_tenant_are_used_up() {
    case(|w| {
        let settings = TenantSettings { stored_bytes: 10_000, ..TenantSettings::default() };
        w.call(Command::Set(Box::new(Settings::Tenant(TENANT, settings))));
        let output = || Outcome::Completed { output: vec![b'o'; 1_000] };
        let ids: Vec<JobId> = (0..8)
            .map(|_| {
                let id = w.enqueue(JobSpec { args: Vec::new(), ..work() });
                w.run_once(id, output());
                id
            })
            .collect();
        assert_eq!(w.sweep(1).0, 0, "8,000 of 10,000 bytes are no reason");
        let more = w.enqueue(JobSpec { args: vec![b'a'; 1_500], ..work() });
        assert_eq!(w.sweep(1).0, 1, "the oldest one goes");
        assert_eq!(w.find(ids[0]), None);
        assert_eq!(w.sweep(1).0, 0, "then there is room again");
        assert_eq!(w.state(more), StateName::Available);
    });
}
