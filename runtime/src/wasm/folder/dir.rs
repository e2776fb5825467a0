//! Plugin files, read below an open folder.
//!
//! A folder of a tenant is the tenant's to write, so nothing in it is taken at its word: a link that leaves the folder is
//! not followed (the kernel sees to it, as looking first would be a race), only regular files are read, a pipe or a device
//! is never opened to be waited for, and a file that changes while it is read is read again later.

mod write;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use runner_store::clock;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::{FolderError, LoadError};

/// Entries of one folder.
pub(super) const ENTRIES_MAX: usize = 10_000;
/// A file that was touched so lately may be touched again within what its file system's times can tell apart.
const SETTLED_AFTER_SECONDS: u64 = 2;
/// How often the kernel is asked again that saw a rename on the way.
const RENAMES_MAX: u32 = 8;

/// An open folder. Everything is named relative to it.
pub(super) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

/// Something in a folder.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    /// Its name, as far as that is text.
    pub(super) name: String,
    /// Whether all of it is.
    pub(super) is_text: bool,
    /// Whether it is a folder, or a link to one.
    pub(super) is_folder: bool,
}

/// When a file was last touched, as far as the system can tell: as long as it is the same, the file need not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    node: u64,
    bytes: u64,
    written: (i64, u64),
    touched: (i64, u64),
}

impl Folder {
    /// Opens the folder at `path`, which may be a link: it was named by whoever started this.
    pub(super) fn open(path: &Path) -> Result<Self, FolderError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path: path.to_owned() }),
            Err(Errno::NOENT) => Err(FolderError::Missing(path.to_owned())),
            Err(Errno::NOTDIR) => Err(FolderError::NotAFolder(path.to_owned())),
            Err(error) => Err(FolderError::Unreadable { path: path.to_owned(), source: error.into() }),
        }
    }

    /// Opens a folder in this one.
    pub(super) fn sub(&self, name: &str) -> Result<Self, LoadError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = self.path.join(name);
        match open_below(&self.fd, name, flags) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(error) => Err(not_opened(&path, error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it, by name.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, FolderError> {
        let unreadable = |error: Errno| FolderError::Unreadable { path: self.path.clone(), source: error.into() };
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let bytes = entry.file_name().to_bytes();
            if bytes == b"." || bytes == b".." {
                continue;
            }
            if entries.len() == ENTRIES_MAX {
                return Err(FolderError::TooMany(self.path.clone()));
            }
            let is_folder = match entry.file_type() {
                FileType::Directory => true,
                FileType::Symlink | FileType::Unknown => statat(&self.fd, entry.file_name(), AtFlags::empty())
                    .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory),
                _ => false,
            };
            let name = String::from_utf8_lossy(bytes).into_owned();
            entries.push(Entry { is_text: name.as_bytes() == bytes, name, is_folder });
        }
        entries.sort();
        Ok(entries)
    }

    /// When a file was last touched; none: there is no such file.
    pub(super) fn stamp(&self, name: &str) -> Result<Option<Stamp>, LoadError> {
        Ok(self.look(name)?.map(|(found, _)| Stamp::of(&found)))
    }

    /// A file of at most so many bytes; none: there is no such file.
    pub(super) fn read(&self, name: &str, bytes_max: u64) -> Result<Option<(Vec<u8>, Stamp)>, LoadError> {
        let Some((_, path)) = self.look(name)? else { return Ok(None) };
        // It may be something else by now, so this must not wait either.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = open_below(&self.fd, name, flags).map_err(|error| not_opened(&path, error))?;
        read_open(fd, &path, bytes_max).map(Some)
    }

    /// Looks at a file without opening it: to open a device may do something.
    fn look(&self, name: &str) -> Result<Option<(Stat, PathBuf)>, LoadError> {
        let path = self.path.join(name);
        let failed = |error: Errno| not_opened(&path, error);
        // Below the folder, or the target of a link would be looked at that is nobody's business.
        let found = match open_below(&self.fd, name, OFlags::PATH | OFlags::CLOEXEC) {
            Ok(fd) => fstat(&fd).map_err(failed)?,
            Err(Errno::NOENT) => {
                // A manifest whose link leads nowhere is not the same as none: it may have limited something.
                return match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Err(unreadable(&path, "it is a link to nothing; copy the file here", None)),
                    Err(_) => Ok(None),
                };
            }
            Err(error) => return Err(failed(error)),
        };
        regular(&path, &found)?;
        Ok(Some((found, path)))
    }
}

