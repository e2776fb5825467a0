//! `[[schedule]]`: what is to be enqueued again and again.

use runner_store::job::{Priority, Time};
use runner_store::schedule::schedule_problem;

use super::keys::name;
use super::{AskedSchedule, ManifestError};
use crate::api::time::parse_time;
use crate::schedules::draft::{Draft, parse_catch_up, parse_overlap};
use crate::table::{Table, Value};

/// Schedules of one manifest.
const SCHEDULES_MAX: usize = 100;

pub(super) fn schedules(value: &Value<'_>, offered: &[String]) -> Result<Vec<AskedSchedule>, ManifestError> {
    let list = value.list()?;
    if list.len() > SCHEDULES_MAX {
        return Err(value.error(&format!("has {} entries; the limit is {SCHEDULES_MAX}", list.len())));
    }
    let mut schedules: Vec<AskedSchedule> = Vec::with_capacity(list.len());
    for value in &list {
        let schedule = schedule(value, offered)?;
        if schedules.iter().any(|other| other.name == schedule.name) {
            return Err(value.error(&format!("has the name `{}` twice", schedule.name)));
        }
        schedules.push(schedule);
    }
    Ok(schedules)
}

fn schedule(value: &Value<'_>, offered: &[String]) -> Result<AskedSchedule, ManifestError> {
    let mut table = value.table()?;
    let Some(name_value) = table.take("name") else {
        return Err(value.error("needs a `name`: what it is called in the tenant"));
    };
    let word = name_value.str()?;
    if let Some(problem) = schedule_problem(word) {
        return Err(name_value.error(&format!("is no right name: {problem}")));
    }
    let kind = match table.take("kind") {
        None if offered.len() > 1 => {
            return Err(value.error(&format!("needs a `kind`, one of: {}", offered.join(", "))));
        }
        None => None,
        Some(kind_value) => {
            let kind = name(&kind_value)?;
            if !offered.is_empty() && !offered.contains(&kind) {
                return Err(
                    kind_value.error(&format!("is `{kind}`, which is not among `kinds`: {}", offered.join(", ")))
                );
            }
            Some(kind)
        }
    };
    let draft = Draft { kind, ..draft(&mut table)? };
    table.done()?;
    // The plugin's only kind is not known here where it is the file's name; any other serves to check the rest.
    let checked = Draft { kind: Some(draft.kind.clone().unwrap_or_else(|| "a".to_owned())), ..draft.clone() };
    let problem = |invalid: runner_store::job::Invalid| value.error(&format!("{}: {}", invalid.field, invalid.why));
    checked.plan(Time(0), (None, None)).map_err(problem)?;
    Ok(AskedSchedule { name: word.to_owned(), draft })
}

fn draft(table: &mut Table<'_>) -> Result<Draft, ManifestError> {
    let text = |value: Value<'_>| value.str().map(str::to_owned);
    let catch_up = |value: Value<'_>| match value.integer(1, i64::MAX) {
        Ok(n) => parse_catch_up(&n.to_string()).map_err(|why| value.error(&why)),
        Err(_) => parse_catch_up(value.str()?).map_err(|why| value.error(&why)),
    };
    let overlap = |value: Value<'_>| parse_overlap(value.str()?).map_err(|why| value.error(&why));
    let start = |value: Value<'_>| parse_time(value.str()?).map_err(|why| value.error(&why));
    let priority = |value: Value<'_>| {
        value.integer(i16::MIN.into(), i16::MAX.into()).map(|n| Priority(i16::try_from(n).unwrap_or_default()))
    };
    let args = |value: Value<'_>| value.json();
    let attempts = |value: Value<'_>| value.integer(1, 10_000).map(|n| Some(u32::try_from(n).unwrap_or(1)));
    Ok(Draft {
        cron: table.take("cron").map(text).transpose()?,
        timezone: table.take("timezone").map(text).transpose()?,
        every: table.take("every").map(|value| value.duration()).transpose()?,
        start: table.take("start").map(start).transpose()?,
        overlap: table.take("overlap").map(overlap).transpose()?,
        catch_up: table.take("catch_up").map(catch_up).transpose()?,
        deadline: table.take("deadline").map(|value| value.duration().map(Some)).transpose()?,
        kind: None,
        args: table.take("args").map(args).transpose()?,
        queue: table.take("queue").map(|value| name(&value)).transpose()?,
        priority: table.take("priority").map(priority).transpose()?,
        max_attempts: table.take("max_attempts").map(attempts).transpose()?,
        timeout: table.take("timeout").map(|value| value.duration().map(Some)).transpose()?,
        retry: None,
        tags: table.take("tags").map(|value| tags(&value)).transpose()?,
    })
}

fn tags(value: &Value<'_>) -> Result<Vec<(String, String)>, ManifestError> {
    let entries = value.table()?.entries();
    entries.into_iter().map(|(key, value)| Ok((key.to_owned(), value.str()?.to_owned()))).collect()
}
