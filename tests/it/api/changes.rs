//! Changing one job, and asking why it does not run.

use axum::http::Method;
use runner_store::job::Outcome;
use serde_json::{Value, json};

use super::{Answer, Api};

impl Api {
    pub(super) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, path, &[("content-type", "application/json")], body.to_string()).await
    }

    async fn why(&self, id: &str) -> (String, String) {
        let why = self.get(&format!("/v1/jobs/{id}/why")).await.json();
        let text = |name: &str| why["why"][0][name].as_str().unwrap().to_owned();
        (text("code"), text("detail"))
    }
}

#[tokio::test]
async fn a_job_is_rescheduled_and_edited_while_it_waits() {
    let api = Api::new();
    api.enqueue(&json!({"kind": "a", "args": {"n": 1}, "expires_at": "2090-01-01T00:00:00Z"})).await;
    let later = api.post("/v1/jobs/1/reschedule", &json!({"delay": "1h"})).await.json();
    assert_eq!((&later["state"], &later["changed"]), (&json!("scheduled"), &json!(true)));
    let at = api.post("/v1/jobs/1/reschedule", &json!({"run_at": "2080-01-01T00:00:00Z"})).await.json();
    assert_eq!(at["run_at"], "2080-01-01T00:00:00.000Z");
    let edit = json!({
        "args": {"n":  2}, "priority": "high", "max_attempts": 3, "timeout": "5s", "tags": {"k": "v"},
        "expires_at": null, "retry": {"backoff": "never"}, "run_at": "2000-01-01T00:00:00Z",
    });
    let edited = api.patch("/v1/jobs/1", &edit).await;
    assert_eq!(edited.status, 200, "{}", edited.text());
    let shown = api.get("/v1/jobs/1").await.json();
    let fields =
        ["state", "priority", "max_attempts", "timeout", "tags", "expires_at", "args"].map(|name| &shown[name]);
    let expected = json!(["available", -16384, 3, "5s", {"k": "v"}, null, {"n": 2}]);
    assert_eq!(json!(fields), expected);
    let check = async |body: Value, field: &str, words: &str| {
        api.patch("/v1/jobs/1", &body).await.check_refused(422, "invalid", Some(field), words);
    };
    check(json!({}), "body", "says nothing to be changed").await;
    check(json!({"kind": "b"}), "kind", "is no known field").await;
    check(json!({"timeout": "0ms"}), "timeout", "1ms to 24h").await;
    check(json!({"priority": 99_999}), "priority", "must be a whole number").await;
    check(json!({"args": 1, "args_base64": ""}), "args_base64", "exclude each other").await;
    check(json!({"retry": {"backoff": "linear", "factor": 2}}), "retry.factor", "says nothing").await;
    let wrong = async |body: Value, field: &str, words: &str| {
        api.post("/v1/jobs/1/reschedule", &body).await.check_refused(422, "invalid", Some(field), words);
    };
    wrong(json!({}), "run_at", "is missing").await;
    wrong(json!({"delay": "1h", "run_at": "2080-01-01T00:00:00Z"}), "delay", "exclude each other").await;
    wrong(json!({"delay": 5}), "delay", "with a unit").await;
    let job = api.claim("a").await;
    api.patch("/v1/jobs/1", &json!({"priority": 1})).await.check_refused(409, "state", None, "cancel it first");
    api.finish(&job, Outcome::Completed { output: Vec::new() }).await;
    let late = api.post("/v1/jobs/1/reschedule", &json!({"delay": "1h"})).await;
    late.check_refused(409, "state", None, "it has ended; `retry`");
    api.patch("/v1/jobs/9", &json!({"priority": 1})).await.check_refused(404, "not_found", None, "no job");
}

#[tokio::test]
async fn a_retry_takes_along_what_was_cancelled_because_of_it() {
    let api = Api::new();
    let list = json!([
        {"kind": "a", "max_attempts": 1}, {"kind": "b", "depends_on": [{"position": 0}]},
        {"kind": "c", "depends_on": [{"position": 1}]},
    ]);
    api.post("/v1/jobs", &list).await;
    let job = api.claim("a").await;
    api.finish(&job, Outcome::Failed { message: "no".to_owned(), retry_after: None }).await;
    let told = async |id: &str| api.get(&format!("/v1/jobs/{id}/wait?timeout=30s")).await.json()["state"].clone();
    assert_eq!((told("2").await, told("3").await), (json!("cancelled"), json!("cancelled")));
    let retried = api.post("/v1/jobs/1/retry?with_dependents=true&fresh=true", &json!({})).await.json();
    assert_eq!((&retried["state"], &retried["revived"]), (&json!("available"), &json!(2)));
    for id in ["2", "3"] {
        assert_eq!(api.get(&format!("/v1/jobs/{id}")).await.json()["state"], "blocked");
    }
    api.post("/v1/jobs/1/retry?frsh=true", &json!({})).await.check_refused(
        422,
        "invalid",
        Some("frsh"),
        "did you mean",
    );
    let bad = api.post("/v1/jobs/1/retry?fresh=1", &json!({})).await;
    bad.check_refused(422, "invalid", Some("fresh"), "true or false");
    let blocked = api.post("/v1/jobs/2/retry", &json!({})).await;
    blocked.check_refused(409, "state", None, "it waits for other jobs");
}

