//! Files that are put into a plugin folder and taken out of it, each in one step: whoever reads sees the old one or the
//! new one. Like reading, it works below an open folder and follows no link.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::{Access, AtFlags, FileType, FlockOperation, Mode, OFlags, accessat, flock, fsync};
use rustix::fs::{mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::Folder;

/// What is not complete yet. Hidden, so that nobody takes it for a plugin; and always the same name, so that what a process
/// leaves that was killed is replaced by the next one.
const INCOMING: [&str; 2] = [".incoming", ".incoming.toml"];

/// A file that is complete and has no name yet.
#[must_use = "it is not there until it has its name"]
pub(in super::super) struct Incoming<'a> {
    folder: &'a Folder,
    is_at: &'static str,
}

impl Folder {
    /// Takes the folder for itself, among all that put files into it in this way, until it is closed. False: somebody else
    /// has it.
    pub(in super::super) fn take(&self) -> io::Result<bool> {
        match flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether files can be put into it, as far as that can be told beforehand.
    pub(in super::super) fn may_be_written(&self) -> io::Result<()> {
        accessat(&self.fd, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty()).map_err(io::Error::from)
    }

    /// Makes a folder in it, unless there is one.
    pub(in super::super) fn make_folder(&self, name: &str) -> io::Result<()> {
        match mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether something has this name, whatever it is.
    pub(in super::super) fn has(&self, name: &str) -> bool {
        statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Whether a folder has this name.
    pub(in super::super) fn has_folder(&self, name: &str) -> bool {
        let found = statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory)
    }

    /// Writes a file, durably, that has no name yet: the first or the second of two.
    pub(in super::super) fn receive(&self, nth: usize, bytes: &[u8]) -> io::Result<Incoming<'_>> {
        let is_at = INCOMING[nth];
        self.remove(is_at)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.fd, is_at, flags, Mode::from_raw_mode(0o644))?;
        let incoming = Incoming { folder: self, is_at };
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(incoming)
    }

    /// Removes a file, or the link that stands for it. Whether there was one.
    pub(in super::super) fn remove(&self, name: &str) -> io::Result<bool> {
        match unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes what was named and removed durable.
    pub(in super::super) fn sync(&self) -> io::Result<()> {
        fsync(&self.fd).map_err(io::Error::from)
    }
}

impl Incoming<'_> {
    /// Gives it its name, in the place of what has it.
    pub(in super::super) fn name(self, name: &str) -> io::Result<()> {
        renameat(&self.folder.fd, self.is_at, &self.folder.fd, name).map_err(io::Error::from)
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        // Once it has its name, there is nothing. What cannot be removed is replaced by the next one.
        _ = self.folder.remove(self.is_at);
    }
}
