//! What becomes of a job when something happens to it: the one place where a job changes.

use super::{
    CancelRequest, Dependency, EdgePolicy, Edit, Event, Holder, Job, JobId, JobRef, KindId, LastRun, Lease, Millis,
    Outcome, OutcomeName, QueueId, QueueOrder, Reason, Rejection, RunNumber, RunSettings, State, StateName, Time,
    UniqueHold, Verdict, limits, outcome::LEASE_RAN_OUT, spec::JobSpec,
};

/// What becomes of `job` (none: there is no such job) when `event` happens at `now`: the job as it is then (none: it is
/// gone), or why nothing changes.
///
/// # Errors
/// A [`Rejection`]: asked for something that is not allowed now. Nothing has changed.
pub fn transition(job: Option<&Job>, event: &Event, now: Time) -> Result<Option<Job>, Rejection> {
    let Some(job) = job else {
        return match event {
            Event::Enqueued { at, queue, kind, spec, dependencies, order } => {
                Ok(Some(enqueued((*at, *queue, *kind), spec, dependencies.clone(), *order, now)))
            }
            _ => Err(Rejection::Unknown),
        };
    };
    let now = not_before_its_past(job, now);
    let next = match event {
        Event::Enqueued { .. } => return Err(Rejection::Exists),
        Event::Deleted { force } => return deleted(job, *force),
        Event::Released => released(job, now),
        Event::DependencySettled { dependency, verdict } => dependency_settled(job, *dependency, *verdict, now),
        Event::Due => due(job, now),
        Event::Claimed { holder, expires_at, worker } => claimed(job, *holder, (*expires_at, worker.as_deref()), now),
        Event::Renewed { run, expires_at } => renewed(job, *run, *expires_at),
        Event::Finished { run, outcome, settings, alone } => finished(job, *run, outcome, (settings, *alone), now),
        Event::Conflicted { run, key, settings } => conflicted(job, *run, key, settings, now),
        Event::HandedBack { run } => handed_back(job, *run, now),
        Event::HolderGone { run, started, settings } => holder_gone(job, *run, *started, settings, now),
        Event::CancelRequested { reason } => cancel_requested(job, reason.as_deref(), now),
        Event::Expired => expired(job, now),
        Event::Retried { order } => retried(job, *order, now),
        Event::Revived { dependency, settled, order } => revived(job, *dependency, settled, *order, now),
        Event::Edited(edit) => edited(job, edit, now),
    };
    next.map(Some)
}

/// The wall clock may step back; a job's own times never do.
fn not_before_its_past(job: &Job, now: Time) -> Time {
    let last_change = match &job.state {
        // What is available was so at its `run_at` already.
        State::Available => job.run_at,
        State::Running(lease) => lease.claimed_at,
        State::Completed { finalized_at }
        | State::Discarded { finalized_at, .. }
        | State::Cancelled { finalized_at, .. } => *finalized_at,
        State::Held | State::Blocked | State::Scheduled | State::Retryable => job.enqueued_at,
    };
    now.max(job.enqueued_at).max(last_change)
}

fn enqueued(
    (at, queue, kind): (JobRef, QueueId, KindId),
    spec: &JobSpec,
    dependencies: Vec<Dependency>,
    order: QueueOrder,
    now: Time,
) -> Job {
    let mut job = Job {
        id: at.job,
        tenant: at.tenant,
        queue,
        kind,
        state: State::Held,
        priority: spec.priority,
        enqueued_at: now,
        run_at: spec.runs_at(now),
        expires_at: spec.expires_at,
        run: RunNumber(0),
        started: false,
        attempts: 0,
        crashes: 0,
        snoozes: 0,
        max_attempts: spec.max_attempts,
        timeout: spec.timeout,
        retry: spec.retry.clone(),
        dependencies,
        tags: spec.tags.clone(),
        last: None,
        unique: spec.unique.as_ref().map(|unique| UniqueHold {
            key: unique.key.clone(),
            states: unique.states,
            until: unique.period.map(|period| now.after(period)),
        }),
        order,
        edits: 0,
        depth: spec.depth,
        conflicts: 0,
        alone: false,
        schedule: spec.schedule.clone(),
        key: spec.key.clone(),
    };
    if let Some(state) = ended_by_dependency(&job, now) {
        job.state = state;
    } else if !spec.hold {
        job.state = waiting(&job, now);
    }
    job
}

