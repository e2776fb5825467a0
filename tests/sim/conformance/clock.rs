//! A wall clock that steps, as the writer behind a handle sees it: what destroys waits.

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Answer, Command, Enqueue, IdempotencyKey, Query, Reply, Sweep};
use runner_store::engine::memory::Memory;
use runner_store::handle::Writer;
use runner_store::job::{JobId, Millis, Rejection, Seq, StateName, Time};

use crate::world::*;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

struct Node {
    clock: Clock,
    handle: Handle,
    writer: Writer,
}

impl Node {
    fn start() -> Self {
        let clock = Clock::manual(START);
        let (handle, writer) = Handle::start(Box::new(Memory::new(clock.clone()))).unwrap();
        Self { clock, handle, writer }
    }

    #[track_caller]
    fn call(&self, command: Command) -> Reply {
        self.handle.call_blocking(command).unwrap()
    }

    fn state(&self, id: u64) -> Option<StateName> {
        match self.handle.snapshot().unwrap().read(&Query::Job(at(JobId(id)))).unwrap() {
            Answer::Job(job) => job.map(|job| job.state.name()),
            other => panic!("{other:?}"),
        }
    }

    /// A finished job that may go, and one that will have expired.
    fn with_something_to_destroy() -> Self {
        let node = Self::start();
        node.call(enqueue(vec![work(), work_with(|s| s.expires_at = Some(Time(START.0 + HOUR)))]));
        node.call(cancel(JobId(1)));
        node
    }

    /// Sweeps, and answers whether the one went and the other expired.
    fn destroys(&self) -> bool {
        self.call(Command::Sweep(Sweep { after: None, budget: 10 }));
        let gone = self.state(1).is_none();
        assert_eq!(gone, self.state(2) == Some(StateName::Discarded));
        gone
    }

    fn end(self) {
        drop(self.handle);
        self.writer.join();
    }
}

#[test]
fn time_that_goes_by_is_no_step() {
    let node = Node::with_something_to_destroy();
    node.clock.advance(Millis(31 * DAY));
    assert!(node.destroys());
    assert_eq!(node.handle.clock_step(), None);
    node.end();
}

#[test]
fn after_a_step_what_destroys_waits_for_an_hour_of_agreement() {
    let node = Node::with_something_to_destroy();
    node.clock.set(Time(START.0 + 31 * DAY));
    assert!(!node.destroys());
    assert_eq!(node.handle.clock_step(), Some((31 * DAY).cast_signed()));
    node.clock.advance(Millis(HOUR - 1));
    assert!(!node.destroys());
    node.clock.advance(Millis(1));
    assert!(node.destroys());
    assert_eq!(node.handle.clock_step(), None);
    node.end();
}

#[test]
fn an_operator_may_say_that_the_clock_is_right() {
    let node = Node::with_something_to_destroy();
    node.clock.set(Time(START.0 + 31 * DAY));
    assert!(!node.destroys());
    node.handle.accept_clock();
    assert!(node.destroys());
    node.end();
}

/// Nothing that became due goes back, and what has expired by a wrong clock has not.
#[test]
fn a_step_ahead_and_back_again_loses_nothing() {
    let node = Node::with_something_to_destroy();
    node.call(enqueue(vec![work_with(|s| s.delay = Some(Millis(2 * HOUR)))]));
    node.clock.set(Time(START.0 + 365 * DAY));
    node.call(Command::Due);
    assert_eq!(node.state(3), Some(StateName::Available));
    assert!(!node.destroys());
    node.clock.set(START);
    node.call(Command::Due);
    assert_eq!(node.state(3), Some(StateName::Available), "what became due stays so");
    node.clock.advance(Millis(HOUR));
    node.call(Command::Sweep(Sweep { after: None, budget: 10 }));
    assert_eq!((node.state(1), node.state(2)), (Some(StateName::Cancelled), Some(StateName::Discarded)));
    node.end();
}

#[test]
fn five_minutes_are_a_correction() {
    let node = Node::with_something_to_destroy();
    node.clock.advance(Millis(31 * DAY));
    node.clock.set(Time(START.0 + 31 * DAY + 300_000));
    assert!(node.destroys());
    node.end();
}

/// A clock that stepped ahead by two days had every remembered call run out at once: what was repeated then happened twice.
#[test]
fn a_step_ahead_forgets_no_call() {
    let node = Node::start();
    let key = |request| Some(IdempotencyKey { key: "k".to_owned(), request: [request; 32] });
    let call = |request| Command::Enqueue(Enqueue { key: key(request), ..Enqueue::new(TENANT, vec![work()]) });
    let first = ids(&node.call(call(1)));
    node.clock.set(Time(START.0 + 2 * DAY));
    assert_eq!(ids(&node.call(call(1))), first);
    assert_eq!(node.call(call(2)), Reply::Rejected(Rejection::KeyReused));
    node.handle.accept_clock();
    assert_eq!(ids(&node.call(call(2))), [JobId(2)], "its day is over, says the operator");
    node.end();
}

/// A clock was ahead for a while. What was logged then kept all that came behind it in the log until that time had come.
#[test]
fn events_of_a_clock_that_was_ahead_keep_nothing_back() {
    let node = Node::start();
    for now in [START, Time(START.0 + 10 * 365 * DAY), START] {
        node.clock.set(now);
        node.call(enqueue(vec![work()]));
    }
    node.clock.advance(Millis(7 * DAY));
    node.call(enqueue(vec![work()]));
    node.call(Command::Sweep(Sweep { after: None, budget: 10 }));
    let query = Query::Events { since: Seq(0), limit: 10 };
    let Answer::Events(events) = node.handle.snapshot().unwrap().read(&query).unwrap() else { panic!("no events") };
    assert_eq!(events.oldest, Seq(4), "{:?}", events.entries);
    node.end();
}
