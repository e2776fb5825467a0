//! The tables `[[on]]` of a manifest: to which events of other kinds a kind listens.

use runner_store::command::PATTERNS_MAX;
use runner_store::job::EventName;

use super::{ManifestError, allow, keys};
use crate::table::Value;

/// Subscriptions of one plugin: enough for a whole application, and a bound on what an event can lead to.
const ON_MAX: usize = 100;

/// One of a plugin's kinds listens to an event of others, of the same tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct On {
    /// To which event.
    pub event: EventName,
    /// Of which kinds: names, or patterns.
    pub of: Vec<String>,
    /// Which kind is enqueued for each.
    pub kind: String,
}

pub(super) fn on(value: &Value<'_>, offered: &[String]) -> Result<Vec<On>, ManifestError> {
    let list = value.list()?;
    if list.len() > ON_MAX {
        return Err(value.error(&format!("must have at most {ON_MAX} tables, it has {}", list.len())));
    }
    list.iter().map(|value| one(value, offered)).collect()
}

fn one(value: &Value<'_>, offered: &[String]) -> Result<On, ManifestError> {
    let mut table = value.table()?;
    let Some(event) = table.take("event") else {
        return Err(value.error("needs an `event`: what happens to a job, such as \"discarded\""));
    };
    let Some(of) = table.take("of") else {
        return Err(value.error("needs an `of`: the kinds that it listens to, such as [\"image.*\"]"));
    };
    let Some(kind) = table.take("kind") else {
        return Err(value.error("needs a `kind`: what is enqueued for each such event"));
    };
    let name = keys::name(&kind)?;
    if !offered.is_empty() && !offered.contains(&name) {
        return Err(kind.error(&format!("is `{name}`, which is not among `kinds`: {}", offered.join(", "))));
    }
    let on = On { event: self::event(&event)?, of: patterns(&of)?, kind: name };
    table.done()?;
    Ok(on)
}

fn event(value: &Value<'_>) -> Result<EventName, ManifestError> {
    let listened = |name: &EventName| name.can_be_listened_to();
    EventName::parse(value.str()?).filter(listened).ok_or_else(|| {
        let words: Vec<&str> = EventName::ALL.into_iter().filter(listened).map(EventName::as_str).collect();
        value.error(&format!("must be one of {}", words.join(", ")))
    })
}

fn patterns(value: &Value<'_>) -> Result<Vec<String>, ManifestError> {
    let patterns = allow::patterns(value)?;
    if patterns.is_empty() || patterns.len() > PATTERNS_MAX {
        return Err(value.error(&format!("must have 1 to {PATTERNS_MAX} kinds, or patterns of kinds")));
    }
    Ok(patterns)
}
