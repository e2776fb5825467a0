//! What can be asked: lists with filters and pages, counts, the log, the next due time.

use runner_store::command::{Answer, Command, CountKey, JobsQuery, Query};
use runner_store::job::{JobId, JobSpec, KindId, Millis, QueueId, Seq, StateName, TenantId, Time};

use crate::world::*;

const ALL: JobsQuery =
    JobsQuery { tenant: TENANT, state: None, queue: None, kind: None, tag: None, before: None, limit: 1_000 };

fn counts(w: &World) -> Vec<(CountKey, u64)> {
    match w.ask(&Query::Counts) {
        Answer::Counts(counts) => counts,
        other => panic!("{other:?}"),
    }
}

fn next_due(w: &World) -> Option<Time> {
    match w.ask(&Query::NextDue) {
        Answer::NextDue(time) => time,
        other => panic!("{other:?}"),
    }
}

/// Twelve jobs: kinds a and b, queues p and q, every third on hold.
fn some_jobs(w: &mut World) {
    for i in 0..12 {
        let kind = if i % 2 == 0 { "a" } else { "b" };
        let queue = if i < 6 { "p" } else { "q" };
        w.enqueue(JobSpec { queue: queue.to_owned(), hold: i % 3 == 0, ..JobSpec::new(kind, "x") });
    }
}

#[test]
fn lists_are_newest_first_and_filtered() {
    case(|w| {
        some_jobs(w);
        let (a, p) = (w.lane("p", "a").kind, w.lane("p", "a").queue);
        assert_eq!(w.list(ALL), [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(w.list(JobsQuery { state: Some(StateName::Held), ..ALL }), [10, 7, 4, 1]);
        assert_eq!(w.list(JobsQuery { kind: Some(a), ..ALL }), [11, 9, 7, 5, 3, 1]);
        assert_eq!(w.list(JobsQuery { queue: Some(p), ..ALL }), [6, 5, 4, 3, 2, 1]);
        let both = JobsQuery { queue: Some(p), kind: Some(a), state: Some(StateName::Available), ..ALL };
        assert_eq!(w.list(both), [5, 3]);
        assert_eq!(w.list(JobsQuery { kind: Some(KindId(999)), ..ALL }), [0; 0]);
        assert_eq!(w.list(JobsQuery { queue: Some(QueueId(999)), ..ALL }), [0; 0]);
        assert_eq!(w.list(JobsQuery { tenant: TenantId(2), ..ALL }), [0; 0]);
        assert_eq!(w.list(JobsQuery { limit: 0, ..ALL }), [0; 0]);
    });
}

#[test]
fn pages_follow_each_other_without_gap_or_overlap() {
    case(|w| {
        some_jobs(w);
        for limit in [1, 2, 5, 12] {
            let mut all = Vec::new();
            let mut before = None;
            loop {
                let page = w.list(JobsQuery { before, limit, ..ALL });
                let Some(last) = page.last() else { break };
                before = Some(JobId(*last));
                all.extend(page);
            }
            assert_eq!(all, w.list(ALL), "in pages of {limit}");
        }
    });
}

/// More than 256 combinations of state, queue and kind: the lists are not merged any more, rows are walked.
#[test]
fn lists_of_many_kinds_are_the_same() {
    case(|w| {
        let jobs = (0..300).map(|i| JobSpec::new(format!("kind-{i}"), "")).collect();
        w.enqueue_all(jobs);
        assert!(w.list(ALL).into_iter().eq((1..=300).rev()));
        assert!(w.list(JobsQuery { before: Some(JobId(200)), limit: 50, ..ALL }).into_iter().eq((150..200).rev()));
        assert_eq!(w.list(JobsQuery { limit: 0, ..ALL }), [0; 0]);
        let kind = w.lane("default", "kind-7").kind;
        assert_eq!(w.list(JobsQuery { kind: Some(kind), ..ALL }), [8]);
        assert_eq!(w.list(JobsQuery { state: Some(StateName::Held), ..ALL }), [0; 0]);
    });
}

#[test]
fn a_page_has_at_most_a_thousand_rows() {
    case(|w| {
        w.enqueue_all(vec![JobSpec::new("work", ""); 1_200]);
        assert_eq!(w.list(JobsQuery { limit: u32::MAX, ..ALL }).len(), 1_000);
        assert_eq!(w.log(0, u32::MAX).len(), 1_000);
    });
}

#[test]
fn counts_follow_every_job() {
    case(|w| {
        let ids = w.enqueue_all(vec![work(); 5]);
        w.call(cancel(ids[0]));
        w.start(ids[1]);
        let lane = w.lane("default", "work");
        let count = |state, n| (CountKey { lane, state }, n);
        let expected = [count(StateName::Available, 3), count(StateName::Running, 1), count(StateName::Cancelled, 1)];
        assert_eq!(counts(w), expected);
        w.finish(ids[1], completed());
        ids.iter().for_each(|id| _ = w.call(Command::Delete { job: at(*id), force: false, cascade: false }));
        assert_eq!(counts(w), []);
    });
}

#[test]
fn a_commit_says_how_the_counts_changed() {
    case(|w| {
        w.enqueue_all(vec![work(); 3]);
        let lane = w.lane("default", "work");
        assert_eq!(w.persisted().counts, [(CountKey { lane, state: StateName::Available }, 3)]);
        w.claim(1);
        let changed = [(StateName::Available, -1), (StateName::Running, 1)];
        assert_eq!(w.persisted().counts, changed.map(|(state, n)| (CountKey { lane, state }, n)));
        w.claim(0);
        assert_eq!(w.persisted().counts, []);
    });
}

#[test]
fn the_log_is_read_by_number_and_each_event_begins_where_the_one_before_ended() {
    case(|w| {
        let id = w.enqueue(work());
        w.run_once(id, failed("no"));
        w.advance(10_000);
        w.run_once(id, completed());
        let log = w.log(0, 100);
        assert!(log.iter().map(|entry| entry.seq.0).eq(1..=6));
        assert_eq!(w.events(id), ["enqueued", "started", "retrying", "available", "started", "completed"]);
        assert_eq!(log[0].before, 0);
        for pair in log.windows(2) {
            assert_eq!(pair[0].after, pair[1].before);
        }
        assert_eq!(w.log(1, 100), log);
        assert_eq!(w.log(4, 2), log[3..5]);
        assert_eq!(w.log(7, 100), []);
        assert_eq!(w.log(u64::MAX, 100), []);
        assert_eq!(w.persisted().last_seq, Seq(6));
    });
}

#[test]
fn the_next_due_time_is_that_of_the_first_that_waits() {
    case(|w| {
        assert_eq!(next_due(w), None);
        let later = w.enqueue(work_with(|s| s.delay = Some(Millis(500))));
        let sooner = w.enqueue(work_with(|s| s.delay = Some(Millis(100))));
        w.enqueue(work_with(|s| (s.delay, s.hold) = (Some(Millis(1)), true)));
        assert_eq!(next_due(w), Some(Time(START.0 + 100)));
        w.call(cancel(sooner));
        assert_eq!((next_due(w), w.persisted().next_due), (Some(Time(START.0 + 500)), Some(Time(START.0 + 500))));
        w.call(Command::Retry { job: at(later), fresh: false });
        assert_eq!(next_due(w), None);
    });
}

#[test]
fn everything_is_there_after_a_restart() {
    case(|w| {
        some_jobs(w);
        let before = w.check();
        w.reopen();
        assert_eq!(w.check(), before);
        assert_eq!(w.enqueue(work()), JobId(13));
    });
}
