//! Calls that are safe to repeat.

use runner_store::command::{Command, Enqueue, Enqueued, IdempotencyKey, Reply};
use runner_store::job::{Invalid, JobId, JobSpec, Rejection, StateName, TenantId};

use crate::world::*;

const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// A call with a key, whose request is told apart by one byte.
fn keyed(key: &str, request: u8, jobs: usize) -> Command {
    let key = Some(IdempotencyKey { key: key.to_owned(), request: [request; 32] });
    Command::Enqueue(Enqueue { key, ..Enqueue::new(TENANT, vec![work(); jobs]) })
}

fn answer(id: u64, duplicate: bool) -> Reply {
    Reply::Enqueued(vec![Enqueued { id: JobId(id), state: StateName::Available, duplicate }])
}

const REUSED: Reply = Reply::Rejected(Rejection::KeyReused);

#[test]
fn a_repeated_call_answers_the_same_and_does_nothing() {
    case(|w| {
        assert_eq!(w.call(keyed("k", 1, 1)), answer(1, false));
        assert_eq!(w.call(keyed("k", 1, 1)), answer(1, true));
        assert_eq!(w.call(keyed("k", 2, 1)), REUSED, "another body");
        assert_eq!(w.call(keyed("l", 1, 1)), answer(2, false), "another key");
        w.run_once(JobId(1), completed());
        w.call(Command::Delete { job: at(JobId(1)), force: false, cascade: false });
        assert_eq!(w.call(keyed("k", 1, 1)), answer(1, true), "also when its job is gone");
        w.reopen();
        assert_eq!(w.call(keyed("k", 1, 1)), answer(1, true), "also after a restart");
    });
}

#[test]
fn a_key_covers_a_whole_list() {
    case(|w| {
        let first = w.call(keyed("k", 1, 100));
        let again = w.call(keyed("k", 1, 100));
        assert_eq!(ids(&first), ids(&again));
        assert_eq!(w.log(0, 1_000).len(), 100);
    });
}

#[test]
fn a_key_belongs_to_its_tenant() {
    case(|w| {
        w.call(keyed("k", 1, 1));
        let mut theirs = keyed("k", 2, 1);
        if let Command::Enqueue(call) = &mut theirs {
            call.tenant = TenantId(2);
        }
        assert_eq!(w.call(theirs), answer(2, false));
    });
}

#[test]
fn a_key_is_remembered_for_a_day() {
    case(|w| {
        w.call(keyed("k", 1, 1));
        w.advance(DAY_MS - 1);
        assert_eq!(w.call(keyed("k", 1, 1)), answer(1, true));
        w.advance(1);
        assert_eq!(w.call(keyed("k", 2, 1)), answer(2, false), "forgotten: even another body");
        assert_eq!(w.call(keyed("k", 2, 1)), answer(2, true));
        w.advance(DAY_MS - 1);
        assert_eq!(w.call(keyed("k", 2, 1)), answer(2, true), "its day began anew");
        assert_eq!(w.check().keys.len(), 1);
    });
}

#[test]
fn keys_of_one_batch_see_each_other() {
    case(|w| {
        let replies = w.batch(&[keyed("k", 1, 1), keyed("k", 1, 1), keyed("k", 2, 1)]);
        assert_eq!(replies, [answer(1, false), answer(1, true), REUSED]);
        w.advance(DAY_MS);
        let replies = w.batch(&[keyed("k", 3, 1), keyed("k", 3, 1), keyed("k", 1, 1)]);
        assert_eq!(replies, [answer(2, false), answer(2, true), REUSED], "also where the old one had run out");
        assert_eq!(w.check().keys.len(), 1);
    });
}

#[test]
fn what_was_refused_is_not_remembered() {
    case(|w| {
        let key = Some(IdempotencyKey { key: "k".to_owned(), request: [1; 32] });
        let bad = Enqueue { key, ..Enqueue::new(TENANT, vec![work(), JobSpec::new("", "")]) };
        assert!(matches!(w.call(Command::Enqueue(bad)), Reply::Rejected(Rejection::Invalid(_))));
        assert_eq!(w.call(keyed("k", 2, 1)), answer(1, false));
    });
}

#[test]
fn a_key_is_1_to_128_bytes_long() {
    case(|w| {
        for key in [String::new(), "k".repeat(129)] {
            let reply = w.call(keyed(&key, 1, 1));
            let Reply::Rejected(Rejection::Invalid(Invalid { field, .. })) = reply else { panic!("{reply:?}") };
            assert_eq!(field, "Idempotency-Key");
        }
        assert_eq!(w.call(keyed(&"k".repeat(128), 1, 1)), answer(1, false));
    });
}

#[test]
fn what_ran_out_is_forgotten_faster_than_it_comes() {
    case(|w| {
        for i in 0..20 {
            w.call(keyed(&format!("old{i}"), 1, 1));
        }
        w.advance(DAY_MS);
        for i in 0..10 {
            w.call(keyed(&format!("new{i}"), 1, 1));
        }
        assert_eq!(w.check().keys.len(), 10, "two old ones go with each new one");
    });
}
