//! The order of queues, starts by hand, checkpoints, and a store that was paused.

use runner_store::command::{Answer, Claim, Command, Grant, Oldest, Part, Query, QueueSettings, Reply, Settings};
use runner_store::index::Order;
use runner_store::job::{
    Edit, Invalid, JobId, JobKey, JobSpec, Millis, Priority, QueueOrder, Rejection, StateName, Time, limits,
};

use crate::world::*;

fn set_order(queue: &str, order: QueueOrder) -> Command {
    let settings = QueueSettings { order, ..QueueSettings::default() };
    Command::Set(Box::new(Settings::Queue(TENANT, queue.to_owned(), settings)))
}

/// Due at this time, with this priority; available from then on.
fn due(priority: i16, at_ms: u64) -> JobSpec {
    work_with(|s| (s.priority, s.run_at) = (Priority(priority), Some(Time(START.0 + at_ms))))
}

#[test]
fn a_queue_runs_by_priority_or_by_time_and_ties_never_float() {
    let jobs = || vec![due(5, 1), due(-5, 3), due(0, 2), due(0, 2), due(-5, 1)];
    for (order, expected) in [(QueueOrder::Priority, [5, 2, 3, 4, 1]), (QueueOrder::RunAt, [5, 1, 3, 4, 2])] {
        case(|w| {
            w.call(set_order("default", order));
            w.enqueue_all(jobs());
            w.advance(10);
            assert_eq!(w.claim(9), expected, "{order:?}");
        });
    }
}

/// Jobs of a better priority come without end, one a second. By priority alone the other one never runs; aged by ten seconds
/// a step, it is overtaken for as many times ten seconds as it has steps less, and not by what comes later.
#[test]
fn in_an_aged_queue_no_job_starves() {
    for (steps, order) in [(3, QueueOrder::Aged(Millis::secs(10))), (3, QueueOrder::Priority)] {
        case(|w| {
            w.call(set_order("default", order));
            let low = w.enqueue(due(steps, 0));
            let mut waited = 0;
            while w.state(low) == StateName::Available && waited < 100 {
                // Two come and one runs: there is always one of the better priority.
                w.enqueue_all(vec![due(0, waited * 1_000), due(0, waited * 1_000)]);
                w.claim(1);
                w.advance(1_000);
                waited += 1;
            }
            let expected = if order == QueueOrder::Priority { 100 } else { 63 };
            assert_eq!(waited, expected, "{order:?}");
        });
    }
}

/// Places are bytes that sort, and say which priority and `run_at` they are of, also at the edges.
#[test]
fn a_place_in_an_aged_queue_says_what_it_is_of() {
    let times = [Time(0), START, Time::MAX];
    let ages = [Millis(1), Millis::secs(600), QueueOrder::AGE_MAX];
    for (age, time) in ages.into_iter().flat_map(|age| times.map(|time| (age, time))) {
        let by = QueueOrder::Aged(age);
        let place = |priority, time| Order::new(by, Priority(priority), time, JobId(1));
        for priority in [i16::MIN, -1, 0, 1, i16::MAX] {
            assert_eq!(place(priority, time).parts(by), (Priority(priority), time));
        }
        assert!(place(0, time) < place(1, time));
        assert!(place(1, time) < place(0, Time(time.0 + age.0 + 1)));
        assert!(place(1, time) > place(0, Time(time.0 + age.0 - 1)));
    }
}

/// How old the oldest available job is, by queue, is what operators are woken by: it must not be hidden behind jobs that
/// come first.
#[test]
fn the_job_that_has_waited_longest_is_known_whatever_comes_first() {
    let oldest = |w: &World| match w.ask(&Query::Oldest) {
        Answer::Oldest(oldest) => oldest,
        other => panic!("{other:?}"),
    };
    for order in [QueueOrder::Priority, QueueOrder::RunAt, QueueOrder::Aged(Millis(1))] {
        case(|w| {
            w.call(set_order("default", order));
            assert_eq!(oldest(w), []);
            w.enqueue(work_with(|s| s.hold = true));
            w.advance(10);
            let last = w.enqueue(work_with(|s| s.priority = Priority(i16::MAX)));
            w.advance(10);
            let other = JobSpec { queue: "other".to_owned(), ..JobSpec::new("another", "x") };
            w.enqueue_all(vec![work(), work_with(|s| s.priority = Priority(-5)), other]);
            let queue = |w: &World, name: &str, kind| w.lane(name, kind).queue;
            let (own, others) = (queue(w, "default", "work"), queue(w, "other", "another"));
            let at = |queue, ms| Oldest { tenant: TENANT, queue, since: Time(START.0 + ms) };
            assert_eq!(oldest(w), [at(own, 10), at(others, 20)]);
            w.call(cancel(last));
            assert_eq!(oldest(w), [at(own, 20), at(others, 20)]);
        });
    }
}

