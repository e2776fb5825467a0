//! What does a fresh sandbox a run cost? Host time around a call that does nothing, for a component and a command.
//!
//! `cargo bench -p runner --bench sandbox`. Each run has a store, an instance and a memory of its own, as in
//! production; the job has small args and the answer is empty. Nothing is stored: the figures are of the host alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_runtime::wasm::{Alone, CancelSignal, Host, HostSettings, JobView, Manifest, Plugin, RunRequest, Streams};
use runner_store::job::outcome::OutcomeName;

#[path = "../tests/it/sandbox/guests.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod guests;

const WARM_UP: usize = 2_000;
const SAMPLES: usize = 50_000;

fn main() {
    println!("hardware: {}, {} threads", cpu(), std::thread::available_parallelism().map_or(1, usize::from));
    for slots in [HostSettings::default().slots] {
        let host = Arc::new(Host::new(&HostSettings { slots, ..HostSettings::default() }).expect("wasmtime runs here"));
        let kept = Manifest { reuse: Some(1_000), ..Manifest::default() };
        let component = guests::handler(guests::RESULT);
        for (name, guest, manifest) in [
            ("component", &component, Manifest::default()),
            ("component that is kept for 1,000 runs", &component, kept),
            ("command", &guests::command(""), Manifest::default()),
        ] {
            let plugin = Arc::new(host.compile("noop", guest, manifest).expect("is a plugin"));
            for threads in [1, 2] {
                measure(name, &host, &plugin, threads);
            }
        }
    }
}

fn measure(name: &str, host: &Arc<Host>, plugin: &Arc<Plugin>, threads: usize) {
    let began = Instant::now();
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let (host, plugin) = (Arc::clone(host), Arc::clone(plugin));
            std::thread::spawn(move || samples(&host, &plugin))
        })
        .collect();
    let mut times: Vec<Duration> =
        workers.into_iter().flat_map(|worker| worker.join().expect("no run fails")).collect();
    let per_second = (threads * (SAMPLES + WARM_UP)) as f64 / began.elapsed().as_secs_f64();
    times.sort();
    let at = |permille: usize| times[times.len() * permille / 1_000];
    println!(
        "{name}, {threads} thread(s): n {}, median {:?}, p99 {:?}, {per_second:.0} runs/s",
        times.len(),
        at(500),
        at(990)
    );
}

fn samples(host: &Host, plugin: &Plugin) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    runtime.block_on(async {
        let mut times = Vec::with_capacity(SAMPLES);
        for sample in 0..WARM_UP + SAMPLES {
            let request = request(plugin);
            let began = Instant::now();
            let report = host.run_here(plugin, request).await;
            let time = began.elapsed();
            assert_eq!(report.outcome.name(), OutcomeName::Completed);
            if sample >= WARM_UP {
                times.push(time);
            }
        }
        times
    })
}

fn request(plugin: &Plugin) -> RunRequest {
    let job = JobView {
        id: 7,
        kind: "noop".to_owned(),
        tenant: "default".to_owned(),
        queue: "default".to_owned(),
        args: br#"{"n":1}"#.to_vec(),
        run: 1,
        attempt: 1,
        max_attempts: 25,
        ..JobView::default()
    };
    let (limits, grants) = (plugin.limits("noop"), plugin.grants());
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

/// The processor's name, where the system says it.
fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.to_owned())
}
