//! How runs end, and what they leave.

use runner_store::command::{Command, Finish, Measured, Part, Reply, RunRef};
use runner_store::job::{
    Backoff, Job, JobId, JobSpec, Millis, Outcome, OutcomeName, RetryPolicy, RunNumber, RunSettings, StateName, Time,
};

use crate::world::*;

fn with_retry(attempts: u32, backoff: Backoff) -> JobSpec {
    let retry = RetryPolicy { backoff, jitter_permille: 0, max: Millis::secs(8) };
    work_with(|s| (s.max_attempts, s.retry) = (Some(attempts), Some(retry)))
}

fn snooze(ms: u64) -> Outcome {
    Outcome::Snoozed { delay: Millis(ms), reason: Some("not yet".to_owned()) }
}

fn output(bytes: &[u8]) -> Outcome {
    Outcome::Completed { output: bytes.to_vec() }
}

/// Runs the job whenever it may and lets it fail; answers the moments of its runs, from the first on.
fn rhythm(w: &mut World, id: JobId) -> Vec<u64> {
    let mut moments = Vec::new();
    while !w.state(id).is_final() {
        let due = w.job(id).run_at;
        if due > w.now() {
            w.clock.set(Time(due.0 - 1));
            assert_eq!(w.claim(9), [0; 0], "not before its time");
            w.clock.set(due);
        }
        w.run_once(id, failed("no"));
        moments.push(w.now().0 - START.0);
    }
    moments
}

#[track_caller]
fn check_rhythm(attempts: u32, backoff: Backoff, moments: &[u64]) {
    case(|w| {
        let id = w.enqueue(with_retry(attempts, backoff));
        assert_eq!(rhythm(w, id), moments);
        assert_eq!(w.state(id), StateName::Discarded);
        assert_eq!(w.runs(id).len(), attempts as usize);
    });
}

#[test]
fn backoffs_have_their_rhythm() {
    let base = Millis(1_000);
    check_rhythm(3, Backoff::Constant { base: Millis(100) }, &[0, 100, 200]);
    let doubling = Backoff::Exponential { base, factor_permille: 2_000 };
    check_rhythm(7, doubling, &[0, 1_000, 3_000, 7_000, 15_000, 23_000, 31_000]);
    check_rhythm(4, Backoff::Linear { base: Millis(1_500) }, &[0, 1_500, 4_500, 9_000]);
    check_rhythm(4, Backoff::List(vec![Millis(7), Millis(1)]), &[0, 7, 8, 9]);
    case(|w| {
        let id = w.enqueue(with_retry(9, Backoff::Never));
        assert_eq!(rhythm(w, id), [0], "never: the first failure is the last");
    });
}

#[test]
fn jitter_is_the_same_on_every_engine_and_the_cap_holds_after_it() {
    case(|w| {
        let retry = RetryPolicy { max: Millis(1_050), ..RetryPolicy::default() };
        for _ in 0..50 {
            let id = w.enqueue(work_with(|s| s.retry = Some(retry.clone())));
            let job = w.run_once(id, failed("no"));
            let delay = job.run_at.0 - START.0;
            assert!((800..=1_050).contains(&delay), "{delay}");
        }
    });
}

#[test]
fn the_third_attempt_may_be_the_good_one() {
    case(|w| {
        let id = w.enqueue(with_retry(3, Backoff::Constant { base: Millis(100) }));
        w.run_once(id, failed("one"));
        w.advance(100);
        w.run_once(id, failed("two"));
        w.advance(100);
        let job = w.run_once(id, completed());
        assert_eq!((job.state.name(), job.attempts, job.run.0), (StateName::Completed, 3, 3));
        let retrying = w.events(id).iter().filter(|e| **e == "retrying").count();
        assert_eq!((retrying, w.events(id).contains(&"discarded")), (2, false));
    });
}

#[test]
fn an_exhausted_job_is_discarded_with_a_record_of_each_attempt() {
    case(|w| {
        let id = w.enqueue(with_retry(2, Backoff::Constant { base: Millis(100) }));
        w.run_once(id, failed("first\nline"));
        w.advance(100);
        let job = w.run_once(id, failed("second"));
        assert_eq!(job.reason().unwrap().to_string(), "all 2 attempts failed");
        let runs = w.runs(id);
        let errors: Vec<_> = runs.iter().map(|run| run.error.clone().unwrap()).collect();
        assert_eq!(errors, ["first\nline", "second"]);
        assert_eq!(w.events(id), ["enqueued", "started", "retrying", "available", "started", "discarded"]);
    });
}

