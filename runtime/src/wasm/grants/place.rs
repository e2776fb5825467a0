//! Where containers of blobs lie, and what may be done with them.

use std::sync::Arc;

use super::Secret;
use crate::wasm::blobs::{BlobError, Container, Opened};

/// What may be done with the blobs of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobMode {
    /// Sizes, names and contents.
    pub read: bool,
    /// Writing and removing.
    pub write: bool,
}

/// Where a container of blobs lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobPlace {
    /// What may be done with it.
    pub mode: BlobMode,
    /// What keeps it.
    pub at: BlobAt,
    opened: Opened,
}

/// What keeps a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobAt {
    /// A folder below the configuration's, which no link leads out of.
    Folder {
        /// The configuration's.
        base: std::path::PathBuf,
        /// Relative to that.
        below: std::path::PathBuf,
    },
    /// The process's memory: gone with it.
    Memory,
    /// A bucket of S3 or its kin.
    S3(Bucket),
}

/// See [`BlobAt::S3`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What all names in it begin with; empty: nothing.
    pub prefix: String,
    /// Where it is asked for, if not at Amazon's.
    pub endpoint: Option<String>,
    /// Its region.
    pub region: Option<String>,
    /// Who asks; none: unsigned requests.
    pub keys: Option<(Secret, Secret)>,
}

impl BlobMode {
    /// Neither reading nor writing goes beyond what both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { read: self.read && other.read, write: self.write && other.write }
    }

    /// The word for it in manifests and configurations.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "read" => Some(Self { read: true, write: false }),
            "write" => Some(Self { read: false, write: true }),
            "read-write" => Some(Self { read: true, write: true }),
            _ => None,
        }
    }
}

impl BlobPlace {
    /// The keys that its bucket is asked with.
    #[must_use]
    pub fn keys(&self) -> Option<[Secret; 2]> {
        match &self.at {
            BlobAt::S3(Bucket { keys: Some((id, key)), .. }) => Some([id.clone(), key.clone()]),
            _ => None,
        }
    }

    /// A place that nobody has opened yet.
    #[must_use]
    pub fn new(mode: BlobMode, at: BlobAt) -> Self {
        Self { mode, at, opened: Opened::default() }
    }

    /// What is there; opened at the first call, and kept.
    pub(in crate::wasm) async fn open(&self) -> Result<Arc<Container>, BlobError> {
        self.opened.get(self).await
    }
}
