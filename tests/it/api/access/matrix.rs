//! Every row of the table of routes × every kind of caller. The cells come from the table; a route that has no row, and a row
//! that has no route, fail.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::routing::get;
use runner_runtime::api::access::table::{self, ROWS, Row};
use runner_runtime::api::plugins::Plugins;
use runner_runtime::api::{self, App};
use runner_store::clock::Clock;
use runner_store::command::{Command, TokenCall, TokenVerb};
use runner_store::job::{Millis, TenantId};
use runner_store::token::{TokenHash, TokenScope};
use serde_json::json;

use super::{Ask, Told, ask};
use crate::api::Api;
use runner_runtime::api::guard::Guard;

/// What is another tenant's, and may be in no answer to this one.
const MARK: &str = "zeta-secret";

/// Who asks.
enum Who {
    /// A token of the tenant `acme`, or of all tenants, with one scope.
    Scope(TokenScope),
    /// A token of all tenants that may look.
    ReadsAll,
    /// Somebody whom nothing lets in, for this reason.
    Nobody(&'static str),
}

struct Caller {
    who: Who,
    token: Option<String>,
}

/// A world with two tenants; `zeta` has one of everything.
async fn world() -> (Api, Vec<Caller>, TenantId) {
    let api = Api::new();
    let (acme, zeta) = (api.tenant("acme").await, api.tenant("zeta").await);
    let mut callers = Vec::new();
    for scope in TokenScope::ALL {
        let tenant = (scope != TokenScope::Admin).then_some(acme);
        callers.push(Caller { who: Who::Scope(scope), token: Some(api.token(tenant, &[scope]).await) });
    }
    callers.push(Caller { who: Who::ReadsAll, token: Some(api.token(None, &[TokenScope::Read]).await) });
    let revoked = api.token(Some(acme), &[TokenScope::Operate]).await;
    api.access().tokens().revoke(&api.store, &TokenHash::of(&revoked).id()).await.unwrap();
    let soon = Clock::System.now().after(Millis(20));
    let expired = api.token_until(Some(acme), &[TokenScope::Operate], Some(soon)).await;
    let begun = Instant::now();
    while api.access().tokens().find(&expired, Clock::System.now()).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not expire");
        tokio::task::yield_now().await;
    }
    let suspended = api.token(Some(acme), &[TokenScope::Operate]).await;
    let call = TokenCall { hash: TokenHash::of(&suspended), verb: TokenVerb::Confirm(false) };
    api.store.call(Command::Token(Box::new(call))).await.unwrap();
    // As after a restart: what the store knows is all that is known. Only the expired one is to be forgotten as such.
    let app = App::new(api.store.clone(), Plugins::default(), Box::new(|| None));
    let api = Api { router: api::router(std::sync::Arc::clone(&app)), app, ..api };
    let wrong = format!("rnr_{}", "A".repeat(43));
    for (code, token) in [
        ("no_token", None),
        ("bad_token", Some(wrong)),
        ("bad_token", Some(revoked)),
        ("expired_token", Some(expired)),
        ("unconfirmed_token", Some(suspended)),
    ] {
        callers.push(Caller { who: Who::Nobody(code), token });
    }
    (api, callers, zeta)
}

/// A path of a row, with names that nothing has.
fn sample(row: &Row) -> String {
    let path = row.path.replace("{id}", "99").replace("{n}", "99").replace("{verb}", "pause").replace("{run}", "1");
    let path = path.replace("{q}", "none").replace("{k}", "none").replace("{name}", "none").replace("{t}", "none");
    if row.path == "/v1/events" { format!("{path}?follow=false") } else { path }
}

fn request<'a>(row: &Row, path: &'a str, token: Option<&str>) -> Ask<'a> {
    let asked = ask(row.method, path).body(if row.method == "GET" { "" } else { "{}" });
    match token {
        Some(token) => asked.bearer(token),
        None => asked,
    }
}

