//! One column, value by value. What type it has is known only at the end, so everything that a type needs is kept until a value
//! rules the type out.

use crate::DISTINCT_MAX;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// The least and the greatest text are cut here, in bytes.
const TEXT_BYTES_MAX: usize = 100;
const DAYS: [u32; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// What every value of a column is; `Empty` if there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Type {
    Empty,
    /// A whole number of 64 bits.
    Integer,
    /// With a point or an exponent, finite.
    Number,
    /// `true` or `false`, in any case.
    Boolean,
    /// `2026-01-31`.
    Date,
    Text,
}

/// What is in a column.
#[derive(Debug, Serialize)]
pub struct Summary {
    name: String,
    #[serde(rename = "type")]
    r#type: Type,
    values: u64,
    nulls: u64,
    min: Value,
    max: Value,
    /// Of integers and numbers; none if the sum is beyond what a number can be.
    mean: Value,
    /// If it is known exactly …
    #[serde(skip_serializing_if = "Option::is_none")]
    distinct: Option<usize>,
    /// … and if there are too many to count.
    #[serde(skip_serializing_if = "Option::is_none")]
    distinct_at_least: Option<usize>,
}

/// What was seen of a column so far.
#[derive(Debug)]
pub(crate) struct Column {
    name: String,
    nulls: u64,
    values: u64,
    is_integer: bool,
    integers: Range<i64>,
    is_number: bool,
    numbers: Range<f64>,
    sum: f64,
    is_boolean: bool,
    is_date: bool,
    texts: Range<String>,
    /// `None` once there are too many.
    distinct: Option<BTreeSet<Box<str>>>,
}

/// Least and greatest; `None` before the first value.
type Range<T> = Option<(T, T)>;

impl Column {
    pub(crate) fn new(name: String) -> Column {
        Column {
            name,
            nulls: 0,
            values: 0,
            is_integer: true,
            integers: None,
            is_number: true,
            numbers: None,
            sum: 0.0,
            is_boolean: true,
            is_date: true,
            texts: None,
            distinct: Some(BTreeSet::new()),
        }
    }

    pub(crate) fn add_null(&mut self) {
        self.nulls += 1;
    }

    /// Adds a value that is not missing.
    pub(crate) fn add(&mut self, value: &str) {
        self.values += 1;
        match integer(value) {
            Some(integer) if self.is_integer => widen(&mut self.integers, integer),
            _ => self.is_integer = false,
        }
        match number(value) {
            Some(number) if self.is_number => {
                widen(&mut self.numbers, number);
                self.sum += number;
            }
            _ => self.is_number = false,
        }
        self.is_boolean &= value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false");
        self.is_date &= is_date(value);
        match &mut self.texts {
            None => self.texts = Some((value.to_owned(), value.to_owned())),
            Some((min, _)) if value < min.as_str() => value.clone_into(min),
            Some((_, max)) if value > max.as_str() => value.clone_into(max),
            Some(_) => {}
        }
        let Some(distinct) = &mut self.distinct else { return };
        if distinct.contains(value) {
            return;
        }
        if distinct.len() == DISTINCT_MAX {
            self.distinct = None;
        } else {
            distinct.insert(value.into());
        }
    }

    fn r#type(&self) -> Type {
        match self {
            _ if self.values == 0 => Type::Empty,
            _ if self.is_integer => Type::Integer,
            _ if self.is_number => Type::Number,
            _ if self.is_boolean => Type::Boolean,
            _ if self.is_date => Type::Date,
            _ => Type::Text,
        }
    }

    pub(crate) fn summary(self) -> Summary {
        let r#type = self.r#type();
        let (min, max) = match r#type {
            Type::Empty => (Value::Null, Value::Null),
            Type::Integer => ends(self.integers, Value::from),
            Type::Number => ends(self.numbers, Value::from),
            Type::Boolean => ends(self.texts, |text| Value::Bool(text.eq_ignore_ascii_case("true"))),
            Type::Date | Type::Text => ends(self.texts, |text| Value::String(cut(text))),
        };
        let has_mean = matches!(r#type, Type::Integer | Type::Number);
        Summary {
            name: self.name,
            r#type,
            values: self.values,
            nulls: self.nulls,
            min,
            max,
            mean: if has_mean { Value::from(self.sum / self.values as f64) } else { Value::Null },
            distinct_at_least: if self.distinct.is_none() { Some(DISTINCT_MAX + 1) } else { None },
            distinct: self.distinct.map(|values| values.len()),
        }
    }
}

fn widen<T: PartialOrd + Copy>(range: &mut Range<T>, value: T) {
    *range = match *range {
        None => Some((value, value)),
        Some((min, max)) if value < min => Some((value, max)),
        Some((min, max)) if value > max => Some((min, value)),
        unchanged => unchanged,
    };
}

fn ends<T>(range: Range<T>, value: impl Fn(T) -> Value) -> (Value, Value) {
    range.map_or((Value::Null, Value::Null), |(min, max)| (value(min), value(max)))
}

/// Digits with a zero before them are a name (a post code, a part number), not a quantity.
fn is_name(value: &str) -> bool {
    let digits = value.trim_start_matches(['-', '+']).as_bytes();
    matches!(digits, [b'0', b'0'..=b'9', ..])
}

fn integer(value: &str) -> Option<i64> {
    if is_name(value) { None } else { value.parse().ok() }
}

/// Without the words (`inf`, `nan`) that Rust also takes for numbers.
fn number(value: &str) -> Option<f64> {
    let is_plain = value.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if !is_plain || is_name(value) {
        return None;
    }
    value.parse().ok().filter(|number: &f64| number.is_finite())
}

/// `YYYY-MM-DD`, a day that there is.
fn is_date(value: &str) -> bool {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = value.as_bytes() else { return false };
    let digits = [y1, y2, y3, y4, m1, m2, d1, d2];
    if !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let read = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    let (year, month, day) = (read(&digits[..4]), read(&digits[4..6]), read(&digits[6..]));
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let Some(days) = month.checked_sub(1).and_then(|at| DAYS.get(at as usize)) else { return false };
    (1..=days + u32::from(month == 2 && is_leap)).contains(&day)
}

/// Cut at a character, with a sign that it was.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
    text
}
