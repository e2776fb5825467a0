//! `unique` of a job: what there may be only one of, and what a call does that finds it there.

use runner_store::job::{Invalid, OnConflict, StateName, States, Unique};
use serde_json::Value as Json;

use super::super::read::{Bad, Value, nearest};
use super::super::types::hex;
use super::KindDefaults;

/// Fields of args that a key is made of.
const FIELDS_MAX: usize = 16;
/// A path of a field.
const PATH_BYTES_MAX: usize = 256;
/// What a call may do that finds its key held.
const CONFLICTS: [&str; 5] = ["keep", "replace", "debounce", "merge", "reject"];

/// Uniqueness as it was asked for; its key may have to be made of the args.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUnique {
    by: By,
    rest: Unique,
}

/// What the key is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    /// A text.
    Key(String),
    /// A digest of the kind and these fields of the args, by their paths, sorted.
    Fields(Vec<String>),
}

/// Reads what a job is unique by.
pub(super) fn unique(value: &Value<'_>) -> Result<NewUnique, Bad> {
    let mut object = value.object()?;
    let (key, fields) = (object.take("key"), object.take("fields"));
    let states = object.take("states").map(|value| states(&value)).transpose()?;
    let period = object.take("period").map(|value| value.duration()).transpose()?;
    let (conflict, delay, max) = (object.take("on_conflict"), object.take("delay"), object.take("debounce_max"));
    object.finish()?;
    let by = match (key, fields) {
        (Some(key), None) => By::Key(key.str()?),
        (None, Some(fields)) => By::Fields(paths(&fields)?),
        (Some(_), Some(fields)) => return Err(fields.bad("and `key` exclude each other: keep one")),
        (None, None) => return Err(value.bad("needs `key`, a text, or `fields`, for example [\"user.id\"]")),
    };
    let word = conflict.as_ref().map(Value::str).transpose()?.unwrap_or_else(|| "keep".to_owned());
    if word != "debounce"
        && let Some(foreign) = delay.as_ref().or(max.as_ref())
    {
        return Err(foreign.bad("says nothing without `on_conflict` debounce"));
    }
    let on_conflict = match word.as_str() {
        "keep" => OnConflict::Keep,
        "replace" => OnConflict::Replace,
        "merge" => OnConflict::Merge,
        "reject" => OnConflict::Reject,
        "debounce" => {
            let delay =
                delay.ok_or_else(|| value.bad("needs `delay` for `on_conflict` debounce, for example \"5s\""))?;
            OnConflict::Debounce { delay: delay.duration()?, max: max.map(|max| max.duration()).transpose()? }
        }
        other => {
            let hint =
                nearest(other, CONFLICTS.into_iter()).map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
            let why = format!("must be {}{hint}", CONFLICTS.join(", "));
            return Err(conflict.as_ref().unwrap_or(value).bad(&why));
        }
    };
    let rest = Unique { key: String::new(), states: states.unwrap_or_default(), period, on_conflict };
    Ok(NewUnique { by, rest })
}

impl NewUnique {
    /// The same with its key.
    pub(super) fn into_unique(self, kind: &str, args: &[u8], defaults: &KindDefaults) -> Result<Unique, Invalid> {
        if self.rest.on_conflict == OnConflict::Merge && !defaults.merges {
            let why = format!("no plugin of kind {kind} exports merge; choose another, for example replace");
            return Err(Invalid { field: "unique.on_conflict".to_owned(), why });
        }
        let key = match self.by {
            By::Key(key) => key,
            By::Fields(paths) => key_of(kind, args, &paths)?,
        };
        Ok(Unique { key, ..self.rest })
    }
}

/// A text that two jobs share if they have the same kind and the same values at these paths. A path that leads nowhere
/// counts as null.
fn key_of(kind: &str, args: &[u8], paths: &[String]) -> Result<String, Invalid> {
    let args: Json = serde_json::from_slice(args).map_err(|_| {
        let why = "needs args that are JSON (with numbers a float can hold, and at most 128 levels)".to_owned();
        Invalid { field: "unique.fields".to_owned(), why }
    })?;
    // Objects of this type are ordered by their keys, so that one value has one text.
    let values: Vec<(&String, &Json)> = paths.iter().map(|path| (path, at(&args, path))).collect();
    let text = serde_json::to_string(&(kind, values)).expect("texts and values are JSON");
    Ok(format!("sha256:{}", hex(&runner_store::sha256(text.as_bytes()))))
}

fn at<'a>(value: &'a Json, path: &str) -> &'a Json {
    path.split('.').fold(value, |value, step| match value {
        Json::Object(fields) => fields.get(step).unwrap_or(&Json::Null),
        Json::Array(list) => step.parse::<usize>().ok().and_then(|i| list.get(i)).unwrap_or(&Json::Null),
        _ => &Json::Null,
    })
}

fn paths(value: &Value<'_>) -> Result<Vec<String>, Bad> {
    let list = value.list()?;
    if !(1..=FIELDS_MAX).contains(&list.len()) {
        return Err(value.bad(&format!("must name 1 to {FIELDS_MAX} fields of the args")));
    }
    let path = |value: &Value<'_>| {
        let path = value.str()?;
        let good = path.len() <= PATH_BYTES_MAX && path.split('.').all(|step| !step.is_empty());
        if good { Ok(path) } else { Err(value.bad("must be the path of a field of the args, for example \"user.id\"")) }
    };
    let mut paths = list.iter().map(path).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    paths.dedup();
    Ok(paths)
}

fn states(value: &Value<'_>) -> Result<States, Bad> {
    let state = |value: &Value<'_>| {
        let word = value.str()?;
        let names = || StateName::ALL.map(StateName::as_str).join(", ");
        StateName::parse(&word).ok_or_else(|| value.bad(&format!("{word:?} is no state; there are {}", names())))
    };
    let states = value.list()?.iter().map(state).collect::<Result<Vec<_>, _>>()?;
    Ok(States::of(states))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: &str, a: &str, b: &str, paths: &[&str], same: bool) {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let key = |kind, args: &str| key_of(kind, args.as_bytes(), &paths).unwrap();
        assert_eq!(key(kind, a) == key("a", b), same, "{kind} {a} {b}");
        assert_eq!(key(kind, a).len(), 71);
    }

    #[test]
    fn a_key_is_made_of_what_the_fields_say_and_not_of_how() {
        check("a", r#"{"user": {"id": 1, "n": 2}}"#, r#"{ "x": 0, "user": {"id":1} }"#, &["user.id"], true);
        check("b", r#"{"user": {"id": 1}}"#, r#"{"user": {"id": 1}}"#, &["user.id"], false);
        check("a", r#"{"u": {"a": 1, "b": 2}}"#, r#"{"u": {"b": 2, "a": 1}}"#, &["u"], true);
        check("a", r#"{"u": 1}"#, r#"{"u": "1"}"#, &["u"], false);
        check("a", "{}", r#"{"u": null}"#, &["u"], true);
        check("a", r#"{"l": [1, 2]}"#, r#"{"l": [3, 2]}"#, &["l.1"], true);
        check("a", r#"{"p": 1}"#, r#"{"q": 1}"#, &["p", "q"], false);
        assert_eq!(key_of("a", b"\xff", &["u".to_owned()]).unwrap_err().field, "unique.fields");
    }
}
