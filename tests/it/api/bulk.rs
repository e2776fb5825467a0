//! Verbs on every job that a filter matches.

use runner_store::command::{Command, Enqueue, Reply};
use runner_store::job::{JobSpec, Outcome, TenantId};
use serde_json::{Value, json};

use super::Api;

impl Api {
    /// Sends a bulk verb and waits for its end.
    async fn bulk(&self, verb: &str, body: &Value) -> Value {
        self.operation(&format!("/v1/jobs/{verb}"), body).await
    }

    pub(super) async fn operation(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        let mut shown = answer.json();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while shown["state"] == "running" {
            assert!(std::time::Instant::now() < deadline, "{shown}");
            tokio::task::yield_now().await;
            shown = self.get(&format!("/v1/operations/{}", shown["operation"].as_str().unwrap())).await.json();
        }
        shown
    }
}

#[tokio::test]
async fn a_verb_goes_through_all_that_match() {
    let api = Api::new();
    let list: Vec<Value> = (0..2_500)
        .map(|n| json!({"kind": "a", "queue": if n % 2 == 0 { "even" } else { "odd" }, "hold": n < 100, "tags": {"n": (n % 5).to_string()}}))
        .collect();
    api.post("/v1/jobs", &json!(list)).await;
    let dry = api.post("/v1/jobs/cancel", &json!({"queue": "even", "dry_run": true})).await;
    assert_eq!((dry.status.as_u16(), dry.json()), (200, json!({"matched": 1_250})));
    let done = api.bulk("cancel", &json!({"queue": "even", "reason": "enough"})).await;
    let figures = ["verb", "state", "matched", "looked_at", "changed", "error"].map(|name| &done[name]);
    assert_eq!(json!(figures), json!(["cancel", "done", 1_250, 1_250, 1_250, null]));
    assert_eq!(api.get("/v1/jobs/1").await.json()["reason"], "cancelled on request: enough");
    let released = api.bulk("release", &json!({"state": "held"})).await;
    assert_eq!((&released["matched"], &released["changed"]), (&json!(50), &json!(50)));
    let tagged = api.bulk("delete", &json!({"tag": "n=3", "kind": "a"})).await;
    assert_eq!((&tagged["matched"], &tagged["changed"]), (&json!(500), &json!(500)));
    assert_eq!(api.get("/v1/jobs?tag=n%3D3").await.json()["jobs"], json!([]));
    let retried = api.bulk("retry", &json!({"all": true})).await;
    assert_eq!(
        (&retried["looked_at"], &retried["changed"]),
        (&json!(2_000), &json!(1_000)),
        "the others were available"
    );
    let none = api.bulk("cancel", &json!({"queue": "never.seen"})).await;
    assert_eq!((&none["state"], &none["matched"]), (&json!("done"), &json!(0)));
}

/// What is looked for in rows is counted up to a bound, and the answer says that it was reached; the verb goes through all.
#[tokio::test]
async fn where_more_match_than_are_counted_that_is_said() {
    let api = Api::new();
    for n in 0..11 {
        let tag = |i: u32| vec![("of".to_owned(), if n == 0 && i < 500 { "few" } else { "many" }.to_owned())];
        let jobs = (0..10_000).map(|i| JobSpec { tags: tag(i), ..JobSpec::new("a", "{}") }).collect();
        let reply = api.store.call(Command::Enqueue(Enqueue::new(TenantId::DEFAULT, jobs))).await.unwrap();
        assert!(matches!(reply, Reply::Enqueued(_)), "{reply:?}");
    }
    let dry = async |filter: Value| {
        let Value::Object(mut body) = filter else { unreachable!() };
        body.insert("dry_run".to_owned(), json!(true));
        api.post("/v1/jobs/cancel", &Value::from(body)).await.json()
    };
    assert_eq!(dry(json!({"tag": "of=many"})).await, json!({"matched": 100_000, "more": true}));
    assert_eq!(dry(json!({"tag": "of=few"})).await, json!({"matched": 500}));
    let count = async |query: &str| api.get(&format!("/v1/jobs/count?{query}")).await.json();
    let available = |n: u32| json!([{"state": "available", "jobs": n}]);
    assert_eq!(count("tag=of%3Dmany").await, json!({"total": 100_000, "counts": available(100_000), "more": true}));
    assert_eq!(count("tag=of%3Dfew").await, json!({"total": 500, "counts": available(500)}));
    // What is counted all the time has no bound.
    assert_eq!(count("kind=a").await, json!({"total": 110_000, "counts": available(110_000)}));
    assert_eq!(dry(json!({"kind": "a"})).await, json!({"matched": 110_000}));
    let done = api.bulk("cancel", &json!({"tag": "of=many"})).await;
    assert_eq!((&done["matched"], &done["changed"]), (&json!(100_000), &json!(109_500)));
}

