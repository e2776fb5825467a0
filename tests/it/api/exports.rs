//! What optional exports of plugins do to jobs: merged args, advice on retries, middleware that is there or missing.

use std::path::Path;
use std::sync::Arc;

use runner_runtime::api::plugins::Plugins;
use runner_runtime::api::{self, App};
use runner_runtime::node::{Node, NodeSettings};
use runner_runtime::operator::Operator;
use runner_runtime::wasm::folder::{Registry, TENANT_DEFAULT};
use runner_runtime::wasm::{Catalog, Host, HostSettings, Manifest};
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Enqueue, Reply};
use runner_store::engine::memory::Memory;
use runner_store::job::{JobSpec, OnConflict, States, TenantId, Unique};
use serde_json::{Value, json};

use super::Api;
use crate::sandbox::exports::nothing;
use crate::sandbox::guests::{component_of, export, handler, handler_with, module};
use crate::sandbox::merging::{ADD, merging};

/// An API with a node behind it that serves these plugins: name, bytes and manifest.
async fn with_node(plugins: Vec<(&str, Vec<u8>, &str)>, configuration: &str) -> (Api, Node) {
    let (store, _writer) = Handle::start(Box::new(Memory::new(Clock::System))).unwrap();
    let host = Arc::new(Host::new(&HostSettings::default()).unwrap());
    let mut registry = Registry::default();
    for (name, bytes, manifest) in plugins {
        registry.add(TENANT_DEFAULT, Arc::new(host.compile(name, &bytes, Manifest::parse(manifest).unwrap()).unwrap()));
    }
    let registry = Catalog::fixed(registry);
    let operator = Arc::new(Operator::read(configuration, Path::new(".")).unwrap());
    let settings = NodeSettings { slots: 2, operator: Arc::clone(&operator), ..NodeSettings::default() };
    let node = Node::start(store.clone(), None, Arc::clone(&host), Arc::clone(&registry), settings).await.unwrap();
    let plugins = Plugins::of_node(registry).run_by(host, operator);
    let app = App::on(store.clone(), plugins, Box::new(|| None), None, Some(node.starter()));
    (Api { router: api::router(Arc::clone(&app)), app, store }, node)
}

async fn stop(node: Node) {
    node.interrupt();
    node.stopped().await;
}

fn unique(kind: &str, key: &str, args: &Value) -> Value {
    json!({"kind": kind, "args": args, "delay": "1h", "unique": {"key": key, "on_conflict": "merge"}})
}

/// L-24.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_keys_enqueued_twice_are_a_thousand_jobs_with_doubled_values() {
    let (api, node) = with_node(vec![("sum", merging(ADD), "")], "").await;
    let all: Vec<Value> = (0..1_000).map(|n| unique("sum", &format!("k{n}"), &json!(n % 4 + 1))).collect();
    for _ in 0..2 {
        let answer = api.post("/v1/jobs", &json!(all)).await;
        assert!(answer.status.is_success(), "{}", answer.text());
    }
    assert_eq!(api.get("/v1/jobs/count").await.json()["total"], 1_000);
    for n in [0, 1, 2, 3, 500, 998, 999] {
        let job = api.get(&format!("/v1/jobs/{}", n + 1)).await.json();
        assert_eq!(job["args"], json!(2 * (n % 4 + 1)), "{job}");
    }
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_is_refused_refuses_the_enqueue() {
    let (api, node) = with_node(vec![("sum", merging(ADD), ""), ("bad", merging("unreachable"), "")], "").await;
    let waiting = json!({"kind": "sum", "args_base64": "eA==", "delay": "1h", "unique": {"key": "k"}});
    api.enqueue(&waiting).await;
    let answer = api.post("/v1/jobs", &unique("sum", "k", &json!("no, not now"))).await;
    answer.check_refused(422, "merge_refused", Some("unique"), "no, not now");
    api.enqueue(&unique("bad", "other", &json!(1))).await;
    let answer = api.post("/v1/jobs", &unique("bad", "other", &json!(2))).await;
    answer.check_refused(422, "merge_failed", Some("unique"), "the plugin `bad` broke when it merged the args");
    assert_eq!(api.get("/v1/jobs/count").await.json()["total"], 2, "nothing happened");
    stop(node).await;
}

