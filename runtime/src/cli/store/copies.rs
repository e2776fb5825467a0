//! `runner store backup | restore | migrate | compact`: the store as a whole.

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;

use runner_store::clock::Clock;
use runner_store::dir::{Restored, StoreDir, Tokens};
use runner_store::error::StoreError;
use serde_json::json;

use super::super::ask;
use super::super::client::Target;
use super::super::exit::{Code, Failure};
use super::super::output::{Format, Table, bytes, print, print_json};
use crate::api::store::BackupShown;

/// Asks the server, or the store itself where none runs.
pub(super) fn backup(destination: &Path, target: &Target, format: Format) -> Result<ExitCode, Failure> {
    let path = if target.url.is_some() {
        if !destination.is_absolute() {
            let message = format!(
                "`{}`: with --url the path is one of the server's, and must begin with /",
                destination.display()
            );
            return Err(Failure::usage(message));
        }
        destination.to_owned()
    } else {
        std::path::absolute(destination).map_err(|error| Failure::file(destination, &error))?
    };
    let path = path.to_str().ok_or_else(|| Failure::usage(format!("`{}` is not UTF-8", path.display())))?.to_owned();
    let body = json!({ "path": path }).to_string();
    let made: BackupShown = ask(target, async |client| client.post_large("/v1/store/backup", body).await?.json())?;
    if format == Format::Json {
        print_json(&made);
        return Ok(ExitCode::SUCCESS);
    }
    let BackupShown { path, jobs, rows, bytes: size, grown_bytes, others } = made;
    print(&format!("backed up {jobs} jobs ({rows} rows, {}) to {path}, and checked them\n", bytes(size)));
    if !others.is_empty() {
        print(&format!("not in it, as another program keeps them: {}\n", others.join(", ")));
    }
    if grown_bytes > 0 {
        print(&format!("the store's file grew by {} meanwhile; it will use that room itself\n", bytes(grown_bytes)));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(
    backup: &Path,
    data: &Path,
    (replace, keep_tokens): (bool, bool),
    format: Format,
) -> Result<ExitCode, Failure> {
    let tokens = if keep_tokens { Tokens::Keep } else { Tokens::Suspend };
    let from = StoreDir::new(backup);
    let restored = StoreDir::new(data).restore(&from, replace, tokens, Clock::System.now()).map_err(not_done)?;
    let rows = would_run(&restored);
    if format == Format::Json {
        let counts = rows.iter().map(|[jobs, state, queue, kind]| {
            json!({ "jobs": jobs.parse::<u64>().unwrap_or_default(), "state": state, "queue": queue, "kind": kind })
        });
        print_json(&json!({
            "epoch": restored.meta.epoch, "next_id": restored.meta.next_job.to_string(), "paused": restored.meta.paused,
            "tokens": restored.tokens.0, "tokens_kept": keep_tokens, "interrupted": restored.interrupted, "replaced": restored.replaced.as_deref().map(|path| path.display().to_string()),
            "counts": counts.collect::<Vec<_>>(),
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let (epoch, next) = (restored.meta.epoch, restored.meta.next_job);
    print(&format!(
        "restored {} into {}, checked before and after: epoch {epoch}, new ids begin at {next}\n",
        backup.display(),
        data.display(),
    ));
    if let Some(replaced) = &restored.replaced {
        print(&format!("the store that was there is in {}\n", replaced.display()));
    }
    if restored.interrupted > 0 {
        let n = restored.interrupted;
        print(&format!("{n} runs were going on when the backup was made; they were ended and run again\n"));
    }
    match restored.tokens {
        (0, _) => {}
        (n, Tokens::Keep) => print(&format!("{n} tokens let in whom they did when the backup was made\n")),
        (n, Tokens::Suspend) => print(&format!(
            "{n} tokens let nobody in, as some may have been revoked since: make new ones with `runner token create`, or restore \
             again with --keep-tokens\n"
        )),
    }
    let mut table = Table::new(&["jobs", "state", "queue", "kind"]);
    for row in rows {
        table.row(row);
    }
    table.print("there are no jobs");
    print("all queues are paused; when this is what should run: runner queue resume --all\n");
    Ok(ExitCode::SUCCESS)
}

/// What these verbs could not do left the store as it was: no service stopped, so none is to be started again.
fn not_done(error: StoreError) -> Failure {
    let failure = Failure::from(error);
    match failure.code {
        Code::StoreFailed => Failure { code: Code::Failed, ..failure },
        _ => failure,
    }
}

/// Counts by state, queue and kind, of all tenants.
fn would_run(restored: &Restored) -> Vec<[String; 4]> {
    let words: HashMap<u32, &str> = restored.names.iter().map(|(name, number)| (*number, name.name.as_str())).collect();
    let word = |number: u32| words.get(&number).map_or_else(|| format!("#{number}"), |word| (*word).to_owned());
    let count = |(key, jobs): &(runner_store::command::CountKey, u64)| {
        [jobs.to_string(), key.state.to_string(), word(key.lane.queue.0), word(key.lane.kind.0)]
    };
    restored.counts.iter().map(count).collect()
}

pub(super) fn compact(data: &Path, format: Format) -> Result<ExitCode, Failure> {
    let compacted = StoreDir::new(data).compact().map_err(not_done)?;
    let (before, after) = (compacted.before_bytes, compacted.after_bytes);
    match format {
        Format::Json => print_json(&json!({ "before_bytes": before, "after_bytes": after })),
        Format::Table => print(&format!("{} before, {} after, checked\n", bytes(before), bytes(after))),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn migrate(data: &Path, with_backup: bool, format: Format) -> Result<ExitCode, Failure> {
    let migrated = StoreDir::new(data).migrate(with_backup, Clock::System.now()).map_err(not_done)?;
    if format == Format::Json {
        let backup = migrated.backup.as_deref().map(|path| path.display().to_string());
        print_json(&json!({ "from": migrated.from, "to": migrated.to, "backup": backup }));
        return Ok(ExitCode::SUCCESS);
    }
    if migrated.from == migrated.to {
        print(&format!("{} has schema {} already; nothing was changed\n", data.display(), migrated.to));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(backup) = &migrated.backup {
        print(&format!("as it was: {}\n", backup.display()));
    }
    print(&format!("{}: schema {} is now {}\n", data.display(), migrated.from, migrated.to));
    Ok(ExitCode::SUCCESS)
}
