//! External workers, over the API of a node: they take runs, renew, log, say how they ended, and are done without when they
//! are gone.

mod staged;
mod untold;

use std::path::Path;
use std::sync::Arc;

use runner_runtime::api::plugins::Plugins;
use runner_runtime::api::{self, App};
use runner_runtime::node::{Node, NodeSettings};
use runner_runtime::operator::Operator;
use runner_runtime::wasm::folder::{Registry, TENANT_DEFAULT};
use runner_runtime::wasm::{Catalog, Host, HostSettings, Manifest};
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::dir::{Create, StoreDir};
use runner_store::engine::memory::Memory;
use runner_store::engine::redb::Commit;
use runner_store::handle::Writer;
use serde_json::{Value, json};

use super::{Answer, Api};
use crate::sandbox::guests::says;

const KINDS: &str = "[kinds.render]\nexternal = true\nmax_attempts = 2\nbackoff = \"constant\"\nbase = \"1h\"\nenqueues = 150\n\
    [kinds.\"video.cut\"]\nexternal = true\nqueue = \"video\"\nkey = \"args.customer\"\nkey_concurrency = 1\nstaged = \"1KiB\"\n\
    [kinds.ok]\nexternal = false\n";

pub(super) struct Site {
    pub(super) api: Api,
    node: Node,
    writer: Option<Writer>,
}

impl Site {
    /// A node that serves `ok`, and a plugin that offers the external kind `render` beside.
    pub(super) async fn new() -> Self {
        let (store, _writer) = Handle::start(Box::new(Memory::new(Clock::System))).unwrap();
        Self::over(store, None, None).await
    }

    async fn over(store: Handle, dir: Option<&StoreDir>, writer: Option<Writer>) -> Self {
        let operator = Arc::new(Operator::read(KINDS, Path::new(".")).unwrap());
        let host = HostSettings { operator: Arc::clone(&operator), ..HostSettings::default() };
        let host = Arc::new(Host::new(&host).unwrap());
        let mut registry = Registry::beside(&operator.externals);
        let manifest = Manifest::parse("kinds = [\"ok\", \"render\"]").unwrap();
        let plugin = host.compile("ok", &says("{\"ok\": 1}", "", 0), manifest).unwrap();
        assert!(registry.add(TENANT_DEFAULT, Arc::new(plugin)).is_empty());
        let catalog = Catalog::fixed(registry);
        let settings = NodeSettings { slots: 1, operator: Arc::clone(&operator), ..NodeSettings::default() };
        let node = Node::start(store.clone(), dir, Arc::clone(&host), Arc::clone(&catalog), settings).await.unwrap();
        let plugins = Plugins::of_node(catalog).run_by(host, operator);
        let app = App::on(store.clone(), plugins, Box::new(|| None), None, Some(node.starter()));
        let api = Api { router: api::router(Arc::clone(&app)), app, store };
        Self { api, node, writer }
    }

    async fn enqueue(&self, job: Value) -> String {
        self.api.enqueue(&job).await
    }

    async fn lease(&self, ask: Value) -> Answer {
        self.api.post("/v1/lease", &ask).await
    }

    /// Takes the only run that there is for these kinds.
    async fn take(&self, kind: &str, lease: &str) -> Run {
        let ask = json!({"kinds": [kind], "wait": "30s", "lease": lease, "worker": "gpu-1", "max": 5});
        let answer = self.lease(ask).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let runs = answer.json()["runs"].as_array().unwrap().clone();
        assert_eq!(runs.len(), 1, "{runs:?}");
        Run::new(&runs[0])
    }

    async fn say(&self, run: &Run, verb: &str, mut body: Value) -> Answer {
        body["lease_token"] = run.token.clone().into();
        self.api.post(&format!("/v1/runs/{}/{}/{verb}", run.id, run.number), &body).await
    }

    async fn job(&self, id: &str) -> Value {
        self.api.get(&format!("/v1/jobs/{id}")).await.json()
    }

    /// The job, once it is so.
    async fn until(&self, id: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut log = self.api.store.board().log();
        let found = async {
            loop {
                log.borrow_and_update();
                let job = self.job(id).await;
                if is(&job) {
                    return job;
                }
                log.changed().await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), found).await.expect("it becomes so")
    }

