//! `depends_on` of a job: what it waits for, by id or by place in the same list.

use runner_store::job::{DependsOn, EdgePolicy, JobId, On, limits};

use super::super::read::{Bad, Value};

/// Reads what a job waits for: `"41"`, `{"job": "41", "on_failure": "run"}` or `{"position": 0}`.
pub(super) fn depends_on(value: &Value<'_>) -> Result<Vec<DependsOn>, Bad> {
    let edges = value.list()?;
    if edges.len() > limits::DEPENDENCIES_MAX {
        let why = format!("has {} dependencies; the limit is {}", edges.len(), limits::DEPENDENCIES_MAX);
        return Err(value.bad(&why));
    }
    edges.iter().map(edge).collect()
}

fn edge(value: &Value<'_>) -> Result<DependsOn, Bad> {
    if !value.is_object() {
        return Ok(DependsOn { on: On::Job(job(value)?), on_failure: EdgePolicy::default() });
    }
    let mut object = value.object()?;
    let (by_id, by_position) = (object.take("job"), object.take("position"));
    let on_failure = object.take("on_failure").map(|value| policy(&value)).transpose()?.unwrap_or_default();
    object.finish()?;
    let on = match (by_id, by_position) {
        (Some(by_id), None) => On::Job(job(&by_id)?),
        (None, Some(position)) => On::Position(position.u32()?),
        (Some(_), Some(position)) => return Err(position.bad("and `job` exclude each other: keep one")),
        (None, None) => return Err(value.bad("needs `job` (an id) or `position` (a place in the same list, from 0)")),
    };
    Ok(DependsOn { on, on_failure })
}

fn job(value: &Value<'_>) -> Result<JobId, Bad> {
    let wrong = || value.bad("must be the id of a job as a text, for example \"41\"");
    let text = value.str().map_err(|_| wrong())?;
    text.parse().ok().filter(|id: &u64| id.to_string() == text).map(JobId).ok_or_else(wrong)
}

fn policy(value: &Value<'_>) -> Result<EdgePolicy, Bad> {
    match value.str()?.as_str() {
        "cancel" => Ok(EdgePolicy::Cancel),
        "run" => Ok(EdgePolicy::Run),
        _ => Err(value.bad("must be cancel (this job is cancelled too) or run (it runs all the same)")),
    }
}
