//! External workers: they wait, they are given what the limits let through, and their leases run out.

use std::collections::BTreeMap;

use runner_store::command::{Pause, Rate};
use runner_store::job::KeyHash;

use super::*;

/// Longer than any story takes.
const LASTS: Millis = Millis::secs(600);

/// A core, and a store that answers its claims at once.
struct Site {
    core: Core,
    now: u64,
    queued: BTreeMap<Lane, Vec<u64>>,
    next_job: u64,
    next_ask: u64,
    /// What each ask was given.
    given: BTreeMap<u64, Vec<RunRef>>,
    nothing: Vec<u64>,
    expired: Vec<RunRef>,
    /// What has started in a slot.
    started: Vec<RunRef>,
    held: BTreeMap<RunRef, Lane>,
}

fn external(kind: u32) -> Lane {
    in_queue(1, kind)
}

fn in_queue(queue: u32, kind: u32) -> Lane {
    Lane::new(TenantId(1), QueueId(queue), KindId(kind))
}

impl Site {
    /// Kinds 1 to 3 are workers', kind 9 is a plugin's.
    fn new(slots: u32) -> Self {
        let (given, held, queued) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (nothing, expired, started) = (Vec::new(), Vec::new(), Vec::new());
        let (next_job, next_ask, now) = (1, 1, 0);
        Self { core: core(slots), now, queued, next_job, next_ask, given, nothing, expired, started, held }
    }

    fn tell(&mut self, events: impl IntoIterator<Item = Event>) {
        let actions = self.core.handle_all(events, at(self.now));
        for action in actions {
            match action {
                Action::Claim(takes) => self.answer(takes),
                Action::Nothing(ask) => self.nothing.push(ask),
                Action::Expire(runs) => self.expired.extend(runs),
                Action::Start { run, .. } => self.started.push(run),
                Action::HandBack(run) => panic!("{run:?} is handed back"),
                Action::ClaimBeside(takes) => panic!("{takes:?} is claimed beside the claim of the only tenant"),
                Action::End(_) | Action::Interrupt(_) | Action::Due => {}
            }
        }
    }

    fn answer(&mut self, takes: Vec<Take>) {
        let (mut notices, mut claimed, mut leased) = (Vec::new(), Vec::new(), BTreeMap::new());
        for Take { max, grants, ask, .. } in takes {
            leased.extend(ask.map(|ask| (ask, 0)));
            let mut left = max;
            for Grant { lane, max } in grants {
                for _ in 0..max.min(left) {
                    let Some(id) =
                        self.queued.get_mut(&lane).filter(|jobs| !jobs.is_empty()).map(|jobs| jobs.remove(0))
                    else {
                        break;
                    };
                    left -= 1;
                    let run = RunRef { at: JobRef { tenant: lane.tenant, job: JobId(id) }, run: RunNumber(1) };
                    notices.push(self.changed(lane, -1));
                    match ask {
                        Some(ask) => {
                            *leased.entry(ask).or_default() += 1;
                            self.given.entry(ask).or_default().push(run);
                            self.held.insert(run, lane);
                            notices.push(Event::LeaseBegan { run, lane, lasts: LASTS });
                        }
                        None => {
                            let order = Order::new(QueueOrder::Priority, Priority(0), Time(0), JobId(id));
                            claimed.push(Claimed { run, lane, order, args_bytes: 0, alone: false });
                        }
                    }
                }
            }
        }
        let leased = leased.into_iter().map(|(ask, runs)| Event::Leased { ask, runs });
        self.tell(notices.into_iter().chain(leased).chain([Event::Claimed(claimed)]).collect::<Vec<_>>());
    }

    fn changed(&self, lane: Lane, difference: i64) -> Event {
        if lane.key.is_none() {
            return Event::Available { lane, difference };
        }
        let first = self.queued.get(&lane).and_then(|jobs| jobs.first());
        let head = first.map(|id| Order::new(QueueOrder::Priority, Priority(0), Time(0), JobId(*id)));
        Event::Keyed { lane, difference, head }
    }

