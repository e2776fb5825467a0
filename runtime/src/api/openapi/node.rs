//! The routes of the node, its plugins, its store, and of whoever watches it.

use super::bodies::{BackupBody, SettingsBody};
use super::route::{Form, Route, of, query};
use super::words::DurationWord;
use crate::api::node::NodeShown;
use crate::api::plugins::PluginsShown;
use crate::api::plugins::one::FileShown;
use crate::api::plugins::upload::{FORM, PluginForm, SCRIPT, WASM};
use crate::api::series::SeriesShown;
use crate::api::settings::SettingsShown;
use crate::api::stats::StatsShown as Status;
use crate::api::store::{BackupShown, CheckShown, StatsShown};

pub(super) fn routes() -> Vec<Route> {
    [node(), store(), watched()].concat()
}

fn node() -> Vec<Route> {
    let node = |method, path, id, summary| {
        Route::new(method, path, id, summary).json::<NodeShown>(200, "The node").no(&["no_node", "stopping"])
    };
    vec![
        node("get", "/v1/node", "showNode", "Whether the node runs or drains, and what it has in hand"),
        node("post", "/v1/node/drain", "drainNode", "Start nothing more; what runs, ends"),
        node("post", "/v1/node/resume", "resumeNode", "Go on after a drain"),
        Route::new("get", "/v1/plugins", "listPlugins", "What is loaded, what is wrong, what is being compiled")
            .reads()
            .json::<PluginsShown>(200, "The plugins"),
        Route::new("get", "/v1/plugins/{name}", "showPlugin", "One plugin: what serves, what is wrong with it")
            .reads()
            .json::<FileShown>(200, "The plugin")
            .no(&["not_found"]),
        Route::new(
            "put",
            "/v1/plugins/{name}",
            "putPlugin",
            "Put a plugin into the folder once it has passed every check",
        )
        .takes_other(&[(WASM, None), (SCRIPT, None), (FORM, Some(of::<PluginForm>))])
        .writes()
        .json::<FileShown>(200, "It serves, in the place of the one before")
        .json::<FileShown>(201, "It serves")
        .json::<FileShown>(202, "It is put, and still to be loaded")
        .no(&[
            "no_node",
            "exists",
            "plugins_folder",
            "plugins_read_only",
            "plugin_refused",
            "not_granted",
            "compile_share",
        ])
        .no(&["full", "disk_full", "internal", "not_found"]),
        Route::new(
            "delete",
            "/v1/plugins/{name}",
            "deletePlugin",
            "Take a plugin out of the folder; jobs of its kinds wait",
        )
        .writes()
        .answers(204, "Gone", "", None)
        .no(&["no_node", "not_found", "plugins_folder", "plugins_read_only", "internal"]),
        Route::new("post", "/v1/plugins/reload", "reloadPlugins", "Look at the folder of plugins now")
            .writes()
            .json::<PluginsShown>(200, "All is loaded")
            .json::<PluginsShown>(202, "Something is left to be compiled")
            .no(&["no_node", "draining", "plugins_folder"]),
    ]
}

fn store() -> Vec<Route> {
    vec![
        Route::new("get", "/v1/store/settings", "showStoreSettings", "How long and how much is kept")
            .reads()
            .json::<SettingsShown>(200, "What holds"),
        Route::new("patch", "/v1/store/settings", "setStoreSettings", "Change it; what is not said stays")
            .body::<SettingsBody>()
            .writes()
            .json::<SettingsShown>(200, "What holds"),
        Route::new("get", "/v1/store/stats", "storeStats", "Measure the store; reads every page of keys")
            .json::<StatsShown>(200, "The figures")
            .no(&["in_memory", "overloaded", "store_failed", "internal"]),
        Route::new("get", "/v1/store/check", "checkStore", "Compare everything in the store with everything else")
            .json::<CheckShown>(200, "What was found; the store may be damaged")
            .no(&["in_memory", "overloaded", "stopped", "store_failed", "internal"]),
        Route::new("post", "/v1/store/accept-clock", "acceptClock", "The wall clock is right: go on after it stepped")
            .answers(204, "It goes on", "", None)
            .no(&["outcome_unknown", "overloaded", "stopped"]),
        Route::new("post", "/v1/store/backup", "backup", "Copy the store while it is in use, and check the copy")
            .body::<BackupBody>()
            .json::<BackupShown>(201, "It is complete, checked and durable")
            .no(&["in_memory", "in_use", "exists", "overloaded", "stopped", "disk_full", "backup_failed", "internal"]),
    ]
}

fn watched() -> Vec<Route> {
    vec![
        Route::new("get", "/v1/stats", "stats", "How things stand, in one answer")
            .reads()
            .json::<Status>(200, "The figures"),
        Route::new(
            "get",
            "/v1/stats/series",
            "statsSeries",
            "What happened to jobs in the last minutes or hours, step by step",
        )
        .reads()
        .takes(&[query("window", Form::Word(of::<DurationWord>), "How far back: 1m to 6h; 1h if absent.")])
        .json::<SeriesShown>(200, "The points, of one tenant, or of all where whoever may see all names none"),
        Route::new("get", "/metrics", "metrics", "The node in the text format of Prometheus")
            .answers_in(200, "The page", "text/plain", None)
            .no(&["store_failed", "internal"]),
        Route::new("get", "/v1/openapi.json", "openapi", "This document").answers_in(
            200,
            "It",
            "application/json",
            None,
        ),
        Route::new("get", "/healthz", "healthz", "Whether the process answers").plain().answers(
            200,
            "`ok`",
            "text/plain",
            None,
        ),
        Route::new("get", "/readyz", "readyz", "Whether the node takes work")
            .plain()
            .answers(200, "`ok`", "text/plain", None)
            .answers(503, "One word on why not", "text/plain", None),
    ]
}