/// Cancelled, if a dependency did not end well and its edge says that this ends the job; the first one is the reason.
fn ended_by_dependency(job: &Job, now: Time) -> Option<State> {
    let ends = |edge: &Dependency| match edge.settled {
        Some(verdict @ (Verdict::Discarded | Verdict::Cancelled | Verdict::Deleted))
            if edge.on_failure == EdgePolicy::Cancel =>
        {
            Some(Reason::Dependency { job: edge.job, verdict })
        }
        _ => None,
    };
    let reason = job.dependencies.iter().find_map(ends)?;
    Some(State::Cancelled { finalized_at: now, reason })
}

/// Where a job stands that nothing holds: it waits for what is unsettled, then for its time.
fn waiting(job: &Job, now: Time) -> State {
    if job.unsettled() > 0 {
        State::Blocked
    } else if job.run_at > now {
        State::Scheduled
    } else {
        State::Available
    }
}

fn released(job: &Job, now: Time) -> Result<Job, Rejection> {
    match &job.state {
        State::Held => Ok(Job { state: waiting(job, now), ..job.clone() }),
        State::Blocked | State::Scheduled | State::Retryable | State::Available | State::Running(_) => {
            Err(Rejection::Already(job.state.name()))
        }
        State::Completed { .. } | State::Discarded { .. } | State::Cancelled { .. } => rejected(job),
    }
}

fn dependency_settled(job: &Job, on: JobId, verdict: Verdict, now: Time) -> Result<Job, Rejection> {
    match &job.state {
        State::Held | State::Blocked => {}
        State::Scheduled | State::Retryable | State::Available | State::Running(_) => return rejected(job),
        State::Completed { .. } | State::Discarded { .. } | State::Cancelled { .. } => return rejected(job),
    }
    let unsettled = |d: &&mut Dependency| d.job == on && d.settled.is_none();
    let mut next = job.clone();
    let edge = next.dependencies.iter_mut().find(unsettled).ok_or(Rejection::NotWaiting(on))?;
    edge.settled = Some(verdict);
    if let Some(state) = ended_by_dependency(&next, now) {
        next.state = state;
    } else if next.state == State::Blocked {
        next.state = waiting(&next, now);
    }
    Ok(next)
}

fn due(job: &Job, now: Time) -> Result<Job, Rejection> {
    match &job.state {
        State::Scheduled | State::Retryable if now >= job.run_at => Ok(Job { state: State::Available, ..job.clone() }),
        State::Scheduled | State::Retryable => Err(Rejection::NotDue { run_at: job.run_at }),
        State::Held | State::Blocked | State::Available | State::Running(_) => rejected(job),
        State::Completed { .. } | State::Discarded { .. } | State::Cancelled { .. } => rejected(job),
    }
}

fn claimed(
    job: &Job,
    holder: Holder,
    (expires_at, worker): (Option<Time>, Option<&str>),
    now: Time,
) -> Result<Job, Rejection> {
    let worker = worker.map(|name| cut(name, limits::WORKER_BYTES_MAX));
    let lease = Lease { holder, claimed_at: now, expires_at, cancel: None, worker };
    match &job.state {
        #[cfg(planted = "claim_twice")]
        State::Running(_) => Ok(Job { state: State::Running(lease), run: job.run.next(), ..job.clone() }),
        State::Available => Ok(Job {
            state: State::Running(lease),
            run: if cfg!(planted = "run_reused") { job.run } else { job.run.next() },
            ..job.clone()
        }),
        State::Held | State::Blocked | State::Scheduled | State::Retryable | State::Running(_) => rejected(job),
        State::Completed { .. } | State::Discarded { .. } | State::Cancelled { .. } => rejected(job),
    }
}

