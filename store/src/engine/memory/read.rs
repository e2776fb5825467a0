//! Reading from memory: what a batch may touch, and the answers to queries.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use super::{Tables, View, event_bytes};
use crate::command::{
    Answer, Events, JobsPage, JobsQuery, KeyedLane, KeysInUse, KvKeysQuery, Lane, Name, NameClass, Oldest,
    OldestOfQueues, Query, RunRecord, RunRef, Scope, Settings, Stored, Sweep, Total, TotalKey, limits,
};
use crate::engine::{
    Heads, KeyRef, KvKey, Needs, Page, REVIVED_ROWS_MAX, SWEEP_GROUPS_MAX, Snapshot, WAITERS_READ, Wait, WorkingSet,
    behind, put_in_use, with_new_names,
};
use crate::error::StoreError;
use crate::index::{self, BegunKey, DueKey, EndKey, KeyOf, Order, ScheduledKey, WaitKey, behind_priority};
use crate::job::{Holder, Job, JobId, JobRef, Millis, QueueId, RunNumber, Seq, State, StateName, TenantId, Time};
use crate::schedule::{OVERLAPS_READ, ScheduleRef};

impl Tables {
    pub(super) fn prefetch(&self, needs: &Needs, now: Time, uptime: Millis) -> WorkingSet {
        let mut set = WorkingSet {
            now,
            uptime,
            paused: self.paused,
            next_job: JobId(self.next_job),
            next_name: self.next_name,
            schedules_from: self.schedules_from,
            listening: Arc::clone(&self.listening),
            ..WorkingSet::default()
        };
        let mut wanted: Vec<JobRef> = needs.jobs.iter().copied().collect();
        for (lane, max) in &needs.lanes {
            let orders = self.lanes.get(lane);
            let max = *max as usize;
            let at = |order: &Order| JobRef { tenant: lane.tenant, job: order.id };
            let jobs: Vec<JobRef> = orders.into_iter().flatten().take(max).map(at).collect();
            wanted.extend(&jobs);
            set.lanes.insert(*lane, Heads { jobs, all: orders.map_or(0, BTreeSet::len) <= max });
        }
        self.find_heard(needs.heard, &mut set);
        let due = self.due.iter().take_while(|key| key.run_at <= now).take(needs.due as usize);
        set.due = due.map(DueKey::at).collect();
        wanted.extend(&set.due);
        self.find_dead(needs, &mut set);
        wanted.extend(&set.dead);
        set.pages = needs.pages.iter().map(|query| self.page(query)).collect();
        wanted.extend(set.pages.iter().flat_map(|page| &page.jobs));
        wanted.into_iter().for_each(|at| self.put(at, &mut set));
        set.kv = needs.kv.iter().map(|key| (key.clone(), self.kv.get(key).cloned())).collect();
        let logs = |at: &JobRef| {
            let range = self.run_logs.range((*at, RunNumber(0))..=(*at, RunNumber(u32::MAX)));
            range.map(|((_, run), log)| (*run, log.len())).collect()
        };
        set.run_logs = needs.run_logs.iter().map(|at| (*at, logs(at))).collect();
        set.runs = needs.runs.iter().map(|at| (*at, self.runs(*at))).collect();
        for name in &needs.names {
            if let Some(number) = self.names.get(name) {
                set.names.insert(name.clone(), *number);
            }
        }
        for tenant in with_new_names(needs, &set) {
            let counts = self.counts.iter().filter(|(key, n)| key.lane.tenant == tenant && **n > 0);
            put_in_use(&mut set, tenant, counts.map(|(key, _)| Ok(*key))).expect("nothing is read from a file");
        }
        for key in &needs.keys {
            if let Some(record) = self.keys.get(key) {
                set.keys.insert(*key, record.clone());
            }
        }
        let expired = self.keys_until.iter().take(needs.expired_keys as usize).filter(|(until, _)| *until <= now);
        set.expired_keys = expired.map(|(until, key)| (*key, *until)).collect();
        self.find_uniques(needs, &mut set);
        needs.scopes.iter().for_each(|scope| self.put_scope(scope, &mut set));
        self.find_settling(needs.settling as usize, &mut set);
        self.find_ended_by(needs, &mut set);
        if let Some(sweep) = needs.sweep {
            self.find_swept(sweep, &mut set);
        }
        needs.schedules.iter().for_each(|(at, with_jobs)| self.find_schedule(at, *with_jobs, &mut set));
        if needs.orders {
            self.find_orders(&mut set);
        }
        if !needs.tokens.is_empty() {
            set.tokens_stored = self.tokens.len() as u64;
            let found = needs.tokens.iter().filter_map(|hash| Some((*hash, self.tokens.get(hash)?.clone())));
            set.tokens = found.collect();
        }
        set
    }

