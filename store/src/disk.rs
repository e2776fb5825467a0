//! Keeps a reserve of disk, so that a full disk is a state of the store and not a failure of it: below the reserve nothing
//! new is taken, below half of it nothing is started, and what runs can still be recorded.
//!
//! A ballast file in the store's folder is given up when a start finds the disk full: then there is room for deletes and
//! retention, which would otherwise need the very room that they are to make.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::clock::Clock;
use crate::dir::StoreDir;
use crate::error::StoreError;
use crate::job::{Millis, Time};

/// The reserve is never more than this: room for a file that doubles while it is still small.
pub const RESERVE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// The reserve of a small disk, in hundredths of it.
const RESERVE_PERCENT: u64 = 5;
/// The ballast: enough for some thousand transactions of deletes.
pub const BALLAST_BYTES: u64 = 64 * 1024 * 1024;
/// How long what was found out about the file's free pages holds: it takes reading all of its keys.
const FREE_PAGES_HOLD: Millis = Millis::secs(30);
/// How long what was found out about the disk holds: a system call, which is cheap and yet not for every batch.
const SPACE_HOLDS: Millis = Millis(500);

/// What the disk's room allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Room {
    /// Everything.
    #[default]
    Plenty,
    /// No enqueue from outside; runs go on.
    Low,
    /// No claim either: only what runs is recorded, and what makes room.
    Critical,
}

/// What a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
}

/// Bytes of a disk that are kept free: 1 GiB or 5 %, whichever is less.
#[must_use]
pub fn reserve(total_bytes: u64) -> u64 {
    RESERVE_BYTES_MAX.min(total_bytes / 100 * RESERVE_PERCENT)
}

/// What so much free room allows on a disk of this size. `free_bytes` are those of the disk and those within the store's
/// file together.
#[must_use]
pub fn room(free_bytes: u64, total_bytes: u64) -> Room {
    let reserve = reserve(total_bytes);
    if free_bytes >= reserve {
        Room::Plenty
    } else if free_bytes >= reserve / 2 {
        Room::Low
    } else {
        Room::Critical
    }
}

/// What the disk of this folder has.
///
/// # Errors
/// The system does not say.
pub fn space(folder: &Path) -> Result<Space, StoreError> {
    let found = rustix::fs::statvfs(folder).map_err(|error| StoreError::Io {
        path: folder.to_owned(),
        doing: "asking how much room the disk has",
        source: error.into(),
    })?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Space { free_bytes: bytes(found.f_bavail), total_bytes: bytes(found.f_blocks) })
}

type Probe<T> = Box<dyn Fn() -> Result<T, StoreError> + Send + Sync>;

/// The disk of a store, asked as seldom as will do.
pub struct Disk {
    space: Probe<Space>,
    free_pages: Probe<u64>,
    clock: Clock,
    seen: Mutex<Seen>,
}

/// What was found out, and when.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    space: Option<(Time, Space)>,
    free_pages: Option<(Time, u64)>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl Disk {
    /// A disk that is asked by `space`, and a file of which `free_pages` says how many bytes nothing uses.
    #[must_use]
    pub fn new(
        space: impl Fn() -> Result<Space, StoreError> + Send + Sync + 'static,
        free_pages: impl Fn() -> Result<u64, StoreError> + Send + Sync + 'static,
        clock: Clock,
    ) -> Self {
        Self { space: Box::new(space), free_pages: Box::new(free_pages), clock, seen: Mutex::default() }
    }

    /// The disk of a store's folder, and the file of the store that is open.
    #[must_use]
    pub fn of(store: &crate::dir::LiveStore, clock: Clock) -> Self {
        let (folder, file) = (store.dir().path().to_owned(), store.clone());
        Self::new(move || space(&folder), move || file.free_bytes(), clock)
    }

    /// What the room allows now. A disk that does not answer is no reason to stop: it counts as having plenty, and what
    /// cannot be written will say so itself.
    #[must_use]
    pub fn room(&self) -> Room {
        let now = self.clock.now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let space = match fresh(seen.space, now, SPACE_HOLDS) {
            Some(space) => space,
            None => match (self.space)() {
                Ok(space) => {
                    seen.space = Some((now, space));
                    space
                }
                Err(error) => {
                    tracing::warn!(%error, "how much room there is, is not known");
                    return Room::Plenty;
                }
            },
        };
        let at_least = room(space.free_bytes, space.total_bytes);
        if at_least == Room::Plenty {
            return Room::Plenty;
        }
        // Only now is it worth finding out what the file itself has.
        let free_pages = fresh(seen.free_pages, now, FREE_PAGES_HOLD).unwrap_or_else(|| {
            let found = (self.free_pages)().unwrap_or_default();
            seen.free_pages = Some((now, found));
            found
        });
        room(space.free_bytes.saturating_add(free_pages), space.total_bytes)
    }
}

