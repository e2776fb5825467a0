//! What runs write, read, leave and may use: logs as they grow, keys, checkpoints, calls of many jobs, budgets.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use runner_runtime::api::plugins::Plugins;
use runner_runtime::api::{self, App};
use runner_runtime::node::{Node, NodeSettings};
use runner_runtime::operator::Operator;
use runner_runtime::wasm::folder::{Registry, TENANT_DEFAULT};
use runner_runtime::wasm::{Catalog, Host, HostSettings, Manifest};
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Answer as StoreAnswer, Part, Query, RunRecord};
use runner_store::dir::StoreDir;
use runner_store::engine::memory::Memory;
use runner_store::job::{JobId, JobRef, TenantId};
use runner_store::slots;
use serde_json::{Value, json};

use super::Api;
use crate::sandbox::guests::{command_with, component_of, export, handler, handler_with, module, says};

/// What a condition may take that a busy machine is late with.
const DEADLINE: Duration = Duration::from_secs(30);
pub(super) const SPIN: &str = "(loop $again (br $again)) unreachable";

pub(super) struct Setup<'a> {
    pub(super) plugins: Vec<(&'a str, Vec<u8>, &'a str)>,
    pub(super) configuration: &'a str,
    pub(super) slots: u32,
    pub(super) memory_bytes: Option<u64>,
    pub(super) dir: Option<&'a StoreDir>,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { plugins: Vec::new(), configuration: "", slots: 4, memory_bytes: None, dir: None }
    }
}

/// These plugins, of the default tenant.
pub(super) fn registry(host: &Host, plugins: &[(&str, Vec<u8>, &str)]) -> Registry {
    let mut registry = Registry::default();
    for (name, bytes, manifest) in plugins {
        registry.add(TENANT_DEFAULT, Arc::new(host.compile(name, bytes, Manifest::parse(manifest).unwrap()).unwrap()));
    }
    registry
}

/// An API with a node behind it.
pub(super) async fn with_node(setup: Setup<'_>) -> (Api, Node) {
    let host = Arc::new(Host::new(&HostSettings::default()).unwrap());
    let catalog = Catalog::fixed(registry(&host, &setup.plugins));
    with_catalog(setup, host, catalog).await
}

/// The same with plugins that the test changes.
pub(super) async fn with_catalog(setup: Setup<'_>, host: Arc<Host>, registry: Arc<Catalog>) -> (Api, Node) {
    let (store, _writer) = Handle::start(Box::new(Memory::new(Clock::System))).unwrap();
    let operator = Arc::new(Operator::read(setup.configuration, Path::new(".")).unwrap());
    let settings = NodeSettings {
        slots: setup.slots,
        memory_bytes: setup.memory_bytes,
        operator: Arc::clone(&operator),
        ..NodeSettings::default()
    };
    let node = Node::start(store.clone(), setup.dir, Arc::clone(&host), Arc::clone(&registry), settings).await.unwrap();
    let plugins = Plugins::of_node(registry).run_by(host, operator);
    let app = App::on(store.clone(), plugins, Box::new(|| None), None, Some(node.starter()));
    (Api { router: api::router(Arc::clone(&app)), app, store }, node)
}

pub(super) async fn stop(node: Node) {
    node.interrupt();
    node.stopped().await;
}

/// Looks until it holds.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < DEADLINE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Api {
    pub(super) async fn state(&self, id: &str) -> String {
        self.get(&format!("/v1/jobs/{id}")).await.json()["state"].as_str().unwrap().to_owned()
    }

    pub(super) async fn ended(&self, id: &str, state: &str) -> Value {
        let job = self.get(&format!("/v1/jobs/{id}/wait?timeout=30s")).await.json();
        assert_eq!(job["state"], state, "{job}");
        self.get(&format!("/v1/jobs/{id}")).await.json()
    }

    /// The reasons why a job does not run.
    pub(super) async fn reasons(&self, id: &str) -> Vec<(String, String)> {
        let why = self.get(&format!("/v1/jobs/{id}/why")).await.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        why["why"].as_array().unwrap().iter().map(|why| (text(&why["code"]), text(&why["detail"]))).collect()
    }

    async fn logs(&self, path: &str) -> Vec<Value> {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn runs_of(&self, job: u64) -> Vec<RunRecord> {
        let at = JobRef { tenant: TenantId::DEFAULT, job: JobId(job) };
        match self.store.snapshot().unwrap().read(&Query::Runs(at)).unwrap() {
            StoreAnswer::Runs(runs) => runs,
            other => panic!("{other:?}"),
        }
    }
}

