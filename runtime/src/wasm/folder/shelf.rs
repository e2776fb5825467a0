//! What is known of the files of a plugin folder: which version of each was read, what serves, what is wrong, and what
//! waits to be compiled.
//!
//! [`Shelf::look`] reads what has changed and loads what was compiled before. [`Shelf::next`] says what is compiled next,
//! [`make`] does it, which takes up to minutes and needs no shelf, and [`Shelf::put`] takes the result. [`Shelf::serve`]
//! answers who serves what now. A version that is broken never takes the place of one that serves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use runner_store::job::Millis;

use super::dir::{Entry, Folder, Stamp};
use super::registry::{Registry, TENANT_DEFAULT};
use super::turns::Turns;
use super::{FolderError, LoadError, MANIFEST_BYTES_MAX, Problem, Report, manifest};
use crate::externals::Externals;
use crate::wasm::compile::Stop;
use crate::wasm::manifest::Manifest;
use crate::wasm::plugin::{self, Checked, PLUGIN_BYTES_MAX, Plugin, PluginError};
use crate::wasm::script::{ENGINE_FILE, SCRIPT_BYTES_MAX, SCRIPT_SUFFIX, Script};
use crate::wasm::spawn::Host;

/// Where a plugin's file is, and so whose it is. Their order is the order in which they serve.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    tenant: String,
    /// The folder in the folder; none: the folder itself.
    sub: Option<String>,
    file: String,
}

/// How the file of compiled code ends.
pub(super) const WASM_SUFFIX: &str = ".wasm";
/// Plugins of one folder: whoever may write there cannot make the runner look at more.
pub(super) const PLUGINS_OF_FOLDER_MAX: usize = 1_000;

/// How closely is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// At files that may have changed.
    AtChanges,
    /// At all, and what went wrong is tried again.
    AtAll,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Shelf {
    files: BTreeMap<Place, Known>,
    /// What is wrong with what is no plugin's file.
    loose: Vec<Arc<Report>>,
    turns: Turns<Place>,
    /// And as which reading of its file that began.
    compiling: Option<(Place, u64)>,
    /// Kinds that none of them serves.
    externals: Arc<Externals>,
}

/// What is known of one file.
#[derive(Default)]
struct Known {
    /// How often it was read and found to be another than before.
    readings: u64,
    path: PathBuf,
    stamps: Option<Stamps>,
    /// What was read last.
    version: Option<Version>,
    plugin: Option<Arc<Plugin>>,
    problem: Option<Arc<LoadError>>,
}

/// What was there at one look.
#[derive(Default)]
struct Seen {
    places: BTreeSet<Place>,
    loose: Vec<Arc<Report>>,
}

/// Of a file, of its manifest, and of the engine of a script.
type Stamps = [Option<Stamp>; 3];

/// Digests of a file and its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    /// Of what is compiled.
    code: String,
    /// Of a script.
    script: Option<String>,
    manifest: String,
}

/// A file and its manifest, as they were read.
struct Read {
    stamps: Stamps,
    version: Version,
    /// What is compiled.
    bytes: Vec<u8>,
    /// And what that runs, if it is an engine.
    script: Option<Script>,
    manifest: Result<Manifest, LoadError>,
}

/// What came of compiling.
pub(crate) struct Made {
    read: Option<(Stamps, Version)>,
    plugin: Result<Plugin, LoadError>,
    took: Millis,
}

impl Place {
    pub(crate) fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The plugin's name.
    pub(crate) fn name(&self) -> &str {
        let stem = self.file.strip_suffix(WASM_SUFFIX).or_else(|| self.file.strip_suffix(SCRIPT_SUFFIX));
        stem.unwrap_or(&self.file)
    }

    fn is_script(&self) -> bool {
        self.file.ends_with(SCRIPT_SUFFIX)
    }

    fn manifest(&self) -> String {
        format!("{}.toml", self.name())
    }

    /// The tenant and the plugin's name.
    fn whose(&self) -> (&str, &str) {
        (&self.tenant, self.name())
    }

