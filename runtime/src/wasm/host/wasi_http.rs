//! `wasi:http`: always linked, as language runtimes import it even where they never fetch. Every request ends in the
//! sender of `egress`, or in `HTTP-request-denied`, and the run's log says what to add where.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::header::{self, HeaderName};
use hyper::{Request, Response};
use tokio::time::Instant;
use wasmtime_wasi_http::{Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks};

use super::Job;
use crate::wasm::egress::{Asked, CONNECT_MAX, SendError, Timeouts};
use crate::wasm::manifest::allow::HEADERS_RESERVED;

/// Names and values of one set of headers, as wasmtime counts them; a run may have a thousand sets.
const FIELDS_BYTES_MAX: usize = 64 << 10;
/// What one write to a body may carry and what waits until it is sent: a run may have some hundred bodies open.
const BODY_WRITE_BYTES_MAX: usize = 16 << 10;

type Sent = Result<(Response<WasiBody>, Worker), Error>;
type Worker = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// The context of one run.
pub(in crate::wasm) fn context() -> WasiHttpCtx {
    let mut context = WasiHttpCtx::new();
    context.set_field_size_limit(FIELDS_BYTES_MAX);
    context
}

impl WasiHttpHooks for Job {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(forbidden)
    }

    fn set_host_header(&mut self) -> bool {
        // It is written from the URL, with everything else.
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _received: Worker,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let (head, body) = request.into_parts();
        let header =
            |(name, value): (&HeaderName, &header::HeaderValue)| (name.as_str().to_owned(), value.as_bytes().to_vec());
        let asked = Asked {
            method: head.method.as_str().to_owned(),
            url: head.uri.to_string(),
            headers: head.headers.iter().map(header).collect(),
            body_bytes: None,
        };
        let timeouts = timeouts(self.way_out.deadline(), options.unwrap_or_default());
        // The only error of a guest's own body is that it was left unfinished.
        let body = body.map_err(|_| SendError::BodyUnfinished).boxed_unsync();
        let sending = match self.way_out.send(&self.staged.grants, asked, body, timeouts) {
            Ok(sending) => sending,
            Err(error) => {
                if let SendError::NotGranted(denied) = &error {
                    self.denied(denied);
                }
                return Box::new(std::future::ready(Err(error.into())));
            }
        };
        let tell = self.way_out.teller(&self.staged.grants, &self.streams);
        Box::new(async move {
            match sending.await {
                Ok(answer) => {
                    let mut response = Response::new(answer.body.boxed_unsync());
                    *response.status_mut() = answer.status;
                    *response.headers_mut() = answer.headers;
                    // The body itself holds what drives it.
                    Ok((response, Box::new(std::future::ready(Ok(()))) as Worker))
                }
                Err(error) => {
                    if let SendError::Prohibited(denied) = &error {
                        tell(denied);
                    }
                    Err(error.into())
                }
            }
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_WRITE_BYTES_MAX
    }
}

/// The runner's own headers; `content-length` may be stated, and is checked.
fn forbidden(name: &HeaderName) -> bool {
    name != header::CONTENT_LENGTH && HEADERS_RESERVED.contains(&name.as_str())
}

fn timeouts(deadline: Instant, options: RequestOptions) -> Timeouts {
    let RequestOptions { connect_timeout, first_byte_timeout, between_bytes_timeout } = options;
    Timeouts {
        deadline,
        connect: connect_timeout.map_or(CONNECT_MAX, |own| own.min(CONNECT_MAX)),
        first_byte: first_byte_timeout.unwrap_or(Duration::MAX),
        between_bytes: between_bytes_timeout.unwrap_or(Duration::MAX),
    }
}
