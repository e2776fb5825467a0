//! What a list of jobs, a count or a verb on many of them may be asked for: state, kind, queue and tag, and beside them what
//! no index knows.
//!
//! Read from the parameters of a request or from the object in its body, under the same names.

use runner_store::command::{About, JobsQuery, Only};
use runner_store::job::{OutcomeName, TenantId};

use super::App;
use super::error::Problem;
use super::params::{self, Params};
use super::time::parse_time;

/// The names, in the order in which they are looked at.
pub(super) const NAMES: [&str; 7] = ["since", "until", "outcome", "schedule", "unique_key", "error", "q"];
/// A text to look for: longer ones are in nothing that is looked at.
const TEXT_CHARS_MAX: usize = 256;

/// Reads the filter of a request, for pages of up to so many; none: a name that no job ever had, so that nothing matches.
///
/// # Errors
/// The first that is wrong, by its name.
pub(super) fn of_params(
    params: &mut Params,
    app: &App,
    tenant: TenantId,
    limit: u32,
) -> Result<Option<JobsQuery>, Problem> {
    let state = params.take_as("state", params::state)?;
    let (kind, queue) = (params.take("kind")?, params.take("queue")?);
    let tag = params.take_as("tag", params::tag)?;
    let mut only = Only::NONE;
    for name in NAMES {
        let Some(text) = params.take(name)? else { continue };
        add(&mut only, name, text, app, tenant).map_err(|why| Problem::invalid(name, why))?;
    }
    let kind = kind.map(|kind| app.store.kind_id(tenant, &kind));
    let queue = queue.map(|queue| app.store.queue_id(tenant, &queue));
    let nothing = kind == Some(None) || queue == Some(None);
    let (kind, queue) = (kind.flatten(), queue.flatten());
    Ok((!nothing).then(|| JobsQuery { state, queue, kind, tag, only, ..JobsQuery::all(tenant, limit) }))
}

/// Whether the counts that are kept cannot say how many jobs match, so that their rows have to be looked at.
pub(super) fn needs_rows(filter: &JobsQuery) -> bool {
    filter.tag.is_some() || filter.only != Only::NONE
}

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
