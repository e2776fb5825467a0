//! `http`: linked, and denied: this version grants no requests.

use super::contract::runner::plugin::http::{Host, Request, Response};
use super::{CallError, Job, not_granted};

impl Host for Job {
    fn send(&mut self, request: Request) -> Result<Response, CallError> {
        let _ = request;
        Err(not_granted("http", "[[allow.http]] url = \"…\""))
    }
}
