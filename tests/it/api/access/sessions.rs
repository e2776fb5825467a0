//! Browsers: a cookie instead of a token, which no script reads, which no other site's page can use, and which ends.

use axum::Router;
use runner_runtime::api::guard::Guard;
use runner_store::job::TenantId;
use runner_store::token::{TokenHash, TokenScope};
use serde_json::json;

use super::{Ask, Told, ask};
use crate::api::Api;

/// Signs in; what the browser sends from then on.
async fn sign_in(router: &Router, host: &str, token: &str) -> (Told, String) {
    let asked = ask("POST", "/v1/session").with("host", host).body(json!({ "token": token }).to_string());
    let told = asked.of(router).await;
    assert_eq!(told.status, 201, "{}", told.text);
    let cookie = told.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    (told, cookie)
}

fn post<'a>() -> Ask<'a> {
    ask("POST", "/v1/jobs").body(r#"{"kind": "a", "hold": true}"#)
}

#[tokio::test]
async fn a_browser_signs_in_and_out() {
    let api = Api::new();
    let token = api.token(Some(TenantId::DEFAULT), &[TokenScope::Operate]).await;
    let router = api.behind(Guard::Loopback);
    let (told, cookie) = sign_in(&router, "localhost:7070", &token).await;
    let set = told.headers["set-cookie"].to_str().unwrap();
    assert!(set.starts_with("runner=") && set.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"), "{set}");
    assert!(!set.contains(&token) && !told.text.contains(&token));
    assert_eq!((&told.json()["tenant"], &told.json()["by"]), (&json!("default"), &json!("token")));

    assert_eq!(ask("GET", "/v1/jobs").with("cookie", cookie.clone()).of(&router).await.status, 200);
    post().with("cookie", cookie.clone()).of(&router).await.check(403, "wrong_origin");
    for origin in ["http://evil.example", "null", "http://localhost:8080"] {
        post().with("cookie", cookie.clone()).with("origin", origin).of(&router).await.check(403, "wrong_origin");
    }
    let ours = post().with("cookie", cookie.clone()).with("origin", "http://localhost:7070").of(&router).await;
    assert_eq!(ours.status, 201, "{}", ours.text);
    for wrong in ["runner=x".to_owned(), format!("{cookie}x"), "runner=".to_owned()] {
        ask("GET", "/v1/jobs").with("cookie", wrong).of(&router).await.check(401, "session_over");
    }

    let out = ask("DELETE", "/v1/session").with("cookie", cookie.clone()).with("origin", "http://localhost:7070");
    let out = out.of(&router).await;
    assert_eq!(out.status, 204);
    assert!(out.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    ask("GET", "/v1/jobs").with("cookie", cookie).of(&router).await.check(401, "session_over");
    // The token itself goes on.
    assert_eq!(ask("GET", "/v1/jobs").bearer(&token).of(&router).await.status, 200);
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let api = Api::new();
    let token = api.token(Some(TenantId::DEFAULT), &[TokenScope::Operate]).await;
    let router = api.behind(Guard::Loopback);
    let (_, cookie) = sign_in(&router, "localhost:7070", &token).await;
    api.access().tokens().revoke(&api.store, &TokenHash::of(&token).id()).await.unwrap();
    ask("GET", "/v1/jobs").with("cookie", cookie).of(&router).await.check(401, "session_over");
    let again = ask("POST", "/v1/session").body(json!({ "token": token }).to_string()).of(&router).await;
    again.check(401, "bad_token");
}

/// Where it is not a loopback address, the cookie goes over TLS only.
#[tokio::test]
async fn a_cookie_is_secure_except_on_loopback() {
    let api = Api::new();
    let token = api.token(Some(TenantId::DEFAULT), &[TokenScope::Read]).await;
    let router = api.public("https://runner.example.com");
    let (told, cookie) = sign_in(&router, "runner.example.com", &token).await;
    let set = told.headers["set-cookie"].to_str().unwrap();
    assert!(set.starts_with("__Host-runner=") && set.ends_with("; Secure"), "{set}");
    let get = ask("GET", "/v1/jobs").with("host", "runner.example.com").with("cookie", cookie);
    assert_eq!(get.of(&router).await.status, 200);
}

#[tokio::test]
async fn signing_in_takes_a_token_from_a_page_of_ours() {
    let api = Api::new();
    let token = api.token(Some(TenantId::DEFAULT), &[TokenScope::Read]).await;
    let router = api.behind(Guard::Loopback);
    let sign_in = |body: serde_json::Value| ask("POST", "/v1/session").body(body.to_string());
    sign_in(json!({})).of(&router).await.check(422, "invalid");
    sign_in(json!({"token": 7})).of(&router).await.check(422, "invalid");
    sign_in(json!({"token": "rnr_wrong"})).of(&router).await.check(401, "bad_token");
    sign_in(json!({"token": "x".repeat(10_000)})).of(&router).await.check(400, "malformed");
    let right = || sign_in(json!({ "token": token }));
    right().with("origin", "http://evil.example").of(&router).await.check(403, "wrong_origin");
    right().with("host", "evil.example").of(&router).await.check(403, "wrong_host");
    right().with("content-type", "text/plain").of(&router).await.check(415, "media_type");
    assert_eq!(right().with("origin", "http://localhost:7070").of(&router).await.status, 201);
}
