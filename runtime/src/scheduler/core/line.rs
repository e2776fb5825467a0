//! Runs of one tenant that wait for a slot: its queues take turns by their weights, and within a queue goes first what comes
//! first. A turn is not a run but what runs cost: see [`super::cost`].

use std::collections::{BTreeMap, BTreeSet};

use runner_store::command::{Lane, RunRef};
use runner_store::index::Order;
use runner_store::job::QueueId;

use super::Call;
use super::cost::{Cost, Counted, Had};

/// What a queue that says nothing weighs.
pub const WEIGHT_DEFAULT: u32 = 1;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lines {
    by_queue: BTreeMap<QueueId, Line>,
    /// Those that have runs which wait, by what they have had.
    waiting: BTreeSet<(u64, QueueId)>,
    ready: usize,
    /// What the queue whose run started last had had by then: who comes anew begins there.
    clock: u64,
}

#[derive(Debug)]
struct Line {
    ready: BTreeMap<Order, Call>,
    weight: u32,
    /// What its runs have cost, by its weight.
    had: Had,
    /// The place of the last call that was taken and does not run in order.
    last: Option<Order>,
}

impl Default for Line {
    fn default() -> Self {
        Self { ready: BTreeMap::new(), weight: WEIGHT_DEFAULT, had: Had::default(), last: None }
    }
}

impl Lines {
    /// Calls that are ready, of all queues.
    pub(super) fn len(&self) -> usize {
        self.ready
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready == 0
    }

    /// Calls that are ready, of one queue.
    pub(super) fn len_of(&self, queue: QueueId) -> usize {
        self.by_queue.get(&queue).map_or(0, |line| line.ready.len())
    }

    /// The place of the last call of one queue that is ready, or else was: what comes before it has been passed over.
    pub(super) fn last_of(&self, queue: QueueId) -> Option<Order> {
        let line = self.by_queue.get(&queue)?;
        line.ready.last_key_value().map(|(order, _)| *order).or(line.last)
    }

    pub(super) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.by_queue.values().flat_map(|line| line.ready.values())
    }

    pub(super) fn set_weight(&mut self, queue: QueueId, weight: u32) {
        self.by_queue.entry(queue).or_default().weight = weight.max(1);
    }

    pub(super) fn weight(&self, queue: QueueId) -> u32 {
        self.by_queue.get(&queue).map_or(WEIGHT_DEFAULT, |line| line.weight)
    }

    /// Whose turn it is among queues, lowest first.
    pub(super) fn rank(&self, queue: QueueId) -> u64 {
        self.by_queue.get(&queue).map_or(0, |line| line.had.sum).max(self.clock)
    }

    pub(super) fn insert(&mut self, call: Call) {
        let queue = call.lane.queue;
        self.comes(queue);
        let line = self.by_queue.entry(queue).or_default();
        if line.ready.is_empty() {
            self.waiting.insert((line.had.sum, queue));
        }
        self.ready += usize::from(line.ready.insert(call.order, call).is_none());
    }

    /// What starts next.
    pub(super) fn first(&self) -> Option<&Call> {
        self.in_turn().next()
    }

    /// What would start, one behind another, if nothing changed meanwhile.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = &Call> {
        let line = |(_, queue): &(u64, QueueId)| self.by_queue.get(queue);
        self.waiting.iter().filter_map(line).flat_map(|line| line.ready.values())
    }

    /// Takes a call; it is to be [`Lines::start`]ed.
    pub(super) fn take(&mut self, queue: QueueId, order: Order) -> Option<Call> {
        let line = self.by_queue.get_mut(&queue)?;
        let call = line.ready.remove(&order)?;
        self.ready -= 1;
        if line.ready.is_empty() {
            self.waiting.remove(&(line.had.sum, queue));
        }
        Some(call)
    }

    /// What comes before this place in a queue has been passed over.
    pub(super) fn passed(&mut self, queue: QueueId, order: Order) {
        if let Some(line) = self.by_queue.get_mut(&queue) {
            line.last = Some(order);
        }
    }

    /// A queue that has nothing begins where the others are.
    pub(super) fn comes(&mut self, queue: QueueId) {
        let line = self.by_queue.entry(queue).or_default();
        if line.ready.is_empty() && line.had.runs == 0 {
            line.had.sum = line.had.sum.max(self.clock);
        }
    }

    /// A run of a queue has started.
    pub(super) fn start(&mut self, queue: QueueId, run: Counted) {
        let line = self.by_queue.entry(queue).or_default();
        self.clock = self.clock.max(line.had.by(run.began));
        self.has_had(queue, |had, _| had.starts(run));
    }

    /// It has ended, and cost this.
    pub(super) fn end(&mut self, queue: QueueId, run: Counted, cost: Cost) {
        self.has_had(queue, |had, weight| had.ends(run, cost, weight));
    }

    fn has_had(&mut self, queue: QueueId, becomes: impl FnOnce(&mut Had, u32)) {
        let Some(line) = self.by_queue.get_mut(&queue) else { return };
        let was = line.had.sum;
        becomes(&mut line.had, line.weight);
        if !line.ready.is_empty() {
            self.waiting.remove(&(was, queue));
            self.waiting.insert((line.had.sum, queue));
        }
        // What nobody waits in and nothing sets apart from a new one is forgotten.
        if line.ready.is_empty() && line.had.runs == 0 && line.weight == WEIGHT_DEFAULT && line.had.sum <= self.clock {
            self.by_queue.remove(&queue);
        }
    }

    /// Takes out one run, with the call if it was alone in it. Its lane, how many calls went, and the call's order.
    pub(super) fn take_out(&mut self, run: RunRef) -> Option<(Lane, u32)> {
        let line = self
            .by_queue
            .values_mut()
            .find(|line| line.ready.values().any(|call| call.runs().any(|one| one == run)))?;
        let call = line.ready.values_mut().find(|call| call.runs().any(|one| one == run))?;
        let (lane, order) = (call.lane, call.order);
        if !call.others.is_empty() {
            if call.first == run {
                call.first = call.others.remove(0);
            } else {
                call.others.retain(|other| *other != run);
            }
            return Some((lane, 0));
        }
        line.ready.remove(&order);
        self.ready -= 1;
        if line.ready.is_empty() {
            let had = line.had.sum;
            self.waiting.remove(&(had, lane.queue));
        }
        Some((lane, 1))
    }

    /// Takes out every call of lanes that are meant.
    pub(super) fn take_all(&mut self, meant: &dyn Fn(Lane) -> bool) -> Vec<Call> {
        let mut taken = Vec::new();
        for (queue, line) in &mut self.by_queue {
            let orders: Vec<Order> =
                line.ready.iter().filter(|(_, call)| meant(call.lane)).map(|(at, _)| *at).collect();
            let was_waiting = !line.ready.is_empty();
            taken.extend(orders.iter().filter_map(|order| line.ready.remove(order)));
            if was_waiting && line.ready.is_empty() {
                self.waiting.remove(&(line.had.sum, *queue));
            }
        }
        self.ready -= taken.len();
        taken
    }
}
