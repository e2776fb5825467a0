//! Commands about schedules: few names, so that they meet; slots by the second, also such as were fired before.

use runner_store::command::{Command, Fire, Fired, IdempotencyKey, ScheduleCall, ScheduleVerb};
use runner_store::job::{JobSpec, Millis, Time};
use runner_store::schedule::{CatchUp, Overlap, Plan, ScheduleRef, Source, When};

use super::Workload;

impl Workload {
    pub(super) fn about_a_schedule(&mut self) -> Command {
        let name = ["nightly", "hourly", "probe"][self.dice.below(3) as usize].to_owned();
        let at = ScheduleRef { tenant: self.a_tenant(), name };
        let verb = match self.dice.below(16) {
            0..2 => ScheduleVerb::Create(self.a_plan(), self.a_source()),
            2..4 => {
                let edits = self.dice.one_in(2).then(|| self.editions.get(&at).copied().unwrap_or_default());
                ScheduleVerb::Edit { plan: self.a_plan(), source: self.a_source(), edits }
            }
            4 => ScheduleVerb::Pause,
            5..7 => ScheduleVerb::Resume,
            7 if self.dice.one_in(3) => ScheduleVerb::Delete(self.a_source()),
            _ => return self.a_fire(at),
        };
        Command::Schedule(Box::new(ScheduleCall { at, verb }))
    }

    fn a_fire(&mut self, at: ScheduleRef) -> Command {
        let edits = self.editions.get(&at).copied().unwrap_or_default();
        let what = if self.dice.one_in(4) {
            let key = |d: &mut super::Dice| IdempotencyKey { key: d.below(20).to_string(), request: [0; 32] };
            Fired::ByHand(self.dice.maybe(2, key))
        } else {
            // Now and then a second that has yet to come, or one that is long gone.
            let newest = self.now.0 / 1_000 + self.dice.below(8) / 7 - self.dice.below(16) / 15 * 5;
            let n = self.dice.below(4);
            let slots = (0..n).map(|back| Time((newest - (n - 1 - back)) * 1_000)).collect();
            let missed = self.dice.maybe(4, |d| (1 + d.below(3), Time((newest - 4) * 1_000)));
            Fired::Slots { slots, missed, upto: Time(newest * 1_000) }
        };
        let (queue, kind) = ("p".to_owned(), "a".to_owned());
        let key = self.aside().maybe(2, |_| runner_store::job::JobKey::text("acme"));
        Command::Fire(Box::new(Fire { at, edits, queue, kind, args_bytes: 9, key, what }))
    }

    fn a_plan(&mut self) -> Plan {
        let d = &mut self.dice;
        let interval = Millis(if d.one_in(10) { 0 } else { 1_000 });
        Plan {
            when: When::Every { interval, start: Time(d.below(2) * 1_000) },
            overlap: Overlap::ALL[d.below(3) as usize],
            catch_up: CatchUp::One,
            deadline: d.maybe(4, |d| Millis(1_000 + d.below(3) * 1_000)),
            job: JobSpec { queue: "p".to_owned(), ..JobSpec::new("a", vec![b'x'; d.below(9) as usize]) },
        }
    }

    fn a_source(&mut self) -> Source {
        if self.dice.one_in(4) { Source::Manifest("thumbs".to_owned()) } else { Source::Api }
    }
}
