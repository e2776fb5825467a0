//! Accepting jobs: lists, all or none, and calls that are safe to repeat.
//!
//! A list is planned before anything of it happens: what it depends on, what becomes of each job whose unique key is
//! held, whether there is room. Then it is carried out, and nothing can fail any more.

use std::collections::HashMap;

use crate::command::{
    Enqueue, Enqueued, Name, NameClass, NeedsMerge, Part, Reply, Scope, Settings, Total, TotalKey, limits,
};
use crate::engine::{Change, KeyRef, Needs};
use crate::job::{
    Dependency, DependsOn, Edit, Event, Invalid, JobId, JobRef, JobSpec, KindId, On, OnConflict, QueueId, QueueOrder,
    Rejection, StateName, TenantId, Verdict,
};

use super::unique::{Fate, key_of};
use super::{Batch, keys};

const MERGED_BEFORE: &str = "args of one list are merged before it is sent; the same key as";

pub(super) fn needs(call: &Enqueue, needs: &mut Needs) {
    let mut before: Option<&JobSpec> = None;
    for spec in &call.jobs {
        // Most lists name one kind and one queue: look before a name is copied.
        if before.is_none_or(|before| before.kind != spec.kind || before.queue != spec.queue) {
            need_names(call.tenant, spec, needs);
        }
        need_others(call.tenant, spec, needs);
        before = Some(spec);
    }
    if let Some(key) = &call.key {
        keys::needs(call.tenant, key, needs);
    }
}

pub(super) fn need_names(tenant: TenantId, spec: &JobSpec, needs: &mut Needs) {
    for (class, name) in [(NameClass::Queue, &spec.queue), (NameClass::Kind, &spec.kind)] {
        needs.names.insert(Name { tenant, class, name: name.clone() });
    }
    needs.scopes.insert(Scope::Queue(tenant, spec.queue.clone()));
    needs.scopes.insert(Scope::Tenant(tenant));
}

/// Jobs that it waits for, and the one that holds its key.
pub(super) fn need_others(tenant: TenantId, spec: &JobSpec, needs: &mut Needs) {
    for edge in &spec.depends_on {
        if let On::Job(job) = edge.on {
            needs.jobs.insert(JobRef { tenant, job });
        }
    }
    if let (Some(unique), Some(key)) = (&spec.unique, key_of(tenant, spec)) {
        *needs.uniques.entry(key).or_default() |= unique.on_conflict == OnConflict::Merge;
    }
}

/// Names and their numbers.
pub(super) struct Recent {
    tenant: TenantId,
    queue: String,
    kind: String,
    numbers: (QueueId, KindId),
    order: QueueOrder,
}

/// A list that can be carried out.
pub(super) struct Plan<'a> {
    /// In an order in which none comes before what it depends on.
    order: Vec<usize>,
    pub(super) steps: Vec<Step<'a>>,
}

/// What becomes of one job of a list.
pub(super) enum Step<'a> {
    New(Wanted<'a>),
    Duplicate(JobId),
    /// Of another job of the list.
    Same(usize),
    Change(JobId, Box<Edit>),
}

/// A new job: as it was asked for, or as a later job of the list with the same unique key would have it instead.
pub(super) struct Wanted<'a> {
    spec: &'a JobSpec,
    instead: Option<Box<JobSpec>>,
}

impl Wanted<'_> {
    pub(super) fn spec(&self) -> &JobSpec {
        self.instead.as_deref().unwrap_or(self.spec)
    }
}

impl KeyRef {
    /// The reference of `key`.
    #[must_use]
    pub fn of(tenant: TenantId, key: &str) -> Self {
        Self { tenant, hash: crate::sha256(key.as_bytes()) }
    }
}

