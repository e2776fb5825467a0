//! Accepting jobs.

use runner_store::command::{Command, Part, Reply};
use runner_store::job::{Invalid, JobId, JobSpec, Millis, Priority, Rejection, StateName, TenantId, Time};

use crate::world::*;

#[track_caller]
fn check_refused(jobs: Vec<JobSpec>, field: &str) {
    case(|w| {
        let reply = w.call(enqueue(jobs));
        let Reply::Rejected(Rejection::Invalid(Invalid { field: refused, .. })) = reply else { panic!("{reply:?}") };
        assert_eq!(refused, field);
        assert_eq!(w.log(0, 10), [], "nothing happened");
        assert_eq!(w.enqueue(work()), JobId(1), "no id was used up");
    });
}

#[test]
fn one_job_gets_the_defaults() {
    case(|w| {
        let id = w.enqueue(work());
        let job = w.job(id);
        assert_eq!((job.id, job.priority, job.enqueued_at, job.run_at), (JobId(1), Priority(0), START, START));
        assert_eq!((job.max_attempts, job.timeout, job.retry, job.expires_at), (None, None, None, None));
        assert_eq!(w.state(id), StateName::Available);
        assert_eq!(w.payload(id, Part::Args).as_deref(), Some(&b"{}"[..]));
        assert_eq!(w.events(id), ["enqueued"]);
    });
}

#[test]
fn a_list_is_accepted_in_its_order() {
    case(|w| {
        let jobs = (0..10).map(|i| JobSpec::new("work", i.to_string())).collect();
        let ids = w.enqueue_all(jobs);
        assert!(ids.iter().map(|id| id.0).eq(1..=10));
        assert_eq!(w.payload(ids[7], Part::Args).as_deref(), Some(&b"7"[..]));
    });
}

#[test]
fn a_list_with_one_bad_job_leaves_nothing_behind() {
    check_refused(vec![work(), JobSpec::new("", "{}"), work()], "jobs[1].kind");
    check_refused(vec![JobSpec::new("", "{}")], "kind");
    check_refused(vec![], "jobs");
    check_refused(vec![work_with(|s| s.queue = "no/slash".to_owned())], "queue");
    check_refused(vec![work_with(|s| s.args = vec![0; 1024 * 1024 + 1])], "args");
    check_refused(vec![work_with(|s| s.max_attempts = Some(0))], "max_attempts");
}

#[test]
fn a_list_has_at_most_ten_thousand_jobs() {
    check_refused(vec![work_with(|s| s.args = vec![]); 10_001], "jobs");
    case(|w| {
        let ids = w.enqueue_all(vec![work_with(|s| s.args = vec![]); 10_000]);
        assert_eq!(ids.len(), 10_000);
    });
}

#[test]
fn bytes_that_are_not_json_come_back_as_they_are() {
    case(|w| {
        let bytes: Vec<u8> = (0..=255).cycle().take(1024 * 1024).collect();
        let id = w.enqueue(JobSpec::new("work", bytes.clone()));
        assert_eq!(w.payload(id, Part::Args), Some(bytes));
        let empty = w.enqueue(JobSpec::new("work", ""));
        assert_eq!(w.payload(empty, Part::Args), None);
    });
}

#[test]
fn a_job_stands_where_its_time_and_its_hold_say() {
    case(|w| {
        let held = w.enqueue(work_with(|s| s.hold = true));
        let later = w.enqueue(work_with(|s| s.delay = Some(Millis(10))));
        let at = w.enqueue(work_with(|s| s.run_at = Some(Time(START.0 + 20))));
        let past = w.enqueue(work_with(|s| s.run_at = Some(Time(5))));
        assert_eq!(
            [held, later, at, past].map(|id| w.state(id).as_str()),
            ["held", "scheduled", "scheduled", "available"]
        );
        assert_eq!(w.persisted().next_due, Some(Time(START.0 + 10)));
        assert_eq!(w.claim(10), [past.0]);
    });
}

#[test]
fn names_get_a_number_once_and_for_ever() {
    case(|w| {
        w.enqueue_all(vec![JobSpec::new("a", ""), JobSpec::new("b", ""), JobSpec::new("a", "")]);
        let (a, b) = (w.lane("default", "a"), w.lane("default", "b"));
        assert_eq!(a.queue, b.queue);
        assert_ne!(a.kind, b.kind);
        w.reopen();
        // A queue may be called like a kind, and a tenant's names are its own.
        w.enqueue(JobSpec { queue: "a".to_owned(), ..JobSpec::new("default", "") });
        let mut other = enqueue(vec![JobSpec::new("a", "")]);
        if let Command::Enqueue(call) = &mut other {
            call.tenant = TenantId(2);
        }
        w.call(other);
        assert_eq!(w.lane("default", "a"), a, "its number stays");
        assert_eq!(w.claim(10), [0; 0], "kind work has no job");
        let lane = w.lane("a", "default");
        assert_eq!(claimed_ids(&w.call(claim(BOOT, 9, &[lane]))), [4]);
    });
}

#[test]
fn tenants_do_not_see_each_other() {
    case(|w| {
        let mut command = enqueue(vec![work()]);
        if let Command::Enqueue(call) = &mut command {
            call.tenant = TenantId(2);
        }
        let theirs = ids(&w.call(command))[0];
        let ours = w.enqueue(work());
        assert_eq!((theirs, ours), (JobId(1), JobId(2)), "ids ascend over the whole store");
        assert_eq!(w.find(theirs), None);
        assert_eq!(w.call(cancel(theirs)), Reply::Rejected(Rejection::Unknown));
        assert_eq!(w.claim(10), [ours.0]);
    });
}
