//! How much of a batch a command takes.

use crate::command::{Command, Ended, Fired, KvWrites, Merged, StagedJob, limits};
use crate::job::Outcome;

/// What a command weighs: the jobs that it may touch, and the bytes that it may write.
pub(super) fn measure(command: &Command) -> (usize, usize) {
    let merged = |merged: &[Merged]| merged.iter().map(|merged| merged.args.len()).sum::<usize>();
    match command {
        Command::Enqueue(call) => {
            let args: usize = call.jobs.iter().map(|spec| spec.args.len()).sum();
            (call.jobs.len(), args + merged(&call.merged))
        }
        Command::Finish(call) => {
            let output = match &call.outcome {
                Outcome::Completed { output } => output.len(),
                _ => 0,
            };
            let checkpoint = call.checkpoint.as_ref().map_or(0, Vec::len);
            let (rows, bytes) = measure_effects(&call.staged, call.kv.as_ref(), call.log.as_deref());
            (1 + rows, output + checkpoint + bytes + merged(&call.merged))
        }
        Command::FinishCall(call) => {
            let output = |ended: &Ended| match &ended.outcome {
                Outcome::Completed { output } => output.len(),
                _ => 0,
            };
            let outputs: usize = call.runs.iter().map(output).sum();
            let (rows, bytes) = measure_effects(&call.staged, call.kv.as_ref(), call.log.as_deref());
            (call.runs.len() + rows, outputs + bytes + merged(&call.merged))
        }
        Command::Claim(call) => (call.max as usize / 4, 0),
        Command::Lease(call) => (call.max as usize, 0),
        Command::EndLeases(call) => {
            let logs = call.runs.iter().filter_map(|ended| ended.log.as_ref());
            (call.runs.len(), logs.map(Vec::len).sum())
        }
        Command::Checkpoint { bytes, .. } => (1, bytes.len()),
        Command::Fire(call) => match &call.what {
            Fired::ByHand(_) => (1, call.args_bytes),
            Fired::Slots { slots, .. } => (1 + slots.len(), slots.len() * call.args_bytes),
        },
        Command::Edit { edit, .. } => (1, edit.args.as_ref().map_or(0, Vec::len)),
        Command::Bulk(call) => (call.filter.limit.min(limits::BULK_JOBS_MAX) as usize, 0),
        Command::Revive { .. } => (limits::SETTLED_JOBS_MAX as usize, 0),
        Command::EndBoots(_) => (limits::ENDED_RUNS_MAX as usize, 0),
        Command::Sweep(call) => (call.budget.min(limits::SWEPT_MAX) as usize, 0),
        // Each touches one job, or the whole batch has but one of them.
        Command::HandBack(_)
        | Command::Due
        | Command::Cancel { .. }
        | Command::Release(_)
        | Command::Retry { .. }
        | Command::Delete { .. }
        | Command::Start { .. }
        | Command::Settle
        | Command::Listen
        | Command::Set(_)
        | Command::Subscribe(_)
        | Command::Resume
        | Command::Schedule(_)
        | Command::Token(_)
        | Command::Name(_)
        | Command::ReserveIds { .. } => (1, 0),
    }
}

/// What a call stages: rows, and bytes.
fn measure_effects(staged: &[StagedJob], kv: Option<&KvWrites>, log: Option<&[u8]>) -> (usize, usize) {
    let args: usize = staged.iter().map(|staged| staged.spec.args.len()).sum();
    let (keys, kept) = kv.map_or((0, 0), |kv| (kv.writes.len(), kv.bytes()));
    (staged.len() + keys, args + kept + log.map_or(0, <[u8]>::len))
}
