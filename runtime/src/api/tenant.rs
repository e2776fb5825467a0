//! Whose jobs a call is about: the header `Runner-Tenant`, or else the tenant `default`.
//!
//! As long as there are no tokens, a tenant is named by whoever owns the unix socket or the store's folder, or where
//! `--insecure-no-auth` lets anyone do anything. Over a loopback address everyone on the machine is `default`.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use runner_store::job::TenantId;

use super::App;
use super::error::Problem;
use super::guard::Guard;
use super::read::nearest;

/// The header that names a tenant.
pub const RUNNER_TENANT: &str = "Runner-Tenant";

/// The tenant of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whose(pub TenantId);

impl FromRequestParts<Arc<App>> for Whose {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let mut named = parts.headers.get_all(RUNNER_TENANT).iter();
        let Some(name) = named.next() else { return Ok(Self(TenantId::DEFAULT)) };
        if named.next().is_some() {
            return Err(Problem::invalid(RUNNER_TENANT, "is given twice; keep one"));
        }
        let name = name.to_str().map_err(|_| Problem::invalid(RUNNER_TENANT, "must be visible ASCII characters"))?;
        if parts.extensions.get::<Guard>() == Some(&Guard::Loopback) && name != "default" {
            let why = "a tenant is named over the unix socket in the store's folder; over this address everyone is \
                       `default`: leave the header out, or ask there";
            return Err(Problem::new(StatusCode::FORBIDDEN, "not_allowed", why).at(RUNNER_TENANT));
        }
        match app.store.tenant_id(name) {
            Some(tenant) => Ok(Self(tenant)),
            None => Err(unknown(app, name)),
        }
    }
}

fn unknown(app: &App, name: &str) -> Problem {
    let known = app.store.tenant_names();
    let hint = match nearest(name, known.iter().map(AsRef::as_ref)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "write `[tenants.NAME]` into the configuration, and start again".to_owned(),
    };
    let detail = format!("there is no tenant `{}`; {hint}", name.escape_debug());
    Problem::new(StatusCode::NOT_FOUND, "no_tenant", detail).at(RUNNER_TENANT)
}
