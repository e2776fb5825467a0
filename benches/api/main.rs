//! What does the HTTP API do over loopback, with its client on the same machine? The server is the real one: the program
//! `runner serve`, in a process of its own, with its store on the disk and every commit durable.
//!
//! `cargo bench -p runner --bench api -- [enqueue] [bulk] [page] [list] [followers] [idle] [N]`; all of them without a word,
//! with 1,000,000 jobs stored where jobs are to be stored; N says otherwise. Each line says how many it is of, and what it is
//! to be at least or at most. Jobs do not run: no plugin provides their kinds.

use std::time::Duration;

mod client;
mod load;
mod read;
mod server;
mod streams;

use server::Server;

/// Jobs stored while pages are asked for, and the fewest that say anything of the other figures.
const STORED: usize = 1_000_000;

fn main() {
    let given: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let jobs = given.iter().find_map(|word| word.replace('_', "").parse().ok()).unwrap_or(STORED);
    let words: Vec<&str> = given.iter().map(String::as_str).filter(|word| word.parse::<usize>().is_err()).collect();
    let wanted = |word: &str| words.is_empty() || words.contains(&word);
    println!("{}", hardware());
    server::raise_open_files();
    // One thread, and few threads' worth of work on it: the client is to leave the machine to the server.
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    client.block_on(async {
        if wanted("enqueue") {
            load::enqueue(&Server::start(), (jobs / 10).max(1)).await;
        }
        if wanted("bulk") {
            load::bulk(&Server::start(), (jobs / 2).max(1)).await;
        }
        if wanted("page") || wanted("list") {
            let server = Server::start();
            load::fill(&server, jobs).await;
            if wanted("page") {
                read::page(&server, jobs).await;
            }
            if wanted("list") {
                read::list(&server, jobs).await;
            }
        }
        if wanted("followers") {
            streams::followers(&Server::start(), (jobs / 10).max(1)).await;
        }
        if wanted("idle") {
            streams::idle(&Server::start()).await;
        }
    });
}

fn hardware() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, m)| m.to_owned()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let built = if cfg!(debug_assertions) { "; NOT OPTIMISED, the figures say nothing" } else { "" };
    format!("hardware: {cores} cores shared with the client, {}{built}", model.unwrap_or_else(|| "unknown".to_owned()))
}

/// Prints how long each took, and what was asked of the p99.
fn spread(what: &str, mut times: Vec<Duration>, asked: &str) {
    times.sort_unstable();
    let at = |permille: usize| times[(times.len() - 1) * permille / 1_000].as_secs_f64() * 1e3;
    println!("{what}: median {:.3} ms, p99 {:.3} ms (n {}; asked: {asked})", at(500), at(990), times.len());
}

/// Prints how many a second.
fn rate(what: &str, n: usize, took: Duration, asked: &str) -> f64 {
    let per_second = n as f64 / took.as_secs_f64();
    println!("{what}: {per_second:.0}/s (n {n}, {:.2} s; asked: {asked})", took.as_secs_f64());
    per_second
}
