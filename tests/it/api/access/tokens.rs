//! `/v1/tokens`: made once, shown once, worth what they say, and nothing any more once they are revoked.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use runner_runtime::api::guard::Guard;
use runner_store::clock::Clock;
use runner_store::job::{Millis, TenantId};
use runner_store::token::{TokenHash, TokenScope};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::ask;
use crate::api::Api;
use crate::api::stream::Coming;

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_token_is_made_shown_once_used_and_revoked() {
    let api = Api::new();
    api.tenant("acme").await;
    let router = api.behind(Guard::Network);
    let asked = json!({"name": "shop", "scopes": ["read", "enqueue"], "tenant": "acme", "expires_in": "90d"});
    let made = ask("POST", "/v1/tokens").body(asked.to_string()).of(&api.router).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    let (token, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    assert!(token.starts_with("rnr_") && token.len() == 47, "{token}");
    assert_eq!((&made["tenant"], &made["scopes"]), (&json!("acme"), &json!(["enqueue", "read"])));
    assert_eq!((&made["state"], &made["last_used_at"]), (&json!("active"), &Value::Null));

    let job = ask("POST", "/v1/jobs").bearer(token).body(r#"{"kind": "a"}"#).of(&router).await;
    assert_eq!(job.status, 201, "{}", job.text);
    let shown = ask("GET", &format!("/v1/jobs/{}", job.json()["id"].as_str().unwrap())).bearer(token).of(&router).await;
    assert_eq!(shown.json()["tenant"], "acme");
    ask("POST", "/v1/jobs/1/cancel").bearer(token).of(&router).await.check(403, "scope");

    let listed = ask("GET", "/v1/tokens").of(&api.router).await;
    assert!(!listed.text.contains(token), "{}", listed.text);
    let listed = listed.json();
    assert_eq!((&listed["tokens"][0]["id"], &listed["tokens"][0]["source"]), (&json!(id), &json!("store")));
    assert_ne!(listed["tokens"][0]["last_used_at"], Value::Null);
    let other = ask("GET", "/v1/tokens").with("runner-tenant", "default").of(&api.router).await;
    assert_eq!(other.json()["tokens"], json!([]));

    let path = format!("/v1/tokens/{id}");
    assert_eq!(ask("DELETE", &path).of(&api.router).await.status, 204);
    ask("DELETE", &path).of(&api.router).await.check(404, "not_found");
    ask("GET", "/v1/jobs").bearer(token).of(&router).await.check(401, "bad_token");
}

#[tokio::test]
async fn what_is_no_token_is_refused_by_its_field() {
    let api = Api::new();
    let right = json!({"name": "a", "scopes": ["read"]});
    for (field, value, code, words) in [
        ("name", Value::Null, 422, "is missing"),
        ("name", json!(""), 422, "1 to 100 bytes"),
        ("scopes", Value::Null, 422, "a list of admin, operate, deploy"),
        ("scopes", json!([]), 422, "at least one scope"),
        ("scopes", json!(["read", "read"]), 422, "each once"),
        ("scopes", json!(["root"]), 422, "is no scope"),
        ("scopes", json!("read"), 422, "must be a list"),
        ("tenant", json!("nemo"), 404, "no tenant `nemo`"),
        ("expires_in", json!("5"), 422, "has no unit"),
        ("expires_in", json!("0s"), 422, "has passed"),
        ("expires_at", json!("1999-01-01T00:00:00Z"), 422, "has passed"),
        ("scope", json!(["read"]), 422, "did you mean `scopes`?"),
    ] {
        let mut body = right.clone();
        body[field] = value;
        let told = ask("POST", "/v1/tokens").body(body.to_string()).of(&api.router).await;
        assert_eq!(told.status.as_u16(), code, "{}", told.text);
        assert!(told.text.contains(words) && told.text.contains("\"field\""), "{words}: {}", told.text);
    }
    assert!(api.access().tokens().is_empty());
    // Who may only look may be of all tenants; who may do something is of one.
    for (scope, allowed) in [("read", true), ("admin", true), ("operate", false), ("enqueue", false), ("work", false)] {
        let body = json!({"name": "a", "scopes": [scope], "tenant": null});
        let told = ask("POST", "/v1/tokens").body(body.to_string()).of(&api.router).await;
        assert_eq!(told.status.is_success(), allowed, "{scope}: {}", told.text);
    }
}

/// A stream that somebody follows, and an end that somebody waits for, end with the token behind them.
#[tokio::test]
async fn a_revoked_token_ends_what_it_had_begun() {
    let api = Api::new();
    let token = api.token(Some(TenantId::DEFAULT), &[TokenScope::Operate]).await;
    let router = api.behind(Guard::Network);
    let asked = ask("POST", "/v1/jobs").bearer(&token).body(r#"{"kind": "a", "hold": true}"#);
    assert_eq!(asked.of(&router).await.status, 201);
    let follow = ask("GET", "/v1/events").bearer(&token).request();
    let response = TowerToHyperService::new(router.clone()).call(follow).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut events = response.into_body();
    let first = tokio::time::timeout(LONG, events.frame()).await.unwrap().unwrap().unwrap();
    assert!(String::from_utf8_lossy(first.data_ref().unwrap()).contains("event: enqueued"));
    let wait = ask("GET", "/v1/jobs/1/wait?timeout=60s").bearer(&token).of(&router);
    let mut wait = Box::pin(wait);
    // Polled until it waits.
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut wait).await.is_err());

    api.access().tokens().revoke(&api.store, &TokenHash::of(&token).id()).await.unwrap();
    let rest = tokio::time::timeout(LONG, events.collect()).await.expect("the stream ends").unwrap().to_bytes();
    assert!(rest.is_empty(), "{rest:?}");
    tokio::time::timeout(LONG, wait).await.expect("the wait ends").check(401, "bad_token");
    ask("GET", "/v1/jobs").bearer(&token).of(&router).await.check(401, "bad_token");
}

/// The story: a stream of lines has no end of its own, and enqueued on after its token was revoked.
#[tokio::test]
async fn a_revoked_token_ends_a_stream_of_lines_behind_the_last_that_was_accepted() {
    let api = Api::new();
    let token = api.token(Some(TenantId::DEFAULT), &[TokenScope::Enqueue]).await;
    let (send, come) = mpsc::unbounded_channel();
    let request = Request::post("/v1/jobs").header("host", "localhost").header("content-type", "application/x-ndjson");
    let request = request.header("authorization", format!("Bearer {token}")).body(Body::new(Coming(come))).unwrap();
    let response = TowerToHyperService::new(api.behind(Guard::Network)).call(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut answers = response.into_body();
    let mut next = async || {
        let page = tokio::time::timeout(LONG, answers.frame()).await.expect("an answer")?.unwrap().into_data().unwrap();
        Some(serde_json::from_slice::<Value>(&page).unwrap())
    };
    send.send(Ok(Bytes::from_static(b"{\"kind\": \"a\"}\n"))).unwrap();
    assert_eq!(next().await.unwrap()["id"], "1");
    api.access().tokens().revoke(&api.store, &TokenHash::of(&token).id()).await.unwrap();
    _ = send.send(Ok(Bytes::from_static(b"{\"kind\": \"a\"}\n")));
    let last = next().await.unwrap();
    assert_eq!((&last["line"], &last["problem"]["code"]), (&json!(1), &json!("bad_token")), "{last}");
    assert_eq!(next().await, None);
    assert_eq!(api.get("/v1/jobs/count").await.json()["total"], 1);
}

/// The same by time.
#[tokio::test]
async fn a_token_that_expires_ends_what_it_had_begun() {
    let api = Api::new();
    let until = Clock::System.now().after(Millis(300));
    let token = api.token_until(Some(TenantId::DEFAULT), &[TokenScope::Read], Some(until)).await;
    let router = api.behind(Guard::Network);
    let follow = ask("GET", "/v1/events").bearer(&token).request();
    let response = TowerToHyperService::new(router.clone()).call(follow).await.unwrap();
    if response.status() == 200 {
        // On a machine that takes longer than that to come here it has expired already.
        tokio::time::timeout(LONG, response.into_body().collect()).await.expect("the stream ends").unwrap();
    }
    assert!(Clock::System.now() >= until);
    ask("GET", "/v1/jobs").bearer(&token).of(&router).await.check(401, "expired_token");
}

/// The token that a server was started with is an admin's, is in no store, and goes with the process.
#[tokio::test]
async fn the_first_token_is_the_processs_own() {
    let api = Api::new();
    let text = "a-secret-that-an-operator-has-chosen-0123";
    api.access().tokens().add_of_process(text, "RUNNER_ADMIN_TOKEN", Clock::System.now());
    let router = api.behind(Guard::Network);
    let listed = ask("GET", "/v1/tokens").bearer(text).of(&router).await;
    assert_eq!(listed.status, 200, "{}", listed.text);
    let listed = listed.json();
    assert_eq!((&listed["tokens"][0]["source"], &listed["tokens"][0]["tenant"]), (&json!("environment"), &Value::Null));
    let id = listed["tokens"][0]["id"].as_str().unwrap();
    ask("DELETE", &format!("/v1/tokens/{id}")).bearer(text).of(&router).await.check(409, "from_environment");
    // And the loopback address is not open beside it.
    ask("GET", "/v1/jobs").of(&api.behind(Guard::Loopback)).await.check(401, "no_token");
}

#[tokio::test]
async fn a_token_comes_in_its_header_once_and_whole() {
    let api = Api::new();
    let token = api.token(Some(TenantId::DEFAULT), &[TokenScope::Read]).await;
    let router = api.behind(Guard::Network);
    for (value, allowed) in [
        (format!("Bearer {token}"), true),
        (format!("bearer  {token} "), true),
        (format!("Bearer {}", &token[..46]), false),
        (format!("Bearer {token}x"), false),
        (format!("Bearer {}", token.to_lowercase()), false),
        (token.clone(), false),
        (format!("Basic {token}"), false),
        ("Bearer ".to_owned(), false),
        (format!("Bearer {}", "x".repeat(5_000)), false),
    ] {
        let told = ask("GET", "/v1/jobs").with("authorization", value.clone()).of(&router).await;
        assert_eq!(told.status == 200, allowed, "{value}: {}", told.text);
        if !allowed {
            told.check(401, "bad_token");
        }
    }
    let twice = Request::get("/v1/jobs").header("host", "localhost").header("authorization", format!("Bearer {token}"));
    let twice = twice.header("authorization", format!("Bearer {token}")).body(axum::body::Body::empty()).unwrap();
    assert_eq!(TowerToHyperService::new(router.clone()).call(twice).await.unwrap().status(), 401);
    // Not in a URL, where whoever is on the way writes it down.
    for path in [format!("/v1/jobs?token={token}"), format!("/v1/jobs?access_token={token}")] {
        ask("GET", &path).of(&router).await.check(401, "no_token");
    }
}
