//! Keys through the public surface: from the manifest to the job, to what runs beside and after what, and why it waits.

use std::sync::Arc;

use runner_runtime::wasm::catalog::Serving;
use runner_runtime::wasm::{Catalog, Host, HostSettings};
use runner_store::command::{Answer, Query};
use runner_store::job::{EventName, Seq};
use serde_json::{Value, json};

use super::Api;
use super::runs::{SPIN, Setup, registry, stop, until, with_catalog, with_node};
use crate::sandbox::guests::{handler, says};

const FAILS: &str = "[retry]\nbackoff = \"constant\"\nbase = \"30ms\"\njitter = 0\nmax_attempts = 3\n\
                     [[kind]]\nname = \"fails\"\nkey = \"args.customer\"\nstrict_order = true\n";
const SPINS: &str = "[[kind]]\nname = \"spin\"\nkey = \"args.customer\"\nkey_concurrency = 1\n";

/// Which jobs began, and which ended, in the order of the log.
fn story(api: &Api) -> Vec<(u64, &'static str)> {
    let view = api.store.snapshot().unwrap();
    let Answer::Events(events) = view.read(&Query::Events { since: Seq(1), limit: 1_000 }).unwrap() else {
        panic!("not events")
    };
    let told = |event| matches!(event, EventName::Started | EventName::Retrying | EventName::Discarded);
    events.entries.iter().filter(|e| told(e.event)).map(|e| (e.job.job.0, e.event.as_str())).collect()
}