/// An answer that comes in parts.
struct Stream(Body);

impl Stream {
    async fn open(api: &Api, path: &str) -> Self {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = TowerToHyperService::new(api.router.clone()).call(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Self(response.into_body())
    }

    /// The texts of the lines of the next part that has some; none: the end.
    async fn next(&mut self) -> Option<Vec<String>> {
        loop {
            let frame = tokio::time::timeout(DEADLINE, self.0.frame()).await.expect("a part comes")?.unwrap();
            let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
            let line = |line: &str| serde_json::from_str::<Value>(line).unwrap()["text"].as_str().unwrap().to_owned();
            let lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(line).collect();
            if !lines.is_empty() {
                return Some(lines);
            }
        }
    }

    async fn rest(mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(lines) = self.next().await {
            all.extend(lines);
        }
        all
    }
}

/// Says something and then goes on for ever.
fn talks_and_spins() -> Vec<u8> {
    let fields = r#"(import "runner:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
      (import "runner:plugin/host@0.1.0" "progress" (func $progress (param i32 i32 i32)))
      (import "runner:plugin/host@0.1.0" "checkpoint" (func $checkpoint (param i32 i32 i32)))
      (data (i32.const 256) "half of it")"#;
    let body = "(call $checkpoint (i32.const 256) (i32.const 4) (i32.const 512))
      (call $progress (i32.const 50) (i32.const 256) (i32.const 10))
      (call $log (i32.const 2) (i32.const 256) (i32.const 10))";
    handler_with(fields, &format!("{body} {SPIN}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_wrote_is_kept_for_each_run() {
    let fails = says("one\ntwo\u{1b}[2J\n{\"retry\": \"later\"}", "oops", 0);
    let manifest = "[retry]\nbackoff = \"constant\"\nbase = \"1ms\"\nmax_attempts = 2";
    let (api, node) = with_node(Setup { plugins: vec![("fails", fails, manifest)], ..Setup::default() }).await;
    let id = api.enqueue(&json!({"kind": "fails"})).await;
    api.ended(&id, "discarded").await;
    for (query, run) in [("", 2), ("?run=1", 1), ("?run=2&follow=true", 2)] {
        let lines = api.logs(&format!("/v1/jobs/{id}/logs{query}")).await;
        let line = |source: &str, text: &str| json!({"run": run, "source": source, "text": text});
        let expected = [line("stdout", "one"), line("stdout", "two\u{1b}[2J"), line("stderr", "oops")];
        assert_eq!(lines, expected, "{query}");
    }
    api.get(&format!("/v1/jobs/{id}/logs?run=3")).await.check_refused(404, "no_run", None, "its last one is 2");
    api.get("/v1/jobs/99/logs").await.check_refused(404, "not_found", None, "no job");
    let silent = api.enqueue(&json!({"kind": "fails", "hold": true})).await;
    assert_eq!(api.logs(&format!("/v1/jobs/{silent}/logs")).await, Vec::<Value>::new());
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_while_it_grows_and_its_progress_is_shown() {
    let plugins = vec![("talks", talks_and_spins(), "")];
    let (api, node) = with_node(Setup { plugins, slots: 1, ..Setup::default() }).await;
    let first = api.enqueue(&json!({"kind": "talks"})).await;
    let mut follows = Stream::open(&api, &format!("/v1/jobs/{first}/logs?follow=true")).await;
    assert_eq!(follows.next().await.unwrap(), ["half of it"], "while it runs");
    let shown = api.get(&format!("/v1/jobs/{first}")).await.json();
    assert_eq!((&shown["state"], &shown["progress"]["percent"]), (&json!("running"), &json!(50)), "{shown}");
    assert_eq!(api.logs(&format!("/v1/jobs/{first}/logs")).await[0]["source"], "info");
    // One that waits for the slot is followed from its first line on.
    let second = api.enqueue(&json!({"kind": "talks"})).await;
    let mut waits = Stream::open(&api, &format!("/v1/jobs/{second}/logs?follow=true")).await;
    api.post(&format!("/v1/jobs/{first}/cancel"), &json!({})).await;
    assert_eq!(follows.rest().await, Vec::<String>::new(), "it ends with the run, and tells nothing twice");
    assert_eq!(waits.next().await.unwrap(), ["half of it"]);
    let job = api.ended(&first, "cancelled").await;
    assert_eq!(job["progress"], json!({"percent": 50, "message": "half of it"}));
    api.post(&format!("/v1/jobs/{second}/cancel"), &json!({})).await;
    assert_eq!(waits.rest().await, Vec::<String>::new());
    stop(node).await;
}

/// The story: whoever followed a quick run came when it had ended and was not recorded yet, and saw nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_a_quick_run_gets_all_of_it() {
    let (api, node) =
        with_node(Setup { plugins: vec![("quick", says("a\nb\n{\"ok\": 1}", "", 0), "")], ..Setup::default() }).await;
    for _ in 0..30 {
        let id = api.enqueue(&json!({"kind": "quick"})).await;
        let told = Stream::open(&api, &format!("/v1/jobs/{id}/logs?follow=true")).await.rest().await;
        assert_eq!(told, ["a", "b"]);
    }
    stop(node).await;
}

/// A flood goes by its followers in parts of bounded size, and what they are not told of they are told that it is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_told_by_its_beginning_and_its_end() {
    let fields = r#"(data (i32.const 1024) "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\0a")"#;
    let body = "(local $n i32) (loop $again (call $print (i32.const 1) (i32.const 1024) (i32.const 32))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 20000))))";
    let flood = command_with(fields, body);
    let (api, node) = with_node(Setup { plugins: vec![("flood", flood, "")], ..Setup::default() }).await;
    let id = api.enqueue(&json!({"kind": "flood"})).await;
    api.ended(&id, "completed").await;
    let lines = api.logs(&format!("/v1/jobs/{id}/logs")).await;
    let missing: u64 = lines.iter().filter_map(|line| line["dropped_lines"].as_u64()).sum();
    assert!(missing > 10_000, "{missing} of {}: {:?}", lines.len(), lines.last());
    assert_eq!(lines.len() as u64 - 1 + missing, 20_000);
    stop(node).await;
}

/// Reads its key where its args begin with `1`; else writes its args under it, and then breaks if they begin with `7`.
fn keeps() -> Vec<u8> {
    let fields = r#"(import "runner:plugin/kv@0.1.0" "get" (func $get (param i32 i32 i32)))
      (import "runner:plugin/kv@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))
      (data (i32.const 256) "k")"#;
    let body = "(local $first i32)
      (local.set $first (i32.load8_u (i32.load offset=32 (local.get $job))))
      (if (i32.eq (local.get $first) (i32.const 49))
        (then
          (call $get (i32.const 256) (i32.const 1) (i32.const 512))
          (i32.store offset=68 (i32.const 0) (i32.load offset=520 (i32.const 0)))
          (i32.store offset=72 (i32.const 0) (i32.load offset=524 (i32.const 0))))
        (else
          (call $set (i32.const 256) (i32.const 1) (i32.load offset=32 (local.get $job))
            (i32.load offset=36 (local.get $job)) (i32.const 512))
          (if (i32.eq (local.get $first) (i32.const 55)) (then (unreachable)))))
      (i32.const 64)";
    handler_with(fields, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_keeps_is_there_for_the_next_one_of_its_plugin_and_for_no_other() {
    let manifest = "[allow]\nkv = true";
    let plugins = vec![("keeps", keeps(), manifest), ("other", keeps(), manifest)];
    let (api, node) = with_node(Setup { plugins, ..Setup::default() }).await;
    let run = async |kind: &str, args: u64, state: &str| {
        let id = api.enqueue(&json!({"kind": kind, "args": args, "max_attempts": 1})).await;
        api.ended(&id, state).await["output"].clone()
    };
    assert_eq!(run("keeps", 1, "completed").await, Value::Null, "nothing was ever written");
    run("keeps", 42, "completed").await;
    assert_eq!(run("keeps", 1, "completed").await, json!(42));
    run("keeps", 7, "discarded").await;
    assert_eq!(run("keeps", 1, "completed").await, json!(42), "a run that breaks leaves nothing");
    assert_eq!(run("other", 1, "completed").await, Value::Null);
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_in_the_store_while_the_run_goes_on() {
    let (api, node) = with_node(Setup { plugins: vec![("talks", talks_and_spins(), "")], ..Setup::default() }).await;
    let id = api.enqueue(&json!({"kind": "talks"})).await;
    let at = JobRef { tenant: TenantId::DEFAULT, job: JobId(id.parse().unwrap()) };
    until("the checkpoint", async || {
        let view = api.store.snapshot().unwrap();
        let kept = view.read(&Query::Payload(at, Part::Checkpoint)).unwrap();
        kept == StoreAnswer::Payload(Some(b"half".to_vec()))
    })
    .await;
    assert_eq!(api.state(&id).await, "running");
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_reads_the_output_of_what_its_job_waited_for() {
    let fields = r#"(import "runner:plugin/host@0.1.0" "output-of" (func $output_of (param i32 i32 i32)))
      (data (i32.const 256) "1")"#;
    let body = "(call $output_of (i32.const 256) (i32.const 1) (i32.const 512))
      (i32.store offset=68 (i32.const 0) (i32.load offset=520 (i32.const 0)))
      (i32.store offset=72 (i32.const 0) (i32.load offset=524 (i32.const 0)))
      (i32.const 64)";
    let plugins = vec![("first", says("{\"ok\": {\"n\": 5}}", "", 0), ""), ("then", handler_with(fields, body), "")];
    let (api, node) = with_node(Setup { plugins, ..Setup::default() }).await;
    let first = api.enqueue(&json!({"kind": "first", "hold": true})).await;
    let then = api.enqueue(&json!({"kind": "then", "depends_on": [first]})).await;
    api.post(&format!("/v1/jobs/{first}/release"), &json!({})).await;
    assert_eq!(api.ended(&then, "completed").await["output"], json!({"n": 5}));
    stop(node).await;
}

/// Answers each job of a call with nothing, or does something else instead.
fn batch(instead: &str) -> Vec<u8> {
    let ty = "(param $jobs i32) (param $n i32) (result i32)";
    let body = format!(
        "{instead} (i32.store (i32.const 64) (call $realloc (i32.const 0) (i32.const 0) (i32.const 4)
           (i32.mul (local.get $n) (i32.const 24))))
         (i32.store (i32.const 68) (local.get $n)) (i32.const 64)"
    );
    component_of(&["batch"], &module(&export("batch", "handle-batch", ty, &body)))
}

/// L-08, through a node and its sandbox.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_groups_of_ten_are_ten_calls_of_a_hundred() {
    let manifest = "[[kind]]\nname = \"many\"\nbatch = { max = 100, linger = \"20s\" }";
    let (api, node) = with_node(Setup { plugins: vec![("many", batch(""), manifest)], ..Setup::default() }).await;
    for _ in 0..100 {
        let group: Vec<Value> = (0..10).map(|_| json!({"kind": "many"})).collect();
        assert_eq!(api.post("/v1/jobs", &json!(group)).await.status, 201);
    }
    until("the last end", async || api.get("/v1/jobs/count?by=state").await.text().contains("\"completed\"")).await;
    for id in 1..=1_000 {
        api.ended(&id.to_string(), "completed").await;
    }
    let mut calls: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for id in 1..=1_000 {
        let runs = api.runs_of(id);
        assert_eq!(runs.len(), 1, "each once");
        calls.entry(runs[0].call.unwrap().0.0).or_default().push(id);
    }
    let expected: Vec<Vec<u64>> = (0..10).map(|call| (call * 100 + 1..=call * 100 + 100).collect()).collect();
    assert_eq!(calls.into_values().collect::<Vec<_>>(), expected, "in order");
    stop(node).await;
}

/// The answer to a claim that shares calls comes from another thread. It was once taken in with a run's end that came just
/// before, and told ahead of the notice of what it had taken: the lane seemed to have all of it still, and the next call was
/// claimed from what little there was.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_for_its_jobs_also_where_runs_of_others_end_all_the_time() {
    let manifest = "[[kind]]\nname = \"many\"\nbatch = { max = 10, linger = \"15s\" }";
    let plugins = vec![("many", batch(""), manifest), ("ok", says("{\"ok\": 1}", "", 0), "")];
    let (api, node) = with_node(Setup { plugins, ..Setup::default() }).await;
    let api = Arc::new(api);
    // One at a time of each, so that there is always one that ends, and a slot that is free.
    let others: Vec<_> = (0..2)
        .map(|_| {
            let api = Arc::clone(&api);
            tokio::spawn(async move {
                for _ in 0..200 {
                    let id = api.enqueue(&json!({"kind": "ok"})).await;
                    api.get(&format!("/v1/jobs/{id}/wait?timeout=30s")).await;
                }
            })
        })
        .collect();
    let group: Vec<Value> = (0..3).map(|_| json!({"kind": "many"})).collect();
    let mut many: Vec<String> = Vec::new();
    while !others.iter().all(|other| other.is_finished()) || !many.len().is_multiple_of(10) {
        let answer = api.post("/v1/jobs", &json!(group)).await.json();
        let ids = answer["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned());
        many.extend(ids);
    }
    for other in others {
        other.await.unwrap();
    }
    for id in &many {
        api.ended(id, "completed").await;
    }
    let mut calls: BTreeMap<u64, u64> = BTreeMap::new();
    for id in many {
        *calls.entry(api.runs_of(id.parse().unwrap())[0].call.unwrap().0.0).or_default() += 1;
    }
    let part: Vec<(u64, u64)> = calls.into_iter().filter(|(_, jobs)| *jobs != 10).collect();
    assert_eq!(part, [], "calls that did not wait for all of their jobs");
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_breaks_fails_all_its_jobs_and_each_is_taken_alone_from_then_on() {
    // Breaks where it has company.
    let instead = "(if (i32.gt_u (local.get $n) (i32.const 1)) (then (unreachable)))";
    let manifest =
        "[[kind]]\nname = \"many\"\nbatch = { max = 3, linger = \"20s\" }\nbackoff = \"constant\"\nbase = \"1ms\"";
    let (api, node) = with_node(Setup { plugins: vec![("many", batch(instead), manifest)], ..Setup::default() }).await;
    let three: Vec<Value> = (0..3).map(|_| json!({"kind": "many"})).collect();
    api.post("/v1/jobs", &json!(three)).await;
    for id in ["1", "2", "3"] {
        let job = api.ended(id, "completed").await;
        let outcomes: Vec<&str> =
            job["runs"].as_array().unwrap().iter().map(|run| run["outcome"].as_str().unwrap()).collect();
        assert_eq!(outcomes, ["trapped", "completed"], "{job}");
        let calls: Vec<bool> = api.runs_of(id.parse().unwrap()).iter().map(|run| run.call.is_some()).collect();
        assert_eq!(calls, [true, false]);
    }
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_ended_when_all_of_its_jobs_are_cancelled_and_counts_as_started_for_each() {
    let dir = tempfile::tempdir().unwrap();
    let store = StoreDir::new(dir.path());
    let manifest = "[[kind]]\nname = \"many\"\nbatch = { max = 3, linger = \"20s\" }";
    let plugins = vec![("many", batch("(loop $again (br $again))"), manifest)];
    let (api, node) = with_node(Setup { plugins, dir: Some(&store), ..Setup::default() }).await;
    let three: Vec<Value> = (0..3).map(|_| json!({"kind": "many"})).collect();
    api.post("/v1/jobs", &json!(three)).await;
    let started = || slots::previous(&store.slots()).unwrap().unwrap().started.len();
    until("the call's start", async || started() == 3).await;
    for id in ["1", "2"] {
        api.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    }
    assert_eq!(api.state("1").await, "running", "the call goes on");
    api.post("/v1/jobs/3/cancel", &json!({})).await;
    for id in ["1", "2", "3"] {
        api.ended(id, "cancelled").await;
    }
    until("the call's end", async || started() == 0).await;
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_no_more_runs_at_once_than_the_operator_says() {
    let plugins = vec![("spin", handler(SPIN), ""), ("ok", says("{\"ok\": 1}", "", 0), "")];
    let configuration = "[tenants.default]\nconcurrency = 2\n";
    let (api, node) = with_node(Setup { plugins, configuration, ..Setup::default() }).await;
    let ids: Vec<String> = vec![
        api.enqueue(&json!({"kind": "spin"})).await,
        api.enqueue(&json!({"kind": "spin"})).await,
        api.enqueue(&json!({"kind": "ok"})).await,
    ];
    until("both to run", async || api.state(&ids[0]).await == "running" && api.state(&ids[1]).await == "running").await;
    until("the reason", async || api.reasons(&ids[2]).await[0].0 == "concurrency").await;
    assert_eq!(api.state(&ids[2]).await, "available", "it is not even claimed");
    api.post(&format!("/v1/jobs/{}/cancel", ids[0]), &json!({})).await;
    api.ended(&ids[2], "completed").await;
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_memory_and_says_so() {
    let large = "[limits]\nmemory = \"200MiB\"";
    let plugins =
        vec![("spin", handler(SPIN), ""), ("ok", says("{\"ok\": 1}", "", 0), ""), ("large", handler(SPIN), large)];
    let setup = Setup { plugins, memory_bytes: Some(100 << 20), ..Setup::default() };
    let (api, node) = with_node(setup).await;
    let spins = api.enqueue(&json!({"kind": "spin"})).await;
    until("its start", async || api.state(&spins).await == "running").await;
    let waits = api.enqueue(&json!({"kind": "ok"})).await;
    let never = api.enqueue(&json!({"kind": "large"})).await;
    until("the reason", async || {
        api.reasons(&waits).await.iter().any(|(code, detail)| code == "memory" && detail.contains("36 MiB are left"))
            || api.state(&waits).await == "running"
    })
    .await;
    let why = api.reasons(&never).await;
    assert_eq!(why[0].0, "too_large", "{why:?}");
    assert!(why[0].1.contains("may use 200 MiB") && why[0].1.contains("have 100 MiB"), "{why:?}");
    let start = api.post(&format!("/v1/jobs/{never}/start"), &json!({})).await;
    start.check_refused(409, "no_budget", None, "it can never start");
    api.post(&format!("/v1/jobs/{spins}/cancel"), &json!({})).await;
    api.ended(&waits, "completed").await;
    assert_eq!(api.state(&never).await, "available");
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_has_used_up_its_fuel_waits_for_the_next_period() {
    let burns = "(local $n i32) (loop $again (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 1000)))) (i32.const 64)";
    let plugins = vec![("ok", handler(burns), "")];
    let configuration = "[tenants.default]\nfuel = \"1k/1h\"\n";
    let (api, node) = with_node(Setup { plugins, configuration, slots: 1, ..Setup::default() }).await;
    let first = api.enqueue(&json!({"kind": "ok"})).await;
    api.ended(&first, "completed").await;
    let second = api.enqueue(&json!({"kind": "ok"})).await;
    until("the reason", async || api.reasons(&second).await[0].0 == "fuel_spent").await;
    assert_eq!(api.state(&second).await, "available");
    stop(node).await;
}