    /// So many jobs come.
    fn enqueue(&mut self, lane: Lane, jobs: u64) {
        let by = if lane.kind == KindId(9) { Serves { external: false, ..Serves::EXTERNAL } } else { Serves::EXTERNAL };
        self.queued.entry(lane).or_default().extend(self.next_job..self.next_job + jobs);
        self.next_job += jobs;
        let changed = self.changed(lane, jobs.cast_signed());
        self.tell([Event::Served { lane: lane.of_all_keys(), by: Some(by) }, changed]);
    }

    /// A worker asks for these kinds and waits so long; answers the ask.
    fn ask(&mut self, kinds: &[u32], max: u32, wait: u64) -> u64 {
        let id = self.next_ask;
        self.next_ask += 1;
        let kinds = kinds.iter().map(|kind| KindId(*kind)).collect();
        self.tell([Event::Asked(Ask { id, tenant: TenantId(1), kinds, max, until: Millis(self.now + wait) })]);
        id
    }

    fn given(&self, ask: u64) -> usize {
        self.given.get(&ask).map_or(0, Vec::len)
    }

    /// A worker says how a run ended, or the store ends it.
    fn end(&mut self, run: RunRef) {
        assert!(self.held.remove(&run).is_some(), "{run:?} is held");
        self.tell([Event::LeaseEnded(run)]);
    }

    fn end_one_of(&mut self, lane: Lane) {
        let run = self.held.iter().find(|(_, of)| **of == lane).map(|(run, _)| *run);
        self.end(run.expect("one is held"));
    }

    /// Time passes; the core is woken as it wishes.
    fn pass(&mut self, ms: u64) {
        let until = self.now + ms;
        loop {
            let wait = self.core.next_wakeup(at(self.now)).map_or(u64::MAX, |wait| wait.0.max(1));
            if self.now.saturating_add(wait) > until {
                break;
            }
            self.now += wait;
            self.tell([Event::Tick]);
        }
        self.now = until;
    }

    fn limit(&mut self, of: GateOf, limits: Limits) {
        self.tell([Event::Limits { of, limits }]);
    }
}

fn at_once(most: u32) -> Limits {
    Limits { concurrency: Some(most), ..Limits::default() }
}

const QUEUE: GateOf = GateOf::Queue(TenantId(1), QueueId(1));
const KIND: GateOf = GateOf::Kind(TenantId(1), KindId(1));

#[test]
fn who_asks_is_given_what_is_there_or_comes_and_else_nothing() {
    let mut site = Site::new(1);
    site.enqueue(external(1), 3);
    let first = site.ask(&[1], 2, 0);
    assert_eq!(site.given(first), 2, "as many as it asked for");
    let second = site.ask(&[1, 2], 5, 0);
    assert_eq!(site.given(second), 1, "what is there, at once");
    let late = site.ask(&[2], 5, 1_000);
    site.pass(999);
    assert!(site.nothing.is_empty());
    site.enqueue(external(1), 1);
    assert_eq!(site.given(late), 0, "not what it did not ask for");
    site.enqueue(external(2), 1);
    assert_eq!(site.given(late), 1);
    let (none, never) = (site.ask(&[3], 1, 0), site.ask(&[3], 1, 500));
    assert_eq!(site.nothing, [none], "who does not wait is told at once");
    site.pass(500);
    assert_eq!(site.nothing, [none, never]);
    assert_eq!(site.core.running(), 0, "a worker's run takes no slot");
}

#[test]
fn another_tenants_jobs_are_nobodys_to_ask_for() {
    let mut site = Site::new(1);
    let theirs = Lane { tenant: TenantId(2), ..external(1) };
    site.enqueue(theirs, 3);
    let ask = site.ask(&[1], 5, 0);
    assert_eq!((site.given(ask), &site.nothing), (0, &vec![ask]));
}

#[test]
fn a_plugin_takes_no_workers_job_and_a_worker_no_plugins() {
    let mut site = Site::new(4);
    site.enqueue(external(1), 3);
    assert!(site.started.is_empty());
    let ask = site.ask(&[1, 9], 1, 60_000);
    assert_eq!(site.given(ask), 1);
    site.enqueue(external(9), 2);
    let ask = site.ask(&[9], 5, 0);
    assert_eq!((site.given(ask), site.started.len()), (0, 2));
    assert_eq!(site.core.may_start(external(1), 9, at(0)), MayStart::External);
}

