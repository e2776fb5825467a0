//! The log: what it says of a life, how it is trimmed, and what a reader behind it learns.

use runner_store::command::{Answer, Command, Events, Query, Reply, Settings, StoreSettings, Sweep};
use runner_store::decide::Conduct;
use runner_store::job::{Millis, Seq};

use crate::world::*;

const HOUR: u64 = 3_600_000;

fn keep(w: &mut World, log_age: u64, log_bytes: u64) {
    let settings = StoreSettings { log_age: Millis(log_age), log_bytes };
    w.call(Command::Set(Box::new(Settings::Store(settings))));
}

fn page(w: &World, since: u64) -> Events {
    match w.ask(&Query::Events { since: Seq(since), limit: 1_000 }) {
        Answer::Events(events) => events,
        other => panic!("{other:?}"),
    }
}

fn numbers(w: &World) -> Vec<u64> {
    page(w, 0).entries.iter().map(|entry| entry.seq.0).collect()
}

#[test]
fn what_is_old_is_trimmed_oldest_first_whatever_still_lives() {
    case(|w| {
        keep(w, HOUR, u64::MAX);
        let first = w.enqueue(work());
        w.advance(HOUR / 2);
        w.enqueue(work());
        w.start(first);
        w.advance(HOUR / 2 - 1);
        assert_eq!(w.sweep(10).2, 0);
        w.advance(1);
        assert_eq!(w.sweep(10).2, 1);
        assert_eq!(numbers(w), [2, 3]);
        assert_eq!((page(w, 1).oldest, page(w, 1).next), (Seq(2), Seq(4)), "who asks for 1 has missed something");
        w.check();
        w.finish(first, completed());
        assert_eq!(numbers(w), [2, 3, 4]);
    });
}

#[test]
fn what_is_too_much_is_trimmed_in_bounded_steps() {
    case(|w| {
        w.enqueue_all(vec![work_with(|s| s.args = vec![]); 200]);
        let bytes = w.stored().log_bytes;
        keep(w, u64::MAX, bytes / 2);
        let reply = w.batch(&[Command::Sweep(Sweep { after: None, budget: 10 })]).remove(0);
        assert!(matches!(reply, Reply::Swept { trimmed: 40, more: true, .. }), "{reply:?}");
        let (_, _, trimmed) = w.sweep(10);
        assert!((59..=61).contains(&trimmed), "{trimmed}");
        assert!(w.stored().log_bytes <= bytes / 2);
        w.check();
    });
}

/// A log that was trimmed to nothing still knows its next number.
#[test]
fn a_log_may_be_trimmed_to_nothing_and_goes_on() {
    case(|w| {
        let id = w.enqueue(work());
        keep(w, u64::MAX, 0);
        assert_eq!(w.sweep(10).2, 1);
        assert_eq!((numbers(w), w.stored().log_bytes), (vec![], 0));
        assert_eq!((page(w, 0).oldest, page(w, 0).next), (Seq(2), Seq(2)));
        w.reopen();
        w.check();
        w.start(id);
        w.finish(id, completed());
        assert_eq!(numbers(w), [2, 3], "of other events the numbers go on");
    });
}

#[test]
fn age_waits_for_the_clock_and_size_does_not() {
    case(|w| {
        keep(w, HOUR, u64::MAX);
        w.enqueue_all(vec![work(); 4]);
        w.advance(HOUR);
        w.conduct(Conduct { destroy: false, ..Conduct::default() });
        assert_eq!(w.sweep(10).2, 0);
        keep(w, HOUR, 0);
        assert_eq!(w.sweep(10).2, 4, "a full disk cares for no clock");
    });
}

#[test]
fn a_reader_within_the_log_catches_up_exactly() {
    case(|w| {
        w.enqueue_all(vec![work_with(|s| s.args = vec![]); 1_200]);
        let mut next = 1;
        let mut read = 0;
        loop {
            let page = page(w, next);
            let Some(last) = page.entries.last() else { break };
            read += page.entries.len();
            assert_eq!(page.entries[0].seq.0, next);
            next = last.seq.0 + 1;
        }
        assert_eq!((read, next), (1_200, 1_201));
    });
}
