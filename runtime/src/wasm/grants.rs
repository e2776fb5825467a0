//! What a plugin may do beyond computing: what its manifest asks for, as far as the operator allows it to its tenant.
//!
//! Two parties say yes or nothing happens: [`Asked`] comes from the manifest, [`TenantRules`] from the operator's
//! configuration, and [`Grants`] is the intersection, made when a plugin is loaded; neither side can widen the other. Every
//! question answers with a [`Denied`] that has the exact lines to add, on whichever side they are missing. Nothing is
//! done here: who asks acts.

mod place;
mod review;
mod url;

use std::collections::BTreeMap;
use std::sync::Arc;

use runner_store::job::name_problem;

pub use self::place::{BlobAt, BlobMode, BlobPlace, Bucket};
pub use self::url::UrlPattern;
use super::limits::Limits;
pub use runner_store::command::matches;

/// How much of what is no name is repeated to whoever gave it.
const SHOWN_CHARS_MAX: usize = 64;

/// What a manifest asks for; the default is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Kinds that runs may enqueue: names, or patterns with `*`.
    pub enqueue: Vec<String>,
    /// Durable values of the plugin's own.
    pub kv: bool,
    /// The environment that runs see: the author's own words, which need no operator.
    pub env: Vec<(String, String)>,
    /// Settings that runs may read.
    pub config: Vec<String>,
    /// Secrets that runs may read.
    pub secrets: Vec<String>,
    /// Requests that runs may send.
    pub http: Vec<HttpRule>,
    /// Containers of blobs, and what may be done with them.
    pub blobs: BTreeMap<String, BlobMode>,
}

/// Requests that a manifest asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRule {
    /// Where to.
    pub url: UrlPattern,
    /// Methods, in upper case.
    pub methods: Vec<String>,
    /// Headers that the runner sets last, whatever the guest set: lower-case name, and the value with `${SECRET}` in it.
    pub headers: Vec<(String, Template)>,
}

/// A header's value with names of secrets in it: texts and names take turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(pub Vec<Piece>);

/// One piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// The value of this secret.
    Secret(String),
}

/// What an operator allows the plugins of one tenant, and gives them.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantRules {
    /// The tenant.
    pub name: String,
    /// Whether whatever a manifest asks for is granted: the plugins are the operator's own.
    pub grant: GrantBy,
    /// The most that manifests and jobs may ask for.
    pub max: Max,
    /// Settings, for plugins that ask for them.
    pub config: BTreeMap<String, String>,
    /// Secrets, for plugins that ask for them, and for headers.
    pub secrets: BTreeMap<String, Secret>,
    /// Where containers lie.
    pub blobs: BTreeMap<String, BlobPlace>,
}

/// Who decides what is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantBy {
    /// The manifest alone.
    Manifest,
    /// Manifest and [`Max`] together.
    Both,
}

/// The most that manifests of a tenant may ask for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Max {
    /// Limits of runs; none: as much as without a manifest (or, where the manifest alone decides, as much as it says).
    pub limits: LimitsMax,
    /// Kinds, or patterns, that runs may enqueue.
    pub enqueue: Vec<String>,
    /// Whether they may have durable values.
    pub kv: bool,
    /// Where requests may go.
    pub http: Vec<UrlPattern>,
    /// Private addresses that requests may reach, whoever decides: address and port.
    pub private: Vec<std::net::SocketAddr>,
    /// Whether instances may be kept from run to run.
    pub reuse: bool,
}

/// Upper bounds of [`Limits`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the bound of the field of `Limits` that has its name")]
pub struct LimitsMax {
    pub timeout: Option<runner_store::job::time::Millis>,
    pub fuel: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub output_bytes: Option<u64>,
    pub staged_bytes: Option<u64>,
    pub host_calls: Option<u64>,
    pub enqueues: Option<u32>,
    pub http_body_bytes: Option<u64>,
    pub cancel_grace: Option<runner_store::job::time::Millis>,
}

/// A text that is never shown: neither by `Debug` nor in an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

/// What the plugins of a tenant really may: see the module.
#[derive(Debug, Clone)]
pub struct Grants {
    asked: Asked,
    tenant: Arc<TenantRules>,
}

/// Why something was not granted, and what to add where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} is not granted: add {}", .lines.join(", and "))]
pub struct Denied {
    /// What was asked for.
    pub what: String,
    /// Lines to add, and where.
    pub lines: Vec<String>,
}

