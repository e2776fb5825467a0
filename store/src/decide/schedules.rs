//! Schedules: made, changed, and fired. A slot is decided once: what becomes of it and that it is behind us are written
//! together, so that nobody can fire it again.

use super::{Batch, keys};
use crate::command::{
    Enqueued, Fire, Fired, IdempotencyKey, Name, NameClass, Reply, ScheduleCall, ScheduleVerb, Scope, Total, TotalKey,
};
use crate::engine::{Change, KeyRef, Needs};
use crate::job::{Event, Invalid, JobId, JobKey, JobRef, JobSpec, Millis, Rejection, StateName, TenantId, Time};
use crate::schedule::{
    CATCH_UP_MAX, OfSchedule, Overlap, Plan, SCHEDULES_MAX, Schedule, ScheduleRef, Skip, Source, Tally, When,
    schedule_problem,
};

/// How long a call may take to come here: longer than it waits to be let in, and for the writer.
const STARTED_JUST_NOW: Millis = Millis::secs(30);
const NEWER_SLOT: &str = "a newer slot of its schedule has come, which cancels what has not ended";

pub(super) fn needs(call: &ScheduleCall, needs: &mut Needs) {
    needs.schedules.entry(call.at.clone()).or_default();
}

pub(super) fn fire_needs(call: &Fire, needs: &mut Needs) {
    let tenant = call.at.tenant;
    *needs.schedules.entry(call.at.clone()).or_default() = true;
    for (class, name) in [(NameClass::Queue, &call.queue), (NameClass::Kind, &call.kind)] {
        needs.names.insert(Name { tenant, class, name: name.clone() });
    }
    needs.scopes.insert(Scope::Queue(tenant, call.queue.clone()));
    needs.scopes.insert(Scope::Tenant(tenant));
    if let Fired::ByHand(Some(key)) = &call.what {
        keys::needs(tenant, key, needs);
    }
}

