//! `http`: requests for languages without `wasi:http`. The sender is the same for both: `egress`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;

use super::contract::runner::plugin::http::{Host, Request, Response};
use super::{CallError, Job, call_error};
use crate::wasm::egress::{Asked, CONNECT_MAX, SendError, Timeouts};

impl Host for Job {
    async fn send(&mut self, request: Request) -> Result<Response, CallError> {
        match exchange(self, request).await {
            Ok(response) => Ok(response),
            Err(SendError::NotGranted(denied) | SendError::Prohibited(denied)) => Err(self.denied(&denied)),
            Err(error) => Err(call_error(error.code(), error.to_string())),
        }
    }
}

async fn exchange(job: &mut Job, request: Request) -> Result<Response, SendError> {
    let Request { method, url, headers, body, timeout_ms } = request;
    let headers = headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
    let asked = Asked { method, url, headers, body_bytes: Some(body.len() as u64) };
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
    let timeouts = timeouts(job.way_out.deadline(), timeout_ms);
    let answer = job.way_out.send(&job.staged.grants, asked, body, timeouts)?.await?;
    let shown = answer.headers.iter().map(|(name, value)| {
        // The contract's strings are UTF-8; what is not becomes the mark for that.
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let headers = shown.collect();
    Ok(Response { status: answer.status.as_u16(), headers, body: answer.body.collect().await? })
}

/// What is left of the run, or less if the guest says so.
fn timeouts(deadline: Instant, timeout_ms: Option<u32>) -> Timeouts {
    let own = timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms.into()));
    let deadline = own.map_or(deadline, |own| own.min(deadline));
    Timeouts { deadline, connect: CONNECT_MAX, first_byte: Duration::MAX, between_bytes: Duration::MAX }
}
