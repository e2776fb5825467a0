//! Forty compile bombs at a running server: they are refused or ended, and a canary job does not notice.
//!
//! How long a canary takes is also up to the machine, which runs other tests at the same time and stalls for their
//! commits. What that brings is seen on a second server, without bombs, whose canaries take turns with the first one's.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::{Server, signal};
use super::{Place, until};
use crate::sandbox::bombs;
use crate::sandbox::reload::drop_in;
use crate::soak::wire::{Ask, Wire};

const BOMBS: u32 = 40;
const SAMPLES: usize = 300;
/// For the whole of it. Each bomb has two seconds.
const DEADLINE: Duration = Duration::from_secs(300);
/// What the server may be slower by than it was: times five and some more, as compilers run beside it. Or than the other one is.
const SLOWER_MAX: u32 = 5;
const SLOWER_BY_MAX: Duration = Duration::from_millis(100);
/// What the server may have grown by once the bombs are gone: what an allocator keeps of reading forty files.
const GROWN_MAX_KIB: u64 = 96 << 10;

fn bomb(n: u32) -> Vec<u8> {
    match n % 10 {
        0 => bombs::functions(50_000, n),
        1 => bombs::one_function(7 << 20, n),
        2 => bombs::one_function(3_900_000, n),
        3 => bombs::locals(1_000_000, 1, n),
        4 => bombs::locals(49_000, 100, n),
        5 => bombs::nested(1_000_000, n),
        6 => bombs::branches(60, 60_000, n),
        7 => bombs::stack(1_000_000, n),
        8 => bombs::components(2_000),
        _ => bombs::components(20),
    }
}

/// From the call that enqueues the canary to the answer that says that it has ended.
fn canary(wire: &mut Wire) -> Duration {
    let began = Instant::now();
    let job = wire.until_answered(&Ask { body: Some(&json!({"kind": "ok"})), ..Ask::post("/v1/jobs") });
    let id = job.body["id"].as_str().unwrap().to_owned();
    let ended = wire.until_answered(&Ask::get(format!("/v1/jobs/{id}/wait?timeout=60s")));
    assert_eq!(ended.state(), "completed", "{ended:?}");
    began.elapsed()
}

/// The median and the worst percentile.
fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// What the system says of a process's memory, in KiB.
fn memory(server: &Server, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child().id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

/// Processes that compile for this one.
fn compilers(server: &Server) -> Vec<u32> {
    let parent = format!("PPid:\t{}\n", server.child().id());
    let ids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| fs::read_to_string(format!("/proc/{id}/status")).is_ok_and(|status| status.contains(&parent)))
        .collect()
}

/// Until whoever has it, or inherits it, has taken note, it is a zombie.
fn is_over(compiler: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{compiler}/status"));
    status.map_or(true, |status| status.contains("State:\tZ"))
}

#[test]
fn forty_compile_bombs_cost_a_running_server_nothing() {
    let place = Place::new();
    let server = place.serve(&["--compile-time", "2s"]);
    let spared_place = Place::new();
    let _spared = spared_place.serve(&[]);
    let wire_of = |place: &Place| Wire::new(place.path("runner-data/runner.sock"));
    let (mut wire, mut spared) = (wire_of(&place), wire_of(&spared_place));
    for _ in 0..SAMPLES / 10 {
        canary(&mut wire);
        canary(&mut spared);
    }
    let before = percentiles((0..SAMPLES).map(|_| canary(&mut wire)).collect());
    let resident = memory(&server, "VmRSS:");
    for n in 0..BOMBS {
        drop_in(&place.path("plugins"), &format!("bomb{n:02}.wasm"), &bomb(n));
    }
    let (began, mut times, mut times_spared) = (Instant::now(), Vec::new(), Vec::new());
    let shown = loop {
        for _ in 0..10 {
            times.push(canary(&mut wire));
            times_spared.push(canary(&mut spared));
        }
        let at_work = compilers(&server).into_iter().filter(|id| !is_over(*id)).count();
        assert!(at_work <= 1, "{at_work} plugins are compiled at a time");
        let shown = wire.until_answered(&Ask::get("/v1/plugins")).body;
        let many = |what: &str| shown[what].as_array().unwrap().len();
        if many("loading") == 0 && many("plugins") + many("reports") == 3 + BOMBS as usize {
            break shown;
        }
        assert!(began.elapsed() < DEADLINE, "{shown}");
    };
    let (took, samples, during) = (began.elapsed(), times.len(), percentiles(times));
    let beside = percentiles(times_spared);
    let with_bombs = memory(&server, "VmRSS:");
    for n in 0..BOMBS {
        fs::remove_file(place.path(&format!("plugins/bomb{n:02}.wasm"))).unwrap();
    }
    until("they are gone", || {
        wire.until_answered(&Ask::get("/v1/plugins")).body["plugins"].as_array().unwrap().len() == 3
    });
    let after = memory(&server, "VmRSS:");
    println!(
        "{BOMBS} bombs in {took:.1?}; canary's p50 and p99: {before:.1?} before ({SAMPLES} samples), {during:.1?} during ({samples}), {beside:.1?} on the server without bombs"
    );
    println!(
        "server's memory: {resident} KiB before, {with_bombs} KiB with those that compiled, {after} KiB after, {} KiB at most",
        memory(&server, "VmHWM:")
    );
    summary(&shown);
    assert!(during.0 <= before.0 * SLOWER_MAX + SLOWER_BY_MAX, "{before:?} {during:?}");
    assert!(during.1 <= (before.1 * SLOWER_MAX).max(beside.1) + SLOWER_BY_MAX, "{before:?} {during:?} {beside:?}");
    assert!(after <= resident + GROWN_MAX_KIB, "{resident} KiB before, {after} KiB after");
    assert_eq!(compilers(&server), Vec::<u32>::new());
}

/// What became of each kind of bomb.
fn summary(shown: &Value) {
    for n in 0..10 {
        let name = format!("bomb{n:02}");
        let report =
            shown["reports"].as_array().unwrap().iter().find(|report| report["path"].as_str().unwrap().contains(&name));
        let said = report.map_or("compiled", |report| report["problem"].as_str().unwrap());
        println!("  {name}: {}", said.split_once("`: ").map_or(said, |(_, problem)| problem));
    }
}

#[test]
fn a_compiler_dies_with_its_server() {
    let place = Place::new();
    let mut server = place.serve(&[]);
    drop_in(&place.path("plugins"), "bomb.wasm", &bombs::locals(49_000, 100, 0));
    until("it compiles", || !compilers(&server).is_empty());
    let compiler = compilers(&server)[0];
    let words = fs::read_to_string(format!("/proc/{compiler}/cmdline")).unwrap();
    assert!(words.contains("compile-plugin"), "{words}");
    let environment = fs::read_to_string(format!("/proc/{compiler}/environ")).unwrap();
    assert!(!environment.contains("PATH="), "{environment}");
    signal(server.child(), "KILL");
    server.ended();
    until("it is gone", || is_over(compiler));
}

#[test]
fn a_server_that_stops_does_not_wait_for_its_compiler() {
    let place = Place::new();
    let mut server = place.serve(&[]);
    drop_in(&place.path("plugins"), "bomb.wasm", &bombs::locals(49_000, 100, 0));
    until("it compiles", || !compilers(&server).is_empty());
    place.check(&["plugin", "list"], 0, &["default/bomb: compiling since"]);
    let compiler = compilers(&server)[0];
    let began = Instant::now();
    signal(server.child(), "TERM");
    server.ended().check(0, &["stopped"]);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(!fs::exists(format!("/proc/{compiler}")).unwrap());
}
