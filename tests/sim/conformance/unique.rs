//! Unique keys: what an enqueue does that finds its key held, by each mode, with a holder in each state.

use runner_store::command::{Command, Enqueue, Enqueued, Merged, NeedsMerge, Part, Reply};
use runner_store::job::{
    Edit, Invalid, JobId, JobSpec, Millis, OnConflict, Outcome, Priority, Rejection, StateName, TenantId, Time,
};

use crate::world::*;

const DEBOUNCE: OnConflict = OnConflict::Debounce { delay: Millis(100), max: None };
const REJECT: Reply = Reply::Rejected(Rejection::UniqueHeld(JobId(1)));

/// Brings the first job, which has the key, into this state.
#[track_caller]
fn holder_in(w: &mut World, state: StateName) -> JobId {
    let first = w.enqueue(work_with(|s| {
        *s = unique("k", OnConflict::Keep);
        match state {
            StateName::Held => s.hold = true,
            StateName::Scheduled => s.delay = Some(Millis(1_000)),
            _ => {}
        }
    }));
    match state {
        StateName::Retryable => _ = w.run_once(first, failed("no")),
        StateName::Running => _ = w.start(first),
        StateName::Completed => _ = w.run_once(first, completed()),
        StateName::Discarded => _ = w.run_once(first, Outcome::Discarded { reason: "no".to_owned() }),
        StateName::Cancelled => _ = w.call(cancel(first)),
        _ => {}
    }
    assert_eq!((first, w.state(first)), (JobId(1), state));
    first
}

/// What becomes of a second call: `kept`, `changed`, `new`, `refused` or `merge`.
fn fate(w: &mut World, mode: OnConflict) -> &'static str {
    let before = w.log(0, 100).len();
    match w.call(enqueue(vec![JobSpec { args: b"new".to_vec(), ..unique("k", mode) }])) {
        Reply::Enqueued(jobs) if !jobs[0].duplicate => "new",
        Reply::Enqueued(jobs) => {
            assert_eq!(jobs[0].id, JobId(1));
            let changed = w.payload(JobId(1), Part::Args).as_deref() == Some(b"new");
            assert_eq!(changed, w.log(0, 100).len() > before, "an event, if anything changed");
            if changed { "changed" } else { "kept" }
        }
        Reply::NeedsMerge(needs) => {
            assert_eq!((needs[0].holder, needs[0].args.as_slice()), (JobId(1), &b"{}"[..]));
            "merge"
        }
        reply => {
            assert_eq!(reply, REJECT);
            "refused"
        }
    }
}

#[test]
fn each_mode_does_its_own_with_a_holder_in_each_state() {
    const TABLE: &str = "
        held      kept  changed changed merge refused
        scheduled kept  changed changed merge refused
        retryable kept  changed changed merge refused
        available kept  changed changed merge refused
        running   kept  new     new     new   refused
        completed new   new     new     new   new
        discarded new   new     new     new   new
        cancelled new   new     new     new   new
    ";
    let modes = [OnConflict::Keep, OnConflict::Replace, DEBOUNCE, OnConflict::Merge, OnConflict::Reject];
    for line in TABLE.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let state = StateName::parse(words.next().unwrap()).unwrap();
        for (mode, expected) in modes.into_iter().zip(words) {
            case(|w| {
                holder_in(w, state);
                assert_eq!(fate(w, mode), expected, "{mode:?}, holder {state}");
                let holder = if expected == "new" { 2 } else { 1 };
                assert_eq!(w.holder("k"), Some(holder), "{mode:?}, holder {state}");
            });
        }
    }
}

#[test]
fn a_key_belongs_to_its_tenant() {
    case(|w| {
        w.enqueue(unique("k", OnConflict::Reject));
        let theirs = Enqueue::new(TenantId(2), vec![unique("k", OnConflict::Reject)]);
        assert_eq!(ids(&w.call(Command::Enqueue(theirs))), [JobId(2)]);
        assert_eq!(w.call(enqueue(vec![unique("k", OnConflict::Reject)])), REJECT);
        assert_eq!(w.enqueue(unique("l", OnConflict::Reject)), JobId(3));
    });
}

/// It gets everything that the call states; its queue, its dependencies and its place stay.
#[test]
fn replace_gives_the_holder_what_the_call_states() {
    case(|w| {
        let on = w.enqueue(work());
        let holder = w.enqueue(JobSpec { depends_on: after(&[on]), ..unique("k", OnConflict::Keep) });
        w.enqueue(JobSpec {
            priority: Priority(7),
            timeout: Some(Millis(9)),
            max_attempts: Some(3),
            tags: vec![("a".to_owned(), "b".to_owned())],
            args: b"2".to_vec(),
            delay: Some(Millis(500)),
            queue: "other".to_owned(),
            ..unique("k", OnConflict::Replace)
        });
        let job = w.job(holder);
        assert_eq!((job.priority, job.timeout, job.max_attempts), (Priority(7), Some(Millis(9)), Some(3)));
        assert_eq!((job.tags.len(), job.run_at), (1, Time(START.0 + 500)));
        assert_eq!((job.state.name(), job.unsettled()), (StateName::Blocked, 1));
        assert_eq!(w.payload(holder, Part::Args), Some(b"2".to_vec()));
        assert_eq!(w.lane("default", "work").queue, job.queue);
        assert_eq!(w.events(holder), ["enqueued", "edited"]);
        assert_eq!(w.log(0, 100).len(), 3, "no other job came of it");
    });
}

