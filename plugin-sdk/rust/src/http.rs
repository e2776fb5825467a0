//! HTTP under the manifest's `[[allow.http]]`. Redirects are answers, not followed; a status of 400 or 500 is a response,
//! no error, unless [`Response::error_for_status`] makes one of it.
//!
//! ```
//! use runner_plugin::{Context, Failure, http};
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! struct Rate {
//!     euro: f64,
//! }
//!
//! fn rate(currency: String, cx: &Context) -> Result<f64, Failure> {
//!     let request = http::Request::get(&format!("https://rates.example/{currency}")).header("accept", "application/json");
//!     let rate: Rate = http::send(cx, request)?.error_for_status()?.json()?;
//!     Ok(rate.euro)
//! }
//!
//! # use runner_plugin::test;
//! let cx = test::job("rates.get").http(|_| Ok(http::Response::new(200, r#"{"euro": 0.5}"#))).context();
//! assert_eq!(test::run(rate, br#""usd""#, &cx), Ok(b"0.5".to_vec()));
//! assert_eq!(cx.recorded().requests[0].url, "https://rates.example/usd");
//! ```

use crate::{CallError, Context};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How much of a body an error shows.
const SHOWN_CHARS_MAX: usize = 200;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// Absolute.
    pub url: String,
    /// In order; a secret header is set by the runner and replaces one of the same name.
    pub headers: Vec<(String, String)>,
    /// Up to the manifest's `http_body`.
    pub body: Vec<u8>,
    /// `None`: what is left of the run's time.
    pub timeout: Option<Duration>,
}

impl Request {
    /// A request without headers and body.
    pub fn new(method: &str, url: &str) -> Request {
        Request { method: method.to_owned(), url: url.to_owned(), headers: vec![], body: vec![], timeout: None }
    }

    /// A GET.
    pub fn get(url: &str) -> Request {
        Request::new("GET", url)
    }

    /// A POST.
    pub fn post(url: &str, body: impl Into<Vec<u8>>) -> Request {
        Request { body: body.into(), ..Request::new("POST", url) }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body of JSON, and the header that says so.
    ///
    /// # Errors
    /// `invalid` if the value cannot be written as JSON.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Result<Request, CallError> {
        self.body = serde_json::to_vec(value)
            .map_err(|error| CallError::new("invalid", format_args!("the body cannot be written as JSON: {error}")))?;
        Ok(self.header("content-type", "application/json"))
    }

    /// How long it may take, if less than what is left of the run's time.
    pub fn timeout(mut self, timeout: Duration) -> Request {
        self.timeout = Some(timeout);
        self
    }
}

/// What came back, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 200, 404, …
    pub status: u16,
    /// In order.
    pub headers: Vec<(String, String)>,
    /// Up to the manifest's `http_body`.
    pub body: Vec<u8>,
}

impl Response {
    /// A response without headers, for tests.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Response {
        Response { status, headers: vec![], body: body.into() }
    }

    /// The first header of this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Itself, if the status is one of 200 to 299.
    ///
    /// # Errors
    /// `unavailable` for 408, 429 and from 500 on, which may get better, `invalid` for every other status; with the status and
    /// the beginning of the body.
    pub fn error_for_status(self) -> Result<Response, CallError> {
        let code = match self.status {
            200..=299 => return Ok(self),
            408 | 429 | 500.. => "unavailable",
            _ => "invalid",
        };
        let body: String = String::from_utf8_lossy(&self.body).chars().take(SHOWN_CHARS_MAX).collect();
        Err(CallError::new(code, format_args!("the server answered {}: {body}", self.status)))
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// `invalid` if it is no JSON of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| CallError::new("invalid", format_args!("the response's body does not fit: {error}")))
    }
}

/// Sends one request and reads the whole response.
///
/// # Errors
/// `denied` without a grant for this URL and method, `limit` for a body too large, `unavailable` for all that the network does.
pub fn send(cx: &Context, request: Request) -> Result<Response, CallError> {
    cx.host.http_send(request)
}
