//! What happened to jobs, step by step.

use runner_store::job::Outcome;
use serde_json::{Value, json};

use super::ask;
use crate::api::*;
use runner_runtime::api::guard::Guard;
use runner_store::token::TokenScope;

fn sum(series: &Value, of: impl Fn(&Value) -> Option<u64>) -> u64 {
    series["points"].as_array().unwrap().iter().filter_map(of).sum()
}

fn sums(series: &Value) -> [u64; 4] {
    let finished = |name: &'static str| move |point: &Value| point["finished"][name].as_u64();
    [
        sum(series, |point| point["enqueued"].as_u64()),
        sum(series, |point| point["started"].as_u64()),
        sum(series, finished("completed")),
        sum(series, finished("discarded")),
    ]
}

#[tokio::test]
async fn what_happened_to_jobs_is_counted_step_by_step() {
    let api = Api::new();
    let nothing = api.get("/v1/stats/series").await.json();
    assert_eq!((&nothing["since"], &nothing["points"]), (&Value::Null, &json!([])), "nothing counts here");
    api.enqueue(&json!({"kind": "before"})).await;
    api.app.keep_series();
    for end in
        [Outcome::Completed { output: Vec::new() }, Outcome::Failed { message: "no".to_owned(), retry_after: None }]
    {
        api.enqueue(&json!({"kind": "a", "max_attempts": 1})).await;
        let job = api.claim("a").await;
        api.finish(&job, end).await;
    }
    let series = api.get("/v1/stats/series").await.json();
    assert_eq!(
        (sums(&series), &series["step"], &series["tenant"]),
        ([2, 2, 1, 1], &json!("10s"), &Value::Null),
        "{series}"
    );
    assert!(series["since"].is_string());
    let long = api.get("/v1/stats/series?window=6h").await.json();
    assert_eq!((sums(&long), &long["step"]), ([2, 2, 1, 1], &json!("1m")));
    for window in ["59s", "7h", "1", "x"] {
        let answer = api.get(&format!("/v1/stats/series?window={window}")).await;
        answer.check_refused(422, "invalid", Some("window"), "");
    }
    api.app.stop().await;
}

#[tokio::test]
async fn a_tenant_sees_its_own_and_an_admin_all_or_one() {
    let api = Api::new();
    let acme = api.tenant("acme").await;
    api.app.keep_series();
    api.enqueue(&json!({"kind": "a"})).await;
    let theirs = [("content-type", "application/json"), ("runner-tenant", "acme")];
    for _ in 0..2 {
        assert_eq!(api.send(Method::POST, "/v1/jobs", &theirs, r#"{"kind": "b"}"#).await.status, 201);
    }
    let (reader, admin) =
        (api.token(Some(acme), &[TokenScope::Read]).await, api.token(None, &[TokenScope::Admin]).await);
    let router = api.behind(Guard::Network);
    let series = async |token: &str, named: Option<&str>| {
        let asked = ask("GET", "/v1/stats/series").bearer(token);
        let asked = if let Some(tenant) = named { asked.with("runner-tenant", tenant) } else { asked };
        let told = asked.of(&router).await.json();
        (told["tenant"].clone(), sums(&told)[0])
    };
    assert_eq!(series(&reader, None).await, (json!("acme"), 2));
    assert_eq!(series(&admin, None).await, (Value::Null, 3));
    assert_eq!(series(&admin, Some("acme")).await, (json!("acme"), 2));
    assert_eq!(series(&admin, Some("default")).await, (json!("default"), 1));
    api.app.stop().await;
}
