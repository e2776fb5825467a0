//! Which plugin serves which kind of which tenant.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::externals::Externals;
use crate::wasm::plugin::Plugin;

/// The tenant of whoever names none.
pub const TENANT_DEFAULT: &str = "default";

/// See the module. A value: what serves now is in the `catalog`.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    tenants: BTreeMap<String, BTreeMap<String, Arc<Plugin>>>,
    plugins: Vec<(String, Arc<Plugin>)>,
    externals: Arc<Externals>,
}

impl Registry {
    /// One without plugins, in which none serves these kinds.
    #[must_use]
    pub fn beside(externals: &Arc<Externals>) -> Self {
        Self { externals: Arc::clone(externals), ..Self::default() }
    }

    /// The kinds that no plugin serves, as external workers do.
    #[must_use]
    pub fn externals(&self) -> &Arc<Externals> {
        &self.externals
    }

    /// The plugin that serves a tenant's kind.
    #[must_use]
    pub fn get(&self, tenant: &str, kind: &str) -> Option<&Arc<Plugin>> {
        self.tenants.get(tenant)?.get(kind)
    }

    /// Every kind of a tenant and who serves it, by name.
    pub fn kinds(&self, tenant: &str) -> impl Iterator<Item = (&str, &Arc<Plugin>)> {
        self.tenants.get(tenant).into_iter().flatten().map(|(kind, plugin)| (kind.as_str(), plugin))
    }

    /// A tenant's plugin of this name.
    #[must_use]
    pub fn named(&self, tenant: &str, name: &str) -> Option<&Arc<Plugin>> {
        let of = |(owner, plugin): &&(String, Arc<Plugin>)| owner == tenant && plugin.name() == name;
        self.plugins.iter().find(of).map(|(_, plugin)| plugin)
    }

    /// Every tenant's kinds and who serves them.
    pub fn served(&self) -> impl Iterator<Item = (&str, &str, &Arc<Plugin>)> {
        self.tenants.iter().flat_map(|(tenant, kinds)| {
            kinds.iter().map(move |(kind, plugin)| (tenant.as_str(), kind.as_str(), plugin))
        })
    }

    /// Every plugin that is loaded, with its tenant: by tenant, then in the order in which they were added.
    pub fn plugins(&self) -> impl Iterator<Item = (&str, &Arc<Plugin>)> {
        self.plugins.iter().map(|(tenant, plugin)| (tenant.as_str(), plugin))
    }

    /// Adds a plugin of a tenant; answers with the kinds that others serve already. External kinds it does not serve.
    pub fn add(&mut self, tenant: &str, plugin: Arc<Plugin>) -> Vec<(String, Arc<Plugin>)> {
        let kinds = self.tenants.entry(tenant.to_owned()).or_default();
        let mut shadowed = Vec::new();
        for kind in plugin.kinds().iter().filter(|kind| self.externals.get(kind).is_none()) {
            match kinds.get(kind) {
                Some(first) => shadowed.push((kind.clone(), Arc::clone(first))),
                None => drop(kinds.insert(kind.clone(), Arc::clone(&plugin))),
            }
        }
        self.plugins.push((tenant.to_owned(), plugin));
        shadowed
    }
}
