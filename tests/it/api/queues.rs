//! Queues, settings, and what happens where something is full.

use runner_store::command::{Command, Reply, Sweep};
use serde_json::{Value, json};

use super::Api;

impl Api {
    /// Lets the store remove what has been kept long enough.
    pub(super) async fn sweep(&self) {
        let reply = self.store.call(Command::Sweep(Sweep { after: None, budget: 1_000 })).await.unwrap();
        assert!(matches!(reply, Reply::Swept { .. }), "{reply:?}");
    }
}

#[tokio::test]
async fn queues_are_shown_and_set() {
    let api = Api::new();
    api.enqueue(&json!({"kind": "a", "queue": "q"})).await;
    api.enqueue(&json!({"kind": "b", "queue": "q", "hold": true})).await;
    let sources = json!({"concurrency": "default", "rate": "default", "weight": "default"});
    let queue = |name: &str, capacity: Value, order: &str, states: Value| {
        json!({"name": name, "capacity": capacity, "order": order, "concurrency": null, "rate": null, "weight": 1,
               "sources": sources, "paused": false, "paused_until": null, "draining": false, "states": states})
    };
    let q = queue("q", Value::Null, "priority", json!({"available": 1, "held": 1}));
    assert_eq!(api.get("/v1/queues").await.json(), json!({"queues": [q], "paused": false}));
    assert_eq!(api.get("/v1/queues/q").await.json(), q);
    api.get("/v1/queues/none").await.check_refused(404, "not_found", None, "no queue of this name");
    let new = api.patch("/v1/queues/new", &json!({"capacity": 5, "order": "run-at"})).await.json();
    assert_eq!(new, queue("new", json!(5), "run-at", json!({})));
    assert_eq!(api.patch("/v1/queues/new", &json!({"capacity": null})).await.json()["capacity"], Value::Null);
    assert_eq!(api.get("/v1/queues/new").await.json()["order"], "run-at", "what is not said stays");
    let aged = api.patch("/v1/queues/new", &json!({"order": "aged:90s"})).await.json();
    assert_eq!(aged["order"], "aged:90s");
    let full = api.patch("/v1/queues/q", &json!({"order": "run-at"})).await;
    full.check_refused(409, "queue_not_empty", None, "2 jobs that have not ended");
    let check = async |name: &str, body: Value, field: &str, words: &str| {
        api.patch(&format!("/v1/queues/{name}"), &body).await.check_refused(422, "invalid", Some(field), words);
    };
    check("q", json!({}), "body", "says nothing to be set").await;
    check("q", json!({"capacity": -1}), "capacity", "a whole number").await;
    check("q", json!({"order": "lifo"}), "order", "must be priority").await;
    check("q", json!({"order": "aged:0s"}), "order", "must age by 1ms to 7d").await;
    check("q", json!({"order": "aged:8d"}), "order", "must age by 1ms to 7d").await;
    check("q", json!({"order": "aged:soon"}), "order", "aged:TIME").await;
    check("q", json!({"wait": 2}), "wait", "is no known field").await;
    check("a%20b", json!({"capacity": 1}), "queue", "has ' ' in it").await;
    assert_eq!(api.post("/v1/queues/resume", &json!({})).await.json(), json!({"paused": false}));
    api.post("/v1/queues/pause", &json!({})).await.check_refused(405, "method_not_allowed", None, "/v1/queues/resume");
}

/// The story: a queue that was paused before its first job was in no list.
#[tokio::test]
async fn a_queue_with_a_setting_is_listed_before_its_first_job() {
    let api = Api::new();
    api.post("/v1/queues/later/pause", &json!({})).await;
    let all = api.get("/v1/queues").await.json();
    assert_eq!((&all["queues"][0]["name"], &all["queues"][0]["paused"]), (&json!("later"), &json!(true)), "{all}");
    api.post("/v1/queues/later/resume", &json!({})).await;
    assert_eq!(api.get("/v1/queues").await.json()["queues"], json!([]), "nothing of it is left");
}

/// The last setting of a queue without jobs was taken back, and the answer was that there is no such queue.
#[tokio::test]
async fn a_queue_can_be_given_back_its_last_setting() {
    let api = Api::new();
    api.patch("/v1/queues/new", &json!({"capacity": 5})).await;
    let answer = api.patch("/v1/queues/new", &json!({"capacity": null})).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["capacity"]), (200, &Value::Null));
}

