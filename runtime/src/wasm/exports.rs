//! What a component exports: looked up once, when it is loaded, so that a run finds it by number.
//!
//! WIT has no optional exports, so there is no one world that every plugin fits; each interface is looked for by itself.
//! A component is a plugin if it offers something to be run ([`Exports::is_plugin`]); `policy` and `merge` are only
//! advice about it.

use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

use super::guest::Guest;
use super::host::contract::exports::runner::plugin::{batch, handler, merge, middleware, policy};

/// The interfaces that a component may export, as people name them.
pub(super) const NAMES: [&str; 5] = ["handler", "batch", "policy", "merge", "middleware"];

/// A linked component and where its exports are.
pub(super) struct Exports {
    pub(super) pre: InstancePre<Guest>,
    pub(super) handler: Option<handler::GuestIndices>,
    pub(super) batch: Option<batch::GuestIndices>,
    pub(super) policy: Option<policy::GuestIndices>,
    pub(super) merge: Option<merge::GuestIndices>,
    pub(super) middleware: Option<middleware::GuestIndices>,
    /// Of the engine of scripts: evaluates one and hands the memory over.
    pub(super) evaluate: Option<ComponentExportIndex>,
}

impl Exports {
    /// Looks for every interface of the contract.
    pub(super) fn of(pre: InstancePre<Guest>) -> Self {
        Self {
            // An interface that lacks a function is none.
            handler: handler::GuestIndices::new(&pre).ok(),
            batch: batch::GuestIndices::new(&pre).ok(),
            policy: policy::GuestIndices::new(&pre).ok(),
            merge: merge::GuestIndices::new(&pre).ok(),
            middleware: middleware::GuestIndices::new(&pre).ok(),
            evaluate: evaluate(pre.component()),
            pre,
        }
    }

    /// Whether there is anything to be run.
    pub(super) fn is_plugin(&self) -> bool {
        self.handles() || self.middleware.is_some()
    }

    /// Whether it runs jobs of its own kinds.
    pub(super) fn handles(&self) -> bool {
        self.handler.is_some() || self.batch.is_some()
    }

    /// The interfaces that are there, as [`NAMES`] has them.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let there = [
            self.handler.is_some(),
            self.batch.is_some(),
            self.policy.is_some(),
            self.merge.is_some(),
            self.middleware.is_some(),
        ];
        NAMES.into_iter().zip(there).filter_map(|(name, there)| there.then_some(name)).collect()
    }
}

fn evaluate(component: &Component) -> Option<ComponentExportIndex> {
    let interface = component.get_export_index(None, "runner:engine/script@0.1.0")?;
    component.get_export_index(Some(&interface), "evaluate")
}
