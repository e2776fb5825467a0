//! `http`: requests for languages without `wasi:http`.

use super::contract::runner::plugin::http::{Host, Request, Response};
use super::{CallError, Job, call_error};

impl Host for Job {
    fn send(&mut self, request: Request) -> Result<Response, CallError> {
        let Ok(url) = url::Url::parse(&request.url) else {
            return Err(call_error("invalid", "the url is none".to_owned()));
        };
        match self.staged.grants.http(&request.method, &url).map(|_| ()) {
            Err(denied) => Err(self.denied(&denied)),
            Ok(()) => Err(call_error("unavailable", "requests are not served yet".to_owned())),
        }
    }
}
