//! What one run's store holds, and the hook around every call out of the guest.
//!
//! [`Guest`] lives as long as its store: one run, or those of an instance that is kept (`kept`). The hook ([`Meter`]) counts host calls and gives the thread back
//! when a millisecond has passed, because fuel stands still while the host works: without it a loop of cheap host
//! calls outlives its time-out.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use wasmtime::{CallHook, CallHookHandler, StoreContextMut};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::engine::{FUEL_YIELD_INTERVAL, HOST_YIELD_INTERVAL, RESOURCES_MAX};
use super::host::{self, Job};
use super::image::Kept;
use super::limits::{Limits, MemoryLimiter};

/// A run's side of its store.
pub(super) struct Guest {
    /// Sums the linear memories.
    pub(super) memory: MemoryLimiter,
    /// Everything behind `runner:plugin`.
    pub(super) job: Job,
    /// Everything behind `wasi`, in both versions.
    pub(super) wasi: WasiP1Ctx,
    http: WasiHttpCtx,
    /// What it hands over of its memory, where it is asked to.
    pub(super) image: Option<Kept>,
    /// Exits from the guest as wasmtime counts them: host calls, growing memory, and every yield by fuel.
    exits: u64,
    limits: Limits,
    yielded: Instant,
}

/// The guest called out more often than its limit allows.
#[derive(Debug, thiserror::Error)]
#[error("more than {limit} host calls")]
pub(super) struct HostCallLimit {
    pub(super) limit: u64,
}

impl Guest {
    pub(super) fn new(memory: MemoryLimiter, job: Job, mut wasi: WasiP1Ctx, limits: Limits) -> Self {
        // wasmtime's default is a million.
        wasi.ctx().table.set_max_capacity(RESOURCES_MAX);
        Self { memory, job, wasi, http: host::http_context(), image: None, exits: 0, limits, yielded: Instant::now() }
    }

    /// For another run of the same instance.
    pub(super) fn renew(&mut self, job: Job, limits: Limits) {
        self.memory.renew(limits.memory_bytes);
        (self.job, self.limits, self.exits, self.yielded) = (job, limits, 0, Instant::now());
    }

    /// Host resources that the guest has open.
    pub(super) fn resources(&mut self) -> usize {
        self.wasi.ctx().table.iter_mut().count()
    }

    /// Calls out of the guest so far. A yield by fuel is none: a long computation would run into the limit.
    pub(super) fn host_calls(&self, fuel_used: u64) -> u64 {
        self.exits.saturating_sub(fuel_used / FUEL_YIELD_INTERVAL)
    }

    fn fuel_used(&self, fuel_left: u64) -> u64 {
        self.limits.fuel().saturating_sub(fuel_left)
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        // One table for all of WASI, and so one capacity.
        WasiHttpCtxView { hooks: &mut self.job, table: self.wasi.ctx().table, ctx: &mut self.http }
    }
}

/// Runs before every host call, WASI's included.
pub(super) struct Meter;

type Hooked<'a> = Pin<Box<dyn Future<Output = wasmtime::Result<()>> + Send + 'a>>;

// Written out as `async_trait` would, which is what the trait was declared with.
impl CallHookHandler<Guest> for Meter {
    fn handle_call_event<'hook, 'store, 'future>(
        &'hook self,
        mut store: StoreContextMut<'store, Guest>,
        event: CallHook,
    ) -> Hooked<'future>
    where
        'hook: 'future,
        'store: 'future,
        Self: 'future,
    {
        if !matches!(event, CallHook::CallingHost) {
            return Box::pin(std::future::ready(Ok(())));
        }
        let fuel_left = store.get_fuel().unwrap_or(0);
        let guest = store.data_mut();
        guest.exits += 1;
        let limit = guest.limits.host_calls;
        if guest.exits > limit && guest.host_calls(guest.fuel_used(fuel_left)) > limit {
            return Box::pin(std::future::ready(Err(HostCallLimit { limit }.into())));
        }
        if guest.yielded.elapsed() < HOST_YIELD_INTERVAL {
            return Box::pin(std::future::ready(Ok(())));
        }
        Box::pin(async move {
            tokio::task::yield_now().await;
            store.data_mut().yielded = Instant::now();
            Ok(())
        })
    }
}
