//! What stands before the routes of a listener: it finds out who calls, and refuses what no listener of its kind takes.
//!
//! In this order: a body that cannot be read; what nobody can expect; two Hosts; a Host that is not ours (a web page whose name was made to point here); an Origin that is not
//! ours (a web page of somebody else); the token, the session, or what the listener gives to whoever has neither.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use runner_store::job::Time;

use super::super::body;
use super::super::error::Problem;
use super::super::guard::{self, Guard, Origin};
use super::sessions::{self, Session};
use super::streams::{Lease, until_over};
use super::table::{self, Found};
use super::tokens::{Held, Wrong};
use super::{Access, Caller};

/// See the module.
#[derive(Clone)]
pub struct Door {
    guard: Guard,
    access: Arc<Access>,
    /// Where browsers find us, where that is not the address itself.
    public: Option<Arc<Origin>>,
    /// Whether the listener itself speaks TLS.
    tls: bool,
}

/// Who calls, and with what, if with anything that ends.
struct Known {
    caller: Caller,
    with: Option<(Arc<Held>, Option<Session>)>,
}

/// Whether a call that is no `GET` does nothing but wait until there is something for its caller.
fn waits(request: &Request) -> bool {
    request.extensions().get::<MatchedPath>().is_some_and(|path| path.as_str() == "/v1/lease")
}

impl Door {
    /// The door of a listener.
    #[must_use]
    pub fn new(guard: Guard, access: Arc<Access>) -> Self {
        Self { guard, access, public: None, tls: false }
    }

    /// The same, of a listener that browsers find under this origin.
    #[must_use]
    pub fn public(self, public: Option<Origin>) -> Self {
        Self { public: public.map(Arc::new), ..self }
    }

    /// The same, of a listener that speaks TLS.
    #[must_use]
    pub fn with_tls(self, tls: bool) -> Self {
        Self { tls, ..self }
    }

    /// Whether a cookie that this request gets is to be sent over TLS only.
    fn is_secure(&self, headers: &HeaderMap) -> bool {
        let public = self.public.as_ref().is_some_and(|public| public.is_https());
        self.tls || public || !guard::host(headers).is_some_and(guard::is_loopback)
    }

    /// The caller of a request.
    fn know(&self, method: &Method, headers: &HeaderMap) -> Result<Known, Problem> {
        let now = self.access.clock().now();
        if let Some(text) = bearer(headers)? {
            let held = self.access.tokens().find(text, now).map_err(wrong)?;
            return Ok(Known { caller: Caller::with(Arc::clone(&held)), with: Some((held, None)) });
        }
        // A page in a browser has no unix socket.
        if self.guard != Guard::Socket
            && let Some(text) = sessions::cookie(headers, self.is_secure(headers))
        {
            let session = self.access.sessions().find(&text, now).ok_or_else(session_over)?;
            if !matches!(*method, Method::GET | Method::HEAD) && !headers.contains_key(header::ORIGIN) {
                let detail = "a call by cookie that changes something must say which page it comes from: send Origin";
                return Err(Problem::new(StatusCode::FORBIDDEN, "wrong_origin", detail).at("Origin"));
            }
            let held = Arc::clone(&session.held);
            return Ok(Known { caller: Caller::with(Arc::clone(&held)), with: Some((held, Some(session))) });
        }
        let caller = match self.guard {
            Guard::Socket => Caller::owner(),
            Guard::Open => Caller::anyone(),
            Guard::Loopback if self.access.tokens().is_empty() => {
                guard::unproxied(headers)?;
                Caller::loopback()
            }
            Guard::Loopback | Guard::Network => return Err(no_token()),
        };
        Ok(Known { caller, with: None })
    }
}

/// Lets a request in, or says why not.
pub async fn check(State(door): State<Door>, request: Request, next: Next) -> Response {
    let mut response = let_in(&door, request, next).await.unwrap_or_else(IntoResponse::into_response);
    super::super::finish_headers(response.headers_mut());
    response
}

