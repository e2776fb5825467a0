//! `runner store stats`: what is in a store, and how much room it takes.

use std::path::Path;
use std::process::ExitCode;

use runner_store::job::Millis;
use serde_json::json;

use super::super::client::{Client, Target};
use super::super::exit::Failure;
use super::super::output::{Format, Table, bytes, note, print, print_json};
use crate::api::count::Counts;
use crate::api::store::StatsShown;

pub(super) async fn stats(client: &Client, target: &Target, format: Format) -> Result<ExitCode, Failure> {
    let counts: Counts = client.get("/v1/jobs/count?by=state,queue,kind").await?.json()?;
    let stats: StatsShown = client.get("/v1/store/stats").await?.json()?;
    let files = if target.url.is_some() { Vec::new() } else { files(&target.data) };
    if format == Format::Json {
        let files: serde_json::Map<String, serde_json::Value> =
            files.into_iter().map(|(name, size)| (name, size.into())).collect();
        print_json(&json!({ "total": counts.total, "counts": counts.counts, "store": stats, "files": files }));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["jobs", "state", "queue", "kind"]);
    for count in counts.counts {
        let state = count.state.map_or_else(String::new, |state| state.to_string());
        table.row([count.jobs.to_string(), state, count.queue.unwrap_or_default(), count.kind.unwrap_or_default()]);
    }
    table.print("there are no jobs");
    print("\n");
    let mut table = Table::new(&["table", "rows", "size"]);
    for shown in &stats.tables {
        table.row([shown.table.clone(), shown.rows.to_string(), bytes(shown.bytes)]);
    }
    table.print("there are no tables");
    print("\n");
    print(&summary(&stats));
    for (name, size) in files {
        note(&format!("{name}: {}", bytes(size)));
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(stats: &StatsShown) -> String {
    let paused = if stats.paused { ", all queues paused" } else { "" };
    let number = |event: Option<u64>| event.map_or_else(|| "none".to_owned(), |event| event.to_string());
    let (oldest, newest) = (number(stats.oldest_event), number(stats.newest_event));
    let disk = &stats.disk;
    let clock = stats.clock_step_ms.map_or_else(String::new, |by| {
        format!(
            "clock_step: the wall clock stepped by {by} ms; expiry, retention and forgetting wait for an hour of agreement, \
             or for `runner doctor --accept-clock`\n"
        )
    });
    let deep = match stats.listeners_too_deep {
        0 => String::new(),
        n => format!(
            "{n} jobs that listen to events were not enqueued: more than 20 in a row would have followed from each other\n"
        ),
    };
    let room = match stats.listeners_without_room {
        0 => String::new(),
        n => format!("{n} jobs that listen to events were not enqueued: their tenant or queue had no room for them\n"),
    };
    clock
        + &deep
        + &room
        + &format!(
            "store {}: schema {}, epoch {}{paused}\n\
         file {}: {} live, {} fragmented, {} free\n\
         log: oldest event {oldest}, newest {newest}\n\
         since it was opened: {} commits; open views: {}, the oldest for {}\n\
         disk {}: {} free, {} kept in reserve, room: {}\n",
            stats.id,
            stats.schema,
            stats.epoch,
            bytes(stats.file_bytes),
            bytes(stats.live_bytes),
            bytes(stats.fragmented_bytes),
            bytes(stats.free_bytes),
            stats.commits,
            stats.readers,
            Millis(stats.oldest_reader_ms),
            bytes(disk.total_bytes),
            bytes(disk.free_bytes),
            bytes(disk.reserve_bytes),
            disk.room,
        )
}

/// The files of a store and their sizes, by name.
fn files(data: &Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(data).into_iter().flatten().flatten();
    let file = |entry: std::fs::DirEntry| {
        let found = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((entry.file_name().to_string_lossy().into_owned(), found.len()))
    };
    let mut files: Vec<_> = entries.filter_map(file).collect();
    files.sort();
    files
}
