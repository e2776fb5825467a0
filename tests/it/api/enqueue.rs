//! Enqueueing jobs that wait for others, that there may be only one of, and that are accepted a moment later.

use axum::http::Method;
use runner_store::disk::Room;
use runner_store::job::Outcome;
use serde_json::{Value, json};

use super::Api;

impl Api {
    async fn states(&self) -> Vec<(String, String)> {
        let page = self.get("/v1/jobs").await.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        page["jobs"].as_array().unwrap().iter().rev().map(|job| (text(&job["id"]), text(&job["state"]))).collect()
    }

    /// Looks until nothing is left to be told to those that wait.
    async fn until_state(&self, id: &str, state: &str) -> Value {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let job = self.get(&format!("/v1/jobs/{id}")).await.json();
            if job["state"] == state {
                return job;
            }
            assert!(std::time::Instant::now() < deadline, "{job}");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn jobs_wait_for_others_by_id_and_by_place() {
    let api = Api::new();
    api.enqueue(&json!({"kind": "a"})).await;
    let list = json!([
        {"kind": "b", "depends_on": ["1"]},
        {"kind": "c", "depends_on": [{"position": 0}, {"job": "1", "on_failure": "run"}]},
        {"kind": "d", "depends_on": [{"job": "1", "on_failure": "run"}]},
    ]);
    let answer = api.post("/v1/jobs", &list).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.json()["jobs"][1]["state"], "blocked");
    let shown = api.get("/v1/jobs/3").await.json();
    assert_eq!((&shown["depends_on"], &shown["waiting"]), (&json!(["2", "1"]), &json!("waits for jobs 2, 1")));
    let job = api.claim("a").await;
    api.finish(&job, Outcome::Discarded { reason: "no".to_owned() }).await;
    let cancelled = api.until_state("2", "cancelled").await;
    assert_eq!(cancelled["reason"], "dependency 1 was discarded");
    api.until_state("3", "cancelled").await;
    api.until_state("4", "available").await;
    let late = api.post("/v1/jobs", &json!({"kind": "e", "depends_on": ["1"]})).await;
    assert_eq!(late.json()["state"], "cancelled", "what has ended already settles at once");
}

#[tokio::test]
async fn what_is_wrong_about_a_dependency_is_named() {
    let api = Api::new();
    let check = async |depends_on: Value, field: &str, words: &str| {
        let answer = api.post("/v1/jobs", &json!({"kind": "a", "depends_on": depends_on})).await;
        answer.check_refused(422, "invalid", Some(field), words);
    };
    check(json!(["9"]), "depends_on", "there is no job 9 to wait for").await;
    check(json!("9"), "depends_on", "must be a list").await;
    check(json!([9]), "depends_on[0]", "the id of a job as a text").await;
    check(json!(["09"]), "depends_on[0]", "the id of a job as a text").await;
    check(json!([{}]), "depends_on[0]", "needs `job`").await;
    check(json!([{"job": "1", "position": 0}]), "depends_on[0].position", "exclude each other").await;
    check(json!([{"job": "1", "on_failure": "stop"}]), "depends_on[0].on_failure", "must be cancel").await;
    check(json!([{"jobb": "1"}]), "depends_on[0].jobb", "did you mean `job`?").await;
    check(json!([{"position": -1}]), "depends_on[0].position", "a whole number").await;
    let many: Vec<Value> = (0..101).map(|n| json!(n.to_string())).collect();
    check(json!(many), "depends_on", "the limit is 100").await;
    let ring = json!([{"kind": "a", "depends_on": [{"position": 1}]}, {"kind": "a", "depends_on": [{"position": 0}]}]);
    let answer = api.post("/v1/jobs", &ring).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.json()["field"].as_str().unwrap().contains("depends_on"), "{}", answer.text());
    assert_eq!(api.get("/v1/jobs/count").await.json()["total"], 0);
}

