//! External workers, as the shell has them: who asks and waits for an answer, and what those that hold runs have said.
//!
//! What they are given and when their leases run out is the core's to say.

use std::collections::HashMap;
use std::sync::Arc;

use runner_store::command::{Answer, Command, EndLeases, EndedLease, Leasing, Query, RunRef};
use runner_store::job::{Job, KindId, Millis, OutcomeName, TenantId, Time};
use runner_store::notice::Leased;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::core::{Ask, Event, Take};
use super::starter::{AskLease, NotLeased, Reason};
use super::{Shell, run};
use crate::api::time::rfc3339;
use crate::node::NodeState;
use crate::run_logs;

/// What was held when the store was opened lasts so long at least: its worker may have tried to renew it meanwhile.
const FOUND_LASTS_MIN: Millis = Millis::secs(30);

/// Who asks.
#[derive(Debug)]
struct Asking {
    worker: String,
    lasts: Millis,
    answer: oneshot::Sender<Result<Vec<Arc<Job>>, NotLeased>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Workers {
    next: u64,
    asking: HashMap<u64, Asking>,
    /// When a worker last asked for jobs of a kind. External kinds and tenants are the operator's, and bounded.
    asked: HashMap<(TenantId, KindId), Time>,
    /// Since when it is known who asks; none: what was held when the store was opened is not known yet.
    since: Option<Time>,
}

impl Workers {
    /// Whether what was held when the store was opened is not known yet.
    pub(super) fn is_new(&self) -> bool {
        self.since.is_none()
    }
}

impl Shell {
    /// Lets a worker wait for runs.
    pub(super) fn lease(&mut self, AskLease { tenant, kinds, max, wait, lasts, worker, answer }: AskLease) {
        let refused = match self.core.is_crowded() {
            _ if *self.parts.state.borrow() != NodeState::Running => Some(NotLeased::Draining),
            true => Some(NotLeased::Busy),
            false => None,
        };
        if let Some(refused) = refused {
            // Whoever went away needs no answer.
            _ = answer.send(Err(refused));
            return;
        }
        let now = self.now();
        self.workers.next += 1;
        let id = self.workers.next;
        for kind in &kinds {
            self.workers.asked.insert((tenant, *kind), now.wall);
        }
        self.workers.asking.insert(id, Asking { worker, lasts, answer });
        let until = Millis(now.uptime.0.saturating_add(wait.0));
        self.tell([Event::Asked(Ask { id, tenant, kinds, max, until })]);
    }

    /// Begins the lease of a run anew.
    pub(super) fn renew(&mut self, run: RunRef, answer: oneshot::Sender<Option<Millis>>) {
        let now = self.now();
        _ = answer.send(self.core.renew(run, now));
    }

    /// The command for a worker's part of a claim; none: whoever asked is gone.
    pub(super) fn leasing(&self, take: Take, ask: u64) -> Option<Command> {
        let Asking { worker, lasts, answer } = self.workers.asking.get(&ask)?;
        if answer.is_closed() {
            return None;
        }
        let Take { max, grants, .. } = take;
        let call = Leasing { holder: number(worker), worker: worker.clone(), lasts: *lasts, max, grants };
        Some(Command::Lease(Box::new(call)))
    }

    /// Answers a worker with what came of its part of a claim.
    pub(super) fn give(&mut self, ask: u64, jobs: Vec<Arc<Job>>, events: &mut Vec<Event>) {
        events.push(Event::Leased { ask, runs: jobs.len() });
        let gone = self.workers.asking.get(&ask).is_none_or(|asking| asking.answer.is_closed());
        if jobs.is_empty() {
            if gone {
                self.workers.asking.remove(&ask);
                events.push(Event::Gone(ask));
            }
            return;
        }
        let asking = self.workers.asking.remove(&ask);
        let left = match asking {
            Some(asking) => asking.answer.send(Ok(jobs)).err().and_then(Result::ok).unwrap_or_default(),
            None => jobs,
        };
        // Nobody was told of them, so that nothing of them has begun.
        for job in left {
            let run = RunRef { at: job.at(), run: job.run };
            let store = self.parts.store.clone();
            self.tasks.spawn(async move {
                // Rejected: it was deleted; it is nobody's any more.
                _ = store.call(Command::HandBack(run)).await;
            });
        }
    }

    /// There is nothing for a worker.
    pub(super) fn give_nothing(&mut self, ask: u64) {
        let Some(asking) = self.workers.asking.remove(&ask) else { return };
        let drains = *self.parts.state.borrow() != NodeState::Running;
        _ = asking.answer.send(if drains { Err(NotLeased::Draining) } else { Ok(Vec::new()) });
    }

