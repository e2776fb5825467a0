//! A folder of plugins: every `NAME.wasm` and `NAME.js`, with `NAME.toml` beside it where there is one.
//!
//! `DIR/` itself and `DIR/default/` belong to the tenant `default`, `DIR/TENANT/` to that tenant if there is one. A broken
//! plugin is reported ([`Report`]) and never stops the others. A folder that is not there is an error, as it is a typing
//! mistake. Where two plugins of a tenant offer one kind, the first by file name serves, always.
//!
//! [`load`] reads a folder once. The `loader` follows its changes. Both work on the same [`shelf`], which knows what was
//! read; [`dir`] reads files and trusts no link, [`turns`] says whose plugin is compiled next.

pub mod deploy;
mod dir;
mod registry;
mod shelf;
mod turns;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runner_store::clock::Clock;

pub use self::registry::{Registry, TENANT_DEFAULT};
pub(super) use self::shelf::{Look, Made, Place, Shelf, make};
use super::compile::Stop;
use super::manifest::{Manifest, ManifestError};
use super::plugin::{PLUGIN_BYTES_MAX, Plugin, PluginError};
use super::script::{ENGINE_FILE, SCRIPT_BYTES_MAX, SCRIPT_SUFFIX};
use super::spawn::Host;

/// A manifest: far more than any has.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// Something about one file of the folder that its owner should know.
#[derive(Debug)]
pub struct Report {
    /// The file or folder that it is about.
    pub path: PathBuf,
    /// What it is.
    pub problem: Problem,
}

/// What can be said of one file of the folder.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is not loaded.
    #[error("{0}")]
    Broken(#[source] Arc<LoadError>),
    /// It is not loaded, and what stood in its place before serves on.
    #[error("{error}; until that is mended, its version {serving:.12} serves on")]
    Stale {
        /// What is wrong with the new version.
        #[source]
        error: Arc<LoadError>,
        /// The digest of the old one.
        serving: String,
    },
    /// It is loaded, but another plugin, first by file name, offers this kind too.
    #[error(
        "its kind `{kind}` is already served by `{by}`, which comes first by file name; rename the kind in one of them"
    )]
    Shadowed {
        /// The kind.
        kind: String,
        /// The plugin that serves.
        by: String,
    },
    /// It is loaded, but one of its kinds is a worker's.
    #[error(
        "its kind `{kind}` is external by the configuration: workers take its jobs, and this plugin does not serve it; take \
         `external` of [kinds.\"{kind}\"] out of the configuration, or the kind out of the plugin"
    )]
    External {
        /// The kind.
        kind: String,
    },
    /// A name can be had once in a tenant.
    #[error("the tenant has a plugin of this name already, `{}`; rename one of them", first.display())]
    NameTwice {
        /// The one that is loaded.
        first: PathBuf,
    },
    /// A folder named as no tenant.
    #[error(
        "the tenant `{0}` is unknown; its plugins are not loaded. Create the tenant, or move them to another folder"
    )]
    TenantUnknown(String),
    /// A manifest without its plugin.
    #[error("there is no `.wasm` or `.js` file of the same name beside this manifest")]
    ManifestAlone,
    /// A folder of a tenant that cannot be used.
    #[error("{0}")]
    Folder(#[source] FolderError),
}

/// Why a plugin was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("`{}` cannot be read: {message}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why, and how to mend it.
        message: String,
        /// The system's own error, if there is one.
        #[source]
        source: Option<io::Error>,
    },
    /// Somebody writes it just now.
    #[error("`{}` changes while it is read; it is read again in a moment", path.display())]
    Changing {
        /// Which file.
        path: PathBuf,
    },
    /// Its manifest is wrong.
    #[error("`{}`, {error}", path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: ManifestError,
    },
    /// It is no plugin.
    #[error("`{}`: {error}", path.display())]
    Plugin {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: PluginError,
    },
}

/// Why a folder cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It is not there.
    #[error("the plugin folder `{}` does not exist; create it or name another one", .0.display())]
    Missing(PathBuf),
    /// It is something else.
    #[error("`{}` is not a folder; name the folder that the plugin files are in", .0.display())]
    NotAFolder(PathBuf),
    /// It cannot be listed.
    #[error("the plugin folder `{}` cannot be read; check its permissions", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There are more files in it than any plugin folder has.
    #[error("`{}` has more than {} entries; is it the right folder?", .0.display(), dir::ENTRIES_MAX)]
    TooMany(PathBuf),
}

/// Whether a folder could be loaded, without loading anything.
///
/// # Errors
/// As [`load`].
pub fn check(folder: &Path) -> Result<(), FolderError> {
    dir::Folder::open(folder)?.entries().map(drop)
}

/// Loads every plugin of a folder. Takes up to minutes for a plugin that was not compiled before: not for async code.
///
/// # Errors
/// The folder itself cannot be used. What is wrong with single files is in the reports.
pub fn load(
    host: &Host,
    folder: &Path,
    is_tenant: &dyn Fn(&str) -> bool,
) -> Result<(Registry, Vec<Arc<Report>>), FolderError> {
    let (mut shelf, stop) = (Shelf::default(), Stop::default());
    shelf.look(host, folder, is_tenant, Look::AtAll)?;
    let uptime = || Clock::System.uptime();
    while let Some(place) = shelf.next(uptime()) {
        let made = make(host, folder, &place, shelf.same(&place).as_deref(), &stop);
        shelf.put(&place, made, uptime());
    }
    Ok(shelf.serve())
}

/// Loads one plugin and its manifest.
pub(super) fn load_file(host: &Host, file: &Path) -> Result<Plugin, LoadError> {
    let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = file.with_extension("toml");
    let manifest = if dir::is_there(&beside) {
        manifest(&beside, dir::read_named(&beside, MANIFEST_BYTES_MAX)?)?
    } else {
        Manifest::default()
    };
    let broken = |error| LoadError::Plugin { path: file.to_owned(), error };
    let file_name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if file_name.ends_with(SCRIPT_SUFFIX) {
        let script = dir::read_named(file, SCRIPT_BYTES_MAX)?;
        let engine = file.with_file_name(ENGINE_FILE);
        if !dir::is_there(&engine) {
            return Err(broken(PluginError::NoEngine));
        }
        let engine = dir::read_named(&engine, PLUGIN_BYTES_MAX)?;
        return host.compile_script(&file_name, script, &engine, manifest).map_err(broken);
    }
    let bytes = dir::read_named(file, PLUGIN_BYTES_MAX)?;
    host.compile(&name, &bytes, manifest).map_err(broken)
}

fn manifest(path: &Path, bytes: Vec<u8>) -> Result<Manifest, LoadError> {
    let text = String::from_utf8(bytes).map_err(|_| dir::unreadable(path, "it is not UTF-8 text", None))?;
    Manifest::parse(&text).map_err(|error| LoadError::Manifest { path: path.to_owned(), error })
}
