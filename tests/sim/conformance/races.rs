//! What a command of a batch makes of what the commands before it left, where that is not what was read.

use runner_store::command::{Command, Enqueue, Merged, Part, Reply};
use runner_store::job::{Invalid, JobId, JobSpec, Millis, OnConflict, Rejection, StateName, States, Unique, limits};

use crate::world::*;

fn merging(args: &str) -> JobSpec {
    JobSpec { args: args.as_bytes().to_vec(), ..unique("k", OnConflict::Merge) }
}

/// A job had let go of its unique key and took it again in the batch in which somebody merged with its holder. Its args
/// had not been read, so the new ones were merged with nothing, and took their place.
#[test]
fn a_merge_sees_the_args_of_a_holder_that_has_just_taken_its_key_again() {
    // Run again by hand, or come to a state in which it holds its key.
    for by_time in [false, true] {
        case(|w| {
            let holder = w.enqueue(work_with(|s| {
                *s = merging("kept");
                if by_time {
                    s.delay = Some(Millis(50));
                    let states = States::of([StateName::Available]);
                    s.unique = s.unique.take().map(|unique| Unique { states, ..unique });
                }
            }));
            let take_again = if by_time {
                w.advance(50);
                Command::Due
            } else {
                w.call(cancel(holder));
                retry(holder)
            };
            assert_eq!(w.holder("k"), None);
            let replies = w.batch(&[take_again, enqueue(vec![merging("new")])]);
            let Reply::NeedsMerge(needs) = &replies[1] else { panic!("{replies:?}") };
            assert_eq!((needs[0].holder, needs[0].args.as_slice()), (holder, &b"kept"[..]));
        });
    }
}

/// Args that were merged may be larger than args may be, and nobody looked.
#[test]
fn merged_args_keep_the_bound_of_args() {
    case(|w| {
        let holder = w.enqueue(merging("old"));
        let call = Enqueue::new(TENANT, vec![merging("new")]);
        let Reply::NeedsMerge(needs) = w.call(Command::Enqueue(call.clone())) else { panic!("not to be merged") };
        let args = vec![b'x'; limits::PAYLOAD_BYTES_MAX + 1];
        let merged = vec![Merged { position: 0, holder, version: needs[0].version, args, key: None }];
        let reply = w.call(Command::Enqueue(Enqueue { merged, ..call }));
        assert!(
            matches!(&reply, Reply::Rejected(Rejection::Invalid(Invalid { field, .. })) if field == "args"),
            "{reply:?}"
        );
        assert_eq!(w.payload(holder, Part::Args).as_deref(), Some(&b"old"[..]));
    });
}

/// Two jobs of a list became one by their unique key, and with it a circle that the list did not have: its jobs were
/// accepted, waited for one that was not there yet, and were cancelled.
#[test]
fn jobs_of_a_list_that_are_one_job_do_not_wait_for_themselves() {
    let keyed = |places: &[u32]| JobSpec { depends_on: after_places(places), ..unique("k", OnConflict::Keep) };
    let plain = |places: &[u32]| JobSpec { depends_on: after_places(places), ..work() };
    for list in [
        vec![keyed(&[1]), keyed(&[])],
        vec![keyed(&[1]), plain(&[2]), keyed(&[])],
        vec![plain(&[2]), keyed(&[0]), keyed(&[])],
    ] {
        case(|w| {
            let reply = w.call(enqueue(list.clone()));
            assert!(matches!(reply, Reply::Rejected(Rejection::Invalid(_))), "{reply:?}");
            assert_eq!(w.log(0, 10).len(), 0);
        });
    }
    case(|w| {
        let ids = w.enqueue_all(vec![keyed(&[]), plain(&[2]), keyed(&[3]), plain(&[])]);
        assert_eq!((ids[2], w.state(ids[1])), (ids[0], StateName::Blocked));
        assert_eq!(w.job(ids[0]).dependencies, [], "what joins another waits for nothing of its own");
    });
    // Without a circle: the one that is joined comes after its own dependency, and before who waits for it.
    case(|w| {
        let ids = w.enqueue_all(vec![plain(&[2]), keyed(&[3]), keyed(&[]), plain(&[])]);
        assert_eq!([ids[0], ids[1], ids[3]].map(|id| w.state(id).as_str()), ["blocked", "blocked", "available"]);
    });
}

/// A job was cancelled because of another, and revived with it before those that waited for itself had been told: then
/// they were cancelled because of a job that ran, and nobody revived them.
#[test]
fn what_is_being_told_of_an_end_is_revived_after_it() {
    case(|w| {
        let first = w.enqueue(work());
        let second = w.enqueue(work_after(&[first]));
        let third = w.enqueue_all(vec![JobSpec { args: Vec::new(), ..work_after(&[second]) }; 1_500]);
        w.batch(&[cancel(first)]);
        // The first is told, and with it some of those that wait for the second.
        w.batch(&[Command::Settle]);
        assert_eq!(w.state(second), StateName::Cancelled);
        assert_eq!(w.state(third[1_499]), StateName::Blocked);
        let replies = w.batch(&[retry(first), revive(first)]);
        assert_eq!(replies[1], Reply::Rejected(Rejection::Settling));
        assert_eq!(w.state(second), StateName::Cancelled);
        w.settle();
        w.call(revive(first));
        let revived = revive_all(w, second);
        assert_eq!(revived, third);
    });
}

/// Every step of a revival, from where the one before ended.
fn revive_all(w: &mut World, job: JobId) -> Vec<JobId> {
    let (mut revived, mut after) = (Vec::new(), None);
    loop {
        let Reply::Revived { jobs, next } = w.call(Command::Revive { job: at(job), after }) else {
            panic!("not revived")
        };
        revived.extend(jobs);
        after = next;
        if after.is_none() {
            return revived;
        }
    }
}

/// A thousand jobs that could not run again, as others held their keys by now, stood before one that could.
#[test]
fn what_cannot_be_revived_does_not_keep_back_what_can() {
    case(|w| {
        let hub = w.enqueue(work());
        let keyed = |i: usize| JobSpec { depends_on: after(&[hub]), ..unique(&format!("k{i}"), OnConflict::Keep) };
        let ids = w.enqueue_all((0..1_000).map(keyed).collect());
        let last = w.enqueue(work_after(&[hub]));
        w.call(cancel(hub));
        w.enqueue_all((0..1_000).map(|i| unique(&format!("k{i}"), OnConflict::Keep)).collect());
        w.call(retry(hub));
        assert_eq!(revive_all(w, hub), [last]);
        assert_eq!(w.state(ids[0]), StateName::Cancelled);
    });
}

/// A step of a revival was bounded by its jobs, and each of them may name a hundred others, which are read as well.
#[test]
fn a_revival_of_jobs_that_name_many_others_takes_more_steps() {
    case(|w| {
        let hubs = w.enqueue_all(vec![work(); 100]);
        let ids = w.enqueue_all(vec![JobSpec { args: Vec::new(), ..work_after(&hubs) }; 100]);
        w.call(cancel(hubs[0]));
        w.call(retry(hubs[0]));
        let Reply::Revived { jobs, next } = w.call(revive(hubs[0])) else { panic!("not revived") };
        assert_eq!((jobs.as_slice(), next), (&ids[..41], Some(ids[40])));
        let Reply::Revived { jobs, next } = w.call(Command::Revive { job: at(hubs[0]), after: next }) else {
            panic!("not revived")
        };
        assert_eq!((jobs.as_slice(), next), (&ids[41..82], Some(ids[81])));
    });
}