impl Secret {
    /// Keeps a text from being shown.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The text, for whoever has the right to it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl TenantRules {
    /// What holds for a tenant of which the operator says nothing: `default` grants what manifests ask for, as its folder
    /// is the operator's own; every other one grants nothing.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let grant = if name == "default" { GrantBy::Manifest } else { GrantBy::Both };
        Self {
            name: name.to_owned(),
            grant,
            max: Max::default(),
            config: BTreeMap::new(),
            secrets: BTreeMap::new(),
            blobs: BTreeMap::new(),
        }
    }

    /// Limits within the operator's bounds.
    #[must_use]
    pub fn clamp(&self, limits: &Limits) -> Limits {
        let usual = Limits::default();
        let open = self.grant == GrantBy::Manifest;
        let max = &self.max.limits;
        fn least<T: Ord + Copy>(asked: T, max: Option<T>, usual: T, open: bool) -> T {
            let unset = if open { asked } else { usual };
            asked.min(max.unwrap_or(unset))
        }
        Limits {
            timeout: least(limits.timeout, max.timeout, usual.timeout, open),
            // Without a bound of its own, fuel is bounded by the time-out that it is counted for.
            fuel: match (limits.fuel, max.fuel) {
                (Some(asked), Some(max)) => Some(asked.min(max)),
                (asked, max) => asked.or(max),
            },
            memory_bytes: least(limits.memory_bytes, max.memory_bytes, usual.memory_bytes, open),
            output_bytes: least(limits.output_bytes, max.output_bytes, usual.output_bytes, open),
            staged_bytes: least(limits.staged_bytes, max.staged_bytes, usual.staged_bytes, open),
            host_calls: least(limits.host_calls, max.host_calls, usual.host_calls, open),
            enqueues: least(limits.enqueues, max.enqueues, usual.enqueues, open),
            http_body_bytes: least(limits.http_body_bytes, max.http_body_bytes, usual.http_body_bytes, open),
            cancel_grace: least(limits.cancel_grace, max.cancel_grace, usual.cancel_grace, open),
        }
    }

    /// The table of this tenant in the configuration.
    fn table(&self) -> String {
        format!("[tenants.{}]", self.name)
    }
}

impl Grants {
    /// What `asked` gets of `tenant`.
    #[must_use]
    pub fn new(asked: Asked, tenant: Arc<TenantRules>) -> Self {
        Self { asked, tenant }
    }

    /// What a manifest asks for where the folder is the operator's own.
    #[must_use]
    pub fn own(asked: Asked) -> Arc<Self> {
        Arc::new(Self::new(asked, Arc::new(TenantRules::of("default"))))
    }

    /// What a plugin's advice may do: nothing but see its environment.
    pub(in crate::wasm) fn advice(of: &Self) -> Arc<Self> {
        let asked = Asked { env: of.asked.env.clone(), ..Asked::default() };
        Arc::new(Self { asked, tenant: Arc::clone(&of.tenant) })
    }

    /// What the manifest asks for.
    #[must_use]
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// The operator's side.
    #[must_use]
    pub fn tenant(&self) -> &TenantRules {
        &self.tenant
    }

    /// Whether instances may be kept from run to run.
    #[must_use]
    pub fn reuse(&self) -> bool {
        self.tenant.grant == GrantBy::Manifest || self.tenant.max.reuse
    }

    /// The environment that runs see.
    #[must_use]
    pub fn env(&self) -> &[(String, String)] {
        &self.asked.env
    }

    /// Whether runs may enqueue jobs of this kind.
    ///
    /// # Errors
    /// What to add.
    pub fn enqueue(&self, kind: &str) -> Result<(), Denied> {
        known(kind)?;
        self.enqueue_like(kind)
    }

