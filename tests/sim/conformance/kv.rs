//! What plugins keep under keys: written with the outcome of a run, or not at all.

use runner_store::command::{Command, Finish, KvWrite, KvWrites, Part, Reply, RunRef, StagedJob, Total};
use runner_store::job::{Millis, Outcome, OutcomeName, PluginId, StateName, TenantId, limits};

use crate::world::*;

const THUMBS: &str = "thumbs";

fn writing(run: RunRef, outcome: Outcome, plugin: PluginId, writes: &[KvWrite]) -> Command {
    let kv = Some(KvWrites { plugin, writes: writes.to_vec() });
    Command::Finish(Box::new(Finish { kv, ..finishing(run, outcome) }))
}

/// Runs a new job, which ends so and writes this; answers the job.
#[track_caller]
fn write(w: &mut World, outcome: Outcome, writes: &[KvWrite]) -> runner_store::job::Job {
    let plugin = plugin(w, THUMBS);
    let id = w.enqueue(work());
    let run = w.start(id);
    job_of(&w.call(writing(run, outcome, plugin, writes)))
}

#[track_caller]
fn check_written(outcome: &Outcome, recorded: bool) {
    case(|w| {
        write(w, outcome.clone(), &[put("k", "v")]);
        let space = space(w, THUMBS);
        assert_eq!(w.kv(space, "k").as_deref(), recorded.then_some("v"), "{outcome:?}");
        assert_eq!(w.kv_count(), u64::from(recorded));
    });
}

#[test]
fn keys_are_written_with_completed_snoozed_and_discarded_only() {
    let text = String::new;
    check_written(&completed(), true);
    check_written(&Outcome::Snoozed { delay: Millis(100), reason: None }, true);
    check_written(&Outcome::Discarded { reason: text() }, true);
    for outcome in [
        failed("no"),
        Outcome::Trapped { code: text(), message: text(), backtrace: None },
        Outcome::OutOfFuel { limit: 1 },
        Outcome::TimedOut { limit: Millis(1) },
        Outcome::OutOfMemory { limit_bytes: 1 },
        Outcome::OutputTooLarge { limit_bytes: 1 },
        Outcome::Cancelled,
        Outcome::Interrupted,
        Outcome::Crashed,
        Outcome::PluginBroken { message: text() },
    ] {
        check_written(&outcome, false);
    }
}

#[test]
fn a_stale_finish_and_one_of_a_cancelled_job_write_nothing() {
    case(|w| {
        let plugin = plugin(w, THUMBS);
        let ids = w.enqueue_all(vec![work(); 2]);
        let run = w.start(ids[0]);
        w.finish(ids[0], completed());
        assert_eq!(w.call(writing(run, completed(), plugin, &[put("k", "stale")])), stale(1));
        let run = w.start(ids[1]);
        w.call(cancel(ids[1]));
        let snoozed = Outcome::Snoozed { delay: Millis(100), reason: None };
        // Its condition fails as well; what is thrown away is no conflict.
        let job = job_of(&w.call(writing(run, snoozed, plugin, &[cas("k", Some("x"), Some("y"))])));
        assert_eq!((job.state.name(), job.last.unwrap().outcome), (StateName::Cancelled, OutcomeName::Snoozed));
        assert_eq!(w.kv_count(), 0);
    });
}

#[test]
fn the_last_write_of_a_key_wins_in_a_run_in_a_batch_and_between_them() {
    case(|w| {
        write(w, completed(), &[put("a", "1"), put("b", "1"), put("a", "2"), remove("b"), remove("c")]);
        let (plugin, space) = (plugin(w, THUMBS), space(w, THUMBS));
        assert_eq!(w.kv_keys(space, "", None, 10), ["a"]);
        let ids = w.enqueue_all(vec![work(); 2]);
        assert_eq!(w.claim(2).len(), 2);
        let runs = [w.run(ids[0]), w.run(ids[1])];
        let first = writing(runs[0], completed(), plugin, &[put("a", "first"), put("b", "first")]);
        let second = writing(runs[1], completed(), plugin, &[put("a", "second"), remove("b"), put("c", "")]);
        w.batch(&[first, second]);
        w.reopen();
        assert_eq!((w.kv(space, "a").as_deref(), w.kv(space, "c").as_deref()), (Some("second"), Some("")));
        assert_eq!((w.kv_keys(space, "", None, 10), w.kv_count()), (vec!["a".to_owned(), "c".to_owned()], 2));
    });
}

#[test]
fn a_plugin_sees_its_own_keys_only() {
    case(|w| {
        write(w, completed(), &[put("k", "mine")]);
        let (mine, other) = (space(w, THUMBS), space(w, "mail"));
        let elsewhere = runner_store::command::Namespace { tenant: TenantId(7), ..mine };
        for space in [other, elsewhere] {
            assert_eq!((w.kv(space, "k"), w.kv_keys(space, "", None, 10)), (None, vec![]));
        }
        let id = w.enqueue(work());
        let run = w.start(id);
        w.call(writing(run, completed(), other.plugin, &[cas("k", None, Some("other"))]));
        assert_eq!((w.kv(mine, "k").as_deref(), w.kv(other, "k").as_deref()), (Some("mine"), Some("other")));
        assert_eq!(w.kv_count(), 2, "of all plugins of the tenant");
    });
}