#[test]
fn a_queue_at_its_limit_gives_workers_and_slots_no_more_than_that_together() {
    let mut site = Site::new(8);
    site.limit(QUEUE, at_once(3));
    site.enqueue(external(9), 1);
    site.enqueue(external(1), 9);
    let ask = site.ask(&[1], 9, 0);
    assert_eq!((site.given(ask), site.started.len()), (2, 1));
    let waits = site.ask(&[1], 9, 60_000);
    assert_eq!(site.given(waits), 0);
    let held = site.core.why(external(1), at(0));
    assert_eq!(held, [Held::Gate(QUEUE, Shut::Full(3))], "and says why");
    site.end_one_of(external(1));
    assert_eq!(site.given(waits), 1, "what ends makes room");
    let next = site.ask(&[1], 9, 60_000);
    let first = site.started[0];
    site.tell([Event::Ended { run: first, fuel: 0, took: Duration::from_millis(1) }]);
    assert_eq!(site.given(next), 1, "also in a slot");
}

/// Workers that always ask would have left a plugin of the same queue nothing.
#[test]
fn workers_and_slots_take_turns_at_a_queue_that_has_too_little_for_both() {
    let mut site = Site::new(8);
    site.limit(QUEUE, at_once(1));
    site.enqueue(external(9), 20);
    site.enqueue(external(1), 20);
    let mut by_workers = 0;
    for _ in 0..20 {
        site.ask(&[1], 1, 60_000);
        match site.held.keys().next().copied() {
            Some(run) => {
                by_workers += 1;
                site.end(run);
            }
            None => {
                let run = *site.started.last().expect("one of both runs");
                site.tell([Event::Ended { run, fuel: 0, took: Duration::from_millis(1) }]);
            }
        }
    }
    assert!((5..=15).contains(&by_workers), "{by_workers} of 20");
}

#[test]
fn the_limits_of_kinds_and_tenants_hold() {
    let mut site = Site::new(8);
    site.enqueue(external(1), 9);
    site.enqueue(external(2), 9);
    site.limit(KIND, at_once(2));
    let ask = site.ask(&[1, 2], 9, 0);
    let of_kind = |site: &Site, kind| site.held.values().filter(|lane| lane.kind == KindId(kind)).count();
    assert_eq!((site.given(ask), of_kind(&site, 1)), (9, 2), "as many as asked for, of them no more of the one kind");
    let budget = Budget { concurrency: Some(10), ..Budget::default() };
    site.tell([Event::Budget { tenant: TenantId(1), budget }]);
    let ask = site.ask(&[1, 2], 9, 0);
    assert_eq!(site.given(ask), 1);
    site.enqueue(external(9), 1);
    assert!(site.started.is_empty(), "a tenant's limit is for workers and slots together");
    site.end_one_of(external(2));
    assert_eq!(site.started.len(), 1);
}

#[test]
fn a_rate_gives_a_token_when_there_is_one_and_no_sooner() {
    let mut site = Site::new(1);
    site.enqueue(external(1), 9);
    let rate = Some(Rate { jobs: 10, per: Millis(1_000), burst: 1 });
    site.limit(KIND, Limits { rate, ..Limits::default() });
    let first = site.ask(&[1], 5, 0);
    assert_eq!(site.given(first), 1);
    let asks: Vec<u64> = (0..3).map(|_| site.ask(&[1], 5, 60_000)).collect();
    let given = |site: &Site| asks.iter().map(|ask| site.given(*ask)).sum::<usize>();
    site.pass(99);
    assert_eq!(given(&site), 0, "not before its time");
    site.pass(1);
    assert_eq!(given(&site), 1);
    site.pass(200);
    assert_eq!(given(&site), 3);
}

