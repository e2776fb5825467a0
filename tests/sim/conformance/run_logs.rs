//! The logs of runs: kept with the run's end, the last ones, up to their bounds.

use runner_store::command::{Command, Finish, RunRef, Total};
use runner_store::job::{JobId, Millis, Outcome, RunNumber, limits};

use crate::world::*;

/// Runs the job, which is interrupted and leaves this log.
#[track_caller]
fn run_with(w: &mut World, id: JobId, log: Option<Vec<u8>>) -> RunRef {
    let run = w.start(id);
    w.call(Command::Finish(Box::new(Finish { log, ..finishing(run, Outcome::Interrupted) })));
    run
}

fn bytes(w: &mut World) -> u64 {
    w.check().totals.iter().find(|(key, _)| key.of == Total::Bytes).map_or(0, |(_, n)| *n)
}

/// The runs of a job whose logs are there.
fn kept(w: &World, id: JobId) -> Vec<u32> {
    let last = w.job(id).run.0;
    (1..=last).filter(|n| w.run_log(RunRef { at: at(id), run: RunNumber(*n) }).is_some()).collect()
}

#[test]
fn a_log_is_kept_whatever_the_outcome() {
    let outcomes = [completed(), failed("no"), Outcome::Snoozed { delay: Millis(100), reason: None }, Outcome::Crashed];
    for outcome in outcomes {
        case(|w| {
            let id = w.enqueue(work());
            let run = w.start(id);
            let call = Finish { log: Some(vec![0, 1, 0xff]), ..finishing(run, outcome.clone()) };
            w.call(Command::Finish(Box::new(call.clone())));
            assert_eq!(w.call(Command::Finish(Box::new(Finish { log: Some(vec![9]), ..call }))), stale(1));
            w.reopen();
            assert_eq!(w.run_log(run), Some(vec![0, 1, 0xff]), "{outcome:?}");
        });
    }
}

#[test]
fn a_run_without_a_log_writes_none() {
    case(|w| {
        let id = w.enqueue(work());
        let run = run_with(w, id, None);
        assert_eq!((w.run_log(run), w.stored().run_logs), (None, 0));
        let run = run_with(w, id, Some(Vec::new()));
        assert_eq!((w.run_log(run), w.stored().run_logs), (Some(vec![]), 1), "an empty one is one");
    });
}

#[test]
fn the_logs_of_the_last_fifty_runs_are_kept() {
    case(|w| {
        let id = w.enqueue(work());
        for n in 0..53 {
            run_with(w, id, (n % 2 == 0).then(|| vec![n]));
        }
        // The odd ones have one; those before the fourth are gone, also with the end of a run that has none.
        assert!(kept(w, id).into_iter().eq((5..=53).step_by(2)));
        run_with(w, id, None);
        run_with(w, id, None);
        assert!(kept(w, id).into_iter().eq((7..=53).step_by(2)));
        w.call(delete(id));
        assert_eq!((w.check().run_logs, bytes(w)), (vec![], 0));
    });
}

#[test]
fn of_many_large_logs_the_oldest_go_first() {
    case(|w| {
        let id = w.enqueue(work());
        let largest = || Some(vec![7; limits::RUN_LOG_BYTES_MAX]);
        (0..4).for_each(|_| _ = run_with(w, id, largest()));
        assert_eq!(kept(w, id), [1, 2, 3, 4], "exactly as much as may be");
        run_with(w, id, Some(vec![1]));
        assert_eq!(kept(w, id), [2, 3, 4, 5]);
        assert_eq!(bytes(w), 3 * limits::RUN_LOG_BYTES_MAX as u64 + 1 + 2, "and the args");
        run_with(w, id, largest());
        assert_eq!(kept(w, id), [3, 4, 5, 6]);
    });
}

/// The bounds hold within a batch too, in which the runs before are not in the store yet.
#[test]
fn runs_of_one_batch_count_each_others_logs() {
    case(|w| {
        let id = w.enqueue(work());
        let mut commands = Vec::new();
        for n in 1..=6 {
            commands.push(Command::Start { job: at(id), holder: BOOT });
            let run = RunRef { at: at(id), run: RunNumber(n) };
            let log = Some(vec![7; limits::RUN_LOG_BYTES_MAX]);
            commands.push(Command::Finish(Box::new(Finish { log, ..finishing(run, Outcome::Interrupted) })));
        }
        w.batch(&commands);
        assert_eq!(kept(w, id), [3, 4, 5, 6]);
        w.batch(&[delete(id), enqueue(vec![work()])]);
        assert_eq!(w.check().run_logs, []);
    });
}

#[test]
fn a_log_that_is_too_large_is_left_out_and_the_record_says_so() {
    case(|w| {
        let id = w.enqueue(work());
        let run = run_with(w, id, Some(vec![7; limits::RUN_LOG_BYTES_MAX + 1]));
        assert_eq!(w.run_log(run), None);
        let notes = w.runs(id).remove(0).notes;
        assert!(notes[0].starts_with("its log of 131073 bytes was left out"), "{notes:?}");
    });
}

#[test]
fn a_record_says_what_else_there_is_to_say() {
    case(|w| {
        let id = w.enqueue(work());
        let run = w.start(id);
        let mut call = finishing(run, completed());
        call.measured.memory_denied = true;
        call.measured.notes = vec!["n".repeat(300); 20];
        w.call(Command::Finish(Box::new(call)));
        let record = w.runs(id).remove(0);
        assert!(record.memory_denied && record.call.is_none());
        assert_eq!(record.notes.len(), limits::NOTES_MAX);
        assert!(record.notes.iter().all(|n| n.len() <= limits::NOTE_BYTES_MAX && n.ends_with("[cut]")));
    });
}