#[test]
fn keys_come_in_pages_in_ascending_order() {
    case(|w| {
        let words = ["", "a", "a/1", "a/10", "a/2", "a0", "b", "ä"];
        write(w, completed(), &words.map(|word| put(word, "v")));
        let space = space(w, THUMBS);
        let check = |prefix: &str, after: Option<&str>, limit, expected: &[&str]| {
            assert_eq!(w.kv_keys(space, prefix, after, limit), expected, "{prefix:?} after {after:?}");
        };
        check("", None, 100, &words);
        check("a/", None, 100, &["a/1", "a/10", "a/2"]);
        check("a/", None, 2, &["a/1", "a/10"]);
        check("a/", Some("a/10"), 2, &["a/2"]);
        check("a/", Some("a/2"), 2, &[]);
        check("a/", Some(""), 1, &["a/1"]);
        check("a/", Some("z"), 1, &[]);
        check("a", Some("a"), 100, &["a/1", "a/10", "a/2", "a0"]);
        check("", Some("b"), 100, &["ä"]);
        check("c", None, 100, &[]);
        check("", None, 0, &[]);
    });
}

#[test]
fn a_page_has_at_most_a_thousand_keys() {
    case(|w| {
        let writes: Vec<KvWrite> = (0..1_100).map(|n| put(&format!("{n:05}"), "v")).collect();
        write(w, completed(), &writes);
        let space = space(w, THUMBS);
        let page = w.kv_keys(space, "", None, u32::MAX);
        assert_eq!((page.len(), w.kv_count(), w.stored().kv_keys), (1_000, 1_100, 1_100));
        assert_eq!(w.kv_keys(space, "", page.last().map(String::as_str), 1_000).len(), 100);
    });
}

/// (what the key has, what is expected of it, whether that holds)
#[test]
fn a_condition_is_about_what_the_key_has_when_the_run_is_recorded() {
    for (has, expected, holds) in [
        (None, None, true),
        (None, Some("v"), false),
        (Some("v"), None, false),
        (Some("v"), Some("v"), true),
        (Some("v"), Some("w"), false),
        (Some(""), None, false),
        (Some(""), Some(""), true),
    ] {
        case(|w| {
            let before: Vec<KvWrite> = has.iter().map(|value| put("k", value)).collect();
            write(w, completed(), &before);
            let job = write(w, completed(), &[cas("k", expected, Some("new"))]);
            let space = space(w, THUMBS);
            let state = if holds { StateName::Completed } else { StateName::Available };
            assert_eq!(job.state.name(), state, "{has:?} {expected:?}");
            assert_eq!(w.kv(space, "k").as_deref(), if holds { Some("new") } else { has });
        });
    }
}

#[test]
fn a_condition_sees_the_writes_before_it() {
    case(|w| {
        let writes =
            [put("k", "1"), cas("k", Some("1"), None), cas("k", None, Some("2")), cas("k", Some("2"), Some("3"))];
        assert_eq!(write(w, completed(), &writes).state.name(), StateName::Completed);
        let (plugin, space) = (plugin(w, THUMBS), space(w, THUMBS));
        assert_eq!(w.kv(space, "k").as_deref(), Some("3"));
        let ids = w.enqueue_all(vec![work(); 2]);
        assert_eq!(w.claim(2).len(), 2);
        let add = |run| writing(run, completed(), plugin, &[cas("k", Some("3"), Some("4"))]);
        let commands = [w.run(ids[0]), w.run(ids[1])].map(add);
        let states: Vec<StateName> = w.batch(&commands).iter().map(|reply| job_of(reply).state.name()).collect();
        assert_eq!(states, [StateName::Completed, StateName::Available], "also within one batch only one was first");
    });
}

/// Nothing of it is recorded, whichever of its writes it was.
#[test]
fn a_conflict_leaves_nothing_of_its_run() {
    case(|w| {
        write(w, completed(), &[put("seats", "4")]);
        let (plugin, space) = (plugin(w, THUMBS), space(w, THUMBS));
        let id = w.enqueue(work());
        let run = w.start(id);
        let reserved = reserve(w, 1);
        let writes = vec![put("first", "1"), cas("seats", Some("5"), Some("4")), put("last", "1")];
        let call = Finish {
            kv: Some(KvWrites { plugin, writes }),
            staged: vec![StagedJob { id: reserved, spec: work() }],
            checkpoint: Some(b"half-way".to_vec()),
            log: Some(b"log".to_vec()),
            ..finishing(run, Outcome::Completed { output: b"out".to_vec() })
        };
        let job = job_of(&w.call(Command::Finish(Box::new(call))));
        assert_eq!((job.state.name(), job.attempts, job.conflicts), (StateName::Available, 0, 1));
        assert_eq!(w.kv_keys(space, "", None, 10), ["seats"]);
        assert_eq!((w.find(reserved), w.payload(id, Part::Output)), (None, None));
        let record = w.runs(id).remove(0);
        assert_eq!((record.outcome, record.staged.len()), (OutcomeName::Failed, 0));
        let error = record.error.unwrap();
        assert!(error.starts_with("kv_conflict: ") && error.contains("\"seats\""), "{error}");
        assert_eq!(w.events(id), ["enqueued", "started", "retrying"]);
        // As of any failed run, these stay.
        assert_eq!(w.payload(id, Part::Checkpoint).as_deref(), Some(&b"half-way"[..]));
        assert_eq!(w.run_log(run).as_deref(), Some(&b"log"[..]));
        assert_eq!(w.claim(1), [id.0], "it runs again at once");
    });
}

