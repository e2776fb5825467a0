//! One plugin of a tenant: `GET|PUT|DELETE /v1/plugins/{name}`.
//!
//! `PUT` takes the file as `application/wasm` or `text/javascript` and leaves the manifest beside it as it is, or both as
//! `multipart/form-data` with the parts `plugin` or `script`, and `manifest`. It is checked and compiled before it is put and
//! before this answers; what is refused changes nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use runner_store::job::TenantId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::upload;
use super::{LoadingShown, PluginShown, Plugins, ReportShown};
use crate::api::App;
use crate::api::access::Caller;
use crate::api::error::Problem;
use crate::api::params::{Named, Params};
use crate::api::tenant::Whose;
use crate::subscriptions;
use crate::wasm::Catalog;
use crate::wasm::folder::TENANT_DEFAULT;
use crate::wasm::folder::deploy::{Deploy, NotDeployed, Put};
use crate::wasm::loader::Reload;

/// How long an answer waits for the loader where nothing is cached, so that it compiles the same once more: as long as
/// compiling may take.
const SERVED_WITHIN: Duration = Duration::from_secs(120);

/// One plugin of a tenant, as it is in the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PluginFile")]
pub struct FileShown {
    /// Its name.
    pub name: String,
    /// What serves; none while it is compiled for the first time, or if it is broken.
    pub plugin: Option<PluginShown>,
    /// What is wrong with its file, or which of its kinds others serve.
    pub reports: Vec<ReportShown>,
    /// How far it is, while it is not loaded.
    pub loading: Option<LoadingShown>,
}

impl FileShown {
    /// A tenant's plugin of this name; none: there is none.
    fn find(plugins: &Plugins, tenant: &str, name: &str) -> Option<Self> {
        let now = plugins.catalog.as_ref()?.now();
        let plugin = now.registry.named(tenant, name).map(|plugin| PluginShown::new(tenant, plugin));
        let loading = now.loading.iter().find(|one| one.tenant == tenant && one.name == name).map(LoadingShown::from);
        let is_its = |path: &std::path::Path| {
            let folder = path.parent().and_then(std::path::Path::file_name).and_then(|name| name.to_str());
            let is_its_folder =
                folder == Some(tenant) || (tenant == TENANT_DEFAULT && plugins.is_the_folder(path.parent()));
            is_its_folder && path.file_stem().and_then(|stem| stem.to_str()) == Some(name)
        };
        let reports: Vec<ReportShown> =
            now.reports.iter().filter(|report| is_its(&report.path)).map(|report| report.as_ref().into()).collect();
        let is_there = plugin.is_some() || loading.is_some() || !reports.is_empty();
        is_there.then(|| Self { name: name.to_owned(), plugin, reports, loading })
    }
}

/// `GET /v1/plugins/{name}`.
pub async fn show(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    Named(name): Named,
    params: Params,
) -> Result<Json<FileShown>, Problem> {
    params.finish()?;
    let tenant = app.store.tenant_name(tenant);
    FileShown::find(&app.plugins, &tenant, &name).map(Json).ok_or_else(unknown)
}

/// `PUT /v1/plugins/{name}`: 201 where there was none, 202 where it is put and not served yet.
pub async fn put(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    caller: Caller,
    Named(name): Named,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<FileShown>), Problem> {
    params.finish()?;
    may_change(&app, &caller, (tenant, &name))?;
    let folder = Folder::of(&app.plugins)?;
    let offered = upload::read(&app.bodies, &headers, body).await?;
    let tenant_name = app.store.tenant_name(tenant);
    let Put { is_new, digest } = folder.deploy.put(&tenant_name, &name, offered).await?;
    let is_served = folder.settled(&app, tenant, &name, Some(&digest)).await?;
    let shown = FileShown::find(&app.plugins, &tenant_name, &name);
    // Somebody has taken it out in this moment.
    let shown = shown.ok_or_else(unknown)?;
    let status = match (is_served, is_new) {
        (false, _) => StatusCode::ACCEPTED,
        (true, true) => StatusCode::CREATED,
        (true, false) => StatusCode::OK,
    };
    Ok((status, Json(shown)))
}

