//! What of the store stands behind a run's calls: a narrow boundary, so that the sandbox knows no store.
//!
//! There are two: a node's, which reads committed values and keeps checkpoints, and [`Alone`], for runs without a store
//! (`runner plugin invoke`, tests of the sandbox), which is empty and keeps nothing. What a run *stages* does not go through
//! here: it is in its report, and recorded with its outcome.

/// What a run may read of the store, and keep while it goes on.
pub trait Backing: Send + Sync {
    /// A committed value of the plugin's own.
    ///
    /// # Errors
    /// The store cannot be read.
    fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, Unavailable>;

    /// Committed keys of the plugin's own, ascending, that begin with `prefix` and come after `after`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn kv_keys(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Unavailable>;

    /// How many keys the tenant has.
    ///
    /// # Errors
    /// The store cannot be read.
    fn kv_len(&self) -> Result<u64, Unavailable>;

    /// The output of a job of the same tenant, which the run's job waited for; none: it has none, or its record is gone.
    ///
    /// # Errors
    /// The store cannot be read.
    fn output_of(&self, job: u64) -> Result<Option<Vec<u8>>, Unavailable>;

    /// Keeps what a later run may resume from. Returns at once; written with the run's fence, at most once a second.
    fn checkpoint(&self, bytes: &[u8]);
}

/// The store cannot be read now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be read: {0}")]
pub struct Unavailable(pub String);

/// One write of a durable value, to be recorded with the run's outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvWrite {
    /// Which.
    pub key: String,
    /// What it must be for the write to hold; none: anything.
    pub expected: Option<Option<Vec<u8>>>,
    /// What it is to be; none: absent.
    pub value: Option<Vec<u8>>,
}

/// Behind runs without a store: nothing was ever written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Backing for Alone {
    fn kv_get(&self, _key: &str) -> Result<Option<Vec<u8>>, Unavailable> {
        Ok(None)
    }

    fn kv_keys(&self, _prefix: &str, _after: Option<&str>, _limit: u32) -> Result<Vec<String>, Unavailable> {
        Ok(Vec::new())
    }

    fn kv_len(&self) -> Result<u64, Unavailable> {
        Ok(0)
    }

    fn output_of(&self, _job: u64) -> Result<Option<Vec<u8>>, Unavailable> {
        Ok(None)
    }

    fn checkpoint(&self, _bytes: &[u8]) {}
}
