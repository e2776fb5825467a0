//! Containers of blobs: a folder, the process's memory, or a bucket of S3 and its kin, behind one interface.
//!
//! [`Opened`] stands beside a container's place in the operator's rules, opens it at its first use and keeps it for as long
//! as those rules live, so there are at most as many as the configuration names. A [`Writer`] that is dropped unfinished
//! leaves nothing, whatever ended its run. What may be done at all is for `grants` to say, what one run may have open for
//! [`Writers`].
//!
//! Files are read and written on threads that may wait, never on the guests' own. Errors that a guest reads name no path
//! and no address of the operator's; their sources do.

mod folder;
mod memory;
mod name;
mod s3;
mod writers;

use std::error::Error;
use std::sync::Arc;

use tokio::sync::OnceCell;

use self::folder::{Folder, FolderWriter};
use self::memory::{Memory, MemoryWriter};
pub(crate) use self::name::BlobName;
use self::s3::{S3, S3Writer};
pub(crate) use self::writers::Writers;
use super::grants::{BlobAt, BlobPlace};

/// What crosses in one call, in either direction.
pub(crate) const CALL_BYTES_MAX: usize = 1 << 20;
/// Names of one answer.
pub(crate) const LISTED_MAX: u32 = 1_000;
/// Sizes and offsets are 32 bits in the contract.
const BLOB_BYTES_MAX: u64 = u32::MAX as u64;

/// Why a call on a container was refused or went wrong; nothing was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("there is no blob `{0}`")]
    NotFound(BlobName),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Limit(String),
    /// `said` is what a guest may know; the source is for the operator.
    #[error("the container cannot be used now: {said}")]
    Unavailable {
        said: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// A container that is open.
#[derive(Debug)]
pub(crate) enum Container {
    Folder(Folder),
    Memory(Memory),
    S3(S3),
}

/// A blob that is being written.
#[derive(Debug)]
pub(crate) enum Writer {
    Folder(FolderWriter),
    Memory(MemoryWriter),
    S3(S3Writer),
}

/// A container's place for the open container itself; copies share it.
#[derive(Clone, Default)]
pub(super) struct Opened(Arc<OnceCell<Arc<Container>>>);

impl Opened {
    /// The container of this place, opened if nobody did before. What cannot be opened is tried again at the next call.
    pub(super) async fn get(&self, place: &BlobPlace) -> Result<Arc<Container>, BlobError> {
        let opened = self.0.get_or_try_init(async || {
            let place = place.clone();
            // Folders are made, and the machine's certificates are read.
            blocking(move || Container::open(&place).map(Arc::new)).await
        });
        opened.await.map(Arc::clone)
    }
}

/// Whether it is open says nothing about a place.
impl PartialEq for Opened {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Opened {}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.initialized() { "Opened" } else { "Unopened" })
    }
}

impl Container {
    fn open(place: &BlobPlace) -> Result<Self, BlobError> {
        match &place.at {
            BlobAt::Folder { base, below } => Folder::open(base, below, place.mode.write).map(Self::Folder),
            BlobAt::Memory => Ok(Self::Memory(Memory::default())),
            BlobAt::S3(bucket) => S3::open(bucket).map(Self::S3),
        }
    }