    /// [`Grants::enqueue`] for a kind or, as whoever asks may write it, a pattern of kinds.
    fn enqueue_like(&self, kind: &str) -> Result<(), Denied> {
        let fits = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, kind));
        self.both(
            || format!("enqueueing `{}`", kind.escape_debug()),
            (fits(&self.asked.enqueue), || format!("[allow] enqueue = [\"{kind}\"]")),
            (fits(&self.tenant.max.enqueue), || format!("enqueue = [\"{kind}\"]")),
        )
    }

    /// Whether runs may have durable values.
    ///
    /// # Errors
    /// What to add.
    pub fn kv(&self) -> Result<(), Denied> {
        let line = || "[allow] kv = true".to_owned();
        self.both(|| "kv".to_owned(), (self.asked.kv, line), (self.tenant.max.kv, || "kv = true".to_owned()))
    }

    /// A setting; none: the manifest asks for it, and the operator has not set it.
    ///
    /// # Errors
    /// What to add.
    pub fn config(&self, name: &str) -> Result<Option<&str>, Denied> {
        known(name)?;
        if self.asked.config.iter().any(|asked| asked == name) {
            return Ok(self.tenant.config.get(name).map(String::as_str));
        }
        let name = name.escape_debug();
        let lines = vec![in_manifest(&format!("[allow] config = [\"{name}\"]"))];
        Err(Denied { what: format!("the setting `{name}`"), lines })
    }

    /// A secret that runs may read.
    ///
    /// # Errors
    /// What to add, on either side.
    pub fn secret(&self, name: &str) -> Result<&Secret, Denied> {
        known(name)?;
        let asked = self.asked.secrets.iter().any(|asked| asked == name);
        match self.tenant.secrets.get(name) {
            Some(secret) if asked => Ok(secret),
            found => {
                let name = name.escape_debug();
                let mut lines = Vec::new();
                if !asked {
                    lines.push(in_manifest(&format!("[allow] secrets = [\"{name}\"]")));
                }
                if found.is_none() {
                    lines.push(self.in_config(&format!("secrets = {{ {name} = {{ file = \"…\" }} }}")));
                }
                Err(Denied { what: format!("the secret `{name}`"), lines })
            }
        }
    }

    /// The value of a header that the manifest asks the runner to set.
    ///
    /// # Errors
    /// What to add to the operator's side.
    pub fn header(&self, template: &Template) -> Result<Secret, Denied> {
        let mut value = String::new();
        for piece in &template.0 {
            match piece {
                Piece::Text(text) => value.push_str(text),
                Piece::Secret(name) => match self.tenant.secrets.get(name) {
                    Some(secret) => value.push_str(secret.reveal()),
                    None => {
                        let lines = vec![self.in_config(&format!("secrets = {{ {name} = {{ file = \"…\" }} }}"))];
                        return Err(Denied { what: format!("the secret `{name}` of a header"), lines });
                    }
                },
            }
        }
        Ok(Secret::new(&value))
    }

    /// The rule by which a request may be sent. Where several fit, the first.
    ///
    /// # Errors
    /// What to add, on either side.
    pub fn http(&self, method: &str, url: &::url::Url) -> Result<&HttpRule, Denied> {
        let fits = |rule: &&HttpRule| rule.methods.iter().any(|known| known == method) && rule.url.matches(url);
        let rule = self.asked.http.iter().find(fits);
        let allowed = self.tenant.max.http.iter().any(|pattern| pattern.matches(url));
        let origin = url.origin().ascii_serialization();
        self.both(
            || format!("{} {origin}", method.escape_debug()),
            (rule.is_some(), || format!("[[allow.http]] url = \"{origin}\" methods = [\"{}\"]", method.escape_debug())),
            (allowed, || format!("http = [\"{origin}\"]")),
        )?;
        Ok(rule.expect("it was looked for before"))
    }

    /// Where a container lies of which runs may do this.
    ///
    /// # Errors
    /// What to add, on either side.
    pub fn blob(&self, container: &str, write: bool) -> Result<&BlobPlace, Denied> {
        known(container)?;
        let fits = |mode: BlobMode| if write { mode.write } else { mode.read };
        let asked = self.asked.blobs.get(container).is_some_and(|mode| fits(*mode));
        match self.tenant.blobs.get(container) {
            Some(place) if asked && fits(place.mode) => Ok(place),
            place => {
                let (name, word) = (container.escape_debug(), if write { "write" } else { "read" });
                let mut lines = Vec::new();
                if !asked {
                    lines.push(in_manifest(&format!("[allow.blobs] {name} = \"{word}\"")));
                }
                if !place.is_some_and(|place| fits(place.mode)) {
                    let line = format!("blobs.{name} = {{ url = \"file:…\", mode = \"{word}\" }}");
                    lines.push(self.in_config(&line));
                }
                Err(Denied { what: format!("to {word} the container `{name}`"), lines })
            }
        }
    }

    /// Yes, if the manifest asks for it and the operator allows it.
    fn both(
        &self,
        what: impl Fn() -> String,
        (asked, asking): (bool, impl Fn() -> String),
        (allowed, allowing): (bool, impl Fn() -> String),
    ) -> Result<(), Denied> {
        let allowed = allowed || self.tenant.grant == GrantBy::Manifest;
        if asked && allowed {
            return Ok(());
        }
        let mut lines = Vec::new();
        if !asked {
            lines.push(in_manifest(&asking()));
        }
        if !allowed {
            lines.push(self.in_max(&allowing()));
        }
        Err(Denied { what: what(), lines })
    }

    fn in_max(&self, line: &str) -> String {
        format!("`{line}` to [tenants.{}.max] of the configuration", self.tenant.name)
    }

    fn in_config(&self, line: &str) -> String {
        format!("`{line}` to {} of the configuration", self.tenant.table())
    }
}

/// Refuses what is no name before anything is made of it: a guest may give megabytes, or lines of its own.
fn known(name: &str) -> Result<(), Denied> {
    if name_problem(name).is_none() {
        return Ok(());
    }
    let shown: String = name.chars().take(SHOWN_CHARS_MAX).collect();
    let what = format!("`{}`, which is no name of anything,", shown.escape_debug());
    Err(Denied { what, lines: vec!["what has a name: letters, digits, `.`, `_` and `-`".to_owned()] })
}

fn in_manifest(line: &str) -> String {
    format!("`{line}` to the manifest")
}

#[cfg(test)]
mod tests;