fn fresh<T: Copy>(seen: Option<(Time, T)>, now: Time, holds: Millis) -> Option<T> {
    // A clock that went back says nothing about how old this is.
    seen.filter(|(at, _)| *at <= now && now.0 - at.0 < holds.0).map(|(_, found)| found)
}

/// What became of the ballast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ballast {
    /// It is there.
    Kept,
    /// It was made.
    Made,
    /// It was given up, as the disk is full.
    Freed,
    /// There is none, and no room for one.
    None,
}

/// Looks after the ballast of a store when it starts: gives it up where the disk is full, and makes it again where there
/// is plenty. It is never made where it would itself use up the reserve.
///
/// # Errors
/// The disk does not answer, or the ballast could not be removed. That it could not be made is no error.
pub fn settle_ballast(dir: &StoreDir) -> Result<Ballast, StoreError> {
    settle_ballast_on(dir, space(dir.path())?)
}

/// The same on a disk that has so much.
///
/// # Errors
/// As [`settle_ballast`].
pub fn settle_ballast_on(dir: &StoreDir, space: Space) -> Result<Ballast, StoreError> {
    let (path, there) = (dir.ballast(), dir.ballast().exists());
    match (room(space.free_bytes, space.total_bytes), there) {
        (Room::Critical, true) => {
            fs::remove_file(&path).map_err(|source| StoreError::Io {
                path,
                doing: "giving up the ballast, as the disk is full",
                source,
            })?;
            Ok(Ballast::Freed)
        }
        (_, true) => Ok(Ballast::Kept),
        (Room::Plenty, false)
            if room(space.free_bytes.saturating_sub(BALLAST_BYTES), space.total_bytes) == Room::Plenty =>
        {
            match make_ballast(&path) {
                Ok(()) => Ok(Ballast::Made),
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "no ballast could be made for a full disk");
                    _ = fs::remove_file(&path);
                    Ok(Ballast::None)
                }
            }
        }
        (_, false) => Ok(Ballast::None),
    }
}

/// Room that is really taken: a file of holes would free nothing.
fn make_ballast(path: &Path) -> std::io::Result<()> {
    let file = File::options().write(true).create_new(true).open(path)?;
    #[cfg(target_os = "linux")]
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST_BYTES) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        result => return Ok(result?),
    }
    fill(&file)
}

