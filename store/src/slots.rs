//! Which runs have really started: a small file of fixed slots beside the store.
//!
//! Runs are claimed ahead of free slots, so most leased jobs of a dead process never ran. One plain write before a
//! handler is entered and one after tell the two apart. The file is never fsynced: it must outlive the process, not the
//! power; after a restart of the machine it means nothing, and its header says which boot of the machine it belongs to.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::command::RunRef;
use crate::error::StoreError;
use crate::job::{BootId, JobId, JobRef, RunNumber, TenantId};

const MAGIC: [u8; 8] = *b"RNRSLOT1";
/// Magic, node's boot, machine's boot, whether the node drains; the rest is reserved.
const HEADER_BYTES: usize = 64;
const DRAINING_AT: u64 = 32;
/// Tenant, job, run, and a hash of them: a slot whose write was torn is empty.
const SLOT_BYTES: usize = 24;
/// Places of a file: one for each slot of a node, and behind them those of runs that share a slot.
pub const SLOTS_MAX: usize = 4_096;
/// Where the places of runs that share a slot begin: more than any node's slots.
const BESIDE: usize = 256;

/// The slots of the living process.
#[derive(Debug)]
pub struct Slots {
    file: File,
    path: PathBuf,
    beside: Mutex<Beside>,
}

/// The places of runs that share a slot.
#[derive(Debug)]
struct Beside {
    /// The lowest last.
    free: Vec<usize>,
    taken: BTreeMap<usize, Vec<usize>>,
}

/// What a dead process left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    /// Its boot.
    pub boot: BootId,
    /// Runs whose handler may have been running when it died.
    pub started: Vec<RunRef>,
}

impl Slots {
    /// Begins the file anew, for this boot. What the process before left must have been read and dealt with. All of it
    /// is written now: a disk that is full should say so before a run is to be entered.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn create(path: &Path, boot: BootId) -> Result<Self, StoreError> {
        let mut header = vec![0; HEADER_BYTES + SLOTS_MAX * SLOT_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..16].copy_from_slice(&boot.0.to_be_bytes());
        header[16..32].copy_from_slice(&machine_boot());
        let io = |source| StoreError::Io { path: path.to_owned(), doing: "writing the file of started runs", source };
        let file = File::options().write(true).create(true).truncate(true).open(path).map_err(io)?;
        file.write_all_at(&header, 0).map_err(io)?;
        let beside = Beside { free: (BESIDE..SLOTS_MAX).rev().collect(), taken: BTreeMap::new() };
        Ok(Self { file, path: path.to_owned(), beside: Mutex::new(beside) })
    }

    /// Says that the handler of `run` is about to be entered, in `slot`.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn enter(&self, slot: usize, run: RunRef) -> Result<(), StoreError> {
        self.write(slot, &encode(run))
    }

    /// Says that the handler in `slot` is left.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn leave(&self, slot: usize) -> Result<(), StoreError> {
        self.write(slot, &[0; SLOT_BYTES])
    }

    /// The same of runs that share the slot's call. There is room for several calls as large as may be; those for which there
    /// is none would count as never started.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn enter_beside(&self, slot: usize, runs: impl Iterator<Item = RunRef>) -> Result<(), StoreError> {
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        for run in runs {
            let Some(place) = beside.free.pop() else { break };
            beside.taken.entry(slot).or_default().push(place);
            self.write(place, &encode(run))?;
        }
        Ok(())
    }

    /// Says that the handler in `slot` is left by those that shared its call.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn leave_beside(&self, slot: usize) -> Result<(), StoreError> {
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        let places = beside.taken.remove(&slot).unwrap_or_default();
        let left = places.iter().try_for_each(|place| self.write(*place, &[0; SLOT_BYTES]));
        // Whatever stands there now: whoever gets a place writes it anew.
        beside.free.extend(places.into_iter().rev());
        left
    }

    /// Says that what ends from now on was ended by the node itself.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn drain(&self) -> Result<(), StoreError> {
        self.file.write_all_at(&[1], DRAINING_AT).map_err(|source| self.io(source))
    }

    fn write(&self, slot: usize, bytes: &[u8]) -> Result<(), StoreError> {
        assert!(slot < SLOTS_MAX, "a node has fewer slots than {SLOTS_MAX}");
        let at = HEADER_BYTES + slot * SLOT_BYTES;
        self.file.write_all_at(bytes, at as u64).map_err(|source| self.io(source))
    }

    fn io(&self, source: std::io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), doing: "writing the file of started runs", source }
    }
}

/// Says of the process before that it ended its runs itself, as one does that stops after a storage error: none of them
/// counts as crashed. Does nothing where there is no file.
///
/// # Errors
/// The file could not be written.
pub fn disown(path: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), doing: "writing the file of started runs", source };
    match File::options().write(true).open(path) {
        Ok(file) => file.write_all_at(&[1], DRAINING_AT).map_err(io),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io(error)),
    }
}

