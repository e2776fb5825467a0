//! Schedules over HTTP, and the timer that fires them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::Method;
use runner_runtime::schedules::Schedules;
use runner_runtime::wasm::Catalog;
use runner_store::clock::Clock;
use runner_store::command::{Command, Reply, ScheduleCall, ScheduleVerb};
use runner_store::job::{JobSpec, Millis, TenantId, Time};
use runner_store::schedule::{CatchUp, Overlap, Plan, ScheduleRef, Source, When};
use serde_json::{Value, json};

use super::{Answer, Api};

/// What a condition may take that a busy machine is late with: less than the half minute after which a sleeper looks by
/// itself, so that what is noticed within it was told, not polled.
const DEADLINE: Duration = Duration::from_secs(25);

impl Api {
    async fn delete_schedule(&self, name: &str) -> Answer {
        self.send(Method::DELETE, &format!("/v1/schedules/{name}"), &[], "").await
    }

    async fn schedule(&self, name: &str) -> Value {
        self.get(&format!("/v1/schedules/{name}")).await.json()
    }

    async fn verb(&self, name: &str, verb: &str) -> Answer {
        self.send(Method::POST, &format!("/v1/schedules/{name}/{verb}"), &[], "").await
    }

    /// Says something in the name of a plugin's manifest.
    async fn manifest_says(&self, name: &str) {
        let when = When::Every { interval: Millis::secs(3_600), start: Time(0) };
        let job = JobSpec::new("report", "{}");
        let plan = Plan { when, overlap: Overlap::Skip, catch_up: CatchUp::None, deadline: None, job };
        let at = ScheduleRef { tenant: TenantId::DEFAULT, name: name.to_owned() };
        let verb = ScheduleVerb::Create(plan, Source::Manifest("reports".to_owned()));
        let reply = self.store.call(Command::Schedule(Box::new(ScheduleCall { at, verb }))).await.unwrap();
        assert!(matches!(reply, Reply::Schedule { changed: true, .. }), "{reply:?}");
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < DEADLINE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_schedule_is_shown_as_it_was_asked_for_with_its_next_five_times() {
    let api = Api::new();
    let asked = json!({
        "name": "nightly", "kind": "report.nightly", "cron": "30 2 * * Mon-Fri", "timezone": "europe/berlin",
        "args": {"n":  1}, "queue": "reports", "priority": "low", "overlap": "cancel-running", "catch_up": 3,
        "deadline": "6h", "max_attempts": 2, "timeout": "5m", "tags": {"team": "data"},
    });
    let answer = api.post("/v1/schedules", &asked).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let shown = api.schedule("nightly").await;
    let mut rest = shown.clone();
    for time in ["created_at", "next"] {
        rest.as_object_mut().unwrap().remove(time);
    }
    assert_eq!(
        rest,
        json!({
            "name": "nightly", "tenant": "default", "kind": "report.nightly", "queue": "reports", "priority": 16384,
            "cron": "30 2 * * Mon-Fri", "timezone": "Europe/Berlin", "every": null, "start": null,
            "overlap": "cancel-running", "catch_up": 3, "deadline": "21600s", "max_attempts": 2, "timeout": "300s",
            "tags": {"team": "data"}, "source": "api", "plugin": null, "paused": false, "paused_at": null,
            "last_slot": null, "last_fired_at": null, "last_job": null, "fired": 0, "missed": 0, "overlapped": 0,
            "no_room": 0, "last_skipped": null, "args": {"n": 1},
        })
    );
    let next: Vec<&str> = shown["next"].as_array().unwrap().iter().map(|time| time.as_str().unwrap()).collect();
    assert!(next.len() == 5 && next.is_sorted());
    // Half past two in Berlin is half past midnight or half past one in UTC.
    assert!(next.iter().all(|time| time.ends_with("T00:30:00.000Z") || time.ends_with("T01:30:00.000Z")), "{next:?}");
    let again = api.post("/v1/schedules", &asked).await;
    assert_eq!(again.status, 200, "said twice it is so already: {}", again.text());
    let other = api.post("/v1/schedules", &json!({"name": "nightly", "kind": "a", "every": "1h"})).await;
    other.check_refused(409, "exists", None, "a schedule of this name already");
}

#[tokio::test]
async fn an_interval_begins_where_it_is_made_and_says_so_twice() {
    let api = Api::new();
    let asked = json!({"name": "probe", "kind": "a", "every": "30s"});
    let made = api.post("/v1/schedules", &asked).await.json();
    assert_eq!(made["every"], "30s");
    // The store writes down when it was made a moment after the call said when it begins.
    let time = |field: &str| made[field].as_str().unwrap().to_owned();
    assert!(time("start") <= time("created_at"), "{made}");
    assert_eq!((&made["overlap"], &made["catch_up"]), (&json!("skip"), &json!("one")));
    assert_eq!(api.post("/v1/schedules", &asked).await.status, 200);
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_is_named_with_its_field_and_a_way_out() {
    let api = Api::new();
    let check = async |more: Value, field: &str, words: &str| {
        let mut body = json!({"name": "s", "kind": "a"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        api.post("/v1/schedules", &body).await.check_refused(422, "invalid", Some(field), words);
    };
    check(json!({}), "cron", "give `cron`").await;
    check(json!({"cron": "0 0 30 2 *"}), "cron", "never fires").await;
    check(json!({"cron": "* * * *"}), "cron", "has 4 fields and must have 5, or 6").await;
    check(json!({"cron": "@every 5m"}), "cron", "`every`").await;
    check(json!({"cron": "@daily", "timezone": "Europe/Berlim"}), "timezone", "did you mean `Europe/Berlin`?").await;
    check(json!({"cron": "@daily", "every": "1h"}), "every", "exclude each other").await;
    check(json!({"cron": "@daily", "start": "2027-01-31T08:00:00Z"}), "start", "belongs to `every`").await;
    check(json!({"every": "1h", "timezone": "UTC"}), "timezone", "belongs to `cron`").await;
    check(json!({"every": "0s"}), "every", "an interval is 1s to 366d").await;
    check(json!({"every": "400d"}), "every", "an interval is 1s to 366d").await;
    check(json!({"every": 60}), "every", "with a unit").await;
    check(json!({"every": "1h", "overlap": "pile"}), "overlap", "must be skip").await;
    check(json!({"every": "1h", "catch_up": 0}), "catch_up", "must be none, one, or a number").await;
    check(json!({"every": "1h", "catch_up": "all"}), "catch_up", "must be none, one, or a number").await;
    check(json!({"every": "1h", "deadline": "2h"}), "deadline", "longer than the interval").await;
    check(json!({"every": "1h", "kind": "no way"}), "kind", "has ' ' in it").await;
    check(json!({"every": "1h", "queue": "ä"}), "queue", "must begin with").await;
    check(json!({"every": "1h", "delay": "5m"}), "delay", "its slots say when its jobs run").await;
    check(json!({"every": "1h", "unique": {"key": "k"}}), "unique", "`overlap`").await;
    check(json!({"every": "1h", "args": "x".repeat(70_000)}), "args", "at most 65536").await;
    check(json!({"every": "1h", "interval": "1h"}), "interval", "is no known field").await;
    check(json!({"every": "1h", "name": "no way"}), "name", "has ' ' in it").await;
    check(json!({"every": "1h", "name": null}), "name", "is missing").await;
    let with_policy = json!({"name": "s", "kind": "a", "every": "1h", "deadline": "2h", "overlap": "queue"});
    assert_eq!(api.post("/v1/schedules", &with_policy).await.status, 201, "with a policy, it may be longer");
    for path in ["/v1/schedules/none", "/v1/schedules/no%20way", "/v1/schedules/%ff"] {
        api.get(path).await.check_refused(404, "not_found", None, "");
    }
    api.verb("%ff", "pause").await.check_refused(404, "not_found", None, "no schedule of this name");
    for verb in ["pause", "resume", "fire"] {
        api.verb("none", verb).await.check_refused(404, "not_found", None, "no schedule of this name");
    }
    api.verb("s", "stop").await.check_refused(404, "no_route", None, "no such verb");
    api.delete_schedule("none").await.check_refused(404, "not_found", None, "no schedule of this name");
    api.patch("/v1/schedules/none", &json!({"every": "1h"})).await.check_refused(404, "not_found", None, "");
    api.get("/v1/schedules?limit=0").await.check_refused(422, "invalid", Some("limit"), "from 1 to 1000");
}

#[tokio::test]
async fn a_schedule_is_changed_paused_fired_and_deleted() {
    let api = Api::new();
    let asked = json!({"name": "s", "kind": "a", "cron": "0 3 * * *", "timezone": "Asia/Tokyo", "args": {"n": 1}});
    api.post("/v1/schedules", &asked).await;
    let edited = api.patch("/v1/schedules/s", &json!({"cron": "30 3 * * *", "deadline": "1h"})).await.json();
    assert_eq!((&edited["cron"], &edited["timezone"]), (&json!("30 3 * * *"), &json!("Asia/Tokyo")), "its zone stays");
    assert_eq!((&edited["deadline"], &edited["args"]), (&json!("3600s"), &json!({"n": 1})));
    let edited = api.patch("/v1/schedules/s", &json!({"timezone": "UTC", "deadline": null, "kind": "b"})).await.json();
    assert_eq!((&edited["cron"], &edited["timezone"]), (&json!("30 3 * * *"), &json!("UTC")));
    assert_eq!((&edited["deadline"], &edited["kind"]), (&Value::Null, &json!("b")));
    api.patch("/v1/schedules/s", &json!({})).await.check_refused(422, "invalid", Some("body"), "says nothing");
    let bad = api.patch("/v1/schedules/s", &json!({"cron": "0 0 31 2 *"})).await;
    bad.check_refused(422, "invalid", Some("cron"), "never fires");
    assert_eq!(api.verb("s", "pause").await.json()["changed"], true);
    let paused = api.verb("s", "pause").await.json();
    assert_eq!((&paused["changed"], &paused["paused"]), (&json!(false), &json!(true)));
    assert_eq!(paused["next"].as_array().unwrap().len(), 5, "as if it were resumed now");
    let fired = api.verb("s", "fire").await;
    assert_eq!((fired.status.as_u16(), fired.json()["id"].as_str()), (201, Some("1")));
    let job = api.get("/v1/jobs/1").await.json();
    assert_eq!((&job["schedule"], &job["kind"], &job["args"]), (&json!("s"), &json!("b"), &json!({"n": 1})));
    assert!(job.get("slot").is_none(), "it is of no slot");
    api.verb("s", "fire").await.check_refused(409, "overlapping", None, "job 1 of this schedule has not ended");
    api.patch("/v1/schedules/s", &json!({"overlap": "queue"})).await;
    let with_key = async || api.send(Method::POST, "/v1/schedules/s/fire", &[("idempotency-key", "k")], "").await;
    let (first, second) = (with_key().await, with_key().await);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (201, 200));
    assert_eq!(first.json()["id"], second.json()["id"]);
    let resumed = api.verb("s", "resume").await.json();
    assert_eq!(
        (&resumed["changed"], &resumed["paused_at"], &resumed["fired"]),
        (&json!(true), &Value::Null, &json!(2))
    );
    assert_eq!(api.delete_schedule("s").await.status, 204);
    assert_eq!(api.get("/v1/jobs/1").await.json()["schedule"], "s", "its jobs stay, and know where they are from");
    api.get("/v1/schedules/s").await.check_refused(404, "not_found", None, "no schedule");
}

#[tokio::test]
async fn a_manifests_schedule_is_paused_and_fired_but_not_edited() {
    let api = Api::new();
    api.manifest_says("hourly").await;
    let shown = api.schedule("hourly").await;
    assert_eq!((&shown["source"], &shown["plugin"]), (&json!("manifest"), &json!("reports")));
    let edit = api.patch("/v1/schedules/hourly", &json!({"every": "2h"})).await;
    edit.check_refused(409, "from_manifest", None, "the manifest of plugin reports: change it there");
    api.delete_schedule("hourly").await.check_refused(409, "from_manifest", None, "change it there");
    let taken = api.post("/v1/schedules", &json!({"name": "hourly", "kind": "a", "every": "1h"})).await;
    taken.check_refused(409, "exists", None, "already");
    assert_eq!(api.verb("hourly", "pause").await.json()["paused"], true);
    assert_eq!(api.verb("hourly", "fire").await.status, 201);
    assert_eq!(api.verb("hourly", "resume").await.json()["paused"], false);
}

#[tokio::test]
async fn pages_of_schedules_follow_one_another() {
    let api = Api::new();
    for name in ["b", "a", "c"] {
        api.post("/v1/schedules", &json!({"name": name, "kind": "k", "every": "1h"})).await;
    }
    let names = |page: &Value| -> Vec<String> {
        page["schedules"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = api.get("/v1/schedules?limit=2").await.json();
    assert_eq!(names(&first), ["a", "b"]);
    let second = api.get(&format!("/v1/schedules?limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    assert_eq!((names(&second.json()), &second.json()["next_cursor"]), (vec!["c".to_owned()], &Value::Null));
}

/// the first slot is the start. And whoever sleeps is told of what is made, changed and resumed.
#[tokio::test]
async fn a_node_fires_slots_in_time_and_is_told_of_changes() {
    let api = Api::new();
    let node = Schedules::start(&api.store, &Arc::<Catalog>::default(), &Clock::System);
    let fired = async |name: &str| api.schedule(name).await["fired"].as_u64().unwrap();
    let made = api.post("/v1/schedules", &json!({"name": "s", "kind": "a", "every": "1h", "overlap": "queue"})).await;
    let start = made.json()["start"].clone();
    until("slot 0 is fired", async || fired("s").await == 1).await;
    let job = api.get("/v1/jobs/1").await.json();
    assert_eq!((&job["schedule"], &job["slot"], &job["state"]), (&json!("s"), &start, &json!("available")));
    api.patch("/v1/schedules/s", &json!({"every": "1s"})).await;
    until("its new slots are fired", async || fired("s").await >= 3).await;
    api.verb("s", "pause").await;
    let before = fired("s").await;
    api.post("/v1/schedules", &json!({"name": "other", "kind": "a", "every": "1s"})).await;
    until("another one has fired and overlapped", async || api.schedule("other").await["overlapped"] != 0).await;
    assert_eq!((fired("s").await, fired("other").await), (before, 1));
    assert_eq!(api.schedule("other").await["last_skipped"]["reason"], "overlap");
    api.verb("s", "resume").await;
    until("it goes on", async || fired("s").await > before).await;
    assert_eq!(api.schedule("s").await["missed"], 0, "what a pause let pass was not missed");
    node.stop().await;
}