    /// A row, and what there is to know of it.
    fn put(&self, at: JobRef, set: &mut WorkingSet) {
        let Some(job) = self.jobs.get(&at) else { return };
        set.jobs.insert(at, Arc::clone(job));
        let first = WaitKey { tenant: at.tenant, on: at.job, wait: Wait::Waiting, id: JobId(0) };
        if let Some(key) = self.waits.range(first..).next().filter(|key| key.tenant == at.tenant && key.on == at.job) {
            set.waits.insert(at, key.wait);
            if key.wait == Wait::Waiting {
                set.waiters.insert(at, self.dependents(at, Wait::Waiting, None, WAITERS_READ));
            }
        }
        if let Some(spread) = self.spreads.get(&at) {
            set.settling.insert(at, *spread);
        }
        if let Some(hold) = &job.unique {
            let key = KeyRef::of(at.tenant, &hold.key);
            if let Some(record) = self.uniques.get(&key) {
                set.uniques.insert(key, *record);
                // Whoever holds it decides what can be done to this one.
                let holder = JobRef { tenant: at.tenant, job: record.job };
                if holder != at {
                    self.put(holder, set);
                }
            }
        }
    }

    fn put_scope(&self, scope: &Scope, set: &mut WorkingSet) {
        if let Some(settings) = self.settings.get(scope) {
            set.settings.insert(scope.clone(), settings.clone());
        }
        let of = |tenant: TenantId, of: Total| {
            self.totals.get(&TotalKey { tenant, of }).map(|n| (TotalKey { tenant, of }, *n))
        };
        match scope {
            Scope::Store | Scope::Kind(..) => {}
            Scope::Tenant(tenant) => {
                let totals = [Total::Unfinished, Total::Completed, Total::Bytes];
                set.totals.extend(totals.into_iter().filter_map(|total| of(*tenant, total)));
            }
            Scope::Queue(tenant, name) => {
                let name = Name { tenant: *tenant, class: NameClass::Queue, name: name.clone() };
                let number = self.names.get(&name);
                set.totals.extend(number.and_then(|queue| of(*tenant, Total::UnfinishedIn(QueueId(*queue)))));
            }
        }
    }

    fn find_orders(&self, set: &mut WorkingSet) {
        for (scope, settings) in &self.settings {
            let (Scope::Queue(tenant, name), Settings::Queue(_, _, settings)) = (scope, settings) else { continue };
            let name = Name { tenant: *tenant, class: NameClass::Queue, name: name.clone() };
            let Some(queue) = self.names.get(&name).map(|number| QueueId(*number)) else { continue };
            if set.jobs.values().any(|job| job.queue == queue && job.state.name().is_final()) {
                set.orders.insert(queue, settings.order);
            }
        }
    }

    fn find_dead(&self, needs: &Needs, set: &mut WorkingSet) {
        let Some((living, max)) = needs.dead else { return };
        let of_the_dead = |job: &&Arc<Job>| match &job.state {
            State::Running(lease) => lease.holder != Holder::Node(living) && matches!(lease.holder, Holder::Node(_)),
            _ => false,
        };
        let mut dead: Vec<_> = self.jobs.values().filter(of_the_dead).collect();
        dead.sort_by_key(|job| index::keys(job).list);
        set.dead = dead.into_iter().take(max as usize).map(|job| job.at()).collect();
    }

