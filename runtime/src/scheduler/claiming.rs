//! Asking the store for runs, for the node's own slots and for external workers, all at once.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use runner_store::Handle;
use runner_store::command::{Answer, Claim, Command, Part, Query, Reply};
use runner_store::job::Job;

use super::core::{self, Take};
use super::{Message, Shell};

impl Shell {
    pub(super) fn claim(&mut self, takes: Vec<Take>) {
        let (store, messages, holder) = (self.parts.store.clone(), self.messages.clone(), self.parts.boot);
        // Reading args takes its time, which is not the scheduler's.
        let reads = takes.iter().any(|take| take.shared);
        let part = |take: Take| {
            let (ask, shared) = (take.ask, take.shared);
            let command = match ask {
                Some(ask) => self.leasing(take, ask),
                None => Some(Command::Claim(Claim { holder, max: take.max, grants: take.grants })),
            };
            (ask, shared, command)
        };
        let parts: Vec<_> = takes.into_iter().map(part).collect();
        let claiming = async move {
            let claim = async |(ask, shared, command): (Option<u64>, bool, Option<Command>)| {
                let reply = match command {
                    Some(command) => store.call(command).await.ok(),
                    None => None,
                };
                let Some(Reply::Claimed(claimed)) = reply else { return (ask, Vec::new()) };
                (ask, with_sizes(&store, claimed, shared))
            };
            let (mut jobs, mut leased) = (Vec::new(), BTreeMap::<u64, Vec<Arc<Job>>>::new());
            for (ask, claimed) in together(parts.into_iter().map(claim)).await {
                match ask {
                    None => jobs.extend(claimed),
                    Some(ask) => leased.entry(ask).or_default().extend(claimed.into_iter().map(|(job, _)| job)),
                }
            }
            _ = messages.send(Message::Claimed(jobs, leased.into_iter().collect())).await;
        };
        if reads {
            self.tasks.spawn_on(claiming, &self.parts.threads);
        } else {
            self.tasks.spawn(claiming);
        }
    }

    /// Claims beside the open claim: what shares calls and what is for external workers is not among it.
    pub(super) fn claim_beside(&mut self, takes: Vec<Take>) {
        let (store, messages, holder) = (self.parts.store.clone(), self.messages.clone(), self.parts.boot);
        self.tasks.spawn(async move {
            let command = |take: Take| Command::Claim(Claim { holder, max: take.max, grants: take.grants });
            let replies = together(takes.into_iter().map(|take| store.call(command(take)))).await;
            let jobs = replies.into_iter().filter_map(|reply| match reply {
                Ok(Reply::Claimed(jobs)) => Some(jobs),
                _ => None,
            });
            _ = messages.send(Message::ClaimedBeside(jobs.flatten().collect())).await;
        });
    }
}

/// Asks all at once, so that one commit answers them.
async fn together<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut asked: Vec<_> = all.map(Box::pin).collect();
    let mut answers = Vec::with_capacity(asked.len());
    let answered = poll_fn(|cx| {
        asked.retain_mut(|one| match one.as_mut().poll(cx) {
            Poll::Ready(answer) => {
                answers.push(answer);
                false
            }
            Poll::Pending => true,
        });
        if asked.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    });
    answered.await;
    answers
}

/// Claimed jobs with the size of their args, where it matters. One whose size is not known counts as a whole call's, so that
/// it goes alone; whether its args can be read is found out when it starts.
fn with_sizes(store: &Handle, jobs: Vec<Arc<Job>>, shared: bool) -> Vec<(Arc<Job>, usize)> {
    let view = if shared { store.snapshot().ok() } else { None };
    let size = |job: &Job| match view.as_ref()?.read(&Query::Payload(job.at(), Part::Args)) {
        Ok(Answer::Payload(args)) => Some(args.map_or(0, |args| args.len())),
        _ => None,
    };
    jobs.into_iter().map(|job| (Arc::clone(&job), size(&job).unwrap_or(core::CALL_ARGS_BYTES_MAX))).collect()
}
