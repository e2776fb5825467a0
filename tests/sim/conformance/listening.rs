//! Subscriptions: who listens to an event is enqueued for it, once, whatever crashes in between.

use runner_store::command::{
    Command, Enqueue, Keep, Listener, Name, Part, QueueSettings, Reply, Settings, Subscribe, Subscription,
    TenantSettings, limits,
};
use runner_store::decide::Conduct;
use runner_store::job::{
    BootId, Edit, EventName, Invalid, JobId, JobSpec, Millis, Outcome, Priority, Rejection, TenantId,
    limits as job_limits,
};
use runner_store::listening::OUTPUT_BYTES_MAX;

use crate::world::*;

fn on(event: EventName, of: &str, kind: &str) -> Subscription {
    let to = Listener { kind: kind.to_owned(), queue: "default".to_owned(), priority: Priority(0), key: None };
    Subscription { event, of: vec![of.to_owned()], to, by: "alerts".to_owned() }
}

fn subscribing(tenant: TenantId, subscriptions: Vec<Subscription>) -> Command {
    Command::Subscribe(Box::new(Subscribe { tenant, subscriptions }))
}

#[track_caller]
fn subscribe(w: &mut World, subscriptions: Vec<Subscription>) {
    assert_eq!(w.call(subscribing(TENANT, subscriptions)), Reply::Done);
}

/// What the jobs of a kind were told, in order.
#[track_caller]
fn told(w: &mut World, kind: &str) -> Vec<String> {
    let dump = w.check_now();
    let number = dump.names.iter().find(|(name, _)| name.name == kind).map(|(_, number)| *number);
    let jobs = dump.jobs.iter().filter(|job| Some(job.kind.0) == number);
    let args = |id: JobId| String::from_utf8(w.payload(id, Part::Args).unwrap_or_default()).unwrap();
    jobs.map(|job| args(job.id)).collect()
}

/// Everything that can be listened to, by kind `work`.
fn every_event() -> Vec<Subscription> {
    let all = EventName::ALL.into_iter().filter(|event| event.can_be_listened_to());
    all.map(|event| on(event, "work", "alert")).collect()
}

/// The events that those who listened were told of since the last time.
#[track_caller]
fn heard(w: &mut World, seen: &mut usize) -> Vec<String> {
    let all = told(w, "alert");
    let new = all[*seen..].iter();
    let word = |args: &String| args.split('"').nth(3).unwrap().to_owned();
    let words = new.map(word).collect();
    *seen = all.len();
    words
}

#[test]
fn every_event_of_the_list_is_heard_as_the_log_has_it() {
    case(|w| {
        subscribe(w, every_event());
        let mut seen = 0;
        let id = w.enqueue(work_with(|s| (s.hold, s.delay, s.max_attempts) = (true, Some(Millis(1_000)), Some(4))));
        assert_eq!(heard(w, &mut seen), ["enqueued"]);
        w.call(Command::Release(at(id)));
        assert_eq!(heard(w, &mut seen), ["released"]);
        w.call(edit(id, Edit { priority: Some(Priority(1)), ..Edit::default() }));
        assert_eq!(heard(w, &mut seen), ["edited"]);
        w.advance(1_000);
        w.start(id);
        assert_eq!(heard(w, &mut seen), ["available", "started"]);
        w.finish(id, Outcome::Snoozed { delay: Millis(500), reason: Some("later".to_owned()) });
        assert_eq!(heard(w, &mut seen), ["snoozed"]);
        w.advance(500);
        w.run_once(id, failed("no"));
        assert_eq!(heard(w, &mut seen), ["available", "started", "retrying"]);
        w.advance(10_000);
        let run = w.start(id);
        w.call(Command::HandBack(run));
        assert_eq!(heard(w, &mut seen), ["available", "started", "interrupted"]);
        let run = w.start(id);
        w.call(end_boots(BootId(9), vec![run]));
        assert_eq!(heard(w, &mut seen), ["started", "crashed"]);
        w.advance(100_000);
        w.run_once(id, completed());
        assert_eq!(heard(w, &mut seen), ["available", "started", "completed"]);
        w.call(retry(id));
        w.call(cancel(id));
        assert_eq!(heard(w, &mut seen), ["retried", "cancelled"]);
        let waits = w.enqueue(work_with(|s| s.max_attempts = Some(1)));
        let anyway = w.enqueue(work_anyway(&[waits]));
        let both = w.enqueue(work_with(|s| (s.depends_on, s.hold) = (after(&[waits]), true)));
        heard(w, &mut seen);
        w.call(Command::Release(at(both)));
        w.run_once(waits, failed("bad"));
        assert_eq!(heard(w, &mut seen), ["released", "started", "discarded", "available", "cancelled"]);
        w.call(cancel(anyway));
        w.call(delete(anyway));
        assert_eq!(heard(w, &mut seen), ["cancelled", "deleted"]);
    });
}