#[tokio::test]
async fn of_unique_jobs_there_is_one() {
    let api = Api::new();
    let send = async |args: Value, unique: Value| {
        api.post("/v1/jobs", &json!({"kind": "a", "args": args, "unique": unique, "delay": "1h"})).await
    };
    assert_eq!(send(json!({"n": 1}), json!({"key": "k"})).await.status, 201);
    let again = send(json!({"n": 2}), json!({"key": "k"})).await;
    assert_eq!(
        (again.status.as_u16(), &again.json()["id"], &again.json()["duplicate"]),
        (200, &json!("1"), &json!(true))
    );
    let shown = api.get("/v1/jobs/1").await.json();
    assert_eq!((&shown["unique_key"], &shown["args"]), (&json!("k"), &json!({"n": 1})));
    let rejected = send(json!({}), json!({"key": "k", "on_conflict": "reject"})).await;
    rejected.check_refused(409, "unique_held", None, "job 1 holds this unique key");
    assert_eq!(rejected.json()["job"], "1");
    send(json!({"n": 3}), json!({"key": "k", "on_conflict": "replace"})).await;
    assert_eq!(api.get("/v1/jobs/1").await.json()["args"], json!({"n": 3}));
    let before = api.get("/v1/jobs/1").await.json()["run_at"].clone();
    send(json!({"n": 4}), json!({"key": "k", "on_conflict": "debounce", "delay": "10m"})).await;
    let after = api.get("/v1/jobs/1").await.json();
    assert!(after["run_at"].as_str() < before.as_str() && after["args"] == json!({"n": 4}), "{after}");
    // By fields of the args: neither their order nor the others matter.
    let by = json!({"fields": ["user.id", "what"]});
    send(json!({"user": {"id": 7}, "what": "x", "n": 1}), by.clone()).await;
    let same = send(json!({"n": 2, "what": "x", "user": {"name": "A", "id": 7}}), by.clone()).await;
    assert_eq!(same.json()["id"], "2");
    assert_eq!(send(json!({"user": {"id": 8}, "what": "x"}), by).await.json()["id"], "3");
    assert_eq!(api.states().await.len(), 3);
}

#[tokio::test]
async fn what_is_wrong_about_uniqueness_is_named() {
    let api = Api::new();
    let check = async |unique: Value, field: &str, words: &str| {
        let answer = api.post("/v1/jobs", &json!({"kind": "a", "unique": unique})).await;
        answer.check_refused(422, "invalid", Some(field), words);
    };
    check(json!("k"), "unique", "must be an object").await;
    check(json!({"key": ""}), "unique.key", "1 to 256 bytes").await;
    check(json!({"key": "k", "fields": ["a"]}), "unique.fields", "exclude each other").await;
    check(json!({"fields": []}), "unique.fields", "1 to 16 fields").await;
    check(json!({"fields": ["a..b"]}), "unique.fields[0]", "the path of a field").await;
    check(json!({"key": "k", "states": ["done"]}), "unique.states[0]", "is no state").await;
    check(json!({"key": "k", "states": []}), "unique.states", "must name a state").await;
    check(json!({"key": "k", "period": "400d"}), "unique.period", "at most 366 days").await;
    check(json!({"key": "k", "period": 5}), "unique.period", "with a unit").await;
    check(json!({"key": "k", "on_conflict": "mergee"}), "unique.on_conflict", "did you mean `merge`?").await;
    check(json!({"key": "k", "on_conflict": "merge"}), "unique.on_conflict", "no plugin of kind a exports merge").await;
    check(json!({"key": "k", "on_conflict": "debounce"}), "unique", "needs `delay`").await;
    check(json!({"key": "k", "delay": "5s"}), "unique.delay", "says nothing without").await;
    check(json!({"key": "k", "debounce_max": "5s"}), "unique.debounce_max", "says nothing without").await;
    check(json!({"kee": "k"}), "unique.kee", "did you mean `key`?").await;
    let bytes = api.post("/v1/jobs", &json!([{"kind": "a", "args_base64": "/w==", "unique": {"fields": ["a"]}}])).await;
    bytes.check_refused(422, "invalid", Some("jobs[0].unique.fields"), "args that are JSON");
}

#[tokio::test]
async fn retry_fields_that_say_nothing_are_refused() {
    let api = Api::new();
    let check = async |retry: Value, field: &str, words: &str| {
        let answer = api.post("/v1/jobs", &json!({"kind": "a", "retry": retry})).await;
        answer.check_refused(422, "invalid", Some(field), words);
    };
    check(json!({"backoff": "linear", "factor": 2}), "retry.factor", "says nothing with `backoff` linear").await;
    check(json!({"backoff": "never", "base": "1s"}), "retry.base", "it takes no other field").await;
    check(json!({"delays": ["1s"], "base": "1s"}), "retry.base", "with `backoff` list: it takes delays, max").await;
    check(json!({"backoff": "constant", "delays": ["1s"]}), "retry.delays", "says nothing with `backoff` constant")
        .await;
    check(json!({"backoff": "list"}), "retry.backoff", "needs `delays`").await;
    check(json!({"backoff": "often"}), "retry.backoff", "must be exponential").await;
}