/// The story: jobs with a key stand in lanes apart, and a queue that had both kinds was answered twice: its age was that of
/// the younger.
#[test]
fn a_queue_has_one_oldest_job_whether_it_has_a_key_or_not() {
    let oldest = |w: &World| match w.ask(&Query::Oldest) {
        Answer::Oldest(oldest) => oldest,
        other => panic!("{other:?}"),
    };
    let keyed = |key: &str| work_with(|s| s.key = Some(JobKey::text(key)));
    case(|w| {
        let first = w.enqueue(work());
        w.advance(10);
        let second = w.enqueue(keyed("a"));
        w.advance(10);
        w.enqueue_all(vec![keyed("b"), work()]);
        let queue = w.lane("default", "work").queue;
        let since = |ms| Oldest { tenant: TENANT, queue, since: Time(START.0 + ms) };
        assert_eq!(oldest(w), [since(0)]);
        w.call(cancel(first));
        assert_eq!(oldest(w), [since(10)]);
        w.call(cancel(second));
        assert_eq!(oldest(w), [since(20)]);
    });
}

#[test]
fn the_order_changes_only_while_nothing_is_unfinished() {
    case(|w| {
        let id = w.enqueue(work());
        let refused = Reply::Rejected(Rejection::QueueNotEmpty { unfinished: 1 });
        assert_eq!(w.call(set_order("default", QueueOrder::RunAt)), refused);
        w.start(id);
        assert_eq!(w.call(set_order("default", QueueOrder::RunAt)), refused);
        assert!(matches!(w.call(set_order("default", QueueOrder::Priority)), Reply::Set(_)), "it is so");
        w.finish(id, completed());
        assert!(matches!(w.call(set_order("default", QueueOrder::RunAt)), Reply::Set(_)));
    });
}

/// The story: a job that had ended under the old order was run again, and stood in its lane by the old one: a lane whose
/// places could not be compared.
#[test]
fn a_job_that_runs_again_stands_by_the_order_of_its_queue_now() {
    for way in ["retry", "bulk", "revive", "one batch"] {
        case(|w| {
            let on = w.enqueue(JobSpec { queue: "other".to_owned(), ..work() });
            let old = w.enqueue(JobSpec { depends_on: after(&[on]), ..due(-5, 0) });
            w.call(cancel(on));
            assert_eq!(w.state(old), StateName::Cancelled);
            w.call(set_order("default", QueueOrder::RunAt));
            w.enqueue_all(vec![due(1, 0), due(0, 0)]);
            w.advance(5);
            match way {
                "retry" => _ = w.call(retry(old)),
                "bulk" => {
                    let filter = runner_store::command::JobsQuery {
                        state: Some(StateName::Cancelled),
                        queue: Some(w.lane("default", "work").queue),
                        ..runner_store::command::JobsQuery::all(TENANT, 9)
                    };
                    let verb = runner_store::command::BulkVerb::Retry;
                    w.call(Command::Bulk(Box::new(runner_store::command::Bulk { filter, verb })));
                }
                "revive" => {
                    w.call(retry(on));
                    w.call(revive(on));
                    w.call(Command::Start { job: at(on), holder: BOOT });
                    w.finish(on, completed());
                }
                _ => _ = w.batch(&[retry(old), cancel(old), retry(old)]),
            }
            assert_eq!(w.job(old).order, QueueOrder::RunAt, "{way}");
            assert_eq!(w.claim(9), [4, 3, 2], "{way}: by time, as the queue is now");
        });
    }
}

/// The story: a list behind a change of order, in one batch, got the order that the queue had before.
#[test]
fn a_change_of_order_holds_from_its_place_in_the_batch() {
    case(|w| {
        let first = w.enqueue(work());
        w.batch(&[
            enqueue(vec![work()]),
            cancel(first),
            cancel(JobId(2)),
            set_order("default", QueueOrder::RunAt),
            enqueue(vec![work()]),
        ]);
        assert_eq!(w.job(JobId(3)).order, QueueOrder::RunAt);
    });
}

