//! The plugins of the node: what is loaded, what is wrong, and what follows for jobs of their kinds.

pub mod one;
pub(crate) mod upload;

use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use runner_store::job::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::access::Caller;
use super::error::Problem;
use super::new_job::KindDefaults;
use super::params::Params;
use super::tenant::{RUNNER_TENANT, Whose};
use super::time::rfc3339;
use crate::merging::Merger;
use crate::middleware;
use crate::operator::Operator;
use crate::subscriptions;
use crate::wasm::catalog::{Loading, LoadingState};
use crate::wasm::folder::deploy::Deploy;
use crate::wasm::folder::{Registry, Report, TENANT_DEFAULT};
use crate::wasm::loader::{NotReloaded, Reload};
use crate::wasm::manifest::On;
use crate::wasm::{Catalog, Description, Host, Manifest, Plugin};

/// The plugins of a node, or none where no node runs.
#[derive(Debug, Clone, Default)]
pub struct Plugins {
    catalog: Option<Arc<Catalog>>,
    reload: Option<Reload>,
    deploy: Option<Deploy>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Plugin")]
#[expect(missing_docs, reason = "as `Description` documents")]
pub struct PluginShown {
    pub tenant: String,
    pub name: String,
    pub digest: String,
    pub flavour: String,
    pub size_bytes: u64,
    pub compile_ms: u64,
    pub from_cache: bool,
    pub kinds: Vec<String>,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// The interfaces of the contract among its exports.
    pub offers: Vec<String>,
    /// Kinds that its runs may enqueue.
    pub may_enqueue: Vec<String>,
    /// What its kinds listen to.
    pub on: Vec<OnShown>,
    /// Runs of one instance, if instances are kept.
    pub reuse: Option<u32>,
    /// What is wrong with it although it runs.
    pub warnings: Vec<String>,
}

/// A kind that listens to an event of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "On")]
pub struct OnShown {
    /// The event.
    pub event: String,
    /// Of which kinds: names, or patterns.
    pub of: Vec<String>,
    /// The kind that is enqueued for each.
    pub kind: String,
}

/// Something that is wrong with one file of the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Report")]
pub struct ReportShown {
    /// The file.
    pub path: String,
    /// What is wrong, and how to mend it.
    pub problem: String,
}

/// A file that is not loaded yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Loading")]
pub struct LoadingShown {
    /// Whose it is.
    pub tenant: String,
    /// The plugin's name.
    pub name: String,
    /// `queued`, `compiling`, or `waiting` until its tenant may compile again.
    pub state: String,
    /// Since when it is compiled.
    pub since: Option<String>,
    /// Until when it waits.
    pub until: Option<String>,
}

/// All plugins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Plugins")]
pub struct PluginsShown {
    /// Those that are loaded, by tenant and file name.
    pub plugins: Vec<PluginShown>,
    /// What is wrong with the others, or shadowed.
    pub reports: Vec<ReportShown>,
    /// What is not loaded yet, in the order in which it will be.
    pub loading: Vec<LoadingShown>,
}

impl Plugins {
    /// Those of a node.
    #[must_use]
    pub fn of_node(catalog: Arc<Catalog>) -> Self {
        Self { catalog: Some(catalog), ..Self::default() }
    }

    /// The same, with a way to look at their folder again.
    #[must_use]
    pub fn with_reload(self, reload: Reload) -> Self {
        Self { reload: Some(reload), ..self }
    }

    /// The same, with a way to put others into it.
    #[must_use]
    pub fn with_deploy(self, deploy: Deploy) -> Self {
        Self { deploy: Some(deploy), ..self }
    }

    /// Says what runs them, and by whose configuration.
    #[must_use]
    pub fn run_by(self, host: Arc<Host>, operator: Arc<Operator>) -> Self {
        let merger = self.catalog.as_ref().map(|catalog| Merger { host, plugins: Arc::clone(catalog) });
        Self { operator, merger, ..self }
    }

