//! Limits of queues and kinds, through a node that runs: set, told by whom, kept over a restart, and why a job waits.

use axum::http::Method;
use serde_json::{Value, json};

use super::Api;
use super::runs::{Setup, with_node};
use crate::sandbox::guests::{handler, says};

const SPIN: &str = "(loop $again (br $again)) unreachable";
const MANIFEST: &str = "kinds = [\"spin\", \"other\"]\n[[kind]]\nname = \"other\"\nconcurrency = 7\nrate = \"100/1m burst 10\"\n\
                        [queue.media]\nconcurrency = 1\nweight = 5\n";

async fn api() -> (Api, runner_runtime::node::Node) {
    let plugins = vec![("spins", handler(SPIN), MANIFEST), ("ok", says("{\"ok\": 1}", "", 0), "")];
    with_node(Setup { plugins, slots: 4, ..Setup::default() }).await
}

async fn until_running(api: &Api, id: &str) {
    while api.get(&format!("/v1/jobs/{id}")).await.json()["state"] != "running" {
        tokio::task::yield_now().await;
    }
}

/// The reason of this code that a job does not start, once it is one.
async fn why(api: &Api, id: &str, code: &str) -> String {
    loop {
        let why = api.get(&format!("/v1/jobs/{id}/why")).await.json();
        let all = why["why"].as_array().unwrap();
        if let Some(reason) = all.iter().find(|reason| reason["code"] == code) {
            return reason["detail"].as_str().unwrap().to_owned();
        }
        tokio::task::yield_now().await;
    }
}

