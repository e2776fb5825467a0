//! How a tenant's queues share what it may claim: by their weights and by what their runs cost, and never more than a gate
//! lets through.

use std::collections::HashMap;

use runner_store::command::{Grant, Lane};
use runner_store::job::QueueId;

use super::cost::{self, Cost};
use super::gate::GateOf;
use super::line::Lines;

/// Queues of one tenant of which a run is kept ready beyond their share.
const READY_QUEUES_MAX: usize = 64;

/// A queue's weight divided by what its runs cost is less than one where they take long: it is counted in these.
const PULL_SCALE: u128 = 1 << 32;

/// What one queue of a tenant could use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueDemand {
    pub(super) of: GateOf,
    /// Runs, from all of its lanes.
    pub(super) wants: u32,
    pub(super) lanes: Vec<Grant>,
    /// What is ready of it.
    ready: usize,
    weight: u32,
    /// What a run of it costs, about.
    cost: Cost,
    /// Whose turn it is, lowest first.
    rank: u64,
}

/// Lanes whose jobs run by themselves, as they are found: those of a queue one behind another.
#[derive(Debug, Default)]
pub(super) struct Singles(Vec<(QueueId, Vec<Grant>)>);

impl Singles {
    pub(super) fn add(&mut self, lane: Lane, max: u32) {
        if max == 0 {
            return;
        }
        let grant = Grant { lane, max };
        match self.0.last_mut() {
            Some((queue, lanes)) if *queue == lane.queue => lanes.push(grant),
            _ => self.0.push((lane.queue, vec![grant])),
        }
    }

    /// By queue, whose turn it is first; `cost` is of a lane's runs, and `room` says what a queue lets through.
    pub(super) fn queues(
        self,
        lines: &Lines,
        cost: impl Fn(Lane) -> Cost,
        room: impl Fn(GateOf) -> (u32, u32),
    ) -> Vec<QueueDemand> {
        let queue = |(queue, lanes): (QueueId, Vec<Grant>)| {
            let sum = lanes.iter().fold(0_u32, |sum, grant| sum.saturating_add(grant.max));
            let of = GateOf::Queue(lanes[0].lane.tenant, queue);
            let (calls, jobs) = room(of);
            QueueDemand {
                of,
                wants: sum.min(calls).min(jobs),
                cost: cost::mean(lanes.iter().map(|grant| cost(grant.lane))),
                lanes,
                ready: lines.len_of(queue),
                weight: lines.weight(queue),
                rank: lines.rank(queue),
            }
        };
        let mut queues: Vec<QueueDemand> = self.0.into_iter().map(queue).collect();
        queues.sort_by_key(|queue| queue.rank);
        queues
    }
}

/// How many more are claimed ahead where several queues share what is: as parts of few are whole runs, some of the queues
/// would be out of theirs too soon.
pub(super) fn ahead(queues: &[QueueDemand], ahead: u32) -> u32 {
    let several = ahead > 0 && queues.len() > 1;
    if several { queues.len().min(READY_QUEUES_MAX) as u32 } else { 0 }
}

/// Splits what a tenant claims among its queues; and one for each that has nothing ready, but not more than `most` in all.
/// Answers positions and how many.
///
/// What is ready of each is to last as long as that of the others: so many runs as are its part by weight, divided by what
/// they cost. By their number alone, a queue of quick runs would be out of them before the next claim is answered, and
/// others would start in its turn. What is left goes to whose turn it is.
pub(super) fn split(queues: &[QueueDemand], max: u32, most: u32) -> Vec<(usize, u32)> {
    if let [one] = queues {
        return vec![(0, one.wants.min(max))];
    }
    let pull = |queue: &QueueDemand| u128::from(queue.weight) * PULL_SCALE / u128::from(queue.cost.micros().max(1));
    let pulls = queues.iter().map(pull).sum::<u128>().max(1);
    let stock = queues.iter().map(|queue| queue.ready as u128).sum::<u128>() + u128::from(max);
    let mut left = max;
    let mut parts: Vec<u32> = Vec::with_capacity(queues.len());
    for queue in queues {
        let lacks = (stock * pull(queue) / pulls).saturating_sub(queue.ready as u128);
        let part = queue.wants.min(u32::try_from(lacks).unwrap_or(u32::MAX)).min(left);
        left -= part;
        parts.push(part);
    }
    for (queue, part) in queues.iter().zip(&mut parts) {
        let more = left.min(queue.wants - *part);
        (*part, left) = (*part + more, left - more);
    }
    let mut beyond = most.saturating_sub(parts.iter().sum());
    for (queue, part) in queues.iter().zip(&mut parts).take(READY_QUEUES_MAX) {
        if *part == 0 && queue.ready == 0 && queue.wants > 0 && beyond > 0 {
            (*part, beyond) = (1, beyond - 1);
        }
    }
    parts.into_iter().enumerate().filter(|(_, part)| *part > 0).collect()
}

/// The room of what has no gate.
const NO_LIMIT: (u32, u32) = (u32::MAX, u32::MAX);

/// What gates still let through, while one claim is put together.
#[derive(Debug, Default)]
pub(super) struct Left(HashMap<GateOf, (u32, u32)>);

impl Left {
    fn of(&mut self, gate: GateOf, room: impl Fn(GateOf) -> (u32, u32)) -> &mut (u32, u32) {
        self.0.entry(gate).or_insert_with(|| room(gate))
    }

    /// One call of up to so many jobs; answers how many.
    pub(super) fn take_call(&mut self, lane: Lane, max: u32, room: impl Fn(GateOf) -> (u32, u32)) -> u32 {
        let gates = super::gate::gates_of(lane);
        let through = gates
            .iter()
            .map(|gate| *self.of(*gate, &room))
            .fold(max, |max, (calls, jobs)| if calls == 0 { 0 } else { max.min(jobs) });
        for gate in gates {
            let (calls, jobs) = self.of(gate, &room);
            (*calls, *jobs) = (less(*calls, u32::from(through > 0)), less(*jobs, through));
        }
        through
    }

    /// Runs of a queue, each by itself.
    pub(super) fn of_queue(&mut self, queue: &QueueDemand, max: u32, room: impl Fn(GateOf) -> (u32, u32)) -> u32 {
        if room(queue.of) == NO_LIMIT {
            return max;
        }
        let (calls, jobs) = self.of(queue.of, &room);
        let through = max.min(*calls).min(*jobs);
        (*calls, *jobs) = (less(*calls, through), less(*jobs, through));
        through
    }

    /// Runs of a lane, as far as its kind lets them through; its queue was asked for all of its lanes.
    pub(super) fn take(&mut self, lane: Lane, max: u32, room: impl Fn(GateOf) -> (u32, u32)) -> u32 {
        let kind = GateOf::Kind(lane.tenant, lane.kind);
        if room(kind) == NO_LIMIT {
            return max;
        }
        let (calls, jobs) = self.of(kind, &room);
        let through = max.min(*calls).min(*jobs);
        (*calls, *jobs) = (less(*calls, through), less(*jobs, through));
        through
    }
}

/// What is left of a room; where there is no limit there is none.
fn less(room: u32, taken: u32) -> u32 {
    if room == u32::MAX { room } else { room.saturating_sub(taken) }
}
