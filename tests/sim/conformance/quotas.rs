//! How much there may be: jobs of a queue and of a tenant, and stored bytes.

use runner_store::command::{
    Command, Enqueue, Finish, Part, QueueSettings, Reply, Settings, StagedJob, TenantSettings, limits,
};
use runner_store::decide::Conduct;
use runner_store::job::{Edit, JobId, JobSpec, Millis, OnConflict, Outcome, Rejection, StateName, TenantId};

use crate::world::*;

fn set_tenant(w: &mut World, capacity: u64, stored_bytes: u64) {
    let settings = TenantSettings { capacity, stored_bytes, ..TenantSettings::default() };
    w.call(Command::Set(Box::new(Settings::Tenant(TENANT, settings))));
}

fn set_queue(w: &mut World, queue: &str, capacity: Option<u64>) {
    let settings = QueueSettings { capacity, ..QueueSettings::default() };
    w.call(Command::Set(Box::new(Settings::Queue(TENANT, queue.to_owned(), settings))));
}

fn full(what: &str, capacity: u64, wanted: u64) -> Reply {
    Reply::Rejected(Rejection::Full { what: what.to_owned(), capacity, wanted })
}

#[test]
fn a_full_queue_refuses_a_list_as_a_whole() {
    case(|w| {
        set_queue(w, "default", Some(3));
        w.enqueue_all(vec![work(); 2]);
        let before = w.log(0, 100).len();
        assert_eq!(w.call(enqueue(vec![work(); 2])), full("queue default", 3, 4));
        assert_eq!(w.log(0, 100).len(), before, "nothing of it happened");
        let other = JobSpec { queue: "other".to_owned(), ..work() };
        assert_eq!(w.call(enqueue(vec![other.clone(), work(), work()])), full("queue default", 3, 4));
        w.enqueue_all(vec![other, work()]);
        assert_eq!(w.call(enqueue(vec![work()])), full("queue default", 3, 4));
        assert_eq!(w.claim(9).len(), 3);
        assert_eq!(w.call(enqueue(vec![work()])), full("queue default", 3, 4), "what runs has not ended");
        w.finish(JobId(1), completed());
        w.enqueue(work());
        set_queue(w, "default", None);
        w.enqueue_all(vec![work(); 20]);
    });
}

#[test]
fn a_full_tenant_refuses_and_another_one_does_not_notice() {
    case(|w| {
        set_tenant(w, 2, 1 << 30);
        w.enqueue_all(vec![work(), JobSpec { queue: "other".to_owned(), hold: true, ..work() }]);
        assert_eq!(w.call(enqueue(vec![work()])), full("the tenant", 2, 3));
        let theirs = Enqueue::new(TenantId(2), vec![work(); 9]);
        assert_eq!(ids(&w.call(Command::Enqueue(theirs))).len(), 9);
        w.call(delete(JobId(2)));
        w.enqueue(work());
    });
}

#[test]
fn commands_of_one_batch_share_what_room_there_is() {
    case(|w| {
        set_queue(w, "default", Some(2));
        let replies = w.batch(&[
            enqueue(vec![work()]),
            enqueue(vec![work(); 2]),
            enqueue(vec![work()]),
            cancel(JobId(1)),
            enqueue(vec![work()]),
            enqueue(vec![work()]),
        ]);
        assert_eq!(replies[1], full("queue default", 2, 3));
        assert_eq!(replies[5], full("queue default", 2, 3));
        assert!([0, 2, 4].iter().all(|i| matches!(replies[*i], Reply::Enqueued(_))), "{replies:?}");
    });
}

/// Only an enqueue from outside is refused: what brings a job back, or belongs to an accepted run, passes.
#[test]
fn what_brings_a_job_back_passes_a_full_queue() {
    case(|w| {
        let ended = w.enqueue(work());
        w.run_once(ended, completed());
        set_queue(w, "default", Some(1));
        set_tenant(w, 1, 1 << 30);
        let id = w.enqueue(work());
        assert!(changed(&w.call(retry(ended))));
        assert_eq!(w.claim(1), [ended.0]);
        let Reply::Reserved { first } = w.call(Command::ReserveIds { n: 2 }) else { panic!("not reserved") };
        let staged = (0..2).map(|n| StagedJob { id: JobId(first.0 + n), spec: work() }).collect();
        let snoozed = Outcome::Snoozed { delay: Millis(100), reason: None };
        let call = Finish { staged, ..finishing(w.run(ended), snoozed) };
        w.call(Command::Finish(Box::new(call)));
        assert_eq!([first, JobId(first.0 + 1)].map(|id| w.state(id)), [StateName::Available; 2]);
        assert_eq!(w.runs(ended)[1].staged, []);
        assert_eq!(w.state(id), StateName::Available);
        assert_eq!(w.call(enqueue(vec![work()])), full("the tenant", 1, 5));
    });
}

#[test]
fn a_call_that_finds_its_jobs_there_needs_no_room() {
    case(|w| {
        set_queue(w, "default", Some(1));
        let id = w.enqueue(unique("k", OnConflict::Keep));
        for mode in [OnConflict::Keep, OnConflict::Replace] {
            assert_eq!(w.enqueue(unique("k", mode)), id);
        }
        assert_eq!(w.call(enqueue(vec![unique("l", OnConflict::Keep)])), full("queue default", 1, 2));
    });
}

/// A job that is enqueued after one that ended badly has ended itself, and takes no room; the call is counted all the same.
#[test]
fn totals_are_those_of_what_has_not_ended() {
    case(|w| {
        let on = w.enqueue(work());
        w.call(cancel(on));
        w.enqueue_all(vec![work_after(&[on]); 3]);
        set_tenant(w, 1, 1 << 30);
        w.enqueue(work());
        assert_eq!(w.call(enqueue(vec![work()])), full("the tenant", 1, 2));
    });
}

