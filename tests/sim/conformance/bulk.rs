//! Verbs on many jobs, in bounded steps; and the tags by which they are found.

use runner_store::clock::Clock;
use runner_store::command::{Bulk, BulkVerb, Command, JobsQuery, Reply};
use runner_store::engine::redb::{Commit, Redb};
use runner_store::job::{Edit, JobId, JobSpec, OnConflict, StateName, TenantId};
use runner_store::writer::step;

use crate::world::*;

fn all() -> JobsQuery {
    JobsQuery::all(TENANT, 100)
}

fn in_state(state: StateName) -> JobsQuery {
    JobsQuery { state: Some(state), ..all() }
}

fn bulk(filter: JobsQuery, verb: BulkVerb) -> Command {
    Command::Bulk(Box::new(Bulk { filter, verb }))
}

fn tagged(key: &str, value: &str) -> JobSpec {
    work_with(|s| s.tags = vec![(key.to_owned(), value.to_owned())])
}

/// Repeats from where each step ended; answers (matched, changed) of each.
#[track_caller]
fn steps(w: &mut World, filter: &JobsQuery, verb: &BulkVerb) -> Vec<(u32, u32)> {
    let mut steps = Vec::new();
    let mut before = None;
    loop {
        let reply = w.batch(&[bulk(JobsQuery { beyond: before, ..filter.clone() }, verb.clone())]).remove(0);
        let Reply::Bulk { matched, changed, next } = reply else { panic!("{reply:?}") };
        steps.push((matched, changed));
        assert!(steps.len() < 100);
        before = next;
        if before.is_none() {
            return steps;
        }
    }
}

#[test]
fn a_verb_goes_newest_first_in_steps_to_the_end() {
    case(|w| {
        let ids = w.enqueue_all(vec![work_with(|s| s.hold = true); 25]);
        let filter = JobsQuery { limit: 10, ..in_state(StateName::Held) };
        assert_eq!(steps(w, &filter, &BulkVerb::Release), [(10, 10), (10, 10), (5, 5)]);
        assert!(ids.iter().all(|id| w.state(*id) == StateName::Available));
        assert_eq!(steps(w, &filter, &BulkVerb::Release), [(0, 0)]);
        let filter = JobsQuery { limit: 25, ..all() };
        assert_eq!(steps(w, &filter, &BulkVerb::Cancel { reason: None }), [(25, 25), (0, 0)], "a full page may go on");
    });
}

#[test]
fn a_step_looks_at_a_thousand_jobs_at_most() {
    case(|w| {
        w.enqueue_all(vec![work_with(|s| s.args = vec![]); 2_300]);
        let filter = JobsQuery { limit: u32::MAX, ..all() };
        let verb = BulkVerb::Delete { force: false, cascade: false };
        assert_eq!(steps(w, &filter, &verb), [(1_000, 1_000), (1_000, 1_000), (300, 300)]);
        assert_eq!(w.check().jobs, []);
    });
}

/// The story: a job counted as waited for although whoever waited for it had gone in the same step, and of a chain of a
/// thousand jobs each pass over all of them took one.
#[test]
fn a_chain_goes_in_one_step() {
    case(|w| {
        let mut last = w.enqueue(work());
        for _ in 0..50 {
            last = w.enqueue(work_after(&[last]));
        }
        let reply = w.call(bulk(all(), BulkVerb::Delete { force: false, cascade: false }));
        assert_eq!(reply, Reply::Bulk { matched: 51, changed: 51, next: None });
    });
}

#[test]
fn what_cannot_be_done_to_a_job_passes_it_over() {
    case(|w| {
        let on = w.enqueue(work());
        let waits = w.enqueue(work_after(&[on]));
        let running = w.enqueue(work_with(|s| s.priority = runner_store::job::Priority(-1)));
        w.start(running);
        let done = w.enqueue(work());
        w.call(cancel(done));
        let reply = w.call(bulk(all(), BulkVerb::Delete { force: false, cascade: false }));
        assert_eq!(reply, Reply::Bulk { matched: 4, changed: 3, next: None }, "newest first: who waits goes before");
        assert!(w.find(running).is_some() && w.find(waits).is_none() && w.find(on).is_none());
        let reply = w.call(bulk(all(), BulkVerb::Delete { force: true, cascade: false }));
        assert_eq!(reply, Reply::Bulk { matched: 1, changed: 1, next: None });
    });
    case(|w| {
        let ids = w.enqueue_all(vec![work(), work(), work()]);
        w.start(ids[0]);
        w.call(cancel(ids[1]));
        let verb = BulkVerb::Cancel { reason: Some("all of them".to_owned()) };
        assert_eq!(w.call(bulk(all(), verb.clone())), Reply::Bulk { matched: 3, changed: 2, next: None });
        assert!(w.job(ids[0]).lease().unwrap().cancel.is_some(), "a running one is flagged");
        assert_eq!(w.call(bulk(all(), verb)), Reply::Bulk { matched: 3, changed: 0, next: None });
    });
}

