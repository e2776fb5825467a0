//! What the core is told of lanes and tenants: which plugin serves them and what its runs are like, and what they may use;
//! and the core's reasons, as sentences.

use runner_store::command::{Answer, Lane, Query};
use runner_store::index::{self, KeyOf};
use runner_store::job::{Job, JobId, JobRef, Millis, StateName, TenantId};

use super::Shell;
use super::core::{Budget, Event, GateOf, Held, Serves, Shut, Whose};
use super::starter::{Reason, Why};
use crate::api::time::rfc3339;
use crate::wasm::limits::{KIB, MIB};
use crate::wasm::units::rate_text;

/// Jobs that are named where a queue or a kind is full.
const NAMED_MAX: usize = 10;

impl Shell {
    /// Tells of a lane, and of its tenant, when they first have a job.
    pub(super) fn know(&mut self, lane: Lane, events: &mut Vec<Event>) {
        if self.lanes.contains_key(&lane) {
            return;
        }
        if self.tenants.insert(lane.tenant) {
            events.push(Event::Budget { tenant: lane.tenant, budget: self.budget(lane.tenant) });
        }
        self.know_gates(lane, events);
        let by = self.serves(lane);
        self.say_how_it_is_served(lane, by);
        self.lanes.insert(lane, by);
        events.push(Event::Served { lane, by });
    }

    /// The same of a lane that may have none.
    pub(super) fn known(&mut self, lane: Lane) -> Lane {
        let mut events = Vec::new();
        self.know(lane.of_all_keys(), &mut events);
        if !events.is_empty() {
            self.tell(events);
        }
        lane
    }

    /// Says where jobs of a lane wait for a plugin, a middleware or a larger budget: once, and again when that changes.
    pub(super) fn say_how_it_is_served(&self, lane: Lane, by: Option<Serves>) {
        let kind = self.parts.store.kind_name(lane.kind);
        match (by, self.parts.around(lane.tenant, &kind)) {
            (Some(serves), _) => self.say_if_too_large(lane, &kind, serves.memory_bytes),
            (None, Err(missing)) => tracing::warn!(%kind, "{missing}; its jobs wait"),
            (None, Ok(_)) => tracing::warn!(%kind, "no plugin provides this kind; its jobs wait"),
        }
    }

    /// Tells what each tenant of the configuration may use: fuel is also spent for those that have no job themselves.
    pub(super) fn tell_budgets(&mut self) {
        let parts = std::sync::Arc::clone(&self.parts);
        let named = parts.operator.tenants().filter_map(|(name, _)| parts.store.tenant_id(name));
        let new: Vec<TenantId> = named.filter(|tenant| self.tenants.insert(*tenant)).collect();
        let events: Vec<Event> =
            new.into_iter().map(|tenant| Event::Budget { tenant, budget: self.budget(tenant) }).collect();
        self.tell(events);
    }

    /// What a tenant may use: as was set, or else as the configuration says. One of which neither says anything has no budget
    /// of its own.
    pub(super) fn budget(&self, tenant: TenantId) -> Budget {
        let set = self.tenant_settings(tenant);
        let name = self.parts.store.tenant_name(tenant);
        let file = self.parts.operator.tenant(&name).map_or_else(Budget::default, |tenant| Budget {
            concurrency: tenant.concurrency,
            memory_bytes: tenant.memory_bytes,
            fuel: tenant.fuel,
        });
        Budget {
            concurrency: set.concurrency.or(file.concurrency),
            memory_bytes: set.memory_bytes.or(file.memory_bytes),
            fuel: set.fuel.or(file.fuel),
        }
    }

    /// The core leaves such jobs where they are; whoever looks at the log should not have to ask why.
    fn say_if_too_large(&self, lane: Lane, kind: &str, needs_bytes: u64) {
        let tenant = self.parts.store.tenant_name(lane.tenant);
        let own = self.budget(lane.tenant).memory_bytes.map(|most| (most, Whose::Tenant));
        let budgets = own.into_iter().chain([(self.parts.memory_bytes, Whose::Node)]);
        for (most_bytes, whose) in budgets.filter(|(most, _)| *most < needs_bytes) {
            let held = Held::TooLarge { needs_bytes, most_bytes, whose };
            tracing::error!(%kind, %tenant, "its jobs wait: {}", plain(&held).detail);
        }
    }