    pub(super) async fn stop(self) {
        self.node.interrupt();
        self.node.stopped().await;
        drop(self.api);
        if let Some(writer) = self.writer {
            tokio::task::spawn_blocking(|| writer.join()).await.unwrap();
        }
    }
}

#[derive(Clone)]
struct Run {
    id: String,
    number: u64,
    token: String,
}

impl Run {
    fn new(shown: &Value) -> Self {
        Self {
            id: shown["id"].as_str().unwrap().to_owned(),
            number: shown["run"].as_u64().unwrap(),
            token: shown["lease_token"].as_str().unwrap().to_owned(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_a_run_and_says_how_it_ended() {
    let site = Site::new().await;
    let id = site.enqueue(json!({"kind": "render", "args": {"scene": 7}, "tags": {"for": "acme"}})).await;
    let asked = json!({"kinds": ["render", "video.cut"], "worker": "gpu-1"});
    let answer = site.lease(asked.clone()).await.json();
    let shown = &answer["runs"][0];
    assert_eq!((&shown["id"], &shown["state"], &shown["run"]), (&json!(id), &json!("running"), &json!(1)));
    assert_eq!((&shown["args"], &shown["tags"]["for"]), (&json!({"scene": 7}), &json!("acme")));
    assert_eq!(shown["max_attempts"], 2, "as the configuration has it");
    let run = Run::new(shown);
    assert_eq!(site.lease(asked).await.json(), json!({"runs": []}), "who does not wait is answered at once");

    let job = site.job(&id).await;
    assert_eq!(job["worker"], "gpu-1");
    let why = site.api.get(&format!("/v1/jobs/{id}/why")).await.text();
    assert!(why.contains("at the external worker gpu-1"), "{why}");

    let renewed = site.say(&run, "renew", json!({})).await;
    assert_eq!((renewed.status.as_u16(), &renewed.json()["cancel_requested"]), (200, &json!(false)));
    assert!(renewed.json()["lease_until"].as_str() >= shown["lease_until"].as_str());
    let lines = json!({"lines": ["begins", {"level": "warn", "text": "low\non paper"}]});
    assert_eq!(site.say(&run, "log", lines).await.status, 204);
    assert_eq!(site.say(&run, "progress", json!({"percent": 40, "message": "frames"})).await.status, 204);
    assert_eq!(site.job(&id).await["progress"], json!({"percent": 40, "message": "frames"}));
    let log = site.api.get(&format!("/v1/jobs/{id}/logs")).await.text();
    assert!(log.contains("\"text\":\"begins\"") && log.lines().count() == 3, "{log}");

    let enqueue = json!([{"kind": "ok"}, {"kind": "ok", "hold": true, "depends_on": [{"position": 0}]}]);
    let said = json!({"outcome": "completed", "output": {"frames": 3}, "enqueue": enqueue});
    let finished = site.say(&run, "finish", said.clone()).await;
    assert_eq!(finished.status, 200, "{}", finished.text());
    let first = finished.json();
    assert_eq!((&first["id"], &first["state"]), (&json!(id), &json!("completed")));
    let staged: Vec<&str> =
        first["enqueued"].as_array().unwrap().iter().map(|job| job["state"].as_str().unwrap()).collect();
    assert_eq!(staged, ["available", "held"]);
    let job = site.job(&id).await;
    assert_eq!((&job["output"], &job["worker"]), (&json!({"frames": 3}), &Value::Null));
    let record = &job["runs"][0];
    assert_eq!(
        (&record["outcome"], &record["worker"], &record["node"]),
        (&json!("completed"), &json!("gpu-1"), &Value::Null)
    );
    assert!(record["started_at"].is_string());
    let log = site.api.get(&format!("/v1/jobs/{id}/logs")).await.text();
    assert!(log.contains("\"text\":\"on paper\"") && log.lines().count() == 3, "kept with the run: {log}");

    let again = site.say(&run, "finish", said).await;
    assert_eq!((again.status.as_u16(), again.json()), (200, first), "the same again");
    let other = json!({"outcome": "completed", "output": 8});
    site.say(&run, "finish", other).await.check_refused(409, "stale_run", None, "run 1 does not hold");
    for (verb, body) in [("renew", json!({})), ("log", json!({"lines": ["late"]})), ("progress", json!({"percent": 1}))]
    {
        site.say(&run, verb, body).await.check_refused(409, "stale_run", None, "does not hold");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_given_what_comes() {
    let site = Site::new().await;
    let waits = site.take("render", "30s");
    let comes = async {
        // Once somebody asks, the job would not say otherwise.
        let id = site.enqueue(json!({"kind": "render"})).await;
        site.until(&id, |job| job["state"] == "running").await;
        id
    };
    let (run, id) = tokio::join!(waits, comes);
    assert_eq!(run.id, id);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_while_it_waits_takes_nothing_along() {
    let site = Site::new().await;
    site.api.post("/v1/kinds/render/pause", &json!({})).await;
    let id = site.enqueue(json!({"kind": "render"})).await;
    let asked = async {
        loop {
            let why = site.api.get(&format!("/v1/jobs/{id}/why")).await.text();
            if !why.contains("no_worker") {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = site.lease(json!({"kinds": ["render"], "wait": "30s", "worker": "gone"})) => panic!("{}", answer.text()),
        () = asked => {}
    }
    site.api.post("/v1/kinds/render/resume", &json!({})).await;
    let run = site.take("render", "30s").await;
    assert_eq!((run.id, run.number), (id, 1), "it was nobody's before");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_fails_is_given_up_or_waits_as_its_worker_says() {
    let site = Site::new().await;
    let ends = async |said: Value| {
        let id = site.enqueue(json!({"kind": "render"})).await;
        let run = site.take("render", "30s").await;
        let answer = site.say(&run, "finish", said).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        (site.job(&id).await, answer.json()["state"].clone())
    };
    let (job, state) = ends(json!({"outcome": "failed", "error": "no paper"})).await;
    assert_eq!((&job["state"], &state, &job["attempts"]), (&json!("retryable"), &json!("retryable"), &json!(1)));
    assert_eq!((&job["runs"][0]["error"], &job["runs"][0]["outcome"]), (&json!("no paper"), &json!("failed")));
    let (job, _) = ends(json!({"outcome": "discarded", "reason": "no such scene"})).await;
    assert_eq!(
        (&job["state"], &job["reason"]),
        (&json!("discarded"), &json!("discarded by its handler: no such scene"))
    );
    let (job, _) = ends(json!({"outcome": "snoozed", "delay": "1h", "reason": "queue at the printer"})).await;
    assert_eq!((&job["state"], &job["attempts"]), (&json!("scheduled"), &json!(0)));
    let (job, _) = ends(json!({"outcome": "completed", "output_base64": "AP8="})).await;
    assert_eq!(job["output_base64"], "AP8=");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_renew_has_crashed_and_says_nothing_any_more() {
    let site = Site::new().await;
    let id = site.enqueue(json!({"kind": "render"})).await;
    let run = site.take("render", "1s").await;
    site.say(&run, "log", json!({"lines": ["last words"]})).await;
    let job = site.until(&id, |job| job["state"] == "retryable").await;
    assert_eq!(
        (&job["crashes"], &job["attempts"], &job["runs"][0]["outcome"]),
        (&json!(1), &json!(1), &json!("crashed"))
    );
    // The job said that the process died, which nobody knows of a worker.
    let why = site.api.get(&format!("/v1/jobs/{id}/why")).await.json()["why"][0]["detail"].to_string();
    assert!(why.contains("neither renewed the lease in time") && !why.contains("process"), "{why}");
    let error = job["runs"][0]["error"].as_str().unwrap();
    assert!(error.contains("neither renewed the lease in time"), "{error}");
    let log = site.api.get(&format!("/v1/jobs/{id}/logs")).await.text();
    assert!(log.contains("last words"), "{log}");
    let said = json!({"outcome": "completed"});
    site.say(&run, "finish", said.clone()).await.check_refused(409, "stale_run", None, "run 1");
    site.say(&run, "renew", json!({})).await.check_refused(409, "stale_run", None, "run 1");
    site.api.post(&format!("/v1/jobs/{id}/retry"), &json!({})).await;
    let second = site.take("render", "30s").await;
    assert_eq!(second.number, 2);
    site.say(&run, "finish", said.clone()).await.check_refused(409, "stale_run", None, "run 1");
    let forged = Run { token: run.token.clone(), ..second.clone() };
    site.say(&forged, "finish", said.clone()).await.check_refused(409, "stale_run", None, "run 2");
    assert_eq!(site.say(&second, "finish", said).await.json()["state"], "completed");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_lease_outlives_its_first_time() {
    let site = Site::new().await;
    let id = site.enqueue(json!({"kind": "render"})).await;
    let other = site.enqueue(json!({"kind": "video.cut"})).await;
    let run = site.take("render", "2s").await;
    // Taken later and for as long, and never renewed: when it is over, the first lease's own time is over, too.
    site.take("video.cut", "2s").await;
    let renews = async {
        loop {
            let renewed = site.say(&run, "renew", json!({})).await;
            assert_eq!(renewed.status, 200, "{}", renewed.text());
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = renews => {}
        job = site.until(&other, |job| job["crashes"] == 1) => assert_eq!(job["state"], "retryable"),
    }
    assert_eq!(site.job(&id).await["state"], "running");
    assert_eq!(site.say(&run, "finish", json!({"outcome": "completed"})).await.status, 200);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_is_told_with_the_renewal_and_ends_as_a_cancel() {
    let site = Site::new().await;
    let id = site.enqueue(json!({"kind": "render"})).await;
    let run = site.take("render", "30s").await;
    assert_eq!(site.api.post(&format!("/v1/jobs/{id}/cancel"), &json!({"reason": "too dear"})).await.status, 202);
    assert_eq!(site.job(&id).await["state"], "running");
    assert_eq!(site.say(&run, "renew", json!({})).await.json()["cancel_requested"], true);
    let said = json!({"outcome": "failed", "error": "stopped"});
    assert_eq!(site.say(&run, "finish", said).await.json()["state"], "cancelled");

    let id = site.enqueue(json!({"kind": "render"})).await;
    let run = site.take("render", "30s").await;
    let gone = site.api.send(axum::http::Method::DELETE, &format!("/v1/jobs/{id}?force=true"), &[], "").await;
    assert_eq!(gone.status, 204);
    site.say(&run, "finish", json!({"outcome": "completed"})).await.check_refused(409, "stale_run", None, "run 1");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_is_a_plugins_or_a_workers() {
    let site = Site::new().await;
    let id = site.enqueue(json!({"kind": "render"})).await;
    let ask = json!({"kinds": ["ok"], "worker": "w"});
    site.lease(ask).await.check_refused(422, "invalid", Some("kinds[0]"), "no external kind");
    let ok = site.enqueue(json!({"kind": "ok"})).await;
    assert_eq!(site.api.get(&format!("/v1/jobs/{ok}/wait?timeout=60s")).await.json()["state"], "completed");
    let job = site.job(&id).await;
    assert_eq!((&job["state"], &job["waiting"]), (&json!("available"), &Value::Null), "no plugin takes it");
    let why = site.api.get(&format!("/v1/jobs/{id}/why")).await.json();
    assert_eq!(why["why"][0]["code"], "no_worker", "{why}");
    let detail = why["why"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("no worker has asked for kind render since"), "{detail}");
    site.api.post(&format!("/v1/jobs/{id}/start"), &json!({})).await.check_refused(
        409,
        "external",
        None,
        "external workers",
    );
    let kind = site.api.get("/v1/kinds/render").await.json();
    assert_eq!((&kind["external"], &kind["plugin"]), (&json!(true), &Value::Null));
    let cut = site.api.get("/v1/kinds/video.cut").await.json();
    assert_eq!((&cut["key_concurrency"], &cut["sources"]["key_concurrency"]), (&json!(1), &json!("configuration")));
    assert_eq!(site.api.get("/v1/kinds/ok").await.json()["external"], false);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_sets_holds_for_workers() {
    let site = Site::new().await;
    let jobs: Vec<Value> =
        ["a", "a", "b"].iter().map(|customer| json!({"kind": "video.cut", "args": {"customer": customer}})).collect();
    assert_eq!(site.api.post("/v1/jobs", &Value::from(jobs)).await.status, 201);
    let ask = |wait: &str| json!({"kinds": ["video.cut", "render"], "max": 9, "wait": wait, "worker": "w"});
    let given = site.lease(ask("0s")).await.json();
    let given: Vec<Run> = given["runs"].as_array().unwrap().iter().map(Run::new).collect();
    assert_eq!(given.len(), 2, "one of each customer");
    assert_eq!(site.job(&given[0].id).await["queue"], "video", "as the configuration has it");
    let said = json!({"outcome": "completed"});
    site.say(&given[0], "finish", said.clone()).await;
    let next = site.lease(ask("30s")).await.json();
    assert_eq!(next["runs"].as_array().unwrap().len(), 1, "and the next one of the first");

    site.api.patch("/v1/kinds/render", &json!({"concurrency": 1})).await;
    let first = site.enqueue(json!({"kind": "render"})).await;
    let second = site.enqueue(json!({"kind": "render"})).await;
    let run = Run::new(&site.lease(ask("30s")).await.json()["runs"][0]);
    assert_eq!((run.id.as_str(), site.lease(ask("0s")).await.json()), (first.as_str(), json!({"runs": []})));
    let why = site.api.get(&format!("/v1/jobs/{second}/why")).await.text();
    assert!(why.contains("kind_full"), "{why}");
    site.api.post("/v1/kinds/render/pause", &json!({})).await;
    site.say(&run, "finish", said).await;
    assert_eq!(site.lease(ask("0s")).await.json(), json!({"runs": []}));
    let resumed = async { site.api.post("/v1/kinds/render/resume", &json!({})).await };
    let (given, _) = tokio::join!(site.lease(ask("30s")), resumed);
    assert_eq!(given.json()["runs"][0]["id"], json!(second));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_ends_no_workers_run() {
    let place = tempfile::tempdir().unwrap();
    let dir = StoreDir::new(place.path().join("store"));
    let open = |create| {
        let engine = dir.open(create, Clock::System, Commit::OnePhase).unwrap();
        Handle::start(Box::new(engine)).unwrap()
    };
    let (store, writer) = open(Create::NewFolder);
    let site = Site::over(store, Some(&dir), Some(writer)).await;
    let id = site.enqueue(json!({"kind": "render"})).await;
    // Shorter than what is left to a worker after a start.
    let run = site.take("render", "1s").await;
    site.stop().await;

    let (store, writer) = open(Create::No);
    let site = Site::over(store, Some(&dir), Some(writer)).await;
    assert_eq!(site.job(&id).await["state"], "running");
    // Once a lease as short that was taken now has run out, the one of before the start has not.
    let other = site.enqueue(json!({"kind": "render"})).await;
    site.take("render", "1s").await;
    site.until(&other, |job| job["crashes"] == 1).await;
    assert_eq!(site.job(&id).await["state"], "running");
    assert_eq!(site.say(&run, "renew", json!({})).await.status, 200);
    assert_eq!(site.say(&run, "log", json!({"lines": ["still here"]})).await.status, 204);
    let said = json!({"outcome": "completed"});
    let finished = site.say(&run, "finish", said.clone()).await;
    assert_eq!(
        (finished.status.as_u16(), &finished.json()["state"]),
        (200, &json!("completed")),
        "{}",
        finished.text()
    );
    site.stop().await;

    let (store, writer) = open(Create::No);
    let site = Site::over(store, Some(&dir), Some(writer)).await;
    assert_eq!(site.say(&run, "finish", said).await.json(), finished.json(), "also after the next one");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_gives_out_nothing_and_takes_what_comes_back() {
    let site = Site::new().await;
    site.enqueue(json!({"kind": "render"})).await;
    let run = site.take("render", "30s").await;
    let waits = site.lease(json!({"kinds": ["render"], "wait": "30s", "worker": "w"}));
    let drains = async {
        site.api.post("/v1/node/drain", &json!({})).await;
    };
    let (waited, ()) = tokio::join!(waits, drains);
    waited.check_refused(409, "draining", None, "gives out no runs");
    let late = site.lease(json!({"kinds": ["render"], "worker": "w"})).await;
    late.check_refused(409, "draining", None, "gives out no runs");
    assert_eq!(site.say(&run, "renew", json!({})).await.status, 200);
    assert_eq!(site.say(&run, "finish", json!({"outcome": "completed"})).await.status, 200);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_and_no_token_is_repeated() {
    let site = Site::new().await;
    site.enqueue(json!({"kind": "render"})).await;
    let check = async |ask: Value, field: &str, words: &str| {
        site.lease(ask).await.check_refused(422, "invalid", Some(field), words);
    };
    check(json!({"worker": "w"}), "kinds", "is missing").await;
    check(json!({"kinds": ["render"]}), "worker", "is missing").await;
    check(json!({"kinds": [], "worker": "w"}), "kinds", "1 to 100").await;
    check(json!({"kinds": ["render"], "worker": "w", "max": 101}), "max", "1 to 100").await;
    check(json!({"kinds": ["render"], "worker": "w", "wait": "31s"}), "wait", "at most 30s").await;
    check(json!({"kinds": ["render"], "worker": "w", "lease": "11m"}), "lease", "1s to 10m").await;
    check(json!({"kinds": ["render"], "worker": "a\nb"}), "worker", "control characters").await;
    check(json!({"kinds": ["render"], "worker": "w", "kind": 1}), "kind", "did you mean `kinds`?").await;

    let run = site.take("render", "30s").await;
    let check = async |verb: &str, body: Value, field: &str, words: &str| {
        let answer = site.say(&run, verb, body).await;
        answer.check_refused(422, "invalid", Some(field), words);
        assert!(!answer.text().contains(&run.token), "{}", answer.text());
    };
    check("finish", json!({}), "outcome", "is missing").await;
    check("finish", json!({"outcome": "crashed"}), "outcome", "must be completed").await;
    check("finish", json!({"outcome": "failed", "output": 1}), "output", "says nothing beside the outcome failed")
        .await;
    check("finish", json!({"outcome": "snoozed"}), "outcome", "needs a `delay`").await;
    check("finish", json!({"outcome": "failed", "enqueue": []}), "enqueue", "only recorded with").await;
    let dependent = json!([{"kind": "a", "depends_on": [{"position": 0}]}]);
    let said = json!({"outcome": "completed", "enqueue": dependent});
    check("finish", said, "enqueue[0].depends_on", "comes before it").await;
    check("finish", json!({"outcome": "completed", "enqueue": [{"kind": "ä"}]}), "enqueue[0].kind", "must begin").await;
    check("progress", json!({"percent": 101}), "percent", "0 to 100").await;
    check("log", json!({"lines": [{"level": "loud", "text": "a"}]}), "lines[0].level", "must be trace").await;
    for token in [json!("rnl_wrong"), json!(""), json!(format!("{}A", run.token))] {
        let path = format!("/v1/runs/{}/{}/renew", run.id, run.number);
        let answer = site.api.post(&path, &json!({"lease_token": token})).await;
        answer.check_refused(409, "stale_run", None, "does not hold");
    }
    let path = format!("/v1/runs/{}/{}/renew", run.id, run.number);
    site.api.post(&path, &json!({"lease_token": 5})).await.check_refused(422, "invalid", Some("lease_token"), "a text");
    assert_eq!(site.say(&run, "renew", json!({})).await.status, 200, "and the run goes on");
    site.stop().await;
}

#[tokio::test]
async fn where_no_node_runs_nothing_is_given_out() {
    let api = Api::new();
    let ask = json!({"kinds": ["render"], "worker": "w"});
    api.post("/v1/lease", &ask).await.check_refused(409, "no_node", None, "`runner serve`");
    let said = json!({"lease_token": "rnl_", "outcome": "completed"});
    api.post("/v1/runs/1/1/finish", &said).await.check_refused(409, "no_node", None, "`runner serve`");
}
