//! Who listens to which kinds, looked up by the number of a kind; and what was heard, until its listeners are enqueued.
//!
//! The transaction of an event that somebody listens to writes a [`Heard`] record beside it: all that the listeners are told,
//! and which of them have yet to be. The writer then enqueues them in bounded steps, and what a step has enqueued is gone
//! from the record with the same commit: so each hears of each event once, whatever crashes in between, and also when the
//! job is changed or gone by then.
//!
//! An engine keeps a [`Listening`] up to date with what it stores; it knows no rule. Where nobody listens it is empty, and
//! that is all that the others pay.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::{Listener, Name, NameClass, Subscription};
use crate::job::{EventName, Job, JobRef, KindId, Reason, StateName, TenantId};

/// An output up to so many bytes is told to listeners, whole; of a longer one they learn its size. With what else they are
/// told it is far from what args may have, and a step of many listeners stays short.
pub const OUTPUT_BYTES_MAX: usize = 256 * 1024;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listening {
    tenants: BTreeMap<TenantId, Arc<[Subscription]>>,
    kinds: HashMap<KindId, Arc<Listened>>,
}

/// A kind that is listened to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listened {
    tenant: TenantId,
    kind: String,
    to: Vec<(EventName, Listener)>,
}

impl Listening {
    /// Whether nobody listens to anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// The subscriptions of a tenant.
    #[must_use]
    pub fn subscriptions(&self, tenant: TenantId) -> &[Subscription] {
        self.tenants.get(&tenant).map_or(&[], |subscriptions| subscriptions)
    }

    /// Who listens to a kind that was known when this was made.
    #[must_use]
    pub fn of(&self, kind: KindId) -> Option<&Arc<Listened>> {
        self.kinds.get(&kind)
    }

    /// Who will listen to a kind of this name.
    #[must_use]
    pub fn to_be(&self, tenant: TenantId, kind: &str) -> Option<Arc<Listened>> {
        let about = self.subscriptions(tenant).iter().filter(|subscription| subscription.is_about(kind));
        let to: Vec<_> = about.map(|subscription| (subscription.event, subscription.to.clone())).collect();
        (!to.is_empty()).then(|| Arc::new(Listened { tenant, kind: kind.to_owned(), to }))
    }

    /// Learns of a name; only those of kinds matter.
    pub fn name(&mut self, name: &Name, number: u32) {
        if name.class == NameClass::Kind
            && let Some(listened) = self.to_be(name.tenant, &name.name)
        {
            self.kinds.insert(KindId(number), listened);
        }
    }

    /// Replaces the subscriptions of a tenant; `names` are all that have a number.
    pub fn set<'a>(
        &mut self,
        tenant: TenantId,
        subscriptions: &[Subscription],
        names: impl Iterator<Item = (&'a Name, u32)>,
    ) {
        self.kinds.retain(|_, listened| listened.tenant != tenant);
        self.tenants.remove(&tenant);
        if !subscriptions.is_empty() {
            self.tenants.insert(tenant, subscriptions.into());
            names.filter(|(name, _)| name.tenant == tenant).for_each(|(name, number)| self.name(name, number));
        }
    }
}

impl Listened {
    /// Who listens to this event, in the order of the subscriptions.
    pub fn to(&self, event: EventName) -> impl Iterator<Item = &Listener> {
        self.to.iter().filter(move |(wanted, _)| *wanted == event).map(|(_, listener)| listener)
    }

    /// The kind's name.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }
}

/// An event that somebody listens to, and who has yet to be told. Its number, by which it is kept, is its place in line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Of which job.
    pub at: JobRef,
    /// What happened to it.
    pub event: EventName,
    /// Its kind.
    pub kind: String,
    /// Its state afterwards; none: it is gone.
    pub state: Option<StateName>,
    /// Why, of an event that has a reason: the first 256 bytes of a run's error, or the reason of an end.
    pub error: Option<String>,
    /// What it returned, of one that completed.
    pub output: HeardOutput,
    /// The depth of those that are enqueued for it.
    pub depth: u32,
    /// Who has yet to be told: in order.
    pub to: Vec<Listener>,
}

/// What a job that completed has returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeardOutput {
    /// Nothing, or it has not completed.
    None,
    /// JSON.
    Json(String),
    /// No JSON, or more than [`OUTPUT_BYTES_MAX`]: so many bytes.
    LeftOut(u64),
}

impl HeardOutput {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).ok().filter(|_| bytes.len() <= OUTPUT_BYTES_MAX);
        match text.filter(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()) {
            _ if bytes.is_empty() => Self::None,
            Some(json) => Self::Json(json.to_owned()),
            None => Self::LeftOut(bytes.len() as u64),
        }
    }
}

impl Heard {
    /// What `event`, after which the job is `after` (none: it is gone), means to whoever listens: all but the output.
    #[must_use]
    pub fn new(event: EventName, job: &Job, after: Option<&Job>, kind: &str, depth: u32, to: Vec<Listener>) -> Self {
        let (state, error) = (after.map(|job| job.state.name()), error(event, job));
        Self { at: job.at(), event, kind: kind.to_owned(), state, error, output: HeardOutput::None, depth, to }
    }

    /// The args of its listeners.
    #[must_use]
    pub fn args(&self) -> Vec<u8> {
        let text = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), quoted);
        let (event, kind, job) = (self.event.as_str(), quoted(&self.kind), self.at.job);
        let (state, error) = (text(self.state.map(StateName::as_str)), text(self.error.as_deref()));
        let (output, size) = match &self.output {
            HeardOutput::None => ("null", String::new()),
            HeardOutput::Json(json) => (json.as_str(), String::new()),
            HeardOutput::LeftOut(bytes) => ("null", format!(r#","output_bytes":{bytes}"#)),
        };
        format!(
            r#"{{"event":"{event}","job":"{job}","kind":{kind},"state":{state},"error":{error},"output":{output}{size}}}"#
        )
        .into_bytes()
    }

    /// About how many bytes its listeners take: what bounds a step.
    #[must_use]
    pub fn weight(&self) -> usize {
        let output = match &self.output {
            HeardOutput::Json(json) => json.len(),
            HeardOutput::None | HeardOutput::LeftOut(_) => 0,
        };
        (output + self.error.as_ref().map_or(0, String::len) + 256) * self.to.len()
    }
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

fn error(event: EventName, job: &Job) -> Option<String> {
    let of_run = || job.last.as_ref().and_then(|last| last.error.clone());
    match event {
        EventName::Discarded | EventName::Cancelled => match job.reason()? {
            reason @ (Reason::AttemptsExhausted { .. }
            | Reason::NeverRetried
            | Reason::Crashed
            | Reason::Poison { .. }) => of_run().or_else(|| Some(reason.to_string())),
            reason @ (Reason::Handler(_) | Reason::Expired | Reason::Requested(_) | Reason::Dependency { .. }) => {
                Some(reason.to_string())
            }
        },
        EventName::Retrying | EventName::Snoozed | EventName::Interrupted | EventName::Crashed => of_run(),
        EventName::Enqueued
        | EventName::Released
        | EventName::Blocked
        | EventName::Scheduled
        | EventName::Available
        | EventName::Started
        | EventName::Completed
        | EventName::CancelRequested
        | EventName::Retried
        | EventName::Edited
        | EventName::Deleted => None,
    }
}
