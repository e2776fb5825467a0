//! A plugin: a file that was checked, compiled and linked.
//!
//! A [`Plugin`] exists only if all of that went well: its header is Wasm's, its counts are within bounds, it
//! compiled, everything it imports is offered and what it must export is there. So a run can fail for the guest's
//! reasons only. How it is compiled is [`compile`]'s business, folders and manifests' files are `folder`'s.

mod error;
mod link;

use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_store::job::time::Millis;
use sha2::{Digest, Sha256};

pub use self::error::PluginError;
use super::compile::{self, Compiled, Stop};
use super::exports::Exports;
use super::grants::Grants;
use super::guest::Guest;
use super::image::{self, Evaluated};
use super::kept::Shelf;
use super::limits::Limits;
use super::manifest::{self, Batch, KindLimits, Manifest, QueueLimits, RetrySettings};
use super::script::Script;
use super::spawn::Host;
use super::{gate, header};

/// A plugin file. The largest honest ones (Python, StarlingMonkey) have 18 MB.
pub const PLUGIN_BYTES_MAX: u64 = 32 << 20;

/// A plugin that can run.
pub struct Plugin {
    name: String,
    manifest: Manifest,
    grants: Arc<Grants>,
    /// What its advice may do: nothing.
    advice_grants: Arc<Grants>,
    description: Description,
    code: Code,
    /// What it begins with where its script was evaluated before; then `code` is for others that share it.
    evaluated: Option<Evaluated>,
    /// SHA-256 of the bytes that `code` was made from: an engine's, where it is a script.
    code_digest: String,
    script: Option<Script>,
    /// Its instances that wait for a run; none: each run has its own.
    shelf: Option<Arc<Shelf>>,
}

/// Which of the two shapes of a handler a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Flavour {
    /// A component that exports the handler interface.
    Component,
    /// A core module that reads stdin and writes stdout.
    Command,
}

/// What `plugin check` shows.
#[derive(Debug, Clone)]
pub struct Description {
    /// The plugin's name: its file's, without `.wasm`.
    pub name: String,
    /// Component or command.
    pub flavour: Flavour,
    /// Whether it is a script, which an engine runs.
    pub is_script: bool,
    /// SHA-256 of the file, in hex: the plugin's version.
    pub digest: String,
    /// Size of the file.
    pub size_bytes: u64,
    /// How long checking it and compiling it, or finding its code, took.
    pub compile_time: Duration,
    /// Whether it had been compiled before.
    pub from_cache: bool,
    /// What the guest asks for.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// The interfaces of the contract among them: `handler`, `batch`, `policy`, `merge`, `middleware`.
    pub offers: Vec<&'static str>,
    /// The kinds it serves.
    pub kinds: Vec<String>,
    /// Runs of one instance, where the manifest asks for it and the operator allows it; none: each run has its own.
    pub reuse: Option<u32>,
    /// What is wrong with it although it runs: what its policy said that is not so.
    pub warnings: Vec<String>,
}

/// Compiled and linked code. A copy shares it.
#[derive(Clone)]
pub(super) enum Code {
    Component(Arc<Exports>),
    Command(wasmtime::InstancePre<Guest>),
}

/// Bytes that passed every check that is quick: what is left is to compile them, unless that was done before.
pub(super) struct Checked<'a> {
    tenant: &'a str,
    name: &'a str,
    bytes: &'a [u8],
    /// What the bytes, an engine, are to run.
    script: Option<Script>,
    digest: String,
    flavour: Flavour,
    begun: Instant,
}

/// A tenant, and the name of a plugin of its.
type Whose<'a> = (&'a str, &'a str);

impl<'a> Checked<'a> {
    pub(super) fn new(
        (tenant, name): Whose<'a>,
        bytes: &'a [u8],
        script: Option<Script>,
        manifest: &Manifest,
    ) -> Result<Self, PluginError> {
        let begun = Instant::now();
        check_name(name)?;
        let digest = check_bytes(bytes)?;
        check_pin(&version(&digest, script.as_ref()), manifest)?;
        let flavour = header::flavour(bytes)?;
        Ok(Self { tenant, name, bytes, script, digest, flavour, begun })
    }

