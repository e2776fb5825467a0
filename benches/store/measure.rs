//! Timing, and saying what was timed on what.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

pub(crate) fn sorted(times: &[Duration]) -> Vec<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
}

pub(crate) fn median(times: &[Duration]) -> Duration {
    sorted(times)[times.len() / 2]
}

pub(crate) fn report(question: &str, jobs: usize, took: Duration, times: &[Duration], floor: &str) {
    let rate = jobs as f64 / took.as_secs_f64() / 1_000.0;
    let p99 = sorted(times)[times.len() * 99 / 100];
    println!("{question}\n  {rate:.1} k jobs/s; floor {floor}");
    println!("  n {}, median {:.2?}, p99 {p99:.2?}; {jobs} jobs in {took:.2?}", times.len(), median(times));
}

pub(crate) fn print_hardware(dir: &Path) {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores, {}", model.trim_start_matches(['\t', ' ', ':']));
    print_disk(dir);
}

pub(crate) fn print_disk(dir: &Path) {
    let mut file = tempfile::tempfile_in(dir).unwrap();
    let sync = |_| {
        file.write_all(&[7; 4_096]).unwrap();
        timed(|| file.sync_data().unwrap()).1
    };
    let times: Vec<Duration> = (0..200).map(sync).collect();
    println!("fdatasync of 4 KiB: n 200, median {:.2?}, p99 {:.2?}", median(&times), sorted(&times)[198]);
}