    /// By whose configuration they run.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Merges args, where a node runs here.
    #[must_use]
    pub fn merger(&self) -> Option<&Merger> {
        self.merger.as_ref()
    }

    /// Why jobs of this kind of a tenant are not run, where a node runs here.
    #[must_use]
    pub fn unserved(&self, tenant: &str, kind: &str) -> Option<Unserved> {
        let catalog = self.catalog.as_ref()?;
        if catalog.external(kind).is_some() {
            return None;
        }
        if !catalog.serves(tenant, kind) {
            return Some(Unserved::NoPlugin(kind.to_owned()));
        }
        middleware::around(&self.operator, catalog, tenant, kind).err().map(Unserved::from)
    }

    /// What holds for a kind, if external workers take its jobs.
    #[must_use]
    pub fn external(&self, kind: &str) -> Option<Arc<Manifest>> {
        self.catalog.as_ref()?.external(kind)
    }

    /// What holds for jobs of this kind of a tenant.
    #[must_use]
    pub fn settings(&self, tenant: &str, kind: &str) -> Settings {
        if let Some(external) = self.external(kind) {
            return Settings { max_attempts: external.retry(kind).max_attempts, timeout: None };
        }
        let Some(plugin) = self.of_kind(tenant, kind) else { return Settings::default() };
        Settings { max_attempts: plugin.retry(kind).max_attempts, timeout: Some(plugin.limits(kind).timeout) }
    }

    /// Where jobs of this kind of a tenant go unless they say otherwise.
    #[must_use]
    pub fn defaults(&self, tenant: &str, kind: &str) -> KindDefaults {
        let Some(catalog) = &self.catalog else { return KindDefaults::default() };
        let defaults = KindDefaults::of(catalog, tenant, kind);
        KindDefaults { merges: defaults.merges && self.merger.is_some(), ..defaults }
    }

    /// Asks what is loaded.
    pub fn with_registry<T>(&self, ask: impl FnOnce(&Registry) -> T) -> T {
        match &self.catalog {
            Some(catalog) => ask(&catalog.now().registry),
            None => ask(&Registry::default()),
        }
    }

    /// As the API shows them.
    #[must_use]
    pub fn shown(&self) -> PluginsShown {
        let now = self.catalog.as_ref().map(|catalog| catalog.now()).unwrap_or_default();
        let plugins = now.registry.plugins().map(|(tenant, plugin)| PluginShown::new(tenant, plugin));
        PluginsShown {
            plugins: plugins.collect(),
            reports: now.reports.iter().map(|report| ReportShown::from(report.as_ref())).collect(),
            loading: now.loading.iter().map(LoadingShown::from).collect(),
        }
    }

    /// Whether this is the folder that is followed.
    fn is_the_folder(&self, path: Option<&Path>) -> bool {
        self.deploy.as_ref().is_some_and(|deploy| Some(deploy.path()) == path)
    }