    fn find_uniques(&self, needs: &Needs, set: &mut WorkingSet) {
        for (key, with_args) in &needs.uniques {
            let Some(record) = self.uniques.get(key) else { continue };
            set.uniques.insert(*key, *record);
            let holder = JobRef { tenant: key.tenant, job: record.job };
            self.put(holder, set);
            if *with_args {
                self.put_args(holder, set);
            }
        }
        needs.args.iter().for_each(|at| self.put_args(*at, set));
    }

    fn put_args(&self, at: JobRef, set: &mut WorkingSet) {
        let args = self.payloads.get(&(at, crate::command::Part::Args));
        set.args.insert(at, args.cloned().unwrap_or_default());
    }

    /// The jobs behind `after` that depend so on `at`, up to `max`; and whether these are all.
    fn dependents(&self, at: JobRef, wait: Wait, after: Option<JobId>, max: usize) -> (Vec<JobId>, bool) {
        let key = |id| WaitKey { tenant: at.tenant, on: at.job, wait, id: JobId(id) };
        let mut ids = self.waits.range(key(behind(after))..=key(u64::MAX)).map(|key| key.id);
        let first: Vec<JobId> = ids.by_ref().take(max).collect();
        (first, ids.next().is_none())
    }

    fn find_heard(&self, max: u32, set: &mut WorkingSet) {
        let mut bytes = 0;
        set.heard_all = true;
        for (number, heard) in self.heard.iter().take_while(|_| max > 0) {
            bytes += heard.weight();
            if !set.heard.is_empty() && (set.heard.len() >= max as usize || bytes > limits::LISTENERS_BYTES_MAX) {
                set.heard_all = false;
                return;
            }
            set.heard.push((*number, heard.clone()));
        }
    }

    fn find_settling(&self, max: usize, set: &mut WorkingSet) {
        set.settling_all = true;
        if max == 0 {
            return;
        }
        let mut left = max;
        let mut open: VecDeque<(JobRef, bool)> = VecDeque::new();
        for (at, spread) in &self.spreads {
            if left == 0 {
                set.settling_all = false;
                return;
            }
            set.settling.insert(*at, *spread);
            open.push_back((*at, spread.deep));
            while let Some((at, deep)) = open.pop_front() {
                if left == 0 || set.waiting.contains_key(&at) {
                    continue;
                }
                let (ids, all) = self.dependents(at, Wait::Waiting, None, left);
                left -= ids.len();
                for id in &ids {
                    let dependent = JobRef { tenant: at.tenant, job: *id };
                    self.put(dependent, set);
                    if deep {
                        open.push_back((dependent, true));
                    }
                }
                set.waiting.insert(at, (ids, all));
            }
        }
    }

    fn find_ended_by(&self, needs: &Needs, set: &mut WorkingSet) {
        for ((at, after), max) in &needs.ended_by {
            let (mut ids, mut all) = self.dependents(*at, Wait::EndedBy, *after, *max as usize);
            let mut rows = 0;
            for i in 0..ids.len() {
                if rows >= REVIVED_ROWS_MAX {
                    ids.truncate(i);
                    all = false;
                    break;
                }
                let id = &ids[i];
                let dependent = JobRef { tenant: at.tenant, job: *id };
                self.put(dependent, set);
                let edges = self.jobs.get(&dependent).map(|job| job.dependencies.clone()).unwrap_or_default();
                rows += 1 + edges.len();
                edges.iter().for_each(|edge| self.put(JobRef { tenant: at.tenant, job: edge.job }, set));
            }
            set.ended_by.insert((*at, *after), (ids, all));
        }
    }

