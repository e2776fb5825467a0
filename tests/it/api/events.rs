//! The stream of events: what it tells, where it goes on, and when it says no.

use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use runner_runtime::api::events::VIEWS_MAX;
use serde_json::{Value, json};

use super::Api;

/// A reader of the stream.
struct Reader {
    body: Body,
    text: String,
}

impl Api {
    async fn read(&self, path: &str, last: Option<&str>) -> Reader {
        let last = last.map(|last| ("last-event-id", last));
        self.read_with(path, last.as_slice()).await
    }

    async fn read_with(&self, path: &str, headers: &[(&str, &str)]) -> Reader {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = TowerToHyperService::new(self.router.clone()).call(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Reader { body: response.into_body(), text: String::new() }
    }
}

impl Reader {
    /// The next event; none: the stream has ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
                let id = event.lines().find_map(|line| line.strip_prefix("id: ")).map(str::to_owned);
                self.text = rest.to_owned();
                let Some(data) = data else { continue };
                let data: Value = serde_json::from_str(&data).unwrap();
                assert_eq!(id, data["seq"].as_u64().map(|seq| seq.to_string()));
                return Some(data);
            }
            let frame = tokio::time::timeout(std::time::Duration::from_secs(30), self.body.frame()).await.unwrap()?;
            self.text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
    }

    async fn seqs(mut self) -> Vec<u64> {
        let mut seqs = Vec::new();
        while let Some(event) = self.next().await {
            seqs.push(event["seq"].as_u64().unwrap());
        }
        seqs
    }
}

#[tokio::test]
async fn events_are_told_as_they_happen_and_a_reader_goes_on_where_it_broke_off() {
    let api = Api::new();
    api.enqueue(&json!({"kind": "a", "queue": "q"})).await;
    let mut reader = api.read("/v1/events", None).await;
    let mut first = reader.next().await.unwrap();
    assert_eq!(first["at"].take().as_str().unwrap().len(), 24);
    let expected = json!({
        "seq": 1, "at": null, "event": "enqueued", "job": "1", "state": "available", "run": 0, "kind": "a", "queue": "q",
    });
    assert_eq!(first, expected);
    let nothing = json!({});
    let (told, _) = tokio::join!(reader.next(), api.post("/v1/jobs/1/cancel", &nothing));
    assert_eq!(told.unwrap()["event"], "cancelled");
    drop(reader);
    api.enqueue(&json!({"kind": "b"})).await;
    // A browser repeats its URL, and says what it has seen.
    let mut again = api.read("/v1/events?since=0", Some("2")).await;
    assert_eq!(again.next().await.unwrap()["job"], "2");
    let mut now = api.read("/v1/events?since=now", None).await;
    let job = json!({"kind": "c"});
    let (told, _) = tokio::join!(now.next(), api.post("/v1/jobs", &job));
    assert_eq!(told.unwrap()["seq"], 4);
    let seqs = async |query: &str| api.read(&format!("/v1/events?follow=false{query}"), None).await.seqs().await;
    assert_eq!(seqs("").await, [1, 2, 3, 4]);
    assert_eq!(seqs("&since=2").await, [3, 4]);
    assert_eq!(seqs("&since=4").await, Vec::<u64>::new());
    assert_eq!(seqs("&job=1").await, [1, 2]);
    assert_eq!(seqs("&kind=b").await, [3]);
    assert_eq!(seqs("&queue=q&state=cancelled").await, [2]);
    // Of a job that is gone, its first event says what it was: to whoever does not begin behind that.
    assert_eq!(api.send(Method::DELETE, "/v1/jobs/1", &[], "").await.status, 204);
    assert_eq!(seqs("&queue=q").await, [1, 2, 5]);
    let kind = async |since| {
        let mut all = api.read(&format!("/v1/events?follow=false&job=1&since={since}"), None).await;
        all.next().await.unwrap()["kind"].clone()
    };
    assert_eq!((kind(0).await, kind(1).await, kind(4).await), (json!("a"), Value::Null, Value::Null));
}

#[tokio::test]
async fn a_long_log_is_told_whole_and_a_reader_that_takes_nothing_holds_little() {
    let api = Api::new();
    let list: Vec<Value> = (0..5_000).map(|_| json!({"kind": "a"})).collect();
    let idle = api.read("/v1/events", None).await;
    for _ in 0..2 {
        api.post("/v1/jobs", &json!(list)).await;
    }
    let all = api.read("/v1/events?follow=false", None).await.seqs().await;
    assert!(all.len() == 10_000 && all.is_sorted());
    drop(idle);
}