/// A tenant of `limit` bytes in which a job has args of 100: whether this is accepted.
#[track_caller]
fn check_bytes(limit: u64, command: impl Fn(JobId) -> Command, accepted: bool) {
    case(|w| {
        let id = w.enqueue(JobSpec { args: vec![b'x'; 100], ..unique("k", OnConflict::Keep) });
        set_tenant(w, 1_000, limit);
        let reply = w.call(command(id));
        let refused = matches!(reply, Reply::Rejected(Rejection::TenantStorage { limit: l, .. }) if l == limit);
        assert_eq!(refused, !accepted, "{reply:?}");
    });
}

#[test]
fn stored_bytes_are_counted_and_bounded() {
    let args = |n| JobSpec { args: vec![b'x'; n], ..work() };
    check_bytes(200, |_| enqueue(vec![args(100)]), true);
    check_bytes(200, |_| enqueue(vec![args(101)]), false);
    check_bytes(200, |_| enqueue(vec![args(50), args(51)]), false);
    check_bytes(100, |_| enqueue(vec![args(0)]), true);
    // What changes what is there is no new job, and an operator may do what an enqueue may not.
    check_bytes(100, |id| edit(id, Edit { args: Some(vec![b'x'; 500]), ..Edit::default() }), true);
    check_bytes(100, |_| enqueue(vec![unique("k", OnConflict::Keep)]), true);
}

#[test]
fn outputs_and_checkpoints_count_and_what_goes_makes_room() {
    case(|w| {
        set_tenant(w, 1_000, 300);
        let args = |n| enqueue(vec![JobSpec { args: vec![b'x'; n], ..work() }]);
        let id = ids(&w.call(args(100)))[0];
        let run = w.start(id);
        w.call(Command::Checkpoint { run, bytes: vec![b'c'; 100] });
        assert!(matches!(w.call(args(101)), Reply::Rejected(Rejection::TenantStorage { wanted: 301, .. })));
        w.finish(id, Outcome::Completed { output: vec![b'o'; 200] });
        let wanted = w.check().totals.iter().find(|(key, _)| key.of == runner_store::command::Total::Bytes).unwrap().1;
        assert_eq!(wanted, 300, "the args and the output: a result is never refused");
        assert!(matches!(w.call(args(1)), Reply::Rejected(Rejection::TenantStorage { .. })));
        w.call(delete(id));
        w.call(args(300));
    });
}

#[test]
fn a_full_disk_refuses_new_jobs_and_lets_what_is_there_run() {
    case(|w| {
        let id = w.enqueue(work());
        w.conduct(Conduct { accept: false, ..Conduct::default() });
        assert_eq!(w.call(enqueue(vec![work()])), Reply::Rejected(Rejection::DiskReserve));
        assert_eq!(w.run_once(id, completed()).state.name(), StateName::Completed);
        w.call(delete(id));
        w.conduct(Conduct::default());
        let id = w.enqueue(work());
        w.conduct(Conduct { accept: false, claim: false, destroy: true });
        assert_eq!(w.claim(9), [0; 0]);
        let start = Command::Start { job: at(id), holder: BOOT };
        assert_eq!(w.call(start), Reply::Rejected(Rejection::DiskReserve));
        assert_eq!(w.payload(id, Part::Args).as_deref(), Some(&b"{}"[..]));
    });
}

/// A tenant makes up names without end: its neighbours would pay for each list of them. What counts is in how many it has jobs,
/// so that names come and go.
#[test]
fn a_tenant_has_jobs_in_so_many_queues_and_of_so_many_kinds() {
    let most = limits::NAMES_IN_USE_MAX;
    let too_many = |what: &str| Reply::Rejected(Rejection::TooManyNames { what: what.to_owned(), max: most });
    let in_queue = |n: u32| JobSpec { queue: format!("q{n}"), ..work() };
    let of_kind = |n: u32| JobSpec::new(format!("k{n}"), "");
    case(|w| {
        assert_eq!(w.call(enqueue((0..=most).map(in_queue).collect())), too_many("queues"));
        let ids = w.enqueue_all((0..most).map(in_queue).collect());
        assert_eq!(w.call(enqueue(vec![in_queue(most)])), too_many("queues"));
        w.enqueue(in_queue(0));
        let other = Command::Enqueue(Enqueue::new(TenantId(2), vec![in_queue(most)]));
        assert!(matches!(w.call(other), Reply::Enqueued(_)), "others have their own");
        w.call(cancel(ids[5]));
        assert_eq!(w.call(enqueue(vec![in_queue(most)])), too_many("queues"), "it is still kept");
        w.call(delete(ids[5]));
        w.enqueue(in_queue(most));
        assert_eq!(w.call(enqueue(vec![in_queue(most + 1)])), too_many("queues"));
        w.enqueue(in_queue(5));
    });
    case(|w| {
        w.batch(&[enqueue((0..most / 2).map(of_kind).collect()), enqueue((most / 2..most).map(of_kind).collect())]);
        let replies = w.batch(&[enqueue(vec![of_kind(most)]), enqueue(vec![of_kind(0)])]);
        assert_eq!(replies[0], too_many("kinds"));
        assert!(matches!(replies[1], Reply::Enqueued(_)));
    });
    case(|w| {
        let halves = (0..2).map(|half| enqueue((0..=most / 2).map(|n| of_kind(half * most + n)).collect()));
        let replies = w.batch(&halves.collect::<Vec<_>>());
        assert!(matches!(replies[0], Reply::Enqueued(_)));
        assert_eq!(replies[1], too_many("kinds"), "what the same batch made up counts");
    });
}
