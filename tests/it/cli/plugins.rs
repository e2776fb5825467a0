//! `runner plugin`, and folders of plugins that are not as they should be.

use super::{Place, says};

#[test]
fn a_plugin_is_checked_and_invoked_without_a_store() {
    let place = Place::new();
    place.check(
        &["plugin", "check", "plugins/ok.wasm"],
        0,
        &["command", "sha256:", "wasi_snapshot_preview1.fd_write  offered", "_start"],
    );
    let said = place.check(
        &["plugin", "invoke", "plugins/ok.wasm", r#"{"a": 1}"#],
        0,
        &["completed in", "fuel", "peak memory"],
    );
    assert_eq!(said.out, "{\"done\": true}\n");
    place.check(&["plugin", "invoke", "plugins/no.wasm"], 1, &["stderr | not today", "failed in"]);
    place.check(
        &["plugin", "invoke", "plugins/spin.wasm", "--timeout", "50ms"],
        1,
        &["stopped at its time-out of 50ms", "timed_out in"],
    );
    place.check(
        &["plugin", "invoke", "plugins/ok.wasm", "-o", "json"],
        0,
        &[r#""outcome":"completed""#, r#""output":{"done":true}"#],
    );
    place.check(&["plugin", "wit"], 0, &["package runner:plugin"]);
    assert!(!place.path("runner-data").exists());
}

#[test]
fn one_of_several_kinds_is_chosen() {
    let place = Place::new();
    place.write("plugins/ok.toml", b"kinds = [\"one\", \"two\"]");
    place.check(&["plugin", "invoke", "plugins/ok.wasm"], 2, &["say which kind with --kind: it has one, two"]);
    place.check(&["plugin", "invoke", "plugins/ok.wasm", "--kind", "twoo"], 2, &["did you mean `two`?"]);
    place.check(&["plugin", "invoke", "plugins/ok.wasm", "--kind", "two"], 0, &["completed in"]);
}

#[test]
fn what_is_no_plugin_is_named() {
    let place = Place::new();
    let check = |bytes: &[u8], words: &str| {
        place.write("bad.wasm", bytes);
        place.check(&["plugin", "check", "bad.wasm"], 1, &["`bad.wasm`", words]);
        place.check(&["plugin", "invoke", "bad.wasm"], 1, &["`bad.wasm`", words]);
    };
    check(b"", "the file is empty");
    check(b"#!/bin/sh\necho no\n", "is not WebAssembly");
    check(&says("x", 0)[..40], "ends too early");
    place.check(&["plugin", "check", "gone.wasm"], 1, &["`gone.wasm` cannot be read: it does not exist"]);
}

#[test]
fn a_broken_plugin_is_reported_and_stops_nothing() {
    let place = Place::new();
    place.write("plugins/empty.wasm", b"");
    place.write("plugins/late.wasm", &says("{}", 0));
    place.write("plugins/late.toml", b"kinds = [\"no\"]\n[limits]\ntimeuot = \"1s\"");
    place.write("jobs.ndjson", b"{\"kind\": \"ok\"}\n");
    let words = ["empty.wasm", "the file is empty", "late.toml", "line 3"];
    place.check(&["run", "jobs.ndjson", "--plugins", "plugins", "--store", "memory"], 0, &words);
    place.check(&["plugin", "list", "--plugins", "plugins"], 1, &["PLUGIN", "spin", "empty.wasm"]);
    // The list's kind is in the broken file: both are said.
    place.write("jobs.ndjson", b"{\"kind\": \"empty\"}\n");
    place.check(
        &["run", "jobs.ndjson", "--plugins", "plugins", "--store", "memory"],
        2,
        &["provides kind `empty`", "the file is empty"],
    );
}

#[test]
fn a_folder_that_is_missing_or_empty_is_said_so() {
    let place = Place::new();
    place.write("jobs.ndjson", b"{\"kind\": \"ok\"}\n");
    let run = |folder: &str, words: &[&str]| place.check(&["run", "jobs.ndjson", "--plugins", folder], 2, words);
    run("gone", &["the plugin folder `gone` does not exist"]);
    run("jobs.ndjson", &["is not a folder"]);
    std::fs::create_dir(place.path("bare")).unwrap();
    run("bare", &["jobs.ndjson:1:10: no plugin in `bare` provides kind `ok`; it has no plugin at all"]);
    place.check(&["serve", "--plugins", "gone", "--listen", "127.0.0.1:0"], 2, &["`gone` does not exist"]);
    assert!(!place.path("runner-data").exists(), "a name that was mistyped makes no store");
    place.check(&["plugin", "list", "--plugins", "bare"], 0, &["there are no plugins"]);
}
