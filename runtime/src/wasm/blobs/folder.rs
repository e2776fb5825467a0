//! A container that is a folder. Nothing in it leads out of it: every path is resolved below its open descriptor, and a link
//! that leaves it is refused by the system, not by a look before.
//!
//! A write goes to a file of its own in the container's folder, [`PARTIAL`] and a random number, is synced, and renamed to
//! its name; dropped before that, the file is removed. The file is locked as long as somebody writes it, so that what a
//! killed process left is known, and removed when the container is opened next. Everything here waits for the disk: not
//! for async code.

mod list;

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use runner_store::disk;
use rustix::fs::OFlags;

use super::name::PARTIAL;
use super::{BlobError, BlobName, unavailable};

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: Arc<Dir>,
}

/// A blob that is being written.
#[derive(Debug)]
pub(crate) struct FolderWriter {
    partial: Partial,
    name: BlobName,
}

/// The file of an unfinished write.
#[derive(Debug)]
struct Partial {
    root: Arc<Dir>,
    file: File,
    path: String,
    /// It has its name, and is not to be removed.
    renamed: bool,
}

impl Folder {
    /// Opens the folder `below` the folder `base`. One that may be written is made, where it is not there yet.
    pub(super) fn open(base: &Path, below: &Path, write: bool) -> Result<Self, BlobError> {
        let open = || {
            let base = Dir::open_ambient_dir(base, ambient_authority())?;
            match base.open_dir(below) {
                Err(error) if write && error.kind() == ErrorKind::NotFound => {
                    base.create_dir_all(below)?;
                    base.open_dir(below)
                }
                opened => opened,
            }
        };
        let root = open().map_err(|error| match error.kind() {
            ErrorKind::NotFound => unavailable("its folder is not there", error),
            _ if is_escape(&error) => unavailable("its folder is a link that leads elsewhere", error),
            _ => failed(error),
        })?;
        if write {
            sweep(&root).map_err(failed)?;
        }
        Ok(Self { root: Arc::new(root) })
    }

    pub(super) fn size(&self, name: &BlobName) -> Result<Option<u64>, BlobError> {
        match self.root.metadata(name.as_str()) {
            Ok(found) => Ok(found.is_file().then(|| found.len())),
            Err(error) => match broken(name, error) {
                BlobError::NotFound(_) => Ok(None),
                error => Err(error),
            },
        }
    }

    pub(super) fn read(&self, name: &BlobName, offset: u32, len: u32) -> Result<Vec<u8>, BlobError> {
        let mut options = OpenOptions::new();
        // Opening a pipe would wait for its writer.
        options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let file = self.root.open_with(name.as_str(), &options).map_err(|error| broken(name, error))?.into_std();
        let found = file.metadata().map_err(|error| broken(name, error))?;
        if !found.is_file() {
            return Err(BlobError::NotFound(name.clone()));
        }
        let rest = found.len().saturating_sub(u64::from(offset)).min(u64::from(len));
        let mut data = vec![0; usize::try_from(rest).unwrap_or(0)];
        let mut filled = 0;
        while filled < data.len() {
            match file.read_at(&mut data[filled..], u64::from(offset) + filled as u64) {
                // Somebody made it shorter in the meantime.
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(name, error)),
            }
        }
        data.truncate(filled);
        Ok(data)
    }

    pub(super) fn begin(&self, name: BlobName) -> Result<FolderWriter, BlobError> {
        let number = getrandom::u64().map_err(|error| unavailable("there are no random numbers", error))?;
        let path = format!("{PARTIAL}{number:016x}");
        let file = self.root.open_with(&path, OpenOptions::new().write(true).create_new(true)).map_err(failed)?;
        let partial = Partial { root: Arc::clone(&self.root), file: file.into_std(), path, renamed: false };
        // Where the file system knows no locks, nobody is found to be gone, and nothing is swept.
        _ = partial.file.try_lock();
        Ok(FolderWriter { partial, name })
    }

    pub(super) fn remove(&self, name: &BlobName) -> Result<(), BlobError> {
        let Err(error) = self.root.remove_file(name.as_str()) else { return Ok(()) };
        match broken(name, error) {
            BlobError::NotFound(_) => Ok(()),
            // A folder is no blob, so there is none of this name.
            _ if self.root.is_dir(name.as_str()) => Ok(()),
            error => Err(error),
        }
    }

    pub(super) fn names(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>, BlobError> {
        list::names(&self.root, prefix, after, limit).map_err(failed)
    }
}

