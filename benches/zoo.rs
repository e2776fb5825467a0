//! What do guests that misbehave cost the others? Every beast of the zoo runs twenty times, four at once, beside the jobs of
//! another tenant; and a million instances look for what another tenant's instance left in memory.
//!
//! `cargo bench -p runner --bench zoo -- [visit] [canary]`; both without a word. The visit prints the table (behaviour,
//! outcome, how late a time-out stopped it) and a canary job's time from its enqueue to its recorded end, alone and beside
//! the beasts; every job is durable.

use std::sync::Arc;
use std::time::Instant;

use runner_runtime::wasm::{Alone, CancelSignal, Host, HostSettings, JobView, Manifest, Plugin, RunRequest, Streams};
use runner_store::job::outcome::OutcomeName;

#[path = "../tests/it/zoo/beasts.rs"]
mod beasts;
#[path = "../tests/it/sandbox/guests.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod guests;
#[path = "../tests/it/zoo/visit.rs"]
mod visit;

/// Runs of each beast.
const RUNS: usize = 20;
/// Instances that look into their memory.
const INSTANCES: usize = 1_000_000;
const THREADS: usize = 2;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |word: &str| words.is_empty() || words.iter().any(|given| given == word);
    println!("hardware: {} threads", std::thread::available_parallelism().map_or(1, usize::from));
    if wanted("visit") {
        let folder = tempfile::tempdir_in(".").expect("a folder on the disk that is measured");
        let visit = visit::visit(folder.path(), RUNS);
        visit.print();
        for seen in visit.beasts.iter().filter(|seen| !seen.is_as_expected(RUNS)) {
            println!("NOT AS IT MUST: {} {:?}", seen.name, seen.outcomes);
        }
        let late = visit.beasts.iter().filter_map(|seen| seen.late).max();
        println!("latest stop behind a time-out: {late:?} (at most 20 ms)");
        let (idle, busy) = (visit::at(&visit.idle, 990), visit::at(&visit.busy, 990));
        println!("canary's p99 beside the beasts: {busy:?} (at most 2 × {idle:?} + 10 ms)");
    }
    if wanted("canary") {
        canary();
    }
}

/// Two tenants take turns: one fills its memory, table and stack with a mark, the other looks through all of its own.
fn canary() {
    let host = Arc::new(Host::new(&HostSettings::default()).expect("wasmtime runs here"));
    let compile =
        |name: &str, guest: &[u8]| Arc::new(host.compile(name, guest, Manifest::default()).expect("is a plugin"));
    let (marks, looks) = (compile("marks", &guests::handler(MARKS)), compile("looks", &guests::handler(LOOKS)));
    let began = Instant::now();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (host, marks, looks) = (Arc::clone(&host), Arc::clone(&marks), Arc::clone(&looks));
            std::thread::spawn(move || turns(&host, &marks, &looks, INSTANCES / THREADS))
        })
        .collect();
    let (mut clean, mut found) = (0, 0);
    for thread in threads {
        let (c, f) = thread.join().expect("no run fails");
        clean += c;
        found += f;
    }
    println!(
        "canary bytes: {} instances of two tenants in {:?}, {clean} looked and found nothing, {found} found a byte",
        INSTANCES,
        began.elapsed()
    );
    assert_eq!(found, 0, "a run saw what another tenant's run had left");
}

/// Fills 64 KiB behind the first page and grows by one more, which it fills, too.
const MARKS: &str = "(drop (memory.grow (i32.const 1)))
    (memory.fill (i32.const 65536) (i32.const 0xc5) (i32.const 65536))
    (memory.fill (i32.const 1048576) (i32.const 0xc5) (i32.const 65536)) (i32.const 64)";
/// Looks at the same places, and gives up where it finds anything.
const LOOKS: &str = "(local $i i32) (drop (memory.grow (i32.const 1)))
    (local.set $i (i32.const 65536))
    (loop $look (if (i64.ne (i64.load (local.get $i)) (i64.const 0)) (then unreachable))
      (local.set $i (i32.add (local.get $i) (i32.const 8)))
      (br_if $look (i32.lt_u (local.get $i) (i32.const 131072))))
    (local.set $i (i32.const 1048576))
    (loop $more (if (i64.ne (i64.load (local.get $i)) (i64.const 0)) (then unreachable))
      (local.set $i (i32.add (local.get $i) (i32.const 8)))
      (br_if $more (i32.lt_u (local.get $i) (i32.const 1114112)))) (i32.const 64)";

fn turns(host: &Host, marks: &Plugin, looks: &Plugin, instances: usize) -> (usize, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    runtime.block_on(async {
        let (mut clean, mut found) = (0, 0);
        for turn in 0..instances {
            let (plugin, tenant) = if turn % 2 == 0 { (marks, "acme") } else { (looks, "other") };
            let report = host.run_here(plugin, request(plugin, tenant)).await;
            match (turn % 2, report.outcome.name()) {
                (0, OutcomeName::Completed) => {}
                (1, OutcomeName::Completed) => clean += 1,
                (1, OutcomeName::Trapped) => found += 1,
                (_, other) => panic!("{other:?}"),
            }
        }
        (clean, found)
    })
}

fn request(plugin: &Plugin, tenant: &str) -> RunRequest {
    let job = JobView {
        id: 7,
        kind: "guest".to_owned(),
        tenant: tenant.to_owned(),
        queue: "default".to_owned(),
        args: br#"{"n":1}"#.to_vec(),
        run: 1,
        attempt: 1,
        max_attempts: 25,
        ..JobView::default()
    };
    let (limits, grants) = (plugin.limits("guest"), plugin.grants());
    let read_job = runner_runtime::api::new_job::reader(&Arc::default());
    let (backing, streams) = (Arc::new(Alone), Streams::default());
    RunRequest {
        job,
        others: Vec::new(),
        limits,
        middleware: Vec::new(),
        grants,
        ids: None,
        read_job,
        backing,
        streams,
        cancel: CancelSignal::new(),
    }
}
