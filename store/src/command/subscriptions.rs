//! Which kinds listen to which events of which others: stored, so that the transaction of an event knows who listens to it.

use serde::{Deserialize, Serialize};

use crate::job::{EventName, Invalid, KeyPath, Priority, TenantId, name_problem};

/// Subscriptions of one tenant: each adds to what an event of it writes.
pub const SUBSCRIPTIONS_MAX: usize = 256;
/// Patterns of one subscription.
pub const PATTERNS_MAX: usize = 100;

/// See [`Command::Subscribe`](super::Command::Subscribe).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Whose kinds listen, and are listened to.
    pub tenant: TenantId,
    /// All of the tenant's, instead of those it had; up to [`SUBSCRIPTIONS_MAX`].
    pub subscriptions: Vec<Subscription>,
}

/// A kind that listens to an event of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// To which event: any but `cancel_requested`, which is a wish and no event of a job's life.
    pub event: EventName,
    /// Of which kinds: names, or patterns in which `*` stands for any characters; 1 to [`PATTERNS_MAX`].
    pub of: Vec<String>,
    /// What is enqueued for each.
    pub to: Listener,
    /// Which plugin says so.
    pub by: String,
}

/// A job that is enqueued for an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its kind.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// Its priority.
    pub priority: Priority,
    /// Where in its args its key stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyPath>,
}

impl Subscribe {
    /// Whether every rule is kept that needs no store to be asked.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), Invalid> {
        let len = self.subscriptions.len();
        if len > SUBSCRIPTIONS_MAX {
            let why = format!("{len} of one tenant; the limit is {SUBSCRIPTIONS_MAX}");
            return Err(Invalid { field: "on".to_owned(), why });
        }
        self.subscriptions.iter().enumerate().try_for_each(|(i, subscription)| {
            subscription.check().map_err(|Invalid { field, why }| Invalid { field: format!("on[{i}].{field}"), why })
        })
    }
}

impl Subscription {
    /// The same of one.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |field: &str, why: String| Err(Invalid { field: field.to_owned(), why });
        if !self.event.can_be_listened_to() {
            return invalid("event", format!("{} cannot be listened to", self.event.as_str()));
        }
        if self.of.is_empty() || self.of.len() > PATTERNS_MAX {
            return invalid("of", format!("must have 1 to {PATTERNS_MAX} kinds, this one has {}", self.of.len()));
        }
        if let Some(pattern) = self.of.iter().find(|pattern| name_problem(&pattern.replace('*', "x")).is_some()) {
            return invalid("of", format!("has {pattern:?}, which no kind can match"));
        }
        for (field, name) in [("kind", &self.to.kind), ("queue", &self.to.queue), ("by", &self.by)] {
            if let Some(problem) = name_problem(name) {
                return invalid(field, problem);
            }
        }
        Ok(())
    }

    /// Whether it is about this kind.
    #[must_use]
    pub fn is_about(&self, kind: &str) -> bool {
        self.of.iter().any(|pattern| matches(pattern, kind))
    }
}

/// Whether `pattern`, in which `*` stands for any characters, is the whole of `text`.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