/// What the process before left: none if there was none, or if it says nothing (foreign, torn, or of an earlier boot of
/// the machine, or the node had begun to drain).
///
/// # Errors
/// The file is there and could not be read.
pub fn previous(path: &Path) -> Result<Option<Previous>, StoreError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            let path = path.to_owned();
            return Err(StoreError::Io { path, doing: "reading the file of started runs", source });
        }
    };
    Ok(decode(&bytes, machine_boot()))
}

fn decode(bytes: &[u8], machine: [u8; 16]) -> Option<Previous> {
    let (header, slots) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    if header[..8] != MAGIC || header[16..32] != machine {
        return None;
    }
    let boot = BootId(u64::from_be_bytes(header[8..16].try_into().ok()?));
    let draining = header[DRAINING_AT as usize] != 0;
    let started = slots.chunks_exact(SLOT_BYTES).take(SLOTS_MAX).filter_map(decode_slot);
    Some(Previous { boot, started: if draining { Vec::new() } else { started.collect() } })
}

fn encode(run: RunRef) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..4].copy_from_slice(&run.at.tenant.0.to_be_bytes());
    slot[4..12].copy_from_slice(&run.at.job.0.to_be_bytes());
    slot[12..16].copy_from_slice(&run.run.0.to_be_bytes());
    let hash = xxhash_rust::xxh3::xxh3_64(&slot[..16]);
    slot[16..].copy_from_slice(&hash.to_be_bytes());
    slot
}

fn decode_slot(slot: &[u8]) -> Option<RunRef> {
    let tenant = TenantId(u32::from_be_bytes(slot[..4].try_into().ok()?));
    let job = JobId(u64::from_be_bytes(slot[4..12].try_into().ok()?));
    let run = RunRef { at: JobRef { tenant, job }, run: RunNumber(u32::from_be_bytes(slot[12..16].try_into().ok()?)) };
    (encode(run) == slot).then_some(run)
}

/// Which boot of the machine this is; zeros where the system does not say.
fn machine_boot() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut id = [0; 16];
    id.copy_from_slice(&crate::sha256(text.trim().as_bytes())[..16]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(job: u64) -> RunRef {
        RunRef { at: JobRef { tenant: TenantId(1), job: JobId(job) }, run: RunNumber(3) }
    }

    #[test]
    fn what_entered_and_did_not_leave_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("running.slots");
        assert_eq!(previous(&path).unwrap(), None);
        let slots = Slots::create(&path, BootId(9)).unwrap();
        slots.enter(0, run(1)).unwrap();
        slots.enter(7, run(2)).unwrap();
        slots.leave(0).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len() as usize, HEADER_BYTES + SLOTS_MAX * SLOT_BYTES);
        let found = previous(&path).unwrap().unwrap();
        assert_eq!(found, Previous { boot: BootId(9), started: vec![run(2)] });
        slots.drain().unwrap();
        assert_eq!(previous(&path).unwrap().unwrap().started, vec![], "a draining node ends its runs itself");
        let slots = Slots::create(&path, BootId(10)).unwrap();
        slots.enter(0, run(1)).unwrap();
        disown(&path).unwrap();
        assert_eq!(previous(&path).unwrap().unwrap(), Previous { boot: BootId(10), started: vec![] });
        disown(&dir.path().join("none")).unwrap();
    }

    /// The story: a process died under a call of many jobs. Only the first of them counted as crashed; the culprit was another
    /// one, went back untouched, and killed the next process, too.
    #[test]
    fn all_runs_of_a_call_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("running.slots");
        let slots = Slots::create(&path, BootId(9)).unwrap();
        let found = || previous(&path).unwrap().unwrap().started;
        slots.enter(3, run(1)).unwrap();
        slots.enter_beside(3, (2..=4).map(run)).unwrap();
        slots.enter(4, run(5)).unwrap();
        slots.enter_beside(4, [run(6)].into_iter()).unwrap();
        assert_eq!(found(), [1, 5, 2, 3, 4, 6].map(run));
        slots.leave(3).unwrap();
        slots.leave_beside(3).unwrap();
        assert_eq!(found(), [5, 6].map(run));
        slots.enter_beside(3, (10..).take(10_000).map(run)).unwrap();
        assert_eq!(found().len(), 2 + SLOTS_MAX - BESIDE - 1, "as many as there is room for");
        slots.leave_beside(3).unwrap();
        assert_eq!(found().len(), 2);
    }

    #[test]
    fn a_torn_slot_a_foreign_file_and_another_boot_of_the_machine_say_nothing() {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[16..32].copy_from_slice(&[5; 16]);
        bytes.extend_from_slice(&encode(run(1)));
        assert_eq!(decode(&bytes, [5; 16]).unwrap().started, vec![run(1)]);
        assert_eq!(decode(&bytes, [6; 16]), None, "the machine was restarted");
        assert_eq!(decode(&bytes[..20], [5; 16]), None);
        let torn = bytes.len() - 1;
        bytes[torn] ^= 1;
        assert_eq!(decode(&bytes, [5; 16]).unwrap().started, vec![]);
        assert_eq!(decode(b"something else altogether, longer than a header of sixty-four bytes", [5; 16]), None);
    }
}
