//! Compiling in a child: what it refuses, what ends it, and what is kept of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_runtime::wasm::compile::cache::{Bounds, Cache};
use runner_runtime::wasm::{CompileLimits, Compiler, Host, HostSettings, Manifest, Plugin, PluginError};

use super::bombs;
use super::guests::{RESULT, command, handler, says};

fn limits(time: Duration) -> CompileLimits {
    CompileLimits { time, ..CompileLimits::default() }
}

fn host_with(limits: CompileLimits, cache: Option<Arc<Cache>>) -> Host {
    let compiler = Compiler::Child { program: PathBuf::from(env!("CARGO_BIN_EXE_runner")), limits };
    let settings = HostSettings { slots: 1, threads: 1, compiler, cache, ..HostSettings::default() };
    Host::new(&settings).expect("wasmtime runs here")
}

fn compile(host: &Host, bytes: &[u8]) -> Result<Plugin, PluginError> {
    host.compile("guest", bytes, Manifest::default())
}

/// Each is refused by its counts, or by the compiler, or ended at the child's limits, or compiled within them.
#[test]
fn compile_bombs_end_at_the_childs_limits() {
    const TIME: Duration = Duration::from_secs(2);
    /// What a busy machine may be late with: the child has its processor time, but not at once.
    const LATE_MAX: Duration = Duration::from_secs(30);
    let host = host_with(limits(TIME), None);
    let refused = "at most";
    let ended = "takes more than 2 s";
    for (bytes, words) in [
        (bombs::one_function(7 << 20, 0), Some(refused)),
        (bombs::locals(1_000_000, 1, 0), Some(refused)),
        (bombs::components(2_000), Some(refused)),
        (bombs::nested(1_000_000, 0), Some(ended)),
        (bombs::locals(49_000, 100, 0), Some(ended)),
        (bombs::locals(10_000, 1_000, 0), Some(ended)),
        (bombs::functions(50_000, 0), None),
        (bombs::one_function(3_900_000, 0), None),
        (bombs::branches(30, 100_000, 0), None),
        (bombs::branches(60, 60_000, 0), None),
        (bombs::stack(1_000_000, 0), None),
        (bombs::components(20), None),
    ] {
        let began = Instant::now();
        let made = compile(&host, &bytes).map_err(|error| error.to_string());
        let took = began.elapsed();
        assert!(took < TIME + LATE_MAX, "{took:?}: {made:?}");
        match (made, words) {
            (Err(error), Some(words)) => assert!(error.contains(words), "{error}"),
            (Ok(plugin), Some(words)) => panic!("{words} was expected, but it compiled: {plugin:?}"),
            // Whether it is done in time is this machine's to say.
            (_, None) => {}
        }
    }
}

#[test]
fn a_compiler_has_as_much_memory_as_it_may() {
    // Less than it has before it begins, so that it need not be waited for until it has used up what it may.
    let limits = CompileLimits { memory_bytes: 16 << 20, ..CompileLimits::default() };
    let error = compile(&host_with(limits, None), &bombs::functions(10_000, 0)).expect_err("is too much");
    assert!(matches!(error, PluginError::CompilerDied { .. }), "{error}");
    assert!(error.to_string().contains("more than its 16 MiB of memory"), "{error}");
    let limits = CompileLimits { code_bytes: 4_096, ..CompileLimits::default() };
    let error = compile(&host_with(limits, None), &handler(RESULT)).expect_err("has more code");
    assert_eq!(error, PluginError::CodeTooLarge { max: 4_096 });
}

