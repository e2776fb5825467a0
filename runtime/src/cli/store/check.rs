//! `runner store check`: asks the server that has the store open, or opens it where none does.

use std::process::ExitCode;

use runner_store::clock::Clock;
use runner_store::dir::{StoreDir, examine};
use runner_store::engine::redb::{Commit, Redb};
use runner_store::error::StoreError;

use super::super::ask;
use super::super::client::Target;
use super::super::exit::{Code, Failure};
use super::super::output::{Format, note, print, print_json};
use crate::api::serve::SOCKET;
use crate::api::store::CheckShown;

/// What to do about a store that is damaged.
const MEND: &str = "put a backup in its place with `runner store restore`";

/// See the module.
pub(super) fn check(target: &Target, accept: bool, format: Format) -> Result<ExitCode, Failure> {
    if target.url.is_some() {
        return served(target, accept, format);
    }
    let dir = StoreDir::new(&target.data);
    match dir.open_unchecked(Clock::System, Commit::default()) {
        // A server has it, or somebody who has no socket and is soon done.
        Err(StoreError::InUse(_)) if target.data.join(SOCKET).exists() => served(target, accept, format),
        opened => alone(&dir, opened?, accept, format),
    }
}

/// The server compares, and goes on meanwhile.
fn served(target: &Target, accept: bool, format: Format) -> Result<ExitCode, Failure> {
    if accept {
        let message = "a server runs on the store, so there is no failure to be accepted: leave out --accept";
        return Err(Failure::new(Code::Conflict, message));
    }
    let found: CheckShown = ask(target, async |client| client.get_large("/v1/store/check").await?.json())?;
    show(&found, format);
    if found.clean {
        note("a server has it open, so the checksums of its pages were not verified");
        return Ok(ExitCode::SUCCESS);
    }
    let whose = target.url.clone().unwrap_or_else(|| format!("`{}`", target.data.display()));
    Err(Failure::new(Code::StoreDamaged, format!("{whose} is damaged: stop the server and {MEND}")))
}

/// Nobody else has the store, so its pages are verified as well.
fn alone(dir: &StoreDir, mut store: Redb, accept: bool, format: Format) -> Result<ExitCode, Failure> {
    let failure = dir.failure()?;
    let examined = examine(&mut store);
    drop(store);
    let why = match &examined {
        Ok(report) if report.is_clean() => None,
        Ok(_) => Some(String::new()),
        // Whether it is damaged cannot be said of a disk that does not answer.
        Err(error @ StoreError::Io { .. }) => return Err(Failure::new(Code::StoreFailed, error.to_string())),
        Err(error) => Some(format!(" ({error})")),
    };
    if let Ok(report) = examined {
        show(&CheckShown::new(report, true), format);
    }
    match (why, failure) {
        (None, None) => {}
        (None, Some(failure)) => {
            dir.forget_failure()?;
            note(&format!("the store had failed ({failure}); it is clean, so the next start goes on"));
        }
        (Some(_), Some(failure)) if accept => {
            dir.forget_failure()?;
            note(&format!(
                "the store had failed ({failure}); it is taken as it is, and the next start goes on with it"
            ));
        }
        (Some(why), _) => {
            let message = format!("`{}` is damaged{why}: do not start it; {MEND}", dir.path().display());
            return Err(Failure::new(Code::StoreDamaged, message));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(found: &CheckShown, format: Format) {
    if format == Format::Json {
        print_json(found);
        return;
    }
    for finding in &found.findings {
        print(&format!("{finding}\n"));
    }
    let CheckShown { jobs, events, folded, wrong, .. } = found;
    print(&format!("{jobs} jobs, {events} events, {folded} histories folded: {wrong} wrong\n"));
}
