//! What follows from what: one row an event, one column a state, as DESIGN.md's table has it; then the numbers.

use super::*;

/// A cell is the state that follows, `gone`, or the rejection: `already` (it is so), `no` (not from this state), `stale`
/// (the fence), `early` (not due, not expired), `other` (it does not wait for that), `exists`. `same`: the same state.
const TABLE: &str = "
                           held      blocked   scheduled retryable available running   completed discarded cancelled
enqueued                   exists    exists    exists    exists    exists    exists    exists    exists    exists
released                   available already   already   already   already   already   no        no        no
released ahead             scheduled already   already   already   already   already   no        no        no
released at                available already   already   already   already   already   no        no        no
released unsettled         blocked   already   already   already   already   already   no        no        no
settled well               held      available no        no        no        no        no        no        no
settled well ahead         held      scheduled no        no        no        no        no        no        no
settled well one of two    held      blocked   no        no        no        no        no        no        no
settled badly              cancelled cancelled no        no        no        no        no        no        no
settled badly one of two   cancelled cancelled no        no        no        no        no        no        no
settled badly run          held      available no        no        no        no        no        no        no
settled badly run ahead    held      scheduled no        no        no        no        no        no        no
settled other              other     other     no        no        no        no        no        no        no
settled again              other     other     no        no        no        no        no        no        no
due                        no        no        available available no        no        no        no        no
due at                     no        no        available available no        no        no        no        no
due ahead                  no        no        early     early     no        no        no        no        no
claimed                    no        no        no        no        running   no        no        no        no
renewed                    stale     stale     stale     stale     stale     running   stale     stale     stale
renewed stale              stale     stale     stale     stale     stale     stale     stale     stale     stale
completed                  stale     stale     stale     stale     stale     completed stale     stale     stale
failed                     stale     stale     stale     stale     stale     retryable stale     stale     stale
discarded                  stale     stale     stale     stale     stale     discarded stale     stale     stale
snoozed                    stale     stale     stale     stale     stale     scheduled stale     stale     stale
trapped                    stale     stale     stale     stale     stale     retryable stale     stale     stale
out_of_fuel                stale     stale     stale     stale     stale     retryable stale     stale     stale
timed_out                  stale     stale     stale     stale     stale     retryable stale     stale     stale
out_of_memory              stale     stale     stale     stale     stale     retryable stale     stale     stale
output_too_large           stale     stale     stale     stale     stale     retryable stale     stale     stale
cancelled                  stale     stale     stale     stale     stale     available stale     stale     stale
interrupted                stale     stale     stale     stale     stale     available stale     stale     stale
crashed                    stale     stale     stale     stale     stale     retryable stale     stale     stale
plugin_broken              stale     stale     stale     stale     stale     retryable stale     stale     stale
failed last                stale     stale     stale     stale     stale     discarded stale     stale     stale
trapped last               stale     stale     stale     stale     stale     discarded stale     stale     stale
timed_out last             stale     stale     stale     stale     stale     discarded stale     stale     stale
crashed last               stale     stale     stale     stale     stale     discarded stale     stale     stale
snoozed last               stale     stale     stale     stale     stale     scheduled stale     stale     stale
interrupted last           stale     stale     stale     stale     stale     available stale     stale     stale
completed last             stale     stale     stale     stale     stale     completed stale     stale     stale
completed flagged          stale     stale     stale     stale     stale     completed stale     stale     stale
failed flagged             stale     stale     stale     stale     stale     cancelled stale     stale     stale
discarded flagged          stale     stale     stale     stale     stale     cancelled stale     stale     stale
snoozed flagged            stale     stale     stale     stale     stale     cancelled stale     stale     stale
trapped flagged            stale     stale     stale     stale     stale     cancelled stale     stale     stale
out_of_fuel flagged        stale     stale     stale     stale     stale     cancelled stale     stale     stale
timed_out flagged          stale     stale     stale     stale     stale     cancelled stale     stale     stale
out_of_memory flagged      stale     stale     stale     stale     stale     cancelled stale     stale     stale
output_too_large flagged   stale     stale     stale     stale     stale     cancelled stale     stale     stale
cancelled flagged          stale     stale     stale     stale     stale     cancelled stale     stale     stale
interrupted flagged        stale     stale     stale     stale     stale     cancelled stale     stale     stale
crashed flagged            stale     stale     stale     stale     stale     cancelled stale     stale     stale
plugin_broken flagged      stale     stale     stale     stale     stale     cancelled stale     stale     stale
completed stale            stale     stale     stale     stale     stale     stale     stale     stale     stale
failed stale               stale     stale     stale     stale     stale     stale     stale     stale     stale
crashed stale              stale     stale     stale     stale     stale     stale     stale     stale     stale
handed_back                stale     stale     stale     stale     stale     available stale     stale     stale
handed_back last           stale     stale     stale     stale     stale     available stale     stale     stale
handed_back flagged        stale     stale     stale     stale     stale     cancelled stale     stale     stale
handed_back stale          stale     stale     stale     stale     stale     stale     stale     stale     stale
gone_started               stale     stale     stale     stale     stale     retryable stale     stale     stale
gone_started last          stale     stale     stale     stale     stale     discarded stale     stale     stale
gone_started poison        stale     stale     stale     stale     stale     discarded stale     stale     stale
gone_started two           stale     stale     stale     stale     stale     retryable stale     stale     stale
gone_started flagged       stale     stale     stale     stale     stale     cancelled stale     stale     stale
gone_started stale         stale     stale     stale     stale     stale     stale     stale     stale     stale
gone_unstarted             stale     stale     stale     stale     stale     available stale     stale     stale
gone_unstarted last        stale     stale     stale     stale     stale     available stale     stale     stale
gone_unstarted poison      stale     stale     stale     stale     stale     available stale     stale     stale
gone_unstarted flagged     stale     stale     stale     stale     stale     cancelled stale     stale     stale
gone_unstarted stale       stale     stale     stale     stale     stale     stale     stale     stale     stale
snoozed bound              stale     stale     stale     stale     stale     scheduled stale     stale     stale
snoozed beyond             stale     stale     stale     stale     stale     retryable stale     stale     stale
snoozed beyond last        stale     stale     stale     stale     stale     discarded stale     stale     stale
conflicted                 stale     stale     stale     stale     stale     available stale     stale     stale
conflicted last            stale     stale     stale     stale     stale     available stale     stale     stale
conflicted fifth           stale     stale     stale     stale     stale     available stale     stale     stale
conflicted sixth           stale     stale     stale     stale     stale     retryable stale     stale     stale
conflicted sixth last      stale     stale     stale     stale     stale     discarded stale     stale     stale
conflicted tenth           stale     stale     stale     stale     stale     retryable stale     stale     stale
conflicted flagged         stale     stale     stale     stale     stale     cancelled stale     stale     stale
conflicted stale           stale     stale     stale     stale     stale     stale     stale     stale     stale
cancel                     cancelled cancelled cancelled cancelled cancelled running   no        no        already
cancel flagged             cancelled cancelled cancelled cancelled cancelled already   no        no        already
expired                    discarded discarded discarded no        discarded no        no        no        no
expired at                 discarded discarded discarded no        discarded no        no        no        no
expired ahead              early     early     early     no        early     no        no        no        no
expired never              early     early     early     no        early     no        no        no        no
expired started            early     early     early     no        early     no        no        no        no
retried                    no        no        available available already   no        available available available
retried ahead              no        no        available available already   no        available available available
revived                    no        no        no        no        no        no        no        no        other
revived by it              no        no        no        no        no        no        no        no        blocked
revived by it ahead        no        no        no        no        no        no        no        no        blocked
revived by it well         no        no        no        no        no        no        no        no        available
revived by it badly        no        no        no        no        no        no        no        no        cancelled
edited                     held      blocked   scheduled retryable available no        no        no        no
edited to ahead            held      blocked   scheduled retryable scheduled no        no        no        no
edited to at               held      blocked   available available available no        no        no        no
edited to past             held      blocked   available available available no        no        no        no
deleted                    gone      gone      gone      gone      gone      no        gone      gone      gone
deleted flagged            gone      gone      gone      gone      gone      no        gone      gone      gone
deleted by force           gone      gone      gone      gone      gone      gone      gone      gone      gone
";

