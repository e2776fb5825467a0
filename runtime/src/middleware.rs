//! Which plugins are around the handler of a kind, as the operator's configuration orders.
//!
//! A layer whose plugin is not loaded is not left out, as an audit that is configured and does not happen is worse than a
//! job that waits: the kind counts as not served until the plugin is there.

use std::sync::Arc;

use crate::operator::Operator;
use crate::wasm::{Catalog, Plugin};

/// A layer that cannot be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the middleware `{plugin}` is configured around kind {kind}, and no loaded plugin of this name exports middleware"
)]
pub struct Missing {
    /// The kind that waits for it.
    pub kind: String,
    /// The plugin that is configured.
    pub plugin: String,
}

/// The plugins around a kind's handler, outermost first. Allocates nothing where there are none.
///
/// # Errors
/// The first that is missing.
pub fn around(operator: &Operator, plugins: &Catalog, tenant: &str, kind: &str) -> Result<Vec<Arc<Plugin>>, Missing> {
    let mut layers = operator.layers(tenant, kind).peekable();
    if layers.peek().is_none() {
        return Ok(Vec::new());
    }
    let (now, mut around) = (plugins.now(), Vec::new());
    for (owner, name) in layers {
        match now.registry.named(owner, name).filter(|plugin| plugin.is_middleware()) {
            Some(plugin) => around.push(Arc::clone(plugin)),
            None => return Err(Missing { kind: kind.to_owned(), plugin: name.to_owned() }),
        }
    }
    Ok(around)
}
