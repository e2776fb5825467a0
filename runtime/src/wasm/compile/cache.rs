//! Compiled plugins, kept from one start to the next.
//!
//! A folder for the owner alone, and a random key beside it. An entry's name says what it was made of (the plugin's
//! digest, its flavour, the compiler and its settings), and its authentication code (HMAC-SHA-256) covers that and all of
//! it: one that was changed, cut, made elsewhere or renamed is reported, removed and compiled anew. What was not used for
//! the longest time goes when there is too much. Losing all of it costs time and nothing else.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use runner_store::disk;
use rustix::fs::{OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens};
use sha2::{Digest, Sha256};

use super::native::Artefact;
use crate::wasm::engine::Fingerprint;
use crate::wasm::plugin::Flavour;

/// What an entry begins with; its digit is the version of this format.
const MAGIC: [u8; 8] = *b"RUNNERa1";
/// The magic and the code.
const HEADER_BYTES: u64 = 8 + 32;
const KEY_BYTES: usize = 32;
/// How an entry's name ends.
const ENDING: &str = ".native";
/// Entries at most: two thousand versions of plugins.
const ENTRIES_MAX: usize = 2_000;
/// Bytes at most: a hundred of the largest plugins, thousands of usual ones.
const BYTES_MAX: u64 = 2 << 30;

/// See the module.
pub struct Cache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
    bounds: Bounds,
}

/// What a cache may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Entries. Default: 2,000.
    pub entries_max: usize,
    /// Bytes of all together. Default: 2 GiB.
    pub bytes_max: u64,
}

/// A cache that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the cache of compiled plugins `{}` cannot be used: {source}; make it a folder of the runner's own user", path.display())]
pub struct CacheError {
    path: PathBuf,
    source: io::Error,
}

/// What an entry was made of.
pub(super) struct Name {
    digest: String,
    settings: [u8; 32],
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries_max: ENTRIES_MAX, bytes_max: BYTES_MAX }
    }
}

impl Name {
    /// `digest` is the plugin's, in hex.
    pub(super) fn new(digest: &str, flavour: Flavour, fingerprint: &Fingerprint) -> Self {
        let settings = Sha256::new().chain_update(fingerprint).chain_update(flavour.as_str()).finalize().into();
        Self { digest: digest.to_owned(), settings }
    }

    /// The file's name: enough of the settings to tell them apart; the code has all.
    fn file(&self) -> String {
        let settings: String = self.settings[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{settings}{ENDING}", self.digest)
    }
}

impl Cache {
    /// Opens a cache, or makes it. A key that is not as it should be is replaced, and what was kept with it is gone.
    ///
    /// # Errors
    /// The folder or the key can be neither used nor made.
    pub fn open(folder: &Path, key_file: &Path, bounds: Bounds) -> Result<Self, CacheError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CacheError { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
        // As it was restored from a copy, or made by hand.
        fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(failed(folder))?;
        let key = match read_key(key_file).map_err(failed(key_file))? {
            Some(key) => key,
            None => {
                remove_all(folder).map_err(failed(folder))?;
                make_key(key_file).map_err(failed(key_file))?
            }
        };
        let cache = Self { folder: folder.to_owned(), key, bounds };
        remove_unfinished(folder).map_err(failed(folder))?;
        Ok(cache)
    }

    /// What was compiled of this, if it is here and is what was put here.
    pub(super) fn get(&self, name: &Name) -> Option<Artefact> {
        let path = self.folder.join(name.file());
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path);
        match opened.map_err(Bad::from).and_then(|file| self.read(name, file)) {
            Ok(artefact) => Some(artefact),
            Err(Bad::Absent) => None,
            Err(Bad::Why(why)) => {
                self.remove(name, &why);
                None
            }
        }
    }

    /// Keeps what was compiled. Where that fails it is compiled again next time, and the log says why.
    pub(super) fn put(&self, name: &Name, artefact: &Artefact) {
        if !self.has_room_for(artefact.bytes().len() as u64) {
            tracing::warn!(cache = %self.folder.display(), "a compiled plugin is not kept, as the disk is nearly full");
        } else if let Err(error) = self.write(name, artefact.bytes()).and_then(|()| self.make_room()) {
            tracing::warn!(%error, cache = %self.folder.display(), "a compiled plugin could not be kept");
        }
    }

    /// Jobs come first: what they keep in reserve of the disk, twice, is not for this. Where the system does not say, a
    /// write will.
    fn has_room_for(&self, bytes: u64) -> bool {
        disk::space(&self.folder).map_or(true, |space| {
            let kept = disk::reserve(space.total_bytes).saturating_mul(2);
            space.free_bytes >= kept.saturating_add(bytes)
        })
    }

