//! A folder of plugins: every `NAME.wasm`, with `NAME.toml` beside it where there is one.
//!
//! [`load`] answers with a [`Registry`] (which plugin serves which kind) and a list of [`Report`]s: a broken plugin
//! is reported and never stops the others. A folder that is not there is an error, as it is a typing mistake. Where
//! two plugins offer one kind, the first by file name serves. Watching for changes is not done here.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::manifest::{Manifest, ManifestError};
use super::plugin::{PLUGIN_BYTES_MAX, Plugin, PluginError};
use super::spawn::Host;

/// A manifest: far more than any has.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// Entries of one folder.
const ENTRIES_MAX: usize = 10_000;

/// Which plugin serves which kind.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<String, Arc<Plugin>>,
    plugins: Vec<Arc<Plugin>>,
}

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
    Broken(#[source] LoadError),
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
    /// A folder named as no tenant.
    #[error("the tenant `{0}` is unknown; its plugins are not loaded")]
    TenantUnknown(String),
    /// A manifest without its plugin.
    #[error("there is no `.wasm` file of the same name beside this manifest")]
    ManifestAlone,
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
    /// Its manifest is wrong.
    #[error("`{}`, {error}", path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        error: ManifestError,
    },
    /// The file is no plugin.
    #[error("`{}`: {error}", path.display())]
    Plugin {
        /// Which file.
        path: PathBuf,
        /// What and how to mend it.
        error: PluginError,
    },
}

/// Why a folder cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is nothing of that name.
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
    #[error("`{}` has more than {ENTRIES_MAX} entries; is it the right folder?", .0.display())]
    TooMany(PathBuf),
}

impl Registry {
    /// The plugin that serves this kind.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&Arc<Plugin>> {
        self.kinds.get(kind)
    }

    /// Every kind and who serves it, by name.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, &Arc<Plugin>)> {
        self.kinds.iter().map(|(kind, plugin)| (kind.as_str(), plugin))
    }

    /// Every plugin that is loaded, by file name.
    #[must_use]
    pub fn plugins(&self) -> &[Arc<Plugin>] {
        &self.plugins
    }

    /// The plugin of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Plugin>> {
        self.plugins.iter().find(|plugin| plugin.name() == name)
    }

    /// Adds a plugin; answers with the kinds that others serve already.
    pub fn add(&mut self, plugin: Arc<Plugin>) -> Vec<(String, Arc<Plugin>)> {
        let mut shadowed = Vec::new();
        for kind in plugin.kinds() {
            match self.kinds.get(kind) {
                Some(first) => shadowed.push((kind.clone(), Arc::clone(first))),
                None => drop(self.kinds.insert(kind.clone(), Arc::clone(&plugin))),
            }
        }
        self.plugins.push(plugin);
        shadowed
    }
}

/// Loads every plugin of a folder, for the tenant `default`. Takes up to seconds a plugin: not for async code.
///
/// # Errors
/// The folder itself cannot be used. What is wrong with single files is in the reports.
pub fn load(host: &Host, folder: &Path) -> Result<(Registry, Vec<Report>), FolderError> {
    let root = open(folder)?;
    let (mut registry, mut reports) = (Registry::default(), Vec::new());
    load_into(host, &root, folder, &mut registry, &mut reports)?;
    for (name, path) in entries(folder)?.into_iter().filter(|(_, path)| is_folder(path)) {
        if name == "default" {
            load_into(host, &root, &path, &mut registry, &mut reports)?;
        } else {
            reports.push(Report { path, problem: Problem::TenantUnknown(name) });
        }
    }
    Ok((registry, reports))
}

/// Loads one plugin and its manifest.
pub(super) fn load_file(host: &Host, file: &Path) -> Result<Plugin, LoadError> {
    let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let manifest = manifest(&file.with_extension("toml"))?;
    let bytes = read(file, PLUGIN_BYTES_MAX)?;
    host.compile(&name, &bytes, manifest).map_err(|error| LoadError::Plugin { path: file.to_owned(), error })
}

fn open(folder: &Path) -> Result<PathBuf, FolderError> {
    let unreadable = |source| FolderError::Unreadable { path: folder.to_owned(), source };
    match fs::metadata(folder) {
        Ok(found) if !found.is_dir() => Err(FolderError::NotAFolder(folder.to_owned())),
        Ok(_) => folder.canonicalize().map_err(unreadable),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FolderError::Missing(folder.to_owned())),
        Err(error) => Err(unreadable(error)),
    }
}

fn load_into(
    host: &Host,
    root: &Path,
    folder: &Path,
    registry: &mut Registry,
    reports: &mut Vec<Report>,
) -> Result<(), FolderError> {
    for (name, path) in entries(folder)? {
        if let Some(stem) = name.strip_suffix(".toml") {
            let beside = folder.join(format!("{stem}.wasm"));
            if fs::symlink_metadata(&beside).is_err() {
                reports.push(Report { path, problem: Problem::ManifestAlone });
            }
            continue;
        }
        if !name.ends_with(".wasm") {
            continue;
        }
        let loaded = within(root, &path)
            .and_then(|()| within(root, &path.with_extension("toml")))
            .and_then(|()| load_file(host, &path));
        match loaded {
            Err(error) => reports.push(Report { path, problem: Problem::Broken(error) }),
            Ok(plugin) => {
                for (kind, first) in registry.add(Arc::new(plugin)) {
                    let by = first.name().to_owned();
                    reports.push(Report { path: path.clone(), problem: Problem::Shadowed { kind, by } });
                }
            }
        }
    }
    Ok(())
}

/// Names and paths, by name; names that are not UTF-8 as far as they are.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, FolderError> {
    let unreadable = |source| FolderError::Unreadable { path: folder.to_owned(), source };
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entries.len() == ENTRIES_MAX {
            return Err(FolderError::TooMany(folder.to_owned()));
        }
        entries.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    entries.sort();
    Ok(entries)
}

fn is_folder(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_dir())
}

/// A link may point within the folder, not out of it. What does not exist is somebody else's complaint.
fn within(root: &Path, path: &Path) -> Result<(), LoadError> {
    match path.canonicalize() {
        Ok(real) if !real.starts_with(root) => {
            Err(unreadable(path, "it is a link that leaves the plugin folder; copy the file here", None))
        }
        _ => Ok(()),
    }
}

fn manifest(path: &Path) -> Result<Manifest, LoadError> {
    if fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(Manifest::default());
    }
    let bytes = read(path, MANIFEST_BYTES_MAX)?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable(path, "it is not UTF-8 text", None))?;
    Manifest::parse(&text).map_err(|error| LoadError::Manifest { path: path.to_owned(), error })
}

/// Reads a regular file of at most so many bytes. Looks before it opens: opening a pipe would wait for its writer.
fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, LoadError> {
    let failed = |source: io::Error| {
        let message = match source.kind() {
            io::ErrorKind::NotFound => "it does not exist".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied; make it readable for the runner".to_owned(),
            _ => source.to_string(),
        };
        unreadable(path, &message, Some(source))
    };
    let found = fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        let what = if found.is_dir() { "it is a folder" } else { "it is a pipe, socket or device" };
        return Err(unreadable(path, &format!("{what}; put a file here"), None));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there is more.
    fs::File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(unreadable(path, &format!("it has {} bytes, at most {bytes_max} are read", found.len()), None));
    }
    Ok(bytes)
}

fn unreadable(path: &Path, message: &str, source: Option<io::Error>) -> LoadError {
    LoadError::Unreadable { path: path.to_owned(), message: message.to_owned(), source }
}
