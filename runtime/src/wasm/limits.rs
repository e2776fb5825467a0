//! What one run may use: the numbers, and the limiter that sums all linear memories of a run.
//!
//! wasmtime's own `StoreLimits::memory_size` is a bound per memory, so a module with eight memories has eight times
//! the limit; [`MemoryLimiter`] adds them up, remembers the peak and that it said no, from which an outcome becomes
//! `out_of_memory`. Time, fuel and host calls are bounded elsewhere (`run`, `guest`).

use std::sync::Arc;

use runner_store::job::time::Millis;
use wasmtime::ResourceLimiter;

use super::memory::InUse;

/// One kibibyte.
pub const KIB: u64 = 1 << 10;
/// One mebibyte.
pub const MIB: u64 = 1 << 20;

/// Fuel a second where a manifest names none: more than any machine burns, so that fuel never ends an honest run before
/// its time-out. Plain code was measured at 5 to 28 G; filling memory in the cache, at one unit a byte, at over 30 G.
pub const FUEL_PER_SECOND: u64 = 200_000_000_000;

/// Core instances of one run: what a Python component with native modules needs, several times over.
pub const INSTANCES_MAX: usize = 128;
/// Tables of one run.
pub const TABLES_MAX: usize = 64;
/// Linear memories of one run, and of one component in the pool.
pub const MEMORIES_MAX: usize = 8;
/// Elements of one table: ten times what the largest language runtimes were seen to need.
pub const TABLE_ELEMENTS_MAX: usize = 200_000;

/// The limits of one run, merged from defaults, manifest and the job's own time-out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall clock of the whole run, instantiation included.
    pub timeout: Millis,
    /// Fuel, if the manifest names it; else the time-out at [`FUEL_PER_SECOND`].
    pub fuel: Option<u64>,
    /// All linear memories of the run together.
    pub memory_bytes: u64,
    /// The output of a completed run.
    pub output_bytes: u64,
    /// Everything that the run stages (args of new jobs, checkpoint, output) together.
    pub staged_bytes: u64,
    /// Calls out of the guest, WASI's included.
    pub host_calls: u64,
    /// Jobs that the run may enqueue.
    pub enqueues: u32,
    /// A body of HTTP, of requests and of responses, each.
    pub http_body_bytes: u64,
    /// How long `cancelled` answers true before a cancelled run is ended.
    pub cancel_grace: Millis,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Millis::secs(60),
            fuel: None,
            memory_bytes: 64 * MIB,
            output_bytes: MIB,
            staged_bytes: 4 * MIB,
            host_calls: 1_000_000,
            enqueues: 100,
            http_body_bytes: MIB,
            cancel_grace: Millis(0),
        }
    }
}

impl Limits {
    /// The fuel that the run gets.
    #[must_use]
    pub fn fuel(&self) -> u64 {
        self.fuel.unwrap_or_else(|| self.timeout.0.saturating_mul(FUEL_PER_SECOND / 1_000))
    }
}

/// Says yes or no to a guest that wants memory or table space.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    limit_bytes: usize,
    used_bytes: usize,
    peak_bytes: usize,
    denied: bool,
    /// Where more is promised to guests than there is.
    of_all: Option<Arc<InUse>>,
}

impl Drop for MemoryLimiter {
    fn drop(&mut self) {
        if let Some(of_all) = &self.of_all {
            of_all.shrank(self.used_bytes);
        }
    }
}

impl MemoryLimiter {
    pub(crate) fn new(limit_bytes: u64, of_all: Option<Arc<InUse>>) -> Self {
        let limit_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        Self { limit_bytes, used_bytes: 0, peak_bytes: 0, denied: false, of_all }
    }

    /// Whether what is used now is within another limit.
    pub(crate) fn fits(&self, limit_bytes: u64) -> bool {
        self.used_bytes as u64 <= limit_bytes
    }

    /// For another run of the same instance: its memories are as large as they were.
    pub(crate) fn renew(&mut self, limit_bytes: u64) {
        self.limit_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
        (self.peak_bytes, self.denied) = (self.used_bytes, false);
    }

    /// The most that all memories together had.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak_bytes as u64
    }

    /// Whether anything was refused.
    pub(crate) fn denied(&self) -> bool {
        self.denied
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // Beyond the memory's own maximum the growth fails anyway, and that is the guest's own bound, not ours.
        if maximum.is_some_and(|maximum| desired > maximum) && desired <= self.limit_bytes {
            return Ok(false);
        }
        let wanted = self.used_bytes.saturating_add(desired.saturating_sub(current));
        if wanted > self.limit_bytes {
            self.denied = true;
            return Ok(false);
        }
        if let Some(of_all) = &self.of_all {
            of_all.grew(wanted - self.used_bytes);
        }
        self.used_bytes = wanted;
        self.peak_bytes = self.peak_bytes.max(wanted);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // The machine said no: for the guest that is the same as our no. A growth beyond the memory's own declared
        // maximum also ends here, but that bound is the guest's. What was counted stays counted: too much is safe.
        self.denied |= error.is::<std::io::Error>();
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= TABLE_ELEMENTS_MAX;
        self.denied |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}