#[test]
fn every_event_in_every_state_leads_where_the_design_says() {
    let mut lines = TABLE.lines().filter(|line| !line.is_empty());
    let columns: Vec<StateName> = words(lines.next().unwrap());
    assert_eq!(columns, StateName::ALL, "every state is a column");
    let mut rows = 0;
    for line in lines {
        let (row, cells) = line.split_at(27);
        let cells: Vec<&str> = cells.split_whitespace().collect();
        assert_eq!(cells.len(), columns.len(), "row {row}");
        for (state, expected) in columns.iter().zip(cells) {
            let (job, event) = situation(row.trim(), *state);
            let next = transition(Some(&job), &event, NOW);
            assert_eq!(cell(&next), expected, "{} in state {state}: {next:?}", row.trim());
            check_rejection(&job, &next);
        }
        rows += 1;
    }
    assert!(rows > 80, "{rows} rows");
}

fn words(line: &str) -> Vec<StateName> {
    line.split_whitespace().map(|word| StateName::parse(word).unwrap()).collect()
}

fn cell(next: &Result<Option<Job>, Rejection>) -> &'static str {
    match next {
        Ok(None) => "gone",
        Ok(Some(job)) => job.state.name().as_str(),
        Err(Rejection::Already(_)) => "already",
        Err(Rejection::State(_)) => "no",
        Err(Rejection::Stale { .. }) => "stale",
        Err(Rejection::NotDue { .. } | Rejection::NotExpired) => "early",
        Err(Rejection::NotWaiting(_)) => "other",
        Err(Rejection::Exists) => "exists",
        // The others are answers of batches, not of this function.
        Err(other) => panic!("{other:?}"),
    }
}

