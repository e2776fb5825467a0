//! The plugins of the node: what is loaded, what is wrong, and what follows for jobs of their kinds.

use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use runner_store::job::Millis;
use serde::{Deserialize, Serialize};

use super::App;
use super::error::Problem;
use super::new_job::KindDefaults;
use super::params::Params;
use crate::merging::Merger;
use crate::middleware;
use crate::operator::Operator;
use crate::wasm::folder::{Registry, Report};
use crate::wasm::{Description, Host, Plugin};

/// The plugins that a node has loaded, or none where no node runs.
#[derive(Debug, Clone, Default)]
pub struct Plugins(Option<Arc<Loaded>>);

#[derive(Debug)]
struct Loaded {
    registry: Arc<Registry>,
    reports: Vec<ReportShown>,
    operator: Arc<Operator>,
    /// None: nothing here runs them.
    merger: Option<Merger>,
}

/// Why jobs of a kind are not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// Nothing does what they ask for.
    #[error("no plugin provides kind {0}")]
    NoPlugin(String),
    /// A middleware is configured and not there.
    #[error(transparent)]
    NoMiddleware(#[from] middleware::Missing),
}

/// What holds for jobs of a kind that say nothing themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Attempts.
    pub max_attempts: Option<u32>,
    /// Wall clock of a run.
    pub timeout: Option<Millis>,
}

/// A plugin as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as `Description` documents")]
pub struct PluginShown {
    pub name: String,
    pub digest: String,
    pub flavour: String,
    pub size_bytes: u64,
    pub compile_ms: u64,
    pub kinds: Vec<String>,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// The interfaces of the contract among its exports.
    pub offers: Vec<String>,
    /// Kinds that its runs may enqueue.
    pub may_enqueue: Vec<String>,
    /// Runs of one instance, if instances are kept.
    pub reuse: Option<u32>,
    /// What is wrong with it although it runs.
    pub warnings: Vec<String>,
}

/// Something that is wrong with one file of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportShown {
    /// The file.
    pub path: String,
    /// What is wrong, and how to mend it.
    pub problem: String,
}

/// All plugins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginsShown {
    /// Those that are loaded, by file name.
    pub plugins: Vec<PluginShown>,
    /// What is wrong with the others, or shadowed.
    pub reports: Vec<ReportShown>,
}

impl Plugins {
    /// Those of a node.
    #[must_use]
    pub fn of_node(registry: Arc<Registry>, reports: &[Report]) -> Self {
        let reports = reports.iter().map(ReportShown::from).collect();
        let operator = Arc::default();
        Self(Some(Arc::new(Loaded { registry, reports, operator, merger: None })))
    }

    /// Says what runs them, and by whose configuration.
    #[must_use]
    pub fn run_by(self, host: Arc<Host>, operator: Arc<Operator>) -> Self {
        let run_by = |loaded: Arc<Loaded>| {
            let (registry, reports) = (Arc::clone(&loaded.registry), loaded.reports.clone());
            let merger = Some(Merger { host, plugins: Arc::clone(&registry) });
            Arc::new(Loaded { registry, reports, operator, merger })
        };
        Self(self.0.map(run_by))
    }

    /// Merges args, where a node runs here.
    #[must_use]
    pub fn merger(&self) -> Option<&Merger> {
        self.0.as_ref()?.merger.as_ref()
    }

    /// Why jobs of this kind are not run, where a node runs here.
    #[must_use]
    pub fn unserved(&self, kind: &str) -> Option<Unserved> {
        let loaded = self.0.as_ref()?;
        if loaded.registry.get(kind).is_none() {
            return Some(Unserved::NoPlugin(kind.to_owned()));
        }
        middleware::around(&loaded.operator, &loaded.registry, "default", kind).err().map(Unserved::from)
    }

    /// What holds for jobs of this kind.
    #[must_use]
    pub fn settings(&self, kind: &str) -> Settings {
        let Some(plugin) = self.of_kind(kind) else { return Settings::default() };
        Settings { max_attempts: plugin.retry(kind).max_attempts, timeout: Some(plugin.limits(kind).timeout) }
    }

    /// Where jobs of this kind go unless they say otherwise.
    #[must_use]
    pub fn defaults(&self, kind: &str) -> KindDefaults {
        let Some(loaded) = &self.0 else { return KindDefaults::default() };
        let defaults = KindDefaults::of(&loaded.registry, kind);
        KindDefaults { merges: defaults.merges && loaded.merger.is_some(), ..defaults }
    }

    /// As the API shows them.
    #[must_use]
    pub fn shown(&self) -> PluginsShown {
        let Some(loaded) = &self.0 else { return PluginsShown { plugins: Vec::new(), reports: Vec::new() } };
        let plugins = loaded.registry.plugins().iter().map(|plugin| PluginShown::from(plugin.as_ref())).collect();
        PluginsShown { plugins, reports: loaded.reports.clone() }
    }

    fn of_kind(&self, kind: &str) -> Option<&Arc<Plugin>> {
        self.0.as_ref()?.registry.get(kind)
    }
}

impl Unserved {
    /// Stable; for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoPlugin(_) => "no_plugin",
            Self::NoMiddleware(_) => "no_middleware",
        }
    }

    /// What it is and how to mend it.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::NoPlugin(_) => format!("{self}; put one into the plugins' folder"),
            Self::NoMiddleware(_) => {
                format!("{self}; put it into the plugins' folder, or take the layer out of the configuration")
            }
        }
    }
}

impl From<&Report> for ReportShown {
    fn from(report: &Report) -> Self {
        Self { path: Path::display(&report.path).to_string(), problem: report.problem.to_string() }
    }
}

impl From<&Plugin> for PluginShown {
    fn from(plugin: &Plugin) -> Self {
        let Description {
            name,
            flavour,
            digest,
            size_bytes,
            compile_time,
            imports,
            exports,
            offers,
            kinds,
            reuse,
            warnings,
        } = plugin.describe().clone();
        Self {
            name,
            digest: format!("sha256:{digest}"),
            flavour: flavour.as_str().to_owned(),
            size_bytes,
            compile_ms: u64::try_from(compile_time.as_millis()).unwrap_or(u64::MAX),
            kinds,
            imports,
            exports,
            offers: offers.into_iter().map(str::to_owned).collect(),
            may_enqueue: plugin.grants().asked().enqueue.clone(),
            reuse,
            warnings,
        }
    }
}

/// `GET /v1/plugins`.
pub async fn list(State(app): State<Arc<App>>, params: Params) -> Result<Json<PluginsShown>, Problem> {
    params.finish()?;
    Ok(Json(app.plugins.shown()))
}
