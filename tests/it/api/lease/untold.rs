//! Whoever asked for runs and went away before it was told of them: they are another worker's at once, have cost a number
//! each, and no attempt.

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};

use super::{Run, Site};

fn ask(wait: &str, max: u32) -> Value {
    json!({"kinds": ["render"], "wait": wait, "worker": "gone", "max": max})
}

impl Site {
    /// The answer to a call for runs, of which nothing was read yet.
    async fn unread(&self) -> Response {
        let request = Request::post("/v1/lease").header("content-type", "application/json");
        let request = request.body(Body::from(ask("30s", 1).to_string())).unwrap();
        TowerToHyperService::new(self.api.router.clone()).call(request).await.unwrap()
    }

    /// The job is another worker's, and has lost nothing but a number.
    async fn check_came_back(&self, id: &str, number: u64) {
        let run = self.take("render", "30s").await;
        assert_eq!((run.id.as_str(), run.number), (id, number));
        let job = self.job(id).await;
        assert_eq!((&job["attempts"], &job["crashes"]), (&json!(0), &json!(0)), "{job}");
        let before = &job["runs"][0];
        assert_eq!((&before["run"], &before["outcome"]), (&json!(number - 1), &json!("interrupted")), "{job}");
        assert_eq!((&before["worker"], &before["started_at"]), (&json!("gone"), &Value::Null), "{job}");
        assert!(before["error"].as_str().is_some_and(|error| error.contains("before its worker was told")), "{job}");
        assert_eq!(self.say(&run, "finish", json!({"outcome": "completed"})).await.json()["state"], "completed");
        assert_eq!(self.job(id).await["attempts"], 1);
    }
}

/// What lay on its way to a call that was just given up stayed with nobody until its lease was over, and counted as a crash.
#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_when_it_has_just_been_given_a_run_has_taken_none() {
    let site = Site::new().await;
    site.api.post("/v1/kinds/render/pause", &json!({})).await;
    let id = site.enqueue(json!({"kind": "render"})).await;
    let mut waits = Box::pin(site.lease(ask("30s", 1)));
    let asked = async {
        while site.api.get(&format!("/v1/jobs/{id}/why")).await.text().contains("no_worker") {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = &mut waits => panic!("{}", answer.text()),
        () = asked => {}
    }
    site.api.post("/v1/kinds/render/resume", &json!({})).await;
    // It is given, and nobody looks: whoever asks after that is answered after it was.
    site.until(&id, |job| job["state"] == "running").await;
    site.lease(json!({"kinds": ["video.cut"], "worker": "w"})).await;
    drop(waits);
    site.check_came_back(&id, 2).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_never_sent_has_told_nobody() {
    let site = Site::new().await;
    let id = site.enqueue(json!({"kind": "render"})).await;
    drop(site.unread().await);
    site.check_came_back(&id, 2).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_answer_has_no_room_for_is_the_next_ones() {
    let site = Site::new().await;
    let large = json!({"kind": "render", "args": "a".repeat(1_000_000)});
    for _ in 0..10 {
        site.enqueue(large.clone()).await;
    }
    let given = |answer: Value| -> Vec<Run> { answer["runs"].as_array().unwrap().iter().map(Run::new).collect() };
    let first = given(site.lease(ask("30s", 10)).await.json());
    assert_eq!(first.iter().map(|run| run.number).collect::<Vec<_>>(), [1; 8], "8 MiB");
    let mut rest = Vec::new();
    while rest.len() < 2 {
        rest.extend(given(site.lease(ask("30s", 10)).await.json()));
    }
    assert_eq!(rest.iter().map(|run| run.number).collect::<Vec<_>>(), [2; 2], "each was given back once");
    for run in rest.iter().chain(&first) {
        assert_eq!(site.say(run, "finish", json!({"outcome": "completed"})).await.status, 200);
        assert_eq!(site.job(&run.id).await["attempts"], 1);
    }
    site.stop().await;
}
