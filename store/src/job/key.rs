//! The key of a job: what of its args it shares limits and an order with. Read when the job is accepted, by the path that its
//! kind's manifest names, and kept with the job.
//!
//! A key is a string, a number or a bool of at most [`limits::JOB_KEY_BYTES_MAX`] bytes, and is kept as JSON writes it, in one
//! way: so `1`, `1.0` and `1e0` are one key, and `"1"`, `1` and `true` are three. What is missing or null is no key. This
//! module does not know which kind has which path.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{Invalid, limits};

/// What a path begins with, and what is read where it is all of it.
const ROOT: &str = "args";
/// From here on a float does not tell every whole number from the next; below, what is whole is written without a fraction.
const WHOLE_MAX: f64 = 18_446_744_073_709_551_616.0;

/// A job's key, as JSON writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobKey(String);

/// What tells the keys of a kind apart in indexes and in the scheduler. Of two keys that have the same one, which happens
/// once in 2^64 pairs, each counts for the other: they share their limits, so that none is exceeded, and their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyHash(pub u64);

/// Where in the args of a kind's jobs the key stands: `args.customer`, `args.order.id`, or `args` where they are nothing
/// else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyPath(String);

impl KeyHash {
    /// Of jobs without a key.
    pub const NONE: Self = Self(0);

    /// Whether there is no key.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

impl JobKey {
    /// A key that is a text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self(serde_json::Value::from(text).to_string())
    }

    /// As JSON writes it.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// See [`KeyHash`].
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        // 0 is nobody's.
        KeyHash(xxhash_rust::xxh3::xxh3_64(self.0.as_bytes()).max(1))
    }

    /// Checks its bound, for what did not come from [`KeyPath::read`].
    ///
    /// # Errors
    /// It is no key.
    pub fn check(&self) -> Result<(), Invalid> {
        let read = KeyPath(ROOT.to_owned()).read(self.0.as_bytes()).ok().flatten();
        if read.as_ref() == Some(self) {
            return Ok(());
        }
        Err(Invalid { field: "key".to_owned(), why: what_it_must_be() })
    }
}

