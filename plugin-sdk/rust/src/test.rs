//! A host in memory, for a handler's unit tests: plain `cargo test`, no server and no sandbox. Only natively.
//!
//! ```
//! use runner_plugin::{Context, Failure, Raw, info, test};
//!
//! fn shout(text: Raw, cx: &Context) -> Result<Raw, Failure> {
//!     info!(cx, "attempt {}", cx.attempt);
//!     Ok(Raw(text.0.to_ascii_uppercase()))
//! }
//!
//! let cx = test::job("text.shout").attempt(2).context();
//! assert_eq!(test::run(shout, b"hey", &cx), Ok(b"HEY".to_vec()));
//! assert_eq!(cx.recorded().logs[0].1, "attempt 2");
//! ```
//!
//! It keeps the contract's limits on single values and answers as the runner would. What it does not have: fuel, memory limits,
//! time-outs, staging (every effect is recorded at once, whatever the outcome), and grants other than all or
//! [`Builder::denied`].

mod blobs;

use crate::http::{Request, Response};
use crate::{CallError, Context, Handler, Job, Level, Outcome};
use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A checkpoint's size, in bytes.
const CHECKPOINT_BYTES_MAX: usize = 256 << 10;
/// Sizes of a key and a value, in bytes.
const KV_KEY_BYTES_MAX: usize = 256;
const KV_VALUE_BYTES_MAX: usize = 64 << 10;
/// What one call may carry, in bytes.
const CALL_BYTES_MAX: usize = 1 << 20;
/// Names and keys a page.
const PAGE_MAX: usize = 1_000;

/// Begins a job of a kind: first run, first attempt of 25, in tenant and queue `default`, with 60 s of time.
pub fn job(kind: &str) -> Builder {
    let job = Job {
        id: "1".to_owned(),
        kind: kind.to_owned(),
        tenant: "default".to_owned(),
        queue: "default".to_owned(),
        run: 1,
        attempt: 1,
        max_attempts: 25,
        priority: 0,
        enqueued_at: "2026-01-01T00:00:00.000Z".to_owned(),
        run_at: "2026-01-01T00:00:00.000Z".to_owned(),
        timeout: Duration::from_secs(60),
        tags: vec![],
        checkpoint: None,
        dependencies: vec![],
        meta: vec![],
    };
    Builder { job, host: Host::default() }
}

/// Runs a handler as the runner would: args as bytes, the output as bytes, args that do not parse as a discard.
pub fn run<Shape>(handler: impl Handler<Shape>, args: &[u8], cx: &Context) -> Outcome {
    handler.call(args.to_vec(), cx)
}

/// A job and its world, before the run.
#[derive(Debug)]
pub struct Builder {
    job: Job,
    host: Host,
}

impl Builder {
    /// Ready to run.
    pub fn context(self) -> Context {
        Context::new(self.job, self.host)
    }

    /// Changes any field of the job.
    pub fn with(mut self, change: impl FnOnce(&mut Job)) -> Builder {
        change(&mut self.job);
        self
    }

    /// The attempt, and a run of the same number.
    pub fn attempt(self, attempt: u32) -> Builder {
        self.with(|job| (job.attempt, job.run) = (attempt, attempt))
    }

    /// Adds a tag.
    pub fn tag(self, key: &str, value: &str) -> Builder {
        self.with(|job| job.tags.push((key.to_owned(), value.to_owned())))
    }

    /// What an earlier run left.
    pub fn checkpoint(self, data: &[u8]) -> Builder {
        self.with(|job| job.checkpoint = Some(data.to_vec()))
    }

    /// Adds a completed dependency with its output.
    pub fn dependency(mut self, job_id: &str, output: Option<&[u8]>) -> Builder {
        self.job.dependencies.push(job_id.to_owned());
        self.host.outputs.insert(job_id.to_owned(), output.map(<[u8]>::to_vec));
        self
    }

    /// The run is told to end soon.
    pub fn cancelled(mut self) -> Builder {
        self.host.cancelled = true;
        self
    }

