//! Bare scripts in a plugin folder: what they need, what their version is, and what is wrong with one.
//!
//! What runs them here is no engine but a command that ends: how scripts behave is `languages`' to test, with the real one.

use std::fs;
use std::path::Path;

use runner_runtime::wasm::folder::{self, Registry, TENANT_DEFAULT};
use runner_runtime::wasm::plugin::digest;
use runner_runtime::wasm::{Host, HostSettings};

use super::guests::command;
use super::host;

fn load(folder: &Path) -> (Registry, Vec<String>) {
    let (registry, reports) = folder::load(host(), folder, &|name| name == "acme").expect("the folder is usable");
    let name = |path: &Path| path.strip_prefix(folder).expect("is in it").display().to_string();
    (registry, reports.iter().map(|report| format!("{}: {}", name(&report.path), report.problem)).collect())
}

/// A folder with these files, and what is said of it.
#[track_caller]
fn check(files: &[(&str, &[u8])], expected: &[&str]) -> Registry {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("has a folder")).expect("makes it");
        fs::write(path, bytes).expect("writes");
    }
    let (registry, reports) = load(folder.path());
    assert_eq!(reports.len(), expected.len(), "{reports:#?}");
    for (report, words) in reports.iter().zip(expected) {
        assert!(report.contains(words), "{report}");
    }
    registry
}

const SCRIPT: &[u8] = b"export default () => 1";

#[test]
fn a_script_is_a_plugin_with_a_version_of_its_own() {
    let engine = command("");
    let registry = check(
        &[
            ("js-engine.wasm", &engine),
            ("hello.js", SCRIPT),
            ("hello.toml", b"kinds = [\"hello.greet\"]"),
            ("other.js", b"export default () => 2"),
            ("acme/hello.js", SCRIPT),
        ],
        &[],
    );
    let hello = registry.get(TENANT_DEFAULT, "hello.greet").expect("is served");
    assert_eq!((hello.name(), hello.digest()), ("hello", digest(SCRIPT).as_str()));
    assert_eq!(hello.describe().size_bytes, SCRIPT.len() as u64);
    assert_eq!(registry.get(TENANT_DEFAULT, "other").expect("is served").digest(), digest(b"export default () => 2"));
    assert_eq!(registry.get("acme", "hello").expect("runs in the operator's engine").digest(), digest(SCRIPT));
    assert_eq!(registry.named(TENANT_DEFAULT, "js-engine").expect("is a plugin").digest(), digest(&engine));
}

/// All were in line before the first had an engine, so that each had it compiled anew where there is no cache: seventy scripts
/// took four minutes before the first job of a new store ran, and each had code of its own in memory.
#[test]
fn an_engine_is_compiled_once_for_all_scripts_of_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("js-engine.wasm"), command("")).expect("writes");
    fs::create_dir(folder.path().join("acme")).expect("a folder");
    for name in ["a.js", "b.js", "acme/a.js", "z.js"] {
        fs::write(folder.path().join(name), format!("export default () => {name:?}")).expect("writes");
    }
    // Of its own, as what others compile meanwhile is not to be counted.
    let host = Host::new(&HostSettings::default()).expect("wasmtime runs here");
    let (registry, reports) = folder::load(&host, folder.path(), &|name| name == "acme").expect("the folder is usable");
    assert!(reports.is_empty(), "{reports:?}");
    assert_eq!(registry.plugins().count(), 5);
    assert_eq!(host.compile_figures().compiled, 1);
    let script = registry.get("acme", "a").expect("is served");
    assert_eq!(script.digest(), digest(b"export default () => \"acme/a.js\""));
}

#[test]
fn what_is_wrong_with_a_script_is_said() {
    let engine = command("");
    check(&[("hello.js", SCRIPT)], &["the engine that runs scripts, `js-engine.wasm`, is not in the plugin folder"]);
    check(&[("acme/js-engine.wasm", &engine), ("acme/hello.js", SCRIPT)], &["`plugins/build` makes it"]);
    check(&[("js-engine.wasm", &engine), ("hello.js", b"let s = '\xff'")], &["no UTF-8 text: byte 9 is wrong"]);
    check(&[("js-engine.wasm", &engine), ("a.js", SCRIPT), ("a.wasm", &command("(nop)"))], &["a.wasm: the tenant has"]);
    check(&[("js-engine.wasm", &engine), ("a.js", SCRIPT), ("a.toml", b"sha256 = \"00\"")], &["a.js"]);
    let pinned = format!("sha256 = \"{}\"", digest(SCRIPT));
    check(&[("js-engine.wasm", &engine), ("a.js", SCRIPT), ("a.toml", pinned.as_bytes())], &[]);
    let large = vec![b' '; (1 << 20) + 1];
    check(&[("js-engine.wasm", &engine), ("a.js", &large)], &["a.js"]);
}