#[tokio::test]
async fn a_queue_is_cleared_and_its_discarded_jobs_run_again() {
    let api = Api::new();
    for kind in ["a", "c"] {
        api.enqueue(&json!({"kind": kind, "max_attempts": 1})).await;
        let job = api.claim(kind).await;
        api.finish(&job, Outcome::Failed { message: "no such host".to_owned(), retry_after: None }).await;
    }
    for more in [json!({"hold": true}), json!({}), json!({"queue": "other"})] {
        let Value::Object(mut job) = more else { unreachable!() };
        job.insert("kind".to_owned(), json!("a"));
        api.enqueue(&Value::Object(job)).await;
    }
    for kind in ["never.seen", "b"] {
        let none = api.operation("/v1/queues/default/retry", &json!({"kind": kind})).await;
        assert_eq!((&none["state"], &none["matched"], &none["changed"]), (&json!("done"), &json!(0), &json!(0)));
    }
    let retried = api.operation("/v1/queues/default/retry", &json!({"kind": "a"})).await;
    assert_eq!((&retried["matched"], &retried["changed"]), (&json!(1), &json!(1)));
    assert_eq!(api.get("/v1/jobs/2").await.json()["state"], "discarded", "it is of another kind");
    let retried = api.operation("/v1/queues/default/retry", &json!({})).await;
    assert_eq!((&retried["matched"], &retried["changed"]), (&json!(1), &json!(1)));
    let dry = api.post("/v1/queues/default/clear", &json!({"states": ["available", "held"], "dry_run": true})).await;
    assert_eq!((dry.status.as_u16(), dry.json()), (200, json!({"matched": 4})));
    let cleared = api.operation("/v1/queues/default/clear", &json!({"states": ["available"]})).await;
    assert_eq!((&cleared["verb"], &cleared["changed"]), (&json!("clear"), &json!(3)));
    let left = api.get("/v1/jobs").await.json()["jobs"].as_array().unwrap().len();
    assert_eq!(left, 2, "the held one, and that of another queue");

    let check = async |path: &str, body: Value, field: &str, words: &str| {
        api.post(path, &body).await.check_refused(422, "invalid", Some(field), words);
    };
    check("/v1/queues/default/clear", json!({}), "states", "must name what is to be deleted").await;
    check("/v1/queues/default/clear", json!({"states": []}), "states", "must name what is to be deleted").await;
    check("/v1/queues/default/clear", json!({"states": ["running"]}), "states[0]", "are not cleared").await;
    check("/v1/queues/default/clear", json!({"states": ["done"]}), "states[0]", "is no state").await;
    check("/v1/queues/default/retry", json!({"states": ["held"]}), "states", "is no known field").await;
    api.post("/v1/queues/none/clear", &json!({"states": ["held"]})).await.check_refused(404, "not_found", None, "");
}

#[tokio::test]
async fn what_is_wrong_about_a_bulk_verb_is_named() {
    let api = Api::new();
    let check = async |body: Value, field: &str, words: &str| {
        api.post("/v1/jobs/cancel", &body).await.check_refused(422, "invalid", Some(field), words);
    };
    check(json!({}), "all", "must be true where there is no filter").await;
    check(json!({"all": true, "queue": "q"}), "all", "exclude each other").await;
    check(json!({"state": "done"}), "state", "is no state").await;
    check(json!({"tag": "k"}), "tag", "must be KEY=VALUE").await;
    check(json!({"quue": "q"}), "quue", "did you mean `queue`?").await;
    check(json!({"queue": "q", "reason": "x".repeat(2_000)}), "reason", "at most 1024 bytes").await;
    check(json!({"queue": "q", "force": true}), "force", "is no known field").await;
    api.get("/v1/operations/7").await.check_refused(404, "not_found", None, "no operation with this number");
    api.get("/v1/operations/x").await.check_refused(404, "not_found", None, "no operation with this number");
}

#[tokio::test]
async fn operations_are_remembered_up_to_a_bound() {
    let api = Api::new();
    for _ in 0..101 {
        api.bulk("cancel", &json!({"queue": "q"})).await;
    }
    api.get("/v1/operations/1").await.check_refused(404, "not_found", None, "the last 100");
    assert_eq!(api.get("/v1/operations/101").await.json()["state"], "done");
}
