//! A plugin in the body of a request: its file alone, or as a form with its manifest.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use schemars::JsonSchema;

use crate::api::body::{self, Bound, Room, Whole};
use crate::api::error::Problem;
use crate::wasm::folder::MANIFEST_BYTES_MAX;
use crate::wasm::folder::deploy::{CodeFile, Offered};
use crate::wasm::plugin::PLUGIN_BYTES_MAX;

/// A plugin, its manifest, and what a form has around them.
const BYTES_MAX: usize = (PLUGIN_BYTES_MAX + MANIFEST_BYTES_MAX) as usize + FORM_BYTES_MAX;
/// Boundaries and heads of the parts of a form: clients write some 200 bytes for each.
const FORM_BYTES_MAX: usize = 8 * 1024;
/// From the first byte to the last: the largest at 280 KB a second.
const WITHIN: Duration = Duration::from_secs(120);
/// Parts of a form, of which each may come once.
const PARTS_MAX: usize = 2;

/// The forms in which a plugin comes.
pub(crate) const WASM: &str = "application/wasm";
pub(crate) const SCRIPT: &str = "text/javascript";
pub(crate) const FORM: &str = "multipart/form-data";

/// A plugin with its manifest; either `plugin` or `script`.
#[derive(Debug, JsonSchema)]
#[schemars(rename = "PluginForm", deny_unknown_fields)]
#[expect(dead_code, reason = "it is only a schema")]
pub(in crate::api) struct PluginForm {
    /// The `.wasm` file.
    pub(in crate::api) plugin: Option<String>,
    /// The `.js` file, for the engine in the folder.
    pub(in crate::api) script: Option<String>,
    /// The manifest, in TOML; absent leaves the one that is there, an empty one takes it away.
    pub(in crate::api) manifest: Option<String>,
}

/// Reads it.
///
/// # Errors
/// 400, 408, 413, 415, 422 or 503, each saying what would be right.
pub(super) async fn read(room: &Room, headers: &HeaderMap, body: Body) -> Result<Offered, Problem> {
    let header = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (essence, rest) = header.split_once(';').unwrap_or((header, ""));
    let essence = essence.trim().to_ascii_lowercase();
    if ![WASM, SCRIPT, "application/javascript", FORM].contains(&essence.as_str()) {
        let detail = format!(
            "the body is {essence:?}; send a plugin as `Content-Type: {WASM}`, a script as `{SCRIPT}`, or `{FORM}` with the parts \
             `plugin` or `script`, and `manifest`"
        );
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail));
    }
    body::check_encoding(headers)?;
    let mend = "no plugin may have so many; build it with optimisation for size, or strip it";
    let bound = Bound { bytes_max: BYTES_MAX, within: WITHIN, mend };
    let Whole { bytes, .. } = body::whole(room, headers, body, bound).await?;
    match essence.as_str() {
        WASM => Ok(Offered { code: CodeFile::Wasm(bytes), manifest: None }),
        FORM => form(&bytes, boundary(rest)?),
        _ => Ok(Offered { code: CodeFile::Script(bytes), manifest: None }),
    }
}

/// What stands between the parts of a form.
fn boundary(params: &str) -> Result<&str, Problem> {
    let named = params.split(';').filter_map(|param| param.trim().split_once('='));
    let mut found =
        named.filter(|(name, _)| name.eq_ignore_ascii_case("boundary")).map(|(_, value)| value.trim_matches('"'));
    // RFC 2046 lets it have 70 characters.
    let found = found.next_back().filter(|boundary| !boundary.is_empty() && boundary.len() <= 70);
    found.ok_or_else(|| malformed("the Content-Type has no boundary of 1 to 70 characters"))
}

fn form(bytes: &[u8], boundary: &str) -> Result<Offered, Problem> {
    let (mut code, mut manifest) = (None, None);
    let parts = parts(bytes, boundary)?;
    for (name, part) in parts {
        let is_twice = match name.as_str() {
            "plugin" => code.replace(CodeFile::Wasm(part.to_vec())).is_some(),
            "script" => code.replace(CodeFile::Script(part.to_vec())).is_some(),
            "manifest" if part.len() as u64 > MANIFEST_BYTES_MAX => {
                let why = format!("has {} bytes; at most {MANIFEST_BYTES_MAX} are read", part.len());
                return Err(Problem::invalid(name, why));
            }
            "manifest" => manifest.replace(part.to_vec()).is_some(),
            _ => return Err(Problem::invalid(name, "is no known part; known are plugin, script, manifest")),
        };
        if is_twice {
            return Err(Problem::invalid(
                name,
                "there is a second one of these; keep one of plugin and script, and one manifest",
            ));
        }
    }
    let code = code.ok_or_else(|| Problem::invalid("plugin", "is missing: the part with the plugin's file"))?;
    Ok(Offered { code, manifest })
}

/// The parts of a form and their names, as RFC 7578 has them.
fn parts<'a>(bytes: &'a [u8], boundary: &str) -> Result<Vec<(String, &'a [u8])>, Problem> {
    let first = format!("--{boundary}");
    let between = format!("\r\n--{boundary}");
    let mut rest = bytes.strip_prefix(first.as_bytes());
    if rest.is_none() {
        // What stands before the first part is for nobody.
        rest = find(bytes, between.as_bytes()).map(|at| &bytes[at + between.len()..]);
    }
    let mut rest = rest.ok_or_else(|| malformed("the form has no part: its boundary is nowhere"))?;
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        // A third is refused by its name, as there are only two that go together.
        if parts.len() > PARTS_MAX {
            return Err(malformed("the form has more parts than there are names for"));
        }
        let part =
            rest.strip_prefix(b"\r\n").ok_or_else(|| malformed("a boundary of the form does not end its line"))?;
        let end = find(part, between.as_bytes()).ok_or_else(|| malformed("the form ends within a part"))?;
        let whole = &part[..end];
        let head =
            find(whole, b"\r\n\r\n").ok_or_else(|| malformed("a part of the form has no empty line after its head"))?;
        parts.push((name(&whole[..head])?, &whole[head + 4..]));
        rest = &part[end + between.len()..];
    }
    Ok(parts)
}

/// The name in the head of a part.
fn name(head: &[u8]) -> Result<String, Problem> {
    let no_name = || malformed("a part of the form has no `Content-Disposition: form-data; name=\"…\"`");
    if head.len() > FORM_BYTES_MAX {
        return Err(malformed("the head of a part of the form is too long"));
    }
    let head = std::str::from_utf8(head).map_err(|_| malformed("the head of a part of the form is not UTF-8"))?;
    let line = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let disposition =
        line.filter(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition")).map(|(_, value)| value);
    let params = disposition.last().ok_or_else(no_name)?.split(';').filter_map(|param| param.trim().split_once('='));
    let mut name =
        params.filter(|(name, _)| name.eq_ignore_ascii_case("name")).map(|(_, value)| value.trim_matches('"'));
    name.next_back().map(str::to_owned).ok_or_else(no_name)
}

/// Where something first stands. Most bytes are looked at once: what is looked for begins with one that is rare.
fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|byte| *byte == what[0]) {
        if bytes[from + at..].starts_with(what) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn malformed(why: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed", why)
}
