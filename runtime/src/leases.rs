//! The tokens by which external workers speak for their runs.
//!
//! A token is a code over the store's epoch, the job and its run, under a key of the store's own: whoever has it was given
//! the run, and after a restore, which begins an epoch, it is worth nothing. So none is stored. It is a secret: it stands in
//! the one answer that gives the run, never in a log, and is compared in a time that does not depend on it.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use runner_store::command::RunRef;
use rustix::fs::OFlags;
use sha2::Sha256;

/// What every lease token begins with.
const PREFIX: &str = "rnl_";
/// As long as the code's own digest: more would be hashed down to it.
const KEY_BYTES: usize = 32;

/// See the module.
pub struct LeaseTokens {
    key: [u8; KEY_BYTES],
    epoch: u64,
}

impl std::fmt::Debug for LeaseTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseTokens").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl LeaseTokens {
    /// Those of a store in this epoch, whose key stands in a file, or is made there; none: one in memory, whose tokens end
    /// with it.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn of(key_file: Option<&Path>, epoch: u64) -> io::Result<Self> {
        let key = match key_file {
            Some(path) => match read_key(path)? {
                Some(key) => key,
                None => make_key(path)?,
            },
            None => new_key()?,
        };
        Ok(Self { key, epoch })
    }

    /// The token of a run.
    #[must_use]
    pub fn token(&self, run: RunRef) -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.code(run).finalize().into_bytes()))
    }

    /// Whether this is the token of a run.
    #[must_use]
    pub fn is_of(&self, run: RunRef, token: &str) -> bool {
        let code = token.strip_prefix(PREFIX).and_then(|code| URL_SAFE_NO_PAD.decode(code).ok());
        code.is_some_and(|code| self.code(run).verify_slice(&code).is_ok())
    }

    fn code(&self, RunRef { at, run }: RunRef) -> Hmac<Sha256> {
        let mut code = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key may have any length");
        let of = format!("lease 1/{}/{}/{}/{}", self.epoch, at.tenant.0, at.job.0, run.0);
        code.update(of.as_bytes());
        code
    }
}

/// None: there is none, or it is not to be trusted, and another one is made: then workers' tokens are worth nothing, and
/// their leases run out.
fn read_key(path: &Path) -> io::Result<Option<[u8; KEY_BYTES]>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = match File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = file.metadata()?;
    if !found.is_file() || found.len() != KEY_BYTES as u64 || found.mode() & 0o077 != 0 {
        let why = "it is not a file of 32 bytes that only its owner can read";
        tracing::warn!(key = %path.display(), why, "the key of external workers' leases is replaced: those that are held run out");
        return Ok(None);
    }
    let mut key = [0; KEY_BYTES];
    file.read_exact(&mut key)?;
    Ok(Some(key))
}

fn new_key() -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    Ok(key)
}

/// The store is this process's alone, so that nobody makes another one meanwhile.
fn make_key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let key = new_key()?;
    let new = path.with_extension("key.new");
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let made = (|| {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    })();
    made.map(|()| key)
}

#[cfg(test)]
mod tests {
    use runner_store::job::{JobId, JobRef, RunNumber, TenantId};

    use super::*;

    fn run(tenant: u32, job: u64, run: u32) -> RunRef {
        RunRef { at: JobRef { tenant: TenantId(tenant), job: JobId(job) }, run: RunNumber(run) }
    }

    #[test]
    fn a_token_is_of_one_run_of_one_epoch_of_one_store() {
        let place = tempfile::tempdir().expect("there is a folder for temporary files");
        let file = place.path().join("lease.key");
        let tokens = LeaseTokens::of(Some(&file), 1).unwrap();
        let token = tokens.token(run(1, 2, 3));
        assert!(token.starts_with(PREFIX) && token.len() == 47, "{token}");
        assert!(tokens.is_of(run(1, 2, 3), &token));
        for other in [run(9, 2, 3), run(1, 9, 3), run(1, 2, 9)] {
            assert!(!tokens.is_of(other, &token), "{other:?}");
        }
        for wrong in ["", "rnl_", &token[4..], &token[..46], &format!("{token}A"), "rnl_ä"] {
            assert!(!tokens.is_of(run(1, 2, 3), wrong), "{wrong}");
        }
        assert!(LeaseTokens::of(Some(&file), 1).unwrap().is_of(run(1, 2, 3), &token), "also after a restart");
        assert!(!LeaseTokens::of(Some(&file), 2).unwrap().is_of(run(1, 2, 3), &token), "not after a restore");
        assert!(!LeaseTokens::of(None, 1).unwrap().is_of(run(1, 2, 3), &token), "nor of another store");
        assert!(!format!("{tokens:?}").contains("key: ["), "{tokens:?}");
    }

    #[test]
    fn a_key_that_others_can_read_is_replaced() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().expect("there is a folder for temporary files");
        let file = place.path().join("lease.key");
        let token = LeaseTokens::of(Some(&file), 1).unwrap().token(run(1, 2, 3));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(!LeaseTokens::of(Some(&file), 1).unwrap().is_of(run(1, 2, 3), &token));
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    }
}
