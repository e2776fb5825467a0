//! Jobs of all languages in one list, run by the binary: `it` has some hundred of them, the bench `languages` ten thousand.
//!
//! It knows the languages, where `plugins/build` puts their test handlers, and how a list of all is run. What a handler does is
//! `behaviours`' to check; here it only matters that every job ends well, whatever runs beside it.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use runner_runtime::wasm::compile::cache::{Bounds, Cache};
use runner_runtime::wasm::{CompileLimits, Compiler, Host, HostSettings, Manifest, Plugin};

/// How a language's test handler is called in the table, and its file.
pub(crate) const LANGUAGES: [Language; 7] = [
    Language { title: "Rust", file: "rust.wasm" },
    Language { title: "C", file: "c.wasm" },
    Language { title: "Go", file: "go.wasm" },
    Language { title: "Go, WASI command", file: "go-command.wasm" },
    Language { title: "JavaScript, bare", file: "js.js" },
    Language { title: "TypeScript", file: "ts.js" },
    Language { title: "Python", file: "python.wasm" },
];

/// What a job of the mixed workload asks of its handler, with the job's number in it: compute, say something, leave something.
/// Not `kv`, which compares and sets one key for all: only the first of many jobs can end well there. A WASI command has the
/// first two of them.
const ASKS: [&str; 5] = [
    r#"{"do": "echo", "value": {"n": @N@, "text": "añ 漢字 🦀"}}"#,
    r#"{"do": "print"}"#,
    r#"{"do": "checkpoint"}"#,
    r#"{"do": "typed", "user": {"id": @N@, "name": "Ada"}}"#,
    r#"{"do": "log"}"#,
];
const ASKS_OF_COMMANDS: [&str; 2] = [ASKS[0], ASKS[1]];
/// Python takes half a minute in a build for tests, and longer where other tests run beside it.
const COMPILED_WITHIN: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Language {
    pub(crate) title: &'static str,
    file: &'static str,
}

impl Language {
    /// Its test handler, if `plugins/build` could make it.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let file = root().join("plugins/target/conformance").join(self.file);
        file.is_file().then_some(file)
    }

    fn stem(&self) -> &'static str {
        self.file.split('.').next().unwrap_or(self.file)
    }

    fn asks(&self) -> &'static [&'static str] {
        if self.stem() == "go-command" { &ASKS_OF_COMMANDS } else { &ASKS }
    }
}

/// What became of a list.
pub(crate) struct Ended {
    languages: Vec<&'static str>,
    jobs: usize,
    took: Duration,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { languages, jobs, took } = self;
        let rate = *jobs as f64 / took.as_secs_f64();
        write!(f, "{jobs} jobs of {} completed in {took:.1?}, {rate:.0} a second", languages.join(", "))
    }
}

/// Runs so many jobs of all languages that are built, in turn, in a new folder `mixed` of `place`.
///
/// # Panics
/// Not every job completed, or no language is built.
pub(crate) fn run(place: &Path, jobs: usize) -> Ended {
    let place = place.join("mixed");
    let plugins = place.join("plugins");
    std::fs::create_dir_all(&plugins).expect("a folder");
    let built: Vec<Language> = LANGUAGES.into_iter().filter(|language| language.file().is_some()).collect();
    assert!(!built.is_empty(), "no language is built: run plugins/build first");
    std::fs::copy(engine(), plugins.join("js-engine.wasm")).expect("`plugins/build` made it");
    for language in &built {
        let file = language.file().expect("is built");
        std::fs::copy(&file, plugins.join(language.file)).expect("copies");
        let manifest =
            format!("kinds = [\"mixed.{}\"]\n[limits]\ntimeout = \"60s\"\nmemory = \"128MiB\"\n", language.stem());
        std::fs::write(plugins.join(language.stem()).with_extension("toml"), manifest).expect("writes");
    }
    std::fs::write(place.join("jobs.ndjson"), list(&built, jobs)).expect("writes");
    // Compiling is not what is measured: the store is made first, and gets what was compiled before.
    called(&place, &["store", "init"]);
    compile(&built, &place.join("runner-data"));
    let began = Instant::now();
    let said = called(&place, &["run", "jobs.ndjson", "--plugins", "plugins"]);
    let took = began.elapsed();
    assert!(said.contains(&format!("{jobs} jobs, {jobs} as expected")), "{said}");
    Ended { languages: built.iter().map(|language| language.title).collect(), jobs, took }
}

