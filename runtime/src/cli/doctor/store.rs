//! The store itself, asked of the server that has it open, or opened here.

use super::Finding;
use crate::api::store::StatsShown;
use crate::cli::ask;
use crate::cli::client::Target;
use crate::cli::exit::{Code, Failure};

/// A view of the store that is open for longer keeps old pages in its file.
const READER_MS_MAX: u64 = 60_000;

/// Looks at it; whether a server has it.
pub(super) fn check(target: &Target, accept_clock: bool, found: &mut Vec<Finding>) -> bool {
    let asked = ask(target, async |client| {
        if accept_clock {
            client.post("/v1/store/accept-clock", None, None).await?;
        }
        let stats: StatsShown = client.get("/v1/store/stats").await?.json()?;
        Ok((stats, !client.is_local()))
    });
    match asked {
        Ok((stats, served)) => {
            let who = if served { "a server has it open" } else { "nobody has it open" };
            found.push(Finding::good("lock", who));
            found.extend(of_stats(&stats));
            served
        }
        Err(failure) => {
            found.push(not_open(&failure));
            false
        }
    }
}

fn not_open(Failure { code, message }: &Failure) -> Finding {
    let mend = match code {
        Code::StoreUnavailable => "end the process that has it open, or do as it says",
        Code::StoreDamaged => "do not start anything on it: `runner store check` says what is wrong; restore a backup",
        Code::StoreFailed => "start again: it checks",
        Code::NotAllowed => "run this as the store's user",
        Code::Unreachable => "start the server, or check --url",
        _ => "see what it says",
    };
    Finding::wrong("store", message.clone(), mend)
}

fn of_stats(stats: &StatsShown) -> Vec<Finding> {
    let mut found = Vec::new();
    found.push(match stats.clock_step_ms {
        None => Finding::good("clock", "it has not stepped lately"),
        Some(by) => Finding::wrong(
            "clock",
            format!(
                "clock_step: the wall clock stepped by {by} ms; expiry, retention and forgetting wait until it has agreed \
                 with itself for an hour"
            ),
            "if it is right now: `runner doctor --accept-clock`",
        ),
    });
    if stats.paused {
        let what = "the store was restored, and nothing runs yet";
        found.push(Finding::wrong("paused", what, "look at it, then `runner queue resume --all`"));
    }
    if stats.oldest_reader_ms > READER_MS_MAX {
        let seconds = stats.oldest_reader_ms / 1_000;
        let what = format!("a view of the store has been open for {seconds} s, so its file grows");
        found.push(Finding::look("reader", what, "wait for the end of the backup, or end the call that is stuck"));
    }
    if stats.disk.room != "plenty" {
        let what = format!("the store takes no job: its disk's room is {}", stats.disk.room);
        found.push(Finding::wrong("store", what, "make room on the disk of the store"));
    }
    found
}
