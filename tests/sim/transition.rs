//! The rules about jobs against a table that was written from the design, not from the code: every state, every event,
//! the moments around every boundary. Behind it, what must hold of all of them.

mod properties;
mod table;

use runner_store::job::*;

/// The moment at which everything happens.
pub(crate) const NOW: Time = Time(1_000_000);
/// The run that holds the lease of a running job, and the last one of any other.
const RUN: RunNumber = RunNumber(4);
const DEPENDENCY: JobId = JobId(3);
const OTHER_DEPENDENCY: JobId = JobId(5);
const HOLDER: Holder = Holder::Node(BootId(9));

/// No jitter, so that times can be written down.
fn settings() -> RunSettings {
    let backoff = Backoff::Exponential { base: Millis(1_000), factor_permille: 2_000 };
    RunSettings { max_attempts: 3, retry: RetryPolicy { backoff, jitter_permille: 0, max: Millis::secs(60) } }
}

/// A job in this state, half-way through a life in which it ran and failed once and nothing is due, late or exhausted.
fn job(state: StateName) -> Job {
    let finalized_at = Time(NOW.0 - 10);
    let state = match state {
        StateName::Held => State::Held,
        StateName::Blocked => State::Blocked,
        StateName::Scheduled => State::Scheduled,
        StateName::Retryable => State::Retryable,
        StateName::Available => State::Available,
        StateName::Running => State::Running(Lease {
            holder: HOLDER,
            claimed_at: Time(NOW.0 - 10),
            expires_at: Some(Time(NOW.0 + 30_000)),
            cancel: None,
            worker: None,
        }),
        StateName::Completed => State::Completed { finalized_at },
        StateName::Discarded => State::Discarded { finalized_at, reason: Reason::NeverRetried },
        StateName::Cancelled => State::Cancelled { finalized_at, reason: Reason::Requested(None) },
    };
    Job {
        id: JobId(7),
        tenant: TenantId(1),
        queue: QueueId(1),
        kind: KindId(2),
        state,
        priority: Priority(0),
        enqueued_at: Time(NOW.0 - 1_000),
        run_at: Time(NOW.0 - 1_000),
        expires_at: None,
        run: RUN,
        started: true,
        attempts: 1,
        crashes: 0,
        snoozes: 0,
        max_attempts: None,
        timeout: None,
        retry: None,
        dependencies: Vec::new(),
        tags: vec![("a".to_owned(), "b".to_owned())],
        last: None,
        unique: None,
        order: QueueOrder::default(),
        edits: 0,
        depth: 0,
        conflicts: 0,
        alone: false,
        schedule: None,
        key: None,
    }
}

fn with_cancel(mut job: Job) -> Job {
    if let State::Running(lease) = &mut job.state {
        lease.cancel = Some(CancelRequest { at: Time(NOW.0 - 5), reason: Some("not needed".to_owned()) });
    }
    job
}

fn waits_for(job: JobId, on_failure: EdgePolicy) -> Dependency {
    Dependency { job, on_failure, settled: None }
}

fn finished(run: RunNumber, outcome: Outcome) -> Event {
    Event::Finished { run, outcome, settings: settings(), alone: false }
}

fn conflicted(run: RunNumber) -> Event {
    Event::Conflicted { run, key: "seats".to_owned(), settings: settings() }
}

fn enqueued(spec: JobSpec) -> Event {
    let at = JobRef { tenant: TenantId(1), job: JobId(8) };
    Event::Enqueued {
        at,
        queue: QueueId(1),
        kind: KindId(2),
        spec: Box::new(spec),
        dependencies: Vec::new(),
        order: QueueOrder::default(),
    }
}

/// One of every outcome, in the order of their names.
fn outcomes() -> Vec<Outcome> {
    let text = || "why".to_owned();
    let outcomes = vec![
        Outcome::Completed { output: b"1".to_vec() },
        Outcome::Failed { message: text(), retry_after: None },
        Outcome::Discarded { reason: text() },
        Outcome::Snoozed { delay: Millis(500), reason: Some(text()) },
        Outcome::Trapped { code: "unreachable".to_owned(), message: text(), backtrace: Some(text()) },
        Outcome::OutOfFuel { limit: 1 },
        Outcome::TimedOut { limit: Millis(1) },
        Outcome::OutOfMemory { limit_bytes: 1 },
        Outcome::OutputTooLarge { limit_bytes: 1 },
        Outcome::Cancelled,
        Outcome::Interrupted,
        Outcome::Crashed,
        Outcome::PluginBroken { message: text() },
    ];
    assert!(outcomes.iter().map(Outcome::name).eq(OutcomeName::ALL), "one of every outcome");
    outcomes
}
