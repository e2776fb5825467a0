//! What an event leaves in a job, number by number; and what must hold whatever happens.

use super::*;

/// The next job; the event must be accepted.
#[track_caller]
fn after(job: &Job, event: &Event) -> Job {
    transition(Some(job), event, NOW).unwrap().unwrap()
}

/// (attempts, crashes, snoozes) after a run with this outcome, which began at (1, 1, 1).
#[track_caller]
fn check_counters(outcome: Outcome, expected: (u32, u32, u32)) {
    let running = Job { crashes: 1, snoozes: 1, ..job(StateName::Running) };
    let name = outcome.name();
    let next = after(&running, &finished(RUN, outcome));
    assert_eq!((next.attempts, next.crashes, next.snoozes), expected, "{name:?}");
    assert_eq!(next.last.map(|last| (last.run, last.outcome)), Some((RUN, name)));
}

#[test]
fn an_outcome_counts_what_it_is() {
    for outcome in outcomes() {
        let expected = match outcome.name() {
            // Snoozes are counted apart; an interrupted run proves nothing about a suspect.
            OutcomeName::Snoozed => (1, 0, 2),
            OutcomeName::Cancelled | OutcomeName::Interrupted => (1, 1, 1),
            OutcomeName::Crashed => (2, 2, 1),
            OutcomeName::Completed
            | OutcomeName::Failed
            | OutcomeName::Discarded
            | OutcomeName::Trapped
            | OutcomeName::OutOfFuel
            | OutcomeName::TimedOut
            | OutcomeName::OutOfMemory
            | OutcomeName::OutputTooLarge
            | OutcomeName::PluginBroken => (2, 0, 1),
        };
        check_counters(outcome, expected);
    }
}

#[track_caller]
fn check_run_at(change: impl FnOnce(&mut Job), outcome: Outcome, delay_ms: u64) {
    let mut running = job(StateName::Running);
    change(&mut running);
    let next = after(&running, &finished(RUN, outcome));
    assert_eq!(next.run_at, Time(NOW.0 + delay_ms), "{next:?}");
}

#[test]
fn a_failed_attempt_waits_for_its_backoff_or_as_long_as_the_handler_asked() {
    let fail = |retry_after| Outcome::Failed { message: String::new(), retry_after };
    let own = RetryPolicy { backoff: Backoff::Constant { base: Millis(77) }, jitter_permille: 0, max: Millis(100) };
    // The job has failed once: this is the second failure, so 1 s × 2.
    check_run_at(|_| (), fail(None), 2_000);
    check_run_at(|j| j.attempts = 0, fail(None), 1_000);
    check_run_at(|_| (), Outcome::Crashed, 2_000);
    check_run_at(|_| (), fail(Some(Millis(5))), 5);
    check_run_at(|_| (), fail(Some(Millis(0))), 0);
    check_run_at(|_| (), fail(Some(Millis(u64::MAX))), u64::from(u32::MAX));
    check_run_at(|j| j.retry = Some(own.clone()), fail(None), 77);
    check_run_at(|j| j.retry = Some(own.clone()), fail(Some(Millis(5_000))), 5_000);
}

#[test]
fn a_snooze_is_at_least_100_ms_and_at_most_30_d() {
    let snooze = |ms| Outcome::Snoozed { delay: Millis(ms), reason: None };
    check_run_at(|_| (), snooze(0), 100);
    check_run_at(|_| (), snooze(99), 100);
    check_run_at(|_| (), snooze(100), 100);
    check_run_at(|_| (), snooze(2_592_000_000), 2_592_000_000);
    check_run_at(|_| (), snooze(2_592_000_001), 2_592_000_000);
    check_run_at(|j| j.snoozes = 10_000, snooze(500), 500);
}

#[track_caller]
fn check_reason(change: impl FnOnce(&mut Job), event: &Event, reason: Reason) {
    let mut running = job(StateName::Running);
    change(&mut running);
    assert_eq!(after(&running, event).reason(), Some(&reason));
}

