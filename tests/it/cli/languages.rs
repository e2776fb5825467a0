//! `runner plugin new --lang` and `plugin build`: five minutes in each language, as far as its tools are there.
//!
//! Whether they are, `plugins/build` has found out: a language that it left out is left out here, too, as loudly.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Place;

/// A language, what `plugins/build` makes if its compiler is there, which other tools it needs, how the project's own tests are
/// run, and what the plugin is called.
const LANGUAGES: [(&str, &str, &[&str], &str, &str); 5] = [
    (
        "c",
        "c.wasm",
        &["cc"],
        "mkdir -p target && cc -Irunner hello.c test_hello.c runner/runner.c runner/runner_test.c -o target/test && target/test",
        "hello.wasm",
    ),
    ("go", "go.wasm", &["go"], "go test", "hello.wasm"),
    ("js", "js.js", &["node"], "node --test", "hello.js"),
    ("ts", "ts.js", &["tsc", "node"], "tsc && node --test", "hello.js"),
    ("python", "python.wasm", &["componentize-py", "python3"], "python3 -B -m unittest", "hello.wasm"),
];

/// What `plugins/build` makes and keeps for itself.
fn made() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/target")
}

/// Tools that `plugins/build` installs for itself are used from there.
fn path_with_tools() -> std::ffi::OsString {
    let own = ["venv/bin", "npm/node_modules/.bin"].map(|folder| made().join(folder));
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path))).unwrap()
}

#[test]
fn a_new_project_of_each_language_tests_and_builds_as_it_stands() {
    let path = path_with_tools();
    for (lang, built, needs, test, file) in LANGUAGES {
        let place = Place::new();
        place.check(&["plugin", "new", "hello", "--lang", lang], 0, &["runner plugin build"]);
        let has = |tool: &&&str| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
        if !made().join("conformance").join(built).is_file() {
            eprintln!("NOT TESTED: {lang} (`plugins/build` did not build it, and says why)");
            continue;
        }
        if let Some(missing) = needs.iter().find(|tool| !has(tool)) {
            eprintln!("NOT TESTED: {lang} ({missing} is not in PATH)");
            continue;
        }
        let tested = Command::new("sh").args(["-c", test]).current_dir(place.path("hello")).env("PATH", &path).output();
        let tested = tested.unwrap();
        assert!(
            tested.status.success(),
            "{lang}: {}{}",
            String::from_utf8_lossy(&tested.stdout),
            String::from_utf8_lossy(&tested.stderr)
        );
        let built = Command::new(env!("CARGO_BIN_EXE_runner"))
            .args(["plugin", "build", "--to", "../plugins"])
            .current_dir(place.path("hello"))
            .env("PATH", &path)
            .output()
            .unwrap();
        assert!(built.status.success(), "{lang}: {}", String::from_utf8_lossy(&built.stderr));
        assert!(place.path("plugins").join(file).is_file() && place.path("plugins/hello.toml").is_file(), "{lang}");
        if lang == "c" {
            let invoked = ["plugin", "invoke", "plugins/hello.wasm", "{\"name\": \"Ada\"}"];
            place.check(&invoked, 0, &["{\"greeting\":\"Hello, Ada!\"}", "completed in"]);
            place.check(&["plugin", "invoke", "plugins/hello.wasm", "{\"name\": 7}"], 1, &["`name`: must be a string"]);
        }
    }
}

#[test]
fn what_cannot_be_built_is_said_with_the_command_that_mends_it() {
    let place = Place::new();
    place.check(&["plugin", "build", "."], 2, &["is no project of a plugin"]);
    place.check(&["plugin", "new", "hello", "--lang", "go", "--with", "batch"], 2, &["are for Rust"]);
    place.check(&["plugin", "new", "runner", "--lang", "c"], 2, &["what the SDK's folder is called"]);
    for (lang, says) in [
        ("c", "apt-get install -y clang-19"),
        ("go", "https://go.dev/dl"),
        ("ts", "npm install"),
        ("python", "pip install componentize-py"),
    ] {
        place.check(&["plugin", "new", lang, "--lang", lang], 0, &[]);
        let built = Command::new(env!("CARGO_BIN_EXE_runner"))
            .args(["plugin", "build", lang])
            .current_dir(place.path("."))
            .env("PATH", place.path("nothing"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.code() == Some(1) && said.contains("is missing") && said.contains(says), "{lang}: {said}");
    }
}

/// What a project is was told by whichever file came first: `pyproject.toml` was taken for a manifest, a helper in Python for the
/// plugin of a project in C, and a project called `test_x` or `x_test` had nothing but tests.
#[test]
fn a_project_is_what_its_manifest_is_called_whatever_lies_beside() {
    let place = Place::new();
    let check = |name: &str, files: &[&str], missing: &str| {
        std::fs::create_dir(place.path(name)).unwrap();
        for file in files {
            place.write(&format!("{name}/{file}"), b"");
        }
        let built = Command::new(env!("CARGO_BIN_EXE_runner"))
            .args(["plugin", "build", name])
            .current_dir(place.path("."))
            .env("PATH", place.path("nothing"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(said.contains(missing), "{name} with {files:?}: {said}");
    };
    let (c, python) = ("clang is missing", "componentize-py is missing");
    check("a", &["hello.c", "hello.toml", "make_tables.py", "view.js"], c);
    check("b", &["hello.py", "hello.toml", "conftest.py", "app.toml", "pyproject.toml"], python);
    check("c", &["my_hello.py", "my-hello.toml", "setup.js"], python);
    check("d", &["test_x.c", "test_x.toml", "test_test_x.c"], c);
    check("e", &["x_test.py", "x_test.toml", "test_x_test.py"], python);
    // Without a manifest: the source that is called as the folder is.
    check("f", &["conftest.py", "f.py", "pyproject.toml"], python);
    // A script needs no tools, so that its name is seen.
    std::fs::create_dir(place.path("g")).unwrap();
    for file in ["eslint.config.js", "hook.js", "hook.test.mjs", "aaa.toml", "hook.toml"] {
        place.write(&format!("g/{file}"), b"// nothing\n");
    }
    place.check(&["plugin", "build", "g"], 0, &["target/hook.js"]);
}