async fn let_in(door: &Door, mut request: Request, next: Next) -> Result<Response, Problem> {
    let matched = request.extensions().get::<MatchedPath>();
    let open = matched.is_some_and(|path| match table::find(request.method(), path.as_str()) {
        Found::Row(row) => row.open,
        Found::OtherMethod | Found::Nothing => false,
    });
    // A probe knows an address, and no name.
    let probe = open && matched.is_some_and(|path| !path.as_str().starts_with("/v1/"));
    guard::plain_transfer(request.headers())?;
    guard::known_expectation(request.headers())?;
    guard::one_host(request.headers())?;
    guard::one_target(request.uri(), request.headers())?;
    if !probe {
        guard::our_host(door.guard, request.headers(), door.public.as_deref())?;
        guard::our_origin(door.guard, request.headers(), door.public.as_deref(), door.tls)?;
    }
    let secure = Secure(door.is_secure(request.headers()));
    request.extensions_mut().insert(secure);
    if open {
        request.extensions_mut().insert(Caller::nobody());
        return Ok(next.run(request).await);
    }
    let Known { caller, with } = door.know(request.method(), request.headers())?;
    let tenant = caller.tenant;
    request.extensions_mut().insert(caller);
    let Some((held, session)) = with else { return Ok(body::of(tenant, next.run(request)).await) };
    let now = door.access.clock().now();
    held.used(door.access.store(), now).await;
    let lease = Lease::of(&held, session.as_ref());
    if request.method() != Method::GET && !waits(&request) {
        // What it does is done when it is revoked meanwhile, and is answered. What goes on and on looks for itself.
        request.extensions_mut().insert(Ends { access: Arc::clone(&door.access), held, lease, now });
        return Ok(body::of(tenant, next.run(request)).await);
    }
    let over = lease.over(now);
    let response = tokio::select! {
        response = body::of(tenant, next.run(request)) => response,
        () = over => {
            let token_ends = held.check(door.access.clock().now()).err();
            return Err(token_ends.map_or_else(session_over, wrong));
        }
    };
    Ok(until_over(response, Lease::of(&held, session.as_ref()), now))
}

/// When a request may not go on, for whoever takes what it brings bit by bit.
#[derive(Clone)]
pub struct Ends {
    access: Arc<Access>,
    held: Arc<Held>,
    lease: Lease,
    now: Time,
}

impl Ends {
    /// Comes back when it may not, and says why.
    pub async fn over(self) -> Problem {
        self.lease.over(self.now).await;
        self.held.check(self.access.clock().now()).err().map_or_else(session_over, wrong)
    }
}

/// Whether a cookie is to be sent over TLS only: left with a request for whoever sets one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secure(pub bool);

/// The token of a request, if it has one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let unfit = |why: &str| Problem::new(StatusCode::UNAUTHORIZED, "bad_token", why.to_owned()).at("Authorization");
    if values.next().is_some() {
        return Err(unfit("the request has two tokens; keep one"));
    }
    let text = value.to_str().map_err(|_| unfit("the token is not ASCII"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Ok(Some(token.trim()))
        }
        _ => Err(unfit("must be `Bearer` and a token")),
    }
}

pub(in crate::api) fn wrong(wrong: Wrong) -> Problem {
    let (code, detail) = match wrong {
        Wrong::Unknown => ("bad_token", "the token is wrong, or was revoked"),
        Wrong::Expired => {
            ("expired_token", "the token has expired; an operator makes another with `runner token create`")
        }
        Wrong::Unconfirmed => (
            "unconfirmed_token",
            "the store was restored from a backup without --keep-tokens, so the tokens in it let nobody in; an operator makes \
             another with `runner token create`",
        ),
    };
    Problem::new(StatusCode::UNAUTHORIZED, code, detail)
}

fn no_token() -> Problem {
    let detail = "this needs a token: send `Authorization: Bearer rnr_…`; an operator makes one with `runner token create`, over \
                  the unix socket in the store's folder";
    Problem::new(StatusCode::UNAUTHORIZED, "no_token", detail)
}

fn session_over() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "session_over", "the session has ended; sign in again with POST /v1/session")
}
