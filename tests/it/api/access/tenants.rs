//! `/v1/tenants`: made, looked at, limited, deleted; and to one tenant there is no other.

use runner_runtime::api::guard::Guard;
use runner_store::token::{TokenHash, TokenScope};
use serde_json::{Value, json};

use super::{Told, ask};
use crate::api::Api;

async fn send(api: &Api, method: &str, path: &str, body: Value) -> Told {
    ask(method, path).body(if body.is_null() { String::new() } else { body.to_string() }).of(&api.router).await
}

/// The story of `b`: its limits were refused, and it was there all the same.
#[tokio::test]
async fn a_tenant_is_made_limited_and_deleted() {
    let api = Api::new();
    let made = send(&api, "POST", "/v1/tenants", json!({"name": "acme", "concurrency": 4, "fuel": "2_000G/1h"})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    assert_eq!((&made["concurrency"], &made["fuel"], &made["configured"]), (&json!(4), &json!("2T/1h"), &json!(false)));
    assert_eq!(made["sources"], json!({"concurrency": "set", "fuel": "set", "memory_bytes": "default"}));
    send(&api, "POST", "/v1/tenants", json!({"name": "acme"})).await.check(409, "exists");
    send(&api, "POST", "/v1/tenants", json!({"name": "default"})).await.check(409, "exists");
    for (body, words) in [
        (json!({}), "is missing"),
        (json!({"name": "Acme"}), "lower case"),
        (json!({"name": "a/b"}), "a/b"),
        (json!({"name": "b", "concurrency": 0}), "at least 1"),
        (json!({"name": "b", "memory_bytes": 0}), "at least 1 byte"),
        (json!({"name": "b", "fuel": "5G"}), "names no period"),
        (json!({"name": "b", "fuel": "5G/10ms"}), "at least 1s"),
        (json!({"name": "b", "capacty": 5}), "did you mean `capacity`?"),
    ] {
        let told = send(&api, "POST", "/v1/tenants", body).await;
        told.check(422, "invalid");
        assert!(told.text.contains(words), "{words}: {}", told.text);
    }
    send(&api, "GET", "/v1/tenants/b", Value::Null).await.check(404, "no_tenant");
    let set = json!({"capacity": 1, "concurrency": null, "memory_bytes": "1GiB", "keep_completed": "1d"});
    let set = send(&api, "PATCH", "/v1/tenants/acme", set).await.json();
    assert_eq!(
        (&set["capacity"], &set["concurrency"], &set["keep_completed"]),
        (&json!(1), &Value::Null, &json!("1d"))
    );
    assert_eq!((&set["memory_bytes"], &set["fuel"]), (&json!(1_u64 << 30), &json!("2T/1h")), "what is not said stays");
    let names = |told: Told| -> Vec<String> {
        let tenants = told.json()["tenants"].clone();
        tenants.as_array().unwrap().iter().map(|tenant| tenant["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(send(&api, "GET", "/v1/tenants", Value::Null).await), ["acme", "default"]);

    let job = ask("POST", "/v1/jobs").with("runner-tenant", "acme").body(r#"{"kind": "a"}"#);
    assert_eq!(job.of(&api.router).await.status, 201);
    let second = ask("POST", "/v1/jobs").with("runner-tenant", "acme").body(r#"{"kind": "a"}"#);
    second.of(&api.router).await.check(429, "full");
    let acme = api.store.tenant_id("acme").unwrap();
    let token = api.token(Some(acme), &[TokenScope::Read]).await;
    let refused = send(&api, "DELETE", "/v1/tenants/acme", Value::Null).await;
    refused.check(409, "tenant_not_empty");
    assert!(refused.text.contains("1 jobs, 1 tokens"), "{}", refused.text);
    let gone = ask("DELETE", "/v1/jobs/1").with("runner-tenant", "acme").of(&api.router).await;
    assert_eq!(gone.status, 204, "{}", gone.text);
    api.access().tokens().revoke(&api.store, &TokenHash::of(&token).id()).await.unwrap();
    let deleted = send(&api, "DELETE", "/v1/tenants/acme", Value::Null).await;
    assert_eq!(deleted.status, 204, "{}", deleted.text);

    for (method, path) in [("GET", "/v1/tenants/acme"), ("PATCH", "/v1/tenants/acme"), ("DELETE", "/v1/tenants/acme")] {
        send(&api, method, path, json!({})).await.check(404, "no_tenant");
    }
    ask("GET", "/v1/jobs").with("runner-tenant", "acme").of(&api.router).await.check(404, "no_tenant");
    let body = json!({"name": "a", "scopes": ["read"], "tenant": "acme"});
    send(&api, "POST", "/v1/tokens", body).await.check(404, "no_tenant");
    assert_eq!(names(send(&api, "GET", "/v1/tenants", Value::Null).await), ["default"]);
    let again = send(&api, "POST", "/v1/tenants", json!({"name": "acme"})).await;
    assert_eq!(again.status, 201, "{}", again.text);
    assert_eq!((&again.json()["capacity"], &again.json()["states"]), (&json!(10_000_000), &json!({})));
    assert_eq!(api.store.tenant_id("acme"), Some(acme), "a name keeps its number");
}

#[tokio::test]
async fn the_default_tenant_and_those_of_the_configuration_are_not_deleted() {
    let api = Api::new();
    send(&api, "DELETE", "/v1/tenants/default", Value::Null).await.check(409, "from_configuration");
}

#[tokio::test]
async fn to_one_tenant_there_is_no_other() {
    let api = Api::new();
    let acme = api.tenant("acme").await;
    api.tenant("zeta").await;
    let token = api.token(Some(acme), &[TokenScope::Read]).await;
    let router = api.behind(Guard::Network);
    let get = |path: &'static str| ask("GET", path).bearer(&token).of(&router);
    assert_eq!(get("/v1/tenants/acme").await.json()["name"], "acme");
    let (zeta, nemo) = (get("/v1/tenants/zeta").await, get("/v1/tenants/nemo").await);
    zeta.check(404, "no_tenant");
    assert_eq!(zeta.text.replace("zeta", "?"), nemo.text.replace("nemo", "?"));
    get("/v1/tenants").await.check(403, "scope");
}