    /// None: there is no such blob.
    pub(crate) async fn size(&self, name: &BlobName) -> Result<Option<u32>, BlobError> {
        let found = match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.clone());
                blocking(move || folder.size(&name)).await?
            }
            Self::Memory(memory) => memory.size(name),
            Self::S3(s3) => s3.size(name).await?,
        };
        let too_large = |_| BlobError::Limit(format!("the blob `{name}` has 4 GiB or more"));
        found.map(|bytes| u32::try_from(bytes).map_err(too_large)).transpose()
    }

    /// Shorter than `len` only at the blob's end.
    pub(crate) async fn read(&self, name: &BlobName, offset: u32, len: u32) -> Result<Vec<u8>, BlobError> {
        if len as usize > CALL_BYTES_MAX {
            return Err(BlobError::Limit(format!("{len} bytes in one read; at most {CALL_BYTES_MAX}")));
        }
        match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.clone());
                blocking(move || folder.read(&name, offset, len)).await
            }
            Self::Memory(memory) => memory.read(name, offset, len),
            Self::S3(s3) => s3.read(name, offset, len).await,
        }
    }

    /// Opens a write. Nothing is to be seen of it before [`Writer::finish`].
    async fn begin(&self, name: BlobName) -> Result<Writer, BlobError> {
        match self {
            Self::Folder(folder) => {
                let folder = folder.clone();
                blocking(move || folder.begin(name)).await.map(Writer::Folder)
            }
            Self::Memory(memory) => Ok(Writer::Memory(memory.begin(name))),
            Self::S3(s3) => Ok(Writer::S3(s3.begin(name))),
        }
    }

    /// Removes a blob, if there is one.
    pub(crate) async fn remove(&self, name: &BlobName) -> Result<(), BlobError> {
        match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.clone());
                blocking(move || folder.remove(&name)).await
            }
            Self::Memory(memory) => {
                memory.remove(name);
                Ok(())
            }
            Self::S3(s3) => s3.remove(name).await,
        }
    }

    /// Names that begin with `prefix`, ascending, after `after`, at most `limit` and at most [`LISTED_MAX`].
    pub(crate) async fn names(
        &self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<String>, BlobError> {
        let limit = limit.min(LISTED_MAX) as usize;
        // No name is longer, and these are carried through every name that is looked at.
        if prefix.len() > name::NAME_BYTES_MAX || after.as_ref().is_some_and(|after| after.len() > name::NAME_BYTES_MAX)
        {
            return Err(BlobError::Invalid(format!(
                "`prefix` and `after` have at most {} bytes",
                name::NAME_BYTES_MAX
            )));
        }
        if limit == 0 {
            return Ok(Vec::new());
        }
        match self {
            Self::Folder(folder) => {
                let folder = folder.clone();
                blocking(move || folder.names(&prefix, after.as_deref(), limit)).await
            }
            Self::Memory(memory) => Ok(memory.names(&prefix, after.as_deref(), limit)),
            Self::S3(s3) => s3.names(&prefix, after, limit).await,
        }
    }
}

impl Writer {
    /// Bytes that are held in the process's memory for it, and that nothing else counts.
    fn held_bytes(&self) -> usize {
        match self {
            Self::Folder(_) | Self::Memory(_) => 0,
            Self::S3(writer) => writer.held_bytes(),
        }
    }

    /// Takes the next part. An error ends the write: what came before is gone.
    async fn write(self, data: Vec<u8>) -> Result<Self, BlobError> {
        match self {
            Self::Folder(writer) => blocking(move || writer.write(&data)).await.map(Self::Folder),
            Self::Memory(writer) => writer.write(&data).map(Self::Memory),
            Self::S3(writer) => writer.write(&data).await.map(Self::S3),
        }
    }

    /// The blob appears, or replaces the old one, as a whole; it survives a crash if its container does.
    async fn finish(self) -> Result<(), BlobError> {
        match self {
            Self::Folder(writer) => blocking(move || writer.finish()).await,
            Self::Memory(writer) => writer.finish(),
            Self::S3(writer) => writer.finish().await,
        }
    }
}

impl BlobError {
    /// The contract's word for it.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Invalid(_) => "invalid",
            Self::Limit(_) => "limit",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

fn unavailable(said: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> BlobError {
    BlobError::Unavailable { said: said.into(), source: source.into() }
}

/// Does what may wait for a disk, on a thread for that. It goes on if nobody waits for it any more, and what it answers
/// is dropped then.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // The process ends, or the work panicked, which is a bug.
        Err(error) => Err(unavailable("it was given up", error)),
    }
}
