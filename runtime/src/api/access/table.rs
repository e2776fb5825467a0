//! Every route, and who may ask there: the one place that says so. A route that is missing here answers nobody, and a row
//! without a route fails a test.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::http::Method;
use runner_store::token::TokenScope::{self, Admin, Deploy, Enqueue, Operate, Read, Work};

/// A route, and who may ask there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// `GET` stands for `HEAD` as well.
    pub method: &'static str,
    /// As the router has it.
    pub path: &'static str,
    /// One of these opens it.
    pub scopes: &'static [TokenScope],
    /// Whether it is about one tenant's affairs: the caller's, or the one that an admin names.
    pub of_tenant: bool,
    /// Whether only a token of all tenants opens it.
    pub all_tenants: bool,
    /// Whether it asks for no token at all.
    pub open: bool,
    /// The media types in which it answers; none: it answers nothing, or what it answers is nobody's to choose.
    pub answers: &'static [&'static str],
}

/// What the table says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Its row.
    Row(&'static Row),
    /// There are rows of its path, of other methods.
    OtherMethod,
    /// There is no row of its path.
    Nothing,
}

const ALL: &[TokenScope] = &TokenScope::ALL;
const LOOK: &[TokenScope] = &[Admin, Operate, Read];
const ENQUEUE: &[TokenScope] = &[Admin, Operate, Enqueue];
const OPERATE: &[TokenScope] = &[Admin, Operate];
/// What a worker does is no operator's to do; but where no token exists, everyone on loopback is one.
const WORK: &[TokenScope] = &[Admin, Operate, Work];
const DEPLOY: &[TokenScope] = &[Admin, Deploy];
const PLUGINS: &[TokenScope] = &[Admin, Operate, Deploy, Read];
const ADMIN: &[TokenScope] = &[Admin];

const JSON: &[&str] = &["application/json"];
const LINES: &[&str] = &["application/x-ndjson"];
const EVENTS: &[&str] = &["text/event-stream"];
const TEXT: &[&str] = &["text/plain"];
/// Of jobs that come as a stream, the answers do, too.
const JSON_OR_LINES: &[&str] = &["application/json", "application/x-ndjson"];
/// Nothing but a status.
const NOTHING: &[&str] = &[];
/// What a handler has made: whoever asks for a job's output knows better than we what it is.
const BYTES: &[&str] = &[];
/// A word for probes, which go by the status, whatever they say that they read.
const WORD: &[&str] = &[];

/// A route about one tenant's affairs.
const fn tenant(method: &'static str, path: &'static str, scopes: &'static [TokenScope]) -> Row {
    Row { method, path, scopes, of_tenant: true, all_tenants: false, open: false, answers: JSON }
}

/// A route about the node or the store as a whole.
const fn node(method: &'static str, path: &'static str, scopes: &'static [TokenScope]) -> Row {
    Row { method, path, scopes, of_tenant: false, all_tenants: false, open: false, answers: JSON }
}

/// A route that asks for no token.
const fn open(method: &'static str, path: &'static str) -> Row {
    Row { method, path, scopes: &[], of_tenant: false, all_tenants: false, open: true, answers: JSON }
}

impl Row {
    /// The same, which answers in one of these media types.
    const fn answers(self, answers: &'static [&'static str]) -> Self {
        Self { answers, ..self }
    }
}

