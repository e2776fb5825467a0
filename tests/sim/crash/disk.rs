//! A disk in memory: what redb writes to it, in which order, what of it a power cut leaves, and operations that fail.
//!
//! An [`Image`] is a file's content in pages that copies share, so that thousands of them are cheap. A [`Disk`] is the
//! storage of one engine: it keeps what a process sees, what was durable when the last sync returned, and every
//! operation since it was made. It knows nothing of what redb or the store mean by their bytes.

use std::io;
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use redb::{BackendError, StorageBackend};

const PAGE: usize = 4_096;
/// What a sync takes to come at most, on the slowest of machines.
const DEADLINE: Duration = Duration::from_secs(30);

/// The content of a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pages: Vec<Page>,
    len: u64,
}

#[derive(Debug, Clone)]
struct Page {
    bytes: Arc<[u8; PAGE]>,
    /// Of the bytes and where they lie.
    hash: u64,
}

/// Something that changes a file.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Write { offset: u64, data: Arc<[u8]> },
    SetLen(u64),
    Sync,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The operation, counted from when the disk was made; reads count.
    pub(crate) at: u64,
    /// What the system says.
    pub(crate) errno: i32,
    pub(crate) effect: Effect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It says that it failed, and did.
    None,
    /// It says that it failed, and did not.
    Whole,
    /// It fails, and so does everything after it.
    Sticky,
}

/// See the module. Clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    live: Image,
    durable: Image,
    trace: Vec<Op>,
    /// Operations so far, reads among them.
    count: u64,
    fault: Option<Fault>,
    /// Whether the fault has come.
    failed: bool,
    gate: Option<Arc<Gate>>,
}

/// Lets the first sync of a disk wait until somebody has made ready.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    reached: Mutex<bool>,
    open: Mutex<bool>,
    moved: Condvar,
}

impl Gate {
    /// Waits for a sync to come.
    pub(crate) fn wait(&self) {
        let waits = |reached: &mut bool| !*reached;
        let reached = self.moved.wait_timeout_while(self.reached.lock().unwrap(), DEADLINE, waits).unwrap();
        assert!(*reached.0, "nothing is made durable");
    }

    /// Lets it go on, and every later one.
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.moved.notify_all();
    }

    fn pass(&self) {
        *self.reached.lock().unwrap() = true;
        self.moved.notify_all();
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.moved.wait(open).unwrap();
        }
    }
}

impl Disk {
    /// A disk with this on it, durably.
    pub(crate) fn of(image: Image) -> Self {
        let state = State {
            durable: image.clone(),
            live: image,
            trace: Vec::new(),
            count: 0,
            fault: None,
            failed: false,
            gate: None,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The same, on which one operation will fail.
    pub(crate) fn failing(image: Image, fault: Fault) -> Self {
        let disk = Self::of(image);
        disk.state().fault = Some(fault);
        disk
    }

    /// From now on syncs wait at the gate.
    pub(crate) fn close(&self, gate: Arc<Gate>) {
        self.state().gate = Some(gate);
    }

    /// The operation after this many more fails.
    pub(crate) fn fail_after(&self, operations: u64, errno: i32, effect: Effect) {
        let mut state = self.state();
        state.fault = Some(Fault { at: state.count + operations, errno, effect });
    }

    /// What a process sees that opens the file now.
    pub(crate) fn live(&self) -> Image {
        self.state().live.clone()
    }

    /// What is there for certain after a power cut.
    pub(crate) fn durable(&self) -> Image {
        self.state().durable.clone()
    }

    /// Changes so far.
    pub(crate) fn changes(&self) -> usize {
        self.state().trace.len()
    }

    /// Whether the fault has come.
    pub(crate) fn has_failed(&self) -> bool {
        self.state().failed
    }

    /// Every change, in order.
    pub(crate) fn trace(&self) -> Vec<Op> {
        self.state().trace.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of redb while it holds the lock is one of the things that are looked for.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    /// Counts an operation. Some: it is to fail so.
    fn count(&mut self) -> Option<(io::Error, Effect)> {
        let fault = self
            .fault
            .filter(|fault| fault.at == self.count || (fault.effect == Effect::Sticky && fault.at < self.count));
        self.count += 1;
        self.failed |= fault.is_some();
        fault.map(|fault| (io::Error::from_raw_os_error(fault.errno), fault.effect))
    }

    fn change(&mut self, op: Op) -> io::Result<()> {
        let fault = self.count();
        if fault.as_ref().is_none_or(|(_, effect)| *effect == Effect::Whole) {
            match &op {
                Op::Sync => self.durable = self.live.clone(),
                other => self.live.apply(other),
            }
            self.trace.push(op);
        }
        fault.map_or(Ok(()), |(error, _)| Err(error))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().live.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        match state.count() {
            Some((error, _)) => Err(error),
            None => state.live.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state().change(Op::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let gate = self.state().gate.clone();
        if let Some(gate) = gate {
            gate.pass();
        }
        self.state().change(Op::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.state().change(Op::Write { offset, data: data.into() })
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}

impl Image {
    /// A hash of the whole content.
    pub(crate) fn hash(&self) -> u64 {
        self.pages.iter().fold(self.len, |sum, page| sum.wrapping_add(page.hash))
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Does what the operation does.
    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { offset, data } => self.write(*offset, data),
            Op::SetLen(len) => self.set_len(*len),
            Op::Sync => {}
        }
    }

    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset + out.len() as u64 > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut at, mut done) = (offset as usize, 0);
        while done < out.len() {
            let n = (PAGE - at % PAGE).min(out.len() - done);
            out[done..done + n].copy_from_slice(&self.pages[at / PAGE].bytes[at % PAGE..at % PAGE + n]);
            (at, done) = (at + n, done + n);
        }
        Ok(())
    }

    /// Writes; beyond the end, the file grows, as files do.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        self.set_len(self.len.max(offset + data.len() as u64));
        let (mut at, mut done) = (offset as usize, 0);
        while done < data.len() {
            let n = (PAGE - at % PAGE).min(data.len() - done);
            let page = &mut self.pages[at / PAGE];
            Arc::make_mut(&mut page.bytes)[at % PAGE..at % PAGE + n].copy_from_slice(&data[done..done + n]);
            page.hash = hash(at / PAGE, &page.bytes);
            (at, done) = (at + n, done + n);
        }
    }

    pub(crate) fn set_len(&mut self, len: u64) {
        let pages = (len as usize).div_ceil(PAGE);
        self.pages.truncate(pages);
        if len < self.len && !len.is_multiple_of(PAGE as u64) {
            let page = self.pages.last_mut().expect("a file that does not end at a page's start has a page");
            Arc::make_mut(&mut page.bytes)[len as usize % PAGE..].fill(0);
            page.hash = hash(pages - 1, &page.bytes);
        }
        let zeros = Arc::new([0; PAGE]);
        for n in self.pages.len()..pages {
            self.pages.push(Page { bytes: Arc::clone(&zeros), hash: hash(n, &zeros) });
        }
        self.len = len;
    }
}

fn hash(n: usize, bytes: &[u8; PAGE]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(bytes, n as u64)
}