/// What did not fit into the answer to a worker goes back, and had used up a token of each of its rates: jobs with large args
/// ran at a fraction of what their rate lets through.
#[test]
fn what_is_returned_before_a_worker_is_told_of_it_costs_no_token() {
    for of in [QUEUE, KIND] {
        let mut site = Site::new(1);
        site.enqueue(external(1), 9);
        let rate = Some(Rate { jobs: 10, per: Millis(1_000), burst: 3 });
        site.limit(of, Limits { rate, ..Limits::default() });
        let first = site.ask(&[1], 5, 0);
        assert_eq!(site.given(first), 3);
        let ended = |site: &mut Site, n: usize, is_returned: bool| {
            let run = site.given[&first][n];
            assert!(site.held.remove(&run).is_some());
            site.tell([if is_returned { Event::LeaseReturned(run) } else { Event::LeaseEnded(run) }]);
        };
        ended(&mut site, 0, false);
        let waits = site.ask(&[1], 5, 60_000);
        assert_eq!(site.given(waits), 0, "one that ended had its token");
        ended(&mut site, 1, true);
        assert_eq!(site.given(waits), 1, "one that never began has not");
        // More than the burst is in no bucket, and what is not held is not returned twice.
        site.pass(10_000);
        ended(&mut site, 2, true);
        let run = site.given[&first][2];
        site.tell([Event::LeaseReturned(run)]);
        let all = site.ask(&[1], 9, 0);
        assert_eq!(site.given(all), 3);
    }
}

#[test]
fn nothing_is_given_while_its_queue_or_kind_is_paused() {
    for of in [QUEUE, KIND] {
        let mut site = Site::new(1);
        site.enqueue(external(1), 1);
        site.limit(of, Limits { pause: Some(Pause::Open), ..Limits::default() });
        let none = site.ask(&[1], 1, 0);
        let waits = site.ask(&[1], 1, 60_000);
        assert_eq!((site.given(waits), &site.nothing), (0, &vec![none]));
        site.limit(of, Limits { pause: Some(Pause::Until(Time(50))), ..Limits::default() });
        site.pass(49);
        assert_eq!(site.given(waits), 0);
        site.pass(1);
        assert_eq!(site.given(waits), 1);
    }
    let mut site = Site::new(1);
    site.enqueue(external(1), 1);
    site.tell([Event::Paused(true)]);
    let none = site.ask(&[1], 1, 0);
    assert_eq!(site.nothing, [none], "nor after a restore");
}

#[test]
fn each_key_has_its_own_limits() {
    let keyed = |key: u64| Lane { key: KeyHash(key), ..external(1) };
    let limits = |limits| Event::KeyLimits { tenant: TenantId(1), kind: KindId(1), limits };
    for limit in [
        KeyLimits { concurrency: Some(1), ..KeyLimits::default() },
        KeyLimits { in_order: true, ..KeyLimits::default() },
    ] {
        let mut site = Site::new(1);
        site.tell([limits(limit)]);
        for key in [5, 6] {
            site.enqueue(keyed(key), 3);
        }
        let ask = site.ask(&[1], 9, 0);
        assert_eq!(site.given(ask), 2, "one of each key: {limit:?}");
        let waits = site.ask(&[1], 9, 60_000);
        assert_eq!(site.given(waits), 0);
        site.end_one_of(keyed(5));
        assert_eq!(site.given(waits), 1);
        let last = *site.given[&waits].last().unwrap();
        assert_eq!(site.held[&last], keyed(5), "and the next one of that key");
    }
}

#[test]
fn queues_share_what_workers_take_by_their_weights() {
    let mut site = Site::new(1);
    let weight = |queue, weight| Event::Weight { tenant: TenantId(1), queue: QueueId(queue), weight };
    site.tell([weight(1, 3), weight(2, 1)]);
    site.enqueue(in_queue(1, 1), 100);
    site.enqueue(in_queue(2, 1), 100);
    for _ in 0..40 {
        let ask = site.ask(&[1], 1, 0);
        assert_eq!(site.given(ask), 1);
    }
    let of_first = site.held.values().filter(|lane| lane.queue == QueueId(1)).count();
    assert!((28..=32).contains(&of_first), "{of_first} of 40");
}

/// A job that kills its worker would have taken with it, three times, whatever was given beside it.
#[test]
fn a_job_that_a_crash_stands_behind_is_given_alone() {
    let mut site = Site::new(1);
    site.enqueue(external(1), 5);
    site.enqueue(Lane { suspect: true, ..external(1) }, 2);
    let asks: Vec<u64> = (0..3).map(|_| site.ask(&[1], 9, 0)).collect();
    assert_eq!(asks.iter().map(|ask| site.given(*ask)).collect::<Vec<_>>(), [1, 1, 5]);
    assert!(site.held[&site.given[&asks[0]][0]].suspect && site.held[&site.given[&asks[1]][0]].suspect);
}