/// A name in a path that was no UTF-8 was answered in plain text, without a code.
#[tokio::test]
async fn every_path_that_names_nothing_is_a_problem() {
    let api = Api::new();
    for path in ["/v1/queues/%ff", "/v1/operations/%ff", "/v1/jobs/%ff"] {
        api.get(path).await.check_refused(404, "not_found", None, "");
    }
}

#[tokio::test]
async fn a_full_queue_takes_a_list_whole_or_not_at_all() {
    let api = Api::new();
    api.patch("/v1/queues/q", &json!({"capacity": 2})).await;
    let list = |n: usize| json!((0..n).map(|_| json!({"kind": "a", "queue": "q"})).collect::<Vec<_>>());
    let full = api.post("/v1/jobs", &list(3)).await;
    full.check_refused(429, "full", None, "queue q is full: it may have 2 jobs");
    assert_eq!(full.retry_after.as_deref(), Some("10"));
    assert_eq!(api.get("/v1/jobs/count").await.json()["total"], 0);
    assert_eq!(api.post("/v1/jobs", &list(2)).await.status, 201);
    api.post("/v1/jobs", &list(1)).await.check_refused(429, "full", None, "would make it 3");
    api.enqueue(&json!({"kind": "a"})).await;
    // What ended makes room.
    api.post("/v1/jobs/1/cancel", &json!({})).await;
    assert_eq!(api.post("/v1/jobs", &list(1)).await.status, 201);
    api.patch("/v1/store/settings", &json!({"capacity": 3})).await;
    api.post("/v1/jobs", &json!({"kind": "a"})).await.check_refused(429, "full", None, "the tenant is full");
}

#[tokio::test]
async fn settings_hold_and_what_is_kept_too_long_goes() {
    let api = Api::new();
    let defaults = json!({
        "keep_completed": "7d", "keep_cancelled": "30d", "keep_discarded": "90d", "completed_max": 1_000_000,
        "capacity": 10_000_000, "stored_bytes": 10_737_418_240_u64, "log_age": "7d", "log_bytes": 2_147_483_648_u64,
    });
    assert_eq!(api.get("/v1/store/settings").await.json(), defaults);
    let change = json!({"keep_cancelled": "0s", "stored_bytes": "1KiB", "log_age": "36h"});
    let changed = api.patch("/v1/store/settings", &change).await.json();
    let fields = ["keep_cancelled", "stored_bytes", "log_age", "keep_completed"].map(|name| &changed[name]);
    assert_eq!(json!(fields), json!(["0ms", 1_024, "129600s", "7d"]));
    assert_eq!(api.get("/v1/store/settings").await.json(), changed);
    api.enqueue(&json!({"kind": "a", "args": "x".repeat(900)})).await;
    let list = json!([{"kind": "b", "args": 1}, {"kind": "a", "args": "x".repeat(200)}]);
    let full = api.post("/v1/jobs", &list).await;
    full.check_refused(429, "tenant_storage", None, "the limit is 1024; nothing happened");
    assert_eq!(full.retry_after.as_deref(), Some("10"));
    assert_eq!(api.get("/v1/jobs/count").await.json()["total"], 1, "none of the list is there");
    api.post("/v1/jobs/1/cancel", &json!({})).await;
    api.sweep().await;
    api.get("/v1/jobs/1").await.check_refused(404, "not_found", None, "no job");
    assert_eq!(api.post("/v1/jobs", &list).await.status, 201);
    let check = async |body: Value, field: &str, words: &str| {
        api.patch("/v1/store/settings", &body).await.check_refused(422, "invalid", Some(field), words);
    };
    check(json!({"keep_completed": 7}), "keep_completed", "with a unit").await;
    check(json!({"stored_bytes": "10"}), "stored_bytes", "has no unit").await;
    check(json!({"stored_bytes": -1}), "stored_bytes", "a number of bytes").await;
    check(json!({"completed_max": "many"}), "completed_max", "a whole number").await;
    check(json!({"keep_complete": "7d"}), "keep_complete", "did you mean `keep_completed`?").await;
}
