//! External workers with tokens: each takes its own tenant's runs, and speaks for no other's.

use runner_runtime::api::guard::Guard;
use runner_store::job::TenantId;
use runner_store::token::TokenScope;
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
