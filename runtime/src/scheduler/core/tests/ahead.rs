//! How far ahead of free slots is claimed, by how fast runs end and beside whom.

use std::collections::VecDeque;
use std::ops::Range;

use super::*;

/// A lane of quick or slow jobs, of which so many end each millisecond, as if they had taken `took`, while each claim is
/// answered within one.
pub(super) struct Flood {
    pub(super) core: Core,
    pub(super) running: VecDeque<u64>,
    next: u64,
    asked: Option<u32>,
}

impl Flood {
    pub(super) fn lane() -> Lane {
        lane(1, false)
    }

    /// How many of its jobs are claimed, if anything is.
    fn asks(actions: &[Action]) -> Option<u32> {
        let takes = takes(actions);
        let grants =
            takes.iter().flat_map(|take| take.grants.iter().map(|grant| (grant.lane, grant.max.min(take.max))));
        let of_it = grants.filter(|(lane, _)| *lane == Self::lane()).map(|(_, max)| max).sum();
        (!takes.is_empty()).then_some(of_it)
    }

    pub(super) fn new(slots: u32) -> Self {
        let (mut core, _) = with(slots, &[(Self::lane(), 100_000)]);
        let first = (0..u64::from(slots)).map(|id| claimed(id, 0, Self::lane())).collect();
        let actions = core.handle(Event::Claimed(first), at(0));
        Self { running: starts(&actions).into(), next: u64::from(slots), asked: Self::asks(&actions), core }
    }

    pub(super) fn goes_on(&mut self, milliseconds: Range<u64>, ended_each: u64, took: Duration) {
        for ms in milliseconds {
            for _ in 0..ended_each {
                let Some(id) = self.running.pop_front() else { break };
                let actions = self.core.handle(Event::Ended { run: run(id), fuel: 0, took }, at(ms));
                self.running.extend(starts(&actions));
                self.asked = self.asked.or(Self::asks(&actions));
            }
            if let Some(max) = self.asked.take().map(u64::from) {
                self.answer((0..max).map(|i| claimed(self.next + i, 0, Self::lane())).collect(), ms);
                self.next += max;
            }
        }
    }

    pub(super) fn answer(&mut self, runs: Vec<Claimed>, ms: u64) {
        let actions = self.core.handle(Event::Claimed(runs), at(ms));
        self.running.extend(starts(&actions));
        self.asked = Self::asks(&actions);
    }

    /// A job of another lane comes, and is claimed as the first.
    fn has_company(&mut self, other: Lane, ms: u64) {
        self.core.handle_all([Event::Available { lane: other, difference: 1 }, served(other)], at(ms));
        self.answer(vec![claimed(900_000, -1, other)], ms);
        self.core.handle(Event::Available { lane: other, difference: -1 }, at(ms));
    }
}

/// How many are ready after a flood has gone on for so long.
fn ready_after(slots: u32, ended_each: u64, took: Duration, milliseconds: u64) -> usize {
    let mut flood = Flood::new(slots);
    flood.goes_on(0..milliseconds, ended_each, took);
    flood.core.ready()
}

/// The story: as much was claimed ahead as had ended between two claims, so that after a short commit little was claimed, and
/// the next commit had as little in it: each job cost half as much again as in commits of many.
#[test]
fn short_commits_do_not_make_the_next_ones_small() {
    let ready = ready_after(2, 10, Duration::from_micros(100), 20);
    assert!((60..=100).contains(&ready), "twice what five milliseconds run: {ready}");
}

/// Commits of more jobs cost each of them less, and make others wait: where there are no others, they are larger.
#[test]
fn more_is_claimed_ahead_where_nothing_else_runs() {
    let quick = Duration::from_micros(100);
    let l = Flood::lane();
    let others = [Lane { tenant: TenantId(2), ..l }, Lane { queue: QueueId(2), ..l }, Lane { kind: KindId(2), ..l }];
    let as_many_as = |flood: &Flood, times: usize, when: &str| {
        let (most, ready) = (times * 50, flood.core.ready());
        assert!((most * 6 / 10..=most).contains(&ready), "{when}: {times} times what five milliseconds run: {ready}");
    };
    for other in others {
        let mut flood = Flood::new(2);
        flood.goes_on(0..900, 10, quick);
        as_many_as(&flood, 2, "at first");
        flood.goes_on(900..2_000, 10, quick);
        as_many_as(&flood, 8, "alone for a while");
        flood.has_company(other, 2_000);
        flood.goes_on(2_000..2_900, 10, quick);
        as_many_as(&flood, 2, "another came");
        flood.goes_on(2_900..4_000, 10, quick);
        as_many_as(&flood, 8, "alone again");
    }
    let mut slow = Flood::new(250);
    slow.goes_on(2_000..2_005, 50, Duration::from_secs(60));
    assert!(slow.core.ready() <= 100, "what takes a minute is claimed ahead no further: {}", slow.core.ready());
}

/// Runs of a minute that end by hundreds at about the same time, as when what they all ask is gone: what is claimed ahead of
/// them lies there for a minute.
#[test]
fn slow_runs_that_end_together_are_not_claimed_ahead_as_if_they_were_quick() {
    let ready = ready_after(250, 50, Duration::from_secs(60), 5);
    assert!(ready <= 100, "twice what ended until a claim was answered, at most: {ready}");
}