/// A rejection says what is true.
#[track_caller]
fn check_rejection(job: &Job, next: &Result<Option<Job>, Rejection>) {
    match next {
        Err(Rejection::State(state)) => assert_eq!(*state, job.state.name()),
        Err(Rejection::Already(state)) => {
            let flagged = job.lease().is_some_and(|lease| lease.cancel.is_some());
            assert!(*state == job.state.name() || (flagged && *state == StateName::Cancelled), "{state}: {job:?}");
        }
        Err(Rejection::NotDue { run_at }) => assert_eq!(*run_at, job.run_at),
        _ => {}
    }
}

/// The job and the event of a row: the event's name first, then what is special.
fn situation(row: &str, state: StateName) -> (Job, Event) {
    let (name, special) = row.split_once(' ').unwrap_or((row, ""));
    let job = special_job(job(state), name, special);
    let run = if special.ends_with("stale") { RunNumber(RUN.0 - 1) } else { RUN };
    let verdict = if special.starts_with("badly") { Verdict::Discarded } else { Verdict::Completed };
    let other = matches!(special, "other" | "again");
    let on = if other { OTHER_DEPENDENCY } else { DEPENDENCY };
    let to = |special: &str| match special {
        "to ahead" => Some(Time(NOW.0 + 1)),
        "to at" => Some(NOW),
        "to past" => Some(Time(NOW.0 - 1)),
        _ => None,
    };
    let event = match name {
        "enqueued" => enqueued(JobSpec::new("a", "")),
        "released" => Event::Released,
        "settled" => Event::DependencySettled { dependency: on, verdict },
        "due" => Event::Due,
        "claimed" => Event::Claimed { holder: HOLDER, expires_at: None, worker: None },
        "renewed" => Event::Renewed { run, expires_at: Time(NOW.0 + 60_000) },
        "handed_back" => Event::HandedBack { run },
        "gone_started" => Event::HolderGone { run, started: true, settings: settings() },
        "gone_unstarted" => Event::HolderGone { run, started: false, settings: settings() },
        "conflicted" => conflicted(run),
        "cancel" => Event::CancelRequested { reason: None },
        "expired" => Event::Expired,
        "retried" => Event::Retried { order: QueueOrder::Priority },
        "revived" => {
            let settled = match special {
                "by it well" => vec![(DEPENDENCY, Verdict::Completed)],
                "by it badly" => vec![(DEPENDENCY, Verdict::Discarded)],
                _ => Vec::new(),
            };
            Event::Revived { dependency: DEPENDENCY, settled, order: QueueOrder::Priority }
        }
        "edited" => Event::Edited(Edit { run_at: to(special), priority: Some(Priority(5)), ..Edit::default() }),
        "deleted" => Event::Deleted { force: special == "by force" },
        outcome => {
            let found = outcomes().into_iter().find(|o| o.name().as_str() == outcome);
            finished(run, found.unwrap_or_else(|| panic!("no event {outcome}")))
        }
    };
    (job, event)
}