#[tokio::test]
async fn buffered_jobs_are_received_and_accepted_a_moment_later() {
    let api = Api::new();
    let list: Vec<Value> = (0..3).map(|n| json!({"kind": "a", "ack": "buffered", "args": n})).collect();
    let answer = api.post("/v1/jobs", &json!(list)).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (202, json!({"buffered": 3})));
    let one = api.post("/v1/jobs", &json!({"kind": "b", "ack": "buffered"})).await;
    assert_eq!((one.status.as_u16(), one.json()), (202, json!({"buffered": 1})));
    let flushed = api.post("/v1/flush", &json!({})).await;
    assert_eq!(flushed.json(), json!({"accepted": 4, "refused": 0, "lost": 0}));
    let ids: Vec<Value> = (1..=3).map(Value::from).collect();
    for id in &ids {
        assert_eq!(api.get(&format!("/v1/jobs/{id}")).await.json()["args"], id.as_u64().unwrap() - 1, "in order");
    }
    // Without being asked: after a hundred milliseconds.
    api.post("/v1/jobs", &json!({"kind": "c", "ack": "buffered"})).await;
    let told = api.store.board().log();
    let mut told = told;
    told.wait_for(|seq| seq.0 >= 5).await.unwrap();
    assert_eq!(api.get("/v1/jobs/5").await.json()["kind"], "c");
    // More than a flush takes: at once.
    let many: Vec<Value> = (0..2_500).map(|_| json!({"kind": "d", "ack": "buffered"})).collect();
    api.post("/v1/jobs", &json!(many)).await;
    told.wait_for(|seq| seq.0 >= 2_005).await.unwrap();
    api.app.stop().await;
    assert_eq!(api.get("/v1/jobs/count").await.json()["total"], 2_505, "an orderly stop loses none");
}

#[tokio::test]
async fn what_a_buffered_job_cannot_have_is_named() {
    let api = Api::new();
    let check = async |body: Value, field: &str, words: &str| {
        api.post("/v1/jobs", &body).await.check_refused(422, "invalid", Some(field), words);
    };
    check(json!({"kind": "a", "ack": "later"}), "ack", "must be durable or buffered").await;
    check(
        json!({"kind": "a", "ack": "buffered", "unique": {"key": "k"}}),
        "unique",
        "not possible with `ack` buffered",
    )
    .await;
    check(json!({"kind": "a", "ack": "buffered", "depends_on": ["1"]}), "depends_on", "gets no id").await;
    check(
        json!([{"kind": "a", "ack": "buffered"}, {"kind": "a"}]),
        "jobs[1].ack",
        "differs from that of the jobs before",
    )
    .await;
    let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
    let keyed = api.send(axum::http::Method::POST, "/v1/jobs", &headers, r#"{"kind": "a", "ack": "buffered"}"#).await;
    keyed.check_refused(422, "invalid", Some("Idempotency-Key"), "says nothing for buffered jobs");
    // One that is refused when it is to be accepted takes no other with it.
    api.patch("/v1/queues/small", &json!({"capacity": 1})).await;
    let list: Vec<Value> =
        ["small", "small", "other"].map(|queue| json!({"kind": "a", "queue": queue, "ack": "buffered"})).to_vec();
    api.post("/v1/jobs", &json!(list)).await;
    assert_eq!(api.post("/v1/flush", &json!({})).await.json(), json!({"accepted": 2, "refused": 1, "lost": 0}));
}

/// On a disk without room a buffered job was received, and refused a moment later, when whoever sent it was gone.
#[tokio::test]
async fn a_full_disk_receives_nothing() {
    let api = Api::new();
    let job = json!({"kind": "a", "ack": "buffered"});
    api.store.say_room(Room::Low);
    let full = api.post("/v1/jobs", &job).await;
    assert_eq!((full.status.as_u16(), full.json()["status"].as_u64()), (507, Some(507)), "{}", full.text());
    api.store.say_room(Room::Plenty);
    assert_eq!(api.post("/v1/jobs", &job).await.status, 202);
    assert_eq!(api.post("/v1/flush", &json!({})).await.json(), json!({"accepted": 1, "refused": 0, "lost": 0}));
}

/// Calls that may be repeated anyway looked at no key, not even at one that is none.
#[tokio::test]
async fn a_key_that_is_none_is_refused_wherever_it_is_sent() {
    let api = Api::new();
    let paths =
        ["/v1/jobs", "/v1/flush", "/v1/queues/default/pause", "/v1/kinds/a/pause", "/v1/jobs/1/cancel", "/v1/lease"];
    let json = ("content-type", "application/json");
    for path in paths {
        for (key, words) in [("", "1 to 128 bytes"), (&*"k".repeat(129), "1 to 128 bytes"), ("\u{e4}", "visible ASCII")]
        {
            let answer = api.send(Method::POST, path, &[json, ("Idempotency-Key", key)], r#"{"kind": "a"}"#).await;
            answer.check_refused(422, "invalid", Some("Idempotency-Key"), words);
        }
    }
    let paused = api.send(Method::POST, "/v1/queues/default/pause", &[json, ("Idempotency-Key", "k")], "{}").await;
    assert_eq!(paused.status, 200, "{}", paused.text());
}
