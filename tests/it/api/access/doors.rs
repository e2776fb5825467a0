//! What each listener takes: Host and Origin that are forged, proxies on an open loopback address, and who is let in without a
//! token.

use runner_runtime::api::guard::Guard;
use runner_store::job::TenantId;
use runner_store::token::TokenScope;

use super::ask;
use crate::api::Api;

#[tokio::test]
async fn a_loopback_address_is_open_until_there_is_a_token() {
    let api = Api::new();
    let router = api.behind(Guard::Loopback);
    let jobs = || ask("GET", "/v1/jobs");
    assert_eq!(jobs().of(&router).await.status, 200);
    let posted = ask("POST", "/v1/jobs").body(r#"{"kind": "a", "hold": true}"#).of(&router).await;
    assert_eq!(posted.json()["id"], "1", "{}", posted.text);
    for name in ["forwarded", "x-forwarded-for", "via"] {
        jobs().with(name, "10.0.0.1").of(&router).await.check(403, "proxied");
    }
    for host in ["evil.example", "localhost.evil.example:7070", "10.0.0.1", ""] {
        jobs().with("host", host).of(&router).await.check(403, "wrong_host");
    }
    jobs().without("host").of(&router).await.check(403, "wrong_host");
    jobs().with("origin", "http://evil.example").of(&router).await.check(403, "wrong_origin");
    jobs().with("origin", "null").of(&router).await.check(403, "wrong_origin");
    assert_eq!(jobs().with("origin", "http://localhost:7070").of(&router).await.status, 200);
    // It is `operate`, of the tenant `default`.
    jobs().with("runner-tenant", "acme").of(&router).await.check(403, "not_allowed");
    for (method, path) in
        [("POST", "/v1/node/drain"), ("POST", "/v1/store/backup"), ("POST", "/v1/tokens"), ("GET", "/v1/tenants")]
    {
        ask(method, path).body("{}").of(&router).await.check(403, "scope");
    }
    assert_eq!(ask("GET", "/v1/session").of(&router).await.json()["by"], "loopback");

    let token = api.token(Some(TenantId::DEFAULT), &[TokenScope::Read]).await;
    jobs().of(&router).await.check(401, "no_token");
    // With one, also through a proxy; with a wrong one, nobody falls back to what was open.
    assert_eq!(jobs().bearer(&token).with("x-forwarded-for", "10.0.0.1").of(&router).await.status, 200);
    jobs().bearer("rnr_wrong").of(&router).await.check(401, "bad_token");
    for path in ["/healthz", "/readyz"] {
        let told = ask("GET", path).with("host", "probe.example").of(&router).await;
        assert_eq!((told.status.as_u16(), told.text.as_str()), (200, "ok\n"));
    }
}

#[tokio::test]
async fn an_address_that_others_reach_takes_tokens_only_and_its_own_name() {
    let api = Api::new();
    let router = api.public("https://runner.example.com");
    let jobs = || ask("GET", "/v1/jobs").with("host", "runner.example.com");
    jobs().of(&router).await.check(401, "no_token");
    let token = api.token(Some(TenantId::DEFAULT), &[TokenScope::Operate]).await;
    assert_eq!(jobs().bearer(&token).of(&router).await.status, 200);
    assert_eq!(jobs().bearer(&token).with("host", "RUNNER.example.com:443").of(&router).await.status, 200);
    assert_eq!(jobs().bearer(&token).with("host", "10.1.2.3:7070").of(&router).await.status, 200);
    for host in ["evil.example", "runner.example.com.evil.example", "runner.example.com:8443"] {
        jobs().bearer(&token).with("host", host).of(&router).await.check(403, "wrong_host");
    }
    for origin in
        ["http://runner.example.com.evil.example", "https://evil.example", "null", "https://runner.example.com:8443"]
    {
        jobs().bearer(&token).with("origin", origin).of(&router).await.check(403, "wrong_origin");
    }
    assert_eq!(jobs().bearer(&token).with("origin", "https://runner.example.com").of(&router).await.status, 200);
}

#[tokio::test]
async fn a_unix_socket_is_its_owners_and_a_token_makes_less_of_it() {
    let api = Api::new();
    api.tenant("acme").await;
    let router = api.behind(Guard::Socket);
    let token = api.token(Some(TenantId::DEFAULT), &[TokenScope::Read]).await;
    let tenants = || ask("GET", "/v1/tenants");
    assert_eq!(tenants().of(&router).await.status, 200);
    assert_eq!(ask("GET", "/v1/jobs").with("runner-tenant", "acme").of(&router).await.status, 200);
    tenants().bearer(&token).of(&router).await.check(403, "scope");
    ask("GET", "/v1/jobs").bearer(&token).with("runner-tenant", "acme").of(&router).await.check(403, "not_allowed");
    tenants().bearer("rnr_wrong").of(&router).await.check(401, "bad_token");
    tenants().with("origin", "http://localhost:7070").of(&router).await.check(403, "wrong_origin");
    // A cookie is a browser's, and no browser has this socket.
    assert_eq!(tenants().with("cookie", "runner=x").of(&router).await.status, 200);
}

#[tokio::test]
async fn who_lets_anyone_in_still_answers_no_foreign_page_and_writes_no_backup() {
    let api = Api::new();
    let router = api.behind(Guard::Open);
    assert_eq!(ask("GET", "/v1/tenants").with("host", "any.example").of(&router).await.status, 200);
    ask("GET", "/v1/tenants").with("origin", "http://evil.example").of(&router).await.check(403, "wrong_origin");
    ask("POST", "/v1/store/backup").body(r#"{"path": "/b"}"#).of(&router).await.check(403, "not_allowed");
    // One that shows a token is who the token says.
    let token = api.token(Some(TenantId::DEFAULT), &[TokenScope::Read]).await;
    ask("GET", "/v1/tenants").bearer(&token).of(&router).await.check(403, "scope");
}

/// What a page of ours loads and who may put it into a frame is said with every answer, refusals included.
#[tokio::test]
async fn every_answer_has_its_security_headers() {
    let api = Api::new();
    let router = api.behind(Guard::Network);
    for path in ["/v1/jobs", "/healthz", "/v1/nothing"] {
        let told = ask("GET", path).of(&router).await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(told.headers[name], value, "{path}");
        }
    }
}
