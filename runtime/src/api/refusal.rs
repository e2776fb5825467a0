//! What is said to whoever sends what is no request: the reader of HTTP refuses it with a status and nothing else, before any
//! route is asked. Here it becomes a problem like every other, which names what cannot be read and how to mend it.
//!
//! Of what was sent only names of headers are repeated: what they say may be a secret.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use runner_store::clock::Clock;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::error::Problem;
use super::finish_headers;
use super::heads::Heads;
use super::serve::HEAD_BYTES_MAX;

/// As many as the reader of HTTP has room for.
const HEADERS_MAX: usize = 100;
/// The first byte of TLS, which is all that is read of it.
const TLS_HANDSHAKE: u8 = 0x16;
/// A name that is longer is not repeated.
const NAME_BYTES_MAX: usize = 64;
/// A refusal, which is a few sentences.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// How long, and how much, is still taken of whoever was refused: a connection that is closed while something comes is reset,
/// and what was said is lost.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: u64 = 1 << 20;

/// Why a connection ended on which no answer was due, as a refusal; `read` is what was read and not taken for a request, and
/// `heads` has looked at all of it. None: the other end is gone, or has said nothing.
pub(super) fn of(error: &hyper::Error, read: &[u8], heads: &Heads) -> Option<Problem> {
    if error.is_parse_too_large() {
        return Some(too_large(read, heads.is_endless()));
    }
    if error.is_parse() {
        return Some(unread(&error.to_string(), read));
    }
    let is_slow = |source: &io::Error| source.kind() == io::ErrorKind::TimedOut;
    let slow = error.source().and_then(|source| source.downcast_ref()).is_some_and(is_slow);
    (slow && !read.is_empty()).then(|| {
        let detail =
            "the head of the request took too long, and the connection is closed: send it at once; nothing happened";
        Problem::new(StatusCode::REQUEST_TIMEOUT, "head_timeout", detail)
    })
}

/// A request that says in two ways how long its body is.
pub(super) fn two_lengths() -> Response {
    let detail = "the request has both `Content-Length` and `Transfer-Encoding`, and whoever goes by the one reads another request \
                  than whoever goes by the other; nothing happened: send only one of them";
    answer(malformed("Content-Length", detail))
}

/// As whatever stands before the routes answers.
fn answer(problem: Problem) -> Response {
    let mut response = problem.into_response();
    finish_headers(response.headers_mut());
    response
}

fn malformed(field: &str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed", detail).at(field)
}

/// The reader says what it is in words only; where they are others than they were, they are repeated.
fn unread(words: &str, read: &[u8]) -> Problem {
    let (field, detail) = match words {
        "invalid content-length parsed" => (
            "Content-Length",
            "`Content-Length` must be the number of the body's bytes in digits, and always the same one; send it once, or send \
             `Transfer-Encoding: chunked`",
        ),
        "invalid transfer-encoding parsed" => {
            ("Transfer-Encoding", "a body comes as it is, or in chunks: send `Transfer-Encoding: chunked`, or none")
        }
        "unexpected transfer-encoding parsed" => {
            ("Transfer-Encoding", "HTTP/1.0 knows no chunks: send `Content-Length`, or speak HTTP/1.1")
        }
        "invalid HTTP method parsed" if read.starts_with(&[TLS_HANDSHAKE]) => (
            "method",
            "this is TLS, and HTTP without it is spoken here: ask with http://, or start the server with `--tls-cert` and `--tls-key`",
        ),
        "invalid HTTP method parsed" => {
            ("method", "the request must begin with a method, as in `GET /v1/jobs HTTP/1.1`")
        }
        "invalid URI" if has_no_version(read) => {
            ("version", "the first line must end with a version, as in `GET /v1/jobs HTTP/1.1`")
        }
        "invalid URI" => (
            "target",
            "what is asked for must be a path or a URL of ASCII without spaces, as in `GET /v1/jobs HTTP/1.1`: write other bytes as `%` \
             and two hexadecimal digits",
        ),
        "invalid HTTP version parsed" | "invalid HTTP version parsed (found HTTP2 preface)" => {
            ("version", "the first line must end with the version that is spoken here: HTTP/1.1, or HTTP/1.0")
        }
        "invalid HTTP header parsed" => return wrong_header(read),
        other => {
            let detail = format!("the request cannot be read: {other}");
            return Problem::new(StatusCode::BAD_REQUEST, "malformed", detail);
        }
    };
    malformed(field, detail)
}

fn too_large(read: &[u8], is_endless: bool) -> Problem {
    if is_endless {
        let detail = "`Content-Length` is more than any body may have";
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail).at("Content-Length");
    }
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let large = |field: &str, detail: String| Problem::new(status, "head_too_large", detail).at(field);
    if lines(read).count() > HEADERS_MAX {
        return large("headers", format!("a request may have {HEADERS_MAX} headers; send fewer"));
    }
    let first_line_ends = read.contains(&b'\n');
    let field = if first_line_ends { "headers" } else { "target" };
    let kib = HEAD_BYTES_MAX / 1_024;
    large(field, format!("the first line of a request and its headers may have {kib} KiB together; send less"))
}

/// Whether the first line of a head is a method and a target, and nothing behind them.
fn has_no_version(read: &[u8]) -> bool {
    let line = read.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    let mut words = line.split(|byte| *byte == b' ');
    words.next().is_some() && words.next().is_some_and(|target| target.starts_with(b"/")) && words.next().is_none()
}

/// The first line of a head that is no header.
fn wrong_header(read: &[u8]) -> Problem {
    let Some((at, line)) = lines(read).enumerate().find(|(_, line)| !is_header(line)) else {
        return malformed("headers", "a header must be a name, a colon and a value on one line");
    };
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    let told = name.len() < line.len() && name.len() <= NAME_BYTES_MAX && is_token(name);
    // The first line is that of the request.
    let at = at + 2;
    match str::from_utf8(name) {
        Ok(name) if told => malformed(
            name,
            format!("the header `{name}`, line {at} of the request, has a byte that no header may have"),
        ),
        Ok(_) | Err(_) => {
            let detail = format!(
                "line {at} of the request is no header: that is a name without spaces, a colon and a value, all on one line"
            );
            malformed("headers", detail)
        }
    }
}

/// The lines of a head behind its first one.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.skip(1).take_while(|line| !line.is_empty())
}

fn is_header(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    let is_text = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    name.len() < line.len() && is_token(name) && line.iter().all(is_text)
}

fn is_token(name: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_token)
}

/// Sends a refusal, ends the connection, and waits a moment until it can have been read.
pub(super) async fn tell<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, problem: Problem) {
    if stream.write_all(&written(problem).await).await.is_ok() && stream.shutdown().await.is_ok() {
        linger(&mut stream).await;
    }
}

/// Takes for a moment what still comes.
pub(super) async fn linger<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut rest = stream.take(LINGER_BYTES_MAX);
    // Whoever is gone, or goes on for longer, may have lost what was said.
    _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}

/// A refusal as it is sent.
async fn written(problem: Problem) -> Vec<u8> {
    let response = answer(problem);
    let status = response.status();
    let mut head =
        format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or("Error")).into_bytes();
    for (name, value) in response.headers() {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    // It was made of bytes that are all there.
    let body = axum::body::to_bytes(response.into_body(), BODY_BYTES_MAX).await.unwrap_or_default();
    let date = super::time::http_date(Clock::System.now());
    head.extend(format!("connection: close\r\ncontent-length: {}\r\ndate: {date}\r\n\r\n", body.len()).into_bytes());
    head.extend(body);
    head
}