/// `DELETE /v1/plugins/{name}`: the file and its manifest. Jobs of its kinds wait from then on.
pub async fn delete(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    caller: Caller,
    Named(name): Named,
    params: Params,
) -> Result<StatusCode, Problem> {
    params.finish()?;
    may_change(&app, &caller, (tenant, &name))?;
    let folder = Folder::of(&app.plugins)?;
    folder.deploy.remove(&app.store.tenant_name(tenant), &name).await?;
    folder.settled(&app, tenant, &name, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses one tenant's token a plugin of `default` that the operator has put around the handlers of all tenants: it would
/// see, and could fail, everybody's jobs. Also where it is not there yet, as everybody's jobs wait for it then.
fn may_change(app: &App, caller: &Caller, (tenant, name): (TenantId, &str)) -> Result<(), Problem> {
    if caller.tenant.is_none() || tenant != TenantId::DEFAULT || !app.plugins.operator().is_around_all(name) {
        return Ok(());
    }
    let detail = format!(
        "`{}` is middleware around the jobs of all tenants, and the token is one tenant's: change it with an admin's token, over the \
         unix socket in the store's folder, or in the folder of plugins itself",
        name.escape_debug()
    );
    Err(Problem::new(StatusCode::FORBIDDEN, "all_tenants", detail))
}

/// The folder that the node follows.
struct Folder<'a> {
    deploy: &'a Deploy,
    reload: &'a Reload,
    catalog: &'a Catalog,
}

impl<'a> Folder<'a> {
    fn of(plugins: &'a Plugins) -> Result<Self, Problem> {
        let (Some(deploy), Some(reload), Some(catalog)) = (&plugins.deploy, &plugins.reload, &plugins.catalog) else {
            let detail = "no node follows a folder of plugins on this store; start one with `runner serve`";
            return Err(Problem::new(StatusCode::CONFLICT, "no_node", detail));
        };
        Ok(Self { deploy, reload, catalog })
    }

    /// Lets the loader look at what has changed, and waits until it serves this version, or nothing of this name. Whether
    /// it does.
    async fn settled(&self, app: &App, tenant: TenantId, name: &str, digest: Option<&str>) -> Result<bool, Problem> {
        let tenant = app.store.tenant_name(tenant);
        let mut changes = self.catalog.watch();
        // A loader that has no time now looks by itself, as the folder has changed.
        _ = self.reload.now().await;
        let is_so = || {
            let now = self.catalog.now();
            let is_loading = now.loading.iter().any(|one| one.tenant == *tenant && one.name == name);
            !is_loading && now.registry.named(&tenant, name).map(|plugin| plugin.digest()) == digest
        };
        let until = tokio::time::Instant::now() + SERVED_WITHIN;
        while !is_so() {
            match tokio::time::timeout_at(until, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(false),
            }
        }
        // Whoever has the answer may rely on what the plugins listen to.
        subscriptions::tell(&app.store, self.catalog).await?;
        Ok(true)
    }
}

impl From<NotDeployed> for Problem {
    fn from(error: NotDeployed) -> Self {
        let text = error.to_string();
        match error {
            NotDeployed::Name(_) => Self::invalid("name", text),
            NotDeployed::Engine => Self::new(StatusCode::FORBIDDEN, "not_allowed", text),
            NotDeployed::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", text),
            NotDeployed::Share(_) => Self::new(StatusCode::TOO_MANY_REQUESTS, "compile_share", text),
            NotDeployed::Refused(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "plugin_refused", text).at("plugin"),
            NotDeployed::Manifest(_) => Self::invalid("manifest", text),
            NotDeployed::NotGranted(_) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "not_granted", text).at("manifest")
            }
            NotDeployed::OtherForm(_) => Self::new(StatusCode::CONFLICT, "exists", text),
            NotDeployed::Missing => unknown(),
            NotDeployed::Full => Self::new(StatusCode::TOO_MANY_REQUESTS, "full", text),
            NotDeployed::Folder(_) => Self::new(StatusCode::CONFLICT, "plugins_folder", text),
            NotDeployed::ReadOnly { .. } => Self::new(StatusCode::CONFLICT, "plugins_read_only", text),
            NotDeployed::Write { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", text)
            }
            NotDeployed::Write { .. } | NotDeployed::Bug(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", text)
            }
        }
    }
}

/// `POST` to a name, which is no verb but `reload`.
pub async fn verb(
    State(app): State<Arc<App>>,
    asked: super::Asked,
    Named(verb): Named,
    params: Params,
) -> Result<Response, Problem> {
    if verb == "reload" {
        return Ok(super::reload(State(app), asked, params).await?.into_response());
    }
    params.finish()?;
    let detail = "POST is only possible at /v1/plugins/reload; a plugin is put with PUT and taken out with DELETE";
    let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail).into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, PUT, DELETE"));
    Ok(response)
}

fn unknown() -> Problem {
    let detail = "there is no plugin of this name; one is put with PUT, or `runner plugin push`";
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}