#[test]
fn what_the_job_does_not_state_comes_with_the_finish() {
    case(|w| {
        let id = w.enqueue(work());
        w.start(id);
        let settings = RunSettings { max_attempts: 1, retry: RetryPolicy::default() };
        let call = Finish { settings, ..finishing(w.run(id), failed("no")) };
        let job = job_of(&w.call(Command::Finish(Box::new(call))));
        assert_eq!(job.state.name(), StateName::Discarded);
    });
}

#[test]
fn a_finish_of_a_run_that_holds_no_lease_is_stale() {
    case(|w| {
        let id = w.enqueue(work());
        let first = w.start(id);
        let unheard = RunRef { run: RunNumber(2), ..first };
        assert_eq!(w.call(finish(unheard, completed())), stale(2), "a run that never was");
        w.call(finish(first, snooze(100)));
        assert_eq!(w.call(finish(first, completed())), stale(1), "between two runs");
        w.advance(100);
        let second = w.start(id);
        assert_eq!(w.call(finish(first, completed())), stale(1), "while the next one runs");
        assert_eq!(w.call(Command::HandBack(first)), stale(1));
        w.call(finish(second, output(b"1")));
        assert_eq!(w.call(finish(second, output(b"2"))), stale(2), "twice");
        assert_eq!(w.payload(id, Part::Output).as_deref(), Some(&b"1"[..]));
        assert_eq!(w.runs(id).len(), 2, "what was stale left no record");
    });
}

#[test]
fn two_finishes_of_a_run_in_one_batch_count_once() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        let replies = w.batch(&[finish(run, output(b"1")), finish(run, failed("late"))]);
        assert_eq!(job_of(&replies[0]).state.name(), StateName::Completed);
        assert_eq!(replies[1], stale(1));
    });
}

#[test]
fn a_run_that_is_handed_back_costs_nothing() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        let job = job_of(&w.call(Command::HandBack(run)));
        assert_eq!((job.state.name(), job.attempts, job.started), (StateName::Available, 0, false));
        assert_eq!(w.runs(id)[0].started_at, None);
        assert_eq!(w.events(id), ["enqueued", "started", "interrupted"]);
        let again = w.start(id);
        assert_eq!(again.run, RunNumber(2), "run numbers go on");
    });
}

#[test]
fn an_interrupted_run_counts_no_attempt() {
    case(|w| {
        let id = w.enqueue(work_with(|s| s.max_attempts = Some(1)));
        let job = w.run_once(id, Outcome::Interrupted);
        assert_eq!((job.state.name(), job.attempts, job.started), (StateName::Available, 0, true));
        assert_eq!(w.run_once(id, completed()).state.name(), StateName::Completed);
    });
}

#[test]
fn a_snooze_keeps_its_reason_and_counts_no_attempt() {
    case(|w| {
        let id = w.enqueue(work_with(|s| s.max_attempts = Some(1)));
        let job = w.run_once(id, snooze(10_000));
        assert_eq!((job.state.name(), job.attempts, job.snoozes), (StateName::Scheduled, 0, 1));
        assert_eq!(job.last.unwrap().error.as_deref(), Some("not yet"));
        assert_eq!(job.run_at, Time(START.0 + 10_000));
        assert_eq!(w.events(id), ["enqueued", "started", "snoozed"]);
        w.advance(9_999);
        assert_eq!(w.claim(1), [0; 0]);
        w.advance(1);
        let job = w.run_once(id, snooze(1));
        assert_eq!(job.run_at, Time(START.0 + 10_100), "at least 100 ms");
    });
}

/// What follows after ten thousand of them is in the table of transitions.
#[test]
fn snoozes_are_counted_since_the_last_retry_by_an_operator() {
    case(|w| {
        let id = w.enqueue(work());
        for n in 1..=3 {
            assert_eq!(w.run_once(id, snooze(100)).snoozes, n);
            w.advance(100);
        }
        w.call(Command::Retry { job: at(id), fresh: false });
        assert_eq!(w.run_once(id, snooze(100)).snoozes, 1);
    });
}

#[test]
fn every_outcome_leaves_a_record_of_its_run() {
    case(|w| {
        let outcomes = [
            (Outcome::OutOfFuel { limit: 7 }, OutcomeName::OutOfFuel, "used its whole fuel of 7"),
            (Outcome::TimedOut { limit: Millis(1_500) }, OutcomeName::TimedOut, "stopped at its time-out of 1.500s"),
            (failed("why"), OutcomeName::Failed, "why"),
        ];
        for (outcome, name, error) in outcomes {
            let id = w.enqueue(work());
            let run = w.start(id);
            w.advance(30);
            let measured = Measured {
                started_at: Some(Time(w.now().0 - 20)),
                finished_at: None,
                fuel: 5,
                memory_peak_bytes: 6,
                plugin: Some([7; 32]),
                ..Measured::default()
            };
            let call = Finish { measured: measured.clone(), ..finishing(run, outcome) };
            w.call(Command::Finish(Box::new(call)));
            let record = w.runs(id).remove(0);
            assert_eq!((record.run, record.outcome, record.error.as_deref()), (run.run, name, Some(error)));
            assert_eq!((record.started_at, record.finished_at), (measured.started_at, w.now()));
            assert_eq!((record.fuel, record.memory_peak_bytes, record.plugin), (5, 6, Some([7; 32])));
            assert_eq!(record.node, Some(BOOT));
        }
    });
}

