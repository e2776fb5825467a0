//! A store that is in use, from aside: what can be read of its file while the writer has the engine.

use super::{Marker, StoreDir};
use crate::check::Report;
use crate::disk::{self, Room, Space};
use crate::engine::redb::{FileStats, Live, Meta};
use crate::error::StoreError;

/// See the module. Cheap to clone; keeps the file open.
#[derive(Clone)]
pub struct LiveStore {
    pub(super) dir: StoreDir,
    pub(super) file: Live,
}

/// What is in a store, and how much room there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Its marker.
    pub marker: Marker,
    /// What is in its file.
    pub file: FileStats,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of the file that nothing uses, which are written before it grows; the engine's own tables count as such.
    pub free_bytes: u64,
    /// What the disk has.
    pub disk: Space,
    /// Bytes of the disk that are kept free.
    pub reserve_bytes: u64,
    /// What that allows.
    pub room: Room,
}

impl LiveStore {
    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &StoreDir {
        &self.dir
    }

    /// The single numbers of the store, as they are now: its epoch, whether it is paused. Cheap.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn meta(&self) -> Result<Meta, StoreError> {
        self.file.meta()
    }

    /// Measures the store; reads every page of keys.
    ///
    /// # Errors
    /// The file or the folder could not be read.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let file = self.file.stats()?;
        let file_bytes = self.dir.file_bytes()?;
        let free_bytes = file_bytes.saturating_sub(file.live_bytes() + file.fragmented_bytes());
        let disk = disk::space(self.dir.path())?;
        let room = disk::room(disk.free_bytes + free_bytes, disk.total_bytes);
        let reserve_bytes = disk::reserve(disk.total_bytes);
        Ok(Stats { marker: self.dir.marker()?, file, file_bytes, free_bytes, disk, reserve_bytes, room })
    }

    /// Compares everything in the store with everything else, on a view, while it is in use: what [`examine`] finds but for
    /// damage within args and outputs, which only the checksums of pages show, and they need the file alone. Asks now and
    /// then whether to `go_on`.
    ///
    /// # Errors
    /// The file could not be read, or it was told to stop.
    ///
    /// [`examine`]: super::examine
    pub fn check(&self, go_on: &dyn Fn() -> bool) -> Result<Report, StoreError> {
        self.file.check(go_on)
    }

    /// Bytes of the file that nothing uses.
    ///
    /// # Errors
    /// As [`LiveStore::stats`].
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.stats()?.free_bytes)
    }
}
