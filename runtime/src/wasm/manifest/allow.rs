//! The table `[allow]` of a manifest: what a plugin asks for.

use std::collections::BTreeMap;

use runner_store::job::name_problem;

use super::ManifestError;
use crate::table::{Table, Value};
use crate::wasm::grants::{Asked, BlobMode, HttpRule, Piece, Template, UrlPattern};

/// Entries of one list or table: enough for a whole application, and a bound on what one file makes the runner keep.
const ENTRIES_MAX: usize = 100;
/// Methods that may be asked for. `CONNECT` and `TRACE` are for proxies.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Headers that say how a message is framed and where it goes: nobody sets them but the runner.
pub(crate) const HEADERS_RESERVED: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn allow(mut table: Table<'_>) -> Result<Asked, ManifestError> {
    let mut asked = Asked::default();
    if let Some(value) = table.take("enqueue") {
        asked.enqueue = patterns(&value)?;
    }
    if let Some(value) = table.take("kv") {
        asked.kv = value.bool()?;
    }
    if let Some(value) = table.take("env") {
        asked.env = variables(&value)?;
    }
    if let Some(value) = table.take("config") {
        asked.config = names(&value)?;
    }
    if let Some(value) = table.take("secrets") {
        asked.secrets = names(&value)?;
    }
    if let Some(value) = table.take("http") {
        let rules = value.list()?;
        at_most(&value, rules.len())?;
        asked.http = rules.iter().map(http).collect::<Result<_, _>>()?;
    }
    if let Some(value) = table.take("blobs") {
        asked.blobs = blobs(&value)?;
    }
    table.done()?;
    Ok(asked)
}

/// Patterns of kinds: names with stars in them, which with the stars filled in must be names.
pub(crate) fn patterns(value: &Value<'_>) -> Result<Vec<String>, ManifestError> {
    let patterns = value.texts()?;
    at_most(value, patterns.len())?;
    match patterns.iter().find(|pattern| name_problem(&pattern.replace('*', "x")).is_some()) {
        Some(pattern) => {
            Err(value.error(&format!("has the pattern `{}`, which no kind can match", pattern.escape_debug())))
        }
        None => Ok(patterns.into_iter().map(str::to_owned).collect()),
    }
}

fn names(value: &Value<'_>) -> Result<Vec<String>, ManifestError> {
    let names = value.texts()?;
    at_most(value, names.len())?;
    match names.iter().find(|name| name_problem(name).is_some()) {
        Some(name) => Err(value.error(&format!("has `{}`, which is no right name", name.escape_debug()))),
        None => Ok(names.into_iter().map(str::to_owned).collect()),
    }
}

fn variables(value: &Value<'_>) -> Result<Vec<(String, String)>, ManifestError> {
    let entries = value.table()?.entries();
    at_most(value, entries.len())?;
    let one = |(name, value): (&str, Value<'_>)| match name_problem(name) {
        None => Ok((name.to_owned(), value.str()?.to_owned())),
        Some(problem) => Err(value.error(&format!("is no right name: {problem}"))),
    };
    entries.into_iter().map(one).collect()
}

fn blobs(value: &Value<'_>) -> Result<BTreeMap<String, BlobMode>, ManifestError> {
    let entries = value.table()?.entries();
    at_most(value, entries.len())?;
    let one = |(name, value): (&str, Value<'_>)| match name_problem(name) {
        None => Ok((name.to_owned(), blob_mode(&value)?)),
        Some(problem) => Err(value.error(&format!("is no right name: {problem}"))),
    };
    entries.into_iter().map(one).collect()
}

pub(crate) fn blob_mode(value: &Value<'_>) -> Result<BlobMode, ManifestError> {
    BlobMode::parse(value.str()?).ok_or_else(|| value.error("must be read, write or read-write"))
}

pub(crate) fn url(value: &Value<'_>) -> Result<UrlPattern, ManifestError> {
    UrlPattern::parse(value.str()?).map_err(|why| value.error(&format!("is refused: {why}")))
}

fn http(value: &Value<'_>) -> Result<HttpRule, ManifestError> {
    let mut table = value.table()?;
    let Some(to) = table.take("url") else { return Err(value.error("needs a `url`: where requests may go")) };
    let url = url(&to)?;
    let methods = match table.take("methods") {
        None => vec!["GET".to_owned()],
        Some(value) => methods(&value)?,
    };
    let headers = match table.take("header") {
        None => Vec::new(),
        Some(value) => headers(&value, &url)?,
    };
    table.done()?;
    Ok(HttpRule { url, methods, headers })
}

fn methods(value: &Value<'_>) -> Result<Vec<String>, ManifestError> {
    let methods = value.texts()?;
    match methods.iter().find(|method| !METHODS.contains(method)) {
        Some(method) => {
            let (method, known) = (method.escape_debug(), METHODS.join(", "));
            Err(value.error(&format!("has the method `{method}`; known are {known}")))
        }
        None => Ok(methods.into_iter().map(str::to_owned).collect()),
    }
}

fn headers(value: &Value<'_>, url: &UrlPattern) -> Result<Vec<(String, Template)>, ManifestError> {
    let entries = value.table()?.entries();
    at_most(value, entries.len())?;
    let one = |(name, value): (&str, Value<'_>)| {
        let name = name.to_ascii_lowercase();
        let token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !token {
            return Err(value.error("is no name of a header"));
        }
        if HEADERS_RESERVED.contains(&name.as_str()) {
            return Err(value.error("is the runner's own header; take it out"));
        }
        let template = template(&value)?;
        if !url.is_https() && template.0.iter().any(|piece| matches!(piece, Piece::Secret(_))) {
            return Err(value.error("has a secret, which goes over https only; write `https://` in `url`"));
        }
        Ok((name, template))
    };
    entries.into_iter().map(one).collect()
}

/// A text in which `${NAME}` stands for a secret.
fn template(value: &Value<'_>) -> Result<Template, ManifestError> {
    let mut rest = value.str()?;
    if !rest.bytes().all(|b| b == b'\t' || (0x20..0x7f).contains(&b)) {
        return Err(value.error("must be printable ASCII"));
    }
    let mut pieces = Vec::new();
    while let Some(at) = rest.find("${") {
        if at > 0 {
            pieces.push(Piece::Text(rest[..at].to_owned()));
        }
        let behind = &rest[at + 2..];
        let Some(end) = behind.find('}') else { return Err(value.error("has `${` without `}`")) };
        let name = &behind[..end];
        if let Some(problem) = name_problem(name) {
            return Err(value.error(&format!("has `${{{}}}`, which is no right name: {problem}", name.escape_debug())));
        }
        pieces.push(Piece::Secret(name.to_owned()));
        rest = &behind[end + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(Template(pieces))
}

fn at_most(value: &Value<'_>, entries: usize) -> Result<(), ManifestError> {
    if entries > ENTRIES_MAX { Err(value.error(&format!("has more than {ENTRIES_MAX} entries"))) } else { Ok(()) }
}