#[tokio::test]
async fn a_job_that_others_wait_for_is_deleted_only_with_a_word() {
    let api = Api::new();
    api.post("/v1/jobs", &json!([{"kind": "a"}, {"kind": "b", "depends_on": [{"position": 0}]}])).await;
    let delete = async |query: &str| api.send(Method::DELETE, &format!("/v1/jobs/1{query}"), &[], "").await;
    delete("").await.check_refused(409, "waited_for", None, "delete it with `cascade`");
    delete("?cascade=yes").await.check_refused(422, "invalid", Some("cascade"), "true or false");
    assert_eq!(delete("?cascade=true").await.status, 204);
    assert_eq!(
        api.get("/v1/jobs/2/wait?timeout=30s").await.json()["reason"],
        "dependency 1 was deleted before it completed"
    );
}

#[tokio::test]
async fn why_says_what_a_job_waits_for() {
    let api = Api::new();
    let list = json!([
        {"kind": "a"}, {"kind": "b", "depends_on": [{"position": 0}]}, {"kind": "c", "hold": true},
        {"kind": "d", "run_at": "2080-01-01T00:00:00Z"},
    ]);
    api.post("/v1/jobs", &list).await;
    let check = async |id: &str, code: &str, words: &str| {
        let (is, detail) = api.why(id).await;
        assert!(is == code && detail.contains(words), "{is}: {detail}");
    };
    check("1", "no_node", "start one with `runner serve`").await;
    let plugin = &api.get("/v1/jobs/1/why").await.json()["why"][1];
    assert_eq!(plugin["code"], "no_plugin");
    check("2", "dependency", "waits for job 1, which is available").await;
    assert_eq!(api.get("/v1/jobs/2/why").await.json()["why"][0]["job"], "1");
    check("3", "held", "`release`").await;
    check("4", "scheduled", "2080-01-01T00:00:00.000Z").await;
    let job = api.claim("a").await;
    check("1", "running", "run 1 has it since 2").await;
    api.finish(&job, Outcome::Failed { message: "no host".to_owned(), retry_after: None }).await;
    check("1", "retryable", "attempt 1 failed with: no host; it is tried again at 2").await;
    api.post("/v1/jobs/1/cancel", &json!({"reason": "enough"})).await;
    check("1", "ended", "cancelled on request: enough").await;
    api.get("/v1/jobs/9/why").await.check_refused(404, "not_found", None, "no job");
}

#[tokio::test]
async fn a_graph_shows_what_a_job_waits_for_and_what_waits_for_it() {
    let api = Api::new();
    let list = json!([
        {"kind": "a"}, {"kind": "b", "depends_on": [{"position": 0, "on_failure": "run"}]},
        {"kind": "c", "depends_on": [{"position": 1}, {"position": 0}]},
    ]);
    api.post("/v1/jobs", &list).await;
    let graph = api.get("/v1/jobs/3/graph").await.json();
    let edge = |job: &str, on_failure: &str| json!({"job": job, "on_failure": on_failure, "settled": null});
    let expected = json!({"more": false, "jobs": [
        {"id": "3", "kind": "c", "state": "blocked", "depends_on": [edge("2", "cancel"), edge("1", "cancel")]},
        {"id": "2", "kind": "b", "state": "blocked", "depends_on": [edge("1", "run")]},
        {"id": "1", "kind": "a", "state": "available", "depends_on": []},
    ]});
    assert_eq!(graph, expected);
    let from_below = api.get("/v1/jobs/1/graph").await.json();
    let ids: Vec<&str> = from_below["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["1", "2", "3"], "those that wait for it are shown, too");
    let chain: Vec<Value> = (0..300)
        .map(|n| if n == 0 { json!({"kind": "x"}) } else { json!({"kind": "x", "depends_on": [{"position": n - 1}]}) })
        .collect();
    api.post("/v1/jobs", &json!(chain)).await;
    let long = api.get("/v1/jobs/303/graph").await.json();
    assert_eq!((long["jobs"].as_array().unwrap().len(), &long["more"]), (200, &json!(true)));
    api.get("/v1/jobs/999/graph").await.check_refused(404, "not_found", None, "no job");
}
