//! What a folder is a project of: its language, and the plugin's name. Only names of files are looked at, and the name of a
//! package in Rust; nothing is run.
//!
//! A manifest and a source of one name are the plugin. Any other file may lie beside them: tools have files that end in
//! `.toml`, too (`pyproject.toml`), and scripts of other languages help to build and to test.

use std::fs;
use std::path::Path;

use super::Project;
use crate::cli::exit::Failure;
use crate::cli::plugin::new::Lang;
use crate::cli::plugin::project;

/// How sources end, where a project is told by them. What TypeScript becomes may lie beside it.
const SOURCES: [(&str, Lang); 4] = [(".ts", Lang::Ts), (".js", Lang::Js), (".py", Lang::Python), (".c", Lang::C)];

/// The names of a folder's files, in order.
struct Names(Vec<String>);

/// The project in a folder.
pub(super) fn project(folder: &Path) -> Result<Project, Failure> {
    let folder = folder.canonicalize().map_err(|error| Failure::file(folder, &error))?;
    let mut names: Vec<String> = fs::read_dir(&folder)
        .map_err(|error| Failure::file(&folder, &error))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let names = Names(names);
    let called = folder.file_name().and_then(|name| name.to_str()).unwrap_or("plugin");
    let found = if names.has("Cargo.toml") {
        Some((Lang::Rust, package(&folder).or_else(|| names.manifest(called)).unwrap_or_else(|| called.to_owned())))
    } else if names.has("go.mod") {
        Some((Lang::Go, names.manifest(called).unwrap_or_else(|| called.to_owned())))
    } else {
        names.with_manifest().or_else(|| names.without_manifest(called))
    };
    let Some((lang, name)) = found else {
        let why = "there is no Cargo.toml, go.mod, .c, .js, .ts or .py file; `runner plugin new NAME --lang …` makes a project";
        return Err(Failure::usage(format!("`{}` is no project of a plugin: {why}", folder.display())));
    };
    Ok(Project { folder, lang, name })
}

impl Names {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|found| found == name)
    }

    fn stems(&self, suffix: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(move |name| name.strip_suffix(suffix)).filter(|stem| !stem.is_empty())
    }

    /// The manifest where no source has its name: the one called as the folder is, or else the first.
    fn manifest(&self, called: &str) -> Option<String> {
        let is_manifest = |stem: &&str| *stem != "Cargo" && !stem.starts_with('.');
        let mut all = self.stems(".toml").filter(is_manifest);
        if self.has(&format!("{called}.toml")) { Some(called.to_owned()) } else { all.next().map(str::to_owned) }
    }

    fn with_manifest(&self) -> Option<(Lang, String)> {
        self.stems(".toml").find_map(|name| {
            let is_source = |(suffix, lang): &(&str, Lang)| {
                let stem = if *lang == Lang::Python { project::module(name) } else { name.to_owned() };
                self.has(&format!("{stem}{suffix}"))
            };
            SOURCES.into_iter().find(is_source).map(|(_, lang)| (lang, name.to_owned()))
        })
    }

    /// A source that is no test: the one called as the folder is, or else the first.
    fn without_manifest(&self, called: &str) -> Option<(Lang, String)> {
        let is_test = |stem: &str| stem.starts_with("test_") || stem.ends_with("_test") || stem.ends_with(".test");
        SOURCES.into_iter().find_map(|(suffix, lang)| {
            let mut own = self.stems(suffix).filter(|stem| !is_test(stem));
            let name = if self.has(&format!("{called}{suffix}")) { called } else { own.next()? };
            Some((lang, name.to_owned()))
        })
    }
}

/// What cargo calls the package, and so the file that it makes.
fn package(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("Cargo.toml")).ok()?;
    let manifest: toml::Table = text.parse().ok()?;
    Some(manifest.get("package")?.get("name")?.as_str()?.to_owned())
}