    /// What a lane's runs are like; none: there is no plugin for its kind, or not every middleware that is configured
    /// around it.
    pub(super) fn serves(&self, lane: Lane) -> Option<Serves> {
        let kind = self.parts.store.kind_name(lane.kind);
        if self.parts.plugins.external(&kind).is_some() {
            return Some(Serves::EXTERNAL);
        }
        let plugin = self.parts.plugin(lane.tenant, &kind)?;
        let around = self.parts.around(lane.tenant, &kind).ok()?;
        // Handler and middleware are never there at once.
        let around = around.iter().map(|plugin| plugin.own_limits().memory_bytes);
        let memory_bytes = around.fold(plugin.limits(&kind).memory_bytes, u64::max);
        Some(Serves { memory_bytes, batch: plugin.batch(&kind), external: false })
    }

    /// Answers why a job does not start.
    pub(super) fn answer(&mut self, Why { job, answer }: Why) {
        let reasons = match self.lane(job) {
            Ok((lane, job)) => self.reasons(lane, &job),
            Err(_) => Vec::new(),
        };
        // Whoever went away needs no answer.
        _ = answer.send(reasons);
    }

    fn reasons(&self, lane: Lane, job: &Job) -> Vec<Reason> {
        let held = self.core.why(lane, self.now());
        let waits = held.iter().any(|held| matches!(held, Held::Gate(GateOf::Key(_), Shut::Order)));
        let mut reasons: Vec<Reason> = held.iter().map(|held| self.because(held)).collect();
        if self.of_workers(job) {
            reasons.extend(self.nobody_asks(lane.tenant, lane.kind));
        }
        // Nothing of its key has begun, and it is not the first.
        if let Some(first) = self.core.first_in_order(lane).filter(|first| !waits && *first != index::order(job)) {
            let detail =
                format!("the jobs of its key run one after another, in order: job {} comes before it", first.id);
            reasons.insert(0, Reason { code: "key_order", detail, passes_at: None });
        }
        reasons
    }

    /// Which jobs of a key have begun and hold up the others, and until when, where that is known.
    fn begun(&self, of: KeyOf) -> String {
        let view = self.parts.store.snapshot();
        let read = |query: &Query| view.as_ref().ok().and_then(|view| view.read(query).ok());
        let Some(Answer::Begun(ids)) = read(&Query::Begun(of, NAMED_MAX as u32)) else { return String::new() };
        let one = |id: &JobId| {
            let at = JobRef { tenant: of.tenant, job: *id };
            let Some(Answer::Job(Some(job))) = read(&Query::Job(at)) else { return format!("job {id}") };
            match job.state.name() {
                state @ (StateName::Scheduled | StateName::Retryable) => {
                    format!("job {id}, which is {state} until {}", rfc3339(job.run_at))
                }
                state => format!("job {id}, which is {state}"),
            }
        };
        let ids: Vec<String> = ids.iter().map(one).collect();
        ids.join("; ")
    }
}

impl Shell {
    /// A reason for whoever asks why.
    pub(super) fn because(&self, held: &Held) -> Reason {
        let passes_at = passes_in(held).map(|left| self.parts.clock.now().after(left));
        let Held::Gate(of, shut) = held else { return Reason { passes_at, ..plain(held) } };
        let store = &self.parts.store;
        let kind = |kind| ("kind", store.kind_name(kind));
        let (what, (noun, name), codes) = match of {
            GateOf::Queue(_, queue) => {
                let name = store.queue_name(*queue);
                (format!("queue {name}"), ("queue", name), ["queue_paused", "queue_full", "queue_rate"])
            }
            GateOf::Kind(_, id) => {
                (format!("kind {}", kind(*id).1), kind(*id), ["kind_paused", "kind_full", "kind_rate"])
            }
            GateOf::Key(of) => {
                let what = format!("its key in kind {}", kind(of.kind).1);
                (what, kind(of.kind), ["kind_paused", "key_full", "key_rate"])
            }
        };
        let by_key = if matches!(of, GateOf::Key(_)) { "key-" } else { "" };
        let [paused, full, rate_code] = codes;
        let (code, detail) = match *shut {
            Shut::Paused(until) => {
                let until = until.map(|left| format!(" for {}", time(left))).unwrap_or_default();
                (paused, format!("{what} is paused{until}; `runner {noun} resume {name}` ends that"))
            }
            Shut::Full(most) => {
                let mut jobs: Vec<String> = self.core.running_in(*of).iter().map(ToString::to_string).collect();
                let run = jobs.len();
                let more = run.saturating_sub(NAMED_MAX);
                jobs.truncate(NAMED_MAX);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let by = if jobs.is_empty() { String::new() } else { format!(": jobs {}{more}", jobs.join(", ")) };
                let change = format!("`runner {noun} set {name} --{by_key}concurrency N` changes that");
                // Those that ran when a limit was lowered go on.
                let many = if run > most as usize {
                    format!("{run} of {what} run, more than the {most} that may by now{by}")
                } else {
                    format!("{most} of {what} run, which is as many as may{by}")
                };
                (full, format!("{many}; {change}"))
            }
            Shut::Rate(rate, left) => {
                let at = rfc3339(self.parts.clock.now().after(left));
                let rate = rate_text(rate);
                (rate_code, format!("{what} may start {rate}; the next one in {}, at {at}", time(left)))
            }
            Shut::Order => {
                let by = match of {
                    GateOf::Key(of) => self.begun(*of),
                    GateOf::Queue(..) | GateOf::Kind(..) => String::new(),
                };
                let by = if by.is_empty() { String::new() } else { format!(": {by}") };
                (
                    "key_order",
                    format!("the jobs of its key run one after another, in order; it waits for one that has begun{by}"),
                )
            }
        };
        Reason { code, detail, passes_at }
    }
}