/// Ends a job so and answers what the one was told who listens to that.
#[track_caller]
fn check_told(event: EventName, end: impl FnOnce(&mut World, JobId), expected: &str) {
    case(|w| {
        subscribe(w, vec![on(event, "work", "alert")]);
        let id = w.enqueue(work_with(|s| s.max_attempts = Some(1)));
        end(w, id);
        assert_eq!(told(w, "alert"), [expected]);
    });
}

#[test]
fn listeners_are_told_how_it_was() {
    let output = |bytes: &[u8]| Outcome::Completed { output: bytes.to_vec() };
    check_told(
        EventName::Completed,
        |w, id| _ = w.run_once(id, output(br#"{"n": [1, 2.50]}"#)),
        r#"{"event":"completed","job":"1","kind":"work","state":"completed","error":null,"output":{"n": [1, 2.50]}}"#,
    );
    check_told(
        EventName::Completed,
        |w, id| _ = w.run_once(id, output(b"")),
        r#"{"event":"completed","job":"1","kind":"work","state":"completed","error":null,"output":null}"#,
    );
    check_told(
        EventName::Completed,
        |w, id| _ = w.run_once(id, output(b"no JSON")),
        r#"{"event":"completed","job":"1","kind":"work","state":"completed","error":null,"output":null,"output_bytes":7}"#,
    );
    let long = format!("\"{}\"", "x".repeat(OUTPUT_BYTES_MAX - 1));
    check_told(
        EventName::Completed,
        |w, id| _ = w.run_once(id, output(long.as_bytes())),
        r#"{"event":"completed","job":"1","kind":"work","state":"completed","error":null,"output":null,"output_bytes":262145}"#,
    );
    check_told(
        EventName::Discarded,
        |w, id| _ = w.run_once(id, failed("a \"bad\" day\n")),
        r#"{"event":"discarded","job":"1","kind":"work","state":"discarded","error":"a \"bad\" day\n","output":null}"#,
    );
    check_told(
        EventName::Discarded,
        |w, id| _ = w.run_once(id, Outcome::Discarded { reason: "no such file".to_owned() }),
        r#"{"event":"discarded","job":"1","kind":"work","state":"discarded","error":"discarded by its handler: no such file","output":null}"#,
    );
    check_told(
        EventName::Cancelled,
        |w, id| _ = w.call(cancel(id)),
        r#"{"event":"cancelled","job":"1","kind":"work","state":"cancelled","error":"cancelled on request","output":null}"#,
    );
    check_told(
        EventName::Deleted,
        |w, id| _ = w.call(delete(id)),
        r#"{"event":"deleted","job":"1","kind":"work","state":null,"error":null,"output":null}"#,
    );
}

/// A tenant that keeps nothing loses a job with its finish: what it returned is told all the same.
#[test]
fn a_job_that_is_gone_with_its_finish_is_heard_of() {
    case(|w| {
        let keep = Keep { completed: Millis(0), ..Keep::default() };
        w.call(Command::Set(Box::new(Settings::Tenant(TENANT, TenantSettings { keep, ..TenantSettings::default() }))));
        subscribe(w, vec![on(EventName::Completed, "*", "alert"), on(EventName::Deleted, "w*", "alert")]);
        let id = w.enqueue(work());
        w.run_once(id, Outcome::Completed { output: b"7".to_vec() });
        assert_eq!(w.find(id), None);
        let all = told(w, "alert");
        assert_eq!(all.len(), 2);
        assert!(all[0].starts_with(r#"{"event":"completed""#) && all[0].ends_with(r#""output":7}"#), "{all:?}");
        assert!(all[1].starts_with(r#"{"event":"deleted""#), "{all:?}");
    });
}

#[test]
fn each_subscription_has_a_job_of_its_own_as_it_says() {
    case(|w| {
        let mut urgent = on(EventName::Enqueued, "image.*", "alert");
        urgent.of.push("mail".to_owned());
        (urgent.to.queue, urgent.to.priority) = ("calls".to_owned(), Priority(-7));
        subscribe(w, vec![on(EventName::Enqueued, "image.*", "alert"), urgent, on(EventName::Started, "*", "alert")]);
        for kind in ["image.resize", "image", "mail", "mail.send", "images"] {
            w.call(enqueue(vec![JobSpec::new(kind, "1")]));
        }
        let jobs = w.check_now().jobs;
        let listens = jobs.iter().filter(|job| job.depth == 1);
        let as_it_is = listens.map(|job| (job.queue.0 == jobs[0].queue.0, job.priority.0));
        assert_eq!(
            as_it_is.collect::<Vec<_>>(),
            [(true, 0), (false, -7), (false, -7)],
            "image.resize twice, mail once"
        );
    });
}

#[test]
fn only_events_of_the_same_tenant_are_heard() {
    case(|w| {
        let Reply::Named(number) = w.call(Command::Name(Name::of_tenant("acme"))) else { panic!("no number") };
        let acme = TenantId(number);
        subscribe(w, vec![on(EventName::Enqueued, "work", "alert")]);
        w.call(Command::Enqueue(Enqueue::new(acme, vec![work()])));
        assert_eq!(told(w, "alert").len(), 0);
        w.call(subscribing(acme, vec![on(EventName::Enqueued, "work", "alert")]));
        w.call(Command::Enqueue(Enqueue::new(acme, vec![work()])));
        let jobs = w.check_now().jobs;
        assert_eq!(
            jobs.iter().map(|job| (job.tenant, job.depth)).collect::<Vec<_>>(),
            [(acme, 0), (acme, 0), (acme, 1)]
        );
    });
}

/// From the answer on, also after the process died; what was heard before goes to those who listened then.
#[test]
fn subscriptions_are_kept_and_replaced_as_a_whole() {
    case(|w| {
        w.enqueue(work());
        subscribe(w, vec![on(EventName::Enqueued, "*k", "alert")]);
        w.reopen();
        w.batch(&[enqueue(vec![work()])]);
        assert_eq!(w.stored().unheard, 1);
        w.batch(&[subscribing(TENANT, vec![on(EventName::Cancelled, "work", "other")])]);
        w.reopen();
        w.listen();
        assert_eq!((told(w, "alert").len(), told(w, "other").len()), (1, 0), "whoever listened then");
        let id = w.enqueue(work());
        w.call(cancel(id));
        w.listen();
        assert_eq!((told(w, "alert").len(), told(w, "other").len()), (1, 1));
        let twice = [subscribing(TENANT, Vec::new()), subscribing(TENANT, vec![on(EventName::Enqueued, "a", "b")])];
        w.batch(&twice);
        assert_eq!(w.check_now().subscriptions.len(), 1, "the last of a batch holds");
        w.batch(&[subscribing(TENANT, Vec::new())]);
        let id = w.enqueue(work());
        w.call(cancel(id));
        assert_eq!((w.stored().unheard, w.check_now().subscriptions.len()), (0, 0));
    });
}

/// Two and a half steps of jobs, then one event that more listen to than a step enqueues; the process dies in between.
#[test]
fn listeners_are_enqueued_in_bounded_steps_once_each() {
    let step = limits::LISTENERS_MAX as usize;
    case(|w| {
        subscribe(w, vec![on(EventName::Enqueued, "work", "alert")]);
        w.batch(&[enqueue(vec![work(); step * 5 / 2])]);
        w.batch(&[Command::Listen, Command::Listen]);
        w.reopen_in_the_middle();
        assert_eq!(told(w, "alert").len(), step, "two of one batch are one step");
        assert_eq!(w.listen(), [step as u32, step as u32 / 2]);
        let mut all = told(w, "alert");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), step * 5 / 2);
    });
    case(|w| {
        subscribe(w, (0..200).map(|_| on(EventName::Enqueued, "work", "alert")).collect());
        w.batch(&[enqueue(vec![work(); 4])]);
        w.batch(&[Command::Listen]);
        w.reopen();
        assert_eq!((told(w, "alert").len(), w.stored().unheard), (step, 2), "the third is told in part");
        assert_eq!(w.listen(), [800 - step as u32]);
        for job in 1..=4 {
            let of = format!(r#""job":"{job}""#);
            assert_eq!(told(w, "alert").iter().filter(|args| args.contains(&of)).count(), 200);
        }
    });
}

/// Outputs of a quarter of a mebibyte: a step is short in bytes as well.
#[test]
fn a_step_is_bounded_in_bytes() {
    case(|w| {
        subscribe(w, vec![on(EventName::Completed, "work", "alert")]);
        let ids = w.enqueue_all(vec![work(); 20]);
        let output = format!("\"{}\"", "x".repeat(OUTPUT_BYTES_MAX - 2)).into_bytes();
        w.claim(20);
        let end = |id| finish(w.run(id), Outcome::Completed { output: output.clone() });
        let ends: Vec<Command> = ids.into_iter().map(end).collect();
        w.batch(&ends);
        let steps = w.listen();
        assert!(steps.len() == 2 && steps.iter().sum::<u32>() == 20, "{steps:?}");
    });
}

#[test]
fn who_listens_to_itself_ends_by_its_depth() {
    case(|w| {
        subscribe(w, vec![on(EventName::Enqueued, "*", "alert")]);
        let id = w.enqueue(work());
        assert_eq!(told(w, "alert").len(), job_limits::DEPTH_MAX as usize);
        let depths: Vec<u32> = w.check_now().jobs.iter().map(|job| job.depth).collect();
        assert_eq!(depths, (0..=job_limits::DEPTH_MAX).collect::<Vec<_>>());
        assert_eq!(w.job(id).depth, 0);
        assert_eq!(w.too_deep(), 1, "the last one is counted");
    });
}

/// The story: eight kinds of a tenant listened to each enqueue of each other. One job became 55,000 within a minute, far past
/// what its tenant may have.
#[test]
fn who_listens_is_enqueued_only_where_there_is_room() {
    case(|w| {
        let settings = TenantSettings { capacity: 30, ..TenantSettings::default() };
        w.call(Command::Set(Box::new(Settings::Tenant(TENANT, settings))));
        subscribe(w, vec![on(EventName::Enqueued, "*", "alert"), on(EventName::Enqueued, "*", "more")]);
        w.enqueue(work());
        w.listen();
        assert_eq!(w.check_now().jobs.len(), 30);
        assert_eq!(w.stored().unheard, 0, "the others are not tried again");
    });
}

/// A queue that is full, that drains, or a tenant that may keep no more bytes: each step tells how many it refused.
#[test]
fn a_step_says_how_many_it_refused() {
    let full = |queue: QueueSettings, tenant: TenantSettings| {
        case(|w| {
            w.call(Command::Set(Box::new(Settings::Queue(TENANT, "alerts".to_owned(), queue))));
            let mut one = on(EventName::Cancelled, "work", "alert");
            one.to.queue = "alerts".to_owned();
            subscribe(w, vec![one]);
            let ids = w.enqueue_all(vec![work(); 3]);
            w.call(Command::Set(Box::new(Settings::Tenant(TENANT, tenant))));
            w.batch(&ids.into_iter().map(cancel).collect::<Vec<_>>());
            let room = u32::from(queue.capacity.is_some());
            let expected = Reply::Listened { jobs: room, refused: 3 - room, more: false };
            assert_eq!(w.batch(&[Command::Listen]), [expected]);
            assert_eq!((told(w, "alert").len(), w.stored().unheard), (room as usize, 0));
        });
    };
    full(QueueSettings { capacity: Some(1), ..QueueSettings::default() }, TenantSettings::default());
    full(QueueSettings { drain: true, ..QueueSettings::default() }, TenantSettings::default());
    full(QueueSettings::default(), TenantSettings { stored_bytes: 0, ..TenantSettings::default() });
}

/// Below the reserve of the disk no job is taken, also none that listens; but none is forgotten.
#[test]
fn who_listens_waits_while_the_disk_is_nearly_full() {
    case(|w| {
        subscribe(w, vec![on(EventName::Completed, "work", "alert")]);
        let id = w.enqueue(work());
        let conduct = w.conducts();
        w.claim(1);
        w.conduct(Conduct { accept: false, ..conduct });
        w.batch(&[finish(w.run(id), Outcome::Completed { output: b"7".to_vec() })]);
        let waits = Reply::Listened { jobs: 0, refused: 0, more: true };
        assert_eq!(w.batch(&[Command::Listen]), [waits]);
        assert_eq!((told(w, "alert").len(), w.stored().unheard), (0, 1));
        w.conduct(conduct);
        assert_eq!(w.listen(), [1]);
        assert_eq!(told(w, "alert").len(), 1);
    });
}

#[test]
fn what_cannot_be_listened_to_is_refused_with_its_place() {
    let good = || on(EventName::Completed, "work", "alert");
    let with = |change: fn(&mut Subscription)| {
        let mut one = good();
        change(&mut one);
        vec![good(), one]
    };
    let bad = [
        (with(|s| s.event = EventName::CancelRequested), "on[1].event"),
        (with(|s| s.of.clear()), "on[1].of"),
        (with(|s| s.of = vec!["a".to_owned(); 101]), "on[1].of"),
        (with(|s| s.of = vec!["a..*".to_owned()]), "on[1].of"),
        (with(|s| s.of = vec![String::new()]), "on[1].of"),
        (with(|s| s.to.kind = "no name".to_owned()), "on[1].kind"),
        (with(|s| s.to.queue = String::new()), "on[1].queue"),
        (vec![good(); 257], "on"),
    ];
    case(|w| {
        for (subscriptions, field) in bad {
            let reply = w.call(subscribing(TENANT, subscriptions));
            let Reply::Rejected(Rejection::Invalid(Invalid { field: found, .. })) = &reply else { panic!("{reply:?}") };
            assert_eq!(found, field);
        }
        subscribe(w, vec![good(); 256]);
    });
}

/// A job whose listener has yet to be told can be retried, deleted and swept: what there is to tell is noted.
#[test]
fn nothing_waits_for_those_who_listen() {
    case(|w| {
        subscribe(w, vec![on(EventName::Completed, "work", "alert")]);
        let id = w.enqueue(work());
        let run = w.start(id);
        let reply =
            w.batch(&[finish(run, Outcome::Completed { output: b"1".to_vec() }), retry(id), cancel(id), delete(id)]);
        assert_eq!(reply.last(), Some(&Reply::Deleted));
        w.listen();
        assert!(told(w, "alert")[0].ends_with(r#""state":"completed","error":null,"output":1}"#));
    });
}
