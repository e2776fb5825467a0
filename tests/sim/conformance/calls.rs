//! Several jobs in one call: each ends in its own way, what the call staged is recorded once.

use runner_store::command::{
    Command, Ended, FinishCall, Keep, KvWrites, Measured, Part, Reply, RunRef, Settings, StagedJob, TenantSettings,
    limits,
};
use runner_store::job::{
    Invalid, Job, JobId, Millis, Outcome, OutcomeName, Rejection, RunNumber, RunSettings, StateName, TenantId,
};

use crate::world::*;

fn ended(run: RunRef, outcome: Outcome) -> Ended {
    Ended { run, outcome, settings: RunSettings::default(), measured: Measured::default() }
}

fn call_of(runs: Vec<Ended>) -> FinishCall {
    FinishCall { runs, failed: false, staged: Vec::new(), merged: Vec::new(), kv: None, log: None }
}

/// So many jobs, claimed for one call.
#[track_caller]
fn claimed_together(w: &mut World, n: usize) -> Vec<RunRef> {
    let ids = w.enqueue_all(vec![work(); n]);
    assert_eq!(w.claim(n as u32).len(), n);
    ids.into_iter().map(|id| w.run(id)).collect()
}

/// Ends a call; answers its jobs, none for a run that did not end by it.
#[track_caller]
fn end(w: &mut World, call: FinishCall) -> Vec<Option<Job>> {
    match w.call(Command::FinishCall(Box::new(call))) {
        Reply::Call(ends) => ends.into_iter().map(|end| end.ok().map(|job| (*job).clone())).collect(),
        other => panic!("{other:?}"),
    }
}

fn states(jobs: &[Option<Job>]) -> Vec<Option<StateName>> {
    jobs.iter().map(|job| job.as_ref().map(|job| job.state.name())).collect()
}

fn snooze() -> Outcome {
    Outcome::Snoozed { delay: Millis(100), reason: None }
}

fn output(text: &str) -> Outcome {
    Outcome::Completed { output: text.as_bytes().to_vec() }
}

#[test]
fn each_job_of_a_call_ends_in_its_own_way() {
    case(|w| {
        let runs = claimed_together(w, 4);
        let outcomes = [output("one"), failed("no"), snooze(), Outcome::Discarded { reason: "bad".to_owned() }];
        let ends = runs.iter().zip(outcomes).map(|(run, outcome)| ended(*run, outcome)).collect();
        let jobs = end(w, call_of(ends));
        let expected = [StateName::Completed, StateName::Retryable, StateName::Scheduled, StateName::Discarded];
        assert_eq!(states(&jobs), expected.map(Some));
        assert!(jobs.iter().flatten().all(|job| !job.alone), "a job that fails is no call that fails");
        assert_eq!(w.payload(runs[0].at.job, Part::Output).as_deref(), Some(&b"one"[..]));
        assert_eq!(w.runs(runs[1].at.job)[0].error.as_deref(), Some("no"));
    });
}

/// A call that ends so, whose first run is stale; whether it leaves what it staged.
#[track_caller]
fn check_staged(outcomes: [Outcome; 2], recorded: bool) {
    case(|w| {
        let runs = claimed_together(w, 3);
        w.finish(runs[0].at.job, completed());
        let (reserved, plugin) = (reserve(w, 1), plugin(w, "thumbs"));
        let mut ends = vec![ended(runs[0], completed())];
        ends.extend(runs[1..].iter().zip(outcomes.clone()).map(|(run, outcome)| ended(*run, outcome)));
        let staged = vec![StagedJob { id: reserved, spec: work() }];
        let kv = Some(KvWrites { plugin, writes: vec![cas("k", None, Some("v"))] });
        let jobs = end(w, FinishCall { staged, kv, ..call_of(ends) });
        assert_eq!(jobs[0], None, "it was stale");
        assert_eq!((w.find(reserved).is_some(), w.kv_count() == 1), (recorded, recorded), "{outcomes:?}");
    });
}

#[test]
fn what_a_call_stages_is_recorded_if_one_of_its_jobs_completes() {
    check_staged([completed(), completed()], true);
    check_staged([failed("no"), completed()], true);
    check_staged([snooze(), completed()], true);
    check_staged([failed("no"), snooze()], false);
    check_staged([Outcome::Discarded { reason: String::new() }, snooze()], false);
    check_staged([Outcome::Interrupted, Outcome::Cancelled], false);
}

