//! Whose jobs a call is about, and that nobody reaches another tenant's.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Extension;
use axum::http::Method;
use runner_runtime::api::access::Caller;
use runner_runtime::api::plugins::Plugins;
use runner_runtime::api::{self, App};
use runner_runtime::wasm::catalog::{Loading, LoadingState, Serving};
use runner_runtime::wasm::folder::{Problem, Registry, Report, TENANT_DEFAULT};
use runner_runtime::wasm::{Catalog, Host, HostSettings, Manifest};
use runner_store::command::{Command, Name, NameClass, Reply};
use runner_store::job::TenantId;
use serde_json::{Value, json};

use super::{Answer, Api};
use crate::sandbox::guests::command;

const JSON: (&str, &str) = ("content-type", "application/json");

impl Api {
    async fn named(tenant: &str) -> Self {
        let api = Self::new();
        let name = Name { tenant: TenantId::NONE, class: NameClass::Tenant, name: tenant.to_owned() };
        let reply = api.store.call(Command::Name(name)).await.unwrap();
        assert!(matches!(reply, Reply::Named(_)), "{reply:?}");
        api
    }

    async fn of(&self, tenant: &str, method: Method, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.send(method, path, &[JSON, ("runner-tenant", tenant)], body).await
    }
}

/// Another tenant's job is unknown, in the same words as one that never was, whatever is asked of it.
#[tokio::test]
async fn a_tenant_sees_and_changes_its_own_jobs_only() {
    let api = Api::named("acme").await;
    let own = api.enqueue(&json!({"kind": "a", "queue": "q", "tags": {"k": "v"}})).await;
    let answer = api.of("acme", Method::POST, "/v1/jobs", &json!({"kind": "a", "queue": "q"})).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let theirs = answer.json()["id"].as_str().unwrap().to_owned();
    for (tenant, id, other) in [("acme", &theirs, &own), ("default", &own, &theirs)] {
        let get = async |path: &str| api.of(tenant, Method::GET, path, &Value::Null).await;
        let page = get("/v1/jobs").await.json();
        assert_eq!(page["jobs"].as_array().unwrap().len(), 1, "{page}");
        assert_eq!((&page["jobs"][0]["id"], &page["jobs"][0]["tenant"]), (&json!(id), &json!(tenant)));
        assert_eq!(get("/v1/jobs/count").await.json()["total"], 1);
        assert_eq!(get("/v1/queues/q").await.json()["states"], json!({"available": 1}));
        assert_eq!(get(&format!("/v1/jobs/{id}")).await.status, 200);
        let unknown = get("/v1/jobs/99").await.text();
        for path in ["", "/output", "/why", "/graph", "/wait?timeout=1s"] {
            let answer = get(&format!("/v1/jobs/{other}{path}")).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (404, unknown.clone()), "{path}");
        }
        for verb in ["cancel", "retry", "release", "reschedule"] {
            let answer = api.of(tenant, Method::POST, &format!("/v1/jobs/{other}/{verb}"), &json!({})).await;
            assert_eq!(answer.status, if verb == "reschedule" { 422 } else { 404 }, "{verb}: {}", answer.text());
        }
        let gone = api.of(tenant, Method::DELETE, &format!("/v1/jobs/{other}"), &Value::Null).await;
        assert_eq!(gone.status, 404);
        let waits = json!({"kind": "a", "depends_on": [other]});
        let refused = api.of(tenant, Method::POST, "/v1/jobs", &waits).await;
        assert_eq!(refused.status, 422, "a dependency of another tenant is unknown: {}", refused.text());
        let matched = json!({"all": true, "dry_run": true});
        let matched = api.of(tenant, Method::POST, "/v1/jobs/delete", &matched).await.json();
        assert_eq!(matched, json!({"matched": 1}));
        let events = get("/v1/events?follow=false").await.text();
        assert!(events.contains(&format!("\"job\":\"{id}\"")) && !events.contains(&format!("\"job\":\"{other}\"")));
    }
}

