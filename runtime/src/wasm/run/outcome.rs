//! What the end of a call means for each of its jobs. Pure.

use runner_store::job::outcome::Outcome;

use super::call::Called;
use super::report::JobEnd;
use super::watch::Stopped;
use crate::wasm::answer::Answer;
use crate::wasm::cancel::Signals;
use crate::wasm::classify;
use crate::wasm::command;
use crate::wasm::host::Staged;
use crate::wasm::limits::{Limits, MemoryLimiter};
use crate::wasm::log::RunLog;
use crate::wasm::streams::LastLine;

/// How the jobs of a call ended.
pub(super) struct Ends {
    /// The first.
    pub(super) first: Outcome,
    /// The others, in order.
    pub(super) others: Vec<JobEnd>,
    /// Whether the call failed, instead of its jobs.
    pub(super) call_failed: bool,
    /// Whether what it staged is to be recorded.
    pub(super) keeps: bool,
}

/// See the module.
pub(super) fn ends(
    ended: Result<Called, Stopped>,
    memory: &MemoryLimiter,
    staged: &mut Staged,
    limits: &Limits,
    cancel: &Signals,
    (log, last): (&RunLog, LastLine),
) -> Ends {
    let failed = |outcome| Ends::failed(outcome, cancel);
    match ended {
        Err(Stopped::TimedOut) => failed(Outcome::TimedOut { limit: limits.timeout }),
        // Each by its own signal: of a batch, some were cancelled and others only drained.
        Err(Stopped::Cancelled | Stopped::Interrupted) => stopped(cancel),
        Ok(Called::Broke(phase, error)) => failed(classify::outcome(phase, &error, memory.denied(), limits, log)),
        Ok(Called::Miscounted(results)) => {
            let jobs = 1 + cancel.others().len();
            let message = format!("answered {results} results for {jobs} jobs; there must be one for each, in order");
            failed(classify::bad_answer(message))
        }
        Ok(Called::Answered(answer)) => one(answer.outcome(limits, |bytes| staged.fits(bytes)), memory, limits),
        Ok(Called::Exited(code)) => {
            one(command_outcome(command::ended(code, last, log), staged, limits), memory, limits)
        }
        Ok(Called::AnsweredAll(answers)) => all(answers, memory, staged, limits, cancel),
    }
}

/// The job of a call that has one.
fn one(outcome: Outcome, memory: &MemoryLimiter, limits: &Limits) -> Ends {
    let first = coped(outcome, memory, limits);
    let keeps = matches!(first, Outcome::Completed { .. } | Outcome::Snoozed { .. } | Outcome::Discarded { .. });
    Ends { first, others: Vec::new(), call_failed: false, keeps }
}

/// The jobs of a call of `batch`, whose results together are bounded as one call's are.
fn all(answers: Vec<Answer>, memory: &MemoryLimiter, staged: &Staged, limits: &Limits, cancel: &Signals) -> Ends {
    let outputs = answers.iter().map(Answer::output_bytes).fold(0_usize, usize::saturating_add);
    if outputs as u64 > limits.output_bytes {
        return Ends::failed(Outcome::OutputTooLarge { limit_bytes: limits.output_bytes }, cancel);
    }
    if !staged.fits(outputs) {
        return Ends::failed(Outcome::OutputTooLarge { limit_bytes: limits.staged_bytes }, cancel);
    }
    let mut outcomes = answers.into_iter().map(|answer| coped(answer.outcome(limits, |_| true), memory, limits));
    let first = outcomes.next().expect("there are as many answers as jobs, and a call has at least one");
    let others: Vec<JobEnd> = outcomes.map(JobEnd::of).collect();
    let completed = |outcome: &Outcome| matches!(outcome, Outcome::Completed { .. });
    let keeps = completed(&first) || others.iter().any(|end| completed(&end.outcome));
    Ends { first, others, call_failed: false, keeps }
}

/// A failure after a denied growth is its consequence; who completes after one has coped.
fn coped(outcome: Outcome, memory: &MemoryLimiter, limits: &Limits) -> Outcome {
    match outcome {
        Outcome::Failed { .. } if memory.denied() => Outcome::OutOfMemory { limit_bytes: limits.memory_bytes },
        outcome => outcome,
    }
}

fn stopped(cancel: &Signals) -> Ends {
    let of = |asked: crate::wasm::cancel::Asked| match asked.cancelled {
        Some(_) => Outcome::Cancelled,
        None => Outcome::Interrupted,
    };
    let others = cancel.others().iter().map(|signal| JobEnd::of(of(signal.asked()))).collect();
    Ends { first: of(cancel.first().asked()), others, call_failed: false, keeps: false }
}

fn command_outcome(ended: command::Ended, staged: &mut Staged, limits: &Limits) -> Outcome {
    let (answer, jobs) = match ended {
        command::Ended::Answer(answer, jobs) => (answer, jobs),
        command::Ended::BadAnswer(why) => return classify::bad_answer(why),
        command::Ended::TooLarge => return Outcome::OutputTooLarge { limit_bytes: limits.output_bytes },
    };
    for job in jobs {
        if let Err(refused) = staged.enqueue(job) {
            let message = format!("enqueue was refused ({}): {refused}", refused.code);
            return Outcome::Failed { message, retry_after: None };
        }
    }
    answer.outcome(limits, |bytes| staged.fits(bytes))
}

impl Ends {
    /// The same end for every job of the call.
    fn failed(outcome: Outcome, cancel: &Signals) -> Self {
        let others = cancel.others().iter().map(|_| JobEnd::of(outcome.clone())).collect();
        let call_failed = !matches!(outcome, Outcome::Cancelled | Outcome::Interrupted);
        Self { first: outcome, others, call_failed, keeps: false }
    }
}