#[test]
fn a_job_that_ended_badly_says_why() {
    let crash = Event::HolderGone { run: RUN, started: true, settings: settings() };
    let fail = || finished(RUN, Outcome::Failed { message: "no".to_owned(), retry_after: Some(Millis(1)) });
    check_reason(|j| j.attempts = 2, &fail(), Reason::AttemptsExhausted { attempts: 3 });
    check_reason(|j| j.max_attempts = Some(2), &fail(), Reason::AttemptsExhausted { attempts: 2 });
    let never = RetryPolicy { backoff: Backoff::Never, ..RetryPolicy::default() };
    check_reason(|j| j.retry = Some(never), &fail(), Reason::NeverRetried);
    check_reason(|j| j.attempts = 2, &crash, Reason::Crashed);
    check_reason(|j| j.crashes = 2, &crash, Reason::Poison { crashes: 3 });
    check_reason(|j| (j.crashes, j.attempts) = (2, 2), &crash, Reason::Poison { crashes: 3 });
    let discard = finished(RUN, Outcome::Discarded { reason: "ä".repeat(200) });
    check_reason(|_| (), &discard, Reason::Handler("ä".repeat(128)));
    check_reason(|j| *j = with_cancel(j.clone()), &fail(), Reason::Requested(Some("not needed".to_owned())));
    let held = Job { dependencies: vec![waits_for(DEPENDENCY, EdgePolicy::Cancel)], ..job(StateName::Blocked) };
    for verdict in [Verdict::Discarded, Verdict::Cancelled, Verdict::Deleted] {
        let next = after(&held, &Event::DependencySettled { dependency: DEPENDENCY, verdict });
        assert_eq!(next.reason(), Some(&Reason::Dependency { job: DEPENDENCY, verdict }));
    }
}

#[test]
fn a_retry_by_an_operator_begins_anew_and_run_numbers_go_on() {
    let worn = |state| Job { crashes: 2, snoozes: 9, expires_at: Some(NOW), run_at: Time(NOW.0 + 9), ..job(state) };
    for state in [StateName::Completed, StateName::Discarded, StateName::Cancelled, StateName::Retryable] {
        let next = after(&worn(state), &Event::Retried { order: QueueOrder::RunAt });
        assert_eq!((next.attempts, next.crashes, next.snoozes), (0, 0, 0));
        assert_eq!((next.run, next.run_at, next.expires_at), (RUN, NOW, None));
        assert_eq!((next.finalized_at(), next.order), (None, QueueOrder::RunAt));
    }
}

#[test]
fn a_claim_is_a_new_run_with_a_lease() {
    let claimed =
        after(&job(StateName::Available), &Event::Claimed { holder: HOLDER, expires_at: Some(Time(5)), worker: None });
    let lease = Lease { holder: HOLDER, claimed_at: NOW, expires_at: Some(Time(5)), cancel: None, worker: None };
    assert_eq!((claimed.run, claimed.lease()), (RunNumber(RUN.0 + 1), Some(&lease)));
}

#[test]
fn a_renewal_only_ever_lengthens_a_lease() {
    let running = job(StateName::Running);
    let expiry = |to| {
        let next = after(&running, &Event::Renewed { run: RUN, expires_at: Time(to) });
        next.lease().unwrap().expires_at
    };
    let old = NOW.0 + 30_000;
    assert_eq!(expiry(old + 1), Some(Time(old + 1)));
    assert_eq!(expiry(old - 1), Some(Time(old)), "an overtaken renewal takes nothing away");
}

