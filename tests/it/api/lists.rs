//! Lists of jobs: what they may be asked for, in which order, and in pages.

use runner_store::job::{Millis, Outcome};
use serde_json::{Value, json};

use super::Api;

impl Api {
    async fn listed(&self, query: &str) -> Value {
        let answer = self.get(&format!("/v1/jobs?{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    async fn ids(&self, query: &str) -> Vec<String> {
        let page = self.listed(query).await;
        let jobs = page["jobs"].as_array().unwrap().iter();
        jobs.map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Four jobs: one that failed, one with a unique key, one with a tag, one of a schedule.
async fn some_jobs() -> Api {
    let api = Api::new();
    api.enqueue(&json!({"kind": "image.resize", "max_attempts": 1})).await;
    let job = api.claim("image.resize").await;
    api.finish(&job, Outcome::Failed { message: "no space left".to_owned(), retry_after: None }).await;
    api.enqueue(&json!({"kind": "mail.send", "unique": {"key": "welcome 7"}})).await;
    api.enqueue(&json!({"kind": "mail.send", "tags": {"customer": "Acme"}})).await;
    let plan = json!({"name": "nightly", "kind": "report", "every": "1h"});
    assert_eq!(api.post("/v1/schedules", &plan).await.status, 201);
    assert_eq!(api.post("/v1/schedules/nightly/fire", &json!({})).await.status, 201);
    api
}

/// Jobs that failed alike are counted together, listed and changed together, whatever numbers are in their errors.
#[tokio::test]
async fn jobs_that_failed_alike_are_found_by_their_error() {
    let api = Api::new();
    let failed = |text: &str| Outcome::Failed { message: text.to_owned(), retry_after: None };
    let ends = [
        (1, failed("no \"a.jpg\" after 17 ms")),
        (1, failed("no \"b c.jpg\" after 4 ms")),
        (5, failed("No 'd' after 0x7f ms")),
        (1, failed("status 503")),
        (1, Outcome::Completed { output: b"{}".to_vec() }),
        (1, Outcome::TimedOut { limit: Millis(60_000) }),
    ];
    for (n, (max_attempts, outcome)) in ends.into_iter().enumerate() {
        let queue = if n == 0 { "media" } else { "default" };
        let held = api.enqueue(&json!({"kind": "a", "max_attempts": max_attempts, "hold": true})).await;
        assert_eq!(api.post(&format!("/v1/jobs/{held}/release"), &json!({})).await.status, 200, "{queue}");
        let job = api.claim("a").await;
        api.finish(&job, outcome).await;
    }
    let counts = api.get("/v1/jobs/count?by=error").await.json();
    let found = counts["counts"].as_array().unwrap();
    let by = |field: &str| found.iter().map(|count| count[field].clone()).collect::<Vec<_>>();
    assert_eq!((&counts["total"], by("jobs")), (&json!(5), vec![json!(3), json!(1), json!(1)]), "{counts}");
    assert_eq!(found[0]["example"], "No 'd' after 0x7f ms", "the newest");
    assert_eq!(counts["more"], Value::Null);
    let error = found[0]["error"].as_str().unwrap();
    assert_eq!(api.ids(&format!("error={error}")).await, ["3", "2", "1"]);
    assert_eq!(api.ids(&format!("error={error}&state=retryable")).await, ["3"]);
    assert_eq!(api.ids(&format!("error={error}&state=completed")).await, [""; 0]);
    assert_eq!(api.get("/v1/jobs/2").await.json()["fingerprint"], error);
    assert_eq!(api.get("/v1/jobs/5").await.json()["fingerprint"], Value::Null);
    let split = api.get("/v1/jobs/count?by=error,state,kind").await.json();
    assert_eq!(
        split["counts"][0],
        json!({"state": "discarded", "kind": "a", "error": error, "example": "no \"b c.jpg\" after 4 ms", "jobs": 2})
    );
    api.get("/v1/jobs?error=503").await.check_refused(422, "invalid", Some("error"), "is no fingerprint of an error");
    api.get("/v1/jobs/count?by=errors").await.check_refused(422, "invalid", Some("by"), "did you mean `error`?");
    // What is wrong with all of them was mended.
    let dry = api.post("/v1/jobs/retry", &json!({"error": error, "dry_run": true})).await;
    assert_eq!(dry.json()["matched"], 3);
    let begun = api.post("/v1/jobs/retry", &json!({"error": error})).await;
    let path = format!("/v1/operations/{}", begun.json()["operation"].as_str().unwrap());
    while api.get(&path).await.json()["state"] == "running" {
        tokio::task::yield_now().await;
    }
    assert_eq!(api.get(&path).await.json()["changed"], 3);
    assert_eq!(api.ids(&format!("error={error}")).await, [""; 0]);
}

/// A count is of the jobs that a list with the same filter has.
#[tokio::test]
async fn jobs_are_counted_by_what_they_are_listed_by() {
    let api = some_jobs().await;
    for query in [
        "",
        "state=discarded",
        "state=available&kind=report",
        "queue=default",
        "queue=never.seen",
        "kind=never.seen&q=mail",
        "outcome=failed",
        "outcome=timed_out",
        "schedule=nightly",
        "unique_key=welcome%207",
        "q=mail",
        "q=acme&state=available",
        "since=2100-01-01T00:00:00Z",
        "until=2100-01-01T00:00:00Z&state=discarded",
    ] {
        let listed = api.ids(query).await.len();
        for by in ["state", "queue,kind", "state,kind"] {
            let counts = api.get(&format!("/v1/jobs/count?by={by}&{query}")).await.json();
            assert_eq!(counts["total"], listed, "{by} {query}: {counts}");
            let sums = counts["counts"].as_array().unwrap();
            let sum: u64 = sums.iter().map(|sum| sum["jobs"].as_u64().unwrap()).sum();
            assert_eq!(sum, listed as u64, "{by} {query}: {counts}");
            assert!(sums.iter().all(|sum| sum["example"].is_null() && sum["error"].is_null()), "{counts}");
        }
    }
    let of = async |query: &str| api.get(&format!("/v1/jobs/count?by={query}")).await.json()["total"].clone();
    assert_eq!((of("error").await, of("error&state=discarded").await), (json!(1), json!(1)));
    assert_eq!((of("error&state=retryable").await, of("error&state=available").await), (json!(0), json!(0)));
    assert_eq!((of("error&kind=never.seen").await, of("error&outcome=timed_out").await), (json!(0), json!(0)));
    let check = async |query: &str, field: &str| {
        api.get(&format!("/v1/jobs/count?{query}")).await.check_refused(422, "invalid", Some(field), "");
    };
    check("state=done", "state").await;
    check("tag=k", "tag").await;
    check("limit=5", "limit").await;
}

#[tokio::test]
async fn jobs_are_listed_by_what_is_said_of_them() {
    let api = some_jobs().await;
    for (query, expected) in [
        ("", vec!["4", "3", "2", "1"]),
        ("order=oldest", vec!["1", "2", "3", "4"]),
        ("order=newest", vec!["4", "3", "2", "1"]),
        ("outcome=failed", vec!["1"]),
        ("outcome=timed_out", vec![]),
        ("schedule=nightly", vec!["4"]),
        ("schedule=hourly", vec![]),
        ("unique_key=welcome%207", vec!["2"]),
        ("q=SPACE", vec!["1"]),
        ("q=mail", vec!["3", "2"]),
        ("q=mail&order=oldest&unique_key=welcome%207", vec!["2"]),
        ("q=acme", vec!["3"]),
        ("q=4", vec!["4"]),
        ("since=2020-01-01T00:00:00Z&state=discarded", vec!["1"]),
        ("since=2100-01-01T00:00:00Z", vec![]),
        ("until=2100-01-01T00:00:00%2B01:00&kind=report", vec!["4"]),
    ] {
        assert_eq!(api.ids(query).await, expected, "{query}");
    }
    let first = api.listed("order=oldest&limit=3").await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = api.listed(&format!("order=oldest&limit=3&cursor={cursor}")).await;
    assert_eq!((&second["jobs"][0]["id"], &second["next_cursor"]), (&json!("4"), &Value::Null));
    api.get(&format!("/v1/jobs?cursor={cursor}")).await.check_refused(422, "invalid", Some("cursor"), "of this order");
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_by_name() {
    let api = Api::new();
    for (query, field, words) in [
        ("since=yesterday", "since", "RFC 3339"),
        ("until=1969-12-31T23:59:59Z", "until", "before 1970"),
        ("outcome=exploded", "outcome", "there are completed, failed"),
        ("q=", "q", "1 to 256 characters"),
        ("order=random", "order", "newest"),
        ("unique_key=a&unique_key=b", "unique_key", "given twice"),
        ("scedule=x", "scedule", "did you mean `schedule`"),
    ] {
        api.get(&format!("/v1/jobs?{query}")).await.check_refused(422, "invalid", Some(field), words);
    }
    let long = "x".repeat(257);
    api.get(&format!("/v1/jobs?q={long}")).await.check_refused(422, "invalid", Some("q"), "1 to 256");
    let body = json!({"outcome": "exploded"});
    api.post("/v1/jobs/retry", &body).await.check_refused(422, "invalid", Some("outcome"), "is no outcome");
}

#[tokio::test]
async fn verbs_on_many_jobs_take_the_same_words() {
    let api = some_jobs().await;
    for (filter, matched) in [
        (json!({"outcome": "failed"}), 1),
        (json!({"q": "mail"}), 2),
        (json!({"schedule": "nightly", "state": "available"}), 1),
        (json!({"unique_key": "nobody's"}), 0),
    ] {
        let Value::Object(mut body) = filter.clone() else { unreachable!() };
        body.insert("dry_run".to_owned(), json!(true));
        let dry = api.post("/v1/jobs/cancel", &Value::Object(body)).await;
        assert_eq!((dry.status.as_u16(), dry.json()), (200, json!({"matched": matched})), "{filter}");
    }
    let done = api.operation("/v1/jobs/cancel", &json!({"q": "mail"})).await;
    assert_eq!((&done["state"], &done["changed"]), (&json!("done"), &json!(2)), "{done}");
    assert_eq!(api.ids("state=cancelled").await, ["3", "2"]);
}