/// See the module.
pub const ROWS: &[Row] = &[
    tenant("GET", "/v1/jobs", LOOK),
    tenant("POST", "/v1/jobs", ENQUEUE).answers(JSON_OR_LINES),
    tenant("GET", "/v1/jobs/count", LOOK),
    tenant("POST", "/v1/jobs/cancel", OPERATE),
    tenant("POST", "/v1/jobs/retry", OPERATE),
    tenant("POST", "/v1/jobs/release", OPERATE),
    tenant("POST", "/v1/jobs/delete", OPERATE),
    tenant("GET", "/v1/operations/{n}", LOOK),
    tenant("GET", "/v1/jobs/{id}", LOOK),
    tenant("PATCH", "/v1/jobs/{id}", OPERATE),
    tenant("DELETE", "/v1/jobs/{id}", OPERATE).answers(NOTHING),
    tenant("GET", "/v1/jobs/{id}/output", LOOK).answers(BYTES),
    tenant("GET", "/v1/jobs/{id}/logs", LOOK).answers(LINES),
    tenant("GET", "/v1/jobs/{id}/wait", LOOK),
    tenant("GET", "/v1/jobs/{id}/why", LOOK),
    tenant("GET", "/v1/jobs/{id}/graph", LOOK),
    tenant("POST", "/v1/jobs/{id}/start", OPERATE),
    tenant("POST", "/v1/jobs/{id}/cancel", OPERATE),
    tenant("POST", "/v1/jobs/{id}/retry", OPERATE),
    tenant("POST", "/v1/jobs/{id}/release", OPERATE),
    tenant("POST", "/v1/jobs/{id}/reschedule", OPERATE),
    tenant("GET", "/v1/queues", LOOK),
    tenant("GET", "/v1/queues/{q}", LOOK),
    tenant("PATCH", "/v1/queues/{q}", OPERATE),
    // `/v1/queues/resume`, which lets the whole store go on after a restore.
    node("POST", "/v1/queues/{q}", ADMIN),
    tenant("POST", "/v1/queues/{q}/{verb}", OPERATE),
    tenant("GET", "/v1/kinds", LOOK),
    tenant("GET", "/v1/kinds/{k}", LOOK),
    tenant("PATCH", "/v1/kinds/{k}", OPERATE),
    tenant("POST", "/v1/kinds/{k}/{verb}", OPERATE),
    tenant("GET", "/v1/schedules", LOOK),
    tenant("POST", "/v1/schedules", OPERATE),
    tenant("GET", "/v1/schedules/{name}", LOOK),
    tenant("PATCH", "/v1/schedules/{name}", OPERATE),
    tenant("DELETE", "/v1/schedules/{name}", OPERATE).answers(NOTHING),
    tenant("POST", "/v1/schedules/{name}/{verb}", OPERATE),
    tenant("POST", "/v1/lease", WORK),
    tenant("POST", "/v1/runs/{id}/{run}/renew", WORK),
    tenant("POST", "/v1/runs/{id}/{run}/finish", WORK),
    tenant("POST", "/v1/runs/{id}/{run}/log", WORK).answers(NOTHING),
    tenant("POST", "/v1/runs/{id}/{run}/progress", WORK).answers(NOTHING),
    tenant("GET", "/v1/events", LOOK).answers(EVENTS),
    node("POST", "/v1/flush", ENQUEUE),
    tenant("GET", "/v1/plugins", PLUGINS),
    tenant("GET", "/v1/plugins/{name}", PLUGINS),
    tenant("PUT", "/v1/plugins/{name}", DEPLOY),
    tenant("DELETE", "/v1/plugins/{name}", DEPLOY).answers(NOTHING),
    // `/v1/plugins/reload`.
    tenant("POST", "/v1/plugins/{name}", DEPLOY),
    tenant("GET", "/v1/store/settings", LOOK),
    // What a tenant may have is not its own to say, and how long the log is kept is everybody's.
    tenant("PATCH", "/v1/store/settings", ADMIN),
    // Figures of all tenants together, without a name.
    node("GET", "/v1/store/stats", OPERATE),
    // A finding may have any tenant's names in it.
    node("GET", "/v1/store/check", ADMIN),
    node("POST", "/v1/store/accept-clock", ADMIN).answers(NOTHING),
    node("POST", "/v1/store/backup", ADMIN),
    tenant("GET", "/v1/stats", LOOK),
    tenant("GET", "/v1/stats/series", LOOK),
    // What it says is in every copy of the program.
    open("GET", "/v1/openapi.json"),
    Row { all_tenants: true, ..node("GET", "/metrics", LOOK).answers(TEXT) },
    node("GET", "/v1/node", OPERATE),
    node("POST", "/v1/node/drain", ADMIN),
    node("POST", "/v1/node/resume", ADMIN),
    node("GET", "/v1/tokens", ADMIN),
    node("POST", "/v1/tokens", ADMIN),
    node("DELETE", "/v1/tokens/{id}", ADMIN).answers(NOTHING),
    node("GET", "/v1/tenants", ADMIN),
    node("POST", "/v1/tenants", ADMIN),
    // Of others than its own, a tenant is told that there are none.
    node("GET", "/v1/tenants/{t}", LOOK),
    node("PATCH", "/v1/tenants/{t}", ADMIN),
    node("DELETE", "/v1/tenants/{t}", ADMIN).answers(NOTHING),
    // The token is in the body.
    open("POST", "/v1/session"),
    node("GET", "/v1/session", ALL),
    node("DELETE", "/v1/session", ALL).answers(NOTHING),
    open("GET", "/healthz").answers(WORD),
    open("GET", "/readyz").answers(WORD),
];

