//! Reads JSON objects field by field, so that every complaint names its field and its place.
//!
//! Values stay as they were written until someone asks for them ([`serde_json::value::RawValue`]): args keep their
//! bytes, and a place in the text is where the value's slice begins.

use std::borrow::Cow;
use std::fmt;

use runner_store::command::{Fuel, Rate};
use runner_store::job::{Millis, Time};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::time::{parse_duration, parse_time};
use crate::wasm::units;

/// Objects and lists within each other in one field. Many parsers take 128, and there is something around it in an answer.
pub const DEPTH_MAX: usize = 100;
/// Fields of one object: three times the most that any has (tags), few enough to be compared with each other.
const FIELDS_MAX: usize = 100;

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Which, as the request spells it: `retry.base`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub why: String,
    /// Where its value begins in the text that was read, in bytes.
    pub at: usize,
}

/// An object of JSON whose fields are taken one by one.
pub struct Object<'a> {
    path: String,
    text: &'a str,
    start: usize,
    entries: Vec<(String, &'a RawValue)>,
    known: Vec<&'static str>,
}

/// The value of a field.
#[derive(Clone)]
pub struct Value<'a> {
    field: String,
    text: &'a str,
    raw: &'a RawValue,
}

impl<'a> Object<'a> {
    /// The object that `raw`, a part of `text`, holds.
    ///
    /// # Errors
    /// It is no object, or has a field twice.
    pub fn read(text: &'a str, raw: &'a RawValue) -> Result<Self, Bad> {
        Self::at_path(String::new(), text, raw)
    }

    fn at_path(path: String, text: &'a str, raw: &'a RawValue) -> Result<Self, Bad> {
        let value = Value { field: path, text, raw };
        let entries = match serde_json::from_str::<Entries<'a>>(raw.get()) {
            Ok(Entries(entries)) => entries,
            Err(_) => return Err(value.bad(&format!("must be an object, is {}", value.found()))),
        };
        if entries.len() > FIELDS_MAX {
            return Err(value.bad(&format!("has {} fields; the limit is {FIELDS_MAX}", entries.len())));
        }
        let start = value.at();
        let object = Self { path: value.field, text, start, entries, known: Vec::new() };
        for (i, (name, raw)) in object.entries.iter().enumerate() {
            if object.entries[..i].iter().any(|(earlier, _)| earlier == name) {
                return Err(object.value(name, raw).bad("occurs twice; keep one"));
            }
            if is_too_deep(raw.get()) {
                let why = format!("has objects and lists that are nested more than {DEPTH_MAX} deep");
                return Err(object.value(name, raw).bad(&why));
            }
        }
        Ok(object)
    }

    /// Takes a field out; none if it is absent or null.
    pub fn take(&mut self, name: &'static str) -> Option<Value<'a>> {
        self.known.push(name);
        let at = self.entries.iter().position(|(entry, _)| entry == name)?;
        let (name, raw) = self.entries.remove(at);
        (raw.get() != "null").then(|| self.value(&name, raw))
    }

    /// The same, also if it is null.
    pub fn take_any(&mut self, name: &'static str) -> Option<Value<'a>> {
        self.known.push(name);
        let at = self.entries.iter().position(|(entry, _)| entry == name)?;
        let (name, raw) = self.entries.remove(at);
        Some(self.value(&name, raw))
    }

    /// A field that stays where it is; none if it is absent or null.
    #[must_use]
    pub fn peek(&self, name: &str) -> Option<Value<'a>> {
        let (name, raw) = self.entries.iter().find(|(entry, raw)| entry == name && raw.get() != "null")?;
        Some(self.value(name, raw))
    }

    /// Where the object begins in the text.
    #[must_use]
    pub fn start(&self) -> usize {
        self.start
    }

    /// Every field that is left, in the order of the text.
    #[must_use]
    pub fn into_rest(self) -> Vec<(String, Value<'a>)> {
        self.entries.iter().map(|(name, raw)| (name.clone(), self.value(name, raw))).collect()
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// The first unknown field, with the nearest known name.
    pub fn finish(self) -> Result<(), Bad> {
        let Some((name, raw)) = self.entries.first() else { return Ok(()) };
        let hint = nearest(name, self.known.iter().copied())
            .map_or_else(|| format!("known are {}", self.known.join(", ")), |near| format!("did you mean `{near}`?"));
        Err(self.value(name, raw).bad(&format!("is no known field; {hint}")))
    }

    /// What the object says, in one order and one spelling, but for `verbatim`, whose bytes are kept: what a repeated
    /// call is compared by.
    #[must_use]
    pub fn canonical(&self, verbatim: &str) -> Vec<u8> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut bytes = Vec::new();
        for (name, raw) in entries {
            let value = if name == verbatim { None } else { serde_json::from_str::<serde_json::Value>(raw.get()).ok() };
            let value = value.map_or(Cow::Borrowed(raw.get()), |value| Cow::Owned(value.to_string()));
            for part in [name.as_bytes(), value.as_bytes()] {
                bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
                bytes.extend_from_slice(part);
            }
        }
        bytes
    }

    fn value(&self, name: &str, raw: &'a RawValue) -> Value<'a> {
        let field = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Value { field, text: self.text, raw }
    }
}

/// Whether JSON nests deeper than may be.
fn is_too_deep(json: &str) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0, false, false);
    json.bytes().any(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        depth > DEPTH_MAX
    })
}