#[test]
fn a_child_compiles_what_this_process_would() {
    let host = host_with(CompileLimits::default(), None);
    let plugin = compile(&host, &handler(RESULT)).expect("is a plugin");
    assert!(!plugin.describe().from_cache);
    let plugin = Arc::new(plugin);
    let report = super::block_on(host.spawn(Arc::clone(&plugin), super::request(&plugin))).expect("runs");
    assert_eq!(report.outcome.name(), runner_store::job::outcome::OutcomeName::Completed);
    let check = |bytes: &[u8], words: &str| {
        let error = compile(&host, bytes).expect_err("is refused").to_string();
        assert!(error.contains(words), "{error}");
    };
    let text = |text: &str| wat::parse_str(text).expect("the text is WebAssembly");
    check(&text(r#"(module (memory i64 1) (func (export "_start")))"#), "memory64");
    check(text(r#"(module (func (export "_start") (i32.add)))"#).as_slice(), "not valid WebAssembly");
    check(&handler(RESULT)[..200], "ends too early");
}

#[test]
fn a_compiler_that_is_none_is_said_to_be_none() {
    // On a busy machine even a program that says one word takes a second now and then: only who never ends is cut short.
    let (long, short) = (Duration::from_secs(60), Duration::from_secs(1));
    let with = |program: &str, time: Duration| {
        let compiler = Compiler::Child { program: PathBuf::from(program), limits: limits(time) };
        let host = Host::new(&HostSettings { compiler, ..HostSettings::default() }).expect("wasmtime runs here");
        compile(&host, &command("")).expect_err("is not compiled")
    };
    // Is not there; says something else.
    for program in ["/nowhere", "/bin/echo"] {
        let error = with(program, long);
        assert!(matches!(error, PluginError::CompilerFailed { .. }), "{program}: {error}");
    }
    // Says nothing.
    let error = with("/bin/true", long);
    assert!(matches!(error, PluginError::CompilerDied { .. }), "{error}");
    let folder = tempfile::tempdir().expect("a folder");
    let script = |name: &str, text: &str, time: Duration| {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("may");
        with(path.to_str().expect("text"), time)
    };
    // Never answers; answers without end; is killed.
    assert_eq!(script("sleeps", "exec sleep 60", short), PluginError::CompileTime { limit: short });
    let endless = script("endless", "exec cat /dev/zero", short);
    assert!(matches!(endless, PluginError::CodeTooLarge { .. } | PluginError::CompileTime { .. }), "{endless}");
    let killed = script("killed", "kill -9 $$", long).to_string();
    assert!(killed.contains("ended by SIGKILL (9)"), "{killed}");
}

fn cache(folder: &Path, bounds: Bounds) -> Arc<Cache> {
    Arc::new(Cache::open(&folder.join("cache"), &folder.join("cache.key"), bounds).expect("a cache"))
}

#[test]
fn what_was_not_used_for_the_longest_time_goes_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let bounds = Bounds { entries_max: 2, ..Bounds::default() };
    let host = host_with(CompileLimits::default(), Some(cache(folder.path(), bounds)));
    let guests: Vec<Vec<u8>> = (0..3).map(|n| says(&n.to_string(), "", 0)).collect();
    let from_cache = |n: usize| compile(&host, &guests[n]).expect("is a plugin").describe().from_cache;
    assert_eq!([from_cache(0), from_cache(1), from_cache(0), from_cache(2)], [false, false, true, false]);
    assert_eq!([from_cache(0), from_cache(2), from_cache(1)], [true, true, false]);
    // By bytes: one entry has more than one byte, so each takes the place of the other.
    let host = host_with(CompileLimits::default(), Some(cache(folder.path(), Bounds { bytes_max: 1, ..bounds })));
    assert!(!compile(&host, &guests[0]).expect("is a plugin").describe().from_cache);
    assert_eq!(fs::read_dir(folder.path().join("cache")).expect("a folder").count(), 0);
}

#[test]
fn what_a_process_left_half_written_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(cache(folder.path(), Bounds::default()));
    let half = folder.path().join("cache/.0123456789abcdef");
    fs::write(&half, b"half").expect("writes");
    drop(cache(folder.path(), Bounds::default()));
    assert!(!half.exists());
    // A cache that cannot be is said to be none.
    fs::remove_dir_all(folder.path().join("cache")).expect("removes");
    fs::write(folder.path().join("cache"), b"a file").expect("writes");
    let error = Cache::open(&folder.path().join("cache"), &folder.path().join("cache.key"), Bounds::default());
    assert!(error.expect_err("it is a file").to_string().contains("make it a folder of the runner's own user"));
}
