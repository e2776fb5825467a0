//! The HTTP API, asked in this process: what it accepts, what it shows, and how it says no.

mod access;
mod bulk;
mod changes;
mod deploy;
mod enqueue;
mod events;
mod exports;
mod keys;
mod lease;
mod limits;
mod lists;
pub(crate) mod metrics;
mod node;
mod openapi;
mod queues;
mod runs;
mod schedules;
mod start;
mod stream;
mod swaps;
mod tenants;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use runner_runtime::api::plugins::Plugins;
use runner_runtime::api::{self, App};
use runner_runtime::wasm::Catalog;
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Claim, Command, Finish, Grant, Lane, Measured, Reply, RunRef};
use runner_store::engine::memory::Memory;
use runner_store::job::{BootId, Job, Outcome, RunSettings, TenantId};
use serde_json::{Value, json};

/// An API over an empty store in memory.
struct Api {
    router: axum::Router,
    app: Arc<App>,
    store: Handle,
}

struct Answer {
    status: StatusCode,
    retry_after: Option<String>,
    bytes: Bytes,
}

impl Api {
    fn new() -> Self {
        let (store, _writer) = Handle::start(Box::new(Memory::new(Clock::System))).unwrap();
        let plugins = Plugins::of_node(Arc::<Catalog>::default());
        let app = App::new(store.clone(), plugins, Box::new(|| None));
        Self { router: api::router(Arc::clone(&app)), app, store }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.into())).unwrap();
        let response = TowerToHyperService::new(self.router.clone()).call(request).await.unwrap();
        let status = response.status();
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        Answer { status, retry_after, bytes: response.into_body().collect().await.unwrap().to_bytes() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
    }

    async fn enqueue(&self, body: &Value) -> String {
        let answer = self.post("/v1/jobs", body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Claims the only available job of a kind.
    async fn claim(&self, kind: &str) -> Arc<Job> {
        let tenant = TenantId::DEFAULT;
        let (queue, kind) =
            (self.store.queue_id(tenant, "default").unwrap(), self.store.kind_id(tenant, kind).unwrap());
        let grant = Grant { lane: Lane::new(tenant, queue, kind), max: 1 };
        let claim = Claim { holder: BootId(1), max: 1, grants: vec![grant] };
        match self.store.call(Command::Claim(claim)).await.unwrap() {
            Reply::Claimed(jobs) => Arc::clone(&jobs[0]),
            other => panic!("{other:?}"),
        }
    }

    async fn finish(&self, job: &Job, outcome: Outcome) {
        let run = RunRef { at: job.at(), run: job.run };
        let measured =
            Measured { fuel: 4_100, memory_peak_bytes: 65_536, plugin: Some([7; 32]), ..Measured::default() };
        let settings = RunSettings::default();
        let finish = Finish { measured, ..Finish::new(run, outcome, settings) };
        let reply = self.store.call(Command::Finish(Box::new(finish))).await.unwrap();
        assert!(matches!(reply, Reply::Job { changed: true, .. }), "{reply:?}");
    }
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// Says no with this status and code, about this field, in words that contain these.
    #[track_caller]
    fn check_refused(&self, status: u16, code: &str, field: Option<&str>, words: &str) {
        let problem = self.json();
        assert_eq!((self.status.as_u16(), problem["code"].as_str()), (status, Some(code)), "{problem}");
        assert_eq!(problem["field"].as_str(), field, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{detail}");
    }
}

#[tokio::test]
async fn a_job_is_shown_as_it_was_asked_for() {
    let api = Api::new();
    let asked = json!({
        "kind": "image.resize", "args": {"width": 320}, "queue": "media", "priority": "high", "max_attempts": 3,
        "timeout": "1m 30s", "tags": {"customer": "42"}, "delay": "1h",
    });
    let answer = api.post("/v1/jobs", &asked).await;
    assert_eq!(
        (answer.status, answer.json()),
        (StatusCode::CREATED, json!({"id": "1", "state": "scheduled", "duplicate": false}))
    );
    let mut shown = api.get("/v1/jobs/1").await.json();
    for time in ["enqueued_at", "run_at"] {
        let text = shown[time].take();
        let text = text.as_str().unwrap();
        assert!(text.len() == 24 && text.ends_with('Z') && text.as_bytes()[19] == b'.', "{text}");
    }
    let expected = json!({
        "id": "1", "tenant": "default", "queue": "media", "kind": "image.resize", "state": "scheduled",
        "priority": -16384, "tags": {"customer": "42"}, "depends_on": [], "unique_key": null, "enqueued_at": null,
        "run_at": null, "finalized_at": null, "expires_at": null, "run": 0, "attempts": 0, "max_attempts": 3,
        "timeout": "90s", "progress": null, "waiting": null, "reason": null, "cancel_requested": false, "crashes": 0,
        "snoozes": 0, "schedule": null, "fingerprint": null, "key": null, "args": {"width": 320}, "runs": [],
    });
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn args_keep_their_bytes_and_output_is_given_as_it_is() {
    let api = Api::new();
    let body = r#"{"kind": "a", "args": {"n":  1.0, "big": 123456789012345678901234567890}}"#;
    let answer = api.send(Method::POST, "/v1/jobs", &[("content-type", "application/json")], body).await;
    assert_eq!(answer.status, 201);
    let shown = api.get("/v1/jobs/1").await.text();
    assert!(shown.contains(r#""args":{"n":  1.0, "big": 123456789012345678901234567890}"#), "{shown}");
    api.get("/v1/jobs/1/output").await.check_refused(404, "no_output", None, "no output yet: it is available");
    let job = api.claim("a").await;
    api.finish(&job, Outcome::Completed { output: vec![0, 255] }).await;
    assert_eq!(api.get("/v1/jobs/1/output").await.bytes, vec![0, 255]);
    let shown = api.get("/v1/jobs/1").await.json();
    assert_eq!((&shown["output_base64"], &shown["output"]), (&json!("AP8="), &Value::Null));
    let run = &shown["runs"][0];
    assert_eq!(
        (&run["outcome"], &run["fuel"], &run["memory_peak_bytes"]),
        (&json!("completed"), &json!(4_100), &json!(65_536))
    );
    assert_eq!(run["plugin"], format!("sha256:{}", "07".repeat(32)));
    let bytes = api.enqueue(&json!({"kind": "b", "args_base64": "/w=="})).await;
    assert_eq!(api.get(&format!("/v1/jobs/{bytes}")).await.json()["args_base64"], "/w==");
}

#[tokio::test]
async fn a_list_is_accepted_whole_or_not_at_all() {
    let api = Api::new();
    let answer = api.post("/v1/jobs", &json!([{"kind": "a"}, {"kind": "b", "hold": true}])).await;
    let jobs = json!([
        {"id": "1", "state": "available", "duplicate": false}, {"id": "2", "state": "held", "duplicate": false},
    ]);
    assert_eq!((answer.status, answer.json()), (StatusCode::CREATED, json!({"jobs": jobs})));
    let bad = api.post("/v1/jobs", &json!([{"kind": "a"}, {"kind": "a", "queue": "ä"}])).await;
    bad.check_refused(422, "invalid", Some("jobs[1].queue"), "must begin with a letter or a digit");
    let bad = api.post("/v1/jobs", &json!([{"kind": "a"}, {"kind": "a", "retry": {"jiter": 1}}])).await;
    bad.check_refused(422, "invalid", Some("jobs[1].retry.jiter"), "did you mean `jitter`?");
    api.post("/v1/jobs", &json!([{"kind": "a"}, 5])).await.check_refused(
        422,
        "invalid",
        Some("jobs[1]"),
        "must be an object",
    );
    api.post("/v1/jobs", &json!([])).await.check_refused(422, "invalid", Some("jobs"), "1 to 10000 jobs");
    let many: Vec<Value> = (0..10_001).map(|_| json!({"kind": "a"})).collect();
    api.post("/v1/jobs", &json!(many)).await.check_refused(422, "invalid", Some("jobs"), "has 10001");
    assert_eq!(api.get("/v1/jobs/count").await.json()["total"], 2);
}

#[tokio::test]
async fn a_call_with_a_key_is_safe_to_repeat() {
    let api = Api::new();
    let send = async |key: &str, body: &str| {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        api.send(Method::POST, "/v1/jobs", &headers, body.to_owned()).await
    };
    assert_eq!(send("k", r#"{"kind": "a", "delay": "5m"}"#).await.status, 201);
    // Spelt otherwise, said the same; and the delay is not counted from now.
    let again = send("k", r#"{ "delay":"5m","kind" : "a"}"#).await;
    assert_eq!(
        (again.status, again.json()),
        (StatusCode::OK, json!({"id": "1", "state": "scheduled", "duplicate": true}))
    );
    let other = send("k", r#"{"kind": "a", "delay": "6m"}"#).await;
    other.check_refused(409, "idempotency_key_reused", Some("Idempotency-Key"), "different request");
    send("k", r#"{"kind": "a", "delay": "5m", "args": { }}"#).await.check_refused(
        409,
        "idempotency_key_reused",
        Some("Idempotency-Key"),
        "",
    );
    let long = send(&"k".repeat(129), r#"{"kind": "a"}"#).await;
    long.check_refused(422, "invalid", Some("Idempotency-Key"), "1 to 128 bytes");
    assert_eq!(api.get("/v1/jobs/count").await.json()["total"], 1);
}

#[tokio::test]
async fn what_is_wrong_has_its_status_its_code_and_a_way_out() {
    let api = Api::new();
    let typed = [("content-type", "application/json; charset=utf-8")];
    let post = async |headers: &[(&str, &str)], body: Vec<u8>| api.send(Method::POST, "/v1/jobs", headers, body).await;
    post(&typed, b"{\"kind\": \"a\",\n \"x\" 1}".to_vec()).await.check_refused(
        400,
        "malformed",
        None,
        "line 2, column 6",
    );
    post(&typed, vec![b'"', 255, b'"']).await.check_refused(400, "malformed", None, "not UTF-8 at byte 1");
    post(&typed, Vec::new()).await.check_refused(400, "malformed", None, "the body is empty");
    post(&[("content-type", "text/plain")], b"{}".to_vec()).await.check_refused(
        415,
        "media_type",
        None,
        "application/json",
    );
    post(&typed, vec![b' '; (8 << 20) + 1]).await.check_refused(413, "too_large", None, "8 MiB");
    let declared = [typed[0], ("content-length", "99999999")];
    post(&declared, Vec::new()).await.check_refused(413, "too_large", None, "8 MiB");
    let args = format!("{{\"kind\": \"a\", \"args\": \"{}\"}}", "x".repeat(1 << 20));
    post(&typed, args.into_bytes()).await.check_refused(422, "invalid", Some("args"), "the limit is 1048576");
    post(&typed, b"{\"kind\": \"a\", \"timeout\": 60}".to_vec()).await.check_refused(
        422,
        "invalid",
        Some("timeout"),
        "\"60s\"",
    );
    post(&typed, b"{\"kind\": \"a\", \"unique\": {}}".to_vec()).await.check_refused(
        422,
        "invalid",
        Some("unique"),
        "needs `key`",
    );
    for path in ["/v1/jobs/1", "/v1/jobs/x", "/v1/jobs/01", "/v1/jobs/+1", "/v1/jobs/1/output", "/v1/jobs/1/wait"] {
        api.get(path).await.check_refused(404, "not_found", None, "no job with this id");
    }
    api.get("/v1/nothing").await.check_refused(404, "no_route", None, "nothing at this path");
    let put = api.send(Method::PUT, "/v1/jobs", &[], "").await;
    put.check_refused(405, "method_not_allowed", None, "PUT is not possible");
    api.get("/v1/jobs?stat=held").await.check_refused(422, "invalid", Some("stat"), "did you mean `state`?");
    api.get("/v1/jobs?state=done").await.check_refused(422, "invalid", Some("state"), "there are held, blocked");
    api.get("/v1/jobs?limit=1001").await.check_refused(422, "invalid", Some("limit"), "from 1 to 1000");
    api.get("/v1/jobs?cursor=1").await.check_refused(422, "invalid", Some("cursor"), "next_cursor");
    api.get("/v1/jobs?limit=1&limit=2").await.check_refused(422, "invalid", Some("limit"), "given twice");
    api.get("/v1/jobs/1/wait?timeout=30").await.check_refused(422, "invalid", Some("timeout"), "has no unit");
    api.get("/v1/jobs/1/wait?timeout=1h").await.check_refused(422, "invalid", Some("timeout"), "at most 60s");
    api.get("/v1/jobs/count?by=stat").await.check_refused(422, "invalid", Some("by"), "did you mean `state`?");
}

#[tokio::test]
async fn pages_follow_one_another_and_leave_nothing_out() {
    let api = Api::new();
    for n in 0..5 {
        api.enqueue(&json!({"kind": if n % 2 == 0 { "even" } else { "odd" }, "queue": "q", "hold": n == 4})).await;
    }
    let ids = |page: &Value| -> Vec<String> {
        page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = api.get("/v1/jobs?limit=2").await.json();
    assert_eq!(ids(&first), ["5", "4"]);
    assert!(first["jobs"][0].get("args").is_none() && first["jobs"][0].get("runs").is_none());
    let second = api.get(&format!("/v1/jobs?limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).await.json();
    assert_eq!(ids(&second), ["3", "2"]);
    let last = api.get(&format!("/v1/jobs?limit=2&cursor={}", second["next_cursor"].as_str().unwrap())).await.json();
    assert_eq!((ids(&last), &last["next_cursor"]), (vec!["1".to_owned()], &Value::Null));
    let whole = api.get("/v1/jobs?limit=5").await.json();
    assert_eq!(
        (ids(&whole).len(), &whole["next_cursor"]),
        (5, &Value::Null),
        "a full last page says that it is the last"
    );
    assert_eq!(ids(&api.get("/v1/jobs?kind=even&queue=q").await.json()), ["5", "3", "1"]);
    assert_eq!(ids(&api.get("/v1/jobs?state=held").await.json()), ["5"]);
    assert_eq!(ids(&api.get("/v1/jobs?kind=never.seen").await.json()), Vec::<String>::new());
    let counts = api.get("/v1/jobs/count?by=kind,state").await.json();
    let expected = json!([
        {"state": "held", "kind": "even", "jobs": 1}, {"state": "available", "kind": "even", "jobs": 2},
        {"state": "available", "kind": "odd", "jobs": 2},
    ]);
    assert_eq!((&counts["total"], &counts["counts"]), (&json!(5), &expected));
}

#[tokio::test]
async fn verbs_change_a_job_and_are_safe_to_repeat() {
    let api = Api::new();
    let id = api.enqueue(&json!({"kind": "a", "hold": true})).await;
    let verb = async |verb: &str, body: Value| api.post(&format!("/v1/jobs/{id}/{verb}"), &body).await;
    let released = verb("release", json!({})).await;
    assert_eq!(
        (released.status, &released.json()["state"], &released.json()["changed"]),
        (StatusCode::OK, &json!("available"), &json!(true))
    );
    assert_eq!(verb("release", json!({})).await.json()["changed"], false);
    let cancelled = verb("cancel", json!({"reason": "a mistake"})).await.json();
    assert_eq!(
        (&cancelled["state"], &cancelled["reason"]),
        (&json!("cancelled"), &json!("cancelled on request: a mistake"))
    );
    let again = verb("cancel", json!({})).await;
    assert_eq!((again.status, &again.json()["changed"]), (StatusCode::OK, &json!(false)));
    verb("release", json!({})).await.check_refused(409, "state", None, "only a job on hold");
    verb("cancel", json!({"reson": "x"})).await.check_refused(422, "invalid", Some("reson"), "did you mean `reason`?");
    assert_eq!(verb("retry", json!({})).await.json()["state"], "available");
    let job = api.claim("a").await;
    verb("retry", json!({})).await.check_refused(409, "state", None, "while the job is running: cancel it first");
    api.send(Method::DELETE, "/v1/jobs/1", &[], "").await.check_refused(409, "state", None, "`force=true`");
    // A body may be left out.
    let flagged = api.send(Method::POST, "/v1/jobs/1/cancel", &[], "").await;
    assert_eq!((flagged.status, &flagged.json()["cancel_requested"]), (StatusCode::ACCEPTED, &json!(true)));
    api.finish(&job, Outcome::Completed { output: Vec::new() }).await;
    verb("cancel", json!({})).await.check_refused(409, "state", None, "while the job is completed: it has ended");
    assert_eq!(api.send(Method::DELETE, "/v1/jobs/1", &[], "").await.status, StatusCode::NO_CONTENT);
    api.send(Method::DELETE, "/v1/jobs/1", &[], "").await.check_refused(404, "not_found", None, "no job");
    verb("cancel", json!({})).await.check_refused(404, "not_found", None, "no job");
}

#[tokio::test]
async fn why_a_job_waits_or_was_given_up_is_one_sentence() {
    let api = Api::new();
    let id = api.enqueue(&json!({"kind": "a", "max_attempts": 1})).await;
    let shown = async || api.get(&format!("/v1/jobs/{id}")).await.json();
    assert_eq!(shown().await["waiting"], "no plugin provides kind a");
    let job = api.claim("a").await;
    assert_eq!(shown().await["waiting"], Value::Null);
    api.finish(&job, Outcome::Failed { message: "no such host".to_owned(), retry_after: None }).await;
    let discarded = shown().await;
    assert_eq!((&discarded["state"], &discarded["attempts"]), (&json!("discarded"), &json!(1)));
    assert_eq!(discarded["reason"], "its only attempt failed: no such host");
    assert_eq!(discarded["runs"][0]["error"], "no such host");
}

#[tokio::test]
async fn waiting_ends_with_the_job_with_the_time_or_with_a_deletion() {
    let api = Api::new();
    let id = api.enqueue(&json!({"kind": "a"})).await;
    let path = format!("/v1/jobs/{id}/wait?timeout=60s");
    assert_eq!(api.get(&format!("/v1/jobs/{id}/wait?timeout=0ms")).await.json()["state"], "available");
    let nothing = json!({});
    let (waited, _) = tokio::join!(api.get(&path), api.post("/v1/jobs/1/cancel", &nothing));
    assert_eq!(waited.json()["state"], "cancelled");
    assert_eq!(api.get(&path).await.json()["state"], "cancelled", "it has ended already");
    api.enqueue(&json!({"kind": "a"})).await;
    let delete = api.send(Method::DELETE, "/v1/jobs/2", &[], "");
    let (waited, _) = tokio::join!(api.get("/v1/jobs/2/wait?timeout=60s"), delete);
    waited.check_refused(404, "not_found", None, "no job");
}

#[tokio::test]
async fn health_and_plugins_are_told() {
    let api = Api::new();
    assert_eq!((api.get("/healthz").await.text(), api.get("/readyz").await.text()), ("ok\n".into(), "ok\n".into()));
    assert_eq!(api.get("/v1/plugins").await.json(), json!({"plugins": [], "reports": [], "loading": []}));
    let app = App::new(api.store.clone(), Plugins::default(), Box::new(|| Some("draining")));
    let busy = Api { router: api::router(Arc::clone(&app)), app, store: api.store.clone() };
    let ready = busy.get("/readyz").await;
    assert_eq!((ready.status, ready.text()), (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned()));
}

/// A path that is no UTF-8 was answered by the router, in plain text and with 400.
#[tokio::test]
async fn what_cannot_be_a_job_is_no_job() {
    let api = Api::new();
    for id in ["%ff", "-1", "+1", "01", "0", "18446744073709551616", "%F0%9F%98%80", "1%00"] {
        for tail in ["", "/output", "/wait"] {
            api.get(&format!("/v1/jobs/{id}{tail}")).await.check_refused(404, "not_found", None, "no job");
        }
        api.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await.check_refused(404, "not_found", None, "no job");
    }
}

/// A body of which one part arrives, and then nothing.
struct Stalled(Option<Bytes>);

impl hyper::body::Body for Stalled {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        self.0
            .take()
            .map_or(std::task::Poll::Pending, |part| std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(part)))))
    }
}

/// A verb that changes nothing about a job that runs and is being cancelled was answered as if it were under way, too.
#[tokio::test]
async fn only_a_cancel_is_answered_as_under_way() {
    let api = Api::new();
    let id = api.enqueue(&json!({"kind": "a"})).await;
    api.claim("a").await;
    for (verb, status) in [("cancel", 202), ("release", 200), ("cancel", 202)] {
        let answer = api.post(&format!("/v1/jobs/{id}/{verb}"), &json!({})).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["cancel_requested"]), (status, &json!(true)), "{verb}");
    }
}

/// As many clients as there are connections could each make the process hold a body of 8 MiB: 300 of them, 2 GB.
#[tokio::test]
async fn large_bodies_share_a_room_and_small_ones_need_none() {
    let api = Api::new();
    let part = Bytes::from(vec![b' '; 8 * 1024 * 1024]);
    let send = || {
        let body = Body::new(Stalled(Some(part.clone())));
        TowerToHyperService::new(api.router.clone()).call(Request::post("/v1/jobs").body(body).unwrap())
    };
    // As many as one tenant may have at once: half of what there is.
    let mut holding: Vec<_> = (0..8).map(|_| Box::pin(send())).collect();
    for request in &mut holding {
        // Polled once: it has read what there is, and waits for more.
        assert!(tokio::time::timeout(std::time::Duration::ZERO, request).await.is_err());
    }
    let late = send().await.unwrap();
    assert_eq!(
        (late.status(), late.headers()["retry-after"].as_bytes()),
        (StatusCode::SERVICE_UNAVAILABLE, b"1".as_slice())
    );
    api.enqueue(&json!({"kind": "a", "args": "x".repeat(4_000)})).await;
    // A client that vanishes gives its room back.
    holding.pop();
    api.enqueue(&json!({"kind": "a", "args": "x".repeat(100_000)})).await;
}

#[tokio::test]
async fn a_backup_needs_a_path_of_the_servers_and_a_store_with_a_file() {
    let api = Api::new();
    for (body, status, word) in [
        (json!({}), 422, "where on the server's disk"),
        (json!({"path": "backup"}), 422, "must begin with /"),
        (json!({"path": 7}), 422, "must be a text"),
        (json!({"path": "/backup", "force": true}), 422, "force"),
        (json!({"path": "/backup"}), 409, "in memory"),
    ] {
        let answer = api.post("/v1/store/backup", &body).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(word), "{}", answer.text());
    }
    assert_eq!(api.get("/v1/store/stats").await.status, 409);
    api.get("/v1/store/check").await.check_refused(409, "in_memory", None, "has no file");
    api.get("/v1/store/check?accept=true").await.check_refused(422, "invalid", Some("accept"), "no known parameter");
}
