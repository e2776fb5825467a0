//! A plugin: a file that was checked, compiled and linked.
//!
//! A [`Plugin`] exists only if all of that went well: its header is Wasm's, its counts are within bounds, it
//! compiled, everything it imports is offered and what it must export is there. So a run can fail for the guest's
//! reasons only. Compiling happens in this process; [`compile`] is the one place that does it, bytes in and code out,
//! so that it can move into a child. Folders and manifests' files are `folder`'s business.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::grants::Grants;
use super::guest::Guest;
use super::host::{self, contract};
use super::limits::Limits;
use super::manifest::{Manifest, RetrySettings};
use super::spawn::Host;
use super::{gate, header};

/// A plugin file. The largest honest ones (Python, StarlingMonkey) have 18 MB.
pub const PLUGIN_BYTES_MAX: u64 = 32 << 20;

/// A plugin that can run.
pub struct Plugin {
    name: String,
    manifest: Manifest,
    grants: Arc<Grants>,
    description: Description,
    code: Code,
}

/// Which of the two shapes of a handler a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// SHA-256 of the file, in hex: the plugin's version.
    pub digest: String,
    /// Size of the file.
    pub size_bytes: u64,
    /// How long checking and compiling took.
    pub compile_time: Duration,
    /// What the guest asks for.
    pub imports: Vec<String>,
    /// What it offers.
    pub exports: Vec<String>,
    /// The kinds it serves.
    pub kinds: Vec<String>,
}

/// Why a file is no plugin: what is wrong and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's text is its documentation")]
pub enum PluginError {
    #[error("the file is empty; build or copy it again")]
    Empty,
    #[error("the file ends within its first 8 bytes; build or copy it again")]
    Truncated,
    #[error("the file ends too early, at byte {offset} ({message}); build or copy it again")]
    Cut { offset: usize, message: String },
    #[error("the file is not WebAssembly but {found}; put the `.wasm` file that your toolchain builds here")]
    NotWasm { found: &'static str },
    #[error(
        "the file is WebAssembly precompiled to native code, which is never loaded as it cannot be checked; \
         put the `.wasm` file here that it was made from"
    )]
    Precompiled,
    #[error("the file's WebAssembly version is {version}; known are a component (0d000100) and a module (01000000)")]
    UnknownVersion { version: String },
    #[error("the file has {size_bytes} bytes, at most {max} are loaded; build with optimisation for size, or strip it")]
    TooLarge { size_bytes: u64, max: u64 },
    #[error("it declares {count} {what}, at most {max} are compiled")]
    TooMany { what: &'static str, count: u64, max: u64 },
    #[error("it is not valid WebAssembly for this runner: {message}")]
    Invalid { message: String },
    #[error("it imports what the runner does not offer: {}", names.join(", "))]
    UnknownImports { names: Vec<String> },
    #[error("it does not export {}; {hint}", names.join(", "))]
    MissingExports { names: Vec<String>, hint: &'static str },
    #[error(
        "it is built for {found}, this runner serves version {served}; build it with the contract that `runner plugin wit` prints"
    )]
    ContractVersion { found: String, served: &'static str },
    #[error("it cannot be linked: {message}")]
    Link { message: String },
    #[error("its manifest pins sha256 {pinned}, but the file has {found}; put the pinned file here or change the pin")]
    Digest { pinned: String, found: String },
    #[error("its name is not allowed: {problem}; rename the file")]
    Name { problem: String },
}

/// Compiled and linked code.
pub(super) enum Code {
    Component(contract::PluginPre<Guest>),
    Command(wasmtime::InstancePre<Guest>),
}

enum Compiled {
    Component(Component),
    Module(Module),
}