    /// Without grants: enqueue, kv, blobs, http, config and secrets answer `denied`.
    pub fn denied(mut self) -> Builder {
        self.host.denied = true;
        self
    }

    /// The job was made by a schedule.
    pub fn scheduled(mut self) -> Builder {
        self.host.scheduled = true;
        self
    }

    /// A value in the plugin's store.
    pub fn kv(mut self, key: &str, value: &[u8]) -> Builder {
        self.host.recorded.get_mut().kv.insert(key.to_owned(), value.to_vec());
        self
    }

    /// A blob in a container.
    pub fn blob(mut self, container: &str, name: &str, data: &[u8]) -> Builder {
        self.host.recorded.get_mut().blobs.insert((container.to_owned(), name.to_owned()), data.to_vec());
        self
    }

    /// A setting.
    pub fn config(mut self, name: &str, value: &str) -> Builder {
        self.host.config.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A secret.
    pub fn secret(mut self, name: &str, value: &str) -> Builder {
        self.host.secrets.insert(name.to_owned(), value.to_owned());
        self
    }

    /// What answers requests; without it they are `denied`.
    pub fn http(mut self, server: impl Fn(&Request) -> Result<Response, CallError> + 'static) -> Builder {
        self.host.server = Some(Server(Box::new(server)));
        self
    }
}

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// The log.
    pub logs: Vec<(Level, String)>,
    /// Percent and message, each time.
    pub progress: Vec<(u8, String)>,
    /// Jobs enqueued, in order; the first has the id `1001`.
    pub enqueued: Vec<Enqueued>,
    /// The last checkpoint.
    pub checkpoint: Option<Vec<u8>>,
    /// Whether the schedule was paused.
    pub schedule_paused: bool,
    /// The plugin's store.
    pub kv: BTreeMap<String, Vec<u8>>,
    /// Blobs, by container and name.
    pub blobs: BTreeMap<(String, String), Vec<u8>>,
    /// Requests sent, in order.
    pub requests: Vec<Request>,
}

/// A job that the run enqueued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enqueued {
    /// Its kind.
    pub kind: String,
    /// Its args.
    pub args: Vec<u8>,
    /// A JSON object of its other fields, or empty.
    pub options: String,
}

impl Context {
    /// What the run did so far; only natively.
    pub fn recorded(&self) -> Ref<'_, Recorded> {
        self.host.recorded.borrow()
    }
}

type Serve = dyn Fn(&Request) -> Result<Response, CallError>;

struct Server(Box<Serve>);

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Server")
    }
}

/// The runner, in memory.
#[derive(Debug, Default)]
pub(crate) struct Host {
    denied: bool,
    cancelled: bool,
    scheduled: bool,
    outputs: BTreeMap<String, Option<Vec<u8>>>,
    config: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
    server: Option<Server>,
    writers: RefCell<blobs::Writers>,
    recorded: RefCell<Recorded>,
}

type Answer<T> = Result<T, CallError>;

impl Host {
    fn granted(&self, what: &str) -> Answer<()> {
        if self.denied {
            return Err(CallError::new("denied", format_args!("{what} is not granted by the manifest")));
        }
        Ok(())
    }

    pub(crate) fn log(&self, level: Level, message: &str) {
        self.recorded.borrow_mut().logs.push((level, message.to_owned()));
    }

    pub(crate) fn progress(&self, percent: u8, message: &str) {
        self.recorded.borrow_mut().progress.push((percent, message.to_owned()));
    }

    pub(crate) fn cancelled(&self) -> bool {
        self.cancelled
    }

    pub(crate) fn enqueue(&self, kind: String, args: Vec<u8>, options: String) -> Answer<String> {
        self.granted("enqueue")?;
        within("args", args.len(), CALL_BYTES_MAX)?;
        let enqueued = &mut self.recorded.borrow_mut().enqueued;
        enqueued.push(Enqueued { kind, args, options });
        Ok((1000 + enqueued.len()).to_string())
    }