fn special_job(mut job: Job, name: &str, special: &str) -> Job {
    let ahead = Time(NOW.0 + 1);
    match name {
        "released" | "due" | "retried" | "settled" if special.ends_with("ahead") => job.run_at = ahead,
        "released" | "due" if special == "at" => job.run_at = NOW,
        "revived" if special.starts_with("by it") => {
            if let State::Cancelled { reason, .. } = &mut job.state {
                *reason = Reason::Dependency { job: DEPENDENCY, verdict: Verdict::Discarded };
            }
        }
        "expired" => {
            job.started = special == "started";
            job.expires_at = match special {
                "ahead" => Some(ahead),
                "at" => Some(NOW),
                "never" => None,
                _ => Some(Time(NOW.0 - 1)),
            };
        }
        _ => {}
    }
    let policy = if special.starts_with("badly run") { EdgePolicy::Run } else { EdgePolicy::Cancel };
    let settled = |on| Dependency { settled: Some(Verdict::Completed), ..waits_for(on, policy) };
    job.dependencies = match (name, special) {
        ("released", "unsettled") => vec![waits_for(DEPENDENCY, policy)],
        ("settled", "again") => vec![waits_for(DEPENDENCY, policy), settled(OTHER_DEPENDENCY)],
        ("settled", "well one of two" | "badly one of two") => {
            vec![waits_for(OTHER_DEPENDENCY, policy), waits_for(DEPENDENCY, policy)]
        }
        ("settled", _) => vec![settled(OTHER_DEPENDENCY), waits_for(DEPENDENCY, policy)],
        ("revived", _) => {
            vec![Dependency { settled: Some(Verdict::Discarded), ..waits_for(DEPENDENCY, policy) }]
        }
        ("edited", _) if job.state == State::Blocked => vec![waits_for(DEPENDENCY, policy)],
        _ => Vec::new(),
    };
    // Two of three attempts and two of three crashes are behind it; or all snoozes but one; or all of them; or so many
    // conflicts.
    match special {
        "last" => job.attempts = 2,
        "poison" => job.crashes = 2,
        "two" => job.crashes = 1,
        "bound" => job.snoozes = 9_999,
        "beyond" => job.snoozes = 10_000,
        "beyond last" => (job.snoozes, job.attempts) = (10_000, 2),
        "fifth" => job.conflicts = 4,
        "sixth" => job.conflicts = 5,
        "sixth last" => (job.conflicts, job.attempts) = (5, 2),
        "tenth" => job.conflicts = 9,
        "flagged" => job = with_cancel(job),
        _ => {}
    }
    job
}

#[test]
fn a_job_that_is_not_there_can_only_be_enqueued() {
    for (name, special) in [("released", ""), ("due", ""), ("claimed", ""), ("retried", ""), ("completed", "")] {
        let (_, event) = situation(&format!("{name} {special}"), StateName::Held);
        assert_eq!(transition(None, &event, NOW), Err(Rejection::Unknown));
    }
    for event in [
        Event::Deleted { force: true },
        Event::CancelRequested { reason: None },
        Event::Expired,
        Event::Edited(Edit::default()),
        Event::HandedBack { run: RUN },
        conflicted(RUN),
        Event::HolderGone { run: RUN, started: true, settings: settings() },
        Event::Renewed { run: RUN, expires_at: NOW },
        Event::DependencySettled { dependency: DEPENDENCY, verdict: Verdict::Completed },
    ] {
        assert_eq!(transition(None, &event, NOW), Err(Rejection::Unknown));
    }
}

#[track_caller]
fn check_enqueued(change: impl FnOnce(&mut JobSpec), state: StateName, run_at: u64) {
    let mut spec = JobSpec::new("a", "");
    change(&mut spec);
    let job = transition(None, &enqueued(spec), NOW).unwrap().unwrap();
    assert_eq!((job.state.name(), job.run_at, job.enqueued_at), (state, Time(run_at), NOW));
    assert_eq!((job.run, job.attempts, job.crashes, job.snoozes, job.started), (RunNumber(0), 0, 0, 0, false));
}

#[test]
fn a_new_job_stands_where_its_spec_says() {
    let now = NOW.0;
    check_enqueued(|_| (), StateName::Available, now);
    check_enqueued(|s| s.run_at = Some(Time(now - 1)), StateName::Available, now);
    check_enqueued(|s| s.run_at = Some(Time(now)), StateName::Available, now);
    check_enqueued(|s| s.run_at = Some(Time(now + 1)), StateName::Scheduled, now + 1);
    check_enqueued(|s| s.delay = Some(Millis(0)), StateName::Available, now);
    check_enqueued(|s| s.delay = Some(Millis(1)), StateName::Scheduled, now + 1);
    check_enqueued(|s| s.delay = Some(Millis(u64::MAX)), StateName::Scheduled, Time::MAX.0);
    check_enqueued(|s| s.hold = true, StateName::Held, now);
    check_enqueued(|s| (s.hold, s.delay) = (true, Some(Millis(9))), StateName::Held, now + 9);
}