#[test]
fn long_errors_and_traces_are_cut_with_a_mark() {
    case(|w| {
        let id = w.enqueue(work());
        let backtrace = Some("f\n".repeat(50_000));
        let outcome = Outcome::Trapped { code: "unreachable".to_owned(), message: "ä".repeat(20_000), backtrace };
        let job = w.run_once(id, outcome);
        assert_eq!(job.last.unwrap().error.unwrap(), "ä".repeat(128));
        let run = w.runs(id).remove(0);
        let (error, trace) = (run.error.unwrap(), run.trace.unwrap());
        assert!(error.len() <= 16 * 1024 && error.ends_with("ä … [cut]"), "{}", error.len());
        assert!(trace.len() <= 64 * 1024 && trace.ends_with("f\n … [cut]") || trace.ends_with("f … [cut]"));
    });
}

#[test]
fn the_last_fifty_runs_are_kept() {
    case(|w| {
        let id = w.enqueue(work());
        for _ in 0..53 {
            w.run_once(id, Outcome::Interrupted);
        }
        let kept: Vec<u32> = w.runs(id).iter().map(|run| run.run.0).collect();
        assert!(kept.iter().copied().eq(4..=53), "{kept:?}");
        w.call(Command::Delete { job: at(id), force: false, cascade: false });
        assert_eq!(w.check().runs, []);
    });
}

#[test]
fn the_records_of_a_job_have_a_bound_and_the_oldest_give_up_their_texts() {
    case(|w| {
        let id = w.enqueue(with_retry(100, Backoff::Constant { base: Millis(0) }));
        for run in 1..=60 {
            let message = format!("{run} {}", "e".repeat(20_000));
            let backtrace = Some("f\n".repeat(50_000));
            w.run_once(id, Outcome::Trapped { code: "unreachable".to_owned(), message, backtrace });
            let runs = w.runs(id);
            let texts = |run: &runner_store::command::RunRecord| {
                run.error.as_ref().map_or(0, String::len) + run.trace.as_ref().map_or(0, String::len)
            };
            let bytes: usize = runs.iter().map(texts).sum();
            assert!(bytes <= (256 + 13) * 1024, "{bytes} after run {run}: the bound and 50 short errors");
            assert_eq!(texts(runs.last().unwrap()), 80 * 1024, "the newest is whole");
            assert!(runs.iter().all(|run| run.error.as_ref().unwrap().starts_with(&format!("{} e", run.run))));
        }
        let with_trace = w.runs(id).iter().filter(|run| run.trace.is_some()).count();
        assert_eq!((w.runs(id).len(), with_trace), (50, 3));
    });
}

/// Finishes with a checkpoint.
#[track_caller]
fn check_point(w: &mut World, id: JobId, outcome: Outcome, checkpoint: Option<&[u8]>) -> Job {
    let run = w.start(id);
    let call = Finish { checkpoint: checkpoint.map(<[u8]>::to_vec), ..finishing(run, outcome) };
    job_of(&w.call(Command::Finish(Box::new(call))))
}

#[test]
fn a_checkpoint_stays_until_the_job_completes() {
    case(|w| {
        let id = w.enqueue(with_retry(9, Backoff::Constant { base: Millis(0) }));
        let stored = |w: &World| w.payload(id, Part::Checkpoint).map(|bytes| bytes[0]);
        check_point(w, id, failed("no"), Some(&[1]));
        assert_eq!(stored(w), Some(1));
        check_point(w, id, failed("no"), None);
        assert_eq!(stored(w), Some(1), "none: unchanged");
        check_point(w, id, Outcome::Interrupted, Some(&[2]));
        assert_eq!(stored(w), Some(2));
        check_point(w, id, snooze(100), None);
        w.advance(100);
        assert_eq!(stored(w), Some(2));
        check_point(w, id, output(b"done"), Some(&[3]));
        assert_eq!((stored(w), w.payload(id, Part::Output)), (None, Some(b"done".to_vec())));
        w.call(Command::Retry { job: at(id), fresh: false });
        assert_eq!(w.payload(id, Part::Output), None, "a retry clears the output");
    });
}

#[test]
fn a_reply_carries_the_job_as_it_is_then() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        let reply = w.call(finish(run, output(b"1")));
        assert_eq!(reply, Reply::Job { job: std::sync::Arc::new(w.job(id)), changed: true });
    });
}
