//! Jobs that share a call. They gather in their lane until a slot is free and there are as many as a call takes, or the first
//! of them has lingered as long as it may; then they are claimed as one call.
//!
//! Which of them go together is decided when they are claimed and the size of their args is known: in order, up to
//! [`CALL_ARGS_BYTES_MAX`]; what does not fit is the next call. Jobs of a call that failed are called alone.

use std::collections::VecDeque;

use runner_store::command::Lane;
use runner_store::job::Millis;

use super::{Call, Claimed, Core, Moment};

/// Args of all jobs of a call together: as much as one job may have.
pub const CALL_ARGS_BYTES_MAX: usize = 1 << 20;
/// Groups of arrivals that are told apart in a lane. Those that come when there are more count as having come with the
/// last group, and are called a little earlier than they need be.
const ARRIVALS_MAX: usize = 64;

/// When the jobs of a lane came, the first first; kept only where it matters, as there are many lanes.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "a lane has it, and few have arrivals: it is to be as small as a pointer")]
pub(super) struct Arrivals(Option<Box<VecDeque<(Millis, u64)>>>);

impl Arrivals {
    /// Whether they are kept from now on; so many are there.
    pub(super) fn keep(&mut self, kept: bool, available: u64, now: Millis) {
        if !kept {
            self.0 = None;
        } else if self.0.is_none() {
            self.0 = Some(Box::default());
            self.changed(i64::try_from(available).unwrap_or(i64::MAX), now);
        }
    }

    /// So many came, or, if negative, so many of the first went.
    pub(super) fn changed(&mut self, difference: i64, now: Millis) {
        let Some(groups) = &mut self.0 else { return };
        if difference > 0 {
            let came = difference.unsigned_abs();
            let full = groups.len() >= ARRIVALS_MAX;
            match groups.back_mut() {
                Some((at, n)) if *at == now || full => *n += came,
                _ => groups.push_back((now, came)),
            }
            return;
        }
        let mut went = difference.unsigned_abs();
        while let Some((_, n)) = groups.front_mut() {
            if *n > went {
                *n -= went;
                return;
            }
            went -= *n;
            groups.pop_front();
        }
    }

    /// When the first has lingered so long.
    pub(super) fn lingered_at(&self, linger: Millis) -> Option<Millis> {
        let (at, _) = self.0.as_ref()?.front()?;
        Some(Millis(at.0.saturating_add(linger.0)))
    }
}

impl Core {
    /// Whether a lane has a whole call's jobs, or the first of them has lingered.
    pub(super) fn gathered(&self, lane: Lane, now: Moment) -> bool {
        let Some(tenant) = self.tenants.get(lane.tenant) else { return false };
        if let (false, Some(batch)) = (lane.key.is_none(), tenant.batch(lane)) {
            return self.key_gathered(lane, batch, now);
        }
        let (Some(batch), Some(state)) = (tenant.batch(lane), tenant.lanes.get(&lane)) else { return false };
        let lingered = || state.arrivals.lingered_at(batch.linger).is_some_and(|at| at <= now.uptime);
        state.available >= u64::from(batch.max) || (state.available > 0 && lingered())
    }

    /// The calls that the claimed runs of a lane make.
    pub(super) fn calls(&self, lane: Lane, mut runs: Vec<Claimed>) -> Vec<Call> {
        let max = self.tenants.get(lane.tenant).and_then(|tenant| tenant.batch(lane)).map_or(1, |batch| batch.max);
        runs.sort_unstable_by_key(|claimed| claimed.order);
        let (mut calls, mut bytes): (Vec<Call>, usize) = (Vec::new(), 0);
        // The call that is being filled.
        let mut open: Option<usize> = None;
        for claimed in runs {
            let fits = bytes.saturating_add(claimed.args_bytes) <= CALL_ARGS_BYTES_MAX;
            match open {
                _ if claimed.alone => calls.push(Call::of_one(&claimed)),
                Some(at) if fits && calls[at].others.len() + 1 < max as usize => {
                    bytes += claimed.args_bytes;
                    calls[at].others.push(claimed.run);
                }
                _ => {
                    bytes = claimed.args_bytes;
                    open = Some(calls.len());
                    calls.push(Call::of_one(&claimed));
                }
            }
        }
        calls
    }
}
