//! Whose jobs a call is about: the caller's own tenant; of a caller of all tenants the one that the header `Runner-Tenant`
//! names, or else `default`.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use runner_store::job::TenantId;

use super::App;
use super::access::{By, Caller};
use super::error::Problem;
use super::read::nearest;

/// The header that names a tenant.
pub const RUNNER_TENANT: &str = "Runner-Tenant";

/// The tenant of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whose(pub TenantId);

impl FromRequestParts<Arc<App>> for Whose {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Caller>();
        let own = caller.and_then(|caller| caller.tenant);
        let mut named = parts.headers.get_all(RUNNER_TENANT).iter();
        let Some(name) = named.next() else { return Ok(Self(own.unwrap_or(TenantId::DEFAULT))) };
        if named.next().is_some() {
            return Err(Problem::invalid(RUNNER_TENANT, "is given twice; keep one"));
        }
        let name = name.to_str().map_err(|_| Problem::invalid(RUNNER_TENANT, "must be visible ASCII characters"))?;
        match own {
            Some(own) if *app.store.tenant_name(own) == *name => Ok(Self(own)),
            // Whether there is such a tenant is nobody else's affair.
            Some(_) => Err(not_named(caller)),
            None => find(app, name).map(Self).ok_or_else(|| unknown(app, name).at(RUNNER_TENANT)),
        }
    }
}

/// A tenant by its name; none: there is none, or it was deleted.
pub(super) fn find(app: &App, name: &str) -> Option<TenantId> {
    app.store.tenant_id(name).filter(|tenant| !app.gone.has(*tenant))
}

pub(super) fn unknown(app: &App, name: &str) -> Problem {
    let known = app.store.tenant_names();
    let there = known.iter().filter(|name| find(app, name).is_some());
    let hint = match nearest(name, there.map(AsRef::as_ref)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`runner tenant create` makes one".to_owned(),
    };
    let detail = format!("there is no tenant `{}`; {hint}", name.escape_debug());
    Problem::new(StatusCode::NOT_FOUND, "no_tenant", detail)
}

fn not_named(caller: Option<&Caller>) -> Problem {
    let why = match caller.map(|caller| &caller.by) {
        Some(By::Loopback) => {
            "a tenant is named over the unix socket in the store's folder; over this address everyone is `default`: leave the \
             header out, or ask there"
        }
        _ => "the token is one tenant's, and names no other: leave the header out, or use a token of all tenants",
    };
    Problem::new(StatusCode::FORBIDDEN, "not_allowed", why).at(RUNNER_TENANT)
}
