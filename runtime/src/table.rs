//! Reads TOML that people write (manifests, the operator's configuration), key by key, with lines in every complaint.
//!
//! A [`Table`] hands out its keys; [`Table::done`] refuses what nobody asked for, with the nearest known key. It knows no
//! key itself.

use runner_store::job::time::Millis;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::wasm::units::{self, UnitError};

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct TableError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// Beyond this distance a known key is no suggestion but noise.
const SUGGESTION_MIN: f64 = 0.6;

/// The tables of a text, for [`Table::new`].
pub(crate) fn parse(text: &str) -> Result<Spanned<DeTable<'_>>, TableError> {
    DeTable::parse(text).map_err(|error| TableError {
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        message: error.message().replace('\n', "; "),
    })
}

/// One table that is being read.
pub(crate) struct Table<'a> {
    text: &'a str,
    title: String,
    keys: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

/// One value and where it stands.
pub(crate) struct Value<'a> {
    text: &'a str,
    name: String,
    value: &'a Spanned<DeValue<'a>>,
}

/// The line of a byte offset, from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1
}

impl<'a> Table<'a> {
    pub(crate) fn new(text: &'a str, title: &str, keys: &'a DeTable<'a>) -> Self {
        Self { text, title: title.to_owned(), keys, known: Vec::new() }
    }

    /// The value of a key, if it is there.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        let value = self.keys.get(key)?;
        let name = if self.title.is_empty() { key.to_owned() } else { format!("{}.{key}", self.title) };
        Some(Value { text: self.text, name, value })
    }

    /// Every key and its value, for a table whose keys are names.
    pub(crate) fn entries(self) -> Vec<(&'a str, Value<'a>)> {
        let one = |(key, value): (&'a Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>)| {
            let word: &'a str = key.get_ref();
            let name = if self.title.is_empty() { word.to_owned() } else { format!("{}.{word}", self.title) };
            (word, Value { text: self.text, name, value })
        };
        self.keys.iter().map(one).collect()
    }

    /// Refuses every key that was not taken.
    pub(crate) fn done(self) -> Result<(), TableError> {
        let Some(key) = self.keys.keys().find(|key| !self.known.contains(&key.get_ref().as_ref())) else {
            return Ok(());
        };
        let name = key.get_ref();
        let place = if self.title.is_empty() { String::new() } else { format!(" in [{}]", self.title) };
        let nearest = self
            .known
            .iter()
            .map(|known| (strsim::jaro_winkler(name, known), *known))
            .filter(|(nearness, _)| *nearness >= SUGGESTION_MIN)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let hint = match nearest {
            Some((_, known)) => format!("; did you mean `{known}`?"),
            None => format!("; known are: {}", self.known.join(", ")),
        };
        let line = line_of(self.text, key.span().start);
        Err(TableError { line, message: format!("unknown key `{name}`{place}{hint}") })
    }
}

fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(is) => Some(is.to_string()),
        DeValue::Integer(number) => Some(number.as_str().replace('_', "")),
        DeValue::Float(number) => Some(number.as_str().replace('_', "")),
        DeValue::Datetime(time) => Some(time.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// Every value of a text that is no table: its dotted key, the value, and its line.
pub(crate) fn leaves(text: &str) -> Result<Vec<(String, String, usize)>, TableError> {
    let parsed = parse(text)?;
    let mut found = Vec::new();
    // A table within a table is looked at when all of the outer one was: depth is bounded by the parser.
    let mut open: Vec<(String, &DeTable<'_>)> = vec![(String::new(), parsed.get_ref())];
    while let Some((title, table)) = open.pop() {
        for (key, value) in table {
            let name = if title.is_empty() { key.get_ref().to_string() } else { format!("{title}.{}", key.get_ref()) };
            match value.get_ref() {
                DeValue::Table(inner) => open.push((name, inner)),
                DeValue::Array(list) => {
                    let items: Option<Vec<String>> = list.iter().map(|item| plain(item.get_ref())).collect();
                    let shown = items.map_or_else(|| format!("({} entries)", list.len()), |items| items.join(", "));
                    found.push((name, shown, line_of(text, value.span().start)));
                }
                one => found.push((name, plain(one).unwrap_or_default(), line_of(text, value.span().start))),
            }
        }
    }
    found.sort_by_key(|(_, _, line)| *line);
    Ok(found)
}

fn json(value: &DeValue<'_>) -> Result<serde_json::Value, &'static str> {
    use serde_json::Value as Json;
    Ok(match value {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Boolean(is) => Json::from(*is),
        DeValue::Datetime(time) => Json::from(time.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            Json::from(i64::from_str_radix(&digits, number.radix()).map_err(|_| "has a number that is too large")?)
        }
        DeValue::Float(number) => {
            let number: f64 = number.as_str().replace('_', "").parse().map_err(|_| "has a number that is none")?;
            Json::from(serde_json::Number::from_f64(number).ok_or("has a number that JSON does not know")?)
        }
        DeValue::Array(values) => {
            Json::Array(values.iter().map(|value| json(value.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(keys) => {
            let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                Ok((key.get_ref().to_string(), json(value.get_ref())?))
            };
            Json::Object(keys.iter().map(entry).collect::<Result<_, &'static str>>()?)
        }
    })
}

impl<'a> Value<'a> {
    pub(crate) fn error(&self, what: &str) -> TableError {
        let line = line_of(self.text, self.value.span().start);
        TableError { line, message: format!("`{}` {what}", self.name) }
    }

    /// The line where it stands, from 1.
    pub(crate) fn line(&self) -> usize {
        line_of(self.text, self.value.span().start)
    }

    /// A text, a number or a truth, as one would write it behind a flag.
    pub(crate) fn plain(&self) -> Result<String, TableError> {
        plain(self.value.get_ref()).ok_or_else(|| self.error("must be a text, a number, true or false"))
    }

    fn unit_error(&self, error: &UnitError) -> TableError {
        self.error(&format!("is refused: {error}"))
    }

    pub(crate) fn str(&self) -> Result<&'a str, TableError> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text),
            DeValue::Integer(number) => Err(self
                .error(&format!("is the bare number {number}; write a text in quotes, with its unit if it has one"))),
            _ => Err(self.error("must be a text in quotes")),
        }
    }

    pub(crate) fn duration(&self) -> Result<Millis, TableError> {
        units::duration(self.str()?).map_err(|e| self.unit_error(&e))
    }

    pub(crate) fn size(&self) -> Result<u64, TableError> {
        units::size(self.str()?).map_err(|e| self.unit_error(&e))
    }

    pub(crate) fn fuel(&self) -> Result<u64, TableError> {
        units::fuel(self.str()?).map_err(|e| self.unit_error(&e))
    }

    /// A whole number within bounds.
    pub(crate) fn integer(&self, min: i64, max: i64) -> Result<i64, TableError> {
        let DeValue::Integer(number) = self.value.get_ref() else {
            return Err(self.error("must be a whole number"));
        };
        let number = i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok();
        number
            .filter(|n| (min..=max).contains(n))
            .ok_or_else(|| self.error(&format!("must be between {min} and {max}")))
    }

    /// A number, whole or with a fraction, in thousandths.
    pub(crate) fn permille(&self, max: f64) -> Result<u32, TableError> {
        let number: Option<f64> = match self.value.get_ref() {
            DeValue::Integer(number) => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let number = number.filter(|n| (0.0..=max).contains(n));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by `max` just above")]
        number
            .map(|n| (n * 1_000.0).round() as u32)
            .ok_or_else(|| self.error(&format!("must be a number between 0 and {max}")))
    }

    /// Any value, as JSON; times are texts.
    pub(crate) fn json(&self) -> Result<Vec<u8>, TableError> {
        let value = json(self.value.get_ref()).map_err(|why| self.error(why))?;
        Ok(value.to_string().into_bytes())
    }

    /// A list of texts.
    pub(crate) fn texts(&self) -> Result<Vec<&'a str>, TableError> {
        self.list()?.iter().map(Value::str).collect()
    }

    pub(crate) fn bool(&self) -> Result<bool, TableError> {
        match self.value.get_ref() {
            DeValue::Boolean(is) => Ok(*is),
            _ => Err(self.error("must be true or false")),
        }
    }

    /// Whether it is a table, written in any of TOML's ways.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Table(_))
    }

    pub(crate) fn list(&self) -> Result<Vec<Value<'a>>, TableError> {
        let DeValue::Array(values) = self.value.get_ref() else {
            return Err(self.error("must be a list: [\"…\"]"));
        };
        let one = |value| Value { text: self.text, name: self.name.clone(), value };
        Ok(values.iter().map(one).collect())
    }

    pub(crate) fn table(&self) -> Result<Table<'a>, TableError> {
        match self.value.get_ref() {
            DeValue::Table(keys) => Ok(Table::new(self.text, &self.name, keys)),
            _ => Err(self.error(&format!("must be a table: [{}]", self.name))),
        }
    }
}
