//! A node that is drained and goes on, through the API.

use std::sync::Arc;
use std::time::Duration;

use runner_runtime::api::plugins::Plugins;
use runner_runtime::api::{self, App};
use runner_runtime::node::{Node, NodeSettings, NodeState};
use runner_runtime::wasm::folder::{Registry, TENANT_DEFAULT};
use runner_runtime::wasm::{Catalog, Host, HostSettings, Manifest};
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::engine::memory::Memory;
use serde_json::{Value, json};

use super::Api;
use crate::sandbox::guests::{handler, says};

/// An API with a node of one slot, which serves `ok`, which completes, and `spin`, which never ends.
async fn with_node() -> (Api, Node) {
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
    let settings = NodeSettings { slots: 1, grace: Duration::from_secs(3_600), ..NodeSettings::default() };
    let node = Node::start(store.clone(), None, host, Arc::clone(&catalog), settings).await.unwrap();
    let life = node.watch();
    let ready = Box::new(move || (*life.borrow() == NodeState::Draining).then_some("draining"));
    let app = App::on(store.clone(), Plugins::of_node(catalog), ready, None, Some(node.starter()));
    (Api { router: api::router(Arc::clone(&app)), app, store }, node)
}

impl Api {
    async fn node(&self, verb: &str) -> Value {
        let answer = self.post(&format!("/v1/node/{verb}"), &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    async fn of_job(&self, id: &str, field: &str) -> Value {
        self.get(&format!("/v1/jobs/{id}")).await.json()[field].clone()
    }

    /// Until the handler was entered: what is only claimed goes back.
    async fn until_entered(&self) {
        let begun = std::time::Instant::now();
        while self.get("/v1/node").await.json()["running"] != 1 {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing runs");
            tokio::task::yield_now().await;
        }
    }

    /// Until the first reason why it does not run is this one.
    async fn until_code(&self, id: &str, code: &str) {
        let begun = std::time::Instant::now();
        while self.get(&format!("/v1/jobs/{id}/why")).await.json()["why"][0]["code"] != code {
            assert!(begun.elapsed() < Duration::from_secs(60), "job {id}: never {code}");
            tokio::task::yield_now().await;
        }
    }

    async fn until(&self, id: &str, state: &str) {
        let begun = std::time::Instant::now();
        while self.of_job(id, "state").await != state {
            assert!(begun.elapsed() < Duration::from_secs(60), "job {id} does not become {state}");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_starts_nothing_until_it_is_resumed() {
    let (api, node) = with_node().await;
    let shown = api.get("/v1/node").await.json();
    assert_eq!((&shown["state"], &shown["slots"], &shown["changed"]), (&json!("running"), &json!(1), &json!(false)));
    assert_eq!(shown["boot"].as_str().unwrap().len(), 16);
    let spin = api.enqueue(&json!({"kind": "spin", "timeout": "1h"})).await;
    let behind = api.enqueue(&json!({"kind": "ok"})).await;
    api.until_entered().await;

    let drained = api.node("drain").await;
    assert_eq!((&drained["state"], &drained["changed"]), (&json!("draining"), &json!(true)), "{drained}");
    assert_eq!((&drained["running"], &drained["claimed"]), (&json!(1), &json!(0)), "what had not started goes back");
    assert_eq!(api.node("drain").await["changed"], false);
    assert_eq!(api.get("/readyz").await.text(), "draining\n");
    api.until(&behind, "available").await;
    assert_eq!(api.of_job(&behind, "attempts").await, 0);
    let late = api.enqueue(&json!({"kind": "ok", "delay": "1h"})).await;
    api.post(&format!("/v1/jobs/{late}/start"), &json!({})).await.check_refused(409, "draining", None, "node resume");
    let why = api.get(&format!("/v1/jobs/{behind}/why")).await.json();
    assert_eq!(why["why"][0]["code"], "node_draining", "{why}");
    let due = api.enqueue(&json!({"kind": "ok", "delay": "1ms"})).await;
    api.until_code(&due, "node_draining").await;
    assert_eq!(api.of_job(&due, "state").await, "scheduled", "what becomes due meanwhile is not looked after");
    assert_eq!(api.of_job(&spin, "state").await, "running", "what runs goes on, however long it takes");
    api.post(&format!("/v1/jobs/{spin}/cancel"), &json!({})).await;
    api.until(&spin, "cancelled").await;
    assert_eq!((&api.get("/v1/node").await.json()["running"], node.state()), (&json!(0), NodeState::Draining));
    assert_eq!(api.of_job(&behind, "state").await, "available", "a free slot changes nothing");

    let resumed = api.node("resume").await;
    assert_eq!((&resumed["state"], &resumed["changed"]), (&json!("running"), &json!(true)), "{resumed}");
    assert_eq!(api.node("resume").await["changed"], false);
    api.until(&behind, "completed").await;
    assert_eq!(api.of_job(&behind, "attempts").await, 1);
    assert_eq!(api.get("/readyz").await.text(), "ok\n");
    node.drain();
    node.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_does_not_go_on() {
    let (api, node) = with_node().await;
    let spin = api.enqueue(&json!({"kind": "spin", "timeout": "1h"})).await;
    api.until_entered().await;
    api.node("drain").await;
    node.drain();
    // The scheduler may hear of that after our next question: it is asked until it has.
    let refused = async || api.post("/v1/node/resume", &json!({})).await;
    let mut answer = refused().await;
    while answer.status == 200 {
        answer = refused().await;
    }
    answer.check_refused(409, "stopping", None, "the node stops and does not go on");
    let shown = api.node("drain").await;
    assert_eq!((&shown["state"], &shown["changed"], &shown["running"]), (&json!("draining"), &json!(false), &json!(1)));
    node.interrupt();
    node.stopped().await;
    api.until(&spin, "available").await;
    assert_eq!(api.of_job(&spin, "attempts").await, 0, "an interruption burns no attempt");
    let gone = api.post("/v1/node/resume", &json!({})).await;
    gone.check_refused(409, "stopping", None, "has stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_rests_can_be_stopped() {
    let (api, node) = with_node().await;
    let id = api.enqueue(&json!({"kind": "ok", "hold": true})).await;
    api.node("drain").await;
    api.post(&format!("/v1/jobs/{id}/release"), &json!({})).await;
    node.drain();
    node.stopped().await;
    assert_eq!((api.of_job(&id, "state").await, api.of_job(&id, "run").await), (json!("available"), json!(0)));
}

#[tokio::test]
async fn what_has_no_node_says_so() {
    let api = Api::new();
    for path in ["/v1/node/drain", "/v1/node/resume"] {
        api.post(path, &json!({})).await.check_refused(409, "no_node", None, "runner serve");
    }
    api.get("/v1/node").await.check_refused(409, "no_node", None, "no node runs jobs");
    api.get("/v1/node?all=true").await.check_refused(422, "invalid", Some("all"), "is no known parameter");
    assert_eq!(api.get("/v1/node/drain").await.status, 405);
}
