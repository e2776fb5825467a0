//! Every setting of wasmtime, in one place to be audited, each with its why.
//!
//! [`engine`] makes the process's one engine, [`store`] one run's store. Nothing else in the workspace constructs a
//! `wasmtime::Config` or touches a store's limits. The pool only reserves address space; where even that is refused
//! (a small `RLIMIT_AS`), [`engine`] falls back to allocating on demand, which is slower and otherwise the same.

use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OperatorCost, PoolingAllocationConfig, Store, Strategy,
    VariableOperatorCost, WasmBacktraceDetails, WasmFeatures,
};

use super::compile::Compiler;
use super::compile::cache::Cache;
use super::guest::{Guest, Meter};
use super::limits::{INSTANCES_MAX, Limits, MEMORIES_MAX, MIB, TABLE_ELEMENTS_MAX, TABLES_MAX};
use crate::operator::Operator;

/// Fuel between two yields of a guest: up to a millisecond of plain code, so that a time-out or a cancel is noticed in time
/// and others have their turn. A yield costs about a microsecond.
pub const FUEL_YIELD_INTERVAL: u64 = 2_500_000;
/// Wall clock between two yields of a guest that only calls the host, where fuel stands still.
pub const HOST_YIELD_INTERVAL: Duration = Duration::from_millis(1);
/// Stack of the guest's own code: wasmtime's default.
pub const WASM_STACK_BYTES: usize = 512 << 10;
/// Stack of a run: the guest's, and 1.5 MiB for host calls made from its deepest point; their overflow would abort.
pub const ASYNC_STACK_BYTES: usize = WASM_STACK_BYTES + (3 << 19);
/// Frames of a backtrace: what a person reads; the guest chooses its recursion.
pub const BACKTRACE_FRAMES_MAX: usize = 32;
/// Host resources of one run (streams, pollables).
pub const RESOURCES_MAX: usize = 1_000;
/// Handles of one run, over all its component instances.
pub const HANDLES_MAX: usize = 1_000;
/// Random bytes of one call: a bound on what one call makes the host allocate.
pub const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// On top of the output limit, so that an ordinary excess meets `output_too_large` and not this bound.
pub const HOSTCALL_FUEL_SLACK: u64 = MIB;
/// What a command may write in one call: its writes are copied piece by piece into a bounded log, and one that is
/// refused makes `println!` panic.
pub const COMMAND_COPIED_BYTES: u64 = 16 * MIB;
/// Fuel of one page by which a memory grows: the kernel zeroes 64 KiB for it.
const FUEL_PER_PAGE_GROWN: u8 = 255;
/// Tables of one component or module in the pool.
const POOL_TABLES_MAX: u32 = 16;
/// Host metadata of one instance.
const INSTANCE_METADATA_BYTES_MAX: usize = 1 << 20;
/// Bytes of a freed memory, and of a freed table, that are put back in place instead of being given to the kernel and faulted in
/// again by the next run: where the kernel says which pages were written, only those are, and guests that write much gain
/// most (from 128 and 8 KiB: 233 µs to 140 µs a run of a script, 1.6 ms to 0.7 ms of a command in Go, 3.4 ms to 1.8 ms in Python;
/// small ones as before).
const KEEP_RESIDENT_BYTES: (usize, usize) = (1 << 20, 256 << 10);
/// The same on kernels without a scan for written pages, where all of them are zeroed: cheaper than the page faults of the
/// small guests that most are, and not yet dear (1 MiB: 13 µs a run instead of 5).
const KEEP_RESIDENT_BYTES_UNSCANNED: (usize, usize) = (128 << 10, 8 << 10);
/// The same of stacks, which are always zeroed without a scan.
const STACK_KEEP_RESIDENT_BYTES: usize = 16 << 10;
/// Freed places whose pages are given back together: each time, all threads are interrupted (two threads: 88 k runs a
/// second one by one, 260 k by eight). They are given back, and zeroed, before anyone gets them again.
const DECOMMIT_BATCH: usize = 8;

/// Calls at once that belong to no run (merges, policies of plugins that are loaded): places beside the slots, so that
/// enqueueing never waits for runs.
pub const ASIDES_MAX: u32 = 4;

/// Instances of all plugins that wait for their next run: places beside the slots. Each has its memory meanwhile, so no
/// more than are worth it.
pub const KEPT_MAX: u32 = 32;

