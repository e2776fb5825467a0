//! HTTP under the manifest's `[[allow.http]]`. Redirects are answers, not followed; a status of 400 or 500 is a response,
//! no error.

use crate::{CallError, Context};
use std::time::Duration;

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

/// Sends one request and reads the whole response.
///
/// # Errors
/// `denied` without a grant for this URL and method, `limit` for a body too large, `unavailable` for all that the network does.
pub fn send(cx: &Context, request: Request) -> Result<Response, CallError> {
    cx.host.http_send(request)
}
