//! What can be asked: lists with filters and pages, counts, the log, the next due time.

use runner_store::command::{About, Answer, Command, CountKey, JobsQuery, Only, Query};
use runner_store::job::{
    Fingerprint, JobId, JobSpec, KindId, Millis, OnConflict, OutcomeName, QueueId, Seq, StateName, States, TenantId,
    Time, Unique,
};

use crate::world::*;

const ALL: JobsQuery = JobsQuery::all(TENANT, 1_000);

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
                let page = w.list(JobsQuery { beyond: before, limit, ..ALL });
                let Some(last) = page.last() else { break };
                before = Some(JobId(*last));
                all.extend(page);
            }
            assert_eq!(all, w.list(ALL), "in pages of {limit}");
        }
    });
}

/// Whatever way a page is made: from lists, from tags, from rows.
#[test]
fn the_oldest_come_first_where_that_is_asked_for() {
    for (way, n) in [("lists", 12), ("tags", 12), ("rows", 300)] {
        let tag = (way == "tags").then(|| ("t".to_owned(), "1".to_owned()));
        case(|w| {
            match way {
                "lists" => some_jobs(w),
                "tags" => _ = w.enqueue_all(vec![work_with(|s| s.tags.extend(tag.clone())); 12]),
                _ => _ = w.enqueue_all((0..300).map(|i| JobSpec::new(format!("kind-{i}"), "")).collect()),
            }
            let all = JobsQuery { oldest_first: true, tag: tag.clone(), ..ALL };
            assert!(w.list(all.clone()).into_iter().eq(1..=n));
            let page = w.list(JobsQuery { beyond: Some(JobId(5)), limit: 4, ..all.clone() });
            assert_eq!(page, [6, 7, 8, 9]);
            assert_eq!(w.list(JobsQuery { beyond: Some(JobId(n)), ..all }), [0; 0]);
        });
    }
}

/// Times, outcomes, unique keys and texts stand in rows; every one that is said must fit.
#[test]
fn what_no_index_knows_is_looked_for_in_rows() {
    case(|w| {
        let unique = |key: &str| {
            let (states, on_conflict) = (States::default(), OnConflict::default());
            Unique { key: key.to_owned(), states, period: None, on_conflict }
        };
        let keyed = |key: &str| work_with(|s| s.unique = Some(unique(key)));
        let tagged = work_with(|s| s.tags = vec![("customer".to_owned(), "Acme".to_owned())]);
        let ids = w.enqueue_all(vec![work(), keyed("nightly"), tagged, JobSpec::new("mail.send", "")]);
        w.advance(1_000);
        w.run_once(ids[0], failed("no room on THE disk"));
        w.run_once(ids[1], completed());
        w.advance(1_000);
        let only = |w: &World, only: Only| w.list(JobsQuery { only, ..ALL });
        let at = |ms| Some(Time(START.0 + ms));
        assert_eq!(only(w, Only { since: at(1), ..Only::NONE }), [2], "by the end of what has ended");
        assert_eq!(only(w, Only { until: at(1), ..Only::NONE }), [4, 3, 1], "by the enqueue of what has not");
        assert_eq!(only(w, Only { since: at(0), until: at(1_001), ..Only::NONE }), [4, 3, 2, 1]);
        assert_eq!(only(w, Only { until: at(1_000), since: at(1_000), ..Only::NONE }), [0; 0]);
        assert_eq!(only(w, Only { outcome: Some(OutcomeName::Failed), ..Only::NONE }), [1]);
        assert_eq!(only(w, Only { outcome: Some(OutcomeName::Completed), ..Only::NONE }), [2]);
        let error = |outcome, text: &str| Some(Fingerprint::of(outcome, text));
        assert_eq!(only(w, Only { error: error(OutcomeName::Failed, "no  Room on the disk"), ..Only::NONE }), [1]);
        assert_eq!(only(w, Only { error: error(OutcomeName::Failed, "no room on the disc"), ..Only::NONE }), [0; 0]);
        assert_eq!(only(w, Only { error: error(OutcomeName::Trapped, "no room on the disk"), ..Only::NONE }), [0; 0]);
        assert_eq!(only(w, Only { unique_key: Some("nightly".to_owned()), ..Only::NONE }), [2]);
        let about = |text: &str| Some(About { text: text.to_owned(), kinds: Vec::new() });
        assert_eq!(only(w, Only { about: about("the DISK"), ..Only::NONE }), [1], "in the error");
        assert_eq!(only(w, Only { about: about("acme"), ..Only::NONE }), [3], "in a tag");
        assert_eq!(only(w, Only { about: about("3"), ..Only::NONE }), [3], "the id");
        let kinds = vec![w.lane("default", "mail.send").kind];
        assert_eq!(only(w, Only { about: Some(About { text: "mail".to_owned(), kinds }), ..Only::NONE }), [4]);
        let both = Only { outcome: Some(OutcomeName::Failed), unique_key: Some("nightly".to_owned()), ..Only::NONE };
        assert_eq!(only(w, both), [0; 0]);
    });
}

/// A page costs a bounded number of rows, also where hardly any fits: it then goes on where it stopped.
#[test]
fn a_page_that_had_to_look_at_many_rows_says_where_it_goes_on() {
    case(|w| {
        let first = w.enqueue(work_with(|s| s.tags = vec![("t".to_owned(), "here".to_owned())]));
        w.enqueue_all(vec![work(); 5_000]);
        let only = Only { about: Some(About { text: "here".to_owned(), kinds: Vec::new() }), ..Only::NONE };
        let (mut query, mut found, mut pages) = (JobsQuery { only, ..ALL }, Vec::new(), 0);
        loop {
            let page = w.page_in_file(&query);
            found.extend(page.jobs.iter().map(|job| job.id));
            pages += 1;
            let Some(next) = page.next else { break };
            query.beyond = Some(next);
        }
        assert_eq!((found, pages), (vec![first], 2));
    });
}

/// More than 256 combinations of state, queue and kind: the lists are not merged any more, rows are walked.
#[test]
fn lists_of_many_kinds_are_the_same() {
    case(|w| {
        let jobs = (0..300).map(|i| JobSpec::new(format!("kind-{i}"), "")).collect();
        w.enqueue_all(jobs);
        assert!(w.list(ALL).into_iter().eq((1..=300).rev()));
        assert!(w.list(JobsQuery { beyond: Some(JobId(200)), limit: 50, ..ALL }).into_iter().eq((150..200).rev()));
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
