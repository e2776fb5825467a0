//! Who may ask, for what, about whose jobs.
//!
//! [`door`] stands before the routes of each listener: it looks at Host and Origin, finds out who calls, and leaves a
//! [`Caller`] with the request. [`table`] has every route and the scopes that open it; [`authorize`], a layer of the router,
//! compares both. Handlers work in the tenant that [`Whose`](super::tenant::Whose) takes from the caller. [`tokens`] knows
//! the tokens, by their hashes, [`sessions`] the browsers that signed in with one, [`streams`] ends answers that have no end of
//! their own when the token behind them does.
//!
//! A request without a caller was made in this process, by whoever has the store open: it may do anything.

pub mod door;
pub mod sessions;
pub mod streams;
pub mod table;
pub mod tokens;

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::job::TenantId;
use runner_store::token::TokenScope;

use self::sessions::Sessions;
use self::table::Row;
use self::tokens::{Held, Tokens};
use super::accept;
use super::enqueue;
use super::error::Problem;

/// Tokens and sessions of a process that serves a store.
pub struct Access {
    store: Handle,
    clock: Clock,
    tokens: Tokens,
    sessions: Sessions,
}

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whose jobs the calls are about; none: whichever tenant's the caller names.
    pub tenant: Option<TenantId>,
    /// What the caller may do.
    pub scopes: Vec<TokenScope>,
    /// How that is known.
    pub by: By,
}

/// How a caller is known.
#[derive(Debug, Clone)]
pub enum By {
    /// It has the store open, or its unix socket.
    Owner,
    /// It is on this machine, and there is no token.
    Loopback,
    /// `--insecure-no-auth` was spelt out.
    Anyone,
    /// It has shown a token, or a session that began with one.
    Token(Arc<Held>),
    /// It has shown nothing, at a route that asks for nothing.
    Nobody,
}

impl Access {
    /// Knows the tokens of a store. Where they cannot be read, only its owner is let in.
    #[must_use]
    pub fn new(store: Handle, clock: Clock) -> Arc<Self> {
        let tokens = Tokens::load(&store);
        Arc::new(Self { store, clock, tokens, sessions: Sessions::default() })
    }

    /// The tokens.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The browsers that signed in.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn store(&self) -> &Handle {
        &self.store
    }
}

impl Caller {
    /// Whoever has the store open.
    #[must_use]
    pub fn owner() -> Self {
        Self { tenant: None, scopes: vec![TokenScope::Admin], by: By::Owner }
    }

    /// Whoever is on this machine while there is no token.
    #[must_use]
    pub fn loopback() -> Self {
        Self { tenant: Some(TenantId::DEFAULT), scopes: vec![TokenScope::Operate], by: By::Loopback }
    }

    /// Whoever reaches a listener that asks for nothing.
    #[must_use]
    pub fn anyone() -> Self {
        Self { by: By::Anyone, ..Self::owner() }
    }

    /// Whoever shows nothing.
    #[must_use]
    pub fn nobody() -> Self {
        Self { tenant: Some(TenantId::NONE), scopes: Vec::new(), by: By::Nobody }
    }

    /// Whoever has shown this token.
    #[must_use]
    pub fn with(held: Arc<Held>) -> Self {
        Self { tenant: held.token().tenant, scopes: held.token().scopes.clone(), by: By::Token(held) }
    }

    /// Whether it may ask at this route.
    ///
    /// # Errors
    /// 403, with what is missing.
    pub fn may(&self, row: &Row) -> Result<(), Problem> {
        if !self.scopes.iter().any(|scope| row.scopes.contains(scope)) {
            let words = |scopes: &[TokenScope]| scopes.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(", ");
            let (needs, has) = (words(row.scopes), words(&self.scopes));
            let detail = match self.by {
                By::Loopback => format!(
                    "this needs the scope {needs}, and without tokens this address has {has}: ask over the unix socket in \
                     the store's folder, or with a token"
                ),
                _ => format!("this needs the scope {needs}; the token has {has}"),
            };
            return Err(Problem::new(StatusCode::FORBIDDEN, "scope", detail));
        }
        if row.all_tenants && self.tenant.is_some() {
            let detail = "this is about all tenants, and the token is one tenant's";
            return Err(Problem::new(StatusCode::FORBIDDEN, "all_tenants", detail));
        }
        Ok(())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(Self::owner))
    }
}

/// Lets a request through to its route if its caller may, and can read what the route answers. A route that has no row in the
/// table answers nobody.
pub async fn authorize(request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>() else { return next.run(request).await };
    match table::find(request.method(), path.as_str()) {
        table::Found::Row(row) => {
            let allowed = match request.extensions().get::<Caller>() {
                Some(caller) if !row.open => caller.may(row),
                Some(_) | None => Ok(()),
            };
            let headers = request.headers();
            // Also where a repeated call does nothing more, whoever sends a key that is none is told so.
            let keyed = |()| if row.method == "POST" { enqueue::key(headers).map(drop) } else { Ok(()) };
            let admitted = allowed.and_then(|()| accept::admits(headers, row.answers)).and_then(keyed);
            match admitted {
                Ok(()) => next.run(request).await,
                Err(problem) => problem.into_response(),
            }
        }
        // What is possible at the path says the answer.
        table::Found::OtherMethod => next.run(request).await,
        table::Found::Nothing => {
            let detail =
                format!("a bug: `{}` is a route, and no row of the table says who may ask there", path.as_str());
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no_row", detail).into_response()
        }
    }
}
