//! Lines of a queue in a database.

use runner_store::command::{Answer, Command, Finish, KvWrites, Name, Namespace, Query, Reply, StagedJob};
use runner_store::job::{
    Backoff, BootId, JobId, JobSpec, Millis, Outcome, PluginId, Priority, Reason, Rejection, RetryPolicy, StateName,
};

use super::*;

#[test]
fn g_02_bytes_that_are_not_json_survive() {
    line(|n| {
        let bytes: Vec<u8> = (0..=255).collect();
        let id = n.enqueue(JobSpec::new("work", bytes.clone()));
        n.restart(BootId(2), vec![]);
        assert_eq!(n.payload(id, Part::Args), Some(bytes));
    });
}

#[test]
fn g_03_an_empty_kind_is_refused() {
    line(|n| {
        let reply = n.call(enqueue(vec![JobSpec::new("", "{}")]));
        let Reply::Rejected(Rejection::Invalid(invalid)) = reply else { panic!("{reply:?}") };
        assert_eq!(invalid.field, "kind");
    });
}

#[test]
fn g_05_a_running_job_is_invisible_to_a_second_claim() {
    line(|n| {
        n.enqueue(work());
        assert_eq!((n.claim(9).len(), n.claim(9).len()), (1, 0));
    });
}

#[test]
fn g_07_queues_do_not_see_each_others_jobs() {
    line(|n| {
        let queue = |queue: &str| JobSpec { queue: queue.to_owned(), ..work() };
        let ids = n.enqueue_all(vec![queue("a"), queue("b")]);
        let first = |queue| n.claim_from(queue, 9).iter().map(|run| run.at.job).collect::<Vec<_>>();
        assert_eq!((first("b"), first("b"), first("a")), (vec![ids[1]], vec![], vec![ids[0]]));
    });
}

#[test]
fn g_10_the_named_priorities_run_in_their_order() {
    line(|n| {
        let named = |name: &str| work_with(|s| s.priority = Priority::named(name).unwrap());
        let names = ["default", "lowest", "highest", "low", "high"];
        n.enqueue_all(names.iter().map(|name| named(name)).collect());
        let ran = n.work_off(|_| completed());
        let ran: Vec<&str> = ran.iter().map(|id| names[*id as usize - 1]).collect();
        assert_eq!(ran, ["highest", "high", "default", "low", "lowest"]);
    });
}

#[test]
fn g_13_an_error_text_with_a_newline_is_kept_verbatim() {
    line(|n| {
        let id = n.enqueue(work());
        let text = "first line\n\tsecond \"line\" ä\0";
        n.work_off(|_| failed(text));
        assert_eq!(n.runs(id)[0].error.as_deref(), Some(text));
        assert_eq!(n.job(id).last.unwrap().error.as_deref(), Some(text));
    });
}

#[test]
fn g_15_never_discards_after_the_first_failure() {
    line(|n| {
        let never = RetryPolicy { backoff: Backoff::Never, ..RetryPolicy::default() };
        let id = n.enqueue(work_with(|s| s.retry = Some(never)));
        n.work_off(|_| failed("no"));
        assert_eq!((n.state(id), n.job(id).reason()), (StateName::Discarded, Some(&Reason::NeverRetried)));
    });
}

#[test]
fn g_17_a_snooze_keeps_its_reason_and_counts_no_attempt() {
    line(|n| {
        let id = n.enqueue(work());
        let run = n.claim(1)[0];
        let reason = Some("the shop is closed".to_owned());
        let job = n.finish(run, Outcome::Snoozed { delay: Millis(10_000), reason: reason.clone() });
        assert_eq!((job.attempts, job.snoozes, job.state.name()), (0, 1, StateName::Scheduled));
        assert_eq!(n.runs(id)[0].error, reason);
        assert_eq!(n.job(id).last.unwrap().error, reason);
        n.advance(9_999);
        assert_eq!(n.claim(1), []);
        n.advance(1);
        assert_eq!(n.claim(1).len(), 1);
    });
}

/// A job that enqueues, writes keys and then traps leaves nothing of either; when it succeeds, both, once.
#[test]
fn what_a_trapped_run_staged_never_was() {
    line(|n| {
        let Reply::Named(number) = n.call(Command::Name(Name::of_plugin(TENANT, "shop"))) else { panic!("no number") };
        let space = Namespace { tenant: TENANT, plugin: PluginId(number) };
        let Reply::Reserved { first } = n.call(Command::ReserveIds { n: 2 }) else { panic!("not reserved") };
        let id = n.enqueue(work());
        let trap = Outcome::Trapped { code: "unreachable".to_owned(), message: String::new(), backtrace: None };
        for (attempt, outcome) in [trap, completed()].into_iter().enumerate() {
            let run = n.claim(1)[0];
            let staged = vec![StagedJob { id: JobId(first.0 + attempt as u64), spec: JobSpec::new("mail", "{}") }];
            let kv = Some(KvWrites { plugin: space.plugin, writes: vec![put("paid", "yes")] });
            let log = Some(b"about to fail".to_vec());
            n.call(Command::Finish(Box::new(Finish { staged, kv, log, ..finishing(run, outcome) })));
            n.restart(BootId(2 + attempt as u64), vec![]);
            let paid = n.ask(&Query::Kv(space, "paid".to_owned()));
            let mails = [first, JobId(first.0 + 1)].map(|id| n.find(id).is_some());
            match attempt {
                0 => assert_eq!((paid, mails), (Answer::Kv(None), [false, false])),
                _ => assert_eq!((paid, mails), (Answer::Kv(Some(b"yes".to_vec())), [false, true])),
            }
            assert_eq!(n.ask(&Query::KvCount(TENANT)), Answer::KvCount(attempt as u64));
            assert_ne!(n.ask(&Query::RunLog(run)), Answer::RunLog(None), "what it said is kept");
            n.advance(5_000);
        }
        assert_eq!(n.state(id), StateName::Completed);
    });
}

#[test]
fn g_28_fifteen_jobs_and_two_slots_are_fifteen_runs() {
    line(|n| {
        n.enqueue_all(vec![work(); 15]);
        let mut running = Vec::new();
        let mut runs = 0;
        loop {
            running.extend(n.claim(2 - running.len() as u32));
            assert!(running.len() <= 2);
            let Some(run) = running.pop() else { break };
            n.finish(run, completed());
            runs += 1;
        }
        assert_eq!(runs, 15);
    });
}

/// Five runs, stopped without grace: interrupted, no attempt counted, all run after a restart; or they complete.
#[test]
fn g_29_what_a_stop_interrupts_runs_again_and_counts_no_attempt() {
    for grace in [false, true] {
        line(|n| {
            let ids = n.enqueue_all(vec![work(); 5]);
            for (i, run) in n.claim(5).into_iter().enumerate() {
                match (grace, i) {
                    (true, _) => _ = n.finish(run, completed()),
                    // One was claimed ahead and had not begun.
                    (false, 0) => _ = n.call(Command::HandBack(run)),
                    (false, _) => _ = n.finish(run, Outcome::Interrupted),
                }
            }
            n.restart(BootId(2), vec![]);
            let attempts: Vec<u32> = ids.iter().map(|id| n.job(*id).attempts).collect();
            assert_eq!(attempts, [u32::from(grace); 5]);
            assert_eq!(n.work_off(|_| completed()).len(), if grace { 0 } else { 5 });
            assert!(ids.iter().all(|id| n.state(*id) == StateName::Completed));
        });
    }
}