fn renewed(job: &Job, run: RunNumber, expires_at: Time) -> Result<Job, Rejection> {
    let lease = fenced(job, run)?;
    // Later only: a renewal that was overtaken by another one takes nothing away.
    let expires_at = lease.expires_at.map(|old| old.max(expires_at));
    Ok(Job { state: State::Running(Lease { expires_at, ..lease.clone() }), ..job.clone() })
}

fn finished(
    job: &Job,
    run: RunNumber,
    outcome: &Outcome,
    (settings, alone): (&RunSettings, bool),
    now: Time,
) -> Result<Job, Rejection> {
    let lease = fenced(job, run)?;
    let mut last = last_run(run, outcome);
    if let (Outcome::Crashed, Holder::Worker(_)) = (outcome, &lease.holder) {
        last.error = Some(LEASE_RAN_OUT.to_owned());
    }
    let mut next = Job { started: true, last: Some(last), conflicts: 0, alone: job.alone || alone, ..job.clone() };
    if !matches!(outcome, Outcome::Interrupted | Outcome::Cancelled | Outcome::Crashed) {
        next.crashes = 0;
    }
    if let Outcome::Completed { .. } = outcome {
        next.attempts += 1;
        next.alone = false;
        next.state = State::Completed { finalized_at: now };
        return Ok(next);
    }
    if let Some(request) = &lease.cancel {
        next.state = cancelled(request, now);
        return Ok(next);
    }
    match outcome {
        Outcome::Completed { .. } => unreachable!("handled above"),
        Outcome::Discarded { reason } => {
            next.attempts += 1;
            let reason = Reason::Handler(cut(reason, limits::ROW_ERROR_BYTES_MAX));
            next.state = State::Discarded { finalized_at: now, reason };
        }
        Outcome::Snoozed { delay, .. } => snoozed(&mut next, *delay, settings, now),
        // Without a request there is nothing to be cancelled by: the node ended the run for reasons of its own.
        Outcome::Interrupted | Outcome::Cancelled => next.state = State::Available,
        Outcome::Crashed => crashed(&mut next, settings, now),
        Outcome::Failed { retry_after, .. } => failed(&mut next, *retry_after, settings, now),
        Outcome::Trapped { .. }
        | Outcome::OutOfFuel { .. }
        | Outcome::TimedOut { .. }
        | Outcome::OutOfMemory { .. }
        | Outcome::OutputTooLarge { .. }
        | Outcome::PluginBroken { .. } => failed(&mut next, None, settings, now),
    }
    Ok(next)
}

fn conflicted(job: &Job, run: RunNumber, key: &str, settings: &RunSettings, now: Time) -> Result<Job, Rejection> {
    let lease = fenced(job, run)?;
    let conflicts = job.conflicts.saturating_add(1);
    let last = Some(last_run(run, &Outcome::conflict(key)));
    let mut next = Job { started: true, crashes: 0, last, conflicts, ..job.clone() };
    if let Some(request) = &lease.cancel {
        next.state = cancelled(request, now);
    } else if conflicts <= limits::CONFLICTS_MAX {
        // At once, and in its old place: whoever changed the key has got on, so that somebody always does.
        next.state = State::Available;
    } else {
        failed(&mut next, None, settings, now);
    }
    Ok(next)
}

fn handed_back(job: &Job, run: RunNumber, now: Time) -> Result<Job, Rejection> {
    let lease = fenced(job, run)?;
    let last = Some(last_run(run, &Outcome::Interrupted));
    let state = lease.cancel.as_ref().map_or(State::Available, |request| cancelled(request, now));
    Ok(Job { state, last, ..job.clone() })
}

fn holder_gone(job: &Job, run: RunNumber, started: bool, settings: &RunSettings, now: Time) -> Result<Job, Rejection> {
    if started { finished(job, run, &Outcome::Crashed, (settings, false), now) } else { handed_back(job, run, now) }
}

