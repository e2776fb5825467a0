//! The files of a new project in languages other than Rust: a handler, its test, and the SDK, so that nothing else is needed.

use super::new::{File, Lang, filled};

/// The files of an SDK, by their names within the project's folder `runner`.
type Sdk = &'static [(&'static str, &'static str)];

macro_rules! sdk {
    ($folder:literal, $($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../plugin-sdk/", $folder, $name)))),+]
    };
}

/// The C SDK: what a plugin is compiled with, and what its test is.
pub(super) const C: Sdk = sdk!("c/", "runner.h", "runner.c", "runner_wasm.c", "runner_test.h", "runner_test.c");
const GO: Sdk = sdk!(
    "go/",
    "go.mod",
    "args.go",
    "command.go",
    "component.go",
    "context.go",
    "imports.go",
    "runner.go",
    "stream.go",
    "test.go",
    "text.go",
);
const JS: Sdk = sdk!("js/", "runner.d.ts", "prelude.js", "testing.mjs");
const PYTHON: Sdk = sdk!(
    "python/runner/",
    "__init__.py",
    "args.py",
    "context.py",
    "failure.py",
    "guest.py",
    "handlers.py",
    "testing.py",
    "text.py",
);

/// The project, without its manifest and what git is to ignore.
pub(super) fn files(lang: Lang, name: &str) -> Vec<File> {
    let module = module(name);
    let (own, sdk): (Vec<(String, &str)>, Sdk) = match lang {
        Lang::Rust => (Vec::new(), &[]),
        Lang::C => (
            vec![
                (format!("{name}.c"), include_str!("templates/handler.c.txt")),
                (format!("test_{name}.c"), include_str!("templates/test.c.txt")),
            ],
            C,
        ),
        Lang::Go => (
            vec![
                ("go.mod".to_owned(), include_str!("templates/go.mod.txt")),
                ("main.go".to_owned(), include_str!("templates/main.go.txt")),
                ("main_test.go".to_owned(), include_str!("templates/main_test.go.txt")),
            ],
            GO,
        ),
        Lang::Js => (
            vec![
                (format!("{name}.js"), include_str!("templates/handler.js.txt")),
                (format!("{name}.test.mjs"), include_str!("templates/test.mjs.txt")),
                ("package.json".to_owned(), include_str!("templates/package.js.json.txt")),
            ],
            JS,
        ),
        Lang::Ts => (
            vec![
                (format!("{name}.ts"), include_str!("templates/handler.ts.txt")),
                (format!("{name}.test.mjs"), include_str!("templates/test.mjs.txt")),
                ("package.json".to_owned(), include_str!("templates/package.ts.json.txt")),
                ("tsconfig.json".to_owned(), include_str!("templates/tsconfig.json.txt")),
            ],
            JS,
        ),
        Lang::Python => (
            vec![
                (format!("{module}.py"), include_str!("templates/handler.py.txt")),
                (format!("test_{module}.py"), include_str!("templates/test.py.txt")),
            ],
            PYTHON,
        ),
    };
    let script = if matches!(lang, Lang::Ts) { format!("target/{name}.js") } else { format!("{name}.js") };
    let own = own.into_iter().map(|(path, text)| {
        let text = filled(text, name).replace("@MODULE@", &module).replace("@SCRIPT@", &script);
        File { path: path.into(), text }
    });
    let sdk = sdk.iter().map(|(file, text)| File { path: format!("runner/{file}").into(), text: (*text).to_owned() });
    own.chain(sdk).collect()
}

/// How the project's own tests are run.
pub(super) fn test_command(lang: Lang, name: &str) -> String {
    match lang {
        Lang::Rust => "cargo test".to_owned(),
        Lang::C => {
            let sources = format!("{name}.c test_{name}.c runner/runner.c runner/runner_test.c");
            format!("mkdir -p target && cc -Irunner {sources} -o target/test && target/test")
        }
        Lang::Go => "go test".to_owned(),
        Lang::Js => "node --test".to_owned(),
        Lang::Ts => "npm install && npm test".to_owned(),
        Lang::Python => "python3 -m unittest".to_owned(),
    }
}

/// What a plugin's file is called.
pub(super) fn plugin_file(lang: Lang, name: &str) -> String {
    match lang {
        Lang::Js | Lang::Ts => format!("{name}.js"),
        Lang::Rust | Lang::C | Lang::Go | Lang::Python => format!("{name}.wasm"),
    }
}

/// A name that Python can import.
pub(super) fn module(name: &str) -> String {
    name.replace('-', "_")
}

/// Keywords of Python, modules of its own library, and those that componentize-py makes: a file of such a name cannot be imported,
/// or stands in the place of what others import.
const OF_PYTHON: &str = include_str!("templates/python-names.txt");
/// The engine of scripts, which stands beside plugins under this name.
const ENGINE: &str = "js-engine";

/// Why a project of this language cannot be called so.
pub(super) fn taken(lang: Lang, name: &str) -> Option<&'static str> {
    match lang {
        _ if name.eq_ignore_ascii_case(ENGINE) => Some("is what the engine of scripts is called, beside plugins"),
        // Some file systems take both for one file.
        Lang::Rust if name.eq_ignore_ascii_case("cargo") => Some("would have its manifest in the place of Cargo.toml"),
        Lang::Rust => None,
        Lang::C | Lang::Go | Lang::Js | Lang::Ts | Lang::Python if name == "runner" => {
            Some("is what the SDK's folder is called")
        }
        Lang::Python if OF_PYTHON.split_whitespace().any(|own| own == module(name)) => {
            Some("is a keyword or a module of Python itself")
        }
        Lang::C | Lang::Go | Lang::Js | Lang::Ts | Lang::Python => None,
    }
}