/// The story: of two keys of one call whose jobs wait, the first one's job changed while the args were merged. What had been
/// merged for the second was forgotten then, and the next time what had been merged for the first, until the call was
/// refused as if its keys were contended.
#[tokio::test]
async fn a_merge_that_still_holds_is_not_made_again() {
    let (store, _writer) = Handle::start(Box::new(Memory::new(Clock::System))).unwrap();
    let spec = |key: &str, args: &str, on_conflict| {
        let unique = Unique { key: key.to_owned(), states: States::default(), period: None, on_conflict };
        JobSpec { unique: Some(unique), ..JobSpec::new("a", args) }
    };
    let call = |jobs| Enqueue::new(TenantId::DEFAULT, jobs);
    let enqueue = async |jobs| store.call(runner_store::command::Command::Enqueue(call(jobs))).await.unwrap();
    enqueue(vec![spec("one", "1", OnConflict::Keep), spec("two", "1", OnConflict::Keep)]).await;
    let merges = std::sync::atomic::AtomicU32::new(0);
    let jobs = vec![spec("one", "2", OnConflict::Merge), spec("two", "2", OnConflict::Merge)];
    let reply = store.enqueue_merging(call(jobs), |_| {
        let first = merges.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        let enqueue = &enqueue;
        async move {
            if first {
                enqueue(vec![spec("one", "9", OnConflict::Replace)]).await;
            }
            Ok((b"3".to_vec(), None))
        }
    });
    let reply = reply.await.unwrap();
    assert!(matches!(&reply, Reply::Enqueued(jobs) if jobs.len() == 2), "{reply:?}");
    assert_eq!(merges.into_inner(), 3, "both, and the first once more");
}

const ENQUEUE_MERGED: &str = r#"
  (import "runner:plugin/host@0.1.0" "enqueue" (func $enqueue (param i32 i32 i32 i32 i32 i32 i32)))
  (data (i32.const 256) "sum") (data (i32.const 272) "3")
  (data (i32.const 288) "{\"delay\": \"1h\", \"unique\": {\"key\": \"k\", \"on_conflict\": \"merge\"}}")"#;

