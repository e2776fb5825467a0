//! The body of a request: its type, its size and its time are bounded before anything is parsed.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::value::RawValue;

use super::error::Problem;
use super::read::Bad;

/// A JSON body.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// From the first byte of a body to its last.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// Reads a JSON body as text.
///
/// # Errors
/// 400, 408, 413 or 415, each saying what would be right.
pub async fn json(headers: &HeaderMap, body: Body) -> Result<String, Problem> {
    check_type(headers)?;
    json_or_nothing(headers, body).await
}

/// The same, where a body may be left out and then has no type.
///
/// # Errors
/// As [`json`].
pub async fn json_or_nothing(headers: &HeaderMap, body: Body) -> Result<String, Problem> {
    let bytes = read(headers, body).await?;
    if !bytes.is_empty() {
        check_type(headers)?;
    }
    String::from_utf8(bytes.into()).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Problem::new(StatusCode::BAD_REQUEST, "malformed", format!("the body is not UTF-8 at byte {at}"))
    })
}

/// The value that a text of JSON holds.
///
/// # Errors
/// 400 with line and column.
pub fn parse(text: &str) -> Result<&RawValue, Problem> {
    serde_json::from_str(text).map_err(|error| {
        let detail = format!("line {}, column {}: {}", error.line(), error.column(), what(&error));
        Problem::new(StatusCode::BAD_REQUEST, "malformed", detail)
    })
}

/// What is wrong with a text of JSON, without the place.
#[must_use]
pub fn what(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

impl From<Bad> for Problem {
    fn from(bad: Bad) -> Self {
        Self::invalid(bad.field, bad.why)
    }
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(BODY_WITHIN, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => {
            let detail = format!("the body did not arrive whole: {error}");
            Err(Problem::new(StatusCode::BAD_REQUEST, "malformed", detail))
        }
        Err(_) => {
            let detail = format!("the body took longer than {} s", BODY_WITHIN.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail))
        }
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    let detail = format!("the body is {essence:?}; send JSON with `Content-Type: application/json`");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail))
}

fn too_large() -> Problem {
    let detail = format!("the body has more than {BODY_BYTES_MAX} bytes (8 MiB); send the jobs in several lists");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
}
