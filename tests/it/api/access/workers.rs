//! External workers with tokens: each takes its own tenant's runs, and speaks for no other's.

use std::sync::Arc;
use std::time::Duration;

use runner_runtime::api::guard::Guard;
use runner_store::job::TenantId;
use runner_store::token::{TokenHash, TokenScope};
use serde_json::{Value, json};

use super::ask;
use crate::api::lease::Site;

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_token_takes_its_tenants_runs_and_no_others() {
    let site = Site::new().await;
    let api = &site.api;
    let acme = api.tenant("acme").await;
    let router = api.behind(Guard::Network);
    let worker = api.token(Some(acme), &[TokenScope::Work]).await;
    let other = api.token(Some(TenantId::DEFAULT), &[TokenScope::Work]).await;
    let job = json!({"kind": "render", "args": {"of": "acme"}}).to_string();
    let made = ask("POST", "/v1/jobs").with("runner-tenant", "acme").body(job).of(&api.router).await;
    let id = made.json()["id"].as_str().unwrap().to_owned();

    let lease = json!({"kinds": ["render"], "worker": "w"}).to_string();
    let none = ask("POST", "/v1/lease").bearer(&other).body(lease.clone()).of(&router).await;
    assert_eq!(none.json(), json!({"runs": []}), "another tenant's jobs are not there");
    let given = ask("POST", "/v1/lease").bearer(&worker).body(lease).of(&router).await.json();
    let run = &given["runs"][0];
    assert_eq!((&run["id"], &run["tenant"], &run["args"]), (&json!(id), &json!("acme"), &json!({"of": "acme"})));

    let path = format!("/v1/runs/{id}/1/finish");
    let said = |token: &Value| json!({"lease_token": token, "outcome": "completed"}).to_string();
    let foreign = ask("POST", &path).bearer(&other).body(said(&run["lease_token"])).of(&router).await;
    foreign.check(409, "stale_run");
    let nobodys = ask("POST", "/v1/runs/99/1/finish").bearer(&other).body(said(&run["lease_token"])).of(&router).await;
    assert_eq!(foreign.text, nobodys.text, "as of a run that never was");
    let done = ask("POST", &path).bearer(&worker).body(said(&run["lease_token"])).of(&router).await;
    assert_eq!((done.status.as_u16(), &done.json()["state"]), (200, &json!("completed")), "{}", done.text);

    for (method, path) in [("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("POST", "/v1/jobs/1/cancel")] {
        ask(method, path).bearer(&worker).body("{}").of(&router).await.check(403, "scope");
    }
    let reader = api.token(Some(acme), &[TokenScope::Read]).await;
    ask("POST", "/v1/lease").bearer(&reader).body("{}").of(&router).await.check(403, "scope");
    site.stop().await;
}

/// The story: whoever had been told to go was still given the next job, could not say a word for it, and its lease ran out.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_token_is_revoked_waits_no_longer() {
    let site = Site::new().await;
    let api = &site.api;
    let router = api.behind(Guard::Network);
    let token = api.token(Some(TenantId::DEFAULT), &[TokenScope::Work]).await;
    let lease = json!({"kinds": ["render"], "worker": "w", "wait": "30s"}).to_string();
    let mut waits = Box::pin(ask("POST", "/v1/lease").bearer(&token).body(lease).of(&router));
    // Polled until it waits.
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut waits).await.is_err());
    api.access().tokens().revoke(&api.store, &TokenHash::of(&token).id()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), waits).await.expect("the wait ends").check(401, "bad_token");
    let made = ask("POST", "/v1/jobs").body(json!({"kind": "render"}).to_string()).of(&api.router).await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let lease = json!({"kinds": ["render"], "worker": "another", "wait": "20s"}).to_string();
    let given = ask("POST", "/v1/lease").body(lease).of(&api.router).await.json();
    assert_eq!(given["runs"][0]["id"], json!(id), "nobody else has it");
    site.stop().await;
}

/// The story: so many waited that nobody could renew or finish any more, and what they did counted as crashed.
#[tokio::test(flavor = "multi_thread")]
async fn so_many_may_wait_that_others_still_get_through() {
    let site = Arc::new(Site::new().await);
    let lease = || {
        let body = json!({"kinds": ["render"], "worker": "w", "wait": "30s"}).to_string();
        ask("POST", "/v1/lease").body(body)
    };
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..=512 {
        let site = Arc::clone(&site);
        waiting.spawn(async move { lease().of(&site.api.router).await });
    }
    // One more than may: the others wait.
    let refused = tokio::time::timeout(Duration::from_secs(20), waiting.join_next()).await.expect("one is refused");
    refused.unwrap().unwrap().check(503, "overloaded");
    let said = json!({"lease_token": "rnl_none", "outcome": "completed"}).to_string();
    ask("POST", "/v1/runs/1/1/finish").body(said).of(&site.api.router).await.check(409, "stale_run");
    waiting.shutdown().await;
    Arc::into_inner(site).expect("nobody waits any more").stop().await;
}

/// The story: what allows its kind so many jobs was not known any more when the finish was repeated, and it was refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_finish_with_many_jobs_is_repeated_like_any_other() {
    let site = Site::new().await;
    let router = &site.api.router;
    ask("POST", "/v1/jobs").body(json!({"kind": "render"}).to_string()).of(router).await;
    let lease = json!({"kinds": ["render"], "worker": "w", "wait": "20s"}).to_string();
    let token = ask("POST", "/v1/lease").body(lease).of(router).await.json()["runs"][0]["lease_token"].clone();
    let finish = async |jobs: usize| {
        let enqueue = vec![json!({"kind": "ok", "hold": true}); jobs];
        let said = json!({"lease_token": token, "outcome": "completed", "enqueue": enqueue}).to_string();
        ask("POST", "/v1/runs/1/1/finish").body(said).of(router).await
    };
    finish(151).await.check(422, "invalid");
    let first = finish(150).await;
    assert_eq!((first.status.as_u16(), first.json()["enqueued"].as_array().map(Vec::len)), (200, Some(150)));
    assert_eq!(finish(150).await.json(), first.json());
    finish(151).await.check(409, "stale_run");
    site.stop().await;
}