#[test]
fn a_lease_runs_out_unless_it_is_renewed_and_then_for_good() {
    let mut site = Site::new(1);
    site.enqueue(external(1), 2);
    let ask = site.ask(&[1], 2, 0);
    let [renewed, not] = site.given[&ask][..] else { panic!("two are given") };
    site.pass(LASTS.0 - 1);
    assert_eq!(site.core.renew(renewed, at(site.now)), Some(LASTS));
    site.pass(1);
    assert_eq!(site.expired, [not]);
    assert_eq!(site.core.renew(not, at(site.now)), None, "what is over stays so");
    site.pass(LASTS.0 - 2);
    assert_eq!(site.expired, [not]);
    site.pass(1);
    assert_eq!(site.expired, [not, renewed]);
    site.end(not);
    site.end(renewed);
    site.pass(10 * LASTS.0);
    assert_eq!(site.expired.len(), 2, "each ends once");
    assert_eq!(site.core.renew(run(99), at(site.now)), None);
}

#[test]
fn what_was_held_before_the_node_started_counts() {
    let mut site = Site::new(1);
    let known = run(77);
    site.held.insert(known, external(1));
    site.tell([Event::LeaseBegan { run: known, lane: external(1), lasts: Millis(30_000) }]);
    site.limit(QUEUE, at_once(1));
    site.enqueue(external(1), 1);
    let waits = site.ask(&[1], 1, 60_000);
    site.pass(29_999);
    assert_eq!((site.given(waits), site.expired.len()), (0, 0));
    site.pass(1);
    assert_eq!(site.expired, [known]);
    site.end(known);
    assert_eq!(site.given(waits), 1);
}

#[test]
fn who_waits_while_the_node_drains_is_told_and_who_holds_goes_on() {
    let mut site = Site::new(1);
    site.enqueue(external(1), 1);
    let holds = site.ask(&[1], 1, 0);
    let waits = site.ask(&[1], 1, 60_000);
    site.tell([Event::Drain]);
    assert_eq!(site.nothing, [waits]);
    let run = site.given[&holds][0];
    assert!(site.core.renew(run, at(0)).is_some());
    let late = site.ask(&[1], 1, 60_000);
    assert_eq!(site.nothing, [waits, late]);
    site.tell([Event::Resume]);
    site.enqueue(external(1), 1);
    let again = site.ask(&[1], 1, 0);
    assert_eq!(site.given(again), 1);
}

#[test]
fn whoever_is_gone_is_given_nothing() {
    let mut site = Site::new(1);
    let gone = site.ask(&[1], 1, 60_000);
    site.tell([Event::Gone(gone)]);
    site.enqueue(external(1), 1);
    assert!(site.given(gone) == 0 && site.held.is_empty());
    assert!(!site.core.is_asked_for(TenantId(1), KindId(1)));
}

/// The story: a queue that came later was never set to where the others were, had always had less than they, and got all.
#[test]
fn a_queue_that_comes_later_shares_what_workers_take_with_the_others() {
    let mut site = Site::new(1);
    site.enqueue(in_queue(1, 1), 10_000);
    let mut of_first = Vec::new();
    for n in 0..600 {
        if n == 200 {
            site.enqueue(in_queue(2, 1), 10_000);
        }
        site.now = n * 5;
        site.next_ask += 1;
        let id = site.next_ask;
        let ask = Ask { id, tenant: TenantId(1), kinds: vec![KindId(1)], max: 1, until: Millis(site.now) };
        site.tell([Event::Asked(ask)]);
        for run in site.given.get(&id).cloned().unwrap_or_default() {
            of_first.push(run.at.job.0 <= 10_000);
            site.held.remove(&run);
            site.tell([Event::LeaseEnded(run)]);
        }
    }
    let of_first = of_first[200..].iter().filter(|of_first| **of_first).count();
    assert!((190..=210).contains(&of_first), "half of 400: {of_first}");
}