impl Plugin {
    /// Checks, compiles and links a file's bytes.
    pub(super) fn new(host: &Host, name: &str, bytes: &[u8], manifest: Manifest) -> Result<Self, PluginError> {
        let begun = Instant::now();
        if let Some(problem) = runner_store::job::name_problem(name) {
            return Err(PluginError::Name { problem });
        }
        let digest = check_bytes(bytes, &manifest)?;
        let flavour = header::flavour(bytes)?;
        gate::check(bytes)?;
        let (code, imports, exports) = match compile(host.engine(), flavour, bytes)? {
            Compiled::Component(component) => link_component(host, &component)?,
            Compiled::Module(module) => link_command(host, &module)?,
        };
        let description = Description {
            name: name.to_owned(),
            flavour,
            digest,
            size_bytes: bytes.len() as u64,
            compile_time: begun.elapsed(),
            imports,
            exports,
            kinds: manifest.kinds(name),
        };
        // All plugins of the folder are those of one tenant.
        let rules = host.operator().rules("default");
        let grants = Arc::new(Grants::new(manifest.allow.clone(), rules));
        Ok(Self { name: name.to_owned(), manifest, grants, description, code })
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

    /// The retries of jobs of this kind.
    #[must_use]
    pub fn retry(&self, kind: &str) -> RetrySettings {
        self.manifest.retry(kind)
    }

    pub(super) fn code(&self) -> &Code {
        &self.code
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

fn check_bytes(bytes: &[u8], manifest: &Manifest) -> Result<String, PluginError> {
    let size_bytes = bytes.len() as u64;
    if size_bytes > PLUGIN_BYTES_MAX {
        return Err(PluginError::TooLarge { size_bytes, max: PLUGIN_BYTES_MAX });
    }
    let found = digest(bytes);
    match &manifest.sha256 {
        Some(pinned) if *pinned != found => Err(PluginError::Digest { pinned: pinned.clone(), found }),
        _ => Ok(found),
    }
}

/// Makes native code of bytes: the only place that does.
fn compile(engine: &Engine, flavour: Flavour, bytes: &[u8]) -> Result<Compiled, PluginError> {
    let compiled = match flavour {
        Flavour::Component => Component::from_binary(engine, bytes).map(Compiled::Component),
        Flavour::Command => Module::from_binary(engine, bytes).map(Compiled::Module),
    };
    compiled.map_err(|error| PluginError::Invalid { message: chain(&error) })
}

type Linked = (Code, Vec<String>, Vec<String>);

fn link_component(host: &Host, component: &Component) -> Result<Linked, PluginError> {
    let ty = component.component_type();
    let imports: Vec<String> = ty.imports(host.engine()).map(|(name, _)| name.to_owned()).collect();
    let exports: Vec<String> = ty.exports(host.engine()).map(|(name, _)| name.to_owned()).collect();
    check_contract(imports.iter().chain(&exports))?;
    let unknown: Vec<String> = imports.iter().filter(|name| !offered(name)).cloned().collect();
    if !unknown.is_empty() {
        return Err(PluginError::UnknownImports { names: unknown });
    }
    if !exports.iter().any(|name| interface(name) == host::HANDLER) {
        let names = vec![format!("{}@{}", host::HANDLER, host::CONTRACT_VERSION)];
        let hint = if exports.iter().any(|name| interface(name) == "wasi:cli/run") {
            "it is a WASI command built as a component: build it for wasm32-wasip1 instead, or export the handler"
        } else {
            "build it for the world `plugin` of the contract that `runner plugin wit` prints"
        };
        return Err(PluginError::MissingExports { names, hint });
    }
    let pre = host.component_linker().instantiate_pre(component).map_err(|e| link_error(&e))?;
    let pre = contract::PluginPre::new(pre).map_err(|e| link_error(&e))?;
    Ok((Code::Component(pre), imports, exports))
}

fn link_command(host: &Host, module: &Module) -> Result<Linked, PluginError> {
    let imports: Vec<String> =
        module.imports().map(|import| format!("{}.{}", import.module(), import.name())).collect();
    let exports: Vec<String> = module.exports().map(|export| export.name().to_owned()).collect();
    let unknown: Vec<String> =
        imports.iter().filter(|name| !name.starts_with("wasi_snapshot_preview1.")).cloned().collect();
    if !unknown.is_empty() {
        return Err(PluginError::UnknownImports { names: unknown });
    }
    let start = module.get_export("_start").and_then(|ty| ty.func().cloned());
    if !start.is_some_and(|ty| ty.params().len() == 0 && ty.results().len() == 0) {
        let hint = "a core module must be a WASI command (wasm32-wasip1, a program with `main`); \
                    a library becomes a plugin with `wasm-tools component new`";
        return Err(PluginError::MissingExports { names: vec!["_start".to_owned()], hint });
    }
    let pre = host.command_linker().instantiate_pre(module).map_err(|e| link_error(&e))?;
    Ok((Code::Command(pre), imports, exports))
}

/// A name without its version.
fn interface(name: &str) -> &str {
    name.split_once('@').map_or(name, |(interface, _)| interface)
}

fn version(name: &str) -> &str {
    name.split_once('@').map_or("", |(_, version)| version)
}

/// Every interface of the contract must be of a version that is served; a later patch may be.
fn check_contract<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<(), PluginError> {
    let served = host::CONTRACT_VERSION;
    match names.find(|name| name.starts_with(host::PACKAGE) && !version(name).starts_with("0.1.")) {
        Some(found) => Err(PluginError::ContractVersion { found: found.clone(), served }),
        None => Ok(()),
    }
}

fn offered(import: &str) -> bool {
    let (interface, version) = (interface(import), version(import));
    if let Some(own) = interface.strip_prefix(host::PACKAGE) {
        return host::OFFERED.contains(&own);
    }
    version.starts_with("0.2.") && host::WASI_OFFERED.iter().any(|package| interface.starts_with(package))
}

fn link_error(error: &wasmtime::Error) -> PluginError {
    match error.downcast_ref::<wasmtime::UnknownImportError>() {
        Some(unknown) => {
            PluginError::UnknownImports { names: vec![format!("{}.{}", unknown.module(), unknown.name())] }
        }
        None => PluginError::Link { message: chain(error) },
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &wasmtime::Error) -> String {
    error.chain().map(|cause| cause.to_string().replace('\n', " ")).collect::<Vec<_>>().join(": ")
}