/// A unique key that another job holds by now: counted and skipped.
#[test]
fn a_retry_of_many_skips_whose_key_is_held() {
    case(|w| {
        let first = w.enqueue(unique("k", OnConflict::Reject));
        w.call(cancel(first));
        let second = w.enqueue(unique("k", OnConflict::Reject));
        w.call(cancel(second));
        let other = w.enqueue(work());
        w.call(cancel(other));
        let reply = w.call(bulk(in_state(StateName::Cancelled), BulkVerb::Retry));
        assert_eq!(reply, Reply::Bulk { matched: 3, changed: 2, next: None }, "the newer one takes the key");
        assert_eq!((w.state(first), w.state(second)), (StateName::Cancelled, StateName::Available));
        assert_eq!(w.holder("k"), Some(second.0));
    });
}

#[test]
fn deleting_many_with_cascade_tells_those_that_wait() {
    case(|w| {
        let hubs = w.enqueue_all(vec![work(); 3]);
        let waits = w.enqueue(JobSpec { kind: "other".to_owned(), ..work_after(&hubs) });
        let kind = Some(w.lane("default", "work").kind);
        let reply = w.call(bulk(JobsQuery { kind, ..all() }, BulkVerb::Delete { force: false, cascade: true }));
        assert_eq!(reply, Reply::Bulk { matched: 3, changed: 3, next: None });
        assert_eq!(w.state(waits), StateName::Cancelled);
    });
}

#[test]
fn several_verbs_of_one_batch_see_each_other() {
    case(|w| {
        w.enqueue_all(vec![work(); 4]);
        let replies = w.batch(&[
            bulk(all(), BulkVerb::Cancel { reason: None }),
            bulk(JobsQuery { limit: 2, ..all() }, BulkVerb::Retry),
            bulk(all(), BulkVerb::Delete { force: false, cascade: false }),
        ]);
        let changed = |reply: &Reply| match reply {
            Reply::Bulk { changed, .. } => *changed,
            other => panic!("{other:?}"),
        };
        assert_eq!(replies.iter().map(changed).collect::<Vec<_>>(), [4, 2, 4]);
    });
}

#[test]
fn a_verb_reaches_its_tenant_only() {
    case(|w| {
        let theirs = runner_store::command::Enqueue::new(TenantId(2), vec![work(); 2]);
        w.call(Command::Enqueue(theirs));
        w.enqueue(work());
        let reply = w.call(bulk(all(), BulkVerb::Delete { force: true, cascade: true }));
        assert_eq!(reply, Reply::Bulk { matched: 1, changed: 1, next: None });
        assert_eq!(w.check().jobs.len(), 2);
    });
}

#[test]
fn jobs_are_found_by_a_tag_as_it_is_now() {
    case(|w| {
        let ids = w.enqueue_all(vec![tagged("a", "1"), tagged("a", "2"), tagged("b", "1"), tagged("a", "1"), work()]);
        let with = |key: &str, value: &str| JobsQuery { tag: Some((key.to_owned(), value.to_owned())), ..all() };
        assert_eq!(w.list(with("a", "1")), [4, 1]);
        assert_eq!(w.list(JobsQuery { beyond: Some(ids[3]), ..with("a", "1") }), [1]);
        assert_eq!(w.list(JobsQuery { limit: 1, ..with("a", "1") }), [4]);
        assert_eq!(w.list(with("a", "")), [0; 0]);
        w.call(edit(ids[0], Edit { tags: Some(vec![("b".to_owned(), "1".to_owned())]), ..Edit::default() }));
        w.call(delete(ids[3]));
        assert_eq!((w.list(with("a", "1")), w.list(with("b", "1"))), (vec![], vec![3, 1]));
        w.call(cancel(ids[2]));
        let cancelled = JobsQuery { state: Some(StateName::Cancelled), ..with("b", "1") };
        assert_eq!(w.list(cancelled.clone()), [3]);
        let reply = w.call(bulk(cancelled, BulkVerb::Retry));
        assert_eq!(reply, Reply::Bulk { matched: 1, changed: 1, next: None });
        assert_eq!(w.list(JobsQuery { tenant: TenantId(2), ..with("b", "1") }), [0; 0]);
        assert_eq!(w.state(JobId(3)), StateName::Available);
    });
}

/// A step looks at so many rows of a file at most. Where the ones that matched lay behind them, it said that there were no
/// others.
#[test]
fn a_step_that_finds_nothing_among_the_rows_it_looked_at_says_where_to_go_on() {
    let dir = quick_dir();
    let clock = Clock::manual(START);
    let mut engine = Redb::create(&dir.path().join("jobs.redb"), clock, Commit::OnePhase).unwrap();
    let mut call = |command: Command| step(&mut engine, &[command]).unwrap().0.replies.remove(0);
    let spec = |hold| JobSpec { args: Vec::new(), hold, ..tagged("a", "b") };
    call(enqueue(vec![spec(true)]));
    call(enqueue(vec![spec(false); 4_000]));
    let filter = JobsQuery { tag: Some(("a".to_owned(), "b".to_owned())), ..in_state(StateName::Held) };
    let reply = call(bulk(filter.clone(), BulkVerb::Release));
    let Reply::Bulk { matched: 0, changed: 0, next: Some(before) } = reply else { panic!("{reply:?}") };
    let reply = call(bulk(JobsQuery { beyond: Some(before), ..filter }, BulkVerb::Release));
    assert_eq!(reply, Reply::Bulk { matched: 1, changed: 1, next: None });
}
