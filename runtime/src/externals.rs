//! Kinds whose jobs external workers take: `[kinds."video.render"] external = true` in the configuration, of all tenants.
//!
//! A kind is either a plugin's or a worker's. What a manifest would say of a plugin's kind – queue, key, limits, retries –
//! stands beside `external`; what is about a sandbox is refused there.

use std::collections::BTreeMap;
use std::sync::Arc;

use runner_store::job::name_problem;

use crate::table::{Table, TableError, Value};
use crate::wasm::Manifest;
use crate::wasm::manifest::{KINDS_MAX, settings_of};

/// Keys of a plugin's kind that mean nothing for one whose runs are elsewhere.
const OF_A_SANDBOX: &[&str] =
    &["timeout", "fuel", "memory", "output", "host_calls", "cancel_grace", "http_body", "batch"];

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Externals(BTreeMap<String, Arc<Manifest>>);

impl Externals {
    /// Reads the table `kinds` of a configuration.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub(crate) fn read(value: &Value<'_>) -> Result<Self, TableError> {
        let entries = value.table()?.entries();
        if entries.len() > KINDS_MAX {
            return Err(value.error(&format!("has more than {KINDS_MAX} kinds")));
        }
        let mut externals = BTreeMap::new();
        for (name, value) in entries {
            if let Some(problem) = name_problem(name) {
                return Err(value.error(&format!("is no right name of a kind: {problem}")));
            }
            if let Some(manifest) = external(name, &value)? {
                externals.insert(name.to_owned(), Arc::new(manifest));
            }
        }
        Ok(Self(externals))
    }

    /// What holds for a kind, if it is an external one.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&Arc<Manifest>> {
        self.0.get(kind)
    }

    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// None: it says that it is none.
fn external(name: &str, value: &Value<'_>) -> Result<Option<Manifest>, TableError> {
    let mut table: Table<'_> = value.table()?;
    let Some(external) = table.take("external") else {
        let why = format!(
            "must say `external = true`: external workers take its jobs; a name with dots is quoted, as [kinds.\"{name}.x\"]"
        );
        return Err(value.error(&why));
    };
    for key in OF_A_SANDBOX {
        if let Some(value) = table.take(key) {
            return Err(value.error("is about runs in a sandbox, and those of this kind are a worker's"));
        }
    }
    let settings = settings_of(&mut table)?;
    table.done()?;
    let each = vec![(name.to_owned(), settings)];
    Ok(external.bool()?.then(|| Manifest { kinds: vec![name.to_owned()], each, ..Manifest::default() }))
}