    /// The plugin, if its bytes were compiled before.
    pub(super) fn cached(&self, host: &Host, manifest: &Manifest) -> Option<Result<Plugin, PluginError>> {
        let compiled = compile::cached(host, self.flavour, &self.digest)?;
        Some(self.link(host, &compiled, true, manifest))
    }

    /// Refuses what declares too much to be compiled.
    pub(super) fn gate(&self) -> Result<(), PluginError> {
        gate::check(self.bytes)
    }

    /// Compiles and links it. Takes up to minutes.
    pub(super) fn compile(&self, host: &Host, manifest: &Manifest, stop: &Stop) -> Result<Plugin, PluginError> {
        self.gate()?;
        let compiled = compile::compile(host, self.flavour, &self.digest, self.bytes, stop)?;
        self.link(host, &compiled, false, manifest)
    }

    fn link(
        &self,
        host: &Host,
        compiled: &Compiled,
        from_cache: bool,
        manifest: &Manifest,
    ) -> Result<Plugin, PluginError> {
        let (code, imports, exports) = match compiled {
            Compiled::Component(component) => {
                link::component(host, component, image::brought(host, self.bytes)?.as_ref())?
            }
            Compiled::Module(module) => link::command(host, module)?,
        };
        let description = Description {
            name: self.name.to_owned(),
            flavour: self.flavour,
            is_script: self.script.is_some(),
            digest: version(&self.digest, self.script.as_ref()),
            size_bytes: self.script.as_ref().map_or(self.bytes.len() as u64, Script::size_bytes),
            compile_time: self.begun.elapsed(),
            from_cache,
            imports,
            exports,
            // What follows from the code and the manifest together is filled in below.
            offers: Vec::new(),
            kinds: Vec::new(),
            reuse: None,
            warnings: Vec::new(),
        };
        Plugin::assembled(host, self.tenant, description, (code, self.digest.clone(), self.script.clone()), manifest)
    }
}

impl Plugin {
    /// Checks, compiles and links a file's bytes.
    pub(super) fn new(
        host: &Host,
        whose: Whose<'_>,
        bytes: &[u8],
        script: Option<Script>,
        manifest: Manifest,
        stop: &Stop,
    ) -> Result<Self, PluginError> {
        let checked = Checked::new(whose, bytes, script, &manifest)?;
        match checked.cached(host, &manifest) {
            Some(plugin) => plugin,
            None => checked.compile(host, &manifest, stop),
        }
    }

    /// The same code under another name or manifest, or for another script.
    pub(super) fn again(
        &self,
        host: &Host,
        (tenant, name): Whose<'_>,
        (bytes, script): (&[u8], Option<Script>),
        manifest: &Manifest,
    ) -> Result<Self, PluginError> {
        check_name(name)?;
        let digest = version(&self.code_digest, script.as_ref());
        check_pin(&digest, manifest)?;
        let size_bytes = script.as_ref().map_or(bytes.len() as u64, Script::size_bytes);
        let is_script = script.is_some();
        let description =
            Description { name: name.to_owned(), is_script, digest, size_bytes, ..self.description.clone() };
        Self::assembled(host, tenant, description, (self.code.clone(), self.code_digest.clone(), script), manifest)
    }

    fn assembled(
        host: &Host,
        tenant: &str,
        description: Description,
        (code, code_digest, script): (Code, String, Option<Script>),
        manifest: &Manifest,
    ) -> Result<Self, PluginError> {
        let name = description.name.clone();
        let (offers, handles) = match &code {
            Code::Component(exports) => (exports.names(), exports.handles()),
            Code::Command(_) => (vec!["handler"], true),
        };
        check_manifest(manifest, &offers)?;
        let kinds = if handles { manifest.kinds(&name) } else { Vec::new() };
        check_on(manifest, &kinds)?;
        let description = Description { offers, kinds, reuse: None, warnings: Vec::new(), ..description };
        let grants = Arc::new(Grants::new(manifest.allow.clone(), host.operator().rules(tenant)));
        let advice_grants = Grants::advice(&grants);
        let mut plugin = Self {
            name,
            manifest: manifest.clone(),
            grants,
            advice_grants,
            description,
            code,
            evaluated: None,
            code_digest,
            script,
            shelf: None,
        };
        plugin.keep(host);
        plugin.ask_policy(host);
        plugin.evaluated = image::evaluated(host, &plugin);
        Ok(plugin)
    }

