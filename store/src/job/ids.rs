//! Identifiers of jobs and of what they belong to: newtypes, never bare integers.

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id!(
    /// A job; ascending over the whole store, never given out twice. JSON shows it as a decimal string.
    JobId(u64)
);
id!(
    /// A tenant. [`TenantId::DEFAULT`] is always there.
    TenantId(u32)
);
id!(
    /// A queue's name within its tenant, interned.
    QueueId(u32)
);
id!(
    /// A kind's name within its tenant, interned.
    KindId(u32)
);
id!(
    /// A plugin's name within its tenant, interned: what is kept for it outlives each of its versions.
    PluginId(u32)
);
id!(
    /// A run of a job, from 1. The fencing token.
    RunNumber(u32)
);
id!(
    /// The place of an event in the log, from 1.
    Seq(u64)
);
id!(
    /// −32768 ..= 32767; lower runs first.
    Priority(i16)
);

/// One start of a process that runs jobs: random, never a host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub u64);

impl std::fmt::Display for BootId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A job and whose it is: what every key about a job begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobRef {
    /// The owner.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
}

impl TenantId {
    /// The tenant of whoever names none. It has this number without having been given it: no other tenant gets it.
    pub const DEFAULT: Self = Self(1);
    /// What [`TenantId::DEFAULT`] is called.
    pub const DEFAULT_NAME: &str = "default";
    /// Nobody: whose the names of tenants are.
    pub const NONE: Self = Self(0);
}

impl RunNumber {
    /// The run after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Priority {
    /// The priorities that have names, first to run first.
    pub const NAMED: [(&'static str, Self); 5] = [
        ("highest", Self(i16::MIN)),
        ("high", Self(-16384)),
        ("default", Self(0)),
        ("low", Self(16384)),
        ("lowest", Self(i16::MAX)),
    ];

    /// The priority of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|(n, _)| *n == name).map(|(_, p)| p)
    }
}