/// Five are not counted; any other end begins a new row, a run that never began does not.
#[test]
fn conflicts_in_a_row_are_counted_apart() {
    let mut running = Job { crashes: 1, ..job(StateName::Running) };
    for conflicts in 1..=5 {
        let next = after(&running, &conflicted(RUN));
        assert_eq!((next.conflicts, next.attempts, next.crashes, next.run_at), (conflicts, 1, 0, running.run_at));
        let last = next.last.clone().unwrap();
        assert_eq!((last.run, last.outcome), (RUN, OutcomeName::Failed));
        assert!(last.error.unwrap().starts_with("kv_conflict: another run changed the key \"seats\""));
        running = Job { state: running.state.clone(), ..next };
    }
    let sixth = after(&running, &conflicted(RUN));
    assert_eq!((sixth.conflicts, sixth.attempts, sixth.run_at), (6, 2, Time(NOW.0 + 2_000)));
    assert_eq!(after(&running, &Event::HandedBack { run: RUN }).conflicts, 5);
    for outcome in outcomes() {
        assert_eq!(after(&running, &finished(RUN, outcome)).conflicts, 0);
    }
    let worn = Job { conflicts: 5, ..job(StateName::Discarded) };
    assert_eq!(after(&worn, &Event::Retried { order: QueueOrder::Priority }).conflicts, 0);
}

/// Until it completes, or an operator retries it.
#[test]
fn a_job_whose_shared_call_failed_is_taken_alone() {
    let shared = |outcome| Event::Finished { run: RUN, outcome, settings: settings(), alone: true };
    let fail = || Outcome::Failed { message: String::new(), retry_after: None };
    let running = job(StateName::Running);
    assert!(after(&running, &shared(fail())).alone);
    assert!(!after(&running, &shared(Outcome::Completed { output: vec![] })).alone);
    let alone = Job { alone: true, ..running };
    assert!(after(&alone, &finished(RUN, fail())).alone && after(&alone, &conflicted(RUN)).alone);
    assert!(!after(&alone, &finished(RUN, Outcome::Completed { output: vec![] })).alone);
    let discarded = Job { alone: true, ..job(StateName::Discarded) };
    assert!(!after(&discarded, &Event::Retried { order: QueueOrder::Priority }).alone);
}

/// Every state, and what makes a difference within it.
fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    for state in StateName::ALL {
        for run_at in [NOW.0 - 1, NOW.0, NOW.0 + 1] {
            for expires_at in [None, Some(Time(NOW.0 - 1)), Some(NOW), Some(Time(NOW.0 + 1))] {
                for (attempts, crashes, snoozes) in [(0, 0, 0), (1, 1, 9_999), (2, 2, 10_000), (24, 0, 0)] {
                    for started in [false, true] {
                        let base = job(state);
                        let dependencies = vec![waits_for(DEPENDENCY, EdgePolicy::Cancel)];
                        let run_at = Time(run_at);
                        let one = Job { run_at, expires_at, attempts, crashes, snoozes, started, dependencies, ..base };
                        jobs.extend([with_cancel(one.clone()), one]);
                    }
                }
            }
        }
    }
    jobs
}

/// Every event, and what makes a difference within it.
fn events() -> Vec<Event> {
    let mut events = vec![
        enqueued(JobSpec::new("a", "")),
        Event::Released,
        Event::Due,
        Event::Claimed { holder: HOLDER, expires_at: None, worker: None },
        Event::CancelRequested { reason: Some("x".repeat(300)) },
        Event::Expired,
        Event::Retried { order: QueueOrder::Priority },
        Event::Edited(Edit::default()),
        Event::Deleted { force: false },
        Event::Deleted { force: true },
    ];
    for at in [NOW.0 - 1, NOW.0, NOW.0 + 1] {
        events.push(Event::Edited(Edit { run_at: Some(Time(at)), max_attempts: Some(1), ..Edit::default() }));
        events.push(Event::Renewed { run: RUN, expires_at: Time(at) });
    }
    for run in [RUN.0 - 1, RUN.0, RUN.0 + 1].map(RunNumber) {
        events.push(Event::HandedBack { run });
        events.push(conflicted(run));
        let trapped = Outcome::Trapped { code: String::new(), message: String::new(), backtrace: None };
        events.push(Event::Finished { run, outcome: trapped, settings: settings(), alone: true });
        events.extend([false, true].map(|started| Event::HolderGone { run, started, settings: settings() }));
        events.extend(outcomes().into_iter().map(|outcome| finished(run, outcome)));
    }
    for verdict in [Verdict::Completed, Verdict::Discarded, Verdict::Cancelled, Verdict::Deleted] {
        events
            .extend([DEPENDENCY, OTHER_DEPENDENCY].map(|dependency| Event::DependencySettled { dependency, verdict }));
    }
    events
}

