//! The routes of tokens, tenants and sessions: of who may ask, and whose jobs there are.

use super::bodies::{NewTenantBody, NewTokenBody, SessionBody, TenantBody};
use super::route::Route;
use crate::api::session::SessionShown;
use crate::api::tenants::{TenantShown, TenantsShown};
use crate::api::tokens::{TokenMade, TokensShown};

pub(super) fn routes() -> Vec<Route> {
    [tokens(), tenants(), session()].concat()
}

/// How changing the store goes wrong that is nobody's in particular.
const WRITES: &[&str] = &["store_failed", "outcome_unknown", "overloaded", "stopped"];

fn tokens() -> Vec<Route> {
    vec![
        Route::new("get", "/v1/tokens", "listTokens", "All tokens, or those of the tenant that is named")
            .reads()
            .json::<TokensShown>(200, "Oldest first"),
        Route::new("post", "/v1/tokens", "createToken", "Make a token; this answer is the only one that shows it")
            .body::<NewTokenBody>()
            .writes()
            .json::<TokenMade>(201, "It can be used")
            .no(&["full"]),
        Route::new("delete", "/v1/tokens/{id}", "revokeToken", "Revoke a token, and end what it had begun")
            .answers(204, "It is worth nothing any more", "", None)
            .no(WRITES)
            .no(&["not_found", "from_environment"]),
    ]
}

fn tenants() -> Vec<Route> {
    let one = |method, id, summary| Route::new(method, "/v1/tenants/{t}", id, summary).no(WRITES).no(&["no_tenant"]);
    vec![
        Route::new("get", "/v1/tenants", "listTenants", "All tenants, and what each may have")
            .json::<TenantsShown>(200, "By name")
            .no(&["store_failed"]),
        Route::new("post", "/v1/tenants", "createTenant", "Make a tenant")
            .body::<NewTenantBody>()
            .json::<TenantShown>(201, "It is there")
            .no(WRITES)
            .no(&["exists", "full"]),
        one("get", "showTenant", "One tenant").json::<TenantShown>(200, "The tenant"),
        one("patch", "setTenant", "Say what a tenant may have; what is not said stays")
            .body::<TenantBody>()
            .json::<TenantShown>(200, "The tenant"),
        one("delete", "deleteTenant", "Delete a tenant that has nothing left")
            .answers(204, "Gone", "", None)
            .no(&["from_configuration", "tenant_not_empty"]),
    ]
}

fn session() -> Vec<Route> {
    vec![
        Route::new("post", "/v1/session", "signIn", "Sign a browser in with a token: it gets a cookie for 12 hours")
            .body::<SessionBody>()
            .json::<SessionShown>(201, "`Set-Cookie` has the cookie"),
        Route::new("get", "/v1/session", "whoAmI", "Who calls").json::<SessionShown>(200, "Whoever has asked"),
        Route::new("delete", "/v1/session", "signOut", "Sign the browser out").answers(204, "It is", "", None),
    ]
}
