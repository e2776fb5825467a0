//! Starting exactly one job, through a node that runs.

use std::sync::Arc;

use runner_runtime::api::plugins::Plugins;
use runner_runtime::api::{self, App};
use runner_runtime::node::{Node, NodeSettings};
use runner_runtime::wasm::folder::{Registry, TENANT_DEFAULT};
use runner_runtime::wasm::{Catalog, Host, HostSettings, Manifest};
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::engine::memory::Memory;
use serde_json::{Value, json};

use super::Api;
use crate::sandbox::guests::{handler, says};

/// An API with a node behind it that serves `ok`, which completes, and `spin`, which never ends.
async fn with_node(slots: u32) -> (Api, Node) {
    let (store, _writer) = Handle::start(Box::new(Memory::new(Clock::System))).unwrap();
    let host = Arc::new(Host::new(&HostSettings::default()).unwrap());
    let mut registry = Registry::default();
    for (name, bytes) in
        [("ok", says("{\"ok\": 1}", "", 0)), ("spin", handler("(loop $again (br $again)) unreachable"))]
    {
        let plugin = host.compile(name, &bytes, Manifest::parse("").unwrap()).unwrap();
        registry.add(TENANT_DEFAULT, Arc::new(plugin));
    }
    let catalog = Catalog::fixed(registry);
    let settings = NodeSettings { slots, ..NodeSettings::default() };
    let node = Node::start(store.clone(), None, host, Arc::clone(&catalog), settings).await.unwrap();
    let plugins = Plugins::of_node(catalog);
    let app = App::on(store.clone(), plugins, Box::new(|| None), None, Some(node.starter()));
    (Api { router: api::router(Arc::clone(&app)), app, store }, node)
}

async fn stop(node: Node) {
    node.interrupt();
    node.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_time_has_not_come_runs_now() {
    let (api, node) = with_node(2).await;
    let id = api.enqueue(&json!({"kind": "ok", "delay": "24h"})).await;
    let started = api.post(&format!("/v1/jobs/{id}/start"), &json!({})).await;
    assert_eq!((started.status.as_u16(), &started.json()["run"]), (200, &json!(1)), "{}", started.text());
    assert_eq!(api.get(&format!("/v1/jobs/{id}/wait")).await.json()["state"], "completed");
    let check = async |job: Value, code: &str, words: &str| {
        let id = api.enqueue(&job).await;
        api.post(&format!("/v1/jobs/{id}/start"), &json!({})).await.check_refused(409, code, None, words);
        id
    };
    let held = check(json!({"kind": "ok", "hold": true}), "state", "release it first").await;
    check(json!({"kind": "ok", "depends_on": [held]}), "state", "waits for job").await;
    check(json!({"kind": "none", "delay": "1h"}), "no_plugin", "no plugin provides kind none").await;
    api.post(&format!("/v1/jobs/{id}/start"), &json!({})).await.check_refused(
        409,
        "state",
        None,
        "it has ended; `retry`",
    );
    api.post("/v1/jobs/99/start", &json!({})).await.check_refused(404, "not_found", None, "no job");
    stop(node).await;
    let late = api.enqueue(&json!({"kind": "ok", "delay": "1h"})).await;
    api.post(&format!("/v1/jobs/{late}/start"), &json!({})).await.check_refused(
        409,
        "draining",
        None,
        "starts nothing",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_started_by_hand_is_first_in_line_for_a_slot() {
    let (api, node) = with_node(1).await;
    let spin = api.enqueue(&json!({"kind": "spin", "timeout": "1h"})).await;
    let running = async || api.get(&format!("/v1/jobs/{spin}")).await.json()["state"] == "running";
    while !running().await {
        tokio::task::yield_now().await;
    }
    let waiting = api.enqueue(&json!({"kind": "ok", "priority": "highest"})).await;
    let wanted = api.enqueue(&json!({"kind": "ok", "delay": "24h"})).await;
    assert_eq!(api.post(&format!("/v1/jobs/{wanted}/start"), &json!({})).await.status, 200);
    api.post(&format!("/v1/jobs/{spin}/cancel"), &json!({})).await;
    let end = async |id: &str| api.get(&format!("/v1/jobs/{id}/wait?timeout=60s")).await.json()["finalized_at"].clone();
    let (first, second) = (end(&wanted).await, end(&waiting).await);
    assert!(first.as_str() <= second.as_str(), "{first} {second}");
    stop(node).await;
}

#[tokio::test]
async fn where_no_node_runs_nothing_can_be_started() {
    let api = Api::new();
    let id = api.enqueue(&json!({"kind": "a"})).await;
    api.post(&format!("/v1/jobs/{id}/start"), &json!({})).await.check_refused(409, "no_node", None, "`runner serve`");
}

/// Retention rode only in the batches of others: a store that had nothing to do kept what was to go.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_sweeps_its_store_also_while_nothing_happens() {
    let api = Api::new();
    api.patch("/v1/store/settings", &json!({"keep_cancelled": "0s"})).await;
    let id = api.enqueue(&json!({"kind": "a"})).await;
    api.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(api.get(&format!("/v1/jobs/{id}")).await.status, 200);
    let mut log = api.store.board().log();
    let seq = *log.borrow_and_update();
    let host = Arc::new(Host::new(&HostSettings::default()).unwrap());
    let node = Node::start(api.store.clone(), None, host, Arc::default(), NodeSettings::default()).await.unwrap();
    log.wait_for(|now| *now > seq).await.unwrap();
    assert_eq!(api.get(&format!("/v1/jobs/{id}")).await.status, 404);
    stop(node).await;
}
