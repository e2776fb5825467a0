//! Plugins that change under a node: what becomes of jobs that it has claimed.

use std::sync::Arc;

use runner_runtime::wasm::catalog::Serving;
use runner_runtime::wasm::{Catalog, Host, HostSettings};
use serde_json::json;

use super::runs::{SPIN, Setup, registry, stop, until, with_catalog};
use crate::sandbox::guests::{handler, says};

/// The story: a manifest that was changed asked for more memory than there is. A job that had been claimed before could never
/// start, and held up all others of its tenant, in the end those of the whole node.
#[tokio::test(flavor = "multi_thread")]
async fn a_claimed_job_whose_plugin_came_to_ask_for_too_much_memory_goes_back_and_others_run() {
    for (configuration, memory_bytes, whose) in
        [("[tenants.default]\nmemory = \"100MiB\"\n", None, "its tenant's runs"), ("", Some(100 << 20), "the node")]
    {
        let plugins = |memory: &'static str| {
            vec![("spin", handler(SPIN), ""), ("ok", says("{\"ok\": 1}", "", 0), ""), ("grows", handler(SPIN), memory)]
        };
        let host = Arc::new(Host::new(&HostSettings::default()).unwrap());
        let serving = |memory| Serving { registry: registry(&host, &plugins(memory)), ..Serving::default() };
        let catalog = Catalog::new(serving("[limits]\nmemory = \"64MiB\""));
        let setup = Setup { configuration, memory_bytes, slots: 1, ..Setup::default() };
        let (api, node) = with_catalog(setup, Arc::clone(&host), Arc::clone(&catalog)).await;
        let spins = api.enqueue(&json!({"kind": "spin", "timeout": "1h"})).await;
        until("its start", async || api.state(&spins).await == "running").await;
        // Started by hand, it is claimed and waits for the only slot.
        let grows = api.enqueue(&json!({"kind": "grows", "delay": "1h"})).await;
        assert_eq!(api.post(&format!("/v1/jobs/{grows}/start"), &json!({})).await.status, 200);
        let others = [api.enqueue(&json!({"kind": "ok"})).await, api.enqueue(&json!({"kind": "ok"})).await];
        catalog.set(serving("[limits]\nmemory = \"200MiB\""));
        until("its return", async || api.state(&grows).await == "available").await;
        api.post(&format!("/v1/jobs/{spins}/cancel"), &json!({})).await;
        for id in &others {
            api.ended(id, "completed").await;
        }
        let why = api.reasons(&grows).await;
        assert!(why[0].0 == "too_large" && why[0].1.contains(whose), "{why:?}");
        let shown = api.get(&format!("/v1/jobs/{grows}")).await.json();
        assert_eq!((&shown["attempts"], &shown["crashes"]), (&json!(0), &json!(0)), "{shown}");
        // A version that asks for less runs.
        catalog.set(serving("[limits]\nmemory = \"64MiB\""));
        until("its start", async || api.state(&grows).await == "running").await;
        stop(node).await;
    }
}