/// The whole way: the manifest says the path, the job has its key, and each key's jobs come to their end in order, while
/// those of other keys, and those without one, go on.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_key_end_in_order_also_if_they_fail() {
    let plugins = vec![("fails", says("", "no", 1), FAILS)];
    let (api, node) = with_node(Setup { plugins, slots: 4, ..Setup::default() }).await;
    let jobs: Vec<Value> = (0..12)
        .map(|n| {
            let customer = ["acme", "initech", "hooli"][n % 3];
            json!({"kind": "fails", "args": {"customer": customer, "n": n}})
        })
        .chain([json!({"kind": "fails"})])
        .collect();
    let answer = api.post("/v1/jobs", &json!(jobs)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    for id in 1..=13 {
        api.ended(&id.to_string(), "discarded").await;
    }
    let story = story(&api);
    for first in 1..=3 {
        let of_key: Vec<(u64, &str)> =
            story.iter().copied().filter(|(job, _)| *job < 13 && job % 3 == first % 3).collect();
        let life = |job| {
            let tried = [(job, "started"), (job, "retrying")];
            tried.into_iter().chain(tried).chain([(job, "started"), (job, "discarded")])
        };
        let expected: Vec<(u64, &str)> = [0, 3, 6, 9].into_iter().flat_map(|n| life(first + n)).collect();
        assert_eq!(of_key, expected, "each comes to its end before the next one begins");
    }
    assert_eq!(api.get("/v1/jobs/1").await.json()["key"], "acme");
    assert_eq!(api.get("/v1/jobs/13").await.json()["key"], Value::Null);
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_at_its_limit_says_by_whom_and_a_limit_that_rises_holds_at_once() {
    let plugins = vec![("spin", handler(SPIN), SPINS), ("fails", says("", "no", 1), FAILS)];
    let (api, node) = with_node(Setup { plugins, slots: 6, ..Setup::default() }).await;
    let spin = async |customer: Value| {
        api.enqueue(&json!({"kind": "spin", "timeout": "1h", "args": {"customer": customer}})).await
    };
    let first = spin(json!(1)).await;
    until("its start", async || api.state(&first).await == "running").await;
    // The same number, written in another way.
    let second = spin(json!(1.0)).await;
    let other = spin(json!("1")).await;
    until("the start of a key that is another one", async || api.state(&other).await == "running").await;
    let (code, detail) = api.reasons(&second).await.remove(0);
    assert_eq!(code, "key_full");
    let words = format!(
        "1 of its key in kind spin run, which is as many as may: jobs {first}; `runner kind set spin --key-concurrency N`"
    );
    assert!(detail.contains(&words), "{detail}");
    assert_eq!(api.get(&format!("/v1/jobs/{second}")).await.json()["key"], 1);
    let kind = api.get("/v1/kinds/spin").await.json();
    assert_eq!(
        (&kind["key"], &kind["key_concurrency"], &kind["strict_order"]),
        (&json!("args.customer"), &json!(1), &json!(false))
    );
    assert_eq!(kind["sources"]["key_concurrency"], "manifest of spin");
    let set = api.patch("/v1/kinds/spin", &json!({"key_concurrency": 2, "key_rate": "5/1s"})).await.json();
    assert_eq!((&set["key_concurrency"], &set["key_rate"]), (&json!(2), &json!("5/1s")));
    assert_eq!(set["sources"]["key_rate"], "set");
    // Claimed is not started: what has no slot yet would be given back to a limit that sinks.
    until("its slot", async || api.get("/v1/node").await.json()["running"] == 3).await;
    api.patch("/v1/kinds/spin", &json!({"key_concurrency": null, "key_rate": "1/1h"})).await;
    let third = spin(json!("third")).await;
    // And what is cancelled before it has a slot takes no token.
    until("its slot", async || api.get("/v1/node").await.json()["running"] == 4).await;
    api.post(&format!("/v1/jobs/{third}/cancel"), &json!({})).await;
    let fourth = spin(json!("third")).await;
    until("its reason", async || api.reasons(&fourth).await.first().is_some_and(|(code, _)| code == "key_rate")).await;
    let (_, detail) = api.reasons(&fourth).await.remove(0);
    assert!(
        detail.contains("its key in kind spin may start 1/1h; the next one in") && detail.contains("Z"),
        "{detail}"
    );
    let check = async |body: Value, field: &str, words: &str| {
        api.patch("/v1/kinds/spin", &body).await.check_refused(422, "invalid", Some(field), words);
    };
    check(json!({"key_concurrency": 0}), "key_concurrency", "at least 1").await;
    check(json!({"key_rate": "0/0s"}), "key_rate", "at least 1 job").await;
    check(json!({"key": "args.x"}), "key", "stands in the manifest").await;
    check(json!({"strict_order": true}), "strict_order", "stands in the manifest").await;
    stop(node).await;
}

/// `why` names the job that holds the others of its key up, and when it is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_order_says_for_whom_and_until_when() {
    let slow = FAILS.replace("30ms", "1h");
    let plugins = vec![("fails", says("", "no", 1), slow.as_str())];
    let (api, node) = with_node(Setup { plugins, slots: 2, ..Setup::default() }).await;
    let fails = async || api.enqueue(&json!({"kind": "fails", "args": {"customer": true}})).await;
    let (first, second, third) = (fails().await, fails().await, fails().await);
    until("its failure", async || api.state(&first).await == "retryable").await;
    until("its reason", async || api.reasons(&second).await.first().is_some_and(|(code, _)| code == "key_order")).await;
    let run_at = api.get(&format!("/v1/jobs/{first}")).await.json()["run_at"].as_str().unwrap().to_owned();
    for id in [&second, &third] {
        let (code, detail) = api.reasons(id).await.remove(0);
        assert_eq!(code, "key_order");
        assert!(detail.contains(&format!("job {first}, which is retryable until {run_at}")), "{detail}");
    }
    // An operator may start it all the same.
    assert_eq!(api.post(&format!("/v1/jobs/{third}/start"), &json!({})).await.status, 200);
    until("its failure", async || api.state(&third).await == "retryable").await;
    assert_eq!(api.state(&second).await, "available");
    // What holds it up goes.
    for id in [&first, &third] {
        api.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await;
    }
    until("its turn", async || api.state(&second).await == "retryable").await;
    stop(node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_key_is_refused_wherever_jobs_come_from() {
    let plugins = vec![("spin", handler(SPIN), SPINS)];
    let (api, node) = with_node(Setup { plugins, ..Setup::default() }).await;
    let job = |customer: Value| json!({"kind": "spin", "delay": "1h", "args": {"customer": customer}});
    let words =
        "must be a string, a number or a bool of at most 256 bytes or null, as it is the key of the job: it is an";
    let refused = api.post("/v1/jobs", &job(json!([1]))).await;
    refused.check_refused(422, "invalid", Some("args.customer"), words);
    let refused = api.post("/v1/jobs", &json!([job(json!(1)), job(json!({}))])).await;
    refused.check_refused(422, "invalid", Some("jobs[1].args.customer"), "it is an object");
    let long = api.post("/v1/jobs", &job(json!("x".repeat(257)))).await;
    long.check_refused(422, "invalid", Some("args.customer"), "a string of 257 bytes");
    let bytes = api.post("/v1/jobs", &json!({"kind": "spin", "args_base64": "/w=="})).await;
    bytes.check_refused(422, "invalid", Some("args"), "must be JSON");
    let buffered = api.post("/v1/jobs", &json!({"kind": "spin", "args": {"customer": []}, "ack": "buffered"})).await;
    buffered.check_refused(422, "invalid", Some("args.customer"), words);
    let id = api.enqueue(&job(json!("a"))).await;
    let edited = api.patch(&format!("/v1/jobs/{id}"), &json!({"args": {"customer": {}}})).await;
    edited.check_refused(422, "invalid", Some("args.customer"), "it is an object");
    let edited = api.patch(&format!("/v1/jobs/{id}"), &json!({"args": {"customer": false}})).await;
    assert_eq!(edited.json()["key"], false);
    let kept = api.patch(&format!("/v1/jobs/{id}"), &json!({"priority": 3})).await;
    assert_eq!(kept.json()["key"], false);
    for none in [json!({"kind": "spin", "delay": "1h"}), job(Value::Null)] {
        let id = api.enqueue(&none).await;
        assert_eq!(api.get(&format!("/v1/jobs/{id}")).await.json()["key"], Value::Null);
    }
    let replaced = json!({"kind": "spin", "delay": "1h", "args": {"customer": 7}, "unique": {"key": "u", "on_conflict": "replace"}});
    let first = api.enqueue(&replaced).await;
    let with = json!({"kind": "spin", "delay": "1h", "args": {"customer": 8}, "unique": {"key": "u", "on_conflict": "replace"}});
    assert_eq!(api.post("/v1/jobs", &with).await.status, 200);
    assert_eq!(api.get(&format!("/v1/jobs/{first}")).await.json()["key"], 8);
    let schedule = json!({"name": "s", "kind": "spin", "every": "1h", "args": {"customer": [2]}});
    api.post("/v1/schedules", &schedule).await.check_refused(422, "invalid", Some("args.customer"), "it is an array");
    let schedule = json!({"name": "s", "kind": "spin", "cron": "0 0 1 1 *", "args": {"customer": "fired"}});
    assert_eq!(api.post("/v1/schedules", &schedule).await.status, 201);
    let fired = api.post("/v1/schedules/s/fire", &json!({})).await.json();
    let id = fired["id"].as_str().unwrap().to_owned();
    assert_eq!(api.get(&format!("/v1/jobs/{id}")).await.json()["key"], "fired");
    stop(node).await;
}

/// The rule: a job keeps the key that it got when it was accepted, or with its last args; what a key limits and orders
/// follows from the version that is loaded.
#[tokio::test(flavor = "multi_thread")]
async fn stored_jobs_keep_their_keys_whatever_a_new_version_says() {
    let host = Arc::new(Host::new(&HostSettings::default()).unwrap());
    let serving = |manifest| {
        let plugins = vec![("spin", handler(SPIN), manifest)];
        Serving { registry: registry(&host, &plugins), ..Serving::default() }
    };
    let catalog = Catalog::new(serving(SPINS));
    let setup = Setup { slots: 8, ..Setup::default() };
    let (api, node) = with_catalog(setup, Arc::clone(&host), Arc::clone(&catalog)).await;
    let spin = async |args: Value| api.enqueue(&json!({"kind": "spin", "timeout": "1h", "args": args})).await;
    let both = json!({"customer": "a", "account": "b"});
    let first = spin(both.clone()).await;
    until("its start", async || api.state(&first).await == "running").await;
    let second = spin(both.clone()).await;
    until("its reason", async || api.reasons(&second).await.first().is_some_and(|(code, _)| code == "key_full")).await;
    // Another field: what comes from now on has its key from there.
    catalog.set(serving("[[kind]]\nname = \"spin\"\nkey = \"args.account\"\nkey_concurrency = 1\n"));
    let third = spin(both.clone()).await;
    until("its start", async || api.state(&third).await == "running").await;
    let keys = [&first, &second, &third].map(|id| format!("/v1/jobs/{id}"));
    let mut shown = Vec::new();
    for path in &keys {
        shown.push(api.get(path).await.json()["key"].clone());
    }
    assert_eq!(shown, ["a", "a", "b"]);
    assert_eq!(api.state(&second).await, "available", "its own key is still at its limit");
    // No key any more: nothing is limited by one, and what comes has none.
    catalog.set(serving(""));
    until("its start", async || api.state(&second).await == "running").await;
    let last = spin(both).await;
    until("its start", async || api.state(&last).await == "running").await;
    assert_eq!(api.get(&format!("/v1/jobs/{last}")).await.json()["key"], Value::Null);
    assert_eq!(api.get(&keys[1]).await.json()["key"], "a");
    stop(node).await;
}