/// Among the lanes of a queue the head that comes first in the queue's order goes first: priority holds across kinds.
#[test]
fn the_order_holds_across_the_kinds_of_a_queue() {
    for (order, expected) in [(QueueOrder::Priority, [3, 1, 2, 4]), (QueueOrder::RunAt, [1, 2, 3, 4])] {
        case(|w| {
            w.call(set_order("default", order));
            let kind = |kind: &str, priority, ms| JobSpec { kind: kind.to_owned(), ..due(priority, ms) };
            w.enqueue_all(vec![kind("a", 1, 1), kind("b", 2, 2), kind("b", 0, 3), kind("a", 3, 4)]);
            w.advance(10);
            w.call(Command::Due);
            let lanes = [w.lane("default", "a"), w.lane("default", "b")];
            let grants = lanes.iter().map(|lane| Grant { lane: *lane, max: 4 }).collect();
            let claim = Command::Claim(Claim { holder: BOOT, max: 4, grants });
            assert_eq!(claimed_ids(&w.call(claim)), expected, "{order:?}");
        });
    }
}

#[test]
fn settings_survive_a_restart_and_say_what_holds() {
    case(|w| {
        w.call(set_order("later", QueueOrder::RunAt));
        w.reopen();
        let id = w.enqueue(JobSpec { queue: "later".to_owned(), ..work() });
        assert_eq!(w.job(id).order, QueueOrder::RunAt);
        let scope = runner_store::command::Scope::Queue(TENANT, "later".to_owned());
        let answer = w.ask(&runner_store::command::Query::Settings(scope));
        let expected = QueueSettings { order: QueueOrder::RunAt, ..QueueSettings::default() };
        let expected = Settings::Queue(TENANT, "later".to_owned(), expected);
        assert_eq!(answer, runner_store::command::Answer::Settings(expected));
    });
}

/// `start` in each state: whether the run begins.
#[test]
fn a_start_takes_exactly_this_job_whatever_its_time() {
    case(|w| {
        let start = |id| Command::Start { job: at(id), holder: BOOT };
        let first = w.enqueue(work());
        let available = w.enqueue(work());
        assert_eq!(claimed_ids(&w.call(start(available))), [available.0], "past the one before it");
        assert_eq!(w.call(start(available)), Reply::Rejected(Rejection::State(StateName::Running)));
        let scheduled = w.enqueue(work_with(|s| s.delay = Some(Millis(60_000))));
        assert_eq!(claimed_ids(&w.call(start(scheduled))), [scheduled.0]);
        assert_eq!(w.persisted().next_due, None);
        w.run_once(first, failed("no"));
        assert_eq!(claimed_ids(&w.call(start(first))), [first.0], "past its backoff");
        assert_eq!((w.job(first).run.0, w.job(first).attempts), (2, 1));
        let held = w.enqueue(work_with(|s| s.hold = true));
        let blocked = w.enqueue(work_after(&[held]));
        assert_eq!(w.call(start(held)), Reply::Rejected(Rejection::State(StateName::Held)));
        assert_eq!(w.call(start(blocked)), Reply::Rejected(Rejection::State(StateName::Blocked)));
        assert_eq!(w.call(start(JobId(99))), Reply::Rejected(Rejection::Unknown));
        w.finish(first, completed());
        assert_eq!(w.call(start(first)), Reply::Rejected(Rejection::State(StateName::Completed)));
    });
}

/// The story: a start by hand ran a job that had expired; a claim discards it.
#[test]
fn a_start_of_an_expired_job_discards_it() {
    case(|w| {
        let soon = Some(Time(START.0 + 5));
        let ids =
            [work_with(|s| s.expires_at = soon), work_with(|s| (s.expires_at, s.delay) = (soon, Some(Millis(9))))];
        let ids = w.enqueue_all(ids.to_vec());
        w.advance(5);
        for id in ids {
            assert_eq!(claimed_ids(&w.call(Command::Start { job: at(id), holder: BOOT })), [0; 0]);
            assert_eq!(w.state(id), StateName::Discarded);
        }
    });
}