    /// Keeps its instances from run to run, if both sides say so.
    fn keep(&mut self, host: &Host) {
        let handles = self.exports().is_some_and(|exports| exports.handler.is_some());
        let Some(runs_max) = self.manifest.reuse.filter(|_| handles && self.grants.reuse()) else { return };
        self.description.reuse = Some(runs_max);
        self.shelf = Some(Shelf::new(runs_max, host.kept()));
    }

    /// Asks its policy once what holds for its kinds.
    fn ask_policy(&mut self, host: &Host) {
        let Some(answer) = host.describe(self) else { return };
        let (described, wrong) = match &answer {
            Ok(kinds) => {
                let kinds = kinds.iter().map(|kind| (kind.kind.as_str(), kind.options.as_str()));
                let batches = self.description.offers.contains(&"batch");
                manifest::described(kinds, &self.description.kinds, batches)
            }
            Err(why) => (Vec::new(), vec![format!("describe broke, the defaults hold: {why}")]),
        };
        for why in &wrong {
            tracing::warn!(plugin = self.name, "its policy is not right: {why}");
        }
        self.manifest.described = described;
        self.description.warnings.extend(wrong.into_iter().map(|why| format!("its policy: {why}")));
    }

    /// Its name within its tenant.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version: SHA-256 of the file, in hex.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.description.digest
    }

    /// The kinds it serves.
    #[must_use]
    pub fn kinds(&self) -> &[String] {
        &self.description.kinds
    }

    /// What `plugin check` shows.
    #[must_use]
    pub fn describe(&self) -> &Description {
        &self.description
    }

    /// The manifest beside it; an empty one if there is none.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What its runs may do: what the manifest asks for, as far as the operator allows it.
    #[must_use]
    pub fn grants(&self) -> Arc<Grants> {
        Arc::clone(&self.grants)
    }

    /// The limits of a run of this kind, before the job's own time-out.
    #[must_use]
    pub fn limits(&self, kind: &str) -> Limits {
        self.grants.tenant().clamp(&self.manifest.limits(kind))
    }

    /// The limits of its calls that are about no kind of its own: as a middleware.
    #[must_use]
    pub fn own_limits(&self) -> Limits {
        self.grants.tenant().clamp(&self.manifest.limits(""))
    }

    /// How many jobs of this kind go into one call, and how long the first waits for others; none: one by one. A plugin
    /// without a handler for single jobs is called with lists of one where its manifest says nothing.
    #[must_use]
    pub fn batch(&self, kind: &str) -> Option<Batch> {
        match &self.code {
            Code::Component(exports) if exports.batch.is_some() => {
                let alone = exports.handler.is_none().then_some(Batch { max: 1, linger: Millis(0) });
                self.manifest.batch(kind).or(alone)
            }
            Code::Component(_) | Code::Command(_) => None,
        }
    }

    /// The retries of jobs of this kind.
    #[must_use]
    pub fn retry(&self, kind: &str) -> RetrySettings {
        self.manifest.retry(kind)
    }

    /// How many calls of this kind there may be.
    #[must_use]
    pub fn kind_limits(&self, kind: &str) -> KindLimits {
        self.manifest.kind_limits(kind)
    }

    /// What its manifest says of a queue.
    #[must_use]
    pub fn queue(&self, queue: &str) -> Option<QueueLimits> {
        self.manifest.queue(queue)
    }

    /// The queues of which its manifest says something.
    pub fn queues(&self) -> impl Iterator<Item = &str> {
        self.manifest.queues.iter().map(|(name, _)| name.as_str())
    }

    /// Whether it can merge the args of two jobs.
    #[must_use]
    pub fn merges(&self) -> bool {
        self.exports().is_some_and(|exports| exports.merge.is_some())
    }

    /// Whether it can be around the handlers of others.
    #[must_use]
    pub fn is_middleware(&self) -> bool {
        self.exports().is_some_and(|exports| exports.middleware.is_some())
    }

    /// What its advice may do.
    pub(super) fn advice_grants(&self) -> Arc<Grants> {
        Arc::clone(&self.advice_grants)
    }

    /// Instances that wait for their next run.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.shelf.as_ref().map_or(0, |shelf| shelf.len())
    }

    /// Where instances are kept for runs with these grants: the plugin's own, or none.
    pub(super) fn shelf(&self, grants: &Arc<Grants>) -> Option<&Arc<Shelf>> {
        self.shelf.as_ref().filter(|_| Arc::ptr_eq(&self.grants, grants))
    }

    /// What a component exports.
    pub(super) fn exports(&self) -> Option<&Exports> {
        match (&self.evaluated, &self.code) {
            (Some(evaluated), _) => Some(&evaluated.exports),
            (None, Code::Component(exports)) => Some(exports),
            (None, Code::Command(_)) => None,
        }
    }

    pub(super) fn code(&self) -> &Code {
        &self.code
    }

    /// SHA-256 of what its code was made from.
    pub(super) fn code_digest(&self) -> &str {
        &self.code_digest
    }

    /// What its code, an engine, runs.
    pub(super) fn script(&self) -> Option<&Script> {
        self.script.as_ref()
    }

    /// What each run has to be given: its script, unless it begins with that.
    pub(super) fn script_to_give(&self) -> Option<&Script> {
        self.script.as_ref().filter(|_| self.evaluated.is_none())
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("description", &self.description).finish_non_exhaustive()
    }
}