/// What the operator decides about the host.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// Runs at once; more wait for a place. Default: 8 × cores.
    pub slots: u32,
    /// Threads that run guests. Default: cores.
    pub threads: usize,
    /// What plugins get beyond computing, and the most that they may ask for. Default: whatever their manifests ask for.
    pub operator: Arc<Operator>,
    /// Whether instances come from a pool, which is faster and reserves much address space. Default: true.
    pub pooled: bool,
    /// Where plugins are compiled. Default: in this process.
    pub compiler: Compiler,
    /// What was compiled before. Default: none, and each start compiles.
    pub cache: Option<Arc<Cache>>,
    /// Memory, in KiB, for what the scripts that are loaded leave behind when they are evaluated, so that no run does that again.
    /// Default: 256 MiB, of some hundred scripts.
    pub scripts_kib: u32,
}

/// What native code depends on beside the plugin: wasmtime's version, the processor and all settings above, as SHA-256.
pub(super) type Fingerprint = [u8; 32];

impl Default for HostSettings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let slots = u32::try_from(cores.saturating_mul(8)).unwrap_or(u32::MAX);
        Self {
            slots,
            threads: cores,
            operator: Arc::default(),
            pooled: true,
            compiler: Compiler::Here,
            cache: None,
            scripts_kib: 256 << 10,
        }
    }
}

/// The engine of this process.
///
/// # Errors
/// The machine cannot run it at all; a pool that does not fit is not an error.
pub(super) fn engine(settings: &HostSettings) -> wasmtime::Result<Engine> {
    if settings.pooled {
        match Engine::new(&config(Some(settings))) {
            Ok(engine) => return Ok(engine),
            Err(error) => tracing::warn!(%error, "no pool of instances: allocating on demand, which is slower"),
        }
    }
    Engine::new(&config(None))
}

/// The engine of a process that only compiles: the same, without a pool.
pub(super) fn for_compiling() -> wasmtime::Result<Engine> {
    Engine::new(&config(None))
}

/// Code of engines with the same fingerprint may be exchanged.
pub(super) fn fingerprint(engine: &Engine) -> Fingerprint {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            unreachable!("nobody asks for the short form")
        }
    }
    let mut hasher = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize().into()
}

/// What a component may make the host copy in one call, or answer: its output, or the body of a request.
pub(super) fn component_copied_bytes(limits: &Limits) -> u64 {
    limits.output_bytes.max(limits.http_body_bytes).saturating_add(HOSTCALL_FUEL_SLACK)
}

/// A store for one run: all limits set, nothing shared with any other.
pub(super) fn store(
    engine: &Engine,
    guest: Guest,
    limits: &Limits,
    copied_bytes_max: u64,
) -> wasmtime::Result<Store<Guest>> {
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.memory);
    // Before any call and never again: it re-arms the interval of yields.
    store.set_fuel(limits.fuel())?;
    store.fuel_async_yield_interval(Some(FUEL_YIELD_INTERVAL))?;
    bound_copies(&mut store, copied_bytes_max);
    // wasmtime's default is 100,000.
    store.set_max_component_handles(HANDLES_MAX);
    store.call_hook_async(Meter);
    Ok(store)
}

/// What the guest may make the host copy in one call; wasmtime's default is 128 MiB.
pub(super) fn bound_copies(store: &mut Store<Guest>, copied_bytes_max: u64) {
    store.set_hostcall_fuel(usize::try_from(copied_bytes_max).unwrap_or(usize::MAX));
}

/// With a pool for these settings, or without one.
fn config(pooled: Option<&HostSettings>) -> Config {
    let mut config = Config::new();
    // Winch and interpreters are other products with other bugs.
    config.strategy(Strategy::Cranelift);
    // Every machine computes the same bits, so that a run repeats.
    config.cranelift_nan_canonicalization(true);
    proposals(&mut config);
    // The deterministic budget and the cost measure; no epochs beside it, both together cost 43–114 %.
    config.consume_fuel(true);
    config.operator_cost(costs());
    config.max_wasm_stack(WASM_STACK_BYTES);
    config.async_stack_size(ASYNC_STACK_BYTES);
    // A run never reads what an earlier one left on its stack, even if the compiler had a bug.
    config.async_stack_zeroing(true);
    // A guest chooses its recursion; names of its functions are enough, paths of the build machine are not ours to show.
    config.wasm_backtrace_max_frames(NonZeroUsize::new(BACKTRACE_FRAMES_MAX));
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    // Debug information is the guest's size, not its behaviour.
    config.debug_info(false);
    // Spectre mitigations, guard pages and signal-based traps: defaults kept.
    match pooled {
        Some(settings) => config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(settings))),
        None => config.allocation_strategy(InstanceAllocationStrategy::OnDemand),
    };
    config
}

