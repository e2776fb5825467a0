//! The operator's side of everything that plugins may do: tenants, what they get, and the middleware around handlers.
//!
//! [`Operator::load`] reads the configuration file; without one, [`Operator::default`] holds: there is one tenant,
//! `default`, whose plugins get what their manifests ask for. What is not in the file is not granted. Secrets are read
//! here, once, and never shown. Which grants follow is `wasm::grants`' to say.

mod keys;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runner_store::command::Fuel;

use crate::externals::Externals;
use crate::table::TableError;
use crate::wasm::grants::{TenantRules, matches};

/// A configuration: far more than any has.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What the operator decides.
#[derive(Debug, Clone)]
pub struct Operator {
    tenants: BTreeMap<String, Tenant>,
    /// Middleware around the handlers of all tenants, outermost first; its plugins are those of `default`.
    pub middleware: Vec<Layer>,
    /// Kinds whose jobs external workers take, in every tenant.
    pub externals: Arc<Externals>,
    /// Memory of all runs together; none: half of what there is.
    pub memory_bytes: Option<u64>,
    /// How much of it is promised to runs, in thousandths: 1,000 or more.
    pub overcommit_permille: u32,
}

/// One tenant.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// What its plugins may do and get.
    pub rules: Arc<TenantRules>,
    /// Runs at once; none: as many as there are slots.
    pub concurrency: Option<u32>,
    /// Memory of its runs together; none: as much as the node has.
    pub memory_bytes: Option<u64>,
    /// Fuel of its runs in a period; none: any.
    pub fuel: Option<Fuel>,
    /// Middleware around the handlers of its own jobs, outermost first, inside the operator's.
    pub middleware: Vec<Layer>,
}

/// A middleware, and whose jobs go through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The plugin that exports it.
    pub plugin: String,
    /// Kinds, or patterns.
    pub kinds: Vec<String>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The file cannot be read.
    #[error("the configuration `{}` cannot be read: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It says something wrong.
    #[error("`{}`, {error}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        error: TableError,
    },
}

impl Default for Operator {
    fn default() -> Self {
        let default = Tenant::of("default");
        let tenants = BTreeMap::from([("default".to_owned(), default)]);
        Self {
            tenants,
            middleware: Vec::new(),
            externals: Arc::default(),
            memory_bytes: None,
            overcommit_permille: 1_000,
        }
    }
}

impl Tenant {
    /// A tenant of which the operator says no more than its name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let rules = Arc::new(TenantRules::of(name));
        Self { rules, concurrency: None, memory_bytes: None, fuel: None, middleware: Vec::new() }
    }
}

impl Operator {
    /// Reads a configuration file. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// It cannot be read, or the first thing that is wrong, with its line.
    pub fn load(path: &Path) -> Result<Self, OperatorError> {
        let text = read_file(path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::read(&text, folder).map_err(|error| OperatorError::Wrong { path: path.to_owned(), error })
    }

    /// Reads a configuration's text; `folder` is what its paths are relative to.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line.
    pub fn read(text: &str, folder: &Path) -> Result<Self, TableError> {
        keys::operator(without_mark(text), folder)
    }

    /// A tenant, if there is one of this name.
    #[must_use]
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.get(name)
    }

    /// Every tenant and its name, by name; `default` is always among them.
    pub fn tenants(&self) -> impl Iterator<Item = (&str, &Tenant)> {
        self.tenants.iter().map(|(name, tenant)| (name.as_str(), tenant))
    }

    /// The middleware around the handlers of a tenant's jobs of one kind, outermost first: whose plugin it is, and its name.
    pub fn layers<'a>(&'a self, tenant: &str, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let own = self.tenants.get_key_value(tenant);
        let own =
            own.into_iter().flat_map(|(name, tenant)| tenant.middleware.iter().map(|layer| (name.as_str(), layer)));
        let all = self.middleware.iter().map(|layer| ("default", layer));
        let fits = |layer: &Layer| layer.kinds.iter().any(|pattern| matches(pattern, kind));
        all.chain(own).filter(move |(_, layer)| fits(layer)).map(|(owner, layer)| (owner, layer.plugin.as_str()))
    }

    /// Whether a plugin of `default` with this name is configured around the handlers of all tenants, so that who changes it
    /// changes what runs around everybody's jobs.
    #[must_use]
    pub fn is_around_all(&self, plugin: &str) -> bool {
        self.middleware.iter().any(|layer| layer.plugin == plugin)
    }

    /// What the plugins of a tenant may do; of one that is not known, nothing.
    #[must_use]
    pub fn rules(&self, tenant: &str) -> Arc<TenantRules> {
        self.tenant(tenant).map_or_else(
            || Arc::new(TenantRules { grant: crate::wasm::grants::GrantBy::Both, ..TenantRules::of(tenant) }),
            |tenant| Arc::clone(&tenant.rules),
        )
    }
}

/// The text of a configuration file, without the mark that some editors put at its front.
///
/// # Errors
/// It cannot be read.
pub fn read_file(path: &Path) -> Result<String, OperatorError> {
    let unreadable = |source| OperatorError::Unreadable { path: path.to_owned(), source };
    let text = read_text(path, FILE_BYTES_MAX).map_err(unreadable)?;
    Ok(without_mark(&text).to_owned())
}

fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// A secret that stands in a file of its own.
///
/// # Errors
/// The file cannot be read; the error never says what is in it.
pub fn read_secret(path: &Path) -> std::io::Result<String> {
    let text = read_text(path, keys::SECRET_BYTES_MAX)?;
    // Editors end a file with a newline, which belongs to no key.
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// A regular file's text, of at most so many bytes.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> std::io::Result<String> {
    use std::io::{Error, ErrorKind, Read as _};
    // Looked at before it is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut text = String::new();
    // One byte more than allowed shows that there is more.
    std::fs::File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(Error::new(ErrorKind::InvalidInput, format!("it has more than {bytes_max} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
