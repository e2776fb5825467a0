//! Tokens: `GET|POST /v1/tokens`, `DELETE /v1/tokens/{id}`. The answer to POST is the only place where a token is ever shown.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use runner_store::command::NewToken;
use runner_store::job::TenantId;
use runner_store::token::TokenScope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::access::tokens::{Held, Wrong};
use super::body;
use super::error::Problem;
use super::params::{Named, Params};
use super::read::{Bad, Object, Value};
use super::tenant::{self, RUNNER_TENANT, Whose};
use super::time::rfc3339;

/// Tokens of a page: all of them, as a store has but so many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokensShown {
    /// Oldest first.
    pub tokens: Vec<TokenShown>,
}

/// A token as it is shown: everything but itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenShown {
    /// What it is revoked by.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Whose; none: of all tenants.
    pub tenant: Option<String>,
    /// What it may be used for.
    #[schemars(with = "Vec<String>")]
    pub scopes: Vec<TokenScope>,
    /// `active`, `expired`, or `unconfirmed` after a restore.
    pub state: String,
    /// `store`, or `environment`: the server was started with it.
    pub source: String,
    /// When it was made.
    pub created_at: String,
    /// From when on it is worth nothing; none: it does not expire.
    pub expires_at: Option<String>,
    /// When it was used last, to a minute or so.
    pub last_used_at: Option<String>,
}

/// A token that was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenMade {
    /// The token. It is shown this once.
    pub token: String,
    /// What is known of it.
    #[serde(flatten)]
    pub shown: TokenShown,
}

/// `GET /v1/tokens`: all, or those of the tenant that is named.
pub async fn list(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    headers: HeaderMap,
    params: Params,
) -> Result<Json<TokensShown>, Problem> {
    params.finish()?;
    let named = headers.contains_key(RUNNER_TENANT);
    let tokens = app.access.tokens().all();
    let wanted = tokens.iter().filter(|held| !named || held.token().tenant == Some(tenant));
    Ok(Json(TokensShown { tokens: wanted.map(|held| shown(&app, held)).collect() }))
}

/// `POST /v1/tokens` with `{"name": …, "scopes": ["enqueue", "read"], "tenant": …, "expires_at" | "expires_in": …}`. Of the tenant
/// that is named, in the body or by the header; an admin's is of all tenants, and one that may only look may be
/// (`"tenant": null`).
pub async fn create(
    State(app): State<Arc<App>>,
    Whose(tenant): Whose,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<TokenMade>), Problem> {
    params.finish()?;
    let text = body::json(&app.bodies, &headers, body).await?;
    let new = read(&app, tenant, Object::read(&text, body::parse(&text)?)?)?;
    // No two at once: between its being made and its tenant's being deleted.
    let _one = app.settings.lock().await;
    if new.tenant.is_some_and(|tenant| app.gone.has(tenant)) {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no_tenant", "the tenant was deleted").at("tenant"));
    }
    let (held, token) = app.access.tokens().create(&app.store, new).await?;
    tracing::info!(id = %held.id(), name = %held.token().name, "a token was made");
    Ok((StatusCode::CREATED, Json(TokenMade { token, shown: shown(&app, &held) })))
}

/// `DELETE /v1/tokens/{id}`: it is worth nothing any more, at once, and what it had begun ends.
pub async fn revoke(State(app): State<Arc<App>>, Named(id): Named, params: Params) -> Result<StatusCode, Problem> {
    params.finish()?;
    app.access.tokens().revoke(&app.store, &id).await?;
    tracing::info!(%id, "a token was revoked");
    Ok(StatusCode::NO_CONTENT)
}

fn read(app: &App, called: TenantId, mut object: Object<'_>) -> Result<NewToken, Problem> {
    let name = object.take("name").map(|value| value.str()).transpose()?;
    let scopes = object.take("scopes").map(|value| scopes(&value)).transpose()?;
    let tenant = object.take_any("tenant");
    let (at, within) = (object.take("expires_at"), object.take("expires_in"));
    object.finish()?;
    let name = name.ok_or_else(|| Problem::invalid("name", "is missing: what the token is for, in a word"))?;
    let scopes = scopes
        .ok_or_else(|| Problem::invalid("scopes", format!("is missing: a list of {}", words(&TokenScope::ALL))))?;
    let expires_at = match (at, within) {
        (Some(_), Some(value)) => return Err(value.bad("and `expires_at` exclude each other: keep one").into()),
        (Some(value), None) => Some(value.time()?),
        (None, Some(value)) => Some(app.clock.now().after(value.duration()?)),
        (None, None) => None,
    };
    let tenant = match tenant {
        Some(value) if value.raw() == "null" => None,
        Some(value) => {
            let name = value.str()?;
            Some(tenant::find(app, &name).ok_or_else(|| tenant::unknown(app, &name).at("tenant"))?)
        }
        None if scopes.contains(&TokenScope::Admin) => None,
        None => Some(called),
    };
    Ok(NewToken { name, tenant, scopes, expires_at })
}

fn scopes(value: &Value<'_>) -> Result<Vec<TokenScope>, Bad> {
    let one = |value: &Value<'_>| {
        TokenScope::parse(&value.str()?)
            .ok_or_else(|| value.bad(&format!("is no scope; there are {}", words(&TokenScope::ALL))))
    };
    value.list()?.iter().map(one).collect()
}

pub(super) fn words(scopes: &[TokenScope]) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}

fn shown(app: &App, held: &Held) -> TokenShown {
    let token = held.token();
    let state = match held.check(app.clock.now()) {
        Ok(()) => "active",
        Err(Wrong::Expired) => "expired",
        Err(Wrong::Unconfirmed) => "unconfirmed",
        Err(Wrong::Unknown) => "revoked",
    };
    TokenShown {
        id: held.id(),
        name: token.name.clone(),
        tenant: token.tenant.map(|tenant| app.store.tenant_name(tenant).to_string()),
        scopes: token.scopes.clone(),
        state: state.to_owned(),
        source: if held.is_of_process() { "environment" } else { "store" }.to_owned(),
        created_at: rfc3339(token.created_at),
        expires_at: token.expires_at.map(rfc3339),
        last_used_at: held.used_at().map(rfc3339),
    }
}
