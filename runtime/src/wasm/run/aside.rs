//! A call beside the handler's: of a policy, a merge, a middleware. It has a fresh instance, limits and a log of its own,
//! and stages nothing.
//!
//! Used like this: [`Aside::store`], then the call within [`Aside::within`], then [`Aside::said`] says how it ended. Who asks
//! knows what an answer means, and what it means that there is none.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use runner_store::job::outcome::Outcome;
use runner_store::job::time::Millis;
use tokio::time::Instant;
use wasmtime::Store;

use super::Means;
use super::watch::{Stopped, watched};
use crate::wasm::backing::Alone;
use crate::wasm::cancel::{CancelSignal, Signals};
use crate::wasm::classify::{self, Phase};
use crate::wasm::egress::WayOut;
use crate::wasm::engine;
use crate::wasm::grants::Grants;
use crate::wasm::guest::Guest;
use crate::wasm::host::{Job, Role, Staged};
use crate::wasm::limits::{Limits, MemoryLimiter};
use crate::wasm::log::RunLog;
use crate::wasm::streams::Streams;
use crate::wasm::wasi;

/// What such a call may be and use.
pub(super) struct Aside<'a> {
    pub(super) means: Means<'a>,
    pub(super) role: Role,
    pub(super) grants: Arc<Grants>,
    pub(super) limits: Limits,
    /// When it is ended.
    pub(super) deadline: Instant,
    /// What else ends it.
    pub(super) signals: Signals,
    /// How long it goes on once that asks for its end.
    pub(super) grace: Duration,
}

/// How such a call ended.
pub(super) struct Said<T> {
    /// What it answered, or how it broke instead.
    pub(super) answer: Result<T, Outcome>,
    /// What it wrote.
    pub(super) log: RunLog,
    /// Fuel it used.
    pub(super) fuel: u64,
    /// From its start to its end.
    pub(super) wall: Duration,
}

/// What is left of such a call before it is looked at.
pub(super) type Ended<T> = Result<wasmtime::Result<T>, Stopped>;

impl<'a> Aside<'a> {
    /// A call that nobody ends but its time.
    pub(super) fn new(
        means: Means<'a>,
        (role, grants, limits): (Role, Arc<Grants>, Limits),
        deadline: Instant,
    ) -> Self {
        let signals = Signals::new(CancelSignal::new(), Vec::new());
        Self { means, role, grants, limits, deadline, signals, grace: Duration::ZERO }
    }

    /// A store for the call, and where its lines go.
    pub(super) fn store(&self) -> wasmtime::Result<(Store<Guest>, Streams)> {
        let streams = Streams::default();
        let wasi = wasi::context(&streams, None, self.grants.env());
        let refuse = |_: &str, _: String, _: Vec<u8>, _: &str| Err("no jobs are enqueued from here".to_owned());
        let staged = Staged::new(Arc::clone(&self.grants), None, Arc::new(refuse), &self.limits);
        let egress = Arc::clone(self.means.egress);
        let way_out = WayOut::new(egress, self.deadline, self.limits.http_body_bytes);
        let job =
            Job::new(self.role, streams.clone(), self.signals.clone(), staged, Arc::new(Alone), Vec::new(), way_out);
        let guest = Guest::new(
            MemoryLimiter::new(self.limits.memory_bytes, self.means.memory.counting()),
            job,
            wasi,
            self.limits.clone(),
        );
        let copied_bytes_max = engine::component_copied_bytes(&self.limits);
        Ok((engine::store(self.means.engine, guest, &self.limits, copied_bytes_max)?, streams))
    }

    /// Waits for the call, as long as it may take.
    pub(super) async fn within<T>(&self, call: impl Future<Output = wasmtime::Result<T>>) -> Ended<T> {
        watched(call, self.deadline, &self.signals, self.grace).await
    }

    /// How the call ended.
    pub(super) fn said<T>(&self, store: Store<Guest>, streams: &Streams, ended: Ended<T>, begun: Instant) -> Said<T> {
        let fuel = self.limits.fuel().saturating_sub(store.get_fuel().unwrap_or(0));
        let denied = store.data().memory.denied();
        drop(store);
        let (log, _, _) = streams.finish();
        let answer = match ended {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(classify::outcome(Phase::Running, &error, denied, &self.limits, &log)),
            Err(Stopped::TimedOut) => {
                // Rounded up: a moment of it went by before the call began.
                let millis = self.deadline.saturating_duration_since(begun).as_micros().div_ceil(1_000);
                Err(Outcome::TimedOut { limit: Millis(u64::try_from(millis).unwrap_or(u64::MAX)) })
            }
            Err(Stopped::Cancelled) => Err(Outcome::Cancelled),
            Err(Stopped::Interrupted) => Err(Outcome::Interrupted),
        };
        Said { answer, log, fuel, wall: begun.elapsed() }
    }
}

impl<T> Said<T> {
    /// Of a call for which there was no store: a bug, or no memory for it.
    pub(super) fn unstarted(error: &wasmtime::Error, begun: Instant) -> Self {
        tracing::error!(%error, "no store for a call beside a handler");
        Self { answer: Err(Outcome::Interrupted), log: RunLog::default(), fuel: 0, wall: begun.elapsed() }
    }

    /// Why there is no answer, in one sentence.
    pub(super) fn why(broken: &Outcome) -> String {
        broken.error().unwrap_or_else(|| broken.name().as_str().to_owned())
    }
}

/// Makes a call on a store of its own and says how it ended: `ask!(aside, store => call)`. No function, as the future of
/// `$call` borrows the store, which has to outlive it to be measured.
macro_rules! ask {
    ($aside:expr, $store:ident => $call:expr) => {{
        let begun = tokio::time::Instant::now();
        match $aside.store() {
            Err(error) => Said::unstarted(&error, begun),
            Ok((mut store, streams)) => {
                let ended = {
                    let $store = &mut store;
                    $aside.within(async { $call }).await
                };
                $aside.said(store, &streams, ended, begun)
            }
        }
    }};
}

pub(super) use ask;
