//! `POST /v1/session` with `{"token": …}` signs a browser in: it gets a cookie instead of keeping the token. `DELETE` signs it
//! out, `GET` says who calls, whatever they have shown.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::Limited;
use runner_store::token::TokenScope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::access::door::{Secure, wrong};
use super::access::{By, Caller, sessions};
use super::body;
use super::error::Problem;
use super::params::Params;
use super::read::Object;
use super::time::rfc3339;

/// A token and what is around it.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionShown {
    /// Whose jobs the calls are about; none: whichever tenant's they name.
    pub tenant: Option<String>,
    /// What the caller may do.
    #[schemars(with = "Vec<String>")]
    pub scopes: Vec<TokenScope>,
    /// How that is known: `owner`, `loopback`, `anyone` or `token`.
    pub by: String,
    /// Until when the session lasts that this call began.
    pub expires_at: Option<String>,
}

/// `POST /v1/session`.
pub async fn begin(
    State(app): State<Arc<App>>,
    secure: Option<Extension<Secure>>,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.finish()?;
    // Whoever asks has shown nothing yet, so it gets no room for more than a token.
    let body = Body::new(Limited::new(body, BODY_BYTES_MAX));
    let text = body::json(&app.bodies, &headers, body).await?;
    let mut object = Object::read(&text, body::parse(&text)?)?;
    let token = object.take("token").map(|value| value.str()).transpose()?;
    object.finish()?;
    let token = token.ok_or_else(|| Problem::invalid("token", "is missing"))?;
    let now = app.clock.now();
    let held = app.access.tokens().find(token.trim(), now).map_err(wrong)?;
    held.used(&app.store, now).await;
    let shown = SessionShown::new(&app, &Caller::with(Arc::clone(&held)));
    let (cookie, until) = app.access.sessions().begin(held, now);
    let shown = SessionShown { expires_at: Some(rfc3339(until)), ..shown };
    let cookie = sessions::set_cookie(&cookie, is_secure(secure));
    Ok((StatusCode::CREATED, [(header::SET_COOKIE, cookie)], Json(shown)).into_response())
}

/// `GET /v1/session`.
pub async fn show(State(app): State<Arc<App>>, caller: Caller, params: Params) -> Result<Json<SessionShown>, Problem> {
    params.finish()?;
    Ok(Json(SessionShown::new(&app, &caller)))
}

/// `DELETE /v1/session`: what it had begun ends. Without a cookie there is nothing to end.
pub async fn end(
    State(app): State<Arc<App>>,
    secure: Option<Extension<Secure>>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    params.finish()?;
    let secure = is_secure(secure);
    if let Some(text) = sessions::cookie(&headers, secure) {
        app.access.sessions().end(&text);
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, sessions::unset_cookie(secure))]).into_response())
}

fn is_secure(secure: Option<Extension<Secure>>) -> bool {
    secure.is_none_or(|Extension(Secure(secure))| secure)
}

impl SessionShown {
    fn new(app: &App, caller: &Caller) -> Self {
        let by = match caller.by {
            By::Owner => "owner",
            By::Loopback => "loopback",
            By::Anyone => "anyone",
            By::Token(_) => "token",
            By::Nobody => "nobody",
        };
        let tenant = caller.tenant.map(|tenant| app.store.tenant_name(tenant).to_string());
        Self { tenant, scopes: caller.scopes.clone(), by: by.to_owned(), expires_at: None }
    }
}