fn failed(next: &mut Job, retry_after: Option<Millis>, settings: &RunSettings, now: Time) {
    next.attempts += 1;
    let attempts = next.attempts;
    if attempts >= next.max_attempts.unwrap_or(settings.max_attempts) {
        return discard(next, Reason::AttemptsExhausted { attempts }, now);
    }
    let policy = next.retry.as_ref().unwrap_or(&settings.retry);
    let asked = retry_after.map(|delay| delay.min(limits::RETRY_DELAY_MAX));
    let by_policy = policy.delay(attempts, next.id, next.run);
    match (by_policy, asked) {
        (None, _) => discard(next, Reason::NeverRetried, now),
        (Some(_), Some(delay)) | (Some(delay), None) => {
            next.run_at = now.after(delay);
            next.state = State::Retryable;
        }
    }
}

fn crashed(next: &mut Job, settings: &RunSettings, now: Time) {
    next.crashes += 1;
    let crashes = next.crashes;
    failed(next, None, settings, now);
    if crashes >= limits::CRASHES_MAX {
        discard(next, Reason::Poison { crashes }, now);
    } else if next.state.name() == StateName::Discarded {
        discard(next, Reason::Crashed, now);
    }
}

fn snoozed(next: &mut Job, delay: Millis, settings: &RunSettings, now: Time) {
    let delay = delay.clamp(limits::SNOOZE_MIN, limits::SNOOZE_MAX);
    next.snoozes += 1;
    if next.snoozes > limits::SNOOZES_MAX {
        return failed(next, Some(delay), settings, now);
    }
    next.run_at = now.after(delay);
    next.state = State::Scheduled;
}

fn cancel_requested(job: &Job, reason: Option<&str>, now: Time) -> Result<Job, Rejection> {
    let request = CancelRequest { at: now, reason: reason.map(|words| cut(words, limits::REASON_BYTES_MAX)) };
    match &job.state {
        State::Held | State::Blocked | State::Scheduled | State::Retryable | State::Available => {
            Ok(Job { state: cancelled(&request, now), ..job.clone() })
        }
        State::Running(lease) if lease.cancel.is_none() => {
            let lease = Lease { cancel: Some(request), ..lease.clone() };
            Ok(Job { state: State::Running(lease), ..job.clone() })
        }
        State::Running(_) | State::Cancelled { .. } => Err(Rejection::Already(StateName::Cancelled)),
        State::Completed { .. } | State::Discarded { .. } => rejected(job),
    }
}

fn expired(job: &Job, now: Time) -> Result<Job, Rejection> {
    match &job.state {
        State::Held | State::Blocked | State::Scheduled | State::Available if job.is_expired(now) => {
            let mut next = job.clone();
            discard(&mut next, Reason::Expired, now);
            Ok(next)
        }
        State::Held | State::Blocked | State::Scheduled | State::Available => Err(Rejection::NotExpired),
        State::Retryable | State::Running(_) => rejected(job),
        State::Completed { .. } | State::Discarded { .. } | State::Cancelled { .. } => rejected(job),
    }
}

fn retried(job: &Job, order: QueueOrder, now: Time) -> Result<Job, Rejection> {
    match &job.state {
        State::Completed { .. }
        | State::Discarded { .. }
        | State::Cancelled { .. }
        | State::Retryable
        | State::Scheduled => {
            let mut next = Job { state: State::Available, ..as_new(job, order, now) };
            // It does not wait again, whatever it waited for when it ended.
            for edge in &mut next.dependencies {
                edge.settled.get_or_insert(Verdict::Waived);
            }
            Ok(next)
        }
        State::Available => Err(Rejection::Already(StateName::Available)),
        State::Held | State::Blocked | State::Running(_) => rejected(job),
    }
}