impl KeyPath {
    /// The path of that text.
    ///
    /// # Errors
    /// What a path must look like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut steps = text.split('.');
        let right = steps.next() == Some(ROOT) && steps.clone().all(|step| !step.is_empty());
        if !right {
            return Err("must be the path of a field of the args, for example \"args.customer\"".to_owned());
        }
        if text.len() > limits::JOB_KEY_BYTES_MAX || steps.count() > limits::JOB_KEY_STEPS_MAX {
            let (bytes, steps) = (limits::JOB_KEY_BYTES_MAX, limits::JOB_KEY_STEPS_MAX);
            return Err(format!("must have at most {bytes} bytes and {steps} steps"));
        }
        Ok(Self(text.to_owned()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key that stands there in `args`; none: it is missing or null.
    ///
    /// # Errors
    /// Something else stands there or on the way there, or the args are not JSON: the path of it, and what it must be.
    pub fn read(&self, args: &[u8]) -> Result<Option<JobKey>, Invalid> {
        let steps: Vec<&str> = self.0.split('.').skip(1).collect();
        let mut json = serde_json::Deserializer::from_slice(args);
        let found = Walk { steps: &steps }.deserialize(&mut json).and_then(|found| json.end().map(|()| found));
        match found {
            Ok(Found::Key(key)) => Ok(Some(key)),
            Ok(Found::Nothing) => Ok(None),
            Ok(Found::Wrong(what)) => {
                let why = format!("{} or null, as it is the key of the job: it is {what}", what_it_must_be());
                Err(Invalid { field: self.0.clone(), why })
            }
            Ok(Found::Blocked { left, what }) => {
                let on_the_way = self.0.split('.').take(steps.len() + 1 - left).collect::<Vec<_>>().join(".");
                let why = format!("must be an object or null, as {} is the key of the job: it is {what}", self.0);
                Err(Invalid { field: on_the_way, why })
            }
            Err(error) => {
                let why = format!("must be JSON, as {} is the key of the job: {error}", self.0);
                Err(Invalid { field: ROOT.to_owned(), why })
            }
        }
    }
}

fn what_it_must_be() -> String {
    format!("must be a string, a number or a bool of at most {} bytes", limits::JOB_KEY_BYTES_MAX)
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What stands at the end of a path.
enum Found {
    Key(JobKey),
    Nothing,
    Wrong(String),
    /// The path goes on, and this is no object.
    Blocked {
        left: usize,
        what: &'static str,
    },
}

/// Goes along a path and reads nothing beside it, so that large args cost no memory.
struct Walk<'a> {
    steps: &'a [&'a str],
}

impl Walk<'_> {
    fn value<E>(&self, what: &'static str, key: impl FnOnce() -> String) -> Result<Found, E> {
        if !self.steps.is_empty() {
            return Ok(Found::Blocked { left: self.steps.len(), what });
        }
        Ok(Found::Key(JobKey(key())))
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Found, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Found, E> {
        self.value("a bool", || value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Found, E> {
        self.value("a number", || value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Found, E> {
        self.value("a number", || value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Found, E> {
        self.value("a number", || number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Found, E> {
        if self.steps.is_empty() && value.len() > limits::JOB_KEY_BYTES_MAX {
            return Ok(Found::Wrong(format!("a string of {} bytes", value.len())));
        }
        self.value("a string", || JobKey::text(value).0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Found, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        match self.steps.len() {
            0 => Ok(Found::Wrong("an array".to_owned())),
            left => Ok(Found::Blocked { left, what: "an array" }),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        let Some((first, rest)) = self.steps.split_first() else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Found::Wrong("an object".to_owned()));
        };
        let mut found = Found::Nothing;
        while let Some(is_it) = map.next_key_seed(IsName(first))? {
            if is_it {
                // Of two fields with one name the last counts, as for most that read JSON.
                found = map.next_value_seed(Walk { steps: rest })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a field has this name.
struct IsName<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for IsName<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<bool, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for IsName<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<bool, E> {
        Err(E::custom("a name is a text"))
    }
}

/// A number in one way, whatever way it was written in.
fn number(value: f64) -> String {
    let whole = value.fract() == 0.0 && value.abs() < WHOLE_MAX;
    match whole {
        true if value < 0.0 => format!("{value:.0}"),
        // Also minus zero.
        true => format!("{:.0}", value.abs()),
        false => serde_json::Value::from(value).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, args: &str, key: Option<&str>) {
        let read = KeyPath::parse(path).unwrap().read(args.as_bytes()).unwrap();
        assert_eq!(read.as_ref().map(JobKey::as_json), key, "{path} of {args}");
        assert!(read.is_none_or(|key| key.check().is_ok() && !key.hash().is_none()));
    }

    #[track_caller]
    fn check_refused(path: &str, args: &[u8], field: &str, why: &str) {
        let invalid = KeyPath::parse(path).unwrap().read(args).unwrap_err();
        assert_eq!(invalid.field, field);
        assert!(invalid.why.contains(why), "{}", invalid.why);
    }

    #[test]
    fn a_key_is_read_by_its_path() {
        check("args.c", r#"{"b": [1, {"c": 2}], "c": "acme", "d": {"c": 3}}"#, Some("\"acme\""));
        check("args.a.b.c", r#"{"a": {"x": 1, "b": {"c": true}}}"#, Some("true"));
        check("args", "7", Some("7"));
        check("args.c", r#"{"c": ""}"#, Some("\"\""));
        check("args.c", r#"{"c": 1, "c": "last"}"#, Some("\"last\""));
        check("args.ä", r#"{"\u00e4": "\u00fc\""}"#, Some("\"ü\\\"\""));
        for args in ["{}", r#"{"c": null}"#, "null", r#"{"d": 1}"#] {
            check("args.c", args, None);
        }
        check("args.c.d", r#"{"c": null}"#, None);
    }

    #[test]
    fn numbers_are_one_key_by_their_value_and_texts_and_bools_are_others() {
        for (written, key) in [
            ("1", "1"),
            ("1.0", "1"),
            ("1e0", "1"),
            ("10e-1", "1"),
            ("-0.0", "0"),
            ("-0", "0"),
            ("-3.00", "-3"),
            ("0.5", "0.5"),
            ("5e-1", "0.5"),
            ("1e3", "1000"),
            ("9007199254740993", "9007199254740993"),
            ("9007199254740992.0", "9007199254740992"),
            ("18446744073709551615", "18446744073709551615"),
            ("1e30", "1e+30"),
            ("\"1\"", "\"1\""),
            ("true", "true"),
            ("\"true\"", "\"true\""),
        ] {
            check("args.c", &format!("{{\"c\": {written}}}"), Some(key));
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_path() {
        check_refused(
            "args.c",
            br#"{"c": [1]}"#,
            "args.c",
            "must be a string, a number or a bool of at most 256 bytes",
        );
        check_refused("args.c", br#"{"c": {"d": 1}}"#, "args.c", "it is an object");
        check_refused("args.c.d", br#"{"c": 5}"#, "args.c", "must be an object or null, as args.c.d is the key");
        check_refused("args.c.d", b"[1]", "args", "it is an array");
        check_refused("args.c.d.e", br#"{"c": {"d": "x"}}"#, "args.c.d", "it is a string");
        check_refused("args.c", b"\xff\x00", "args", "must be JSON");
        check_refused("args.c", b"", "args", "must be JSON");
        check_refused("args.c", b"{} {}", "args", "must be JSON");
        let long = |n: usize| format!("{{\"c\": \"{}\"}}", "x".repeat(n));
        check("args.c", &long(256), Some(&format!("\"{}\"", "x".repeat(256))));
        check_refused("args.c", long(257).as_bytes(), "args.c", "a string of 257 bytes");
        check_refused("args.c", b"{\"c\": 1e999}", "args", "must be JSON");
    }

    #[test]
    fn a_path_begins_with_args_and_has_no_empty_step() {
        for wrong in ["", "customer", "args.", "args..c", ".args", "arg.c", "args.c."] {
            assert!(KeyPath::parse(wrong).unwrap_err().contains("for example \"args.customer\""), "{wrong}");
        }
        assert!(KeyPath::parse(&format!("args.{}", "x".repeat(300))).unwrap_err().contains("at most 256 bytes"));
        assert!(KeyPath::parse(&format!("args{}", ".x".repeat(17))).unwrap_err().contains("16 steps"));
    }

    #[test]
    fn a_key_that_was_not_read_is_checked() {
        assert!(JobKey::text(&"x".repeat(256)).check().is_ok());
        for wrong in [JobKey::text(&"x".repeat(257)), JobKey("1.0".to_owned()), JobKey("null".to_owned())] {
            assert_eq!(wrong.check().unwrap_err().field, "key");
        }
    }
}