#[test]
fn a_call_for_another_kind_does_not_change_the_holder() {
    case(|w| {
        w.enqueue(unique("k", OnConflict::Keep));
        let other = |mode| JobSpec { kind: "other".to_owned(), ..unique("k", mode) };
        for mode in [OnConflict::Replace, DEBOUNCE, OnConflict::Merge] {
            assert_eq!(w.call(enqueue(vec![other(mode)])), REJECT);
        }
        assert_eq!(w.enqueue(other(OnConflict::Keep)), JobId(1));
    });
}

/// Each call puts it off by the delay, the first one too, and all together by no more than the bound.
#[test]
fn debounce_puts_a_job_off_up_to_its_bound() {
    for (max, bound) in [(None, 1_000), (Some(Millis(250)), 250)] {
        case(|w| {
            let spec = unique("k", OnConflict::Debounce { delay: Millis(100), max });
            let id = w.enqueue(spec.clone());
            assert_eq!((w.state(id), w.job(id).run_at), (StateName::Scheduled, Time(START.0 + 100)));
            for now in (60..bound).step_by(60) {
                w.advance(60);
                assert_eq!(w.claim(9), [0; 0], "{now} ms");
                assert_eq!(w.enqueue(spec.clone()), id);
                assert_eq!(w.job(id).run_at, Time(START.0 + (now + 100).min(bound)), "{now} ms");
            }
            w.advance(60);
            assert_eq!(w.claim(9), [id.0]);
        });
    }
}

#[test]
fn debounce_moves_what_waits_for_a_retry_too() {
    case(|w| {
        let id = w.enqueue(unique("k", OnConflict::Keep));
        w.run_once(id, Outcome::Failed { message: "no".to_owned(), retry_after: Some(Millis(5_000)) });
        w.enqueue(unique("k", DEBOUNCE));
        assert_eq!((w.state(id), w.job(id).run_at), (StateName::Retryable, Time(START.0 + 100)));
        assert_eq!(w.job(id).attempts, 1, "it has failed all the same");
    });
}

fn merging(position: u32, need: &NeedsMerge, args: &str) -> Merged {
    Merged { position, holder: need.holder, version: need.version, args: args.as_bytes().to_vec(), key: None }
}

/// The call that finds its key held, and what it answers.
fn needs(w: &mut World, call: &Enqueue) -> Vec<NeedsMerge> {
    match w.call(Command::Enqueue(call.clone())) {
        Reply::NeedsMerge(needs) => needs,
        other => panic!("{other:?}"),
    }
}

#[test]
fn merge_is_two_commands_and_a_changed_holder_begins_again() {
    case(|w| {
        let id = w.enqueue(JobSpec { args: b"1".to_vec(), ..unique("k", OnConflict::Keep) });
        let mut call = Enqueue::new(TENANT, vec![JobSpec { args: b"2".to_vec(), ..unique("k", OnConflict::Merge) }]);
        let need = needs(w, &call).remove(0);
        assert_eq!((need.position, need.holder, need.args.as_slice()), (0, id, &b"1"[..]));
        w.call(edit(id, Edit { args: Some(b"5".to_vec()), ..Edit::default() }));
        call.merged = vec![merging(0, &need, "1+2")];
        let need = needs(w, &call).remove(0);
        assert_eq!(need.args, b"5");
        call.merged = vec![merging(0, &need, "5+2")];
        let reply = w.call(Command::Enqueue(call.clone()));
        assert_eq!(reply, Reply::Enqueued(vec![Enqueued { id, state: StateName::Available, duplicate: true }]));
        assert_eq!(w.payload(id, Part::Args), Some(b"5+2".to_vec()));
        assert_eq!(needs(w, &call)[0].args, b"5+2", "the same version is merged once");
        w.run_once(id, completed());
        let reply = w.call(Command::Enqueue(call));
        let Reply::Enqueued(jobs) = reply else { panic!("{reply:?}") };
        assert!(!jobs[0].duplicate, "there is nobody to be merged with any more");
        assert_eq!(w.payload(jobs[0].id, Part::Args), Some(b"2".to_vec()));
    });
}