#[test]
fn what_became_of_staged_jobs_and_the_log_stand_with_the_first_and_are_found_by_all() {
    case(|w| {
        let runs = claimed_together(w, 3);
        w.finish(runs[0].at.job, failed("no"));
        let staged = vec![StagedJob { id: JobId(9_999), spec: work() }];
        let ends = runs.iter().map(|run| ended(*run, completed())).collect();
        end(w, FinishCall { staged, log: Some(b"log".to_vec()), ..call_of(ends) });
        let records: Vec<_> = runs.iter().map(|run| w.runs(run.at.job).remove(0)).collect();
        let first = (runs[1].at.job, RunNumber(1));
        assert_eq!(records.iter().map(|record| record.call).collect::<Vec<_>>(), [None, Some(first), Some(first)]);
        assert_eq!(records.iter().map(|record| record.staged.len()).collect::<Vec<_>>(), [0, 1, 0]);
        let logs: Vec<bool> = runs.iter().map(|run| w.run_log(*run).is_some()).collect();
        assert_eq!((logs, w.stored().run_logs), (vec![false, true, true], 1));
        w.call(delete(first.0));
        assert_eq!((w.run_log(runs[2]), w.stored().run_logs), (None, 0), "it went with the job under which it stood");
    });
}

#[test]
fn a_call_with_one_run_is_like_a_run() {
    case(|w| {
        let run = claimed_together(w, 1)[0];
        end(w, FinishCall { log: Some(vec![1]), ..call_of(vec![ended(run, completed())]) });
        assert_eq!((w.runs(run.at.job).remove(0).call, w.run_log(run)), (None, Some(vec![1])));
    });
}

/// All answers of a call rest on what it read; failures are what they were.
#[test]
fn a_conflict_is_one_of_the_whole_call() {
    case(|w| {
        let plugin = plugin(w, "thumbs");
        let runs = claimed_together(w, 5);
        w.call(cancel(runs[4].at.job));
        let discard = Outcome::Discarded { reason: String::new() };
        let outcomes = [completed(), snooze(), discard, failed("its own"), snooze()];
        let ends = runs.iter().zip(outcomes).map(|(run, outcome)| ended(*run, outcome)).collect();
        let kv = Some(KvWrites { plugin, writes: vec![put("a", "1"), cas("k", Some("x"), None)] });
        let reserved = reserve(w, 1);
        let staged = vec![StagedJob { id: reserved, spec: work() }];
        let jobs = end(w, FinishCall { kv, staged, ..call_of(ends) });
        let again = Some(StateName::Available);
        let expected = [again, again, again, Some(StateName::Retryable), Some(StateName::Cancelled)];
        assert_eq!(states(&jobs), expected);
        assert_eq!(jobs.iter().flatten().map(|job| job.conflicts).collect::<Vec<_>>(), [1, 1, 1, 0, 1]);
        assert_eq!((w.kv_count(), w.find(reserved)), (0, None));
        let error = |n: usize| w.runs(runs[n].at.job)[0].error.clone().unwrap();
        assert!(error(1).starts_with("kv_conflict: ") && error(3) == "its own");
        assert_eq!(w.runs(runs[1].at.job)[0].outcome, OutcomeName::Failed);
    });
}

#[test]
fn a_call_of_which_none_completes_has_no_conflict() {
    case(|w| {
        let plugin = plugin(w, "thumbs");
        let runs = claimed_together(w, 2);
        let kv = Some(KvWrites { plugin, writes: vec![cas("k", Some("x"), None)] });
        let ends = runs.iter().map(|run| ended(*run, snooze())).collect();
        let jobs = end(w, FinishCall { kv, ..call_of(ends) });
        assert_eq!(states(&jobs), [Some(StateName::Scheduled); 2]);
    });
}