    fn path(&self, folder: &Path) -> PathBuf {
        self.sub.as_ref().map_or_else(|| folder.to_owned(), |sub| folder.join(sub)).join(&self.file)
    }
}

impl Shelf {
    /// Looks at a folder. Whether it should be looked at again soon, as somebody is writing in it.
    ///
    /// # Errors
    /// The folder cannot be used; then all stays as it is.
    pub(crate) fn look(
        &mut self,
        host: &Host,
        folder: &Path,
        is_tenant: &dyn Fn(&str) -> bool,
        how: Look,
    ) -> Result<bool, FolderError> {
        let root = Folder::open(folder)?;
        self.externals = Arc::clone(&host.operator().externals);
        let entries = root.entries()?;
        let mut seen = Seen::default();
        self.look_into(host, (&root, &root), &entries, (TENANT_DEFAULT, None), how, &mut seen);
        for Entry { name, .. } in entries.iter().filter(|entry| may_be_a_tenants(entry)) {
            let report = |problem| Arc::new(Report { path: folder.join(name), problem });
            if name != TENANT_DEFAULT && !is_tenant(name) {
                seen.loose.push(report(Problem::TenantUnknown(name.clone())));
                continue;
            }
            let opened = root.sub(name).map_err(|error| Problem::Broken(Arc::new(error)));
            match opened.and_then(|sub| Ok((sub.entries().map_err(Problem::Folder)?, sub))) {
                Ok((entries, sub)) => {
                    self.look_into(host, (&root, &sub), &entries, (name, Some(name)), how, &mut seen);
                }
                Err(problem) => {
                    seen.loose.push(report(problem));
                    // It may be back in a moment, so what serves from it serves on.
                    seen.places.extend(self.files.keys().filter(|place| place.sub.as_deref() == Some(name)).cloned());
                }
            }
        }
        self.forget_all_but(&seen.places);
        self.loose = seen.loose;
        Ok(self.files.values().any(|file| matches!(file.problem.as_deref(), Some(LoadError::Changing { .. }))))
    }

    /// What is compiled now. There is one at a time: until it is put, there is no next.
    pub(crate) fn next(&mut self, now: Millis) -> Option<Place> {
        if self.compiling.is_none() {
            let next = self.turns.next(now)?;
            let reading = self.files.get(&next).map_or(0, |file| file.readings);
            self.compiling = Some((next.clone(), reading));
            return Some(next);
        }
        None
    }

    /// A plugin with the code that is to be compiled at a place: scripts in line share an engine, which was compiled for the first.
    pub(crate) fn same(&self, place: &Place) -> Option<Arc<Plugin>> {
        self.loaded(&self.files.get(place)?.version.as_ref()?.code)
    }

    /// When something may be compiled that has to wait for its tenant's share.
    pub(crate) fn next_at(&self, now: Millis) -> Option<Millis> {
        self.turns.next_at(now)
    }

    /// Until when a tenant compiles nothing, as it has used up its share; none: it may.
    pub(super) fn share_until(&self, tenant: &str, now: Millis) -> Option<Millis> {
        self.turns.waits_until(tenant, now)
    }

    /// Counts what somebody else has compiled for a tenant.
    pub(super) fn spend(&mut self, tenant: &str, now: Millis, took: Millis) {
        self.turns.spend(tenant, now, took);
    }

    /// Takes what came of compiling.
    pub(crate) fn put(&mut self, place: &Place, made: Made, now: Millis) {
        let reading = self.compiling.take().map(|(_, reading)| reading);
        self.turns.spend(&place.tenant, now, made.took);
        // It was removed in the meantime.
        let Some(file) = self.files.get_mut(place) else { return };
        // It was read anew in the meantime: that is loaded or in line, and what was compiled is in the cache.
        if reading.is_some_and(|reading| reading != file.readings) {
            return;
        }
        if let Some((stamps, version)) = made.read {
            file.stamps = Some(stamps);
            file.version = Some(version);
        }
        file.settle(made.plugin);
    }