#[track_caller]
fn check(row: &Row, who: &Who, told: &Told) {
    let (status, code) = (told.status.as_u16(), told.code());
    let cell = format!("{} {}: {status} {}", row.method, row.path, told.text);
    let let_in = |may: bool, of_all: bool| {
        if !may {
            assert_eq!((status, code.as_str()), (403, "scope"), "{cell}");
        } else if row.all_tenants && !of_all {
            assert_eq!((status, code.as_str()), (403, "all_tenants"), "{cell}");
        } else {
            assert!(
                status != 401 && status != 500 && !["scope", "all_tenants", "no_route"].contains(&code.as_str()),
                "{cell}"
            );
            assert!(status != 405 || ["/v1/queues/{q}", "/v1/plugins/{name}"].contains(&row.path), "{cell}");
        }
    };
    match who {
        _ if row.open => assert!(!["scope", "no_token", "no_route", "no_row"].contains(&code.as_str()), "{cell}"),
        Who::Nobody(expected) => {
            assert_eq!((status, code.as_str()), (401, *expected), "{cell}");
            let how = told.headers["www-authenticate"].to_str().unwrap();
            assert_eq!(how.contains("invalid_token"), *expected != "no_token", "{cell}: {how}");
        }
        Who::Scope(scope) => let_in(row.scopes.contains(scope), *scope == TokenScope::Admin),
        Who::ReadsAll => let_in(row.scopes.contains(&TokenScope::Read), true),
    }
    assert_eq!(told.headers["x-content-type-options"], "nosniff", "{cell}");
    assert_eq!(told.headers["cache-control"], "no-store", "{cell}");
}

#[tokio::test]
async fn every_route_opens_to_whom_the_table_names_and_to_nobody_else() {
    let (api, callers, _) = world().await;
    let router = api.behind(Guard::Network);
    let mut cells = 0;
    for row in ROWS {
        for Caller { who, token } in &callers {
            // Each signs nobody out but itself.
            let path = sample(row);
            let told = request(row, &path, token.as_deref()).of(&router).await;
            check(row, who, &told);
            cells += 1;
        }
    }
    assert_eq!(cells, ROWS.len() * callers.len());
    assert_eq!(callers.len(), TokenScope::ALL.len() + 1 + 5);
}

/// One of everything, of a tenant; each has the mark in its name.
async fn furnish(api: &Api, tenant: &str) -> String {
    let post = async |path: &str, body: serde_json::Value| {
        let asked = ask("POST", path).with("runner-tenant", tenant).body(body.to_string());
        let told = asked.of(&api.router).await;
        assert!(told.status.is_success(), "{path}: {}", told.text);
        told
    };
    let job = json!({"kind": MARK, "queue": MARK, "args": MARK, "tags": {"k": MARK}, "hold": true});
    let id = post("/v1/jobs", job).await.json()["id"].as_str().unwrap().to_owned();
    post("/v1/schedules", json!({"name": MARK, "every": "1h", "kind": MARK})).await;
    post(&format!("/v1/queues/{MARK}/pause"), json!({})).await;
    post(&format!("/v1/kinds/{MARK}/pause"), json!({})).await;
    post("/v1/jobs/release", json!({"kind": "nothing"})).await;
    id
}