/// Once a staged job that was to be merged became a job of its own, as no plugin could.
#[tokio::test(flavor = "multi_thread")]
async fn a_staged_job_is_merged_with_the_one_that_holds_its_key() {
    let options = r#"{"delay": "1h", "unique": {"key": "k", "on_conflict": "merge"}}"#.len();
    let stages = handler_with(
        ENQUEUE_MERGED,
        &format!(
            "(call $enqueue (i32.const 256) (i32.const 3) (i32.const 272) (i32.const 1)
               (i32.const 288) (i32.const {options}) (i32.const 512)) (i32.const 64)"
        ),
    );
    let plugins = vec![("sum", merging(ADD), ""), ("stages", stages, "[allow]\nenqueue = [\"*\"]")];
    let (api, node) = with_node(plugins, "").await;
    let waiting = api.enqueue(&unique("sum", "k", &json!(4))).await;
    let stages = api.enqueue(&json!({"kind": "stages"})).await;
    assert_eq!(api.get(&format!("/v1/jobs/{stages}/wait")).await.json()["state"], "completed");
    assert_eq!(api.get(&format!("/v1/jobs/{waiting}")).await.json()["args"], json!(7));
    assert_eq!(api.get("/v1/jobs/count").await.json()["total"], 2);
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_decides_when_a_failed_job_is_tried_again() {
    let policy = export("policy", "describe", "(result i32)", "(i32.const 64)")
        + &export("policy", "timeout-ms", "(param i32) (result i32)", "(i32.const 64)")
        + &export(
            "policy",
            "next-retry-ms",
            "(param i32) (result i32)",
            "(i32.store8 (i32.const 128) (i32.const 1)) (i32.store (i32.const 132) (i32.const 86400000)) (i32.const 128)",
        );
    let fails = export("handler", "handle", "(param i32) (result i32)", "unreachable");
    let guest = component_of(&["handler", "policy"], &module(&[fails, policy].concat()));
    // The manifest would never try again.
    let (api, node) = with_node(vec![("fails", guest, "[retry]\nbackoff = \"never\"")], "").await;
    let shown = async |job: Value, wanted: &str| {
        let id = api.enqueue(&job).await;
        loop {
            let job = api.get(&format!("/v1/jobs/{id}")).await.json();
            if job["state"] == wanted {
                return job;
            }
            assert!(matches!(job["state"].as_str(), Some("available" | "running")), "{job}");
            tokio::task::yield_now().await;
        }
    };
    let job = shown(json!({"kind": "fails"}), "retryable").await;
    let time = |name: &str| job[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let ahead = time("run_at").duration_since(time("enqueued_at")).as_secs();
    assert!((86_400..86_460).contains(&ahead), "{job}");
    // What the job says itself goes before.
    shown(json!({"kind": "fails", "retry": {"backoff": "never"}}), "discarded").await;
    stop(node).await;
}

const AUDITED: &str = "[[middleware]]\nplugin = \"audit\"\nkinds = [\"ok*\"]";

#[tokio::test(flavor = "multi_thread")]
async fn middleware_is_around_the_kinds_that_the_operator_names() {
    // `before` gives up on every job.
    let discard = "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store8 (i32.const 68) (i32.const 1)) (i32.const 64)";
    let functions = export("middleware", "before", "(param i32) (result i32)", discard)
        + &export("middleware", "after", "(param i32) (result i32)", "(i32.const 64)");
    let audit = component_of(&["middleware"], &module(&functions));
    let noop = || handler("(i32.const 64)");
    let plugins = vec![("audit", audit, ""), ("ok", noop(), ""), ("other", noop(), "")];
    let (api, node) = with_node(plugins, AUDITED).await;
    for (kind, state) in [("ok", "discarded"), ("other", "completed")] {
        let id = api.enqueue(&json!({"kind": kind})).await;
        assert_eq!(api.get(&format!("/v1/jobs/{id}/wait")).await.json()["state"], state);
    }
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_a_middleware_that_is_configured_and_missing() {
    // There is a plugin of this name, but it is none.
    let plugins = vec![("audit", component_of(&["handler"], &module(&nothing("handler"))), "")];
    let plugins =
        plugins.into_iter().chain([("ok", handler("(i32.const 64)"), ""), ("other", handler("(i32.const 64)"), "")]);
    let (api, node) = with_node(plugins.collect(), AUDITED).await;
    let waits = api.enqueue(&json!({"kind": "ok"})).await;
    let runs = api.enqueue(&json!({"kind": "other"})).await;
    assert_eq!(api.get(&format!("/v1/jobs/{runs}/wait")).await.json()["state"], "completed");
    let job = api.get(&format!("/v1/jobs/{waits}")).await.json();
    assert_eq!((&job["state"], &job["run"]), (&json!("available"), &json!(0)), "{job}");
    assert!(job["waiting"].as_str().unwrap().contains("the middleware `audit` is configured around kind ok"), "{job}");
    let why = api.get(&format!("/v1/jobs/{waits}/why")).await.json();
    assert_eq!(why["why"][0]["code"], "no_middleware", "{why}");
    api.post(&format!("/v1/jobs/{waits}/start"), &json!({})).await.check_refused(
        409,
        "no_middleware",
        None,
        "take the layer out of the configuration",
    );
    stop(node).await;
}