    /// Who serves what now, and what is wrong.
    pub(crate) fn serve(&self) -> (Registry, Vec<Arc<Report>>) {
        let (mut registry, mut reports) = (Registry::beside(&self.externals), self.loose.clone());
        let mut names: BTreeMap<(&str, &str), &Path> = BTreeMap::new();
        for (place, file) in &self.files {
            let mut report = |problem| reports.push(Arc::new(Report { path: file.path.clone(), problem }));
            if let Some(error) = &file.problem {
                let error = Arc::clone(error);
                match &file.plugin {
                    None => report(Problem::Broken(error)),
                    Some(old) => report(Problem::Stale { error, serving: old.digest().to_owned() }),
                }
            }
            let Some(plugin) = &file.plugin else { continue };
            if let Some(first) = names.get(&(place.tenant(), place.name())) {
                report(Problem::NameTwice { first: (*first).to_owned() });
                continue;
            }
            names.insert((place.tenant(), place.name()), &file.path);
            for (kind, first) in registry.add(&place.tenant, Arc::clone(plugin)) {
                report(Problem::Shadowed { kind, by: first.name().to_owned() });
            }
            for kind in plugin.kinds().iter().filter(|kind| self.externals.get(kind).is_some()) {
                report(Problem::External { kind: kind.clone() });
            }
        }
        reports.sort_by(|a, b| a.path.cmp(&b.path));
        (registry, reports)
    }

    /// What waits to be compiled, with the time until which it has to, if it has to.
    pub(crate) fn waiting(&self, now: Millis) -> impl Iterator<Item = (&Place, Option<Millis>)> {
        self.turns.iter().map(move |(tenant, place)| (place, self.turns.waits_until(tenant, now)))
    }

    fn look_into(
        &mut self,
        host: &Host,
        (root, folder): (&Folder, &Folder),
        entries: &[Entry],
        (tenant, sub): (&str, Option<&String>),
        how: Look,
        seen: &mut Seen,
    ) {
        let path = |name: &str| folder.path().join(name);
        let mut plugins = 0;
        for Entry { name, is_text, .. } in entries {
            // Hidden files are what editors and copies leave while they write.
            if name.starts_with('.') {
                continue;
            }
            if let Some(stem) = name.strip_suffix(".toml") {
                let is_there = |suffix| {
                    let beside = format!("{stem}{suffix}");
                    entries.binary_search_by(|entry| entry.name.cmp(&beside)).is_ok()
                };
                if !is_there(WASM_SUFFIX) && !is_there(SCRIPT_SUFFIX) {
                    seen.loose.push(Arc::new(Report { path: path(name), problem: Problem::ManifestAlone }));
                }
                continue;
            }
            if !name.ends_with(WASM_SUFFIX) && !name.ends_with(SCRIPT_SUFFIX) {
                continue;
            }
            if !is_text {
                let problem = "it is not UTF-8 text".to_owned();
                let error = LoadError::Plugin { path: path(name), error: PluginError::Name { problem } };
                seen.loose.push(Arc::new(Report { path: path(name), problem: Problem::Broken(Arc::new(error)) }));
                continue;
            }
            if plugins == PLUGINS_OF_FOLDER_MAX {
                let problem = Problem::Folder(FolderError::TooMany(folder.path().to_owned()));
                seen.loose.push(Arc::new(Report { path: path(name), problem }));
                // What serves from this folder serves on, and no other tenant learns of it.
                let own = self.files.keys().filter(|place| place.sub.as_ref() == sub).cloned();
                seen.places.extend(own);
                return;
            }
            plugins += 1;
            let place = Place { tenant: tenant.to_owned(), sub: sub.cloned(), file: name.clone() };
            self.look_at(host, (root, folder), &place, how);
            seen.places.insert(place);
        }
    }