/// What is another tenant's answers as what is nobody's: the same status, the same words.
#[tokio::test]
async fn another_tenants_things_answer_as_things_that_are_not_there() {
    let (api, callers, _) = world().await;
    let id = furnish(&api, "zeta").await;
    let router = api.behind(Guard::Network);
    let before = ask("GET", &format!("/v1/jobs/{id}")).with("runner-tenant", "zeta").of(&api.router).await.text;
    let mut compared = 0;
    for row in ROWS.iter().filter(|row| row.path.contains('{') && !row.path.starts_with("/v1/tokens")) {
        for Caller { token, who } in &callers {
            if matches!(who, Who::Scope(TokenScope::Admin) | Who::ReadsAll) {
                continue;
            }
            let fill = |id: &str, name: &str, operation: &str, tenant: &str| {
                let path = row.path.replace("{id}", id).replace("{n}", operation).replace("{verb}", "resume");
                let path = path.replace("{run}", "1");
                ["{q}", "{k}", "{name}"].iter().fold(path, |path, part| path.replace(part, name)).replace("{t}", tenant)
            };
            let (theirs, nobodys) = (fill(&id, MARK, "1", "zeta"), fill("98", "none-secret", "98", "nemo"));
            let theirs = request(row, &theirs, token.as_deref()).of(&router).await;
            let nobodys = request(row, &nobodys, token.as_deref()).of(&router).await;
            let plain = |told: &Told| {
                let text = told.text.replace(MARK, "?").replace("none-secret", "?").replace("zeta", "?");
                (told.status, text.replace("nemo", "?"))
            };
            assert_eq!(plain(&theirs), plain(&nobodys), "{} {}", row.method, row.path);
            compared += 1;
        }
    }
    assert!(compared > 200, "{compared}");
    let after = ask("GET", &format!("/v1/jobs/{id}")).with("runner-tenant", "zeta").of(&api.router).await.text;
    assert_eq!(before, after, "nothing was done to it");
}

/// No answer to one tenant has anything of another's, whatever it asks for and names.
#[tokio::test]
async fn no_answer_has_anything_of_another_tenant() {
    let (api, callers, _) = world().await;
    furnish(&api, "zeta").await;
    let router = api.behind(Guard::Network);
    for row in ROWS {
        for Caller { token, who } in &callers {
            if matches!(who, Who::Scope(TokenScope::Admin) | Who::ReadsAll) {
                continue;
            }
            let path = sample(row);
            let told = request(row, &path, token.as_deref()).of(&router).await;
            assert!(!told.text.contains(MARK), "{} {}: {}", row.method, row.path, told.text);
            assert!(!told.text.contains("zeta"), "{} {}: {}", row.method, row.path, told.text);
            let named = request(row, &path, token.as_deref()).with("runner-tenant", "zeta").of(&router).await;
            assert!(!named.text.contains(MARK), "{} {}: {}", row.method, row.path, named.text);
            let nemo = request(row, &path, token.as_deref()).with("runner-tenant", "nemo").of(&router).await;
            if row.of_tenant {
                assert!(named.status.is_client_error(), "{} {}: {}", row.method, row.path, named.text);
                assert_eq!((named.status, named.text), (nemo.status, nemo.text), "{} {}", row.method, row.path);
            }
        }
    }
}

/// A route that is added without a row answers nobody, not even the store's owner.
#[tokio::test]
async fn a_route_without_a_row_answers_nobody() {
    let new = axum::Router::new()
        .route("/v1/new", get(|| async { "secret" }))
        .layer(axum::middleware::from_fn(api::access::authorize));
    ask("GET", "/v1/new").of(&new).await.check(500, "no_row");
}

/// The table and the router have the same routes, read from the router's own lines.
#[test]
fn the_table_has_the_routers_routes_and_no_others() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
    let text = std::fs::read_to_string(folder.join("mod.rs")).unwrap();
    let mut routes = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
        let (path, methods) = line.split_once('"').unwrap();
        for method in ["get", "post", "put", "patch", "delete"] {
            if methods.contains(&format!(" {method}(")) || methods.contains(&format!(".{method}(")) {
                routes.insert((method.to_uppercase(), path.to_owned()));
            }
        }
    }
    assert!(routes.len() > 50, "{routes:?}");
    let rows: BTreeSet<_> = ROWS.iter().map(|row| (row.method.to_owned(), row.path.to_owned())).collect();
    assert_eq!(routes, rows);
    assert_eq!(table::shown().lines().count(), ROWS.len() + 1);
}
