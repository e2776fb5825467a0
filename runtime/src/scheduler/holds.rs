//! What the core is told of the limits of queues and kinds: what operators have set and what manifests say.

use std::collections::HashMap;

use runner_store::command::{KindSettings, Lane, QueueSettings, Scope, Settings};
use runner_store::job::TenantId;

use super::Shell;
use super::core::{Event, GateOf, Limits, WEIGHT_DEFAULT};
use crate::holds;

/// What operators have set, and what of it the core knows.
#[derive(Debug, Default)]
pub(super) struct Holds {
    set: HashMap<Scope, Settings>,
    told: HashMap<GateOf, (Limits, u32)>,
}

impl Shell {
    /// An operator has set something.
    pub(super) fn take_settings(&mut self, settings: Settings, events: &mut Vec<Event>) {
        let (tenant, gate) = match &settings {
            Settings::Store(_) | Settings::Tenant(..) => return,
            Settings::Queue(tenant, name, _) => {
                (*tenant, self.parts.store.queue_id(*tenant, name).map(|queue| GateOf::Queue(*tenant, queue)))
            }
            Settings::Kind(tenant, name, _) => {
                (*tenant, self.parts.store.kind_id(*tenant, name).map(|kind| GateOf::Kind(*tenant, kind)))
            }
        };
        self.holds.set.insert(settings.scope(), settings);
        // What has had no job is told with its first lane.
        if let Some(gate) = gate.filter(|_| self.tenants.contains(&tenant)) {
            self.tell_holds(gate, events);
        }
    }

    /// Tells what holds for the queue and the kind of a lane that has its first job.
    pub(super) fn know_gates(&mut self, lane: Lane, events: &mut Vec<Event>) {
        for gate in [GateOf::Queue(lane.tenant, lane.queue), GateOf::Kind(lane.tenant, lane.kind)] {
            if !self.holds.told.contains_key(&gate) {
                self.tell_holds(gate, events);
            }
        }
    }

    /// Manifests have changed.
    pub(super) fn look_at_holds(&mut self, events: &mut Vec<Event>) {
        let gates: Vec<GateOf> = self.holds.told.keys().copied().collect();
        gates.into_iter().for_each(|gate| self.tell_holds(gate, events));
    }

    fn tell_holds(&mut self, gate: GateOf, events: &mut Vec<Event>) {
        let (limits, weight) = self.hold(gate);
        let (old, old_weight) =
            self.holds.told.insert(gate, (limits, weight)).unwrap_or((Limits::default(), WEIGHT_DEFAULT));
        if old != limits {
            events.push(Event::Limits { of: gate, limits });
        }
        if let (GateOf::Queue(tenant, queue), true) = (gate, old_weight != weight) {
            events.push(Event::Weight { tenant, queue, weight });
        }
    }

    fn hold(&self, gate: GateOf) -> (Limits, u32) {
        let store = &self.parts.store;
        match gate {
            GateOf::Queue(tenant, queue) => {
                let name = store.queue_name(queue);
                let set = self.queue_settings(tenant, &name);
                let loaded = self.parts.plugins.now();
                holds::of_queue(&set, &loaded.registry, &store.tenant_name(tenant), &name).limits(&set)
            }
            GateOf::Kind(tenant, kind) => {
                let name = store.kind_name(kind);
                let set = match self.holds.set.get(&Scope::Kind(tenant, name.to_string())) {
                    Some(Settings::Kind(_, _, set)) => *set,
                    _ => KindSettings::default(),
                };
                let plugin = self.parts.plugin(tenant, &name);
                (holds::of_kind(&set, plugin.as_deref(), &name).limits(&set), WEIGHT_DEFAULT)
            }
        }
    }

    fn queue_settings(&self, tenant: TenantId, name: &str) -> QueueSettings {
        match self.holds.set.get(&Scope::Queue(tenant, name.to_owned())) {
            Some(Settings::Queue(_, _, set)) => *set,
            _ => QueueSettings::default(),
        }
    }
}