    pub(crate) fn checkpoint(&self, data: &[u8]) -> Answer<()> {
        within("the checkpoint", data.len(), CHECKPOINT_BYTES_MAX)?;
        self.recorded.borrow_mut().checkpoint = Some(data.to_vec());
        Ok(())
    }

    pub(crate) fn output_of(&self, job_id: &str) -> Answer<Option<Vec<u8>>> {
        let no_such = || CallError::new("not_found", format_args!("this job does not depend on {job_id}"));
        self.outputs.get(job_id).cloned().ok_or_else(no_such)
    }

    pub(crate) fn pause_schedule(&self) -> Answer<()> {
        if !self.scheduled {
            return Err(CallError::new("not_found", "no schedule made this job"));
        }
        self.recorded.borrow_mut().schedule_paused = true;
        Ok(())
    }

    pub(crate) fn kv_get(&self, key: &str) -> Answer<Option<Vec<u8>>> {
        self.kv_allows(key, None)?;
        Ok(self.recorded.borrow().kv.get(key).cloned())
    }

    pub(crate) fn kv_set(&self, key: &str, value: &[u8]) -> Answer<()> {
        self.kv_allows(key, Some(value))?;
        self.recorded.borrow_mut().kv.insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    pub(crate) fn kv_remove(&self, key: &str) -> Answer<()> {
        self.kv_allows(key, None)?;
        self.recorded.borrow_mut().kv.remove(key);
        Ok(())
    }

    /// The runner checks at the commit; here nobody else writes, so a mismatch is the handler's mistake and is said at once.
    pub(crate) fn kv_compare_and_set(&self, key: &str, expected: Option<&[u8]>, value: Option<&[u8]>) -> Answer<()> {
        if self.kv_get(key)?.as_deref() != expected {
            return Err(CallError::new("invalid", format_args!("{key} is not what was expected")));
        }
        match value {
            Some(value) => self.kv_set(key, value),
            None => self.kv_remove(key),
        }
    }

    pub(crate) fn kv_keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Answer<Vec<String>> {
        self.granted("kv")?;
        Ok(page(self.recorded.borrow().kv.keys().map(String::as_str), prefix, after, limit))
    }

    fn kv_allows(&self, key: &str, value: Option<&[u8]>) -> Answer<()> {
        self.granted("kv")?;
        if key.is_empty() {
            return Err(CallError::new("invalid", "the key is empty"));
        }
        within("the key", key.len(), KV_KEY_BYTES_MAX)?;
        within("the value", value.map_or(0, <[u8]>::len), KV_VALUE_BYTES_MAX)
    }

    pub(crate) fn http_send(&self, request: Request) -> Answer<Response> {
        self.granted("http")?;
        let Some(server) = &self.server else {
            return Err(CallError::new("denied", format_args!("{} is not granted by the manifest", request.url)));
        };
        within("the body", request.body.len(), CALL_BYTES_MAX)?;
        let response = (server.0)(&request);
        self.recorded.borrow_mut().requests.push(request);
        response
    }

    pub(crate) fn config_get(&self, name: &str) -> Answer<Option<String>> {
        self.granted("config")?;
        Ok(self.config.get(name).cloned())
    }

    pub(crate) fn config_secret(&self, name: &str) -> Answer<String> {
        self.granted("secrets")?;
        self.secrets.get(name).cloned().ok_or_else(|| CallError::new("not_found", format_args!("no secret {name}")))
    }
}

fn within(what: &str, bytes: usize, bytes_max: usize) -> Answer<()> {
    if bytes > bytes_max {
        return Err(CallError::new("limit", format_args!("{what} has {bytes} bytes, more than {bytes_max}")));
    }
    Ok(())
}

fn page<'a>(names: impl Iterator<Item = &'a str>, prefix: &str, after: Option<&str>, limit: u32) -> Vec<String> {
    names
        .filter(|name| name.starts_with(prefix) && after.is_none_or(|after| *name > after))
        .take((limit as usize).min(PAGE_MAX))
        .map(str::to_owned)
        .collect()
}
