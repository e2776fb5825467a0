//! What a caller wants to be answered in: the header `Accept`, which is looked at before anything is done.
//!
//! Nothing is chosen by it, as each route answers in one form. Who could not read that form is told so, instead of being sent
//! it. A header that cannot be read says nothing, and so does one that is not there. Refusals are always problem+json.

use axum::http::{HeaderMap, StatusCode, header};

use super::error::Problem;

/// A range of media types that a caller names.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// False: it is named to be left out, `q=0`.
    is_wanted: bool,
}

/// Refuses who admits none of these media types; without any, whatever is answered is nobody's to choose.
///
/// # Errors
/// 406, with what may be asked for.
pub(super) fn admits(headers: &HeaderMap, answers: &[&str]) -> Result<(), Problem> {
    let says_nothing = answers.is_empty() || !headers.contains_key(header::ACCEPT);
    if says_nothing || answers.iter().any(|media| is_admitted(headers, media)) {
        return Ok(());
    }
    let detail = format!("this is answered as {}: let Accept name that or */*, or leave it out", answers.join(" or "));
    Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail).at("Accept"))
}

/// Whether a media type is admitted by what names it most exactly.
fn is_admitted(headers: &HeaderMap, media: &str) -> bool {
    let (mut says_nothing, mut best) = (true, None);
    for value in headers.get_all(header::ACCEPT) {
        let Ok(text) = value.to_str() else { return true };
        for range in text.split(',').map(str::trim).filter(|range| !range.is_empty()) {
            let Some(range) = Range::read(range) else { return true };
            says_nothing = false;
            best = best.max(range.exactness(media).map(|exactness| (exactness, range.is_wanted)));
        }
    }
    says_nothing || best.is_some_and(|(_, is_wanted)| is_wanted)
}

impl<'a> Range<'a> {
    /// None: it is no range.
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let is_token = |word: &str| {
            let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            !word.is_empty() && word.bytes().all(is_right)
        };
        if !is_token(kind) || !is_token(subtype) || (kind == "*" && subtype != "*") {
            return None;
        }
        let weight =
            parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        // Zero, in any of its spellings; what is no number leaves nothing out.
        let is_zero = |text: &str| text.starts_with('0') && text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
        Some(Self { kind, subtype, is_wanted: !weight.is_some_and(|(_, text)| is_zero(text.trim())) })
    }

    /// How exactly it names a media type; none: it does not. Further parameters say how a text is written, and are no
    /// reason to say no.
    fn exactness(&self, media: &str) -> Option<u8> {
        let (kind, subtype) = media.split_once('/')?;
        match (self.kind, self.subtype) {
            ("*", _) => Some(0),
            (named, "*") => named.eq_ignore_ascii_case(kind).then_some(1),
            (named, sub) => (named.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype)).then_some(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// Whether who sends these headers may be answered with one of these media types.
    #[track_caller]
    fn check(accept: &[&str], answers: &[&str], is_right: bool) {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        assert_eq!(admits(&headers, answers).is_ok(), is_right, "{accept:?} {answers:?}");
    }

    #[test]
    fn a_form_is_admitted_by_what_names_it_most_exactly() {
        const JSON: &[&str] = &["application/json"];
        for accept in ["*/*", "application/*", "application/json", "Application/JSON; charset=utf-8", "a/b, */*;q=0.1"]
        {
            check(&[accept], JSON, true);
        }
        for accept in [
            "image/png",
            "application/xml, text/*",
            "application/json;q=0",
            "application/json; Q=0.000, */*",
            "image/*",
        ] {
            check(&[accept], JSON, false);
        }
        check(&["application/*;q=0", "application/json;q=0.001"], JSON, true);
        check(&["image/png", "application/json"], JSON, true);
        check(&["application/x-ndjson"], &["application/json", "application/x-ndjson"], true);
        check(
            &["application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"],
            &["text/plain"],
            true,
        );
        check(&["image/png"], &[], true);
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        for accept in
            ["", " , ", "json", "image/png, json", "*/json", "a/", "/b", "a b/c", "image/png;a=\"b,c\"", "image/\u{e4}"]
        {
            check(&[accept], &["application/json"], true);
        }
        check(&[], &["application/json"], true);
        check(&["image/png;q=none"], &["application/json"], false);
        check(&["application/json;q=none"], &["application/json"], true);
    }
}