/// Stable proposals that guests need, by name; everything else is refused at load, however wasmtime's defaults move.
fn proposals(config: &mut Config) {
    config.wasm_features(WasmFeatures::all(), false);
    let needed = WasmFeatures::WASM2.difference(WasmFeatures::GC_TYPES)
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::COMPONENT_MODEL;
    config.wasm_features(needed, true);
}

/// One unit an operator (wasmtime's default), and the work that one operator can ask for at run time.
fn costs() -> OperatorCost {
    let variable = VariableOperatorCost {
        // By default growing is free, and zeroing memory is not.
        memory_grow_per_page: FUEL_PER_PAGE_GROWN,
        // Bulk operations: one unit a byte or element, which is also the default, stated here to stay.
        memory_copy_per_byte: 1,
        memory_fill_per_byte: 1,
        memory_init_per_byte: 1,
        table_copy_per_element: 1,
        table_fill_per_element: 1,
        table_init_per_element: 1,
        table_grow_per_element: 1,
        ..VariableOperatorCost::new()
    };
    OperatorCost { variable, ..OperatorCost::default() }
}

/// A place for each slot, as large as one run may be, and some more: what a run left is given back in batches, and while a
/// thread works on one, its places belong to nobody. With these, a run that got a slot finds a place.
fn pool(settings: &HostSettings) -> PoolingAllocationConfig {
    let in_batches = (settings.threads.max(1) + 1).saturating_mul(DECOMMIT_BATCH);
    let beside = (ASIDES_MAX + KEPT_MAX).saturating_add(u32::try_from(in_batches).unwrap_or(u32::MAX));
    let slots = settings.slots.saturating_add(beside);
    let memories = u32::try_from(MEMORIES_MAX).unwrap_or(u32::MAX);
    let instances = u32::try_from(INSTANCES_MAX).unwrap_or(u32::MAX);
    let tables = u32::try_from(TABLES_MAX).unwrap_or(u32::MAX).min(POOL_TABLES_MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_stacks(slots);
    pool.total_component_instances(slots);
    pool.total_core_instances(slots.saturating_mul(instances));
    pool.total_memories(slots.saturating_mul(memories));
    pool.total_tables(slots.saturating_mul(tables));
    // The defaults a component are u32::MAX: one plugin could take every place.
    pool.max_core_instances_per_component(instances);
    pool.max_memories_per_component(memories);
    pool.max_memories_per_module(memories);
    pool.max_tables_per_component(tables);
    pool.max_tables_per_module(tables);
    pool.table_elements(TABLE_ELEMENTS_MAX);
    pool.max_core_instance_size(INSTANCE_METADATA_BYTES_MAX);
    pool.max_component_instance_size(INSTANCE_METADATA_BYTES_MAX);
    let scanned = PoolingAllocationConfig::is_pagemap_scan_available();
    let (of_memory, of_table) = if scanned { KEEP_RESIDENT_BYTES } else { KEEP_RESIDENT_BYTES_UNSCANNED };
    pool.linear_memory_keep_resident(of_memory);
    pool.table_keep_resident(of_table);
    pool.async_stack_keep_resident(STACK_KEEP_RESIDENT_BYTES);
    pool.decommit_batch_size(DECOMMIT_BATCH);
    // Zeroes only what was written, wherever it lies; Linux since 6.7, elsewhere the beginning is zeroed.
    pool.pagemap_scan(Enabled::Auto);
    // Memory protection keys are not compiled in: fifteen keys for all slots would couple runs to one another.
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_does_not_change_the_code() {
        let pooled = Engine::new(&config(Some(&HostSettings::default()))).expect("a pool fits here");
        assert_eq!(fingerprint(&pooled), fingerprint(&for_compiling().expect("an engine starts")));
    }
}
