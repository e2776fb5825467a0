//! What do plugins cost that do nothing? The first start, which compiles them; the next one, which does not; and their
//! memory while no job is theirs.
//!
//! `cargo bench -p runner --bench plugins`. 200 different small components in one folder. Each start is a process of its
//! own, so that its memory is its own, and compiles, where it has to, in children of the real binary.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use runner_runtime::wasm::compile::cache::{Bounds, Cache};
use runner_runtime::wasm::folder::{self, TENANT_DEFAULT};
use runner_runtime::wasm::{Catalog, CompileLimits, Compiler, Host, HostSettings};

#[path = "../tests/it/sandbox/guests.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod guests;

const PLUGINS: usize = 200;
const LOOK_UPS: u32 = 10_000_000;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match &args[1..] {
        [verb, place] if verb == "start" => start(Path::new(place)),
        _ => all(),
    }
}

fn all() {
    println!("hardware: {} threads", std::thread::available_parallelism().map_or(1, usize::from));
    let place = tempfile::tempdir_in(".").expect("a folder on the disk that is measured");
    let (none, many) = (place.path().join("none"), place.path().join("many"));
    std::fs::create_dir_all(none.join("plugins")).expect("a folder");
    std::fs::create_dir_all(many.join("plugins")).expect("a folder");
    for n in 0..PLUGINS {
        let guest = guests::handler(&format!("(i32.store (i32.const 32) (i32.const {n})) {}", guests::RESULT));
        std::fs::write(many.join(format!("plugins/p{n:03}.wasm")), guest).expect("writes");
    }
    for (what, place) in [
        ("no plugins", &none),
        ("first start", &many),
        ("second start", &many),
        ("third start", &many),
        ("no plugins", &none),
    ] {
        println!("{what}");
        let this = std::env::current_exe().expect("it runs");
        let ended = Command::new(this).arg("start").arg(place).status().expect("starts");
        assert!(ended.success());
    }
}

/// Loads a folder and says what that took.
fn start(place: &Path) {
    let began = Instant::now();
    let cache = Cache::open(&place.join("cache"), &place.join("cache.key"), Bounds::default()).expect("a cache");
    let compiler =
        Compiler::Child { program: PathBuf::from(env!("CARGO_BIN_EXE_runner")), limits: CompileLimits::default() };
    let settings = HostSettings { compiler, cache: Some(Arc::new(cache)), ..HostSettings::default() };
    let host = Host::new(&settings).expect("wasmtime runs here");
    let (ready, before) = (began.elapsed(), resident_bytes());
    let (registry, reports) = folder::load(&host, &place.join("plugins"), &|_| false).expect("the folder is usable");
    assert!(reports.is_empty(), "{reports:?}");
    let (took, plugins) = (began.elapsed() - ready, registry.plugins().count());
    let cached = registry.plugins().filter(|(_, plugin)| plugin.describe().from_cache).count();
    let code = code_bytes(&place.join("cache"));
    let more = resident_bytes().saturating_sub(before);
    println!("  {plugins} plugins in {took:.1?}, {} compiled, {cached} from the cache", plugins - cached);
    if plugins > 0 {
        let each = |bytes: u64| bytes / 1_024 / plugins as u64;
        let beyond = more.saturating_sub(code);
        println!(
            "  resident: {} KiB a plugin, of which code {} KiB, the rest {} KiB",
            each(more),
            each(code),
            each(beyond)
        );
        look_up(&Catalog::fixed(registry));
    }
}

fn look_up(catalog: &Catalog) {
    let began = Instant::now();
    for _ in 0..LOOK_UPS {
        assert!(std::hint::black_box(catalog).get(TENANT_DEFAULT, "p100").is_some());
    }
    println!("  who serves a kind: {:.1?} a look", began.elapsed() / LOOK_UPS);
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1_024
}

fn code_bytes(cache: &Path) -> u64 {
    let entries = std::fs::read_dir(cache).expect("a folder");
    entries.map(|entry| entry.and_then(|entry| entry.metadata()).expect("is there").len()).sum()
}
