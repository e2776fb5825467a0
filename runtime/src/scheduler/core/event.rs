//! What the core is told, and what it says is to be done.

use std::time::Duration;

use runner_store::command::{Grant, Lane, RunRef};
use runner_store::index::{KeyOf, Order};
use runner_store::job::{KindId, Millis, QueueId, TenantId, Time};

use super::gate::{GateOf, Limits};
use super::keys::KeyLimits;
use super::leases::Ask;
use super::tenant::{Budget, Serves};

/// A moment, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// By which jobs become due.
    pub wall: Time,
    /// By which everything else is measured, as it never steps.
    pub uptime: Millis,
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The number of jobs that are available in a lane has changed.
    Available {
        /// Which lane.
        lane: Lane,
        /// By how many.
        difference: i64,
    },
    /// The jobs that are available in a lane of a key have changed.
    Keyed {
        /// Which lane.
        lane: Lane,
        /// By how many more, or fewer.
        difference: i64,
        /// What is first now; none: it is empty.
        head: Option<Order>,
    },
    /// The number of jobs of a key that have begun and not ended has changed. Told of a claim before its answer.
    Begun {
        /// Which key.
        of: KeyOf,
        /// By how many.
        difference: i64,
    },
    /// What each key of a kind may do, from now on; before, as much as others let.
    KeyLimits {
        /// Whose.
        tenant: TenantId,
        /// Which kind.
        kind: KindId,
        /// How much.
        limits: KeyLimits,
    },
    /// A plugin for the lane's kind is loaded, or another one, or none any longer. Of a lane and all lanes of its keys.
    Served {
        /// Which lane.
        lane: Lane,
        /// What its runs are like; none: no plugin serves it.
        by: Option<Serves>,
    },
    /// What a tenant may use, from now on; before, as much as there is.
    Budget {
        /// Whose.
        tenant: TenantId,
        /// How much.
        budget: Budget,
    },
    /// What holds for a queue or a kind, from now on; before, and with the default: nothing.
    Limits {
        /// Which.
        of: GateOf,
        /// What holds.
        limits: Limits,
    },
    /// How much of its tenant's part a queue gets beside others, from now on; before: [`WEIGHT_DEFAULT`](super::WEIGHT_DEFAULT).
    Weight {
        /// Whose.
        tenant: TenantId,
        /// Which.
        queue: QueueId,
        /// How much.
        weight: u32,
    },
    /// The claim that was asked for is answered: these are ours, in any order.
    Claimed(Vec<Claimed>),
    /// The same of the claim that was asked for beside the open one.
    ClaimedBeside(Vec<Claimed>),
    /// A job is to be started by hand, which is a suspect or not: it will be claimed beside the open claim.
    Wanted {
        /// Whether a crash stands behind it.
        suspect: bool,
    },
    /// The answer to that claim; none: it was refused.
    StartedByHand {
        /// As [`Event::Wanted`] said.
        suspect: bool,
        /// The run, which goes before all others.
        run: Option<Claimed>,
    },
    /// Whether claims wait for an operator.
    Paused(bool),
    /// A run has left its slot; of a call of several, the one that [`Action::Start`] named.
    Ended {
        /// Which.
        run: RunRef,
        /// What it used.
        fuel: u64,
        /// How long it was in its sandbox.
        took: Duration,
    },
    /// A tenant's plugin used fuel in a run that is another tenant's, or beside the handler.
    Spent {
        /// Whose plugin.
        tenant: TenantId,
        /// What it used.
        fuel: u64,
    },
    /// Someone wants a run ended, or its job is gone.
    Cancelled(RunRef),
    /// The runs have come to use more memory together than there is.
    ShortOfMemory,
    /// When the next job becomes due, as the store says.
    NextDue(Option<Time>),
    /// The question for what is due is answered: so many jobs became available.
    Due(u32),
    /// An external worker asks for runs.
    Asked(Ask),
    /// Whoever asked so is gone.
    Gone(u64),
    /// The part of the open claim that was this ask's is answered, with so many runs; of all of them, before
    /// [`Event::Claimed`].
    Leased {
        /// Which ask.
        ask: u64,
        /// How many.
        runs: usize,
    },
    /// An external worker holds a run, as the store says: before the answer to its claim, and of what was held when the node
    /// started.
    LeaseBegan {
        /// Which.
        run: RunRef,
        /// Where it was taken from.
        lane: Lane,
        /// How long the lease lasts without a renewal, from now.
        lasts: Millis,
    },
    /// An external worker's run has ended, as the store says.
    LeaseEnded(RunRef),
    /// The same of one that no worker was told of, so that nothing of it has begun.
    LeaseReturned(RunRef),
    /// Time has passed.
    Tick,
    /// The node rests, or stops: start nothing more.
    Drain,
    /// It goes on.
    Resume,
}

/// A run that is ours to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    /// Which.
    pub run: RunRef,
    /// Where it was claimed from.
    pub lane: Lane,
    /// Its place among others.
    pub order: Order,
    /// How much its args take of a call with others; not asked where there are none.
    pub args_bytes: usize,
    /// Whether it is not to share a call, as one with it has failed.
    pub alone: bool,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the store for runs, with all of these at once, and answer with what came of all. There is never more than one
    /// such question open.
    Claim(Vec<Take>),
    /// The same for tenants that came while one was open and have no part in it; no more than one of these is open, either.
    ClaimBeside(Vec<Take>),
    /// Enter the handler of a claimed run, or of several in one call.
    Start {
        /// Which; the call goes by its name.
        run: RunRef,
        /// Those that share the call, in order.
        others: Vec<RunRef>,
        /// The slot that it holds until it has ended.
        slot: usize,
    },
    /// End a run that has started. A call that it shares goes on until all of its runs are to end.
    End(RunRef),
    /// Interrupt a run that has started, with those that share its call: it runs again later, and has lost no attempt.
    Interrupt(Vec<RunRef>),
    /// Give a run back that has not.
    HandBack(RunRef),
    /// Tell an external worker that there is nothing for it.
    Nothing(u64),
    /// End the runs of external workers whose leases have run out.
    Expire(Vec<RunRef>),
    /// Ask the store to make available what is due. There is never more than one such question open.
    Due,
}

/// One part of a claim: of one tenant, so that none takes what is another's, or for one call of many jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    /// How many in all.
    pub max: u32,
    /// From where.
    pub grants: Vec<Grant>,
    /// Whether the runs share calls, so that the size of their args matters.
    pub shared: bool,
    /// The external worker that is to have them; none: this node.
    pub ask: Option<u64>,
}