/// Two of one batch see each other: the second's version is not the one that the first has changed.
#[test]
fn two_merges_of_one_batch_do_not_lose_each_other() {
    case(|w| {
        w.enqueue(JobSpec { args: b"0".to_vec(), ..unique("k", OnConflict::Keep) });
        let call = Enqueue::new(TENANT, vec![JobSpec { args: b"1".to_vec(), ..unique("k", OnConflict::Merge) }]);
        let need = needs(w, &call).remove(0);
        let merged = |args: &str| Command::Enqueue(Enqueue { merged: vec![merging(0, &need, args)], ..call.clone() });
        let replies = w.batch(&[merged("0+1"), merged("0+1")]);
        assert!(matches!(&replies[0], Reply::Enqueued(_)));
        let Reply::NeedsMerge(again) = &replies[1] else { panic!("{replies:?}") };
        assert_eq!(again[0].args, b"0+1", "the args as the batch has made them");
    });
}

/// The story: a list had two jobs with the key of a third that was there already. Both were merged with the args that it
/// had before, and one of them was lost.
#[test]
fn a_list_merges_each_key_once() {
    case(|w| {
        w.enqueue(JobSpec { args: b"0".to_vec(), ..unique("k", OnConflict::Keep) });
        let one = JobSpec { args: b"1".to_vec(), ..unique("k", OnConflict::Merge) };
        let reply = w.call(enqueue(vec![one.clone(), one]));
        let Reply::Rejected(Rejection::Invalid(Invalid { field, .. })) = reply else { panic!("{reply:?}") };
        assert_eq!(field, "jobs[1].unique");
    });
}

#[test]
fn nothing_of_a_list_happens_while_one_of_it_is_to_be_merged() {
    case(|w| {
        let id = w.enqueue(unique("k", OnConflict::Keep));
        let before = w.log(0, 100).len();
        let mut call = Enqueue::new(TENANT, vec![work(), unique("k", OnConflict::Merge), work()]);
        let need = needs(w, &call).remove(0);
        assert_eq!((need.position, w.log(0, 100).len()), (1, before));
        call.merged = vec![merging(1, &need, "m")];
        assert_eq!(ids(&w.call(Command::Enqueue(call))), [JobId(2), id, JobId(3)]);
    });
}

/// The keys of a list against each other.
#[track_caller]
fn check_list(modes: &[OnConflict], expected: Result<(&[u64], &str), &str>) {
    case(|w| {
        let job = |(i, mode): (usize, &OnConflict)| JobSpec { args: vec![b'0' + i as u8], ..unique("k", *mode) };
        let reply = w.call(enqueue(modes.iter().enumerate().map(job).collect()));
        match (&reply, expected) {
            (Reply::Enqueued(jobs), Ok((ids, args))) => {
                assert!(jobs.iter().map(|job| job.id.0).eq(ids.iter().copied()), "{modes:?}: {jobs:?}");
                assert_eq!(w.payload(JobId(1), Part::Args).as_deref(), Some(args.as_bytes()), "{modes:?}");
                let duplicates: Vec<bool> = jobs.iter().map(|job| job.duplicate).collect();
                assert!(!duplicates[0] && duplicates[1..].iter().all(|d| *d), "{modes:?}: {jobs:?}");
            }
            (Reply::Rejected(Rejection::Invalid(Invalid { field, .. })), Err(refused)) => assert_eq!(field, refused),
            _ => panic!("{modes:?}: {reply:?}"),
        }
    });
}

#[test]
fn jobs_of_one_list_with_one_key_are_one_job() {
    use OnConflict::{Keep, Merge, Reject, Replace};
    check_list(&[Keep, Keep], Ok((&[1, 1], "0")));
    check_list(&[Keep, Replace, Replace], Ok((&[1, 1, 1], "2")));
    check_list(&[Replace, Keep], Ok((&[1, 1], "0")));
    check_list(&[Keep, DEBOUNCE], Ok((&[1, 1], "1")));
    check_list(&[Keep, Reject], Err("jobs[1].unique"));
    check_list(&[Reject, Keep], Ok((&[1, 1], "0")));
    check_list(&[Keep, Merge], Err("jobs[1].unique"));
}

#[test]
fn a_list_whose_key_is_held_is_refused_as_a_whole() {
    case(|w| {
        w.enqueue(unique("k", OnConflict::Keep));
        let before = w.log(0, 100).len();
        assert_eq!(w.call(enqueue(vec![work(), unique("k", OnConflict::Reject)])), REJECT);
        assert_eq!(w.log(0, 100).len(), before);
    });
}

#[test]
fn a_key_keeps_its_bounds() {
    let refused = |change: fn(&mut runner_store::job::Unique), field: &str| {
        case(|w| {
            let mut spec = unique("k", OnConflict::Keep);
            spec.unique.as_mut().map(change);
            let reply = w.call(enqueue(vec![spec]));
            let Reply::Rejected(Rejection::Invalid(invalid)) = reply else { panic!("{reply:?}") };
            assert_eq!(invalid.field, field);
        });
    };
    refused(|u| u.key = String::new(), "unique.key");
    refused(|u| u.key = "k".repeat(257), "unique.key");
    refused(|u| u.states = runner_store::job::States::of([]), "unique.states");
    refused(|u| u.period = Some(Millis(u64::MAX)), "unique.period");
    refused(|u| u.on_conflict = OnConflict::Debounce { delay: Millis(u64::MAX), max: None }, "unique.delay");
}