impl FolderWriter {
    pub(super) fn write(mut self, data: &[u8]) -> Result<Self, BlobError> {
        room(&self.partial.file, data.len())?;
        self.partial.file.write_all(data).map_err(failed)?;
        Ok(self)
    }

    pub(super) fn finish(mut self) -> Result<(), BlobError> {
        self.partial.file.sync_all().map_err(failed)?;
        let (folder, last) = self.name.split();
        let root = Arc::clone(&self.partial.root);
        let rename = || match folder {
            None => {
                root.rename(&self.partial.path, &root, last)?;
                sync(&root)
            }
            Some(folder) => {
                let (dir, made) = match root.open_dir(folder) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        root.create_dir_all(folder)?;
                        (root.open_dir(folder)?, true)
                    }
                    opened => (opened?, false),
                };
                root.rename(&self.partial.path, &dir, last)?;
                sync(&dir)?;
                if made { sync_above(&root, folder) } else { Ok(()) }
            }
        };
        let renamed = rename();
        self.partial.renamed = renamed.is_ok();
        renamed.map_err(|error| match error.kind() {
            ErrorKind::NotFound => unavailable("its folder was changed by somebody else", error),
            ErrorKind::IsADirectory => BlobError::Invalid(format!("`{}` is a folder of the container", self.name)),
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                BlobError::Invalid(format!("a part of `{}` before a slash is itself a blob", self.name))
            }
            _ => broken(&self.name, error),
        })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.renamed {
            return;
        }
        let (root, path) = (Arc::clone(&self.root), std::mem::take(&mut self.path));
        let remove = move || {
            if let Err(error) = root.remove_file(&path)
                && error.kind() != ErrorKind::NotFound
            {
                tracing::warn!(%error, path, "an unfinished blob was not removed; the next start does it");
            }
        };
        // A large file takes the disk its time, and the guests' threads have none.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Removes the files of unfinished writes whose process is gone.
fn sweep(root: &Dir) -> io::Result<()> {
    for entry in root.entries()? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(PARTIAL.as_bytes()) || !entry.file_type()?.is_file() {
            continue;
        }
        // Somebody else may have removed it since.
        let Ok(file) = root.open(&name) else { continue };
        match file.into_std().try_lock() {
            Ok(()) => _ = root.remove_file(&name),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
    Ok(())
}

/// Leaves the reserve of the disk alone: the store may be on it, and a full disk would stop all jobs.
fn room(file: &File, bytes: usize) -> Result<(), BlobError> {
    // A file system that does not say has to refuse the write itself.
    let Ok(found) = rustix::fs::fstatvfs(file) else { return Ok(()) };
    let bytes_of = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    let reserve = disk::reserve(bytes_of(found.f_blocks));
    if bytes_of(found.f_bavail).saturating_sub(bytes as u64) >= reserve {
        return Ok(());
    }
    Err(unavailable("its disk is nearly full", format!("fewer than {reserve} bytes would be left of the disk")))
}

/// What is in this folder survives a power cut.
fn sync(dir: &Dir) -> io::Result<()> {
    dir.open(".")?.sync_all()
}

/// As do the folders that lead to `folder`, which is below `root`.
fn sync_above(root: &Dir, folder: &str) -> io::Result<()> {
    let mut above = folder;
    while let Some((parent, _)) = above.rsplit_once('/') {
        sync(&root.open_dir(parent)?)?;
        above = parent;
    }
    sync(root)
}

/// A path that was refused because it leads out of the container: the one such refusal that is not the system's own.
fn is_escape(error: &io::Error) -> bool {
    error.kind() == ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

/// What went wrong with one name.
fn broken(name: &BlobName, error: io::Error) -> BlobError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => BlobError::NotFound(name.clone()),
        _ if is_escape(&error) => BlobError::Invalid(format!("`{name}` is a link that leads out of the container")),
        _ => failed(error),
    }
}

/// What went wrong with the folder or its disk; the kind of an error names no path.
fn failed(error: io::Error) -> BlobError {
    unavailable(error.kind().to_string(), error)
}