#[test]
fn five_conflicts_in_a_row_are_no_attempts_and_the_sixth_is() {
    case(|w| {
        let plugin = plugin(w, THUMBS);
        let id = w.enqueue(work_with(|s| s.max_attempts = Some(2)));
        let conflict = |w: &mut World| {
            let run = w.start(id);
            job_of(&w.call(writing(run, completed(), plugin, &[cas("k", Some("x"), None)])))
        };
        for n in 1..=limits::CONFLICTS_MAX {
            let job = conflict(w);
            assert_eq!((job.state.name(), job.attempts, job.conflicts), (StateName::Available, 0, n));
        }
        let sixth = conflict(w);
        assert_eq!((sixth.state.name(), sixth.attempts), (StateName::Retryable, 1));
        assert!(sixth.run_at > w.now(), "by its retry policy");
        w.clock.set(sixth.run_at);
        assert_eq!(conflict(w).state.name(), StateName::Discarded, "that was the last attempt");
        w.call(retry(id));
        assert_eq!(conflict(w).attempts, 0, "an operator's retry begins anew");
        w.start(id);
        assert_eq!(w.finish(id, Outcome::Interrupted).conflicts, 0, "as does any other end");
    });
}

#[test]
fn a_conflict_of_a_job_that_is_to_be_cancelled_cancels_it() {
    case(|w| {
        let plugin = plugin(w, THUMBS);
        let id = w.enqueue(work());
        let run = w.start(id);
        w.call(cancel(id));
        let job = job_of(&w.call(writing(run, completed(), plugin, &[cas("k", Some("x"), None)])));
        assert_eq!(job.state.name(), StateName::Cancelled);
    });
}

#[test]
fn what_is_kept_outlives_every_job_and_counts_for_its_tenant() {
    case(|w| {
        let job = write(w, completed(), &[put("key", "value"), put("k", ""), put("gone", "soon")]);
        w.call(delete(job.id));
        w.advance(400 * 24 * 3_600_000);
        w.sweep(100);
        let total = |w: &mut World, of| w.check().totals.iter().find(|(key, _)| key.of == of).map(|(_, n)| *n);
        assert_eq!((total(w, Total::KvKeys), total(w, Total::Bytes)), (Some(3), Some(3 + 5 + 1 + 4 + 4)));
        let job = write(w, completed(), &[remove("gone"), put("key", "v"), remove("never")]);
        w.call(delete(job.id));
        assert_eq!((total(w, Total::KvKeys), total(w, Total::Bytes)), (Some(2), Some(3 + 1 + 1)));
    });
}

#[test]
fn a_write_beyond_its_bound_is_left_out_and_fails_nothing() {
    case(|w| {
        let key = "k".repeat(limits::KV_KEY_BYTES_MAX);
        let value = "v".repeat(limits::KV_VALUE_BYTES_MAX);
        let writes = [put(&format!("{key}k"), "v"), put("k", &format!("{value}v")), put(&key, &value)];
        let job = write(w, completed(), &writes);
        let space = space(w, THUMBS);
        assert_eq!((job.state.name(), w.kv_keys(space, "", None, 9)), (StateName::Completed, vec![key]));
        let notes = w.runs(job.id).remove(0).notes;
        assert!(notes.len() == 2 && notes[0].contains("257 bytes") && notes[1].contains("65537 bytes"), "{notes:?}");
    });
}

#[test]
fn a_reply_says_conflict_only_for_the_run_that_was_late() {
    case(|w| {
        let plugin = plugin(w, THUMBS);
        let ids = w.enqueue_all(vec![work(); 2]);
        assert_eq!(w.claim(2).len(), 2);
        let runs = [w.run(ids[0]), w.run(ids[1])];
        let replies = runs.map(|run| w.call(writing(run, completed(), plugin, &[cas("k", None, Some("v"))])));
        let late =
            |reply: &Reply| job_of(reply).last.unwrap().error.is_some_and(|error| error.starts_with("kv_conflict"));
        assert_eq!(replies.map(|reply| late(&reply)), [false, true]);
    });
}
