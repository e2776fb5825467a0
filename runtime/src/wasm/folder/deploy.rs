//! Puts a plugin into a folder that a loader follows, and takes one out.
//!
//! [`Deploy::put`] does to the new file what the loader will do: it is checked, compiled, linked, and asked what it wants.
//! Only what passes all of that is written; what does not, changes nothing. As what was compiled is in the cache by then, the
//! loader's next look serves it at once. One plugin is put at a time, and each tenant has one that is put or waits.
//!
//! It deliberately knows nothing of HTTP, and starts no look of the loader's.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runner_store::clock::Clock;
use runner_store::job::{Millis, name_problem};
use tokio::sync::Semaphore;

use super::dir::{ENTRIES_MAX, Folder};
use super::registry::TENANT_DEFAULT;
use super::shelf::{PLUGINS_OF_FOLDER_MAX, Shelf, WASM_SUFFIX, may_be_a_folder};
use super::{FolderError, LoadError, MANIFEST_BYTES_MAX, manifest};
use crate::wasm::compile::Stop;
use crate::wasm::manifest::Manifest;
use crate::wasm::plugin::{self, Checked, PLUGIN_BYTES_MAX, PluginError};
use crate::wasm::script::{ENGINE_FILE, SCRIPT_SUFFIX, Script};
use crate::wasm::spawn::Host;

/// See the module.
#[derive(Clone)]
pub struct Deploy {
    host: Arc<Host>,
    path: PathBuf,
    shelf: Arc<Mutex<Shelf>>,
    stop: Stop,
    turn: Arc<Semaphore>,
    line: Line,
}

/// A plugin that is to be put.
#[derive(Debug, Clone)]
pub struct Offered {
    /// Its file.
    pub code: CodeFile,
    /// Its manifest: none leaves the one that is there, an empty one takes that away.
    pub manifest: Option<Vec<u8>>,
}

/// The file of a plugin.
#[derive(Debug, Clone)]
pub enum CodeFile {
    /// A component or a module.
    Wasm(Vec<u8>),
    /// A script, for the engine in the folder.
    Script(Vec<u8>),
}