impl Batch<'_> {
    pub(super) fn enqueue(&mut self, call: &Enqueue) -> Result<Reply, Rejection> {
        let key = call.key.as_ref().map(|key| (KeyRef::of(call.tenant, &key.key), key));
        if let Some((at, key)) = &key {
            keys::check(key)?;
            if let Some(answer) = self.repeated(*at, key.request)? {
                return Ok(answer);
            }
        }
        check_list(&call.jobs)?;
        if !self.conduct.accept {
            return Err(Rejection::DiskReserve);
        }
        if self.tenant_settings(call.tenant).deleted {
            return Err(Rejection::NoTenant);
        }
        let plan = match self.plan(call)? {
            Ok(plan) => plan,
            Err(merges) => return Ok(self.ask_to_merge(call.tenant, merges)),
        };
        self.room_for(call.tenant, &plan)?;
        let answer = self.carry_out(call.tenant, &plan);
        if let Some((at, key)) = key {
            self.remember(at, key, answer.clone());
        }
        Ok(Reply::Enqueued(answer))
    }

    /// What becomes of each job of a list; or the args that are to be merged first.
    fn plan<'b>(&self, call: &'b Enqueue) -> Result<Result<Plan<'b>, Vec<NeedsMerge>>, Rejection> {
        let jobs = &call.jobs;
        let in_list =
            |i: usize, field: &str| if jobs.len() == 1 { field.to_owned() } else { format!("jobs[{i}].{field}") };
        for (i, spec) in jobs.iter().enumerate() {
            for DependsOn { on, .. } in &spec.depends_on {
                let On::Job(job) = *on else { continue };
                if self.job(JobRef { tenant: call.tenant, job }).is_none() {
                    let why = format!("there is no job {job} to wait for");
                    return Err(Invalid { field: in_list(i, "depends_on"), why }.into());
                }
            }
        }
        let place = |on: On| match on {
            On::Position(position) => Some(position as usize),
            On::Job(_) => None,
        };
        let mut order = in_order(jobs.iter(), place)?;
        let mut steps: Vec<Step<'b>> = Vec::with_capacity(jobs.len());
        let mut taken: HashMap<KeyRef, usize> = HashMap::new();
        let mut seen: HashMap<KeyRef, usize> = HashMap::new();
        let mut merges = Vec::new();
        for (i, spec) in jobs.iter().enumerate() {
            let key = key_of(call.tenant, spec);
            if let Some(earlier) = key.and_then(|key| taken.get(&key).copied()) {
                let joined = join(&mut steps, earlier, spec).map_err(|why| {
                    let why = format!("{why} jobs[{earlier}]");
                    Invalid { field: in_list(i, "unique"), why }
                })?;
                steps.push(joined);
                continue;
            }
            let before = key.and_then(|key| seen.insert(key, i));
            if let (Some(before), Some(OnConflict::Merge)) = (before, spec.unique.as_ref().map(|u| u.on_conflict)) {
                // Both would be merged with the holder as it is now, and one of them would be lost.
                let why = format!("{MERGED_BEFORE} jobs[{before}]");
                return Err(Invalid { field: in_list(i, "unique"), why }.into());
            }
            let position = u32::try_from(i).unwrap_or(u32::MAX);
            steps.push(match self.fate(call.tenant, position, spec, &call.merged)? {
                Fate::New => {
                    taken.extend(key.map(|key| (key, i)));
                    Step::New(Wanted { spec, instead: None })
                }
                Fate::Duplicate(job) => Step::Duplicate(job),
                Fate::Change(job, edit) => Step::Change(job, edit),
                Fate::Merge(merge) => {
                    let holder = merge.holder;
                    merges.push(merge);
                    Step::Duplicate(holder)
                }
            });
        }
        let one = |place: usize| match steps[place] {
            Step::Same(earlier) => earlier,
            _ => place,
        };
        if steps.iter().any(|step| matches!(step, Step::Same(_))) {
            // Whoever waits for one that joined another waits for that: it comes first, and may close a circle.
            order = in_order(jobs.iter(), |on| place(on).map(one))?;
        }
        Ok(if merges.is_empty() { Ok(Plan { order, steps }) } else { Err(merges) })
    }

    fn carry_out(&mut self, tenant: TenantId, plan: &Plan<'_>) -> Vec<Enqueued> {
        let first = self.next_job.0;
        let mut ids: Vec<JobId> = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            ids.push(match step {
                Step::New(_) => {
                    let id = self.next_job;
                    self.next_job = JobId(id.0 + 1);
                    id
                }
                Step::Duplicate(job) | Step::Change(job, _) => *job,
                Step::Same(earlier) => ids[*earlier],
            });
        }
        for i in &plan.order {
            let at = JobRef { tenant, job: ids[*i] };
            match &plan.steps[*i] {
                Step::New(wanted) => {
                    let spec = wanted.spec();
                    let resolve = |on: On| match on {
                        On::Job(job) => job,
                        On::Position(position) => ids[position as usize],
                    };
                    let dependencies = self.dependencies(tenant, spec, resolve);
                    self.accept(at, spec, spec.depth, dependencies).expect("a new id is nobody's");
                }
                Step::Change(_, edit) => self.change_holder(at, edit),
                Step::Duplicate(_) | Step::Same(_) => {}
            }
        }
        let answer = |(id, step): (JobId, &Step<'_>)| {
            let duplicate = !matches!(step, Step::New(_)) || id.0 < first;
            // A holder whose period goes on may be gone.
            let state = self.job(JobRef { tenant, job: id }).map_or(StateName::Completed, |job| job.state.name());
            Enqueued { id, state, duplicate }
        };
        ids.into_iter().zip(&plan.steps).map(answer).collect()
    }

    /// The edges of a new job: to what has ended already they are settled, to what is gone as well.
    pub(super) fn dependencies(
        &self,
        tenant: TenantId,
        spec: &JobSpec,
        resolve: impl Fn(On) -> JobId,
    ) -> Vec<Dependency> {
        let mut edges: Vec<Dependency> = Vec::with_capacity(spec.depends_on.len());
        for edge in &spec.depends_on {
            let job = resolve(edge.on);
            // Two names may lead to one job.
            if edges.iter().any(|before| before.job == job) {
                continue;
            }
            let settled = match self.job(JobRef { tenant, job }) {
                Some(dependency) => dependency.verdict(),
                None => Some(Verdict::Deleted),
            };
            edges.push(Dependency { job, on_failure: edge.on_failure, settled });
        }
        edges
    }

    /// Accepts one job that was checked.
    pub(super) fn accept(
        &mut self,
        at: JobRef,
        spec: &JobSpec,
        depth: u32,
        dependencies: Vec<Dependency>,
    ) -> Result<(), Rejection> {
        if matches!(self.jobs.get(&at), Some(None)) {
            // The batch has just removed a job of this id: it would leave what it had to the new one.
            return Err(Rejection::Exists);
        }
        let (queue, kind, order) = self.names_of(at.tenant, spec);
        // The args go where args go; what remains of the spec is small.
        let spec_for_row = Box::new(JobSpec { depth, ..spec.for_row() });
        let event = Event::Enqueued { at, queue, kind, spec: spec_for_row, dependencies, order };
        let job = self.apply(at, &event)?.expect("an accepted job is there");
        if !spec.args.is_empty() {
            self.changes.push(Change::Payload(at, Part::Args, Some(spec.args.clone())));
            *self.totals.entry(TotalKey { tenant: at.tenant, of: Total::Bytes }).or_default() += spec.args.len() as i64;
        }
        if job.unique.is_some() {
            self.args.insert(at, spec.args.clone());
            self.take_key(&job);
        }
        Ok(())
    }

    /// Changes the job that holds a unique key, as the call that found it held says.
    pub(super) fn change_holder(&mut self, at: JobRef, edit: &Edit) {
        // It was neither running nor final when that was planned; if the batch ended it since, it stays as it is.
        if self.apply(at, &Event::Edited(edit.for_row())).is_ok()
            && let Some(args) = &edit.args
        {
            self.replace_args(at, args);
        }
    }

    fn names_of(&mut self, tenant: TenantId, spec: &JobSpec) -> (QueueId, KindId, QueueOrder) {
        if let Some(recent) = &self.recent
            && recent.tenant == tenant
            && recent.queue == spec.queue
            && recent.kind == spec.kind
        {
            return (recent.numbers.0, recent.numbers.1, recent.order);
        }
        let numbers = (
            QueueId(self.name(tenant, NameClass::Queue, &spec.queue)),
            KindId(self.name(tenant, NameClass::Kind, &spec.kind)),
        );
        let order = match self.setting(&Scope::Queue(tenant, spec.queue.clone())) {
            Settings::Queue(_, _, settings) => settings.order,
            _ => QueueOrder::default(),
        };
        let (queue, kind) = (spec.queue.clone(), spec.kind.clone());
        self.recent = Some(Recent { tenant, queue, kind, numbers, order });
        (numbers.0, numbers.1, order)
    }

    pub(super) fn name(&mut self, tenant: TenantId, class: NameClass, word: &str) -> u32 {
        if let Some(number) = self.known_name(tenant, class, word) {
            return number;
        }
        let name = Name { tenant, class, name: word.to_owned() };
        let taken = class == NameClass::Tenant && self.next_name == TenantId::DEFAULT.0;
        let number = self.next_name + u32::from(taken);
        self.next_name = number + 1;
        self.names.insert(name.clone(), number);
        *self.newly_in_use.entry((tenant, class)).or_default() += 1;
        self.changes.push(Change::Name(name, number));
        if class == NameClass::Kind {
            self.name_listened_to(tenant, word, KindId(number));
        }
        number
    }

    pub(super) fn known_name(&self, tenant: TenantId, class: NameClass, word: &str) -> Option<u32> {
        let name = Name { tenant, class, name: word.to_owned() };
        self.set.names.get(&name).or_else(|| self.names.get(&name)).copied()
    }

    pub(super) fn known_queue(&self, tenant: TenantId, word: &str) -> Option<QueueId> {
        self.known_name(tenant, NameClass::Queue, word).map(QueueId)
    }

    pub(super) fn known_kind(&self, tenant: TenantId, word: &str) -> Option<KindId> {
        self.known_name(tenant, NameClass::Kind, word).map(KindId)
    }
}