    fn look_at(&mut self, host: &Host, (root, folder): (&Folder, &Folder), place: &Place, how: Look) {
        let file = self.files.entry(place.clone()).or_default();
        file.path = folder.path().join(&place.file);
        let again = how == Look::AtAll || file.is_worth_a_retry();
        let stamps = stamps(root, folder, place);
        let unchanged = file.stamps.is_some() && file.stamps == stamps.as_ref().ok().copied();
        if unchanged && !again && file.stamps.as_ref().is_some_and(is_settled) {
            return;
        }
        match stamps.and_then(|_| read(root, folder, place)) {
            Err(error) => {
                (file.stamps, file.version) = (None, None);
                file.readings += 1;
                self.turns.remove(place);
                file.settle(Err(error));
            }
            Ok(read) => {
                file.stamps = Some(read.stamps);
                if file.version.as_ref() == Some(&read.version) && !(again && file.problem.is_some()) {
                    return;
                }
                file.version = Some(read.version.clone());
                file.readings += 1;
                self.take(host, place, read);
            }
        }
    }

    /// Loads what was read if that is quick, and else puts it in line to be compiled.
    fn take(&mut self, host: &Host, place: &Place, read: Read) {
        self.turns.remove(place);
        let Some(path) = self.files.get(place).map(|file| file.path.clone()) else { return };
        let quick = match read.manifest {
            Ok(manifest) => match self.loaded(&read.version.code) {
                Some(same) => Some(same.again(host, place.whose(), (&read.bytes, read.script), &manifest)),
                None => quick(host, place, (&read.bytes, read.script), &manifest),
            }
            .map(|plugin| plugin.map_err(|error| LoadError::Plugin { path, error })),
            Err(error) => Some(Err(error)),
        };
        match (quick, self.files.get_mut(place)) {
            (Some(plugin), Some(file)) => file.settle(plugin),
            _ => self.turns.push(&place.tenant, place.clone()),
        }
    }

    /// A plugin with this code, whoever's it is: code has no state, and every run has its own.
    fn loaded(&self, digest: &str) -> Option<Arc<Plugin>> {
        self.files
            .values()
            .filter_map(|file| file.plugin.as_ref())
            .find(|plugin| plugin.code_digest() == digest)
            .cloned()
    }

    fn forget_all_but(&mut self, seen: &BTreeSet<Place>) {
        let turns = &mut self.turns;
        self.files.retain(|place, _| {
            let stays = seen.contains(place);
            if !stays {
                turns.remove(place);
            }
            stays
        });
    }
}

impl Known {
    fn settle(&mut self, plugin: Result<Plugin, LoadError>) {
        match plugin {
            Ok(plugin) => {
                self.plugin = Some(Arc::new(plugin));
                self.problem = None;
            }
            Err(error) => self.problem = Some(Arc::new(error)),
        }
    }

    /// Whether what went wrong may go well without a change of the file.
    fn is_worth_a_retry(&self) -> bool {
        let failed = |error: &PluginError| matches!(error, PluginError::CompilerFailed { .. });
        matches!(self.problem.as_deref(), Some(LoadError::Plugin { error, .. }) if failed(error))
    }
}

impl Made {
    /// What comes of a panic, which is a bug.
    pub(crate) fn panicked(folder: &Path, place: &Place) -> Self {
        let error = PluginError::CompilerFailed { message: "the runner failed, which is a bug".to_owned() };
        let plugin = Err(LoadError::Plugin { path: place.path(folder), error });
        Self { read: None, plugin, took: Millis(0) }
    }
}