#[tokio::test]
async fn a_tenant_is_named_rightly_and_where_its_owner_asks() {
    let mut api = Api::named("acme").await;
    let answer = api.of("acmee", Method::GET, "/v1/jobs", &Value::Null).await;
    answer.check_refused(404, "no_tenant", Some("Runner-Tenant"), "did you mean `acme`?");
    let twice = [("runner-tenant", "acme"), ("runner-tenant", "default")];
    let answer = api.send(Method::GET, "/v1/jobs", &twice, "").await;
    answer.check_refused(422, "invalid", Some("Runner-Tenant"), "given twice");
    let open = api.router.clone();
    for (caller, allowed) in [(Caller::loopback(), false), (Caller::owner(), true), (Caller::anyone(), true)] {
        let by = format!("{:?}", caller.by);
        api.router = open.clone().layer(Extension(caller));
        let answer = api.of("acme", Method::GET, "/v1/jobs", &Value::Null).await;
        if allowed {
            assert_eq!(answer.status, 200, "{by}");
        } else {
            answer.check_refused(403, "not_allowed", Some("Runner-Tenant"), "unix socket");
        }
        assert_eq!(api.of("default", Method::GET, "/v1/jobs", &Value::Null).await.status, 200, "{by}");
    }
}

/// Of each tenant a plugin that is loaded, one that is broken, and one that is still to be compiled.
fn plugins_of(tenants: &[(&str, &str)]) -> Plugins {
    let host = Host::new(&HostSettings::default()).unwrap();
    let mut serving = Serving { registry: Registry::default(), ..Serving::default() };
    for (tenant, folder) in tenants {
        let plugin = host.compile(&format!("{tenant}-loaded"), &command(""), Manifest::default()).unwrap();
        serving.registry.add(tenant, Arc::new(plugin));
        let file = |name: &str| PathBuf::from(format!("plugins/{folder}{tenant}-{name}.wasm"));
        let problem = Problem::NameTwice { first: file("first") };
        serving.reports.push(Arc::new(Report { path: file("broken"), problem }));
        let (tenant, name) = ((*tenant).to_owned(), format!("{tenant}-loading"));
        serving.loading.push(Loading { tenant, name, state: LoadingState::Queued });
    }
    Plugins::of_node(Catalog::new(serving))
}

/// A plugin's name, its kinds and what is wrong with it are its tenant's own affair.
#[tokio::test]
async fn a_tenant_is_shown_its_own_plugins_only() {
    let api = Api::named("acme").await;
    // What lies in no tenant's folder is the default's.
    let plugins = plugins_of(&[(TENANT_DEFAULT, ""), ("acme", "acme/")]);
    let app = App::new(api.store.clone(), plugins, Box::new(|| None));
    let open = api::router(Arc::clone(&app));
    let mut api = Api { router: open.clone(), app, ..api };
    let shows = async |api: &Api, header: Option<&str>, expected: &[&str]| {
        let header = header.map(|tenant| ("runner-tenant", tenant));
        let shown = api.send(Method::GET, "/v1/plugins", header.as_slice(), "").await;
        for tenant in ["default", "acme"] {
            for what in ["loaded", "broken", "loading"] {
                let told = shown.text().contains(&format!("{tenant}-{what}"));
                assert_eq!(told, expected.contains(&tenant), "{tenant}-{what}, asked as {header:?}: {}", shown.text());
            }
        }
    };
    for caller in [Caller::owner(), Caller::anyone()] {
        api.router = open.clone().layer(Extension(caller));
        shows(&api, Some("acme"), &["acme"]).await;
        shows(&api, Some("default"), &["default"]).await;
    }
    // Whoever owns the store sees all of it; whoever comes by the network is the default tenant.
    api.router = open.clone().layer(Extension(Caller::owner()));
    shows(&api, None, &["default", "acme"]).await;
    api.router = open.layer(Extension(Caller::loopback()));
    shows(&api, None, &["default"]).await;
    let refused = api.of("acme", Method::GET, "/v1/plugins", &Value::Null).await;
    refused.check_refused(403, "not_allowed", Some("Runner-Tenant"), "unix socket");
}