fn revived(
    job: &Job,
    dependency: JobId,
    settled: &[(JobId, Verdict)],
    order: QueueOrder,
    now: Time,
) -> Result<Job, Rejection> {
    match &job.state {
        State::Cancelled { reason: Reason::Dependency { job: named, .. }, .. } if *named == dependency => {}
        State::Cancelled { .. } => return Err(Rejection::NotWaiting(dependency)),
        _ => return rejected(job),
    }
    let mut next = as_new(job, order, now);
    for edge in &mut next.dependencies {
        if edge.job == dependency || edge.settled.is_none() {
            edge.settled = settled.iter().find(|(job, _)| *job == edge.job).map(|(_, verdict)| *verdict);
        }
    }
    next.state = ended_by_dependency(&next, now).unwrap_or_else(|| waiting(&next, now));
    Ok(next)
}

/// The job as if it had never failed; run numbers go on, as a fence is never reset.
fn as_new(job: &Job, order: QueueOrder, now: Time) -> Job {
    let again = Job { order, run_at: now, expires_at: None, attempts: 0, crashes: 0, snoozes: 0, ..job.clone() };
    Job { conflicts: 0, alone: false, ..again }
}

fn edited(job: &Job, edit: &Edit, now: Time) -> Result<Job, Rejection> {
    match &job.state {
        State::Held | State::Blocked | State::Scheduled | State::Retryable | State::Available => {}
        State::Running(_) | State::Completed { .. } | State::Discarded { .. } | State::Cancelled { .. } => {
            return rejected(job);
        }
    }
    let mut next = job.clone();
    next.priority = edit.priority.unwrap_or(job.priority);
    next.max_attempts = edit.max_attempts.or(job.max_attempts);
    next.timeout = edit.timeout.or(job.timeout);
    next.expires_at = edit.expires_at.unwrap_or(job.expires_at);
    next.retry = edit.retry.clone().or(next.retry);
    next.tags = edit.tags.clone().unwrap_or(next.tags);
    next.depth = edit.depth.map_or(job.depth, |depth| depth.max(job.depth));
    next.key = edit.key.clone().unwrap_or(next.key);
    next.edits += u32::from(edit.args.is_some());
    if let Some(run_at) = edit.run_at {
        next.run_at = run_at.max(now);
        next.state = match job.state {
            State::Held => State::Held,
            State::Retryable if next.run_at > now => State::Retryable,
            _ => waiting(&next, now),
        };
    }
    Ok(next)
}

fn deleted(job: &Job, force: bool) -> Result<Option<Job>, Rejection> {
    match &job.state {
        State::Running(_) if !force => rejected(job).map(Some),
        State::Held | State::Blocked | State::Scheduled | State::Retryable | State::Available | State::Running(_) => {
            Ok(None)
        }
        State::Completed { .. } | State::Discarded { .. } | State::Cancelled { .. } => Ok(None),
    }
}

/// The fence: the lease, if `run` is the run that holds it.
fn fenced(job: &Job, run: RunNumber) -> Result<&Lease, Rejection> {
    match job.lease() {
        Some(lease) if job.is_held_by(run) => Ok(lease),
        _ => Err(Rejection::Stale { said: run }),
    }
}

fn rejected<T>(job: &Job) -> Result<T, Rejection> {
    Err(Rejection::State(job.state.name()))
}

fn discard(next: &mut Job, reason: Reason, now: Time) {
    next.state = State::Discarded { finalized_at: now, reason };
}

fn cancelled(request: &CancelRequest, now: Time) -> State {
    State::Cancelled { finalized_at: now, reason: Reason::Requested(request.reason.clone()) }
}

fn last_run(run: RunNumber, outcome: &Outcome) -> LastRun {
    let error = outcome.error().map(|text| cut(&text, limits::ROW_ERROR_BYTES_MAX));
    let outcome: OutcomeName = outcome.name();
    LastRun { run, outcome, error }
}

/// The first `max` bytes of `text`, whole characters.
fn cut(text: &str, max: usize) -> String {
    text[..text.floor_char_boundary(max)].to_owned()
}