/// Reads a file that somebody named by its path, links and all.
pub(super) fn read_named(path: &Path, bytes_max: u64) -> Result<Vec<u8>, LoadError> {
    let failed = |error: Errno| not_opened(path, error);
    regular(path, &statat(CWD, path, AtFlags::empty()).map_err(failed)?)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = openat(CWD, path, flags, Mode::empty()).map_err(failed)?;
    Ok(read_open(fd, path, bytes_max)?.0)
}

/// Whether something has this name, whatever it is.
pub(super) fn is_there(path: &Path) -> bool {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

impl Stamp {
    fn of(found: &Stat) -> Self {
        Self {
            device: found.st_dev,
            node: found.st_ino,
            bytes: found.st_size.cast_unsigned(),
            written: (found.st_mtime, found.st_mtime_nsec),
            touched: (found.st_ctime, found.st_ctime_nsec),
        }
    }

    /// Whether the next change will show.
    pub(super) fn is_settled(&self) -> bool {
        u64::try_from(self.touched.0).is_ok_and(|at| at + SETTLED_AFTER_SECONDS < clock::wall().as_secs())
    }
}

fn open_below(folder: &OwnedFd, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{ResolveFlags, openat2};
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..RENAMES_MAX {
            match openat2(folder, name, flags, Mode::empty(), within) {
                // A rename on the way: the kernel cannot tell.
                Err(Errno::AGAIN) => {}
                // A kernel or a container that does not know the call.
                Err(Errno::NOSYS | Errno::PERM) => break,
                result => return result,
            }
        }
    }
    // The name has one part, so without links nothing leaves the folder.
    openat(folder, name, flags | OFlags::NOFOLLOW, Mode::empty())
}

fn regular(path: &Path, found: &Stat) -> Result<(), LoadError> {
    let what = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "it is a folder",
        FileType::Symlink => "it is a link, which cannot be followed safely here",
        _ => "it is a pipe, socket or device",
    };
    Err(unreadable(path, &format!("{what}; put a file here"), None))
}

/// Reads a file that is open, and says when it was last touched before and after.
fn read_open(fd: OwnedFd, path: &Path, bytes_max: u64) -> Result<(Vec<u8>, Stamp), LoadError> {
    let failed = |error: io::Error| unreadable(path, &error.to_string(), Some(error));
    let before = fstat(&fd).map_err(|error| failed(error.into()))?;
    regular(path, &before)?;
    let stamp = Stamp::of(&before);
    let mut file = File::from(fd);
    let mut bytes = Vec::with_capacity(usize::try_from(stamp.bytes.min(bytes_max)).unwrap_or(0));
    // One byte more than allowed shows that there is more.
    (&mut file).take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        let message = format!("it has {} bytes, at most {bytes_max} are read", stamp.bytes.max(bytes_max + 1));
        return Err(unreadable(path, &message, None));
    }
    let after = Stamp::of(&fstat(&file).map_err(|error| failed(error.into()))?);
    if after != stamp || bytes.len() as u64 != stamp.bytes {
        return Err(LoadError::Changing { path: path.to_owned() });
    }
    Ok((bytes, stamp))
}

fn not_opened(path: &Path, error: Errno) -> LoadError {
    let message = match error {
        Errno::NOENT => "it does not exist".to_owned(),
        Errno::ACCESS | Errno::PERM => "permission denied; make it readable for the runner".to_owned(),
        Errno::XDEV => "it is a link that leaves the plugin folder; copy the file here".to_owned(),
        Errno::LOOP => "it is a link that leads round in circles or out of reach; copy the file here".to_owned(),
        Errno::NXIO => "it is a pipe, socket or device; put a file here".to_owned(),
        error => io::Error::from(error).to_string(),
    };
    unreadable(path, &message, Some(error.into()))
}

pub(super) fn unreadable(path: &Path, message: &str, source: Option<io::Error>) -> LoadError {
    LoadError::Unreadable { path: path.to_owned(), message: message.to_owned(), source }
}