/// What was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// Whether there was none of this name.
    pub is_new: bool,
    /// Its version: SHA-256 of the file, in hex.
    pub digest: String,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum NotDeployed {
    /// The name cannot be one.
    #[error("{0}")]
    Name(String),
    /// The engine, whose file is the operator's alone.
    #[error("`{ENGINE_FILE}` runs the scripts of all tenants, so it is changed in the folder itself")]
    Engine,
    /// Another plugin of the tenant is being put, or many of others.
    #[error("another plugin is being put or taken out; nothing happened: try again when that is done")]
    Busy,
    /// The tenant has compiled as much as it may for now.
    #[error("the tenant has compiled for as long as it may in an hour; nothing happened: try again in {} s", .0.0.div_ceil(1_000))]
    Share(Millis),
    /// It does not compile, or is no plugin.
    #[error("{0}; nothing was changed")]
    Refused(#[source] PluginError),
    /// Its manifest is wrong, or the one that is there cannot be read.
    #[error("{0}; nothing was changed")]
    Manifest(#[source] LoadError),
    /// It asks for what the operator does not grant.
    #[error("it asks for what is not granted: {}; nothing was changed: ask the operator for it, or take it out of the manifest", .0.join("; "))]
    NotGranted(Vec<String>),
    /// There is one of this name in the other form.
    #[error("the plugin of this name is a file `{0}`, which this would stand beside; delete it first")]
    OtherForm(String),
    /// There is none of this name.
    #[error("there is no plugin of this name in the server's folder")]
    Missing,
    /// As many as are looked at are there.
    #[error(
        "the tenant's folder has {PLUGINS_OF_FOLDER_MAX} plugins, and no more are looked at; nothing was changed: delete one first"
    )]
    Full,
    /// The folder cannot be read.
    #[error("{0}; nothing was changed")]
    Folder(String),
    /// The folder cannot be written.
    #[error("the server's folder of plugins `{}` cannot be written ({source}); put plugins where it comes from", path.display())]
    ReadOnly {
        /// Which folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Writing failed.
    #[error("`{}` could not be written: {source}", path.display())]
    Write {
        /// In which folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A bug.
    #[error("a bug: {0}")]
    Bug(String),
}

/// The forms of a plugin's file.
const SUFFIXES: [&str; 2] = [WASM_SUFFIX, SCRIPT_SUFFIX];

/// Tenants that put or take out something at once: one at a time does, the others wait with up to 33 MiB each.
const LINE_MAX: usize = 8;
/// How long one waits for the others: as long as compiling may take.
const TURN_WITHIN: Duration = Duration::from_secs(120);

/// A tenant's place in the line. Each has one, so that who pushes in a loop holds up nobody for longer than once.
struct Place {
    line: Line,
    tenant: String,
}

type Line = Arc<Mutex<BTreeSet<String>>>;

impl Place {
    /// None: it has one, or there are too many.
    fn of(line: &Line, tenant: &str) -> Option<Self> {
        let mut tenants = line.lock().unwrap_or_else(PoisonError::into_inner);
        let is_let_in = tenants.len() < LINE_MAX && tenants.insert(tenant.to_owned());
        is_let_in.then(|| Self { line: Arc::clone(line), tenant: tenant.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.tenant);
    }
}

impl std::fmt::Debug for Deploy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deploy").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Deploy {
    pub(in crate::wasm) fn new(host: Arc<Host>, path: &Path, shelf: Arc<Mutex<Shelf>>, stop: Stop) -> Self {
        Self { host, path: path.to_owned(), shelf, stop, turn: Arc::new(Semaphore::new(1)), line: Arc::default() }
    }

    /// Puts a plugin of a tenant, once it has passed every check. Takes up to minutes, and goes on when whoever asked goes
    /// away.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn put(&self, tenant: &str, name: &str, offered: Offered) -> Result<Put, NotDeployed> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        let whose = tenant.clone();
        self.alone(&whose, move |deploy| deploy.put_now((&tenant, &name), offered)).await
    }

    /// Takes a plugin of a tenant out, with its manifest. Jobs of its kinds wait from then on.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn remove(&self, tenant: &str, name: &str) -> Result<(), NotDeployed> {
        let (tenant, name) = (tenant.to_owned(), name.to_owned());
        let whose = tenant.clone();
        self.alone(&whose, move |deploy| deploy.remove_now((&tenant, &name))).await
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn alone<T: Send + 'static>(
        &self,
        tenant: &str,
        work: impl FnOnce(&Self) -> Result<T, NotDeployed> + Send + 'static,
    ) -> Result<T, NotDeployed> {
        let place = Place::of(&self.line, tenant).ok_or(NotDeployed::Busy)?;
        let turn = tokio::time::timeout(TURN_WITHIN, Arc::clone(&self.turn).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(NotDeployed::Busy) };
        let deploy = self.clone();
        let working = tokio::task::spawn_blocking(move || {
            // Whoever gets the turn finds the place free.
            let _held = (place, turn);
            work(&deploy)
        });
        working.await.unwrap_or_else(|error| Err(NotDeployed::Bug(error.to_string())))
    }

    fn put_now(&self, whose: (&str, &str), offered: Offered) -> Result<Put, NotDeployed> {
        let (tenant, name) = whose;
        check_names(whose)?;
        let root = Folder::open(&self.path).map_err(unusable)?;
        let there = place(&root, whose)?;
        let folder = there.as_ref().unwrap_or(&root);
        let is_made = there.is_some() || tenant == TENANT_DEFAULT;
        let (suffix, other) = match &offered.code {
            CodeFile::Wasm(_) => (WASM_SUFFIX, SCRIPT_SUFFIX),
            CodeFile::Script(_) => (SCRIPT_SUFFIX, WASM_SUFFIX),
        };
        let (file, beside) = (format!("{name}{suffix}"), format!("{name}.toml"));
        if is_made {
            no_folder(folder, &[&file, &beside])?;
        }
        let is_new = !is_made || !folder.has(&file);
        if is_made && folder.has(&format!("{name}{other}")) {
            return Err(NotDeployed::OtherForm(format!("{name}{other}")));
        }
        if is_made && is_new {
            has_room(folder)?;
        }
        folder.may_be_written().map_err(|source| not_written(folder, source))?;
        let text = match &offered.manifest {
            Some(text) => text.clone(),
            None if is_made => folder
                .read(&beside, MANIFEST_BYTES_MAX)
                .map_err(NotDeployed::Manifest)?
                .map(|(text, _)| text)
                .unwrap_or_default(),
            None => Vec::new(),
        };
        let manifest = manifest(Path::new(&beside), text).map_err(NotDeployed::Manifest)?;
        let digest = self.compiled(&root, whose, &file, &offered.code, &manifest)?;
        self.write((&root, there), tenant, (&file, &beside), &offered)?;
        tracing::info!(tenant, plugin = name, digest, "plugin put");
        Ok(Put { is_new, digest })
    }

    /// The version of the plugin, once everything was done to it that the loader will do.
    fn compiled(
        &self,
        root: &Folder,
        whose: (&str, &str),
        file: &str,
        code: &CodeFile,
        manifest: &Manifest,
    ) -> Result<String, NotDeployed> {
        let engine;
        let (bytes, script) = match code {
            CodeFile::Wasm(bytes) => (bytes, None),
            CodeFile::Script(text) => {
                let script = Script::new(file, text.clone()).map_err(NotDeployed::Refused)?;
                let read =
                    root.read(ENGINE_FILE, PLUGIN_BYTES_MAX).map_err(|error| NotDeployed::Folder(error.to_string()))?;
                (engine, _) = read.ok_or(NotDeployed::Refused(PluginError::NoEngine))?;
                (&engine, Some(script))
            }
        };
        let checked = Checked::new(whose, bytes, script, manifest).map_err(NotDeployed::Refused)?;
        let made = match checked.cached(&self.host, manifest) {
            Some(made) => made,
            None => self.compile(whose.0, &checked, manifest)?,
        };
        let made = made.map_err(NotDeployed::Refused)?;
        let missing = made.grants().missing();
        if missing.is_empty() { Ok(made.digest().to_owned()) } else { Err(NotDeployed::NotGranted(missing)) }
    }

    /// Compiles it within its tenant's share of the hour, which is the loader's to count.
    fn compile(
        &self,
        tenant: &str,
        checked: &Checked<'_>,
        manifest: &Manifest,
    ) -> Result<Result<plugin::Plugin, PluginError>, NotDeployed> {
        let now = Clock::System.uptime();
        if let Some(until) = self.shelf().share_until(tenant, now) {
            return Err(NotDeployed::Share(Millis(until.0.saturating_sub(now.0))));
        }
        let begun = Instant::now();
        let made = checked.compile(&self.host, manifest, &self.stop);
        let took = Millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.shelf().spend(tenant, Clock::System.uptime(), took);
        Ok(made)
    }

    fn write(
        &self,
        (root, there): (&Folder, Option<Folder>),
        tenant: &str,
        (file, beside): (&str, &str),
        offered: &Offered,
    ) -> Result<(), NotDeployed> {
        let made;
        let folder = match &there {
            Some(folder) => folder,
            None if tenant == TENANT_DEFAULT => root,
            None => {
                root.make_folder(tenant).map_err(|source| not_written(root, source))?;
                made = root.sub(tenant).map_err(|error| NotDeployed::Folder(error.to_string()))?;
                &made
            }
        };
        let failed = |source| not_written(folder, source);
        if !folder.take().map_err(failed)? {
            return Err(NotDeployed::Busy);
        }
        let (CodeFile::Wasm(bytes) | CodeFile::Script(bytes)) = &offered.code;
        let code = folder.receive(0, bytes).map_err(failed)?;
        let text = offered.manifest.as_ref().filter(|text| !text.is_empty());
        let text = text.map(|text| folder.receive(1, text)).transpose().map_err(failed)?;
        // The loader looks at both or at neither. A process that is killed in between leaves the new file with the old
        // manifest, which the next start checks like any other.
        let looks = self.shelf();
        code.name(file).map_err(failed)?;
        match text {
            Some(text) => text.name(beside).map_err(failed)?,
            None if offered.manifest.is_some() => _ = folder.remove(beside).map_err(failed)?,
            None => {}
        }
        drop(looks);
        folder.sync().map_err(failed)
    }

    fn remove_now(&self, whose: (&str, &str)) -> Result<(), NotDeployed> {
        let (tenant, name) = whose;
        check_names(whose).map_err(|error| match error {
            NotDeployed::Engine => error,
            // A name that cannot be one is nothing's.
            _ => NotDeployed::Missing,
        })?;
        let root = Folder::open(&self.path).map_err(unusable)?;
        let sub = if root.has_folder(tenant) {
            Some(root.sub(tenant).map_err(|error| NotDeployed::Folder(error.to_string()))?)
        } else {
            None
        };
        let folders = sub.iter().chain((tenant == TENANT_DEFAULT).then_some(&root));
        let mut removed = false;
        for folder in folders.filter(|folder| has_plugin(folder, name)) {
            let failed = |source| not_written(folder, source);
            let files: Vec<String> =
                SUFFIXES.iter().chain(&[".toml"]).map(|suffix| format!("{name}{suffix}")).collect();
            no_folder(folder, &files)?;
            if !folder.take().map_err(failed)? {
                return Err(NotDeployed::Busy);
            }
            let looks = self.shelf();
            for file in &files {
                removed |= folder.remove(file).map_err(failed)?;
            }
            drop(looks);
            folder.sync().map_err(failed)?;
        }
        if !removed {
            return Err(NotDeployed::Missing);
        }
        tracing::info!(tenant, plugin = name, "plugin taken out");
        Ok(())
    }

    /// What the loader knows. Whoever has it keeps the loader from looking.
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder in the folder where a tenant's plugin of this name is, or would be put; none: it is the folder itself, or is
/// yet to be made.
fn place(root: &Folder, (tenant, name): (&str, &str)) -> Result<Option<Folder>, NotDeployed> {
    if !root.has(tenant) {
        return Ok(None);
    }
    let sub = root.sub(tenant);
    if tenant == TENANT_DEFAULT {
        // The operator's own are in the folder itself, unless somebody has chosen the other place.
        return Ok(sub.ok().filter(|sub| has_plugin(sub, name) && !has_plugin(root, name)));
    }
    sub.map(Some).map_err(|error| NotDeployed::Folder(error.to_string()))
}

fn has_plugin(folder: &Folder, name: &str) -> bool {
    SUFFIXES.iter().any(|suffix| folder.has(&format!("{name}{suffix}")))
}

/// What is a folder by one of these names is nobody's plugin, and is not ours to replace.
fn no_folder(folder: &Folder, files: &[impl AsRef<str>]) -> Result<(), NotDeployed> {
    match files.iter().map(AsRef::as_ref).find(|file| folder.has_folder(file)) {
        Some(file) => {
            Err(NotDeployed::Folder(format!("`{}` is a folder; move it away", folder.path().join(file).display())))
        }
        None => Ok(()),
    }
}

fn has_room(folder: &Folder) -> Result<(), NotDeployed> {
    let entries = folder.entries().map_err(unusable)?;
    let is_plugin = |name: &str| !name.starts_with('.') && SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    let plugins = entries.iter().filter(|entry| is_plugin(&entry.name)).count();
    // Two more, a file and its manifest, still have to be entries that are looked at.
    let is_full = plugins >= PLUGINS_OF_FOLDER_MAX || entries.len() + 2 > ENTRIES_MAX;
    if is_full { Err(NotDeployed::Full) } else { Ok(()) }
}

fn check_names((tenant, name): (&str, &str)) -> Result<(), NotDeployed> {
    if let Some(problem) = name_problem(name) {
        return Err(NotDeployed::Name(problem));
    }
    if tenant == TENANT_DEFAULT && ENGINE_FILE.strip_suffix(WASM_SUFFIX) == Some(name) {
        return Err(NotDeployed::Engine);
    }
    // Of a plugin `a.js`, nobody could tell which of two files `a.js.wasm` and `a.js` is meant.
    if let Some(suffix) = SUFFIXES.iter().chain(&[".toml"]).find(|suffix| name.ends_with(**suffix)) {
        return Err(NotDeployed::Name(format!("{name:?} ends with {suffix}, as a file does; leave that out")));
    }
    if tenant != TENANT_DEFAULT && !may_be_a_folder(tenant) {
        return Err(NotDeployed::Folder(format!(
            "the tenant {tenant:?} can have no folder of plugins, as it is named like a file"
        )));
    }
    Ok(())
}

fn unusable(error: FolderError) -> NotDeployed {
    NotDeployed::Folder(error.to_string())
}

fn not_written(folder: &Folder, source: io::Error) -> NotDeployed {
    let path = folder.path().to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => NotDeployed::ReadOnly { path, source },
        _ => NotDeployed::Write { path, source },
    }
}
