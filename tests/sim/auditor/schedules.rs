//! What becomes of schedules' slots, from commands and replies alone: none is a job twice, and under `skip` there is one
//! unfinished job at a time.

use std::collections::HashMap;

use runner_store::command::{Command, Fire, Fired, Reply, ScheduleVerb};
use runner_store::job::{JobRef, StateName, Time};
use runner_store::schedule::{Overlap, ScheduleRef};

/// See the module.
#[derive(Default)]
pub(super) struct Slots {
    known: HashMap<ScheduleRef, Known>,
    made: HashMap<ScheduleRef, Vec<JobRef>>,
}

struct Known {
    overlap: Overlap,
    /// Whether that was changed in the present batch, before or behind what it fired.
    changed: bool,
    last: Option<Time>,
}

impl Slots {
    /// Another batch begins.
    pub(super) fn next_batch(&mut self) {
        self.known.values_mut().for_each(|known| known.changed = false);
    }

    /// Follows a command about a schedule.
    #[track_caller]
    pub(super) fn follow(&mut self, now: Time, command: &Command, reply: &Reply) {
        match (command, reply) {
            (Command::Schedule(call), Reply::Schedule { schedule, .. }) => {
                let known = self.known.remove(&call.at).filter(|_| !matches!(call.verb, ScheduleVerb::Create(..)));
                let overlap = schedule.plan.overlap;
                let changed = known.as_ref().is_none_or(|known| known.changed || known.overlap != overlap);
                let last = known.and_then(|known| known.last).max(schedule.last);
                self.known.insert(call.at.clone(), Known { overlap, changed, last });
            }
            (Command::Schedule(call), Reply::Deleted) => _ = self.known.remove(&call.at),
            (Command::Fire(call), Reply::Fired(jobs)) => {
                if let Fired::Slots { slots, upto, .. } = &call.what
                    && !jobs.is_empty()
                {
                    let known =
                        self.known.get_mut(&call.at).expect("nobody fires a slot of a schedule that is not there");
                    let new = slots.iter().filter(|slot| known.last.is_none_or(|last| **slot > last));
                    assert!(jobs.len() <= new.count(), "{call:?}: a slot was fired twice");
                    assert!(*upto <= now, "{call:?}: a slot was fired before its time");
                    known.last = Some(*upto);
                }
            }
            _ => {}
        }
    }

    /// A job of a schedule comes into being, while others are in these states.
    #[track_caller]
    pub(super) fn begin(&mut self, call: &Fire, at: JobRef, state: impl Fn(JobRef) -> Option<StateName>) {
        let made = self.made.entry(call.at.clone()).or_default();
        made.retain(|other| state(*other).is_some());
        if self.known.get(&call.at).is_some_and(|known| known.overlap == Overlap::Skip && !known.changed) {
            let other = made.iter().find(|other| state(**other).is_some_and(|state| !state.is_final()));
            assert!(other.is_none(), "{at:?} of {:?} overlaps with {other:?}", call.at);
        }
        made.push(at);
    }
}
