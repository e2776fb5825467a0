//! What the core is told of the limits of queues and kinds: what operators have set and what manifests say.

use std::collections::HashMap;

use runner_store::command::{KindSettings, Lane, QueueSettings, Scope, Settings, TenantSettings};
use runner_store::job::{KindId, TenantId};

use super::Shell;
use super::core::{Event, GateOf, KeyLimits, Limits, WEIGHT_DEFAULT};
use crate::holds::{self, OfKind};

/// What operators have set, and what of it the core knows.
#[derive(Debug, Default)]
pub(super) struct Holds {
    set: HashMap<Scope, Settings>,
    told: HashMap<GateOf, (Limits, u32)>,
    /// What each key of a kind may do, where that is less than everything.
    told_of_keys: HashMap<(TenantId, KindId), KeyLimits>,
}

impl Shell {
    /// An operator has set something.
    pub(super) fn take_settings(&mut self, settings: Settings, events: &mut Vec<Event>) {
        let (tenant, gate) = match &settings {
            Settings::Store(_) => return,
            Settings::Tenant(tenant, _) => {
                let tenant = *tenant;
                self.holds.set.insert(settings.scope(), settings);
                if self.tenants.contains(&tenant) {
                    events.push(Event::Budget { tenant, budget: self.budget(tenant) });
                }
                return;
            }
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
        if let GateOf::Kind(tenant, kind) = gate {
            self.tell_key_limits(tenant, kind, events);
        }
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
                let (holds, set) = self.hold_of_kind(tenant, kind);
                (holds.limits(&set), WEIGHT_DEFAULT)
            }
            GateOf::Key(_) => unreachable!("what holds for keys is told of their kind"),
        }
    }

    pub(super) fn tenant_settings(&self, tenant: TenantId) -> TenantSettings {
        match self.holds.set.get(&Scope::Tenant(tenant)) {
            Some(Settings::Tenant(_, set)) => *set,
            _ => TenantSettings::default(),
        }
    }

    fn hold_of_kind(&self, tenant: TenantId, kind: KindId) -> (OfKind, KindSettings) {
        let name = self.parts.store.kind_name(kind);
        let set = match self.holds.set.get(&Scope::Kind(tenant, name.to_string())) {
            Some(Settings::Kind(_, _, set)) => *set,
            _ => KindSettings::default(),
        };
        let (plugin, external) = (self.parts.plugin(tenant, &name), self.parts.plugins.external(&name));
        (holds::of_kind(&set, plugin.as_deref(), external.as_deref(), &name), set)
    }

    fn tell_key_limits(&mut self, tenant: TenantId, kind: KindId, events: &mut Vec<Event>) {
        let limits = self.hold_of_kind(tenant, kind).0.key_limits();
        let told = &mut self.holds.told_of_keys;
        let old = told.get(&(tenant, kind)).copied().unwrap_or_default();
        if old == limits {
            return;
        }
        if limits == KeyLimits::default() {
            told.remove(&(tenant, kind));
        } else {
            told.insert((tenant, kind), limits);
        }
        events.push(Event::KeyLimits { tenant, kind, limits });
    }

    fn queue_settings(&self, tenant: TenantId, name: &str) -> QueueSettings {
        match self.holds.set.get(&Scope::Queue(tenant, name.to_owned())) {
            Some(Settings::Queue(_, _, set)) => *set,
            _ => QueueSettings::default(),
        }
    }
}
