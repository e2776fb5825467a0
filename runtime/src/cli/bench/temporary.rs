//! A folder for a store that is gone afterwards.
//!
//! Who is killed cleans up nothing, so whoever makes such a folder first removes those of the dead: the living hold a lock
//! in theirs, which ends with its process, however that ends. What only looks like one, by its name or by what is in it,
//! is left alone.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::super::exit::{Code, Failure};
use super::super::output::note;

/// How its name begins; a random number follows.
const PREFIX: &str = "runner-bench-";
/// Hexadecimal digits of that number.
const DIGITS: usize = 16;
/// The file that is locked while its process lives.
const HELD: &str = "bench.lock";
/// The store's folder.
const STORE: &str = "store";
/// How often it is begun anew where another process takes the new folder for one of the dead, in the moment before it is
/// locked: twice in a row is next to impossible.
const TRIES_MAX: u32 = 8;

/// See the module.
pub(super) struct Temporary {
    folder: PathBuf,
    store: PathBuf,
    /// Its lock says that we live.
    _held: File,
}

impl Temporary {
    /// Makes one in this folder, and removes those that killed processes have left there.
    pub(super) fn make() -> Result<Self, Failure> {
        remove_dead();
        for _ in 0..TRIES_MAX {
            let key = getrandom::u64().expect("the system has random numbers, or nothing works");
            let folder = PathBuf::from(format!("{PREFIX}{key:016x}"));
            DirBuilder::new().mode(0o700).create(&folder).map_err(|error| unwritable(&error))?;
            if let Some(held) = hold(&folder).map_err(|error| unwritable(&error))? {
                return Ok(Self { store: folder.join(STORE), folder, _held: held });
            }
        }
        Err(Failure::new(
            Code::Conflict,
            "other processes remove what is made here, again and again; go to another folder",
        ))
    }

    /// Where the store is to be.
    pub(super) fn store(&self) -> &Path {
        &self.store
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

/// Takes the lock of such a folder; none: another process has it, or has removed it meanwhile.
fn hold(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(HELD);
    let file = match File::options().write(true).create(true).truncate(false).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        // Its name is random, so what is there now is what was opened.
        Ok(()) => Ok(path.exists().then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes the folders here whose processes are dead. Where that fails, measuring does not.
fn remove_dead() {
    let Ok(entries) = fs::read_dir(".") else { return };
    for entry in entries.flatten() {
        let folder = PathBuf::from(entry.file_name());
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && is_name(&entry.file_name()) && has_nothing_else(&folder) {
            // Another user's cannot be held, and is not ours to remove.
            if let Ok(Some(_held)) = hold(&folder) {
                remove(&folder);
            }
        }
    }
}

fn is_name(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    number.is_some_and(|n| n.len() == DIGITS && n.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')))
}

/// Whether in a folder is nothing but what we put there.
fn has_nothing_else(folder: &Path) -> bool {
    let ours = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| [HELD, STORE].iter().any(|name| entry.file_name() == *name))
    };
    fs::read_dir(folder).is_ok_and(|mut entries| entries.all(ours))
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Ok(()) => {}
        // Another process tidies up just now, and removes the rest.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
        Err(error) => note(&format!("`{}` is left, remove it: {error}", folder.display())),
    }
}

/// Nothing can be made in this folder.
fn unwritable(error: &io::Error) -> Failure {
    let here =
        std::env::current_dir().map_or_else(|_| "this folder".to_owned(), |path| format!("`{}`", path.display()));
    let mend =
        "go to a folder that this user may write, on the disk that is to be measured, or name a store with --data";
    let code = match error.kind() {
        // No such folder: it was removed meanwhile, or its file system makes none.
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotFound => {
            Code::NotAllowed
        }
        _ => Code::Failed,
    };
    Failure::new(code, format!("no temporary store can be made in {here}: {error}; {mend}"))
}