impl<'a> Value<'a> {
    /// A complaint about this value.
    #[must_use]
    pub fn bad(&self, why: &str) -> Bad {
        Bad { field: self.field.clone(), why: why.to_owned(), at: self.at() }
    }

    /// Where it begins in the text.
    #[must_use]
    pub fn at(&self) -> usize {
        // Both are addresses within one text; only their difference is used.
        (self.raw.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize)
    }

    /// As it was written.
    #[must_use]
    pub fn raw(&self) -> &'a str {
        self.raw.get()
    }

    /// A text.
    ///
    /// # Errors
    /// It is something else.
    pub fn str(&self) -> Result<String, Bad> {
        self.parse("must be a text")
    }

    /// True or false.
    ///
    /// # Errors
    /// It is something else.
    pub fn bool(&self) -> Result<bool, Bad> {
        self.parse("must be true or false")
    }

    /// A whole number.
    ///
    /// # Errors
    /// It is something else.
    pub fn u32(&self) -> Result<u32, Bad> {
        self.parse("must be a whole number, 0 or more")
    }

    /// A large whole number.
    ///
    /// # Errors
    /// It is something else.
    pub fn u64(&self) -> Result<u64, Bad> {
        self.parse("must be a whole number, 0 or more")
    }

    /// A number of bytes: with its unit, or as it is shown.
    ///
    /// # Errors
    /// It is something else.
    pub fn size(&self) -> Result<u64, Bad> {
        match serde_json::from_str::<String>(self.raw()) {
            Ok(text) => units::size(&text).map_err(|error| self.bad(&error.to_string())),
            Err(_) => self.parse("must be a number of bytes, or a text with a unit, for example \"10GiB\""),
        }
    }

    /// A number in thousandths: 1.6 is 1,600.
    ///
    /// # Errors
    /// It is something else, or beyond `max`.
    pub fn permille(&self, max: u32) -> Result<u32, Bad> {
        let number: f64 = self.parse("must be a number")?;
        let thousandths = (number * 1_000.0).round();
        if !(0.0..=f64::from(max)).contains(&thousandths) {
            return Err(self.bad(&format!("must be 0 to {}", max / 1_000)));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and within 0 to `max`")]
        Ok(thousandths as u32)
    }

    /// A duration with its unit.
    ///
    /// # Errors
    /// It is something else; a bare number is told which form is right.
    pub fn duration(&self) -> Result<Millis, Bad> {
        let text: String = self.parse("must be a text with a unit, for example \"60s\"")?;
        parse_duration(&text).map_err(|why| self.bad(&why))
    }

    /// So many jobs in a time.
    ///
    /// # Errors
    /// It is something else.
    pub fn rate(&self) -> Result<Rate, Bad> {
        let text: String = self.parse("must be a text, for example \"100/1m\" or \"100/1m burst 10\"")?;
        units::rate(&text).map_err(|why| self.bad(&why))
    }

    /// Fuel for a period.
    ///
    /// # Errors
    /// It is something else.
    pub fn fuel(&self) -> Result<Fuel, Bad> {
        let text: String = self.parse("must be a text, for example \"2_000G/1h\"")?;
        units::fuel_per(&text).map_err(|why| self.bad(&why))
    }

    /// An RFC 3339 time.
    ///
    /// # Errors
    /// It is something else.
    pub fn time(&self) -> Result<Time, Bad> {
        let text: String = self.parse("must be a text with an RFC 3339 time, for example \"2027-01-31T08:00:00Z\"")?;
        parse_time(&text).map_err(|why| self.bad(&why))
    }

    /// An object.
    ///
    /// # Errors
    /// It is something else, or has a field twice.
    pub fn object(&self) -> Result<Object<'a>, Bad> {
        Object::at_path(self.field.clone(), self.text, self.raw)
    }

    /// A list of values, each under the list's name and its place.
    ///
    /// # Errors
    /// It is something else.
    pub fn list(&self) -> Result<Vec<Self>, Bad> {
        let raws: Vec<&'a RawValue> = self.parse("must be a list")?;
        let value = |(i, raw)| Self { field: format!("{}[{i}]", self.field), text: self.text, raw };
        Ok(raws.into_iter().enumerate().map(value).collect())
    }

    /// Whether it is an object, by its first character.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.raw().starts_with('{')
    }

    fn parse<T: Deserialize<'a>>(&self, expected: &str) -> Result<T, Bad> {
        serde_json::from_str(self.raw()).map_err(|_| self.bad(&format!("{expected}; it is {}", self.found())))
    }

    fn found(&self) -> String {
        const SHOWN_CHARS: usize = 40;
        let text: String = self.raw().chars().take(SHOWN_CHARS).collect();
        if text.len() < self.raw().len() { format!("{text}…") } else { text }
    }
}

/// The one of `known` that is nearest to `word`, if any is near.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // Below it, most words that people take for one another; above it, nonsense.
    const SIMILAR: f64 = 0.7;
    known
        .map(|candidate| (strsim::jaro_winkler(&word.to_lowercase(), candidate), candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<String, &'de RawValue>()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
