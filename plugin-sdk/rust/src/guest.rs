//! The host as a guest sees it: thin calls of the contract's imports. Every function calls one import and nothing refers to
//! them all, so that the linker drops what a handler does not call, and with it the component's import.

use crate::bindings::exports::runner::plugin::handler as export;
use crate::bindings::runner::plugin::{blobs, config, host, http, kv, types};
use crate::http::{Request, Response};
use crate::{CallError, Context, Failure, Job, Level, Outcome};
use std::time::Duration;

/// Runs one job: what the export `handle` does.
#[doc(hidden)]
pub fn run(job: export::Job, dispatch: fn(Vec<u8>, &Context) -> Outcome) -> Result<Vec<u8>, export::Failure> {
    let export::Job { id, kind, tenant, queue, args, run, attempt, max_attempts, priority, .. } = job;
    let export::Job { enqueued_at, run_at, timeout_ms, tags, checkpoint, dependencies, meta, .. } = job;
    let timeout = Duration::from_millis(timeout_ms.into());
    #[rustfmt::skip]
    let job = Job { id, kind, tenant, queue, run, attempt, max_attempts, priority, enqueued_at, run_at, timeout, tags,
        checkpoint, dependencies, meta };
    dispatch(args, &Context::new(job, Host)).map_err(|failure| match failure {
        Failure::Retry { message, after } => {
            export::Failure::Retry(types::Retry { message, after_ms: after.map(millis) })
        }
        Failure::Discard { message } => export::Failure::Discard(message),
        Failure::Snooze { after, reason } => export::Failure::Snooze(types::Snooze { after_ms: millis(after), reason }),
    })
}

/// Milliseconds as the contract has them: at most 49 days.
fn millis(duration: Duration) -> u32 {
    duration.as_millis().try_into().unwrap_or(u32::MAX)
}

impl From<types::CallError> for CallError {
    fn from(error: types::CallError) -> CallError {
        CallError { code: error.code, message: error.message }
    }
}

/// The contract's imports.
#[derive(Debug)]
pub(crate) struct Host;

type Answer<T> = Result<T, CallError>;

impl Host {
    pub(crate) fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Trace => host::Level::Trace,
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        };
        host::log(level, message);
    }

    pub(crate) fn progress(&self, percent: u8, message: &str) {
        host::progress(percent, message);
    }

    pub(crate) fn cancelled(&self) -> bool {
        host::cancelled()
    }

    pub(crate) fn enqueue(&self, kind: String, args: Vec<u8>, options: String) -> Answer<String> {
        Ok(host::enqueue(&host::NewJob { kind, args, options })?)
    }

    pub(crate) fn checkpoint(&self, data: &[u8]) -> Answer<()> {
        Ok(host::checkpoint(data)?)
    }

    pub(crate) fn output_of(&self, job_id: &str) -> Answer<Option<Vec<u8>>> {
        Ok(host::output_of(job_id)?)
    }

    pub(crate) fn pause_schedule(&self) -> Answer<()> {
        Ok(host::pause_schedule()?)
    }

    pub(crate) fn kv_get(&self, key: &str) -> Answer<Option<Vec<u8>>> {
        Ok(kv::get(key)?)
    }

    pub(crate) fn kv_set(&self, key: &str, value: &[u8]) -> Answer<()> {
        Ok(kv::set(key, value)?)
    }

    pub(crate) fn kv_remove(&self, key: &str) -> Answer<()> {
        Ok(kv::remove(key)?)
    }

    pub(crate) fn kv_compare_and_set(&self, key: &str, expected: Option<&[u8]>, value: Option<&[u8]>) -> Answer<()> {
        Ok(kv::compare_and_set(key, expected, value)?)
    }

    pub(crate) fn kv_keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Answer<Vec<String>> {
        Ok(kv::keys(prefix, after, limit)?)
    }

    pub(crate) fn blob_size(&self, container: &str, name: &str) -> Answer<Option<u32>> {
        Ok(blobs::size(container, name)?)
    }

    pub(crate) fn blob_read(&self, container: &str, name: &str, offset: u32, len: u32) -> Answer<Vec<u8>> {
        Ok(blobs::read(container, name, offset, len)?)
    }

    pub(crate) fn blob_begin(&self, container: &str, name: &str) -> Answer<u32> {
        Ok(blobs::begin(container, name)?)
    }

    pub(crate) fn blob_write_part(&self, writer: u32, data: &[u8]) -> Answer<()> {
        Ok(blobs::write_part(writer, data)?)
    }

    pub(crate) fn blob_finish(&self, writer: u32) -> Answer<()> {
        Ok(blobs::finish(writer)?)
    }

    pub(crate) fn blob_remove(&self, container: &str, name: &str) -> Answer<()> {
        Ok(blobs::remove(container, name)?)
    }

    pub(crate) fn blob_names(
        &self,
        container: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Answer<Vec<String>> {
        Ok(blobs::names(container, prefix, after, limit)?)
    }

    pub(crate) fn http_send(&self, request: Request) -> Answer<Response> {
        let Request { method, url, headers, body, timeout } = request;
        let request = http::Request { method, url, headers, body, timeout_ms: timeout.map(millis) };
        let http::Response { status, headers, body } = http::send(&request)?;
        Ok(Response { status, headers, body })
    }

    pub(crate) fn config_get(&self, name: &str) -> Answer<Option<String>> {
        Ok(config::get(name)?)
    }

    pub(crate) fn config_secret(&self, name: &str) -> Answer<String> {
        Ok(config::secret(name)?)
    }
}