#[test]
fn whatever_happens_nothing_that_must_not_change_changes() {
    let (jobs, events) = (jobs(), events());
    let mut accepted = 0;
    for job in &jobs {
        for event in &events {
            // Also with a clock that stepped back to before the job was there.
            for now in [NOW, Time(NOW.0 - 5_000)] {
                let before = job.clone();
                let next = transition(Some(job), event, now);
                assert_eq!(*job, before, "a transition changes nothing in place");
                assert_eq!(next, transition(Some(job), event, now), "the same again is the same");
                if let Ok(Some(next)) = next {
                    accepted += 1;
                    check_invariants(job, &next, event);
                }
            }
        }
    }
    assert!(accepted > 10_000, "{accepted} of {}", jobs.len() * events.len() * 2);
}

#[track_caller]
fn check_invariants(job: &Job, next: &Job, event: &Event) {
    let about = || format!("{event:?}\nfrom {job:?}\nto {next:?}");
    assert_eq!((next.id, next.tenant, next.queue, next.kind), (job.id, job.tenant, job.queue, job.kind));
    assert_eq!((next.enqueued_at, &next.tags), (job.enqueued_at, &job.tags), "{}", about());
    assert!(next.run >= job.run && next.run.0 <= job.run.0 + 1, "{}", about());
    assert_eq!(next.run > job.run, matches!(event, Event::Claimed { .. }), "{}", about());
    assert!(next.started || !job.started, "what started stays started: {}", about());
    assert_eq!(next.state.name().is_final(), next.finalized_at().is_some());
    let ended_badly = matches!(next.state.name(), StateName::Discarded | StateName::Cancelled);
    assert_eq!(ended_badly, next.reason().is_some(), "{}", about());
    if let Some(end) = next.finalized_at() {
        let floor = job.lease().map_or(job.enqueued_at, |lease| lease.claimed_at);
        assert!(end >= floor, "ends before it began: {}", about());
    }
    if let Some(lease) = next.lease() {
        assert!(lease.claimed_at >= job.enqueued_at, "{}", about());
    }
    for (old, new) in job.dependencies.iter().zip(&next.dependencies) {
        assert!(old.settled.is_none() || old == new, "an edge is settled once: {}", about());
    }
    if let Event::Finished { run, .. } | Event::HandedBack { run } | Event::HolderGone { run, .. } = event {
        assert_eq!((*run, job.state.name()), (job.run, StateName::Running), "the fence: {}", about());
        assert_ne!(next.state.name(), StateName::Running, "{}", about());
    }
    for text in next.last.iter().filter_map(|last| last.error.as_ref()) {
        assert!(text.len() <= 256, "{}", about());
    }
}

/// The story: a job was finished at 13:00, the clock stepped back an hour, an operator retried it. Its new run was then
/// claimed and finished "before" its first end, and retention and screens saw a job that had ended before it ran.
#[test]
fn a_clock_that_steps_back_between_two_runs_takes_no_time_back() {
    let earlier = Time(NOW.0 - 500);
    let done = job(StateName::Completed);
    let ended = done.finalized_at().unwrap();
    let retried = transition(Some(&done), &Event::Retried { order: QueueOrder::Priority }, earlier).unwrap().unwrap();
    let claim = Event::Claimed { holder: HOLDER, expires_at: None, worker: None };
    let running = transition(Some(&retried), &claim, earlier).unwrap().unwrap();
    assert!(running.lease().unwrap().claimed_at >= ended);
    let completed = finished(running.run, Outcome::Completed { output: vec![] });
    let again = transition(Some(&running), &completed, earlier).unwrap().unwrap();
    assert!(again.finalized_at().unwrap() >= ended);
}