impl Flavour {
    /// The word for people and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Command => "command",
        }
    }
}

/// SHA-256 in hex, as everywhere in the runner.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// What a plugin's version is: its script's digest, or its code's.
fn version(code_digest: &str, script: Option<&Script>) -> String {
    script.map_or_else(|| code_digest.to_owned(), Script::digest)
}

fn check_bytes(bytes: &[u8]) -> Result<String, PluginError> {
    let size_bytes = bytes.len() as u64;
    if size_bytes > PLUGIN_BYTES_MAX {
        return Err(PluginError::TooLarge { size_bytes, max: PLUGIN_BYTES_MAX });
    }
    Ok(digest(bytes))
}

fn check_pin(found: &str, manifest: &Manifest) -> Result<(), PluginError> {
    match &manifest.sha256 {
        Some(pinned) if *pinned != found => {
            Err(PluginError::Digest { pinned: pinned.clone(), found: found.to_owned() })
        }
        _ => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), PluginError> {
    runner_store::job::name_problem(name).map_or(Ok(()), |problem| Err(PluginError::Name { problem }))
}

/// A manifest may not ask for what the file cannot do, as an ignored setting would be a lie.
fn check_manifest(manifest: &Manifest, offers: &[&str]) -> Result<(), PluginError> {
    let lacks = |export: &str| !offers.contains(&export);
    let message = if lacks("handler") && lacks("batch") && !manifest.kinds.is_empty() {
        format!("`kinds` needs the export handler or batch, it has {}", offers.join(", "))
    } else if let (true, Some((kind, _))) = (lacks("batch"), manifest.each.iter().find(|(_, own)| own.batch.is_some()))
    {
        format!("the batches of kind `{kind}` need the export batch, it has {}", offers.join(", "))
    } else {
        return Ok(());
    };
    Err(PluginError::Manifest { message })
}

/// Whoever listens is one of the plugin's own kinds: what is enqueued for others, their own manifests say.
fn check_on(manifest: &Manifest, kinds: &[String]) -> Result<(), PluginError> {
    let Some(on) = manifest.on.iter().find(|on| !kinds.contains(&on.kind)) else { return Ok(()) };
    let kind = &on.kind;
    let message = match kinds {
        [] => format!("kind `{kind}` listens to events, and the file exports neither handler nor batch"),
        kinds => format!("kind `{kind}` listens to events, and its kinds are {}", kinds.join(", ")),
    };
    Err(PluginError::Manifest { message })
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &wasmtime::Error) -> String {
    error.chain().map(|cause| cause.to_string().replace('\n', " ")).collect::<Vec<_>>().join(": ")
}