/// What becomes of a job of a list whose key an earlier one of the list takes.
fn join<'b>(steps: &mut [Step<'b>], earlier: usize, later: &'b JobSpec) -> Result<Step<'b>, &'static str> {
    let Step::New(first) = &mut steps[earlier] else { return Ok(Step::Same(earlier)) };
    let on_conflict = later.unique.as_ref().map_or(OnConflict::Keep, |unique| unique.on_conflict);
    match on_conflict {
        OnConflict::Keep => {}
        OnConflict::Reject => return Err("the same key as"),
        OnConflict::Merge => return Err(MERGED_BEFORE),
        OnConflict::Replace | OnConflict::Debounce { .. } => {
            let delay = match on_conflict {
                OnConflict::Debounce { delay, .. } => Some(delay),
                _ => later.delay,
            };
            let run_at = if delay.is_some() { None } else { later.run_at };
            let JobSpec { depends_on, hold, queue, kind, unique, .. } = first.spec.clone();
            let changed = JobSpec { depends_on, hold, queue, kind, unique, delay, run_at, ..later.clone() };
            first.instead = Some(Box::new(changed));
        }
    }
    Ok(Step::Same(earlier))
}

/// An order in which no job of the list comes before one that it depends on by position: as given, where that is one.
pub(super) fn in_order<'s>(
    jobs: impl ExactSizeIterator<Item = &'s JobSpec>,
    position: impl Fn(On) -> Option<usize>,
) -> Result<Vec<usize>, Invalid> {
    let len = jobs.len();
    let mut open: Vec<usize> = vec![0; len];
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); len];
    for (i, spec) in jobs.enumerate() {
        for on in spec.depends_on.iter().filter_map(|edge| position(edge.on)) {
            if on >= len || on == i {
                let why = format!("position {on} is not that of another job of this list");
                return Err(Invalid { field: format!("jobs[{i}].depends_on"), why });
            }
            open[i] += 1;
            dependents[on].push(i);
        }
    }
    let mut ready: std::collections::BinaryHeap<std::cmp::Reverse<usize>> =
        (0..len).filter(|i| open[*i] == 0).map(std::cmp::Reverse).collect();
    let mut order = Vec::with_capacity(len);
    while let Some(std::cmp::Reverse(i)) = ready.pop() {
        order.push(i);
        for dependent in &dependents[i] {
            open[*dependent] -= 1;
            if open[*dependent] == 0 {
                ready.push(std::cmp::Reverse(*dependent));
            }
        }
    }
    match open.iter().position(|open| *open > 0) {
        None => Ok(order),
        Some(i) => {
            let field = format!("jobs[{i}].depends_on");
            Err(Invalid { field, why: "these jobs wait for each other in a circle".to_owned() })
        }
    }
}

fn check_list(jobs: &[JobSpec]) -> Result<(), Invalid> {
    if jobs.is_empty() || jobs.len() > limits::LIST_JOBS_MAX {
        let why = format!("a list must have 1 to {} jobs, this one has {}", limits::LIST_JOBS_MAX, jobs.len());
        return Err(Invalid { field: "jobs".to_owned(), why });
    }
    for (i, spec) in jobs.iter().enumerate() {
        spec.check().map_err(|Invalid { field, why }| {
            let field = if jobs.len() == 1 { field } else { format!("jobs[{i}].{field}") };
            Invalid { field, why }
        })?;
    }
    Ok(())
}