#[test]
fn a_checkpoint_is_kept_by_the_run_that_holds_the_lease() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        let checkpoint = |run, bytes: &[u8]| Command::Checkpoint { run, bytes: bytes.to_vec() };
        assert_eq!(w.call(checkpoint(run, b"1")), Reply::Done);
        assert_eq!(w.call(checkpoint(run, b"2")), Reply::Done);
        assert_eq!(w.payload(id, Part::Checkpoint).as_deref(), Some(&b"2"[..]));
        w.finish(id, failed("no"));
        assert_eq!(w.call(checkpoint(run, b"3")), stale(1), "its lease is over");
        assert_eq!(w.payload(id, Part::Checkpoint).as_deref(), Some(&b"2"[..]), "kept through a failure");
        w.advance(2_000);
        let again = w.start(id);
        assert_eq!(w.call(checkpoint(run, b"4")), stale(1), "the fence");
        assert_eq!(w.payload(id, Part::Checkpoint).as_deref(), Some(&b"2"[..]), "what is stale writes nothing");
        let large = vec![0; limits::CHECKPOINT_BYTES_MAX + 1];
        let reply = w.call(checkpoint(again, &large));
        let Reply::Rejected(Rejection::Invalid(Invalid { field, .. })) = reply else { panic!("{reply:?}") };
        assert_eq!(field, "checkpoint");
        assert_eq!(w.payload(id, Part::Checkpoint).as_deref(), Some(&b"2"[..]), "nor does what is too large");
        w.finish(id, completed());
        assert_eq!(w.payload(id, Part::Checkpoint), None, "removed on completed");
    });
}

/// The story: a run that checkpointed while it went on, and completed at its first attempt, left its checkpoint behind.
#[test]
fn a_checkpoint_of_a_first_run_goes_with_its_completion() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        w.call(Command::Checkpoint { run, bytes: b"1".to_vec() });
        w.finish(id, completed());
        assert_eq!(w.payload(id, Part::Checkpoint), None);
    });
}

#[test]
fn a_retry_keeps_the_checkpoint_and_a_fresh_one_drops_it() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        w.call(Command::Checkpoint { run, bytes: b"1".to_vec() });
        w.finish(id, runner_store::job::Outcome::Discarded { reason: String::new() });
        w.call(retry(id));
        assert_eq!(w.payload(id, Part::Checkpoint).as_deref(), Some(&b"1"[..]));
        w.call(cancel(id));
        w.call(Command::Retry { job: at(id), fresh: true });
        assert_eq!(w.payload(id, Part::Checkpoint), None);
    });
}

#[test]
fn an_edit_changes_what_it_names_and_nothing_else() {
    case(|w| {
        let id = w.enqueue(work_with(|s| s.tags = vec![("a".to_owned(), "1".to_owned())]));
        w.call(edit(id, Edit { args: Some(b"new".to_vec()), ..Edit::default() }));
        assert_eq!((w.job(id).edits, w.job(id).tags.len()), (1, 1));
        assert_eq!(w.payload(id, Part::Args).as_deref(), Some(&b"new"[..]));
        let policy = runner_store::job::RetryPolicy { jitter_permille: 7, ..Default::default() };
        w.call(edit(id, Edit { retry: Some(policy.clone()), tags: Some(vec![]), ..Edit::default() }));
        assert_eq!((w.job(id).retry, w.job(id).tags), (Some(policy), vec![]));
        let soon = Time(START.0 + 50);
        w.call(edit(id, Edit { expires_at: Some(Some(soon)), ..Edit::default() }));
        assert_eq!(w.job(id).expires_at, Some(soon));
        w.call(edit(id, Edit { expires_at: Some(None), ..Edit::default() }));
        assert_eq!((w.job(id).expires_at, w.job(id).edits), (None, 1));
        w.advance(50);
        assert_eq!(w.sweep(9).1, 0, "it does not expire any more");
        w.call(edit(id, Edit { args: Some(vec![]), ..Edit::default() }));
        assert_eq!(w.payload(id, Part::Args), None);
    });
}

#[test]
fn a_paused_store_gives_out_nothing_until_an_operator_says_so() {
    case(|w| {
        let id = w.enqueue(work());
        w.pause();
        w.reopen();
        assert!(w.stored().paused);
        assert_eq!(w.claim(9), [0; 0]);
        assert!(w.persisted().paused);
        let other = w.enqueue(work());
        w.call(cancel(other));
        let lane = w.lane("default", "work");
        let replies = w.batch(&[claim(BOOT, 1, &[lane]), Command::Resume, claim(BOOT, 1, &[lane])]);
        assert_eq!((claimed_ids(&replies[0]), claimed_ids(&replies[2])), (vec![], vec![id.0]));
        w.reopen();
        assert!(!w.stored().paused);
        assert_eq!(w.call(Command::Resume), Reply::Done, "it is so already");
    });
}
