//! `retry` of a job: when a failed attempt is tried again. A field that says nothing with the chosen backoff is refused,
//! or whoever wrote it would believe that it does something.

use runner_store::job::{Backoff, Millis, RetryPolicy, limits};

use super::super::read::{Bad, Value};

/// The backoffs by name, and which fields say something with each.
const BACKOFFS: [(&str, &[&str]); 5] = [
    ("exponential", &["base", "factor", "max", "jitter"]),
    ("linear", &["base", "max", "jitter"]),
    ("constant", &["base", "max", "jitter"]),
    ("list", &["delays", "max", "jitter"]),
    ("never", &[]),
];

/// Reads a retry policy.
pub(in crate::api) fn retry(value: &Value<'_>) -> Result<RetryPolicy, Bad> {
    let default = RetryPolicy::default();
    let mut object = value.object()?;
    let word = object.take("backoff");
    let fields = ["base", "factor", "max", "jitter", "delays"].map(|name| (name, object.take(name)));
    object.finish()?;
    let [(_, base), (_, factor), (_, max), (_, jitter), (_, delays)] = &fields;
    let name = match &word {
        None if delays.is_some() => "list".to_owned(),
        None => "exponential".to_owned(),
        Some(word) => word.str()?,
    };
    let Some((name, takes)) = BACKOFFS.into_iter().find(|(known, _)| *known == name) else {
        let bad = |word: &Value<'_>| word.bad("must be exponential, linear, constant, list or never");
        return Err(word.as_ref().map_or_else(|| bad(value), bad));
    };
    let foreign = fields.iter().find_map(|(field, given)| given.as_ref().filter(|_| !takes.contains(field)));
    if let Some(foreign) = foreign {
        let hint = match takes {
            [] => "it takes no other field".to_owned(),
            takes => format!("it takes {}", takes.join(", ")),
        };
        return Err(foreign.bad(&format!("says nothing with `backoff` {name}: {hint}")));
    }
    let base = base.as_ref().map(Value::duration).transpose()?.unwrap_or(Millis::secs(1));
    let factor = factor.as_ref().map(|factor| factor.permille(limits::RETRY_FACTOR_PERMILLE_MAX)).transpose()?;
    let backoff = match (name, delays) {
        ("linear", _) => Backoff::Linear { base },
        ("constant", _) => Backoff::Constant { base },
        ("never", _) => Backoff::Never,
        ("list", Some(delays)) => list_of_delays(delays)?,
        ("list", None) => {
            let needs = |word: &Value<'_>| word.bad("needs `delays`, for example [\"1s\", \"5m\"]");
            return Err(word.as_ref().map_or_else(|| needs(value), needs));
        }
        _ => Backoff::Exponential { base, factor_permille: factor.unwrap_or(1_600) },
    };
    let jitter = jitter.as_ref().map(|jitter| jitter.permille(1_000)).transpose()?;
    let jitter_permille = jitter.and_then(|j| u16::try_from(j).ok()).unwrap_or(default.jitter_permille);
    let max = max.as_ref().map(Value::duration).transpose()?.unwrap_or(default.max);
    Ok(RetryPolicy { backoff, jitter_permille, max })
}

fn list_of_delays(value: &Value<'_>) -> Result<Backoff, Bad> {
    let delays = value.list()?;
    if !(1..=limits::RETRY_DELAYS_MAX).contains(&delays.len()) {
        return Err(value.bad(&format!("must have 1 to {} delays", limits::RETRY_DELAYS_MAX)));
    }
    delays.iter().map(Value::duration).collect::<Result<_, _>>().map(Backoff::List)
}