    fn of_kind(&self, tenant: &str, kind: &str) -> Option<Arc<Plugin>> {
        self.catalog.as_ref()?.get(tenant, kind)
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

impl From<&On> for OnShown {
    fn from(On { event, of, kind }: &On) -> Self {
        Self { event: event.as_str().to_owned(), of: of.clone(), kind: kind.clone() }
    }
}

impl From<&Report> for ReportShown {
    fn from(report: &Report) -> Self {
        Self { path: Path::display(&report.path).to_string(), problem: report.problem.to_string() }
    }
}

impl PluginShown {
    /// A tenant's plugin.
    #[must_use]
    pub fn new(tenant: &str, plugin: &Plugin) -> Self {
        let Description {
            name,
            flavour,
            is_script,
            digest,
            size_bytes,
            compile_time,
            from_cache,
            imports,
            exports,
            offers,
            kinds,
            reuse,
            warnings,
        } = plugin.describe().clone();
        Self {
            tenant: tenant.to_owned(),
            name,
            digest: format!("sha256:{digest}"),
            flavour: if is_script { "script" } else { flavour.as_str() }.to_owned(),
            size_bytes,
            compile_ms: u64::try_from(compile_time.as_millis()).unwrap_or(u64::MAX),
            from_cache,
            kinds,
            imports,
            exports,
            offers: offers.into_iter().map(str::to_owned).collect(),
            may_enqueue: plugin.grants().asked().enqueue.clone(),
            on: plugin.manifest().on.iter().map(OnShown::from).collect(),
            reuse,
            warnings,
        }
    }
}

impl From<&Loading> for LoadingShown {
    fn from(Loading { tenant, name, state }: &Loading) -> Self {
        let (state, since, until) = match *state {
            LoadingState::Queued => ("queued", None, None),
            LoadingState::Waiting { until } => ("waiting", None, Some(rfc3339(until))),
            LoadingState::Compiling { since } => ("compiling", Some(rfc3339(since)), None),
        };
        Self { tenant: tenant.clone(), name: name.clone(), state: state.to_owned(), since, until }
    }
}

/// `GET /v1/plugins`.
pub async fn list(State(app): State<Arc<App>>, asked: Asked, params: Params) -> Result<Json<PluginsShown>, Problem> {
    params.finish()?;
    Ok(Json(asked.of(app.plugins.shown())))
}

/// Whose plugins are asked for: those of all tenants, for whoever owns the store and names none; else one tenant's.
pub struct Asked(Option<(Arc<str>, Vec<Arc<str>>)>);

impl FromRequestParts<Arc<App>> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Whose(tenant) = Whose::from_request_parts(parts, app).await?;
        let named = parts.headers.contains_key(RUNNER_TENANT);
        let one = named || parts.extensions.get::<Caller>().is_some_and(|caller| caller.tenant.is_some());
        Ok(Self(one.then(|| (app.store.tenant_name(tenant), app.store.tenant_names()))))
    }
}

impl Asked {
    pub(super) fn of(&self, mut shown: PluginsShown) -> PluginsShown {
        let Some((tenant, all)) = &self.0 else { return shown };
        shown.plugins.retain(|plugin| plugin.tenant == **tenant);
        shown.loading.retain(|loading| loading.tenant == **tenant);
        // A tenant's files are in the folder of its name; what is in no tenant's folder is the default's.
        shown.reports.retain(|report| {
            let folder = Path::new(&report.path).parent().and_then(Path::file_name).and_then(|name| name.to_str());
            let of = folder.filter(|folder| all.iter().any(|name| name.as_ref() == *folder));
            of.unwrap_or(TENANT_DEFAULT) == tenant.as_ref()
        });
        shown
    }
}

/// `POST /v1/plugins/reload`: looks at the folder now. What had been compiled before is loaded when it answers; 202 where
/// something is left to be compiled.
pub async fn reload(
    State(app): State<Arc<App>>,
    asked: Asked,
    params: Params,
) -> Result<(StatusCode, Json<PluginsShown>), Problem> {
    params.finish()?;
    let Some(reload) = &app.plugins.reload else {
        let detail = "no node follows a folder of plugins on this store; start one with `runner serve`";
        return Err(Problem::new(StatusCode::CONFLICT, "no_node", detail));
    };
    reload.now().await.map_err(|error| {
        let (status, code) = match error {
            NotReloaded::Busy => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            NotReloaded::Stopped => (StatusCode::CONFLICT, "draining"),
            NotReloaded::Folder(_) => (StatusCode::CONFLICT, "plugins_folder"),
        };
        Problem::new(status, code, error.to_string())
    })?;
    // Whoever has the answer may rely on what the plugins listen to.
    if let Some(catalog) = &app.plugins.catalog {
        subscriptions::tell(&app.store, catalog).await?;
    }
    let shown = asked.of(app.plugins.shown());
    let status = if shown.loading.is_empty() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(shown)))
}