/// How long it is until a reason passes by itself, where that is known.
fn passes_in(held: &Held) -> Option<Millis> {
    match *held {
        Held::Gate(_, Shut::Paused(until)) => until,
        Held::Gate(_, Shut::Rate(_, left)) | Held::Fuel { next: left, .. } | Held::Gathers { left } => Some(left),
        Held::Gate(_, Shut::Full(_) | Shut::Order)
        | Held::TooLarge { .. }
        | Held::Concurrency { .. }
        | Held::Memory { .. }
        | Held::Slots { .. }
        | Held::Suspect => None,
    }
}

/// A reason that is about no name.
fn plain(held: &Held) -> Reason {
    let (code, detail) = match *held {
        Held::TooLarge { needs_bytes, most_bytes, whose } => {
            let (needs, most) = (size(needs_bytes), size(most_bytes));
            let (all, mend) = match whose {
                Whose::Tenant => ("its tenant's runs", "raise its tenant's: `runner tenant set TENANT --memory SIZE`"),
                Whose::Node => ("all runs of the node", "raise `memory` of [node] in the configuration"),
            };
            let detail = format!(
                "a run of it may use {needs} of memory, and {all} together have {most}: it can never start; lower \
                 `memory` in the plugin's manifest, or {mend}"
            );
            ("too_large", detail)
        }
        Held::Fuel { budget, next } => {
            let detail = format!("its tenant has used up its {budget} fuel; the next period begins in {}", time(next));
            ("fuel_spent", detail)
        }
        Held::Concurrency { most } => {
            ("concurrency", format!("of its tenant, {most} jobs may run at once, and so many do, or more"))
        }
        Held::Memory { needs_bytes, left_bytes, whose } => {
            let (needs, left) = (size(needs_bytes), size(left_bytes));
            let of = match whose {
                Whose::Tenant => "its tenant's memory",
                Whose::Node => "the node's memory",
            };
            (
                "memory",
                format!(
                    "a run of it reserves {needs} of memory, and of {of} {left} are left; it waits for runs to end"
                ),
            )
        }
        Held::Gathers { left } => {
            ("gathers", format!("it waits up to {} for other jobs to share its call", time(left)))
        }
        Held::Slots { slots, ready } => {
            ("slots", format!("all {slots} slots are taken, and {ready} jobs are claimed and wait for one"))
        }
        Held::Gate(..) => unreachable!("told with its name"),
        Held::Suspect => ("suspect_runs", "another job runs under which the process died before".to_owned()),
    };
    Reason { code, detail, passes_at: None }
}

/// A size as a manifest would say it.
fn size(bytes: u64) -> String {
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..MIB => format!("{} KiB", bytes / KIB),
        _ => format!("{} MiB", bytes / MIB),
    }
}

fn time(time: Millis) -> String {
    match time.0 {
        0..1_000 => format!("{} ms", time.0),
        1_000..60_000 => format!("{} s", time.0.div_ceil(1_000)),
        _ => format!("{} min", time.0.div_ceil(60_000)),
    }
}
