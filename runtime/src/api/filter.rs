//! What a list of jobs, or a verb on many of them, may be asked for beside state, kind, queue and tag: what no index knows.
//!
//! Read from the parameters of a request or from the object in its body, under the same names.

use runner_store::command::{About, Only};
use runner_store::job::{OutcomeName, TenantId};

use super::App;
use super::time::parse_time;

/// The names, in the order in which they are looked at.
pub(super) const NAMES: [&str; 7] = ["since", "until", "outcome", "schedule", "unique_key", "error", "q"];
/// A text to look for: longer ones are in nothing that is looked at.
const TEXT_CHARS_MAX: usize = 256;

/// Adds what is said under one of [`NAMES`].
///
/// # Errors
/// What would be right.
pub(super) fn add(only: &mut Only, name: &str, text: String, app: &App, tenant: TenantId) -> Result<(), String> {
    match name {
        "since" => only.since = Some(parse_time(&text)?),
        "until" => only.until = Some(parse_time(&text)?),
        "outcome" => only.outcome = Some(outcome(&text)?),
        "schedule" => only.schedule = Some(text),
        "unique_key" => only.unique_key = Some(text),
        "error" => only.error = Some(text.parse()?),
        _ => only.about = Some(about(text, app, tenant)?),
    }
    Ok(())
}

fn outcome(word: &str) -> Result<OutcomeName, String> {
    let known = OutcomeName::ALL.into_iter().find(|outcome| outcome.as_str() == word);
    known.ok_or_else(|| {
        let all = OutcomeName::ALL.map(OutcomeName::as_str).join(", ");
        format!("{word:?} is no outcome of a run; there are {all}")
    })
}

fn about(text: String, app: &App, tenant: TenantId) -> Result<About, String> {
    if text.is_empty() || text.chars().count() > TEXT_CHARS_MAX {
        return Err(format!("must have 1 to {TEXT_CHARS_MAX} characters"));
    }
    let part = text.to_ascii_lowercase();
    let kinds = app.store.kinds_of(tenant, |kind| kind.to_ascii_lowercase().contains(&part));
    Ok(About { text, kinds })
}