    /// Ends runs whose leases have run out.
    pub(super) fn expire(&mut self, runs: Vec<RunRef>) {
        let ended = |run: RunRef| {
            let said = self.parts.live.run(run.at).filter(|(number, _)| *number == run.run);
            EndedLease { run, log: said.and_then(|(_, streams)| run_logs::encode(&streams.so_far().0)) }
        };
        tracing::warn!(?runs, "their workers have not renewed the leases of these runs in time: they count as crashed");
        let runs: Vec<EndedLease> = runs.into_iter().map(ended).collect();
        let call = EndLeases { runs, crashed: true, settings: self.settings_of_externals() };
        let store = self.parts.store.clone();
        // A store that has failed stops the node, and the next one ends them.
        self.tasks.spawn(async move { drop(store.call(Command::EndLeases(Box::new(call))).await) });
    }

    fn settings_of_externals(&self) -> Vec<(KindId, runner_store::job::RunSettings)> {
        let now = self.parts.plugins.now();
        let externals = now.registry.externals();
        let of = |(tenant, kind): (&TenantId, &str)| {
            let settings = run::settings(&externals.get(kind)?.retry(kind));
            Some((self.parts.store.kind_id(*tenant, kind)?, settings))
        };
        externals
            .names()
            .flat_map(|kind| self.tenants.iter().map(move |tenant| (tenant, kind)))
            .filter_map(of)
            .collect()
    }

    /// What the store says of workers' runs.
    pub(super) fn take_leases(&mut self, leases: HashMap<RunRef, Leased>, events: &mut Vec<Event>) {
        let first = self.workers.since.is_none();
        let since = *self.workers.since.get_or_insert_with(|| self.parts.clock.now());
        if first && !leases.is_empty() {
            tracing::info!(
                runs = leases.len(),
                since = rfc3339(since),
                "external workers hold runs of before the start"
            );
        }
        for (run, leased) in leases {
            match leased {
                Leased::Held { lane, lasts } => {
                    self.know(lane.of_all_keys(), events);
                    self.parts.live.lease(run);
                    let lasts = if first { lasts.max(FOUND_LASTS_MIN) } else { lasts };
                    events.push(Event::LeaseBegan { run, lane, lasts });
                }
                Leased::Ended { outcome, .. } => {
                    self.parts.live.end_lease(run);
                    // No worker says so of a run: it was handed back before one was told of it.
                    let is_returned = outcome == Some(OutcomeName::Interrupted);
                    events.push(if is_returned { Event::LeaseReturned(run) } else { Event::LeaseEnded(run) });
                }
            }
        }
    }

    /// Why nothing of an external kind is taken: nobody asks for it.
    pub(super) fn nobody_asks(&self, tenant: TenantId, kind: KindId) -> Option<Reason> {
        if self.core.is_asked_for(tenant, kind) {
            return None;
        }
        let name = self.parts.store.kind_name(kind);
        let asked = self.workers.asked.get(&(tenant, kind)).copied();
        let since = asked.or(self.workers.since).map(rfc3339).unwrap_or_default();
        let word = if asked.is_some() { "" } else { ", when the node started" };
        let detail = format!("no worker has asked for kind {name} since {since}{word}; `POST /v1/lease` asks");
        Some(Reason { code: "no_worker", detail, passes_at: None })
    }

    /// Whether the jobs of a job's kind are workers'.
    pub(super) fn of_workers(&self, job: &Job) -> bool {
        self.parts.plugins.external(&self.parts.store.kind_name(job.kind)).is_some()
    }
}

/// A worker's number: the same for the same name.
fn number(worker: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(worker).into();
    u64::from_be_bytes(digest[..8].try_into().expect("eight bytes of 32"))
}

/// The number of a kind's name; none where the store refuses it one.
pub(crate) async fn kind_id(
    store: &runner_store::Handle,
    tenant: TenantId,
    kind: &str,
) -> Result<Option<KindId>, runner_store::error::CallError> {
    use runner_store::command::{Name, NameClass, Reply};
    if let Some(id) = store.kind_id(tenant, kind) {
        return Ok(Some(id));
    }
    let name = Name { tenant, class: NameClass::Kind, name: kind.to_owned() };
    Ok(match store.call(Command::Name(name)).await? {
        Reply::Named(id) => Some(KindId(id)),
        _ => None,
    })
}

/// The epoch of a store.
pub(crate) fn epoch(store: &runner_store::Handle) -> Result<u64, runner_store::error::StoreError> {
    match store.snapshot()?.read(&Query::Stored)? {
        Answer::Stored(stored) => Ok(stored.epoch),
        _ => unreachable!("figures are answered with figures"),
    }
}