async fn ended(api: &Api, id: &str) -> Value {
    api.get(&format!("/v1/jobs/{id}/wait?timeout=60s")).await.json()["state"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_full_says_by_whom_and_a_limit_that_rises_holds_at_once() {
    let (api, node) = api().await;
    let media = api.get("/v1/queues/media").await.json();
    assert_eq!(media["sources"]["weight"], "manifest of spins", "what a manifest names is there before its first job");
    assert_eq!(api.get("/v1/queues").await.json()["queues"], json!([media]));
    let spin = api.enqueue(&json!({"kind": "spin", "queue": "media", "timeout": "1h"})).await;
    until_running(&api, &spin).await;
    let waits = api.enqueue(&json!({"kind": "ok", "queue": "media"})).await;
    let detail = why(&api, &waits, "queue_full").await;
    assert!(detail.contains("1 of queue media run") && detail.contains(&format!("jobs {spin}")), "{detail}");
    let other = api.enqueue(&json!({"kind": "ok"})).await;
    assert_eq!(ended(&api, &other).await, "completed", "other queues are not held up");
    let set = api.patch("/v1/queues/media", &json!({"concurrency": 2})).await.json();
    assert_eq!((&set["concurrency"], &set["sources"]["concurrency"]), (&json!(2), &json!("set")));
    assert_eq!(ended(&api, &waits).await, "completed");
    let second = api.enqueue(&json!({"kind": "spin", "queue": "media", "timeout": "1h"})).await;
    until_running(&api, &second).await;
    // What is only claimed would be handed back.
    while api.get("/v1/node").await.json()["running"] != 2 {
        tokio::task::yield_now().await;
    }
    let back = api.patch("/v1/queues/media", &json!({"concurrency": null})).await.json();
    let from = &back["sources"]["concurrency"];
    assert_eq!((&back["concurrency"], from), (&json!(1), &json!("manifest of spins")), "what a manifest says is back");
    assert_eq!(back["weight"], 5);
    // What ran when a limit was lowered goes on, and was said to be as many as may.
    let late = api.enqueue(&json!({"kind": "ok", "queue": "media"})).await;
    let begun = std::time::Instant::now();
    loop {
        // The node hears of the limit a moment later.
        let detail = why(&api, &late, "queue_full").await;
        if detail.contains("2 of queue media run, more than the 1 that may by now: jobs") {
            break;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{detail}");
    }
    node.interrupt();
    node.stopped().await;
}

/// What a tenant may use is set while the node runs, holds at once, and taken back, what the configuration says holds again.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_limit_holds_at_once() {
    let (api, node) = api().await;
    let spin = api.enqueue(&json!({"kind": "spin", "timeout": "1h"})).await;
    until_running(&api, &spin).await;
    let set = api.patch("/v1/tenants/default", &json!({"concurrency": 1})).await.json();
    assert_eq!((&set["concurrency"], &set["sources"]["concurrency"]), (&json!(1), &json!("set")));
    let waits = api.enqueue(&json!({"kind": "ok"})).await;
    let detail = why(&api, &waits, "concurrency").await;
    assert!(detail.contains("of its tenant, 1 jobs may run at once"), "{detail}");
    api.patch("/v1/tenants/default", &json!({"concurrency": null})).await;
    assert_eq!(ended(&api, &waits).await, "completed");
    api.patch("/v1/tenants/default", &json!({"memory_bytes": "1KiB"})).await;
    let never = api.enqueue(&json!({"kind": "ok"})).await;
    assert!(why(&api, &never, "too_large").await.contains("its tenant's runs"));
    node.interrupt();
    node.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_and_drains_hold_and_end() {
    let (api, node) = api().await;
    assert_eq!(api.post("/v1/queues/q/pause", &json!({})).await.json()["paused"], true);
    let waits = api.enqueue(&json!({"kind": "ok", "queue": "q"})).await;
    assert!(why(&api, &waits, "queue_paused").await.contains("runner queue resume q"));
    assert_eq!(api.post("/v1/kinds/ok/pause", &json!({"until": "2999-01-01T00:00:00Z"})).await.json()["paused"], true);
    assert_eq!(api.post("/v1/queues/q/resume", &json!({})).await.json()["paused"], false);
    assert!(why(&api, &waits, "kind_paused").await.contains("kind ok is paused for"));
    assert_eq!(api.get("/v1/kinds/ok").await.json()["paused_until"], "2999-01-01T00:00:00.000Z");
    assert_eq!(api.post("/v1/kinds/ok/resume", &json!({})).await.json()["paused"], false);
    assert_eq!(ended(&api, &waits).await, "completed");
    assert_eq!(api.post("/v1/queues/q/drain", &json!({})).await.json()["draining"], true);
    let refused = api.post("/v1/jobs", &json!({"kind": "ok", "queue": "q"})).await;
    refused.check_refused(409, "queue_drains", None, "`runner queue resume q`");
    api.post("/v1/queues/q/resume", &json!({})).await;
    let runs = api.enqueue(&json!({"kind": "ok", "queue": "q"})).await;
    assert_eq!(ended(&api, &runs).await, "completed");
    node.interrupt();
    node.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_are_shown_and_set() {
    let (api, node) = api().await;
    let kinds = api.get("/v1/kinds").await.json();
    let names: Vec<&str> =
        kinds["kinds"].as_array().unwrap().iter().map(|kind| kind["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ok", "other", "spin"]);
    let other = api.get("/v1/kinds/other").await.json();
    let sources = json!({"concurrency": "manifest of spins", "rate": "manifest of spins", "key_concurrency": "default", "key_rate": "default"});
    assert_eq!((&other["rate"], &other["sources"]), (&json!("100/1m burst 10"), &sources));
    let set = api.patch("/v1/kinds/other", &json!({"rate": "5/1s"})).await.json();
    assert_eq!(
        (&set["rate"], &set["sources"]["rate"], &set["concurrency"]),
        (&json!("5/1s"), &json!("set"), &json!(7))
    );
    api.get("/v1/kinds/none").await.check_refused(404, "not_found", None, "no kind of this name");
    api.post("/v1/kinds/ok/drain", &json!({})).await.check_refused(404, "no_route", None, "pause and resume");
    let check = async |body: Value, field: &str, words: &str| {
        api.patch("/v1/kinds/ok", &body).await.check_refused(422, "invalid", Some(field), words);
    };
    check(json!({}), "body", "there are concurrency, rate, key_concurrency and key_rate").await;
    check(json!({"concurrency": 0}), "concurrency", "to let nothing run, pause it").await;
    check(json!({"concurrency": -1}), "concurrency", "must be").await;
    check(json!({"concurrency": 2.5}), "concurrency", "must be").await;
    check(json!({"rate": "0/1s"}), "rate", "at least 1 job").await;
    check(json!({"rate": "0/0s"}), "rate", "at least 1 job").await;
    check(json!({"rate": "5/0s"}), "rate", "a period of 1ms to 24h").await;
    check(json!({"rate": "5/2d"}), "rate", "a period of 1ms to 24h").await;
    check(json!({"rate": "5 a minute"}), "rate", "write for example").await;
    check(json!({"rate": "5/1s burst 0"}), "rate", "at least 1 job").await;
    check(json!({"weight": 2}), "weight", "is no known field").await;
    let until = json!({"until": "2001-01-01T00:00:00Z"});
    api.post("/v1/kinds/ok/pause", &until).await.check_refused(422, "invalid", Some("until"), "has passed");
    api.patch("/v1/queues/q", &json!({"weight": 0})).await.check_refused(422, "invalid", Some("weight"), "1 to 1000");
    let most = api.patch("/v1/queues/q", &json!({"concurrency": 2_147_483_648_u32})).await.json();
    assert_eq!(most["concurrency"], 2_147_483_648_u32);
    node.interrupt();
    node.stopped().await;
}

/// Args of a hundred thousand levels were accepted, and could be read by hardly anybody.
#[tokio::test]
async fn json_that_nests_too_deeply_is_refused_by_its_field() {
    let api = Api::new();
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let post = async |path: &str, body: String| {
        api.send(Method::POST, path, &[("content-type", "application/json")], body).await
    };
    let quoted = format!("\"{}\\\"{}\"", "[".repeat(1_000), "{".repeat(1_000));
    for args in [nested(100), quoted] {
        let answer = post("/v1/jobs", format!("{{\"kind\": \"a\", \"args\": {args}}}")).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    for depth in [101, 100_000] {
        let one = post("/v1/jobs", format!("{{\"kind\": \"a\", \"args\": {}}}", nested(depth))).await;
        one.check_refused(422, "invalid", Some("args"), "more than 100 deep");
        let list =
            post("/v1/jobs", format!("[{{\"kind\": \"a\"}}, {{\"kind\": \"a\", \"args\": {}}}]", nested(depth))).await;
        list.check_refused(422, "invalid", Some("jobs[1].args"), "more than 100 deep");
        let other =
            post("/v1/jobs/retry", format!("{{\"kind\": {}}}", "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth)))
                .await;
        other.check_refused(422, "invalid", Some("kind"), "more than 100 deep");
    }
}

/// A key on a call that does not remember it was ignored, and whoever repeated the call under it took other runs.
#[tokio::test]
async fn a_key_is_refused_where_it_would_say_nothing() {
    let api = Api::new();
    for path in ["/v1/lease", "/v1/runs/1/1/renew", "/v1/runs/1/1/finish", "/v1/runs/1/1/log", "/v1/runs/1/1/progress"]
    {
        let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
        let answer = api.send(Method::POST, path, &headers, "{}").await;
        answer.check_refused(422, "invalid", Some("Idempotency-Key"), "leave it out");
    }
}