/// Compiles what there is, if it was not before, and copies it into a store's folder.
fn compile(languages: &[Language], store: &Path) {
    let settings = HostSettings { compiler: compiler(), cache: Some(cache()), ..HostSettings::default() };
    let host = Host::new(&settings).expect("wasmtime runs here");
    for file in languages.iter().filter_map(Language::file) {
        _ = load(&host, &file, Manifest::default());
    }
    std::fs::create_dir(store.join("cache")).expect("a folder");
    let (folder, key) = cache_paths();
    std::fs::copy(key, store.join("cache.key")).expect("copies");
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("is there");
        std::fs::copy(entry.path(), store.join("cache").join(entry.file_name())).expect("copies");
    }
}

/// Loads a test handler; one at a time, so that tests that begin together do not compile the same.
pub(crate) fn load(host: &Host, file: &Path, manifest: Manifest) -> Plugin {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = std::fs::read(file).expect("is there");
    let plugin = if is_script(file) {
        let engine = std::fs::read(engine()).expect("`plugins/build` made it");
        host.compile_script("conformance.js", bytes, &engine, manifest)
    } else {
        host.compile("conformance", &bytes, manifest)
    };
    plugin.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The engine of scripts and Python take long to compile, and are the same from test to test and from run to run. One for
/// the process, so that tests that begin at the same time do not make two keys.
pub(crate) fn cache() -> Arc<Cache> {
    static CACHE: LazyLock<Arc<Cache>> = LazyLock::new(|| {
        let (folder, key) = cache_paths();
        Arc::new(Cache::open(&folder, &key, Bounds::default()).expect("`plugins/build` made the folder around it"))
    });
    Arc::clone(&CACHE)
}

/// Only a child's work is kept.
pub(crate) fn compiler() -> Compiler {
    let limits = CompileLimits { time: COMPILED_WITHIN, ..CompileLimits::default() };
    Compiler::Child { program: program().to_owned(), limits }
}

fn cache_paths() -> (PathBuf, PathBuf) {
    let made = root().join("plugins/target/conformance");
    (made.join("cache"), made.join("cache.key"))
}

fn list(languages: &[Language], jobs: usize) -> String {
    let mut text = String::new();
    for n in 0..jobs {
        let language = &languages[n % languages.len()];
        let asks = language.asks();
        let args = asks[n / languages.len() % asks.len()].replace("@N@", &n.to_string());
        writeln!(text, "{{\"kind\": \"mixed.{}\", \"args\": {args}}}", language.stem()).expect("to a string");
    }
    text
}

/// The binary with the store of the folder it is in; it must end well, as it does if every job of a list completes.
fn called(place: &Path, args: &[&str]) -> String {
    let mut command = Command::new(program());
    for name in ["RUNNER_CONFIG", "RUNNER_DATA", "RUNNER_URL", "RUNNER_LOG", "RUST_LOG"] {
        command.env_remove(name);
    }
    let ended = command.args(args).current_dir(place).stdin(Stdio::null()).output().expect("the binary runs");
    let said = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(ended.status.success(), "runner {}: {said}", args.join(" "));
    said
}

/// What runs scripts.
pub(crate) fn engine() -> PathBuf {
    root().join("plugins/dist/js-engine.wasm")
}

/// The binary.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_runner"))
}

pub(crate) fn is_script(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "js")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
