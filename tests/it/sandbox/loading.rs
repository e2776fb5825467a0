//! Files that are plugins, and those that are not.

use std::fs;
use std::sync::Arc;

use runner_runtime::operator::Operator;
use runner_runtime::wasm::folder::{self, FolderError, Problem, TENANT_DEFAULT};
use runner_runtime::wasm::{Flavour, Host, HostSettings, Manifest};

use super::guests::{RESULT, command, handler};
use super::host;

#[track_caller]
fn check_refused(bytes: &[u8], expected: &str) {
    let error = host().compile("guest", bytes, Manifest::default()).expect_err("is refused").to_string();
    assert!(error.contains(expected), "{error}");
}

fn text(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text is WebAssembly")
}

#[test]
fn what_is_no_wasm_is_said_to_be_what_it_is() {
    check_refused(b"", "is empty");
    check_refused(b"\0as", "ends within its first 8 bytes");
    check_refused(b"\0asm\x02\0\0\0", "version is 02000000");
    check_refused(b"hello there", "not WebAssembly but a text");
    check_refused(b"<!DOCTYPE html><title>404</title>", "an HTML page");
    check_refused(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0", "a native program");
    check_refused(b"PK\x03\x04\x14\0", "a zip archive");
    check_refused(b"(module)", "in text form");
    check_refused(b"\x01\x02\x03\x04\x05\x06\x07\x08", "binary data of another kind");
    check_refused(&vec![0; (32 << 20) + 1], "at most 33554432 are loaded");
}

#[test]
fn a_file_that_was_cut_or_changed_is_refused() {
    let whole = handler(RESULT);
    for cut in (8..whole.len()).step_by(97) {
        let error = host().compile("guest", &whole[..cut], Manifest::default());
        assert!(error.is_err(), "{cut} bytes of {} are no plugin", whole.len());
    }
    check_refused(&whole[..whole.len() / 2], "ends too early");
}

#[test]
fn a_precompiled_file_is_never_loaded() {
    let engine = wasmtime::Engine::default();
    let native = engine.precompile_module(&text("(module)")).expect("compiles");
    check_refused(&native, "precompiled to native code");
}

#[test]
fn imports_that_are_not_offered_are_named() {
    check_refused(
        &text(
            r#"(component (import "evil:kernel/module@1.0.0" (instance)) (import "wasi:nn/tensor@0.2.0" (instance)))"#,
        ),
        "evil:kernel/module@1.0.0, wasi:nn/tensor@0.2.0",
    );
    check_refused(
        &text(r#"(module (import "env" "system" (func)) (func (export "_start")))"#),
        "does not offer: env.system",
    );
    check_refused(
        &text(r#"(module (import "wasi_snapshot_preview1" "fd_fly" (func)) (func (export "_start")))"#),
        "wasi_snapshot_preview1.fd_fly",
    );
}

#[test]
fn exports_that_are_missing_are_named() {
    check_refused(&text("(module)"), "does not export _start");
    check_refused(&text("(component)"), "does not export runner:plugin/handler@0.1.0");
}

#[test]
fn another_version_of_the_contract_is_named() {
    let later = r#"(component (import "runner:plugin/host@0.2.0" (instance)))"#;
    check_refused(&text(later), "is built for runner:plugin/host@0.2.0, this runner serves version 0.1.0");
}

#[test]
fn proposals_that_are_not_served_are_refused() {
    check_refused(&text(r#"(module (memory i64 1) (func (export "_start")))"#), "memory64");
    check_refused(&text(r#"(module (memory 1 1 shared) (func (export "_start")))"#), "threads");
}

#[test]
fn what_declares_too_much_is_refused_before_it_is_compiled() {
    let locals = "(local i64)".repeat(50_001);
    check_refused(&text(&format!(r#"(module (func (export "_start") {locals}))"#)), "locals in one function");
    let functions = "(func)".repeat(200_001);
    check_refused(&text(&format!("(module {functions})")), "functions, at most 200000");
}

#[test]
fn a_plugin_says_what_it_is() {
    let bytes = command("");
    let plugin = host().compile("tool", &bytes, Manifest::default()).expect("is a plugin");
    let found = plugin.describe();
    assert_eq!((found.flavour, found.size_bytes, found.digest.len()), (Flavour::Command, bytes.len() as u64, 64));
    assert_eq!(found.kinds, ["tool"]);
    assert!(found.imports.contains(&"wasi_snapshot_preview1.fd_write".to_owned()));
    let pinned = Manifest { sha256: Some("0".repeat(64)), ..Manifest::default() };
    let error = host().compile("tool", &bytes, pinned).expect_err("is refused").to_string();
    assert!(error.contains("pins sha256 000"), "{error}");
}

#[test]
fn a_folder_is_loaded_and_every_broken_file_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).expect("writes");
    write("a.wasm", &handler(RESULT));
    write("a.toml", b"kinds = [\"one\", \"two\"]");
    write("b.wasm", &command(""));
    write("b.toml", b"kinds = [\"two\", \"three\"]");
    write("c.wasm", b"oops");
    write("d.wasm", &command(""));
    write("d.toml", b"[limits]\ntimeuot = \"1s\"");
    write("e.toml", b"");
    write("notes.txt", b"not ours");
    fs::create_dir(folder.path().join("acme")).expect("a folder");
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("f.wasm")).expect("a link");
    std::os::unix::fs::symlink("a.wasm", folder.path().join("g.wasm")).expect("a link");
    let (registry, reports) = folder::load(host(), folder.path(), &|_| false).expect("the folder is usable");
    let served: Vec<(&str, &str)> =
        registry.kinds(TENANT_DEFAULT).map(|(kind, plugin)| (kind, plugin.name())).collect();
    assert_eq!(served, [("g", "g"), ("one", "a"), ("three", "b"), ("two", "a")]);
    let reports: Vec<String> = reports.iter().map(|report| report.problem.to_string()).collect();
    let expected = [
        "the tenant `acme` is unknown",
        "`two` is already served by `a`",
        "c.wasm`: the file is not WebAssembly but a text",
        "d.toml`, line 2: unknown key `timeuot` in [limits]; did you mean `timeout`?",
        "no `.wasm` or `.js` file of the same name",
        "link that leaves the plugin folder",
    ];
    assert_eq!(reports.len(), expected.len(), "{reports:#?}");
    for (report, expected) in reports.iter().zip(expected) {
        assert!(report.contains(expected), "{report}");
    }
}

/// A kind is either a plugin's or a worker's, and the configuration's word goes before the plugin's.
#[test]
fn a_kind_that_is_a_workers_is_served_by_no_plugin_and_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.wasm"), handler(RESULT)).expect("writes");
    fs::write(folder.path().join("a.toml"), b"kinds = [\"one\", \"two\"]").expect("writes");
    let operator = Operator::read("[kinds.two]\nexternal = true", folder.path()).expect("is right");
    let settings = HostSettings { operator: Arc::new(operator), ..HostSettings::default() };
    let host = Host::new(&settings).expect("a host");
    let (registry, reports) = folder::load(&host, folder.path(), &|_| false).expect("the folder is usable");
    assert_eq!(registry.kinds(TENANT_DEFAULT).map(|(kind, _)| kind).collect::<Vec<_>>(), ["one"]);
    let [report] = &reports[..] else { panic!("{reports:?}") };
    let problem = report.problem.to_string();
    assert!(problem.contains("its kind `two` is external by the configuration"), "{problem}");
}

#[test]
fn a_folder_that_is_none_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing");
    assert!(matches!(folder::load(host(), &missing, &|_| false), Err(FolderError::Missing(_))));
    let file = folder.path().join("file");
    fs::write(&file, b"").expect("writes");
    assert!(matches!(folder::load(host(), &file, &|_| false), Err(FolderError::NotAFolder(_))));
    let (registry, reports) = folder::load(host(), folder.path(), &|_| false).expect("an empty folder is usable");
    assert!(registry.plugins().next().is_none() && reports.is_empty());
}

#[test]
fn a_pipe_is_reported_and_never_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("p.wasm");
    // A socket is as little a file as a pipe, and the standard library can make one.
    let _socket = std::os::unix::net::UnixListener::bind(&pipe).expect("binds");
    let (_, reports) = folder::load(host(), folder.path(), &|_| false).expect("the folder is usable");
    let [report] = &reports[..] else { panic!("{reports:?}") };
    assert!(matches!(report.problem, Problem::Broken(_)));
    assert!(report.problem.to_string().contains("pipe, socket or device"), "{}", report.problem);
}
