//! `runner status`: how things stand, on one screen.

use std::process::ExitCode;

use super::ask;
use super::client::Target;
use super::exit::Failure;
use super::output::{Format, Table, bytes, millis, print, print_json};
use crate::api::series::{PointShown, SeriesShown};
use crate::api::stats::{QueueStats, StatsShown};
use crate::wasm::log::escaped;

/// Queues that are shown: what fits a screen. Those whose jobs have waited longest come first.
const QUEUES_MAX: usize = 15;

/// Say how things stand, on one screen
///
/// How many jobs there are in each state, what has waited longest in each queue, what the node has in hand, and what is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: runner status")]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the verb.
pub(super) fn main(args: &Args) -> Result<ExitCode, Failure> {
    ask(&args.target, async |client| {
        let stats: StatsShown = client.get("/v1/stats").await?.json()?;
        if args.output == Format::Json {
            print_json(&stats);
            return Ok(ExitCode::SUCCESS);
        }
        let series: SeriesShown = client.get("/v1/stats/series?window=10m").await?.json()?;
        show(&stats, &series);
        Ok(ExitCode::SUCCESS)
    })
}

fn show(stats: &StatsShown, series: &SeriesShown) {
    let node = stats.node.as_ref().map_or_else(
        || "none".to_owned(),
        |node| {
            format!(
                "{}, {} of {} slots, {} of {} memory reserved, {} claimed",
                node.state,
                node.running,
                node.slots,
                bytes(node.reserved_bytes),
                bytes(node.memory_bytes),
                node.claimed
            )
        },
    );
    print(&format!("node    {node}\n"));
    let states: Vec<String> = stats.states.iter().map(|(state, jobs)| format!("{jobs} {state}")).collect();
    let states = if states.is_empty() { "none".to_owned() } else { states.join(", ") };
    print(&format!("jobs    {states}\n"));
    print(&lately(series));
    let mut queues: Vec<&QueueStats> = stats.queues.iter().collect();
    queues.sort_by_key(|queue| std::cmp::Reverse(queue.oldest_available_ms));
    let more = queues.len().saturating_sub(QUEUES_MAX);
    if !queues.is_empty() {
        let mut table = Table::new(&["queue", "available", "running", "oldest available", "holds"]);
        for queue in queues.into_iter().take(QUEUES_MAX) {
            let oldest = queue.oldest_available_ms.map_or_else(|| "–".to_owned(), millis);
            let holds = [("paused", queue.paused), ("draining", queue.draining)];
            let holds: Vec<&str> = holds.into_iter().filter(|(_, holds)| *holds).map(|(word, _)| word).collect();
            table.row([
                queue.name.clone(),
                queue.available.to_string(),
                queue.running.to_string(),
                oldest,
                holds.join(", "),
            ]);
        }
        print("\n");
        table.print("");
        if more > 0 {
            print(&format!("and {more} more: `runner queue list`\n"));
        }
    }
    print("\n");
    if stats.wrong.is_empty() {
        print("nothing is wrong\n");
    }
    for wrong in &stats.wrong {
        print(&format!("wrong   {}\n", escaped(&wrong.detail)));
    }
}

/// What has completed in the last ten minutes, as bars; nothing where nothing counts.
fn lately(series: &SeriesShown) -> String {
    let completed = |point: &PointShown| point.finished.get("completed").copied().unwrap_or_default();
    let all: Vec<u64> = series.points.iter().map(completed).collect();
    let most = all.iter().copied().max().unwrap_or_default();
    if most == 0 {
        return String::new();
    }
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let last = BARS.len() as u64 - 1;
    let bars: String = all.iter().map(|jobs| BARS[(jobs * last).div_ceil(most) as usize]).collect();
    let whose = if series.tenant.is_some() { "" } else { ", of all tenants" };
    format!("lately  {bars} {} completed in 10m{whose}\n", all.iter().sum::<u64>())
}