    fn find_schedule(&self, at: &ScheduleRef, with_jobs: bool, set: &mut WorkingSet) {
        if let Some(schedule) = self.schedules.get(at) {
            set.schedules.insert(at.clone(), schedule.clone());
        }
        let total = TotalKey { tenant: at.tenant, of: Total::Schedules };
        set.totals.extend(self.totals.get(&total).map(|n| (total, *n)));
        if !with_jobs {
            return;
        }
        let key = |id| ScheduledKey::new(JobRef { tenant: at.tenant, job: JobId(id) }, &at.name);
        let of_it = |id: &JobId| {
            let job = self.jobs.get(&JobRef { tenant: at.tenant, job: *id });
            job.is_some_and(|job| job.schedule.as_ref().is_some_and(|of| of.name == at.name))
        };
        let mut ids = self.scheduled.range(key(0)..=key(u64::MAX)).map(|key| key.id).filter(of_it);
        let first: Vec<JobId> = ids.by_ref().take(OVERLAPS_READ).collect();
        first.iter().for_each(|id| self.put(JobRef { tenant: at.tenant, job: *id }, set));
        set.scheduled.insert(at.clone(), (first, ids.next().is_none()));
    }

    fn find_swept(&self, sweep: Sweep, set: &mut WorkingSet) {
        let budget = sweep.budget.min(limits::SWEPT_MAX) as usize;
        let now = set.now;
        set.expiring = self.expiry.iter().take_while(|key| key.at <= now).take(budget).map(|key| key.at()).collect();
        set.expiring.clone().into_iter().for_each(|at| self.put(at, set));
        let over = self.uniques_until.iter().take_while(|(until, _)| *until <= now).take(budget);
        set.expired_uniques = over.map(|(until, key)| (*key, *until)).collect();
        for (key, _) in set.expired_uniques.clone() {
            let Some(record) = self.uniques.get(&key) else { continue };
            set.uniques.insert(key, *record);
            self.put(JobRef { tenant: key.tenant, job: record.job }, set);
        }
        let oldest = self.log.values().take(budget * 4);
        set.oldest = (oldest.map(|e| (e.seq, e.at, event_bytes(e) as u32)).collect(), self.log_bytes);
        self.find_ended(sweep.after, budget, set);
    }

    fn find_ended(&self, after: Option<EndKey>, budget: usize, set: &mut WorkingSet) {
        let mut from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for _ in 0..SWEEP_GROUPS_MAX {
            let Some(first) = self.ended.range((from, Bound::Unbounded)).next().copied() else {
                set.ended_all = true;
                return;
            };
            if set.ended.len() >= budget * 4 {
                return;
            }
            let end = EndKey { at: Time(u64::MAX), id: JobId(u64::MAX), ..first };
            set.ended.extend(self.ended.range((from, Bound::Included(end))).take(budget));
            self.put_scope(&Scope::Tenant(first.tenant), set);
            from = Bound::Excluded(end);
        }
    }

    fn runs(&self, at: JobRef) -> Vec<RunRecord> {
        let range = self.runs.range((at, RunNumber(0))..=(at, RunNumber(u32::MAX)));
        range.map(|(_, record)| record.clone()).collect()
    }

    fn page(&self, query: &JobsQuery) -> Page {
        let jobs: Vec<JobRef> = self.jobs(query).iter().map(|job| job.at()).collect();
        let full = jobs.len() == query.limit.min(limits::PAGE_ROWS_MAX) as usize;
        Page { next: jobs.last().filter(|_| full).map(|at| at.job), jobs }
    }

    fn jobs(&self, query: &JobsQuery) -> Vec<Arc<Job>> {
        let first = JobRef { tenant: query.tenant, job: JobId(0) };
        let before = JobRef { tenant: query.tenant, job: query.beyond.unwrap_or(JobId(u64::MAX)) };
        let wanted = |job: &&Arc<Job>| {
            query.state.is_none_or(|state: StateName| state == job.state.name())
                && query.queue.is_none_or(|queue| queue == job.queue)
                && query.kind.is_none_or(|kind| kind == job.kind)
                && query.tag.as_ref().is_none_or(|tag| job.tags.contains(tag))
                && query.only.fits(job)
        };
        let limit = query.limit.min(limits::PAGE_ROWS_MAX) as usize;
        let beyond = JobRef { tenant: query.tenant, job: query.beyond.unwrap_or(JobId(0)) };
        if query.oldest_first {
            let last = JobRef { tenant: query.tenant, job: JobId(u64::MAX) };
            let range = self.jobs.range((Bound::Excluded(beyond), Bound::Included(last)));
            return range.map(|(_, job)| job).filter(wanted).take(limit).cloned().collect();
        }
        let range = self.jobs.range((Bound::Included(first), Bound::Excluded(before)));
        range.rev().map(|(_, job)| job).filter(wanted).take(limit).cloned().collect()
    }