/// The row of a request, by the path that the router matched.
#[must_use]
pub fn find(method: &Method, path: &str) -> Found {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let Some(of_path) = BY_PATH.get(path) else { return Found::Nothing };
    of_path.iter().find(|row| row.method == method).map_or(Found::OtherMethod, |row| Found::Row(row))
}

/// Asked for with every request.
static BY_PATH: LazyLock<HashMap<&'static str, Vec<&'static Row>>> = LazyLock::new(|| {
    let mut by_path: HashMap<_, Vec<_>> = HashMap::new();
    ROWS.iter().for_each(|row| by_path.entry(row.path).or_default().push(row));
    by_path
});

/// The table as text: what each scope may do.
#[must_use]
pub fn shown() -> String {
    let mut text = format!("{:<7} {:<30}", "", "");
    TokenScope::ALL.iter().for_each(|scope| text.push_str(&format!(" {:<8}", scope.as_str())));
    for row in ROWS {
        let mut line = format!("\n{:<7} {:<30}", row.method, row.path);
        for scope in TokenScope::ALL {
            let may = row.open || row.scopes.contains(&scope);
            line.push_str(&format!(" {:<8}", if may { "yes" } else { "-" }));
        }
        text.push_str(line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_stands_there_once_and_admin_may_everything() {
        for (i, row) in ROWS.iter().enumerate() {
            assert!(!ROWS[..i].iter().any(|other| (other.method, other.path) == (row.method, row.path)), "{row:?}");
            assert_eq!(row.open, row.scopes.is_empty(), "{row:?}");
            assert!(row.open || row.scopes.contains(&Admin), "{row:?}");
            assert_eq!(find(&row.method.parse().expect("a method"), row.path), Found::Row(row));
        }
        assert_eq!(find(&Method::HEAD, "/v1/jobs"), find(&Method::GET, "/v1/jobs"));
        assert_eq!(find(&Method::PUT, "/v1/jobs"), Found::OtherMethod);
        assert_eq!(find(&Method::GET, "/v1/nothing"), Found::Nothing);
    }

    /// Looking changes nothing, and what changes something is not open to whoever may only look.
    #[test]
    fn who_may_only_look_changes_nothing() {
        for row in ROWS.iter().filter(|row| row.scopes.contains(&Read)) {
            assert!(row.method == "GET" || row.path == "/v1/session", "{row:?}");
        }
        for row in ROWS.iter().filter(|row| row.scopes.contains(&Enqueue) && row.path != "/v1/session") {
            assert!(["/v1/jobs", "/v1/flush"].contains(&row.path) && row.method == "POST", "{row:?}");
        }
    }
}
