//! Lines of a queue in memory.

use runner_store::job::{BootId, Millis, Outcome, StateName};

use super::*;

#[test]
fn r_03_two_jobs_that_were_enqueued_before_a_stop_are_not_lost() {
    // Stopped at once; stopped after they were claimed; killed while one ran.
    for mode in 0..3 {
        line(|n| {
            let ids = n.enqueue_all(vec![work(); 2]);
            let mut started = Vec::new();
            if mode > 0 {
                let runs = n.claim(2);
                started = if mode == 2 { vec![runs[0]] } else { vec![] };
            }
            n.restart(BootId(2), started);
            n.advance(60_000);
            if n.file.is_some() || mode > 0 {
                assert_eq!(n.work_off(|_| completed()).len(), 2, "mode {mode}");
            }
            n.work_off(|_| completed());
            assert!(ids.iter().all(|id| n.state(*id) == StateName::Completed), "mode {mode}");
        });
    }
}

fn after_ms(ms: u64) -> Outcome {
    Outcome::Failed { message: "later".to_owned(), retry_after: Some(Millis(ms)) }
}

#[test]
fn r_23_retry_after_two_seconds() {
    line(|n| {
        let id = n.enqueue(work());
        n.work_off(|_| after_ms(2_000));
        n.advance(1_000);
        assert_eq!(n.claim(1), []);
        n.advance(2_000);
        assert_eq!(n.claim(1)[0].at.job, id);
    });
}

/// One slot, five jobs whose first runs decide: –, after 3 s, –, after 2 s, now.
#[test]
fn r_25_decisions_order_what_runs_next() {
    line(|n| {
        n.enqueue_all(vec![work(); 5]);
        let mut done = Vec::new();
        while done.len() < 5 {
            for run in n.claim(1) {
                let first = run.run.0 == 1;
                let outcome = match run.at.job.0 {
                    2 if first => after_ms(3_000),
                    4 if first => after_ms(2_000),
                    5 if first => after_ms(0),
                    _ => completed(),
                };
                if n.finish(run, outcome).state.name() == StateName::Completed {
                    done.push(run.at.job.0);
                }
            }
            n.advance(100);
        }
        assert_eq!(done, [1, 3, 5, 4, 2]);
    });
}