    fn keys_of(&self, query: &KvKeysQuery) -> Vec<String> {
        let of_plugin = self.kv.keys().filter(|key| key.space == query.space).map(|key| &key.key);
        let behind = |key: &&String| query.after.as_ref().is_none_or(|after| *key > after);
        let wanted = of_plugin.filter(|key| key.starts_with(&query.prefix)).filter(behind);
        wanted.take(query.limit.min(limits::PAGE_ROWS_MAX) as usize).cloned().collect()
    }

    fn oldest(&self) -> Vec<Oldest> {
        let mut oldest = OldestOfQueues::default();
        let (keyed, others): (Vec<_>, Vec<_>) = self.lanes.iter().partition(|(lane, _)| !lane.key.is_none());
        for (lane, orders) in others.into_iter().chain(keyed.into_iter().take(limits::KEYED_LANES_READ as usize)) {
            let Some(first) = orders.first() else { continue };
            let job = self.jobs.get(&JobRef { tenant: lane.tenant, job: first.id });
            let by = job.map(|job| job.order).unwrap_or_default();
            let mut place = Some(*first);
            for _ in 0..limits::PRIORITIES_READ {
                let Some(head) = place else { break };
                oldest.add(Oldest { tenant: lane.tenant, queue: lane.queue, since: head.parts(by).1 });
                place = behind_priority(by, head).and_then(|behind| orders.range(behind..).next()).copied();
            }
        }
        oldest.all()
    }

    fn keys_in_use(&self) -> KeysInUse {
        let keyed = self.lanes.iter().filter(|(lane, _)| !lane.key.is_none());
        let lane = |(lane, orders): (&Lane, &BTreeSet<Order>)| {
            Some(KeyedLane { lane: *lane, jobs: orders.len() as u64, head: orders.first().copied()? })
        };
        let lanes = keyed.filter_map(lane).collect();
        let mut begun: BTreeMap<KeyOf, u64> = BTreeMap::new();
        self.begun.iter().for_each(|key| *begun.entry(key.of).or_default() += 1);
        KeysInUse { lanes, begun: begun.into_iter().collect() }
    }

    fn run_log(&self, run: RunRef) -> Option<Vec<u8>> {
        let own = self.run_logs.get(&(run.at, run.run));
        let shared = || self.runs.get(&(run.at, run.run))?.call;
        let of_call = || shared().and_then(|(job, run_of)| self.run_logs.get(&(JobRef { job, ..run.at }, run_of)));
        own.or_else(of_call).cloned()
    }

    fn events(&self, since: Seq, limit: u32) -> Events {
        let page = self.log.range(since..).take(limit.min(limits::PAGE_ROWS_MAX) as usize);
        let next = Seq(self.next_seq);
        Events {
            entries: page.map(|(_, entry)| entry.clone()).collect(),
            oldest: self.log.keys().next().copied().unwrap_or(next),
            next,
            restored: Seq(0),
        }
    }
}

