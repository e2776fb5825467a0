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
use crate::wasm::folder::{Registry, Report};
use crate::wasm::{Description, Plugin};

/// The plugins that a node has loaded, or none where no node runs.
#[derive(Debug, Clone, Default)]
pub struct Plugins(Option<Arc<Loaded>>);

#[derive(Debug)]
struct Loaded {
    registry: Arc<Registry>,
    reports: Vec<ReportShown>,
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
        Self(Some(Arc::new(Loaded { registry, reports })))
    }

    /// Whether a node runs here and has no plugin for this kind.
    #[must_use]
    pub fn lacks(&self, kind: &str) -> bool {
        self.0.as_ref().is_some_and(|loaded| loaded.registry.get(kind).is_none())
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
        self.0.as_ref().map_or_else(KindDefaults::default, |loaded| KindDefaults::of(&loaded.registry, kind))
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

impl From<&Report> for ReportShown {
    fn from(report: &Report) -> Self {
        Self { path: Path::display(&report.path).to_string(), problem: report.problem.to_string() }
    }
}

impl From<&Plugin> for PluginShown {
    fn from(plugin: &Plugin) -> Self {
        let Description { name, flavour, digest, size_bytes, compile_time, imports, exports, offers, kinds } =
            plugin.describe().clone();
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
        }
    }
}

/// `GET /v1/plugins`.
pub async fn list(State(app): State<Arc<App>>, params: Params) -> Result<Json<PluginsShown>, Problem> {
    params.finish()?;
    Ok(Json(app.plugins.shown()))
}