    /// Takes an entry out, and says why.
    pub(super) fn remove(&self, name: &Name, why: &str) {
        let path = self.folder.join(name.file());
        tracing::warn!(entry = %path.display(), why, "a compiled plugin was not as it was kept; it is removed and compiled anew");
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!(%error, entry = %path.display(), "it could not be removed");
        }
    }

    fn read(&self, name: &Name, mut file: File) -> Result<Artefact, Bad> {
        let found = file.metadata()?;
        let length = found.len().checked_sub(HEADER_BYTES).filter(|_| found.is_file());
        let length = length.filter(|length| *length <= self.bounds.bytes_max);
        let length = length.ok_or_else(|| Bad::Why("it is no entry of ours, or was cut".to_owned()))?;
        let (mut magic, mut code) = ([0; 8], [0; 32]);
        file.read_exact(&mut magic)?;
        file.read_exact(&mut code)?;
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        (&file).take(length).read_to_end(&mut bytes)?;
        if magic != MAGIC || self.mac(name, &bytes).verify_slice(&code).is_err() {
            return Err(Bad::Why("its authentication code is wrong".to_owned()));
        }
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        // What is used last is kept longest. Where that cannot be noted, something else may go first, which is no harm.
        _ = futimens(&file, &Timestamps { last_access: omit, last_modification: now });
        Ok(Artefact::of_cache(bytes))
    }

    fn write(&self, name: &Name, bytes: &[u8]) -> io::Result<()> {
        let random = getrandom::u64().map_err(io::Error::other)?;
        let new = self.folder.join(format!(".{random:016x}"));
        let written = (|| {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(&MAGIC)?;
            file.write_all(&self.mac(name, bytes).finalize().into_bytes())?;
            file.write_all(bytes)?;
            // Else a power cut would leave a name without content, which would be reported as damage.
            file.sync_data()?;
            fs::rename(&new, self.folder.join(name.file()))
        })();
        if written.is_err() {
            _ = fs::remove_file(&new);
        }
        written
    }

    fn mac(&self, name: &Name, bytes: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key may have any length");
        // Each has its own length, the digest's being that of its kind, so no two entries read the same.
        mac.update(&MAGIC);
        mac.update(&name.settings);
        mac.update(name.digest.as_bytes());
        mac.update(&(bytes.len() as u64).to_le_bytes());
        mac.update(bytes);
        mac
    }

    /// Removes what was not used for the longest time, until the rest is within the bounds.
    fn make_room(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // One that another process has just removed takes no room.
            let Ok(found) = entry.metadata() else { continue };
            if entry.file_name().to_string_lossy().ends_with(ENDING) {
                entries.push(((found.mtime(), found.mtime_nsec()), found.len(), entry.path()));
            }
        }
        entries.sort();
        let mut bytes: u64 = entries.iter().map(|(_, length, _)| length).sum();
        let mut left = entries.len();
        for (_, length, path) in entries {
            if left <= self.bounds.entries_max && bytes <= self.bounds.bytes_max {
                break;
            }
            fs::remove_file(path)?;
            (left, bytes) = (left - 1, bytes - length);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Cache {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Why there is no entry.
enum Bad {
    Absent,
    Why(String),
}

impl From<io::Error> for Bad {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::Absent } else { Self::Why(error.to_string()) }
    }
}

/// The key; none: there is none, or it is not one that only its owner knows.
fn read_key(path: &Path) -> io::Result<Option<[u8; KEY_BYTES]>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = match File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A link, or something that only a stranger can read.
        Err(error) => return bad_key(path, &error.to_string()),
    };
    let found = file.metadata()?;
    if !found.is_file() || found.len() != KEY_BYTES as u64 || found.mode() & 0o077 != 0 {
        return bad_key(path, "it is not a file of 32 bytes that only its owner can read");
    }
    let mut key = [0; KEY_BYTES];
    file.read_exact(&mut key)?;
    Ok(Some(key))
}

fn bad_key(path: &Path, why: &str) -> io::Result<Option<[u8; KEY_BYTES]>> {
    tracing::warn!(key = %path.display(), why, "the key of the compiled plugins is replaced, and they are compiled anew");
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path)?
    } else {
        fs::remove_file(path)?
    }
    Ok(None)
}

/// Makes a key, durably. Where another process was first, its key is the key.
fn make_key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let random = getrandom::u64().map_err(io::Error::other)?;
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let new = folder.join(format!(".cache.key.{random:016x}"));
    let made = (|| {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&key)?;
        file.sync_all()?;
        // Replaces nothing, unlike a rename.
        fs::hard_link(&new, path)?;
        File::open(folder)?.sync_all()
    })();
    _ = fs::remove_file(&new);
    match made {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read_key(path)?.ok_or(error),
        Err(error) => Err(error),
    }
}

fn remove_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(())
}

/// What a process left that was killed while it wrote.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
