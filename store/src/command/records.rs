//! What is stored and asked for beside a job's row.

use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

use super::Lane;
use crate::job::{
    BootId, JobId, OutcomeName, QueueId, RunNumber, StateName, TenantId, Time, name_problem, tenant_problem,
};

/// The parts of a job that live apart from its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Part {
    /// What the handler gets.
    Args = 0,
    /// What the handler returned.
    Output = 1,
    /// What a later run resumes from.
    Checkpoint = 2,
}

impl Part {
    /// Every part.
    pub const ALL: [Self; 3] = [Self::Args, Self::Output, Self::Checkpoint];
}

/// How a run went. The last [`RUNS_KEPT`](crate::job::limits::RUNS_KEPT) of a job are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RunRecord {
    /// Which run.
    pub run: RunNumber,
    /// When its handler was entered; none if it never was.
    pub started_at: Option<Time>,
    /// When its handler was left; where that is not known, when its end was recorded.
    pub finished_at: Time,
    /// How it ended.
    pub outcome: OutcomeName,
    /// Why it did not complete; cut at 16 KiB.
    pub error: Option<String>,
    /// The guest's frames; cut at 64 KiB.
    pub trace: Option<String>,
    /// Fuel used.
    pub fuel: u64,
    /// The most linear memory held at once.
    pub memory_peak_bytes: u64,
    /// SHA-256 of the plugin that ran.
    pub plugin: Option<[u8; 32]>,
    /// The boot that held the run.
    pub node: Option<BootId>,
    /// The last progress that the handler reported: 0 to 100, and its words, cut at 256 bytes.
    pub progress: Option<(u8, String)>,
    /// Jobs that it staged and that did not come into being as they were staged.
    #[serde(default)]
    pub staged: Vec<StagedFate>,
    /// Whether it was refused memory. If it completed all the same, this is all that tells of it.
    #[serde(default)]
    pub memory_denied: bool,
    /// What else there is to say of it.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Of a call of several jobs: the run under which the call's log stands, and what became of the jobs that it staged. If
    /// that job is gone, so are these.
    #[serde(default)]
    pub call: Option<(JobId, RunNumber)>,
    /// What the external worker called itself that held the run.
    #[serde(default)]
    pub worker: Option<String>,
}

/// Fields that every record has. The others came later: a record leaves out those at its end that say nothing, so that
/// most are what they were before.
const RUN_FIELDS_MIN: usize = 11;

impl Serialize for RunRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Taken apart, so that a field that is added and not written is a compile error.
        let Self {
            run,
            started_at,
            finished_at,
            outcome,
            error,
            trace,
            fuel,
            memory_peak_bytes,
            plugin,
            node,
            progress,
            staged,
            memory_denied,
            notes,
            call,
            worker,
        } = self;
        let later = [!staged.is_empty(), *memory_denied, !notes.is_empty(), call.is_some(), worker.is_some()];
        let fields = RUN_FIELDS_MIN + later.iter().rposition(|says| *says).map_or(0, |last| last + 1);
        let mut record = serializer.serialize_struct("RunRecord", fields)?;
        let mut field = 0;
        macro_rules! put {
            ($($name:ident)*) => {$(
                if field < fields {
                    record.serialize_field(stringify!($name), $name)?;
                }
                field += 1;
            )*};
        }
        put!(run started_at finished_at outcome error trace fuel memory_peak_bytes plugin node progress);
        put!(staged memory_denied notes call worker);
        assert!(field >= fields, "every field of a record is written");
        record.end()
    }
}

/// What became of a staged job that is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFate {
    /// The id that it was given.
    pub id: JobId,
    /// The job that held its unique key, and was kept or changed instead; none: it was dropped.
    pub joined: Option<JobId>,
    /// Why it was dropped.
    pub why: Option<String>,
}

/// What is added up, per tenant: maintained as differences, never scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TotalKey {
    /// Whose.
    pub tenant: TenantId,
    /// Of what.
    pub of: Total,
}

/// See [`TotalKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Total {
    /// Jobs that have not ended.
    Unfinished,
    /// The same, of one queue.
    UnfinishedIn(QueueId),
    /// Jobs that completed.
    Completed,
    /// Bytes of args, outputs, checkpoints and logs of runs, and of what plugins keep: keys and values.
    Bytes,
    /// Keys that plugins keep.
    KvKeys,
    /// Schedules.
    Schedules,
}

/// What a name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum NameClass {
    /// A queue.
    Queue = 0,
    /// A kind.
    Kind = 1,
    /// A tenant; the name is nobody's ([`TenantId::NONE`]).
    Tenant = 2,
    /// A plugin.
    Plugin = 3,
}

impl NameClass {
    /// What is wrong with a name of this class; none if nothing is.
    #[must_use]
    pub fn problem(self, name: &str) -> Option<String> {
        match self {
            Self::Tenant => tenant_problem(name),
            Self::Queue | Self::Kind | Self::Plugin => name_problem(name),
        }
    }

    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Kind => "kind",
            Self::Tenant => "tenant",
            Self::Plugin => "plugin",
        }
    }
}

/// A name within a tenant. It stands for a number, for ever, so that keys have fixed widths. All classes and tenants
/// share one row of numbers, and the number of a tenant's name is its [`TenantId`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    /// Whose.
    pub tenant: TenantId,
    /// Of what.
    pub class: NameClass,
    /// The word.
    pub name: String,
}

impl Name {
    /// The name of a tenant.
    #[must_use]
    pub fn of_tenant(name: impl Into<String>) -> Self {
        Self { tenant: TenantId::NONE, class: NameClass::Tenant, name: name.into() }
    }

    /// The name of a plugin.
    #[must_use]
    pub fn of_plugin(tenant: TenantId, name: impl Into<String>) -> Self {
        Self { tenant, class: NameClass::Plugin, name: name.into() }
    }
}

/// What is counted: maintained as differences, never scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CountKey {
    /// Tenant, queue, kind, and whether the jobs are suspects.
    pub lane: Lane,
    /// Their state.
    pub state: StateName,
}
