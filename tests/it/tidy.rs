//! The invariants of the README that a compiler does not hold: who may know what, who may read the clock, how large a
//! file may grow, and what lies at the top.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Files that git knows, or would know, with this ending.
fn files(under: &str, ending: &str) -> Vec<PathBuf> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "--", under])
        .current_dir(root())
        .output()
        .expect("git is there");
    let names = String::from_utf8(listed.stdout).unwrap();
    let files: Vec<_> = names.lines().filter(|name| name.ends_with(ending)).map(|name| root().join(name)).collect();
    files.into_iter().filter(|path| path.exists()).collect()
}

/// Lines of code (not comments) under a folder that have one of these words in them.
#[track_caller]
fn check_absent(under: &str, words: &[&str], except: &[&str]) {
    let mut found = Vec::new();
    for path in files(under, ".rs") {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        if except.iter().any(|allowed| name.starts_with(allowed)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (i, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{name}:{}: {}", i + 1, line.trim()));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_store_knows_nothing_of_wasm_http_or_an_async_scheduler() {
    check_absent("store/src", &["wasmtime", "axum", "hyper", "tokio::spawn", "tokio::runtime", "tokio::time"], &[]);
}

#[test]
fn the_runtime_knows_nothing_of_redb_or_key_bytes() {
    check_absent("runtime/src", &["redb::", "engine::redb::tables", "to_be_bytes"], &["runtime/src/cli/"]);
}

#[test]
fn the_rules_read_no_clock_do_no_io_and_are_not_async() {
    let words = ["SystemTime", "Instant::now", "std::fs", "std::io", "async ", ".await", "rand"];
    check_absent("store/src/job", &words, &[]);
    check_absent("store/src/decide", &words, &[]);
    check_absent("runtime/src/scheduler/core.rs", &words, &[]);
}

#[test]
fn one_module_reads_the_wall_clock() {
    check_absent("store/src", &["SystemTime::now"], &["store/src/clock.rs"]);
    check_absent("runtime/src", &["SystemTime::now", "Timestamp::now"], &[]);
}

#[test]
fn only_decide_calls_the_rules() {
    check_absent("store/src", &["transition("], &["store/src/job/", "store/src/decide/"]);
    check_absent("runtime/src", &["transition("], &[]);
}

#[test]
fn no_test_is_skipped_and_nothing_is_left_unfinished() {
    let marks = [concat!("#[", "ignore"), concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("FIX", "ME")];
    for under in ["store", "runtime", "plugin-sdk", "plugins", "tests", "benches"] {
        check_absent(under, &marks, &[]);
    }
}

#[test]
fn no_file_outgrows_its_purpose() {
    const LINES_MAX: usize = 500;
    for path in
        ["store/src", "runtime/src", "plugin-sdk", "plugins", "tests", "benches"].iter().flat_map(|p| files(p, ".rs"))
    {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines: split it by verb", path.display());
    }
}

#[test]
fn every_file_of_code_says_what_it_is() {
    for path in
        ["store/src", "runtime/src", "plugin-sdk", "plugins", "tests", "benches"].iter().flat_map(|p| files(p, ".rs"))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} does not open with what it is", path.display());
    }
}

#[test]
fn the_top_level_is_as_it_is_drawn() {
    let mut top: Vec<String> = files(".", "")
        .iter()
        .filter_map(|path| path.strip_prefix(root()).ok()?.iter().next()?.to_str().map(str::to_owned))
        .filter(|name| !name.starts_with('.'))
        .collect();
    top.sort();
    top.dedup();
    let drawn = [
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "benches",
        "plugin-sdk",
        "plugins",
        "runtime",
        "store",
        "tests",
    ];
    assert_eq!(top, drawn);
}

/// `first-ten-minutes` told one step in fifty as wrong though its words were there: `cat out err | grep -q` ends at the first
/// match, `cat` fails by SIGPIPE, and under `pipefail` so does the whole.
#[test]
fn no_script_under_pipefail_pipes_into_a_reader_that_ends_early() {
    let readers = ["grep -q", "head "];
    let mut found = Vec::new();
    let mut scripts = 0;
    for path in files(".", "") {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if !text.starts_with("#!") || !text.contains("pipefail") {
            continue;
        }
        scripts += 1;
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#')) {
            let fails = readers.iter().any(|reader| line.contains(&format!("| {reader}")));
            if fails && !line.contains("|| true") {
                found.push(format!("{}:{}: {}", path.display(), i + 1, line.trim()));
            }
        }
    }
    assert!(scripts >= 5, "only {scripts} scripts were found");
    assert_eq!(found, Vec::<String>::new());
}
