//! What the core is told of lanes and tenants: which plugin serves them and what its runs are like, and what they may use;
//! and the core's reasons, as sentences.

use runner_store::command::Lane;
use runner_store::job::Millis;

use super::Shell;
use super::core::{Budget, Event, GateOf, Held, Serves, Shut, Whose};
use super::starter::{Reason, Why};
use crate::operator::Operator;
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
            let budget = budget(&self.parts.operator, &self.parts.store.tenant_name(lane.tenant));
            events.push(Event::Budget { tenant: lane.tenant, budget });
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
        self.know(lane, &mut events);
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
        let named = parts.operator.tenants().filter_map(|(name, _)| Some((name, parts.store.tenant_id(name)?)));
        let events: Vec<Event> = named
            .filter(|(_, tenant)| self.tenants.insert(*tenant))
            .map(|(name, tenant)| Event::Budget { tenant, budget: budget(&parts.operator, name) })
            .collect();
        self.tell(events);
    }

    /// The core leaves such jobs where they are; whoever looks at the log should not have to ask why.
    fn say_if_too_large(&self, lane: Lane, kind: &str, needs_bytes: u64) {
        let tenant = self.parts.store.tenant_name(lane.tenant);
        let own = budget(&self.parts.operator, &tenant).memory_bytes.map(|most| (most, Whose::Tenant));
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
        let plugin = self.parts.plugin(lane.tenant, &kind)?;
        let around = self.parts.around(lane.tenant, &kind).ok()?;
        // Handler and middleware are never there at once.
        let around = around.iter().map(|plugin| plugin.own_limits().memory_bytes);
        let memory_bytes = around.fold(plugin.limits(&kind).memory_bytes, u64::max);
        Some(Serves { memory_bytes, batch: plugin.batch(&kind) })
    }

    /// Answers why the jobs of a lane do not start.
    pub(super) fn answer(&mut self, Why { job, answer }: Why) {
        let reasons = self.lane(job).map(|lane| self.core.why(lane, self.now()));
        // Whoever went away needs no answer.
        _ = answer.send(reasons.unwrap_or_default().iter().map(|held| self.because(held)).collect());
    }
}

impl Shell {
    /// A reason for whoever asks why.
    pub(super) fn because(&self, held: &Held) -> Reason {
        let Held::Gate(of, shut) = held else { return plain(held) };
        let store = &self.parts.store;
        let (of_queue, what, noun, name) = match of {
            GateOf::Queue(_, queue) => {
                (true, format!("queue {}", store.queue_name(*queue)), "queue", store.queue_name(*queue))
            }
            GateOf::Kind(_, kind) => {
                (false, format!("kind {}", store.kind_name(*kind)), "kind", store.kind_name(*kind))
            }
        };
        let code = |queue, kind| if of_queue { queue } else { kind };
        let (code, detail) = match *shut {
            Shut::Paused(until) => {
                let until = until.map(|left| format!(" for {}", time(left))).unwrap_or_default();
                let detail = format!("{what} is paused{until}; `runner {noun} resume {name}` ends that");
                (code("queue_paused", "kind_paused"), detail)
            }
            Shut::Full(most) => {
                let mut jobs: Vec<String> = self.core.running_in(*of).iter().map(ToString::to_string).collect();
                let more = jobs.len().saturating_sub(NAMED_MAX);
                jobs.truncate(NAMED_MAX);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let by = if jobs.is_empty() { String::new() } else { format!(": jobs {}{more}", jobs.join(", ")) };
                let detail = format!(
                    "{most} of {what} run, which is as many as may{by}; `runner {noun} set {name} --concurrency N` changes that"
                );
                (code("queue_full", "kind_full"), detail)
            }
            Shut::Rate(rate, left) => {
                let rate = rate_text(rate);
                let detail = format!("{what} may start {rate}; the next one in {}", time(left));
                (code("queue_rate", "kind_rate"), detail)
            }
        };
        Reason { code, detail }
    }
}

/// What a tenant may use. One that the configuration does not know has no budget of its own.
fn budget(operator: &Operator, tenant: &str) -> Budget {
    operator.tenant(tenant).map_or_else(Budget::default, |tenant| Budget {
        concurrency: tenant.concurrency,
        memory_bytes: tenant.memory_bytes,
        fuel: tenant.fuel,
    })
}

/// A reason that is about no name.
fn plain(held: &Held) -> Reason {
    let (code, detail) = match *held {
        Held::TooLarge { needs_bytes, most_bytes, whose } => {
            let (needs, most) = (size(needs_bytes), size(most_bytes));
            let (all, mend) = match whose {
                Whose::Tenant => ("its tenant's runs", "raise `memory` of the tenant in the configuration"),
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
            ("concurrency", format!("{most} jobs of its tenant run, which is as many as may"))
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
    Reason { code, detail }
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