#[tokio::test]
async fn what_cannot_be_told_any_more_is_said_so() {
    let api = Api::new();
    for _ in 0..10 {
        api.enqueue(&json!({"kind": "a"})).await;
    }
    let check = async |query: &str, field: &str, words: &str| {
        api.get(&format!("/v1/events?{query}")).await.check_refused(422, "invalid", Some(field), words);
    };
    check("since=x", "since", "or `now`").await;
    check("since=11", "since", "beyond the newest event, which is 10").await;
    check("job=x", "job", "the id of a job").await;
    // What was wrong with the header was said of a parameter that nobody had sent.
    let goes_on = async |last: &[&str], query: &str, words: &str| {
        let headers: Vec<(&str, &str)> = last.iter().map(|last| ("last-event-id", *last)).collect();
        let answer = api.send(Method::GET, &format!("/v1/events?follow=false{query}"), &headers, "").await;
        answer.check_refused(422, "invalid", Some("Last-Event-ID"), words);
    };
    goes_on(&["11"], "", "beyond the newest event, which is 10").await;
    goes_on(&["11"], "&since=3", "beyond the newest event").await;
    goes_on(&["x"], "", "the number of an event").await;
    goes_on(&["3", "4"], "", "is given twice").await;
    check("state=done", "state", "is no state").await;
    check("follow=1", "follow", "true or false").await;
    check("sinc=1", "sinc", "did you mean `since`?").await;
    // The log is trimmed to nothing by the next sweep.
    api.patch("/v1/store/settings", &json!({"log_bytes": 0})).await;
    api.sweep().await;
    api.enqueue(&json!({"kind": "a"})).await;
    let gone = api.get("/v1/events?since=3").await;
    gone.check_refused(410, "log_trimmed", None, "does not reach back to event 4");
    assert_eq!(gone.json()["oldest"], 11);
    assert_eq!(api.read("/v1/events?follow=false", None).await.seqs().await, [11]);
}

/// Every commit woke every follower, and each took a view and a thread of its own: with a thousand of them a list of 500 jobs
/// took half a minute to be accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_followers_read_in_turn() {
    let api = Api::new();
    let mut readers = Vec::new();
    for _ in 0..200 {
        readers.push(api.read("/v1/events", None).await);
    }
    let list = json!((0..20).map(|_| json!({"kind": "a"})).collect::<Vec<_>>());
    let told = async {
        for _ in 0..10 {
            assert_eq!(api.post("/v1/jobs", &list).await.status, 201);
        }
        for reader in &mut readers {
            for seq in 1..=200 {
                assert_eq!(reader.next().await.unwrap()["seq"], seq);
            }
        }
    };
    let views = async {
        let mut most = 0;
        loop {
            most = most.max(api.store.activity().readers);
            assert!(most <= VIEWS_MAX, "{most} views at once");
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = told => {}
        () = views => {}
    }
}

/// A thousand followers that each read every event for themselves left the store no time to commit anything: now one reads for
/// all. Each is told what the log would have told it alone, and nothing of another tenant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_for_all_is_told_to_each_as_it_asked() {
    let api = Api::new();
    assert_eq!(api.post("/v1/tenants", &json!({"name": "acme"})).await.status, 201);
    let filters = [
        "",
        "&kind=b",
        "&queue=q1",
        "&job=7",
        "&state=cancelled",
        "&kind=a&queue=q0&state=available",
        "&kind=none",
        "&job=99999",
    ];
    let tenants: [&[(&str, &str)]; 2] = [&[], &[("runner-tenant", "acme")]];
    let mut followers = Vec::new();
    for headers in tenants {
        for filter in filters {
            let follower = api.read_with(&format!("/v1/events?since=now{filter}"), headers).await;
            followers.push((headers, filter, follower));
        }
    }
    for (round, headers) in tenants.into_iter().cycle().take(20).enumerate() {
        let job =
            |n: usize| json!({"kind": if n.is_multiple_of(3) { "b" } else { "a" }, "queue": format!("q{}", n % 4)});
        let list: Vec<Value> = (round..round + 30).map(job).collect();
        let headers = [headers, &[("content-type", "application/json")]].concat();
        assert_eq!(api.send(Method::POST, "/v1/jobs", &headers, json!(list).to_string()).await.status, 201);
        api.post(&format!("/v1/jobs/{}/cancel", round * 30 + 7), &json!({})).await;
    }
    let mut told = 0;
    for (headers, filter, mut follower) in followers {
        let alone = api.read_with(&format!("/v1/events?follow=false{filter}"), headers).await.seqs().await;
        for seq in &alone {
            assert_eq!(follower.next().await.unwrap()["seq"], *seq, "{headers:?} {filter}");
        }
        told += alone.len();
    }
    assert!(told > 1_000, "{told}");
}

/// Whoever begins with the oldest event reads the log until it has come near, and then goes on with the others, without a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_far_behind_catches_up_with_those_that_are_not() {
    let api = Api::new();
    let list = json!((0..5_000).map(|_| json!({"kind": "a"})).collect::<Vec<_>>());
    for _ in 0..7 {
        assert_eq!(api.post("/v1/jobs", &list).await.status, 201);
    }
    let mut now = api.read("/v1/events?since=now", None).await;
    let mut oldest = api.read("/v1/events", None).await;
    // So many that they share what is read.
    let mut others = Vec::new();
    for _ in 0..10 {
        others.push(api.read("/v1/events?since=now&kind=none", None).await);
    }
    for seq in 1..=20_000 {
        assert_eq!(oldest.next().await.unwrap()["seq"], seq);
    }
    api.enqueue(&json!({"kind": "b"})).await;
    assert_eq!(now.next().await.unwrap()["seq"], 35_001);
    for seq in 20_001..=35_001 {
        assert_eq!(oldest.next().await.unwrap()["seq"], seq);
    }
    api.enqueue(&json!({"kind": "b"})).await;
    for reader in [&mut now, &mut oldest] {
        assert_eq!(reader.next().await.unwrap()["seq"], 35_002);
    }
}