impl Batch<'_> {
    pub(super) fn schedule(&mut self, call: &ScheduleCall) -> Result<Reply, Rejection> {
        let at = &call.at;
        if let Some(why) = schedule_problem(&at.name) {
            return Err(Invalid { field: "name".to_owned(), why }.into());
        }
        let found = self.found(at);
        match (&call.verb, found) {
            (ScheduleVerb::Create(plan, source), Some(found)) => same(found, plan, source),
            (ScheduleVerb::Create(plan, source), None) => self.make(at, plan, source),
            (_, None) => Err(Rejection::NoSchedule),
            (ScheduleVerb::Edit { plan, source, edits }, Some(found)) => {
                owned(&found, source)?;
                if edits.is_some_and(|edits| edits != found.edits) {
                    return Err(Rejection::ScheduleChanged);
                }
                plan.check()?;
                if found.plan == *plan {
                    return Ok(unchanged(found));
                }
                // Its new times begin now: what they would have been before is nothing that was missed.
                let from = if found.plan.when == plan.when { found.from } else { begins(plan, self.now) };
                Ok(self.keep(Schedule { plan: plan.clone(), from, edits: found.edits.wrapping_add(1), ..found }))
            }
            (ScheduleVerb::Pause, Some(found)) if found.paused_at.is_some() => Ok(unchanged(found)),
            (ScheduleVerb::Pause, Some(found)) => Ok(self.keep(Schedule { paused_at: Some(self.now), ..found })),
            (ScheduleVerb::Resume, Some(found)) if found.paused_at.is_none() => Ok(unchanged(found)),
            (ScheduleVerb::Resume, Some(found)) => {
                Ok(self.keep(Schedule { paused_at: None, from: self.now.max(found.from), ..found }))
            }
            (ScheduleVerb::Delete(source), Some(found)) => {
                owned(&found, source)?;
                self.put_schedule(at.clone(), None);
                *self.schedules_total(at.tenant) -= 1;
                Ok(Reply::Deleted)
            }
        }
    }

    fn make(&mut self, at: &ScheduleRef, plan: &Plan, source: &Source) -> Result<Reply, Rejection> {
        plan.check()?;
        let key = TotalKey { tenant: at.tenant, of: Total::Schedules };
        if self.total(key) >= SCHEDULES_MAX {
            return Err(Rejection::TooManySchedules { max: SCHEDULES_MAX });
        }
        if !self.conduct.accept {
            return Err(Rejection::DiskReserve);
        }
        *self.schedules_total(at.tenant) += 1;
        Ok(self.keep(Schedule {
            tenant: at.tenant,
            name: at.name.clone(),
            plan: plan.clone(),
            source: source.clone(),
            paused_at: None,
            created_at: self.now,
            from: begins(plan, self.now),
            last: None,
            edits: 0,
            tally: Tally::default(),
        }))
    }

    pub(super) fn fire(&mut self, call: &Fire) -> Result<Reply, Rejection> {
        if let Fired::ByHand(Some(key)) = &call.what
            && let Some(Reply::Enqueued(jobs)) = self.repeated_call(KeyRef::of(call.at.tenant, &key.key), key)?
        {
            return Ok(Reply::Fired(jobs));
        }
        let schedule = self.found(&call.at).ok_or(Rejection::NoSchedule)?;
        let job = &schedule.plan.job;
        if schedule.edits != call.edits || job.queue != call.queue || job.kind != call.kind {
            // What was read for this is what another edition needs.
            return Err(Rejection::ScheduleChanged);
        }
        match &call.what {
            Fired::ByHand(again) => self.fire_by_hand(schedule, call.key.as_ref(), again.as_ref()),
            Fired::Slots { slots, missed, upto } => {
                Ok(self.fire_slots(schedule, call.key.as_ref(), slots, (*missed, *upto)))
            }
        }
    }

    fn fire_by_hand(
        &mut self,
        schedule: Schedule,
        key: Option<&JobKey>,
        again: Option<&IdempotencyKey>,
    ) -> Result<Reply, Rejection> {
        let at = schedule.at();
        if !self.conduct.accept {
            return Err(Rejection::DiskReserve);
        }
        self.room_for_one(at.tenant, &schedule.plan.job)?;
        let others = self.overlapping(&at);
        if let (Overlap::Skip, Some(job)) = (schedule.plan.overlap, others.first()) {
            return Err(Rejection::Overlapping(*job));
        }
        let mut schedule = schedule;
        let job = self.make_job(&mut schedule, key, &others, None);
        self.keep(schedule);
        if let Some(call) = again {
            self.remember(KeyRef::of(at.tenant, &call.key), call, vec![job]);
        }
        Ok(Reply::Fired(vec![job]))
    }

    fn fire_slots(
        &mut self,
        mut schedule: Schedule,
        key: Option<&JobKey>,
        slots: &[Time],
        (missed, upto): (Option<(u64, Time)>, Time),
    ) -> Reply {
        let (now, resumed) = (self.now, self.schedules_from);
        if self.paused || schedule.paused_at.is_some() || upto > now || !schedule.may_fire(upto, resumed) {
            return Reply::Fired(Vec::new());
        }
        let at = schedule.at();
        let mut jobs = Vec::new();
        if let Some((missed, last)) = missed {
            schedule.tally.skip(last, Skip::Missed, missed);
        }
        for slot in slots.iter().take(CATCH_UP_MAX as usize) {
            if *slot > upto || !schedule.may_fire(*slot, resumed) {
                continue;
            }
            schedule.last = Some(*slot);
            let others = self.overlapping(&at);
            match self.why_skipped(&schedule, *slot, &others) {
                Some(why) => schedule.tally.skip(*slot, why, 1),
                None => jobs.push(self.make_job(&mut schedule, key, &others, Some(*slot))),
            }
        }
        schedule.last = schedule.last.max(Some(upto));
        self.keep(schedule);
        Reply::Fired(jobs)
    }

    fn why_skipped(&self, schedule: &Schedule, slot: Time, others: &[JobId]) -> Option<Skip> {
        let plan = &schedule.plan;
        if plan.deadline.is_some_and(|deadline| slot.after(deadline) <= self.now) {
            // Its job would be discarded before it began.
            return Some(Skip::Missed);
        }
        if plan.overlap == Overlap::Skip && !others.is_empty() {
            return Some(Skip::Overlap);
        }
        if !self.conduct.accept {
            return Some(Skip::DiskReserve);
        }
        match self.room_for_one(schedule.tenant, &plan.job) {
            Ok(()) => None,
            Err(Rejection::TenantStorage { .. }) => Some(Skip::TenantStorage),
            Err(_) => Some(Skip::QueueFull),
        }
    }

    fn make_job(
        &mut self,
        schedule: &mut Schedule,
        key: Option<&JobKey>,
        others: &[JobId],
        slot: Option<Time>,
    ) -> Enqueued {
        let tenant = schedule.tenant;
        if schedule.plan.overlap == Overlap::CancelRunning {
            for job in others {
                let event = Event::CancelRequested { reason: Some(NEWER_SLOT.to_owned()) };
                // One that was flagged before is about to end.
                _ = self.verb(JobRef { tenant, job: *job }, &event);
            }
        }
        let expires_at = schedule.plan.deadline.map(|deadline| slot.unwrap_or(self.now).after(deadline));
        let of = OfSchedule { name: schedule.name.clone(), slot };
        let (schedule_of, key) = (Some(of), key.cloned());
        let spec = JobSpec { run_at: slot, expires_at, schedule: schedule_of, key, ..schedule.plan.job.clone() };
        let id = self.next_job;
        self.next_job = JobId(id.0 + 1);
        let at = JobRef { tenant, job: id };
        self.accept(at, &spec, 0, Vec::new()).expect("a new id is nobody's");
        schedule.tally.fired = schedule.tally.fired.saturating_add(1);
        schedule.tally.last_fired = Some((self.now, id));
        let state = self.job(at).map_or(StateName::Available, |job| job.state.name());
        Enqueued { id, state, duplicate: false }
    }

    /// The unfinished jobs of a schedule at this point of the batch, as far as they were read.
    fn overlapping(&self, at: &ScheduleRef) -> Vec<JobId> {
        let unfinished = |id: &&JobId| {
            let job = self.job(JobRef { tenant: at.tenant, job: **id });
            job.is_some_and(|job| !job.state.name().is_final())
        };
        let read = self.set.scheduled.get(at);
        let new = self.newly_scheduled.get(at).into_iter().flatten();
        let mut ids: Vec<JobId> =
            read.into_iter().flat_map(|(ids, _)| ids).chain(new).filter(unfinished).copied().collect();
        ids.sort_unstable();
        ids.dedup();
        if let (true, Some((read, false))) = (ids.is_empty(), read) {
            // All that were read have ended in this batch, and there are others.
            ids.extend(read.last());
        }
        ids
    }

    /// The schedule as it is at this point of the batch.
    fn found(&self, at: &ScheduleRef) -> Option<Schedule> {
        match self.schedules.get(at) {
            Some(changed) => changed.clone(),
            None => self.set.schedules.get(at).cloned(),
        }
    }

    fn keep(&mut self, schedule: Schedule) -> Reply {
        self.put_schedule(schedule.at(), Some(schedule.clone()));
        Reply::Schedule { schedule: Box::new(schedule), changed: true }
    }

    fn put_schedule(&mut self, at: ScheduleRef, schedule: Option<Schedule>) {
        self.changes.push(Change::Schedule(at.clone(), schedule.clone().map(Box::new)));
        self.schedules.insert(at, schedule);
    }

    fn schedules_total(&mut self, tenant: TenantId) -> &mut i64 {
        self.totals.entry(TotalKey { tenant, of: Total::Schedules }).or_default()
    }
}

/// A second call to make what is there: it is so already, or the name is taken.
fn same(found: Schedule, plan: &Plan, source: &Source) -> Result<Reply, Rejection> {
    if found.plan == *plan && found.source == *source {
        return Ok(unchanged(found));
    }
    Err(Rejection::ScheduleExists)
}

/// From when on the slots of a plan count that holds from now on. An interval that begins now says so a moment before it
/// comes here: its start is its first slot.
fn begins(plan: &Plan, now: Time) -> Time {
    match plan.when {
        When::Every { start, .. } if start <= now && now.since(start) <= STARTED_JUST_NOW => start,
        When::Every { .. } | When::Cron { .. } => now,
    }
}

fn owned(found: &Schedule, source: &Source) -> Result<(), Rejection> {
    match (&found.source, source) {
        (own, said) if own == said => Ok(()),
        (Source::Manifest(plugin), _) => Err(Rejection::FromManifest { plugin: plugin.clone() }),
        (Source::Api, _) => Err(Rejection::ScheduleExists),
    }
}

fn unchanged(schedule: Schedule) -> Reply {
    Reply::Schedule { schedule: Box::new(schedule), changed: false }
}