#[test]
fn the_jobs_of_a_call_that_failed_are_taken_alone_until_they_complete() {
    case(|w| {
        let runs = claimed_together(w, 2);
        let trap = || Outcome::Trapped { code: "unreachable".to_owned(), message: String::new(), backtrace: None };
        let ends = runs.iter().map(|run| ended(*run, trap())).collect();
        let jobs = end(w, FinishCall { failed: true, ..call_of(ends) });
        assert!(jobs.iter().flatten().all(|job| job.alone && job.attempts == 1));
        w.advance(2_000);
        w.reopen();
        let ids = [runs[0].at.job, runs[1].at.job];
        assert_eq!(w.claim(2).len(), 2);
        let again = w.finish(ids[0], failed("alone"));
        assert!(again.alone, "it has not proved itself");
        assert!(!w.finish(ids[1], completed()).alone);
        w.call(retry(ids[0]));
        assert!(!w.job(ids[0]).alone, "an operator's retry begins anew");
    });
}

#[test]
fn a_cancel_of_one_flags_it_and_leaves_the_call() {
    case(|w| {
        let runs = claimed_together(w, 3);
        w.call(cancel(runs[0].at.job));
        w.call(cancel(runs[1].at.job));
        let jobs = end(
            w,
            call_of(vec![ended(runs[0], failed("no")), ended(runs[1], completed()), ended(runs[2], completed())]),
        );
        assert_eq!(states(&jobs), [StateName::Cancelled, StateName::Completed, StateName::Completed].map(Some));
    });
}

/// What is staged follows from all of them: it is one deeper than the deepest.
#[test]
fn a_job_that_a_call_stages_is_deeper_than_all_of_its_jobs() {
    case(|w| {
        let ids = w.enqueue_all(vec![work(), work_with(|s| s.depth = 7), work_with(|s| s.depth = 3)]);
        assert_eq!(w.claim(3).len(), 3);
        let reserved = reserve(w, 1);
        let ends = ids.iter().map(|id| ended(w.run(*id), completed())).collect();
        end(w, FinishCall { staged: vec![StagedJob { id: reserved, spec: work() }], ..call_of(ends) });
        assert_eq!(w.job(reserved).depth, 8);
    });
}

#[track_caller]
fn check_refused(make: impl FnOnce(&[RunRef]) -> Vec<Ended>) {
    case(|w| {
        let runs = claimed_together(w, 2);
        let reply = w.call(Command::FinishCall(Box::new(call_of(make(&runs)))));
        let Reply::Rejected(Rejection::Invalid(Invalid { field, .. })) = reply else { panic!("{reply:?}") };
        assert_eq!(field, "runs");
        assert!(runs.iter().all(|run| w.state(run.at.job) == StateName::Running), "nothing happened");
    });
}

#[test]
fn a_call_that_cannot_be_one_is_refused() {
    check_refused(|_| Vec::new());
    check_refused(|runs| vec![ended(runs[0], completed()), ended(runs[0], completed())]);
    check_refused(|runs| {
        vec![ended(runs[0], completed()), ended(RunRef { run: RunNumber(9), ..runs[0] }, completed())]
    });
    check_refused(|runs| {
        let other = runner_store::job::JobRef { tenant: TenantId(9), ..runs[1].at };
        vec![ended(runs[0], completed()), ended(RunRef { at: other, ..runs[1] }, completed())]
    });
    check_refused(|runs| {
        let run = |n| RunRef { at: at(JobId(n)), run: RunNumber(1) };
        let many = (0..=limits::CALL_RUNS_MAX as u64).map(|n| ended(run(1_000 + n), completed()));
        many.chain([ended(runs[0], completed())]).collect()
    });
}

#[test]
fn a_call_of_which_nothing_is_kept_leaves_nothing() {
    case(|w| {
        let keep = Keep { completed: Millis(0), ..Keep::default() };
        let settings = TenantSettings { keep, ..TenantSettings::default() };
        w.call(Command::Set(Box::new(Settings::Tenant(TENANT, settings))));
        let runs = claimed_together(w, 2);
        let ends = vec![ended(runs[0], output("out")), ended(runs[1], failed("no"))];
        end(w, FinishCall { log: Some(vec![1]), ..call_of(ends) });
        assert_eq!((w.find(runs[0].at.job), w.run_log(runs[0]), w.run_log(runs[1])), (None, None, None));
        let dump = w.check();
        assert_eq!((dump.payloads.len(), dump.runs.len(), dump.run_logs.len()), (1, 1, 0));
    });
}
