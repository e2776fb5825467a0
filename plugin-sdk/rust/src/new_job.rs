//! A job to enqueue from a handler.

use crate::CallError;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A job to enqueue with [`crate::Context::enqueue`]. What has no method of its own is [`NewJob::option`]; what does not fit
/// is said by `enqueue`, so that building one needs no `?`.
#[derive(Debug, Clone)]
pub struct NewJob {
    kind: String,
    args: Result<Vec<u8>, String>,
    options: Map<String, Value>,
}

impl NewJob {
    /// A job of a kind, with `null` for args.
    pub fn new(kind: &str) -> NewJob {
        NewJob { kind: kind.to_owned(), args: Ok(b"null".to_vec()), options: Map::new() }
    }

    /// Args: any `Serialize` value as JSON.
    pub fn args(mut self, args: &impl serde::Serialize) -> NewJob {
        self.args = serde_json::to_vec(args).map_err(|error| error.to_string());
        self
    }

    /// Args: these bytes.
    pub fn raw_args(mut self, args: impl Into<Vec<u8>>) -> NewJob {
        self.args = Ok(args.into());
        self
    }

    /// The line to stand in; default: the kind's.
    pub fn queue(self, queue: &str) -> NewJob {
        self.option("queue", queue)
    }

    /// Lower runs first.
    pub fn priority(self, priority: i16) -> NewJob {
        self.option("priority", priority)
    }

    /// Not before so long from now.
    pub fn delay(self, delay: Duration) -> NewJob {
        self.option("delay", format!("{}ms", delay.as_millis()))
    }

    /// Adds a tag.
    pub fn tag(mut self, key: &str, value: &str) -> NewJob {
        let tags = self.options.entry("tags").or_insert_with(|| json!({}));
        if let Value::Object(tags) = tags {
            tags.insert(key.to_owned(), value.into());
        }
        self
    }

    /// Waits for a job to complete.
    pub fn depends_on(mut self, job_id: &str) -> NewJob {
        let ids = self.options.entry("depends_on").or_insert_with(|| json!([]));
        if let Value::Array(ids) = ids {
            ids.push(job_id.into());
        }
        self
    }

    /// Any field of a job as in `POST /v1/jobs`: `run_at`, `unique`, `retry`, `max_attempts`, `timeout`, …
    pub fn option(mut self, name: &str, value: impl Into<Value>) -> NewJob {
        self.options.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn into_parts(self) -> Result<(String, Vec<u8>, String), CallError> {
        let args = self.args.map_err(|why| CallError::new("invalid", format_args!("args cannot be JSON: {why}")))?;
        let options = if self.options.is_empty() { String::new() } else { Value::Object(self.options).to_string() };
        Ok((self.kind, args, options))
    }
}
