//! The parameters of a URL, each known or refused by name.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use runner_store::job::{JobId, JobRef, StateName};

use super::App;
use super::error::Problem;
use super::read::nearest;
use super::tenant::Whose;

/// What stands behind the question mark.
pub struct Params {
    entries: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if let Some(wrong) = parts.uri.query().and_then(unreadable) {
            return Err(wrong);
        }
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(entries) = query.map_err(|error| Problem::invalid("query", error.body_text()))?;
        Ok(Self { entries, known: Vec::new() })
    }
}

/// The first parameter that is no text: it would be read as another one, which nobody has asked for.
fn unreadable(query: &str) -> Option<Problem> {
    query.split('&').find_map(|entry| {
        let why = match decoded(entry) {
            None => "has a % without two hexadecimal digits behind it; write %25 for a percent sign",
            Some(bytes) if std::str::from_utf8(&bytes).is_err() => "is no UTF-8 text",
            Some(_) => return None,
        };
        let name = entry.split('=').next().unwrap_or_default();
        let name = decoded(name).and_then(|bytes| String::from_utf8(bytes).ok());
        Some(Problem::invalid(name.filter(|name| !name.is_empty()).unwrap_or_else(|| "query".to_owned()), why))
    })
}

/// The bytes that percent signs stand for, and the others; none where one stands for nothing.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, behind @ ..] = rest {
        let (byte, behind) = match (first, behind) {
            (b'%', [high, low, behind @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                (u8::try_from(digit(high)? * 16 + digit(low)?).ok()?, behind)
            }
            (b'%', _) => return None,
            (byte, behind) => (*byte, behind),
        };
        bytes.push(byte);
        rest = behind;
    }
    Some(bytes)
}

impl Params {
    /// Takes a parameter out.
    ///
    /// # Errors
    /// It is there twice.
    pub fn take(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        self.known.push(name);
        let mut values: Vec<String> = Vec::new();
        self.entries.retain(|(entry, value)| {
            let matches = entry == name;
            if matches {
                values.push(value.clone());
            }
            !matches
        });
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(Problem::invalid(name, "is given twice; keep one")),
        }
    }

    /// Takes a parameter that is parsed.
    ///
    /// # Errors
    /// It is there twice, or not what `parse` takes.
    pub fn take_as<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Problem> {
        let value = self.take(name)?;
        value.map(|text| parse(&text).map_err(|why| Problem::invalid(name, why))).transpose()
    }

    /// Takes a parameter that is true or false; absent: false.
    ///
    /// # Errors
    /// It is there twice, or something else.
    pub fn flag(&mut self, name: &'static str) -> Result<bool, Problem> {
        let parse = |text: &str| text.parse::<bool>().map_err(|_| "must be true or false".to_owned());
        Ok(self.take_as(name, parse)?.unwrap_or_default())
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// The first unknown parameter, with the nearest known name.
    pub fn finish(self) -> Result<(), Problem> {
        let Some((name, _)) = self.entries.first() else { return Ok(()) };
        let near = nearest(name, self.known.iter().copied());
        let hint = match (near, self.known.is_empty()) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, false) => format!("known are {}", self.known.join(", ")),
            (None, true) => "there are none here".to_owned(),
        };
        Err(Problem::invalid(name.clone(), format!("is no known parameter; {hint}")))
    }
}

/// The job that a path names. What is no number, or not even text, is no job.
pub struct OfJob(pub JobRef);

impl FromRequestParts<Arc<App>> for OfJob {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<App>) -> Result<Self, Problem> {
        let Whose(tenant) = Whose::from_request_parts(parts, state).await?;
        let Path(id) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| Problem::no_job())?;
        // A leading + or 0 would be a second name for the same job.
        let number = id.parse().ok().filter(|n: &u64| n.to_string() == id).ok_or_else(Problem::no_job)?;
        Ok(Self(JobRef { tenant, job: JobId(number) }))
    }
}

/// The name or number that a path ends with.
pub struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let not_text = |_| Problem::new(StatusCode::NOT_FOUND, "not_found", "what the path names is no UTF-8 text");
        Path::<String>::from_request_parts(parts, state).await.map(|Path(name)| Self(name)).map_err(not_text)
    }
}

/// The name and the verb that a path ends with.
pub struct NamedVerb(pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for NamedVerb {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let not_text = |_| Problem::new(StatusCode::NOT_FOUND, "not_found", "what the path names is no UTF-8 text");
        let Path((name, verb)) = Path::<(String, String)>::from_request_parts(parts, state).await.map_err(not_text)?;
        Ok(Self(name, verb))
    }
}

/// A tag to look for, `key=value`.
///
/// # Errors
/// What would be right.
pub fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE, for example customer=42")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// The state of that name.
///
/// # Errors
/// The names that there are.
pub fn state(word: &str) -> Result<StateName, String> {
    StateName::parse(word)
        .ok_or_else(|| format!("{word:?} is no state; there are {}", StateName::ALL.map(StateName::as_str).join(", ")))
}