impl Snapshot for View {
    fn read(&self, query: &Query) -> Result<Answer, StoreError> {
        let tables = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(match query {
            Query::Job(at) => Answer::Job(tables.jobs.get(at).map(|job| (**job).clone())),
            Query::Payload(at, part) => Answer::Payload(tables.payloads.get(&(*at, *part)).cloned()),
            Query::Runs(at) => Answer::Runs(tables.runs(*at)),
            Query::Jobs(query) => {
                let jobs: Vec<Job> = tables.jobs(query).iter().map(|job| (**job).clone()).collect();
                Answer::Jobs(JobsPage { next: tables.page(query).next, jobs })
            }
            Query::Counts => Answer::Counts(tables.counts.iter().map(|(key, n)| (*key, *n)).collect()),
            Query::Keys => Answer::Keys(tables.keys_in_use()),
            Query::Begun(of, limit) => {
                let key = |id| BegunKey { of: *of, id: JobId(id) };
                let ids = tables.begun.range(key(0)..=key(u64::MAX)).map(|key| key.id);
                Answer::Begun(ids.take((*limit).min(limits::PAGE_ROWS_MAX) as usize).collect())
            }
            Query::Names => Answer::Names(tables.dump_names()),
            Query::Events { since, limit } => Answer::Events(tables.events(*since, *limit)),
            Query::Key(tenant, key) => {
                let record = tables.keys.get(&KeyRef::of(*tenant, key));
                Answer::Key(record.map(|record| (record.until, record.answer.clone())))
            }
            Query::Unique(tenant, key) => {
                let record = tables.uniques.get(&KeyRef::of(*tenant, key));
                Answer::Unique(record.map(|record| (record.job, record.until)))
            }
            Query::Dependents(at, limit) => {
                let first = WaitKey { tenant: at.tenant, on: at.job, wait: Wait::Waiting, id: JobId(0) };
                let last = WaitKey { wait: Wait::EndedBy, id: JobId(u64::MAX), ..first };
                let ids = tables.waits.range(first..=last).map(|key| key.id);
                Answer::Dependents(ids.take((*limit).min(limits::PAGE_ROWS_MAX) as usize).collect())
            }
            Query::Settings(scope) => {
                Answer::Settings(tables.settings.get(scope).cloned().unwrap_or_else(|| scope.defaults()))
            }
            Query::AllSettings => Answer::AllSettings(tables.settings.values().cloned().collect()),
            Query::Subscriptions => {
                let all = tables.subscriptions.iter().map(|(tenant, all)| (*tenant, all.clone()));
                Answer::Subscriptions(all.collect())
            }
            Query::Stored => Answer::Stored(Stored {
                epoch: 1,
                paused: tables.paused,
                log_bytes: tables.log_bytes,
                settling: tables.spreads.len() as u64,
                schedules_from: tables.schedules_from,
                unheard: tables.heard.len() as u64,
                kv_keys: tables.kv.len() as u64,
                run_logs: tables.run_logs.len() as u64,
            }),
            Query::Kv(space, key) => Answer::Kv(tables.kv.get(&KvKey { space: *space, key: key.clone() }).cloned()),
            Query::KvKeys(query) => Answer::KvKeys(tables.keys_of(query)),
            Query::KvCount(tenant) => {
                let key = TotalKey { tenant: *tenant, of: Total::KvKeys };
                Answer::KvCount(tables.totals.get(&key).copied().unwrap_or_default())
            }
            Query::RunLog(run) => Answer::RunLog(tables.run_log(*run)),
            Query::Schedule(at) => Answer::Schedule(tables.schedules.get(at).cloned()),
            Query::Schedules { tenant, after, limit } => {
                let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let whose = |at: &ScheduleRef| tenant.is_none_or(|tenant| tenant == at.tenant);
                let range = tables.schedules.range((from, Bound::Unbounded)).filter(|(at, _)| whose(at));
                let limit = (*limit).min(limits::PAGE_ROWS_MAX) as usize;
                Answer::Schedules(range.take(limit).map(|(_, schedule)| schedule.clone()).collect())
            }
            Query::ScheduleCount(tenant) => {
                let key = TotalKey { tenant: *tenant, of: Total::Schedules };
                Answer::ScheduleCount(tables.totals.get(&key).copied().unwrap_or_default())
            }
            Query::Tokens => Answer::Tokens(tables.tokens.iter().map(|(hash, token)| (*hash, token.clone())).collect()),
            Query::Oldest => Answer::Oldest(tables.oldest()),
            Query::NextDue => Answer::NextDue(tables.due.first().map(|key| key.run_at)),
        })
    }
}