/// Compiles the plugin at a place, as it is now, unless `same` has its code already. Takes up to minutes.
pub(crate) fn make(host: &Host, folder: &Path, place: &Place, same: Option<&Plugin>, stop: &Stop) -> Made {
    let begun = Instant::now();
    let mut found = None;
    let plugin = read_again(folder, place).and_then(|read| {
        found = Some((read.stamps, read.version));
        let broken = |error| LoadError::Plugin { path: place.path(folder), error };
        let manifest = read.manifest?;
        let code = found.as_ref().map(|(_, version)| version.code.as_str());
        if let Some(same) = same.filter(|same| Some(same.code_digest()) == code) {
            return same.again(host, place.whose(), (&read.bytes, read.script), &manifest).map_err(broken);
        }
        let checked = Checked::new(place.whose(), &read.bytes, read.script, &manifest).map_err(broken)?;
        match checked.cached(host, &manifest) {
            Some(plugin) => plugin.map_err(broken),
            None => checked.compile(host, &manifest, stop).map_err(broken),
        }
    });
    let took = Millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
    Made { read: found, plugin, took }
}

fn read_again(folder: &Path, place: &Place) -> Result<Read, LoadError> {
    let root = Folder::open(folder).map_err(|error| super::dir::unreadable(folder, &error.to_string(), None))?;
    match &place.sub {
        Some(sub) => read(&root, &root.sub(sub)?, place),
        None => read(&root, &root, place),
    }
}

/// The plugin or what is wrong with it, if that can be told without compiling.
fn quick(
    host: &Host,
    place: &Place,
    (bytes, script): (&[u8], Option<Script>),
    manifest: &Manifest,
) -> Option<Result<Plugin, PluginError>> {
    let checked = match Checked::new(place.whose(), bytes, script, manifest) {
        Ok(checked) => checked,
        Err(error) => return Some(Err(error)),
    };
    checked.cached(host, manifest).or_else(|| checked.gate().err().map(Err))
}

/// Hidden folders are nobody's, and one that is named as a plugin is a mistake, which is reported as that.
fn may_be_a_tenants(entry: &Entry) -> bool {
    entry.is_folder && may_be_a_folder(&entry.name)
}

/// Whether a tenant's folder may be named so.
pub(super) fn may_be_a_folder(name: &str) -> bool {
    let is_named_as_a_plugin = [WASM_SUFFIX, SCRIPT_SUFFIX, ".toml"].iter().any(|suffix| name.ends_with(suffix));
    !name.starts_with('.') && !is_named_as_a_plugin
}

fn stamps(root: &Folder, folder: &Folder, place: &Place) -> Result<Stamps, LoadError> {
    let engine = if place.is_script() { root.stamp(ENGINE_FILE)? } else { None };
    Ok([folder.stamp(&place.file)?, folder.stamp(&place.manifest())?, engine])
}

fn is_settled(stamps: &Stamps) -> bool {
    stamps.iter().flatten().all(Stamp::is_settled)
}

fn read(root: &Folder, folder: &Folder, place: &Place) -> Result<Read, LoadError> {
    let beside = place.manifest();
    let text = folder.read(&beside, MANIFEST_BYTES_MAX)?;
    let gone = || super::dir::unreadable(&folder.path().join(&place.file), "it does not exist", None);
    let bytes_max = if place.is_script() { SCRIPT_BYTES_MAX } else { PLUGIN_BYTES_MAX };
    let (bytes, stamp) = folder.read(&place.file, bytes_max)?.ok_or_else(gone)?;
    let (text, text_stamp) = text.map_or_else(|| (Vec::new(), None), |(text, stamp)| (text, Some(stamp)));
    let (bytes, script, engine_stamp) = if place.is_script() {
        let broken = |error| LoadError::Plugin { path: folder.path().join(&place.file), error };
        let script = Script::new(&place.file, bytes).map_err(broken)?;
        let (engine, stamp) = root.read(ENGINE_FILE, PLUGIN_BYTES_MAX)?.ok_or_else(|| broken(PluginError::NoEngine))?;
        (engine, Some(script), Some(stamp))
    } else {
        (bytes, None, None)
    };
    let digest = script.as_ref().map(Script::digest);
    let version = Version { code: plugin::digest(&bytes), script: digest, manifest: plugin::digest(&text) };
    let manifest = manifest(&folder.path().join(beside), text);
    Ok(Read { stamps: [Some(stamp), text_stamp, engine_stamp], version, bytes, script, manifest })
}
