//! What does a handler cost in each language, and do all of them at once end 10,000 jobs?
//!
//! `cargo bench -p runner --bench languages -- [each] [mixed]`, after `plugins/build`; both without a word. The handlers are the
//! test handlers of `plugin-sdk/conformance`, hence what an SDK costs is in the figures: each run parses its args, looks
//! for what is asked of it, and answers nothing. Plugins are compiled in a child of the real binary, as a server does it. The
//! figures of a run are of the host alone; those of the mixed workload are of `runner run`, and every job is durable.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_runtime::wasm::compile::cache::{Bounds, Cache};
use runner_runtime::wasm::{
    Alone, CancelSignal, CompileLimits, Compiler, Flavour, Host, HostSettings, JobView, Manifest, Plugin, RunReport,
    RunRequest, Streams,
};
use runner_store::job::outcome::OutcomeName;

#[path = "../tests/it/languages/mixed.rs"]
mod mixed;

/// Runs before the first that is measured.
const WARM_UP: usize = 20;
/// The most runs that are measured, and for how long.
const SAMPLES_MAX: usize = 5_000;
const MEASURED_FOR: Duration = Duration::from_secs(3);
/// Jobs of the mixed workload.
const JOBS: usize = 10_000;
const MANIFEST: &str = "kinds = [\"conformance\"]\n[limits]\ntimeout = \"20s\"\nmemory = \"128MiB\"\n";
/// Every instance that may be kept is: so much of a run is not its sandbox.
const KEPT: &str = "[instance]\nreuse = { max_runs = 1_000_000 }\n";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |word: &str| words.is_empty() || words.iter().any(|given| given == word);
    println!("hardware: {}, {} threads", cpu(), std::thread::available_parallelism().map_or(1, usize::from));
    let place = tempfile::tempdir_in(".").expect("a folder on the disk that is measured");
    if wanted("each") {
        println!(
            "| language | size | compiled | from the cache | native code | a run | p99 | in a kept instance | memory |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for (n, language) in mixed::LANGUAGES.iter().enumerate() {
            match language.file() {
                Some(file) => each(language.title, &file, &place.path().join(format!("cache-{n}"))),
                None => println!("| {} | NOT BUILT; `plugins/build` says why |", language.title),
            }
        }
    }
    if wanted("mixed") {
        let ended = mixed::run(place.path(), JOBS);
        println!("mixed: {ended}");
    }
}

/// One row of the table.
fn each(title: &str, file: &Path, cache: &Path) {
    std::fs::create_dir(cache).expect("a folder");
    let host = host(cache);
    let cold = load(&host, file, MANIFEST);
    let native = bytes_in(&cache.join("cache"));
    let again = host_that_starts_again(cache);
    let cached = load(&again, file, MANIFEST);
    assert!(!cold.describe().from_cache && cached.describe().from_cache, "{title}: compiled once");
    let (fresh, report) = measure(&again, &cached);
    let kept = (cached.describe().flavour == Flavour::Component)
        .then(|| measure(&again, &load(&again, file, &format!("{MANIFEST}{KEPT}"))).0);
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    println!(
        "| {title} | {} | {:.1?} | {:.1?} | {} | {:.1?} | {:.1?} | {} | {} |",
        size(file),
        cold.describe().compile_time,
        cached.describe().compile_time,
        mib(native),
        at(&fresh, 500),
        at(&fresh, 990),
        kept.map_or_else(|| "–".to_owned(), |kept| format!("{:.1?}", at(&kept, 500))),
        mib(report.memory_peak_bytes),
    );
}

fn host(place: &Path) -> Host {
    let cache = Cache::open(&place.join("cache"), &place.join("cache.key"), Bounds::default()).expect("a cache");
    let program = mixed::program().to_owned();
    let compiler = Compiler::Child { program, limits: CompileLimits::default() };
    let settings = HostSettings { compiler, cache: Some(Arc::new(cache)), ..HostSettings::default() };
    Host::new(&settings).expect("wasmtime runs here")
}

/// Another process would not know more: it has the folder of the cache, and nothing else.
fn host_that_starts_again(place: &Path) -> Host {
    host(place)
}

fn load(host: &Host, file: &Path, manifest: &str) -> Arc<Plugin> {
    Arc::new(mixed::load(host, file, Manifest::parse(manifest).expect("the manifest is right")))
}

/// Times of single runs, one after the other, and what one of them was.
fn measure(host: &Host, plugin: &Arc<Plugin>) -> (Vec<Duration>, RunReport) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    runtime.block_on(async {
        let (mut times, mut last) = (Vec::with_capacity(SAMPLES_MAX), None);
        for _ in 0..WARM_UP {
            last = Some(host.run_here(plugin, request(plugin)).await);
        }
        let until = Instant::now() + MEASURED_FOR;
        while times.len() < SAMPLES_MAX && Instant::now() < until {
            let request = request(plugin);
            let began = Instant::now();
            let report = host.run_here(plugin, request).await;
            times.push(began.elapsed());
            assert_eq!(report.outcome.name(), OutcomeName::Completed, "{:?}", report.outcome);
            last = Some(report);
        }
        times.sort();
        (times, last.expect("it warmed up"))
    })
}

fn at(times: &[Duration], permille: usize) -> Duration {
    times[times.len() * permille / 1_000]
}

fn request(plugin: &Plugin) -> RunRequest {
    let job = JobView {
        id: 7,
        kind: "conformance".to_owned(),
        tenant: "default".to_owned(),
        queue: "default".to_owned(),
        args: br#"{"do":"nothing"}"#.to_vec(),
        run: 1,
        attempt: 1,
        max_attempts: 25,
        ..JobView::default()
    };
    RunRequest {
        job,
        others: Vec::new(),
        limits: plugin.limits("conformance"),
        middleware: Vec::new(),
        grants: plugin.grants(),
        ids: None,
        read_job: runner_runtime::api::new_job::reader(&Arc::default()),
        backing: Arc::new(Alone),
        streams: Streams::default(),
        cancel: CancelSignal::new(),
    }
}

/// Of a plugin's file; a script needs the engine beside it.
fn size(file: &Path) -> String {
    let bytes = |path: &Path| std::fs::metadata(path).expect("is there").len();
    let shown = |bytes: u64| {
        if bytes < 1 << 20 {
            format!("{:.0} KiB", bytes as f64 / 1_024.0)
        } else {
            format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
        }
    };
    if mixed::is_script(file) {
        return format!("{} (and the engine's {})", shown(bytes(file)), shown(bytes(&mixed::engine())));
    }
    shown(bytes(file))
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.and_then(|entry| entry.metadata()).expect("is there").len()).sum()
}

/// The processor's name, where the system says it.
fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.to_owned())
}