fn fill(mut file: &File) -> std::io::Result<()> {
    use std::io::Write;
    const PIECE: usize = 1024 * 1024;
    // Not zeros, which some file systems do not store.
    let piece = vec![0xb5_u8; PIECE];
    (0..BALLAST_BYTES / PIECE as u64).try_for_each(|_| file.write_all(&piece))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const GIB: u64 = 1024 * 1024 * 1024;

    #[test]
    fn the_reserve_is_a_gibibyte_or_a_twentieth() {
        let check = |free, total, expected| assert_eq!(room(free, total), expected, "{free} of {total}");
        check(GIB, 1_000 * GIB, Room::Plenty);
        check(GIB - 1, 1_000 * GIB, Room::Low);
        check(GIB / 2, 1_000 * GIB, Room::Low);
        check(GIB / 2 - 1, 1_000 * GIB, Room::Critical);
        check(0, 1_000 * GIB, Room::Critical);
        check(5_000, 100_000, Room::Plenty);
        check(4_999, 100_000, Room::Low);
        check(2_500, 100_000, Room::Low);
        check(2_499, 100_000, Room::Critical);
        // A file system without a size, as some network ones say, has nothing to reserve of.
        check(0, 0, Room::Plenty);
    }

    /// A disk of 100 GB with so many bytes free, and how often disk and file were asked.
    fn disk(free: u64, pages: u64) -> (Disk, Clock, Arc<AtomicU64>, [Arc<AtomicU64>; 2]) {
        let clock = Clock::manual(Time(1_000));
        let free = Arc::new(AtomicU64::new(free));
        let asked = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
        let (now_free, [of_disk, of_file]) = (Arc::clone(&free), asked.clone());
        let space = move || {
            of_disk.fetch_add(1, Ordering::SeqCst);
            Ok(Space { free_bytes: now_free.load(Ordering::SeqCst), total_bytes: 100 * GIB })
        };
        let pages = move || {
            of_file.fetch_add(1, Ordering::SeqCst);
            Ok(pages)
        };
        (Disk::new(space, pages, clock.clone()), clock, free, asked)
    }

    #[test]
    fn free_pages_of_the_file_count_and_are_asked_for_only_when_it_matters() {
        let (disk, clock, free, [of_disk, of_file]) = disk(2 * GIB, GIB / 2);
        for _ in 0..10 {
            assert_eq!(disk.room(), Room::Plenty);
        }
        assert_eq!((of_disk.load(Ordering::SeqCst), of_file.load(Ordering::SeqCst)), (1, 0));
        free.store(GIB * 3 / 4, Ordering::SeqCst);
        clock.advance(SPACE_HOLDS);
        assert_eq!(disk.room(), Room::Plenty, "half a GiB lies within the file");
        free.store(GIB / 4, Ordering::SeqCst);
        clock.advance(SPACE_HOLDS);
        assert_eq!(disk.room(), Room::Low);
        free.store(0, Ordering::SeqCst);
        clock.advance(SPACE_HOLDS);
        assert_eq!(disk.room(), Room::Low, "half a GiB is half of the reserve");
        assert_eq!(of_file.load(Ordering::SeqCst), 1);
        clock.advance(FREE_PAGES_HOLD);
        assert_eq!(disk.room(), Room::Low);
        assert_eq!(of_file.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_disk_that_does_not_answer_stops_nobody() {
        let error = || StoreError::Engine("no answer".to_owned());
        let disk = Disk::new(move || Err(error()), move || Err(error()), Clock::System);
        assert_eq!(disk.room(), Room::Plenty);
    }

    #[test]
    fn the_ballast_is_made_kept_and_given_up() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let store = StoreDir::new(dir.path());
        let on = |free_bytes| settle_ballast_on(&store, Space { free_bytes, total_bytes: 100 * GIB }).unwrap();
        assert_eq!(on(0), Ballast::None);
        assert_eq!(on(GIB + BALLAST_BYTES - 1), Ballast::None, "it would use up the reserve itself");
        assert_eq!(on(2 * GIB), Ballast::Made);
        let found = fs::metadata(store.ballast()).unwrap();
        assert!(found.len() == BALLAST_BYTES && found.blocks() * 512 >= BALLAST_BYTES, "its room is really taken");
        assert_eq!(on(2 * GIB), Ballast::Kept);
        assert_eq!(on(GIB * 3 / 4), Ballast::Kept, "the reserve comes first");
        assert_eq!(on(GIB / 4), Ballast::Freed);
        assert!(!store.ballast().exists());
        assert!(space(dir.path()).unwrap().total_bytes > 0);
    }
}
